"""The stationary shock in a 1V gas, by the kinetic equation and every macroscopic model."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models.closures.contract import takes_faces
from ...models.closures.recurrence import Coefficient
from ..errors import GuardError
from ..gas.boundaries import Sides
from ..gas.equations.fluid import FluidWorld
from ..gas.equations.hermite import Closure, hermite_world, roots, rusanov
from ..gas.equations.recurrence import recurrence_world
from ..gas.flows.fronts import Shock
from ..gas.grid import Grid
from ..gas.material import Gas
from .trainers.recurrence import complex_share

KNUDSEN = 0.05
"""Upstream mean free path in units of the closure's length."""


@dataclass(frozen=True)
class Profile:
    """Density and temperature from 0 ahead to 1 behind; x from the middle in free paths."""

    x: Tensor
    density: Tensor
    temperature: Tensor

    @property
    def steepness(self) -> float:
        """Largest slope of the density: the inverse thickness in free paths."""
        return float((self.density.diff() / self.x.diff()).max())

    def at(self, x: Tensor, field: str) -> Tensor:
        """Interpolate linearly."""
        values = np.interp(x.numpy(), self.x.numpy(), getattr(self, field).numpy())
        return torch.from_numpy(values)


def profile(shock: Shock, grid: Grid, density: Tensor, temperature: Tensor) -> Profile:
    """Return the normalised profile with x = 0 where the density is half-way."""
    a, b = shock.ends
    rho = (density.double() - a[0]) / (b[0] - a[0])
    theta = (temperature.double() - a[2]) / (b[2] - a[2])
    x = grid.centers(0) / shock.knudsen
    above = int((rho > 0.5).int().argmax())
    if above > 0:
        low, high = float(rho[above - 1]), float(rho[above])
        share = (0.5 - low) / (high - low)
        x = x - (float(x[above - 1]) + share * float(x[above] - x[above - 1]))
    return Profile(x, rho, theta)


def _line(shock: Shock, cells: int) -> tuple[Grid, tuple[Sides, ...], Gas]:
    """The box of a shock, its sides and its gas."""
    return shock.grid(cells), (shock.sides,), Gas.constant_time(dimension=1)


def _knudsen() -> Tensor:
    return torch.tensor([KNUDSEN], dtype=torch.float64)


def kinetic(shock: Shock, cells: int, nodes: int, time: float) -> Profile:
    """Run the kinetic equation to ``time`` (in upstream mean free times)."""
    grid, world = shock.grid(cells), shock.kinetic(cells, nodes)
    rho, u, theta = shock.start(grid)
    state = world.equilibrium(rho, u[..., None], theta)
    state = world.advance(state, math.ceil(time * KNUDSEN / world.time_step))
    seen = world.observe(state)
    return profile(shock, grid, seen["density"][0], seen["temperature"][0])


def fluid(shock: Shock, cells: int, time: float) -> Profile | None:
    """Run Navier-Stokes-Fourier, or None where a guard stopped it."""
    grid, (_, b) = shock.grid(cells), shock.ends
    dx = grid.spacing[0]
    step = min(0.3 * dx / 18.0, 0.4 * dx**2 / (3.0 * KNUDSEN * 1.3 * b[2]))
    world = FluidWorld(*_line(shock, cells), 1, step, knudsen=_knudsen())
    rho, u, theta = shock.start(grid)
    state = world.start(rho, u[..., None], rho * theta)
    try:
        for _ in range(math.ceil(time * KNUDSEN / step)):
            state = world.step(state)
    except GuardError:
        return None
    seen = world.observe(state)
    return profile(shock, grid, seen["density"][0], seen["temperature"][0])


def moments(
    shock: Shock, cells: int, time: float, closure: Closure, order: int = 5
) -> tuple[Profile | None, float]:
    """Run moment equations; return the profile, None if it diverged, and fallback share."""
    grid = shock.grid(cells)
    rho, u, theta = shock.start(grid)
    line = _line(shock, cells)
    world = hermite_world(*line, _knudsen(), order, 1.0, closure, rusanov, check=False)
    state = world.equilibrium(rho, u[..., None], theta)
    step = world.stable_step(state, 0.35)
    world = world.with_time_step(step)
    steps = math.ceil(time * KNUDSEN / step)
    with torch.no_grad():
        for _ in range(steps):
            state = world.step(state)
    end = world.equations.primitive(state.moments)[0]
    share = float(state.fallbacks[0]) / (2 * steps * cells)
    if not bool(end.isfinite().all() and (end[0] > 0).all() and (end[2] > 0).all()):
        return None, share
    return profile(shock, grid, end[0], end[2]), share


def realizable(
    shock: Shock, cells: int, time: float, closure: Coefficient
) -> tuple[Profile | None, float]:
    """Run six realizable moments from the same start for the same time.

    Returns:
        The profile (None if it diverged) and the share of cells at the end in which some
        signal speed is not real: nothing is replaced there, but the equations are then
        ill-posed.
    """
    grid = shock.grid(cells)
    rho, u, theta = shock.start(grid)
    step = 0.6 * grid.spacing[0] / float((u.abs() + LARGEST * theta.sqrt()).amax())
    world = recurrence_world(*_line(shock, cells), _knudsen(), step, closure)
    state = world.equilibrium(rho, u[..., None], theta)
    try:
        with torch.no_grad():
            for _ in range(math.ceil(time * KNUDSEN / world.time_step)):
                state = world.step(state)
    except GuardError:
        return None, 1.0
    some = world.equations.primitive(state.moments)[0].T
    share = complex_share(closure, some)
    return profile(shock, grid, some[:, 0], some[:, 2]), share


LARGEST = float(roots(5).max())
"""Speed of six hyperbolic moments over ``sqrt(theta)``, by which the step is chosen."""

Runner = Callable[[Shock, int, float], tuple[Profile | None, float]]


def runner(module: Any) -> Runner:
    """Return what runs a shock with a learned closure of faces or of a recurrence."""
    if takes_faces(module):
        return partial(moments, closure=module, order=module.config.order)
    return partial(realizable, closure=module)
