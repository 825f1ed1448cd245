"""Size limits of input files, also of what compressed ones unpack to."""

import bz2
import gzip
import lzma
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import InputError

LARGEST = 4 << 30
"""Bytes, packed or unpacked, that an input file may have."""

SMALL = 64 << 20
"""Unpacked bytes that are read whatever they were packed into."""

RATIO = 200
"""Packed data of computations shrinks 3 to 20 times, never this often."""

_PACKED: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def check_file_size(path: Path, largest: int = LARGEST) -> None:
    """Refuse a file that is too large, also when only its unpacked content is.

    Packed text is unpacked piece by piece and counted, at most ``largest`` bytes of it.

    Raises:
        InputError: too large, damaged, or a pipe or device, which can be read only once.
    """
    try:
        if not path.is_file() and path.exists():
            raise InputError(f"{path}: is no file, but a folder, pipe or device")
        held = size = path.stat().st_size
        if path.suffix in _PACKED:
            size = max(size, _unpacked(path, min(largest, max(SMALL, RATIO * held))))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(entry.file_size for entry in archive.infolist()))
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: damaged or not readable: {error}") from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path}: damaged archive: {error}") from error
    if size > largest:
        raise InputError(f"{path}: unpacks to more than {largest} bytes, refused unread")
    check_expansion(str(path), size, held)


def files_below(folder: Path) -> list[Path]:
    """Return all files in a folder and below it, also those behind links, in order.

    Raises:
        OSError: a folder may not be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found, chains = [], {os.path.dirname(folder): frozenset[str]()}
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        above, here = chains[os.path.dirname(place)], os.path.realpath(place)
        chains[place] = above | {here}
        if here in above:  # a link to a folder above
            folders.clear()
        else:
            found += [Path(place, name) for name in names]
    return sorted(found)


def number_of(word: str) -> float:
    """Return the number that a word is, or NaN.

    Python takes ``1_000`` and digits of other scripts for numbers, too; no other program
    that wrote a file does.
    """
    try:
        return float(word) if word.isascii() and "_" not in word else math.nan
    except ValueError:
        return math.nan


_BREAKS = re.compile(r"[\s,;=:\"'(){}\[\]]+")


def loose_number(text: str) -> str | None:
    """Return the first word of a text that Python alone takes for a number, if any."""
    if "_" not in text and text.isascii():
        return None
    for word in _BREAKS.split(text):
        try:
            float(word)
        except ValueError:
            continue
        if math.isnan(number_of(word)) and word.lower().strip("+-") != "nan":
            return word
    return None


def check_expansion(name: str, size: int, held: int) -> None:
    """Refuse ``size`` bytes that are stored in so few that they can hardly be data.

    Raises:
        InputError: more than :data:`RATIO` times what the file holds, and not small.
    """
    if size > SMALL and size > RATIO * held:
        raise InputError(
            f"{name}: {held} bytes unpack to more than {RATIO} times as many, refused "
            "unread; if that is right, store it unpacked"
        )


def opened(path: Path) -> IO[bytes]:
    """Open a file, packed or not, to read bytes."""
    return _PACKED.get(path.suffix, open)(path, "rb")


def text_lines(path: Path, longest: int = LARGEST) -> Iterator[str]:
    """Yield the lines of a text in UTF-8, with or without a byte order mark.

    Args:
        path: the file, packed or not.
        longest: bytes that a line may have; no more are read at once.

    Raises:
        InputError: it is not UTF-8, or a line is too long; names the line.
    """
    with opened(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(longest), b""), start=1):
            if len(line) == longest:
                raise InputError(f"{path}: line {number} has {longest} bytes or more")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                reason = f"{error.reason} at byte {error.start + 1}"
                raise InputError(f"{path}: line {number} is not UTF-8: {reason}") from error


def _unpacked(path: Path, largest: int) -> int:
    size = 0
    with _PACKED[path.suffix](path, "rb") as file:
        while size <= largest and (piece := file.read(1 << 20)):
            size += len(piece)
    return size
