"""Mixtures of simulated molecules: exact rates, conservation, composition, refusals."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from test_gas_dsmc import digest, outcome_of, run, uniform

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Sides, Wall
from scalebridge.engine.gas.collisions.molecules import (
    Spheres,
    hard_spheres,
    mixture,
    variable_spheres,
)
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.dsmc import DsmcWorld
from scalebridge.engine.gas.kinetic.particle_faces import Reservoirs
from scalebridge.engine.jobs import assemble
from scalebridge.engine.schema.gas import GasScenario

LINE = Grid((4,), (0.0,), (1.0,))
HEAVY, LIGHT = 1.6, 0.4


def box(
    masses=(HEAVY, LIGHT), spheres=None, knudsen=1.0, parts=(0.5, 0.5), **changes
) -> DsmcWorld:
    """Return a mixture at rest in a periodic box."""
    molecules = mixture(knudsen, masses, spheres or (Spheres(),) * len(masses))
    world = DsmcWorld(
        LINE, (ALL_PERIODIC,), molecules, uniform(LINE), 40_000.0, 0.05, sample_every=0,
        capacity=1.02, reservoirs=Reservoirs(masses, parts),
    )  # fmt: skip
    return replace(world, **changes)


def by_species(world: DsmcWorld, state) -> list[torch.Tensor]:
    """Return the velocities of each species."""
    v = state.velocities[0, : int(state.starts[0, -2])]
    return [v[v[:, 3] == k, :3] for k in range(world.species)]


def test_species_of_equal_molecules_are_one_gas():
    """Section, exponents and rates of collisions are those of the single gas."""
    for omega, alpha, single in (
        (0.5, 1.0, hard_spheres(0.05)),
        (0.81, 1.4, variable_spheres(0.05, 0.81, 1.4)),
    ):
        made = mixture(0.05, (1.0, 1.0), (Spheres(1.0, omega, alpha),) * 2)
        law = made.law.reshape(4, 3)
        # sigma g of hard spheres is law[0] (g^2)^(1/2) too
        power = 0.5 if omega == 0.5 else float(single.law[1])
        assert law[:, 0] == pytest.approx(float(single.law[0]), rel=1e-12)
        assert law[:, 1] == pytest.approx(power, rel=1e-12)
        assert law[:, 2] == pytest.approx(1 / alpha, rel=1e-12)


def test_pairs_collide_at_the_rate_of_kinetic_theory():
    """Hard spheres of three sizes and masses: n_i n_j S_ij sqrt(8 T / (pi m_ij))."""
    masses, sizes, parts = (2.0, 1.0, 0.4), (1.0, 1.5, 0.6), (0.25, 0.3, 0.45)
    mean = sum(m * x for m, x in zip(masses, parts, strict=True))
    masses = tuple(m / mean for m in masses)
    world = box(masses, tuple(Spheres(d) for d in sizes), 1.0, parts)
    steps = 40
    made = float(run(world, steps).collisions.sum())
    unit = 1.016034 * 5 / 16 * math.sqrt(math.pi * masses[0])
    rate = sum(
        a * b * unit * (0.5 * (d + e)) ** 2 * math.sqrt(8 / math.pi * (1 / m + 1 / n))
        for a, d, m in zip(parts, sizes, masses, strict=True)
        for b, e, n in zip(parts, sizes, masses, strict=True)
    )
    expected = 0.5 * world.expected * rate * world.time_step * steps
    assert made == pytest.approx(expected, rel=0.01)


def test_momentum_and_energy_of_unlike_molecules_are_kept():
    world = box((HEAVY, LIGHT), (Spheres(), Spheres(0.7, 0.8, 1.3)))
    first = run(world, 0)
    first = replace(first, velocities=first.velocities * torch.tensor([1.5, 1, 1, 1.0]))
    last = first
    for _ in range(100):
        last = world.step(last)
    assert int(last.collisions.sum()) > 100_000
    before, after = world.observe(first), world.observe(last)
    assert float((after["energy"] / before["energy"] - 1).abs()) < 1e-12
    n = world.expected
    mass = world.molecules.masses[first.velocities[0, :n, 3].long()]
    scale = (mass[:, None] * first.velocities[0, :n, :3]).abs().sum(0) / world.particles
    drift = (after["momentum"] - before["momentum"])[0].abs() / scale
    assert float(drift.max()) < 1e-12
    # and each species keeps its molecules
    assert [len(v) for v in by_species(world, last)] == [
        len(v) for v in by_species(world, first)
    ]


def test_two_temperatures_approach_at_the_exact_rate():
    """Maxwell molecules: exp(-2 m_a m_b / (m_a + m_b)^2 n K t)."""
    world = box(spheres=(Spheres(1.0, 1.0),) * 2, particles=300_000.0)
    state = run(world, 0)
    stretch = torch.where(state.velocities[..., 3:] == 1, 1.3**0.5, 0.7**0.5)
    v = torch.cat([state.velocities[..., :3] * stretch, state.velocities[..., 3:]], -1)
    state = replace(state, velocities=v)

    def gap(state) -> float:
        heavy, light = by_species(world, state)
        return float(LIGHT * light.square().mean() - HEAVY * heavy.square().mean())

    begun, steps = gap(state), 24
    for _ in range(steps):
        state = world.step(state)
    rate = 2 * HEAVY * LIGHT / (HEAVY + LIGHT) ** 2 * float(world.molecules.law[3])
    expected = begun * math.exp(-rate * steps * world.time_step)
    # a mean of n squares has the relative error sqrt(2 / 3 n): .003 here
    assert gap(state) == pytest.approx(expected, abs=0.013)
    assert expected < 0.5 * begun


def test_equilibrium_is_one_temperature_and_its_pressure_is_that_of_the_number():
    world = box(sample_every=1, particles=80_000.0, sample_from=1)
    seen = world.observe(run(world, 60))
    assert float(seen["density"].mean()) == pytest.approx(1.0, abs=0.01)
    for name in ("temperature", "temperature_0", "temperature_1"):
        assert float(seen[name].mean()) == pytest.approx(1.0, abs=0.01)
    assert float(seen["density_0"].mean()) == pytest.approx(0.8, abs=0.01)
    parts = seen["density_0"] + seen["density_1"]
    assert torch.allclose(parts, seen["density"])


def test_each_wall_emits_every_species_at_its_temperature():
    """Free molecules between walls at .8 and 1.2: the flux of each as of one gas."""
    cold, hot = 0.8, 1.2
    world = box(
        knudsen=1e4, sides=(Sides(Wall(cold), Wall(hot)),), particles=120_000.0,
        sample_from=150, sample_every=1,
    )  # fmt: skip
    seen = world.observe(run(world, 450))
    a, b = math.sqrt(cold), math.sqrt(hot)
    one = 1 / math.sqrt(2 * math.pi) * 2 * a * b / (a + b) * 2 * (a * a - b * b)
    exact = 0.5 * one * (1 / math.sqrt(HEAVY) + 1 / math.sqrt(LIGHT))
    assert float(seen["heat_flux"][0, :, 0].mean()) == pytest.approx(exact, rel=0.04)
    assert float(seen["mass"]) == pytest.approx(1.0, rel=1e-3)


def test_a_stream_of_a_mixture_stays_what_it_is():
    end = Inflow(1.0, (1.5, 0.0, 0.0), 1.0)
    start = uniform(LINE, velocity=(1.5, 0, 0))
    world = box(sides=(Sides(end, end),), start=start, knudsen=0.2, capacity=1.5,
                sample_from=40, sample_every=1, particles=40_000.0)  # fmt: skip
    seen = world.observe(run(world, 140))
    assert float((seen["density_0"] - 0.8).abs().max()) < 0.03
    assert float((seen["density_1"] - 0.2).abs().max()) < 0.01
    assert float((seen["velocity_1"][..., 0] - 1.5).abs().max()) < 0.04
    # a reservoir of another composition brings it in
    other = Reservoirs((HEAVY, LIGHT), (0.5, 0.5), {"x_low": (0.0, 1.0)})
    light = replace(world, reservoirs=other, particles=10_000.0, capacity=3.0)
    assert float(light.observe(run(light, 140))["density_0"].mean()) < 0.05


def test_a_composition_that_varies_starts_as_it_is_given_and_mixes():
    share = torch.tensor([0.9, 0.9, 0.1, 0.1], dtype=torch.float64)
    parts = torch.stack([share, 1 - share])
    density = HEAVY * share + LIGHT * (1 - share)
    start = replace(uniform(LINE), fractions=parts, density=density)
    world = box(start=start, knudsen=0.3)
    seen = world.observe(run(world, 0))
    assert torch.allclose(seen["density_0"][0], HEAVY * share, atol=0.005)
    # p is n T: the same where the gas is light and where it is heavy
    assert torch.allclose(seen["pressure"][0], torch.ones(4).double(), atol=0.05)
    mixed = world.observe(run(world, 200))
    assert float((mixed["density_0"][0] / HEAVY - 0.5).abs().max()) < 0.05


def test_a_step_of_a_mixture_is_pure():
    world = box()
    state = run(world, 2)
    assert digest(world.step(state)) == digest(world.step(state))


GASES = [
    {"name": "heavy", "mass": 4.0, "diameter": 2.0, "fraction": 0.25},
    {"name": "light", "mass": 1.0, "diameter": 2.0, "fraction": 0.75},
]
BASE = {
    "grid": {"cells": [8], "lower": [0.0], "upper": [1.0]},
    "model": {"kind": "dsmc", "particles": 60.0},
    "initial": {"kind": "uniform", "low": {"density": 1.0, "temperature": 1.0}},
    "time": {"end": 0.4, "frames": 2, "average_from": 0.1, "blocks": 4, "sample_every": 1},
    "knudsen": [0.2],
    "gas": {"kind": "mixture", "species": GASES},
}


def scenario(**changes):
    data = {"version": 1, "kind": "gas", **BASE, **changes}
    return GasScenario.variant(data)(**data)


def gas(*species, **more):
    return {"gas": {"kind": "mixture", "species": list(species or GASES), **more}}


def test_a_scenario_of_a_mixture_stores_what_each_species_does(tmp_path):
    _, names, _ = outcome_of(scenario(), tmp_path / "run")
    assert {"density_heavy", "density_heavy_error", "velocity_light_x"} <= names
    assert "temperature_light" in names
    argon = {"name": "ar", "of": "argon", "fraction": 0.5}
    helium = {"name": "he", "of": "helium", "fraction": 0.5}
    job = assemble(scenario(**gas(argon, helium)), Path())
    masses = job.world.molecules.masses
    assert float(masses[0] / masses[1]) == pytest.approx(39.948 / 4.0026)
    assert float(masses.mean()) == pytest.approx(1.0)


def test_a_given_pair_replaces_the_means():
    plain = assemble(scenario(), Path()).world.molecules.law
    given = {"between": ["heavy", "light"], "diameter": 1.0}
    changed = assemble(scenario(**gas(pairs=[given])), Path()).world.molecules.law
    ratio = (changed / plain).reshape(2, 2, 3)[..., 0]
    assert ratio.flatten().tolist() == pytest.approx([1.0, 0.25, 0.25, 1.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (gas(GASES[0], {**GASES[1], "fraction": 0.5}), "the sum is 0.75"),
        (gas(GASES[0], {**GASES[1], "name": "heavy"}), "stands twice"),
        (gas(GASES[0]), "species"),
        (gas(GASES[0], {"name": "n", "of": "nitrogen", "fraction": 0.75}), "rotates"),
        (gas(GASES[0], {"name": "n", "fraction": 0.75}), "mass and diameter"),
        (gas(GASES[0], {**GASES[1], "of": "argon"}), "mass and diameter"),
        (gas(pairs=[{"between": ["heavy", "heavy"]}]), "two different names"),
        (gas(inflow={"x_low": [0.5, 0.5]}), "no reservoir at that end"),
        (gas(inflow={"x_middle": [0.5, 0.5]}), "no end of the box"),
        (gas(inflow={"x_low": [1.0]}), "1 fractions of 2"),
        (gas(GASES[0], {**GASES[1], "start": "2*x"}), "gas.species.1.start"),
        (gas(GASES[0], {**GASES[1], "start": "x"}), "miss 1"),
        (gas(GASES[0], {**GASES[1], "start": "q"}), "start"),
        (gas(GASES[0], {**GASES[1], "mass": math.nan}), "mass"),
        ({"reference": "couette"}, "knows one gas"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused_by_its_key(changes, words):
    with pytest.raises((ValidationError, InputError), match=words):
        assemble(scenario(**changes), Path())
