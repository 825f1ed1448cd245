"""Linear expansions in products of moments at full speed, on CPUs, in vector registers.

One pass over blocks of atoms, as many as a register holds, side by side throughout:

- neighbours within the cutoff are listed, and a few of every atom taken together;
- their radial functions and harmonics give the moments;
- energy and slopes by the moments follow from a :class:`.quadratic.QuadraticForm`, of the
  mean and of every draw of a committee at once;
- radial functions and harmonics again, with their own slopes, give the pair gradients.

Room for one block is all that a thread needs, whatever the size of the system.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..runtime import start, threads
from .descriptor_simd import Pairs
from .quadratic import QuadraticForm
from .types import (
    Array1,
    Array2,
    Array3,
    Int,
    Template,
    Vectors,
    aligned,
    kernel_type,
    simd,
    ti,
    turns,
)

TILE = 4
"""Neighbours of every atom of a block that are taken together."""


def column(degree: int, order: int) -> int:
    """Return where a harmonic stands; l = 1 as x, y, z."""
    if degree == 1:
        return {1: 1, -1: 2, 0: 3}[order]
    return degree * degree + degree + order


def norm(degree: int, order: int) -> float:
    """Return the factor of a harmonic in Racah's normalisation."""
    ratio = math.factorial(degree - order) / math.factorial(degree + order)
    return math.sqrt((1 if order == 0 else 2) * ratio)


def odd_product(order: int) -> float:
    """Return 1 * 3 * ... * (2 order - 1)."""
    return float(math.prod(range(1, 2 * order, 2)))


@ti.func
def write_harmonics(
    room: Template, at, columns, x, y, z, lmax: Template, slopes: Template, real: Template
):
    """Write harmonics from ``at``, one every :data:`TILE`, and their three slopes behind.

    ``Y = a Q_lm(z) c_m`` or ``s_m``, by the recurrences of ``models.potentials.harmonics``;
    slopes are those of these polynomials.
    """
    zero = x * 0
    c = [zero + 1 for _ in range(lmax + 1)]
    s = [zero for _ in range(lmax + 1)]
    for m in ti.static(range(lmax)):
        c[m + 1] = x * c[m] - y * s[m]
        s[m + 1] = x * s[m] + y * c[m]
    wide = ti.static(lmax + 2)
    q = [zero for _ in range(wide * wide)]
    for m in ti.static(range(lmax + 1)):
        q[m * wide + m] = zero + ti.cast(ti.static(odd_product(m)), real)
        for l in ti.static(range(m + 1, lmax + 1)):
            up = ti.cast(ti.static((2 * l - 1) / (l - m)), real)
            q[l * wide + m] = up * z * q[(l - 1) * wide + m]
            if ti.static(l > m + 1):
                down = ti.cast(ti.static((l + m - 1) / (l - m)), real)
                q[l * wide + m] = q[l * wide + m] - down * q[(l - 2) * wide + m]
    step = ti.static(TILE) * columns
    for l in ti.static(range(lmax + 1)):
        for m in ti.static(range(l + 1)):
            a = ti.cast(ti.static(norm(l, m)), real)
            value = a * q[l * wide + m]
            k = at + ti.static(TILE * column(l, m))
            k2 = at + ti.static(TILE * column(l, -m))
            room[k] = value * c[m]
            if ti.static(m > 0):
                room[k2] = value * s[m]
            if ti.static(slopes):
                along = zero
                if ti.static(m < l):
                    along = a * q[l * wide + m + 1]
                room[k + 3 * step] = along * c[m]
                if ti.static(m == 0):
                    room[k + step] = zero
                    room[k + 2 * step] = zero
                else:
                    across = ti.cast(ti.static(float(m)), real) * value
                    room[k + step] = across * c[m - 1]
                    room[k + 2 * step] = zero - across * s[m - 1]
                    room[k2 + step] = across * s[m - 1]
                    room[k2 + 2 * step] = across * c[m - 1]
                    room[k2 + 3 * step] = along * s[m]


