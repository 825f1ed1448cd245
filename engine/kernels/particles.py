"""Direct simulation Monte Carlo: move, sort by cell, collide, sample.

Every result is a pure function of the state: random numbers are drawn from counters (seed,
step, system, and the particle's place or the cell), and the sort is stable in a fixed
number of chunks, so that neither the number of threads nor an interruption changes a bit.

Layout: positions ``[systems, capacity, dim]`` (f32) and velocities ``[systems, capacity,
columns]`` sorted by cell; ``starts [systems, cells + 2]`` gives the first particle of every
cell, then of the departed. The fourth column, where there is one, is the rotational energy
over the mass.

A step does not keep the moved particles between its two passes: the first finds the cells
to count them, the second makes the same flight again and puts the particle in its place,
which costs less than to write and read it.
"""

from .types import Array1, Array2, Array3, Int, Real, Template, ti

PERIODIC, RESERVOIR, SPECULAR, DIFFUSE = 0, 1, 2, 3
"""What stands at a face."""

SIDE_TEMPERATURE, SIDE_VELOCITY, SIDE_ACCOMMODATION = 0, 1, 4
"""Columns of ``sides [2 * dim, 5]``."""

CHUNKS = 16
"""Pieces of the sort, and so the most threads that it can use."""

_BOUNCES = 8
_NEWCOMER, _CELL = 60, 61
"""Streams of random numbers besides those of the bounces, which are ``3 bounce + axis``."""


@ti.func
def mixed(z):
    """Finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    z = (z ^ (z >> ti.u64(30))) * ti.u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> ti.u64(27))) * ti.u64(0x94D049BB133111EB)
    return z ^ (z >> ti.u64(31))


@ti.func
def stream(clock: Array1, system, use, place):
    """First state of the random numbers of one use in one place in one step."""
    golden = ti.u64(0x9E3779B97F4A7C15)
    a = mixed(ti.cast(clock[0], ti.u64) + golden)
    b = mixed(a + ti.cast(clock[1], ti.u64) * golden)
    where = (ti.cast(system, ti.u64) << ti.u64(40)) + (ti.cast(use, ti.u64) << ti.u64(32))
    return mixed(b + (where + ti.cast(place, ti.u64)) * ti.u64(0xD1B54A32D192ED03))


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
def reflected(axis: Template, low: Int, v: Template, side: Int, kinds: Array1,
              sides: Array2, s):  # fmt: skip
    """Velocity after meeting a wall: mirrored, or re-emitted in equilibrium (Maxwell)."""
    out = v
    s = advanced(s)
    if kinds[side] == SPECULAR or uniform(s) >= sides[side, SIDE_ACCOMMODATION]:
        out[axis] = -v[axis]
    else:
        thermal = ti.sqrt(sides[side, SIDE_TEMPERATURE])
        s1 = advanced(s)
        s2 = advanced(s1)
        s3 = advanced(s2)
        a, b = pair_of_normals(uniform(s1), uniform(s2))
        for d in ti.static(range(3)):
            out[d] = sides[side, SIDE_VELOCITY + d]
        speed = thermal * ti.sqrt(-2.0 * ti.log(uniform(s3)))
        out[axis] = ti.select(low == 1, speed, -speed)
        out[(axis + 1) % 3] += thermal * a
        out[(axis + 2) % 3] += thermal * b
        for d in ti.static(range(3, v.n)):
            out[d] = -sides[side, SIDE_TEMPERATURE] * ti.log(uniform(advanced(s3)))
    return out


@ti.func
def travelled(dim: Template, x, v, dt: Real, box: Array2, kinds: Array1, sides: Array2,
              clock: Array1, system: Int, place: Int):  # fmt: skip
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
                    s = stream(clock, system, 3 * bounce + d, place)
                    new = reflected(d, low, v, side, kinds, sides, s)
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
        k = ti.cast(ti.floor((x[d] - box[d, 0]) * box[d, 2]), ti.i32)
        cell = cell * n + ti.min(ti.max(k, 0), n - 1)
    return cell


@ti.func
def newcomer(dim: Template, columns: Template, k: Int, dt: Real, box: Array2,
             layers: Array2, shift, s):  # fmt: skip
    """Draw the ``k``-th particle of the reservoirs' layers; gone: it never comes in."""
    at = ti.Vector.zero(ti.f64, dim)
    speed = ti.Vector.zero(ti.f64, columns)
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
    s4 = advanced(s3)
    a, b = pair_of_normals(uniform(s1), uniform(s2))
    c, _d = pair_of_normals(uniform(s3), uniform(s4))
    thermal = ti.sqrt(layers[layer, 6])
    speed[0] = layers[layer, 7] + thermal * a
    speed[1] = layers[layer, 8] + thermal * b
    speed[2] = layers[layer, 9] + thermal * c
    for d in ti.static(range(3, columns)):
        speed[d] = -layers[layer, 6] * ti.log(uniform(advanced(s4)))
    # one that does not reach the box in this step has never been there
    for d in ti.static(range(dim)):
        ahead = at[d] + speed[d] * dt + ti.select(d == 0, shift, 0.0)
        if d == axis and (ahead < box[d, 0] or ahead >= box[d, 1]):
            gone = 1
    return at, speed, gone


