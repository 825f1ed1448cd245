"""Hartree-Fock orbitals of a molecule by PySCF, with exact cusps at the nuclei."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...models.wavefunctions.orbitals import (
    Function,
    TabulatedOrbitals,
    knots,
    tabulate,
)
from ..errors import InputError
from ..runtime import threads

if TYPE_CHECKING:
    from .hamiltonian import Molecule

BASIS = "cc-pvtz"
"""Gaussian basis unless another is asked for."""
ORIENTING = 1e-5
"""Strength (hartree / bohr^2) of the field that orients degenerate shells: the same system
has the same orbitals in every run and on every machine."""
CUSP_RANGE = 0.3
"""Reach of the correction at a nucleus of charge Z, in units of ``1 / Z`` bohr."""
NEGLIGIBLE = 1e-7
"""Functions whose coefficients are all smaller are left out."""


@dataclass(frozen=True)
class HartreeFock:
    """Occupied molecular orbitals.

    Attributes:
        mole: the PySCF molecule, which evaluates its atomic orbitals.
        orbitals: coefficients of the occupied spin-up orbitals over Cartesian functions
            ``[basis, up]``, float64; the doubly occupied ones come first.
        energy: Hartree-Fock energy, hartree.
        basis: name of the Gaussian basis.
    """

    mole: Any
    orbitals: Tensor
    energy: float
    basis: str


def pyscf_mole(molecule: "Molecule", basis: str) -> Any:
    """Return the PySCF molecule of ours.

    Raises:
        InputError: PySCF is not installed, or has no such basis for an element.
    """
    try:
        from pyscf import gto
    except ImportError as error:
        raise InputError(
            "Hartree-Fock orbitals need PySCF: pip install scalebridge[label]; or set "
            'wavefunction.orbitals = "none"'
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
            spin=molecule.up - molecule.down,
            verbose=0,
        )
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"basis {basis!r}: PySCF does not have it for these elements"
        ) from error


_solved: dict[tuple[Any, ...], HartreeFock] = {}
"""The systems of this process: checks, orbitals and references ask for the same one."""


def hartree_fock(molecule: "Molecule", basis: str = BASIS) -> HartreeFock:
    """Solve (restricted, or restricted open-shell) Hartree-Fock with PySCF.

    A weak field along the axes orients degenerate shells; the energy is without it.

    Raises:
        InputError: see :func:`pyscf_mole`; or the equations are not solved.
    """
    numbers = (*molecule.positions.flatten().tolist(), *molecule.charges.tolist())
    key = (basis, molecule.up, molecule.down, *numbers)
    if key not in _solved:
        _solved[key] = _solve(molecule, basis)
    return _solved[key]


def _solve(molecule: "Molecule", basis: str) -> HartreeFock:
    mole = pyscf_mole(molecule, basis)
    from pyscf import lib, scf

    lib.num_threads(threads())  # the last digits depend on them
    field = (scf.ROHF if molecule.up != molecule.down else scf.RHF)(mole)
    bare = field.get_hcore()
    squares = mole.intor("int1e_rr").reshape(3, 3, *bare.shape)
    oriented = bare + ORIENTING * (squares[1, 1] + 2 * squares[2, 2])
    field.get_hcore = lambda *_: oriented
    field.kernel()
    if not field.converged:
        field = field.newton()
        field.kernel()
    if not field.converged:
        raise InputError(
            f"Hartree-Fock in {basis} does not converge for this system; another "
            'wavefunction.basis, or wavefunction.orbitals = "none"'
        )
    field.get_hcore = lambda *_: bare
    orbitals = torch.as_tensor(field.mo_coeff, dtype=torch.float64)[:, : molecule.up]
    overlap = torch.as_tensor(mole.intor("int1e_ovlp"), dtype=torch.float64)
    closed, single = orbitals[:, : molecule.down], orbitals[:, molecule.down :]
    localised = torch.cat([_localised(closed, overlap), _localised(single, overlap)], 1)
    cartesian = torch.as_tensor(mole.cart2sph_coeff(), dtype=torch.float64)
    energy = float(field.energy_tot(field.make_rdm1()))
    return HartreeFock(mole, cartesian @ localised, energy, basis)


def _localised(orbitals: Tensor, overlap: Tensor) -> Tensor:
    """Rotate occupied orbitals ``[basis, k]`` next to ``k`` basis functions.

    Pivoted elimination picks the functions that span the occupied space best, then the
    unitary part of the overlap with them turns the orbitals. The result depends on the
    space alone, not on the basis in it that was given, and follows the nuclei smoothly: so
    parameters of one geometry fit the next. Early functions win ties.
    """
    count = orbitals.shape[1]
    if not count:
        return orbitals
    seen = overlap @ orbitals
    left = seen * (1 - 1e-3 * torch.linspace(0, 1, len(seen)).double()[:, None])
    chosen = []
    for _ in range(count):
        place = int(left.square().sum(1).argmax())
        chosen.append(place)
        axis = left[place] / left[place].norm()
        left = left - (left @ axis)[:, None] * axis
    u, _, v = torch.linalg.svd(seen[sorted(chosen)].T)
    return orbitals @ u @ v


def orbitals_of(molecule: "Molecule", field: HartreeFock) -> TabulatedOrbitals:
    """Return the orbitals as tables, their cusps at the nuclei corrected.

    Raises:
        InputError: see :func:`hartree_fock`.
    """
    mole, count = field.mole, field.orbitals.shape[1]
    nuclei = len(molecule.positions)
    spherical = [torch.zeros(3, len(knots()), count).double() for _ in range(nuclei)]
    others: list[list[Tensor]] = [[] for _ in range(nuclei)]
    functions, row = [], 0
    for shell in range(mole.nbas):
        centre, momentum = int(mole.bas_atom(shell)), int(mole.bas_angular(shell))
        for radial in _radials(mole, shell).unbind(-1):
            powers = _powers(momentum)
            rows = field.orbitals[row : row + len(powers)]
            row += len(powers)
            if momentum == 0:
                spherical[centre] += radial[..., None] * rows[0]
            elif float(rows.abs().max()) > NEGLIGIBLE:
                others[centre].append(radial)
                place = count + len(others[centre]) - 1
                functions += [
                    Function(centre, place, power, own)
                    for power, own in zip(powers, rows, strict=True)
                    if float(own.abs().max()) > NEGLIGIBLE
                ]
    at = torch.as_tensor(mole.eval_gto("GTOval_cart", molecule.positions.numpy()))
    for centre, value in enumerate(at @ field.orbitals):
        charge = float(molecule.charges[centre])
        spherical[centre] = _with_cusp(spherical[centre], value, charge)
    tables = [
        tabulate(*torch.cat([own, *(o[..., None] for o in more)], -1).mT)
        for own, more in zip(spherical, others, strict=True)
    ]
    return TabulatedOrbitals(molecule.positions, tables, functions, count)


def _powers(momentum: int) -> list[tuple[int, int, int]]:
    """Powers of x, y, z in the order of libcint."""
    return [
        (a, b, momentum - a - b)
        for a in range(momentum, -1, -1)
        for b in range(momentum - a, -1, -1)
    ]


def _radials(mole: Any, shell: int) -> Tensor:
    """Values and two derivatives of a shell's radial functions at the knots, [3, t, k].

    libcint multiplies s and p functions by the norm of their spherical harmonic,
    ``sqrt(1 / 4 pi)`` and ``sqrt(3 / 4 pi)``, and leaves higher ones alone.
    """
    factors = {0: math.sqrt(0.25 / math.pi), 1: math.sqrt(0.75 / math.pi)}
    factor = factors.get(int(mole.bas_angular(shell)), 1.0)
    exponents = torch.as_tensor(mole.bas_exp(shell)).double()
    coefficients = factor * torch.as_tensor(mole._libcint_ctr_coeff(shell)).double()
    d = knots()[:, None]
    value = torch.exp(-exponents * d.square())
    first = -2 * exponents * d * value
    second = (4 * exponents.square() * d.square() - 2 * exponents) * value
    return torch.stack([value, first, second]) @ coefficients


def _with_cusp(own: Tensor, value: Tensor, charge: float) -> Tensor:
    """Replace the spherical part of every orbital near a nucleus.

    With the value ``eta`` of all other parts at the nucleus, ``S + eta`` becomes
    ``a (1 - Z d) + b d^2 + c d^3`` below ``CUSP_RANGE / Z``, where value and two
    derivatives are kept: Kato's condition for the whole orbital (the idea of Ma, Towler,
    Drummond, Needs, J. Chem. Phys. 122, 224322 (2005), with a polynomial).

    Args:
        own: ``[3, knots, orbitals]`` value and two derivatives.
        value: ``[orbitals]`` the whole orbital at the nucleus.
        charge: of the nucleus.
    """
    if charge == 0:
        return own
    d = knots()
    edge = int((d < CUSP_RANGE / charge).sum())
    c, rest = d[edge], value - own[0, 0]
    wanted = torch.stack([own[0, edge] + rest, own[1, edge], own[2, edge]])
    matrix = torch.stack([
        torch.stack([1 - charge * c, c**2, c**3]),
        torch.stack([-charge * torch.ones_like(c), 2 * c, 3 * c**2]),
        torch.stack([torch.zeros_like(c), 2 * torch.ones_like(c), 6 * c]),
    ])  # fmt: skip
    a, b, e = torch.linalg.solve(matrix, wanted)[:, None]
    x = d[:edge, None]
    result = own.clone()
    result[0, :edge] = a * (1 - charge * x) + b * x**2 + e * x**3 - rest
    result[1, :edge] = -charge * a + 2 * b * x + 3 * e * x**2
    result[2, :edge] = 2 * b + 6 * e * x
    return result
