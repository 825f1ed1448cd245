r"""A local closure of a gas with three velocity dimensions, on a plane or in space.

The network closes the marginal of f along any direction n (:mod:`.directional`). Here it is
asked in the middle of every cell, along lines of the grid, with its averages over free
paths taken along them; on a plane also along directions that leave it at an angle of cosine
c, along which the flow varies over lengths 1/c as long (:mod:`..flows.axial`), and across
it, where nothing varies. The tensor of degree M + 1 is what fits the answers best; on a
plane it is even across it, as the moments are.

The lines run around a periodic box, and are those of :data:`PLANE` or :data:`SPACE` in
steps of the grid. Twenty-five directions of a plane, 37 of space: it costs more than the
equations that it closes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.closures.contract import ClosureOutput, FaceStencil
from ....models.closures.local import LocalClosure
from ...errors import InputError
from ...kernels.moments import k_along
from ...runtime import start
from ..equations.hermite import basis, coefficients, multi_indices, temperature
from .directional import carried_over, marginal

Steps = tuple[int, ...]

PLANE: tuple[Steps, ...] = (
    (1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1),
)  # fmt: skip
TILTS = (1.0, 0.8, 0.4)
"""Cosines of the angles between directions and the plane; the axis across it is a third."""

SPACE: tuple[Steps, ...] = tuple(
    v
    for v in product((-2, -1, 0, 1, 2), repeat=3)
    if sorted(map(abs, v)) in ([0, 0, 1], [0, 1, 1], [1, 1, 1], [0, 1, 2], [1, 1, 2])
    and next(x for x in v if x) > 0
)
"""Lines of the grid that tell a tensor of degree 6, which has 28 components."""


@dataclass(frozen=True)
class Direction:
    """Where the network is asked.

    Attributes:
        steps: of the grid from cell to cell along the line.
        cosine: of the angle to the grid's plane.
        unit: n.
    """

    steps: Steps
    cosine: float
    unit: tuple[float, ...]


@lru_cache(maxsize=8)
def asked(widths: tuple[float, ...]) -> tuple[Direction, ...]:
    """Return the directions on a grid with cells of some widths along two or three axes."""
    found = []
    for steps in PLANE if len(widths) == 2 else SPACE:
        way = [n * h for n, h in zip(steps, widths, strict=True)]
        size = math.hypot(*way)
        for c in TILTS if len(widths) == 2 else (1.0,):
            rest = (math.sqrt(1.0 - c * c),) if len(widths) == 2 else ()
            found.append(Direction(steps, c, (*(c * x / size for x in way), *rest)))
    if len(widths) == 2:
        found.append(Direction((0, 0), 0.0, (0.0, 0.0, 1.0)))
    return tuple(found)


@lru_cache(maxsize=8)
def tables(
    order: int, every: tuple[Direction, ...], dtype: torch.dtype, device: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return units ``[directions, 3]``, f to phi_k, and phi_(M+1) to the tensor.

    ``[directions, M + 1, N]`` and ``[components, directions]``: least squares in the norm
    ``sum_a a! f_a^2``, which no rotation changes.
    """
    units = np.array([each.unit for each in every])
    indices = multi_indices(order + 1, 3)
    inner = [a for a in indices if sum(a) <= order]
    tops = [a for a in indices if sum(a) == order + 1]
    gather = np.zeros((len(units), order + 1, len(inner)))
    for i, a in enumerate(inner):
        gather[:, sum(a), i] = np.prod(units ** np.array(a), 1)
    rows = np.stack([np.prod(units ** np.array(a), 1) for a in tops], 1)
    size = np.array([math.prod(map(math.factorial, a)) for a in tops]) ** -0.5
    if len(every[0].steps) == 2:
        size = size * np.array([a[2] % 2 == 0 for a in tops])
    back = np.linalg.pinv(rows * size, rcond=1e-10) * size[:, None]
    made = (torch.as_tensor(x).to(device, dtype) for x in (units, gather, back))
    return tuple(made)  # type: ignore[return-value]


@lru_cache(maxsize=64)
def line_of_cells(shape: tuple[int, ...], steps: Steps) -> tuple[Tensor, Tensor, int]:
    """Return the cells in the order of the lines, where each cell is there, and a length.

    Raises:
        InputError: a line that does not come back to its start after one turn.
    """
    axis = next((k for k, n in enumerate(steps) if abs(n) == 1), 0)
    n = shape[axis]
    if any(n * s % m for s, m in zip(steps, shape, strict=True)):
        told = " x ".join(map(str, shape))
        raise InputError(
            f"grid.cells: {told}; model.closure takes as many along every axis"
        )
    begins = [range(1) if k == axis else range(m) for k, m in enumerate(shape)]
    first = torch.tensor(list(product(*begins)))
    at = (first[:, None] + torch.arange(n)[:, None] * torch.tensor(steps)) % torch.tensor(
        shape
    )
    weights = torch.tensor([math.prod(shape[k + 1 :]) for k in range(len(shape))])
    order = (at * weights).sum(-1).flatten()
    return order, order.argsort(), n


