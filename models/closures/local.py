r"""A learned closure without a length of its own: all that it sees is in free paths.

The BGK equation does not change when lengths, times and the Knudsen number are multiplied
by one number, nor with the unit of mass, the unit of temperature or the frame. A closure
that shall know as much may see ratios only. :class:`LocalClosure` is the closure of
:mod:`.face` with other inputs: beside the scaled moments at the face it sees, for some
ranges a, the gradient of each field averaged along x over a free paths::

    D_a w = integral 1/2 exp(-|s - s'| / a) dw(s'),      ds = dx / lambda,

with the local free path ``lambda = tau sqrt(theta)``, over the local scale of the field. A
gas that changes little within a paths gives ``a lambda dw/dx``, the local gradient; a wave
``exp(ikx)`` gives ``i k l / (1 + k^2 l^2)``, l = a lambda, and a sum over ranges in
geometric order is a quadrature of the Hilbert transform, the exact closure of free flight
(Hammett and Perkins, Phys. Rev. Lett. 64, 1990, p. 3019; with Lorentzians of this kind
Dimits, Joseph, Umansky, Phys. Plasmas 21, 2014, 055907). What is far off is dimmed by the
free paths between, so that a Knudsen number that varies in space, walls and open ends ask
for nothing more. Two recursions of a row give every average.

There is no input "Knudsen number": without another length it has no meaning at a face. So
there is none outside the gate of the training range either.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, MinLen
from torch import Tensor

from ..parts import part
from .contract import FaceStencil, weights_from
from .face import FaceClosure, View, Widths

CAUTION = 1.25
"""Power of the share of Grad's row that keeps speeds real: near the limit of what a row of
moments can tell the learned answer is given up sooner than hyperbolicity demands."""


@part
class LocalForm:
    """How to make a :class:`LocalClosure`."""

    order: Annotated[int, Ge(4), Le(14)] = 5
    """M; there are M - 2 moments beyond density, momentum and energy."""
    hidden: Widths = (32, 32)
    """Widths of the network."""
    reach: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (
        0.001, 0.004, 0.016, 0.064, 0.25, 1.0,
    )  # fmt: skip
    """Ranges a over which gradients are averaged, in local free paths."""
    smoothing: Annotated[float, Ge(0), Le(16)] = 1.5
    """Standard deviation of the filter over the faces, in cells."""
    bound: Annotated[float, Gt(0)] = 4.0
    """A, the largest ``sqrt((M + 1)!)`` g_{M+1}, over the size of the moments where they
    stretch it."""
    stretch: Annotated[float, Ge(0)] = 1.0
    """How the bound grows with the moments; 1 for strong shocks, 0 for weak flows."""
    dimension: Literal[1, 2, 3] = 1
    """Velocity dimensions of the gas that it is learned in. With more than one it sees, and
    closes, the distribution of the velocities along a direction, asked along many."""
    prandtl: Annotated[float, Gt(0)] = 1.0
    """Prandtl number of that gas."""
    kind: Literal["local_closure"] = "local_closure"

    contract: ClassVar = "faces"
    length: ClassVar = 1.0

    def build(self, seed: int | None = None) -> "LocalClosure":
        """Return the module with first weights from a seed, or torch's own generator."""
        with weights_from(seed):
            return LocalClosure(self)


