"""The label store: every label is kept, and none is computed twice.

A label's key is the hash of its sample and of the method that answers it. The worker that
computed a label writes it, in one atomic step, to ``KEY.safetensors``; a later request for
the same key, from any process, finds the file. While a key is being computed its lock is
held, so that a restarted controller waits for the worker of its predecessor instead of
computing the label again. Durability is here and not in a scheduler; workers need access
to the folder.

Runs may share a library: a folder of such files, where a label of the same structure and
method is found whoever computed it, and where new ones are put.
"""

import fcntl
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import DamagedFileError, EngineError
from ..protocols import Label, Labeler, Sample
from ..rundir import translate_os_errors, write_atomically, write_text

T = TypeVar("T")


class LabelError(EngineError):
    """The micro-scale model gave no usable label; the message says why."""


def _unchanged(value: T, stratum: str) -> T:
    return value


@dataclass(frozen=True)
class Codec(Generic[T]):
    """Turns an object into named tensors and back; both must be importable functions.

    Attributes:
        pack: what is written and hashed: all that decides the label, no more.
        unpack: the inverse.
        named: puts a sample read from a file back into its stratum.
    """

    pack: Callable[[T], Mapping[str, Tensor]]
    unpack: Callable[[Mapping[str, Tensor]], T]
    named: Callable[[T, str], T] = _unchanged


@dataclass(frozen=True)
class Entry(Generic[Label]):
    """A label that exists.

    Attributes:
        label: the answer.
        seconds: wall time that it took to compute.
    """

    label: Label
    seconds: float


def identity(labeler: object) -> str:
    """Return the text that names a method: its ``identity``, or kind and settings.

    It is the same in every process. A dataclass that is no part is named by its class.

    Raises:
        TypeError: the labeler is no dataclass and does not say what it is.
    """
    own = getattr(labeler, "identity", None)
    if isinstance(own, str):
        return own
    if not is_dataclass(labeler) or isinstance(labeler, type):
        raise TypeError(f"{labeler!r}: a labeler is a dataclass or has a text `identity`")
    settings = asdict(labeler)
    name = settings.pop("kind", type(labeler).__name__)
    inside = [
        type(value).__name__
        for field in fields(labeler)
        if is_dataclass(value := getattr(labeler, field.name))
    ]
    return " ".join([name, *inside, json.dumps(settings, sort_keys=True, default=_named)])


def _named(value: object) -> str:
    return getattr(value, "__qualname__", None) or str(value)


def fingerprint(tensors: Mapping[str, Tensor], method: str) -> str:
    """Return the hash of named tensors (bytes, type, shape) under a method."""
    digest = hashlib.sha256(method.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:40]


