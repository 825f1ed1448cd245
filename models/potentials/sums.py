"""Sums of potentials: a network + the repulsion of Ziegler, Biersack and Littmark.

    E_i = E_i(network) + 1/2 sum_j phi(r_ij) w(r_ij),
    phi(r) = k_e Z_i Z_j / r * sum_k c_k exp(-d_k r / a),
    a = 0.46850 / (Z_i^0.23 + Z_j^0.23)

(J. F. Ziegler, J. P. Biersack and U. Littmark, The Stopping and Range of Ions in Solids,
1985), switched off between ``inner`` and ``outer``, below the distances of the training
data. So atoms that collide harder than anything in the data still repel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from ..parts import ByKind, part
from .cluster_expansion import ClusterExpansion, LinearPotential
from .deep_potential import DeepPotential, HigherMoments, SmoothEdition, polar, switch
from .fields import Positive
from .fitting import Fitting

REACH = 1.3
"""Range of the repulsion of a network that is solved for, in shortest distances."""

COULOMB = 14.399645
"""Coulomb constant in eV angstrom / e^2."""

_SCREENING = (
    (0.18175, 3.19980),
    (0.50986, 0.94229),
    (0.28022, 0.40290),
    (0.02817, 0.20162),
)


_TABLE = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge "
    "As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm "
    "Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th "
    "Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
SYMBOLS = tuple(_TABLE.split())
"""Chemical symbols in the order of their nuclear charge, hydrogen first."""


def atomic_number(symbol: str) -> int:
    """Return the nuclear charge of an element.

    Raises:
        ValueError: there is no such element.
    """
    if symbol not in SYMBOLS:
        raise ValueError(f"{symbol} is no chemical symbol, so its charge is unknown")
    return SYMBOLS.index(symbol) + 1


class ZblRepulsion(nn.Module):
    """The screened nuclear repulsion, half of a pair's energy at each of its atoms."""

    charges: Tensor

    def __init__(self, numbers: Sequence[int], inner: float, outer: float) -> None:
        super().__init__()
        self.inner, self.outer = inner, outer
        charges = torch.tensor(list(numbers), dtype=torch.float64)
        self.register_buffer("charges", charges, persistent=False)

    def forward(
        self,
        displacements: Tensor,
        neighbour_species: Tensor,
        mask: Tensor,
        species: Tensor,
    ) -> Tensor:
        """Return ``[atoms]`` eV; arguments as in ``DeepPotential.forward``."""
        distance, _ = polar(displacements, mask, self.outer)
        one = self.charges.to(distance)[species.long()][:, None]
        two = self.charges.to(distance)[neighbour_species.long()]
        x = distance * (one**0.23 + two**0.23) / 0.46850
        screening = sum(c * torch.exp(-d * x) for c, d in _SCREENING)
        pair = COULOMB * one * two / distance * screening
        pair = pair * switch(distance, self.inner, self.outer)
        return 0.5 * torch.where(mask, pair, 0.0).sum(1)


