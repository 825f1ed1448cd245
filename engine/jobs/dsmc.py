"""From a scenario of direct simulation Monte Carlo to the job that runs it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import GuardError, InputError
from ..gas.boundaries import (
    Inflow,
    Mixed,
    Open,
    Periodic,
    Symmetry,
    Wall,
    kept_totals,
    uniform,
)
from ..gas.collisions.molecules import (
    Molecules,
    from_potential,
    hard_spheres,
    rotating,
    variable_spheres,
)
from ..gas.collisions.pairs import Table, lennard_jones
from ..gas.collisions.published import PUBLISHED
from ..gas.grid import Grid
from ..gas.initial.shocks import Shock
from ..gas.kinetic import thickness
from ..gas.kinetic.averages import Average, Blocks, averaged, free_path, resolution
from ..gas.kinetic.dsmc import DsmcState, DsmcWorld, Start
from ..gas.material import Gas, Rotating
from ..gas.observe import relative_drift
from ..gas.problem import Problem
from ..gas.references import Comparison, comparison
from ..protocols import Check, Figure, Job, Outcome
from ..run import Reporter, Simulation, ZarrWriter, every
from ..rundir import RunFolder
from ..runtime import check_memory, dtype_of
from ..schema.dsmc import DsmcScenario, Goals, HardSpheres, VariableSpheres
from .fields import UNITS, steps_of, write_axes, write_field

AVERAGED = ("density", "velocity", "temperature", "stress", "heat_flux")


def assemble(scenario: DsmcScenario, base: Path) -> Job:
    """Return the job of a scenario; it names no files, so ``base`` is not used.

    Raises:
        InputError: the parts contradict each other, or do not fit into the memory.
    """
    del base
    if scenario.device != "cpu":
        raise InputError("device: particles run on cpu alone so far")
    problem = _problem(scenario)
    reference = (
        None if scenario.reference == "none" else comparison(scenario.reference, problem)
    )
    job = DsmcJob(
        _world(scenario, problem), problem, scenario.model.ensembles, scenario.goals,
        scenario.time.frames, scenario.time.blocks, scenario.time.average_from,
        isinstance(scenario.gas, HardSpheres | VariableSpheres), reference, scenario.seed,
    )  # fmt: skip
    check_memory(job.world.needed_bytes, torch.uint8, "model.particles, ensembles:")
    return job


def _problem(scenario: DsmcScenario) -> Problem:
    section, molecule = scenario.grid, scenario.gas
    grid = Grid(section.cells, section.lower, section.upper)
    law = Rotating if getattr(molecule, "diatomic", False) else Gas
    gas = law(3, 2 / 3, 1.0, _exponent(molecule) - 1)
    sides = scenario.boundaries.sides(grid.dim)
    for axis, pair in enumerate(sides):
        for end, side in (("low", pair.low), ("high", pair.high)):
            _check_side(side, f"boundaries.{'xyz'[axis]}.{end}")
    knudsen = torch.tensor(scenario.knudsen, dtype=torch.float64)
    end = scenario.time.end
    return Problem(grid, sides, gas, knudsen, gas.gamma, scenario.initial, end)


def _check_side(side: Any, key: str) -> None:
    """Refuse what particles do not honour."""
    if isinstance(side, Open):
        raise InputError(
            f"{key}: open lets no particle in; use inflow with the state outside"
        )
    if isinstance(side, Mixed):
        raise InputError(f"{key}_parts: particles know one boundary for a whole face")
    if not isinstance(side, Periodic | Inflow | Wall | Symmetry):
        raise InputError(
            f"{key}: {side.kind} is not known to model.kind = dsmc; periodic, inflow, "
            "wall and symmetry are"
        )
    if not uniform(side):
        raise InputError(f"{key}: model.kind = dsmc takes numbers, not expressions")


def _exponent(molecule: Any) -> float:
    """Exponent of the viscosity; a potential has none, hard spheres' serves estimates."""
    return molecule.exponent if isinstance(molecule, VariableSpheres) else 0.5


