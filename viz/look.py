"""How atoms are drawn, whatever draws them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Look:
    """How atoms are drawn.

    Attributes:
        colour: ``"species"`` or one of :meth:`.atoms.Snapshot.colour_choices`.
        bounds: ends of the colour bar; from the data where None.
        bonds: draw bonds.
        images: periodic images along each lattice vector.
        bar: draw the colour bar and the label.
    """

    colour: str = "species"
    bounds: tuple[float, float] | None = None
    bonds: bool = True
    images: tuple[int, int, int] = (1, 1, 1)
    bar: bool = True

    def bounds_for(self, values: np.ndarray) -> tuple[float, float]:
        """Return the ends of the colour bar, never equal."""
        if self.bounds is not None:
            return self.bounds
        finite = values[np.isfinite(values)]
        if not len(finite):
            return (0.0, 1.0)
        if self.colour == "coordination":
            least, most = np.percentile(finite, (1, 99))
            return (float(least) - 2, float(max(most, least + 2)) + 2)
        low, high = (float(v) for v in np.percentile(finite, (1, 99)))
        if low >= 0 and low < 0.5 * high:
            low = 0.0
        return (low, high if high > low else low + 1.0)


SPECIES = Look()
"""Coloured by chemical element, with bonds."""


def cell_edges(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners ``[8, 3]`` of a cell and its edges ``[12, 2]``."""
    bits = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
    pairs = [
        (a, b)
        for a in range(8)
        for b in range(a + 1, 8)
        if np.abs(bits[a] - bits[b]).sum() == 1
    ]
    return bits @ cell, np.array(pairs)
