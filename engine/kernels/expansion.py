"""Linear expansions in products of moments at full speed, on CPUs, in vector registers.

One pass over blocks of atoms, as many as a register holds:

- moments: an atom's neighbours side by side; radial functions and harmonics of a vector of
  pairs once for the whole committee;
- products and their adjoint: the block's atoms side by side, by the program's list of terms
  (:mod:`.products`); the adjoint once for the mean and for every draw of the committee;
- pair gradients: neighbours side by side again.

Room for one block is all that a thread needs, whatever the size of the system.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..runtime import start, threads
from .descriptor_simd import Pairs
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
def write_harmonics(room: Template, at, columns, x, y, z, lmax: Template, real: Template):
    """Write harmonics at ``at`` and their three slopes, as polynomials, behind them.

    ``Y = a Q_lm(z) c_m`` or ``s_m``, by the recurrences of ``models.potentials.harmonics``.
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
    for l in ti.static(range(lmax + 1)):
        for m in ti.static(range(l + 1)):
            a = ti.cast(ti.static(norm(l, m)), real)
            value = a * q[l * wide + m]
            along = zero
            if ti.static(m < l):
                along = a * q[l * wide + m + 1]
            k = at + ti.static(column(l, m))
            room[k] = value * c[m]
            room[k + 3 * columns] = along * c[m]
            if ti.static(m == 0):
                room[k + columns] = zero
                room[k + 2 * columns] = zero
            else:
                across = ti.cast(ti.static(float(m)), real) * value
                room[k + columns] = across * c[m - 1]
                room[k + 2 * columns] = zero - across * s[m - 1]
                k2 = at + ti.static(column(l, -m))
                room[k2] = value * s[m]
                room[k2 + columns] = across * s[m - 1]
                room[k2 + 2 * columns] = across * c[m - 1]
                room[k2 + 3 * columns] = along * s[m]


@ti.func
def write_radial(room: Template, at, basis, d, inside, form: Template, real: Template):
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
def mix_radial(room: Template, at, basis, to, radial, mix: Template, extent: Template, t):
    """Write radial functions and their slopes, sums of the waves at ``at``."""
    for n in range(radial):
        value = room[at] * 0
        slope = room[at] * 0
        for b in range(extent[t, n, 0], extent[t, n, 1]):
            value += mix[t, n, b] * room[at + b]
            slope += mix[t, n, b] * room[at + basis + b]
        room[to + n] = value
        room[to + radial + n] = slope


@ti.func
def pair_vector(places: Template, pairs: Template, r, n, e0, lanes: Template):
    """Displacements of a vector of pairs."""
    dx = ti.Vector([places[pairs[r, n + q], 0] for q in range(lanes)])
    dy = ti.Vector([places[pairs[r, n + q], 1] for q in range(lanes)])
    dz = ti.Vector([places[pairs[r, n + q], 2] for q in range(lanes)])
    return dx - places[e0, 0], dy - places[e0, 1], dz - places[e0, 2]


@ti.func
def write_pairs(
    room: Template,
    base,
    places: Template,
    pairs: Template,
    r,
    n,
    e0,
    t,
    form: Template,
    basis,
    mix: Template,
    extent: Template,
    real: Template,
    lanes: Template,
    lmax: Template,
):
    """Write waves, radial functions, harmonics of a vector of pairs, from ``base``.

    Returns displacements, directions, 1 / r, and which pairs are inside the cutoff.
    """
    dx, dy, dz = pair_vector(places, pairs, r, n, e0, lanes)
    r2 = dx * dx + dy * dy + dz * dz
    limit = form[1] * form[1]
    inside = r2 * (r2 - limit) < 0
    d = ti.sqrt(ti.select(inside, r2, dx * 0 + limit))
    i = ti.cast(1.0, real) / d
    ux = dx * i
    uy = dy * i
    uz = dz * i
    radial = mix.shape[1]
    mixed = base + 2 * basis
    write_radial(room, base, basis, d, inside, form, real)
    mix_radial(room, base, basis, mixed, radial, mix, extent, t)
    columns = ti.static((lmax + 1) ** 2)
    write_harmonics(room, mixed + 2 * radial, columns, ux, uy, uz, lmax, real)
    return dx, dy, dz, ux, uy, uz, i, inside


@ti.func
def add_moments(room: Template, total, mixed, radial, spans: Template, t, columns):
    """Add what a vector of pairs gives to the moments at ``total``."""
    for c in range(columns):
        y = room[mixed + 2 * radial + c]
        first = spans[t, c]
        for k in range(first, spans[t, c + 1]):
            more = y * room[mixed + k - first]
            room[total + k] = room[total + k] + more


