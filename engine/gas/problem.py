"""A gas in a box, as all models share it: grid, boundaries, gas, start and duration."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .boundaries import Sides
from .forcing import Force
from .grid import Grid
from .initial.base import Start
from .material import Gas
from .solids import Body, Solid, body_of


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
        solids: in the flow.
        body: the solids on the grid, or None.
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
    solids: tuple[Solid, ...] = ()
    start: Start = field(init=False)
    body: Body | None = field(init=False)

    def __post_init__(self) -> None:
        if hasattr(self.initial, "check"):
            self.initial.check(self.gas)
        start = self.initial.fields(self.grid, self.gas, self.gamma)
        object.__setattr__(self, "start", start)
        if start.ends is not None:
            object.__setattr__(self, "sides", (start.ends, *self.sides[1:]))
        body = body_of(self.solids, self.grid, self.sides, start)
        object.__setattr__(self, "body", body)
