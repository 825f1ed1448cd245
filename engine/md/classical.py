"""Potentials with a formula: Lennard-Jones and Stillinger-Weber."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...models.potentials.sums import COULOMB
from .. import runtime
from ..kernels import many_body, pair
from ..kernels.types import simd
from .neighbours import LANES, Neighbours
from .potential import ForcesAlone
from .state import Interaction, ParticleState


def plain(epsilon: Tensor, sigma: Tensor, cutoff: float) -> Tensor:
    """The energy jumps to zero at the cutoff: no offset."""
    return torch.zeros_like(epsilon)


def shifted(epsilon: Tensor, sigma: Tensor, cutoff: float) -> Tensor:
    """The energy is continuous at the cutoff: the offset is U(cutoff)."""
    s6 = (sigma / cutoff) ** 6
    return 4 * epsilon * (s6 * s6 - s6)


@dataclass(frozen=True)
class LennardJones:
    """U(r) = 4 eps ((sigma/r)^12 - (sigma/r)^6) - offset below the cutoff, else 0.

    Unlike pairs by Lorentz and Berthelot: arithmetic sigma, geometric epsilon.

    Attributes:
        epsilon: well depth of each species, eV.
        sigma: zero of U for each species, angstrom.
        cutoff: angstrom.
        species: chemical symbols.
        offset: :func:`plain` or :func:`shifted`, or any function of the same arguments.
    """

    epsilon: tuple[float, ...]
    sigma: tuple[float, ...]
    cutoff: float
    species: tuple[str, ...]
    offset: Callable[[Tensor, Tensor, float], Tensor] = shifted

    def table(self, like: Tensor) -> Tensor:
        """``[1, species, species, 5]``: 4 eps sigma^12 and ^6, cutoff^2, offset, 0."""
        return _lennard_jones_table(self, like.dtype, like.device)

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces and virial of every system."""
        if len(self.species) == 1:
            forces, sums = self._by_blocks(state, neighbours, True)
            # sums over both atoms of a pair: of energies, and of forces over -6 r
            total = neighbours.layout.of_blocks(sums.double().sum(1).view(-1, 7))
            energy, virial = 0.5 * total[:, :1], 3.0 * total[:, 1:]
            return gathered(torch.cat([energy, virial], 1), forces)
        runtime.start(state.positions.device)
        places = neighbours.places(state.positions, state.system, state.cell)
        forces = torch.empty_like(places[: state.atoms])
        partial = neighbours.layout.partial(7)
        pair.k_lennard_jones(
            places, neighbours.home, neighbours.atom, neighbours.slots, neighbours.rows,
            state.species, neighbours.parent, self.table(places),
            neighbours.layout.chunks, forces, partial, False,
        )  # fmt: skip
        return gathered(neighbours.layout.total(partial), forces)

    def forces(self, state: ParticleState, neighbours: Neighbours) -> Tensor:
        """Forces alone."""
        if len(self.species) > 1:
            return self(state, neighbours).forces
        return self._by_blocks(state, neighbours, False)[0]

    def _by_blocks(
        self, state: ParticleState, neighbours: Neighbours, totals: bool
    ) -> tuple[Tensor, Tensor]:
        """Return forces, and the ``sums`` of :func:`.pair.k_lennard_jones_blocks`."""
        runtime.start(state.positions.device)
        # the search for lists uses the same room, before the places
        blocks, lists = neighbours.layout.blocks, neighbours.blocks
        places = neighbours.places(
            state.positions, state.system, state.cell, neighbours.room
        )
        forces = runtime.room(places, state.atoms, 3)
        sums = places.new_empty(7 * len(blocks) if totals else 1, LANES)
        with simd():
            pair.k_lennard_jones_blocks(
                places, neighbours.home, neighbours.atom, blocks, lists.begin, lists.slots,
                self.table(places)[0], forces, sums, LANES, totals,
            )  # fmt: skip
        return forces, sums


@lru_cache(maxsize=64)
def _lennard_jones_table(
    potential: LennardJones, dtype: torch.dtype, device: torch.device
) -> Tensor:
    eps = torch.tensor(potential.epsilon, dtype=torch.float64)
    sig = torch.tensor(potential.sigma, dtype=torch.float64)
    e = (eps[:, None] * eps[None, :]).sqrt()
    s = (sig[:, None] + sig[None, :]) / 2
    columns = [
        4 * e * s**12,
        4 * e * s**6,
        torch.full_like(e, potential.cutoff**2),
        potential.offset(e, s, potential.cutoff),
        torch.zeros_like(e),
    ]
    return torch.stack(columns, -1)[None].to(device, dtype).contiguous()


