"""Extended XYZ, frame by frame: every line of the file belongs to a frame or is refused."""

import io
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict

from ..errors import InputError
from ..inputs import text_lines

SUFFIXES = (".xyz", ".extxyz")

MOST_ATOMS = 1_000_000_000

LONGEST = 1 << 20
"""Bytes of a line: keys of a frame, or the columns of an atom."""


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
        try:
            atoms = int(line)
        except ValueError:
            raise InputError(
                f"{path}: line {number}: the number of atoms of a frame is expected, "
                f"{line.strip()[:40]!r} is there"
            ) from None
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
        raise InputError(f"{path}: frame at line {number}: {reason}") from error
    for place, line in enumerate(lines[2:], start=number + 2):
        count = len(line.split())
        if count < columns or (count > columns and "Properties" in lines[1]):
            raise InputError(
                f"{path}: line {place} has {count} columns, expected {columns}"
            )
    assert isinstance(found, Atoms)
    _keep_tensor(found, lines[1])
    return found


def _keep_tensor(atoms: Atoms, header: str) -> None:
    """Leave a stress of nine numbers what it is in the file; ASE keeps six of them."""
    given = key_val_str_to_dict(header).get("stress")
    if atoms.calc is not None and np.size(given) == 9:
        atoms.calc.results["stress"] = np.asarray(given).reshape(3, 3)


def _columns(header: str) -> int:
    properties = key_val_str_to_dict(header).get("Properties", "species:S:1:pos:R:3")
    return sum(int(count) for count in str(properties).split(":")[2::3])


def _check_header(path: Path, number: int, header: str) -> None:
    """Refuse a key without a value: readers take the next key for it."""
    try:
        entries = key_val_str_to_dict(header)
    except Exception as error:
        raise InputError(f"{path}: line {number}: no keys and values: {error}") from error
    for key, value in entries.items():
        if key != "Properties" and isinstance(value, str) and "=" in value:
            name = value.split("=")[0]
            if f"{key}= " in header or f"{key} = {name}" in header:
                raise InputError(
                    f"{path}: line {number}: {key} has no value, so {name} is lost in it"
                )
    names = [word.split("=")[0] for word in header.split() if "=" in word]
    for key in ("Lattice", "Properties", "energy", "pbc"):
        if names.count(key) > 1:
            raise InputError(f"{path}: line {number}: {key} is given twice")


__all__ = ["SUFFIXES", "iterate_xyz", "read_xyz"]
