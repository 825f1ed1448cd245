"""Training of potentials on energies, forces and virials.

The recipe that is the default: SOAP, cosine decay with a short warm-up, decoupled weight
decay, averaged weights, loss ``mean dF^2 + 100 mean (dE / N)^2`` (10 meV/atom weighs as
much as 0.1 eV/angstrom). DeePMD-kit's schedule of prefactors stands beside it for parity.
"""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ....models.parts import part
from ....models.potentials.fields import Weight
from ....models.potentials.unconstrained import random_rotations
from ...errors import GuardError
from .soap import Soap
from .tables import Batch, TrainingSet, assemble_forces, block_species


@part
class PlainLoss:
    """``force mean dF^2 + energy mean (dE/N)^2 + virial mean (dW/N)^2``."""

    force: Weight = 1.0
    """Weight of the force, 1 / (eV/angstrom)^2."""
    energy: Weight = 100.0
    """Weight of the energy per atom, 1 / (eV/atom)^2."""
    virial: Weight = 0.0
    """Weight of the virial per atom, 1 / (eV/atom)^2."""
    deviatoric: bool = True
    """Count only the traceless part: plane-wave pressures carry the Pulay stress."""
    kind: Literal["plain"] = "plain"

    def weights(self, decay: float) -> tuple[float, float, float]:
        """Return the constant weights of energy, force and virial."""
        return self.energy, self.force, self.virial

    def energy_term(self, error: Tensor, counts: Tensor) -> Tensor:
        """Squared error per atom, of every frame."""
        return (error / counts) ** 2


