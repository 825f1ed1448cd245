"""Sums of Maxwellians: what random flows start from."""

import math

import torch
from torch import Tensor

from .initial.base import Start

Mixture = tuple[Tensor, Tensor, Tensor]
"""Density ``[parts, systems, *cells]``, velocity ``[..., 3]`` and temperature of
Maxwellians that are added up."""


def totals(some: Mixture, dimension: int) -> Start:
    """Return density, velocity and temperature of a mixture."""
    rho, u, theta = some
    density = rho.sum(0)
    mean = (rho[..., None] * u).sum(0) / density[..., None]
    spread = (u - mean).square().sum(-1) / dimension
    return Start(density, mean, (rho * (theta + spread)).sum(0) / density)


def expansion(powers: int, shift: Tensor, excess: Tensor) -> list[Tensor]:
    """Return the Hermite coefficients 0 .. ``powers`` of a Maxwellian of unit mass.

    In a frame where its mean is ``shift`` and its temperature ``excess`` above that of the
    frame; their generating function is ``exp(shift t + excess t^2 / 2)``.
    """
    out = [torch.ones_like(shift)]
    for n in range(1, powers + 1):
        more = excess * out[n - 2] if n > 1 else 0.0
        out.append((shift * out[n - 1] + more) / n)
    return out


def samples(some: Mixture, nodes: Tensor, dimension: int) -> Tensor:
    """Return the sum of Maxwellians at velocities, ``[systems, parts, *cells, nodes]``.

    With reduced directions the second part is their energy (Chu, Phys. Fluids 8, 1965).

    Args:
        some: the Maxwellians.
        nodes: ``[nodes, V]``.
        dimension: D.
    """
    axes, parts = nodes.shape[1], [0.0, 0.0]
    for rho, u, theta in zip(*some, strict=True):
        square = (nodes - u[..., None, :axes]).square().sum(-1)
        bell = rho[..., None] / (2 * math.pi * theta[..., None]) ** (0.5 * axes)
        f = bell * torch.exp(-0.5 * square / theta[..., None])
        parts = [parts[0] + f, parts[1] + (dimension - axes) * theta[..., None] * f]
    kept = parts if dimension > axes else parts[:1]
    return torch.stack(kept, 1)  # type: ignore[arg-type]
