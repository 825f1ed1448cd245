"""One reader of structures, which names what it cannot honour."""

import math
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ase.io
import ase.io.formats
import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from ase.data import atomic_masses, atomic_numbers

from ..errors import InputError
from ..inputs import check_file_size, loose_number, number_of, opened, text_lines
from .keys import LabelKeys
from .reading import check_elements, check_units, format_of, read_database
from .xyz import iterate_xyz

_TYPES_ALONE = ("lammps-data", "lammps-dump-text", "lammps-dump-binary")
VELOCITIES = ("velocities", "vel", "velo", "velocity")
"""Names of velocity columns, whose unit no file says."""

_USED = ("numbers", "positions", "momenta", "masses", "id", "type")
_SAID = ("left", "name", "notes", "keep_velocities", "occupancy", "spacegroup",
         "spacegroup_kinds", "unit_cell", "comment", "step", "time",
         "timestep")  # fmt: skip
"""Entries that readers make themselves, that are checked, or that say when and what."""

HEAVIEST = 1000.0
"""Amu; above it a mass is in another unit (that of hydrogen is 1837 electrons')."""

_NEAR = 0.3
"""Amu; how far the mass of a type may be from that of the element that it tells. Another
element must be three times as far: 40.0 is of argon or of calcium."""


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
    if keys.species and form not in _TYPES_ALONE:
        raise InputError(f"{path}: names its elements itself; species has no use here")
    if form in ("extxyz", "xyz"):
        return _chosen(iterate_xyz(path), frame)
    left = _CHECKS[form](path) if form in _CHECKS else ()
    index: Any = ":" if frame in (None, -1) else frame
    options = _lammps(path, form, keys) if form in _TYPES_ALONE else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if form == "db":  # of any name
                rows = read_database(path, form)
                found = rows if index == ":" else rows[index]
            else:
                found = ase.io.read(path, index=index, format=form, **options)
    except (IndexError, StopIteration) as error:
        if frame in (0, -1, None):
            few = f", or has more types than the {len(keys.species)} of species"
            raise InputError(
                f"{path}: cannot be read as {form}: it ends early"
                + (few if form in _TYPES_ALONE and keys.species else "")
            ) from error
        return []
    except Exception as error:
        # readers raise anything at all; whatever it is, the file is not readable
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, KeyError) and error.args:
            reason = f"{error.args[0]} is not known"
        raise InputError(
            f"{path} frame {frame}: cannot be read as {form}: {reason}"
        ) from error
    frames = [found] if isinstance(found, Atoms) else list(found)
    if frame == -1 and len(frames) > 1:
        left += (f"the last of {len(frames)} {_blocks(path, form, len(frames))} is taken",)
        frames = frames[-1:]
    for atoms in frames:
        if form == "cif" and not np.any(atoms.cell.array):
            raise InputError(f"{path}: has no cell, so its coordinates mean nothing")
        if form.startswith("lammps-dump") and keys.species:
            _typed(atoms, path, keys.species)
        if form == "lammps-data" and not keys.species:
            _check_masses(path, atoms.get_masses().tolist())
        if form in _TYPES_ALONE and "units" not in options:
            _leave_without_unit(atoms)
        elif _OF_A_STEP in left:
            atoms.arrays.pop("momenta", None)
        kept = (_VELOCITIES_UNUSED,) if atoms.has("momenta") else ()
        atoms.info["left"] = tuple(text for text in left if text not in kept)
    return frames


def _blocks(path: Path, form: str, count: int) -> str:
    """Return what the frames of a file are, by name where they have names."""
    text = "".join(text_lines(path)) if form == "cif" else ""
    names = re.findall(r"^data_(\S*)", text, re.MULTILINE)
    if len(names) != count:
        return "frames"
    named = ", ".join(f"{k} {name}" for k, name in enumerate(names))
    return f"blocks (structure.frame = {named})"


