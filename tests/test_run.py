"""The advance loop and the run folder: nothing is lost, nothing is silent."""

import json
import os
import resource
import signal
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from scalebridge.engine import commands, scenario, sweeps
from scalebridge.engine.errors import (
    DamagedFileError,
    EngineError,
    GuardError,
    InputError,
    Interrupted,
)
from scalebridge.engine.manifest import verify
from scalebridge.engine.protocols import Check, Figure, Outcome, told
from scalebridge.engine.run import Reporter, Simulation, ZarrWriter, every, pack, unpack
from scalebridge.engine.rundir import RunFolder


@dataclass(frozen=True)
class Walk:
    x: torch.Tensor
    bath: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Rotation:
    """x -> R x, a toy world; explodes when told to."""

    explode_at: int = -1

    def init(self, rng):
        return Walk(torch.tensor([1.0, 0.0], dtype=torch.float64), {"n": torch.zeros(1)})

    def step(self, state):
        n = state.bath["n"] + 1
        c, s = np.cos(0.1), np.sin(0.1)
        x = torch.tensor([[c, -s], [s, c]], dtype=torch.float64) @ state.x
        if int(n) == self.explode_at:
            x = x * torch.nan
        return replace(state, x=x, bath={"n": n})

    def observe(self, state):
        return {"norm": state.x.norm(), "x": state.x}


def guard(step, state, observed):
    if not torch.isfinite(observed["norm"]):
        raise GuardError(f"norm is not finite at step {step}")


def simulation(folder, steps=100, explode_at=-1, hook=None, chunk=7):
    world = Rotation(explode_at)
    writer = ZarrWriter(folder, "walk", lambda s, o: {"x": s.x}, {"x": "m"}, chunk=chunk)

    class Hook:
        def write(self, step, time, state, observed):
            if hook is not None:
                hook(step)

    return Simulation(
        world,
        lambda: world.init(torch.Generator()),
        steps,
        0.5,
        writers=((every(5), writer), (every(1), Hook())),
        guards=(guard,),
        report_every=10,
        checkpoint_every=20,
        finish=lambda f, s, o: Outcome(
            {"norm": Figure(float(o["norm"]))}, told({"guard": "ok"})
        ),
    )


def folder_at(path):
    return RunFolder.create(
        path, "version = 1\n", {"name": "toy", "scenario": {}, "base": "."}
    )


def frames(path):
    return zarr.open_group(path / "data.zarr", mode="r")["walk/x"][:]


@pytest.fixture
def undisturbed(tmp_path):
    with folder_at(tmp_path / "whole") as folder:
        simulation(folder).run(folder, Reporter(quiet=True))
    return frames(tmp_path / "whole")


def test_pack_and_unpack_are_inverse():
    state = Walk(torch.rand(2), {"n": torch.ones(1), "m": torch.zeros(2)})
    other = Walk(torch.zeros(2), {"n": torch.zeros(1), "m": torch.zeros(2)})
    back = unpack(other, pack(state))
    assert torch.equal(back.x, state.x) and torch.equal(back.bath["n"], state.bath["n"])


def test_frames_times_and_events_are_complete(tmp_path, undisturbed):
    assert undisturbed.shape == (21, 2)
    group = zarr.open_group(tmp_path / "whole" / "data.zarr", mode="r")["walk"]
    assert group["time"][:].tolist() == [2.5 * k for k in range(21)]
    assert group["x"].attrs["unit"] == "m"
    events = (tmp_path / "whole" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in events] == list(range(10, 101, 10))


@pytest.mark.parametrize("killed_at", [3, 20, 21, 39, 40, 67, 99])
def test_a_run_broken_off_anywhere_resumes_bit_for_bit(tmp_path, undisturbed, killed_at):
    class Killed(BaseException):
        pass

    def kill(step):
        if step == killed_at:
            raise Killed

    with folder_at(tmp_path / "run") as folder, pytest.raises(Killed):
        simulation(folder, hook=kill).run(folder, Reporter(quiet=True))
    with RunFolder.open(tmp_path / "run") as folder:
        simulation(folder).run(folder, Reporter(quiet=True))
    assert np.array_equal(frames(tmp_path / "run"), undisturbed)
    events = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in events] == list(range(10, 101, 10))


