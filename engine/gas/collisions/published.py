"""Pair potentials of noble gases from quantum chemistry, as published; kelvin, angstrom."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...units import BOHR_ANGSTROM
from .pairs import Pair, Table


def damped(order: int, x: Tensor) -> Tensor:
    """Return Tang and Toennies's ``f_n = 1 - e^-x sum_{k<=n} x^k/k!``.

    The remainder of the exponential series is summed where ``x`` is small, for the
    difference would lose all digits there.
    """
    small = x.clamp(max=float(order) + 1)
    term = small ** (order + 1) / math.factorial(order + 1)
    rest = torch.zeros_like(x)
    for k in range(order + 2, order + 60):
        rest = rest + term
        term = term * small / k
    series = torch.exp(-small) * rest
    term, total = torch.ones_like(x), torch.ones_like(x)
    for k in range(1, order + 1):
        term = term * x / k
        total = total + term
    return torch.where(x < order + 1, series, 1 - torch.exp(-x) * total)


def _helium(r: Tensor) -> Tensor:
    R = r / BOHR_ANGSTROM
    core = torch.exp(-3.64890303652830 * R) * (
        -25.4701669416621 + 269.244425630616 * R - 56.3879970402079 * R**2
    )
    shell = torch.exp(-2.36824871743591 * R) * (38.7957487310071 - 2.76577136772754 * R)
    dispersion = _sum(R, 4.09423805117871, _HELIUM)
    return 315774.65 * (core + shell - dispersion)


_HELIUM = (
    (3, 5.77235e-7), (4, -3.5322e-5), (5, 1.377841e-6), (6, 1.461830), (8, 14.12350),
    (10, 183.7497), (11, -76.74), (12, 3372.0), (13, -3806.0), (14, 85340.0),
    (15, -170700.0), (16, 2.86e6),
)  # fmt: skip
"""n, C_n in hartree bohr^n."""


def _argon(r: Tensor) -> Tensor:
    R = 0.1 * r
    wall = 4.61330146e7 * torch.exp(
        -29.8337630 * R - 9.71208881 * R**2 + 0.0275206827 / R - 0.0101489050 / R**2
    )
    outer = wall - _sum(R, 40.2517211, _ARGON)
    inner = 9.36167467e5 / R * torch.exp(-21.5969557 * R)
    return torch.where(R < 0.4 * 0.376182, inner, outer)


_ARGON = (
    (6, 0.442812017), (8, 0.0326707684), (10, 2.45656537e-3), (12, 1.88246247e-4),
    (14, 1.47012192e-5), (16, 1.17006343e-6),
)  # fmt: skip
"""n, C_n in K nm^n."""


def _sum(R: Tensor, range_: float, terms: Sequence[tuple[int, float]]) -> Tensor:
    return sum((damped(n, range_ * R) * c / R**n for n, c in terms), torch.zeros_like(R))


@dataclass(frozen=True)
class Published:
    """One published potential.

    Attributes:
        symbol: chemical symbol.
        mass: amu.
        pair: energy in K at a distance in angstrom.
        bosons: spin of the nucleus is zero, so that atoms are identical bosons.
        smallest: angstrom; below, the form is not meant to be used.
        source: where it is published.
    """

    symbol: str
    mass: float
    pair: Pair
    bosons: bool
    smallest: float
    source: str

    def table(self) -> Table:
        """Return it on knots, up to 60 angstrom."""
        return Table.of(self.pair, self.smallest, 60.0)


PUBLISHED = {
    "He": Published(
        "He", 4.002602, _helium, True, 0.30,
        "Przybytek, Cencek, Komasa, Lach, Jeziorski, Szalewicz, Phys. Rev. Lett. 104, "
        "183003 (2010); Cencek et al., J. Chem. Phys. 136, 224303 (2012)",
    ),
    "Ar": Published(
        "Ar", 39.948, _argon, True, 0.45,
        "Jaeger, Hellmann, Bich, Vogel, Mol. Phys. 107, 2181 (2009), 108, 105 (2010)",
    ),
}  # fmt: skip

__all__ = ["PUBLISHED", "Published", "damped"]
