"""Error against labels: curves of runs, kept in a file, and what two arms tell together."""

import fcntl
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalebridge.engine import runtime
from scalebridge.engine.bench import Recorder
from scalebridge.engine.learn.stopping import Reason
from scalebridge.engine.rundir import write_text

Run = Callable[..., dict[str, Any]]
"""``run(arm, seed, quick=False)`` returns a curve."""


@dataclass(frozen=True)
class Curves:
    """The runs of one system, one entry for each arm and seed.

    Attributes:
        path: JSON file, one run a line.
    """

    path: Path

    def known(self) -> list[dict[str, Any]]:
        """Return the runs made so far."""
        return json.loads(self.path.read_text()) if self.path.exists() else []

    def has(self, arm: str, seed: int) -> bool:
        """Tell whether a run was made."""
        return any((run["arm"], run["seed"]) == (arm, seed) for run in self.known())

    def keep(self, curve: dict[str, Any]) -> None:
        """Add a run; several processes may do so at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{tempfile.gettempdir()}/{self.path.stem}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            name = (curve["arm"], curve["seed"])
            others = [c for c in self.known() if (c["arm"], c["seed"]) != name]
            runs = sorted([*others, curve], key=lambda c: (c["arm"], c["seed"]))
            lines = ",\n".join(json.dumps(run) for run in runs)
            write_text(self.path, f"[\n{lines}\n]\n")

    def complete(
        self,
        run: Callable[..., dict[str, Any]],
        arms: Sequence[str],
        seeds: int,
        quick: bool,
    ) -> bool:
        """Make the runs that are missing, ``run(arm, seed)``; a quick one of each arm.

        Returns:
            Whether all are there.
        """
        for seed, arm in itertools.product(range(1, 2 if quick else seeds + 1), arms):
            if quick:
                run(arm, seed, quick=True)
            elif not self.has(arm, seed):
                self.keep(run(arm, seed))
        return not quick

    def make_one(self, run: Run) -> None:
        """Make the run of the arm and seed on the command line, unless it is there."""
        runtime.start("cpu")
        torch.set_num_threads(1)
        arm, seed = sys.argv[1], int(sys.argv[2])
        if not self.has(arm, seed):
            self.keep(run(arm, seed))


@dataclass
class Watch:
    """A trainer that measures what it made, and a stop rule that knows.

    Attributes:
        trainer: does the work.
        held_out: from a committee to the error in every stratum of the test set.
        target: error in the worst stratum at which to stop.
        most: labels at which to stop in any case.
    """

    trainer: Any
    held_out: Any
    target: float
    most: int
    labels: list[int] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    committee: Any = None

    def train(self, committee: Any, dataset: Sequence[Any], rng: Any) -> Any:
        """Train and measure."""
        self.committee = self.trainer.train(committee, dataset, rng)
        found = self.held_out(self.committee)
        self.labels.append(len(dataset))
        self.worst.append(max(found.values()))
        self.mean.append(float(np.mean(list(found.values()))))
        where = max(found, key=lambda name: found[name])
        print(f"{len(dataset)} labels: worst {self.worst[-1]:.4f} in {where}, "
              f"mean {self.mean[-1]:.4f}", flush=True)  # fmt: skip
        return self.committee

    measured: int = 1

    def strata(self, history: Any, target: float) -> dict[str, Any]:
        """Nothing is known but the held-out errors."""
        return {}

    def reason(self, history: Any, target: float, labels: int) -> tuple[Reason, str]:
        """Stop at the target, or when it costs too much."""
        if self.worst[-1] <= self.target or self.labels[-1] >= self.most:
            return Reason.BUDGET, "held-out error met or labels spent"
        return Reason.NONE, ""

    def checks(self, history: Any, target: float) -> tuple[Any, ...]:
        """Nothing to say."""
        return ()


def labels_needed(curve: dict[str, Any], target: float) -> float:
    """Return labels at which the worst stratum first meets the target (log-interpolated).

    Infinite where it never does.
    """
    before: tuple[float, float] | None = None
    for n, e in zip(curve["labels"], curve["worst"], strict=True):
        if e <= target:
            if before is None:
                return float(n)
            part = math.log(before[1] / target) / math.log(before[1] / e)
            return before[0] + part * (n - before[0])
        before = (n, e)
    return math.inf


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean (Student's t)."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return values[0], values[0]
    half = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    mean = float(np.mean(values))
    return mean - half, mean + half


def record_errors(
    record: Recorder, figure: str, runs: Sequence[dict[str, Any]], what: str, target: float
) -> None:
    """Record the error of the loop at its last labels, with the other arms beside it.

    Args:
        record: takes the figure.
        figure: its name.
        runs: all arms and seeds.
        what: ``mean`` or ``worst`` over the strata of the test set.
        target: error asked for.
    """
    said, mine = [], []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        last = [run[what][-1] for run in runs if run["arm"] == arm]
        if arm == "learned":
            mine = last
        low, high = interval(last)
        said.append(f"{arm} {np.mean(last):.3f} ({low:.3f} to {high:.3f})")
    labels = max(run["labels"][-1] for run in runs)
    made = {str(run.get("date", "2026-11-21 or before")) for run in runs}
    note = (
        f"at {labels} labels, 95 % intervals of the mean: {', '.join(said)}; curves made "
        f"{', '.join(sorted(made))}"
    )
    record(figure, float(np.mean(mine)), "eV/angstrom", goal=target, better="lower",
           spread=interval(mine), note=note)  # fmt: skip


def record_ratio(
    record: Recorder, figure: str, runs: Sequence[dict[str, Any]], other: str,
    target: float, unit: str,
) -> None:  # fmt: skip
    """Record the labels of the ``other`` arm over those of the loop, to the same error.

    Args:
        record: takes the figure.
        figure: its name.
        runs: all arms and seeds.
        other: the arm compared with ``learned``.
        target: error asked for; where one of the two did not reach it, the smallest error
            that both reached counts, and the note says so.
        unit: of the error.
    """
    by_name = {(run["arm"], run["seed"]): run for run in runs}
    seeds = [s for a, s in by_name if a == "learned" and (other, s) in by_name]
    if not seeds:
        return
    ratios, reached, mine = [], [], []
    for seed in seeds:
        pair = by_name["learned", seed], by_name[other, seed]
        error = max(target, *(min(run["worst"]) for run in pair))
        here, there = (labels_needed(run, error) for run in pair)
        ratios.append(there / here)
        reached.append(error)
        mine.append(here)
    note = (
        f"labels of the other arm over labels of the loop (on average {np.mean(mine):.0f}) "
        f"to the same error in the worst stratum, {len(seeds)} seeds; that error is "
        f"{min(reached):.3g} to {max(reached):.3g} {unit}"
    )
    if max(reached) > 1.01 * target:
        note += f", the smallest that both reached; {target:g} was not reached by both"
    record(figure, float(np.mean(ratios)), goal=1.0, better="higher",
           spread=interval(ratios), note=note)  # fmt: skip
