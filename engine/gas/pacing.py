"""Steps that follow the state: the Courant number is kept, whatever the waves do.

A step of a fixed length suits the start of a flow; where a blast wave or a shock forms
later, waves outrun it. :class:`Paced` makes every step from the state that it begins with,

    dt = C / max_cells sum_k (|u_k| + c) / dx_k,

so that a run goes on bit for bit from any state. Steps are fitted to even intervals, at
whose ends a state can be written: within one, the rest is divided into equal steps that are
no longer than ``dt``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import GuardError


class Follows(Protocol):
    """What a world offers whose step may follow the state."""

    def stable_step(self, state: Any, cfl: float = ...) -> float:
        """Return the step of a Courant number."""
        ...

    def paced(self, state: Any, time_step: float) -> Any:
        """Return the world whose next step, from ``state``, has a length."""
        ...

    def observe(self, state: Any) -> Mapping[str, Tensor]:
        """Return what the world observes."""
        ...

    def init(self, rng: torch.Generator) -> Any:
        """Return a state to begin with."""
        ...


@dataclass(frozen=True)
class Paced:
    """A world that is advanced by an ``interval`` at a time. Implements ``Simulator``.

    Attributes:
        world: what is stepped.
        cfl: Courant number of every step.
        interval: of time; the ends of intervals are met exactly.
        shortest: a step below it ends the run.
    """

    world: Follows
    cfl: float
    interval: float
    shortest: float

    @property
    def time_step(self) -> float:
        """The interval."""
        return self.interval

    def init(self, rng: torch.Generator) -> Any:
        """Return what the world begins with."""
        return self.world.init(rng)

    def step(self, state: Any) -> Any:
        """Advance to the end of the interval that the state is in.

        Raises:
            GuardError: the step fell below ``shortest``, or as of the world.
        """
        end = (round(float(state.time) / self.interval) + 1) * self.interval
        left = 1
        while left:
            longest = self.longest(state)
            left = max(1, math.ceil((end - float(state.time)) / longest - 1e-9))
            step = (end - float(state.time)) / left
            state = self.world.paced(state, step).step(state)
            left -= 1
        return replace(state, time=torch.full_like(state.time, end))

    def ahead(self, state: Any) -> tuple[Mapping[str, Tensor], float]:
        """Return what is seen a single step later, not an interval, and its length."""
        step = self.longest(state)
        return self.world.observe(self.world.paced(state, step).step(state)), step

    def longest(self, state: Any) -> float:
        """Return the step that the Courant number allows.

        Raises:
            GuardError: it is below ``shortest``, or no number.
        """
        step = self.world.stable_step(state, self.cfl)
        if step >= self.shortest:
            return step
        raise GuardError(
            f"time step {step:.3g} at time {float(state.time):.6g} fell below "
            f"time.shortest = {self.shortest:.3g}: a cell is too fast or too hot; look at "
            "the last good state, refine or smooth the start, or lower time.shortest",
            int(state.step),
            state,
        )

    def observe(self, state: Any) -> dict[str, Tensor]:
        """Return what the world observes; ``time_step`` of the state, ``steps`` made."""
        seen = {k: v for k, v in self.world.observe(state).items() if k != "courant"}
        step = torch.tensor([self.world.stable_step(state, self.cfl)], dtype=torch.float64)
        return {**seen, "time_step": step, "steps": state.step.reshape(1).clone()}
