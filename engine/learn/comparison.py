"""The comparison: every macroscopic model on the same flows, against the kinetic equation.

Baselines are Euler, Navier-Stokes-Fourier, the hyperbolic moment equations with as many
moments, and learned closures. All start from cell averages of the same distribution, run
on the same grid, and are compared in density, momentum and energy together (relative L2)
and in the higher moments.
"""

import math
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
from ..gas.grid import Grid
from ..gas.material import Gas
from ..gas.scheme.finite_volume import koren
from ..gas.scheme.positivity import PositivityFallback
from ..protocols import Figure
from .explorers.flows import DECADES, Flow, averaged, box, flows, knudsen_numbers, solve
from .trainers.closure import moment_error, relative_error, steps_between

TIMES = (0.0, 0.1, 0.3, 1.0)
"""When models are compared."""


@dataclass(frozen=True)
class Reference:
    """Held-out flows with their kinetic solution.

    Attributes:
        raw: ``[times, flows, cells, orders]`` raw moments, cell averages.
        knudsen: ``[flows]`` or ``[flows, cells]``.
        times: rising, from 0.
    """

    raw: Tensor
    knudsen: Tensor
    times: tuple[float, ...]

    def on(self, cells: int) -> "Reference":
        """Return the same on a coarser grid."""
        kn = self.knudsen
        if kn.dim() == 2:
            kn = kn.unflatten(1, (cells, -1)).mean(-1)
        return Reference(averaged(self.raw, cells), kn, self.times)

    def until(self, time: float) -> "Reference":
        """Return the part up to ``time``."""
        kept = [t for t in self.times if t <= time + 1e-12]
        return Reference(self.raw[: len(kept)], self.knudsen, tuple(kept))

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
    """Solve the kinetic equation for some flows; see :func:`.explorers.flows.solve`."""
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
    """

    moments: Tensor
    fallback: Tensor

    def errors(self, true: Reference) -> Tensor:
        """Return the relative error of the conserved fields, ``[times, flows]``."""
        exact = true.moments(3)
        return torch.stack(
            [relative_error(a, b) for a, b in zip(self.moments, exact, strict=True)]
        )

    def high_errors(self, true: Reference) -> Tensor:
        """Return the distance of the scaled moments f_3 .. f_M, ``[times, flows]``."""
        exact = true.moments(self.moments.shape[-1] - 1)
        return torch.stack(
            [moment_error(a, b) for a, b in zip(self.moments, exact, strict=True)]
        )


def _line(cells: int) -> tuple[Grid, tuple[Sides, ...], Gas]:
    """The periodic box of the flows, its sides and its gas."""
    return box(cells), (ALL_PERIODIC,), Gas.constant_time(dimension=1)


def _longest(courant: float, cells: int) -> float:
    return courant / 6.0 / cells * 1.2


def run_moments(
    true: Reference,
    order: int,
    closure: Closure = hyperbolic,
    courant: float = 0.5,
    dissipation: Dissipation = roe,
    dtype: torch.dtype = torch.float64,
    after: Callable[[Tensor], Tensor] | None = None,
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
    """
    start = from_raw(true.raw[0], order).to(dtype)
    cells = start.shape[1]
    world = hermite_world(
        *_line(cells), true.knudsen, order, _longest(courant, cells), closure, dissipation,
        limiter=koren, dtype=dtype, check=False,
    )  # fmt: skip
    state = world.start(start.movedim(-1, 1))
    found, total = [state.moments], 0
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
    return Run(moments, state.fallbacks.double() / faces)


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
    cells = true.raw.shape[2]
    longest = _longest(courant, cells)
    world = recurrence_world(*_line(cells), true.knudsen, longest, closure, check=False)
    state = world.start(coefficients(true.raw[0, ..., :6]).movedim(-1, 1))
    rest, well = state.moments, torch.ones(len(true.knudsen), dtype=torch.bool)
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
    return Run(torch.stack(found), torch.zeros(len(well), dtype=torch.float64))


def run_fluid(true: Reference, viscous: bool) -> Run:
    """Run Euler or Navier-Stokes-Fourier; a model that stops has NaN from then on.

    Flows are run one Knudsen decade at a time, since the explicit step of the viscous terms
    falls like 1 / Kn.
    """
    kn = true.knudsen if true.knudsen.dim() == 1 else true.knudsen.amax(1)
    found = torch.full((*true.raw.shape[:3], 3), math.nan, dtype=torch.float64)
    groups = kn.log10().floor() if viscous else torch.zeros_like(kn)
    for group in groups.unique():
        at = torch.nonzero(groups == group)[:, 0]
        found[:, at] = _fluid(true.raw[:, at], kn[at], true.times, viscous)
    return Run(found, torch.zeros(len(kn), dtype=torch.float64))


def _fluid(raw: Tensor, kn: Tensor, times: Sequence[float], viscous: bool) -> Tensor:
    w = primitive(raw[0, ..., :3])
    cells = w.shape[1]
    longest = 0.4 / cells / 4.0
    if viscous:
        # Stable for the heat flux: 3 Kn theta, theta to 2.5.
        longest = min(longest, 0.5 / cells**2 / (3.0 * float(kn.max()) * 2.5))
    known = kn if viscous else None
    world = FluidWorld(*_line(cells), len(kn), longest, knudsen=known)
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


WORST = "mean L2 error of the flows in the worst decade of the Knudsen number"
WORST_GROUP = "mean L2 error of the worst of four groups of flows"
MEDIAN = "L2 error of the flow in the middle"


def worst_decade(errors: Tensor) -> Tensor:
    """Return the mean error of the worst Knudsen decade, ``[times]``.

    Args:
        errors: ``[times, flows]``; a flow that diverged makes its decade infinite.
    """
    safe = errors.nan_to_num(nan=math.inf, posinf=math.inf)
    groups = [safe[:, first::DECADES] for first in range(min(DECADES, safe.shape[1]))]
    return torch.stack([group.mean(1) for group in groups]).amax(0)


def error_figures(
    name: str, errors: Tensor, times: Sequence[float], note: str = WORST
) -> dict[str, Figure]:
    """Return worst decade (median over members) and median flow at each time above 0.

    Args:
        name: of the model.
        errors: ``[members, times, flows]``.
        times: of the errors.
        note: of the worst decade.
    """
    worst, found = torch.stack([worst_decade(each) for each in errors]), {}
    for i, time in enumerate(times):
        if time > 0:
            tag = f"{name}_t{time:g}".replace(".", "")
            spread = float(worst[:, i].amax() - worst[:, i].amin())
            bar = spread if len(worst) > 1 else None
            middle = float(worst[:, i].median())
            found[f"worst_decade_{tag}"] = Figure(middle, "relative", bar, note)
            middle = float(errors[:, i].median())
            found[f"median_{tag}"] = Figure(middle, "relative", note=MEDIAN)
    return found
