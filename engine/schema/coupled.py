"""What a scenario of a gas coupled to molecular dynamics may say."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from .base import Common, Section

Positive = Annotated[float, Field(gt=0)]


class MoleculeSection(Section):
    """Lennard-Jones spheres."""

    epsilon: Positive = 124.0
    """Depth of the well over the Boltzmann constant, K (argon, from the viscosity of the
    gas: Hirschfelder, Curtiss, Bird 1954, table I-A)."""
    sigma: Positive = 3.418
    """Zero of the potential, angstrom (same source)."""
    mass: Positive = 39.948
    """amu."""


class UpstreamSection(Section):
    """The gas ahead of the shock."""

    temperature: Annotated[float, Field(ge=40, le=5000)] = 300.0
    """K."""
    pressure: Positive = 6.67
    """Pa."""
    mach: Annotated[float, Field(gt=1, le=8)] = 3.0
    """Mach number."""


class ShockGrid(Section):
    """Cells and velocities."""

    cells: Annotated[int, Field(ge=16, le=4096)] = 160
    """Cells along x."""
    half_width: Annotated[float, Field(ge=5, le=200)] = 20.0
    """Of the box, in mean free paths ahead (of the guess, see ``exponent``)."""
    nodes: Annotated[int, Field(ge=16, le=512)] = 72
    """Velocities."""
    lower: float = -10.0
    """Slowest velocity, unit sqrt(R T ahead)."""
    upper: float = 13.0
    """Fastest velocity."""


class CollisionsSection(Section):
    """One simulation of molecular dynamics: colliding pairs at one temperature."""

    pairs: Annotated[int, Field(ge=16, le=65536)] = 512
    """Pairs of a replica."""
    replicas: Annotated[int, Field(ge=4, le=64)] = 8
    """Independent repetitions, from which the error bar follows."""
    noise: Annotated[float, Field(gt=0, lt=0.5)] = 0.004
    """Relative standard error that an answer is expected to have."""


class CacheSection(Section):
    """What is remembered of the rates: a Gaussian process in ln T."""

    tolerance: Annotated[float, Field(gt=0, lt=0.5)] = 0.006
    """Relative standard deviation above which molecular dynamics is asked."""
    amplitude: Positive = 0.1
    """Departure of the viscosity from a power law that is thought possible, relative."""
    length: Positive = 1.0
    """In ln T, over which the departure changes."""


class TableSection(Section):
    """The sequential model: a table made before the flow is known."""

    lowest: Positive = 100.0
    """K."""
    highest: Positive = 5000.0
    """K."""

    @model_validator(mode="after")
    def _ordered(self) -> "TableSection":
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest:g} must lie below {self.highest:g}")
        return self


class ShockTime(Section):
    """How long, and how often a frame is kept."""

    end: Positive = 40.0
    """Final time, unit (mean free path ahead) / sqrt(R T ahead)."""
    frames: Annotated[int, Field(ge=1, le=500)] = 20
    """Frames written."""


class CoupledShockScenario(Common):
    """A shock whose kinetic solver asks molecular dynamics for its collision rates."""

    job: ClassVar[str] = "scalebridge.engine.jobs.coupled:assemble"
    changeable: ClassVar[tuple[str, ...]] = ("workers",)
    kind: Literal["coupled"]
    molecules: MoleculeSection = MoleculeSection()
    """What collides."""
    upstream: UpstreamSection = UpstreamSection()
    """The gas ahead."""
    grid: ShockGrid = ShockGrid()
    """Discretisation."""
    collisions: CollisionsSection = CollisionsSection()
    """The micro-scale model."""
    cache: CacheSection = CacheSection()
    """What is remembered."""
    table: TableSection = TableSection()
    """What it is compared with."""
    exponent: Annotated[float, Field(gt=0, le=1.5)] = 0.81
    """Of the power law mu ~ T^omega that is run for comparison, a guess without molecular
    dynamics (argon: Bird 1994, table A1). Its viscosity ahead sets the unit of length."""
    time: ShockTime = ShockTime()
    """Duration."""
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that simulate collisions; 0 for this process."""
