"""What a scenario that trains a potential may say."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...models.potentials import POTENTIALS
from ...models.potentials.deep_potential import HigherMoments
from ...models.potentials.fields import Positive
from ..data.keys import LabelKeys, Source
from ..learn.trainers import LOSSES
from ..learn.trainers.linear import LeastSquares, is_linear
from ..learn.trainers.potential import PlainLoss
from .base import Common, InputPath, Section, choice, given

Fraction = Annotated[float, Field(ge=0, lt=1)]


ITERATED = frozenset(
    (
        "optimiser", "schedule", "steps", "batch", "average", "validation",
        "report_every", "checkpoint_every", "precision",
    )
)  # fmt: skip
"""Keys that say how weights are found step by step."""


def _solved(model: dict[str, Any]) -> bool:
    network = model.get("network")
    kinds = (model.get("kind"), network.get("kind") if isinstance(network, dict) else None)
    return "cluster_expansion" in kinds


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


class TrainScenario(LabelKeys, Common):
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
        classes = {
            "local_closure": faces,
            "face_closure": faces,
            "recurrence_closure": shocks,
        }
        return classes.get(str(kind), TrainScenario)

    kind: Literal["train"]
    precision: Literal["f32", "f64"] = "f32"
    """Floating-point precision of weights and tables; energies are summed in f64."""
    data: Source | Annotated[tuple[Source, ...], Field(min_length=1)]
    """Training sets: extended XYZ, DeePMD-kit, mlearn, FitSNAP, VASP, or what ASE reads; a
    table {path, format, energy_key, ...} where one differs from the others."""
    test: Source | tuple[Source, ...] = ()
    """Sets that are only looked at when the training is over."""
    published: str = ""
    """Where the sets are published; said when a path is missing."""
    name: str = Field(default="model", pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the files that are written into the run folder."""
    model: choice(POTENTIALS, "higher_moments") = HigherMoments()  # type: ignore[valid-type]
    """The form of the potential."""
    start: InputPath | None = None
    """A saved model whose form and weights training begins from, in place of `model`. One
    that is solved for keeps its radial functions, and its weights are where the prior
    draws the new ones."""
    loss: choice(LOSSES, "plain") = PlainLoss()  # type: ignore[valid-type]
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

    @model_validator(mode="before")
    @classmethod
    def _repulsion_is_a_form(cls, data: Any) -> Any:
        model = data.get("model") if isinstance(data, dict) else None
        if isinstance(model, dict) and "repulsion" in model:
            raise ValueError(
                'model.repulsion: a form of its own now; write model.kind = "zbl_sum" '
                "with inner and outer, and what else stood in [model] in [model.network]"
            )
        return data

    @model_validator(mode="before")
    @classmethod
    def _least_squares(cls, data: Any) -> Any:
        model = data.get("model") if isinstance(data, dict) else None
        loss = data.get("loss", {}) if isinstance(data, dict) else None
        if isinstance(model, dict) and _solved(model) and isinstance(loss, dict):
            return {**data, "loss": {"kind": "least_squares", **loss}}
        return data

    @model_validator(mode="after")
    def _solved_or_trained(self) -> Self:
        if self.start is not None:
            return self._begins()
        linear = is_linear(self.model)
        if linear != isinstance(self.loss, LeastSquares):
            allowed = "least_squares" if linear else "plain, prefactors"
            raise ValueError(f"loss.kind: allowed with this model: {allowed}")
        unused = sorted(given(self) & ITERATED) if linear else []
        if unused:
            raise ValueError(
                f"{unused[0]}: has no use here: the weights of this model are solved for, "
                "in one go, and every frame is left out in turn"
            )
        return self

    def _begins(self) -> Self:
        """Leave it to the saved model which keys are of use; see ``engine.jobs.train``."""
        if "model" in given(self):
            raise ValueError("model: comes with start; give one of the two")
        return self

    @model_validator(mode="after")
    def _on_the_processor(self) -> Self:
        if self.device != "cpu":
            raise ValueError("device: training runs on the cpu; its networks are small")
        return self