@ti.func
def flown(dim: Template, columns: Template, e: Int, i: Int, alive: Int, x: Array3,
          v: Array3, dt: Real, box: Array2, kinds: Array1, sides: Array2, layers: Array2,
          clock: Array1, shift: Array1):  # fmt: skip
    """Where particle ``i`` is after the step; the reservoirs' newcomers follow the old."""
    at = ti.Vector.zero(ti.f64, dim)
    speed = ti.Vector.zero(ti.f64, columns)
    gone = 0
    if i < alive:
        for d in ti.static(range(dim)):
            at[d] = x[e, i, d]
        for d in ti.static(range(columns)):
            speed[d] = v[e, i, d]
    else:
        s = stream(clock, e, _NEWCOMER, i)
        at, speed, gone = newcomer(dim, columns, i - alive, dt, box, layers, shift[e], s)
    if gone == 0:
        at[0] += shift[e]
        at, speed, gone = travelled(dim, at, speed, dt, box, kinds, sides, clock, e, i)
    return at, speed, gone


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


@ti.func
def relaxed(v: Array3, e: Int, i: Int, j: Int, energy, law: Array1, s):
    """Share energy with the rotation of one of a pair (Larsen, Borgnakke); the rest.

    Both never relax in one collision. The share of the rotation, two degrees of freedom,
    is distributed as ``1 - u^(1/t)`` with ``law[4] = 1/t``, t = 5/2 - omega.
    """
    u = uniform(s)
    chosen = ti.select(u < law[3], i, j)
    if u < 2.0 * law[3]:
        energy += v[e, chosen, 3]
        share = 1.0 - uniform(advanced(s)) ** law[4]
        v[e, chosen, 3] = share * energy
        energy *= 1.0 - share
    return energy


@ti.func
def looked_up(square, sections: Array1, law: Array1):
    """Row of the table, the way to the next, and the rate ``sigma g`` of a pair."""
    e = (ti.log(ti.max(0.25 * square, 1e-30)) - law[0]) / law[1]
    e = ti.min(ti.max(e, 0.0), sections.shape[0] - 1.001)
    row = ti.cast(e, ti.i32)
    part = e - row
    q = sections[row] + (sections[row + 1] - sections[row]) * part
    return row, part, q * ti.sqrt(square)


@ti.func
def scattered(row, part, u, choice, angles: Array2):
    """Cosine of the deflection at a uniform ``b^2``, from the table."""
    row = ti.select(choice < part, row + 1, row)
    count = angles.shape[1]
    y = ti.max(u * count - 0.5, 0.0)
    k = ti.min(ti.cast(y, ti.i32), count - 2)
    share = ti.min(y - k, 1.0)
    return angles[row, k] + (angles[row, k + 1] - angles[row, k]) * share


