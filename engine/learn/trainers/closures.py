"""Train a committee of closures on all labels of the loop."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from ....models.closures.face import FaceClosure
from ....models.parts import part
from ...protocols import Committee
from ..closures import FlowLabel, FlowSample
from .closure import Labelled, fit, labelled


def together(dataset: Sequence[tuple[FlowSample, FlowLabel]], order: int) -> Labelled:
    """Return all labels side by side.

    Args:
        dataset: labels at the same times.
        order: M.
    """
    raw = torch.stack([label.raw for _, label in dataset], 1)
    knudsen = torch.stack([label.knudsen for _, label in dataset])
    return labelled(raw, knudsen, tuple(range(len(raw))), order)


@part
class ClosureTrainer:
    """Regresses every member on all labels from new weights, in f32.

    New weights in every round, because the range of the data, which scales the inputs,
    grows with them.
    """

    steps: Annotated[int, Ge(1)] = 1000
    """Of Adam."""
    batch: Annotated[int, Ge(2)] = 32
    """Rows of faces in a step."""
    learning_rate: Annotated[float, Gt(0)] = 5e-3
    """At the start; it falls linearly."""
    linear: Annotated[float, Ge(0), Lt(1)] = 0.15
    """Share of exact linear modes of BGK among the rows."""

    def train(
        self,
        committee: Committee,
        dataset: Sequence[tuple[FlowSample, FlowLabel]],
        rng: torch.Generator,
    ) -> Committee:
        """Return the trained committee, in f64."""
        trained = []
        for member in committee:
            assert isinstance(member, FaceClosure)
            seed = int(torch.randint(2**31, (1,), generator=rng))
            module = member.config.build(seed)
            data = together(dataset, member.config.order)
            fit(
                module, [data], self.steps, self.batch, self.learning_rate, self.linear,
                torch.Generator().manual_seed(seed),
            )  # fmt: skip
            trained.append(module.double().eval())
        return trained
