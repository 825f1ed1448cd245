"""Read-only access to a run folder, also while the run still writes.

What is drawn by default follows from a few attributes of the arrays in ``data.zarr``:

* ``unit``, ``long_name``, ``axes`` (one name per dimension; a one-dimensional array of
  that name in the same group is the coordinate), ``labels`` (names along the first axis
  that is not frames: systems, models, initial conditions);
* ``NAME_exact`` or ``NAME_reference`` is the reference of ``NAME``, ``NAME_error`` one
  standard error;
* on a group: ``title``, ``caption`` and ``plot``: ``"lines"``, ``"log"``, ``"loglog"``,
  ``"scatter"``, ``"matrix"``, ``"parity"`` or ``"hidden"``.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..engine.errors import DamagedFileError, InputError
from ..engine.manifest import MANIFEST, STORE, refuse_damage
from ..engine.resolved import begun, read_resolved, read_summary, refuse_links
from ..engine.schema.base import locate
from .solids import masked
from .style import unit_of

COORDINATES = (
    "r", "x", "y", "z", "v", "vx", "vy", "angle", "theta", "frequency", "q", "k", "lag",
    "knudsen", "epoch", "round",
)  # fmt: skip
"""Names that are taken for a coordinate where ``axes`` is not given."""

REFERENCES = ("_exact", "_reference")
TRACES = ("step", "time")
_FIRST = ("before", "initial", "first", "solution", "reference")


DRAWN = (STORE, "events.jsonl", "summary.json", "train.extxyz", "test.extxyz")
"""Files and folders of a run that pictures are made of."""

_NOT_AS_WRITTEN = (
    AttributeError, ArithmeticError, LookupError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What readers of arrays and JSON raise where a file is not what was written."""


def refuse_targets(*targets: Path | None) -> None:
    """Refuse files that cannot be written where they are asked for, before drawing.

    Raises:
        InputError: a folder, or in a folder that is not there.
    """
    for target in targets:
        if target is not None and not target.parent.is_dir():
            raise InputError(f"{target}: {target.parent} is not a folder")
        if target is not None and target.is_dir():
            raise InputError(f"{target}: is a folder")


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Name the folder whose content is not what a run writes.

    Raises:
        DamagedFileError: in place of the error that such content leads to.
    """
    try:
        yield
    except _NOT_AS_WRITTEN as error:
        if os.environ.get("SCALEBRIDGE_DEBUG"):
            raise
        said = " ".join(str(error).split())[:200]
        raise DamagedFileError(
            f"{path}: holds what no run wrote ({type(error).__name__}: {said})"
        ) from error


@dataclass(frozen=True)
class Column:
    """One array of a run's store, not loaded before it is sliced.

    Attributes:
        name: name within its group.
        array: the Zarr array, or a NumPy array.
        unit: unit of the values, empty when dimensionless.
        long_name: what it is, in words.
        axes: one name per dimension, empty strings where unknown.
        labels: names along the first axis that is not frames.
    """

    name: str
    array: Any
    unit: str = ""
    long_name: str = ""
    axes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.array.shape)

    @property
    def values(self) -> np.ndarray:
        """All values, loaded."""
        return np.asarray(self.array[...])

    @property
    def title(self) -> str:
        """Name in words, with the unit in brackets."""
        text = self.long_name or self.name.replace("_", " ")
        return f"{text} [{self.unit}]" if self.unit else text


@dataclass(frozen=True)
class Group:
    """The arrays of one group of the store, and its attributes."""

    name: str
    columns: Mapping[str, Column]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Title of its picture."""
        return str(self.attributes.get("title") or self.name.replace("_", " "))

    @property
    def plot(self) -> str:
        """The kind of plot; empty for the default."""
        return str(self.attributes.get("plot", ""))

    @property
    def frames(self) -> int:
        """Number of frames that a writer recorded, 0 where there are none."""
        return next((self.columns[n].shape[0] for n in TRACES if n in self.columns), 0)

    def reference(self, name: str) -> Column | None:
        """Return the exact or reference partner of an array."""
        for ending in REFERENCES:
            if name + ending in self.columns:
                return self.columns[name + ending]
        return None

    def error(self, name: str) -> Column | None:
        """Return the standard error of an array."""
        return self.columns.get(name + "_error")

    def time(self) -> Column | None:
        """Return the coordinate of the frames."""
        for name in ("time", "step"):
            column = self.columns.get(name)
            if column is not None and len(np.unique(column.values)) > 1:
                return column
        return None

    def quantities(self) -> list[Column]:
        """Return what is to be drawn: no coordinates, references, errors."""
        axes = {axis for column in self.columns.values() for axis in column.axes}
        return [
            column
            for name, column in self.columns.items()
            if name not in TRACES
            and name not in axes
            and not self._is_partner(name)
            and np.issubdtype(np.dtype(column.array.dtype), np.number)
        ]

    def _is_partner(self, name: str) -> bool:
        for ending in (*REFERENCES, "_error"):
            stem = name.removesuffix(ending)
            if stem != name and stem in self.columns:
                return True
        return False


