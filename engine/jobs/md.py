"""From a scenario of molecular dynamics to the job that runs it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor

from ..errors import InputError
from ..inputs import check_file_size
from ..interop.ase import AsePotential
from ..md.barostats import (
    MTK,
    CellRescaling,
    Heated,
    anisotropic,
    isotropic,
    triclinic,
)
from ..md.classical import LennardJones, StillingerWeber, plain, shifted
from ..md.integrators import Bussi, Integrator, Langevin, NoseHoover, Schedule, Verlet
from ..md.observables import Average, Drift
from ..md.potential import Potential
from ..md.state import ParticleState, concatenate
from ..md.structure import check_structure, from_atoms, longest_time_step
from ..md.trajectory import ExtxyzWriter
from ..md.units import METAL, REDUCED, Units
from ..md.world import ExplosionGuard, MolecularDynamics
from ..protocols import Figure, Outcome, Trigger, Writer, told
from ..run import Reporter, Simulation, ZarrWriter, every
from ..rundir import RunFolder
from ..runtime import dtype_of
from ..schema.base import locate
from ..schema.md import (
    AseSection,
    BussiSection,
    CrystalStructure,
    DeepPotentialSection,
    Ensemble,
    FileStructure,
    Heat,
    LangevinSection,
    LennardJonesSection,
    LiquidLattice,
    MdScenario,
    NoseHooverSection,
    NptSection,
    NveSection,
    OutputSection,
    PotentialSection,
    StillingerWeberSection,
    Structure,
)
from .md_outputs import Recorded, Reference, read_references, recorded

_EMT_ELEMENTS = ("Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt")
_THERMO = (
    "temperature", "potential_energy", "kinetic_energy", "total_energy", "conserved",
    "pressure", "volume", "max_force", "deviation",
)  # fmt: skip


def assemble(scenario: MdScenario, base: Path) -> "MdJob":
    """Read structure and model, check that they fit, and return the job.

    Raises:
        InputError: a file is missing or damaged, an element is unknown to the potential,
            two atoms stand on one spot, or the time step is too long.
    """
    potential = potential_of(scenario.potential, scenario.precision, base, scenario.device)
    atoms, name = structure_of(scenario.structure, base, scenario.seed)
    units = REDUCED if scenario.units == "lj" else METAL
    state = _replicas(atoms, potential, scenario, name)
    check_structure(state, potential.cutoff, name)
    if scenario.ensemble.kind == "npt" and not bool(state.periodic.all()):
        raise InputError("ensemble: npt needs a structure that is periodic in all axes")
    potential = fast(potential, state)
    _check_time_step(scenario, state)
    temperature = _initial_temperature(scenario, atoms)
    world = MolecularDynamics(
        potential=potential,
        integrator=_integrator(scenario.ensemble, units),
        start=state,
        time_step=scenario.run.timestep,
        temperature=temperature,
        skin=scenario.run.skin or (0.4 if units is REDUCED else 0.5),
        units=units,
        totals_every=_totals_every(scenario),
        fixed=_fixed(scenario, state, name),
    )
    return MdJob(scenario, world, read_references(scenario.output, base))


# -- parts --------------------------------------------------------------------------------


def _totals_every(scenario: MdScenario) -> int:
    """The largest interval that meets every step at which something is observed."""
    output = scenario.output
    times = [scenario.run.report_every, output.thermo_every, output.trajectory_every]
    windows = (*output.rdf, *output.adf, output.displacement, output.velocity)
    for section in (*windows, output.stress):
        if section is not None:
            times += [section.every, section.start]
    return max(math.gcd(*times), 1)


def _fixed(scenario: MdScenario, state: ParticleState, name: str) -> Tensor | None:
    fixed = scenario.run.fixed
    if not fixed:
        return None
    atoms = state.atoms // state.systems
    if max(fixed) >= atoms or len(set(fixed)) == atoms:
        raise InputError(
            f"run.fixed: {max(fixed)} does not fit; {name} has atoms 0 to {atoms - 1}, and "
            "at least one must move"
        )
    if scenario.ensemble.kind == "npt":
        raise InputError("run.fixed: not with npt, where all atoms follow the cell")
    mask = torch.zeros(state.systems, atoms, dtype=torch.bool, device=state.system.device)
    mask[:, list(fixed)] = True
    return mask.flatten()


def potential_of(
    section: PotentialSection, precision: str, base: Path, device: str = "cpu"
) -> Potential:
    """Return the potential of a section.

    Raises:
        InputError: the model is missing or damaged.
    """
    match section:
        case LennardJonesSection():
            return LennardJones(
                section.epsilon,
                section.sigma,
                section.cutoff,
                section.species,
                shifted if section.at_cutoff == "shifted" else plain,
            )
        case StillingerWeberSection():
            return StillingerWeber()
        case DeepPotentialSection():
            from ..md.learned import load_potential

            path = locate(section.model, base)
            return load_potential(path, precision, device)
        case AseSection():
            from ase.calculators.emt import EMT

            return AsePotential(EMT(), _EMT_ELEMENTS)


def fast(potential: Potential, state: ParticleState) -> Potential:
    """Use the compressed form of a network where it agrees with it on this structure."""
    from ...models.potentials.sums import ZblSumPotential
    from ..md.classical import Sum, Zbl
    from ..md.compressed import agreeing
    from ..md.learned import LearnedPotential

    if not isinstance(potential, LearnedPotential):
        return potential
    if isinstance(whole := potential.module, ZblSumPotential):
        network = LearnedPotential(whole.network, potential.deviation_factor)
        config, species = whole.config, potential.species
        charges = tuple(float(number) for number in config.numbers)
        core = Zbl(charges, config.inner, config.outer, species)
        return Sum((fast(network, state), core), potential.cutoff, species)
    return agreeing(potential, state) or potential


def structure_of(section: Structure, base: Path, seed: int) -> tuple[Atoms, str]:
    """Return the atoms of a section, and what to call them.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    match section:
        case FileStructure():
            path = locate(section.path, base)
            atoms, name = _read(path, section.frame), f"{path} frame {section.frame}"
        case CrystalStructure():
            name = "structure"
            atoms = bulk(
                section.element, section.lattice, a=section.lattice_constant, cubic=True
            )
        case LiquidLattice():
            name, edge = "structure", (4.0 / section.density) ** (1 / 3)
            atoms = bulk(section.element, "fcc", a=edge, cubic=True)
    if isinstance(section, LiquidLattice):
        atoms = atoms.repeat(section.cells)
    else:
        atoms = atoms.repeat(section.repeat)
    mass = getattr(section, "mass", None)
    if mass is not None:
        atoms.set_masses(np.full(len(atoms), mass))
    rattle = getattr(section, "rattle", 0.0)
    if rattle > 0:
        atoms.rattle(rattle, seed=seed)
    return atoms, name


