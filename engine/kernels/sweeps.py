"""Transport of Hermite moments along one periodic axis of a grid, in vector registers.

What :mod:`..gas.equations.hermite` says of faces and cells, with the limited slopes of
:mod:`..gas.scheme.finite_volume`: a vector holds one moment in as many lines of cells, and
each line is gone through face by face, so that nothing but the fields is read, and nothing
but their change is written.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..runtime import start
from .jumps import LANES, Expansion, Tables, carried, from_frozen, to_frozen, upwinded
from .moments import KOREN, VAN_LEER
from .types import Array1, Array2, Int, Template, Vectors, aligned, simd, ti, turns


@dataclass(frozen=True)
class Closing:
    """What a closure said along an axis, and where it goes.

    Attributes:
        at: ``[rows, 2 D + 2]`` int32, of the moments a of degree M: with t = a + e_axis the
            places of t - e_d and of t - 2 e_d (N: none), that of a, and that of t among
            those of degree M + 1.
        factor: ``[rows]`` a_axis + 1.
        top: ``[tops, faces, batch, *others]`` moments of degree M + 1.
        blend: ``[faces, batch, *others]`` share of Grad's row.
        inside: ``[cells, batch, *others]`` the same in the cells.
    """

    at: Tensor
    factor: Tensor
    top: Tensor
    blend: Tensor
    inside: Tensor


@ti.func
def slope(behind, ahead, limiter: Template):
    """Half of what a cell changes by towards the face ahead, see the scheme's limiters."""
    none = 0.0 * behind
    found = none
    if ti.static(limiter == VAN_LEER):
        both = behind + ahead
        found = ti.max(behind * ahead, none) * both / (both * both + 1e-300)
    if ti.static(limiter == KOREN):
        sign = ahead / (ti.max(ahead, -1.0 * ahead) + 1e-300)
        most = 2.0 * ti.min(sign * behind, sign * ahead)
        size = ti.min(most, sign * (behind + 2.0 * ahead) / 3.0)
        found = 0.5 * sign * ti.max(size, none)
    return found


@ti.func
def add_resting(room: Template, to, s, w, axis, none, sign, of: Template):
    """Add ``sign integral (1, v_d, v_d^2) g dv`` of g with moments at s to ``to``.

    The frame and the temperature are those of the state w; of g the places of rho, e_d and
    2 e_d are read.
    """
    theta = 0.0 * none
    for d in ti.static(range(of.axes)):
        theta += room[w + of.diagonal[d]] * (1.0 / of.axes)
    room[to] = room[to] + sign * none
    for d in ti.static(range(of.axes)):
        u = room[w + 1 + d]
        one = room[s + 1 + d]
        two = room[s + of.diagonal[d]]
        more = 2.0 * (two + u * one) + (u * u + theta) * none
        room[to + 1 + d] = room[to + 1 + d] + sign * (one + u * none)
        room[to + 1 + of.axes + d] = room[to + 1 + of.axes + d] + sign * more


@ti.func
def add_flux(
    room: Template, to, w, x, axis, at: Template, factor: Template, of: Template
):  # fmt: skip
    """Add half the flux of the state w to ``to``; the moments of ``v f`` stand at x."""
    rho = room[w]
    fast = room[w + 1 + axis]
    theta = 0.0 * rho
    for d in ti.static(range(of.axes)):
        theta += room[w + of.diagonal[d]] * (1.0 / of.axes)
    for d in ti.static(range(of.axes)):
        p = ti.static(of.diagonal[d])
        spread = 0.5 * rho * (room[w + p] - theta)
        if d == axis:
            room[x + 1 + d] = theta * rho + 2.0 * spread
        else:
            room[x + 1 + d] = room[w + at[1 + d, 2 * of.axes + 1]]
        third = room[w + at[p, 2 * of.axes + 1]]
        room[x + p] = fast * spread + factor[p] * third
    add_resting(room, to, x, w, axis, fast * rho, 0.5, of)