@ti.func
def collided(
    kind: Template, columns: Template, e: Int, c: Int, v: Array3, starts: Array2,
    fastest: Array2, remainder: Array2, scale: Array1, sections: Array1, angles: Array2,
    law: Array1, clock: Array1,
):  # fmt: skip
    """Collide the pairs of one cell without time counter (Bird 1994, section 11.1)."""
    first = starts[e, c]
    n = starts[e, c + 1] - first
    hits = 0
    if n > 1:
        top = fastest[e, c]
        wanted = 0.5 * n * (n - 1) * top * scale[e] + remainder[e, c]
        pairs = ti.cast(ti.floor(wanted), ti.i32)
        remainder[e, c] = wanted - pairs
        s = stream(clock, e, _CELL, c)
        largest = top
        for _ in range(pairs):
            s = advanced(s)
            word = mixed(s)
            i = below(word >> ti.u64(32), n)
            j = below(word & ti.u64(0xFFFFFFFF), n - 1)
            j = first + ti.select(j >= i, j + 1, j)
            i += first
            g = ti.Vector.zero(ti.f64, 3)
            for d in ti.static(range(3)):
                g[d] = ti.cast(v[e, i, d], ti.f64) - ti.cast(v[e, j, d], ti.f64)
            square = g.norm_sqr()
            rate = 0.0
            row = 0
            part = 0.0
            if ti.static(kind == 0):
                rate = law[0] * square ** law[1]
            elif ti.static(kind == 2):
                rate = law[0] * ti.sqrt(square)
            else:
                row, part, rate = looked_up(square, sections, law)
            largest = ti.max(largest, rate)
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
                    s = advanced(s)
                    cos = scattered(row, part, uniform(s1), uniform(s), angles)
                speed = ti.sqrt(square)
                new = turned(g, speed, cos, 6.283185307179586 * uniform(s2))
                if ti.static(columns > 3):
                    s = advanced(s)
                    left = relaxed(v, e, i, j, 0.25 * square, law, s)
                    s = advanced(s)
                    new *= 2.0 * ti.sqrt(left) / ti.max(speed, 1e-300)
                for d in ti.static(range(3)):
                    change = 0.5 * (new[d] - g[d])
                    v[e, i, d] += change
                    v[e, j, d] -= change
        fastest[e, c] = largest
    return hits


@ti.func
def gathered(columns: Template, e: Int, c: Int, weight: Real, v: Array3, starts: Array2,
             sums: Array3):  # fmt: skip
    """Add the powers of the velocities in one cell to its sums."""
    total = ti.Vector.zero(ti.f64, 14 + 4 * (columns - 3))
    for i in range(starts[e, c], starts[e, c + 1]):
        w = ti.Vector.zero(ti.f64, 3)
        for d in ti.static(range(3)):
            w[d] = v[e, i, d]
        square = w.norm_sqr()
        total[0] += 1.0
        total[13] += square
        total[7] += w[0] * w[1]
        total[8] += w[0] * w[2]
        total[9] += w[1] * w[2]
        for d in ti.static(range(3)):
            total[1 + d] += w[d]
            total[4 + d] += w[d] * w[d]
            total[10 + d] += square * w[d]
        if ti.static(columns > 3):
            inner = ti.cast(v[e, i, columns - 1], ti.f64)
            total[14] += inner
            for d in ti.static(range(3)):
                total[15 + d] += inner * w[d]
    for k in ti.static(range(14 + 4 * (columns - 3))):
        sums[e, c, k] += weight * total[k]


