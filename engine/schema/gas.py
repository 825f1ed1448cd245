"""Scenario files of gas dynamics. Everything is non-dimensional, see ``engine.gas``."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ...models.parts import Family
from ..gas.closures.parts import MOMENT_CLOSURES, Hyperbolic
from ..gas.collisions.published import PUBLISHED
from ..gas.forcing import Force
from ..gas.initial import INITIAL
from ..gas.probes import PROBES
from ..gas.si import SiSection, converted
from .base import Common, InputPath, Section, choice, given
from .box import (
    BoundarySection,
    GridSection,
    Positive,
    SolidSection,
    Speed,
    TimeSection,
)


class GasSection(Section):
    """A gas whose viscosity follows a law."""

    kind: Literal["law"] = "law"
    dimension: Literal[1, 2, 3] = 3
    """Velocity dimensions D; gamma = (D + 2) / D."""
    prandtl: float = Field(default=1.0, ge=0.01, le=100)
    """Prandtl number; 1 for BGK, 2/3 for a monatomic gas."""
    viscosity: Literal["power_law", "constant_time"] = "power_law"
    """power_law: mu = Kn T^omega; constant_time: relaxation time tau = Kn."""
    omega: float = Field(default=1.0, ge=0, le=2)
    """Exponent of the power law; 0.5 hard spheres, 1 Maxwell molecules."""


class TransportGas(Section):
    """A monatomic gas whose viscosity and Prandtl number follow tables over temperature.

    The tables follow from a pair potential (Chapman and Enskog's theory to third order), or
    are read from a file. The Knudsen number is that at temperature 1.
    """

    kind: Literal["transport"]
    of: Literal[tuple(PUBLISHED)] | None = None  # type: ignore[valid-type]
    """A published potential; slow atoms scatter by quantum mechanics."""
    epsilon: Positive | None = None
    """Depth of a Lennard-Jones well, K; instead of ``of``."""
    file: InputPath | None = None
    """A text file with columns T (K), mu (any unit), Pr; instead of ``of``."""
    temperature: Positive
    """Of the gas at reference temperature 1, K."""
    range: tuple[Positive, Positive] | None = None
    """Lowest and highest temperature of the table, K; without it from half the lowest to
    twice the highest that start and boundaries can give, or all of the file."""
    prandtl: float | None = Field(default=None, ge=0.01, le=100)
    """Constant, in place of the table's; BGK asks for 1."""

    dimension: ClassVar[int] = 3

    @model_validator(mode="after")
    def _one_source(self) -> "TransportGas":
        if sum(x is not None for x in (self.of, self.epsilon, self.file)) != 1:
            raise ValueError(
                "give of (a published potential), epsilon (Lennard-Jones) or file, one of "
                "the three"
            )
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range: {self.range[0]:g} must lie below {self.range[1]:g}")
        if self.range is not None and self.file is not None:
            raise ValueError("range: the file gives it; leave it out")
        return self


def _gas_kind(value: Any) -> Any:
    return {"kind": "law", **value} if isinstance(value, dict) else value


AnyGas = Annotated[
    Annotated[GasSection | TransportGas, Field(discriminator="kind")],
    BeforeValidator(_gas_kind),
]
"""A gas by a law of viscosity (the default), or by tables."""


class ModelSection(Section):
    """What every model may be told."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]+$")
    """What it is called in the results."""
    refine: int = Field(default=1, ge=1, le=16)
    """Cells per cell of the grid along each axis (a reference on a finer grid)."""


class KineticModel(ModelSection):
    """Discrete velocities with a BGK-type collision term."""

    kind: Literal["kinetic"]
    collision: Literal["bgk", "es", "shakhov"] = "bgk"
    """Collision model."""
    nodes: Annotated[
        tuple[Annotated[int, Field(ge=4, le=512)], ...], Field(min_length=1, max_length=3)
    ]
    """Velocities along each resolved axis; other directions of the gas are reduced."""
    lower: tuple[Speed, ...]
    """Lower ends of the velocity axes, unit sqrt(R T0)."""
    upper: tuple[Speed, ...]
    """Upper ends."""
    cfl: float = Field(default=0.45, gt=0, le=0.5)
    """Courant number of the fastest velocity; over 0.5 the scheme is not positive."""


class EulerModel(ModelSection):
    """Euler equations."""

    kind: Literal["euler"]
    scheme: Literal["first", "muscl", "weno5"] = "muscl"
    """Reconstruction."""
    gamma: float | None = Field(default=None, gt=1)
    """Ratio of specific heats; without it that of the gas, (D + 2) / D."""
    cfl: float = Field(default=0.3, gt=0, le=1)
    """Courant number at the start; the step is fixed, so leave room for faster waves."""


class NsfModel(ModelSection):
    """Navier-Stokes-Fourier equations with slip and jump at walls."""

    kind: Literal["nsf"]
    scheme: Literal["first", "muscl", "weno5"] = "muscl"
    """Reconstruction."""
    cfl: float = Field(default=0.3, gt=0, le=1)
    """Courant number at the start; viscosity may ask for a shorter step, which is taken."""


class HermiteModel(ModelSection):
    """Hyperbolic moment equations (HME) with a closure to choose."""

    kind: Literal["hermite"]
    order: int | None = Field(default=None, ge=3, le=16)
    """Highest moment M; M + 1 equations for D = 1, (M + D)! / (M! D!) for any D. Without it
    that of a learned closure, else 5."""
    closure: choice(MOMENT_CLOSURES) = Hyperbolic()  # type: ignore[valid-type]
    """Closure of the last equations: hyperbolic, grad, realizable, or a learned one."""
    upwind: Literal["roe", "rusanov"] | None = None
    """Dissipation of each wave (roe), or that of the fastest (rusanov, more robust). If not
    said rusanov for D = 1 and an analytic closure, else roe."""
    limiter: Literal["van_leer", "koren"] | None = None
    """Of the reconstruction. Without it koren with a learned closure, as it was trained,
    else van_leer."""
    cfl: float = Field(default=0.3, gt=0, le=1)
    """Courant number of the fastest signal at the start."""


class Grad13Model(ModelSection):
    """Grad's thirteen moments of a 3D gas; complex speeds are reported."""

    kind: Literal["grad13"]
    cfl: float = Field(default=0.3, gt=0, le=1)
    """Courant number of the fastest signal at the start."""


GAS_MODELS = Family(
    "gas_model",
    __name__,
    {
        kind: f"{__name__}:{name}"
        for kind, name in (
            ("kinetic", "KineticModel"), ("euler", "EulerModel"), ("nsf", "NsfModel"),
            ("hermite", "HermiteModel"), ("grad13", "Grad13Model"),
        )
    },
)  # fmt: skip
"""Models of a flow; a package from outside adds ``gas_model.KIND``: a part with a ``cfl``
and ``equations(gas)`` (:class:`..gas.scheme.finite_volume.Equations`)."""

Model = choice(GAS_MODELS)


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
        for number, model in enumerate(models):
            self._check(model, dim, f"compare.{number - 1}" if number else "model")
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

    def _check(self, model: Any, dim: int, key: str) -> None:
        if isinstance(model, KineticModel):
            axes = len(model.nodes)
            if not axes == len(model.lower) == len(model.upper):
                raise ValueError(f"{key}: nodes, lower and upper must have the same length")
            for low, high in zip(model.lower, model.upper, strict=True):
                if low >= high:
                    raise ValueError(
                        f"{key}.lower: {low:g} must lie below {key}.upper, {high:g}"
                    )
            if not dim <= axes <= self.gas.dimension:
                raise ValueError(
                    f"{key}.nodes: {axes} velocity axes; at least the {dim} of space and "
                    f"at most gas.dimension = {self.gas.dimension}"
                )
        if isinstance(model, EulerModel) and model.gamma is not None:
            own = (self.gas.dimension + 2) / self.gas.dimension
            kinetic = any(m.kind != "euler" for m in (self.model, *self.compare))
            if kinetic and abs(model.gamma - own) > 1e-9:
                raise ValueError(
                    f"{key}.gamma: {model.gamma} contradicts gas.dimension = "
                    f"{self.gas.dimension}, whose gamma is {own:.6g}; leave it out"
                )
        if isinstance(model, HermiteModel):
            if dim > self.gas.dimension:
                raise ValueError(
                    f"{key}.kind = hermite needs gas.dimension at least that of the grid"
                )
            if model.closure.kind == "grad" and self.gas.dimension != 1:
                raise ValueError(f'{key}.closure = "grad" needs gas.dimension = 1')
            if self.gas.dimension == 1 and self.gas.prandtl != 1.0:
                raise ValueError(f"{key}.kind = hermite: gas.prandtl must be 1 for D = 1")
        if isinstance(model, Grad13Model) and self.gas.dimension != 3:
            raise ValueError(f"{key}.kind = grad13 needs gas.dimension = 3")


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
