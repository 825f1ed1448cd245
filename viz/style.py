"""The common style of pictures: colour-blind-safe, one colour per model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INDIGO, OLIVE = "#332288", "#999933"

CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Colours of lines without a model: Okabe and Ito's colour-blind-safe palette."""

MODELS = {
    "realizable moments, learned": INDIGO,
    "realizable": OLIVE,
    "euler, muscl": BLUE,
    "euler": ORANGE,
    "nsf": SKY,
    "navier": SKY,
    "grad": VERMILION,
    "hme": GREEN,
    "hyperbolic": GREEN,
    "learned": PURPLE,
    "closure": PURPLE,
    "kinetic": BLACK,
    "boltzmann": BLACK,
    "es-bgk": "#555555",
    "esbgk": "#555555",
    "shakhov": "#888888",
    "bgk": BLACK,
}
"""A model's colour, by the first of these words that its name contains."""

REFERENCE, BENEATH = "#444444", "#c4c4c4"
SOLID = "#b8b8b8"
"""Where a map has no values: solids in the flow."""
SEQUENTIAL, DIVERGING = "viridis", "PuOr_r"
GOOD, BAD, OPEN = "#00694e", "#b3400e", "#555555"

RESOLUTION = 130
"""Points per inch of a picture in a report."""

_SETTINGS: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "image.cmap": SEQUENTIAL,
    "image.origin": "lower",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": RESOLUTION,
    "svg.hashsalt": "scalebridge",
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the common style; the caller's matplotlib settings stay as they are."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def figure(width: float = 7.2, height: float = 3.6) -> "Figure":
    """Return a figure without a window, in inches; call it within :func:`styled`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    made.get_layout_engine().set(w_pad=0.09)  # type: ignore[union-attr]
    FigureCanvasAgg(made)
    return made


def model_colour(label: str) -> str | None:
    """Return the colour of the model that a label names, None where it names none."""
    words = label.lower()
    if "energy" in words:  # kinetic energy is no kinetic model
        return None
    return next((colour for model, colour in MODELS.items() if model in words), None)


def darker(colour: str) -> str:
    """Return a colour with half of its light."""
    from matplotlib.colors import to_rgb

    return _hex(0.5 * np.array(to_rgb(colour)))


def colours_of(labels: list[str]) -> list[str]:
    """Return one colour per label: a model's own, others from the cycle.

    Many curves that differ in a number take colours from a sequential map, and so do
    those that are too many for the cycle.
    """
    own = [model_colour(label) for label in labels]
    numbered = all(any(c.isdigit() for c in label) for label in labels)
    if not any(own) and len(labels) > (4 if numbered else len(CYCLE)):
        return [_hex(rgb) for rgb in _ramp(len(labels))]
    free = [colour for colour in CYCLE if colour not in own]
    chosen: list[str] = []
    for number, colour in enumerate(own):
        if colour is None or colour in chosen:
            colour = free.pop(0) if free else CYCLE[number % len(CYCLE)]
        chosen.append(colour)
    return chosen


def _ramp(count: int) -> np.ndarray:
    return matplotlib.colormaps[SEQUENTIAL](np.linspace(0.0, 0.88, count))[:, :3]


def _hex(rgb: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(c)):02x}" for c in rgb)


def element_colours(symbols: np.ndarray) -> np.ndarray:
    """Return the colour ``[atoms, 3]`` in 0..1 of each chemical symbol."""
    from ase.data import atomic_numbers
    from ase.data.colors import jmol_colors

    special = {"Si": (0.90, 0.66, 0.30), "H": (0.93, 0.93, 0.93), "C": (0.35, 0.35, 0.35)}
    names, index = np.unique(symbols, return_inverse=True)
    table = [
        special.get(str(n), tuple(jmol_colors[atomic_numbers.get(str(n), 0)]))
        for n in names
    ]
    return np.asarray(table)[index]


def element_radii(symbols: np.ndarray) -> np.ndarray:
    """Return the covalent radius ``[atoms]`` of each chemical symbol, angstrom."""
    from ase.data import atomic_numbers, covalent_radii

    names, index = np.unique(symbols, return_inverse=True)
    table = [float(covalent_radii[atomic_numbers.get(str(n), 0)]) for n in names]
    return np.asarray(table)[index]


_SIGNS = (("angstrom", "Å"), ("^3", "³"), ("^2", "²"), ("rho0", "ρ₀"), ("T0", "T₀"))


def unit_of(text: object) -> str:
    """Return a unit as it is printed: symbols for words."""
    said = "" if str(text) == "1" else str(text)
    for word, sign in _SIGNS:
        said = said.replace(word, sign)
    return said


def number(value: float, error: float | None = None) -> str:
    """Format a number: four digits, or as many as its error allows."""
    if value is None or not np.isfinite(value):
        return "none" if value is None else str(value)
    if error is not None and np.isfinite(error) and error > 1e-7 * abs(value):
        decimals = max(0, 1 - int(np.floor(np.log10(error))))
        if decimals <= 8 and abs(value) < 1e6:
            return f"{value:.{decimals}f} ± {error:.{decimals}f}"
        return f"{value:.6g} ± {error:.2g}"
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    return f"{value:.3e}" if abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:.5g}"
