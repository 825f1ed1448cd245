"""What a run records between its frames: at a point, along a line, in total, as a flux.

A probe is a part with four methods: ``check(medium, key)`` refuses a place where there is
no gas, ``measure(seen, medium)`` returns its tensors ``[batch, ...]`` from what a world
observes, ``axes(shape)`` names their dimensions and ``coordinates()`` gives those that are
not the batch's. Values between cell centres are linear in every coordinate, at the ends of
the box too: second order. The flux through a plane is that of the values there, not what
the scheme passed on between two cells.

The numbers in cells of solids are no gas: a point there is refused, a line has NaN, totals
and fluxes leave them out, and beside a surface the values of the gas's own cells are taken
(first order).

===================  ===================================================================
``mass_flux``        integral of rho u_n over the plane
``momentum_flux``    of rho u u_n + p n + sigma . n
``energy_flux``      of u_n (rho |u|^2 / 2 + p gamma / (gamma - 1)) + (sigma . u + q)_n
===================  ===================================================================
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le, Len
from pydantic import StringConstraints
from torch import Tensor

from ...models.parts import Family, part
from ..errors import InputError
from ..schema.base import choice
from .derived import DERIVED, Medium, derive
from .grid import Grid
from .shapes import SHAPES, Vector

PROBES = Family(
    "probe",
    __name__.rpartition(".")[0],
    {
        "point": "probes:PointProbe",
        "line": "probes:LineProbe",
        "total": "probes:TotalProbe",
        "flux": "probes:FluxProbe",
    },
)

OBSERVED = ("density", "velocity", "temperature", "stress", "heat_flux", "entropy")
Seen = Mapping[str, Tensor]
Quantities = Annotated[tuple[str, ...], Len(1, 32)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")]
UNITS = {
    "mass_flux": "rho0 sqrt(R T0) L^(d-1)", "momentum_flux": "rho0 R T0 L^(d-1)",
    "energy_flux": "rho0 (R T0)^1.5 L^(d-1)", "r": "L",
}  # fmt: skip


def quantity(name: str, seen: Seen, medium: Medium) -> Tensor:
    """Return a quantity that is observed, or that follows from what is."""
    return seen[name] if name in OBSERVED else derive(name, seen, medium)


def check_quantities(names: Sequence[str], key: str, known: Sequence[str]) -> None:
    """Refuse names that are no quantities, and names that stand twice.

    Raises:
        InputError: lists what is known.
    """
    for number, name in enumerate(names):
        if name not in known:
            raise InputError(
                f"{key}.{number}: {name!r} is unknown; allowed: {', '.join(known)}"
            )
        if name in names[:number]:
            raise InputError(f"{key}.{number}: {name} stands twice")


def in_gas(places: Tensor, medium: Medium) -> Tensor:
    """Return whether the cells that hold ``places [points, dim]`` are gas."""
    grid = medium.grid
    lower, width = torch.tensor([grid.lower, grid.spacing], dtype=torch.float64)
    last = torch.tensor(grid.shape) - 1
    cell = ((places - lower) / width).floor().long().clamp(torch.zeros_like(last), last)
    return medium.free[cell.unbind(-1)]


def sampled(field: Tensor, places: Tensor, medium: Medium) -> Tensor:
    """Return a field between the cell centres, linear in every coordinate.

    Args:
        field: ``[batch, *grid.shape, ...]``.
        places: ``[points, dim]``.
        medium: its grid and which of its cells are gas.

    Returns:
        ``[batch, points, ...]``; NaN in solids.
    """
    grid = medium.grid
    lower, width = torch.tensor([grid.lower, grid.spacing], dtype=torch.float64)
    at = (places - lower) / width - 0.5
    last = torch.tensor(grid.shape) - 2
    cell = at.floor().long().clamp(min=torch.zeros_like(last), max=last)
    sides = torch.tensor(list(product((0, 1), repeat=grid.dim)))[:, None]
    corners = (cell + sides).unbind(-1)
    free = medium.free[corners]
    share = at - cell
    share = torch.where(free.all(0)[:, None], share, share.clamp(0, 1))
    weight = torch.where(sides == 1, share, 1 - share).prod(-1) * free
    weight = weight / weight.sum(0)
    weight[:, ~in_gas(places, medium)] = math.nan
    values = field[(slice(None), *corners)]
    values = values.where(free.view(1, *free.shape, *(1,) * (values.dim() - 3)), 0.0)
    return (values * weight.view(1, *weight.shape, *(1,) * (values.dim() - 3))).sum(1)


def _check_place(place: Sequence[float], grid: Grid, key: str) -> None:
    if len(place) != grid.dim:
        raise InputError(f"{key}: {len(place)} components on a {grid.dim}D grid")
    for x, low, high in zip(place, grid.lower, grid.upper, strict=True):
        if not low <= x <= high:
            raise InputError(
                f"{key}: {place} is outside of the box, {grid.lower} to {grid.upper}"
            )


class _Placeless:
    """A probe whose results have no coordinate but the batch's and their components."""

    def axes(self, shape: Sequence[int]) -> tuple[str, ...]:
        """Name the dimensions."""
        return ("system", "component", "component_2")[: len(shape)]

    def coordinates(self) -> dict[str, Tensor]:
        """Return none."""
        return {}


