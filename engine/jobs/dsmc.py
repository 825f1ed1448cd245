"""From a scenario of direct simulation Monte Carlo to the job that runs it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import GuardError, InputError
from ..gas.boundaries import Inflow, Mixed, Open, Periodic, Symmetry, Wall, uniform
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
from ..gas.kinetic.dsmc import DsmcState, DsmcWorld, Start
from ..gas.material import Gas
from ..gas.observe import relative_drift
from ..gas.problem import Problem
from ..gas.references import Comparison, comparison
from ..protocols import Check, Figure, Job, Outcome
from ..run import Reporter, Simulation, ZarrWriter, every
from ..rundir import RunFolder
from ..runtime import check_memory, dtype_of
from ..schema.dsmc import DsmcScenario, Goals, HardSpheres, VariableSpheres

UNITS = {
    "density": "rho0", "velocity": "sqrt(R T0)", "temperature": "T0", "stress": "rho0 R T0",
    "rotational_temperature": "T0", "heat_flux": "rho0 (R T0)^1.5", "particles": "",
    "x": "L", "y": "L", "z": "L", "shear": "rho0 R T0", "heat": "rho0 (R T0)^1.5",
    "time": "L / sqrt(R T0)",
}  # fmt: skip
AVERAGED = ("density", "velocity", "temperature", "stress", "heat_flux")


@dataclass(frozen=True)
class Rotating(Gas):
    """A gas whose molecules rotate: five degrees of freedom."""

    @property
    def gamma(self) -> float:
        """Ratio of specific heats."""
        return 7 / 5


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


def free_path(problem: Problem, density: Tensor, temperature: Tensor) -> Tensor:
    """Return ``16/5 mu / (rho sqrt(2 pi T))`` at the smallest Knudsen number."""
    mu = problem.gas.viscosity(problem.knudsen.amin(), density, temperature)
    return 3.2 * mu / (density * (2 * math.pi * temperature).sqrt())


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
    frames = time.frames
    longest = _time_step(scenario, problem)
    steps = max(1, math.ceil(time.end / longest / frames - 1e-9)) * frames
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


class Blocks:
    """Keeps the sums at the ends of the blocks; a writer with memory."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._samples: list[Tensor] = []

    def write(self, step: int, time: float, state: DsmcState, observed: object) -> None:
        """Record the sums of all that was averaged so far."""
        self._sums.append(state.sums.clone())
        self._samples.append(state.samples.clone())

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what must be restored."""
        if not self._sums:
            return {}
        return {"sums": torch.stack(self._sums), "samples": torch.stack(self._samples)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`tensors` returned."""
        if "sums" in tensors:
            self._sums = list(tensors["sums"])
            self._samples = list(tensors["samples"])

    def parts(self) -> list[tuple[Tensor, int]]:
        """Return the sums ``[systems, cells, columns]`` and samples of every block."""
        sums = [torch.zeros_like(self._sums[0]), *self._sums]
        counts = [0, *(int(n) for n in self._samples)]
        return [
            (sums[k + 1] - sums[k], counts[k + 1] - counts[k])
            for k in range(len(self._sums))
            if counts[k + 1] > counts[k]
        ]


