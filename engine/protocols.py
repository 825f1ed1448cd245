"""The whole contract between the rooms: eight small protocols.

Anything that has the methods takes part; nothing has to be inherited. A plain function
is accepted wherever a protocol has a single call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

State = TypeVar("State")
Sample = TypeVar("Sample")
Label = TypeVar("Label")
Sample_co = TypeVar("Sample_co", covariant=True)
Sample_contra = TypeVar("Sample_contra", contravariant=True)
Label_co = TypeVar("Label_co", covariant=True)

Committee = Sequence[torch.nn.Module]


class Simulator(Protocol[State]):
    """A world: physics, discretisation and modules, configured once, never mutated.

    The state is a frozen dataclass of tensors and holds all that evolves; calling
    ``step`` twice from one state gives the same answer bit for bit on one device.
    """

    def init(self, rng: torch.Generator) -> State:
        """Return the initial state; every random number comes from ``rng``."""
        ...

    def step(self, state: State) -> State:
        """Advance by one time step."""
        ...

    def observe(self, state: State) -> Mapping[str, Tensor]:
        """Return named scalars (one per system) and fields; units in the world's docs."""
        ...


class Explorer(Protocol[Sample_co]):
    """Yields unlabelled samples that the current committee has visited."""

    def explore(self, committee: Committee, rng: torch.Generator) -> Iterator[Sample_co]:
        """Run the current models and yield what they meet."""
        ...


class Indicator(Protocol[Sample_contra]):
    """Estimates the error of the committee, one number per sample."""

    def __call__(self, committee: Committee, samples: Sequence[Sample_contra]) -> Tensor:
        """Return the estimated error ``[samples]``; NaN means the models failed."""
        ...


class Labeler(Protocol[Sample_contra, Label_co]):
    """Answers one sample with the micro-scale model; runs in a worker process."""

    def label(self, sample: Sample_contra) -> Label_co:
        """Return the label, or raise: the loop records the failure and goes on."""
        ...


class Trainer(Protocol[Sample, Label]):
    """Fits a committee to all labels known so far."""

    def train(
        self,
        committee: Committee,
        dataset: Sequence[tuple[Sample, Label]],
        rng: torch.Generator,
    ) -> Committee:
        """Return the next committee; may start from the current one."""
        ...


class Writer(Protocol):
    """Receives states at the steps that its trigger selects."""

    def write(
        self, step: int, time: float, state: Any, observed: Mapping[str, Tensor]
    ) -> None:
        """Record one frame."""
        ...


Trigger = Callable[[int], bool]
"""Tells at which steps something happens: ``lambda step: step % 100 == 0``."""


@dataclass(frozen=True)
class Figure:
    """One named result of a run, as it stands in ``summary.json``."""

    value: float
    unit: str = ""
    error: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a job hands back: its figures, and the verdict of every guard and check."""

    figures: Mapping[str, Figure] = field(default_factory=dict)
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """Name of the guard or check -> "ok" or one sentence that says what is wrong."""


@runtime_checkable
class Job(Protocol):
    """What a scenario is built into: something that runs inside a run folder."""

    def run(self, folder: Any, report: Any) -> Outcome:
        """Do the work, from the checkpoint in ``folder`` if it holds one.

        Args:
            folder: a :class:`~.rundir.RunFolder`.
            report: a :class:`~.run.Reporter`.
        """
        ...


__all__ = [
    "Committee",
    "Executor",
    "Explorer",
    "Figure",
    "Indicator",
    "Job",
    "Label",
    "Labeler",
    "Outcome",
    "Sample",
    "Simulator",
    "State",
    "Trainer",
    "Trigger",
    "Writer",
]
