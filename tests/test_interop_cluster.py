"""Executors: what `engine run --executor` stands for, and labels on a real cluster."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from scalebridge.engine import scenario
from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
from scalebridge.engine.interop.cluster import execution
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
from slurm_node import NoSlurm, one_node

from examples import example


@pytest.mark.parametrize(
    ("executor", "kind"),
    [("processes", "processes"), ("dask=tcp://127.0.0.1:9", "dask"), ("slurm", "slurm")],
)
def test_executors_are_settings_of_the_scenario(executor, kind):
    with execution(executor, 3) as settings:
        checked, _ = scenario.load("elt_h4", settings)
    assert checked.execution.kind == kind
    assert getattr(checked.execution, "workers", 3) == 3


def test_no_executor_changes_nothing():
    with execution(None, 3) as settings:
        assert settings == []


@pytest.mark.parametrize("executor", ["mpi", "slurm=here", "processes=2", ""])
def test_unknown_executors_are_bad_input(executor):
    allowed = "allowed are processes, dask"
    with pytest.raises(InputError, match=allowed), execution(executor, 2):
        pass


def test_a_scenario_without_tasks_says_so(tmp_path):
    out = str(tmp_path / "run")
    arguments = ["run", "silicon_sw", "--executor", "processes", "--out", out]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "execution: unknown key" in result.output


def test_the_job_script_of_the_slurm_example():
    pytest.importorskip("dask_jobqueue", reason="extra `cluster`")
    script = example("slurm_labels").script(walltime="00:30:00")
    assert "#SBATCH -t 00:30:00" in script and "distributed.cli.dask_worker" in script


@pytest.mark.slow
def test_no_label_is_lost_when_a_dask_worker_is_killed():
    pytest.importorskip("distributed", reason="extra `cluster`")
    from dask_labels import labels_lost

    assert labels_lost(12) == (12, 0)


@pytest.fixture(scope="module")
def slurm():
    """A Slurm of one node, started for these tests alone."""
    pytest.importorskip("dask_jobqueue", reason="extra `cluster`")
    try:
        with one_node() as environment, pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield
    except NoSlurm as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
def test_labels_as_slurm_jobs(slurm, tmp_path, monkeypatch):
    """Every label comes from a job that Slurm ran, not from this process."""
    import learn_toy as toy

    from scalebridge.engine.learn import execution as pools
    from scalebridge.engine.learn.label_store import LabelStore, identity

    monkeypatch.chdir(tmp_path)  # the jobs' logs
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # for learn_toy
    teacher, points = toy.Teacher(0.01), [toy.Point(0.1 * k) for k in range(4)]
    store = LabelStore(tmp_path, identity(teacher), toy.POINTS, toy.VALUES)
    with pools.opened(pools.Slurm(1, "00:10:00", "1GB")) as line:
        place = line.submit(os.getenv, "SLURM_JOB_ID").result(120)
        pools.label_all(line, store, teacher, points)
    assert place is not None
    assert all(store.has(store.key(point)) for point in points)


TINY = [
    "rounds=1", "initial=1", "audit.frames=2", "training.steps=2", "model.channels=4",
    "model.axis=2", "model.products=2", "model.fitting=[8]", "explorer.steps=40",
    "batch.size=4", "start=[{name='bulk',temperatures=[300],structure={kind='crystal',"
    "element='Cu',lattice='fcc',lattice_constant=3.615}}]",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_whose_job_is_cancelled_loses_nothing(slurm, tmp_path, monkeypatch):
    """A whole run on Slurm; its first job is cancelled, another takes its place."""
    monkeypatch.chdir(tmp_path)
    settings = [
        *TINY,
        "execution={kind='slurm',workers=1,memory='2GB',retry=2.0,walltime='00:20:00',"
        "options={job_name='labels',log_directory='logs'}}",
    ]
    checked, base = scenario.load("elt_copper", settings)
    stop, cancelled = threading.Event(), []
    args = (tmp_path / "far" / "labels" / "log.txt", stop, cancelled)
    killer = threading.Thread(target=cancel_first_job, args=args)
    killer.start()
    try:
        far = figures(checked, base, tmp_path / "far")
    finally:
        stop.set()
        killer.join()
    assert cancelled  # the job was running when it was cancelled
    near = figures(*scenario.load("elt_copper", TINY), tmp_path / "near")
    assert far == near and far["labels_repeated"] == 0
    sets = [(tmp_path / n / "dataset.extxyz").read_bytes() for n in ("far", "near")]
    assert sets[0] == sets[1]
    assert list((tmp_path / "logs").iterdir())  # the option reached the jobs


def figures(checked, base: Path, out: Path) -> dict[str, float]:
    with RunFolder.create(out, "", {}) as folder:
        outcome = assemble(checked, base).run(folder, Reporter(quiet=True))
    return {name: figure.value for name, figure in outcome.figures.items()}


def cancel_first_job(log: Path, stop: threading.Event, cancelled: list[str]) -> None:
    """Cancel the job that has written the first label, once."""
    while not stop.is_set() and not cancelled:
        if log.exists() and " done " in log.read_text():
            listed = ["squeue", "-h", "-n", "labels", "-t", "RUNNING", "-o", "%i"]
            found = subprocess.run(listed, capture_output=True, text=True, check=True)
            for job in found.stdout.split():
                subprocess.run(["scancel", job], check=True)
                cancelled.append(job)
        time.sleep(0.1)
