"""Hash-pinned versions: ``python tests/pins.py`` writes ``requirements.lock``.

pip resolves the package with all extras under ``constraints.txt`` without installing
anything; every archive that it would take is kept with its version and SHA-256. The file is
for one platform (Linux, x86-64, the Python that wrote it)::

    pip install --require-hashes -r requirements.lock && pip install --no-deps -e .
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS, LOCK = ROOT / "constraints.txt", ROOT / "requirements.lock"


def pinned() -> dict[str, str]:
    """Return the version of every package in ``constraints.txt``."""
    rows = re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    return {str(canonicalize_name(name)): version for name, version in rows}


def locked() -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of every package in ``requirements.lock``."""
    rows = re.findall(r"^([\w.-]+)==(\S+)((?: --hash=\S+)*)$", LOCK.read_text(), re.M)
    return {
        name: (version, re.findall(r"sha256:([0-9a-f]{64})(?:\s|$)", hashes))
        for name, version, hashes in rows
    }


def declared() -> list[Requirement]:
    """Return what ``pyproject.toml`` asks for, with every extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    words = [*project["dependencies"], *(word for extra in extras for word in extra)]
    return [Requirement(word) for word in words]


def needed(roots: Sequence[Requirement]) -> set[str]:
    """Return the names of ``roots`` and of all that they need here."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        key = str(canonicalize_name(one.name)), frozenset(one.extras)
        if key not in found and _applies(one, frozenset()):
            found.add(key)
            waiting += _needs(one)
    return {name for name, _ in found}


def _applies(one: Requirement, extras: frozenset[str]) -> bool:
    marker = one.marker
    return marker is None or any(marker.evaluate({"extra": e}) for e in (extras or {""}))


def _needs(one: Requirement) -> Iterator[Requirement]:
    try:
        words = requires(one.name) or []
    except PackageNotFoundError:  # not installed here: its own line is asked for
        return
    for word in words:
        inner = Requirement(word)
        if _applies(inner, frozenset(one.extras) | {""}):
            inner.marker = None
            yield inner


def resolved() -> Iterator[str]:
    """Yield the lines of the lock, as pip resolves them.

    Raises:
        subprocess.CalledProcessError: the constraints cannot be met.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = f"{ROOT}[{','.join(project['optional-dependencies'])}]"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["--quiet", "--report", "-", "-c", str(CONSTRAINTS), everything]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    for row in sorted(report["install"], key=lambda r: canonicalize_name(_name(r))):
        if _name(row) != project["name"]:
            version = row["metadata"]["version"].partition("+")[0]
            digest = row["download_info"]["archive_info"]["hashes"]["sha256"]
            yield f"{canonicalize_name(_name(row))}=={version} --hash=sha256:{digest}"


def _name(row: dict) -> str:
    return row["metadata"]["name"]


if __name__ == "__main__":
    python = ".".join(str(n) for n in sys.version_info[:2])
    head = f"# Linux x86-64, Python {python}; torch is the CPU build. From tests/pins.py."
    LOCK.write_text("\n".join([head, *resolved()]) + "\n")
