"""Writes the reference pages; none is edited by hand.

Keys come from the parts, commands from the command line, the Python interface from its
docstrings, scenarios from their files.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click

import scalebridge
from scalebridge.engine import bench, reference
from scalebridge.engine import scenario as scenarios
from scalebridge.engine.cli import main
from scalebridge.engine.schema import SCENARIOS


def write(folder: Path) -> None:
    """Write every page below ``folder``, a file each; unchanged ones are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"keys_{kind}": keys(kind) for kind in SCENARIOS.kinds()}
    pages |= {"commands": commands(), "python": python(), "scenarios": shipped()}
    pages["figures"] = bench.results_page().splitlines()
    pages["planning"] = planning()
    pages["index"] = index(pages)
    for name, lines in pages.items():
        path, text = folder / f"{name}.md", "\n".join(lines) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.md"):  # of parts that are gone
        if path.stem not in pages:
            path.unlink()


def index(pages: dict[str, list[str]]) -> list[str]:
    """Return the page that lists the others."""
    return [
        "# Reference",
        "",
        "Generated from the program: `engine explain KEY` prints the same entries, with",
        "those of parts that other packages bring.",
        "",
        "```{toctree}",
        ":maxdepth: 1",
        "",
        *sorted(pages),
        "```",
    ]


def planning() -> list[str]:
    """Return the table of what runs cost, from the figures of ``engine bench planning``."""
    path = bench.folder() / "results" / "planning.json"
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    kinds = [name.removesuffix("_us") for name in figures if name.endswith("_us")]
    first = figures[f"{kinds[0]}_us"]
    lines = [
        "# What a run costs",
        "",
        f"Measured on {first['machine']}, one thread, {first['date']}. What does not fit",
        "into memory is refused by `engine check FILE`, before anything is made.",
        "",
        "| run | bytes each | in a GiB | steps of one in a CPU second |",
        "|---|---|---|---|",
    ]
    for kind in kinds:
        size, cost = figures[f"{kind}_bytes"], figures[f"{kind}_us"]["value"]
        unit = size["unit"].removeprefix("bytes per ")
        lines.append(
            f"| {size['note'].partition(';')[0]} | {size['value']:.0f} | "
            f"{2**30 / size['value'] / 1e6:.2g} million {unit}s | {1e6 / cost:.2g} |"
        )
    return lines


def keys(kind: str) -> list[str]:
    """Return the page of one kind: every key, in order, under the table it stands in."""
    doc = (SCENARIOS[kind].__doc__ or "").split("\n\n")[0]
    lines = [f"# Keys of `{kind}`", "", " ".join(doc.split()), ""]
    table = None
    for entry in reference.entries(kind):
        above, _, name = entry.key.rpartition(".")
        if above != table:
            table = above
            head = "At the top of the file" if above == kind else f"`{above}`"
            lines += [f"## {head}", ""]
        given = "required" if entry.required else f"default `{entry.default or 'none'}`"
        lines += [f"`{name}`", f": {_plain(entry.type)}; {given}", ""]
        lines += [f"  {_plain(entry.text)}", ""]
    return lines


def _plain(text: str) -> str:
    """Return ``text`` with what Markdown would take for markup written out."""
    text = text.replace("``", "`").replace(":class:", "").replace(":func:", "")
    parts = text.split("`")
    for position in range(0, len(parts), 2):  # outside code
        for mark in "*_<>[]$|":
            parts[position] = parts[position].replace(mark, f"\\{mark}")
    return "`".join(parts)


def commands() -> list[str]:
    """Return the page of all commands, as ``--help`` has them."""
    lines = ["# Commands", ""]
    for name, command in sorted(main.commands.items()):
        context = click.Context(command, info_name=f"engine {name}")
        lines += [
            f"## `engine {name}`",
            "",
            "```text",
            command.get_help(context),
            "```",
            "",
        ]
    return lines


def python() -> list[str]:
    """Return the page of the public names."""
    lines = [
        "# Python",
        "",
        "`import scalebridge as sb` imports nothing else; each name is",
    ]
    lines += ["imported when it is first used.", ""]
    for name in _public():
        target = getattr(scalebridge, name)
        directive = "autoclass" if isinstance(target, type) else "autofunction"
        full = f"{target.__module__}.{target.__qualname__}"
        lines += [f"## `sb.{name}`", "", "```{eval-rst}", f".. {directive}:: {full}"]
        lines += ["   :members:"] * (directive == "autoclass")
        lines += ["   :noindex:", "```", ""]
    return lines


def _public() -> Iterator[str]:
    return (name for name in scalebridge.__all__ if not name.startswith("__"))


def tasks() -> Iterator[tuple[str, Path, Path, str]]:
    """Yield every row of the table of tasks: task, page, file and name of its test."""
    folder = Path(__file__).parent / "howto"
    for line in (folder / "tasks.md").read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"\| (.+) \| \[.+\]\((.+)\) \| `(.+)::(.+)` \|", line)
        if row:
            file = Path(__file__).parent.parent / "tests" / row[3]
            yield row[1], folder / row[2], file, row[4]


def shipped() -> list[str]:
    """Return the page of the shipped scenarios."""
    lines = ["# Shipped scenarios", ""]
    for name, path in scenarios.shipped().items():
        data = scenarios.read(path)
        lines += [f"## `{name}`", "", f"*{_plain(data['title'])}* (`{data['kind']}`)", ""]
        lines += [_plain(" ".join(data["description"].split())), ""]
        lines += ["```toml", path.read_text(encoding="utf-8").rstrip(), "```", ""]
    return lines
