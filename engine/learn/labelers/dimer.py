r"""Interaction energies of two closed-shell atoms, with their errors, by PySCF.

    V(r) = V_HF[Y] + V_c[CBS] + (V_FCI - V_CCSD(T))[small],
    V_c[CBS] = (Y^3 V_c[Y] - X^3 V_c[X]) / (Y^3 - X^3)

with the correlation V_c of CCSD(T) in correlation-consistent basis sets of cardinal numbers
X < Y (A. Halkier et al., Chem. Phys. Lett. 286, 243, 1998). Every energy of an atom is
taken in the basis of the pair (counterpoise; S. F. Boys, F. Bernardi, Mol. Phys. 19, 553,
1970), which holds functions at the middle of the bond (F.-M. Tao, Y.-K. Pan, J. Chem. Phys.
97, 4989, 1992). Full configuration interaction is possible for four correlated electrons;
for more its place is taken by an error bar of its own.

What is left out has one sign at all distances, so it is not noise: a label carries its
independent error and, by name, *common* errors, one number per source, which move all
labels together: the whole step of the extrapolation (of atoms with more than two electrons
the step from the smaller basis set to the larger), and what the correction may lack.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt

from ....models.parts import part
from ....models.potentials.pair import PairLabel
from ...units import BOHR_ANGSTROM
from ..label_store import LabelError
from . import absent

BOLTZMANN_HARTREE = 3.1668115634556e-6
"""k in hartree / K (CODATA 2018)."""

CARDINAL = {"d": 2, "t": 3, "q": 4, "5": 5, "6": 6}
CORE = {"He": 0, "Ne": 1, "Ar": 5, "Kr": 14}
"""Closed-shell atoms that are treated, and their orbitals that are not correlated."""
ELECTRONS_FCI = 4
"""Most correlated electrons of the pair for full configuration interaction."""

EXPONENTS = {1: (0.3,), 2: (0.6, 0.2), 3: (0.9, 0.3, 0.1)}
"""Exponents of one, two or three midbond functions of one angular momentum."""

TRIPLES = 0.25
"""Share of the triples' contribution that CCSD(T) may miss, where FCI cannot tell: for
He2 FCI - CCSD(T) is 9 to 20 % of it beyond 3 bohr."""
SMALL_BASIS = 0.3
"""Share of FCI - CCSD(T) in a small basis that a larger one may add: 20 to 25 % measured
for He2 at 4 bohr."""
SCATTER = 3e-4
"""Independent error of a label over its energy: what neighbouring labels scatter by."""


def midbond_basis(text: str) -> list[list[Any]]:
    """Return the functions of ``3s3p2d1f`` in PySCF's form.

    Raises:
        ValueError: not of that form, or more than three of a kind.
    """
    if text and not re.fullmatch(r"(?:[1-3][spdf])+", text):
        raise ValueError(f"{text!r}: write 3s3p2d1f, at most three of s, p, d, f, or ''")
    shells = []
    for count, letter in re.findall(r"([1-3])([spdf])", text):
        for exponent in EXPONENTS[int(count)]:
            shells.append(["spdf".index(letter), [exponent, 1.0]])
    return shells


def cardinal(basis: str) -> int:
    """Return the cardinal number of a correlation-consistent basis set.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(
        r"(?:d-|t-)?(?:aug-)?cc-p(?:c|wc)?v([dtq56])z(?:-pp|-dk)?", basis.lower()
    )
    if found is None:
        raise ValueError(
            f"{basis!r}: only correlation-consistent basis sets are extrapolated, "
            "such as aug-cc-pvtz"
        )
    return CARDINAL[found[1]]


@dataclass(frozen=True)
class _Energies:
    """Contributions to an energy, hartree."""

    field: float
    doubles: float
    triples: float

    @property
    def correlation(self) -> float:
        return self.doubles + self.triples


