"""Products of moments in vector registers, on CPUs: from sums to features, and back.

What the network multiplies is linear in the moments twice, so moments are written in a
short basis of their own: with ``T = U Z``, U orthonormal, the features of the smooth
edition are ``D_ca = sum_q U_cq P_qa``, ``P_qa = sum_k Z_qk T_ak``, and the network's first
matrix takes P instead of D once U is multiplied into it. Z has as many rows as the radial
functions have independent shapes, about a third of the channels.
"""

from .contraction import ROOT_THIRD
from .types import Array1, Int, Template, Vectors, ti, turns


@ti.kernel
def k_gram(
    sums: Array1,
    mix: Vectors,
    short: Vectors,
    scale: Array1,
    place: Array1,
    moments: Vectors,
    moments_flat: Array1,
    axes: Vectors,
    axes_flat: Array1,
    features: Vectors,
    lanes: Template,
    vectors: Template,
    axis: Template,
    terms: Int,
    rows: Int,
    places: Int,
    pitch: Int,
):
    """``moments [members, rows, 4, vectors]`` and ``features [members, places, pitch]``.

    ``sums [rows, 4, terms]``, ``mix [members, terms, vectors]``; ``short [members, vectors
    lanes, axis]``: the axis rows of U, ``axes [members, rows, 8, axis]``: their moments.
    """
    for job, spare in ti.ndrange(moments.shape[0] // (4 * vectors), ti.static(turns())):
        if spare > 0:
            continue
        m = job // rows
        r = job - m * rows
        zero = mix[0] * 0
        for v in range(vectors):
            total = [zero for _ in range(4)]
            for q in range(terms):
                weight = mix[(m * terms + q) * vectors + v]
                for k in ti.static(range(4)):
                    total[k] += sums[(r * 4 + k) * terms + q] * weight
            for k in ti.static(range(4)):
                moments[(job * 4 + k) * vectors + v] = scale[k] * total[k]
        for w in range(axis // lanes):
            total = [zero for _ in range(4)]
            for q in range(vectors * lanes):
                weight = short[(m * vectors * lanes + q) * (axis // lanes) + w]
                for k in ti.static(range(4)):
                    total[k] += moments_flat[(job * 4 + k) * vectors * lanes + q] * weight
            for k in ti.static(range(4)):
                axes[(job * 8 + k) * (axis // lanes) + w] = total[k]
        out = (m * places + place[r]) * pitch
        for v in range(vectors):
            z = [moments[(job * 4 + k) * vectors + v] for k in range(4)]
            for a in range(axis):
                t = job * 8 * axis + a
                found = axes_flat[t] * z[0]
                for k in ti.static(range(1, 4)):
                    found += axes_flat[t + k * axis] * z[k]
                features[out + a * vectors + v] = found


@ti.kernel
def k_gram_back(
    slopes: Vectors,
    unmix: Vectors,
    spread: Vectors,
    scale: Array1,
    place: Array1,
    moments: Vectors,
    moments_flat: Array1,
    axes_flat: Array1,
    series: Vectors,
    lanes: Template,
    vectors: Template,
    axis: Template,
    terms: Int,
    rows: Int,
    places: Int,
    pitch: Int,
):
    """``series [members, rows, 4, terms]`` (in vectors) from dE/d(features).

    ``unmix [members, vectors lanes, terms]``, ``spread [members, axis, vectors]``: U again.
    Moments are overwritten by dE/d(moments).
    """
    for job, spare in ti.ndrange(moments.shape[0] // (4 * vectors), ti.static(turns())):
        if spare > 0:
            continue
        m = job // rows
        r = job - m * rows
        zero = unmix[0] * 0
        source = (m * places + place[r]) * pitch
        for a in range(axis):
            total = [zero for _ in range(4)]
            for v in range(vectors):
                g = slopes[source + a * vectors + v]
                for k in ti.static(range(4)):
                    total[k] += g * moments[(job * 4 + k) * vectors + v]
            for k in ti.static(range(4)):
                axes_flat[(job * 8 + 4 + k) * axis + a] = total[k].sum()
        for v in range(vectors):
            total = [zero for _ in range(4)]
            for a in range(axis):
                g = slopes[source + a * vectors + v]
                u = spread[(m * axis + a) * vectors + v]
                t = job * 8 * axis + a
                for k in ti.static(range(4)):
                    total[k] += axes_flat[t + k * axis] * g
                    total[k] += axes_flat[t + (4 + k) * axis] * u
            for k in ti.static(range(4)):
                moments[(job * 4 + k) * vectors + v] = scale[k] * total[k]
        for w in range(terms):
            total = [zero for _ in range(4)]
            for q in range(vectors * lanes):
                weight = unmix[(m * vectors * lanes + q) * terms + w]
                for k in ti.static(range(4)):
                    total[k] += moments_flat[(job * 4 + k) * vectors * lanes + q] * weight
            for k in ti.static(range(4)):
                series[(job * 4 + k) * terms + w] = total[k]


@ti.kernel
def k_products(
    sums: Array1,
    mix: Vectors,
    scale: Array1,
    place: Array1,
    moments: Vectors,
    moments_flat: Array1,
    features: Vectors,
    features_flat: Array1,
    lanes: Template,
    vectors: Template,
    lmax: Template,
    products: Template,
    channels: Int,
    axis: Int,
    terms: Int,
    rows: Int,
    places: Int,
    pitch: Int,
):
    """``T^0``, ``T^l . T^l`` and three-moment products; ``sums [rows, terms, 16]``.

    ``moments [members, rows, components, vectors]``; blocks of features: T^0, then for each
    degree and each channel of the axis all channels, then the products.
    """
    components = ti.static((lmax + 1) ** 2)
    for job, spare in ti.ndrange(
        moments.shape[0] // (components * vectors), ti.static(turns())
    ):
        if spare > 0:
            continue
        m = job // rows
        r = job - m * rows
        zero = mix[0] * 0
        wide = vectors * lanes
        for v in range(vectors):
            total = [zero for _ in range(components)]
            for q in range(terms):
                weight = mix[(m * terms + q) * vectors + v]
                for k in ti.static(range(components)):
                    total[k] += sums[(r * terms + q) * 16 + k] * weight
            for k in ti.static(range(components)):
                moments[(job * components + k) * vectors + v] = scale[k] * total[k]
        out = (m * places + place[r]) * pitch
        at = job * components * wide
        for v in range(vectors):
            features[out + v] = moments[job * components * vectors + v]
            for degree in ti.static(range(1, lmax + 1)):
                for a in range(axis):
                    found = zero
                    for k in ti.static(range(degree**2, (degree + 1) ** 2)):
                        z = moments[(job * components + k) * vectors + v]
                        found += moments_flat[at + k * wide + a] * z
                    features[out + (1 + (degree - 1) * axis + a) * vectors + v] = found
        if ti.static(products > 0):
            first = (out + (1 + lmax * axis) * vectors) * lanes
            for p in range(products):
                c = at + channels - products + p
                vx = moments_flat[c + wide]
                vy = moments_flat[c + 2 * wide]
                vz = moments_flat[c + 3 * wide]
                xx, yy, zz, xy, yz, xz = quadrupole(moments_flat, c, wide)
                qx = xx * vx + xy * vy + xz * vz
                qy = xy * vx + yy * vy + yz * vz
                qz = xz * vx + yz * vy + zz * vz
                features_flat[first + p] = vx * qx + vy * qy + vz * qz
                # tr Q^3 = 3 det Q for a matrix without trace
                cube = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz)
                cube += xz * (xy * yz - yy * xz)
                features_flat[first + products + p] = 3 * cube
                features_flat[first + 2 * products + p] = qx * qx + qy * qy + qz * qz


@ti.func
def quadrupole(moments: Template, c, wide):
    """xx, yy, zz, xy, yz, xz of the symmetric traceless matrix of l = 2."""
    k = moments[c] * 0 + ROOT_THIRD
    xy = k * moments[c + 4 * wide]
    yz = k * moments[c + 5 * wide]
    third = moments[c + 6 * wide] / 3
    xz = k * moments[c + 7 * wide]
    d = k * moments[c + 8 * wide]
    return d - third, -d - third, third + third, xy, yz, xz


@ti.kernel
def k_products_back(
    slopes: Vectors,
    slopes_flat: Array1,
    unmix: Vectors,
    scale: Array1,
    place: Array1,
    moments: Vectors,
    moments_flat: Array1,
    back: Vectors,
    back_flat: Array1,
    series: Vectors,
    lanes: Template,
    vectors: Template,
    lmax: Template,
    products: Template,
    channels: Int,
    axis: Int,
    terms: Int,
    rows: Int,
    places: Int,
    pitch: Int,
):
    """``series [members, rows, components, terms]`` (in vectors) from dE/d(features).

    ``back``, shaped like ``moments``, is filled with dE/d(moments).
    """
    components = ti.static((lmax + 1) ** 2)
    for job, spare in ti.ndrange(
        moments.shape[0] // (components * vectors), ti.static(turns())
    ):
        if spare > 0:
            continue
        m = job // rows
        r = job - m * rows
        zero = unmix[0] * 0
        wide = vectors * lanes
        source = (m * places + place[r]) * pitch
        at = job * components * wide
        for q in range(components * vectors):
            back[job * components * vectors + q] = zero
        for a in range(axis):
            for degree in ti.static(range(1, lmax + 1)):
                total = [zero for _ in range(2 * degree + 1)]
                for v in range(vectors):
                    g = slopes[source + (1 + (degree - 1) * axis + a) * vectors + v]
                    for k in ti.static(range(2 * degree + 1)):
                        z = moments[(job * components + degree**2 + k) * vectors + v]
                        total[k] += g * z
                for k in ti.static(range(2 * degree + 1)):
                    back_flat[at + (degree**2 + k) * wide + a] = total[k].sum()
        if ti.static(products > 0):
            first = (source + (1 + lmax * axis) * vectors) * lanes
            for p in range(products):
                c = at + channels - products + p
                g0 = slopes_flat[first + p]
                g1 = slopes_flat[first + products + p]
                g2 = slopes_flat[first + 2 * products + p]
                vx = moments_flat[c + wide]
                vy = moments_flat[c + 2 * wide]
                vz = moments_flat[c + 3 * wide]
                xx, yy, zz, xy, yz, xz = quadrupole(moments_flat, c, wide)
                qx = xx * vx + xy * vy + xz * vz
                qy = xy * vx + yy * vy + yz * vz
                qz = xz * vx + yz * vy + zz * vz
                back_flat[c + wide] += 2 * (g0 * qx + g2 * (xx * qx + xy * qy + xz * qz))
                back_flat[c + 2 * wide] += (
                    2 * (g0 * qy + g2 * (xy * qx + yy * qy + yz * qz))
                )  # fmt: skip
                back_flat[c + 3 * wide] += (
                    2 * (g0 * qz + g2 * (xz * qx + yz * qy + zz * qz))
                )  # fmt: skip
                # dE/dQ, symmetric: g0 v v^T + 3 g1 Q Q + g2 (qv v^T + v qv^T)
                h = 3 * g1
                w = 2 * g2
                bxx = g0 * vx * vx + h * (xx * xx + xy * xy + xz * xz) + w * qx * vx
                byy = g0 * vy * vy + h * (xy * xy + yy * yy + yz * yz) + w * qy * vy
                bzz = g0 * vz * vz + h * (xz * xz + yz * yz + zz * zz) + w * qz * vz
                bxy = g0 * vx * vy + h * (xx * xy + xy * yy + xz * yz)
                bxy += g2 * (qx * vy + qy * vx)
                byz = g0 * vy * vz + h * (xy * xz + yy * yz + yz * zz)
                byz += g2 * (qy * vz + qz * vy)
                bxz = g0 * vx * vz + h * (xx * xz + xy * yz + xz * zz)
                bxz += g2 * (qx * vz + qz * vx)
                root = g0 * 0 + ROOT_THIRD
                back_flat[c + 4 * wide] += 2 * root * bxy
                back_flat[c + 5 * wide] += 2 * root * byz
                back_flat[c + 6 * wide] += (2 * bzz - bxx - byy) / 3
                back_flat[c + 7 * wide] += 2 * root * bxz
                back_flat[c + 8 * wide] += root * (bxx - byy)
        for v in range(vectors):
            for degree in ti.static(range(lmax + 1)):
                total = [
                    back[(job * components + degree**2 + k) * vectors + v]
                    for k in range(2 * degree + 1)
                ]
                if ti.static(degree == 0):
                    total[0] += slopes[source + v]
                else:
                    for a in range(axis):
                        g = slopes[source + (1 + (degree - 1) * axis + a) * vectors + v]
                        for k in ti.static(range(2 * degree + 1)):
                            total[k] += moments_flat[at + (degree**2 + k) * wide + a] * g
                for k in ti.static(range(2 * degree + 1)):
                    to = (job * components + degree**2 + k) * vectors + v
                    back[to] = scale[degree**2 + k] * total[k]
        for w in range(terms):
            total = [zero for _ in range(components)]
            for q in range(wide):
                weight = unmix[(m * wide + q) * terms + w]
                for k in ti.static(range(components)):
                    total[k] += back_flat[at + k * wide + q] * weight
            for k in ti.static(range(components)):
                series[(job * components + k) * terms + w] = total[k]
