"""One reader of structures, which names what it cannot honour."""

import re
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ase.io
import ase.io.formats
import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from ase.data import atomic_numbers

from ..errors import InputError
from ..inputs import check_file_size, opened
from .reading import format_of
from .xyz import iterate_xyz

_TYPES_ALONE = ("lammps-data", "lammps-dump-text", "lammps-dump-binary")
VELOCITIES = ("velocities", "vel", "velo", "velocity")
"""Names of velocity columns, whose unit no file says."""

_USED = ("numbers", "positions", "momenta", "masses", "id", "type", *VELOCITIES)


@dataclass(frozen=True)
class StructureKeys:
    """How a structure is to be read.

    Attributes:
        format: of the file; by default what its content shows.
        species: chemical symbols of types 1, 2, ...
    """

    format: str | None = None
    species: tuple[str, ...] = ()


DEFAULT = StructureKeys()


def read_structure(path: Path, frame: int = -1, keys: StructureKeys = DEFAULT) -> Atoms:
    """Read one frame of a file.

    Raises:
        InputError: it cannot be read, has no such frame, or holds what is no structure of
            whole atoms of known elements.
    """
    found = _read(path, frame, keys)
    if not found:
        raise InputError(f"{path}: structure.frame: there is no frame {frame}")
    return _whole(found[0], path, keys)


def read_structures(path: Path, keys: StructureKeys = DEFAULT) -> list[Atoms]:
    """Read all structures of a file.

    Raises:
        InputError: as of :func:`read_structure`, or there are none.
    """
    found = _read(path, None, keys)
    if not found:
        raise InputError(f"{path}: holds no structures")
    return [_whole(atoms, path, keys) for atoms in found]


