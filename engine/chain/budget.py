"""The error budget of the thickness of a shock: what each source may change it by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One source of error.

    Attributes:
        source: in words.
        kind: ``propagated`` (an error bar, pushed through the derivative) or ``measured``
            (the difference of two computations).
        size: of d ln(thickness); signed where it was measured.
        counted: whether it is part of the total; a row that says what a *better* level
            changed is not an error of the result.
    """

    source: str
    kind: Literal["propagated", "measured"]
    size: float
    counted: bool = True


def total(rows: Sequence[Row]) -> float:
    """Return the root of the sum of squares of the rows that count."""
    return sum(row.size**2 for row in rows if row.counted) ** 0.5


__all__ = ["Row", "total"]
