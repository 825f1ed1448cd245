r"""Transport of two dilute gases that are mixed (Chapman and Enskog).

With the reduced mass m, ``O_ls`` of :mod:`.transport` for unlike molecules, and
``eta_12``, ``lambda_12`` those of a gas whose molecules meet as unlike ones do and have the
mass 2 m, viscosity and conductivity are in first approximation

    eta = x H^-1 x,    lambda = -4 x L^-1 x

with matrices of the fractions x (J. O. Hirschfelder, C. F. Curtiss, R. B. Bird, Molecular
Theory of Gases and Liquids, 1954, section 8.2). The first approximation of the mutual
diffusion and that of the thermal diffusion ratio are

    n [D_12]_1 = 3/8 sqrt(2 pi kT / m) / O_11,    k_T = 5 c x1 x2 (s1 x1 - s2 x2) / q,

and the second of the former is larger by ``1 / (1 - Delta_12)`` (S. Chapman, T. G. Cowling,
The Mathematical Theory of Non-Uniform Gases, 3rd ed., sections 9.8 and 9.81).
"""

import math
from dataclasses import dataclass

from torch import Tensor

from ...errors import InputError
from .scattering import CrossSections
from .transport import Coefficients, integral, transport


@dataclass(frozen=True)
class Binary:
    """Two gases, mixed.

    Attributes:
        like: cross sections of each gas alone.
        unlike: of one molecule of each.
        masses: of both, in units in which ``sqrt(mass kT)`` is a momentum.
        fractions: of the molecules.
    """

    like: tuple[CrossSections, CrossSections]
    unlike: CrossSections
    masses: tuple[float, float]
    fractions: tuple[float, float]

    def __post_init__(self) -> None:
        positive = all(m > 0 for m in self.masses)  # not of what is no number
        if not (positive and all(x >= 0 for x in self.fractions)):
            raise InputError(
                f"masses {self.masses} must be positive, fractions {self.fractions} not "
                "negative"
            )
        if abs(sum(self.fractions) - 1) > 1e-9:
            raise InputError(f"fractions: {self.fractions} do not add up to 1")

    def viscosity(self, temperatures: Tensor) -> Tensor:
        """Return the viscosity at ``temperatures`` (kT), as :class:`.Coefficients` has it.

        Raises:
            InputError: a temperature outside the range of cross sections.
        """
        own, both = self._alone(temperatures), self._between(temperatures).viscosity
        (m1, m2), x = self.masses, self.fractions
        ratio = 5 / (3 * self._a(temperatures))
        pair = 2 * x[0] * x[1] * m1 * m2 / (m1 + m2) ** 2 / both
        h = (
            x[0] ** 2 / own[0].viscosity + pair * (ratio + m2 / m1),
            x[1] ** 2 / own[1].viscosity + pair * (ratio + m1 / m2),
        )
        return self._solved(*h, -pair * (ratio - 1))

    def conductivity(self, temperatures: Tensor) -> Tensor:
        """Return the conductivity of heat over k, in ``sqrt(kT / mass) / distance^2``.

        Without what diffusion carries: of a gas whose composition has settled.

        Raises:
            InputError: a temperature outside the range of cross sections.
        """
        own, both = self._alone(temperatures), self._between(temperatures).conductivity
        (m1, m2), x = self.masses, self.fractions
        a, b = self._a(temperatures), 5 / 3 * self._ratios(temperatures)[1]
        twice = 2 * m1 * m2 / (m1 + m2)
        pair = 2 * x[0] * x[1] / (both / twice * a * (m1 + m2) ** 2)

        def diagonal(i: int, m: float, other: float) -> Tensor:
            inner = 7.5 * m**2 + (6.25 - 3 * b) * other**2 + 4 * m * other * a
            return -4 * x[i] ** 2 * m / own[i].conductivity - pair * inner

        off = pair * m1 * m2 * (13.75 - 3 * b - 4 * a)
        return -4 * self._solved(diagonal(0, m1, m2), diagonal(1, m2, m1), off)

    def diffusion(self, temperatures: Tensor, order: int = 2) -> Tensor:
        """Return ``n D_12``, number density times coefficient.

        Args:
            temperatures: ``[temperatures]`` kT.
            order: of the Sonine expansion, 1 or 2.

        Raises:
            InputError: a temperature outside the range of cross sections, another order.
        """
        if order not in (1, 2):
            raise InputError(f"order: {order}; allowed are 1, 2")
        first = self._diffusion(temperatures)
        if order == 1:
            return first
        (m1, m2), (x1, x2) = self._shares, self.fractions
        a, _, c = self._ratios(temperatures)
        p1, p2 = self._p(temperatures)
        mixed = 3 * (m1 - m2) ** 2 + 4 * m1 * m2 * a
        above = m1**2 * p1 * x1**2 + m2**2 * p2 * x2**2 + mixed * x1 * x2
        return first / (1 - 5 * c**2 * above / self._q(temperatures))

    def thermal_diffusion(self, temperatures: Tensor) -> Tensor:
        """Return the ratio ``k_T``: positive where the first gas gathers in the cold.

        Raises:
            InputError: a temperature outside the range of cross sections.
        """
        (m1, m2), (x1, x2) = self._shares, self.fractions
        a, _, c = self._ratios(temperatures)
        p1, p2 = self._p(temperatures)
        s1 = m1 * p1 - 3 * m2 * (m2 - m1) - 4 * m1 * m2 * a
        s2 = m2 * p2 - 3 * m1 * (m1 - m2) - 4 * m1 * m2 * a
        return 5 * c * x1 * x2 * (s1 * x1 - s2 * x2) / self._q(temperatures)

    # -- what they are made of --------------------------------------------------------

    @property
    def _shares(self) -> tuple[float, float]:
        """Masses over the sum of both."""
        return self.masses[0] / sum(self.masses), self.masses[1] / sum(self.masses)

    def _alone(self, temperatures: Tensor) -> tuple[Coefficients, Coefficients]:
        one, two = (
            transport(found, temperatures, m, 1)
            for m, found in zip(self.masses, self.like, strict=True)
        )
        return one, two

    def _between(self, temperatures: Tensor) -> Coefficients:
        twice = 2 * math.prod(self.masses) / sum(self.masses)
        return transport(self.unlike, temperatures, twice, 1)

    def _ratios(self, temperatures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Chapman and Cowling's A, B and C."""
        o11, o12, o13 = (integral(self.unlike, temperatures, 1, s) for s in (1, 2, 3))
        o22 = integral(self.unlike, temperatures, 2, 2)
        return o22 / (5 * o11), (5 * o12 - o13) / (5 * o11), 2 * o12 / (5 * o11) - 1

    def _a(self, temperatures: Tensor) -> Tensor:
        """A* of Hirschfelder, 1 for hard spheres."""
        return 2.5 * self._ratios(temperatures)[0]

    def _diffusion(self, temperatures: Tensor) -> Tensor:
        self._between(temperatures)  # refuses what the cross sections do not serve
        reduced = math.prod(self.masses) / sum(self.masses)
        o11 = integral(self.unlike, temperatures, 1, 1)
        return 3 / 8 * (2 * math.pi * temperatures / reduced).sqrt() / o11

    def _p(self, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        unit = 2 / 3 * sum(self.masses) * self._diffusion(temperatures)
        alone = self._alone(temperatures)
        p1, p2 = (m * unit / k.viscosity for m, k in zip(self._shares, alone, strict=True))
        return p1, p2

    def _q(self, temperatures: Tensor) -> Tensor:
        (m1, m2), (x1, x2) = self._shares, self.fractions
        a, b, _ = self._ratios(temperatures)
        p1, p2 = self._p(temperatures)
        apart, product = 3 * (m1 - m2) ** 2, 4 * m1 * m2 * a
        q1 = p1 * (6 * m2**2 + (5 - 4 * b) * m1**2 + 2 * product)
        q2 = p2 * (6 * m1**2 + (5 - 4 * b) * m2**2 + 2 * product)
        q12 = apart * (5 - 4 * b) + product * (11 - 4 * b) + 2 * p1 * p2
        return q1 * x1**2 + q2 * x2**2 + q12 * x1 * x2

    def _solved(self, one: Tensor, two: Tensor, off: Tensor) -> Tensor:
        """Return ``x M^-1 x`` of symmetric 2 x 2 matrices, or what one gas leaves of it."""
        x1, x2 = self.fractions
        if x1 * x2 == 0:
            return x1**2 / one if x1 else x2**2 / two
        return (x1**2 * two - 2 * x1 * x2 * off + x2**2 * one) / (one * two - off**2)


__all__ = ["Binary"]
