r"""How two molecules of a simulated gas meet: total cross section and angle.

Units: densities of mass over a reference density, speeds in ``sqrt(R T0)``, lengths in a
reference length; a cross section is divided by the mass of a molecule, so that
``rho sigma g`` is a rate. The viscosity of the gas at the reference temperature is the
Knudsen number, ``mu = Kn`` (:mod:`..material`); it fixes the size of the molecules:

    mu = f_mu 5/16 sqrt(pi T) / (<Q_2>/2 over <Q_2> of an isotropic sigma ...),

in general ``mu = f 5/16 sqrt(pi T) 4 / O_22`` with the collision integral ``O_22`` of
:mod:`.transport`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from ...errors import InputError
from .pairs import Table
from .scattering import deflection, scatter, wall
from .transport import transport

HARD_SPHERES, POWER_LAW, TABLE = 2, 0, 1
"""Kinds of the collision kernel."""

SONINE = 1.016034
"""Viscosity of hard spheres over its first approximation, in the limit of high order
(Chapman and Cowling, section 10.21)."""


@dataclass(frozen=True)
class Molecules:
    """What the collision kernel needs.

    Attributes:
        kind: of the kernel.
        law: ``[pairs, 5]`` parameters of the kind, and of the exchange with the rotation of
            the first of a pair; all pairs of species in order, a single gas has one.
        sections: ``[pairs, energies]`` total cross section (tables only).
        angles: ``[pairs, energies, impact]`` cos chi at equally spaced ``b^2``.
        largest: of ``sigma g`` at relative speeds of a thermal gas, to begin with.
        masses: ``[species]`` over the mean; a single gas has 1.
    """

    kind: int
    law: Tensor
    sections: Tensor
    angles: Tensor
    largest: float
    masses: Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.float64))

    @property
    def mixed(self) -> bool:
        """Whether there are several species."""
        return len(self.masses) > 1

    @property
    def rotating(self) -> Tensor:
        """Which species have rotational energy, ``[species]``."""
        n = len(self.masses)
        return self.law[:, 3].reshape(n, n).diagonal() > 0

    @property
    def rotates(self) -> bool:
        """Whether any species does."""
        return bool(self.rotating.any())

    @property
    def species(self) -> Tensor:
        """What the kernels read of every species, ``[species, 2]``."""
        return torch.stack([self.masses, self.rotating.double()], 1)

    def shortest_path(self, fractions: Sequence[float]) -> float:
        """Return the shortest of the paths and times that species fly between collisions.

        Of a mixture at rest, density 1 and temperature 1; times in those of the mean mass.
        """
        m = self.masses
        thermal = (8 / math.pi * (1 / m[:, None] + 1 / m)).sqrt()
        parts = torch.tensor(fractions, dtype=torch.float64)
        rates = self._rates(thermal) @ parts
        speed = (8 / (math.pi * m)).sqrt()
        path = torch.minimum(speed / rates, math.sqrt(8 / math.pi) / rates)
        return float(path.amin())

    def _rates(self, thermal: Tensor) -> Tensor:
        """Return ``sigma g`` of all pairs at speeds ``[species, species]``.

        The section of a table is that of an isotropic one with its viscosity: most of the
        total one turns by next to nothing.
        """
        n = len(self.masses)
        if self.kind != TABLE:
            section, power = self.law[:, :2].reshape(n, n, 2).unbind(-1)
            return section * thermal ** (2 * power)
        viscous = 1.5 * self.sections * (1 - self.angles.square()).mean(2)
        # m g^2 / 2 is 4 / pi for any masses
        at = (math.log(4 / math.pi) - self.law[0, 0]) / self.law[0, 1]
        return viscous[:, round(float(at))].reshape(n, n) * thermal


def _law(*rows: Sequence[float]) -> Tensor:
    return torch.tensor([[*row, 0.0, 1.0] for row in rows], dtype=torch.float64)


def _empty() -> tuple[Tensor, Tensor]:
    return torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, 2, dtype=torch.float64)


def hard_spheres(knudsen: float, factor: float = SONINE) -> Molecules:
    """Return hard spheres with ``mu = Kn sqrt(T)``; ``factor`` 1: in first order."""
    section = factor * 5 / 16 * math.sqrt(math.pi) / knudsen
    law = _law((section, 0.5, 1.0))
    return Molecules(HARD_SPHERES, law, *_empty(), largest=6 * section)


def variable_spheres(knudsen: float, omega: float, alpha: float = 1.0) -> Molecules:
    """Return variable hard (``alpha`` 1) or soft spheres with ``mu = Kn T^omega``.

    ``sigma = s g^(1 - 2 omega)``, ``cos chi = 2 u^(1/alpha) - 1`` with u uniform (G. A.
    Bird, Molecular Gas Dynamics, 1994, sections 4.3 and 2.7; K. Koura, H. Matsumoto, Phys.
    Fluids A 3, 2459, 1991). The viscosity is the first approximation.

    Raises:
        InputError: not 1/2 <= omega <= 1, or alpha outside 1 to 3.
    """
    if not 0.5 <= omega <= 1.0:
        raise InputError(f"omega: {omega}; allowed are 0.5 (hard spheres) to 1 (Maxwell)")
    if not 1.0 <= alpha <= 3.0:
        raise InputError(f"alpha: {alpha}; allowed are 1 (hard) to 3")
    # 1 - <cos^2 chi>, 2/3 where isotropic
    share = 4 * alpha / ((alpha + 1) * (alpha + 2))
    # O_22 = share s int x^3 e^-x (2 sqrt(x))^(1 - 2 omega) dx at T = 1, g = 2 sqrt(x)
    integral = share * 2 ** (1 - 2 * omega) * math.gamma(4.5 - omega)
    section = 5 / 4 * math.sqrt(math.pi) / integral / knudsen
    law = _law((section, 1 - omega, 1 / alpha))
    return Molecules(POWER_LAW, law, *_empty(), largest=section * 6 ** (2 - 2 * omega))


@dataclass(frozen=True)
class Spheres:
    """How two molecules meet: variable hard or soft spheres.

    Attributes:
        diameter: at temperature 1, over that of the first species.
        omega: exponent of the viscosity.
        alpha: exponent of the scattering angle.
    """

    diameter: float = 1.0
    omega: float = 0.5
    alpha: float = 1.0

    def with_(self, other: "Spheres") -> "Spheres":
        """Return the usual rule for unlike molecules: arithmetic means."""
        return Spheres(
            0.5 * (self.diameter + other.diameter),
            0.5 * (self.omega + other.omega),
            0.5 * (self.alpha + other.alpha),
        )


def mixture(
    knudsen: float,
    masses: Sequence[float],
    species: Sequence[Spheres],
    pairs: Mapping[tuple[int, int], Spheres] = MappingProxyType({}),
) -> Molecules:
    r"""Return the molecules of a mixture; ``mu = Kn T^omega`` of the first species alone.

    For a pair of reduced mass m, ``sigma = pi d^2 (2 / (m g^2))^(omega - 1/2) / Gamma(5/2 -
    omega)``, and alone at temperature 1 a species has the viscosity ``5 (alpha + 1)(alpha +
    2) sqrt(m / pi) / (4 alpha (5 - 2 omega)(7 - 2 omega) d^2)`` (G. A. Bird, Molecular Gas
    Dynamics, 1994, equations 4.62 and 4.63), which fixes the largest number of them; hard
    spheres have :data:`SONINE` more.

    Args:
        knudsen: viscosity of the first species alone, at its density 1 in molecules.
        masses: over the mean mass of the gas.
        species: of like molecules.
        pairs: of unlike ones, first < second; without one the means of the two.

    Raises:
        InputError: an exponent that is not allowed.
    """
    for ball in (*species, *pairs.values()):
        variable_spheres(knudsen, ball.omega, ball.alpha)  # its refusals
    first, m = species[0], masses[0]
    hard = first.omega == 0.5 and first.alpha == 1.0
    a, powers = first.alpha, (5 - 2 * first.omega) * (7 - 2 * first.omega)
    unit = 5 * (a + 1) * (a + 2) * math.sqrt(math.pi * m) / (4 * a * powers * knudsen)
    unit *= (SONINE if hard else 1.0) / first.diameter**2
    law, largest = [], 0.0
    for i, one in enumerate(species):
        for j, other in enumerate(species):
            pair = pairs.get((min(i, j), max(i, j)), one.with_(other))
            reduced = masses[i] * masses[j] / (masses[i] + masses[j])
            section = unit * pair.diameter**2 / math.gamma(2.5 - pair.omega)
            section *= (2 / reduced) ** (pair.omega - 0.5)
            law.append((section, 1 - pair.omega, 1 / pair.alpha))
            largest = max(largest, section * (18 / reduced) ** (1 - pair.omega))
    alone = torch.tensor(list(masses), dtype=torch.float64)
    return Molecules(POWER_LAW, _law(*law), *_empty(), largest, alone)


def rotating(molecules: Molecules, collisions: Sequence[float]) -> Molecules:
    r"""Return molecules with two rotational degrees of freedom.

    In a collision one partner, with probability P, shares its rotational energy with the
    translation. With ``t = 5/2 - omega`` of the pair that leaves it on average ``1 / (1 +
    t)`` of the sum, so that near equilibrium the rotational temperature follows

        dT_r/d(collisions) = P t / (1 + t) (T - T_r),    P = (1 + t) / (t Z).

    Args:
        molecules: variable spheres.
        collisions: Z of every species, collisions of a molecule with any other in which its
            rotation relaxes; infinite: it does not rotate.

    Raises:
        InputError: the rotation would relax faster than one partner at a time allows.
    """
    n, law = len(collisions), molecules.law.clone()
    t = 2.5 - (1 - law[:, 1])
    own = torch.tensor(collisions, dtype=torch.float64).repeat_interleave(n)
    law[:, 3], law[:, 4] = (1 + t) / (t * own), 1 / t
    both = law[:, 3].reshape(n, n)
    if not bool(((both >= 0) & (both + both.T <= 1)).all()):
        raise InputError(
            f"rotation: relaxes in {min(collisions):g} collisions; at least "
            f"{float((2 * (1 + t) / t).amax()):.3g}"
        )
    return replace(molecules, law=law)


def from_potential(
    table: Table, knudsen: float, reference: float, hottest: float
) -> Molecules:
    """Return molecules of a single gas that scatter as a pair potential does.

    See :func:`from_potentials`.
    """
    return from_potentials({(0, 0): table}, (1.0,), knudsen, reference, hottest)


ROWS, IMPACTS = 64, 256
"""Energies of a table, equally spaced in their logarithm, and impact parameters of each."""
SMALLEST_ANGLE = 0.025
"""Collisions that turn by less are left out; the viscosity cross section changes by less
than its square."""


def from_potentials(
    tables: Mapping[tuple[int, int], Table],
    masses: Sequence[float],
    knudsen: float,
    reference: float,
    hottest: float,
) -> Molecules:
    """Return the molecules of a mixture whose pairs scatter as their own potentials do.

    Args:
        tables: the potential of every pair of species, first <= second.
        masses: over the mean mass of the gas.
        knudsen: viscosity of the first species alone, at its density 1 in molecules, at the
            reference temperature.
        reference: kT of temperature 1, in the unit of the potentials.
        hottest: highest temperature of the flow, over the reference.

    Raises:
        InputError: collisions of the hottest gas are not covered by a potential.
    """
    low, high = 0.01, 45.0 * hottest
    for (i, j), table in tables.items():
        if high * reference > table.highest:
            who = "" if len(masses) == 1 else f" of species {i} and {j}"
            raise InputError(
                f"temperature {hottest * reference:g}: its collisions{who} reach "
                f"{high * reference:.3g}, the potential is known up to {table.highest:.3g}"
            )
    steps = torch.linspace(math.log(low), math.log(high), ROWS, dtype=torch.float64)
    with torch.no_grad():
        found = scatter(tables[0, 0], reference, reference)
        one = torch.tensor([reference], dtype=torch.float64)
        # area per mass: the viscosity of the first gas alone must be Kn
        mu = float(transport(found, one, masses[0]).viscosity / math.sqrt(reference))
        rows = {
            pair: _table(table, steps.exp() * reference) for pair, table in tables.items()
        }
    law, sections, angles, largest = [], [], [], 0.0
    speed, thermal = 2 * torch.exp(0.5 * steps), steps.exp() < 10
    for i, one_mass in enumerate(masses):
        for j, other in enumerate(masses):
            area, cos = rows[min(i, j), max(i, j)]
            section = area * (mu / knudsen)
            law.append((float(steps[0]), float(steps[1] - steps[0]), 1.0))
            sections.append(section)
            angles.append(cos)
            slower = math.sqrt(0.5 * (1 / one_mass + 1 / other))
            largest = max(largest, float((section * speed * slower)[thermal].amax()))
    alone = torch.tensor(list(masses), dtype=torch.float64)
    return Molecules(
        TABLE, _law(*law), torch.stack(sections), torch.stack(angles), largest, alone
    )


def _table(table: Table, energies: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross section and cos chi of one potential, ``[rows]``, ``[rows, n]``."""
    rows = [
        _row(table, energy, first, IMPACTS, SMALLEST_ANGLE)
        for energy, first in zip(energies, wall(table, energies).tolist(), strict=True)
    ]
    areas, cos = zip(*rows, strict=True)
    areas = torch.tensor([math.pi * area for area in areas], dtype=torch.float64)
    return areas, torch.stack(cos)


