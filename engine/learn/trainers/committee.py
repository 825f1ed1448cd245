"""Train a committee of potentials on all labels of the loop."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from ....models.parts import part
from ...protocols import Committee
from ..atoms import AtomsLabel, Configuration, as_frame
from .potential import PlainLoss, Settings, Training
from .tables import TrainingSet

_RELATIVE = 0.01
"""Part of a frame's forces that the model will leave. Larger, it would take weight from
hot liquids, whose error is absolute like that of all others."""

MOST = 8
"""How often the surest label is shown for one showing of the least sure."""


def repeated(labels: Sequence[AtomsLabel], model_error: float = 0.05) -> list[int]:
    """Return the frames of an epoch, each as often as the error expected of it allows.

    A frame is shown in proportion to ``1 / (model_error^2 + (0.01 F)^2 + force_error^2)``,
    the weight that it has in least squares, rounded to whole showings; ``F`` is the root
    mean square of its forces. A model cannot know forces of 10 eV/angstrom, of atoms that
    have run into each other, as well as those of 1: a few such frames would outweigh all
    others.

    Args:
        labels: with their error bars.
        model_error: what the model itself will leave, eV/angstrom.
    """
    variance = [
        model_error**2
        + _RELATIVE**2 * float(label.forces.square().sum(-1).mean())
        + label.force_error**2
        for label in labels
    ]
    worst = max(variance)
    counts = [max(1, min(MOST, round(worst / v))) for v in variance]
    return [frame for frame, count in enumerate(counts) for _ in range(count)]


@part
class PotentialTrainer:
    """Fits all members together in every round, from the current weights or from new ones.

    Labels with error bars or of large forces enter by their weight (:func:`repeated`).
    """

    steps: Annotated[int, Ge(1)] = 600
    """Optimiser steps of a round from new weights."""
    batch: Annotated[int, Ge(1)] = 4
    """Frames in a step."""
    learning_rate: Annotated[float, Gt(0)] = 3e-3
    """At its highest."""
    warm: Annotated[float, Ge(0), Le(1)] = 0.5
    """Part of steps and rate with which weights are trained on; 0 starts anew."""
    energy_weight: Annotated[float, Ge(0)] = 100.0
    """Of the energy per atom against the force, 1 / (eV/atom)^2."""

    def train(
        self,
        committee: Committee,
        dataset: Sequence[tuple[Configuration, AtomsLabel]],
        rng: torch.Generator,
    ) -> Committee:
        """Return the trained committee (averaged weights), in the training precision."""
        seed = int(torch.randint(2**31, (1,), generator=rng))
        module = copy.deepcopy(committee[0])
        trained = bool(module.fitting.mean.abs().sum() > 0)  # type: ignore[union-attr]
        settings = Settings(
            steps=self.steps,
            batch=self.batch,
            loss=PlainLoss(energy=self.energy_weight),
            learning_rate=self.learning_rate,
            validation=0.0,
            seed=seed,
        )
        if trained and self.warm > 0:
            settings = replace(
                settings,
                steps=max(1, round(settings.steps * self.warm)),
                learning_rate=settings.learning_rate * self.warm,
            )
        elif trained:
            module.reset(seed)  # type: ignore[operator]
        frames = [as_frame(sample, label) for sample, label in dataset]
        data = TrainingSet.of(frames, tuple(module.species), module.cutoff)  # type: ignore[arg-type]
        everything = repeated([label for _, label in dataset])
        fresh = not (trained and self.warm > 0)
        training = Training.start(module, data, everything, [], settings, fresh)
        training.run(settings.steps)
        return [training.result().eval().requires_grad_(True)]
