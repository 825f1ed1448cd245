"""Statistics of correlated series: where equilibrium begins, how much was seen of it."""

import math
from dataclasses import dataclass

import numpy as np

FEWEST = 20
"""Samples of a series below which nothing is said about it."""


@dataclass(frozen=True)
class Equilibrium:
    """What a series says of its own equilibrium.

    Attributes:
        start: first sample of the part that counts.
        inefficiency: correlated samples that are worth one, ``g = 1 + 2 tau``.
        effective: independent samples in the part that counts.
        mean: of that part.
        error: standard error of the mean.
    """

    start: int
    inefficiency: float
    effective: float
    mean: float
    error: float


def inefficiency(series: np.ndarray) -> float:
    """Return ``g = 1 + 2 sum_t (1 - t/n) C(t)`` of a series ``[n]``.

    The sum ends at the first lag at which the normalised autocorrelation C is not positive.
    A series that does not vary has ``g = 1``, one that is not finite NaN.

    Reference: J. D. Chodera et al., J. Chem. Theory Comput. 3, 26 (2007), section 2.4.
    """
    count = len(series)
    if not np.isfinite(series).all():
        return math.nan
    deviation = series - series.mean()
    # summed in f64, a constant series leaves 1e-16 of its size
    if count < 3 or deviation.std() <= 1e-14 * max(abs(series.mean()), 1e-300):
        return 1.0
    spectrum = np.fft.rfft(deviation, 2 * count)
    products = np.fft.irfft(np.abs(spectrum) ** 2)[:count]
    correlation = products / products[0] * count / (count - np.arange(count))
    negative = np.flatnonzero(correlation <= 0)
    last = int(negative[0]) if len(negative) else count
    lags = np.arange(1, last)
    return max(1.0, 1.0 + 2.0 * float(((1 - lags / count) * correlation[1:last]).sum()))


def equilibrium(series: np.ndarray, candidates: int = 40) -> Equilibrium:
    """Find the start that leaves most independent samples, and describe what follows it.

    A transient at the beginning makes the whole series look correlated, so that leaving it
    out raises the number of independent samples ``(n - t0) / g(t0)``.

    Args:
        series: ``[n]``, at least :data:`FEWEST` samples.
        candidates: starts that are tried, evenly over the first four fifths.

    Reference: J. D. Chodera, J. Chem. Theory Comput. 12, 1799 (2016).
    """
    series = np.asarray(series, dtype=np.float64)
    count = len(series)
    if not np.isfinite(series).all():
        return Equilibrium(0, math.nan, math.nan, math.nan, math.nan)
    starts = np.unique(np.linspace(0, 0.8 * count, candidates).astype(int))
    found = [(t, inefficiency(series[t:])) for t in starts if count - t >= 4]
    start, g = max(found, key=lambda each: (count - each[0]) / each[1])
    kept = series[start:]
    effective = len(kept) / g
    error = float(kept.std(ddof=1)) / math.sqrt(effective)
    return Equilibrium(int(start), g, effective, float(kept.mean()), error)


def trend(series: np.ndarray) -> float:
    """Return the slope of the last two thirds of a series over its standard error.

    The search for equilibrium shortens a series that drifts until no drift is seen; the
    part that is looked at here is therefore fixed. The residuals of the fitted line say how
    correlated the samples are, and two of the independent ones are used up by the line.

    Args:
        series: ``[n]``, at least :data:`FEWEST` samples.
    """
    kept = np.asarray(series, dtype=np.float64)[len(series) // 3 :]
    count = len(kept)
    slope, rest = line(kept)
    if not math.isfinite(slope):
        return math.nan
    g, squares = inefficiency(rest), count * (count**2 - 1) / 12
    variance = rest.var() * g / squares * count / max(count - 2 * g, g)
    return abs(slope) / math.sqrt(variance) if variance > 0 else 0.0


def line(series: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the slope per sample of the fitted straight line, and what is left of it."""
    time = np.arange(len(series)) - 0.5 * (len(series) - 1)
    slope = float(time @ series) / float(time @ time)
    return slope, series - series.mean() - slope * time


__all__ = ["FEWEST", "Equilibrium", "equilibrium", "inefficiency", "line", "trend"]
