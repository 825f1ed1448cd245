"""Stillinger-Weber silicon in O(neighbours): three-body sums as moments of the shell.

With h(r) = exp(gamma sigma / (r - a sigma)) and unit vectors u, the sum over pairs of
neighbours of h h' (u . u' + 1/3)^2 is Q:Q + 2/3 V.V + S^2/9 minus its diagonal, where
S = sum h, V = sum h u, Q = sum h u u: no loop over pairs, and no branch.
"""

from .types import Array1, Array2, Template, ti, turns


@ti.func
def shell(r, scale, gamma, edge):
    """exp(gamma scale / (r - edge)) below ``edge``, else 0; and its derivative."""
    # so close below the edge the exponential is zero in any precision
    t = ti.min(r - edge, -scale * ti.cast(1e-3, ti.f32))
    h = ti.exp(gamma * scale / t)
    return h, -gamma * scale / (t * t) * h


@ti.kernel
def k_stillinger_weber_moments(
    places: Array2,
    home: Array1,
    slots: Array2,
    count: Array1,
    table: Array1,
    moments: Array2,
):
    """Moments of each row: S, V (3), Q (xx yy zz xy xz yz), and sum h^2."""
    for r in range(home.shape[0]):
        e0 = home[r]
        x = places[e0, 0]
        y = places[e0, 1]
        z = places[e0, 2]
        zero = x * 0
        m = ti.Vector([zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero])
        for n in range(count[r]):
            e = slots[r, n]
            dx = places[e, 0] - x
            dy = places[e, 1] - y
            dz = places[e, 2] - z
            d = ti.sqrt(dx * dx + dy * dy + dz * dz)
            w = 1 / d
            ux = dx * w
            uy = dy * w
            uz = dz * w
            h, _dh = shell(d, table[1], table[4], table[2])
            m[0] += h
            m[1] += h * ux
            m[2] += h * uy
            m[3] += h * uz
            m[4] += h * ux * ux
            m[5] += h * uy * uy
            m[6] += h * uz * uz
            m[7] += h * ux * uy
            m[8] += h * ux * uz
            m[9] += h * uy * uz
            m[10] += h * h
        for k in ti.static(range(11)):
            moments[r, k] = m[k]


@ti.func
def shell_gradient(moments: Template, r, h, ux, uy, uz):
    """d/dh and d/du (over h) of Q:Q + 2/3 V.V + S^2/9 - 16/9 sum h^2, halved."""
    qx = moments[r, 4] * ux + moments[r, 7] * uy + moments[r, 8] * uz
    qy = moments[r, 7] * ux + moments[r, 5] * uy + moments[r, 9] * uz
    qz = moments[r, 8] * ux + moments[r, 9] * uy + moments[r, 6] * uz
    vx = moments[r, 1]
    vy = moments[r, 2]
    vz = moments[r, 3]
    three = h * 0 + 3
    by_h = (
        ux * qx + uy * qy + uz * qz
        + 2 * (vx * ux + vy * uy + vz * uz) / three
        + moments[r, 0] / (three * three)
        - 16 * h / (three * three)
    )  # fmt: skip
    return by_h, 2 * qx + 2 * vx / three, 2 * qy + 2 * vy / three, 2 * qz + 2 * vz / three


@ti.kernel
def k_stillinger_weber(
    places: Array2,
    home: Array1,
    atom: Array1,
    row: Array1,
    parent: Array1,
    slots: Array2,
    count: Array1,
    table: Array1,
    moments: Array2,
    chunks: Array2,
    forces: Array2,
    partial: Array2,
):
    """Forces, and per chunk the energy and six virial components.

    ``table = (epsilon, sigma, a sigma, lambda, gamma, A, B, p, q)``. The force on an atom
    gathers the gradient of its own energy and of each neighbour's, whose moments it reads.
    """
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        total = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        for r in range(chunks[chunk, 1], chunks[chunk, 2]):
            e0 = home[r]
            x = places[e0, 0]
            y = places[e0, 1]
            z = places[e0, 2]
            sigma = table[1]
            strength = table[0] * table[3]
            bond = table[0] * table[5]
            zero = x * 0
            pairs = zero
            fx = zero
            fy = zero
            fz = zero
            w = ti.Vector([zero, zero, zero, zero, zero, zero])
            for n in range(count[r]):
                e = slots[r, n]
                dx = places[e, 0] - x
                dy = places[e, 1] - y
                dz = places[e, 2] - z
                d = ti.sqrt(dx * dx + dy * dy + dz * dz)
                inverse = 1 / d
                ux = dx * inverse
                uy = dy * inverse
                uz = dz * inverse
                h, dh = shell(d, sigma, table[4], table[2])
                g, dg = shell(d, sigma, x * 0 + 1, table[2])
                # two-body term and its derivative; its energy is shared by both ends
                up = table[6] * ti.exp(-table[7] * ti.log(d / sigma))
                down = ti.exp(-table[8] * ti.log(d / sigma))
                pairs += bond * (up - down) * g
                slope = bond * (
                    (up - down) * dg + (table[8] * down - table[7] * up) * inverse * g
                )
                # this atom's three-body energy, with u as seen from it
                own, ax, ay, az = shell_gradient(moments, r, h, ux, uy, uz)
                along = ax * ux + ay * uy + az * uz
                k = h * inverse
                radial = own * dh
                gx = strength * (radial * ux + k * (ax - along * ux)) + slope * ux / 2
                gy = strength * (radial * uy + k * (ay - along * uy)) + slope * uy / 2
                gz = strength * (radial * uz + k * (az - along * uz)) + slope * uz / 2
                w[0] -= gx * dx
                w[1] -= gy * dy
                w[2] -= gz * dz
                w[3] -= (gx * dy + gy * dx) / 2
                w[4] -= (gx * dz + gz * dx) / 2
                w[5] -= (gy * dz + gz * dy) / 2
                # the neighbour's energy, with u turned round
                q = row[parent[e]]
                other, bx, by, bz = shell_gradient(moments, q, h, -ux, -uy, -uz)
                back = -(bx * ux + by * uy + bz * uz)
                radial = other * dh
                ox = strength * (-radial * ux + k * (bx + back * ux)) - slope * ux / 2
                oy = strength * (-radial * uy + k * (by + back * uy)) - slope * uy / 2
                oz = strength * (-radial * uz + k * (bz + back * uz)) - slope * uz / 2
                fx += gx - ox
                fy += gy - oy
                fz += gz - oz
            i = atom[r]
            forces[i, 0] = fx
            forces[i, 1] = fy
            forces[i, 2] = fz
            vv = zero
            qq = zero
            for c in ti.static(range(1, 4)):
                vv += moments[r, c] * moments[r, c]
            for c in ti.static(range(4, 10)):
                qq += ti.static(1 if c < 7 else 2) * moments[r, c] * moments[r, c]
            ss = moments[r, 0] * moments[r, 0] - 16 * moments[r, 10]
            total[0] += pairs / 2 + strength / 2 * (qq + 2 * vv / 3 + ss / 9)
            for c in ti.static(range(6)):
                total[c + 1] += w[c]
        for c in ti.static(range(7)):
            partial[chunk, c] = total[c]
