"""Fuzzing of whole commands: damaged input, and input that is well-formed but wrong.

Every command is called in this process as the command line calls it. A finding is a
traceback, an exit status that is none of the documented ones, an error without a sentence,
an answer that takes more than 20 seconds, more than 4 GB of memory, or *silence*: exit
status 0 for an entry of :data:`WRONG`.

Run: python benchmarks/fuzz_commands.py [MINUTES]
"""

import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz
from click.testing import CliRunner

from scalebridge.engine.cli import main

STATUSES = (0, 1, 2, 3, 4, 130)
SLOWEST = 20.0
LARGEST = 4 << 30

WRONG = (
    ("silicon_sw", "run.steps=true"),
    ("silicon_sw", "run.steps='20'"),
    ("silicon_sw", "run.steps=20.5"),
    ("silicon_sw", "run.timestep=-1"),
    ("silicon_sw", "run.timestep=1e6"),
    ("silicon_sw", "seed=1000000000000000000000000000000"),
    ("silicon_sw", "seed=-1"),
    ("silicon_sw", "structure.lattice_constant=65537"),
    ("silicon_sw", "structure.lattice_constant=0.01"),
    ("silicon_sw", "structure.mass=-28"),
    ("silicon_sw", "structure.element='Xx'"),
    ("silicon_sw", "structure.repeat=[1000,1000,1000]"),
    ("silicon_sw", "structure.repeat=true"),
    ("silicon_sw", "ensemble.temperature=-300"),
    ("silicon_sw", "ensemble.temperature=1e12"),
    ("silicon_sw", "ensemble.relaxation=0"),
    ("silicon_sw", "ensemble.relaxation=nan"),
    ("silicon_sw", "output.forces='yes'"),
    ("silicon_sw", "output.forces=1"),
    ("silicon_sw", "no.such.key=1"),
    ("silicon_sw", "replicas=100000"),
    ("argon_nve", "potential.epsilon=[-0.1]"),
    ("argon_nve", "potential.cutoff=1.0"),
    ("sod", "gas.prandtl=1e300"),
    ("sod", "gas.prandtl=true"),
    ("sod", "knudsen=[-1.0]"),
    ("sod", "knudsen=['1']"),
    ("sod", "knudsen=[]"),
    ("sod", "initial.left.velocity=[9e18]"),
    ("sod", "initial.left.velocity=[1.0,2.0,3.0,4.0]"),
    ("sod", "initial.left.density=0"),
    ("sod", "grid.cells=[32.5]"),
    ("sod", "grid.cells=[4096,4096,4096]"),
    ("sod", "time.end=0"),
    ("sod", "time.frames=0"),
    ("sod", "device='tpu'"),
    ("sod", "precision='f16'"),
    ("couette", "boundaries.x.low.accommodation=2.0"),
    ("deep_ritz", "points=1000000000"),
    ("vmc_hooke", "sampling.walkers=-1"),
)
"""Scenario and setting that no run can be right with."""


def answer(words: list[str]) -> tuple[int, str, str]:
    """Call the command line; return status, output, and what is wrong with the answer."""
    start = fuzz.clock()
    found = CliRunner().invoke(main, words)
    seconds, said = fuzz.clock() - start, found.output.strip()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    wrong = ""
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        wrong = f"{type(found.exception).__name__}: {found.exception}"
    elif found.exit_code not in STATUSES:
        wrong = f"exit status {found.exit_code}"
    elif found.exit_code and not said:
        wrong = f"status {found.exit_code} without a sentence"
    elif seconds > SLOWEST:
        wrong = f"took {seconds:.0f} s"
    elif memory > LARGEST:
        wrong = f"took {memory / 2**30:.1f} GiB"
    return found.exit_code, said, wrong


def silences() -> list[str]:
    """Return the entries of :data:`WRONG` that are accepted, or answered wrongly."""
    found = []
    for scenario, setting in WRONG:
        status, _, wrong = answer(["check", scenario, "--set", setting])
        if status == 0 or wrong:
            found.append(f"{scenario} {setting}: {wrong or 'accepted'}")
    return found


