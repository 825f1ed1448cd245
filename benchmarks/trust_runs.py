"""Runs that survive: every kind of job is broken off and must end as if it had not been.

A child process counts what it does to its run folder (files opened for writing, renamed,
removed, folders made) and breaks off before the N-th of these: killed, asked to stop once
or twice, the disk full from then on, or the folder taken away. The state on disk changes
only there, so random N meet every moment that matters; further kills come at random times.
A run is killed, goes on, and is killed again, up to five times; then it goes on to its end,
and its arrays, events, figures and files are compared bit for bit with those of an
undisturbed run. Only durations may differ.

Run: python benchmarks/trust_runs.py [KIND...] [--kills 25]
"""

import argparse
import datetime
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import zarr
from safetensors.numpy import load_file

from scalebridge import engine
from scalebridge.engine.cli import main
from scalebridge.engine.errors import EngineError

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

KEPT = ROOT / "benchmarks" / "results" / "kills" / "rows.json"
"""What is known of each kind."""

FAULTS = ("kill", "term", "twice", "full", "gone")
KILLS, IN_A_ROW, TIMED, OTHERS = 25, 5, 5, 1
"""Kills of every kind, how many of them one run suffers, how many come at random times, and
how often each other fault is done."""
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "vmc": ("vmc_hooke", ()),
    "vmc, lattice": ("vmc_heisenberg", ()),
    "labelling": ("label_water_clusters", ()),
    "ritz": ("deep_ritz", ()),
    "md at constant pressure": (
        "silicon_npt", ("run.checkpoint_every=5", "run.report_every=2"),
    ),
    "gas, kinetic": ("couette", ()),
    "gas, Boltzmann": ("relaxation_bkw", ()),
    "gas, moments": ("sound_wave", ()),
    "gas, fluid": ("kelvin_helmholtz", ()),
    "training, potential": ("water_clusters_train", ("steps=12",)),
    "training, closure": ("closure_train", ()),
    "learning, atoms": ("elt_silicon", ()),
    "learning, closure": ("elt_closure", ()),
    "inverse, distribution": ("learn_lj_from_rdf", ("rounds=2",)),
    "md": (
        "water_nvt",
        ("output.extxyz=true", "run.checkpoint_every=6", "run.report_every=2"),
    ),
    "gas, steady": ("shock_mach5p5", ()),
    "vmc, curve": ("vmc_h2_curve", ()),
    "training, by reading": ("closure_shock_train", ()),
    "comparison": ("closure_mix", ()),
    "comparison, plane": ("closure_2d", ("model.refine=2",)),
    "inverse, viscosity": ("learn_viscosity", ()),
    "elastic": ("silicon_elastic", ()),
    "gradients": ("shock_sensitivity", ()),
    "gradients, in the loop": ("closure_in_the_loop", ()),
    "study, moments": ("closure_moments", ()),
    "study, symmetry": ("symmetry", ()),
    "coupled": ("argon_coupled_shock", ()),
    "gas, particles": ("dsmc_mixture_shock", ()),
    "gas, particles, solids": ("dsmc_cylinder", ()),
}  # fmt: skip
"""Kind -> shipped scenario and what is set besides the short form of the norms."""


# -- the child ----------------------------------------------------------------------------


