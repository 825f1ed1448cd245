"""Lennard-Jones as a differentiable function of positions and parameters.

First and second derivatives are hand-written kernels in gather form, so that a loss on
forces can be differentiated.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..runtime import start
from .pair import k_pair_gradient, k_pair_hessian_product

Pairs = tuple[Tensor, Tensor, Tensor]
"""``index [atoms, slots]``, ``offset [atoms, slots, 3]`` (shift times cell), ``count``."""


class _Gradient(torch.autograd.Function):
    """(x, p, g) -> g dE/dx, g dE/dp; differentiable once."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, p: Tensor, g: Tensor, by_x: Tensor, by_p: Tensor, *pairs: Any
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, p, g, by_x, by_p, *pairs[:3])
        ctx.cutoff = pairs[3]
        return g * by_x, g * by_p

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, vx: Tensor, vp: Tensor) -> tuple[Tensor | None, ...]:
        x, p, g, by_x, by_p, index, offset, count = ctx.saved_tensors
        hx, hp = torch.empty_like(x), x.new_empty(len(x), 2)
        k_pair_hessian_product(
            x.detach(), index, offset, count, p.detach(), ctx.cutoff,
            vx.contiguous(), vp.contiguous(), hx, hp,
        )  # fmt: skip
        back = (vx * by_x).sum() + (vp * by_p).sum()
        return g * hx, g * hp.sum(0), back, *[None] * 6


class _Energy(torch.autograd.Function):
    """(x, p) -> E, with its gradient from the same pass over the pairs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: Tensor, *pairs: Any) -> Tensor:
        energy, by_x, by_p = _all(x, p, *pairs)
        ctx.save_for_backward(x, p, by_x, by_p, *pairs[:3])
        ctx.cutoff = pairs[3]
        return energy

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, p, by_x, by_p, *pairs = ctx.saved_tensors
        gx, gp = _Gradient.apply(x, p, g, by_x, by_p, *pairs, ctx.cutoff)  # type: ignore[misc]
        return gx, gp, *[None] * 4


def _all(
    x: Tensor, p: Tensor, index: Tensor, offset: Tensor, count: Tensor, cutoff: float
) -> tuple[Tensor, Tensor, Tensor]:
    start(x.device)
    energy, by_x, by_p = x.new_empty(len(x)), torch.empty_like(x), x.new_empty(len(x), 2)
    k_pair_gradient(
        x.detach().contiguous(), index, offset, count, p.detach().contiguous(), cutoff,
        energy, by_x, by_p,
    )  # fmt: skip
    return energy.sum(), by_x, by_p.sum(0)


def lennard_jones(
    positions: Tensor, parameters: Tensor, pairs: Pairs, cutoff: float
) -> Tensor:
    """Return E = 1/2 sum_ij 4 eps ((sigma/r)^12 - (sigma/r)^6) of all pairs in reach.

    Twice differentiable (reverse mode) in both tensors. Second derivatives are those of
    the plain cut potential: pairs at the cutoff itself have none.

    Args:
        positions: ``[atoms, 3]``.
        parameters: ``(eps, sigma)``.
        pairs: a full list, both directions of every pair.
        cutoff: angstrom.
    """
    index, offset, count = pairs
    energy: Callable[..., Tensor] = _Energy.apply  # type: ignore[assignment]
    return energy(positions, parameters, index, offset.contiguous(), count, cutoff)
