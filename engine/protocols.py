"""The protocols between packages, and what a job returns.

Any object with the methods fits; nothing has to be inherited. A plain function is accepted
wherever a protocol has a single call.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from .comparison import holds

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
        """Run the current models and yield the samples that they visit."""
        ...


class Indicator(Protocol[Sample_contra]):
    """Estimates the error of the committee, one number per sample."""

    def __call__(self, committee: Committee, samples: Sequence[Sample_contra]) -> Tensor:
        """Return the estimated error ``[samples]``; NaN means the models failed."""
        ...


class Labeler(Protocol[Sample_contra, Label_co]):
    """Answers one sample with the micro-scale model; runs in a worker process."""

    def label(self, sample: Sample_contra) -> Label_co:
        """Return the label, or raise: the loop records the failure and continues."""
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
"""Whether something happens at a step: ``lambda step: step % 100 == 0``."""


@dataclass(frozen=True)
class Figure:
    """One named result of a run, as in ``summary.json``."""

    value: float
    unit: str = ""
    error: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Check:
    """One thing that was checked of a result, with the value found and what is allowed.

    Attributes:
        name: as in ``summary.json``, e.g. ``energy_drift``.
        kind: ``health`` (finite, conserved, positive), ``accuracy`` (against an exact
            answer, a reference, a finer grid, the set-point that was asked for) or
            ``domain`` (is a learned part where it was trained).
        value: what was found; a NaN or an infinity fails.
        bound: what is allowed.
        at_least: the bound is a lower one.
        unit: of value and bound.
        note: one sentence: what is compared with what, or what is wrong.
    """

    name: str
    kind: Literal["health", "accuracy", "domain"]
    value: float
    bound: float
    at_least: bool = False
    unit: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value keeps the bound; False for a value that is not finite."""
        return holds(self.value, self.bound, self.at_least)

    @property
    def sentence(self) -> str:
        """``ok``, or one sentence that says what is wrong."""
        if self.passed:
            return "ok"
        if not math.isfinite(self.value):
            return f"{self.note} (not finite)" if self.note else "not finite"
        sign, unit = ("<" if self.at_least else ">"), (f" {self.unit}" if self.unit else "")
        said = f"{self.value:.3g}{unit} {sign} {self.bound:.3g}{unit}"
        return f"{self.note} ({said})" if self.note else said


@dataclass(frozen=True)
class Outcome:
    """What a job returns: its figures, and what was checked of them."""

    figures: Mapping[str, Figure] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    unchecked: Mapping[str, str] = field(default_factory=dict)
    """``health``, ``accuracy`` or ``domain`` -> why none of that kind was checked."""
    folder: Path | None = None
    """The run folder, once the run is done."""

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed for check in self.checks)

    @property
    def warnings(self) -> list[str]:
        """What could not be checked, one sentence each; ``--strict`` refuses these."""
        return not_checked(self.checks, self.unchecked)

    @property
    def headline(self) -> str:
        """How many checks were made, which failed, and what was not checked."""
        return headline(self.checks, self.unchecked)

    @property
    def verdicts(self) -> dict[str, str]:
        """Name of a check -> ``ok``, or one sentence that says what is wrong."""
        return {check.name: check.sentence for check in self.checks}


NOTHING_KNOWN = {
    "health": "nothing was measured",
    "accuracy": "no exact answer, reference or set-point to compare with",
}
"""Why a kind was not checked, where the job does not say."""


def not_checked(checks: Sequence[Check], unchecked: Mapping[str, str]) -> list[str]:
    """Return ``kind not checked: why`` of every kind that no check belongs to, or in part.

    Args:
        checks: of a run.
        unchecked: what its job says was not checked.
    """
    made = {check.kind for check in checks}
    missing = {k: why for k, why in NOTHING_KNOWN.items() if k not in made}
    said = {**missing, **unchecked}
    return [f"{kind} not checked: {why}" for kind, why in said.items()]


def headline(checks: Sequence[Check], unchecked: Mapping[str, str]) -> str:
    """Return e.g. ``12 checks, none failed; accuracy not checked: no reference``."""
    failed = [check.name for check in checks if not check.passed]
    count = f"{len(checks)} check{'' if len(checks) == 1 else 's'}"
    verdict = f"{len(failed)} failed ({', '.join(failed)})" if failed else "none failed"
    first = f"{count}, {verdict}" if checks else "nothing was checked"
    return "; ".join([first, *not_checked(checks, unchecked)])


def told(sentences: Mapping[str, str]) -> tuple[Check, ...]:
    """Return health checks without a value, each from ``ok`` or a sentence."""
    return tuple(
        Check(name, "health", float(said != "ok"), 0.0, note="" if said == "ok" else said)
        for name, said in sentences.items()
    )


@runtime_checkable
class Job(Protocol):
    """What a scenario is assembled into; it runs inside a run folder."""

    def run(self, folder: Any, report: Any) -> Outcome:
        """Do the work, from the checkpoint in ``folder`` if it holds one.

        Args:
            folder: a :class:`~.rundir.RunFolder`.
            report: a :class:`~.run.Reporter`.
        """
        ...


__all__ = [
    "Check",
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
    "headline",
    "not_checked",
    "told",
]
