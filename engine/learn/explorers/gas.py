"""Explore by moment equations: new random flows, followed with the committee's mean."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, MinLen

from ....models.parts import part
from ...gas.flows.lines import sample_times
from ...protocols import Committee
from ..closures import FlowSample, followed


@part
class Flows:
    """Random flows, followed by the moment equations with the committee's mean."""

    families: Annotated[
        tuple[Literal["wave", "mix", "jump", "transition"], ...], MinLen(1)
    ] = ("wave", "mix", "jump", "transition")
    """Smooth waves; waves and jumps, partly far from equilibrium; strong jumps; a mix with
    Kn sweeping 1e-3 to 10 along the box."""
    flows: Annotated[int, Ge(4), Le(100_000)] = 24
    """Of each family in a round, four Knudsen decades in turn."""
    until: Annotated[float, Gt(0)] = 0.2
    """Time up to which flows are followed and labelled."""
    cells: Annotated[int, Ge(20), Le(4096)] = 100
    """Of the moment equations; the box has length 1."""
    kind: Literal["flows"] = "flows"

    @property
    def times(self) -> tuple[float, ...]:
        """Times, from 0 on, at which flows are sampled."""
        return sample_times(self.until)

    def explore(self, committee: Committee, rng: torch.Generator) -> Iterator[FlowSample]:
        """Yield the flows of all families, which are followed as one batch."""
        seed = int(torch.randint(2**31, (1,), generator=rng))
        some = [
            FlowSample(family, seed, index)
            for family in self.families
            for index in range(self.flows)
        ]
        found = followed(committee, some, self.times, self.cells)
        for sample, deviation in zip(some, found.tolist(), strict=True):
            yield replace(sample, deviation=deviation)
