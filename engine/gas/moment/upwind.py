r"""Upwind dissipation of the hyperbolic moment equations, exact and cheap.

In the variables ``D_k = df_k + f_{k-1} du + f_{k-2} dtheta / 2`` (the change of f in a
frozen frame) HME reads ``dD/dt + M D = 0`` with the multiplication by v in the Hermite
basis, ``(M D)_k = u D_k + theta D_{k-1} + (k + 1) D_{k+1}``, cut off at k = M. That cut is
the projection that makes the system hyperbolic (Fan, Koellermeier, Li, Li, Torrilhon,
J. Stat. Phys. 162, 2016). Scaled by ``sqrt(k!) theta^(-k/2)`` the matrix is u plus
``sqrt(theta)`` times a constant symmetric one, whose eigenvectors are known once. So
``|A|`` needs no eigenproblem: two small constant matrices.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Basis:
    """The constant part of the characteristic decomposition for one order M.

    Attributes:
        roots: ``[M + 1]`` roots of He_{M+1}, the speeds over ``sqrt(theta)``.
        vectors: ``[M + 1, M + 1]`` orthonormal eigenvectors, one per column.
        scale: ``[M + 1]`` ``sqrt(k!)``.
        powers: ``[M + 1]`` k.
    """

    roots: Tensor
    vectors: Tensor
    scale: Tensor
    powers: Tensor


@lru_cache(maxsize=64)
def basis(order: int, dtype: torch.dtype, device: torch.device) -> Basis:
    """Return the decomposition for M = ``order``."""
    side = np.sqrt(np.arange(1, order + 1))
    values, vectors = np.linalg.eigh(np.diag(side, 1) + np.diag(side, -1))
    scale = [math.sqrt(math.factorial(k)) for k in range(order + 1)]

    def put(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device)

    return Basis(
        put(values), put(vectors), put(np.array(scale)), put(np.arange(order + 1.0))
    )


def to_frozen(w: Tensor, d: Tensor) -> Tensor:
    """Return ``D`` of a change ``d`` of w = (rho, u, theta, f_3 ..), ``[..., M + 1]``."""
    return _shift(w, d, 1.0)


def from_frozen(w: Tensor, frozen: Tensor) -> Tensor:
    """Invert :func:`to_frozen`."""
    rho = w[..., :1]
    du, dtheta = frozen[..., 1:2] / rho, 2.0 * frozen[..., 2:3] / rho
    high = frozen[..., 3:] - _carried(w, du, dtheta)
    return torch.cat([frozen[..., :1], du, dtheta, high], -1)


def _shift(w: Tensor, d: Tensor, sign: float) -> Tensor:
    rho, du, dtheta = w[..., :1], d[..., 1:2], d[..., 2:3]
    high = d[..., 3:] + sign * _carried(w, du, dtheta)
    return torch.cat([d[..., :1], rho * du, 0.5 * rho * dtheta, high], -1)


def _carried(w: Tensor, du: Tensor, dtheta: Tensor) -> Tensor:
    """``f_{k-1} du + f_{k-2} dtheta / 2`` for k = 3..M, with f_1 = f_2 = 0."""
    zero = torch.zeros_like(w[..., :1])
    before = torch.cat([zero, w[..., 3:-1]], -1)
    second = torch.cat([zero, zero, w[..., 3:-2]], -1)[..., : before.shape[-1]]
    return before * du + 0.5 * second * dtheta


def absolute(w: Tensor, d: Tensor, floor: float = 0.1) -> Tensor:
    """Return ``|A(w)| d`` for HME: Roe's dissipation of a jump d.

    Args:
        w: ``[..., M + 1]`` state between the two sides.
        d: ``[..., M + 1]`` jump of w.
        floor: smallest ``|eigenvalue|`` over ``sqrt(theta)``; rounds the sonic points.
    """
    some = basis(w.shape[-1] - 1, w.dtype, w.device)
    root = w[..., 2:3].clamp(min=1e-9).sqrt()
    size = some.scale * root ** (-some.powers)
    speed = (w[..., 1:2] / root + some.roots).abs()
    speed = root * torch.where(speed < floor, 0.5 * (speed**2 / floor + floor), speed)
    waves = (to_frozen(w, d) * size) @ some.vectors
    return from_frozen(w, ((waves * speed) @ some.vectors.T) / size)


def conserved_jump(w: Tensor, d: Tensor) -> Tensor:
    """Return the change of (rho, rho u, rho (u^2 + theta)) that goes with ``d``."""
    rho, u, theta = w[..., 0], w[..., 1], w[..., 2]
    a, b, c = d[..., 0], d[..., 1], d[..., 2]
    energy = (u * u + theta) * a + 2 * rho * u * b + rho * c
    return torch.stack([a, u * a + rho * b, energy], -1)


Dissipation = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Left and right w ``[..., M + 1]`` and the largest signal speed at the face ``[..., 1]``
to what is taken off: ``[..., 3]`` of the conserved fluxes, ``[..., M - 2]`` of the rest."""


def rusanov(left: Tensor, right: Tensor, speed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the local Lax-Friedrichs dissipation: robust, and smears slow waves."""
    jump = right - left
    rho, u = (
        jump[..., :1],
        right[..., :1] * right[..., 1:2] - left[..., :1] * left[..., 1:2],
    )
    both = [w[..., :1] * (w[..., 1:2] ** 2 + w[..., 2:3]) for w in (left, right)]
    return speed * torch.cat([rho, u, both[1] - both[0]], -1), speed * jump[..., 3:]


def roe(left: Tensor, right: Tensor, speed: Tensor) -> tuple[Tensor, Tensor]:
    """Return each characteristic wave's own dissipation at the mean state."""
    mean = 0.5 * (left + right)
    waves = absolute(mean, right - left)
    return conserved_jump(mean, waves), waves[..., 3:]
