r"""The last layer of a closure, fitted through the solver by Gauss and Newton's method.

A closure that explains the closing moment of every instant can still lead astray over a
thousand steps: what it leaves over adds up, and waves that have mixed in phase stay. Here
whole runs are compared with the kinetic solution. Their residuals are smooth functions of
the few weights of the network's last layer, so that one run for each weight gives all
slopes, and a damped step of least squares (Levenberg, Q. Appl. Math. 2, 1944, p. 164) the
new weights; fixed features, no gradient through the solver.

With m the miss of a flow at a time over its signal, e before the round, a residual is ``m /
(e + FLOOR) / (1 + e^2)``: relative improvements count alike wherever something is known,
and what is hopeless, where next to no signal is left, hardly at all. The exact rates of
linear waves stand among the residuals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ....models.closures.face import FaceClosure
from ...gas.equations.line import primitive
from ...gas.scheme.finite_volume import koren
from .closure import Labelled, moment_world, rate_misses, steps_between

FLOOR = 0.05
"""An error by the signal below which nothing is gained."""
RATES = 0.02
"""Relative error of a rate that counts like a flow off by its floor."""
EARLIEST = 0.1
"""Flows are compared from this time on."""
COURANT = 0.9
DAMPINGS = (1e-3, 1e-2, 1e-1, 1.0)
"""Of the steps that are tried, over the mean curvature."""
STEP = 0.02
"""Of the slopes, over the mean size of the weights."""


@dataclass(frozen=True)
class Course:
    """Flows on the grid of the refinement.

    Attributes:
        start: ``[flows, cells, M + 1]`` w.
        truth: ``[times, flows, cells, 3]`` density, momentum, half of the second moment.
        knudsen: ``[flows]``.
        times: of the truth.
    """

    start: Tensor
    truth: Tensor
    knudsen: Tensor
    times: tuple[float, ...]

    @staticmethod
    def of(data: Labelled, together: int = 2) -> "Course":
        """Return flows in a periodic box, with neighbouring cells put together."""
        moments = data.moments.unflatten(2, (-1, together)).mean(3)
        at = [i for i, t in enumerate(data.times) if t >= EARLIEST - 1e-9]
        truth = weighed(moments[at])
        times = tuple(data.times[i] for i in at)
        return Course(primitive(moments[0]), truth, data.knudsen, times)

    def run(self, module: FaceClosure) -> Tensor:
        """Return what the moment solver makes of them, as the truth."""
        cells = self.start.shape[1]
        dtype, longest = self.start.dtype, COURANT / 6.0 / cells
        world = moment_world(module, self.knudsen, cells, longest, dtype)
        world = replace(world, limiter=koren, once=True)
        state, found = world.start(self.start.movedim(-1, 1)), []
        with torch.no_grad():
            for steps, h in steps_between((0.0, *self.times), longest):
                world = replace(world, time_step=h)
                for _ in range(steps):
                    state = world.step(state)
                found.append(weighed(state.moments.movedim(1, -1)))
        return torch.stack(found)

    @property
    def signal(self) -> Tensor:
        """``[times, flows]``, see ``signal_error``."""
        return (self.truth - self.truth.mean(2, keepdim=True)).square().sum((2, 3)).sqrt()


def weighed(moments: Tensor) -> Tensor:
    """Return density, momentum and half of the second moment."""
    return moments[..., :3] * moments.new_tensor([1.0, 1.0, 0.5])


def refine(
    module: FaceClosure,
    data: Sequence[Labelled],
    rounds: int,
    log: Callable[[str, int, int, float], None],
) -> None:
    """Fit the last layer, in place.

    Args:
        module: regressed before.
        data: flows from their start, in periodic boxes.
        rounds: of Gauss and Newton's method.
        log: told "refined", round, rounds, the sum of squares.
    """
    courses = [Course.of(each) for each in data]
    layer = [one for one in module.net.rest if isinstance(one, nn.Linear)][-1]
    weights = layer.weight.detach().double().flatten()

    def put(values: Tensor) -> None:
        layer.weight.data = values.view_as(layer.weight).to(layer.weight.dtype)

    for number in range(rounds):
        put(weights)
        units = [_unit(one, one.run(module)) for one in courses]

        def residual(values: Tensor, units: Sequence[Tensor] = units) -> Tensor:
            put(values)
            parts = [
                ((one.run(module) - one.truth) / unit).flatten()
                for one, unit in zip(courses, units, strict=True)
            ]
            rates = rate_misses(module).detach().flatten()
            parts.append(rates / (RATES * len(rates) ** 0.5))
            return torch.cat(parts)

        weights, best = _step(weights, residual)
        log("refined", number, rounds, best)
    put(weights)


def _unit(course: Course, found: Tensor) -> Tensor:
    """What a miss counts, ``[times, flows, 1, 1]``."""
    signal = course.signal
    error = (found - course.truth).square().sum((2, 3)).sqrt() / signal
    error = error.nan_to_num(nan=1e3, posinf=1e3)
    count = course.truth.shape[0] * course.truth.shape[1]
    size = signal * (error + FLOOR) * (1.0 + error.square()) * count**0.5
    return size[..., None, None]


def _step(weights: Tensor, residual: Callable[[Tensor], Tensor]) -> tuple[Tensor, float]:
    """Return the best of some damped steps, or the weights as they were."""
    here = residual(weights)
    h = STEP * float(weights.abs().mean())
    slopes = torch.stack(
        [
            (residual(weights + h * one) - here) / h
            for one in torch.eye(len(weights)).double()
        ],
        1,
    )
    curvature, down = slopes.T @ slopes, -(slopes.T @ here)
    best = float(here.square().sum()), weights
    damping = curvature.diag().mean() * torch.eye(len(weights), dtype=here.dtype)
    for share in DAMPINGS:
        tried = weights + torch.linalg.solve(curvature + share * damping, down)
        value = float(residual(tried).square().sum())
        if value < best[0]:  # not where a run diverged
            best = value, tried
    return best[1], best[0]
