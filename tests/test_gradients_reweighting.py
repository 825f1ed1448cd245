"""Averages in equilibrium: reweighting equals theory where theory is exact."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from scalebridge.engine.audit.certify import certify
from scalebridge.engine.md.differentiable import SmoothLennardJones
from scalebridge.engine.md.reweighting import Frames
from scalebridge.engine.md.state import ParticleState

THERMAL = 0.7


def lone_particles(count, stiffness, seed=4):
    """Exact samples of a particle in a harmonic well, one system each."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, generator=draws, dtype=torch.float64)
    x = x * math.sqrt(THERMAL / stiffness)
    cell = 9.0 * torch.eye(3, dtype=torch.float64).expand(count, 3, 3)
    zero = torch.zeros(count, dtype=torch.float64)
    return [
        ParticleState(
            positions=x[k : k + 1],
            momenta=torch.zeros(1, 3, dtype=torch.float64),
            masses=torch.ones(1, dtype=torch.float64),
            species=torch.zeros(1, dtype=torch.int32),
            system=torch.zeros(1, dtype=torch.int32),
            cell=cell[k : k + 1].contiguous(),
            periodic=torch.zeros(1, 3, dtype=torch.bool),
            energy=zero[:1],
            forces=torch.zeros(1, 3, dtype=torch.float64),
            virial=torch.zeros(1, 3, 3, dtype=torch.float64),
            anchor=x[k : k + 1],
            anchor_cell=cell[k : k + 1].contiguous(),
            step=torch.zeros(1, dtype=torch.int64),
            seed=torch.zeros(1, dtype=torch.int64),
        )
        for k in range(count)
    ]


@dataclass(frozen=True)
class Well:
    """U = k x^2 / 2 about the origin: <x^2> = 3 kT/k, and d<x^2>/dk = -3 kT/k^2."""

    stiffness: torch.Tensor
    cutoff: float = 1.0
    species: tuple[str, ...] = ("Ar",)

    def energy(self, state, neighbours):
        return 0.5 * self.stiffness * state.positions.square().sum(1)


@pytest.fixture(scope="module")
def frames():
    return Frames.of(lone_particles(4000, 2.0), Well(torch.tensor(2.0).double()), THERMAL)


def spread(frames, stiffness):
    square = frames.observe(lambda s: s.positions.square().sum(1))
    return frames.weighted(Well(stiffness)).mean(square)


def test_the_average_and_its_slope_are_right(frames):
    for k in (2.0, 2.4, 1.8):
        stiffness = torch.tensor(k, dtype=torch.float64, requires_grad=True)
        value = spread(frames, stiffness)
        (slope,) = torch.autograd.grad(value, stiffness)
        assert abs(float(value.detach()) / (3 * THERMAL / k) - 1) < 0.05
        assert abs(float(slope) / (-3 * THERMAL / k**2) - 1) < 0.15


def test_certified(frames):
    point = {"stiffness": torch.tensor(2.1, dtype=torch.float64)}
    found = certify(lambda p: spread(frames, p["stiffness"]), point)
    assert found.passed, found.table()


def test_effective_frames_fall_with_distance(frames):
    def share(k):
        return frames.weighted(Well(torch.tensor(k).double())).effective / 4000

    assert abs(share(2.0) - 1) < 1e-9
    assert share(2.0) > share(2.5) > share(4.0) > share(12.0)
    assert share(12.0) < 0.6


def test_a_wrong_temperature_is_found_out(frames):
    """The planted defect: weights at another temperature break d<x^2>/dk."""
    wrong = replace(frames, thermal=2 * THERMAL)
    stiffness = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(spread(wrong, stiffness), stiffness)
    assert abs(float(slope) / (-3 * THERMAL / 4.0) - 1) > 0.3


def test_a_liquid_s_weights_are_those_of_its_energies():
    """Lennard-Jones frames: the kernel's energies, and weights from their difference."""
    from ase.build import bulk

    from scalebridge.engine.md.structure import from_atoms

    def crystal(seed):
        atoms = bulk("Ar", "fcc", a=1.7, cubic=True).repeat(2)
        atoms.rattle(0.05, seed=seed)
        return from_atoms(atoms, ("Ar",))

    def pair(epsilon, sigma):
        values = (torch.tensor([v], dtype=torch.float64) for v in (epsilon, sigma))
        return SmoothLennardJones(*values, 1.6)

    made = Frames.of([crystal(seed) for seed in range(5)], pair(1.0, 1.0), THERMAL)
    other = pair(1.01, 0.998)
    before, after = (
        p.energy(made.states, made.neighbours) for p in (pair(1.0, 1.0), other)
    )
    expected = torch.softmax(-(after - before) / THERMAL, 0)
    torch.testing.assert_close(made.weighted(other).weights, expected)
