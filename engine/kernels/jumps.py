"""Jumps of Hermite moments at faces and within cells, in vector registers, on CPUs.

The algebra of :mod:`..gas.equations.hermite` for many points at once: what the equations
``A d`` and their upwinding ``|A| d`` make of a jump d. A vector holds one moment at as many
points; tables say which moments an equation takes, so that nothing is unrolled over the 56
of order 5.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from ..runtime import start
from .moments import Chain
from .types import Array1, Array2, Int, Template, Vectors, aligned, simd, ti, turns

LANES = 8
"""Points of a vector."""


@dataclass(frozen=True)
class Expansion:
    """What the kernel is compiled for.

    Attributes:
        order: M.
        axes: D.
        count: N.
        diagonal: places of the temperatures.
        sonic: smallest signal of the upwinding over ``sqrt(theta)``.
        upwind: whether ``|A| d`` is asked for.
    """

    order: int
    axes: int
    count: int
    diagonal: tuple[int, ...]
    sonic: float
    upwind: bool

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """Those of 1, 2 .. M + 1 moments."""
        return tuple(Chain.of(size) for size in range(1, self.order + 2))

    @cached_property
    def many(self) -> tuple[int, ...]:
        """How many there are of each size."""
        if self.axes == 1:
            return (*(0,) * self.order, 1)
        rest, across = range(self.order, -1, -1), self.axes - 2
        return tuple(math.comb(n + across, across) for n in rest)


@ti.func
def carried(room: Template, f, i, du: Template, half, at: Template, of: Template):
    """``sum_d f_{a - e_d} du_d + 1/2 dtheta sum_d f_{a - 2 e_d}``."""
    total = half * room[f + at[i, of.axes]]
    for d in ti.static(range(1, of.axes)):
        total += half * room[f + at[i, of.axes + d]]
    for d in ti.static(range(of.axes)):
        total += room[f + at[i, d]] * du[d]
    return total


@ti.func
def from_frozen(room: Template, f, x, out: Template, g, groups, at: Template, of: Template):
    """Write the change of w that a change x in the frame of the gas is."""
    thin = 1.0 / room[f]
    du = [thin for _ in range(of.axes)]
    dt = [thin for _ in range(of.axes)]
    half = 0.0 * thin
    for d in ti.static(range(of.axes)):
        p = ti.static(of.diagonal[d])
        du[d] = room[x + 1 + d] * thin
        dt[d] = 2.0 * thin * (room[x + p] - room[f + p] * thin * room[x])
        half += 0.5 / of.axes * dt[d]
    for i in range(of.count):
        out[i * groups + g] = room[x + i] - carried(room, f, i, du, half, at, of)
    out[g] = room[x]
    for d in ti.static(range(of.axes)):
        out[(1 + d) * groups + g] = du[d]
        out[of.diagonal[d] * groups + g] = dt[d]


@ti.func
def upwinded(room: Template, z, x, u, root, chains: Template, of: Template):
    """Write ``|M| z``, chain by chain of moments that M mixes."""
    slow = 1.0 / root
    first = 0
    for i, chain in ti.static(enumerate(of.chains)):
        for c in range(first, first + ti.static(of.many[i])):
            wave = [slow for _ in range(chain.size)]
            own = [slow for _ in range(chain.size)]
            power = 0.0 * slow + 1.0
            for k in ti.static(range(chain.size)):
                own[k] = chain.scale[k] * power
                power *= slow
            for m in ti.static(range(chain.size)):
                total = 0.0 * slow
                for k in ti.static(range(chain.size)):
                    total += chain.vectors[k][m] * own[k] * room[z + chains[c, k]]
                speed = u * slow + chain.speeds[m]
                speed = ti.max(speed, -1.0 * speed)
                low = ti.min(speed, 0.0 * speed + of.sonic)
                # rounded below the sonic speed: (s^2 / c + c) / 2
                speed = 0.5 * (low * low / of.sonic + of.sonic) + speed - low
                wave[m] = total * speed * root
            for k in ti.static(range(chain.size)):
                total = 0.0 * slow
                for m in ti.static(range(chain.size)):
                    total += chain.vectors[k][m] * wave[m]
                room[x + chains[c, k]] = total / own[k]
        first += ti.static(of.many[i])


@ti.func
def to_frozen(room: Template, f, z, x, axis, at: Template, of: Template):
    """Turn a mean state and a jump into f and D; return u and the temperature."""
    none = 0.0 * room[f]
    room[f + of.count] = none
    room[z + of.count] = none
    rho = room[f]
    u = room[f + 1 + axis]
    du = [none for _ in range(of.axes)]
    theta = none
    half = none
    for d in ti.static(range(of.axes)):
        p = ti.static(of.diagonal[d])
        du[d] = room[z + 1 + d]
        theta += room[f + p] * (1.0 / of.axes)
        half += room[z + p] * (0.5 / of.axes)
        room[f + 1 + d] = none
        room[z + 1 + d] = none
    for d in ti.static(range(of.axes)):
        p = ti.static(of.diagonal[d])
        spread = 0.5 * rho * (room[f + p] - theta)
        change = 0.5 * rho * (room[z + p] - 2.0 * half)
        room[z + p] = spread / rho * room[z] + change
        room[f + p] = spread
    for i in range(of.count):
        room[x + i] = room[z + i] + carried(room, f, i, du, half, at, of)
    for i in range(of.count):
        room[z + i] = room[x + i]
    return u, theta


@ti.kernel
def k_jumps(
    left: Vectors, right: Vectors, axis: Int, at: Array2, factor: Array1, chains: Array2,
    room: Vectors, out: Vectors, jump: Vectors, waves: Vectors, smear: Vectors, groups: Int,
    workers: Int, of: Template,
):  # fmt: skip
    """See :func:`jumps`; ``room [workers, 3 N + 3]`` is their own."""
    for worker, spare in ti.ndrange(workers, ti.static(turns(512))):
        if spare > 0:
            continue
        n = ti.static(of.count)
        f = worker * (3 * n + 3)
        z = f + n + 1
        x = z + n + 1
        share = (groups + workers - 1) // workers
        for g in range(worker * share, ti.min(groups, (worker + 1) * share)):
            for i in range(n):
                a = left[i * groups + g]
                b = right[i * groups + g]
                room[f + i] = 0.5 * (a + b)
                room[z + i] = b - a
            u, theta = to_frozen(room, f, z, x, axis, at, of)
            for i in range(n + 1):
                out[i * groups + g] = room[f + i]
            for i in range(n):
                below = theta * room[z + at[i, 2 * of.axes]]
                above = factor[i] * room[z + at[i, 2 * of.axes + 1]]
                room[x + i] = u * room[z + i] + below + above
            from_frozen(room, f, x, jump, g, groups, at, of)
            if ti.static(of.upwind):
                root = ti.sqrt(ti.max(theta, 0.0 * theta + 1e-9))
                upwinded(room, z, x, u, root, chains, of)
                for i in range(n):
                    waves[i * groups + g] = room[x + i]
                from_frozen(room, f, x, smear, g, groups, at, of)


@dataclass(frozen=True)
class Tables:
    """What an expansion takes along one axis; places are int32.

    Attributes:
        axis: of the grid.
        at: ``[N, 2 D + 2]`` places of a - e_d, a - 2 e_d, a - e_axis, a + e_axis; N: none.
        factor: ``[N]`` a_axis + 1.
        chains: ``[chains, M + 1]`` places of the moments that differ along the axis alone,
            those of short chains first.
    """

    axis: int
    at: torch.Tensor
    factor: torch.Tensor
    chains: torch.Tensor


def jumps(
    left: torch.Tensor, right: torch.Tensor, tables: Tables, of: Expansion
) -> tuple[torch.Tensor, ...]:
    """Return f of the mean with a zero behind, and ``A d``, ``|M| D``, ``|A| d`` of a jump.

    The last two only where it upwinds.

    Args:
        left: ``[batch, N, points]`` f64 on a CPU.
        right: the same.
        tables: of the axis.
        of: the expansion.
    """
    start("cpu")
    batch, n, points = left.shape
    groups = -(-batch * points // LANES)

    def laid(x: torch.Tensor) -> torch.Tensor:
        rows = x.transpose(0, 1).reshape(n, -1)
        if rows.shape[1] < groups * LANES:
            more = groups * LANES - rows.shape[1]
            rows = torch.cat([rows, rows[:, :1].expand(-1, more)], 1)
        return aligned(rows.contiguous()).view(-1, LANES)

    workers = max(1, min(groups, torch.get_num_threads()))
    room = left.new_empty(workers * (3 * n + 3), LANES)
    some = (n + 1, n, n, n)[: 4 if of.upwind else 2]
    out = [left.new_empty(rows * groups, LANES) for rows in some]
    with simd():
        k_jumps(
            laid(left), laid(right), tables.axis, tables.at, tables.factor, tables.chains,
            room, *out, *out[: 4 - len(out)], groups, workers, of,
        )  # fmt: skip
    whole = (x.view(-1, groups * LANES)[:, : batch * points] for x in out)
    return tuple(x.unflatten(1, (batch, points)).transpose(0, 1) for x in whole)


__all__ = ["Expansion", "Tables", "jumps"]
