"""Lennard-Jones: energy, forces, virial in one pass, and the products for its adjoints.

The loop over blocks holds the atoms of a block in vector registers, one in each lane, and
meets their common neighbours one by one: nothing is gathered. No number in it may be a
literal with a fraction (else f32 becomes f64).
"""

from .types import Array1, Array2, Array3, Array4, Real, Template, Vectors, ti, turns


@ti.kernel
def k_lennard_jones(
    places: Array2,
    home: Array1,
    atom: Array1,
    slots: Array2,
    count: Array1,
    species: Array1,
    parent: Array1,
    table: Array4,
    chunks: Array2,
    forces: Array2,
    partial: Array2,
    one_species: Template,
):
    """Forces ``[atoms, 3]`` and, per chunk of rows, the energy and six virial components.

    ``U(r) = c12 r^-12 - c6 r^-6 + slope r^2 - floor`` below the cutoff: the term in r^2 can
    make the force continuous (S. D. Stoddard and J. Ford, Phys. Rev. A 8, 1504, 1973,
    equation 2). ``table[b, s, t] = (c12, c6, cutoff^2, floor, slope)`` for a pair of
    species in system b, or one table for all systems.
    """
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        b = ti.min(chunks[chunk, 0], table.shape[0] - 1)
        zero = places[0, 0] * 0
        one = zero + 1
        te = 0.0
        txx = 0.0
        tyy = 0.0
        tzz = 0.0
        txy = 0.0
        txz = 0.0
        tyz = 0.0
        for r in range(chunks[chunk, 1], chunks[chunk, 2]):
            e0 = home[r]
            x = places[e0, 0]
            y = places[e0, 1]
            z = places[e0, 2]
            s = species[atom[r]]
            c12 = table[b, s, s, 0]
            c6 = table[b, s, s, 1]
            limit = table[b, s, s, 2]
            floor = table[b, s, s, 3]
            slope = table[b, s, s, 4]
            energy = zero
            fx = zero
            fy = zero
            fz = zero
            xx = zero
            yy = zero
            zz = zero
            xy = zero
            xz = zero
            yz = zero
            for n in range(count[r]):
                e = slots[r, n]
                dx = places[e, 0] - x
                dy = places[e, 1] - y
                dz = places[e, 2] - z
                r2 = dx * dx + dy * dy + dz * dz
                if ti.static(not one_species):
                    t = species[parent[e]]
                    c12 = table[b, s, t, 0]
                    c6 = table[b, s, t, 1]
                    limit = table[b, s, t, 2]
                    floor = table[b, s, t, 3]
                    slope = table[b, s, t, 4]
                inverse = one / r2
                r6 = inverse * inverse * inverse
                near = r2 < limit
                energy += ti.select(near, r6 * (c12 * r6 - c6) + slope * r2 - floor, zero)
                g = -6 * inverse * r6 * (2 * c12 * r6 - c6) + 2 * slope
                g = ti.select(near, g, zero)
                gx = g * dx
                gy = g * dy
                gz = g * dz
                fx += gx
                fy += gy
                fz += gz
                xx -= gx * dx
                yy -= gy * dy
                zz -= gz * dz
                xy -= gx * dy
                xz -= gx * dz
                yz -= gy * dz
            i = atom[r]
            forces[i, 0] = fx
            forces[i, 1] = fy
            forces[i, 2] = fz
            te += energy
            txx += xx
            tyy += yy
            tzz += zz
            txy += xy
            txz += xz
            tyz += yz
        partial[chunk, 0] = 0.5 * te
        partial[chunk, 1] = 0.5 * txx
        partial[chunk, 2] = 0.5 * tyy
        partial[chunk, 3] = 0.5 * tzz
        partial[chunk, 4] = 0.5 * txy
        partial[chunk, 5] = 0.5 * txz
        partial[chunk, 6] = 0.5 * tyz


@ti.func
def vector(value, lanes: Template):
    """The same value in every lane."""
    return ti.Vector([value for _ in range(lanes)])


