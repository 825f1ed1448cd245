"""Scenario files to start from, and the list of those that are shipped."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import reference
from . import scenario as scenarios
from .errors import InputError
from .schema import SCENARIOS

FIRST = {"gas": "sod", "learn": "elt_silicon"}
"""Where the shortest scenario of a kind is not what most people begin with."""

_TABLE = re.compile(r"^\s*\[{1,2}([\w.\-]+)\]{1,2}")
_KEY = re.compile(r"^([\w\-]+(?:\.[\w\-]+)*)\s*=")


def listing(kind: str | None, width: int) -> str:
    """Return the shipped scenarios, grouped by kind and wrapped to ``width``.

    Raises:
        InputError: no scenario of that kind is shipped.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, path in scenarios.shipped().items():
        data = scenarios.read(path)
        groups.setdefault(str(data["kind"]), []).append((name, data.get("title", "")))
    if kind is not None and kind not in groups:
        raise InputError(
            f"kind {kind!r}: no shipped scenario; there are {', '.join(sorted(groups))}"
        )
    lines: list[str] = []
    for each in [kind] if kind else sorted(groups):
        lines.append(f"{each}:")
        for name, title in groups[each]:
            lead = f"  {name:22} "
            gap = " " * len(lead)
            filled = textwrap.fill(
                title, max(width, 60), initial_indent=lead, subsequent_indent=gap
            )
            lines.append(filled)
    return "\n".join(lines)


def write(what: str, file: Path | None) -> Path:
    """Write a scenario to start from.

    Args:
        what: a shipped scenario, or a kind: then that of :data:`FIRST`, or the shortest
            shipped one of that kind.
        file: to write; ``WHAT.toml`` here by default.

    Raises:
        InputError: no such kind or scenario, or the file is there already.
    """
    target = file if file is not None else Path(f"{what}.toml")
    if target.exists():
        raise InputError(f"{target}: exists; give another name")
    text = template(what)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from error
    return target


def template(what: str) -> str:
    """Return the text that :func:`write` writes: every key with what it means above it."""
    known = scenarios.shipped()
    if what in known:
        path = known[what]
    elif what in SCENARIOS.kinds():
        same = [p for p in known.values() if scenarios.read(p).get("kind") == what]
        if not same:
            raise InputError(f"{what}: no scenario of this kind is shipped to start from")
        shortest = min(same, key=lambda each: len(each.read_text(encoding="utf-8")))
        path = known[FIRST[what]] if what in FIRST else shortest
    else:
        names = [*SCENARIOS.kinds(), *known]
        raise InputError(
            f"{what}: neither a kind nor a shipped scenario{scenarios.nearest(what, names)}"
        )
    data = scenarios.read(path)
    text = _found_from_anywhere(path.read_text(encoding="utf-8"), data, path.parent)
    return f"# Begun from {path.stem}; engine explain KEY tells more.\n" + "".join(
        _commented(text, data)
    )


def _found_from_anywhere(text: str, data: Any, folder: Path) -> str:
    """Make the paths of files that are shipped absolute."""
    for value in set(_texts(data)):
        for base in (folder, folder.parent):
            if len(value) < 200 and (base / value).is_file():
                absolute = json.dumps(str((base / value).resolve()))
                text = text.replace(json.dumps(value), absolute)
                break
    return text


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for each in node.values():
            yield from _texts(each)
    elif isinstance(node, list):
        for each in node:
            yield from _texts(each)


def _commented(text: str, data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a scenario, before each key what it means."""
    table: list[str] = []
    quoted = False
    for line in text.splitlines(keepends=True):
        if not quoted:
            if found := _TABLE.match(line):
                table = found[1].split(".")
            elif found := _KEY.match(line):
                told = reference.comment(data, [*table, *found[1].split(".")])
                if told and found[1] not in ("version", "title", "description"):
                    yield (
                        textwrap.fill(told, 92, initial_indent="# ", subsequent_indent="# ")
                        + "\n"
                    )
        if line.count('"""') % 2:
            quoted = not quoted
        yield line


__all__ = ["listing", "template", "write"]
