"""What is checked of molecular dynamics: equilibrium, set-points, time step, domain.

The series that the run has written are read back at its end. An average counts only from
where its series is stationary; it is compared with the set-point that was asked for within
its own statistical error and what the discretisation of time may add.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..comparison import rank, worst
from ..protocols import Check
from ..rundir import RunFolder
from ..statistics import FEWEST, equilibrium, inefficiency, line, trend
from .integrators import Integrator, Schedule
from .neighbours import Layout, build_neighbours
from .state import ParticleState
from .units import Units
from .world import MolecularDynamics

SIGMAS = 4.0
"""Standard errors by which an average may miss its set-point: once in 16,000 by chance."""

TREND = 5.0
"""Slope of a stationary series over its standard error; autoregressive series of ten or
more independent samples go beyond it once in 500."""

EFFECTIVE = 10.0
"""Independent samples below which an average has no error bar worth the name."""

KINETIC = 0.02
"""Relative error of the temperature that a time step may make. A harmonic mode of frequency
w has a kinetic energy that is off by (w dt / 2)^2, 2 % where a period has 22 steps."""

FLUCTUATION = 0.05
"""Fluctuation of the conserved quantity over that of the kinetic energy above which the
time step is too long (M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids, 2017,
section 3.7, asks for a few per cent)."""

CANONICAL = 0.1
"""Relative difference of the temperature's fluctuation from the canonical one that is
allowed beside its statistical error."""

MARGIN = 0.05
"""Part of the range of the training data by which a run may leave it: the ends of the range
are single frames, and a model reproduces their energies only to its own error."""

NARROW = {"potential_energy": 0.005, "volume": 0.02}
"""Least margin where the data have hardly a range: 5 meV per atom, the error of a fair
model, and 2 % of the volume, beyond which a pressure changes by a tenth of a modulus."""

TOUCH = 0.97
"""Part of the shortest distance in the training data that two atoms may come to."""

_SERIES = ("temperature", "potential_energy", "pressure", "volume")


@dataclass(frozen=True)
class Domain:
    """Where a learned potential was trained, as its card says.

    Attributes:
        shortest: distance of two atoms, angstrom; None where the card has none.
        energy: per atom, lowest and highest, eV.
        volume: per atom, lowest and highest, cubic angstrom.
    """

    shortest: float | None = None
    energy: tuple[float, float] | None = None
    volume: tuple[float, float] | None = None

    @staticmethod
    def of(card: Mapping[str, Any]) -> "Domain":
        """Return what the card of a model says; entries of another form count as absent."""
        domain = card.get("domain", {})
        shortest = domain.get("shortest_distance_angstrom")
        return Domain(
            float(shortest) if isinstance(shortest, int | float) else None,
            _range(domain.get("energy_ev_per_atom")),
            _range(domain.get("volume_angstrom3_per_atom")),
        )


def _range(given: Any) -> tuple[float, float] | None:
    if not (isinstance(given, list | tuple) and len(given) == 2):
        return None
    low, high = (float(value) for value in given)
    return (low, high) if low <= high else None


@dataclass(frozen=True)
class SetPoints:
    """What was asked for, over time, in reported units.

    Attributes:
        temperature: of the bath; None without one.
        pressure: of the barostat; None without one.
    """

    temperature: Schedule | None = None
    pressure: Schedule | None = None

    @staticmethod
    def of(integrator: Integrator, units: Units) -> "SetPoints":
        """Return the set-points of an integrator, in reported units."""
        bath = getattr(integrator, "bath", integrator)
        cell = getattr(integrator, "dynamics", integrator)
        temperature = getattr(bath, "temperature", None)
        pressure = getattr(cell, "pressure", None)
        return SetPoints(
            temperature and _reported(temperature, units.time, 1.0),
            pressure and _reported(pressure, units.time, units.pressure),
        )

    @property
    def settled(self) -> float:
        """Time after which nothing is ramped any more."""
        schedules = [s for s in (self.temperature, self.pressure) if s is not None]
        return max((s.times[-1] for s in schedules if len(s.times) > 1), default=0.0)


def _reported(schedule: Schedule, time: float, unit: float) -> Schedule:
    return Schedule(
        tuple(t * time for t in schedule.times),
        tuple(tuple(v * unit for v in row) for row in schedule.values),
    )


@dataclass(frozen=True)
class Series:
    """The stationary part of what a run has written.

    Attributes:
        values: ``[samples, systems]`` of each scalar, from the first step that counts.
        start: first of these samples at which the run is in equilibrium.
        why: why equilibrium was not looked for; empty where it was.
    """

    values: Mapping[str, np.ndarray]
    start: int = 0
    why: str = ""

    @staticmethod
    def read(
        folder: RunFolder, names: Sequence[str], settled: int, average_from: int
    ) -> "Series":
        """Read the scalars of a run and find where they are stationary.

        Args:
            folder: of the run.
            names: of the scalars.
            settled: step from which no set-point moves.
            average_from: step from which the scenario averages.
        """
        stored: Any = folder.store["thermo"]
        steps = np.asarray(stored["step"][:])
        used = steps >= average_from
        values = {name: np.asarray(stored[name][:])[used] for name in names}
        count = int(used.sum())
        if average_from < settled:
            return Series(values, why="a set-point is ramped while averages are taken")
        if count < FEWEST:
            return Series(values, why=f"{count} samples; {FEWEST} are needed")
        # replicas differ in temperature, not in when they settle: their mean is judged
        scaled = [_standard(values[name]) for name in _SERIES if name in values]
        return Series(values, max(equilibrium(series).start for series in scaled))

    @property
    def judged(self) -> bool:
        """Whether there are enough samples to say anything."""
        return not self.why

    def kept(self, name: str) -> np.ndarray:
        """Return the stationary part ``[samples, systems]``."""
        return self.values[name][self.start :]

    def means(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard error of each system, ``[systems]``."""
        kept = self.kept(name)
        parts = [_mean(kept[:, k]) for k in range(kept.shape[1])]
        return np.array([m for m, _ in parts]), np.array([e for _, e in parts])


