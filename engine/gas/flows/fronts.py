r"""Shocks and strong Riemann problems on an open line: what weak flows never show.

In a gas with constant relaxation time a flow keeps its form when lengths and tau are scaled
together. So each front is solved once, in units of tau and of the thermal speed ahead, and
then laid on the grid of the closure at as many Knudsen numbers as wanted
(:func:`laid_out`).

* :class:`Shock`: a shock at rest between Rankine-Hugoniot states (gamma = 3), from a smooth
  start to the stationary profile.
* :func:`riemann`: two states with density ratios to 6, temperature ratios to 20 and
  colliding streams, from the jump to some relaxation times later.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...runtime import generator
from ..boundaries import Inflow, Open, Sides
from ..exact import shock_jump
from ..grid import Grid
from ..kinetic.velocities import Velocities
from ..kinetic.world import KineticState, KineticWorld
from ..material import Gas

State = tuple[float, float, float]
"""Density, speed, temperature."""


@dataclass(frozen=True)
class Shock:
    """The two ends of a shock at rest, ahead (density and temperature 1) and behind.

    Attributes:
        mach: ahead.
        extent: half width of the box in mean free paths ``tau sqrt(theta)`` ahead.
        knudsen: the mean free path ahead in the unit of length.
    """

    mach: float
    extent: float
    knudsen: float = 1.0

    @property
    def ends(self) -> tuple[State, State]:
        """(density, speed, temperature) ahead and behind, gamma = 3."""
        speed, density, after, temperature = shock_jump(self.mach, 3.0)
        return (1.0, speed, 1.0), (density, after, temperature)

    @property
    def sides(self) -> Sides:
        """Reservoirs at both ends."""
        a, b = self.ends
        return Sides(Inflow(a[0], (a[1],), a[2]), Inflow(b[0], (b[1],), b[2]))

    def grid(self, cells: int) -> Grid:
        """Return the box."""
        half = self.extent * self.knudsen
        return Grid((cells,), (-half,), (half,))

    def start(self, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Density, speed and temperature of a smooth start with the flux of mass right."""
        a, b = self.ends
        s = 0.5 * (1 + torch.tanh(grid.centers(0) / (2 * self.knudsen)))
        rho = a[0] + (b[0] - a[0]) * s
        return rho[None], (a[0] * a[1] / rho)[None], (a[2] + (b[2] - a[2]) * s)[None]

    def kinetic(self, cells: int, nodes: int) -> KineticWorld:
        """Return the kinetic equation of this shock."""
        _, b = self.ends
        reach = 5.0 * math.sqrt(b[2])
        low, high = b[1] - reach, max(b[1] + reach, self.ends[0][1] + 5.0)
        return KineticWorld(
            grid=self.grid(cells),
            sides=(self.sides,),
            velocities=Velocities((nodes,), (low,), (high,)),
            gas=Gas.constant_time(dimension=1),
            knudsen=torch.tensor([self.knudsen], dtype=torch.float64),
        )


@dataclass(frozen=True)
class Fronts:
    """Kinetic solutions on an open line, in units of tau and the thermal speed ahead.

    Attributes:
        raw: ``[times, fronts, cells, orders]`` raw moments, cell averages.
        edge: ``[cells + 1]`` positions of the faces.
        times: rising.
    """

    raw: Tensor
    edge: Tensor
    times: tuple[float, ...]


def solve(
    world: KineticWorld, state: KineticState, times: Sequence[float], order: int
) -> Fronts:
    """Run the kinetic equation and keep its raw moments at some times."""
    raw = [world.raw_moments(each, order) for each in world.sampled(state, times)]
    grid = world.grid
    edge = torch.linspace(grid.lower[0], grid.upper[0], grid.cells + 1, dtype=torch.float64)
    return Fronts(torch.stack(raw), edge, tuple(times))