def _leave_without_unit(atoms: Atoms) -> None:
    """Leave velocities a column where the file says no unit; ASE takes angstrom/ps."""
    if atoms.has("momenta"):
        atoms.arrays["velocities"] = atoms.get_velocities() * (1e3 * units.fs)
        del atoms.arrays["momenta"]


def _chosen(frames: Iterator[Atoms], frame: int | None) -> list[Atoms]:
    if frame is None or frame >= 0:
        found = list(frames if frame is None else islice(frames, frame, frame + 1))
        for atoms in found:
            atoms.info["left"] = ()
        return found
    numbered = deque(enumerate(frames, 1), maxlen=-frame)
    if len(numbered) < -frame:
        return []
    _, atoms = numbered[0]
    count = numbered[-1][0]
    several = frame == -1 and count > 1
    atoms.info["left"] = (f"the last of {count} frames is taken",) if several else ()
    return [atoms]


# -- what ASE's readers pass over ---------------------------------------------------------


_OUTSIDE = 0.5
"""Part of a box that a scaled coordinate is out of it at most: LAMMPS wraps them."""


def _lines(path: Path, remarks: Sequence[int] = ()) -> Iterator[str]:
    """Yield the lines of a file of numbers; ``remarks`` are lines of any text.

    Raises:
        InputError: a word that Python alone takes for a number; names the line.
    """
    for number, line in enumerate(text_lines(path), 1):
        word = loose_number(line.split("#")[0]) if number not in remarks else None
        if word is not None:
            raise InputError(f"{path}: line {number}: {word} is no number")
        yield line


def _check_dump(path: Path) -> tuple[str, ...]:
    """Refuse a LAMMPS dump whose rows are not those it announces, or a box inside out.

    Raises:
        InputError: names the line.
    """
    announced, section, box, seen = 0, "", 0, []

    def end(where: str) -> None:
        columns = section.split()
        if columns[:1] == ["BOX"] and box != 3:
            raise InputError(f"{where}: {box} lines of BOX BOUNDS, not 3")
        if columns[:1] != ["ATOMS"]:
            return
        if len(seen) != announced:
            raise InputError(f"{where}: {len(seen)} rows of atoms, announced {announced}")
        for name in {"xs", "ys", "zs"} & set(columns):
            place = columns.index(name) - 1
            words = [row.split() for row in seen]
            values = [number_of(row[place]) for row in words if len(row) > place]
            far = [value for value in values if not -_OUTSIDE < value < 1 + _OUTSIDE]
            if far:
                raise InputError(
                    f"{where}: {name} of {far[0]:g} is no part of the box; lengths are x, "
                    f"y and z, parts that leave the box {name}u"
                )
        if "id" in columns:
            place = columns.index("id") - 1
            names = Counter(row.split()[place] for row in seen if len(row.split()) > place)
            name, often = names.most_common(1)[0]
            if often > 1:
                raise InputError(f"{where}: the id {name} stands {often} times")

    for number, line in enumerate(_lines(path), 1):
        if line.startswith("ITEM:"):
            end(f"{path}: line {number}")
            section, box, seen = line[5:].strip(), 0, []
            announced = -1 if section == "NUMBER OF ATOMS" else announced
        elif section == "NUMBER OF ATOMS" and line.strip().isdecimal():
            if announced >= 0:
                raise InputError(f"{path}: line {number}: a second number of atoms")
            announced = int(line)
        elif section.startswith("BOX BOUNDS"):
            box += 1
            low, high = [number_of(word) for word in [*line.split(), "", ""][:2]]
            if "abc" not in section and not low < high:
                raise InputError(f"{path}: line {number}: the box ends before it begins")
        elif section.startswith("ATOMS") and line.strip():
            seen.append(line)
    end(str(path))
    return ()


_BOX = (["xlo", "xhi"], ["ylo", "yhi"], ["zlo", "zhi"])