@dataclass(frozen=True)
class LabelStore(Generic[Sample, Label]):
    """The labels of one method in one folder, shared by controller and workers.

    Attributes:
        folder: of the files.
        method: what :func:`identity` returned.
        samples: how a sample is written.
        labels: how a label is written.
        library: folder that is shared with other runs; None for none.
    """

    folder: Path
    method: str
    samples: Codec[Sample]
    labels: Codec[Label]
    library: Path | None = None

    def key(self, sample: Sample) -> str:
        """Return the key of a sample's label."""
        return fingerprint(self.samples.pack(sample), self.method)

    @property
    def shared(self) -> "LabelStore[Sample, Label]":
        """The library as a store; this store without one."""
        if self.library is None:
            return self
        return replace(self, folder=self.library, library=None)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Tell whether the label exists."""
        return self._file(key).exists()

    def get(self, key: str) -> Entry[Label] | None:
        """Return the label, or None.

        Raises:
            DamagedFileError: the file does not hold what was written.
        """
        path = self._file(key)
        if not path.exists():
            return None
        remedy = "; delete this file and resume: only this label is computed again"
        try:
            with safetensors.safe_open(path, "pt") as file:
                about = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise DamagedFileError(f"{path}: damaged{remedy}") from error
        if about.get("check") != fingerprint(found, self.method):
            raise DamagedFileError(f"{path}: damaged (its hash differs){remedy}")
        tensors = {
            n.removeprefix("label."): t for n, t in found.items() if n[:6] == "label."
        }
        return Entry(self.labels.unpack(tensors), float(about["seconds"]))

    def put(self, key: str, sample: Sample, label: Label, seconds: float) -> None:
        """Write a label with its sample, whole or not at all.

        Raises:
            LabelError: a number of the label is not finite.
        """
        packed = self.labels.pack(label)
        bad = [name for name, t in packed.items() if not bool(torch.isfinite(t).all())]
        if bad:
            raise LabelError(f"the label holds non-finite numbers in {', '.join(bad)}")
        tensors = {f"sample.{n}": t for n, t in self.samples.pack(sample).items()}
        tensors |= {f"label.{n}": t for n, t in packed.items()}
        tensors = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
        about = {
            "method": self.method,
            "seconds": repr(seconds),
            "check": fingerprint(tensors, self.method),
        }
        write_atomically(
            self._file(key), lambda part: safetensors.torch.save_file(tensors, part, about)
        )

    def adopt(self, key: str) -> bool:
        """Copy a label of the library; return whether there is a sound one."""
        home = self.shared
        try:
            if home.get(key) is None:
                return False
        except DamagedFileError:
            self.note("damaged", key)  # in the library: computed anew and written over
            return False
        raw = home._file(key).read_bytes()
        write_atomically(self._file(key), lambda part: Path(part).write_bytes(raw))
        return True

    def give(self, sample: Sample, label: Label) -> None:
        """Keep a label that was there before the run."""
        key = self.key(sample)
        if not self.has(key):
            self.put(key, sample, label, 0.0)
            self.note("found", key)

    # -- failures ------------------------------------------------------------------------

    def failures(self, key: str) -> list[str]:
        """Return the reason of every failed attempt, oldest first."""
        path = self.folder / f"{key}.failed.json"
        try:
            return list(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise DamagedFileError(
                f"{path}: damaged; delete it and resume: the label is tried again"
            ) from error

    def add_failure(self, key: str, reason: str) -> int:
        """Record a failed attempt; return how many there are."""
        reasons = [*self.failures(key), reason]
        write_text(self.folder / f"{key}.failed.json", json.dumps(reasons))
        return len(reasons)

    def try_again(self, key: str) -> None:
        """Put the failures of a label aside: when it is next asked for it is tried anew."""
        path = self.folder / f"{key}.failed.json"
        if path.exists():
            path.replace(path.with_name(f"{key}.failed.{time.time_ns()}.old"))

    # -- one at a time -------------------------------------------------------------------

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a key while it is computed; the lock of a killed process is free."""
        path = self.folder / f"{key}.lock"
        with translate_os_errors(path), open(path, "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
            if self.has(key):
                path.unlink(missing_ok=True)

    def note(self, event: str, key: str) -> None:
        """Append a line to ``log.txt``: time, process, event, key."""
        path = self.folder / "log.txt"
        with translate_os_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(f"{time.time():.6f} {os.getpid()} {event} {key}\n")

    def computed(self) -> int:
        """Return how many labels were computed into this folder.

        It is there although its end was not noted where a process was killed in between.
        """
        return sum(self.has(key) for key in self._noted("begin"))

    def found(self) -> int:
        """Return how many labels were there: in the library, or given."""
        return len(self._noted("found") - self._noted("begin"))

    def _noted(self, event: str) -> set[str]:
        return {key for noted, key in self._events() if noted == event}

    def failed(self) -> int:
        """Return how many attempts failed."""
        files = [*self.folder.glob("*.failed.json"), *self.folder.glob("*.failed.*.old")]
        return sum(len(json.loads(path.read_text(encoding="utf-8"))) for path in files)

    def repeated(self) -> int:
        """Return how many computations began although their label existed: 0."""
        done: set[str] = set()
        again = 0
        for event, key in self._events():
            again += event == "begin" and key in done
            if event == "done":
                done.add(key)
        return again

    def _events(self) -> Iterator[tuple[str, str]]:
        """Yield the events and keys of the log."""
        log = self.folder / "log.txt"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        for line in text.splitlines():
            words = line.split()
            if len(words) == 4:  # else half a line: the machine went down meanwhile
                yield words[2], words[3]


_place: ContextVar[Path | None] = ContextVar("workplace", default=None)


def workplace() -> Path:
    """Return the folder in which the label of this process is being computed.

    It is ``calculations/KEY`` beside the store while the store computes, so that inputs
    and outputs of a program are kept; a new temporary folder outside.
    """
    place = _place.get()
    if place is None:
        return Path(tempfile.mkdtemp(prefix="scalebridge-label-"))
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def working_in(place: Path) -> Iterator[None]:
    """Make a folder the :func:`workplace` of what is computed inside."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def compute(
    store: LabelStore[Sample, Label], labeler: Labeler[Sample, Label], sample: Sample
) -> float:
    """Make sure that a label exists; runs in a worker.

    Args:
        store: of the labels.
        labeler: the micro-scale model.
        sample: what is labelled.

    Returns:
        Seconds that the label took; 0 if it existed here or in the library.
    """
    key, home = store.key(sample), store.shared
    with home.lock(key):
        if store.has(key):
            return 0.0
        if home is not store and store.adopt(key):
            store.note("found", key)
            return 0.0
        store.note("begin", key)
        begun = time.perf_counter()
        with working_in(store.folder.parent / "calculations" / key):
            label = labeler.label(sample)
        seconds = time.perf_counter() - begun
        home.put(key, sample, label, max(seconds, math.ulp(0.0)))
        if home is not store and not store.adopt(key):
            raise LabelError("the library does not give back what was written there")
        store.note("done", key)
    return seconds
