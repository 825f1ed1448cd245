"""Particles: conservation, absolute rates, relaxation, walls, and the same bits always."""

import hashlib
import itertools
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scalebridge.engine import runtime
from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Sides, Wall
from scalebridge.engine.gas.collisions.molecules import (
    Molecules,
    from_potential,
    hard_spheres,
    rotating,
    variable_spheres,
)
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.engine.gas.collisions.species import SPECIES
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic import thickness
from scalebridge.engine.gas.kinetic.dsmc import DsmcWorld, Start
from scalebridge.engine.jobs import assemble
from scalebridge.engine.kernels.particles import scattered
from scalebridge.engine.kernels.types import Array1, Array2, Array3, Int, Real, ti
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.schema.gas import GasScenario

REST = (0.0, 0.0, 0.0)


@ti.kernel
def k_deflected(angles: Array3, row: Int, part: Real, places: Array1, out: Array2):
    """Choose the row for the first line of ``out``, the next one for the second."""
    for n in range(places.shape[0]):
        for line in range(2):
            choice = part + 0.1 - 0.2 * line
            out[line, n] = scattered(0, row, part, places[n], choice, angles)


def uniform(grid: Grid, temperature: float = 1.0, velocity=REST, density=1.0) -> Start:
    shape = grid.shape
    return Start(
        torch.full(shape, density, dtype=torch.float64),
        torch.tensor(velocity, dtype=torch.float64).expand(*shape, 3),
        torch.full(shape, temperature, dtype=torch.float64),
    )


def box(
    molecules: Molecules, cells: int = 10, per_cell: float = 400.0, **changes
) -> DsmcWorld:
    grid = Grid((cells,), (0.0,), (1.0,))
    world = DsmcWorld(
        grid, (ALL_PERIODIC,), molecules, uniform(grid), per_cell * cells, 0.01
    )
    return replace(world, **changes)


def run(world: DsmcWorld, steps: int, seed: int = 1):
    state = world.init(torch.Generator().manual_seed(seed))
    for _ in range(steps):
        state = world.step(state)
    return state


def test_energy_and_momentum_of_a_periodic_box_are_kept():
    world = box(hard_spheres(0.05))
    first, last = run(world, 0), run(world, 200)
    assert int(last.collisions.sum()) > 5000
    n = world.expected
    old, new = first.velocities[0, :n], last.velocities[0, :n]
    assert float((new.square().sum() / old.square().sum() - 1).abs()) < 1e-12
    drift = (new.sum(0) - old.sum(0)).abs() / old.abs().sum(0)
    assert float(drift.max()) < 1e-12


@pytest.mark.parametrize(
    ("molecules", "rate"),
    [
        # n sigma <g>, <g> = 4 sqrt(T / pi), sigma = 5/16 sqrt(pi) / Kn in first order
        (hard_spheres(0.05, factor=1.0), 5 / 16 / 0.05 * 4),
        # Maxwell molecules: sigma g is a number
        (variable_spheres(0.05, 1.0), variable_spheres(0.05, 1.0).law[0, 0].item()),
    ],
)
def test_collisions_happen_at_the_rate_of_kinetic_theory(molecules, rate):
    world = box(molecules, per_cell=1000.0)
    steps = 100
    made = float(run(world, steps).collisions.sum())
    expected = 0.5 * world.expected * rate * world.time_step * steps
    assert made == pytest.approx(expected, abs=5 * expected**0.5)


def test_maxwell_molecules_relax_as_the_moment_equations_say():
    """An anisotropic gas: sigma_xx falls as exp(-t p / mu) exactly."""
    world = box(variable_spheres(0.2, 1.0), per_cell=20_000.0, sample_every=0)
    state = world.init(torch.Generator().manual_seed(3))
    state = replace(state, velocities=state.velocities * torch.tensor([1.5, 1.0, 1.0]))

    def excess(state) -> float:
        v = state.velocities[0, : world.expected].square().mean(0)
        return float(v[0] - v.mean())

    begun = excess(state)
    steps = 20
    for _ in range(steps):
        state = world.step(state)
    # p = rho T, mu = Kn T for Maxwell molecules: the rate p / mu is 1 / Kn
    expected = begun * math.exp(-steps * world.time_step / 0.2)
    assert excess(state) == pytest.approx(expected, abs=0.012)
    assert excess(state) < 0.5 * begun


