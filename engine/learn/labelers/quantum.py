"""Electrons as the truth: PySCF for molecules and small periodic cells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...units import BOHR_ANGSTROM, HARTREE_EV
from ..atoms import AtomsLabel, Configuration
from ..label_store import LabelError


@dataclass(frozen=True)
class PyscfLabeler:
    """Hartree-Fock, density functional theory or coupled cluster.

    Attributes:
        method: ``hf``, ``mp2``, ``ccsd``, ``ccsd(t)``, or the name of a functional
            (``pbe``, ``b3lyp``, ...). Periodic cells: ``hf`` or a functional.
        basis: name of the basis set.
        charge: total charge.
        spin: unpaired electrons; None for as few as possible.
        cycles: of the self-consistent field, at most.
        convergence: of the energy, hartree.
        kpoints: mesh of a periodic cell.
        pseudo: pseudopotential of a periodic cell.
        density_fit: resolve the Coulomb term of a molecule in an auxiliary basis.
        grid: level of a functional's grid for a molecule, 0 (coarse) to 9.
    """

    method: str = "ccsd(t)"
    basis: str = "cc-pvdz"
    charge: int = 0
    spin: int | None = None
    cycles: int = 100
    convergence: float = 1e-10
    kpoints: tuple[int, int, int] = (1, 1, 1)
    pseudo: str = "gth-pade"
    density_fit: bool = False
    grid: int = 3

    def label(self, sample: Configuration) -> AtomsLabel:
        """Return energy and forces (no virial).

        Raises:
            LabelError: basis and elements, charge and spin do not fit, the cell is partly
                periodic, or an iteration did not converge.
        """
        field = self._field(sample)
        field.verbose, field.max_cycle, field.conv_tol = 0, self.cycles, self.convergence
        try:
            field.kernel()
        except (np.linalg.LinAlgError, RuntimeError, ValueError) as error:
            raise LabelError(f"SCF of {self._name}: {_first_line(error)}") from error
        if not field.converged:
            raise LabelError(
                f"SCF of {self._name} did not converge in {self.cycles} cycles"
            )
        energy, gradient = self._gradient(field)
        forces = torch.tensor(-gradient * HARTREE_EV / BOHR_ANGSTROM, dtype=torch.float64)
        return AtomsLabel(float(energy) * HARTREE_EV, forces)

    def refusal(self, sample: Configuration) -> str:
        """Say why a structure cannot be treated; empty if it can."""
        try:
            self._field(sample)
        except LabelError as error:
            return str(error)
        return ""

    @property
    def _name(self) -> str:
        return f"{self.method}/{self.basis}"

    def _field(self, sample: Configuration) -> Any:
        """Return the mean field, not yet solved."""
        from pyscf import lib

        lib.num_threads(torch.get_num_threads())
        axes = int(sample.periodic.sum())
        if axes not in (0, 3):
            raise LabelError("PySCF: the cell is partly periodic; all axes or none")
        if axes and self.method in _CORRELATED:
            raise LabelError(f"PySCF: {self.method} is for molecules; cells: hf or DFT")
        electrons = int(sample.numbers.sum()) - self.charge
        spin = electrons % 2 if self.spin is None else self.spin
        if (electrons - spin) % 2 or spin > electrons:
            raise LabelError(
                f"PySCF: {electrons} electrons cannot have {spin} of them unpaired"
            )
        pairs = zip(sample.symbols, sample.positions.tolist(), strict=True)
        atom = [(symbol, tuple(xyz)) for symbol, xyz in pairs]
        common = {"atom": atom, "basis": self.basis, "charge": self.charge, "spin": spin}
        try:
            if axes:
                return self._periodic(sample, common)
            return self._molecule(common, spin)
        except (KeyError, RuntimeError, ValueError, AssertionError) as error:
            raise LabelError(f"PySCF: {_first_line(error)}") from error

    def _molecule(self, common: dict[str, Any], spin: int) -> Any:
        from pyscf import dft, gto, scf

        molecule = gto.M(**common, verbose=0)
        if self.method in _CORRELATED or self.method == "hf":
            field = scf.UHF(molecule) if spin else scf.RHF(molecule)
        else:
            field = dft.UKS(molecule) if spin else dft.RKS(molecule)
            field.xc = self.method
            _check_functional(self.method)
            field.grids.level = self.grid
        if self.density_fit and self.method in _CORRELATED:
            raise LabelError(f"PySCF: density_fit goes with hf and DFT, not {self.method}")
        return field.density_fit() if self.density_fit else field

    def _periodic(self, sample: Configuration, common: dict[str, Any]) -> Any:
        from pyscf.pbc import dft, gto, scf

        if common["spin"]:
            raise LabelError(
                "PySCF: periodic cells with unpaired electrons are not offered"
            )
        cell = gto.M(a=sample.cell.numpy(), pseudo=self.pseudo, verbose=0, **common)
        points = cell.make_kpts(list(self.kpoints))
        if self.method == "hf":
            return scf.KRHF(cell, points)
        _check_functional(self.method)
        return dft.KRKS(cell, points, xc=self.method)

    def _gradient(self, field: Any) -> tuple[float, np.ndarray]:
        if self.method not in _CORRELATED:
            return field.e_tot, _quiet(field.nuc_grad_method()).kernel()
        if self.method == "mp2":
            from pyscf import mp

            solved = mp.MP2(field).run(verbose=0)
            return solved.e_tot, _quiet(solved.nuc_grad_method()).kernel()
        from pyscf import cc

        solved = cc.CCSD(field)
        solved.verbose, solved.conv_tol = 0, self.convergence
        solved.kernel()
        if not solved.converged:
            raise LabelError(f"the amplitudes of {self._name} did not converge")
        if self.method == "ccsd":
            return solved.e_tot, _quiet(solved.nuc_grad_method()).kernel()
        return solved.e_tot + solved.ccsd_t(), _triples_gradient(solved)


_CORRELATED = ("mp2", "ccsd", "ccsd(t)")


def _triples_gradient(solved: Any) -> np.ndarray:
    from pyscf.cc.uccsd import UCCSD
    from pyscf.grad import ccsd_t, uccsd_t

    module = uccsd_t if isinstance(solved, UCCSD) else ccsd_t
    return _quiet(module.Gradients(solved)).kernel()


def _check_functional(name: str) -> None:
    from pyscf.dft import libxc

    try:
        libxc.parse_xc(name)
    except (KeyError, ValueError) as error:
        raise LabelError(f"PySCF: {name} is neither a method nor a functional") from error


def _quiet(gradient: Any) -> Any:
    gradient.verbose = 0
    return gradient


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


@dataclass(frozen=True)
class AseLabeler:
    """Any calculator of ASE.

    Attributes:
        make: makes the calculator; an importable function or class for worker processes.
        identity: names the method with all that decides its numbers.
    """

    make: Callable[[], Any]
    identity: str

    def label(self, sample: Configuration) -> AtomsLabel:
        """Return energy, forces, and the virial where the calculator has a stress.

        Raises:
            LabelError: the calculator gave up.
        """
        atoms = sample.atoms()
        atoms.calc = self.make()
        virial = None
        try:
            energy = float(atoms.get_potential_energy())
            forces = torch.tensor(np.array(atoms.get_forces()), dtype=torch.float64)
            offered = "stress" in atoms.calc.implemented_properties
            if bool(sample.periodic.all()) and offered:
                stress = atoms.get_stress(voigt=False)
                virial = torch.tensor(-stress * atoms.get_volume(), dtype=torch.float64)
        except Exception as error:
            # calculators raise anything at all; whatever it is, there is no label
            raise LabelError(f"{self.identity}: {_first_line(error)}") from error
        return AtomsLabel(energy, forces, virial)


@dataclass(frozen=True)
class TbliteLabeler:
    """Semi-empirical tight binding (GFN-xTB), molecules and periodic cells.

    Attributes:
        method: ``GFN1-xTB`` or ``GFN2-xTB``.
        charge: total charge.
        accuracy: of the self-consistent charges, smaller is tighter.
    """

    method: str = "GFN2-xTB"
    charge: int = 0
    accuracy: float = 0.1

    def label(self, sample: Configuration) -> AtomsLabel:
        """Return energy, forces, and the virial of a periodic cell.

        Raises:
            LabelError: the tight binding did not converge or does not know an element.
        """
        return AseLabeler(self.calculator, self.method).label(sample)

    def calculator(self) -> Any:
        """Return a calculator of ASE."""
        from tblite.ase import TBLite

        return TBLite(
            method=self.method, charge=self.charge, accuracy=self.accuracy, verbosity=0
        )


@dataclass(frozen=True)
class VmcLabels:
    """The engine's own variational Monte Carlo, as a labeler of configurations.

    Attributes:
        labeler: with ``label(atoms)`` and ``identity``, such as ``engine.vmc``'s.
    """

    labeler: Any

    @property
    def identity(self) -> str:
        """Names the method."""
        return self.labeler.identity

    def label(self, sample: Configuration) -> AtomsLabel:
        """Return energy and forces with their error bars."""
        found = self.labeler.label(sample.atoms())
        return AtomsLabel(
            float(found.energy),
            torch.tensor(np.array(found.forces), dtype=torch.float64),
            None,
            float(found.energy_error),
            float(np.sqrt(np.square(found.forces_error).mean())),
        )
