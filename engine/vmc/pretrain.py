"""Hartree-Fock pretraining: the network's orbitals are first matched with PySCF's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .electrons import Electrons
from .hamiltonian import Continuous, Trap, trap_orbitals
from .hartree_fock import hartree_fock

Orbitals = Callable[[Tensor], tuple[Tensor, Tensor]]


def starting_orbitals(hamiltonian: Continuous, basis: str) -> Orbitals:
    """Return Hartree-Fock orbitals of a molecule, or those of the empty trap."""
    if isinstance(hamiltonian, Trap):
        return lambda r: trap_orbitals(hamiltonian, r)
    return hartree_fock(hamiltonian, basis)


def has_orbitals(problem: Electrons) -> bool:
    """Tell whether the wavefunction has orbitals that can be pretrained."""
    return callable(getattr(problem.psi, "orbitals", None))


def pretrain(
    electrons: Electrons,
    orbitals: Orbitals,
    walkers: Tensor,
    steps: int,
    rng: torch.Generator,
    rate: float = 2e-2,
) -> Electrons:
    """Return the problem with every determinant's orbitals matched with the given ones.

    Adam, its rate falling to a tenth, lowers the mean square difference at walkers that
    sample the network itself; the off-diagonal spin blocks of the dense determinants are
    matched with zero.
    """
    up = electrons.hamiltonian.up
    electrons = electrons.at(electrons.flat.vector.clone())
    psi: Any = electrons.psi
    adam = torch.optim.Adam(psi.parameters(), lr=rate)
    width = torch.tensor(0.3, dtype=torch.float64)
    short = Electrons(electrons.hamiltonian, electrons.flat, 3, False, 0.5, electrons.chunk)
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - 0.9 * step / steps)
        swept = short.sweep(walkers, width, rng)
        walkers, width = swept.walkers, swept.width
        matrix = psi.orbitals(walkers)
        target = torch.zeros_like(matrix[:, 0])
        ups, downs = orbitals(walkers)
        target[:, :up, :up] = ups[:, :up]
        target[:, up:, up:] = downs[:, up:]
        mismatch = (matrix - target[:, None]).square().mean()
        adam.zero_grad()
        mismatch.backward()
        adam.step()
    for parameter in psi.parameters():
        parameter.grad = None
    return electrons
