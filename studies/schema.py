"""What the scenario of a study may say."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ..engine.schema.base import Common, Section, by_key
from ..engine.schema.closure import FamilySection
from ..engine.schema.inverse import Count, PairSection, Positive
from ..models.potentials.behler_parrinello import BehlerParrinello
from ..models.potentials.deep_potential import HigherMoments, SmoothEdition
from ..models.potentials.fields import Widths
from ..models.potentials.local_frame import LocalFrame
from ..models.potentials.unconstrained import Unconstrained


class NoSymmetrySection(Section):
    """One network of all coordinates of the box: no symmetry is built in."""

    kind: Literal["no_symmetry"]
    hidden: Widths = (240, 120)
    """Widths of the hidden layers."""


Compared = Annotated[
    NoSymmetrySection
    | LocalFrame
    | BehlerParrinello
    | SmoothEdition
    | HigherMoments
    | Unconstrained,
    Field(discriminator="kind"),
]


def file_name(name: str) -> str:
    """Return the name of a model as files and figures have it."""
    return name.lower().replace(" ", "_").replace("-", "_").replace(",", "")


class ComparedModel(Section):
    """One of the potentials that are compared."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9 ,-]*$")
    """In words, for the report."""
    model: Compared
    """Its form; an unconstrained network is trained on turned frames."""


class ConservationSection(Section):
    """Runs at constant energy with the trained potentials."""

    time_steps: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    """fs."""
    picoseconds: Positive = 2.0
    """Length of each run."""
    temperature: Positive = 1200.0
    """Of the initial momenta, kelvin; half of it stays as heat."""
    replicas: int = Field(default=4, ge=1, le=64)
    """Runs from different momenta."""


class StudyScenario(Common):
    """A study, named by the key ``study``."""

    kind: Literal["study"]
    study: str
    """Which one."""
    device: Literal["cpu"] = "cpu"
    """Where the simulation runs."""

    @classmethod
    def variants(cls) -> tuple[type[Common], ...]:  # type: ignore[override]
        """Return the studies that there are."""
        return tuple(STUDIES.values())

    @classmethod
    def variant(cls, data: Any) -> type[Common]:
        """Return the study that ``data`` names."""
        return by_key("study", STUDIES, data)


class SymmetryScenario(StudyScenario):
    """Trains potentials with and without symmetry on the same data and compares them."""

    job: ClassVar[str] = "scalebridge.studies.symmetry:assemble"
    study: Literal["symmetry"]
    """Which one."""
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)] = (
        300.0, 900.0, 1500.0, 2500.0,
    )  # fmt: skip
    """Of the data, kelvin; above 2000 K the silicon is molten."""
    sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (
        8, 32, 128, 512,
    )  # fmt: skip
    """Numbers of training frames, growing."""
    test: int = Field(default=120, ge=4)
    """Frames to test on."""
    steps: int = Field(default=1000, ge=1)
    """Steps of every training."""
    batch: int = Field(default=8, ge=1)
    """Frames in a step."""
    learning_rate: Positive = 5e-3
    """At its highest; it falls as a cosine."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled."""
    models: Annotated[tuple[ComparedModel, ...], Field(min_length=1)]
    """What is compared."""
    conservation: ConservationSection = ConservationSection()
    """Runs at constant energy."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes: {list(self.sizes)} must grow")
        if len({file_name(model.name) for model in self.models}) < len(self.models):
            raise ValueError("models: two have the same name")
        return self


class ClosureMomentsScenario(StudyScenario):
    """Learns which moments to keep: autoencoders of several widths on kinetic flows."""

    job: ClassVar[str] = "scalebridge.studies.learned_moments:assemble"
    study: Literal["closure_moments"]
    """Which one."""
    families: Annotated[list[FamilySection], Field(min_length=1)]
    """What is learned from; the last eighth of each is held out."""
    latents: Annotated[list[Annotated[int, Field(ge=1, le=20)]], Field(min_length=1)]
    """How many numbers are kept in addition to density, velocity and temperature."""
    order: int = Field(default=11, ge=4, le=20)
    """Highest Hermite moment that is pressed and given back."""
    pictured: int = Field(default=3, ge=1)
    """Which of the widths is drawn against the Hermite polynomials."""
    cells: int = Field(default=100, ge=20, le=4096)
    """Cells of a flow."""
    velocities: int = Field(default=72, ge=24, le=1024)
    """Discrete velocities in [-7.2, 7.2]."""
    samples: int = Field(default=40_000, ge=100)
    """Cells that are learned from, at most."""
    steps: Count = 600
    """Steps of training."""
    batch: int = Field(default=1000, ge=10)
    """Cells in a step."""
    rate: Positive = 3e-3
    """Learning rate at the start; it falls linearly."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if max(self.latents) > self.order - 2:
            raise ValueError(
                f"latents {self.latents}: order {self.order} has {self.order - 2} moments"
            )
        if self.pictured not in self.latents:
            raise ValueError(f"pictured {self.pictured} is none of latents {self.latents}")
        return self


class ShockSensitivityScenario(StudyScenario):
    """Asks what the thickness of a shock depends on, down to the forces between atoms."""

    job: ClassVar[str] = "scalebridge.studies.shock_sensitivity:assemble"
    study: Literal["shock_sensitivity"]
    """Which one."""
    precision: Literal["f64"] = "f64"
    """Gradients are certified in double precision."""
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


class ClosureLoopScenario(StudyScenario):
    """Trains a learned closure through the solver that uses it."""

    job: ClassVar[str] = "scalebridge.studies.closure_in_loop:assemble"
    study: Literal["closure_in_loop"]
    """Which one."""
    precision: Literal["f64"] = "f64"
    """Gradients are certified in double precision."""
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


STUDIES: dict[str, type[Common]] = {
    "closure_in_loop": ClosureLoopScenario,
    "closure_moments": ClosureMomentsScenario,
    "shock_sensitivity": ShockSensitivityScenario,
    "symmetry": SymmetryScenario,
}
"""Name of a study -> what its scenario may say."""
