"""Size limits of input files, also of what compressed ones unpack to."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

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


def opened(path: Path) -> IO[bytes]:
    """Open a file, packed or not, to read bytes."""
    return _PACKED.get(path.suffix, open)(path, "rb")


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text in UTF-8, with or without a byte order mark.

    Raises:
        InputError: it is not UTF-8; names the line.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{path}: line {number} is not UTF-8: {error}") from error


def _unpacked(path: Path, largest: int) -> int:
    size = 0
    with _PACKED[path.suffix](path, "rb") as file:
        while size <= largest and (piece := file.read(1 << 20)):
            size += len(piece)
    return size