def test_equilibrium_stays_and_the_fourth_moment_is_a_gaussians():
    state = run(box(hard_spheres(0.05), per_cell=4000.0, sample_every=0), 60)
    v = state.velocities[0, :40_000]
    assert float(v.square().mean()) == pytest.approx(1.0, abs=0.02)
    assert float((v**4).mean()) == pytest.approx(3.0, abs=0.12)


def test_diffuse_walls_give_the_free_molecular_heat_flux():
    """Between walls at 0.8 and 1.2, hardly a collision: q = rho sqrt(2/pi) ... exactly."""
    grid = Grid((8,), (0.0,), (1.0,))
    cold, hot = 0.8, 1.2
    sides = Sides(Wall(cold), Wall(hot))
    world = DsmcWorld(
        grid, (sides,), hard_spheres(1e4), uniform(grid), 60_000.0, 0.05,
        sample_from=100, sample_every=1,
    )  # fmt: skip
    seen = world.observe(run(world, 400))
    a, b = math.sqrt(cold), math.sqrt(hot)
    flux = 1 / math.sqrt(2 * math.pi) * 2 * a * b / (a + b) * 2 * (a * a - b * b) / 1.0
    # particles from each wall: density n_k, n_1 a = n_2 b, n_1 + n_2 = 1 (half spaces)
    assert float(seen["heat_flux"][0, :, 0].mean()) == pytest.approx(flux, rel=0.03)
    assert float(seen["mass"]) == pytest.approx(1.0, rel=1e-12)


def test_a_stream_through_reservoirs_stays_uniform():
    grid = Grid((10,), (0.0,), (1.0,))
    end = Inflow(1.0, (1.5, 0.0, 0.0), 1.0)
    world = DsmcWorld(
        grid, (Sides(end, end),), hard_spheres(0.1), uniform(grid, velocity=(1.5, 0, 0)),
        20_000.0, 0.01, sample_from=50,
    )  # fmt: skip
    seen = world.observe(run(world, 150))
    assert float((seen["density"] - 1).abs().max()) < 0.03
    assert float((seen["velocity"][..., 0] - 1.5).abs().max()) < 0.03
    assert float((seen["temperature"] - 1).abs().max()) < 0.04


def test_a_plane_box_with_a_sliding_lid_keeps_its_particles():
    grid = Grid((6, 6), (0.0, 0.0), (1.0, 1.0))
    lid = Sides(Wall(1.0), Wall(1.0, (0.5, 0.0)))
    world = DsmcWorld(
        grid, (Sides(Wall(1.0), Wall(1.0)), lid), hard_spheres(0.1), uniform(grid),
        20_000.0, 0.02, sample_from=30,
    )  # fmt: skip
    seen = world.observe(run(world, 100))
    assert float(seen["mass"]) == pytest.approx(1.0, rel=1e-12)
    assert float(seen["velocity"][0, :, -1, 0].mean()) > 0.08


def fingerprint(threads: int) -> str:
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_gas_dsmc as t;"
        "s = t.run(t.box(t.variable_spheres(0.05, 0.81), per_cell=1003.0), 20);"
        "print(t.digest(s))"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True,
        env={**os.environ, "SCALEBRIDGE_THREADS": str(threads)},
    )  # fmt: skip
    return answer.stdout.split()[-1]


def digest(state) -> str:
    alive = int(state.starts[0, -2])
    parts = (state.positions[0, :alive], state.velocities[0, :alive], state.sums)
    data = b"".join(part.numpy().tobytes() for part in parts)
    return hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_threads_change_no_bit_and_the_step_is_pure():
    assert fingerprint(1) == fingerprint(2)
    world = box(hard_spheres(0.05))
    state = run(world, 3)
    kept = digest(state)
    assert digest(world.step(state)) == digest(world.step(state))
    assert digest(state) == kept


