"""Finite-volume kernels for conservation laws of gases: reconstruction, HLLC, update.

Arrays are padded with ghost cells, ``[batch, variables, n0, n1, n2]`` with n2 contiguous
(an unused axis has length 1), and are read as vectors of ``LANES`` neighbours along n2, a
multiple of which the padded length is: every arithmetic operation is one SIMD instruction.
Loops run over vectors, not lines, since a CPU thread takes at least 512 turns at a time.
Variables: density, momentum (or velocity) per space dimension, energy (or pressure). A flux
is stored at the place of the cell on the left of its face.
"""

from itertools import accumulate

import torch

from ..runtime import start
from .types import Array1, Array2, Int, Template, Vectors, Views, aligned, simd, ti

GHOST = 3
LANES = 8
_VECTORS = (-1, LANES)
SMOOTH = 4
"""Means of products are not products of means where the squares of the relative changes
over a cell are together below 1/4; at a shock they are left alone."""

FIRST_ORDER, MUSCL, WENO5 = 0, 1, 2

BEFORE, JOBS, ITEMS, BLOCKS, WIDE, LENGTH, START, STRIDES = 0, 1, 2, 3, 4, 5, 6, 9
"""What a row of the table of sweeps holds of the faces across an axis: vectors of the axes
before it, its own in all, of a system and of a line, lines along the middle axis, cells
along the last, the first of each axis (3), strides across the faces and along both axes in
them (3). Sizes and strides along the last axis count vectors, but its first and its
cells."""


@ti.func
def half_slope(a, b, tiny):
    """Half of van Leer's slope: ``ab/(a + b)`` where a and b agree in sign, else 0.

    (Vectors have no absolute value and no ``-=`` in this language.)
    """
    total = a + b
    return ti.max(a * b, 0 * a) * total / (total * total + tiny)


@ti.func
def weno_z(a, b, c, d, e, tiny, par: Template):
    """Value at the right face of c from five cells (Borges et al., JCP 227, 2008, p. 3191).

    ``par`` holds 1/6, 13/12, 1/4, 0.1, 0.3, 0.6 in the working precision from place 4 on;
    ``par[11]`` is added to the roughness of a stencil, in units of the roughest: beside a
    jump the square of an inverse would overflow in f32.
    """
    s0 = a - 2 * b + c
    s1 = b - 2 * c + d
    s2 = c - 2 * d + e
    r0 = a - 4 * b + 3 * c
    r1 = b - d
    r2 = 3 * c - 4 * d + e
    b0 = par[5] * s0 * s0 + par[6] * r0 * r0 + tiny
    b1 = par[5] * s1 * s1 + par[6] * r1 * r1 + tiny
    b2 = par[5] * s2 * s2 + par[6] * r2 * r2 + tiny
    t = b0 - b2
    least = par[11] * (b0 + b2)
    b0 += least
    b1 += least
    b2 += least
    q0 = t / b0
    q1 = t / b1
    q2 = t / b2
    w0 = par[7] * (1 + q0 * q0)
    w1 = par[9] * (1 + q1 * q1)
    w2 = par[8] * (1 + q2 * q2)
    v0 = 2 * a - 7 * b + 11 * c
    v1 = 5 * c - b + 2 * d
    v2 = 2 * c + 5 * d - e
    return par[4] * (w0 * v0 + w1 * v1 + w2 * v2) / (w0 + w1 + w2)