@ti.func
def pull(r2, inverse, r6, c12, c6, limit):
    """Derivative of 4 eps (sigma^12/r^12 - sigma^6/r^6) by r, over -6 r; 0 beyond.

    Also 0 at no distance at all, where an atom meets itself.
    """
    inside = r2 * (r2 - limit) < 0
    return ti.select(inside, inverse * r6 * (c12 * r6 + c12 * r6 - c6), r2 * 0)


@ti.func
def well(r2, r6, c12, c6, limit, floor):
    """4 eps (sigma^12/r^12 - sigma^6/r^6) - floor; 0 beyond, and at no distance at all."""
    return ti.select(r2 * (r2 - limit) < 0, r6 * (c12 * r6 - c6) - floor, r2 * 0)


@ti.kernel
def k_lennard_jones_blocks(
    places: Array2,
    home: Array1,
    atom: Array1,
    blocks: Array2,
    begin: Array1,
    slots: Array1,
    table: Array3,
    forces: Array2,
    sums: Vectors,
    lanes: Template,
    totals: Template,
):
    """Forces of one species, by blocks of rows; with ``totals`` also ``sums [7 blocks]``.

    These are, of each lane, twice the energy, and a third of the virial xx yy zz xy xz yz.
    To be launched with ``simd``.
    """
    for b, spare in ti.ndrange(blocks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        zero = places[0, 0] * 0
        c12 = table[0, 0, 0]
        c6 = table[0, 0, 1]
        limit = table[0, 0, 2]
        floor = table[0, 0, 3]
        x = vector(zero, lanes)
        y = vector(zero, lanes)
        z = vector(zero, lanes)
        for q in ti.static(range(lanes)):
            row = ti.min(blocks[b, 0] + q, blocks[b, 1])
            # empty lanes are put far away, each at a position of its own
            away = 1000000 * ti.cast(blocks[b, 0] + q - row, ti.i32)
            x[q] = places[home[row], 0] + away
            y[q] = places[home[row], 1]
            z[q] = places[home[row], 2]
        fx = x * 0
        fy = x * 0
        fz = x * 0
        energy = x * 0
        xx = x * 0
        yy = x * 0
        zz = x * 0
        xy = x * 0
        xz = x * 0
        yz = x * 0
        met = x * 0
        one = x * 0 + 1
        n = begin[b]
        e = slots[n]
        while e >= 0:
            dx = places[e, 0] - x
            dy = places[e, 1] - y
            dz = places[e, 2] - z
            r2 = dx * dx + dy * dy + dz * dz
            inverse = one / r2
            r6 = inverse * inverse * inverse
            g = pull(r2, inverse, r6, c12, c6, limit)
            gx = g * dx
            gy = g * dy
            gz = g * dz
            fx += gx
            fy += gy
            fz += gz
            if ti.static(totals):
                energy += well(r2, r6, c12, c6, limit, floor)
                met += ti.select(r2 > 0, x * 0, one)
                xx += gx * dx
                yy += gy * dy
                zz += gz * dz
                xy += gx * dy
                xz += gx * dz
                yz += gy * dz
            n += 1
            e = slots[n]
        for q in ti.static(range(lanes)):
            if blocks[b, 0] + q <= blocks[b, 1]:
                i = atom[blocks[b, 0] + q]
                forces[i, 0] = -6 * fx[q]
                forces[i, 1] = -6 * fy[q]
                forces[i, 2] = -6 * fz[q]
        if ti.static(totals):
            # an atom meets itself once; another one at its place, or no number, is no gas
            sums[7 * b] = ti.select(met > 1, one / (x * 0), energy)
            sums[7 * b + 1] = xx
            sums[7 * b + 2] = yy
            sums[7 * b + 3] = zz
            sums[7 * b + 4] = xy
            sums[7 * b + 5] = xz
            sums[7 * b + 6] = yz


@ti.func
def lennard_jones(r2, eps, sigma):
    """U(r^2) and its derivatives: by r^2 once and twice, by sigma, and mixed."""
    a = sigma * sigma / r2
    s6 = a * a * a
    s12 = s6 * s6
    u = 4 * eps * (s12 - s6)
    u1 = 4 * eps * (3 * s6 - 6 * s12) / r2
    u2 = 4 * eps * (42 * s12 - 12 * s6) / (r2 * r2)
    us = 4 * eps * (12 * s12 - 6 * s6) / sigma
    uss = 4 * eps * (132 * s12 - 30 * s6) / (sigma * sigma)
    u1s = 4 * eps * (18 * s6 - 72 * s12) / (r2 * sigma)
    return u, u1, u2, us, uss, u1s


@ti.kernel
def k_pair_gradient(
    positions: Array2,
    index: Array2,
    offset: Array3,
    count: Array1,
    parameters: Array1,
    cutoff: Real,
    energy: Array1,
    by_position: Array2,
    by_parameter: Array2,
):
    """Per atom: half of its pairs' energy, dE/dx, and its share of dE/d(eps, sigma)."""
    for i in range(positions.shape[0]):
        zero = positions[i, 0] * 0
        eps = parameters[0]
        sigma = parameters[1]
        total = zero
        by_sigma = zero
        g = ti.Vector([zero, zero, zero])
        for n in range(count[i]):
            j = index[i, n]
            d = ti.Vector([zero, zero, zero])
            for c in ti.static(range(3)):
                d[c] = positions[j, c] - positions[i, c] + offset[i, n, c]
            r2 = d.dot(d)
            u, u1, _u2, us, _uss, _u1s = lennard_jones(r2, eps, sigma)
            near = r2 < cutoff * cutoff
            total += ti.select(near, u, zero)
            by_sigma += ti.select(near, us, zero)
            g -= 2 * ti.select(near, u1, zero) * d
        energy[i] = total / 2
        by_parameter[i, 0] = total / (2 * eps)
        by_parameter[i, 1] = by_sigma / 2
        for c in ti.static(range(3)):
            by_position[i, c] = g[c]


@ti.kernel
def k_pair_hessian_product(
    positions: Array2,
    index: Array2,
    offset: Array3,
    count: Array1,
    parameters: Array1,
    cutoff: Real,
    vx: Array2,
    vp: Array1,
    hx: Array2,
    hp: Array2,
):
    """``hx = E_xx vx + E_xp vp``; the rows of ``hp`` add up to ``E_px vx + E_pp vp``."""
    for i in range(positions.shape[0]):
        zero = positions[i, 0] * 0
        eps = parameters[0]
        sigma = parameters[1]
        by_eps = zero
        by_sigma = zero
        h = ti.Vector([zero, zero, zero])
        for n in range(count[i]):
            j = index[i, n]
            d = ti.Vector([zero, zero, zero])
            w = ti.Vector([zero, zero, zero])
            for c in ti.static(range(3)):
                d[c] = positions[j, c] - positions[i, c] + offset[i, n, c]
                w[c] = vx[j, c] - vx[i, c]
            r2 = d.dot(d)
            _u, u1, u2, us, uss, u1s = lennard_jones(r2, eps, sigma)
            one = ti.select(r2 < cutoff * cutoff, zero + 1, zero)
            dr2 = 2 * d.dot(w)
            c2 = u2 * dr2 + u1 / eps * vp[0] + u1s * vp[1]
            h -= 2 * one * (c2 * d + u1 * w)
            by_eps += one * (u1 / eps * dr2 + us / eps * vp[1])
            by_sigma += one * (u1s * dr2 + us / eps * vp[0] + uss * vp[1])
        hp[i, 0] = by_eps / 2
        hp[i, 1] = by_sigma / 2
        for c in ti.static(range(3)):
            hx[i, c] = h[c]


@ti.func
def tallied(u, g, d):
    """Energy of a pair and its virial, xx yy zz xy xz yz; ``g`` is dU/dr along ``d``."""
    return ti.Vector([
        u, -g[0] * d[0], -g[1] * d[1], -g[2] * d[2], -g[0] * d[1], -g[0] * d[2],
        -g[1] * d[2],
    ])  # fmt: skip


@ti.kernel
def k_pair_table(
    places: Array2,
    home: Array1,
    atom: Array1,
    slots: Array2,
    count: Array1,
    coefficients: Array2,
    form: Array1,
    chunks: Array2,
    forces: Array2,
    partial: Array2,
):
    """Forces ``[atoms, 3]`` and, per chunk of rows, the energy and six virial components.

    ``coefficients [intervals, 6]`` are polynomials of equal intervals in ln r; ``form`` =
    (ln of the smallest distance, intervals per ln r, cutoff^2, what energy and force below
    the smallest distance are: not a number).
    """
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        sums = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        for r in range(chunks[chunk, 1], chunks[chunk, 2]):
            i = atom[r]
            force = ti.Vector([0.0, 0.0, 0.0])
            for n in range(count[r]):
                e = slots[r, n]
                d = ti.Vector([0.0, 0.0, 0.0])
                for c in ti.static(range(3)):
                    d[c] = places[e, c] - places[home[r], c]
                r2 = d.dot(d)
                if r2 < form[2]:
                    x = (0.5 * ti.log(r2) - form[0]) * form[1]
                    k = ti.min(ti.max(ti.floor(x, ti.i32), 0), coefficients.shape[0] - 1)
                    u = coefficients[k, 5]
                    slope = u * 0
                    y = x - k
                    for c in ti.static(range(5)):
                        slope = slope * y + u
                        u = u * y + coefficients[k, 4 - c]
                    if x < 0:
                        u = form[3]
                        slope = form[3]
                    g = d * (slope * form[1] / r2)
                    force += g
                    sums += tallied(u, g, d)
            for c in ti.static(range(3)):
                forces[i, c] = force[c]
        for k in ti.static(range(7)):
            partial[chunk, k] = 0.5 * sums[k]


@ti.kernel
def k_zbl(
    places: Array2,
    home: Array1,
    atom: Array1,
    slots: Array2,
    count: Array1,
    species: Array1,
    parent: Array1,
    charges: Array1,
    form: Array1,
    chunks: Array2,
    forces: Array2,
    partial: Array2,
):
    """Forces ``[atoms, 3]`` and, per chunk of rows, the energy and six virial components.

    ``form`` = (inner, outer, e^2 / (4 pi eps0)). Pairs are so rarely this near that a
    branch costs less than evaluating four exponentials for all of them.
    """
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        sums = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        for r in range(chunks[chunk, 1], chunks[chunk, 2]):
            i = atom[r]
            force = ti.Vector([0.0, 0.0, 0.0])
            for n in range(count[r]):
                e = slots[r, n]
                d = ti.Vector([0.0, 0.0, 0.0])
                for c in ti.static(range(3)):
                    d[c] = places[e, c] - places[home[r], c]
                r2 = d.dot(d)
                if r2 < form[1] * form[1]:
                    distance = ti.sqrt(r2)
                    u, slope = zbl(
                        distance, charges[species[i]], charges[species[parent[e]]],
                        form[0], form[1], form[2],
                    )  # fmt: skip
                    g = d * (slope / distance)
                    force += g
                    sums += tallied(u, g, d)
            for c in ti.static(range(3)):
                forces[i, c] = force[c]
        for k in ti.static(range(7)):
            partial[chunk, k] = 0.5 * sums[k]


@ti.func
def zbl(distance, one, two, inner, outer, coulomb):
    """The switched, screened nuclear repulsion of a pair, and its derivative by r."""
    rate = (one**0.23 + two**0.23) / 0.46850
    x = distance * rate
    e1 = 0.18175 * ti.exp(-3.19980 * x)
    e2 = 0.50986 * ti.exp(-0.94229 * x)
    e3 = 0.28022 * ti.exp(-0.40290 * x)
    e4 = 0.02817 * ti.exp(-0.20162 * x)
    bare = coulomb * one * two / distance
    screening = e1 + e2 + e3 + e4
    falling = rate * (3.19980 * e1 + 0.94229 * e2 + 0.40290 * e3 + 0.20162 * e4)
    v = bare * screening
    v1 = -bare * (screening / distance + falling)
    t = ti.max(0.0, (distance - inner) / (outer - inner))
    w = t * t * t * (-6 * t * t + 15 * t - 10) + 1
    w1 = -30 * t * t * (1 - t) * (1 - t) / (outer - inner)
    return v * w, v1 * w + v * w1