@ti.func
def multiply_up(
    room: Template,
    value,
    moments,
    terms_begin: Template,
    left: Template,
    right: Template,
    factor: Template,
    zero,
):
    """Write the products behind the moments at ``value``, in the program's order."""
    for n in range(terms_begin.shape[0] - 1):
        found = zero
        for k in range(terms_begin[n], terms_begin[n + 1]):
            found += factor[k] * room[value + left[k]] * room[value + right[k]]
        room[value + moments + n] = found


@ti.func
def pull_down(
    room: Template,
    value,
    adjoint,
    moments,
    terms_begin: Template,
    left: Template,
    right: Template,
    factor: Template,
    features: Template,
    weights: Template,
    s,
    kind,
    zero,
):
    """Write at ``adjoint`` how solution s depends on its moments and products."""
    computed = terms_begin.shape[0] - 1
    for n in range(moments + computed):
        room[adjoint + n] = zero
    for k in range(features.shape[0]):
        m = adjoint + features[k]
        room[m] = room[m] + weights[s, kind, k]
    for back in range(computed):
        n = computed - 1 - back
        g = room[adjoint + moments + n]
        for k in range(terms_begin[n], terms_begin[n + 1]):
            h = factor[k] * g
            x = room[value + left[k]]
            y = room[value + right[k]]
            # ``+=`` would be atomic
            room[adjoint + left[k]] = room[adjoint + left[k]] + h * y
            room[adjoint + right[k]] = room[adjoint + right[k]] + h * x


