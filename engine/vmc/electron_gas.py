"""The homogeneous electron gas in a cubic periodic cell, in hartree atomic units."""

import math
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from ...models.parts import part
from ...models.wavefunctions.electrons import Cusps, Envelope
from ...models.wavefunctions.periodic import PlaneWaves

SPLIT = 3.0
"""Width of Ewald's sum times the edge of the cell: with it both parts below end at 1e-9."""
WAVES = 20
"""Largest square of the whole numbers ``m`` of its waves ``2 pi m / L``."""
SHELLS = 60
"""The same of orbitals: 515 electrons of a spin."""


def whole_numbers(largest: int) -> Tensor:
    """Return all ``[n, 3]`` with squares up to ``largest``, shell by shell."""
    edge = torch.arange(-math.isqrt(largest), math.isqrt(largest) + 1)
    every = torch.cartesian_prod(edge, edge, edge)
    square = every.square().sum(1)
    order = torch.argsort(square, stable=True)
    return every[order][square[order] <= largest]


def closed_shells() -> list[int]:
    """Return the numbers of plane waves that fill shells: 1, 7, 19, 27, 33, 57, ..."""
    square = whole_numbers(SHELLS).square().sum(1)
    return torch.unique_consecutive(square, return_counts=True)[1].cumsum(0).tolist()


def _half(vectors: Tensor) -> Tensor:
    """Return one of each pair ``m, -m``: the one whose first number other than 0 is > 0."""
    sign = vectors @ torch.tensor([10_000, 100, 1])
    return vectors[sign > 0]


