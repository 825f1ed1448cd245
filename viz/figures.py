"""Which picture shows what a group of a run's store holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import chain, fields, gas, learning, names, plots, style, symmetry, walkers
from .atoms import (
    BOND_FACTOR,
    MAX_BONDED,
    Snapshot,
    Trajectory,
    image,
    trajectory_name,
)
from .look import Look
from .picture import Picture, to_png
from .record import Column, Group, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Attempt = tuple[str, Callable[[], Picture | None]]


def run_pictures(record: Record) -> Iterator[Attempt]:
    """Yield all pictures of a run, the most informative first, each with its title."""
    groups = record.groups()
    shown: set[str] = set()
    trajectory = trajectory_name(record)
    if trajectory is not None:
        shown |= {trajectory, "rdf"}
        yield "Atoms", lambda: atoms_picture(record)
    scanned = "points" in record.scenario
    if record.scenario.get("kind") == "vmc" and not scanned:
        if "pairs" in groups:  # of a uniform gas the density shows nothing
            shown |= {"pairs", ""}
            yield from group_pictures(groups["pairs"])
        else:
            yield "Electrons", lambda: electrons_picture(record)
        yield "Energy", lambda: energy_picture(record)
    if gas.is_profile_run(groups):
        shown |= {"profile"} | {name for name in groups if name.startswith(gas.BESIDE)}
        yield from _gas_pictures(record, groups)
    about = str(record.scenario.get("study", record.scenario.get("kind", "")))
    if about.startswith("closure") and "" in groups:
        shown |= {""}
        yield from _closure_pictures(record, groups[""])
    for name in ("errors", "small_waves"):
        if record.scenario.get("kind") == "gas" and name in groups:
            shown |= {name}
            yield from _closure_pictures(record, groups[name])
    if record.scenario.get("kind") == "gas" and gas.SHOCK in groups:
        shown |= {gas.SHOCK}
        caption = (
            "x = 0 where the density is half-way. Every model on its finest grid, then on "
            "all: a jump steepens with every halving of the cells, a profile does not."
        )
        panels = gas.shock_panels(groups[gas.SHOCK])
        yield (
            "The inside of the shock",
            lambda: _page(panels, "The inside of the shock", caption, height=3.4),
        )
    if "fields" in groups and "errors" in groups:
        shown |= {name for name in groups if name.startswith(gas.BESIDE)}
    scan = groups.get("energies") if scanned else None
    if scan is not None:
        shown |= {"energies"}
        yield "Energy along the curve", lambda: scan_picture(scan)
    if record.scenario.get("study") == "symmetry" and "conservation" in groups:
        shown |= {"errors", "conservation"}
        yield from _symmetry_pictures(groups)
    if record.scenario.get("kind") == "label" and (record.path / "train.extxyz").exists():
        yield (
            "Labelled frames",
            lambda: _page(
                learning.labelled_frames(record.path),
                "What was labelled",
                "Every mark is a frame; energies above the lowest one of that size.",
                height=3.6,
            ),
        )
    if record.scenario.get("kind") == "chain" and "budget" in groups:
        shown |= set(groups)
        yield from _chain_pictures(groups)
    if "rounds" in groups:
        shown |= {"rounds", "strata", "audit", "decisions"}
        yield from _loop_pictures(record, groups)
    if record.scenario.get("kind") == "elastic" and "elastic" in groups:
        shown |= {"elastic"}
        yield "Elastic constants", lambda: elastic_picture(record, groups["elastic"])
    for name in sorted(groups, key=_place):
        if name not in shown and groups[name].plot != "hidden":
            beside = name.startswith(gas.BESIDE)
            yield from group_pictures(
                _with_wishes(groups[name], record.scenario),
                groups.get("fields") if beside else None,
            )


def _with_wishes(group: Group, scenario: Mapping[str, Any]) -> Group:
    """Return a group with what was asked of it: ``set`` of a bath, ``asked`` of a flow."""
    if scenario.get("kind") == "gas":
        asked = tuple(scenario.get("output") or ())
        return replace(group, attributes={**group.attributes, "asked": asked})
    ensemble = scenario.get("ensemble")
    if group.name != "thermo" or not isinstance(ensemble, Mapping):
        return group
    held = {name: ensemble.get(name) for name in ("temperature", "pressure")}
    if ensemble.get("kind") == "npt" and not ensemble.get("pressure_ramp"):
        held["pressure"] = held["pressure"] or 0.0
    known = {k: float(v) for k, v in held.items() if isinstance(v, int | float)}
    return replace(group, attributes={**group.attributes, "set": known})


def _place(name: str) -> tuple[int, str]:
    """Sort results first, comparisons and certificates last."""
    first, last = ("", "fields"), name.startswith((gas.BESIDE, "certificate"))
    return (0 if name in first else 2 if last else 1, name)


def _gas_pictures(record: Record, groups: Mapping[str, Group]) -> Iterator[Attempt]:
    panels = gas.knudsen_panels(record, groups)
    dashed = dict.fromkeys(c.label for panel in panels for c in panel.curves if c.reference)
    model = names.model_of(record.scenario.get("model") or {"kind": "profiles"})
    begun = (record.scenario.get("time") or {}).get("average_from")
    when = "at the last moment" if begun is None else f"averaged from time {begun:g} on"
    caption = f"{model[:1].upper()}{model[1:]}, {when}"
    caption += f"; dashed: {', '.join(dashed)}. " if dashed else ". "
    caption += _GAS_UNITS if record.scenario.get("kind") == "gas" else ""
    if "profile" in groups and gas.over_knudsen(groups["profile"]):
        yield (
            "Dependence on the Knudsen number",
            lambda: _page(
                gas.over_knudsen(groups["profile"]),
                "Dependence on the Knudsen number",
                "Dashed: the limits of small and of large Knudsen number.",
            ),
        )
    yield "Profiles", lambda: _page(panels, "Profiles", caption, height=3.1)
    for name in ("density", "temperature"):
        panels = gas.model_panels(record, groups, name)
        if panels:
            title = f"Comparison of models: {name}"
            yield (
                title,
                lambda panels=panels, title=title: _page(
                    panels, title, f"The same problem by every model, {when}."
                ),
            )


_GAS_UNITS = (
    "Units: a length L, a density ρ₀, a temperature T₀ and their speed sqrt(R T₀); time in "
    "L / sqrt(R T₀). Kn: viscosity over ρ₀ sqrt(R T₀) L, about the free path over L."
)


def _closure_pictures(record: Record, group: Group) -> Iterator[Attempt]:
    time = record.scenario.get("time") or {}
    times = time.get("compared") or ()
    truth = "Black: the kinetic equation, which the others should follow."
    knudsen = group.columns.get("knudsen")
    pictured = min(gas.PICTURED, knudsen.shape[0] - 1) if knudsen is not None else 0
    found = gas.closure_panels(group, times, pictured)
    if found:
        which = f"Flow {pictured + 1}"
        if knudsen is not None and len(knudsen.shape) == 1:
            which += f", Knudsen number {float(knudsen.values[pictured]):.3g}"
        yield (
            "Profiles",
            lambda: _page(found, "One flow by every model", f"{which}. {truth}"),
        )
    moments = gas.learned_moments(group)
    if moments:
        caption = (
            "What the autoencoder measures of a velocity distribution, and Hermite's "
            "polynomials; what of all moments is lost when few numbers are kept; and the "
            "cell farthest from equilibrium, as a series of all its moments and as decoded "
            "from the few: the series may fall below zero, the decoder cannot."
        )
        yield "Learned moments", lambda: _page(moments, "Learned moments", caption)
    if "map_kinetic" in group.columns:
        caption = (
            "The flow with the largest Knudsen number at the last moment; the differences "
            "share one scale."
        )
        yield "Maps", lambda: _plane_maps(group, caption)
    errors = gas.closure_errors(group, times)
    if errors:
        caption = (
            "Distance from the kinetic equation; the median where several were trained."
        )
        yield "Errors", lambda: _page(errors, "Error of every model", caption, height=3.2)
    waves = gas.closure_waves(group)
    if waves:
        caption = (
            "Sound and heat in a gas at rest, from long waves (left: viscous flow) to "
            "waves as short as a free path. Black: the kinetic equation. A growth rate "
            "above zero would be an instability."
        )
        yield (
            "Small waves",
            lambda: _page(waves, "Dispersion and damping of small waves", caption),
        )


def _plane_maps(group: Group, caption: str) -> Picture | None:
    made = gas.closure_maps(group)
    return made and _figure_of(made, "One flow, and the errors of the models", caption)


def _symmetry_pictures(groups: Mapping[str, Group]) -> Iterator[Attempt]:
    yield (
        "Symmetry",
        lambda: _figure_of(
            symmetry.figure(groups["errors"], groups["conservation"]),
            "Symmetry ablation",
            "Left: with equal data and equally many steps of training, knowing the "
            "symmetry is worth more than data. Right: where neighbours change their order "
            "(ticks) the local frame's energy jumps; the smooth forms only fluctuate.",
        ),
    )
    yield (
        "Drift",
        lambda: _page(
            symmetry.drifts(groups["conservation"]),
            "Energy drift over the time step",
            "Jumps do not vanish with shorter steps; the error of the integrator does.",
            height=3.6,
        ),
    )


def _chain_pictures(groups: Mapping[str, Group]) -> Iterator[Attempt]:
    def made(draw: Callable[[], "Figure"], title: str, caption: str) -> Picture:
        with style.styled():
            return _figure_of(draw(), title, caption)

    told: list[tuple[str, Callable[[], "Figure"], str]] = [
        ("The thickness of the shock", lambda: chain.thickness(groups),
         "3/2 integral (d rho / dx)^2 dx over Mach number; error budget by source; "
         "derivative by every label through learning, scattering, transport and kinetic "
         "equation."),
        ("Shocks", lambda: chain.shocks(groups),
         "From 0 ahead to 1 behind; x = 0 where the density is half-way."),
        ("The dilute gas", lambda: chain.gas(groups),
         "With one error bar of the labels, common errors included."),
        ("The potential of two atoms", lambda: chain.potential(groups),
         "Labels and what was learned from them. Right: the error bar and the true "
         f"departure; upright lines are labels.{chain.chosen(groups)}"),
    ]  # fmt: skip
    for title, draw, caption in told:
        yield title, lambda d=draw, t=title, c=caption: made(d, t, c)


def _loop_pictures(record: Record, groups: Mapping[str, Group]) -> Iterator[Attempt]:
    target = record.scenario.get("target")
    unit = style.unit_of(record.attributes().get("error_unit", ""))
    yield (
        "Rounds",
        lambda: _page(
            learning.rounds(groups["rounds"], target, unit),
            "Rounds of learning",
            "The random samples are the control: they show what the selection gains.",
        ),
    )
    if "strata" in groups:
        yield (
            "Strata",
            lambda: _figure_of(
                learning.strata_map(groups["strata"], target, unit),
                "Error of every stratum by round",
                "Rings: above the target. Empty: nothing was labelled there in that round.",
            ),
        )
    if "audit" in groups:
        yield (
            "Audit",
            lambda: _figure_of(
                learning.strata_bars(groups["audit"], target, unit),
                "Error at the end, stratum by stratum",
                "Measured on samples that were never trained on.",
            ),
        )
    if "decisions" in groups:
        plot = learning.decisions(groups["decisions"], unit)
        yield (
            "Decisions",
            lambda: _page(
                [plot] if plot else [],
                "Estimated and true error of the labelled samples",
                "Every labelled sample: the committee's estimate, and the true error.",
                height=4.2,
            ),
        )


def _page(
    panels: Sequence[plots.Plot], title: str, caption: str, height: float = 2.9
) -> Picture | None:
    if not panels:
        return None
    return _figure_of(plots.page(panels[:12], height=height), title, caption)


def _figure_of(made: "Figure", title: str, caption: str) -> Picture:
    return Picture(title, to_png(made), caption)


def group_pictures(group: Group, main: Group | None = None) -> Iterator[Attempt]:
    """Yield the pictures of one group, each with its title.

    Args:
        group: of the store.
        main: the fields of the run itself: maps use their colour scale.
    """
    rest = list(group.quantities())
    if all(column.name in _COORDINATES for column in rest):
        return
    if learning.is_parity(group):
        yield group.title, lambda: _picture(group, learning.parity(group))
        if learning.calibration(group) is not None:
            yield (
                f"{group.title}: calibration of the deviation",
                lambda: _calibration(group),
            )
        return
    if group.plot == "matrix":
        yield group.title, lambda: _matrices(group)
        return
    if "features" in group.columns:
        yield group.title, lambda: _feature_map(group)
        rest = [c for c in rest if c.shape[0] != group.columns["features"].shape[0]]
    drawn: set[str] = set()
    for kind, columns in _sorted(group, rest).items():
        drawn |= {column.name for column in columns}
        yield from _attempts(group, kind, columns, main)
    for column in rest:
        if column.name not in drawn and column.name not in _SILENT:
            label = f"{group.name}/{column.name}".lstrip("/")
            yield label, lambda column=column: _refuse(column)


_COORDINATES = frozenset({"x", "y", "z", "knudsen"})
"""A group of nothing else has nothing to show."""

_SILENT = ("walkers", "density", "species", "system", "cell", "periodic", "masses")
"""Arrays that another picture shows, or that are no picture."""


def _sorted(group: Group, columns: list[Column]) -> dict[str, list[Column]]:
    """Sort arrays by what draws them: lines, profile, phase, map, volume."""
    kinds: dict[str, list[Column]] = {}
    for column in columns:
        layout = fields.Layout.of(group, column)
        kind = ""
        if layout is not None and (layout.space or layout.velocity):
            kind = {
                (1, 0): "profile",
                (1, 1): "phase",
                (1, 2): "phase",
                (1, 3): "phase",
                (2, 0): "map",
                (3, 0): "volume",
                (0, 1): "profile",
            }.get((len(layout.space), len(layout.velocity)), "")
        static = layout is None or (layout.frame is None and not layout.components)
        if len(column.shape) <= 2 and (not kind or (kind == "profile" and static)):
            kind = "lines"
        if kind and 0 not in column.shape:
            kinds.setdefault(kind, []).append(column)
    return kinds


def _attempts(
    group: Group, kind: str, columns: list[Column], main: Group | None
) -> Iterator[Attempt]:
    match kind:
        case "lines":
            yield plots.title_of(group), lambda: _lines(group)
        case "profile":
            if group.name != "fields" or not gas.quantities(group):
                yield f"{group.title}: profiles", lambda: _profiles(group, columns)
            if group.frames >= 8:
                yield f"{group.title} over time", lambda: _space_time(group, columns)
        case "phase":
            for column in columns:
                yield (
                    f"{group.title}: phase space",
                    lambda column=column: _phase(group, column),
                )
        case "map":
            yield f"{group.title}: maps", lambda: _maps(group, columns, main)
        case "volume":
            for column in gas.usual_first(group, columns):
                yield (
                    f"{group.title}: {column.name}",
                    lambda column=column: _volume(group, column),
                )


def _refuse(column: Column) -> Picture:
    raise ValueError(f"nothing here draws an array of shape {column.shape}")


def _picture(group: Group, made: "Figure", title: str = "", caption: str = "") -> Picture:
    title = title or plots.title_of(group)
    caption = str(group.attributes.get("caption", "")) or caption
    return Picture(title[:1].upper() + title[1:], to_png(made), caption)


def _lines(group: Group) -> Picture | None:
    found = plots.lines(group)
    return _picture(group, plots.page(found[:12])) if found else None


def _calibration(group: Group) -> Picture | None:
    plot = learning.calibration(group)
    if plot is None:
        return None
    caption = (
        "Atoms are sorted by the committee's deviation into twenty bins; on the dashed "
        "line the deviation equals the true error, above it the committee "
        "underestimates its error."
    )
    made = plots.page([plot], width=4.6, height=4.0)
    return _picture(group, made, "Calibration of the deviation", caption)


def _feature_map(group: Group) -> Picture | None:
    made = learning.feature_map(group)
    return (
        _picture(group, made, "", "Every dot is a sample that was seen.") if made else None
    )


def _layout(group: Group, column: Column) -> fields.Layout:
    layout = fields.Layout.of(group, column)
    assert layout is not None
    return layout


def _profiles(group: Group, columns: list[Column]) -> Picture:
    panels = [fields.profile(group, c, _layout(group, c)) for c in columns[:8]]
    has_partner = any(group.reference(c.name) is not None for c in columns)
    caption = "Profiles at the last moment" + (
        "; dashed: what they should be." if has_partner else "."
    )
    return _picture(group, plots.page(panels), f"{group.title}: profiles", caption)


def _space_time(group: Group, columns: list[Column]) -> Picture:
    moving = [c for c in columns if c.axes and c.axes[0] == "frame"]
    moving = [c for c in moving if not _constant(group, c)] or moving[:1]
    chosen = gas.usual(group, moving)[:4]
    made = style.figure(9.6 if len(chosen) > 1 else 5.4, 3.2 * -(-len(chosen) // 2))
    rows, width = -(-len(chosen) // 2), min(2, len(chosen))
    for number, column in enumerate(chosen):
        axes = made.add_subplot(rows, width, number + 1)
        fields.space_time(axes, group, column, _layout(group, column))
    batch = [c for c in chosen if c.labels and _layout(group, c).batch is not None]
    caption = f"The first of {len(batch[0].labels)}: {batch[0].labels[0]}." if batch else ""
    if batch and len(batch[0].labels) == 1:
        caption = ""
    return _picture(group, made, f"{group.title} over time", caption)


def _phase(group: Group, column: Column) -> Picture:
    made = fields.phase_space(group, column, _layout(group, column))
    caption = (
        "Number of particles over position and velocity; right: in three cells at the end."
    )
    return _picture(group, made, f"{group.title}: phase space", caption)


def _maps(group: Group, columns: list[Column], main: Group | None) -> Picture:
    varied = [c for c in gas.usual(group, columns) if not _constant(group, c)]
    chosen = varied[:4] or columns[:1]
    beside = group.name.startswith(gas.BESIDE)
    title = f"{group.title}: maps"
    if beside:
        title = f"Compared with: {names.model(group.name.rsplit('/', 1)[-1])}"
    rows, width = -(-len(chosen) // 2), min(2, len(chosen))
    made = style.figure(5.0 * width, 4.0 * rows)
    for number, column in enumerate(chosen):
        axes = made.add_subplot(rows, width, number + 1)
        partner = main.columns.get(column.name) if main is not None else None
        like = fields.take(partner, _layout(main, partner)) if main and partner else None
        fields.plane_map(axes, group, column, _layout(group, column), like=like)
    caption = "At the last moment." if group.frames else ""
    if beside:
        caption = "At the last moment, in the colours of the run's own maps."
    return _picture(group, made, title, caption)


def _constant(group: Group, column: Column) -> bool:
    return float(np.ptp(np.nan_to_num(fields.take(column, _layout(group, column))))) == 0.0


def _matrices(group: Group) -> Picture:
    columns = group.quantities()
    made = style.figure(4.8 * len(columns), 4.0)
    for number, column in enumerate(columns):
        fields.matrix(made.add_subplot(1, len(columns), number + 1), column)
    return _picture(group, made)


def _volume(group: Group, column: Column) -> Picture:
    made = fields.volume(group, column, _layout(group, column))
    return _picture(
        group, made, f"{group.title}: {column.name}", "Planes through the middle."
    )


# -- electrons ---------------------------------------------------------------------------


def electrons_picture(record: Record) -> Picture | None:
    """Return density, nuclei and walkers of a run that kept them."""
    cloud = walkers.cloud_of(record)
    if cloud is None:
        return None
    made = walkers.picture(cloud)
    return Picture("Electrons", to_png(made), walkers.caption(cloud))


def energy_picture(record: Record) -> Picture | None:
    """Return the energy over the iterations with its error band."""
    figures = record.summary.get("figures", {})
    found = walkers.energy_trace(record.events(), figures)
    if not found:
        return None
    caption = (
        "The energy of the network while it is trained; by the variational principle it "
        "lies above the exact one, apart from its statistical error."
    )
    return Picture("Energy", to_png(plots.page(found, height=3.4)), caption)


def elastic_picture(record: Record, group: Group) -> Picture:
    """Draw the elastic constants that differ; all as matrices where these are many."""
    columns = {column.name: column.values for column in group.quantities()}
    found = _independent(*columns.values())
    if len(found) > _FEW_CONSTANTS:
        return _matrices(group)
    expected = record.scenario.get("expected") or {}
    made = style.figure(1.6 * len(found) + 2.0, 3.4)
    axes = made.add_subplot()
    width = 0.8 / len(columns)
    for number, (name, values) in enumerate(columns.items()):
        heights = [float(values[place]) for place in found.values()]
        left = [
            at + width * (number - 0.5 * (len(columns) - 1)) for at in range(len(found))
        ]
        held = name.endswith("_unrelaxed")
        label = "atoms held" if held else "relaxed"
        drawn = axes.bar(left, heights, width, color=style.CYCLE[number], label=label)
        axes.bar_label(drawn, fmt="%.0f", label_type="center", color="white")
    first = 0.5 * width * (len(columns) - 1)  # what is expected is of relaxed atoms
    marks = [
        (at - first, expected[name]) for at, name in enumerate(found) if expected.get(name)
    ]
    if marks:
        places, heights = zip(*marks, strict=True)
        ends = np.add.outer((-0.4 * width, 0.4 * width), places)
        axes.hlines(heights, *ends, color=style.BLACK, lw=2, label="expected", zorder=3)
    axes.axhline(0.0, color=style.REFERENCE, lw=0.8)
    axes.set_xticks(range(len(found)), list(found))
    axes.set_ylabel("stress over strain [GPa]")
    axes.legend()
    return _figure_of(
        made, "Elastic constants", "Constants that symmetry makes equal once."
    )


_FEW_CONSTANTS = 9
"""Of an orthorhombic crystal; a triclinic one has 21."""


def _independent(*matrices: np.ndarray) -> dict[str, tuple[int, int]]:
    """Return one place in Voigt's matrix for each value that is not zero, by name."""
    size = max(float(np.abs(matrix).max()) for matrix in matrices)
    found: dict[str, tuple[int, int]] = {}
    for i, j in zip(*np.triu_indices(6), strict=True):
        here = np.array([matrix[i, j] for matrix in matrices])
        known = (np.array([m[place] for m in matrices]) for place in found.values())
        new = all(np.abs(here - there).max() > 0.01 * size for there in known)
        if new and np.abs(here).max() > 0.01 * size:
            found[f"C{i + 1}{j + 1}"] = (int(i), int(j))
    return found


