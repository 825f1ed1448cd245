"""The loop on a one-dimensional toy: what it learns, what it survives, what it refuses."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import learn_toy as toy
import pytest
import torch
import zarr

from scalebridge.engine.errors import DamagedFileError, EngineError, InputError
from scalebridge.engine.learn import execution
from scalebridge.engine.learn.indicators import TrustLevels, Verdict
from scalebridge.engine.learn.loop import within_reach
from scalebridge.engine.learn.round_plan import LabelState
from scalebridge.engine.learn.selection import LEAST_RANDOM, Arm, Batch, Uniform
from scalebridge.engine.protocols import Check, Outcome
from scalebridge.engine.run import Reporter

GRID = torch.linspace(0.05, 2.95, 300, dtype=torch.float64)


def worst_error(models) -> float:
    exact = torch.tensor([toy.truth(x) for x in GRID.tolist()], dtype=torch.float64)
    return float((toy.mean(models, GRID) - exact).abs().max())


class Keep:
    """A trainer that remembers what it made."""

    def __init__(self) -> None:
        self.models = None

    def train(self, models, dataset, rng):
        self.models = toy.Ridge().train(models, dataset, rng)
        return self.models


def test_learns_asks_where_it_is_hard_and_stops_by_itself(tmp_path):
    keep = Keep()
    outcome = toy.run(tmp_path / "run", toy.loop(trainer=keep, unit="eV"))
    assert outcome.verdicts["stopped"] == "ok"
    assert {v for k, v in outcome.verdicts.items() if k.startswith("stratum")} == {"ok"}
    assert worst_error(keep.models) < 0.2
    store = zarr.open_group(tmp_path / "run" / "data.zarr", mode="r")
    assert store.attrs["error_unit"] == "eV"
    rounds = store["rounds"]
    choice = (rounds["untrusted"][:] > 0.05) & (rounds["untrusted"][:] < 0.8)
    assert choice.any()  # where nearly all is untrusted there is no choice
    chosen, drawn = (rounds[f"error_{arm}"][choice].mean() for arm in ("chosen", "random"))
    assert chosen > 2 * drawn  # it asked where it was wrong
    assert outcome.figures["spearman"].value > 0.5
    assert outcome.figures["labels_repeated"].value == 0


def test_frames_beyond_the_reach_are_labelled_where_there_are_no_others():
    candidates = torch.tensor([True, True, False, True, True])
    reached = torch.tensor([True, False, True, False, False])
    stratum = torch.tensor([0, 0, 1, 1, 1])
    ended = torch.tensor([False, True, False, False, True])
    found = within_reach(candidates, reached, ended, stratum)
    assert found.tolist() == [True, False, False, True, True]
    found = within_reach(candidates, reached, torch.zeros(5).bool(), stratum)
    assert torch.equal(found, candidates)  # no walk ended: they are what it meets


def test_what_the_final_evaluation_refutes_is_said(tmp_path):
    audit = Check("audit", "accuracy", 0.9, 0.2, note="error in the worst stratum, right")
    outcome = toy.run(
        tmp_path / "run",
        toy.loop(target=5.0, finish=lambda *_: Outcome(checks=(audit,))),
    )
    (said,) = [check.note for check in outcome.checks if check.name == "stopped"]
    assert said.startswith("target met") and "does not confirm: error in" in said


def test_tables_hold_every_sample_seen(tmp_path):
    outcome = toy.run(tmp_path / "run", toy.loop(rounds=3))
    store = zarr.open_group(tmp_path / "run" / "data.zarr", mode="r")
    table = {name: array[:] for name, array in store["decisions"].arrays()}
    rounds = outcome.figures["rounds"].value
    assert len(table["round"]) == len(toy.START) + 300 * rounds
    chosen = table["arm"] != Arm.NONE
    assert (table["state"][chosen] == LabelState.LABELLED).all()
    assert (table["state"][~chosen] == LabelState.NOT_ASKED).all()
    assert chosen.sum() == outcome.figures["labels"].value
    explored = table["round"] > 0
    drawn = explored & (table["arm"] == Arm.RANDOM)
    picked = table["verdict"][table["arm"] == Arm.CHOSEN]
    assert (picked != Verdict.FAILED).all()  # trusted ones where the target was missed
    assert (picked == Verdict.CANDIDATE).mean() > 0.8
    each = [(drawn & (table["round"] == r)).sum() for r in range(1, int(rounds) + 1)]
    assert min(each) >= LEAST_RANDOM
    assert (table["error"][explored & chosen] >= 0).all()
    assert list(store["strata"].attrs["strata"]) == ["left", "middle", "right"]
    per_round = {name: array[:] for name, array in store["rounds"].arrays()}
    assert per_round["labels"][-1] == outcome.figures["labels"].value
    events = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in events] == list(range(int(rounds) + 1))


def test_the_map_shows_what_the_last_round_saw_chose_and_knew(tmp_path):
    outcome = toy.run(tmp_path / "run", toy.loop(rounds=2))
    store = zarr.open_group(tmp_path / "run" / "data.zarr", mode="r")
    drawn = {name: array[:] for name, array in store["feature_map"].arrays()}
    table = {name: array[:] for name, array in store["decisions"].arrays()}
    last = table["round"] == 2
    assert drawn["chosen"].sum() == (table["arm"][last] != Arm.NONE).sum()
    known = outcome.figures["labels"].value - drawn["chosen"].sum()
    assert drawn["labelled"].sum() == known
    # a map in one dimension that keeps distances: the feature of the toy is x itself
    reach = drawn["features"][:, 0].max() - drawn["features"][:, 0].min()
    assert drawn["features"].shape[1] == 1 and 2.5 < reach < 3.0


def test_strata_that_have_not_converged_are_named(tmp_path):
    outcome = toy.run(tmp_path / "run", toy.loop(rounds=1))
    assert outcome.verdicts["stopped"] != "ok"
    assert "unmeasured" in outcome.verdicts["stratum right"]


def test_the_progress_ends_where_it_said(tmp_path, monkeypatch):
    """One step for each round, and one for the start."""
    told = []
    monkeypatch.setattr(Reporter, "progress", lambda self, *news: told.append(news))
    toy.run(tmp_path / "run", toy.loop(rounds=2, target=1e-9))
    rounds = [(step, total) for step, total, *_ in told]
    assert (3, 3) in rounds and (3, 4) not in rounds


def test_same_run_from_same_seed_and_another_from_another(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        toy.run(tmp_path / name, toy.loop(rounds=2, seed=seed))
    a, b, c = (toy.final_data(tmp_path / n, toy.loop()) for n in "abc")
    assert a == b
    assert a != c


@pytest.mark.slow
def test_learning_beats_random_choice(tmp_path):
    needed = []
    for name, batch in (("chosen", Batch(30, 0.34)), ("random", Batch(30, 1.0, Uniform()))):
        total = 0
        for seed in range(2):
            total += (
                toy.run(
                    tmp_path / f"{name}{seed}",
                    toy.loop(batch=batch, seed=seed, rounds=9),
                )
                .figures["labels"]
                .value
            )
        needed.append(total)
    assert needed[0] < needed[1]


# -- failures ------------------------------------------------------------------------------


def test_failed_labels_are_quarantined_with_their_reason(tmp_path):
    teacher = toy.Teacher(refuses=2.5)
    outcome = toy.run(tmp_path / "run", toy.loop(labeler=teacher, rounds=6, tolerated=0.7))
    assert outcome.figures["quarantined"].value >= 1
    reasons = [json.loads(f.read_text()) for f in (tmp_path / "run").rglob("*.failed.json")]
    assert all(r == ["LabelError: SCF did not converge in 50 cycles"] * 3 for r in reasons)
    assert outcome.figures["labels"].value > len(toy.START)


def test_a_nan_label_is_a_failure_not_data(tmp_path):
    teacher = toy.Teacher(lies=1.4)
    with pytest.raises(EngineError, match=r"round 0: 1 of 6 labels failed 3 times.*y"):
        toy.run(tmp_path / "run", toy.loop(labeler=teacher, tolerated=0.1))


def test_worker_that_always_dies_is_quarantined_alone(tmp_path):
    teacher = toy.Teacher(kills=1.4)  # one of the six starting samples
    job = toy.loop(labeler=teacher, rounds=0, pool=execution.Processes(2))
    outcome = toy.run(tmp_path / "run", job)
    assert outcome.figures["labels"].value == 5
    (reasons,) = [
        json.loads(f.read_text()) for f in (tmp_path / "run").rglob("*.failed.json")
    ]
    assert reasons == ["WorkerDied: the worker process died while computing it"] * 3


@pytest.mark.slow
def test_plain_process_pool_is_made_anew_when_it_breaks(tmp_path):
    import multiprocessing

    made = []

    def pool():
        context = multiprocessing.get_context("spawn")
        made.append(ProcessPoolExecutor(1, mp_context=context))
        return made[-1]

    job = toy.loop(labeler=toy.Teacher(kills=2.2), rounds=0, pool=pool, attempts=2)
    outcome = toy.run(tmp_path / "run", job)
    assert len(made) > 1
    assert outcome.figures["labels"].value == 5


def test_nan_deviation_is_failed_and_never_labelled(tmp_path):
    def broken(models, points):
        d = toy.deviation(models, points)
        return torch.where(toy.xs(points) > 2, torch.nan, d)

    outcome = toy.run(tmp_path / "run", toy.loop(indicator=broken, rounds=3))
    xs = [x for x, _ in toy.final_data(tmp_path / "run", toy.loop())][len(toy.START) :]
    assert max(xs) <= 2
    assert "unreached" in outcome.verdicts["stratum right"]


def test_blind_indicator_is_caught_by_the_random_arm(tmp_path):
    """An indicator that claims certainty everywhere must not end the run as done."""

    def blind(models, points):
        return torch.full((len(points),), 1e-9, dtype=torch.float64)

    job = toy.loop(indicator=blind, threshold=TrustLevels(1e-6, 1.0), rounds=4)
    outcome = toy.run(tmp_path / "run", job)
    assert outcome.verdicts["stopped"] != "ok"
    assert "missed" in outcome.verdicts["stratum right"]


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="1 member cannot disagree"):
        toy.run(tmp_path / "one", toy.loop(committee=lambda rng: [toy.Waves(rng)]))
    with pytest.raises(ValueError, match="must lie below"):
        TrustLevels(0.3, 0.1)
    pytest.importorskip("distributed")
    with pytest.raises(
        InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"
    ):
        toy.run(tmp_path / "far", toy.loop(pool=execution.Dask("tcp://127.0.0.1:9", 0.5)))


@pytest.mark.slow
def test_labels_from_a_dask_cluster_are_the_same(tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
        protocol="tcp",
    ) as cluster:  # fmt: skip
        pool = execution.Dask(cluster.scheduler_address)
        toy.run(tmp_path / "far", toy.loop(rounds=1, pool=pool))
    toy.run(tmp_path / "near", toy.loop(rounds=1))
    near, far = (toy.final_data(tmp_path / name, toy.loop()) for name in ("near", "far"))
    assert near == far


def test_damaged_label_is_named(tmp_path):
    toy.run(tmp_path / "run", toy.loop(rounds=1))
    victim = next((tmp_path / "run" / "labels").glob("*.safetensors"))
    raw = bytearray(victim.read_bytes())
    raw[-3] ^= 1
    victim.write_bytes(raw)
    with pytest.raises(DamagedFileError, match=f"{victim.name}.*delete this file"):
        toy.final_data(tmp_path / "run", toy.loop())


# -- kill -9 -------------------------------------------------------------------------------


def events(path: Path) -> list[list[str]]:
    log = path / "labels" / "log.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split() for line in lines]


def kill_controllers(path: Path, kills: int, rng: random.Random, workers: int = 2) -> int:
    """Run the toy, killed after a random label and a random time, until it ends."""
    program = [sys.executable, toy.__file__, str(path), str(workers), "0.05"]
    killed = 0
    while True:
        process = subprocess.Popen(program, env=os.environ | {"OMP_NUM_THREADS": "1"})
        if killed < kills:
            target = len(events(path)) + rng.randrange(1, 7)
            while process.poll() is None and len(events(path)) < target:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.06))
            process.kill()
        status = process.wait()
        if status == 0:
            return killed
        assert status == -signal.SIGKILL
        killed += 1


def check_same_as_undisturbed(tmp_path: Path, kills: int) -> None:
    job = toy.loop(labeler=toy.Teacher(0.05), rounds=4)
    toy.run(tmp_path / "calm", job)
    assert toy.final_data(tmp_path / "run", job) == toy.final_data(tmp_path / "calm", job)
    done = [key for *_, event, key in events(tmp_path / "run") if event == "done"]
    assert len(done) == len(set(done))  # none computed twice
    kept = {path.stem for path in (tmp_path / "run" / "labels").glob("*.safetensors")}
    assert set(done) <= kept  # none lost
    # A kill may fall between the label's file and its line in the log.
    assert len(kept) - len(done) <= kills


@pytest.mark.slow
def test_killed_controller_loses_and_repeats_nothing(tmp_path):
    assert kill_controllers(tmp_path / "run", 2, random.Random(1)) >= 1
    check_same_as_undisturbed(tmp_path, kills=2)


@pytest.mark.slow
def test_controller_killed_at_20_random_moments(tmp_path):
    killed = 0
    for number in range(5):
        path = tmp_path / str(number)
        path.mkdir()
        killed += kill_controllers(path / "run", 4, random.Random(number))
        check_same_as_undisturbed(path, kills=4)
    assert killed >= 18


def contents(path: Path) -> dict[str, object]:
    """What a run leaves behind, but for its times and its log of labels."""
    store = zarr.open_group(str(path / "data.zarr"), mode="r")
    tables = {
        f"{group}/{name}": column[:].tobytes()
        for group, columns in store.groups()
        for name, column in columns.arrays()
        if "seconds" not in name
    }
    files = {n: (path / n).read_text() for n in ("dataset.json", "audit.json")}
    return tables | files


def killed_in(path: Path, phase: str) -> None:
    """Run the toy, which kills itself in a phase, and again until it ends."""
    base = [sys.executable, toy.__file__, str(path), "0", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.run([*base, phase], env=environment, check=False)
    assert first.returncode == -signal.SIGKILL
    subprocess.run(base, env=environment, check=True)


@pytest.mark.slow
def test_a_kill_in_any_phase_changes_nothing(tmp_path):
    """Same tables, same data set, same audit, no label twice: kill -9 in each phase."""
    toy.program(tmp_path / "calm", 0, 0.0)
    calm = contents(tmp_path / "calm")
    for number, phase in enumerate(toy.PHASES):
        path = tmp_path / str(number)
        killed_in(path, phase)
        assert contents(path) == calm, phase
        done = [key for *_, event, key in events(path) if event == "done"]
        assert len(done) == len(set(done)), phase


def kill_workers(path: Path, kills: int, rng: random.Random, stop: threading.Event) -> None:
    while kills and not stop.is_set():
        lines = events(path)
        done = {key for *_, event, key in lines if event == "done"}
        busy = [pid for _, pid, event, key in lines if event == "begin" and key not in done]
        if busy:
            time.sleep(rng.uniform(0, 0.05))
            try:
                os.kill(int(busy[-1]), signal.SIGKILL)
                kills -= 1
            except ProcessLookupError:
                pass
        time.sleep(rng.uniform(0.05, 0.3))


def disturb_workers(tmp_path: Path, kills: int) -> None:
    job = toy.loop(
        labeler=toy.Teacher(0.05), rounds=4, pool=execution.Processes(2), attempts=50
    )
    stop = threading.Event()
    args = (tmp_path / "run", kills, random.Random(2), stop)
    killer = threading.Thread(target=kill_workers, args=args)
    killer.start()
    try:
        toy.run(tmp_path / "run", job)
    finally:
        stop.set()
        killer.join()
    check_same_as_undisturbed(tmp_path, kills)


@pytest.mark.slow
def test_killed_worker_loses_and_repeats_nothing(tmp_path):
    disturb_workers(tmp_path, 2)


@pytest.mark.slow
def test_workers_killed_at_20_random_moments(tmp_path):
    disturb_workers(tmp_path, 20)


def test_defect_a_journal_that_forgets_is_noticed(tmp_path, monkeypatch):
    """Planted defect: without the look-up, a resumed run computes labels again."""
    from scalebridge.engine.learn.label_store import LabelStore

    toy.run(tmp_path / "run", toy.loop(rounds=0))
    store = LabelStore(tmp_path / "run" / "labels", "other method", toy.POINTS, toy.VALUES)
    assert not store.has(store.key(toy.START[0]))  # another method has other keys
    monkeypatch.setattr(LabelStore, "has", lambda self, key: False)
    from scalebridge.engine.learn.label_store import compute, identity

    mine = LabelStore(
        tmp_path / "run" / "labels", identity(toy.Teacher()), toy.POINTS, toy.VALUES
    )
    compute(mine, toy.Teacher(), toy.START[0])
    assert mine.repeated() == 1
    assert math.isclose(mine.get(mine.key(toy.START[0])).label, toy.truth(0.2))
