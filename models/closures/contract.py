"""What a closure of moment equations is: ``closure(stencil) -> output``.

A torch module, or any callable. Fields are the primitive variables of the equations in
every cell: w = (rho, u, theta, f_3 .. f_M) for Hermite moments of one velocity dimension,
those of :mod:`scalebridge.engine.gas.equations.hermite` for more, recurrence coefficients
for realizable moments.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor


@dataclass(frozen=True)
class FaceStencil:
    """Cells, and the points where a closure is asked.

    The points are the faces of a row of cells, ``faces = cells + 1``, or the cells of any
    grid themselves (:meth:`in_cells`).

    Attributes:
        low: ``[batch, points, N]`` w of the cell on the left of each face.
        high: the same on the right (ghost cells included).
        cells: ``[batch, cells, N]``.
        tau: ``[batch, points]`` relaxation time.
        spacing: width of a cell.
        periodic: whether the last face is the first one.
        others: widths, and whether periodic, along a second and a third axis.
    """

    low: Tensor
    high: Tensor
    cells: Tensor
    tau: Tensor
    spacing: float
    periodic: bool
    others: tuple[tuple[float, bool], ...] = ()

    @staticmethod
    def in_cells(
        w: Tensor, tau: Tensor, axes: tuple[tuple[float, bool], ...]
    ) -> "FaceStencil":
        """Return the stencil of a grid whose cells are the points.

        Args:
            w: ``[batch, *grid.shape, N]``.
            tau: ``[batch, *grid.shape]``.
            axes: width of a cell, and whether periodic, along each axis.
        """
        return FaceStencil(w, w, w, tau, *axes[0], axes[1:])

    @staticmethod
    def at_points(w: Tensor) -> "FaceStencil":
        """Return the stencil of states that know neither lengths nor times (NaN)."""
        return FaceStencil(w, w, w, torch.full_like(w[..., 0], nan), nan, False)

    @property
    def axes(self) -> tuple[tuple[float, bool], ...]:
        """Width of a cell, and whether periodic, along each axis."""
        return ((self.spacing, self.periodic), *self.others)

    @property
    def mean(self) -> Tensor:
        """Mean of the two cells."""
        return 0.5 * (self.low + self.high)

    @property
    def gradient(self) -> Tensor:
        """Difference of the two cells over the spacing."""
        return (self.high - self.low) / self.spacing


@dataclass(frozen=True)
class ClosureOutput:
    """What a closure says, each ``[batch, points]`` or None.

    Attributes:
        flux: what closes: f_{M+1}, added as ``-(M + 1) df_{M+1}/dx``; with several velocity
            dimensions the tensor, ``[batch, components, *points]``; b_3 of realizable
            moments.
        blend: share of Grad's last row, 0 (HME) to 1. None means 0. A closure that learns
            the true f_{M+1} sets it to 1.
        trust: 1 inside the training range, 0 far outside; None means 1.
        source: added to ``df_M/dt``, averaged to the cells.
        speed: largest signal speed in the gas's frame over ``sqrt(theta)``; None means that
            of HME.
        inside: as ``blend``, for what changes within the cells; None means the mean of the
            two faces.
    """

    flux: Tensor | None = None
    blend: Tensor | None = None
    trust: Tensor | None = None
    source: Tensor | None = None
    speed: Tensor | None = None
    inside: Tensor | None = None

    @property
    def fallback(self) -> Tensor | None:
        """Where the closure fell back to HME, at least in part; None: nowhere.

        The share of Grad's row is below the trust where hyperbolicity would be lost.
        """
        if self.trust is None:
            return None
        away = self.trust < 1.0
        return away if self.blend is None else away | (self.blend < self.trust)

    @property
    def away(self) -> Tensor | None:
        """``[2, ...]``: where it fell back, where it is outside its training range."""
        if self.trust is None or self.fallback is None:
            return None
        return torch.stack([self.fallback, self.trust < 1.0])


Closure = Callable[[FaceStencil], ClosureOutput]
"""What every set of moment equations takes; a module of this package is one."""


def takes_faces(module: object) -> bool:
    """Tell whether a module is a closure of faces, what the moment solver takes."""
    return getattr(getattr(module, "config", None), "contract", None) == "faces"


@contextmanager
def weights_from(seed: int | None) -> Iterator[None]:
    """Draw first weights from a seed; None draws them from torch's default generator."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
