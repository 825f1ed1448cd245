"""What a scenario of molecular dynamics may say."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...models.potentials.fields import Positive
from ..md.ensembles import ENSEMBLES, Temperatures
from ..md.initial import STRUCTURES, FileStructure
from ..md.interactions import (
    INTERACTIONS,
    LennardJonesInteraction,
    StillingerWeberInteraction,
    Symbol,
)
from ..md.outputs import (
    AdfOutput,
    Displacement,
    RdfOutput,
    StressCorrelation,
    VelocityCorrelation,
)
from .base import Common, Section, choice

LennardJonesSection = LennardJonesInteraction
StillingerWeberSection = StillingerWeberInteraction


class RunSection(Section):
    """How long, and in what steps."""

    steps: Annotated[int, Field(ge=0, le=10**10)]
    """Number of time steps."""
    timestep: Annotated[float, Field(ge=1e-6, le=1000)]
    """fs (or reduced)."""
    temperature: Annotated[float, Field(ge=0, le=1e6)] | Temperatures | None = None
    """Of the initial velocities, K (or reduced); default: the bath's first, or those of
    the structure file, or 0."""
    settle: Annotated[int, Field(ge=0)] | None = None
    """Steps of Langevin dynamics before step 0, at the initial temperature and in the cell
    as it is. They give every vibration a phase of its own, which a bath that scales all
    velocities alike does not. Default: none with langevin, without a bath, or where the
    structure file's velocities are kept; else ten relaxation times of the bath, but not
    more than a quarter of the run. A run that is extended later began as the short one
    did; name a number to have the same beginning for any length."""
    skin: Positive | None = None
    """Margin of the neighbour list, angstrom (or reduced); default 0.5 (0.4 reduced)."""
    report_every: Annotated[int, Field(ge=1)] = 100
    """Steps between lines of the log."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 1000
    """Steps between checkpoints; 0 for one at the end."""
    largest_force: Positive = 1000.0
    """The run is stopped above this force, eV/angstrom (or reduced)."""
    fixed: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Atoms (numbers in the structure) that do not move; not with npt."""
    trusted_deviation: Positive = 1.0
    """The summary says where a committee disagreed by more than this, eV/angstrom."""


class OutputSection(Section):
    """What is kept."""

    trajectory_every: Annotated[int, Field(ge=0)] = 100
    """Steps between frames of the trajectory; 0 for none."""
    velocities: bool = False
    """Keep momenta in the trajectory."""
    forces: bool = False
    """Keep forces in the trajectory."""
    thermo_every: Annotated[int, Field(ge=1)] = 10
    """Steps between samples of temperature, energies and pressure."""
    average_from: Annotated[int, Field(ge=0)] = 0
    """First step that enters the averages of the summary."""
    rdf: tuple[RdfOutput, ...] = ()
    """Radial distribution functions."""
    adf: tuple[AdfOutput, ...] = ()
    """Angular distribution functions and coordination numbers."""
    displacement: Displacement | None = None
    """Mean squared displacement and, from its slope, the diffusion coefficient."""
    velocity: VelocityCorrelation | None = None
    """Velocity autocorrelation and vibrational density of states."""
    stress: StressCorrelation | None = None
    """Autocorrelation of the shear stress and, from its integral, the viscosity."""
    extxyz: bool = False
    """Write the trajectory as trajectory.extxyz, too (of every replica a file)."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for key in ("rdf", "adf"):
            names = [item.name for item in getattr(self, key)]
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: names must differ")
        return self

    def sampled(self) -> Iterator[tuple[str, Any]]:
        """Yield the key and the part of everything that is averaged."""
        for key in ("rdf", "adf"):
            yield from ((f"output.{key}", item) for item in getattr(self, key))
        for key in ("displacement", "velocity", "stress"):
            if (item := getattr(self, key)) is not None:
                yield f"output.{key}", item


class MdScenario(Common):
    """Molecular dynamics of one structure, or of many replicas of it at once."""

    job: ClassVar[str] = "scalebridge.engine.jobs.md:assemble"
    changeable: ClassVar[tuple[str, ...]] = (
        "run.steps", "run.report_every", "run.checkpoint_every", "run.largest_force",
        "run.trusted_deviation", "output.trajectory_every", "output.thermo_every",
    )  # fmt: skip
    kind: Literal["md"]
    units: Literal["metal", "lj"] = "metal"
    """metal: eV, angstrom, amu, K, fs, GPa; lj: reduced units."""
    structure: choice(STRUCTURES)  # type: ignore[valid-type]
    """Where the atoms begin."""
    potential: choice(INTERACTIONS)  # type: ignore[valid-type]
    """What acts between them."""
    ensemble: choice(ENSEMBLES)  # type: ignore[valid-type]
    """How they move."""
    run: RunSection
    """Steps and reports."""
    output: OutputSection = OutputSection()
    """What is kept."""
    replicas: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Independent systems, with seeds seed, seed + 1, ..."""

    @model_validator(mode="after")
    def _replicas_fit(self) -> Self:
        for name, given in (
            ("ensemble.temperature", getattr(self.ensemble, "temperature", None)),
            ("run.temperature", self.run.temperature),
        ):
            if isinstance(given, tuple) and len(given) not in (1, self.replicas):
                raise ValueError(
                    f"{name} has {len(given)} values for {self.replicas} replicas"
                )
        return self

    @model_validator(mode="after")
    def _settle_fits(self) -> Self:
        if self.run.settle and not hasattr(self.ensemble, "relaxation"):
            raise ValueError("run.settle: goes with a bath, and nve has none")
        return self

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        mass = getattr(self.structure, "mass", None)
        if self.units == "lj" and not getattr(self.potential, "reduced", False):
            raise ValueError("units: lj goes with a lennard_jones potential only")
        if self.units == "lj" and self.structure.kind != "file" and mass is None:
            raise ValueError("structure.mass: reduced units need one (1.0)")
        return self


__all__ = [
    "FileStructure",
    "LennardJonesSection",
    "MdScenario",
    "OutputSection",
    "StillingerWeberSection",
    "Symbol",
]
