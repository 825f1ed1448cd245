"""Linear expansions in molecular dynamics: the kernels of :mod:`..kernels.expansion`."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...models.potentials.cluster_expansion import LinearPotential
from ..kernels.descriptor_simd import Pairs
from ..kernels.expansion import Blocks, Expansion, expand
from ..kernels.quadratic import QuadraticForm
from .classical import symmetric
from .learned import FastForm, LearnedPotential
from .neighbours import Neighbours
from .state import Interaction, ParticleState
from .vectorised import lanes_of


@dataclass(frozen=True)
class _Room:
    """What follows from a list of neighbours, and memory for what kernels hand on."""

    pairs: Pairs
    blocks: Blocks
    room: Tensor
    gradient: Tensor


class _Memo:
    """The room of the last list; forgetting it changes nothing but time."""

    def __init__(self) -> None:
        self.known: tuple[Neighbours, Tensor, _Room] | None = None


@dataclass(frozen=True)
class ExpandedPotential(FastForm):
    """The same energy, forces, virial and deviation as the module, many times faster.

    Always in f64, whatever the state: products of many moments cancel.

    Attributes:
        network: what is computed.
        expansion: its tables for the kernels, the mean of a committee and its draws.
        alone: the same of the mean, for forces without a deviation.
    """

    network: LearnedPotential
    expansion: Expansion
    alone: Expansion
    _memo: _Memo = field(default_factory=_Memo, repr=False, compare=False)

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces, virial of every system, and the deviation of a committee."""
        raw, forces, deviation, virial = self._expand(self.expansion, state, neighbours)
        central = state.species[neighbours.atom.long()].long()
        energies = raw + self.network.module.energy_bias[central]
        rows = torch.cat([energies[:, None], virial], 1)
        sums = torch.segment_reduce(rows, "sum", lengths=neighbours.layout.counts, axis=0)
        to = state.positions.dtype
        return Interaction(
            sums[:, 0].contiguous(), forces.to(to), symmetric(sums[:, 1:]), deviation.to(to)
        )

    def forces(self, state: ParticleState, neighbours: Neighbours) -> Tensor:
        """Forces alone."""
        return self._expand(self.alone, state, neighbours)[1].to(state.positions.dtype)

    def _expand(
        self, expansion: Expansion, state: ParticleState, neighbours: Neighbours
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        room = self._room(state, neighbours)
        places = neighbours.places(
            state.positions.double(), state.system, state.cell.double()
        )
        return expand(
            expansion, places, neighbours, room.pairs, room.blocks, room.room, room.gradient
        )

    def _room(self, state: ParticleState, neighbours: Neighbours) -> _Room:
        known = self._memo.known
        if known is None or known[0] is not neighbours or known[1] is not state.species:
            lanes, kinds = lanes_of(torch.float64), len(self.species)
            pairs = Pairs.of(neighbours, state.species, kinds, lanes)
            central = state.species[neighbours.atom.long()]
            solutions = self.expansion.solutions
            made = _Room(
                pairs,
                Blocks.of(central, kinds, lanes),
                self.expansion.room(lanes),
                torch.empty(solutions, *pairs.pairs.shape, 4, dtype=torch.float64),
            )
            known = self._memo.known = (neighbours, state.species, made)
        return known[2]


def expanded(network: LearnedPotential) -> ExpandedPotential | None:
    """Return the fast form of a linear expansion; None for other modules, or on a GPU."""
    module = network.module
    if not isinstance(module, LinearPotential) or module.weights.device.type != "cpu":
        return None
    program = module.program
    places = program.places()
    order = np.lexsort((places[:, 1], places[:, 2], places[:, 0]))
    kinds, columns = len(module.species), (module.lmax + 1) ** 2
    keys = places[order, 0] * columns + places[order, 2]
    edges = np.searchsorted(keys, np.arange(kinds * columns + 1))
    spans = np.stack([edges[k * columns : (k + 1) * columns + 1] for k in range(kinds)])

    def whole(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int32))

    def tables(weights: Tensor) -> Expansion:
        return Expansion(
            torch.tensor([module.config.switch_start, module.cutoff], dtype=torch.float64),
            QuadraticForm.of(program, weights), whole(order), whole(spans),
            module.mix.detach().double().contiguous(), module.lmax,
        )  # fmt: skip

    weights = mean_and_draws(module.weights.detach().double())
    return ExpandedPotential(network, tables(weights), tables(weights[:1]))


def mean_and_draws(weights: Tensor) -> Tensor:
    """Return the mean of a committee, and what its members differ by from it.

    The deviation is the root mean square of the differences; of members in pairs on both
    sides of the mean, one of each pair says it all.
    """
    mean = weights.mean(0, keepdim=True)
    if len(weights) == 1:
        return mean.contiguous()
    draws = weights - mean
    half = len(weights) // 2
    if 2 * half == len(weights) and torch.allclose(
        draws[:half], -draws[half:], rtol=1e-9, atol=1e-12 * float(draws.abs().max())
    ):
        draws = draws[:half]
    return torch.cat([mean, draws]).contiguous()


__all__ = ["ExpandedPotential", "expanded", "mean_and_draws"]
