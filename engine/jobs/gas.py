"""From a scenario of gas dynamics to the job that runs it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..comparison import rank
from ..comparison import worst as worst_of
from ..errors import GuardError, InputError, MissingFileError
from ..gas.boundaries import check_until, kept_totals
from ..gas.closures.parts import Grad, Hyperbolic, Learned, on, trained_knudsen
from ..gas.collisions import tables
from ..gas.derived import DERIVED, Medium, derive
from ..gas.equations.fluid import FluidWorld, courant_guard, stages_for, viscous_limit
from ..gas.equations.grad13 import Grad13
from ..gas.equations.hermite import roe, rusanov
from ..gas.equations.state_equation import IdealGas
from ..gas.fields import UNITS, dimensions_of, steps_of, write_axes, write_field
from ..gas.forcing import Forced, Kick, check_rest
from ..gas.grid import Grid
from ..gas.halved import Halved
from ..gas.initial.base import Start
from ..gas.initial.painted import named
from ..gas.initial.shocks import Shock
from ..gas.kinetic.steady import Newton
from ..gas.kinetic.velocities import Velocities
from ..gas.kinetic.world import KineticWorld
from ..gas.material import Gas, TransportLaw
from ..gas.mixture import Mixture, samples
from ..gas.observe import on_host, positivity_guard, relative_drift
from ..gas.pacing import Paced
from ..gas.probes import check_quantities
from ..gas.problem import Problem
from ..gas.references import Compared, Comparison, comparison
from ..gas.residual import Residual, least_residual
from ..gas.resolution import coarsened, signal_gap
from ..gas.runs import (
    Run,
    domain_checks,
    faces_asked,
    last_loads_of,
    table_check,
    velocity_checks,
)
from ..gas.scheme.finite_volume import MomentWorld, koren, van_leer
from ..gas.scheme.positivity import PositivityFallback
from ..gas.si import SiSection
from ..gas.solids import load_units, loads
from ..gas.verdicts import model_checks
from ..learn.flow_errors import Beside, ShockFront, Timeline, observed, small_waves
from ..protocols import Check, Figure, Job, Outcome
from ..run import Reporter, Simulation, ZarrWriter, every
from ..rundir import RunFolder
from ..runtime import check_memory, dtype_of
from ..schema.base import locate, located
from ..schema.flow import (
    EulerModel,
    GasSection,
    Grad13Model,
    HermiteModel,
    KineticModel,
    ModelSection,
    NsfModel,
    TransportGas,
)
from ..schema.gas import GasScenario, RelaxationScenario

NOTES = {
    "limiter_activity": "fraction of cells at an extremum, where the limiter acts",
    "positivity": "faces, over all steps, where the fallback took cell means",
    "negative_fraction": "fraction of (cell, velocity) with a negative distribution",
    "fallbacks": "faces, over all steps, where the closure fell back to HME",
    "complex_fraction": "fraction of cells with complex characteristic speeds",
    "complex_speed": "largest imaginary part of a characteristic speed over sqrt(R T)",
}
FIGURES = {"positivity": "positivity_fallbacks"}
"""Names of figures where a check has that of the observable."""
STEPS_TOGETHER = 32
"""Steps of the start in an interval between two looks at the clock (:class:`Paced`): the
last step of an interval is shortened, which costs about half a step in 32."""
COPIES = 30
"""Fields of all moments that a step of moment equations holds at once, at the least."""


def assemble(scenario: GasScenario | RelaxationScenario, base: Path) -> Job:
    """Return the job of a scenario; paths are relative to ``base``.

    Raises:
        InputError: the parts contradict each other.
    """
    if isinstance(scenario, RelaxationScenario):
        from ..gas.kinetic.boltzmann import Relaxation

        s, model = scenario, scenario.model
        return Relaxation(
            s.gas.dimension, model.nodes, model.limit, model.angles, s.time.end,
            model.time_step, s.time.frames, s.device,
        )  # fmt: skip
    scenario = located(scenario, base)
    gas = scenario.gas
    if isinstance(gas, TransportGas) and gas.file is not None:
        gas = gas.model_copy(update={"file": locate(gas.file, base)})
        scenario = scenario.model_copy(update={"gas": gas})
    cells, batch = math.prod(scenario.grid.cells), len(scenario.knudsen)
    batch = getattr(scenario.initial, "count", batch)
    copies = 12 * batch + 20  # of five fields: stages, fluxes, ghost cells
    check_memory(5.0 * copies * cells, torch.float64, "grid.cells, knudsen:")
    problem = problem_of(scenario)
    names = [getattr(scenario.initial, "reference", "none"), scenario.reference]
    wanted = [n for n in dict.fromkeys(names) if n not in ("none", "small_waves")]
    known = [comparison(n, _ideal(scenario, problem, n)) for n in wanted]
    own = _refined(scenario.model, scenario, problem)
    main = _run_of(scenario.model, scenario, own, base)
    # of the run's own model only the checks of a learned closure bear a name
    own_name = None if _closure(main) is None else main.name
    others = runs_beside(scenario, problem, base, own_name)
    double = scenario.precision == "f64"
    steady = scenario.time.steady
    if steady is not None:
        least = least_residual(dtype_of(scenario.precision), main.time_step)
        if steady < least:
            raise InputError(
                f"time.steady: {steady:g} is less than round-off leaves in a step of "
                f"{main.time_step:.3g} in {scenario.precision}; at least {least:.2g}"
            )
    shown = _shown(scenario, main)
    frames = scenario.time.frames
    halved = _halved(scenario, main, base)
    return GasJob(
        main, others, known, frames, double, steady, problem.grid,
        scenario.time.compared, scenario.reference == "small_waves", shown, halved,
        scenario.si, _newton(main) if scenario.time.newton else None,
    )  # fmt: skip


def _newton(main: Run) -> Newton:
    """Return Newton's method for the steady state of a run."""
    if not isinstance(main.world, KineticWorld) or main.problem.body is not None:
        raise InputError("time.newton: needs a kinetic model without force and solids")
    try:
        return Newton.of(main.world)
    except InputError as error:
        raise InputError(f"time.newton: {error}") from error


