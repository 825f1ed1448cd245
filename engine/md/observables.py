"""Observables of particles, averaged on the fly with error bars from blocking.

An observable is any function from a state to a tensor; :class:`Average` turns it into a
writer. Nothing is kept but sums, so a run of any length costs the same memory.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import runtime
from ..kernels import histograms
from .neighbours import Layout, build_neighbours
from .state import ParticleState

Observable = Callable[[ParticleState, Mapping[str, Tensor]], Tensor]


class Blocking:
    """Mean and standard error of a correlated series, without keeping the series.

    Level k holds sums over blocks of 2^k samples; the error is the largest that a level
    with at least ``fewest`` blocks shows, which is the plateau.

    Reference: H. Flyvbjerg, H. G. Petersen, J. Chem. Phys. 91, 461 (1989).
    """

    LEVELS = 40

    def __init__(self, fewest: int = 8) -> None:
        self._fewest = fewest
        self.count = 0
        self._sum = self._square = self._waiting = torch.empty(0)

    def add(self, value: Tensor) -> None:
        """Add one sample of any shape (always the same)."""
        value = value.detach().double().cpu()
        if self.count == 0 and not self._sum.numel():
            shape = (self.LEVELS, *value.shape)
            self._sum, self._square = (
                torch.zeros(shape).double(),
                torch.zeros(shape).double(),
            )
            self._waiting = torch.zeros(shape).double()
        self.count += 1
        for level in range(self.LEVELS):
            self._sum[level] += value
            self._square[level] += value**2
            if (self.count >> level) % 2:
                self._waiting[level] = value
                return
            value = 0.5 * (self._waiting[level] + value)

    @property
    def mean(self) -> Tensor:
        """Mean of all samples."""
        return self._sum[0] / self.count

    @property
    def error(self) -> Tensor:
        """One standard error of the mean; NaN for fewer than ``fewest`` samples."""
        errors = []
        for level in range(self.LEVELS):
            blocks = self.count >> level
            if blocks < max(self._fewest, 2):
                break
            mean = self._sum[level] / blocks
            variance = (self._square[level] / blocks - mean**2).clamp(min=0.0)
            errors.append((variance / (blocks - 1)).sqrt())
        if not errors:
            return torch.full_like(self.mean, math.nan)
        return torch.stack(errors).amax(0)

    def tensors(self) -> dict[str, Tensor]:
        """Return the sums, for a checkpoint."""
        return {
            "count": torch.tensor(self.count),
            "sum": self._sum.clone(),
            "square": self._square.clone(),
            "waiting": self._waiting.clone(),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`tensors` returned."""
        self.count = int(tensors["count"])
        self._sum, self._square = tensors["sum"].clone(), tensors["square"].clone()
        self._waiting = tensors["waiting"].clone()


class Average:
    """A writer that averages an observable over the run.

    Args:
        observable: from state and observations to a tensor of fixed shape.
    """

    def __init__(self, observable: Observable) -> None:
        self.observable, self.blocks = observable, Blocking()

    def write(
        self, step: int, time: float, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> None:
        """Add one sample."""
        self.blocks.add(self.observable(state, observed))

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what must be restored on resume."""
        return self.blocks.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`tensors` returned."""
        self.blocks.restore(tensors)


@dataclass(frozen=True)
class RadialDistribution:
    """g(r) of every pair of species: pairs found over pairs of an ideal gas.

    g_ab(r) = V / (N_a N_b) sum_{i in a, j in b} delta(r - r_ij) / (4 pi r^2), images of an
    atom included.

    Attributes:
        species: number of species.
        r_max: largest distance, angstrom; may exceed half the cell.
        bins: number of bins, of equal width.
    """

    species: int
    r_max: float
    bins: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of species a <= b, in the order of the result."""
        return [(a, b) for a in range(self.species) for b in range(a, self.species)]

    @property
    def r(self) -> Tensor:
        """Centres of the bins, angstrom."""
        return (torch.arange(self.bins).double() + 0.5) * (self.r_max / self.bins)

    def __call__(self, state: ParticleState, observed: Mapping[str, Tensor]) -> Tensor:
        """Return ``[systems, pairs, bins]``; needs a cell that is periodic in all axes."""
        runtime.start(state.positions.device)
        layout = Layout.of(state.system, state.systems)
        here = replace(state, anchor=state.positions, anchor_cell=state.cell)
        table = build_neighbours(here, self.r_max, 0.0, layout)
        places = table.places(state.positions, state.system, state.cell)
        shape = (state.systems, self.species, self.species, self.bins)
        found = torch.zeros(shape, dtype=torch.int32, device=state.positions.device)
        histograms.k_distances(
            places, table.home, table.atom, table.parent, table.slots, table.rows,
            state.species, layout.chunks, self.bins / self.r_max, found,
        )  # fmt: skip
        edges = torch.linspace(0, self.r_max, self.bins + 1, dtype=torch.float64)
        shells = (4 * math.pi / 3 * (edges[1:] ** 3 - edges[:-1] ** 3)).to(found.device)
        one = torch.nn.functional.one_hot(state.species.long(), self.species).double()
        number = state.sum_atoms(one)
        volume = state.cell.double().det().abs()[:, None]
        curves = []
        for a, b in self.pairs:
            ideal = number[:, a, None] * number[:, b, None] * shells / volume
            curves.append(found[:, a, b].double() / ideal.clamp(min=1e-300))
        return torch.stack(curves, 1)


class Drift:
    """A writer that fits a straight line to an observable over time.

    Args:
        observable: from state and observations to a tensor of fixed shape.
    """

    def __init__(self, observable: Observable) -> None:
        self.observable = observable
        self._sums = torch.empty(0)
        self._first: tuple[float, Tensor] | None = None
        self._last = 0.0

    def write(
        self, step: int, time: float, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> None:
        """Add one sample."""
        value = self.observable(state, observed).detach().double().cpu()
        if self._first is None:
            self._first, self._sums = (time, value), torch.zeros(5, *value.shape).double()
        # relative to the first sample, for a large constant would drown the slope
        t, y = time - self._first[0], value - self._first[1]
        one = torch.ones_like(y)
        self._sums = self._sums + torch.stack([one, t * one, y, t * t * one, t * y])
        self._last = time

    def duration(self) -> float:
        """Time between the first and the last sample."""
        if self._first is None:
            return 0.0
        return self._last - self._first[0]

    def slope(self) -> Tensor:
        """Slope per unit of time."""
        if not self._sums.numel():
            return torch.empty(0)
        n, t, y, tt, ty = self._sums
        return (n * ty - t * y) / (n * tt - t * t).clamp(min=1e-300)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what must be restored on resume."""
        if self._first is None:
            return {}
        times = torch.tensor([self._first[0], self._last], dtype=torch.float64)
        return {"sums": self._sums, "times": times, "first": self._first[1]}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`tensors` returned."""
        if tensors:
            first, self._last = tensors["times"].tolist()
            self._first, self._sums = (first, tensors["first"]), tensors["sums"]
