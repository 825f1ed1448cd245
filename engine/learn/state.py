"""State of the loop between rounds, and the tables and figures of a run."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor

from ..errors import DamagedFileError
from ..protocols import Check, Committee, Figure, Indicator, Label, Outcome, Sample
from ..rundir import RunFolder
from .indicators import Evidence, Verdict, coverage, spearman
from .label_store import LabelStore
from .round_plan import LabelState, Plan, append, decision_rows, load_plan
from .selection import Arm
from .stopping import Measured, Reason, Round, State, StopRule, Stratum

_DRAWN = int(Arm.RANDOM)

Errors = Callable[[Committee, Sequence[tuple[Sample, Label]]], Tensor]
"""True errors ``[samples]`` of a committee at labelled samples, in the target's unit."""


@dataclass(frozen=True)
class LoopState(Generic[Sample, Label]):
    """The state of the loop before a round.

    Attributes:
        committee: current models.
        round: number of the round to come; 0 labels the starting samples.
        reason: why the stop rule has ended the loop.
        said: the same as a sentence.
        labelled: key -> sample and label, in the order of choice.
        held: keys of the last round's random labels, on which the committee is not trained
            yet: they calibrate it.
        learned: number of labels on which the committee was trained.
        evidence: deviations with true errors, both before the sample was trained on.
        calibration: deviations and errors of the present committee at the held labels.
        history: the rounds of exploring so far.
        names: all strata met; the tables hold indices into it.
        rows: table -> number of rows that are final.
        seen: number of samples screened.
        quarantined: number of samples given up.
    """

    committee: Committee
    round: int = 0
    reason: Reason = Reason.NONE
    said: str = ""
    labelled: Mapping[str, tuple[Sample, Label]] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    learned: int = 0
    evidence: Evidence = field(default_factory=Evidence.none)
    calibration: Evidence = field(default_factory=Evidence.none)
    history: tuple[Round, ...] = ()
    names: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    seen: float = 0.0
    quarantined: int = 0

    @property
    def dataset(self) -> list[tuple[Sample, Label]]:
        """All labelled samples."""
        return list(self.labelled.values())

    @property
    def learnt(self) -> list[tuple[Sample, Label]]:
        """Those that may be trained on now."""
        return [pair for key, pair in self.labelled.items() if key not in self.held]

    @property
    def unlearnt(self) -> list[tuple[Sample, Label]]:
        """Those that calibrate the committee."""
        return [pair for key, pair in self.labelled.items() if key in self.held]

    def save(self, folder: RunFolder) -> None:
        """Write a checkpoint."""
        tensors = {
            f"member{number}/{name}": tensor
            for number, member in enumerate(self.committee)
            for name, tensor in member.state_dict().items()
        }
        for group in ("evidence", "calibration"):
            own = vars(getattr(self, group))
            tensors |= {f"{group}/{name}": tensor for name, tensor in own.items()}
        extra = {
            "reason": self.reason.name,
            "said": self.said,
            "held": sorted(self.held),
            "learned": self.learned,
            "history": [asdict(round) for round in self.history],
            "names": self.names,
            "rows": dict(self.rows),
            "seen": self.seen,
            "quarantined": self.quarantined,
        }
        folder.save_checkpoint(self.round, tensors, extra)


def plan_path(folder: RunFolder, round: int) -> Path:
    """Return the file of the plan of a round."""
    return folder.path / "rounds" / f"{round:04d}.safetensors"