@dataclass
class Breaker:
    """Counts what is done to the run folder, and breaks off before the N-th time.

    Attributes:
        folder: the run folder.
        fault: one of ``FAULTS``, or ``count``.
        at: N.
        count: what was done so far.
    """

    folder: str
    fault: str
    at: int
    count: int = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take part in :func:`sys.addaudithook`."""
        if not _writes(event, arguments) or not self._mine(arguments):
            return
        self.count += 1
        if self.count < self.at or self.fault == "count":
            return
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fault == "full":
            if event != "os.remove":
                raise OSError(28, "No space left on device")
        elif self.fault == "twice" and self.count < self.at + 2:
            os.kill(os.getpid(), signal.SIGINT)
        elif self.count == self.at:
            if self.fault == "term":
                os.kill(os.getpid(), signal.SIGTERM)
            elif self.fault == "gone":
                shutil.move(self.folder, f"{self.folder}.gone")

    def _mine(self, arguments: tuple[Any, ...]) -> bool:
        return any(str(each).startswith(self.folder) for each in arguments[:2])


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2] if len(arguments) > 2 else 0
        return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))
    return event in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir")


def child(fault: str, at: int, folder: str, arguments: Sequence[str]) -> None:
    """Run the command line in this process with a :class:`Breaker`, and end it."""
    breaker = Breaker(folder, fault, at)
    sys.addaudithook(breaker)
    status = 99
    try:
        status = int(main(list(arguments), standalone_mode=False) or 0)
    except SystemExit as left:
        status = int(left.code or 0)
    except click.exceptions.Exit as left:
        status = left.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        if fault == "count":
            Path(f"{folder}.count").write_text(str(breaker.count))
        sys.stderr.flush()
        os._exit(status)


@dataclass
class Child:
    """A process that runs the command line: a copy of this one, which never computes.

    Attributes:
        pid: of the process.
        said: file with what it wrote to the terminal.
    """

    pid: int
    said: Path

    @staticmethod
    def start(fault: str, at: int, folder: Path, arguments: Sequence[str]) -> "Child":
        """Copy this process; the copy has all modules, and no kernel has run in it."""
        said = Path(f"{folder}.said")
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            with open(said, "wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)
            child(fault, at, str(folder), arguments)
        return Child(pid, said)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit status and what it said."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), self.said.read_text(errors="replace")


# -- what a run leaves --------------------------------------------------------------------


def _durable(name: str) -> bool:
    return not any(word in name for word in ("wall", "seconds", "cpu_s"))


def leavings(run: Path) -> dict[str, Any]:
    """Return everything that a run leaves, but durations, by name."""
    found: dict[str, Any] = {}
    if (run / "data.zarr").is_dir():
        members = zarr.open_group(run / "data.zarr", mode="r").members(max_depth=None)
        arrays = ((name, item) for name, item in members if isinstance(item, zarr.Array))
        found |= {f"data.zarr/{n}": a[...] for n, a in arrays if _durable(n)}
    if (run / "events.jsonl").exists():
        rows = [json.loads(row) for row in (run / "events.jsonl").read_text().splitlines()]
        found["events"] = [{k: v for k, v in row.items() if _durable(k)} for row in rows]
    summary = json.loads((run / "summary.json").read_text())
    for kind in ("figures", "checks"):
        found[kind] = _plain(summary[kind])
    for file in sorted(run.glob("*.safetensors")):
        found |= {f"{file.name}/{n}": v for n, v in load_file(file).items()}
    for file in sorted(run.glob("*.extxyz")):
        found[file.name] = file.read_text()
    return found


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: _plain(v) for k, v in content.items() if _durable(k)}
    return [_plain(v) for v in content] if isinstance(content, list) else content


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs."""
    return [name for name in {**a, **b} if not _equal(a.get(name), b.get(name))]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        same = a.shape == b.shape and a.dtype == b.dtype
        return same and a.tobytes() == b.tobytes()
    return not isinstance(a, np.ndarray) and repr(a) == repr(b)


# -- the parent ---------------------------------------------------------------------------


@dataclass
class Found:
    """What became of one kind of job.

    Attributes:
        tried: how often it was broken off, by fault.
        lost: what was wrong afterwards.
        date: when.
    """

    tried: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    date: str = ""

    def add(self, fault: str, times: int, wrong: Sequence[str]) -> None:
        """Count faults done to one run, and what was wrong at its end."""
        self.tried[fault] = self.tried.get(fault, 0) + max(times, len(wrong[:1]))
        self.lost += wrong[:1]


def preload() -> None:
    """Import the whole engine once, rather than in every child."""
    for module in pkgutil.walk_packages(engine.__path__, "scalebridge.engine."):
        with suppress(ImportError):  # of packages that are not installed here
            importlib.import_module(module.name)


