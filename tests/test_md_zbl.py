"""The repulsive core: equal to the module that is trained with, and no holes left."""

from dataclasses import replace

import pytest
import torch
from ase.build import bulk

from scalebridge.engine.md.classical import Sum, Zbl
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.structure import from_atoms
from scalebridge.models.potentials.sums import ZblRepulsion


def crowd():
    atoms = bulk("Si", cubic=True, a=3.6).repeat(2)
    atoms.rattle(0.2, seed=1)
    state = from_atoms(atoms, ("Si",), seed=1)
    return replace(state, anchor=state.positions, anchor_cell=state.cell)


def module_energy(state, neighbours, charge=14):
    """The torch module's energy, differentiable in the positions."""
    core = ZblRepulsion((charge,), 1.0, 1.8)
    index = neighbours.index.long()
    shift = neighbours.shift.double() @ state.cell[0]
    d = state.positions[index] + shift - state.positions[:, None]
    mask = torch.arange(index.shape[1]) < neighbours.count[:, None]
    mask = mask & (d.detach().norm(dim=-1) < 1.8)
    species = state.species.long()
    return core(d, species[index], mask, species).sum()


def test_the_kernel_equals_the_torch_module():
    state = crowd()
    neighbours = build_neighbours(state, 1.8, 0.3)
    found = Zbl((14.0,), 1.0, 1.8, ("Si",))(state, neighbours)
    positions = state.positions.clone().requires_grad_()
    energy = module_energy(replace(state, positions=positions), neighbours)
    (gradient,) = torch.autograd.grad(energy, positions)
    assert float(found.energy[0]) == pytest.approx(float(energy), rel=1e-12)
    assert torch.allclose(found.forces, -gradient, atol=1e-10)


def test_a_wrong_charge_is_noticed():
    state = crowd()
    neighbours = build_neighbours(state, 1.8, 0.3)
    found = Zbl((13.0,), 1.0, 1.8, ("Si",))(state, neighbours)
    expected = float(module_energy(state, neighbours))
    assert float(found.energy[0]) != pytest.approx(expected, rel=1e-2)


def test_the_virial_is_the_derivative_by_strain():
    state, core, step = crowd(), Zbl((14.0,), 1.0, 1.8, ("Si",)), 1e-5

    def energy(strain):
        moved = replace(
            state,
            positions=state.positions @ (torch.eye(3).double() + strain),
            cell=state.cell @ (torch.eye(3).double() + strain),
        )
        moved = replace(moved, anchor=moved.positions, anchor_cell=moved.cell)
        return float(core(moved, build_neighbours(moved, 1.8, 0.3)).energy[0])

    virial = core(state, build_neighbours(state, 1.8, 0.3)).virial[0]
    for a, b in ((0, 0), (1, 2)):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[a, b] = step
        slope = (energy(strain) - energy(-strain)) / (2 * step)
        assert -slope == pytest.approx(float(virial[a, b]), rel=1e-6)


def test_a_sum_adds_up():
    state, core = crowd(), Zbl((14.0,), 1.0, 1.8, ("Si",))
    neighbours = build_neighbours(state, 1.8, 0.3)
    double = Sum((core, core), 1.8, ("Si",))(state, neighbours)
    assert torch.allclose(double.forces, 2 * core(state, neighbours).forces)