def recall(
    folder: RunFolder,
    store: LabelStore[Sample, Label],
    empty: Committee,
    label: Callable[[Sequence[Sample]], None],
) -> LoopState[Sample, Label]:
    """Return the state of the last checkpoint; the initial state without one.

    Args:
        folder: of the run.
        store: of the labels.
        empty: untrained models, filled from the checkpoint.
        label: computes the labels of samples that somebody removed.

    Raises:
        DamagedFileError: a plan that the checkpoint counts on is missing.
    """
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        return LoopState(empty)
    for number, member in enumerate(empty):
        member.load_state_dict(_below(f"member{number}/", checkpoint.tensors))
    labelled: dict[str, tuple[Sample, Label]] = {}
    for round in range(checkpoint.step):
        plan = load_plan(plan_path(folder, round), store.samples)
        if plan is None:
            raise DamagedFileError(f"{plan_path(folder, round)}: missing")
        label(plan.samples)
        labelled |= found(store, plan)
    extra = checkpoint.extra
    return LoopState(
        committee=empty,
        round=checkpoint.step,
        reason=Reason[extra["reason"]],
        said=extra["said"],
        labelled=labelled,
        held=frozenset(extra["held"]),
        learned=extra["learned"],
        evidence=Evidence(**_below("evidence/", checkpoint.tensors)),
        calibration=Evidence(**_below("calibration/", checkpoint.tensors)),
        history=tuple(_round(entry) for entry in extra["history"]),
        names=tuple(extra["names"]),
        rows=extra["rows"],
        seen=extra["seen"],
        quarantined=extra["quarantined"],
    )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _round(entry: Mapping[str, Any]) -> Round:
    strata = {
        name: Stratum(**kept | {"errors": tuple(kept["errors"])})
        for name, kept in entry["strata"].items()
    }
    return Round(entry["untrusted"], strata, entry["labels"])


def found(
    store: LabelStore[Sample, Label], plan: Plan[Sample]
) -> dict[str, tuple[Sample, Label]]:
    """Return the labelled samples of a plan, in its order."""
    entries: dict[str, tuple[Sample, Label]] = {}
    for sample in plan.samples:
        key = store.key(sample)
        entry = store.get(key)
        if entry is not None:
            entries[key] = (sample, entry.label)
    return entries


def evaluate_round(
    state: LoopState[Sample, Label],
    plan: Plan[Sample],
    store: LabelStore[Sample, Label],
    errors: Errors[Sample, Label],
    stop: StopRule,
    target: float,
    folder: RunFolder,
    given: int = 0,
) -> LoopState[Sample, Label]:
    """Measure the committee at the new labels and write the tables.

    Of all labels ``given`` cost nothing.

    Returns:
        The state with the new labels, evidence and round in it, before training.
    """
    keys = [store.key(sample) for sample in plan.samples]
    entries = [store.get(key) for key in keys]
    explored = state.round > 0
    states = torch.tensor(
        [int(LabelState.LABELLED if e else LabelState.QUARANTINED) for e in entries],
        dtype=torch.int8,
    )
    error = torch.full((len(keys),), math.nan, dtype=torch.float64)
    labelled = states == int(LabelState.LABELLED)
    if explored and bool(labelled.any()):
        pairs = zip(plan.samples, entries, strict=True)
        error[labelled] = errors(state.committee, [(s, e.label) for s, e in pairs if e])
    seconds = torch.tensor([e.seconds if e else 0.0 for e in entries], dtype=torch.float64)
    names = tuple(dict.fromkeys([*state.names, *plan.strata]))
    history, evidence = state.history, state.evidence
    if explored:
        history = (*history, replace(_summary(plan, error), labels=state.learned))
        evidence = evidence.joined(_evidence(state.round, plan, error))
    new = {**state.labelled, **found(store, plan)}
    drawn = [
        key for key, arm in zip(keys, plan.arms.tolist(), strict=True) if arm == _DRAWN
    ]
    reason, said = stop.reason(history, target, len(new) - given)
    state = replace(
        state,
        labelled=new,
        held=frozenset(key for key in drawn if key in new and key not in state.labelled),
        evidence=evidence,
        history=history,
        names=names,
        reason=reason,
        said=said,
        seen=state.seen + (float(plan.weight.sum()) if explored else 0.0),
        quarantined=state.quarantined + int((states == LabelState.QUARANTINED).sum()),
    )
    decisions = decision_rows(state.round, plan, states, error, seconds)
    legend = torch.tensor([names.index(name) for name in plan.strata], dtype=torch.int32)
    decisions["stratum"] = legend[plan.stratum]
    rows = dict(state.rows)
    measured = stop.strata(history, target)
    tables = {"decisions": decisions, "strata": _strata_rows(state, measured)}
    for table, columns in tables.items():
        rows[table] = append(
            folder.store, table, rows.get(table, 0), columns, strata=list(names)
        )
    if plan.feature_map:
        title = f"The samples of round {state.round} in the committee's features"
        append(folder.store, "feature_map", 0, plan.feature_map, title=title)
    return replace(state, rows=rows)


