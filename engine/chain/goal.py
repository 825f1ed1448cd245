"""What the chain is for: a number, its derivative by the labels, and its error bar."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models.potentials.pair import LearnedPair, PairLabel, covariance
from ..gas.collisions.pairs import Pair
from .properties import Atoms, Collisions, Perturbation, innermost

Goal = Callable[[Collisions], Tensor]
"""A number that collisions decide, usually the logarithm of a property."""


@dataclass(frozen=True)
class Sensitivity:
    """A goal with all its derivatives.

    Attributes:
        value: of the goal.
        by_label: ``[labels]`` derivative by each energy, 1/K.
        by_mode: ``[modes]`` derivative by the amplitudes of ``open_``.
        open_: what the labels leave open.
        labels: that were used.
    """

    value: float
    by_label: Tensor
    by_mode: Tensor
    open_: Perturbation
    labels: tuple[PairLabel, ...]

    @property
    def rows(self) -> dict[str, float]:
        """Standard deviation of the goal by source of error."""
        own = torch.tensor([lab.independent for lab in self.labels], dtype=torch.float64)
        found = {
            "between labels": float(self.by_mode.norm()),
            "labels, independent": float((self.by_label * own).norm()),
        }
        for source in dict.fromkeys(n for lab in self.labels for n in lab.common):
            shift = torch.tensor([lab.common.get(source, 0.0) for lab in self.labels])
            found[f"labels, {source}"] = abs(float(self.by_label @ shift.double()))
        return found

    @property
    def bar(self) -> float:
        """Standard deviation of the goal by all of them."""
        spread = covariance(self.labels)
        square = self.by_label @ spread @ self.by_label + self.by_mode.square().sum()
        return float(square.sqrt())

    def gain(self) -> Tensor:
        """Return by how much a perfect label at each knot would cut the variance."""
        modes = self.open_.modes
        variance = modes.square().sum(1).clamp(min=1e-18)
        return (modes @ self.by_mode) ** 2 / variance


@dataclass(frozen=True)
class Window:
    """Temperatures that collisions must serve, and how they are treated.

    Attributes:
        atoms: masses and statistics.
        coldest: K.
        hottest: K.
        quantum: phase shifts for slow atoms.
    """

    atoms: Atoms
    coldest: float
    hottest: float
    quantum: bool = True

    def collisions(
        self, pair: Pair, smallest: float, like: Collisions | None = None
    ) -> Collisions:
        """Return the collisions of a potential that is known from ``smallest`` on."""
        return Collisions.of(
            pair, self.atoms, smallest, self.coldest, self.hottest, self.quantum, like
        )

    def of(self, pair: LearnedPair) -> Collisions:
        """Return the collisions of a learned potential."""
        return self.collisions(pair, innermost(pair, self.hottest))


FARTHEST = 6.5
"""Angstrom: beyond, what labels leave open moves no property of a warm gas."""


def sensitivities(
    pair: LearnedPair,
    labels: tuple[PairLabel, ...],
    window: Window,
    goals: Mapping[str, Goal],
) -> tuple[dict[str, Sensitivity], Collisions]:
    """Return goals with their derivatives by every label and all that is left open.

    One graph from the energies of the labels to the goals; each goal costs one backward
    pass.
    """
    energies = pair.energies.detach().clone().requires_grad_()
    learned = pair.with_energies(energies)
    open_ = Perturbation.of(pair, FARTHEST)
    amplitudes = torch.zeros(open_.modes.shape[1], dtype=torch.float64, requires_grad=True)
    bent = replace(open_, pair=learned)(amplitudes)
    found = window.collisions(bent, innermost(pair, window.hottest))
    out = {}
    for name, goal in goals.items():
        value = goal(found)
        by_label, by_mode = torch.autograd.grad(
            value, (energies, amplitudes), retain_graph=True
        )
        out[name] = Sensitivity(float(value.detach()), by_label, by_mode, open_, labels)
    return out, found


__all__ = ["FARTHEST", "Goal", "Sensitivity", "Window", "sensitivities"]