def _beside(
    number: int, model: Any, scenario: GasScenario, problem: Problem, base: Path
) -> Run:
    """Return the run of a model of ``compare``, by whose key it is refused."""
    try:
        return _run_of(model, scenario, _refined(model, scenario, problem), base)
    except MissingFileError:  # whose keys are found by its name
        raise
    except InputError as error:
        key, said = f"compare.{number}", str(error)
        inside = said.startswith("model.")
        said = said.removeprefix("model") if inside else f": {said}"
        raise InputError(f"{key}{said}") from error


def _halved(scenario: GasScenario, main: Run, base: Path) -> Halved | None:
    """Return the run on half the cells that says whether a run is resolved.

    Raises:
        InputError: it is asked for and cannot be.
    """
    asked = scenario.resolution == "checked"
    model = scenario.model
    refine = getattr(model, "refine", 1)
    finer = any(
        other.kind == model.kind and getattr(other, "refine", 1) > refine
        for other in scenario.compare
    )
    if scenario.resolution == "trusted" or (finer and not asked):
        return None
    cells = main.problem.grid.shape
    if any(n % 2 or n < 8 for n in cells):
        if not asked:
            return None
        raise InputError(
            f"resolution: checked halves the cells, {list(cells)}; take even numbers of "
            "at least 8"
        )
    try:
        problem = problem_of(scenario, refine, halved=True)
        coarse = _run_of(model, scenario, problem, base)
    except InputError as error:
        if not asked:
            return None
        raise InputError(f"resolution: checked on half the cells: {error}") from None
    higher, body = None, main.problem.body
    if isinstance(model, HermiteModel) and isinstance(model.closure, Hyperbolic | Grad):
        more = {"order": main.solver.equations.order + 1}
        higher = _run_of(model.model_copy(update=more), scenario, problem, base)
    return Halved(coarse, None if body is None else body.mask.cpu(), higher, asked)


def _refined(model: Any, scenario: GasScenario, p: Problem) -> Problem:
    """Return the problem on the cells of a model."""
    refine = getattr(model, "refine", 1)
    return p if refine == 1 else problem_of(scenario, refine, gas=p.gas)


