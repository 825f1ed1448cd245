"""Scenario files of direct simulation Monte Carlo; units as in all of ``engine.gas``."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..gas.collisions.molecules import Spheres
from ..gas.collisions.published import PUBLISHED
from ..gas.collisions.species import REFERENCE_TEMPERATURE, SPECIES
from ..gas.forcing import Force
from ..gas.initial import INITIAL
from ..gas.initial.painted import Quantity, check_texts
from .base import Common, Section, choice
from .box import BoundarySection, GridSection, Positive, SolidSection, TimeSection


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


Exponent = Annotated[float, Field(ge=0.5, le=1.0)]
Angle = Annotated[float, Field(ge=1.0, le=3.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NAME = r"^[a-z][a-z0-9]{0,31}$"


class MixedSpecies(Section):
    """One of the gases of a mixture: of the table, or of own numbers."""

    name: Annotated[str, Field(pattern=NAME)]
    """In fields: ``density_NAME``, ``velocity_NAME``, ``temperature_NAME``."""
    of: Literal[tuple(SPECIES)] | None = None  # type: ignore[valid-type]
    """A gas of the table, of single atoms; instead of mass, diameter, omega and alpha."""
    mass: Positive | None = None
    """Of a molecule; the unit drops out, but is that of all (amu beside gases of the
    table)."""
    diameter: Positive | None = None
    """At reference temperature 1; the unit drops out (angstrom beside gases of the
    table)."""
    omega: Exponent = 0.5
    """Exponent of its viscosity alone; 0.5: hard spheres."""
    alpha: Angle = 1.0
    """Exponent of the scattering angle; 1: isotropic."""
    fraction: Share
    """Of the molecules, in the reference composition: that of the start, where ``start``
    is not given, and of reservoirs that ``inflow`` does not name."""
    start: Quantity | None = None
    """Fraction at the start, where it is another: an expression of x, y and z."""

    @model_validator(mode="after")
    def _one_source(self) -> "MixedSpecies":
        own = (self.mass is not None, self.diameter is not None)
        if own[0] != own[1] or own[0] == (self.of is not None):
            raise ValueError("give of (a gas of the table), or mass and diameter")
        if self.of is not None and (self.omega, self.alpha) != (0.5, 1.0):
            raise ValueError("omega, alpha: the table gives them; leave them out")
        if self.of is not None and SPECIES[self.of].atoms > 1:
            raise ValueError(
                f"of: {self.of} rotates, which mixtures do not know; give mass and "
                "diameter for a gas that does not rotate"
            )
        check_texts(start=self.start)
        return self

    def spheres(self, kelvin: float) -> Spheres:
        """Return how its molecules meet, the diameter in its unit."""
        if self.of is None:
            return Spheres(float(self.diameter or 0.0), self.omega, self.alpha)
        gas = SPECIES[self.of]
        # sigma ~ T^(1/2 - omega)
        cooler = (REFERENCE_TEMPERATURE / kelvin) ** (0.5 * (gas.omega - 0.5))
        return Spheres(gas.diameter() * 1e10 * cooler, gas.omega, gas.alpha)

    @property
    def molecule(self) -> float:
        """Its mass."""
        return SPECIES[self.of].mass if self.of else float(self.mass or 0.0)


class UnlikePair(Section):
    """How molecules of two species meet, in place of the means of both."""

    between: tuple[str, str]
    """Names of the species."""
    diameter: Positive | None = None
    """In the unit of the species."""
    omega: Exponent | None = None
    """Exponent of the pair."""
    alpha: Angle | None = None
    """Exponent of the scattering angle."""


class Mixture(Section):
    """Several gases of single atoms; ``knudsen`` is the viscosity of the first one alone.

    That is, of as many molecules as the reference density has. Masses are over the mean
    mass of the reference composition, so a gas of that composition has density, pressure
    and temperature as a single gas.
    """

    kind: Literal["mixture"]
    species: Annotated[tuple[MixedSpecies, ...], Field(min_length=2, max_length=8)]
    """The gases."""
    pairs: tuple[UnlikePair, ...] = ()
    """Unlike molecules; without one their diameter, omega and alpha are means."""
    temperature: Positive = REFERENCE_TEMPERATURE
    """Of the gas at reference temperature 1, K: for diameters of gases of the table."""
    inflow: dict[str, tuple[Share, ...]] = Field(default_factory=dict)
    """Fractions of all species in the gas of a reservoir, by its end of the box:
    ``inflow.x_low = [0.2, 0.8]``."""

    exponent: ClassVar[float] = 0.5

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the species."""
        return tuple(s.name for s in self.species)

    @property
    def fractions(self) -> tuple[float, ...]:
        """The reference composition."""
        return tuple(s.fraction for s in self.species)

    @property
    def masses(self) -> tuple[float, ...]:
        """Masses over the mean."""
        mean = sum(s.molecule * s.fraction for s in self.species)
        return tuple(s.molecule / mean for s in self.species)

    @model_validator(mode="after")
    def _whole(self) -> "Mixture":
        for number, name in enumerate(self.names):
            if name in self.names[:number]:
                raise ValueError(f"species.{number}.name: {name} stands twice")
        given = {"species.*.fraction": self.fractions}
        for key, parts in self.inflow.items():
            if key not in [f"{a}_{end}" for a in "xyz" for end in ("low", "high")]:
                raise ValueError(f"inflow: {key} is no end of the box, such as x_low")
            if len(parts) != len(self.species):
                raise ValueError(
                    f"inflow.{key}: {len(parts)} fractions of {len(self.names)}"
                )
            given[f"inflow.{key}"] = parts
        for key, parts in given.items():
            if not math.isclose(sum(parts), 1.0, abs_tol=1e-6):
                raise ValueError(f"{key}: the sum is {sum(parts):g}; must be 1")
        seen: set[frozenset[str]] = set()
        for number, pair in enumerate(self.pairs):
            both = frozenset(pair.between)
            if len(both) != 2 or not both <= set(self.names):
                raise ValueError(
                    f"pairs.{number}.between: {list(pair.between)}; two different names of "
                    f"{', '.join(self.names)} are allowed"
                )
            if both in seen:
                raise ValueError(f"pairs.{number}.between: the pair stands twice")
            seen.add(both)
        return self

    def spheres(self) -> tuple[Spheres, ...]:
        """Return like molecules of every species."""
        return tuple(s.spheres(self.temperature) for s in self.species)

    def unlike(self) -> dict[tuple[int, int], Spheres]:
        """Return the pairs that are given."""
        like, found = self.spheres(), {}
        for pair in self.pairs:
            i, j = sorted(self.names.index(name) for name in pair.between)
            usual = like[i].with_(like[j])
            found[i, j] = Spheres(
                usual.diameter if pair.diameter is None else pair.diameter,
                usual.omega if pair.omega is None else pair.omega,
                usual.alpha if pair.alpha is None else pair.alpha,
            )
        return found


Molecule = Annotated[
    HardSpheres | VariableSpheres | PotentialMolecules | Mixture,
    Field(discriminator="kind"),
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
    partners: int = Field(default=1, ge=1, le=64)
    """Partners that are drawn for a collision, of which the nearest is taken: many
    particles in a cell then need no smaller cells (virtual sub-cells)."""
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
    force: Force | None = None
    """Body force on all molecules."""
    solids: Annotated[tuple[SolidSection, ...], Field(max_length=64)] = ()
    """Bodies in the flow; molecules meet their true surface."""
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
        if self.reference != "none" and (self.solids or self.force is not None):
            raise ValueError(
                f"reference: {self.reference} knows neither solids nor forces; leave it out"
            )
        if self.reference != "none" and isinstance(self.gas, Mixture):
            raise ValueError(f"reference: {self.reference} knows one gas; leave it out")
        if self.reference != "none" and self.time.average_from is None:
            raise ValueError(
                f"reference: {self.reference} needs time.average_from; instants are noisy"
            )
        return self
