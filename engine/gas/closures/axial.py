r"""A local closure learned in a gas with several velocity dimensions, on a line.

The network closes the marginal of f along any direction n (:mod:`.directional`), having
seen marginals of such a gas at angles to the flow. At every face of a line it is asked
along directions of cosine c to x, with averages over free paths that are 1/c as long along
x; the tensor of degree M + 1 is what fits the answers best. Where the flow turns about its
axis (no velocity across it, equal temperatures across it) the tensor has one component
for every even power of the sine, and directions in one plane tell it.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.closures.contract import ClosureOutput, FaceStencil
from ....models.closures.local import LocalClosure, averaged_gradients, lowest_nearby
from ..equations.hermite import basis, coefficients, multi_indices, temperature
from ..flows.axial import COSINES
from .directional import carried_over, marginal
from .oblique import ObliqueClosure

AZIMUTHS = 14
"""Directions around x at each angle to it; moments of degree 6 need 13."""
TURNING = 1e-12
"""Largest moment that is odd across the axis in a flow that turns about it."""


@dataclass(frozen=True)
class Directions:
    """Where the network is asked.

    Attributes:
        units: ``[directions, D]``.
        gather: ``[directions, M + 1, N]`` f to the moments of the marginals.
        back: ``[components, directions]`` closing moments to the tensor.
    """

    units: Tensor
    gather: Tensor
    back: Tensor


@lru_cache(maxsize=16)
def directions(
    order: int, dimension: int, turning: bool, dtype: torch.dtype, device: Any
) -> Directions:
    """Return the directions for any flow along x, or for one that turns about it.

    The tensor is the least-squares answer in the norm ``sum_a a! f_a^2``, which no rotation
    changes.
    """
    around = [0.0] if turning else [2 * math.pi * i / AZIMUTHS for i in range(AZIMUTHS)]
    if dimension == 2:
        around = [0.0] if turning else [0.0, math.pi]
    units = []
    for c, turn in product(COSINES, around):
        s = math.sqrt(1.0 - c * c)
        unit = (c, s * math.cos(turn), s * math.sin(turn))[:dimension]
        if unit not in units and not (s == 0.0 and turn > 0.0):
            units.append(unit)
    indices = multi_indices(order + 1, dimension)
    inner = [a for a in indices if sum(a) <= order]
    tops = [a for a in indices if sum(a) == order + 1]

    def power(unit: tuple[float, ...], a: tuple[int, ...]) -> float:
        return math.prod(x**n for x, n in zip(unit, a, strict=True))

    gather = np.zeros((len(units), order + 1, len(inner)))
    for m, unit in enumerate(units):
        for i, a in enumerate(inner):
            gather[m, sum(a), i] = power(unit, a)
    rows = np.array([[power(unit, a) for a in tops] for unit in units])
    if turning:
        spread = _turned(tops, order + 1)
        back = spread @ np.linalg.pinv(rows @ spread)
    else:
        size = np.array([math.prod(map(math.factorial, a)) for a in tops]) ** -0.5
        back = np.linalg.pinv(rows * size) * size[:, None]
    made = (torch.as_tensor(np.array(x)).to(device, dtype) for x in (units, gather, back))
    return Directions(*made)


def _turned(tops: list[tuple[int, ...]], degree: int) -> np.ndarray:
    """What each even power of the sine adds to the tensor, ``[components, powers]``."""
    out = np.zeros((len(tops), degree // 2 + 1))
    for i, a in enumerate(tops):
        across = a[1:]
        if all(n % 2 == 0 for n in across):
            half = sum(across) // 2
            out[i, half] = math.factorial(half) / math.prod(
                math.factorial(n // 2) for n in across
            )
    return out


@dataclass(frozen=True)
class AxialClosure:
    """A local closure of a gas with two or three velocity dimensions on a line.

    Attributes:
        module: what was learned, in any precision.
    """

    module: LocalClosure

    at_faces = True

    def __call__(self, row: FaceStencil) -> ClosureOutput:
        """Return the tensor at every face, and its share: the least of any direction."""
        config, kind = self.module.config, self.module.scale.dtype
        w = torch.stack([row.low, row.high]).flatten(0, 1).movedim(-1, 1)
        b = basis(config.order, config.dimension, w.dtype, w.device)
        turning = not w.is_cuda and self._turns(w)
        at = directions(config.order, config.dimension, turning, w.dtype, w.device)
        f, theta = coefficients(b, w)[:, :-1], temperature(b, w)[:, 0]
        count = len(at.units)
        phi = torch.einsum("mkn,bnf->mbkf", at.gather, f).flatten(0, 1)
        speed = torch.einsum("md,bdf->mbf", at.units, w[:, 1 : 1 + b.axes]).flatten(0, 1)
        line = marginal(phi, speed, theta.repeat(count, 1))
        low, high = line.unflatten(0, (count, 2, -1)).unbind(1)
        low, high = low.flatten(0, 1), high.flatten(0, 1)
        mean, tau = 0.5 * (low + high), row.tau.repeat(count, 1)
        cosine = at.units[:, 0].repeat_interleave(len(row.tau))[:, None]
        path = tau * mean[..., 2].clamp(min=1e-12).sqrt() * cosine
        seen = averaged_gradients(
            (high - low).to(kind), (row.spacing / path).to(kind), config.reach, row.periodic
        )
        mean = mean.to(kind)
        view = self.module.view_at(mean, list(seen.unbind(1)), tau.to(kind))
        value = self.module.scaled_moment(view.z) * self.module.unit_at(mean)
        top = value.to(w.dtype) - self._other(phi, count)
        share = lowest_nearby(view.share, row.periodic) * view.trust
        share = share.unflatten(0, (count, -1)).amin(0).to(w.dtype)
        trust = view.trust.unflatten(0, (count, -1)).amin(0).to(w.dtype)
        top = torch.einsum("tm,mbf->btf", at.back, top.unflatten(0, (count, -1)))
        top = self.module.smooth((share[:, None] * top).flatten(0, 1), row)
        return ClosureOutput(top.unflatten(0, (len(share), -1)), share, trust)

    def turned(self) -> tuple[Tensor, Tensor]:
        """Return how it is asked where the flow turns about x.

        ``[directions]`` cosines of the angles to x; ``[M // 2 + 1, directions]`` what is
        said along them to ``f_(M + 1 - 2 j, 2 j)``.
        """
        order, axes = self.module.config.order, self.module.config.dimension
        at = directions(order, axes, True, torch.float64, torch.device("cpu"))
        tops = [a for a in multi_indices(order + 1, axes) if sum(a) == order + 1]
        here = [
            tops.index((order + 1 - 2 * j, 2 * j, 0)[:axes]) for j in range(order // 2 + 1)
        ]
        return at.units[:, 0].contiguous(), at.back[here].contiguous()

    @property
    def on_grid(self) -> ObliqueClosure | None:
        """The same closure on a plane or in space, where it was learned in three."""
        return ObliqueClosure(self.module) if self.module.config.dimension == 3 else None

    def to(self, device: torch.device) -> "AxialClosure":
        """Return the closure on a device; its module is moved."""
        return replace(self, module=self.module.to(device))

    def _other(self, phi: Tensor, count: int) -> Tensor:
        """What the closing moment is off by because the marginal's frame is its own."""
        order = self.module.config.order
        sides = phi.unflatten(0, (count, 2, -1)).mean(1).flatten(0, 1)
        return carried_over(sides, sides[:, 2] / sides[:, 0], order + 1)

    def _turns(self, w: Tensor) -> bool:
        """Whether the flow turns about x."""
        indices = multi_indices(self.module.config.order, self.module.config.dimension)
        odd = [i for i, a in enumerate(indices) if any(n % 2 for n in a[1:])]
        twice = [i for i, a in enumerate(indices) if 2 in a[1:] and sum(a) == 2]
        uneven = (w[:, twice] - w[:, twice[:1]]).abs().amax()
        return float(torch.maximum(w[:, odd].abs().amax(), uneven)) < TURNING
