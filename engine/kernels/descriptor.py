"""Compressed inference of learned potentials: basis moments, and forces from their slopes.

What a network's radial functions span is a small space of polynomials T_b(x(r)) times one
envelope e(r), shared by all channels and all members of a committee:

    S_tbl(i) = sum over neighbours j of species t of e(r) T_b(x(r)) Y_l(u).

All channels are products of S with a matrix, so the loop over pairs costs the size of the
basis, not of the network, and the pair loop is one for the whole committee. For the linear
Chebyshev mix this is exact; an embedding network is replaced by its Chebyshev series.
"""

from typing import Any

from torch import Tensor

from ..runtime import start
from .types import Array1, Array2, Array4, Array5, Template, kernel_type, ti

Shape = tuple[int, int, int]
"""Number of basis functions, lmax, and the kind of radial functions (0 or 1)."""

S3 = 3.0**0.5
A, B, C = (5 / 8) ** 0.5, (3 / 8) ** 0.5, 15.0**0.5


@ti.func
def envelope(r, form: Template, radial: Template):
    """e, de/dr, x, dx/dr; ``form = (start, cutoff, largest s)``.

    Chebyshev mix (radial 0): e = w(r), x = 2 (r/cutoff - 1)^2 - 1. Embedding network
    (radial 1): e = s = w(r)/r and x = 2 s/largest - 1, held at 1 beyond it.
    """
    first = form[0]
    last = form[1]
    width = last - first
    u = ti.min(ti.max((r - first) / width, r * 0), r * 0 + 1)
    w = u * u * u * (u * (15 - 6 * u) - 10) + 1
    dw = -30 * (u * (1 - u)) * (u * (1 - u)) / width
    e = w
    de = dw
    x = r
    dx = r
    if ti.static(radial == 0):
        q = r / last - 1
        x = 2 * q * q - 1
        dx = 4 * q / last
    else:
        e = w / r
        de = (dw - e) / r
        x = 2 * e / form[2] - 1
        dx = ti.select(x < 1, 2 * de / form[2], r * 0)
        x = ti.min(x, r * 0 + 1)
    return e, de, x, dx


@ti.func
def each_harmonic(x, y, z, lmax: Template, real: Template):
    """Real spherical harmonics in Racah's normalisation, l = 0..lmax, one by one.

    Like all that follows, of numbers or of vectors of them.
    """
    one = x * 0 + 1
    s3 = ti.cast(S3, real)
    a = ti.cast(A, real)
    b = ti.cast(B, real)
    c = ti.cast(C, real)
    h = ti.cast(0.5, real)
    if ti.static(lmax == 1):
        return one, x, y, z
    elif ti.static(lmax == 2):
        return (
            one, x, y, z,
            s3 * x * y, s3 * y * z, h * (3 * z * z - 1), s3 * x * z,
            h * s3 * (x * x - y * y),
        )  # fmt: skip
    else:
        return (
            one, x, y, z,
            s3 * x * y, s3 * y * z, h * (3 * z * z - 1), s3 * x * z,
            h * s3 * (x * x - y * y),
            a * y * (3 * x * x - y * y), c * x * y * z, b * y * (5 * z * z - 1),
            h * z * (5 * z * z - 3), b * x * (5 * z * z - 1),
            h * c * z * (x * x - y * y), a * x * (x * x - 3 * y * y),
        )  # fmt: skip


@ti.func
def harmonics(x, y, z, lmax: Template, real: Template):
    """All of :func:`each_harmonic` as a vector."""
    found = each_harmonic(x, y, z, lmax, real)
    return ti.Vector([found[k] for k in range((lmax + 1) ** 2)])


