"""Lines: observables over time, curves with their references, and what a group holds."""

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import names, style
from .record import TRACES, Column, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 2000
"""A line is thinned to this many points: no screen shows more."""

LABEL_WIDTH = 36
"""Letters of an axis title that fit along a plot; longer titles are broken."""


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        x: ``[points]``.
        y: ``[points]``.
        label: name in the legend; empty for none.
        error: ``[points]`` one standard error, drawn as a band.
        reference: the reference: dashed and dark.
        beneath: what the others are compared with: wide and pale, under them.
        colour: by name or hex; from the label where empty.
    """

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    error: np.ndarray | None = None
    reference: bool = False
    beneath: bool = False
    colour: str = ""


@dataclass(frozen=True)
class Plot:
    """Curves on common axes.

    Attributes:
        curves: what is drawn.
        x: title of the abscissa with its unit.
        y: title of the ordinate with its unit.
        scale: ``""``, ``"log"`` (ordinate) or ``"loglog"``.
        points: markers instead of lines.
        title: above the axes.
    """

    curves: Sequence[Curve]
    x: str
    y: str
    scale: str = ""
    points: bool = False
    title: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Horizontal lines with a name: a target, a limit."""


def draw(axes: "Axes", plot: Plot) -> None:
    """Draw one plot."""
    named = [c.label for c in plot.curves if not (c.reference or c.beneath)]
    colours, markers = iter(style.colours_of(named)), itertools.cycle(_MARKERS)
    last = style.REFERENCE
    for curve in plot.curves:
        if curve.reference:
            # With several curves a reference has the colour of its curve, but darker:
            # it must be seen where it lies upon it.
            own = style.darker(last) if len(named) > 1 else style.REFERENCE
            colour = curve.colour or own
        elif curve.beneath:
            colour = style.BENEATH
        else:
            colour = curve.colour or next(colours)
            last = colour
        hollow = next(markers) if plot.points and len(named) > 1 else ""
        _draw_curve(axes, curve, colour, plot.points, hollow)
    from matplotlib.ticker import MaxNLocator

    for name, value in plot.marks.items():
        axes.axhline(value, color=style.REFERENCE, lw=1.0, ls=":", label=name)
    if plot.scale in ("log", "loglog") and any(np.any(c.y > 0) for c in plot.curves):
        axes.set_yscale("log")
    if plot.scale == "loglog" and all(np.any(c.x > 0) for c in plot.curves):
        axes.set_xscale("log")
    elif _counts(plot):
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.margins(x=0.05 if plot.points else 0.02)
    _plain_ticks(axes)
    axes.set_xlabel(plot.x)
    name, bracket, unit = plot.y.partition(" [")
    unbroken = unit.replace(" ", "\N{NO-BREAK SPACE}")
    axes.set_ylabel(textwrap.fill(name + bracket + unbroken, LABEL_WIDTH))
    if plot.title:
        axes.set_title(plot.title, loc="left")
    shown = [c for c in plot.curves if c.label] or list(plot.marks)
    if shown and (len(plot.curves) > 1 or plot.marks):
        axes.legend(ncols=1 if len(shown) <= 8 else 2)


def _plain_ticks(axes: "Axes") -> None:
    """Label short logarithmic axes 0.02, 0.05, 0.1: without powers or crowding."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        if axis.get_scale() != "log" or low <= 0:
            continue
        decades = float(np.log10(high / low))
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        if decades < 3 and low > 1e-4 and high < 1e5:
            axis.set_major_formatter(plain)
        if decades < 2.2:
            every = (2, 3, 4, 5, 6, 8) if decades < 0.7 else (2, 5)
            axis.set_minor_locator(LogLocator(subs=every))
            axis.set_minor_formatter(plain)
        else:
            axis.set_minor_formatter(NullFormatter())


_MAX_HOLLOW = _FEW = 60
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Points that lie upon each other are told apart by their shapes."""


def _counts(plot: Plot) -> bool:
    """Whether the abscissa counts a few things."""
    x = [c.x for c in plot.curves]
    whole = all(len(at) and np.all(np.asarray(at) == np.round(at)) for at in x)
    return bool(x) and whole and max(float(np.ptp(at)) for at in x) <= _FEW


def _draw_curve(
    axes: "Axes", curve: Curve, colour: str, points: bool, hollow: str = ""
) -> None:
    x, y, error = thin(curve.x, curve.y, curve.error)
    if curve.beneath:
        axes.plot(x, y, color=colour, lw=4.0, label=curve.label, zorder=1.5)
        return
    if curve.reference:
        axes.plot(x, y, color=colour, ls=(0, (4, 2)), lw=1.3, label=curve.label, zorder=3)
        return
    few = points or len(x) <= 12
    line = "none" if points else "-"
    if hollow and len(x) <= _MAX_HOLLOW:
        look: dict[str, Any] = {"marker": hollow, "ms": 6, "mfc": "none", "mew": 1.4}
    else:
        look = {"marker": "o" if few else "", "ms": 4}
    axes.plot(x, y, color=colour, ls=line, label=curve.label, **look)
    if error is not None:
        axes.fill_between(x, y - error, y + error, color=colour, alpha=0.25, lw=0)


