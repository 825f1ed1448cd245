"""Selection of a batch: candidates far from labelled samples and from each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ...models.parts import Family, part
from ..schema.base import choice

SELECTIONS = Family(
    "selection",
    __name__.rpartition(".")[0],
    {
        "farthest_point": "selection:FarthestPoint",
        "determinantal": "selection:Determinantal",
        "uniform": "selection:Uniform",
    },
)
"""Every way to pick a batch that a scenario can name."""

Rng = torch.Generator


class Arm(IntEnum):
    """Why a sample was labelled; ``NONE`` if it was not."""

    NONE = 0
    SEED = 1
    CHOSEN = 2
    RANDOM = 3


@part
class Uniform:
    """Pick at random: the baseline of the others."""

    kind: Literal["uniform"] = "uniform"

    def __call__(self, features: Tensor, known: Tensor, count: int, rng: Rng) -> Tensor:
        """Return the picks."""
        return torch.randperm(len(features), generator=rng)[:count]


@part
class FarthestPoint:
    """Pick one after the other the candidate farthest from all that is known or picked.

    ``i_k = argmax_i min_{j in known or picked} |x_i - x_j|`` (Gonzalez 1985); the first
    pick is random where nothing is known.
    """

    kind: Literal["farthest_point"] = "farthest_point"

    def __call__(self, features: Tensor, known: Tensor, count: int, rng: Rng) -> Tensor:
        """Return the picks."""
        if len(features) == 0 or count <= 0:
            return torch.empty(0, dtype=torch.long)
        picked: list[int] = []
        if len(known):
            distance = torch.cdist(features, known).min(1).values
        else:
            picked.append(int(torch.randint(len(features), (1,), generator=rng)))
            distance = torch.cdist(features, features[picked]).min(1).values
        while len(picked) < min(count, len(features)):
            farthest = int(distance.argmax())
            if distance[farthest] <= 0:  # only copies of picked samples are left
                break
            picked.append(farthest)
            new = torch.cdist(features, features[farthest : farthest + 1]).squeeze(1)
            distance = torch.minimum(distance, new)
        return torch.tensor(picked[:count])


@part
class Determinantal:
    """Pick greedily the batch of largest ``det K``, with ``K = X X^T`` given the known.

    Each pick has the largest residual ``K_ii - K_is K_ss^-1 K_si`` (pivoted Cholesky;
    Chen, Zhang, Zhou 2018, Fast greedy MAP inference for DPP, Algorithm 1).
    """

    kind: Literal["determinantal"] = "determinantal"

    def __call__(self, features: Tensor, known: Tensor, count: int, rng: Rng) -> Tensor:
        """Return the picks."""
        n = len(features)
        both = torch.cat([features, known]).double()
        both = both / both.norm(dim=1, keepdim=True).clamp(min=1e-12)
        residual = torch.ones(n, dtype=torch.float64)
        rows: list[Tensor] = []
        picked: list[int] = []

        def condition(index: int) -> None:
            row = both @ both[index]
            for earlier in rows:
                row = row - earlier * earlier[index]
            rows.append(row / row[index].clamp(min=1e-12).sqrt())
            residual.sub_(rows[-1][:n].square())

        # Beyond as many vectors as dimensions the kernel is singular: spread known ones.
        spread = torch.randperm(len(known), generator=rng)[: both.shape[1] // 2]
        for index in spread.tolist():
            condition(n + index)
        while len(picked) < min(count, n):
            best = int(residual.argmax())
            if residual[best] < 1e-9:
                break
            picked.append(best)
            condition(best)
            residual[picked] = -1.0
        return torch.tensor(picked, dtype=torch.long)


@dataclass(frozen=True)
class Seen:
    """What a round explored, as the choice sees it.

    Attributes:
        candidates: ``[n]`` bool, worth a label.
        usable: ``[n]`` bool, may be drawn at random (not failed).
        stratum: ``[n]`` int64.
        weight: ``[n]``, how many screened samples each represents.
        measure: stratum -> random labels that it gets in any case.
    """

    candidates: Tensor
    usable: Tensor
    stratum: Tensor
    weight: Tensor
    measure: Mapping[int, int] = field(default_factory=dict)


@part
class Batch:
    """What is labelled in a round."""

    size: Annotated[int, Ge(1)] = 20
    """Labels, at most, besides those that measure strata near the target."""
    random: Annotated[float, Ge(0), Le(1)] = 0.2
    """Part that is drawn at random within the strata in turn, so that every run measures
    its error without bias; at least ten labels, which calibrate the next round."""
    selection: choice(SELECTIONS, "farthest_point") = FarthestPoint()  # type: ignore[valid-type]
    """How the rest is picked among the candidates; the kind alone may be given."""

    def __call__(
        self,
        seen: Seen,
        features: Callable[[list[int]], Tensor],
        known: Callable[[], Tensor],
        rng: torch.Generator,
    ) -> dict[int, Arm]:
        """Return the chosen samples, index -> arm, in the order in which they were picked.

        Args:
            seen: what there is.
            features: gives the features ``[rows, d]`` of the rows named.
            known: gives those of the samples that have labels, ``[m, d]``.
            rng: source of random numbers.
        """
        drawn = self._drawn(seen, rng)
        chosen = dict.fromkeys(drawn, Arm.RANDOM)
        rows = [i for i in seen.candidates.nonzero().squeeze(1).tolist() if i not in chosen]
        count = self.size - round(self.size * self.random)
        if not rows or count <= 0:
            return chosen
        x = features(rows + drawn)
        scale = x.std(0, correction=0)
        scale = torch.where(scale > 1e-12, scale, torch.ones_like(scale))
        new, old = x[: len(rows)] / scale, torch.cat([known(), x[len(rows) :]]) / scale
        picks = self.selection(new, old, count, rng)
        return chosen | {rows[i]: Arm.CHOSEN for i in picks.tolist()}

    def _drawn(self, seen: Seen, rng: torch.Generator) -> list[int]:
        """Return the random arm: each stratum's share, then those asked to be measured."""
        fair = seen.usable & (seen.weight > 0)  # extremes stand for nothing but themselves
        strata = seen.stratum[fair].unique().tolist()
        if not strata:
            return []
        least = min(LEAST_RANDOM, self.size) if self.random > 0 else 0
        total = max(round(self.size * self.random), least)
        turns = torch.randperm(len(strata), generator=rng).tolist()
        rows: list[int] = []
        for place, turn in enumerate(turns):
            share = total // len(strata) + (place < total % len(strata))
            share = max(share, seen.measure.get(strata[turn], 0))
            here = (fair & (seen.stratum == strata[turn])).nonzero().squeeze(1)
            weight = seen.weight[here]
            share = min(share, len(here))
            if share:
                some = torch.multinomial(weight, share, generator=rng)
                rows += here[some].tolist()
        return rows


LEAST_RANDOM = 10
"""Random labels of a round: nine are needed for a bound that holds with 90 %."""
