"""Layout of a discretised distribution and its ghost cells.

Rows of ``f [batch, parts, rows, nodes]``: all cells in C order, then for each axis that is
not periodic and each of its ends two layers of ghost cells. Ghost rows are a pure function
of the cells and are filled before each stage.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...kernels.types import Views
from ..boundaries import (
    End,
    Inflow,
    Piece,
    Sides,
    Symmetry,
    beyond,
    component,
    uniform,
)
from ..faces import AtFace
from ..grid import Grid
from ..scheme.finite_volume import van_leer
from .equilibrium import maxwellian
from .velocities import Velocities


@dataclass(frozen=True)
class Layout:
    """Indices and sizes that the kernel needs; built once per world.

    Attributes:
        parts: 1, or 2 for Chu's reduced pair.
        space: space dimensions.
        axes: resolved velocity axes.
        law: which collision model, a code of ``kernels.transport``.
        cells: number of cells.
        rows: cells and ghost cells.
        inner: nodes along the last velocity axis.
        outer: product of the nodes along the other axes.
        middle: nodes along the axis before the last (for two axes: ``outer``).
        neighbours: ``[cells, 4 * space]`` int32 rows at -2, -1, +1, +2 along each axis.
        lanes: velocities that the kernel handles at once.
        mixed: whether a group of them may have both signs.
        nodes: ``[6, n]`` node values, then ``|v| / dx``, per axis; n divisible by 16.
        views: of the arrays that every stage needs.
    """

    parts: int
    space: int
    axes: int
    law: int
    cells: int
    rows: int
    inner: int
    outer: int
    middle: int
    lanes: int
    mixed: bool
    neighbours: Tensor
    nodes: Tensor
    views: Views = field(default_factory=Views, repr=False, compare=False)


def layout(
    grid: Grid,
    sides: Sequence[Sides],
    velocities: Velocities,
    parts: int,
    law: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Layout:
    """Number the rows and tabulate neighbours and nodes."""
    neighbours, rows = _neighbours(grid, sides)
    nodes = torch.zeros(6, -(-max(velocities.shape) // 16) * 16, dtype=torch.float64)
    for d in range(velocities.axes):
        axis = velocities.axis(d)
        nodes[d, : len(axis)] = axis
        if d < grid.dim:
            nodes[3 + d, : len(axis)] = axis.abs() / grid.spacing[d]
    shape = velocities.shape
    outer = velocities.count // shape[-1]
    middle = shape[-2] if velocities.axes > 1 else 1
    lanes = _lanes(velocities, dtype)
    low = int((velocities.axis(velocities.axes - 1) < 0).sum())
    return Layout(
        parts,
        grid.dim,
        velocities.axes,
        law,
        grid.cells,
        rows,
        shape[-1],
        outer,
        middle,
        lanes,
        low % lanes > 0,
        neighbours.to(device),
        nodes.to(device, dtype),
    )


def _lanes(velocities: Velocities, dtype: torch.dtype) -> int:
    """Widest vector, of at most 64 bytes, that divides the last axis."""
    widths = (8, 4, 2, 1) if dtype == torch.float64 else (16, 8, 4, 2, 1)
    return next(n for n in widths if velocities.shape[-1] % n == 0)


def _neighbours(grid: Grid, sides: Sequence[Sides]) -> tuple[Tensor, int]:
    cells = torch.arange(grid.cells).reshape(grid.shape)
    rows, table = grid.cells, []
    for d, pair in enumerate(sides):
        if pair.periodic:
            last = cells.narrow(d, grid.shape[d] - 2, 2)
            padded = torch.cat([last, cells, cells.narrow(d, 0, 2)], d)
        else:
            across = grid.cells // grid.shape[d]
            layers = torch.arange(4 * across).reshape(4, *_across(grid, d))
            ghosts = rows + layers.movedim(0, d)
            rows += 4 * across
            padded = torch.cat([ghosts.narrow(d, 0, 2), cells, ghosts.narrow(d, 2, 2)], d)
        n = grid.shape[d]
        table += [padded.narrow(d, start, n).reshape(-1) for start in (0, 1, 3, 4)]
    return torch.stack(table, -1).to(torch.int32).contiguous(), rows


def _across(grid: Grid, axis: int) -> tuple[int, ...]:
    return tuple(n for d, n in enumerate(grid.shape) if d != axis)


Rule = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""From the cells at a face, those next to them and the time to the ghost cells, near and
far, ``[batch, parts, cells of the face, nodes]``."""


