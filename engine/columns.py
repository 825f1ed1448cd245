"""Text files of a few named columns of numbers, the first of which grows."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from .errors import InputError

LARGEST = 1 << 22
"""Bytes."""


def read_columns(
    path: Path, names: Sequence[str], fewest: int, positive: Collection[str]
) -> np.ndarray:
    """Return ``[columns, rows]`` of a text file.

    Blanks or commas part the columns, ``#`` begins a comment, and the first line may hold
    the names.

    Args:
        path: the file.
        names: of its columns.
        fewest: rows.
        positive: names of the columns whose numbers must be above zero.

    Raises:
        InputError: names the line, and what is wrong with it.
    """
    lines = _lines(path, names)
    rows = [_row(path, *line, names, positive) for line in lines]
    if len(rows) < fewest:
        raise InputError(
            f"{path}: {len(rows)} rows of {', '.join(names)}; at least {fewest}"
        )
    found = np.array(rows).T
    for i in np.flatnonzero(np.diff(found[0]) <= 0):
        raise InputError(
            f"{path}: line {lines[i + 1][0]}: {names[0]} {found[0, i + 1]:g} after "
            f"{found[0, i]:g}; must grow"
        )
    return found


def _lines(path: Path, names: Sequence[str]) -> list[tuple[int, str]]:
    told = f"a text file with columns {', '.join(names)}"
    if not path.is_file():
        raise InputError(f"{path}: is a folder; {told}")
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path}: larger than {LARGEST >> 20} MiB; no such table")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not {told}") from None
    stripped = [(k, s.split("#")[0].strip()) for k, s in enumerate(text.splitlines(), 1)]
    lines = [(k, s) for k, s in stripped if s]
    titles = lines[0][1].replace(",", " ").lower().split() if lines else []
    return lines[1:] if titles == [name.lower() for name in names] else lines


def _row(
    path: Path, number: int, line: str, names: Sequence[str], positive: Collection[str]
) -> tuple[float, ...]:
    words = line.replace(",", " ").split()
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        said = f"{path}: line {number}: {line[:40]!r}; numbers {', '.join(names)}"
        raise InputError(said) from None
    if len(values) != len(names):
        wanted = f"{len(names)}, {', '.join(names)}"
        raise InputError(f"{path}: line {number}: {len(values)} columns; {wanted}")
    for name, value in zip(names, values, strict=True):
        if not math.isfinite(value) or (name in positive and value <= 0):
            wanted = "positive and finite" if name in positive else "finite"
            raise InputError(f"{path}: line {number}: {name} {value:g}; must be {wanted}")
    return values


__all__ = ["read_columns"]
