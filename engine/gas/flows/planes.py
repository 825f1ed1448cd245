r"""Random flows on the plane, and their kinetic solutions: what 1V closures never saw.

Density, temperature and both velocities are sums of plane waves in random directions::

    q = q_0 + sum over waves of a sin(2 pi (m x + n y) + c),     |m|, |n| <= 2

in the periodic unit box, a Maxwellian at the start (gas with two velocity dimensions, BGK
with constant tau = Kn). Flow i has a Knudsen number in decade i mod 4 from 1e-3 to 10. The
constants are ours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...runtime import generator
from ..boundaries import ALL_PERIODIC
from ..equations.hermite import multi_indices
from ..grid import Grid
from ..kinetic.velocities import Velocities
from ..kinetic.world import KineticState, KineticWorld
from ..material import Gas
from .lines import DECADES

GAS = Gas.constant_time(dimension=2)
WAVES = 4
"""Waves of each field."""


@dataclass(frozen=True)
class PlaneFlow:
    """One initial condition.

    Attributes:
        waves: ``[fields, WAVES, 4]`` amplitude, m, n, phase of density, u, v, temperature.
        knudsen: Kn.
    """

    waves: Tensor
    knudsen: float

    def fields(self, x: Tensor, y: Tensor) -> Tensor:
        """Return density, u, v, temperature at points, ``[..., 4]``."""
        a, m, n, c = self.waves.unbind(-1)
        angle = 2 * math.pi * (x[..., None, None] * m + y[..., None, None] * n) + c
        rest = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=x.dtype)
        return rest + (a * torch.sin(angle)).sum(-1)


def flow(seed: int, index: int) -> PlaneFlow:
    """Return flow ``index`` of a seed; the same however many are asked for."""
    rng = generator(seed, 60_000_000 + index)
    pick = torch.rand(4, WAVES, 4, generator=rng, dtype=torch.float64)
    numbers = (5 * pick[..., 1:3]).floor() - 2.0
    sizes = torch.tensor([0.16, 0.16, 0.16, 0.12], dtype=torch.float64)[:, None]
    size = sizes * (0.3 + 0.7 * pick[..., 0])
    waves = torch.stack(
        [size, numbers[..., 0], numbers[..., 1], 2 * math.pi * pick[..., 3]], -1
    )
    share = float(torch.rand((), generator=rng))
    return PlaneFlow(waves, 10.0 ** (index % DECADES - 3 + share))


def flows(seed: int, count: int, first: int = 0) -> list[PlaneFlow]:
    """Return ``count`` flows from index ``first`` on."""
    return [flow(seed, first + i) for i in range(count)]


def box(cells: int) -> Grid:
    """Return the periodic unit box."""
    return Grid((cells, cells), (-0.5, -0.5), (0.5, 0.5))


def kinetic(
    some: Sequence[PlaneFlow], cells: int, nodes: int, limit: float = 6.5
) -> tuple[KineticWorld, KineticState]:
    """Return the kinetic world of some flows and their start."""
    grid = box(cells)
    world = KineticWorld(
        grid=grid,
        sides=(ALL_PERIODIC, ALL_PERIODIC),
        velocities=Velocities.symmetric(2, nodes, limit),
        gas=GAS,
        knudsen=torch.tensor([each.knudsen for each in some], dtype=torch.float64),
        in_place=True,
    )
    fields = torch.stack([grid.average(each.fields, 2) for each in some])
    return world, world.equilibrium(fields[..., 0], fields[..., 1:3], fields[..., 3])


def raw_moments(world: KineticWorld, state: KineticState, order: int) -> Tensor:
    """Return ``integral v_x^i v_y^j f dv`` in their order, ``[batch, N, nx, ny]``."""
    v = world.velocities.nodes.to(state.f)
    powers = [v[:, 0] ** a * v[:, 1] ** b for a, b in multi_indices(order, 2)]
    weight = torch.stack(powers, -1) * world.velocities.weight
    f = state.f[:, 0, : world.grid.cells]
    return (f @ weight).mT.unflatten(2, world.grid.shape)


def from_raw(raw: Tensor, order: int) -> Tensor:
    """Return w of :class:`~...gas.equations.hermite.Hermite` from raw moments.

    Args:
        raw: ``[batch, >= N, nx, ny]``.
        order: M; an order above that of the solver gives the closing tensor behind.
    """
    every = multi_indices(order, 2)
    at = {a: i for i, a in enumerate(every)}
    rho = raw[:, 0]
    u = [raw[:, 1] / rho, raw[:, 2] / rho]

    def central(a: tuple[int, ...]) -> Tensor:
        parts = [
            math.comb(a[0], p) * math.comb(a[1], q) * (-u[0]) ** (a[0] - p)
            * (-u[1]) ** (a[1] - q) * raw[:, at[p, q]]
            for p in range(a[0] + 1) for q in range(a[1] + 1)
        ]  # fmt: skip
        return torch.stack(parts).sum(0)

    about = {(a[0], a[1]): central(a) for a in every}
    theta = 0.5 * (about[2, 0] + about[0, 2]) / rho
    he = [np.polynomial.hermite_e.herme2poly([0] * k + [1]) for k in range(order + 1)]

    def coefficient(a: tuple[int, ...]) -> Tensor:
        parts = [
            float(he[a[0]][p] * he[a[1]][q]) * about[p, q]
            * theta ** ((a[0] + a[1] - p - q) // 2)
            for p in range(a[0] % 2, a[0] + 1, 2) for q in range(a[1] % 2, a[1] + 1, 2)
        ]  # fmt: skip
        return torch.stack(parts).sum(0) / math.prod(map(math.factorial, a))

    first: dict[tuple[int, ...], Tensor] = {(0, 0): rho, (1, 0): u[0], (0, 1): u[1]}
    first |= {a: about[a[0], a[1]] / rho for a in ((2, 0), (0, 2))}
    return torch.stack([first[a] if a in first else coefficient(a) for a in every], 1)


def averaged(raw: Tensor, cells: int) -> Tensor:
    """Average over blocks of cells, ``[..., cells, cells]``."""
    ratio = raw.shape[-1] // cells
    blocks = raw.unflatten(-2, (cells, ratio)).unflatten(-1, (cells, ratio))
    return blocks.mean((-3, -1))


def solve(
    some: Sequence[PlaneFlow],
    times: Sequence[float],
    cells: int = 96,
    nodes: int = 40,
    coarse: int = 48,
    order: int = 6,
    limit: float = 6.5,
) -> Tensor:
    """Solve the kinetic equation and return raw moments as cell averages.

    Args:
        some: the flows.
        times: rising, from 0 on.
        cells: along each axis, a multiple of ``coarse``.
        nodes: velocities along each axis, on [-limit, limit].
        coarse: cells of the answer along each axis.
        order: highest moment.
        limit: of the velocities.

    Returns:
        ``[times, flows, N, coarse, coarse]``.
    """
    world, start = kinetic(some, cells, nodes, limit)
    states = world.sampled(start, times)
    return torch.stack([averaged(raw_moments(world, s, order), coarse) for s in states])


def conserved(raw: Tensor) -> Tensor:
    """Return density, both momenta and energy of raw moments, ``[batch, 4, nx, ny]``."""
    energy = 0.5 * (raw[:, 3] + raw[:, 5])
    return torch.cat([raw[:, :3], energy[:, None]], 1)


def signal_error(ours: Tensor, true: Tensor) -> Tensor:
    """Return the L2 distance of :func:`conserved` fields by the signal, ``[batch]``.

    The signal is the departure of ``true`` from its mean at that time.
    """
    signal = true - true.mean((2, 3), keepdim=True)
    miss = (ours - true).square().sum((1, 2, 3))
    return (miss / signal.square().sum((1, 2, 3))).sqrt()
