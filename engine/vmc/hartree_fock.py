"""Hartree-Fock orbitals of a molecule by PySCF, and its Gaussian basis as plain tensors."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...models.wavefunctions.slater import Shell
from ..errors import InputError

if TYPE_CHECKING:
    from .hamiltonian import Molecule


@dataclass(frozen=True)
class HartreeFock:
    """Occupied molecular orbitals.

    Attributes:
        mole: the PySCF molecule, which evaluates its atomic orbitals.
        up: coefficients of the occupied spin-up orbitals ``[basis, up]``, float64.
        down: of the spin-down orbitals.
        energy: Hartree-Fock energy, hartree.
    """

    mole: Any
    up: Tensor
    down: Tensor
    energy: float

    def __call__(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return up and down orbitals ``[batch, n, orbitals]`` at ``r [batch, n, 3]``."""
        flat = r.detach().cpu().reshape(-1, 3).double().numpy()
        basis = torch.from_numpy(
            self.mole.eval_gto("GTOval_cart" if self.mole.cart else "GTOval_sph", flat)
        )
        basis = basis.view(*r.shape[:2], -1)
        return (basis @ self.up).to(r), (basis @ self.down).to(r)


def pyscf_mole(molecule: "Molecule", basis: str, cartesian: bool = False) -> Any:
    """Return the PySCF molecule of ours.

    Raises:
        InputError: PySCF is not installed, or has no such basis for an element.
    """
    try:
        from pyscf import gto
    except ImportError as error:
        raise InputError(
            "pretraining needs PySCF: pip install scalebridge[label]; or set steps = 0"
        ) from error
    atoms = [
        (round(float(z)), tuple(position))
        for z, position in zip(molecule.charges, molecule.positions.tolist(), strict=True)
    ]
    charge = round(float(molecule.charges.sum())) - molecule.electrons
    try:
        return gto.M(
            atom=atoms,
            unit="bohr",
            basis=basis,
            charge=charge,
            cart=cartesian,
            spin=molecule.up - molecule.down,
            verbose=0,
        )
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"basis {basis!r}: PySCF does not have it for these elements"
        ) from error


def hartree_fock(
    molecule: "Molecule", basis: str = "cc-pvdz", cartesian: bool = False
) -> HartreeFock:
    """Solve (restricted, or restricted open-shell) Hartree-Fock with PySCF.

    Raises:
        InputError: see :func:`pyscf_mole`.
    """
    mole = pyscf_mole(molecule, basis, cartesian)
    from pyscf import scf

    field = (scf.ROHF if molecule.up != molecule.down else scf.RHF)(mole)
    field.kernel()
    coefficients = torch.as_tensor(field.mo_coeff, dtype=torch.float64)
    return HartreeFock(
        mole,
        coefficients[:, : molecule.up],
        coefficients[:, : molecule.down],
        float(field.e_tot),
    )


def gaussian_shells(mole: Any) -> list[Shell]:
    """Return the basis of a Cartesian PySCF molecule as plain tensors.

    libcint multiplies s and p functions by the norm of their spherical harmonic,
    ``sqrt(1 / 4 pi)`` and ``sqrt(3 / 4 pi)``, and leaves higher ones alone.
    """
    factors = {0: math.sqrt(0.25 / math.pi), 1: math.sqrt(0.75 / math.pi)}
    shells = []
    for number in range(mole.nbas):
        momentum = int(mole.bas_angular(number))
        coefficients = torch.as_tensor(mole._libcint_ctr_coeff(number)).double()
        shells.append(
            Shell(
                int(mole.bas_atom(number)),
                momentum,
                torch.as_tensor(mole.bas_exp(number)).double(),
                coefficients * factors.get(momentum, 1.0),
            )
        )
    return shells
