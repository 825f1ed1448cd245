"""Spin Hamiltonians on rings and squares, each as diagonal part plus a set of flips."""

import math
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Gt, Len
from torch import Tensor

from ...models.parts import part
from . import references

Shape = Annotated[tuple[Annotated[int, Ge(1)], ...], Len(1, 2)]

EXACT_SITES = 16
"""Up to this many sites the ground state is found by sparse diagonalisation."""


def bonds(shape: tuple[int, ...]) -> Tensor:
    """Return the nearest-neighbour bonds ``[bonds, 2]`` of a periodic lattice."""
    site = torch.arange(math.prod(shape)).view(shape)
    pairs = [
        torch.stack([site.flatten(), site.roll(-1, axis).flatten()], -1)
        for axis in range(len(shape))
    ]
    return torch.cat(pairs)


def diagonals(shape: tuple[int, ...]) -> Tensor:
    """Return the second-neighbour bonds ``[bonds, 2]`` of a periodic ring or square."""
    site = torch.arange(math.prod(shape)).view(shape)
    moves = [(-2,)] if len(shape) == 1 else [(-1, -1), (-1, 1)]
    axes = tuple(range(len(shape)))
    return torch.cat(
        [torch.stack([site.flatten(), site.roll(m, axes).flatten()], -1) for m in moves]
    )


def _refuse_short(shape: tuple[int, ...]) -> None:
    """Refuse an axis of fewer than three sites, whose two bonds would coincide."""
    if any(side < 3 for side in shape):
        raise ValueError(f"shape {list(shape)}: every side needs at least 3 sites")


class _Lattice:
    """What models of spins on a lattice of a ``shape`` share."""

    shape: tuple[int, ...]

    def hamiltonian(self) -> Self:
        """Return the model, which is its own Hamiltonian."""
        return self

    @property
    def sites(self) -> int:
        """Number of spins."""
        return math.prod(self.shape)

    @cached_property
    def bonds(self) -> Tensor:
        """Bonds ``[bonds, 2]``."""
        return bonds(self.shape)


@part
class Ising(_Lattice):
    """Transverse-field Ising model ``H = - J sum_bonds sz sz - h sum_i sx``, periodic."""

    shape: Shape
    """Sites along each axis: [n] for a ring, [n, n] for a square."""
    field: Annotated[float, Gt(0)] = 1.0
    """Transverse field h."""
    coupling: Annotated[float, Gt(0)] = 1.0
    """Ferromagnetic coupling J."""
    kind: Literal["ising"] = "ising"
    space: ClassVar[str] = "lattice"

    def __post_init__(self) -> None:
        _refuse_short(self.shape)

    @cached_property
    def flips(self) -> Tensor:
        """Sites that a term flips together: one each, ``[sites, 1]``."""
        return torch.arange(self.sites)[:, None]

    def diagonal(self, spins: Tensor) -> Tensor:
        """Return the diagonal energy ``[batch]``."""
        return -self.coupling * (
            spins[:, self.bonds[:, 0]] * spins[:, self.bonds[:, 1]]
        ).sum(1)

    def amplitudes(self, spins: Tensor) -> Tensor:
        """Return the matrix element of every flip, ``[batch, flips]``."""
        return torch.full_like(spins, -self.field)

    def start(self, walkers: int, rng: torch.Generator) -> Tensor:
        """Return random spins ``[walkers, sites]`` of +-1."""
        draw = torch.randint(2, (walkers, self.sites), generator=rng)
        return (2 * draw - 1).double()

    @cached_property
    def exact(self) -> float | None:
        """The exact ground-state energy: any ring, or a lattice of at most 16 sites."""
        if len(self.shape) == 1 and self.sites % 2 == 0:
            return references.ising_ring(self.sites, self.field, self.coupling)
        return ground_energy(self) if self.sites <= EXACT_SITES else None

    @property
    def exact_correlation(self) -> list[float] | None:
        """The exact ``<sz sz>`` at distances 1 ... n / 2 along a ring."""
        if len(self.shape) > 1 or self.sites % 2:
            return None
        return references.ising_ring_correlation(self.sites, self.field, self.coupling)


