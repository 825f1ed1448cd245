"""Histograms over neighbour lists; counts are integers, so their order does not matter."""

from .types import Array1, Array2, Array4, Real, ti, turns


@ti.kernel
def k_distances(
    places: Array2,
    home: Array1,
    atom: Array1,
    parent: Array1,
    slots: Array2,
    count: Array1,
    species: Array1,
    chunks: Array2,
    per_length: Real,
    found: Array4,
):
    """Count pairs by system, species of both ends, and distance."""
    for chunk, spare in ti.ndrange(chunks.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        s = chunks[chunk, 0]
        for r in range(chunks[chunk, 1], chunks[chunk, 2]):
            e0 = home[r]
            a = species[atom[r]]
            for n in range(count[r]):
                e = slots[r, n]
                square = 0.0
                for c in ti.static(range(3)):
                    square += ti.cast(places[e, c] - places[e0, c], ti.f64) ** 2
                bin_ = ti.floor(ti.sqrt(square) * per_length, ti.i32)
                if bin_ < found.shape[3]:
                    ti.atomic_add(found[s, a, species[parent[e]], bin_], 1)
