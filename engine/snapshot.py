"""What a checkpoint remembers of the other files of its run folder.

A chunk of ``data.zarr`` that is full never changes again: it is *sealed*, and the
checkpoint keeps its size and sha256. Whatever may still change (the metadata, chunks that
are not full, arrays that are written as a whole) is kept in the checkpoint itself. So the
store can be put back exactly as it was, and damage to any sealed file is noticed.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import DamagedFileError, InputError
from .manifest import STORE, sha256

_SEALED_PATTERNS = ("rounds/*.safetensors", "samples.extxyz")
"""Files that are written once, besides the full chunks of the store; labels carry a hash
of their own."""
_WHOLE = 1 << 16
"""Bytes up to which an array of one chunk, which may be written anew, is kept."""


@dataclass
class Snapshots:
    """Takes and restores snapshots of one run folder.

    Attributes:
        path: the run folder.
        known: sealed files -> modification time, size and hash, so that none is read twice.
    """

    path: Path
    known: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    def take(self) -> tuple[dict[str, list[Any]], dict[str, Tensor]]:
        """Return size and hash of all sealed files, and the content of the others."""
        sealed: dict[str, list[Any]] = {}
        changing: dict[str, Tensor] = {}
        for file, full in self._files():
            name = file.relative_to(self.path).as_posix()
            if full:
                sealed[name] = list(self._sealed(name, file))
            else:
                changing[name] = _content(file)
        return sealed, changing

    def _files(self) -> Iterator[tuple[Path, bool]]:
        for folder, _, names in os.walk(self.path / STORE):
            if "zarr.json" in names:
                array = _Array.read(Path(folder))
                yield Path(folder, "zarr.json"), False
                if array is not None:
                    yield from array.chunks()
        for pattern in _SEALED_PATTERNS:
            yield from ((file, True) for file in sorted(self.path.glob(pattern)))

    def _sealed(self, name: str, file: Path) -> tuple[int, str]:
        about = file.stat()
        when, size, digest = self.known.get(name, (-1, -1, ""))
        if (when, size) != (about.st_mtime_ns, about.st_size):
            with open(file, "rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
                os.fsync(opened.fileno())
            self.known[name] = (about.st_mtime_ns, about.st_size, digest)
        return about.st_size, digest

    def restore(
        self, sealed: Mapping[str, list[Any]], changing: Mapping[str, Tensor]
    ) -> None:
        """Put the store back as it was; later files of it are removed.

        Raises:
            DamagedFileError: a sealed file is missing or not what was written.
            InputError: the snapshot names a file outside the folder.
        """
        for name in (*sealed, *changing):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise InputError(f"{self.path}: a checkpoint names {name}, outside of it")
        for name, (size, digest) in sealed.items():
            file = self.path / name
            if not file.is_file():
                raise DamagedFileError(f"{file}: missing; a checkpoint relies on it")
            if file.stat().st_size != size or sha256(file) != digest:
                raise DamagedFileError(f"{file}: damaged (its sha256 differs)")
            self.known[name] = (file.stat().st_mtime_ns, size, digest)
        for folder, _, names in os.walk(self.path / STORE):
            for file in (Path(folder, name) for name in names):
                if file.relative_to(self.path).as_posix() not in sealed:
                    file.unlink()
        for name, content in changing.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.numpy().tobytes())


@dataclass(frozen=True)
class _Array:
    """Where the chunks of a Zarr array lie, and which of them are full."""

    folder: Path
    shape: tuple[int, ...]
    chunk: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> "_Array | None":
        """Return the array of a folder; None for a group."""
        about = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        if about["node_type"] != "array":
            return None
        chunk = about["chunk_grid"]["configuration"]["chunk_shape"]
        return cls(folder, tuple(about["shape"]), tuple(chunk))

    def chunks(self) -> Iterator[tuple[Path, bool]]:
        """Yield the files and whether each is sealed."""
        for parent, _, names in os.walk(self.folder / "c"):
            for file in sorted(Path(parent, name) for name in names):
                if file.suffix != ".partial":
                    yield file, self._full(file)
        if (self.folder / "c").is_file():  # an array without dimensions
            yield self.folder / "c", False

    def _full(self, file: Path) -> bool:
        row = int(file.relative_to(self.folder / "c").parts[0])
        whole = self.chunk[0] >= self.shape[0] and file.stat().st_size <= _WHOLE
        return not whole and (row + 1) * self.chunk[0] <= self.shape[0]


def _content(file: Path) -> Tensor:
    return torch.from_numpy(np.frombuffer(file.read_bytes(), np.uint8).copy())


__all__ = ["Snapshots"]
