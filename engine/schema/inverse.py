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
        return (RdfScenario, ThicknessScenario, ViscosityScenario)

    @classmethod
    def variant(cls, data: Any) -> type[Common]:
        """Return the scenario of the observable that ``data`` names."""
        known = {
            "rdf": RdfScenario,
            "thickness": ThicknessScenario,
            "viscosity": ViscosityScenario,
        }
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


class ScalesSection(Section):
    """Scales of a published potential, ``V(r) = energy V_0(r / length)``."""

    energy: Annotated[float, Field(gt=0.2, le=5)] = 1.0
    """Of all energies."""
    length: Annotated[float, Field(gt=0.5, le=2)] = 1.0
    """Of all lengths."""


class ScalesPrior(Section):
    """What is known of the scales beforehand."""

    energy: Annotated[float, Field(gt=0, le=2)] = 0.3
    """Standard deviation of the logarithm, about 0."""
    length: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Standard deviation of the logarithm, about 0."""


class ThicknessScenario(InverseScenario):
    """Finds the forces between atoms from the thickness of shocks in their gas."""

    observable: Literal["thickness"]
    """What is measured."""
    symbol: Literal["He", "Ne", "Ar", "Kr", "Xe"] = "Ar"
    """Noble gas whose published potential is scaled; its mass."""
    temperature: Annotated[float, Field(ge=20, le=20_000)] = 300.0
    """K, ahead of the shocks."""
    pressure: Positive = 6.67
    """Pa, ahead of them."""
    mach: Annotated[
        tuple[Annotated[float, Field(gt=1.05, le=10)], ...], Field(min_length=1)
    ]
    """Mach numbers."""
    thicknesses: tuple[Positive, ...] = ()
    """Measured, mm: 1 over ``3/2 int (d rho / dx)^2 dx`` of the density from 0 to 1."""
    truth: ScalesSection | None = None
    """Instead: scales that make the thicknesses, with noise of ``errors``."""
    errors: tuple[Annotated[float, Field(gt=0, le=0.5)], ...]
    """Relative standard errors of the thicknesses."""
    source: str
    """Where they are from."""
    prior: ScalesPrior = ScalesPrior()
    """What is known beforehand."""
    start: ScalesSection = ScalesSection()
    """First guess."""
    iterations: Annotated[int, Field(ge=1, le=50)] = 8
    """Most steps of Gauss and Newton."""
    cells: Annotated[int, Field(ge=40, le=600)] = 100
    """Of the kinetic equation."""
    extent: Annotated[float, Field(ge=8, le=100)] = 14.0
    """Half width of the box, mean free paths ahead."""
    nodes: Annotated[int, Field(ge=32, le=400)] = 64
    """Velocities."""
    settling: Annotated[int, Field(ge=100, le=100_000)] = 1500
    """Time steps before Newton's method."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.truth is None) == (not self.thicknesses):
            raise ValueError("give one of: thicknesses, truth")
        for name in ("thicknesses", "errors"):
            rows = getattr(self, name)
            if len(rows) != len(self.mach) and (name == "errors" or self.truth is None):
                raise ValueError(
                    f"{name}: {len(rows)} numbers for {len(self.mach)} Mach numbers"
                )
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
