"""What a closure of the moment equations is: a function of a row of faces.

``closure(stencil) -> output``; a torch module, or any callable. Fields are w = (rho, u,
theta, f_3 .. f_M) in every cell.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FaceStencil:
    """A row of cells and the faces between them, ``faces = cells + 1``.

    Attributes:
        low: ``[batch, faces, M + 1]`` w of the cell on the left of each face.
        high: the same on the right (ghost cells included).
        cells: ``[batch, cells, M + 1]``.
        tau: ``[batch, faces]`` relaxation time.
        spacing: width of a cell.
        periodic: whether the last face is the first one.
    """

    low: Tensor
    high: Tensor
    cells: Tensor
    tau: Tensor
    spacing: float
    periodic: bool

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
    """What a closure says, each ``[batch, faces]`` or None.

    On a grid of the plane the values belong to cells, ``[batch, *grid.shape]``, and
    ``flux`` holds the tensor, ``[batch, components, *grid.shape]``.

    Attributes:
        flux: f_{M+1}, added as ``-(M + 1) df_{M+1}/dx``.
        blend: share of Grad's last row, 0 (HME) to 1. None means 0. A closure that learns
            the true f_{M+1} sets it to 1.
        trust: 1 inside the training range, 0 far outside; None means 1.
        source: added to ``df_M/dt``, averaged to the cells.
        speed: largest signal speed in the gas's frame over ``sqrt(theta)``; None means that
            of HME.
    """

    flux: Tensor | None = None
    blend: Tensor | None = None
    trust: Tensor | None = None
    source: Tensor | None = None
    speed: Tensor | None = None

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