@part
class PointProbe(_Placeless):
    """Quantities at a point over time."""

    name: Name
    """Of the group ``probes/NAME`` in the store."""
    at: Vector
    """Where."""
    quantities: Quantities = ("density", "velocity", "temperature")
    """Observed fields or derived ones, such as pressure or mach."""
    kind: Literal["point"] = "point"

    def check(self, medium: Medium, key: str) -> None:
        """Refuse a place outside of the box or in a solid, and unknown quantities."""
        _check_place(self.at, medium.grid, f"{key}.at")
        if not bool(in_gas(self._place(), medium).all()):
            raise InputError(f"{key}.at: {self.at} is in a cell of a solid")
        check_quantities(self.quantities, f"{key}.quantities", (*OBSERVED, *DERIVED))

    def measure(self, seen: Seen, medium: Medium) -> dict[str, Tensor]:
        """Return the quantities, ``[batch, components?]``."""
        return {
            name: sampled(quantity(name, seen, medium), self._place(), medium)[:, 0]
            for name in self.quantities
        }

    def _place(self) -> Tensor:
        return torch.tensor([self.at], dtype=torch.float64)


@part
class LineProbe:
    """Quantities along a straight line over time."""

    name: Name
    """Of the group ``probes/NAME`` in the store."""
    start: Vector
    """One end."""
    end: Vector
    """The other end."""
    points: Annotated[int, Ge(2), Le(4096)] = 101
    """Places, evenly from end to end."""
    quantities: Quantities = ("density", "velocity", "temperature")
    """Observed fields or derived ones, such as pressure or mach."""
    kind: Literal["line"] = "line"

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ValueError("start and end are the same; use a probe of kind = point")

    def check(self, medium: Medium, key: str) -> None:
        """Refuse places outside of the box, a line without gas, and unknown quantities."""
        _check_place(self.start, medium.grid, f"{key}.start")
        _check_place(self.end, medium.grid, f"{key}.end")
        if not bool(in_gas(self._places(), medium).any()):
            raise InputError(f"{key}: every point of the line is in a cell of a solid")
        check_quantities(self.quantities, f"{key}.quantities", (*OBSERVED, *DERIVED))

    def measure(self, seen: Seen, medium: Medium) -> dict[str, Tensor]:
        """Return the quantities, ``[batch, points, components?]``; NaN in solids."""
        return {
            name: sampled(quantity(name, seen, medium), self._places(), medium)
            for name in self.quantities
        }

    def _places(self) -> Tensor:
        share = torch.linspace(0, 1, self.points, dtype=torch.float64)[:, None]
        start, end = (torch.tensor(p, dtype=torch.float64) for p in (self.start, self.end))
        return start + share * (end - start)

    def axes(self, shape: Sequence[int]) -> tuple[str, ...]:
        """Name the dimensions; ``r`` is the distance from the start."""
        return ("system", "r", "component", "component_2")[: len(shape)]

    def coordinates(self) -> dict[str, Tensor]:
        """Return the distance from the start."""
        return {
            "r": torch.linspace(
                0, math.dist(self.start, self.end), self.points, dtype=torch.float64
            )
        }


@part
class TotalProbe(_Placeless):
    """Integrals of quantities over the box or a region, over time."""

    name: Name
    """Of the group ``probes/NAME`` in the store."""
    region: choice(SHAPES) | None = None  # type: ignore[valid-type]
    """Cells whose centre is inside; without it the whole box."""
    quantities: Quantities = ("density", "total_energy")
    """Observed fields or derived ones; the integral of density is the mass."""
    kind: Literal["total"] = "total"

    def check(self, medium: Medium, key: str) -> None:
        """Refuse a region without a cell of gas, and unknown quantities."""
        check_quantities(self.quantities, f"{key}.quantities", (*OBSERVED, *DERIVED))
        try:
            inside = self._inside(medium)
        except ValueError as error:
            raise InputError(f"{key}.region: {error}") from None
        if not bool(inside.any()):
            raise InputError(f"{key}.region: no centre of a cell of gas is inside")

    def _inside(self, medium: Medium) -> Tensor:
        if self.region is None:
            return medium.free
        return self.region.inside(medium.grid.points()) & medium.free

    def measure(self, seen: Seen, medium: Medium) -> dict[str, Tensor]:
        """Return the integrals, ``[batch, components?]``."""
        inside = self._inside(medium)
        return {
            name: quantity(name, seen, medium)[:, inside].double().sum(1)
            * medium.grid.volume
            for name in self.quantities
        }

    def axes(self, shape: Sequence[int]) -> tuple[str, ...]:
        """Name the dimensions."""
        return ("system", "component", "component_2")[: len(shape)]

    def coordinates(self) -> dict[str, Tensor]:
        """Return none."""
        return {}


