r"""Solids in the flow: shapes with a wall around them, cut out of the grid's cells.

A cell is solid where its centre is inside a shape. Between a cell of gas and a solid one is
a *cut*: along the line of their centres the surface lies at ``distance`` cell widths from
the gas cell (0 to 1), with a ``normal`` into the gas. Models compute what passes the face
of each cut, half a cell from the gas cell, from the line through the cell of gas and the
one behind it, and from what holds at the surface::

    q(s) = q(0) + s (q(0) - q(-1)),  s = distance at the wall, 1/2 at the face,

so a flat wall on faces of the grid is what it is at the end of the box, and an oblique or
curved one is in its true place to second order, however thin the solid is. Values at the
face that the wall gives are interpolated between the wall and the gas cell, or, where the
wall is nearer than the face (distance < 1/2), extrapolated from the wall and the cell
behind: no division by a small distance (in the spirit of Mittal et al., J. Comput. Phys.
227, 2008, p. 4825; for kinetic models Dechriste, Mieussens, J. Comput. Phys. 314, 2016).

The force on a solid is the momentum that leaves the gas through the faces of its cuts, the
heat the energy; what the gas loses, the solids get.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..expressions import Expression
from .boundaries import Sides, Wall, sealed
from .grid import Grid
from .initial.base import Start

LEAST_GAP = 3
"""Cells of gas between two solids, or between a solid and an end of the box."""
PROBES = 7
"""Places between two cells of gas that are tried for a solid too thin to hold a cell."""
HALVINGS = 54
"""Of the distance between two centres, to find the surface."""
COLUMNS = ("force_x", "force_y", "force_z", "heat")


@dataclass(frozen=True)
class Solid:
    """A body that stands still in the gas; its surface may slide along itself.

    Attributes:
        name: in figures.
        shape: a part of :data:`.shapes.SHAPES` with ``outward``.
        wall: its surface; expressions of x, y and z.
    """

    name: str
    shape: Any
    wall: Wall


@dataclass(frozen=True)
class Cuts:
    """Faces between gas and solids, n of them; cells are numbered in C order.

    Attributes:
        cell: ``[n]`` cell of gas.
        behind: ``[n]`` the next one, away from the solid.
        axis: ``[n]`` across the face.
        side: ``[n]`` 1 where the solid is at the high side of the cell, else -1.
        solid: ``[n]`` number of the solid.
        distance: ``[n]`` of the surface from the cell's centre, cell widths.
        normal: ``[n, dim]`` into the gas, at the surface.
        area: ``[n]`` of the face.
        temperature: ``[n]`` of the wall.
        velocity: ``[n, 3]`` of the wall.
        accommodation: ``[n]``.
    """

    cell: Tensor
    behind: Tensor
    axis: Tensor
    side: Tensor
    solid: Tensor
    distance: Tensor
    normal: Tensor
    area: Tensor
    temperature: Tensor
    velocity: Tensor
    accommodation: Tensor

    @cached_property
    def anchor(self) -> Tensor:
        """Place (0 or -1) of the cell from which values at the face are interpolated."""
        return torch.where(self.distance < 0.5, -1.0, 0.0)

    @cached_property
    def share(self) -> Tensor:
        """Part of a change at the wall that the face gets; the anchor gets none."""
        return (0.5 - self.anchor) / (self.distance - self.anchor)

    @cached_property
    def towards(self) -> Tensor:
        """Cosine between the normal and the way from the solid to the cell, ``[n]``."""
        along = self.normal.gather(1, self.axis[:, None])[:, 0]
        return -self.side * along


@dataclass(frozen=True)
class Body:
    """All solids on a grid.

    Attributes:
        solids: in their order.
        grid: cells.
        mask: ``[*grid.shape]`` whether a cell is solid.
        cuts: their faces.
        inside: ``[solids]`` whether the gas goes all around it, or to sealed ends of the
            box. Through the steps of the grid at a solid that an open end cuts off, mass
            does pass, of the first order in the cells, where its surface does not end on
            them: to spread that over the surface would turn the flow along it.
        density: that fills solid cells, which nothing reads.
        temperature: the same.
    """

    solids: tuple[Solid, ...]
    grid: Grid
    mask: Tensor
    cuts: Cuts
    inside: Tensor
    density: float
    temperature: float
    _owner: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def count(self) -> int:
        """Number of solids."""
        return len(self.solids)

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum over the cuts of each solid of ``[batch, n]``."""
        out = values.new_zeros(*values.shape[:-1], self.count)
        if values.device not in self._owner:
            self._owner[values.device] = self.cuts.solid.to(values.device)
        return out.index_add(-1, self._owner[values.device], values)

    def gas(self, field: Tensor) -> Tensor:
        """Return a field ``[batch, *grid.shape, ...]``, zero in solid cells."""
        mask = self.mask.to(field.device)
        return field.masked_fill(mask.view(1, *mask.shape, *_ones(field, mask)), 0.0)

    def observed(self, force: Tensor, heat: Tensor) -> dict[str, Tensor]:
        """Return what worlds observe of solids.

        Args:
            force: ``[batch, solids, 1 to 3]``.
            heat: ``[batch, solids]``.
        """
        missing = 3 - force.shape[-1]
        force = torch.nn.functional.pad(force, (0, missing))
        return {"solid_loads": torch.cat([force, heat[..., None]], -1)}


