"""What people look at, from density, velocity and temperature: pressure, Mach number, ...

All quantities are non-dimensional like the fields that they come from. Gradients are
central differences of cell values, second order; at ends that are not periodic and beside
solids they are one-sided, first order: what fills a solid does not enter.

===================  =================================================================
``pressure``         p = rho T
``speed``            |u|
``mach``             |u| / sqrt(gamma T)
``momentum_density`` rho |u|
``kinetic_energy``   rho |u|^2 / 2
``total_energy``     rho |u|^2 / 2 + p / (gamma - 1)
``entropy_function`` ln(p / rho^gamma)
``schlieren``        |grad rho|
``dilatation``       div u
``vorticity``        curl u: its size; on a plane grid the component along z
``mean_free_path``   mu / p sqrt(pi T / 2), mu from the gas's law and Knudsen number
===================  =================================================================
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .grid import Grid
from .material import Gas


@dataclass(frozen=True)
class Medium:
    """What the quantities need to know besides the fields.

    Attributes:
        grid: cells.
        periodic: which axes wrap around.
        gas: transport law.
        gamma: ratio of specific heats.
        knudsen: ``[batch]``.
        solid: ``[*cells]`` which cells are none of the gas; None if all are.
    """

    grid: Grid
    periodic: tuple[bool, ...]
    gas: Gas
    gamma: float
    knudsen: Tensor
    solid: Tensor | None = None

    @property
    def free(self) -> Tensor:
        """Which cells are gas, ``[*cells]``."""
        if self.solid is None:
            return torch.ones(self.grid.shape, dtype=torch.bool)
        return ~self.solid

    def gradient(self, field: Tensor, axis: int) -> Tensor:
        """Return the derivative along a space axis of ``[batch, *cells]``; 0 in solids."""
        free, at = self.free.to(field.device), axis + 1
        ahead = free & free.roll(-1, axis)
        if not self.periodic[axis]:
            ahead.select(axis, -1).fill_(False)
        behind = ahead.roll(1, axis)
        change = torch.where(ahead, field.roll(-1, at) - field, 0.0)
        change = change + torch.where(behind, field - field.roll(1, at), 0.0)
        sides = (ahead.to(field) + behind.to(field)).clamp(min=1.0)
        return change / (sides * self.grid.spacing[axis])


Fields = Mapping[str, Tensor]
Quantity = Callable[[Fields, Medium], Tensor]


def _pressure(f: Fields, m: Medium) -> Tensor:
    return f["density"] * f["temperature"]


def _speed(f: Fields, m: Medium) -> Tensor:
    return f["velocity"].square().sum(-1).sqrt()


def _mach(f: Fields, m: Medium) -> Tensor:
    return _speed(f, m) / (m.gamma * f["temperature"]).sqrt()


def _momentum(f: Fields, m: Medium) -> Tensor:
    return f["density"] * _speed(f, m)


def _kinetic_energy(f: Fields, m: Medium) -> Tensor:
    return 0.5 * f["density"] * f["velocity"].square().sum(-1)


def _total_energy(f: Fields, m: Medium) -> Tensor:
    return _kinetic_energy(f, m) + _pressure(f, m) / (m.gamma - 1)


def _entropy_function(f: Fields, m: Medium) -> Tensor:
    return f["temperature"].log() - (m.gamma - 1) * f["density"].log()


def _schlieren(f: Fields, m: Medium) -> Tensor:
    slopes = [m.gradient(f["density"], d) for d in range(m.grid.dim)]
    return torch.stack(slopes).square().sum(0).sqrt()


def _dilatation(f: Fields, m: Medium) -> Tensor:
    return sum(m.gradient(f["velocity"][..., d], d) for d in range(m.grid.dim))  # type: ignore[return-value]


def _vorticity(f: Fields, m: Medium) -> Tensor:
    u, axes = f["velocity"], f["velocity"].shape[-1]

    def curl(a: int, b: int) -> Tensor:
        """du_b / dx_a - du_a / dx_b."""
        total = torch.zeros_like(u[..., 0])
        if a < m.grid.dim and b < axes:
            total = total + m.gradient(u[..., b], a)
        if b < m.grid.dim and a < axes:
            total = total - m.gradient(u[..., a], b)
        return total

    if m.grid.dim == 2:
        return curl(0, 1)
    return torch.stack([curl(1, 2), curl(2, 0), curl(0, 1)]).square().sum(0).sqrt()


def _mean_free_path(f: Fields, m: Medium) -> Tensor:
    rho, t = f["density"], f["temperature"]
    knudsen = m.knudsen.reshape(-1, *[1] * m.grid.dim)
    tau = m.gas.relaxation_time(knudsen, rho, t)  # mu = tau p
    return tau * (0.5 * math.pi * t).sqrt()


DERIVED: dict[str, tuple[Quantity, str]] = {
    "pressure": (_pressure, "rho0 R T0"),
    "speed": (_speed, "sqrt(R T0)"),
    "mach": (_mach, ""),
    "momentum_density": (_momentum, "rho0 sqrt(R T0)"),
    "kinetic_energy": (_kinetic_energy, "rho0 R T0"),
    "total_energy": (_total_energy, "rho0 R T0"),
    "entropy_function": (_entropy_function, ""),
    "schlieren": (_schlieren, "rho0 / L"),
    "dilatation": (_dilatation, "sqrt(R T0) / L"),
    "vorticity": (_vorticity, "sqrt(R T0) / L"),
    "mean_free_path": (_mean_free_path, "L"),
}
"""Name -> (function of the observed fields, unit)."""


def derive(name: str, fields: Fields, medium: Medium) -> Tensor:
    """Return a quantity of :data:`DERIVED`, ``[batch, *cells]``.

    Args:
        name: of the quantity.
        fields: ``density``, ``temperature`` ``[batch, *cells]``, ``velocity``
            ``[batch, *cells, V]``.
        medium: where they are.
    """
    return DERIVED[name][0](fields, medium)
