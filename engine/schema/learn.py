"""What a scenario of concurrent learning may say."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ...models.closures.face import FaceForm
from ...models.closures.local import LocalForm
from ...models.potentials.deep_potential import HigherMoments
from ..data.keys import Source
from ..learn.execution import EXECUTORS, Serial
from ..learn.explorers import EXPLORERS, STARTS
from ..learn.explorers.dynamics import Dynamics
from ..learn.explorers.gas import Flows
from ..learn.indicators import THRESHOLDS, Conformal
from ..learn.labelers import LABELERS
from ..learn.labelers.kinetic import Kinetic
from ..learn.selection import Batch
from ..learn.stopping import StopRule
from ..learn.trainers.closures import ClosureTrainer
from ..learn.trainers.committee import PotentialTrainer
from .base import Common, InputPath, Section, choice, given

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]


class StartSection(Section):
    """One structure, explored at several temperatures."""

    name: Name
    """Name of the stratum; the temperature is added to it."""
    structure: choice(STARTS)  # type: ignore[valid-type]
    """Where the atoms begin."""
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """K; a walker for each."""
    final_temperatures: tuple[Positive, ...] = ()
    """K, at the end of the walk of each, reached linearly; none: constant."""
    pressure: float | tuple[float, float] | None = None
    """GPa, or at the start and the end of a walk; none: constant volume. Fully periodic
    structures without vacuum alone."""
    replicas: Count = 1
    """Walkers at each temperature."""
    properties: tuple[
        Literal["equation_of_state", "elastic", "vacancy", "surface"], ...
    ] = ()
    """Measured at the end of the run, by the model and by the labeler on the same atoms,
    which the model relaxes: volume and bulk modulus, elastic constants with the atoms held
    in place, formation energy of a vacancy (of an element), energy of the surface across
    the third edge. Crystals that fill their cell alone."""

    @model_validator(mode="after")
    def _ramps(self) -> Self:
        if self.final_temperatures and len(self.final_temperatures) != len(
            self.temperatures
        ):
            raise ValueError(
                f"final_temperatures: {len(self.final_temperatures)} given for "
                f"{len(self.temperatures)} temperatures"
            )
        return self


_NOTHING = "initial: nothing to begin with; at least 1, or `labelled` or `trained`"


class AuditSection(Section):
    """The final evaluation: random samples of every stratum that are never trained on."""

    frames: Annotated[int, Field(ge=0)] = 4
    """Labelled in each stratum; 0 for no final evaluation."""


class LeftOverSection(Section):
    """The final evaluation: frames that were not chosen."""

    frames: Annotated[int, Field(ge=0)] | None = None
    """Of each stratum; all by default, 0 for no final evaluation."""


class LoopScenario(Common):
    """Concurrent learning: when to trust, what to label, when to stop."""

    changeable: ClassVar[tuple[str, ...]] = ("rounds", "execution", "library")
    kind: Literal["learn"]
    target: Positive
    """Error to be met in the worst stratum: of forces in eV/angstrom, of a closure in its
    scaled closing moment."""
    execution: choice(EXECUTORS, "serial") = Serial()  # type: ignore[valid-type]
    """Where labels are computed."""
    threshold: choice(THRESHOLDS, "conformal") = Conformal()  # type: ignore[valid-type]
    """Up to which deviation a sample is trusted."""
    batch: Batch = Batch()
    """What is labelled."""
    stop: StopRule = StopRule()
    """When the loop ends, and what proves that a stratum meets the target."""
    rounds: Annotated[int, Field(ge=0, le=10000)] = 20
    """Rounds of exploring, at most."""
    attempts: Count = 3
    """Failures of a label after which its sample is quarantined."""
    tolerated: Fraction = 0.5
    """Part of a round's labels that may be quarantined."""
    library: InputPath | None = None
    """Existing folder of labels that runs share: a label of the same structure and method
    is taken from it, new ones are put there. Without, labels are this run's alone."""

    @classmethod
    def variants(cls) -> tuple[type[Any], ...]:
        """Return the loops over structures, labelled frames and gas flows."""
        return LearnScenario, ChoiceScenario, ClosureLearnScenario

    @classmethod
    def variant(cls, data: Any) -> type[Common]:
        """Return the loop that `data`, or an explorer or labeler of flows, asks for."""

        def kind(key: str) -> Any:
            value = data.get(key)
            return value.get("kind") if isinstance(value, Mapping) else value

        if "data" in data:
            return ChoiceScenario
        flows = kind("explorer") == "flows" or kind("labeler") == "kinetic"
        return ClosureLearnScenario if flows else LearnScenario

    @model_validator(mode="after")
    def _on_the_cpu(self) -> Self:
        if self.device != "cpu":
            raise ValueError("device: concurrent learning runs on the cpu")
        return self


