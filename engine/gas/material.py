"""The gas itself: velocity dimensions, relaxation time, viscosity, Prandtl number."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..comparison import worst
from ..errors import InputError
from .collisions.transport import Transport


@dataclass(frozen=True, eq=False)
class TransportLaw:
    """Viscosity over that at temperature 1, and Prandtl number, from tables.

    Beyond the ends of the tables both keep their last values, so that a stray value in
    one step does no harm; :meth:`excess` says how far a run went beyond them.

    Attributes:
        table: over the reference temperature; its viscosity at 1 is 1.
        kelvin: the reference temperature, K.
    """

    table: Transport
    kelvin: float
    _placed: dict = field(init=False, repr=False, default_factory=dict)

    @staticmethod
    def of(table: Transport, kelvin: float, prandtl: float | None = None) -> "TransportLaw":
        """Return the law of a table over K, relative to the temperature ``kelvin``.

        Args:
            table: viscosity in any unit.
            kelvin: the reference temperature.
            prandtl: constant, in place of that of the table.

        Raises:
            InputError: the table does not serve the reference temperature.
        """
        scale = float(table.mu(torch.tensor([kelvin], dtype=torch.float64))[0])
        viscosity, number = table.viscosity.detach().clone(), table.prandtl.detach()
        viscosity[:, 0] -= math.log(scale)
        if prandtl is not None:
            number = torch.zeros_like(number)
            number[:, 0] = prandtl
        ends = table.coldest / kelvin, table.hottest / kelvin
        return TransportLaw(Transport(*ends, viscosity, number), kelvin)

    @property
    def per_interval(self) -> float:
        """Intervals of the table in a unit of ``ln T``."""
        t = self.table
        return len(t.viscosity) / math.log(t.hottest / t.coldest)

    def packed(self, device: torch.device) -> Tensor:
        """Return ``[intervals, 8]`` f64: coefficients of ``ln mu`` and of Pr."""
        return torch.cat([self.table.viscosity, self.table.prandtl], 1).to(device)

    def viscosity(self, temperature: Tensor) -> Tensor:
        """Return ``mu(T) / mu(1)``."""
        return self._at(0, temperature).exp()

    def number(self, temperature: Tensor) -> Tensor:
        """Return the Prandtl number."""
        return self._at(4, temperature)

    def number_ends(self) -> tuple[float, float]:
        """Return the least and the largest Prandtl number of the table."""
        ends = math.log(self.table.coldest), math.log(self.table.hottest)
        t = torch.linspace(*ends, 4 * len(self.table.prandtl) + 1, dtype=torch.float64)
        low, high = self.number(t.exp()).aminmax()
        return float(low), float(high)

    def excess(self, temperature: Tensor) -> float:
        """Return by which factor temperatures leave the table at most; 1: by none.

        NaN where a temperature is no number, infinite where one is not positive.
        """
        low, high = (float(x) for x in temperature.detach().double().aminmax())
        below = self.table.coldest / low if low > 0 else math.inf
        return worst(
            (1.0, math.nan if math.isnan(low) else below, high / self.table.hottest)
        )

    def _at(self, first: int, temperature: Tensor) -> Tensor:
        key = temperature.device, temperature.dtype
        if key not in self._placed:
            self._placed[key] = self.packed(key[0]).to(key[1])
        rows = self._placed[key]
        x = (temperature / self.table.coldest).log() * self.per_interval
        x = x.clamp(0.0, float(len(rows)))
        i = x.detach().nan_to_num().long().clamp(max=len(rows) - 1)
        x = x - i
        c = rows[i]
        high = c[..., first + 3] * x + c[..., first + 2]
        return (high * x + c[..., first + 1]) * x + c[..., first]


@dataclass(frozen=True)
class Gas:
    """Transport law shared by all models.

    Relaxation time of the stress, ``tau = Kn rho^-a T^b``, hence viscosity
    ``mu = tau p = Kn rho^(1-a) T^(b+1)`` and heat conductivity
    ``kappa = (D + 2) / 2 * mu / Pr``.

    ``a = 1, b = omega - 1`` is the viscosity law ``mu = Kn T^omega`` of a real gas
    (:meth:`power_law`); ``a = b = 0`` is a constant relaxation time
    (:meth:`constant_time`), the usual choice of the closure literature. With ``law`` (a
    table) ``mu = Kn mu(T) / mu(1)``, and the Prandtl number follows the temperature too.

    Attributes:
        dimension: D, velocity dimensions, 1 to 3; ``gamma = (D + 2) / D``.
        prandtl: Prandtl number; BGK itself has 1. With ``law`` that at temperature 1.
        density_power: a.
        temperature_power: b.
        law: tables in place of the powers.
    """

    dimension: int = 3
    prandtl: float = 1.0
    density_power: float = 1.0
    temperature_power: float = 0.0
    law: TransportLaw | None = None

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

    def following(self, law: TransportLaw) -> "Gas":
        """Return the gas whose viscosity and Prandtl number follow tables."""
        at_one = float(law.number(torch.ones((), dtype=torch.float64)))
        return replace(self, prandtl=at_one, density_power=1.0, law=law)

    @property
    def gamma(self) -> float:
        """Ratio of specific heats, ``(D + 2) / D``."""
        return (self.dimension + 2) / self.dimension

    def relaxation_time(
        self, knudsen: Tensor, density: Tensor, temperature: Tensor
    ) -> Tensor:
        """Return ``tau``; shapes broadcast."""
        if self.law is not None:
            return knudsen * self.law.viscosity(temperature) / (density * temperature)
        return knudsen * density**-self.density_power * temperature**self.temperature_power

    def viscosity(self, knudsen: Tensor, density: Tensor, temperature: Tensor) -> Tensor:
        """Return ``mu = tau p``."""
        return self.relaxation_time(knudsen, density, temperature) * density * temperature

    def conductivity(self, knudsen: Tensor, density: Tensor, temperature: Tensor) -> Tensor:
        """Return ``kappa = (D + 2) / 2 * mu / Pr`` (unit of R: 1)."""
        factor = 0.5 * (self.dimension + 2) / self.prandtl_at(temperature)
        return factor * self.viscosity(knudsen, density, temperature)

    def prandtl_at(self, temperature: Tensor) -> float | Tensor:
        """Return the Prandtl number, a tensor where it follows the temperature."""
        return self.prandtl if self.law is None else self.law.number(temperature)

    @property
    def prandtl_ends(self) -> tuple[float, float]:
        """The least and the largest Prandtl number."""
        return self.law.number_ends() if self.law else (self.prandtl, self.prandtl)


@dataclass(frozen=True)
class Mixed(Gas):
    """A mixture, by the gas whose free path is the shortest one in it: for estimates.

    Attributes:
        shortest: its viscosity over the Knudsen number.
        rotating: share of the molecules that rotate.
    """

    shortest: float = 1.0
    rotating: float = 0.0

    @property
    def gamma(self) -> float:
        """Ratio of specific heats."""
        return (5 + 2 * self.rotating) / (3 + 2 * self.rotating)

    def relaxation_time(
        self, knudsen: Tensor, density: Tensor, temperature: Tensor
    ) -> Tensor:
        """Return ``tau``; shapes broadcast."""
        return self.shortest * super().relaxation_time(knudsen, density, temperature)


@dataclass(frozen=True)
class Rotating(Gas):
    """A gas whose molecules rotate: five degrees of freedom."""

    @property
    def gamma(self) -> float:
        """Ratio of specific heats."""
        return 7 / 5
