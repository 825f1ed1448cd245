"""From a scenario of gas dynamics to the job that runs it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..gas import exact
from ..gas.boundaries import Boundary, Inflow, Open, Periodic, Sides, Wall
from ..gas.grid import Grid
from ..gas.kinetic.velocities import Velocities
from ..gas.kinetic.world import KineticWorld
from ..gas.material import Gas
from ..gas.moment import grad13, hermite, hyperbolic
from ..gas.moment.fluid import FluidWorld, courant_guard, shock_jump, stages_for
from ..gas.moment.grad13 import Grad13World
from ..gas.moment.hermite import HermiteWorld
from ..gas.moment.hyperbolic import HyperbolicWorld
from ..gas.moment.state_equation import IdealGas
from ..gas.observe import on_host, positivity_guard, relative_drift
from ..protocols import Figure, Job, Outcome, told
from ..run import Simulation, ZarrWriter, every
from ..rundir import RunFolder
from ..runtime import dtype_of
from ..schema.gas import (
    EulerModel,
    GasPoint,
    GasScenario,
    Grad13Model,
    HermiteModel,
    InflowSide,
    JumpStart,
    KineticModel,
    Model,
    NsfModel,
    OpenSide,
    PeriodicSide,
    QuadrantStart,
    RelaxationScenario,
    ShearLayerStart,
    ShockStart,
    ShuOsherStart,
    Side,
    SoundStart,
    UniformStart,
    VortexStart,
    WallSide,
)

FIELDS = ("density", "velocity", "temperature", "stress", "heat_flux", "entropy")
UNITS = {
    "density": "rho0", "velocity": "sqrt(R T0)", "temperature": "T0", "stress": "rho0 R T0",
    "heat_flux": "rho0 (R T0)^1.5", "entropy": "rho0 R", "x": "L", "y": "L", "z": "L",
    "shear": "rho0 R T0", "heat": "rho0 (R T0)^1.5", "time": "L / sqrt(R T0)",
}  # fmt: skip
NOTES = {
    "limiter_activity": "fraction of cells at an extremum, where the limiter acts",
    "positivity": "faces, over all steps, where cell means stood in for a value below zero",
    "negative_fraction": "fraction of (cell, velocity) with a negative distribution",
    "fallbacks": "faces, over all steps, where the closure gave way",
    "complex_fraction": "fraction of cells with complex characteristic speeds",
    "complex_speed": "largest imaginary part of a characteristic speed over sqrt(R T)",
}
REMEDY = "lower the cfl, refine the grid, or choose a more robust model or scheme"


def assemble(scenario: GasScenario | RelaxationScenario, base: Path) -> Job:
    """Return the job of a scenario; it names no files, so ``base`` is not used.

    Raises:
        InputError: the parts contradict each other.
    """
    if isinstance(scenario, RelaxationScenario):
        from ..gas.kinetic.boltzmann import Relaxation

        return Relaxation(
            scenario.dimension,
            scenario.nodes,
            scenario.limit,
            scenario.angles,
            scenario.time_end,
            scenario.time_step,
            scenario.frames,
            scenario.device,
        )
    return GasJob(scenario, _problem(scenario))


# -- the problem, common to all models ---------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What all models of a scenario share.

    Attributes:
        grid: cells.
        sides: boundaries.
        gas: the gas.
        knudsen: ``[batch]``.
        density: ``[*grid.shape]``.
        velocity: ``[*grid.shape, 3]``.
        temperature: ``[*grid.shape]``.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    gas: Gas
    knudsen: Tensor
    density: Tensor
    velocity: Tensor
    temperature: Tensor


def _problem(scenario: GasScenario, refine: int = 1) -> Problem:
    section = scenario.grid
    cells = tuple(n * refine for n in section.cells)
    grid = Grid(cells, section.lower, section.upper)
    g = scenario.gas
    gas = (
        Gas.power_law(g.dimension, g.omega, g.prandtl)
        if g.viscosity == "power_law"
        else Gas.constant_time(g.dimension, g.prandtl)
    )
    axes = (scenario.boundaries.x, scenario.boundaries.y, scenario.boundaries.z)[: grid.dim]
    sides = tuple(Sides(_side(a.low), _side(a.high)) for a in axes)
    fields, ends = _start(scenario, grid, gas)
    if ends is not None:
        sides = (ends, *sides[1:])
    knudsen = torch.tensor(scenario.knudsen, dtype=torch.float64)
    return Problem(grid, sides, gas, knudsen, *fields)


def _side(side: Side) -> Boundary:
    match side:
        case PeriodicSide():
            return Periodic()
        case OpenSide():
            return Open()
        case InflowSide():
            return Inflow(side.density, side.velocity, side.temperature)
        case WallSide():
            return Wall(side.temperature, side.velocity, side.accommodation)


Fields = tuple[Tensor, Tensor, Tensor]
Fields4 = tuple[Tensor, Tensor, Tensor, Tensor]


def _point(point: GasPoint) -> Tensor:
    """Return (density, u, v, w, temperature)."""
    t = point.temperature
    if t is None:
        assert point.pressure is not None
        t = point.pressure / point.density
    speeds = [*point.velocity, 0.0, 0.0, 0.0][:3]
    return torch.tensor([point.density, *speeds, t], dtype=torch.float64)


def _split(values: Tensor) -> Fields:
    return values[..., 0], values[..., 1:4], values[..., 4]


def _start(scenario: GasScenario, grid: Grid, gas: Gas) -> tuple[Fields, Sides | None]:
    x = grid.points()[0]
    gamma = _gamma(scenario)
    match scenario.initial:
        case UniformStart() as s:
            low = _point(s.low)
            high = low if s.high is None else _point(s.high)
            share = (x - grid.lower[0]) / (grid.upper[0] - grid.lower[0])
            return _split(low + share[..., None] * (high - low)), None
        case JumpStart() as s:
            choose = (x < s.position)[..., None]
            return _split(torch.where(choose, _point(s.left), _point(s.right))), None
        case QuadrantStart() as s:
            y = grid.points()[1]
            right, upper = (x >= s.center[0])[..., None], (y >= s.center[1])[..., None]
            a, b, c, d = (_point(p) for p in s.states)
            upper_row, lower_row = torch.where(right, a, b), torch.where(right, d, c)
            return _split(torch.where(upper, upper_row, lower_row)), None
        case ShockStart() as s:
            return _shock(s.mach, x, gas)
        case SoundStart():
            one = torch.ones_like(x)
            return (one, torch.zeros(*x.shape, 3, dtype=x.dtype), one), None
        case ShuOsherStart():
            behind, ahead = x < -4.0, torch.ones_like(x)
            rho = torch.where(behind, 3.857143, 1 + 0.2 * torch.sin(5 * x))
            p = torch.where(behind, 10.33333, ahead)
            u = torch.zeros(*x.shape, 3, dtype=x.dtype)
            u[..., 0] = torch.where(behind, 2.629369, 0.0)
            return (rho, u, p / rho), None
        case VortexStart() as s:
            rho, u, v, p = _vortex_average(grid, gamma, s)
            return (rho, torch.stack([u, v, torch.zeros_like(u)], -1), p / rho), None
        case ShearLayerStart() as s:
            y = grid.points()[1]
            inside = 0.5 * (
                torch.tanh((y - 0.25) / s.width) - torch.tanh((y - 0.75) / s.width)
            )
            rho = 1 + inside
            v = s.ripple * torch.sin(4 * math.pi * x)
            u = torch.stack([inside - 0.5, v, torch.zeros_like(v)], -1)
            return (rho, u, s.pressure / rho), None


def _shock(mach: float, x: Tensor, gas: Gas) -> tuple[Fields, Sides]:
    speed, rho2, u2, t2 = shock_jump(mach, gas.gamma)
    share = 0.5 * (1 + torch.tanh(x / 2))
    rho = 1 + (rho2 - 1) * share
    u = torch.zeros(*x.shape, 3, dtype=x.dtype)
    u[..., 0] = speed / rho
    ends = Sides(Inflow(1.0, (speed, 0.0, 0.0), 1.0), Inflow(rho2, (u2, 0.0, 0.0), t2))
    return (rho, u, 1 + (t2 - 1) * share), ends


def _vortex_average(grid: Grid, gamma: float, s: VortexStart, time: float = 0.0) -> Fields4:
    sizes = [b - a for a, b in zip(grid.lower, grid.upper, strict=True)]

    def values(x: Tensor, y: Tensor) -> Tensor:
        at = []
        for c, low, size, v in zip((x, y), grid.lower, sizes, s.velocity, strict=True):
            at.append((c - v * time - low) % size + low)
        rho, u, v, p = exact.vortex(at[0], at[1], gamma, s.strength)
        u, v = u + s.velocity[0], v + s.velocity[1]
        e = p / (gamma - 1) + 0.5 * rho * (u * u + v * v)
        return torch.stack([rho, rho * u, rho * v, e])

    rho, mx, my, e = grid.average(values, 3)
    u, v = mx / rho, my / rho
    return rho, u, v, (gamma - 1) * (e - 0.5 * rho * (u * u + v * v))


def _gamma(scenario: GasScenario) -> float:
    given = getattr(scenario.model, "gamma", None)
    return given or (scenario.gas.dimension + 2) / scenario.gas.dimension


# -- worlds ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A world with its first state, ready to be stepped ``steps`` times."""

    name: str
    world: Any
    state: Any
    steps: int
    time_step: float