def _standard(values: np.ndarray) -> np.ndarray:
    """Return the mean over systems, each in units of its own fluctuation.

    What does not vary, but for the last digits of its sum, counts as constant.
    """
    mean, spread = values.mean(axis=0), values.std(axis=0)
    varies = ~(spread <= 1e-12 * np.abs(mean))  # also where it is not finite
    scaled = (values - mean) / np.where(varies, spread, 1.0)
    return np.where(varies, scaled, 0.0).mean(axis=1)


def _mean(series: np.ndarray) -> tuple[float, float]:
    if len(series) < 2:
        return float(series.mean()), math.nan
    effective = len(series) / inefficiency(series)
    return float(series.mean()), float(series.std(ddof=1)) / math.sqrt(effective)


def equilibrium_checks(series: Series) -> Iterator[Check]:
    """Yield whether the run has settled, and whether enough of it was seen."""
    if not series.judged:
        return
    scaled = {n: _standard(v) for n, v in series.values.items() if n in _SERIES}
    found = {name: trend(values) for name, values in scaled.items()}
    name = max(found, key=lambda each: rank(found[each]))
    note = f"{name.replace('_', ' ')}: trend of the last two thirds of the averaged part"
    yield Check("equilibrium", "accuracy", found[name], TREND, unit="sigma", note=note)
    counts = {n: equilibrium(v[series.start :], 1).effective for n, v in scaled.items()}
    name = min(counts, key=lambda each: -rank(-counts[each]))
    note = f"independent samples of the {name.replace('_', ' ')}"
    yield Check("sampling", "accuracy", counts[name], EFFECTIVE, at_least=True, note=note)


def set_point_checks(
    series: Series, points: SetPoints, world: MolecularDynamics
) -> Iterator[Check]:
    """Yield the distance of temperature and pressure from what was asked for."""
    if not series.judged:
        return
    if points.temperature is not None:
        wanted = np.array(points.temperature.values[-1])
        yield _set_point("temperature", series, wanted, KINETIC * wanted, world)
    if points.pressure is not None and "pressure" in series.values:
        wanted = np.array(points.pressure.values[-1])
        # an error of the kinetic energy is one of the ideal gas's pressure; k T / V more
        # lies between the mean of the pressure and the pressure of the mean
        atoms = float(world.start.counts.double().mean())
        volume = float(series.kept("volume").mean())
        thermal = world.units.boltzmann * float(series.kept("temperature").mean())
        allowed = (KINETIC * atoms + 1) * thermal / volume * world.units.pressure
        yield _set_point("pressure", series, wanted, np.array([allowed]), world)


def _set_point(
    name: str,
    series: Series,
    wanted: np.ndarray,
    allowed: np.ndarray,
    world: MolecularDynamics,
) -> Check:
    mean, error = series.means(name)
    systems = len(mean)
    wanted, allowed = np.broadcast_to(wanted, systems), np.broadcast_to(allowed, systems)
    rows = []
    for value in np.unique(wanted):
        mine = wanted == value
        off = abs(float(mean[mine].mean()) - value)
        noise = float(np.sqrt((error[mine] ** 2).sum())) / int(mine.sum())
        rows.append((off, SIGMAS * noise + float(allowed[mine][0]), value, noise))
    off, bound, value, noise = max(rows, key=lambda row: rank(row[0] / row[1]))
    unit = world.units.names[name]
    note = f"distance of the mean (error {noise:.2g}) from {value:g} {unit}, asked for"
    return Check(f"set_point_{name}", "accuracy", off, bound, unit=unit, note=note)