@part
class ElectronGas:
    """Electrons in a cube of edge ``L = rs (4 pi N / 3)^(1/3)`` with a uniform background.

    ``V = sum_i<j v(r_ij) + N xi / 2`` with Ewald's sum for the potential of an electron,
    its images and their background,

        v(r) = sum_R erfc(k |r + R|) / |r + R| - pi / (k^2 L^3)
               + 4 pi / L^3 sum_G exp(-G^2 / 4 k^2) cos(G.r) / G^2,

    and ``xi = lim v(r) - 1/r`` for that of its own images. The mean of ``v`` over the cell
    is zero. At the zone's centre the wavefunction is real: shells have to be closed.

    Reference: Fraser et al., Phys. Rev. B 53, 1814 (1996), section II.
    """

    rs: Annotated[float, Ge(1e-3), Le(1000)]
    """Radius in bohr of the sphere that holds one electron."""
    up: Annotated[int, Ge(1)] = 7
    """Electrons with spin up: a closed shell, 1, 7, 19, 27, 33, 57, ..."""
    down: Annotated[int, Ge(0)] = 7
    """Electrons with spin down: none, or a closed shell."""
    kind: Literal["electron_gas"] = "electron_gas"
    space: ClassVar[str] = "continuum"
    envelope: ClassVar[Envelope] = "exponential"
    bosons: ClassVar[bool] = False
    dim: ClassVar[int] = 3
    exact: ClassVar[None] = None
    source: ClassVar[str] = ""

    def __post_init__(self) -> None:
        shells = closed_shells()
        for name, count in (("up", self.up), ("down", self.down)):
            if count and count not in shells:
                near = sorted(shells, key=lambda n: abs(n - count))[:2]
                raise ValueError(
                    f"{name} = {count} leaves a shell of plane waves open; nearest closed: "
                    f"{', '.join(str(n) for n in sorted(near))}"
                )

    def hamiltonian(self) -> "ElectronGas":
        """Return the gas, which is its own Hamiltonian."""
        return self

    @property
    def electrons(self) -> int:
        """Number of electrons."""
        return self.up + self.down

    @property
    def period(self) -> float:
        """Edge of the cell in bohr."""
        return self.rs * (4 * math.pi * self.electrons / 3) ** (1 / 3)

    @property
    def positions(self) -> Tensor:
        """A corner of the cell, ``[1, 3]``: no place differs from others."""
        return torch.zeros(1, 3, dtype=torch.float64)

    @property
    def nuclear_cusps(self) -> Tensor:
        """No charge there, ``[1]``."""
        return torch.zeros(1, dtype=torch.float64)

    @property
    def cusps(self) -> Cusps:
        """How electrons meet.

        The pair factor falls to ``1 / (w r)`` far away, with the frequency ``w`` of plasma
        oscillations (Bohm and Pines, Phys. Rev. 92, 609 (1953)).
        """
        plasma = math.sqrt(3 / self.rs**3)
        return Cusps(0.5, 0.25, math.sqrt(2 / plasma))

    def orbitals(self, basis: str) -> PlaneWaves:
        """Return the lowest plane waves; there is no basis to choose."""
        del basis
        return PlaneWaves(self.period, _half(self._filled(max(self.up, self.down))))

    @property
    def mean_field(self) -> float:
        """Energy of the determinant of plane waves in hartree, the Hartree-Fock energy.

        ``sum_k k^2 / 2 - sum over k < k' of 4 pi / (L^3 |k - k'|^2) + N xi / 2``, the sums
        over those of one spin.
        """
        edge, total = self.period, 0.5 * self.electrons * self._image
        for count in (self.up, self.down):
            k = (math.tau / edge) * self._filled(count).double()
            square = (k[:, None] - k).square().sum(-1).fill_diagonal_(math.inf)
            exchange = 2 * math.pi / edge**3 * float(square.reciprocal().sum())
            total += 0.5 * float(k.square().sum()) - exchange
        return total

    def potential(self, r: Tensor) -> Tensor:
        """Return ``V [batch]`` in hartree at ``r [batch, electrons, 3]`` in bohr."""
        x = r.double() / self.period
        total = 0.5 * self.electrons * self._image * self.period + self._far(x)
        return (total + self._near(x)).to(r) / self.period

    def hops(self, r: Tensor, rng: torch.Generator) -> None:
        """Return None: the potential is local."""

    def scale(self, r: Tensor) -> Tensor:
        """Return the length on which the density changes, everywhere that of a pair."""
        return r.new_full((*r.shape[:-1], 1), self.rs)

    def start(self, walkers: int, rng: torch.Generator) -> Tensor:
        """Return ``[walkers, n, 3]`` anywhere in the cell."""
        shape = (walkers, self.electrons, 3)
        return self.period * torch.rand(shape, generator=rng, dtype=torch.float64)

    @staticmethod
    def _filled(count: int) -> Tensor:
        return whole_numbers(SHELLS)[:count]

    @cached_property
    def _images(self) -> Tensor:
        """Cells around one, ``[27, 3]`` in edges."""
        near = torch.arange(-1, 2).double()
        return torch.cartesian_prod(near, near, near)

    @cached_property
    def _waves(self) -> tuple[Tensor, Tensor]:
        """One of each pair of waves, ``[waves, 3]``, and twice their weights in ``v L``."""
        m = _half(whole_numbers(WAVES)).double()
        square = math.tau**2 * m.square().sum(1)
        return m, 8 * math.pi * torch.exp(-square / (4 * SPLIT**2)) / square

    @property
    def _image(self) -> float:
        """``xi`` in hartree."""
        far = self._images[self._images.any(1)].norm(dim=1)
        images = (torch.special.erfc(SPLIT * far) / far).sum() + self._waves[1].sum()
        own = 2 * SPLIT / math.sqrt(math.pi) + math.pi / SPLIT**2
        return (float(images) - own) / self.period

    def _near(self, x: Tensor) -> Tensor:
        """Sum over pairs of the screened potential, times the edge."""
        i, j = torch.triu_indices(self.electrons, self.electrons, 1)
        apart = x[:, i] - x[:, j]
        apart = apart - apart.round()
        distance = (apart[:, :, None] + self._images.to(x)).norm(dim=-1)
        return (torch.special.erfc(SPLIT * distance) / distance).sum((1, 2))

    def _far(self, x: Tensor) -> Tensor:
        """Sum over pairs of the waves and of the background, times the edge."""
        m, weight = (t.to(x) for t in self._waves)
        phase = math.tau * (x @ m.T)
        waves = torch.cos(phase).sum(1).square() + torch.sin(phase).sum(1).square()
        pairs = self.electrons * (self.electrons - 1) / 2
        together = 0.5 * (waves - self.electrons) @ weight
        return together - pairs * math.pi / SPLIT**2


__all__ = ["ElectronGas", "closed_shells", "whole_numbers"]
