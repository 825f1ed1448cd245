"""From a scenario file to results: builds, refusals, and resume, all through the job."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.io import write
from ase.optimize import BFGS

from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.interop.ase import AsePotential, PotentialCalculator
from scalebridge.engine.jobs import assemble
from scalebridge.engine.md.classical import LennardJones, StillingerWeber
from scalebridge.engine.md.integrators import Verlet
from scalebridge.engine.md.observables import Average, Blocking, Drift, RadialDistribution
from scalebridge.engine.md.structure import from_atoms, to_atoms
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse

ARGON = {
    "version": 1,
    "kind": "md",
    "structure": {"kind": "fcc_density", "element": "Ar", "density": 0.0207, "cells": 3},
    "potential": {
        "kind": "lennard_jones", "epsilon": [0.0103], "sigma": [3.4], "cutoff": 7.65,
    },
    "ensemble": {"kind": "nve"},
    "run": {"steps": 20, "timestep": 5.0, "temperature": 100.0, "report_every": 10},
}  # fmt: skip


def changed(**changes):
    data = json.loads(json.dumps(ARGON))
    for path, value in changes.items():
        node, keys = data, path.split("__")
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
    return data


def run(data, folder, base):
    job = assemble(parse(data), base)
    with RunFolder.create(folder, "", {}) as opened:
        return job.run(opened, Reporter(quiet=True)), opened


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"run__timestep": 40.0}, "run.timestep: 40 fs is too long for the lightest"),
        ({"structure__element": "Xe"}, "does not know Xe; it knows Ar"),
        ({"potential__epsilon": [0.01, 0.02]}, "one entry for each species"),
        ({"potential__cutoff": 1.0}, "repulsive core"),
        ({"potential__cuttoff": 1.0}, "did you mean"),
        ({"units": "lj"}, "reduced units need one"),
        ({"ensemble": {"kind": "nose"}}, "nose"),
        ({"ensemble": {"kind": "bussi", "relaxation": 100}}, "temperature or ramp"),
        (
            {"ensemble": {"kind": "bussi", "relaxation": 9, "ramp": [[5, 1], [5, 2]]}},
            "times must increase",
        ),
        ({"run__temperature": [1.0, 2.0]}, "2 values for 1 replicas"),
        ({"run__temperature": -5.0}, "temperature: input should be greater than or equal"),
        ({"output": {"rdf": [{"start": 9, "stop": 5}]}}, "stop = 5 is before start"),
        ({"structure": {"kind": "file", "path": "none.xyz"}}, "no such file"),
        (
            {"structure": {"kind": "crystal", "element": "Ar", "lattice": "fcc",
                           "lattice_constant": 0.001}},
            "far too small",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(changes, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence) as refused:
        assemble(parse(changed(**changes)), tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"average_from": 21}, "output.average_from: step 21 is after the end, at 20"),
        ({"rdf": [{"start": 100}]}, "output.rdf all: left out: begins at step 100"),
        ({"rdf": [{"stop": 100}]}, "output.rdf all: ends with the run, at step 20"),
        ({"displacement": {}}, "output.displacement: left out: its first window ends"),
    ],
)
def test_what_a_short_run_cuts_off_is_said(output, said, tmp_path):
    notes = assemble(parse(changed(output=output)), tmp_path).notes
    assert any(note.startswith(said) for note in notes), notes


def test_a_cell_thinner_than_the_cutoff_is_said(tmp_path):
    thin = {"kind": "fcc_density", "density": 0.02, "cells": 1}
    notes = assemble(parse(changed(structure=thin)), tmp_path).notes
    assert any("act on their own images" in note for note in notes)


def test_bad_structure_files_name_frame_and_atom(tmp_path):
    def attempt(name, **more):
        section = {"kind": "file", "path": name, **more}
        assemble(parse(changed(structure=section)), tmp_path)

    (tmp_path / "torn.xyz").write_text("3\n\nAr 0 0 0\nAr 0 0")
    with pytest.raises(InputError, match=r"torn.xyz: ends before the 3 atoms of line 1"):
        attempt("torn.xyz")
    twins = Atoms("Ar3", [[0, 0, 0], [5, 0, 0], [5, 0, 1e-3]], cell=np.eye(3) * 9, pbc=True)
    write(tmp_path / "twins.xyz", twins, format="extxyz")
    with pytest.raises(InputError, match="atoms 1 and 2 stand on one spot"):
        attempt("twins.xyz")
    with pytest.raises(InputError, match="there is no frame 4"):
        attempt("twins.xyz", frame=4)
    lost = Atoms("Ar2", [[0, 0, 0], [np.nan, 0, 0]], cell=np.eye(3) * 9, pbc=True)
    write(tmp_path / "lost.xyz", lost, format="extxyz")
    with pytest.raises(InputError, match=r"atom 1 is at .*not finite"):
        attempt("lost.xyz")
    flat = Atoms("Ar", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True)
    write(tmp_path / "flat.xyz", flat, format="extxyz")
    with pytest.raises(InputError, match="needs a volume"):
        attempt("flat.xyz")


def test_a_run_writes_trajectory_thermodynamics_and_distributions(tmp_path):
    (tmp_path / "gr.csv").write_text("# nothing is like that\nr,ArAr\n0,2\n10,2\n")
    data = changed(
        output={
            "trajectory_every": 5,
            "rdf": [{"start": 0, "every": 10, "r_max": 9.0, "reference": "gr.csv"}],
        },
        replicas=2,
    )
    outcome, folder = run(data, tmp_path / "run", tmp_path)
    failed = {check.name for check in outcome.checks if not check.passed}
    assert failed == {"reference_rdf_all", "departure_rdf_all"}
    assert "3 samples; 20 are needed" in outcome.headline
    assert abs(outcome.figures["conserved_drift"].value) < 1e-4
    store = folder.store
    assert store["trajectory/positions"].shape == (5, 216, 3)
    assert store["thermo/temperature"].shape == (3, 2)
    assert store["rdf/all"].shape == store["rdf/r"].shape
    assert np.all(store["rdf/all_reference"][:] == 2.0)
    assert outcome.figures["rdf_all_difference"].value > 0.3
    # where there are no atoms it is 0 for 2
    assert outcome.figures["rdf_all_departure"].value > 0.99
    assert store["trajectory"].attrs["symbols"] == ["Ar"]
    for text in ("", "r,ArAr\n0,one\n", "r,ArAr\n2,1\n1,1\n"):
        (tmp_path / "gr.csv").write_text(text)
        with pytest.raises(InputError, match=r"gr\.csv: "):
            assemble(parse(data), tmp_path)
    assert store["thermo/temperature"].attrs["unit"] == "K"


@pytest.mark.parametrize("kind", ["langevin", "nose_hoover", "bussi"])
def test_thermostats_from_a_scenario(kind, tmp_path):
    ensemble = {"kind": kind, "ramp": [[0.0, 80.0], [100.0, 120.0]], "relaxation": 50.0}
    outcome, _ = run(changed(ensemble=ensemble), tmp_path / "run", tmp_path)
    assert 50 < outcome.figures["temperature"].value < 150


def test_a_crystal_free_to_change_its_volume_has_a_lattice_constant(tmp_path):
    crystal = {
        "kind": "crystal", "element": "Ar", "lattice": "fcc", "lattice_constant": 5.6,
        "repeat": [3, 3, 3],
    }  # fmt: skip
    free = {
        "kind": "npt", "temperature": 30.0, "relaxation": 100.0, "pressure": 0.0,
        "pressure_relaxation": 300.0, "compressibility": 1.0,
    }  # fmt: skip
    figures = run(changed(structure=crystal, ensemble=free), tmp_path / "run", tmp_path)[0]
    found, volume = (figures.figures[name] for name in ("lattice_constant", "volume"))
    assert found.value == pytest.approx((4 * volume.value) ** (1 / 3), rel=1e-12)
    assert found.value != 5.6 and found.unit == "angstrom"
    fixed = run(changed(structure=crystal), tmp_path / "fixed", tmp_path)[0]
    assert "lattice_constant" not in fixed.figures


def test_an_explosion_saves_both_frames(tmp_path):
    data = changed(run__timestep=18.0, run__temperature=1e6, run__report_every=1,
                   run__largest_force=2.0)  # fmt: skip
    with pytest.raises(GuardError, match=r"step \d+: .* on atom \d+"):
        run(data, tmp_path / "run", tmp_path)
    assert (tmp_path / "run" / "last_good.safetensors").exists()
    assert (tmp_path / "run" / "refused.safetensors").exists()


# -- ASE ----------------------------------------------------------------------------------


def test_calculator_gives_energy_forces_stress():
    atoms = bulk("Ar", "fcc", a=5.0, cubic=True).repeat(2)
    atoms.rattle(0.1, seed=1)
    ours, theirs = atoms.copy(), atoms.copy()
    ours.calc = PotentialCalculator(LennardJones((0.01,), (3.4,), 8.0, ("Ar",)))
    theirs.calc = AseLennardJones(epsilon=0.01, sigma=3.4, rc=8.0)
    for _ in range(2):
        assert ours.get_potential_energy() == pytest.approx(theirs.get_potential_energy())
        np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), atol=1e-12)
        np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), atol=1e-12)
        for one in (ours, theirs):
            one.positions[3] += [0.1, 0.05, 0]
            one.set_cell(one.cell.array * 1.01, scale_atoms=True)


def test_calculator_relaxes_with_ase_optimisers():
    atoms = bulk("Si", "diamond", a=5.431, cubic=True)
    atoms.rattle(0.1, seed=2)
    atoms.calc = PotentialCalculator(StillingerWeber())
    assert BFGS(atoms, logfile=None).run(fmax=1e-3)
    assert atoms.get_potential_energy() / 8 == pytest.approx(-4.3366, abs=1e-4)


def test_an_ase_calculator_drives_our_dynamics():
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(2)
    start = from_atoms(atoms, ("Cu",), seed=1)
    potential = AsePotential(EMT(), ("Cu",))
    world = MolecularDynamics(potential, Verlet(), start, 3.0, (300.0,))
    state = world.init()
    first = float(world.observe(state)["conserved"])
    for _ in range(20):
        state = world.step(state)
    assert float(world.observe(state)["conserved"]) == pytest.approx(first, abs=5e-3)
    assert torch.isfinite(world.observe(state)["pressure"]).all()


def test_atoms_go_to_states_and_back():
    atoms = molecule("CH3CH2OH", cell=[9, 8, 7], pbc=[True, False, True])
    atoms.set_momenta(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    back = to_atoms(from_atoms(atoms, ("O", "H", "C")), ("O", "H", "C"))
    assert (back.symbols == atoms.symbols).all()
    assert (back.pbc == atoms.pbc).all()
    for name in ("positions", "momenta"):
        np.testing.assert_array_equal(back.arrays[name], atoms.arrays[name])


# -- observables --------------------------------------------------------------------------


def test_radial_distribution_of_an_ideal_gas_is_one():
    rng = np.random.default_rng(0)
    atoms = Atoms("Ar300Ne200", rng.uniform(0, 1, (500, 3)), cell=np.eye(3) * 12, pbc=True)
    atoms.set_scaled_positions(rng.uniform(0, 1, (500, 3)))
    curves = RadialDistribution(2, 8.0, 16)(from_atoms(atoms, ("Ar", "Ne")), {})
    assert curves.shape == (1, 3, 16)
    assert float((curves[..., 4:] - 1).abs().max()) < 0.1
    # weighted with the pairs they hold, the first shells too
    assert float(curves[..., :4].mean()) == pytest.approx(1.0, abs=0.3)


def test_blocking_finds_the_error_of_a_correlated_series():
    rng, correlation, n = np.random.default_rng(1), 0.9, 1 << 14
    series, x = [], 0.0
    for noise in rng.normal(size=n):
        x = correlation * x + np.sqrt(1 - correlation**2) * noise
        series.append(x)
    blocks = Blocking()
    for value in series:
        blocks.add(torch.tensor([value]))
    expected = np.sqrt((1 + correlation) / (1 - correlation) / n)
    assert float(blocks.mean) == pytest.approx(np.mean(series), abs=1e-12)
    assert float(blocks.error) == pytest.approx(expected, rel=0.4)
    naive = np.std(series) / np.sqrt(n)
    assert float(blocks.error) > 2.5 * naive


def test_averages_and_slopes_survive_a_checkpoint():
    values = torch.linspace(0, 2, 41, dtype=torch.float64)[:, None] * torch.tensor(
        [1.0, -3]
    )

    def feed(make, cut):
        writer = make()
        for k, value in enumerate(values):
            if k == cut:
                stored, writer = writer.tensors(), make()
                writer.restore(stored)
            writer.write(k, 0.05 * k, None, {"x": value})
        return writer

    for cut in (0, 7, 40):
        average = feed(lambda: Average(lambda s, o: o["x"]), cut)
        torch.testing.assert_close(average.blocks.mean, values.mean(0))
        slope = feed(lambda: Drift(lambda s, o: o["x"]), cut).slope()
        torch.testing.assert_close(slope, torch.tensor([1.0, -3.0]).double())


CRYSTAL = {
    "structure": {
        "kind": "crystal", "element": "Si", "lattice": "diamond", "lattice_constant": 5.431,
        "repeat": [2, 2, 3],
    },
    "potential": {"kind": "stillinger_weber"},
    "run": {"steps": 20, "timestep": 2.0, "temperature": 100.0, "report_every": 10},
}  # fmt: skip


def crystal(base, ensemble="nve", **keys):
    bath = {"temperature": 300.0, "relaxation": 100.0, "pressure": 0.0}
    bath |= {"pressure_relaxation": 300.0, "compressibility": 0.01}
    data = ARGON | CRYSTAL | {"structure": CRYSTAL["structure"] | keys}
    if ensemble == "npt":
        data["ensemble"] = {"kind": "npt", "barostat": "cell_rescaling", **bath}
        data["run"] = {k: v for k, v in CRYSTAL["run"].items() if k != "temperature"}
    return assemble(parse(data), base).world.start


def test_a_crystal_has_the_vacancies_and_surfaces_asked_for(tmp_path):
    whole, cut = crystal(tmp_path), crystal(tmp_path, vacancies=2, vacuum=10.0)
    assert len(cut.positions) == len(whole.positions) - 2 == 94
    height, depth = (
        cut.cell[0, 2, 2],
        whole.positions[:, 2].max() - whole.positions[:, 2].min(),
    )
    assert float(height) == pytest.approx(float(depth) + 10.0)
    gaps = np.diff(np.sort(np.mod(cut.positions[:, 2].numpy(), float(height))))
    assert gaps.max() < 2.0  # the vacuum is at the ends of the cell


@pytest.mark.parametrize(
    ("ensemble", "keys", "sentence"),
    [
        ("nve", {"vacancies": 96}, "structure.vacancies = 96: there are 96 atoms"),
        ("npt", {"vacuum": 10.0}, "periodic in all axes, without vacuum"),
    ],
)
def test_a_crystal_without_atoms_and_a_slab_under_pressure_are_refused(
    ensemble, keys, sentence, tmp_path
):
    with pytest.raises(InputError, match=sentence):
        crystal(tmp_path, ensemble, **keys)
