"""Cell-list search for neighbours in any periodic, triclinic or open geometry.

Every periodic image within reach of a cell is written out as a *place* of its own, so the
search and all force loops know no wrapping: a place has a position, and that is all. The
places are sorted by bin; bins of one column are contiguous in memory, and columns follow
each other like a snake, so that neighbours in memory are always neighbours in space.
"""

from .types import Array1, Array2, Array3, Int, Real, Template, ti, turns


@ti.func
def bin_number(a, b, c, grid: Template, s):
    """Number of a bin along the snake: every other column, every other sheet runs back."""
    column = a * grid[s, 1] + ti.select(a % 2 == 1, grid[s, 1] - 1 - b, b)
    return column * grid[s, 2] + ti.select(column % 2 == 1, grid[s, 2] - 1 - c, c)


@ti.func
def bin_corner(number, grid: Template, s):
    """Inverse of :func:`bin_number`."""
    column = number // grid[s, 2]
    a = column // grid[s, 1]
    b = column - a * grid[s, 1]
    c = number - column * grid[s, 2]
    return ti.Vector(
        [
            a,
            ti.select(a % 2 == 1, grid[s, 1] - 1 - b, b),
            ti.select(column % 2 == 1, grid[s, 2] - 1 - c, c),
        ]
    )


@ti.func
def column_range(a, b, low, high, grid: Template, s):
    """First bin of a column's part from ``low`` to ``high``, and one past its last."""
    one = bin_number(a, b, low, grid, s) + grid[s, 3]
    two = bin_number(a, b, high, grid, s) + grid[s, 3]
    return ti.min(one, two), ti.max(one, two) + 1


@ti.func
def fractional(positions: Template, inverse: Template, i, s, k):
    """Fractional coordinate of an atom along axis ``k``."""
    f = 0.0
    for c in ti.static(range(3)):
        f += ti.cast(positions[i, c], ti.f64) * inverse[s, c, k]
    return f


@ti.func
def window(f, periodic, margin):
    """Wrap of a coordinate into the cell, its first image within reach, their number."""
    wrap = 0
    first = 0
    extent = 1
    if periodic != 0:
        wrap = ti.floor(f, ti.i32)
        g = f - wrap
        first = ti.ceil(-margin - g, ti.i32)
        extent = ti.floor(1.0 + margin - g, ti.i32) - first + 1
    return wrap, first, extent


@ti.kernel
def k_count_images(
    positions: Array2,
    system: Array1,
    inverse: Array3,
    periodic: Array2,
    margin: Array2,
    copies: Array1,
):
    """Count the images of each atom within ``margin`` of the cell."""
    for i in range(positions.shape[0]):
        s = system[i]
        number = 1
        for k in ti.static(range(3)):
            f = fractional(positions, inverse, i, s, k)
            _wrap, _first, extent = window(f, periodic[s, k], margin[s, k])
            number *= extent
        copies[i] = number


@ti.kernel
def k_place_images(
    positions: Array2,
    system: Array1,
    inverse: Array3,
    periodic: Array2,
    margin: Array2,
    origin: Array2,
    per_bin: Array2,
    grid: Array2,
    begin: Array1,
    parent: Array1,
    image: Array2,
    bin_of: Array1,
):
    """Write parent, image and bin of every place, atom by atom.

    The parent of a place inside the cell, that of the atom itself, is written as -1 - i.
    """
    for i in range(positions.shape[0]):
        s = system[i]
        f = ti.Vector([0.0, 0.0, 0.0])
        wrap = ti.Vector([0, 0, 0])
        first = ti.Vector([0, 0, 0])
        extent = ti.Vector([0, 0, 0])
        for k in ti.static(range(3)):
            x = fractional(positions, inverse, i, s, k)
            w, n, m = window(x, periodic[s, k], margin[s, k])
            f[k] = x - w
            wrap[k] = w
            first[k] = n
            extent[k] = m
        e = begin[i]
        for a in range(extent[0]):
            na = first[0] + a
            ba = ti.floor((f[0] + na - origin[s, 0]) * per_bin[s, 0], ti.i32)
            ba = ti.min(ti.max(ba, 0), grid[s, 0] - 1)
            for b in range(extent[1]):
                nb = first[1] + b
                bb = ti.floor((f[1] + nb - origin[s, 1]) * per_bin[s, 1], ti.i32)
                bb = ti.min(ti.max(bb, 0), grid[s, 1] - 1)
                for c in range(extent[2]):
                    nc = first[2] + c
                    bc = ti.floor((f[2] + nc - origin[s, 2]) * per_bin[s, 2], ti.i32)
                    bc = ti.min(ti.max(bc, 0), grid[s, 2] - 1)
                    inside = na == 0 and nb == 0 and nc == 0
                    parent[e] = ti.select(inside, -1 - i, i)
                    image[e, 0] = na - wrap[0]
                    image[e, 1] = nb - wrap[1]
                    image[e, 2] = nc - wrap[2]
                    bin_of[e] = bin_number(ba, bb, bc, grid, s) + grid[s, 3]
                    e += 1


