"""Train a committee of potentials on all labels of the loop."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from ...protocols import Committee
from ..atoms import AtomsLabel, Configuration, as_frame
from .potential import Settings, Training
from .tables import TrainingSet

MOST = 8
"""How often the surest label is shown for one showing of the least sure."""


def repeated(labels: Sequence[AtomsLabel], model_error: float = 0.05) -> list[int]:
    """Return the frames of an epoch, each as often as its error bar allows.

    A frame is shown in proportion to ``1 / (model_error^2 + force_error^2)``, the weight
    that it has in least squares, rounded to whole showings; exact labels once each.

    Args:
        labels: with their error bars.
        model_error: what the model itself will leave, eV/angstrom.
    """
    variance = [model_error**2 + label.force_error**2 for label in labels]
    worst = max(variance)
    counts = [max(1, min(MOST, round(worst / v))) for v in variance]
    return [frame for frame, count in enumerate(counts) for _ in range(count)]


@dataclass(frozen=True)
class PotentialTrainer:
    """Fits all members together, from the current weights or from new ones.

    Labels with error bars enter by their weight (:func:`repeated`).

    Attributes:
        settings: of the training; ``steps`` are those of one round.
        warm: fraction of the learning rate and of the steps with which the current weights
            are trained on; 0 starts from new weights in every round.
    """

    settings: Settings = field(default_factory=lambda: Settings(steps=600, validation=0.0))
    warm: float = 0.5

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
        settings = replace(self.settings, seed=seed)
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
