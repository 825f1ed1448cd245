"""Training of the realizable closure: regression of b_3 on kinetic shocks.

The label is exact: b_3 from the kinetic M_6. Equations that have the true b_3 along a shock
have its profile as a stationary solution. Whether they find and keep it depends on b_3
beside the profiles: on shocks that are on their way, on speeds that are real near by, and
on a closure that far off is close to the analytic baseline (:class:`Rules`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....models.closures.recurrence import (
    Coefficient,
    RecurrenceClosure,
    coefficients,
    geometric,
    raw_moments,
    speeds,
)
from ..explorers.steady import Profile


@dataclass(frozen=True)
class Examples:
    """Points of gas with their labels.

    Attributes:
        some: ``[n, 6]`` recurrence coefficients.
        b3: ``[n]``.
        weight: ``[n]`` of a point in the loss.
    """

    some: Tensor
    b3: Tensor
    weight: Tensor


def next_coefficient(raw: Tensor, some: Tensor) -> Tensor:
    """Return b_3 of raw moments ``[..., >= 7]`` and their :func:`coefficients`.

    M_6 is linear in b_3: what is more than with ``b_3 = 0`` is ``rho b_1 b_2 b_3``.
    """
    u = some[..., 1]
    still = some.clone()
    still[..., 1] = 0.0
    # the sixth central moment, so that little is lost to cancellation
    sixth = sum(
        (-u) ** (6 - j) * raw[..., j] * c for j, c in enumerate((1, 6, 15, 20, 15, 6, 1))
    )
    least = raw_moments(still, torch.zeros_like(u))[..., 6]
    return (sixth - least) / (some[..., 0] * some[..., 2] * some[..., 4])


def joined(parts: Sequence[Examples]) -> Examples:
    """Return all points of the parts."""
    columns = [(one.some, one.b3, one.weight) for one in parts]
    return Examples(*(torch.cat(column) for column in zip(*columns, strict=True)))


def examples(shocks: Sequence[Profile]) -> Examples:
    """Return the labels of some shocks, the ends of the boxes left out.

    A point counts as an error of its b_3 does in the equations: the flux that is closed
    has ``rho b_1 b_2 b_3 = h`` of b_3, which is most in the hot gas behind, so the weight
    is ``(1 + 10 h / max h)^2``.
    """
    parts = []
    for one in shocks:
        n = len(one.x)
        raw = one.raw[n // 20 : n - n // 20]
        some = coefficients(raw[:, :6])
        b3 = next_coefficient(raw, some)
        part = some[:, 0] * some[:, 2] * some[:, 4] * b3
        parts.append(Examples(some, b3, (1.0 + 10.0 * part / part.amax()).square()))
    return joined(parts)


def moving(raw: Tensor, count: int, rng: torch.Generator) -> Examples:
    """Return some of the cells ``[..., orders]`` that are not in equilibrium."""
    raw = raw.flatten(0, -2)
    some = coefficients(raw[:, :6])
    b3 = next_coefficient(raw, some)
    root, theta = some[:, 2].sqrt(), some[:, 2]
    off = some[:, 3].abs() / root + (some[:, 4] / theta - 2).abs() + (b3 / theta - 3).abs()
    good = torch.nonzero((off > 3e-3) & (some[:, 4] > 0) & (b3 > 0))[:, 0]
    at = good[torch.randperm(len(good), generator=rng)[:count]]
    return Examples(some[at], b3[at], torch.ones(len(at), dtype=raw.dtype))


def miss(module: RecurrenceClosure, some: Examples) -> float:
    """Return the root mean square of the error of log b_3."""
    with torch.no_grad():
        return float((module(some.some) / some.b3).log().square().mean().sqrt())


def complex_share(module: Coefficient, some: Tensor) -> float:
    """Return the share of points ``[n, 6]`` at which a speed is not real."""
    found = speeds(module, some)
    return float((found.imag.abs() > 1e-6 * (1.0 + found.abs())).any(-1).double().mean())


def around(some: Tensor, most: float, rng: torch.Generator) -> Tensor:
    """Return gas about as far from equilibrium as ``some [n, 6]``, each a little off.

    ``most`` is the largest standard deviation of the relative changes.
    """
    far = most * torch.rand(len(some), 1, generator=rng, dtype=some.dtype)
    push = far * torch.randn(len(some), 3, generator=rng, dtype=some.dtype)
    rho, u, b1, first, b2, second = some.unbind(-1)
    root = b1.sqrt()
    first = first * (1.0 + push[:, 0]) + push[:, 0] * root
    second = second * (1.0 + push[:, 1]) + 2.0 * push[:, 1] * root
    return torch.stack([rho, u, b1, first, b2 * torch.exp(push[:, 2]), second], -1)


@dataclass(frozen=True)
class Lesson:
    """What is learned from.

    Attributes:
        still: shocks at rest.
        moving: shocks on their way.
    """

    still: Examples
    moving: Examples

    def draw(self, batch: int, rng: torch.Generator) -> Examples:
        """Return ``batch`` points, five of nine from shocks at rest."""
        sizes = (batch - 4 * batch // 9, 4 * batch // 9)
        parts = []
        for part, size in zip((self.still, self.moving), sizes, strict=True):
            at = torch.randint(0, len(part.b3), (size,), generator=rng)
            parts.append(Examples(part.some[at], part.b3[at], part.weight[at]))
        return joined(parts)


@dataclass(frozen=True)
class Rules:
    """What the closure has to obey where nothing was seen.

    Attributes:
        hyperbolic: weight of the penalty on speeds that are not real, a little off the
            points of every third step.
        plain: weight of the square of what it adds to the analytic baseline, far off the
            points. Without it runs reach places where b_3 is steep, and diverge.
    """

    hyperbolic: float
    plain: float


def fit(
    module: RecurrenceClosure,
    lesson: Lesson,
    steps: int,
    batch: int,
    rate: float,
    rules: Rules,
    rng: torch.Generator,
    log: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Fit log b_3 by Adam with a linearly falling rate.

    Args:
        module: in f64.
        lesson: labels.
        steps: of Adam.
        batch: points in a step.
        rate: learning rate at the start.
        rules: besides the labels.
        rng: draws the points.
        log: called with step and loss.
    """
    optimiser = torch.optim.Adam(module.parameters(), rate)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1.0 - step / steps) + 1e-5
        data = lesson.draw(batch, rng)
        off = (module(data.some) / data.b3).log()
        loss = (data.weight * off.square()).mean()
        off = around(data.some[::3], 1.0, rng)
        loss = loss + rules.plain * (module(off) / geometric(off)).log().square().mean()
        if rules.hyperbolic and step % 3 == 0:
            found = speeds(module, around(data.some[::4], 0.3, rng), graph=True)
            size = 0.3 + found.detach().abs()
            loss = loss + rules.hyperbolic * (found.imag.abs() / size).mean()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        if bool(torch.isfinite(norm)):
            optimiser.step()
        log(step, float(loss.detach()))