@ti.kernel
def k_counting_sort(bin_of: Array1, start: Array1, cursor: Array1, order: Array1):
    """Stable order of the places by bin (serial: cheap, and the same on every machine)."""
    ti.loop_config(serialize=True)
    for e in range(bin_of.shape[0]):
        cursor[bin_of[e]] += 1
    ti.loop_config(serialize=True)
    for b in range(cursor.shape[0]):
        start[b + 1] = start[b] + cursor[b]
        cursor[b] = start[b]
    ti.loop_config(serialize=True)
    for e in range(bin_of.shape[0]):
        b = bin_of[e]
        order[cursor[b]] = e
        cursor[b] += 1


@ti.kernel
def k_arrange(
    order: Array1,
    parent: Array1,
    image: Array2,
    bin_of: Array1,
    new_parent: Array1,
    new_image: Array2,
    new_bin: Array1,
    own: Array1,
):
    """Put the places in order; ``own`` marks those that are an atom inside the cell."""
    for p in range(order.shape[0]):
        e = order[p]
        i = parent[e]
        for c in ti.static(range(3)):
            new_image[p, c] = image[e, c]
        new_parent[p] = ti.max(i, -1 - i)
        new_bin[p] = bin_of[e]
        own[p] = ti.select(i < 0, 1, 0)


@ti.kernel
def k_rows(own: Array1, parent: Array1, home: Array1, atom: Array1):
    """The place and the atom of each row, in the order of the places (serial)."""
    r = 0
    ti.loop_config(serialize=True)
    for p in range(own.shape[0]):
        if own[p] != 0:
            home[r] = p
            atom[r] = parent[p]
            r += 1


@ti.kernel
def k_pack(
    positions: Array2,
    system: Array1,
    cell: Array3,
    parent: Array1,
    image: Array2,
    places: Array2,
):
    """Positions of all places: ``x[parent] + image . cell``."""
    for e in range(parent.shape[0]):
        i = parent[e]
        s = system[i]
        for c in ti.static(range(3)):
            places[e, c] = (
                positions[i, c]
                + image[e, 0] * cell[s, 0, c]
                + image[e, 1] * cell[s, 1, c]
                + image[e, 2] * cell[s, 2, c]
            )


@ti.kernel
def k_search(
    places: Array2,
    home: Array1,
    atom: Array1,
    system: Array1,
    bin_of: Array1,
    start: Array1,
    grid: Array2,
    reach: Array2,
    radius: Real,
    slots: Array2,
    count: Array1,
):
    """Fill each row with the places closer than ``radius`` (branch-free compaction).

    A row that does not fit is counted to the end and not written beyond its capacity;
    the caller grows the table when ``count`` reaches it.
    """
    for r in range(home.shape[0]):
        e0 = home[r]
        s = system[atom[r]]
        x = places[e0, 0]
        y = places[e0, 1]
        z = places[e0, 2]
        limit = radius * radius
        last = slots.shape[1] - 1
        corner = bin_corner(bin_of[e0] - grid[s, 3], grid, s)
        low = ti.Vector([0, 0, 0])
        high = ti.Vector([0, 0, 0])
        for k in ti.static(range(3)):
            low[k] = ti.max(corner[k] - reach[s, k], 0)
            high[k] = ti.min(corner[k] + reach[s, k], grid[s, k] - 1)
        n = 0
        for ax in range(low[0], high[0] + 1):
            for ay in range(low[1], high[1] + 1):
                begin, end = column_range(ax, ay, low[2], high[2], grid, s)
                for e in range(start[begin], start[end]):
                    dx = places[e, 0] - x
                    dy = places[e, 1] - y
                    dz = places[e, 2] - z
                    near = dx * dx + dy * dy + dz * dz < limit
                    slots[r, ti.min(n, last)] = e
                    n += ti.select(near and e != e0, 1, 0)
        count[r] = n


