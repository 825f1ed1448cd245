"""Where a boundary is: one end of one axis of a grid, and what holds there at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..expressions import Expression
from .grid import Grid

NAMES = ("x", "y", "z", "t")
"""Names that an expression at a boundary may use: place and time."""

Value = float | Tensor
"""A number, or one for each cell of a face."""


@dataclass(frozen=True)
class Face:
    """One end of one axis.

    Attributes:
        grid: cells.
        axis: across the face.
        end: 0 for the low end, 1 for the high one.
    """

    grid: Grid
    axis: int
    end: int

    @property
    def name(self) -> str:
        """As the scenario file has it: ``boundaries.x.low``."""
        return f"boundaries.{'xyz'[self.axis]}.{('low', 'high')[self.end]}"

    @property
    def inward(self) -> float:
        """Sign of the inward direction along the axis."""
        return 1.0 if self.end == 0 else -1.0

    @property
    def area(self) -> float:
        """Area of a cell's face."""
        return prod(h for d, h in enumerate(self.grid.spacing) if d != self.axis)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along the other axes."""
        return tuple(n for d, n in enumerate(self.grid.shape) if d != self.axis)

    @cached_property
    def points(self) -> tuple[Tensor, ...]:
        """Coordinates of the middles of the cells' faces, each of :attr:`shape`, f64."""
        at = (self.grid.lower, self.grid.upper)[self.end][self.axis]
        lines = [self.grid.centers(d) for d in range(self.grid.dim)]
        lines[self.axis] = torch.tensor([at], dtype=torch.float64)
        return tuple(x.squeeze(self.axis) for x in torch.meshgrid(*lines, indexing="ij"))

    def value(
        self, quantity: Any, time: float, like: Tensor | None = None, key: str = ""
    ) -> Value:
        """Return a number, an expression or a function of place and time at the face.

        Args:
            quantity: a number stays one; text is an expression of x, y, z and t; anything
                else is called with the coordinates and the time.
            time: now.
            like: whose device and precision are wanted.
            key: of the quantity, for the refusal; without it that of the face.

        Raises:
            InputError: the expression uses a coordinate that the grid does not have.
        """
        if isinstance(quantity, int | float):
            return float(quantity)
        if isinstance(quantity, str):
            names = dict(zip("xyz", self.points, strict=False))
            now = torch.tensor(time, dtype=torch.float64)
            try:
                found = Expression(quantity, NAMES)({**names, "t": now})
            except ValueError as error:
                raise InputError(f"{key or self.name}: {error}") from None
        else:
            found = torch.as_tensor(quantity(*self.points, time)).expand(self.shape)
        return found if like is None else found.to(like)


def moves(quantity: Any) -> bool:
    """Return whether a quantity at a boundary may change with time."""
    if isinstance(quantity, str):
        return "t" in Expression(quantity, NAMES).used
    return callable(quantity)


def check_text(values: Mapping[str, object]) -> None:
    """Refuse what is no expression of x, y, z and t.

    Raises:
        ValueError: names the key.
    """
    for key, value in values.items():
        if isinstance(value, str):
            try:
                Expression(value, NAMES)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None


class Model(Protocol):
    """What every model offers a boundary; see :class:`AtFace`."""

    def gas_at(self, edge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature of the cells at a face."""
        ...

    def reservoir(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return cells of a gas in equilibrium; missing components of u are 0."""
        ...

    def sound_speed(self, density: Tensor, temperature: Tensor) -> Tensor:
        """Return the speed of sound."""
        ...


@dataclass(frozen=True)
class AtFace:
    """What a boundary is asked with: the model's words, where and when.

    Cells are in the model's own variables; density and temperature are ``[batch, *cells]``
    of the face, velocities ``[batch, *cells, components]``.

    Attributes:
        model: the world.
        face: where.
        time: when.
        cells: which of the face's cells are asked about, in one row; None for all.
    """

    model: Model
    face: Face
    time: float
    cells: Tensor | None = None

    def gas_at(self, edge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature of the cells at a face."""
        return self.model.gas_at(edge)

    def reservoir(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return cells of a gas in equilibrium; missing components of u are 0."""
        return self.model.reservoir(density, velocity, temperature)

    def sound_speed(self, density: Tensor, temperature: Tensor) -> Tensor:
        """Return the speed of sound, of the shape of density."""
        return self.model.sound_speed(density, temperature)

    def field(self, quantity: Any, like: Tensor) -> Tensor:
        """Return a quantity at every cell of the face, of the shape of ``like``.

        ``like`` is ``[batch, *cells]``, or ``[batch, cells]`` with the cells in one row.
        """
        found = self.face.value(quantity, self.time, like)
        if not isinstance(found, Tensor):
            return torch.full_like(like, found)
        if self.cells is not None:
            found = found.reshape(-1)[self.cells]
        return found.reshape(like.shape[1:]).expand_as(like)

    def vector(self, velocity: Sequence[Any], like: Tensor) -> Tensor:
        """Return a velocity at every cell, ``[*like.shape, components]``."""
        return torch.stack([self.field(u, like) for u in velocity], -1)


__all__ = ["NAMES", "AtFace", "Face", "Model", "Value", "check_text", "moves"]
