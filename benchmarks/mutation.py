"""Mutations of the source at random places, with a fixed seed: do the tests notice?

A mutation exchanges one operator, comparison, number, ``min``/``max`` or condition of the
engine or the models. The tests that know the file run on a copy of the tree; a mutation
that none of them notices has survived.

Run: python benchmarks/mutation.py [COUNT] [--seed 1] [--seconds 1800]
"""

import argparse
import ast
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "models")
SKIPPED = ("engine/cli.py", "engine/doctor.py", "engine/bench.py")
"""What prints rather than computes."""

LIMIT = 420
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
    """Return mutations drawn with equal chance from all places of the packages."""
    files = [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in SKIPPED
    ]
    everywhere = [(p, k) for p in files for k in range(places(p.read_text()))]
    made = []
    for path, number in random.Random(seed).sample(everywhere, count):
        mutator = changed(path.read_text(), number)[1]
        name = str(path.relative_to(ROOT))
        made.append(Mutation(name, number, mutator.line, mutator.before, mutator.after))
    return made


def tests_of(file: str) -> list[str]:
    """Return the tests that import a module, nearest first: what runs on its mutation."""
    module = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    stem, found = module.rsplit(".", 1), []
    for test in sorted((ROOT / "tests").glob("test_*.py")):
        text = test.read_text()
        near = f"{module} import" in text or f"{stem[0]} import {stem[-1]}" in text
        if near or stem[-1] in test.stem:
            found.append((not near, str(test.relative_to(ROOT))))
    names = [name for _, name in sorted(found)]
    return names or [f"tests/{n}" for n in ("test_norms.py", "test_scenario.py")]


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
    """Yield mutations and whether they were noticed, until the time is over."""
    begun = time.monotonic()
    for mutation in drawn(count, seed):
        if time.monotonic() - begun > seconds:
            return
        yield mutation, noticed(mutation)


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
