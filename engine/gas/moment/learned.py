"""Learned closures in the moment solver: a torch module between the faces.

The flux of the closing moment is one number per face, so what it adds to the last moment
sums to zero over the box, and density, momentum and energy, whose fluxes hold no learned
number at all, are conserved as by HME. Example::

    module, card = load_module(Path("scenarios/models/closure_wide_0"))
    world = HermiteWorld(grid, sides, gas, knudsen, order=5, time_step=dt,
                         closure=Learned(module), dissipation=roe)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....models.closures.face import ClosureOutput, FaceClosure, FaceStencil
from ....models.closures.spectrum import SpectralClosure
from .hermite import Closing, Faces

Member = Callable[[FaceStencil], ClosureOutput]


def row_of(faces: Faces) -> FaceStencil:
    """Return what the module sees of the solver's faces."""
    return FaceStencil(
        low=faces.low,
        high=faces.high,
        cells=faces.cells,
        tau=faces.relaxation_time,
        spacing=faces.spacing,
        periodic=faces.periodic,
    )


@dataclass(frozen=True)
class Learned:
    """One learned closure as the :data:`~.hermite.Closure` of the moment solver.

    Attributes:
        module: a :class:`~scalebridge.models.closures.face.FaceClosure`, or anything that
            answers a row of faces in the same way.
    """

    module: Member

    def __call__(self, faces: Faces) -> Closing:
        """Return the flux, the share of Grad's row, and where it gave way to HME."""
        answer = self.module(row_of(faces))
        # The share of Grad's row is below the trust where hyperbolicity would be lost.
        given_way = (answer.trust < 1.0) | (answer.blend < answer.trust)
        return Closing(answer.flux, answer.blend, fallback=given_way.to(answer.flux))


@dataclass(frozen=True)
class Spectral:
    """A learned closure whose speeds are real by construction.

    Attributes:
        module: a :class:`~scalebridge.models.closures.spectrum.SpectralClosure`.
    """

    module: SpectralClosure

    def __call__(self, faces: Faces) -> Closing:
        """Return what HME drops as a source, and the largest speed."""
        change, speed, trust = self.module(row_of(faces))
        order = faces.low.shape[-1] - 1
        away = (trust < 1.0).to(change)
        return Closing(source=-(order + 1) * change, speed=speed, fallback=away)


@dataclass(frozen=True)
class ClosureEnsemble:
    """Several closures that answer together: their mean, closed where they disagree.

    Attributes:
        members: at least two; those that see alike share that work.
        tolerance: standard deviation over the members of ``sqrt((M + 1)!) g_{M+1}`` at
            which the correction is halved.
    """

    members: Sequence[FaceClosure]
    tolerance: float = 0.05

    def __call__(self, faces: Faces) -> Closing:
        """Return the mean answer; the spread over the members lowers the trust."""
        row, first = row_of(faces), self.members[0]
        if all(first.sees_like(other) for other in self.members):
            views = [first.view(row)] * len(self.members)
        else:
            views = [member.view(row) for member in self.members]
        pairs = zip(self.members, views, strict=True)
        fluxes = torch.stack([member.flux(view, row) for member, view in pairs])
        share = agreement(fluxes, row, self.tolerance)
        blend = torch.stack([view.share * view.trust for view in views]).amin(0)
        trust = torch.stack([view.trust for view in views]).amin(0)
        doubt = (trust < 1.0) | (blend < trust) | (share < 0.5)
        return Closing(flux=fluxes.mean(0) * share, blend=blend, fallback=doubt.to(fluxes))


def agreement(fluxes: Tensor, row: FaceStencil, tolerance: float) -> Tensor:
    """Return ``1 / (1 + (spread / tolerance)^2)``, ``[batch, faces]``, in [0, 1].

    Args:
        fluxes: ``[members, batch, faces]`` f_{M+1}.
        row: gives the unit ``rho theta^((M + 1) / 2) / sqrt((M + 1)!)``.
        tolerance: spread at which the share is one half.
    """
    order = row.cells.shape[-1] - 1
    mean = 0.5 * (row.low + row.high)
    unit = mean[..., 0] * mean[..., 2].clamp(min=1e-6) ** (0.5 * (order + 1))
    unit = unit * math.exp(-0.5 * math.lgamma(order + 2))
    off = (fluxes - fluxes.mean(0)).detach()
    variance = off.square().sum(0) / (len(fluxes) - 1)
    return 1.0 / (1.0 + variance / (unit.detach() * tolerance) ** 2)
