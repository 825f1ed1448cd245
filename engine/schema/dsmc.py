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
from .base import Common, InputPath, Section, choice
from .box import BoundarySection, GridSection, Positive, SolidSection, TimeSection
from .flow import GasSection, Model, check_models


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


class PairPotential(Section):
    """The energy of two atoms over their distance."""

    epsilon: Positive | None = None
    """Depth of a Lennard-Jones well, K."""
    sigma: Positive | None = None
    """Distance where it is zero, angstrom."""
    file: InputPath | None = None
    """A text file with columns r (angstrom), energy (K); instead of epsilon and sigma.
    Beyond its last row the energy falls as ``r^-6``."""

    choices: ClassVar[str] = "epsilon and sigma (Lennard-Jones), or file"

    @property
    def published(self) -> str | None:
        """A key of the published potentials."""
        return None

    @property
    def well(self) -> tuple[float, float] | None:
        """Epsilon and sigma of a Lennard-Jones potential."""
        if self.epsilon is None or self.sigma is None:
            return None
        return self.epsilon, self.sigma

    @model_validator(mode="after")
    def _one_source(self) -> "PairPotential":
        half = (self.epsilon is None) != (self.sigma is None)
        given = sum(x is not None for x in (self.published, self.well, self.file))
        if half or given != 1:
            raise ValueError(f"give {self.choices}")
        return self


class AtomPotential(PairPotential):
    """The energy of two like atoms over their distance."""

    of: Literal[tuple(PUBLISHED)] | None = None  # type: ignore[valid-type]
    """A published potential; instead of epsilon and sigma."""

    choices: ClassVar[str] = f"of (a published potential), {PairPotential.choices}"

    @property
    def published(self) -> str | None:
        """A key of the published potentials."""
        return self.of


class PotentialMolecules(AtomPotential):
    """Molecules that scatter as a pair potential says, and have its viscosity."""

    kind: Literal["potential"]
    temperature: Positive
    """Of the gas at reference temperature 1, K."""