@ti.kernel
def k_search_blocks(
    places: Array2,
    home: Array1,
    atom: Array1,
    system: Array1,
    bin_of: Array1,
    start: Array1,
    grid: Array2,
    reach: Array2,
    radius: Real,
    blocks: Array2,
    group: Int,
    room: Int,
    slots: Array1,
    begin: Array1,
    count: Array1,
    lanes: Template,
):
    """Per block of rows, the places closer than ``radius`` to any of its atoms.

    ``blocks[b] = (first row, last row)``; the block's own places are among them, its list
    begins at ``begin[b]``, and -1 ends it. The lists of ``group`` blocks follow each other
    in ``room`` slots, of which they need ``count``; as in :func:`k_search` they are counted
    to the end where they do not fit.
    """
    for g, spare in ti.ndrange(count.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        n = g * room
        last = n + room - 1
        for b in range(g * group, ti.min((g + 1) * group, blocks.shape[0])):
            s = system[atom[blocks[b, 0]]]
            zero = places[0, 0] * 0
            one = zero + 1
            x = ti.Vector([zero for _ in range(lanes)])
            y = ti.Vector([zero for _ in range(lanes)])
            z = ti.Vector([zero for _ in range(lanes)])
            limit = zero + radius * radius
            low = ti.Vector([1 << 30, 1 << 30, 1 << 30])
            high = ti.Vector([0, 0, 0])
            for q in ti.static(range(lanes)):
                e0 = home[ti.min(blocks[b, 0] + q, blocks[b, 1])]
                x[q] = places[e0, 0]
                y[q] = places[e0, 1]
                z[q] = places[e0, 2]
                corner = bin_corner(bin_of[e0] - grid[s, 3], grid, s)
                for k in ti.static(range(3)):
                    low[k] = ti.min(low[k], ti.max(corner[k] - reach[s, k], 0))
                    far = ti.min(corner[k] + reach[s, k], grid[s, k] - 1)
                    high[k] = ti.max(high[k], far)
            begin[b] = n
            for ax in range(low[0], high[0] + 1):
                for ay in range(low[1], high[1] + 1):
                    head, tail = column_range(ax, ay, low[2], high[2], grid, s)
                    for e in range(start[head], start[tail]):
                        px = places[e, 0]
                        py = places[e, 1]
                        pz = places[e, 2]
                        near = zero
                        for q in ti.static(range(lanes)):
                            dx = px - x[q]
                            dy = py - y[q]
                            dz = pz - z[q]
                            r2 = dx * dx + dy * dy + dz * dz
                            near += ti.select(r2 < limit, one, zero)
                        slots[ti.min(n, last)] = e
                        n += ti.select(near > zero, 1, 0)
            slots[ti.min(n, last)] = -1
            n += 1
        count[g] = n - g * room


@ti.kernel
def k_reverse(
    home: Array1,
    atom: Array1,
    row: Array1,
    parent: Array1,
    image: Array2,
    slots: Array2,
    count: Array1,
    reverse: Array2,
):
    """Column of each pair (i, j) in the row of j, for gathering forces."""
    for r in range(home.shape[0]):
        h = home[r]
        for n in range(count[r]):
            e = slots[r, n]
            q = row[parent[e]]
            hq = home[q]
            found = -1
            for m in range(count[q]):
                o = slots[q, m]
                same = parent[o] == atom[r]
                for c in ti.static(range(3)):
                    # seen from the other side, the whole pair is moved by a lattice vector
                    same = same and image[o, c] - image[hq, c] == image[h, c] - image[e, c]
                found = ti.select(same, m, found)
            reverse[r, n] = found