@pytest.mark.parametrize("knudsen", [(1.0,), (1.0, 0.5, 2.0)])
def test_nothing_stands_in_the_places_that_no_particle_has(knudsen, monkeypatch):
    """A step writes all of its arrays: none may hold what the memory held before."""
    empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda x: empty(x).fill_(7))
    end = Inflow(1.0, (1.5, 0.0, 0.0), 1.0)
    world = box(hard_spheres(0.1), sides=(Sides(end, end),), knudsen=knudsen)
    state = run(world, 3)
    for system, alive in enumerate(state.starts[:, -2].tolist()):
        assert 0 < alive < world.places
        assert not state.positions[system, alive:].any()
        assert not state.velocities[system, alive:].any()
        assert float(state.velocities[system, :alive].abs().amax()) < 6.9


def test_scattering_of_a_potential_has_its_viscosity_cross_section():
    """The table's Q_2 against the quadrature, and the viscosity at the reference."""
    from scalebridge.engine.gas.collisions.scattering import scatter

    table = PUBLISHED["Ar"].table()
    made = from_potential(table, 0.1, 300.0, 5.0)
    sections, angles, law = made.sections[0], made.angles[0], made.law[0]
    steps = law[0] + law[1] * torch.arange(len(sections))
    energy = steps.exp() * 300.0
    found = scatter(table, 300.0, 1500.0)
    order = found.energy.argsort()
    true = torch.from_numpy(
        __import__("numpy").interp(
            energy.log(), found.energy[order].log(), found.sections[1][order]
        )
    )
    mine = sections * (1 - angles.square()).mean(1)
    ratio = mine / true
    warm = (energy > 100.0) & (energy < 2e4)
    assert float((ratio / ratio[warm].mean() - 1)[warm].abs().max()) < 0.01


def test_deflections_lie_between_those_of_the_table():
    """Of one of two energies, linear in ``b^2`` between the middles, held beyond them."""
    table = torch.rand(1, 3, 5, generator=torch.Generator().manual_seed(1)).double()
    places = torch.tensor([0.05, 0.1, 0.2, 0.33, 0.5, 0.74, 0.9, 0.99]).double()
    found = torch.empty(2, len(places)).double()
    runtime.start("cpu")
    k_deflected(table, 1, 0.3, places, found)
    middles = (np.arange(5) + 0.5) / 5
    for mine, row in zip(found, (1, 2), strict=True):
        expected = np.interp(places, middles, table[0, row])
        np.testing.assert_allclose(mine, expected, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: variable_spheres(0.1, 0.3), "omega"),
        (lambda: variable_spheres(0.1, 0.7, 4.0), "alpha"),
        (lambda: box(hard_spheres(0.1), time_step=0.0), "time_step"),
        (lambda: box(hard_spheres(0.1), particles=-1.0), "particles"),
        (
            lambda: from_potential(PUBLISHED["He"].table(), 0.1, 300.0, 1e5),
            "is known up to",
        ),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_memory_of_particles_is_announced(precision):
    """Two states, and the order in which the particles are sorted."""
    few, many = (
        box(hard_spheres(0.1), per_cell=number, precision=precision)
        for number in (10.0, 40.0)
    )
    state = few.init(torch.Generator())
    each = state.positions[0, 0].nbytes + state.velocities[0, 0].nbytes
    more = many.places - few.places
    assert many.needed_bytes - few.needed_bytes == more * (2 * each + 4)


def test_too_many_particles_stop_the_run_by_name():
    grid = Grid((10,), (0.0,), (1.0,))
    inwards = Sides(Inflow(1.0, (2.0, 0, 0), 1.0), Inflow(1.0, (-2.0, 0, 0), 1.0))
    world = DsmcWorld(
        grid, (inwards,), hard_spheres(0.1), uniform(grid), 4000.0, 0.02, capacity=1.05
    )
    with pytest.raises(GuardError, match="raise capacity"):
        run(world, 100)


