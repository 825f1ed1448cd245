"""What is averaged during a run: parts of the section output, and what they write."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from annotated_types import Ge, Interval
from pydantic import Field
from torch import Tensor

from ...models.parts import part
from ...models.potentials.fields import Positive
from ..comparison import rank
from ..errors import InputError
from ..protocols import Check, Figure, Trigger, Writer
from ..rundir import write_array
from ..schema.base import InputPath, locate
from .angles import AngleDistribution, Coordination
from .correlations import (
    BySpecies,
    Correlation,
    Integral,
    Slope,
    mean_product,
    running_integral,
    shear_stress,
    unwrapped,
    velocities,
    vibrational_density,
)
from .observables import Average, RadialDistribution
from .state import ParticleState
from .units import Units

Means = Mapping[str, float]
"""Averages of the run's scalars, by name."""
Checked = Callable[[Mapping[str, Figure]], Iterator[Check]]


class Shelf(Protocol):
    """Where curves are put: a run folder, or a store of an analysis."""

    @property
    def store(self) -> Any:
        """A Zarr group."""
        ...


class Particles(Protocol):
    """What an average must know: of a world, or of a stored trajectory."""

    @property
    def species(self) -> Sequence[str]:
        """Chemical symbols."""
        ...

    @property
    def units(self) -> Units:
        """Internal to reported."""
        ...

    @property
    def start(self) -> ParticleState:
        """The structures."""
        ...


Finish = Callable[[Shelf, Means], Mapping[str, Figure]]


@dataclass(frozen=True)
class Recorded:
    """One thing that is averaged: when, by whom, and what becomes of it at the end."""

    trigger: Trigger
    writer: Writer
    finish: Finish
    checks: Checked | None = None
    """Compare it with its reference, where it has one."""


@dataclass(frozen=True)
class Reference:
    """Curves that a distribution should be.

    Attributes:
        x: abscissa ``[points]``, rising.
        curves: by species, such as ``OO``: ``[points]`` each; ``OO_error``: its standard
            error, where it is known.
    """

    x: np.ndarray
    curves: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> "Reference":
        """Read a CSV file with a header.

        Raises:
            InputError: not such a file.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = list(csv.reader(line for line in lines if not line.startswith("#")))
            names = [name.strip() for name in rows[0][1:]]
            table = np.array([[float(cell) for cell in row] for row in rows[1:]])
            columns = dict(zip(names, table.T[1:], strict=True))
        except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
            raise InputError(
                f"{path}: no table with a header (such as r,HH,HO,OO): {error}"
            ) from error
        if not names or np.any(np.diff(table[:, 0]) <= 0):
            raise InputError(f"{path}: the first column must rise, curves must follow")
        return cls(table[:, 0], columns)

    def at(self, x: Tensor, species: str) -> Tensor | None:
        """Return the curve of ``species`` at ``x``, None where the file lacks it."""
        if species not in self.curves:
            return None
        return torch.from_numpy(np.interp(x.numpy(), self.x, self.curves[species]))


@part
class Sampled:
    """What is averaged over a part of the run."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")] = "all"
    """Name of the curve."""
    start: Annotated[int, Ge(0)] = 0
    """First step."""
    stop: Annotated[int, Ge(1)] | None = None
    """Last step; the end of the run by default."""
    every: Annotated[int, Ge(1)] = 20
    """Steps between samples."""
    reference: InputPath | None = None
    """What it should be, for comparison: a CSV file whose header names the abscissa and
    then the species of each curve (``r,HH,HO,OO``), and ``OO_error`` its standard error
    where it has one; lines with # are remarks."""
    agreement: Positive = 0.05
    """Part of the reference's area by which a curve may differ from it, beyond noise."""

    def check(self, key: str, closed: bool, base: Path) -> Reference | None:
        """Refuse what the run cannot give; return the reference, if there is one.

        Raises:
            InputError: a reference that is missing or no table, or a window without steps.
        """
        if self.stop is not None and self.stop < self.start:
            raise InputError(f"{key} {self.name}: stop = {self.stop} is before start")
        return Reference.read(locate(self.reference, base)) if self.reference else None

    def cut(self, key: str, steps: int) -> str:
        """Return what a run of so many steps cuts off; empty where that is nothing."""
        if self.start > steps:
            return _left_out(f"{key} {self.name}", f"begins at step {self.start}", steps)
        if (self.stop or 0) > steps:
            return f"{key} {self.name}: ends with the run, at step {steps}"
        return ""

    def trigger(self, step: int) -> bool:
        """Tell whether there is a sample at a step."""
        last = step if self.stop is None else self.stop
        return self.start <= step <= last and (step - self.start) % self.every == 0


