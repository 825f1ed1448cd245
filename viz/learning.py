"""Learning: parity, learning curves, rounds, and the map of explored samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import plots, style
from .record import Column, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY = 4000
"""With more points than this, a parity plot shows their density."""


# -- labels ------------------------------------------------------------------------------


def labelled_frames(folder: Path) -> list[plots.Plot]:
    """Return what a labelling run covers: energies and largest forces over the size.

    Args:
        folder: with ``train.extxyz`` and ``test.extxyz``.
    """
    import ase.io

    parts: list[np.ndarray] = []
    for name in ("train", "test"):
        rows = [
            (
                len(atoms),
                atoms.get_potential_energy() / len(atoms),
                np.abs(atoms.get_forces()).max(),
            )
            for atoms in ase.io.iread(folder / f"{name}.extxyz")
        ]
        parts.append(np.array(rows).reshape(-1, 3))
    every = np.concatenate(parts)
    for size in np.unique(every[:, 0]):
        lowest = every[every[:, 0] == size, 1].min()
        for part in parts:
            part[part[:, 0] == size, 1] -= lowest
    titles = {1: "energy above the lowest [eV/atom]", 2: "largest force component [eV/Å]"}
    # Side by side, so that neither hides the other.
    sides = ((parts[0], "training", -0.2), (parts[1], "test", 0.2))
    return [
        plots.Plot(
            [plots.Curve(p[:, 0] + shift, p[:, k], name) for p, name, shift in sides],
            "atoms",
            title,
            points=True,
        )
        for k, title in titles.items()
    ]


# -- parity ------------------------------------------------------------------------------


def parity_pairs(group: Group) -> list[tuple[Column, Column]]:
    """Return (predicted, reference) arrays of a group that compares them."""
    pairs = []
    for name, reference in group.columns.items():
        stem = name.removesuffix("_reference")
        if stem == name:
            continue
        predicted = group.columns.get(stem) or group.columns.get(stem + "_predicted")
        if predicted is not None and predicted.shape == reference.shape:
            pairs.append((predicted, reference))
    return pairs


def is_parity(group: Group) -> bool:
    """Tell whether a group compares predictions with a reference, point by point."""
    if group.plot:
        return group.plot == "parity"
    return group.name.rsplit("/", 1)[-1] == "parity" and bool(parity_pairs(group))


def parity(group: Group) -> "Figure":
    """Return predictions against the reference, with the errors' root mean square."""
    pairs = parity_pairs(group)
    made = style.figure(4.3 * len(pairs), 4.0)
    for place, (predicted, reference) in enumerate(pairs):
        axes = made.add_subplot(1, len(pairs), place + 1)
        draw_parity(axes, predicted.values, reference.values, predicted)
    return made


def draw_parity(
    axes: "Axes", predicted: np.ndarray, reference: np.ndarray, column: Column
) -> None:
    """Draw one cloud of points around the diagonal."""
    x, y = reference.ravel().astype(float), predicted.ravel().astype(float)
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    unit = f" [{column.unit}]" if column.unit else ""
    name = (column.long_name or column.name).replace("_", " ").removesuffix(" predicted")
    if not len(x):
        return
    middle = float(x.mean())
    if np.ptp(x) < 0.05 * abs(middle):  # ticks would not differ within their digits
        x, y, name = x - middle, y - middle, f"{name} - ({middle:.4g})"
    axes.set_xlabel(f"reference {name}{unit}")
    axes.set_ylabel(f"predicted {name}{unit}")
    axes.locator_params(nbins=5)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.03 * (high - low) or 1.0
    span = (low - margin, high + margin)
    if len(x) > MANY:
        drawn = axes.hexbin(
            x, y, gridsize=70, extent=(*span, *span), bins="log", mincnt=1, lw=0.1
        )
        axes.figure.colorbar(drawn, ax=axes, label="values in a cell", shrink=0.8)
    else:
        axes.plot(x, y, "o", ms=3, alpha=0.5, mew=0, color=style.BLUE, rasterized=True)
    axes.plot(span, span, color=style.REFERENCE, lw=1.0, ls=(0, (4, 2)))
    axes.set_xlim(*span)
    axes.set_ylim(*span)
    axes.set_aspect("equal")
    rmse = float(np.sqrt(np.mean((x - y) ** 2)))
    axes.set_title(f"RMSE {rmse:.3g} {column.unit}, {len(x)} values", loc="left")


