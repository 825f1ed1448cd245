"""Relaxing structures through ASE's optimisers, and elastic constants of the relaxed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE
from ase.optimize.optimize import Optimizer

from ..errors import GuardError
from ..md.potential import Potential
from ..protocols import Check, Figure, Outcome
from ..rundir import write_array
from ..units import EV_PER_A3_GPA
from .ase import PotentialCalculator

VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
"""Order of strains and stresses, that of ASE."""


def relax(
    atoms: Atoms,
    potential: Potential,
    cell: bool = False,
    force: float = 1e-4,
    steps: int = 500,
    optimiser: type[Optimizer] = BFGS,
) -> Atoms:
    """Return a copy at the nearest minimum of the energy.

    Args:
        atoms: a structure.
        potential: what acts.
        cell: relax the cell, too, to zero stress.
        force: largest force (and, with ``cell``, stress times volume over atoms) left,
            eV/angstrom.
        steps: of the optimiser, at most.
        optimiser: of ASE.

    Raises:
        GuardError: not converged within ``steps``.
    """
    found = atoms.copy()
    found.calc = PotentialCalculator(potential)
    what: Any = FrechetCellFilter(found) if cell else found
    if not optimiser(what, logfile=None).run(fmax=force, steps=steps):
        raise GuardError(
            f"relaxation: a force above {force:g} eV/angstrom is left after {steps} steps",
            steps,
            None,
        )
    return found


def elastic_constants(
    atoms: Atoms, potential: Potential, strain: float = 0.004, force: float = 1e-4
) -> tuple[np.ndarray, np.ndarray]:
    """Return C_ij ``[6, 6]`` in GPa of a relaxed crystal, and with atoms held in place.

    sigma_i = C_ij epsilon_j by central differences: the cell is strained by +- ``strain``
    in each Voigt component (shears: gamma = 2 epsilon), the atoms relax within it, the
    stress is measured. The second matrix leaves out that relaxation.

    Args:
        atoms: free of stress.
        potential: what acts.
        strain: size of the deformation.
        force: left by the relaxation, eV/angstrom.
    """
    relaxed, clamped = np.zeros((6, 6)), np.zeros((6, 6))
    for j in range(6):
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.set_cell(
                moved.cell.array @ deformation(j, sign * strain), scale_atoms=True
            )
            moved.calc = PotentialCalculator(potential)
            factor = sign * EV_PER_A3_GPA / (2 * strain)
            clamped[:, j] += factor * moved.get_stress(voigt=True)
            still = relax(moved, potential, force=force, optimiser=FIRE)
            relaxed[:, j] += factor * still.get_stress(voigt=True)
    return 0.5 * (relaxed + relaxed.T), 0.5 * (clamped + clamped.T)


def deformation(component: int, size: float) -> np.ndarray:
    """Return the symmetric 1 + strain of a Voigt component; shears: gamma = ``size``."""
    frame = np.eye(3)
    a, b = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))[component]
    if a == b:
        frame[a, a] += size
    else:
        frame[a, b] += 0.5 * size
        frame[b, a] += 0.5 * size
    return frame


def cubic(constants: np.ndarray) -> dict[str, float]:
    """Return C11, C12, C44 of a cubic crystal (means over equivalent ones) and B, GPa."""
    c11 = float(np.diag(constants)[:3].mean())
    c12 = float(constants[[0, 0, 1], [1, 2, 2]].mean())
    c44 = float(np.diag(constants)[3:].mean())
    return {"C11": c11, "C12": c12, "C44": c44, "bulk_modulus": (c11 + 2 * c12) / 3}


LATTICE = 0.1
"""A lattice constant may be off by this part of what elastic constants may."""


def expected_checks(
    found: Mapping[str, float], expected: Mapping[str, float], agreement: float
) -> Iterator[Check]:
    """Yield the relative distance of each property from what is expected of it.

    Args:
        found: name -> value.
        expected: name -> value; names that were not found are left out.
        agreement: relative distance that passes; a tenth of it for the lattice constant.
    """
    for name, value in expected.items():
        if name not in found or value == 0:
            continue
        off = abs(found[name] / value - 1)
        allowed = agreement * (LATTICE if name == "lattice_constant" else 1.0)
        note = f"{found[name]:.4g}, expected {value:g}"
        yield Check(f"expected_{name}", "accuracy", off, allowed, note=note)


@dataclass(frozen=True)
class ElasticJob:
    """Relaxes a cubic crystal with its cell and measures its elastic constants.

    Attributes:
        atoms: the crystal.
        cells: conventional cells along an edge.
        potential: what acts.
        strain: size of the deformations.
        expected: name -> value in GPa or angstrom that the results are compared with.
        agreement: relative distance from these that passes.
    """

    atoms: Atoms
    cells: int
    potential: Potential
    strain: float
    expected: Mapping[Any, float]
    agreement: float = 0.1

    def run(self, folder: Any, report: Any) -> Outcome:
        """Do it all; seconds, so there are no checkpoints."""
        crystal = relax(self.atoms, self.potential, cell=True)
        edge = float(crystal.cell.lengths().mean()) / self.cells
        report.say(f"relaxed: lattice constant {edge:.4f} angstrom")
        relaxed, clamped = elastic_constants(crystal, self.potential, self.strain)
        figures = {
            "lattice_constant": self._figure("lattice_constant", edge, "angstrom"),
            "energy": Figure(
                float(crystal.get_potential_energy()) / len(crystal), "eV/atom"
            ),
        }
        for name, value in cubic(relaxed).items():
            figures[name] = self._figure(name, value, "GPa")
        figures["C44_unrelaxed"] = Figure(cubic(clamped)["C44"], "GPa")
        group = folder.store.require_group("elastic")
        group.attrs.update({"plot": "matrix", "title": "elastic constants"})
        for name, matrix in (("constants", relaxed), ("constants_unrelaxed", clamped)):
            write_array(group, name, matrix, "GPa", "stress over strain", labels=VOIGT)
        softest = float(np.linalg.eigvalsh(relaxed).min())
        stable = Check(
            "stability", "health", softest, 0.0, at_least=True, unit="GPa",
            note="least eigenvalue of C: a strain lowers the energy",
        )  # fmt: skip
        found = {name: figure.value for name, figure in figures.items()}
        checks = [stable, *expected_checks(found, self.expected, self.agreement)]
        return Outcome(figures, checks)

    def _figure(self, name: str, value: float, unit: str) -> Figure:
        known = self.expected.get(name)
        note = "" if known is None else f"expected {known:g}"
        return Figure(value, unit, note=note)