@ti.func
def add_dropped(
    room: Template, f, x, du: Template, half, share, at: Template, factor: Template,
    of: Template,
):  # fmt: skip
    """Add a share of what HME leaves out to the change at x."""
    for i in range(at.shape[0]):
        a = at[i, 2 * of.axes]
        more = factor[i] * share * carried(room, f, i, du, half, at, of)
        room[x + a] = room[x + a] + more


@ti.func
def multiplied(
    room: Template, z, x, u, theta, at: Template, factor: Template, of: Template
):
    """Write ``M z`` at x."""
    for i in range(of.count):
        below = theta * room[z + at[i, 2 * of.axes]]
        above = factor[i] * room[z + at[i, 2 * of.axes + 1]]
        room[x + i] = u * room[z + i] + below + above


@ti.func
def loaded(room: Template, low, high, f, z, of: Template):
    """Write mean and jump of two states."""
    for i in range(of.count):
        room[f + i] = 0.5 * (room[low + i] + room[high + i])
        room[z + i] = room[high + i] - room[low + i]


@ti.func
def along(
    room: Template, low, high, f, z, x, to, share, axis, at: Template, factor: Template,
    closing: Template, closing_factor: Template, closed: Template, of: Template,
):  # fmt: skip
    """Write ``A d`` of the jump between two states to ``to``, with a share of Grad's row.

    Leaves f and D of the jump in the frame of the mean; returns u and the temperature.
    """
    loaded(room, low, high, f, z, of)
    du = [room[z + 1 + d] for d in range(of.axes)]
    half = 0.0 * room[f]
    for d in ti.static(range(of.axes)):
        half += room[z + of.diagonal[d]] * (0.5 / of.axes)
    u, theta = to_frozen(room, f, z, x, axis, at, of)
    multiplied(room, z, x, u, theta, at, factor, of)
    from_frozen(room, f, x, room, to, 1, at, of)
    if ti.static(closed):
        add_dropped(room, f, to, du, half, share, closing, closing_factor, of)
    return u, theta


@ti.kernel
def k_sweep(
    w: Vectors, tables: Array2, factor: Array1, chains: Array2, closing: Array2,
    closing_factor: Array1, top: Vectors, blend: Vectors, inside: Vectors, room: Vectors,
    out: Vectors, axis: Int, cells: Int, groups: Int, workers: Int,
    limiter: Template, closed: Template, of: Template,
):  # fmt: skip
    """Write the change over a cell; ``w [N, cells + 4, groups]``, ``out`` without ghosts.

    Scratch of a worker: mean f and jump z with a zero behind, x, both sides of a face, the
    change there, what upwinding takes, what the last face gives its right cell, the change
    within the cell, and the fluxes of this face and the last.
    """
    n = ti.static(of.count)
    for worker, spare in ti.ndrange(workers, ti.static(turns(512))):
        if spare > 0:
            continue
        low = ti.static(1 + 2 * of.axes)
        f = worker * (9 * n + 2 + 2 * low)
        z = f + n + 1
        x = z + n + 1
        left = x + n
        right = left + n
        jump = right + n
        smear = jump + n
        given = smear + n
        inner = given + n
        through = inner + n
        before = through + low
        height = (cells + 4) * groups
        share = (groups + workers - 1) // workers
        for g in range(worker * share, ti.min(groups, (worker + 1) * share)):
            for j in range(cells + 1):
                for i in range(n):
                    at = i * height + j * groups + g
                    here = w[at + groups]
                    there = w[at + 2 * groups]
                    across = there - here
                    room[left + i] = here + slope(here - w[at], across, limiter)
                if j > 0:
                    # within the cell behind: from the right of the last face to here
                    cell = (j - 1) * groups + g
                    share_inside = 0.0 * room[left]
                    if ti.static(closed):
                        share_inside = inside[cell]
                    along(
                        room, right, left, f, z, x, inner, share_inside, axis, tables,
                        factor, closing, closing_factor, closed, of,
                    )  # fmt: skip
                    if ti.static(closed):
                        for i in range(closing.shape[0]):
                            a = inner + closing[i, 2 * of.axes]
                            t = closing[i, 2 * of.axes + 1] * (cells + 1) * groups + cell
                            push = closing_factor[i] * (top[t + groups] - top[t])
                            room[a] = room[a] + push
                for i in range(n):
                    at = i * height + j * groups + g
                    here = w[at + groups]
                    there = w[at + 2 * groups]
                    across = there - here
                    behind = slope(w[at + 3 * groups] - there, across, limiter)
                    room[right + i] = there - behind
                none = 0.0 * room[right]
                for i in range(low):
                    room[through + i] = none
                add_flux(room, through, left, x, axis, tables, factor, of)
                add_flux(room, through, right, x, axis, tables, factor, of)
                share_here = none
                if ti.static(closed):
                    share_here = blend[j * groups + g]
                u, theta = along(
                    room, left, right, f, z, x, jump, share_here, axis, tables, factor,
                    closing, closing_factor, closed, of,
                )  # fmt: skip
                root = ti.sqrt(ti.max(theta, none + 1e-9))
                upwinded(room, z, x, u, root, chains, of)
                from_frozen(room, f, x, room, smear, 1, tables, of)
                # f is needed no more: the mean state again, for its frame
                for i in range(n):
                    room[f + i] = 0.5 * (room[left + i] + room[right + i])
                add_resting(room, through, x, f, axis, room[x], -0.5, of)
                if j > 0:
                    for i in range(n):
                        to = (i * cells + j - 1) * groups + g
                        ahead = 0.5 * (room[jump + i] - room[smear + i])
                        out[to] = room[inner + i] + room[given + i] + ahead
                    out[(j - 1) * groups + g] = room[through] - room[before]
                    for d in ti.static(range(of.axes)):
                        for e, p in ti.static(
                            ((1 + d, 1 + d), (1 + of.axes + d, of.diagonal[d]))
                        ):
                            to = (p * cells + j - 1) * groups + g
                            out[to] = room[through + e] - room[before + e]
                for i in range(n):
                    room[given + i] = 0.5 * (room[jump + i] + room[smear + i])
                for i in range(low):
                    room[before + i] = room[through + i]


