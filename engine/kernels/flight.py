"""Flight of simulated molecules: faces of the box, walls, solids, and random numbers.

Where nothing but whole faces stands in the way (:func:`travelled`) a particle flies through
the step and is then put back from beyond the faces. Among solids, and where a face has
parts (:func:`threaded`), it flies from one event to the next and meets every surface where
it is. A solid is a body of surfaces: what is convex is bounded by planes and round mantles,
a polygon by its edges. A particle meets a surface from outside only, and rounding of its
place to f32 may put it inside by no more than the ``slack`` of the body.
"""

from .types import Array2, Array4, Int, Real, Template, ti

PERIODIC, RESERVOIR, SPECULAR, DIFFUSE = 0, 1, 2, 3
"""What stands at a face."""

SIDE_KIND, SIDE_TEMPERATURE, SIDE_VELOCITY, SIDE_ACCOMMODATION = 0, 1, 2, 5
SIDE_OWNER, SIDE_CELLS, SIDE_COLUMNS = 6, 7, 8
"""Columns of ``sides``, a row for each end of each axis: kind, wall, which of the
boundaries it is, and the first of the rows that the face's cells have, or -1."""

NOTHING, ROTATION, SPECIES, BOTH = 0, 1, 2, 3
"""What the velocities hold besides: the species, and last the rotational energy over the
mass."""

COLUMNS, TURNING = (3, 4, 4, 5), (-1, 3, -1, 4)
"""Of each of these: columns of the velocities, and which of them the rotation has."""

MASS, ROTATES, SPECIES_COLUMNS = 0, 1, 2
"""Columns of ``species``, and the molecule that a flight is told of: mass over the mean, 1
where it rotates."""

PLANE, ROUND, EDGE = 0, 1, 2
"""Kinds of surfaces: a plane, the mantle of a ball or a cylinder, an edge of a polygon."""

SURFACE_AXIS, SURFACE_POINT, SURFACE_OFFSET, SURFACE_LENGTH, SURFACE_COLUMNS = 1, 4, 7, 8, 9
"""Columns of ``surfaces`` after the kind: normal, or 1 for the axes that are round; centre,
or first corner; distance from the origin, or radius; length of an edge."""

BODY_FIRST, BODY_LAST, BODY_SOLID, BODY_LOWER, BODY_UPPER = 0, 1, 2, 3, 6
BODY_WALL, BODY_NODES, BODY_SLACK, BODY_COLUMNS = 9, 14, 15, 16
"""Columns of ``bodies``: first surface, the one after the last, number of the solid, the
box around it; temperature, velocity (3) and accommodation of its wall; the first of the
rows of ``sides`` that the nodes of the grid have where the wall varies, or -1."""

BOUNCES = 8
EVENTS = 48
NEVER = 1e300


def _mixed(z: int) -> int:
    z &= 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return z ^ (z >> 31)


def key_of(seed: int, step: int) -> int:
    """Return the key of the random numbers of one step."""
    golden = 0x9E3779B97F4A7C15
    return _mixed(_mixed(seed + golden) + step * golden)