def _shown(scenario: GasScenario, run: Run) -> "Shown":
    """Return what a run records besides its fields.

    Raises:
        InputError: a quantity or place that it does not have.
    """
    p = run.problem
    check_quantities(scenario.output, "output", tuple(DERIVED))
    solid = None if p.body is None else p.body.mask.cpu()
    periodic = tuple(pair.periodic for pair in p.sides)
    medium = Medium(p.grid, periodic, p.gas, p.gamma, p.knudsen.double().cpu(), solid)
    for number, probe in enumerate(scenario.probes):
        probe.check(medium, f"probes.{number}")
    frame = run.steps // scenario.time.frames
    wanted = max(1, frame // scenario.time.samples)
    interval = max(k for k in range(1, wanted + 1) if frame % k == 0)
    return Shown(medium, scenario.output, scenario.probes, interval)


def _ideal(scenario: GasScenario, p: Problem, reference: str) -> Problem:
    """Return the problem at Knudsen number 0 where the model is Euler's."""
    if reference == "riemann" and isinstance(scenario.model, EulerModel):
        return replace(p, knudsen=torch.zeros_like(p.knudsen))
    return p


def runs_beside(
    scenario: GasScenario, p: Problem, base: Path, own: str | None = None
) -> list[Run]:
    """Return the runs of ``compare``, numbered where they have one name.

    Each has a group, figures and checks of its own.

    Args:
        scenario: of the flow.
        p: its problem, whose gas they all have.
        base: folder that paths are relative to.
        own: name that the checks of the scenario's own model bear.

    Raises:
        InputError: a model cannot do it; by its key.
    """
    taken, out = {own}, []
    for number, model in enumerate(scenario.compare):
        run = _beside(number, model, scenario, p, base)
        every = (f"{run.name}_{number}" for number in count(2))
        name = next(name for name in chain([run.name], every) if name not in taken)
        taken.add(name)
        out.append(replace(run, name=name))
    return out


def problem_of(
    scenario: GasScenario, refine: int = 1, halved: bool = False, gas: Gas | None = None
) -> Problem:
    """Return the problem of a scenario, with its gas or that which is given."""
    section, g, given = scenario.grid, scenario.gas, gas
    cells = tuple(n * refine // (2 if halved else 1) for n in section.cells)
    grid = Grid(cells, section.lower, section.upper)
    if gas is None:
        gas = _law(g) if isinstance(g, GasSection) else Gas(3, g.prandtl or 2 / 3)
    sides = scenario.boundaries.sides(grid.dim)
    knudsen = torch.tensor(scenario.knudsen, dtype=torch.float64)
    if hasattr(scenario.initial, "knudsen_numbers"):
        knudsen = scenario.initial.knudsen_numbers(grid)
    gamma = getattr(scenario.model, "gamma", None) or gas.gamma
    end = scenario.time.end
    solids = tuple(section.solid for section in scenario.solids)
    problem = Problem(
        grid, sides, gas, knudsen, gamma, scenario.initial, end, scenario.force, solids
    )
    check_until(problem.sides, grid, end)
    if given is None and isinstance(g, TransportGas):
        return replace(problem, gas=gas.following(_tabulated(g, problem)))
    return problem


def _law(g: GasSection) -> Gas:
    if g.viscosity == "power_law":
        return Gas.power_law(g.dimension, g.omega, g.prandtl)
    return Gas.constant_time(g.dimension, g.prandtl)


def _tabulated(g: TransportGas, problem: Problem) -> TransportLaw:
    """Return the tables of a gas; start and boundaries must lie inside.

    Raises:
        InputError: they do not, or the potential does not serve the range.
    """
    coldest, hottest, stopped = problem.temperatures()
    if not 0 < coldest <= hottest < math.inf:
        raise InputError(f"temperature {coldest:g} to {hottest:g}; must be positive")
    ends = g.range or (0.5 * coldest * g.temperature, 2.0 * stopped * g.temperature)
    if g.file is not None:
        table = tables.read(g.file)
    elif g.of is not None:
        table = tables.of_published(g.of, *ends)
    else:
        table = tables.of_lennard_jones(float(g.epsilon), *ends)  # type: ignore[arg-type]
    asked = sorted((coldest * g.temperature, g.temperature, hottest * g.temperature))
    if not table.coldest <= asked[0] <= asked[2] <= table.hottest:
        raise InputError(
            f"gas: start and boundaries take {asked[0]:g} to {asked[2]:g} K, its tables "
            f"serve {table.coldest:g} to {table.hottest:g} K"
        )
    return TransportLaw.of(table, g.temperature, g.prandtl)


# -- worlds ------------------------------------------------------------------------------


def _run_of(model: Any, scenario: GasScenario, p: Problem, base: Path) -> Run:
    """Return the world of a model; its start is made once, to know that it fits."""
    if hasattr(p.initial, "distribution") and not isinstance(model, KineticModel):
        raise InputError(f"initial.kind: {p.initial.kind} needs model.kind = kinetic")
    makers: dict[type, Callable[..., Run]] = {
        KineticModel: _kinetic,
        EulerModel: _fluid,
        NsfModel: _fluid,
        HermiteModel: partial(_hermite, base=base),
        Grad13Model: _grad13,
    }
    _check_components(model, p)
    _check_solids(model, p)
    run = makers.get(type(model), _outside)(model, scenario, p)
    start = run.start()
    if any(_from_outside(part) for part in _parts(model, p)):
        _try_a_step(run, start)
    name, scheme = getattr(model, "name", None) or run.name, model
    if isinstance(model, ModelSection):
        scheme = model.model_copy(update={"name": None, "refine": 1})
    run = replace(run, name=name, scheme=scheme)
    return _followed(_forced(run, model), scenario)


def _parts(model: Any, p: Problem) -> Iterator[Any]:
    """Yield what a package from outside, or a script, may have brought."""
    yield from (model, getattr(model, "closure", None))
    for pair in p.sides:
        yield from (pair.low, pair.high)


def _from_outside(part: Any) -> bool:
    home = getattr(part, "__module__", type(part).__module__)
    return home.split(".")[0] not in ("scalebridge", "builtins")


def _try_a_step(run: Run, start: Any) -> None:
    """Take one step, so that a part from outside is refused before the run.

    Raises:
        InputError: what it makes is no number or not positive.
    """
    world = run.world
    run.kept(world.observe(start))
    try:
        if isinstance(world, PositivityFallback):
            world = world.world
            if not bool(world.rates(start.moments)[0].isfinite().all()):
                raise InputError(
                    f"the first step of {run.name}: its closure or a boundary gives NaN"
                )
        world.step(start)
    except GuardError as error:
        raise InputError(f"the first step of {run.name}: {error}") from None


def _forced(run: Run, model: Any) -> Run:
    """Let the gas of a run feel the force of its problem."""
    p, force = run.problem, run.problem.force
    if force is None:
        return run
    acceleration, heat = force.on(p.grid)
    axes = _axes_of(model, p)
    if bool(acceleration[axes:].any()):
        raise InputError(
            f"force.acceleration: {len(acceleration)} components; model.kind = "
            f"{model.kind} resolves {axes} here; leave the rest out"
        )
    _check_kick(run, acceleration, heat)
    kick = Kick(acceleration[:axes], heat if bool(heat.any()) else None)
    rest = None
    if force.rest is not None:
        with named("force.rest"):
            held = force.rest.start.fields(p.grid, p.gas, p.gamma)
        check_rest(force, p.grid, held.density, held.density * held.temperature)
        solver = run.world.world if hasattr(run.world, "world") else run.world
        given = held.density, held.velocity[..., :axes], held.temperature
        rest = solver.equilibrium(*(_for_all(x, held, p) for x in given))
    return replace(run, world=Forced(run.world, kick, rest))


def _check_kick(run: Run, acceleration: Tensor, heat: Tensor) -> None:
    """Refuse a force that no step follows, a sink that empties the gas in half of one."""
    p, step = run.problem, run.time_step
    moved = max(
        0.5 * step**2 * float(g.abs().amax()) / h
        for g, h in zip(acceleration, p.grid.spacing, strict=False)
    )
    if moved > 1.0:
        raise InputError(
            f"force.acceleration: moves the gas by {moved:.3g} cells in a step of "
            f"{step:.3g}; at most 1; take a smaller model.cfl or more time.frames"
        )
    held = p.start.density * p.start.temperature / (p.gamma - 1.0)
    if bool((held + 0.5 * step * heat <= 0.0).any()):
        raise InputError(
            f"force.heat: {float(heat.amin()):.4g} takes more than the gas holds, "
            f"{float(held.amin()):.4g}, in half a step of {step:.3g}; take a weaker sink "
            "or a smaller model.cfl"
        )


def _axes_of(model: Any, p: Problem) -> int:
    """Return how many components of a velocity a model resolves."""
    if isinstance(model, KineticModel):
        return len(model.nodes)
    if isinstance(model, EulerModel | NsfModel):
        return p.grid.dim
    return p.gas.dimension if isinstance(model, HermiteModel) else 3


def _check_components(model: Any, p: Problem) -> None:
    """Refuse a start that moves along an axis that the model does not resolve."""
    axes = _axes_of(model, p)
    mixed = hasattr(p.initial, "mixture")  # of which the sum may be at rest
    velocity = p.initial.mixture(p.grid)[1] if mixed else p.start.velocity
    beyond = velocity[..., axes:]
    if bool(beyond.any()):
        key = next(_moving(p.initial, axes, "initial"), "initial.velocity")
        raise InputError(
            f"{key}: {float(beyond.abs().amax()):.4g} beyond the {axes} "
            f"component(s) that model.kind = {model.kind} resolves here; leave it out"
        )


def _moving(section: Any, axes: int, key: str) -> Iterator[str]:
    """Yield the keys of velocities with a component beyond the first ``axes``."""
    if isinstance(section, tuple):
        for number, item in enumerate(section):
            yield from _moving(item, axes, f"{key}.{number}")
    elif is_dataclass(section):
        for item in fields(section):
            value, name = getattr(section, item.name), f"{key}.{item.name}"
            if item.name != "velocity":
                yield from _moving(value, axes, name)
            elif value is not None and any(u not in (0, "0") for u in value[axes:]):
                yield name


def _check_solids(model: Any, p: Problem) -> None:
    """Refuse solids in models that have no walls for them."""
    if p.body is None:
        return
    if not isinstance(model, KineticModel | EulerModel | NsfModel):
        raise InputError(
            f"solids: model.kind = {model.kind} has no solids; kinetic, euler and nsf do"
        )
    if p.force is not None and p.force.rest is not None:
        raise InputError("force.rest: not with solids; leave one of them out")
    axes = _axes_of(model, p)
    if bool(p.body.cuts.velocity[:, axes:].any()):
        raise InputError(
            f"solids: a wall.velocity has more than the {axes} component(s) that "
            f"model.kind = {model.kind} resolves here; leave the rest out"
        )


def _spread(p: Problem, axes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return density, some components of the velocity, temperature, of all systems."""
    fields = (p.start.density, p.start.velocity[..., :axes], p.start.temperature)
    rho, u, t = (_for_all(x, p.start, p) for x in fields)
    return rho, u, t


def _for_all(x: Tensor, start: Start, p: Problem) -> Tensor:
    """Return a field of a start for every system of the batch."""
    if start.density.dim() > p.grid.dim:
        return x
    return x.expand(len(p.knudsen), *x.shape)


def _mixture(p: Problem) -> Mixture:
    """Return the Maxwellians of which the start is the sum, for every system."""
    rho, u, theta = p.initial.mixture(p.grid)
    count = len(p.knudsen)
    return (
        rho.expand(-1, count, *rho.shape[2:]),
        u.expand(-1, count, *u.shape[2:]),
        theta.expand(-1, count, *theta.shape[2:]),
    )


def _followed(run: Run, scenario: GasScenario) -> Run:
    """Let the steps of a run follow its state, where the scenario asks for it."""
    time, kinetic = scenario.time, isinstance(run.solver, KineticWorld)
    if time.cfl is None or kinetic:
        return run
    count = max(1, round(run.steps / time.frames / STEPS_TOGETHER)) * time.frames
    interval = run.problem.end / count
    paced = Paced(run.world, time.cfl, interval, time.shortest or run.problem.end / 1e8)
    return replace(run, world=paced, steps=count, time_step=interval)


def _machine(scenario: GasScenario) -> dict[str, Any]:
    return {"dtype": dtype_of(scenario.precision), "device": torch.device(scenario.device)}


def _kinetic(model: KineticModel, scenario: GasScenario, p: Problem) -> Run:
    velocities = Velocities(model.nodes, model.lower, model.upper)
    parts = 2 if p.gas.dimension > velocities.axes else 1
    numbers = len(p.knudsen) * p.grid.cells * velocities.count * parts
    dtype = dtype_of(scenario.precision)
    check_memory(2 * numbers, dtype, "grid.cells, model.nodes, knudsen:")
    # Above 256 MiB a third copy of f is too much: a step overwrites its input. The state
    # that a guard refuses is then not kept with the last good one; the last checkpoint is.
    world = KineticWorld(
        p.grid, p.sides, velocities, p.gas, p.knudsen, model.collision, model.cfl,
        **_machine(scenario), in_place=numbers * dtype.itemsize > 1 << 28, body=p.body,
    )  # fmt: skip
    steps = steps_of(p.end, world.time_step, scenario.time.frames)
    world = world.with_time_step(p.end / steps)
    for part in range(1, 33):  # what walls will be, if they change
        world.check_ends(p.end * part / 32)

    def start() -> Any:
        if hasattr(p.initial, "mixture"):
            some = samples(_mixture(p), velocities.nodes, p.gas.dimension)
            return world.start(some)
        if hasattr(p.initial, "distribution"):
            f = p.initial.distribution(p.grid, p.gas, world.knudsen, velocities)
            return world.start(f)
        fields = _spread(p, velocities.axes)
        if hasattr(p.initial, "departure"):
            off = p.initial.departure(p.grid, velocities.axes, p.gas.dimension)
            if off is not None:
                more = (_for_all(x, p.start, p) for x in off)
                return world.near_equilibrium(*fields, *more)
        return world.equilibrium(*fields)

    return Run("kinetic", p, world, start, steps, world.time_step)


def _fluid(model: EulerModel | NsfModel, scenario: GasScenario, p: Problem) -> Run:
    nsf = isinstance(model, NsfModel)
    if nsf and p.knudsen.dim() > 1:
        raise InputError("model.kind: nsf needs one Knudsen number for all cells")
    c = (p.gamma * p.start.temperature).sqrt()
    rate = sum(
        (p.start.velocity[..., d].abs() + c) / h for d, h in enumerate(p.grid.spacing)
    )
    cfl = scenario.time.cfl or model.cfl
    longest = cfl / float(rate.amax())  # type: ignore[union-attr]
    steps = steps_of(p.end, longest, scenario.time.frames)
    dt = p.end / steps
    world = FluidWorld(
        p.grid, p.sides, p.gas, len(p.knudsen), dt, model.scheme,
        p.knudsen if nsf else None, IdealGas(p.gamma), **_machine(scenario),
        viscous_stages=_viscous_stages(dt, p) if nsf else 0, body=p.body,
    )  # fmt: skip
    name = "nsf" if nsf else f"euler_{model.scheme}"
    name += "" if getattr(model, "refine", 1) == 1 else "_fine"

    def start() -> Any:
        return world.equilibrium(*_spread(p, p.grid.dim))

    return Run(name, p, world, start, steps, dt)


def _viscous_stages(time_step: float, p: Problem) -> int:
    """Stages for half of the longest explicit step, for what heating adds to it."""
    fields = p.start.density, p.start.temperature
    limit = viscous_limit(p.gas, p.grid, p.knudsen.amax(), *fields)
    return stages_for(time_step, 0.5 * limit)


def _hermite(model: HermiteModel, scenario: GasScenario, p: Problem, base: Path) -> Run:
    def find(path: Path) -> Path:
        return locate(path, base)

    learned = isinstance(model.closure, Learned)
    equations = model.closure.equations(p.gas, model.order, find)
    if model.upwind is not None and not hasattr(equations, "dissipation"):
        raise InputError(
            f"model.upwind: {model.upwind}; {equations.name} brings its own flux, leave it "
            "out"
        )
    if model.upwind is not None:
        chosen = {"roe": roe, "rusanov": rusanov}[model.upwind]
        equations = replace(equations, dissipation=chosen)
    if learned:
        equations = on(equations, torch.device(scenario.device))
    name = model.limiter or ("koren" if learned else "van_leer")
    limiter = {"koren": koren, "van_leer": van_leer}[name]
    once = learned and model.closure.asked == "step"
    run = _moments(equations, model.cfl, scenario, p, limiter=limiter, once=once)
    return replace(run, trained=trained_knudsen(model.closure, find))


def _grad13(model: Grad13Model, scenario: GasScenario, p: Problem) -> Run:
    return _moments(Grad13(p.gas), model.cfl, scenario, p)


def _outside(model: Any, scenario: GasScenario, p: Problem) -> Run:
    """A model of another package: a part with ``equations(gas)`` and a ``cfl``."""
    return _moments(model.equations(p.gas), model.cfl, scenario, p)


def _moments(
    equations: Any, cfl: float, scenario: GasScenario, p: Problem, **options: Any
) -> Run:
    """Run moment equations; with a learned closure by way of the positivity fallback."""
    options = options | _machine(scenario)
    one = torch.ones(1, *(1,) * p.grid.dim, dtype=torch.float64)
    numbers = equations.equilibrium(one, 0.0 * one[..., None], one).shape[1]
    held = COPIES * numbers * p.grid.cells * len(p.knudsen)
    check_memory(held, options["dtype"], "grid.cells, knudsen, model.order:")
    probe = MomentWorld(p.grid, p.sides, equations, p.knudsen, 1.0, **options)
    mixture = getattr(p.initial, "mixture", None)
    if mixture is not None and not hasattr(equations, "mixed"):
        raise InputError(
            f"initial.kind: {p.initial.kind} does not start in equilibrium, which "
            f"{equations.name} cannot; allowed: kinetic, hermite, euler, nsf"
        )
    w = equations.mixed(*_mixture(p)) if mixture else equations.equilibrium(*_spread(p))
    cfl = scenario.time.cfl or cfl
    rate = probe.courant_rate(w.to(probe.device, probe.dtype))
    if not 0.0 < rate < math.inf:
        raise InputError(
            f"model.kind: the fastest signal of {equations.name} crosses {rate:g} cells in "
            "unit time at the start; it must be positive and finite"
        )
    longest = cfl / rate
    steps = steps_of(p.end, longest, scenario.time.frames)
    world = probe.with_time_step(p.end / steps)
    stepped: Any = world
    if equations.learned:
        stepped = PositivityFallback(replace(world, check=False))
    start = partial(world.start, w)
    return Run(equations.name, p, stepped, start, steps, world.time_step)


@dataclass(frozen=True)
class Shown:
    """What a run records besides its fields.

    Attributes:
        medium: of derived quantities.
        output: names of those that every frame holds.
        probes: parts of :data:`..gas.probes.PROBES`.
        interval: steps between records of the probes.
    """

    medium: Medium
    output: tuple[str, ...]
    probes: tuple[Any, ...]
    interval: int

    def frame(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the quantities of a frame."""
        if not self.output:
            return {}
        seen = on_host(seen)
        return {name: derive(name, seen, self.medium) for name in self.output}

    def writers(self, folder: RunFolder) -> Iterator[tuple[Any, Any]]:
        """Yield when and by what the probes are recorded."""
        for probe in self.probes:
            place = f"probes/{probe.name}"
            writer = ZarrWriter(
                folder, place, partial(self._probed, probe), UNITS,
                axes=partial(_probe_axes, probe),
            )  # fmt: skip
            yield every(self.interval), writer

    def put_coordinates(self, folder: RunFolder) -> None:
        """Store where the probes are."""
        for probe in self.probes:
            group = folder.store.require_group(f"probes/{probe.name}")
            group.attrs["title"] = f"Probe {probe.name.replace('_', ' ')} ({probe.kind})"
            for name, values in probe.coordinates().items():
                write_field(group, name, values, dimensions=(name,))

    def _probed(
        self, probe: Any, state: Any, seen: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return probe.measure(on_host(seen), self.medium)


def _probe_axes(probe: Any, name: str, shape: Sequence[int]) -> tuple[str, ...]:
    """Name the dimensions of what a probe records, besides that of its moments."""
    return () if name in ("step", "time") else probe.axes(shape)


# -- the job -----------------------------------------------------------------------------


@dataclass(frozen=True)
class GasJob:
    """Runs the scenario's model, then the models compared with it, then the references.

    The store holds ``fields`` (frames of the main model), ``compare/NAME`` (last fields of
    the others) and ``profile`` (coordinates, references ``NAME_exact`` or
    ``NAME_reference``).

    Attributes:
        main: the scenario's model.
        others: models compared with it.
        references: what is known of the problem.
        frames: written, evenly in time.
        double: whether the state is in f64.
        steady: residual at which the run ends; None to reach the end of time.
        grid: on which models are compared; None for that of the main model.
        compared: times of frames at which their errors are results.
        small_waves: whether their answer to small waves is one, too.
        shown: what is recorded besides the fields.
        halved: the run on half the cells that it is checked by.
        si: what the units are, where the scenario says it.
        newton: finds the steady state from where the run ended, where it is asked for.
    """

    main: Run
    others: list[Run]
    references: list[Comparison]
    frames: int
    double: bool
    steady: float | None = None
    grid: Grid | None = None
    compared: tuple[float, ...] = ()
    small_waves: bool = False
    shown: Shown | None = None
    halved: Halved | None = None
    si: SiSection | None = None
    newton: Newton | None = None

    @property
    def world(self) -> Any:
        """The world of the scenario's model, for a host program."""
        return self.main.world

    def start(self) -> Any:
        """Return its state at the start."""
        return self.main.start()

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run to the end, from the newest checkpoint if there is one."""
        main = self.main
        start = main.start()
        begun = main.world.observe(start)
        interval = main.steps // self.frames
        writer = ZarrWriter(
            folder, "fields", self._frame, UNITS, 4,
            axes=partial(dimensions_of, grid=main.problem.grid),
        )  # fmt: skip
        guards = [positivity_guard(main.remedy)]
        fixed = not isinstance(main.world, Paced)
        if fixed and isinstance(main.solver, FluidWorld):
            guards.append(courant_guard)  # type: ignore[arg-type]

        residual = Residual(self.steady or 0.0, None if fixed else main.world.ahead)
        writers: list[Any] = [(every(interval), writer)]
        if self.shown is not None:
            writers += self.shown.writers(folder)
        if (body := main.problem.body) is not None:
            told = ZarrWriter(
                folder, "solids", lambda state, seen: loads(body, seen["solid_loads"]),
                {**load_units(body), "time": UNITS["time"]},
            )  # fmt: skip
            writers.append((every(interval), told))
        if self.steady is not None:
            writers.append((residual.trigger(interval), residual))

        def finish(folder: RunFolder, state: Any, seen: Mapping[str, Tensor]) -> Outcome:
            adequate = velocity_checks(self.main, state, store=folder.store)
            still = None
            if self.newton is not None:
                report.say("Newton's method for the steady state")
                still, more = self.newton.after(state)
                adequate += more
            out = self._finish(
                folder, report, on_host(seen), on_host(begun), adequate, still
            )
            return out if self.steady is None else residual.told(out)

        simulation = Simulation(
            main.world, lambda: start, main.steps, main.time_step,
            writers, guards, interval, max(interval, main.steps // 4), _headline, finish,
            residual.reached,
        )  # fmt: skip
        return simulation.run(folder, report)

    def _frame(self, state: Any, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        more = {} if self.shown is None else self.shown.frame(seen)
        return {**self.main.kept(seen), **more}

    def _finish(
        self,
        folder: RunFolder,
        report: Reporter,
        seen: Mapping[str, Tensor],
        begun: Mapping[str, Tensor],
        adequate: list[Check],
        still: Any = None,
    ) -> Outcome:
        folder.store.attrs["time_unit"] = UNITS["time"]
        figures: dict[str, Figure] = {}
        problem, note = self.main.problem, "relative, largest of the batch"
        kept = kept_totals(problem.sides, problem.force is None and problem.body is None)
        for name, drift in relative_drift(seen, begun).items():
            if name in kept:
                figures[name] = Figure(float(drift.amax()), note=note)
        checks = [*self._checks(figures), *model_checks(seen), *adequate]
        checks += domain_checks(self.main, seen)
        if (law := self.main.problem.gas.law) is not None:
            frames: Any = folder.store["fields/temperature"]
            found = [torch.from_numpy(frames[k]) for k in range(frames.shape[0])]
            checks.append(table_check("", worst_of(map(law.excess, found))))
        for name, note in NOTES.items():
            if name in seen:
                told = FIGURES.get(name, name)
                figures[told] = Figure(float(seen[name].double().amax()), note=note)
        profile = folder.store.require_group("profile")
        write_axes(profile, problem.grid)
        if "fields" in folder.store:  # a run that is steady from the start has no frames
            write_axes(folder.store["fields"], problem.grid)
        if self.shown is not None:
            self.shown.put_coordinates(folder)
        if self.si is not None:
            figures |= self.si.figures()
        if problem.body is not None:
            figures |= last_loads_of(problem.body, seen)
            geometry = folder.store.require_group("geometry")
            geometry.attrs["plot"] = "hidden"
            note = "1 in a solid, 0 in the gas"
            mask = problem.body.mask.to(torch.uint8)
            write_field(geometry, "solid", mask, note, problem.grid)
        if len(problem.knudsen) > 1 and problem.knudsen.dim() == 1:
            write_field(profile, "knudsen", problem.knudsen, dimensions=("system",))
        main, beside = self.main, Beside(self._timeline(folder), self._front(folder, seen))
        beside.ran.append((main, problem.grid, seen))
        for part in (beside.timeline, beside.front):
            figures |= {} if part is None else part.begin()
        for other in self.others:
            gaps, more = self._compare(folder, report, other, seen, beside)
            figures |= gaps
            checks += more
        if still is not None:
            run, found = replace(main, name="newton"), on_host(main.world.observe(still))
            figures |= self._gaps(folder, run, found, seen, beside)
        figures |= beside.changes()
        if self.small_waves:
            closures = {run.name: _closure(run) for run in self.others}
            learned = {n: c for n, c in closures.items() if c is not None}
            figures |= small_waves(folder, learned)
        exact = False
        for reference in self.references:
            compared = reference(seen)
            figures |= _write(folder, compared, problem.grid)
            checks += compared.checks
            exact = exact or any(c.kind == "accuracy" for c in compared.checks)
        halved = self.halved  # a gas that was steady from the start has written nothing
        if halved is not None and (halved.always or not exact) and "fields" in folder.store:
            report.say("checked by a run on half the cells")
            checks += halved.checks(self.frames, folder.store["fields"])
        return Outcome(figures, checks)

    def _checks(self, drifts: Mapping[str, Figure]) -> tuple[Check, ...]:
        # The guard has seen every state: one that is not positive ends the run.
        checks = [Check("positivity", "health", 0.0, 0.0, note="cells refused")]
        if drifts:
            name, worst = max(drifts.items(), key=lambda item: rank(item[1].value))
            bound = 1e-10 if self.double else 1e-3
            checks.append(Check("conservation", "health", worst.value, bound, note=name))
        return tuple(checks)

    def _timeline(self, folder: RunFolder) -> Timeline | None:
        """What the main model found at the times of the comparison."""
        if not self.compared:
            return None
        p, grid = self.main.problem, self.grid or self.main.problem.grid
        store: Any = folder.store["fields"]
        truth = []
        for at in (0.0, *self.compared):
            frame = round(at * self.frames / p.end)
            names = ("density", "velocity", "temperature")
            seen = {name: torch.as_tensor(store[name][frame]) for name in names}
            truth.append(observed(seen, grid, p.gas.dimension))
        knudsen = p.knudsen
        if knudsen.dim() > 1:
            knudsen = p.initial.knudsen_numbers(grid)
        return Timeline(folder, grid, self.compared, knudsen, truth)

    def _front(self, folder: RunFolder, seen: Mapping[str, Tensor]) -> ShockFront | None:
        """The shock of the main model, where others are compared with it."""
        p = self.main.problem
        if not (self.others and isinstance(p.initial, Shock) and p.gas.dimension == 1):
            return None
        ahead = p.initial.mach, float(p.knudsen[0])
        return ShockFront.of(folder, *ahead, p.grid, seen)

    def _compare(
        self, folder: RunFolder, report: Reporter, run: Run, seen: Mapping[str, Tensor],
        beside: Beside,
    ) -> tuple[dict[str, Figure], list[Check]]:  # fmt: skip
        report.say(f"compared with {run.name}, {run.steps} steps")
        timeline, far, many = beside.timeline, 1.0, []
        marks = {0, *(round(t * self.frames / run.problem.end) for t in self.compared)}
        try:
            for frame, last in enumerate(run.frames(self.frames)):
                far = worst_of((far, run.excess(last.seen)))
                if timeline is not None and frame in marks:
                    many.append(
                        observed(last.seen, timeline.grid, run.problem.gas.dimension)
                    )
        except GuardError as error:
            return {}, [run.stopped(report, error)]
        found, seconds = last.seen, last.seconds
        gaps = self._gaps(folder, run, found, seen, beside)
        gaps[f"seconds_{run.name}"] = Figure(seconds, "s", note="CPU time of its steps")
        if timeline is not None:
            gaps |= timeline.figures(run.name, many, seconds)
        if "fallbacks" in found:
            share = float(found["fallbacks"].double().mean()) / faces_asked(run, found)
            note = "share of faces, to HME"
            gaps[f"fallback_{run.name}"] = Figure(share, "", note=note)
        return gaps, run.checks_beside(last, far)

    def _gaps(
        self, folder: RunFolder, run: Run, found: Mapping[str, Tensor],
        seen: Mapping[str, Tensor], beside: Beside,
    ) -> dict[str, Figure]:  # fmt: skip
        """Write what a model found at the end; return its distance from the main one."""
        run.write_beside(folder, found)
        grid, own = run.problem.grid, self.main.problem.grid
        finer, coarser = (max(1, a // b) for a, b in (
            (grid.shape[0], own.shape[0]), (own.shape[0], grid.shape[0]),
        ))  # fmt: skip
        names, dim = ("density", "temperature"), grid.dim
        mine = {name: coarsened(seen[name], coarser, dim) for name in names}
        other = {name: coarsened(found[name], finer, dim) for name in names}
        gaps: dict[str, Figure] = {}
        if (gap := signal_gap(mine, other)) is not None:
            note = "density and temperature, L2, over the departure of the run's own model "
            note += "from its mean: 1 is what a uniform gas gets; largest of the batch"
            gaps[f"signal_gap_{run.name}"] = Figure(gap, note=note)
        note = "relative L1 distance from the run's own model, largest of the batch"
        for name in names:
            gap = (mine[name] - other[name]).abs().flatten(1).mean(1)
            gap = gap / other[name].abs().flatten(1).mean(1)
            gaps[f"{name}_gap_{run.name}"] = Figure(float(gap.amax()), note=note)
        beside.ran.append((run, grid, {name: found[name] for name in names}))
        if beside.front is not None:
            gaps |= beside.front.figures(run.name, grid, found)
        if run.problem.body is not None:
            gaps |= last_loads_of(run.problem.body, found, f"_{run.name}")
        for name in ("complex_fraction", "complex_speed"):
            if name in found:
                gaps[f"grad13_{name}"] = Figure(float(found[name].amax()), note=NOTES[name])
        return gaps


def _closure(run: Run) -> Any:
    """Return the learned closure of a run, None where there is none."""
    world = run.solver
    world = world.world if isinstance(world, PositivityFallback) else world
    equations: Any = getattr(world, "equations", None)
    return equations.closure if getattr(equations, "learned", False) else None


def _write(folder: RunFolder, compared: Compared, grid: Grid) -> Mapping[str, Figure]:
    """Write the arrays of a reference; return its figures."""
    places = [("profile", compared.profile)]
    if compared.maps:
        places.append(("exact", compared.maps))
        group = folder.store.require_group("exact")
        group.attrs["title"] = "Against the exact solution"
    for place, arrays in places:
        for name, values in arrays.items():
            group = folder.store.require_group(place)
            write_field(group, name, values, compared.words.get(name, ""), grid)
    return compared.figures


def _headline(seen: Mapping[str, Tensor]) -> dict[str, str]:
    rho, t = seen["density"], seen["temperature"]
    out = {
        "density": f"{float(rho.amin()):.3g}..{float(rho.amax()):.3g}",
        "temperature": f"{float(t.amin()):.3g}..{float(t.amax()):.3g}",
    }
    if "time_step" in seen:
        out["dt"] = f"{float(seen['time_step']):.3g}"
    if "courant" in seen:
        out["cfl"] = f"{float(seen['courant'].amax()):.2f}"
    return out
