"""The adjoint of Lennard-Jones forces with a continuous force, and their pair sums.

Tables are those of :func:`scalebridge.engine.kernels.pair.k_lennard_jones`.
"""

from .types import Array1, Array2, Array4, Template, ti, turns


@ti.kernel
def k_smooth_pair_adjoint(
    places: Array2,
    vectors: Array2,
    home: Array1,
    atom: Array1,
    slots: Array2,
    count: Array1,
    species: Array1,
    parent: Array1,
    table: Array4,
    chunks: Array2,
    by_position: Array2,
    partial: Array2,
    one_species: Template,
):
    """Pull ``v . F`` back: by position, and per chunk by (c12, c6, slope) of each pair.

    With ``d = x_j - x_i``, ``w = v_j - v_i``, ``f_i = sum g(r^2) d``:
    ``v . F = -1/2 sum_ij g d.w``, so row i gets ``sum_j 2 g' (d.w) d + g w``.
    """
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        b = chunks[chunk, 0]
        zero = places[0, 0] * 0
        kinds = table.shape[1]
        by12 = 0.0
        by6 = 0.0
        by2 = 0.0
        for k in range(partial.shape[1]):
            partial[chunk, k] = 0.0
        for r in range(chunks[chunk, 1], chunks[chunk, 2]):
            e0 = home[r]
            x = places[e0, 0]
            y = places[e0, 1]
            z = places[e0, 2]
            vx = vectors[e0, 0]
            vy = vectors[e0, 1]
            vz = vectors[e0, 2]
            s = species[atom[r]]
            c12 = table[b, s, s, 0]
            c6 = table[b, s, s, 1]
            limit = table[b, s, s, 2]
            slope = table[b, s, s, 4]
            hx = zero
            hy = zero
            hz = zero
            sum12 = zero
            sum6 = zero
            sum2 = zero
            for n in range(count[r]):
                e = slots[r, n]
                dx = places[e, 0] - x
                dy = places[e, 1] - y
                dz = places[e, 2] - z
                wx = vectors[e, 0] - vx
                wy = vectors[e, 1] - vy
                wz = vectors[e, 2] - vz
                r2 = dx * dx + dy * dy + dz * dz
                along = dx * wx + dy * wy + dz * wz
                t = s
                if ti.static(not one_species):
                    t = species[parent[e]]
                    c12 = table[b, s, t, 0]
                    c6 = table[b, s, t, 1]
                    limit = table[b, s, t, 2]
                    slope = table[b, s, t, 4]
                inverse = 1 / r2
                r6 = inverse * inverse * inverse
                r8 = r6 * inverse
                one = ti.select(r2 < limit, zero + 1, zero)
                g = one * (-6 * r8 * (2 * c12 * r6 - c6) + 2 * slope)
                bend = one * 12 * r8 * inverse * (14 * c12 * r6 - 4 * c6) * along
                hx += bend * dx + g * wx
                hy += bend * dy + g * wy
                hz += bend * dz + g * wz
                along *= one
                if ti.static(one_species):
                    sum12 += 6 * r8 * r6 * along
                    sum6 -= 3 * r8 * along
                    sum2 -= along
                else:
                    at = 3 * (s * kinds + t)
                    partial[chunk, at] += 6 * r8 * r6 * along
                    partial[chunk, at + 1] -= 3 * r8 * along
                    partial[chunk, at + 2] -= along
            i = atom[r]
            by_position[i, 0] = hx
            by_position[i, 1] = hy
            by_position[i, 2] = hz
            by12 += sum12
            by6 += sum6
            by2 += sum2
        if ti.static(one_species):
            partial[chunk, 0] = by12
            partial[chunk, 1] = by6
            partial[chunk, 2] = by2


@ti.kernel
def k_pair_sums(
    places: Array2,
    home: Array1,
    atom: Array1,
    slots: Array2,
    count: Array1,
    species: Array1,
    parent: Array1,
    table: Array4,
    chunks: Array2,
    partial: Array2,
):
    """Per chunk and pair of species: sums of r^-12, r^-6, 1 and r^2, each pair once."""
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        b = chunks[chunk, 0]
        kinds = table.shape[1]
        for k in range(partial.shape[1]):
            partial[chunk, k] = 0.0
        for r in range(chunks[chunk, 1], chunks[chunk, 2]):
            e0 = home[r]
            s = species[atom[r]]
            for n in range(count[r]):
                e = slots[r, n]
                dx = places[e, 0] - places[e0, 0]
                dy = places[e, 1] - places[e0, 1]
                dz = places[e, 2] - places[e0, 2]
                r2 = dx * dx + dy * dy + dz * dz
                t = species[parent[e]]
                if r2 < table[b, s, t, 2]:
                    r6 = 1 / (r2 * r2 * r2)
                    at = 4 * (s * kinds + t)
                    partial[chunk, at] += 0.5 * r6 * r6
                    partial[chunk, at + 1] += 0.5 * r6
                    partial[chunk, at + 2] += 0.5
                    partial[chunk, at + 3] += 0.5 * r2
