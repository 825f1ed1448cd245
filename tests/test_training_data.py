"""Readers of labelled frames, and the tables that training takes from them."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

from scalebridge.engine.errors import InputError
from scalebridge.engine.learn.trainers.tables import TrainingSet, assemble_forces
from scalebridge.engine.md.data import (
    LabelledFrame,
    group_indices,
    read_frames,
    species_of,
    split_frames,
)


def frame_of(atoms: Atoms, origin: str = "made.xyz, frame 0") -> LabelledFrame:
    return LabelledFrame(
        tuple(atoms.get_chemical_symbols()), atoms.positions, np.array(atoms.cell),
        np.array(atoms.pbc), 1.0, np.zeros((len(atoms), 3)), origin=origin,
    )  # fmt: skip


def labelled(seed: int = 0) -> Atoms:
    atoms = bulk("Ar", cubic=True, a=5.3)
    atoms.rattle(0.2, seed=seed)
    atoms.numbers[0] = 10
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.01, rc=6.0)
    results = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_extended_xyz_round_trip(tmp_path):
    images = [labelled(k) for k in range(3)]
    ase.io.write(tmp_path / "set.xyz", images)
    frames = read_frames(tmp_path / "set.xyz")
    assert [f.energy for f in frames] == pytest.approx(
        [a.get_potential_energy() for a in images]
    )
    assert np.allclose(frames[1].forces, images[1].get_forces(), atol=1e-7)
    pushing = images[1].get_stress(voigt=False).trace() < 0
    assert (frames[1].virial.trace() > 0) == pushing
    assert species_of(frames) == ("Ne", "Ar")


def test_deepmd_folder(tmp_path):
    images = [labelled(k) for k in range(2)]
    system = tmp_path / "water" / "set.000"
    system.mkdir(parents=True)
    (system.parent / "type.raw").write_text("1\n0\n0\n0\n")
    (system.parent / "type_map.raw").write_text("Ar Ne\n")
    for name, rows in {
        "coord": [a.positions.ravel() for a in images],
        "box": [a.cell[:].ravel() for a in images],
        "energy": [a.get_potential_energy() for a in images],
        "force": [a.get_forces().ravel() for a in images],
    }.items():
        np.save(system / f"{name}.npy", np.array(rows))
    for path in (system.parent, tmp_path):
        frames = read_frames(path)
        assert len(frames) == 2
        assert frames[0].symbols == ("Ne", "Ar", "Ar", "Ar")
        assert np.allclose(frames[1].forces, images[1].get_forces())
    (system.parent / "type_map.raw").unlink()
    with pytest.raises(InputError, match=r"type_map\.raw"):
        read_frames(tmp_path)


def mlearn_entry(element: str, group: str) -> dict:
    return {
        "structure": {
            "lattice": {"matrix": (np.eye(3) * 4).tolist()},
            "sites": [{"xyz": [0, 0, 0], "species": [{"element": element, "occu": 1}]}],
        },
        "group": group,
        "outputs": {
            "energy": -5.0,
            "forces": [[0.0, 0.0, 0.0]],
            "virial_stress": [1, 2, 3, 4, 5, 6],
        },
    }


def test_bad_files_are_refused_with_frame_and_atom(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_frames(tmp_path / "absent.xyz")
    broken = mlearn_entry("Si", "")
    broken["outputs"]["forces"] = [[0.0, float("nan"), 0.0]]
    entries = [mlearn_entry("Si", ""), broken]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    with pytest.raises(
        InputError, match=r"a\.json, frame 1, atom 0: forces are not finite"
    ):
        read_frames(tmp_path / "a.json")
    broken["outputs"]["forces"] = [[0.0, 0.0, 0.0]] * 2
    (tmp_path / "a.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"frame 1: forces have shape \(2, 3\)"):
        read_frames(tmp_path / "a.json")
    del broken["outputs"]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match="frame 1: not an mlearn entry"):
        read_frames(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        read_frames(tmp_path / "b.json")
    ase.io.write(tmp_path / "bare.xyz", bulk("Si"))
    with pytest.raises(InputError, match="frame 0: has no free_energy or energy"):
        read_frames(tmp_path / "bare.xyz")


def awkward_cells() -> list[Atoms]:
    small = bulk("Mo")
    small.rattle(0.05, seed=1)
    skew = bulk("Si", cubic=True) * (1, 2, 1)
    skew.set_cell(skew.cell[:] @ (np.eye(3) + 0.3 * np.tri(3, k=-1)), scale_atoms=True)
    skew.rattle(0.1, seed=2)
    cluster = Atoms("SiMoSi", [[0, 0, 0], [2.2, 0, 0], [0, 2.4, 0.5]])
    slab = bulk("Si", cubic=True)
    slab.pbc = (True, True, False)
    return [small, skew, cluster, slab]


def test_slots_equal_the_neighbours_that_ase_finds():
    cells = awkward_cells()
    data = TrainingSet.of([frame_of(a) for a in cells], ("Si", "Mo"), 5.0)
    for atoms, geometry in zip(cells, data.geometry, strict=True):
        i, d = neighbor_list("iD", atoms, 5.0)
        mask = geometry.mask
        assert int(mask.sum()) == len(i)
        for atom in range(len(atoms)):
            ours = geometry.displacements[atom][mask[atom]].numpy()
            theirs = d[i == atom]
            ours = ours[np.lexsort(ours.round(9).T)]
            theirs = theirs[np.lexsort(theirs.round(9).T)]
            assert np.allclose(ours, theirs, atol=1e-10)
        flat = geometry.displacements.reshape(-1, 3)
        assert torch.allclose(flat[geometry.reverse.reshape(-1)], -flat, atol=1e-12)
        blocks = mask.split(list(data.blocks), 1)
        kinds = geometry.species[geometry.neighbour].split(list(data.blocks), 1)
        for species, (inside, kind) in enumerate(zip(blocks, kinds, strict=True)):
            assert (kind[inside] == species).all()


def test_forces_are_assembled_from_both_ends_of_a_pair():
    data = TrainingSet.of([frame_of(a) for a in awkward_cells()], ("Si", "Mo"), 4.0)
    batch = data.batch([1, 0, 3])
    generator = torch.Generator().manual_seed(0)
    shape = (2, *batch.mask.shape, 3)
    g = torch.randn(shape, generator=generator, dtype=torch.float64) * batch.mask[..., None]
    expected = g.sum(2).index_add(1, batch.neighbour.reshape(-1), -g.flatten(1, 2))
    assert torch.allclose(assemble_forces(g, batch), expected, atol=1e-12)

    def assembled(x):
        return assemble_forces(x * batch.mask[..., None], batch)

    w = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    x = g.clone().requires_grad_()
    (ours,) = torch.autograd.grad((assembled(x) * w).sum(), x)
    y = g.clone().requires_grad_()
    masked = y * batch.mask[..., None]
    scattered = masked.sum(2).index_add(
        1, batch.neighbour.reshape(-1), -masked.flatten(1, 2)
    )
    (theirs,) = torch.autograd.grad((scattered * w).sum(), y)
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_coincident_atoms_and_unknown_elements_are_named():
    twice = Atoms("SiSiSi", [[0, 0, 0], [2.0, 0, 0], [2.0, 0, 1e-5]])
    good = Atoms("SiSi", [[0, 0, 0], [2.0, 0, 0]])
    with pytest.raises(InputError, match="frame 1: atoms 1 and 2 are on one spot"):
        TrainingSet.of([frame_of(good), frame_of(twice, "a.xyz, frame 1")], ("Si",), 5.0)
    with pytest.raises(InputError, match="frame 0, atom 0: Si is not among Mo"):
        TrainingSet.of([frame_of(good)], ("Mo",), 5.0)


def test_split_holds_out_whole_frames_and_depends_on_the_seed_alone():
    train, held = split_frames(50, 0.1, seed=3)
    assert len(held) == 5
    assert sorted(train + held) == list(range(50))
    assert split_frames(50, 0.1, seed=3) == (train, held)
    assert split_frames(50, 0.1, seed=4)[1] != held
    assert split_frames(50, 0.0, seed=3)[1] == []


def test_shared_sets_if_they_are_here():
    path = Path(__file__).resolve().parents[2] / "shared/data/mlearn/Si/test.json"
    if not path.exists():
        pytest.skip("the mlearn set is not here")
    frames = read_frames(path)
    assert len(frames) == 25
    assert {k: len(v) for k, v in group_indices(frames).items()}["AIMD-NVT"] == 10


GOALS = {
    "silicon": ("mlearn/Si/test.json", 0.12, 4.0e-3),
    "molybdenum": ("mlearn/Mo/test.json", 0.22, 9.0e-3),
    "water": ("deepmd_water/data/data_3", 0.04, 0.5e-3),
}


@pytest.mark.parametrize("name", GOALS)
def test_shipped_weights_keep_their_promise_on_the_test_set(name):
    from scalebridge.engine.learn.trainers.potential import evaluate
    from scalebridge.engine.md.learned import load_module

    root = Path(__file__).resolve().parents[1]
    model = load_module(root / "scenarios/models" / name)
    file, force, energy = GOALS[name]
    path = root.parent / "shared/data" / file
    if not path.exists():
        pytest.skip("the labelled set is not here")
    frames = read_frames(path)
    data = TrainingSet.of(frames, tuple(model.species), model.cutoff)
    data.prepare(model)
    errors = evaluate(model.float(), data, range(len(frames)))
    assert errors.force_rmse < force
    assert errors.energy_rmse < energy
    assert errors.interval()["force"][0] < errors.force_rmse < errors.interval()["force"][1]
