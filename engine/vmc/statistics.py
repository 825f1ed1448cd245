"""Error bars of correlated series: blocking, autocorrelation, extrapolation."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def blocked_error(series: Tensor, least: int = 16) -> float:
    """Return the standard error of the mean of a correlated series.

    Neighbours are averaged again and again; the naive error grows until blocks are longer
    than the correlation, and its largest value over all levels with at least ``least``
    blocks is returned (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989)).

    Args:
        series: ``[steps]``.
        least: blocks that a level needs to count.
    """
    values = series.double()
    if len(values) < 2:
        return math.nan
    errors = [float(values.std()) / math.sqrt(len(values))]
    while len(values) // 2 >= least:
        values = values[: len(values) // 2 * 2].view(-1, 2).mean(1)
        errors.append(float(values.std()) / math.sqrt(len(values)))
    return max(errors)


def walker_error(samples: Tensor) -> float:
    """Return the standard error of the mean of ``[steps, walkers]``.

    Walkers are independent chains: the spread of their time averages is an error bar
    whatever the correlation in time.
    """
    means = samples.double().mean(0)
    return float(means.std()) / math.sqrt(len(means))


def autocorrelation_time(samples: Tensor, window: float = 5.0) -> float:
    """Return the integrated autocorrelation time of ``[steps, walkers]`` in sweeps.

    ``tau = 1 + 2 sum rho(t)``, summed up to the first ``t >= window * tau`` (Sokal); the
    correlation function is averaged over walkers.
    """
    steps = len(samples)
    centred = samples.double() - samples.double().mean()
    spectrum = torch.fft.rfft(centred, n=2 * steps, dim=0).abs().square()
    correlation = torch.fft.irfft(spectrum, dim=0)[:steps].mean(1)
    correlation = correlation / torch.arange(steps, 0, -1)
    if float(correlation[0]) <= 0:
        return 1.0
    rho = correlation / correlation[0]
    times = 2 * torch.cumsum(rho, 0) - 1
    enough = torch.nonzero(torch.arange(steps) >= window * times)
    stop = int(enough[0]) if len(enough) else steps - 1
    return max(1.0, float(times[stop]))


def drift(samples: Tensor) -> float:
    """Return by how many standard errors the last third differs from the first.

    Walkers are independent: the spread of their differences is the error.

    Args:
        samples: ``[steps, walkers]``.
    """
    third = max(len(samples) // 3, 1)
    change = samples[-third:].double().mean(0) - samples[:third].double().mean(0)
    error = float(change.std()) / math.sqrt(len(change))
    return float(change.mean()) / max(error, 1e-300) if error else 0.0


@dataclass(frozen=True)
class Extrapolation:
    """A straight line through energy against variance.

    Attributes:
        energy: its value at variance zero, hartree.
        error: standard error of that value.
        slope: hartree of energy per hartree^2 of variance.
    """

    energy: float
    error: float
    slope: float


def extrapolate(energy: Tensor, variance: Tensor, blocks: int = 10) -> Extrapolation | None:
    """Fit ``E = E_0 + slope * variance`` to the course of an optimisation.

    The last half of the steps is averaged over ``blocks`` blocks; near the ground state
    energy and variance vanish together, to first order in the residue (Fu, Ren, Chen,
    Machine Learning: Science and Technology 5, 015016 (2024)).

    Returns:
        None if there are fewer than ``4 * blocks`` steps or the variance does not change.
    """
    if len(energy) < 4 * blocks:
        return None
    half = len(energy) // 2 // blocks * blocks
    e = energy[-half:].double().view(blocks, -1).mean(1)
    v = variance[-half:].double().view(blocks, -1).median(1).values
    spread = v - v.mean()
    total = float(spread.square().sum())
    if total <= 1e-24:
        return None
    slope = float((spread * (e - e.mean())).sum()) / total
    intercept = float(e.mean()) - slope * float(v.mean())
    residue = float((e - intercept - slope * v).square().sum()) / (blocks - 2)
    error = math.sqrt(residue * (1 / blocks + float(v.mean()) ** 2 / total))
    return Extrapolation(intercept, error, slope)
