"""Random flows of one family: every system of the batch is a flow with its own Kn."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ....models.parts import part
from ..flows import HELD_OUT
from ..grid import Grid
from ..material import Gas
from ..mixture import Mixture, totals
from .base import Start, along_x

if TYPE_CHECKING:
    from ..flows.lines import Flow

Count = Annotated[int, Ge(1), Le(4096)]
LEAST, POINTS = 8, 1600
"""Points over which a cell is averaged, at least; and of the whole line, so that a jump
lies at the same place on grids of 25 to 200 cells."""


@part
class Flows:
    """Random flows along a line in [-1/2, 1/2], some of them not in equilibrium."""

    family: Literal["wave", "mix", "jump", "transition", "wide"] = "wave"
    """Smooth waves; waves and jumps, partly far from equilibrium; strong jumps; a mix with
    Kn sweeping 1e-3 to 10 along the box; fronts and waves of any steepness and strength."""
    count: Count = 16
    """How many; flow i has a Knudsen number in decade i mod 4 from 1e-3 to 10."""
    first: Annotated[int, Ge(0)] = 0
    """Index of the first one."""
    seed: Annotated[int, Ge(0)] = HELD_OUT
    """Of the flows; the default is the frozen test set, which no training may use."""
    kind: Literal["flows"] = "flows"

    dimensions: ClassVar = (1,)

    @property
    def flows(self) -> "list[Flow]":
        """The flows."""
        from ..flows import lines

        return lines.flows(self.family, self.seed, self.count, self.first)

    def knudsen_numbers(self, grid: Grid) -> Tensor:
        """Return Kn, ``[systems]``, or ``[systems, cells]`` where it varies in space."""
        from ..flows import lines

        return lines.knudsen_numbers(self.flows, grid)

    def mixture(self, grid: Grid) -> Mixture:
        """Return the Maxwellians whose sum is the cell average of the start."""
        inside = max(LEAST, -(-POINTS // grid.shape[0]))
        fine = Grid((grid.shape[0] * inside,), grid.lower, grid.upper).centers(0)
        every = [each.layers(fine) for each in self.flows]
        most = max(len(layers) for layers in every)
        none = (torch.zeros_like(fine), torch.zeros_like(fine), torch.ones_like(fine))
        padded = [[*layers, *[none] * (most - len(layers))] for layers in every]
        fields = torch.stack(
            [torch.stack([torch.stack(layer) for layer in layers]) for layers in padded]
        )  # [systems, layers, 3, points]
        fields = fields.unflatten(-1, (grid.shape[0], inside))
        rho, u, theta = fields.permute(2, 1, 4, 0, 3).flatten(1, 2)
        return rho / inside, along_x(u), theta

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return density, velocity and temperature of every flow."""
        return totals(self.mixture(grid), gas.dimension)


@part
class PlaneFlows:
    """Random smooth flows of the plane, in equilibrium at the start."""

    count: Count = 4
    """How many; flow i has a Knudsen number in decade i mod 4 from 1e-3 to 10."""
    first: Annotated[int, Ge(0)] = 0
    """Index of the first one."""
    seed: Annotated[int, Ge(0)] = HELD_OUT
    """Of the flows; the default is the frozen test set."""
    kind: Literal["plane_flows"] = "plane_flows"

    dimensions: ClassVar = (2,)

    @property
    def flows(self) -> list[Any]:
        """The flows."""
        from ..flows import planes

        return planes.flows(self.seed, self.count, self.first)

    def knudsen_numbers(self, grid: Grid) -> Tensor:
        """Return Kn, ``[systems]``."""
        return torch.tensor([each.knudsen for each in self.flows], dtype=torch.float64)

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the fields of every flow."""
        all_fields = torch.stack([grid.average(each.fields, 2) for each in self.flows])
        rho, u, v, theta = all_fields.unbind(-1)
        return Start(rho, torch.stack([u, v, torch.zeros_like(u)], -1), theta)
