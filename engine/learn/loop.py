"""The loop: explore, label, train until all strata have converged; any kind of sample.

Round 0 labels the starting samples; every later round explores with the committee, labels
samples of large deviation (and a few at random), and trains on all labels so far
(E, Han, Zhang 2020, Integrating machine learning with physics-based modeling, section
3.1). After an interruption, resuming repeats neither an exploration that is planned nor a
label that exists, and ends with the same data.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Generic

import torch
from torch import Tensor

from .. import runtime
from ..errors import EngineError, Interrupted
from ..protocols import (
    Committee,
    Explorer,
    Indicator,
    Label,
    Labeler,
    Outcome,
    Sample,
    Trainer,
)
from ..run import Reporter, interruptible
from ..rundir import RunFolder
from .execution import Line, Pool, Serial, label_all, opened
from .indicators import Levels, Threshold, Verdict, check_committee
from .label_store import Codec, LabelStore, identity
from .round_plan import Plan, feature_map, load_plan, save_plan
from .selection import Arm, Batch
from .state import LoopState, close_round, conclude, evaluate_round, plan_path, recall
from .stopping import StopRule

_EXPLORE, _CHOOSE, _TRAIN, _DRAW = 1, 2, 3, 4


@dataclass(frozen=True)
class Loop(Generic[Sample, Label]):
    """Concurrent learning, as a :class:`~..protocols.Job`.

    Attributes:
        committee: makes the untrained models.
        start: samples labelled before the first training.
        explorer: from the number of the round and the deviation at which walkers terminate
            to an explorer.
        indicator: estimates the error of samples.
        features: ``[samples, d]`` in which distance means novelty.
        labeler: the micro-scale model.
        trainer: fits the committee to all labels.
        error: true error of the committee at a label, in the unit of the target.
        samples: how samples are written; also what decides a label's key.
        labels: how labels are written.
        threshold: sets the trusted deviation from evidence.
        batch: chooses what is labelled.
        stop: says when to stop, and which strata have converged.
        pool: where labels are computed.
        rounds: of exploring, at most.
        seed: of all random numbers.
        stratum: names the stratum of a sample.
        weight: how many samples one represents (the last one of a terminated walker
            represents those that the walker did not reach).
        attempts: failures after which a sample is quarantined.
        tolerated: fraction of a round's labels that may be quarantined.
        finish: adds to the outcome.
    """

    committee: Callable[[torch.Generator], Committee]
    start: Sequence[Sample]
    explorer: Callable[[int, float], Explorer[Sample]]
    indicator: Indicator[Sample]
    features: Callable[[Committee, Sequence[Sample]], Tensor]
    labeler: Labeler[Sample, Label]
    trainer: Trainer[Sample, Label]
    error: Callable[[Committee, Sample, Label], float]
    samples: Codec[Sample]
    labels: Codec[Label]
    threshold: Threshold
    batch: Batch
    stop: StopRule
    pool: Pool = field(default=Serial())
    rounds: int = 20
    seed: int = 1
    stratum: Callable[[Sample], str] = field(default=lambda sample: "all")
    weight: Callable[[Sample], float] = field(default=lambda sample: 1.0)
    attempts: int = 3
    tolerated: float = 0.5
    finish: Callable[[RunFolder, Committee, Sequence[tuple[Sample, Label]]], Outcome] = (
        field(default=lambda folder, committee, dataset: Outcome())
    )

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run to the stop rule or the last round, from the last checkpoint.

        Raises:
            InputError: a committee of one, an unreachable scheduler.
            EngineError: too many labels of a round failed; the reasons are named.
            Interrupted: asked to stop; finished labels and the plan are kept.
        """
        (folder.path / "labels").mkdir(exist_ok=True)
        store = LabelStore(
            folder.path / "labels", identity(self.labeler), self.samples, self.labels
        )
        empty = self.committee(runtime.generator(self.seed))
        check_committee(empty)
        with opened(self.pool) as line, interruptible() as asked:
            state = recall(
                folder, store, empty,
                lambda samples: label_all(
                    line, store, self.labeler, samples, self.attempts, asked
                ),
            )  # fmt: skip
            while state.round <= self.rounds and not state.done:
                plan = self._plan(folder, state)
                begun = time.perf_counter()
                self._label(line, store, plan, state.round, report, asked)
                labelled = time.perf_counter()
                state = evaluate_round(state, plan, store, self.error, self.stop, folder)
                state = self._train(state)
                state = close_round(
                    state, plan, labelled - begun, time.perf_counter() - labelled, folder
                )
                report.progress(state.round, self.rounds + 1, _headline(state, plan))
                if asked.is_set() and state.round <= self.rounds and not state.done:
                    raise Interrupted(f"stopped; engine resume {folder.path}")
        more = self.finish(folder, state.committee, state.dataset)
        return conclude(self.stop, store, state, more)

    def _rng(self, round: int, purpose: int) -> torch.Generator:
        return runtime.generator(self.seed, 8 * round + purpose)

    def _plan(self, folder: RunFolder, state: LoopState[Sample, Label]) -> Plan[Sample]:
        """Return the plan of the round: the one on disk, or a new one."""
        path = plan_path(folder, state.round)
        plan = load_plan(path, self.samples)
        if plan is None:
            make = self._first if state.round == 0 else self._explore
            plan = make(state)
            save_plan(path, plan, self.samples)
        return plan

    def _first(self, state: LoopState[Sample, Label]) -> Plan[Sample]:
        n = len(self.start)
        names = sorted({self.stratum(sample) for sample in self.start})
        return Plan(
            deviation=torch.full((n,), torch.nan, dtype=torch.float64),
            verdict=torch.full((n,), int(Verdict.CANDIDATE), dtype=torch.int8),
            stratum=torch.tensor([names.index(self.stratum(s)) for s in self.start]),
            weight=torch.ones(n, dtype=torch.float64),
            rows=torch.arange(n),
            arms=torch.full((n,), int(Arm.SEED), dtype=torch.int8),
            samples=self.start,
            strata=names,
            levels=Levels(0.0),
            seconds=0.0,
        )

    def _explore(self, state: LoopState[Sample, Label]) -> Plan[Sample]:
        begun, models, now = time.perf_counter(), state.committee, state.round
        levels = self.threshold(state.evidence, now, self.stop.target)
        explorer = self.explorer(now, levels.reach)
        seen = list(explorer.explore(models, self._rng(now, _EXPLORE)))
        deviation = self.indicator(models, seen).detach().double().cpu()
        verdict = levels.judge(deviation)
        chosen = self.batch(
            verdict == int(Verdict.CANDIDATE),
            verdict != int(Verdict.FAILED),
            lambda rows: self.features(models, [seen[row] for row in rows]),
            lambda: self.features(models, [sample for sample, _ in state.dataset]),
            self._rng(now, _CHOOSE),
        )
        names = sorted({self.stratum(sample) for sample in seen})
        drawn = feature_map(
            lambda rows: self.features(models, [seen[row] for row in rows]),
            lambda: self.features(models, [sample for sample, _ in state.dataset]),
            deviation,
            list(chosen),
            self._rng(now, _DRAW),
        )
        return Plan(
            deviation=deviation,
            verdict=verdict,
            stratum=torch.tensor([names.index(self.stratum(s)) for s in seen]).long(),
            weight=torch.tensor([self.weight(s) for s in seen], dtype=torch.float64),
            rows=torch.tensor(list(chosen), dtype=torch.long),
            arms=torch.tensor([int(arm) for arm in chosen.values()], dtype=torch.int8),
            samples=[seen[row] for row in chosen],
            strata=names,
            levels=levels,
            seconds=time.perf_counter() - begun,
            feature_map=drawn,
        )

    def _label(
        self,
        line: Line,
        store: LabelStore[Sample, Label],
        plan: Plan[Sample],
        round: int,
        report: Reporter,
        asked: Event,
    ) -> None:
        def tell(done: int, total: int) -> None:
            report.progress(round, self.rounds, {"labels": f"{done}/{total}"})

        label_all(line, store, self.labeler, plan.samples, self.attempts, asked, tell)
        failed = [key for key in map(store.key, plan.samples) if not store.has(key)]
        if len(failed) > self.tolerated * len(plan.samples) and failed:
            reasons = "; ".join(dict.fromkeys(store.failures(key)[-1] for key in failed))
            raise EngineError(
                f"round {round}: {len(failed)} of {len(plan.samples)} labels failed "
                f"{self.attempts} times ({reasons}); all others are kept"
            )

    def _train(self, state: LoopState[Sample, Label]) -> LoopState[Sample, Label]:
        rng = self._rng(state.round, _TRAIN)
        trained = self.trainer.train(state.committee, state.dataset, rng)
        check_committee(trained)
        return replace(state, committee=trained)


def _headline(state: LoopState[Any, Any], plan: Plan[Any]) -> dict[str, str]:
    shown = {"labels": str(len(state.labelled)), "trusted to": f"{plan.levels.low:.3g}"}
    if state.history:
        shown["untrusted"] = f"{state.history[-1].untrusted:.1%}"
    return shown
