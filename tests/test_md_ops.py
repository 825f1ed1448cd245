"""Differentiable pair energies: gradcheck, gradgradcheck, and plain torch beside them."""

import pytest
import torch
from ase.build import bulk

from scalebridge.engine.kernels.ops_pair import lennard_jones
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.structure import from_atoms

CUTOFF = 4.1


@pytest.fixture(scope="module")
def case():
    """Eight atoms in a skewed cell smaller than the cutoff, no pair at the cutoff."""
    atoms = bulk("Ar", "fcc", a=3.4, cubic=True).repeat((1, 1, 2))
    atoms.rattle(0.1, seed=4)
    atoms.cell[:] += [[0, 0.2, 0], [0, 0, 0.3], [0.1, 0, 0]]
    state = from_atoms(atoms, ("Ar",))
    table = build_neighbours(state, CUTOFF, 0.3)
    offset = (table.shift.double() @ state.cell[0]).contiguous()
    parameters = torch.tensor([0.3, 2.2], dtype=torch.float64, requires_grad=True)
    positions = state.positions.clone().requires_grad_()
    return positions, parameters, (table.index.int().contiguous(), offset, table.count)


def plain_lennard_jones(positions, parameters, pairs, cutoff):
    index, offset, count = pairs
    inside = torch.arange(index.shape[1], device=index.device) < count[:, None]
    d = positions[index.long()] + offset - positions[:, None]
    square = torch.where(inside, d.square().sum(-1), cutoff**2)
    s6 = (parameters[1] ** 2 / square) ** 3
    pair = torch.where(square < cutoff**2, 4 * parameters[0] * (s6 * s6 - s6), 0.0)
    return 0.5 * pair.sum()


def test_equals_plain_torch_to_second_order(case):
    positions, parameters, pairs = case
    found = []
    for function in (lennard_jones, plain_lennard_jones):
        energy = function(positions, parameters, pairs, CUTOFF)
        first = torch.autograd.grad(energy, (positions, parameters), create_graph=True)
        loss = first[0].square().sum() + first[1].prod()
        second = torch.autograd.grad(loss, (positions, parameters))
        found.append((energy, *first, *second))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-11)


def test_gradients(case):
    positions, parameters, pairs = case

    def energy(x, p):
        return lennard_jones(x, p, pairs, CUTOFF)

    assert torch.autograd.gradcheck(energy, (positions, parameters))
    assert torch.autograd.gradgradcheck(energy, (positions, parameters))


def test_a_wrong_adjoint_is_found_out(case, monkeypatch):
    from scalebridge.engine.kernels import ops_pair

    positions, parameters, pairs = case
    right = ops_pair._all

    def wrong(*arguments):
        energy, by_x, by_p = right(*arguments)
        return energy, 1.01 * by_x, by_p

    monkeypatch.setattr(ops_pair, "_all", wrong)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(
            lambda x: lennard_jones(x, parameters, pairs, CUTOFF), (positions,)
        )


def test_inputs_are_left_alone(case):
    positions, parameters, pairs = case
    before = positions.detach().clone()
    lennard_jones(positions, parameters, pairs, CUTOFF)
    assert torch.equal(positions.detach(), before)
    assert positions.grad is None
