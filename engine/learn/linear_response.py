r"""Linear response of a closure: transport coefficients, sound, growth.

For waves ``exp(ikx + lambda t)`` on a gas at rest the hydrodynamic limit of the BGK
equation in one velocity dimension is ``lambda -> -(k tau)^2 / tau`` for heat and
``+- i sqrt(3) k - (k tau)^2 / tau`` for sound, both with coefficient 1 (theta = 1; a 1V gas
has no shear, so the ratio of the two takes the part of the Prandtl number). What a closure
gives instead is its effective heat conduction and sound attenuation.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...models.closures.face import FaceClosure
from .trainers.closure import fine_response, hydrodynamic_modes, linear_matrix, linear_rates

RATIOS = tuple(float(r) for r in np.logspace(-2.0, math.log10(0.8), 24))
"""Values of ``k tau``, from the fluid to where sound ends."""

COLUMNS = ("k tau", "sound attenuation", "speed of sound", "heat conduction", "growth")
"""Columns of a table: the first as it is, attenuation and conduction over their
hydrodynamic values, the speed over ``sqrt(3 theta)``, the largest real part times tau."""


def scaled(rates: np.ndarray, k: float, tau: float) -> list[float]:
    """Return sound attenuation, speed of sound and heat conduction of three rates."""
    sound, heat = rates[0], rates[2]
    limit = k * k * tau
    return [
        -float(sound.real) / limit,
        abs(float(sound.imag)) / (math.sqrt(3.0) * k),
        -float(heat.real) / limit,
    ]


def table(
    module: FaceClosure | None,
    order: int,
    number: int = 1,
    ratios: Sequence[float] = RATIOS,
) -> Tensor:
    """Return what the moment equations do to small waves, ``[ratios, 5]``.

    Args:
        module: None for HME.
        order: M.
        number: waves in the closure's unit of length; the relaxation time varies.
        ratios: ``k tau``.

    Returns:
        See :data:`COLUMNS`.
    """
    k, lines = 2 * math.pi * number, []
    for ratio in ratios:
        tau = ratio / k
        rates, _ = linear_rates(module, order, k, tau)
        lines.append([ratio, *scaled(rates, k, tau), _growth(module, order, k, tau)])
    return torch.tensor(lines, dtype=torch.float64)


def exact_table(number: int = 1, ratios: Sequence[float] = RATIOS) -> Tensor:
    """Return the same of the BGK equation; growth is that of its slowest wave."""
    k, lines = 2 * math.pi * number, []
    for ratio in ratios:
        rates = hydrodynamic_modes(k, ratio / k, 3)[0]
        growth = float(rates.real.max()) * ratio / k
        lines.append([ratio, *scaled(rates, k, ratio / k), growth])
    return torch.tensor(lines, dtype=torch.float64)


def _growth(module: FaceClosure | None, order: int, k: float, tau: float) -> float:
    at = torch.tensor([k], dtype=torch.float64), torch.tensor([tau], dtype=torch.float64)
    response = None if module is None else fine_response(module, *at).detach()
    values = torch.linalg.eigvals(linear_matrix(order, *at, response))
    return float(values.real.max()) * tau


def transport_error(found: Tensor, exact: Tensor, until: float = 0.1) -> float:
    """Return the largest relative error of attenuation and conduction up to ``k tau``."""
    kept = exact[:, 0] <= until
    ours, true = found[kept][:, [1, 3]], exact[kept][:, [1, 3]]
    return float(((ours - true) / true).abs().amax())