def _ones(field: Tensor, mask: Tensor) -> tuple[int, ...]:
    return (1,) * (field.dim() - 1 - mask.dim())


def body_of(
    solids: Sequence[Solid], grid: Grid, sides: Sequence[Sides], start: Start,
    on_cells: bool = True,
) -> Body | None:  # fmt: skip
    """Return solids on a grid, or None where there are none.

    Args:
        solids: in their order.
        grid: cells.
        sides: boundaries, a pair for each axis.
        start: the gas at the start.
        on_cells: whether the model meets the solids on the faces of cells, and so needs
            cells of gas between them and none thinner than one.

    Raises:
        InputError: names the solid and what would do.
    """
    if not solids:
        return None
    keys = [f"solids.{number}" for number in range(len(solids))]
    names: dict[str, str] = {}
    for key, solid in zip(keys, solids, strict=True):
        if solid.name in names:
            raise InputError(
                f"{key}.name: {solid.name} is the name of {names[solid.name]} too"
            )
        names[solid.name] = key
    inside = [_inside(k, s, grid.points()) for k, s in zip(keys, solids, strict=True)]
    for number, (key, own) in enumerate(zip(keys, inside, strict=True)):
        if not bool(own.any()):
            raise InputError(
                f"{key}: no cell of the grid has its centre inside {solids[number].name}; "
                "it is outside the box or thinner than a cell"
            )
        for other in range(number):
            same = solids[other].wall == solids[number].wall
            if not same and bool((own & inside[other]).any()):
                raise InputError(
                    f"{key}: overlaps {keys[other]} ({solids[other].name}) and has another "
                    "wall; move one of them, or give both the same wall"
                )
    mask = torch.stack(inside).any(0)
    _check_images(keys, solids, mask, grid, sides)
    if bool(mask.all()):
        raise InputError("solids: no cell of gas is left; make them smaller")
    for axis in range(grid.dim):
        _check_ends(mask, axis, sides[axis])
        if on_cells:
            _check_gaps(mask, axis, grid, sides[axis])
    cuts = _cuts(keys, solids, grid, sides, mask, on_cells)
    free = ~mask
    density = float(start.density.expand(grid.shape)[free].mean())
    temperature = float(start.temperature.expand(grid.shape)[free].mean())
    kept = torch.tensor([not _cut_off(own, sides) for own in inside])
    return Body(tuple(solids), grid, mask, cuts, kept, density, temperature)


