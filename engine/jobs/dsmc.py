"""From a scenario of direct simulation Monte Carlo to the job that runs it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..comparison import rank
from ..errors import GuardError, InputError
from ..gas.boundaries import (
    Inflow,
    Open,
    Periodic,
    Symmetry,
    Wall,
    check_until,
    kept_totals,
    members,
    uniform,
)
from ..gas.collisions.molecules import (
    Molecules,
    from_potential,
    from_potentials,
    hard_spheres,
    mixture,
    rotating,
    variable_spheres,
)
from ..gas.collisions.pairs import Table, lennard_jones
from ..gas.collisions.published import PUBLISHED
from ..gas.collisions.quantum import viscosity_change
from ..gas.collisions.scattering import scatter
from ..gas.collisions.transport import Transport
from ..gas.fields import UNITS, dimensions_of, steps_of, write_axes, write_field
from ..gas.grid import Grid
from ..gas.initial.painted import evaluate
from ..gas.initial.shocks import Shock
from ..gas.kinetic.averages import (
    Average,
    Blocks,
    averaged,
    components,
    longest_step,
    resolution,
    shock_figures,
)
from ..gas.kinetic.departures import AVERAGED, Beside, frames_of, of_ensembles
from ..gas.kinetic.dsmc import DsmcState, DsmcWorld, Start
from ..gas.kinetic.obstacles import obstacles_of
from ..gas.kinetic.particle_faces import ONE_GAS, Reservoirs
from ..gas.loads import LoadFrames, average_loads, last_loads
from ..gas.material import Gas, Rotating, TransportLaw
from ..gas.material import Mixed as MixedGas
from ..gas.observe import relative_drift
from ..gas.problem import Problem
from ..gas.references import Comparison, comparison
from ..gas.runs import Run
from ..gas.solids import load_units, loads
from ..protocols import Check, Figure, Job, Outcome
from ..run import Reporter, Simulation, ZarrWriter, every
from ..rundir import RunFolder
from ..runtime import check_memory, dtype_of
from ..schema.base import locate, located
from ..schema.dsmc import (
    Composition,
    DsmcScenario,
    Goals,
    HardSpheres,
    Mixture,
    PairPotential,
    PotentialMixture,
    PotentialMolecules,
    VariableSpheres,
)
from ..schema.gas import FlowTime, GasScenario
from .gas import problem_of, runs_beside

OF_SPECIES = ("density", "fraction", "velocity", "temperature", "rotational_temperature")
QUANTUM = 0.01
"""What quantum scattering may change the viscosity by: the angles here are classical."""
COUNTED = 0.5
"""Part of a cell that must be gas for the cell to count in the checks of the noise."""


def assemble(scenario: DsmcScenario, base: Path) -> Job:
    """Return the job of a scenario; its paths are relative to ``base``.

    Raises:
        InputError: the parts contradict each other, or do not fit into the memory.
    """
    scenario = located(scenario, base)
    if scenario.device != "cpu":
        raise InputError("device: particles run on cpu alone so far")
    problem = _problem(scenario)
    molecules = _molecules(scenario, problem, base)
    if isinstance(scenario.gas, Composition):
        problem = replace(problem, gas=_as_met(scenario, problem.gas, molecules))
    if isinstance(scenario.gas, PotentialMolecules):
        problem = replace(problem, gas=_as_scattered(scenario.gas, problem, base))
    reference = (
        None if scenario.reference == "none" else comparison(scenario.reference, problem)
    )
    job = DsmcJob(
        _world(scenario, problem, molecules), problem, scenario.model.ensembles,
        scenario.goals, scenario.time.frames, scenario.time.blocks,
        scenario.time.average_from, reference, scenario.seed,
        scenario.gas.names if isinstance(scenario.gas, Composition) else (),
        partial(_classical, scenario, problem, base),
        _others(scenario, problem, base),
    )  # fmt: skip
    check_memory(job.world.needed_bytes, torch.uint8, "model.particles, ensembles:")
    return job


def _others(scenario: DsmcScenario, problem: Problem, base: Path) -> list[Run]:
    """Return the models that are compared, in the gas of the molecules."""
    if not scenario.compare:
        return []
    richer = ("mixture", "distribution", "knudsen_numbers")
    if any(hasattr(scenario.initial, name) for name in richer):
        raise InputError(
            f"compare: not with initial.kind = {scenario.initial.kind}, of which particles "
            "take density, velocity and temperature alone"
        )
    asked = scenario.time
    flow = GasScenario(
        version=1, kind="gas", grid=scenario.grid, boundaries=scenario.boundaries,
        model=scenario.compare[0], compare=scenario.compare, force=scenario.force,
        solids=scenario.solids, initial=scenario.initial, precision=scenario.precision,
        time=FlowTime(end=asked.end, frames=frames_of(asked.end, asked.average_from)),
        knudsen=scenario.knudsen,
    )  # fmt: skip
    return runs_beside(flow, problem_of(flow, gas=problem.gas), base)


def _problem(scenario: DsmcScenario) -> Problem:
    section = scenario.grid
    grid = Grid(section.cells, section.lower, section.upper)
    sides = scenario.boundaries.sides(grid.dim)
    for axis, pair in enumerate(sides):
        for end, side in (("low", pair.low), ("high", pair.high)):
            for key, member in members(side, f"boundaries.{'xyz'[axis]}.{end}"):
                _check_side(member, key)
    knudsen = torch.tensor(scenario.knudsen, dtype=torch.float64)
    gas, end = _gas(scenario), scenario.time.end
    check_until(sides, grid, end)
    if scenario.solids and isinstance(scenario.initial, Shock):
        raise InputError(
            "solids: not with initial.kind = shock, whose gas is shifted to hold the shock"
        )
    solids = tuple(section.solid for section in scenario.solids)
    return Problem(
        grid, sides, gas, knudsen, gas.gamma, scenario.initial, end, scenario.force, solids,
        on_cells=False,
    )  # fmt: skip


def _gas(scenario: DsmcScenario) -> Gas:
    """Return the law of the gas, which serves estimates and references."""
    molecule = scenario.gas
    power = _exponent(molecule) - 1
    if isinstance(molecule, Composition):
        return MixedGas(3, 2 / 3, 1.0, power, rotating=molecule.rotating)
    law = Rotating if getattr(molecule, "diatomic", False) else Gas
    return law(3, 2 / 3, 1.0, power)


def _as_met(scenario: DsmcScenario, gas: Gas, molecules: Molecules) -> Gas:
    """Return the law of a mixture whose free path is the shortest of its molecules."""
    assert isinstance(scenario.gas, Composition)
    path = molecules.shortest_path(scenario.gas.fractions) / scenario.knudsen[0]
    # the path of a gas is 16/5 mu / (rho sqrt(2 pi T))
    return replace(gas, shortest=path * math.sqrt(2 * math.pi) / 3.2)


def _as_scattered(gas: PotentialMolecules, problem: Problem, base: Path) -> Gas:
    """Return the law of a gas that scatters classically by a potential."""
    coldest, _, hottest = problem.temperatures()
    # the fields of few particles are colder than the coldest gas
    ends = 0.5 * min(coldest, 1.0) * gas.temperature, max(hottest, 1.0) * gas.temperature
    with torch.no_grad():
        found = Transport.of(scatter(_table(gas, base), *ends), *ends, 1.0)
    return problem.gas.following(TransportLaw.of(found, gas.temperature))


def _check_side(side: Any, key: str) -> None:
    """Refuse what particles do not honour."""
    if isinstance(side, Open):
        raise InputError(
            f"{key}: open lets no particle in; use inflow with the state outside"
        )
    if not isinstance(side, Periodic | Inflow | Wall | Symmetry):
        kind = getattr(side, "kind", type(side).__name__)
        raise InputError(
            f"{key}: {kind} is not known to model.kind = dsmc; periodic, inflow, "
            "wall and symmetry are"
        )
    if isinstance(side, Inflow) and not uniform(side):
        raise InputError(
            f"{key}: model.kind = dsmc takes numbers for a reservoir, not expressions; "
            "give parts of the face reservoirs of their own"
        )


def _exponent(molecule: Any) -> float:
    """Exponent of the viscosity, of a mixture that of hard spheres: for estimates."""
    return molecule.exponent if isinstance(molecule, VariableSpheres) else 0.5


def _molecules(scenario: DsmcScenario, problem: Problem, base: Path) -> Molecules:
    gas, kn = scenario.gas, scenario.knudsen[0]
    match gas:
        case HardSpheres():
            return hard_spheres(kn)
        case Mixture():
            made = mixture(kn, gas.masses, gas.spheres(), gas.unlike())
            turning = min(gas.relaxations) < math.inf
            return rotating(made, gas.relaxations) if turning else made
        case VariableSpheres():
            made = variable_spheres(kn, gas.exponent, gas.angle)
            return rotating(made, (gas.relaxation,)) if gas.diatomic else made
        case PotentialMixture():
            tables = {pair: _table(p, base) for pair, p in gas.potentials().items()}
            hottest = problem.temperatures()[2]
            return from_potentials(tables, gas.masses, kn, gas.temperature, hottest)
    hottest = problem.temperatures()[2]
    return from_potential(_table(gas, base), kn, gas.temperature, hottest)


def _table(potential: PairPotential, base: Path) -> Table:
    """Return a potential on knots."""
    if potential.published is not None:
        return PUBLISHED[potential.published].table()
    if potential.file is not None:
        return Table.read(locate(potential.file, base))
    assert potential.well is not None
    epsilon, sigma = (torch.tensor(x, dtype=torch.float64) for x in potential.well)
    return Table.of(lennard_jones(epsilon, sigma), 0.25 * float(sigma), 40 * float(sigma))


def _classical(scenario: DsmcScenario, problem: Problem, base: Path) -> list[Check]:
    """Check that the atoms of a potential are heavy and hot enough for classical angles.

    Each gas alone, where its mass is known, at the lowest temperature of start and
    boundaries.
    """
    gas = scenario.gas
    if not isinstance(gas, PotentialMolecules | PotentialMixture):
        return []
    kelvin, found = problem.temperatures()[0] * gas.temperature, {}
    for atom in gas.species if isinstance(gas, PotentialMixture) else (gas,):
        known = None if atom.of is None else PUBLISHED[atom.of]
        mass = known.mass if known else getattr(atom, "mass", None)
        if mass is not None:
            bosons = known is not None and known.bosons
            change = viscosity_change(_table(atom, base), kelvin, mass, bosons)
            found[getattr(atom, "name", atom.of)] = change
    if not found:
        return []
    name, worst = max(found.items(), key=lambda pair: rank(abs(pair[1])))
    note = f"of the viscosity of {name} at {kelvin:.4g} K, by quantum scattering; the "
    note += "angles here are classical"
    return [Check("quantum", "accuracy", abs(worst), QUANTUM, note=note)]


def _acceleration(problem: Problem) -> Tensor | None:
    """Return the force on molecules.

    Raises:
        InputError: what a force asks of particles that they cannot do.
    """
    force = problem.force
    if force is None:
        return None
    if force.rest is not None:
        raise InputError(
            "force.rest: particles are never at rest; leave it out with model.kind = dsmc"
        )
    acceleration, heat = force.on(problem.grid)
    if bool(heat.any()):
        raise InputError(
            "force.heat: model.kind = dsmc has no heat source; leave it out, or heat walls"
        )
    return acceleration if bool(acceleration.any()) else None


def _fractions(gas: Composition, problem: Problem) -> Tensor | None:
    """Return the composition at the start, where it is not the same everywhere.

    Raises:
        InputError: fractions that are not between 0 and 1, or do not add up.
    """
    if all(s.start is None for s in gas.species):
        return None
    points, parts = problem.grid.points(), []
    for number, species in enumerate(gas.species):
        key = f"species.{number}.start"
        value = species.fraction if species.start is None else species.start
        found = evaluate(key, value, points, "gas").expand(problem.grid.shape)
        if not bool(((found >= 0) & (found <= 1)).all()):
            raise InputError(
                f"gas.{key}: {float(found.amin()):.4g} to {float(found.amax()):.4g}; must "
                "be 0 to 1 everywhere"
            )
        parts.append(found)
    total = torch.stack(parts).sum(0)
    off = float((total - 1).abs().amax())
    if off > 1e-6:
        raise InputError(
            f"gas.species.*.start: the fractions of all species miss 1 by {off:.3g}; a "
            "species without start has its fraction everywhere"
        )
    return torch.stack(parts) / total


def _reservoirs(scenario: DsmcScenario, problem: Problem) -> Reservoirs:
    gas = scenario.gas
    if not isinstance(gas, Composition):
        return ONE_GAS
    if gas.inflow and isinstance(problem.initial, Shock):
        raise InputError(
            "gas.inflow: a shock at rest has the reference composition (fraction) ahead "
            "and behind; leave it out, or start from another initial.kind"
        )
    for key in gas.inflow:
        axis, end = "xyz".index(key[0]), key[2:]
        side = getattr(problem.sides[axis], end) if axis < problem.grid.dim else None
        if not any(isinstance(m, Inflow) for _, m in members(side)):
            raise InputError(f"gas.inflow.{key}: there is no reservoir at that end")
    return Reservoirs(gas.masses, gas.fractions, gas.inflow)


def _world(scenario: DsmcScenario, problem: Problem, molecules: Molecules) -> DsmcWorld:
    model, time = scenario.model, scenario.time
    longest = longest_step(problem, float(molecules.masses.amin()))
    steps = steps_of(time.end, model.step * longest, time.frames)
    step = time.end / steps
    ratio = [kn / scenario.knudsen[0] for kn in scenario.knudsen]
    never = time.average_from is None
    start, gas = problem.start, scenario.gas
    mixed = _fractions(gas, problem) if isinstance(gas, Composition) else None
    return DsmcWorld(
        problem.grid, problem.sides, molecules,
        Start(start.density, start.velocity, start.temperature, mixed),
        model.particles / problem.grid.volume, step, scenario.seed,
        isinstance(scenario.initial, Shock), 0 if never else _first(time, step),
        0 if never else time.sample_every, model.capacity,
        tuple(r for r in ratio for _ in range(model.ensembles)),
        dtype_of(scenario.precision), _reservoirs(scenario, problem),
        obstacles_of(problem.solids, problem.grid), _acceleration(problem), model.partners,
    )  # fmt: skip


def _first(time: Any, step: float) -> int:
    return math.floor(time.average_from / step) + 1


@dataclass(frozen=True)
class DsmcJob:
    """Runs the particles, then the models that are compared with them.

    The store holds ``fields``, ``average``, ``profile``, ``compare/NAME``.

    Attributes:
        world: the particles, systems ordered by Knudsen number, then ensemble.
        problem: what all models would share.
        ensembles: of each Knudsen number.
        goals: how exact the average has to be.
        frames: written, evenly in time.
        blocks: of the average.
        average_from: time; None: no average.
        reference: what is known of the problem.
        seed: of the start.
        species: their names in a mixture.
        known: checks of what goes in.
        others: models that are compared with the particles.
    """

    world: DsmcWorld
    problem: Problem
    ensembles: int
    goals: Goals
    frames: int
    blocks: int
    average_from: float | None
    reference: Comparison | None
    seed: int
    species: tuple[str, ...] = ()
    known: Callable[[], list[Check]] = list
    others: Sequence[Run] = ()
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        steps = round(self.problem.end / self.world.time_step)
        object.__setattr__(self, "steps", steps)
        if self.average_from is not None:
            samples = (steps - self.world.sample_from) / self.world.sample_every
            if samples < self.blocks:
                raise InputError(
                    f"time.blocks: {self.blocks} blocks of {samples:.0f} samples; average "
                    "longer, sample more often, or take fewer blocks"
                )

    # -- what is known beforehand --------------------------------------------------------

    def announcement(self) -> str:
        """Return one line: particles, memory, steps."""
        w = self.world
        number = w.expected * w.systems
        words = f"{number} particles"
        if w.systems > 1:
            words += f" in {w.systems} systems"
        return (
            f"{words}, {w.needed_bytes / 2**20:.0f} MiB, {self.steps} steps of "
            f"{w.time_step:.3g}: {number * self.steps:.2g} particle steps"
        )

    # -- the run -------------------------------------------------------------------------

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run to the end, from the newest checkpoint if there is one."""
        world, interval = self.world, self.steps // self.frames
        report.say(self.announcement())
        start = world.init(torch.Generator().manual_seed(self.seed))
        begun = world.observe(start)
        units = UNITS | {f"{q}_{s}": UNITS[q] for q in OF_SPECIES for s in self.species}
        writer = ZarrWriter(
            folder, "fields", lambda _s, seen: self._frame(seen), units, 4,
            axes=partial(dimensions_of, grid=self.problem.grid),
        )  # fmt: skip
        blocks = Blocks()
        writers: list[Any] = [(every(interval), writer), (self._ends_block, blocks)]
        over_time = self._load_frames(folder)
        if over_time is not None:
            writers.append((every(interval), over_time))

        def finish(folder: RunFolder, state: Any, seen: Mapping[str, Tensor]) -> Outcome:
            out = self._finish(folder, report, state, seen, begun, blocks)
            more = self._loads(folder, blocks, over_time)
            return replace(out, figures={**out.figures, **more})

        simulation = Simulation(
            world, lambda: start, self.steps, world.time_step,
            writers, [_finite], interval, max(interval, self.steps // 8), _headline, finish,
        )  # fmt: skip
        return simulation.run(folder, report)

    def _ends_block(self, step: int) -> bool:
        if self.average_from is None:
            return False
        first, n = self.world.sample_from, self.blocks
        if step == first - 1:
            return True  # where the average begins
        done = step - first
        long = self.steps - first
        return done > 0 and done * n // long > (done - 1) * n // long

    def _load_frames(self, folder: RunFolder) -> LoadFrames | None:
        body = self.problem.body
        if body is None:
            return None
        writer = ZarrWriter(
            folder, "solids", lambda _state, seen: loads(body, seen["solid_loads"]),
            {**load_units(body), "time": UNITS["time"]},
        )  # fmt: skip
        return LoadFrames(writer, self._pooled)

    def _loads(
        self, folder: RunFolder, blocks: Blocks, over_time: LoadFrames | None
    ) -> dict[str, Figure]:
        """Return force and heat of the solids: the average, or that of the last frame."""
        body = self.problem.body
        if body is None or over_time is None:
            return {}
        if self.average_from is None:
            return {} if over_time.newest is None else last_loads(body, over_time.newest)
        pooled = torch.stack([self._pooled(block) for block in blocks.loads()])
        return average_loads(body, pooled, folder)

    def _pooled(self, values: Tensor) -> Tensor:
        """Mean over the ensembles, ``[knudsen, ...]``."""
        return values.unflatten(0, (-1, self.ensembles)).double().mean(1)

    def _frame(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        named = self._named(seen)
        names = (*AVERAGED, "rotational_temperature", "pressure")
        names += tuple(f"{q}_{s}" for q in OF_SPECIES for s in self.species)
        return {name: self._pooled(named[name]) for name in names if name in named}

    def _named(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return fields with the names of the species in place of their numbers."""
        numbered = {
            f"{quantity}_{k}": f"{quantity}_{name}"
            for quantity in OF_SPECIES
            for k, name in enumerate(self.species)
        }
        return {numbered.get(name, name): values for name, values in fields.items()}

    def _finish(
        self,
        folder: RunFolder,
        report: Reporter,
        state: DsmcState,
        seen: Mapping[str, Tensor],
        begun: Mapping[str, Tensor],
        blocks: Blocks,
    ) -> Outcome:
        folder.store.attrs["time_unit"] = UNITS["time"]
        collisions = int(state.collisions.sum())
        figures = {
            "particles": Figure(float(self.world.expected * self.world.systems)),
            "collisions": Figure(float(collisions)),
        }
        checks = [self._conservation(state, seen, begun), *self.known()]
        profile = folder.store.require_group("profile")
        for shown in (profile, folder.store["fields"]):
            write_axes(shown, self.problem.grid)
        if len(self.problem.knudsen) > 1:
            write_field(profile, "knudsen", self.problem.knudsen)
        if self.average_from is None:
            truth = of_ensembles(seen, self.ensembles) if self.others else None
        else:
            truth = averaged(self.world, blocks, self.ensembles)
            figures |= self._of_average(folder, truth)
            checks += self._checks(truth, seen)
        if truth is not None:
            beside = Beside(self.others, self.average_from, self._counted())
            departures, more = beside.compare(folder, report, truth)
            figures, checks = figures | departures, checks + more
        return Outcome(figures, tuple(checks))

    def _of_average(self, folder: RunFolder, average: Average) -> dict[str, Figure]:
        """Write the average; return what is known of it."""
        figures: dict[str, Figure] = {}
        self._write(folder, average)
        if self.reference is not None:
            compared = self.reference(average.fields)
            for name, values in compared.profile.items():
                words = compared.words.get(name, "")
                write_field(folder.store["profile"], name, values, words)
            figures |= compared.figures
        if isinstance(self.problem.initial, Shock):
            mass = float(self.world.molecules.masses[0])
            figures |= shock_figures(self.problem, average, mass)
        return figures

    def _conservation(
        self, state: DsmcState, seen: Mapping[str, Tensor], begun: Mapping[str, Tensor]
    ) -> Check:
        """Totals that the boundaries leave alone, against sums of magnitudes."""
        free = self.problem.force is None and self.problem.body is None
        drifts, kept = relative_drift(seen, begun), kept_totals(self.problem.sides, free)
        worst = max((float(drifts[name].amax()) for name in kept), default=0.0)
        double = self.world.precision == torch.float64
        note = ", ".join(kept) or "reservoirs exchange everything"
        return Check("conservation", "health", worst, 1e-11 if double else 1e-3, note=note)

    def _write(self, folder: RunFolder, average: Average) -> None:
        group = folder.store.require_group("average")
        group.attrs["title"] = "Averages of the steady flow"
        group.attrs["caption"] = (
            f"Bands: one standard error from {len(average.blocks)} blocks of time."
        )
        grid = self.problem.grid
        write_axes(group, grid)
        spatial = list("xyz"[: grid.dim])
        errors = components(self._named(average.errors), grid.dim)
        for name, values in components(self._named(average.fields), grid.dim).items():
            error = errors[name]
            alone = len(values) == 1
            for label, data in ((name, values), (f"{name}_error", error)):
                axes = spatial if alone else ["knudsen", *spatial]
                write_field(group, label, data[0] if alone else data, axes=axes)

    def _checks(self, average: Average, seen: Mapping[str, Tensor]) -> list[Check]:
        grid, full = self.problem.grid, self._counted()
        rho = average.fields["density"][:, full]
        relative = average.errors["density"][:, full] / rho
        noise = float(relative.square().mean().sqrt())
        fewest = float(rho.amin()) * self.world.particles * grid.volume * self.ensembles
        cell, step = resolution(self.problem, average, self.world.time_step)
        goals = self.goals
        notes = (
            "relative, root mean square over the cells, from the scatter of the blocks",
            "fewest in a cell, all ensembles together",
            f"viscosity +{cell:.2g} by cells, +{step:.2g} by the time step; Alexander, "
            "Garcia, Alder 1998, Hadjiconstantinou 2000",
        )
        return [
            Check("error_density", "accuracy", noise, goals.density, note=notes[0]),
            Check(
                "particles_per_cell", "accuracy", fewest, goals.particles, True,
                note=notes[1],
            ),
            Check("resolution", "accuracy", cell + step, goals.resolution, note=notes[2]),
        ]  # fmt: skip

    def _counted(self) -> Tensor:
        """Return the cells that are gas, or more than half of them, ``[*grid.shape]``."""
        solid = self.world.obstacles
        if solid is None:
            return torch.ones(self.problem.grid.shape, dtype=torch.bool)
        return solid.share > COUNTED


def _finite(step: int, state: DsmcState, observed: Mapping[str, Tensor]) -> None:
    energy = observed["energy"]
    if not bool(torch.isfinite(energy).all()):
        raise GuardError(f"energy {energy.tolist()} at step {step}", step, state)


def _headline(seen: Mapping[str, Tensor]) -> dict[str, str]:
    return {
        "particles": f"{int(seen['particles'].sum())}",
        "fewest in a cell": f"{int(seen['particles'].amin())}",
    }


__all__ = ["DsmcJob", "assemble"]