@part
class FluxProbe(_Placeless):
    """Mass, momentum and energy that pass a plane across an axis, over time."""

    name: Name
    """Of the group ``probes/NAME`` in the store."""
    axis: Literal["x", "y", "z"]
    """Across the plane; fluxes are positive along it."""
    at: float
    """Where the plane crosses the axis. At an end of the box kinetic models tell what
    passes the wall or the opening; elsewhere, and for other models, it is interpolated
    between cells."""
    kind: Literal["flux"] = "flux"

    def check(self, medium: Medium, key: str) -> None:
        """Refuse a plane outside of the box, or one that passes through solids alone."""
        axis, grid = "xyz".index(self.axis), medium.grid
        if axis >= grid.dim:
            raise InputError(f"{key}.axis: {self.axis} on a {grid.dim}D grid")
        if not grid.lower[axis] <= self.at <= grid.upper[axis]:
            raise InputError(
                f"{key}.at: {self.at:g} is outside of the box, {grid.lower[axis]:g} to "
                f"{grid.upper[axis]:g} along {self.axis}"
            )
        if not bool(self._weights(medium)[2].any()):
            raise InputError(f"{key}.at: {self.at:g}: the whole plane is in solids")

    def measure(self, seen: Seen, medium: Medium) -> dict[str, Tensor]:
        """Return the fluxes, ``[batch]``; that of momentum ``[batch, components]``."""
        n, grid = "xyz".index(self.axis), medium.grid
        place = (self.at - grid.lower[n]) / (grid.upper[n] - grid.lower[n])
        at_end = math.isclose(place, round(place), abs_tol=1e-9)
        if at_end and not medium.periodic[n] and "end_fluxes" in seen:
            there = seen["end_fluxes"].double()[:, n, round(place)]
            names = "mass_flux", "momentum_flux", "energy_flux"
            return dict(
                zip(names, (there[:, 0], there[:, 1:-1], there[:, -1]), strict=True)
            )
        rho, u, t = (seen[name].double() for name in ("density", "velocity", "temperature"))
        p, normal = rho * t, u[..., n]
        momentum = rho[..., None] * u * normal[..., None]
        momentum[..., n] += p
        energy = 0.5 * rho * u.square().sum(-1) + p * medium.gamma / (medium.gamma - 1)
        energy = energy * normal
        if "stress" in seen:
            sigma = seen["stress"].double()[..., n, : u.shape[-1]]
            momentum = momentum + sigma
            energy = energy + (sigma * u).sum(-1) + seen["heat_flux"].double()[..., n]
        cell, weights, _ = self._weights(medium)

        def through(flux: Tensor) -> Tensor:
            there = torch.zeros((), dtype=torch.float64)
            for k, weight in enumerate(weights):
                one = flux.select(1 + n, cell + k)
                shaped = weight.view(1, *weight.shape, *(1,) * (one.dim() - grid.dim))
                there = there + (one * shaped).where(shaped != 0, 0.0)
            for _ in range(grid.dim - 1):
                there = there.sum(1)
            return there * (grid.volume / grid.spacing[n])

        fluxes = {"mass_flux": rho * normal, "momentum_flux": momentum}
        return {k: through(v) for k, v in (fluxes | {"energy_flux": energy}).items()}

    def _weights(self, medium: Medium) -> tuple[int, tuple[Tensor, Tensor], Tensor]:
        """Return the cell below the plane, the weights of it and the next, where gas is."""
        n, grid = "xyz".index(self.axis), medium.grid
        at = (self.at - grid.lower[n]) / grid.spacing[n] - 0.5
        cell = min(max(math.floor(at), 0), grid.shape[n] - 2)
        here = min(max(math.floor(at + 0.5), 0), grid.shape[n] - 1)
        low, high = (medium.free.select(n, cell + k) for k in (0, 1))
        gas, whole = medium.free.select(n, here), (low & high).double()
        share, alone = at - cell, gas.double() * (1.0 - whole)
        first = float(here == cell)  # beside a solid the cell of the plane counts alone
        below = whole * (1.0 - share) + alone * first
        above = whole * share + alone * (1.0 - first)
        return cell, (below, above), gas


__all__ = [
    "OBSERVED", "PROBES", "UNITS", "FluxProbe", "LineProbe", "PointProbe", "TotalProbe",
    "check_quantities", "in_gas", "quantity", "sampled",
]  # fmt: skip
