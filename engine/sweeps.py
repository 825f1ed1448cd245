"""Many runs of one scenario, and the results of runs compared."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import commands
from . import scenario as scenarios
from .errors import InputError
from .manifest import refuse_damage
from .protocols import Outcome
from .resolved import begun, read_resolved, read_summary
from .rundir import new_path, refuse_unwritable

LARGEST = 1000
"""Runs of one sweep, at most."""


def points(sweep: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the settings of every run: all combinations of ``key=a,b,c``.

    Raises:
        InputError: a sweep without values, a key that is given twice, or too many runs.
    """
    axes: list[list[str]] = []
    keys: list[str] = []
    for each in sweep:
        key, found, text = each.partition("=")
        values = _split(text)
        if not found or not key.strip() or not all(values):
            raise InputError(f"--sweep {each}: the form is key=a,b,c")
        if key in keys:
            raise InputError(f"--sweep {each}: the key is given twice")
        keys.append(key)
        axes.append([f"{key.strip()}={value}" for value in values])
    found_points = list(itertools.islice(itertools.product(*axes), LARGEST + 1))
    if len(found_points) > LARGEST:
        raise InputError(f"--sweep: more than {LARGEST} runs")
    return found_points


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def run(
    scenario: str,
    settings: Sequence[str],
    sweep: Sequence[str],
    out: Path | None = None,
    **options: Any,
) -> list[Outcome]:
    """Run a scenario once for every point; all are checked before the first begins.

    Args:
        scenario: a file, or the name of a shipped one.
        settings: that all runs share.
        sweep: ``key=a,b,c`` each.
        out: folder of the run folders ``1``, ``2``, ...
        **options: of :func:`.commands.run`.

    Raises:
        InputError: a point is refused.
    """
    chosen = points(sweep)
    refuse_unwritable(Path("runs") if out is None else out)
    for point in chosen:
        commands.check(scenario, [*settings, *point])
    folder = out if out is not None else new_path(scenarios.find(scenario).stem + "-sweep")
    return [
        commands.run(scenario, [*settings, *point], folder / str(number), **options)
        for number, point in enumerate(chosen, 1)
    ]


def table(runs: Sequence[Path]) -> str:
    """Return the keys that differ and the results of finished runs, a column each.

    Raises:
        InputError: a folder without a summary.
    """
    records = [_read(Path(path)) for path in runs]
    rows = [["", *(str(path) for path in runs)]]
    settings = [dict(commands.flat(record["scenario"])) for record, _ in records]
    for key in dict.fromkeys(key for each in settings for key in each):
        values = [each.get(key, "-") for each in settings]
        if key not in ("title", "description") and any(v != values[0] for v in values):
            rows.append([key, *(str(value) for value in values)])
    results = [summary.get("figures", {}) for _, summary in records]
    for name in dict.fromkeys(name for each in results for name in each):
        unit = next(each[name].get("unit", "") for each in results if name in each)
        rows.append(
            [f"{name} [{unit}]" if unit else name, *(_shown(e.get(name)) for e in results)]
        )
    rows.append(["exit status", *(str(s.get("exit_status", "-")) for _, s in records)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _shown(result: dict[str, Any] | None) -> str:
    if result is None:
        return "-"
    error = result.get("error")
    return f"{result['value']:.6g}" + (f" +- {error:.2g}" if error is not None else "")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if not begun(path):
        raise InputError(f"{path}: not the folder of a run")
    refuse_damage(path, "summary.json")
    if not (summary := read_summary(path)):
        raise InputError(f"{path}: the run has not ended: no summary.json")
    return read_resolved(path), summary


__all__ = ["points", "run", "table"]
