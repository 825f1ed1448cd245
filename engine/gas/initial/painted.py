"""Any fields: expressions of the coordinates, with regions painted over a background."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le, Len
from torch import Tensor

from ....models.parts import part
from ...errors import InputError
from ...expressions import Expression
from ...schema.base import choice
from ..grid import Grid
from ..material import Gas
from ..shapes import SHAPES
from .base import Start

Quantity = float | str
"""A number or an expression of x, y, z; in Python also a function of the coordinates."""

Points = tuple[Tensor, ...]


def check_texts(**values: object) -> None:
    """Refuse texts that are no expressions.

    Raises:
        ValueError: naming the key and what is wrong.
    """
    for key, value in values.items():
        if isinstance(value, str):
            try:
                Expression(value)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None


def evaluate(key: str, value: Any, points: Points, system: str = "initial") -> Tensor:
    """Return a quantity at points, of their shape, f64.

    Raises:
        InputError: it uses a coordinate that the grid does not have, or a function gives
            another shape.
    """
    shape = points[0].shape
    if isinstance(value, str):
        try:
            return Expression(value)(dict(zip("xyz", points, strict=False)))
        except ValueError as error:
            raise InputError(f"{system}.{key}: {error}") from None
    found = torch.as_tensor(value(*points) if callable(value) else value).double()
    try:
        return found.expand(shape)
    except RuntimeError:
        raise InputError(
            f"{system}.{key}: shape {tuple(found.shape)} for points of shape {tuple(shape)}"
        ) from None


@part
class Region:
    """Part of space with values of its own; what is not given is the background's."""

    shape: choice(SHAPES)  # type: ignore[valid-type]
    """Where."""
    density: Quantity | None = None
    """Reference densities."""
    velocity: Annotated[tuple[Quantity, ...], Len(1, 3)] | None = None
    """Unit sqrt(R T0); missing components are 0."""
    temperature: Quantity | None = None
    """Reference temperatures; this or the pressure."""
    pressure: Quantity | None = None
    """Unit density times temperature."""

    def __post_init__(self) -> None:
        _check_values(self)
        if self.temperature is not None and self.pressure is not None:
            raise ValueError("give temperature or pressure, not both")
        given = (self.density, self.velocity, self.temperature, self.pressure)
        if all(value is None for value in given):
            raise ValueError("a region needs a density, velocity, temperature or pressure")

    @property
    def gives(self) -> tuple[str, ...]:
        """What it sets of density, velocity and heat (temperature or pressure)."""
        heat = self.pressure if self.temperature is None else self.temperature
        given = {"density": self.density, "velocity": self.velocity, "heat": heat}
        return tuple(name for name, value in given.items() if value is not None)


