"""Fields: profiles with their reference, space-time, phase space, maps, isosurfaces.

Which axis of an array is what follows from its ``axes``: ``frame``, a batch (named so, or
unnamed before the first coordinate), space (``x``, ``y``, ``z``, ``r``), velocity (a name
that begins with ``v``), components (unnamed after the last coordinate).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import plots, style
from .record import Column, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CURVES = 7
MAX_FRAMES = 400
"""A space-time picture is thinned to this many moments."""

_BATCH = ("batch", "system", "systems", "model", "case", "replica")
_COMPONENT = ("component", "components", "i", "j")


@dataclass(frozen=True)
class Layout:
    """What each axis of an array is: positions of the axes.

    Attributes:
        frame: the axis of moments, None without.
        batch: the axis of independent problems, None without.
        space: axes along which it is resolved in space.
        velocity: axes along which it is resolved in velocity.
        components: axes of a vector or tensor.
    """

    frame: int | None
    batch: int | None
    space: tuple[int, ...]
    velocity: tuple[int, ...]
    components: tuple[int, ...]

    @classmethod
    def of(cls, group: Group, column: Column) -> "Layout | None":
        """Return the layout of an array, None where it cannot be told."""
        axes = column.axes
        if len(axes) != len(column.shape):
            return None
        frame = 0 if axes and axes[0] == "frame" else None
        known = [i for i, axis in enumerate(axes) if axis in group.columns]
        if not known:
            return None
        batch: int | None = None
        components: list[int] = []
        for i, axis in enumerate(axes):
            if i in known or i == frame:
                continue
            before = i < known[0] and axis not in _COMPONENT
            if (axis in _BATCH or before) and batch is None:
                batch = i
            elif axis in _COMPONENT or column.shape[i] <= 3:
                components.append(i)
            else:
                return None
        velocity = tuple(i for i in known if axes[i].startswith("v"))
        space = tuple(i for i in known if i not in velocity)
        return cls(frame, batch, space, velocity, tuple(components))


def shown_component(column: Column, layout: Layout) -> tuple[int, ...]:
    """Return the component to draw, one index per axis of components.

    Of a vector the first, unless another varies ten times as much; of a tensor the largest.
    """
    count = len(layout.components)
    if not count:
        return ()
    index: list[Any] = [slice(None)] * len(column.shape)
    if layout.frame is not None:
        index[layout.frame] = slice(-1, None)
    values = np.asarray(column.array[tuple(index)], float)
    last = np.nan_to_num(np.moveaxis(values, layout.components, range(count)))
    shape = last.shape[:count]
    flat = last.reshape(int(np.prod(shape)), -1)
    size = flat.std(1) if count == 1 else np.abs(flat).max(1)
    strongest = int(size.argmax())
    if count == 1 and size[strongest] <= 10 * size[0]:
        strongest = 0
    return tuple(int(i) for i in np.unravel_index(strongest, shape))


def take(
    column: Column,
    layout: Layout,
    frame: int = -1,
    batch: int = 0,
    component: Sequence[int] | None = None,
) -> np.ndarray:
    """Return one moment of one problem, with only axes of space and velocity left.

    Of a vector that is ``component``, or :func:`shown_component`.
    """
    if component is None:
        component = shown_component(column, layout)
    index: list[Any] = [slice(None)] * len(column.shape)
    if layout.frame is not None:
        index[layout.frame] = frame % column.shape[layout.frame]
    if layout.batch is not None:
        index[layout.batch] = min(batch, column.shape[layout.batch] - 1)
    for axis, place in zip(layout.components, component, strict=True):
        index[axis] = place
    return np.asarray(column.array[tuple(index)], float)


def coordinate(group: Group, name: str) -> np.ndarray:
    """Return the values of a coordinate; one that was written every frame is taken once."""
    values = group.columns[name].values
    return values if values.ndim == 1 else values.reshape(-1, values.shape[-1])[-1]


def title_of(column: Column, layout: Layout) -> str:
    """Return the title of the component that is drawn."""
    if not layout.components:
        return column.title
    letters = "".join("xyz"[i] for i in shown_component(column, layout))
    name = column.long_name or column.name.replace("_", " ")
    return f"{name} {letters}" + (f" [{column.unit}]" if column.unit else "")


# -- one dimension -----------------------------------------------------------------------


def profile(group: Group, column: Column, layout: Layout, frame: int = -1) -> plots.Plot:
    """Return the profile at one moment, of every problem of the batch."""
    axis = column.axes[(layout.space or layout.velocity)[0]]
    x = coordinate(group, axis)
    count = column.shape[layout.batch] if layout.batch is not None else 1
    labels = column.labels
    partner, error = group.reference(column.name), group.error(column.name)
    curves: list[plots.Curve] = []
    if count == 1 and layout.frame is not None and column.shape[layout.frame] > 1:
        first = take(column, layout, 0)
        curves.append(plots.Curve(x, first, "start", colour="#bbbbbb"))
    chosen = _chosen(count)
    for number in chosen:
        y = take(column, layout, frame, number)
        label = (
            _label(labels, number)
            if count > 1
            else (("end" if frame == -1 else "now") if curves else "")
        )
        band = _partner(group, error, frame, number)
        curves.append(plots.Curve(x, y, label, band))
        target = _partner(group, partner, frame, number)
        if partner is not None and target is not None and target.shape == y.shape:
            kind = "exact" if partner.name.endswith("_exact") else "reference"
            curves.append(
                plots.Curve(x, target, kind if number == chosen[0] else "", reference=True)
            )
    return plots.Plot(curves, group.columns[axis].title, title_of(column, layout))


def _chosen(count: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, MAX_CURVES))})


def _label(labels: Sequence[str], number: int) -> str:
    return labels[number] if number < len(labels) else str(number)


def _partner(
    group: Group, column: Column | None, frame: int, batch: int
) -> np.ndarray | None:
    if column is None:
        return None
    layout = Layout.of(group, column)
    return take(column, layout, frame, batch) if layout is not None else None


def comparison(groups: Sequence[Group], name: str) -> plots.Plot:
    """Return one quantity's profile by several models, each a group of the run."""
    curves: list[plots.Curve] = []
    title, x_title = name, "x"
    for group in groups:
        column = group.columns[name]
        layout = Layout.of(group, column)
        if layout is None or len(layout.space) != 1:
            continue
        drawn = profile(group, column, layout)
        title, x_title = drawn.y, drawn.x
        label = str(group.attributes.get("title") or group.name.rsplit("/", 1)[-1])
        last = [c for c in drawn.curves if not c.reference and c.label != "start"][-1]
        curves.append(plots.Curve(last.x, last.y, label, last.error))
        if not any(c.reference for c in curves):
            curves += [c for c in drawn.curves if c.reference][-1:]
    return plots.Plot(curves, x_title, title)