def _run_of(model: Model, scenario: GasScenario, problem: Problem) -> Run:
    dtype, device = dtype_of(scenario.precision), torch.device(scenario.device)
    batch, end, p = len(problem.knudsen), scenario.time.end, problem

    def spread(x: Tensor) -> Tensor:
        return x.expand(batch, *x.shape)

    match model:
        case KineticModel():
            velocities = Velocities(model.nodes, model.lower, model.upper)
            world = KineticWorld(
                p.grid,
                p.sides,
                velocities,
                p.gas,
                p.knudsen,
                model.collision,
                model.cfl,
                dtype,
                device,
                in_place=_large(batch, p, velocities, dtype),
            )
            steps = _count(end, world.time_step, scenario)
            world = world.with_time_step(end / steps)
            if isinstance(scenario.initial, SoundStart):
                state = world.start(_sound(scenario.initial, world))
            else:
                u = p.velocity[..., : velocities.axes]
                state = world.equilibrium(
                    spread(p.density), spread(u), spread(p.temperature)
                )
            return Run("kinetic", world, state, steps, world.time_step)
        case EulerModel() | NsfModel():
            nsf = isinstance(model, NsfModel)
            gamma = _gamma(scenario)
            dt = _fluid_step(model.cfl, p, gamma)
            steps = _count(end, dt, scenario)
            world = FluidWorld(
                p.grid,
                p.sides,
                p.gas,
                batch,
                end / steps,
                model.scheme,
                p.knudsen if nsf else None,
                IdealGas(gamma),
                dtype,
                device,
                stages_for(end / steps, _viscous_step(p)) if nsf else 0,
            )
            u = p.velocity[..., : p.grid.dim]
            state = world.start(
                spread(p.density), spread(u), spread(p.density * p.temperature)
            )
            name = "nsf" if nsf else f"euler_{model.scheme}"
            refined = getattr(model, "refine", 1)
            return Run(
                name if refined == 1 else name + "_fine", world, state, steps, end / steps
            )
        case HermiteModel() if p.gas.dimension > 1:
            u = p.velocity[..., : p.gas.dimension]
            w = hyperbolic.equilibrium(
                spread(p.density), spread(u), spread(p.temperature), model.order
            )
            rate = hyperbolic.fastest_rate(w, p.grid, model.order, p.gas.dimension)
            steps = _count(end, model.cfl / rate, scenario)
            world = HyperbolicWorld(
                p.grid,
                p.sides,
                p.gas,
                p.knudsen,
                model.order,
                end / steps,
                dtype=dtype,
                device=device,
            )
            name = f"hme{w.shape[1]}"
            return Run(name, world, world.start(w), steps, end / steps)
        case HermiteModel():
            w = torch.zeros(batch, p.grid.cells, model.order + 1, dtype=torch.float64)
            w[..., 0], w[..., 1] = p.density, p.velocity[..., 0]
            w[..., 2] = p.temperature
            dt = HermiteWorld.stable_step(p.grid, w, model.order, model.cfl)
            steps = _count(end, dt, scenario)
            closure = hermite.grad if model.closure == "grad" else hermite.hyperbolic
            world = HermiteWorld(
                p.grid,
                p.sides,
                p.gas,
                p.knudsen,
                model.order,
                end / steps,
                closure,
                dtype=dtype,
                device=device,
            )
            name = f"{'grad' if model.closure == 'grad' else 'hme'}{model.order + 1}"
            return Run(name, world, world.start(w), steps, end / steps)
        case Grad13Model():
            w = grad13.equilibrium(
                spread(p.density), spread(p.velocity), spread(p.temperature)
            )
            rate = grad13.fastest_rate(w, p.grid)
            steps = _count(end, model.cfl / rate, scenario)
            world = Grad13World(
                p.grid, p.sides, p.gas, p.knudsen, end / steps, dtype, device
            )
            return Run("grad13", world, world.start(w), steps, end / steps)


