"""Radial functions of linear potentials, fitted with the weights by Gauss-Newton steps.

Labels are linear in the weights w and smooth in the coefficients C of the radial functions
``phi_n = sum_b C_nb T_b w``. A round solves the least squares of :mod:`.linear` with the
derivatives of energies, forces and virials by C as further columns (variable projection:
G. Golub and V. Pereyra, Inverse Problems 19, R1, 2003). How far C moves is chosen, with the
prior of the weights, on the frames left out. Moment tensor potentials fit their radial
functions to the same end (A. V. Shapeev, Multiscale Model. Simul. 14, 1153, 2016).

C begins with the principal components of the waves' moments in the data.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.potentials.cluster_expansion import LinearPotential
from ...kernels.products import LANES, tangents
from .linear import (
    PAIRS,
    STRENGTHS,
    Equations,
    LeastSquares,
    Rows,
    Slots,
    Solution,
    Sums,
    fit,
    folds_of,
    prior_of,
)
from .tables import TrainingSet, assemble_forces

HOLDS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Strengths, in units of those of the weights, that hold C where it is; a round that has
made things worse is repeated from its start with a stronger one."""

LABELS = 8
"""Labels for each unknown that the rounds look at; weights are then solved for on all."""

GAIN = 1e-3
"""Least part by which a round has to lower the score."""


def curves(equations: Equations, index: int, weights: np.ndarray) -> np.ndarray:
    """Return the derivatives of a frame's rows by the free C, ``[rows, species n b]``.

    Args:
        equations: with the radial functions as they are.
        index: of the frame.
        weights: ``[species, features]`` at which the derivatives are taken.
    """
    g, network = equations.data.geometry[index], equations.network
    slots = equations.slots(g)
    sums = equations.sums(slots)
    given = _directions(network, sums)
    pad = -given.shape[2] % LANES
    slopes, turned = tangents(
        equations.program, g.species.int(), torch.from_numpy(weights),
        equations.moments(sums), torch.nn.functional.pad(given, (0, pad)).contiguous(),
    )  # fmt: skip
    count = given.shape[2]
    energy = torch.einsum("am,amq->q", slopes, given)
    moved = _moved(network, slots)
    change = (moved.flatten(1, 2) @ turned[:, :, :count]).view(*moved.shape[:3], count)
    gradient = change + _bent(network, slots, slopes)
    force = assemble_forces(gradient.movedim(3, 0), g)
    virial = -torch.einsum("aki,akjq->ijq", g.displacements * g.mask[..., None], gradient)
    six = torch.stack([virial[a, b] for a, b in PAIRS])
    return torch.cat([energy[None], force.flatten(1).T, six]).numpy()


def _directions(network: LinearPotential, sums: Tensor) -> Tensor:
    """Return dA/dC ``[atoms, inputs, species n b]``."""
    kind, function, column = network.places.T
    atoms, kinds, waves, _ = sums.shape
    inputs, radial = len(kind), network.program.radial
    given = sums.new_zeros(atoms, inputs, kinds, radial, waves)
    each = torch.arange(inputs)
    given[:, each, kind, function] = sums[:, kind, :, column].movedim(0, 1)
    return given[:, :, :, : free(network)].flatten(2)


def _moved(network: LinearPotential, slots: Slots) -> Tensor:
    """Return the gradients of each pair's moments, ``[atoms, slots, 3, inputs]``."""
    kind, function, column = network.places.T
    mix = network.mix.detach()[slots.kinds]
    value = torch.einsum("asb,snb->asn", slots.value, mix)[..., function]
    slope = torch.einsum("asb,snb->asn", slots.slope, mix)[..., function]
    mine = (slots.kinds[:, None] == kind).to(value)
    along = (slope * slots.angular[..., column] * mine)[:, :, None] * slots.unit[..., None]
    return along + (value * mine)[:, :, None] * slots.turn[..., column].movedim(0, 2)


def _bent(network: LinearPotential, slots: Slots, slopes: Tensor) -> Tensor:
    """Return what C does to a pair's gradient at given slopes, ``[atoms, slots, 3, q]``."""
    kind, function, column = network.places.T
    kinds, radial = len(network.species), free(network)
    columns = slots.angular.shape[2]
    mine = function < radial
    kind, function, column, slopes = (
        kind[mine], function[mine], column[mine], slopes[:, mine]
    )  # fmt: skip
    spread = slopes.new_zeros(len(slopes), kinds, radial, columns)
    spread[:, kind, function, column] = slopes
    value = torch.einsum("asc,atnc->astn", slots.angular, spread)
    turn = torch.einsum("xasc,atnc->asxtn", slots.turn, spread)
    along = torch.einsum("asx,asb,astn->asxtnb", slots.unit, slots.slope, value)
    whole = along + torch.einsum("asb,asxtn->asxtnb", slots.value, turn)
    mine = (slots.kinds[:, None] == torch.arange(kinds)).to(whole)
    return (whole * mine[:, None, :, None, None]).flatten(3)


def free(network: LinearPotential) -> int:
    """Return how many of the radial functions are fitted, the first ones.

    Those of pair terms alone are not: all functions together span what all waves do.
    """
    return 1 + max((n for n, j, _ in network.program.moments if j), default=-1)


def principal(equations: Equations) -> np.ndarray:
    """Return the radial functions that describe most of the data's surroundings first.

    Principal components of the waves' moments, over all atoms and harmonics (A.
    Goscinski et al., J. Chem. Phys. 155, 104106 (2021)).

    Returns:
        Orthogonal rows ``[species, radial, waves]``.
    """
    total = 0.0
    for g in equations.data.geometry:
        sums = equations.sums(equations.slots(g))
        total = total + torch.einsum("atbc,atdc->tbd", sums, sums).numpy()
    _, vectors = np.linalg.eigh(total)
    return vectors[:, :, ::-1].swapaxes(1, 2)[:, : equations.network.program.radial]


