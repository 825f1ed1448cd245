"""Training of potentials that are linear in their weights: least squares with a prior.

Energies, forces and virials of frame f are linear in the weights w, so the minimum of

    sum_f |F_f - X_f w|^2 / h^2 + (E_f - X_f w)^2 / (n_f h_f^2 l_E^2)
          + |W_f - X_f w|^2 / (n_f h_f^2 l_W^2) + lambda sum_k (s_k d_k^2 w_k)^2

follows from one set of normal equations. All scales are the data's own: h is the root mean
square force; the noise ``h_f`` of a frame's energy and virial grows with its forces, for
errors of a model do, with a floor, so that small strains count; the lengths turn a force
into the energy and virial that it does; s_k is the size of a feature in the forces and d_k
its degree in parts of the highest of its body order, so that what oscillates must be
needed. lambda is chosen on frames left out, in turns, by the same sum of their forces and
energies. Where a model has weights already, w is their change.

Virials are the labels that are wrong most often (another unit or volume in a part of the
set, a basis that is too small). So those of a frame weigh less where frames left out tell
them worse than :data:`OUTLYING` times the median.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import scipy.linalg
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from ....models.parts import part
from ....models.potentials.cluster_expansion import LinearPotential, antithetic
from ....models.potentials.harmonics import harmonics, harmonics_gradient
from ....models.potentials.radial import polar, wave_functions, wave_functions_gradient
from ....models.potentials.sums import ZblSumPotential
from ...kernels.products import LANES, design
from .job import deviation_factor
from .potential import Errors
from .tables import Geometry, TrainingSet, assemble_forces

STRENGTHS = tuple(10.0**k for k in range(-12, -3))
"""Values of lambda that are tried; the equations' columns are scaled to a size of one."""

OUTLYING = 2.0
"""Error of a virial, over the median, beyond which it weighs less, by the square of what
it is beyond."""

FIRST = 1e-6
"""lambda of the solutions that virials are held against."""

ROUNDING = 1e-12
"""Added to the diagonal: what is smaller is lost in the sums."""

_SQUARE = (0, 3, 4, 3, 1, 5, 4, 5, 2)
"""Where the components of a full matrix stand among the six."""

PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Components of a symmetric matrix, as the kernel orders them."""


@part
class LeastSquares:
    """What a label weighs, in units of the data's own spreads; the same for every set."""

    floor: Annotated[float, Gt(0)] = 0.3
    """Noise of a frame's energy and virial grows with the square root of its forces;
    without any it is that of a frame with this part of the set's root mean square force."""
    energy: Annotated[float, Gt(0)] = 0.04
    """Length that turns a force error into an energy error, in parts of the shortest
    distance; shorter: energies weigh more."""
    virial: Annotated[float, Gt(0)] = 1.0
    """The same for virials."""
    folds: Annotated[int, Ge(2)] = 8
    """Parts of the set that are left out in turns."""
    rounds: Annotated[int, Ge(0)] = 0
    """Rounds that fit the radial functions, at most; 0 leaves the waves. Fitted, few
    of them (`radial = 12`, `waves = 12`, `spacing = 3`) cost less to evaluate."""
    order: Annotated[float, Ge(0)] = 2.0
    """Power of a product's degree in the prior."""
    kind: Literal["least_squares"] = "least_squares"

    def weights(self, decay: float) -> tuple[float, float, float]:
        """Return that energies, forces and virials all count, at any time."""
        del decay
        return self.energy, 1.0, self.virial


@dataclass(frozen=True)
class Rows:
    """One frame as linear equations; columns: features of every species, then counts.

    Attributes:
        matrix: ``[1 + 3 atoms + 6, columns]``: energy, forces, virial.
        target: labels, less what is not learned.
        weight: of each row; 0 for a virial that is not known.
    """

    matrix: np.ndarray
    target: np.ndarray
    weight: np.ndarray

    @property
    def virial(self) -> "Rows":
        """Those of the virial."""
        return Rows(self.matrix[-6:].copy(), self.target[-6:], self.weight[-6:])


@dataclass(frozen=True)
class Slots:
    """Functions of the pairs of a frame, zero where a slot is empty.

    Attributes:
        value: ``[atoms, slots, waves]`` T_b w.
        slope: its derivative by r.
        angular: ``[atoms, slots, columns]`` harmonics.
        turn: ``[3, atoms, slots, columns]`` their gradients.
        unit: ``[atoms, slots, 3]``.
        kinds: ``[slots]`` species that slots are for.
    """

    value: Tensor
    slope: Tensor
    angular: Tensor
    turn: Tensor
    unit: Tensor
    kinds: Tensor


