"""Pictures: how soon, how fast, how large; and the live page in a real browser."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from scalebridge.engine.protocols import Figure, Outcome, told
from scalebridge.engine.run import ZarrWriter
from scalebridge.engine.rundir import RunFolder

if TYPE_CHECKING:
    from scalebridge.engine.bench import Recorder

ATOMS = 10_000
SIZE = (800, 600)


def measure(quick: bool, record: "Recorder") -> None:
    """Measure all figures of the room."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        _make_run(run, 20 if quick else 500)
        note = _renderer()
        if record.wants("first_frame_seconds_10k"):
            times = [_first_frame(run, Path(place)) for _ in range(1 if quick else 3)]
            record(
                "first_frame_seconds_10k", min(times), "s", goal=3.0,
                spread=(min(times), max(times)),
                note=f"new process, engine view --png of the last frame; {note}; {_load()}",
            )  # fmt: skip
        if record.wants("frames_per_second_10k"):
            rate = _frames_per_second(run, 10 if quick else 60)
            record(
                "frames_per_second_10k", rate, "1/s", goal=5.0, better="higher",
                note=f"read, wrap, draw 800x600, fetch the pixels; {_load()}",
            )  # fmt: skip
        if record.wants("movie_seconds_500"):
            seconds = _movie(run, Path(place))
            record(
                "movie_seconds_500", seconds, "s", goal=120.0,
                note=f"{20 if quick else 500} frames of {ATOMS} atoms, mp4; {_load()}",
            )  # fmt: skip
        if record.wants("report_seconds", "report_megabytes"):
            seconds, megabytes = _report(run)
            note = f"{ATOMS} atoms, 500 frames, 500 events; new process; {_load()}"
            record("report_seconds", seconds, "s", goal=10.0, note=note)
            record("report_megabytes", megabytes, "MB", goal=10.0)
    if record.wants("browser_tests_passed"):
        passed, other = _browser_tests()
        record(
            "browser_tests_passed", passed, "tests", goal=6, better="higher",
            note=other or "loads, follows a running job, slider, colour, fields, scene",
        )  # fmt: skip


def _make_run(path: Path, frames: int) -> None:
    """Write a run of 10,000 atoms that tremble on a lattice."""
    rng, edge = np.random.default_rng(0), 2.55 * 22
    lattice = 2.55 * np.indices((22, 22, 22)).reshape(3, -1).T[:ATOMS]
    species = torch.tensor(rng.integers(0, 2, ATOMS), dtype=torch.int32)
    scenario = {"kind": "md", "title": "Ten thousand atoms", "description": "A benchmark."}
    resolved = {"name": "bench", "scenario": scenario, "command": "engine bench viz"}
    with RunFolder.create(path, "version = 1\n", resolved) as folder:
        units = {"time": "ps", "deviation": "eV/Å"}
        writer = ZarrWriter(folder, "trajectory", lambda s, seen: s, units, chunk=16)
        folder.store.require_group("trajectory").attrs["symbols"] = ["Cu", "Au"]
        for frame in range(frames):
            noise = rng.normal(0, 0.15, lattice.shape)
            state = {
                "positions": torch.tensor(lattice + noise, dtype=torch.float32),
                "cell": torch.eye(3)[None] * edge,
                "species": species,
                "deviation": torch.tensor(np.abs(noise).sum(1), dtype=torch.float32),
            }
            writer.write(frame, 0.01 * frame, state, {})
            folder.log(step=frame, time=0.01 * frame, temperature=[300 + rng.normal()])
        writer.flush()
        folder.write_summary(
            Outcome({"temperature": Figure(300.0, "K", 1.0)}, told({"drift": "ok"}))
        )


def _load() -> str:
    """Tell how busy the machine is with other work: it lengthens every time here."""
    return f"load of the machine {os.getloadavg()[0]:.1f}"


def _renderer() -> str:
    cores = len(os.sched_getaffinity(0))
    from scalebridge.viz import render

    return render.missing() or f"software rendering on {cores} cores"


def _python(code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _first_frame(run: Path, place: Path) -> float:
    arguments = ["view", str(run), "--png", str(place / "first.png")]
    return _python(f"from scalebridge.engine.cli import main; main({arguments!r})")


def _frames_per_second(run: Path, frames: int) -> float:
    from scalebridge.viz.record import Record
    from scalebridge.viz.renderers import renderer_of

    renderer = renderer_of(Record(run))
    renderer.image(0, "deviation", SIZE)
    begun = time.perf_counter()
    for frame in range(frames):
        renderer.image(frame % renderer.refresh(), "deviation", SIZE)
    return frames / (time.perf_counter() - begun)


def _movie(run: Path, place: Path) -> float:
    from scalebridge.viz.view import Request, view

    begun = time.perf_counter()
    view(Request(run, colour="deviation", size=SIZE), movie=place / "run.mp4")
    return time.perf_counter() - begun


def _report(run: Path) -> tuple[float, float]:
    seconds = _python(
        f"from scalebridge.viz.report import write_report; write_report({str(run)!r})"
    )
    return seconds, (run / "report.html").stat().st_size / 1e6


def _browser_tests() -> tuple[int, str]:
    """Return how many tests of the live page pass, and what became of the others."""
    tests = Path(__file__).resolve().parent.parent / "tests" / "test_viz_live.py"
    command = [sys.executable, "-m", "pytest", "-q", "-rs", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
    counts = {
        kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped)", last)
    }
    with contextlib.suppress(KeyError):
        if counts.get("failed", 0) == 0 and counts.get("skipped", 0) == 0:
            return counts["passed"], ""
    return counts.get("passed", 0), last
