"""Gas runs: every Knudsen number, every model, and their references."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import fields, names, plots, style
from .record import Column, Group, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("density", "velocity", "temperature", "heat_flux", "stress")
MAX_PANELS = 6
SHOCK = "shock"
"""The group of the profiles of a shock."""
BESIDE = "compare/"
"""Prefix of the groups of the compared models."""

PICTURED = 2
"""System of a comparison in time whose profiles are kept, or the last one."""

_REFERENCES = (
    ("_exact", "exact (Euler)", style.ORANGE),
    ("_free_exact", "exact (free flight)", style.GREEN),
    ("_nsf_reference", "Navier-Stokes-Fourier", style.SKY),
    ("_reference", "reference", style.REFERENCE),
)
"""Ending, name and colour of the references in the group ``profile``."""


def is_profile_run(groups: Mapping[str, Group]) -> bool:
    """Tell whether the run has fields over one coordinate."""
    group = groups.get("fields")
    density = group.columns.get("density") if group is not None else None
    if group is None or density is None:
        return False
    layout = fields.Layout.of(group, density)
    return layout is not None and len(layout.space) == 1


def knudsen_panels(record: Record, groups: Mapping[str, Group]) -> list[plots.Plot]:
    """Return one panel per quantity: all Knudsen numbers at the end, and the limits."""
    group = groups["fields"]
    panels = []
    for name in SHOWN:
        column = group.columns.get(name)
        layout = fields.Layout.of(group, column) if column is not None else None
        if column is None or layout is None:
            continue
        shown = fields.take(column, layout)
        # A stress that is the same everywhere is a result, a density is none.
        if np.all(np.abs(shown) < 1e-12) if name == "stress" else _flat(shown):
            continue
        plot = fields.profile(group, column, layout)
        own = [c for c in plot.curves if c.label != "start"]
        if len(own) == 1:
            label = names.model_of(record.scenario.get("model", {}))
            own = [plots.Curve(own[0].x, own[0].y, label)]
        limits = references(groups.get("profile"), name, own[0].x)
        panels.append(plots.Plot([*own, *limits], plot.x, plot.y))
    return panels


def model_panels(
    record: Record, groups: Mapping[str, Group], name: str = "density"
) -> list[plots.Plot]:
    """Return one panel per Knudsen number: all compared models."""
    main = groups["fields"]
    others = {n: g for n, g in groups.items() if n.startswith(BESIDE)}
    column = main.columns.get(name)
    if not others or column is None:
        return []
    layout = fields.Layout.of(main, column)
    if layout is None or layout.batch is None:
        return []
    panels = []
    for number in range(min(column.shape[layout.batch], MAX_PANELS)):
        x = fields.coordinate(main, "x")
        y = fields.take(column, layout, -1, number)
        # what the others are compared with must not hide them
        title = names.model_of(record.scenario.get("model", {}))
        own = plots.Curve(x, y, title, beneath=True)
        curves = []
        for path, group in others.items():
            partner = group.columns.get(name)
            inner = fields.Layout.of(group, partner) if partner is not None else None
            if partner is None or inner is None:
                continue
            z = fields.take(partner, inner, -1, number)
            label = names.model(path.rsplit("/", 1)[-1])
            along = fields.coordinate(group, "x")
            curves.append(plots.Curve(along, z, label))
        label = column.labels[number] if number < len(column.labels) else ""
        x_title = main.columns["x"].title
        panels.append(
            plots.Plot(
                [*curves, own], x_title, fields.title_of(column, layout), title=label
            )
        )
    return panels


def references(group: Group | None, name: str, x: np.ndarray) -> list[plots.Curve]:
    """Return the exact and reference curves of a quantity."""
    if group is None:
        return []
    curves = []
    for ending, label, colour in _REFERENCES:
        column = group.columns.get(name + ending)
        if column is None or len(column.shape) != 1:
            continue
        own = group.columns.get("x" + ending)
        where = own.values if own is not None else x
        if len(where) == column.shape[0]:
            seen = (where >= x.min()) & (where <= x.max())
            y = column.values[seen]
            curves.append(plots.Curve(where[seen], y, label, reference=True, colour=colour))
    return curves


def over_knudsen(group: Group) -> list[plots.Plot]:
    """Return what was measured at every Knudsen number, with its limits."""
    knudsen = group.columns.get("knudsen")
    if knudsen is None or knudsen.shape[0] < 2:
        return []
    x, count = knudsen.values, knudsen.shape[0]
    panels = []
    for name, column in group.columns.items():
        plain = not any(name.endswith(ending) for ending, _, _ in _REFERENCES)
        if name in ("knudsen", "x", "y", "z") or column.shape != (count,) or not plain:
            continue
        curves = [plots.Curve(x, column.values, "computed")]
        for ending, label, colour in _REFERENCES:
            partner = group.columns.get(name + ending)
            if partner is not None and partner.shape == (count,):
                word = {"_reference": "with slip", "_free_exact": "free molecules"}
                label = word.get(ending, label)
                curves.append(
                    plots.Curve(x, partner.values, label, reference=True, colour=colour)
                )
        panels.append(plots.Plot(curves, "Knudsen number", column.title, "loglog"))
    return panels


def usual_first(group: Group, columns: Sequence[Column]) -> list[Column]:
    """Return arrays in order: what the scenario asked for, the usual fields, the rest."""
    order = [*group.attributes.get("asked", ()), *SHOWN]
    rank = {name: place for place, name in reversed(list(enumerate(order)))}
    return sorted(columns, key=lambda column: rank.get(column.name, len(order)))


def usual(group: Group, columns: Sequence[Column]) -> list[Column]:
    """Return what was asked for and the usual fields; all where there are none of these."""
    known = {*group.attributes.get("asked", ()), *SHOWN}
    kept = [column for column in columns if column.name in known]
    return usual_first(group, kept or columns)


def quantities(group: Group) -> Sequence[Column]:
    """Return the fields that vary: the first four of the usual ones."""
    found = [group.columns[name] for name in SHOWN if name in group.columns]
    return [column for column in found if 0 not in column.shape]


def _flat(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return not finite.size or float(np.ptp(finite)) < 1e-9 * max(
        1.0, float(abs(finite).max())
    )


# -- learned closures compared ---------------------------------------------------------


def closure_panels(
    group: Group, times: Sequence[float] = (), pictured: int = 0
) -> list[plots.Plot]:
    """Return the pictured flows by every model: one at all moments, several at the last.

    Arrays are ``profile_MODEL [moments in time, flows, cells, 3]``; the density is drawn.
    Where the Knudsen number varies in space, ``knudsen [flows, cells]``, it is drawn, too.
    """
    x = group.columns.get("x")
    kinetic = group.columns.get("profile_kinetic")
    if x is None or kinetic is None or len(kinetic.shape) != 4:
        return []
    moments, flows = kinetic.shape[:2]
    when = f" at t = {times[-1]:g}" if times else ""
    places = [(moments - 1, flow, f"flow {flow + 1}") for flow in range(flows)]
    if flows == 1 and len(times) == moments - 1:
        when = ""
        places = [(i, 0, f"t = {time:g}") for i, time in enumerate(times, start=1)]
    panels = []
    for moment, flow, title in places[:MAX_PANELS]:
        curves = []
        for name, column in _models(group, "profile_"):
            if len(column.shape) == 4 and column.shape[2] == x.shape[0]:
                y = np.asarray(column.array[moment, flow, :, 0], float)
                curves.append(_curve(x.values, y, name))
        panels.append(plots.Plot(curves, x.title, f"density [ρ₀]{when}", title=title))
    knudsen = group.columns.get("knudsen")
    if knudsen is not None and knudsen.shape[1:] == x.shape:
        curve = plots.Curve(x.values, knudsen.values[pictured])
        panels.append(plots.Plot([curve], x.title, knudsen.title, "log"))
    return panels


def shock_panels(group: Group) -> list[plots.Plot]:
    """Return a shock by every model on its finest grid, then by each on all its grids.

    Arrays are ``profile_MODEL [3, cells]``: x, density and temperature from 0 to 1.
    """
    grids: dict[str, list[np.ndarray]] = {}
    for name, column in _models(group, "profile_"):
        family, _, cells = name.rpartition("_")
        named = family and cells.isdecimal()
        grids.setdefault(family if named else name, []).append(column.values)
    panels = []
    for row, what in ((1, "density"), (2, "temperature")):
        curves = [_curve(*_near(t[-1], row), family) for family, t in grids.items()]
        panels.append(plots.Plot(curves, _AHEAD, f"{what}, from 0 ahead to 1 behind"))
    truth = grids.pop("kinetic", None)
    for family, tables in grids.items():
        if len(tables) == 1:
            continue
        curves = [plots.Curve(*_near(t, 1, 4.0), f"{t.shape[1]} cells") for t in tables]
        curves += [_curve(*_near(t, 1, 4.0), "kinetic") for t in truth or ()]
        panels.append(plots.Plot(curves, _AHEAD, "density", title=names.model(family)))
    return panels


_AHEAD = "x [free paths ahead]"


def _near(
    table: np.ndarray, row: int, reach: float = 12.0
) -> tuple[np.ndarray, np.ndarray]:
    near = np.abs(table[0]) < reach
    return table[0][near], table[row][near]


def _curve(x: np.ndarray, y: np.ndarray, name: str) -> plots.Curve:
    """Return a model's curve, under its name and in its colour."""
    label = names.model(name)
    return plots.Curve(x, y, label, colour=style.model_colour(label) or "")


