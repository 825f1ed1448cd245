"""Properties of the dilute gas of a pair potential, with derivatives and error bars."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models.potentials.pair import LearnedPair
from ..gas.collisions.pairs import Pair, Table
from ..gas.collisions.quantum import with_quantum
from ..gas.collisions.scattering import HIGH, CrossSections, scatter
from ..gas.collisions.transport import Coefficients, transport
from ..gas.collisions.virial import second_virial
from ..units import ATOMIC_MASS_KG, BOLTZMANN_EV, ELEMENTARY_CHARGE

LARGEST = 60.0
"""Angstrom: pairs farther apart do not turn each other."""
KELVIN = ATOMIC_MASS_KG * BOLTZMANN_EV * ELEMENTARY_CHARGE
"""amu kelvin in kg J."""
VISCOSITY = 1e26 * KELVIN**0.5
"""Viscosity in micropascal seconds of sqrt(amu K) / angstrom^2."""


@dataclass(frozen=True)
class Atoms:
    """What atoms are, besides their potential.

    Attributes:
        symbol: chemical symbol.
        mass: amu.
        bosons: whether they are identical bosons of spin zero.
    """

    symbol: str
    mass: float
    bosons: bool = True

    @property
    def gas_constant(self) -> float:
        """K / m in J / (kg K)."""
        return BOLTZMANN_EV * ELEMENTARY_CHARGE / (self.mass * ATOMIC_MASS_KG)


@dataclass(frozen=True)
class Collisions:
    """Scattering of one potential between two temperatures.

    Attributes:
        atoms: masses and statistics.
        table: the potential on knots.
        sections: cross sections, with the quantum ratio where it was asked for.
    """

    atoms: Atoms
    table: Table
    sections: CrossSections

    @staticmethod
    def of(
        pair: Pair,
        atoms: Atoms,
        smallest: float,
        coldest: float,
        hottest: float,
        quantum: bool = True,
        like: "Collisions | None" = None,
    ) -> "Collisions":
        """Return the collisions of ``pair``.

        Args:
            pair: K of angstrom.
            atoms: masses and statistics.
            smallest: angstrom; the potential is known from there on.
            coldest: K.
            hottest: K.
            quantum: phase shifts for slow atoms.
            like: take the quantum ratio of these collisions of a potential near by.

        Raises:
            InputError: collisions come closer than ``smallest``.
        """
        table = Table.of(pair, smallest, LARGEST)
        found = scatter(table, coldest, hottest)
        if not quantum:
            return Collisions(atoms, table, found)
        if like is not None:
            classical = scatter(like.table, coldest, hottest).sections.detach()
            ratio = like.sections.sections.detach() / classical
            return Collisions(atoms, table, replace(found, sections=found.sections * ratio))
        return Collisions(
            atoms, table, with_quantum(found, table, atoms.mass, atoms.bosons)
        )

    def coefficients(self, temperatures: Tensor, order: int = 3) -> Coefficients:
        """Return viscosity (micropascal s) and conductivity over k/m at K."""
        raw = transport(self.sections, temperatures, self.atoms.mass, order)
        return replace(
            raw,
            viscosity=VISCOSITY * raw.viscosity,
            conductivity=VISCOSITY * raw.conductivity,
        )

    def conductivity(self, temperatures: Tensor, order: int = 3) -> Tensor:
        """Return the heat conductivity in mW / (m K)."""
        over_k_m = self.coefficients(temperatures, order).conductivity
        return 1e-3 * self.atoms.gas_constant * over_k_m

    def virial(self, temperatures: Tensor) -> Tensor:
        """Return the second virial coefficient in cm^3/mol."""
        return second_virial(self.table, temperatures, self.atoms.mass)


def innermost(pair: LearnedPair, hottest: float) -> float:
    """Return the distance (angstrom) that collisions at ``hottest`` K ask for.

    Inside the first label the posterior widens; it is vouched for half a kernel inside it.

    Raises:
        ValueError: the hottest collisions come closer.
    """
    r = torch.tensor([pair.smallest], dtype=torch.float64)
    highest = float(pair(r))
    if HIGH * hottest > highest:
        raise ValueError(
            f"temperature {hottest:g} K: its collisions reach {HIGH * hottest:.4g} K, the "
            f"labels vouch for {highest:.4g} K (at {pair.smallest:.3g} angstrom); label a "
            "smaller separation"
        )
    return pair.smallest


@dataclass(frozen=True)
class Perturbation:
    """The posterior of a learned pair as a few numbers of unit variance.

    ``V(r; a) = V(r) + s(r) sum_k a_k phi_k(r)`` with the largest principal directions
    phi_k of the open part of the posterior.

    Attributes:
        pair: the posterior mean.
        knots: ``[n]`` angstrom.
        modes: ``[n, modes]`` relative amplitude at the knots.
    """

    pair: LearnedPair
    knots: Tensor
    modes: Tensor

    @staticmethod
    def of(pair: LearnedPair, farthest: float, keep: float = 1e-3) -> "Perturbation":
        """Return the directions whose standard deviation is above ``keep`` of the first."""
        spacing = 0.5 * pair.baseline.prior.length
        count = int((farthest - pair.smallest) / spacing) + 2
        knots = torch.linspace(pair.smallest, farthest, count, dtype=torch.float64)
        scale = pair.baseline.scale(knots)
        relative = pair.posterior(knots) / scale[:, None] / scale
        values, vectors = torch.linalg.eigh(relative)
        good = values > keep**2 * values[-1]
        return Perturbation(
            pair, knots, vectors[:, good] * values[good].clamp(min=0).sqrt()
        )

    def __call__(self, amplitudes: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the potential with amplitudes ``[modes]``."""
        width = self.pair.baseline.prior.length / 1.5
        gram = torch.exp(-0.5 * ((self.knots[:, None] - self.knots) / width) ** 2)
        ridge = 1e-9 * torch.eye(len(gram), dtype=gram.dtype)
        weights = torch.linalg.solve(gram + ridge, self.modes @ amplitudes)

        def energy(r: Tensor) -> Tensor:
            flat = r.reshape(-1)
            phi = torch.exp(-0.5 * ((flat[:, None] - self.knots) / width) ** 2)
            more = self.pair.baseline.scale(flat) * (phi @ weights)
            return self.pair(r) + more.reshape(r.shape)

        return energy