@part
class TimeCorrelation:
    """A correlation in time, averaged over windows that begin at regular intervals."""

    start: Annotated[int, Ge(0)] = 0
    """First step."""
    every: Annotated[int, Ge(1)] = 10
    """Steps between samples."""
    samples: Annotated[int, Interval(ge=8, le=100_000)] = 200
    """Samples in a window."""
    spacing: Annotated[int, Ge(1)] = 50
    """Samples between the beginnings of windows."""

    def check(self, key: str, closed: bool, base: Path) -> None:
        """Refuse what the run cannot give; nothing here."""

    def cut(self, key: str, steps: int) -> str:
        """Return what a run of so many steps cuts off; empty where that is nothing."""
        first = self.start + self.every * (self.samples - 1)
        if first <= steps:
            return ""
        return _left_out(key, f"its first window ends at step {first}", steps)

    def trigger(self, step: int) -> bool:
        """Tell whether there is a sample at a step."""
        return step >= self.start and (step - self.start) % self.every == 0


def _left_out(key: str, why: str, steps: int) -> str:
    return f"{key}: left out: {why}, the run has {steps}"


def _check_closed(key: str, closed: bool) -> None:
    if not closed:
        raise InputError(f"{key}: needs a structure that is periodic in all axes")


def _over_systems(mean: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over independent systems (axis 0) and its error."""
    return mean.mean(0), error.square().sum(0).sqrt() / len(mean)


def _put_curve(
    group: Any, name: str, label: str, values: tuple[Tensor, Tensor, Tensor | None],
    unit: str, axis: str,
) -> Mapping[str, Figure]:  # fmt: skip
    """Write mean, error and reference of a distribution; return how far it is off."""
    mean, error, target = values
    write_array(group, name, mean, unit, label, [axis])
    write_array(group, f"{name}_error", error, unit, label, [axis])
    if target is None:
        return {}
    write_array(group, f"{name}_reference", target, unit, label, [axis])
    share = float((mean - target).abs().sum() / target.abs().sum())
    noise = float(error.nansum() / target.abs().sum())
    note = "area between the curve and its reference, over the reference's area"
    return {f"{group.basename}_{name}_difference": Figure(share, "", noise or None, note)}


def _agrees(group: str, section: "Sampled") -> Checked:
    """Return the check of the curves of a section against their references."""

    def checks(figures: Mapping[str, Figure]) -> Iterator[Check]:
        for name, found in _farthest(figures, f"{group}_{section.name}", "_difference"):
            noise = found.error or 0.0
            note = f"{name}: difference from the reference, noise {noise:.2g}"
            bound = section.agreement + 2 * noise
            kind = f"reference_{group}_{section.name}"
            yield Check(kind, "accuracy", found.value, bound, note=note)

    return checks


def _farthest(
    figures: Mapping[str, Figure], start: str, end: str
) -> list[tuple[str, Figure]]:
    """Return the curve whose figure is largest, and the figure; nothing if none has one."""
    off = [
        (name.removesuffix(end), figure)
        for name, figure in figures.items()
        if name.startswith(start) and name.endswith(end)
    ]
    return sorted(off, key=lambda each: rank(each[1].value))[-1:]


def departure(mean: Tensor, error: Tensor, target: Tensor, r: Tensor) -> Figure:
    """Return the largest difference of two curves that is beyond two errors of both.

    Args:
        mean: ``[points]``, as ``target``.
        error: standard error of their difference; one that is no number counts as none.
        target: the reference.
        r: where they stand.
    """
    off, error = (mean - target).abs(), error.nan_to_num()
    within = off <= 2 * error  # false of what is no number
    beyond = off.masked_fill(within, 0.0)
    place = int(beyond.argmax())
    note = (
        f"at {float(r[place]):.3g}: {float(mean[place]):.3g} for {float(target[place]):.3g}"
    )
    if error[place] > 0:
        note += f", {float(off[place] / error[place]):.1f} standard errors"
    return Figure(float(beyond[place]), "", note=note)


@part
class RdfOutput(Sampled):
    """Radial distribution function, averaged over a part of the run."""

    r_max: Positive = 8.0
    """Largest distance, angstrom (or reduced)."""
    bins: Annotated[int, Interval(ge=10, le=10000)] = 160
    """Number of bins."""
    departure: Positive = 0.1
    """Largest difference from the reference at any distance, beyond two standard errors."""

    def check(self, key: str, closed: bool, base: Path) -> Reference | None:
        """Refuse what the run cannot give; raises as :meth:`Sampled.check`."""
        _check_closed(key, closed)
        return super().check(key, closed, base)

    def recorded(
        self, world: Particles, time_step: float, target: Reference | None
    ) -> list[Recorded]:
        """Return what is sampled and what it becomes."""
        rdf = RadialDistribution(len(world.species), self.r_max, self.bins)
        return [_rdf(self, rdf, world, target)]


@part
class AdfOutput(Sampled):
    """Distribution of the angle between two neighbours of an atom, and their number."""

    reach: Positive = field(kw_only=True)
    """Largest distance of a neighbour, angstrom (or reduced)."""
    bins: Annotated[int, Interval(ge=10, le=1800)] = 90
    """Number of bins from 0 to 180 degrees."""

    def recorded(
        self, world: Particles, time_step: float, target: Reference | None
    ) -> list[Recorded]:
        """Return what is sampled and what it becomes."""
        adf = AngleDistribution(len(world.species), self.reach, self.bins)
        return _angles(self, adf, world, target)


def _rdf(
    section: RdfOutput,
    rdf: RadialDistribution,
    world: Particles,
    reference: Reference | None,
) -> Recorded:
    average, name = Average(rdf), section.name

    def finish(folder: Shelf, means: Means) -> Mapping[str, Figure]:
        if not average.blocks.count:
            return {}
        group = folder.store.require_group("rdf")
        group.attrs.update({"title": "radial distribution functions"})
        length, symbols = world.units.names["length"], world.species
        write_array(group, "r", rdf.r, length, "distance", ["r"])
        mean, error = _over_systems(average.blocks.mean, average.blocks.error)
        figures = {}
        for k, (a, b) in enumerate(rdf.pairs):
            kinds = f"{symbols[a]}{symbols[b]}"
            suffix = "" if len(rdf.pairs) == 1 else f"_{kinds}"
            label = f"g(r) {name} {symbols[a]}-{symbols[b]}"
            target = reference.at(rdf.r, kinds) if reference else None
            figures |= _put_curve(
                group, name + suffix, label, (mean[k], error[k], target), "", "r"
            )
            if reference and target is not None:
                its = reference.at(rdf.r, f"{kinds}_error")
                both = error[k] if its is None else torch.hypot(error[k], its)
                off = departure(mean[k], both, target, rdf.r)
                figures[f"rdf_{name}{suffix}_departure"] = off
        return figures

    def checks(figures: Mapping[str, Figure]) -> Iterator[Check]:
        yield from _agrees("rdf", section)(figures)
        for curve, found in _farthest(figures, f"rdf_{name}", "_departure"):
            note = f"{curve}: largest difference from the reference, {found.note}"
            kind = f"departure_rdf_{name}"
            yield Check(kind, "accuracy", found.value, section.departure, note=note)

    return Recorded(section.trigger, average, finish, checks if reference else None)


def _angles(
    section: Sampled,
    adf: AngleDistribution,
    world: Particles,
    reference: Reference | None,
) -> list[Recorded]:
    average = Average(adf)
    near = Average(Coordination(adf.species, adf.reach))
    name, symbols = section.name, world.species

    def angles(folder: Shelf, means: Means) -> Mapping[str, Figure]:
        if not average.blocks.count:
            return {}
        group = folder.store.require_group("adf")
        group.attrs.update({"title": "angular distribution functions"})
        write_array(group, "theta", adf.theta, "degree", "angle", ["theta"])
        mean, error = _over_systems(average.blocks.mean, average.blocks.error)
        figures = {}
        for k, triple in enumerate(adf.triples):
            kinds = "".join(symbols[a] for a in triple)
            target = reference.at(adf.theta, kinds) if reference else None
            # With a reference the curves that it lacks only hide the ones it has.
            if not float(mean[k].abs().sum()) or (reference and target is None):
                continue
            suffix = "" if len(adf.triples) == 1 else f"_{kinds}"
            label = f"{name} " + "-".join(symbols[a] for a in triple)
            values = (mean[k], error[k], target)
            figures |= _put_curve(group, name + suffix, label, values, "1/degree", "theta")
        return figures

    def numbers(folder: Shelf, means: Means) -> Mapping[str, Figure]:
        if not near.blocks.count:
            return {}
        mean, error = _over_systems(near.blocks.mean, near.blocks.error)
        kinds = range(adf.species)
        return {
            f"coordination_{name}_{symbols[a]}{symbols[b]}": Figure(
                float(mean[a, b]), "", _finite(error[a, b]),
                note=f"{symbols[b]} within {adf.reach:g} Å of {symbols[a]}",
            )
            for a in kinds for b in kinds if not math.isnan(float(mean[a, b]))
        }  # fmt: skip

    trigger = section.trigger
    checks = _agrees("adf", section) if reference else None
    first = Recorded(trigger, average, angles, checks)
    return [first, Recorded(trigger, near, numbers)]


def _finite(error: Tensor) -> float | None:
    return float(error) if math.isfinite(float(error)) else None


@part
class Displacement(TimeCorrelation):
    """Mean squared displacement and, from its slope, the diffusion coefficient."""

    def recorded(
        self, world: Particles, time_step: float, target: Reference | None
    ) -> list[Recorded]:
        """Return what is sampled and what it becomes."""
        return [_displacement(self, self.every * time_step, world)]


def _displacement(section: TimeCorrelation, spacing: float, world: Particles) -> Recorded:
    kinds = BySpecies.of(world.start, len(world.species))
    line = Correlation(
        unwrapped, kinds.displacement, section.samples, section.spacing, Slope(spacing)
    )
    units, symbols = world.units.names, world.species

    def finish(folder: Shelf, means: Means) -> Mapping[str, Figure]:
        if not line.curve.count:
            return {}
        group = _time_group(folder, "displacement", section, spacing, units)
        systems = line.curve.mean.shape[1]
        mean = line.curve.mean.mean(1)
        error = line.curve.error.square().sum(1).sqrt() / systems
        value, spread = _over_systems(line.result.mean, line.result.error)
        figures = {}
        for k, symbol in enumerate(symbols):
            if bool(mean[:, k].isnan().any()):
                continue
            label, unit = f"mean squared displacement {symbol}", f"{units['length']}^2"
            write_array(group, f"msd_{symbol}", mean[:, k], unit, label, ["lag"])
            write_array(group, f"msd_{symbol}_error", error[:, k], unit, label, ["lag"])
            figures[f"diffusion_{symbol}"] = Figure(
                float(value[k]), f"{unit}/{units['time']}", _finite(spread[k]),
                note="slope of the mean squared displacement",
            )  # fmt: skip
        return figures

    return Recorded(section.trigger, line, finish)


def _time_group(
    folder: Shelf, name: str, section: TimeCorrelation, spacing: float, units: Any
) -> Any:
    group = folder.store.require_group(name)
    lag = torch.arange(section.samples).double() * spacing
    write_array(group, "lag", lag, units["time"], "time", ["lag"])
    return group


@part
class VelocityCorrelation(TimeCorrelation):
    """Velocity autocorrelation and vibrational density of states."""

    def recorded(
        self, world: Particles, time_step: float, target: Reference | None
    ) -> list[Recorded]:
        """Return what is sampled and what it becomes."""
        return [_velocity(self, self.every * time_step, world)]


def _velocity(section: TimeCorrelation, spacing: float, world: Particles) -> Recorded:
    kinds = BySpecies.of(world.start, len(world.species))
    slow = world.units.time
    integral = Integral(spacing, 1 / (3 * slow**2))
    line = Correlation(
        velocities, kinds.product, section.samples, section.spacing, integral
    )
    units, symbols = world.units.names, world.species

    def finish(folder: Shelf, means: Means) -> Mapping[str, Figure]:
        if not line.curve.count:
            return {}
        group = _time_group(folder, "velocity", section, spacing, units)
        spectrum = folder.store.require_group("vibrations")
        systems = line.curve.mean.shape[1]
        mean = line.curve.mean.mean(1) / slow**2
        error = line.curve.error.square().sum(1).sqrt() / (systems * slow**2)
        value, spread = _over_systems(line.result.mean, line.result.error)
        unit, figures = f"({units['velocity']})^2", {}
        metal = units["time"] == "fs"
        for k, symbol in enumerate(symbols):
            if bool(mean[:, k].isnan().any()):
                continue
            label = f"velocity autocorrelation {symbol}"
            write_array(group, f"vacf_{symbol}", mean[:, k], unit, label, ["lag"])
            write_array(group, f"vacf_{symbol}_error", error[:, k], unit, label, ["lag"])
            scale = 1000.0 if metal else 1.0
            frequency, density = vibrational_density(mean[:, k], spacing / scale)
            rate = "THz" if metal else f"1/{units['time']}"
            write_array(spectrum, "frequency", frequency, rate, "frequency", ["frequency"])
            label = f"vibrational density of states {symbol}"
            name, axis = f"density_{symbol}", ["frequency"]
            write_array(spectrum, name, density, f"1/{rate}", label, axis)
            figures[f"diffusion_green_kubo_{symbol}"] = Figure(
                float(value[k]), f"{units['length']}^2/{units['time']}", _finite(spread[k]),
                note="integral of the velocity autocorrelation",
            )  # fmt: skip
        return figures

    return Recorded(section.trigger, line, finish)


@part
class StressCorrelation(TimeCorrelation):
    """Autocorrelation of the shear stress and, from its integral, the viscosity."""

    def check(self, key: str, closed: bool, base: Path) -> None:
        """Refuse a structure with open axes.

        Raises:
            InputError: it is one.
        """
        _check_closed(key, closed)

    def recorded(
        self, world: Particles, time_step: float, target: Reference | None
    ) -> list[Recorded]:
        """Return what is sampled and what it becomes."""
        return [_stress(self, self.every * time_step, world)]


def _stress(section: TimeCorrelation, spacing: float, world: Particles) -> Recorded:
    units = world.units.names
    line = Correlation(
        shear_stress, mean_product, section.samples, section.spacing, Integral(spacing)
    )

    def finish(folder: Shelf, means: Means) -> Mapping[str, Figure]:
        if not line.curve.count:
            return {}
        # V / k T; pressures are in reported units, k T in energy units
        atoms = float(world.start.counts.double().mean())
        thermal = world.units.boltzmann * means["temperature"]
        factor = means["volume"] * atoms / (thermal * world.units.pressure)
        group = _time_group(folder, "stress", section, spacing, units)
        systems = line.curve.mean.shape[1]
        mean = line.curve.mean[:, :, 0].mean(1)
        error = line.curve.error[:, :, 0].square().sum(1).sqrt() / systems
        metal = units["time"] == "fs"
        scale, unit = (1e-3, "mPa s") if metal else (1.0, "sqrt(m eps)/sigma^2")
        square = f"{units['pressure']}^2"
        label = "shear stress autocorrelation"
        write_array(group, "correlation", mean, square, label, ["lag"])
        write_array(group, "correlation_error", error, square, label, ["lag"])
        running = running_integral(mean, spacing) * factor * scale
        viscosity = folder.store.require_group("viscosity")
        lag = torch.arange(section.samples).double() * spacing
        write_array(viscosity, "lag", lag, units["time"], "time", ["lag"])
        label = "viscosity up to this time"
        write_array(viscosity, "viscosity", running, unit, label, ["lag"])
        value, spread = _over_systems(line.result.mean[:, 0], line.result.error[:, 0])
        error_of = _finite(spread * factor * scale)
        note = "Green and Kubo, integral over the whole window"
        return {"viscosity": Figure(float(value) * factor * scale, unit, error_of, note)}

    return Recorded(section.trigger, line, finish)


__all__ = [
    "AdfOutput",
    "Displacement",
    "RdfOutput",
    "Recorded",
    "Reference",
    "StressCorrelation",
    "VelocityCorrelation",
    "departure",
]
