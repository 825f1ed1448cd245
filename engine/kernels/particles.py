"""Direct simulation Monte Carlo: move, sort by cell, collide, sample.

Every result is a pure function of the state: random numbers are drawn from counters (seed,
step, and the particle's place or the cell), and the sort is stable in a fixed number of
chunks, so that neither the number of threads nor an interruption changes a bit.

Layout: positions ``[capacity, dim]`` and velocities ``[capacity, 3]`` sorted by cell;
``starts [cells + 2]`` gives the first particle of every cell, then of the departed.
"""

from .types import Array1, Array2, Int, Real, Template, ti

PERIODIC, RESERVOIR, SPECULAR, DIFFUSE = 0, 1, 2, 3
"""What stands at a face."""

SIDE_TEMPERATURE, SIDE_VELOCITY, SIDE_ACCOMMODATION = 0, 1, 4
"""Columns of ``sides [2 * dim, 5]``."""

CHUNKS = 16
"""Pieces of the sort, and so the most threads that it can use."""

_BOUNCES = 8


@ti.func
def mixed(z):
    """Finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    z = (z ^ (z >> ti.u64(30))) * ti.u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> ti.u64(27))) * ti.u64(0x94D049BB133111EB)
    return z ^ (z >> ti.u64(31))


@ti.func
def stream(seed, step, place):
    """First state of the random numbers of one place in one step."""
    a = mixed(ti.cast(seed, ti.u64) + ti.u64(0x9E3779B97F4A7C15))
    b = mixed(a + ti.cast(step, ti.u64) * ti.u64(0x9E3779B97F4A7C15))
    return mixed(b + ti.cast(place, ti.u64) * ti.u64(0xD1B54A32D192ED03))


@ti.func
def advanced(s):
    """Next state of a stream."""
    return s + ti.u64(0x9E3779B97F4A7C15)


@ti.func
def uniform(s):
    """Uniform in (0, 1)."""
    return (ti.cast(mixed(s) >> ti.u64(11), ti.f64) + 0.5) * 1.1102230246251565e-16


@ti.func
def below(word, n):
    """A whole number below ``n``, from 32 random bits."""
    return ti.cast((word * ti.cast(n, ti.u64)) >> ti.u64(32), ti.i32)


@ti.func
def pair_of_normals(u, v):
    """Two standard normals (Box and Muller)."""
    r = ti.sqrt(-2.0 * ti.log(u))
    a = 6.283185307179586 * v
    return r * ti.cos(a), r * ti.sin(a)


@ti.func
def reflected(axis: Template, low: Int, v, side: Int, kinds: Array1, sides: Array2,
              s):  # fmt: skip
    """Velocity after meeting a wall, and the stream: mirrored, or re-emitted (Maxwell)."""
    out = v
    s = advanced(s)
    if kinds[side] == SPECULAR or uniform(s) >= sides[side, SIDE_ACCOMMODATION]:
        out[axis] = -v[axis]
    else:
        thermal = ti.sqrt(sides[side, SIDE_TEMPERATURE])
        s1 = advanced(s)
        s2 = advanced(s1)
        s3 = advanced(s2)
        s = s3
        a, b = pair_of_normals(uniform(s1), uniform(s2))
        for d in ti.static(range(3)):
            out[d] = sides[side, SIDE_VELOCITY + d]
        speed = thermal * ti.sqrt(-2.0 * ti.log(uniform(s3)))
        out[axis] = ti.select(low == 1, speed, -speed)
        out[(axis + 1) % 3] += thermal * a
        out[(axis + 2) % 3] += thermal * b
    return out, s


@ti.func
def travelled(dim: Template, x, v, dt: Real, box: Array2, kinds: Array1, sides: Array2,
              s):  # fmt: skip
    """Flight of one particle through ``dt`` with all its bounces; gone: outside the box."""
    for d in ti.static(range(dim)):
        x[d] += v[d] * dt
    gone = 0
    inside = 0
    bounce = 0
    while inside == 0 and bounce < _BOUNCES:
        inside = 1
        bounce += 1
        for d in ti.static(range(dim)):
            low = ti.select(x[d] < box[d, 0], 1, 0)
            high = ti.select(x[d] >= box[d, 1], 1, 0)
            if low + high > 0:
                side = 2 * d + high
                kind = kinds[side]
                if kind == PERIODIC:
                    width = box[d, 1] - box[d, 0]
                    x[d] -= ti.floor((x[d] - box[d, 0]) / width) * width
                    # rounding may put it on the upper end
                    x[d] = ti.select(x[d] >= box[d, 1], box[d, 0], x[d])
                elif kind == RESERVOIR:
                    gone = 1
                else:
                    inside = 0
                    face = box[d, high]
                    left = ti.select(v[d] == 0.0, 0.0, (x[d] - face) / v[d])
                    new, s2 = reflected(d, low, v, side, kinds, sides, s)
                    s = s2
                    for e in ti.static(range(dim)):
                        x[e] += (new[e] - v[e]) * left
                    x[d] = face + new[d] * left
                    v = new
    # a corner can hold a slow particle longer than the bounces that are followed
    for d in ti.static(range(dim)):
        if gone == 0 and not (x[d] >= box[d, 0] and x[d] < box[d, 1]):
            x[d] = 0.5 * (box[d, 0] + box[d, 1])
    return x, v, gone


@ti.func
def cell_of(dim: Template, x, box: Array2, shape: Array1):
    """Index of the cell that holds ``x``."""
    cell = 0
    for d in ti.static(range(dim)):
        n = shape[d]
        width = (box[d, 1] - box[d, 0]) / n
        k = ti.cast(ti.floor((x[d] - box[d, 0]) / width), ti.i32)
        cell = cell * n + ti.min(ti.max(k, 0), n - 1)
    return cell


@ti.kernel
def k_move(
    dim: Template, x: Array2, v: Array2, cells: Array1, histogram: Array2, starts: Array1,
    extra: Int, dt: Real, box: Array2, shape: Array1, kinds: Array1, sides: Array2,
    layers: Array2, clock: Array1, shift: Array1, new_x: Array2, new_v: Array2,
):  # fmt: skip
    """Move all particles and those that enter; count them by cell, a row for each chunk.

    Particles from ``starts[cells]`` on are not there; in their places ``extra`` newcomers
    are drawn from the reservoirs' layers before the faces (``layers [n, 12]``: face axis,
    low end, high end, density share of the last one, first newcomer, state of the gas).
    """
    total = shape[0]
    for d in ti.static(range(1, dim)):
        total *= shape[d]
    for chunk in range(CHUNKS):
        for c in range(total + 1):
            histogram[chunk, c] = 0
        alive = starts[total]
        n = alive + extra
        for i in range(n * chunk // CHUNKS, n * (chunk + 1) // CHUNKS):
            at = ti.Vector.zero(ti.f64, dim)
            speed = ti.Vector.zero(ti.f64, 3)
            s = stream(clock[0], clock[1], i)
            gone = 0
            if i < alive:
                for d in ti.static(range(dim)):
                    at[d] = x[i, d]
                for d in ti.static(range(3)):
                    speed[d] = v[i, d]
            else:
                k = i - alive
                layer = 0
                for q in range(layers.shape[0]):
                    layer = ti.select(k >= layers[q, 4], q, layer)
                axis = ti.cast(layers[layer, 0], ti.i32)
                s = advanced(s)
                newest = k == ti.cast(layers[layer, 5], ti.i32)
                gone = ti.select(newest and uniform(s) >= layers[layer, 3], 1, 0)
                for d in ti.static(range(dim)):
                    s = advanced(s)
                    low = ti.select(d == axis, layers[layer, 1], box[d, 0])
                    high = ti.select(d == axis, layers[layer, 2], box[d, 1])
                    at[d] = low + (high - low) * uniform(s)
                s1 = advanced(s)
                s2 = advanced(s1)
                s3 = advanced(s2)
                s = advanced(s3)
                a, b = pair_of_normals(uniform(s1), uniform(s2))
                c, _d = pair_of_normals(uniform(s3), uniform(s))
                thermal = ti.sqrt(layers[layer, 6])
                speed[0] = layers[layer, 7] + thermal * a
                speed[1] = layers[layer, 8] + thermal * b
                speed[2] = layers[layer, 9] + thermal * c
                # one that does not reach the box in this step has never been there
                ahead = at[0] + speed[0] * dt + shift[0]
                for d in ti.static(range(dim)):
                    if d == axis:
                        ahead = at[d] + speed[d] * dt + ti.select(d == 0, shift[0], 0.0)
                for d in ti.static(range(dim)):
                    if d == axis and (ahead < box[d, 0] or ahead >= box[d, 1]):
                        gone = 1
            at[0] += shift[0]
            cell = total
            if gone == 0:
                at, speed, gone = travelled(dim, at, speed, dt, box, kinds, sides, s)
            if gone == 0:
                cell = cell_of(dim, at, box, shape)
            for d in ti.static(range(dim)):
                new_x[i, d] = at[d]
            for d in ti.static(range(3)):
                new_v[i, d] = speed[d]
            cells[i] = cell
            histogram[chunk, cell] += 1


@ti.kernel
def k_places(histogram: Array2, starts: Array1, extra: Int, new_starts: Array1):
    """Turn counts into the first place of every (cell, chunk)."""
    total = histogram.shape[1] - 1
    for _ in range(1):
        place = 0
        for c in range(total + 1):
            new_starts[c] = place
            for chunk in range(CHUNKS):
                count = histogram[chunk, c]
                histogram[chunk, c] = place
                place += count
        new_starts[total + 1] = place


@ti.kernel
def k_sort(
    dim: Template, cells: Array1, histogram: Array2, starts: Array1, extra: Int, x: Array2,
    v: Array2, new_x: Array2, new_v: Array2,
):  # fmt: skip
    """Copy particles to the places of their cells; those that left are dropped."""
    total = histogram.shape[1] - 1
    for chunk in range(CHUNKS):
        n = starts[total] + extra
        for i in range(n * chunk // CHUNKS, n * (chunk + 1) // CHUNKS):
            cell = cells[i]
            place = histogram[chunk, cell]
            histogram[chunk, cell] = place + 1
            if cell < total:
                for d in ti.static(range(dim)):
                    new_x[place, d] = x[i, d]
                for d in ti.static(range(3)):
                    new_v[place, d] = v[i, d]


@ti.func
def turned(g, speed, cos, azimuth):
    """The relative velocity ``g`` turned by the angle of ``cos`` about a random axis."""
    sin = ti.sqrt(ti.max(0.0, 1.0 - cos * cos))
    p = ti.cos(azimuth)
    q = ti.sin(azimuth)
    across = ti.sqrt(g[1] * g[1] + g[2] * g[2])
    out = g * cos
    if across > 1e-12 * speed:
        out[0] += sin * q * across
        out[1] += sin * (speed * g[2] * p - g[0] * g[1] * q) / across
        out[2] -= sin * (speed * g[1] * p + g[0] * g[2] * q) / across
    else:
        out[1] += sin * p * speed
        out[2] += sin * q * speed
    return out


@ti.kernel
def k_collide(
    kind: Template, v: Array2, starts: Array1, fastest: Array1, remainder: Array1,
    scale: Real, sections: Array1, angles: Array2, law: Array1, clock: Array1,
    counted: Array1,
):  # fmt: skip
    """Collide pairs of every cell without time counter (Bird 1994, section 11.1), in place.

    Args:
        kind: 0: ``sigma g = law[0] (g^2)^law[1]``, ``cos chi = 2 u^law[2] - 1``; 1: tables
            over ``ln E``, E = g^2/4, that begin at ``law[0]`` with spacing ``law[1]``.
        v: velocities.
        starts: first particle of each cell.
        fastest: largest ``sigma g`` met in each cell.
        remainder: part of a pair that is carried over.
        scale: time step over volume of a cell and particles in a unit of mass.
        sections: ``[energies]`` total cross section.
        angles: ``[energies, impact]`` cos chi at equally spaced ``b^2``.
        law: see ``kind``.
        clock: seed, step.
        counted: collisions of each cell, added to.
    """
    for c in range(fastest.shape[0]):
        first = starts[c]
        n = starts[c + 1] - first
        if n > 1:
            top = fastest[c]
            wanted = 0.5 * n * (n - 1) * top * scale + remainder[c]
            pairs = ti.cast(ti.floor(wanted), ti.i32)
            remainder[c] = wanted - pairs
            s = stream(clock[0], clock[1], -1 - c)
            hits = 0
            for _ in range(pairs):
                s = advanced(s)
                word = mixed(s)
                i = below(word >> ti.u64(32), n)
                j = below(word & ti.u64(0xFFFFFFFF), n - 1)
                j = ti.select(j >= i, j + 1, j)
                i += first
                j += first
                g = ti.Vector([v[i, 0] - v[j, 0], v[i, 1] - v[j, 1], v[i, 2] - v[j, 2]])
                square = g.norm_sqr()
                rate = 0.0
                row = 0
                part = 0.0
                if ti.static(kind == 0):
                    rate = law[0] * square ** law[1]
                elif ti.static(kind == 2):
                    rate = law[0] * ti.sqrt(square)
                else:
                    e = (ti.log(ti.max(0.25 * square, 1e-30)) - law[0]) / law[1]
                    e = ti.min(ti.max(e, 0.0), sections.shape[0] - 1.001)
                    row = ti.cast(e, ti.i32)
                    part = e - row
                    q = sections[row] + (sections[row + 1] - sections[row]) * part
                    rate = q * ti.sqrt(square)
                if rate > top:
                    fastest[c] = ti.max(fastest[c], rate)
                s = advanced(s)
                if uniform(s) * top < rate:
                    hits += 1
                    s1 = advanced(s)
                    s2 = advanced(s1)
                    s = s2
                    cos = 2.0 * uniform(s1) - 1.0
                    if ti.static(kind == 0):
                        cos = 2.0 * uniform(s1) ** law[2] - 1.0
                    if ti.static(kind == 1):
                        s3 = advanced(s)
                        s = s3
                        row = ti.select(uniform(s3) < part, row + 1, row)
                        count = angles.shape[1]
                        y = ti.max(uniform(s1) * count - 0.5, 0.0)
                        k = ti.min(ti.cast(y, ti.i32), count - 2)
                        share = ti.min(y - k, 1.0)
                        cos = angles[row, k] + (angles[row, k + 1] - angles[row, k]) * share
                    new = turned(g, ti.sqrt(square), cos, 6.283185307179586 * uniform(s2))
                    for d in ti.static(range(3)):
                        change = 0.5 * (new[d] - g[d])
                        v[i, d] += change
                        v[j, d] -= change
            counted[c] += hits


@ti.kernel
def k_sample(v: Array2, starts: Array1, sums: Array2):
    """Add to ``sums [cells, 14]``: 1, v, v v (xx yy zz xy xz yz), |v|^2 v, |v|^2."""
    for c in range(sums.shape[0]):
        one = 0.0
        first = ti.Vector.zero(ti.f64, 3)
        second = ti.Vector.zero(ti.f64, 6)
        third = ti.Vector.zero(ti.f64, 3)
        for i in range(starts[c], starts[c + 1]):
            w = ti.Vector([v[i, 0], v[i, 1], v[i, 2]])
            square = w.norm_sqr()
            one += 1.0
            first += w
            second += ti.Vector(
                [
                    w[0] * w[0],
                    w[1] * w[1],
                    w[2] * w[2],
                    w[0] * w[1],
                    w[0] * w[2],
                    w[1] * w[2],
                ]
            )
            third += square * w
        sums[c, 0] += one
        for d in ti.static(range(3)):
            sums[c, 1 + d] += first[d]
            sums[c, 10 + d] += third[d]
        for d in ti.static(range(6)):
            sums[c, 4 + d] += second[d]
        sums[c, 13] += second[0] + second[1] + second[2]
