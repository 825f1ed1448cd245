"""When a flow is steady: what its fields still change by, per unit of time.

    r = max over fields, systems of  <|q(t) - q(t - dt)|> / (dt s),

with the mean over cells, and s the mean density, the mean temperature, and for the
velocity the square root of the latter (a gas at rest has no other speed). It is looked at
in frames, over the one step that leads to them, so that a run that goes on from a
checkpoint ends where an uninterrupted one does. Where steps are made an interval at a time
it is the step that would follow: a wave whose period is the interval is not steady.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..protocols import Check, Figure, Outcome, Trigger
from ..run import every

FIELDS = ("density", "velocity", "temperature")


def least_residual(dtype: torch.dtype, time_step: float) -> float:
    """Return the residual that round-off may leave: half an ulp of the fields in a step."""
    return 0.5 * torch.finfo(dtype).eps / time_step


def residual_of(
    before: Mapping[str, Tensor], now: Mapping[str, Tensor], time_step: float
) -> float:
    """Return the residual, 1 / time; infinite where it is not a number.

    Args:
        before: fields ``[systems, cells ...]`` (velocity ``[..., axes]``).
        now: those after a step.
        time_step: between them.
    """
    speed = now["temperature"].flatten(1).mean(1).sqrt()
    worst = torch.zeros((), dtype=speed.dtype, device=speed.device)
    for name in FIELDS:
        change = (now[name] - before[name]).abs().flatten(1).mean(1)
        scale = speed if name == "velocity" else now[name].flatten(1).mean(1)
        worst = torch.maximum(worst, (change / scale).amax())
    found = float(worst) / time_step
    return found if found == found else torch.inf


@dataclass
class Residual:
    """Follows the residual. Implements ``Writer`` and ``Resumable``.

    Attributes:
        limit: below it the flow is steady.
        ahead: from a state to what is seen a step later, and the length of that step; None
            to compare with the step before.
        value: residual of the last frame.
        time: of that frame.
    """

    limit: float
    ahead: Callable[[Any], tuple[Mapping[str, Tensor], float]] | None = None
    value: float = torch.inf
    time: float = 0.0
    _step: int = -1
    _before: dict[str, Tensor] = field(default_factory=dict)

    def trigger(self, interval: int) -> Trigger:
        """Return the trigger for multiples of ``interval``, and the steps before them."""
        if self.ahead is not None:
            return every(interval)
        return lambda step: step % interval == 0 or (step + 1) % interval == 0

    def write(
        self, step: int, time: float, state: Any, observed: Mapping[str, Tensor]
    ) -> None:
        """Compare with the fields of the step before, if they were seen, or ahead."""
        if self.ahead is not None:
            self.value, self.time = residual_of(observed, *self.ahead(state)), time
            return
        now = {name: observed[name].detach().cpu().clone() for name in FIELDS}
        if step == self._step + 1 and self._before:
            self.value = residual_of(self._before, now, time - self.time)
        self._step, self._before, self.time = step, now, time

    def reached(self) -> bool:
        """Whether the flow is steady."""
        return self.value < self.limit

    def told(self, outcome: Outcome) -> Outcome:
        """Return an outcome with the time of the steady state and the check ``steady``."""
        figures = dict(outcome.figures)
        if self.reached():
            note = f"changes fell below time.steady = {self.limit:g}; the run ended here"
            figures["steady_time"] = Figure(self.time, "L / sqrt(R T0)", note=note)
        note = "relative change of the fields per unit of time when the run ended"
        check = Check("steady", "accuracy", self.value, self.limit, note=note)
        return replace(outcome, figures=figures, checks=[*outcome.checks, check])

    def tensors(self) -> dict[str, Tensor]:
        """Return what must be restored."""
        kept = torch.tensor([self.value, self.time, self._step], dtype=torch.float64)
        return {"residual": kept, **self._before}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`tensors` returned."""
        self.value, self.time, step = tensors["residual"].tolist()
        self._step = int(step)
        self._before = {name: tensors[name] for name in FIELDS if name in tensors}
