"""Full-size runs of the shipped scenarios of concurrent learning, and how they end.

They stand in ``results/curves/learn_runs.json``, one entry for each scenario and seed;
``python benchmarks/learn_runs.py SCENARIO SEED FOLDER`` makes one, or continues it, in a
run folder. The figures follow from these entries: nothing is computed again.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from scipy.stats import binomtest

from scalebridge.engine import bench, commands, runtime
from scalebridge.engine.bench import Recorder
from scalebridge.engine.learn.stopping import State

sys.path.append(str(Path(__file__).resolve().parent))
from learn_curves import Curves

RUNS = Curves(Path(__file__).resolve().parent / "results" / "curves" / "learn_runs.json")
NAMES = ("elt_h4", "elt_copper", "elt_closure", "elt_silicon")
FIRST = 2
"""Round from which coverage is promised."""


def full(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Run a scenario as it is shipped, to its end, and return what came of it."""
    if folder.exists():
        commands.resume(folder, quiet=False)
    else:
        commands.run(name, [f"seed={seed}"], folder, quiet=False)
    usage = [
        resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return {
        "arm": name,
        "seed": seed,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": bench.machine(),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in usage)),
        **collected(folder),
    }


def collected(folder: Path) -> dict[str, Any]:
    """Return the figures of a finished run, its strata and its bounds."""
    summary = json.loads((folder / "summary.json").read_text())
    store: Any = zarr.open_group(str(folder / "data.zarr"), mode="r")
    (stopped,) = [check for check in summary["checks"] if check["name"] == "stopped"]
    rounds = store["rounds"]
    covered = zip(rounds["round"][:], rounds["coverage"][:], rounds["covered_of"][:],
                  strict=True)  # fmt: skip
    return {
        "target": json.loads((folder / "resolved.json").read_text())["scenario"]["target"],
        "met": bool(stopped["passed"]),
        "reason": stopped["note"],
        "figures": {n: figure["value"] for n, figure in summary["figures"].items()},
        "strata": _strata(store),
        "coverage": [[int(n), round(c * of), int(of)] for n, c, of in covered if of],
    }


def _strata(store: Any) -> list[dict[str, Any]]:
    """Return every stratum's last state, and its error in the final evaluation."""
    table, states = store["strata"], list(State)
    names = list(table.attrs["strata"])
    last = table["round"][:] == table["round"][:].max()
    audited = {}
    if "audit" in store:
        audit = store["audit"]
        for number, name in enumerate(audit.attrs["strata"]):
            error = audit["error"][:][audit["stratum"][:] == number]
            audited[name] = round(float(np.sqrt(np.mean(error**2))), 5)
    return [
        {
            "name": names[table["stratum"][row]],
            "state": states[table["state"][row]].value,
            "error": round(float(table["error"][row]), 5),
            "high": round(float(table["error_high"][row]), 5),
            "audit": audited.get(names[table["stratum"][row]]),
        }
        for row in np.flatnonzero(last)
    ]


def measure(record: Recorder) -> None:
    """Record the figures of the runs that were made."""
    runs = RUNS.known()
    for name in NAMES:
        mine = [run for run in runs if run["arm"] == name]
        if mine and record.wants(figure := f"{name.removeprefix('elt_')}_audit_error"):
            _audit(record, figure, mine)
    met = [run for run in runs if run["met"]]
    if runs and record.wants("false_alarms"):
        _false_alarms(record, runs)
    if met and record.wants("labelled_fraction"):
        _fraction(record, met)
    if runs and record.wants("coverage90"):
        _coverage(record, runs)
    if runs and record.wants("spearman"):
        ranks = [run["figures"]["spearman"] for run in runs]
        record("spearman", float(np.mean(ranks)), goal=0.6, better="higher",
               spread=(min(ranks), max(ranks)), note="committee's deviation against true "
               f"error of all that was labelled, {len(runs)} runs")  # fmt: skip


def _worst(run: dict[str, Any]) -> float:
    return next(v for n, v in run["figures"].items() if n.startswith("worst_"))


def _said(run: dict[str, Any]) -> str:
    figures = run["figures"]
    return (
        f"seed {run['seed']}: {run['reason']}; {figures['labels']:.0f} labels and "
        f"{figures.get('labels_audit', 0):.0f} of the audit, {figures['rounds']:.0f} "
        f"rounds, {run['cpu_seconds'] / 60:.0f} CPU-minutes, {run['machine']}, "
        f"{run['date']}"
    )


def _audit(record: Recorder, figure: str, runs: Sequence[dict[str, Any]]) -> None:
    worst = [_worst(run) for run in runs]
    unit = "" if "closure" in figure else "eV/angstrom"
    record(figure, max(worst), unit, goal=runs[0]["target"], better="lower",
           spread=(min(worst), max(worst)), note="error of the final evaluation in the "
           "worst stratum; " + "; ".join(map(_said, runs)))  # fmt: skip


def _false_alarms(record: Recorder, runs: Sequence[dict[str, Any]]) -> None:
    alarms = sound = 0
    for run in runs:
        for stratum in run["strata"]:
            within = stratum["audit"] is not None and stratum["audit"] <= run["target"]
            sound += within
            alarms += within and stratum["state"] != State.MET.value
    record("false_alarms", alarms / max(sound, 1), goal=0.1, better="lower",
           note=f"{alarms} of {sound} strata that the audit finds within the target were "
           f"not called met at the end; {len(runs)} runs")  # fmt: skip


def _fraction(record: Recorder, runs: Sequence[dict[str, Any]]) -> None:
    by_name: dict[str, list[float]] = {}
    for run in runs:
        by_name.setdefault(run["arm"], []).append(run["figures"]["labelled_fraction"])
    best = min(by_name, key=lambda name: max(by_name[name]))
    said = ", ".join(f"{n} {max(values):.2g}" for n, values in by_name.items())
    record("labelled_fraction", max(by_name[best]), goal=1e-3, better="lower",
           note="labels, the audit's included, over frames that the committee screened at "
           f"least 10 fs apart, in runs that met their target; {best}; all: "
           f"{said}")  # fmt: skip


def _coverage(record: Recorder, runs: Sequence[dict[str, Any]]) -> None:
    rows = [
        (f"{run['arm']} seed {run['seed']} round {number}", inside, of)
        for run in runs
        for number, inside, of in run["coverage"]
        if number >= FIRST
    ]
    inside, of = sum(row[1] for row in rows), sum(row[2] for row in rows)
    low, high = binomtest(inside, of).proportion_ci(0.95, method="exact")
    off = [
        name
        for name, k, n in rows
        if not (ci := binomtest(k, n).proportion_ci(0.95, method="exact")).low
        <= 0.9 <= ci.high
    ]  # fmt: skip
    value = inside / of
    verdict = "met" if 0.87 <= value <= 0.93 else "missed"
    if of < 400:
        verdict = f"not shown: {of} bounds of 400"
    record("coverage90", value, spread=(float(low), float(high)),
           note=f"goal 0.87 to 0.93: {verdict}; {of} labels drawn at random, bounds made "
           f"before they were known, rounds {FIRST} onward, {len(runs)} runs; rounds whose "
           f"95 % interval leaves 0.9 out: {', '.join(off) or 'none'}")  # fmt: skip


if __name__ == "__main__":
    runtime.start("cpu")
    torch.set_num_threads(1)
    RUNS.keep(full(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