def closure_maps(group: Group) -> "Figure | None":
    """Return the density of the last flow on the plane, and where the models miss it.

    Arrays are ``map_MODEL [flows, nx, ny]``.
    """
    found = [c for c in _models(group, "map_") if len(c[1].shape) == 3]
    if len(found) < 2 or "x" not in group.columns or "y" not in group.columns:
        return None
    x, y = (group.columns[name] for name in ("x", "y"))
    maps = [(name, np.asarray(column.array[-1], float)) for name, column in found]
    true = maps[0][1]
    off = [(f"error of {names.model(name)}", values - true) for name, values in maps[1:]]
    bound = max(float(np.nanmax(np.abs(values))) for _, values in off) or 1.0
    made = style.figure(3.9 * len(maps), 3.3)
    shown: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        (f"density by the {names.model('kinetic')}", true, {"cmap": style.SEQUENTIAL})
    ]
    limits: dict[str, Any] = {"cmap": style.DIVERGING, "vmin": -bound, "vmax": bound}
    shown += [(title, values, limits) for title, values in off]
    for place, (title, values, look) in enumerate(shown, start=1):
        axes = made.add_subplot(1, len(shown), place)
        drawn = axes.pcolormesh(
            x.values, y.values, values.T, shading="auto", rasterized=True, **look
        )
        axes.set_title(title, loc="left")
        axes.set_xlabel(x.title)
        axes.set_ylabel(y.title)
        axes.set_aspect("equal")
        axes.grid(False)
        label = "density [ρ₀]" if place == 1 else "difference [ρ₀]"
        made.colorbar(drawn, ax=axes, shrink=0.8, label=label)
    return made