@dataclass(frozen=True)
class Place:
    """Radial functions, and the equations of a step from them.

    Attributes:
        mix: C, ``[species, radial, waves]``.
        sums: normal equations of weights, counts and the free coefficients of C.
        strength: lambda of the weights.
        score: loss of the frames left out, without a step.
    """

    mix: np.ndarray
    sums: Sums
    strength: float
    score: float


class RadialFit:
    """Gauss-Newton rounds on the radial functions of a model, which they change in place.

    Attributes:
        best: the place with the lowest score so far.
        scores: of all rounds.
    """

    def __init__(
        self, model: Any, data: TrainingSet, settings: LeastSquares, seed: int
    ) -> None:
        self.equations = Equations(model, data, settings)
        self.network, self.settings = self.equations.network, settings
        shape = self.network.mix.shape
        self.size = (shape[0], free(self.network), shape[2])
        self.frames = self._enough(seed)
        self.fold = folds_of(len(self.frames), settings.folds, seed)
        self.prior = prior_of(self.equations, settings.order)
        self.best: Place | None = None
        self.scores: list[float] = []

    def run(self) -> Iterator[tuple[int, int]]:
        """Fit; yields frames done and in all."""
        frames, rounds = len(self.frames), self.settings.rounds
        self._set(principal(self.equations))
        sums, holds = Sums.empty(self.settings.folds, self.equations.columns), HOLDS
        for place, index in enumerate(self.frames):
            sums.add(int(self.fold[place]), self.equations.rows(index))
            yield place + 1, (rounds + 1) * frames
        solver = sums.solver(self.prior)
        weights = solver.solve(solver.chosen(STRENGTHS)[0])
        for turn in range(rounds):
            sums = Sums.empty(
                self.settings.folds, self.equations.columns + math.prod(self.size)
            )
            for place, index in enumerate(self.frames):
                sums.add(int(self.fold[place]), self._rows(index, weights))
                yield (turn + 1) * frames + place + 1, (rounds + 1) * frames
            if self._improved(sums):
                holds = HOLDS
            if not holds:
                break
            assert self.best is not None
            weights, hold = self._step(self.best, holds)
            # if this step makes things worse, the next one is shorter
            holds = holds[: holds.index(hold)]
        assert self.best is not None
        self._set(self.best.mix)

    def _enough(self, seed: int) -> list[int]:
        """Return frames at random with :data:`LABELS` for each unknown, or all."""
        unknown = self.equations.columns + math.prod(self.size)
        sizes = [7 + 3 * len(frame.symbols) for frame in self.equations.data.frames]
        order = np.random.default_rng(seed + 2).permutation(len(sizes))
        have = np.cumsum(np.array(sizes)[order])
        count = int(np.searchsorted(have, LABELS * unknown)) + 1
        return order[: max(count, self.settings.folds)].tolist()

    def _rows(self, index: int, weights: np.ndarray) -> Rows:
        rows = self.equations.rows(index)
        kinds = len(self.network.species)
        bent = curves(self.equations, index, weights[:-kinds].reshape(kinds, -1))
        return replace(rows, matrix=np.hstack([rows.matrix, bent]))

    def _improved(self, sums: Sums) -> bool:
        """Keep the place that the network is at if it is better than the best."""
        here = sums.first(self.equations.columns).solver(self.prior)
        strength, score = here.chosen(STRENGTHS)
        self.scores.append(score / len(self.fold))
        if self.best is not None and score > self.best.score * (1 - GAIN):
            return False
        self.best = Place(self.network.mix.detach().numpy().copy(), sums, strength, score)
        return True

    def _step(self, place: Place, holds: Sequence[float]) -> tuple[np.ndarray, float]:
        """Move the radial functions from a place by the best of some strengths.

        Returns:
            The weights to go with them, and the strength.
        """
        count = self.equations.columns
        degrees = np.broadcast_to(1.0 + np.arange(self.size[2]), self.size).ravel()
        bent = (degrees / degrees.mean()) ** (2 * self.settings.order)
        solver = place.sums.solver(np.concatenate([self.prior, bent]))
        choices = [
            np.concatenate([np.full(count, place.strength), np.full(len(bent), each)])
            for each in holds
        ]
        chosen, _ = solver.chosen(choices)
        answer = solver.solve(chosen)
        mix = place.mix.copy()
        mix[:, : self.size[1]] += answer[count:].reshape(self.size)
        self._set(mix)
        return answer[:count], float(chosen[-1])

    def _set(self, mix: np.ndarray) -> None:
        with torch.no_grad():
            self.network.mix.copy_(torch.from_numpy(np.ascontiguousarray(mix)))


def solve(
    model: Any, data: TrainingSet, settings: LeastSquares, seed: int
) -> Iterator[tuple[int, int, Solution | None]]:
    """Fit radial functions, then weights; yields frames done and in all, at last with it.

    ``rounds = 0`` leaves the radial functions as they are.
    """
    before = 0
    if settings.rounds:
        for done, count in RadialFit(model, data, settings, seed).run():
            yield done, count + 2 * len(data.frames), None
            before = count
    for done, count, found in fit(model, data, settings, seed):
        yield before + done, before + count, found


__all__ = ["RadialFit", "curves", "free", "principal", "solve"]
