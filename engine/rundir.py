"""The run folder: what a run writes, and what it can be resumed from.

``scenario.toml`` as given, ``resolved.json`` with every default, ``events.jsonl``,
``data.zarr``, ``checkpoints/``, ``summary.json``, ``manifest.json`` with the sha256 of
every file. One writer at a time. Files are written to a temporary name, synced and moved,
so a kill at any moment leaves the old file or the new one, never half of one.
"""

import datetime
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import zarr
from torch import Tensor

from .errors import DamagedFileError, EngineError, InputError
from .protocols import Outcome

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


def sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class RunFolder:
    """A run folder that is open for writing; use :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = self._take_lock()
        self._store: zarr.Group | None = None
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
            if path.exists() and any(path.iterdir()):
                raise InputError(
                    f"{path}: exists and is not empty; to continue: engine resume"
                )
            path.mkdir(parents=True, exist_ok=True)
            (path / "checkpoints").mkdir()
        except NotADirectoryError as error:
            raise InputError(f"{path}: is not a folder") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        folder = cls(path)
        write_text(path / "scenario.toml", scenario_text)
        record = {
            **resolved,
            "versions": versions(),
            "host": platform.machine(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
        }
        write_text(path / "resolved.json", json.dumps(record, indent=1, default=str))
        folder.write_manifest()
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run folder to continue it; its fixed files are verified.

        Raises:
            InputError: not a run folder.
            DamagedFileError: a file differs from the manifest.
        """
        if not (path / "resolved.json").is_file():
            raise InputError(f"{path}: not a run folder (no resolved.json)")
        folder = cls(path)
        try:
            verify(path, ("scenario.toml", "resolved.json"))
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
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        return lock

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
        """The content of ``resolved.json``."""
        return json.loads((self.path / "resolved.json").read_text(encoding="utf-8"))

    # -- events ----------------------------------------------------------------------

    def log(self, **event: Any) -> None:
        """Append one line to ``events.jsonl``."""
        path = self.path / "events.jsonl"
        with translate_os_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event, default=_plain) + "\n")

    # -- arrays ----------------------------------------------------------------------

    @property
    def store(self) -> zarr.Group:
        """The Zarr group ``data.zarr``."""
        if self._store is None:
            with translate_os_errors(self.path / "data.zarr"):
                self._store = zarr.open_group(self.path / "data.zarr", mode="a")
        return self._store

    def put(self, name: str, values: Tensor, unit: str, long_name: str) -> None:
        """Write one whole array of the store, or replace it."""
        array = self.store.create_array(name, data=values.numpy(), overwrite=True)
        array.attrs["unit"], array.attrs["long_name"] = unit, long_name

    # -- checkpoints -----------------------------------------------------------------

    def save_checkpoint(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint; the two newest are kept."""
        path = self.path / "checkpoints" / f"step-{step:012d}.safetensors"
        write_tensors(path, tensors)
        events = self.path / "events.jsonl"
        record = {
            "step": step,
            "sha256": sha256(path),
            "events_bytes": events.stat().st_size if events.exists() else 0,
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

    def load_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint, or None in a fresh folder.

        Events logged after it are dropped: the run will log them again.

        Raises:
            DamagedFileError: its content differs from its hash; the message names the
                intact one before it, which ``use_previous`` selects.
        """
        records = self._checkpoint_records()
        if not records:
            self._start_afresh()
            return None
        path = records[-2] if self.use_previous and len(records) > 1 else records[-1]
        checkpoint, events_bytes = _read_checkpoint(path, records)
        for newer in records[records.index(path) + 1 :]:
            newer.unlink()
            newer.with_suffix(".safetensors").unlink(missing_ok=True)
        events = self.path / "events.jsonl"
        if events.exists():
            os.truncate(events, min(events_bytes, events.stat().st_size))
        return checkpoint

    def _start_afresh(self) -> None:
        """Drop what a run wrote that was killed before its first checkpoint."""
        self._store = None
        shutil.rmtree(self.path / "data.zarr", ignore_errors=True)
        (self.path / "events.jsonl").unlink(missing_ok=True)

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
            if path.is_file() and path.name not in ("manifest.json", "lock")
        }
        write_text(self.path / "manifest.json", json.dumps({"files": entries}, indent=1))


def verify(path: Path, names: tuple[str, ...] | None = None) -> int:
    """Compare the files of a finished run folder with its manifest; return how many.

    Args:
        path: the run folder.
        names: only these files; all by default.

    Raises:
        DamagedFileError: a file is missing, differs, or lies outside the folder.
    """
    try:
        files = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["files"]
        chosen = {name: files[name] for name in (names or files)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path / 'manifest.json'}: missing or damaged") from error
    for name, entry in chosen.items():
        file = (path / name).resolve()
        if not file.is_relative_to(path.resolve()):
            raise DamagedFileError(
                f"{path / 'manifest.json'}: {name} lies outside the folder"
            )
        if not file.is_file():
            raise DamagedFileError(f"{file}: missing")
        if sha256(file) != entry["sha256"]:
            raise DamagedFileError(
                f"{file}: damaged (its sha256 differs from the manifest)"
            )
    return len(chosen)


def _read_checkpoint(path: Path, records: list[Path]) -> tuple[Checkpoint, int]:
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
    tensors = safetensors.torch.load_file(data)
    return Checkpoint(record["step"], tensors, record["extra"]), record["events_bytes"]


def _plain(value: Any) -> Any:
    """Convert tensors and paths for JSON."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if hasattr(value, "item"):
        return value.item()
    return str(value)
