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
from .keys import UNITS, VOIGT

_FRAMES = 12
_TOO_LARGE = f"no periodic frame of at most {linear.LARGEST} atoms"
_SHEAR = ((1, 2), (0, 2), (0, 1))
"""Where yz, xz, xy stand in a tensor."""


_WRONG, _LITTLE, _REST, _TOLD = 0.7, 0.2, 0.25, 0.8
"""Parts of a component and of all labels that wrong ones of it are off; part of all that is
missed which the others then miss at most; their correlation with the model."""

_BEYOND, _APART = 4.0, 3.0
"""Standard errors of the model's mean pressure, and deviations of its frames from it, that
a pressure must be beyond it to be named."""

_MOVING = 0.01
"""eV/angstrom of a force, and part of a volume, with which no stress is exactly 0."""

_MUCH = 2.0
"""Root mean squares of the deviatoric labels beyond which such a pressure is refused: the
Pulay stress of a small basis is less."""

_TAIL = 0.5 * UNITS["GPa"]
"""eV/angstrom^3 of pressure that attraction beyond the reach of the model may make."""


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
        convention: whether another order, unit or sign would explain what is contradicted.
    """

    group: str
    outcome: str
    order: tuple[int, ...]
    factor: float
    reason: str
    sized: bool = False
    convention: bool = True


_STATED = (0, 1, 2)
_SURE, _CLOSE, _NEAR = 0.6, 2.5, 1.25
"""Correlation that a verdict needs; factor within which a poor and the best model agree."""

_MOVED = 0.02
"""Correlation that another order must gain over the stated one: 1 - c = d^2 / 2 of shears
that are a part d apart, and a fifth of the shear is no more than the error of the model."""


def judge(frames: Sequence[LabelledFrame], most: int = _FRAMES) -> list[Verdict]:
    """Compare the virials of all frames with those of a model of energies and forces.

    Where the labels of ``most`` frames of each group do not determine the model of all
    groups, each is judged alone, and by more frames.
    """
    labelled = [k for k, frame in enumerate(frames) if frame.virial is not None]
    every = group_indices([frames[k] for k in labelled])
    chosen_of = {
        name: _chosen(frames, [labelled[k] for k in numbers], most)
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
    alone = [[frames[labelled[k]] for k in every[name]] for name in groups]
    if fit is None and len(groups) > 1:
        return none + [verdict for each in alone for verdict in judge(each, most)]
    if fit is None and most == _FRAMES and any(len(each) > most for each in alone):
        return none + judge(alone[0], 4 * most)
    if fit is None:
        said = "too few labels to tell"
        return none + [Verdict(name, "unsure", _STATED, math.nan, said) for name in groups]
    found = {
        name: _Compared.of([frames[k] for k in chosen], [rows[k] for k in chosen], fit)
        for name, chosen in groups.items()
    }
    verdicts = [_verdict(name, each) for name, each in found.items()]
    unsure = [each for each in verdicts if each.outcome == "unsure"]
    if len(unsure) > 1:
        together = _verdict("", _Compared.joined([found[each.group] for each in unsure]))
        if together.outcome != "unsure":
            told = {each.group: replace(together, group=each.group) for each in unsure}
            verdicts = [told.get(each.group, each) for each in verdicts]
    return none + verdicts


@dataclass(frozen=True)
class _Compared:
    """Stresses ``[frames, 3, 3]`` of the model and of the labels, eV/angstrom^3.

    Attributes:
        model: of the energies and forces.
        labels: as they were read.
        error: standard error of the model's mean pressure.
        variance: ``[6, 6]``, of the model's deviatoric stress, summed over frames.
    """

    model: np.ndarray
    labels: np.ndarray
    error: float
    variance: np.ndarray

    @classmethod
    def of(
        cls,
        frames: Sequence[LabelledFrame],
        rows: Sequence[linear.Row],
        fit: linear.Fit,
    ) -> "_Compared":
        features = [row.virial / f.volume for f, row in zip(frames, rows, strict=True)]
        mean = np.mean([np.trace(each) / 3 for each in features], 0)
        parts = [_deviatoric(np.moveaxis(each, -1, 0), _STATED) for each in features]
        return cls(
            np.stack([each @ fit.coefficients for each in features]),
            np.stack([_stress(frame) for frame in frames]),
            math.sqrt(mean @ fit.covariance @ mean),
            np.sum([part.T @ fit.covariance @ part for part in parts], 0),
        )

    @classmethod
    def joined(cls, parts: Sequence["_Compared"]) -> "_Compared":
        model, labels = (
            np.concatenate([getattr(each, name) for each in parts])
            for name in ("model", "labels")
        )
        variance = np.sum([each.variance for each in parts], 0)
        return cls(model, labels, max(each.error for each in parts), variance)


def _stress(frame: LabelledFrame) -> np.ndarray:
    assert frame.virial is not None
    return frame.virial / frame.volume


def _chosen(
    frames: Sequence[LabelledFrame], numbers: Sequence[int], most: int
) -> list[int]:
    """Return the frames of a group with the largest shear that are small enough."""
    fit = [
        k
        for k in numbers
        if frames[k].virial is not None
        and len(frames[k].symbols) <= linear.LARGEST
        and frames[k].periodic.any()
    ]
    shear = {k: max(abs(_stress(frames[k])[at]) for at in _SHEAR) for k in fit}
    return sorted(fit, key=lambda k: -shear[k])[:most]


def _fit(
    frames: Sequence[LabelledFrame], rows: Mapping[int, linear.Row]
) -> linear.Fit | None:
    """Return the model; None where the labels do not determine it."""
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
    found = linear.fit(parts)
    forces = np.concatenate([frames[k].forces.ravel() for k in rows])
    guess = np.concatenate(
        [(row.forces @ found.coefficients).ravel() for row in rows.values()]
    )
    poor = np.square(guess - forces).mean() > 0.5 * np.square(forces).mean()
    return None if poor and forces.any() else found


def _verdict(group: str, compared: _Compared) -> Verdict:
    """Judge one group."""
    model, labels = compared.model, compared.labels
    ours, theirs = _shears(model), _shears(labels)
    size = math.sqrt(np.square(labels).mean())
    order, sure = _STATED, True
    if math.sqrt(np.square(theirs).mean()) > 1e-3 * size:
        order, sure = _order(ours, theirs)
    ours, theirs = _deviatoric(model, _STATED), _deviatoric(labels, order)
    wrong = _missing(compared, ours, theirs) or _wrong(ours, theirs, compared.variance)
    hydrostatic = np.square(theirs).mean() < 1e-8 * size**2
    if hydrostatic:  # changes with volume tell
        ours, theirs = (np.trace(s, axis1=1, axis2=2) for s in (model, labels))
        ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    alike = _correlation(ours, theirs)
    factor = math.sqrt(np.square(theirs).sum() / max(np.square(ours).sum(), 1e-30))
    factor = math.copysign(factor, alike)
    said = f"factor {factor:.3g}, correlation {alike:.2f}"
    if wrong:
        said = f"{said}: {wrong}"
        return Verdict(group, "contradicted", order, factor, said, convention=False)
    if not sure:
        said += "; the order of the shear is not told"
    if abs(alike) < _SURE or not sure:
        return Verdict(group, "unsure", order, factor, said)
    close = _close(alike)
    sized = 1 / close < factor < close
    if not (sized and order == _STATED):
        said += f": as if {_meant(order, factor, close)}"
        return Verdict(group, "contradicted", order, factor, said, sized)
    beyond, much = (0.0, False) if hydrostatic else _pressure(compared)
    if beyond:
        said += (
            f"; but {beyond / UNITS['GPa']:.3g} GPa are in every frame beyond energies and "
            "forces: a pressure that was added"
        )
        if much:
            return Verdict(group, "contradicted", order, factor, said, convention=False)
        said += ", the Pulay stress of a small basis, or attraction of long range"
    return Verdict(group, "confirmed", order, factor, said, sized)


def _missing(compared: _Compared, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """Return which part of the stress every label lacks, of deviatoric ones given."""
    size = np.square(compared.labels).mean()
    traces = np.trace(compared.labels, axis1=1, axis2=2)
    if len(traces) > 1 and np.square(traces).max() < 1e-8 * size:
        return "their trace is 0: the pressure is missing"
    told = max(
        _BEYOND**2 * float(np.trace(compared.variance)), _LITTLE**2 * size * len(ours)
    )
    if np.square(theirs).mean() < 1e-8 * size and np.square(ours).sum() > told:
        return "they are a pressure alone: the rest is missing"
    return None


def _wrong(ours: np.ndarray, theirs: np.ndarray, variance: np.ndarray) -> str | None:
    """Return which components alone do not fit, of deviatoric stresses ``[frames, 6]``.

    Where one is wrong, it holds most of what all labels are off the model; of a diagonal
    one, traceless parts tell along ``2 xx - yy - zz``. What the model itself may be off by
    its ``variance`` is no sign.
    """
    found = []
    for name, part in _PARTS.items():
        left, right = (x - x @ part @ part.T for x in (ours, theirs))
        factor = np.linalg.norm(right) / max(float(np.linalg.norm(left)), 1e-30)
        mine, other = factor * ours @ part, theirs @ part
        rest = float(np.square(right - factor * left).sum())
        off, size = (float(np.square(x).sum()) for x in (other - mine, mine))
        all_ = float(np.square(theirs).sum())
        unsure = factor**2 * float(np.trace(part.T @ variance @ part))
        clear = off > max(
            _BEYOND**2 * unsure, _WRONG**2 * size, _LITTLE**2 * all_, (1 / _REST - 1) * rest
        )
        if clear and _correlation(left, right) > _TOLD:
            slope = (mine * other).sum() / max(size, 1e-30)
            said = f"{name} alone does not fit"
            if name not in _DIAGONAL:
                said += f": it is {slope:.2g} times what the model has"
            found.append((part.shape[1], rest, said))
    return min(found)[2] if found else None


def _parts() -> dict[str, np.ndarray]:
    """Return directions ``[6, n]`` of stress in which a component alone shows."""
    names, one = VOIGT.split(), np.eye(6)
    axes = {name: one[:, [k]] for k, name in enumerate(names)}
    for name in _DIAGONAL:
        axes[name] = math.sqrt(1.5) * (axes[name] - one[:, :3].sum(1, keepdims=True) / 3)
    return {**axes, "the shear": one[:, 3:]}


_DIAGONAL = ("xx", "yy", "zz")
_PARTS = _parts()


def _pressure(compared: _Compared) -> tuple[float, bool]:
    """Return what all labels have beyond the model's pressure, and whether it is much."""
    apart = np.trace(compared.labels - compared.model, axis1=1, axis2=2) / 3
    beyond = float(apart.mean())
    if abs(beyond) < max(_BEYOND * compared.error, _APART * float(apart.std())):
        return 0.0, False
    rms = math.sqrt(np.square(_deviatoric(compared.labels, _STATED)).mean())
    return beyond, abs(beyond) > max(_MUCH * rms, _TAIL)


