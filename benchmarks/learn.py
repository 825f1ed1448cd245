"""Concurrent learning: how full runs end, labels to a target, kills, overhead.

Full runs of the shipped scenarios are in ``learn_runs.py``. The label curves of silicon
are kept in ``results/curves/learn_silicon.json``, one entry for each arm and seed; runs
that are missing there are made. ``python benchmarks/learn.py ARM SEED`` makes one. Arms:
``learned`` (committee and diversity), ``random`` (the same exploration, labels drawn at
random from all that it saw), ``structures`` (random distortions of the starting
structures, no dynamics).
"""

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scalebridge.engine import runtime, scenario
from scalebridge.engine.bench import Recorder
from scalebridge.engine.learn import atoms
from scalebridge.engine.learn.explorers.dynamics import Dynamics, Walks
from scalebridge.engine.learn.explorers.structures import Distortions
from scalebridge.engine.learn.labelers.exact import PotentialLabeler
from scalebridge.engine.learn.selection import Batch
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.protocols import Outcome
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder

sys.path.append(str(Path(__file__).resolve().parent))
import learn_closure
import learn_dft
import learn_runs
from learn_curves import Curves, Watch, record_errors

HERE = Path(__file__).resolve().parent
CURVES = Curves(HERE / "results" / "curves" / "learn_silicon.json")
TOY = HERE.parent / "tests" / "learn_toy.py"
ARMS = ("learned", "random", "structures")
SEEDS = 5
TARGET = 0.05
MOST_LABELS = 250
CUTOFF = StillingerWeber().cutoff


# -- silicon -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """Stillinger-Weber with a deviation of zero, so that it can lead walkers."""

    species: tuple[str, ...] = ("Si",)
    cutoff: float = CUTOFF

    def __call__(self, state, neighbours):
        found = StillingerWeber()(state, neighbours)
        return replace(found, deviation=torch.zeros_like(state.masses))


def held_out(starts, frames: int = 6) -> list[tuple[Any, Any]]:
    """Frames of the true dynamics in every stratum, with labels; the same for all runs."""
    steps, stride = 600, 300 // frames
    settings = Dynamics(steps=steps, stride=stride)
    walk = Walks(settings, starts, potential=lambda committee: Truth())
    labeler = PotentialLabeler(StillingerWeber())
    seen = list(walk.explore([], runtime.generator(77)))
    late = seen[len(seen) // 2 :]
    return [(sample, labeler.label(sample)) for sample in late]


def errors_of(committee, test) -> tuple[torch.Tensor, torch.Tensor]:
    """Return deviation and force error of every frame."""
    found, state = atoms.evaluate(committee, [sample for sample, _ in test])
    exact = torch.cat([label.forces for _, label in test])
    square = (found.forces - exact).square().mean(1)
    system = state.system.long()
    mean = torch.zeros(len(test), dtype=torch.float64).index_add(0, system, square)
    deviation = torch.segment_reduce(found.deviation, "max", lengths=state.counts, axis=0)
    return deviation, (mean / state.counts).sqrt()


def by_stratum(test, error: torch.Tensor) -> dict[str, float]:
    """Root mean square of the frames' errors in every stratum."""
    names = [sample.stratum for sample, _ in test]
    return {
        name: float(error[[n == name for n in names]].square().mean().sqrt())
        for name in dict.fromkeys(names)
    }


def silicon(arm: str, seed: int, quick: bool = False) -> dict[str, Any]:
    """Run one arm to the target and return its curve."""
    from scalebridge.engine.jobs import assemble

    settings = [
        f"seed={seed}", "rounds=60", "explorer.stride=1", "explorer.steps=60",
        "explorer.timestep=3.0", "training.steps=2400", "batch.size=48",
    ]  # fmt: skip
    if quick:
        settings += ["rounds=1", "explorer.steps=10", "training.steps=20"]
    checked, base = scenario.load("elt_silicon", settings)
    loop: Any = assemble(checked, base)
    starts = loop.explorer(0, math.inf).starts
    test = held_out(starts, 2 if quick else 6)

    def strata(committee: Any) -> dict[str, float]:
        return by_stratum(test, errors_of(committee, test)[1])

    watch = Watch(loop.trainer, strata, TARGET, MOST_LABELS)
    loop = replace(loop, trainer=watch, stop=watch, finish=lambda f, c, d, a: Outcome())
    size = loop.batch.size
    if arm != "learned":
        loop = replace(loop, batch=Batch(size, 1.0))
    if arm == "structures":
        loop = replace(loop, explorer=lambda round, reach: Distortions(4).explorer(starts))
    begun = time.process_time()
    with (
        tempfile.TemporaryDirectory() as place,
        RunFolder.create(Path(place) / "run", "", {}) as folder,
    ):
        outcome = loop.run(folder, Reporter(quiet=True))
    deviation, error = errors_of(watch.committee, test)
    return {
        "arm": arm,
        "seed": seed,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "labels": watch.labels,
        "worst": watch.worst,
        "mean": watch.mean,
        "explored": outcome.figures["explored"].value,
        "prospective_coverage": getattr(outcome.figures.get("coverage"), "value", None),
        "strata": [sample.stratum for sample, _ in test],
        "deviation": [round(x, 5) for x in deviation.tolist()],
        "error": [round(x, 5) for x in error.tolist()],
        "cpu_seconds": round(time.process_time() - begun),
    }


def measure_silicon(record: Recorder, quick: bool) -> None:
    """Make the runs that are missing, then the figures that follow from all."""
    if not CURVES.complete(silicon, ARMS, SEEDS, quick):
        return
    runs = CURVES.known()
    record_errors(record, "silicon_curve_mean_error", runs, "mean", TARGET)
    record_errors(record, "silicon_curve_worst_error", runs, "worst", TARGET)


# -- kills and overhead --------------------------------------------------------------------


def _toy() -> Any:
    sys.path.insert(0, str(TOY.parent))
    import learn_toy

    return learn_toy


def _events(path: Path) -> list[list[str]]:
    log = path / "labels" / "log.txt"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def _run_with_kills(path: Path, kills: int, rng: random.Random) -> int:
    """Run the toy; kill the controller, or a worker in a label, at random moments."""
    killed = 0
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    while True:
        program = [sys.executable, str(TOY), str(path), "2", "0.05"]
        process = subprocess.Popen(program, env=environment)
        while killed < kills and process.poll() is None:
            target = len(_events(path)) + rng.randrange(1, 8)
            while process.poll() is None and len(_events(path)) < target:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.06))
            killed += 1
            if killed % 2:
                process.kill()
            else:
                lines = _events(path)
                done = {key for *_, event, key in lines if event == "done"}
                busy = [
                    pid
                    for _, pid, what, key in lines
                    if what == "begin" and key not in done
                ]
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(int(busy[-1]), signal.SIGKILL)
        status = process.wait()
        if status == 0:
            return killed
        if status != -signal.SIGKILL:
            raise RuntimeError(f"the toy ended with status {status}")