@part
class Heisenberg(_Lattice):
    """Antiferromagnet in the sector of zero magnetisation, frustrated or not.

    ``H = sum_first S_i . S_j + J2 sum_second S_i . S_j`` over bonds of first and of second
    neighbours. On a bipartite lattice the rotation of one sublattice makes the off-diagonal
    element of every first bond ``-1/2`` and, without second ones, the ground state positive
    (Marshall, Proc. R. Soc. A 232, 48 (1955)). Second bonds join sites of one sublattice
    and keep ``+J2/2``: a positive wavefunction is then an upper bound, close while J2 is
    small (Richter, Ivanov, Retzlaff, Europhys. Lett. 25, 545 (1994)).
    """

    shape: Shape
    """Sites along each axis, all even (the sign rule of Marshall needs two sublattices)."""
    second: Annotated[float, Ge(0)] = 0.0
    """Coupling J2 of second neighbours over that of first ones; it frustrates."""
    kind: Literal["heisenberg"] = "heisenberg"
    space: ClassVar[str] = "lattice"

    def __post_init__(self) -> None:
        _refuse_short(self.shape)
        if any(side % 2 for side in self.shape):
            raise ValueError(
                f"shape {list(self.shape)}: every side must be even (two sublattices)"
            )
        if self.second and len(self.shape) == 1 and self.sites < 6:
            raise ValueError(
                f"shape {list(self.shape)}: second neighbours need a ring of at least 6"
            )

    @cached_property
    def flips(self) -> Tensor:
        """Pairs of sites that a term flips together, ``[bonds, 2]``."""
        if not self.second:
            return self.bonds
        return torch.cat([self.bonds, diagonals(self.shape)])

    def _products(self, spins: Tensor) -> Tensor:
        return spins[:, self.flips[:, 0]] * spins[:, self.flips[:, 1]]

    def diagonal(self, spins: Tensor) -> Tensor:
        """Return the diagonal energy ``[batch]``."""
        products, first = self._products(spins), len(self.bonds)
        total = products[:, :first].sum(1)
        if self.second:
            total = total + self.second * products[:, first:].sum(1)
        return 0.25 * total

    def amplitudes(self, spins: Tensor) -> Tensor:
        """Return the matrix element of every flip: 0 where the two are parallel."""
        elements = -0.25 * (1 - self._products(spins))
        if self.second:  # these sites are of one sublattice, whose rotation cancels
            elements[:, len(self.bonds) :] *= -self.second
        return elements

    def start(self, walkers: int, rng: torch.Generator) -> Tensor:
        """Return spins of zero total, in random order, ``[walkers, sites]``."""
        order = torch.rand(walkers, self.sites, generator=rng).argsort(1)
        return torch.where(order < self.sites // 2, 1.0, -1.0).double()

    @cached_property
    def exact(self) -> float | None:
        """The exact ground-state energy: at most 16 sites, or a ring of a closed form."""
        if len(self.shape) == 1 and not self.second:
            return references.heisenberg_ring(self.sites)
        if len(self.shape) == 1 and self.second == 0.5:
            return references.majumdar_ghosh(self.sites)
        return ground_energy(self) if self.sites <= EXACT_SITES else None

    @property
    def exact_correlation(self) -> list[float] | None:
        """No closed form at any distance: None."""
        return None


Lattice = Ising | Heisenberg


def correlation(spins: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return ``<s_i s_(i+r)>`` at r = 1 ... half of the first axis, and standard errors.

    Args:
        spins: independent samples ``[walkers, sites]`` of +-1.
        shape: sites along each axis, periodic.
    """
    grid = spins.double().view(-1, *shape)
    each = torch.stack(
        [(grid * grid.roll(-r, 1)).flatten(1).mean(1) for r in range(1, shape[0] // 2 + 1)]
    )
    return each.mean(1), each.std(1) / math.sqrt(each.shape[1])


def ground_energy(lattice: Lattice) -> float:
    """Return the ground-state energy by sparse diagonalisation of all ``2^n`` states.

    The first vector is random: one of some symmetry would never leave it.
    """
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import eigsh

    count = 2**lattice.sites
    state = torch.arange(count)
    spins = 1.0 - 2.0 * ((state[:, None] >> torch.arange(lattice.sites)) & 1).double()
    matrix = diags(lattice.diagonal(spins).numpy())
    elements = lattice.amplitudes(spins)
    for number, sites in enumerate(lattice.flips.tolist()):
        other = state ^ sum(1 << site for site in sites)
        values = elements[:, number].numpy()
        matrix = matrix + coo_matrix(
            (values, (state.numpy(), other.numpy())), shape=(count, count)
        )
    start = np.random.default_rng(1).normal(size=count)
    found = eigsh(matrix.tocsr(), k=1, which="SA", v0=start, return_eigenvectors=False)
    return float(found[0])