def _large(batch: int, p: Problem, velocities: Velocities, dtype: torch.dtype) -> bool:
    """Whether a third copy of f is too much: above 256 MiB a step overwrites its input.

    The state that a guard refuses is then no longer beside the last good one; the last
    checkpoint is.
    """
    numbers = batch * p.grid.cells * velocities.count
    parts = 2 if p.gas.dimension > velocities.axes else 1
    return numbers * parts * dtype.itemsize > 1 << 28


def _count(end: float, time_step: float, scenario: GasScenario) -> int:
    """Number of steps: a multiple of the frames, none longer than ``time_step``."""
    frames = scenario.time.frames
    return max(1, math.ceil(end / time_step / frames - 1e-9)) * frames


def _fluid_step(cfl: float, p: Problem, gamma: float) -> float:
    c = (gamma * p.temperature).sqrt()
    rate = sum((p.velocity[..., d].abs() + c) / h for d, h in enumerate(p.grid.spacing))
    return cfl / float(rate.amax())  # type: ignore[union-attr]


def _viscous_step(p: Problem) -> float:
    """Half of the longest explicit step of viscosity, for what heating adds to it."""
    tau = p.gas.relaxation_time(p.knudsen.amax(), p.density, p.temperature)
    d = p.gas.dimension
    factor = max(2.0, (d + 2) / d / p.gas.prandtl)
    diffusivity = float((factor * tau * p.temperature).amax())
    return 0.25 / (diffusivity * sum(1 / h**2 for h in p.grid.spacing))


