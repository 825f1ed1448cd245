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

import torch

from ..runtime import start
from .types import Array1, Array2, Int, Template, Vectors, simd, ti

RHO, U, T, K, PERP, SHAKHOV, ELLIPSE, COLUMNS = 0, 1, 4, 5, 6, 7, 7, 19
"""Columns of a cell's record: density, velocity (3), temperature, dt/tau of the stage,
temperature of the reduced directions, then for Shakhov his vector (3) and the correction
(1, 3, 1), for ES-BGK the quadratic form (6), its factor, and the correction (1, 3, 1)."""

BGK, ELLIPSOIDAL, SHAKHOV_MODEL = 0, 1, 2


NEWTON_STEPS = 30


@ti.func
def slope_change(a, b, c, tiny):
    """Half the difference ``s(b, c) - s(a, b)`` of van Leer's slopes of neighbouring cells.

    ``s(a, b) = 2 ab/(a + b)`` where both agree in sign, else 0: no branch, and one division
    for both slopes.
    """
    p = a + b
    q = b + c
    low = p * p + tiny
    high = q * q + tiny
    bend = ti.max(b * c, 0 * b) * q * low - ti.max(a * b, 0 * b) * p * high
    return bend / (low * high)


@ti.func
def upwind(
    f: Template, here, far_low, near_low, near_high, far_high, v, tiny, mixed: Template
):
    """Return ``(f(right face) - f(left face)) sign(v)`` of a second-order upwind scheme.

    ``mixed``: v is a vector of velocities along this axis, which may have both signs;
    else all come from the side of ``near_low``.
    """
    f0 = f[here]
    f2 = f[far_low]
    f1 = f[near_low]
    f3 = f[near_high]
    if ti.static(mixed):
        right = v >= 0
        low = f1
        high = f3
        f2 = ti.select(right, f2, f[far_high])
        f1 = ti.select(right, low, high)
        f3 = ti.select(right, high, low)
    jump = f0 - f1
    return jump + slope_change(f1 - f2, jump, f3 - f0, tiny)


