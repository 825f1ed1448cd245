"""Training of learned moments: an autoencoder on the Hermite moments of kinetic flows."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ....models.closures.autoencoder import MomentAutoencoder
from ....models.closures.face import scaled_moments, scales
from ...gas.equations.line import conserved, from_raw, primitive
from .closure import descend


def samples(raw: Sequence[Tensor], order: int, count: int, rng: torch.Generator) -> Tensor:
    """Return scaled moments h_3 .. h_M of some cells, ``[count, M - 2]``.

    Args:
        raw: raw moments ``[times, flows, cells, >= M + 1]`` of each family.
        order: M.
        count: cells drawn, at most.
        rng: draws them.
    """
    every = [scaled_moments(from_raw(each, order)).flatten(0, -2) for each in raw]
    h = torch.cat(every)
    return h[torch.randperm(len(h), generator=rng)[:count]]


def unexplained(module: MomentAutoencoder, h: Tensor, size: Tensor) -> Tensor:
    """Return the share of h, each over its size, that does not come back."""
    return ((module(h) - h) / size).square().sum() / (h / size).square().sum()


def fit(
    module: MomentAutoencoder,
    h: Tensor,
    steps: int,
    batch: int,
    rate: float,
    rng: torch.Generator,
    log: Callable[[int, float], None] = lambda step, loss: None,
) -> Tensor:
    """Start from principal components and train, in place; return the size of each moment.

    Lower moments weigh more (``1 / (k - 2)``): the gas feels them first.

    Args:
        module: new.
        h: ``[samples, M - 2]``.
        steps: of Adam.
        batch: samples in a step.
        rate: learning rate at the start; it falls linearly.
        rng: of the batches.
        log: told step and loss.
    """
    rank = torch.arange(1, h.shape[1] + 1, dtype=h.dtype)
    size = h.square().mean(0).sqrt().clamp(min=1e-9) * rank
    module.begin(h[:20_000], size)

    def loss(step: int) -> Tensor:
        del step
        at = torch.randint(0, len(h), (batch,), generator=rng)
        return unexplained(module, h[at], size)

    for step, value in descend(module, loss, steps, rate):
        log(step, value)
    return size


def pressed(module: MomentAutoencoder) -> Callable[[Tensor], Tensor]:
    """Return what a step of the solver ends with: moments through the autoencoder.

    ``[..., M + 1]`` to the same; density, momentum and energy are not touched.
    """

    def through(moments: Tensor) -> Tensor:
        w = primitive(moments)
        unit = scales(w)[..., 3:]
        high = module(w[..., 3:] * unit) / unit
        return conserved(torch.cat([w[..., :3], high], -1))

    return through