@dataclass
class Harness:
    """Breaks off one kind of job.

    Attributes:
        kind: a key of ``KINDS``.
        place: folder for the runs.
        seed: of the random moments.
    """

    kind: str
    place: Path
    seed: int = 1

    def __post_init__(self) -> None:
        from norms import SHORT

        preload()
        scenario, more = KINDS[self.kind]
        # a key may be given once: what is set here stands for what the norms set
        settings = {
            each.partition("=")[0]: each for each in (*SHORT[scenario].settings, *more)
        }
        self.command = [
            scenario,
            *(w for each in settings.values() for w in ("--set", each)),
        ]
        self.random, self.number = random.Random(f"{self.seed} {self.kind}"), 0
        self.status = 0
        start = time.monotonic()
        whole = self.place / "whole"
        self.run("count", 0, whole, "run", *self.command, "--out", str(whole))
        self.seconds = time.monotonic() - start
        self.actions = int(Path(f"{whole}.count").read_text())
        self.reference = leavings(whole)

    def start(self, fault: str, at: int, folder: Path, *arguments: str) -> Child:
        """Start a child that neither shows progress nor writes a report."""
        quietly = ("--quiet", "--no-report", "--no-strict")
        return Child.start(fault, at, folder, (*arguments, *quietly))

    def run(self, fault: str, at: int, folder: Path, *arguments: str) -> str:
        """Run a child to its end; return what it said.

        Raises:
            AssertionError: a traceback, or an exit status that says nothing.
        """
        self.status, said = self.start(fault, at, folder, *arguments).end()
        allowed = {
            "kill": (0, -9), "count": (0,), "term": (0, 130), "twice": (0, 130),
            "full": (0, 1, 2), "gone": (0, 1, 2),
        }[fault]  # fmt: skip
        if self.status not in allowed or "Traceback" in said:
            raise AssertionError(f"{fault} at {at}: {self.status}: {said[-1500:]}")
        return said

    def killed_in_a_row(self, times: int) -> tuple[int, list[str]]:
        """Kill one run again and again, then let it end; return how often, what differs."""
        self.number += 1
        run, kills = self.place / f"run{self.number}", 0
        command = ("run", *self.command, "--out", str(run))
        at = self.random.randint(1, self.actions)
        how = f"kills before actions {at}"
        try:
            self.run("kill", at, run, *command)
            while self.status == -9 and (kills := kills + 1) < times:
                at = self.random.randint(1, max(2, self.actions // times))
                how += f", {at}"
                self.run("kill", at, run, *command, "--resume")
            return kills, self.resumed(run, f"{how} of {self.actions}")
        except AssertionError as error:
            return kills, [f"{how}: {error}"]
        finally:
            shutil.rmtree(run, ignore_errors=True)

    def broken(self, fault: str) -> list[str]:
        """Break off one run, resume it, and return what differs."""
        self.number += 1
        run = self.place / f"run{self.number}"
        at = self.random.randint(1, self.actions)
        try:
            self.run(fault, at, run, "run", *self.command, "--out", str(run))
            if fault == "gone":
                return []
            return self.resumed(run, f"{fault} before action {at} of {self.actions}")
        except AssertionError as error:
            return [str(error)]
        finally:
            for left in self.place.glob(f"run{self.number}*"):
                shutil.rmtree(left, ignore_errors=True)

    def killed_at_a_time(self) -> list[str]:
        """Kill one run at a random moment, start-up included."""
        self.number += 1
        run = self.place / f"run{self.number}"
        process = self.start("count", 0, run, "run", *self.command, "--out", str(run))
        moment = self.random.uniform(0.3, 1.0) * self.seconds
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.end()
        try:
            return self.resumed(run, f"kill after {moment:.1f} s")
        except AssertionError as error:
            return [str(error)]
        finally:
            shutil.rmtree(run, ignore_errors=True)

    def resumed(self, run: Path, how: str) -> list[str]:
        """Resume as a user does, with the line of the start, and compare."""
        again = ("run", *self.command, "--out", str(run), "--resume")
        self.run("count", 0, run, *again)
        return [f"{how}: {name}" for name in differences(self.reference, leavings(run))]


def break_off(harness: Harness, found: Found, kills: int, others: int) -> None:
    """Break off one kind of job many times.

    Args:
        harness: of the kind.
        found: what became of it so far; added to.
        kills: how often it is killed; a fifth of them at random times.
        others: how often each of the other faults is done.
    """
    for _ in range(min(TIMED, kills // 5)):
        found.add("kill", 1, harness.killed_at_a_time())
    for _ in range(kills):
        left = kills - found.tried.get("kill", 0)
        if left > 0:
            found.add("kill", *harness.killed_in_a_row(min(left, IN_A_ROW)))
    for fault in FAULTS[1:]:
        for _ in range(others):
            found.add(fault, 1, harness.broken(fault))


def available() -> Iterator[str]:
    """Yield the kinds whose scenario has here what it needs."""
    from norms import missing

    yield from (kind for kind, (name, _) in KINDS.items() if not missing(name))


def measure(quick: bool, record: Any) -> None:
    """Record ``kinds_killed``, ``faults_lost`` and what the fuzzer of commands finds."""
    if record.wants("kinds_killed", "faults_lost"):
        _kinds(quick, record)
    _commands(quick, record)


def _kinds(quick: bool, record: Any) -> None:
    """Go round the kinds, those first that were never tried, and record after each.

    What was found of the others is kept in :data:`KEPT`, so that all of them can be tried
    in several goes. A kind whose undisturbed run fails is lost as well.
    """
    rows = json.loads(KEPT.read_text()) if KEPT.exists() and not quick else {}
    done = {kind: Found(**row) for kind, row in rows.items() if kind in KINDS}
    for kind in sorted(available(), key=lambda kind: kind in done)[:: 9 if quick else 1]:
        found = done[kind] = Found(date=datetime.date.today().isoformat())
        with tempfile.TemporaryDirectory() as place:
            try:
                harness = Harness(kind, Path(place))
                break_off(harness, found, 2 if quick else KILLS, int(not quick) * OTHERS)
            except (AssertionError, EngineError) as error:
                found.lost.append(str(error))
        if not quick:
            KEPT.parent.mkdir(exist_ok=True)
            text = json.dumps({kind: vars(row) for kind, row in done.items()}, indent=1)
            KEPT.write_text(text + "\n")
        _tell(done, record)


def _tell(done: Mapping[str, Found], record: Any) -> None:
    lost = [f"{kind}: {each}" for kind, found in done.items() for each in found.lost]
    kills = [found.tried.get("kill", 0) for found in done.values() if not found.lost]
    often = sum(number >= KILLS for number in kills)
    dates = sorted(found.date for found in done.values())
    note = f"with {KILLS} kills each; {len(kills)} kinds lost nothing in {sum(kills)} kills"
    note += f", from {dates[0]} to {dates[-1]}: {', '.join(done)}"
    record("kinds_killed", often, goal=len(KINDS), better="higher", note=note)
    tried = sum(sum(found.tried.values()) for found in done.values())
    note = f"of {tried} runs broken off; {'; '.join(lost)[:800] or 'all ended alike'}"
    record("faults_lost", len(lost), goal=0, note=note)


def _commands(quick: bool, record: Any) -> None:
    """Record the figures of the fuzzer; it computes here, so it comes last."""
    sys.path.append(str(ROOT / "benchmarks"))
    import fuzz_commands

    fuzz_commands.measure(quick, record)


def program() -> int:
    """Break off the kinds that are named, or all, and tell what was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--others", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    lost = 0
    for kind in chosen.kinds or available():
        found = Found()
        with tempfile.TemporaryDirectory() as place:
            harness = Harness(kind, Path(place), chosen.seed)
            break_off(harness, found, chosen.kills, chosen.others)
        print(kind, found.tried, "lost", len(found.lost), flush=True)
        for each in found.lost:
            print("    ", each, flush=True)
        lost += len(found.lost)
    return bool(lost)


if __name__ == "__main__":
    sys.exit(program())
