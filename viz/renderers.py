"""One interface to everything that has frames: atoms, fields, scalars.

The window, the live page, movies and single pictures all draw through it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..engine.errors import InputError
from . import atoms, fields, plots, render, style
from .derived import with_derived
from .look import Look
from .picture import pixels
from .record import Column, Group, Record, systems_of

if TYPE_CHECKING:
    import pyvista

Size = tuple[int, int]


class Renderer(Protocol):
    """Draws the frames of a run."""

    @property
    def group(self) -> str:
        """Name of the group whose frames are drawn."""
        ...

    def refresh(self) -> int:
        """Look for new frames; return how many there are."""
        ...

    def choices(self) -> Sequence[str]:
        """Return what can be shown: colours of atoms, names of fields."""
        ...

    def moment(self, frame: int) -> str:
        """Return the time of a frame in words."""
        ...

    def image(self, frame: int, choice: str, size: Size) -> np.ndarray:
        """Return a picture ``[height, width, 3]`` uint8."""
        ...


class AtomsRenderer:
    """Draws a trajectory: spheres by PyVista, or discs by matplotlib without GL.

    Args:
        record: the run.
        system: which system of a batch.
        look: how; the colour is chosen for every picture.
    """

    def __init__(self, record: Record, system: int = 0, look: Look | None = None) -> None:
        self.trajectory = atoms.Trajectory(record, system)
        self.group = atoms.trajectory_name(record) or ""
        self.look = look or Look()
        self._scene: atoms.Scene | None = None
        self._bounds: dict[str, tuple[float, float]] = {}

    def refresh(self) -> int:
        """Look for new frames; return how many there are."""
        return self.trajectory.refresh()

    def choices(self) -> Sequence[str]:
        """Return what the atoms can be coloured by."""
        return self.trajectory[-1].colour_choices()

    def moment(self, frame: int) -> str:
        """Return the time of a frame in words."""
        return self.trajectory[frame].label

    def plotter(self, size: Size = (800, 600)) -> "pyvista.Plotter":
        """Return the plotter that :meth:`show` draws into; GL is needed."""
        if self._scene is None:
            self._scene = atoms.Scene(render.plotter(size), self.look)
        return self._scene.plotter

    def show(self, frame: int, choice: str, size: Size = (800, 600)) -> None:
        """Put a frame into the plotter."""
        snapshot = self.trajectory[frame]
        self.plotter(size)
        assert self._scene is not None
        self._scene.look = self._look(snapshot, choice)
        self._scene.show(snapshot)

    def _look(self, snapshot: atoms.Snapshot, choice: str) -> Look:
        """Return the look; the limits of a colour bar are fixed at its first use."""
        look = replace(self.look, colour=choice or self.look.colour)
        if look.colour == "species" or look.bounds is not None:
            return look
        if look.colour not in self._bounds:
            values = snapshot.value_of(look.colour)
            self._bounds[look.colour] = look.bounds_for(values)
        return replace(look, bounds=self._bounds[look.colour])

    def image(self, frame: int, choice: str, size: Size) -> np.ndarray:
        """Return a picture ``[height, width, 3]`` uint8."""
        if render.missing():
            snapshot = self.trajectory[frame]
            return atoms.image(snapshot, self._look(snapshot, choice), size)
        self.show(frame, choice, size)
        plotter = self.plotter()
        if tuple(plotter.window_size) != tuple(size):
            plotter.window_size = list(size)  # draws, too
        else:
            plotter.render()
        return np.asarray(plotter.screenshot(return_img=True))[..., :3]


class FieldsRenderer:
    """Draws one field of a group at one moment: a profile, a map, or planes of a volume.

    Args:
        record: the run.
        group: name of the group.
        system: which problem of a batch a map shows; profiles show all.
    """

    def __init__(self, record: Record, group: str, system: int = 0) -> None:
        self._record, self.group, self._system = record, group, system
        self._group = with_derived(record.groups()[group], record.scenario)

    def refresh(self) -> int:
        """Look for new frames; return how many there are."""
        group = self._record.group(self.group)
        if group is not None:
            self._group = with_derived(group, self._record.scenario)
        return max(1, self._group.frames)

    def choices(self) -> Sequence[str]:
        """Return the names of the fields."""
        return [column.name for column, _ in drawable(self._group)]

    def moment(self, frame: int) -> str:
        """Return the time of a frame in words."""
        time = self._group.time()
        if time is None:
            return f"frame {frame}"
        return f"{time.name} {float(time.array[frame]):.4g} {time.unit}".strip()

    def image(self, frame: int, choice: str, size: Size) -> np.ndarray:
        """Return a picture ``[height, width, 3]`` uint8."""
        found = {column.name: (column, layout) for column, layout in drawable(self._group)}
        if choice not in found:
            raise InputError(f"{choice}: no such field; allowed: {', '.join(found)}")
        column, layout = found[choice]
        with style.styled():
            if len(layout.space) == 3:
                inches = size[0] / 100, size[1] / 100
                made = fields.volume(
                    self._group, column, layout, self._system, frame, inches
                )
                made.suptitle(self.moment(frame), x=0.02, ha="left")
                return pixels(made)
            made = style.figure(size[0] / 100, size[1] / 100)
            axes = made.add_subplot()
            if len(layout.space) == 2:
                fields.plane_map(axes, self._group, column, layout, self._system, frame)
            else:
                plots.draw(axes, fields.profile(self._group, column, layout, frame))
                axes.set_ylim(*self._span(column))
            axes.set_title(self.moment(frame), loc="left")
            return pixels(made)

    def _span(self, column: Column) -> tuple[float, float]:
        """Return common ends of the ordinate, so that the axes of a movie stay fixed."""
        ends = np.asarray(column.array[:: max(1, column.shape[0] // 8)], float)
        finite = ends[np.isfinite(ends)]
        low, high = (
            (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        )
        margin = 0.06 * (high - low) or 0.5
        return low - margin, high + margin


class NumbersRenderer:
    """Draws the scalars that a run has reported so far."""

    group = ""

    def __init__(self, record: Record) -> None:
        self._record = record

    def refresh(self) -> int:
        """Return 1: there is one picture, which grows."""
        return 1

    def choices(self) -> Sequence[str]:
        """Return the names of the numbers."""
        return [plot.y for plot in self._plots()]

    def moment(self, frame: int) -> str:
        """Return the current step."""
        steps = self._record.events().get("step")
        return f"step {int(steps[-1])}" if steps is not None and len(steps) else "no events"

    def image(self, frame: int, choice: str, size: Size) -> np.ndarray:
        """Return a picture ``[height, width, 3]`` uint8."""
        return self.curve(choice, size)

    def curve(self, choice: str, size: Size, moment: float | None = None) -> np.ndarray:
        """Return the picture of one number over time, with a moment marked."""
        found = {plot.y: plot for plot in self._plots()}
        with style.styled():
            made = style.figure(size[0] / 100, size[1] / 100)
            axes = made.add_subplot()
            if choice in found:
                plots.draw(axes, found[choice])
                if moment is not None:
                    axes.axvline(moment, color=style.REFERENCE, lw=1.0)
            else:
                axes.set_title("nothing was reported yet")
            return pixels(made)

    def _plots(self) -> list[plots.Plot]:
        record, scenario = self._record, self._record.scenario
        kind, systems = str(scenario.get("kind", "")), systems_of(scenario)
        return plots.observables(record.events(), record.attributes(), kind, systems)


def drawable(group: Group) -> list[tuple[Column, fields.Layout]]:
    """Return the fields of a group that one picture per moment can show."""
    found = []
    for column in group.quantities():
        layout = fields.Layout.of(group, column)
        if layout is None or 0 in column.shape or layout.velocity:
            continue
        if layout.frame is not None and len(layout.space) in (1, 2, 3):
            found.append((column, layout))
    return found


def renderer_of(
    record: Record, system: int = 0, look: Look | None = None
) -> "AtomsRenderer | FieldsRenderer | NumbersRenderer":
    """Return what draws a run: its atoms, or else its fields, or else its numbers."""
    if atoms.trajectory_name(record) is not None:
        return AtomsRenderer(record, system, look)
    own = sorted(record.groups().items(), key=lambda item: item[0] != "fields")
    for name, group in own:
        if drawable(group):
            return FieldsRenderer(record, name, system)
    return NumbersRenderer(record)