def _check_data(path: Path) -> tuple[str, ...]:
    """Refuse LAMMPS data of other rows than announced, or a box inside out.

    Raises:
        InputError: names the line.
    """
    section, announced, rows = "", 0, Counter[str]()
    for number, line in enumerate(_lines(path, remarks=(1,)), 1):
        words = line.split("#")[0].split()
        if number == 1 or not words:
            continue
        if words[0][0].isalpha():
            section = words[0]
        elif section:
            rows[section] += 1
        elif words[1:] == ["atoms"]:
            announced = sum(_counts(words[0]))
        elif words[2:] in _BOX and not number_of(words[0]) < number_of(words[1]):
            raise InputError(f"{path}: line {number}: the box ends before it begins")
    for name in ("Atoms", "Velocities"):
        if name in rows and rows[name] != announced:
            raise InputError(f"{path}: {rows[name]} rows of {name}, announced {announced}")
    return ()


_OF_A_STEP = (
    "velocities after the positions are in lattice vectors a time step, whose length the "
    "file does not say: not used"
)
_VELOCITIES_UNUSED = "velocities after the positions are not used"


def _check_poscar(path: Path) -> tuple[str, ...]:
    """Refuse a POSCAR that contradicts itself, and name what is not read of it.

    Raises:
        InputError: other elements than counts, more positions than atoms, a position of
            another element than its place, or a flag that is neither T nor F.
    """
    lines = list(_lines(path, remarks=(1, 6)))
    head = 5 if len(lines) > 5 and _counts(lines[5]) else 6
    counts = _counts(lines[head]) if len(lines) > head else []
    selective = "".join(lines[head + 1 : head + 2]).strip().lower().startswith("s")
    first = head + 3 if selective else head + 2
    rows, rest = lines[first : first + sum(counts)], lines[first + sum(counts) :]
    said, symbols = [], lines[5].split() if head == 6 and counts else []
    if head == 5:
        said.append("its elements are those of the first line")
    elif counts and len(symbols) != len(counts):
        raise InputError(f"{path}: line 6: {len(symbols)} elements, {len(counts)} counts")
    if counts and 0 in map(number_of, lines[1].split()[:3]):
        raise InputError(f"{path}: line 2: a scale of 0")
    mode = "".join(lines[first - 1 : first]).strip()
    if counts and not mode[:1].isalpha():
        raise InputError(f"{path}: line {first}: {mode[:40]!r}, not Direct or Cartesian")
    if len(rows) < sum(counts):
        raise InputError(f"{path}: {len(rows)} positions, {sum(counts)} are announced")
    names = [re.split("[_/]", s)[0] for s, n in zip(symbols, counts, strict=False)
             for _ in range(n)]  # fmt: skip
    for number, row in enumerate(rows):
        words, where = row.split()[3:], f"{path}: line {first + number + 1}"
        if selective and not (len(words) > 2 and set(words[:3]) <= {"T", "F"}):
            raise InputError(
                f"{where}: flags {' '.join(words[:3]) or 'are missing'}; only three of T "
                "and F are read"
            )
        if not selective and len(words) == 1 and words[0] in atomic_numbers:
            if names and words[0] != names[number]:
                raise InputError(f"{where}: a position of {words[0]} among {names[number]}")
        elif not selective and words:
            said.append("columns after the positions are not used")
    if (
        rest
        and rest[0].strip()
        and counts
        and not math.isnan(number_of(rest[0].split()[0]))
    ):
        raise InputError(
            f"{path}: line {first + len(rows) + 1}: more positions than the {len(rows)} "
            "atoms that are announced"
        )
    if rest:
        rest = rest[8 if rest[0][:1] in ("L", "l") else 0 :]  # of the lattice: seven lines
        numbers = (number_of(w) for line in rest[1 : len(rows) + 1] for w in line.split())
        if any(number > 0 or number < 0 for number in numbers):
            plain = rest[0].strip()[:1].lower() in ("", "c", "k")
            said.append(_VELOCITIES_UNUSED if plain else _OF_A_STEP)
    return tuple(dict.fromkeys(said))


