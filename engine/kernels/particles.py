"""Direct simulation Monte Carlo: move, sort by cell, collide, sample.

Every result is a pure function of the state: random numbers are drawn from counters (seed,
step, system, and the particle's place or the cell), and the sort is stable in a fixed
number of chunks, so that neither the number of threads nor an interruption changes a bit.

Layout: positions ``[systems, capacity, dim]`` (f32) and velocities ``[systems, capacity,
columns]`` sorted by cell; ``starts [systems, cells + 2]`` gives the first particle of every
cell, then of the departed. The kernels see them flat, since the compiler looks up a shape
anew after every store: ``p = system capacity + place`` is the row of a particle. After
the three components of the velocity come, where there is one, the number of the species,
and the rotational energy over the mass.

A step does not keep the moved particles between its two passes: the first finds the cells
to count them, the second makes the same flight again and puts the particle in its place,
which costs less than to write and read it. Most fly straight, and
``cells`` tells who has to look for what it meets.
"""

from .flight import (
    COLUMNS,
    MASS,
    ROTATES,
    ROTATION,
    SPECIES,
    TURNING,
    advanced,
    below,
    entered,
    halves,
    mixed,
    pair_of_normals,
    stream,
    threaded,
    travelled,
    uniform,
)
from .types import (
    LEAST,
    Array1,
    Array2,
    Array3,
    Array4,
    Int,
    Key,
    Real,
    Template,
    ti,
    turns,
)

CHUNKS = 16
"""Pieces of the sort, and so the most threads that it can use."""

LAYER_AXIS, LAYER_LOW, LAYER_HIGH, LAYER_SHARE, LAYER_FIRST, LAYER_LAST = 0, 1, 2, 3, 4, 5
LAYER_TEMPERATURE, LAYER_VELOCITY, LAYER_SPECIES, LAYER_OWNER, LAYER_SIDE = 6, 7, 10, 11, 12
LAYER_BOX, LAYER_COLUMNS = 13, 19
"""Columns of ``layers``: face axis, low end, high end, share of the last newcomer that is
there, first newcomer, last newcomer, temperature over the mass, velocity (3), species, the
boundary that it belongs to, its side, lower and upper ends along all axes (6)."""

LOCAL_ROOM, LOCAL_FORCE, LOCAL_COLUMNS = 0, 1, 4
"""Columns of ``local``: volume of a cell over what of it is gas; acceleration (3)."""

POWER_LAW, TABLE, HARD_SPHERES = 0, 1, 2
"""How molecules collide; see :func:`k_step`."""

LAW_PROBABILITY, LAW_SHARE, LAW_COLUMNS = 3, 4, 5
"""Columns of ``law`` after those of the kind: probability that the rotation of the first of
a pair takes part, and 1/t of :func:`relaxed`."""

SUMMED = (14, 18, 14, 18)
"""Powers of the velocities that :func:`k_sample` sums, by what the velocities hold."""

_NEWCOMER, _CELL, _NEAR = 60, 61, 62
"""Streams of random numbers besides those of the bounces, which are ``3 bounce + axis``, or
the number of the event."""


@ti.func
def ends_of(dim: Template, box: Array2):
    """The rows of ``box`` as numbers that a loop over particles keeps at hand."""
    out = ti.Matrix.zero(ti.f64, ti.static(dim), 4)
    for d in ti.static(range(dim)):
        for k in ti.static(range(4)):
            out[d, k] = box[d, k]
    return out


@ti.func
def cell_of(dim: Template, x, box):
    """Index of the cell that holds ``x``."""
    cell = 0
    for d in ti.static(range(dim)):
        n = ti.cast(box[d, 3], ti.i32)
        k = ti.cast(ti.floor((x[d] - box[d, 0]) * box[d, 2]), ti.i32)
        cell = cell * n + ti.min(ti.max(k, 0), n - 1)
    return cell


@ti.func
def molecule_of(inner: Template, v, species: Array2):
    """Mass of a molecule over the mean mass of the gas, and whether it rotates."""
    molecule = ti.Vector([1.0, 1.0], ti.f64)
    if ti.static(inner & SPECIES):
        kind = ti.cast(v[3], ti.i32)
        molecule[MASS] = species[kind, MASS]
        molecule[ROTATES] = species[kind, ROTATES]
    return molecule


