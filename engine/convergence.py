"""Is a result resolved? The same scenario on three grids, each half as fine as the next.

With the values f1, f2, f3 of a figure on grids of spacing h, 2 h, 4 h (h is the scenario's
own) the observed order and the value at h = 0 (Richardson) are

    p = log2((f3 - f2) / (f2 - f1)),        f = f1 + (f1 - f2) / (2^p - 1),

and the error bar of f1 is the grid convergence index 1.25 |f1 - f2| / (2^p - 1): P. J.
Roache, J. Fluids Eng. 116, 405 (1994), with his factor of safety for three grids. As W. L.
Oberkampf and C. J. Roy advise (Verification and Validation in Scientific Computing, 2010,
section 8.6) the order that enters is bounded: by 1/2 from below, where an order near 0
would divide by zero, and in the bar by 2 from above, where an order that came about by
chance would promise too much. Where the differences do not fall, or alternate in sign, the
sequence does not converge and the bar is the largest difference between two grids.

Fields are compared by L1, on the coarser grid of two by means over cells: these equal the
values at the centre to O(h^2), so that fields show no order above 2.

The scenario's grid is the finest: the three runs cost at most 1.5 times the run itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import commands
from . import scenario as scenarios
from .errors import InputError
from .manifest import open_store
from .protocols import Figure
from .rundir import new_path

SAFETY = 1.25
"""Factor of safety of the grid convergence index where the order was measured."""
LEAST, MOST = 0.5, 2.0
"""Bounds of the order in an extrapolation, and of that in an error bar."""
GRIDS = (3, 6)
"""How many grids there may be."""
OF_THE_RUN = (
    "collisions", "complex_fraction", "complex_speed", "fallbacks", "labels",
    "limiter_activity", "negative_fraction", "particles", "positivity_fallbacks",
    "steady_time",
)  # fmt: skip
"""Figures of what a run did, which have no limit on fine grids; drifts and times too."""

Fields = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Convergence:
    """What a sequence of grids says of one figure or field.

    Attributes:
        name: of the figure; ``L1 NAME`` of a field.
        order: observed; NaN where there is nothing to measure.
        value: Richardson's, at spacing 0; for a field the L1 distance to it.
        error: bar of the value on the finest grid.
        verdict: ``converges``, ``exact``, ``within noise``, or why it does not converge.
    """

    name: str
    order: float
    value: float
    error: float
    verdict: str

    @property
    def passed(self) -> bool:
        """Whether the sequence converges."""
        return self.verdict in ("converges", "exact", "within noise")


def levels(cells: Sequence[int], grids: int = 3) -> list[tuple[int, ...]]:
    """Return the cells of every grid, the finest first.

    Raises:
        InputError: they cannot be halved that often.
    """
    if not GRIDS[0] <= grids <= GRIDS[1]:
        raise InputError(f"--grids: {grids}; from {GRIDS[0]} to {GRIDS[1]}")
    factor = 2 ** (grids - 1)
    if any(n % factor or n < 4 * factor for n in cells):
        raise InputError(
            f"grid.cells: {list(cells)} cannot be halved {grids - 1} times; multiples of "
            f"{factor}, at least {4 * factor}, can"
        )
    return [tuple(n >> level for n in cells) for level in range(grids)]


def of_figure(name: str, figures: Sequence[Figure]) -> Convergence:
    """Judge a figure by its values on the three finest grids, the finest first."""
    f1, f2, f3 = (each.value for each in figures[:3])
    fine, coarse = f2 - f1, f3 - f2
    floor = 1e-10 * max(1e-2, abs(f1))
    noise = 2.0 * math.hypot(*(each.error or 0.0 for each in figures[:2]))
    found = _judged(name, fine, coarse, floor, noise)
    bar = math.hypot(found.error, figures[0].error or 0.0)
    return Convergence(name, found.order, f1 + found.value, bar, found.verdict)


def of_field(name: str, fields: Sequence[Fields]) -> Convergence:
    """Judge a field by the L1 distances between the three finest grids, finest first."""
    values = [each[name].astype(np.float64) for each in fields[:3]]
    fine, coarse = (_distance(values[k], values[k + 1]) for k in (0, 1))
    scale = max(1.0, float(np.abs(values[0]).mean()))
    floor = 1e3 * float(np.finfo(fields[0][name].dtype).eps) * scale
    spread = [float(np.abs(each.get(f"{name}_error", 0.0)).mean()) for each in fields[:2]]
    found = _judged(f"L1 {name}", fine, coarse, floor, 2.0 * math.hypot(*spread))
    return Convergence(
        found.name, found.order, abs(found.value), found.error, found.verdict
    )


def _judged(
    name: str, fine: float, coarse: float, floor: float, noise: float
) -> Convergence:
    """Judge two differences; ``value`` is what is added to the finest grid's."""
    widest = max(abs(fine), abs(coarse), abs(fine + coarse))
    if not math.isfinite(widest):
        return Convergence(name, math.nan, math.nan, math.inf, "not finite")
    if widest <= floor:
        return Convergence(name, math.nan, 0.0, widest, "exact")
    if abs(fine) <= noise:
        return Convergence(name, math.nan, 0.0, widest, "within noise")
    if abs(fine) <= floor:
        return Convergence(name, math.nan, 0.0, widest, "converges")
    order = math.log2(abs(coarse / fine)) if coarse else -math.inf
    if coarse * fine < 0.0:
        return Convergence(name, order, 0.0, widest, "alternates")
    if order <= 0.0:
        return Convergence(name, order, 0.0, widest, "differences do not fall")
    value = -fine / (2.0 ** max(order, LEAST) - 1.0)
    error = SAFETY * abs(fine) / (2.0 ** min(max(order, LEAST), MOST) - 1.0)
    return Convergence(name, order, value, error, "converges")


