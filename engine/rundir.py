"""The run folder: what a run writes, and what it can be resumed from.

``scenario.toml`` as given, ``resolved.json`` with every default and the hashes of what was
read, ``events.jsonl``, ``data.zarr``, ``checkpoints/``, ``summary.json``, ``manifest.json``
with the sha256 of every file. One writer at a time. Files are written to a temporary name,
synced and moved, so a kill at any moment leaves the old file or the new one, never half of
one. ``resolved.json`` is the first file that counts: a folder without it was never begun
and is simply begun anew. A checkpoint vouches for every other file that resuming relies on
(:mod:`.snapshot`).
"""

import datetime
import errno
import fcntl
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
import zarr
from torch import Tensor

from .errors import DamagedFileError, EngineError, InputError
from .manifest import MANIFEST, STORE, sha256
from .protocols import Outcome
from .resolved import begun, own_hash, read_resolved, refuse_links
from .snapshot import Snapshots

KEPT_CHECKPOINTS = 2
_PACKAGES = (
    "scalebridge",
    "torch",
    "taichi",
    "numpy",
    "ase",
    "zarr",
    "safetensors",
    "pyscf",
)


@dataclass(frozen=True)
class Checkpoint:
    """A state to resume from.

    Attributes:
        step: step that was complete when it was written.
        tensors: named tensors.
        extra: further JSON data.
    """

    step: int
    tensors: dict[str, Tensor]
    extra: dict[str, Any]


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into one line that says what was kept."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise EngineError(
                f"{path}: disk full; everything up to the last checkpoint is kept, "
                "make room and use: engine resume"
            ) from error
        raise EngineError(f"{path}: {error.strerror or error}") from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, sync it and move it to ``path``."""
    temporary = path.with_name(f".{path.name}.part")
    with translate_os_errors(path):
        try:
            temporary.unlink(missing_ok=True)  # it may be a link that somebody left
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors atomically as safetensors; views of one storage become copies."""
    own = {
        n: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for n, t in tensors.items()
    }
    data = safetensors.torch.save(own)
    write_atomically(path, lambda part: part.write_bytes(data))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


_UNBEGUN = ("lock", "scenario.toml", "checkpoints")
"""What a run makes before ``resolved.json``, which makes the folder a run folder."""


def _vacant(path: Path) -> bool:
    """Tell whether a folder holds nothing but what a run leaves that never began."""
    return not begun(path) and all(
        item.name in _UNBEGUN or item.name.endswith(".part")
        for item in path.iterdir()
        if item.name != "checkpoints" or any(item.iterdir())
    )


def new_path(stem: str) -> Path:
    """Make an empty folder ``runs/STEM-TIME``, with a number where that one is taken.

    Raises:
        InputError: it cannot be made.
    """
    start = Path("runs", f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}")
    for number in itertools.count(1):
        path = start if number == 1 else start.with_name(f"{start.name}-{number}")
        try:
            path.parent.mkdir(exist_ok=True)
            path.mkdir()
        except FileExistsError:
            if not path.parent.is_dir():
                raise InputError(f"{path.parent}: is not a folder") from None
            continue
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        return path
    raise AssertionError("unreachable")


def refuse_unwritable(path: Path) -> None:
    """Refuse a new run folder that could not be made, before anything is computed.

    Raises:
        InputError: the nearest folder that exists is a file or may not be written.
    """
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not there.is_dir():
        raise InputError(f"{there}: is not a folder")
    try:  # permissions do not tell it all: tried, as a run would
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {there}: {error.strerror}") from error


def own_axes(name: str, shape: Sequence[int]) -> tuple[str, ...]:
    """Return names of dimensions that no other array shares."""
    return tuple(f"{name}_axis{number}" for number in range(len(shape)))


