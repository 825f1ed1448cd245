"""Transport coefficients of a gas over the temperature: of a potential, or of a file."""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from ...columns import read_columns
from .pairs import Table, lennard_jones
from .published import PUBLISHED
from .quantum import with_quantum
from .scattering import scatter
from .transport import Transport, spline

KNOTS = 128
FEWEST = 4
"""Rows of a file, for a cubic spline."""
COLUMNS = ("T", "mu", "Pr")


@lru_cache(maxsize=16)  # every model of a scenario asks for the same one
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


@lru_cache(maxsize=16)
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
    t, mu, prandtl = read_columns(path, COLUMNS, FEWEST, positive=COLUMNS)
    at = np.linspace(math.log(t[0]), math.log(t[-1]), KNOTS)
    logs, number = (
        torch.from_numpy(np.asarray(CubicSpline(np.log(t), y)(at)))
        for y in (np.log(mu), prandtl)
    )
    return Transport(float(t[0]), float(t[-1]), spline(logs), spline(number))


__all__ = ["of_lennard_jones", "of_published", "read"]