def _read(path: Path, frame: int | None, keys: StructureKeys) -> list[Atoms]:
    """Return all frames, or the one that is asked for; none where there is none."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    check_file_size(path)
    form = keys.format or format_of(path)
    if form not in ase.io.formats.ioformats:
        raise InputError(
            f"{path}: format {form} is no format of structures; allowed are extxyz, vasp, "
            "cif, lammps-data, lammps-dump-text, and the others of ASE"
        )
    if form in ("extxyz", "xyz"):
        return _chosen(iterate_xyz(path), frame)
    index: Any = ":" if frame is None else frame
    options = _lammps(path, form, keys) if form in _TYPES_ALONE else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ase.io.read(path, index=index, format=form, **options)
    except (IndexError, StopIteration) as error:
        if frame in (0, -1, None):
            raise InputError(f"{path}: cannot be read as {form}: it ends early") from error
        return []
    except Exception as error:
        # readers raise anything at all; whatever it is, the file is not readable
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} frame {frame}: cannot be read as {form}: {reason}"
        ) from error
    return [found] if isinstance(found, Atoms) else list(found)


def _chosen(frames: Any, frame: int | None) -> list[Atoms]:
    if frame is None:
        return list(frames)
    if frame >= 0:
        return list(islice(frames, frame, frame + 1))
    last = deque(frames, maxlen=-frame)
    return [last[0]] if len(last) == -frame else []


def _lammps(path: Path, form: str, keys: StructureKeys) -> dict[str, Any]:
    """Return what the readers of LAMMPS files must know.

    Raises:
        InputError: the file has types alone, and no key says of which species.
    """
    with opened(path) as file:
        head = file.read(1 << 16).decode("latin-1")
    _check_count(path, head)
    options: dict[str, Any] = {}
    unit = re.search(r"units = (\w+)|ITEM: UNITS\s+(\w+)", head)
    if unit:
        options["units"] = unit.group(1) or unit.group(2)
    for symbol in keys.species:
        _known(symbol, f"{path}: species")
    if form == "lammps-data":
        if keys.species:
            numbers = [atomic_numbers[symbol] for symbol in keys.species]
            options["Z_of_type"] = dict(enumerate(numbers, start=1))
        elif not re.search(r"^\s*(Masses|Atom Type Labels)", head, re.MULTILINE):
            raise InputError(
                f"{path}: numbers of types alone; say which elements they are with species"
            )
        return options
    columns = re.search(r"ITEM: ATOMS (.*)", head)
    names = columns.group(1).split() if columns else []
    if not keys.species and not {"element", "mass"} & set(names):
        raise InputError(
            f"{path}: numbers of types alone; say which elements they are with species"
        )
    if "element" not in names:
        options["specorder"] = list(keys.species) or None
    return options


def _check_count(path: Path, head: str) -> None:
    """Refuse a file that announces more atoms than it has bytes: ASE would count on."""
    size = path.stat().st_size * 100  # packed text, too
    for count in re.findall(r"NUMBER OF ATOMS\s+(\S+)|^\s*(\d+)\s+atoms", head, re.M):
        number = next(filter(None, count))
        if not number.isdecimal() or not 0 < int(number) <= size:
            raise InputError(f"{path}: announces {number[:40]} atoms")


def _known(symbol: str, where: str) -> None:
    if atomic_numbers.get(symbol, 0) == 0:
        raise InputError(f"{where}: unknown element {symbol!r}")


def _whole(atoms: Atoms, path: Path, keys: StructureKeys) -> Atoms:
    """Refuse atoms of no element, and sites that are occupied in part."""
    for number, symbol in enumerate(atoms.get_chemical_symbols()):
        _known(symbol, f"{path}: atom {number}")
    occupied = atoms.info.get("occupancy")
    if isinstance(occupied, dict):
        for site, shares in occupied.items():
            if not _by_one(shares):
                raise InputError(
                    f"{path}: site {site} is occupied in part ({shares}); a structure of "
                    "whole atoms is needed"
                )
    return atoms


def _by_one(shares: Any) -> bool:
    """Tell whether a site is occupied by one element, wholly; anything may stand there."""
    if not isinstance(shares, dict) or len(shares) != 1:
        return False
    (share,) = shares.values()
    return isinstance(share, int | float) and abs(share - 1) <= 1e-6


@dataclass(frozen=True)
class Extras:
    """What a structure holds apart from atoms in a cell.

    Attributes:
        fixed: numbers of the atoms that do not move.
        partly: sentence about constraints that cannot be honoured, or empty.
        velocities: name of a column of velocities without a unit, or None.
        unused: names of columns that a run has no use for.
    """

    fixed: tuple[int, ...] = ()
    partly: str = ""
    velocities: str | None = None
    unused: Sequence[str] = ()
    momenta: bool = field(default=False)


def extras(atoms: Atoms) -> Extras:
    """Return what a structure holds apart from atoms in a cell."""
    fixed: set[int] = set()
    partly = ""
    for constraint in atoms.constraints:
        indices = np.atleast_1d(getattr(constraint, "index", [])).tolist()
        mask = np.atleast_1d(getattr(constraint, "mask", True))
        whole = isinstance(constraint, FixAtoms) or (
            isinstance(constraint, FixScaled | FixCartesian) and bool(mask.all())
        )
        if whole:
            fixed |= set(indices)
        elif not isinstance(constraint, FixScaled | FixCartesian) or mask.any():
            kind = type(constraint).__name__
            partly = f"{kind} of atoms {indices[:3]}, fixed along some axes only"
    columns = [name for name in VELOCITIES if name in atoms.arrays]
    unused = sorted(set(atoms.arrays) - set(_USED))
    return Extras(
        tuple(sorted(fixed)), partly, columns[0] if columns else None, unused,
        atoms.has("momenta"),
    )  # fmt: skip


SPEEDS: Mapping[str, float] = MappingProxyType(
    {"angstrom/fs": 1.0, "angstrom/ps": 1e-3, "nm/ps": 1e-2}
)
"""Size of units of velocity in angstrom/fs."""


def set_velocities(atoms: Atoms, column: str, unit: str) -> None:
    """Give atoms the velocities of a column in a unit of :data:`SPEEDS`."""
    from ase import units

    atoms.set_velocities(atoms.arrays[column] * (SPEEDS[unit] / units.fs))


__all__ = [
    "SPEEDS",
    "StructureKeys",
    "extras",
    "read_structure",
    "read_structures",
    "set_velocities",
]
