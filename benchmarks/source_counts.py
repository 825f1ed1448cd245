"""Counts on the source: ``python benchmarks/source_counts.py``.

``unused_definitions`` are functions and classes at the top of a module of ``SOURCES`` that
no other place refers to by name. Places are ``SOURCES`` and ``CALLERS``, without the
definition's own body and the bodies of other unused definitions. A reference is a name or
an attribute in code, ``"module:name"`` in a table of parts or an entry point, a name in
``__all__`` of a package's ``__init__.py``, or a word in a Python block of the README (what
the README shows is public). Tests do not count, nor does an import alone, nor a name in
``__all__`` of a module. What a decorator registers as a command is used, and so are names
like ``__getattr__``, which Python calls.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("scalebridge", "engine", "models", "viz", "studies")
"""Folders whose functions and definitions are counted."""
CALLERS = ("benchmarks", "examples")
"""Folders that count as users besides the sources."""

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
REFERENCE = re.compile(r"[\w.]+:(\w+)")
REGISTERING = ("command", "group")


@dataclass
class Definition:
    """A function or class at the top of a module.

    Attributes:
        place: ``path:line``.
        name: its name.
        lines: its length, decorators included.
        used: whether a decorator or a registry uses it.
        refers: names in its body.
    """

    place: str
    name: str
    lines: int
    used: bool
    refers: set[str] = field(repr=False)


def modules(folders: Iterable[str]) -> Iterator[tuple[Path, ast.Module]]:
    """Yield path and syntax tree of every module below ``folders``."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def longest_function() -> tuple[int, str]:
    """Return the number of lines of the longest function, and where it is."""
    return max(
        (node.end_lineno - node.lineno + 1, f"{path}:{node.lineno} {node.name}")
        for path, tree in modules(SOURCES)
        for node in ast.walk(tree)
        if isinstance(node, FUNCTION) and node.end_lineno is not None
    )


def unused_definitions() -> list[Definition]:
    """Return the definitions that nothing refers to; see the module's text."""
    found, outside = [], _public_words()
    for path, tree in modules(SOURCES):
        package = path.name == "__init__.py"
        for node in tree.body:
            if isinstance(node, (*FUNCTION, ast.ClassDef)):
                found.append(_definition(path, node))
            elif package or not _is_export(node):
                outside |= _names(node, strings=package and _is_export(node))
    for _, tree in modules(CALLERS):
        outside |= _names(tree)
    return _unreachable(found, outside)


def _unreachable(found: list[Definition], outside: set[str]) -> list[Definition]:
    waiting, names = found, outside
    while reached := [d for d in waiting if d.used or d.name in names]:
        waiting = [d for d in waiting if not (d.used or d.name in names)]
        names = set().union(*(d.refers for d in reached))
    return waiting


def _definition(path: Path, node: ast.stmt) -> Definition:
    assert isinstance(node, (*FUNCTION, ast.ClassDef))
    begin = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    registered = any(
        isinstance(part, ast.Attribute) and part.attr in REGISTERING
        for decorator in node.decorator_list
        for part in ast.walk(decorator)
    )
    lines = (node.end_lineno or begin) - begin + 1
    special = node.name.startswith("__")  # Python itself calls these
    used = registered or special
    return Definition(f"{path}:{begin}", node.name, lines, used, _names(node))


def _names(tree: ast.AST, strings: bool = False) -> set[str]:
    """Return the names that code refers to; with ``strings`` every string is one."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                names.add(name)
            case ast.alias(name=name, asname=str()):
                names.add(name.rpartition(".")[2])
            case ast.Constant(value=str() as text):
                if strings:
                    names.add(text)
                elif reference := REFERENCE.fullmatch(text):
                    names.add(reference[1])
    return names


def _is_export(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
    )


def _public_words() -> set[str]:
    """Return the words of the README's Python blocks and of the entry points."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    scripts = REFERENCE.findall((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {word for block in blocks for word in re.findall(r"\w+", block)} | set(scripts)


def main() -> None:
    """Print the counts."""
    lines, place = longest_function()
    print(f"longest function: {lines} lines, {place}")
    unused = unused_definitions()
    print(f"unused definitions: {len(unused)}, {sum(d.lines for d in unused)} lines")
    for d in unused:
        print(f"  {d.place} {d.name} ({d.lines} lines)")


if __name__ == "__main__":
    main()