class PotentialLoop(LoopScenario):
    """What loops of a potential share: what they begin with, what they train."""

    labelled: Source | None = None
    """Frames labelled by the same method, on which the first committee is trained too; none
    is labelled again, and they count in no budget."""
    trained: InputPath | None = None
    """A saved committee with which the loop begins, in place of an untrained one of the
    form `model`. What it was trained on belongs into `labelled`, lest it forget."""
    model: HigherMoments = HigherMoments()
    """The form of the potential; `members` is the size of the committee."""
    training: PotentialTrainer = PotentialTrainer()
    """How it is trained."""

    @model_validator(mode="after")
    def _can_disagree(self) -> Self:
        if self.trained is None and self.model.members < 2:
            raise ValueError(
                "model.members: a committee of one cannot disagree with itself; at least 2"
            )
        return self


class LearnScenario(PotentialLoop):
    """Concurrent learning of a potential: explore, label, train until it converges."""

    job: ClassVar[str] = "scalebridge.engine.jobs.learn:assemble"
    start: Annotated[tuple[StartSection, ...], Field(min_length=1)]
    """Structures and temperatures."""
    initial: Annotated[int, Field(ge=0, le=1000)] = 2
    """Distorted copies of each structure that are labelled first."""
    initial_rattle: Positive = 0.1
    """Their displacements, angstrom."""
    explorer: choice(EXPLORERS, "dynamics") = Dynamics()  # type: ignore[valid-type]
    """How it explores."""
    labeler: choice(LABELERS)  # type: ignore[valid-type]
    """The micro-scale model."""
    audit: AuditSection = AuditSection()
    """The final evaluation."""

    @model_validator(mode="after")
    def _begins(self) -> Self:
        if not self.initial and self.labelled is None and self.trained is None:
            raise ValueError(_NOTHING)
        names = [start.name for start in self.start]
        if len(set(names)) < len(names):
            raise ValueError("start: names must differ")
        return self


class ChoiceScenario(PotentialLoop):
    """Choose from labelled frames as few as a potential needs to know them all."""

    job: ClassVar[str] = "scalebridge.engine.jobs.learn:assemble_choice"
    data: Source | Annotated[tuple[Source, ...], Field(min_length=1)]
    """Labelled frames to choose from, in place of `start`, `explorer` and `labeler`: any
    format that training reads. Their groups are the strata, or else their files."""
    initial: Annotated[int, Field(ge=0)] = 10
    """Frames of each stratum that are drawn at random first."""
    audit: LeftOverSection = LeftOverSection()
    """The final evaluation."""

    @model_validator(mode="before")
    @classmethod
    def _in_place_of(cls, data: Any) -> Any:
        for key in ("start", "explorer", "labeler"):
            if key in data:
                raise ValueError(
                    f"{key}: `data` stands in its place; leave one of them out"
                )
        return data

    @model_validator(mode="after")
    def _begins(self) -> Self:
        if not self.initial and self.labelled is None and self.trained is None:
            raise ValueError(_NOTHING)
        if useless := sorted(given(self) & {"execution", "library"}):
            raise ValueError(f"{useless[0]}: nothing is computed where `data` is labelled")
        return self


def _of_faces(value: Any) -> Any:
    return {"kind": "face_closure", **value} if isinstance(value, dict) else value


class ClosureLearnScenario(LoopScenario):
    """Concurrent learning of a moment closure; the kinetic equation is the truth."""

    job: ClassVar[str] = "scalebridge.engine.jobs.learn:assemble_closure"
    initial: Count = 4
    """Flows of each family that are labelled first."""
    explorer: choice(EXPLORERS, "flows") = Flows()  # type: ignore[valid-type]
    """How it explores."""
    labeler: choice(LABELERS, "kinetic") = Kinetic()  # type: ignore[valid-type]
    """The micro-scale model."""
    network: Annotated[
        LocalForm | FaceForm, Field(discriminator="kind"), BeforeValidator(_of_faces)
    ] = FaceForm()
    """The form of the closure: face_closure where no kind is named, or local_closure, which
    has no length of its own."""
    members: Annotated[int, Field(ge=2, le=32)] = 3
    """Size of the committee."""
    training: ClosureTrainer = ClosureTrainer()
    """How it is trained."""
    audit: AuditSection = AuditSection()
    """The final evaluation."""

    @model_validator(mode="after")
    def _of_flows(self) -> Self:
        if not isinstance(self.explorer, Flows):
            raise ValueError("explorer: the labeler kinetic goes with kind flows")
        if not hasattr(self.labeler, "labeler"):
            raise ValueError("labeler: the explorer flows goes with kind kinetic")
        axes = getattr(self.network, "dimension", 1)
        if axes != 1:
            raise ValueError(f"network.dimension: {axes}; the flows have 1")
        return self
