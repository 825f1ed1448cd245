"""Discrete velocities: a uniform tensor grid, and which directions it resolves."""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from ...errors import InputError


@dataclass(frozen=True)
class Velocities:
    """Uniform velocity nodes (midpoints), the last axis fastest.

    Attributes:
        shape: nodes along each resolved axis, 1 to 3 axes.
        lower: lower edge along each axis, unit ``sqrt(R T0)``.
        upper: upper edge.
    """

    shape: tuple[int, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.shape) == len(self.lower) == len(self.upper) <= 3:
            raise InputError(
                "velocities: nodes, lower, upper must have the same length, 1 to 3"
            )
        if min(self.shape) < 4:
            raise InputError(f"velocities.nodes: {self.shape}; every axis needs at least 4")

    @staticmethod
    def symmetric(axes: int, nodes: int, limit: float) -> "Velocities":
        """Return ``nodes`` per axis on ``[-limit, limit]``."""
        return Velocities((nodes,) * axes, (-limit,) * axes, (limit,) * axes)

    @property
    def axes(self) -> int:
        """Number of resolved velocity axes."""
        return len(self.shape)

    @property
    def count(self) -> int:
        """Number of nodes."""
        return prod(self.shape)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """Distance between nodes along each axis."""
        sides = zip(self.lower, self.upper, self.shape, strict=True)
        return tuple((b - a) / n for a, b, n in sides)

    @property
    def weight(self) -> float:
        """Quadrature weight of a node."""
        return prod(self.spacing)

    def axis(self, axis: int, device: torch.device | None = None) -> Tensor:
        """Return the nodes along one axis, f64; an even symmetric grid is so exactly."""
        n, h = self.shape[axis], self.spacing[axis]
        middle = 0.5 * (self.lower[axis] + self.upper[axis])
        line = torch.arange(n, dtype=torch.float64, device=device)
        return middle + h * (line - 0.5 * (n - 1))

    @cached_property
    def nodes(self) -> Tensor:
        """All nodes, ``[count, axes]`` f64."""
        axes = torch.meshgrid(*(self.axis(d) for d in range(self.axes)), indexing="ij")
        return torch.stack([a.reshape(-1) for a in axes], -1)

    @cached_property
    def _copies(self) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        return {}

    def like(self, f: Tensor) -> Tensor:
        """Return :attr:`nodes` on the device and in the precision of ``f``, copied once."""
        key = (f.device, f.dtype)
        if key not in self._copies:
            self._copies[key] = self.nodes.to(f)
        return self._copies[key]

    def mirrored(self, axis: int) -> Tensor:
        """Return the index of the node with the component along ``axis`` reversed.

        Raises:
            InputError: the grid is not symmetric along that axis.
        """
        if abs(self.lower[axis] + self.upper[axis]) > 1e-12 * self.upper[axis]:
            raise InputError(
                f"velocities: a wall normal to {'xyz'[axis]} needs nodes symmetric about 0 "
                f"there, not [{self.lower[axis]}, {self.upper[axis]}]"
            )
        return torch.arange(self.count).reshape(self.shape).flip(axis).reshape(-1)

    def check_range(self, speeds: Tensor, temperature: Tensor, key: str) -> None:
        """Refuse states that the nodes cannot hold.

        A Maxwellian needs about four standard deviations on either side, and nodes no
        farther apart than twice its width (then the sums err by under 1e-3).

        Args:
            speeds: ``[..., axes]`` mean velocities.
            temperature: ``[...]``.
            key: what is named in the message.

        Raises:
            InputError: too narrow or too coarse, with the numbers that would do.
        """
        width = temperature.amax().sqrt()
        narrow = temperature.amin().sqrt()
        for d in range(self.axes):
            low = float((speeds[..., d] - 4 * temperature.sqrt()).amin())
            high = float((speeds[..., d] + 4 * temperature.sqrt()).amax())
            if low < self.lower[d] or high > self.upper[d]:
                raise InputError(
                    f"{key}: velocities [{self.lower[d]}, {self.upper[d]}] along axis {d} "
                    f"are too narrow for temperature {float(width) ** 2:.4g}; "
                    f"reach at least [{low:.3g}, {high:.3g}]"
                )
            if self.spacing[d] > 2.0 * float(narrow):
                need = int((self.upper[d] - self.lower[d]) / (1.5 * float(narrow))) + 1
                raise InputError(
                    f"{key}: {self.shape[d]} velocities along axis {d} are too few for "
                    f"temperature {float(narrow) ** 2:.4g}; use at least {need}"
                )
