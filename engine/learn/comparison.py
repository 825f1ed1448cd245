"""The comparison: every macroscopic model on the same flows, against the kinetic equation.

Baselines are Euler, Navier-Stokes-Fourier, the hyperbolic moment equations with as many
moments, and learned closures. All start from cell averages of the same distribution, run
on the same grid, and are compared in density, momentum and energy together and in the
higher moments. An error is measured by what there is to predict: the departure of the
kinetic answer from its mean at that time (:func:`signal_error`). So the answer "uniform
gas" is off by 1 at all times, and stands in every table (:func:`run_null`) beside the
answer "nothing has moved"; and every error has the CPU time that it cost beside it.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models.closures.recurrence import Coefficient, coefficients, geometric
from ..errors import GuardError
from ..gas.boundaries import ALL_PERIODIC, Sides
from ..gas.equations.fluid import FluidWorld
from ..gas.equations.hermite import Closure, Dissipation, hermite_world, hyperbolic, roe
from ..gas.equations.line import conserved, from_raw, primitive
from ..gas.equations.recurrence import recurrence_world
from ..gas.flows.lines import DECADES, Flow, averaged, box, flows, knudsen_numbers, solve
from ..gas.grid import Grid
from ..gas.material import Gas
from ..gas.scheme.finite_volume import koren
from ..gas.scheme.positivity import PositivityFallback
from ..protocols import Figure
from .trainers.closure import moment_error, steps_between

TIMES = (0.0, 0.1, 0.3, 1.0)
"""When models are compared."""

NULL = ("uniform_gas", "unmoved_gas")
"""Models that predict nothing: the mean of the start, and the start itself."""


@dataclass(frozen=True)
class Reference:
    """Held-out flows with their kinetic solution.

    Attributes:
        raw: ``[times, flows, cells, orders]`` raw moments, cell averages.
        knudsen: ``[flows]`` or ``[flows, cells]``.
        times: rising, from 0.
        sides: of the line.
        size: its length.
    """

    raw: Tensor
    knudsen: Tensor
    times: tuple[float, ...]
    sides: Sides = ALL_PERIODIC
    size: float = 1.0

    def on(self, cells: int) -> "Reference":
        """Return the same on a coarser grid."""
        kn = self.knudsen
        if kn.dim() == 2:
            kn = kn.unflatten(1, (cells, -1)).mean(-1)
        return replace(self, raw=averaged(self.raw, cells), knudsen=kn)

    def until(self, time: float) -> "Reference":
        """Return the part up to ``time``."""
        kept = [t for t in self.times if t <= time + 1e-12]
        return replace(self, raw=self.raw[: len(kept)], times=tuple(kept))

    def moments(self, order: int) -> Tensor:
        """Return (rho, rho u, rho (u^2 + theta), f_3 .. f_M), ``[.., M + 1]``."""
        return conserved(from_raw(self.raw, order))


def reference(
    some: Sequence[Flow],
    times: Sequence[float] = TIMES,
    cells: int = 400,
    nodes: int = 120,
    coarse: int = 100,
) -> Reference:
    """Solve the kinetic equation for some flows; see :func:`..gas.flows.lines.solve`."""
    raw = solve(some, times, cells, nodes, coarse)
    return Reference(raw, knudsen_numbers(some, box(coarse)), tuple(times))


def held_out(
    family: str, seed: int, count: int, first: int = 0, **options: int
) -> Reference:
    """Return the reference of one family; see :func:`reference` for the options."""
    return reference(flows(family, seed, count, first), TIMES, **options)


@dataclass(frozen=True)
class Run:
    """Result of one model on the flows.

    Attributes:
        moments: ``[times, flows, cells, 3 or M + 1]``; not finite from a blow-up on.
        fallback: ``[flows]`` share of the faces where a closure fell back to HME.
        outside: ``[flows]`` share of the faces where it was outside its training range.
        seconds: CPU time of all flows together.
    """

    moments: Tensor
    fallback: Tensor
    outside: Tensor
    seconds: float = 0.0

    def errors(self, true: Reference) -> Tensor:
        """Return :func:`signal_error` at all times, ``[times, flows]``."""
        return signal_error(self.moments, true.moments(3))

    def high_errors(self, true: Reference) -> Tensor:
        """Return the distance of the scaled moments f_3 .. f_M, ``[times, flows]``."""
        exact = true.moments(self.moments.shape[-1] - 1)
        return torch.stack(
            [moment_error(a, b) for a, b in zip(self.moments, exact, strict=True)]
        )


def signal_error(moments: Tensor, true: Tensor) -> Tensor:
    r"""Return the error by what there is to predict, ``[...]``.

    ``|U - V| / |V - mean(V)|`` in L2 over the cells, U and V being (rho, rho u, energy) of
    a model and of the kinetic equation, with the mean over the cells at that time. A gas
    that has become uniform leaves nothing to predict: not finite there.

    Args:
        moments: ``[..., cells, >= 3]`` with ``rho (u^2 + theta)`` third.
        true: the same.
    """
    weight = true.new_tensor([1.0, 1.0, 0.5])
    exact = true[..., :3] * weight
    miss = (moments[..., :3].to(true) * weight - exact).square().sum((-2, -1))
    signal = (exact - exact.mean(-2, keepdim=True)).square().sum((-2, -1))
    return (miss / signal).sqrt()


def run_null(true: Reference, name: str) -> Run:
    """Return one of the models that predict nothing, see :data:`NULL`."""
    start = true.moments(3)[:1]
    if name == "uniform_gas":
        start = start.mean(2, keepdim=True).expand_as(start)
    still = start.expand(len(true.times), *start.shape[1:])
    none = torch.zeros(start.shape[1], dtype=torch.float64)
    return Run(still, none, none)


def _line(true: Reference) -> tuple[Grid, tuple[Sides, ...], Gas]:
    """The box of the flows, its sides and its gas."""
    grid = box(true.raw.shape[2], true.size)
    return grid, (true.sides,), Gas.constant_time(dimension=1)


def _longest(courant: float, true: Reference) -> float:
    return courant / 6.0 / true.raw.shape[2] * true.size * 1.2


def run_moments(
    true: Reference,
    order: int,
    closure: Closure = hyperbolic,
    courant: float = 0.5,
    dissipation: Dissipation = roe,
    dtype: torch.dtype = torch.float64,
    after: Callable[[Tensor], Tensor] | None = None,
    once: bool = False,
) -> Run:
    """Run the moment equations from the start of a reference.

    Args:
        true: gives start, Knudsen numbers, grid and times.
        order: M.
        closure: HME, or a learned one.
        courant: ``6 time_step / spacing``; the signal speed is about 6 at most here.
        dissipation: of the scheme.
        dtype: f64 or f32.
        after: what becomes of the moments at the end of every step, for moments that are
            themselves learned.
        once: ask the closure once a step.
    """
    start = from_raw(true.raw[0], order).to(dtype)
    cells = start.shape[1]
    world = hermite_world(
        *_line(true), true.knudsen, order, _longest(courant, true), closure, dissipation,
        limiter=koren, dtype=dtype, check=False, once=once,
    )  # fmt: skip
    state = world.start(start.movedim(-1, 1))
    found, total, begun = [state.moments], 0, time.process_time()
    with torch.no_grad():
        for steps, time_step in steps_between(true.times, world.time_step):
            sure = PositivityFallback(replace(world, time_step=time_step))
            for _ in range(steps):
                state = sure.step(state)
                if after is not None:
                    moved = after(state.moments.movedim(1, -1)).movedim(-1, 1)
                    state = replace(state, moments=moved)
            total += steps
            found.append(state.moments)
    faces = max(1, total * (cells + 1))  # counted once in a step
    moments = torch.stack(found).movedim(2, -1).double()
    seconds = time.process_time() - begun
    away = state.fallbacks.double() / faces, state.outside.double() / faces
    return Run(moments, *away, seconds)


def run_realizable(
    true: Reference, closure: Coefficient = geometric, courant: float = 0.5
) -> Run:
    """Run six realizable moments from the start of a reference.

    A flow that diverges has NaN at all later times; the others continue.

    Args:
        true: gives start, Knudsen numbers, grid and times.
        closure: b_3.
        courant: as for :func:`run_moments`.
    """
    longest = _longest(courant, true)
    world = recurrence_world(*_line(true), true.knudsen, longest, closure, check=False)
    state = world.start(coefficients(true.raw[0, ..., :6]).movedim(-1, 1))
    rest, well = state.moments, torch.ones(len(true.knudsen), dtype=torch.bool)
    begun = time.process_time()
    found = [conserved(from_raw(rest.movedim(1, -1), 5))]
    with torch.no_grad():
        for steps, time_step in steps_between(true.times, longest):
            world = world.with_time_step(time_step)
            for _ in range(steps):
                state = world.step(state)
                some = world.equations.primitive(state.moments)
                well &= (some[:, [0, 2, 4]] > 0).flatten(1).all(-1)
                kept = torch.where(well[:, None, None], state.moments, rest)
                state = replace(state, moments=kept)
            now = conserved(from_raw(state.moments.movedim(1, -1), 5))
            found.append(torch.where(well[:, None, None], now, math.nan))
    none = torch.zeros(len(well), dtype=torch.float64)
    return Run(torch.stack(found), none, none, time.process_time() - begun)


def run_fluid(true: Reference, viscous: bool) -> Run:
    """Run Euler or Navier-Stokes-Fourier; a model that stops has NaN from then on.

    Flows are run one Knudsen decade at a time, since the explicit step of the viscous terms
    falls like 1 / Kn.
    """
    kn = true.knudsen if true.knudsen.dim() == 1 else true.knudsen.amax(1)
    found = torch.full((*true.raw.shape[:3], 3), math.nan, dtype=torch.float64)
    groups = kn.log10().floor() if viscous else torch.zeros_like(kn)
    begun = time.process_time()
    for group in groups.unique():
        at = torch.nonzero(groups == group)[:, 0]
        some = replace(true, raw=true.raw[:, at], knudsen=kn[at])
        found[:, at] = _fluid(some, viscous)
    none = torch.zeros(len(kn), dtype=torch.float64)
    return Run(found, none, none, time.process_time() - begun)


def _fluid(true: Reference, viscous: bool) -> Tensor:
    raw, kn, times = true.raw, true.knudsen, true.times
    w = primitive(raw[0, ..., :3])
    cells = w.shape[1]
    width = true.size / cells
    longest = 0.4 * width / 4.0
    if viscous:
        # Stable for the heat flux: 3 Kn theta, theta to 2.5.
        longest = min(longest, 0.5 * width**2 / (3.0 * float(kn.max()) * 2.5))
    known = kn if viscous else None
    world = FluidWorld(*_line(true), len(kn), longest, knudsen=known)
    out = torch.full((len(times), len(kn), cells, 3), math.nan, dtype=torch.float64)
    state = world.start(w[..., 0], w[..., 1:2], w[..., 0] * w[..., 2])
    out[0] = raw[0, ..., :3]
    try:
        for number, (steps, time_step) in enumerate(steps_between(times, longest), start=1):
            world = world.with_time_step(time_step)
            for _ in range(steps):
                state = world.step(state)
            u = world.inside(state.u).movedim(1, -1).double()
            out[number] = torch.cat([u[..., :2], 2.0 * u[..., 2:]], -1)
    except GuardError:
        pass
    return out


# -- tables --------------------------------------------------------------------------------


WORST = "error by the signal, mean of the flows of the worst decade of the Knudsen number"
WORST_GROUP = "error by the signal, mean of the worst of four groups of flows"
MEDIAN = "error by the signal of the flow in the middle"
WORST_FLOW = "error by the signal of the worst flow"


def worst_decade(errors: Tensor) -> Tensor:
    """Return the mean error of the worst Knudsen decade, ``[times]``.

    Args:
        errors: ``[times, flows]``; a flow that diverged makes its decade infinite.
    """
    safe = finite_or_lost(errors)
    groups = [safe[:, first::DECADES] for first in range(min(DECADES, safe.shape[1]))]
    return torch.stack([group.mean(1) for group in groups]).amax(0)


def finite_or_lost(errors: Tensor) -> Tensor:
    """Return errors with infinity where a run diverged."""
    return errors.nan_to_num(nan=math.inf, posinf=math.inf)


def error_figures(
    name: str, errors: Tensor, times: Sequence[float], note: str = WORST
) -> dict[str, Figure]:
    """Return worst decade, worst flow (medians over members), median flow above time 0.

    Args:
        name: of the model.
        errors: ``[members, times, flows]``.
        times: of the errors.
        note: of the worst decade.
    """
    worst = torch.stack([worst_decade(each) for each in errors])
    single, found = finite_or_lost(errors).amax(2), {}
    for i, at in enumerate(times):
        if at > 0:
            tag = f"{name}_t{at:g}".replace(".", "")
            spread = float(worst[:, i].amax() - worst[:, i].amin())
            bar = spread if len(worst) > 1 else None
            middle = float(worst[:, i].median())
            found[f"worst_decade_{tag}"] = Figure(middle, "", bar, note)
            one = float(single[:, i].median())
            found[f"worst_flow_{tag}"] = Figure(one, "", note=WORST_FLOW)
            middle = float(errors[:, i].median())
            found[f"median_{tag}"] = Figure(middle, "", note=MEDIAN)
    return found


def cost_figure(name: str, seconds: float) -> dict[str, Figure]:
    """Return the CPU time that stands beside the errors of a model."""
    note = "CPU time of all flows, one network where there are several"
    return {f"seconds_{name}": Figure(seconds, "s", note=note)}
