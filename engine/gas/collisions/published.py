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


@dataclass(frozen=True)
class TangToennies:
    """``A exp(a_1 R + a_2 R^2 + b_1 / R + b_2 / R^2) - sum_n f_2n(b R) C_2n / R^2n``.

    Inside ``inner`` (nm) it continues as ``S / R exp(-s R)``: the form turns over there.
    Coefficients that are not given follow from ``C_2n = C_2n-6 (C_2n-2 / C_2n-4)^3``.
    """

    wall: tuple[float, float, float, float, float]
    """A (K), a_1, a_2, b_1, b_2 (nm)."""
    range_: float
    """b, 1/nm."""
    dispersion: tuple[float, ...]
    """C_6, C_8, ... in K nm^n."""
    inside: tuple[float, float]
    """S in K nm, s in 1/nm."""
    inner: float
    """nm."""

    @property
    def terms(self) -> tuple[tuple[int, float], ...]:
        """n, C_n up to C_16."""
        c = list(self.dispersion)
        while len(c) < 6:
            c.append(c[-3] * (c[-1] / c[-2]) ** 3)
        return tuple(zip(range(6, 18, 2), c, strict=True))

    def __call__(self, r: Tensor) -> Tensor:
        """Return K at angstrom."""
        R = 0.1 * r
        A, a1, a2, b1, b2 = self.wall
        outer = A * torch.exp(a1 * R + a2 * R**2 + b1 / R + b2 / R**2)
        outer = outer - _sum(R, self.range_, self.terms)
        strength, slope = self.inside
        return torch.where(self.inner > R, strength / R * torch.exp(-slope * R), outer)


_NEON = TangToennies(
    (4.02915058383e7, -42.8654039586, -3.33818674327, -0.0534644860719, 5.01774999419e-3),
    49.2438731676,
    (4.40676750157e-2, 1.64892507701e-3, 7.90473640524e-5, 4.85489170103e-6,
     3.82012334054e-7, 3.85106552963e-8),
    (2.36770343e6, 39.3124973),
    0.4 * 0.30894556,
)  # fmt: skip
_ARGON = TangToennies(
    (4.61330146e7, -29.8337630, -9.71208881, 0.0275206827, -0.0101489050),
    40.2517211,
    (0.442812017, 0.0326707684, 2.45656537e-3, 1.88246247e-4, 1.47012192e-5,
     1.17006343e-6),
    (9.36167467e5, 21.5969557),
    0.4 * 0.376182,
)  # fmt: skip
_KRYPTON = TangToennies(
    (3.200711798e7, -24.30565544, -14.35536209, -0.04532273868, 0.0),
    27.86344368,
    (0.8992209265, 0.07316713603, 7.835488511e-3),
    (8.268005465e5, 16.82493666),
    0.3 * 0.4015802,
)
_XENON = TangToennies(
    (5.79317071e7, -20.8311994, -14.7746919, -0.289687722, 0.0258976595),
    24.4337880,
    (2.00298034, 0.199130481, 0.0286841040),
    (4.18081481e6, 23.8954061),
    0.3 * 0.437798,
)


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
        dispersion: C_6, C_8, C_10 in hartree bohr^n.
        source: where it is published.
    """

    symbol: str
    mass: float
    pair: Pair
    bosons: bool
    smallest: float
    dispersion: tuple[float, float, float]
    source: str

    def table(self) -> Table:
        """Return it on knots, up to 60 angstrom."""
        return Table.of(self.pair, self.smallest, 60.0)


def _atomic(form: TangToennies) -> tuple[float, float, float]:
    """Return C_6, C_8, C_10 in hartree bohr^n."""
    nm = 10 / BOHR_ANGSTROM
    c6, c8, c10 = (c * nm**n / _HARTREE for n, c in form.terms[:3])
    return c6, c8, c10


_HARTREE = 315775.024804
"""Kelvin (CODATA 2018)."""

PUBLISHED = {
    "He": Published(
        "He", 4.002602, _helium, True, 0.30, (1.461830, 14.12350, 183.7497),
        "Przybytek, Cencek, Komasa, Lach, Jeziorski, Szalewicz, Phys. Rev. Lett. 104, "
        "183003 (2010); Cencek et al., J. Chem. Phys. 136, 224303 (2012)",
    ),
    "Ne": Published(
        "Ne", 20.1797, _NEON, True, 0.50, _atomic(_NEON),
        "Bich, Hellmann, Vogel, Mol. Phys. 106, 813 (2008)",
    ),
    "Ar": Published(
        "Ar", 39.948, _ARGON, True, 0.45, _atomic(_ARGON),
        "Jaeger, Hellmann, Bich, Vogel, Mol. Phys. 107, 2181 (2009), 108, 105 (2010)",
    ),
    "Kr": Published(
        "Kr", 83.798, _KRYPTON, False, 0.50, _atomic(_KRYPTON),
        "Jaeger, Hellmann, Bich, Vogel, J. Chem. Phys. 144, 114304 (2016)",
    ),
    "Xe": Published(
        "Xe", 131.293, _XENON, False, 0.60, _atomic(_XENON),
        "Hellmann, Jaeger, Bich, J. Chem. Phys. 147, 034304 (2017)",
    ),
}  # fmt: skip

__all__ = ["PUBLISHED", "Published", "TangToennies", "damped"]