@ti.func
def write_waves(room: Template, at, basis, d, inside, form: Template, real: Template):
    """Write ``T_b(x) w`` at ``at`` and its derivatives by r behind them; 0 outside."""
    first = form[0]
    last = form[1]
    width = last - first
    u = ti.min(ti.max((d - first) / width, d * 0), d * 0 + 1)
    w = u * u * u * (u * (15 - 6 * u) - 10) + 1
    dw = -30 * (u * (1 - u)) * (u * (1 - u)) / width
    w = ti.select(inside, w, d * 0)
    dw = ti.select(inside, dw, d * 0)
    v = d / last
    x = 1 - 2 * v * v * (3 - 2 * v)
    slope = -12 * w * v * (1 - v) / last
    one = d * 0 + 1
    now = one
    before = x
    second = one
    second_before = d * 0
    for b in range(basis):
        # T_b and U_(b-1): T_b' = b U_(b-1)
        room[at + b] = w * now
        room[at + basis + b] = dw * now + slope * ti.cast(b, real) * second_before
        after = 2 * x * now - before
        before = now
        now = after
        after = 2 * x * second - second_before
        second_before = second
        second = after


@ti.func
def mix_waves(room: Template, at, basis, to, radial, mix: Template, extent: Template, t):
    """Write radial functions from ``to``, one every :data:`TILE`, and slopes behind them.

    They are sums of the waves at ``at``.
    """
    for n in range(radial):
        value = room[at] * 0
        slope = room[at] * 0
        for b in range(extent[t, n, 0], extent[t, n, 1]):
            value += mix[t, n, b] * room[at + b]
            slope += mix[t, n, b] * room[at + basis + b]
        room[to + ti.static(TILE) * n] = value
        room[to + ti.static(TILE) * (radial + n)] = slope


@ti.func
def write_pairs(
    room: Template,
    base,
    u,
    places: Template,
    pairs: Template,
    near: Template,
    at,
    members: Template,
    home: Template,
    block,
    t,
    form: Template,
    basis,
    mix: Template,
    extent: Template,
    real: Template,
    lanes: Template,
    lmax: Template,
    slopes: Template,
):
    """Write a pair of a tile: displacement, direction, 1 / r, functions, harmonics.

    Of every atom of a block its neighbour in the column ``near[at + lane]``, -1 for none.
    """
    here = ti.Vector([home[ti.max(members[block, q], 0)] for q in range(lanes)])
    there = here
    for q in ti.static(range(lanes)):
        if near[at + q] >= 0:
            there[q] = pairs[members[block, q], near[at + q]]
    dx = ti.Vector([places[there[q], 0] - places[here[q], 0] for q in range(lanes)])
    dy = ti.Vector([places[there[q], 1] - places[here[q], 1] for q in range(lanes)])
    dz = ti.Vector([places[there[q], 2] - places[here[q], 2] for q in range(lanes)])
    r2 = dx * dx + dy * dy + dz * dz
    limit = form[1] * form[1]
    inside = r2 * (r2 - limit) < 0
    d = ti.sqrt(ti.select(inside, r2, dx * 0 + limit))
    i = ti.cast(1.0, real) / d
    width = ti.static(TILE)
    first = base + u
    room[first] = dx
    room[first + width] = dy
    room[first + 2 * width] = dz
    ux = dx * i
    uy = dy * i
    uz = dz * i
    room[first + 3 * width] = ux
    room[first + 4 * width] = uy
    room[first + 5 * width] = uz
    room[first + 6 * width] = i
    radial = mix.shape[1]
    waves = base + width * (7 + 2 * radial + 4 * ti.static((lmax + 1) ** 2))
    write_waves(room, waves, basis, d, inside, form, real)
    mix_waves(room, waves, basis, first + 7 * width, radial, mix, extent, t)
    write_harmonics(
        room, first + width * (7 + 2 * radial), ti.static((lmax + 1) ** 2), ux, uy, uz,
        lmax, slopes, real,
    )  # fmt: skip