@ti.func
def ordered(far_low, near_low, near_high, far_high, right):
    """Return the rows so that what moves to the ``right``, or not, comes from the first."""
    return (
        ti.select(right, far_low, far_high),
        ti.select(right, near_low, near_high),
        ti.select(right, near_high, near_low),
        ti.select(right, far_high, far_low),
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


def _terms(row, V):
    """Number of products in a row's function: xi^2 has one per axis, the others one."""
    return V if row == V + 1 else 1


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


@ti.kernel
def k_stage_fwd(
    real: Template,
    lanes: Template,
    mixed: Template,
    second: Template,
    parts: Template,
    S: Template,
    V: Template,
    law: Template,
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
    cells: Int,
    rows: Int,
    inner: Int,
    outer: Int,
    middle_n: Int,
    pitch: Int,
    width: Int,
):
    """Run one stage of ARS(2,2,2) in every cell.

    ``second`` False: ``out = relax(old - dt A(old))``. True: the last stage, with ``old``
    the state at the start and ``moved`` the first stage. ``nodes`` has rows of ``pitch``:
    0..2 node values, 3..5 ``|v| / dx``; ``table`` has rows of ``width``: the factors of the
    equilibrium, last axis first; ``par`` is packed by the kinetic world. ``lanes``
    velocities are handled at once; it divides the inner axis, and unless ``mixed`` also
    the negative half of it. An array that is also needed
    number by number comes a second time as ``..._flat``.
    """
    for cell in range(knudsen.shape[0]):
        b = cell // cells
        i = cell - b * cells
        half = par[0]
        tiny = par[15]
        dt_move = par[1]
        c_old = par[2]
        c_lag = par[4]
        dt_relax = par[5]
        weight = par[6]
        D = par[7]
        prandtl = par[8]
        nv = inner * outer
        nv_blocks = nv // lanes
        inner_blocks = inner // lanes
        pitch_blocks = pitch // lanes
        width_blocks = width // lanes
        base = b * parts * rows
        low_blocks = ti.cast(par[11], ti.i32) // lanes
        # -- transport, and the raw moments of what arrives
        x0 = neighbours[i, 0] * nv_blocks
        x1 = neighbours[i, 1] * nv_blocks
        x2 = neighbours[i, 2] * nv_blocks
        x3 = neighbours[i, 3] * nv_blocks
        y0 = x0
        y1 = x1
        y2 = x2
        y3 = x3
        z0 = x0
        z1 = x1
        z2 = x2
        z3 = x3
        if ti.static(S > 1):
            y0 = neighbours[i, 4] * nv_blocks
            y1 = neighbours[i, 5] * nv_blocks
            y2 = neighbours[i, 6] * nv_blocks
            y3 = neighbours[i, 7] * nv_blocks
        if ti.static(S > 2):
            z0 = neighbours[i, 8] * nv_blocks
            z1 = neighbours[i, 9] * nv_blocks
            z2 = neighbours[i, 10] * nv_blocks
            z3 = neighbours[i, 11] * nv_blocks
        zero = nodes[0] * 0
        sum_m = zero
        sum_0 = zero
        sum_1 = zero
        sum_last = zero
        sum_e = zero
        sum_h = zero
        for o in range(outer):
            o0 = o
            o1 = 0
            if ti.static(V == 3):
                o0 = o // middle_n
                o1 = o - o0 * middle_n
            v0 = half * 0
            v1 = half * 0
            rate_x = half * 0
            rate_y = half * 0
            # axes before the last: rows ordered so that what v brings comes from the first
            a0 = x0
            a1 = x1
            a2 = x2
            a3 = x3
            b0 = y0
            b1 = y1
            b2 = y2
            b3 = y3
            if ti.static(V >= 2):
                v0 = nodes_flat[o0]
                rate_x = nodes_flat[3 * pitch + o0]
                a0, a1, a2, a3 = ordered(x0, x1, x2, x3, v0 >= 0)
            if ti.static(V == 3):
                v1 = nodes_flat[pitch + o1]
                rate_y = nodes_flat[4 * pitch + o1]
                b0, b1, b2, b3 = ordered(y0, y1, y2, y3, v1 >= 0)
            line_m = zero
            line_1 = zero
            line_e = zero
            for q in ti.static(range(parts)):
                row = (base + q * rows) * nv_blocks + o * inner_blocks
                for t in range(inner_blocks):
                    v = nodes[(V - 1) * pitch_blocks + t]
                    at = row + t
                    here = at + i * nv_blocks
                    f = moved[here]
                    # along the last axis the sign changes within the line
                    n0 = z0
                    n1 = z1
                    n2 = z2
                    n3 = z3
                    if ti.static(V == 1):
                        n0 = x0
                        n1 = x1
                        n2 = x2
                        n3 = x3
                    if ti.static(V == 2):
                        n0 = y0
                        n1 = y1
                        n2 = y2
                        n3 = y3
                    if ti.static(S == V and not mixed):
                        n0, n1, n2, n3 = ordered(n0, n1, n2, n3, t >= low_blocks)
                    change = zero
                    if ti.static(V == 1):
                        change = upwind(
                            moved, here, at + n0, at + n1, at + n2, at + n3, v, tiny, mixed
                        )
                        change *= nodes[3 * pitch_blocks + t]
                    else:
                        change = upwind(
                            moved, here, at + a0, at + a1, at + a2, at + a3, v, tiny, False
                        )
                        change *= rate_x
                    if ti.static(S > 1 and V == 2):
                        step = upwind(
                            moved, here, at + n0, at + n1, at + n2, at + n3, v, tiny, mixed
                        )
                        change += nodes[4 * pitch_blocks + t] * step
                    if ti.static(S > 1 and V == 3):
                        step = upwind(
                            moved, here, at + b0, at + b1, at + b2, at + b3, v, tiny, False
                        )
                        change += rate_y * step
                    if ti.static(S > 2):
                        step = upwind(
                            moved, here, at + n0, at + n1, at + n2, at + n3, v, tiny, mixed
                        )
                        change += nodes[5 * pitch_blocks + t] * step
                    new = f - dt_move * change
                    if ti.static(second):
                        new += c_old * (old[here] - f)
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
        mass *= weight
        energy *= weight
        reduced *= weight
        velocity = ti.Vector([0.0, 0.0, 0.0])
        square = 0.0
        for d in ti.static(range(V)):
            velocity[d] = flow[d] * weight / mass
            square += velocity[d] * velocity[d]
        temperature = ((energy + reduced) / mass - square) / D
        time_scale = knudsen[cell] * ti.exp(
            par[10] * ti.log(temperature) - par[9] * ti.log(mass)
        )
        k = dt_relax / time_scale
        spread = temperature
        perp = temperature
        if ti.static(law == ELLIPSOIDAL):
            # collision frequency Pr p / mu; the stress relaxes at p / mu, implicitly
            k = k * prandtl
            keep = 1.0 / (1.0 + k / prandtl)
            along = (energy / mass - square) / V
            along = temperature + (along - temperature) * keep
            across = ti.select(D > V, reduced / mass / ti.max(D - V, 1.0), temperature)
            across = temperature + (across - temperature) * keep
            spread = temperature + (1.0 - 1.0 / prandtl) * (along - temperature)
            perp = temperature + (1.0 - 1.0 / prandtl) * (across - temperature)
        # -- discrete equilibrium with the moments (mass, velocity, spread)
        N = ti.static(V + 2)
        scale = ti.sqrt(spread)
        unknown = ti.Vector.zero(ti.f64, N)
        unknown[N - 1] = -0.5
        level = 0.5 * ti.log(6.283185307179586)
        unknown[0] = -V * level
        for d in ti.static(range(V)):
            unknown[0] += ti.log(par[12 + d] / scale)
        jacobian = ti.Matrix.zero(ti.f64, N, N)
        sums = ti.Matrix.zero(ti.f64, V, 5)
        count = 0
        good = (mass > 0) and (temperature > 0) and (spread > 0)
        while good and count < NEWTON_STEPS:
            for d in ti.static(range(V)):
                n = inner
                if ti.static(d < V - 1):
                    n = middle_n if ti.static(d == 1) else outer
                    if ti.static(V == 3 and d == 0):
                        n = outer // middle_n
                line = axis_sums(
                    unknown[1 + d],
                    unknown[N - 1],
                    (nodes_flat[d * pitch] - velocity[d]) / scale,
                    par[12 + d] / scale,
                    n,
                )
                for p in ti.static(range(5)):
                    sums[d, p] = line[p]
            jacobian = product_moments(sums, V, ti.exp(unknown[0]))
            right = ti.Vector.zero(ti.f64, N)
            right[0] = 1.0 - jacobian[0, 0]
            right[N - 1] = V - jacobian[0, N - 1]
            worst = ti.abs(right[0]) + ti.abs(right[N - 1])
            for d in ti.static(range(V)):
                right[1 + d] = -jacobian[0, 1 + d]
                worst += ti.abs(right[1 + d])
            count += 1
            if count == NEWTON_STEPS:
                good = worst < 1e-9
                break
            change = solve(jacobian, right, N)
            # a step in c may not turn the bell into a bowl
            limit = ti.min(
                1.0, 0.5 * ti.abs(unknown[N - 1]) / (ti.abs(change[N - 1]) + 1e-300)
            )
            unknown += limit * change
            if worst < 1e-9:
                # quadratic convergence: the step just made leaves round-off
                break
        amplitude = mass / weight * ti.exp(unknown[0])
        if not good:
            k = 0.0
        for d in ti.static(range(V)):
            n = inner
            offset = (V - 1 - d) * inner
            if ti.static(d < V - 1):
                n = middle_n if ti.static(d == 1) else outer
                if ti.static(V == 3 and d == 0):
                    n = outer // middle_n
                    offset = inner + middle_n
                else:
                    offset = inner
            else:
                offset = 0
            axis_table(
                table_flat,
                cell,
                offset,
                amplitude if ti.static(d == V - 1) else 1.0,
                unknown[1 + d],
                unknown[N - 1],
                (nodes_flat[d * pitch] - velocity[d]) / scale,
                par[12 + d] / scale,
                n,
                width,
            )
        record[cell, RHO] = mass
        for d in ti.static(range(3)):
            record[cell, U + d] = velocity[d]
        record[cell, T] = temperature
        record[cell, K] = k
        record[cell, PERP] = perp
        poly = ti.Vector.zero(ti.f64, 9)
        if ti.static(law == SHAKHOV_MODEL):
            heat = heat_flux(
                out_flat,
                nodes_flat,
                velocity,
                base,
                rows,
                i,
                inner,
                outer,
                middle_n,
                parts,
                V,
                pitch,
            )
            poly = shakhov(
                heat,
                mass,
                temperature,
                prandtl,
                k,
                D,
                weight,
                table_flat,
                cell,
                nodes_flat,
                velocity,
                inner,
                outer,
                middle_n,
                V,
                pitch,
                width,
            )
            for m in ti.static(range(9)):
                record[cell, SHAKHOV + m] = poly[m]
        if ti.static(law == ELLIPSOIDAL and V > 1):
            shape = ellipsoid(
                out_flat,
                table_flat,
                nodes_flat,
                velocity,
                mass,
                temperature,
                spread,
                (1.0 - 1.0 / prandtl) / (1.0 + k / prandtl),
                weight,
                cell,
                (base + i) * nv,
                inner,
                outer,
                middle_n,
                V,
                pitch,
                width,
            )
            for m in ti.static(range(12)):
                record[cell, ELLIPSE + m] = shape[m]
        # -- relaxation, while the row is in cache
        keep = 1.0 / (1.0 + k)
        gain = k * keep
        lag = 0.0
        if ti.static(second):
            lag = c_lag * record_in[cell, K] * keep
        spare = (D - V) * perp
        keep_t = ti.cast(keep, real)
        for o in range(outer):
            o0 = o
            o1 = 0
            if ti.static(V == 3):
                o0 = o // middle_n
                o1 = o - o0 * middle_n
            factor = gain
            factor_in = 0.0
            if ti.static(second):
                factor_in = lag
            if ti.static(V == 2):
                factor *= table_flat[cell * width + inner + o]
                if ti.static(second):
                    factor_in *= table_in_flat[cell * width + inner + o]
            if ti.static(V == 3):
                factor *= table_flat[cell * width + inner + middle_n + o0]
                factor *= table_flat[cell * width + inner + o1]
                if ti.static(second):
                    factor_in *= table_in_flat[cell * width + inner + middle_n + o0]
                    factor_in *= table_in_flat[cell * width + inner + o1]
            lag_t = ti.cast(lag, real)
            for q in ti.static(range(parts)):
                here = (base + q * rows + i) * nv_blocks + o * inner_blocks
                gain_t = ti.cast(factor, real)
                lag_in = ti.cast(factor_in, real)
                if ti.static(q == 1):
                    gain_t *= ti.cast(spare, real)
                    if ti.static(second):
                        lag_in *= ti.cast((D - V) * record_in[cell, PERP], real)
                for t in range(inner_blocks):
                    target = gain_t * table[cell * width_blocks + t]
                    if ti.static(law == ELLIPSOIDAL and V > 1):
                        for lane in ti.static(range(lanes)):
                            target[lane] *= ellipsoid_factor(
                                record, cell, nodes_flat, o0, o1, t * lanes + lane, V, pitch
                            )
                    if ti.static(law == SHAKHOV_MODEL):
                        for lane in ti.static(range(lanes)):
                            target[lane] *= shakhov_factor(
                                record,
                                cell,
                                nodes_flat,
                                o0,
                                o1,
                                t * lanes + lane,
                                D,
                                q,
                                V,
                                pitch,
                            )
                    value = keep_t * out[here + t] + target
                    if ti.static(second):
                        before = lag_in * table_in[cell * width_blocks + t]
                        if ti.static(law == ELLIPSOIDAL and V > 1):
                            for lane in ti.static(range(lanes)):
                                before[lane] *= ellipsoid_factor(
                                    record_in,
                                    cell,
                                    nodes_flat,
                                    o0,
                                    o1,
                                    t * lanes + lane,
                                    V,
                                    pitch,
                                )
                        if ti.static(law == SHAKHOV_MODEL):
                            for lane in ti.static(range(lanes)):
                                before[lane] *= shakhov_factor(
                                    record_in,
                                    cell,
                                    nodes_flat,
                                    o0,
                                    o1,
                                    t * lanes + lane,
                                    D,
                                    q,
                                    V,
                                    pitch,
                                )
                        value += lag_t * moved[here + t] - before
                    out[here + t] = value


@ti.func
def heat_flux(
    out: Template,
    nodes: Template,
    velocity,
    base,
    rows,
    i,
    inner,
    outer,
    middle_n,
    parts: Template,
    V: Template,
    pitch,
):
    """Sum ``c (c^2 g + h) / 2`` over the velocities of a cell (without the weight)."""
    total = ti.Vector([0.0, 0.0, 0.0])
    nv = inner * outer
    for o in range(outer):
        c = ti.Vector([0.0, 0.0, 0.0])
        if ti.static(V == 2):
            c[0] = nodes[0 * pitch + o] - velocity[0]
        if ti.static(V == 3):
            c[0] = nodes[0 * pitch + o // middle_n] - velocity[0]
            c[1] = nodes[1 * pitch + o % middle_n] - velocity[1]
        for k in range(inner):
            last = nodes[(V - 1) * pitch + k] - velocity[V - 1]
            square = last * last
            for d in ti.static(range(V - 1)):
                square += c[d] * c[d]
            e = square * out[(base + i) * nv + o * inner + k]
            if ti.static(parts == 2):
                e += out[(base + rows + i) * nv + o * inner + k]
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
    inner,
    outer,
    middle_n,
    V: Template,
    pitch,
    width,
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
    for o in range(outer):
        c = ti.Vector([0.0, 0.0, 0.0])
        e = weight
        if ti.static(V == 2):
            c[0] = nodes[0 * pitch + o] - velocity[0]
            e *= table[cell * width + inner + o]
        if ti.static(V == 3):
            c[0] = nodes[0 * pitch + o // middle_n] - velocity[0]
            c[1] = nodes[1 * pitch + o % middle_n] - velocity[1]
            e *= table[cell * width + inner + middle_n + o // middle_n]
            e *= table[cell * width + inner + o % middle_n]
        for j in range(inner):
            c[V - 1] = nodes[(V - 1) * pitch + j] - velocity[V - 1]
            w = e * table[cell * width + j]
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
    inner,
    outer,
    middle_n,
    V: Template,
    pitch,
    width,
):
    """Turn the Maxwellian of temperature ``spread`` in the table into Holway's Gaussian.

    Its covariance is ``L = T I + share (P / rho - T I)`` with P the pressure tensor of what
    arrived. Returns ``A = L^-1 - I / spread`` (xx, xy, yy, xz, yz, zz), the factor
    ``s`` and the correction of ``s exp(-c.A c / 2) (1 + alpha + beta.c + gamma c^2)`` that
    gives mass, momentum and energy exactly on the grid.
    """
    second = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for o in range(outer):
        for j in range(inner):
            c = peculiar(nodes, velocity, o, j, middle_n, V, pitch)
            f = weight * out[row + o * inner + j]
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
    for o in range(outer):
        e = weight * norm
        if ti.static(V == 2):
            e *= table[cell * width + inner + o]
        else:
            e *= table[cell * width + inner + middle_n + o // middle_n]
            e *= table[cell * width + inner + o % middle_n]
        for j in range(inner):
            c = peculiar(nodes, velocity, o, j, middle_n, V, pitch)
            w = e * table[cell * width + j] * ti.exp(-0.5 * form(a, c, V))
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
def peculiar(nodes: Template, velocity, o, j, middle_n, V: Template, pitch):
    """Velocity of a node relative to the cell's."""
    c = ti.Vector([0.0, 0.0, 0.0])
    c[V - 1] = nodes[(V - 1) * pitch + j] - velocity[V - 1]
    if ti.static(V == 2):
        c[0] = nodes[o] - velocity[0]
    if ti.static(V == 3):
        c[0] = nodes[o // middle_n] - velocity[0]
        c[1] = nodes[pitch + o % middle_n] - velocity[1]
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

    with simd():
        k_stage_fwd(
            ti.f64 if old.dtype == torch.float64 else ti.f32,
            lanes,
            layout.mixed,
            second,
            layout.parts,
            layout.space,
            layout.axes,
            layout.law,
            vectors(old),
            vectors(moved),
            vectors(out),
            out.view(-1),
            layout.neighbours,
            vectors(layout.nodes),
            layout.nodes.view(-1),
            knudsen.view(-1),
            vectors(tables[0]),
            tables[0].view(-1),
            vectors(tables[1]),
            tables[1].view(-1),
            records[0],
            records[1],
            par,
            layout.cells,
            layout.rows,
            layout.inner,
            layout.outer,
            layout.middle,
            layout.nodes.shape[1],
            tables[0].shape[1],
        )
