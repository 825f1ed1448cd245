"""The fault table: what a run loses when the machine misbehaves (nothing).

Every fault is done to a real run of the command line; then the run is resumed as the
message says, and its trajectory compared bit for bit with an undisturbed one. Writes
``results/faults.json``, which `engine bench` puts into the page of results as a table.

Run: python benchmarks/faults.py [--quick]
"""

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zarr

from scalebridge.engine.bench import Recorder

RUN = (
    "silicon_sw",
    "--set", "structure.repeat=[2,2,2]",
    "--set", "run.steps=600",
    "--set", "run.report_every=20",
    "--set", "output.rdf=[]",
    "--set", "output.average_from=100",
    "--set", "output.trajectory_every=20",
    "--set", "run.checkpoint_every=50",
)  # fmt: skip
"""A thermostatted run: noise, thermostat and neighbour lists must all come back."""


QUIETLY = ("--quiet", "--no-report")


@dataclass
class Fault:
    """One row of the table.

    Attributes:
        fault: what was done.
        tried: how often.
        answered: what the program said, once.
        lost: resumed trajectories that were not the undisturbed one.
    """

    fault: str
    tried: int = 0
    answered: str = ""
    lost: int = 0


class Bench:
    """Runs of one scenario below one folder."""

    def __init__(self, place: Path, seed: int = 1) -> None:
        self.place, self.number = place, 0
        self.random = random.Random(seed)
        begun = time.monotonic()
        whole = self.fresh()
        self.finish(self.start("run", *RUN, "--out", str(whole)))
        self.seconds = time.monotonic() - begun
        self.reference = trajectory(whole)

    def fresh(self) -> Path:
        """Return the path of a run to come."""
        self.number += 1
        return self.place / f"run{self.number}"

    def start(self, *arguments: str, limit: int | None = None) -> subprocess.Popen[bytes]:
        """Start the command line; files may not grow beyond ``limit`` bytes."""

        def limited() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            [sys.executable, "-m", "scalebridge.engine.cli", *arguments, *QUIETLY],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=limited if limit is not None else None,
        )

    def finish(self, process: subprocess.Popen[bytes], status: int = 0) -> str:
        """Wait; return what was said, and insist on the exit status."""
        _, said = process.communicate()
        if process.returncode != status:
            raise RuntimeError(f"status {process.returncode}: {said.decode()}")
        return said.decode().strip()

    def resume(self, run: Path, *more: str) -> bool:
        """Resume (or begin again, where nothing was begun); tell if nothing was lost."""
        if (run / "resolved.json").exists():
            self.finish(self.start("resume", str(run), *more))
        else:
            shutil.rmtree(run, ignore_errors=True)
            self.finish(self.start("run", *RUN, "--out", str(run)))
        found = trajectory(run)
        return found.keys() == self.reference.keys() and all(
            np.array_equal(found[name], self.reference[name], equal_nan=True)
            for name in found
        )

    def moment(self) -> float:
        """A random time within a run, start-up included."""
        return self.random.uniform(0.05, 0.97) * self.seconds

    def checkpoint_of(self, run: Path, process: subprocess.Popen[bytes]) -> Path:
        """Wait for the third checkpoint, kill the run and return the newest."""
        while process.poll() is None:
            records = sorted((run / "checkpoints").glob("step-*.json"))
            if records and int(records[-1].stem[5:]) >= 150:
                break
            time.sleep(0.02)
        process.kill()
        process.wait()
        return sorted((run / "checkpoints").glob("step-*.json"))[-1]


def trajectory(run: Path) -> dict[str, np.ndarray]:
    """Return every array of a run's store by its path."""
    group = zarr.open_group(run / "data.zarr", mode="r")
    members = group.members(max_depth=None)
    return {name: item[:] for name, item in members if isinstance(item, zarr.Array)}


def kill(bench: Bench) -> tuple[str, bool]:
    """Kill -9 at a random moment, then again during the resumed run."""
    run = bench.fresh()
    process = bench.start("run", *RUN, "--out", str(run))
    time.sleep(bench.moment())
    process.kill()
    process.wait()
    if (run / "resolved.json").exists():
        process = bench.start("resume", str(run))
        time.sleep(bench.moment() / 2)
        process.kill()
        process.wait()
    return "", bench.resume(run)


