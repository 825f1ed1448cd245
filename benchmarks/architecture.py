"""The architecture in numbers: sizes, circles, additions, norms, tests, speed.

Every figure is one function that counts or measures it and returns a :class:`Found`, or
None where what it needs is not here.
"""

import ast
import functools
import importlib.util
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalebridge.engine.schema import SCENARIOS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("scalebridge", "engine", "models", "viz", "studies")
BEFORE = "546750b"
"""The last commit of the first edition: what speed is compared with."""


@dataclass(frozen=True)
class Found:
    """What was counted or measured.

    Attributes:
        value: the figure.
        note: how it came about.
        spread: smallest and largest of several measurements.
    """

    value: float
    note: str = ""
    spread: tuple[float, float] | None = None


# -- sizes ------------------------------------------------------------------------------


def lines_of(*folders: str) -> int:
    """Return the lines of all Python files below some folders of the checkout."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sum(len(path.read_bytes().splitlines()) for path in paths)


def jobs_lines(quick: bool) -> Found:
    """Lines of the package that assembles scenarios."""
    return Found(lines_of("engine/jobs"))


def engine_studies_lines(quick: bool) -> Found:
    """Lines of the engine and of the studies that left it."""
    return Found(lines_of("engine", "studies"), "goal: the engine of the first edition")


def scenario_kinds(quick: bool) -> Found:
    """Kinds of scenario that come with the engine."""
    return Found(len(SCENARIOS.shipped), ", ".join(sorted(SCENARIOS.shipped)))


def longest_function(quick: bool) -> Found:
    """Lines of the longest function."""
    lines, place = _load(ROOT / "benchmarks/source_counts.py").longest_function()
    return Found(lines, place)


def unused_definitions(quick: bool) -> Found:
    """Definitions at the top of a module that nothing refers to."""
    found = _load(ROOT / "benchmarks/source_counts.py").unused_definitions()
    return Found(len(found), ", ".join(each.name for each in found))


# -- circles ----------------------------------------------------------------------------


def circles_now(quick: bool) -> Found:
    """Circles of imports in all packages."""
    found = import_circles()
    return Found(len(found), "; ".join(", ".join(circle) for circle in found))


def import_circles(root: Path = ROOT) -> list[list[str]]:
    """Return the groups of modules that import each other, also from inside functions.

    Imports below ``if TYPE_CHECKING`` do not count: they never run.
    """
    files = {
        _module(path.relative_to(root)): path
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
    }
    return _circles({name: _imports(name, path, files) for name, path in files.items()})


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, files: Mapping[str, Path]) -> set[str]:
    """Return which modules of ours a module imports when it, or a function of it, runs."""
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    found: set[str] = set()
    for node in _running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("scalebridge.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*stem, *([node.module] if node.module else [])])
            base = base.removeprefix("scalebridge.")
            whole = {f"{base}.{alias.name}" for alias in node.names}
            found |= {each if each in files else base for each in whole}
    return {each for each in found if each in files and each != name}


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below ``node`` but those that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _running(other)
        else:
            yield child
            yield from _running(child)


def _circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected groups of more than one node (Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        waiting.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in waiting:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            group = waiting[waiting.index(node) :]
            del waiting[waiting.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in number:
            visit(node)
    return sorted(found)


# -- additions and norms ----------------------------------------------------------------


def files_per_addition(quick: bool) -> Found | None:
    """Files that a part from outside needs, its test apart: none here and one there."""
    tests = sorted(str(path) for path in (ROOT / "tests").glob("test_parts_*.py"))
    if not tests or _pytest(*tests, "-q").returncode:
        return None
    return Found(1, f"{len(tests)} files of tests that add parts from outside pass")


def norms_changed(quick: bool) -> Found:
    """Largest relative change of a norm of a deterministic scenario."""
    return _norms(quick, trained=False)


def norms_changed_trained(quick: bool) -> Found:
    """The same, of scenarios that train, learn or sample."""
    return _norms(quick, trained=True)


def _norms(quick: bool, trained: bool, only: Sequence[str] | None = None) -> Found:
    norms = _load(ROOT / "tests/norms.py")
    names = [
        name
        for name, short in norms.SHORT.items()
        if (short.tolerance == norms.TRAINED) == trained
        and (only is None or name in only)
        and not norms.missing(name)
        and not (quick and short.slow)
    ]
    names = names[:3] if quick else names
    answer = subprocess.run(
        [sys.executable, str(ROOT / "tests/norms.py"), "compare", *names],
        env=os.environ | {"SCALEBRIDGE_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = re.findall(r"^(\S+) +(\S+) of \S+ \w+ ", answer.stdout, re.M)
    changes = {name: float(change) for name, change in rows}
    lost = re.search(r"^ +missing:", answer.stdout, re.M) or len(changes) < len(names)
    worst = max(changes, key=lambda name: changes[name], default="none")
    note = f"{len(changes)} of {len(names)} scenarios compared; largest in {worst}"
    note += "; some norms are missing" if lost else ""
    return Found(math.inf if lost else changes[worst], note)


MOMENTS = (
    *("equations/hermite.py", "equations/line.py", "equations/grad13.py"),
    *("equations/recurrence.py", "scheme/finite_volume.py"),
)
"""What replaced hermite, upwind, hyperbolic, grad13 and realizable, of 2,112 lines."""


def moment_lines(quick: bool) -> Found:
    """Lines of the moment equations and of the scheme that advances them."""
    paths = [ROOT / "engine/gas" / name for name in MOMENTS]
    lines = [len(path.read_bytes().splitlines()) for path in paths]
    pairs = zip(paths, lines, strict=True)
    return Found(sum(lines), ", ".join(f"{path.stem} {count}" for path, count in pairs))


def gas_norms_changed(quick: bool) -> Found:
    """Largest relative change of a norm of flows and of deterministic closure runs."""
    return _norms(quick, trained=False, only=_flows() + CLOSURE_RUNS)


CLOSURE_RUNS = ["closure_wave", "closure_mix", "closure_transition", "closure_2d"]


def _flows() -> list[str]:
    """Return the shipped scenarios of kind gas."""
    found = sorted((ROOT / "scenarios").glob("*.toml"))
    return [path.stem for path in found if '\nkind = "gas"' in path.read_text("utf-8")]


def files_per_addition_gas(quick: bool) -> Found | None:
    """Files that a boundary, a closure or a set of equations from outside needs."""
    if _pytest("tests/test_parts_gas.py", "-q").returncode:
        return None
    return Found(1, "one file brings all three, run by every model (test_parts_gas.py)")


def hosts_open(quick: bool) -> Found:
    """Gas scenarios that a host program cannot open and step."""
    from scalebridge.engine.interop.host import Host

    norms, failed = _load(ROOT / "tests/norms.py"), []
    names = _flows()
    for name in names:
        some = norms.SHORT.get(name)
        settings = some.settings if some else ("model.particles=10",)
        try:
            Host.open(name, settings).step()
        except Exception as error:  # whatever it says, it did not open
            failed.append(f"{name}: {error}")
    said = "; ".join(failed) or "all open and step"
    return Found(len(failed), f"of {len(names)} scenarios: {said}")


# -- tests ------------------------------------------------------------------------------


def settings_green(quick: bool) -> Found | None:
    """Settings that must not matter in which the whole suite passes."""
    if quick:
        return None
    found = _settings().settings_green()
    red = [name for name, passed in found.items() if not passed]
    return Found(len(found) - len(red), f"of {len(found)}; red: {', '.join(red) or 'none'}")


def test_minutes(quick: bool) -> Found | None:
    """Wall time of the suite of ``make test`` on two cores."""
    if quick:
        return None
    suite = _settings().suite("one thread")
    return Found(suite.minutes, suite.said)


@functools.cache
def _settings() -> Any:
    """Return the module that runs the suite, each setting of it once."""
    return _load(ROOT / "tests/settings.py")


def _pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests with one thread for each of at most two workers, on two cores."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        env=os.environ | {"SCALEBRIDGE_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        capture_output=True,
        text=True,
        check=False,
    )


# -- speed ------------------------------------------------------------------------------


def md_speed_change(quick: bool) -> Found:
    """Relative change of the time of a step of molecular dynamics, the worse of two."""
    return _speed_change(
        quick, "Lennard-Jones, 32,000 atoms", "Deep Potential water, 192 atoms"
    )


def gas_speed_change(quick: bool) -> Found:
    """Relative change of the time of a step of a gas, the worse of two."""
    return _speed_change(quick, "BGK 1D", "Euler 2D, 256^2")


def _speed_change(quick: bool, *names: str) -> Found:
    with tempfile.TemporaryDirectory() as place:
        old = Path(place)
        packed = subprocess.run(
            ["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", place], input=packed.stdout, check=True)
        found = {name: _ratios(name, old, 3 if quick else 25) for name in names}
    medians = {name: statistics.median(ratios) - 1 for name, ratios in found.items()}
    worst = max(medians, key=lambda name: medians[name])
    said = ", ".join(f"{name}: {change:+.1%}" for name, change in medians.items())
    quarters = statistics.quantiles(found[worst], n=4)
    return Found(
        medians[worst],
        f"{said}; medians of {len(found[worst])} interleaved pairs against {BEFORE}; "
        "spread: quartiles",
        (quarters[0] - 1, quarters[2] - 1),
    )


def _ratios(name: str, old: Path, pairs: int) -> list[float]:
    """Return time now over time before, for blocks of steps taken in turns."""
    with _Tree(ROOT, name) as now, _Tree(old, name) as before:
        ratios = []
        for pair in range(pairs):
            order = (now, before) if pair % 2 else (before, now)
            seconds = {tree: tree.seconds() for tree in order}
            ratios.append(seconds[now] / seconds[before])
    return ratios


class _Tree:
    """A process that takes the steps of one tree, block by block."""

    def __init__(self, root: Path, case: str) -> None:
        self._place = tempfile.TemporaryDirectory()
        package = Path(self._place.name) / "scalebridge"
        package.mkdir()
        (package / "__init__.py").touch()
        for name in PACKAGES[1:]:
            (package / name).symlink_to(root / name)
        script = str(Path(__file__).with_name("timed_tree.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, str(root), case],
            env=os.environ | {"PYTHONPATH": self._place.name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def seconds(self) -> float:
        """Take a block of steps; return how long it took."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a timed process ended: {self._process.args}")
        return answer

    def __enter__(self) -> "_Tree":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._place.cleanup()