def test_stress_is_that_in_the_middle_of_the_collisions():
    """Decay of an anisotropic gas with a coarse step: sums lie on the exact curve."""
    kn, step = 0.1, 0.03
    world = box(
        variable_spheres(kn, 1.0), per_cell=40_000.0, time_step=step, sample_every=1
    )
    state = world.init(torch.Generator().manual_seed(3))
    stretch = torch.tensor([1.5, 1.0, 1.0])
    state = replace(state, velocities=state.velocities * stretch)
    begun = state.velocities[0, : world.expected].square().mean(0)
    stress = float(begun[0] - begun.mean())
    total = 0.0
    for _ in range(4):
        state = world.step(state)
    total = float(world.observe(state)["stress"][0, :, 0, 0].mean())
    # steps k act from k to k + 1; what was summed is the mean of both ends of each
    decay = [math.exp(-k * step / kn) for k in range(5)]
    exact = stress * sum(0.5 * (a + b) for a, b in itertools.pairwise(decay)) / 4
    assert total == pytest.approx(exact, rel=0.02)


def test_rotation_relaxes_at_its_rate_and_shares_the_energy():
    """Hot translation, cold rotation: T_r approaches T as exp(-collisions / Z)."""
    omega, z = 0.75, 5.0
    molecules = rotating(variable_spheres(0.1, omega), (z,))
    world = box(molecules, per_cell=20_000.0, sample_every=0)
    state = world.init(torch.Generator().manual_seed(3))
    n = world.expected
    velocities = state.velocities.clone()
    velocities[..., 3] *= 0.5
    state = replace(state, velocities=velocities)

    def both(state) -> tuple[float, float]:
        v = state.velocities[0, :n]
        return float(v[:, :3].square().mean()), float(v[:, 3].mean())

    t, r = both(state)
    energy = 1.5 * t + r
    for _ in range(60):
        state = world.step(state)
    made = 2 * float(state.collisions.sum()) / n
    t2, r2 = both(state)
    assert 1.5 * t2 + r2 == pytest.approx(energy, rel=1e-12)
    # d(T - T_r) = -(1 + 2/3) (T - T_r) / Z per collision of a molecule
    expected = (t - r) * math.exp(-made / z * (5 / 3))
    assert t2 - r2 == pytest.approx(expected, abs=0.012)
    for _ in range(150):
        state = world.step(state)
    t3, r3 = both(state)
    assert t3 == pytest.approx(r3, abs=0.012)


SMALL = {
    "grid": {"cells": [8], "lower": [0.0], "upper": [1.0]},
    "model": {"kind": "dsmc", "particles": 30.0},
    "initial": {"kind": "uniform", "low": {"density": 1.0, "temperature": 1.0}},
    "time": {"end": 0.4, "frames": 4, "average_from": 0.1, "blocks": 4, "sample_every": 1},
    "knudsen": [0.2, 1.0],
}


def scenario(**changes):
    data = {"version": 1, "kind": "gas", **SMALL, **changes}
    return GasScenario.variant(data)(**data)


def outcome_of(checked, folder_path):
    job = assemble(checked, Path())
    with RunFolder.create(folder_path, "", {}) as folder:
        outcome = job.run(folder, console_reporter(quiet=True))
        names = set(folder.store["average"])
        shape = folder.store["fields/density"].shape
    return outcome, names, shape


def test_a_scenario_runs_averages_and_checks(tmp_path):
    walls = {"low": {"kind": "wall"}, "high": {"kind": "wall", "temperature": 1.2}}
    checked = scenario(
        boundaries={"x": walls}, model={"kind": "dsmc", "particles": 30.0, "ensembles": 3}
    )
    outcome, names, shape = outcome_of(checked, tmp_path / "run")
    assert shape == (5, 2, 8)
    assert {"density", "density_error", "heat_flux_x_error", "stress_xy"} <= names
    checks = {check.name: check for check in outcome.checks}
    assert checks["conservation"].passed
    # so few particles cannot reach the goal, and that is said
    assert not checks["error_density"].passed
    assert checks["particles_per_cell"].value == pytest.approx(90, rel=0.4)


