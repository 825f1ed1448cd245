"""Elastic constants of a model beside those of the labels it was trained on."""

import numpy as np

from ...md.elasticity import cubic_constants, elastic_error, is_cubic, strained_crystals
from ...protocols import Figure
from .potential import Errors
from .tables import TrainingSet


def elastic_figures(data: TrainingSet, errors: Errors) -> dict[str, Figure]:
    """Return elastic constants of the model on the strained crystals of a set.

    Labels and model are read in one way, from the same frames: see
    :mod:`~engine.md.elasticity`. Empty where a set strains no crystal.

    Args:
        data: the frames.
        errors: of all of them.
    """
    figures: dict[str, Figure] = {}
    for number, crystal in enumerate(strained_crystals(data.frames)):
        frames = [data.frames[k] for k in crystal.indices]
        labels = np.stack([frame.virial for frame in frames])  # type: ignore[misc]
        atoms = np.array([len(frame.symbols) for frame in frames])
        wrong = errors.virial[-1][list(crystal.indices)].double().numpy()
        known = crystal.constants(labels)
        found = crystal.constants(labels + wrong * atoms[:, None, None])
        if not np.isfinite(known).all():
            continue
        suffix = f"_{number + 1}" if number else ""
        figures[f"elastic_error{suffix}"] = Figure(
            elastic_error(found, known), "",
            note=f"worst elastic constant, {len(frames)} strained crystals of "
            f"{frames[0].group or frames[0].origin}, atoms in place",
        )  # fmt: skip
        if is_cubic(known):
            expected = cubic_constants(known)
            for name, value in cubic_constants(found).items():
                figures[f"{name}{suffix}"] = Figure(
                    value, "GPa", note=f"labels {expected[name]:.4g}"
                )
    return figures


__all__ = ["elastic_figures"]
