"""Mutations of the source at random places, with a fixed seed: do the tests notice?

A mutation exchanges one operator, comparison, number, ``min``/``max`` or condition of the
engine or the models. The tests that know the file run on a copy of the tree; a mutation
that none of them notices has survived.

Run: python benchmarks/mutation.py [COUNT] [--seed 1] [--seconds 1800]
"""

import argparse
import ast
import functools
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from imports import ROOT, imports_of

PACKAGES = ("engine", "models")
SKIPPED = ("engine/cli.py", "engine/doctor.py", "engine/bench.py")
"""What prints rather than computes."""

KEPT = ROOT / "benchmarks" / "results" / "mutants" / "rows.json"
"""What is known of each mutation, so that a hundred can be tried in several goes."""

NEAREST, NEXT = 4, 8
"""Files of tests that are run on a mutation: at first, and on what those miss."""

READS_KEYS = "tests/test_schema_keys.py"
"""What reads every declaration of a key: run on a mutation of those beside the nearest."""

NORMS = "tests/test_norms.py"
"""What runs every shipped scenario, shortened: tried on what the nearest miss."""

LIMIT = 1200
"""Processor seconds for the tests of one mutation; what takes more is not decided."""

_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_NAMES = {
    "max": "min", "min": "max", "amax": "amin", "amin": "amax", "any": "all", "all": "any",
    "maximum": "minimum", "minimum": "maximum", "argmax": "argmin", "argmin": "argmax",
    "floor": "ceil", "ceil": "floor",
}  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One change: the ``number``-th place of a file that can be changed."""

    file: str
    number: int
    line: int
    before: str
    after: str


class _Mutator(ast.NodeTransformer):
    """Counts the places that can be changed, and changes one of them."""

    def __init__(self, chosen: int = -1) -> None:
        self.chosen, self.count = chosen, 0
        self.line, self.before, self.after = 0, "", ""

    def _here(self, node: ast.AST) -> bool:
        self.count += 1
        if self.count - 1 != self.chosen:
            return False
        self.line, self.before = getattr(node, "lineno", 0), ast.unparse(node)
        return True

    def _done(self, node: ast.AST) -> ast.AST:
        self.after = ast.unparse(node)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        text = isinstance(node.left, ast.JoinedStr | ast.Constant) and not isinstance(
            getattr(node.left, "value", 0), int | float
        )
        if type(node.op) in _SWAPS and not text and self._here(node):
            node.op = _SWAPS[type(node.op)]()
            return self._done(node)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if type(node.ops[0]) in _SWAPS and self._here(node):
            node.ops[0] = _SWAPS[type(node.ops[0])]()
            return self._done(node)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if self._here(node):
            node.op = _SWAPS[type(node.op)]()
            return self._done(node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) not in (int, float) or not self._here(node):
            return node
        value = node.value + 1 if isinstance(node.value, int) else 1.1 * node.value + 1e-9
        return self._done(ast.copy_location(ast.Constant(value), node))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr in _NAMES and self._here(node):
            node.attr = _NAMES[node.attr]
            return self._done(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in _NAMES and isinstance(node.ctx, ast.Load) and self._here(node):
            return self._done(ast.copy_location(ast.Name(_NAMES[node.id], node.ctx), node))
        return node


def places(text: str) -> int:
    """Return how many places of a source can be changed."""
    mutator = _Mutator()
    mutator.visit(ast.parse(text))
    return mutator.count


def changed(text: str, number: int) -> tuple[str, _Mutator]:
    """Return the source with one place changed, and what was changed."""
    mutator = _Mutator(number)
    tree = mutator.visit(ast.parse(text))
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n", mutator


def drawn(count: int, seed: int) -> list[Mutation]:
    """Return mutations drawn with equal chance from all places of the packages.

    Places are ranked by a hash of seed, file and number, so that a change of one file
    leaves the draws from all others as they were.
    """
    files = [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in SKIPPED
    ]
    everywhere = [
        (hashlib.sha256(f"{seed} {path.relative_to(ROOT)} {k}".encode()).digest(), path, k)
        for path in files
        for k in range(places(path.read_text()))
    ]
    made = []
    for _, path, number in sorted(everywhere)[:count]:
        mutator = changed(path.read_text(), number)[1]
        name = str(path.relative_to(ROOT))
        made.append(Mutation(name, number, mutator.line, mutator.before, mutator.after))
    return made


def _module(path: Path) -> str:
    return (
        str(path.relative_to(ROOT).with_suffix(""))
        .replace("/", ".")
        .removesuffix(".__init__")
    )


def _imported(path: Path) -> set[str]:
    """Return the names that a file imports, from the root of the tree."""
    found = imports_of(path)
    if path.parent.name == "tests":  # they import each other by their bare names
        found |= {f"tests.{name}" for name in found}
    return {name.removeprefix("scalebridge.") for name in found}


@functools.cache
def importers() -> Mapping[str, set[str]]:
    """Return the modules and tests that import each module."""
    ours = [
        path
        for package in (*PACKAGES, "viz", "studies", "tests")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]
    modules = {_module(path) for path in ours}
    found: dict[str, set[str]] = {name: set() for name in modules}
    for path in ours:
        for name in _imported(path) & modules - {_module(path)}:
            found[name].add(_module(path))
    for name in modules:
        if name.startswith("engine.jobs."):  # imported by name, when it is asked for
            found[name].add("engine.jobs")
    return found


def tests_of(file: str) -> list[str]:
    """Return the files of tests nearest to a module, in the order in which they are tried.

    Nearest are tests of its name, then those that import it themselves, then those that
    import a module that does, and so on; of equally near ones those of its package first,
    then those that import the least.
    """
    module = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    _, *packages, stem = module.split(".")
    seen, here, distance = {module: 0}, {module}, 0
    while here:
        distance += 1
        here = {i for name in here for i in importers()[name]} - seen.keys()
        seen |= dict.fromkeys(here, distance)
    breadth = Counter(name for users in importers().values() for name in users)

    def rank(test: str) -> tuple[bool, int, bool, int, str]:
        named = any(word[:5] == stem[:5] for word in test.split("_"))
        inside = any(package in test for package in packages)
        return not named, seen[test], not inside, breadth[test], test

    tests = [name for name in seen if name.startswith("tests.test_")]
    found = [f"{name.replace('.', '/')}.py" for name in sorted(tests, key=rank)]
    declares = "schema" in packages or "\n@part" in (ROOT / file).read_text("utf-8")
    first = [READS_KEYS] if declares else []
    some = NEAREST + NEXT
    return list(dict.fromkeys([*first, *found[:NEAREST], NORMS, *found[NEAREST:some]]))


def noticed(mutation: Mutation, python: str = sys.executable) -> bool | None:
    """Tell whether a test fails on the tree with the mutation; None: out of time."""
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "scalebridge"
        ignored = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", "results")
        shutil.copytree(ROOT, tree, ignore=ignored, symlinks=True)
        file = tree / mutation.file
        file.write_text(changed(file.read_text(), mutation.number)[0])
        environment = os.environ | {"PYTHONPATH": place, "SCALEBRIDGE_THREADS": "1"}
        command = [python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, *tests_of(mutation.file)], cwd=tree, env=environment,
                capture_output=True, timeout=10 * LIMIT, check=False,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT)),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
    out_of_time = done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    return None if out_of_time else done.returncode != 0


def results(
    count: int, seed: int, seconds: float
) -> Iterator[tuple[Mutation, bool | None]]:
    """Yield mutations and whether they were noticed, until the time is over.

    What was noticed once is kept in :data:`KEPT`; the others are tried again once their
    tests have changed.
    """
    begun = time.monotonic()
    rows = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for mutation in drawn(count, seed):
        name = f"{mutation.file} {mutation.number}: {mutation.before} -> {mutation.after}"
        files = tests_of(mutation.file)
        content = b"".join((ROOT / each).read_bytes() for each in files)
        digest = hashlib.sha256(content).hexdigest()
        caught, before = rows.get(name, (None, ""))
        if caught is not True and before != digest:
            if time.monotonic() - begun > seconds:
                return
            caught = noticed(mutation)
            rows[name] = [caught, digest]
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(json.dumps(rows, indent=1) + "\n")
        yield mutation, caught


def program() -> int:
    """Run from the command line; one JSON line for each mutation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1800.0)
    asked = parser.parse_args()
    for mutation, caught in results(asked.count, asked.seed, asked.seconds):
        print(json.dumps({**vars(mutation), "noticed": caught}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(program())
