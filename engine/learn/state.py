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
from ..protocols import Check, Committee, Figure, Label, Outcome, Sample
from ..rundir import RunFolder
from .indicators import Evidence, Verdict, coverage, spearman
from .label_store import LabelStore
from .round_plan import LabelState, Plan, append, decision_rows, load_plan
from .selection import Arm
from .stopping import Round, StopRule, Stratum


@dataclass(frozen=True)
class LoopState(Generic[Sample, Label]):
    """The state of the loop before a round.

    Attributes:
        committee: current models.
        round: number of the round to come; 0 labels the starting samples.
        done: whether the stop rule has ended the loop.
        labelled: key -> sample and label, in the order of choice.
        evidence: deviations with their true errors.
        history: the rounds of exploring so far.
        names: all strata met; the tables hold indices into it.
        rows: table -> number of rows that are final.
        seen: number of samples explored.
        quarantined: number of samples given up.
    """

    committee: Committee
    round: int = 0
    done: bool = False
    labelled: Mapping[str, tuple[Sample, Label]] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence.none)
    history: tuple[Round, ...] = ()
    names: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    seen: int = 0
    quarantined: int = 0

    @property
    def dataset(self) -> list[tuple[Sample, Label]]:
        """All labelled samples."""
        return list(self.labelled.values())

    def save(self, folder: RunFolder) -> None:
        """Write a checkpoint."""
        tensors = {
            f"member{number}/{name}": tensor
            for number, member in enumerate(self.committee)
            for name, tensor in member.state_dict().items()
        }
        tensors |= {f"evidence/{name}": t for name, t in vars(self.evidence).items()}
        extra = {
            "done": self.done,
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
        empty,
        checkpoint.step,
        extra["done"],
        labelled,
        Evidence(**_below("evidence/", checkpoint.tensors)),
        tuple(_round(entry) for entry in extra["history"]),
        tuple(extra["names"]),
        extra["rows"],
        extra["seen"],
        extra["quarantined"],
    )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _round(entry: Mapping[str, Any]) -> Round:
    strata = {
        name: Stratum(kept["seen"], kept["untrusted"], tuple(kept["errors"]))
        for name, kept in entry["strata"].items()
    }
    return Round(entry["untrusted"], strata)


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
    error: Callable[[Committee, Sample, Label], float],
    stop: StopRule,
    folder: RunFolder,
) -> LoopState[Sample, Label]:
    """Measure the committee at the new labels and write the tables.

    Returns:
        The state with the new labels, evidence and round in it, before training.
    """
    entries = [store.get(store.key(sample)) for sample in plan.samples]
    explored = state.round > 0
    errors = torch.tensor(
        [
            error(state.committee, sample, entry.label) if entry and explored else math.nan
            for sample, entry in zip(plan.samples, entries, strict=True)
        ],
        dtype=torch.float64,
    )
    seconds = torch.tensor([e.seconds if e else 0.0 for e in entries], dtype=torch.float64)
    states = torch.tensor(
        [int(LabelState.LABELLED if e else LabelState.QUARANTINED) for e in entries],
        dtype=torch.int8,
    )
    names = tuple(dict.fromkeys([*state.names, *plan.strata]))
    history, evidence = state.history, state.evidence
    if explored:
        history = (*history, _summary(plan, errors))
        evidence = evidence.joined(_evidence(state.round, plan, errors))
    state = replace(
        state,
        labelled={**state.labelled, **found(store, plan)},
        evidence=evidence,
        history=history,
        names=names,
        done=explored and stop.done(history),
        seen=state.seen + (len(plan.deviation) if explored else 0),
        quarantined=state.quarantined + int((states == LabelState.QUARANTINED).sum()),
    )
    decisions = decision_rows(state.round, plan, states, errors, seconds)
    legend = torch.tensor([names.index(name) for name in plan.strata], dtype=torch.int32)
    decisions["stratum"] = legend[plan.stratum]
    rows = dict(state.rows)
    tables = {"decisions": decisions, "strata": _strata_rows(state, explored)}
    for table, columns in tables.items():
        rows[table] = append(
            folder.store, table, rows.get(table, 0), columns, strata=list(names)
        )
    if plan.feature_map:
        title = f"The samples of round {state.round} in the committee's features"
        append(folder.store, "feature_map", 0, plan.feature_map, title=title)
    return replace(state, rows=rows)


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
    drawn = (plan.arms == int(Arm.RANDOM)) & errors.isfinite()
    strata = {}
    for number, name in enumerate(plan.strata):
        here = plan.stratum == number
        measured = errors[drawn & here[plan.rows]]
        strata[name] = Stratum(
            int(here.sum()),
            _fraction(plan.weight[here & open_], plan.weight[here]),
            tuple(measured.tolist()),
        )
    return Round(_fraction(plan.weight[open_], plan.weight), strata)


