"""The same shock by moment equations with a learned closure."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import runtime
from ..errors import GuardError
from ..gas.boundaries import Inflow, Sides
from ..gas.closures.parts import Learned
from ..gas.exact import shock_jump
from ..gas.material import Gas
from ..gas.scheme.finite_volume import MomentWorld, koren
from ..gas.scheme.positivity import PositivityFallback
from .shock import GAMMA, KNUDSEN, Profile, ShockTube, integral_measure

PRANDTL = 2.0 / 3.0
"""Of a monatomic gas; a closure is learned at one."""
CFL = 0.3


@dataclass(frozen=True)
class ClosedShock:
    """How a shock is computed by moments; lengths in mean free paths ahead.

    The gas streams from the shock of the kinetic equation to its own steady state; what the
    last quarter of the time still changes of the thickness stands as its error.

    Attributes:
        member: weights of the closure.
        until: end of the march, mean free paths over sqrt(R T) ahead.
    """

    member: Path
    until: float = 20.0

    def equations(self, omega: float) -> Any:
        """Return the moment equations in gas of a power law.

        Raises:
            InputError: the file is missing or damaged, or the closure was learned for
                another gas.
        """
        gas = Gas.power_law(3, omega, PRANDTL)
        return Learned((self.member,)).equations(gas, None, lambda path: path)

    def run(
        self, tube: ShockTube, omega: float, start: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[Profile, float]:
        """Return the profile, and the share of faces where the closure fell back to HME.

        Args:
            tube: box, cells and Mach number.
            omega: exponent of the viscosity between the ends of the shock.
            start: ``[cells]`` density and temperature of the kinetic equation, 0 ahead to 1
                behind.

        Raises:
            GuardError: the moments became unphysical.
        """
        speed, density, after, hot = shock_jump(tube.mach, GAMMA)
        world = MomentWorld(
            tube.grid,
            (Sides(Inflow(1.0, (speed,), 1.0), Inflow(density, (after,), hot)),),
            self.equations(omega),
            torch.tensor([KNUDSEN], dtype=torch.float64),
            1.0,
            limiter=koren,
            check=False,
            once=True,
        )
        rho, t = (
            1 + (end - 1) * x[None] for x, end in zip(start, (density, hot), strict=True)
        )
        u = torch.zeros(1, tube.cells, 3).double()
        u[..., 0] = speed / rho
        w = world.equations.equilibrium(rho, u, t)
        steps = 4 * math.ceil(0.25 * self.until * world.courant_rate(w) / CFL)
        world = world.with_time_step(self.until / steps)
        solver, state = PositivityFallback(world), world.start(w)
        found, last = [], None
        with runtime.one_thread():
            for step in range(steps):
                state = solver.step(state)
                if step + 1 in (3 * steps // 4, steps):
                    last = _profile(tube, world.observe(state), density, hot)
                    found.append(float(last.inverse_thickness))
        assert last is not None
        if not math.isfinite(found[-1]):
            raise GuardError(f"moments at Mach {tube.mach:g} are no numbers")
        share = float(state.fallbacks) / steps / (tube.cells + 1)
        return replace(last, error=abs(found[1] - found[0])), share


def _profile(
    tube: ShockTube, seen: dict[str, torch.Tensor], density: float, hot: float
) -> Profile:
    rho = (seen["density"][0] - 1) / (density - 1)
    return Profile(
        tube.grid.centers(0),
        rho,
        (seen["temperature"][0] - 1) / (hot - 1),
        integral_measure(rho, tube.grid.spacing[0]),
    )


__all__ = ["ClosedShock"]
