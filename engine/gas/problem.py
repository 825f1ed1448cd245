"""A gas in a box, as all models share it: grid, boundaries, gas, start and duration."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .boundaries import Sides
from .forcing import Force
from .grid import Grid
from .initial.base import Start
from .material import Gas


@dataclass(frozen=True)
class Problem:
    """What all models of a scenario share.

    An initial condition may set the ends of x.

    Attributes:
        grid: cells.
        sides: boundaries.
        gas: the gas.
        knudsen: ``[batch]``.
        gamma: ratio of specific heats.
        initial: a part of :data:`.initial.INITIAL`.
        end: final time.
        force: on the gas, or None.
        start: the initial condition on the grid.

    Raises:
        InputError: the initial condition does not fit the gas.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    gas: Gas
    knudsen: Tensor
    gamma: float
    initial: Any
    end: float
    force: Force | None = None
    start: Start = field(init=False)

    def __post_init__(self) -> None:
        if hasattr(self.initial, "check"):
            self.initial.check(self.gas)
        start = self.initial.fields(self.grid, self.gas, self.gamma)
        object.__setattr__(self, "start", start)
        if start.ends is not None:
            object.__setattr__(self, "sides", (start.ends, *self.sides[1:]))
