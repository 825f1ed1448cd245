"""One labelled configuration, and what is asked of every one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.cell import Cell
from ase.data import atomic_numbers
from vesin import NeighborList

from ..errors import InputError

LARGEST_FORCE = 1e6
"""eV/angstrom: more than bare silicon nuclei at 0.05 angstrom repel each other with."""

LARGEST_ENERGY = 2e6
"""eV per atom: more than all electrons of the heaviest element are bound with."""

FARTHEST = 1e7
"""Angstrom; beyond it f32 positions lose their meaning."""

DENSEST = 10.0
"""Atoms per angstrom^3: hydrogen in a star has them, nothing that has a potential."""


@dataclass(frozen=True)
class LabelledFrame:
    """One configuration with its labels.

    Attributes:
        symbols: chemical symbols, one per atom.
        positions: ``[atoms, 3]`` angstrom.
        cell: ``[3, 3]`` angstrom, lattice vectors in rows.
        periodic: ``[3]`` bool.
        energy: eV; the one whose derivative the forces are.
        forces: ``[atoms, 3]`` eV/angstrom.
        virial: ``[3, 3]`` eV, ``W = -dE/dstrain``, or None.
        group: name of the part of the set it belongs to.
        origin: file and frame, for messages.
    """

    symbols: tuple[str, ...]
    positions: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray
    energy: float
    forces: np.ndarray
    virial: np.ndarray | None = None
    group: str = ""
    origin: str = ""

    @property
    def volume(self) -> float:
        """Volume of the cell in angstrom^3."""
        return float(abs(np.linalg.det(self.cell)))


def species_of(frames: Iterable[LabelledFrame]) -> tuple[str, ...]:
    """Return the elements that occur, by atomic number."""
    found = {symbol for frame in frames for symbol in frame.symbols}
    return tuple(sorted(found, key=lambda symbol: atomic_numbers[symbol]))


def split_frames(count: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Return training and validation indices; whole frames go to one side."""
    held = round(count * fraction)
    if fraction > 0:
        held = max(held, 1)
    order = np.random.default_rng(seed).permutation(count)
    return sorted(order[held:].tolist()), sorted(order[:held].tolist())


def group_of(entries: Mapping[str, Any]) -> str:
    """Return the group that the keys of a frame name."""
    return str(entries.get("group", entries.get("config_type", "")))


def group_indices(frames: Sequence[LabelledFrame]) -> dict[str, list[int]]:
    """Return the frame numbers of every group."""
    groups: dict[str, list[int]] = {}
    for number, frame in enumerate(frames):
        groups.setdefault(frame.group, []).append(number)
    return groups


def pairs(frame: LabelledFrame, cutoff: float) -> tuple[np.ndarray, ...]:
    """Return the pairs of atoms within a distance, images included, each from both ends.

    Args:
        frame: the atoms and their cell.
        cutoff: angstrom.

    Returns:
        i, j ``[pairs]`` and the displacements from i to j ``[pairs, 3]``, angstrom.
    """
    # bins of the size of a short cutoff would be far more than atoms
    i, j, apart, far = NeighborList(cutoff=max(cutoff, 2.0), full_list=True).compute(
        frame.positions, Cell(frame.cell).complete().array, frame.periodic, "ijDd"
    )
    near = far <= cutoff
    return i[near].astype(np.int64), j[near].astype(np.int64), apart[near]


def check_frame(frame: LabelledFrame) -> LabelledFrame:
    """Refuse a frame whose numbers cannot be meant.

    Raises:
        InputError: no atoms, wrong shapes, numbers that are not finite or absurd, an
            unknown element, or a periodic cell without volume or of absurd density.
    """
    count, origin = len(frame.symbols), frame.origin
    if not count:
        raise InputError(f"{origin}: holds no atoms")
    for number, symbol in enumerate(frame.symbols):
        if not isinstance(symbol, str) or atomic_numbers.get(symbol, 0) == 0:
            raise InputError(f"{origin}, atom {number}: unknown element {symbol!r}")
    for name, largest in (("positions", FARTHEST), ("forces", LARGEST_FORCE)):
        array = getattr(frame, name)
        if array.shape != (count, 3):
            raise InputError(
                f"{origin}: {name} have shape {array.shape}, expected ({count}, 3)"
            )
        bad = np.flatnonzero(~np.isfinite(array).all(1))
        if len(bad):
            raise InputError(f"{origin}, atom {bad[0]}: {name} are not finite")
        bad = np.flatnonzero((np.abs(array) > largest).any(1))
        if len(bad):
            size = np.abs(array[bad[0]]).max()
            raise InputError(
                f"{origin}, atom {bad[0]}: {name} of {size:.3g} are absurd; at most "
                f"{largest:g} is taken"
            )
    if frame.cell.shape != (3, 3) or not np.isfinite(frame.cell).all():
        raise InputError(f"{origin}: the cell is not three finite vectors")
    _check_cell(frame)
    if not np.isfinite(frame.energy):
        raise InputError(f"{origin}: energy is {frame.energy}")
    if abs(frame.energy) > LARGEST_ENERGY * count:
        raise InputError(
            f"{origin}: an energy of {frame.energy:.3g} eV is absurd for {count} atoms"
        )
    if frame.virial is not None and (
        frame.virial.shape != (3, 3) or not np.isfinite(frame.virial).all()
    ):
        raise InputError(f"{origin}: the virial is not nine finite numbers; leave it out")
    if frame.virial is not None and not symmetric(frame.virial):
        raise InputError(f"{origin}: the virial is not symmetric")
    return frame


def symmetric(tensor: np.ndarray) -> bool:
    """Tell whether a stress or virial, in eV, is symmetric but for a part in a thousand."""
    apart = np.abs(tensor - tensor.T).max()
    return bool(apart <= 1e-3 * np.abs(tensor).max() + 1e-6)


def _check_cell(frame: LabelledFrame) -> None:
    """Refuse lattice vectors along periodic axes that span no volume."""
    vectors = frame.cell[frame.periodic]
    if not len(vectors):
        return
    lengths = np.linalg.norm(vectors, axis=1)
    if (lengths < 1e-3).any() or np.abs(frame.cell).max() > FARTHEST:
        raise InputError(f"{frame.origin}: periodic, but the cell is {frame.cell.tolist()}")
    spanned = np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0)) / lengths.prod()
    if spanned < 1e-4:
        raise InputError(f"{frame.origin}: the lattice vectors span no volume")
    if frame.periodic.all() and len(frame.symbols) > DENSEST * frame.volume:
        raise InputError(
            f"{frame.origin}: {len(frame.symbols)} atoms in {frame.volume:.3g} angstrom^3; "
            "lengths are in angstrom"
        )


__all__ = [
    "LabelledFrame",
    "check_frame",
    "group_indices",
    "group_of",
    "pairs",
    "species_of",
    "split_frames",
    "symmetric",
]
