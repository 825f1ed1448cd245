"""Whether the stress labels of a set fit its energies and forces: order, sign and unit.

The model of :mod:`.linear` is fitted to energies and forces alone; its virial then tells in
which order, with which sign and in which unit the labels are.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import linear
from .frames import LabelledFrame, group_indices, species_of
from .keys import UNITS

_FRAMES = 12
_TOO_LARGE = f"no periodic frame of at most {linear.LARGEST} atoms"
_SHEAR = ((1, 2), (0, 2), (0, 1))
"""Where yz, xz, xy stand in a tensor."""


@dataclass(frozen=True)
class Verdict:
    """What the energies and forces say of the stress labels of one group.

    Attributes:
        group: its name.
        outcome: ``confirmed``, ``contradicted``, or ``unsure``.
        order: where the labels' yz, xz, xy are found to stand among them.
        factor: labels over model; near 1 where sign and unit are right.
        reason: one sentence.
        sized: whether sign and unit are right.
    """

    group: str
    outcome: str
    order: tuple[int, ...]
    factor: float
    reason: str
    sized: bool = False


_STATED = (0, 1, 2)
_SURE, _CLOSE, _NEAR = 0.6, 2.5, 1.25
"""Correlation that a verdict needs; factor within which a poor and the best model agree."""

_MOVED = 0.02
"""Correlation that another order must gain over the stated one: 1 - c = d^2 / 2 of shears
that are a part d apart, and a fifth of the shear is no more than the error of the model."""


def judge(frames: Sequence[LabelledFrame]) -> list[Verdict]:
    """Compare the virials of all frames with those of a model of energies and forces."""
    labelled = [k for k, frame in enumerate(frames) if frame.virial is not None]
    every = group_indices([frames[k] for k in labelled])
    chosen_of = {
        name: _chosen(frames, [labelled[k] for k in numbers])
        for name, numbers in every.items()
    }
    groups = {name: chosen for name, chosen in chosen_of.items() if chosen}
    none = [
        Verdict(name, "unsure", _STATED, math.nan, _TOO_LARGE)
        for name, chosen in chosen_of.items()
        if not chosen
    ]
    species = species_of(frames[k] for chosen in groups.values() for k in chosen)
    every_one = [k for chosen in groups.values() for k in chosen]
    found = linear.rows([frames[k] for k in every_one], species)
    rows = dict(zip(every_one, found, strict=True))
    fit = _fit(frames, rows) if rows else None
    if fit is None:
        said = "too few labels to tell"
        return none + [Verdict(name, "unsure", _STATED, math.nan, said) for name in groups]
    return none + [
        _verdict(
            name,
            np.stack([rows[k].virial @ fit / frames[k].volume for k in chosen]),
            np.stack([_stress(frames[k]) for k in chosen]),
        )
        for name, chosen in groups.items()
    ]


def _stress(frame: LabelledFrame) -> np.ndarray:
    assert frame.virial is not None
    return frame.virial / frame.volume


def _chosen(frames: Sequence[LabelledFrame], numbers: Sequence[int]) -> list[int]:
    """Return the frames of a group with the largest shear that are small enough."""
    fit = [
        k
        for k in numbers
        if frames[k].virial is not None
        and len(frames[k].symbols) <= linear.LARGEST
        and frames[k].periodic.any()
    ]
    shear = {k: max(abs(_stress(frames[k])[at]) for at in _SHEAR) for k in fit}
    return sorted(fit, key=lambda k: -shear[k])[:_FRAMES]


def _fit(
    frames: Sequence[LabelledFrame], rows: Mapping[int, linear.Row]
) -> np.ndarray | None:
    """Return the model's coefficients; None where the labels do not determine it."""
    parts = {}
    for k, row in rows.items():
        atoms = len(frames[k].symbols)
        weight = 3 * math.sqrt(3 * atoms) / atoms
        parts[k] = (
            np.concatenate([row.forces.reshape(3 * atoms, -1), weight * row.energy[None]]),
            np.concatenate([frames[k].forces.ravel(), [frames[k].energy * weight]]),
        )
    used = np.sum([np.abs(a).sum(0) for a, _ in parts.values()], 0) > 0
    if sum(len(b) for _, b in parts.values()) < 3 * used.sum():
        return None
    found = linear.fit(parts).coefficients
    forces = np.concatenate([frames[k].forces.ravel() for k in rows])
    guess = np.concatenate([(row.forces @ found).ravel() for row in rows.values()])
    poor = np.square(guess - forces).mean() > 0.5 * np.square(forces).mean()
    return None if poor and forces.any() else found


def _verdict(group: str, model: np.ndarray, labels: np.ndarray) -> Verdict:
    """Judge one group from stresses ``[frames, 3, 3]`` of the model and of the labels."""
    ours, theirs = _shears(model), _shears(labels)
    size = math.sqrt(np.square(labels).mean())
    order, sure = _STATED, True
    if math.sqrt(np.square(theirs).mean()) > 1e-3 * size:
        order, sure = _order(ours, theirs)
    ours, theirs = _deviatoric(model, _STATED), _deviatoric(labels, order)
    if np.square(theirs).mean() < 1e-8 * size**2:  # hydrostatic: changes with volume tell
        ours, theirs = (np.trace(s, axis1=1, axis2=2) for s in (model, labels))
        ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    alike = _correlation(ours, theirs)
    factor = math.sqrt(np.square(theirs).sum() / max(np.square(ours).sum(), 1e-30))
    factor = math.copysign(factor, alike)
    said = f"factor {factor:.3g}, correlation {alike:.2f}"
    if not sure:
        said += "; the order of the shear is not told"
    if abs(alike) < _SURE or not sure:
        return Verdict(group, "unsure", order, factor, said)
    close = _close(alike)
    sized = 1 / close < factor < close
    if sized and order == _STATED:
        return Verdict(group, "confirmed", order, factor, said, sized)
    said += f": as if {_meant(order, factor, close)}"
    return Verdict(group, "contradicted", order, factor, said, sized)


