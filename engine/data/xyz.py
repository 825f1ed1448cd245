"""Extended XYZ, frame by frame: every line of the file belongs to a frame or is refused."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict

from ..errors import InputError
from ..inputs import loose_number, text_lines

SUFFIXES = (".xyz", ".extxyz")

MOST_ATOMS = 1_000_000_000

LONGEST = 1 << 20
"""Bytes of a line: keys of a frame, or the columns of an atom."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\{[^}]*\}|\[[^\]]*\]')
_ENTRY = re.compile(
    r"""([^\s="']+)\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|\S*)"""
)
_PLAIN = "species:S:1:pos:R:3"
"""Properties of a file that names none."""

_SPELT = {name.lower(): name for name in ("Lattice", "Properties", "pbc")}
_ALSO = {"positions": "pos", "symbols": "species", "numbers": "Z"}
"""Second names of columns."""

_ONCE = {"pos", "species", "Z", "energy", "free_energy", "forces", "stress", "virial",
         "virials"}  # fmt: skip
"""Names that stand among the keys of a frame or its columns, not in both."""


def read_xyz(path: Path) -> list[Atoms]:
    """Read all frames; empty lines between them and a byte order mark are passed over.

    Raises:
        InputError: a line that is neither, a row of too few or too many columns, or a key
            without a value; names the line.
    """
    return list(iterate_xyz(path))


def iterate_xyz(path: Path) -> Iterator[Atoms]:
    """Yield the frames of :func:`read_xyz` one by one."""
    for number, lines in _blocks(path):
        yield _frame(path, number, lines)


