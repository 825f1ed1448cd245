r"""Thickness of a shock from a profile that was measured in blocks, with its error bar.

For a hyperbolic tangent the largest slope of the density that goes from 0 ahead to 1
behind, the usual inverse thickness, equals ``3/2 int (d rho/dx)^2 dx``. The integral hardly
depends on where between the cells the shock stands. Of a noisy profile it is too large by
the noise squared, so slopes of *different* blocks are multiplied, whose noises are
independent::

    3/2 sum_x h  sum_{a != b} s_a s_b / (B (B - 1)).

Error bars are those of the jackknife over the blocks.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Measured = tuple[float, float]
"""Value and standard error."""


def jackknife(blocks: Tensor, measure: Callable[[Tensor], float]) -> Measured:
    """Return ``measure`` of all blocks ``[blocks, ...]``, and its standard error."""
    n = len(blocks)
    without = torch.tensor(
        [measure(torch.cat([blocks[:k], blocks[k + 1 :]])) for k in range(n)],
        dtype=torch.float64,
    )
    spread = float(((without - without.mean()) ** 2).sum()) * (n - 1) / n
    return measure(blocks), spread**0.5


def integral(blocks: Tensor, spacing: float) -> Measured:
    """Return ``3/2 int (d rho/dx)^2 dx``.

    Args:
        blocks: ``[blocks, cells]`` density, 0 ahead and 1 behind.
        spacing: of the cells.
    """

    def measure(part: Tensor) -> float:
        # at the faces, fourth order in means over cells
        near, far = part.diff(dim=1)[:, 1:-1], part[:, 3:] - part[:, :-3]
        slope = (15 * near - far) / (12 * spacing)
        n, total = len(part), slope.sum(0)
        product = (total.square() - slope.square().sum(0)) / (n * (n - 1))
        return 1.5 * spacing * float(product.sum())

    return jackknife(blocks, measure)


def smoothed(profile: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Return a cubic fitted over ``2 half + 1`` cells, and its slope per cell.

    A. Savitzky, M. J. E. Golay, Anal. Chem. 36, 1627 (1964). The ends are not returned.
    """
    at = torch.arange(-half, half + 1, dtype=torch.float64)
    fit = torch.linalg.pinv(torch.stack([at**k for k in range(4)], 1))
    windows = profile.unfold(-1, 2 * half + 1, 1)
    return windows @ fit[0], windows @ fit[1]


def slope(blocks: Tensor, spacing: float, half: int) -> Measured:
    """Return the largest slope of the smoothed mean profile."""

    def measure(part: Tensor) -> float:
        return float(smoothed(part.mean(0), half)[1].amax()) / spacing

    return jackknife(blocks, measure)


def middle(profile: Tensor, spacing: float, half: int) -> float:
    """Return where a smoothed profile is one half, from the first centre on."""
    values, _ = smoothed(profile, half)
    i = int((values > 0.5).double().argmax())
    share = (0.5 - values[i - 1]) / (values[i] - values[i - 1])
    return (half + i - 1 + float(share)) * spacing


def separation(blocks: Tensor, spacing: float, half: int) -> Measured:
    """Return how far the temperature rises ahead of the density.

    Args:
        blocks: ``[blocks, 2, cells]`` density and temperature, 0 ahead and 1 behind.
        spacing: of the cells.
        half: cells to each side that smoothing takes.
    """

    def measure(part: Tensor) -> float:
        rho, t = part.mean(0)
        return middle(rho, spacing, half) - middle(t, spacing, half)

    return jackknife(blocks, measure)


NOTES = {
    "inverse_thickness": "largest slope of the density, mean free paths ahead",
    "inverse_thickness_integral": "3/2 integral (d rho/dx)^2 dx",
    "separation": "by which temperature rises ahead of density, mean free paths",
}


def measures(blocks: Tensor, spacing: float) -> dict[str, Measured]:
    """Return all measures of a shock, by the names of :data:`NOTES`.

    Args:
        blocks: ``[blocks, 2, cells]`` density and temperature, 0 ahead and 1 behind.
        spacing: of the cells, in mean free paths ahead.
    """
    half = max(2, round(0.8 / spacing))
    return {
        "inverse_thickness": slope(blocks[:, 0], spacing, half),
        "inverse_thickness_integral": integral(blocks[:, 0], spacing),
        "separation": separation(blocks, spacing, half),
    }


__all__ = [
    "NOTES",
    "Measured",
    "integral",
    "jackknife",
    "measures",
    "middle",
    "separation",
    "slope",
]
