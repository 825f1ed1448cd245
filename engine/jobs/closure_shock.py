"""The stationary shock in a 1V gas, by the kinetic equation and every macroscopic model."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...models.closures.face import FaceClosure
from ...models.closures.recurrence import (
    Coefficient,
    RecurrenceClosure,
    coefficients,
    geometric,
    speeds,
)
from ..errors import GuardError
from ..gas.grid import Grid
from ..gas.material import Gas
from ..gas.moment.fluid import FluidWorld
from ..gas.moment.hermite import Closure, HermiteWorld, hyperbolic, primitive
from ..gas.moment.learned import Learned
from ..gas.moment.realizable import RealizableWorld
from ..gas.moment.upwind import rusanov
from ..learn.explorers.fronts import Shock
from ..protocols import Figure, Outcome, told
from ..run import Reporter
from ..rundir import RunFolder
from ..schema.closure import ClosureShockScenario

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
    x = grid.centers(0) / KNUDSEN
    above = int((rho > 0.5).int().argmax())
    if above > 0:
        low, high = float(rho[above - 1]), float(rho[above])
        share = (0.5 - low) / (high - low)
        x = x - (float(x[above - 1]) + share * float(x[above] - x[above - 1]))
    return Profile(x, rho, theta)


def kinetic(shock: Shock, cells: int, nodes: int, time: float) -> Profile:
    """Run the kinetic equation to ``time`` (in upstream mean free times)."""
    grid, world = shock.grid(cells), shock.kinetic(cells, nodes)
    rho, u, theta = shock.start(grid)
    state = world.equilibrium(rho, u[..., None], theta)
    state = world.advance(state, math.ceil(time * KNUDSEN / world.time_step))
    seen = world.observe(state)
    return profile(shock, grid, seen["density"][0], seen["temperature"][0])


def fluid(shock: Shock, cells: int, time: float) -> Profile | None:
    """Run Navier-Stokes-Fourier, None if it stopped."""
    grid, (_, b) = shock.grid(cells), shock.ends
    dx = grid.spacing[0]
    step = min(0.3 * dx / 18.0, 0.4 * dx**2 / (3.0 * KNUDSEN * 1.3 * b[2]))
    world = FluidWorld(
        grid=grid,
        sides=(shock.sides,),
        gas=Gas.constant_time(dimension=1),
        batch=1,
        time_step=step,
        knudsen=torch.tensor([KNUDSEN], dtype=torch.float64),
    )
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
    """Run moment equations; return the profile (None if lost) and the fallback share."""
    grid = shock.grid(cells)
    rho, u, theta = shock.start(grid)
    w = torch.zeros(1, cells, order + 1, dtype=torch.float64)
    w[..., 0], w[..., 1], w[..., 2] = rho, u, theta
    step = HermiteWorld.stable_step(grid, w, order, 0.35)
    world = HermiteWorld(
        grid=grid,
        sides=(shock.sides,),
        gas=Gas.constant_time(dimension=1),
        knudsen=torch.tensor([KNUDSEN], dtype=torch.float64),
        order=order,
        time_step=step,
        closure=closure,
        dissipation=rusanov,
        check=False,
    )
    state = world.start(w)
    steps = math.ceil(time * KNUDSEN / step)
    with torch.no_grad():
        for _ in range(steps):
            state = world.step(state)
    end = primitive(state.moments)[0]
    share = float(state.fallbacks[0]) / (2 * steps * cells)
    if not bool(end.isfinite().all() and (end[:, 0] > 0).all() and (end[:, 2] > 0).all()):
        return None, share
    return profile(shock, grid, end[:, 0], end[:, 2]), share


def realizable(
    shock: Shock, cells: int, time: float, closure: Coefficient
) -> tuple[Profile | None, float]:
    """Run six realizable moments from the same start for the same time.

    Returns:
        The profile (None if lost) and the share of cells at the end in which some signal
        speed is not real: nothing is replaced there, but the equations are ill-posed.
    """
    grid = shock.grid(cells)
    rho, u, theta = shock.start(grid)
    w = torch.stack([rho, u, theta], -1)
    world = RealizableWorld(
        grid=grid,
        sides=(shock.sides,),
        gas=Gas.constant_time(dimension=1),
        knudsen=torch.tensor([KNUDSEN], dtype=torch.float64),
        time_step=HermiteWorld.stable_step(grid, w, 5, 0.6),
        closure=closure,
    )
    state = world.start(rho, u, theta)
    try:
        with torch.no_grad():
            for _ in range(math.ceil(time * KNUDSEN / world.time_step)):
                state = world.step(state)
    except GuardError:
        return None, 1.0
    some = coefficients(state.moments[0])
    found = speeds(closure, some)
    lost = (found.imag.abs() > 1e-6 * (1.0 + found.abs())).any(-1)
    return profile(shock, grid, some[:, 0], some[:, 2]), float(lost.double().mean())


Runner = Callable[[Shock, int, float], tuple[Profile | None, float]]


def runner(module: FaceClosure | RecurrenceClosure) -> Runner:
    """Return what runs a shock with a learned closure of either kind."""
    match module:
        case RecurrenceClosure():
            return partial(realizable, closure=module)
        case FaceClosure():
            return partial(moments, closure=Learned(module))


@dataclass(frozen=True)
class ShockComparison:
    """All models on one shock; moment models with the cells halved several times."""

    scenario: ClosureShockScenario
    modules: Mapping[str, Sequence[FaceClosure | RecurrenceClosure]]

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Compare inverse thickness and temperature profile with the kinetic solution."""
        s = self.scenario
        shock = Shock(s.mach, s.extent, KNUDSEN)
        folder.load_checkpoint()
        figures: dict[str, Figure] = {}
        verdicts: dict[str, str] = {}
        closures: dict[str, Runner] = {
            "hme": partial(moments, closure=hyperbolic),
            "realizable": partial(realizable, closure=geometric),
        }
        closures |= {name: runner(group[0]) for name, group in self.modules.items()}
        total = 2 + len(closures) * (1 + s.halvings)
        true = kinetic(shock, 4 * s.cells, s.velocities, s.time)
        self._keep(folder, "kinetic", true)
        figures["steepness_kinetic"] = Figure(true.steepness, "1/free path")
        report.progress(1, total, {"kinetic": f"{true.steepness:.4f}"})
        found = fluid(shock, 2 * s.cells, s.time)
        figures |= self._judge(folder, "nsf", found, true)
        report.progress(2, total, {"nsf": "done"})
        done = 2
        for name, run in closures.items():
            last = None
            for level in range(s.halvings + 1):
                cells = s.cells * 2**level
                found, share = run(shock, cells, s.time)
                label = f"{name}_{cells}"
                figures |= self._judge(folder, label, found, true)
                figures[f"fallback_{label}"] = Figure(
                    share, "", note="share of faces, or of cells with speeds not real"
                )
                if found is not None and last is not None:
                    change = abs(found.steepness / last.steepness - 1)
                    figures[f"grid_change_{label}"] = Figure(change, "relative")
                last = found
                done += 1
                report.progress(done, total, {"model": label})
            verdicts[f"stable_{name}"] = "ok" if last is not None else "the run was lost"
        return Outcome(figures, told(verdicts))

    def _judge(
        self, folder: RunFolder, name: str, found: Profile | None, true: Profile
    ) -> dict[str, Figure]:
        if found is None:
            return {}
        self._keep(folder, name, found)
        x = torch.linspace(-10.0, 10.0, 401, dtype=torch.float64)
        miss = found.at(x, "temperature") - true.at(x, "temperature")
        error = abs(found.steepness / true.steepness - 1)
        return {
            f"steepness_{name}": Figure(found.steepness, "1/free path"),
            f"thickness_error_{name}": Figure(error, "relative"),
            f"temperature_rms_{name}": Figure(float(miss.square().mean().sqrt())),
        }

    def _keep(self, folder: RunFolder, name: str, found: Profile) -> None:
        table = torch.stack([found.x, found.density, found.temperature])
        array = folder.store.create_array(f"profile_{name}", data=table.numpy())
        array.attrs["unit"] = "x in free paths; density and temperature from 0 to 1"
        array.attrs["long_name"] = name
