"""Angles, correlations in time, fixed atoms and trajectories, against exact answers."""

import json
import math
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.md.angles import AngleDistribution, Coordination
from scalebridge.engine.md.classical import LennardJones
from scalebridge.engine.md.correlations import (
    BySpecies,
    Correlation,
    Integral,
    Slope,
    mean_product,
    shear_stress,
    velocities,
    vibrational_density,
)
from scalebridge.engine.md.integrators import Bussi, Langevin, NoseHoover, Schedule, Verlet
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.units import REDUCED
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse

# -- angles and neighbours -----------------------------------------------------------------


def test_angles_and_neighbours_of_crystals():
    diamond = from_atoms(bulk("Si", "diamond", a=5.43, cubic=True), ("Si",))
    adf = AngleDistribution(1, 2.6, 180)
    found = adf(diamond, {})[0, 0]
    assert float(adf.theta[found.argmax()]) == pytest.approx(109.47, abs=0.6)
    assert float(found.sum()) == pytest.approx(1.0)
    assert float(Coordination(1, 2.6)(diamond, {})) == 4
    assert float(Coordination(1, 4.0)(diamond, {})) == 16

    close = from_atoms(bulk("Ar", "fcc", a=5.0, cubic=True), ("Ar",))
    shares = AngleDistribution(1, 3.7, 180)(close, {})[0, 0]
    for angle, pairs in ((60, 24), (90, 12), (120, 24), (179.9, 6)):
        near = (AngleDistribution(1, 3.7, 180).theta - angle).abs() < 1.1
        assert float(shares[near].sum()) == pytest.approx(pairs / 66), angle


def test_angles_know_their_species():
    water = molecule("H2O")
    state = from_atoms(water, ("H", "O"))
    adf = AngleDistribution(2, 1.2, 1800)
    found = adf(state, {})[0]
    middle = adf.triples.index((0, 1, 0))
    angle = float(adf.theta[found[middle].argmax()])
    assert angle == pytest.approx(water.get_angle(1, 0, 2), abs=0.1)
    assert float(found.sum()) == pytest.approx(10.0)  # one triple, bins of 0.1 degrees
    numbers = Coordination(2, 1.2)(state, {})[0]
    assert numbers.tolist() == [[0, 1], [2, 0]]


def test_a_vacancy_is_seen_in_the_number_of_neighbours():
    atoms = bulk("Si", "diamond", a=5.43, cubic=True).repeat(2)
    del atoms[7]
    state = from_atoms(atoms, ("Si",))
    assert float(Coordination(1, 2.6)(state, {})) == pytest.approx(4 - 4 / 63)


# -- correlations --------------------------------------------------------------------------


def noise_correlation(samples, memory, spacing, summary, seed=0):
    """An Ornstein-Uhlenbeck process of variance 1, followed by a Correlation."""
    rng, keep = np.random.default_rng(seed), math.exp(-1 / memory)
    x, series = rng.normal(size=(1, 5)), []
    for _ in range(samples):
        x = keep * x + math.sqrt(1 - keep**2) * rng.normal(size=(1, 5))
        series.append(torch.from_numpy(x))
    line = Correlation(lambda s, o: s, mean_product, 40, spacing, summary)
    for step, value in enumerate(series):
        line.write(step, float(step), value, {})
    return line, series


def test_a_known_correlation_within_its_error_bars():
    line, _ = noise_correlation(12_000, 8.0, 20, Integral(1.0))
    exact = torch.exp(-torch.arange(40).double() / 8)[:, None, None]
    miss = (line.curve.mean - exact) / line.curve.error
    assert float(miss.abs().max()) < 4
    whole = float(torch.trapezoid(exact[:, 0, 0]))
    found, error = float(line.result.mean), float(line.result.error)
    assert abs(found - whole) < 4 * error
    assert error < 0.08 * whole
    # the defect: neighbouring windows taken for independent make the bar too small
    wrong, _ = noise_correlation(12_000, 16.0, 20, Integral(1.0))
    assert abs(float(wrong.result.mean) - whole) > 10 * float(wrong.result.error)