def sweep(
    w: Tensor,
    axis: int,
    tables: Tables,
    of: Expansion,
    limiter: int,
    closing: Closing | None,
) -> Tensor:
    """Return the change over a cell along a periodic axis, ``[batch, N, *cells]``.

    Args:
        w: ``[batch, N, *cells]`` f64 on a CPU.
        axis: of the grid.
        tables: of the axis.
        of: the expansion.
        limiter: a code of :mod:`.moments`.
        closing: None for HME.
    """
    start("cpu")
    field = w.movedim((1, 2 + axis), (0, 1))
    n, cells, *others = field.shape
    count = math.prod(others)
    groups = -(-count // LANES)

    def laid(values: Tensor, leading: int) -> Tensor:
        rows = values.flatten(leading)
        rows = pad(rows, (0, groups * LANES - count)) if count % LANES else rows
        return aligned(rows.contiguous()).view(-1, LANES)

    ring = w.new_empty(n, cells + 4, groups * LANES)
    ring[:, 2:-2, :count] = field.flatten(2)
    ring[:, 2:-2, count:] = ring[:, 2:-2, :1]
    ring[:, :2], ring[:, -2:] = ring[:, -4:-2], ring[:, 2:4]
    workers = max(1, min(groups, torch.get_num_threads()))
    room = w.new_empty(workers * (9 * n + 2 + 2 * (1 + 2 * of.axes)), LANES)
    out = w.new_empty(n * cells * groups, LANES)
    if closing is None:
        said = room, room, room
        at, factor = tables.at, tables.factor
    else:
        said = laid(closing.top, 2), laid(closing.blend, 1), laid(closing.inside, 1)
        at, factor = closing.at, closing.factor
    with simd():
        k_sweep(
            ring.view(-1, LANES), tables.at, tables.factor, tables.chains, at, factor,
            *said, room, out, tables.axis, cells, groups, workers,
            limiter, closing is not None, of,
        )  # fmt: skip
    change = out.view(n, cells, -1)[..., :count].unflatten(2, others)
    return change.movedim((0, 1), (1, 2 + axis))


__all__ = ["Closing", "sweep"]
