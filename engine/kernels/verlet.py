"""Fused integrator steps; each loop also leaves the sums that the step needs.

``chunks[c] = (system, begin, end, first)``: atoms ``begin:end`` of one system, whose
first atom is ``first``. Results are written to new arrays: a step is a pure function.
"""

from .noise import four_normals
from .types import Array1, Array2, Real, ti, turns


@ti.kernel
def k_kick_drift(
    positions: Array2,
    momenta: Array2,
    forces: Array2,
    masses: Array1,
    anchor: Array2,
    scale: Array1,
    chunks: Array2,
    half: Real,
    dt: Real,
    new_positions: Array2,
    new_momenta: Array2,
    moved: Array1,
):
    """``p <- scale p + dt/2 f``, ``x <- x + dt p / m``; ``moved`` = max |x - anchor|^2."""
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        s = chunks[chunk, 0]
        far = 0.0
        factor = scale[s]
        for i in range(chunks[chunk, 1], chunks[chunk, 2]):
            step = dt / masses[i]
            away = 0.0
            for c in ti.static(range(3)):
                p = factor * momenta[i, c] + half * forces[i, c]
                x = positions[i, c] + step * p
                new_momenta[i, c] = p
                new_positions[i, c] = x
                d = x - anchor[i, c]
                away += d * d
            far = ti.max(far, away)
        moved[chunk] = far


@ti.kernel
def k_kick(
    momenta: Array2,
    forces: Array2,
    masses: Array1,
    chunks: Array2,
    half: Real,
    new_momenta: Array2,
    partial: Array2,
):
    """``p <- p + dt/2 f`` and, per chunk, the six components of sum p p / m."""
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        k = ti.Vector([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        for i in range(chunks[chunk, 1], chunks[chunk, 2]):
            p = ti.Vector([0.0, 0.0, 0.0])
            for c in ti.static(range(3)):
                p[c] = momenta[i, c] + half * forces[i, c]
                new_momenta[i, c] = p[c]
            w = 1.0 / masses[i]
            k[0] += p[0] * p[0] * w
            k[1] += p[1] * p[1] * w
            k[2] += p[2] * p[2] * w
            k[3] += p[0] * p[1] * w
            k[4] += p[0] * p[2] * w
            k[5] += p[1] * p[2] * w
        for c in ti.static(range(6)):
            partial[chunk, c] = k[c]


@ti.kernel
def k_langevin(
    positions: Array2,
    momenta: Array2,
    forces: Array2,
    masses: Array1,
    anchor: Array2,
    keep: Array1,
    thermal: Array1,
    seed: Array1,
    step: Array1,
    chunks: Array2,
    half: Real,
    new_positions: Array2,
    new_momenta: Array2,
    moved: Array1,
    heat: Array2,
):
    """The B, A, O, A parts of BAOAB; ``heat`` is the energy that O put in."""
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        s = chunks[chunk, 0]
        far = 0.0
        taken = 0.0
        noise = ti.sqrt((1.0 - keep[s] * keep[s]) * thermal[s])
        for i in range(chunks[chunk, 1], chunks[chunk, 2]):
            a, b, c, _d = four_normals(seed[s], step[s], i - chunks[chunk, 3], 0)
            xi = ti.Vector([a, b, c])
            mass = ti.cast(masses[i], ti.f64)
            spread = noise * ti.sqrt(mass)
            away = 0.0
            for k in ti.static(range(3)):
                p = ti.cast(momenta[i, k], ti.f64) + half * forces[i, k]
                x = positions[i, k] + half * p / mass
                q = keep[s] * p + spread * xi[k]
                taken += 0.5 * (q * q - p * p) / mass
                x += half * q / mass
                new_momenta[i, k] = q
                new_positions[i, k] = x
                d = x - anchor[i, k]
                away += d * d
            far = ti.max(far, away)
        moved[chunk] = far
        heat[chunk, 0] = taken
