"""Real spherical harmonics as polynomials of a unit vector, with their gradients.

Racah normalisation: ``sum_m Y_lm(u) Y_lm(v) = P_l(u . v)``, so that products of moments
are Legendre sums over pairs of neighbours.
"""

import math

import torch
from torch import Tensor

MAX_DEGREE = 3

_S3 = math.sqrt(3.0)
_A, _B, _C = math.sqrt(5 / 8), math.sqrt(3 / 8), math.sqrt(15.0)


def harmonics(unit: Tensor, lmax: int) -> Tensor:
    """Return ``Y_lm(u)`` for l = 0..lmax, m = -l..l (l = 1 stands as x, y, z).

    Args:
        unit: unit vectors ``[..., 3]``.
        lmax: highest degree, at most 3.

    Returns:
        ``[..., (lmax + 1)^2]``.
    """
    x, y, z = unit.unbind(-1)
    columns = [torch.ones_like(x), x, y, z][: (min(lmax, 1) + 1) ** 2]
    if lmax >= 2:
        columns += [
            _S3 * x * y,
            _S3 * y * z,
            0.5 * (3 * z * z - 1),
            _S3 * x * z,
            0.5 * _S3 * (x * x - y * y),
        ]
    if lmax >= 3:
        columns += [
            _A * y * (3 * x * x - y * y),
            _C * x * y * z,
            _B * y * (5 * z * z - 1),
            0.5 * z * (5 * z * z - 3),
            _B * x * (5 * z * z - 1),
            0.5 * _C * z * (x * x - y * y),
            _A * x * (x * x - 3 * y * y),
        ]
    return torch.stack(columns, -1)


def harmonics_gradient(unit: Tensor, distance: Tensor, lmax: int) -> Tensor:
    """Return ``dY_lm(d / |d|) / dd`` in closed form.

    The gradient of the polynomial is projected on the tangent plane:
    ``(1 - u u^T) grad Y / r``.

    Args:
        unit: ``[..., 3]``.
        distance: ``[...]`` angstrom.
        lmax: highest degree, at most 3.

    Returns:
        ``[3, ..., (lmax + 1)^2]`` in 1 / angstrom, the Cartesian component first.
    """
    x, y, z = unit.unbind(-1)
    o, i = torch.zeros_like(x), torch.ones_like(x)
    rows = [(o, o, o), (i, o, o), (o, i, o), (o, o, i)][: (min(lmax, 1) + 1) ** 2]
    if lmax >= 2:
        rows += [
            (_S3 * y, _S3 * x, o),
            (o, _S3 * z, _S3 * y),
            (o, o, 3 * z),
            (_S3 * z, o, _S3 * x),
            (_S3 * x, -_S3 * y, o),
        ]
    if lmax >= 3:
        rows += [
            (6 * _A * x * y, 3 * _A * (x * x - y * y), o),
            (_C * y * z, _C * x * z, _C * x * y),
            (o, _B * (5 * z * z - 1), 10 * _B * y * z),
            (o, o, 0.5 * (15 * z * z - 3)),
            (_B * (5 * z * z - 1), o, 10 * _B * x * z),
            (_C * x * z, -_C * y * z, 0.5 * _C * (x * x - y * y)),
            (3 * _A * (x * x - y * y), -6 * _A * x * y, o),
        ]
    free = torch.stack([torch.stack(row) for row in rows], -1)
    along = (free * unit.movedim(-1, 0)[..., None]).sum(0)
    return (free - along * unit.movedim(-1, 0)[..., None]) / distance[..., None]


def quadrupole_matrices() -> Tensor:
    """Return ``[5, 3, 3]`` that turns l = 2 moments into the traceless ``u u^T - 1/3``."""
    matrices = torch.zeros(5, 3, 3, dtype=torch.float64)
    k = 1 / _S3
    matrices[0, 0, 1] = matrices[0, 1, 0] = k
    matrices[1, 1, 2] = matrices[1, 2, 1] = k
    matrices[2] = torch.diag(torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64) / 3)
    matrices[3, 0, 2] = matrices[3, 2, 0] = k
    matrices[4] = torch.diag(torch.tensor([k, -k, 0.0], dtype=torch.float64))
    return matrices