class Equations:
    """Rows of the frames of a set for the basis of a model."""

    def __init__(self, model: Any, data: TrainingSet, settings: LeastSquares) -> None:
        self.network, self.repulsion = _split(model)
        self.data, self.settings = data, settings
        program = self.network.program
        self.features = len(program.features)
        self.columns = len(data.species) * (self.features + 1)
        self.program = {
            name: torch.from_numpy(getattr(program, name)).contiguous()
            for name in ("begin", "left", "right", "factor", "features")
        }
        places = torch.from_numpy(program.places()).int()
        for name, column in zip(("kind", "function", "column"), places.T, strict=True):
            self.program[name] = column.contiguous()
        forces = np.concatenate([f.forces for f in data.frames])
        self.spread = math.sqrt(float((forces**2).mean())) or 1.0
        self.length = shortest(data)
        weights = self.network.weights.detach().mean(0)
        self.centre = torch.cat([weights.flatten(), self.network.energy_bias]).numpy()
        self._last: tuple[Geometry, Slots] | None = None

    def rows(self, index: int) -> Rows:
        """Return the equations of a frame."""
        frame, g = self.data.frames[index], self.data.geometry[index]
        atoms, kinds = len(frame.symbols), len(self.data.species)
        energy, forces, virial = design(
            self.program, self._tables(g, self.slots(g)), kinds * self.features
        )
        matrix = np.zeros((1 + 3 * atoms + 6, self.columns))
        wide = kinds * self.features
        matrix[0, :wide], matrix[1:-6, :wide] = energy, forces.flatten(0, 1)
        matrix[-6:, :wide] = virial
        matrix[0, wide:] = np.bincount(g.species.numpy(), minlength=kinds)
        known = frame.virial is not None
        labels = frame.virial if frame.virial is not None else np.zeros((3, 3))
        target = np.concatenate(
            [[frame.energy], frame.forces.ravel(), [labels[a, b] for a, b in PAIRS]]
        )
        target = target - self._repelled(g)
        forces = float((frame.forces**2).mean()) / self.spread**2
        h = self.spread * (forces + self.settings.floor**2) ** 0.25
        root = math.sqrt(atoms) * self.length * h
        weight = np.full(len(matrix), 1 / self.spread)
        weight[0] = 1 / (root * self.settings.energy)
        weight[-6:] = known / (root * self.settings.virial)
        if self.data.weights:
            weight *= math.sqrt(self.data.weights[index])
        return Rows(matrix, target, weight)

    def changes(self, index: int) -> Rows:
        """Return the equations of a frame for the change of the model's own weights."""
        rows = self.rows(index)
        return replace(rows, target=rows.target - rows.matrix @ self.centre)

    def slots(self, g: Geometry) -> Slots:
        """Return the functions of the pairs of a frame; those of the last one are kept."""
        if self._last is not None and self._last[0] is g:
            return self._last[1]
        network = self.network
        distance, unit = polar(g.displacements, g.mask, network.cutoff)
        inside = g.mask[..., None].double()
        given = (network.config.waves, network.config.switch_start, network.cutoff)
        found = Slots(
            wave_functions(distance, *given) * inside,
            wave_functions_gradient(distance, *given) * inside,
            harmonics(unit, network.lmax) * inside,
            harmonics_gradient(unit, distance, network.lmax) * inside,
            unit * inside,
            torch.repeat_interleave(
                torch.arange(len(self.data.blocks)), torch.tensor(self.data.blocks)
            ),
        )
        self._last = (g, found)
        return found

    def sums(self, slots: Slots) -> Tensor:
        """Return the moments ``[atoms, species, waves, columns]``, not mixed."""
        chosen = [slots.kinds == kind for kind in range(len(self.data.species))]
        return torch.stack([slots.value[:, c].mT @ slots.angular[:, c] for c in chosen], 1)

    def moments(self, sums: Tensor) -> Tensor:
        """Return the inputs of the program ``[atoms, inputs]``."""
        kind, function, column = self.network.places.T
        mixed = torch.einsum("tnb,atbc->atnc", self.network.mix.detach(), sums)
        return mixed[:, kind, function, column].contiguous()

    def _tables(self, g: Geometry, slots: Slots) -> dict[str, Tensor]:
        pad = -g.mask.shape[1] % LANES
        mix = self.network.mix.detach()[slots.kinds]
        value, slope = (
            torch.einsum("asb,snb->ans", table, mix) for table in (slots.value, slots.slope)
        )
        tables = {
            "phi": value,
            "slope": slope,
            "angular": slots.angular.mT,
            "turn": slots.turn.movedim(0, 1).mT,
            "unit": slots.unit.mT,
            "place": (g.displacements * g.mask[..., None]).mT,
        }
        tables = {
            name: torch.nn.functional.pad(table, (0, pad)).contiguous()
            for name, table in tables.items()
        }
        neighbour = torch.where(g.mask, g.neighbour, -1)
        for name, table in (("neighbour", neighbour), ("kinds", slots.kinds)):
            tables[name] = torch.nn.functional.pad(table, (0, pad), value=-1).int()
        tables["moments"] = self.moments(self.sums(slots))
        tables["species"] = g.species.int()
        return tables

    def _repelled(self, g: Geometry) -> np.ndarray:
        """Return energy, forces and virial of the repulsion that is not learned."""
        if self.repulsion is None:
            return np.zeros(1 + 3 * len(g.species) + 6)
        kinds = torch.repeat_interleave(
            torch.arange(len(self.data.blocks)), torch.tensor(self.data.blocks)
        ).expand(g.mask.shape)
        with torch.enable_grad():
            d = g.displacements.detach().requires_grad_()
            energy = self.repulsion(d, kinds, g.mask, g.species).sum()
            (slope,) = torch.autograd.grad(energy, d)
        forces = assemble_forces(slope[None], g)[0].ravel()
        virial = -torch.einsum("aki,akj->ij", g.displacements, slope)
        six = torch.stack([virial[a, b] for a, b in PAIRS])
        return torch.cat([energy.detach()[None], forces, six]).numpy()