def _read(path: Path, frame: int) -> Atoms:
    check_file_size(path)
    try:
        found = ase.io.read(path, index=frame)
    except (IndexError, StopIteration) as error:
        raise InputError(f"{path}: structure.frame: there is no frame {frame}") from error
    except Exception as error:
        # readers raise anything at all; whatever it is, the file is not readable
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} frame {frame}: cannot be read: {reason}") from error
    assert isinstance(found, Atoms)
    return found


def _replicas(
    atoms: Atoms, potential: Potential, scenario: MdScenario, name: str
) -> ParticleState:
    def one(seed: int) -> ParticleState:
        return from_atoms(
            atoms,
            potential.species,
            seed=seed,
            dtype=dtype_of(scenario.precision),
            device=scenario.device,
        )

    try:
        states = [one(scenario.seed + k) for k in range(scenario.replicas)]
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return concatenate(states) if len(states) > 1 else states[0]


def _check_time_step(scenario: MdScenario, state: ParticleState) -> None:
    if scenario.units == "lj":
        longest, unit = 0.05 * math.sqrt(float(state.masses.min())), ""
    else:
        longest, unit = longest_time_step(state.masses), " fs"
    if scenario.run.timestep > longest:
        raise InputError(
            f"run.timestep: {scenario.run.timestep:g}{unit} is too long for the lightest "
            f"atom ({float(state.masses.min()):g}); at most {longest:.3g}{unit}"
        )


def _initial_temperature(scenario: MdScenario, atoms: Atoms) -> tuple[float, ...] | None:
    given = scenario.run.temperature
    if given is None and isinstance(scenario.ensemble, Heat):
        given = scenario.ensemble.temperature
        given = scenario.ensemble.ramp[0][1] if given is None else given
    if given is None:
        return None if atoms.has("momenta") else (0.0,)
    values = given if isinstance(given, tuple) else (given,)
    if min(values) < 0:
        raise InputError("run.temperature: cannot be negative")
    return values


def _integrator(section: Ensemble, units: Units) -> Integrator:
    if isinstance(section, NveSection):
        return Verlet()
    schedule, relaxation = _schedule(section, units), section.relaxation / units.time
    match section:
        case LangevinSection():
            return Langevin(schedule, relaxation)
        case BussiSection():
            return Bussi(schedule, relaxation)
        case NoseHooverSection():
            return NoseHoover(schedule, relaxation, section.chain)
        case NptSection():
            return _barostat(section, schedule, relaxation, units)