@part
class DimerLabeler:
    """Interaction energy of two noble-gas atoms: CCSD(T) at the basis-set limit, FCI."""

    symbol: str = "He"
    """Element: He, Ne, Ar or Kr."""
    basis: tuple[str, str] = ("aug-cc-pvdz", "aug-cc-pvtz")
    """Two correlation-consistent basis sets with following cardinal numbers."""
    midbond: str = "3s3p2d1f"
    """Functions at the middle of the bond; empty for none."""
    correction_basis: str = "aug-cc-pvdz"
    """Basis set of full configuration interaction (helium)."""
    correction_midbond: str = "2s1p"
    """Midbond functions there."""
    convergence: Annotated[float, Gt(0)] = 1e-12
    """Of the self-consistent field, hartree."""
    memory: Annotated[int, Ge(100)] = 4000
    """MB that PySCF may use."""
    kind: Literal["dimer"] = "dimer"

    def __post_init__(self) -> None:
        if self.symbol not in CORE:
            raise ValueError(f"symbol: {self.symbol!r}; allowed are {', '.join(CORE)}")
        small, large = (cardinal(b) for b in self.basis)
        if large != small + 1:
            raise ValueError(
                f"basis: cardinal numbers {small} and {large}; they must follow each other"
            )
        for text in (self.midbond, self.correction_midbond):
            midbond_basis(text)

    @property
    def full(self) -> bool:
        """Whether full configuration interaction is possible."""
        from ase.data import atomic_numbers

        return 2 * (atomic_numbers[self.symbol] - 2 * CORE[self.symbol]) <= ELECTRONS_FCI

    def missing(self) -> str:
        """Return how to install PySCF; empty if it is there."""
        return absent("pyscf", "label")

    def label(self, separation: float) -> PairLabel:
        """Return V and its errors at a separation in angstrom, in kelvin.

        Raises:
            LabelError: an iteration does not converge, or a basis set does not know the
                element.
        """
        bohr = float(separation) / BOHR_ANGSTROM
        small, large = (self._interaction(bohr, b, self.midbond) for b in self.basis)
        x, y = (cardinal(b) ** 3 for b in self.basis)
        limit = (y * large.correlation - x * small.correlation) / (y - x)
        energy = large.field + limit
        if self.full:
            more = self._beyond(bohr)
            energy += more
            common = {"basis": limit - large.correlation, "full_ci": SMALL_BASIS * more}
        else:
            # More electrons converge later: of neon at 3 bohr the limit from d and t adds
            # 167 K to the correlation of 1,029 K, that from t and q 304 K more. What is
            # left out is taken to be as large as the last step that was made.
            step = large.correlation - small.correlation
            common = {"basis": step, "triples": TRIPLES * large.triples}
        unit = 1 / BOLTZMANN_HARTREE
        kelvin = {name: value * unit for name, value in common.items()}
        # each of some ten energies is converged to about 1e-10 hartree
        independent = (1e-9 + SCATTER * abs(energy)) * unit
        return PairLabel(
            float(separation), energy * unit, independent, kelvin, "coupled clusters"
        )

    # -- PySCF -----------------------------------------------------------------------------

    def _interaction(self, bohr: float, basis: str, midbond: str) -> _Energies:
        """Return the counterpoise-corrected interaction in one basis set."""
        pair = self._solved(self._molecule(bohr, basis, midbond), 2)
        alone = self._solved(self._molecule(bohr, basis, midbond, alone=True), 1)
        return _Energies(
            pair.field - 2 * alone.field,
            pair.doubles - 2 * alone.doubles,
            pair.triples - 2 * alone.triples,
        )

    def _molecule(self, bohr: float, basis: str, midbond: str, alone: bool = False) -> Any:
        from pyscf import gto, lib

        from ...runtime import threads

        lib.num_threads(threads())
        ghost = f"ghost-{self.symbol}"
        try:
            functions = gto.basis.load(basis, self.symbol)
        except (KeyError, RuntimeError) as error:
            raise LabelError(
                f"PySCF knows no {basis} for {self.symbol}: {error}"
            ) from error
        sets: dict[str, Any] = {self.symbol: functions, ghost: functions}
        second = ghost if alone else self.symbol
        atoms = [(self.symbol, (0, 0, -bohr / 2)), (second, (0, 0, bohr / 2))]
        if midbond:
            atoms.append(("ghost-H", (0, 0, 0)))
            sets["ghost-H"] = midbond_basis(midbond)
        return gto.M(
            atom=atoms, basis=sets, unit="Bohr", verbose=0, symmetry=True,
            max_memory=self.memory,
        )  # fmt: skip

    def _field(self, molecule: Any) -> Any:
        from pyscf import scf

        field = scf.RHF(molecule)
        field.conv_tol, field.conv_tol_grad = self.convergence, 1e-8
        field.kernel()
        if not field.converged:
            raise LabelError(f"SCF of {self.symbol}2 did not converge")
        return field

    def _solved(self, molecule: Any, atoms: int) -> _Energies:
        from pyscf import cc

        field = self._field(molecule)
        solver = cc.CCSD(field, frozen=atoms * CORE[self.symbol] or None)
        solver.conv_tol, solver.conv_tol_normt, solver.max_cycle = 1e-10, 1e-7, 100
        solver.kernel()
        if not solver.converged:
            raise LabelError(f"CCSD of {self.symbol}2 did not converge")
        triples = solver.ccsd_t() if molecule.nelectron > 2 else 0.0
        return _Energies(float(field.e_tot), float(solver.e_corr or 0.0), float(triples))

    def _beyond(self, bohr: float) -> float:
        """Return FCI - CCSD(T) of the pair; CCSD is exact for the atoms of helium."""
        from pyscf import fci

        molecule = self._molecule(bohr, self.correction_basis, self.correction_midbond)
        coupled = self._solved(molecule, 2)
        solver = fci.FCI(self._field(molecule))
        solver.conv_tol, solver.max_cycle = 1e-11, 100
        energy = solver.kernel()[0]
        if not np.all(solver.converged):
            raise LabelError(
                f"full configuration interaction of {self.symbol}2 did not converge"
            )
        return float(energy) - coupled.field - coupled.correlation
