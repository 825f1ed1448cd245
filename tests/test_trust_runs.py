"""Runs that survive: what is damaged, changed or broken off is noticed or made good."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from click.testing import CliRunner
from safetensors.torch import load_file

from scalebridge.engine import commands
from scalebridge.engine.analysis import analyse
from scalebridge.engine.cli import main
from scalebridge.engine.convergence import last_fields
from scalebridge.engine.errors import (
    DamagedFileError,
    EngineError,
    GuardError,
    InputError,
    Interrupted,
)
from scalebridge.engine.learn.label_store import Codec, LabelStore
from scalebridge.engine.run import ZarrWriter
from scalebridge.engine.rundir import RunFolder, new_path
from scalebridge.engine.schema.base import locate
from scalebridge.engine.sweeps import table
from scalebridge.viz.export import write as export
from scalebridge.viz.record import Record
from scalebridge.viz.report import Report, write_report
from scalebridge.viz.view import Request, view

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import trust_runs

SILICON = """
version = 1
kind = "md"
[structure]
kind = "crystal"
element = "Si"
lattice = "diamond"
lattice_constant = 5.431
repeat = 2
[potential]
kind = "stillinger_weber"
[ensemble]
kind = "bussi"
temperature = 300.0
relaxation = 20.0
[run]
steps = 40
settle = 10
timestep = 1.0
report_every = 10
checkpoint_every = 10
[output]
trajectory_every = 2
thermo_every = 1
"""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "silicon.toml"
    path.write_text(SILICON)
    return path


@pytest.fixture(scope="module")
def finished(scenario, tmp_path_factory):
    """A finished run; copy it before changing anything."""
    out = tmp_path_factory.mktemp("finished") / "run"
    commands.run(scenario, out=out)
    return out


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def again(run, scenario, *settings):
    words = [word for each in settings for word in ("--set", each)]
    return call(
        "run",
        scenario,
        *words,
        "--out",
        run,
        "--resume",
        "--quiet",
        "--no-report",
        "--no-strict",
    )


# -- what may change ----------------------------------------------------------------------


def test_more_steps_go_on_from_the_end(run, scenario, tmp_path):
    assert again(run, scenario, "run.steps=60").exit_code == 0
    commands.run(scenario, ["run.steps=60"], tmp_path / "whole")
    whole, found = (trust_runs.leavings(p) for p in (tmp_path / "whole", run))
    assert trust_runs.differences(whole, found) == []
    assert RunFolder.open(run).resolved["scenario"]["run"]["steps"] == 60


def test_fewer_steps_than_are_done_are_refused_and_nothing_changes(run):
    before = (run / "resolved.json").read_bytes(), (run / "summary.json").read_bytes()
    answer = call("resume", run, "--set", "run.steps=20")
    assert answer.exit_code == 2 and "newest checkpoint is of step 40" in answer.output
    after = (run / "resolved.json").read_bytes(), (run / "summary.json").read_bytes()
    assert after == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("ensemble.temperature=900",), "ensemble.temperature: the run has 300.0"),
        (("no.such.key=1",), "no: unknown key"),
        (("seed=2",), "seed: the run has 1"),
        (('device="cuda"',), "device: the run has 'cpu'"),
    ],
)
def test_other_keys_are_refused_by_name(run, scenario, settings, said):
    answer = again(run, scenario, *settings)
    assert answer.exit_code == 2 and said in answer.output
    assert len(answer.output.strip().splitlines()) == 1


def test_another_scenario_is_refused(run):
    answer = again(run, "sod")
    assert answer.exit_code == 2 and "kind: the run has 'md'" in answer.output


def test_another_structure_file_is_refused(scenario, tmp_path):
    import ase.io
    from ase.build import bulk

    ase.io.write(tmp_path / "si.extxyz", bulk("Si", cubic=True).repeat(2))
    file = tmp_path / "own.toml"
    text = SILICON.replace('kind = "crystal"', 'kind = "file"\npath = "si.extxyz"')
    for key in ("element", "lattice", "lattice_constant", "repeat"):
        text = "\n".join(row for row in text.splitlines() if not row.startswith(key + " "))
    file.write_text(text)
    commands.run(file, out=tmp_path / "run")
    ase.io.write(tmp_path / "si.extxyz", bulk("Si", cubic=True, a=5.44).repeat(2))
    with pytest.raises(InputError, match=r"si\.extxyz: is not the file that the run began"):
        commands.resume(tmp_path / "run")


def test_other_versions_and_threads_are_named(run, monkeypatch, capsys):
    monkeypatch.setattr(commands, "versions", lambda: {"torch": "0.1"})
    monkeypatch.setattr(commands, "_threads", lambda: 77)
    commands.resume(run, quiet=False)
    said = capsys.readouterr().err.replace("\n", " ")
    assert "goes on with 0.1" in said and "goes on with 77" in said


# -- damage -------------------------------------------------------------------------------


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _swap(path):
    other = next(
        p for p in sorted(path.parent.parent.parent.rglob("*")) if p.is_file() and p != path
    )
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


DAMAGES = {"delete": Path.unlink, "flip": _flip, "truncate": _cut, "swap": _swap}


def long_run(scenario, place):
    """A run whose arrays have full chunks and one that is not full."""
    commands.run(scenario, ["run.steps=150", "run.checkpoint_every=50"], place)
    return place


@pytest.fixture(scope="module")
def chunked(scenario, tmp_path_factory):
    return long_run(scenario, tmp_path_factory.mktemp("long") / "run")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    [
        "data.zarr/trajectory/positions/c/0/0/0",
        "data.zarr/thermo/temperature/c/0/0",
        "data.zarr/thermo/temperature/zarr.json",
        "data.zarr/thermo/temperature/c/2/0",
        "checkpoints/step-000000000150.json",
        "checkpoints/step-000000000150.safetensors",
        "events.jsonl",
        "resolved.json",
        "scenario.toml",
        "data.zarr/zarr.json",
    ],
)
def test_damage_is_noticed_or_made_good(chunked, tmp_path, name, damage):
    run = Path(shutil.copytree(chunked, tmp_path / "run"))
    DAMAGES[damage](run / name)
    try:
        commands.resume(run)
    except (DamagedFileError, InputError) as error:
        assert len(str(error).splitlines()) == 1 and "run" in str(error)
        return
    whole, found = (trust_runs.leavings(p) for p in (chunked, run))
    assert trust_runs.differences(whole, found) == []


def test_a_flipped_bit_in_a_full_chunk_is_never_taken(chunked, tmp_path):
    """The planted defect: without the snapshot the resumed run would hold other numbers."""
    run = Path(shutil.copytree(chunked, tmp_path / "run"))
    file = run / "data.zarr/thermo/temperature/c/0/0"
    _flip(file)
    with pytest.raises(DamagedFileError, match=r"thermo/temperature/c/0/0: damaged"):
        commands.resume(run)


def _more(path):
    """Put a chunk beyond the last, as if it were of the run."""
    shutil.copy(path, path.with_name(f"{path.name}9"))


def _report(run, place):
    write_report(run)


def _picture(run, place):
    view(Request(run), png=place / "a.png")


def _export(run, place):
    export(run, extxyz=place / "a.extxyz")


def _curve(run, place):
    analyse(run, "rdf", ["r_max=4.0"], place)


READERS = {
    "report": _report, "view": _picture, "export": _export, "analyse": _curve,
    "fields": lambda run, place: last_fields(run, (1,)),
    "python": lambda run, place: Report(run),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_takes_a_damaged_finished_run(chunked, tmp_path, reader):
    """A lost chunk reads as fill values, so every reader compares with the manifest."""
    name = "data.zarr/trajectory/positions/c/0/0/0"
    for number, damage in enumerate((*DAMAGES.values(), _more)):
        run = Path(shutil.copytree(chunked, tmp_path / str(number)))
        damage(run / name)
        with pytest.raises(DamagedFileError):
            READERS[reader](run, tmp_path)
        assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    "content",
    [
        "[]", "{", '{"files": "x"}', '{"files": {"data.zarr/zarr.json": null}}',
        "[" * 90_000,
        '{"files": {"data.zarr/../../x": {"sha256": "0"}}}', "NaN",
        '{"files": {"data.zarr/a\\u0000b": {"sha256": "0"}}}',
    ],
)  # fmt: skip
def test_a_manifest_that_no_run_wrote_is_one_line(run, content):
    (run / "manifest.json").write_text(content)
    answer = call("report", run)
    assert answer.exit_code == 1 and len(answer.output.splitlines()) == 1
    assert "manifest.json" in answer.output


@pytest.mark.parametrize(
    "content", ["[]", '{"figures": {"a": 1}}', '{"figures": {"a": {}}}']
)
def test_a_summary_that_no_run_wrote_is_not_compared(run, content):
    (run / "manifest.json").unlink()
    (run / "summary.json").write_text(content)
    answer = call("compare", run, run)
    assert answer.exit_code == 1 and "not what a run wrote" in answer.output


@pytest.mark.parametrize("kind", ["png", "movie", "html", "extxyz", "vtkhdf", "chemiscope"])
def test_pictures_go_into_a_folder_that_is_there(run, kind):
    for target in (run / "none" / "a", run):
        answer = call("view", run, f"--{kind}", target)
        assert answer.exit_code == 2 and "folder" in answer.output
        assert "no run wrote" not in answer.output


@pytest.mark.parametrize("damage", [Path.unlink, _flip, _cut])
def test_damaged_results_are_neither_drawn_nor_compared(run, damage):
    damage(run / "summary.json")
    for read in (write_report, lambda run: table([run, run])):
        with pytest.raises(DamagedFileError, match="summary"):
            read(run)


@pytest.mark.parametrize("reader", ["export", "analyse"])
def test_a_whole_run_is_read_wherever_it_ended(chunked, tmp_path, reader):
    run = Path(shutil.copytree(chunked, tmp_path / "run"))
    READERS[reader](run, tmp_path)
    (run / "manifest.json").unlink()  # killed: full chunks are known to its checkpoint
    READERS[reader](run, tmp_path)
    _flip(run / "data.zarr/trajectory/positions/c/0/0/0")
    with pytest.raises(DamagedFileError, match=r"positions/c/0/0/0: damaged"):
        READERS[reader](run, tmp_path)


def test_labels_of_a_run_that_were_cut_are_not_trained_on(run, tmp_path):
    """Whole frames may be missing at the end: the file alone does not show it."""
    text = "1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1\nSi 0 0 0 0 0 0\n"
    (run / "train.extxyz").write_text(text * 3)
    with RunFolder.open(run) as folder:
        folder.write_manifest()
    assert locate(Path("run/train.extxyz"), tmp_path)
    (run / "train.extxyz").write_text(text * 2)
    with pytest.raises(DamagedFileError, match=r"train\.extxyz: damaged"):
        locate(Path("run/train.extxyz"), tmp_path)


def test_a_refused_resume_vouches_for_no_damage(chunked, tmp_path):
    """The manifest of a finished run stays as it is where resuming finds damage."""
    run = Path(shutil.copytree(chunked, tmp_path / "run"))
    kept = (run / "manifest.json").read_bytes(), (run / "summary.json").read_bytes()
    (run / "data.zarr/trajectory/positions/c/0/0/0").unlink()
    with pytest.raises(DamagedFileError):
        commands.resume(run)
    now = (run / "manifest.json").read_bytes(), (run / "summary.json").read_bytes()
    assert now == kept
    with pytest.raises(DamagedFileError):
        write_report(run)


def test_a_run_that_goes_on_is_not_held_to_its_old_manifest(chunked, tmp_path, monkeypatch):
    run = Path(shutil.copytree(chunked, tmp_path / "run"))
    seen = []

    def look(writer, *arguments):
        seen.append(len(Record(run).group("thermo").columns["step"].values))
        return write(writer, *arguments)

    write = ZarrWriter.write
    monkeypatch.setattr(ZarrWriter, "write", look)
    commands.resume(run, ["run.steps=160"])
    assert len(seen) > 5 and min(seen) >= 150
    assert Record(run).group("thermo").frames == 161


def test_a_lost_chunk_of_frames_is_no_number(chunked, tmp_path):
    """Programs that compare nothing read NaN, not zeros."""
    run = Path(shutil.copytree(chunked, tmp_path / "run"))
    (run / "data.zarr/trajectory/positions/c/0/0/0").unlink()
    positions = zarr.open_group(run / "data.zarr", mode="r")["trajectory/positions"]
    assert np.isnan(positions[0]).all()


def test_nuls_at_the_end_of_the_log_of_labels(tmp_path):
    codec = Codec(dict, dict)
    store = LabelStore(tmp_path, "method", codec, codec)
    store.note("begin", "a")
    store.note("done", "a")
    with open(tmp_path / "log.txt", "ab") as file:
        file.write(bytes(100) + b"\n12")
    store.note("begin", "a")
    assert store.repeated() == 1


# -- broken off ---------------------------------------------------------------------------


def test_killed_before_the_folder_counts(scenario, tmp_path):
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "scenario.toml").write_text("half")
    (out / ".resolved.json.part").write_text("{")
    answer = call("resume", out)
    assert answer.exit_code == 2 and f"engine run SCENARIO --out {out}" in answer.output
    assert again(out, scenario).exit_code == 0


def test_sigterm_outside_of_the_loop_is_named(scenario, tmp_path, monkeypatch):
    from scalebridge.engine.jobs import md

    def terminated(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with monkeypatch.context() as patch:
        patch.setattr(md.MdJob, "_lattice_constant", terminated)
        with pytest.raises(Interrupted, match="engine resume"):
            commands.run(scenario, out=tmp_path / "run")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["exit_status"] == 130
    assert commands.resume(tmp_path / "run").figures


def test_a_guard_inside_a_step_keeps_both_states(scenario, tmp_path, monkeypatch):
    from scalebridge.engine.md.world import MolecularDynamics

    step = MolecularDynamics.step

    def refusing(self, state):
        after = step(self, state)
        if int(after.step.max()) == 17:
            raise GuardError("refused at step 17", 17, after)
        return after

    monkeypatch.setattr(MolecularDynamics, "step", refusing)
    with pytest.raises(GuardError, match="saved last_good") as caught:
        commands.run(scenario, out=tmp_path / "run")
    assert caught.value.status == 3
    good, bad = (
        load_file(tmp_path / f"run/{name}.safetensors") for name in ("last_good", "refused")
    )
    assert int(good["step"].max()) == 16 and int(bad["step"].max()) == 17


def test_a_refused_run_leaves_no_folder(scenario, tmp_path, monkeypatch):
    from scalebridge.engine.jobs import md

    def refuse(*_):
        raise InputError("no")

    monkeypatch.setattr(md.MdJob, "run", refuse)
    with pytest.raises(InputError):
        commands.run(scenario, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folders_of_one_second_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    made = [new_path("a") for _ in range(3)]
    assert [p.name for p in made] == ["a-now", "a-now-2", "a-now-3"]


def test_a_full_disk_is_one_line(scenario, tmp_path, monkeypatch):
    import ase.io

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ase.io, "write", full)
    with pytest.raises(EngineError, match="disk full"):
        commands.run(scenario, ["output.extxyz=true"], tmp_path / "run")


# -- links --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["lock", ".report.html.part", "data.zarr/link", "checkpoints/a", "events.jsonl"]
)
def test_nothing_is_written_through_a_link(run, tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside)
    for command in (("resume", run), ("report", run), ("resume", run, "--previous")):
        answer = call(*command)
        assert answer.exit_code == 2 and "is a link" in answer.output
    assert outside.read_text() == "mine"


def test_a_checkpoint_that_names_a_file_outside(run, tmp_path):
    from scalebridge.engine.snapshot import Snapshots

    outside = tmp_path / "outside"
    with pytest.raises(InputError, match="outside of it"):
        Snapshots(run).restore({}, {"../outside": torch.zeros(3, dtype=torch.uint8)})
    assert not outside.exists()


def test_pipes_are_refused_not_waited_for(run):
    os.mkfifo(run / "pipe")
    assert "neither a file nor a folder" in call("report", run).output


# -- the harness --------------------------------------------------------------------------


def broken_off(kind, kills, others):
    """Run the harness in a process in which no kernel has run yet."""
    command = (trust_runs.__file__, kind, "--kills", str(kills), "--others", str(others))
    answer = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False
    )
    return answer.returncode, answer.stdout


def test_a_run_killed_at_any_action_ends_alike():
    status, said = broken_off("vmc", 1, 0)
    assert status == 0 and "{'kill': 1} lost 0" in said, said


@pytest.mark.slow
@pytest.mark.parametrize("kind", trust_runs.KINDS)
def test_every_kind_of_run_survives(kind):
    if kind not in trust_runs.available():
        pytest.skip("its data is not here")
    status, said = broken_off(kind, 25, 3)
    assert status == 0, said


def test_the_harness_sees_a_planted_loss(finished, tmp_path):
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    store = zarr.open_group(copy / "data.zarr", mode="a")
    values = store["thermo/temperature"][:]
    values[3] = np.nextafter(values[3], np.inf)
    store["thermo/temperature"][:] = values
    whole, other = (trust_runs.leavings(p) for p in (finished, copy))
    assert trust_runs.differences(whole, other) == ["data.zarr/thermo/temperature"]
