"""What scenarios that differentiate a whole computation may say."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from .base import Common, Section

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


class LearnViscosityScenario(Common):
    """Finds the forces between atoms from the viscosity of their dilute gas."""

    job: ClassVar[str] = "scalebridge.engine.jobs.gradients:assemble"
    kind: Literal["learn_viscosity"]
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


class LearnRdfScenario(Common):
    """Finds the forces between atoms from the structure of their liquid."""

    job: ClassVar[str] = "scalebridge.engine.jobs.gradients:assemble"
    kind: Literal["learn_rdf"]
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


class ShockSensitivityScenario(Common):
    """Asks what the thickness of a shock depends on, down to the forces between atoms."""

    job: ClassVar[str] = "scalebridge.engine.jobs.gradients:assemble"
    kind: Literal["shock_sensitivity"]
    mach: Annotated[float, Field(gt=1.05, le=10)] = 2.0
    """Mach number of the gas ahead."""
    temperature: Positive
    """Of the gas ahead, K."""
    pair: PairSection
    """The atoms."""
    prandtl: Positive = 2.0 / 3.0
    """Of the gas (Shakhov's model)."""
    extent: Positive = 24.0
    """Half width of the box in mean free paths of the gas ahead."""
    cells: Annotated[int, Field(ge=20, le=600)] = 120
    """Of the box."""
    nodes: Annotated[int, Field(ge=16, le=400)] = 72
    """Discrete velocities."""
    settling: Annotated[int, Field(ge=1, le=100_000)] = 1500
    """Time steps before Newton's method."""


class ClosureLoopScenario(Common):
    """Trains a learned closure through the solver that uses it."""

    job: ClassVar[str] = "scalebridge.engine.jobs.gradients:assemble"
    kind: Literal["closure_in_loop"]
    family: Literal["wave", "mix"] = "mix"
    """Which flows."""
    flows: Annotated[int, Field(ge=4, le=10_000)] = 24
    """To train on."""
    held_out: Annotated[int, Field(ge=4, le=10_000)] = 8
    """To test on."""
    until: Annotated[float, Field(ge=0.2, le=10)] = 0.3
    """Time up to which the flows run; sampled every tenth."""
    cells: Annotated[int, Field(ge=20, le=4096)] = 50
    """Of the moment solver."""
    refinement: Annotated[int, Field(ge=1, le=16)] = 4
    """The kinetic grid is finer by this factor."""
    velocities: Annotated[int, Field(ge=24, le=1024)] = 72
    """Of the kinetic solution."""
    extra: Annotated[int, Field(ge=2, le=12)] = 3
    """Moments beyond density, momentum and energy."""
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=1)] = (
        Field(default=[24, 24])
    )
    """Widths of the network."""
    regression: Count = 80
    """Steps of regression before: the closing moment is fitted, the solver is not asked."""
    regression_rate: Positive = 5e-3
    """Learning rate there; it falls linearly."""
    steps: Count = 40
    """Steps of training through the solver."""
    batch: Annotated[int, Field(ge=1, le=256)] = 12
    """Flows in a step."""
    rate: Positive = 2e-4
    """Learning rate through the solver; it falls linearly."""
    horizons: Annotated[list[Count], Field(min_length=2)] = Field(default=[4, 16, 64])
    """Numbers of solver steps through which the gradient is certified, rising."""
    name: str = Field(default="closure", pattern=r"^[A-Za-z0-9_.-]+$")
    """Of the file with the trained weights."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.horizons != sorted(set(self.horizons)):
            raise ValueError(f"horizons {self.horizons} must rise")
        return self
