"""Whether the stress labels of a set fit its energies and forces: order, sign and unit.

The model of :mod:`.linear` is fitted to energies and forces alone; its virial then tells in
which order, with which sign and in which unit the labels are.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import linear
from .frames import LabelledFrame, group_indices, species_of
from .keys import UNITS, VOIGT

_FRAMES = 12
_TOO_LARGE = f"no periodic frame of at most {linear.LARGEST} atoms"
_SHEAR = ((1, 2), (0, 2), (0, 1))
"""Where yz, xz, xy stand in a tensor."""


_WRONG, _FACTOR, _REST, _TOLD = (0.7, 0.2), (0.35, 0.1), 0.25, 0.95
"""Parts of a component and of all labels that wrong ones of it are off, and that a factor
of it makes; part of all that is missed which the others then miss at most; their
correlation with the model."""

_HELD, _ENOUGH, _GOOD = 2.0, 8, 0.99
"""Frames that must hold most of a component, and frames at all, or one strain may be what
the model has wrong; correlation of a model that a frame can stand out of."""

_LITTLE = 0.2
"""Part of the labels that is not yet much."""

_BEYOND, _APART = 4.0, 3.0
"""Standard errors of the model's mean pressure, and deviations of its frames from it, that
a pressure must be beyond it to be named."""

_DILATED = 0.003
"""Standard deviation of the logarithm of volumes with which energies tell a pressure."""

_PAIRWISE, _FEW = 0.9, 4
"""Part of the forces that a model of pairs must explain in frames left out, and frames."""

_EXAMINED = 3000
"""Atoms of all frames of a group that are held against the model."""

_SEVERAL, _SMALL, _FAR, _ODD, _SAME, _PART = 6, 0.1, 8.0, 0.4, 0.95, 0.2
"""Frames of which one can stand out; part of its size that the better quarter is off at
most; times as far as that, and part of its own size, that the odd one is off; correlation
of stresses that differ by a factor; part of the frames that are no exceptions any more."""

_CONFIRMED = 1.6
"""Factor that must have been seen for labels to be confirmed: less than a half or twice."""

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
        ordered: whether the order of the shear was told, and not taken as stated.
        unseen: by what the labels could be wrong without being noticed.
        odd: sentences about frames that stand out.
    """

    group: str
    outcome: str
    order: tuple[int, ...]
    factor: float
    reason: str
    sized: bool = False
    convention: bool = True
    ordered: bool = True
    unseen: str = ""
    odd: tuple[str, ...] = ()


_STATED = (0, 1, 2)
_SURE, _CLOSE, _NEAR = 0.6, 2.5, 1.25
"""Correlation that a verdict needs; factor within which a poor and the best model agree."""

_MOVED = 0.02
"""Correlation that another order must gain over the stated one: 1 - c = d^2 / 2 of shears
that are a part d apart, and a fifth of the shear is no more than the error of the model."""


