"""Faces and reservoirs for simulated molecules: what the flight kernel reads."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...kernels import flight
from ...kernels import particles as kernels
from ..boundaries import (
    Inflow,
    Mixed,
    Open,
    Periodic,
    Piece,
    Sides,
    Symmetry,
    Wall,
    component,
    constant,
    end_of,
    members,
    uniform,
)
from ..faces import Face, moves
from ..grid import Grid

MOST = 4096
"""Parts of a face that are told apart."""
REACH = 6.0
"""Thermal speeds beyond which nothing comes in from a reservoir: 1e-9 of its molecules."""


@dataclass(frozen=True)
class Reservoirs:
    """What reservoirs are made of.

    Attributes:
        masses: ``[species]`` over the mean mass of the reference composition.
        fractions: of the molecules, in the reference composition.
        inflow: ``x_low`` and so on -> fractions there, where they differ.
    """

    masses: tuple[float, ...] = (1.0,)
    fractions: tuple[float, ...] = (1.0,)
    inflow: Mapping[str, tuple[float, ...]] | None = None

    def numbers(self, density: float, axis: int, end: int) -> list[float]:
        """Return the number density of every species for a density of mass."""
        key = f"{'xyz'[axis]}_{('low', 'high')[end]}"
        parts = (self.inflow or {}).get(key, self.fractions)
        mean = sum(x * m for x, m in zip(parts, self.masses, strict=True))
        return [density * x / mean for x in parts]


def faces_of(
    sides: Sequence[Sides], grid: Grid, time: float, more: int = 0
) -> tuple[Tensor, int]:
    """Return the rows of ``sides`` at a time, and the first free row after them.

    Args:
        sides: a pair for each axis.
        grid: cells.
        time: of expressions.
        more: rows to leave free at the end.

    Raises:
        InputError: a boundary that particles do not know.
    """
    ends = [
        (Face(grid, axis, end), side)
        for axis, pair in enumerate(sides)
        for end, side in enumerate((pair.low, pair.high))
    ]
    rows = torch.zeros(len(ends), flight.SIDE_COLUMNS, dtype=torch.float64)
    parts = [rows]
    for number, (face, side) in enumerate(ends):
        pieces = end_of(side, face).pieces
        rest = side.rest if isinstance(side, Mixed) else side
        rows[number] = _row(Piece(rest, face.name), face, number * MOST, time)[0]
        if len(pieces) > 1 or not uniform(rest):
            cells = rows[number].repeat(math.prod(face.shape), 1)
            for k, piece in enumerate(pieces):
                own = slice(None) if piece.cells is None else piece.cells
                cells[own] = _row(piece, face, number * MOST + k, time)[own]
            rows[number, flight.SIDE_CELLS] = sum(len(p) for p in parts)
            parts.append(cells)
    parts.append(torch.zeros(more, flight.SIDE_COLUMNS, dtype=torch.float64))
    return torch.cat(parts), sum(len(p) for p in parts[:-1])


def _row(piece: Piece, face: Face, owner: int, time: float) -> Tensor:
    """Return the rows of a boundary on all cells of a face, ``[cells, columns]``."""
    side = piece.side
    wall = piece.wall or Wall()
    match side:
        case Periodic():
            kind = flight.PERIODIC
        case Inflow() | Open():
            kind = flight.RESERVOIR
        case Wall() | Symmetry():
            kind = flight.SPECULAR if wall.accommodation == 0 else flight.DIFFUSE
        case _:
            raise InputError(
                f"{piece.key}: {type(side).__name__} is not known to particles"
            )
    values = [wall.temperature, *(component(wall.velocity, d) for d in range(3))]
    out = torch.zeros(math.prod(face.shape), flight.SIDE_COLUMNS, dtype=torch.float64)
    out[:, flight.SIDE_KIND] = kind
    for q, given in enumerate(values):
        found = torch.as_tensor(
            face.value(given, time, key=piece.key), dtype=torch.float64
        ).flatten()
        out[:, flight.SIDE_TEMPERATURE + q] = found
    out[:, flight.SIDE_ACCOMMODATION] = wall.accommodation
    out[:, flight.SIDE_OWNER], out[:, flight.SIDE_CELLS] = owner, -1
    return out


def moving(sides: Sequence[Sides]) -> bool:
    """Return whether a wall changes with time."""
    return any(
        moves(q)
        for pair in sides
        for end in (pair.low, pair.high)
        for _, side in members(end)
        if isinstance(side, Wall)
        for q in (side.temperature, *side.velocity)
    )


def layers_of(
    sides: Sequence[Sides], grid: Grid, reservoirs: Reservoirs, particles: float,
    time_step: float, shift: float,
) -> Tensor:  # fmt: skip
    """Return the layers before the faces, from which particles reach the box in a step.

    Where the face ends at another reservoir its layer goes on beyond the corner: what
    comes from there passes either of the two faces last.

    Args:
        sides: a pair for each axis.
        grid: cells.
        reservoirs: what they are made of.
        particles: in a unit of volume at density 1.
        time_step: of the flight.
        shift: largest one of the whole gas along x.

    Returns:
        ``[layers, 19]``.
    """
    rows: list[list[float]] = []
    begun = 0
    for axis, pair in enumerate(sides):
        for end, side in enumerate((pair.low, pair.high)):
            pieces = end_of(side, Face(grid, axis, end)).pieces
            for k, piece in enumerate(pieces):
                if isinstance(piece.side, Inflow):
                    owner = (2 * axis + end) * MOST + k
                    made = _layers(
                        piece.side, axis, end, owner, sides, grid, reservoirs, particles,
                        time_step, shift, begun,
                    )  # fmt: skip
                    rows += made
                    begun = int(made[-1][kernels.LAYER_LAST]) + 1
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, kernels.LAYER_COLUMNS)


def _layers(
    side: Inflow, axis: int, end: int, owner: int, sides: Sequence[Sides], grid: Grid,
    reservoirs: Reservoirs, particles: float, time_step: float, shift: float, begun: int,
) -> list[list[float]]:  # fmt: skip
    """Return the layers of one reservoir, one for every species that it has."""
    warm = constant(side.temperature)
    u = [constant(component(side.velocity, d)) for d in range(3)]
    numbers = reservoirs.numbers(constant(side.density), axis, end)
    rows = []
    for species, (number, mass) in enumerate(zip(numbers, reservoirs.masses, strict=True)):
        if number == 0.0:
            continue
        reach = [(abs(s) + REACH * math.sqrt(warm / mass)) * time_step for s in u]
        lower, upper = list(grid.lower), list(grid.upper)
        deep = reach[axis] + shift
        face = (grid.lower, grid.upper)[end][axis]
        low, high = (face - deep, face) if end == 0 else (face, face + deep)
        lower[axis], upper[axis] = low, high
        for d in range(grid.dim):
            if d != axis and not sides[d].periodic:
                lower[d] -= reach[d] * _feeds(sides[d].low)
                upper[d] += reach[d] * _feeds(sides[d].high)
        volume = deep
        for d in range(grid.dim):
            volume *= upper[d] - lower[d] if d != axis else 1.0
        amount = particles * number * volume
        last = begun + math.floor(amount)
        share = amount - math.floor(amount)
        missing = [0.0] * (3 - grid.dim)
        rows.append(
            [
                axis, low, high, share, begun, last, warm / mass, *u, species, owner,
                2 * axis + end, *lower, *missing, *upper, *missing,
            ]
        )  # fmt: skip
        begun = last + 1
    return rows


ONE_GAS = Reservoirs()
"""Of a single gas."""


def _feeds(side: Any) -> bool:
    """Whether gas comes in all along an end."""
    return isinstance(side.rest if isinstance(side, Mixed) else side, Inflow)


__all__ = ["ONE_GAS", "Reservoirs", "faces_of", "layers_of", "moving"]
