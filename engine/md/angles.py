"""Angles and numbers of neighbours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .neighbours import build_neighbours
from .state import ParticleState


def _vectors(state: ParticleState, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbours within ``reach``: index, vectors ``[atoms, most, 3]``, which are valid."""
    here = replace(state, anchor=state.positions, anchor_cell=state.cell)
    table = build_neighbours(here, reach, 0.0)
    index = table.index.long()
    cell = state.cell.double()[state.system.long()]
    shift = torch.einsum("ank,akc->anc", table.shift.double(), cell)
    x = state.positions.double()
    valid = torch.arange(index.shape[1], device=index.device) < table.count[:, None]
    return index, x[index] + shift - x[:, None], valid


@dataclass(frozen=True)
class AngleDistribution:
    """Probability density of the angle between two neighbours of an atom.

    For every species b of the centre and pair a <= c of species of its neighbours within
    ``reach``: P_abc(theta), of integral 1 over theta in degrees.

    Attributes:
        species: number of species.
        reach: largest distance of a neighbour, angstrom.
        bins: number of bins from 0 to 180 degrees.
    """

    species: int
    reach: float
    bins: int

    @property
    def triples(self) -> list[tuple[int, int, int]]:
        """(a, centre, c) with a <= c, in the order of the result."""
        names = range(self.species)
        return [(a, b, c) for b in names for a in names for c in names if a <= c]

    @property
    def theta(self) -> Tensor:
        """Centres of the bins, degrees."""
        return (torch.arange(self.bins).double() + 0.5) * (180 / self.bins)

    def __call__(self, state: ParticleState, observed: Mapping[str, Tensor]) -> Tensor:
        """Return ``[systems, triples, bins]``; 0 where no such angle occurs."""
        index, d, valid = _vectors(state, self.reach)
        unit = d / d.norm(dim=2, keepdim=True).clamp(min=1e-12)
        cosine = (unit @ unit.mT).clamp(-1, 1)
        most = index.shape[1]
        above = torch.ones(most, most, device=index.device).triu(1).bool()
        atom, j, k = (valid[:, :, None] & valid[:, None, :] & above).nonzero(as_tuple=True)
        angle = torch.arccos(cosine[atom, j, k]) * (180 / math.pi)
        where = (angle * (self.bins / 180)).long().clamp(max=self.bins - 1)
        kind = state.species.long()
        one, two = kind[index[atom, j]], kind[index[atom, k]]
        a, c, n = torch.minimum(one, two), torch.maximum(one, two), self.species
        place = ((state.system.long()[atom] * n + kind[atom]) * n + a) * n + c
        room = state.systems * n**3 * self.bins
        counted = torch.bincount(place * self.bins + where, minlength=room)
        counted = counted.reshape(state.systems, n, n, n, self.bins).double()
        found = torch.stack([counted[:, b, a, c] for a, b, c in self.triples], 1)
        total = found.sum(2, keepdim=True).clamp(min=1) * (180 / self.bins)
        return found / total


@dataclass(frozen=True)
class Coordination:
    """Mean number of neighbours of species b within ``reach`` of an atom of species a.

    Attributes:
        species: number of species.
        reach: angstrom.
    """

    species: int
    reach: float

    def __call__(self, state: ParticleState, observed: Mapping[str, Tensor]) -> Tensor:
        """Return ``[systems, species, species]``; NaN for a species that is not there."""
        index, _, valid = _vectors(state, self.reach)
        kind, n = state.species.long(), self.species
        own = state.system.long() * n + kind
        place = own[:, None] * n + kind[index]
        room = state.systems * n
        counted = torch.bincount(place[valid], minlength=room * n).double()
        return counted.reshape(state.systems, n, n) / torch.bincount(
            own, minlength=room
        ).reshape(state.systems, n, 1)
