"""Hartree-Fock orbitals of a molecule by PySCF, with exact cusps at the nuclei."""

import math
import warnings
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
SPREAD = 1.4
"""Ratio of the exponents of Slater functions; the largest is that often the charge."""
SMALLEST = 0.25
"""The smallest exponent is larger (1 / bohr)."""
RIDGE = 1e-9
"""Weight of the coefficients' squares in the fit: it keeps alternating sums small."""
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
        from pyscf.data.elements import ELEMENTS
    except ImportError as error:
        raise InputError(
            "Hartree-Fock orbitals need PySCF: pip install scalebridge[label]; or set "
            'wavefunction.orbitals = "none"'
        ) from error
    symbols = [ELEMENTS[round(float(z))] for z in molecule.numbers]
    names = [""] * len(symbols) if molecule.cores is None else molecule.cores.names
    cores = {s: name for s, name in zip(symbols, names, strict=True) if name}
    bases = {s: _of_core(basis, cores[s]) if s in cores else basis for s in symbols}
    charge = round(float(molecule.charges.sum())) - molecule.electrons
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends another package
        try:
            return gto.M(
                atom=list(zip(symbols, molecule.positions.tolist(), strict=True)),
                unit="bohr",
                basis=bases,
                ecp=cores,
                charge=charge,
                spin=molecule.up - molecule.down,
                verbose=0,
            )
        except (KeyError, RuntimeError) as error:
            named = ", ".join(f"{name!r} for {symbol}" for symbol, name in bases.items())
            other = "" if cores else ', or core potentials (core = "ccecp")'
            raise InputError(
                f"wavefunction.basis: PySCF does not have {named}; another basis{other}"
            ) from error


def _of_core(basis: str, core: str) -> str:
    """Return the basis of a core potential that corresponds to one of all electrons."""
    return f"{core}-{basis.lower().removeprefix(f'{core}-')}"


_solved: dict[tuple[Any, ...], HartreeFock] = {}
"""The systems of this process: checks, orbitals and references ask for the same one."""


def hartree_fock(molecule: "Molecule", basis: str = BASIS) -> HartreeFock:
    """Solve (restricted, or restricted open-shell) Hartree-Fock with PySCF.

    A weak field along the axes orients degenerate shells; the energy is without it.

    Raises:
        InputError: see :func:`pyscf_mole`; or the equations are not solved.
    """
    numbers = (*molecule.positions.flatten().tolist(), *molecule.numbers.tolist())
    cores = () if molecule.cores is None else molecule.cores.names
    key = (basis, molecule.up, molecule.down, *cores, *numbers)
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
        charge = float(molecule.nuclear_cusps[centre])
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
    """Fit the spherical part of every orbital around a nucleus by Slater functions.

    A sum of Gaussians oscillates about the orbital that it stands for: little in the
    energy, much in the local energy, to a distance of ``1 / Z`` and again in the tail. A
    sum of ``exp(-zeta d)`` with few, wide-spaced exponents cannot follow. It is the nearest
    one by the volume that fulfils Kato's condition for the whole orbital,
    ``S'(0) = -Z (S(0) + eta)`` with the value ``eta`` of all other parts.

    Args:
        own: ``[3, knots, orbitals]`` value and two derivatives.
        value: ``[orbitals]`` the whole orbital at the nucleus.
        charge: of the nucleus.
    """
    if charge == 0:
        return own
    d = knots()
    steps = math.floor(math.log(SPREAD * charge / SMALLEST) / math.log(SPREAD))
    rates = SPREAD * charge * SPREAD ** -torch.arange(steps + 1).double()
    functions = torch.exp(-rates * d[:, None])
    weight = (d * torch.gradient(d)[0].sqrt())[:, None]
    scale = (weight * functions).norm(dim=0)
    columns = weight * functions / scale
    # least squares with one equation to be fulfilled
    slope = ((charge - rates) / scale)[None]
    normal = columns.T @ columns + RIDGE * torch.eye(len(rates)).double()
    matrix = torch.cat(
        [torch.cat([normal, slope.T], 1), torch.nn.functional.pad(slope, (0, 1))]
    )
    right = torch.cat([columns.T @ (weight * own[0]), charge * (own[0, :1] - value)])
    found = torch.linalg.solve(matrix, right)[:-1] / scale[:, None]
    return torch.stack([functions @ (found * (-rates[:, None]) ** k) for k in range(3)])