def calibration(group: Group) -> plots.Plot | None:
    """Return the true error of the forces against the committee's deviation, binned."""
    deviation = group.columns.get("deviation")
    forces, reference = group.columns.get("forces"), group.columns.get("forces_reference")
    if deviation is None or forces is None or reference is None:
        return None
    guess = deviation.values.ravel().astype(float)
    true = np.linalg.norm(forces.values - reference.values, axis=-1).ravel().astype(float)
    if len(guess) != len(true) or len(guess) < 40 or not np.all(np.isfinite(guess)):
        return None
    order = np.argsort(guess)
    bins = np.array_split(order, 20)
    x = np.array([guess[b].mean() for b in bins])
    y = np.array([np.sqrt(np.mean(true[b] ** 2)) for b in bins])
    seen = x > 1e-3 * x.max(initial=0)  # perfect crystals have no force and no error
    x, y = x[seen], y[seen]
    if len(x) < 3:
        return None
    unit = f" [{forces.unit}]" if forces.unit else ""
    return plots.Plot(
        [
            plots.Curve(x, y, "measured"),
            plots.Curve(x, x, "error = deviation", reference=True, colour=style.REFERENCE),
        ],
        f"committee deviation of the force{unit}",
        f"true error of the force{unit}",
        "loglog",
        points=True,
    )


# -- the map of samples ------------------------------------------------------------------


def feature_map(group: Group) -> "Figure | None":
    """Return where the explored, chosen and labelled samples lie in feature space.

    The group holds ``features [samples, k]`` and any of ``chosen``, ``labelled``,
    ``deviation``, ``round`` (``[samples]``); two principal components are drawn.
    """
    features = group.columns.get("features")
    if features is None or len(features.shape) != 2 or features.shape[0] < 3:
        return None
    points, share = principal(features.values.astype(float))
    made = style.figure(7.2, 4.6)
    axes = made.add_subplot()
    value = group.columns.get("deviation") or group.columns.get("indicator")
    if value is not None:
        seen = value.values.astype(float)
        drawn = axes.scatter(*points.T, c=seen, s=9, lw=0, rasterized=True)
        made.colorbar(drawn, ax=axes, label=value.title)
    else:
        axes.scatter(
            *points.T, color="#bbbbbb", s=9, lw=0, label="explored", rasterized=True
        )
    rings = (("chosen", style.VERMILION, 34), ("labelled", style.BLACK, 60))
    for name, colour, size in rings:
        flags = group.columns.get(name)
        if flags is None:
            continue
        mine = points[flags.values.astype(bool)]
        many = len(mine) > 60  # large rings would hide the dots
        axes.scatter(
            *mine.T, s=0.4 * size if many else size, facecolors="none", edgecolors=colour,
            lw=0.6 if many else 1.1, label=f"{name} ({len(mine)})",
        )  # fmt: skip
    axes.set_xlabel(f"first principal component ({100 * share[0]:.0f} % of the variance)")
    axes.set_ylabel(f"second ({100 * share[1]:.0f} %)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")
    return made