def test_a_checkpoint_that_misses_part_of_the_state_is_noticed(tmp_path, undisturbed):
    """The planted defect: the same comparison fails when a resume loses the state."""
    with folder_at(tmp_path / "run") as folder:
        simulation(folder, steps=40).run(folder, Reporter(quiet=True))
    with RunFolder.open(tmp_path / "run") as folder:
        checkpoint = folder.load_checkpoint()
        checkpoint.tensors["state/x"] = torch.tensor([1.0, 0.0], dtype=torch.float64)
        folder.save_checkpoint(40, checkpoint.tensors)
        simulation(folder).run(folder, Reporter(quiet=True))
    assert not np.array_equal(frames(tmp_path / "run"), undisturbed)


def test_what_a_checkpoint_gives_back_begins_where_tensors_begin(tmp_path):
    """Products of matrices round by where in memory these begin."""
    kept = {f"t{n}": torch.ones(n, dtype=torch.float64) for n in range(1, 12)}
    with folder_at(tmp_path / "run") as folder:
        folder.save_checkpoint(1, kept)
        found = folder.load_checkpoint().tensors
    assert {tensor.data_ptr() % 64 for tensor in found.values()} == {0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_write_a_checkpoint(tmp_path, undisturbed, number):
    def interrupt(step):
        if step == 33:
            os.kill(os.getpid(), number)

    with folder_at(tmp_path / "run") as folder:
        with pytest.raises(Interrupted, match="step 33") as caught:
            simulation(folder, hook=interrupt).run(folder, Reporter(quiet=True))
        assert caught.value.status == 130
    with RunFolder.open(tmp_path / "run") as folder:
        assert folder.load_checkpoint().step == 33
        simulation(folder).run(folder, Reporter(quiet=True))
    assert np.array_equal(frames(tmp_path / "run"), undisturbed)


def test_a_guard_saves_the_last_good_and_the_refused_state(tmp_path):
    from safetensors.torch import load_file

    with folder_at(tmp_path / "run") as folder:
        with pytest.raises(GuardError, match="not finite at step 50") as caught:
            simulation(folder, explode_at=50).run(folder, Reporter(quiet=True))
        assert caught.value.status == 3
    assert torch.isfinite(load_file(tmp_path / "run/last_good.safetensors")["x"]).all()
    assert torch.isnan(load_file(tmp_path / "run/refused.safetensors")["x"]).all()


def test_one_writer_at_a_time(tmp_path):
    first = folder_at(tmp_path / "run")
    with pytest.raises(EngineError, match=f"in use by process {os.getpid()}"):
        RunFolder.open(tmp_path / "run")
    first.close()
    RunFolder.open(tmp_path / "run").close()


def test_a_used_folder_is_not_overwritten(tmp_path):
    folder_at(tmp_path / "run").close()
    with pytest.raises(InputError, match="not empty"):
        folder_at(tmp_path / "run")


def test_unwritable_places_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        folder_at(tmp_path / "file" / "run")
    with pytest.raises(InputError, match="cannot be written"):
        folder_at(Path("/proc/run"))


@pytest.mark.parametrize("sweep", [(), ("seed=1,2",)])
def test_an_unwritable_place_is_refused_before_anything_is_computed(sweep, monkeypatch):
    def computed(*_):
        raise AssertionError("assembled")

    monkeypatch.setattr(commands, "assemble", computed)
    with pytest.raises(InputError, match="cannot be written: /proc: "):
        sweeps.run("silicon_melt", [], sweep, Path("/proc/runs/1"))
    with pytest.raises(InputError, match="cannot be written: /proc: "):
        commands.run("silicon_melt", out="/proc/run")


def test_a_missing_file_is_named_with_its_key_and_the_folders_searched(tmp_path):
    text = scenario.shipped()["silicon_melt"].read_text()
    file = tmp_path / "melt.toml"
    file.write_text(text.replace("models/silicon.safetensors", "models/none.safetensors"))
    with pytest.raises(InputError) as refused:
        commands.check(file)
    said = str(refused.value)
    missing = "potential.model: models/none.safetensors: no such file"
    assert said.startswith(f"{file}: {missing}")
    assert f"searched: {tmp_path}, {tmp_path.parent}" in said
    assert "\n" not in said
    with pytest.raises(InputError, match=f"no such file in {tmp_path}$"):
        commands.check(tmp_path / "none.toml")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_is_found_and_the_one_before_stands(tmp_path, undisturbed):
    with folder_at(tmp_path / "run") as folder:
        simulation(folder, steps=60).run(folder, Reporter(quiet=True))
    *_, before, newest = sorted((tmp_path / "run/checkpoints").glob("*.safetensors"))
    _flip(newest)
    remedy = rf"one before it \({before.stem}\) is intact: engine resume --previous"
    with RunFolder.open(tmp_path / "run") as folder:
        with pytest.raises(DamagedFileError, match=remedy):
            folder.load_checkpoint()
        folder.use_previous = True
        simulation(folder).run(folder, Reporter(quiet=True))
    assert np.array_equal(frames(tmp_path / "run"), undisturbed)


def test_the_manifest_finds_every_damage(tmp_path):
    with folder_at(tmp_path / "run") as folder:
        simulation(folder, steps=20).run(folder, Reporter(quiet=True))
        folder.write_manifest()
    assert verify(tmp_path / "run") > 5
    _flip(tmp_path / "run" / "resolved.json")
    with pytest.raises(DamagedFileError, match=r"resolved\.json: damaged"):
        RunFolder.open(tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    table = json.loads(manifest.read_text())
    table["files"]["../outside"] = {"sha256": "0", "bytes": 1}
    del table["files"]["resolved.json"]
    manifest.write_text(json.dumps(table))
    with pytest.raises(DamagedFileError, match="outside the folder"):
        verify(tmp_path / "run")


def test_a_full_disk_is_said_clearly_and_loses_nothing(tmp_path, undisturbed):
    """A file-size limit makes writes fail as a full disk does."""
    with folder_at(tmp_path / "run") as folder:
        simulation(folder, steps=40).run(folder, Reporter(quiet=True))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
        try:
            with pytest.raises(EngineError, match="disk full"):
                simulation(folder).run(folder, Reporter(quiet=True))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, old)
        simulation(folder).run(folder, Reporter(quiet=True))
    assert np.array_equal(frames(tmp_path / "run"), undisturbed)


def test_progress_tells_time_left_and_physics(capsys):
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    reporter = Reporter(Console(file=out))
    reporter.progress(0, 10, {"T": "300 K"})
    reporter.progress(10, 10, {"T": "301 K"})
    assert "T 301 K" in out.getvalue() and "ETA" in out.getvalue()


def test_a_run_in_a_thread_needs_no_signals(tmp_path):
    done = []

    def work():
        with folder_at(tmp_path / "run") as folder:
            done.append(simulation(folder, steps=5).run(folder, Reporter(quiet=True)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done[0].figures["norm"].value == pytest.approx(1)


def test_tensors_that_share_memory_are_kept(tmp_path):
    with folder_at(tmp_path / "run") as folder:
        x = torch.arange(4.0)
        folder.save_checkpoint(1, {"a": x, "b": x, "c": x[::2]})
        kept = folder.load_checkpoint().tensors
    assert torch.equal(kept["a"], x) and torch.equal(kept["b"], x)
    assert kept["c"].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("change", ["more", "fewer", "longer"])
def test_other_observables_than_at_the_start_are_refused(tmp_path, change):
    """An average or a trajectory of a run cannot take in what it was not begun with."""

    class Stop(Exception):
        pass

    def stop(step):
        if step == 50:
            raise Stop

    class Changed(Rotation):
        def observe(self, state):
            seen = super().observe(state)
            if change == "more":
                return seen | {"angle": state.x.atan2(state.x.flip(0))}
            if change == "fewer":
                return {"norm": seen["norm"]}
            return seen | {"x": state.x.repeat(2)}

    def go_on(world):
        with RunFolder.open(tmp_path / "run") as folder:
            replace(simulation(folder), world=world).run(folder, Reporter(quiet=True))

    with RunFolder.create(tmp_path / "run", "", {}) as folder, pytest.raises(Stop):
        simulation(folder, hook=stop).run(folder, Reporter(quiet=True))
    with pytest.raises(InputError, match="started with other observables"):
        go_on(Changed())
    go_on(Rotation())  # nothing was lost by the refusal


@pytest.mark.parametrize("at_least", [False, True])
@pytest.mark.parametrize(
    ("value", "bound"),
    [
        (float("nan"), 1.0),
        (1.0, float("nan")),
        (float("inf"), float("inf")),
        (-float("inf"), 0.0),
    ],
)
def test_a_check_of_what_is_not_finite_fails(value, bound, at_least):
    check = Check("x", "health", value, bound, at_least=at_least)
    assert not check.passed and check.sentence != "ok"


def test_a_check_at_its_bound_passes():
    assert Check("x", "health", 1.0, 1.0).passed
    assert Check("x", "health", 1.0, 1.0, at_least=True).passed
    assert not Check("x", "health", 0.9, 1.0, at_least=True).passed


def test_one_failed_check_fails_the_outcome():
    checks = (Check("a", "health", 0.0, 1.0), Check("b", "health", 2.0, 1.0))
    assert not Outcome(checks=checks).passed
    assert Outcome(checks=checks[:1]).passed
