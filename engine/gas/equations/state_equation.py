"""Equations of state: torch modules that a fluid solver calls cell by cell.

Any module with the three methods of :class:`IdealGas` will do; a learned one too.
"""

import torch
from torch import Tensor


class IdealGas(torch.nn.Module):
    """``p = (gamma - 1) e`` with e the internal energy per volume.

    Attributes:
        gamma: ratio of specific heats, ``(D + 2) / D`` for D velocity dimensions.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def pressure(self, density: Tensor, energy: Tensor) -> Tensor:
        """Return p of density and internal energy per volume, any shape."""
        return (self.gamma - 1.0) * energy

    def energy(self, density: Tensor, pressure: Tensor) -> Tensor:
        """Return the internal energy per volume of density and pressure."""
        return pressure / (self.gamma - 1.0)

    def sound_speed(self, density: Tensor, energy: Tensor) -> Tensor:
        """Return the speed of sound."""
        return (self.gamma * self.pressure(density, energy) / density).sqrt()
