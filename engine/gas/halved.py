"""A run on half the cells, and with one more order of moments: was the first resolved?"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..errors import GuardError
from ..protocols import Check
from .boundaries import Sides, members, wall_of
from .problem import Problem
from .resolution import CHANGE, Change, coarsened
from .runs import Run

CELLS = (
    "what half the cells change of the flow: at shocks the error, where it is smooth three "
    "times the error; take more grid.cells"
)
ORDER = "what one more order of moments changes of the flow; take a higher model.order"


@dataclass(frozen=True)
class Halved:
    """Other answers to the problem of a run.

    Attributes:
        coarse: the run on half the cells along every axis.
        solid: ``[*cells]`` of the run that is checked: which are none of the gas; or None.
        order: the same with the next order of moments, or None.
        always: whether it is run where something exact is compared with, too.
    """

    coarse: Run
    solid: Tensor | None
    order: Run | None = None
    always: bool = False

    def checks(self, frames: int, fields: Any) -> Iterator[Check]:
        """Run, and yield what changed.

        Args:
            frames: of the whole run.
            fields: arrays ``[frames, batch, *cells, ...]`` of the run that is checked.
        """
        p: Problem = self.coarse.problem
        dim, written = p.grid.dim, fields["density"].shape[0]
        free = torch.ones(p.grid.shape, dtype=torch.bool)
        if p.body is not None and self.solid is not None:
            free = (
                coarsened(self.solid.double()[None], 2, dim)[0] == 0
            ) & ~p.body.mask.cpu()
        make = partial(Change, free, p.body is not None or any(map(_walled, p.sides)))
        cells, order = make(), make()
        try:
            more = None if self.order is None else self.order.frames(frames)
            for k, passed in enumerate(islice(self.coarse.frames(frames), written)):
                seen = passed.seen
                own = {
                    name: coarsened(torch.as_tensor(fields[name][k]), 2, dim)
                    for name in ("density", "velocity", "temperature")
                }
                cells.add(own, seen)
                if more is not None:
                    order.add(seen, next(more).seen)
        except GuardError as error:
            yield Check(
                "cells", "accuracy", torch.inf, CHANGE, note=f"half the cells: {error}"
            )
            return
        yield Check("cells", "accuracy", cells.value, CHANGE, note=CELLS)
        if self.order is not None:
            yield Check("order", "accuracy", order.value, CHANGE, note=ORDER)


def _walled(pair: Sides) -> bool:
    """Whether a wall at an end of an axis holds the gas: not a plane of symmetry."""
    if pair.periodic:
        return False
    sides = (side for end in (pair.low, pair.high) for _, side in members(end))
    return any((w := wall_of(side)) is not None and w.accommodation > 0 for side in sides)


__all__ = ["Halved"]
