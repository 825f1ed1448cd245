"""From a scenario of molecular dynamics to the job that runs it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from ...models.card import read_card
from ..data.structures import extras
from ..errors import InputError
from ..md.compressed import fast
from ..md.initial import fills_its_cell
from ..md.interactions import Place
from ..md.outputs import Reference
from ..md.results import Limits, MdResults
from ..md.state import ParticleState
from ..md.structure import (
    check_lengths,
    check_memory,
    check_structure,
    check_time_step,
    replicas,
)
from ..md.units import METAL, REDUCED
from ..md.verdicts import Domain
from ..md.world import ExplosionGuard, MolecularDynamics
from ..protocols import Outcome
from ..run import Reporter, Simulation
from ..rundir import RunFolder
from ..runtime import dtype_of
from ..schema.base import locate
from ..schema.md import MdScenario


def assemble(scenario: MdScenario, base: Path) -> "MdJob":
    """Read structure, model and references, check that they fit, and return the job.

    Raises:
        InputError: a file is missing or damaged, an element is unknown to the potential,
            two atoms are on one spot, the time step is too long, or an output asks for
            what the run cannot give.
    """
    place = Place(scenario.precision, scenario.device, base)
    potential = scenario.potential.potential(place)
    atoms = scenario.structure.atoms(base, scenario.seed, scenario.replicas)
    name = atoms.info.get("name", "structure")
    units, run = (REDUCED if scenario.units == "lj" else METAL), scenario.run
    seeds = range(scenario.seed, scenario.seed + scenario.replicas)
    dtype = dtype_of(scenario.precision)
    state = replicas(atoms, potential.species, seeds, dtype, scenario.device, name)
    check_structure(state, potential.cutoff, name)
    skin = run.skin or (0.4 if units is REDUCED else 0.5)
    check_memory(state, potential.cutoff + skin, name)
    closed = bool(state.periodic.all())
    moves_cell = getattr(scenario.ensemble, "moves_cell", False)
    if moves_cell and not fills_its_cell(scenario.structure, atoms):
        raise InputError(
            "ensemble: npt needs a structure that is periodic in all axes, without vacuum"
        )
    check_time_step(run.timestep, state.masses, units)
    sampled = [
        (item, item.check(key, closed, base)) for key, item in scenario.output.sampled()
    ]
    temperature = _initial_temperature(scenario, atoms)
    world = MolecularDynamics(
        potential=fast(potential, state),
        integrator=scenario.ensemble.integrator(units),
        start=state,
        time_step=run.timestep,
        temperature=temperature,
        settle=_settle(scenario, temperature),
        skin=skin,
        units=units,
        totals_every=_totals_every(scenario),
        fixed=_fixed(scenario, state, extras(atoms).fixed, name),
    )
    notes = (
        *_notes(scenario, atoms, name),
        *_settling(world),
        *_cut(scenario),
        *_own_images(state, potential.cutoff, name),
        *(
            check_lengths(state, potential.species, potential.cutoff, name)
            if units is METAL
            else ()
        ),
    )
    return MdJob(scenario, world, sampled, _domain(scenario, base), notes)


def _domain(scenario: MdScenario, base: Path) -> Domain | None:
    """Return where a learned potential was trained; None for one that was not learned."""
    model = getattr(scenario.potential, "model", None)
    return None if model is None else Domain.of(read_card(locate(model, base)))


_HOTTEST = 1e6
"""Kelvin; as of ``run.temperature``."""


def _notes(scenario: MdScenario, atoms: Atoms, name: str) -> tuple[str, ...]:
    """Return what of the structure is honoured or not used, one sentence each."""
    notes, fixed = list(atoms.info.get("notes", ())), extras(atoms).fixed
    if fixed:
        notes.append(f"{name}: {len(fixed)} atoms are fixed, as the file says")
    replaced = _initial_temperature(scenario, atoms) is not None
    if atoms.has("momenta") and not replaced and atoms.get_temperature() > _HOTTEST:
        raise InputError(
            f"{name}: its velocities are those of {atoms.get_temperature():.3g} K; at most "
            f"{_HOTTEST:g} K is taken; is their unit right?"
        )
    if atoms.has("momenta") and replaced:
        notes.append(
            f"{name}: its velocities are replaced; structure.keep_velocities = true keeps "
            "them"
        )
    return tuple(notes)


def _settle(scenario: MdScenario, temperature: tuple[float, ...] | None) -> int:
    """Return how many steps precede step 0.

    Raises:
        InputError: some are asked for, and there is no temperature for them.
    """
    run, bath = scenario.run, scenario.ensemble
    cold = temperature is None or min(temperature) <= 0
    if run.settle is not None:
        if run.settle and cold:
            raise InputError("run.settle: needs initial velocities at a temperature")
        return run.settle
    if cold or not getattr(bath, "scales_alike", False):
        return 0
    return min(math.ceil(10.0 * bath.relaxation / run.timestep), run.steps // 4)


def _settling(world: MolecularDynamics) -> Iterator[str]:
    """Say what precedes step 0."""
    if world.settle:
        time, unit = world.settle * world.time_step, world.units.names["time"]
        yield (
            f"before step 0 of a new run: {world.settle} steps ({time:g} {unit}) of "
            "Langevin dynamics, so that vibrations do not start in phase (run.settle)"
        )


def _cut(scenario: MdScenario) -> Iterator[str]:
    """Yield what of the output a run of so few steps does not reach."""
    steps, output = scenario.run.steps, scenario.output
    if output.average_from > steps:
        yield (
            f"output.average_from: step {output.average_from} is after the end, at "
            f"{steps}: nothing is averaged"
        )
    yield from filter(None, (item.cut(key, steps) for key, item in output.sampled()))


def _own_images(state: ParticleState, cutoff: float, name: str) -> Iterator[str]:
    """Say where atoms act on their own images: the cell is thinner than the cutoff."""
    closed = state.periodic.all(1)
    if bool(closed.any()):
        inverse = torch.linalg.inv(state.cell[closed].double())
        thin = float((1.0 / inverse.norm(dim=1)).min())
        if thin < cutoff:
            yield (
                f"{name}: the cell is {thin:.3g} thin, the cutoff {cutoff:.3g}: atoms act "
                "on their own images; a larger cell has fewer artefacts"
            )


def _totals_every(scenario: MdScenario) -> int:
    """The largest interval that meets every step at which something is observed."""
    output = scenario.output
    times = [scenario.run.report_every, output.thermo_every, output.trajectory_every]
    for _, item in output.sampled():
        times += [item.every, item.start]
    return max(math.gcd(*times), 1)


def _fixed(
    scenario: MdScenario, state: ParticleState, held: Sequence[int], name: str
) -> Tensor | None:
    """Return which atoms do not move: those of run.fixed and those that the file fixes."""
    fixed = tuple({*scenario.run.fixed, *held})
    if not fixed:
        return None
    atoms = state.atoms // state.systems
    if max(fixed) >= atoms or len(set(fixed)) == atoms:
        raise InputError(
            f"run.fixed: {max(fixed)} does not fit; {name} has atoms 0 to {atoms - 1}, and "
            "at least one must move"
        )
    if getattr(scenario.ensemble, "moves_cell", False):
        raise InputError("run.fixed: not with npt, where all atoms follow the cell")
    mask = torch.zeros(state.systems, atoms, dtype=torch.bool, device=state.system.device)
    mask[:, list(fixed)] = True
    return mask.flatten()


def _initial_temperature(scenario: MdScenario, atoms: Atoms) -> tuple[float, ...] | None:
    given = scenario.run.temperature
    if atoms.info.get("keep_velocities"):
        if given is not None:
            raise InputError("run.temperature: not with structure.keep_velocities")
        return None
    if given is None:
        given = getattr(scenario.ensemble, "initial_temperature", None)
    if given is None:
        return None if atoms.has("momenta") else (0.0,)
    return given if isinstance(given, tuple) else (given,)


@dataclass(frozen=True)
class MdJob:
    """Steps the world; writes trajectory, thermodynamics and distributions.

    Attributes:
        scenario: its sections ``run`` and ``output``.
        world: what is stepped.
        sampled: parts of the output, each with the reference it is compared with.
        domain: where a learned potential was trained.
        notes: what of the structure is honoured or not used.
    """

    scenario: MdScenario
    world: MolecularDynamics
    sampled: Sequence[tuple[Any, Reference | None]]
    domain: Domain | None = None
    notes: Sequence[str] = ()

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run to the end, from the newest checkpoint if there is one."""
        run, output, world = self.scenario.run, self.scenario.output, self.world
        for note in self.notes:
            report.say(note)
        recorded = [
            each
            for item, target in self.sampled
            for each in item.recorded(world, run.timestep, target)
        ]
        results = MdResults.of(
            world, output, recorded, folder,
            Limits(
                run.trusted_deviation, run.largest_force, self._lattice_constant(),
                self.domain,
            ),
        )  # fmt: skip
        simulation = Simulation(
            world=world,
            initial=world.init,
            steps=run.steps,
            time_step=run.timestep,
            writers=results.writers(output),
            guards=(ExplosionGuard(run.largest_force),),
            report_every=run.report_every,
            checkpoint_every=run.checkpoint_every,
            headline=self._headline,
            finish=results.finish,
        )
        return simulation.run(folder, report)

    def _lattice_constant(self) -> float | None:
        """At the start of a crystal whose edges change together, else None."""
        free = getattr(self.scenario.ensemble, "cell", None) == "isotropic"
        return getattr(self.scenario.structure, "lattice_constant", None) if free else None

    def _headline(self, observed: Mapping[str, Tensor]) -> Mapping[str, str]:
        names = self.world.units.names
        atoms = float(self.world.start.counts.double().mean())
        energy = float(observed["total_energy"].mean()) / atoms
        shown = {
            "T": f"{float(observed['temperature'].mean()):.1f} {names['temperature']}",
            "E": f"{energy:.5f} {names['energy']}/atom",
            "conserved": f"{float(observed['conserved'].mean()) / atoms:.6f}",
        }
        if "deviation" in observed:
            shown["deviation"] = f"{float(observed['deviation'].max()):.3f}"
        return shown


__all__ = ["MdJob", "assemble"]