class Record:
    """A run folder, read.

    Args:
        path: the run folder, of a finished, failed or running job.

    Raises:
        InputError: not a run folder.
        DamagedFileError: a file that is drawn is missing or not what the run wrote.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not begun(self.path):
            raise InputError(f"{self.path}: not a run folder (no resolved.json)")
        refuse_links(self.path)
        self.resolved = _with_files(read_resolved(self.path))
        """The scenario with every default, command and versions."""
        self._vouched = -1
        self._refuse_damage()

    def _refuse_damage(self) -> None:
        """Compare what is drawn with what the run wrote, and again once it has ended."""
        try:
            ended = (self.path / MANIFEST).stat().st_mtime_ns
        except OSError:
            ended = 0
        if ended != self._vouched:
            refuse_damage(self.path, *DRAWN)
            self._vouched = ended

    @property
    def scenario(self) -> dict[str, Any]:
        """The scenario with every default."""
        found = self.resolved.get("scenario")
        return found if isinstance(found, dict) else {}

    @property
    def summary(self) -> dict[str, Any]:
        """Figures, verdicts, exit status and wall time; empty while the run continues.

        Raises:
            DamagedFileError: it is not what a run writes.
        """
        return read_summary(self.path)

    @property
    def title(self) -> str:
        """Title of the run."""
        return str(
            self.scenario.get("title") or self.resolved.get("name") or self.path.name
        )

    def events(self) -> dict[str, np.ndarray]:
        """Return the columns of ``events.jsonl``, one row per event that has a step.

        Values that an event lacks are NaN; a half-written last line is left out.
        """
        rows = self.rows()
        columns = {}
        for name in dict.fromkeys(key for row in rows for key in row):
            column = _column([row.get(name) for row in rows])
            if column is not None:
                columns[name] = column
        return columns

    def rows(self) -> list[dict[str, Any]]:
        """Return the events of ``events.jsonl`` that have a step, as they were written."""
        rows = []
        try:
            lines = (self.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), (int, float)):
                rows.append(row)
        return rows

    def store(self) -> zarr.Group | None:
        """Open ``data.zarr`` afresh, so that new frames are seen; None if there is none."""
        self._refuse_damage()
        path = self.path / STORE
        try:
            return zarr.open_group(path, mode="r") if path.is_dir() else None
        except (OSError, ValueError, KeyError):
            return None

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the whole store."""
        store = self.store()
        return dict(store.attrs) if store is not None else {}

    def groups(self) -> dict[str, Group]:
        """Return all groups that hold arrays, by path (``""`` at the top)."""
        store = self.store()
        if store is None:
            return {}
        found: dict[str, Group] = {}
        _collect(store, "", found)
        return {name: with_grid(group, self.scenario) for name, group in found.items()}

    def group(self, name: str) -> Group | None:
        """Return one group, None if it is not there (yet)."""
        store = self.store()
        if store is None or name not in store:
            return None
        node = store[name]
        if not isinstance(node, zarr.Group):
            return None
        return with_grid(_read(node, name), self.scenario)


def _with_files(resolved: dict[str, Any]) -> dict[str, Any]:
    """Return what ``resolved.json`` says, with the files of solids found."""
    scenario = resolved.get("scenario")
    for solid in (scenario.get("solids") if isinstance(scenario, dict) else None) or ():
        if "path" in solid["shape"]:
            path = Path(solid["shape"]["path"])
            solid["shape"]["path"] = str(locate(path, Path(resolved["base"])))
    return resolved


