"""What a scenario that holds models against each other's physics may say."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...models.potentials.behler_parrinello import BehlerParrinello
from ...models.potentials.deep_potential import HigherMoments, SmoothEdition
from ...models.potentials.fields import Positive, Widths
from ...models.potentials.local_frame import LocalFrame
from ...models.potentials.unconstrained import Unconstrained
from .base import Common, Section


class NoSymmetrySection(Section):
    """One network of all coordinates of the box, as they stand."""

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


class SymmetryScenario(Common):
    """Trains potentials with and without symmetry on the same data and compares them."""

    job: ClassVar[str] = "scalebridge.engine.jobs.audit:assemble"
    kind: Literal["symmetry"]
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)] = (
        300.0,
        900.0,
        1500.0,
        2500.0,
    )
    """Of the data, kelvin; above 2000 K the silicon is molten."""
    sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (
        8,
        32,
        128,
        512,
    )
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
