"""Benchmarks: each measures and writes ``benchmarks/results/NAME.json``.

Nothing is typed in. A benchmark is ``benchmarks/NAME.py`` with ``measure(quick,
record)``. What one call does not measure keeps its last figure, so a long table can be
filled piece by piece.
"""

import datetime
import importlib.util
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from .errors import InputError
from .rundir import versions, write_text


def folder() -> Path:
    """Return the ``benchmarks`` folder of the checkout.

    Raises:
        InputError: the package was installed without it.
    """
    path = Path(__file__).resolve().parent.parent / "benchmarks"
    if not path.is_dir():
        raise InputError("engine bench needs a checkout: the folder benchmarks is missing")
    return path


def names() -> list[str]:
    """Return the names of the benchmarks."""
    modules = [path for path in folder().glob("*.py") if "def measure(" in path.read_text()]
    return sorted(path.stem for path in modules)


def machine() -> str:
    """Describe the processor, as far as the system tells."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def _commit() -> str:
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=folder(),
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or "unknown"


def circumstances() -> dict[str, Any]:
    """Return where, with what and when a figure is measured."""
    return {
        "machine": machine(),
        "threads": int(
            os.environ.get("SCALEBRIDGE_THREADS") or len(os.sched_getaffinity(0))
        ),
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
    }


@dataclass(frozen=True)
class Recorder:
    """Takes the figures of one benchmark and keeps its file up to date.

    Attributes:
        name: the benchmark; the file is ``results/NAME.json``.
        only: measure and keep only these figures; all when empty.
    """

    name: str
    only: Sequence[str] = ()

    @property
    def path(self) -> Path:
        """The result file."""
        return folder() / "results" / f"{self.name}.json"

    def wants(self, *figures: str) -> bool:
        """Tell whether any of ``figures`` is asked for; if not, leave the work out."""
        return not self.only or any(figure in self.only for figure in figures)

    def __call__(
        self,
        figure: str,
        value: float,
        unit: str = "",
        *,
        goal: float | None = None,
        better: Literal["higher", "lower"] = "lower",
        spread: tuple[float, float] | None = None,
        peer: Mapping[str, Any] | None = None,
        note: str | None = None,
    ) -> None:
        """Record one measured figure at once, so that a later failure loses nothing."""
        if not self.wants(figure):
            return
        entry: dict[str, Any] = {"value": float(value), "unit": unit}
        if goal is not None:
            met = value >= goal if better == "higher" else value <= goal
            entry |= {"goal": goal, "better": better, "met": bool(met)}
        optional = {"spread": list(spread) if spread else None, "peer": peer, "note": note}
        entry |= {key: item for key, item in optional.items() if item is not None}
        entry |= circumstances()
        table = json.loads(self.path.read_text()) if self.path.exists() else {"figures": {}}
        table["figures"][figure] = entry
        self.path.parent.mkdir(exist_ok=True)
        write_text(self.path, json.dumps(table, indent=1) + "\n")
        line = {"benchmark": self.name, "figure": figure, **_short(entry)}
        with self._history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def _history(self) -> Path:
        """One line for each figure that was ever recorded."""
        return self.path.parent / "history.jsonl"

    def before(self, figure: str) -> float | None:
        """Return the last value of a figure on this machine with as many threads."""
        if not self._history.exists():
            return None
        here, found = circumstances(), None
        for text in self._history.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            same = all(line[key] == here[key] for key in ("machine", "threads"))
            if same and (line["benchmark"], line["figure"]) == (self.name, figure):
                found = float(line["value"])
        return found


def _short(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the history keeps of a figure."""
    return {key: entry[key] for key in ("value", "machine", "threads", "date", "commit")}


def load(name: str) -> ModuleType:
    """Import ``benchmarks/NAME.py``.

    Raises:
        InputError: there is none of that name.
    """
    if name not in names():
        raise InputError(f"bench: {name} is unknown; allowed: {', '.join(names())}")
    spec = importlib.util.spec_from_file_location(f"bench_{name}", folder() / f"{name}.py")
    if spec is None or spec.loader is None:
        raise InputError(f"bench: {name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(name: str, quick: bool, only: Sequence[str] = ()) -> Path:
    """Run a benchmark, then rewrite ``RESULTS.md``; return the result file."""
    recorder = Recorder(name, tuple(only))
    load(name).measure(quick, recorder)
    write_text(folder() / "RESULTS.md", results_page())
    return recorder.path


def results_page() -> str:
    """Return all result files as one page of tables."""
    lines = ["# Results", "", "Written by `engine bench`; every figure was measured."]
    for path in sorted((folder() / "results").glob("*.json")):
        figures = json.loads(path.read_text())["figures"]
        places = list(dict.fromkeys(_place(entry) for entry in figures.values()))
        lines += [
            "",
            f"## {path.stem}",
            "",
            *(f"{number}. {place}" for number, place in enumerate(places, 1)),
            "",
            "| figure | value | unit | goal | met | peer | note | where | date | commit |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            _row(figure, entry, places.index(_place(entry)) + 1)
            for figure, entry in figures.items()
        ]
    return "\n".join(lines) + "\n"


def _place(entry: Mapping[str, Any]) -> str:
    """Say on what machine, with how many threads and which packages a figure was found."""
    packages = ("python", "torch", "taichi", "numpy")
    found = ", ".join(f"{n} {entry['versions'][n]}" for n in packages)
    threads = f"{entry['threads']} thread{'' if entry['threads'] == 1 else 's'}"
    return f"{entry['machine']}; {threads}; {found}"


def _row(figure: str, entry: Mapping[str, Any], place: int) -> str:
    goal, met = "", ""
    if "goal" in entry:
        goal = f"{'>=' if entry['better'] == 'higher' else '<='} {entry['goal']:g}"
        met = "yes" if entry["met"] else "no"
    peer = entry.get("peer") or {}
    shown = " ".join(str(peer[k]) for k in ("name", "version", "value") if k in peer)
    spread = entry.get("spread")
    value = f"{entry['value']:.4g}"
    value += f" ({spread[0]:.4g} to {spread[1]:.4g})" if spread else ""
    cells = (figure, value, entry["unit"], goal, met, shown, entry.get("note", ""))
    where = (place, entry["date"], entry["commit"])
    said = (str(cell).replace("|", "\\|") for cell in (*cells, *where))
    return f"| {' | '.join(said)} |"