def _fraction(part: Tensor, whole: Tensor) -> float:
    return float(part.sum() / whole.sum()) if len(whole) else 0.0


def _rms(errors: Sequence[float]) -> float:
    return math.sqrt(sum(e * e for e in errors) / len(errors)) if errors else math.nan


def _strata_rows(state: LoopState[Any, Any], explored: bool) -> dict[str, Tensor]:
    strata = state.history[-1].strata if explored else {}
    number = [state.names.index(name) for name in strata]
    real = partial(torch.tensor, dtype=torch.float64)
    return {
        "round": torch.full((len(strata),), state.round, dtype=torch.int32),
        "stratum": torch.tensor(number, dtype=torch.int32),
        "seen": torch.tensor([s.seen for s in strata.values()], dtype=torch.int64),
        "untrusted": real([s.untrusted for s in strata.values()]),
        "error": real([_rms(s.errors) for s in strata.values()]),
    }


def close_round(
    state: LoopState[Sample, Label],
    plan: Plan[Sample],
    label_seconds: float,
    train_seconds: float,
    folder: RunFolder,
) -> LoopState[Sample, Label]:
    """Write the round's row and event, and a checkpoint; return the state after it."""
    here = state.evidence.round == state.round
    error, drawn = state.evidence.error[here], state.evidence.drawn[here]
    counts = {v.name.lower(): int((plan.verdict == int(v)).sum()) for v in Verdict}
    row = {
        "round": state.round,
        "seen": len(plan.deviation),
        **counts,
        "asked": len(plan.rows),
        "labels": len(state.labelled),
        "quarantined": state.quarantined,
        "threshold": plan.levels.low,
        "ratio": plan.levels.ratio,
        "untrusted": state.history[-1].untrusted if state.history else math.nan,
        "error_random": _rms(error[drawn].tolist()),
        "error_chosen": _rms(error[~drawn].tolist()),
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
    stop: StopRule, store: LabelStore[Any, Any], state: LoopState[Any, Any], more: Outcome
) -> Outcome:
    """Return the figures of the run, and for every stratum whether it has converged."""
    drawn = state.evidence.drawn
    recent = state.evidence.error[drawn & (state.evidence.round >= state.round - 2)]
    labels = len(state.labelled)
    figures = {
        "labels": Figure(labels, note="reference calculations"),
        "explored": Figure(state.seen, note="samples that the committee evaluated"),
        "labelled_fraction": Figure(labels / max(state.seen, 1)),
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
            note="share of true errors within their predicted bound",
        ),
    }
    figures = {name: f for name, f in figures.items() if math.isfinite(f.value)}
    late = "the last round was reached before all strata converged"
    stopped = Check("stopped", "health", float(not state.done), 0.0, note=late)
    checks = (*stop.checks(state.history), stopped, *more.checks)
    missing = {
        "domain": "nothing was explored",
        "accuracy": "no sample was drawn at random, and there was no final evaluation",
    }
    found = {check.kind for check in checks}
    return Outcome(
        figures | dict(more.figures),
        checks,
        {kind: why for kind, why in missing.items() if kind not in found},
    )
