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
from dataclasses import dataclass

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


__all__ = ["Coefficients", "integral", "reduced_integral", "transport", "viscosity"]
