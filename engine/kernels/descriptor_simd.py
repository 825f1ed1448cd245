"""The pair loops of compressed potentials in vector registers, on CPUs.

The same sums and pair gradients as :mod:`.descriptor`. Each row's neighbours are grouped by
species, groups begin at whole vectors, and nothing is tested in the loops:

- sums: one neighbour after the other, with basis functions side by side in a vector
  (lmax 1), ``T_(n + L) = 2 T_L T_n - T_(n - L)`` for a vector of L at once, or with
  harmonics side by side (lmax 2, 3);
- gradients: neighbours side by side. Series in T_b and their derivatives are summed as
  series in U_b, whose one recurrence serves both: :func:`second_kind`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..runtime import start
from .descriptor import Shape, each_harmonic, envelope, harmonics_slope
from .types import (
    Array1,
    Array2,
    Array3,
    Int,
    Template,
    Vectors,
    kernel_type,
    simd,
    ti,
    turns,
)


@ti.kernel
def k_group(
    slots: Array2,
    count: Array1,
    home: Array1,
    parent: Array1,
    species: Array1,
    lanes: Int,
    pairs: Array2,
    where: Array2,
    begin: Array2,
    end: Array2,
):
    """Order each row by species; gaps hold the row's own place, at no distance."""
    for r, spare in ti.ndrange(home.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        at = 0
        for t in range(begin.shape[1]):
            begin[r, t] = at
            for n in range(count[r]):
                e = slots[r, n]
                if species[parent[e]] == t:
                    pairs[r, at] = e
                    where[r, n] = at
                    at += 1
            end[r, t] = at
            while at % lanes != 0:
                pairs[r, at] = home[r]
                at += 1


@ti.kernel
def k_partners(
    home: Array1,
    atom: Array1,
    row: Array1,
    parent: Array1,
    image: Array2,
    species: Array1,
    first: Array1,
    own: Array1,
    pairs: Array2,
    begin: Array2,
    end: Array2,
    partner: Array2,
):
    """Number of each pair's other side, ``row * width + column``; a gap is its own.

    ``own[first[i] : first[i + 1]]`` are the places of atom i: seen from the neighbour, the
    pair is moved by a lattice vector and ends at one of them.
    """
    for r, spare in ti.ndrange(home.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        h = home[r]
        i = atom[r]
        group = species[i]
        width = partner.shape[1]
        for n in range(width):
            partner[r, n] = r * width + n
        for t in range(begin.shape[1]):
            for n in range(begin[r, t], end[r, t]):
                e = pairs[r, n]
                q = row[parent[e]]
                to = home[q]
                mine = -1
                for k in range(first[i], first[i + 1]):
                    o = own[k]
                    same = 1
                    for c in ti.static(range(3)):
                        moved = image[to, c] + image[h, c] - image[e, c]
                        same = ti.select(image[o, c] == moved, same, 0)
                    mine = ti.select(same == 1, o, mine)
                column = -1
                for m in range(begin[q, group], end[q, group]):
                    column = ti.max(column, ti.select(pairs[q, m] == mine, m, -1))
                partner[r, n] = q * width + column


@ti.kernel
def k_sums_by_basis(
    places: Array2,
    home: Array1,
    pairs: Array2,
    begin: Array2,
    end: Array2,
    form: Array1,
    sums: Vectors,
    real: Template,
    lanes: Template,
    vectors: Template,
    radial: Template,
):
    """``sums [rows, 4, species, vectors]``, lmax 1."""
    for r, spare in ti.ndrange(home.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        e0 = home[r]
        x0 = places[e0, 0]
        y0 = places[e0, 1]
        z0 = places[e0, 2]
        limit = form[1] * form[1]
        zero = ti.Vector.zero(real, lanes)
        for t in range(begin.shape[1]):
            total = [
                [ti.Vector.zero(real, lanes) for _ in range(vectors)] for _ in range(4)
            ]
            for block in range(begin[r, t] // lanes, (end[r, t] + lanes - 1) // lanes):
                n = block * lanes
                dx = ti.Vector([places[pairs[r, n + q], 0] for q in range(lanes)])
                dy = ti.Vector([places[pairs[r, n + q], 1] for q in range(lanes)])
                dz = ti.Vector([places[pairs[r, n + q], 2] for q in range(lanes)])
                dx = dx - x0
                dy = dy - y0
                dz = dz - z0
                r2 = dx * dx + dy * dy + dz * dz
                # beyond the cutoff, and in the gaps, f is zero
                d = ti.sqrt(ti.select(r2 * (r2 - limit) < 0, r2, zero + limit))
                f, _df, x, _dx = envelope(d, form, radial)
                g = f / d
                gx = g * dx
                gy = g * dy
                gz = g * dz
                # T_0 .. T_lanes of each, by doubling: T_2n = 2 T_n^2 - 1, T_(2n+1) = ...
                head = [zero + 1, x] + [zero for _ in range(lanes - 1)]
                for k in ti.static(range(2, lanes + 1)):
                    half = head[k // 2] + head[k // 2]
                    if ti.static(k % 2 == 0):
                        head[k] = half * head[k // 2] - 1
                    else:
                        head[k] = half * head[k // 2 + 1] - x
                for q in ti.static(range(lanes)):
                    now = ti.Vector([head[k][q] for k in range(lanes)])
                    before = ti.Vector([head[lanes - k][q] for k in range(lanes)])
                    twice = head[lanes][q] + head[lanes][q]
                    for v in ti.static(range(vectors)):
                        total[0][v] += f[q] * now
                        total[1][v] += gx[q] * now
                        total[2][v] += gy[q] * now
                        total[3][v] += gz[q] * now
                        after = twice * now - before
                        before = now
                        now = after
            for k in ti.static(range(4)):
                for v in ti.static(range(vectors)):
                    sums[((r * 4 + k) * begin.shape[1] + t) * vectors + v] = total[k][v]


@ti.kernel
def k_sums_by_harmonics(
    places: Array2,
    home: Array1,
    pairs: Array2,
    begin: Array2,
    end: Array2,
    form: Array1,
    sums: Vectors,
    real: Template,
    basis: Template,
    lmax: Template,
    radial: Template,
):
    """``sums [rows, species, basis, 16]``, lmax 2 or 3; what lmax 2 lacks is 0."""
    for r, spare in ti.ndrange(home.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        e0 = home[r]
        limit = form[1] * form[1]
        for t in range(begin.shape[1]):
            total = [ti.Vector.zero(real, 16) for _ in range(basis)]
            for n in range(begin[r, t], end[r, t]):
                e = pairs[r, n]
                dx = places[e, 0] - places[e0, 0]
                dy = places[e, 1] - places[e0, 1]
                dz = places[e, 2] - places[e0, 2]
                r2 = dx * dx + dy * dy + dz * dz
                if r2 < limit:
                    d = ti.sqrt(r2)
                    inverse = 1 / d
                    found = each_harmonic(
                        dx * inverse, dy * inverse, dz * inverse, lmax, real
                    )
                    angular = ti.Vector.zero(real, 16)
                    for k in ti.static(range((lmax + 1) ** 2)):
                        angular[k] = found[k]
                    f, _df, x, _dx = envelope(d, form, radial)
                    g = f * x
                    for b in ti.static(range(basis)):
                        total[b] += f * angular
                        h = 2 * x * g - f
                        f = g
                        g = h
            for b in ti.static(range(basis)):
                sums[(r * begin.shape[1] + t) * basis + b] = total[b]


@ti.kernel
def k_gradients(
    places: Array2,
    home: Array1,
    pairs: Array2,
    begin: Array2,
    end: Array2,
    form: Array1,
    series: Array1,
    gradient: Array1,
    own: Array3,
    virial: Array2,
    real: Template,
    lanes: Template,
    lmax: Template,
    radial: Template,
    basis: Int,
    pitch: Int,
    terms: Int,
):
    """``dE_i/dd_ij [members, rows, width, 4]``, its sum over j, and each row's virial.

    ``series [members, rows, components, 2, terms]``: coefficients of U_b, species after
    species with ``pitch`` of each, of the sum of T_b and of that of its derivatives.
    """
    for r, spare in ti.ndrange(home.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        e0 = home[r]
        zero = ti.Vector.zero(real, lanes)
        limit = form[1] * form[1]
        members = own.shape[0]
        rows = home.shape[0]
        width = pairs.shape[1]
        wxx = zero
        wyy = zero
        wzz = zero
        wxy = zero
        wxz = zero
        wyz = zero
        for m in range(members):
            fx = zero
            fy = zero
            fz = zero
            for t in range(begin.shape[1]):
                first = (m * rows + r) * ((lmax + 1) ** 2) * 2 * terms + t * pitch
                for block in range(begin[r, t] // lanes, (end[r, t] + lanes - 1) // lanes):
                    n = block * lanes
                    dx = ti.Vector([places[pairs[r, n + q], 0] for q in range(lanes)])
                    dy = ti.Vector([places[pairs[r, n + q], 1] for q in range(lanes)])
                    dz = ti.Vector([places[pairs[r, n + q], 2] for q in range(lanes)])
                    dx = dx - places[e0, 0]
                    dy = dy - places[e0, 1]
                    dz = dz - places[e0, 2]
                    r2 = dx * dx + dy * dy + dz * dz
                    # also not of the gaps, which are at no distance
                    inside = r2 * (r2 - limit) < 0
                    d = ti.sqrt(ti.select(inside, r2, zero + limit))
                    # an integer over an f32 vector crashes the compiler
                    inverse = ti.cast(1.0, real) / d
                    ux = dx * inverse
                    uy = dy * inverse
                    uz = dz * inverse
                    f, df, x, dx_dr = envelope(d, form, radial)
                    value = [zero for _ in range((lmax + 1) ** 2)]
                    slope = [zero for _ in range((lmax + 1) ** 2)]
                    now = zero + 1
                    before = zero
                    for b in range(basis):
                        at = first + b
                        for k in ti.static(range((lmax + 1) ** 2)):
                            value[k] += series[at + 2 * k * terms] * now
                            slope[k] += series[at + (2 * k + 1) * terms] * now
                        after = 2 * x * now - before
                        before = now
                        now = after
                    angular = each_harmonic(ux, uy, uz, lmax, real)
                    along = zero
                    stretch = f * dx_dr
                    for k in ti.static(range((lmax + 1) ** 2)):
                        along += (df * value[k] + stretch * slope[k]) * angular[k]
                    px, py, pz = harmonics_slope(ux, uy, uz, value, lmax, real)
                    turn = f * inverse
                    px = px * turn
                    py = py * turn
                    pz = pz * turn
                    along = along - (px * ux + py * uy + pz * uz)
                    gx = ti.select(inside, along * ux + px, zero)
                    gy = ti.select(inside, along * uy + py, zero)
                    gz = ti.select(inside, along * uz + pz, zero)
                    fx += gx
                    fy += gy
                    fz += gz
                    wxx += gx * dx
                    wyy += gy * dy
                    wzz += gz * dz
                    wxy += gx * dy
                    wxz += gx * dz
                    wyz += gy * dz
                    to = ((m * rows + r) * width + n) * 4
                    for q in ti.static(range(lanes)):
                        gradient[to + 4 * q] = gx[q]
                        gradient[to + 4 * q + 1] = gy[q]
                        gradient[to + 4 * q + 2] = gz[q]
            own[m, r, 0] = fx.sum()
            own[m, r, 1] = fy.sum()
            own[m, r, 2] = fz.sum()
        virial[r, 0] = -wxx.sum() / members
        virial[r, 1] = -wyy.sum() / members
        virial[r, 2] = -wzz.sum() / members
        virial[r, 3] = -wxy.sum() / members
        virial[r, 4] = -wxz.sum() / members
        virial[r, 5] = -wyz.sum() / members


@ti.kernel
def k_gather(
    atom: Array1,
    end: Array2,
    partner: Array2,
    gradient: Vectors,
    own: Array3,
    forces: Array2,
    deviation: Array1,
):
    """Mean force ``sum_j g_ij - g_ji`` over the members, and their deviation."""
    for r, spare in ti.ndrange(atom.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        i = atom[r]
        members = own.shape[0]
        count = end[r, end.shape[1] - 1]
        # deviations are taken from the first member, for the mean is not known yet
        first = ti.Vector.zero(ti.f64, 3)
        mean = ti.Vector.zero(ti.f64, 3)
        square = 0.0
        for m in range(members):
            all_rows = m * partner.shape[0] * partner.shape[1]
            back = gradient[0] * 0
            for n in range(count):
                back += gradient[all_rows + partner[r, n]]
            f = ti.Vector.zero(ti.f64, 3)
            for c in ti.static(range(3)):
                f[c] = own[m, r, c] - back[c]
            if m == 0:
                first = f
            mean += f - first
            square += (f - first).norm_sqr()
        mean /= members
        for c in ti.static(range(3)):
            forces[i, c] = mean[c] + first[c]
        if deviation.shape[0] > 0:
            deviation[i] = ti.sqrt(ti.max(square / members - mean.norm_sqr(), 0.0))


@dataclass(frozen=True)
class Pairs:
    """A list of neighbours, grouped by species for vectors of ``lanes``.

    Attributes:
        pairs: ``[rows, width]`` places.
        where: ``[rows, slots]`` column of each slot.
        begin: ``[rows, species]`` first column of each group.
        end: ``[rows, species]`` one past its last.
        partner: ``[rows, width]``.
        lanes: numbers of a vector.
    """

    pairs: Tensor
    where: Tensor
    begin: Tensor
    end: Tensor
    partner: Tensor
    lanes: int

    @staticmethod
    def of(table: Any, species: Tensor, count: int, lanes: int) -> "Pairs":
        """Group the rows of ``table`` by the ``count`` species."""
        start(table.slots.device)
        rows, most = len(table.home), int(table.rows.max()) if len(table.rows) else 0
        width = (most + count * (lanes - 1)) // lanes * lanes + lanes
        pairs = torch.empty(rows, width, dtype=torch.int32)
        begin = torch.empty(rows, count, dtype=torch.int32)
        end, partner = torch.empty_like(begin), torch.empty_like(pairs)
        where = torch.zeros_like(table.slots)
        k_group(
            table.slots, table.rows, table.home, table.parent, species, lanes, pairs,
            where, begin, end,
        )  # fmt: skip
        own = torch.argsort(table.parent).to(torch.int32)
        copies = torch.bincount(table.parent, minlength=rows)
        first = torch.zeros(rows + 1, dtype=torch.int32)
        first[1:] = torch.cumsum(copies, 0)
        k_partners(
            table.home, table.atom, table.row, table.parent, table.image, species, first,
            own, pairs, begin, end, partner,
        )  # fmt: skip
        return Pairs(pairs, where, begin, end, partner, lanes)


def second_kind(basis: int) -> tuple[Tensor, Tensor]:
    """Matrices ``[basis, basis]`` from a series in T_b to its own and its slope's in U_b.

    ``T_b = (U_b - U_(b-2)) / 2`` and ``T_b' = b U_(b-1)``.
    """
    value = 0.5 * torch.eye(basis, dtype=torch.float64)
    value[0, 0] = 1.0
    value -= 0.5 * torch.diag(torch.ones(max(basis - 2, 0)).double(), -2)
    slope = torch.diag(torch.arange(1, basis).double(), -1)
    return value, slope


def fill_sums(
    places: Tensor, home: Tensor, table: Pairs, form: Tensor, kind: Shape, sums: Tensor
) -> None:
    """Fill ``sums``, laid out as the kernels of :mod:`.contraction_simd` expect."""
    basis, lmax, radial = kind
    given = (places, home, table.pairs, table.begin, table.end, form)
    real, lanes = kernel_type(places.dtype), table.lanes
    with simd():
        if lmax == 1:
            k_sums_by_basis(
                *given, sums.view(-1, lanes), real, lanes, -(-basis // lanes), radial
            )
        else:
            k_sums_by_harmonics(*given, sums.view(-1, 16), real, basis, lmax, radial)


def fill_gradients(
    places: Tensor, home: Tensor, table: Pairs, form: Tensor, kind: Shape,
    series: Tensor, pitch: int, gradient: Tensor, own: Tensor, virial: Tensor,
) -> None:  # fmt: skip
    """Fill ``gradient``, ``own`` and ``virial`` from ``series``: :func:`k_gradients`."""
    basis, lmax, radial = kind
    with simd():
        k_gradients(
            places, home, table.pairs, table.begin, table.end, form, series.view(-1),
            gradient.view(-1), own, virial, kernel_type(places.dtype), table.lanes, lmax,
            radial, basis, pitch, series.shape[-1],
        )  # fmt: skip


def gather_forces(
    atom: Tensor, table: Pairs, gradient: Tensor, own: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean forces ``[atoms, 3]`` and the members' deviation."""
    members, rows = own.shape[:2]
    forces = own.new_empty(rows, 3)
    deviation = own.new_empty(rows if members > 1 else 0)
    with simd():
        k_gather(
            atom, table.end, table.partner, gradient.view(-1, 4), own, forces, deviation
        )
    return forces, deviation
