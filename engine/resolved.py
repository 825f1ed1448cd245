"""``resolved.json``: what a run was asked to do, with the hash that vouches for it.

Apart from the run folder, so that viewers read it without loading torch.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import DamagedFileError, InputError


def begun(path: Path) -> bool:
    """Tell whether a folder holds a run that can be resumed."""
    return (path / "resolved.json").is_file()


_FORM = {"scenario": dict, "versions": dict, "inputs": dict, "base": str, "command": str}


def read_resolved(path: Path) -> dict[str, Any]:
    """Return the content of ``resolved.json`` of a run folder.

    Raises:
        DamagedFileError: it is not what was written.
    """
    file = path / "resolved.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        # a folder of the first edition has no hash; what is none has no scenario either
        first = "sha256" not in record and bool(record["scenario"])
        intact = first or record["sha256"] == own_hash(record)
        for key, kind in _FORM.items():
            if not isinstance(record.get(key, kind()), kind):
                raise TypeError(key)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{file}: damaged: not what a run wrote") from error
    if not intact:
        raise DamagedFileError(f"{file}: damaged (its sha256 differs)")
    return record


def read_summary(path: Path) -> dict[str, Any]:
    """Return the content of ``summary.json`` of a run folder; empty before there is one.

    Raises:
        DamagedFileError: it is not what a run writes.
    """
    file = path / "summary.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{file}: damaged: not what a run wrote") from error
    if not _is_summary(found):
        raise DamagedFileError(f"{file}: damaged: not what a run wrote")
    return found


def _is_summary(found: Any) -> bool:
    """Tell whether a content of ``summary.json`` has the form that a run gives it."""
    if not isinstance(found, dict):
        return False
    checks, figures = found.get("checks", []), found.get("figures", {})
    return (
        isinstance(checks, list)
        and all(isinstance(c, dict) and {"name", "sentence"} <= c.keys() for c in checks)
        and isinstance(figures, dict)
        and all(isinstance(figure, dict) for figure in figures.values())
        and all(
            isinstance(figure.get("value"), (int, float)) for figure in figures.values()
        )
        and isinstance(found.get("exit_status", 0), int)
        and isinstance(found.get("wall_seconds", 0.0), (int, float))
    )


def own_hash(record: Mapping[str, Any]) -> str:
    """Return the hash of a record without its own."""
    bare = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def refuse_links(path: Path) -> None:
    """Refuse a folder that holds links or special files: nothing is written through them.

    Raises:
        InputError: names the first one.
    """
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            inner = Path(folder, name)
            if inner.is_symlink():
                raise InputError(f"{inner}: is a link; a run folder holds none")
            if not (inner.is_dir() or inner.is_file()) and inner.exists():
                raise InputError(f"{inner}: is neither a file nor a folder")
