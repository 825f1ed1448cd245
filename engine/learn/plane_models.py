"""Flows of the plane by HME, alone or with a closure: runs and their errors."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models.closures.contract import Closure
from ..errors import GuardError
from ..gas.boundaries import ALL_PERIODIC
from ..gas.equations.hermite import hermite_world
from ..gas.flows import planes
from ..gas.scheme.finite_volume import koren
from .trainers.closure import steps_between


@dataclass(frozen=True)
class PlaneRun:
    """What a model made of the flows.

    Attributes:
        fields: ``[times, flows, 4, nx, ny]`` density, momenta, energy; NaN once diverged.
        steps: made in all.
        fallback: share of the cells where the closure fell back to HME, at the times.
        seconds: CPU time of all flows together.
    """

    fields: Tensor
    steps: int
    fallback: float = 0.0
    seconds: float = 0.0

    def errors(self, true: Tensor) -> Tensor:
        """Return errors by the signal, ``[times, flows]``; ``true`` as ``fields``."""
        pairs = zip(self.fields, true, strict=True)
        return torch.stack([planes.signal_error(a, b) for a, b in pairs])


def run_plane(
    start: Tensor,
    knudsen: Tensor,
    times: Sequence[float],
    order: int,
    closure: Closure | None = None,
    courant: float = 0.8,
) -> PlaneRun:
    """Run the moment equations of the plane from w at the first of some times.

    Args:
        start: ``[flows, N, cells, cells]`` w.
        knudsen: ``[flows]``.
        times: rising.
        order: M.
        closure: None for HME.
        courant: of the fastest signal at the start.
    """
    grid = planes.box(start.shape[-1])
    sides = (ALL_PERIODIC, ALL_PERIODIC)
    world = hermite_world(
        grid, sides, planes.GAS, knudsen, order, 1.0, closure, limiter=koren
    )
    longest = courant / world.courant_rate(start)
    world = world.with_time_step(longest)
    state, total, away = world.start(start), 0, []
    first = planes.conserved(state.moments)
    found = torch.full((len(times), *first.shape), math.nan, dtype=first.dtype)
    found[0], begun = first, time.process_time()
    try:
        with torch.no_grad():
            for number, (steps, time_step) in enumerate(
                steps_between(times, longest), start=1
            ):
                world = replace(world, time_step=time_step)
                for _ in range(steps):
                    state = world.step(state)
                total += steps
                found[number] = planes.conserved(state.moments)
                if closure is not None:
                    said = world.equations.in_cells(
                        world.equations.primitive(state.moments), world
                    )
                    away.append(float(said.fallback[0].double().mean()))
    except GuardError:
        pass
    seconds = time.process_time() - begun
    return PlaneRun(found, total, max(away, default=0.0), seconds)