def measure_kills(record: Recorder, kills: int, quick: bool) -> None:
    """Kill controller and workers in turn, then in each phase; compare with calm runs."""
    toy = _toy()
    lost = repeated = done_kills = number = 0
    while done_kills < kills:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place)
            rng = random.Random(number)
            done_kills += _run_with_kills(path / "run", min(6, kills - done_kills), rng)
            job = toy.loop(labeler=toy.Teacher(0.05), rounds=4)
            toy.run(path / "calm", job)
            calm, mine = (toy.final_data(path / name, job) for name in ("calm", "run"))
            lost += len([pair for pair in calm if pair not in mine])
            lost += mine != calm and set(mine) == set(calm)
            repeated += _repeated(path / "run")
        number += 1
    phases = list(toy.PHASES)[:: 6 if quick else 1]
    with tempfile.TemporaryDirectory() as place:
        calm = _dataset(Path(place) / "calm")
        differ = 0
        for phase in phases:
            path = Path(place) / phase
            differ += _dataset(path, phase) != calm
            repeated += _repeated(path)
    note = (
        f"{done_kills} kills -9 at random moments, controller and workers in turn, "
        f"{number} runs; and one in each of {len(phases)} phases: {', '.join(phases)}"
    )
    record("labels_lost", lost, "", goal=0, better="lower", note=note)
    record("labels_repeated", repeated, "", goal=0, better="lower", note=note)
    record("datasets_changed", differ, "", goal=0, better="lower",
           note=f"data sets and audits that a kill changed, in {len(phases)} "
           "phases")  # fmt: skip


def _repeated(path: Path) -> int:
    done = [key for *_, event, key in _events(path) if event == "done"]
    return len(done) - len(set(done))


def _dataset(path: Path, phase: str = "") -> list[str]:
    """Run the toy to its end, after it killed itself in a phase; return what it wrote."""
    base = [sys.executable, str(TOY), str(path), "0", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if phase:
        status = subprocess.run([*base, phase], env=environment, check=False).returncode
        if status != -signal.SIGKILL:
            raise RuntimeError(f"{phase}: the toy ended with status {status}")
    subprocess.run(base, env=environment, check=True)
    return [(path / name).read_text() for name in ("dataset.json", "audit.json")]


def measure_overhead(record: Recorder, quick: bool) -> None:
    """One-second labels, two workers: what is neither labelling, exploring nor training."""
    from scalebridge.engine.learn import execution

    toy = _toy()
    size, workers = (8 if quick else 40), 2
    job = toy.loop(
        labeler=toy.Teacher(1.0),
        pool=execution.Processes(workers),
        batch=Batch(size, 0.2),
        rounds=1 if quick else 3,
        threshold=lambda evidence, target: toy.Conformal()(evidence, 1e-9),
    )
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "run"
        toy.run(path, job)
        ended = time.time()
        begun = min(float(line[0]) for line in _events(path))
        rows = [
            json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()
        ]
    ideal = sum(math.ceil(row["asked"] / workers) * 1.0 for row in rows)
    wall = ended - begun
    own = wall - ideal - sum(r["explore_seconds"] + r["train_seconds"] for r in rows)
    record(
        "overhead",
        own / wall,
        goal=0.02,
        better="lower",
        note=f"{rows[-1]['labels']:.0f} labels of one second, {workers} workers, wall "
        f"{wall:.1f} s from the first label to the end of the run",
    )


def measure(quick: bool, record: Recorder) -> None:
    """Measure everything that is asked for."""
    runtime.start("cpu")
    torch.set_num_threads(1)
    if record.wants("labels_lost", "labels_repeated", "datasets_changed"):
        measure_kills(record, 2 if quick else 20, quick)
    if record.wants("overhead"):
        measure_overhead(record, quick)
    learn_runs.measure(record)
    if record.wants("silicon_curve_mean_error", "silicon_curve_worst_error"):
        measure_silicon(record, quick)
    if record.wants("dft_labels_vs_dpgen", "dft_audit_error"):
        learn_dft.measure(record, quick)
    if record.wants("closure_curve_labels_vs_random"):
        learn_closure.measure(record, quick)


if __name__ == "__main__":
    CURVES.make_one(silicon)
