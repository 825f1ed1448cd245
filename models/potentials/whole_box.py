"""A potential without any symmetry: one network of all coordinates of one box of atoms.

    E = N(sin(2 pi x_ia / L_a), cos(2 pi x_ia / L_a)),   i = 1 .. n,  a = x, y, z

It knows that the box is periodic and nothing else: not that the origin, the direction and
the names of the atoms do not matter, nor that parts of a system add up. It is the control
of W. E, J. Han, L. Zhang, "Integrating machine learning with physics-based modeling"
(arXiv:2006.02619), figure 3, and works for one number of atoms in one box alone.
"""

import itertools
import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ..parts import part
from .fields import Positive, Widths


@part
class WholeBox:
    """One network of all coordinates of one box, without any symmetry."""

    species: tuple[str, ...]
    """One chemical symbol."""
    atoms: Annotated[int, Ge(1)]
    """Their number."""
    lengths: tuple[Positive, Positive, Positive]
    """Edges of the orthogonal box, angstrom."""
    hidden: Widths = (240, 120)
    """Widths of the hidden layers."""
    kind: Literal["whole_box"] = "whole_box"

    def build(self, seed: int = 0) -> "WholeBoxPotential":
        """Return an untrained potential."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return WholeBoxPotential(self)


class WholeBoxPotential(nn.Module):
    """Energy of a whole box from its coordinates as they stand."""

    mean: Tensor
    lengths: Tensor

    def __init__(self, config: WholeBox) -> None:
        super().__init__()
        self.config = config
        self.species, self.members = tuple(config.species), 1
        widths = [6 * config.atoms, *config.hidden]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.Tanh()]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        lengths = torch.tensor(config.lengths, dtype=torch.float64)
        self.register_buffer("lengths", lengths, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Return ``[frames]`` eV of ``positions [frames, atoms, 3]`` angstrom."""
        angle = (2 * math.pi / self.lengths.to(positions)) * positions
        features = torch.cat([angle.sin(), angle.cos()], -1).flatten(1)
        return self.config.atoms * self.network(features)[:, 0] + self.mean.to(features)


__all__ = ["WholeBox", "WholeBoxPotential"]
