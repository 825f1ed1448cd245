"""Gradients through molecular dynamics: kernels, plain torch and differences agree."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk

from examples import ROOT, example
from scalebridge.engine.audit.certify import certify, certify_horizons
from scalebridge.engine.errors import InputError
from scalebridge.engine.md import adjoint
from scalebridge.engine.md.adjoint import ChaosWarning, trajectory
from scalebridge.engine.md.differentiable import (
    SmoothLennardJones,
    TorchPotential,
)
from scalebridge.engine.md.integrators import Bussi, Langevin, Schedule, Verlet
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.units import REDUCED
from scalebridge.engine.md.world import MolecularDynamics

LANGEVIN = Langevin(Schedule.constant(1.0), 0.5)
CUTOFF = 1.9


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def crystal(repeat=2, symbols=("Ar",)):
    atoms = bulk("Ar", "fcc", a=(4 / 0.8442) ** (1 / 3), cubic=True).repeat(repeat)
    atoms.set_masses(np.ones(len(atoms)))
    atoms.rattle(0.05, seed=2)
    names = [symbols[i % len(symbols)] for i in range(len(atoms))]
    atoms.set_chemical_symbols(names)
    return from_atoms(atoms, symbols)


def world(integrator, epsilon, sigma, repeat=2, temperature=1.0):
    potential = SmoothLennardJones(epsilon, sigma, CUTOFF)
    return MolecularDynamics(
        potential, integrator, crystal(repeat), 0.004, (temperature,), 0.3, REDUCED
    )


def energies(world, state):
    kinetic = (state.momenta**2).sum() / 2
    potential = world.potential.energy(state, world.neighbours(state)).sum()
    return torch.stack([kinetic, potential])


def outcome(integrator, p, steps=24, **options):
    """What is differentiated in these tests: frames, end points, a mixture of both."""
    one = world(integrator, p["epsilon"], p["sigma"])
    with torch.no_grad():
        state = one.init()
    state = replace(
        state,
        positions=state.positions + p.get("shift", 0.0),
        momenta=state.momenta * p.get("speed", 1.0),
    )
    path = trajectory(one, state, steps, energies, 7, **options)
    ends = path.state.positions[3, 1] + path.state.momenta[5].sum()
    return path.observed.mean(0).sum() + 50 * ends


PARAMETERS = {
    "epsilon": tensor(1.0),
    "sigma": tensor(1.0),
    "shift": 0.01 * torch.randn(32, 3, generator=torch.Generator().manual_seed(1)).double(),
    "speed": tensor(1.0),
}


# -- the potential ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixture():
    """Two species in a skewed cell smaller than twice the cutoff."""
    state = crystal((1, 1, 2), ("Ar", "Kr"))
    skew = state.cell + tensor(0, 0.2, 0, 0, 0, 0.3, 0.1, 0, 0).reshape(1, 3, 3)
    state = replace(state, cell=skew, anchor_cell=skew)
    return state, build_neighbours(state, CUTOFF, 0.3)


def lennard_jones_energy(cutoff):
    """SmoothLennardJones in plain torch; parameters (epsilon, sigma)."""

    def function(parameters, d, there, mask, here):
        epsilon, sigma = parameters
        e = (epsilon[here][:, None] * epsilon[there]).sqrt()
        s = 0.5 * (sigma[here][:, None] + sigma[there])
        square = torch.where(mask, d.square().sum(-1), cutoff**2)
        a, b = (s**2 / square) ** 3, (s / cutoff) ** 6
        u = a * a - a + (6 * b * b - 3 * b) * square / cutoff**2 - 7 * b * b + 4 * b
        return 0.5 * torch.where(mask, 4 * e * u, 0.0).sum(1)

    return function


def both(epsilon, sigma):
    species = ("Ar", "Kr")
    return (
        SmoothLennardJones(epsilon, sigma, CUTOFF, species),
        TorchPotential(lennard_jones_energy(CUTOFF), (epsilon, sigma), CUTOFF, species),
    )


def test_kernels_equal_plain_torch(mixture):
    state, table = mixture
    vector = torch.randn(state.positions.shape, generator=torch.Generator().manual_seed(3))
    found = []
    for potential in both(tensor(1.0, 0.7), tensor(1.0, 1.1)):
        here = potential(state, table)
        by_x, by = potential.pull_back(state, table, vector.double())
        energy = potential.energy(state, table)
        by = potential.by_parameters(by)
        found.append([here.energy, here.forces, here.virial, by_x, *by, energy])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)


def test_energy_and_force_vanish_at_the_cutoff():
    state = crystal()
    state = replace(state, positions=state.positions[:2].clone(), periodic=~state.periodic)
    state = replace(
        state, momenta=state.momenta[:2], masses=state.masses[:2],
        species=state.species[:2], system=state.system[:2], forces=state.forces[:2],
    )  # fmt: skip
    potential = SmoothLennardJones(tensor(1.0), tensor(1.0), CUTOFF)
    apart = tensor(0, 0, 0, CUTOFF - 1e-6, 0, 0).reshape(2, 3)
    state = replace(state, positions=apart, anchor=apart)
    found = potential(state, build_neighbours(state, CUTOFF, 0.3))
    assert abs(float(found.energy)) < 1e-11
    assert float(found.forces.abs().max()) < 1e-5


def test_a_batch_may_differ_in_its_parameters():
    from scalebridge.engine.md.state import concatenate

    one = crystal()
    pair = concatenate([one, one])
    epsilon, sigma = tensor(1.0, 1.2)[:, None], tensor(1.0, 0.95)[:, None]
    batch = SmoothLennardJones(epsilon, sigma, CUTOFF)
    found = batch(pair, build_neighbours(pair, CUTOFF, 0.3))
    for k in range(2):
        alone = SmoothLennardJones(epsilon[k], sigma[k], CUTOFF)
        here = alone(one, build_neighbours(one, CUTOFF, 0.3))
        assert torch.equal(here.energy[0], found.energy[k])
        assert torch.equal(here.forces, found.forces[32 * k : 32 * (k + 1)])


# -- trajectories -------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", [Verlet(), LANGEVIN], ids=["nve", "langevin"])
def test_trajectories_are_certified(integrator):
    """Automatic against finite differences, and against the torch potential's adjoint."""

    def plain(p):
        one = world(integrator, p["epsilon"], p["sigma"])
        torch_potential = TorchPotential(
            lennard_jones_energy(CUTOFF), (p["epsilon"], p["sigma"]), CUTOFF, ("Ar",)
        )
        with torch.no_grad():
            state = one.init()
        state = replace(
            state,
            positions=state.positions + p["shift"],
            momenta=state.momenta * p["speed"],
        )
        path = trajectory(replace(one, potential=torch_potential), state, 24, energies, 7)
        ends = path.state.positions[3, 1] + path.state.momenta[5].sum()
        return path.observed.mean(0).sum() + 50 * ends

    found = certify(
        lambda p: outcome(integrator, p),
        PARAMETERS,
        references={"observable": plain},
        steps=[1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
    )
    assert found.passed, found.table()


@pytest.mark.parametrize("options", [{"leaf": 5, "branch": 3}, {"leaf": 1, "branch": 2}])
def test_checkpoints_change_nothing(options):
    def gradients(**options):
        own = {k: p.clone().requires_grad_() for k, p in PARAMETERS.items()}
        value = outcome(LANGEVIN, own, **options)
        return torch.autograd.grad(value, list(own.values()))

    for a, b in zip(gradients(), gradients(**options), strict=True):
        assert torch.equal(a, b)


def test_steps_are_the_world_s_own():
    one = world(LANGEVIN, tensor(1.0), tensor(1.0))
    state = one.init()
    path = trajectory(one, state, 20)
    for _ in range(20):
        state = one.step(state)
    assert torch.equal(path.state.positions, state.positions)
    assert torch.equal(path.state.momenta, state.momenta)


def test_a_wrong_adjoint_is_found_out(monkeypatch):
    right = SmoothLennardJones.pull_back

    def wrong(self, state, neighbours, vector):
        by_x, by = right(self, state, neighbours, vector)
        return 1.02 * by_x, by

    monkeypatch.setattr(SmoothLennardJones, "pull_back", wrong)
    found = certify(
        lambda p: outcome(Verlet(), {"epsilon": tensor(1.0), **p}, 80),
        {"sigma": tensor(1.0)},
        steps=[1e-4, 1e-5, 1e-6],
    )
    assert "disagrees" in found.verdict


def test_checkpoints_are_few():
    """10^5 steps of 64 x 16: the states alive at once number some hundred, not 10^5."""
    plan = adjoint._Plan(
        world(LANGEVIN, tensor(1.0), tensor(1.0)), None, 100_000, None, 1, 64, 16, math.inf
    )  # type: ignore[arg-type]
    left, kept = plan.steps, plan.leaf
    while left > plan.leaf:
        size = plan.segment(left)
        kept += -(-left // size)
        left = size
    assert kept <= 64 + 3 * 16


def test_the_example_differentiates_through_a_network():
    model = ROOT / "scenarios/models/silicon.safetensors"
    slope, difference = example("trajectory_gradient").main(model, 6)
    assert slope == pytest.approx(difference, rel=1e-6)


# -- chaos --------------------------------------------------------------------------------


def parting(world, state, steps):
    """The rate at which two trajectories part, in the later half of the steps."""
    near = replace(state, positions=state.positions + 1e-8 * PARAMETERS["shift"])
    apart = []
    for _ in range(steps):
        state, near = world.step(state), world.step(near)
        apart.append(math.log((point(near) - point(state)).norm()))
    later = steps - steps // 2
    return (apart[-1] - apart[-1 - later]) / (later * world.time_step)


def point(state):
    return torch.cat([state.positions, state.momenta])


def test_a_long_chaotic_trajectory_warns_and_returns_no_noise():
    epsilon = tensor(1.0).requires_grad_()
    one = world(Verlet(), epsilon, tensor(1.0), temperature=3.0)
    with torch.no_grad():
        state = one.init()
    path = trajectory(one, state, 300, largest_growth=5.0)
    with pytest.warns(ChaosWarning, match="reweighting"):
        path.state.momenta.square().sum().backward()
    assert math.isnan(float(epsilon.grad))
    assert path.growth.factor > 5.0
    rate = parting(one, state, 300)
    assert 0.3 * rate < path.growth.rate < 3 * rate


def test_horizons_of_a_hot_crystal():
    def at(steps):
        def stage(p):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return outcome(Verlet(), {"epsilon": tensor(1.0), **p}, int(steps))

        return stage

    found = certify_horizons(
        at, [20, 40], {"sigma": tensor(1.0)}, steps=[1e-3, 1e-4, 1e-5, 1e-6]
    )
    assert found.usable == 40, found.certificate.table()


def test_refusals():
    one = world(Bussi(Schedule.constant(1.0), 0.5), tensor(1.0), tensor(1.0))
    with pytest.raises(InputError, match="has no adjoint; allowed: Verlet, Langevin"):
        trajectory(one, one.init(), 10)
