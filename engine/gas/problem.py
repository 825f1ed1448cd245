"""A gas in a box, as all models share it: grid, boundaries, gas, start and duration."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .boundaries import Sides
from .grid import Grid
from .initial.base import Start
from .material import Gas


@dataclass(frozen=True)
class Problem:
    """What all models of a scenario share.

    Attributes:
        grid: cells.
        sides: boundaries.
        gas: the gas.
        knudsen: ``[batch]``.
        gamma: ratio of specific heats.
        initial: a part of :data:`.initial.INITIAL`.
        start: its fields on the grid.
        end: final time.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    gas: Gas
    knudsen: Tensor
    gamma: float
    initial: Any
    start: Start
    end: float

    @staticmethod
    def of(
        grid: Grid,
        sides: tuple[Sides, ...],
        gas: Gas,
        knudsen: Tensor,
        gamma: float,
        initial: Any,
        end: float,
    ) -> "Problem":
        """Return the problem; an initial condition may set the ends of x.

        Raises:
            InputError: the initial condition does not fit the gas.
        """
        if hasattr(initial, "check"):
            initial.check(gas)
        start = initial.fields(grid, gas, gamma)
        if start.ends is not None:
            sides = (start.ends, *sides[1:])
        return Problem(grid, sides, gas, knudsen, gamma, initial, start, end)