def _shears(stress: np.ndarray) -> np.ndarray:
    return np.stack([stress[:, i, j] for i, j in _SHEAR], 1)


def _deviatoric(stress: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return traceless diagonal and shear, the latter in ``order``, in one vector."""
    diagonal = np.diagonal(stress, axis1=1, axis2=2)
    diagonal = diagonal - diagonal.mean(1, keepdims=True)
    shear = _shears(stress)[:, list(order)] * math.sqrt(2)
    return np.concatenate([diagonal, shear], 1).ravel()


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    norm = math.sqrt(np.square(a).sum() * np.square(b).sum())
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _order(ours: np.ndarray, theirs: np.ndarray) -> tuple[tuple[int, ...], bool]:
    """Return the order of the labels' shear, and whether it is told from the others.

    The stated order stays unless another one correlates clearly better.
    """
    alike = {
        order: abs(_correlation(ours.ravel(), theirs[:, list(order)].ravel()))
        for order in itertools.permutations(range(3))
    }
    best = max(alike, key=lambda order: alike[order])
    other = max(value for order, value in alike.items() if order != best)
    counts = best == _STATED or alike[best] - alike[_STATED] > _MOVED
    told = alike[best] > _SURE and 1 - alike[best] < 0.8 * (1 - other) and counts
    return (best, True) if told else (_STATED, False)


def _close(alike: float) -> float:
    """Return the factor within which labels agree with a model of such a correlation.

    What the model leaves unexplained is the part ``sqrt(1 - c^2)`` of the labels; four
    times that is allowed.
    """
    return min(_CLOSE, max(_NEAR, 1 + 4 * math.sqrt(max(0.0, 1 - alike**2))))


def _meant(order: Sequence[int], factor: float, close: float) -> str:
    """Say which convention would explain the labels."""
    names = ("yz", "xz", "xy")
    parts = []
    if tuple(order) != _STATED:
        # the label that is read as names[k] holds what the model has elsewhere
        true = {int(place): names[k] for k, place in enumerate(order)}
        parts.append("the order were " + ", ".join(true[k] for k in range(3)))
    if factor < 0:
        parts.append("the sign were the other one")
    size = abs(factor)
    if not 1 / close < size < close:
        ratios = {(a, b): UNITS[b] / UNITS[a] for a in UNITS for b in UNITS if a != b}
        off = {units: abs(math.log(size * ratio)) for units, ratio in ratios.items()}
        (a, b) = min(off, key=lambda units: off[units])
        unit = f"{b} had been taken for {a}"
        near = off[a, b] < math.log(close)
        parts.append(unit if near else f"it were {size:.2g} times it")
    return ", and ".join(parts)


def settle(
    frames: Sequence[LabelledFrame], ambiguous: bool, stated: bool
) -> tuple[list[LabelledFrame], list[str]]:
    """Verify the virials of a set; where the format leaves the order open, choose it.

    Args:
        frames: of one file or folder.
        ambiguous: the format does not say the order of the shear.
        stated: the scenario's keys do; then nothing is refused, only named.

    Returns:
        The frames, and a sentence for each group; frames of a group whose open order is not
        told are without a virial, where that of others is.

    Raises:
        ValueError: the labels contradict their convention, or no open order is told.
    """
    verdicts = {verdict.group: verdict for verdict in judge(frames)}
    choice = ambiguous and not stated
    told = [name for name, each in verdicts.items() if each.outcome != "unsure"]
    found: dict[str, tuple[int, ...] | None] = {}
    said = []
    for name, verdict in verdicts.items():
        outcome = verdict.outcome
        found[name] = verdict.order if choice else _STATED
        if choice and outcome == "unsure":
            text = (
                f"the order of the stress is not told by energies and forces "
                f"({verdict.reason}); say it with stress_order"
            )
            if not told:
                raise ValueError(f"group {name!r}: {text}")
            found[name] = None
            said.append(f"stress of group {name!r}: left out: {text}")
            continue
        if outcome == "contradicted" and not stated and not (choice and verdict.sized):
            raise ValueError(
                f"group {name!r}: the stress does not fit energies and forces "
                f"({verdict.reason}); say what it is with stress_order, stress_unit or "
                "stress_sign"
            )
        if choice:
            outcome = "order chosen by energies and forces"
        said.append(f"stress of group {name!r}: {outcome} ({verdict.reason})")
    return [_reordered(f, found.get(f.group, _STATED)) for f in frames], said


def _reordered(frame: LabelledFrame, order: Sequence[int] | None) -> LabelledFrame:
    if frame.virial is None or order == _STATED:
        return frame
    if order is None:
        return replace(frame, virial=None)
    virial = frame.virial.copy()
    for (i, j), place in zip(_SHEAR, order, strict=True):
        a, b = _SHEAR[place]
        virial[i, j] = virial[j, i] = frame.virial[a, b]
    return replace(frame, virial=virial)


__all__ = ["Verdict", "judge", "settle"]
