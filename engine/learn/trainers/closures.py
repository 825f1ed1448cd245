"""Train a committee of closures on all labels of the loop."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ....models.closures.face import FaceClosure
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


@dataclass(frozen=True)
class ClosureTrainer:
    """Regresses every member on all labels from new weights, in f32.

    New weights in every round, because the range of the data, which scales the inputs,
    grows with them.

    Attributes:
        steps: of Adam.
        batch: rows of faces in a step.
        rate: learning rate at the start.
        linear: share of exact linear modes of BGK.
    """

    steps: int = 1000
    batch: int = 32
    rate: float = 5e-3
    linear: float = 0.15

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
                module, [data], self.steps, self.batch, self.rate, self.linear,
                torch.Generator().manual_seed(seed),
            )  # fmt: skip
            trained.append(module.double().eval())
        return trained