def write_array(
    group: Any,
    name: str,
    values: Tensor | np.ndarray,
    unit: str = "",
    long_name: str = "",
    dimensions: Sequence[str] | None = None,
    **attributes: Any,
) -> None:
    """Write one array with what a reader must know of it, or replace it.

    Args:
        group: of a run's store.
        name: in it.
        values: the array.
        unit: of its numbers.
        long_name: what it is; its name when left out.
        dimensions: their names; without, its own.
        attributes: ``axes``, ``labels`` and what else a reader of runs knows.
    """
    data = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    short = name.rpartition("/")[2]
    dimensions = own_axes(short, data.shape) if dimensions is None else dimensions
    array = group.create_array(name, data=data, dimension_names=dimensions, overwrite=True)
    long_name = long_name or short.replace("_", " ")
    array.attrs.update({"unit": unit, "long_name": long_name, **attributes})


def write_group(
    folder: "RunFolder",
    group: str,
    values: Mapping[str, tuple[Tensor, str]],
    title: str = "",
    caption: str = "",
    axes: tuple[str, ...] = (),
    **attributes: Any,
) -> None:
    """Write a group of arrays with their units; ``axes`` belong to all but coordinates."""
    made = folder.store.require_group(group)
    made.attrs.update({"title": title, "caption": caption, **attributes})
    for name, (array, unit) in values.items():
        own: dict[str, Any] = {"axes": list(axes)} if axes and name not in axes else {}
        if array.dim() == 1 and name in axes:
            own["dimensions"] = (name,)
        elif len(axes) == array.dim():
            sizes = [values[axis][0].shape if axis in values else () for axis in axes]
            if sizes == [(n,) for n in array.shape]:
                own["dimensions"] = axes
        write_array(made, name, array.double(), unit, **own)