def _barostat(
    section: NptSection, schedule: Schedule, relaxation: float, units: Units
) -> Integrator:
    points = section.pressure_ramp or ((0.0, section.pressure or 0.0),)
    pressure = Schedule(
        tuple(time / units.time for time, _ in points),
        tuple((value / units.pressure,) for _, value in points),
    )
    slow, bath = section.pressure_relaxation / units.time, Bussi(schedule, relaxation)
    shapes = {"isotropic": isotropic, "anisotropic": anisotropic, "triclinic": triclinic}
    shape = shapes[section.cell]
    if section.barostat == "mtk":
        return Heated(MTK(schedule, pressure, slow, shape), bath)
    compressibility = section.compressibility * units.pressure
    return CellRescaling(bath, schedule, pressure, slow, compressibility, shape)


def _schedule(section: Heat, units: Units) -> Schedule:
    if section.temperature is None:
        times = tuple(time / units.time for time, _ in section.ramp)
        return Schedule(times, tuple((value,) for _, value in section.ramp))
    given = section.temperature
    return Schedule.constant(*(given if isinstance(given, tuple) else (given,)))


# -- the job ------------------------------------------------------------------------------


@dataclass(frozen=True)
class MdJob:
    """Steps the world; writes trajectory, thermodynamics and distributions."""

    scenario: MdScenario
    world: MolecularDynamics
    references: Mapping[Path, Reference]

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run to the end, from the newest checkpoint if there is one."""
        scenario = self.scenario
        outputs = _Outputs.of(self, folder)
        simulation = Simulation(
            world=self.world,
            initial=self.world.init,
            steps=scenario.run.steps,
            time_step=scenario.run.timestep,
            writers=outputs.writers(scenario),
            guards=(ExplosionGuard(scenario.run.largest_force),),
            report_every=scenario.run.report_every,
            checkpoint_every=scenario.run.checkpoint_every,
            headline=self._headline,
            finish=outputs.finish,
        )
        return simulation.run(folder, report)

    def _headline(self, observed: Mapping[str, Tensor]) -> Mapping[str, str]:
        names, atoms = (
            self.world.units.names,
            float(self.world.start.counts.double().mean()),
        )
        shown = {
            "T": f"{float(observed['temperature'].mean()):.1f} {names['temperature']}",
            "E": f"{float(observed['total_energy'].mean()) / atoms:.5f} "
            f"{names['energy']}/atom",
            "conserved": f"{float(observed['conserved'].mean()) / atoms:.6f}",
        }
        if "deviation" in observed:
            shown["deviation"] = f"{float(observed['deviation'].max()):.3f}"
        return shown


@dataclass(frozen=True)
class _Labels:
    """Writes, once, the names that the numbers of a trajectory stand for."""

    folder: RunFolder
    symbols: tuple[str, ...]

    def write(self, step: int, time: float, state: Any, observed: Any) -> None:
        group = self.folder.store.require_group("trajectory")
        group.attrs.update({"symbols": list(self.symbols)})


@dataclass(frozen=True)
class _Outputs:
    """The writers of a run and what they are turned into at its end."""

    folder: RunFolder
    world: MolecularDynamics
    trajectory: ZarrWriter
    thermo: ZarrWriter
    average: Average
    drift: Drift
    names: tuple[str, ...]
    trusted: float
    recorded: Sequence[Recorded]
    extxyz: "ExtxyzWriter | None"
    lattice: float | None

    @staticmethod
    def of(job: MdJob, folder: RunFolder) -> "_Outputs":
        scenario, world = job.scenario, job.world
        units, output = world.units.names, scenario.output
        state = world.start
        names = tuple(
            name
            for name in _THERMO
            if (name not in ("pressure", "volume") or bool(state.periodic.all()))
            and (name != "deviation" or getattr(world.potential, "members", 1) > 1)
        )
        trajectory = ZarrWriter(
            folder,
            "trajectory",
            lambda state, observed: _frame(state, output),
            {
                "positions": units["length"], "cell": units["length"],
                "forces": units["force"], "time": units["time"],
            },
            chunk=max(1, min(64, 4_000_000 // max(24 * state.atoms, 1))),
        )  # fmt: skip
        thermo = ZarrWriter(
            folder,
            "thermo",
            lambda state, observed: {name: observed[name] for name in names},
            {name: _unit(name, units) for name in (*names, "time")},
        )
        return _Outputs(
            folder,
            world,
            trajectory,
            thermo,
            Average(lambda state, observed: torch.stack([observed[n] for n in names])),
            Drift(lambda state, observed: observed["conserved"] / state.counts),
            names,
            scenario.run.trusted_deviation,
            recorded(scenario, world, job.references),
            ExtxyzWriter(folder, world.potential.species) if output.extxyz else None,
            _lattice_constant(scenario),
        )

    def writers(self, scenario: MdScenario) -> Sequence[tuple[Trigger, Writer]]:
        output = scenario.output
        later = scenario.output.average_from
        sampled = every(output.thermo_every)
        labels = _Labels(self.folder, self.world.potential.species)
        return [
            (lambda step: step == 0, labels),
            (every(output.trajectory_every), self.trajectory),
            (sampled, self.thermo),
            (lambda step: step >= later and sampled(step), self.average),
            (sampled, self.drift),
            *((item.trigger, item.writer) for item in self.recorded),
            *([(every(output.trajectory_every), self.extxyz)] if self.extxyz else []),
        ]

    def finish(
        self, folder: RunFolder, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> Outcome:
        """Write the distributions; return averages with errors and the drift."""
        self.trajectory.flush()
        self.thermo.flush()
        figures = self._averages(state) if self.average.blocks.count else {}
        means = {name: figure.value for name, figure in figures.items()}
        if self.lattice is not None and "volume" in figures:
            figures["lattice_constant"] = self._lattice(self.lattice, figures["volume"])
        for item in self.recorded:
            figures.update(item.finish(folder, means))
        drift, verdict = self._drift(state, observed)
        figures["conserved_drift"] = drift
        verdicts = {"explosion": "ok", "conservation": verdict}
        if "deviation" in self.names:
            figures["largest_deviation"], verdicts["trust"] = self._trust(folder)
        return Outcome(figures, told(verdicts))

    def _lattice(self, at_start: float, volume: Figure) -> Figure:
        """``a = a_0 (V / V_0)^(1/3)``."""
        start = self.world.start
        cold = float((start.cell.double().det().abs() / start.counts).mean())
        length = at_start * (volume.value / cold) ** (1.0 / 3.0)
        error = volume.error and length * volume.error / (3.0 * volume.value)
        note = "from the mean volume, while the crystal lasts"
        return Figure(length, self.world.units.names["length"], error, note)

    def _trust(self, folder: RunFolder) -> tuple[Figure, str]:
        """Where the committee agreed least, and whether that was within what is trusted."""
        series: Any = folder.store["thermo/deviation"]
        steps: Any = folder.store["thermo/step"]
        worst = series[:].max(axis=1)
        frame = int(worst.argmax())
        value, limit = float(worst[frame]), self.trusted
        figure = Figure(value, "eV/angstrom", note=f"at step {int(steps[frame])}")
        if value <= limit:
            return figure, "ok"
        return figure, (
            f"the committee disagrees by up to {value:.2g} eV/angstrom (step "
            f"{int(steps[frame])}), more than the {limit:g} that is trusted"
        )

    def _averages(self, state: ParticleState) -> dict[str, Figure]:
        atoms, figures = state.counts.double().cpu(), {}
        mean, error = self.average.blocks.mean, self.average.blocks.error
        for k, name in enumerate(self.names):
            if name == "conserved":
                continue
            extensive = name.endswith("energy") or name == "volume"
            share = atoms if extensive else torch.ones_like(atoms)
            value, spread = mean[k] / share, error[k] / share
            size = float(spread.square().sum().sqrt()) / len(spread)
            unit = _unit(name, self.world.units.names)
            figures[name] = Figure(
                float(value.mean()),
                unit + ("/atom" if extensive else ""),
                size if math.isfinite(size) else None,
            )
        return figures

    def _drift(
        self, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> tuple[Figure, str]:
        units = self.world.units
        long = 1000.0 if units is METAL else 1.0
        slope = self.drift.slope() * long
        worst = float(slope[slope.abs().argmax()]) if slope.numel() else 0.0
        unit = f"{units.names['energy']}/atom/" + ("ps" if units is METAL else "tau")
        total = abs(worst) * self.drift.duration() / long
        thermal = units.boltzmann * float(observed["temperature"].mean())
        fine = total <= max(0.05 * thermal, 1e-6)
        return Figure(worst, unit), (
            "ok" if fine else f"the conserved quantity drifted by {total:.2g} "
            f"{units.names['energy']}/atom, more than a twentieth of k T"
        )  # fmt: skip


def _lattice_constant(scenario: MdScenario) -> float | None:
    """At the start of a crystal whose edges change together, else None."""
    structure, ensemble = scenario.structure, scenario.ensemble
    free = isinstance(ensemble, NptSection) and ensemble.cell == "isotropic"
    if not (free and isinstance(structure, CrystalStructure)):
        return None
    return structure.lattice_constant


def _unit(name: str, units: Mapping[str, str]) -> str:
    if name == "volume":
        return f"{units['length']}^3"
    kinds = {"max_force": "force", "deviation": "force", "conserved": "energy"}
    kind = kinds.get(name, "energy" if name.endswith("energy") else name)
    return units.get(kind, "")


def _frame(state: ParticleState, output: OutputSection) -> dict[str, Tensor]:
    names = ["positions", "cell", "species", "system", "periodic"]
    names += ["momenta"] * output.velocities + ["forces"] * output.forces
    frame = {name: getattr(state, name) for name in names}
    if state.deviation.numel():
        frame["deviation"] = state.deviation
    return frame