@dataclass(frozen=True)
class ObliqueClosure:
    """A local closure on a periodic plane or in a periodic box.

    Attributes:
        module: what was learned in a gas with three velocity dimensions.
    """

    module: LocalClosure

    def __call__(self, seen: FaceStencil) -> ClosureOutput:
        """Return the tensor in every cell; the gates are the strictest of any direction.

        Raises:
            InputError: an axis that is not periodic, or cells that are not alike.
        """
        if not all(periodic for _, periodic in seen.axes):
            raise InputError(
                "model.closure: it is asked along lines that run around the box; on a "
                "plane or in space all sides must be periodic (else take hyperbolic)"
            )
        config, kind = self.module.config, self.module.scale.dtype
        w, tau = seen.cells.movedim(-1, 1).to(kind), seen.tau.to(kind)
        widths = tuple(width for width, _ in seen.axes)
        every = asked(widths)
        units, gather, back = tables(config.order, every, w.dtype, w.device)
        b = basis(config.order, 3, w.dtype, w.device)
        f, theta = coefficients(b, w)[:, :-1], temperature(b, w)[:, 0]
        tops: list[Tensor] = []
        share, trust = torch.ones_like(theta), torch.ones_like(theta)
        for one, unit, rows in zip(every, units, gather, strict=True):
            phi = torch.einsum("kn,bn...->bk...", rows, f)
            speed = torch.einsum("d,bd...->b...", unit, w[:, 1:4])
            line = marginal(phi, speed, theta)
            changes = self._changes(line, one, widths, tau)
            view = self.module.view_at(line, changes, tau)
            value = self.module.scaled_moment(view.z) * self.module.unit_at(line)
            other = carried_over(phi, phi[:, 2] / phi[:, 0], config.order + 1)
            tops.append(value - other)
            share = torch.minimum(share, view.share * view.trust)
            trust = torch.minimum(trust, view.trust)
        for axis in range(1, share.dim()):
            near = share.roll(1, axis), share, share.roll(-1, axis)
            share = torch.stack(near).amin(0)
        top = torch.einsum("tm,mb...->bt...", back, torch.stack(tops)) * share[:, None]
        given = self._smooth(top), share, trust
        return ClosureOutput(*(x.to(seen.cells) for x in given))

    def to(self, device: torch.device) -> "ObliqueClosure":
        """Return the closure on a device; its module is moved."""
        return replace(self, module=self.module.to(device))

    def _changes(
        self, line: Tensor, one: Direction, widths: Sequence[float], tau: Tensor
    ) -> list[Tensor]:
        """Averages of gradients over free paths along a line, for each range."""
        reach = self.module.config.reach
        if one.cosine == 0.0:
            return [torch.zeros_like(line)] * len(reach)
        shape = line.shape[1:-1]
        order, place, n = line_of_cells(tuple(shape), one.steps)
        order, place = order.to(line.device), place.to(line.device)
        step = math.hypot(*(k * h for k, h in zip(one.steps, widths, strict=True)))
        path = tau * line[..., 2].clamp(min=1e-12).sqrt() * one.cosine
        rows = line.flatten(1, -2)[:, order].unflatten(1, (-1, n)).flatten(0, 1)
        depth = (step / path).flatten(1)[:, order].unflatten(1, (-1, n)).flatten(0, 1)
        depth = 0.5 * (depth + depth.roll(-1, 1))
        out = rows.new_empty(len(rows), len(reach), *rows.shape[1:])
        start(line.device.type)
        ranges = torch.tensor(reach, dtype=torch.float64, device=line.device)
        k_along(rows.contiguous(), depth.contiguous(), ranges, out, rows.shape[-1])
        out = out.movedim(1, 0).flatten(1, 2).unflatten(1, (len(line), -1))
        found = out[:, :, place].unflatten(2, shape)
        return list(found.unbind(0))

    def _smooth(self, top: Tensor) -> Tensor:
        """The module's Gaussian filter, along all axes."""
        width = self.module.config.smoothing
        half = math.ceil(3 * width)
        taps = [math.exp(-0.5 * (i / width) ** 2) for i in range(-half, half + 1)]
        for axis in range(2, top.dim()):
            top = sum(
                top.roll(i, axis) * (tap / sum(taps))
                for i, tap in zip(range(-half, half + 1), taps, strict=True)
            )  # type: ignore[assignment]
        return top
