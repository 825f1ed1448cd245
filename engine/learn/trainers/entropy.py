"""Training of the entropy closure: regression of b_3, and of the moments that f repeats.

A convex entropy that was right would give back the moments that it was asked for; what is
missing of that is part of the loss, with log b_3 against the kinetic gas.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ....models.closures.entropy import EntropyClosure, hermite_moments
from .closure import descend
from .recurrence import Examples


def disagreement(module: EntropyClosure, some: Tensor) -> Tensor:
    """Return ``|g[f] - g|^2`` of recurrence coefficients ``[n, 6]``, ``[n]``."""
    g = hermite_moments(some)
    f = module.distribution(module.multipliers(g))
    return (f @ module.basis[:, 3:] - g).square().sum(-1)


def fit(
    module: EntropyClosure,
    data: Examples,
    steps: int,
    batch: int,
    rate: float,
    rng: torch.Generator,
    consistency: float = 10.0,
    log: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Fit, in place.

    Args:
        module: in f64.
        data: labels.
        steps: of Adam.
        batch: points in a step.
        rate: learning rate at the start.
        rng: draws the points.
        consistency: weight of the :func:`disagreement`.
        log: called with step and loss.
    """

    def loss(step: int) -> Tensor:
        del step
        at = torch.randint(0, len(data.b3), (batch,), generator=rng)
        some, b3 = data.some[at], data.b3[at]
        far = (data.weight[at] * (module(some) / b3).log().square()).mean()
        return far + consistency * disagreement(module, some).mean()

    for step, value in descend(module, loss, steps, rate):
        log(step, value)