def stop(number: signal.Signals) -> Callable[[Bench], tuple[str, bool]]:
    """Ask the run to end by a signal at a random moment of its stepping."""

    def fault(bench: Bench) -> tuple[str, bool]:
        run = bench.fresh()
        process = bench.start("run", *RUN, "--out", str(run))
        while not (run / "events.jsonl").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(bench.random.uniform(0.0, 0.3))
        process.send_signal(number)
        _, said = process.communicate()
        if process.returncode not in (0, 130):
            raise RuntimeError(f"status {process.returncode}: {said.decode()}")
        return said.decode().strip(), bench.resume(run)

    return fault


def full_disk(bench: Bench) -> tuple[str, bool]:
    """Let writes fail from a random size on, as a full disk does; then make room."""
    run = bench.fresh()
    limit = bench.random.choice((2_000, 6_000, 12_000, 20_000))
    process = bench.start("run", *RUN, "--out", str(run), limit=limit)
    _, said = process.communicate()
    if process.returncode == 0:
        raise RuntimeError(f"a limit of {limit} bytes was not felt")
    if process.returncode not in (1, 2) or b"Traceback" in said:
        raise RuntimeError(f"status {process.returncode}: {said.decode()}")
    return said.decode().strip(), bench.resume(run)


def flipped_bit(bench: Bench) -> tuple[str, bool]:
    """Flip one bit of the newest checkpoint; the one before it must stand."""
    run = bench.fresh()
    newest = bench.checkpoint_of(run, bench.start("run", *RUN, "--out", str(run)))
    file = bench.random.choice((newest, newest.with_suffix(".safetensors")))
    data = bytearray(file.read_bytes())
    data[bench.random.randrange(len(data))] ^= 1 << bench.random.randrange(8)
    file.write_bytes(data)
    said = bench.finish(bench.start("resume", str(run)), 1)
    return said, bench.resume(run, "--previous")


def second_writer(bench: Bench) -> tuple[str, bool]:
    """Resume a run that is still running: refused, and the first one is not disturbed."""
    run = bench.fresh()
    process = bench.start("run", *RUN, "--out", str(run))
    while not (run / "events.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)  # it must not be done before the other has tried
    try:
        if process.poll() is not None:
            raise RuntimeError("the first writer was done before it could be held")
        said = bench.finish(bench.start("resume", str(run)), 1)
    finally:
        process.send_signal(signal.SIGCONT)
    bench.finish(process)
    return said, bench.resume(run)


def unwritable(bench: Bench) -> tuple[str, bool]:
    """Run into a place that is no folder: refused before anything is computed."""
    blocked = bench.fresh()
    blocked.write_text("a file")
    said = bench.finish(bench.start("run", *RUN, "--out", str(blocked / "run")), 2)
    return said, blocked.read_text() == "a file"


FAULTS: tuple[tuple[str, Callable[[Bench], tuple[str, bool]], int], ...] = (
    ("kill -9 at a random moment, twice in one trajectory", kill, 8),
    ("SIGTERM", stop(signal.SIGTERM), 4),
    ("Ctrl-C", stop(signal.SIGINT), 4),
    ("disk full at a random size", full_disk, 5),
    ("one bit flipped in the newest checkpoint", flipped_bit, 6),
    ("a second writer in the same folder", second_writer, 2),
    ("a place that cannot be written", unwritable, 2),
)


def table(quick: bool = False, seed: int = 1) -> list[Fault]:
    """Do every fault and return the table; it is on disk after every row."""
    rows: list[Fault] = []
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), seed)
        for name, fault, times in FAULTS:
            row = Fault(name)
            for _ in range(1 if quick else times):
                said, kept = fault(bench)
                row.tried += 1
                row.lost += not kept
                row.answered = row.answered or said.replace(place, "").strip()
            rows.append(row)
            if not quick:
                write(rows, Path(__file__).resolve().parent / "results")
    return rows


def write(rows: list[Fault], folder: Path) -> None:
    """Write the table as figures and as text."""
    path = folder / "faults.json"
    path.unlink(missing_ok=True)
    record = Recorder("faults")
    for row in rows:
        note = f"{row.tried} times tried; {row.answered or 'no last words'}"
        record(row.fault, row.lost, "lost", goal=0, note=note)
    content = json.loads(path.read_text()) | {"rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    found = table("--quick" in sys.argv)
    for row in found:
        print(f"{row.fault}: {row.tried} tried, {row.lost} lost; {row.answered}")
    sys.exit(any(row.lost for row in found))
