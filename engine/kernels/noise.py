"""Counter-based random numbers: a pure function of seed, step, atom and purpose.

Philox-4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
3", SC11, section 3.3). No generator state exists, so a replica in a batch has the noise
that it has alone, and a resumed run goes on bit for bit.
"""

from .types import Array1, Array2, Int, ti, turns


@ti.func
def philox(key0, key1, c0, c1, c2, c3):
    """Ten rounds; returns four words."""
    for _ in ti.static(range(10)):
        low = ti.cast(c0, ti.u64) * ti.u64(0xD2511F53)
        high = ti.cast(c2, ti.u64) * ti.u64(0xCD9E8D57)
        new0 = ti.cast(high >> ti.u64(32), ti.u32) ^ c1 ^ key0
        new2 = ti.cast(low >> ti.u64(32), ti.u32) ^ c3 ^ key1
        c1 = ti.cast(high, ti.u32)
        c3 = ti.cast(low, ti.u32)
        c0 = new0
        c2 = new2
        key0 += ti.u32(0x9E3779B9)
        key1 += ti.u32(0xBB67AE85)
    return c0, c1, c2, c3


@ti.func
def open_unit(word):
    """Uniform in (0, 1), never an end."""
    return (ti.cast(word, ti.f64) + 0.5) * (1.0 / 4294967296.0)


@ti.func
def four_normals(seed, step, atom, purpose):
    """Four independent standard normals (Box and Muller)."""
    a, b, c, d = philox(
        ti.cast(seed, ti.u32),
        ti.cast(seed >> 32, ti.u32),
        ti.cast(step, ti.u32),
        ti.cast(step >> 32, ti.u32),
        ti.cast(atom, ti.u32),
        ti.cast(purpose, ti.u32),
    )
    two_pi = 6.283185307179586
    u = ti.sqrt(-2.0 * ti.log(open_unit(a)))
    v = ti.sqrt(-2.0 * ti.log(open_unit(c)))
    p = two_pi * open_unit(b)
    q = two_pi * open_unit(d)
    return u * ti.cos(p), u * ti.sin(p), v * ti.cos(q), v * ti.sin(q)


@ti.kernel
def k_normals(seed: Array1, step: Array1, chunks: Array2, purpose: Int, out: Array2):
    """Three standard normals for every atom, ``[atoms, 3]``."""
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        s = chunks[chunk, 0]
        for i in range(chunks[chunk, 1], chunks[chunk, 2]):
            a, b, c, _d = four_normals(seed[s], step[s], i - chunks[chunk, 3], purpose)
            out[i, 0] = a
            out[i, 1] = b
            out[i, 2] = c


@ti.kernel
def k_chi_squared(seed: Array1, step: Array1, degrees: Array1, purpose: Int, out: Array2):
    """Per system a standard normal and a chi-squared variate of ``degrees``.

    Gamma variates by rejection (Marsaglia and Tsang, ACM TOMS 26, 363, 2000): with
    d = k/2 - 1/3, c = 1/sqrt(9 d), v = (1 + c x)^3, accept d v if
    log u < x^2/2 + d - d v + d log v.
    """
    for s in range(out.shape[0]):
        normal, _b, _c, _d = four_normals(seed[s], step[s], 0, purpose)
        out[s, 0] = normal
        chi = 0.0
        shape = 0.5 * degrees[s]
        # below one degree of two the method needs shape + 1 and a power of a uniform
        lifted = ti.select(shape < 1.0, shape + 1.0, shape)
        d = lifted - 1.0 / 3.0
        c = 1.0 / ti.sqrt(9.0 * d)
        accepted = 0
        attempt = 1
        while accepted == 0 and attempt < 1000 and shape > 0.0:
            x, y, z, _w = four_normals(seed[s], step[s], attempt, purpose)
            # (y^2 + z^2)/2 is exponential: its negative is the logarithm of a uniform
            log_u = -0.5 * (y * y + z * z)
            v = (1.0 + c * x) ** 3
            if v > 0.0 and log_u < 0.5 * x * x + d - d * v + d * ti.log(ti.max(v, 1e-300)):
                accepted = 1
                chi = 2.0 * d * v
                if shape < 1.0:
                    a, b, _e, _f = four_normals(seed[s], step[s], -attempt, purpose)
                    chi *= ti.exp(-0.5 * (a * a + b * b) / shape)
            attempt += 1
        out[s, 1] = chi