@ti.func
def layer_of(k: Int, layers: Array2):
    """The layer of the ``k``-th newcomer."""
    layer = 0
    for q in range(layers.shape[0]):
        layer = ti.select(k >= layers[q, LAYER_FIRST], q, layer)
    return layer


@ti.func
def newcomer(dim: Template, inner: Template, k: Int, layer: Int, dt: Real, box,
             layers: Array2, species: Array2, shift, s):  # fmt: skip
    """Draw the ``k``-th particle of the reservoirs' layers; gone: it never comes in."""
    at = ti.Vector.zero(ti.f64, dim)
    speed = ti.Vector.zero(ti.f64, ti.static(COLUMNS[inner]))
    axis = ti.cast(layers[layer, LAYER_AXIS], ti.i32)
    s = advanced(s)
    newest = k == ti.cast(layers[layer, LAYER_LAST], ti.i32)
    gone = ti.select(newest and uniform(s) >= layers[layer, LAYER_SHARE], 1, 0)
    for d in ti.static(range(dim)):
        s = advanced(s)
        low = layers[layer, LAYER_BOX + d]
        high = layers[layer, LAYER_BOX + 3 + d]
        at[d] = low + (high - low) * uniform(s)
    s1 = advanced(s)
    s2 = advanced(s1)
    s3 = advanced(s2)
    s4 = advanced(s3)
    thermal = ti.sqrt(layers[layer, LAYER_TEMPERATURE])
    # most are too far away for any angle of their pair of normals, -2 ln u < (gap / thermal
    # dt)^2, which is seen without a logarithm: exp(y) > 1 + y + y^2/2 + y^3/6
    u = uniform(ti.select(axis == 2, s3, s1))
    for d in ti.static(range(dim)):
        if d == axis:
            ahead = at[d] + layers[layer, LAYER_VELOCITY + d] * dt
            ahead += ti.select(d == 0, shift, 0.0)
            gap = ti.max(0.0, box[d, 0] - ahead, ahead - box[d, 1]) / (thermal * dt)
            y = 0.5 * gap * gap
            if u * (1.0 + y * (1.0 + y * (0.5 + y / 6.0))) > 1.0:
                gone = 1
    if gone == 0:
        a, b = pair_of_normals(uniform(s1), uniform(s2))
        c, _d = pair_of_normals(uniform(s3), uniform(s4))
        speed[0] = layers[layer, LAYER_VELOCITY] + thermal * a
        speed[1] = layers[layer, LAYER_VELOCITY + 1] + thermal * b
        speed[2] = layers[layer, LAYER_VELOCITY + 2] + thermal * c
        if ti.static(inner & SPECIES):
            speed[3] = layers[layer, LAYER_SPECIES]
        if ti.static(inner & ROTATION):
            energy = -layers[layer, LAYER_TEMPERATURE] * ti.log(uniform(advanced(s4)))
            speed[TURNING[inner]] = energy * molecule_of(inner, speed, species)[ROTATES]
        # one that does not reach the box in this step has never been there
        for d in ti.static(range(dim)):
            ahead = at[d] + speed[d] * dt + ti.select(d == 0, shift, 0.0)
            if d == axis and (ahead < box[d, 0] or ahead >= box[d, 1]):
                gone = 1
    return at, speed, gone


@ti.func
def kicked(v, time, cell: Int, local: Array2):
    """Velocity after a time in the force field of a cell."""
    out = v
    for d in ti.static(range(3)):
        out[d] += time * local[cell, LOCAL_FORCE + d]
    return out