_OF_CELL = re.compile("_cell_(length_[abc]|angle_(alpha|beta|gamma))")


def _check_cif(path: Path) -> tuple[str, ...]:
    """Refuse lengths and angles of no cell.

    Raises:
        InputError: names the line.
    """
    for number, line in enumerate(text_lines(path), 1):
        words = line.split()
        if len(words) != 2 or not _OF_CELL.fullmatch(words[0]):
            continue
        size = number_of(words[1].split("(")[0])
        if not 0 < size < (180 if "angle" in words[0] else math.inf):
            raise InputError(f"{path}: line {number}: {words[0]} is {words[1]}")
    return ()


def _check_pdb(path: Path) -> tuple[str, ...]:
    """Refuse a cell that is a placeholder; say which elements names of atoms tell.

    Raises:
        InputError: a cell of 1 angstrom, which stands where there is none, or a second
            place of an atom.
    """
    said = ()
    for number, line in enumerate(text_lines(path), 1):
        sizes = [number_of(line[k : k + 9]) for k in (6, 15, 24)]
        if line.startswith("CRYST1") and sizes == [1.0] * 3:
            raise InputError(
                f"{path}: line {number}: a cell of 1 angstrom stands where there is none; "
                "remove the line"
            )
        if line.startswith(("ATOM  ", "HETATM")):
            if line[16:17] not in (" ", "", "A"):
                raise InputError(f"{path}: line {number}: a second place of an atom")
            if not line[76:78].strip():
                said = ("its elements are guessed from the names of its atoms",)
    return said


def _counts(line: str) -> list[int]:
    words = line.split()
    return [int(w) for w in words] if words and all(w.isdecimal() for w in words) else []


_CHECKS: Mapping[str, Callable[[Path], tuple[str, ...]]] = MappingProxyType(
    {
        "lammps-dump-text": _check_dump,
        "lammps-data": _check_data,
        "vasp": _check_poscar,
        "cif": _check_cif,
        "proteindatabank": _check_pdb,
    }
)


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
    if columns and not keys.species and "element" not in names:
        place, rows = names.index("mass"), head[columns.end() :].split("ITEM:")[0]
        words = [row.split() for row in rows.splitlines()[:-1]]
        _check_masses(path, {number_of(row[place]) for row in words if len(row) > place})
    if keys.species and "element" in names:
        raise InputError(f"{path}: names its elements itself; species has no use here")
    return options


def _check_masses(path: Path, masses: Iterable[float]) -> None:
    """Refuse masses that tell no element.

    Raises:
        InputError: names the first one.
    """
    for mass in masses:
        first, second = np.sort(np.abs(atomic_masses[1:] - mass))[:2]
        if not (first <= _NEAR and 3.0 * first <= second):
            raise InputError(
                f"{path}: a mass of {mass:g} amu does not tell which element it is of; say "
                "it with species"
            )