def _cut_off(own: Tensor, sides: Sequence[Sides]) -> bool:
    """Whether a solid reaches an end of the box that gas passes."""
    return any(
        not pair.periodic and not sealed(side) and bool(own.select(axis, at).any())
        for axis, pair in enumerate(sides)
        for at, side in ((0, pair.low), (-1, pair.high))
    )


def _inside(key: str, solid: Solid, points: tuple[Tensor, ...]) -> Tensor:
    fitting = getattr(solid.shape, "dimensions", (1, 2, 3))
    if len(points) not in fitting:
        allowed = " or ".join(f"{d}D" for d in fitting)
        raise InputError(f"{key}.shape: {solid.shape.kind} needs a {allowed} grid")
    if not hasattr(solid.shape, "outward"):
        raise InputError(
            f"{key}.shape: {solid.shape.kind} does not know its surface; allowed are box, "
            "ball, cylinder, half_space, layer, polygon, stl"
        )
    try:
        return solid.shape.inside(points)
    except ValueError as error:
        raise InputError(f"{key}.shape.{error}") from None


def _check_images(
    keys: Sequence[str], solids: Sequence[Solid], mask: Tensor, grid: Grid,
    sides: Sequence[Sides],
) -> None:  # fmt: skip
    """Refuse solids that do not go on beyond a periodic end as the grid has it."""
    for axis, pair in enumerate(sides):
        for end, step in ((0, -1), (grid.shape[axis] - 1, 1)):
            if not pair.periodic:
                continue
            face = [p.select(axis, end) for p in grid.points()]
            face[axis] = face[axis] + step * grid.spacing[axis]
            beyond = [_inside(k, s, tuple(face)) for k, s in zip(keys, solids, strict=True)]
            across = mask.select(axis, grid.shape[axis] - 1 - end)
            off = torch.stack(beyond).any(0) ^ across
            if bool(off.any()):
                place = ", ".join(f"{float(x[off][0]):.4g}" for x in face)
                raise InputError(
                    f"solids: at ({place}), beyond the periodic end of {'xyz'[axis]}, they "
                    "do not go on as the grid does at its other end; move them, let them "
                    "go through, or give their images too"
                )


def _check_ends(mask: Tensor, axis: int, pair: Sides) -> None:
    """Refuse an inlet or outlet without gas; a wall may be covered."""
    for end, at, side in (("low", 0, pair.low), ("high", -1, pair.high)):
        covered = not pair.periodic and bool(mask.select(axis, at).all())
        if covered and not sealed(side):
            raise InputError(
                f"solids: they cover the whole of boundaries.{'xyz'[axis]}.{end}, which "
                "then has no gas; move the solids, or let the end be a wall"
            )


def _check_gaps(mask: Tensor, axis: int, grid: Grid, pair: Sides) -> None:
    """Refuse fewer than :data:`LEAST_GAP` cells of gas between solids along an axis."""
    m, n = mask.movedim(axis, -1), mask.shape[axis]
    wall = torch.ones_like(m[..., :1])
    ends = (m, m) if pair.periodic else (wall, wall)
    reach = min(LEAST_GAP, n)
    line = torch.cat([ends[0][..., -reach:], m, ends[1][..., :reach]], -1)
    shown = line.unfold(-1, LEAST_GAP + 1, 1)  # solid, a gap that is too short, solid
    for gap in range(1, LEAST_GAP):
        thin = shown[..., 0] & shown[..., gap + 1] & ~shown[..., 1 : gap + 1].any(-1)
        # a box end on either side is a gap only next to a solid of the box
        if not pair.periodic and n <= gap:
            continue
        if bool(thin.any()):
            cell = torch.nonzero(thin)[0].tolist()
            at = cell[:-1]
            at.insert(axis, min(max(cell[-1] + 1 - reach, 0), n - 1))
            place = ", ".join(f"{float(grid.centers(d)[i]):.4g}" for d, i in enumerate(at))
            raise InputError(
                f"solids: {gap} cell(s) of gas along {'xyz'[axis]} at ({place}) between a "
                f"solid and another or an end of the box; at least {LEAST_GAP}: refine "
                "grid.cells, close the gap or move the solid"
            )


