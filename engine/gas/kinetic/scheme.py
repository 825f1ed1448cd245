"""Layout of a discretised distribution and its ghost cells.

Rows of ``f [batch, parts, rows, nodes]``: all cells in C order, then for each axis that is
not periodic and each of its ends two layers of ghost cells. Ghost rows are a pure function
of the cells and are filled before each stage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..boundaries import Boundary, Inflow, Sides, Wall, beyond, component, wall_of
from ..grid import Grid
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


def harmonic(a: Tensor, b: Tensor) -> Tensor:
    """Van Leer's slope, as in the kernel."""
    p = a * b
    positive = p > 0
    return torch.where(positive, 2 * p / torch.where(positive, a + b, 1), 0)


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
        sides: Sequence[Sides],
        velocities: Velocities,
        dimension: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._grid = grid
        self._fills = []
        row = grid.cells
        for axis, pair in enumerate(sides):
            if pair.periodic:
                continue
            across = grid.cells // grid.shape[axis]
            for end, side in enumerate((pair.low, pair.high)):
                first = row + 2 * across * end
                self._fills.append(
                    (
                        axis,
                        end,
                        first,
                        across,
                        _fill_of(side, axis, end, velocities, dimension, dtype, device),
                    )
                )
            row += 4 * across

    def fill(self, f: Tensor) -> None:
        """Write the ghost rows of ``f [batch, parts, rows, nodes]`` in place."""
        if not self._fills:
            return
        shape = self._grid.shape
        inside = f[:, :, : self._grid.cells].unflatten(2, shape)
        for axis, end, first, across, rule in self._fills:
            n = shape[axis]
            order = (0, 1) if end == 0 else (n - 1, n - 2)
            edge, next_ = (_flat(inside.select(2 + axis, i)) for i in order)
            ghost = f[:, :, first : first + 2 * across].unflatten(2, (2, across))
            # the layer next to the box is the last of the low end, the first of the high
            layers = (1, 0) if end == 0 else (0, 1)
            near, far = rule(edge, next_)
            ghost[:, :, layers[0]] = near
            ghost[:, :, layers[1]] = far


def _flat(face: Tensor) -> Tensor:
    return face.reshape(*face.shape[:2], -1, face.shape[-1])


def _fill_of(
    side: Boundary,
    axis: int,
    end: int,
    velocities: Velocities,
    dimension: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    if wall := wall_of(side):
        return _WallRule(wall, axis, end, velocities, dimension, dtype, device)
    if isinstance(side, Inflow):  # a constant, made once
        gas = side.density, side.velocity, side.temperature
        f = _reservoir(*gas, velocities, dimension).to(device, dtype)[:, None, :]
        return lambda edge, next_: (f, f)
    model = _Ghosts(velocities, dimension)

    def rule(edge: Tensor, next_: Tensor) -> tuple[Tensor, Tensor]:
        ghost = beyond(side, model, edge)
        return ghost, ghost

    return rule


@dataclass(frozen=True)
class _Ghosts:
    """What boundaries ask for; cells are ``[batch, parts, cells, nodes]``."""

    velocities: Velocities
    dimension: int

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


def _reservoir(
    density: float,
    velocity: tuple[float, ...],
    temperature: float,
    velocities: Velocities,
    dimension: int,
) -> Tensor:
    drift = torch.tensor(
        [component(velocity, d) for d in range(velocities.axes)], dtype=torch.float64
    )
    one = torch.tensor(1.0, dtype=torch.float64)
    return maxwellian(velocities, density * one, drift, temperature * one, dimension)


class _WallRule:
    def __init__(
        self,
        wall: Wall,
        axis: int,
        end: int,
        velocities: Velocities,
        dimension: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        normal = velocities.nodes[:, axis] * (1.0 if end == 0 else -1.0)
        emitted = _reservoir(1.0, wall.velocity, wall.temperature, velocities, dimension)
        entering = normal > 0
        leaving_flux = torch.where(normal < 0, -normal, 0.0)
        entering_flux = float((torch.where(entering, normal, 0.0) * emitted[0]).sum())
        self.alpha = wall.accommodation
        self.emitted = (emitted / entering_flux).to(device, dtype)[:, None, :]
        self.entering = entering.to(device)
        self.flux = leaving_flux.to(device, dtype)
        self.mirror = velocities.mirrored(axis).to(device)

    def __call__(self, edge: Tensor, next_: Tensor) -> tuple[Tensor, Tensor]:
        jump = edge - next_
        beyond = edge + jump
        leaving = edge + 0.5 * harmonic(jump, beyond - edge)
        rate = (leaving[:, :1] * self.flux).sum(-1, keepdim=True)
        entering = leaving[..., self.mirror]
        if self.alpha > 0:
            entering = self.alpha * rate * self.emitted + (1 - self.alpha) * entering
        near = torch.where(self.entering, entering, beyond)
        return near, near