def space_time(
    axes: "Axes", group: Group, column: Column, layout: Layout, batch: int = 0
) -> None:
    """Draw a one-dimensional field over space and time."""
    assert layout.frame == 0
    frames = column.shape[0]
    stride = -(-frames // MAX_FRAMES)
    index: list[Any] = [slice(0, frames, stride), *[slice(None)] * (len(column.shape) - 1)]
    if layout.batch is not None:
        index[layout.batch] = batch
    shown = shown_component(column, layout)
    for axis, place in zip(layout.components, shown, strict=True):
        index[axis] = place
    values = np.asarray(column.array[tuple(index)], float)
    name = column.axes[layout.space[0]]
    time = group.time()
    t = time.values[::stride] if time is not None else np.arange(0, frames, stride)
    drawn = axes.pcolormesh(
        coordinate(group, name), t, values, shading="auto", rasterized=True, **_map(values)
    )
    axes.set_xlabel(group.columns[name].title)
    axes.set_ylabel(time.title if time is not None else "frame")
    axes.grid(False)
    axes.figure.colorbar(drawn, ax=axes, label=title_of(column, layout))


def _map(values: np.ndarray) -> dict[str, Any]:
    """Return map and limits: diverging and symmetric where the sign matters."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"cmap": style.SEQUENTIAL}
    low, high = float(finite.min()), float(finite.max())
    if low < 0 < high and min(-low, high) > 0.1 * max(-low, high):
        bound = max(-low, high)
        return {"cmap": style.DIVERGING, "vmin": -bound, "vmax": bound}
    return {"cmap": style.SEQUENTIAL}


# -- phase space -------------------------------------------------------------------------


def phase_space(group: Group, column: Column, layout: Layout, batch: int = 0) -> "Figure":
    """Return f(x, v) at the first and last moment, and f(v) in three cells."""
    name_x, name_v = column.axes[layout.space[0]], column.axes[layout.velocity[0]]
    x, v = coordinate(group, name_x), coordinate(group, name_v)
    moving = layout.frame is not None and column.shape[layout.frame] > 1
    moments = [0, -1] if moving else [-1]
    made = style.figure(3.7 * (len(moments) + 1), 3.4)
    top = max(float(np.nanmax(take(column, layout, m, batch))) for m in moments)
    for place, moment in enumerate(moments):
        axes = made.add_subplot(1, len(moments) + 1, place + 1)
        f = _phase(take(column, layout, moment, batch), layout)
        drawn = axes.pcolormesh(
            x, v, f.T, shading="auto", rasterized=True, vmin=0, vmax=top
        )
        axes.set_xlabel(group.columns[name_x].title)
        axes.set_ylabel(group.columns[name_v].title)
        axes.set_title("start" if moving and place == 0 else "end", loc="left")
        axes.grid(False)
        if place == len(moments) - 1:
            made.colorbar(drawn, ax=axes, label=column.title)
    cells = [len(x) // 4, len(x) // 2, 3 * len(x) // 4]
    plots.draw(made.axes[0].figure.add_subplot(1, len(moments) + 1, len(moments) + 1),  # type: ignore[union-attr]
               distribution(group, column, layout, cells, -1, batch))  # fmt: skip
    return made


def _phase(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Return ``[x, v]``; further velocity axes are summed."""
    if layout.space[0] > layout.velocity[0]:
        values = np.moveaxis(values, -1, 0)
    while values.ndim > 2:
        values = values.sum(-1)
    return values


def distribution(
    group: Group,
    column: Column,
    layout: Layout,
    cells: Sequence[int],
    frame: int = -1,
    batch: int = 0,
) -> plots.Plot:
    """Return the distribution over velocities in picked cells."""
    name_x, name_v = column.axes[layout.space[0]], column.axes[layout.velocity[0]]
    x, v = coordinate(group, name_x), coordinate(group, name_v)
    f = _phase(take(column, layout, frame, batch), layout)
    curves = [plots.Curve(v, f[c], f"{name_x} = {x[c]:.3g}") for c in cells]
    return plots.Plot(curves, group.columns[name_v].title, column.title)


# -- two and three dimensions ------------------------------------------------------------


SLENDER = 5.0
"""Boxes that are longer than this, in widths, are drawn wider than they are."""


def plane_map(
    axes: "Axes",
    group: Group,
    column: Column,
    layout: Layout,
    batch: int = 0,
    frame: int = -1,
    like: np.ndarray | None = None,
) -> None:
    """Draw a two-dimensional field, with streamlines where the velocity is known.

    The colours are those of ``like``, where another field is to be compared with.
    """
    names = [column.axes[i] for i in layout.space]
    x, y = (coordinate(group, name) for name in names)
    values = take(column, layout, frame, batch)
    look = _map(values if like is None else like)
    if like is not None:
        look = {"vmin": float(np.nanmin(like)), "vmax": float(np.nanmax(like)), **look}
    drawn = axes.pcolormesh(x, y, values.T, shading="auto", rasterized=True, **look)
    axes.set_xlabel(group.columns[names[0]].title)
    axes.set_ylabel(group.columns[names[1]].title)
    sides = float(np.ptp(x)), float(np.ptp(y))
    if max(sides) <= SLENDER * min(sides):
        axes.set_aspect("equal")
    axes.grid(False)
    axes.set_facecolor(style.SOLID)
    low, high = drawn.get_clim()
    ends = (bool(np.nanmin(values) < low), bool(np.nanmax(values) > high))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    axes.figure.colorbar(
        drawn,
        ax=axes,
        label=title_of(column, layout),
        shrink=0.85,
        extend=extend.get(ends, "neither"),
    )
    _streamlines(axes, group, names, batch, frame)


def _streamlines(
    axes: "Axes", group: Group, names: Sequence[str], batch: int, frame: int
) -> None:
    velocity = group.columns.get("velocity")
    layout = Layout.of(group, velocity) if velocity is not None else None
    if velocity is None or layout is None or len(layout.components) != 1:
        return
    if [velocity.axes[i] for i in layout.space] != list(names):
        return
    u, w = (take(velocity, layout, frame, batch, (c,)) for c in (0, 1))
    speed = np.hypot(u, w)
    if not np.isfinite(speed).any() or float(np.nanmax(speed)) <= 0:
        return
    # where the gas rests, only noise has a direction; in solids there is no gas
    still = ~(speed >= 0.005 * np.nanmax(speed))
    u, w = (np.ma.masked_where(still, part) for part in (u, w))
    x, y = (coordinate(group, name) for name in names)
    pale = axes.collections[0].get_cmap().name == style.DIVERGING  # type: ignore[union-attr]
    even_x, even_y = np.linspace(x[0], x[-1], len(x)), np.linspace(y[0], y[-1], len(y))
    limits = axes.axis()  # of the cells; streamplot's are those of their centres
    drawn = axes.streamplot(
        even_x,
        even_y,
        u.T,
        w.T,
        color="#333333" if pale else "white",
        linewidth=0.7,
        density=0.9,
        arrowsize=0.7,
    )
    if not pale:  # the map goes from nearly black to yellow
        from matplotlib.patheffects import withStroke

        drawn.lines.set_path_effects([withStroke(linewidth=1.5, foreground="#00000080")])
    axes.axis(limits)


def matrix(axes: "Axes", column: Column) -> None:
    """Draw a square matrix with its numbers; ``labels`` name rows and columns."""
    values = column.values.astype(float)
    bound = float(np.nanmax(np.abs(values))) or 1.0
    drawn = axes.imshow(
        values, cmap=style.DIVERGING, vmin=-bound, vmax=bound, origin="upper"
    )
    for (row, place), value in np.ndenumerate(values):
        shown = 0.0 if abs(value) < 5e-4 * bound else value
        dark = abs(value) > 0.6 * bound
        axes.text(place, row, f"{shown:.3g}", ha="center", va="center", fontsize=8,
                  color="white" if dark else style.BLACK)  # fmt: skip
    names = column.labels or [str(n) for n in range(len(values))]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.grid(False)
    axes.set_title(column.name.replace("_", " "), loc="left")
    axes.figure.colorbar(drawn, ax=axes, label=column.title, shrink=0.85)


def volume(
    group: Group,
    column: Column,
    layout: Layout,
    batch: int = 0,
    frame: int = -1,
    size: tuple[float, float] = (10.5, 3.4),
) -> "Figure":
    """Return the three planes through the middle of a three-dimensional field."""
    names = [column.axes[i] for i in layout.space]
    values = take(column, layout, frame, batch)
    spans = [coordinate(group, name) for name in names]
    titles = [group.columns[name].title for name in names]
    made = style.figure(*size)
    middle = [n // 2 for n in values.shape]
    limits = _map(values)
    limits.setdefault("vmin", float(np.nanmin(values)))
    limits.setdefault("vmax", float(np.nanmax(values)))
    drawn: Any = None
    shown = []
    for place, (a, b, c) in enumerate(((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        axes = made.add_subplot(1, 3, place + 1)
        axes.set_facecolor(style.SOLID)
        plane = np.take(values, middle[c], axis=c)
        drawn = axes.pcolormesh(
            spans[a], spans[b], plane.T, shading="auto", rasterized=True, **limits
        )
        axes.set_xlabel(titles[a])
        axes.set_ylabel(titles[b])
        axes.set_aspect("equal")
        axes.grid(False)
        shown.append(axes)
    made.colorbar(drawn, ax=shown, label=title_of(column, layout), shrink=0.85)
    return made


def add_isosurfaces(
    plotter: Any,
    values: np.ndarray,
    spans: Sequence[np.ndarray],
    levels: Sequence[float],
    outline: bool = True,
) -> None:
    """Add surfaces of equal value to a plotter, outer ones more transparent."""
    import matplotlib
    import pyvista as pv

    grid = pv.RectilinearGrid(*[np.asarray(s, float) for s in spans])
    grid["value"] = np.asarray(values, float).ravel(order="F")
    for number, level in enumerate(sorted(levels)):
        share = (number + 1) / len(levels)
        surface = grid.contour([level], scalars="value")
        if surface.n_points == 0:  # type: ignore[union-attr]
            continue
        plotter.add_mesh(
            surface,
            color=matplotlib.colormaps[style.SEQUENTIAL](0.15 + 0.8 * (1 - share))[:3],
            opacity=0.2 + 0.4 * share if len(levels) > 1 else 0.7,
            smooth_shading=True,
            specular=0.2,
            render=False,
        )
    if outline:
        plotter.add_mesh(grid.outline(), color="#666666", line_width=1.0, render=False)
