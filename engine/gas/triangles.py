"""Closed surfaces of triangles, as STL files hold them: inside, and which way is out."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Gt
from torch import Tensor

from ...models.parts import part
from ..errors import InputError
from ..inputs import check_file_size
from ..schema.base import InputPath, locate

Points = tuple[Tensor, ...]
TOGETHER = 1 << 20
"""Pairs of a point and a triangle that are looked at at once."""
BINS = 256
"""Along each axis, at most, of the bins that find the triangles above a place."""


@part
class Stl:
    """A body from an STL file, text or binary: its triangles close it, on a 3D grid."""

    path: InputPath
    """The file, relative to the scenario file."""
    scale: Annotated[float, Gt(0)] = 1.0
    """Reference lengths per unit of the file."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where the file's origin is."""
    kind: Literal["stl"] = "stl"

    dimensions: ClassVar = (3,)

    def located(self, base: Path) -> "Stl":
        """Return the part with the file found."""
        return replace(self, path=locate(self.path, base))

    @cached_property
    def surface(self) -> "Surface":
        """Its triangles.

        Raises:
            ValueError: no STL file, or not a closed surface.
        """
        try:
            corners = closed(read(self.path))
        except InputError as error:
            said = str(error).removeprefix(f"{self.path}: ")
            raise ValueError(f"path: {self.path}: {said}") from None
        offset = torch.tensor(self.offset, dtype=torch.float64)
        return Surface(torch.from_numpy(corners) * self.scale + offset)

    def inside(self, points: Points) -> Tensor:
        """Return whether a ray along x meets the surface an odd number of times.

        Raises:
            ValueError: the grid is not 3D.
        """
        if len(points) != 3:
            raise ValueError("kind: stl needs a 3D grid")
        at = torch.stack([p.flatten() for p in points], -1)
        return self.surface.holds(at).reshape(points[0].shape)

    def outward(self, points: Points) -> Tensor:
        """Return the normal of the nearest triangle."""
        at = torch.stack([p.flatten() for p in points], -1)
        return self.surface.normals_at(at).reshape(*points[0].shape, 3)


def read(path: Path) -> np.ndarray:
    """Return the corners of the triangles of an STL file, ``[n, 3, 3]``.

    Raises:
        InputError: it is none.
    """
    check_file_size(path)
    data = path.read_bytes()
    count = int.from_bytes(data[80:84], "little")
    if len(data) == 84 + 50 * count:
        row = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])
        corners = np.frombuffer(data, row, offset=84)["corners"].astype(np.float64)
    else:
        words = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", data)
        try:
            corners = np.array(words, dtype=np.float64).reshape(-1, 3, 3)
        except ValueError:
            raise InputError("no readable STL file") from None
    if not len(corners) or not np.isfinite(corners).all():
        raise InputError(
            "no readable STL file: no triangles, or places that are no numbers"
        )
    return corners