class Stopped(Exception):
    """As if the machine went down."""


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    checked = scenario(time={**SMALL["time"], "frames": 8}, compare=[{"kind": "nsf"}])

    def averages(path):
        with RunFolder.open(path) as folder:
            return {
                f"{group}/{name}": np.asarray(folder.store[group][name]).tobytes()
                for group in ("average", "compare/nsf")
                for name in folder.store[group]
            }

    outcome_of(checked, tmp_path / "whole")
    job = assemble(checked, Path())
    plain, count = DsmcWorld.step, [0]

    def dies(world, state):
        count[0] += 1
        if count[0] > job.steps * 0.7:
            raise Stopped
        return plain(world, state)

    with RunFolder.create(tmp_path / "cut", "", {}) as folder:
        monkeypatch.setattr(DsmcWorld, "step", dies)
        with pytest.raises(Stopped):
            job.run(folder, console_reporter(quiet=True))
        monkeypatch.setattr(DsmcWorld, "step", plain)
        assert folder.load_checkpoint() is not None
        job.run(folder, console_reporter(quiet=True))
    assert averages(tmp_path / "cut") == averages(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gas": {"kind": "variable_spheres"}}, "give of"),
        ({"gas": {"kind": "variable_spheres", "of": "unobtanium"}}, "argon"),
        ({"gas": {"kind": "variable_spheres", "of": "argon", "rotation": 5.0}}, "one atom"),
        ({"gas": {"kind": "potential", "temperature": 300.0, "epsilon": 1.0}}, "sigma"),
        ({"time": {"end": 1.0, "average_from": 2.0}}, "must lie before"),
        ({"time": {"end": 1.0}, "reference": "fourier"}, "average_from"),
        ({"reference": "fourier"}, "needs a 1D grid with walls"),
        ({"time": {**SMALL["time"], "blocks": 500}}, "fewer blocks"),
        ({"model": {"kind": "dsmc", "particles": 1e7, "ensembles": 4096}}, "GiB"),
        ({"device": "cuda"}, "device"),
        (
            {
                "gas": {"kind": "potential", "of": "He", "temperature": 1e6},
            },
            "is known up to",
        ),
        (
            {"boundaries": {"x": {"low": {"kind": "open"}, "high": {"kind": "open"}}}},
            "open lets no particle in",
        ),
    ],
)
def test_a_scenario_that_cannot_work_is_refused_by_name(changes, words):
    with pytest.raises((ValidationError, InputError), match=words):
        assemble(scenario(**changes), Path())


def test_the_table_of_gases_has_the_published_diameters():
    """Bird (1994), tables A1 (hard) and A3 (soft), 1e-10 m: to their digits."""
    known = {
        "helium": (2.33, 2.30), "neon": (2.77, 2.72), "argon": (4.17, 4.11),
        "krypton": (4.76, 4.70), "xenon": (5.74, 5.65), "hydrogen": (2.92, 2.88),
        "nitrogen": (4.17, 4.11), "oxygen": (4.07, 4.01),
    }  # fmt: skip
    assert set(known) == set(SPECIES)
    for name, (hard, soft) in known.items():
        gas = SPECIES[name]
        assert gas.diameter(1.0) * 1e10 == pytest.approx(hard, abs=0.011)
        assert gas.diameter() * 1e10 == pytest.approx(soft, abs=0.011)


def test_thickness_of_noisy_blocks_is_that_of_the_profile():
    """A tanh of slope 0.2, noise that would add a fifth to the plain integral."""
    h = 0.25
    x = (torch.arange(160, dtype=torch.float64) - 79.5) * h
    # means over cells of (1 + tanh(2 x / 5)) / 2
    ends = torch.cat([x - h / 2, x[-1:] + h / 2])
    profile = 0.5 + torch.log(torch.cosh(0.4 * ends)).diff() / (0.8 * h)
    noise = torch.randn(40, 160, generator=torch.Generator().manual_seed(1)) * 0.03
    blocks = profile + noise
    value, error = thickness.integral(blocks, h)
    plain = 1.5 * float(blocks.mean(0).diff().square().sum()) / h
    assert plain > 0.23
    assert value == pytest.approx(0.2, abs=3 * error)
    assert error < 0.03
    clean = profile[None] + 0 * noise
    assert thickness.integral(clean, h)[0] == pytest.approx(0.2, rel=1e-4)
    assert thickness.slope(clean, h, 3)[0] == pytest.approx(0.2, rel=0.01)
    pair = torch.stack([profile, 0.5 * (1 + torch.tanh(2 * 0.2 * (x + 1.5)))])
    found = thickness.separation(pair.expand(6, 2, 160), h, 3)[0]
    assert found == pytest.approx(1.5, abs=0.02)
