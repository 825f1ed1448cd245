r"""Flows along a line of a gas with several velocity dimensions, seen along directions.

The marginal of f along a direction n, ``F_n(s) = integral f(v) delta(s - v.n) dv``, is a
distribution in one velocity dimension. In a flow along x that starts without velocity
across it, f turns about x, and all its marginals are those in the plane of v_x and v_y: two
resolved velocities are enough, the third is reduced (Chu, Phys. Fluids 8, 1965, p. 12).

Along n, at an angle of cosine c to x, the flow varies as along x over lengths 1/c as long.

:func:`shock` does the same to a shock on its way from a smooth start to its steady profile,
in a gas whose viscosity is a power of the temperature. Lengths are mean free paths ahead.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..boundaries import ALL_PERIODIC, Inflow, Sides
from ..exact import shock_jump
from ..grid import Grid
from ..initial.families import Flows
from ..kinetic.velocities import Velocities
from ..kinetic.world import KineticState, KineticWorld
from ..material import Gas
from ..mixture import samples
from .lines import averaged, box

COSINES = (1.0, 0.9, 0.75, 0.5, 0.25)
"""Of the angles between directions and x."""


def kinetic(
    some: Flows, dimension: int, prandtl: float, cells: int, nodes: int, limit: float
) -> KineticWorld:
    """Return the kinetic equation (Shakhov's unless the Prandtl number is 1)."""
    return KineticWorld(
        grid=box(cells),
        sides=(ALL_PERIODIC,),
        velocities=Velocities.symmetric(2, nodes, limit),
        gas=Gas.constant_time(dimension, prandtl),
        knudsen=some.knudsen_numbers(box(cells)),
        model="bgk" if prandtl == 1.0 else "shakhov",
        in_place=True,
    )


def solve(
    some: Flows,
    times: Sequence[float],
    dimension: int,
    prandtl: float,
    order: int,
    cells: int = 100,
    nodes: int = 32,
    coarse: int = 100,
    limit: float = 6.8,
    cosines: Sequence[float] = COSINES,
) -> Tensor:
    """Return raw moments 0 .. ``order`` of the marginals, as cell averages.

    Args:
        some: the flows.
        times: rising, from 0 on.
        dimension: D, 2 or 3.
        prandtl: Prandtl number.
        order: highest moment.
        cells: of the kinetic run, a multiple of ``coarse``.
        nodes: velocities along each of the two resolved axes, on [-limit, limit].
        coarse: cells of the answer.
        limit: of the velocities.
        cosines: of the angles between the directions and x.

    Returns:
        ``[times, cosines, flows, coarse, order + 1]``.
    """
    world = kinetic(some, dimension, prandtl, cells, nodes, limit)
    v = world.velocities.nodes
    start = world.start(samples(some.mixture(world.grid), v, dimension))
    states = world.sampled(start, times)
    return torch.stack(
        [averaged(marginals(world, each, order, cosines), coarse) for each in states]
    )


def marginals(
    world: KineticWorld, state: KineticState, order: int, cosines: Sequence[float]
) -> Tensor:
    """Return raw moments of the marginals, ``[cosines, batch, cells, order + 1]``."""
    v = world.velocities.nodes
    speeds = [c * v[:, 0] + (1.0 - c * c) ** 0.5 * v[:, 1] for c in cosines]
    powers = torch.stack([s**k for s in speeds for k in range(order + 1)], -1)
    weight = powers * world.velocities.weight
    raw = state.f[:, 0, : world.grid.cells] @ weight.to(state.f)
    return raw.unflatten(-1, (len(cosines), order + 1)).movedim(2, 0)


PATH = 5.0 * math.sqrt(2.0 * math.pi) / 16.0
"""Relaxation time ahead in mean free paths ``16/5 mu / (rho sqrt(2 pi R T))``."""
EXTENT = 20.0
"""Half width of the box of a shock, mean free paths ahead."""
OMEGA = 0.75
"""Exponent of the viscosity, between those of helium and argon. A closure that knows free
paths alone sees of it how they follow the temperature."""


def shock(
    mach: float,
    times: Sequence[float],
    dimension: int,
    prandtl: float,
    order: int,
    cells: int = 100,
    extent: float = EXTENT,
    refinement: int = 2,
    cosines: Sequence[float] = COSINES,
) -> tuple[Tensor, Tensor]:
    """Return a shock as its marginals, cell averages, and its relaxation times.

    Args:
        mach: Mach number ahead.
        times: rising, from 0 on; mean free paths over ``sqrt(R T)``.
        dimension: D, 2 or 3.
        prandtl: Prandtl number.
        order: highest moment.
        cells: of the answer.
        extent: half width of the box, mean free paths.
        refinement: how much finer the kinetic run is.
        cosines: of the angles between the directions and x.

    Returns:
        ``[times, cosines, cells, order + 1]`` raw moments and ``[times, cells]`` tau.
    """
    gas = Gas.power_law(dimension, OMEGA, prandtl)
    speed, density, after, hot = shock_jump(mach, gas.gamma)
    grid = Grid((cells * refinement,), (-extent,), (extent,))
    world = KineticWorld(
        grid=grid,
        sides=(Sides(Inflow(1.0, (speed,), 1.0), Inflow(density, (after,), hot)),),
        velocities=_velocities(speed, after, math.sqrt(hot)),
        gas=gas,
        knudsen=torch.tensor([PATH], dtype=torch.float64),
        model="bgk" if prandtl == 1.0 else "shakhov",
        in_place=True,
    )
    s = 0.5 * (1 + torch.tanh(grid.centers(0)))[None]
    rho, theta = 1 + (density - 1) * s, 1 + (hot - 1) * s
    u = torch.stack([speed / rho, torch.zeros_like(rho)], -1)
    start = world.equilibrium(rho, u, theta)
    raw, tau = [], []
    for state in world.sampled(start, times):
        raw.append(averaged(marginals(world, state, order, cosines), cells)[:, 0])
        seen = world.observe(state)
        number = torch.tensor(PATH, dtype=torch.float64)
        local = gas.relaxation_time(number, seen["density"], seen["temperature"])
        tau.append(averaged(local[..., None], cells)[0, :, 0])
    return torch.stack(raw), torch.stack(tau)


def _velocities(speed: float, after: float, root: float) -> Velocities:
    """Return nodes that hold the gas on both sides of a shock: 0.6 apart, across 0.9."""
    low, high = after - 5.2 * root, speed + 5.5 * root
    across = 5.2 * root
    along = max(48, math.ceil((high - low) / 0.6))
    return Velocities(
        (along, max(24, 2 * math.ceil(across / 0.9))), (low, -across), (high, across)
    )