def _molecules(scenario: DsmcScenario, problem: Problem) -> Molecules:
    molecule, kn = scenario.gas, scenario.knudsen[0]
    if isinstance(molecule, HardSpheres):
        return hard_spheres(kn)
    if isinstance(molecule, VariableSpheres):
        omega = molecule.exponent
        made = variable_spheres(kn, omega, molecule.angle)
        return rotating(made, omega, molecule.relaxation) if molecule.diatomic else made
    if molecule.of is not None:
        table = PUBLISHED[molecule.of].table()
    else:
        eps, sigma = (
            torch.tensor(float(x), dtype=torch.float64)  # type: ignore[arg-type]
            for x in (molecule.epsilon, molecule.sigma)
        )
        table = Table.of(lennard_jones(eps, sigma), 0.25 * float(sigma), 40 * float(sigma))
    return from_potential(table, kn, molecule.temperature, problem.temperatures()[2])


def _time_step(scenario: DsmcScenario, problem: Problem) -> float:
    """Return the step: a share of the mean collision time and of the transit of a cell."""
    rho, t = problem.start.density, problem.start.temperature
    u = problem.start.velocity.norm(dim=-1)
    for side in (problem.sides[0].low, problem.sides[0].high):
        if isinstance(side, Inflow):
            rho = torch.cat([rho.flatten(), torch.tensor([side.density])])
            t = torch.cat([t.flatten(), torch.tensor([side.temperature])])
            speed = torch.tensor(side.velocity, dtype=torch.float64).norm()
            u = torch.cat([u.flatten(), speed[None]])
    collision = free_path(problem, rho, t) / (8 * t / math.pi).sqrt()
    transit = min(problem.grid.spacing) / (u + (2 * t).sqrt())
    return scenario.model.step * float(torch.minimum(collision, transit).amin())


def _world(scenario: DsmcScenario, problem: Problem) -> DsmcWorld:
    model, time = scenario.model, scenario.time
    steps = steps_of(time.end, _time_step(scenario, problem), time.frames)
    step = time.end / steps
    ratio = [kn / scenario.knudsen[0] for kn in scenario.knudsen]
    never = time.average_from is None
    start = problem.start
    return DsmcWorld(
        problem.grid, problem.sides, _molecules(scenario, problem),
        Start(start.density, start.velocity, start.temperature),
        model.particles / problem.grid.volume, step, scenario.seed,
        isinstance(scenario.initial, Shock), 0 if never else _first(time, step),
        0 if never else time.sample_every, model.capacity,
        tuple(r for r in ratio for _ in range(model.ensembles)),
        dtype_of(scenario.precision),
    )  # fmt: skip


def _first(time: Any, step: float) -> int:
    return math.floor(time.average_from / step) + 1


