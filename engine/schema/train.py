"""What a scenario that trains a potential may say."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from .base import Common, InputPath, Section

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1)]


Counts = Annotated[tuple[Annotated[int, Field(ge=0, le=512)], ...], Field(min_length=1)]


class RepulsionSection(Section):
    """The universal repulsion of Ziegler, Biersack and Littmark under the network."""

    inner: Positive = 0.7
    """It is whole below this distance, angstrom."""
    outer: Positive = 1.4
    """And gone beyond this one; keep it below the shortest distance in the data."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.inner >= self.outer:
            raise ValueError("inner must lie below outer")
        return self


class HigherMomentsSection(Section):
    """The default: Chebyshev mixes, moments up to l = 3, a small fitting network."""

    kind: Literal["higher_moments"] = "higher_moments"
    cutoff: Positive = 5.0
    """Interaction range in angstrom."""
    switch_start: Positive = 0.5
    """Distance at which the switch begins to fall, angstrom."""
    basis: int = Field(default=10, ge=2, le=64)
    """Chebyshev polynomials."""
    channels: int = Field(default=16, ge=1, le=256)
    """Radial functions."""
    axis: int = Field(default=8, ge=1, le=256)
    """Channels on the short side of the products of moments."""
    lmax: int = Field(default=3, ge=1, le=3)
    """Highest angular degree."""
    products: int = Field(default=6, ge=0, le=256)
    """Channels that enter the three-moment products."""
    fitting: Widths = (64, 64)
    """Widths of the hidden layers."""
    members: int = Field(default=4, ge=1, le=32)
    """Size of the committee; members differ by their initial weights."""
    repulsion: RepulsionSection | None = None
    """Adds the repulsion of nuclei at short distances."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.switch_start >= self.cutoff:
            raise ValueError("switch_start must lie below cutoff")
        if max(self.axis, self.products) > self.channels:
            raise ValueError("axis and products cannot exceed channels")
        return self


class SmoothEditionSection(Section):
    """The smooth edition of Deep Potential (DeePMD-kit's se_e2_a)."""

    kind: Literal["smooth_edition"]
    cutoff: Positive = 6.0
    """Interaction range in angstrom."""
    switch_start: Positive = 0.5
    """Distance at which the switch begins to fall, angstrom."""
    neurons: Widths = (25, 50, 100)
    """Widths of the embedding network."""
    axis: int = Field(default=16, ge=1, le=256)
    """Columns on the short side of the product of moments."""
    fitting: Widths = (240, 240, 240)
    """Widths of the hidden layers."""
    members: int = Field(default=1, ge=1, le=32)
    """Size of the committee."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.switch_start >= self.cutoff:
            raise ValueError("switch_start must lie below cutoff")
        if self.axis > self.neurons[-1]:
            raise ValueError("axis cannot exceed the last width of neurons")
        return self


class LocalFrameSection(Section):
    """The Deep Potential of 2018: discontinuous, kept as a negative control."""

    kind: Literal["local_frame"]
    cutoff: Positive = 6.0
    """Interaction range in angstrom."""
    angular: Counts = (16,)
    """Sorted neighbours of each species with coordinates; one number serves for all."""
    radial: Counts = (30,)
    """Further neighbours of each species with their distance alone."""
    fitting: Widths = (120, 60, 30)
    """Widths of the hidden layers."""
    members: int = Field(default=1, ge=1, le=32)
    """Size of the committee."""


class BehlerParrinelloSection(Section):
    """Symmetry functions and a network for each species."""

    kind: Literal["behler_parrinello"]
    cutoff: Positive = 5.0
    """Range of the radial functions in angstrom."""
    angular_cutoff: Positive = 4.0
    """Range of the angular functions in angstrom."""
    shifts: int = Field(default=12, ge=1, le=64)
    """Radial functions for each species."""
    fitting: Widths = (32, 32)
    """Widths of the hidden layers."""
    members: int = Field(default=1, ge=1, le=32)
    """Size of the committee."""

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.angular_cutoff > self.cutoff:
            raise ValueError("angular_cutoff cannot exceed cutoff")
        return self


class UnconstrainedSection(Section):
    """A network without rotational symmetry; it is trained on turned frames."""

    kind: Literal["unconstrained"]
    cutoff: Positive = 5.0
    """Interaction range in angstrom."""
    channels: int = Field(default=8, ge=1, le=256)
    """Radial functions."""
    lmax: int = Field(default=3, ge=1, le=3)
    """Highest angular degree."""
    fitting: Widths = (128, 128)
    """Widths of the hidden layers."""
    members: int = Field(default=1, ge=1, le=32)
    """Size of the committee."""


class PlainLossSection(Section):
    """``force mean dF^2 + energy mean (dE/N)^2 + virial mean (dW/N)^2``."""

    kind: Literal["plain"] = "plain"
    force: float = Field(default=1.0, ge=0)
    """Weight of the force, 1 / (eV/angstrom)^2."""
    energy: float = Field(default=100.0, ge=0)
    """Weight of the energy per atom, 1 / (eV/atom)^2."""
    virial: float = Field(default=0.0, ge=0)
    """Weight of the virial per atom, 1 / (eV/atom)^2."""
    deviatoric: bool = True
    """Count only the traceless part: plane-wave pressures carry the Pulay stress."""


class PrefactorLossSection(Section):
    """DeePMD-kit's loss; each pair is the prefactor at the start and at the end."""

    kind: Literal["prefactors"]
    energy: tuple[float, float] = (0.02, 1.0)
    """Of ``dE^2 / N``, 1 / eV^2."""
    force: tuple[float, float] = (1000.0, 1.0)
    """Of ``mean dF^2``, 1 / (eV/angstrom)^2."""
    virial: tuple[float, float] = (0.0, 0.0)
    """Of ``dW^2 / N``, 1 / eV^2."""


class SoapSection(Section):
    """SOAP: Adam in the eigenbasis of the gradient's covariance."""

    kind: Literal["soap"] = "soap"
    learning_rate: Positive = 3e-3
    """At its highest."""
    weight_decay: float = Field(default=0.3, ge=0)
    """Decoupled weight decay."""


class AdamSection(Section):
    """Adam."""

    kind: Literal["adam"]
    learning_rate: Positive = 1e-3
    """At its highest."""


class CosineSection(Section):
    """Cosine decay after a short warm-up."""

    kind: Literal["cosine"] = "cosine"
    warmup: Fraction = 0.02
    """Part of the steps over which the rate rises."""
    final_rate: Positive = 1e-7
    """Learning rate at the end."""


class ExponentialSection(Section):
    """Exponential decay in stairs, as DeePMD-kit."""

    kind: Literal["exponential"]
    decay_steps: int = Field(default=5000, ge=1)
    """Length of a stair in steps."""
    final_rate: Positive = 3.51e-8
    """Learning rate at the end."""


Model = Annotated[
    HigherMomentsSection
    | SmoothEditionSection
    | LocalFrameSection
    | BehlerParrinelloSection
    | UnconstrainedSection,
    Field(discriminator="kind"),
]


class TrainScenario(Common):
    """Trains a potential, or a committee, on labelled configurations."""

    job: ClassVar[str] = "scalebridge.engine.jobs.train:assemble"

    @classmethod
    def variants(cls) -> tuple[type[Any], ...]:
        """Return the classes of this kind: potentials, closures of faces, of shocks."""
        from .closure import ClosureShockTrainScenario, ClosureTrainScenario

        return (TrainScenario, ClosureTrainScenario, ClosureShockTrainScenario)

    @classmethod
    def variant(cls, data: Any) -> type[Common]:
        """Return the class of ``model.kind``."""
        model = data.get("model")
        kind = model.get("kind") if isinstance(model, dict) else None
        _, faces, shocks = cls.variants()
        classes = {"face_closure": faces, "recurrence_closure": shocks}
        return classes.get(str(kind), TrainScenario)

    kind: Literal["train"]
    precision: Literal["f32", "f64"] = "f32"
    """Floating-point precision of weights and tables; energies are summed in f64."""
    data: InputPath | Annotated[tuple[InputPath, ...], Field(min_length=1)]
    """Training sets: mlearn JSON, DeePMD-kit folders, or anything ASE reads."""
    test: InputPath | tuple[InputPath, ...] = ()
    """Sets that are only looked at when the training is over."""
    published: str = ""
    """Where the sets are published; said when a path is missing."""
    name: str = Field(default="model", pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the files that are written into the run folder."""
    model: Model = HigherMomentsSection()
    """The form of the potential."""
    loss: Annotated[
        PlainLossSection | PrefactorLossSection, Field(discriminator="kind")
    ] = PlainLossSection()
    """What is minimised."""
    optimiser: Annotated[SoapSection | AdamSection, Field(discriminator="kind")] = (
        SoapSection()
    )
    """How it is minimised."""
    schedule: Annotated[CosineSection | ExponentialSection, Field(discriminator="kind")] = (
        CosineSection()
    )
    """How the learning rate falls."""
    steps: int = Field(default=4000, ge=1)
    """Steps of the optimiser."""
    batch: int = Field(default=4, ge=1)
    """Frames in a step."""
    group_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default={})
    """Weight in the loss of the frames of a group (of mlearn, or `group` in extxyz)."""
    average: Fraction = 0.998
    """Decay of the averaged weights, which are the result; 0 takes the last ones."""
    validation: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Part of the frames that is held out."""
    report_every: int = Field(default=100, ge=1)
    """Steps between points of the learning curve."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints."""
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads; the networks are small, one is usually fastest per CPU time."""

    @model_validator(mode="after")
    def _on_the_processor(self) -> Self:
        if self.device != "cpu":
            raise ValueError("device: training runs on the cpu; its networks are small")
        return self
