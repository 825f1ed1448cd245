"""Real spherical harmonics as polynomials of a unit vector, with their gradients.

Racah normalisation: ``sum_m Y_lm(u) Y_lm(v) = P_l(u . v)``, so that products of moments
are Legendre sums over pairs of neighbours. With ``c_m + i s_m = (x + i y)^m`` and the
derivatives ``Q_lm = d^m P_l / dz^m`` of the Legendre polynomials,

    Y_l,+m = a_lm Q_lm(z) c_m,    Y_l,-m = a_lm Q_lm(z) s_m,
    a_lm = sqrt((2 - delta_m0) (l - m)! / (l + m)!).
"""

import math

import numpy as np
import torch
from torch import Tensor

MAX_DEGREE = 6

_S3 = math.sqrt(3.0)


def norm(degree: int, order: int) -> float:
    """Return ``a_lm``."""
    ratio = math.factorial(degree - order) / math.factorial(degree + order)
    return math.sqrt((1 if order == 0 else 2) * ratio)


def columns(lmax: int) -> list[tuple[int, int]]:
    """Return (l, m) of every column: m = -l..l, but l = 1 stands as x, y, z."""
    found = [(0, 0)]
    for degree in range(1, lmax + 1):
        orders = [1, -1, 0] if degree == 1 else range(-degree, degree + 1)
        found += [(degree, order) for order in orders]
    return found


def _parts(unit: Tensor, lmax: int) -> tuple[list[Tensor], list[Tensor], dict]:
    """Return c_m, s_m and Q_lm."""
    x, y, z = unit.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    c, s = [one], [zero]
    for _ in range(lmax):
        c, s = [*c, x * c[-1] - y * s[-1]], [*s, x * s[-1] + y * c[-1]]
    q: dict[tuple[int, int], Tensor] = {}
    for m in range(lmax + 1):
        q[m, m] = one * math.prod(range(1, 2 * m, 2))
        for j in range(m + 1, lmax + 1):
            below = (j + m - 1) * q[j - 2, m] if j > m + 1 else 0.0
            q[j, m] = ((2 * j - 1) * z * q[j - 1, m] - below) / (j - m)
    return c, s, q


def harmonics(unit: Tensor, lmax: int) -> Tensor:
    """Return ``Y_lm(u)`` for l = 0..lmax, in the order of :func:`columns`.

    Args:
        unit: unit vectors ``[..., 3]``.
        lmax: highest degree, at most :data:`MAX_DEGREE`.

    Returns:
        ``[..., (lmax + 1)^2]``.
    """
    c, s, q = _parts(unit, lmax)
    return torch.stack(
        [norm(j, abs(m)) * q[j, abs(m)] * (s if m < 0 else c)[abs(m)]
         for j, m in columns(lmax)], -1
    )  # fmt: skip


def harmonics_gradient(unit: Tensor, distance: Tensor, lmax: int) -> Tensor:
    """Return ``dY_lm(d / |d|) / dd`` in closed form.

    The gradient of the polynomial is projected on the tangent plane:
    ``(1 - u u^T) grad Y / r``.

    Args:
        unit: ``[..., 3]``.
        distance: ``[...]`` angstrom.
        lmax: highest degree, at most :data:`MAX_DEGREE`.

    Returns:
        ``[3, ..., (lmax + 1)^2]`` in 1 / angstrom, the Cartesian component first.
    """
    c, s, q = _parts(unit, lmax)
    zero = torch.zeros_like(unit[..., 0])
    rows = []
    for j, signed in columns(lmax):
        m, a = abs(signed), norm(j, abs(signed))
        along = a * q[j, m + 1] if m < j else zero
        if m == 0:
            rows.append((zero, zero, along))
            continue
        across = a * m * q[j, m]
        if signed > 0:
            rows.append((across * c[m - 1], -across * s[m - 1], along * c[m]))
        else:
            rows.append((across * s[m - 1], across * c[m - 1], along * s[m]))
    free = torch.stack([torch.stack(row) for row in rows], -1)
    radial = (free * unit.movedim(-1, 0)[..., None]).sum(0)
    return (free - radial * unit.movedim(-1, 0)[..., None]) / distance[..., None]


def coupling(first: int, second: int, third: int) -> np.ndarray:
    """Return the invariant of three degrees, ``[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]``.

    The integral of three real harmonics over the sphere (Gaunt), by a quadrature that is
    exact for it, scaled to a sum of squares of one. Zero where the degrees do not form a
    triangle or their sum is odd.
    """
    top = max(first, second, third)
    nodes, weights = np.polynomial.legendre.leggauss(2 * top + 2)
    angles = 2 * np.pi * np.arange(4 * top + 3) / (4 * top + 3)
    z = np.repeat(nodes, len(angles))
    flat = np.sqrt(1 - z**2)
    phi = np.tile(angles, len(nodes))
    unit = np.stack([flat * np.cos(phi), flat * np.sin(phi), z], -1)
    y = harmonics(torch.from_numpy(unit), top).numpy()
    a, b, c = (y[:, d**2 : (d + 1) ** 2] for d in (first, second, third))
    tensor = np.einsum("n,na,nb,nc->abc", np.repeat(weights, len(angles)), a, b, c)
    size = np.sqrt((tensor**2).sum())
    tensor = tensor / size if size > 1e-10 else np.zeros_like(tensor)
    return np.where(np.abs(tensor) > 1e-12, tensor, 0.0)


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
