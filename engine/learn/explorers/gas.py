"""Explore by moment equations: new random flows, followed with the committee's mean."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ...protocols import Committee
from ..closures import FlowSample, followed


@dataclass(frozen=True)
class RandomFlows:
    """Fresh flows of some families; every one is yielded with its deviation.

    Attributes:
        families: see :mod:`.flows`; each in all four Knudsen decades.
        count: flows of each family.
        times: from 0, rising; when the deviation is looked at.
        cells: of the moment equations.
    """

    families: Sequence[str]
    count: int = 24
    times: Sequence[float] = (0.0, 0.05, 0.1, 0.2)
    cells: int = 100

    def explore(self, committee: Committee, rng: torch.Generator) -> Iterator[FlowSample]:
        """Yield the flows of all families, which are followed as one batch."""
        seed = int(torch.randint(2**31, (1,), generator=rng))
        some = [
            FlowSample(family, seed, index)
            for family in self.families
            for index in range(self.count)
        ]
        found = followed(committee, some, self.times, self.cells)
        for sample, deviation in zip(some, found.tolist(), strict=True):
            yield replace(sample, deviation=deviation)
