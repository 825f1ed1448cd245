"""Exploring without dynamics: random distortions of the starting structures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le

from ....models.parts import part
from ...protocols import Committee
from ..atoms import Configuration, evaluate
from .dynamics import Start


def distorted(
    sample: Configuration, rattle: float, strain: float, rng: torch.Generator
) -> Configuration:
    """Return a copy with random displacements and a random strain of its periodic axes.

    Args:
        sample: what is distorted.
        rattle: standard deviation of a displacement component, angstrom.
        strain: standard deviation of a strain component.
        rng: source of random numbers.
    """
    draws = torch.randn(3, 3, generator=rng, dtype=torch.float64)
    periodic = sample.periodic.double()
    inside = periodic[:, None] * periodic[None, :]
    stretch = torch.eye(3, dtype=torch.float64) + 0.5 * strain * (draws + draws.mT) * inside
    noise = torch.randn(sample.positions.shape, generator=rng, dtype=torch.float64)
    return replace(
        sample,
        positions=sample.positions @ stretch + rattle * noise,
        cell=sample.cell @ stretch,
    )


@part
class Distortions:
    """Random distortions of the starts, without dynamics."""

    copies: Annotated[int, Ge(1), Le(1000)] = 20
    """Of each start."""
    rattle: Annotated[float, Gt(0)] = 0.3
    """Largest standard deviation of a displacement, angstrom; each copy draws its own,
    uniform from 0."""
    strain: Annotated[float, Ge(0), Le(0.3)] = 0.04
    """Largest standard deviation of a strain component, drawn likewise."""
    kind: Literal["distortions"] = "distortions"

    def explorer(
        self, starts: Sequence[Start], trusted: float = math.inf
    ) -> "RandomStructures":
        """Return the explorer of ``starts``; nothing depends on ``trusted``."""
        return RandomStructures(self, [start.configuration for start in starts])

    def frames(self, starts: Sequence[Start]) -> int:
        """Return how many atoms all copies hold together."""
        return self.copies * sum(len(start.masses) for start in starts)


@dataclass(frozen=True)
class RandomStructures:
    """:class:`Distortions` of given structures: the baseline without dynamics.

    Attributes:
        settings: of the distortions.
        starts: structures.
    """

    settings: Distortions
    starts: Sequence[Configuration]

    def explore(
        self, committee: Committee, rng: torch.Generator
    ) -> Iterator[Configuration]:
        """Yield the distorted structures, with the committee's deviation."""
        own = self.settings
        for start in self.starts:
            size = torch.rand(own.copies, 2, generator=rng).tolist()
            made = [distorted(start, own.rattle * a, own.strain * b, rng) for a, b in size]
            found, state = evaluate(committee, made)
            ends = torch.cumsum(state.counts, 0).tolist()
            for sample, begin, end in zip(made, [0, *ends], ends, strict=False):
                deviation = float(found.deviation[begin:end].max())
                yield replace(
                    sample, deviation=deviation if math.isfinite(deviation) else math.nan
                )