def judge(frames: Sequence[LabelledFrame], most: int = _FRAMES) -> list[Verdict]:
    """Compare the virials of all frames with those of a model of energies and forces.

    Where the labels of ``most`` frames of each group do not determine the model of all
    groups, each is judged alone, and by more frames; then by pairs of atoms, and by the
    work of strain alone.
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
    chosen = [frames[k] for numbers in groups.values() for k in numbers]
    model = _Model.of(chosen, simple=False)
    alone = {name: [frames[labelled[k]] for k in every[name]] for name in groups}
    if model is None and len(groups) > 1:
        return none + [verdict for each in alone.values() for verdict in judge(each, most)]
    if model is None and most == _FRAMES and any(len(x) > most for x in alone.values()):
        return none + judge(next(iter(alone.values())), 4 * most)
    model = model or _Model.of(chosen, simple=True)
    if model is None:
        return none + [_by_work(name, each) for name, each in alone.items()]
    found = {
        name: model.compared(_some(alone[name], [frames[k] for k in chosen]))
        for name, chosen in groups.items()
    }
    verdicts = [_verdict(name, each) for name, each in found.items()]
    unsure = [each for each in verdicts if each.outcome == "unsure"]
    if len(unsure) > 1:
        together = _verdict("", _Compared.joined([found[each.group] for each in unsure]))
        if together.outcome != "unsure" and together.convention:
            told = {each.group: replace(together, group=each.group) for each in unsure}
            verdicts = [told.get(each.group, each) for each in verdicts]
    worked = [
        _by_work(each.group, alone[each.group]) if each.outcome == "unsure" else each
        for each in verdicts
    ]
    pairs = zip(verdicts, worked, strict=True)
    return none + [old if new.outcome == "unsure" else new for old, new in pairs]


def _some(
    frames: Sequence[LabelledFrame], first: Sequence[LabelledFrame]
) -> list[LabelledFrame]:
    """Return some frames, and others with few enough atoms to hold a model against."""
    known = set(map(id, first))
    atoms, found = sum(len(frame.symbols) for frame in first), []
    for frame in frames:
        more = frame.periodic.any() and atoms + len(frame.symbols) <= _EXAMINED
        if id(frame) not in known and more:
            atoms += len(frame.symbols)
        if id(frame) in known or more:
            found.append(frame)
    return found


@dataclass(frozen=True)
class _Model:
    """A model of energies and forces.

    Attributes:
        fit: of its features.
        species: that it knows.
        simple: whether it is one of pairs of atoms alone.
        dilated: whether the volumes of its frames differ, so that energies tell a pressure.
    """

    fit: linear.Fit
    species: tuple[str, ...]
    simple: bool
    dilated: bool

    @classmethod
    def of(cls, frames: Sequence[LabelledFrame], simple: bool) -> "_Model | None":
        """Return None where the labels do not determine it."""
        if len(frames) < (_FEW if simple else 1):
            return None
        species = species_of(frames)
        rows = linear.rows(frames, species)
        if simple:
            rows = [linear.of_pairs(row, len(species)) for row in rows]
        fit = _fit(frames, rows)
        if fit is None or (simple and fit.explained(range(len(frames))) < _PAIRWISE):
            return None
        return cls(fit, species, simple, not simple and _dilated(frames))

    def compared(self, frames: Sequence[LabelledFrame]) -> "_Compared":
        """Return the stresses of model and labels of frames."""
        rows = linear.rows(frames, self.species)
        if self.simple:
            rows = [linear.of_pairs(row, len(self.species)) for row in rows]
        features = [row.virial / f.volume for f, row in zip(frames, rows, strict=True)]
        mean = np.mean([np.trace(each) / 3 for each in features], 0)
        parts = [_deviatoric(np.moveaxis(each, -1, 0), _STATED) for each in features]
        return _Compared(
            np.stack([each @ self.fit.coefficients for each in features]),
            np.stack([_stress(frame) for frame in frames]),
            math.sqrt(mean @ self.fit.covariance @ mean),
            np.stack([part.T @ self.fit.covariance @ part for part in parts]),
            tuple(frame.origin for frame in frames),
            self.dilated,
            _dilated(frames),
            self.simple,
        )


@dataclass(frozen=True)
class _Compared:
    """Stresses ``[frames, 3, 3]`` of the model and of the labels, eV/angstrom^3.

    Attributes:
        model: of the energies and forces.
        labels: as they were read.
        error: standard error of the model's mean pressure.
        variance: ``[frames, 6, 6]``, of the model's deviatoric stress.
        origins: names of the frames.
        dilated: whether the model tells a pressure.
        themselves: whether the frames' own volumes differ; else their pressure is what the
            model makes of other groups, and no ground to refuse them.
        simple: whether it is one of pairs, which cannot accuse a component.
    """

    model: np.ndarray
    labels: np.ndarray
    error: float
    variance: np.ndarray
    origins: tuple[str, ...]
    dilated: bool
    themselves: bool
    simple: bool

    @classmethod
    def joined(cls, parts: Sequence["_Compared"]) -> "_Compared":
        arrays = [
            np.concatenate([getattr(each, name) for each in parts])
            for name in ("model", "labels", "variance")
        ]
        origins = tuple(name for each in parts for name in each.origins)
        error, first = max(each.error for each in parts), parts[0]
        return cls(
            arrays[0], arrays[1], error, arrays[2], origins, first.dilated,
            all(each.themselves for each in parts), first.simple,
        )  # fmt: skip

    def without(self, odd: Sequence[int]) -> "_Compared":
        """Return all but some frames."""
        kept = [k for k in range(len(self.origins)) if k not in odd]
        return replace(
            self,
            model=self.model[kept],
            labels=self.labels[kept],
            variance=self.variance[kept],
            origins=tuple(self.origins[k] for k in kept),
        )


def _by_work(group: str, frames: Sequence[LabelledFrame]) -> Verdict:
    """Judge one group by the work of strain between its frames, without a model.

    Between frames of cells h, fractional places s, forces F and virials W it is the
    integral of ``-W : h^-1 dh - F ds h``, near which is the mean of both ends.
    """
    said = Verdict(group, "unsure", _STATED, math.nan, "too few labels to tell")
    alike = [f for f in frames if f.symbols == frames[0].symbols and f.periodic.all()]
    if len(alike) < _SEVERAL:
        return said
    near = sorted(
        itertools.combinations(alike, 2),
        key=lambda pair: np.abs(
            np.linalg.solve(pair[0].cell, pair[1].cell) - np.eye(3)
        ).max(),
    )[: len(alike)]
    ours, theirs = (np.array(x) for x in zip(*(_work(*pair) for pair in near), strict=True))
    told, size = _correlation(ours, theirs), float(np.square(ours).sum())
    if abs(told) < _WORKED:
        return said
    factor = float((ours * theirs).sum()) / max(size, 1e-30)
    reason = f"factor {factor:.3g}, correlation {told:.2f} with the work of strain"
    right = 1 / _NEAR < factor < _NEAR
    if 1 / _FAIR < factor < _FAIR and not right:
        return replace(said, reason=reason)
    if not right:
        reason += f": as if {_meant(_STATED, factor, _NEAR)}"
    outcome = "confirmed" if right else "contradicted"
    return Verdict(
        group, outcome, _STATED, factor, reason, right, ordered=False,
        unseen="one component alone",
    )  # fmt: skip


def _work(k: LabelledFrame, m: LabelledFrame) -> tuple[float, float]:
    """Return the work of strain between two frames, of energies and of labels, eV."""
    away = m.positions @ np.linalg.inv(m.cell) - k.positions @ np.linalg.inv(k.cell)
    away -= np.round(away)
    moved = sum(0.5 * float((f.forces * (away @ f.cell)).sum()) for f in (k, m))
    ends = [(f.virial, np.linalg.solve(f.cell, m.cell - k.cell)) for f in (k, m)]
    done = sum(-0.5 * float((w * strain).sum()) for w, strain in ends if w is not None)
    return m.energy - k.energy + moved, done


_WORKED, _FAIR = 0.97, 1.5
"""Correlation of the works of strain, of labels and energies, that tells; factor within
which large steps of strain explain that they differ."""


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


def _fit(frames: Sequence[LabelledFrame], rows: Sequence[linear.Row]) -> linear.Fit | None:
    """Return the model; None where the labels do not determine it."""
    parts = {}
    for k, (frame, row) in enumerate(zip(frames, rows, strict=True)):
        atoms = len(frame.symbols)
        weight = 3 * math.sqrt(3 * atoms) / atoms
        parts[k] = (
            np.concatenate([row.forces.reshape(3 * atoms, -1), weight * row.energy[None]]),
            np.concatenate([frame.forces.ravel(), [frame.energy * weight]]),
        )
    used = np.sum([np.abs(a).sum(0) for a, _ in parts.values()], 0) > 0
    if sum(len(b) for _, b in parts.values()) < 3 * used.sum():
        return None
    found = linear.fit(parts)
    forces = np.concatenate([frame.forces.ravel() for frame in frames])
    guess = np.concatenate([(row.forces @ found.coefficients).ravel() for row in rows])
    poor = np.square(guess - forces).mean() > 0.5 * np.square(forces).mean()
    return None if poor and forces.any() else found


def _verdict(group: str, compared: _Compared) -> Verdict:
    """Judge one group; frames that stand out alone, and the others without them."""
    ours, theirs = _shears(compared.model), _shears(compared.labels)
    odd = _standing_out(compared, _order(ours, theirs)[0])
    found = _judged(group, compared.without(list(odd)))
    if not odd:
        return found
    names = [f"the stress of {compared.origins[k]} {why}" for k, why in sorted(odd.items())]
    if len(odd) > _PART * len(compared.origins):
        said = f"{len(odd)} of {len(compared.origins)} frames stand out: {names[0]}"
        return replace(found, outcome="contradicted", reason=said, convention=False)
    return replace(found, odd=tuple(names))


def _standing_out(compared: _Compared, order: Sequence[int]) -> dict[int, str]:
    """Return what is odd about the stresses of frames, where most fit the model well."""
    ours, theirs = _deviatoric(compared.model, _STATED), _deviatoric(compared.labels, order)
    if len(ours) < _SEVERAL or compared.simple:
        return {}
    slopes = (ours * theirs).sum(1) / np.maximum(np.square(ours).sum(1), 1e-30)
    usual = float(np.median(slopes))
    off = np.square(theirs - usual * ours).sum(1)
    sizes = np.maximum(np.square(theirs).sum(1), np.square(usual * ours).sum(1))
    low = float(np.quantile(off, 0.25))
    if low > _SMALL**2 * np.median(sizes):
        return {}
    error = usual**2 * np.trace(compared.variance, axis1=1, axis2=2)
    bound = np.max(
        [_FAR**2 * low + 0 * off, _ODD**2 * sizes, _BEYOND**2 * error,
         _LITTLE**2 * sizes.mean() + 0 * off], axis=0,
    )  # fmt: skip
    found = {}
    for k in np.flatnonzero(off > bound).tolist():
        found[k] = "does not fit energies and forces as those of the others do"
        if abs(_correlation(ours[k], theirs[k])) > _SAME:
            found[k] = f"is {slopes[k] / usual:.2g} times what those of the others say"
    fine = [k for k in range(len(ours)) if k not in found]
    good = _correlation(ours[fine], theirs[fine]) > _GOOD
    return found if good and len(found) <= len(ours) // 2 else {}


def _judged(group: str, compared: _Compared) -> Verdict:
    """Judge frames that fit the model all alike."""
    model, labels = compared.model, compared.labels
    ours, theirs = _shears(model), _shears(labels)
    size = math.sqrt(np.square(labels).mean())
    order, sure = _STATED, True
    if math.sqrt(np.square(theirs).mean()) > 1e-3 * size:
        order, sure = _order(ours, theirs)
    ours, theirs = _deviatoric(model, _STATED), _deviatoric(labels, order)
    variance = compared.variance.sum(0)
    parts = [_Part.of(name, ours, theirs, variance) for name in _PARTS]
    if compared.simple:
        parts = [replace(part, visible=math.inf, wrong=False) for part in parts]
    wrong = None if compared.simple else _missing(compared, ours, theirs) or _wrong(parts)
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
    close = _CLOSE if compared.simple else _close(alike)
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
    unseen = "" if hydrostatic else _unseen(parts, close, compared.dilated)
    return Verdict(group, "confirmed", order, factor, said, sized, unseen=unseen)


def _unseen(parts: Sequence["_Part"], close: float, dilated: bool) -> str:
    """Return what the labels could be wrong by without a word, if it is much."""
    name, least = max(
        ((part.name, 1 + part.visible) for part in parts if part.width == 1),
        key=lambda each: each[1],
    )
    said = []
    if max(close, least) > _CONFIRMED:
        where = f" in {name}" if least > close else ""
        size = f" under {max(close, least):.2g}" if math.isfinite(least) else ""
        said.append(f"a factor{size}{where}")
    return ", or ".join([*said, *([] if dilated else ["a pressure"])])


def _missing(compared: _Compared, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """Return which part of the stress every label lacks, of deviatoric ones given."""
    size = np.square(compared.labels).mean()
    traces = np.trace(compared.labels, axis1=1, axis2=2)
    if len(traces) > 1 and np.square(traces).max() < 1e-8 * size:
        return "their trace is 0: the pressure is missing"
    told = max(
        _BEYOND**2 * float(np.trace(compared.variance.sum(0))),
        _LITTLE**2 * size * len(ours),
    )
    if np.square(theirs).mean() < 1e-8 * size and np.square(ours).sum() > told:
        return "they are a pressure alone: the rest is missing"
    return None


@dataclass(frozen=True)
class _Part:
    """One component of deviatoric stresses against all others.

    Where it alone is wrong, it holds most of what all labels are off the model; of a
    diagonal one, traceless parts tell along ``2 xx - yy - zz``. What the model itself may
    be off by its variance is no sign.

    Attributes:
        name: of the component.
        wrong: whether it alone is.
        visible: factor, less 1, that it would have to be off for it to be seen.
        slope: labels over model.
        rest: squares by which the other components are off.
        width: directions of stress that it has.
    """

    name: str
    wrong: bool
    visible: float
    slope: float
    rest: float
    width: int

    @classmethod
    def of(
        cls, name: str, ours: np.ndarray, theirs: np.ndarray, variance: np.ndarray
    ) -> "_Part":
        """Compare stresses ``[frames, 6]``; the model's variance ``[6, 6]`` is of all."""
        part = _PARTS[name]
        left, right = (x - x @ part @ part.T for x in (ours, theirs))
        factor = np.linalg.norm(right) / max(float(np.linalg.norm(left)), 1e-30)
        mine, other = factor * ours @ part, theirs @ part
        rest = float(np.square(right - factor * left).sum())
        off, size = (float(np.square(x).sum()) for x in (other - mine, mine))
        size = max(size, 1e-30)
        slope = float((mine * other).sum()) / size
        unsure = _BEYOND**2 * float(factor**2 * np.trace(part.T @ variance @ part))
        alike, every = _correlation(left, right), float(np.square(theirs).sum())
        told = alike > _TOLD and _of_many(mine)
        # a factor is surer than what else is off, where the model is good
        missed = 5 * math.sqrt(max(0.0, 1 - alike**2))
        sharp = min(max(_FACTOR[0], missed), _WRONG[0]), _FACTOR[1]
        factors, others = (
            max(unsure, own**2 * size, few**2 * every, (1 / _REST - 1) * rest)
            for own, few in (sharp, _WRONG)
        )
        visible = math.sqrt(factors / size) if told else math.inf
        wrong = off > others or (off > factors and abs(slope - 1) > visible)
        return cls(name, told and wrong, visible, slope, rest, part.shape[1])