@ti.kernel
def k_step(
    dim: Template, columns: Template, kind: Template, x: Array3, v: Array3, cells: Array2,
    histogram: Array3, starts: Array2, extra: Int, dt: Real, box: Array2, shape: Array1,
    kinds: Array1, sides: Array2, layers: Array2, clock: Array1, shift: Array1,
    scale: Array1, sections: Array1, angles: Array2, law: Array1, new_x: Array3,
    new_v: Array3, new_starts: Array2, fastest: Array2, remainder: Array2, counted: Array2,
    weight: Real, sums: Array3,
):  # fmt: skip
    """Move all particles and those that enter, sort them by cell, collide them.

    Args:
        dim: of space.
        columns: of ``v``: 3, or 4 with rotation.
        kind: 0: ``sigma g = law[0] (g^2)^law[1]``, ``cos chi = 2 u^law[2] - 1``; 1: tables
            over ``ln E``, E = g^2/4, that begin at ``law[0]`` with spacing ``law[1]``; 2:
            hard spheres, ``sigma = law[0]``.
        x: positions; from ``starts[system, cells]`` on there are none.
        v: velocities.
        cells: scratch, ``[systems, capacity]``.
        histogram: scratch, ``[systems, CHUNKS, cells + 1]``.
        starts: first particle of each cell.
        extra: newcomers that are drawn from the layers before the faces.
        dt: time step.
        box: ``[dim, 3]`` lower and upper end, cells in a unit of length.
        shape: cells along each axis.
        kinds: of the sides.
        sides: what the walls are like.
        layers: ``[n, 10]``: face axis, low end, high end, share of the last one that is
            there, first newcomer, last newcomer, temperature and velocity of the gas.
        clock: seed, step.
        shift: by which each system is moved along x.
        scale: time step over volume of a cell and particles in a unit of mass.
        sections: ``[energies]`` total cross section.
        angles: ``[energies, impact]`` cos chi at equally spaced ``b^2``.
        law: see ``kind``; ``law[3]`` probability that the rotation of a partner takes part.
        new_x: positions, sorted.
        new_v: velocities.
        new_starts: first particle of each cell.
        fastest: ``[systems, cells]`` largest ``sigma g`` met, updated.
        remainder: ``[systems, cells]`` part of a pair that is carried over, updated.
        counted: ``[systems, cells]`` collisions, added to.
        weight: of what is summed before and after the collisions; 0: nothing is.
        sums: see :func:`k_sample`. Stress and heat flux fall in collisions by a step over
            the relaxation time; their mean is that in the middle.
    """
    for q in range(x.shape[0] * CHUNKS):
        e = q // CHUNKS
        chunk = q % CHUNKS
        total = fastest.shape[1]
        for c in range(total + 1):
            histogram[e, chunk, c] = 0
        alive = starts[e, total]
        n = alive + extra
        begin = ti.cast(ti.cast(n, ti.i64) * chunk // CHUNKS, ti.i32)
        end = ti.cast(ti.cast(n, ti.i64) * (chunk + 1) // CHUNKS, ti.i32)
        for i in range(begin, end):
            at, _speed, gone = flown(
                dim, columns, e, i, alive, x, v, dt, box, kinds, sides, layers, clock, shift
            )
            cell = total
            if gone == 0:
                cell = cell_of(dim, at, box, shape)
            cells[e, i] = cell
            histogram[e, chunk, cell] += 1
    for e in range(x.shape[0]):
        # counts become the first place of every (cell, chunk)
        place = 0
        for c in range(fastest.shape[1] + 1):
            new_starts[e, c] = place
            for chunk in range(CHUNKS):
                count = histogram[e, chunk, c]
                histogram[e, chunk, c] = place
                place += count
        new_starts[e, fastest.shape[1] + 1] = place
    for q in range(x.shape[0] * CHUNKS):
        e = q // CHUNKS
        chunk = q % CHUNKS
        total = fastest.shape[1]
        alive = starts[e, total]
        n = alive + extra
        begin = ti.cast(ti.cast(n, ti.i64) * chunk // CHUNKS, ti.i32)
        end = ti.cast(ti.cast(n, ti.i64) * (chunk + 1) // CHUNKS, ti.i32)
        for i in range(begin, end):
            cell = cells[e, i]
            if cell < total:
                at, speed, _gone = flown(
                    dim, columns, e, i, alive, x, v, dt, box, kinds, sides, layers, clock,
                    shift,
                )  # fmt: skip
                place = histogram[e, chunk, cell]
                histogram[e, chunk, cell] = place + 1
                for d in ti.static(range(dim)):
                    new_x[e, place, d] = at[d]
                for d in ti.static(range(columns)):
                    new_v[e, place, d] = speed[d]
    for q in range(fastest.shape[0] * fastest.shape[1]):
        e = q // fastest.shape[1]
        c = q % fastest.shape[1]
        if weight > 0.0:
            gathered(columns, e, c, weight, new_v, new_starts, sums)
        counted[e, c] += collided(
            kind, columns, e, c, new_v, new_starts, fastest, remainder, scale, sections,
            angles, law, clock,
        )  # fmt: skip
        if weight > 0.0:
            gathered(columns, e, c, weight, new_v, new_starts, sums)


@ti.kernel
def k_sample(columns: Template, v: Array3, starts: Array2, sums: Array3):
    """Add to ``sums [systems, cells, 14 (18)]``.

    1, v, v v (xx yy zz xy xz yz), |v|^2 v, |v|^2; with rotation its energy e, and e v.
    """
    for q in range(sums.shape[0] * sums.shape[1]):
        gathered(columns, q // sums.shape[1], q % sums.shape[1], 1.0, v, starts, sums)
