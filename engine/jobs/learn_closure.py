"""From a scenario of concurrent learning of a closure to the loop that runs it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...models.closures.face import FaceForm
from ..learn.closure_audit import ClosureAudit
from ..learn.closures import (
    FLOWS,
    LABELS,
    FlowSample,
    carried_deviation,
    features,
    flux_error,
)
from ..learn.loop import Loop
from ..schema.learn import ClosureLearnScenario
from .learn import decisions

_SEEDS = 900_003
"""Seed of the starting flows is this much above the scenario's."""


def assemble(scenario: ClosureLearnScenario, base: Path) -> Loop[Any, Any]:
    """Return the loop.

    Raises:
        InputError: the package of the executor is not installed.
    """
    explorer, order = scenario.explorer, scenario.network.extra + 2
    labeler = scenario.labeler.labeler(explorer.times, order, explorer.cells)
    return Loop(
        committee=_committee(scenario, order),
        start=[
            FlowSample(family, scenario.seed + _SEEDS, index)
            for family in explorer.families
            for index in range(scenario.initial)
        ],
        explorer=lambda round, reach: explorer,
        indicator=carried_deviation,
        features=features,
        labeler=labeler,
        trainer=scenario.training,
        error=flux_error,
        samples=FLOWS,
        labels=LABELS,
        stratum=lambda sample: sample.stratum,
        finish=ClosureAudit(
            explorer.families, labeler, scenario.audit.frames, scenario.target
        ),
        **decisions(scenario),
    )


def _committee(
    scenario: ClosureLearnScenario, order: int
) -> Callable[[torch.Generator], list[torch.nn.Module]]:
    network = scenario.network
    form = FaceForm(
        order=order, hidden=tuple(network.hidden), reach=tuple(network.reach),
        resolution=1.0 / scenario.explorer.cells, smoothing=network.smoothing,
    )  # fmt: skip

    def make(rng: torch.Generator) -> list[torch.nn.Module]:
        members: list[torch.nn.Module] = []
        for _ in range(scenario.members):
            with torch.random.fork_rng():
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
                members.append(form.build().double())
        return members

    return make
