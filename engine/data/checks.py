"""What a set of labels must hold before anything is trained on it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..errors import InputError
from .frames import LabelledFrame, group_indices, species_of

Weights = tuple[float, float, float]
"""Of energy, force and virial in the loss."""


def check_training(
    frames: Sequence[LabelledFrame],
    train: Sequence[int],
    weights: Sequence[Weights],
    group_weights: Mapping[str, float],
) -> None:
    """Refuse a set on which a potential cannot be trained as asked.

    Args:
        frames: all frames, held-out ones too.
        train: the frames that are trained on.
        weights: of the loss at the start and at the end of the training.
        group_weights: weight of the frames of a group, 1 for others.

    Raises:
        InputError: fewer than two frames, nothing to train on, a weight on a label that
            no frame has, no weight at all, labels that are placeholders, or an element
            that only held-out frames hold.
    """
    if len(frames) < 2:
        raise InputError("data: training needs at least two labelled frames")
    if not train:
        raise InputError(
            f"validation: {len(frames)} frames leave none to train on; lower it"
        )
    groups = group_indices(frames)
    for name in group_weights:
        if name not in groups:
            raise InputError(
                f"group_weights.{name}: no frame is of this group; allowed: "
                f"{', '.join(sorted(groups))}"
            )
    if all(group_weights.get(frames[k].group, 1.0) == 0 for k in train):
        raise InputError("group_weights: every frame to train on has the weight 0")
    if not any(any(each) for each in weights):
        raise InputError("loss: every weight is 0; nothing would be trained")
    if any(each[2] > 0 for each in weights) and not any(
        frames[k].virial is not None for k in train
    ):
        raise InputError(
            "loss.virial: no frame to train on has a virial or stress of a periodic cell; "
            "set it to 0, or name the label with stress_key"
        )
    _check_placeholders(frames, weights)
    only = set(species_of(frames)) - set(species_of(frames[k] for k in train))
    if only:
        raise InputError(
            f"validation: {sorted(only)[0]} occurs only in frames that are held out; "
            "choose another seed, or a smaller part"
        )


def _check_placeholders(
    frames: Sequence[LabelledFrame], weights: Sequence[Weights]
) -> None:
    """Refuse energies or forces that are all exactly zero where the others are not."""
    forces = any(frame.forces.any() for frame in frames)
    energies = {frame.energy for frame in frames}
    moved = len({frame.forces.tobytes() for frame in frames}) > 2
    same = len(energies) == 1 and (energies == {0.0} or moved)
    if forces and same and any(each[0] > 0 for each in weights):
        raise InputError(
            f"data: every energy is exactly {frames[0].energy:g}, but the forces differ: "
            "placeholders; set loss.energy = 0 to train on forces alone"
        )
    varied = len({frame.energy for frame in frames}) > 1
    large = any(len(frame.symbols) > 1 for frame in frames)
    if not forces and varied and large and any(each[1] > 0 for each in weights):
        raise InputError(
            "data: every force is exactly 0, but the energies differ: placeholders; set "
            "loss.force = 0 to train on energies alone"
        )
    virials = [frame.virial for frame in frames if frame.virial is not None]
    empty = virials and not any(virial.any() for virial in virials)
    if forces and empty and any(each[2] > 0 for each in weights):
        raise InputError(
            "data: every virial is exactly 0, but the forces are not: placeholders; set "
            "loss.virial = 0"
        )


def unbalanced(frames: Sequence[LabelledFrame]) -> list[str]:
    """Return a sentence about frames with a net force, if there are any.

    Forces between atoms sum to zero. Of independent errors of a part e of the forces
    ``e sqrt(N) rms`` is left: a tenth of that, and .05 eV/angstrom an atom, are no error of
    rounding, grids or convergence any more.
    """
    net = np.array([np.linalg.norm(frame.forces.sum(0)) for frame in frames])
    rms = np.array([np.sqrt(np.square(f.forces).sum(1).mean()) for f in frames])
    size = np.sqrt([len(frame.symbols) for frame in frames])
    many = int((net > size * np.maximum(0.1 * rms, 0.05)).sum())
    if not many:
        return []
    worst = int(net.argmax())
    return [
        f"the forces of {many} frames do not sum to zero (largest: {net[worst]:.3g} "
        f"eV/angstrom, {frames[worst].origin}): fixed atoms, an outer field, or wrong"
    ]


def without_forces(frames: Sequence[LabelledFrame]) -> list[str]:
    """Return a sentence about frames whose forces are all 0 where others' are not.

    Those of a perfect crystal are; those of an atom alone must be.
    """
    empty = [f for f in frames if len(f.symbols) > 1 and not f.forces.any()]
    if not empty or all(not frame.forces.any() for frame in frames):
        return []
    return [
        f"every force of {len(empty)} frames (first: {empty[0].origin}) is exactly 0: "
        "symmetry, or placeholders"
    ]


def duplicates(frames: Sequence[LabelledFrame]) -> Iterator[tuple[int, int]]:
    """Yield pairs of frames with the same atoms in the same cell, later one second."""
    seen: dict[tuple[object, ...], int] = {}
    for number, frame in enumerate(frames):
        numbers = np.round(np.concatenate([frame.positions, frame.cell]), 6) + 0.0
        key = (frame.symbols, tuple(frame.periodic.tolist()), numbers.tobytes())
        if key in seen:
            yield seen[key], number
        else:
            seen[key] = number


def remarks(
    frames: Sequence[LabelledFrame],
    train: Sequence[int],
    test: Sequence[LabelledFrame] = (),
) -> list[str]:
    """Return one sentence about every trouble that does not forbid training."""
    pairs = list(duplicates(frames))
    said = [*unbalanced(frames), *without_forces(frames)]
    contrary = [
        (a, b)
        for a, b in pairs
        if abs(frames[a].energy - frames[b].energy) > 1e-3 * len(frames[a].symbols)
        or np.abs(frames[a].forces - frames[b].forces).max() > 0.1
    ]
    if contrary:
        a, b = contrary[0]
        said.append(
            f"{len(contrary)} pairs of equal structures have different labels; first: "
            f"{frames[a].origin} and {frames[b].origin}"
        )
    chosen = set(train)
    across = [pair for pair in pairs if (pair[0] in chosen) != (pair[1] in chosen)]
    if across:
        a, b = across[0]
        said.append(
            f"{len(across)} held-out frames are also trained on, so the validation error "
            f"is too small; first: {frames[a].origin} and {frames[b].origin}"
        )
    elif len(pairs) > len(contrary):
        a, b = pairs[0]
        said.append(
            f"{len(pairs)} frames repeat another; first: {frames[a].origin} and "
            f"{frames[b].origin}"
        )
    known = [(a, b) for a, b in duplicates([*frames, *test]) if a < len(frames) <= b]
    if known:
        a, b = known[0]
        said.append(
            f"{len(known)} frames of the test are also in the data, so its error is too "
            f"small; first: {test[b - len(frames)].origin} and {frames[a].origin}"
        )
    return said


__all__ = ["check_training", "duplicates", "remarks", "unbalanced", "without_forces"]