def _sound(start: SoundStart, world: KineticWorld) -> Tensor:
    grid, d = world.grid, world.gas.dimension
    if world.gas.density_power or world.gas.temperature_power:
        raise InputError('initial.kind: sound needs gas.viscosity = "constant_time"')
    k = 2 * math.pi / (grid.upper[0] - grid.lower[0])
    v = world.velocities.axis(0)
    x = grid.centers(0) - grid.lower[0]
    wave = torch.exp(1j * k * x)[:, None]
    bell = torch.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)
    systems = []
    for tau in world.knudsen.double().tolist():
        growth = exact.acoustic_mode(k * tau, d)
        g1, h1 = exact.acoustic_eigenfunction(k * tau, growth, v, d)
        parts = [bell + start.amplitude * (g1 * wave).real]
        if d > 1:
            parts.append((d - 1) * bell + start.amplitude * (h1 * wave).real)
        systems.append(torch.stack(parts))
    return torch.stack(systems)


# -- the job -----------------------------------------------------------------------------


@dataclass(frozen=True)
class GasJob:
    """Runs the scenario's model, then the models beside it, then writes the references.

    The store holds ``fields`` (frames of the main model), ``compare/NAME`` (last fields of
    the others) and ``profile`` (coordinates, references ``NAME_exact`` or
    ``NAME_reference``).
    """

    scenario: GasScenario
    problem: Problem

    def run(self, folder: Any, report: Any) -> Outcome:
        """Run to the end, from the newest checkpoint if there is one."""
        main = _run_of(self.scenario.model, self.scenario, self.problem)
        for model in self.scenario.compare:
            _run_of(model, self.scenario, self._grid_of(model))
        begun = main.world.observe(main.state)
        interval = main.steps // self.scenario.time.frames
        writer = ZarrWriter(
            folder, "fields", lambda state, seen: _frame(main.world, seen), UNITS, 4
        )
        guards = [positivity_guard(REMEDY)]
        if isinstance(main.world, FluidWorld):
            guards.append(courant_guard)  # type: ignore[arg-type]

        def finish(folder: RunFolder, state: Any, seen: Mapping[str, Tensor]) -> Outcome:
            return self._finish(folder, report, on_host(seen), on_host(begun))

        simulation = Simulation(
            main.world,
            lambda: main.state,
            main.steps,
            main.time_step,
            [(every(interval), writer)],
            guards,
            interval,
            max(interval, main.steps // 4),
            _headline,
            finish,
        )
        return simulation.run(folder, report)

    def _grid_of(self, model: Model) -> Problem:
        refine = getattr(model, "refine", 1)
        return self.problem if refine == 1 else _problem(self.scenario, refine)

    def _finish(
        self,
        folder: RunFolder,
        report: Any,
        seen: Mapping[str, Tensor],
        begun: Mapping[str, Tensor],
    ) -> Outcome:
        folder.store.attrs["time_unit"] = UNITS["time"]
        figures: dict[str, Figure] = {}
        kept = self._kept()
        for name, drift in relative_drift(seen, begun).items():
            if name in kept:
                figures[name] = Figure(
                    float(drift.amax()), note="relative, largest of the batch"
                )
        for name, note in NOTES.items():
            if name in seen:
                figures[name] = Figure(float(seen[name].double().amax()), note=note)
        profile = folder.store.require_group("profile")
        for name, axis in zip("xyz", range(self.problem.grid.dim), strict=False):
            _put(profile, name, self.problem.grid.centers(axis))
        if len(self.problem.knudsen) > 1:
            _put(profile, "knudsen", self.problem.knudsen)
        for model in self.scenario.compare:
            figures.update(self._beside(folder, report, model, seen))
        figures.update(self._reference(folder, profile, seen))
        verdicts = {"positivity": "ok"}
        if kept:
            verdicts["conservation"] = self._account(figures)
        return Outcome(figures, told(verdicts))

    def _kept(self) -> tuple[str, ...]:
        """Totals that the boundaries leave alone."""
        sides = self.problem.sides
        if all(pair.periodic for pair in sides):
            return ("mass_drift", "momentum_drift", "energy_drift")
        if any(
            isinstance(s, Open | Inflow) for pair in sides for s in (pair.low, pair.high)
        ):
            return ()
        return ("mass_drift",)

    def _account(self, figures: Mapping[str, Figure]) -> str:
        allowed = 1e-10 if self.scenario.precision == "f64" else 1e-3
        for name in self._kept():
            if figures[name].value > allowed:
                return f"{name} is {figures[name].value:.2g}, over {allowed:g}"
        return "ok"

    def _beside(
        self, folder: RunFolder, report: Any, model: Model, seen: Mapping[str, Tensor]
    ) -> dict[str, Figure]:
        problem = self._grid_of(model)
        run = _run_of(model, self.scenario, problem)
        report.say(f"beside it: {run.name}, {run.steps} steps")
        state = run.state
        for _ in range(run.steps):
            state = run.world.step(state)
        found = on_host(run.world.observe(state))
        group = folder.store.require_group(f"compare/{run.name}")
        group.attrs["title"] = f"Beside it: {run.name}"
        for name, values in _frame(run.world, found).items():
            _put(group, name, values)
        for axis in range(problem.grid.dim):
            _put(group, "xyz"[axis], problem.grid.centers(axis))
        gaps = {}
        refine = problem.grid.shape[0] // self.problem.grid.shape[0]
        for name in ("density", "temperature"):
            other = _coarsen(found[name], refine, problem.grid.dim)
            gap = (seen[name] - other).abs().flatten(1).mean(1) / other.abs().flatten(
                1
            ).mean(1)
            gaps[f"{name}_gap_{run.name}"] = Figure(
                float(gap.amax()),
                note="relative L1 distance from the run's own model, largest of the batch",
            )
        for name in ("complex_fraction", "complex_speed"):
            if name in found:
                gaps[f"grad13_{name}"] = Figure(float(found[name].amax()), note=NOTES[name])
        return gaps

    # -- references -------------------------------------------------------------------

    def _reference(
        self, folder: RunFolder, profile: Any, seen: Mapping[str, Tensor]
    ) -> dict[str, Figure]:
        scenario, p = self.scenario, self.problem
        if isinstance(scenario.initial, SoundStart):
            return self._spectrum(seen)
        if isinstance(scenario.initial, QuadrantStart) and _mirrored(scenario.initial):
            rho = seen["density"][0]
            return {
                "asymmetry": Figure(
                    float((rho - rho.mT).abs().amax() / rho.amax()),
                    note="largest difference of density across the diagonal, relative",
                )
            }
        match scenario.reference:
            case "none":
                return {}
            case "riemann" | "free_flight":
                return self._tube(profile, seen)
            case "vortex":
                assert isinstance(scenario.initial, VortexStart)
                rho, *_ = _vortex_average(
                    p.grid, _gamma(scenario), scenario.initial, scenario.time.end
                )
                group = folder.store.require_group("exact")
                group.attrs["title"] = "Against the exact solution"
                gap = seen["density"][:1] - rho
                _put(group, "exact", rho[None], "rho0", "density, exact")
                _put(group, "departure", gap, "rho0", "density, computed - exact")
                return {"density_error": _error(seen["density"][0], rho)}
            case "shock":
                return self._shock_profiles(profile, seen)
            case "couette" | "fourier":
                return self._walls(profile, seen)

    def _tube(self, profile: Any, seen: Mapping[str, Tensor]) -> dict[str, Figure]:
        start, p = self.scenario.initial, self.problem
        if not isinstance(start, JumpStart):
            raise InputError(
                f"reference: {self.scenario.reference} needs initial.kind = jump"
            )
        end = self.scenario.time.end
        x = p.grid.centers(0) - start.position
        left, right = _point(start.left), _point(start.right)
        a, b = (
            exact.Gas1(float(s[0]), float(s[1]), float(s[0] * s[4])) for s in (left, right)
        )
        rho, u, pressure = exact.riemann(a, b, _gamma(self.scenario), x / end)
        for name, values in (
            ("density", rho),
            ("velocity", u),
            ("temperature", pressure / rho),
        ):
            _put(profile, f"{name}_exact", values)
        figures = {"density_error": _error(seen["density"][0], rho)}
        if self.scenario.reference == "free_flight":
            ends = [(float(s[0]), float(s[4])) for s in (left, right)]
            free = exact.free_flight_jump(ends[0], ends[1], x, end, p.gas.dimension)
            for name, values in zip(
                ("density", "velocity", "temperature"), free, strict=True
            ):
                _put(profile, f"{name}_free_exact", values)
            figures["density_error_free"] = _error(seen["density"][-1], free[0])
        return figures

    def _spectrum(self, seen: Mapping[str, Tensor]) -> dict[str, Figure]:
        p, end = self.problem, self.scenario.time.end
        k = 2 * math.pi / (p.grid.upper[0] - p.grid.lower[0])
        x = p.grid.centers(0) - p.grid.lower[0]
        figures, start = {}, self.scenario.initial
        assert isinstance(start, SoundStart)
        for i, tau in enumerate(p.knudsen.tolist()):
            growth = exact.acoustic_mode(k * tau, p.gas.dimension) / tau
            begun = 0.5 * start.amplitude
            now = (seen["density"][i] * torch.exp(-1j * k * x)).mean()
            ratio = complex(now) / begun / complex(torch.exp(torch.tensor(growth * end)))
            error = abs(complex(torch.log(torch.tensor(ratio)))) / abs(growth * end)
            figures[f"frequency_error_kn{i}"] = Figure(
                error, note=f"relative, k tau = {k * tau:.3g}, exact lambda {growth:.4g}"
            )
        return figures

    def _shock_profiles(
        self, profile: Any, seen: Mapping[str, Tensor]
    ) -> dict[str, Figure]:
        start, p = self.scenario.initial, self.problem
        assert isinstance(start, ShockStart)
        g = self.scenario.gas
        x, rho, u, t = exact.shock_structure(
            start.mach, float(p.knudsen[0]), g.omega, g.prandtl, g.dimension
        )
        for name, values in (
            ("x", x),
            ("density", rho),
            ("velocity", u),
            ("temperature", t),
        ):
            _put(profile, f"{name}_nsf_reference", values)
        path = 16 * float(p.knudsen[0]) / (5 * math.sqrt(2 * math.pi))
        steepest = ((rho[2:] - rho[:-2]) / (x[2:] - x[:-2])).amax() / (
            rho.amax() - rho.amin()
        )
        d = seen["density"][0]
        own = float((d[2:] - d[:-2]).amax()) / (2 * p.grid.spacing[0])
        own = own / float(shock_jump(start.mach, p.gas.gamma)[1] - 1)
        flow = d * seen["velocity"][0, :, 0]
        return {
            "inverse_thickness": Figure(own * path, note="mean free paths ahead"),
            "inverse_thickness_nsf": Figure(float(steepest) * path),
            "mass_flux_residual": Figure(float((flow / flow[0] - 1).abs().amax())),
        }

    def _walls(self, profile: Any, seen: Mapping[str, Tensor]) -> dict[str, Figure]:
        pair, kn = self.problem.sides[0], self.problem.knudsen
        if not (isinstance(pair.low, Wall) and isinstance(pair.high, Wall)):
            raise InputError(
                f"reference: {self.scenario.reference} needs walls at both ends of x"
            )
        rho = seen["density"].mean(1)
        width = self.problem.grid.upper[0] - self.problem.grid.lower[0]
        if self.scenario.reference == "couette":
            speed = pair.high.velocity[1] - pair.low.velocity[1]
            found = seen["stress"][..., 0, 1].mean(1).abs()
            free = torch.tensor(exact.free_couette(pair.low.temperature, speed)).abs()
            slip = kn * abs(speed) / (width + 2 * 1.01619 * kn * math.sqrt(2))
            name = "shear"
        else:
            cold, hot = sorted((pair.low.temperature, pair.high.temperature))
            found = seen["heat_flux"][..., 0].mean(1).abs()
            free = torch.tensor(exact.free_fourier(cold, hot)[1])
            reach = 2 * 1.30272 * kn / self.scenario.gas.prandtl * math.sqrt(2)
            slip = 2.5 * kn / self.scenario.gas.prandtl * (hot - cold) / (width + reach)
            name = "heat"
        said = {"shear": "shear stress", "heat": "heat flux"}[name]
        _put(profile, name, found, long_name=said)
        _put(profile, f"{name}_free_exact", (free * rho))
        _put(profile, f"{name}_reference", slip)
        return {
            f"{name}_error_free": Figure(
                float((found[-1] / (free * rho[-1]) - 1).abs()),
                note="relative to free molecules, at the largest Knudsen number",
            ),
            f"{name}_error_slip": Figure(
                float((found[0] / slip[0] - 1).abs()),
                note="relative to Navier-Stokes-Fourier with slip, at the smallest",
            ),
        }


def _frame(world: object, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is kept of a moment; Euler's stress and heat flux are zero and are not."""
    euler = isinstance(world, FluidWorld) and world.knudsen is None
    left_out = ("stress", "heat_flux") if euler else ()
    return {name: seen[name] for name in FIELDS if name not in left_out}


def _headline(seen: Mapping[str, Tensor]) -> dict[str, str]:
    rho, t = seen["density"], seen["temperature"]
    out = {
        "density": f"{float(rho.amin()):.3g}..{float(rho.amax()):.3g}",
        "temperature": f"{float(t.amin()):.3g}..{float(t.amax()):.3g}",
    }
    if "courant" in seen:
        out["cfl"] = f"{float(seen['courant'].amax()):.2f}"
    return out


def _error(found: Tensor, exactly: Tensor) -> Figure:
    gap = (found - exactly).abs().mean() / exactly.abs().mean()
    return Figure(float(gap), note="relative L1 distance to the exact solution")


def _coarsen(x: Tensor, refine: int, dim: int) -> Tensor:
    for axis in range(1, 1 + dim if refine > 1 else 1):
        x = x.unflatten(axis, (-1, refine)).mean(axis + 1)
    return x


def _mirrored(start: QuadrantStart) -> bool:
    """Whether exchanging x and y leaves the four states as they are."""
    values = [_point(state) for state in start.states]
    turned = [v[[0, 2, 1, 3, 4]] for v in values]
    pairs = ((0, 0), (1, 3), (2, 2))
    return start.center[0] == start.center[1] and all(
        bool((turned[a] == values[b]).all()) for a, b in pairs
    )


def _put(
    group: Any, name: str, values: Tensor, unit: str = "", long_name: str = ""
) -> None:
    array = values.detach().cpu().numpy()
    if name in group:
        del group[name]
    stored = group.create_array(name, shape=array.shape, dtype=array.dtype)
    stored[...] = array
    stem = name.removesuffix("_exact").removesuffix("_reference")
    stem = stem.removesuffix("_free").removesuffix("_nsf")
    stored.attrs["unit"] = unit or UNITS.get(stem, "")
    stored.attrs["long_name"] = long_name or name.replace("_", " ")