@ti.func
def mixed(z):
    """Finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    z = (z ^ (z >> ti.u64(30))) * ti.u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> ti.u64(27))) * ti.u64(0x94D049BB133111EB)
    return z ^ (z >> ti.u64(31))


@ti.func
def stream(key, system, use, place):
    """First state of the random numbers of one use in one place in one step."""
    where = (ti.cast(system, ti.u64) << ti.u64(40)) + (ti.cast(use, ti.u64) << ti.u64(32))
    return mixed(key + (where + ti.cast(place, ti.u64)) * ti.u64(0xD1B54A32D192ED03))


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
def halves(word):
    """Uniform in (-1, 1), from 32 random bits."""
    return (ti.cast(word, ti.f64) + 0.5) * 4.656612873077393e-10 - 1.0


@ti.func
def pair_of_normals(u, v):
    """Two standard normals (Box and Muller)."""
    r = ti.sqrt(-2.0 * ti.log(u))
    a = 6.283185307179586 * v
    return r * ti.cos(a), r * ti.sin(a)


# -- whole faces ---------------------------------------------------------------------------


@ti.func
def reflected(axis: Template, inner: Template, low: Int, v: Template, molecule, side: Int,
              sides: Array2, s):  # fmt: skip
    """Velocity after meeting a wall: mirrored, or re-emitted in equilibrium (Maxwell)."""
    out = v
    s = advanced(s)
    if sides[side, SIDE_KIND] == SPECULAR or uniform(s) >= sides[side, SIDE_ACCOMMODATION]:
        out[axis] = -v[axis]
    else:
        thermal = ti.sqrt(sides[side, SIDE_TEMPERATURE])
        if ti.static(inner & SPECIES):
            thermal /= ti.sqrt(molecule[MASS])
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
        if ti.static(inner & ROTATION):
            energy = -sides[side, SIDE_TEMPERATURE] * ti.log(uniform(advanced(s3)))
            out[TURNING[inner]] = energy / molecule[MASS] * molecule[ROTATES]
    return out


@ti.func
def travelled(dim: Template, inner: Template, x, v, molecule, dt: Real, box,
              sides: Array2, key, system: Int, place: Int):  # fmt: skip
    """Flight of one particle through ``dt`` with all its bounces; gone: outside the box."""
    for d in ti.static(range(dim)):
        x[d] += v[d] * dt
    gone = 0
    inside = 0
    bounce = 0
    while inside == 0 and bounce < BOUNCES:
        inside = 1
        bounce += 1
        for d in ti.static(range(dim)):
            low = ti.select(x[d] < box[d, 0], 1, 0)
            high = ti.select(x[d] >= box[d, 1], 1, 0)
            if low + high > 0:
                side = 2 * d + high
                kind = ti.cast(sides[side, SIDE_KIND], ti.i32)
                if kind == PERIODIC:
                    width = box[d, 1] - box[d, 0]
                    x[d] -= ti.floor((x[d] - box[d, 0]) / width) * width
                    # rounding may put it on the upper end
                    x[d] = ti.select(x[d] >= box[d, 1], box[d, 0], x[d])
                elif kind == RESERVOIR:
                    gone = 1
                else:
                    inside = 0
                    face = ti.select(high == 1, box[d, 1], box[d, 0])
                    left = ti.select(v[d] == 0.0, 0.0, (x[d] - face) / v[d])
                    s = stream(key, system, 3 * bounce + d, place)
                    new = reflected(d, inner, low, v, molecule, side, sides, s)
                    for e in ti.static(range(dim)):
                        x[e] += (new[e] - v[e]) * left
                    x[d] = face + new[d] * left
                    v = new
    # a corner can hold a slow particle longer than the bounces that are followed
    for d in ti.static(range(dim)):
        if gone == 0 and not (x[d] >= box[d, 0] and x[d] < box[d, 1]):
            x[d] = 0.5 * (box[d, 0] + box[d, 1])
    return x, v, gone


# -- solids, and faces with parts ----------------------------------------------------------


@ti.func
def surface_at(dim: Template, k: Int, x, surfaces: Array2):
    """Distance of a place from a surface, positive in the gas, and the normal there."""
    normal = ti.Vector.zero(ti.f64, 3)
    off = -surfaces[k, SURFACE_OFFSET]
    if surfaces[k, 0] == ROUND:
        for d in ti.static(range(dim)):
            away = x[d] - surfaces[k, SURFACE_POINT + d]
            normal[d] = surfaces[k, SURFACE_AXIS + d] * away
        radius = normal.norm()
        off += radius
        normal /= ti.max(radius, 1e-300)
    else:
        for d in ti.static(range(dim)):
            normal[d] = surfaces[k, SURFACE_AXIS + d]
            off += normal[d] * x[d]
    return off, normal


@ti.func
def reached(dim: Template, k: Int, x, v, slack, surfaces: Array2):
    """Time until a straight flight meets a surface from outside, or never."""
    off, normal = surface_at(dim, k, x, surfaces)
    time = NEVER
    towards = 0.0
    for d in ti.static(range(dim)):
        towards -= normal[d] * v[d]
    if off > -slack and towards > 0.0:
        if surfaces[k, 0] == ROUND:
            radius = surfaces[k, SURFACE_OFFSET]
            square = 0.0
            for d in ti.static(range(dim)):
                square += surfaces[k, SURFACE_AXIS + d] * v[d] * v[d]
            b = towards * (radius + off)
            c = off * (off + 2.0 * radius)
            root = b * b - square * c
            if root >= 0.0:
                time = ti.max(0.0, c / (b + ti.sqrt(root)))
        else:
            time = ti.max(0.0, off / towards)
    return time


@ti.func
def belongs(dim: Template, k: Int, x, first: Int, last: Int, slack, surfaces: Array2):
    """Whether a place on surface ``k`` is on the body: inside its others, on its edge."""
    found = 1
    if surfaces[k, 0] == EDGE:
        along = 0.0
        for d in ti.static(range(min(dim, 2))):
            # the outline goes round counterclockwise: its direction is the normal turned
            way = surfaces[k, SURFACE_AXIS + (1 - d)] * ti.static(2 * d - 1)
            along += (x[d] - surfaces[k, SURFACE_POINT + d]) * way
        if along < -slack or along > surfaces[k, SURFACE_LENGTH] + slack:
            found = 0
    else:
        for m in range(first, last):
            if m != k:
                off, _normal = surface_at(dim, m, x, surfaces)
                found = ti.select(off > slack, 0, found)
    return found


@ti.func
def near_body(dim: Template, b: Int, x, ahead, bodies: Array2):
    """Whether the box around a flight meets that around a body."""
    near = 1
    for d in ti.static(range(dim)):
        beyond = ti.min(x[d], ahead[d]) > bodies[b, BODY_UPPER + d]
        if ti.max(x[d], ahead[d]) < bodies[b, BODY_LOWER + d] or beyond:
            near = 0
    return near


@ti.func
def undisturbed(dim: Template, x, ahead, box, bodies: Array2):
    """Whether a flight ends in the box and comes near no body."""
    free = 1
    for d in ti.static(range(dim)):
        if ahead[d] < box[d, 0] or ahead[d] >= box[d, 1]:
            free = 0
    for b in range(bodies.shape[0]):
        if near_body(dim, b, x, ahead, bodies) == 1:
            free = 0
    return free


@ti.func
def struck(dim: Template, x, v, left, surfaces: Array2, bodies: Array2):
    """First surface that a flight of ``left`` meets: when, which, and of which body."""
    time = left
    hit = -1
    owner = -1
    ahead = x
    for d in ti.static(range(dim)):
        ahead[d] += v[d] * left
    for b in range(bodies.shape[0]):
        if near_body(dim, b, x, ahead, bodies) == 1:
            first = ti.cast(bodies[b, BODY_FIRST], ti.i32)
            last = ti.cast(bodies[b, BODY_LAST], ti.i32)
            slack = bodies[b, BODY_SLACK]
            for k in range(first, last):
                until = reached(dim, k, x, v, slack, surfaces)
                if until < time:
                    at = x
                    for d in ti.static(range(dim)):
                        at[d] += v[d] * until
                    if belongs(dim, k, at, first, last, slack, surfaces) == 1:
                        time = until
                        hit = k
                        owner = b
    return time, hit, owner


@ti.func
def covered(dim: Template, x, surfaces: Array2, bodies: Array2):
    """Whether a place is inside a solid."""
    found = 0
    for b in range(bodies.shape[0]):
        first = ti.cast(bodies[b, BODY_FIRST], ti.i32)
        last = ti.cast(bodies[b, BODY_LAST], ti.i32)
        inside = ti.select(surfaces[first, 0] == EDGE, 0, 1)
        for k in range(first, last):
            off, normal = surface_at(dim, k, x, surfaces)
            if surfaces[k, 0] != EDGE:
                inside = ti.select(off >= 0.0, 0, inside)
            elif ti.static(dim > 1):
                # a ray along x crosses the edge; y rises along it as the normal's x
                begin = surfaces[k, SURFACE_POINT + 1]
                end = begin + normal[0] * surfaces[k, SURFACE_LENGTH]
                if (begin > x[1]) != (end > x[1]) and off * normal[0] < 0.0:
                    inside = 1 - inside
        found = ti.max(found, inside)
    return found


@ti.func
def bounced(inner: Template, v, molecule, normal, wall, s):
    """Velocity after meeting a wall: mirrored, or re-emitted in equilibrium (Maxwell).

    ``wall``: temperature, velocity, accommodation.
    """
    out = v
    s = advanced(s)
    if uniform(s) >= wall[4]:
        into = 0.0
        for d in ti.static(range(3)):
            into += v[d] * normal[d]
        for d in ti.static(range(3)):
            out[d] = v[d] - 2.0 * into * normal[d]
    else:
        thermal = ti.sqrt(wall[0] / molecule[MASS])
        s1 = advanced(s)
        s2 = advanced(s1)
        s3 = advanced(s2)
        s4 = advanced(s3)
        s5 = advanced(s4)
        a, b = pair_of_normals(uniform(s1), uniform(s2))
        c, _d = pair_of_normals(uniform(s3), uniform(s4))
        drawn = ti.Vector([a, b, c], ti.f64)
        more = ti.sqrt(-2.0 * ti.log(uniform(s5))) - drawn.dot(normal)
        for d in ti.static(range(3)):
            out[d] = wall[1 + d] + thermal * (drawn[d] + more * normal[d])
        if ti.static(inner & ROTATION):
            energy = -wall[0] * ti.log(uniform(advanced(s5)))
            out[TURNING[inner]] = energy / molecule[MASS] * molecule[ROTATES]
    return out


@ti.func
def wall_of_body(dim: Template, b: Int, x, normal, box, sides: Array2,
                 bodies: Array2):  # fmt: skip
    """The wall of a solid at a place: numbers, or linear between the nodes of the grid."""
    wall = ti.Vector.zero(ti.f64, 5)
    for q in ti.static(range(5)):
        wall[q] = bodies[b, BODY_WALL + q]
    first = ti.cast(bodies[b, BODY_NODES], ti.i32)
    if first >= 0:
        for q in ti.static(range(4)):
            wall[q] = 0.0
        for corner in ti.static(range(2**dim)):
            weight = 1.0
            row = 0
            for d in ti.static(range(dim)):
                n = ti.cast(box[d, 3], ti.i32)
                place = ti.min(ti.max((x[d] - box[d, 0]) * box[d, 2], 0.0), 1.0 * n)
                k = ti.min(ti.cast(place, ti.i32), n - 1)
                up = ti.static((corner >> d) & 1)
                weight *= (place - k) if ti.static(up == 1) else (1.0 - (place - k))
                row = row * (n + 1) + k + up
            for q in ti.static(range(4)):
                wall[q] += weight * sides[first + row, SIDE_TEMPERATURE + q]
        through = 0.0
        for d in ti.static(range(3)):
            through += wall[1 + d] * normal[d]
        for d in ti.static(range(3)):
            wall[1 + d] -= through * normal[d]
    return wall


@ti.func
def side_at(dim: Template, side: Int, x, box, sides: Array2):
    """Row of ``sides`` at a place on a face."""
    row = side
    first = ti.cast(sides[side, SIDE_CELLS], ti.i32)
    if first >= 0:
        at = 0
        for d in ti.static(range(dim)):
            if d != side // 2:
                n = ti.cast(box[d, 3], ti.i32)
                k = ti.cast(ti.floor((x[d] - box[d, 0]) * box[d, 2]), ti.i32)
                at = at * n + ti.min(ti.max(k, 0), n - 1)
        row = first + at
    return row


@ti.func
def threaded(
    dim: Template, inner: Template, counted: Template, x, v, molecule, left, box,
    sides: Array2, surfaces: Array2, bodies: Array2, key, system: Int, chunk: Int,
    place: Int, loads: Array4,
):  # fmt: skip
    """Flight of one particle from event to event; gone: outside the box.

    ``counted``: what it gives to solids is added to ``loads [systems, chunks, solids, 4]``,
    momentum and energy.
    """
    gone = 0
    event = 0
    ahead = x
    for d in ti.static(range(dim)):
        ahead[d] += v[d] * left
    if undisturbed(dim, x, ahead, box, bodies) == 1:
        x = ahead
        left = 0.0
    while left > 0.0 and gone == 0 and event < EVENTS:
        time, hit, owner = struck(dim, x, v, left, surfaces, bodies)
        side = -1
        for d in ti.static(range(dim)):
            if v[d] != 0.0:
                high = ti.select(v[d] > 0.0, 1, 0)
                face = ti.select(high == 1, box[d, 1], box[d, 0])
                until = ti.max(0.0, (face - x[d]) / v[d])
                if until < time:
                    time = until
                    side = 2 * d + high
                    hit = -1
        for d in ti.static(range(dim)):
            x[d] += v[d] * time
        left -= time
        s = stream(key, system, event, place)
        event += 1
        normal = ti.Vector.zero(ti.f64, 3)
        if hit >= 0:
            off, normal_there = surface_at(dim, hit, x, surfaces)
            normal = normal_there
            for d in ti.static(range(dim)):
                x[d] -= off * normal[d]
            wall = wall_of_body(dim, owner, x, normal, box, sides, bodies)
            new = bounced(inner, v, molecule, normal, wall, s)
            if ti.static(counted):
                solid = ti.cast(bodies[owner, BODY_SOLID], ti.i32)
                given = 0.0
                for d in ti.static(range(3)):
                    loads[system, chunk, solid, d] += molecule[MASS] * (v[d] - new[d])
                    given += 0.5 * (v[d] * v[d] - new[d] * new[d])
                if ti.static(inner & ROTATION):
                    given += v[TURNING[inner]] - new[TURNING[inner]]
                loads[system, chunk, solid, 3] += molecule[MASS] * given
            v = new
        elif side >= 0:
            axis = side // 2
            high = side % 2
            row = side_at(dim, side, x, box, sides)
            kind = ti.cast(sides[row, SIDE_KIND], ti.i32)
            end = ti.select(kind == PERIODIC, 1 - high, high)
            for d in ti.static(range(dim)):
                if d == axis:
                    x[d] = ti.select(end == 1, box[d, 1], box[d, 0])
                    normal[d] = 1.0 - 2.0 * high
            if kind == RESERVOIR:
                gone = 1
            elif kind != PERIODIC:
                wall = ti.Vector.zero(ti.f64, 5)
                for q in ti.static(range(5)):
                    wall[q] = sides[row, SIDE_TEMPERATURE + q]
                v = bounced(inner, v, molecule, normal, wall, s)
        else:
            left = 0.0
    return x, v, gone


@ti.func
def entered(dim: Template, events: Template, x, v, dt, side: Int, owner, box,
            sides: Array2, surfaces: Array2, bodies: Array2):  # fmt: skip
    """Where a newcomer passes the face before which it was drawn, and the time left.

    Gone: it passes beside the face, through a part of it that is not its reservoir's, or
    where a solid is. Beyond the faces along which reservoirs do not reach it is mirrored.
    """
    at = x
    speed = v
    time = 0.0
    gone = 0
    for d in ti.static(range(dim)):
        if d == side // 2:
            at[d] = ti.select(side % 2 == 1, box[d, 1], box[d, 0])
            time = (at[d] - x[d]) / v[d]
    for d in ti.static(range(dim)):
        if d != side // 2:
            at[d] += v[d] * time
            low = ti.select(at[d] < box[d, 0], 1, 0)
            high = ti.select(at[d] >= box[d, 1], 1, 0)
            if low + high > 0:
                kind = ti.cast(sides[2 * d + high, SIDE_KIND], ti.i32)
                width = box[d, 1] - box[d, 0]
                if kind == RESERVOIR:
                    gone = 1
                elif kind == PERIODIC:
                    at[d] += width * (low - high)
                else:
                    at[d] = 2.0 * ti.select(high == 1, box[d, 1], box[d, 0]) - at[d]
                    speed[d] = -speed[d]
    if ti.static(events):
        row = side_at(dim, side, at, box, sides)
        if sides[row, SIDE_OWNER] != owner or covered(dim, at, surfaces, bodies) == 1:
            gone = 1
    return at, speed, dt - time, gone