@ti.func
def shifted(x: Template, block, shift: Template, lanes: Template):
    """Read the vector that starts ``shift`` numbers after the ``block``-th one."""
    whole = ti.static(shift // lanes)
    rest = ti.static(shift % lanes)
    out = x[block + whole]
    if ti.static(rest > 0):
        after = x[block + whole + 1]
        before = out
        for l in ti.static(range(lanes)):
            if ti.static(l + rest < lanes):
                out[l] = before[l + rest]
            else:
                out[l] = after[l + rest - lanes]
    return out


@ti.func
def cells_at(
    x: Template, block, shift: Template, stride, contiguous: Template, lanes: Template
):
    """Read the cells ``shift`` places along the axis of a sweep."""
    out = x[block]
    if ti.static(contiguous):
        out = shifted(x, block, shift, lanes)
    else:
        out = x[block + shift * stride]
    return out


@ti.func
def change(low2, low, high, high2, par: Template):
    """Change over a cell, from the means of two cells on both sides of it.

    Of cubic functions f and g of one coordinate ``<fg> = <f><g> + f' g'/12 + f'' g''/720``
    with f' = 41/60 (f1 - f-1) - 11/120 (f2 - f-2), ``par[12]`` and ``par[13]``.
    """
    return par[12] * (high - low) + par[13] * (low2 - high2)


@ti.func
def change_in_cells(
    x: Template, at, stride, contiguous: Template, lanes: Template, par: Template
):
    """Change over a cell along an axis."""
    return change(
        cells_at(x, at, -2, stride, contiguous, lanes),
        cells_at(x, at, -1, stride, contiguous, lanes),
        cells_at(x, at, 1, stride, contiguous, lanes),
        cells_at(x, at, 2, stride, contiguous, lanes),
        par,
    )


@ti.func
def beside_faces(x: Template, at, stride, contiguous: Template, lanes: Template):
    """Sum of the cells on both sides of the faces on the right of those of ``at``."""
    return x[at] + cells_at(x, at, 1, stride, contiguous, lanes)


@ti.func
def change_on_faces(
    x: Template, at, stride, contiguous: Template, along, in_line: Template,
    lanes: Template, par: Template,
):  # fmt: skip
    """Change along the faces on the right of the cells of vector ``at``.

    ``stride`` and ``contiguous`` are of the axis across the faces, ``along`` and
    ``in_line`` of the one in them.
    """
    total = 0 * x[at]
    if ti.static(in_line):
        total += change_in_cells(x, at, along, True, lanes, par)
        total += change_in_cells(x, at + stride, along, True, lanes, par)
    else:
        total += change(
            beside_faces(x, at - 2 * along, stride, contiguous, lanes),
            beside_faces(x, at - along, stride, contiguous, lanes),
            beside_faces(x, at + along, stride, contiguous, lanes),
            beside_faces(x, at + 2 * along, stride, contiguous, lanes),
            par,
        )
    return par[0] * total


@ti.func
def unevenness(density, pressure, d_r, d_p, d_v2):
    """Squares of the relative changes over a cell, velocities over the speed of sound."""
    steep = d_r * d_r / (density * density) + d_p * d_p / (pressure * pressure)
    return steep + density * d_v2 / pressure


@ti.func
def face_values(
    x: Template, at, stride, contiguous: Template, scheme: Template, lanes: Template, tiny,
    par: Template,
):  # fmt: skip
    """Return the two values at the faces on the right of the cells of vector ``at``."""
    c = x[at]
    d = cells_at(x, at, 1, stride, contiguous, lanes)
    left = c
    right = d
    if ti.static(scheme == MUSCL):
        b = cells_at(x, at, -1, stride, contiguous, lanes)
        e = cells_at(x, at, 2, stride, contiguous, lanes)
        jump = d - c
        left = c + half_slope(c - b, jump, tiny)
        right = d - half_slope(jump, e - d, tiny)
    if ti.static(scheme == WENO5):
        a = cells_at(x, at, -2, stride, contiguous, lanes)
        b = cells_at(x, at, -1, stride, contiguous, lanes)
        e = cells_at(x, at, 2, stride, contiguous, lanes)
        f = cells_at(x, at, 3, stride, contiguous, lanes)
        left = weno_z(a, b, c, d, e, tiny, par)
        right = weno_z(f, e, d, c, b, tiny, par)
    return left, right


@ti.func
def changes_on_faces(
    w: Template, at, stride, axis: Template, other: Template, dim: Template, beside, behind,
    variable, lanes: Template, par: Template,
):  # fmt: skip
    """Changes of density, velocities and pressure along the ``other``-th axis in a face.

    Velocities come in the order of :func:`k_hllc_fwd`: across the face, then the others.
    """
    contiguous = ti.static(axis == dim - 1)
    in_line = ti.static((axis + other) % dim == dim - 1)
    along = beside
    if ti.static(other == 2):
        along = behind
    d_r = change_on_faces(w, at, stride, contiguous, along, in_line, lanes, par)
    p = at + (1 + dim) * variable
    d_p = change_on_faces(w, p, stride, contiguous, along, in_line, lanes, par)
    u = at + (1 + axis) * variable
    d_u = change_on_faces(w, u, stride, contiguous, along, in_line, lanes, par)
    v = at + (1 + (axis + 1) % dim) * variable
    d_v = change_on_faces(w, v, stride, contiguous, along, in_line, lanes, par)
    d_x = 0 * d_v
    if ti.static(dim > 2):
        third = at + (1 + (axis + 2) % dim) * variable
        d_x = change_on_faces(w, third, stride, contiguous, along, in_line, lanes, par)
    return d_r, d_u, d_v, d_x, d_p


@ti.func
def means_of_products(
    w: Template, at, stride, axis: Template, other: Template, dim: Template, beside, behind,
    variable, lanes: Template, par: Template, r, u, v, x, p,
):  # fmt: skip
    """What the ``other``-th axis in a smooth face adds to the fluxes of mean values.

    ``r, u, v, x, p``: the state whose products stand in the fluxes; zero beside a jump.
    """
    d_r, d_u, d_v, d_x, d_p = changes_on_faces(
        w, at, stride, axis, other, dim, beside, behind, variable, lanes, par
    )
    d_v2 = d_u * d_u + d_v * d_v + d_x * d_x
    smooth = SMOOTH * unevenness(r, p, d_r, d_p, d_v2) < 1
    d_u = ti.select(smooth, d_u, 0 * d_u)
    d_v = ti.select(smooth, d_v, 0 * d_v)
    d_x = ti.select(smooth, d_x, 0 * d_x)
    d_v2 = ti.select(smooth, d_v2, 0 * d_v2)
    # products of two changes, and what the mean of d(r u_k u_k) adds
    ru = par[10] * d_r * d_u
    mixed = par[10] * (r * d_u + u * d_r)
    kinetic = 2 * (u * ru + par[10] * d_r * (v * d_v + x * d_x)) + par[10] * r * d_v2
    inner = par[0] * (u * u + v * v + x * x) * ru
    inner += par[10] * d_u * r * (u * d_u + v * d_v + x * d_x)
    a_e = par[0] * u * kinetic + inner + par[10] * par[1] * par[2] * d_u * d_p
    return ru, u * ru + mixed * d_u, v * ru + mixed * d_v, x * ru + mixed * d_x, a_e


@ti.func
def hllc(
    dim: Template, axis: Template, scheme: Template, ideal: Template, lanes: Template,
    w: Template, extra: Template, flux: Template, count: Template, par: Template,
    sweeps: Template, job, size1, size2, system, variable, means: Template,
):  # fmt: skip
    """Fluxes of one vector of faces, if the ``job``-th is across ``axis``."""
    turn = job - sweeps[axis, BEFORE]
    if turn >= 0 and turn < sweeps[axis, JOBS]:
        s = turn // sweeps[axis, ITEMS]
        item = turn - s * sweeps[axis, ITEMS]
        line = item // sweeps[axis, BLOCKS]
        start2 = sweeps[axis, START + 2]
        t = item - line * sweeps[axis, BLOCKS] + start2 // lanes
        i0 = line // sweeps[axis, WIDE]
        i1 = line - i0 * sweeps[axis, WIDE] + sweeps[axis, START + 1]
        at = s * system + ((i0 + sweeps[axis, START]) * size1 + i1) * size2 + t
        stride = sweeps[axis, STRIDES]
        tiny = par[3]
        contiguous = ti.static(axis == dim - 1)
        r_l, r_r = face_values(w, at, stride, contiguous, scheme, lanes, tiny, par)
        u_l, u_r = face_values(
            w, at + (1 + axis) * variable, stride, contiguous, scheme, lanes, tiny, par
        )
        p_l, p_r = face_values(
            w, at + (1 + dim) * variable, stride, contiguous, scheme, lanes, tiny, par
        )
        v_l = u_l * 0
        v_r = u_l * 0
        x_l = u_l * 0
        x_r = u_l * 0
        if ti.static(dim > 1):
            other = ti.static((axis + 1) % dim)
            v_l, v_r = face_values(
                w, at + (1 + other) * variable, stride, contiguous, scheme, lanes, tiny, par
            )
        if ti.static(dim > 2):
            third = ti.static((axis + 2) % dim)
            x_l, x_r = face_values(
                w, at + (1 + third) * variable, stride, contiguous, scheme, lanes, tiny, par
            )
        rc_l = w[at]
        rc_r = cells_at(w, at, 1, stride, contiguous, lanes)
        pc_l = w[at + (1 + dim) * variable]
        pc_r = cells_at(w, at + (1 + dim) * variable, 1, stride, contiguous, lanes)
        good = ti.min(ti.min(r_l, r_r), ti.min(p_l, p_r)) > 0
        r_l = ti.select(good, r_l, rc_l)
        r_r = ti.select(good, r_r, rc_r)
        p_l = ti.select(good, p_l, pc_l)
        p_r = ti.select(good, p_r, pc_r)
        place = ti.Vector([t * lanes + l - start2 for l in range(lanes)])
        length = sweeps[axis, LENGTH]
        missed = ti.select(good, 0 * u_l, 0 * u_l + 1)
        missed = ti.select(place < 0, 0 * u_l, missed)
        missed = ti.select(place < length, missed, 0 * u_l)
        bad = par[0] * 0
        for l in ti.static(range(lanes)):
            bad += missed[l]
        if bad > 0:
            count[s] += bad
        e_l = p_l * par[2]
        e_r = p_r * par[2]
        c_l = u_l * 0
        c_r = u_l * 0
        if ti.static(ideal):
            c_l = ti.sqrt(par[1] * p_l / r_l)
            c_r = ti.sqrt(par[1] * p_r / r_r)
        else:
            here = s * 2 * variable + at - s * system
            e_l, e_r = face_values(
                extra, here, stride, contiguous, scheme, lanes, tiny, par
            )
            c_l, c_r = face_values(
                extra, here + variable, stride, contiguous, scheme, lanes, tiny, par
            )
            e_l = ti.select(good, e_l, extra[here])
            e_r = ti.select(good, e_r, cells_at(extra, here, 1, stride, contiguous, lanes))
        s_l = ti.min(u_l - c_l, u_r - c_r)
        s_r = ti.max(u_l + c_l, u_r + c_r)
        m_l = r_l * (s_l - u_l)
        m_r = r_r * (s_r - u_r)
        s_m = (p_r - p_l + m_l * u_l - m_r * u_r) / (m_l - m_r)
        left = s_m >= 0
        r = ti.select(left, r_l, r_r)
        u = ti.select(left, u_l, u_r)
        v = ti.select(left, v_l, v_r)
        x = ti.select(left, x_l, x_r)
        p = ti.select(left, p_l, p_r)
        e = ti.select(left, e_l, e_r) + par[0] * r * (u * u + v * v + x * x)
        m = ti.select(left, m_l, m_r)
        wave = ti.select(left, s_l, s_r)
        cut = ti.select(left, ti.min(s_l, 0 * s_l), ti.max(s_r, 0 * s_r))
        star = m / (wave - s_m)
        d_r = star - r
        d_m = star * s_m - r * u
        d_e = star * (e / r + (s_m - u) * (s_m + p / m)) - e
        f_r = r * u + cut * d_r
        f_u = r * u * u + p + cut * d_m
        f_v = r * u * v + cut * d_r * v
        f_x = r * u * x + cut * d_r * x
        f_e = u * (e + p) + cut * d_e
        if ti.static(means):
            for other in ti.static(range(1, dim)):
                a_r, a_u, a_v, a_x, a_e = means_of_products(
                    w, at, stride, axis, other, dim, sweeps[axis, STRIDES + 1],
                    sweeps[axis, STRIDES + 2], variable, lanes, par, r, u, v, x, p,
                )  # fmt: skip
                f_r += a_r
                f_u += a_u
                f_v += a_v
                f_x += a_x
                f_e += a_e
        flux[at] = f_r
        flux[at + (1 + axis) * variable] = f_u
        if ti.static(dim > 1):
            flux[at + (1 + (axis + 1) % dim) * variable] = f_v
        if ti.static(dim > 2):
            flux[at + (1 + (axis + 2) % dim) * variable] = f_x
        flux[at + (1 + dim) * variable] = f_e


@ti.kernel
def k_hllc_fwd(
    dim: Template,
    scheme: Template,
    ideal: Template,
    lanes: Template,
    w: Vectors,
    extra: Vectors,
    f0: Vectors,
    f1: Vectors,
    f2: Vectors,
    count: Array1,
    par: Array1,
    sweeps: Array2,
    jobs: Int,
    size1: Int,
    size2: Int,
    system: Int,
    variable: Int,
    means: Template,
):
    """HLLC fluxes (Toro, Spruce, Speares, Shock Waves 4, 1994, p. 25) along all axes.

    With ``means`` they are averaged over smooth faces: of a product, the mean is ``<fg> =
    <f><g> + sum f' g'/12 + O(h^4)``, over the axes in the face, ``f'`` the change over a
    cell.

    ``w``: density, velocities, pressure; ``extra``: internal energy per volume and sound
    speed, for a general equation of state; to ``count [batch]`` faces are added where the
    reconstruction was not positive and the cell values stood in; ``par``: 1/2, gamma,
    1/(gamma-1), tiny, constants of :func:`weno_z`, 1/12, its least, constants of
    :func:`change`. ``sweeps`` has a row for each axis, at the places named above.
    """
    for job in range(jobs):
        hllc(
            dim, 0, scheme, ideal, lanes, w, extra, f0, count, par, sweeps, job, size1,
            size2, system, variable, means,
        )  # fmt: skip
        if ti.static(dim > 1):
            hllc(
                dim, 1, scheme, ideal, lanes, w, extra, f1, count, par, sweeps, job, size1,
                size2, system, variable, means,
            )  # fmt: skip
        if ti.static(dim > 2):
            hllc(
                dim, 2, scheme, ideal, lanes, w, extra, f2, count, par, sweeps, job, size1,
                size2, system, variable, means,
            )  # fmt: skip


@ti.func
def vector_of_cells(
    job, items, blocks, n1, pad0, pad1, first, size1, size2, system
):  # fmt: skip
    """Return the place of the ``job``-th vector that holds cells, of the first variable."""
    s = job // items
    item = job - s * items
    line = item // blocks
    i0 = line // n1
    i1 = line - i0 * n1
    t = item - line * blocks + first
    return s * system + ((i0 + pad0) * size1 + i1 + pad1) * size2 + t


@ti.func
def put_primitive(u: Template, w: Template, at, variable, par: Template, dim: Template):
    """Write density, velocity and pressure of a vector of an ideal gas.

    Ghost cells of the state are empty: what is written there means nothing.
    """
    density = u[at]
    some = ti.select(density > 0, density, 0 * density + 1)
    kinetic = density * 0
    w[at] = density
    for q in ti.static(range(1, dim + 1)):
        momentum = u[at + q * variable]
        velocity = momentum / some
        kinetic += velocity * momentum
        w[at + q * variable] = velocity
    energy = u[at + (dim + 1) * variable]
    w[at + (dim + 1) * variable] = par[5] * (energy - par[6] * kinetic)


@ti.kernel
def k_update_fwd(
    dim: Template,
    ideal: Template,
    lanes: Template,
    old: Vectors,
    u: Vectors,
    out: Vectors,
    w: Vectors,
    f0: Vectors,
    f1: Vectors,
    f2: Vectors,
    par: Array1,
    systems: Int,
    system: Int,
    variable: Int,
    size1: Int,
    size2: Int,
    pad0: Int,
    pad1: Int,
    pad2: Int,
    n0: Int,
    n1: Int,
    n2: Int,
    t0: Int,
    t1: Int,
):
    """``out = a old + (1 - a)(u - sum dt/dx (F - F_left))``, and w of it for an ideal gas.

    Ghost cells of ``out`` become zero. ``par``: a, 1 - a, dt/dx per axis (3), gamma - 1,
    1/2. ``t0`` and ``t1`` are the strides of the axes before the contiguous one.
    """
    for job in range(systems * variable):
        s = job // variable
        item = job - s * variable
        at = s * system + item
        line = item // size2
        i0 = line // size1
        i1 = line - i0 * size1 - pad1
        i0 -= pad0
        first = (item - line * size2) * lanes - pad2
        zero = u[at] * 0
        if 0 <= i0 and i0 < n0 and 0 <= i1 and i1 < n1 and 0 < first + lanes and first < n2:
            place = ti.Vector([first + l for l in range(lanes)])
            for q in ti.static(range(dim + 2)):
                here = at + q * variable
                value = u[here]
                if ti.static(dim == 1):
                    value = value - par[2] * (f0[here] - shifted(f0, here, -1, lanes))
                if ti.static(dim == 2):
                    value = value - par[2] * (f0[here] - f0[here - t0])
                    value = value - par[3] * (f1[here] - shifted(f1, here, -1, lanes))
                if ti.static(dim == 3):
                    value = value - par[2] * (f0[here] - f0[here - t0])
                    value = value - par[3] * (f1[here] - f1[here - t1])
                    value = value - par[4] * (f2[here] - shifted(f2, here, -1, lanes))
                new = par[0] * old[here] + par[1] * value
                new = ti.select(place < 0, zero, new)
                out[here] = ti.select(place < n2, new, zero)
            if ti.static(ideal):
                put_primitive(out, w, at, variable, par, dim)
        else:
            for q in ti.static(range(dim + 2)):
                out[at + q * variable] = zero


@ti.kernel
def k_primitive(
    dim: Template,
    lanes: Template,
    u: Vectors,
    w: Vectors,
    par: Array1,
    systems: Int,
    system: Int,
    variable: Int,
):
    """Density, velocity and pressure of an ideal gas; ``par`` is that of the update."""
    for job in range(systems * variable):
        s = job // variable
        put_primitive(u, w, s * system + job - s * variable, variable, par, dim)


@ti.kernel
def k_means(
    dim: Template,
    lanes: Template,
    w: Vectors,
    out: Vectors,
    par: Array1,
    jobs: Int,
    items: Int,
    blocks: Int,
    n1: Int,
    pad0: Int,
    pad1: Int,
    pad2: Int,
    size1: Int,
    size2: Int,
    system: Int,
    variable: Int,
    t0: Int,
    t1: Int,
):
    """Mean density, velocity and pressure of the cells of an ideal gas.

    ``w`` holds those of the mean state: ``<v> = v - sum r' v'/(12 r)``, ``<p> = p -
    (gamma - 1)/2 r sum v' v'/12``, over the axes, ``v'`` the change over a cell; of fourth
    order. ``par``: of :func:`k_hllc_fwd`.
    """
    for job in range(jobs):
        at = vector_of_cells(
            job, items, blocks, n1, pad0, pad1, pad2 // lanes, size1, size2, system
        )
        last = at + (1 + dim) * variable
        density = w[at]
        pressure = w[last]
        rough = 0 * density
        less = 0 * density
        for axis in ti.static(range(dim)):
            in_line = ti.static(axis == dim - 1)
            stride = t0
            if ti.static(axis == 1):
                stride = t1
            d_r = change_in_cells(w, at, stride, in_line, lanes, par)
            d_p = change_in_cells(w, last, stride, in_line, lanes, par)
            d_v2 = 0 * d_r
            for k in ti.static(range(dim)):
                here = at + (1 + k) * variable
                d_v = change_in_cells(w, here, stride, in_line, lanes, par)
                d_v2 += d_v * d_v
                before = w[here]
                if ti.static(axis > 0):
                    before = out[here]
                out[here] = before - par[10] * d_r * d_v / density
            less += d_v2
            rough += unevenness(density, pressure, d_r, d_p, d_v2)
        smooth = SMOOTH * rough < 1
        less = par[0] * par[10] * density * less / par[2]
        out[at] = density
        out[last] = pressure - ti.select(smooth, less, 0 * less)
        for k in ti.static(range(dim)):
            here = at + (1 + k) * variable
            out[here] = ti.select(smooth, out[here], w[here])


class FluxShape:
    """Sizes and strides of padded arrays, and launches of the kernels on them.

    Args:
        batch: systems.
        shape: cells along each axis.
        ideal: whether the gas is ideal with a constant gamma.
        device: where the arrays live.
    """

    def __init__(
        self, batch: int, shape: tuple[int, ...], ideal: bool, device: torch.device
    ) -> None:
        self.batch, self.dim, self.shape, self.ideal = batch, len(shape), shape, ideal
        self.device = device
        self._views = Views()
        # a line needs a vector before its first one; between lines there are ghost lines
        margin = LANES if self.dim == 1 else 0
        low = -(-GHOST // LANES) * LANES + margin
        length = -(-(low + shape[-1] + GHOST) // LANES) * LANES + margin
        self.padded = (*(n + 2 * GHOST for n in shape[:-1]), length)
        self.pads = (*(GHOST,) * (self.dim - 1), low)
        ones = (1,) * (3 - self.dim)
        full, line = (*ones, *self.padded), length // LANES
        variable = full[0] * full[1] * length // LANES
        self._sizes = (full[1], line, (self.dim + 2) * variable, variable)
        self._begin = (*(0,) * (3 - self.dim), *self.pads)
        self._strides = (full[1] * line, line, 1)[3 - self.dim :]
        self._cells = (*ones, *shape)
        sweeps = [self._sweep(axis) for axis in range(self.dim)]
        ends = [0, *accumulate(sweep[0] for sweep in sweeps)]
        table = [[end, *sweep] for end, sweep in zip(ends, sweeps, strict=False)]
        self._sweeps = torch.tensor(table, dtype=torch.int32, device=device)
        self._faces = ends[-1]

    def flux(
        self,
        scheme: int,
        w: torch.Tensor,
        extra: torch.Tensor,
        fluxes: list[torch.Tensor],
        count: torch.Tensor,
        par: torch.Tensor,
        means: bool,
    ) -> None:
        """Fill ``fluxes``, one for each axis and padded like ``w``, at the faces across it.

        To ``count [batch]`` faces are added where cell averages stood in. ``means``: of
        fourth order, from mean density, velocity and pressure.
        """
        start(self.device)
        with simd():
            k_hllc_fwd(
                self.dim, scheme, self.ideal, LANES,
                *self._views("flux", _VECTORS, w, extra, *_three(fluxes)), count, par,
                self._sweeps, self._faces, *self._sizes, means,
            )  # fmt: skip

    def _sweep(self, axis: int) -> list[int]:
        """The row of the table of sweeps, but for its first number."""
        at = 3 - self.dim + axis
        begin, run = list(self._begin), list(self._cells)
        begin[at] -= 1
        run[at] += 1
        blocks = -(-(begin[2] + run[2]) // LANES) - begin[2] // LANES
        items = run[0] * run[1] * blocks
        strides = [self._strides[(axis + k) % self.dim] for k in range(3)]
        return [self.batch * items, items, blocks, run[1], run[2], *begin, *strides]

    def primitive(self, u: torch.Tensor, w: torch.Tensor, par: torch.Tensor) -> None:
        """Fill ``w`` with density, velocity and pressure of an ideal gas."""
        start(self.device)
        with simd():
            k_primitive(
                self.dim, LANES, aligned(u).view(-1, LANES), w.view(-1, LANES), par,
                self.batch, *self._sizes[2:],
            )  # fmt: skip

    def update(
        self,
        old: torch.Tensor,
        u: torch.Tensor,
        out: torch.Tensor,
        w: torch.Tensor,
        fluxes: list[torch.Tensor],
        par: torch.Tensor,
    ) -> None:
        """Advance one Runge-Kutta stage; for an ideal gas also fill ``w``."""
        start(self.device)
        strides = [*self._strides[:-1], 0, 0][:2]
        with simd():
            states = (aligned(old), aligned(u), out)
            k_update_fwd(
                self.dim, self.ideal, LANES, *(x.view(-1, LANES) for x in states),
                *self._views("update", _VECTORS, w, *_three(fluxes)), par, self.batch,
                *self._sizes[2:], *self._sizes[:2], *self._begin, *self._cells, *strides,
            )  # fmt: skip

    def means(self, w: torch.Tensor, out: torch.Tensor, par: torch.Tensor) -> None:
        """Fill the cells of ``out`` with means; ``w`` holds values of the mean state."""
        start(self.device)
        with simd():
            k_means(
                self.dim, LANES, w.view(-1, LANES), out.view(-1, LANES), par,
                *self._inside(),
            )  # fmt: skip

    def _inside(self) -> tuple[int, ...]:
        """Vectors of the cells: in all, by system, by line; first one; sizes, strides."""
        low, cells = self._begin[2], self._cells
        blocks = -(-(low + cells[2]) // LANES) - low // LANES
        items = cells[0] * cells[1] * blocks
        strides = [*self._strides[:-1], 0, 0][:2]
        begin = (*self._begin, *self._sizes, *strides)
        return self.batch * items, items, blocks, cells[1], *begin


def _three(fluxes: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return one array for each of three axes; those of absent axes are not looked at."""
    return [*fluxes, fluxes[0], fluxes[0]][:3]
