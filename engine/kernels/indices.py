"""Multi-indices of moments with several velocity dimensions."""

from functools import lru_cache
from itertools import product


@lru_cache(maxsize=32)
def multi_indices(order: int, axes: int) -> tuple[tuple[int, ...], ...]:
    """Return all multi-indices of total degree up to ``order``, by degree."""
    every = product(range(order + 1), repeat=axes)
    kept = [a for a in every if sum(a) <= order]
    return tuple(sorted(kept, key=lambda a: (sum(a), tuple(-k for k in a))))