def calibrate(
    state: LoopState[Sample, Label], indicator: Indicator[Sample], errors: Errors[Any, Any]
) -> LoopState[Sample, Label]:
    """Return the state with the present committee measured at the held labels."""
    if not state.held:
        return replace(state, calibration=Evidence.none())
    pairs = state.unlearnt
    deviation = indicator(state.committee, [sample for sample, _ in pairs])
    deviation = deviation.detach().double().cpu()
    error, n = errors(state.committee, pairs), len(pairs)
    evidence = Evidence(
        deviation,
        error,
        torch.full((n,), math.nan, dtype=torch.float64),
        torch.full((n,), state.round),
        torch.ones(n, dtype=torch.bool),
    )
    return replace(state, calibration=evidence)


def _evidence(round: int, plan: Plan[Any], errors: Tensor) -> Evidence:
    deviation = plan.deviation[plan.rows]
    known = errors.isfinite() & deviation.isfinite()
    return Evidence(
        deviation[known],
        errors[known],
        plan.levels.bound(deviation)[known],
        torch.full((int(known.sum()),), round),
        (plan.arms == int(Arm.RANDOM))[known],
    )


def _summary(plan: Plan[Any], errors: Tensor) -> Round:
    open_ = plan.verdict != int(Verdict.ACCURATE)
    failed = plan.verdict == int(Verdict.FAILED)
    drawn = (plan.arms == int(Arm.RANDOM)) & errors.isfinite()
    whole = plan.weight + plan.unreached
    strata = {}
    for number, name in enumerate(plan.strata):
        here = plan.stratum == number
        measured = errors[drawn & here[plan.rows]]
        lost = plan.unreached[here].sum() + plan.weight[here & failed].sum()
        strata[name] = Stratum(
            float(plan.weight[here].sum()),
            _fraction(plan.weight[here & open_], plan.weight[here]),
            tuple(measured.tolist()),
            float(lost / whole[here].sum()),
        )
    return Round(_fraction(plan.weight[open_], plan.weight), strata)


def _fraction(part: Tensor, whole: Tensor) -> float:
    return float(part.sum() / whole.sum()) if len(whole) else 0.0


def _rms(errors: Sequence[float]) -> float:
    return math.sqrt(sum(e * e for e in errors) / len(errors)) if errors else math.nan


def _strata_rows(
    state: LoopState[Any, Any], measured: Mapping[str, Measured]
) -> dict[str, Tensor]:
    strata = state.history[-1].strata if state.round > 0 else {}
    known = [measured[name] for name in strata]
    number = [state.names.index(name) for name in strata]
    real = partial(torch.tensor, dtype=torch.float64)
    return {
        "round": torch.full((len(strata),), state.round, dtype=torch.int32),
        "stratum": torch.tensor(number, dtype=torch.int32),
        "seen": real([s.seen for s in strata.values()]),
        "untrusted": real([s.untrusted for s in strata.values()]),
        "unreached": real([s.unreached for s in strata.values()]),
        "error": real([m.error for m in known]),
        "error_low": real([m.low for m in known]),
        "error_high": real([m.high for m in known]),
        "measured": torch.tensor([m.count for m in known], dtype=torch.int32),
        "state": torch.tensor([list(State).index(m.state) for m in known]).int(),
    }