@part
class ZblSum:
    """A network and the repulsion of Ziegler, Biersack and Littmark at short distances."""

    network: Annotated[HigherMoments | SmoothEdition | ClusterExpansion, ByKind()] = (
        HigherMoments()
    )
    """Form of the network, with a ``kind`` of its own."""
    numbers: tuple[int, ...] = ()
    """Atomic numbers; those of the species by default."""
    inner: Positive | None = None
    """The repulsion is whole below this distance, angstrom; by default half of the
    shortest distance in the data."""
    outer: Positive | None = None
    """And zero beyond this one; from the data by default: the shortest distance, where a
    network is solved for :data:`REACH` times as far, for it takes the difference."""
    kind: Literal["zbl_sum"] = "zbl_sum"

    def __post_init__(self) -> None:
        """Refuse a switch that does not fall, and numbers that are not one per species.

        Raises:
            ValueError: one of the two, or a species that is no element.
        """
        if self.inner is not None and self.outer is not None and self.inner >= self.outer:
            raise ValueError("inner must lie below outer")
        if self.species and len(self.charges) != len(self.species):
            raise ValueError("numbers: one for each species")

    @property
    def charges(self) -> tuple[int, ...]:
        """Nuclear charge of each species."""
        return self.numbers or tuple(atomic_number(symbol) for symbol in self.species)

    @property
    def members(self) -> int:
        """Size of the committee."""
        return self.network.members

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols."""
        return self.network.species

    @property
    def cutoff(self) -> float | None:
        """Interaction range in angstrom."""
        return self.network.cutoff

    def with_range(self, shortest: float) -> "ZblSum":
        """Return the form with ranges that fit the shortest distance of the data."""
        solved = isinstance(self.network, ClusterExpansion)
        outer = shortest * (REACH if solved else 0.98)
        outer = self.outer if self.outer is not None else outer
        inner = self.inner if self.inner is not None else min(0.5 * shortest, 0.9 * outer)
        return replace(self, inner=inner, outer=outer)

    def build(self, seed: int = 0) -> "ZblSumPotential":
        """Return an untrained potential.

        Raises:
            ValueError: ranges are not known yet.
        """
        if self.inner is None or self.outer is None:
            raise ValueError("inner, outer: not given, and no data to take them from")
        repulsion = ZblRepulsion(self.charges, self.inner, self.outer)
        return ZblSumPotential(self, self.network.build(seed), repulsion)


class ZblSumPotential(nn.Module):
    """A network and the repulsion; trained as a whole, only the network has parameters."""

    def __init__(
        self,
        config: ZblSum,
        network: DeepPotential | LinearPotential,
        repulsion: ZblRepulsion,
    ) -> None:
        super().__init__()
        self.config, self.repulsion = config, repulsion
        self.network: Any = network
        self.species, self.cutoff = network.species, network.cutoff
        self.members = network.members

    @property
    def fitting(self) -> Fitting:
        """The network that has the energy bias."""
        return self.network.fitting

    def forward(
        self,
        displacements: Tensor,
        neighbour_species: Tensor,
        mask: Tensor,
        species: Tensor,
    ) -> Tensor:
        """Return ``[members, atoms]`` eV; arguments as in ``DeepPotential.forward``."""
        arguments = (displacements, neighbour_species, mask, species)
        return self.network(*arguments) + self.repulsion(*arguments).double()

    def tables(
        self, displacements: Tensor, mask: Tensor, blocks: Sequence[int]
    ) -> dict[str, Tensor]:
        """Return the network's tables, and the repulsion that never changes.

        The repulsion is there for every species that the centre could have:
        ``repulsion [atoms, species]`` and ``repulsion_slopes [atoms, species, slots, 3]``.
        """
        tables = self.network.tables(displacements, mask, blocks)
        kinds = torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor(blocks))
        kinds = kinds.to(mask.device).expand(mask.shape)
        energies, slopes = [], []
        for centre in range(len(self.species)):
            species = torch.full((len(mask),), centre, device=mask.device)
            with torch.enable_grad():
                d = displacements.detach().requires_grad_()
                energy = self.repulsion(d, kinds, mask, species)
                (slope,) = torch.autograd.grad(energy.sum(), d)
            energies.append(energy.detach())
            slopes.append(slope)
        tables["repulsion"] = torch.stack(energies, 1)
        tables["repulsion_slopes"] = torch.stack(slopes, 1)
        return tables

    def energies_and_gradients(
        self, tables: Mapping[str, Tensor], species: Tensor, blocks: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return energies and pair gradients as ``DeepPotential`` does."""
        energies, gradients = self.network.energies_and_gradients(tables, species, blocks)
        atom = torch.arange(len(species), device=species.device)
        core = tables["repulsion"][atom, species.long()].double()
        return energies + core, gradients + tables["repulsion_slopes"][atom, species.long()]

    def set_statistics(
        self, displacements: Tensor, mask: Tensor, blocks: Sequence[int], species: Tensor
    ) -> None:
        """Set the scales of the network."""
        self.network.set_statistics(displacements, mask, blocks, species)

    def member(self, index: int) -> "ZblSumPotential":
        """Return one member of the committee as a potential of its own."""
        network = self.network.member(index)
        config = replace(self.config, network=network.config)
        return ZblSumPotential(config, network, self.repulsion)


__all__ = ["ZblRepulsion", "ZblSum", "ZblSumPotential"]
