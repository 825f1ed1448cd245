"""Lennard-Jones: energy, forces, virial in one pass, and the products for its adjoints."""

from .types import Array1, Array2, Array3, Template, ti


@ti.kernel
def k_lennard_jones(
    places: Array2,
    home: Array1,
    atom: Array1,
    slots: Array2,
    count: Array1,
    species: Array1,
    parent: Array1,
    table: Array3,
    chunks: Array2,
    forces: Array2,
    partial: Array2,
    one_species: Template,
):
    """Forces ``[atoms, 3]`` and, per chunk of rows, the energy and six virial components.

    ``table[s, t] = (4 eps sigma^12, 4 eps sigma^6, rc^2, U(rc))``.
    """
    for chunk in range(chunks.shape[0]):
        zero = places[0, 0] * 0
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
            c12 = table[s, s, 0]
            c6 = table[s, s, 1]
            limit = table[s, s, 2]
            floor = table[s, s, 3]
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
                    c12 = table[s, t, 0]
                    c6 = table[s, t, 1]
                    limit = table[s, t, 2]
                    floor = table[s, t, 3]
                inverse = 1 / r2
                r6 = inverse * inverse * inverse
                near = r2 < limit
                energy += ti.select(near, r6 * (c12 * r6 - c6) - floor, zero)
                g = ti.select(near, -6 * inverse * r6 * (2 * c12 * r6 - c6), zero)
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