def test_a_correlation_continues_after_a_checkpoint():
    line, series = noise_correlation(300, 8.0, 7, Integral(1.0))
    first = Correlation(lambda s, o: s, mean_product, 40, 7, Integral(1.0))
    second = Correlation(lambda s, o: s, mean_product, 40, 7, Integral(1.0))
    for step, value in enumerate(series):
        (first if step < 123 else second).write(step, 0.0, value, {})
        if step == 122:
            second.restore(first.tensors())
    assert torch.equal(second.curve.mean, line.curve.mean)
    assert torch.equal(second.result.error, line.result.error)


def test_diffusion_of_a_random_walk():
    rng = np.random.default_rng(3)
    kinds = BySpecies(
        torch.tensor([0] * 60 + [1] * 60), torch.zeros(120, dtype=torch.int32), (1, 2)
    )
    line = Correlation(lambda s, o: s, kinds.displacement, 30, 15, Slope(0.5))
    x, width = np.zeros((120, 3)), np.repeat([0.1, 0.3], 60)[:, None]
    for step in range(1500):
        x = x + width * rng.normal(size=(120, 3))
        line.write(step, 0.0, torch.from_numpy(x.copy()), {})
    exact = torch.tensor([[0.1**2, 0.3**2]]).double() / (2 * 0.5)
    assert float(((line.result.mean - exact) / line.result.error).abs().max()) < 4
    assert float((line.result.mean / exact - 1).abs().max()) < 0.05


def test_shear_stress_components_are_equivalent():
    rng = np.random.default_rng(0)
    # an isotropic symmetric tensor: diagonal entries of variance 4/3 and 2/3 correlated
    a = rng.normal(size=(200_000, 3, 3))
    tensor = torch.from_numpy((a + a.transpose(0, 2, 1)) / math.sqrt(2))
    found = shear_stress(None, {"pressure_tensor": tensor})
    assert torch.allclose(found.var(0), torch.ones(5).double(), rtol=0.02)
    assert float((found.T.cov() - torch.eye(5)).abs().max()) < 0.02


def test_the_spectrum_of_a_dimer_is_its_frequency():
    bottom = 2 ** (1 / 6)
    pair = Atoms("Ar2", positions=[[0, 0, 0], [bottom + 0.004, 0, 0]])
    pair.set_masses([1.0, 1.0])
    potential = LennardJones((1.0,), (1.0,), 3.0, ("Ar",))
    start = from_atoms(pair, ("Ar",))
    world = MolecularDynamics(potential, Verlet(), start, 0.005, (0.0,), 0.3, REDUCED)
    line = Correlation(velocities, BySpecies.of(start, 1).product, 300, 50)
    state = world.init()
    for step in range(1600):
        state = world.step(state)
        if step % 4 == 0:
            line.write(step, 0.0, state, {})
    frequency, density = vibrational_density(line.curve.mean[:, 0, 0], 0.02, 2000)
    exact = math.sqrt(2 * 72 / 2 ** (1 / 3)) / (2 * math.pi)
    assert float(frequency[density.argmax()]) == pytest.approx(exact, rel=0.01)
    assert float(torch.trapezoid(density, frequency)) == pytest.approx(1.0, abs=0.03)


# -- fixed atoms ---------------------------------------------------------------------------


def liquid():
    atoms = bulk("Ar", "fcc", a=(4 / 0.8) ** (1 / 3), cubic=True).repeat(3)
    atoms.set_masses(np.ones(len(atoms)))
    return from_atoms(atoms, ("Ar",), seed=2)


BATHS = {
    "nve": Verlet(),
    "langevin": Langevin(Schedule.constant(1.5), 0.5),
    "bussi": Bussi(Schedule.constant(1.5), 0.2),
    "nose_hoover": NoseHoover(Schedule.constant(1.5), 0.2),
}


