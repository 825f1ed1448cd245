"""Transport coefficients of a gas over the temperature: of a potential, or of a file."""

import math
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from ...errors import InputError
from .pairs import Table, lennard_jones
from .published import PUBLISHED
from .quantum import with_quantum
from .scattering import scatter
from .transport import Transport, spline

KNOTS = 128
FEWEST = 4
"""Rows of a file, for a cubic spline."""
LARGEST_FILE = 1 << 22
COLUMNS = ("T", "mu", "Pr")


def of_published(symbol: str, coldest: float, hottest: float) -> Transport:
    """Return the transport of a published potential, K; slow atoms by phase shifts.

    Args:
        symbol: a key of :data:`.published.PUBLISHED`.
        coldest: K.
        hottest: K.

    Raises:
        InputError: collisions come closer than the potential is meant for.
    """
    gas, table = PUBLISHED[symbol], PUBLISHED[symbol].table()
    with torch.no_grad():
        found = scatter(table, coldest, hottest)
        found = with_quantum(found, table, gas.mass, gas.bosons)
        return Transport.of(found, coldest, hottest, 1.0)


def of_lennard_jones(epsilon: float, coldest: float, hottest: float) -> Transport:
    """Return the classical transport of a Lennard-Jones gas, diameter and mass 1.

    Args:
        epsilon: depth of the well, K.
        coldest: K.
        hottest: K.
    """
    one = torch.ones((), dtype=torch.float64)
    with torch.no_grad():
        table = Table.of(lennard_jones(epsilon * one, one), 0.2, 60.0)
        return Transport.of(scatter(table, coldest, hottest), coldest, hottest, 1.0)


def read(path: Path) -> Transport:
    """Return the transport of a text file with the columns T (K), mu, Pr.

    Blanks or commas part the columns, ``#`` begins a comment. Viscosities are taken
    relative to each other, so that their unit is free. Between the rows ``ln mu`` and Pr
    are cubic splines of ``ln T``.

    Raises:
        InputError: names the line, and what is wrong with it.
    """
    rows = [_row(path, *line) for line in _lines(path)]
    if len(rows) < FEWEST:
        raise InputError(f"{path}: {len(rows)} rows of T, mu, Pr; at least {FEWEST}")
    numbers = [number for number, _ in rows]
    t, mu, prandtl = np.array([values for _, values in rows]).T
    for i in np.flatnonzero(np.diff(t) <= 0):
        raise InputError(
            f"{path}: line {numbers[i + 1]}: T {t[i + 1]:g} after {t[i]:g}; must grow"
        )
    at = np.linspace(math.log(t[0]), math.log(t[-1]), KNOTS)
    logs, number = (
        torch.from_numpy(np.asarray(CubicSpline(np.log(t), y)(at)))
        for y in (np.log(mu), prandtl)
    )
    return Transport(float(t[0]), float(t[-1]), spline(logs), spline(number))


def _lines(path: Path) -> list[tuple[int, str]]:
    if not path.is_file():
        raise InputError(f"{path}: is a folder; a text file with columns T, mu, Pr")
    if path.stat().st_size > LARGEST_FILE:
        raise InputError(f"{path}: larger than {LARGEST_FILE >> 20} MiB; no such table")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file with columns T, mu, Pr") from None
    stripped = [(k, s.split("#")[0].strip()) for k, s in enumerate(text.splitlines(), 1)]
    lines = [(k, s) for k, s in stripped if s]
    titles = lines[0][1].replace(",", " ").split() if lines else []
    return lines[1:] if [s.lower() for s in titles] == ["t", "mu", "pr"] else lines


def _row(path: Path, number: int, line: str) -> tuple[int, tuple[float, ...]]:
    words = line.replace(",", " ").split()
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        said = f"{path}: line {number}: {line[:40]!r}; numbers T, mu, Pr"
        raise InputError(said) from None
    if len(values) != len(COLUMNS):
        raise InputError(
            f"{path}: line {number}: {len(values)} columns; three, T, mu and Pr"
        )
    for name, value in zip(COLUMNS, values, strict=True):
        if not (math.isfinite(value) and value > 0):
            raise InputError(
                f"{path}: line {number}: {name} {value:g}; must be positive and finite"
            )
    return number, values


__all__ = ["of_lennard_jones", "of_published", "read"]
