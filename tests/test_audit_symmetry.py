"""The scenario that compares potentials with and without symmetry, in its parts."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from scalebridge.engine import runtime, scenario
from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.structure import from_atoms
from scalebridge.models.potentials.whole_box import WholeBox
from scalebridge.studies import symmetry


@pytest.fixture(autouse=True)
def one_thread():
    runtime.start("cpu")
    torch.set_num_threads(1)


def test_labels_are_stillinger_weber():
    frames = symmetry.label_frames([300.0, 900.0], 2, 5, seed=3)
    assert [f.group for f in frames] == ["300 K", "900 K"] * 2
    truth = StillingerWeber()
    atoms = symmetry.crystal()
    atoms.positions[:] = frames[3].positions
    state = from_atoms(atoms, truth.species)
    found = truth(state, build_neighbours(state, truth.cutoff, 0.0))
    assert float(found.energy[0]) == pytest.approx(frames[3].energy, abs=1e-9)
    assert np.allclose(found.forces.numpy(), frames[3].forces, atol=1e-9)


def test_the_whole_box_knows_its_period_and_nothing_else():
    atoms = symmetry.crystal()
    lengths = tuple(float(x) for x in atoms.cell.lengths())
    module = WholeBox(("Si",), len(atoms), lengths, (16,)).build(1).double()
    rng = torch.Generator().manual_seed(0)
    x = torch.tensor(atoms.positions)[None]
    x = x + 0.1 * torch.randn(x.shape, generator=rng, dtype=torch.float64)
    energy = module(x)
    moved = x.clone()
    moved[0, 3, 0] += lengths[0]
    assert torch.allclose(module(moved), energy)
    assert float((module(x + 0.3) - energy).abs().detach()) > 1e-4
    swapped = x[:, torch.randperm(len(atoms), generator=rng)]
    assert float((module(swapped) - energy).abs().detach()) > 1e-4


def test_swaps_are_counted():
    """Two atoms that trade their distance to a third one."""
    atoms = symmetry.crystal()
    atoms.positions[1] += [0.02, 0.02, 0.02]
    before = symmetry._two_nearest(from_atoms(atoms, ("Si",)))
    atoms.positions[1] -= [0.04, 0.04, 0.04]
    after = symmetry._two_nearest(from_atoms(atoms, ("Si",)))
    assert bool((before != after).any())
    assert torch.equal(after, symmetry._two_nearest(from_atoms(atoms, ("Si",))))


def test_bad_comparisons_are_refused():
    with pytest.raises(InputError, match="must grow"):
        assemble(*scenario.load("symmetry", ["sizes=[8, 4]"]))
    with pytest.raises(InputError, match="same name"):
        assemble(*scenario.load("symmetry", ['models.1.name="no symmetry"']))


@pytest.mark.slow
def test_the_scenario_runs_shortened(tmp_path):
    short = ["sizes=[2, 4]", "test=4", "steps=4", "conservation.picoseconds=0.01",
             "conservation.replicas=1", "conservation.time_steps=[0.5]",
             "temperatures=[300]"]  # fmt: skip
    settings = [part for s in short for part in ("--set", s)]
    out = tmp_path / "run"
    result = CliRunner().invoke(
        main, ["run", "symmetry", *settings, "--out", str(out), "--quiet", "--no-strict"]
    )
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "summary.json").read_text())["figures"]
    assert figures["rotation_error_smooth_deep_potential"]["value"] < 1e-10
    assert figures["rotation_error_no_symmetry"]["value"] > 1e-3
    assert len(list((out / "models").glob("*.safetensors"))) == 10
    assert "Symmetry ablation" in (out / "report.html").read_text()
