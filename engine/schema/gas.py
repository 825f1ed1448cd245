"""Scenario files of gas dynamics. Everything is non-dimensional, see ``engine.gas``."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from ..gas.forcing import Force
from ..gas.initial import INITIAL
from ..gas.probes import PROBES
from ..gas.si import SiSection, converted
from .base import Common, Section, choice, given
from .box import BoundarySection, GridSection, Positive, SolidSection, TimeSection
from .flow import AnyGas, GasSection, KineticModel, Model, check_models

STEADY = ("none", "couette", "fourier", "shock", "rest", "small_waves")
"""References that do not change in time."""


class FlowTime(TimeSection):
    """How long, how often a frame is kept, and how the steps are chosen."""

    cfl: float | None = Field(default=None, gt=0, le=1)
    """Courant number of every step, which then follows the state; without it the step is
    fixed from model.cfl and the start. That of a kinetic model follows from its velocities
    and is always fixed."""
    shortest: Positive | None = None
    """A step that falls below it ends the run; without it the bound is end / 1e8."""
    steady: float | None = Field(default=None, gt=0, lt=1)
    """The run ends at the first frame where density, velocity and temperature change by
    less, relative and per unit of time (L1); if ``end`` comes first a check fails. Models
    of ``compare`` run to ``end``."""
    newton: bool = False
    """From where the run ended Newton's method finds the steady state, which is written
    beside it as the model ``newton``: of a kinetic model on a line between two inflows."""
    compared: tuple[Positive, ...] = ()
    """Times, each that of a frame, at which the errors of the models of ``compare`` against
    the run's own are results; without it they are compared at the end alone."""

    samples: int = Field(default=10, ge=1, le=1000)
    """Times in a frame at which probes are recorded, at most one per step."""

    @model_validator(mode="after")
    def _used(self) -> "FlowTime":
        if self.shortest is not None and self.cfl is None:
            raise ValueError("shortest: needs cfl, the Courant number that steps follow")
        if list(self.compared) != sorted(set(self.compared)):
            raise ValueError(f"compared: {self.compared} must rise")
        for at in self.compared:
            frame = at * self.frames / self.end
            if abs(frame - round(frame)) > 1e-9 * self.frames or at > self.end * (1 + 1e-9):
                raise ValueError(
                    f"compared: {at:g} is not the time of a frame, a multiple of end / "
                    f"frames = {self.end / self.frames:g} up to end"
                )
        if self.compared and self.steady is not None:
            raise ValueError("compared: a run that ends where it is steady has none")
        if self.shortest is not None and self.shortest >= self.end:
            raise ValueError(f"shortest: {self.shortest:g} must lie below end")
        return self


