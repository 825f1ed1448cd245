"""What scenarios of inverse problems may say."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from .base import Common, Section, by_key

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class PairSection(Section):
    """A Lennard-Jones pair of atoms."""

    epsilon: Positive
    """Well depth over the Boltzmann constant, K."""
    sigma: Positive
    """Where the energy is zero, angstrom."""


class PublishedPair(PairSection):
    """Parameters that someone else found from such data."""

    source: str
    """Where they are published."""


class InverseScenario(Common):
    """Finds the forces between atoms from a measured ``observable``."""

    job: ClassVar[str] = "scalebridge.engine.jobs.inverse:assemble"
    kind: Literal["inverse"]
    observable: str
    """What is measured."""
    device: Literal["cpu"] = "cpu"
    """Where the simulation runs."""
    precision: Literal["f64"] = "f64"
    """Gradients are certified in double precision."""

    @classmethod
    def variants(cls) -> tuple[type[Common], ...]:  # type: ignore[override]
        """Return the scenarios of all observables."""
        return (RdfScenario, ViscosityScenario)

    @classmethod
    def variant(cls, data: Any) -> type[Common]:
        """Return the scenario of the observable that ``data`` names."""
        known = {"rdf": RdfScenario, "viscosity": ViscosityScenario}
        return by_key("observable", known, data)


class ViscosityScenario(InverseScenario):
    """Finds the forces between atoms from the viscosity of their dilute gas."""

    observable: Literal["viscosity"]
    """What is measured."""
    mass: Positive
    """Of an atom, amu."""
    temperatures: Annotated[list[Positive], Field(min_length=3, max_length=64)]
    """K, rising."""
    viscosities: Annotated[list[Positive], Field(min_length=3, max_length=64)]
    """Measured in the limit of zero density, micropascal seconds."""
    source: str
    """Where they are published."""
    start: PairSection
    """First guess."""
    published: Annotated[list[PublishedPair], Field(max_length=8)] = Field(default=[])
    """To compare with."""
    agreement: Positive = 0.02
    """Relative misfit of a viscosity that a Lennard-Jones fluid is allowed."""
    iterations: Count = 12
    """Most steps of Gauss and Newton."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.temperatures != sorted(set(self.temperatures)):
            raise ValueError(f"temperatures {self.temperatures} must rise")
        if len(self.temperatures) != len(self.viscosities):
            raise ValueError("temperatures and viscosities differ in number")
        return self


class RdfScenario(InverseScenario):
    """Finds the forces between atoms from the structure of their liquid."""

    observable: Literal["rdf"]
    """What is measured."""
    truth: PairSection
    """Makes the distribution that is learned from, with other random numbers."""
    start: PairSection
    """First guess."""
    density: Positive
    """Atoms per cubic angstrom."""
    temperature: Positive
    """K."""
    mass: Positive
    """Of an atom, amu."""
    cells: Annotated[int, Field(ge=2, le=20)] = 3
    """Cubic cells along each edge; there are four atoms in each."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 8
    """Independent copies of the box that run side by side."""
    cutoff: Positive = 8.0
    """Of the potential, angstrom."""
    time_step: Positive = 5.0
    """fs."""
    melting: Count = 1200
    """Steps in which the crystal melts, once."""
    settling: Count = 300
    """Steps before the first frame of a simulation."""
    frames: Annotated[int, Field(ge=2, le=5000)] = 100
    """Of each replica in a simulation; the truth has four times as many."""
    interval: Count = 25
    """Steps between frames."""
    r_max: Positive = 9.0
    """The distribution ends here, angstrom."""
    bins: Annotated[int, Field(ge=8, le=1000)] = 72
    """Of the distribution."""
    rounds: Annotated[int, Field(ge=1, le=50)] = 10
    """Simulations at improved parameters."""
    effective: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the frames that must still count before new ones are made."""
    agreement: Positive = 0.03
    """Relative error of the parameters that is called recovered."""