def scan_picture(group: Group) -> Picture | None:
    """Return the energy over a coordinate, and how far it is from the reference."""
    panels = walkers.scan(group)
    caption = (
        "The same wavefunction, carried from geometry to geometry; the band is one "
        "standard error."
    )
    if len(panels) > 1:
        caption += " Between the dotted lines the error is below chemical accuracy."
    return _page(panels, "Energy along the curve", caption, height=3.4)


# -- atoms -------------------------------------------------------------------------------


def atoms_picture(record: Record) -> Picture:
    """Return first and last frame side by side, and the change of their structure."""
    trajectory = Trajectory(record)
    ends = [
        replace(trajectory[frame], label=_moment(record, trajectory, frame))
        for frame in ([0] if len(trajectory) == 1 else [0, -1])
    ]
    curves, source = _structure(record, ends)
    one_kind = len(np.unique(ends[0].symbols)) == 1
    bonded = one_kind and len(ends[0].positions) <= MAX_BONDED
    if bonded:
        bonded = float(np.median(ends[0].value_of("coordination"))) > 0
    colour = "coordination" if bonded else "species"
    made = _before_and_after(ends, colour, curves, trajectory.length_unit)
    reach = 2 * BOND_FACTOR * float(ends[0].radii[0])
    counted = (
        f", coloured by the number of neighbours within {reach:.2f} Å" if bonded else ""
    )
    first, last = ends[0], ends[-1]
    when = first.label if len(ends) == 1 else f"{first.label}, and {last.label}"
    caption = f"{len(first.positions)} atoms: {when}{counted}. {source}"
    return Picture("Atoms before and after", to_png(made), caption.strip())