def _shears(stress: np.ndarray) -> np.ndarray:
    return np.stack([stress[:, i, j] for i, j in _SHEAR], 1)


def _deviatoric(stress: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return traceless diagonal and shear ``[frames, 6]``, the latter in ``order``."""
    diagonal = np.diagonal(stress, axis1=1, axis2=2)
    diagonal = diagonal - diagonal.mean(1, keepdims=True)
    shear = _shears(stress)[:, list(order)] * math.sqrt(2)
    return np.concatenate([diagonal, shear], 1)


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


_OPEN = ("the order of the stress", "stress_order")
_ALL = (
    "whether the stress is right",
    "stress_order, stress_unit and stress_sign, all three",
)
"""What is not told, and the keys that say it."""


def settle(
    frames: Sequence[LabelledFrame], ambiguous: bool, stated: bool, defined: bool = False
) -> tuple[list[LabelledFrame], list[str]]:
    """Verify the virials of a set; where the format leaves the order open, choose it.

    A group of which nothing is told counts as the others of its file do; where none of
    them is told either, its stress is left out.

    Args:
        frames: of one file or folder.
        ambiguous: the format does not say the order of the shear.
        stated: the scenario's keys do; then nothing is refused, only named.
        defined: format or keys say order, unit and sign; then nothing is left out.

    Returns:
        The frames, and a sentence for each group; frames whose stress does not count are
        without a virial.

    Raises:
        ValueError: the labels contradict their convention, or no open order is told.
    """
    frames, said = _without_placeholders(frames)
    verdicts = {verdict.group: verdict for verdict in judge(frames)}
    choice = ambiguous and not stated
    told = [name for name, each in verdicts.items() if each.outcome != "unsure"]
    found: dict[str, tuple[int, ...] | None] = {}
    for name, verdict in verdicts.items():
        outcome = verdict.outcome
        found[name] = verdict.order if choice else _STATED
        if outcome == "unsure" and (choice or not (told or defined)):
            what, keys = _OPEN if choice else _ALL
            text = (
                f"{what} is not told by energies and forces ({verdict.reason}); say it "
                f"with {keys}"
            )
            if choice and not told:
                raise ValueError(f"group {name!r}: {text}")
            found[name] = None
            said.append(f"stress of group {name!r}: left out: {text}")
            continue
        if outcome == "contradicted" and not stated and not (choice and verdict.sized):
            keys = "say what it is with stress_order, stress_unit or stress_sign"
            raise ValueError(
                f"group {name!r}: the stress does not fit energies and forces "
                f"({verdict.reason}); "
                + (keys if verdict.convention else "mend it, or set loss.virial = 0")
            )
        if choice:
            outcome = "order chosen by energies and forces"
        elif outcome == "unsure" and told:
            outcome = "unsure, taken as that of the other groups"
        said.append(f"stress of group {name!r}: {outcome} ({verdict.reason})")
    return [_reordered(f, found.get(f.group, _STATED)) for f in frames], said


def _without_placeholders(
    frames: Sequence[LabelledFrame],
) -> tuple[list[LabelledFrame], list[str]]:
    """Leave out stresses that are exactly 0 where forces, or cells of other sizes, are not.

    Where all are, that is for the checks of the whole set to say.
    """
    some = any(f.virial is not None and f.virial.any() for f in frames)
    empty = [f for f in frames if some and f.virial is not None and not f.virial.any()]
    volumes: dict[tuple[str, ...], list[float]] = {}
    for frame in empty:
        volumes.setdefault(tuple(sorted(frame.symbols)), []).append(frame.volume)
    wrong = {
        id(frame)
        for frame in empty
        if np.abs(frame.forces).max() > _MOVING
        or np.ptp(volumes[tuple(sorted(frame.symbols))]) > _MOVING * frame.volume
    }
    if not wrong:
        return list(frames), []
    first = next(frame for frame in empty if id(frame) in wrong)
    said = (
        f"stress of {len(wrong)} frames (first: {first.origin}): left out: exactly 0, but "
        "forces or other cells are not: placeholders"
    )
    return [replace(f, virial=None) if id(f) in wrong else f for f in frames], [said]


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
