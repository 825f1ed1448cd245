"""Size limits of input files, also of what compressed ones unpack to."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import InputError

LARGEST = 4 << 30
"""Bytes, packed or unpacked, that an input file may have."""

_PACKED: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def check_file_size(path: Path, largest: int = LARGEST) -> None:
    """Refuse a file that is too large, also when only its unpacked content is.

    Packed text is unpacked piece by piece and counted, at most ``largest`` bytes of it.

    Raises:
        InputError: too large, or damaged.
    """
    try:
        size = path.stat().st_size
        if path.suffix in _PACKED:
            size = max(size, _unpacked(path, largest))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(entry.file_size for entry in archive.infolist()))
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: damaged or not readable: {error}") from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path}: damaged archive: {error}") from error
    if size > largest:
        raise InputError(f"{path}: unpacks to more than {largest} bytes, refused unread")
    stem = path.with_suffix("") if path.suffix in _PACKED else path
    if stem.suffix in (".xyz", ".extxyz"):
        _refuse_missing_atoms(path, size)


def _refuse_missing_atoms(path: Path, size: int) -> None:
    """Refuse xyz files that announce more atoms than they hold.

    ASE would count on to the number announced, for hours at the end of the file.
    """
    with _PACKED.get(path.suffix, open)(path, "rb") as file:
        number = 1
        while header := file.readline():
            try:
                atoms = int(header)
            except ValueError:
                return  # not a header: the reader says what is wrong
            if not 0 <= atoms <= size:
                raise InputError(f"{path}: line {number} announces {atoms} atoms")
            for _ in range(atoms + 1):
                if not file.readline():
                    raise InputError(
                        f"{path}: ends before the {atoms} atoms of line {number}"
                    )
            number += atoms + 2


def _unpacked(path: Path, largest: int) -> int:
    size = 0
    with _PACKED[path.suffix](path, "rb") as file:
        while size <= largest and (piece := file.read(1 << 20)):
            size += len(piece)
    return size