@ti.func
def harmonics_slope(x, y, z, g: Template, lmax: Template, real: Template):
    """Gradient of ``sum_l g_l Y_l`` as polynomials of x, y, z, before any projection."""
    px = g[1]
    py = g[2]
    pz = g[3]
    if ti.static(lmax >= 2):
        s3 = ti.cast(S3, real)
        px += s3 * (g[4] * y + g[7] * z + g[8] * x)
        py += s3 * (g[4] * x + g[5] * z - g[8] * y)
        pz += s3 * (g[5] * y + g[7] * x) + 3 * g[6] * z
    if ti.static(lmax >= 3):
        a = ti.cast(A, real)
        b = ti.cast(B, real)
        c = ti.cast(C, real)
        d = x * x - y * y
        f = 5 * z * z - 1
        px += 6 * a * g[9] * x * y + c * g[10] * y * z + b * g[13] * f
        px += c * g[14] * x * z + 3 * a * g[15] * d
        py += 3 * a * g[9] * d + c * g[10] * x * z + b * g[11] * f
        # of vectors this language has no ``-=``, and in f32 no division by an integer
        py = py - (c * g[14] * y * z + 6 * a * g[15] * x * y)
        pz += c * g[10] * x * y + 10 * b * z * (g[11] * y + g[13] * x)
        pz += ti.cast(0.5, real) * ((15 * z * z - 3) * g[12] + c * g[14] * d)
    return px, py, pz


@ti.kernel
def k_moments(
    places: Array2,
    home: Array1,
    parent: Array1,
    species: Array1,
    slots: Array2,
    count: Array1,
    form: Array1,
    sums: Array4,
    real: Template,
    basis: Template,
    lmax: Template,
    radial: Template,
):
    """``sums [species, basis, rows, (lmax + 1)^2]``."""
    for r in range(home.shape[0]):
        e0 = home[r]
        for t in range(sums.shape[0]):
            total = ti.Matrix.zero(real, basis, (lmax + 1) ** 2)
            for n in range(count[r]):
                e = slots[r, n]
                dx = places[e, 0] - places[e0, 0]
                dy = places[e, 1] - places[e0, 1]
                dz = places[e, 2] - places[e0, 2]
                r2 = dx * dx + dy * dy + dz * dz
                if species[parent[e]] == t and r2 < form[1] * form[1]:
                    d = ti.sqrt(r2)
                    inverse = 1 / d
                    angular = harmonics(
                        dx * inverse, dy * inverse, dz * inverse, lmax, real
                    )
                    f, _df, x, _dx = envelope(d, form, radial)
                    g = f * x
                    for b in ti.static(range(basis)):
                        for k in ti.static(range((lmax + 1) ** 2)):
                            total[b, k] += f * angular[k]
                        h = 2 * x * g - f
                        f = g
                        g = h
            for b in ti.static(range(basis)):
                for k in ti.static(range((lmax + 1) ** 2)):
                    sums[t, b, r, k] = total[b, k]


@ti.kernel
def k_pair_slopes(
    places: Array2,
    home: Array1,
    parent: Array1,
    species: Array1,
    slots: Array2,
    count: Array1,
    form: Array1,
    slopes: Array5,
    gradient: Array4,
    virial: Array2,
    real: Template,
    basis: Template,
    lmax: Template,
    radial: Template,
):
    """``dE_i/dd_ij`` of every pair ``[members, rows, slots, 3]`` and each row's virial.

    ``slopes [members, species, basis, rows, (lmax + 1)^2]`` is dE/d(sums);
    ``virial [rows, 6]`` is the members' mean.
    """
    for r in range(home.shape[0]):
        e0 = home[r]
        w = ti.Vector.zero(real, 6)
        for m in range(slopes.shape[0]):
            for t in range(slopes.shape[1]):
                c = ti.Matrix.zero(real, basis, (lmax + 1) ** 2)
                for b in ti.static(range(basis)):
                    for k in ti.static(range((lmax + 1) ** 2)):
                        c[b, k] = slopes[m, t, b, r, k]
                for n in range(count[r]):
                    e = slots[r, n]
                    dx = places[e, 0] - places[e0, 0]
                    dy = places[e, 1] - places[e0, 1]
                    dz = places[e, 2] - places[e0, 2]
                    r2 = dx * dx + dy * dy + dz * dz
                    if species[parent[e]] == t:
                        gx = r2 * 0
                        gy = r2 * 0
                        gz = r2 * 0
                        if r2 < form[1] * form[1]:
                            d = ti.sqrt(r2)
                            inverse = 1 / d
                            ux = dx * inverse
                            uy = dy * inverse
                            uz = dz * inverse
                            angular = harmonics(ux, uy, uz, lmax, real)
                            f0, df, x, dx_dr = envelope(d, form, radial)
                            value = ti.Vector.zero(real, (lmax + 1) ** 2)
                            slope = ti.Vector.zero(real, (lmax + 1) ** 2)
                            # T_b and its derivative by the recurrence of both
                            p = r2 * 0 + 1
                            q = x
                            dp = r2 * 0
                            dq = r2 * 0 + 1
                            for b in ti.static(range(basis)):
                                f = f0 * p
                                g = df * p + f0 * dp * dx_dr
                                for k in ti.static(range((lmax + 1) ** 2)):
                                    value[k] += f * c[b, k]
                                    slope[k] += g * c[b, k]
                                h = 2 * x * q - p
                                dh = 2 * q + 2 * x * dq - dp
                                p = q
                                q = h
                                dp = dq
                                dq = dh
                            along = r2 * 0
                            for k in ti.static(range((lmax + 1) ** 2)):
                                along += slope[k] * angular[k]
                            px, py, pz = harmonics_slope(ux, uy, uz, value, lmax, real)
                            outward = px * ux + py * uy + pz * uz
                            along -= outward * inverse
                            gx = along * ux + px * inverse
                            gy = along * uy + py * inverse
                            gz = along * uz + pz * inverse
                            w[0] -= gx * dx
                            w[1] -= gy * dy
                            w[2] -= gz * dz
                            w[3] -= gx * dy
                            w[4] -= gx * dz
                            w[5] -= gy * dz
                        gradient[m, r, n, 0] = gx
                        gradient[m, r, n, 1] = gy
                        gradient[m, r, n, 2] = gz
        for k in ti.static(range(6)):
            virial[r, k] = w[k] / slopes.shape[0]


