"""Regions of space: where an initial condition paints, and where a solid is.

A part has the fields of its scenario section and one method::

    def inside(self, points: tuple[Tensor, ...]) -> Tensor: ...

with the coordinates of any number of points, one tensor per space dimension, all of one
shape; the result is a boolean tensor of that shape. Optional: ``dimensions`` of the grids
that fit, ``located(base)``, the same part with its file found from the folder of the
scenario file, and what a solid needs: ``outward(points)``, the unit vector out of the
region at the nearest place of its surface, ``[..., dimension]``, for points on the surface.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt, Len
from torch import Tensor

from ...models.parts import Family, part
from ..expressions import Expression

SHAPES = Family(
    "shape",
    __name__.rpartition(".")[0],
    {
        "half_space": "shapes:HalfSpace",
        "layer": "shapes:Layer",
        "box": "shapes:Box",
        "ball": "shapes:Ball",
        "cylinder": "shapes:Cylinder",
        "polygon": "shapes:Polygon",
        "stl": "triangles:Stl",
        "where": "shapes:Where",
    },
)

Points = tuple[Tensor, ...]
Vector = Annotated[tuple[float, ...], Len(1, 3)]


def _along(points: Points, given: Sequence[float], key: str) -> list[Tensor]:
    """Return the coordinates that ``given`` has a component for.

    Raises:
        ValueError: not one component per space dimension.
    """
    if len(given) != len(points):
        raise ValueError(f"{key}: {len(given)} components on a {len(points)}D grid")
    return list(points)


Ends = dict[int, tuple[float | None, float | None]]
"""Lower and upper planes across some axes; None where there is none."""


def _distances(points: Points, ends: Ends) -> Tensor:
    """Return the distances to the planes, ``[..., 2 * axes]``."""
    far = torch.full_like(points[0], torch.inf)
    found = [
        far if end is None else (points[axis] - end).abs()
        for axis, pair in ends.items()
        for end in pair
    ]
    return torch.stack(found, -1)


def _nearest_face(points: Points, ends: Ends) -> Tensor:
    """Return the normal of the nearest plane, away from the region between them."""
    normals = torch.zeros(2 * len(ends), len(points), dtype=points[0].dtype)
    for number, axis in enumerate(ends):
        normals[2 * number, axis], normals[2 * number + 1, axis] = -1.0, 1.0
    return normals[_distances(points, ends).argmin(-1)]


@part
class HalfSpace:
    """All points on one side of a plane: ``normal . (x - point) >= 0``."""

    point: Vector
    """On the plane."""
    normal: Vector
    """Into the region; any length but zero."""
    kind: Literal["half_space"] = "half_space"

    def __post_init__(self) -> None:
        if not any(self.normal):
            raise ValueError("normal: (0, ...) has no direction")
        if len(self.normal) != len(self.point):
            raise ValueError("point and normal must have the same length")

    def inside(self, points: Points) -> Tensor:
        """Return whether the points are on the side of the normal."""
        at = _along(points, self.point, "point")
        terms = zip(at, self.point, self.normal, strict=True)
        return sum(n * (x - p) for x, p, n in terms) >= 0  # type: ignore[return-value]

    def outward(self, points: Points) -> Tensor:
        """Return the direction against ``normal``."""
        out = -torch.tensor(self.normal, dtype=points[0].dtype)
        return (out / out.norm()).expand(*points[0].shape, -1)


@part
class Layer:
    """All points between two planes across one axis."""

    axis: Literal["x", "y", "z"] = "x"
    """Across the layer."""
    low: float | None = None
    """Lower end; without it the layer has none."""
    high: float | None = None
    """Upper end; without it the layer has none."""
    kind: Literal["layer"] = "layer"

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError("give low, high or both; without them the layer is everything")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low = {self.low} must lie below high = {self.high}")

    def inside(self, points: Points) -> Tensor:
        """Return whether ``low <= x < high``."""
        axis = "xyz".index(self.axis)
        if axis >= len(points):
            raise ValueError(f"axis: {self.axis} on a {len(points)}D grid")
        x = points[axis]
        found = torch.ones_like(x, dtype=torch.bool)
        if self.low is not None:
            found &= x >= self.low
        if self.high is not None:
            found &= x < self.high
        return found

    def outward(self, points: Points) -> Tensor:
        """Return the direction across the layer, out of the nearer end."""
        axis = "xyz".index(self.axis)
        return _nearest_face(points, {axis: (self.low, self.high)})


@part
class Box:
    """A box with faces across the axes."""

    lower: Vector
    """Lower corner."""
    upper: Vector
    """Upper corner."""
    kind: Literal["box"] = "box"

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper):
            raise ValueError("lower and upper must have the same length")
        if any(a >= b for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"lower: {self.lower} must lie below upper {self.upper}")

    def inside(self, points: Points) -> Tensor:
        """Return whether ``lower <= x < upper`` along every axis."""
        at = _along(points, self.lower, "lower")
        found = torch.ones_like(at[0], dtype=torch.bool)
        for x, a, b in zip(at, self.lower, self.upper, strict=True):
            found &= (x >= a) & (x < b)
        return found

    def outward(self, points: Points) -> Tensor:
        """Return the normal of the nearest face."""
        return _nearest_face(
            points, dict(enumerate(zip(self.lower, self.upper, strict=True)))
        )


@part
class Ball:
    """A ball, on plane grids a disc, on lines a segment."""

    center: Vector
    """Its middle."""
    radius: Annotated[float, Gt(0)]
    """Its radius."""
    kind: Literal["ball"] = "ball"

    def inside(self, points: Points) -> Tensor:
        """Return whether the points are at most ``radius`` from the centre."""
        at = _along(points, self.center, "center")
        square = sum((x - c) ** 2 for x, c in zip(at, self.center, strict=True))
        return square <= self.radius**2  # type: ignore[return-value]

    def outward(self, points: Points) -> Tensor:
        """Return the direction from the centre."""
        away = [x - c for x, c in zip(points, self.center, strict=True)]
        return torch.nn.functional.normalize(torch.stack(away, -1), dim=-1)


@part
class Cylinder:
    """A round cylinder along an axis of a 3D grid; on a plane grid, along z, a disc."""

    center: Annotated[tuple[float, float], Len(2, 2)]
    """Its axis: coordinates across it, in the order of x, y, z."""
    radius: Annotated[float, Gt(0)]
    """Its radius."""
    axis: Literal["x", "y", "z"] = "z"
    """Along it."""
    low: float | None = None
    """Its lower end; without it the cylinder has none."""
    high: float | None = None
    """Its upper end."""
    kind: Literal["cylinder"] = "cylinder"

    dimensions: ClassVar = (2, 3)

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low = {self.low} must lie below high = {self.high}")

    def _across(self, points: Points) -> list[Tensor]:
        """Return the coordinates from the axis.

        Raises:
            ValueError: the grid does not have the cylinder's axis or ends.
        """
        if len(points) == 2 and (self.axis, self.low, self.high) != ("z", None, None):
            raise ValueError("axis: on a 2D grid a cylinder is along z, without ends")
        if len(points) < 2:
            raise ValueError("a cylinder needs a 2D or 3D grid")
        at = [x for d, x in enumerate(points) if d != "xyz".index(self.axis)]
        return [x - c for x, c in zip(at, self.center, strict=True)]

    def inside(self, points: Points) -> Tensor:
        """Return whether the points are in it."""
        square = torch.stack(self._across(points)).square().sum(0)
        found = square <= self.radius**2
        if self.low is not None:
            found &= points["xyz".index(self.axis)] >= self.low
        if self.high is not None:
            found &= points["xyz".index(self.axis)] < self.high
        return found

    def outward(self, points: Points) -> Tensor:
        """Return the normal of the nearest of mantle and ends."""
        axis = "xyz".index(self.axis)
        away = torch.stack(self._across(points))
        radius = away.square().sum(0).sqrt()
        across = iter(away / radius.clamp(min=1e-300))
        zero = torch.zeros_like(points[0])
        found = [zero if d == axis else next(across) for d in range(len(points))]
        mantle, off = torch.stack(found, -1), (radius - self.radius).abs()
        if self.low is None and self.high is None:
            return mantle
        ends = {axis: (self.low, self.high)}
        nearer = _distances(points, ends).amin(-1) < off
        return torch.where(nearer[..., None], _nearest_face(points, ends), mantle)


def _crossing(corners: Tensor) -> tuple[int, int] | None:
    """Return two edges of a closed outline ``[n, 2]`` that meet, None where there are none.

    Neighbours share a corner; they meet where one runs back along the other.
    """
    n = len(corners)
    a, along = corners, corners.roll(-1, 0) - corners
    back = _turn(along.roll(1, 0), along) == 0
    back &= (along.roll(1, 0) * along).sum(-1) < 0
    if bool(back.any()):
        last = int(back.nonzero()[0])
        return (last - 1) % n, last
    for first in range(n - 2):
        rest = torch.arange(first + 2, n - (first == 0))
        p, q = a[first], along[first]
        b, r = a[rest], along[rest]
        # each edge has the ends of the other on both sides, or on its line within reach
        apart = (_turn(q, b - p) * _turn(q, b + r - p) > 0) | (
            _turn(r, p - b) * _turn(r, p + q - b) > 0
        )
        low, high = torch.minimum(p, p + q), torch.maximum(p, p + q)
        far = (torch.maximum(b, b + r) < low) | (torch.minimum(b, b + r) > high)
        meets = ~apart & ~far.any(-1)
        if bool(meets.any()):
            return first, int(rest[meets][0])
    return None


def _turn(a: Tensor, b: Tensor) -> Tensor:
    """Return the cross product of vectors of the plane."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


