"""Shock waves: one at rest, and one that runs into density waves."""

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt, Le

from ....models.parts import part
from ..boundaries import Inflow, Sides
from ..exact import shock_jump
from ..grid import Grid
from ..material import Gas
from .base import Start, along_x


@part
class Shock:
    """A shock at rest; sets the ends of x to the states ahead and behind."""

    mach: Annotated[float, Gt(1), Le(20)]
    """Mach number ahead."""
    width: Annotated[float, Gt(0)] = 1.0
    """Of the transition at the start: half of the distance over which it is smeared."""
    kind: Literal["shock"] = "shock"

    dimensions: ClassVar = (1,)

    def ends(self, gamma: float) -> Sides:
        """Return the states ahead (low end of x) and behind."""
        speed, density, slow, hot = shock_jump(self.mach, gamma)
        ahead = Inflow(1.0, (speed, 0.0, 0.0), 1.0)
        return Sides(ahead, Inflow(density, (slow, 0.0, 0.0), hot))

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return a smooth transition."""
        speed, density, _, hot = shock_jump(self.mach, gas.gamma)
        share = 0.5 * (1 + torch.tanh(grid.points()[0] / (2 * self.width)))
        rho = 1 + (density - 1) * share
        u = along_x(speed / rho)
        return Start(rho, u, 1 + (hot - 1) * share, self.ends(gas.gamma))


@part
class ShuOsher:
    """A Mach 3 shock runs into density waves (Shu, Osher 1989); gamma 1.4, x in [-5, 5]."""

    kind: Literal["shu_osher"] = "shu_osher"

    dimensions: ClassVar = (1,)

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the fields."""
        x = grid.points()[0]
        behind = x < -4.0
        rho = torch.where(behind, 3.857143, 1 + 0.2 * torch.sin(5 * x))
        p = torch.where(behind, 10.33333, torch.ones_like(x))
        u = torch.where(behind, 2.629369, 0.0).to(x)
        return Start(rho, along_x(u), p / rho)
