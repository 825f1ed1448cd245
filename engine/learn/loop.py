"""The loop: explore, label, train until every stratum meets the target; any kind of sample.

Round 0 labels the starting samples; every later round explores with the committee, labels
samples of large deviation and some at random, and trains on all labels so far (E, Han,
Zhang 2020, Integrating machine learning with physics-based modeling, section 3.1). The
random labels of a round are trained on one round later: until then they calibrate the
committee. The loop ends for a stated reason (:mod:`.stopping`). After an interruption,
resuming repeats neither an exploration that is planned nor a label that exists, and ends
with the same data.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
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
from .indicators import (
    Conformal,
    Evidence,
    Levels,
    Threshold,
    Verdict,
    check_committee,
    promise,
)
from .label_store import Codec, LabelStore, identity
from .round_plan import Plan, feature_map, load_plan, save_plan
from .selection import LEAST_RANDOM, Arm, Batch, Seen
from .state import (
    Errors,
    LoopState,
    calibrate,
    close_round,
    conclude,
    evaluate_round,
    plan_path,
    recall,
)
from .stopping import Reason, State, StopRule

_EXPLORE, _CHOOSE, _TRAIN, _DRAW, _CHECK = 1, 2, 3, 4, 5


Ask = Callable[[Sequence[Sample]], list[Label | None]]
"""Has samples labelled by the workers of the loop; None where it failed for good."""

Finish = Callable[
    [RunFolder, Committee, Sequence[tuple[Sample, Label]], Ask[Sample, Label]], Outcome
]
"""Adds to the outcome of a loop that has ended: the final evaluation."""


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
        errors: true errors of the committee at labels, in the unit of the target.
        target: error to be met in every stratum.
        samples: how samples are written; also what decides a label's key.
        labels: how labels are written.
        threshold: sets the trusted deviation from evidence.
        batch: chooses what is labelled.
        stop: says when to stop and why, and which strata meet the target.
        align: fits a committee that was trained before to the first labels.
        recheck: the indicator for samples that an older committee met; ``indicator`` where
            it computes the deviation anew.
        pool: where labels are computed.
        rounds: of exploring, at most.
        seed: of all random numbers.
        stratum: names the stratum of a sample.
        weight: how many screened samples one represents.
        unreached: how many samples were not reached because of one.
        noise: standard error of a label, in the unit of the target.
        attempts: failures after which a sample is quarantined.
        tolerated: fraction of a round's labels that may be quarantined.
        library: folder of labels that runs share; None for none.
        known: samples of ``start`` whose labels are there, and count in no budget.
        unit: of the target and of the errors.
        finish: adds to the outcome.
    """

    committee: Callable[[torch.Generator], Committee]
    start: Sequence[Sample]
    explorer: Callable[[int, float], Explorer[Sample]]
    indicator: Indicator[Sample]
    features: Callable[[Committee, Sequence[Sample]], Tensor]
    labeler: Labeler[Sample, Label]
    trainer: Trainer[Sample, Label]
    errors: Errors[Sample, Label]
    target: float
    samples: Codec[Sample]
    labels: Codec[Label]
    threshold: Threshold
    batch: Batch
    stop: StopRule
    align: Callable[[Committee, Sequence[tuple[Sample, Label]]], Committee] = field(
        default=lambda committee, dataset: committee
    )
    recheck: Indicator[Sample] | None = None
    pool: Pool = field(default=Serial())
    rounds: int = 20
    seed: int = 1
    stratum: Callable[[Sample], str] = field(default=lambda sample: "all")
    weight: Callable[[Sample], float] = field(default=lambda sample: 1.0)
    unreached: Callable[[Sample], float] = field(default=lambda sample: 0.0)
    noise: Callable[[Label], float] = field(default=lambda label: 0.0)
    attempts: int = 3
    tolerated: float = 0.5
    library: Path | None = None
    known: Sequence[tuple[Sample, Label]] = ()
    unit: str = ""
    finish: Finish[Sample, Label] = field(
        default=lambda folder, committee, dataset, ask: Outcome()
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
            folder.path / "labels", identity(self.labeler), self.samples, self.labels,
            self.library,
        )  # fmt: skip
        for sample, label in self.known:
            store.give(sample, label)
        empty = self.committee(runtime.generator(self.seed))
        check_committee(empty)
        with opened(self.pool) as line, interruptible() as asked:
            state = recall(
                folder, store, empty,
                lambda samples: label_all(
                    line, store, self.labeler, samples, self.attempts, asked
                ),
            )  # fmt: skip
            folder.store.attrs["error_unit"] = self.unit
            while state.round <= self.rounds and state.reason is Reason.NONE:
                plan = self._plan(folder, store, state)
                begun = time.perf_counter()
                self._label(line, store, plan, state.round, report, asked)
                labelled = time.perf_counter()
                state = evaluate_round(
                    state, plan, store, self.errors, self.stop, self.target, folder,
                    len(self.known),
                )  # fmt: skip
                if state.reason is not Reason.TARGET:
                    state = self._train(state)
                state = close_round(
                    state,
                    plan,
                    labelled - begun,
                    time.perf_counter() - labelled,
                    self._training_error(state),
                    folder,
                )
                report.progress(state.round, self.rounds + 1, self._headline(state, plan))
                ended = state.round > self.rounds or state.reason is not Reason.NONE
                if asked.is_set() and not ended:
                    raise Interrupted(f"stopped; engine resume {folder.path}")

            def ask(samples: Sequence[Sample]) -> list[Label | None]:
                def tell(done: int, total: int) -> None:
                    report.progress(done, total, {"audit labels": f"{done}/{total}"})

                label_all(line, store, self.labeler, samples, self.attempts, asked, tell)
                entries = [store.get(store.key(sample)) for sample in samples]
                return [entry.label if entry else None for entry in entries]

            more = self.finish(folder, state.committee, state.dataset, ask)
        advice = self._advice(state)
        rule = self.threshold
        kept = promise(state.evidence, rule.coverage) if isinstance(rule, Conformal) else ()
        given = len(self.known)
        return conclude(self.stop, self.target, store, state, more, advice, kept, given)

    def _rng(self, round: int, purpose: int) -> torch.Generator:
        return runtime.generator(self.seed, 8 * round + purpose)

    def _plan(
        self,
        folder: RunFolder,
        store: LabelStore[Sample, Label],
        state: LoopState[Sample, Label],
    ) -> Plan[Sample]:
        """Return the plan of the round: the one on disk, or a new one."""
        path = plan_path(folder, state.round)
        plan = load_plan(path, self.samples)
        if plan is None:
            plan = self._explore(store, state) if state.round else self._first()
            save_plan(path, plan, self.samples)
        return plan

    def _first(self) -> Plan[Sample]:
        n = len(self.start)
        names = sorted({self.stratum(sample) for sample in self.start})
        return Plan(
            deviation=torch.full((n,), torch.nan, dtype=torch.float64),
            verdict=torch.full((n,), int(Verdict.CANDIDATE), dtype=torch.int8),
            stratum=torch.tensor([names.index(self.stratum(s)) for s in self.start]).long(),
            weight=torch.ones(n, dtype=torch.float64),
            unreached=torch.zeros(n, dtype=torch.float64),
            rows=torch.arange(n),
            arms=torch.full((n,), int(Arm.SEED), dtype=torch.int8),
            samples=self.start,
            strata=names,
            levels=Levels(0.0),
            seconds=0.0,
        )

    def _explore(
        self, store: LabelStore[Sample, Label], state: LoopState[Sample, Label]
    ) -> Plan[Sample]:
        begun, models, now = time.perf_counter(), state.committee, state.round
        kept = calibrating(state)
        evidence, levels = kept[0], self._levels(kept, state.evidence)
        explorer = self.explorer(now, levels.reach)
        found = explorer.explore(models, self._rng(now, _EXPLORE))
        seen = [sample for sample in found if store.key(sample) not in state.labelled]
        deviation = self.indicator(models, seen).detach().double().cpu()
        verdict = levels.judge(deviation)
        names = sorted({self.stratum(sample) for sample in seen})
        stratum = torch.tensor([names.index(self.stratum(s)) for s in seen]).long()
        weight = torch.tensor([self.weight(s) for s in seen], dtype=torch.float64)
        lost = torch.tensor([self.unreached(s) for s in seen], dtype=torch.float64)
        usable = verdict != int(Verdict.FAILED)
        measured = self.stop.strata(state.history, self.target)
        states = [measured[n].state if n in measured else State.UNMEASURED for n in names]
        missed = torch.tensor([state is State.MISSED for state in states]).bool()
        met = torch.tensor([state is State.MET for state in states]).bool()
        candidates = (verdict == int(Verdict.CANDIDATE)) | (usable & missed[stratum])
        if bool((candidates & ~met[stratum]).any()):
            candidates &= ~met[stratum]  # labels go where the target is not met
        candidates = within_reach(candidates, deviation <= levels.reach, lost > 0, stratum)
        ready = near_target(evidence, self.target, deviation, usable, stratum, weight)
        measure = {k: self.stop.wanted(names[k], state.history, self.target) for k in ready}
        chosen = self.batch(
            Seen(candidates, usable, stratum, weight, measure),
            lambda rows: self.features(models, [seen[row] for row in rows]),
            lambda: self.features(models, [sample for sample, _ in state.dataset]),
            self._rng(now, _CHOOSE),
        )
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
            stratum=stratum,
            weight=weight,
            unreached=lost,
            rows=torch.tensor(list(chosen), dtype=torch.long),
            arms=torch.tensor([int(arm) for arm in chosen.values()], dtype=torch.int8),
            samples=[seen[row] for row in chosen],
            strata=names,
            levels=levels,
            seconds=time.perf_counter() - begun,
            feature_map=drawn,
        )

    def _levels(self, kept: Sequence[Evidence], past: Evidence) -> Levels:
        """Return the levels of the first evidence, widened to agree with the others."""
        found = []
        for evidence in kept:
            rule = self.threshold
            if isinstance(rule, Conformal):
                rule = rule.adapted(past, len(evidence.error))
            found.append(rule(evidence, self.target))
        present, widest = found[0], max(levels.ratio for levels in found)
        if not widest > present.ratio:  # nor where nothing is promised
            return present
        return present.widened(min(widest / present.ratio, _APART))

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
            for key in failed:
                store.try_again(key)
            raise EngineError(
                f"round {round}: {len(failed)} of {len(plan.samples)} labels failed "
                f"{self.attempts} times ({reasons}); all others are kept, and resuming "
                "tries these again"
            )

    def _train(self, state: LoopState[Sample, Label]) -> LoopState[Sample, Label]:
        rng = self._rng(state.round, _TRAIN)
        if state.reason is not Reason.NONE or not state.learnt:
            state = replace(state, held=frozenset())  # nothing is left to calibrate
        data, committee = state.learnt, state.committee
        if not data:  # of a committee that was trained before
            return state
        if not state.learned:
            committee = self.align(committee, data)
        trained = self.trainer.train(committee, data, rng)
        check_committee(trained)
        state = replace(state, committee=trained, learned=len(data))
        return calibrate(state, self.recheck or self.indicator, self.errors)

    def _training_error(self, state: LoopState[Sample, Label]) -> float:
        data = state.learnt
        some = torch.randperm(len(data), generator=self._rng(state.round, _CHECK))
        pairs = [data[k] for k in some[:_CHECKED].tolist()]
        return float(self.errors(state.committee, pairs).square().mean().sqrt())

    def _advice(self, state: LoopState[Sample, Label]) -> str:
        """Say what holds the error up, from the error on the training set beside it."""
        if not state.learnt:
            return "nothing was trained"
        known = self._training_error(state)
        noise = [self.noise(label) for _, label in state.dataset]
        level = (sum(n * n for n in noise) / max(len(noise), 1)) ** 0.5
        found = f"error on the training set {known:.3g} (target {self.target:g})"
        if level > 0.5 * self.target:
            return f"{found}; the labels' own error is {level:.3g}: make it smaller"
        if known > 0.7 * self.target:
            return f"{found}: a larger network or cutoff, or longer training"
        return f"{found}: the labels are fitted; more of them, or a model with less freedom"

    def _headline(self, state: LoopState[Any, Any], plan: Plan[Any]) -> dict[str, str]:
        strata = self.stop.strata(state.history, self.target).values()
        met = sum(found.state is State.MET for found in strata)
        shown = {"labels": str(len(state.labelled)), "met": f"{met}/{len(strata)}"}
        promised = math.isfinite(plan.levels.ratio)
        shown["trusted to"] = f"{plan.levels.low:.3g}" if promised else "not calibrated"
        return shown