def principal(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two principal components ``[samples, 2]`` and their shares of variance."""
    centred = features - features.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    sizes = np.concatenate([sizes, np.zeros(2)])
    points = np.zeros((len(features), 2))
    points[:, : min(2, left.shape[1])] = left[:, :2] * sizes[: min(2, left.shape[1])]
    return points, sizes[:2] ** 2 / max(float((sizes**2).sum()), 1e-300)


# -- training ----------------------------------------------------------------------------


def stages(rows: Sequence[Mapping[str, Any]]) -> list[plots.Plot]:
    """Return the loss of every member of a committee, a plot for each stage of training.

    Args:
        rows: events; those with ``event``, ``member``, ``step`` and ``loss`` count.
    """
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for row in rows:
        if {"event", "member", "step", "loss"} <= row.keys():
            members = found.setdefault(str(row["event"]), {})
            members.setdefault(int(row["member"]), []).append((row["step"], row["loss"]))
    return [
        plots.Plot(
            [
                plots.Curve(
                    np.array([step for step, _ in points], float),
                    np.array([loss for _, loss in points], float),
                    f"network {member + 1}",
                )
                for member, points in sorted(members.items())
            ],
            "step",
            "loss",
            "log",
            title=stage,
        )
        for stage, members in found.items()
    ]


# -- concurrent learning -----------------------------------------------------------------


def rounds(group: Group, target: float | None, unit: str = "") -> list[plots.Plot]:
    """Return error, labels, trust and time of every round of concurrent learning.

    Args:
        group: the table of rounds.
        target: accuracy that was asked for.
        unit: of errors.
    """
    found = {name: c.values.astype(float) for name, c in group.columns.items()}
    if "threshold" in found:  # nothing is trusted before the first calibration
        found["threshold"] = np.where(found["threshold"] > 0, found["threshold"], np.nan)
    x = found.get("round", np.arange(len(next(iter(found.values())))))
    bracket = f" [{unit}]" if unit else ""

    def curves(*names: tuple[str, str]) -> list[plots.Curve]:
        return [
            plots.Curve(x, found[name], label)
            for name, label in names
            if name in found and np.isfinite(found[name]).any()
        ]

    errors = curves(
        ("error_chosen", "chosen samples"),
        ("error_random", "random samples"),
        ("threshold", "trusted deviation"),
    )
    seconds = curves(
        ("explore_seconds", "explore"),
        ("label_seconds", "label"),
        ("train_seconds", "train"),
    )
    marks = {} if target is None else {"target": target}
    made = [
        plots.Plot(
            errors, "round", f"true error before training{bracket}", "log", marks=marks
        ),
        plots.Plot(curves(("labels", "labels")), "round", "labels so far"),
        plots.Plot(curves(("untrusted", "untrusted")), "round", "untrusted fraction"),
        plots.Plot(seconds, "round", "time [s]"),
    ]
    return [plot for plot in made if plot.curves]


def strata_map(group: Group, target: float | None, unit: str = "") -> "Figure":
    """Return the error of every stratum in every round; rings mark those above target."""
    names = [str(name).replace("_", " ") for name in group.attributes.get("strata", ())]
    stratum = group.columns["stratum"].values.astype(int)
    round_ = group.columns["round"].values.astype(int)
    error = group.columns["error"].values.astype(float)
    first, last = int(round_.min()), int(round_.max())
    table = np.full((max(stratum.max() + 1, len(names)), last - first + 1), np.nan)
    table[stratum, round_ - first] = error
    made = style.figure(7.6, 1.4 + 0.24 * len(table))
    axes = made.add_subplot()
    positive = table[np.isfinite(table) & (table > 0)]
    limits = (float(positive.min()), float(positive.max())) if positive.size else (0.1, 1.0)
    from matplotlib.colors import LogNorm

    norm = LogNorm(limits[0] * 0.99, limits[1] * 1.01)
    drawn = axes.pcolormesh(
        np.arange(first - 0.5, last + 1), np.arange(-0.5, len(table)), table, norm=norm
    )
    if target is not None:
        rows, columns = np.nonzero(table > target)
        axes.plot(columns + first, rows, "o", mfc="none", color="white", ms=6, mew=1.0)
    axes.set_yticks(range(len(table)), names or [str(i) for i in range(len(table))])
    axes.set_xticks(range(first, last + 1, max(1, (last - first) // 12)))
    axes.set_xlabel("round")
    axes.grid(False)
    bracket = f" [{unit}]" if unit else ""
    bar = made.colorbar(drawn, ax=axes, label=f"largest true error{bracket}")
    bar.ax.yaxis.set_major_formatter("{x:.3g}")
    bar.ax.yaxis.set_minor_formatter("{x:.3g}")
    return made


def strata_bars(group: Group, target: float | None, unit: str = "") -> "Figure":
    """Return the error in every stratum at the end, measured on fresh samples."""
    names = [str(name).replace("_", " ") for name in group.attributes.get("strata", ())]
    stratum = group.columns["stratum"].values.astype(int)
    error = group.columns["error"].values.astype(float)
    order = sorted(set(stratum.tolist()))
    worst = np.array([np.nanmean(error[stratum == s]) for s in order])
    made = style.figure(7.6, 1.2 + 0.24 * len(order))
    axes = made.add_subplot()
    fine = worst <= target if target is not None else np.ones(len(worst), bool)
    colours = [style.BLUE if ok else style.VERMILION for ok in fine]
    axes.barh(range(len(order)), worst, color=colours, height=0.7)
    labels = [names[s] if s < len(names) else str(s) for s in order]
    axes.set_yticks(range(len(order)), labels)
    axes.set_xlabel("mean true error at the end" + (f" [{unit}]" if unit else ""))
    if target is not None:
        axes.axvline(target, color=style.REFERENCE, ls=":", lw=1.2, label="target")
        axes.legend()
    return made


def decisions(group: Group, unit: str = "") -> plots.Plot | None:
    """Return the true error of every labelled sample against the deviation."""
    deviation = group.columns["deviation"].values.astype(float)
    error = group.columns["error"].values.astype(float)
    kept = np.isfinite(deviation) & np.isfinite(error) & (deviation > 0) & (error > 0)
    if kept.sum() < 5:
        return None
    round_ = group.columns["round"].values if "round" in group.columns else None
    curves = []
    for number in [None] if round_ is None else sorted(set(round_[kept].tolist())):
        mine = kept if number is None or round_ is None else kept & (round_ == number)
        label = "" if number is None else f"round {int(number)}"
        curves.append(plots.Curve(deviation[mine], error[mine], label))
    ends = np.array([deviation[kept].min(), deviation[kept].max()])
    curves.append(
        plots.Curve(ends, ends, "error = deviation", reference=True, colour=style.REFERENCE)
    )
    bracket = f" [{unit}]" if unit else ""
    return plots.Plot(
        curves,
        f"committee deviation{bracket}",
        f"true error{bracket}",
        "loglog",
        points=True,
    )