def _moment(record: Record, trajectory: Trajectory, frame: int) -> str:
    """Return time and temperature of a frame."""
    label = trajectory[frame].label
    thermo, steps = record.group("thermo"), trajectory.group.columns.get("step")
    if thermo is None or steps is None or "temperature" not in thermo.columns:
        return label
    near = np.abs(thermo.columns["step"].values - int(steps.array[frame])).argmin()
    column = thermo.columns["temperature"]
    value = float(np.atleast_1d(column.array[int(near)])[trajectory.system])
    return f"{label}, {value:.0f} {column.unit}" if column.unit == "K" else label


def atoms_remarks(record: Record) -> list[str]:
    """Return what is wrong with the atoms of the last frame, in sentences."""
    if trajectory_name(record) is None:
        return []
    trajectory = Trajectory(record)
    last = trajectory[-1]
    if len(last.positions) > 10 * MAX_BONDED:
        return []
    count, shortest = last.too_close()
    if not count:
        return []
    pairs = "one pair of atoms is" if count == 1 else f"{count} pairs of atoms are"
    return [
        f"in the last frame {pairs} closer than 70 % of the sum of the covalent radii "
        f"(shortest {shortest:.2f} {trajectory.length_unit}): no such bond is known, the "
        "potential is unreliable there"
    ]


