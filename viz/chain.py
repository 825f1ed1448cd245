"""Pictures of the chain from quantum chemistry to shocks, from top to bottom."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import plots, style
from .record import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = (style.VERMILION, style.BLACK, style.GREEN)
"""Colours of the kinds of labels."""

SHOCKS = "shock/"
"""Prefix of the groups of profiles, ``shock/MODEL_MACH``."""

MODELS = {
    "dsmc": ("Boltzmann equation (particles)", style.BLACK),
    "shakhov": ("kinetic equation (Shakhov)", style.BLUE),
    "closure": ("moments with a learned closure", style.PURPLE),
    "nsf": ("Navier-Stokes-Fourier", style.ORANGE),
}


def potential(groups: Mapping[str, Group]) -> "Figure":
    """Draw V(r) with its labels; its error bar and the departure from the reference."""
    group, labels = groups["potential"], groups["labels"]
    r, v = group.columns["r"].values, group.columns["energy"].values
    made = style.figure(11.0, 4.2)
    left, right = made.subplots(1, 2)
    depth = max(1.0, -float(v.min()))
    plots.draw(left, plots.Plot([plots.Curve(r, v, "learned")], "separation [Å]", "V [K]"))
    place, energy, spread = (
        labels.columns[name].values for name in ("separation", "energy", "energy_error")
    )
    sources = np.array(labels.attributes.get("sources") or [""] * len(place))
    for kind, colour in zip(dict.fromkeys(sources), LABELS, strict=False):
        own = sources == kind
        left.errorbar(
            place[own], energy[own], spread[own], fmt="o", color=colour,
            label=f"labels by {kind}" if kind else "labels", zorder=5,
        )  # fmt: skip
    if "energy_reference" in group.columns:
        exact = group.columns["energy_reference"].values
        left.plot(r, exact, "--", color=style.REFERENCE, label="published")
    left.set_yscale("symlog", linthresh=depth)
    left.legend()
    bar = group.columns["relative_error_bar"].values
    right.fill_between(r, -bar, bar, color=style.BLUE, alpha=0.25, label="one error bar")
    if "departure" in group.columns:
        gap = group.columns["departure"].values
        right.plot(r, gap, color=style.REFERENCE, label="learned - published")
    for r_label in place:
        right.axvline(r_label, color=style.VERMILION, lw=0.7, alpha=0.6)
    right.set_xlabel("separation [Å]")
    right.set_ylabel("% of repulsion + dispersion")
    right.legend()
    return made


def chosen(groups: Mapping[str, Group]) -> str:
    """Say why labels were added to the first ones, and why no more were."""
    reasons = groups["labels"].attributes.get("reasons") or []
    return f" After the first labels: {'; '.join(reasons)}." if reasons else ""


def gas(groups: Mapping[str, Group]) -> "Figure":
    """Draw viscosity, conductivity and B2 with their bars, less the reference.

    Beside the viscosity stands what colliding pairs give, less their own integral.
    """
    group = groups["gas"]
    t = group.columns["temperature"].values
    made = style.figure(11.0, 3.6)
    for axes, name in zip(
        made.subplots(1, 3), ("viscosity", "conductivity", "virial"), strict=True
    ):
        column = group.columns[name]
        value, spread = column.values, group.columns[f"{name}_error"].values
        exact = group.columns.get(f"{name}_reference")
        title = column.title
        if exact is not None and name == "virial":
            value, title = value - exact.values, f"{column.title}, less published"
        elif exact is not None:
            value, spread = 100 * (value / exact.values - 1), 100 * spread / exact.values
            title = f"{name}, departure from published [%]"
        axes.errorbar(t, value, spread, fmt="o-", color=style.BLUE, capsize=3)
        if exact is not None:
            axes.axhline(0.0, color=style.REFERENCE, ls="--")
        axes.set_xlabel("temperature [K]")
        axes.set_ylabel(title)
    if "confirmation" in groups:
        columns = groups["confirmation"].columns
        integral = columns["viscosity_reference"].values
        made.axes[0].errorbar(
            columns["temperature"].values,
            100 * (columns["viscosity"].values / integral - 1),
            100 * columns["viscosity_error"].values / integral,
            fmt="s", color=style.VERMILION, capsize=3,
            label="colliding pairs, from integrals",
        )  # fmt: skip
        made.axes[0].legend(fontsize=8)
    return made


def shocks(groups: Mapping[str, Group]) -> "Figure":
    """Draw the profiles of every model, a panel for each Mach number."""
    found = sorted((_mach(name), name) for name in groups if name.startswith(SHOCKS))
    machs = sorted({mach for mach, _ in found})
    made = style.figure(3.8 * len(machs), 3.8)
    for axes, mach in zip(np.atleast_1d(made.subplots(1, len(machs))), machs, strict=True):
        for name in (name for m, name in found if m == mach):
            model = name.removeprefix(SHOCKS).rpartition("_")[0]
            label, colour = MODELS.get(model, (model, style.PURPLE))
            group = groups[name]
            x, rho = group.columns["x"].values, group.columns["density"].values
            middle = float(np.interp(0.5, rho, x))
            axes.plot(x - middle, rho, color=colour, label=label)
            axes.plot(x - middle, group.columns["temperature"].values, color=colour, ls=":")
        axes.set_xlim(-10, 8)
        axes.set_title(f"Mach {mach:g}", loc="left")
        axes.set_xlabel("x [mean free paths ahead]")
    made.axes[0].set_ylabel("density (lines), temperature (dots)")
    lines = {line.get_label(): line for axes in made.axes[::-1] for line in axes.lines}
    known = [label for label, _ in MODELS.values() if label in lines]
    handles = [lines[label] for label in known]
    made.legend(handles, known, loc="outside lower center", ncols=2, fontsize=8)
    return made


def thickness(groups: Mapping[str, Group]) -> "Figure":
    """Draw the inverse thickness over Mach, the budget, and the gradient by the labels."""
    made = style.figure(12.5, 3.8)
    left, middle, right = made.subplots(1, 3, width_ratios=(1.0, 1.3, 1.0))
    group = groups["thickness"]
    mach = group.columns["mach"].values
    for model, (label, colour) in MODELS.items():
        if model in group.columns:
            left.plot(mach, group.columns[model].values, "o-", color=colour, label=label)
    left.set_xlabel("Mach number")
    left.set_ylabel("inverse thickness [1/mean free path]")
    low, high = left.get_ylim()
    left.set_ylim(low, high + 0.5 * (high - low))  # room for the legend
    left.legend(fontsize=8, loc="upper left")
    budget(middle, groups["budget"])
    slope = groups["gradient"]
    r, by = slope.columns["r"].values, slope.columns["by_energy"].values
    right.stem(r, by, basefmt=" ")
    right.axhline(0.0, color=style.REFERENCE, lw=0.7)
    right.set_xlabel("separation of the label [Å]")
    right.set_ylabel("d ln(1/thickness) / d ln V")
    wall = slope.attributes.get("wall") or {}
    told = "\n".join(f"whole wall, {way}: {value:.4f}" for way, value in wall.items())
    right.set_title(told, loc="left", fontsize=8)
    return made


def budget(axes: "plots.Axes", group: Group) -> None:
    """Draw the error budget as bars."""
    size = group.columns["size"].values
    names: Sequence[str] = group.attributes.get("labels") or [""] * len(size)
    place = np.arange(len(size))[::-1]
    axes.barh(place, np.maximum(size, 1e-3), color=style.BLUE)
    axes.set_yticks(place, names, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("error of the thickness [%]")
    axes.grid(axis="y", visible=False)


def _mach(name: str) -> float:
    return float(name.rpartition("_")[2])
