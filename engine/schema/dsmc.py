"""Scenario files of direct simulation Monte Carlo; units as in all of ``engine.gas``."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..gas.collisions.published import PUBLISHED
from ..gas.collisions.species import SPECIES
from ..gas.initial import INITIAL
from .base import Common, Section, choice
from .box import BoundarySection, GridSection, Positive, TimeSection


class HardSpheres(Section):
    """Hard spheres, ``mu = Kn sqrt(T)``."""

    kind: Literal["hard_spheres"] = "hard_spheres"


class VariableSpheres(Section):
    """Variable hard or soft spheres, ``mu = Kn T^omega``: of a gas, or of own numbers."""

    kind: Literal["variable_spheres"]
    of: Literal[tuple(SPECIES)] | None = None  # type: ignore[valid-type]
    """A gas of the table; instead of omega and alpha."""
    omega: float | None = Field(default=None, ge=0.5, le=1.0)
    """Exponent of the viscosity, 0.5 (hard spheres) to 1 (Maxwell molecules)."""
    alpha: float | None = Field(default=None, ge=1.0, le=3.0)
    """Exponent of the scattering angle; 1: isotropic (variable hard spheres)."""
    rotation: float | None = Field(default=None, ge=3.5, le=1000.0)
    """Collisions in which the rotation of a diatomic gas relaxes; needs one."""

    @model_validator(mode="after")
    def _one_source(self) -> "VariableSpheres":
        if (self.of is None) == (self.omega is None):
            raise ValueError("give of (a gas of the table) or omega, one of the two")
        if self.of is not None and self.alpha is not None:
            raise ValueError("alpha: the table gives it; leave out of, or alpha")
        if self.rotation is not None and self.of is not None and not self.diatomic:
            raise ValueError(f"rotation: {self.of} has one atom")
        return self

    @property
    def exponent(self) -> float:
        """Omega."""
        return SPECIES[self.of].omega if self.of else self.omega  # type: ignore[return-value]

    @property
    def angle(self) -> float:
        """Alpha."""
        return SPECIES[self.of].alpha if self.of else self.alpha or 1.0

    @property
    def diatomic(self) -> bool:
        """Whether molecules rotate."""
        if self.of is not None:
            return SPECIES[self.of].atoms == 2
        return self.rotation is not None

    @property
    def relaxation(self) -> float:
        """Collisions in which the rotation relaxes."""
        return self.rotation or 5.0


class PotentialMolecules(Section):
    """Molecules that scatter as a pair potential says, and have its viscosity."""

    kind: Literal["potential"]
    of: Literal[tuple(PUBLISHED)] | None = None  # type: ignore[valid-type]
    """A published potential; instead of epsilon and sigma."""
    epsilon: Positive | None = None
    """Depth of a Lennard-Jones well, K."""
    sigma: Positive | None = None
    """Distance where it is zero, angstrom."""
    temperature: Positive
    """Of the gas at reference temperature 1, K."""

    @model_validator(mode="after")
    def _one_source(self) -> "PotentialMolecules":
        own = (self.epsilon is not None, self.sigma is not None)
        if own[0] != own[1] or own[0] == (self.of is not None):
            raise ValueError(
                "give of (a published potential), or epsilon and sigma (Lennard-Jones)"
            )
        return self


Molecule = Annotated[
    HardSpheres | VariableSpheres | PotentialMolecules, Field(discriminator="kind")
]


class DsmcModel(Section):
    """Particles that collide in their cells."""

    kind: Literal["dsmc"]
    particles: float = Field(gt=0, le=1e7)
    """In a cell, at density 1."""
    step: float = Field(default=0.2, gt=0, le=1)
    """Time step over the shorter of mean collision time and transit of a cell, at the
    densest and hottest of the start and the boundaries."""
    ensembles: int = Field(default=1, ge=1, le=4096)
    """Independent repetitions, over which fields are averaged."""
    capacity: float = Field(default=1.5, gt=1, le=20)
    """Places for particles over those at the start."""


class DsmcTime(TimeSection):
    """How long, how often a frame is kept, and from when on the flow is steady."""

    average_from: float | None = Field(default=None, ge=0)
    """Time from which on all steps are averaged, with error bars; without it each frame is
    that of an instant."""
    sample_every: int = Field(default=4, ge=1, le=1000)
    """Steps between two that are averaged."""
    blocks: int = Field(default=20, ge=4, le=1000)
    """Parts of the average, whose scatter gives the error bars."""

    @model_validator(mode="after")
    def _ordered(self) -> "DsmcTime":
        if self.average_from is not None and self.average_from >= self.end:
            raise ValueError(
                f"average_from: {self.average_from:g} must lie before end, {self.end:g}"
            )
        return self


class Goals(Section):
    """How exact the average has to be."""

    density: float = Field(default=0.01, gt=0)
    """Statistical error of the density, relative, root mean square over the cells."""
    resolution: float = Field(default=0.02, gt=0)
    """What cells and time step add to the transport coefficients, relative."""
    particles: float = Field(default=8.0, gt=0)
    """Fewest particles in a cell, of all ensembles' mean."""


class DsmcScenario(Common):
    """A gas of particles: the Boltzmann equation itself, with statistical errors."""

    job: ClassVar[str] = "scalebridge.engine.jobs.dsmc:assemble"

    kind: Literal["gas"]
    grid: GridSection
    """Cells in space."""
    boundaries: BoundarySection = BoundarySection()
    """Boundaries."""
    gas: Molecule = HardSpheres()
    """How molecules meet."""
    knudsen: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=256)] = (1.0,)
    """Knudsen numbers mu0 / (rho0 sqrt(R T0) L); one problem for each, all in one run."""
    model: DsmcModel
    """The particles."""
    initial: choice(INITIAL)  # type: ignore[valid-type]
    """State at the start."""
    time: DsmcTime
    """Duration."""
    goals: Goals = Goals()
    """How exact the average has to be."""
    reference: Literal["none", "couette", "fourier", "shock"] = "none"
    """Exact or reference solution that the result is compared with."""

    @model_validator(mode="after")
    def _fits(self) -> "DsmcScenario":
        dim = len(self.grid.cells)
        if not dim == len(self.grid.lower) == len(self.grid.upper):
            raise ValueError("grid: cells, lower and upper must have the same length")
        fitting: Any = getattr(self.initial, "dimensions", (1, 2, 3))
        if dim not in fitting:
            allowed = " or ".join(f"{d}D" for d in fitting)
            raise ValueError(f"initial.kind = {self.initial.kind} needs a {allowed} grid")
        if self.reference != "none" and self.time.average_from is None:
            raise ValueError(
                f"reference: {self.reference} needs time.average_from; instants are noisy"
            )
        return self
