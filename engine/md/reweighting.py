"""Averages in equilibrium as differentiable functions of the potential: reweighting.

Frames x_k sampled with energies U_0 at temperature T stand for another potential U with

    w_k = exp(-(U(x_k) - U_0(x_k)) / kT) / sum,      <O> = sum_k w_k O(x_k)

(R. W. Zwanzig, J. Chem. Phys. 22, 1420, 1954), so that a gradient goes through energies
only, never through the trajectory: chaos does not matter. It holds while the frames still
represent the new potential, which the effective sample size exp(-sum w ln w) tells
(S. Thaler and J. Zavadlav, Nat. Commun. 12, 6884, 2021, equations 4 to 6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .differentiable import Differentiable
from .neighbours import Neighbours, build_neighbours
from .state import ParticleState, concatenate


@dataclass(frozen=True)
class Weighted:
    """Frames seen by a potential.

    Attributes:
        weights: ``[frames]``, sum 1; carry the graph.
        effective: how many independent frames they are worth, 1 to the number of frames.
    """

    weights: Tensor
    effective: float

    def mean(self, values: Tensor) -> Tensor:
        """Return the average of ``values [frames, ...]``."""
        return torch.einsum("k,k...->...", self.weights.to(values), values)


@dataclass(frozen=True)
class Frames:
    """Configurations in equilibrium with a potential at one temperature.

    Attributes:
        states: all of them as one batch of systems.
        neighbours: valid for them.
        energies: ``[frames]`` of the potential that made them.
        thermal: kT.
    """

    states: ParticleState
    neighbours: Neighbours
    energies: Tensor
    thermal: float

    @staticmethod
    def of(
        states: Sequence[ParticleState], potential: Differentiable, thermal: float
    ) -> "Frames":
        """Collect frames made with ``potential`` at ``thermal = k T``."""
        batch = concatenate([_anchored(state) for state in states])
        neighbours = build_neighbours(batch, potential.cutoff, 0.0)
        with torch.no_grad():
            energies = potential.energy(batch, neighbours)
        return Frames(batch, neighbours, energies, thermal)

    def weighted(self, potential: Differentiable) -> Weighted:
        """Return the weights under another potential of the same cutoff."""
        energies = potential.energy(self.states, self.neighbours)
        logarithms = -(energies - self.energies) / self.thermal
        weights = torch.softmax(logarithms, 0)
        with torch.no_grad():
            entropy = -(weights * weights.clamp(min=1e-300).log()).sum()
        return Weighted(weights, float(entropy.exp()))

    def observe(self, observable: Callable[[ParticleState], Tensor]) -> Tensor:
        """Return ``observable`` of the batch, ``[frames, ...]``, without a graph."""
        with torch.no_grad():
            return observable(self.states)


def _anchored(state: ParticleState) -> ParticleState:
    return replace(state, anchor=state.positions, anchor_cell=state.cell, thermostat={})