@dataclass(frozen=True)
class StillingerWeber:
    """Two- and three-body potential of tetrahedral semiconductors.

    E = sum over pairs of A eps (B (sigma/r)^p - (sigma/r)^q) exp(sigma / (r - a sigma))
    + sum over angles of lambda eps (cos theta + 1/3)^2 h(r) h(r'), with
    h(r) = exp(gamma sigma / (r - a sigma)). The default numbers are silicon's.

    Reference: F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985), equations
    2.3 to 2.5, with epsilon fitted to the cohesive energy 4.3363 eV.
    """

    species: tuple[str, ...] = ("Si",)
    epsilon: float = 2.1683
    sigma: float = 2.0951
    a: float = 1.80
    lambda_: float = 21.0
    gamma: float = 1.20
    A: float = 7.049556277
    B: float = 0.6022245584
    p: float = 4.0
    q: float = 0.0

    @property
    def cutoff(self) -> float:
        """Range a sigma, angstrom."""
        return self.a * self.sigma

    def table(self, like: Tensor) -> Tensor:
        """The numbers in the kernel's order."""
        return like.new_tensor(
            [
                self.epsilon, self.sigma, self.cutoff, self.lambda_, self.gamma,
                self.A, self.B, self.p, self.q,
            ]
        )  # fmt: skip

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces and virial of every system."""
        runtime.start(state.positions.device)
        places = neighbours.places(state.positions, state.system, state.cell)
        forces = torch.empty_like(places[: state.atoms])
        moments = places.new_empty(state.atoms, 11)
        partial, table = neighbours.layout.partial(7), self.table(places)
        many_body.k_stillinger_weber_moments(
            places, neighbours.home, neighbours.slots, neighbours.rows, table, moments
        )
        many_body.k_stillinger_weber(
            places, neighbours.home, neighbours.atom, neighbours.row, neighbours.parent,
            neighbours.slots, neighbours.rows, table, moments, neighbours.layout.chunks,
            forces, partial,
        )  # fmt: skip
        return gathered(neighbours.layout.total(partial), forces)


def gathered(sums: Tensor, forces: Tensor) -> Interaction:
    """Make an interaction of ``sums [systems, 7]`` = energy, virial xx yy zz xy xz yz."""
    return Interaction(sums[:, 0].contiguous(), forces, symmetric(sums[:, 1:]))


def symmetric(six: Tensor) -> Tensor:
    """Make matrices ``[systems, 3, 3]`` of ``[systems, 6]`` = xx yy zz xy xz yz."""
    xx, yy, zz, xy, xz, yz = six.unbind(1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], 1).reshape(-1, 3, 3)


@dataclass(frozen=True)
class Sum:
    """The sum of potentials over one list of species, for example a core and a network."""

    terms: tuple[Callable[[ParticleState, Neighbours], Interaction], ...]
    cutoff: float
    species: tuple[str, ...]

    @property
    def members(self) -> int:
        """Size of the largest committee among the terms."""
        return max(getattr(term, "members", 1) for term in self.terms)

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Add all terms up; the deviation is that of the terms that have one."""
        parts = [term(state, neighbours) for term in self.terms]
        deviations = [part.deviation for part in parts if part.deviation.numel()]
        return Interaction(
            torch.stack([part.energy.double() for part in parts]).sum(0),
            torch.stack([part.forces for part in parts]).sum(0),
            torch.stack([part.virial.double() for part in parts]).sum(0),
            torch.stack(deviations).sum(0) if deviations else torch.empty(0),
        )

    def forces(self, state: ParticleState, neighbours: Neighbours) -> Tensor:
        """Forces alone."""
        parts = [
            term.forces(state, neighbours)
            if isinstance(term, ForcesAlone)
            else term(state, neighbours).forces
            for term in self.terms
        ]
        return torch.stack(parts).sum(0)


@dataclass(frozen=True)
class Zbl:
    """The universal repulsion of Ziegler, Biersack and Littmark, switched off smoothly.

    U(r) = w(r) Z Z' e^2 / (4 pi eps0 r) phi(r / a), a = 0.46850 / (Z^0.23 + Z'^0.23) with
    lengths in angstrom; w is 1 below ``inner``, a quintic, and 0 beyond ``outer``. Under a
    network it closes the holes at distances that no training data reach.

    Attributes:
        charges: atomic number of each species.
        inner: angstrom.
        outer: angstrom.
        species: chemical symbols.

    Reference: J. F. Ziegler, J. P. Biersack and U. Littmark, The Stopping and Range of
    Ions in Solids (1985), equations 2-72 to 2-74.
    """

    charges: tuple[float, ...]
    inner: float
    outer: float
    species: tuple[str, ...]

    @property
    def cutoff(self) -> float:
        """Range, angstrom."""
        return self.outer

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces and virial of every system."""
        runtime.start(state.positions.device)
        places = neighbours.places(state.positions, state.system, state.cell)
        forces = torch.empty_like(places[: state.atoms])
        partial = neighbours.layout.partial(7)
        pair.k_zbl(
            places, neighbours.home, neighbours.atom, neighbours.slots, neighbours.rows,
            state.species, neighbours.parent, places.new_tensor(self.charges),
            places.new_tensor([self.inner, self.outer, COULOMB]),
            neighbours.layout.chunks, forces, partial,
        )  # fmt: skip
        return gathered(neighbours.layout.total(partial), forces)
