"""What a scenario that trains moment closures may say; non-dimensional (``engine.gas``)."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...models.closures.face import FaceForm
from ...models.closures.local import LocalForm
from ...models.closures.recurrence import RecurrenceForm
from .base import Common, Section, given

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class FamilySection(Section):
    """Random flows of one kind; flow i has a Knudsen number in decade i mod 4."""

    name: Literal["wave", "mix", "jump", "transition", "wide"]
    """Smooth waves; waves and jumps, partly far from equilibrium; strong jumps; a mix with
    Kn sweeping 1e-3 to 10 along the box; fronts and waves of any steepness and strength."""
    flows: int = Field(ge=1, le=100_000)
    """How many."""
    first: int = Field(default=0, ge=0)
    """Index of the first one."""
    until: Positive = 0.4
    """Time up to which their kinetic solution is sampled."""


class FrontsSection(Section):
    """Strong shocks and Riemann problems on an open line, in addition to the families."""

    mach: list[Annotated[float, Field(gt=1, le=20)]] = Field(
        default=[1.35, 1.8, 2.5, 3.4, 4.6, 6.2, 7.5]
    )
    """Mach numbers of shocks at rest (gamma = 3)."""
    riemann: int = Field(default=12, ge=0, le=10_000)
    """How many random Riemann problems with colliding streams."""
    knudsen: list[Positive] = Field(default=[0.015, 0.03, 0.05, 0.1], min_length=1)
    """Knudsen numbers at which each is laid on the grid of the closure."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.mach and not self.riemann:
            raise ValueError("mach and riemann are both empty; name at least one front")
        return self


class ClosureTrainScenario(Common):
    """Trains a committee of closures on kinetic solutions of random flows."""

    job: ClassVar[str] = "scalebridge.engine.jobs.closure:assemble"
    kind: Literal["train"]
    precision: Literal["f32", "f64"] = "f32"
    """Of the weights during training; labels are computed in f64."""
    families: Annotated[list[FamilySection], Field(min_length=1)]
    """What is learned from."""
    fronts: FrontsSection | None = None
    """Strong fronts as well."""
    model: Annotated[LocalForm | FaceForm, Field(discriminator="kind")]
    """The form of the closure: local_closure, which has no length of its own, or
    face_closure, whose resolution ``cells`` sets."""
    members: int = Field(default=3, ge=1, le=32)
    """Closures that differ by their first weights and the order of the data."""
    cells: int = Field(default=100, ge=20, le=4096)
    """Cells on which the closure learns."""
    refinement: int = Field(default=2, ge=1, le=16)
    """The kinetic grid is finer by this factor."""
    velocities: int = Field(default=72, ge=24, le=1024)
    """Discrete velocities in [-7.2, 7.2]."""
    validation: Fraction = 0.1
    """Part of each family that is held out."""
    steps: Count = 1500
    """Steps of the regression."""
    batch: int = Field(default=32, ge=2)
    """Rows of faces in a step."""
    rate: Positive = 5e-3
    """Learning rate at the start; it falls linearly."""
    linear: Fraction = 0.15
    """Share of exact linear modes of BGK among the rows."""
    rolled: int = Field(default=0, ge=0)
    """Steps after that at 0.6 of the rate, in which half of the states are those that the
    closure itself reaches, running from the start of each flow."""
    polish: int = Field(default=0, ge=0)
    """Steps after that at 0.4 of the rate, in which the exact linear waves weigh more."""
    unrolled: int = Field(default=0, ge=0)
    """Steps of training through the moment solver after that."""
    unrolled_rate: Positive = 5e-4
    """Learning rate there."""
    begin: tuple[Path, ...] = ()
    """Weights to go on from, one file for each member, in place of new ones: nothing is
    regressed then, only ``refined``."""
    refined: int = Field(default=0, ge=0, le=20)
    """Rounds at the end in which the network's last layer is fitted through the solver, to
    whole runs (Gauss and Newton's method)."""
    name: str = Field(default="closure", pattern=r"^[A-Za-z0-9_.-]+$")
    """Files in the run folder: NAME_0.safetensors and so on, each with its card."""

    @model_validator(mode="after")
    def _goes_on(self) -> Self:
        if not self.begin:
            return self
        if len(self.begin) != self.members:
            raise ValueError(
                f"begin: {len(self.begin)} files; members = {self.members}: one for each"
            )
        if not self.refined:
            raise ValueError("begin: nothing is done with them; set refined to 1 or more")
        said = {"steps", "rolled", "polish", "unrolled", "linear", "rate"}
        if idle := sorted(said & given(self)):
            raise ValueError(
                f"begin: nothing is regressed then: leave out {', '.join(idle)}"
            )
        return self

    @model_validator(mode="after")
    def _one_resolution(self) -> Self:
        form = self.model
        names = ("linear", "rolled", "polish", "unrolled", "refined")
        own = [n for n in names if getattr(self, n)]
        if form.dimension > 1 and (own or self.fronts is not None):
            raise ValueError(
                f"model.dimension: {form.dimension}; {', '.join([*own, 'fronts'])} belong "
                "to gases with one velocity dimension: set them to 0, leave fronts out"
            )
        if not isinstance(form, FaceForm):
            return self
        if form.resolution not in (FaceForm.resolution, 1.0 / self.cells):
            raise ValueError(
                f"model.resolution {form.resolution}: cells = {self.cells} make it "
                f"{1.0 / self.cells:g}; leave it out"
            )
        return self


class ClosureShockTrainScenario(Common):
    """Trains realizable closures of six moments on stationary kinetic shocks."""

    job: ClassVar[str] = "scalebridge.engine.jobs.closure:assemble"
    kind: Literal["train"]
    model: RecurrenceForm
    """The form of the closure."""
    mach: Annotated[list[Annotated[float, Field(gt=1, le=20)]], Field(min_length=1)]
    """Mach numbers of the shocks at rest that are learned from (gamma = 3)."""
    moving: Annotated[list[Annotated[float, Field(gt=1, le=20)]], Field(min_length=1)]
    """Mach numbers of shocks that are learned from on their way to rest."""
    held_out: Annotated[list[Annotated[float, Field(gt=1, le=20)]], Field(min_length=1)]
    """Mach numbers of shocks on which the closure is judged; none of ``mach``."""
    extent: Positive = 60.0
    """Half width of the boxes in upstream mean free paths; a third less below Mach 2."""
    cells: int = Field(default=400, ge=40, le=4096)
    """Points of a profile, less one."""
    velocities: int = Field(default=160, ge=32, le=2048)
    """Discrete velocities, at least."""
    members: int = Field(default=3, ge=1, le=32)
    """Closures that differ by their first weights and the order of the data."""
    samples: int = Field(default=2000, ge=10)
    """Cells that are kept of the moving shocks of each Mach number, at most."""
    steps: Count = 1500
    """Steps of the regression."""
    batch: int = Field(default=360, ge=45)
    """Points in a step."""
    rate: Positive = 5e-3
    """Learning rate at the start; it falls linearly."""
    hyperbolic: float = Field(default=2.0, ge=0)
    """Weight of a penalty on signal speeds that are not real, near what was learned."""
    plain: float = Field(default=0.1, ge=0)
    """Weight of a penalty on what is added to the analytic baseline, far off."""
    name: str = Field(default="closure_shock", pattern=r"^[A-Za-z0-9_.-]+$")
    """Files in the run folder: NAME_0.safetensors and so on, each with its card."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        both = {*self.mach, *self.moving} & set(self.held_out)
        if both:
            raise ValueError(f"held_out {sorted(both)}: learned from as well")
        return self
