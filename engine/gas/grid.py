"""Uniform grids of cells in 1, 2 or 3 dimensions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class Grid:
    """Equal cells of a box.

    Attributes:
        shape: number of cells along each dimension.
        lower: lower corner of the box (unit: reference length).
        upper: upper corner.

    Raises:
        InputError: lengths differ, a box without extent, fewer than 4 cells along an axis.
    """

    shape: tuple[int, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.shape) == len(self.lower) == len(self.upper) <= 3:
            raise InputError(
                f"grid: cells {self.shape}, lower {self.lower}, upper {self.upper} must "
                "have the same length, 1 to 3"
            )
        if min(self.shape) < 4:
            raise InputError(f"grid.cells: {self.shape}; every axis needs at least 4 cells")
        if any(a >= b for a, b in zip(self.lower, self.upper, strict=True)):
            raise InputError(f"grid.lower: {self.lower} must lie below upper {self.upper}")

    @property
    def dim(self) -> int:
        """Number of space dimensions."""
        return len(self.shape)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return prod(self.shape)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """Edge lengths of one cell."""
        sides = zip(self.lower, self.upper, self.shape, strict=True)
        return tuple((b - a) / n for a, b, n in sides)

    @property
    def volume(self) -> float:
        """Volume of one cell."""
        return prod(self.spacing)

    def centers(self, axis: int) -> Tensor:
        """Return the cell centres along one axis, ``[shape[axis]]`` f64."""
        n, h = self.shape[axis], self.spacing[axis]
        return self.lower[axis] + h * (torch.arange(n, dtype=torch.float64) + 0.5)

    def points(self) -> tuple[Tensor, ...]:
        """Return the coordinates of all cell centres, each of ``shape``, f64."""
        return torch.meshgrid(*(self.centers(d) for d in range(self.dim)), indexing="ij")

    def average(self, function: Callable[..., Tensor], samples: int = 4) -> Tensor:
        """Return cell averages of ``function(*coordinates) -> [...]`` by Gauss points.

        Exact for polynomials of degree ``2 samples - 1``; the integrand's trailing axes
        follow ``shape``.
        """
        import numpy as np

        nodes, weights = np.polynomial.legendre.leggauss(samples)
        total: Tensor | None = None
        for index in np.ndindex(*(samples,) * self.dim):
            at = [
                c + 0.5 * h * float(nodes[i])
                for c, h, i in zip(self.points(), self.spacing, index, strict=True)
            ]
            weight = prod(0.5 * float(weights[i]) for i in index)
            part = weight * function(*at)
            total = part if total is None else total + part
        assert total is not None
        return total