Exponent = Annotated[float, Field(ge=0.5, le=1.0)]
Angle = Annotated[float, Field(ge=1.0, le=3.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NAME = r"^[a-z][a-z0-9]{0,31}$"


class Part(Section):
    """One of the gases of a mixture."""

    name: Annotated[str, Field(pattern=NAME)]
    """In fields: ``density_NAME``, ``fraction_NAME`` (of the molecules), ``velocity_NAME``,
    ``temperature_NAME``."""
    mass: Positive | None = None
    """Of a molecule; the unit drops out, but is that of all (amu beside gases of a
    table)."""
    fraction: Share
    """Of the molecules, in the reference composition: that of the start, where ``start``
    is not given, and of reservoirs that ``inflow`` does not name."""
    start: Quantity | None = None
    """Fraction at the start, where it is another: an expression of x, y and z."""

    @model_validator(mode="after")
    def _readable(self) -> "Part":
        check_texts(start=self.start)
        return self

    @property
    def molecule(self) -> float:
        """Its mass."""
        return float(self.mass or 0.0)

    @property
    def relaxation(self) -> float:
        """Collisions in which its rotation relaxes; infinite where it does not rotate."""
        return math.inf


class MixedSpecies(Part):
    """One of the gases of a mixture of spheres: of the table, or of own numbers."""

    of: Literal[tuple(SPECIES)] | None = None  # type: ignore[valid-type]
    """A gas of the table; instead of mass, diameter, omega and alpha."""
    diameter: Positive | None = None
    """At reference temperature 1; the unit drops out (angstrom beside gases of the
    table)."""
    omega: Exponent = 0.5
    """Exponent of its viscosity alone; 0.5: hard spheres."""
    alpha: Angle = 1.0
    """Exponent of the scattering angle; 1: isotropic."""
    rotation: float | None = Field(default=None, ge=3.5, le=1000.0)
    """Collisions, with molecules of any species, in which the rotation of a diatomic gas
    relaxes; 5 for those of the table."""

    @model_validator(mode="after")
    def _one_source(self) -> "MixedSpecies":
        own = (self.mass is not None, self.diameter is not None)
        if own[0] != own[1] or own[0] == (self.of is not None):
            raise ValueError("give of (a gas of the table), or mass and diameter")
        if self.of is not None and (self.omega, self.alpha) != (0.5, 1.0):
            raise ValueError("omega, alpha: the table gives them; leave them out")
        if self.rotation is not None and self.of is not None and not self._diatomic:
            raise ValueError(f"rotation: {self.of} has one atom")
        return self

    @property
    def _diatomic(self) -> bool:
        return self.of is not None and SPECIES[self.of].atoms == 2

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
        return SPECIES[self.of].mass if self.of else super().molecule

    @property
    def relaxation(self) -> float:
        """Collisions in which its rotation relaxes; infinite where it does not rotate."""
        return self.rotation or (5.0 if self._diatomic else math.inf)


class PotentialSpecies(AtomPotential, Part):
    """One of the gases of a mixture of atoms that scatter as pair potentials say."""

    @model_validator(mode="after")
    def _one_mass(self) -> "PotentialSpecies":
        if (self.of is None) == (self.mass is None):
            raise ValueError(
                "mass (amu): needed with epsilon and sigma or file; of has its own"
            )
        return self

    @property
    def molecule(self) -> float:
        """Its mass."""
        return PUBLISHED[self.of].mass if self.of else super().molecule


class Between(Section):
    """Two species of a mixture."""

    between: tuple[str, str]
    """Names of the species."""


class UnlikePair(Between):
    """How molecules of two species meet, in place of the means of both."""

    diameter: Positive | None = None
    """In the unit of the species."""
    omega: Exponent | None = None
    """Exponent of the pair."""
    alpha: Angle | None = None
    """Exponent of the scattering angle."""


class PotentialPair(PairPotential, Between):
    """The energy of two atoms of different species over their distance."""


class Composition(Section):
    """Several gases; ``knudsen`` is the viscosity of the first one alone.

    That is, of as many molecules as the reference density has. Masses are over the mean
    mass of the reference composition, so a gas of that composition has density, pressure
    and temperature as a single gas.
    """

    species: Annotated[tuple[Any, ...], Field(min_length=2, max_length=8)]
    """The gases."""
    pairs: tuple[Any, ...] = ()
    """Unlike molecules."""
    inflow: dict[str, tuple[Share, ...]] = Field(default_factory=dict)
    """Fractions of all species in the gas of a reservoir, by its end of the box:
    ``inflow.x_low = [0.2, 0.8]``."""

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

    @property
    def relaxations(self) -> tuple[float, ...]:
        """Collisions in which the rotation of each species relaxes."""
        return tuple(s.relaxation for s in self.species)

    @property
    def rotating(self) -> float:
        """Share of the molecules that rotate."""
        return sum(s.fraction for s in self.species if s.relaxation < math.inf)

    @model_validator(mode="after")
    def _whole(self) -> "Composition":
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

    def unlike_pairs(self) -> dict[tuple[int, int], Any]:
        """Return the pairs that are given, by the numbers of their species in order."""
        return {
            tuple(sorted(self.names.index(name) for name in pair.between)): pair  # type: ignore[misc]
            for pair in self.pairs
        }


class Mixture(Composition):
    """A mixture of variable hard or soft spheres, of which some may rotate."""

    kind: Literal["mixture"]
    species: Annotated[tuple[MixedSpecies, ...], Field(min_length=2, max_length=8)]
    """The gases."""
    pairs: tuple[UnlikePair, ...] = ()
    """Unlike molecules; without one their diameter, omega and alpha are means."""
    temperature: Positive = REFERENCE_TEMPERATURE
    """Of the gas at reference temperature 1, K: for diameters of gases of the table."""

    def spheres(self) -> tuple[Spheres, ...]:
        """Return like molecules of every species."""
        return tuple(s.spheres(self.temperature) for s in self.species)

    def unlike(self) -> dict[tuple[int, int], Spheres]:
        """Return the pairs that are given."""
        like, found = self.spheres(), {}
        for (i, j), pair in self.unlike_pairs().items():
            usual = like[i].with_(like[j])
            found[i, j] = Spheres(
                usual.diameter if pair.diameter is None else pair.diameter,
                usual.omega if pair.omega is None else pair.omega,
                usual.alpha if pair.alpha is None else pair.alpha,
            )
        return found


class PotentialMixture(Composition):
    """A mixture of atoms of which every pair scatters as its own potential says."""

    kind: Literal["potential_mixture"]
    species: Annotated[tuple[PotentialSpecies, ...], Field(min_length=2, max_length=8)]
    """The gases."""
    pairs: tuple[PotentialPair, ...] = ()
    """Unlike atoms: one entry for every pair that ``combine`` does not serve."""
    combine: Literal["lorentz_berthelot"] | None = None
    """Pairs that are not given, of Lennard-Jones atoms: the mean of sigma, the geometric
    mean of epsilon."""
    temperature: Positive
    """Of the gas at reference temperature 1, K."""

    @model_validator(mode="after")
    def _all_pairs(self) -> "PotentialMixture":
        given = self.unlike_pairs()
        for j, other in enumerate(self.species):
            for i, one in enumerate(self.species[:j]):
                if (i, j) in given:
                    continue
                both = f"{one.name} and {other.name}"
                if self.combine is None:
                    raise ValueError(
                        f"pairs: no potential of {both}; give one with between = "
                        f'["{one.name}", "{other.name}"], or name a rule in combine'
                    )
                if one.well is None or other.well is None:
                    raise ValueError(
                        f"combine: {self.combine} needs epsilon and sigma of {both}; give "
                        "the pair in pairs"
                    )
        return self

    def potentials(self) -> dict[tuple[int, int], PairPotential]:
        """Return the potential of every pair of species, first <= second."""
        found: dict[tuple[int, int], PairPotential] = dict(self.unlike_pairs())
        for j, other in enumerate(self.species):
            found[j, j] = other
            for i, one in enumerate(self.species[:j]):
                if (i, j) not in found:
                    (e, s), (f, t) = one.well, other.well  # type: ignore[misc]
                    found[i, j] = PairPotential(epsilon=math.sqrt(e * f), sigma=(s + t) / 2)
        return found


Molecule = Annotated[
    HardSpheres | VariableSpheres | PotentialMolecules | Mixture | PotentialMixture,
    Field(discriminator="kind"),
]


FEWEST = 4
"""Independent blocks, or repetitions, whose scatter is an error bar."""


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
    blocks: int = Field(default=20, ge=FEWEST, le=1000)
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
    compare: tuple[Model, ...] = ()  # type: ignore[valid-type]
    """Models that are run on the same problem, in a gas with the viscosity and the Prandtl
    number of the molecules: how far they depart from the particles."""
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
        if self.reference != "none" and isinstance(self.gas, Composition):
            raise ValueError(f"reference: {self.reference} knows one gas; leave it out")
        if self.reference != "none" and self.time.average_from is None:
            raise ValueError(
                f"reference: {self.reference} needs time.average_from; instants are noisy"
            )
        if self.compare:
            self._comparable(dim)
        return self

    def _comparable(self, dim: int) -> None:
        """Refuse models beside particles that they do not describe, or without errors."""
        check_models((self.model, *self.compare), dim, GasSection(prandtl=2 / 3))
        kind = self.gas.kind
        if isinstance(self.gas, Composition):
            raise ValueError(f"compare: models have one gas, gas.kind = {kind} several")
        if getattr(self.gas, "diatomic", False):
            raise ValueError(
                "compare: molecules of models do not rotate; take a gas of atoms, or leave "
                "compare out"
            )
        if self.time.average_from is None and self.model.ensembles < FEWEST:
            raise ValueError(
                "compare: an instant of particles has no error bar; give "
                f"time.average_from, or model.ensembles of at least {FEWEST}"
            )