@dataclass(frozen=True)
class DsmcJob:
    """Runs the particles; the store holds ``fields``, ``average`` and ``profile``.

    Attributes:
        world: the particles, systems ordered by Knudsen number, then ensemble.
        problem: what all models would share.
        ensembles: of each Knudsen number.
        goals: how exact the average has to be.
        frames: written, evenly in time.
        blocks: of the average.
        average_from: time; None: no average.
        has_law: whether the viscosity is a power of the temperature.
        reference: what is known of the problem.
        seed: of the start.
    """

    world: DsmcWorld
    problem: Problem
    ensembles: int
    goals: Goals
    frames: int
    blocks: int
    average_from: float | None
    has_law: bool
    reference: Comparison | None
    seed: int
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
        writer = ZarrWriter(folder, "fields", lambda _s, seen: self._frame(seen), UNITS, 4)
        blocks = Blocks()

        def finish(folder: RunFolder, state: Any, seen: Mapping[str, Tensor]) -> Outcome:
            return self._finish(folder, state, seen, begun, blocks)

        simulation = Simulation(
            world, lambda: start, self.steps, world.time_step,
            [(every(interval), writer), (self._ends_block, blocks)], [_finite], interval,
            max(interval, self.steps // 8), _headline, finish,
        )  # fmt: skip
        return simulation.run(folder, report)

    def _ends_block(self, step: int) -> bool:
        if self.average_from is None:
            return False
        first, n = self.world.sample_from, self.blocks
        done = step - first
        long = self.steps - first
        return done > 0 and done * n // long > (done - 1) * n // long

    def _pooled(self, values: Tensor) -> Tensor:
        """Mean over the ensembles, ``[knudsen, ...]``."""
        return values.unflatten(0, (-1, self.ensembles)).double().mean(1)

    def _frame(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = (*AVERAGED, "rotational_temperature")
        return {name: self._pooled(seen[name]) for name in names if name in seen}

    def _finish(
        self,
        folder: RunFolder,
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
        checks = [self._conservation(state, seen, begun)]
        profile = folder.store.require_group("profile")
        write_axes(profile, self.problem.grid)
        if len(self.problem.knudsen) > 1:
            write_field(profile, "knudsen", self.problem.knudsen)
        if self.average_from is None:
            return Outcome(figures, tuple(checks))
        average = averaged(self.world, blocks, self.ensembles)
        self._write(folder, average)
        checks += self._checks(average, seen)
        if self.reference is not None:
            compared = self.reference(average.fields)
            for name, values in compared.profile.items():
                write_field(profile, name, values, compared.words.get(name, ""))
            figures |= compared.figures
        if isinstance(self.problem.initial, Shock):
            figures |= self._shock(average)
        return Outcome(figures, tuple(checks))

    def _conservation(
        self, state: DsmcState, seen: Mapping[str, Tensor], begun: Mapping[str, Tensor]
    ) -> Check:
        """Totals that the boundaries leave alone, against sums of magnitudes."""
        drifts, kept = relative_drift(seen, begun), kept_totals(self.problem.sides)
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
        for name, values in _components(average.fields, grid.dim).items():
            error = _components(average.errors, grid.dim)[name]
            alone = len(values) == 1
            for label, data in ((name, values), (f"{name}_error", error)):
                axes = spatial if alone else ["knudsen", *spatial]
                write_field(group, label, data[0] if alone else data, axes=axes)

    def _checks(self, average: Average, seen: Mapping[str, Tensor]) -> list[Check]:
        grid, rho = self.problem.grid, average.fields["density"]
        relative = average.errors["density"] / rho
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

    def _shock(self, average: Average) -> dict[str, Figure]:
        """Return the measures of a shock, lengths in mean free paths ahead."""
        low, high = self.problem.sides[0].low, self.problem.sides[0].high
        assert isinstance(low, Inflow)
        assert isinstance(high, Inflow)
        names = tuple(
            (name, float(getattr(low, name)), float(getattr(high, name)))
            for name in ("density", "temperature")
        )
        blocks = torch.stack(
            [
                torch.stack([(b[name][0] - a) / (z - a) for name, a, z in names])
                for b in average.blocks
            ]
        )
        path = 3.2 * float(self.problem.knudsen[0]) / math.sqrt(2 * math.pi)
        found = thickness.measures(blocks, self.problem.grid.spacing[0] / path)
        return {
            name: Figure(value, error=error, note=thickness.NOTES[name])
            for name, (value, error) in found.items()
        }


def _components(fields: Mapping[str, Tensor], dim: int) -> dict[str, Tensor]:
    """Split vectors and the stress into the components that are drawn."""
    found = {}
    for name, values in fields.items():
        if name == "velocity" or name == "heat_flux":
            for d in range(max(dim, 2)):
                found[f"{name}_{'xyz'[d]}"] = values[..., d]
        elif name == "stress":
            found["stress_xx"], found["stress_xy"] = values[..., 0, 0], values[..., 0, 1]
        else:
            found[name] = values
    return found


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