def closed(corners: np.ndarray) -> np.ndarray:
    """Return triangles ``[n, 3, 3]`` around a volume, counter-clockwise from outside.

    Raises:
        InputError: an edge without a neighbour, or one that runs the other way.
    """
    places, number = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    number = number.reshape(-1, 3)
    real = (number != np.roll(number, 1, 1)).all(1)
    corners, number = corners[real], number[real]
    start, end = number.ravel(), np.roll(number, -1, 1).ravel()
    forth = start * len(places) + end
    back = end * len(places) + start
    alone = len(np.setdiff1d(forth, back)) + len(forth) - len(np.unique(forth))
    if alone or not len(forth):
        raise InputError(
            f"its surface is not closed: {alone} edges have no neighbour that runs the "
            "other way; repair it"
        )
    volume = np.einsum("ni,ni->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return corners if volume > 0 else corners[:, ::-1].copy()


@dataclass(frozen=True)
class Surface:
    """Triangles that close a volume.

    Attributes:
        corners: ``[n, 3, 3]``, counter-clockwise from outside.
    """

    corners: Tensor

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """Lower and upper corner of the box around it."""
        return self.corners.amin((0, 1)), self.corners.amax((0, 1))

    @cached_property
    def normals(self) -> Tensor:
        """Outward normals, ``[n, 3]``."""
        a, b, c = self.corners.unbind(1)
        return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)

    @cached_property
    def _bins(self) -> tuple[Tensor, Tensor, Tensor, int]:
        """Bins of (y, z): lower corner, width, ``[bins^2, most]`` triangles (-1: none)."""
        low, high = (end[1:] for end in self.box)
        count = min(BINS, 1 + int(len(self.corners) ** 0.5))
        width = ((high - low) / count).clamp(min=1e-300)
        flat = self.corners[..., 1:]
        first = ((flat.amin(1) - low) / width).long().clamp(0, count - 1)
        last = ((flat.amax(1) - low) / width).long().clamp(0, count - 1)
        lists: list[list[int]] = [[] for _ in range(count * count)]
        for n, ((y0, z0), (y1, z1)) in enumerate(
            zip(first.tolist(), last.tolist(), strict=True)
        ):
            for y in range(y0, y1 + 1):
                for z in range(z0, z1 + 1):
                    lists[y * count + z].append(n)
        most = max(map(len, lists))
        table = torch.tensor([each + [-1] * (most - len(each)) for each in lists])
        return low, width, table, count

    def holds(self, at: Tensor) -> Tensor:
        """Return whether places ``[m, 3]`` are inside: oddly many crossings along x."""
        low, high = self.box
        near = ((at >= low) & (at <= high)).all(-1)
        found = torch.zeros(len(at), dtype=torch.bool)
        found[near] = _in_pieces(self._odd, at[near], self._bins[2].shape[1])
        return found

    def _odd(self, at: Tensor) -> Tensor:
        low, width, table, count = self._bins
        bins = ((at[:, 1:] - low) / width).long().clamp(0, count - 1)
        number = table[bins[:, 0] * count + bins[:, 1]]
        corners = self.corners[number.clamp(min=0)]  # [m, most, 3, 3]
        y, z = at[:, 1, None], at[:, 2, None]
        over = torch.zeros_like(number, dtype=torch.bool)
        for k in range(3):
            over ^= _left_of(corners[..., k, 1:], corners[..., (k + 1) % 3, 1:], y, z)
        a, normal = corners[..., 0, :], self.normals[number.clamp(min=0)]
        slope = normal[..., 1] * (y - a[..., 1]) + normal[..., 2] * (z - a[..., 2])
        ahead = (a[..., 0] - at[:, 0, None]) * normal[..., 0] - slope
        ahead = ahead * normal[..., 0].sign() > 0
        return (over & ahead & (number >= 0)).sum(-1) % 2 == 1

    def normals_at(self, at: Tensor) -> Tensor:
        """Return the normal of the triangle that is nearest to places ``[m, 3]``."""
        nearest = _in_pieces(self._nearest, at, len(self.corners))
        return self.normals[nearest]

    def _nearest(self, at: Tensor) -> Tensor:
        here = at[:, None]
        inside = torch.ones(len(at), len(self.corners), dtype=torch.bool)
        best = torch.full(inside.shape, torch.inf, dtype=at.dtype)
        for k in range(3):
            start, edge = self.corners[:, k], self.corners[:, (k + 1) % 3]
            edge = edge - start
            away = here - start
            share = (away * edge).sum(-1) / edge.square().sum(-1)
            off = away - share.clamp(0.0, 1.0)[..., None] * edge
            best = torch.minimum(best, off.square().sum(-1))
            within = torch.linalg.cross(edge, self.normals)
            inside &= (away * within).sum(-1) <= 0
        height = ((here - self.corners[:, 0]) * self.normals).sum(-1).square()
        return torch.where(inside, height, best).argmin(-1)


def _left_of(a: Tensor, b: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return whether a ray along y meets an edge; the same for both of its triangles."""
    swapped = (a[..., 1] > b[..., 1]) | ((a[..., 1] == b[..., 1]) & (a[..., 0] > b[..., 0]))
    p = torch.where(swapped[..., None], b, a)
    q = torch.where(swapped[..., None], a, b)
    rise = q[..., 1] - p[..., 1]
    share = (z - p[..., 1]) / torch.where(rise > 0, rise, 1.0)
    return (
        (p[..., 1] <= z)
        & (z < q[..., 1])
        & (y < p[..., 0] + share * (q[..., 0] - p[..., 0]))
    )


def _in_pieces(rule: Callable[[Tensor], Tensor], at: Tensor, each: int) -> Tensor:
    """Return ``rule`` of places, of as many at once as memory likes."""
    return torch.cat([rule(piece) for piece in at.split(max(1, TOGETHER // each))])