@ti.func
def flown(
    dim: Template, inner: Template, events: Template, forced: Template, counted: Template,
    e: Int, chunk: Int, i: Int, p: Int, alive: Int, x: Array1, v: Array1, dt: Real, box,
    sides: Array2, layers: Array2, key, shift, species: Array2, local: Array2,
    surfaces: Array2, bodies: Array2, loads: Array4,
):  # fmt: skip
    """Where particle ``i`` of a system is after the step; newcomers follow the old ones.

    A force gives half of its kick before the flight and half after it.
    """
    at = ti.Vector.zero(ti.f64, dim)
    speed = ti.Vector.zero(ti.f64, ti.static(COLUMNS[inner]))
    left = dt
    gone = 0
    if i < alive:
        for d in ti.static(range(dim)):
            at[d] = x[p * dim + d]
        for d in ti.static(range(COLUMNS[inner])):
            speed[d] = v[p * COLUMNS[inner] + d]
        at[0] += shift
    else:
        s = stream(key, e, _NEWCOMER, i)
        layer = layer_of(i - alive, layers)
        at, speed, gone = newcomer(
            dim, inner, i - alive, layer, dt, box, layers, species, shift, s
        )
        at[0] += shift
        if ti.static(dim > 1 or events):
            if gone == 0:
                side = ti.cast(layers[layer, LAYER_SIDE], ti.i32)
                owner = layers[layer, LAYER_OWNER]
                face, turned_back, rest, beside = entered(
                    dim, events, at, speed, dt, side, owner, box, sides, surfaces, bodies
                )
                gone = beside
                if ti.static(events):
                    at = face
                    speed = turned_back
                    left = rest
    if gone == 0:
        molecule = molecule_of(inner, speed, species)
        if ti.static(forced):
            speed = kicked(speed, 0.5 * dt, cell_of(dim, at, box), local)
        if ti.static(events):
            at, speed, gone = threaded(
                dim, inner, counted, at, speed, molecule, left, box, sides, surfaces,
                bodies, key, e, chunk, i, loads,
            )  # fmt: skip
        else:
            at, speed, gone = travelled(
                dim, inner, at, speed, molecule, left, box, sides, key, e, i
            )
        if ti.static(forced):
            speed = kicked(speed, 0.5 * dt, cell_of(dim, at, box), local)
    return at, speed, gone


@ti.func
def straight(dim: Template, inner: Template, p: Int, x: Array1, v: Array1, dt: Real, box,
             shift):  # fmt: skip
    """Where a particle flies that meets nothing, and whether that is in the box."""
    at = ti.Vector.zero(ti.f64, dim)
    speed = ti.Vector.zero(ti.f64, ti.static(COLUMNS[inner]))
    inside = 1
    for d in ti.static(range(COLUMNS[inner])):
        speed[d] = v[p * COLUMNS[inner] + d]
    for d in ti.static(range(dim)):
        at[d] = x[p * dim + d] + (shift if ti.static(d == 0) else 0.0)
        at[d] += speed[d] * dt
        if at[d] < box[d, 0] or at[d] >= box[d, 1]:
            inside = 0
    return at, speed, inside


@ti.func
def put(dim: Template, inner: Template, at, speed, row: Int, slot: Int, histogram: Array1,
        new_x: Array1, new_v: Array1):  # fmt: skip
    """Write a particle to the next place of its cell."""
    place = histogram[slot]
    histogram[slot] = place + 1
    to = row + place
    for d in ti.static(range(dim)):
        new_x[to * dim + d] = at[d]
    for d in ti.static(range(COLUMNS[inner])):
        new_v[to * COLUMNS[inner] + d] = speed[d]


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
def any_way(s):
    """A direction without preference (G. Marsaglia, Ann. Math. Stat. 43, 645, 1972)."""
    a = 0.0
    b = 0.0
    square = 2.0
    while square >= 1.0:
        s = advanced(s)
        word = mixed(s)
        a = halves(word >> ti.u64(32))
        b = halves(word & ti.u64(0xFFFFFFFF))
        square = a * a + b * b
    root = 2.0 * ti.sqrt(1.0 - square)
    return ti.Vector([a * root, b * root, 1.0 - 2.0 * square], ti.f64), s


@ti.func
def relaxed(inner: Template, v: Array1, i: Int, j: Int, mass, other, energy,
            first, second, power, s):  # fmt: skip
    """Share energy with the rotation of one of a pair (Larsen, Borgnakke); the rest.

    That of the first or of the second takes part with the probabilities ``first`` and
    ``second``, never both in one collision. Its share, of two degrees of freedom, is
    distributed as ``1 - u^(1/t)`` with ``power = 1/t``, t = 5/2 - omega of the pair.
    """
    u = uniform(s)
    at = ti.select(u < first, i, j) * COLUMNS[inner] + TURNING[inner]
    heavy = ti.select(u < first, mass, other)
    if u < first + second:
        energy += heavy * v[at]
        share = 1.0 - uniform(advanced(s)) ** power
        v[at] = share * energy / heavy
        energy *= 1.0 - share
    return energy