def _before_and_after(
    ends: list[Snapshot], colour: str, curves: list[plots.Curve], unit: str
) -> "Figure":
    panels = len(ends) + bool(curves)
    ratios = [1.0] * len(ends) + [0.95] * bool(curves)
    made = style.figure(3.9 * panels, 4.0)
    grid = made.add_gridspec(1, panels, width_ratios=ratios)
    bounds = _neighbour_range(ends) if colour == "coordination" else None
    look = Look(colour, bounds=bounds, bar=False)
    shown = []
    for number, snapshot in enumerate(ends):
        axes = made.add_subplot(grid[number])
        axes.imshow(_trimmed(image(snapshot, look, (1000, 960))), origin="upper")
        axes.set_axis_off()
        word = "" if len(ends) == 1 else ("before, " if number == 0 else "after, ")
        axes.set_title(word + snapshot.label)
        shown.append(axes)
    if bounds is not None:
        _neighbour_bar(made, shown, bounds)
    else:
        _species_key(made, ends[0].symbols)
    if curves:
        plot = plots.Plot(curves, f"distance r [{unit}]", "radial distribution g(r)")
        axes = made.add_subplot(grid[-1])
        plots.draw(axes, plot)
        tops = sorted(float(np.nanmax(curve.y)) for curve in curves)
        if len(np.unique(ends[0].symbols)) > 1 and tops[-1] > 4 * tops[0]:
            # The bond within a molecule is ten times as high as all that is of interest.
            axes.set_ylim(-0.1, 1.3 * tops[0])
            axes.set_title("higher peaks are cut", loc="left")
    return made


