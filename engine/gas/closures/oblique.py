r"""A local closure of a gas with three velocity dimensions, on a plane or in space.

The network closes the marginal of f along any direction n (:mod:`.directional`). Here it is
asked in the middle of every cell, along lines of the grid, with its averages over free
paths taken along them; on a plane also along directions that leave it at an angle of cosine
c, along which the flow varies over lengths 1/c as long (:mod:`..flows.axial`), and across
it, where nothing varies. The tensor of degree M + 1 is what fits the answers best; on a
plane it is even across it, as the moments are.

The lines run around a periodic box, and are those of :data:`PLANE` or :data:`SPACE` in
steps of the grid: 17 directions of a plane, whose tensor has 16 components, 30 of space.
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
from ....models.closures.local import CAUTION, LocalClosure
from ...errors import InputError
from ...kernels.mirror import Asked
from ...kernels.moments import k_see_on_grid
from ...kernels.oblique import LANES, look_along
from ...kernels.types import kernel_type
from ...runtime import start, unfollowed
from ..equations.fused import MARGIN, Given, given_of
from ..equations.hermite import basis, coefficients, multi_indices, temperature

Steps = tuple[int, ...]

ALONG: tuple[Steps, ...] = ((1, 0), (1, 1), (0, 1), (-1, 1))
BETWEEN: tuple[Steps, ...] = ((2, 1), (1, 2), (-1, 2), (-2, 1))
PLANE = ((1.0, ALONG), (1.0, BETWEEN), (0.85, BETWEEN), (0.6, ALONG))
"""Lines of a plane and cosines of the angles to it; the axis across it is a last one."""

SPACE: tuple[Steps, ...] = tuple(
    v
    for v in product((-2, -1, 0, 1, 2), repeat=3)
    if sorted(map(abs, v)) in ([0, 1, 1], [0, 1, 2], [1, 1, 2])
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
    flat = len(widths) == 2
    lines = (
        [(c, v) for c, every in PLANE for v in every] if flat else [(1.0, v) for v in SPACE]
    )
    found = []
    for c, steps in lines:
        way = [n * h for n, h in zip(steps, widths, strict=True)]
        rest = (math.sqrt(1.0 - c * c),) if flat else ()
        unit = (*(c * x / math.hypot(*way) for x in way), *rest)
        found.append(Direction(steps, c, unit))
    return (*found, Direction((0, 0), 0.0, (0.0, 0.0, 1.0))) if flat else tuple(found)


@dataclass(frozen=True)
class Directions:
    """Where the network is asked on a grid, and what becomes of its answers.

    Attributes:
        units: ``[directions, 3]``.
        powers: ``[directions, N]`` n^a, which takes f to the moments of marginals.
        back: ``[components, directions]`` closing moments to the tensor: least squares in
            the norm ``sum_a a! f_a^2``, which no rotation changes.
        depth: ``[directions]`` width of a cell along the line over the cosine, 0 across.
        order: ``[directions, cells]`` the cells line by line.
        length: ``[directions]`` cells of a line.
    """

    units: Tensor
    powers: Tensor
    back: Tensor
    depth: Tensor
    order: Tensor
    length: Tensor


@lru_cache(maxsize=8)
def directions(
    order: int, shape: tuple[int, ...], widths: tuple[float, ...], device: Any
) -> Directions:
    """Return the directions of a grid with some cells, and their widths."""
    every = asked(widths)
    units = np.array([each.unit for each in every])
    indices = multi_indices(order + 1, 3)
    powers = np.stack([np.prod(units ** np.array(a), 1) for a in indices], 1)
    inner = sum(sum(a) <= order for a in indices)
    tops, rows = indices[inner:], powers[:, inner:]
    size = np.array([math.prod(map(math.factorial, a)) for a in tops]) ** -0.5
    if len(widths) == 2:
        size = size * np.array([a[2] % 2 == 0 for a in tops])
    back = np.linalg.pinv(rows * size, rcond=1e-10) * size[:, None]
    depth = [
        math.hypot(*(k * h for k, h in zip(each.steps, widths, strict=True))) / each.cosine
        if each.cosine
        else 0.0
        for each in every
    ]
    lines = [line_of_cells(shape, each.steps) for each in every]

    def made(values: Any, kind: torch.dtype = torch.float64) -> Tensor:
        return torch.tensor(np.array(values), dtype=kind, device=device)

    return Directions(
        units=made(units),
        powers=made(powers[:, :inner]),
        back=made(back),
        depth=made(depth),
        order=made([cells for cells, _ in lines], torch.int32),
        length=made([n for _, n in lines], torch.int32),
    )


def line_of_cells(shape: tuple[int, ...], steps: Steps) -> tuple[np.ndarray, int]:
    """Return the cells line by line, and the cells of a line.

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
    first = np.array(list(product(*begins)))
    at = first[:, None] + np.arange(n)[:, None] * np.array(steps)
    return np.ravel_multi_index(tuple((at % np.array(shape)).T), shape).T.flatten(), n


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
            InputError: an axis that is not periodic, cells that are not alike, or a
                gradient is asked for.
        """
        if not all(periodic for _, periodic in seen.axes):
            raise InputError(
                "model.closure: it is asked along lines that run around the box; on a "
                "plane or in space all sides must be periodic (else take hyperbolic)"
            )
        if not unfollowed(seen.cells, seen.tau):
            raise InputError(
                "model.closure: on a plane or in space it has no derivatives; on a line it "
                "has, and hyperbolic has everywhere"
            )
        w, shape = seen.cells.movedim(-1, 1).flatten(2).double(), seen.cells.shape[1:-1]
        config, widths = self.module.config, tuple(width for width, _ in seen.axes)
        at = directions(config.order, tuple(shape), widths, w.device)
        look = self._looked(w, seen.tau.flatten(1), at)
        self._given.answer(look.asked)
        unit, real, other = look.gates.unbind(-1)
        found = look.asked.answer, look.asked.far
        answer, far = (x[: unit.numel()].double().view_as(unit) for x in found)
        over = (far - 1.0).clamp(0.0, 1.0)
        known = 1.0 - over * over * (3.0 - 2.0 * over)

        def on_grid(x: Tensor) -> Tensor:
            return x.unflatten(0, (len(at.units), -1)).unflatten(-1, shape)

        share, trust = (on_grid(x).amin(0) for x in (real * known, known))
        for axis in range(1, share.dim()):
            near = share.roll(1, axis), share, share.roll(-1, axis)
            share = torch.stack(near).amin(0)
        top = torch.einsum("tm,mb...->bt...", at.back, on_grid(answer * unit - other))
        given = self._smooth(top * share[:, None]), share, trust
        return ClosureOutput(*(x.to(seen.cells) for x in given))

    def to(self, device: torch.device) -> "ObliqueClosure":
        """Return the closure on a device; its module is moved."""
        return replace(self, module=self.module.to(device))

    @property
    def _given(self) -> Given:
        return given_of(self.module)

    def _looked(self, w: Tensor, tau: Tensor, at: Directions) -> "Look":
        """Return what the network is shown, row by row a direction and a member of w.

        Args:
            w: ``[batch, N, cells]``.
            tau: ``[batch, cells]``.
            at: the directions.
        """
        config, given, kind = self.module.config, self._given, self.module.scale.dtype
        b = basis(config.order, 3, w.dtype, w.device)
        f, theta = coefficients(b, w)[:, :-1], temperature(b, w)[:, 0]
        rows, cells, fields = len(at.units) * len(w), w.shape[2], config.order + 1
        look = Look(given.points(rows * cells), w.new_empty(rows, cells, 3))
        seen = (
            f.mT.contiguous(), w[:, 1:4].mT.contiguous(), theta.contiguous(),
            tau.double().contiguous(),
        )  # fmt: skip
        sight = at.units, at.powers, at.depth, at.order, at.length
        numbers = MARGIN, CAUTION, config.stretch
        ranges, z, gates = len(config.reach), look.asked.z, look.gates
        if w.is_cpu and max(fields, ranges) <= LANES:
            look_along(
                *seen, sight, given.reach, given.slow, given.weights, numbers, z, gates,
                config.order,
            )  # fmt: skip
            return look
        start(w.device.type)
        k_see_on_grid(
            *seen, *sight, given.reach, w.new_empty(rows, cells, fields),
            w.new_empty(rows, cells, ranges, 2),
            w.new_zeros(rows, ranges, cells, fields, dtype=kind), given.slow,
            given.weights, *numbers, z, gates, kernel_type(kind), config.order,
        )  # fmt: skip
        return look

    def _smooth(self, top: Tensor) -> Tensor:
        """The module's Gaussian filter, along all axes."""
        taps = self._given.taps.tolist()
        half = len(taps) // 2
        for axis in range(2, top.dim()):
            top = sum(
                top.roll(i, axis) * tap
                for i, tap in zip(range(-half, half + 1), taps, strict=True)
            )  # type: ignore[assignment]
        return top


@dataclass(frozen=True)
class Look:
    """What the network is shown; see :func:`...kernels.moments.k_see_on_grid`.

    Attributes:
        asked: the points (row, cell), one after another.
        gates: ``[rows, cells, 3]``.
    """

    asked: Asked
    gates: Tensor