class Seeds:
    """Intact inputs of every command, below one folder."""

    def __init__(self, place: Path) -> None:
        import ase.io
        from ase.build import bulk, molecule

        self.place = place
        self.run = place / "run"
        small = ["--set", "run.steps=4", "--set", "structure.repeat=1", "--no-report"]
        status, said, _ = answer(
            ["run", "silicon_sw", *small, "--quiet", "--out", str(self.run)]
        )
        assert status in (0, 4), said
        self.structures = place / "a.extxyz"
        ase.io.write(self.structures, [bulk("Cu"), molecule("H2O")])
        self.foreign = fuzz._foreign(place)[0]
        self.model = fuzz._model(place)[0]
        self.scenario = place / "silicon.toml"
        root = Path(__file__).resolve().parents[1]
        shutil.copy(root / "scenarios/silicon_sw.toml", self.scenario)

    def cases(self, work: Path) -> Iterator[tuple[Path, Callable[[Path], list[str]]]]:
        """Yield a file to damage, and the command that reads the damaged copy."""
        run, out = work / "run", str(work / "out")
        yield self.scenario, lambda file: ["check", str(file)]
        yield (
            self.scenario,
            lambda file: [
                "run", str(file), "--set", "run.steps=2", "--set", "structure.repeat=1",
                "--quiet", "--no-report", "--out", out,
            ],
        )  # fmt: skip
        inner = [p for p in sorted(self.run.rglob("*")) if p.is_file()]
        for file in inner:
            yield file, lambda _: ["report", str(run)]
            yield file, lambda _: ["view", str(run), "--extxyz", f"{out}.extxyz"]
            yield file, lambda _: ["resume", str(run), "--quiet", "--no-report"]
        yield (
            self.structures,
            lambda file: ["label", str(file), "--labeler", "emt", "--out", out],
        )
        yield self.structures, lambda file: ["data", str(file)]
        yield self.foreign, lambda file: ["import", str(file), "--out", out]
        yield self.model, lambda file: ["audit", str(file), "--out", out, "--quiet"]


def fuzz_commands(minutes: float, seed: int = 1) -> tuple[int, dict[str, str]]:
    """Call commands on damaged input until the time is over.

    Returns:
        How many were called, and finding -> example.
    """
    number, found, tried = random.Random(seed), {}, 0
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as place:
        seeds = Seeds(Path(place))
        while time.monotonic() < end:
            work = Path(tempfile.mkdtemp(dir=place))
            cases = list(seeds.cases(work))
            file, command = number.choice(cases)
            shutil.copytree(seeds.run, work / "run")
            inside = file.is_relative_to(seeds.run)
            base = seeds.run.parent if inside else file.parent
            copy = work / file.relative_to(base)
            operations = [
                (
                    number.choice(("flip", "put", "cut", "double", "number")),
                    number.random(),
                    number.randrange(256),
                )
                for _ in range(number.randint(1, 4))
            ]
            copy.write_bytes(fuzz.mutate(file.read_bytes(), operations))
            words = command(copy)
            _, _, wrong = answer(words)
            tried += 1
            if wrong:
                found.setdefault(f"{words[0]} {file.name}: {wrong}"[:200], str(operations))
            shutil.rmtree(work, ignore_errors=True)
    return tried, found


def measure(quick: bool, record: Any) -> None:
    """Record ``silent_acceptances``, ``fuzz_commands_minutes`` and ``fuzz_findings``."""
    if record.wants("silent_acceptances"):
        accepted = silences()
        note = "; ".join(accepted) or f"of {len(WRONG)} wrong but well-formed settings"
        record("silent_acceptances", len(accepted), goal=0, note=note)
    if record.wants("fuzz_commands_minutes", "fuzz_findings"):
        minutes = 0.2 if quick else 30.0
        tried, found = fuzz_commands(minutes)
        record("fuzz_commands_minutes", minutes, "min", goal=30, better="higher")
        note = f"of {tried} commands; {'; '.join(found)[:800] or 'none'}"
        record("fuzz_findings", len(found), goal=0, note=note)


def program() -> int:
    """Fuzz and tell what was found."""
    accepted = silences()
    tried, found = fuzz_commands(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
    print(json.dumps({"tried": tried, "accepted": accepted, "found": found}, indent=1))
    return bool(accepted or found)


if __name__ == "__main__":
    sys.exit(program())