def _row(
    table: Table, energy: Tensor, first: float, columns: int, smallest: float
) -> tuple[float, Tensor]:
    """Return the largest ``b^2`` of one energy and cos chi at equally spaced ``b^2``.

    ``first`` is ``ln r`` of its nearest approach, head on.
    """
    last = math.log(min(table.largest, 40.0 * math.exp(first)))
    t = torch.linspace(first + 1e-9, last, 6000, dtype=torch.float64)
    v = table.at(t)[0]
    square = torch.exp(2 * t) * (1 - v / energy)
    # a closest approach is reached only where no barrier farther out turns the pair back
    reached = square <= square.flip(0).cummin(0).values.flip(0) + 1e-12
    t, square = t[reached & (square >= 0)], square[reached & (square >= 0)]
    chi = deflection(table, energy.expand_as(t), t, 64)
    order = square.argsort()
    square, chi = square[order], chi[order]
    bent = torch.nonzero(chi.abs() > smallest)[:, 0]
    area = float(square[bent[-1]])
    wanted = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns * area
    i = torch.searchsorted(square, wanted).clamp(1, len(square) - 1)
    share = (wanted - square[i - 1]) / (square[i] - square[i - 1]).clamp(min=1e-300)
    return area, torch.cos(chi[i - 1] + (chi[i] - chi[i - 1]) * share.clamp(0, 1))


__all__ = [
    "HARD_SPHERES",
    "POWER_LAW",
    "SONINE",
    "TABLE",
    "Molecules",
    "Spheres",
    "from_potential",
    "from_potentials",
    "hard_spheres",
    "mixture",
    "rotating",
    "variable_spheres",
]