class LocalClosure(FaceClosure):
    """The closing moment at each face from what is seen in free paths."""

    known = 0

    def seen(self, row: FaceStencil) -> tuple[Tensor, list[Tensor]]:
        """Return the state at each face, and every field's D_a for each range."""
        mean = row.mean
        depth = row.spacing / (row.tau * mean[..., 2].clamp(min=1e-12).sqrt())
        found = averaged_gradients(
            row.high - row.low, depth, self.config.reach, row.periodic
        )
        return mean, list(found.unbind(1))

    def view(self, row: FaceStencil) -> View:
        """Return what does not depend on the weights; a share of Grad's row has its flux.

        So the last equation is always a mean of HME's and of the one that was learned.
        """
        view = super().view(row)
        share = lowest_nearby(view.share, row.periodic)
        return replace(view, unit=view.unit * share, share=share)

    def view_at(self, mean: Tensor, changes: Sequence[Tensor], tau: Tensor) -> View:
        """Return the same of single faces, which do not look at each other."""
        view = super().view_at(mean, changes, tau)
        return replace(view, share=view.share**CAUTION)

    def knudsen_inputs(self, ratio: Tensor) -> Tensor:
        """Return none."""
        return ratio.new_empty(*ratio.shape, 0)

    def _gate(self, mean: Tensor, tau: Tensor) -> Tensor:
        return torch.ones_like(tau)  # all inputs vanish with the free path

    def together(self, row: FaceStencil) -> int:
        """Return 1: cells are seen as they are, however fine."""
        return 1

    def filter_width(self, row: FaceStencil) -> float:
        """Return the standard deviation of the filter in cells."""
        return self.config.smoothing

    def wave_inputs(self, k: Tensor, tau: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return no Knudsen inputs, and ``k l / (1 + k^2 l^2)``."""
        seen = [k * tau * a / (1.0 + (k * tau * a) ** 2) for a in self.config.reach]
        return self.knudsen_inputs(tau), seen

    def wave_filter(self, k: Tensor, tau: Tensor) -> Tensor:
        """Return 1, the limit of fine grids."""
        return torch.ones_like(k)

    def wave_damping(self, k: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(k)


def lowest_nearby(share: Tensor, periodic: bool) -> Tensor:
    """Return the least share of a face and the next ones, ``[batch, faces]``.

    Next to a face where speeds would not be real the moments are no better.
    """
    ends = (share[:, -2:-1], share[:, 1:2]) if periodic else (share[:, :1], share[:, -1:])
    return torch.cat([ends[0], share, ends[1]], 1).unfold(1, 3, 1).amin(-1)


def averaged_gradients(
    jumps: Tensor, depth: Tensor, ranges: tuple[float, ...], periodic: bool
) -> Tensor:
    """Return D_a at every face, ``[batch, ranges, faces, fields]``.

    Fields run straight between the middles of cells, and the integral is exact then: a
    range far below a cell gives the local gradient.

    Args:
        jumps: ``[batch, faces, fields]`` of the fields from cell to cell.
        depth: ``[batch, faces]`` free paths between the middles of those cells.
        ranges: a.
        periodic: whether the last face is the first one. Beyond other ends nothing changes.
    """
    if periodic:
        jumps, depth = jumps[:, :-1], depth[:, :-1]
    x = depth[:, None] / depth.new_tensor(ranges)[:, None]
    half = (-0.5 * x).exp()
    own, other = (1.0 - half) / x, -0.5 * torch.expm1(-x) / x
    push = other[..., None] * jumps[:, None]
    both = torch.stack([push, push.flip(2)]), torch.stack([half, half.flip(2)])
    from_low, from_high = _arriving(*both, periodic)
    found = own[..., None] * jumps[:, None] + half[..., None] * (
        from_low + from_high.flip(2)
    )
    return torch.cat([found, found[:, :, :1]], 2) if periodic else found


def _arriving(push: Tensor, half: Tensor, periodic: bool) -> Tensor:
    """What comes to each face from those before it, ``A_i = q_(i-1) A_(i-1) + p_(i-1)``.

    Recursive doubling: log2(faces) passes.

    Args:
        push: ``[..., faces, fields]`` p.
        half: ``[..., faces]`` square root of q.
        periodic: whether the row goes on at the other end.
    """
    keep, total, step = half * half, push, 1
    faces = push.shape[-2]
    while step < faces:
        more = total[..., step:, :] + keep[..., step:, None] * total[..., :-step, :]
        total = torch.cat([total[..., :step, :], more], -2)
        keep = torch.cat([keep[..., :step], keep[..., step:] * keep[..., :-step]], -1)
        step *= 2
    none = torch.zeros_like(total[..., :1, :])
    if not periodic:
        return torch.cat([none, total[..., :-1, :]], -2)
    once = total[..., -1:, :] / (1.0 - keep[..., -1:, None])
    around = total + keep[..., None] * once
    return torch.cat([once, around[..., :-1, :]], -2)
