"""How the jobs that run a gas name, measure and store its fields."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..rundir import own_axes, write_array
from . import probes
from .derived import DERIVED
from .grid import Grid

UNITS = {
    "density": "rho0", "velocity": "sqrt(R T0)", "temperature": "T0", "stress": "rho0 R T0",
    "rotational_temperature": "T0", "heat_flux": "rho0 (R T0)^1.5", "entropy": "rho0 R",
    "x": "L", "y": "L", "z": "L", "shear": "rho0 R T0", "heat": "rho0 (R T0)^1.5",
    "time": "L / sqrt(R T0)", "exact": "rho0", "departure": "rho0", "particles": "",
    "fraction": "",
    **{name: unit for name, (_, unit) in DERIVED.items()}, **probes.UNITS,
}  # fmt: skip
ENDINGS = ("_error", "_exact", "_reference", "_free", "_nsf")


def steps_of(end: float, longest: float, frames: int) -> int:
    """Return a number of steps: a multiple of the frames, none longer than ``longest``."""
    return max(1, math.ceil(end / longest / frames - 1e-9)) * frames


def write_axes(group: Any, grid: Grid) -> None:
    """Store the centres of the cells."""
    for axis in range(grid.dim):
        write_field(group, "xyz"[axis], grid.centers(axis))


def write_field(
    group: Any,
    name: str,
    values: Tensor,
    long_name: str = "",
    grid: Grid | None = None,
    dimensions: Sequence[str] | None = None,
    **attributes: Any,
) -> None:
    """Store a field, a component of it, or what is known of it, with its unit."""
    stem = name
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    # a component, and that of a species
    part = stem.rpartition("_")[0]
    unit = UNITS.get(stem, UNITS.get(part, UNITS.get(part.rpartition("_")[0], "")))
    dimensions = dimensions or dimensions_of(name, values.shape, grid)
    write_array(group, name, values, unit, long_name, dimensions, **attributes)


def dimensions_of(name: str, shape: Sequence[int], grid: Grid | None) -> tuple[str, ...]:
    """Name the dimensions of a field ``[system?, cells..., components...]``."""
    cells = tuple(grid.shape) if grid is not None else ()
    spatial, shape = tuple("xyz"[: len(cells)]), tuple(shape)
    if name in ("x", "y", "z") and len(shape) == 1:
        return (name,)
    if cells and shape == cells:
        return spatial
    if cells and shape[1 : 1 + len(cells)] == cells:
        rest = len(shape) - 1 - len(cells)
        return ("system", *spatial, *("component", "component_2")[:rest])
    return own_axes(name, shape)
