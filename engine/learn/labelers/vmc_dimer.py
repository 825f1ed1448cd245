r"""Interaction energies of two helium atoms by variational Monte Carlo.

    V(r) = E(r) - E(far)

with one form of neural wavefunction for both: far apart it is optimised from Hartree-Fock
orbitals, and every separation starts from there, with the electrons moved along with the
nuclei. Where the walkers of one geometry also serve the other the difference is taken by
correlated sampling (:mod:`....vmc.differences`), unless the two frozen energies, drawn
apart, have the smaller error.

No wavefunction is exact, so both energies lie above the truth, by about a common factor
times the variance of the local energy. Far apart the excess is known, as that energy is
twice the atom's. It is taken off at both ends,

    V = E(r) - E(far) - k (s^2(r) - s^2(far)),    k = (E(far) - 2 E_atom) / s^2(far),

and the label carries what that rests on as a *common* error: the larger of half of the
excess far apart and of the correction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import safetensors
import safetensors.torch
import torch
from annotated_types import Ge

from ....models.parts import part
from ....models.potentials.pair import PairLabel
from ...errors import DamagedFileError
from ...rundir import write_atomically
from ...units import BOHR_ANGSTROM
from ..label_store import fingerprint, identity, workplace
from . import absent
from .dimer import BOLTZMANN_HARTREE

if TYPE_CHECKING:
    from ...vmc.hamiltonian import Molecule
    from ...vmc.solve import Solution, Solver

FAR = 10.0
"""Bohr: two atoms of helium attract each other by 2 microhartree there."""
"""Bohr: two atoms of helium attract each other by 2 microhartree there."""


@dataclass(frozen=True)
class _Energy:
    """What a solved geometry says; hartree."""

    solution: "Solution"
    energy: float
    error: float
    variance: float


@part
class VmcDimerLabeler:
    """Interaction energy of two helium atoms by variational Monte Carlo."""

    symbol: Literal["He"] = "He"
    """Element; more electrons are not solved to a fraction of a millihartree."""
    walkers: Annotated[int, Ge(64)] = 512
    """Walkers."""
    first_iterations: Annotated[int, Ge(1)] = 1500
    """Optimiser iterations far apart."""
    iterations: Annotated[int, Ge(1)] = 300
    """Of every separation, which starts from there."""
    sweeps: Annotated[int, Ge(10)] = 600
    """Of the frozen wavefunctions, from which energies follow."""
    seed: Annotated[int, Ge(0)] = 1
    """Of all random numbers."""
    kind: Literal["vmc_dimer"] = "vmc_dimer"

    def missing(self) -> str:
        """Return how to install PySCF, whose orbitals start the wavefunction."""
        return absent("pyscf", "label")

    def label(self, separation: float) -> PairLabel:
        """Return V and its errors at a separation in angstrom, in kelvin.

        Raises:
            GuardError: the optimisation became non-finite.
            DamagedFileError: the solution far apart is not what was kept.
        """
        here = self._solved(float(separation) / BOHR_ANGSTROM, [self._far.solution])
        value, error = self._above(here)
        step, excess = self._steps(here)
        common = {"wavefunction": max(0.5 * abs(excess), abs(step)) / BOLTZMANN_HARTREE}
        return PairLabel(
            float(separation), (value - step) / BOLTZMANN_HARTREE,
            error / BOLTZMANN_HARTREE, common, "variational Monte Carlo",
        )  # fmt: skip

    def _above(self, here: _Energy) -> tuple[float, float]:
        """Return how far an energy lies above that far apart, and the statistical error."""
        far = self._far
        apart = here.energy - far.energy, math.hypot(here.error, far.error)
        found = self._solver.difference(here.solution, far.solution)
        return (-found.value, found.error) if found.error < apart[1] else apart

    def _steps(self, here: _Energy) -> tuple[float, float]:
        """Return what the wavefunctions lack: of the difference, and far apart alone."""
        from ...vmc.references import ATOMS

        far = self._far
        excess = far.energy - 2 * ATOMS[self.symbol][0]
        return excess * (here.variance / far.variance - 1), excess

    @cached_property
    def _solver(self) -> "Solver":
        from ...vmc.labeler import default_solver

        own = {
            name: getattr(self, name)
            for name in ("walkers", "first_iterations", "iterations", "sweeps", "seed")
        }
        return replace(default_solver(), forces=False, **own)

    @cached_property
    def _far(self) -> _Energy:
        """The atoms far apart: as they were kept in the workplace, or solved and kept."""
        from ...vmc.solve import Solution

        name = fingerprint({}, identity(self))[:12]
        file = workplace() / f"far_{name}.safetensors"
        if not file.is_file():
            _keep(self._solved(FAR, []), file)
        try:
            kept = safetensors.torch.load_file(file)
        except (OSError, safetensors.SafetensorError) as error:
            raise DamagedFileError(f"{file}: damaged; delete it and resume") from error
        numbers = kept.pop("numbers").tolist()
        return _Energy(Solution(_molecule(self.symbol, FAR), **kept), *numbers)

    def _solved(self, bohr: float, known: Sequence["Solution"]) -> _Energy:
        solution, found = self._solver.solve(_molecule(self.symbol, bohr), known)
        return _Energy(solution, found.energy, found.error, found.variance)


def _molecule(symbol: str, bohr: float) -> "Molecule":
    from ...vmc.hamiltonian import molecule

    return molecule([symbol] * 2, [[0.0, 0.0, -bohr / 2], [0.0, 0.0, bohr / 2]])


def _keep(found: _Energy, file: Path) -> None:
    """Write a solved geometry, whole or not at all."""
    solution = found.solution
    numbers = [found.energy, found.error, found.variance]
    tensors = {
        "parameters": solution.parameters,
        "walkers": solution.walkers,
        "width": solution.width,
        "numbers": torch.tensor(numbers, dtype=torch.float64),
    }
    write_atomically(file, lambda part: safetensors.torch.save_file(tensors, part))


__all__ = ["VmcDimerLabeler"]
