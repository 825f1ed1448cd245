"""How atoms may move in a scenario: parts that make the integrator they describe."""

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval, MinLen

from ...models.parts import Family, part
from ...models.potentials.fields import Positive
from .barostats import MTK, CellRescaling, Heated, anisotropic, isotropic, triclinic
from .integrators import Bussi, Integrator, Langevin, NoseHoover, Schedule, Verlet
from .units import Units

Temperatures = Annotated[tuple[Annotated[float, Interval(ge=0, le=1e6)], ...], MinLen(1)]
Kelvin = Annotated[float, Interval(gt=0, le=1e6)]
Pressure = Annotated[float, Interval(ge=-1e6, le=1e6)]

ENSEMBLES = Family(
    "ensemble",
    __name__.removesuffix(".ensembles"),
    {
        "nve": "ensembles:NveEnsemble",
        "langevin": "ensembles:LangevinEnsemble",
        "nose_hoover": "ensembles:NoseHooverEnsemble",
        "bussi": "ensembles:BussiEnsemble",
        "npt": "ensembles:NptEnsemble",
    },
)
"""Each has ``integrator(units)``."""

SHAPES = {"isotropic": isotropic, "anisotropic": anisotropic, "triclinic": triclinic}


@part
class NveEnsemble:
    """Constant energy."""

    kind: Literal["nve"] = "nve"

    def integrator(self, units: Units) -> Integrator:
        """Return velocity Verlet."""
        return Verlet()


@part
class Bath:
    """A bath, at one temperature or along a ramp."""

    scales_alike: ClassVar[bool] = True
    """Whether it changes all velocities by one factor."""
    relaxation: Positive
    """Relaxation time of the bath, fs (or reduced)."""
    temperature: Kelvin | Temperatures | None = None
    """K (or reduced): one value, or one for each replica; or give `ramp`."""
    ramp: tuple[tuple[float, Kelvin], ...] = ()
    """Points (time, temperature), linear between them; time in fs (or reduced)."""

    def __post_init__(self) -> None:
        """Refuse two temperatures or none, and times that go back.

        Raises:
            ValueError: one of these.
        """
        if (self.temperature is None) == (not self.ramp):
            raise ValueError("give either temperature or ramp")
        _check_times("ramp", self.ramp)
        if isinstance(self.temperature, tuple) and min(self.temperature) <= 0:
            raise ValueError("temperature: a bath needs a temperature above zero")

    @property
    def initial_temperature(self) -> float | tuple[float, ...]:
        """At the start; one value, or one for each replica."""
        return self.ramp[0][1] if self.temperature is None else self.temperature

    def schedule(self, units: Units) -> Schedule:
        """Return the temperature over time, in internal units."""
        if self.temperature is None:
            return _ramp(self.ramp, units, 1.0)
        given = self.temperature
        return Schedule.constant(*(given if isinstance(given, tuple) else (given,)))


@part
class LangevinEnsemble(Bath):
    """Langevin dynamics (BAOAB)."""

    scales_alike: ClassVar[bool] = False
    kind: Literal["langevin"] = "langevin"

    def integrator(self, units: Units) -> Integrator:
        """Return the integrator."""
        return Langevin(self.schedule(units), self.relaxation / units.time)


@part
class NoseHooverEnsemble(Bath):
    """Nose-Hoover chain."""

    chain: Annotated[int, Interval(ge=1, le=20)] = 3
    """Members of the chain."""
    kind: Literal["nose_hoover"] = "nose_hoover"

    def integrator(self, units: Units) -> Integrator:
        """Return the integrator."""
        return NoseHoover(self.schedule(units), self.relaxation / units.time, self.chain)


@part
class BussiEnsemble(Bath):
    """Stochastic velocity rescaling."""

    kind: Literal["bussi"] = "bussi"

    def integrator(self, units: Units) -> Bussi:
        """Return the integrator."""
        return Bussi(self.schedule(units), self.relaxation / units.time)


@part
class NptEnsemble(Bath):
    """Constant pressure and temperature; velocities are rescaled by a stochastic factor."""

    moves_cell: ClassVar[bool] = True
    pressure_relaxation: Positive = field(kw_only=True)
    """Relaxation time (cell_rescaling) or period (mtk) of the cell, fs (or reduced)."""
    barostat: Literal["cell_rescaling", "mtk"] = "cell_rescaling"
    """cell_rescaling: stochastic, first order; mtk: the cell has a mass."""
    pressure: Pressure | None = None
    """GPa (or reduced); 0 by default; or give `pressure_ramp`."""
    pressure_ramp: tuple[tuple[float, Pressure], ...] = ()
    """Points (time, pressure), linear between them; time in fs (or reduced)."""
    cell: Literal["isotropic", "anisotropic", "triclinic"] = "isotropic"
    """What of the cell may change."""
    compressibility: Positive = 0.01
    """Rough value in 1/GPa (or reduced), for cell_rescaling."""
    kind: Literal["npt"] = "npt"

    def __post_init__(self) -> None:
        """Refuse two pressures, and what :class:`Bath` refuses.

        Raises:
            ValueError: one of these.
        """
        super().__post_init__()
        if self.pressure is not None and self.pressure_ramp:
            raise ValueError("give either pressure or pressure_ramp")
        _check_times("pressure_ramp", self.pressure_ramp)

    def integrator(self, units: Units) -> Integrator:
        """Return thermostat and barostat."""
        schedule = self.schedule(units)
        points = self.pressure_ramp or ((0.0, self.pressure or 0.0),)
        pressure = _ramp(points, units, units.pressure)
        bath = Bussi(schedule, self.relaxation / units.time)
        slow, shape = self.pressure_relaxation / units.time, SHAPES[self.cell]
        if self.barostat == "mtk":
            return Heated(MTK(schedule, pressure, slow, shape), bath)
        soft = self.compressibility * units.pressure
        return CellRescaling(bath, schedule, pressure, slow, soft, shape)


def _ramp(points: tuple[tuple[float, float], ...], units: Units, unit: float) -> Schedule:
    times = tuple(time / units.time for time, _ in points)
    return Schedule(times, tuple((value / unit,) for _, value in points))


def _check_times(key: str, points: tuple[tuple[float, float], ...]) -> None:
    times = [time for time, _ in points]
    if times != sorted(set(times)):
        raise ValueError(f"{key}: times must increase")


__all__ = [
    "ENSEMBLES",
    "Bath",
    "BussiEnsemble",
    "LangevinEnsemble",
    "NoseHooverEnsemble",
    "NptEnsemble",
    "NveEnsemble",
    "Temperatures",
]