def _typed(atoms: Atoms, path: Path, species: Sequence[str]) -> None:
    """Give the types of a dump their species; ASE takes numbers or masses for them.

    Raises:
        InputError: a type has none.
    """
    types = atoms.arrays.get("type")
    if types is None or not 1 <= types.min() <= types.max() <= len(species):
        raise InputError(f"{path}: its types are not 1 to {len(species)}, as of species")
    speeds = atoms.get_velocities()
    atoms.set_chemical_symbols([species[int(kind) - 1] for kind in types])
    if atoms.has("momenta"):  # of the masses that were guessed
        atoms.set_velocities(speeds)


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
    """Refuse what are no whole atoms of elements, masses, numbers and units."""
    check_elements(atoms, str(path))
    _check_geometry(atoms, path)
    for number, symbol in enumerate(atoms.get_chemical_symbols()):
        _known(symbol, f"{path}: atom {number}")
    check_units(atoms.info, LabelKeys(), str(path))
    for number, mass in enumerate(atoms.get_masses().tolist()):
        if not 0 < mass < HEAVIEST:
            raise InputError(f"{path}: atom {number}: a mass of {mass:g} amu")
    _check_scale(atoms, path)
    identity = atoms.arrays.get("id")
    if identity is not None and len(np.unique(identity)) < len(identity):
        values, often = np.unique(identity, return_counts=True)
        raise InputError(f"{path}: the id {values[often > 1][0]} stands more than once")
    shares = atoms.arrays.get("occupancy")
    if shares is not None and not np.allclose(shares, 1.0, rtol=0, atol=1e-6):
        raise InputError(
            f"{path}: sites are occupied in part (occupancy {shares.min():g}); a structure "
            "of whole atoms is needed"
        )
    occupied = atoms.info.get("occupancy")
    if isinstance(occupied, dict):
        for site, shares in occupied.items():
            if not _by_one(shares):
                raise InputError(
                    f"{path}: site {site} is occupied in part ({shares}); a structure of "
                    "whole atoms is needed"
                )
    return atoms


def _check_geometry(atoms: Atoms, path: Path) -> None:
    """Refuse positions that are not finite, and periodic axes without a length."""
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(1))
    if len(bad):
        place = atoms.positions[bad[0]].tolist()
        raise InputError(f"{path}: atom {bad[0]} is at {place}, not finite")
    lengths = atoms.cell.lengths()[atoms.pbc]
    if not (np.isfinite(atoms.cell.array).all() and (lengths > 0).all()):
        raise InputError(f"{path}: periodic, but the cell is {atoms.cell.array.tolist()}")


def _check_scale(atoms: Atoms, path: Path) -> None:
    """Refuse fractions of a cell where lengths are read.

    Raises:
        InputError: four atoms or more within a cube of 1 angstrom, where no four bonded
            ones fit in.
    """
    x, edges = atoms.positions, atoms.cell.lengths()
    wide = len(x) > 3 and bool(atoms.pbc.any()) and edges.min() > 3
    if wide and x.min() > -0.01 and x.max() < 1.01 and (x > 0).any():
        raise InputError(
            f"{path}: all {len(x)} positions are from 0 to 1, in a cell of "
            f"{edges.max():.3g} angstrom: fractions of it? lengths are in angstrom"
        )


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


def named(atoms: Atoms) -> set[str]:
    """Return the names of columns and entries, but for those of no consequence."""
    said = {str(key) for key, value in atoms.info.items() if value is not True}
    return {*atoms.arrays, *said} - set(_SAID)


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
            partly = f"{kind}: a constraint that is not honoured"
            if len(indices):
                partly = f"{kind} of atoms {indices[:3]}, fixed along some axes only"
    columns = [name for name in VELOCITIES if name in atoms.arrays]
    unused = sorted(named(atoms) - {*_USED, *columns[:1]})
    return Extras(
        tuple(sorted(fixed)), partly, columns[0] if columns else None, unused,
        atoms.has("momenta"),
    )  # fmt: skip


SPEEDS: Mapping[str, float] = MappingProxyType(
    {"angstrom/fs": 1.0, "angstrom/ps": 1e-3, "nm/ps": 1e-2}
)
"""Size of units of velocity in angstrom/fs."""


def set_velocities(atoms: Atoms, column: str, unit: str, name: str) -> None:
    """Give atoms the velocities of a column in a unit of :data:`SPEEDS`.

    Raises:
        InputError: they are not three numbers for each atom; says ``name``.
    """
    values = atoms.arrays[column]
    if values.shape != (len(atoms), 3) or values.dtype.kind not in "fiu":
        raise InputError(f"{name}: {column} must be three numbers for each atom")
    atoms.set_velocities(values * (SPEEDS[unit] / units.fs))


__all__ = [
    "SPEEDS",
    "VELOCITIES",
    "StructureKeys",
    "extras",
    "named",
    "read_structure",
    "read_structures",
    "set_velocities",
]