class GasScenario(Common):
    """A gas on a grid: one model, and others that are compared with it."""

    job: ClassVar[str] = "scalebridge.engine.jobs.gas:assemble"

    @classmethod
    def variants(cls) -> tuple[type[Any], ...]:
        """Return the classes of this kind."""
        from .dsmc import DsmcScenario

        return (GasScenario, RelaxationScenario, DsmcScenario)

    @classmethod
    def variant(cls, data: Any) -> type[Common]:
        """Return the class that ``model.kind`` asks for."""
        from .dsmc import DsmcScenario

        model = data.get("model")
        kind = model.get("kind") if isinstance(model, dict) else None
        others = {"maxwell_molecules": RelaxationScenario, "dsmc": DsmcScenario}
        return others.get(str(kind), GasScenario)

    kind: Literal["gas"]
    grid: GridSection
    """Cells in space."""
    boundaries: BoundarySection = BoundarySection()
    """Boundaries."""
    gas: AnyGas = GasSection()
    """The gas: a law of viscosity, or kind = transport, tables."""
    knudsen: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=4096)] = (1.0,)
    """Knudsen numbers mu0 / (rho0 sqrt(R T0) L); one problem for each, all in one run."""
    model: Model  # type: ignore[valid-type]
    """The model that the run is about."""
    compare: tuple[Model, ...] = ()  # type: ignore[valid-type]
    """Models that are run on the same problem for comparison."""
    si: SiSection | None = None
    """What the non-dimensional units are in SI. Quantities may then be written with a unit,
    such as ``"20 um"``, ``"350 K"``, ``"2 bar"`` or ``"100 m/s"``."""
    force: Force | None = None
    """Body force and heat source; without it there are none."""
    solids: Annotated[tuple[SolidSection, ...], Field(max_length=64)] = ()
    """Bodies in the flow, for kinetic, euler and nsf."""
    initial: choice(INITIAL)  # type: ignore[valid-type]
    """State at the start."""
    time: FlowTime
    """Duration and steps."""
    output: tuple[str, ...] = ()
    """Quantities that frames hold besides the fields, such as pressure, mach, vorticity."""
    probes: tuple[choice(PROBES), ...] = ()  # type: ignore[valid-type]
    """What is recorded more often, at points, along lines, in total, through planes."""
    resolution: Literal["auto", "checked", "trusted"] = "auto"
    """Whether the model is run on half the cells too, at 1/4 of the cost on a line, 1/8 on
    a plane, 1/16 in space, and what that changes is checked: ``checked``, always;
    ``trusted``, never; ``auto``, where neither anything exact nor the same model on a finer
    grid is compared with, and the cells are even numbers of at least 8."""
    reference: Literal[
        "none",
        "riemann",
        "free_flight",
        "couette",
        "fourier",
        "shock",
        "vortex",
        "sedov",
        "noh",
        "rest",
        "rayleigh_taylor",
        "taylor_green",
        "small_waves",
    ] = "none"
    """Exact or reference solution that the result is compared with; ``small_waves``: what
    the moment models of ``compare`` do to small waves, against the BGK equation."""

    @model_validator(mode="before")
    @classmethod
    def _in_units(cls, data: Any) -> Any:
        """Convert quantities in SI units where the table ``si`` is right."""
        if not isinstance(data, dict) or data.get("si") is None:
            return data
        try:
            si = SiSection.model_validate(data["si"])
        except ValidationError:
            return data  # which the check of the key will say
        return converted(data, si)

    @model_validator(mode="after")
    def _fits(self) -> "GasScenario":
        dim = len(self.grid.cells)
        called = [probe.name for probe in self.probes]
        for number, name in enumerate(called):
            if name in called[:number]:
                raise ValueError(f"probes.{number}.name: {name} stands twice")
        usual = FlowTime.model_fields["samples"].default  # a resolved file says every key
        if not called and self.time.samples != usual:
            raise ValueError("time.samples: there are no probes that would be recorded")
        if not dim == len(self.grid.lower) == len(self.grid.upper):
            raise ValueError("grid: cells, lower and upper must have the same length")
        models = (self.model, *self.compare)
        check_models(models, dim, self.gas)
        if self.time.cfl and all(isinstance(m, KineticModel) for m in models):
            raise ValueError(
                "time.cfl: the step of model.kind = kinetic follows from its velocities "
                "alone; set model.cfl"
            )
        known = (self.reference, getattr(self.initial, "reference", "none"))
        if hasattr(self.initial, "knudsen_numbers") and "knudsen" in given(self):
            raise ValueError(
                f"knudsen: initial.kind = {self.initial.kind} brings its own Knudsen "
                "numbers; leave it out"
            )
        if self.time.compared and not self.compare:
            raise ValueError("time.compared: there is no model in compare")
        if self.reference == "small_waves" and self.gas.dimension != 1:
            raise ValueError("reference: small_waves needs gas.dimension = 1")
        if self.time.newton and any(
            getattr(m, "name", "") == "newton" for m in self.compare
        ):
            raise ValueError("compare.name: newton is the steady state of time.newton")
        moving = [name for name in known if name not in STEADY]
        named = "steady" if self.time.steady is not None else "newton"
        if (self.time.steady is not None or self.time.newton) and moving:
            raise ValueError(
                f"time.{named}: the exact solution {moving[0]} belongs to time.end, which "
                f"must be reached; leave time.{named} out"
            )
        fitting = getattr(self.initial, "dimensions", (1, 2, 3))
        if dim not in fitting:
            allowed = " or ".join(f"{d}D" for d in fitting)
            raise ValueError(f"initial.kind = {self.initial.kind} needs a {allowed} grid")
        return self


class MaxwellGas(Section):
    """Molecules without a grid in space."""

    dimension: Literal[2, 3] = 2
    """Velocity dimensions."""


class MaxwellModel(Section):
    """The Boltzmann equation of Maxwell molecules by the fast spectral method."""

    kind: Literal["maxwell_molecules"]
    nodes: int = Field(default=40, ge=8, le=128)
    """Velocities per axis."""
    limit: float = Field(default=8.0, ge=4, le=20)
    """Half width of the velocity box, unit sqrt(R T0)."""
    angles: int = Field(default=8, ge=2, le=64)
    """Directions of the spectral quadrature (per angle in 3D)."""
    time_step: float = Field(default=0.05, gt=0, le=0.5)
    """Step of the fourth-order Runge-Kutta scheme; stable up to about 2."""


class RelaxationScenario(Common):
    """A homogeneous gas of Maxwell molecules relaxes; time in mean collision times."""

    job: ClassVar[str] = "scalebridge.engine.jobs.gas:assemble"
    kind: Literal["gas"]
    model: MaxwellModel
    """The model."""
    gas: MaxwellGas = MaxwellGas()
    """The gas."""
    time: TimeSection = TimeSection(end=4.0, frames=40)
    """Duration."""
