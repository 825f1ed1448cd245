r"""A closure learned in one velocity dimension, in the plane: seen from many directions.

The marginal of f along a direction n, ``F_n(s) = integral f(v) delta(s - v.n) dv``, is a
distribution in one velocity dimension, and the moments of the plane hold its moments
exactly: ``phi_k(n) = sum_(|a| = k) n^a f_a``. What the plane does not know, the tensor
``f_a`` of rank M + 1, is known as soon as ``phi_(M+1)(n)`` is, along M + 2 directions. So
the network trained on a 1V gas is asked along eight directions of the grid, each time with
the marginal and its differences along n, and the tensor is what fits the answers best.

Where this is exact and where it is not: in free flight the marginal of any plane wave obeys
the 1V equation along n, up to a factor that no ratio of moments sees, and for a flow that
varies along n alone and keeps equal temperatures it is the 1V gas itself. With collisions
two things differ from what the network was trained on: a 2V gas relaxes to the mean of both
temperatures, not to that of the marginal, and moments flow across n. Nothing was trained
for the plane; how well it does is measured, not promised.

The marginal has a temperature of its own, ``theta_n = theta + 2 phi_2 / rho``. Between the
two frames ``phi'_k = sum_j phi_(k-2j) (-delta)^j / j!`` with ``delta = phi_2 / rho``.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.closures.contract import ClosureOutput, FaceStencil
from ....models.closures.face import FaceClosure
from ..equations.hermite import basis, coefficients, multi_indices

Vector = tuple[int, int]

AXES: tuple[Vector, ...] = ((1, 0), (0, 1))
"""The two normals of the faces: the tensor's pure components only."""

EIGHT: tuple[Vector, ...] = (
    (1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1),
)  # fmt: skip
"""Eight directions in steps of the grid, enough for M = 5 and 6."""


@lru_cache(maxsize=16)
def weights(
    order: int, units: tuple[tuple[float, float], ...], dtype: torch.dtype, device: Any
) -> tuple[Tensor, Tensor]:
    """Return ``[directions, M + 1, N]`` f to phi_k and ``[M + 2, directions]`` its inverse.

    The second takes phi_(M+1) along the directions to the tensor: least squares in the norm
    ``sum_a a! f_a^2``, which no rotation changes.
    """
    inner = multi_indices(order, 2)
    gather = np.zeros((len(units), order + 1, len(inner)))
    for m, unit in enumerate(units):
        for i, (a, b) in enumerate(inner):
            gather[m, a + b, i] = unit[0] ** a * unit[1] ** b
    top = [(order + 1 - j, j) for j in range(order + 2)]
    size = np.array([math.factorial(a) * math.factorial(b) for a, b in top]) ** -0.5
    rows = np.array([[u[0] ** a * u[1] ** b for a, b in top] for u in units])
    back = np.linalg.pinv(rows * size) * size[:, None]
    gathered, inverse = (torch.as_tensor(each) for each in (gather, back))
    return gathered.to(device, dtype), inverse.to(device, dtype)


def marginal(phi: Tensor, speed: Tensor, theta: Tensor) -> Tensor:
    """Return the 1V state (rho, u_n, theta_n, phi'_3 .. phi'_M) of a marginal, last axis.

    Args:
        phi: ``[batch, M + 1, ...]`` along the direction.
        speed: ``[batch, ...]`` the mean velocity along it.
        theta: ``[batch, ...]`` of the gas.
    """
    delta = phi[:, 2] / phi[:, 0]
    out = [phi[:, 0], speed, theta + 2.0 * delta]
    for k in range(3, phi.shape[1]):
        out.append(phi[:, k] + carried_over(phi, delta, k))
    return torch.stack(out, -1)