@pytest.mark.parametrize("name", BATHS)
def test_fixed_atoms_stay_and_the_rest_conserves(name):
    start = liquid()
    fixed = torch.zeros(start.atoms, dtype=torch.bool)
    fixed[::5] = True
    potential = LennardJones((1.0,), (1.0,), 2.5, ("Ar",))
    world = MolecularDynamics(
        potential, BATHS[name], start, 0.004, (1.5,), 0.3, REDUCED, fixed=fixed
    )
    state = world.init()
    first, seen = world.observe(state), []
    for _ in range(150):
        state = world.step(state)
        seen.append(float(world.observe(state)["conserved"]))
    assert torch.equal(state.positions[fixed], start.positions[fixed])
    assert not bool(state.momenta[fixed].any())
    moving = ~fixed
    assert float((state.positions - start.positions)[moving].abs().min()) > 0
    spread = max(seen) - min(seen)
    assert spread < 0.004 * start.atoms
    assert abs(seen[-1] - float(first["conserved"])) < 0.004 * start.atoms
    kinetic = state.momenta.square().sum() / 2
    degrees = 3 * int(moving.sum())
    temperature = float(world.observe(state)["temperature"])
    assert temperature == pytest.approx(float(2 * kinetic / degrees))


# -- through a scenario --------------------------------------------------------------------

SCENARIO = {
    "version": 1, "kind": "md", "units": "lj",
    "structure": {"kind": "fcc_density", "density": 0.8442, "cells": 3, "mass": 1.0},
    "potential": {
        "kind": "lennard_jones", "epsilon": [1.0], "sigma": [1.0], "cutoff": 2.5,
    },
    "ensemble": {"kind": "nve"},
    "run": {"steps": 240, "timestep": 0.005, "temperature": 1.5, "report_every": 40},
    "output": {
        "trajectory_every": 60, "thermo_every": 4, "extxyz": True,
        "adf": [{"reach": 1.5, "every": 40}],
        "displacement": {"every": 4, "samples": 10, "spacing": 5},
        "velocity": {"every": 4, "samples": 10, "spacing": 5},
        "stress": {"every": 4, "samples": 10, "spacing": 5},
    },
}  # fmt: skip


def test_a_scenario_writes_all_of_them(tmp_path):
    job = assemble(parse(SCENARIO), tmp_path)
    assert job.world.totals_every == 4
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        figures = job.run(folder, Reporter(quiet=True)).figures
        store = folder.store
        for name in ("adf/all", "displacement/msd_Ar", "velocity/vacf_Ar",
                     "vibrations/density_Ar", "stress/correlation",
                     "viscosity/viscosity"):  # fmt: skip
            assert np.isfinite(store[name][:]).all(), name
        positions = store["trajectory/positions"][:]
    assert figures["coordination_all_ArAr"].value == pytest.approx(12, abs=1)
    assert figures["diffusion_Ar"].value > 0
    assert figures["viscosity"].value > 0
    frames = ase.io.read(tmp_path / "run" / "trajectory.extxyz", index=":")
    assert len(frames) == len(positions) == 5
    assert np.abs(frames[-1].positions - positions[-1]).max() < 1e-7
    assert frames[-1].get_potential_energy() / 108 == pytest.approx(
        figures["potential_energy"].value, abs=0.5
    )


@pytest.mark.parametrize(
    ("section", "changes", "sentence"),
    [
        ("run", {"fixed": [200]}, "run.fixed: 200 does not fit"),
        (
            "ensemble",
            {"kind": "npt", "temperature": 1.0, "relaxation": 1.0, "pressure": 1.0,
             "pressure_relaxation": 1.0, "pressure_ramp": [[0, 1], [5, 2]]},
            "either pressure or pressure_ramp",
        ),
        ("output", {"adf": [{"reach": 1.5, "start": 5, "stop": 1}]}, "before start"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, section, changes, sentence):
    data = json.loads(json.dumps(SCENARIO))
    data[section] |= changes
    if section == "ensemble":
        data[section] = changes
    with pytest.raises(InputError, match=sentence):
        assemble(parse(data), tmp_path)


def test_a_pressure_ramp_is_followed(tmp_path):
    data = json.loads(json.dumps(SCENARIO))
    data["output"] = {}
    data["ensemble"] = {
        "kind": "npt", "temperature": 1.0, "relaxation": 1.0, "pressure_relaxation": 1.0,
        "pressure_ramp": [[0, 1.0], [10, 5.0]],
    }  # fmt: skip
    world = assemble(parse(data), tmp_path).world
    time = torch.tensor([2.5], dtype=torch.float64)
    assert float(world.integrator.pressure(time)) == pytest.approx(2.0)
    state = world.init()
    later = replace(state, step=state.step + 1)
    assert int(world.step(later).step) == 2