def close_round(
    state: LoopState[Sample, Label],
    plan: Plan[Sample],
    label_seconds: float,
    train_seconds: float,
    error_training: float,
    folder: RunFolder,
) -> LoopState[Sample, Label]:
    """Write the round's row and event, and a checkpoint; return the state after it."""
    here = state.evidence.round == state.round
    error, drawn = state.evidence.error[here], state.evidence.drawn[here]
    covered = coverage(state.evidence.of(state.round))
    bounded = int((here & state.evidence.drawn & state.evidence.bound.isfinite()).sum())
    counts = {v.name.lower(): int((plan.verdict == int(v)).sum()) for v in Verdict}
    row = {
        "round": state.round,
        "seen": float(plan.weight.sum()),
        **counts,
        "asked": len(plan.rows),
        "labels": len(state.labelled),
        "quarantined": state.quarantined,
        "threshold": plan.levels.low,
        "ratio": plan.levels.ratio,
        "coverage": covered,
        "covered_of": bounded,
        "untrusted": state.history[-1].untrusted if state.history else math.nan,
        "error_random": _rms(error[drawn].tolist()),
        "error_chosen": _rms(error[~drawn].tolist()),
        "error_training": error_training,
        "explore_seconds": plan.seconds,
        "label_seconds": label_seconds,
        "train_seconds": train_seconds,
    }
    columns = {
        name: torch.tensor([float(v)], dtype=torch.float64) for name, v in row.items()
    }
    rows = dict(state.rows)
    rows["rounds"] = append(folder.store, "rounds", rows.get("rounds", 0), columns)
    folder.log(step=state.round, **row)
    state = replace(state, round=state.round + 1, rows=rows)
    state.save(folder)
    return state


def conclude(
    stop: StopRule,
    target: float,
    store: LabelStore[Any, Any],
    state: LoopState[Any, Any],
    more: Outcome,
    advice: str,
    promised: Sequence[Check] = (),
    given: int = 0,
) -> Outcome:
    """Return the figures of the run, why it ended, and the state of every stratum.

    Of all labels ``given`` were there before.
    """
    drawn = state.evidence.drawn
    recent = state.evidence.error[drawn & (state.evidence.round >= state.round - 2)]
    labels = len(state.labelled)
    audit = more.figures.get("labels_audit", Figure(0)).value
    screened = state.seen + more.figures.get("audit_screened", Figure(0)).value
    figures = {
        "labels": Figure(labels, note="reference calculations in the data set"),
        "labels_computed": Figure(
            store.computed(), note="reference calculations made by this run, audit included"
        ),
        "labels_found": Figure(
            store.found(), note="labels that were there: of other runs, or given"
        ),
        "labels_failed": Figure(store.failed(), note="attempts that gave no label"),
        "explored": Figure(state.seen, note="samples that the committee screened"),
        "labelled_fraction": Figure(
            (labels - given + audit) / max(screened, 1.0),
            note="labels, audit's included, of what was screened",
        ),
        "quarantined": Figure(state.quarantined, note="samples without a valid label"),
        "labels_repeated": Figure(store.repeated(), note="labels computed twice"),
        "rounds": Figure(state.round - 1),
        "error_random": Figure(
            _rms(recent.tolist()), note="of samples drawn at random in the last rounds"
        ),
        "spearman": Figure(
            spearman(state.evidence.deviation, state.evidence.error),
            note="rank correlation of the committee's deviation and the true error",
        ),
        "coverage": Figure(
            coverage(state.evidence),
            note="share of random samples whose error was within the predicted bound",
        ),
    }
    figures = {name: f for name, f in figures.items() if math.isfinite(f.value)}
    said = state.said or "the last round was reached"
    if advice and state.reason is not Reason.TARGET:
        said += f"; {advice}"
    met = state.reason is Reason.TARGET
    if met and (worse := [c for c in more.checks if c.name == "audit" and not c.passed]):
        said += f", which the final evaluation does not confirm: {worse[0].sentence}"
    stopped = Check("stopped", "health", float(not met), 0.0, note=said)
    strata = stop.checks(state.history, target)
    checks = (*strata, *promised, stopped, *more.checks)
    missing = {
        "domain": "no stratum was left unreached" if state.history else "nothing explored",
        "accuracy": "no sample was drawn at random, and there was no final evaluation",
    }
    kinds = {check.kind for check in checks}
    return Outcome(
        figures | dict(more.figures),
        checks,
        {kind: why for kind, why in missing.items() if kind not in kinds},
    )
