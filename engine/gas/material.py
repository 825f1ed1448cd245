"""The gas itself: velocity dimensions, relaxation time, viscosity, Prandtl number."""

from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class Gas:
    """Transport law shared by all models.

    Relaxation time of the stress, ``tau = Kn rho^-a T^b``, hence viscosity
    ``mu = tau p = Kn rho^(1-a) T^(b+1)`` and heat conductivity
    ``kappa = (D + 2) / 2 * mu / Pr``.

    ``a = 1, b = omega - 1`` is the viscosity law ``mu = Kn T^omega`` of a real gas
    (:meth:`power_law`); ``a = b = 0`` is a constant relaxation time
    (:meth:`constant_time`), the usual choice of the closure literature.

    Attributes:
        dimension: D, velocity dimensions, 1 to 3; ``gamma = (D + 2) / D``.
        prandtl: Prandtl number; BGK itself has 1.
        density_power: a.
        temperature_power: b.
    """

    dimension: int = 3
    prandtl: float = 1.0
    density_power: float = 1.0
    temperature_power: float = 0.0

    def __post_init__(self) -> None:
        if self.dimension not in (1, 2, 3):
            raise InputError(f"gas.dimension: {self.dimension}; allowed are 1, 2, 3")
        if not self.prandtl > 0.0:
            raise InputError(f"gas.prandtl: {self.prandtl}; must be positive")

    @staticmethod
    def power_law(dimension: int = 3, omega: float = 1.0, prandtl: float = 1.0) -> "Gas":
        """Return the gas with ``mu = Kn T^omega``."""
        return Gas(dimension, prandtl, 1.0, omega - 1.0)

    @staticmethod
    def constant_time(dimension: int = 1, prandtl: float = 1.0) -> "Gas":
        """Return the gas with the constant relaxation time ``tau = Kn``."""
        return Gas(dimension, prandtl, 0.0, 0.0)

    @property
    def gamma(self) -> float:
        """Ratio of specific heats, ``(D + 2) / D``."""
        return (self.dimension + 2) / self.dimension

    def relaxation_time(
        self, knudsen: Tensor, density: Tensor, temperature: Tensor
    ) -> Tensor:
        """Return ``tau``; shapes broadcast."""
        return knudsen * density**-self.density_power * temperature**self.temperature_power

    def viscosity(self, knudsen: Tensor, density: Tensor, temperature: Tensor) -> Tensor:
        """Return ``mu = tau p``."""
        return self.relaxation_time(knudsen, density, temperature) * density * temperature

    def conductivity(self, knudsen: Tensor, density: Tensor, temperature: Tensor) -> Tensor:
        """Return ``kappa = (D + 2) / 2 * mu / Pr`` (unit of R: 1)."""
        factor = 0.5 * (self.dimension + 2) / self.prandtl
        return factor * self.viscosity(knudsen, density, temperature)
