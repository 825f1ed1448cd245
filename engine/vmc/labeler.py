"""VMC as a labeler of the concurrent-learning loop and as an ASE calculator."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ...models.wavefunctions.determinant import DeterminantForm
from ..units import BOHR_ANGSTROM, HARTREE_EV
from .electrons import Electrons
from .evaluate import Evaluation
from .hamiltonian import Molecule, from_atoms
from .optimiser import Spring
from .parameters import Flat
from .solve import Solution, Solver


@dataclass(frozen=True)
class VmcLabel:
    """Energy and forces of one geometry with error bars.

    Attributes:
        energy: eV.
        energy_error: standard error, eV.
        forces: ``[atoms, 3]`` eV / angstrom, without net force and torque.
        forces_error: standard errors ``[atoms, 3]``.
        variance: of the local energy, hartree^2: how far the wavefunction is from an
            eigenstate.
    """

    energy: float
    energy_error: float
    forces: np.ndarray
    forces_error: np.ndarray
    variance: float


def small_network(molecule: Molecule) -> Electrons:
    """Return the problem with the default determinant network in single precision."""
    return Electrons(molecule, Flat(DeterminantForm().build(molecule).float()))


def default_solver() -> Solver:
    """Return the solver that a labeler uses unless told otherwise."""
    return Solver(small_network, Spring())


@dataclass
class VmcLabeler:
    """Labels geometries with the Schroedinger equation; implements ``Labeler``.

    The first geometry of a composition is solved from Hartree-Fock orbitals, every further
    one from the nearest geometry already solved, with its electrons moved along.

    Attributes:
        solver: how a geometry is solved.
        charge: total charge.
        spin: unpaired electrons; None for the usual ground state.
        known: geometries solved so far.
    """

    solver: Solver = field(default_factory=default_solver)
    charge: int = 0
    spin: int | None = None
    known: list[Solution] = field(default_factory=list)

    @property
    def identity(self) -> str:
        """Names the method and everything that decides its numbers."""
        s = self.solver
        return (
            f"vmc {s.optimiser} walkers {s.walkers} iterations {s.first_iterations}, "
            f"{s.iterations} sweeps {s.sweeps} seed {s.seed} charge {self.charge} "
            f"spin {self.spin}, forces balanced"
        )

    def label(self, atoms: Atoms) -> VmcLabel:
        """Return energy and forces with error bars.

        Raises:
            InputError: periodic atoms, impossible charge or spin, coinciding nuclei.
            GuardError: the optimisation became non-finite.
        """
        molecule = from_atoms(atoms, self.charge, self.spin)
        solution, result = self.solver.solve(molecule, self.known)
        self.known.append(solution)
        return as_label(result, atoms.positions)


def as_label(result: Evaluation, positions: np.ndarray) -> VmcLabel:
    """Convert a frozen evaluation of nuclei at ``positions`` to eV and angstrom."""
    scale = HARTREE_EV / BOHR_ANGSTROM
    if result.forces is None:
        nothing = np.full(positions.shape, np.nan)
        forces, errors = nothing, nothing
    else:
        measured = (result.forces.value, result.forces.error)
        forces, errors = (scale * part.numpy() for part in measured)
        forces, errors = balanced(forces, errors, positions)
    return VmcLabel(
        result.energy * HARTREE_EV,
        result.error * HARTREE_EV,
        forces,
        errors,
        result.variance,
    )


def balanced(
    forces: np.ndarray, errors: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the likeliest forces without net force and torque, with their errors.

    No energy of free molecules changes when they are moved or turned, so ``A F = 0`` with
    the six rows A of net force and torque. Least squares in the metric of the variances C
    (all independent) gives ``F - G A F`` and ``C - G A C`` with ``G = C A^T (A C A^T)^-1``:
    heavy nuclei, whose forces are noisy, take theirs from light ones.

    Args:
        forces: ``[atoms, 3]``.
        errors: their standard errors.
        positions: of the nuclei.
    """
    arms = positions - positions.mean(0)
    pushes = np.broadcast_to(np.eye(3)[:, None], (3, *arms.shape))
    turns = np.cross(np.eye(3)[:, None], arms)
    rows = np.concatenate([pushes, turns]).reshape(6, -1)
    weighted = rows * errors.ravel() ** 2
    # a linear molecule has no torque around its axis, an atom none at all
    gain = weighted.T @ np.linalg.pinv(weighted @ rows.T, rcond=1e-10)
    left = forces.ravel() - gain @ (rows @ forces.ravel())
    variance = errors.ravel() ** 2 - np.einsum("ij,ji->i", gain, weighted)
    return left.reshape(forces.shape), np.sqrt(variance.clip(0.0)).reshape(forces.shape)


class VmcCalculator(Calculator):
    """ASE calculator; ``results`` also holds ``energy_error`` and ``forces_error``.

    Args:
        label: from atoms to a label; None takes that of ``VmcLabeler()``.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]  # type: ignore[misc]

    def __init__(self, label: Callable[[Atoms], VmcLabel] | None = None) -> None:
        super().__init__()
        self._label = label or VmcLabeler().label

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Solve the geometry of ``atoms``."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        label = self._label(self.atoms)
        self.results = {
            "energy": label.energy,
            "energy_error": label.energy_error,
            "forces": label.forces,
            "forces_error": label.forces_error,
        }