@part
class Polygon:
    """A simple polygon in the plane of x and y; on a 3D grid a prism along z."""

    corners: Annotated[tuple[tuple[float, float], ...], Len(3, 4096)]
    """Its corners in order, either way round."""
    kind: Literal["polygon"] = "polygon"

    dimensions: ClassVar = (2, 3)

    def __post_init__(self) -> None:
        """Refuse an outline that crosses itself, whose inside and normals contradict."""
        ends = torch.tensor(self.corners, dtype=torch.float64)
        ends = ends[(ends != ends.roll(1, 0)).any(-1)]  # a corner may be said twice
        if len(ends) < 3:
            raise ValueError("corners: three different ones are needed")
        if (pair := _crossing(ends)) is not None:
            near = [f"({x:g}, {y:g})" for x, y in ends[list(pair)].tolist()]
            raise ValueError(
                f"corners: the edges after {near[0]} and {near[1]} meet; the outline must "
                "not cross or touch itself"
            )

    def inside(self, points: Points) -> Tensor:
        """Return whether a ray along x crosses the outline an odd number of times."""
        if len(points) < 2:
            raise ValueError("a polygon needs a 2D or 3D grid")
        x, y = points[:2]
        found = torch.zeros_like(x, dtype=torch.bool)
        for (x0, y0), (x1, y1) in zip(
            self.corners, (*self.corners[1:], self.corners[0]), strict=True
        ):
            if y0 == y1:
                continue
            crosses = (y0 > y) != (y1 > y)
            found ^= crosses & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
        return found

    def outward(self, points: Points) -> Tensor:
        """Return the normal of the nearest edge."""
        start = torch.tensor(self.corners, dtype=points[0].dtype)
        edge = start.roll(-1, 0) - start
        turn = (start[:, 0] * start.roll(-1, 0)[:, 1]).sum()
        turn = torch.sign(turn - (start[:, 1] * start.roll(-1, 0)[:, 0]).sum())
        away = torch.stack(points[:2], -1)[..., None, :] - start
        share = (away * edge).sum(-1) / edge.square().sum(-1).clamp(min=1e-300)
        off = away - share.clamp(0.0, 1.0)[..., None] * edge
        nearest = edge[off.square().sum(-1).argmin(-1)]
        out = torch.nn.functional.normalize(nearest, dim=-1) * turn
        flat = torch.zeros_like(out[..., :1]).expand(*out.shape[:-1], len(points) - 2)
        return torch.cat([out[..., 1:], -out[..., :1], flat], -1)


@part
class Where:
    """All points where a condition holds, such as ``x**2 + 4*y**2 < 1 and x > 0``."""

    condition: str
    """Expression of x, y, z; the region is where it is true (not zero)."""
    kind: Literal["where"] = "where"

    def __post_init__(self) -> None:
        Expression(self.condition)

    def inside(self, points: Points) -> Tensor:
        """Return where the condition holds.

        Raises:
            ValueError: it is not a number somewhere.
        """
        values = dict(zip("xyz", points, strict=False))
        found = Expression(self.condition)(values)
        if bool((bad := found.isnan()).any()):
            place = ", ".join(f"{float(x[bad][0]):.6g}" for x in points)
            raise ValueError(f"condition: {self.condition!r} is nan at ({place})")
        return found != 0