def learned_moments(group: Group) -> list[plots.Plot]:
    """Return learned and Hermite moments, the share lost, and one distribution.

    Arrays: ``xi``, ``moments_learned`` and ``moments_hermite [moments, points]``, ``kept``,
    ``left_untrained``, ``left_learned``, ``distributions [3, points]``.
    """
    needed = ("xi", "moments_learned", "moments_hermite", "kept", "distributions")
    if any(name not in group.columns for name in needed):
        return []
    xi, learned, hermite, kept, three = (group.columns[n] for n in needed)
    inside = np.abs(xi.values) <= 3.0
    x, panels = xi.values[inside], []
    for row in range(min(learned.shape[0], 6)):
        degree = row + 3
        curves = [
            plots.Curve(x, learned.values[row][inside], "learned"),
            plots.Curve(x, hermite.values[row][inside], f"Hermite, degree {degree}",
                        reference=True),
        ]  # fmt: skip
        panels.append(plots.Plot(curves, xi.title, f"moment {row + 1}"))
    lost = [
        plots.Curve(kept.values, group.columns[name].values, group.columns[name].title)
        for name in ("left_untrained", "left_learned")
        if name in group.columns
    ]
    panels.append(plots.Plot(lost, kept.title, "share that is lost", "log", points=True))
    labels = ("Maxwellian", "Hermite series", "decoded")
    curves = [
        plots.Curve(xi.values, three.values[i], label, reference=i == 0)
        for i, label in enumerate(labels)
    ]
    panels.append(plots.Plot(curves, xi.title, "distribution"))
    return panels


