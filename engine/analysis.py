"""Distributions and correlations of a stored trajectory, after the run.

The parts of the section ``output`` that average while a run steps average here over the
frames that it kept, so that a result is defined in one place. Energies in between and
pressures are not kept: what needs them has to be asked for before the run.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor
from zarr.storage import MemoryStore

from . import scenario as scenarios
from .errors import InputError
from .manifest import open_store
from .md.outputs import Recorded, TimeCorrelation
from .md.state import ParticleState
from .md.units import METAL, REDUCED, Units
from .protocols import Figure
from .resolved import begun, read_resolved, refuse_links

KINDS = {"rdf": (), "adf": (), "displacement": (), "velocity": ("momenta",)}
"""What can be averaged, each with the arrays that a trajectory has only if asked for."""
_ALWAYS = ("positions", "cell", "species", "system", "periodic", "masses", "step", "time")


@dataclass(frozen=True)
class Analysis:
    """What was found.

    Attributes:
        figures: results by name, with errors from blocks.
        tables: files that were written, one for each group of curves.
        frames: how many frames entered.
    """

    figures: Mapping[str, Figure]
    tables: tuple[Path, ...]
    frames: int


@dataclass(frozen=True)
class _Memory:
    """A place for curves that is not a run folder."""

    store: Any


@dataclass(frozen=True)
class _Stored:
    """The frames of a trajectory, and what an average must know of its world."""

    arrays: Mapping[str, Any]
    species: tuple[str, ...]
    units: Units

    @property
    def start(self) -> ParticleState:
        """The first frame."""
        return self.state(0)

    @property
    def steps(self) -> np.ndarray:
        """Step of each frame."""
        return np.asarray(self.arrays["step"][:]).ravel()

    def state(self, frame: int) -> ParticleState:
        """Return the state of one frame; what was not kept is NaN."""
        found: dict[str, Any] = {
            name: torch.from_numpy(np.asarray(array[frame]))
            for name, array in self.arrays.items()
        }
        positions, cell, systems = found["positions"], found["cell"], len(found["cell"])
        if not bool(torch.isfinite(positions).all() & torch.isfinite(cell).all()):
            raise InputError(f"frame {frame}: positions or cell are not finite")
        lost = torch.full_like(positions, torch.nan)
        energy = cell.new_full((systems,), torch.nan)
        return ParticleState(
            positions=positions, momenta=found.get("momenta", lost),
            masses=found["masses"], species=found["species"], system=found["system"],
            cell=cell, periodic=found["periodic"], energy=energy,
            forces=lost, virial=torch.full_like(cell, torch.nan), anchor=positions,
            anchor_cell=cell, step=torch.full((systems,), int(found["step"])),
            seed=torch.zeros(systems, dtype=torch.int64),
        )  # fmt: skip


def analyse(
    run: Path, kind: str, settings: Sequence[str] = (), out: Path | None = None
) -> Analysis:
    """Average one kind of distribution or correlation over a run's frames.

    Args:
        run: folder of a run of molecular dynamics.
        kind: of :data:`KINDS`.
        settings: ``key=value``, of the keys of ``output.KIND``; ``every`` is the spacing of
            the frames if it is not given.
        out: folder for the tables; default ``RUN/analysis``.

    Returns:
        Figures, and CSV tables of the curves: abscissa, then a column for each curve and
        one for its standard error.

    Raises:
        InputError: no such run or kind, a key that the part lacks, frames that do not fit.
    """
    if not begun(run):
        raise InputError(f"{run}: not the folder of a run")
    refuse_links(run)
    record = read_resolved(run)
    data = dict(record["scenario"])
    if data.get("kind") != "md":
        raise InputError(
            f"{run}: kind {data.get('kind')}: only trajectories of md are analysed; "
            "engine view and engine report show the others"
        )
    if kind == "stress":
        raise InputError(
            "stress: a trajectory holds no pressures; put [output.stress] into the "
            "scenario, then run it"
        )
    if kind not in KINDS:
        raise InputError(f"{kind}: not one of {', '.join(KINDS)}")
    stored = _read(run, kind, data)
    stride = _stride(run, stored.steps)
    item, target = _part(kind, data, settings, stride, stored, Path(record["base"]))
    time_step = data["run"]["timestep"]
    recorded = item.recorded(stored, time_step, target)
    frames = _feed(stored, recorded, time_step)
    if not frames:
        raise InputError(f"{kind}: none of {len(stored.steps)} frames is in its window")
    memory = zarr.group(store=MemoryStore())
    figures: dict[str, Figure] = {}
    for each in recorded:
        figures |= each.finish(_Memory(memory), {})
    folder = run / "analysis" if out is None else out
    return Analysis(figures, tuple(_tables(memory, folder)), frames)


def _read(run: Path, kind: str, data: Mapping[str, Any]) -> _Stored:
    """Open the arrays of the trajectory."""
    try:
        group = open_store(run, "trajectory")
        present = set(group.array_keys())
        symbols = tuple(group.attrs["symbols"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{run}: no trajectory was kept (output.trajectory_every = "
            f"{data.get('output', {}).get('trajectory_every')})"
        ) from error
    missing = [name for name in (*_ALWAYS, *KINDS[kind]) if name not in present]
    if "momenta" in missing:
        raise InputError(
            f"{kind}: the frames hold no momenta; run with output.velocities = true"
        )
    if missing:
        raise InputError(f"{run}: the trajectory lacks {', '.join(missing)}")
    arrays = {name: group[name] for name in (*_ALWAYS, *KINDS[kind])}
    if len({array.shape[0] for array in arrays.values()}) > 1:
        raise InputError(f"{run}: arrays of the trajectory differ in their frames")
    return _Stored(arrays, symbols, REDUCED if data.get("units") == "lj" else METAL)


def _stride(run: Path, steps: np.ndarray) -> int:
    """Return the steps between frames, which must be evenly spaced."""
    if len(steps) < 2:
        raise InputError(f"{run}: {len(steps)} frames; at least 2 are needed")
    gaps = np.unique(np.diff(steps))
    if len(gaps) > 1:
        raise InputError(
            f"{run}: frames are {gaps[0]} to {gaps[-1]} steps apart; averages need one "
            "spacing"
        )
    return int(gaps[0])


def _part(
    kind: str,
    data: dict[str, Any],
    settings: Sequence[str],
    stride: int,
    stored: _Stored,
    base: Path,
) -> tuple[Any, Any]:
    """Return the part of the output as the scenario would have it, and its reference."""
    several = kind in ("rdf", "adf")
    given = {"every": stride}
    place = f"output.{kind}.0." if several else f"output.{kind}."
    data["output"] = {kind: [given] if several else given}
    data = scenarios.override(data, [place + setting for setting in settings])
    scenario: Any = scenarios.parse(data, f"analysis of {kind}")
    ((key, item),) = scenario.output.sampled()
    if item.every % stride:
        raise InputError(
            f"{key}.every = {item.every}: the frames are {stride} steps apart; a multiple "
            "of that"
        )
    closed = bool(stored.start.periodic.all())
    target = item.check(key, closed, base)
    if cut := item.cut(key, int(stored.steps[-1])):
        if isinstance(item, TimeCorrelation):
            raise InputError(f"{cut}; set samples below {len(stored.steps)}")
        if "left out" in cut:
            raise InputError(cut)
    return item, target


def _feed(stored: _Stored, recorded: Sequence[Recorded], time_step: float) -> int:
    """Write every frame that is wanted to the averages; return how many were."""
    count = 0
    for frame, step in enumerate(stored.steps.tolist()):
        wanted = [each for each in recorded if each.trigger(step)]
        if not wanted:
            continue
        state, observed = stored.state(frame), dict[str, Tensor]()
        for each in wanted:
            each.writer.write(step, step * time_step, state, observed)
        count += 1
    return count


def _tables(store: Any, folder: Path) -> Iterator[Path]:
    """Write each group of curves as a table and yield its path."""
    for name, group in sorted(store.groups()):
        columns = dict(group.arrays())
        axis = next(iter(columns.values())).metadata.dimension_names[0]
        ordered = [axis, *sorted(key for key in columns if key != axis)]
        units = [columns[key].attrs.get("unit", "") for key in ordered]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(f"# units: {', '.join(unit or '1' for unit in units)}\n")
            writer = csv.writer(file)
            writer.writerow(ordered)
            writer.writerows(zip(*(columns[key][:] for key in ordered), strict=True))
        yield path


__all__ = ["KINDS", "Analysis", "analyse"]