@part
class PrefactorLoss:
    """DeePMD-kit's loss: ``p_e dE^2 / N + p_f mean dF^2 + p_v dW^2 / N``.

    Each pair is the prefactor at the start and at the end of the training,
    ``p = limit + (start - limit) lr / lr_0``.
    """

    energy: tuple[float, float] = (0.02, 1.0)
    """Of ``dE^2 / N``, 1 / eV^2."""
    force: tuple[float, float] = (1000.0, 1.0)
    """Of ``mean dF^2``, 1 / (eV/angstrom)^2."""
    virial: tuple[float, float] = (0.0, 0.0)
    """Of ``dW^2 / N``, 1 / eV^2."""
    deviatoric: bool = False
    """Count only the traceless part of the virial."""
    kind: Literal["prefactors"] = "prefactors"

    def weights(self, decay: float) -> tuple[float, float, float]:
        """Return the weights of energy, force and virial at ``decay = lr / lr_0``."""
        e, f, v = (
            limit + (start - limit) * decay
            for start, limit in (self.energy, self.force, self.virial)
        )
        return e, f, v

    def energy_term(self, error: Tensor, counts: Tensor) -> Tensor:
        """Squared error over the number of atoms, of every frame."""
        return error**2 / counts


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: number of optimiser steps.
        batch: frames per step.
        loss: :class:`PlainLoss` or :class:`PrefactorLoss`.
        optimiser: ``soap`` or ``adam``.
        learning_rate: at its highest.
        final_rate: at the end.
        schedule: ``cosine``, or ``exponential`` in ``decay_steps`` long stairs.
        warmup: fraction of the steps over which the rate rises.
        weight_decay: decoupled, with SOAP.
        average: decay of the averaged weights; 0 switches the average off.
        validation: fraction of the frames held out.
        report: steps between two points of the learning curve.
        checkpoint: steps between two checkpoints.
        precision: dtype of weights and tables.
        seed: of initial weights, split and order of the batches.
        group_weights: weight in the loss of the frames of a group; 1 for others.
        augment: turn every frame at random in every step, for models that do not know
            that energies are invariant; such a model has no tables.
    """

    steps: int = 6000
    batch: int = 4
    loss: PlainLoss | PrefactorLoss = field(default_factory=PlainLoss)
    optimiser: str = "soap"
    learning_rate: float = 3e-3
    final_rate: float = 1e-7
    schedule: str = "cosine"
    decay_steps: int = 5000
    warmup: float = 0.02
    weight_decay: float = 0.3
    average: float = 0.998
    validation: float = 0.1
    report: int = 100
    checkpoint: int = 500
    precision: torch.dtype = torch.float32
    seed: int = 1
    group_weights: Mapping[str, float] = field(default_factory=dict)
    augment: bool = False

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        done = step / self.steps
        if self.schedule == "cosine":
            rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            rate += self.final_rate
        else:
            stairs = step // self.decay_steps * self.decay_steps / self.steps
            rate = self.learning_rate * (self.final_rate / self.learning_rate) ** stairs
        return rate * min(1.0, done / self.warmup + 0.02) if self.warmup else rate


@dataclass(frozen=True)
class Errors:
    """Errors of a set of frames, one row per member and one for the committee's mean.

    Attributes:
        energy: ``[members + 1, frames]`` eV/atom.
        forces: ``[members + 1, atoms, 3]`` eV/angstrom.
        virial: ``[members + 1, frames, 3, 3]`` eV/atom.
        deviation: ``[atoms]`` committee deviation of the force.
        predicted_energy: ``[frames]`` eV, mean of the committee.
        predicted_forces: ``[atoms, 3]``.
        frame: ``[atoms]`` frame of each atom.
    """

    energy: Tensor
    forces: Tensor
    virial: Tensor
    deviation: Tensor
    predicted_energy: Tensor
    predicted_forces: Tensor
    frame: Tensor

    @property
    def energy_rmse(self) -> float:
        """Of the committee's mean, eV/atom."""
        return float(self.energy[-1].square().mean().sqrt())

    @property
    def force_rmse(self) -> float:
        """Of the committee's mean, eV/angstrom."""
        return float(self.forces[-1].square().mean().sqrt())

    def interval(
        self, seed: int = 0, samples: int = 2000
    ) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals over frames of both errors."""
        count = self.energy.shape[1]
        squares = torch.zeros(count, dtype=torch.float64)
        squares.index_add_(0, self.frame, self.forces[-1].double().square().sum(1))
        atoms = torch.bincount(self.frame, minlength=count).double()
        rng = np.random.default_rng(seed)
        picks = torch.from_numpy(rng.integers(0, count, (samples, count)))
        energy = self.energy[-1].double().square()[picks].mean(1).sqrt()
        force = (squares[picks].sum(1) / (3 * atoms[picks].sum(1))).sqrt()
        ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
        return {
            "energy": tuple(torch.quantile(energy, ends).tolist()),
            "force": tuple(torch.quantile(force, ends).tolist()),
        }  # type: ignore[return-value]


def predict(
    model: Any, batch: Batch, blocks: Sequence[int], virial: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return energies ``[members, frames]`` (f64), forces and, if asked, virials.

    ``W = -sum_ij d_ij (x) dE_i/dd_ij``. Differentiable in the parameters.
    """
    if batch.tables:
        energies, gradients = model.energies_and_gradients(
            batch.tables, batch.species, blocks
        )
    else:
        energies, gradients = _by_autograd(model, batch, blocks)
    frames = len(batch.counts)
    total = energies.new_zeros(energies.shape[0], frames).index_add(
        1, batch.frame, energies
    )
    forces = assemble_forces(gradients, batch)
    if not virial:
        return total, forces, None
    per_atom = -torch.einsum("aki,makj->maij", batch.displacements, gradients)
    stack = per_atom.new_zeros(per_atom.shape[0], frames, 3, 3)
    return total, forces, stack.index_add(1, batch.frame, per_atom)


def _by_autograd(model: Any, batch: Batch, blocks: Sequence[int]) -> tuple[Tensor, Tensor]:
    training = torch.is_grad_enabled()
    with torch.enable_grad():
        members = model.members
        each = batch.displacements.expand(members, *batch.displacements.shape)
        each = each.detach().requires_grad_()
        kinds = block_species(blocks).expand(batch.mask.shape)
        energies = torch.stack(
            [model(each[k], kinds, batch.mask, batch.species)[k] for k in range(members)]
        )
        (gradients,) = torch.autograd.grad(energies.sum(), each, create_graph=training)
    return energies, gradients


@torch.no_grad()
def evaluate(
    model: Any, data: TrainingSet, indices: Sequence[int], batch: int = 8
) -> Errors:
    """Compare a model with the labels of some frames."""
    parts: dict[str, list[Tensor]] = {name: [] for name in Errors.__dataclass_fields__}
    for start in range(0, len(indices), batch):
        b = data.batch(indices[start : start + batch])
        energies, forces, virial = predict(model, b, data.blocks, virial=True)
        assert virial is not None
        mean_energy, mean_forces = energies.mean(0), forces.mean(0)
        spread = (forces - mean_forces).square().sum(-1).mean(0).sqrt()
        counts = b.counts
        parts["energy"].append((_with_mean(energies) - b.energy) / counts)
        parts["forces"].append(_with_mean(forces) - b.forces)
        parts["virial"].append((_with_mean(virial) - b.virial) / counts[:, None, None])
        parts["deviation"].append(spread)
        parts["predicted_energy"].append(mean_energy)
        parts["predicted_forces"].append(mean_forces)
        parts["frame"].append(b.frame + start)
    axis = {"energy": 1, "forces": 1, "virial": 1}
    return Errors(**{n: torch.cat(p, axis.get(n, 0)) for n, p in parts.items()})