def _column(values: list[Any]) -> np.ndarray | None:
    """Return numbers as an array ``[rows]`` or ``[rows, systems]``, others as None."""
    lengths = {len(v) for v in values if isinstance(v, list)}
    if not lengths:
        plain = [v if isinstance(v, (int, float)) else np.nan for v in values]
        return np.array(plain, float) if not np.all(np.isnan(plain)) else None
    if len(lengths) > 1:
        return None
    empty = [np.nan] * lengths.pop()
    try:
        array = np.array([v if isinstance(v, list) else empty for v in values], float)
    except (TypeError, ValueError):
        return None
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _collect(node: zarr.Group, name: str, found: dict[str, Group]) -> None:
    group = _read(node, name)
    if group.columns:
        found[name] = group
    for child, inner in node.groups():
        _collect(inner, f"{name}/{child}".lstrip("/"), found)


def _read(node: zarr.Group, name: str) -> Group:
    arrays = dict(node.arrays())
    columns = {}
    for key in sorted(arrays, key=lambda name: (name not in _FIRST, name)):
        array = arrays[key]
        attributes = dict(array.attrs)
        columns[key] = Column(
            key,
            array,
            unit_of(attributes.get("unit", "")),
            str(attributes.get("long_name", "")),
            _axes(key, array, attributes, arrays),
            _strings(attributes.get("labels")),
        )
    return Group(name, columns, dict(node.attrs))


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, (list, tuple)) else ()


def _axes(
    name: str, array: Any, attributes: Mapping[str, Any], arrays: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the names of an array's axes: as given, or inferred from lengths."""
    told = attributes.get("axes")
    if isinstance(told, (list, tuple)) and len(told) in (array.ndim, array.ndim - 1):
        names = [str(axis) for axis in told]
        if len(names) < array.ndim:
            names.insert(0, "frame")
        return tuple(
            "frame" if axis in ("frames", "time", "step") else axis for axis in names
        )
    if name in TRACES or name in COORDINATES:
        return ("",) * array.ndim
    frames = next((arrays[n].shape[0] for n in TRACES if n in arrays), 0)
    guessed: list[str] = []
    for position, length in enumerate(array.shape):
        if position == 0 and frames and length == frames:
            guessed.append("frame")
            continue
        fitting = (
            c
            for c in COORDINATES
            if c in arrays and c not in guessed and arrays[c].shape[-1] == length
        )
        guessed.append(next(fitting, ""))
    return tuple(guessed)


# -- fields of a gas ---------------------------------------------------------------------


def with_grid(group: Group, scenario: Mapping[str, Any]) -> Group:
    """Return the fields of a gas with their grid, which the scenario defines.

    Fields are ``[frames, batch, *cells, components]``, or without frames; the batch are the
    Knudsen numbers.
    """
    grid = scenario.get("grid")
    if scenario.get("kind") != "gas" or not isinstance(grid, Mapping):
        return group
    cells = [int(n) for n in grid.get("cells", ())]
    columns = dict(group.columns)
    frames = group.frames
    labels = systems_of(scenario)
    for name, column in group.columns.items():
        if column.axes == tuple("xyz"[: len(cells)]) and column.shape == tuple(cells):
            whole = masked(column.array, 0, column.shape, scenario)
            columns[name] = replace(column, array=whole)
            continue
        lead = 1 + bool(frames)
        inner = column.shape[lead : lead + len(cells)]
        refined = [n // c if c else 0 for n, c in zip(inner, cells, strict=False)]
        if name in TRACES or len(inner) < len(cells) or len(set(refined)) != 1:
            continue
        if not refined[0] or tuple(refined[0] * c for c in cells) != inner:
            continue
        rest = len(column.shape) - lead - len(cells)
        axes = (
            *(("frame",) if frames else ()),
            "batch",
            *"xyz"[: len(cells)],
            *("component",) * rest,
        )
        columns[name] = replace(
            column,
            array=masked(column.array, lead, inner, scenario),
            axes=axes,
            labels=labels if len(labels) == column.shape[lead - 1] else (),
        )
        for axis, low, high, count in zip(
            "xyz", grid.get("lower", ()), grid.get("upper", ()), inner, strict=False
        ):
            width = (high - low) / count
            centres = low + width * (np.arange(count) + 0.5)
            columns.setdefault(axis, Column(axis, centres, "L", axes=("",)))
    return replace(group, columns=columns)


def systems_of(scenario: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the problems of a batch, empty where they have none."""
    knudsen = scenario.get("knudsen")
    euler = (scenario.get("model") or {}).get("kind") == "euler"
    if scenario.get("kind") != "gas" or euler or not isinstance(knudsen, (list, tuple)):
        return ()
    return tuple(f"Kn {_short(kn)}" for kn in knudsen)


def _short(value: float) -> str:
    return f"{value:.4g}".replace("e-0", "e-")