def _trimmed(picture: np.ndarray, margin: int = 8) -> np.ndarray:
    """Return a picture without its white surroundings."""
    rows, columns = (np.flatnonzero((picture < 250).any((2, axis))) for axis in (1, 0))
    if not len(rows):
        return picture
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    return picture[top : rows[-1] + margin, left : columns[-1] + margin]


def _species_key(made: "Figure", symbols: np.ndarray) -> None:
    """Say which colour is which element, where there are several."""
    from matplotlib.lines import Line2D

    kinds = np.unique(symbols)
    if len(kinds) < 2:
        return
    look: dict[str, Any] = {"ls": "none", "marker": "o", "ms": 8, "mec": "#666666"}
    handles = [
        Line2D([], [], mfc=tuple(colour), label=str(kind), **look)
        for kind, colour in zip(kinds, style.element_colours(kinds), strict=True)
    ]
    made.legend(handles=handles, loc="outside lower left", ncols=len(kinds))


def _neighbour_range(ends: list[Snapshot]) -> tuple[float, float]:
    """Return the fewest and the most neighbours of all but a hundredth of the atoms."""
    counts = np.concatenate([snapshot.value_of("coordination") for snapshot in ends])
    low, high = np.percentile(counts, (0.5, 99.5))
    return float(np.floor(low)), float(max(np.ceil(high), np.floor(low) + 1))