def _with_mean(values: Tensor) -> Tensor:
    return torch.cat([values, values.mean(0, keepdim=True)])


@dataclass
class Training:
    """A training in progress; everything that evolves, so that it can be resumed.

    Attributes:
        model: the committee, one module.
        data: training and validation frames.
        settings: see :class:`Settings`.
    """

    model: Any
    data: TrainingSet
    settings: Settings
    train: list[int]
    held: list[int]
    average: Any
    best: Any
    optimiser: torch.optim.Optimizer
    rng: torch.Generator
    queue: list[int] = field(default_factory=list)
    step: int = 0
    best_score: float = math.inf
    cpu_seconds: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    @staticmethod
    def start(
        model: Any,
        data: TrainingSet,
        train: Sequence[int],
        held: Sequence[int],
        settings: Settings,
        fresh: bool = True,
    ) -> "Training":
        """Set the statistics of the data (for a ``fresh`` model) and the optimiser."""
        begun = time.process_time()
        model.to(torch.float64)
        if fresh:
            set_statistics(model, data, train)
        data.dtype = settings.precision
        data.weights = [settings.group_weights.get(f.group, 1.0) for f in data.frames]
        data.prepare(model)
        model.to(settings.precision)
        optimiser = _optimiser(model, settings)
        rng = torch.Generator().manual_seed(settings.seed + 7919)
        training = Training(
            model,
            data,
            settings,
            list(train),
            list(held),
            copy.deepcopy(model),
            copy.deepcopy(model),
            optimiser,
            rng,
        )
        training.cpu_seconds = time.process_time() - begun
        return training

    def run(self, steps: int) -> None:
        """Make some optimiser steps.

        Raises:
            GuardError: the loss is not finite.
        """
        begun = time.process_time()
        for _ in range(min(steps, self.settings.steps - self.step)):
            self._one_step()
        self.cpu_seconds += time.process_time() - begun

    def _one_step(self) -> None:
        settings = self.settings
        rate = settings.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = self.data.batch(self._next_frames())
        if settings.augment:
            batch = turned(batch, random_rotations(len(batch.counts), self.rng))
        weights = settings.loss.weights(rate / settings.learning_rate)
        energies, forces, virial = predict(
            self.model, batch, self.data.blocks, virial=weights[2] > 0
        )
        error = energies - batch.energy
        weight = batch.weight
        squares = (forces - batch.forces).square().mean(-1)
        force_term = (squares * weight[batch.frame]).mean(-1)
        energy_term = (settings.loss.energy_term(error, batch.counts) * weight).mean(-1)
        loss = weights[0] * energy_term + weights[1] * force_term
        if virial is not None:
            loss = loss + weights[2] * virial_term(virial, batch, settings.loss.deviatoric)
        self.optimiser.zero_grad(set_to_none=True)
        loss.sum().backward()
        with torch.no_grad():
            if not bool(torch.isfinite(loss).all()):
                raise GuardError(
                    f"training: the loss is {float(loss.sum())} at step {self.step}; "
                    "a lower learning rate helps",
                    self.step,
                )
            self.optimiser.step()
            self.step += 1
            self._follow()
            self.sums[0] += float((error / batch.counts).square().mean())
            self.sums[1] += float(squares.mean())
            self.sums[2] += 1

    def _next_frames(self) -> list[int]:
        if len(self.queue) < min(self.settings.batch, len(self.train)):
            order = torch.randperm(len(self.train), generator=self.rng).tolist()
            self.queue = [self.train[k] for k in order]
        size = self.settings.batch
        chosen, self.queue = self.queue[:size], self.queue[size:]
        return chosen

    def _follow(self) -> None:
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        if not self.settings.average:
            decay = 0.0
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.model.parameters()), 1 - decay
        )

    def measure(self) -> dict[str, float]:
        """Return one point of the learning curve; keeps the best averaged weights."""
        self.data.follow(self.model)
        energy, force, count = self.sums
        self.sums = [0.0, 0.0, 0.0]
        point = {
            "rate": self.settings.rate(max(self.step - 1, 0)),
            "energy_train": math.sqrt(energy / max(count, 1)),
            "force_train": math.sqrt(force / max(count, 1)),
            "cpu_s": round(self.cpu_seconds, 2),
        }
        if self.held:
            errors = evaluate(self.average, self.data, self.held)
            point["energy_validation"] = errors.energy_rmse
            point["force_validation"] = errors.force_rmse
            score = errors.force_rmse**2 + 100 * errors.energy_rmse**2
            if score < self.best_score:
                self.best_score = score
                self.best.load_state_dict(self.average.state_dict())
        else:
            self.best.load_state_dict(self.average.state_dict())
        return point

    def result(self, best: bool = False) -> Any:
        """Return the averaged weights, the last or the best on the validation frames."""
        return self.best if best else self.average

    # -- checkpoints: all tensors by name, so that a resumed run is the same bit for bit --

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a resumed run needs."""
        packed: dict[str, Tensor] = {"rng": self.rng.get_state()}
        for name in ("model", "average", "best"):
            state = getattr(self, name).state_dict()
            packed |= {f"{name}/{key}": value for key, value in state.items()}
        for number, parameter in enumerate(self.model.parameters()):
            state = self.optimiser.state.get(parameter, {})
            packed |= {
                f"optimiser/{number}/{key}": value.clone() for key, value in state.items()
            }
        return packed

    def extra(self) -> dict[str, Any]:
        """Return the plain numbers beside the tensors."""
        return {
            "queue": self.queue,
            "best_score": self.best_score if math.isfinite(self.best_score) else None,
            "cpu_seconds": self.cpu_seconds,
            "sums": self.sums,
        }

    def restore(
        self, step: int, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]
    ) -> None:
        """Go back to a checkpoint."""
        self.step = step
        self.rng.set_state(tensors["rng"])
        for name in ("model", "average", "best"):
            prefix = f"{name}/"
            getattr(self, name).load_state_dict(
                {
                    k.removeprefix(prefix): v
                    for k, v in tensors.items()
                    if k.startswith(prefix)
                }
            )
        for number, parameter in enumerate(self.model.parameters()):
            prefix = f"optimiser/{number}/"
            state = {
                k.removeprefix(prefix): v.clone()
                for k, v in tensors.items()
                if k.startswith(prefix)
            }
            if state:
                self.optimiser.state[parameter] = state
        self.queue = list(extra["queue"])
        score = extra["best_score"]
        self.best_score = math.inf if score is None else score
        self.cpu_seconds, self.sums = extra["cpu_seconds"], list(extra["sums"])


def set_statistics(model: Any, data: TrainingSet, train: Sequence[int]) -> None:
    """Set energy bias and normalisation of a model from (a sample of) the frames.

    A model from outside that has neither is trained as it is.
    """
    if hasattr(model, "fitting"):
        model.fitting.set_energy(data.counts(train), data.energies(train))
    if not hasattr(model, "set_statistics"):
        return
    sample = train[:: max(1, len(train) // 40)]
    chosen = [data.geometry[k] for k in sample]
    model.set_statistics(
        torch.cat([g.displacements for g in chosen]),
        torch.cat([g.mask for g in chosen]),
        data.blocks,
        torch.cat([g.species for g in chosen]),
    )


def _optimiser(model: Any, settings: Settings) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    if settings.optimiser == "soap":
        return Soap(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
    return torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)


def turned(batch: Batch, rotations: Tensor) -> Batch:
    """Return the frames turned by ``rotations [frames, 3, 3]``, labels too."""
    turn = rotations.to(batch.displacements)
    each = turn[batch.frame]
    return replace(
        batch,
        displacements=batch.displacements @ each.mT,
        forces=(batch.forces[:, None] @ each.mT)[:, 0],
        virial=turn @ batch.virial @ turn.mT,
    )


def virial_term(virial: Tensor, batch: Batch, deviatoric: bool) -> Tensor:
    """Return the mean squared error per atom, ``[members]``, of the known virials."""
    known = torch.isfinite(batch.virial)
    target = torch.where(known, batch.virial, 0.0)
    error = (virial - target) / batch.counts[:, None, None] * known
    if deviatoric:
        trace = error.diagonal(dim1=-2, dim2=-1).mean(-1)
        error = error - trace[..., None, None] * torch.eye(3, dtype=error.dtype)
    return error.square().sum((1, 2, 3)) / known.sum().clamp(min=1)


__all__ = [
    "Errors",
    "PlainLoss",
    "PrefactorLoss",
    "Settings",
    "Training",
    "evaluate",
    "predict",
    "set_statistics",
    "turned",
    "virial_term",
]