def _blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line of each frame, and its lines."""
    lines = enumerate(text_lines(path, LONGEST), start=1)
    for number, line in lines:
        if not line.strip():
            continue
        if not re.fullmatch(r"\s*[+-]?[0-9]+\s*", line):
            raise InputError(
                f"{path}: line {number}: the number of atoms of a frame is expected, "
                f"{line.strip()[:40]!r} is there"
            )
        atoms = int(line)
        if not 1 <= atoms <= MOST_ATOMS:
            raise InputError(f"{path}: line {number} announces {atoms} atoms")
        block = [line]
        while len(block) < atoms + 2:
            entry = next(lines, None)
            if entry is None:
                raise InputError(f"{path}: ends before the {atoms} atoms of line {number}")
            block.append(entry[1])
        yield number, block


def _frame(path: Path, number: int, lines: list[str]) -> Atoms:
    _check_header(path, number + 1, lines[1])
    try:
        found = ase.io.read(io.StringIO("".join(lines)), format="extxyz")
        columns = _columns(lines[1])
    except Exception as error:
        # anything may stand in a damaged file
        reason = str(error) or type(error).__name__
        if isinstance(error, KeyError):  # of ASE's table of elements
            reason = f"{reason} is no element or column that is known"
        raise InputError(f"{path}: frame at line {number}: {reason}") from error
    assert isinstance(found, Atoms)
    for place, line in enumerate(lines[2:], start=number + 2):
        count = len(line.split())
        if count < columns or (count > columns and "Properties" in lines[1]):
            raise InputError(
                f"{path}: line {place} has {count} columns, expected {columns}"
            )
        if count > columns:
            found.info["columns after the fourth"] = "of an unknown meaning"
    _check_digits(path, number, lines, found)
    _check_numbers(path, number, lines)
    _check_end(path, number, lines)
    _keep_tensor(found, lines[1])
    return found


def _check_digits(path: Path, number: int, lines: list[str], atoms: Atoms) -> None:
    """Refuse what Python alone takes for a number; an entry that is no label stays a text.

    Raises:
        InputError: names line, key or column, and value.
    """
    for key, text in _ENTRY.findall(lines[1]) if loose_number(lines[1]) else ():
        if (word := loose_number(text)) is None:
            continue
        if key not in atoms.info:
            raise InputError(
                f"{path}: line {number + 1}: {key} is {word}, which is no number"
            )
        atoms.info[key] = text.strip("\"'{}[]")
    for offset, line in enumerate(lines[2:], start=number + 2):
        if loose_number(line) is None:
            continue
        for name, word in zip(_of_columns(lines[1]), line.split(), strict=False):
            if name and loose_number(word):
                raise InputError(
                    f"{path}: line {offset}: {name} is {word}, which is no number"
                )


def _of_columns(header: str) -> list[str]:
    """Return the name of the property that each column is of, nothing for texts."""
    words = str(key_val_str_to_dict(header).get("Properties", _PLAIN)).split(":")
    columns = zip(words[::3], words[1::3], words[2::3], strict=True)
    return [
        name if kind in "RI" else "" for name, kind, n in columns for _ in range(int(n))
    ]


def _keep_tensor(atoms: Atoms, header: str) -> None:
    """Leave a stress of nine numbers what it is in the file; ASE keeps six of them."""
    given = key_val_str_to_dict(header).get("stress")
    if atoms.calc is not None and np.size(given) == 9:
        atoms.calc.results["stress"] = np.asarray(given).reshape(3, 3)


def _check_end(path: Path, number: int, lines: list[str]) -> None:
    """Refuse a last line that ends within a number, of fewer digits than the others."""
    if lines[-1].endswith("\n"):
        return
    *others, last = [_places(line.split()[-1]) for line in lines[2:]]
    if others and last < min(others):
        raise InputError(
            f"{path}: line {number + len(lines) - 1} is the last one, without an end, and "
            f"{lines[-1].split()[-1]} has fewer digits than the others: cut? If it is "
            "whole, end the line"
        )


def _places(word: str) -> int:
    """Return the digits after the point of a number, and of its exponent."""
    return len(re.sub(r"[eEdD][+-]?", "", word.partition(".")[2]))


def _columns(header: str) -> int:
    return sum(_properties(header).values())


def _properties(header: str) -> dict[str, int]:
    """Return the columns of each property, in the order of the file.

    Raises:
        ValueError: not name, type and count of each, or a label of true and false.
    """
    said = str(key_val_str_to_dict(header).get("Properties", _PLAIN))
    words = said.split(":")
    flags = {name for name, kind in pairwise(words) if kind == "L"}
    if flags & _ONCE or len(words) % 3:
        raise ValueError(f"Properties={said}")
    return {n: int(count) for n, count in zip(words[::3], words[2::3], strict=True)}


def _check_numbers(path: Path, number: int, lines: list[str]) -> None:
    """Refuse atoms whose element and atomic number are two."""
    properties = {_ALSO.get(n, n): count for n, count in _properties(lines[1]).items()}
    if not {"species", "Z"} <= set(properties):
        return
    place, first = {}, 0
    for name, count in properties.items():
        place[name], first = first, first + count
    for offset, line in enumerate(lines[2:], start=number + 2):
        words = line.split()
        symbol, z = words[place["species"]], words[place["Z"]]
        if str(atomic_numbers.get(symbol.capitalize())) != z:
            raise InputError(f"{path}: line {offset}: {symbol} has Z = {z}")


def _check_header(path: Path, number: int, header: str) -> None:
    """Refuse a key without a value: readers take the next key for it."""
    try:
        entries, columns = key_val_str_to_dict(header), list(_properties(header))
    except Exception as error:
        raise InputError(f"{path}: line {number}: no keys and values: {error}") from error
    for key, value in entries.items():
        if key != "Properties" and isinstance(value, str) and "=" in value:
            name = value.split("=")[0]
            if f"{key}= " in header or f"{key} = {name}" in header:
                raise InputError(
                    f"{path}: line {number}: {key} has no value, so {name} is lost in it"
                )
    for key, text in _ENTRY.findall(header):
        if len(text) > 1 and not text[1:-1].strip() and not text[:1].isalnum():
            raise InputError(
                f"{path}: line {number}: {key} is empty; give it a value, or leave out the "
                "key, or the frame"
            )
    _check_names(f"{path}: line {number}", header, columns)
    flags = entries.get("pbc", [True] * 3)
    shaped = np.shape(flags) in ((), (3,)) and np.asarray(flags).dtype.kind in "bi"
    if not shaped or not np.isin(flags, (0, 1)).all():
        raise InputError(
            f"{path}: line {number}: pbc must be three of T and F, not {flags!r}"
        )


def _check_names(where: str, header: str, properties: Sequence[str]) -> None:
    """Refuse a name that is given twice, or spelt so that nobody knows it."""
    keys = re.findall(r"([^\s=]+)\s*=", _QUOTED.sub("", header))
    for key in keys:
        if (right := _SPELT.get(key.lower(), key)) != key:
            raise InputError(f"{where}: {key} is spelt {right}")
    columns = [_ALSO.get(name, name) for name in properties]
    known = [_ALSO.get(key, key) for key in keys]
    names = Counter([*known, *(name for name in columns if name in _ONCE)])
    if twice := [name for name, often in names.items() if often > 1]:
        raise InputError(f"{where}: {twice[0]} is given twice")
    if "pos" not in columns:
        raise InputError(f"{where}: Properties name no pos, the positions")


__all__ = ["SUFFIXES", "iterate_xyz", "read_xyz"]
