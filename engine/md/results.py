"""What a run of molecular dynamics writes, and what its summary says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..protocols import Check, Figure, Outcome, Trigger, Writer
from ..run import ZarrWriter, every
from ..rundir import RunFolder
from .observables import Average, Drift
from .outputs import Recorded
from .state import ParticleState
from .trajectory import ExtxyzWriter
from .units import METAL
from .world import MolecularDynamics

_THERMO = (
    "temperature", "potential_energy", "kinetic_energy", "total_energy", "conserved",
    "pressure", "volume", "max_force", "deviation",
)  # fmt: skip


@dataclass(frozen=True)
class _Labels:
    """Writes, once, the names that the numbers of a trajectory stand for."""

    folder: RunFolder
    symbols: tuple[str, ...]

    def write(self, step: int, time: float, state: Any, observed: Any) -> None:
        group = self.folder.store.require_group("trajectory")
        group.attrs.update({"symbols": list(self.symbols)})


@dataclass(frozen=True)
class MdResults:
    """The writers of a run and what they are turned into at its end."""

    folder: RunFolder
    world: MolecularDynamics
    trajectory: ZarrWriter
    thermo: ZarrWriter
    average: Average
    drift: Drift
    names: tuple[str, ...]
    trusted: float
    largest: float
    recorded: Sequence[Recorded]
    extxyz: ExtxyzWriter | None
    lattice: float | None

    @staticmethod
    def of(
        world: MolecularDynamics,
        output: Any,
        recorded: Sequence[Recorded],
        folder: RunFolder,
        trusted: float,
        largest: float,
        lattice: float | None,
    ) -> "MdResults":
        """Return the writers of a run.

        Args:
            world: what runs.
            output: section of the scenario.
            recorded: what is averaged besides the scalars.
            folder: where to write.
            trusted: largest deviation of a committee, eV/angstrom.
            largest: force above which the run is stopped.
            lattice: lattice constant at the start of a crystal that changes its volume.
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
            lambda state, observed: _frame(state, output),
            {
                "positions": units["length"], "cell": units["length"],
                "forces": units["force"], "time": units["time"],
                "energy": units["energy"], "masses": "amu",
            },
            chunk=max(1, min(64, 4_000_000 // max(24 * state.atoms, 1))),
        )  # fmt: skip
        thermo = ZarrWriter(
            folder,
            "thermo",
            lambda state, observed: {name: observed[name] for name in names},
            {name: _unit(name, units) for name in (*names, "time")},
        )
        return MdResults(
            folder,
            world,
            trajectory,
            thermo,
            Average(lambda state, observed: torch.stack([observed[n] for n in names])),
            Drift(lambda state, observed: observed["conserved"] / state.counts),
            names,
            trusted,
            largest,
            recorded,
            ExtxyzWriter(folder, world.potential.species) if output.extxyz else None,
            lattice,
        )

    def writers(self, output: Any) -> Sequence[tuple[Trigger, Writer]]:
        """Return all writers with their triggers."""
        later = output.average_from
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
        figures["conserved_drift"], conservation = self._drift(observed)
        checks = [self._explosion(state), conservation]
        if "deviation" in self.names:
            figures["largest_deviation"], trust = self._trust(folder)
            checks.append(trust)
        return Outcome(figures, checks)

    def _explosion(self, state: ParticleState) -> Check:
        """Check the last forces; above the limit the guard has stopped the run before."""
        force = float(state.forces.norm(dim=1).max()) if state.atoms else 0.0
        unit = self.world.units.names["force"]
        note = "largest force at the end"
        return Check("explosion", "health", force, self.largest, unit=unit, note=note)

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
        check = Check("trust", "domain", value, self.trusted, unit=unit, note=note)
        return Figure(value, unit, note=f"at step {step}"), check

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


def _unit(name: str, units: Mapping[str, str]) -> str:
    if name == "volume":
        return f"{units['length']}^3"
    kinds = {"max_force": "force", "deviation": "force", "conserved": "energy"}
    kind = kinds.get(name, "energy" if name.endswith("energy") else name)
    return units.get(kind, "")


def _frame(state: ParticleState, output: Any) -> dict[str, Tensor]:
    names = ["positions", "cell", "species", "system", "periodic", "masses", "energy"]
    names += ["momenta"] * output.velocities + ["forces"] * output.forces
    frame = {name: getattr(state, name) for name in names}
    if state.deviation.numel():
        frame["deviation"] = state.deviation
    return frame
