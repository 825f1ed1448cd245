"""What a run of molecular dynamics writes, and what its summary says."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..protocols import Check, Figure, Outcome, Trigger, Writer
from ..run import ZarrWriter, every
from ..rundir import RunFolder
from .observables import Drift
from .outputs import Recorded
from .state import ParticleState
from .trajectory import ExtxyzWriter
from .units import METAL
from .verdicts import (
    Domain,
    Nearest,
    Series,
    SetPoints,
    domain_checks,
    equilibrium_checks,
    fluctuation,
    fluctuation_check,
    set_point_checks,
    time_step_check,
)
from .world import MolecularDynamics

_THERMO = (
    "temperature", "potential_energy", "kinetic_energy", "total_energy", "conserved",
    "pressure", "volume", "max_force", "deviation",
)  # fmt: skip


@dataclass(frozen=True)
class _Labels:
    """Writes, once, what the numbers of a run stand for: species and units."""

    folder: RunFolder
    symbols: tuple[str, ...]
    units: Mapping[str, str]

    def write(self, step: int, time: float, state: Any, observed: Any) -> None:
        own = {name: _unit(name, self.units) for name in observed}
        self.folder.store.attrs.update(
            {"time_unit": self.units["time"], "observable_units": own}
        )
        group = self.folder.store.require_group("trajectory")
        group.attrs.update({"symbols": list(self.symbols)})


@dataclass(frozen=True)
class Limits:
    """What a run is compared with.

    Attributes:
        trusted: largest deviation of a committee, eV/angstrom.
        largest: force above which the run is stopped.
        lattice: lattice constant at the start of a crystal that changes its volume.
        domain: where the potential was trained; None where nothing is learned.
    """

    trusted: float
    largest: float
    lattice: float | None = None
    domain: Domain | None = None


@dataclass(frozen=True)
class MdResults:
    """The writers of a run and what they are turned into at its end."""

    folder: RunFolder
    world: MolecularDynamics
    trajectory: ZarrWriter
    thermo: ZarrWriter
    drift: Drift
    names: tuple[str, ...]
    limits: Limits
    recorded: Sequence[Recorded]
    extxyz: ExtxyzWriter | None
    nearest: Nearest | None
    average_from: int

    @staticmethod
    def of(
        world: MolecularDynamics,
        output: Any,
        recorded: Sequence[Recorded],
        folder: RunFolder,
        limits: Limits,
    ) -> "MdResults":
        """Return the writers of a run.

        Args:
            world: what runs.
            output: section of the scenario.
            recorded: what is averaged besides the scalars.
            folder: where to write.
            limits: what the run is compared with.
        """
        units, state = world.units.names, world.start
        names = tuple(
            name
            for name in _THERMO
            if (name not in ("pressure", "volume") or bool(state.periodic.all()))
            and (name != "deviation" or getattr(world.potential, "members", 1) > 1)
        )
        trajectory = ZarrWriter(
            folder,
            "trajectory",
            lambda state, observed: _frame(state, output, world.fixed),
            {
                "positions": units["length"], "cell": units["length"],
                "forces": units["force"], "time": units["time"],
                "energy": units["energy"], "masses": "amu",
            },
            chunk=max(1, min(64, 4_000_000 // max(24 * state.atoms, 1))),
            axes=lambda name, shape: _AXES[name],
        )  # fmt: skip
        thermo = ZarrWriter(
            folder,
            "thermo",
            lambda state, observed: {name: observed[name] for name in names},
            {name: _unit(name, units) for name in (*names, "time")},
            axes=lambda name, shape: ("system",) * len(shape),
        )
        return MdResults(
            folder,
            world,
            trajectory,
            thermo,
            Drift(lambda state, observed: observed["conserved"] / state.counts),
            names,
            limits,
            recorded,
            ExtxyzWriter(folder, world.species, world.fixed) if output.extxyz else None,
            _watch(limits.domain),
            output.average_from,
        )

    def writers(self, output: Any) -> Sequence[tuple[Trigger, Writer]]:
        """Return all writers with their triggers."""
        sampled = every(output.thermo_every)
        world = self.world
        labels = _Labels(self.folder, tuple(world.species), world.units.names)
        return [
            (lambda step: step == 0, labels),
            (every(output.trajectory_every), self.trajectory),
            (sampled, self.thermo),
            (sampled, self.drift),
            *((item.trigger, item.writer) for item in self.recorded),
            *([(every(output.trajectory_every), self.extxyz)] if self.extxyz else []),
            *([(sampled, self.nearest)] if self.nearest else []),
        ]

    def finish(
        self, folder: RunFolder, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> Outcome:
        """Write the distributions; return averages with errors and the drift."""
        self.trajectory.flush()
        self.thermo.flush()
        points = SetPoints.of(self.world.integrator, self.world.units)
        settled = math.ceil(points.settled / self.world.time_step)
        series = Series.read(folder, self.names, settled, self.average_from)
        figures = self._averages(series, state)
        means = {name: figure.value for name, figure in figures.items()}
        lattice = self.limits.lattice
        if lattice is not None and "volume" in figures:
            figures["lattice_constant"] = self._lattice(lattice, figures["volume"])
        for item in self.recorded:
            figures.update(item.finish(folder, means))
        degrees = self.world.degrees(state)
        if series.judged and points.temperature is not None:
            figures["temperature_fluctuation"] = _fluctuation(series, degrees)
        figures["conserved_drift"], conservation = self._drift(observed)
        checks = [
            self._explosion(state),
            conservation,
            *equilibrium_checks(series),
            *set_point_checks(series, points, self.world),
            *fluctuation_check(series, points, degrees),
            *time_step_check(series),
            *(c for item in self.recorded if item.checks for c in item.checks(figures)),
        ]
        if "deviation" in self.names:
            figures["largest_deviation"], trust = self._trust(folder)
            checks.append(trust)
        checks += self._domain(series, state)
        return Outcome(figures, checks, self._unchecked(series))

    def _domain(self, series: Series, state: ParticleState) -> Iterator[Check]:
        """Compare with the training data all that is averaged, and every distance."""
        if self.limits.domain is None:
            return
        if not len(series.values["temperature"]):  # nothing is averaged: then all of it
            series = Series.read(self.folder, self.names, 0, 0)
        seen, atoms = self.nearest, state.counts.double().cpu().numpy()
        nearest = seen.shortest if seen else None
        yield from domain_checks(self.limits.domain, series, atoms, nearest)

    def _unchecked(self, series: Series) -> dict[str, str]:
        """Say what could not be checked, and why."""
        said = {}
        if not series.judged:
            said["accuracy"] = f"averages are not judged: {series.why}"
        domain = self.limits.domain
        if domain is not None and "deviation" not in self.names:
            said["domain"] = "one network, no committee: its own error is not known"
        if domain is not None and domain == Domain():
            said["domain"] = "the model's card does not say where it was trained"
        return said

    def _explosion(self, state: ParticleState) -> Check:
        """Check the last forces; above the limit the guard has stopped the run before."""
        force = float(state.forces.norm(dim=1).max()) if state.atoms else 0.0
        unit = self.world.units.names["force"]
        bound, note = self.limits.largest, "largest force at the end"
        return Check("explosion", "health", force, bound, unit=unit, note=note)

    def _lattice(self, at_start: float, volume: Figure) -> Figure:
        """``a = a_0 (V / V_0)^(1/3)``."""
        start = self.world.start
        cold = float((start.cell.double().det().abs() / start.counts).mean())
        length = at_start * (volume.value / cold) ** (1.0 / 3.0)
        error = volume.error and length * volume.error / (3.0 * volume.value)
        note = "from the mean volume, while the crystal lasts"
        return Figure(length, self.world.units.names["length"], error, note)

    def _trust(self, folder: RunFolder) -> tuple[Figure, Check]:
        """Where the committee agreed least, and whether that was within what is trusted."""
        series: Any = folder.store["thermo/deviation"]
        steps: Any = folder.store["thermo/step"]
        worst = series[:].max(axis=1)
        frame = int(worst.argmax())
        value, step = float(worst[frame]), int(steps[frame])
        note = f"the committee disagrees at step {step} by more than is trusted"
        unit = "eV/angstrom"
        check = Check("trust", "domain", value, self.limits.trusted, unit=unit, note=note)
        return Figure(value, unit, note=f"at step {step}"), check

    def _averages(self, series: Series, state: ParticleState) -> dict[str, Figure]:
        """Average what is stationary; the error is that of the correlated samples."""
        atoms, figures = state.counts.double().cpu().numpy(), {}
        for name in self.names:
            if name == "conserved" or not len(series.kept(name)):
                continue
            extensive = name.endswith("energy") or name == "volume"
            share = atoms if extensive else np.ones_like(atoms)
            mean, error = (part / share for part in series.means(name))
            size = float(np.sqrt((error**2).sum())) / len(error)
            unit = _unit(name, self.world.units.names)
            figures[name] = Figure(
                float(mean.mean()),
                unit + ("/atom" if extensive else ""),
                size if series.judged and math.isfinite(size) else None,
            )
        return figures

    def _drift(self, observed: Mapping[str, Tensor]) -> tuple[Figure, Check]:
        units = self.world.units
        long, name = (1000.0, "ps") if units is METAL else (1.0, "tau")
        slope = self.drift.slope() * long
        worst = float(slope[slope.abs().argmax()]) if slope.numel() else 0.0
        unit = f"{units.names['energy']}/atom"
        total = abs(worst) * self.drift.duration() / long
        thermal = units.boltzmann * float(observed["temperature"].mean())
        check = Check(
            "conservation", "health", total, max(0.05 * thermal, 1e-6), unit=unit,
            note="the conserved quantity drifted by more than a twentieth of k T",
        )  # fmt: skip
        return Figure(worst, f"{unit}/{name}"), check


def _fluctuation(series: Series, degrees: np.ndarray) -> Figure:
    found, error = fluctuation(series, degrees)
    return Figure(found, "", error, note="standard deviation over the canonical one")


def _watch(domain: Domain | None) -> Nearest | None:
    """Return the watch on distances, up to a little beyond the shortest of the data."""
    if domain is None or domain.shortest is None:
        return None
    return Nearest(1.1 * domain.shortest)


def _unit(name: str, units: Mapping[str, str]) -> str:
    if name == "volume":
        return f"{units['length']}^3"
    kinds = {
        "max_force": "force", "deviation": "force", "conserved": "energy",
        "pressure_tensor": "pressure",
    }  # fmt: skip
    kind = kinds.get(name, "energy" if name.endswith("energy") else name)
    return units.get(kind, "")


_AXES: Mapping[str, tuple[str, ...]] = {
    "positions": ("atom", "axis"),
    "momenta": ("atom", "axis"),
    "forces": ("atom", "axis"),
    "species": ("atom",),
    "system": ("atom",),
    "masses": ("atom",),
    "deviation": ("atom",),
    "fixed": ("atom",),
    "cell": ("system", "vector", "axis"),
    "periodic": ("system", "axis"),
    "energy": ("system",),
    "step": (),
    "time": (),
}
"""Dimensions of what a frame of the trajectory keeps."""


def _frame(state: ParticleState, output: Any, fixed: Tensor | None) -> dict[str, Tensor]:
    names = ["positions", "cell", "species", "system", "periodic", "masses", "energy"]
    names += ["momenta"] * output.velocities + ["forces"] * output.forces
    frame = {name: getattr(state, name) for name in names}
    if state.deviation.numel():
        frame["deviation"] = state.deviation
    if fixed is not None:
        frame["fixed"] = fixed
    return frame
