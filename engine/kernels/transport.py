"""One stage of a discrete-velocity scheme: transport, moments, equilibrium, relaxation.

One kernel visits every cell once. It moves the distribution (second-order upwind), sums its
moments, finds the discrete equilibrium by Newton's method and relaxes, while the cell's
velocities are still in cache: per stage the distribution is read once and written once.

Layout: ``f`` is flat, ``[batch, parts, rows, velocities]``; a row is a cell or, after all
cells, a ghost cell; ``neighbours [cells, 4 * space]`` holds the rows at -2, -1, +1, +2
along each axis. ``parts`` is 1, or 2 for Chu's reduced pair (g, h). Velocities are a tensor
product of uniform nodes, the last axis contiguous.

The equilibrium is ``exp(a + b.xi + c xi^2)`` with ``xi = (v - u) / sqrt(T)``, a product of
one factor per velocity axis; the factors obey a recurrence, so an axis costs three
exponentials however many nodes it has. Newton's method runs on the sums of exactly these
numbers, so mass, momentum and energy are conserved to round-off on any grid (Mieussens,
J. Comput. Phys. 162, 2000, p. 429).
"""

from dataclasses import astuple, dataclass, fields
from typing import Any

import torch

from ..runtime import start
from .types import Array1, Array2, Int, Template, Vectors, kernel_type, simd, ti, turns

RHO, U, T, K, PERP, SHAKHOV, ELLIPSE, COLUMNS = 0, 1, 4, 5, 6, 7, 7, 19
"""Columns of a cell's record: density, velocity (3), temperature, dt/tau of the stage,
temperature of the reduced directions, then for Shakhov's model its vector (3) and the
correction (1, 3, 1), for ES-BGK the quadratic form (6), its factor, and the correction
(1, 3, 1)."""

BGK, ELLIPSOIDAL, SHAKHOV_MODEL = 0, 1, 2

NEWTON_STEPS = 30

Rows = ti.types.struct(far_low=ti.i32, near_low=ti.i32, near_high=ti.i32, far_high=ti.i32)
"""Rows at -2, -1, +1 and +2 along an axis, or in the order of the flow."""

Sizes = ti.types.struct(
    cells=ti.i32, rows=ti.i32, inner=ti.i32, outer=ti.i32, middle=ti.i32, pitch=ti.i32,
    width=ti.i32,
)  # fmt: skip
"""``cells`` and ``rows`` per problem, nodes along the last axis of velocity (``inner``),
along all others (``outer``) and along the axis before the last (``middle``); lengths of a
row of the array of nodes (``pitch``) and of the table of factors (``width``)."""


@dataclass(frozen=True)
class Variant:
    """What a stage is compiled for.

    Attributes:
        real: ``ti.f64`` or ``ti.f32``, the numbers of the distribution.
        lanes: velocities handled at once; they divide the last axis and, unless
            ``mixed``, the negative half of it.
        mixed: whether a group of velocities may have both signs.
        second: whether this is the last stage.
        parts: 1, or 2 for Chu's reduced pair.
        space: dimensions of space.
        axes: resolved axes of velocity.
        law: ``BGK``, ``ELLIPSOIDAL`` or ``SHAKHOV_MODEL``.
    """

    real: Any
    lanes: int
    mixed: bool
    second: bool
    parts: int
    space: int
    axes: int
    law: int


