r"""Flows along a line of a gas with several velocity dimensions, seen along directions.

The marginal of f along a direction n, ``F_n(s) = integral f(v) delta(s - v.n) dv``, is a
distribution in one velocity dimension. In a flow along x that starts without velocity
across it, f turns about x, and all its marginals are those in the plane of v_x and v_y: two
resolved velocities are enough, the third is reduced (Chu, Phys. Fluids 8, 1965, p. 12).

Along n, at an angle of cosine c to x, the flow varies as along x over lengths 1/c as long.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..boundaries import ALL_PERIODIC
from ..initial.families import Flows
from ..kinetic.velocities import Velocities
from ..kinetic.world import KineticWorld
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
    speeds = [c * v[:, 0] + (1.0 - c * c) ** 0.5 * v[:, 1] for c in cosines]
    powers = torch.stack([s**k for s in speeds for k in range(order + 1)], -1)
    weight = powers * world.velocities.weight
    found = []
    for state in world.sampled(start, times):
        raw = state.f[:, 0, :cells] @ weight.to(state.f)
        raw = raw.unflatten(-1, (len(cosines), order + 1)).movedim(2, 0)
        found.append(averaged(raw, coarse))
    return torch.stack(found)
