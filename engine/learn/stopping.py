"""When to stop, and why: target met, error at its floor, or budget spent.

What decides is the error measured on labels that were drawn at random within a stratum,
each found before it was trained on, with an interval. A stratum without such labels is not
known: it never counts as met.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from scipy.special import stdtrit

from ...models.parts import part
from ..protocols import Check

Count = Annotated[int, Ge(1), Le(1000)]

_LOST = 2
"""Rounds without a single sample worth a label, after which more are of no use."""


@dataclass(frozen=True)
class Stratum:
    """What a round saw of one stratum (a temperature, a phase, a Knudsen number).

    Attributes:
        seen: samples screened.
        untrusted: fraction of their weight above the trusted deviation.
        errors: true errors of the samples that were drawn at random here, before they were
            trained on.
        unreached: fraction of the weight that the explorer did not reach, or where the
            models failed.
    """

    seen: float
    untrusted: float
    errors: tuple[float, ...] = ()
    unreached: float = 0.0


@dataclass(frozen=True)
class Round:
    """One round, as the stop rule sees it.

    Attributes:
        untrusted: fraction of the weight of all samples above the trusted deviation.
        strata: name -> what was seen.
        labels: on which the committee had been trained that explored and was measured.
    """

    untrusted: float
    strata: dict[str, Stratum] = field(default_factory=dict)
    labels: int = 0


class State(Enum):
    """What is known of a stratum."""

    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"
    UNREACHED = "unreached"
    UNMEASURED = "unmeasured"


class Reason(Enum):
    """Why a loop ended."""

    NONE = ""
    TARGET = "target met in every stratum"
    FLOOR = "floor reached"
    BUDGET = "budget spent"
    LOST = "nothing explored could be labelled"
    EXHAUSTED = "nothing without a label is left"


@dataclass(frozen=True)
class Measured:
    """The error of a stratum.

    Attributes:
        state: what follows from it.
        count: labels drawn at random.
        error: root mean square; NaN without labels.
        low: lower end of its interval.
        high: upper end; infinite with fewer than two labels.
        unreached: share that was not reached.
    """

    state: State
    count: int
    error: float
    low: float
    high: float
    unreached: float


@dataclass(frozen=True)
class Floor:
    """How the error of the strata that miss the target falls with the labels.

    ``error ~ labels^slope``; at the steepest slope of the interval the target would take
    ``needed`` labels (infinite where it does not fall).
    """

    slope: float
    steepest: float
    needed: float


def interval(errors: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return one-sided bounds, each held with ``confidence``, of the root mean square.

    Squares of errors are skewed, and ten of them seldom hold the rare large one that
    decides the mean: Student's t, ``mean -+ t s / sqrt(n)``, meant to hold with 0.95, does
    so with 0.64 where the errors' logarithms spread by 0.8 (random gas flows), with 0.87 at
    0.3. Beside it stand the bounds of log-normal squares, ``exp(m + v / 2 -+ t sqrt(v / n +
    v^2 / (2 (n - 1))))`` with ``m`` and ``v`` mean and variance of their logarithms (Olsson
    2005, J. Stat. Educ. 13, modified Cox method); a twentieth of the mean is added to them,
    so that small ones do not decide. The wider of both counts.
    """
    squares = np.square(np.asarray(errors, dtype=float))
    n, mean = len(squares), squares.mean() if len(squares) else 0.0
    if n < 2 or mean <= 0:
        return 0.0, math.inf if n < 2 else 0.0
    t = stdtrit(n - 1, confidence) * np.array([-1.0, 1.0])
    shift = 0.05 * mean
    logarithms = np.log(squares + shift)
    m, v = logarithms.mean(), logarithms.var(ddof=1)
    skewed = np.exp(m + v / 2 + t * math.sqrt(v / n + v * v / (2 * (n - 1)))) - shift
    plain = mean + t * squares.std(ddof=1) / math.sqrt(n)
    low, high = min(skewed[0], plain[0]), max(skewed[1], plain[1])
    return math.sqrt(max(low, 0.0)), math.sqrt(high)


