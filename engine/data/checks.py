"""What a set of labels must hold before anything is trained on it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .frames import LabelledFrame, group_indices, pairs, species_of

Weights = tuple[float, float, float]
"""Of energy, force and virial in the loss."""


@dataclass(frozen=True)
class Labels:
    """Which labels of a set are to be used."""

    energy: bool = True
    force: bool = True
    virial: bool = True

    @classmethod
    def of(cls, weights: Sequence[Weights]) -> "Labels":
        """Return those that have a weight at the start or at the end of the training."""
        return cls(*(any(each[k] > 0 for each in weights) for k in range(3)))


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
            no frame has, no weight at all, or an element that only held-out frames hold.
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
            "set it to 0, name the label with stress_key, or, where energies and forces "
            "are too few to tell what it is, say it with stress_order, stress_unit and "
            "stress_sign"
        )
    only = set(species_of(frames)) - set(species_of(frames[k] for k in train))
    if only:
        raise InputError(
            f"validation: {sorted(only)[0]} occurs only in frames that are held out; "
            "choose another seed, or a smaller part"
        )


def check_placeholders(frames: Sequence[LabelledFrame], use: Labels) -> None:
    """Refuse labels that are exactly zero, or all one, where others say that they are not.

    Raises:
        InputError: names the label and the weight that leaves it out.
    """
    if not frames:
        return
    forces = any(frame.forces.any() for frame in frames)
    energies = {frame.energy for frame in frames}
    moved = len({frame.forces.tobytes() for frame in frames}) > 2
    same = len(energies) == 1 and (energies == {0.0} or moved)
    if forces and same and use.energy:
        raise InputError(
            f"data: every energy is exactly {frames[0].energy:g}, but the forces differ: "
            "placeholders; set loss.energy = 0 to train on forces alone"
        )
    if use.energy and (few := _repeated(frames)):
        raise InputError(
            f"data: the energy of {len(few)} frames (first: {few[0].origin}) is exactly "
            f"{few[0].energy:g}, but their forces differ: placeholders; leave them out, or "
            "set loss.energy = 0 to train on forces alone"
        )
    if not forces and use.force and not all(map(_balanced, frames)):
        raise InputError(
            "data: every force is exactly 0, but not all atoms are where symmetry forbids "
            "forces: placeholders; set loss.force = 0 to train on energies alone"
        )
    virials = [frame.virial for frame in frames if frame.virial is not None]
    empty = virials and not any(virial.any() for virial in virials)
    if forces and empty and use.virial:
        raise InputError(
            "data: every virial is exactly 0, but the forces are not: placeholders; set "
            "loss.virial = 0"
        )


_RANGE, _EVEN = 5.0, 1e-3
"""Angstrom in which neighbours count; part of their pull that rounded positions leave."""


def _balanced(frame: LabelledFrame) -> bool:
    """Tell whether neighbours stand around every atom so that no force can act on it.

    Where the symmetry of a site forbids a vector, a pull of any range sums to zero.
    """
    i, _, d = pairs(frame, _RANGE)
    pull, total = np.zeros((len(frame.symbols), 3)), np.zeros(len(frame.symbols))
    weight = np.exp(-np.linalg.norm(d, axis=1))
    np.add.at(pull, i, weight[:, None] * d)
    np.add.at(total, i, weight)
    return bool((np.linalg.norm(pull, axis=1) <= _EVEN * total).all())


def _repeated(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    """Return moving frames of one energy that is 0, or too often there for a coincidence.

    Energies that are rounded coincide too, but then others do as often; structures that
    are images of each other have equal forces; 0 of one frame may be where they begin.
    """
    moving = [f for f in frames if len(f.symbols) > 1 and f.forces.any()]
    kinds = {(f.energy, round(float(np.abs(f.forces).max()), 6)) for f in moving}
    often = Counter(energy for energy, _ in kinds)
    (energy, most), (_, next_), *_ = [*often.most_common(2), (0.0, 0), (0.0, 0)]
    if often[0.0] > 1:
        energy = 0.0
    elif most < _OFTEN * max(next_, 1):
        return []
    return [frame for frame in moving if frame.energy == energy]


_OFTEN = 3
"""Frames of one energy, and times as many as of any other, that are no coincidence."""


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

    Those of a perfect crystal are; those of an atom alone must be, and of atoms further
    apart than any that feel each other, as at the end of a scan.
    """
    empty = [f for f in frames if len(f.symbols) > 1 and not f.forces.any()]
    if not empty or all(not frame.forces.any() for frame in frames):
        return []
    reach = max(_shortest(frame) for frame in frames if frame.forces.any())
    empty = [f for f in empty if _shortest(f) <= reach]
    if not empty:
        return []
    return [
        f"every force of {len(empty)} frames (first: {empty[0].origin}) is exactly 0: "
        "symmetry, or placeholders"
    ]


def _shortest(frame: LabelledFrame) -> float:
    """Return the shortest distance between atoms, or infinity beyond :data:`_RANGE`."""
    return float(np.linalg.norm(pairs(frame, _RANGE)[2], axis=1).min(initial=np.inf))


def without_energy(frames: Sequence[LabelledFrame]) -> list[str]:
    """Return a sentence about a frame of moving atoms whose energy alone is 0."""
    zero = [f for f in frames if f.energy == 0.0 and f.forces.any()]
    if len(zero) != 1 or len(frames) < 2:
        return []
    return [f"the energy of {zero[0].origin} is exactly 0: where they begin, or missing"]


def rare(frames: Sequence[LabelledFrame]) -> list[str]:
    """Return a sentence about each element that one frame alone holds, among others."""
    holders: dict[str, list[LabelledFrame]] = {}
    for frame in frames:
        for symbol in set(frame.symbols):
            holders.setdefault(symbol, []).append(frame)
    return [
        f"{symbol} stands in {held[0].origin} alone"
        for symbol, held in sorted(holders.items())
        if len(held) == 1 < _SEVERAL <= len(frames)
    ]


_SEVERAL = 8
"""Frames of which one is an exception."""


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
    said = [*unbalanced(frames), *without_forces(frames), *without_energy(frames)]
    said += rare(frames)
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


__all__ = [
    "Labels",
    "check_placeholders",
    "check_training",
    "duplicates",
    "rare",
    "remarks",
    "unbalanced",
    "without_energy",
    "without_forces",
]
