"""When to stop: all strata are trusted, and their measured errors meet the target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..protocols import Check


@dataclass(frozen=True)
class Stratum:
    """What a round saw of one stratum (a temperature, a phase, a Knudsen number).

    Attributes:
        seen: samples.
        untrusted: fraction of their weight that is not accurate.
        errors: true errors of the samples that were drawn at random here.
    """

    seen: int
    untrusted: float
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Round:
    """One round, as the stop rule sees it.

    Attributes:
        untrusted: fraction of the weight of all samples that is not accurate.
        strata: name -> what was seen.
    """

    untrusted: float
    strata: dict[str, Stratum] = field(default_factory=dict)


@dataclass(frozen=True)
class StopRule:
    """Stop when all strata have converged over ``rounds`` rounds in a row.

    A stratum has converged when at most ``untrusted`` of it lies above the threshold, and
    the root mean square of the errors of its randomly drawn samples is at most ``target``.

    Attributes:
        target: error to be met in the worst stratum, in the unit of the error.
        untrusted: fraction that may lie above the threshold.
        rounds: rounds in a row.
    """

    target: float
    untrusted: float = 0.02
    rounds: int = 2

    def checks(self, history: Sequence[Round]) -> tuple[Check, ...]:
        """Return one check of every stratum, as the last rounds found it.

        It is that of the untrusted share where this fails or no error was measured, else
        that of the measured error.
        """
        recent = history[-self.rounds :]
        names = dict.fromkeys(name for round in recent for name in round.strata)
        return tuple(self._of_stratum(name, recent) for name in names)

    def _of_stratum(self, name: str, recent: Sequence[Round]) -> Check:
        found = [round.strata[name] for round in recent if name in round.strata]
        share, title = max(stratum.untrusted for stratum in found), f"stratum {name}"
        note = "share of untrusted samples"
        trusted = Check(title, "domain", share, self.untrusted, note=note)
        errors = [error for stratum in found for error in stratum.errors]
        if not (trusted.passed and errors):
            return trusted
        rms = math.sqrt(sum(e * e for e in errors) / len(errors))
        note = "measured error of samples drawn at random"
        return Check(title, "accuracy", rms, self.target, note=note)

    def done(self, history: Sequence[Round]) -> bool:
        """Tell whether all strata have converged."""
        recent = history[-self.rounds :]
        return (
            len(recent) == self.rounds
            and all(round.untrusted <= self.untrusted for round in recent)
            and all(check.passed for check in self.checks(recent))
        )
