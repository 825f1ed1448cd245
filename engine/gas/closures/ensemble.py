"""Learned closures that answer together.

The flux of the closing moment is one number per face, so what it adds to the last moment
sums to zero over the box, and density, momentum and energy, whose fluxes hold no learned
number at all, are conserved as by HME.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ....models.closures.contract import ClosureOutput, FaceStencil
from ....models.closures.face import FaceClosure


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

    def __call__(self, row: FaceStencil) -> ClosureOutput:
        """Return the mean answer; no trust where the spread over the members is large."""
        first = self.members[0]
        if all(first.sees_like(other) for other in self.members):
            views = [first.view(row)] * len(self.members)
        else:
            views = [member.view(row) for member in self.members]
        pairs = zip(self.members, views, strict=True)
        fluxes = torch.stack([member.flux(view, row) for member, view in pairs])
        share = agreement(fluxes, row, self.tolerance)
        blend = torch.stack([view.share * view.trust for view in views]).amin(0)
        trust = torch.stack([view.trust for view in views]).amin(0)
        trust = torch.where(share < 0.5, 0.0, trust)
        return ClosureOutput(fluxes.mean(0) * share, blend, trust)

    def to(self, device: torch.device) -> "ClosureEnsemble":
        """Return the closures on a device; their modules are moved."""
        return replace(self, members=[member.to(device) for member in self.members])


def agreement(fluxes: Tensor, row: FaceStencil, tolerance: float) -> Tensor:
    """Return ``1 / (1 + (spread / tolerance)^2)``, ``[batch, faces]``, in [0, 1].

    Args:
        fluxes: ``[members, batch, faces]`` f_{M+1}.
        row: gives the unit ``rho theta^((M + 1) / 2) / sqrt((M + 1)!)``.
        tolerance: spread at which the share is one half.
    """
    order = row.cells.shape[-1] - 1
    mean = row.mean
    unit = mean[..., 0] * mean[..., 2].clamp(min=1e-6) ** (0.5 * (order + 1))
    unit = unit * math.exp(-0.5 * math.lgamma(order + 2))
    off = (fluxes - fluxes.mean(0)).detach()
    variance = off.square().sum(0) / (len(fluxes) - 1)
    return 1.0 / (1.0 + variance / (unit.detach() * tolerance) ** 2)