def _cuts(
    keys: Sequence[str], solids: Sequence[Solid], grid: Grid, sides: Sequence[Sides],
    mask: Tensor, on_cells: bool,
) -> Cuts:  # fmt: skip
    numbers = torch.arange(grid.cells).reshape(grid.shape)
    points = torch.stack(grid.points(), -1)
    rows: dict[str, list[Tensor]] = {}
    for axis in range(grid.dim):
        along, free = [torch.zeros(0, dtype=torch.int64)], points[:0]
        for side in (-1, 1):
            ahead = torch.roll(mask, -side, axis)
            pairs = ~mask
            if not sides[axis].periodic:
                pairs.select(axis, -1 if side == 1 else 0).fill_(False)
            free = points[pairs & ~ahead]
            at = pairs & ahead
            if not bool(at.any()):
                continue
            found = _surface(keys, solids, grid, points[at], axis, side)
            n = len(found["distance"])
            found |= {
                "cell": numbers[at],
                "behind": torch.roll(numbers, side, axis)[at],
                "axis": torch.full((n,), axis),
                "side": torch.full((n,), float(side), dtype=torch.float64),
                "area": torch.full((n,), grid.volume / grid.spacing[axis]).double(),
            }
            along.append(found["solid"])
            for name, values in found.items():
                rows.setdefault(name, []).append(values)
        if on_cells:
            _refuse_thin(keys, solids, grid, free, axis, torch.cat(along))
    if not rows:
        raise InputError("solids: they touch no gas")
    return Cuts(**{name: torch.cat(values) for name, values in rows.items()})


def _line(points: Tensor, axis: int, step: Tensor) -> tuple[Tensor, ...]:
    """Return the points moved along an axis, one tensor per coordinate."""
    moved = list(points.unbind(-1))
    moved[axis] = moved[axis] + step
    return tuple(moved)


def _thin(solid: Solid, key: str, grid: Grid, points: Tensor, axis: int) -> Tensor:
    """Return whether a solid is between two neighbouring cells of gas, ``[points]``."""
    found = torch.zeros(len(points), dtype=torch.bool)
    for part in range(1, PROBES + 1):
        step = torch.full_like(points[:, 0], part / (PROBES + 1) * grid.spacing[axis])
        found |= _inside(key, solid, _line(points, axis, step))
    return found


def _refuse_thin(
    keys: Sequence[str], solids: Sequence[Solid], grid: Grid, pairs: Tensor, axis: int,
    cuts: Tensor,
) -> None:  # fmt: skip
    """Refuse a plate that the cells do not see; a sharp edge may end in one.

    Args:
        keys: of the solids.
        solids: in their order.
        grid: cells.
        pairs: ``[m, dim]`` cells of gas with gas on their high side.
        axis: of the pairs.
        cuts: solid of every cut along the axis.
    """
    for number, (key, solid) in enumerate(zip(keys, solids, strict=True)):
        thin = _thin(solid, key, grid, pairs, axis)
        if 4 * int(thin.sum()) > max(4, int((cuts == number).sum())):
            place = ", ".join(f"{float(x):.4g}" for x in pairs[thin][0])
            raise InputError(
                f"{key}: {solid.name} is thinner than a cell along {'xyz'[axis]}, first at "
                f"({place}), and the grid would let gas through; refine grid.cells or make "
                "it thicker"
            )


