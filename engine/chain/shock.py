"""A steady shock of Shakhov's kinetic equation in a gas with any transport law."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import GuardError
from ..gas.boundaries import Inflow, Sides
from ..gas.exact import shock_jump
from ..gas.grid import Grid
from ..gas.kinetic import steady
from ..gas.kinetic.differentiable import LineKinetics
from ..gas.kinetic.velocities import Velocities
from ..gas.kinetic.world import KineticWorld
from ..gas.material import Gas

GAMMA = 5.0 / 3.0
KNUDSEN = 5.0 * math.sqrt(2.0 * math.pi) / 16.0
"""Viscosity ahead in units in which the mean free path ahead,
``16/5 mu / (rho sqrt(2 pi R T))``, is 1."""
DEGREE = 5
"""Of the polynomial ln mu (ln T)."""
NODES = 12
"""Temperatures at which the law is asked for."""


@dataclass(frozen=True)
class ShockTube:
    """A shock at rest; lengths in mean free paths ahead of a reference gas.

    Attributes:
        mach: of the gas ahead.
        cells: of the box.
        extent: half width.
        nodes: discrete velocities.
        settling: time steps before Newton's method.
    """

    mach: float
    cells: int = 100
    extent: float = 20.0
    nodes: int = 64
    settling: int = 1500

    @property
    def grid(self) -> Grid:
        """The box."""
        return Grid((self.cells,), (-self.extent,), (self.extent,))

    @property
    def velocities(self) -> Velocities:
        """Nodes that hold the gas at both ends."""
        speed, _, after, hot = shock_jump(self.mach, GAMMA)
        low, high = after - 5.2 * math.sqrt(hot), speed + 5.5 * math.sqrt(hot)
        return Velocities((self.nodes,), (low,), (high,))

    @property
    def temperatures(self) -> Tensor:
        """Where the law is asked for, over the temperature ahead; Chebyshev in ln T."""
        low, high = math.log(0.8), math.log(1.3 * shock_jump(self.mach, GAMMA)[3])
        k = torch.arange(NODES, dtype=torch.float64)
        x = torch.cos(math.pi * (k + 0.5) / NODES)
        return (0.5 * (low + high) + 0.5 * (high - low) * x).exp()

    @property
    def middle(self) -> float:
        """Temperature in the middle of the shock, over that ahead."""
        return math.sqrt(shock_jump(self.mach, GAMMA)[3])

    def law(self, ln_viscosity: Tensor) -> Tensor:
        """Return the coefficients of a law from ``ln mu`` at :attr:`temperatures`.

        Relative to the viscosity ahead of the reference gas.
        """
        logs = self.temperatures.log()
        powers = torch.stack([logs**k for k in range(DEGREE + 1)], 1)
        return torch.linalg.pinv(powers) @ ln_viscosity

    def line(
        self, law: Tensor, prandtl: Tensor, mach: Tensor | None = None
    ) -> LineKinetics:
        """Return the kinetic equation between the two ends.

        Args:
            law: coefficients of :meth:`law`.
            prandtl: scalar.
            mach: scalar that the ends follow, differentiable; else :attr:`mach`.
        """

        def relaxation_time(rho: Tensor, t: Tensor) -> Tensor:
            powers = torch.stack([t.log() ** k for k in range(DEGREE + 1)], -1)
            return KNUDSEN * (powers @ law).exp() / (rho * t)

        m = torch.tensor(self.mach, dtype=torch.float64) if mach is None else mach
        one, speed = torch.ones_like(m), m * math.sqrt(GAMMA)
        ratio = (GAMMA + 1) * m**2 / ((GAMMA - 1) * m**2 + 2)
        hot = (1 + 2 * GAMMA / (GAMMA + 1) * (m**2 - 1)) / ratio
        bare = LineKinetics(self.grid, self.velocities, 3, relaxation_time, prandtl)
        return bare.between(
            bare.equilibrium(one, speed, one), bare.equilibrium(ratio, speed / ratio, hot)
        ).smooth()

    def march(self, law: Tensor, prandtl: float) -> Tensor:
        """Return the distribution after ``settling`` steps with a power law."""
        speed, density, after, hot = shock_jump(self.mach, GAMMA)
        sides = Sides(Inflow(1.0, (speed,), 1.0), Inflow(density, (after,), hot))
        world = KineticWorld(
            grid=self.grid,
            sides=(sides,),
            velocities=self.velocities,
            gas=Gas.power_law(3, float(law[1]), prandtl),
            knudsen=torch.tensor([KNUDSEN], dtype=torch.float64),
            model="shakhov",
        )
        part = 0.5 * (1 + torch.tanh(0.5 * self.grid.centers(0)))[None]
        rho = 1 + (density - 1) * part
        state = world.equilibrium(rho, (speed / rho)[..., None], 1 + (hot - 1) * part)
        return world.cells_of(world.advance(state, self.settling))[0]


@dataclass(frozen=True)
class Profile:
    """A shock that was computed.

    Attributes:
        x: ``[cells]`` mean free paths ahead.
        density: 0 ahead to 1 behind.
        temperature: 0 ahead to 1 behind.
        inverse_thickness: ``3/2 int (d rho / dx)^2 dx``; for a hyperbolic tangent the
            largest slope. It hardly depends on where between cells the shock lies.
        error: statistical standard error of it; 0 where it is deterministic.
    """

    x: Tensor
    density: Tensor
    temperature: Tensor
    inverse_thickness: Tensor
    error: float = 0.0


def integral_measure(density: Tensor, spacing: float) -> Tensor:
    """Return ``3/2 int (d rho / dx)^2 dx`` of a profile from 0 to 1."""
    return 1.5 * density.diff().square().sum() / spacing


def profile_of(tube: ShockTube, line: LineKinetics, f: Tensor) -> Profile:
    """Return what is looked at of a distribution."""
    assert line.reservoirs is not None
    low, high = (line.moments(r[:, None])[:, 0] for r in line.reservoirs)
    seen = line.moments(f)
    density = (seen[0] - low[0]) / (high[0] - low[0])
    t, cold, hot = (line.fields(m)[2] for m in (seen, low[:, None], high[:, None]))
    return Profile(
        tube.grid.centers(0),
        density,
        (t - cold) / (hot - cold),
        integral_measure(density, tube.grid.spacing[0]),
    )


def refined(f: Tensor, coarse: ShockTube, fine: ShockTube) -> Tensor:
    """Return a distribution ``[parts, cells, nodes]`` on the cells of another grid.

    Linear between cell centres; what is asked beyond them is that of the outer cells.
    """
    x, h = fine.grid.centers(0), coarse.grid.spacing[0]
    place = ((x + coarse.extent) / h - 0.5).clamp(0, coarse.cells - 1)
    left = place.floor().long().clamp(max=coarse.cells - 2)
    share = (place - left)[:, None]
    return (1 - share) * f[:, left] + share * f[:, left + 1]


def solve(
    tube: ShockTube,
    ln_viscosity: Tensor,
    prandtl: Tensor,
    start: tuple[Tensor, float] | None = None,
) -> tuple[Profile, steady.SteadyState]:
    """Return the steady shock, differentiable by the law and the Prandtl number.

    Args:
        tube: the set-up.
        ln_viscosity: ``[NODES]`` at :attr:`ShockTube.temperatures`.
        prandtl: scalar.
        start: distribution and mass of a shock near by; without it the gas is marched on
            cells twice as wide, and the steady shock there is the start.

    Raises:
        GuardError: Newton's method does not converge.
    """
    law = tube.law(ln_viscosity)
    line = tube.line(law, prandtl)
    if start is not None:
        state = steady.solve(line, *start)
    else:
        state = settled(tube, line, law.detach(), prandtl.detach())
    return profile_of(tube, line, state.f), state


def settled(
    tube: ShockTube, line: LineKinetics, law: Tensor, prandtl: Tensor
) -> steady.SteadyState:
    """Return the steady shock of ``line``, from that on cells twice as wide.

    Where those are too wide for it to be near, from gas marched on the cells themselves.

    Raises:
        GuardError: Newton's method converges from neither.
    """
    coarse = replace(tube, cells=tube.cells // 2)
    try:
        f = coarse.march(law, float(prandtl))
        state = steady.solve(coarse.line(law, prandtl), f)
        return steady.solve(line, refined(state.f, coarse, tube), state.mass)
    except GuardError:
        return steady.solve(line, tube.march(law, float(prandtl)))