@dataclass(frozen=True)
class Average:
    """A steady flow: means, their standard errors, and what they were made of.

    Attributes:
        fields: ``[knudsen, *grid, ...]``.
        errors: the same, from the scatter of the blocks.
        blocks: of every block, ensembles pooled.
    """

    fields: Mapping[str, Tensor]
    errors: Mapping[str, Tensor]
    blocks: list[Mapping[str, Tensor]]


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
        for axis in range(self.problem.grid.dim):
            _put(profile, "xyz"[axis], self.problem.grid.centers(axis))
        if len(self.problem.knudsen) > 1:
            _put(profile, "knudsen", self.problem.knudsen)
        if self.average_from is None:
            return Outcome(figures, tuple(checks))
        average = self._average(blocks)
        self._write(folder, average)
        checks += self._checks(average, seen)
        if self.reference is not None:
            compared = self.reference(average.fields)
            for name, values in compared.profile.items():
                _put(profile, name, values, compared.words.get(name, ""))
            figures |= compared.figures
        if isinstance(self.problem.initial, Shock):
            figures |= self._shock(average)
        return Outcome(figures, tuple(checks))

    def _conservation(
        self, state: DsmcState, seen: Mapping[str, Tensor], begun: Mapping[str, Tensor]
    ) -> Check:
        """Totals that the boundaries leave alone, against sums of magnitudes."""
        sides = self.problem.sides
        ends = [side for pair in sides for side in (pair.low, pair.high)]
        drifts = relative_drift(seen, begun)
        if all(pair.periodic for pair in sides):
            kept = ("mass_drift", "momentum_drift", "energy_drift")
        elif any(isinstance(s, Inflow) for s in ends):
            kept = ()
        else:
            kept = ("mass_drift",)
        worst = max((float(drifts[name].amax()) for name in kept), default=0.0)
        double = self.world.precision == torch.float64
        note = ", ".join(kept) or "reservoirs exchange everything"
        return Check("conservation", "health", worst, 1e-11 if double else 1e-3, note=note)

    def _average(self, blocks: Blocks) -> Average:
        shape = (-1, self.ensembles)
        pooled = []
        for sums, samples in blocks.parts():
            together = sums.unflatten(0, shape).sum(1)
            pooled.append(self.world.fields(together, samples * self.ensembles))
        total, count = blocks.parts()[0][0] * 0, 0
        for sums, samples in blocks.parts():
            total, count = total + sums, count + samples
        together = total.unflatten(0, shape).sum(1)
        fields = self.world.fields(together, count * self.ensembles)
        errors = {
            name: torch.stack([b[name] for b in pooled]).std(0) / len(pooled) ** 0.5
            for name in fields
        }
        return Average(fields, errors, pooled)

    def _write(self, folder: RunFolder, average: Average) -> None:
        group = folder.store.require_group("average")
        group.attrs["title"] = "Averages of the steady flow"
        group.attrs["caption"] = (
            f"Bands: one standard error from {len(average.blocks)} blocks of time."
        )
        grid = self.problem.grid
        for axis in range(grid.dim):
            _put(group, "xyz"[axis], grid.centers(axis))
        spatial = list("xyz"[: grid.dim])
        for name, values in _components(average.fields, grid.dim).items():
            error = _components(average.errors, grid.dim)[name]
            alone = len(values) == 1
            for label, data in ((name, values), (f"{name}_error", error)):
                _put(group, label, data[0] if alone else data)
                axes = spatial if alone else ["knudsen", *spatial]
                group[label].attrs["axes"] = axes

    def _checks(self, average: Average, seen: Mapping[str, Tensor]) -> list[Check]:
        grid, rho = self.problem.grid, average.fields["density"]
        relative = average.errors["density"] / rho
        noise = float(relative.square().mean().sqrt())
        fewest = float(rho.amin()) * self.world.particles * grid.volume * self.ensembles
        cell, step = self._resolution(average)
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

    def _resolution(self, average: Average) -> tuple[float, float]:
        """Return what cells and time step add to the viscosity of hard spheres.

        ``16 / (45 pi) (h / lambda)^2`` (F. J. Alexander, A. L. Garcia, B. J. Alder, Phys.
        Fluids 10, 1540, 1998), ``32 / (150 pi) (c dt / lambda)^2`` with ``c^2 = 2 T`` (N.
        G. Hadjiconstantinou, Phys. Fluids 12, 2634, 2000); means over the box, so that
        dense corners that hardly matter do not decide.
        """
        rho, t = average.fields["density"], average.fields["temperature"]
        path = free_path(self.problem, rho, t)
        h, dt = max(self.problem.grid.spacing), self.world.time_step
        cells = 16 / (45 * math.pi) * (h / path).square()
        steps = 32 / (150 * math.pi) * 2 * t * (dt / path).square()
        return float(cells.mean()), float(steps.mean())

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
        h = self.problem.grid.spacing[0] / path
        half = max(2, round(0.8 / h))
        found = {
            "inverse_thickness": thickness.slope(blocks[:, 0], h, half),
            "inverse_thickness_integral": thickness.integral(blocks[:, 0], h),
            "separation": thickness.separation(blocks, h, half),
        }
        notes = {
            "inverse_thickness": "largest slope of the density, mean free paths ahead",
            "inverse_thickness_integral": "3/2 integral (d rho/dx)^2 dx",
            "separation": "by which temperature rises ahead of density, mean free paths",
        }
        return {
            name: Figure(value, error=error, note=notes[name])
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


def _put(group: Any, name: str, values: Tensor, long_name: str = "") -> None:
    data = values.detach().double().numpy()
    stored = group.create_array(name, data=data, overwrite=True)
    stem = name
    for ending in ("_error", "_exact", "_reference", "_free", "_nsf"):
        stem = stem.removesuffix(ending)
    stored.attrs["unit"] = UNITS.get(stem, UNITS.get(stem.rpartition("_")[0], ""))
    stored.attrs["long_name"] = long_name or name.replace("_", " ")


__all__ = ["Average", "Blocks", "DsmcJob", "Rotating", "assemble", "free_path"]