@ti.func
def looked_up(pair: Int, energy, sections: Array2, law: Array2):
    """Row of a pair's table, the way to the next, and the cross section."""
    e = (ti.log(ti.max(energy, 1e-30)) - law[pair, 0]) / law[pair, 1]
    e = ti.min(ti.max(e, 0.0), sections.shape[1] - 1.001)
    row = ti.cast(e, ti.i32)
    part = e - row
    low = sections[pair, row]
    return row, part, low + (sections[pair, row + 1] - low) * part


@ti.func
def scattered(pair: Int, row, part, u, choice, angles: Array3):
    """Cosine of the deflection at a uniform ``b^2``, from the table of a pair."""
    row = ti.select(choice < part, row + 1, row)
    count = angles.shape[2]
    y = ti.max(u * count - 0.5, 0.0)
    k = ti.min(ti.cast(y, ti.i32), count - 2)
    share = ti.min(y - k, 1.0)
    low = angles[pair, row, k]
    return low + (angles[pair, row, k + 1] - low) * share


@ti.func
def nearest(dim: Template, i: Int, j: Int, first: Int, n: Int, near: Int, x: Array1, s):
    """The nearest to ``i`` of a partner ``j`` and more that are drawn, ``near`` in all.

    Of a cell with few particles at most half are looked at, lest pairs meet again.
    """
    found = j
    least = 0.0
    for d in ti.static(range(dim)):
        least += (x[i * dim + d] - x[j * dim + d]) ** 2
    for _ in range(ti.min(near, n // 2) - 1):
        s = advanced(s)
        k = first + below(mixed(s) >> ti.u64(32), n - 1)
        k = ti.select(k >= i, k + 1, k)
        off = 0.0
        for d in ti.static(range(dim)):
            off += (x[i * dim + d] - x[k * dim + d]) ** 2
        if off < least:
            least = off
            found = k
    return found


@ti.func
def collided(
    dim: Template, kind: Template, inner: Template, events: Template, near: Int, e: Int,
    c: Int, row: Int, x: Array1, v: Array1, starts: Array2, fastest: Array2,
    remainder: Array2, scale: Array1, sections: Array2, angles: Array3, law: Array2,
    species: Array2, local: Array2, key,
):  # fmt: skip
    """Collide the pairs of one cell without time counter (Bird 1994, section 11.1)."""
    n = starts[e, c + 1] - starts[e, c]
    first = row + starts[e, c]
    hits = 0
    if n > 1:
        top = fastest[e, c]
        wanted = 0.5 * n * (n - 1) * top * scale[e]
        if ti.static(events):
            wanted *= local[c, LOCAL_ROOM]
        wanted += remainder[e, c]
        pairs = ti.cast(ti.floor(wanted), ti.i32)
        remainder[e, c] = wanted - pairs
        s = stream(key, e, _CELL, c)
        largest = top
        section = law[0, 0]
        for _ in range(pairs):
            s = advanced(s)
            word = mixed(s)
            i = below(word >> ti.u64(32), n)
            j = below(word & ti.u64(0xFFFFFFFF), n - 1)
            j = first + ti.select(j >= i, j + 1, j)
            i += first
            if near > 1:
                j = nearest(dim, i, j, first, n, near, x, stream(s, e, _NEAR, c))
            own = i * COLUMNS[inner]
            its = j * COLUMNS[inner]
            g = ti.Vector.zero(ti.f64, 3)
            for d in ti.static(range(3)):
                g[d] = ti.cast(v[own + d], ti.f64) - ti.cast(v[its + d], ti.f64)
            square = g.norm_sqr()
            pair = 0
            turned_pair = 0
            mass = 1.0
            other = 1.0
            if ti.static(inner & SPECIES):
                a = ti.cast(v[own + 3], ti.i32)
                b = ti.cast(v[its + 3], ti.i32)
                pair = a * species.shape[0] + b
                turned_pair = b * species.shape[0] + a
                mass = species[a, MASS]
                other = species[b, MASS]
            reduced = mass * other / (mass + other)
            energy = 0.5 * reduced * square
            rate = 0.0
            row = 0
            part = 0.0
            if ti.static(kind == POWER_LAW):
                rate = law[pair, 0] * square ** law[pair, 1]
            elif ti.static(kind == HARD_SPHERES):
                rate = section * ti.sqrt(square)
            else:
                row, part, section = looked_up(pair, energy, sections, law)
                rate = section * ti.sqrt(square)
            largest = ti.max(largest, rate)
            s = advanced(s)
            if uniform(s) * top < rate:
                hits += 1
                speed = ti.sqrt(square)
                new = ti.Vector.zero(ti.f64, 3)
                if ti.static(kind == HARD_SPHERES):
                    new, s = any_way(s)
                    new *= speed
                else:
                    s1 = advanced(s)
                    s2 = advanced(s1)
                    s = s2
                    cos = 0.0
                    if ti.static(kind == POWER_LAW):
                        cos = 2.0 * uniform(s1) ** law[pair, 2] - 1.0
                    else:
                        s = advanced(s)
                        cos = scattered(pair, row, part, uniform(s1), uniform(s), angles)
                    new = turned(g, speed, cos, 6.283185307179586 * uniform(s2))
                if ti.static(inner & ROTATION):
                    s = advanced(s)
                    left = relaxed(
                        inner, v, i, j, mass, other, energy,
                        law[pair, LAW_PROBABILITY], law[turned_pair, LAW_PROBABILITY],
                        law[pair, LAW_SHARE], s,
                    )  # fmt: skip
                    s = advanced(s)
                    new *= ti.sqrt(2.0 * left / reduced) / ti.max(speed, 1e-300)
                for d in ti.static(range(3)):
                    change = (new[d] - g[d]) / (mass + other)
                    v[own + d] += other * change
                    v[its + d] -= mass * change
        fastest[e, c] = largest
    return hits


@ti.func
def powers(inner: Template, at: Int, v: Array1):
    """What the particle at ``v[at]`` adds to the sums of its cell; see :func:`k_sample`."""
    found = ti.Vector.zero(ti.f64, ti.static(SUMMED[inner]))
    w = ti.Vector.zero(ti.f64, 3)
    for d in ti.static(range(3)):
        w[d] = v[at + d]
    square = w.norm_sqr()
    found[0] = 1.0
    found[13] = square
    found[7] = w[0] * w[1]
    found[8] = w[0] * w[2]
    found[9] = w[1] * w[2]
    for d in ti.static(range(3)):
        found[1 + d] = w[d]
        found[4 + d] = w[d] * w[d]
        found[10 + d] = square * w[d]
    if ti.static(inner & ROTATION):
        rotation = ti.cast(v[at + TURNING[inner]], ti.f64)
        found[14] = rotation
        for d in ti.static(range(3)):
            found[15 + d] = rotation * w[d]
    return found


@ti.func
def gathered(inner: Template, e: Int, c: Int, row: Int, weight: Real, v: Array1,
             starts: Array2, sums: Array3):  # fmt: skip
    """Add the powers of the velocities in one cell to its sums, species by species."""
    total = ti.Vector.zero(ti.f64, ti.static(SUMMED[inner]))
    for i in range(row + starts[e, c], row + starts[e, c + 1]):
        at = i * COLUMNS[inner]
        if ti.static(inner & SPECIES):
            more = powers(inner, at, v)
            first = SUMMED[inner] * ti.cast(v[at + 3], ti.i32)
            for k in ti.static(range(SUMMED[inner])):
                sums[e, c, first + k] += weight * more[k]
        else:
            total += powers(inner, at, v)
    if ti.static(not inner & SPECIES):
        for k in ti.static(range(SUMMED[inner])):
            sums[e, c, k] += weight * total[k]


@ti.func
def part_of(n, chunk: Int):
    """First and last of ``n`` that a chunk has."""
    begin = ti.cast(ti.cast(n, ti.i64) * chunk // CHUNKS, ti.i32)
    end = ti.cast(ti.cast(n, ti.i64) * (chunk + 1) // CHUNKS, ti.i32)
    return begin, end


@ti.func
def emptied(dim: Template, inner: Template, first: Int, last: Int, chunk: Int, x: Array1,
            v: Array1):  # fmt: skip
    """Zero a chunk of the free places: checkpoints hold no leftovers of the memory."""
    begin, end = part_of(last - first, chunk)
    for i in range(first + begin, first + end):
        for d in ti.static(range(dim)):
            x[i * dim + d] = 0.0
        for d in ti.static(range(COLUMNS[inner])):
            v[i * COLUMNS[inner] + d] = 0.0


@ti.kernel
def k_step(
    serial: Template, single: Template, dim: Template, inner: Template, kind: Template,
    events: Template, forced: Template, near: Int, x: Array1, v: Array1, cells: Array1,
    histogram: Array1, starts: Array2, extra: Int, dt: Real, box: Array2, sides: Array2,
    layers: Array2, key: Key, shift: Array1, scale: Array1, sections: Array2,
    angles: Array3, law: Array2, species: Array2, local: Array2, surfaces: Array2,
    bodies: Array2, loads: Array4,
    new_x: Array1, new_v: Array1, new_starts: Array2, fastest: Array2, remainder: Array2,
    counted: Array2, weight: Real, sums: Array3,
):  # fmt: skip
    """Move all particles and those that enter, sort them by cell, collide them.

    Args:
        serial: whether on the calling thread alone; the same to the last bit.
        single: whether there is one system alone, of which one thread sums the counts.
        dim: of space.
        inner: what ``v`` holds after the velocity.
        kind: POWER_LAW: ``sigma g = law[0] (g^2)^law[1]``, ``cos chi = 2 u^law[2] - 1``;
            TABLE: tables over ``ln E``, E = m g^2/2 with the reduced mass m, that begin at
            ``law[0]`` with spacing ``law[1]``; HARD_SPHERES: ``sigma = law[0]``.
        events: whether particles fly from event to event, among solids or parts of faces.
        forced: whether there is a force.
        near: partners that are drawn for a collision; the nearest one is taken.
        x: positions; from ``starts[system, cells]`` on there are none.
        v: velocities.
        cells: scratch, ``systems capacity``: the new cell, or -1 minus it where the flight
            is not straight.
        histogram: scratch, ``systems CHUNKS (cells + 1)``.
        starts: first particle of each cell.
        extra: newcomers that are drawn from the layers before the faces.
        dt: time step.
        box: ``[dim, 4]`` lower and upper end, cells in a unit of length, cells.
        sides: see :mod:`.flight`.
        layers: of the reservoirs, see LAYER_AXIS.
        key: of the random numbers, :func:`.flight.key_of`.
        shift: by which each system is moved along x.
        scale: time step over volume of a cell and particles in a unit of mass.
        sections: ``[pairs, energies]`` total cross section; a pair has the number of its
            first species times all species, plus that of its second.
        angles: ``[pairs, energies, impact]`` cos chi at equally spaced ``b^2``.
        law: ``[pairs, 5]``, see ``kind`` and LAW_PROBABILITY.
        species: ``[species, 2]``, see :data:`.flight.MASS`.
        local: of each cell, see LOCAL_ROOM.
        surfaces: of solids, see :mod:`.flight`.
        bodies: of solids.
        loads: ``[systems, CHUNKS, solids, 4]`` momentum and energy that solids get.
        new_x: positions, sorted; 0 beyond the last particle, as is ``new_v``.
        new_v: velocities.
        new_starts: first particle of each cell.
        fastest: ``[systems, cells]`` largest ``sigma g`` met, updated.
        remainder: ``[systems, cells]`` part of a pair that is carried over, updated.
        counted: ``[systems, cells]`` collisions, added to.
        weight: of what is summed before and after the collisions; 0: nothing is.
        sums: see :func:`k_sample`. Stress and heat flux fall in collisions by a step over
            the relaxation time; their mean is that in the middle.
    """
    if ti.static(serial):
        ti.loop_config(serialize=True)
    for q, spare in ti.ndrange(
        starts.shape[0] * CHUNKS, ti.static(1 if serial else turns(LEAST))
    ):
        if spare > 0:
            continue
        e = q // CHUNKS
        chunk = q % CHUNKS
        total = fastest.shape[1]
        row = e * (cells.shape[0] // starts.shape[0])
        counts = q * (total + 1)
        for c in range(total + 1):
            histogram[counts + c] = 0
        if ti.static(events):
            for k in range(loads.shape[2]):
                for d in ti.static(range(4)):
                    loads[e, chunk, k, d] = 0.0
        alive = starts[e, total]
        ends = ends_of(dim, box)
        moved = shift[e]
        begin, end = part_of(alive + extra, chunk)
        for i in range(begin, end):
            cell = total
            free = 0
            if ti.static(not (events or forced)):
                if i < alive:
                    at, _speed, free = straight(dim, inner, row + i, x, v, dt, ends, moved)
                    cell = cell_of(dim, at, ends)
            if free == 0:
                at, _speed, gone = flown(
                    dim, inner, events, forced, True, e, chunk, i, row + i, alive, x, v,
                    dt, ends, sides, layers, key, moved, species, local, surfaces, bodies,
                    loads,
                )  # fmt: skip
                cell = ti.select(gone == 0, cell_of(dim, at, ends), total)
            cells[row + i] = ti.select(free == 1, cell, -1 - cell)
            histogram[counts + cell] += 1
    if ti.static(serial or single):
        ti.loop_config(serialize=True)
    for e in range(starts.shape[0]):
        # counts become the first place of every (cell, chunk)
        place = 0
        for c in range(fastest.shape[1] + 1):
            new_starts[e, c] = place
            for chunk in range(CHUNKS):
                at = (e * CHUNKS + chunk) * (fastest.shape[1] + 1) + c
                count = histogram[at]
                histogram[at] = place
                place += count
        new_starts[e, fastest.shape[1] + 1] = place
    if ti.static(serial):
        ti.loop_config(serialize=True)
    for q, spare in ti.ndrange(
        starts.shape[0] * CHUNKS, ti.static(1 if serial else turns(LEAST))
    ):
        if spare > 0:
            continue
        e = q // CHUNKS
        chunk = q % CHUNKS
        total = fastest.shape[1]
        row = e * (cells.shape[0] // starts.shape[0])
        counts = q * (total + 1)
        alive = starts[e, total]
        ends = ends_of(dim, box)
        moved = shift[e]
        begin, end = part_of(alive + extra, chunk)
        for i in range(begin, end):
            cell = cells[row + i]
            if cell >= 0:
                at, speed, _free = straight(dim, inner, row + i, x, v, dt, ends, moved)
                slot = counts + cell
                put(dim, inner, at, speed, row, slot, histogram, new_x, new_v)
            elif -1 - cell < total:
                at, speed, _gone = flown(
                    dim, inner, events, forced, False, e, chunk, i, row + i, alive, x, v,
                    dt, ends, sides, layers, key, moved, species, local, surfaces, bodies,
                    loads,
                )  # fmt: skip
                slot = counts - 1 - cell
                put(dim, inner, at, speed, row, slot, histogram, new_x, new_v)
        first = row + new_starts[e, total]
        last = row + cells.shape[0] // starts.shape[0]
        emptied(dim, inner, first, last, chunk, new_x, new_v)
    if ti.static(serial):
        ti.loop_config(serialize=True)
    for q, spare in ti.ndrange(
        fastest.shape[0] * fastest.shape[1], ti.static(1 if serial else turns())
    ):
        if spare > 0:
            continue
        e = q // fastest.shape[1]
        c = q % fastest.shape[1]
        row = e * (cells.shape[0] // starts.shape[0])
        if weight > 0.0:
            gathered(inner, e, c, row, weight, new_v, new_starts, sums)
        counted[e, c] += collided(
            dim, kind, inner, events, near, e, c, row, new_x, new_v, new_starts, fastest,
            remainder, scale, sections, angles, law, species, local, key,
        )  # fmt: skip
        if weight > 0.0:
            gathered(inner, e, c, row, weight, new_v, new_starts, sums)


@ti.kernel
def k_sample(inner: Template, v: Array1, starts: Array2, sums: Array3):
    """Add to ``sums [systems, cells, 14 (18)]``, in a mixture so many for every species.

    1, v, v v (xx yy zz xy xz yz), |v|^2 v, |v|^2; with rotation its energy e, and e v.
    """
    for q in range(sums.shape[0] * sums.shape[1]):
        e = q // sums.shape[1]
        row = e * (v.shape[0] // COLUMNS[inner] // sums.shape[0])
        gathered(inner, e, q % sums.shape[1], row, 1.0, v, starts, sums)