def closure_errors(group: Group, times: Sequence[float] = ()) -> list[plots.Plot]:
    """Return every model's error on every flow: ``errors_MODEL [runs, times, flows]``.

    Over the flows' Knudsen numbers where each has one, ``knudsen [flows]``.
    """
    found = [c for c in _models(group, "errors_") if len(c[1].shape) == 3]
    if not found:
        return []
    count = found[0][1].shape[1]
    knudsen = group.columns.get("knudsen")
    known = knudsen is not None and knudsen.shape == found[0][1].shape[2:]
    panels = []
    for moment in range(count):
        curves = []
        for name, column in found:
            errors = np.median(column.values[:, min(moment, column.shape[1] - 1)], axis=0)
            flows = knudsen.values if known and knudsen else np.arange(1, len(errors) + 1)
            curves.append(_curve(flows, errors, name))
        place = moment - count + len(times)
        if (times and place < 0) or not any(np.any(c.y > 1e-12) for c in curves):
            continue  # at the start all models agree, to round-off
        title = f"t = {times[place]:g}" if 0 <= place < len(times) else ""
        x_title, scale = ("Knudsen number", "loglog") if known else ("flow", "log")
        panels.append(
            plots.Plot(
                curves, x_title, "error by the signal", scale, points=True, title=title
            )
        )
    return panels


def closure_waves(group: Group) -> list[plots.Plot]:
    """Return effective transport and growth of small waves: ``linear_MODEL [points, 5]``.

    Columns: k tau, sound attenuation, speed of sound and heat conduction (each over its
    value in a dense gas), growth rate times the relaxation time.
    """
    found = [
        c for c in _models(group, "linear_") if len(c[1].shape) == 2 and c[1].shape[1] == 5
    ]
    words = ("sound attenuation", "speed of sound", "heat conduction")
    titles = [f"{word} (dense gas: 1)" for word in words]
    titles.append("growth rate x relaxation time")
    panels = []
    for row, title in enumerate(titles, start=1):
        curves = [_curve(c.values[:, 0], c.values[:, row], name) for name, c in found]
        panels.append(plots.Plot(curves, "wave number x relaxation time", title))
    return panels if found else []


def _models(group: Group, start: str) -> list[tuple[str, Column]]:
    """Return (model, array) with the kinetic truth first, coarse grids before fine ones."""

    def rank(item: tuple[str, Column]) -> tuple[bool, str, int]:
        name, _, cells = item[0].rpartition("_")
        fine = cells.isdecimal()
        return (item[0] != "kinetic", name if fine else item[0], int(cells) if fine else 0)

    named = [
        (name.removeprefix(start), column)
        for name, column in group.columns.items()
        if name.startswith(start)
    ]
    return sorted(named, key=rank)
