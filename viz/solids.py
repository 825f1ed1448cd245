"""Solids of a gas run: their cells show no gas."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Masked:
    """An array that is NaN in solid cells, read as it is sliced.

    Attributes:
        array: of the store, ``[..., *cells, ...]``.
        solid: of its shape, a broadcast of the cells' mask.
    """

    array: Any
    solid: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of its numbers."""
        return np.dtype(float)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return values."""
        return np.where(self.solid[index], np.nan, np.asarray(self.array[index], float))


def masked(
    array: Any, lead: int, cells: tuple[int, ...], scenario: Mapping[str, Any]
) -> Any:
    """Return an array of a gas without what is in solid cells.

    Args:
        array: ``[..., *cells, ...]``.
        lead: axes before the cells.
        cells: of the array, those of the grid or finer ones.
        scenario: with every default.
    """
    solid = solid_cells(cells, scenario)
    if solid is None:
        return array
    rest = len(array.shape) - lead - len(cells)
    shaped = solid.reshape(*(1,) * lead, *cells, *(1,) * rest)
    return Masked(array, np.broadcast_to(shaped, array.shape))


def solid_cells(cells: tuple[int, ...], scenario: Mapping[str, Any]) -> np.ndarray | None:
    """Return which cells of a grid are solid; None without solids."""
    given, grid = scenario.get("solids") or (), scenario["grid"]
    if not given:
        return None
    from pydantic import TypeAdapter

    from ..engine.gas.grid import Grid
    from ..engine.schema.box import SolidSection

    points = Grid(cells, tuple(grid["lower"]), tuple(grid["upper"])).points()
    sections = TypeAdapter(tuple[SolidSection, ...]).validate_python(given)
    inside = [section.solid.shape.inside(points).numpy() for section in sections]
    return np.any(inside, axis=0)
