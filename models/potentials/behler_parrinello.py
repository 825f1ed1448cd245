"""The neural network potential of Behler and Parrinello, with symmetry functions.

J. Behler and M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007); numbering of the functions
as in J. Behler, J. Chem. Phys. 134, 074106 (2011):

    G2 = sum_j exp(-eta (r_ij - r_s)^2) f(r_ij)
    G4 = 2^(1 - zeta) sum_(j < k) (1 + lambda cos theta_jik)^zeta
         exp(-eta (r_ij^2 + r_ik^2 + r_jk^2)) f(r_ij) f(r_ik) f(r_jk)

with ``f(r) = (cos(pi r / cutoff) + 1) / 2``, whose second derivative jumps at the cutoff.
One set of G2 for each neighbour species, one of G4 for each pair of species.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Interval, MinLen
from torch import Tensor, nn

from ..parts import part
from .deep_potential import polar
from .fields import Members, Positive, Weight, Widths
from .fitting import Fitting


@part
class BehlerParrinello:
    """Symmetry functions, a shifted set of G2 and a grid of G4; a network per species."""

    species: tuple[str, ...] = ()
    """Chemical symbols; those of the data by default."""
    cutoff: Positive = 5.0
    """Range of the radial functions in angstrom."""
    angular_cutoff: Positive = 4.0
    """Range of the angular functions in angstrom; triples are costly."""
    first: Positive = 1.0
    """Centre of the first radial function in angstrom."""
    shifts: Annotated[int, Interval(ge=1, le=64)] = 12
    """Radial functions for each species, centres evenly spaced from ``first`` to cutoff."""
    etas: Annotated[tuple[Weight, ...], MinLen(1)] = (0.005, 0.05)
    """Of the angular functions, 1 / angstrom^2."""
    zetas: Annotated[tuple[Positive, ...], MinLen(1)] = (1.0, 2.0, 4.0, 16.0)
    """Exponents of the angular functions; each with lambda = 1 and -1."""
    fitting: Widths = (32, 32)
    """Widths of the hidden layers."""
    members: Members = 1
    """Size of the committee."""
    kind: Literal["behler_parrinello"] = "behler_parrinello"

    def __post_init__(self) -> None:
        """Refuse angular functions that reach further than the neighbours.

        Raises:
            ValueError: ``angular_cutoff`` exceeds ``cutoff``.
        """
        if self.angular_cutoff > self.cutoff:
            raise ValueError("angular_cutoff cannot exceed cutoff")

    def build(self, seed: int = 0) -> "BehlerParrinelloPotential":
        """Return an untrained potential."""
        return BehlerParrinelloPotential(self).reset(seed)


class BehlerParrinelloPotential(nn.Module):
    """Energy of every atom from symmetry functions and a network per species."""

    def __init__(self, config: BehlerParrinello) -> None:
        super().__init__()
        self.config, self.members = config, config.members
        self.species, self.cutoff = tuple(config.species), config.cutoff
        count = len(self.species)
        self.pairs = list(itertools.combinations_with_replacement(range(count), 2))
        angular = len(config.etas) * len(config.zetas) * 2
        blocks = [config.shifts] * count + [angular] * len(self.pairs)
        self.fitting = Fitting(
            config.members, count, blocks, config.fitting, skip=0.7, timestep=0.7
        )

    def reset(self, seed: int) -> "BehlerParrinelloPotential":
        """Draw all parameters."""
        self.fitting.reset(torch.Generator().manual_seed(seed))
        return self

    def forward(
        self,
        displacements: Tensor,
        neighbour_species: Tensor,
        mask: Tensor,
        species: Tensor,
    ) -> Tensor:
        """Return ``[members, atoms]`` eV; arguments as in ``DeepPotential.forward``."""
        features = self.features(displacements, neighbour_species, mask)
        return self.fitting(features.expand(self.members, *features.shape), species)

    def features(
        self, displacements: Tensor, neighbour_species: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the symmetry functions ``[atoms, features]``."""
        c = self.config
        distance, unit = polar(displacements, mask, self.cutoff)
        centres = torch.linspace(c.first, c.cutoff, c.shifts, dtype=distance.dtype)
        width = (c.cutoff - c.first) / max(c.shifts - 1, 1)
        gauss = torch.exp(-0.5 * ((distance[..., None] - centres) / width) ** 2)
        radial = gauss * cosine_cutoff(distance, c.cutoff)[..., None]
        kinds = range(len(self.species))
        chosen = [(mask & (neighbour_species == k)).to(distance) for k in kinds]
        parts = [(radial * one[..., None]).sum(1) for one in chosen]
        parts += self._angular(distance, unit, chosen)
        return torch.cat(parts, 1)

    def _angular(
        self, distance: Tensor, unit: Tensor, chosen: Sequence[Tensor]
    ) -> list[Tensor]:
        c = self.config
        # Triples cost slots^2: take only the slots that some atom needs inside the cutoff.
        near = (distance < c.angular_cutoff) & (sum(chosen) > 0)
        width = max(int(near.sum(1).max()), 1)
        slot = torch.argsort(near.to(torch.int8), dim=1, descending=True, stable=True)
        slot = slot[:, :width]
        r = distance.gather(1, slot)
        u = unit.gather(1, slot[..., None].expand(-1, -1, 3))
        weight = cosine_cutoff(r, c.angular_cutoff)
        cosine = (u @ u.mT).clamp(-1, 1)
        square = r.square()
        two = square[:, :, None] + square[:, None, :]
        opposite = two - 2 * r[:, :, None] * r[:, None, :] * cosine
        upper = torch.ones_like(cosine, dtype=torch.bool).triu(1)
        opposite = torch.where(upper, opposite, 1.0).clamp(min=1e-12)
        envelope = cosine_cutoff(opposite.sqrt(), c.angular_cutoff) * upper
        envelope = envelope * weight[:, :, None] * weight[:, None, :]
        powers = [
            2 ** (1 - zeta) * (1 + sign * cosine).clamp(min=0) ** zeta
            for zeta in c.zetas
            for sign in (1.0, -1.0)
        ]
        functions = [
            torch.exp(-eta * (two + opposite)) * envelope * power
            for eta in c.etas
            for power in powers
        ]
        stack = torch.stack(functions, -1).flatten(1, 2)
        here = [one.gather(1, slot) for one in chosen]
        parts = []
        for a, b in self.pairs:
            both = here[a][:, :, None] * here[b][:, None, :]
            if a != b:
                both = both + both.mT
            parts.append((both.flatten(1)[:, None] @ stack)[:, 0])
        return parts

    @torch.no_grad()
    def set_statistics(
        self, displacements: Tensor, mask: Tensor, blocks: Sequence[int], species: Tensor
    ) -> None:
        """Set mean and width of the features from a sample of environments."""
        kinds = torch.repeat_interleave(
            torch.arange(len(blocks)), torch.tensor(list(blocks))
        )
        features = self.features(displacements, kinds.expand(mask.shape), mask)
        self.fitting.set_statistics(features.expand(self.members, *features.shape), species)


def cosine_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    """``(cos(pi r / cutoff) + 1) / 2`` inside, 0 outside."""
    inside = distance < cutoff
    return 0.5 * (torch.cos(math.pi * distance / cutoff) + 1) * inside


__all__ = ["BehlerParrinello", "BehlerParrinelloPotential", "cosine_cutoff"]