# -- all --------------------------------------------------------------------------------


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


FIGURES: dict[str, tuple[Callable[[bool], Found | None], str, float]] = {
    "jobs_lines": (jobs_lines, "lines", 3500),
    "engine_studies_lines": (engine_studies_lines, "lines", 41_739),
    "scenario_kinds": (scenario_kinds, "", 14),
    "longest_function": (longest_function, "lines", 150),
    "unused_definitions": (unused_definitions, "", 0),
    "import_circles": (circles_now, "", 0),
    "files_per_addition": (files_per_addition, "files", 1),
    "norms_changed": (norms_changed, "", 1e-10),
    "norms_changed_trained": (norms_changed_trained, "", 1e-6),
    "moment_lines": (moment_lines, "lines", 1500),
    "gas_norms_changed": (gas_norms_changed, "", 1e-10),
    "files_per_addition_gas": (files_per_addition_gas, "files", 1),
    "hosts_open": (hosts_open, "scenarios that do not", 0),
    "md_speed_change": (md_speed_change, "", 0.05),
    "gas_speed_change": (gas_speed_change, "", 0.05),
    "test_minutes": (test_minutes, "min", 8),
    "settings_green": (settings_green, "", 5),
}
"""Figure -> what finds it, its unit and its goal."""


def measure(quick: bool, record) -> None:
    for name, (find, unit, goal) in FIGURES.items():
        if not record.wants(name):
            continue
        found = find(quick)
        if found is None:
            print(f"{name}: not measured: what it needs is not here or fails")
            continue
        better = "higher" if name == "settings_green" else "lower"
        record(
            name,
            found.value,
            unit,
            goal=goal,
            better=better,
            spread=found.spread,
            note=found.note or None,
        )
