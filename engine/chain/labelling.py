"""Which separation to label next, by what the error bar of the goal asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...models.potentials.pair import LearnedPair, PairLabel, Prior
from ..gas.collisions.published import Published
from .goal import Goal, Sensitivity, Window, sensitivities

Level = str
"""``coarse`` or ``fine``: of the theory that labels."""


@dataclass(frozen=True)
class Request:
    """A label that is wanted.

    Attributes:
        separation: angstrom.
        level: of theory.
        reason: one sentence.
    """

    separation: float
    level: Level
    reason: str


@dataclass(frozen=True)
class Plan:
    """When to stop, and where labels may stand.

    Attributes:
        start: separations that are labelled first, angstrom.
        nearest: smallest separation that may be labelled.
        farthest: largest.
        tolerance: standard deviation of the goal at which labelling stops.
        most: labels.
        finer: whether a finer level of theory is at hand.
    """

    start: tuple[float, ...]
    nearest: float
    farthest: float
    tolerance: float
    most: int
    finer: bool = False


@dataclass(frozen=True)
class Round:
    """One decision of the controller.

    Attributes:
        bar: standard deviation of the goal.
        rows: by source.
        request: what is labelled next; None where it stops.
        reason: why, or why it stops.
    """

    bar: float
    rows: dict[str, float]
    request: Request | None
    reason: str


def decide(found: Sensitivity, plan: Plan, fine: Sequence[bool]) -> Round:
    """Return the next label, or the reason to stop.

    What is left open between labels asks for a new separation, the one that cuts the
    variance most; a common error asks for the same separation at a finer level of theory,
    where the label that moves the goal most stands. Where there is none, and the common
    error alone is above the tolerance, more labels would be bought for nothing.

    Args:
        found: the goal by the labels so far.
        plan: bounds.
        fine: of each label, whether it is of the finer level already.
    """
    rows, bar = found.rows, found.bar
    if bar <= plan.tolerance:
        return Round(bar, rows, None, f"bar {bar:.2g} <= tolerance {plan.tolerance:.2g}")
    if len(found.labels) >= plan.most:
        return Round(bar, rows, None, f"{plan.most} labels, bar {bar:.2g}")
    between = rows["between labels"]
    common = (bar**2 - between**2) ** 0.5 if bar > between else 0.0
    if plan.finer and common > between and not all(fine):
        request = _finer(found, fine)
        return Round(bar, rows, request, request.reason)
    if common > plan.tolerance and between <= plan.tolerance:
        return Round(
            bar, rows, None,
            f"the labels' common error of {common:.2g} is above the tolerance "
            f"{plan.tolerance:.2g}: only a higher level of theory lowers it",
        )  # fmt: skip
    request = _new(found, plan)
    if request is None:
        return Round(bar, rows, None, f"no separation cuts the bar of {bar:.2g} further")
    return Round(bar, rows, request, request.reason)


def _finer(found: Sensitivity, fine: Sequence[bool]) -> Request:
    moved = [
        0.0 if done else abs(float(slope)) * sum(abs(c) for c in lab.common.values())
        for slope, lab, done in zip(found.by_label, found.labels, fine, strict=True)
    ]
    at = max(range(len(moved)), key=moved.__getitem__)
    r = found.labels[at].separation
    return Request(
        r, "fine", f"the common error at {r:.3f} moves the goal by {moved[at]:.2g}"
    )


def _new(found: Sensitivity, plan: Plan) -> Request | None:
    knots, gain = found.open_.knots, found.gain()
    allowed = (knots >= plan.nearest) & (knots <= plan.farthest)
    apart = 0.25 * found.open_.pair.baseline.prior.length
    for lab in found.labels:
        allowed &= (knots - lab.separation).abs() > apart
    gain = torch.where(allowed, gain, 0.0)
    at = int(gain.argmax())
    if float(gain[at]) < 1e-4 * plan.tolerance**2:
        return None
    share = float(gain[at]) ** 0.5
    r = float(knots[at])
    return Request(
        r, "coarse", f"between labels, {share:.2g} of the goal is open at {r:.3f}"
    )


@dataclass(frozen=True)
class FromPublished:
    """Labels that a published potential gives."""

    published: Published
    error: float

    def label(self, separation: float) -> PairLabel:
        """Return its energy, with the error that was asked for."""
        r = torch.tensor(separation, dtype=torch.float64)
        energy = float(self.published.pair(r))
        return PairLabel(
            separation, energy, self.error * abs(energy), {}, "a published potential"
        )


@dataclass(frozen=True)
class TwoKinds:
    """Labels of one kind near, of another one farther out.

    Attributes:
        near: labeler of smaller separations.
        far: labeler beyond.
        beyond: angstrom.
    """

    near: Any
    far: Any
    beyond: float

    def label(self, separation: float) -> PairLabel:
        """Return the label of whichever serves there."""
        return (self.far if separation > self.beyond else self.near).label(separation)


Ask = Callable[[Request], PairLabel]


@dataclass(frozen=True)
class Labelled:
    """All labels, in the order in which they were asked for.

    Attributes:
        labels: the newest of each separation.
        fine: of each, whether it is of the finer level.
        rounds: every decision.
    """

    labels: tuple[PairLabel, ...]
    fine: tuple[bool, ...]
    rounds: tuple[Round, ...]

    @property
    def reached(self) -> bool:
        """Whether the bar came under the tolerance."""
        return self.rounds[-1].reason.startswith("bar")


def label_until_known(
    plan: Plan, ask: Ask, prior: Prior, window: Window, goal: Goal
) -> Labelled:
    """Label until the goal is known.

    Args:
        plan: start, bounds, tolerance.
        ask: returns a label; a store behind it computes none twice.
        prior: of the potential.
        window: temperatures of the goal.
        goal: the number that labels are for.
    """
    requests = [Request(r, "coarse", "start") for r in plan.start]
    table = {q.separation: (ask(q), False) for q in requests}
    rounds: list[Round] = []
    while True:
        labels = tuple(lab for lab, _ in table.values())
        fine = tuple(done for _, done in table.values())
        pair = LearnedPair.of(labels, prior)
        found, _ = sensitivities(pair, labels, window, {"goal": goal})
        rounds.append(decide(found["goal"], plan, fine))
        request = rounds[-1].request
        if request is None:
            return Labelled(labels, fine, tuple(rounds))
        table[request.separation] = (ask(request), request.level == "fine")


__all__ = [
    "FromPublished",
    "Labelled",
    "Plan",
    "Request",
    "Round",
    "TwoKinds",
    "decide",
    "label_until_known",
]
