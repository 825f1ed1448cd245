"""Forces on nuclei: Hellmann-Feynman with the zero-variance zero-bias correction."""

import torch
from torch import Tensor

from ..errors import InputError
from .electrons import Electrons
from .hamiltonian import Molecule


@torch.no_grad()
def force_samples(
    problem: Electrons, walkers: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return local energies and the two parts of the force estimator.

    The Hellmann-Feynman estimator has infinite variance, because an electron near nucleus
    A pulls with ``Z_A / d^2``. Adding ``(Q H - H Q) psi / psi``, whose mean vanishes, with
    ``Q_A = Z_A sum_i (r_i - R_A) / d_iA`` removes that term exactly and leaves

        F_A = F_A^nuclei + Z_A sum_i [g_i / d_iA - x_iA (x_iA . g_i) / d_iA^3],

    ``x_iA = r_i - R_A`` and ``g_i = grad_i log|psi|``. ``Q_A psi`` is also, near the
    nucleus, the change of ``psi`` when A moves, so that

        F_A = <F_A> - 2 <(E_L - <E_L>) Q_A>

    lowers the bias of a wavefunction that is not exact (Assaraf and Caffarel, J. Chem.
    Phys. 113, 4028 (2000); 119, 10536 (2003), eqs. 27-35).

    Args:
        problem: a molecule with its wavefunction.
        walkers: ``[walkers, n, 3]``.
        rng: of the local energies.

    Raises:
        InputError: there are core potentials, whose forces these are not.

    Returns:
        Local energies ``[walkers]`` and ``[walkers, 2, nuclei, 3]``: the bare estimator and
        ``Q``, in hartree / bohr.
    """
    molecule = problem.hamiltonian
    assert isinstance(molecule, Molecule)
    if molecule.cores is not None:
        raise InputError("forces: none with core potentials; leave forces or core out")
    charges = molecule.charges.to(walkers.device)
    nuclei = molecule.positions.to(walkers.device)
    constant = molecule.nuclear_forces().to(walkers.device)
    energy, gradients = problem.local_energies(walkers, rng)
    parts = []
    for part, gradient in zip(
        walkers.split(problem.chunk), gradients.split(problem.chunk), strict=True
    ):
        x = part.double()[:, :, None] - nuclei
        d = x.norm(dim=-1, keepdim=True)
        g = gradient.double()[:, :, None]
        bare = g / d - x * (x * g).sum(-1, keepdim=True) / d**3
        bare = constant + charges[:, None] * bare.sum(1)
        q = charges[:, None] * (x / d).sum(1)
        parts.append(torch.stack([bare, q], 1))
    return energy, torch.cat(parts)
