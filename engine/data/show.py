"""What ``engine data`` prints."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from ..errors import InputError
from ..scenario import override
from .examination import examine
from .keys import LabelKeys
from .reading import read
from .table import Row, outliers, rows

_MOST = 20
"""Sentences about what stands out that are printed."""


def show(files: Sequence[Path], settings: Sequence[str], console: Console) -> None:
    """Print what the files hold, group by group, and what stands out.

    Args:
        files: files or folders of labelled frames.
        settings: ``key=value`` pairs of :class:`~.keys.LabelKeys`.
        console: where to.

    Raises:
        InputError: a file cannot be read, a setting is unknown, or the labels are such
            that nothing can be trained on them; one line each.
    """
    keys = keys_of(settings)
    found = examine([read(path, keys) for path in files])
    frames = found.frames
    said = "\n".join(found.said)
    console.print(said, highlight=False, markup=False, soft_wrap=True)
    console.print(table(rows(frames)))
    strange = list(outliers(frames))
    for text in strange[:_MOST]:
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if len(strange) > _MOST:
        console.print(f"... and {len(strange) - _MOST} more that stand out")
    if not strange and not found.refused:
        console.print("nothing else stands out")
    if found.refused:
        raise InputError("\n".join(found.refused))


def keys_of(settings: Sequence[str]) -> LabelKeys:
    """Return the keys that ``key=value`` pairs give.

    Raises:
        InputError: an unknown key or a value that is not allowed; one line each.
    """
    try:
        return LabelKeys.model_validate(override({}, settings))
    except ValidationError as error:
        said = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        names = ", ".join(LabelKeys.model_fields)
        raise InputError("\n".join([*said, f"the keys are {names}"])) from error


def table(found: Sequence[Row]) -> Table:
    """Return the groups as a table."""
    shown = Table(box=None, pad_edge=False)
    for name, side in (
        ("group", "left"), ("frames", "right"), ("atoms", "right"), ("of", "left"),
        ("eV/atom", "right"), ("+-", "right"), ("rms eV/Å", "right"),
        ("largest", "right"), ("nearest Å", "right"), ("GPa", "right"),
    ):  # fmt: skip
        shown.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for row in found:
        low, high = row.atoms
        shown.add_row(
            row.group, str(row.frames), str(low) if low == high else f"{low}-{high}",
            " ".join(row.elements), f"{row.energy:.3f}", f"{row.spread:.3f}",
            f"{row.force:.3f}", f"{row.largest:.2f}", f"{row.nearest:.3f}",
            f"{row.pressure:.2f}",
        )  # fmt: skip
    return shown


__all__ = ["keys_of", "show", "table"]
