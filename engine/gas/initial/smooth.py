"""Smooth flows: a sound wave of the kinetic equation, a vortex, a shear layer."""

import math
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from ....models.parts import part
from ...errors import InputError
from .. import exact
from ..grid import Grid
from ..kinetic.velocities import Velocities
from ..material import Gas
from .base import Positive, Start, along_x


@part
class Sound:
    """The exact acoustic mode of linear BGK at each Knudsen number, travelling along x."""

    amplitude: Annotated[float, Gt(0), Le(1e-2)] = 1e-4
    """Relative amplitude; the theory is linear."""
    kind: Literal["sound"] = "sound"

    dimensions: ClassVar = (1,)
    reference: ClassVar = "spectrum"

    def check(self, gas: Gas) -> None:
        """Refuse a gas for which the mode is not known.

        Raises:
            InputError: the relaxation time depends on density or temperature.
        """
        if gas.density_power or gas.temperature_power:
            raise InputError('initial.kind: sound needs gas.viscosity = "constant_time"')

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the gas at rest; the wave is part of :meth:`distribution`."""
        one = torch.ones(grid.shape, dtype=torch.float64)
        return Start(one, along_x(0 * one), one)

    def distribution(
        self, grid: Grid, gas: Gas, knudsen: Tensor, velocities: Velocities
    ) -> Tensor:
        """Return f, ``[batch, parts, cells, velocities]``.

        The mode is ``M(v) (A(v_x) + B(v_x) w^2)``, with w the velocity across the wave. The
        axes of w that have no nodes are integrated out, and their mean square is the
        second part.

        Args:
            grid: one dimension.
            gas: with a constant relaxation time.
            knudsen: ``[batch]``.
            velocities: nodes along x, and maybe along axes across it.
        """
        d, axes, v = gas.dimension, velocities.axes, velocities.nodes[:, 0]
        left = d - axes
        square = velocities.nodes[:, 1:].square().sum(1)
        k = 2 * math.pi / (grid.upper[0] - grid.lower[0])
        wave = torch.exp(1j * k * (grid.centers(0) - grid.lower[0]))[:, None]
        along = torch.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)
        across = torch.exp(-0.5 * square) / (2 * math.pi) ** (0.5 * (axes - 1))
        systems = []
        for tau in knudsen.double().tolist():
            growth = exact.acoustic_mode(k * tau, d)
            # integrals over all of w of the mode, and of w^2 times it
            whole, second = (
                x.repeat_interleave(velocities.count // len(x))
                for x in exact.acoustic_eigenfunction(
                    k * tau, growth, velocities.axis(0), d
                )
            )
            slope = (second - (d - 1) * whole) / (2 * (d - 1)) if d > 1 else 0 * whole
            level = whole - (d - 1) * slope
            mode = across * (level + slope * (square + left))
            parts = [along * across + self.amplitude * (mode * wave).real]
            if left:
                mode = across * left * (level + slope * (square + left + 2))
                parts.append(left * along * across + self.amplitude * (mode * wave).real)
            systems.append(torch.stack(parts))
        return torch.stack(systems)


@part
class Vortex:
    """The isentropic vortex in a uniform stream."""

    velocity: tuple[float, float] = (1.0, 1.0)
    """Stream, unit sqrt(R T0)."""
    strength: Annotated[float, Gt(0), Le(8)] = 5.0
    """Circulation."""
    kind: Literal["vortex"] = "vortex"

    dimensions: ClassVar = (2,)

    def fields(self, grid: Grid, gas: Gas, gamma: float, time: float = 0.0) -> Start:
        """Return the cell averages of the exact solution at a time, in a periodic box."""
        sizes = [b - a for a, b in zip(grid.lower, grid.upper, strict=True)]

        def values(x: Tensor, y: Tensor) -> Tensor:
            frame = zip((x, y), grid.lower, sizes, self.velocity, strict=True)
            at = [(c - v * time - low) % size + low for c, low, size, v in frame]
            rho, u, v, p = exact.vortex(at[0], at[1], gamma, self.strength)
            u, v = u + self.velocity[0], v + self.velocity[1]
            e = p / (gamma - 1) + 0.5 * rho * (u * u + v * v)
            return torch.stack([rho, rho * u, rho * v, e])

        rho, mx, my, e = grid.average(values, 3)
        u, v = mx / rho, my / rho
        p = (gamma - 1) * (e - 0.5 * rho * (u * u + v * v))
        return Start(rho, torch.stack([u, v, torch.zeros_like(u)], -1), p / rho)


@part
class ShearLayer:
    """Two shear layers with a small ripple (Kelvin-Helmholtz), box [0, 1]^2."""

    width: Positive = 0.025
    """Thickness of the layers."""
    ripple: Annotated[float, Ge(0)] = 0.01
    """Amplitude of the transverse velocity."""
    pressure: Positive = 2.5
    """Pressure; density is 1 outside and 2 inside."""
    kind: Literal["shear_layer"] = "shear_layer"

    dimensions: ClassVar = (2,)

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the fields."""
        x, y = grid.points()
        low, high = ((y - edge) / self.width for edge in (0.25, 0.75))
        inside = 0.5 * (torch.tanh(low) - torch.tanh(high))
        rho = 1 + inside
        v = self.ripple * torch.sin(4 * math.pi * x)
        u = torch.stack([inside - 0.5, v, torch.zeros_like(v)], -1)
        return Start(rho, u, self.pressure / rho)
