"""Classical potentials against published numbers, finite differences and ASE."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones

from scalebridge.engine.coupling.tabulated import TabulatedPotential
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.engine.md.classical import (
    LennardJones,
    StillingerWeber,
    Sum,
    plain,
    shifted,
)
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.state import concatenate
from scalebridge.engine.md.structure import from_atoms


def evaluate(potential, state):
    state = replace(state, anchor=state.positions, anchor_cell=state.cell)
    return potential(state, build_neighbours(state, potential.cutoff, 0.3))


def distorted(symbol):
    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat((2, 1, 1))
    atoms.rattle(0.15, seed=1)
    strain = [[0, 0.3, 0], [0.2, 0, 0.1], [0, 0.2, 0]]
    atoms.set_cell(atoms.cell.array + strain, scale_atoms=True)
    atoms.symbols[:] = symbol
    return atoms


POTENTIALS = {
    "plain": LennardJones((0.3,), (2.1,), 5.2, ("Ar",), plain),
    "shifted, two species": LennardJones((0.3, 0.2), (2.1, 2.3), 5.2, ("Ar", "Ne")),
    "silicon": StillingerWeber(),
    "table": TabulatedPotential.of(PUBLISHED["Ne"].pair, 0.5, 5.2, "Ne", farthest=60.0),
    "sum": Sum(
        (StillingerWeber(("Ar",)), LennardJones((0.1,), (2.0,), 4.0, ("Ar",))), 4.0, ("Ar",)
    ),
}


@pytest.fixture(params=POTENTIALS, scope="module")
def case(request):
    potential = POTENTIALS[request.param]
    atoms = distorted(potential.species[0])
    atoms.symbols[1::3] = potential.species[-1]
    return potential, from_atoms(atoms, potential.species)


def test_forces_are_minus_the_gradient(case):
    potential, state = case
    forces, h = evaluate(potential, state).forces, 1e-5
    for i, c in [(0, 0), (3, 1), (7, 2), (9, 0)]:
        d = torch.zeros_like(state.positions)
        d[i, c] = h
        up = evaluate(potential, replace(state, positions=state.positions + d)).energy
        down = evaluate(potential, replace(state, positions=state.positions - d)).energy
        assert float(forces[i, c] + (up - down) / (2 * h)) == pytest.approx(0, abs=1e-6)


def test_virial_is_minus_the_strain_derivative(case):
    potential, state = case
    virial, h = evaluate(potential, state).virial[0], 1e-5

    def energy(p, q, size):
        frame = torch.eye(3, dtype=torch.float64)
        frame[p, q] += size
        moved = replace(
            state, positions=state.positions @ frame, cell=(state.cell @ frame).contiguous()
        )
        return float(evaluate(potential, moved).energy)

    for p in range(3):
        for q in range(3):
            slope = (energy(p, q, h) - energy(p, q, -h)) / (2 * h)
            assert float(virial[p, q]) == pytest.approx(-slope, abs=2e-6)


def test_single_precision_agrees(case):
    potential, state = case
    single = from_like(state, torch.float32)
    double, rounded = evaluate(potential, state), evaluate(potential, single)
    assert rounded.forces.dtype == torch.float32
    assert float((rounded.forces - double.forces).abs().max()) < 3e-4
    assert float(rounded.energy) == pytest.approx(float(double.energy), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("atoms", [1, 2, 7, 8, 9, 33])
def test_forces_alone_are_the_same(atoms, dtype):
    rng = np.random.default_rng(atoms)
    potential = LennardJones((0.3,), (2.1,), 5.2, ("Ar",))
    grid = np.array(list(np.ndindex(4, 4, 3)))[:atoms] * 2.2
    small = Atoms("Ar2", positions=[[0, 0, 0], [2.3, 0.1, 0]], cell=[3, 4, 5], pbc=True)
    whole = Atoms(
        f"Ar{atoms}", positions=grid + rng.uniform(-0.2, 0.2, (atoms, 3)),
        cell=[[9, 0, 0], [2, 9, 0], [0, 1, 7]], pbc=[True, False, True],
    )  # fmt: skip
    states = [from_atoms(a, potential.species, dtype=dtype) for a in (small, whole, small)]
    state = concatenate(states)
    state = replace(state, anchor=state.positions, anchor_cell=state.cell)
    table = build_neighbours(state, potential.cutoff, 0.3)
    full, alone = potential(state, table).forces, potential.forces(state, table)
    rounding = 2e-5 if dtype == torch.float32 else 1e-12
    assert float((full - alone).abs().max()) < rounding * float(full.abs().max())


def from_like(state, dtype):
    names = ("positions", "momenta", "masses", "cell", "forces")
    return replace(state, **{name: getattr(state, name).to(dtype) for name in names})


@pytest.mark.parametrize("smooth", [False, True])
def test_lennard_jones_equals_ase(smooth):
    atoms = distorted("Ar")
    atoms.calc = AseLennardJones(epsilon=0.3, sigma=2.1, rc=5.2)
    offset = plain if smooth else shifted
    potential = LennardJones((0.3,), (2.1,), 5.2, ("Ar",), offset)
    ours = evaluate(potential, from_atoms(atoms, ("Ar",)))
    np.testing.assert_allclose(ours.forces.numpy(), atoms.get_forces(), atol=1e-11)
    # ASE's energy is the shifted one
    same = abs(float(ours.energy) - atoms.get_potential_energy()) < 1e-9
    assert same == (not smooth)


def test_silicon_has_the_published_lattice_constant_and_cohesive_energy():
    """Stillinger and Weber 1985: a = 5.431 A, 4.3363 eV/atom; exactly 2 epsilon."""

    def energy(a):
        return float(evaluate(StillingerWeber(), crystal(a)).energy) / 8

    def crystal(a):
        return from_atoms(bulk("Si", "diamond", a=a, cubic=True), ("Si",))

    h, at = 1e-3, 5.431
    slope = (energy(at + h) - energy(at - h)) / (2 * h)
    curvature = (energy(at + h) - 2 * energy(at) + energy(at - h)) / h**2
    assert at - slope / curvature == pytest.approx(5.431, abs=5e-4)
    assert energy(at) == pytest.approx(-4.3363, abs=5e-4)


def test_stillinger_weber_is_the_sum_over_angles():
    """The moments form against the published double sum, spelled out."""
    state, p = from_atoms(distorted("Si"), ("Si",)), StillingerWeber()
    table = build_neighbours(state, p.cutoff, 0.0)
    energy = 0.0
    for i in range(state.atoms):
        n = int(table.count[i])
        j, shift = table.index[i, :n].long(), table.shift[i, :n].double()
        d = state.positions[j] + shift @ state.cell[0] - state.positions[i]
        r = d.norm(dim=1)
        pair = p.A * p.epsilon * (p.B * (p.sigma / r) ** p.p - (p.sigma / r) ** p.q)
        energy += 0.5 * float((pair * torch.exp(p.sigma / (r - p.cutoff))).sum())
        h = torch.exp(p.gamma * p.sigma / (r - p.cutoff))
        cosine = (d / r[:, None]) @ (d / r[:, None]).T
        angles = h[:, None] * h[None, :] * (cosine + 1 / 3) ** 2
        energy += p.lambda_ * p.epsilon * float(torch.triu(angles, 1).sum())
    assert float(evaluate(p, state).energy) == pytest.approx(energy, abs=1e-10)


def test_a_batch_equals_each_system_alone(case):
    potential, state = case
    other = from_atoms(
        Atoms([potential.species[0]] * 3, [[0, 0, 0], [2.3, 0, 0], [0, 2.5, 0]]),
        potential.species,
    )
    both = evaluate(potential, concatenate([other, state, other]))
    alone = evaluate(potential, state)
    assert torch.equal(both.forces[3:-3], alone.forces)
    assert torch.equal(both.energy[1:2], alone.energy)
    assert torch.equal(both.virial[1:2], alone.virial)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("place", [(1.0, 1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_two_atoms_at_one_place_have_no_finite_energy(dtype, place):
    three = [(1.0, 1.0, 1.0), place, (3.0, 1.0, 1.0)]
    atoms = Atoms("Ar3", three, cell=[9.0] * 3, pbc=True)
    clean = atoms.copy()
    clean.positions[1] = (1.0, 3.0, 1.0)
    start = from_atoms(clean, ("Ar",), seed=1, dtype=dtype)
    potential = LennardJones((1.0,), (1.0,), 2.5, ("Ar",))
    listed = build_neighbours(start, 2.5, 0.5)
    assert torch.isfinite(potential(start, listed).energy).all()
    moved = torch.tensor(atoms.positions, dtype=dtype)
    broken = replace(start, positions=moved)
    listed = build_neighbours(replace(start, anchor=start.positions), 2.5, 4.0)
    assert not torch.isfinite(potential(broken, listed).energy).any()
