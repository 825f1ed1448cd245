"""What initial conditions share: a state at a point, and the fields that are returned."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import MaxLen
from torch import Tensor

from ....models.parts import part
from ..boundaries import Positive, Sides, Speed


@dataclass(frozen=True)
class Start:
    """Fields at the start, of one system for all or ``[systems, *grid.shape]``.

    Attributes:
        density: ``[*grid.shape]``.
        velocity: ``[*grid.shape, 3]``.
        temperature: ``[*grid.shape]``.
        ends: of the x axis, where the initial condition sets them.
    """

    density: Tensor
    velocity: Tensor
    temperature: Tensor
    ends: Sides | None = None

    @staticmethod
    def of(values: Tensor) -> "Start":
        """Return the fields of ``[*grid.shape, 5]`` (:attr:`Point.values`)."""
        return Start(values[..., 0], values[..., 1:4], values[..., 4])


@part
class Point:
    """An equilibrium state."""

    density: Positive
    """Reference densities."""
    velocity: Annotated[tuple[Speed, ...], MaxLen(3)] = (0.0,)
    """Unit sqrt(R T0); missing components are 0."""
    temperature: Positive | None = None
    """Reference temperatures; give this or the pressure."""
    pressure: Positive | None = None
    """Unit density times temperature."""

    def __post_init__(self) -> None:
        if (self.temperature is None) == (self.pressure is None):
            raise ValueError("give temperature or pressure, one of the two")

    @property
    def values(self) -> Tensor:
        """(density, u, v, w, temperature), f64."""
        t = self.temperature
        if t is None:
            assert self.pressure is not None
            t = self.pressure / self.density
        speeds = [*self.velocity, 0.0, 0.0, 0.0][:3]
        return torch.tensor([self.density, *speeds, t], dtype=torch.float64)


def along_x(speed: Tensor) -> Tensor:
    """Return the velocity ``[*grid.shape, 3]`` of a speed along x."""
    zero = torch.zeros_like(speed)
    return torch.stack([speed, zero, zero], -1)