def thin(
    x: np.ndarray, y: np.ndarray, error: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Keep :data:`MAX_POINTS` of a long line, with the extremes of each stretch."""
    if len(x) <= MAX_POINTS:
        return x, y, error
    bounds = np.linspace(0, len(x), MAX_POINTS // 2 + 1).astype(int)
    finite = np.nan_to_num(y)
    kept = {0, len(x) - 1}
    for a, b in itertools.pairwise(bounds.tolist()):
        kept |= {a + int(finite[a:b].argmin()), a + int(finite[a:b].argmax())}
    chosen = np.array(sorted(kept))
    return x[chosen], y[chosen], None if error is None else error[chosen]


def page(plots: Sequence[Plot], width: float = 7.2, height: float = 2.9) -> "Figure":
    """Return a figure of plots, two in a row; call it within :func:`style.styled`.

    Where panels share three names or more, one legend below serves all.
    """
    columns = 1 if len(plots) == 1 else 2
    rows = -(-len(plots) // columns)
    made = style.figure(width if columns == 1 else 1.35 * width, height * rows)
    for number, plot in enumerate(plots):
        draw(made.add_subplot(rows, columns, number + 1), plot)
    named = [{c.label for c in plot.curves if c.label} for plot in plots]
    longest = max(range(len(plots)), key=lambda i: len(named[i]))
    if (
        len(plots) > 1
        and len(named[longest]) > 2
        and all(n <= named[longest] for n in named)
    ):
        for axes in made.axes:
            legend = axes.get_legend()
            if legend is not None:
                legend.remove()
        handles, labels = made.axes[longest].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=4)
    return made


# -- observables over time ---------------------------------------------------------------

_HIDDEN = (*TRACES, "wall")
_MAX_LINES = 8


def observables(
    events: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
    kind: str = "",
    systems: Sequence[str] = (),
) -> list[Plot]:
    """Return a plot of every number that the run reported and that changed.

    What changes by less than a millionth of itself is drawn as the change.

    Args:
        events: columns of the events.
        attributes: of the whole store; ``observable_units`` and ``time_unit`` are used.
        kind: of the scenario: ``vmc`` and ``ritz`` have iterations.
        systems: names of the problems of a batch.
    """
    units = attributes.get("observable_units", {})
    abscissa, title = _abscissa(events, attributes)
    if kind in ("vmc", "ritz"):
        title = "iteration"
    plots = []
    for name, values in events.items():
        if name in _HIDDEN or len(values) < 3 or np.sum(np.isfinite(values)) < 3:
            continue
        table = values if values.ndim == 2 else values[:, None]
        if table.ndim != 2:
            continue
        reach = np.nanmax(table, 0) - np.nanmin(table, 0)
        if not np.any(reach > 0):
            continue
        label = name.replace("_", " ")
        if np.all(reach < 1e-6 * np.abs(table[0])):
            table, label = table - table[0], f"{label}, change"
        label += f" [{style.unit_of(units[name])}]" if units.get(name) else ""
        names = systems if len(systems) == table.shape[1] else [*map(str, range(99))]
        curves = [
            Curve(*_finite(abscissa, column), names[i] if table.shape[1] > 1 else "")
            for i, column in enumerate(table.T[:_MAX_LINES])
        ]
        plots.append(Plot(curves, title, label))
    return plots


def _abscissa(
    events: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> tuple[np.ndarray, str]:
    time = events.get("time")
    if time is not None and np.ndim(time) == 1 and np.ptp(np.nan_to_num(time)) > 0:
        unit = style.unit_of(attributes.get("time_unit", ""))
        return time, f"time [{unit}]" if unit else "time"
    return events.get("step", np.zeros(0)), "step"


def _finite(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = np.isfinite(x) & np.isfinite(y)
    return x[kept], y[kept]


# -- groups of one-dimensional arrays ----------------------------------------------------


_ORDER = ("temperature", "pressure", "total_energy", "potential_energy", "kinetic_energy",
          "conserved", "deviation")  # fmt: skip
_TITLES = {
    "thermo": "thermodynamics over time",
    "curve": "learning curve",
    "rdf": "radial distribution functions",
}
_SEPARATE = ("thermo",)
"""Groups whose arrays have a plot each, even where their units agree."""


_LEFT_OUT = (("curve", "cpu_s"), ("curve", "rate"))


def title_of(group: Group) -> str:
    """Return the title of a group's picture."""
    return str(group.attributes.get("title") or _TITLES.get(group.name) or group.title)


def _varies(column: Column) -> bool:
    values = column.values
    reach = np.ptp(values, axis=0) if len(values) else np.zeros(1)
    return bool(np.any(reach > 1e-7 * np.abs(values).max(initial=0.0)))


def _told(group: Group, column: Column) -> bool:
    """Whether the conserved energy is the total energy: nothing was put in or taken out."""
    total = group.columns.get("total_energy")
    if column.name != "conserved" or total is None:
        return False
    return bool(np.array_equal(column.values, total.values))


def _rank(column: Column) -> tuple[int, str]:
    known = column.name in _ORDER
    return (_ORDER.index(column.name) if known else len(_ORDER), column.name)


def lines(group: Group) -> list[Plot]:
    """Return one plot per unit and abscissa of the one-dimensional arrays of a group.

    Arrays ``[labels, points]`` become one curve per label.
    """
    plots: dict[tuple[str, str, str], list[Curve]] = {}
    columns = [c for c in group.quantities() if (group.name, c.name) not in _LEFT_OUT]
    if group.name in _SEPARATE:
        columns = sorted((c for c in columns if _varies(c)), key=_rank)
        columns = [c for c in columns if not _told(group, c)]
    for column in columns:
        drawn = dict(_curves(group, column))
        if not drawn:
            continue
        _, x_title = abscissa_of(group, column)
        alone = "" if _shared(group, column) else column.name
        key = (x_title, column.unit, alone)
        plots.setdefault(key, []).extend(drawn.values())
    made = []
    for (x_title, unit, alone), curves in plots.items():
        column = group.columns[alone] if alone else None
        y_title = column.title if column else _common_title(group, curves, unit)
        scale = group.plot if group.plot in ("log", "loglog") else _scale(group, curves)
        points, held = group.plot == "scatter", group.attributes.get("set", {})
        marks = {"set-point": held[alone]} if alone in held else {}
        made.append(Plot(curves, x_title, y_title, scale, points, marks=marks))
    return made


def _scale(group: Group, curves: Sequence[Curve]) -> str:
    """Learning curves that fall a long way are drawn on a logarithmic ordinate."""
    if group.name not in ("curve", "learning"):
        return ""
    values = np.concatenate([c.y[np.isfinite(c.y)] for c in curves])
    falling = values.size and values.min() > 0 and values.max() > 5 * values.min()
    return "log" if falling else ""


def _shared(group: Group, column: Column) -> bool:
    """Whether other arrays of the same unit and abscissa share its axes."""
    if group.name in _SEPARATE or (not column.unit and group.name == "curve"):
        return False
    mates = [
        other
        for other in group.quantities()
        if other.unit == column.unit
        and other.axes == column.axes
        and other.shape == column.shape
    ]
    return len(mates) > 1 and len(column.shape) == 1


def _common_title(group: Group, curves: Sequence[Curve], unit: str) -> str:
    named = [c.label for c in curves if not c.reference]
    common = _common_words(named) if len(named) > 1 else ""
    if len(curves) == 1 and curves[0].label:
        title = curves[0].label
    elif group.name == "curve" and common:
        title = f"{common} error"
    else:
        title = str(group.attributes.get("y_title") or common or title_of(group))
    return f"{title} [{unit}]" if unit else title


def _common_words(labels: Sequence[str]) -> str:
    """Return the words with which all begin, as ``heat flux x`` and ``heat flux y`` do."""
    split = [label.split() for label in labels]
    same = itertools.takewhile(
        lambda words: len(set(words)) == 1, zip(*split, strict=False)
    )
    return " ".join(words[0] for words in same)


def _along(column: Column) -> int:
    """Return the axis that runs along the abscissa: the frames, or else the last one."""
    return 0 if column.axes and column.axes[0] == "frame" else -1


def _table(column: Column) -> np.ndarray:
    """Return ``[curves, points]``."""
    values = np.atleast_2d(column.values)
    return values.T if _along(column) == 0 and len(column.shape) == 2 else values


def abscissa_of(group: Group, column: Column) -> tuple[np.ndarray, str]:
    """Return the coordinate along which an array is drawn, and its title."""
    axis = column.axes[_along(column)] if column.axes else ""
    length = column.shape[_along(column)]
    if axis == "frame":
        time = group.time()
        if time is not None:
            return time.values[:length], time.title
    if axis in group.columns:
        coordinate = group.columns[axis]
        return np.atleast_2d(coordinate.values)[-1][:length], coordinate.title
    return np.arange(length, dtype=float), axis or "number"


_TRUTHS = ("truth", "measured")
"""Arrays that are references of others."""


def _curves(group: Group, column: Column) -> Iterator[tuple[str, Curve]]:
    if len(column.shape) not in (1, 2) or 0 in column.shape:
        return
    x, _ = abscissa_of(group, column)
    table = _table(column)
    partner, error = group.reference(column.name), group.error(column.name)
    many = len(table) > 1
    for number, row in enumerate(table[: 2 * _MAX_LINES]):
        name = names.curve(column.name, column.long_name)
        if many:
            labels = column.labels
            name = names.curve(labels[number]) if number < len(labels) else f"{number}"
        band = _table(error)[number] if error is not None else None
        colour = style.BLACK if not many and column.name in _TRUTHS else ""
        yield name, Curve(x, row, name, band, reference=bool(colour), colour=colour)
        if partner is not None and partner.shape[_along(partner)] == len(x):
            rows = _table(partner)
            kind = "exact" if partner.name.endswith("_exact") else "reference"
            label = kind if not many else ("" if number else kind)
            target = rows[min(number, len(rows) - 1)]
            yield f"{name} {kind}", Curve(x, target, label, reference=True)
