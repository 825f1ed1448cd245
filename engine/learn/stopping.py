"""When to stop: every stratum is trusted, and measured to be as good as asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stratum:
    """What a round saw of one stratum (a temperature, a phase, a Knudsen number).

    Attributes:
        seen: samples.
        untrusted: fraction of their weight that is not accurate.
        errors: true errors of the samples that the random arm drew here.
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
    """Stop when ``rounds`` rounds in a row leave nothing open.

    A stratum is open while more than ``untrusted`` of it lies above the threshold, or
    while the root mean square of the errors that the random arm measured in it exceeds
    ``target``.

    Attributes:
        target: error to be met in the worst stratum, in the unit of the error.
        untrusted: fraction that may lie above the threshold.
        rounds: how often in a row.
    """

    target: float
    untrusted: float = 0.02
    rounds: int = 2

    def open_strata(self, history: Sequence[Round]) -> dict[str, str]:
        """Return the strata that are not done, with the reason."""
        recent = history[-self.rounds :]
        names = dict.fromkeys(name for round in recent for name in round.strata)
        reasons = {name: self._reason(name, recent) for name in names}
        return {name: reason for name, reason in reasons.items() if reason}

    def _reason(self, name: str, recent: Sequence[Round]) -> str:
        found = [round.strata[name] for round in recent if name in round.strata]
        worst = max(stratum.untrusted for stratum in found)
        if worst > self.untrusted:
            return f"{worst:.1%} untrusted, {self.untrusted:.1%} allowed"
        errors = [error for stratum in found for error in stratum.errors]
        rms = math.sqrt(sum(e * e for e in errors) / len(errors)) if errors else 0.0
        if rms > self.target:
            return f"measured error {rms:.3g}, {self.target:.3g} asked for"
        return ""

    def done(self, history: Sequence[Round]) -> bool:
        """Tell whether nothing is open any more."""
        recent = history[-self.rounds :]
        return (
            len(recent) == self.rounds
            and all(round.untrusted <= self.untrusted for round in recent)
            and not self.open_strata(recent)
        )