@ti.func
def slopes_of_pairs(
    room: Template,
    flat: Template,
    mine,
    mixed,
    radial,
    spans: Template,
    t,
    columns,
    zero,
):
    """Sum the slopes of a solution at ``mine``: by r, and by the three directions."""
    harmonic = mixed + 2 * radial
    along = zero
    px = zero
    py = zero
    pz = zero
    for c in range(columns):
        v = zero
        w = zero
        first = spans[t, c]
        for k in range(first, spans[t, c + 1]):
            g = flat[mine + k]
            f = mixed + k - first
            v += g * room[f]
            w += g * room[f + radial]
        at = harmonic + c
        along += w * room[at]
        px += v * room[at + columns]
        py += v * room[at + 2 * columns]
        pz += v * room[at + 3 * columns]
    return along, px, py, pz


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
    terms_begin: Array1,
    left: Array1,
    right: Array1,
    factor: Array1,
    features: Array1,
    inputs: Array1,
    spans: Array2,
    weights: Array3,
    mix: Array3,
    extent: Array3,
    room: Vectors,
    flat: Array1,
    energies: Array1,
    gradient: Array1,
    own: Array3,
    virial: Array2,
    real: Template,
    lanes: Template,
    lmax: Template,
    basis: Int,
    moments: Int,
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
        computed = terms_begin.shape[0] - 1
        rows = home.shape[0]
        width = pairs.shape[1]
        zero = ti.Vector.zero(real, lanes)
        base = worker * size
        radial = mix.shape[1]
        mixed = base + 2 * basis
        value = mixed + 2 * radial + 4 * columns
        adjoint = value + moments + computed
        # the sums of one row need it before the slopes of all solutions do
        total = adjoint + moments + computed
        slopes = total
        # the slopes of one row, next to each other
        line = slopes + weights.shape[0] * moments
        blocks = members.shape[0]
        for block in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            for q in range(lanes):
                r = members[block, q]
                for m in range(moments):
                    room[total + m] = zero
                if r >= 0:
                    e0 = home[r]
                    for t in range(begin.shape[1]):
                        for b in range(
                            begin[r, t] // lanes, (end[r, t] + lanes - 1) // lanes
                        ):
                            write_pairs(
                                room, base, places, pairs, r, b * lanes, e0, t, form,
                                basis, mix, extent, real, lanes, lmax,
                            )  # fmt: skip
                            add_moments(room, total, mixed, radial, spans, t, columns)
                for m in range(moments):
                    flat[(value + inputs[m]) * lanes + q] = room[total + m].sum()
            multiply_up(room, value, moments, terms_begin, left, right, factor, zero)
            kind = kinds[block]
            energy = zero
            for k in range(features.shape[0]):
                energy += weights[0, kind, k] * room[value + features[k]]
            for q in ti.static(range(lanes)):
                if members[block, q] >= 0:
                    energies[members[block, q]] = energy[q]
            for s in range(weights.shape[0]):
                pull_down(
                    room, value, adjoint, moments, terms_begin, left, right, factor,
                    features, weights, s, kind, zero,
                )  # fmt: skip
                for m in range(moments):
                    room[slopes + s * moments + m] = room[adjoint + m]
            for q in range(lanes):
                r = members[block, q]
                if r < 0:
                    continue
                e0 = home[r]
                for s in range(weights.shape[0]):
                    for c in ti.static(range(3)):
                        own[s, r, c] = 0
                    for m in range(moments):
                        g = flat[(slopes + s * moments + inputs[m]) * lanes + q]
                        flat[line * lanes + s * moments + m] = g
                wxx = zero
                wyy = zero
                wzz = zero
                wxy = zero
                wxz = zero
                wyz = zero
                for t in range(begin.shape[1]):
                    for b in range(begin[r, t] // lanes, (end[r, t] + lanes - 1) // lanes):
                        dx, dy, dz, ux, uy, uz, i, inside = write_pairs(
                            room, base, places, pairs, r, b * lanes, e0, t, form, basis,
                            mix, extent, real, lanes, lmax,
                        )  # fmt: skip
                        for s in range(weights.shape[0]):
                            mine = line * lanes + s * moments
                            along, px, py, pz = slopes_of_pairs(
                                room, flat, mine, mixed, radial, spans, t, columns, zero
                            )
                            px = px * i
                            py = py * i
                            pz = pz * i
                            along = along - (px * ux + py * uy + pz * uz)
                            gx = ti.select(inside, along * ux + px, zero)
                            gy = ti.select(inside, along * uy + py, zero)
                            gz = ti.select(inside, along * uz + pz, zero)
                            own[s, r, 0] = own[s, r, 0] + gx.sum()
                            own[s, r, 1] = own[s, r, 1] + gy.sum()
                            own[s, r, 2] = own[s, r, 2] + gz.sum()
                            if s == 0:
                                wxx += gx * dx
                                wyy += gy * dy
                                wzz += gz * dz
                                wxy += gx * dy
                                wxz += gx * dz
                                wyz += gy * dz
                            to = ((s * rows + r) * width + b * lanes) * 4
                            for p in ti.static(range(lanes)):
                                gradient[to + 4 * p] = gx[p]
                                gradient[to + 4 * p + 1] = gy[p]
                                gradient[to + 4 * p + 2] = gz[p]
                virial[r, 0] = -wxx.sum()
                virial[r, 1] = -wyy.sum()
                virial[r, 2] = -wzz.sum()
                virial[r, 3] = -wxy.sum()
                virial[r, 4] = -wxz.sum()
                virial[r, 5] = -wyz.sum()


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
        program: begin, left, right, factor, features.
        inputs: node of every input, ordered by species, harmonic, function.
        spans: ``[species, columns + 1]`` where the inputs of a harmonic begin.
        weights: ``[1 + draws, species, features]``, the mean first.
        mix: ``[species, radial, waves]``.
        lmax: highest degree.
    """

    form: Tensor
    program: tuple[Tensor, ...]
    inputs: Tensor
    spans: Tensor
    weights: Tensor
    mix: Tensor
    lmax: int

    def extent(self) -> Tensor:
        """Return the first polynomial of each radial function, and where they end."""
        there = self.mix != 0
        place = torch.arange(self.mix.shape[2]).expand(there.shape)
        first = torch.where(there, place, self.mix.shape[2]).amin(2)
        last = torch.where(there, place, -1).amax(2)
        return torch.stack([first, last + 1], 2).to(torch.int32).contiguous()

    def room(self, lanes: int) -> Tensor:
        """Return memory for a block of every thread, ``[threads, size, lanes]``."""
        nodes = len(self.inputs) + len(self.program[0]) - 1
        size = 2 * sum(self.mix.shape[1:]) + 4 * (self.lmax + 1) ** 2 + 2 * nodes
        solutions = len(self.weights) * len(self.inputs)
        size += solutions + -(-solutions // lanes)
        return aligned(torch.empty(threads(), size, lanes, dtype=self.weights.dtype))


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
    rows, solutions = len(table.home), len(expansion.weights)
    energies, own = places.new_empty(rows), places.new_empty(solutions, rows, 3)
    virial, forces = places.new_empty(rows, 6), places.new_empty(rows, 3)
    deviation = places.new_empty(rows if solutions > 1 else 0)
    workers, size, lanes = room.shape
    with simd():
        k_expansion(
            places, table.home, pairs.pairs, pairs.begin, pairs.end, blocks.members,
            blocks.kinds, expansion.form, *expansion.program, expansion.inputs,
            expansion.spans, expansion.weights, expansion.mix, expansion.extent(),
            room.view(-1, lanes),
            room.view(-1), energies, gradient.view(-1), own, virial,
            kernel_type(places.dtype), lanes, expansion.lmax, expansion.mix.shape[2],
            len(expansion.inputs), size, workers,
        )  # fmt: skip
        k_gather_draws(
            table.atom, pairs.end, pairs.partner, gradient.view(-1, 4), own, forces,
            deviation,
        )  # fmt: skip
    return energies, forces, deviation, virial


__all__ = ["Blocks", "Expansion", "expand"]