def _neighbour_bar(made: "Figure", shown: list, bounds: tuple[float, float]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(Normalize(*bounds), style.SEQUENTIAL)
    made.colorbar(
        mappable,
        ax=shown,
        location="bottom",
        label="neighbours of an atom",
        ticks=range(int(bounds[0]), int(bounds[1]) + 1),
        shrink=0.5,
        aspect=30,
        pad=0.03,
    )


def _structure(record: Record, ends: list[Snapshot]) -> tuple[list[plots.Curve], str]:
    """Return g(r) before and after: what the run averaged, or of the two frames."""
    group = record.group("rdf")
    if group is not None:
        found = plots.lines(group)
        if found and found[0].curves:
            kinds = np.unique(ends[0].symbols)
            pair = f" {kinds[0]}-{kinds[0]}" if len(kinds) == 1 else ""
            curves = [
                replace(c, label=c.label.removeprefix("g(r) ").removesuffix(pair))
                for c in found[0].curves
            ]
            return curves, "g(r) is averaged over the run's own samples."
    if not ends[0].has_cell or len(ends[0].positions) > MAX_BONDED:
        return [], ""
    words = ("before", "after") if len(ends) == 2 else ("",)
    return [
        plots.Curve(*radial_distribution(snapshot, 8.0 * snapshot.angstrom), label=word)
        for word, snapshot in zip(words, ends, strict=True)
    ], "g(r) is that of the frames shown."


def radial_distribution(
    snapshot: Snapshot, reach: float = 8.0, bins: int = 120
) -> tuple[np.ndarray, np.ndarray]:
    """Return r in angstrom and g(r) of one frame, all species together.

    ``g(r) = V / N^2 * sum over pairs of delta(r - r_ij) / (4 pi r^2)``.
    """
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    atoms = Atoms(
        numbers=np.ones(len(snapshot.positions)),
        positions=snapshot.positions,
        cell=snapshot.cell,
        pbc=snapshot.periodic,
    )
    counts, edges = np.histogram(neighbor_list("d", atoms, reach), bins, (0.0, reach))
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    density = len(atoms) / atoms.get_volume()
    return 0.5 * (edges[1:] + edges[:-1]), counts / (len(atoms) * density * shells)