@dataclass(frozen=True)
class StageParameters:
    """Numbers of one stage.

    Attributes:
        transport_step: ``dt`` times the weight of the transport term.
        old_share: weight of the state at the start in the last stage.
        lag: weight of the first stage's relaxation in the last stage.
        relaxation_step: ``dt`` times the weight of the implicit relaxation.
        weight: quadrature weight of a node.
        dimension: degrees of freedom D of a molecule's motion.
        prandtl: Prandtl number.
        density_power: a in ``tau = Kn rho^-a T^b``.
        temperature_power: b in the same law.
        law_start: ``ln T`` at the first knot of the table that takes the law's place.
        law_rate: intervals of the table in a unit of ``ln T``; 0: there is none.
        negative_nodes: number of negative nodes of the last axis.
        spacing_first: spacing of the nodes along the first axis; the next two follow.
        spacing_second: see ``spacing_first``.
        spacing_third: see ``spacing_first``.
        tiny: a square that is added to denominators.
    """

    transport_step: float
    old_share: float
    lag: float
    relaxation_step: float
    weight: float
    dimension: float
    prandtl: float
    density_power: float
    temperature_power: float
    law_start: float
    law_rate: float
    negative_nodes: float
    spacing_first: float
    spacing_second: float
    spacing_third: float
    tiny: float

    def packed(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return the numbers as the kernel reads them, at the indices ``AT``."""
        return torch.tensor(astuple(self), dtype=dtype, device=device)


AT: Any = StageParameters(*range(len(fields(StageParameters))))
"""Indices of the packed parameters by name."""


@ti.func
def slope_change(a, b, c, tiny):
    """Half the difference ``s(b, c) - s(a, b)`` of van Leer's slopes of neighbouring cells.

    ``s(a, b) = 2 ab/(a + b)`` where both agree in sign, else 0: no branch, and one division
    for both slopes. (The larger of two vectors would be three instructions, for NaN's sake;
    an eighth of a whole step.)
    """
    p = a + b
    q = b + c
    low = p * p + tiny
    high = q * q + tiny
    ahead = b * c
    behind = a * b
    bend = ti.select(ahead > 0, ahead * q, 0 * b) * low
    bend = bend - ti.select(behind > 0, behind * p, 0 * b) * high
    return bend / (low * high)


@ti.func
def upwind(f: Template, here, at, rows: Template, v, tiny, mixed: Template):
    """Return ``(f(right face) - f(left face)) sign(v)`` of a second-order upwind scheme.

    ``mixed``: v is a vector of velocities along this axis, which may have both signs;
    else all come from the side of ``near_low``.
    """
    f0 = f[here]
    f2 = f[at + rows.far_low]
    f1 = f[at + rows.near_low]
    f3 = f[at + rows.near_high]
    if ti.static(mixed):
        right = v >= 0
        low = f1
        high = f3
        f2 = ti.select(right, f2, f[at + rows.far_high])
        f1 = ti.select(right, low, high)
        f3 = ti.select(right, high, low)
    jump = f0 - f1
    return jump + slope_change(f1 - f2, jump, f3 - f0, tiny)


@ti.func
def ordered(rows: Template, right):
    """Return the rows so that what moves to the ``right``, or not, comes from the first."""
    return Rows(
        ti.select(right, rows.far_low, rows.far_high),
        ti.select(right, rows.near_low, rows.near_high),
        ti.select(right, rows.near_high, rows.near_low),
        ti.select(right, rows.far_high, rows.far_low),
    )


@ti.func
def solve(matrix, right, n: Template):
    """Gaussian elimination of a symmetric positive definite system, in registers."""
    a = matrix
    x = right
    for i in ti.static(range(n)):
        for j in ti.static(range(i + 1, n)):
            m = a[j, i] / a[i, i]
            for k in ti.static(range(n)):
                if ti.static(k >= i):
                    a[j, k] -= m * a[i, k]
            x[j] -= m * x[i]
    for r in ti.static(range(n)):
        i = ti.static(n - 1 - r)
        for k in ti.static(range(n)):
            if ti.static(k > i):
                x[i] -= a[i, k] * x[k]
        x[i] /= a[i, i]
    return x


@ti.func
def axis_sums(b, c, xi0, h, n):
    """Sum ``exp(b xi + c xi^2) xi^k`` over one axis for k = 0..4.

    Runs outwards from the node nearest to xi = 0 by ratios, so nothing overflows.
    """
    q = ti.exp(2 * c * h * h)
    middle = ti.min(ti.max(ti.cast(ti.floor(-xi0 / h + 0.5), ti.i32), 0), n - 1)
    start = xi0 + middle * h
    top = ti.exp(b * start + c * start * start)
    s = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0])
    for side in ti.static(range(2)):
        step = h if ti.static(side == 0) else -h
        e = top
        r = ti.exp(b * step + c * (2 * start * step + h * h))
        x = start
        count = (n - middle) if ti.static(side == 0) else middle
        if ti.static(side == 1):
            x += step
            e *= r
            r *= q
        for _ in range(count):
            y = e
            for k in ti.static(range(5)):
                s[k] += y
                y *= x
            e *= r
            r *= q
            x += step
    return s


@ti.func
def axis_table(table: Template, cell, offset, scale, b, c, xi0, h, n, width):
    """Store ``scale * exp(b xi + c xi^2)``, the numbers that :func:`axis_sums` adds."""
    q = ti.exp(2 * c * h * h)
    middle = ti.min(ti.max(ti.cast(ti.floor(-xi0 / h + 0.5), ti.i32), 0), n - 1)
    start = xi0 + middle * h
    top = scale * ti.exp(b * start + c * start * start)
    for side in ti.static(range(2)):
        step = h if ti.static(side == 0) else -h
        e = top
        r = ti.exp(b * step + c * (2 * start * step + h * h))
        j = middle
        count = (n - middle) if ti.static(side == 0) else middle
        if ti.static(side == 1):
            j -= 1
            e *= r
            r *= q
        for _ in range(count):
            table[cell * width + offset + j] = e
            e *= r
            r *= q
            if ti.static(side == 0):
                j += 1
            else:
                j -= 1


def _power(row, term, axis, V):
    """Power of xi along ``axis`` in one term of the functions 1, xi_1..xi_V, xi^2."""
    if row == 0:
        return 0
    return int(row - 1 == axis) if row <= V else 2 * int(term == axis)


@ti.func
def product_moments(s, V: Template, scale):
    """Matrix of moments of (1, xi, xi^2) against themselves for a product of axis sums."""
    N = ti.static(V + 2)
    j = ti.Matrix.zero(ti.f64, N, N)
    for x in ti.static(range(N)):
        for y in ti.static(range(N)):
            if ti.static(y >= x):
                total = 0.0 * scale
                for dx in ti.static(range(V if x == N - 1 else 1)):
                    for dy in ti.static(range(V if y == N - 1 else 1)):
                        term = scale
                        for d in ti.static(range(V)):
                            term *= s[
                                d, ti.static(_power(x, dx, d, V) + _power(y, dy, d, V))
                            ]
                        total += term
                j[x, y] = total
                j[y, x] = total
    return j


@ti.func
def heat_flux(
    out: Template,
    nodes: Template,
    velocity,
    base,
    i,
    sizes: Template,
    parts: Template,
    V: Template,
):
    """Sum ``c (c^2 g + h) / 2`` over the velocities of a cell (without the weight)."""
    total = ti.Vector([0.0, 0.0, 0.0])
    nv = sizes.inner * sizes.outer
    for o in range(sizes.outer):
        c = ti.Vector([0.0, 0.0, 0.0])
        if ti.static(V == 2):
            c[0] = nodes[0 * sizes.pitch + o] - velocity[0]
        if ti.static(V == 3):
            c[0] = nodes[0 * sizes.pitch + o // sizes.middle] - velocity[0]
            c[1] = nodes[1 * sizes.pitch + o % sizes.middle] - velocity[1]
        for k in range(sizes.inner):
            last = nodes[(V - 1) * sizes.pitch + k] - velocity[V - 1]
            square = last * last
            for d in ti.static(range(V - 1)):
                square += c[d] * c[d]
            e = square * out[(base + i) * nv + o * sizes.inner + k]
            if ti.static(parts == 2):
                e += out[(base + sizes.rows + i) * nv + o * sizes.inner + k]
            total[V - 1] += 0.5 * last * e
            for d in ti.static(range(V - 1)):
                total[d] += 0.5 * c[d] * e
    return total


@ti.func
def shakhov(
    heat,
    mass,
    temperature,
    prandtl,
    k,
    D,
    weight,
    table: Template,
    cell,
    nodes: Template,
    velocity,
    sizes: Template,
    V: Template,
):
    """Coefficients of ``1 + s.c (c^2/T + d - D - 2) + alpha + beta.c + gamma c^2``.

    The heat flux at the end of the implicit stage is ``q / (1 + k Pr)``; alpha, beta and
    gamma take out what the polynomial adds to mass, momentum and energy on the grid.
    """
    poly = ti.Vector.zero(ti.f64, 9)
    pressure = mass * temperature
    rest = D - V
    for d in ti.static(range(V)):
        q = weight * heat[d] / (1.0 + k * prandtl)
        poly[d] = (1.0 - prandtl) * q / ((D + 2.0) * pressure * temperature)
    N = ti.static(V + 2)
    right = ti.Vector.zero(ti.f64, N)
    matrix = ti.Matrix.zero(ti.f64, N, N)
    scale = ti.sqrt(temperature)
    for o in range(sizes.outer):
        c = ti.Vector([0.0, 0.0, 0.0])
        e = weight
        if ti.static(V == 2):
            c[0] = nodes[0 * sizes.pitch + o] - velocity[0]
            e *= table[cell * sizes.width + sizes.inner + o]
        if ti.static(V == 3):
            c[0] = nodes[0 * sizes.pitch + o // sizes.middle] - velocity[0]
            c[1] = nodes[1 * sizes.pitch + o % sizes.middle] - velocity[1]
            e *= table[cell * sizes.width + sizes.inner + sizes.middle + o // sizes.middle]
            e *= table[cell * sizes.width + sizes.inner + o % sizes.middle]
        for j in range(sizes.inner):
            c[V - 1] = nodes[(V - 1) * sizes.pitch + j] - velocity[V - 1]
            w = e * table[cell * sizes.width + j]
            square = 0.0
            dot = 0.0
            for d in ti.static(range(V)):
                square += c[d] * c[d]
                dot += poly[d] * c[d]
            square /= temperature
            g = dot * (square + rest - (D + 2.0))
            h = dot * rest * (square + (rest + 2.0) - (D + 2.0))
            basis = ti.Vector.zero(ti.f64, N)
            basis[0] = 1.0
            basis[N - 1] = square
            for d in ti.static(range(V)):
                basis[1 + d] = c[d] / scale
            for x in ti.static(range(N)):
                right[x] += w * g * basis[x]
                for y in ti.static(range(N)):
                    matrix[x, y] += w * basis[x] * basis[y]
            # energy counts the reduced directions too; h of the correction is rest T g
            right[N - 1] += w * h
            for y in ti.static(range(N)):
                matrix[N - 1, y] += w * rest * basis[y]
    fix = solve(matrix, right, N)
    poly[3] = -fix[0]
    for d in ti.static(range(V)):
        poly[4 + d] = -fix[1 + d] / scale
    poly[7] = -fix[N - 1] / temperature
    return poly


@ti.func
def shakhov_factor(
    record: Template, cell, nodes: Template, o0, o1, k, D, q: Template, V: Template, pitch
):
    """Value of the polynomial of :func:`shakhov` at one velocity; ``q`` = 1 for h."""
    square = 0.0
    dot = 0.0
    more = record[cell, SHAKHOV + 3]
    rest = D - V
    for d in ti.static(range(V)):
        c = nodes[d * pitch + k] - record[cell, U + d]
        if ti.static(d < V - 1):
            c = nodes[d * pitch + o0 if ti.static(d == 0) else o1] - record[cell, U + d]
        square += c * c
        dot += record[cell, SHAKHOV + d] * c
        more += record[cell, SHAKHOV + 4 + d] * c
    more += record[cell, SHAKHOV + 7] * square
    extra = rest
    if ti.static(q == 1):
        extra = rest + 2
    return 1 + more + dot * (square / record[cell, T] + extra - (D + 2))


@ti.func
def form(a, c, V: Template):
    """Return ``c . A c`` for A stored as xx, xy, yy, xz, yz, zz."""
    total = a[0] * c[0] * c[0] + 2 * a[1] * c[0] * c[1] + a[2] * c[1] * c[1]
    if ti.static(V == 3):
        total += 2 * c[2] * (a[3] * c[0] + a[4] * c[1]) + a[5] * c[2] * c[2]
    return total


@ti.func
def ellipsoid(
    out: Template,
    table: Template,
    nodes: Template,
    velocity,
    mass,
    temperature,
    spread,
    share,
    weight,
    cell,
    row,
    sizes: Template,
    V: Template,
):
    """Turn the Maxwellian of temperature ``spread`` in the table into Holway's Gaussian.

    Its covariance is ``L = T I + share (P / rho - T I)`` with P the pressure tensor of what
    arrived. Returns ``A = L^-1 - I / spread`` (xx, xy, yy, xz, yz, zz), the factor
    ``s`` and the correction of ``s exp(-c.A c / 2) (1 + alpha + beta.c + gamma c^2)`` that
    gives mass, momentum and energy exactly on the grid.
    """
    second = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for o in range(sizes.outer):
        for j in range(sizes.inner):
            c = peculiar(nodes, velocity, o, j, sizes, V)
            f = weight * out[row + o * sizes.inner + j]
            second[0] += f * c[0] * c[0]
            second[1] += f * c[0] * c[1]
            second[2] += f * c[1] * c[1]
            if ti.static(V == 3):
                second[3] += f * c[0] * c[2]
                second[4] += f * c[1] * c[2]
                second[5] += f * c[2] * c[2]
    for m in ti.static(range(6)):
        second[m] = share * second[m] / mass
        if ti.static(m == 0 or m == 2 or m == 5):
            second[m] += (1.0 - share) * temperature
    a = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    determinant = second[0] * second[2] - second[1] * second[1]
    if ti.static(V == 2):
        a[0] = second[2] / determinant
        a[1] = 0.0 - second[1] / determinant
        a[2] = second[0] / determinant
    else:
        xx, xy, yy = second[0], second[1], second[2]
        xz, yz, zz = second[3], second[4], second[5]
        determinant = determinant * zz - xx * yz * yz - yy * xz * xz + 2 * xy * xz * yz
        a[0] = (yy * zz - yz * yz) / determinant
        a[1] = (xz * yz - xy * zz) / determinant
        a[2] = (xx * zz - xz * xz) / determinant
        a[3] = (xy * yz - xz * yy) / determinant
        a[4] = (xy * xz - xx * yz) / determinant
        a[5] = (xx * yy - xy * xy) / determinant
        a[5] -= 1.0 / spread
    a[0] -= 1.0 / spread
    a[2] -= 1.0 / spread
    norm = ti.sqrt(spread**V / determinant)
    N = ti.static(V + 2)
    right = ti.Vector.zero(ti.f64, N)
    matrix = ti.Matrix.zero(ti.f64, N, N)
    scale = ti.sqrt(spread)
    for o in range(sizes.outer):
        e = weight * norm
        if ti.static(V == 2):
            e *= table[cell * sizes.width + sizes.inner + o]
        else:
            e *= table[cell * sizes.width + sizes.inner + sizes.middle + o // sizes.middle]
            e *= table[cell * sizes.width + sizes.inner + o % sizes.middle]
        for j in range(sizes.inner):
            c = peculiar(nodes, velocity, o, j, sizes, V)
            w = e * table[cell * sizes.width + j] * ti.exp(-0.5 * form(a, c, V))
            basis = ti.Vector.zero(ti.f64, N)
            basis[0] = 1.0
            for d in ti.static(range(V)):
                basis[1 + d] = c[d] / scale
                basis[N - 1] += c[d] * c[d] / spread
            for x in ti.static(range(N)):
                right[x] += w * basis[x]
                for y in ti.static(range(N)):
                    matrix[x, y] += w * basis[x] * basis[y]
    for x in ti.static(range(N)):
        right[x] = 0.0 - right[x]
    right[0] += mass
    right[N - 1] += V * mass
    fix = solve(matrix, right, N)
    shape = ti.Vector.zero(ti.f64, 12)
    for m in ti.static(range(6)):
        shape[m] = a[m]
    shape[6] = norm
    shape[7] = fix[0]
    for d in ti.static(range(V)):
        shape[8 + d] = fix[1 + d] / scale
    shape[11] = fix[N - 1] / spread
    return shape


@ti.func
def peculiar(nodes: Template, velocity, o, j, sizes: Template, V: Template):
    """Velocity of a node relative to the cell's."""
    c = ti.Vector([0.0, 0.0, 0.0])
    c[V - 1] = nodes[(V - 1) * sizes.pitch + j] - velocity[V - 1]
    if ti.static(V == 2):
        c[0] = nodes[o] - velocity[0]
    if ti.static(V == 3):
        c[0] = nodes[o // sizes.middle] - velocity[0]
        c[1] = nodes[sizes.pitch + o % sizes.middle] - velocity[1]
    return c


@ti.func
def ellipsoid_factor(
    record: Template, cell, nodes: Template, o0, o1, j, V: Template, pitch
):
    """Ratio of ES-BGK's equilibrium to the table's Maxwellian at one velocity."""
    c = ti.Vector([0.0, 0.0, 0.0])
    c[V - 1] = nodes[(V - 1) * pitch + j] - record[cell, U + V - 1]
    c[0] = nodes[o0] - record[cell, U]
    if ti.static(V == 3):
        c[1] = nodes[pitch + o1] - record[cell, U + 1]
    a = ti.Vector([record[cell, ELLIPSE + m] for m in range(6)])
    more = 1.0 + record[cell, ELLIPSE + 7]
    for d in ti.static(range(V)):
        more += record[cell, ELLIPSE + 8 + d] * c[d]
        more += record[cell, ELLIPSE + 11] * c[d] * c[d]
    return record[cell, ELLIPSE + 6] * ti.exp(-0.5 * form(a, c, V)) * more


@ti.func
def stencil(neighbours: Template, i, axis: Template, blocks):
    """Return where the rows at -2, -1, +1 and +2 of cell ``i`` along an axis begin."""
    return Rows(
        neighbours[i, 4 * axis] * blocks,
        neighbours[i, 4 * axis + 1] * blocks,
        neighbours[i, 4 * axis + 2] * blocks,
        neighbours[i, 4 * axis + 3] * blocks,
    )


@ti.func
def outer_nodes(o, sizes: Template, axes: Template):
    """Return the nodes along the first and the second axis of outer node ``o``."""
    first = o
    second = 0
    if ti.static(axes == 3):
        first = o // sizes.middle
        second = o - first * sizes.middle
    return first, second


@ti.func
def axis_length(axis: Template, sizes: Template, axes: Template):
    """Return the number of nodes along an axis of velocity."""
    n = sizes.inner
    if ti.static(axis == axes - 2):
        n = sizes.middle
    if ti.static(axis == axes - 3):
        n = sizes.outer // sizes.middle
    return n


@ti.func
def axis_offset(axis: Template, sizes: Template, axes: Template):
    """Return where the factors of an axis begin in a cell's table (last axis first)."""
    offset = 0
    if ti.static(axis == axes - 2):
        offset = sizes.inner
    if ti.static(axis == axes - 3):
        offset = sizes.inner + sizes.middle
    return offset


@ti.func
def outer_factor(level, table: Template, cell, o0, o1, sizes: Template, axes: Template):
    """Multiply ``level`` by the equilibrium's factors of the axes before the last."""
    factor = level
    if ti.static(axes == 2):
        factor *= table[cell * sizes.width + sizes.inner + o0]
    if ti.static(axes == 3):
        factor *= table[cell * sizes.width + sizes.inner + sizes.middle + o0]
        factor *= table[cell * sizes.width + sizes.inner + o1]
    return factor


@ti.func
def upwind_difference(
    f: Template,
    here,
    at,
    first: Template,
    second: Template,
    last: Template,
    rate_first,
    rate_second,
    nodes: Template,
    pitch_blocks,
    t,
    v,
    tiny,
    variant: Template,
):
    """Return ``sum_d |v_d| / dx_d (f(right face) - f(left face)) sign(v_d)`` of a block.

    ``first``, ``second`` and ``last`` are the rows along the axes of velocity, of which
    the first two are ordered by the sign of their velocity.
    """
    space, axes = ti.static(variant.space, variant.axes)
    total = v * 0
    if ti.static(axes == 1):
        total = upwind(f, here, at, last, v, tiny, variant.mixed)
        total *= nodes[3 * pitch_blocks + t]
    else:
        total = upwind(f, here, at, first, v, tiny, False)
        total *= rate_first
    if ti.static(space > 1 and axes == 2):
        step = upwind(f, here, at, last, v, tiny, variant.mixed)
        total += nodes[4 * pitch_blocks + t] * step
    if ti.static(space > 1 and axes == 3):
        step = upwind(f, here, at, second, v, tiny, False)
        total += rate_second * step
    if ti.static(space > 2):
        step = upwind(f, here, at, last, v, tiny, variant.mixed)
        total += nodes[5 * pitch_blocks + t] * step
    return total


@ti.func
def transport(
    old: Template,
    moved: Template,
    out: Template,
    neighbours: Template,
    nodes: Template,
    nodes_flat: Template,
    par: Template,
    sizes: Template,
    base,
    i,
    variant: Template,
):
    """Move a cell's distribution; return the raw moments of what arrives.

    Returns:
        sums over the nodes of g, of g v (3), of g v^2 and of h, without the weight.
    """
    V, lanes = ti.static(variant.axes, variant.lanes)
    nv_blocks = sizes.inner * sizes.outer // lanes
    inner_blocks = sizes.inner // lanes
    pitch_blocks = sizes.pitch // lanes
    low_blocks = ti.cast(par[AT.negative_nodes], ti.i32) // lanes
    tiny = par[AT.tiny]
    dt_move = par[AT.transport_step]
    old_share = par[AT.old_share]
    rows_first = stencil(neighbours, i, 0, nv_blocks)
    rows_second = stencil(neighbours, i, ti.static(min(1, variant.space - 1)), nv_blocks)
    rows_last = stencil(neighbours, i, ti.static(variant.space - 1), nv_blocks)
    zero = nodes[0] * 0
    sum_m = zero
    sum_0 = zero
    sum_1 = zero
    sum_last = zero
    sum_e = zero
    sum_h = zero
    for o in range(sizes.outer):
        o0, o1 = outer_nodes(o, sizes, V)
        v0 = tiny * 0
        v1 = tiny * 0
        rate_0 = tiny * 0
        rate_1 = tiny * 0
        if ti.static(V >= 2):
            v0 = nodes_flat[o0]
            rate_0 = nodes_flat[3 * sizes.pitch + o0]
        if ti.static(V == 3):
            v1 = nodes_flat[sizes.pitch + o1]
            rate_1 = nodes_flat[4 * sizes.pitch + o1]
        first = ordered(rows_first, v0 >= 0)
        second = ordered(rows_second, v1 >= 0)
        line_m = zero
        line_1 = zero
        line_e = zero
        for q in ti.static(range(variant.parts)):
            row = (base + q * sizes.rows) * nv_blocks + o * inner_blocks
            for t in range(inner_blocks):
                v = nodes[(V - 1) * pitch_blocks + t]
                at = row + t
                here = at + i * nv_blocks
                f = moved[here]
                # the velocity along the last axis changes sign within the line
                last = rows_last
                if ti.static(variant.space == V and not variant.mixed):
                    last = ordered(rows_last, t >= low_blocks)
                change = upwind_difference(
                    moved,
                    here,
                    at,
                    first,
                    second,
                    last,
                    rate_0,
                    rate_1,
                    nodes,
                    pitch_blocks,
                    t,
                    v,
                    tiny,
                    variant,
                )
                new = f - dt_move * change
                if ti.static(variant.second):
                    new += old_share * (old[here] - f)
                out[here] = new
                if ti.static(q == 0):
                    line_m += new
                    line_1 += new * v
                    line_e += new * v * v
                else:
                    sum_h += new
        sum_m += line_m
        sum_last += line_1
        sum_e += line_e
        if ti.static(V > 1):
            sum_0 += v0 * line_m
            sum_e += (v0 * v0) * line_m
        if ti.static(V > 2):
            sum_1 += v1 * line_m
            sum_e += (v1 * v1) * line_m
    mass = 0.0
    energy = 0.0
    reduced = 0.0
    flow = ti.Vector([0.0, 0.0, 0.0])
    for l in ti.static(range(lanes)):
        mass += sum_m[l]
        energy += sum_e[l]
        reduced += sum_h[l]
        flow[V - 1] += sum_last[l]
        if ti.static(V > 1):
            flow[0] += sum_0[l]
        if ti.static(V > 2):
            flow[1] += sum_1[l]
    return mass, flow, energy, reduced


@ti.func
def transport_law(mass, temperature, par: Template, law: Template):
    """Return the relaxation time over the Knudsen number, and the Prandtl number.

    From powers, or from a table of ``ln mu`` and Pr, whose ends go on as they are.
    """
    heat = ti.log(temperature)
    prandtl = ti.cast(par[AT.prandtl], ti.f64)
    time_scale = 0.0
    if par[AT.law_rate] > 0:
        count = law.shape[0]
        x = (heat - par[AT.law_start]) * par[AT.law_rate]
        x = ti.min(ti.max(x, 0.0), ti.cast(count, ti.f64))
        row = ti.min(ti.cast(x, ti.i32), count - 1)
        x -= row
        mu = ((law[row, 3] * x + law[row, 2]) * x + law[row, 1]) * x + law[row, 0]
        prandtl = ((law[row, 7] * x + law[row, 6]) * x + law[row, 5]) * x + law[row, 4]
        time_scale = ti.exp(mu - heat - ti.log(mass))
    else:
        time_scale = ti.exp(
            par[AT.temperature_power] * heat - par[AT.density_power] * ti.log(mass)
        )
    return time_scale, prandtl


@ti.func
def target_moments(
    mass, square, temperature, energy, reduced, rate, prandtl, par: Template,
    variant: Template,
):  # fmt: skip
    """Return ``dt / tau`` and the temperatures of the target: resolved, reduced directions.

    ES-BGK: the collision frequency is ``Pr p / mu``, the stress relaxes at ``p / mu``,
    implicitly, and the target's temperatures are those at the end of the stage.
    """
    V = ti.static(variant.axes)
    D = par[AT.dimension]
    k = rate
    spread = temperature
    perp = temperature
    if ti.static(variant.law == ELLIPSOIDAL):
        k = k * prandtl
        keep = 1.0 / (1.0 + k / prandtl)
        along = (energy / mass - square) / V
        along = temperature + (along - temperature) * keep
        across = ti.select(D > V, reduced / mass / ti.max(D - V, 1.0), temperature)
        across = temperature + (across - temperature) * keep
        spread = temperature + (1.0 - 1.0 / prandtl) * (along - temperature)
        perp = temperature + (1.0 - 1.0 / prandtl) * (across - temperature)
    return k, spread, perp


@ti.func
def discrete_maxwellian(
    velocity,
    spread,
    possible,
    nodes: Template,
    par: Template,
    sizes: Template,
    axes: Template,
):
    """Return (a, b, c) of the discrete Maxwellian, and whether Newton's method converged.

    ``exp(a + b.xi + c xi^2)`` with ``xi = (v - velocity) / sqrt(spread)`` has the sums of
    unit density, no velocity and the variance ``spread``. Not ``possible``: the initial
    guess is returned.
    """
    N = ti.static(axes + 2)
    scale = ti.sqrt(spread)
    unknown = ti.Vector.zero(ti.f64, N)
    unknown[N - 1] = -0.5
    level = 0.5 * ti.log(6.283185307179586)
    unknown[0] = -axes * level
    for d in ti.static(range(axes)):
        unknown[0] += ti.log(par[AT.spacing_first + d] / scale)
    jacobian = ti.Matrix.zero(ti.f64, N, N)
    sums = ti.Matrix.zero(ti.f64, axes, 5)
    count = 0
    good = possible
    while good and count < NEWTON_STEPS:
        for d in ti.static(range(axes)):
            line = axis_sums(
                unknown[1 + d],
                unknown[N - 1],
                (nodes[d * sizes.pitch] - velocity[d]) / scale,
                par[AT.spacing_first + d] / scale,
                axis_length(d, sizes, axes),
            )
            for p in ti.static(range(5)):
                sums[d, p] = line[p]
        jacobian = product_moments(sums, axes, ti.exp(unknown[0]))
        right = ti.Vector.zero(ti.f64, N)
        right[0] = 1.0 - jacobian[0, 0]
        right[N - 1] = axes - jacobian[0, N - 1]
        worst = ti.abs(right[0]) + ti.abs(right[N - 1])
        for d in ti.static(range(axes)):
            right[1 + d] = -jacobian[0, 1 + d]
            worst += ti.abs(right[1 + d])
        count += 1
        if count == NEWTON_STEPS:
            good = worst < 1e-9
            break
        change = solve(jacobian, right, N)
        # limit the step in c so that c stays negative
        limit = ti.min(1.0, 0.5 * ti.abs(unknown[N - 1]) / (ti.abs(change[N - 1]) + 1e-300))
        unknown += limit * change
        if worst < 1e-9:
            # quadratic convergence: the step just made leaves round-off
            break
    return unknown, good


@ti.func
def store_maxwellian(
    table: Template,
    cell,
    amplitude,
    unknown,
    velocity,
    scale,
    nodes: Template,
    par: Template,
    sizes: Template,
    axes: Template,
):
    """Store the Maxwellian's factors, one per axis; the last axis holds the amplitude."""
    for d in ti.static(range(axes)):
        axis_table(
            table,
            cell,
            axis_offset(d, sizes, axes),
            amplitude if ti.static(d == axes - 1) else 1.0,
            unknown[1 + d],
            unknown[axes + 1],
            (nodes[d * sizes.pitch] - velocity[d]) / scale,
            par[AT.spacing_first + d] / scale,
            axis_length(d, sizes, axes),
            sizes.width,
        )


@ti.func
def store_correction(
    out: Template,
    nodes: Template,
    table: Template,
    record: Template,
    velocity,
    mass,
    temperature,
    spread,
    k,
    prandtl,
    par: Template,
    sizes: Template,
    base,
    cell,
    i,
    variant: Template,
):
    """Record what Shakhov's or Holway's model multiplies the Maxwellian by."""
    V = ti.static(variant.axes)
    weight = par[AT.weight]
    if ti.static(variant.law == SHAKHOV_MODEL):
        heat = heat_flux(out, nodes, velocity, base, i, sizes, variant.parts, V)
        poly = shakhov(
            heat,
            mass,
            temperature,
            prandtl,
            k,
            par[AT.dimension],
            weight,
            table,
            cell,
            nodes,
            velocity,
            sizes,
            V,
        )
        for m in ti.static(range(9)):
            record[cell, SHAKHOV + m] = poly[m]
    if ti.static(variant.law == ELLIPSOIDAL and V > 1):
        shape = ellipsoid(
            out,
            table,
            nodes,
            velocity,
            mass,
            temperature,
            spread,
            (1.0 - 1.0 / prandtl) / (1.0 + k / prandtl),
            weight,
            cell,
            (base + i) * sizes.inner * sizes.outer,
            sizes,
            V,
        )
        for m in ti.static(range(12)):
            record[cell, ELLIPSE + m] = shape[m]


@ti.func
def target(
    level,
    table: Template,
    record: Template,
    cell,
    t,
    o0,
    o1,
    nodes: Template,
    dimension,
    sizes: Template,
    part: Template,
    variant: Template,
):
    """Return a block of ``level`` times the collision model's target distribution."""
    V, lanes = ti.static(variant.axes, variant.lanes)
    value = level * table[cell * (sizes.width // lanes) + t]
    if ti.static(variant.law == ELLIPSOIDAL and V > 1):
        for lane in ti.static(range(lanes)):
            value[lane] *= ellipsoid_factor(
                record, cell, nodes, o0, o1, t * lanes + lane, V, sizes.pitch
            )
    if ti.static(variant.law == SHAKHOV_MODEL):
        for lane in ti.static(range(lanes)):
            value[lane] *= shakhov_factor(
                record, cell, nodes, o0, o1, t * lanes + lane, dimension, part, V,
                sizes.pitch,
            )  # fmt: skip
    return value


@ti.func
def relax(
    moved: Template,
    out: Template,
    nodes: Template,
    table_in: Template,
    table_in_flat: Template,
    table: Template,
    table_flat: Template,
    record_in: Template,
    record: Template,
    k,
    perp,
    par: Template,
    sizes: Template,
    base,
    cell,
    i,
    variant: Template,
):
    """Relax a cell implicitly: ``f <- (f + k G) / (1 + k)``, while its row is in cache.

    The last stage also takes the first stage's relaxation into account, whose target is
    in ``table_in`` and ``record_in``.
    """
    V, lanes = ti.static(variant.axes, variant.lanes)
    nv_blocks = sizes.inner * sizes.outer // lanes
    inner_blocks = sizes.inner // lanes
    D = par[AT.dimension]
    keep = 1.0 / (1.0 + k)
    gain = k * keep
    lag = 0.0
    if ti.static(variant.second):
        lag = par[AT.lag] * record_in[cell, K] * keep
    spare = (D - V) * perp
    keep_t = ti.cast(keep, variant.real)
    for o in range(sizes.outer):
        o0, o1 = outer_nodes(o, sizes, V)
        factor = outer_factor(gain, table_flat, cell, o0, o1, sizes, V)
        factor_in = 0.0
        if ti.static(variant.second):
            factor_in = outer_factor(lag, table_in_flat, cell, o0, o1, sizes, V)
        lag_t = ti.cast(lag, variant.real)
        for q in ti.static(range(variant.parts)):
            here = (base + q * sizes.rows + i) * nv_blocks + o * inner_blocks
            gain_t = ti.cast(factor, variant.real)
            lag_in = ti.cast(factor_in, variant.real)
            if ti.static(q == 1):
                gain_t *= ti.cast(spare, variant.real)
                if ti.static(variant.second):
                    lag_in *= ti.cast((D - V) * record_in[cell, PERP], variant.real)
            for t in range(inner_blocks):
                value = keep_t * out[here + t] + target(
                    gain_t, table, record, cell, t, o0, o1, nodes, D, sizes, q, variant
                )
                if ti.static(variant.second):
                    value += lag_t * moved[here + t] - target(
                        lag_in, table_in, record_in, cell, t, o0, o1, nodes, D, sizes, q,
                        variant,
                    )  # fmt: skip
                out[here + t] = value


@ti.kernel
def k_stage_fwd(
    variant: Template,
    old: Vectors,
    moved: Vectors,
    out: Vectors,
    out_flat: Array1,
    neighbours: Array2,
    nodes: Vectors,
    nodes_flat: Array1,
    knudsen: Array1,
    table_in: Vectors,
    table_in_flat: Array1,
    table: Vectors,
    table_flat: Array1,
    record_in: Array2,
    record: Array2,
    par: Array1,
    law: Array2,
    cells: Int,
    rows: Int,
    inner: Int,
    outer: Int,
    middle: Int,
    pitch: Int,
    width: Int,
):
    """Run one stage of ARS(2,2,2) in every cell.

    First stage: ``out = relax(old - dt A(old))``, with ``moved = old``. Last stage
    (``variant.second``): ``old`` is the state at the start and ``moved`` the first stage.
    ``nodes`` has rows of ``sizes.pitch``: 0..2 node values, 3..5 ``|v| / dx``; ``table``
    has rows of ``sizes.width``: the factors of the equilibrium, last axis first; ``par``
    is :meth:`StageParameters.packed`. An array that is also needed number by number comes
    a second time as ``..._flat``.
    """
    for cell, spare in ti.ndrange(knudsen.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        V = ti.static(variant.axes)
        sizes = Sizes(cells, rows, inner, outer, middle, pitch, width)
        b = cell // sizes.cells
        i = cell - b * sizes.cells
        base = b * variant.parts * sizes.rows
        weight = par[AT.weight]
        mass, flow, energy, reduced = transport(
            old, moved, out, neighbours, nodes, nodes_flat, par, sizes, base, i, variant
        )
        mass *= weight
        energy *= weight
        reduced *= weight
        velocity = ti.Vector([0.0, 0.0, 0.0])
        square = 0.0
        for d in ti.static(range(V)):
            velocity[d] = flow[d] * weight / mass
            square += velocity[d] * velocity[d]
        temperature = ((energy + reduced) / mass - square) / par[AT.dimension]
        per_knudsen, prandtl = transport_law(mass, temperature, par, law)
        k, spread, perp = target_moments(
            mass, square, temperature, energy, reduced,
            par[AT.relaxation_step] / (knudsen[cell] * per_knudsen), prandtl, par, variant,
        )  # fmt: skip
        possible = (mass > 0) and (temperature > 0) and (spread > 0)
        unknown, good = discrete_maxwellian(
            velocity, spread, possible, nodes_flat, par, sizes, V
        )
        if not good:
            k = 0.0
        store_maxwellian(
            table_flat, cell, mass / weight * ti.exp(unknown[0]), unknown, velocity,
            ti.sqrt(spread), nodes_flat, par, sizes, V,
        )  # fmt: skip
        record[cell, RHO] = mass
        for d in ti.static(range(3)):
            record[cell, U + d] = velocity[d]
        record[cell, T] = temperature
        record[cell, K] = k
        record[cell, PERP] = perp
        store_correction(
            out_flat, nodes_flat, table_flat, record, velocity, mass, temperature, spread,
            k, prandtl, par, sizes, base, cell, i, variant,
        )  # fmt: skip
        relax(
            moved, out, nodes_flat, table_in, table_in_flat, table, table_flat, record_in,
            record, k, perp, par, sizes, base, cell, i, variant,
        )  # fmt: skip


def run_stage(
    second: bool,
    layout,
    old: torch.Tensor,
    moved: torch.Tensor,
    out: torch.Tensor,
    knudsen: torch.Tensor,
    tables,
    records,
    par: torch.Tensor,
    law: torch.Tensor,
) -> None:
    """Launch one stage; ``layout`` is a :class:`..gas.kinetic.scheme.Layout`.

    Tensors are detached and contiguous; ``tables`` and ``records`` are pairs (of the first
    stage, of this one) ``[batch * cells, ...]``. Nothing but ``out`` and the second of each
    pair is written.
    """
    start(old.device)
    lanes = layout.lanes

    def vectors(x: torch.Tensor) -> torch.Tensor:
        return x.view(-1, lanes)

    variant = Variant(
        real=kernel_type(old.dtype),
        lanes=lanes,
        mixed=layout.mixed,
        second=second,
        parts=layout.parts,
        space=layout.space,
        axes=layout.axes,
        law=layout.law,
    )
    stage, lists = f"stage {second}", (layout.nodes, *tables)
    nodes, first, last = layout.views(stage, (-1, lanes), *lists)
    every = layout.views(f"{stage}, flat", (-1,), *lists, knudsen)
    with simd():
        k_stage_fwd(
            variant,
            vectors(old),
            vectors(moved),
            vectors(out),
            out.view(-1),
            layout.neighbours,
            nodes,
            every[0],
            every[3],
            first,
            every[1],
            last,
            every[2],
            records[0],
            records[1],
            par,
            law,
            layout.cells,
            layout.rows,
            layout.inner,
            layout.outer,
            layout.middle,
            layout.nodes.shape[1],
            tables[0].shape[1],
        )