@dataclass(frozen=True)
class Solution:
    """A fitted committee and what was found on the way.

    Attributes:
        mean: ``[columns]`` solution on all frames.
        draws: ``[draws, columns]`` directions that the frames leave open, scaled so that
            the committee's deviation is the error of the frames left out.
        strength: lambda, in parts of the mean diagonal.
        scores: of every lambda: weighted square of the forces and energies of a frame left
            out, on the mean.
        held: errors of all frames, each by the solution that had not seen it.
        trust: ``[frames]`` how much of its weight each virial kept (:func:`trusted`).
    """

    mean: np.ndarray
    draws: np.ndarray
    strength: float
    scores: dict[float, float]
    held: Errors
    trust: np.ndarray

    @property
    def score(self) -> float:
        """The least of the scores: that of the chosen lambda."""
        return min(self.scores.values())


def fit(
    model: Any, data: TrainingSet, settings: LeastSquares, seed: int
) -> Iterator[tuple[int, int, Solution | None]]:
    """Fit; yields frames done and frames in all, at last with the solution."""
    frames = len(data.frames)
    equations = Equations(model, data, settings)
    fold = folds_of(frames, settings.folds, seed)
    sums, virials = Sums.empty(settings.folds, equations.columns), []
    for index in range(frames):
        rows = equations.changes(index)
        sums.add(int(fold[index]), rows)
        virials.append(rows.virial)
        yield index + 1, 2 * frames, None
    prior = prior_of(equations, settings.order)
    trust = trusted(sums.solver(prior), virials, fold)
    for rows, own, share in zip(virials, fold, trust, strict=True):
        if share < 1:
            sums.add(int(own), rows, share**2 - 1)
    solver = sums.solver(prior)
    left_out = np.stack(
        [[solver.solve(strength, k) for strength in STRENGTHS]
         for k in range(settings.folds)]
    )  # fmt: skip
    losses, errors = np.zeros(len(STRENGTHS)), []
    for index in range(frames):
        rows = equations.changes(index)
        error = left_out @ rows.matrix.T - rows.target
        mine = error[fold[index]]
        losses += ((mine * rows.weight)[:, :-6] ** 2).sum(1)
        errors.append(error.astype(np.float32))
        yield frames + index + 1, 2 * frames, None
    best = int(np.argmin(losses))
    mean = equations.centre + solver.solve(STRENGTHS[best], None)
    mix = _mixtures(settings.folds, max(equations.network.members // 2, 1), seed)
    draws = mix @ left_out[:, best]
    held = _errors(
        data,
        [error[k, best][None] for error, k in zip(errors, fold, strict=True)],
        [mix @ error[:, best] for error in errors],
    )
    factor = deviation_factor(held)
    if not math.isfinite(factor):
        factor = 1.0
    scores = dict(zip(STRENGTHS, (losses / frames).tolist(), strict=True))
    held = replace(held, deviation=held.deviation * factor)
    yield (
        2 * frames,
        2 * frames,
        Solution(mean, draws * factor, STRENGTHS[best], scores, held, trust),
    )


def trusted(solver: "Solver", virials: Sequence[Rows], fold: np.ndarray) -> np.ndarray:
    """Return how much of its weight each frame's virial keeps, ``[frames]`` up to 1.

    Args:
        solver: of all labels.
        virials: of every frame.
        fold: the part that each belongs to.
    """
    left_out = [solver.solve(FIRST, own) for own in range(len(solver.sums.parts))]
    off = np.array([
        np.linalg.norm((rows.matrix @ left_out[part] - rows.target) * rows.weight)
        for rows, part in zip(virials, fold, strict=True)
    ])  # fmt: skip
    known = np.array([rows.weight.any() for rows in virials])
    if not known.any():
        return np.ones(len(off))
    usual = OUTLYING * np.median(off[known])
    return np.minimum(1.0, usual / np.maximum(off, 1e-300)) ** 2


def folds_of(frames: int, folds: int, seed: int) -> np.ndarray:
    """Return the part that each frame belongs to."""
    return np.random.default_rng(seed).permutation(frames) % folds


@dataclass
class Sums:
    """Normal equations of every part of a set.

    Attributes:
        parts: ``[folds, columns, columns]``.
        sides: ``[folds, columns]``.
        squares: ``[folds]`` of the weighted targets.
    """

    parts: np.ndarray
    sides: np.ndarray
    squares: np.ndarray

    @staticmethod
    def empty(folds: int, columns: int) -> "Sums":
        """Return sums of nothing."""
        return Sums(
            np.zeros((folds, columns, columns)), np.zeros((folds, columns)), np.zeros(folds)
        )

    def add(self, part: int, rows: Rows, times: float = 1.0) -> None:
        """Add rows to a part, so many times."""
        weighted, target = rows.matrix * rows.weight[:, None], rows.weight * rows.target
        self.parts[part] += times * (weighted.T @ weighted)
        self.sides[part] += times * (weighted.T @ target)
        self.squares[part] += times * float(target @ target)

    def first(self, columns: int) -> "Sums":
        """Return the equations of the first columns alone."""
        matrices = np.ascontiguousarray(self.parts[:, :columns, :columns])
        return Sums(matrices, self.sides[:, :columns], self.squares)

    def loss(self, part: int, solution: np.ndarray) -> float:
        """Return the weighted square of the residuals of a part."""
        inner = self.parts[part] @ solution - 2 * self.sides[part]
        return float(solution @ inner + self.squares[part])

    def solver(self, prior: np.ndarray) -> "Solver":
        """Return the equations with columns of one size, and a prior for each."""
        scale = np.sqrt(np.einsum("kii->i", self.parts))
        scale = np.where(scale > 1e-12 * scale.max(), scale, 1.0)
        return Solver(self, scale, prior)


class Solver:
    """Normal equations with columns of one size, whole or with one part left out."""

    def __init__(self, sums: Sums, scale: np.ndarray, prior: np.ndarray) -> None:
        self.sums, self.scale, self.prior = sums, scale, prior
        self.whole, self.side = sums.parts.sum(0), sums.sides.sum(0)

    def solve(self, strength: Any, without: int | None = None) -> np.ndarray:
        """Return the solution for a lambda, one or for each column."""
        matrix, side = self.whole, self.side
        if without is not None:
            matrix, side = (
                matrix - self.sums.parts[without], side - self.sums.sides[without]
            )  # fmt: skip
        matrix = matrix / self.scale[:, None] / self.scale
        matrix[np.diag_indices_from(matrix)] += strength * self.prior + ROUNDING
        with warnings.catch_warnings():
            # what a prior too weak for the data does is judged by what it predicts
            warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
            answer = scipy.linalg.solve(
                matrix, side / self.scale, assume_a="pos", overwrite_a=True
            )
        return answer / self.scale

    def chosen(self, strengths: Sequence[Any]) -> tuple[Any, float]:
        """Return the lambda whose solutions predict the parts they leave out best.

        Returns:
            It, and the loss of all parts, each by the solution without it.
        """
        parts = range(len(self.sums.parts))
        losses = [
            sum(self.sums.loss(k, self.solve(each, k)) for k in parts) for each in strengths
        ]
        best = int(np.argmin(losses))
        return strengths[best], losses[best]


def prior_of(equations: Equations, order: float) -> np.ndarray:
    """Return the prior of weights and counts, in powers of the products' degrees.

    Degrees are in parts of the highest of each body order: what is at the edge of the basis
    must be needed as much with many moments as with few.
    """
    program, kinds = equations.network.program, len(equations.data.species)
    highest = np.zeros(program.orders.max() + 1)
    np.maximum.at(highest, program.orders, program.degrees)
    parts = program.degrees / np.maximum(highest[program.orders], 1e-9)
    prior = (parts / max(parts.mean(), 1e-9)) ** (2 * order)
    return np.concatenate([np.tile(prior, kinds), np.zeros(kinds)])


def _mixtures(folds: int, count: int, seed: int) -> np.ndarray:
    """Return random mixtures ``[count, folds]`` of the jackknife's directions."""
    mix = np.random.default_rng(seed + 1).normal(size=(count, folds))
    return mix - mix.mean(1, keepdims=True)


def _errors(
    data: TrainingSet, means: Sequence[np.ndarray], spreads: Sequence[np.ndarray]
) -> Errors:
    """Return the errors of frames from those of a mean, and from deviations of draws.

    Args:
        data: the frames.
        means: of every frame ``[members, rows]``.
        spreads: of every frame ``[draws, rows]``.
    """
    energy, forces, virial, deviation, predicted, there = [], [], [], [], [], []
    for frame, error, spread in zip(data.frames, means, spreads, strict=True):
        atoms = len(frame.symbols)
        rows = torch.from_numpy(np.concatenate([error, error.mean(0, keepdims=True)]))
        energy.append(rows[:, 0] / atoms)
        forces.append(rows[:, 1:-6].unflatten(1, (atoms, 3)))
        known = 1.0 if frame.virial is not None else math.nan
        six = rows[:, -6:] * (known / atoms)
        virial.append(torch.stack([six[:, k] for k in _SQUARE], 1).unflatten(1, (3, 3)))
        draws = torch.from_numpy(spread[:, 1:-6]).unflatten(1, (atoms, 3))
        deviation.append(draws.square().sum(-1).mean(0).sqrt())
        predicted.append(frame.energy + rows[-1, 0])
        there.append(torch.from_numpy(frame.forces) + forces[-1][-1])
    sizes = torch.tensor([len(frame.symbols) for frame in data.frames])
    return Errors(
        torch.stack(energy, 1), torch.cat(forces, 1), torch.stack(virial, 1),
        torch.cat(deviation), torch.stack(predicted), torch.cat(there),
        torch.repeat_interleave(torch.arange(len(sizes)), sizes),
    )  # fmt: skip


def errors_of(model: Any, data: TrainingSet) -> Errors:
    """Compare a model with the labels of all frames of a set, by its equations."""
    equations = Equations(model, data, LeastSquares())
    network = equations.network
    weights = network.weights.detach().double().flatten(1)
    bias = network.energy_bias.expand(len(weights), -1)
    solutions = torch.cat([weights, bias], 1).numpy()
    errors = []
    for index in range(len(data.frames)):
        rows = equations.rows(index)
        errors.append(solutions @ rows.matrix.T - rows.target)
    return _errors(data, errors, [error - error.mean(0) for error in errors])


def shortest(data: TrainingSet) -> float:
    """Return the shortest distance in a set, angstrom."""
    near = [g.displacements[g.mask].norm(dim=-1) for g in data.geometry]
    return min((float(d.min()) for d in near if len(d)), default=data.cutoff)


def install(model: Any, mean: np.ndarray, draws: np.ndarray) -> None:
    """Write a solution into a model as a committee around it."""
    network, _ = _split(model)
    kinds, features = len(network.species), len(network.program.features)
    weights = torch.from_numpy(mean[:-kinds]).reshape(1, kinds, features)
    spread = torch.from_numpy(draws[:, :-kinds]).reshape(-1, kinds, features)
    if network.members > 1:
        weights = antithetic(weights, spread)
    with torch.no_grad():
        network.weights.copy_(weights)
        network.energy_bias.copy_(torch.from_numpy(mean[-kinds:]))


def _split(model: Any) -> tuple[LinearPotential, Any]:
    """Return the linear part of a model and what stands beside it."""
    if isinstance(model, ZblSumPotential):
        return model.network, model.repulsion  # type: ignore[return-value]
    return model, None


def is_linear(form: Any) -> bool:
    """Whether a form is solved for instead of trained step by step."""
    return getattr(getattr(form, "network", form), "kind", "") == "cluster_expansion"


__all__ = [
    "Equations",
    "LeastSquares",
    "Solution",
    "errors_of",
    "fit",
    "install",
    "is_linear",
    "shortest",
    "trusted",
]