def carried_over(phi: Tensor, delta: Tensor, k: int) -> Tensor:
    """Return ``phi'_k - phi_k``, which lower moments decide."""
    total, factor = torch.zeros_like(delta), torch.ones_like(delta)
    for j in range(1, k // 2 + 1):
        factor = factor * (-delta) / j
        if k - 2 * j != 1:
            total = total + phi[:, k - 2 * j] * factor
    return total


@dataclass(frozen=True)
class DirectionalClosure:
    """A 1V closure for a gas with two velocity dimensions, on a line or in the plane.

    Attributes:
        module: the closure, in any precision.
        vectors: directions, in steps of the grid (on a line: of square cells).
    """

    module: FaceClosure
    vectors: tuple[Vector, ...] = EIGHT

    def __call__(self, seen: FaceStencil) -> ClosureOutput:
        """Return the tensor in every cell; the gates are the strictest of any direction."""
        order, kind, w = (
            self.module.config.order,
            self.module.scale.dtype,
            seen.cells.movedim(-1, 1),
        )
        steps = [self._step(v, seen) for v in self.vectors]
        units = tuple((a / math.hypot(a, b), b / math.hypot(a, b)) for a, b in steps)
        gather, back = weights(order, units, w.dtype, w.device)
        b = basis(order, 2, w.dtype, w.device)
        f = coefficients(b, w)[:, : len(b.indices)]
        theta = 0.5 * (w[:, b.place(0, 0)] + w[:, b.place(1, 1)])
        tops, shares, trusts = [], [], []
        for vector, unit, rows in zip(self.vectors, units, gather, strict=True):
            phi = torch.einsum("kn,bn...->bk...", rows, f)
            speed = unit[0] * w[:, 1] + unit[1] * w[:, 2]
            line = marginal(phi, speed, theta).to(kind)
            changes = self._changes(line, vector, seen)
            view = self.module.view_at(line, changes, seen.tau.to(kind))
            value = (self.module.scaled_moment(view.z) * view.unit).to(w.dtype)
            other = carried_over(phi, phi[:, 2] / phi[:, 0], order + 1)
            tops.append(value - view.trust * other)
            shares.append(view.trust * view.share)
            trusts.append(view.trust)
        top = torch.einsum("tm,mb...->bt...", back, torch.stack(tops))
        share, trust = torch.stack(shares).amin(0), torch.stack(trusts).amin(0)
        smooth = self._smooth(top, seen)
        return ClosureOutput(smooth, share.to(w.dtype), trust.to(w.dtype))

    def to(self, device: torch.device) -> "DirectionalClosure":
        """Return the closure on a device; its module is moved."""
        return replace(self, module=self.module.to(device))

    @staticmethod
    def _step(vector: Vector, seen: FaceStencil) -> tuple[float, float]:
        h = [width for width, _ in (*seen.axes, seen.axes[0])]
        return vector[0] * h[0], vector[1] * h[1]

    def _changes(self, line: Tensor, vector: Vector, seen: FaceStencil) -> list[Tensor]:
        """Differences of a marginal along its direction, centred in each cell."""
        config, found = self.module.config, []
        step = math.hypot(*self._step(vector, seen))
        for reach in config.reach:
            wanted = reach * config.length
            half = max(1, round(0.5 * wanted / step))
            ahead, behind = line, line
            for axis, (_, periodic) in enumerate(seen.axes):
                ahead = _moved(ahead, half * vector[axis], 1 + axis, periodic)
                behind = _moved(behind, -half * vector[axis], 1 + axis, periodic)
            found.append((ahead - behind) * (wanted / (2 * half * step)))
        return found

    def _smooth(self, top: Tensor, seen: FaceStencil) -> Tensor:
        """The module's Gaussian filter, along all axes."""
        config = self.module.config
        for axis, (h, periodic) in enumerate(seen.axes):
            width = config.smoothing * config.length / h
            half = math.ceil(3 * width)
            taps = [math.exp(-0.5 * (i / width) ** 2) for i in range(-half, half + 1)]
            parts = [
                _moved(top, -shift, 2 + axis, periodic) * (tap / sum(taps))
                for shift, tap in zip(range(-half, half + 1), taps, strict=True)
            ]
            top = torch.stack(parts).sum(0) if half else top
        return top


def _moved(x: Tensor, by: int, dim: int, periodic: bool) -> Tensor:
    """``x`` at ``by`` cells ahead; beyond an end that is not periodic the last cell."""
    if by == 0:
        return x
    if periodic:
        return torch.roll(x, -by, dim)
    n = x.shape[dim]
    at = (torch.arange(n, device=x.device) + by).clamp(0, n - 1)
    return x.index_select(dim, at)