def fluctuation(series: Series, degrees: np.ndarray) -> tuple[float, float]:
    """Return the fluctuation of the temperature over the canonical one, and its error.

    A canonical kinetic energy is gamma distributed: the standard deviation of the
    temperature is ``T sqrt(2 / Nf)``. Vibrations that move in phase make it larger, and a
    bath that holds the kinetic energy makes it smaller.

    Args:
        series: what is averaged.
        degrees: of freedom of each system, Nf.
    """
    kept = series.kept("temperature")
    mean = kept.mean(axis=0)
    square = ((kept - mean) / mean) ** 2 * (0.5 * degrees)
    parts = [_mean(square[:, k]) for k in range(square.shape[1])]
    found = math.sqrt(sum(m for m, _ in parts) / len(parts))
    # of a root the relative error is half
    error = 0.5 * math.sqrt(sum(e**2 for _, e in parts)) / len(parts) / max(found, 1e-9)
    return found, error


def fluctuation_check(
    series: Series, points: SetPoints, degrees: np.ndarray
) -> Iterator[Check]:
    """Yield how far the fluctuation of the temperature is from the canonical one."""
    if not series.judged or points.temperature is None:
        return
    found, error = fluctuation(series, degrees)
    note = (
        f"fluctuation of the temperature is {found:.3g} (error {error:.1g}) of the "
        "canonical one"
    )
    bound = CANONICAL + SIGMAS * error
    yield Check("canonical", "accuracy", abs(found - 1.0), bound, note=note)


def time_step_check(series: Series) -> Iterator[Check]:
    """Yield the fluctuation of the conserved quantity over that of the kinetic energy.

    A straight line is taken off the conserved quantity: its drift has a check of its own.
    """
    if not series.judged:
        return
    kinetic = series.kept("kinetic_energy").std(axis=0)
    rough = [line(column)[1].std() for column in series.kept("conserved").T]
    # a crystal at rest has no fluctuations to compare with
    ratio = worst(r / k for r, k in zip(rough, kinetic, strict=True) if k != 0)
    note = "fluctuation of the conserved quantity over that of the kinetic energy"
    yield Check("time_step", "accuracy", ratio, FLUCTUATION, note=note)


def domain_checks(
    domain: Domain, series: Series, atoms: np.ndarray, nearest: float | None
) -> Iterator[Check]:
    """Yield how far a run has left the data of a learned potential.

    Args:
        domain: of the potential.
        series: what was written from the first step that is averaged.
        atoms: number of atoms of each system.
        nearest: shortest distance that two atoms had; None if it was not watched.
    """
    for name, known, unit in (
        ("potential_energy", domain.energy, "eV/atom"),
        ("volume", domain.volume, "angstrom^3/atom"),
    ):
        if known is None or name not in series.values or not len(series.values[name]):
            continue
        each = series.values[name] / atoms
        low, high = float(each.min()), float(each.max())
        outside = worst([known[0] - low, high - known[1], 0.0])
        words = name.replace("_", " ")
        data = f"trained on {known[0]:.4g} to {known[1]:.4g}"
        note = f"{words} {low:.4g} to {high:.4g}, {data}"
        least = NARROW[name] * (1.0 if name == "potential_energy" else known[1])
        allowed = max(MARGIN * (known[1] - known[0]), least)
        yield Check(f"domain_{name}", "domain", outside, allowed, unit=unit, note=note)
    if domain.shortest is not None and nearest is not None:
        note = "shortest distance of two atoms; the training data end there"
        yield Check(
            "domain_distance", "domain", min(nearest, 2 * domain.shortest),
            TOUCH * domain.shortest, at_least=True, unit="angstrom", note=note,
        )  # fmt: skip


class Nearest:
    """A writer that remembers the shortest distance of two atoms, up to a reach.

    Args:
        reach: distances beyond it are not looked for, angstrom.
    """

    def __init__(self, reach: float) -> None:
        self.reach, self.shortest = reach, math.inf

    def write(
        self, step: int, time: float, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> None:
        """Look at one state."""
        layout = Layout.of(state.system, state.systems)
        here = replace(state, anchor=state.positions, anchor_cell=state.cell)
        table = build_neighbours(here, self.reach, 0.0, layout)
        index = table.index.long()
        if not index.numel():
            return
        cell = state.cell.double()[state.system.long()]
        there = state.positions.double()[index] + table.shift.double() @ cell
        distance = (there - state.positions.double()[:, None]).norm(dim=-1)
        column = torch.arange(index.shape[1], device=index.device)
        listed = distance[column < table.count[:, None]]
        if listed.numel():
            self.shortest = min(self.shortest, float(listed.min()))

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what must be restored on resume."""
        return {"shortest": torch.tensor(self.shortest, dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`tensors` returned."""
        self.shortest = float(tensors["shortest"])


__all__ = [
    "Domain",
    "Nearest",
    "Series",
    "SetPoints",
    "domain_checks",
    "equilibrium_checks",
    "fluctuation",
    "fluctuation_check",
    "set_point_checks",
    "time_step_check",
]
