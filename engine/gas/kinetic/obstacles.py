"""Solids and parts of faces among simulated molecules: what the flight kernel reads.

Particles meet the surface of the shape itself, not the faces of cells, so the rows here are
planes, round mantles and edges (:mod:`~engine.kernels.flight`). Cells that a surface cuts
have the volume that gas has of them; it is counted at points of a lattice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...kernels import flight
from ..grid import Grid
from ..shapes import Ball, Box, Cylinder, HalfSpace, Layer, Polygon
from ..solids import Solid, wall_values

POINTS = 4096
"""Of the lattice in a cell that is cut."""
COARSE = 5
"""Points along each axis that find the cells that are cut: what a curved surface reaches
between them is below ``h / (700 R)`` of a cell."""
ENDLESS = 1e30
"""Where a body without an end ends."""
ROUNDING = 3e-7
"""What f32 leaves of a place, over the largest coordinate: half a unit in the last place of
the place and of its distance, 2^-23 each, and the steps between."""


@dataclass(frozen=True)
class Obstacles:
    """Solids on a grid.

    Attributes:
        solids: in their order.
        grid: cells.
        surfaces: ``[n, 9]``.
        bodies: ``[solids, 16]``; :attr:`nodes` are not yet placed among the sides.
        nodes: rows of ``sides`` of the solids whose wall varies, ``[nodes, 8]`` each.
        share: ``[*grid.shape]`` part of each cell that is gas.
    """

    solids: tuple[Solid, ...]
    grid: Grid
    surfaces: Tensor
    bodies: Tensor
    nodes: tuple[Tensor | None, ...]
    share: Tensor

    def placed(self, first: int) -> tuple[Tensor, Tensor]:
        """Return bodies that know where their nodes are, and the rows, from ``first``."""
        bodies, rows = self.bodies.clone(), [torch.zeros(0, flight.SIDE_COLUMNS).double()]
        for body, nodes in zip(bodies, self.nodes, strict=True):
            if nodes is not None:
                body[flight.BODY_NODES] = first + sum(len(r) for r in rows)
                rows.append(nodes)
        return bodies, torch.cat(rows)

    def inside(self, points: tuple[Tensor, ...]) -> Tensor:
        """Return whether points are in a solid."""
        return torch.stack([s.shape.inside(points) for s in self.solids]).any(0)

    @property
    def room(self) -> Tensor:
        """Volume of a cell over that of its gas; bounded where hardly any is left."""
        return 1.0 / self.share.clamp(min=1.0 / POINTS)


def obstacles_of(solids: Sequence[Solid], grid: Grid) -> Obstacles | None:
    """Return solids on a grid, or None where there are none.

    Raises:
        InputError: names the solid and the key.
    """
    if not solids:
        return None
    surfaces: list[list[float]] = []
    bodies, nodes = [], []
    far = max(abs(x) for x in (*grid.lower, *grid.upper))
    for number, solid in enumerate(solids):
        rows, ends = _surfaces(solid.shape, grid.dim)
        wall, varied = _wall(f"solids.{number}", solid, grid)
        lower = [max(a - ROUNDING * far, -ENDLESS) for a, _ in ends]
        upper = [min(b + ROUNDING * far, ENDLESS) for _, b in ends]
        first, last = len(surfaces), len(surfaces) + len(rows)
        bodies.append(
            [
                first, last, number, *_three(lower), *_three(upper), *wall, -1.0,
                ROUNDING * far,
            ]
        )  # fmt: skip
        surfaces += rows
        nodes.append(varied)
    return Obstacles(
        tuple(solids), grid, torch.tensor(surfaces, dtype=torch.float64),
        torch.tensor(bodies, dtype=torch.float64), tuple(nodes), _share(solids, grid),
    )  # fmt: skip


def _three(values: Sequence[float]) -> list[float]:
    return [*values, *[0.0] * (3 - len(values))]


Ends = list[tuple[float, float]]


def _surfaces(shape: Any, dim: int) -> tuple[list[list[float]], Ends]:
    """Return the surfaces of a shape and the box around it."""
    everywhere: Ends = [(-math.inf, math.inf)] * dim
    match shape:
        case Box():
            ends = list(zip(shape.lower, shape.upper, strict=True))
            return _planes(dict(enumerate(ends))), ends
        case Layer():
            axis = "xyz".index(shape.axis)
            low = -math.inf if shape.low is None else shape.low
            high = math.inf if shape.high is None else shape.high
            everywhere[axis] = (low, high)
            return _planes({axis: (low, high)}), everywhere
        case HalfSpace():
            length = math.hypot(*shape.normal)
            out = [-n / length for n in shape.normal]
            offset = sum(n * p for n, p in zip(out, shape.point, strict=True))
            return [_row(flight.PLANE, out, [], offset)], everywhere
        case Ball():
            ends = [(c - shape.radius, c + shape.radius) for c in shape.center]
            row = _row(flight.ROUND, [1.0] * dim, shape.center, shape.radius)
            return [row], ends
        case Cylinder():
            return _cylinder(shape, dim)
        case Polygon():
            return _polygon(shape, dim)
    raise InputError(
        f"solids: particles do not know the surface of shape.kind = {shape.kind}; they do "
        "of box, ball, cylinder, half_space, layer, polygon"
    )


def _row(
    kind: int, axis: Sequence[float], point: Sequence[float], offset: float, long: float = 0
) -> list[float]:
    return [float(kind), *_three(axis), *_three(point), offset, long]


def _planes(ends: dict[int, tuple[float, float]]) -> list[list[float]]:
    """Return the planes at the finite ends of some axes."""
    found = []
    for axis, pair in ends.items():
        for sign, end in zip((-1.0, 1.0), pair, strict=True):
            if math.isfinite(end):
                normal = [sign if d == axis else 0.0 for d in range(3)]
                found.append(_row(flight.PLANE, normal, [], sign * end))
    return found


def _cylinder(shape: Cylinder, dim: int) -> tuple[list[list[float]], Ends]:
    axis = "xyz".index(shape.axis)
    across = [d for d in range(3) if d != axis]
    center, ends = [0.0] * 3, [(-math.inf, math.inf)] * 3
    for d, c in zip(across, shape.center, strict=True):
        center[d], ends[d] = c, (c - shape.radius, c + shape.radius)
    low = -math.inf if shape.low is None else shape.low
    high = math.inf if shape.high is None else shape.high
    ends[axis] = (low, high)
    mask = [1.0 if d in across else 0.0 for d in range(3)]
    mantle = _row(flight.ROUND, mask, center, shape.radius)
    return [mantle, *_planes({axis: (low, high)})], ends[:dim]


def _polygon(shape: Polygon, dim: int) -> tuple[list[list[float]], Ends]:
    corners = torch.tensor(shape.corners, dtype=torch.float64)
    after = corners.roll(-1, 0)
    area = (corners[:, 0] * after[:, 1] - corners[:, 1] * after[:, 0]).sum()
    if area < 0:  # the kernel goes round counterclockwise
        corners, after = corners.flip(0), corners.flip(0).roll(-1, 0)
    rows = []
    for (x, y), (x1, y1) in zip(corners.tolist(), after.tolist(), strict=True):
        length = math.hypot(x1 - x, y1 - y)
        if length > 0:
            normal = [(y1 - y) / length, (x - x1) / length]
            offset = normal[0] * x + normal[1] * y
            rows.append(_row(flight.EDGE, normal, [x, y], offset, length))
    low, high = corners.amin(0).tolist(), corners.amax(0).tolist()
    ends = list(zip(low, high, strict=True))
    return rows, [*ends, *[(-math.inf, math.inf)] * (dim - 2)]


def _wall(key: str, solid: Solid, grid: Grid) -> tuple[list[float], Tensor | None]:
    """Return temperature, velocity and accommodation, and rows at nodes where they vary."""
    wall = solid.wall
    given = (wall.temperature, *wall.velocity)
    if all(isinstance(q, int | float) for q in given):
        u = [float(q) for q in wall.velocity]
        return [float(wall.temperature), *_three(u), wall.accommodation], None
    lines = [
        torch.linspace(a, b, n + 1, dtype=torch.float64)
        for a, b, n in zip(grid.lower, grid.upper, grid.shape, strict=True)
    ]
    at = torch.meshgrid(*lines, indexing="ij")
    t, u = wall_values(key, wall, at)
    # far from the surface nothing is asked, so nothing need be finite there
    rows = torch.zeros(t.numel(), flight.SIDE_COLUMNS, dtype=torch.float64)
    first = flight.SIDE_TEMPERATURE
    rows[:, first] = t.flatten()
    rows[:, first + 1 : first + 4] = u.flatten(0, -2)
    _check_nodes(key, solid, grid, at, rows[:, first : first + 4])
    return [1.0, 0.0, 0.0, 0.0, wall.accommodation], rows


def _check_nodes(
    key: str, solid: Solid, grid: Grid, at: tuple[Tensor, ...], values: Tensor
) -> None:
    """Refuse walls that are not positive or finite at the nodes of cells that are cut."""
    inside = solid.shape.inside(at).double()[None, None]
    pool = (torch.nn.functional.max_pool1d, torch.nn.functional.max_pool2d,
            torch.nn.functional.max_pool3d)[grid.dim - 1]  # fmt: skip
    near = (pool(inside, 3, 1, 1) * pool(1 - inside, 3, 1, 1) > 0).flatten()
    good = values.isfinite().all(1) & (values[:, 0] > 0)
    if not bool(good[near].all()):
        bad = (near & ~good).nonzero()[0, 0]
        place = ", ".join(f"{float(x.flatten()[bad]):.4g}" for x in at)
        raise InputError(
            f"{key}.wall: temperature {float(values[bad, 0]):.4g}, velocity "
            f"{values[bad, 1:].tolist()} at ({place}), a node of a cell that the surface "
            "cuts; must be finite, the temperature positive"
        )


def _share(solids: Sequence[Solid], grid: Grid) -> Tensor:
    """Return the part of each cell that is gas, at points of a lattice where it is cut.

    The lattice of D dimensions has the inverse powers of the root of ``x^(D+1) = x + 1``
    for its generators, which leaves no gaps (M. Roberts' generalised golden ratio).
    """
    root = 2.0
    for _ in range(64):
        root = (1.0 + root) ** (1.0 / (grid.dim + 1))
    count = torch.arange(1, POINTS + 1, dtype=torch.float64)
    lattice = [torch.frac(count * root ** -(d + 1)) for d in range(grid.dim)]
    share = torch.ones(grid.cells, dtype=torch.float64)
    line = torch.linspace(0.0, 1.0, COARSE, dtype=torch.float64)
    coarse = [c.flatten() for c in torch.meshgrid(*[line] * grid.dim, indexing="ij")]
    corner = [
        c.flatten() - 0.5 * h for c, h in zip(grid.points(), grid.spacing, strict=True)
    ]
    for some in torch.arange(grid.cells).split(4096):
        share[some] = _gas(solids, grid, corner, some, coarse)
        cut = some[(share[some] > 0) & (share[some] < 1)]
        for few in cut.split(256):
            share[few] = _gas(solids, grid, corner, few, lattice)
    return share.reshape(grid.shape)


def _gas(
    solids: Sequence[Solid], grid: Grid, corner: Sequence[Tensor], cells: Tensor,
    places: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Return the part of ``places`` (0 to 1 along each axis) that is gas, in some cells."""
    points = tuple(
        corner[d][cells, None] + grid.spacing[d] * places[d] for d in range(grid.dim)
    )
    within = torch.stack([s.shape.inside(points) for s in solids]).any(0)
    return 1.0 - within.double().mean(1)


__all__ = ["Obstacles", "obstacles_of"]