@part
class Fields:
    """Density, velocity and temperature or pressure as expressions of x, y and z.

    Cells hold averages of density, momentum and energy over Gauss points. A region that
    changes the density and neither temperature nor pressure keeps what the background
    gives: its pressure where that gives a pressure, its temperature otherwise.
    """

    density: Quantity
    """Reference densities: a number or an expression such as ``1 + 0.2*sin(2*pi*x)``."""
    velocity: Annotated[tuple[Quantity, ...], Len(1, 3)] = (0.0,)
    """Unit sqrt(R T0); missing components are 0."""
    temperature: Quantity | None = None
    """Reference temperatures; give this or the pressure."""
    pressure: Quantity | None = None
    """Unit density times temperature."""
    regions: tuple[Region, ...] = ()
    """Painted over the background, one after the other; the last one is on top."""
    samples: Annotated[int, Ge(1), Le(8)] = 4
    """Gauss points per cell and axis; 1 takes the value at the centre."""
    kind: Literal["fields"] = "fields"

    def __post_init__(self) -> None:
        _check_values(self)
        if (self.temperature is None) == (self.pressure is None):
            raise ValueError("give temperature or pressure, one of the two")

    def check(self, gas: Gas) -> None:
        """Refuse a velocity with more components than the gas has.

        Raises:
            InputError: names them.
        """
        for number, item in enumerate((self, *self.regions)):
            if item.velocity is not None and len(item.velocity) > gas.dimension:
                raise InputError(
                    f"{_key_of(number)}.velocity: {len(item.velocity)} components; the gas "
                    f"has gas.dimension = {gas.dimension}"
                )

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the cell averages.

        Raises:
            InputError: a density or temperature that is not positive or not finite, a
                velocity that is not finite, with the place; a region without a point.
        """
        self.check_regions(grid)
        energy = Conserved(gamma)
        mean = grid.average(lambda *at: energy.pack(*self.at(at)), self.samples)
        return energy.unpack(mean)

    def check_regions(self, grid: Grid) -> None:
        """Refuse a region without a point.

        Raises:
            InputError: names it.
        """
        for number, region in enumerate(self.regions, 1):
            name = _key_of(number)
            inside = partial(_share, region, name)
            if not bool(grid.average(inside, self.samples).any()):
                raise InputError(
                    f"{name}.shape: no point of the grid is inside (looked at: "
                    f"{self.samples} per cell and axis); move it or refine the grid"
                )

    def at(self, points: Points) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity ``[..., 3]`` and temperature at points."""
        rho = evaluate("density", self.density, points)
        u = _velocity(self.velocity, points)
        by_pressure = self.pressure is not None
        key = "pressure" if by_pressure else "temperature"
        heat = evaluate(key, self.pressure if by_pressure else self.temperature, points)
        p = heat if by_pressure else rho * heat
        nobody = torch.zeros_like(rho, dtype=torch.int64)
        giver: dict[str, Tensor] = dict.fromkeys(("density", "velocity", "heat"), nobody)
        for number, region in enumerate(self.regions, 1):
            name = _key_of(number)
            here = _inside(region, points, name)
            for quantity in region.gives:
                giver[quantity] = torch.where(here, number, giver[quantity])
            new = rho
            if region.density is not None:
                new = evaluate("density", region.density, points, name)
            pressure = p if by_pressure else p * new / rho
            if region.pressure is not None:
                pressure = evaluate("pressure", region.pressure, points, name)
            if region.temperature is not None:
                pressure = new * evaluate("temperature", region.temperature, points, name)
            if region.velocity is not None:
                u = torch.where(
                    here[..., None], _velocity(region.velocity, points, name), u
                )
            rho, p = torch.where(here, new, rho), torch.where(here, pressure, p)
        self._refuse(points, "density", rho, giver["density"], 0.0)
        for component in u.unbind(-1):
            self._refuse(points, "velocity", component, giver["velocity"], -torch.inf)
        self._refuse(points, "pressure", p, giver["heat"], 0.0, p / rho)
        return rho, u, p / rho

    def _refuse(
        self, points: Points, key: str, value: Tensor, giver: Tensor, least: float,
        temperature: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Refuse values that are not above ``least`` or not finite, by whoever gave them.

        ``giver``: 0 is the background, then the regions; one that gave a ``temperature``
        is told that.
        """
        bad = ~((value > least) & value.isfinite())
        if not bool(bad.any()):
            return
        where = tuple(torch.nonzero(bad)[0].tolist())
        number = int(giver[where])
        if temperature is not None and (self, *self.regions)[number].pressure is None:
            key, value = "temperature", temperature
        place = ", ".join(f"{float(x[where]):.6g}" for x in points)
        must = "finite" if least < 0 else "positive and finite"
        raise InputError(
            f"{_key_of(number)}.{key}: {float(value[where]):.6g} at ({place}); must be "
            f"{must} everywhere"
        )


class Conserved:
    """Density, momentum and energy per volume of an ideal gas, along a leading axis."""

    def __init__(self, gamma: float) -> None:
        """Take the ratio of specific heats."""
        self.gamma = gamma

    def pack(self, rho: Tensor, u: Tensor, t: Tensor) -> Tensor:
        """Return ``(rho, rho u, rho |u|^2 / 2 + p / (gamma - 1))``, ``[5, ...]``."""
        energy = rho * (0.5 * (u * u).sum(-1) + t / (self.gamma - 1))
        return torch.stack([rho, *(rho * u[..., d] for d in range(3)), energy])

    def unpack(self, values: Tensor) -> Start:
        """Return the fields of ``[5, ...]``."""
        rho = values[0]
        u = torch.stack([m / rho for m in values[1:4]], -1)
        t = (self.gamma - 1) * (values[4] / rho - 0.5 * (u * u).sum(-1))
        return Start(rho, u, t)


def _check_values(item: Region | Fields) -> None:
    for key in ("density", "temperature", "pressure"):
        check_texts(**{key: getattr(item, key)})
    for value in item.velocity or ():
        check_texts(velocity=value)


def _velocity(value: Any, points: Points, system: str = "initial") -> Tensor:
    parts = [evaluate("velocity", v, points, system) for v in value]
    zero = torch.zeros_like(points[0])
    return torch.stack([*parts, *[zero] * (3 - len(parts))], -1)


@contextmanager
def named(key: str) -> Iterator[None]:
    """Refuse what is written at ``key`` by it, not as the start that is made of it."""
    try:
        yield
    except InputError as error:
        raise InputError(key + str(error).removeprefix("initial")) from None


def _key_of(number: int) -> str:
    """Return the key of the background (0) or of a region, from 1."""
    return f"initial.regions.{number - 1}" if number else "initial"


def _share(region: Region, name: str, *points: Tensor) -> Tensor:
    return _inside(region, points, name).double()


def _inside(region: Region, points: Points, name: str) -> Tensor:
    try:
        return region.shape.inside(points)
    except ValueError as error:
        raise InputError(f"{name}.shape: {error}") from None
