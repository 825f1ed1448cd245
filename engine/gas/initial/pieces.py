"""States that are constant in pieces: uniform, one jump, four quadrants."""

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Len

from ....models.parts import part
from ...errors import InputError
from ..grid import Grid
from ..material import Gas
from .base import Point, Start


@part
class Uniform:
    """One state everywhere, or a straight line between two along x."""

    low: Point
    """State at the lower end of x."""
    high: Point | None = None
    """State at the upper end; without it the lower one everywhere."""
    kind: Literal["uniform"] = "uniform"

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the fields."""
        low = self.low.values
        high = low if self.high is None else self.high.values
        share = (grid.points()[0] - grid.lower[0]) / (grid.upper[0] - grid.lower[0])
        return Start.of(low + share[..., None] * (high - low))


@part
class Jump:
    """Two states (Riemann problem along x)."""

    left: Point
    """State at x below the position."""
    right: Point
    """State at x above."""
    position: float = 0.0
    """Where they meet."""
    kind: Literal["jump"] = "jump"

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the fields.

        Raises:
            InputError: the states do not meet inside of the box.
        """
        if not grid.lower[0] < self.position < grid.upper[0]:
            raise InputError(
                f"initial.position: {self.position:g} is not inside of the box, "
                f"{grid.lower[0]:g} to {grid.upper[0]:g} along x"
            )
        choose = (grid.points()[0] < self.position)[..., None]
        return Start.of(torch.where(choose, self.left.values, self.right.values))


@part
class Quadrants:
    """Four states (2D Riemann problem)."""

    states: Annotated[tuple[Point, ...], Len(4, 4)]
    """Upper right, upper left, lower left, lower right."""
    center: tuple[float, float]
    """Where they meet."""
    kind: Literal["quadrants"] = "quadrants"

    dimensions: ClassVar = (2,)

    @property
    def reference(self) -> str:
        """``mirror`` where exchanging x and y leaves the four states as they are."""
        values = [state.values for state in self.states]
        turned = [v[[0, 2, 1, 3, 4]] for v in values]
        pairs = ((0, 0), (1, 3), (2, 2))
        same = all(bool((turned[a] == values[b]).all()) for a, b in pairs)
        return "mirror" if same and self.center[0] == self.center[1] else "none"

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the fields.

        Raises:
            InputError: the states do not meet inside of the box.
        """
        for c, low, high in zip(self.center, grid.lower, grid.upper, strict=True):
            if not low < c < high:
                raise InputError(
                    f"initial.center: {self.center} is not inside of the box, "
                    f"{grid.lower} to {grid.upper}"
                )
        x, y = grid.points()
        right, upper = (x >= self.center[0])[..., None], (y >= self.center[1])[..., None]
        a, b, c, d = (state.values for state in self.states)
        upper_row, lower_row = torch.where(right, a, b), torch.where(right, d, c)
        return Start.of(torch.where(upper, upper_row, lower_row))
