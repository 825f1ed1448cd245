r"""Transport of a dilute gas from cross sections (Chapman and Enskog, to third order).

With ``O_ls = int_0^inf x^(s+1) e^-x Q_l(x kT) dx`` the first approximations are

    mu_1 = 5/16 sqrt(pi m kT) / (O_22 / 4),    lambda_1 = 15/4 (k/m) mu_1,

and the n-th is ``f_n = M_11 (M^-1)_11`` of the n x n matrix of bracket integrals of Sonine
polynomials (S. Chapman and T. G. Cowling, The Mathematical Theory of Non-Uniform Gases,
3rd ed., chapter 9). The weight of ``O_44`` in ``M_33`` (1/8 for the viscosity, 1/24 for the
conductivity) follows from Maxwell molecules, where the matrices are diagonal and their
eigenvalues are known (a test derives it).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import InputError
from .pairs import Pair, Table
from .scattering import ORDERS, CrossSections, scatter


def integral(found: CrossSections, temperatures: Tensor, order: int, power: int) -> Tensor:
    """Return ``O_{order, power}`` at ``temperatures`` (kT)."""
    x = found.energy / temperatures[:, None]
    q = found.sections[ORDERS.index(order)]
    return (q * x ** (power + 1) * torch.exp(-x) * found.weight).sum(1) / temperatures


def _matrices(o: dict[tuple[int, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the matrices of viscosity and conductivity, ``[temperatures, 3, 3]``."""
    w2, w3, w4, w5, w6 = (o[2, s] for s in (2, 3, 4, 5, 6))
    w44 = o[4, 4]
    m11, m12 = w2, 7 / 4 * w2 - w3 / 2
    m13 = 63 / 32 * w2 - 9 / 8 * w3 + w4 / 8
    viscous = (
        301 / 48 * w2 - 7 / 4 * w3 + w4 / 4,
        1365 / 128 * w2 - 321 / 64 * w3 + 25 / 32 * w4 - w5 / 16,
        25137 / 1024 * w2 - 1755 / 128 * w3 + 381 / 128 * w4 - 9 / 32 * w5 + w6 / 64
        + w44 / 8,
    )  # fmt: skip
    thermal = (
        77 / 16 * w2 - 7 / 4 * w3 + w4 / 4,
        945 / 128 * w2 - 261 / 64 * w3 + 25 / 32 * w4 - w5 / 16,
        14553 / 1024 * w2 - 1215 / 128 * w3 + 313 / 128 * w4 - 9 / 32 * w5 + w6 / 64
        + w44 / 24,
    )  # fmt: skip

    def matrix(inner: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        m22, m23, m33 = inner
        rows = [m11, m12, m13, m12, m22, m23, m13, m23, m33]
        return torch.stack(rows, -1).unflatten(-1, (3, 3))

    return matrix(viscous), matrix(thermal)


def _factor(matrix: Tensor, order: int) -> Tensor:
    part = matrix[:, :order, :order]
    return part[:, 0, 0] * torch.linalg.inv(part)[:, 0, 0]


@dataclass(frozen=True)
class Coefficients:
    """Transport coefficients ``[temperatures]`` of a dilute gas.

    Attributes:
        temperatures: kT.
        viscosity: in ``sqrt(mass kT) / distance^2``.
        conductivity: of heat, over ``k / mass``, in the unit of the viscosity.
    """

    temperatures: Tensor
    viscosity: Tensor
    conductivity: Tensor

    @property
    def prandtl(self) -> Tensor:
        """Prandtl number of a monatomic gas, ``5/2 mu / lambda``."""
        return 2.5 * self.viscosity / self.conductivity


def transport(
    found: CrossSections, temperatures: Tensor, mass: float, order: int = 3
) -> Coefficients:
    """Return viscosity and conductivity.

    Args:
        found: cross sections.
        temperatures: ``[temperatures]`` kT, inside the range of ``found``.
        mass: in units in which ``sqrt(mass kT)`` is a momentum.
        order: of the Sonine expansion, 1 to 3.

    Raises:
        InputError: a temperature outside the range, or another order.
    """
    if order not in (1, 2, 3):
        raise InputError(f"order: {order}; allowed are 1, 2, 3")
    low, high = (float(x) for x in temperatures.detach().aminmax())
    if not (found.coldest * (1 - 1e-9) <= low and high <= found.hottest * (1 + 1e-9)):
        raise InputError(
            f"temperature {low:g} to {high:g}: the cross sections serve "
            f"{found.coldest:g} to {found.hottest:g}"
        )
    pairs = [(2, s) for s in (2, 3, 4, 5, 6)] + [(4, 4)]
    o = {pair: integral(found, temperatures, *pair) for pair in pairs}
    viscous, thermal = _matrices(o)
    first = 5 / 16 * (math.pi * mass * temperatures).sqrt() / (0.25 * o[2, 2])
    return Coefficients(
        temperatures,
        first * _factor(viscous, order),
        15 / 4 * first * _factor(thermal, order),
    )


def viscosity(
    pair: Pair, temperatures: Tensor, mass: float, guess: float, order: int = 3
) -> Tensor:
    """Return the viscosity of a dilute gas of atoms with a pair potential.

    Args:
        pair: the potential, in the unit of ``temperatures``; differentiable.
        temperatures: ``[temperatures]``, kT.
        mass: in units in which ``sqrt(mass kT)`` is a momentum.
        guess: a distance near the zero of the potential; it is tabulated from a quarter
            to forty times of it.
        order: of the Sonine expansion.

    Raises:
        InputError: collisions come closer than a quarter of ``guess``.
    """
    table = Table.of(pair, 0.25 * guess, 40.0 * guess)
    ends = float(temperatures.detach().min()), float(temperatures.detach().max())
    return transport(scatter(table, *ends), temperatures, mass, order).viscosity


def reduced_integral(
    found: CrossSections, temperatures: Tensor, order: int, power: int, sigma: float = 1.0
) -> Tensor:
    """Return ``Omega(order, power)*``: over that of hard spheres of diameter ``sigma``."""
    spheres = math.factorial(power + 1) * (1 - (1 + (-1) ** order) / (2 * (1 + order)))
    spheres *= math.pi * sigma**2
    return integral(found, temperatures, order, power) / spheres


@dataclass(frozen=True)
class Transport:
    """Viscosity and Prandtl number of one gas over the temperature, as tables.

    Cubic splines of ``ln mu`` and ``Pr`` over ``ln T`` on equally spaced knots, so
    that a kernel finds its interval by one multiplication. Tables keep the graph to the
    parameters of the potential.

    Attributes:
        coldest: first knot.
        hottest: last knot.
        viscosity: ``[knots - 1, 4]`` of ``ln mu``: coefficients of the powers of the way
            from one knot to the next, 0 to 1.
        prandtl: ``[knots - 1, 4]``.
        covariance: ``[knots, knots]`` of ``ln mu`` at the knots, where it is known.
    """

    coldest: float
    hottest: float
    viscosity: Tensor
    prandtl: Tensor
    covariance: Tensor | None = None

    @staticmethod
    def of(
        found: CrossSections, coldest: float, hottest: float, mass: float, knots: int = 64
    ) -> "Transport":
        """Tabulate, to third order, what cross sections give.

        Raises:
            InputError: the cross sections do not serve these temperatures.
        """
        ends = math.log(coldest), math.log(hottest)
        t = torch.linspace(*ends, knots, dtype=torch.float64).exp()
        values = transport(found, t, mass)
        return Transport(
            coldest, hottest, spline(values.viscosity.log()), spline(values.prandtl)
        )

    @property
    def knots(self) -> Tensor:
        """Temperatures of the knots."""
        ends = math.log(self.coldest), math.log(self.hottest)
        return torch.linspace(*ends, len(self.viscosity) + 1, dtype=torch.float64).exp()

    def with_covariance(self, covariance: Tensor, jacobian: Tensor) -> "Transport":
        """Return it with the covariance that follows from that of parameters.

        Args:
            covariance: ``[parameters, parameters]`` of the potential.
            jacobian: ``[knots, parameters]``, derivatives of ``ln mu``.
        """
        return replace(self, covariance=jacobian @ covariance @ jacobian.T)

    def mu(self, temperature: Tensor) -> Tensor:
        """Return the viscosity.

        Raises:
            InputError: a temperature outside the table.
        """
        return self._at(self.viscosity, temperature).exp()

    def number(self, temperature: Tensor) -> Tensor:
        """Return the Prandtl number.

        Raises:
            InputError: a temperature outside the table.
        """
        return self._at(self.prandtl, temperature)

    def exponent(self, temperature: Tensor) -> Tensor:
        """Return ``d ln mu / d ln T``."""
        c = self.viscosity
        slopes = torch.stack([c[:, 1], 2 * c[:, 2], 3 * c[:, 3], 0 * c[:, 3]], 1)
        per_knot = len(c) / math.log(self.hottest / self.coldest)
        return self._at(slopes, temperature) * per_knot

    def error(self, temperature: Tensor) -> Tensor:
        """Return the relative standard error of the viscosity, linear between knots.

        Raises:
            InputError: the covariance is not known.
        """
        if self.covariance is None:
            raise InputError("transport: the covariance of the potential is not known")
        i, x = self._place(temperature)
        c = self.covariance
        square = (1 - x) ** 2 * c[i, i] + 2 * x * (1 - x) * c[i, i + 1]
        return (square + x**2 * c[i + 1, i + 1]).clamp(min=0).sqrt()

    def _place(self, temperature: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (float(x) for x in temperature.detach().aminmax())
        slack = 1e-9
        if not (self.coldest * (1 - slack) <= low and high <= self.hottest * (1 + slack)):
            raise InputError(
                f"temperature {low:g} to {high:g}: the transport table serves "
                f"{self.coldest:g} to {self.hottest:g}"
            )
        count = len(self.viscosity)
        at = (temperature / self.coldest).log() * (
            count / math.log(self.hottest / self.coldest)
        )
        i = at.detach().long().clamp(0, count - 1)
        return i, at - i

    def _at(self, table: Tensor, temperature: Tensor) -> Tensor:
        i, x = self._place(temperature)
        c = table[i]
        return ((c[..., 3] * x + c[..., 2]) * x + c[..., 1]) * x + c[..., 0]


def spline(values: Tensor) -> Tensor:
    """Return the cubic spline ``[n - 1, 4]`` of values at equal distances of 1.

    Its second derivative is a straight line over the first, and the last, two intervals.
    """
    n = len(values)
    matrix = 4 * torch.eye(n, dtype=values.dtype)
    matrix += torch.diag(torch.ones(n - 1, dtype=values.dtype), 1)
    matrix += torch.diag(torch.ones(n - 1, dtype=values.dtype), -1)
    end = torch.tensor([1.0, -2.0, 1.0], dtype=values.dtype)
    matrix[0], matrix[-1] = 0.0, 0.0
    matrix[0, :3], matrix[-1, -3:] = end, end
    bends = torch.nn.functional.pad(
        6 * (values[2:] - 2 * values[1:-1] + values[:-2]), (1, 1)
    )
    m = torch.linalg.solve(matrix, bends)
    a, b = m[:-1], m[1:]
    first = values.diff() - (2 * a + b) / 6
    return torch.stack([values[:-1], first, a / 2, (b - a) / 6], 1)


__all__ = [
    "Coefficients",
    "Transport",
    "integral",
    "reduced_integral",
    "spline",
    "transport",
    "viscosity",
]
