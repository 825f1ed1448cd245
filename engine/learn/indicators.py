"""Uncertainty of a committee: its deviation, and the threshold up to which it is trusted.

The deviation of a committee is not an error: it has to be calibrated. :class:`Conformal`
derives a threshold from the target accuracy and the true errors of the samples that were
labelled; :class:`TrustLevels` are the hand-set levels of DP-GEN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated, Literal, Protocol

import torch
from annotated_types import Ge, Gt, Lt
from scipy.special import betaincinv
from torch import Tensor

from ...models.parts import Family, part
from ..errors import InputError
from ..protocols import Check, Committee

THRESHOLDS = Family(
    "threshold",
    __name__.rpartition(".")[0],
    {"conformal": "indicators:Conformal", "levels": "indicators:TrustLevels"},
)
"""Every rule for the trusted deviation that a scenario can name."""

Positive = Annotated[float, Gt(0)]


class Verdict(IntEnum):
    """What a deviation means."""

    ACCURATE = 0
    CANDIDATE = 1
    FAILED = 2


@dataclass(frozen=True)
class Levels:
    """The levels in force in a round.

    Attributes:
        low: up to here a sample is accurate (trusted).
        high: from here on, and where the deviation is NaN, it has failed.
        ratio: with ``offset``, bounds ``error <= ratio (deviation + offset)``; NaN where
            nothing is promised: levels set by hand, or too little evidence.
        offset: in the unit of the deviation.
        exploration_limit: deviation at which an explorer terminates; not below ``low``.
            Wider while the models are poor, so that the first rounds leave their starts.
    """

    low: float
    high: float = math.inf
    ratio: float = math.nan
    offset: float = 0.0
    exploration_limit: float = 0.0

    @property
    def reach(self) -> float:
        """Deviation up to which an explorer continues."""
        return max(self.low, self.exploration_limit)

    def bound(self, deviation: Tensor) -> Tensor:
        """Return the predicted bound on the error, ``[samples]``."""
        return self.ratio * (deviation + self.offset)

    def widened(self, factor: float) -> "Levels":
        """Return the levels of a bound that is ``factor`` times as wide."""
        return replace(
            self,
            low=(self.low + self.offset) / factor - self.offset,
            ratio=self.ratio * factor,
            exploration_limit=(self.exploration_limit + self.offset) / factor - self.offset,
        )

    def judge(self, deviation: Tensor) -> Tensor:
        """Return the :class:`Verdict` of each deviation, int8 ``[samples]``."""
        verdict = torch.full(deviation.shape, int(Verdict.CANDIDATE), dtype=torch.int8)
        verdict[deviation <= self.low] = int(Verdict.ACCURATE)
        verdict[~(deviation < self.high) | ~deviation.isfinite()] = int(Verdict.FAILED)
        return verdict


@dataclass(frozen=True)
class Evidence:
    """Deviations whose true errors are known, each found before the sample was trained on.

    Attributes:
        deviation: ``[n]``, of the committee.
        error: ``[n]``, of its mean prediction, in the unit of the target.
        bound: ``[n]``, the bound of that round; NaN where levels were set by hand.
        round: ``[n]`` int64, when it was found.
        drawn: ``[n]`` bool, whether it was drawn at random.
    """

    deviation: Tensor
    error: Tensor
    bound: Tensor
    round: Tensor
    drawn: Tensor

    @staticmethod
    def none() -> "Evidence":
        """Return the evidence before the first label."""
        empty = torch.empty(0, dtype=torch.float64)
        return Evidence(empty, empty, empty, empty.long(), empty.bool())

    def joined(self, other: "Evidence") -> "Evidence":
        """Return both together."""
        mine, others = vars(self), vars(other)
        return Evidence(**{name: torch.cat([mine[name], others[name]]) for name in mine})

    def of(self, round: int) -> "Evidence":
        """Return what was found in one round."""
        keep = self.round == round
        return Evidence(**{name: tensor[keep] for name, tensor in vars(self).items()})

    def random(self, first: int) -> "Evidence":
        """Return the random samples of round ``first`` and later."""
        keep = self.drawn & (self.round >= first)
        return Evidence(**{name: tensor[keep] for name, tensor in vars(self).items()})


class Threshold(Protocol):
    """Sets the levels of a round from the evidence so far; also a plain function."""

    def __call__(self, evidence: Evidence, target: float) -> Levels:
        """Return the levels; ``target`` is the error asked for."""
        ...


@part
class TrustLevels:
    """Trust levels set by hand (trust_lo and trust_hi of DP-GEN)."""

    low: Positive
    """A deviation up to here is accurate, in the unit of the deviation (eV/angstrom)."""
    high: Positive
    """A deviation from here on has failed."""
    kind: Literal["levels"] = "levels"

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must lie below high {self.high:g}")

    def __call__(self, evidence: Evidence, target: float) -> Levels:
        """Return the same levels always."""
        return Levels(self.low, self.high, exploration_limit=self.high)


@part
class Conformal:
    """The trusted deviation follows from the accuracy asked for.

    The score of a labelled sample is ``s = error / (deviation + floor target)``. With ``q``
    the ``ceil((n + 1) coverage)``-th smallest of ``n`` scores, a new exchangeable sample
    has ``error <= q (deviation + floor target)`` with at least that probability (split
    conformal prediction, normalised score with a sensitivity term; Papadopoulos, Gammerman
    and Vovk 2008), so that the level is ``low = target (1 / q - floor)``. The floor keeps
    samples whose error and deviation are both far below the target from deciding it.
    Scores between two ranks are interpolated, so that the bound holds with the coverage
    asked for and not with the next larger rank. With fewer samples than ``minimum`` nothing
    is promised: ``prior`` stands in, and the bound of that round is NaN.
    """

    coverage: Annotated[float, Gt(0), Lt(1)] = 0.9
    """Probability with which the bound on the error holds."""
    minimum: Annotated[int, Ge(9)] = 10
    """Labelled samples below which ``prior`` is used and nothing is promised."""
    prior: Positive = 3.5
    """Ratio of error and deviation to start from; committees of networks underestimate
    their error (3.5 times on silicon, as first measured here)."""
    floor: Annotated[float, Ge(0)] = 0.05
    """Deviation, as a fraction of the target, that counts as none."""
    rate: Annotated[float, Ge(0), Lt(1)] = 0.02
    """By which a label that was within its bound, or not, moves the share allowed to miss;
    0 for none."""
    patience: Positive = 3.0
    """Explorers continue to where the error is bounded by this multiple of the error last
    measured (its upper quartile), or of the target, whichever is larger: what lies beyond
    is not measured. With 0.5 walkers in silicon ended where they began, and 300 labels left
    an error of 0.34 eV/angstrom instead of 0.11."""
    kind: Literal["conformal"] = "conformal"

    def adapted(self, past: Evidence, count: int) -> "Conformal":
        """Return the rule with the coverage that makes up for what earlier bounds missed.

        The models learn between calibration and use, so that the two are not quite
        exchangeable. After every random label ``alpha += rate (alpha_0 - missed)`` with
        ``alpha_0 = 1 - coverage``, which brings the long-run share of misses to alpha_0
        whatever the shift (Gibbs and Candes 2021, Adaptive conformal inference, eq. 2).

        Args:
            past: bounds of earlier rounds with the errors found.
            count: samples to calibrate with, which limit the coverage to
                ``count / (count + 1)``.
        """
        asked = 1.0 - self.coverage
        used = past.drawn & past.bound.isfinite() & past.error.isfinite()
        level = asked
        for missed in (past.error > past.bound)[used].tolist():
            level = min(max(level + self.rate * (asked - missed), 0.3 * asked), 3 * asked)
        most = count / (count + 1)
        return replace(self, coverage=min(1.0 - level, max(most, self.coverage)))

    def __call__(self, evidence: Evidence, target: float) -> Levels:
        """Return the calibrated level; only NaN counts as failed."""
        offset = self.floor * target
        enough = len(evidence.error) >= self.minimum
        ratio = conformal_ratio(evidence, self.coverage, offset) if enough else math.nan
        known = math.isfinite(ratio) and ratio > 0
        q = ratio if known else self.prior
        # not the mean square, by which one walk that went astray leads all others there
        usual = float(evidence.error.quantile(0.75)) if len(evidence.error) else 10 * target
        exploration_limit = self.patience * max(target, usual) / q - offset
        promised = q if known else math.nan
        return Levels(target / q - offset, math.inf, promised, offset, exploration_limit)


def conformal_ratio(evidence: Evidence, coverage: float, offset: float = 0.0) -> float:
    """Return ``q`` of :class:`Conformal`; infinite if the evidence is too little."""
    fine = evidence.deviation.isfinite() & evidence.error.isfinite()
    scores = evidence.error[fine] / (evidence.deviation[fine] + offset).clamp(min=1e-12)
    rank = (len(scores) + 1) * coverage
    below = math.floor(rank)
    if math.ceil(rank) > len(scores):
        return math.inf
    ordered = scores.sort().values
    low, high = float(ordered[max(below, 1) - 1]), float(ordered[math.ceil(rank) - 1])
    return low + (rank - below) * (high - low)


def covered(evidence: Evidence) -> tuple[int, int]:
    """Return how many random samples had ``error <= bound``, and how many a bound."""
    bounded = evidence.bound.isfinite() & evidence.error.isfinite() & evidence.drawn
    inside = bounded & (evidence.error <= evidence.bound)
    return int(inside.sum()), int(bounded.sum())


def coverage(evidence: Evidence) -> float:
    """Return the fraction of random samples with ``error <= bound``; NaN without any."""
    inside, count = covered(evidence)
    return inside / count if count else math.nan


def promise(evidence: Evidence, asked: float) -> tuple[Check, ...]:
    """Return the check that bounds held as often as promised; none without bounds.

    What is compared is the upper end (Clopper and Pearson 1934, 0.99) of the share that was
    within its bound: it fails where chance does not explain the misses.
    """
    inside, count = covered(evidence)
    if not count:
        return ()
    high = float(betaincinv(inside + 1, count - inside, 0.99)) if inside < count else 1.0
    note = f"bounds that held, upper end for {inside} of {count} random labels"
    return (Check("bounds", "accuracy", high, asked, at_least=True, note=note),)


def spearman(a: Tensor, b: Tensor) -> float:
    """Return the rank correlation of two samples (ties share their mean rank)."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x.norm() * y.norm()).clamp(min=1e-300))


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = torch.cumsum(counts, 0).double()
    return (last - (counts.double() - 1) / 2)[inverse]


def spread(predictions: Sequence[Tensor]) -> Tensor:
    """Return the standard deviation over members of vectors: ``sqrt(<|F - <F>|^2>)``.

    Args:
        predictions: one ``[..., d]`` per member; ``d`` is summed over.

    Reference: Zhang et al. 2019, Phys. Rev. Materials 3, 023804, eq. 1 (population
    standard deviation over all members).
    """
    stacked = torch.stack(list(predictions))
    return (stacked - stacked.mean(0)).square().sum(-1).mean(0).sqrt()


def check_committee(committee: Committee) -> None:
    """Refuse a committee that cannot disagree.

    A module may hold several stacked ``members``.

    Raises:
        InputError: fewer than two members.
    """
    members = sum(int(getattr(module, "members", 1)) for module in committee)
    if members < 2:
        raise InputError(
            f"committee: {members} member cannot disagree with itself; at least 2"
        )