def _distance(fine: np.ndarray, coarse: np.ndarray) -> float:
    """Return the mean of |fine - coarse| over the cells of the coarse grid."""
    for axis, (many, few) in enumerate(zip(fine.shape, coarse.shape, strict=True)):
        if many == 2 * few:
            shape = (*fine.shape[:axis], few, 2, *fine.shape[axis + 1 :])
            fine = fine.reshape(shape).mean(axis + 1)
    return float(np.abs(fine - coarse).mean())


def last_fields(folder: Path, cells: Sequence[int]) -> Fields:
    """Return the fields of a run at its end: averages where there are, or the last frame.

    Args:
        folder: of the run.
        cells: of its grid; an array that does not have them as dimensions is left out.
    """
    store = open_store(folder)
    averaged = "average" in store
    group: Any = store["average" if averaged else "fields"]
    arrays = {name: array for name, array in group.arrays() if name not in ("x", "y", "z")}
    last = {n: np.asarray(a[...] if averaged else a[-1]) for n, a in arrays.items()}
    return {name: values for name, values in last.items() if _has(values.shape, cells)}


def _has(shape: Sequence[int], cells: Sequence[int]) -> bool:
    size = len(cells)
    return any(tuple(shape[k : k + size]) == tuple(cells) for k in (0, 1))


def _judgements(
    figures: Sequence[Mapping[str, Figure]], fields: Sequence[Fields], chosen: str | None
) -> Iterator[Convergence]:
    for name in figures[0]:
        everywhere = all(name in each for each in figures[:3])
        if name == chosen or (chosen is None and everywhere and not _of_the_run(name)):
            yield of_figure(name, [each[name] for each in figures])
    for name in sorted(fields[0]) if chosen is None else ():
        if not name.endswith("_error"):
            yield of_field(name, fields)


def _of_the_run(name: str) -> bool:
    timed = name.startswith(
        ("seconds", "md_calls", "calls_vs", "last_call")
    ) or name.endswith(("_drift", "_seconds"))
    return timed or name in OF_THE_RUN or name.startswith("grad13_complex")


def run(
    scenario: str,
    settings: Sequence[str] = (),
    grids: int = 3,
    figure: str | None = None,
    out: Path | None = None,
    **options: Any,
) -> list[Convergence]:
    """Run a scenario on every grid, the coarsest first, and judge what came out.

    Args:
        scenario: a file, or the name of a shipped one; of any kind with ``grid.cells``.
        settings: ``key=value`` pairs that replace single keys.
        grids: how many; the finest is the scenario's own.
        figure: judge this one alone; every figure and field by default.
        out: folder of the run folders, each named by its cells.
        **options: of :func:`.commands.run`.

    Raises:
        InputError: the scenario has no grid, or its cells cannot be halved; a grid is
            refused; no run gives the figure.
    """
    checked, _ = scenarios.load(scenario, settings)
    given = getattr(getattr(checked, "grid", None), "cells", None)
    if given is None:
        raise InputError(
            f"{scenario}: kind = {checked.kind} here has no grid.cells to halve"
        )
    alone = isinstance(given, int)
    sizes = levels([given] if alone else given, grids)
    if getattr(checked, "resolution", "") == "auto":  # the grids say it themselves
        settings = [*settings, "resolution='trusted'"]
    chosen = [
        [*settings, f"grid.cells={size[0] if alone else list(size)}"] for size in sizes
    ]
    for each in chosen:
        commands.check(scenario, each)
    base = out if out is not None else new_path(scenarios.find(scenario).stem + "-grids")
    figures: list[Mapping[str, Figure]] = []
    fields: list[Fields] = []
    for size, each in reversed(list(zip(sizes, chosen, strict=True))):
        folder = base / "x".join(str(n) for n in size)
        figures.insert(0, commands.run(scenario, each, folder, **options).figures)
        fields.insert(0, last_fields(folder, size))
    missing = figure is not None and not all(figure in each for each in figures)
    if missing:
        names = ", ".join(figures[0]) or "none"
        raise InputError(f"--figure {figure}: no figure of this scenario; it has {names}")
    return list(_judgements(figures, fields, figure))


def table(found: Sequence[Convergence]) -> str:
    """Return order, extrapolated value and error bar, a line each."""
    rows = [("", "order", "at spacing 0", "error bar", "")]
    for each in found:
        order = "-" if math.isnan(each.order) else f"{each.order:.2f}"
        numbers = f"{each.value:.6g}", f"{each.error:.2g}"
        rows.append((each.name, order, *numbers, each.verdict))
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    return "\n".join(
        "  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


__all__ = ["Convergence", "last_fields", "levels", "of_field", "of_figure", "run", "table"]
