"""The comparison of potentials with and without symmetry: two panels."""

from typing import TYPE_CHECKING, Any

import numpy as np

from . import plots, style
from .record import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _curves(
    group: Group, name: str, x: np.ndarray, scale: float = 1.0
) -> list[plots.Curve]:
    column = group.columns[name]
    return [
        plots.Curve(x, scale * row, label)
        for row, label in zip(column.values, column.labels, strict=True)
    ]


def energies(group: Group) -> list[str]:
    """Return the names of the energy series, the shortest time step first."""
    named = [n for n in group.columns if n.startswith("energy_")]
    return sorted(named, key=lambda n: float(n.removeprefix("energy_").removesuffix("fs")))


def figure(errors: Group, conservation: Group) -> "Figure":
    """Return the figure: test error over data, and energy at constant energy.

    Args:
        errors: ``force [models, sizes]`` over ``frames``.
        conservation: ``energy_DTfs [models, steps]``, eV/atom, and ``swaps [steps]``.
    """
    made = style.figure(11.0, 4.6)
    left, right = made.subplots(1, 2)
    frames = errors.columns["frames"].values.astype(float)
    plots.draw(
        left,
        plots.Plot(
            _curves(errors, "force", frames),
            "training frames",
            "force error on new frames [eV/Å]",
            "loglog",
            title="Effect of symmetry: error over data",
        ),
    )
    name = energies(conservation)[0]
    step = float(name.removeprefix("energy_").removesuffix("fs"))
    count = conservation.columns[name].shape[1]
    time = step * np.arange(count)
    shown = time <= 200.0
    curves = [
        plots.Curve(time[shown], curve.y[shown], curve.label)
        for curve in _curves(conservation, name, time, 1000.0)
    ]
    plots.draw(
        right,
        plots.Plot(
            curves,
            "time [fs]",
            "change of total energy [meV/atom]",
            title=f"Effect of smoothness: energy without a bath, step {step:g} fs",
        ),
    )
    _mark_swaps(right, conservation, step)
    handles, labels = right.get_legend_handles_labels()
    for axes in (left, right):
        legend = axes.get_legend()
        if legend is not None:
            legend.remove()
    made.legend(handles, labels, loc="outside lower center", ncols=3)
    return made


def _mark_swaps(axes: Any, group: Group, step: float) -> None:
    """Draw a tick at the foot for every step at which nearest neighbours changed."""
    if "swaps" not in group.columns:
        return
    at = step * np.flatnonzero(group.columns["swaps"].values > 0)
    axes.plot(
        at, np.full(len(at), 0.02), "|", color=style.REFERENCE, ms=7, mew=0.7,
        transform=axes.get_xaxis_transform(),
        label="two nearest neighbours of an atom change",
    )  # fmt: skip


def drifts(group: Group) -> list[plots.Plot]:
    """Return the drift of every model over the time step."""
    column = group.columns["drift"]
    steps = np.array(column.array.attrs["time_steps"], dtype=float)
    curves = [
        plots.Curve(steps, np.abs(row), label)
        for row, label in zip(column.values, column.labels, strict=True)
    ]
    return [plots.Plot(curves, "time step [fs]", "energy drift [eV/atom/ps]", "loglog")]