def _surface(
    keys: Sequence[str], solids: Sequence[Solid], grid: Grid, points: Tensor, axis: int,
    side: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Find where the line from the cells to their solid neighbours meets a surface."""
    h = side * grid.spacing[axis]
    best = torch.full_like(points[:, 0], torch.inf)
    owner = torch.zeros(len(points), dtype=torch.int64)
    normal = torch.zeros_like(points)
    wall = torch.zeros(len(points), 5, dtype=torch.float64)
    for number, (key, solid) in enumerate(zip(keys, solids, strict=True)):
        low, high = torch.zeros_like(best), torch.ones_like(best)
        hit = _inside(key, solid, _line(points, axis, h * high))
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            within = _inside(key, solid, _line(points, axis, h * middle))
            low, high = torch.where(within, low, middle), torch.where(within, middle, high)
        at = _line(points, axis, h * high)
        own = solid.shape.outward(at).to(points)
        nearer = hit & (high < best)
        best, owner = torch.where(nearer, high, best), owner.masked_fill(nearer, number)
        normal = torch.where(nearer[:, None], own, normal)
        wall = torch.where(nearer[:, None], _wall(key, solid, at, own, nearer), wall)
    # at an edge the nearest face may look away from the cell: then take the grid's
    straight = torch.zeros_like(normal)
    straight[:, axis] = -side
    away = normal[:, axis] * -side <= 1e-9
    normal = torch.where(away[:, None], straight, normal)
    return {
        "solid": owner,
        "distance": best,
        "normal": normal,
        "temperature": wall[:, 0],
        "velocity": wall[:, 1:4],
        "accommodation": wall[:, 4],
    }


def wall_values(key: str, wall: Wall, at: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return temperature ``[...]`` and velocity ``[..., 3]`` of a solid's wall at places.

    Raises:
        InputError: an expression of what the grid does not have.
    """

    def value(name: str, quantity: Any) -> Tensor:
        if isinstance(quantity, int | float):
            return torch.full_like(at[0], float(quantity))
        try:
            found = Expression(quantity, ("x", "y", "z"))(
                dict(zip("xyz", at, strict=False))
            )
        except ValueError as error:
            raise InputError(f"{key}.wall.{name}: {error}") from None
        return torch.as_tensor(found).expand_as(at[0])

    t = value("temperature", wall.temperature)
    u = [value(f"velocity.{d}", q) for d, q in enumerate(wall.velocity)]
    return t, torch.stack([*u, *(torch.zeros_like(t),) * 3][:3], -1)


def _wall(
    key: str, solid: Solid, at: tuple[Tensor, ...], normal: Tensor, own: Tensor
) -> Tensor:
    """Return temperature, velocity (3) and accommodation of a wall at its points."""
    wall = solid.wall
    t, velocity = wall_values(key, wall, at)
    through = (velocity[:, : normal.shape[1]] * normal).sum(-1).abs()[own]
    if len(through) and float(through.amax()) > 1e-6 * float(velocity.abs().amax()):
        raise InputError(
            f"{key}.wall.velocity: {wall.velocity} goes through the surface of "
            f"{solid.name} ({float(through.amax()):.3g} along its normal); a solid stands "
            "still, its surface may slide along itself, as ['-y', 'x'] does on a cylinder "
            "about the origin"
        )
    if bool(own.any()) and not bool(((t > 0) & t.isfinite())[own].all()):
        raise InputError(
            f"{key}.wall.temperature: {float(t[own].amin()):.4g}; must be positive"
        )
    share = torch.full_like(t, wall.accommodation)
    return torch.cat([t[:, None], velocity, share[:, None]], -1)


def loads(body: Body, seen: Tensor) -> dict[str, Tensor]:
    """Return force and heat of every solid by name, from ``solid_loads``.

    Args:
        body: the solids.
        seen: ``[batch, solids, 4]``.
    """
    dim = body.grid.dim
    wanted = [*COLUMNS[:dim], COLUMNS[3]]
    return {
        f"solid_{solid.name}_{name}": seen[:, number, COLUMNS.index(name)]
        for number, solid in enumerate(body.solids)
        for name in wanted
    }


def load_units(body: Body) -> dict[str, str]:
    """Return the units of :func:`loads`; a grid has unit depth where it has no axis."""
    names = loads(body, torch.zeros(1, body.count, len(COLUMNS)))
    length = ("", " L", " L^2")[body.grid.dim - 1]
    heat, force = "rho0 (R T0)^1.5" + length, "rho0 R T0" + length
    return {name: heat if name.endswith("heat") else force for name in names}
