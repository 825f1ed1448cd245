"""Electrons as the truth: PySCF, tight binding, calculators of ASE, our own VMC."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from ase import Atoms
from ase.data import chemical_symbols

from ....models.parts import part
from ...errors import InputError
from ...runtime import threads
from ...units import BOHR_ANGSTROM, HARTREE_EV
from ..atoms import AtomsLabel, Configuration
from ..label_store import LabelError
from . import absent

Count = Annotated[int, Ge(1), Le(1000)]


@part
class PyscfLabeler:
    """PySCF: molecules, and small periodic cells with hf or a functional."""

    method: str = "ccsd(t)"
    """hf, mp2, ccsd, ccsd(t), or the name of a functional (pbe, b3lyp, ...)."""
    basis: str = "cc-pvdz"
    """Basis set."""
    charge: int = 0
    """Total charge."""
    spin: Annotated[int, Ge(0)] | None = None
    """Unpaired electrons; as few as possible by default."""
    cycles: Annotated[int, Ge(1)] = 100
    """Iterations of the self-consistent field, at most."""
    convergence: Annotated[float, Gt(0)] = 1e-10
    """Of the energy of the self-consistent field, hartree."""
    kpoints: tuple[Count, Count, Count] = (1, 1, 1)
    """Mesh of a periodic cell."""
    pseudo: str = "gth-pade"
    """Pseudopotential of a periodic cell."""
    density_fit: bool = False
    """Molecules: the Coulomb term in an auxiliary basis, several times faster."""
    grid: Annotated[int, Ge(0), Le(9)] = 3
    """Molecules: level of a functional's grid, 0 (coarse) to 9."""
    kind: Literal["pyscf"] = "pyscf"

    def missing(self) -> str:
        """Return how to install PySCF; empty if it is there."""
        return absent("pyscf", "label")

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
            raise LabelError(f"SCF of {self._name}: {first_line(error)}") from error
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

        lib.num_threads(threads())
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
            raise LabelError(f"PySCF: {first_line(error)}") from error

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


def first_line(error: Exception) -> str:
    """Return what an error says, in one line."""
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
        return ase_label(sample, self.make(), self.identity)


def ase_label(
    sample: Configuration, calculator: Any, name: str, atoms: Atoms | None = None
) -> AtomsLabel:
    """Return energy, forces, and the virial of a periodic cell where there is a stress.

    Args:
        sample: what is labelled.
        calculator: of ASE.
        name: of the method, for what is said where it fails.
        atoms: those of the calculator, where it holds results already.

    Raises:
        LabelError: the calculator gave up, or says that it did not converge.
    """
    atoms = sample.atoms() if atoms is None else atoms
    atoms.calc = calculator
    virial = None
    try:
        energy = float(atoms.get_potential_energy())
        forces = torch.tensor(np.array(atoms.get_forces()), dtype=torch.float64)
        known = [*calculator.implemented_properties, *calculator.results]
        if bool(sample.periodic.all()) and "stress" in known:
            try:
                stress = atoms.get_stress(voigt=False)
                virial = torch.tensor(-stress * atoms.get_volume(), dtype=torch.float64)
            except NotImplementedError:  # listed, and not there with these parameters
                virial = None
    except Exception as error:
        # calculators raise anything at all; whatever it is, there is no label
        raise LabelError(f"{name}: {first_line(error)}") from error
    converged = getattr(calculator, "converged", None)
    converged = converged() if callable(converged) else converged
    unknown = converged is None and hasattr(calculator, "read_convergence")
    if converged is False or unknown:
        raise LabelError(f"{name}: did not converge")
    return AtomsLabel(energy, forces, virial)


@part
class EmtLabeler:
    """Effective medium theory of ASE (Al, Cu, Ag, Au, Ni, Pd, Pt; H, C, N, O roughly)."""

    kind: Literal["emt"] = "emt"

    def label(self, sample: Configuration) -> AtomsLabel:
        """Return energy, forces, and the virial of a periodic cell.

        Raises:
            LabelError: an element without parameters.
        """
        return AseLabeler(self.calculator, "EMT of ASE").label(sample)

    def calculator(self) -> Any:
        """Return a calculator of ASE."""
        from ase.calculators.emt import EMT

        return EMT()

    def refusal(self, sample: Configuration) -> str:
        """Return which elements have no parameters; empty if all have."""
        from ase.calculators.emt import parameters

        strange = sorted(set(sample.symbols) - set(parameters))
        return f"EMT has no parameters for {', '.join(strange)}" if strange else ""


@part
class TbliteLabeler:
    """Semi-empirical tight binding (GFN-xTB), molecules and periodic cells."""

    method: Literal["GFN1-xTB", "GFN2-xTB"] = "GFN2-xTB"
    """Parametrisation."""
    charge: int = 0
    """Total charge."""
    accuracy: Annotated[float, Gt(0)] = 0.1
    """Of the self-consistent charges; smaller is tighter."""
    kind: Literal["tblite"] = "tblite"

    def missing(self) -> str:
        """Return how to install tblite; empty if it is there."""
        return absent("tblite", "label")

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

    def refusal(self, sample: Configuration) -> str:
        """Return why a structure cannot be treated; empty if it can."""
        heavy = sorted({chemical_symbols[z] for z in sample.numbers.tolist() if z > 86})
        if heavy:
            return f"{self.method} knows H to Rn, not {', '.join(heavy)}"
        electrons = int(sample.numbers.sum()) - self.charge
        return "" if electrons > 0 else f"charge {self.charge} leaves {electrons} electrons"


@part
class VmcLabeler:
    """Variational Monte Carlo with a neural wavefunction; labels carry error bars."""

    walkers: Annotated[int, Ge(16)] = 256
    """Walkers."""
    first_iterations: Annotated[int, Ge(1)] = 300
    """Optimiser iterations of the first geometry."""
    iterations: Annotated[int, Ge(1)] = 60
    """Of every further one, which starts from the nearest."""
    spin: Annotated[int, Ge(0)] | None = None
    """Unpaired electrons."""
    kind: Literal["vmc"] = "vmc"

    def missing(self) -> str:
        """Return how to install PySCF, whose orbitals start the wavefunction."""
        return absent("pyscf", "label")

    @cached_property
    def _solved(self) -> Any:
        """The solver with the geometries that it has solved in this process."""
        from ...vmc import labeler

        names = ("walkers", "first_iterations", "iterations")
        own = {name: getattr(self, name) for name in names}
        solver = replace(labeler.default_solver(), **own)
        return labeler.VmcLabeler(solver, spin=self.spin)

    @property
    def identity(self) -> str:
        """Names the method and everything that decides its numbers."""
        return self._solved.identity

    def label(self, sample: Configuration) -> AtomsLabel:
        """Return energy and forces with their error bars."""
        found = self._solved.label(sample.atoms())
        return AtomsLabel(
            float(found.energy),
            torch.tensor(np.array(found.forces), dtype=torch.float64),
            None,
            float(found.energy_error),
            float(np.sqrt(np.square(found.forces_error).mean())),
        )

    def refusal(self, sample: Configuration) -> str:
        """Return why a structure cannot be solved; empty if it can."""
        from ...vmc.hamiltonian import from_atoms

        try:
            from_atoms(sample.atoms(), 0, self.spin)
        except InputError as error:
            return str(error)
        return ""
