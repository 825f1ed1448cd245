"""What a scenario that makes a labelled data set may say."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ..learn.labelers import LABELERS
from ..learn.labelers.quantum import TbliteLabeler
from .base import Common, Section, choice

Positive = Annotated[float, Field(gt=0)]


class ClustersSection(Section):
    """Clusters of 1, 2, ... molecules on short walks by Langevin dynamics."""

    molecule: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")] = "H2O"
    """Name of the molecule, as in ASE's G2 collection."""
    frames: Annotated[
        tuple[Annotated[int, Field(ge=0, le=100_000)], ...],
        Field(min_length=1, max_length=10),
    ]
    """How many frames of clusters of 1, 2, ... molecules."""
    walks: Annotated[int, Field(ge=2, le=1000)] = 6
    """Independent walks of each size; the last one is the test set."""
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)] = (300.0,)
    """K; the walks take them in turn."""
    spacing: Positive = 2.9
    """Angstrom, between the molecules of a start."""
    warm: Annotated[int, Field(ge=0)] = 200
    """Time steps before the first frame."""
    stride: Annotated[int, Field(ge=1)] = 40
    """Time steps between frames."""
    timestep: Positive = 0.5
    """fs."""
    rattle: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest standard deviation of the distortion of every second frame, angstrom."""
    mover: TbliteLabeler = TbliteLabeler()
    """What moves the atoms between frames."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not sum(self.frames):
            raise ValueError("frames: at least one frame of some size")
        return self


class LabelScenario(Common):
    """Samples structures and labels them with a micro-scale model."""

    job: ClassVar[str] = "scalebridge.engine.jobs.label:assemble"
    changeable: ClassVar[tuple[str, ...]] = ("workers", "attempts")
    kind: Literal["label"]
    clusters: ClustersSection
    """Which structures."""
    labeler: choice(LABELERS)  # type: ignore[valid-type]
    """What labels them."""
    workers: Annotated[int, Field(ge=0, le=1000)] = 0
    """Processes that label; 0: this one."""
    attempts: Annotated[int, Field(ge=1)] = 2
    """Failures after which a structure is given up."""
