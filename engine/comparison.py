"""The comparison behind every check and every audit: what is not finite never passes.

``value <= bound`` is False for a NaN, but ``max(worst, nan)`` and ``if value >= worst`` of
Python drop one, and so does a comparison that is written the other way round. All verdicts
of the engine therefore go through these functions.
"""

import math
from collections.abc import Iterable


def holds(value: float, bound: float, at_least: bool = False) -> bool:
    """Return whether ``value`` keeps ``bound``; False if one of them is not a number.

    Args:
        value: what was found; an infinity fails, too.
        bound: what is allowed.
        at_least: the bound is a lower one.
    """
    if not math.isfinite(value) or math.isnan(bound):
        return False
    return value >= bound if at_least else value <= bound


def worst(values: Iterable[float]) -> float:
    """Return the largest value, or NaN if one of them is NaN; 0 of none."""
    found = [float(value) for value in values]
    if any(math.isnan(value) for value in found):
        return math.nan
    return max(found, default=0.0)


def rank(value: float) -> float:
    """Return the value, or infinity for a NaN: a key by which ``max`` finds the worst."""
    return math.inf if math.isnan(value) else value


__all__ = ["holds", "rank", "worst"]