def calibrating(state: LoopState[Any, Any]) -> list[Evidence]:
    """Return what the trusted deviation of the round to come has to agree with.

    The random labels of the last round, twice: with the present committee, which has not
    seen them, and as they were found. The present committee has learnt from other frames
    of the same walks and is better there than on walks to come; the last committee met
    new walks, but is not the one that explores. The wider bound of both holds where either
    alone fails, and costs little where both are right; one that is more than ``_APART``
    times as wide is that of another model altogether. Where there are too few labels, those
    of two rounds and of both kinds are taken together.
    """
    last = state.evidence.random(state.round - 1)
    both = [e for e in (state.calibration, last) if len(e.error) >= LEAST_RANDOM]
    return both or [state.evidence.random(state.round - 2).joined(state.calibration)]


_APART = 2.0
"""How many times wider than at the labels kept back a bound on new walks may be."""

_CHECKED = 64
"""Labels at which the error on the training set is measured."""


def within_reach(
    candidates: Tensor, reached: Tensor, ended: Tensor, stratum: Tensor
) -> Tensor:
    """Return the candidates without those beyond the reach of walks that end there.

    A frame beyond, at which a walk ended, is the newest of all, so that every selection by
    novelty takes it first; it is seldom what the model meets once it has learnt what lies
    before. Where there are no others they are taken.

    Args:
        candidates: ``[samples]`` bool.
        reached: ``[samples]`` bool, within the reach.
        ended: ``[samples]`` bool, whether a walk ended there.
        stratum: ``[samples]``.
    """
    inside = candidates & reached
    left = torch.isin(stratum, stratum[inside]) & torch.isin(stratum, stratum[ended])
    return inside | (candidates & ~left)


_NEAR = 1.25
"""Predicted error over target up to which a stratum is worth measuring."""


def near_target(
    evidence: Evidence,
    target: float,
    deviation: Tensor,
    usable: Tensor,
    stratum: Tensor,
    weight: Tensor,
) -> list[int]:
    """Return the strata whose predicted error is near the target or below.

    The prediction is ``sqrt(<e^2> / <d^2>)`` of the evidence times the root mean square
    of the deviations seen in the stratum.
    """
    if len(evidence.error) < LEAST_RANDOM:
        return []
    ratio = evidence.error.square().sum() / evidence.deviation.square().sum()
    near = []
    for number in stratum[usable].unique().tolist():
        here = usable & (stratum == number)
        square = (weight[here] * deviation[here].square()).sum() / weight[here].sum()
        if float(ratio * square) <= (_NEAR * target) ** 2:
            near.append(number)
    return near