@part
class StopRule:
    """The loop ends when the target is met in every stratum, at a floor, or by budget."""

    measured: Count = 10
    """Labels drawn at random within a stratum before it can count as met; a stratum gets
    them as soon as its predicted error is near the target."""
    window: Count = 3
    """Rounds back to which random labels count where the last round has too few."""
    confidence: Annotated[float, Gt(0.5), Lt(1)] = 0.95
    """With which the error of a met stratum lies below the target."""
    unreached: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Part of a stratum that walkers may leave unreached, or where the models fail."""
    labels: Annotated[int, Ge(1)] | None = None
    """Budget of reference calculations, which the round that spends it may exceed; without,
    rounds alone are limited."""
    falling: Annotated[float, Gt(1)] = 10.0
    """The floor is reached where even the steepest fall of the error that the measurements
    allow needs more than this multiple of the labels (or more than the budget)."""

    def strata(self, history: Sequence[Round], target: float) -> dict[str, Measured]:
        """Return what is known of every stratum met in the last rounds."""
        recent = history[-self.window :]
        names = dict.fromkeys(name for round in recent for name in round.strata)
        return {name: self._measured(name, recent, target) for name in names}

    def _measured(self, name: str, recent: Sequence[Round], target: float) -> Measured:
        found = [round.strata[name] for round in recent if name in round.strata]
        errors: list[float] = []
        for stratum in reversed(found):  # no older ones than are needed
            if len(errors) < self.measured:
                errors += stratum.errors
        low, high = interval(errors, self.confidence)
        rms = math.sqrt(sum(e * e for e in errors) / len(errors)) if errors else math.nan
        lost = found[-1].unreached
        if len(errors) >= 2 and low > target:
            state = State.MISSED
        elif lost > self.unreached:
            state = State.UNREACHED
        elif len(errors) < self.measured:
            state = State.UNMEASURED
        else:
            state = State.MET if high <= target else State.UNDECIDED
        return Measured(state, len(errors), rms, low, high, lost)

    def wanted(self, name: str, history: Sequence[Round], target: float) -> int:
        """Return the random labels that a stratum needs in the round to come.

        As many as are missing once the oldest round has left the window, so that what was
        measured stays measured; all where the error was measured and did not suffice.
        """
        recent = [r for r in history[-self.window :] if name in r.strata]
        if recent:
            state = self._measured(name, recent, target).state
            if state in (State.MISSED, State.UNDECIDED):
                return self.measured
        oldest = len(history) - self.window + 1
        kept = [r for k, r in enumerate(history) if k >= oldest and name in r.strata]
        count = sum(len(round.strata[name].errors) for round in kept)
        return max(self.measured - count, 0)

    def reason(
        self, history: Sequence[Round], target: float, labels: int
    ) -> tuple[Reason, str]:
        """Return why the loop ends now and a sentence, or ``Reason.NONE``.

        Args:
            history: rounds of exploring.
            target: error asked for.
            labels: reference calculations so far.
        """
        strata = self.strata(history, target)
        if strata and all(m.state is State.MET for m in strata.values()):
            return Reason.TARGET, Reason.TARGET.value
        if history and not history[-1].strata:
            return Reason.EXHAUSTED, Reason.EXHAUSTED.value
        last = [s for round in history[-_LOST:] for s in round.strata.values()]
        if len(history) >= _LOST and all(s.unreached >= 1.0 for s in last):
            return Reason.LOST, (
                f"{Reason.LOST.value}: in {_LOST} rounds the models failed at once on all "
                "walks; more initial labels, smaller displacements, or other limits of the "
                "explorer"
            )
        floor = self.floor(history, target)
        limit = self.falling * history[-1].labels if history else math.inf
        if self.labels is not None:
            limit = min(limit, self.labels)
        if floor is not None and floor.needed > limit:
            said = f"no more than labels^{floor.steepest:.2f}"
            if floor.steepest >= 0:
                said = "not at all"
            return Reason.FLOOR, (
                f"the error falls {said} (measured labels^{floor.slope:.2f}); "
                f"the target would take more than {limit:.0f} labels"
            )
        if self.labels is not None and labels >= self.labels:
            return Reason.BUDGET, f"{labels} of {self.labels} labels are spent"
        return Reason.NONE, ""

    def floor(self, history: Sequence[Round], target: float) -> Floor | None:
        """Fit the fall of the error in strata that miss the target; None with too little.

        Logarithms of the errors against those of the labels, each stratum with its own
        level, over the rounds since the labels were 2.5 times fewer: at least four, over
        a factor 1.5 in labels, with 24 errors.
        """
        missed = [
            name
            for name, found in self.strata(history, target).items()
            if found.state is State.MISSED
        ]
        now = history[-1].labels if history else 0
        used = [round for round in history if round.labels >= now / 2.5 and round.labels]
        if not missed or len(used) < 4 or now < 1.5 * used[0].labels:
            return None
        x, y = [], []
        for name in missed:
            points = [
                (math.log(round.labels), math.log(max(error, 1e-300)))
                for round in used
                if name in round.strata
                for error in round.strata[name].errors
            ]
            if len(points) > 1:
                here = np.array(points)
                here -= here.mean(0)
                x, y = [*x, *here[:, 0]], [*y, *here[:, 1]]
        freedom = len(x) - len(missed) - 1
        spread = float(np.square(x).sum())
        if len(x) < 24 or spread <= 0:
            return None
        slope = float(np.dot(x, y)) / spread
        left = np.square(np.array(y) - slope * np.array(x)).sum() / freedom
        steepest = slope - float(stdtrit(freedom, 0.95)) * math.sqrt(left / spread)
        worst = max(
            self._measured(n, history[-self.window :], target).error for n in missed
        )
        if steepest >= 0:
            return Floor(slope, steepest, math.inf)
        power = math.log(worst / target) / -steepest
        return Floor(slope, steepest, now * math.exp(min(power, 700.0)))

    def checks(self, history: Sequence[Round], target: float) -> tuple[Check, ...]:
        """Return one check of every stratum: the upper bound of its error."""
        return tuple(
            self._check(name, found, target)
            for name, found in self.strata(history, target).items()
        )

    def _check(self, name: str, found: Measured, target: float) -> Check:
        title = f"stratum {name}"
        if found.state is State.UNREACHED:
            note = "unreached: share that walkers did not reach or where the models failed"
            return Check(title, "domain", found.unreached, self.unreached, note=note)
        if found.state is State.UNMEASURED:
            note = f"unmeasured: random labels that are missing of {self.measured}"
            return Check(title, "accuracy", self.measured - found.count, 0.0, note=note)
        note = (
            f"{found.state.value}: upper bound of the error, {found.error:.3g} "
            f"[{found.low:.3g}, {found.high:.3g}] of {found.count} random labels"
        )
        return Check(title, "accuracy", found.high, target, note=note)
