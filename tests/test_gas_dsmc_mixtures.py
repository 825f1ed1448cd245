"""Mixtures of simulated molecules: exact rates, conservation, composition, refusals."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_gas_dsmc import digest, outcome_of, run, uniform

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Sides, Wall
from scalebridge.engine.gas.collisions.molecules import (
    Molecules,
    Spheres,
    from_potentials,
    hard_spheres,
    mixture,
    rotating,
    variable_spheres,
)
from scalebridge.engine.gas.collisions.pairs import Table, lennard_jones
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.engine.gas.collisions.quantum import viscosity_change
from scalebridge.engine.gas.collisions.scattering import scatter
from scalebridge.engine.gas.collisions.species import REFERENCE_TEMPERATURE, SPECIES
from scalebridge.engine.gas.collisions.transport import transport
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.dsmc import DsmcWorld
from scalebridge.engine.gas.kinetic.particle_faces import Reservoirs
from scalebridge.engine.jobs import assemble
from scalebridge.engine.schema.dsmc import MixedSpecies
from scalebridge.engine.schema.gas import GasScenario

LINE = Grid((4,), (0.0,), (1.0,))
HEAVY, LIGHT = 1.6, 0.4


def box(
    masses=(HEAVY, LIGHT), spheres=None, knudsen=1.0, parts=(0.5, 0.5), molecules=None,
    **changes,
) -> DsmcWorld:  # fmt: skip
    """Return a mixture at rest in a periodic box."""
    if molecules is None:
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


@pytest.mark.parametrize("symbol", ["argon", "helium"])
def test_a_gas_of_the_table_has_its_diameter_at_the_reference_temperature(symbol):
    """It falls as ``T^(1/4 - omega/2)``, so that the viscosity grows as ``T^omega``."""
    gas, species = SPECIES[symbol], MixedSpecies(name="it", fraction=1.0, of=symbol)
    found = species.spheres(REFERENCE_TEMPERATURE)
    assert found.diameter == pytest.approx(1e10 * gas.diameter(), rel=1e-12)
    hot = species.spheres(4 * REFERENCE_TEMPERATURE).diameter
    assert hot == pytest.approx(found.diameter * 4 ** (0.25 - gas.omega / 2), rel=1e-12)


def test_species_of_equal_molecules_are_one_gas():
    """Section, exponents and rates of collisions are those of the single gas."""
    for omega, alpha, single in (
        (0.5, 1.0, hard_spheres(0.05)),
        (0.81, 1.4, variable_spheres(0.05, 0.81, 1.4)),
    ):
        made = mixture(0.05, (1.0, 1.0), (Spheres(1.0, omega, alpha),) * 2)
        law = made.law
        # sigma g of hard spheres is law[0] (g^2)^(1/2) too
        power = 0.5 if omega == 0.5 else float(single.law[0, 1])
        assert law[:, 0] == pytest.approx(float(single.law[0, 0]), rel=1e-12)
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
    rate = 2 * HEAVY * LIGHT / (HEAVY + LIGHT) ** 2 * float(world.molecules.law[1, 0])
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
    assert torch.allclose(seen["fraction_0"][0], share, atol=0.003)
    assert torch.allclose(seen["fraction_0"] + seen["fraction_1"], torch.ones(4).double())
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
ARGON = {"name": "ar", "of": "argon", "fraction": 0.75}
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
    assert {"temperature_light", "fraction_light", "fraction_light_error"} <= names
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
    ratio = (changed / plain)[:, 0]
    assert ratio.tolist() == pytest.approx([1.0, 0.25, 0.25, 1.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (gas(GASES[0], {**GASES[1], "fraction": 0.5}), "the sum is 0.75"),
        (gas(GASES[0], {**GASES[1], "name": "heavy"}), "stands twice"),
        (gas(GASES[0]), "species"),
        (gas(GASES[0], {**ARGON, "rotation": 5.0}), "argon has one atom"),
        (gas(GASES[0], {**GASES[1], "rotation": 3.0}), "rotation"),
        (gas(GASES[0], {"name": "n", "fraction": 0.75}), "mass and diameter"),
        (gas(GASES[0], {**GASES[1], "of": "argon"}), "mass and diameter"),
        (gas(pairs=[{"between": ["heavy", "heavy"]}]), "two different names"),
        (gas(inflow={"x_low": [0.5, 0.5]}), "no reservoir at that end"),
        (gas(inflow={"x_middle": [0.5, 0.5]}), "no end of the box"),
        (
            gas(inflow={"x_low": [1.0, 0.0]}) | {"initial": {"kind": "shock", "mach": 2.0}},
            "gas.inflow: a shock at rest has the reference composition",
        ),
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


# -- pairs that scatter by their own potentials ------------------------------------------

ONE = torch.ones((), dtype=torch.float64)
ARGON_HELIUM = 39.948, 4.002602


@cache
def noble():
    """Return argon and helium at 300 K, half of the molecules each, and their masses."""
    tables = {
        (0, 0): PUBLISHED["Ar"].table(),
        (0, 1): Table.of(lennard_jones(30.0 * ONE, 3.1 * ONE), 0.775, 124.0),
        (1, 1): PUBLISHED["He"].table(),
    }
    masses = tuple(2 * m / sum(ARGON_HELIUM) for m in ARGON_HELIUM)
    return from_potentials(tables, masses, 1.0, 300.0, 1.0), masses, tables


def met(molecules, masses, **changes) -> DsmcWorld:
    """Return a box of a mixture of these molecules, half each."""
    return box(masses, molecules=molecules, **changes)


def test_tables_of_a_mixture_keep_momentum_and_energy_and_each_species():
    molecules, masses, _ = noble()
    world = met(molecules, masses)
    first = run(world, 0)
    first = replace(first, velocities=first.velocities * torch.tensor([1.5, 1, 1, 1.0]))
    last = first
    for _ in range(60):
        last = world.step(last)
    assert int(last.collisions.sum()) > 100_000
    before, after = world.observe(first), world.observe(last)
    assert float((after["energy"] / before["energy"] - 1).abs()) < 1e-12
    n = world.expected
    mass = molecules.masses[first.velocities[0, :n, 3].long()]
    scale = (mass[:, None] * first.velocities[0, :n, :3]).abs().sum(0) / world.particles
    drift = (after["momentum"] - before["momentum"])[0].abs() / scale
    assert float(drift.max()) < 1e-12
    # both gases come to one temperature, each with its molecules
    kinds = [by_species(world, state) for state in (first, last)]
    assert [len(v) for v in kinds[0]] == [len(v) for v in kinds[1]]
    heavy, light = (m * v.square().mean() for m, v in zip(masses, kinds[1], strict=True))
    assert float(heavy / light) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("unlike", [0, 3])
def test_two_names_of_one_gas_are_that_gas_unless_the_pair_differs(unlike):
    """Decay of an anisotropy and number of collisions, against argon alone."""
    made = noble()[0]

    def of(pairs, masses):
        parts = made.law[pairs], made.sections[pairs], made.angles[pairs]
        return Molecules(made.kind, *parts, made.largest, torch.ones(masses).double())

    two = met(of([0, unlike, unlike, 0], 2), (1.0, 1.0))
    one = replace(two, molecules=of([0], 1), reservoirs=Reservoirs())
    found = []
    for world in (one, two):
        state = run(world, 0)
        v = state.velocities * torch.tensor([1.5, 1, 1, 1.0])[: world.columns]
        state = replace(state, velocities=v)
        for _ in range(16):
            state = world.step(state)
        square = state.velocities[0, : world.expected, :3].square().mean(0)
        found.append((float(square[0] / square.mean()), int(state.collisions.sum())))
    (decay, hits), (decay_two, hits_two) = found
    # <v_x^2> of n molecules: sqrt(2 / n) each, of the difference of two runs
    same = abs(decay - decay_two) < 3 * 2 / 40_000**0.5
    same &= abs(hits - hits_two) < 3 * (hits + hits_two) ** 0.5
    assert same == (unlike == 0)
    assert 1.05 < decay < 1.3


def test_pairs_of_species_have_the_viscosity_sections_of_their_potentials():
    """Each pair of the table against the quadrature; light ones meet at their own speed."""
    molecules, masses, tables = noble()
    unit = None
    for pair, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        law = molecules.law[pair]
        found = scatter(tables[min(i, j), max(i, j)], 300.0, 300.0)
        order = found.energy.argsort()
        steps = law[0] + law[1] * torch.arange(64)
        mine = molecules.sections[pair] * (1 - molecules.angles[pair].square()).mean(1)
        true = np.interp(steps, (found.energy / 300).log()[order], found.sections[1][order])
        ratio = (mine / torch.from_numpy(true))[(steps > -1) & (steps < 2)]
        unit = unit or float(ratio.mean())
        assert float((ratio / unit - 1).abs().max()) < 0.01
    law = met(molecules, masses).molecules.shortest_path((0.5, 0.5))
    assert law == pytest.approx(0.6, rel=0.1)


def test_pairs_meet_at_the_rate_of_their_tables():
    """n_i n_j sqrt(8 T / (pi m)) int x exp(-x) Q(x T) dx, m the reduced mass."""
    molecules, masses, _ = noble()
    world = met(molecules, masses)
    steps = 20
    made = float(run(world, steps).collisions.sum())
    low, spacing = (float(molecules.law[0, k]) for k in (0, 1))
    x = torch.linspace(low, low + 63 * spacing, 20_000, dtype=torch.float64)
    rate = 0.0
    for pair, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        q = np.interp(x, low + spacing * np.arange(64), molecules.sections[pair])
        whole = torch.trapezoid(torch.from_numpy(q) * (2 * x - x.exp()).exp(), x)
        reduced = masses[i] * masses[j] / (masses[i] + masses[j])
        rate += 0.25 * float(whole) * math.sqrt(8 / math.pi / reduced)
    expected = 0.5 * world.expected * rate * world.time_step * steps
    assert made == pytest.approx(expected, rel=0.01)


# -- rotation ------------------------------------------------------------------------------


def turning(z=(5.0, 8.0), **changes) -> DsmcWorld:
    """Return two gases of unlike masses of which those with a finite Z rotate."""
    balls = (Spheres(1.0, 0.74, 1.36), Spheres(0.9, 0.81, 1.4))
    molecules = rotating(mixture(1.0, (HEAVY, LIGHT), balls), z)
    return box(molecules=molecules, **changes)


def degrees(world: DsmcWorld, state) -> list[float]:
    """Return the temperatures of translation and, where it rotates, rotation."""
    v = state.velocities[0, : int(state.starts[0, -2])]
    found = []
    for k, mass in enumerate(world.molecules.masses.tolist()):
        own = v[v[:, 3] == k]
        found.append(mass * float(own[:, :3].square().mean()))
        if world.molecules.rotating[k]:
            found.append(mass * float(own[:, 4].mean()))
    return found


@pytest.mark.parametrize("z", [(5.0, 8.0), (math.inf, 5.0)])
def test_rotation_of_a_mixture_comes_to_equipartition_and_keeps_the_energy(z):
    world = turning(z)
    state = run(world, 0)
    # cold rotation, and the heavy gas hotter than the light one
    cold = state.velocities * torch.tensor([1, 1, 1, 1, 0.2])
    heavy = torch.where(state.velocities[..., 3:4] == 0, 1.3, 1.0)
    state = replace(state, velocities=torch.cat([cold[..., :3] * heavy, cold[..., 3:]], -1))
    energy = world.observe(state)["energy"]
    for _ in range(400):
        state = world.step(state)
    assert float((world.observe(state)["energy"] / energy - 1).abs()) < 1e-12
    found = degrees(world, state)
    mean = 2 * float(energy) / (3 + 2 * (sum(x < math.inf for x in z) / 2))
    # the mean of n exponentials has the relative error n^-1/2, that of n v^2 sqrt(2 / 3 n)
    assert found == pytest.approx([mean] * len(found), rel=3 / 20_000**0.5)
    # a gas of single atoms has none
    v = state.velocities[0, : world.expected]
    assert bool((v[v[:, 3] == 0, 4] == 0).all()) == (z[0] == math.inf)


def test_rotation_at_equilibrium_is_exponential_and_stays():
    """Detailed balance: all moments stay those of exp(-e / T), T the same of all."""
    world = turning((4.0, 6.0), particles=80_000.0)
    state = run(world, 300)
    v = state.velocities[0, : world.expected]
    t = 2 * float(world.observe(state)["energy"]) / 5
    for k, mass in enumerate((HEAVY, LIGHT)):
        e = mass * v[v[:, 3] == k, 4] / t
        n = len(e)
        # variances of e, e^2, e^3 of an exponential: 1, 20, 684
        for power, mean, variance in ((1, 1.0, 1.0), (2, 2.0, 20.0), (3, 6.0, 684.0)):
            off = float((e**power).mean()) - mean
            assert abs(off) < 3.5 * (variance / n) ** 0.5, (k, power)


def test_rotation_of_each_species_relaxes_in_its_own_number_of_collisions():
    """Maxwell molecules: all pairs meet at one rate, t = 3/2, energies flow linearly."""
    z = (5.0, 10.0)
    soft = Spheres(1.0, 1.0)
    molecules = rotating(mixture(1.0, (1.0, 1.0), (soft, soft)), z)
    world = box((1.0, 1.0), molecules=molecules, particles=200_000.0)
    state = run(world, 0)
    cold = state.velocities * torch.tensor([1, 1, 1, 1, 0.5])
    state = replace(state, velocities=cold)
    begun, steps = degrees(world, state), 30
    for _ in range(steps):
        state = world.step(state)
    made = 2 * float(state.collisions.sum()) / world.expected
    # dT_k/dc = (T - T_k) / Z_k, 3/2 T + (T_0 + T_1) / 2 kept
    t, a, b = begun[0], begun[1], begun[3]
    for _ in range(1000):
        da, db = (t - a) / z[0] * made / 1000, (t - b) / z[1] * made / 1000
        t, a, b = t - (da + db) / 3, a + da, b + db
    found = degrees(world, state)
    assert [found[1], found[3]] == pytest.approx([a, b], abs=0.012)
    assert b < a - 0.05


def test_two_names_of_nitrogen_are_nitrogen():
    """Translation and rotation relax as those of the single gas."""
    ball = Spheres(1.0, 0.74, 1.36)
    two = box((1.0, 1.0), molecules=rotating(mixture(1.0, (1.0, 1.0), (ball,) * 2), (5, 5)))
    single = rotating(variable_spheres(1.0, 0.74, 1.36), (5.0,))
    one = replace(two, molecules=single, reservoirs=Reservoirs())
    found = []
    for world in (one, two):
        state = run(world, 0)
        cold = torch.ones(world.columns)
        cold[-1] = 0.3
        state = replace(state, velocities=state.velocities * cold)
        for _ in range(40):
            state = world.step(state)
        v = state.velocities[0, : world.expected]
        found.append((float(v[:, -1].mean()), int(state.collisions.sum())))
    (inner, hits), (inner_two, hits_two) = found
    assert 0.5 < inner < 0.8
    assert abs(inner - inner_two) < 3 * (2 / 40_000) ** 0.5
    assert abs(hits - hits_two) < 3 * (hits + hits_two) ** 0.5


def test_walls_and_reservoirs_bring_the_rotation_of_each_species():
    """Free molecules between walls: 3/2 and 5/2 kT more of those that rotate."""
    cold, hot = 0.8, 1.2
    world = turning((math.inf, 5.0), sides=(Sides(Wall(cold), Wall(hot)),),
                    particles=60_000.0, sample_from=100, sample_every=1)  # fmt: skip
    world = replace(world, knudsen=(1e4,))
    seen = world.observe(run(world, 300))
    a, b = math.sqrt(cold), math.sqrt(hot)
    one = 1 / math.sqrt(2 * math.pi) * 2 * a * b / (a + b) * 2 * (a * a - b * b)
    # a molecule carries 2 kT through a wall, and kT more where it rotates
    exact = 0.5 * one * (1 / math.sqrt(HEAVY) + 1.5 / math.sqrt(LIGHT))
    assert float(seen["heat_flux"][0, :, 0].mean()) == pytest.approx(exact, rel=0.04)
    end = Inflow(1.0, (1.5, 0.0, 0.0), 1.0)
    start = uniform(LINE, velocity=(1.5, 0, 0))
    stream = turning((math.inf, 5.0), sides=(Sides(end, end),), start=start, capacity=1.5,
                     sample_from=40, sample_every=1)  # fmt: skip
    seen = stream.observe(run(stream, 140))
    assert float((seen["rotational_temperature_1"] - 1).abs().max()) < 0.06
    assert torch.allclose(
        seen["rotational_temperature"], seen["rotational_temperature_1"], atol=1e-9
    )
    assert "rotational_temperature_0" not in seen


# -- scenarios of both ---------------------------------------------------------------------

NOBLE = {
    "kind": "potential_mixture",
    "temperature": 300.0,
    "species": [
        {"name": "ar", "of": "Ar", "fraction": 0.5},
        {"name": "he", "of": "He", "fraction": 0.5},
    ],
    "pairs": [{"between": ["he", "ar"], "epsilon": 30.0, "sigma": 3.1}],
}
BALLS = [
    {"name": "a", "mass": 40.0, "epsilon": 120.0, "sigma": 3.4, "fraction": 0.5},
    {"name": "b", "mass": 20.0, "epsilon": 36.0, "sigma": 2.8, "fraction": 0.5},
]


def nobles(**changes):
    return {"gas": {**NOBLE, **changes}}


@pytest.mark.slow
def test_a_scenario_of_potentials_makes_the_tables_of_all_pairs():
    made = assemble(scenario(**nobles()), Path()).world.molecules
    known, masses, _ = noble()
    assert made.masses.tolist() == pytest.approx(masses)
    assert torch.allclose(made.angles, known.angles)
    # Kn 0.2
    assert torch.allclose(made.sections * 0.2, known.sections)


@pytest.mark.parametrize(
    ("symbol", "kelvin", "change"),
    [("He", 4.0, 0.60), ("He", 300.0, 0.0014), ("Ar", 300.0, 0.0), ("Xe", 5000.0, 0.0)],
)
def test_quantum_scattering_changes_the_viscosity_of_light_cold_atoms(
    symbol, kelvin, change
):
    gas = PUBLISHED[symbol]
    found = viscosity_change(gas.table(), kelvin, gas.mass, gas.bosons)
    assert found == pytest.approx(change, abs=0.01 * change + 2e-4)


@pytest.mark.slow
def test_atoms_too_light_and_cold_for_classical_angles_are_told():
    (check,) = assemble(scenario(**nobles(temperature=30.0)), Path()).known()
    assert not check.passed
    assert "he at 30 K" in check.note
    plain = {"kind": "potential", "epsilon": 120.0, "sigma": 3.4, "temperature": 30.0}
    assert assemble(scenario(gas=plain), Path()).known() == []  # of unknown mass


def test_what_a_gas_of_a_potential_is_held_against_has_its_viscosity():
    """Fourier's law between 90 and 510 K: argon's viscosity is no root of T."""
    argon = {"kind": "potential", "of": "Ar", "temperature": 300.0}
    ends = zip(("low", "high"), (0.3, 1.7), strict=True)
    walls = {"x": {end: {"kind": "wall", "temperature": t} for end, t in ends}}
    checked = scenario(gas=argon, boundaries=walls, reference="fourier")
    gas = assemble(checked, Path()).problem.gas
    t = torch.tensor([100.0, 300.0, 500.0], dtype=torch.float64) / 300.0
    mu = gas.viscosity(torch.tensor(0.2), torch.ones(()), t) / 0.2
    # uPa s, of an independent quadrature of the same potential
    known = torch.tensor([8.126, 22.668, 33.916], dtype=torch.float64) / 22.668
    assert torch.allclose(mu, known, rtol=1e-3)


def test_a_rule_makes_the_pairs_that_are_not_given():
    made = scenario(**nobles(species=BALLS, pairs=[], combine="lorentz_berthelot"))
    assert made.gas.potentials()[0, 1].well == pytest.approx((4320.0**0.5, 3.1))
    assert made.gas.potentials()[1, 1].well == (36.0, 2.8)


def test_a_potential_of_a_file_is_read_between_its_rows_and_beyond(tmp_path):
    true = lennard_jones(ONE * 100.0, ONE * 3.0)
    r = torch.linspace(math.log(0.8), math.log(20.0), 400, dtype=torch.float64).exp()
    rows = "".join(f"{float(a):.9g}, {float(true(a)):.9g}\n" for a in r)
    (tmp_path / "ab.txt").write_text("# a and b\nr energy\n" + rows)
    table = Table.read(tmp_path / "ab.txt")
    at = torch.tensor([0.9, 2.5, 3.3, 7.0, 19.0, 30.0, 50.0], dtype=torch.float64)
    assert torch.allclose(table(at), true(at), rtol=1e-4)
    temperatures = torch.tensor([300.0], dtype=torch.float64)
    known = scatter(Table.of(true, 0.8, 60.0), 300.0, 300.0)
    ours, theirs = (
        float(transport(found, temperatures, 1.0).viscosity)
        for found in (scatter(table, 300.0, 300.0), known)
    )
    assert ours == pytest.approx(theirs, rel=1e-4)
    (tmp_path / "short.txt").write_text("1 2\n2 1\n")
    with pytest.raises(InputError, match=r"short.txt: 2 rows of r, energy"):
        Table.read(tmp_path / "short.txt")
    (tmp_path / "soft.txt").write_text("".join(f"{k} {k}\n" for k in range(1, 20)))
    with pytest.raises(InputError, match=r"soft.txt: pair potential: no repulsive wall"):
        Table.read(tmp_path / "soft.txt")


def test_a_scenario_of_rotating_gases_stores_their_temperatures(tmp_path):
    nitrogen = {"name": "n2", "of": "nitrogen", "fraction": 0.25}
    oxygen = {"name": "o2", "of": "oxygen", "fraction": 0.25, "rotation": 7.0}
    argon = {"name": "ar", "of": "argon", "fraction": 0.5}
    checked = scenario(**gas(nitrogen, oxygen, argon))
    _, names, _ = outcome_of(checked, tmp_path / "run")
    assert {"rotational_temperature", "rotational_temperature_n2_error"} <= names
    assert "rotational_temperature_ar" not in names
    job = assemble(checked, Path())
    assert job.problem.gas.gamma == pytest.approx(6 / 4)
    assert job.world.molecules.rotating.tolist() == [True, True, False]
    later = gas({**argon, "fraction": 1.0}, {**nitrogen, "fraction": 0.0})
    made = assemble(scenario(**later), Path()).world.molecules
    assert made.rotating.tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (nobles(pairs=[]), "no potential of ar and he"),
        (nobles(pairs=[], combine="lorentz_berthelot"), "needs epsilon and sigma of ar"),
        (nobles(pairs=[{"between": ["ar", "he"], "epsilon": 30.0}]), "give epsilon and"),
        (nobles(species=[{**BALLS[0], "mass": None}, BALLS[1]]), "mass"),
        (nobles(species=[{**NOBLE["species"][0], "mass": 40.0}, BALLS[1]]), "mass"),
        (nobles(species=[{**BALLS[0], "of": "Ar"}, BALLS[1]]), "give of"),
        (nobles(temperature=1e6), "collisions of species 0 and 0 reach"),
        (
            nobles(pairs=[{"between": ["ar", "he"], "file": "none.txt"}]),
            "none.txt: no such",
        ),
        ({"gas": {"kind": "potential", "temperature": 300.0, "sigma": 3.0}}, "give of"),
    ],
)
def test_a_mixture_of_potentials_that_cannot_be_is_refused_by_its_key(changes, words):
    with pytest.raises((ValidationError, InputError), match=words):
        assemble(scenario(**changes), Path())