@dataclass(frozen=True)
class _Fill:
    """Where the ghost cells of a piece are, and what fills them."""

    axis: int
    end: int
    first: int
    across: int
    cells: Tensor | None
    rule: Rule


class Ghosts:
    """Fills the ghost rows of ``f`` from the boundaries.

    At a wall, what leaves is the cell's reconstruction extrapolated to the wall; what
    enters is ``alpha rho_w M_w + (1 - alpha)`` of the mirrored leaving part, with the
    density ``rho_w`` from zero net mass flux in the grid's own quadrature, so no mass is
    lost.
    """

    def __init__(
        self,
        grid: Grid,
        ends: Sequence[tuple[End, End] | None],
        velocities: Velocities,
        dimension: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._grid, self._velocities = grid, velocities
        self._fills: list[_Fill] = []
        row, nodes = grid.cells, _Nodes(velocities, dimension, dtype, device)
        for axis, pair in enumerate(ends):
            if pair is None:
                continue
            across = grid.cells // grid.shape[axis]
            for end in pair:
                first = row + 2 * across * end.face.end
                for piece in end.pieces:
                    cells = piece.cells
                    self._fills.append(
                        _Fill(
                            axis, end.face.end, first, across,
                            None if cells is None else cells.to(device),
                            _rule_of(end, piece, nodes),
                        )
                    )  # fmt: skip
            row += 4 * across

    def fill(self, f: Tensor, time: float = 0.0) -> None:
        """Write the ghost rows of ``f [batch, parts, rows, nodes]`` in place."""
        if not self._fills:
            return
        for fill in self._fills:
            edge, next_ = self._beside(f, fill)
            rows = f[:, :, fill.first : fill.first + 2 * fill.across]
            ghost = rows.unflatten(2, (2, fill.across))
            # the layer next to the box is the last of the low end, the first of the high
            layers = (1, 0) if fill.end == 0 else (0, 1)
            for layer, values in zip(layers, fill.rule(edge, next_, time), strict=True):
                if fill.cells is None:
                    ghost[:, :, layer] = values
                else:
                    ghost[:, :, layer, fill.cells] = values

    def _beside(self, f: Tensor, fill: _Fill) -> tuple[Tensor, Tensor]:
        """Return the cells at a piece of a face, and those behind them."""
        inside = f[:, :, : self._grid.cells].unflatten(2, self._grid.shape)
        n = self._grid.shape[fill.axis]
        order = (0, 1) if fill.end == 0 else (n - 1, n - 2)
        near, far = (_flat(inside.select(2 + fill.axis, i)) for i in order)
        at = slice(None) if fill.cells is None else fill.cells
        return near[:, :, at], far[:, :, at]

    def passing(
        self, f: Tensor, time: float, solid: Tensor | None
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Yield f at the pieces of the faces, as the transport has it.

        Args:
            f: the distribution.
            time: of its ends.
            solid: ``[*grid.shape]`` cells through whose faces nothing passes.

        Yields:
            axis, end, ``[batch, parts, cells of the piece, nodes]``.
        """
        for fill in self._fills:
            edge, next_ = self._beside(f, fill)
            near, far = fill.rule(edge, next_, time)
            leaving = edge + 0.5 * van_leer(edge - next_, near - edge)
            entering = near + 0.5 * van_leer(near - far, edge - near)
            speed = self._velocities.like(f)[:, fill.axis] * (2 * fill.end - 1)
            face = torch.where(speed > 0, leaving, entering)
            if solid is not None:
                shut = solid.select(fill.axis, -fill.end).reshape(-1)
                shut = shut if fill.cells is None else shut[fill.cells]
                face[:, :, shut] = 0.0
            yield fill.axis, fill.end, face


def _flat(face: Tensor) -> Tensor:
    return face.reshape(*face.shape[:2], -1, face.shape[-1])


@dataclass(frozen=True)
class _Nodes:
    """What boundaries ask for; cells are ``[batch, parts, cells, nodes]``.

    Attributes:
        velocities: the nodes.
        dimension: D.
        dtype: of the distribution.
        device: of the distribution.
    """

    velocities: Velocities
    dimension: int
    dtype: torch.dtype
    device: torch.device

    def gas_at(self, edge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v, weight = self.velocities.like(edge), self.velocities.weight
        g = edge[:, 0]
        rho = weight * g.sum(-1)
        u = weight * (g @ v) / rho[..., None]
        trace = weight * (edge.sum(1) - g).sum(-1) + weight * (g @ v.square().sum(-1))
        return rho, u, (trace / rho - u.square().sum(-1)) / self.dimension

    def reservoir(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        V = self.velocities.axes
        u = torch.nn.functional.pad(velocity, (0, max(0, V - velocity.shape[-1])))[..., :V]
        f = maxwellian(self.velocities, density, u, temperature, self.dimension)
        return f.movedim(-2, 1)

    def sound_speed(self, density: Tensor, temperature: Tensor) -> Tensor:
        return ((self.dimension + 2) / self.dimension * temperature).sqrt()

    def emitted(self, end: End, piece: Piece, time: float) -> Tensor:
        """Return the wall's Maxwellian of unit density, ``[parts, cells or 1, nodes]``."""
        wall = end.wall_at(piece, time, torch.empty(0, dtype=torch.float64)).flat()
        cells, V = piece.cells, self.velocities.axes
        values = [wall.temperature, *(component(wall.velocity, d) for d in range(V))]
        rows = [torch.as_tensor(v, dtype=torch.float64).reshape(-1) for v in values]
        rows = [r[cells] if cells is not None and len(r) > 1 else r for r in rows]
        t, *u = torch.broadcast_tensors(*rows)
        one, drift = torch.ones_like(t), torch.stack(u, -1)
        return maxwellian(self.velocities, one, drift, t, self.dimension).movedim(-2, 0)


def _rule_of(end: End, piece: Piece, nodes: _Nodes) -> Rule:
    if isinstance(piece.side, Symmetry):
        mirror = nodes.velocities.mirrored(end.face.axis).to(nodes.device)
        return lambda edge, next_, time: (edge[..., mirror], next_[..., mirror])
    if piece.wall is not None:
        return _WallRule(end, piece, nodes)
    if isinstance(piece.side, Inflow) and uniform(piece.side):  # a constant, made once
        at = AtFace(nodes, end.face, 0.0)
        s, one = piece.side, torch.ones(1, 1, dtype=torch.float64)
        state = at.field(s.density, one), at.vector(s.velocity, one)
        f = nodes.reservoir(*state, at.field(s.temperature, one))
        f = f.to(nodes.device, nodes.dtype)
        return lambda edge, next_, time: (f, f)

    cells = piece.cells

    def rule(edge: Tensor, next_: Tensor, time: float) -> tuple[Tensor, Tensor]:
        ghost = beyond(piece, AtFace(nodes, end.face, time, cells), edge)
        return ghost, ghost

    return rule


class _WallRule:
    def __init__(self, end: End, piece: Piece, nodes: _Nodes) -> None:
        assert piece.wall is not None
        wall, axis = piece.wall, end.face.axis
        self._end, self._piece, self._nodes = end, piece, nodes
        normal = nodes.velocities.nodes[:, axis] * end.face.inward
        entering = normal > 0
        self._inward = torch.where(entering, normal, 0.0)
        leaving_flux = torch.where(normal < 0, -normal, 0.0)
        self.alpha = wall.accommodation
        self.emitted = self._emitted(0.0)
        self.entering = entering.to(nodes.device)
        self.flux = leaving_flux.to(nodes.device, nodes.dtype)
        self.mirror = nodes.velocities.mirrored(axis).to(nodes.device)

    def _emitted(self, time: float) -> Tensor:
        """What the wall emits at unit mass flux, ``[parts, cells or 1, nodes]``."""
        f = self._nodes.emitted(self._end, self._piece, time)
        flux = (self._inward * f[0]).sum(-1)
        return (f / flux[None, :, None]).to(self._nodes.device, self._nodes.dtype)

    def __call__(self, edge: Tensor, next_: Tensor, time: float) -> tuple[Tensor, Tensor]:
        jump = edge - next_
        beyond = edge + jump
        leaving = edge + 0.5 * van_leer(jump, beyond - edge)
        rate = (leaving[:, :1] * self.flux).sum(-1, keepdim=True)
        entering = leaving[..., self.mirror]
        if self.alpha > 0:
            wall = self._piece.wall
            moving = wall is not None and wall.moves
            emitted = self._emitted(time) if moving else self.emitted
            entering = self.alpha * rate * emitted + (1 - self.alpha) * entering
        near = torch.where(self.entering, entering, beyond)
        return near, near