@ti.kernel
def k_gather_forces(
    atom: Array1,
    row: Array1,
    parent: Array1,
    slots: Array2,
    count: Array1,
    reverse: Array2,
    gradient: Array4,
    forces: Array2,
    deviation: Array1,
):
    """Mean force ``sum_j g_ij - g_ji`` over the members, and their deviation."""
    for r in range(atom.shape[0]):
        i = atom[r]
        members = gradient.shape[0]
        mean = ti.Vector.zero(ti.f64, 3)
        square = 0.0
        # deviations are taken from the first member, for the mean is not known yet
        first = ti.Vector.zero(ti.f64, 3)
        for m in range(members):
            f = ti.Vector.zero(ti.f64, 3)
            for n in range(count[r]):
                q = row[parent[slots[r, n]]]
                back = reverse[r, n]
                for c in ti.static(range(3)):
                    f[c] += gradient[m, r, n, c] - gradient[m, q, back, c]
            if m == 0:
                first = f
            mean += f - first
            square += (f - first).norm_sqr()
        mean /= members
        for c in ti.static(range(3)):
            forces[i, c] = mean[c] + first[c]
        if deviation.shape[0] > 0:
            deviation[i] = ti.sqrt(ti.max(square / members - mean.norm_sqr(), 0.0))


def basis_moments(
    places: Tensor, table: Any, species: Tensor, form: Tensor, count: int, kind: Shape
) -> Tensor:
    """Return ``sums [species, basis, rows, (lmax + 1)^2]``; see :func:`k_moments`."""
    start(places.device)
    basis, lmax, radial = kind
    sums = places.new_empty(count, basis, len(table.home), (lmax + 1) ** 2)
    k_moments(
        places, table.home, table.parent, species, table.slots, table.rows, form, sums,
        kernel_type(places.dtype), basis, lmax, radial,
    )  # fmt: skip
    return sums


def forces_from_slopes(
    places: Tensor, table: Any, species: Tensor, form: Tensor, slopes: Tensor, kind: Shape
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mean forces, deviation, each row's virial, and the pair gradients."""
    start(places.device)
    basis, lmax, radial = kind
    members, rows = slopes.shape[0], len(table.home)
    gradient = places.new_empty(members, rows, table.slots.shape[1], 3)
    virial = places.new_empty(rows, 6)
    k_pair_slopes(
        places, table.home, table.parent, species, table.slots, table.rows, form,
        slopes.contiguous(), gradient, virial, kernel_type(places.dtype), basis, lmax,
        radial,
    )  # fmt: skip
    forces = places.new_empty(rows, 3)
    deviation = places.new_empty(rows if members > 1 else 0)
    k_gather_forces(
        table.atom, table.row, table.parent, table.slots, table.rows, table.reverse,
        gradient, forces, deviation,
    )  # fmt: skip
    return forces, deviation, virial, gradient
