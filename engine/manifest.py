"""What vouches for the files of a run folder, and the one way to read its arrays.

A lost chunk of ``data.zarr`` reads as zeros, so nothing is read from a store before its
files are compared with what the run wrote: with ``manifest.json`` of a run that has ended,
or else with the newest checkpoint, which holds the hashes of all chunks that are full.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import DamagedFileError, InputError
from .resolved import begun

MANIFEST = "manifest.json"
STORE = "data.zarr"
_NOT_AS_WRITTEN = (OSError, ValueError, KeyError, TypeError, RecursionError)


def sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=1 << 16)
def _digest(path: Path, when: int, size: int) -> str:
    """Return the hash of a file's content; of one that stays as it is, read once."""
    return sha256(path)


def verify(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> int:
    """Compare the files of a finished run folder with its manifest; return how many.

    Args:
        path: the run folder.
        wanted: by name, which files; all by default.

    Raises:
        DamagedFileError: a file is missing, differs, or lies outside the folder.
    """
    source = path / MANIFEST
    try:
        files = json.loads(source.read_text(encoding="utf-8"))["files"]
        chosen = {n: entry["sha256"] for n, entry in files.items() if wanted(n)}
    except (*_NOT_AS_WRITTEN, AttributeError) as error:
        raise DamagedFileError(f"{source}: missing or damaged") from error
    _compare(path, source, chosen)
    return len(chosen)


def refuse_damage(path: Path, *places: str) -> None:
    """Refuse to read from a run folder what is not what the run wrote.

    Args:
        path: the run folder, of a run that has ended or not.
        places: files, or folders and all that is in them, relative to it.

    Raises:
        DamagedFileError: a file is missing or differs.
    """

    def wanted(name: str) -> bool:
        return any(name == place or name.startswith(f"{place}/") for place in places)

    if (path / MANIFEST).exists():
        verify(path, wanted)
        _refuse_others(path, places)
    elif (found := _newest_checkpoint(path)) is not None:
        source, sealed = found
        _compare(path, source, {n: d for n, (_, d) in sealed.items() if wanted(n)})


def _refuse_others(path: Path, places: tuple[str, ...]) -> None:
    """Refuse files that were put between those of the run: a chunk more is read as well."""
    files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
    for place in places:
        for file in (path / place).rglob("*"):
            if file.is_file() and file.relative_to(path).as_posix() not in files:
                raise DamagedFileError(f"{file}: not of this run (not in {MANIFEST})")


def open_store(path: Path, part: str = "") -> Any:
    """Return the Zarr group ``data.zarr`` of a run, or a group in it, to read.

    Args:
        path: the run folder.
        part: name of the group.

    Raises:
        DamagedFileError: a file of it is missing or not what the run wrote.
        InputError: no such group.
    """
    import zarr

    place = f"{STORE}/{part}".rstrip("/")
    refuse_damage(path, place)
    try:
        return zarr.open_group(path / place, mode="r")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path / place}: no such group of arrays ({error})") from error


def open_arrays(path: Path) -> Any:
    """Return a Zarr group of any origin, to read; one of a run is compared first.

    Raises:
        DamagedFileError: a file of it is missing or not what the run wrote.
        OSError: no such group.
    """
    import zarr

    for folder in path.resolve().parents:
        if begun(folder):
            refuse_damage(folder, str(path.resolve().relative_to(folder)))
    return zarr.open_group(path, mode="r")


def _compare(path: Path, source: Path, digests: Mapping[str, str]) -> None:
    for name, digest in digests.items():
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise DamagedFileError(f"{source}: {name!r} lies outside the folder")
        file = path / name
        if not file.is_file():
            raise DamagedFileError(f"{file}: missing")
        about = file.stat()
        if _digest(file, about.st_mtime_ns, about.st_size) != digest:
            raise DamagedFileError(
                f"{file}: damaged (its sha256 differs from {source.name})"
            )


def _newest_checkpoint(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint and what it says of full chunks; None without one.

    One that another process removes meanwhile, or that is damaged, says nothing: resuming
    names that.
    """
    for file in sorted((path / "checkpoints").glob("step-*.json"), reverse=True):
        try:
            text, check, _ = file.read_text(encoding="utf-8").split("\n")
            if hashlib.sha256(text.encode()).hexdigest() == check:
                return file, json.loads(text)["sealed"]
        except _NOT_AS_WRITTEN:
            continue
    return None


__all__ = ["MANIFEST", "STORE", "open_store", "refuse_damage", "sha256", "verify"]
