"""A gas in a box, as all models share it: grid, boundaries, gas, start and duration."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .boundaries import ALL_PERIODIC, Sides, ends_of, pieces_of
from .forcing import Force
from .grid import Grid
from .initial.base import Start
from .material import Gas
from .solids import Body, Solid, body_of


@dataclass(frozen=True)
class Problem:
    """What all models of a scenario share.

    An initial condition may set the ends of x, of which then nothing else may be said.

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
        on_cells: whether models meet them on the faces of cells, not on their surface.
        body: the solids on the grid, or None.
        start: the initial condition on the grid.

    Raises:
        InputError: the initial condition does not fit the gas, or the ends of x.
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
    on_cells: bool = True
    start: Start = field(init=False)
    body: Body | None = field(init=False)

    def __post_init__(self) -> None:
        if hasattr(self.initial, "check"):
            self.initial.check(self.gas)
        start = self.initial.fields(self.grid, self.gas, self.gamma)
        object.__setattr__(self, "start", start)
        if start.ends is not None:
            if self.sides[0] not in (ALL_PERIODIC, start.ends):
                raise InputError(
                    f"boundaries.x: initial.kind = {self.initial.kind} sets both ends "
                    "itself; leave it out"
                )
            object.__setattr__(self, "sides", (start.ends, *self.sides[1:]))
        body = body_of(self.solids, self.grid, self.sides, start, self.on_cells)
        object.__setattr__(self, "body", body)

    def temperatures(self) -> tuple[float, float, float]:
        """Return the lowest and the highest temperature of start, boundaries, solids.

        And the highest that the flow of either can reach where it is stopped,
        ``T + (gamma - 1) / (2 gamma) u^2``. Boundaries that change are looked at at 33
        moments of the duration.
        """
        states = [(self.start.velocity.norm(dim=-1), self.start.temperature)]
        for end, piece in pieces_of(ends_of(self.sides, self.grid)):
            side = piece.wall or piece.side
            if not hasattr(side, "temperature"):
                continue
            for part in range(33):
                values = [
                    torch.as_tensor(end.face.value(q, self.end * part / 32))
                    for q in (*getattr(side, "velocity", ()), side.temperature)
                ]
                *u, t = torch.broadcast_tensors(*values)
                speed = torch.stack(u).norm(dim=0) if u else torch.zeros_like(t)
                states.append((speed, t))
        if self.body is not None and len(self.body.cuts.temperature):
            cuts = self.body.cuts
            states.append((cuts.velocity.norm(dim=-1), cuts.temperature))
        share = (self.gamma - 1) / (2 * self.gamma)
        return (
            min(float(t.amin()) for _, t in states),
            max(float(t.amax()) for _, t in states),
            max(float((t + share * u**2).amax()) for u, t in states),
        )
