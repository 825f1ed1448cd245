r"""Interaction energies of two helium atoms by variational Monte Carlo.

    V(r) = [E(r) - E(home)] + E(home) - 2 E_atom - k s^2(r)

A neural wavefunction is optimised from Hartree-Fock orbitals at one separation, ``home``,
and its energy measured at length. Every further separation starts from there, its electrons
moved along with the nuclei, and the difference is taken by correlated sampling
(:mod:`....vmc.differences`), in which most of the noise cancels; where the walkers of one
geometry do not serve the other, both energies are drawn apart. Atoms far apart would be
sampled badly, as no electron finds its way between them; twice the exact energy of the atom
stands for them.

No wavefunction is exact: its energy lies above the truth by about a common factor k times
the variance s^2 of its local energy, which is taken off. The factor is known to half of
itself (:data:`EXCESS`); what that leaves open, and the noise of ``E(home)``, move all
labels together and stand in them as *common* errors.
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
from ...runtime import one_thread
from ...units import BOHR_ANGSTROM
from ..label_store import fingerprint, identity, workplace
from . import absent
from .dimer import BOLTZMANN_HARTREE

if TYPE_CHECKING:
    from ...vmc.hamiltonian import Molecule
    from ...vmc.solve import Solution, Solver

HOME = 3.0
"""Bohr: the separation from which all others start."""
EXCESS = 0.11
"""Energy above the exact one over the variance of the local energy, per hartree, of this
wavefunction: .13 and .11 of lithium hydride at variances of .0059 and .0033 hartree^2."""


@dataclass(frozen=True)
class _Energy:
    """What a solved geometry says; hartree.

    Attributes:
        solution: the wavefunction and its walkers.
        energy: of the molecule.
        error: its own standard error.
        variance: of the local energy.
        reference: the error that it shares with all others that go by home.
    """

    solution: "Solution"
    energy: float
    error: float
    variance: float
    reference: float = 0.0


@part
class VmcDimerLabeler:
    """Interaction energy of two helium atoms by variational Monte Carlo."""

    symbol: Literal["He"] = "He"
    """Element; more electrons are not solved to a fraction of a millihartree."""
    walkers: Annotated[int, Ge(64)] = 512
    """Walkers."""
    first_iterations: Annotated[int, Ge(1)] = 1500
    """Optimiser iterations at 3 bohr."""
    iterations: Annotated[int, Ge(1)] = 200
    """Of every other separation, which starts from there."""
    first_sweeps: Annotated[int, Ge(10)] = 1000
    """Of the frozen wavefunction at 3 bohr, whose noise all labels have in common."""
    sweeps: Annotated[int, Ge(10)] = 150
    """Of every other separation, and of its difference from there."""
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
            DamagedFileError: the solution at 3 bohr is not what was kept.
        """
        from ...vmc.references import ATOMS

        bohr = float(separation) / BOHR_ANGSTROM
        with one_thread():  # labels do not hang on how many a machine has
            here = self._found(bohr)
        excess = EXCESS * here.variance
        energy = here.energy - 2 * ATOMS[self.symbol][0] - excess
        common = {"reference": here.reference, "wavefunction": 0.5 * excess}
        unit = 1 / BOLTZMANN_HARTREE
        return PairLabel(
            float(separation), energy * unit, here.error * unit,
            {name: error * unit for name, error in common.items()},
            "variational Monte Carlo",
        )  # fmt: skip

    def _found(self, bohr: float) -> _Energy:
        """Return the energy by way of home, or drawn apart where that is the sharper."""
        home = self._home
        if abs(bohr - HOME) < 1e-6:
            return replace(home, error=0.0, reference=home.error)
        here = self._solved(bohr, [home.solution])
        above = self._solver.difference(home.solution, here.solution)
        if not math.hypot(above.error, home.error) < here.error:  # or no number at all
            return here
        return replace(
            here,
            energy=home.energy + above.value,
            error=above.error,
            reference=home.error,
        )

    @cached_property
    def _solver(self) -> "Solver":
        from ...vmc.labeler import default_solver

        own = {
            name: getattr(self, name)
            for name in ("walkers", "first_iterations", "iterations", "sweeps", "seed")
        }
        return replace(default_solver(), forces=False, **own)

    @cached_property
    def _home(self) -> _Energy:
        """The solution at home: as it was kept in the workplace, or solved and kept."""
        from ...vmc.solve import Solution

        name = fingerprint({}, identity(self))[:12]
        file = workplace() / f"home_{name}.safetensors"
        if not file.is_file():
            _keep(self._solved(HOME, []), file)
        try:
            kept = safetensors.torch.load_file(file)
        except (OSError, safetensors.SafetensorError) as error:
            raise DamagedFileError(f"{file}: damaged; delete it and resume") from error
        numbers = kept.pop("numbers").tolist()
        return _Energy(Solution(_molecule(self.symbol, HOME), **kept), *numbers)

    def _solved(self, bohr: float, known: Sequence["Solution"]) -> _Energy:
        """Solve a separation, from home if that is known."""
        sweeps = self.sweeps if known else self.first_sweeps
        solver = replace(self._solver, sweeps=sweeps)
        solution, found = solver.solve(_molecule(self.symbol, bohr), known)
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
