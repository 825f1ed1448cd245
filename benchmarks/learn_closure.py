"""Kinetic solutions that a closure needs: chosen by the committee, or drawn at random.

Curves stand in ``results/curves/learn_closure.json``. Both arms draw from the same random
flows; the judge is the frozen test family in 13 strata (three families in four Knudsen
decades, and flows whose Knudsen number varies in space). One run is made by ``python
benchmarks/learn_closure.py ARM SEED``.
"""

import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from scalebridge.engine import scenario
from scalebridge.engine.bench import Recorder
from scalebridge.engine.gas.flows import HELD_OUT
from scalebridge.engine.gas.flows.lines import DECADES
from scalebridge.engine.learn.closures import FlowLabel, FlowSample, flux_errors
from scalebridge.engine.learn.labelers.kinetic import KineticLabeler
from scalebridge.engine.learn.selection import Batch
from scalebridge.engine.protocols import Outcome
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder

sys.path.append(str(Path(__file__).resolve().parent))
from learn_curves import Curves, Watch, record_ratio

HERE = Path(__file__).resolve().parent
CURVES = Curves(HERE / "results" / "curves" / "learn_closure.json")
ARMS = ("learned", "random")
SEEDS = 5
TARGET = 0.02
MOST_LABELS = 20


@dataclass(frozen=True)
class Unjudged:
    """Fresh flows that nobody follows: what the random arm draws from."""

    families: Sequence[str]
    count: int

    def explore(self, committee: Any, rng: torch.Generator) -> Iterator[FlowSample]:
        """Yield the flows; all count as untrusted."""
        seed = int(torch.randint(2**31, (1,), generator=rng))
        for family in self.families:
            for index in range(self.count):
                yield FlowSample(family, seed, index, 1.0)


@lru_cache(maxsize=1)
def held_out(
    labeler: KineticLabeler, families: tuple[str, ...]
) -> list[tuple[FlowSample, FlowLabel]]:
    """Return two frozen flows of every stratum with their kinetic solutions."""
    samples = [
        FlowSample(family, HELD_OUT, index)
        for family in families
        for index in range(2 * DECADES)
    ]
    return [(sample, labeler.label(sample)) for sample in samples]


def by_stratum(
    committee: Any, test: Sequence[tuple[FlowSample, FlowLabel]]
) -> dict[str, float]:
    """Return the root mean square error of every stratum."""
    found: dict[str, list[float]] = {}
    for sample, label in test:
        square = float(flux_errors(committee, [(sample, label)])) ** 2
        found.setdefault(sample.stratum, []).append(square)
    return {name: math.sqrt(sum(each) / len(each)) for name, each in found.items()}


def closure(arm: str, seed: int, quick: bool = False) -> dict[str, Any]:
    """Run one arm and return its curve."""
    from scalebridge.engine.jobs import assemble

    settings = [
        f"seed={seed}", f"target={TARGET}", "rounds=4", "initial=1", "batch.size=4",
        "audit.frames=0", "training.steps=400", "explorer.flows=8", "explorer.until=0.1",
    ]  # fmt: skip
    if quick:
        settings += ["rounds=1", "explorer.flows=4", "training.steps=5"]
    loop: Any = assemble(*scenario.load("elt_closure", settings))
    families = loop.explorer(0, math.inf).families
    test = held_out(loop.labeler, families)

    def strata(committee: Any) -> dict[str, float]:
        return by_stratum(committee, test)

    watch = Watch(loop.trainer, strata, TARGET, MOST_LABELS)
    loop = replace(loop, trainer=watch, stop=watch, finish=lambda f, c, d, a: Outcome())
    if arm == "random":
        blind = Unjudged(families, loop.explorer(0, math.inf).flows)
        loop = replace(
            loop, batch=Batch(loop.batch.size, 1.0), explorer=lambda round, reach: blind
        )
    begun = time.process_time()
    with (
        tempfile.TemporaryDirectory() as place,
        RunFolder.create(Path(place) / "run", "", {}) as folder,
    ):
        loop.run(folder, Reporter(quiet=True))
    return {
        "arm": arm,
        "seed": seed,
        "labels": watch.labels,
        "worst": watch.worst,
        "mean": watch.mean,
        "cpu_seconds": round(time.process_time() - begun),
    }


def measure(record: Recorder, quick: bool) -> None:
    """Make the runs that are missing, then the figure that follows from all."""
    if not CURVES.complete(closure, ARMS, SEEDS, quick):
        return
    record_ratio(
        record, "closure_curve_labels_vs_random", CURVES.known(), "random", TARGET,
        "of the scaled closing moment",
    )  # fmt: skip


if __name__ == "__main__":
    CURVES.make_one(closure)