class RunFolder:
    """A run folder that is open for writing; use :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = self._take_lock()
        self._store: zarr.Group | None = None
        self._snapshots = Snapshots(path)
        self._events = hashlib.sha256()
        self._logged = 0
        self.use_previous = False

    # -- opening and closing ---------------------------------------------------------

    @classmethod
    def create(
        cls, path: Path, scenario_text: str, resolved: Mapping[str, Any]
    ) -> "RunFolder":
        """Make a new run folder.

        Raises:
            InputError: the folder exists and is not empty, or cannot be written.
        """
        try:
            if path.exists() and not _vacant(path):
                raise InputError(
                    f"{path}: exists and is not empty; to continue: engine resume"
                )
            path.mkdir(parents=True, exist_ok=True)
            refuse_links(path)
            folder = cls(path)
            (path / "checkpoints").mkdir(exist_ok=True)
        except NotADirectoryError as error:
            raise InputError(f"{path}: is not a folder") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        if begun(path):  # by another process, while this one waited for the lock
            folder.close()
            raise InputError(f"{path}: exists and is not empty; to continue: engine resume")
        write_text(path / "scenario.toml", scenario_text)
        record = {
            **resolved,
            "versions": versions(),
            "host": platform.machine(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
            "scenario_sha256": sha256(path / "scenario.toml"),
        }
        folder.write_resolved(record)
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run folder to continue it; its fixed files are verified.

        Raises:
            InputError: not a run folder.
            DamagedFileError: a fixed file is not what was written.
        """
        if not begun(path):
            if path.is_dir() and any(path.iterdir()) and _vacant(path):
                raise InputError(
                    f"{path}: the run was stopped before it began; start it again: "
                    f"engine run SCENARIO --out {path}"
                )
            raise InputError(f"{path}: not a run folder (no resolved.json)")
        refuse_links(path)
        folder = cls(path)
        try:
            record = folder.resolved
            if sha256(path / "scenario.toml") != record.get("scenario_sha256"):
                raise DamagedFileError(
                    f"{path / 'scenario.toml'}: damaged (its sha256 differs)"
                )
        except OSError as error:
            folder.close()
            raise DamagedFileError(f"{error.filename}: {error.strerror}") from error
        except BaseException:
            folder.close()
            raise
        return folder

    def _take_lock(self) -> Any:
        try:
            lock = open(self.path / "lock", "a+", encoding="utf-8")  # noqa: SIM115 - held
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            lock.close()
            raise EngineError(
                f"{self.path}: in use by {owner}; one writer at a time"
            ) from error
        with translate_os_errors(self.path / "lock"):
            lock.seek(0)
            lock.truncate()
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
        return lock

    def discard(self) -> None:
        """Remove what a run made that was refused before its first step."""
        for item in self.path.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink()
        self.path.rmdir()

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what the run was asked to do ------------------------------------------------

    @property
    def resolved(self) -> dict[str, Any]:
        """The content of ``resolved.json``.

        Raises:
            DamagedFileError: it is not what was written.
        """
        return read_resolved(self.path)

    def write_resolved(self, record: Mapping[str, Any]) -> None:
        """Write ``resolved.json`` with its own hash."""
        kept = json.loads(json.dumps({**record, "sha256": ""}, default=str))
        kept["sha256"] = own_hash(kept)
        write_text(self.path / "resolved.json", json.dumps(kept, indent=1))

    # -- events ----------------------------------------------------------------------

    def log(self, **event: Any) -> None:
        """Append one line to ``events.jsonl``."""
        path = self.path / "events.jsonl"
        line = (json.dumps(event, default=_plain) + "\n").encode()
        with translate_os_errors(path), open(path, "ab") as file:
            file.write(line)
        self._events.update(line)
        self._logged += len(line)

    def _keep_events(self, size: int, digest: str) -> None:
        """Cut off what was logged after a checkpoint.

        Raises:
            DamagedFileError: what was logged before it is not what was written.
        """
        path = self.path / "events.jsonl"
        data = path.read_bytes()[:size] if path.exists() else b""
        self._events, self._logged = hashlib.sha256(data), len(data)
        if self._events.hexdigest() != digest:
            raise DamagedFileError(f"{path}: damaged (its sha256 differs)")
        if path.exists():
            with translate_os_errors(path):
                os.truncate(path, size)

    # -- arrays ----------------------------------------------------------------------

    @property
    def store(self) -> zarr.Group:
        """The Zarr group ``data.zarr``."""
        if self._store is None:
            with translate_os_errors(self.path / STORE):
                self._store = zarr.open_group(self.path / STORE, mode="a")
        return self._store

    def put(self, name: str, values: Tensor, unit: str, long_name: str) -> None:
        """Write one whole array of the store, or replace it."""
        write_array(self.store, name, values, unit, long_name)

    # -- checkpoints -----------------------------------------------------------------

    def save_checkpoint(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint; the two newest are kept."""
        path = self.path / "checkpoints" / f"step-{step:012d}.safetensors"
        with translate_os_errors(self.path / STORE):
            sealed, changing = self._snapshots.take()
        kept = {f"{_CHANGING}{name}": content for name, content in changing.items()}
        write_tensors(path, {**tensors, **kept})
        record = {
            "step": step,
            "sha256": sha256(path),
            "events": [self._logged, self._events.hexdigest()],
            "sealed": sealed,
            "extra": dict(extra or {}),
        }
        text = json.dumps(record, default=_plain)
        check = hashlib.sha256(text.encode()).hexdigest()
        write_text(path.with_suffix(".json"), f"{text}\n{check}\n")
        for old in self._checkpoint_records()[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def _checkpoint_records(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step-*.json"))

    def newest_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint as it is, to read a finished run.

        Raises:
            DamagedFileError: as of :meth:`load_checkpoint`.
        """
        records = self._checkpoint_records()
        return _read_checkpoint(records[-1], records)[0] if records else None

    def load_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint, or None in a fresh folder.

        Events and arrays are put back to what they were then: the run will write the rest
        again.

        Raises:
            DamagedFileError: its content, or a file that it relies on, differs from its
                hash; the message names the intact checkpoint before it, which
                ``use_previous`` selects.
        """
        records = self._checkpoint_records()
        if not records:
            self.start_afresh()
            return None
        path = records[-2] if self.use_previous and len(records) > 1 else records[-1]
        checkpoint, record, changing = _read_checkpoint(path, records)
        self._store = None
        self._keep_events(*record["events"])
        with translate_os_errors(self.path / STORE):
            self._snapshots.restore(record["sealed"], changing)
            (self.path / MANIFEST).unlink(missing_ok=True)  # it speaks of what follows
        for newer in records[records.index(path) + 1 :]:
            newer.unlink()
            newer.with_suffix(".safetensors").unlink(missing_ok=True)
        return checkpoint

    def start_afresh(self) -> None:
        """Drop what a run wrote that was killed before its first checkpoint, if it was."""
        if self._checkpoint_records():
            return
        self._store = None
        self._events, self._logged = hashlib.sha256(), 0
        shutil.rmtree(self.path / STORE, ignore_errors=True)
        for name in ("events.jsonl", MANIFEST):
            (self.path / name).unlink(missing_ok=True)

    def save_frame(self, name: str, tensors: Mapping[str, Tensor]) -> Path:
        """Save the tensors of one state, for a guard's report."""
        path = self.path / f"{name}.safetensors"
        write_tensors(path, tensors)
        return path

    # -- results ---------------------------------------------------------------------

    def write_summary(self, outcome: Outcome, **more: Any) -> None:
        """Write ``summary.json``: named figures, what was checked, and how it ended."""
        record = {
            "figures": {
                name: {k: v for k, v in asdict(figure).items() if v not in (None, "")}
                for name, figure in outcome.figures.items()
            },
            "checks": [
                {**asdict(check), "passed": check.passed, "sentence": check.sentence}
                for check in outcome.checks
            ],
            "unchecked": dict(outcome.unchecked),
            **more,
        }
        write_text(self.path / "summary.json", json.dumps(record, indent=1, default=_plain))

    def write_manifest(self) -> None:
        """Record size and sha256 of every file of the run folder."""
        entries = {
            str(path.relative_to(self.path)): {
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
            }
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.name not in (MANIFEST, "lock")
        }
        write_text(self.path / MANIFEST, json.dumps({"files": entries}, indent=1))


_CHANGING = "file:"
"""Begins the name of a tensor that holds the bytes of a file."""


def _read_checkpoint(
    path: Path, records: list[Path]
) -> tuple[Checkpoint, dict[str, Any], dict[str, Tensor]]:
    """Return a checkpoint, its record, and the files that it holds."""
    data = path.with_suffix(".safetensors")
    earlier = records[records.index(path) - 1] if records.index(path) > 0 else None
    remedy = (
        f"; the one before it ({earlier.stem}) is intact: engine resume --previous"
        if earlier
        else ""
    )
    try:
        text, check, _ = path.read_text(encoding="utf-8").split("\n")
        if hashlib.sha256(text.encode()).hexdigest() != check:
            raise ValueError("the record's own hash differs")
        record = json.loads(text)
        intact = sha256(data) == record["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path}: damaged or incomplete{remedy}") from error
    if not intact:
        raise DamagedFileError(f"{data}: damaged (its sha256 differs){remedy}")
    tensors = read_tensors(data)
    changing = {
        name.removeprefix(_CHANGING): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(_CHANGING)
    }
    return Checkpoint(record["step"], tensors, record["extra"]), record, changing


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, each where torch's own would begin in memory.

    In the file they begin at any eighth byte, and products of matrices that begin there
    are rounded otherwise: a run that goes on would end with other last digits.

    Raises:
        safetensors.SafetensorError, OSError: the file is missing or damaged.
    """
    return {name: kept.clone() for name, kept in safetensors.torch.load_file(path).items()}


def _plain(value: Any) -> Any:
    """Convert tensors and paths for JSON."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if hasattr(value, "item"):
        return value.item()
    return str(value)