def _of_many(stress: np.ndarray) -> bool:
    """Tell whether many frames hold a component ``[frames, n]``, not one strain."""
    squares = np.square(stress).sum(1)
    held = squares.sum() ** 2 / max(float(np.square(squares).sum()), 1e-30)
    return len(stress) >= _ENOUGH and held > _HELD


def _wrong(parts: Sequence[_Part]) -> str | None:
    """Return which component alone does not fit."""
    found = [part for part in parts if part.wrong]
    if not found:
        return None
    worst = min(found, key=lambda part: (part.width, part.rest))
    said = f"{worst.name} alone does not fit"
    if worst.name not in _DIAGONAL:
        said += f": it is {worst.slope:.2g} times what the model has"
    return said


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
    if not compared.dilated:
        return 0.0, False
    apart = np.trace(compared.labels - compared.model, axis1=1, axis2=2) / 3
    beyond = float(apart.mean())
    if abs(beyond) < max(_BEYOND * compared.error, _APART * float(apart.std())):
        return 0.0, False
    rms = math.sqrt(np.square(_deviatoric(compared.labels, _STATED)).mean())
    return beyond, compared.themselves and abs(beyond) > max(_MUCH * rms, _TAIL)


def _dilated(frames: Sequence[LabelledFrame]) -> bool:
    """Tell whether the volumes of frames differ enough for energies to tell a pressure."""
    sizes = np.log([frame.volume / len(frame.symbols) for frame in frames])
    return bool(sizes.std() > _DILATED)


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
    choice = ambiguous and not stated
    verdicts = {
        each.group: each if each.ordered or not choice else replace(each, outcome="unsure")
        for each in judge(frames)
    }
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
        elif outcome == "confirmed" and verdict.unseen:
            outcome = f"not contradicted (could not see {verdict.unseen})"
        said.append(f"stress of group {name!r}: {outcome} ({verdict.reason})")
        said += _first(verdict.odd)
    return [_reordered(f, found.get(f.group, _STATED)) for f in frames], said


def _first(odd: Sequence[str]) -> list[str]:
    more = [f"... and {len(odd) - _SHOWN} more such"] if len(odd) > _SHOWN else []
    return [*odd[:_SHOWN], *more]


_SHOWN = 10
"""Frames that stand out which are named."""


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