def shock(
    mach: float,
    times: Sequence[float],
    cells: int = 300,
    nodes: int = 128,
    extent: float = 30.0,
    order: int = 12,
) -> Fronts:
    """Return one shock on its way from a smooth start to the stationary profile."""
    one = Shock(mach, extent)
    world = one.kinetic(cells, nodes)
    rho, u, theta = one.start(world.grid)
    return solve(world, world.equilibrium(rho, u[..., None], theta), times, order)


def riemann_states(seed: int, index: int) -> tuple[State, State]:
    """Return the two states of one strong Riemann problem; the hot side has theta = 1."""
    rng = generator(seed, 9_000_000 + index)
    pick = torch.rand(5, generator=rng).tolist()
    cold = 20.0 ** -pick[0]
    ratio = 6.0 ** (2 * pick[1] - 1)
    closing = -1.0 + 5.0 * pick[2]
    hot_left = pick[3] < 0.5
    drift = pick[4] - 0.5
    theta = (1.0, cold) if hot_left else (cold, 1.0)
    rho = (ratio, 1.0)
    half = 0.5 * closing
    return (rho[0], drift + half, theta[0]), (rho[1], drift - half, theta[1])


def riemann(
    seed: int,
    count: int,
    times: Sequence[float],
    first: int = 0,
    cells: int = 300,
    nodes: int = 144,
    extent: float = 20.0,
    order: int = 12,
) -> Fronts:
    """Return some strong Riemann problems from the jump on."""
    grid = Grid((cells,), (-extent,), (extent,))
    pairs = [riemann_states(seed, first + i) for i in range(count)]
    world = KineticWorld(
        grid=grid,
        sides=(Sides(Open(), Open()),),
        velocities=Velocities.symmetric(1, nodes, 8.0),
        gas=Gas.constant_time(dimension=1),
        knudsen=torch.ones(count, dtype=torch.float64),
    )
    left = (grid.centers(0) < 0)[None, :, None]
    states = torch.tensor(pairs, dtype=torch.float64)
    w = torch.where(left, states[:, :1], states[:, 1:])
    start = world.equilibrium(w[..., 0], w[..., 1:2], w[..., 2])
    return solve(world, start, times, order)


def laid_out(
    some: Fronts, knudsen: float, cells: int, spacing: float, center: float = 0.0
) -> Tensor:
    """Return the fronts as cell averages at another Knudsen number.

    Beyond the ends of the solution the last cell goes on.

    Args:
        some: the solutions in units of tau.
        knudsen: tau in the unit of the closure.
        cells: of the answer.
        spacing: of the answer.
        center: where the middle of the solution lies in the answer.

    Returns:
        ``[times, fronts, cells, orders]``.
    """
    at = (np.arange(cells + 1) - 0.5 * cells) * spacing
    where = (at - center) / knudsen
    edge = some.edge.numpy()
    width = np.diff(edge)[:, None]
    flat = some.raw.movedim(2, 0).flatten(1).numpy()
    total = np.concatenate([np.zeros((1, flat.shape[1])), np.cumsum(flat * width, 0)])
    # Far points extend the sums linearly, so that the end states go on.
    far = 1e3 * (edge[-1] - edge[0])
    edge = np.concatenate([[edge[0] - far], edge, [edge[-1] + far]])
    ends = total[:1] - far * flat[:1], total[-1:] + far * flat[-1:]
    total = np.concatenate([ends[0], total, ends[1]])
    index = np.clip(np.searchsorted(edge, where, side="right") - 1, 0, len(edge) - 2)
    share = ((where - edge[index]) / (edge[index + 1] - edge[index]))[:, None]
    sums = total[index] + share * (total[index + 1] - total[index])
    mean = np.diff(sums, axis=0) / np.diff(where)[:, None]
    shape = (some.raw.shape[0], some.raw.shape[1], some.raw.shape[3])
    return torch.from_numpy(mean).unflatten(1, shape).movedim(0, 2).contiguous()
