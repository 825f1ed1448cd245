"""From a scenario of concurrent learning of a closure to the loop that runs it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..learn.closure_audit import ClosureAudit
from ..learn.closures import (
    FLOWS,
    LABELS,
    FlowSample,
    carried_deviation,
    features,
    flux_error,
)
from ..learn.explorers.gas import RandomFlows
from ..learn.labelers.kinetic import KineticLabeler
from ..learn.loop import Loop
from ..learn.trainers.closures import ClosureTrainer
from ..schema.learn import ClosureLearnScenario
from .closure import sample_times
from .learn import decisions

_SEEDS = 900_003
"""Seed of the starting flows is this much above the scenario's."""


def assemble(scenario: ClosureLearnScenario, base: Path) -> Loop[Any, Any]:
    """Return the loop."""
    explore, order = scenario.explorer, scenario.network.order
    times = sample_times(explore.until)
    labeler = KineticLabeler(
        times, order, explore.cells, scenario.labeler.refinement,
        scenario.labeler.velocities,
    )  # fmt: skip
    training = scenario.training
    explorer = RandomFlows(explore.families, explore.flows, times, explore.cells)
    return Loop(
        committee=_committee(scenario, order),
        start=[
            FlowSample(family, scenario.seed + _SEEDS, index)
            for family in explore.families
            for index in range(scenario.initial)
        ],
        explorer=lambda round, reach: explorer,
        indicator=carried_deviation,
        features=features,
        labeler=labeler,
        trainer=ClosureTrainer(
            training.steps, training.batch, training.learning_rate, training.linear
        ),
        error=flux_error,
        samples=FLOWS,
        labels=LABELS,
        stratum=lambda sample: sample.stratum,
        finish=ClosureAudit(
            explore.families, labeler, scenario.audit.frames, scenario.target
        ),
        **decisions(scenario),
    )


def _committee(
    scenario: ClosureLearnScenario, order: int
) -> Callable[[torch.Generator], list[torch.nn.Module]]:
    form = replace(scenario.network, resolution=1.0 / scenario.explorer.cells)

    def make(rng: torch.Generator) -> list[torch.nn.Module]:
        members: list[torch.nn.Module] = []
        for _ in range(scenario.members):
            with torch.random.fork_rng():
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
                members.append(form.build().double())
        return members

    return make
