"""What a closure sees of a periodic grid along many lines, in vector registers of a CPU.

As :func:`.moments.k_see_on_grid`, which devices run: a direction at a time, whose cells
stay in the cache. A vector holds the fields of a cell, or the ranges of its averages; what
comes to a cell along its line, ``come = keep come + part jump``, goes on for all ranges at
once.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..runtime import start
from .mirror import DOUBLE, LN2
from .moments import carried_over, look, put
from .types import (
    Array1,
    Array2,
    Array3,
    Int,
    Real,
    Template,
    Vectors,
    aligned,
    kernel_type,
    simd,
    ti,
    turns,
)

LANES = 8
"""Numbers of a vector: most fields, and most ranges."""


@ti.func
def lost_and_kept(y, room: Template, bits: Template, at, form: Template):
    """``1 - exp(-y)`` and ``exp(-y)`` of y > 0, both without a loss of digits."""
    short = ti.min(y, 0.0 * y + form.largest)
    turned = 1.5 * 2.0**form.shift - short * (1.0 / LN2)
    room[at] = turned
    n = turned - 1.5 * 2.0**form.shift
    one = ti.cast(form.bias, ti.i64) << form.shift
    bits[at] = (bits[at] << form.shift) + one
    f = -1.0 * short - n * form.head - n * (LN2 - form.head)
    more = 0.0 * f + form.powers[0]
    for c in ti.static(form.powers[1:-1]):
        more = more * f + c
    power = room[at]
    less = more * f * power
    return (1.0 - power) - less, power + less


@ti.kernel
def k_look_along(
    f: Array3, u: Array3, theta: Array2, tau: Array2, units: Array2, powers: Array2,
    depth: Array1, order: Array2, length: Array1, slowest: Vectors, room: Vectors,
    flat: Array1, bits: Vectors, slow: Array1, row_weights: Array2, margin: Real,
    caution: Real, stretch: Real, z: Array3, gates: Array3, real: Template, M: Template,
    ranges: Template, form: Template, workers: Int,
):  # fmt: skip
    """See :func:`.moments.k_see_on_grid`; ``slowest`` holds one over the ranges.

    ``room [workers, 2 + (3 + ranges) cells]`` is scratch, for each cell its state, what is
    kept and added over the way to the next, and the averages; ``flat`` and ``bits`` are the
    same memory by numbers, and as whole ones.
    """
    for worker, spare in ti.ndrange(workers, ti.static(turns(512))):
        if spare > 0:
            continue
        cells = gates.shape[1]
        rows = gates.shape[0]
        batch = f.shape[0]
        spot = worker * (2 + (3 + ranges) * cells)
        state = spot + 2
        parts = state + cells
        seen = parts + 2 * cells
        none = 0.0 * slowest[0]
        for turn in range((rows - worker + workers - 1) // workers):
            row = turn * workers + worker
            m = row // batch
            b = row - m * batch
            for c in range(cells):
                phi = ti.Vector.zero(ti.f64, M + 1)
                for k in ti.static(range(M + 1)):
                    first = ti.static(math.comb(k + 2, 3))
                    for i in range(first, ti.static(math.comb(k + 3, 3))):
                        phi[k] += powers[m, i] * f[b, c, i]
                delta = phi[2] / phi[0]
                at = (state + c) * LANES
                flat[at] = phi[0]
                flat[at + 1] = (
                    units[m, 0] * u[b, c, 0]
                    + units[m, 1] * u[b, c, 1]
                    + units[m, 2] * u[b, c, 2]
                )
                flat[at + 2] = theta[b, c] + 2.0 * delta
                for k in ti.static(range(3, M + 1)):
                    flat[at + k] = phi[k] + carried_over(phi, delta, k)
                gates[row, c, 2] = carried_over(phi, delta, M + 1)
                for r in ti.static(range(ranges)):
                    room[seen + c * ranges + r] = none
            if depth[m] > 0.0:
                n = length[m]
                for p in range(cells):
                    begin = p // n * n
                    c = order[m, p]
                    ahead = order[m, begin + (p - begin + 1) % n]
                    warm = ti.max(flat[(state + c) * LANES + 2], 1e-12)
                    there = ti.max(flat[(state + ahead) * LANES + 2], 1e-12)
                    free = 1.0 / (tau[b, c] * ti.sqrt(warm))
                    free += 1.0 / (tau[b, ahead] * ti.sqrt(there))
                    y = slowest[0] * (0.5 * depth[m] * free)
                    lost, keep = lost_and_kept(y, room, bits, spot, form)
                    room[parts + 2 * p] = keep
                    room[parts + 2 * p + 1] = 0.5 * lost / y
                for line in range(cells // n):
                    begin = line * n
                    whole = none + 1.0
                    for i in range(n):
                        whole *= room[parts + 2 * (begin + i)]
                    room[spot + 1] = 1.0 / (1.0 - whole)
                    for side in ti.static(range(2)):
                        come = [none for _ in range(ranges)]
                        for step in range(2 * n):
                            i = step % n if ti.static(side == 0) else n - 1 - step % n
                            last = i if ti.static(side == 0) else (i + n - 1) % n
                            c = order[m, begin + i]
                            low = begin + last
                            high = begin + (last + 1) % n
                            if step == n:
                                for r in ti.static(range(ranges)):
                                    come[r] *= flat[(spot + 1) * LANES + r]
                            if step >= n:
                                for r in ti.static(range(ranges)):
                                    to = seen + c * ranges + r
                                    room[to] = room[to] + come[r]
                            jump = (
                                room[state + order[m, high]] - room[state + order[m, low]]
                            )
                            for r in ti.static(range(ranges)):
                                keep = flat[(parts + 2 * low) * LANES + r]
                                part = flat[(parts + 2 * low + 1) * LANES + r]
                                come[r] = keep * come[r] + part * jump
            for c in range(cells):
                mean = ti.Vector.zero(ti.f64, M + 1)
                for k in ti.static(range(M + 1)):
                    mean[k] = flat[(state + c) * LANES + k]
                other = gates[row, c, 2]
                unit = look(
                    mean, row, c, slow, row_weights, margin, caution, stretch, z, gates,
                    real,
                )  # fmt: skip
                gates[row, c, 2] = other
                for r in range(ranges):
                    at = (seen + c * ranges + r) * LANES
                    for k in ti.static(range(M + 1)):
                        i = M - 2 + r * (M + 1) + k
                        put(z, row * cells + c, i, flat[at + k] * unit[k] * slow[i], real)


def look_along(
    f: Tensor, u: Tensor, theta: Tensor, tau: Tensor, sight: Sequence[Tensor],
    reach: Tensor, slow: Tensor, row_weights: Tensor, numbers: tuple[float, float, float],
    z: Tensor, gates: Tensor, order: int,
) -> None:  # fmt: skip
    """Write what a closure sees, and its gates.

    Args:
        f: ``[batch, cells, N]`` all moments by degree.
        u: ``[batch, cells, 3]``.
        theta: ``[batch, cells]``.
        tau: the same.
        sight: units, powers, depth, order and length of the directions, see
            :func:`.moments.k_see_on_grid`.
        reach: ranges, at most :data:`LANES`.
        slow: one over the scales of the inputs.
        row_weights: of Grad's row.
        numbers: margin and caution of its share, and how the unit stretches.
        z: ``[groups, inputs, lanes]``.
        gates: ``[rows, cells, 3]``.
        order: M, below :data:`LANES`.
    """
    start("cpu")
    rows, cells, _ = gates.shape
    workers = max(1, min(torch.get_num_threads(), rows))
    tall = workers * (2 + (3 + len(reach)) * cells)
    room = aligned(f.new_zeros(tall, LANES))
    slowest = torch.ones(1, LANES, dtype=torch.float64)
    slowest[0, : len(reach)] = 1.0 / reach
    with simd(as_written=True):
        k_look_along(
            f, u, theta, tau, *sight, aligned(slowest), room, room.view(-1),
            room.view(torch.int64), slow, row_weights, *numbers, z, gates,
            kernel_type(z.dtype), order, len(reach), DOUBLE, workers,
        )  # fmt: skip


__all__ = ["LANES", "look_along"]
