"""An equation of state that does not come with the engine, as a user writes one."""

import torch
from torch import Tensor


class StiffenedGas(torch.nn.Module):
    """``p = (gamma - 1) e - gamma p0``: liquids under shock (Harlow, Amsden 1971).

    Attributes:
        gamma: exponent.
        offset: p0; 0 is the ideal gas.
    """

    def __init__(self, gamma: float, offset: float) -> None:
        super().__init__()
        self.gamma, self.offset = gamma, offset

    def pressure(self, density: Tensor, energy: Tensor) -> Tensor:
        """Return p of density and internal energy per volume."""
        return (self.gamma - 1.0) * energy - self.gamma * self.offset

    def energy(self, density: Tensor, pressure: Tensor) -> Tensor:
        """Return the internal energy per volume of density and pressure."""
        return (pressure + self.gamma * self.offset) / (self.gamma - 1.0)

    def sound_speed(self, density: Tensor, energy: Tensor) -> Tensor:
        """Return the speed of sound."""
        p = self.pressure(density, energy)
        return (self.gamma * (p + self.offset) / density).sqrt()
