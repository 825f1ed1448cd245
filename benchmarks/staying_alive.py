"""Kill -9 at random moments, resume, compare: used by `foundation` and the slow tests."""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

# A short thermostatted run with frequent checkpoints: noise, thermostat and neighbour
# lists all have to come back exactly.
_RUN = (
    "silicon_sw",
    "--set",
    "run.steps=1200",
    "--set",
    "run.checkpoint_every=100",
    "--set",
    "run.report_every=50",
    "--set",
    "output.trajectory_every=20",
)


def _engine(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "scalebridge.engine.cli",
            *arguments,
            "--quiet",
            "--no-report",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(error.decode())


def trajectory(run: Path) -> dict[str, np.ndarray]:
    """Return every array of a run's store by its path."""
    group = zarr.open_group(run / "data.zarr", mode="r")
    found = {}
    for name, item in group.members(max_depth=None):
        if isinstance(item, zarr.Array):
            found[name] = item[:]
    return found


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Tell whether two stores hold the same arrays bit for bit."""
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name], equal_nan=True) for name in first
    )


def kill_and_resume(times: int, seed: int = 1) -> int:
    """Kill a run ``times`` times at random moments; return how often it came back wrong.

    Half of the kills hit a resumed run, so that several kills fall into one trajectory.
    """
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        begun = time.monotonic()
        _finish(_engine("run", *_RUN, "--out", str(whole)))
        duration = time.monotonic() - begun
        reference = trajectory(whole)
        failures, killed, number = 0, 0, 0
        while killed < times:
            number += 1
            run = Path(place) / f"run{number}"
            process = _engine("run", *_RUN, "--out", str(run))
            for _ in range(2):
                if killed < times and _kill_after(
                    process, duration * moments.uniform(0.1, 0.9)
                ):
                    killed += 1
                if (run / "resolved.json").exists():
                    process = _engine("resume", str(run))
                else:
                    process = _engine("run", *_RUN, "--out", str(run))
            _finish(process)
            failures += not same(reference, trajectory(run))
    return failures


def _kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill after ``seconds``; False if the run was done before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False