@ti.func
def add_moments(
    room: Template, base, value, radial, inputs: Template, spans: Template, t, columns
):
    """Add what a tile of pairs gives to the moments at ``value``."""
    width = ti.static(TILE)
    for c in range(columns):
        y = [room[base + width * (7 + 2 * radial + c) + u] for u in range(width)]
        first = spans[t, c]
        for k in range(first, spans[t, c + 1]):
            f = base + width * (7 + k - first)
            m = value + inputs[k]
            total = room[m]
            for u in ti.static(range(TILE)):
                total += y[u] * room[f + u]
            room[m] = total


@ti.func
def list_near(
    places: Template,
    home: Template,
    pairs: Template,
    begin: Template,
    end: Template,
    members: Template,
    form: Template,
    near: Template,
    first,
    counts,
    gradient: Template,
    block,
    lanes: Template,
    solutions: Template,
):
    """List of every atom of a block the columns of its neighbours within the cutoff.

    In ``near`` from ``first``, -1 behind the last; how many a list has, a multiple of
    :data:`TILE`, at ``counts``. Pairs beyond the cutoff get their gradient of zero.
    """
    limit = form[1] * form[1]
    rows = home.shape[0]
    width = pairs.shape[1]
    types = begin.shape[1]
    for t in range(types):
        longest = 0
        for q in range(lanes):
            r = members[block, q]
            count = 0
            at = first + t * width * lanes + q
            if r >= 0:
                h = home[r]
                for n in range(begin[r, t], (end[r, t] + lanes - 1) // lanes * lanes):
                    e = pairs[r, n]
                    x = places[e, 0] - places[h, 0]
                    y = places[e, 1] - places[h, 1]
                    z = places[e, 2] - places[h, 2]
                    r2 = x * x + y * y + z * z
                    near[at + count * lanes] = n
                    # not of the gaps either, which are at no distance
                    if r2 * (r2 - limit) < 0:
                        count += 1
                    else:
                        for s in range(solutions):
                            for c in range(3):
                                gradient[((s * rows + r) * width + n) * 4 + c] = 0
            longest = ti.max(longest, count)
            near[counts + types + q] = count
        longest = (longest + ti.static(TILE - 1)) // ti.static(TILE) * ti.static(TILE)
        near[counts + t] = longest
        for q in range(lanes):
            at = first + t * width * lanes + q
            for n in range(near[counts + types + q], longest):
                near[at + n * lanes] = -1


@ti.func
def slopes_of_nodes(
    room: Template,
    value,
    slope,
    row_begin: Template,
    row_end: Template,
    row_shift: Template,
    row_other: Template,
    row_weight: Template,
    lone: Template,
    use_begin: Template,
    use_target: Template,
    use_other: Template,
    use_node: Template,
    use_factor: Template,
    kind,
    zero,
    solutions: Template,
):
    """Write how all solutions depend on moments and products; return the first's energy."""
    twice = zero
    for n in range(row_begin.shape[0]):
        total = [zero + lone[kind, n, s] for s in range(solutions)]
        shift = value + row_shift[n]
        for k in range(row_begin[n], row_end[n]):
            x = room[shift + row_other[k]]
            for s in ti.static(range(solutions)):
                total[s] += row_weight[kind, k, s] * x
        twice += room[value + n] * (total[0] + lone[kind, n, 0])
        for s in ti.static(range(solutions)):
            room[slope + n * solutions + s] = total[s]
    for g in range(use_target.shape[0]):
        m = slope + use_target[g] * solutions
        total = [room[m + s] for s in range(solutions)]
        for k in range(use_begin[g], use_begin[g + 1]):
            x = use_factor[k] * room[value + use_other[k]]
            n = slope + use_node[k] * solutions
            for s in ti.static(range(solutions)):
                total[s] += x * room[n + s]
        for s in ti.static(range(solutions)):
            room[m + s] = total[s]
    return twice / 2


@ti.func
def slopes_of_pairs(
    room: Template,
    base,
    mine,
    radial,
    spans: Template,
    t,
    columns: Template,
    zero,
):
    """Gradients of a tile of pairs, x of all, then y and z, from slopes by the moments."""
    tile = ti.static(TILE)
    found = [zero for _ in range(3 * tile)]
    along = [zero for _ in range(tile)]
    for c in range(columns):
        v = [zero for _ in range(tile)]
        w = [zero for _ in range(tile)]
        first = spans[t, c]
        for k in range(first, spans[t, c + 1]):
            g = room[mine + k]
            f = base + tile * (7 + k - first)
            for u in ti.static(range(TILE)):
                v[u] += g * room[f + u]
                w[u] += g * room[f + tile * radial + u]
        at = base + tile * (7 + 2 * radial + c)
        for u in ti.static(range(TILE)):
            along[u] += w[u] * room[at + u]
            for axis in ti.static(range(3)):
                turn = room[at + tile * columns * (axis + 1) + u]
                found[axis * tile + u] += v[u] * turn
    for u in ti.static(range(TILE)):
        at = base + 3 * tile + u
        i = room[at + 3 * tile]
        rest = along[u]
        for axis in ti.static(range(3)):
            found[axis * tile + u] = found[axis * tile + u] * i
            rest = rest - found[axis * tile + u] * room[at + axis * tile]
        for axis in ti.static(range(3)):
            found[axis * tile + u] += rest * room[at + axis * tile]
    return found


@ti.kernel
def k_expansion(
    places: Array2,
    home: Array1,
    pairs: Array2,
    begin: Array2,
    end: Array2,
    members: Array2,
    kinds: Array1,
    form: Array1,
    made_begin: Array1,
    left: Array1,
    right: Array1,
    factor: Array1,
    row_begin: Array1,
    row_end: Array1,
    row_shift: Array1,
    row_other: Array1,
    row_weight: Array3,
    lone: Array3,
    use_begin: Array1,
    use_target: Array1,
    use_other: Array1,
    use_node: Array1,
    use_factor: Array1,
    inputs: Array1,
    spans: Array2,
    mix: Array3,
    extent: Array3,
    room: Vectors,
    near: Array1,
    energies: Array1,
    gradient: Array1,
    own: Array3,
    virial: Array2,
    real: Template,
    lanes: Template,
    lmax: Template,
    solutions: Template,
    basis: Int,
    size: Int,
    workers: Int,
):
    """Energies, ``dE_i/dd_ij [solutions, rows, width, 4]``, its sum over j, and virials.

    ``members [blocks, lanes]`` rows of a block, -1 for none; ``spans [species, columns +
    1]`` where a harmonic's inputs stand in ``inputs``, one for each radial function from 0.
    """
    for worker, spare in ti.ndrange(workers, ti.static(turns())):
        if spare > 0:
            continue
        columns = ti.static((lmax + 1) ** 2)
        tile = ti.static(TILE)
        rows = home.shape[0]
        width = pairs.shape[1]
        types = begin.shape[1]
        zero = ti.Vector.zero(real, lanes)
        radial = mix.shape[1]
        nodes = row_begin.shape[0]
        computed = made_begin.shape[0] - 1
        moments = nodes - computed
        # a tile of pairs, its waves, nodes, their slopes, those of moments in order, sums
        base = worker * size
        value = base + tile * (7 + 2 * radial + 4 * columns) + 2 * basis
        slope = value + nodes
        line = slope + solutions * nodes
        sums = line + solutions * moments
        listed = worker * (types * (width * lanes + 1) + lanes)
        counts = listed + types * width * lanes
        blocks = members.shape[0]
        for block in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            kind = kinds[block]
            list_near(
                places, home, pairs, begin, end, members, form, near, listed, counts,
                gradient, block, lanes, solutions,
            )  # fmt: skip
            for m in range(moments):
                room[value + m] = zero
            for t in range(types):
                for b in range(near[counts + t] // tile):
                    for u in range(tile):
                        at = listed + (t * width + b * tile + u) * lanes
                        write_pairs(
                            room, base, u, places, pairs, near, at, members, home, block,
                            t, form, basis, mix, extent, real, lanes, lmax, False,
                        )  # fmt: skip
                    add_moments(room, base, value, radial, inputs, spans, t, columns)
            for n in range(computed):
                found = zero
                for k in range(made_begin[n], made_begin[n + 1]):
                    found += factor[k] * room[value + left[k]] * room[value + right[k]]
                room[value + moments + n] = found
            energy = slopes_of_nodes(
                room, value, slope, row_begin, row_end, row_shift, row_other, row_weight,
                lone, use_begin, use_target, use_other, use_node, use_factor, kind, zero,
                solutions,
            )  # fmt: skip
            for k in range(moments):
                for s in ti.static(range(solutions)):
                    room[line + s * moments + k] = room[slope + inputs[k] * solutions + s]
            for k in range(3 * solutions + 6):
                room[sums + k] = zero
            for t in range(types):
                for b in range(near[counts + t] // tile):
                    first = listed + (t * width + b * tile) * lanes
                    for u in range(tile):
                        write_pairs(
                            room, base, u, places, pairs, near, first + u * lanes, members,
                            home, block, t, form, basis, mix, extent, real, lanes, lmax,
                            True,
                        )  # fmt: skip
                    for s in range(solutions):
                        g = slopes_of_pairs(
                            room, base, line + s * moments, radial, spans, t, columns, zero
                        )
                        for u in ti.static(range(TILE)):
                            for c in ti.static(range(3)):
                                to = sums + 3 * s + c
                                room[to] = room[to] + g[c * tile + u]
                                if s == 0:
                                    # xx yy zz, xy xz yz
                                    to = sums + 3 * solutions + c
                                    a, d = ti.static((0, 0, 1)[c], (1, 2, 2)[c])
                                    x = g[c * tile + u] * room[base + c * tile + u]
                                    y = g[a * tile + u] * room[base + d * tile + u]
                                    room[to] = room[to] + x
                                    room[to + 3] = room[to + 3] + y
                            for q in ti.static(range(lanes)):
                                n = near[first + u * lanes + q]
                                if n >= 0:
                                    to = ((s * rows + members[block, q]) * width + n) * 4
                                    for c in ti.static(range(3)):
                                        gradient[to + c] = g[c * tile + u][q]
            for q in ti.static(range(lanes)):
                r = members[block, q]
                if r >= 0:
                    energies[r] = energy[q]
                    for s in ti.static(range(solutions)):
                        for c in ti.static(range(3)):
                            own[s, r, c] = room[sums + 3 * s + c][q]
                    for c in ti.static(range(6)):
                        virial[r, c] = -room[sums + 3 * solutions + c][q]


@ti.kernel
def k_gather_draws(
    atom: Array1,
    end: Array2,
    partner: Array2,
    gradient: Vectors,
    own: Array3,
    forces: Array2,
    deviation: Array1,
):
    """Force ``sum_j g_ij - g_ji`` of the mean, and the root mean square of the draws'."""
    for r, spare in ti.ndrange(atom.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        i = atom[r]
        count = end[r, end.shape[1] - 1]
        square = 0.0
        for s in range(own.shape[0]):
            all_rows = s * partner.shape[0] * partner.shape[1]
            back = gradient[0] * 0
            for n in range(count):
                back += gradient[all_rows + partner[r, n]]
            for c in ti.static(range(3)):
                f = own[s, r, c] - back[c]
                if s == 0:
                    forces[i, c] = f
                else:
                    square += f * f
        if deviation.shape[0] > 0:
            deviation[i] = ti.sqrt(square / (own.shape[0] - 1))


@dataclass(frozen=True)
class Expansion:
    """An expansion as its kernels take it; all tensors f64 or i32.

    Attributes:
        form: start of the switch and cutoff.
        energy: of an atom.
        inputs: node of every input, ordered by species, harmonic, function.
        spans: ``[species, columns + 1]`` where the inputs of a harmonic begin.
        mix: ``[species, radial, waves]``.
        lmax: highest degree.
    """

    form: Tensor
    energy: QuadraticForm
    inputs: Tensor
    spans: Tensor
    mix: Tensor
    lmax: int

    @cached_property
    def extent(self) -> Tensor:
        """The first wave of each radial function, and where they end."""
        there = self.mix != 0
        place = torch.arange(self.mix.shape[2]).expand(there.shape)
        first = torch.where(there, place, self.mix.shape[2]).amin(2)
        last = torch.where(there, place, -1).amax(2)
        return torch.stack([first, last + 1], 2).to(torch.int32).contiguous()

    @property
    def solutions(self) -> int:
        """The mean, and the draws."""
        return self.energy.lone.shape[2]

    def room(self, lanes: int) -> Tensor:
        """Return memory for a block of every thread, ``[threads, size, lanes]``."""
        nodes, (_, radial, waves) = self.energy.lone.shape[1], self.mix.shape
        size = TILE * (7 + 2 * radial + 4 * (self.lmax + 1) ** 2) + 2 * waves
        size += (1 + self.solutions) * nodes + 6 + self.solutions * (3 + len(self.inputs))
        return aligned(torch.empty(threads(), size, lanes, dtype=self.mix.dtype))


@dataclass(frozen=True)
class Blocks:
    """Rows of one species, as many together as a register holds.

    Attributes:
        members: ``[blocks, lanes]`` rows, -1 for none.
        kinds: ``[blocks]`` their species.
    """

    members: Tensor
    kinds: Tensor

    @staticmethod
    def of(central: Tensor, species: int, lanes: int) -> "Blocks":
        """Sort rows into blocks."""
        members, kinds = [], []
        for kind in range(species):
            rows = (central == kind).nonzero()[:, 0].to(torch.int32)
            padded = torch.nn.functional.pad(rows, (0, -len(rows) % lanes), value=-1)
            members.append(padded.view(-1, lanes))
            kinds += [kind] * (len(padded) // lanes)
        return Blocks(torch.cat(members).contiguous(), torch.tensor(kinds).to(torch.int32))


def expand(
    expansion: Expansion,
    places: Tensor,
    table: Any,
    pairs: Pairs,
    blocks: Blocks,
    room: Tensor,
    gradient: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return energies ``[rows]``, forces, deviation, and each row's virial ``[rows, 6]``.

    Args:
        expansion: what is evaluated.
        places: ``[places, 3]``.
        table: the neighbour list.
        pairs: its rows, grouped by species.
        blocks: its rows, grouped for registers.
        room: of :meth:`Expansion.room`.
        gradient: ``[1 + draws, rows, width, 4]``, filled.
    """
    start(places.device)
    rows, solutions = len(table.home), expansion.solutions
    energies, own = places.new_empty(rows), places.new_empty(solutions, rows, 3)
    virial, forces = places.new_empty(rows, 6), places.new_empty(rows, 3)
    deviation = places.new_empty(rows if solutions > 1 else 0)
    workers, size, lanes = room.shape
    kinds, energy = pairs.begin.shape[1], expansion.energy
    near = torch.empty(
        workers * (kinds * (pairs.pairs.shape[1] * lanes + 1) + lanes), dtype=torch.int32
    )
    with simd():
        k_expansion(
            places, table.home, pairs.pairs, pairs.begin, pairs.end, blocks.members,
            blocks.kinds, expansion.form, *energy.made, *energy.rows, energy.lone,
            *energy.uses, expansion.inputs, expansion.spans, expansion.mix,
            expansion.extent, room.view(-1, lanes), near, energies, gradient.view(-1),
            own, virial, kernel_type(places.dtype), lanes, expansion.lmax, solutions,
            expansion.mix.shape[2], size, workers,
        )  # fmt: skip
        k_gather_draws(
            table.atom, pairs.end, pairs.partner, gradient.view(-1, 4), own, forces,
            deviation,
        )  # fmt: skip
    return energies, forces, deviation, virial


__all__ = ["Blocks", "Expansion", "expand"]
