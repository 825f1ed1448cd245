"""Calculators of ASE with a planted defect, each of the smallest size that matters.

A force is wrong by a thousandth, an energy jumps by 1e-4 eV, a cell is misread: what
happens to codes whose neighbour lists, caches and unit conversions somebody has written.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import primitive_neighbor_list

from ..interop.ase import PotentialCalculator
from ..md.classical import StillingerWeber

Results = dict[str, Any]
Change = Callable[[Atoms, Results, "Planted"], Results | None]

SMALL = 1e-3
"""Relative error of a force."""

STEP = 1e-4
"""Jump of an energy, eV."""

RANGE = 5.0
"""Of the pairs that some defects act on, angstrom."""


class Planted(Calculator):
    """A sound calculator whose results are changed.

    Args:
        change: from atoms, results and this calculator to the results that are told; it
            may change them in place and return None.
        seen: from the atoms that are asked for to those that are computed.
        base: the sound calculator.
    """

    implemented_properties: ClassVar = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self,
        change: Change = lambda atoms, results, planted: results,
        seen: Callable[[Atoms], Atoms] = lambda atoms: atoms,
        base: Calculator | None = None,
    ) -> None:
        super().__init__()
        self.base = base or PotentialCalculator(StillingerWeber())
        self.change, self.seen, self.calls = change, seen, 0
        self.rng = np.random.default_rng(3)
        self.last: Results | None = None

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = ()
    ) -> None:
        """Evaluate and change; called by ASE."""
        super().calculate(atoms, list(properties), list(system_changes or all_changes))
        self.calls += 1
        given: Any = self.atoms
        asked = self.seen(given.copy())
        asked.calc = self.base
        found: Results = {
            "energy": asked.get_potential_energy(),
            "forces": asked.get_forces().copy(),
        }
        if asked.pbc.all():
            found["stress"] = asked.get_stress().copy()
        told = self.change(given, found, self)
        self.results = found if told is None else told
        self.results["free_energy"] = self.results["energy"]


def pairs(atoms: Atoms, reach: float = RANGE) -> tuple[np.ndarray, ...]:
    """Return i, j, distance, vector and shift of all pairs within reach."""
    return primitive_neighbor_list(
        "ijdDS", atoms.pbc, atoms.cell.array, atoms.positions, reach
    )


def pair_forces(
    atoms: Atoms, reach: float = RANGE, chosen: Any = slice(None), cut: float = math.inf
) -> np.ndarray:
    """Return forces of ``u = (1 - d/reach)^3`` eV of chosen pairs up to ``cut``."""
    i, _, d, vector, shift = pairs(atoms, reach)
    slope = -3 * (1 - d / reach) ** 2 / reach * (d < cut)
    use = np.ones(len(i), bool) if isinstance(chosen, slice) else chosen(shift)
    each = (slope / d)[:, None] * vector * use[:, None]
    return np.stack([np.bincount(i, each[:, k], len(atoms)) for k in range(3)], 1)


def pair_energy(atoms: Atoms, reach: float = RANGE) -> float:
    """Return the energy of the same pairs."""
    d = pairs(atoms, reach)[2]
    return 0.5 * float(((1 - d / reach) ** 3).sum())


def nearest_image_energy(atoms: Atoms, reach: float = RANGE) -> tuple[float, np.ndarray]:
    """Return energy and forces of the same pairs, of nearest images alone."""
    vector = atoms.positions - atoms.positions[:, None]
    if atoms.pbc.any():
        part = vector @ np.linalg.inv(atoms.cell.array)
        vector = (part - np.round(part)) @ atoms.cell.array
    d = np.linalg.norm(vector, axis=-1) + 2 * reach * np.eye(len(atoms))
    near = d < reach
    energy = 0.5 * float((np.where(near, 1 - d / reach, 0) ** 3).sum())
    slope = -3 * np.where(near, 1 - d / reach, 0) ** 2 / reach
    return energy, ((slope / d)[..., None] * vector).sum(1)


def _size(results: Results) -> float:
    return float(np.sqrt((results["forces"] ** 2).mean()))


def _forces(factor: Callable[[Atoms, "Planted"], Any]) -> Change:
    def change(atoms: Atoms, results: Results, planted: Planted) -> None:
        results["forces"] = results["forces"] * (1 + SMALL * factor(atoms, planted))

    return change


def _add(forces: Callable[[Atoms, Results, "Planted"], Any]) -> Change:
    def change(atoms: Atoms, results: Results, planted: Planted) -> None:
        results["forces"] = results["forces"] + forces(atoms, results, planted)

    return change


def _energy(more: Callable[[Atoms, Results, "Planted"], float]) -> Change:
    def change(atoms: Atoms, results: Results, planted: Planted) -> None:
        results["energy"] = results["energy"] + more(atoms, results, planted)

    return change


def _nan(when: Callable[[Atoms], bool], what: str = "forces") -> Change:
    def change(atoms: Atoms, results: Results, planted: Planted) -> None:
        if when(atoms):
            results[what] = results[what] * math.nan

    return change


def _stress(how: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(atoms: Atoms, results: Results, planted: Planted) -> None:
        if "stress" in results:
            results["stress"] = how(results["stress"])

    return change


def _stale(atoms: Atoms, results: Results, planted: Planted) -> Results:
    """Keep the last result while atoms have moved less than 0.02 angstrom."""
    last = planted.last
    if last is not None and len(last["positions"]) == len(atoms):
        moved = np.abs(last["positions"] - atoms.positions).max()
        if moved < 0.02 and np.array_equal(last["cell"], atoms.cell.array):
            return {k: v for k, v in last.items() if k not in ("positions", "cell")}
    planted.last = {
        **results,
        "positions": atoms.positions.copy(),
        "cell": atoms.cell.array,
    }
    return results


def _upright(atoms: Atoms) -> Atoms:
    """Take the cell for a right-angled one."""
    if atoms.pbc.all():
        atoms.set_cell(np.diag(np.linalg.norm(atoms.cell.array, axis=1)))
    return atoms


def _unwrapped(atoms: Atoms) -> bool:
    if not atoms.pbc.all():
        return False
    part = atoms.positions @ np.linalg.inv(atoms.cell.array)
    return bool(np.any(np.abs(part - 0.5) > 0.75))


def _oblique(atoms: Atoms) -> bool:
    cell = atoms.cell.array
    return bool(np.abs(cell - np.diag(np.diag(cell))).max() > 1e-6)


def _face(atoms: Atoms) -> np.ndarray:
    """Return 1 for atoms within 5 % of a face."""
    if not atoms.pbc.all():
        return np.zeros((len(atoms), 1))
    part = atoms.positions @ np.linalg.inv(atoms.cell.array)
    return (np.abs(part - np.round(part)).min(1) < 0.05)[:, None].astype(float)


def _elongated(atoms: Atoms) -> float:
    lengths = atoms.cell.lengths() if atoms.pbc.all() else np.ones(3)
    return float(lengths.max() > 2.9 * lengths.min())


def _across(shift: np.ndarray) -> np.ndarray:
    return (shift != 0).any(1)


def _within(atoms: Atoms, reach: float) -> int:
    return len(pairs(atoms, reach)[0]) // 2


def _chiral(atoms: Atoms) -> float:
    """Return a sum of signed volumes of three neighbours, smooth at their range."""
    i, _, d, vector, _ = pairs(atoms, 3.5)
    total = 0.0
    for atom in range(min(len(atoms), 4)):
        mine = np.flatnonzero(i == atom)
        fade = (1 - d[mine] / 3.5) ** 3
        for a, b, c in itertools.combinations(range(len(mine)), 3):
            order = np.argsort(d[mine[[a, b, c]]])
            rows = vector[mine[[a, b, c]]][order]
            total += float(np.linalg.det(rows)) * fade[a] * fade[b] * fade[c]
    return total


def _truncated(atoms: Atoms, results: Results, planted: Planted) -> None:
    """A pair term whose force ends 7 % before its energy."""
    results["energy"] += pair_energy(atoms)
    results["forces"] += pair_forces(atoms, cut=0.93 * RANGE)
    results.pop("stress", None)


def _nearest_images(atoms: Atoms, results: Results, planted: Planted) -> None:
    energy, forces = nearest_image_energy(atoms)
    results["energy"] += energy
    results["forces"] += forces
    results.pop("stress", None)


def _hole(atoms: Atoms, results: Results, planted: Planted) -> None:
    """The pair energy falls by 20 eV below 1.5 angstrom."""
    i, _, d, vector, _ = pairs(atoms, 1.5)
    results["energy"] -= 0.5 * 20e3 * float(((1 - d / 1.5) ** 3).sum())
    slope = 3 * 20e3 * (1 - d / 1.5) ** 2 / 1.5
    each = -(slope / d)[:, None] * vector
    results["forces"] -= np.stack(
        [np.bincount(i, each[:, k], len(atoms)) for k in range(3)], 1
    )


def _mean_field(atoms: Atoms, results: Results, planted: Planted) -> None:
    energy = results["energy"]
    results["energy"] = energy + 1e-6 * energy**2
    results["forces"] = results["forces"] * (1 + 2e-6 * energy)
    results.pop("stress", None)


def _half_precision(atoms: Atoms, results: Results, planted: Planted) -> None:
    results["forces"] = results["forces"].astype(np.float16).astype(float)


def _reversed(atoms: Atoms, results: Results, planted: Planted) -> None:
    results["energy"], results["forces"] = -results["energy"], -results["forces"]
    results.pop("stress", None)


def _stretched(factor: float) -> Callable[[Atoms], Atoms]:
    def seen(atoms: Atoms) -> Atoms:
        atoms.positions *= factor
        atoms.set_cell(factor * atoms.cell.array)
        return atoms

    return seen


def _torque(atoms: Atoms, results: Results, planted: Planted) -> np.ndarray:
    centred = atoms.positions - atoms.positions.mean(0)
    return SMALL * _size(results) * np.cross([0.0, 0.0, 1.0], centred)


def _axes(atoms: Atoms, results: Results, planted: Planted) -> float:
    """Return an energy of bonds that prefer the axes of the laboratory."""
    _, _, d, vector, _ = pairs(atoms, 3.5)
    share = (vector**4).sum(1) / d**4
    return SMALL * 0.5 * float((share * (1 - d / 3.5) ** 3).sum())


CHANGES: Mapping[str, Change] = {
    "forces a thousandth too large": _forces(lambda a, p: 1.0),
    "forces along x a thousandth too large": _forces(lambda a, p: np.array([1.0, 0, 0])),
    "force of the first atom": _forces(lambda a, p: np.arange(len(a))[:, None] == 0),
    "forces weighted by atom number": _forces(lambda a, p: np.arange(len(a))[:, None] % 2),
    "forces of atoms at faces": _forces(lambda a, p: _face(a)),
    "forces in long cells": _forces(lambda a, p: _elongated(a)),
    "forces in oblique cells": _forces(lambda a, p: float(a.pbc.all() and _oblique(a))),
    "forces above 200 atoms": _forces(lambda a, p: float(len(a) > 200)),
    "forces of two threads": _forces(lambda a, p: float(torch.get_num_threads() == 2)),
    "forces of every other call": _forces(lambda a, p: float(p.calls % 2)),
    "random forces": _forces(lambda a, p: p.rng.normal(size=(len(a), 3))),
    "forces of pairs across a face": _add(
        lambda a, r, p: SMALL * pair_forces(a, chosen=_across)
    ),
    "a force that adds up": _add(lambda a, r, p: SMALL * _size(r) * np.array([0, 0, 1.0])),
    "a torque": _add(_torque),
    "forces squared": _add(lambda a, r, p: SMALL * r["forces"] ** 2),
    "forces in half precision": _half_precision,
    "force cutoff 7 % short": _truncated,
    "an old result is told": _stale,
    "NaN above 200 atoms": _nan(lambda a: len(a) > 200),
    "NaN in oblique cells": _nan(lambda a: bool(a.pbc.all()) and _oblique(a)),
    "NaN outside the cell": _nan(_unwrapped),
    "NaN energy of small cells": _nan(
        lambda a: bool(a.pbc.all()) and len(a) < 16, "energy"
    ),
    "NaN energy of two atoms": _nan(lambda a: len(a) == 2, "energy"),
    "energy jumps with a pair": _energy(lambda a, r, p: STEP * _within(a, 3.0)),
    "energy jumps at a range": _energy(lambda a, r, p: STEP * _within(a, 4.5)),
    "random energy": _energy(lambda a, r, p: STEP * p.rng.normal()),
    "energy counts calls": _energy(lambda a, r, p: 1e-6 * p.calls),
    "energy below the origin": _energy(lambda a, r, p: STEP * (a.positions < 0).sum()),
    "energy in a field": _energy(lambda a, r, p: SMALL * np.sin(a.positions[:, 0]).sum()),
    "energy of a hand": _energy(lambda a, r, p: SMALL * _chiral(a)),
    "energy of the axes": _energy(_axes),
    "energy of atoms squared": _energy(lambda a, r, p: 1e-5 * len(a) ** 2),
    "a mean field": _mean_field,
    "nearest images alone": _nearest_images,
    "a hole at short distance": _hole,
    "energy with its sign changed": _reversed,
    "stress a thousandth too large": _stress(lambda s: (1 + SMALL) * s),
    "half the stress": _stress(lambda s: 0.5 * s),
    "shears in another order": _stress(lambda s: s[[0, 1, 2, 5, 4, 3]]),
    "stress without its trace": _stress(lambda s: s - np.r_[[s[:3].mean()] * 3, 0, 0, 0]),
}
"""Defects that change results."""

SEEN: Mapping[str, Callable[[Atoms], Atoms]] = {
    "the cell taken for upright": _upright,
    "lengths 8 % too short": _stretched(0.92),
}
"""Defects that change what is computed."""


def foreign_faults() -> dict[str, Planted]:
    """Return every calculator with a planted defect, by the defect's name."""
    changed = {name: Planted(change) for name, change in CHANGES.items()}
    return changed | {name: Planted(seen=seen) for name, seen in SEEN.items()}


def structure() -> Atoms:
    """Return the crystal on which they are audited."""
    return bulk("Si", cubic=True).repeat((2, 2, 2))


__all__ = ["Planted", "foreign_faults", "structure"]
