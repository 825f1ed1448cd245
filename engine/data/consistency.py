"""Whether the energies of a set are those whose derivative its forces are.

The model of :mod:`.linear` is fitted to the forces alone. Its energies E(c), with the
covariance of its coefficients, then tell by which factor f the labels differ from the work
of the forces:

    E_label = f E(c) + e_class + noise,  cov = f^2 A cov(c) A^T + sigma^2

with a constant e_class of each composition and the noise that fits best. A likelihood over
f says whether 1 is possible: in another unit, with another sign or of another frame it is a
thousand times less likely than another factor. What one factor changes, both energies and
forces, only :mod:`.bonds` can tell.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from ase import units
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment

from . import linear
from .bonds import other_unit
from .frames import LabelledFrame, group_indices, pairs, species_of
from .keys import ENERGY_UNITS, FORCES_UNITS

_FOLDS, _TWICE, _ALIKE = 4, 2, 0.95
"""Parts of the frames that are fitted alone; rows of them for each feature; correlation of
forces that a factor makes."""

_FRAMES, _ATOMS, _FEWEST = 300, 3000, 12
"""Frames that are compared; atoms at which there are enough; frames in any case."""

_LITTLE = 1e-3
"""eV/angstrom; below this size, forces are those of symmetry, and noise."""

_GOOD = 0.8
"""Part of the forces of frames left out that a model must explain to have a say."""

_POOR = 0.5
"""Part of the forces below which another order of them is looked for."""

_FLOOR = 0.02
"""Part of the spread of the energies that the model misses in any case."""

_NOISE = 1e-5
"""eV by which energies are off whose self-consistency, or digits, end there."""

_RIGHT = 1.5
"""Factors of it or its inverse are the model's error; eV/bohr for eV/angstrom make 1.9."""

_LOOSE = 0.5
"""Part of the spread of the energies that a model of energies related to it may miss."""

_SURE = 7.0
"""Logarithm of the ratio of likelihoods, 1,100, that a verdict needs."""

_LEAST = 3
"""Energies that must be left to compare, once compositions have constants."""

_CLOSE = 0.2
"""Part of a factor within which units are named: the model's error."""

_FAR, _APART = 8.0, 0.04
"""An energy stands out that is as many times further off than nine tenths are, and as many
eV times the root of the atoms."""

_ERRORS = 2.0
"""Standard errors of the model by which an energy may be off in any case."""

_NONE, _MOVING, _ENOUGH = 0.25, 0.1, 4
"""Part of the forces that a model explains of wrong ones at most; eV/angstrom that they are
at least, as those of relaxed structures are noise; rows for each feature."""

_HEAVY = 3.0
"""Times that an energy counts as much as all forces of its frame, where both are fitted."""

_CALM = 0.8
"""Part of the usual shortest distance below which atoms collide: a few such forces are most
of the squares that are to be explained."""

_CELL = 1e-3
"""Part of a cell by which others are strained."""

_BONDED = 50
"""Frames of which bonds are measured."""

_SHOWN = 10
"""Frames that stand out which are named."""

_EXAMINED = 20_000
"""Atoms of all frames whose energies are held against the model."""

_STEPS = np.geomspace(1e-4, 1e4, 300)
_FACTORS = np.concatenate([-_STEPS[::-1], [0.0], _STEPS])
_ALLOWED = (_FACTORS > 1 / _RIGHT) & (_FACTORS < _RIGHT)


@dataclass(frozen=True)
class Verdict:
    """What the forces say of the energies of a group, or of several small ones.

    Attributes:
        groups: their names.
        outcome: ``confirmed``, ``contradicted``, or ``unsure``.
        factor: labelled energies over the work of the forces; NaN where unsure.
        reason: one sentence.
    """

    groups: tuple[str, ...]
    outcome: str
    factor: float
    reason: str


def judge(frames: Sequence[LabelledFrame]) -> list[Verdict]:
    """Compare the energies of all groups with a model of their forces.

    Groups that are too small to be told alone are told together.
    """
    return _judge(frames)[0]


def _judge(frames: Sequence[LabelledFrame]) -> tuple[list[Verdict], list[str]]:
    """Return the verdicts, and what stands out where energies fit the forces."""
    chosen = _chosen(frames)
    species = species_of(frames[k] for k in chosen)
    rows = linear.rows([frames[k] for k in chosen], species)
    data = {
        k: _Frame(row.energy, row.forces.reshape(-1, len(row.energy)), frames[k])
        for k, row in zip(chosen, rows, strict=True)
    }
    odd = _apart(data) if data else _Apart()
    data = {k: each for k, each in data.items() if k not in odd.frames}
    groups = {
        name: {k: data[k] for k in numbers if k in data}
        for name, numbers in group_indices(frames).items()
    }
    joint = _fit(data) if data else None
    verdicts = [
        replace(_judged(frames, mine, joint), groups=(name,))
        for name, mine in groups.items()
    ]
    unsure = [each for each in verdicts if each.outcome == "unsure"]
    if len(unsure) > 1:
        small = tuple(each.groups[0] for each in unsure)
        together = {k: each for name in small for k, each in groups[name].items()}
        found = _judged(frames, together, joint)
        if found.outcome != "unsure":
            verdicts = [each for each in verdicts if each not in unsure]
            verdicts.append(replace(found, groups=small))
    fine = {
        k: each
        for verdict in verdicts
        for name in verdict.groups
        for k, each in groups[name].items()
        if verdict.outcome == "confirmed"
    }
    if joint is None or not fine or joint.explained(list(fine)) < _GOOD:
        return verdicts, list(odd.said)
    names = {
        name for each in verdicts if each.outcome == "confirmed" for name in each.groups
    }
    known = {k: each.energy for k, each in fine.items()}
    more = _more(frames, names, set(data))
    features = linear.energies([frames[k] for k in more], species) if more else []
    known |= dict(zip(more, features, strict=True))
    return verdicts, [*odd.said, *_odd_energies(frames, known, joint)]


def _more(frames: Sequence[LabelledFrame], groups: set[str], known: set[int]) -> list[int]:
    """Return more frames of groups, of elements that the known ones have."""
    elements = {symbol for k in known for symbol in frames[k].symbols}
    found, atoms = [], 0
    for k in np.random.default_rng(0).permutation(len(frames)).tolist():
        frame = frames[k]
        atoms += len(frame.symbols)
        if atoms > _EXAMINED:
            break
        if (
            k not in known
            and frame.group in groups
            and len(frame.symbols) <= linear.LARGEST
            and elements.issuperset(frame.symbols)
        ):
            found.append(k)
    return found


def _chosen(frames: Sequence[LabelledFrame]) -> list[int]:
    """Return frames that are small enough, evenly from every group and its length."""
    random = np.random.default_rng(0)
    orders = [
        random.permutation([k for k in group if len(frames[k].symbols) <= linear.LARGEST])
        for group in group_indices(frames).values()
    ]
    found, atoms = [], 0
    for k in (k for turn in zip_longest(*orders) for k in turn if k is not None):
        if len(found) >= _FRAMES or (len(found) >= _FEWEST and atoms > _ATOMS):
            break
        found.append(int(k))
        atoms += len(frames[k].symbols)
    return sorted(found)


@dataclass(frozen=True)
class _Frame:
    """Features of the energy and of ``3 atoms`` forces, and the labels."""

    energy: np.ndarray
    forces: np.ndarray
    frame: LabelledFrame


def _fit(data: Mapping[int, _Frame]) -> linear.Fit:
    return linear.fit({k: (e.forces, e.frame.forces.ravel()) for k, e in data.items()})


@dataclass(frozen=True)
class _Apart:
    """Frames whose forces the others do not fit, and sentences about them."""

    frames: frozenset[int] = frozenset()
    said: tuple[str, ...] = ()


def _apart(data: Mapping[int, _Frame]) -> _Apart:
    """Find frames whose forces the others do not fit; by which factor, if that is all.

    One frame in another unit outweighs all others in a fit, so the part of the frames is
    looked for whose fit the most frames agree with; then all that do are fitted again.
    """
    features = int(np.any([each.forces.any(0) for each in data.values()], 0).sum())
    rows = sum(len(each.forces) for each in data.values())
    folds = min(_FOLDS, len(data) // 2, rows // max(_TWICE * features, 1))
    if folds < 2 or not features:
        return _Apart()
    parts = [list(data)[n::folds] for n in range(folds)]
    fits = [_fit({k: data[k] for k in part}) for part in parts]
    usual = [
        np.median([_off(data[k], fit) for k in data if k not in part])
        for part, fit in zip(parts, fits, strict=True)
    ]
    found = _odd_forces(data, fits[int(np.argmin(usual))])
    for _ in range(2):
        found = _odd_forces(data, _fit({k: v for k, v in data.items() if k not in found}))
    said = tuple(
        f"the forces of {data[k].frame.origin} {why}" for k, why in sorted(found.items())
    )
    return _Apart(frozenset(found), said)


def _off(each: _Frame, fit: linear.Fit) -> float:
    """Return the mean square that a fit misses of the forces of a frame."""
    missed = each.forces @ fit.coefficients - each.frame.forces.ravel()
    return float(np.square(missed).mean())


def _odd_forces(data: Mapping[int, _Frame], fit: linear.Fit) -> dict[int, str]:
    """Return what is odd about the forces of frames, few of those that are alike."""
    off = {k: _off(each, fit) for k, each in data.items()}
    usual, found = float(np.median(list(off.values()))), {}
    sizes = [np.square(each.frame.forces).mean() for each in data.values()]
    large = max(_LITTLE**2, 0.01 * float(np.median(sizes)))
    if usual > (1 - _GOOD) * np.median(sizes):
        return {}
    kinds: dict[tuple[str, ...], list[int]] = {}
    for k, each in data.items():
        kind = (each.frame.group, *sorted(each.frame.symbols))
        kinds.setdefault(kind, []).append(k)
    for numbers in kinds.values():
        odd = {k: why for k in numbers if (why := _odd(data[k], off[k], usual, large, fit))}
        if len(numbers) > _LEAST * len(odd):
            found |= odd
    return found


def _odd(
    each: _Frame, off: float, usual: float, large: float, fit: linear.Fit
) -> str | None:
    """Return what is odd about the forces of a frame; not what the model cannot tell."""
    model, labels = each.forces @ fit.coefficients, each.frame.forces.ravel()
    size, other = np.square(labels).mean(), np.square(model).mean()
    error = ((each.forces @ fit.covariance) * each.forces).sum(1).mean()
    if max(size, other) < large or off < max(_FAR**2 * usual, _FAR * error):
        return None
    factor = float(labels @ model / max(model @ model, 1e-30))
    alike = factor * math.sqrt(other / max(size, 1e-30))
    if abs(alike) > _ALIKE and not 1 / _RIGHT < factor < _RIGHT:
        return f"are {factor:.3g} times what those of the others say"
    return "do not fit those of the others" if off > size else None


def _odd_energies(
    frames: Sequence[LabelledFrame], features: Mapping[int, np.ndarray], fit: linear.Fit
) -> list[str]:
    """Return sentences about frames, and groups, whose energies are off the work, eV."""
    work = {k: float(each @ fit.coefficients) for k, each in features.items()}
    said = []
    kinds: dict[tuple[str, ...], list[int]] = {}
    for k in sorted(work):
        kinds.setdefault(tuple(sorted(frames[k].symbols)), []).append(k)
    for kind, numbers in kinds.items():
        done = np.array([work[k] for k in numbers])
        rest = np.array([frames[k].energy for k in numbers]) - done
        found = group_indices([frames[k] for k in numbers])
        middles = {name: float(np.median(rest[at])) for name, at in found.items()}
        off = rest - [middles[frames[k].group] for k in numbers]
        near = np.sort(np.abs(off))[: max(int(0.9 * len(off)), 1)]
        bound = max(
            _FAR * near[-1],
            _FAR * _FLOOR * float(np.std(done)),
            _APART * math.sqrt(len(kind)),
        )
        unsure = _errors(np.stack([features[k] for k in numbers]), fit)
        for k, apart, error in zip(numbers, off, unsure, strict=True):
            if abs(apart) > bound + _ERRORS * error:
                said.append(
                    f"the energy of {frames[k].origin} is {apart:.3g} eV off the work of "
                    "the forces"
                )
        large = [name for name, at in found.items() if len(at) >= _LEAST]
        low, high = (f(large, key=middles.__getitem__, default="") for f in (min, max))
        if large and (apart := middles[high] - middles[low]) > bound + len(kind):
            said.append(
                f"energies of groups {low!r} and {high!r} are {apart:.4g} eV apart beyond "
                f"the work of the forces, both of {len(kind)} atoms: other settings?"
            )
    return said


def _errors(features: np.ndarray, fit: linear.Fit) -> np.ndarray:
    """Return standard errors of energies of one composition, against their mean."""
    apart = features - features.mean(0)
    return np.sqrt(np.maximum(((apart @ fit.covariance) * apart).sum(1), 0.0))


def _unsure(reason: str) -> Verdict:
    return Verdict((), "unsure", math.nan, reason)


def _judged(
    frames: Sequence[LabelledFrame], data: Mapping[int, _Frame], joint: linear.Fit | None
) -> Verdict:
    """Judge one group by the fit of all, or by its own where that does not do."""
    forces = [each.frame.forces.ravel() for each in data.values()]
    if joint is None or not forces:
        return _unsure(f"no frame of at most {linear.LARGEST} atoms")
    if np.square(np.concatenate(forces)).mean() < _LITTLE**2:
        return _unsure("no forces to speak of")
    fit = joint if joint.explained(list(data)) >= _GOOD else _fit(data)
    explained = fit.explained(list(data))
    if explained >= _GOOD:
        found = _verdict(frames, data, fit)
        contradicted = found.outcome == "contradicted" and _strained(data)
        if contradicted and (not _told(data) or _both_explained(data)):
            return _unsure(
                "cells differ, and forces are too few to tell the work of strain"
            )
        return found
    said = f"a model explains {max(explained, 0):.0%} of the forces"
    if explained < _POOR and (found := _rearranged(frames, data)):
        return Verdict((), "contradicted", math.nan, f"{said}, and more if {found}")
    calm = _calm(data)
    if (
        explained < _NONE
        and len(calm) < len(data)
        and _fit(calm).explained([*calm]) > _NONE
    ):
        return _unsure(f"{said}, more of those without collisions")
    if explained < _NONE and _told(data):
        said += ": they are not those of these structures and energies"
        return Verdict((), "contradicted", math.nan, said)
    return _unsure(said)


def _calm(data: Mapping[int, _Frame]) -> dict[int, _Frame]:
    """Return the frames without atoms that collide."""
    nearest = {}
    for k, each in data.items():
        apart = np.linalg.norm(pairs(each.frame, linear.REACH)[2], axis=1)
        nearest[k] = apart.min(initial=linear.REACH)
    least = _CALM * float(np.median(list(nearest.values())))
    return {k: each for k, each in data.items() if nearest[k] >= least}


def _strained(data: Mapping[int, _Frame]) -> bool:
    """Tell whether the cells of periodic frames differ by strain."""
    cells = np.stack([each.frame.cell for each in data.values()])
    periodic = any(each.frame.periodic.any() for each in data.values())
    return periodic and bool(np.ptp(cells, 0).max() > _CELL * np.abs(cells).max())


def _both_explained(data: Mapping[int, _Frame]) -> bool:
    """Tell whether one model has the forces and, of frames left out, the energies.

    Forces near places of high symmetry hardly tell the work of strain: a model of them
    alone may have any, one of energies too has it right.
    """
    missed, size = 0.0, 0.0
    for first, second in ((0, 1), (1, 0)):
        parts = {}
        for k in list(data)[first::2]:
            each, atoms = data[k], len(data[k].frame.symbols)
            weight = _HEAVY * math.sqrt(len(each.forces)) / atoms
            parts[k] = (
                np.concatenate([each.forces, weight * each.energy[None]]),
                np.append(each.frame.forces, weight * each.frame.energy),
            )
        c = linear.fit(parts).coefficients
        kinds: dict[tuple[str, ...], list[_Frame]] = {}
        for k in list(data)[second::2]:
            kinds.setdefault(tuple(sorted(data[k].frame.symbols)), []).append(data[k])
        for alike in kinds.values():
            labels = np.array([each.frame.energy for each in alike])
            off = labels - np.array([each.energy @ c for each in alike])
            missed, size = missed + len(off) * np.var(off), size + len(off) * np.var(labels)
    return bool(missed < (1 - _GOOD) * size)


def _told(data: Mapping[int, _Frame]) -> bool:
    """Tell whether forces are so large, and so many, that a model would explain them.

    Those of atoms out of its reach are not its matter.
    """
    used = np.sum([np.abs(each.forces).sum(0) for each in data.values()], 0) > 0
    forces = np.concatenate([each.frame.forces.ravel() for each in data.values()])
    large = math.sqrt(np.square(forces).mean()) > _MOVING and len(data) >= _LEAST
    near = np.concatenate([each.forces.any(1) for each in data.values()]).mean() > _GOOD
    return large and bool(near) and len(forces) > _ENOUGH * int(used.sum())


def _verdict(
    frames: Sequence[LabelledFrame], data: Mapping[int, _Frame], fit: linear.Fit
) -> Verdict:
    work = _Work.of(data, fit)
    if work is None:
        return _unsure("too few frames of one composition")
    energies = np.array([each.frame.energy for each in data.values()])
    likely = work.likelihood(energies)
    best, right = likely.max(), likely[_ALLOWED].max()
    unrelated = likely[_FACTORS == 0][0]
    factor = float(_FACTORS[likely.argmax()])
    said = f"energies are {factor:.3g} times the work of the forces in {len(data)} frames"
    for step, where in ((1, "after"), (-1, "before")):
        moved = np.array([frames[(k + step) % len(frames)].energy for k in data])
        if work.likelihood(moved)[_ALLOWED].max() > max(best, right) + _SURE:
            said = f"energies fit the forces if each stood one frame {where} its own"
            return Verdict((), "contradicted", factor, said)
    if right > unrelated + _SURE and best < right + 1:
        return Verdict((), "confirmed", factor, said)
    if best > max(right, unrelated) + _SURE:
        return Verdict((), "contradicted", factor, said + _meant(factor, data))
    related = work.likelihood(energies, _LOOSE)[_ALLOWED].max()
    if unrelated > max(right, related + _SURE):
        said = "energies have nothing to do with the work of the forces in"
        return Verdict((), "contradicted", 0.0, f"{said} {len(data)} frames")
    return _unsure("energies vary too little, or frames are too few")


@dataclass(frozen=True)
class _Work:
    """Energies of the model in axes in which their covariance is diagonal.

    Attributes:
        axes: ``[frames, n]``, without the constants of the compositions.
        energy: ``[n]`` eV.
        variance: ``[n]`` eV^2.
    """

    axes: np.ndarray
    energy: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, data: Mapping[int, _Frame], fit: linear.Fit) -> "_Work | None":
        """Return None where the compositions leave nothing to compare."""
        features = np.stack([each.energy for each in data.values()])
        kinds = [(each.frame.group, *sorted(each.frame.symbols)) for each in data.values()]
        constants = np.array([[a == b for b in dict.fromkeys(kinds)] for a in kinds], float)
        if len(data) - constants.shape[1] < _LEAST:
            names = species_of(each.frame for each in data.values())
            constants = np.array(
                [[kind[1:].count(n) for n in names] for kind in kinds], float
            )
        vectors, sizes, _ = np.linalg.svd(constants)
        free = vectors[:, (sizes > 1e-8 * sizes[0]).sum() :]
        if free.shape[1] < _LEAST:
            return None
        reduced = free.T @ features
        variance, turned = np.linalg.eigh(reduced @ fit.covariance @ reduced.T)
        energy = turned.T @ reduced @ fit.coefficients
        return cls(free @ turned, energy, np.maximum(variance, 0.0))

    def likelihood(self, energies: np.ndarray, most: float = 1.5) -> np.ndarray:
        """Return the logarithm of the likelihood of every factor, at its best noise.

        Args:
            energies: ``[frames]`` eV.
            most: part of their spread that the noise may be.
        """
        labels = self.axes.T @ energies
        size = math.sqrt(np.square(labels).mean())
        noise = np.hypot(size * np.geomspace(_FLOOR, most, 24), _NOISE)
        variance = _FACTORS[:, None, None] ** 2 * self.variance
        variance = variance + np.square(noise)[:, None]
        off = np.square(labels - _FACTORS[:, None] * self.energy)[:, None]
        return (-0.5 * (np.log(variance) + off / variance).sum(-1)).max(1)


def _rearranged(frames: Sequence[LabelledFrame], data: Mapping[int, _Frame]) -> str | None:
    """Return which other order of the forces a model explains, if there is one."""
    if not any(each.forces.any() for each in data.values()):
        return None
    others: dict[str, Mapping[int, np.ndarray]] = {}
    for step, where in ((1, "after"), (-1, "before")):
        moved = {k: frames[(k + step) % len(frames)] for k in data}
        if all(moved[k].symbols == data[k].frame.symbols for k in data):
            said = f"each frame's stood one frame {where} its own"
            others[said] = {k: frame.forces for k, frame in moved.items()}
    turn = _turned(data)
    others["their axes were turned against those of the positions"] = {
        k: each.frame.forces @ turn.T for k, each in data.items()
    }
    for said, order in _orders(data).items():
        others[said] = {k: each.frame.forces[order(each.frame)] for k, each in data.items()}
    for said, forces in others.items():
        changed = {
            k: replace(each, frame=replace(each.frame, forces=forces[k]))
            for k, each in data.items()
        }
        if _fit(changed).explained(list(changed)) >= _GOOD:
            return said
    return None


def _turned(data: Mapping[int, _Frame]) -> np.ndarray:
    """Return the orthogonal matrix that makes forces most like those of a model.

    Of the fields ``w_ab F_b e_a`` it is the w of which the largest part is explained: an
    eigenvector of nine components.
    """
    gram, side, size = 0.0, 0.0, 0.0
    for each in data.values():
        f = each.frame.forces
        a = each.forces.reshape(len(f), 3, -1)
        gram = gram + each.forces.T @ each.forces
        side = side + np.einsum("iak,ib->kab", a, f).reshape(a.shape[2], 9)
        size = size + np.kron(np.eye(3), f.T @ f)
    gram, side, size = (np.asarray(x) for x in (gram, side, size))
    ridge = 1e-6 * np.trace(gram) / len(gram)
    told = side.T @ np.linalg.solve(gram + ridge * np.eye(len(gram)), side)
    tiny = 1e-9 * np.trace(size) * np.eye(9)
    _, vectors = eigh(told, size + tiny)
    left, _, right = np.linalg.svd(vectors[:, -1].reshape(3, 3))
    return left @ right


def _orders(
    data: Mapping[int, _Frame],
) -> dict[str, Callable[[LabelledFrame], np.ndarray]]:
    """Return orders of atoms in which another program may have written the forces."""

    def by_symbol(frame: LabelledFrame) -> np.ndarray:
        return np.argsort(frame.symbols, kind="stable")

    found: dict[str, Callable[[LabelledFrame], np.ndarray]] = {
        "atoms stood in the other direction": lambda f: np.arange(len(f.symbols))[::-1],
        "they were sorted by element": lambda f: np.argsort(by_symbol(f)),
        "positions were sorted by element": by_symbol,
    }
    first = next(iter(data.values())).frame
    if all(each.frame.symbols == first.symbols for each in data.values()):
        order = _restoring(data, first)
        found["atoms stood in another order"] = lambda _: order
    return found


def _restoring(data: Mapping[int, _Frame], first: LabelledFrame) -> np.ndarray:
    """Return the order in which forces pull atoms most strongly to their mean places."""
    inverse = np.linalg.pinv(first.cell)
    apart = np.stack([each.frame.positions - first.positions for each in data.values()])
    apart -= np.round(apart @ inverse) * first.periodic @ first.cell
    forces = np.stack([each.frame.forces for each in data.values()])
    pull = np.einsum("tax,tbx->ab", apart - apart.mean(0), forces)
    return linear_sum_assignment(pull)[1]


def _meant(factor: float, data: Mapping[int, _Frame]) -> str:
    """Say what would explain the factor."""
    said = []
    if factor < 0:
        said.append('energies or forces had the other sign (forces_sign = "gradient")')
    causes = {"lengths were in bohr": units.Bohr}
    atoms = {len(each.frame.symbols) for each in data.values()}
    if len(atoms) == 1:
        causes["energies were those of one atom"] = 1 / atoms.pop()
    for energy, size in ENERGY_UNITS.items():
        for force, other in FORCES_UNITS.items():
            usual = (energy == "eV", force == "eV/angstrom", energy == force.split("/")[0])
            keys = [f'energy_unit = "{energy}"'] * (not usual[0])
            keys += [f'forces_unit = "{force}"'] * (not usual[1])
            if keys and any(usual):
                causes[f"the units were others ({', '.join(keys)})"] = other / size
    off = {cause: abs(math.log(abs(factor) / size)) for cause, size in causes.items()}
    if not 1 / _RIGHT < abs(factor) < _RIGHT and min(off.values()) < _CLOSE:
        near = [cause for cause in off if off[cause] < min(off.values()) + 0.01]
        said.append(", or ".join(near))
    return f": as if {', and '.join(said)}" if said else ""


def compare(frames: Sequence[LabelledFrame], stated: bool) -> list[str]:
    """Compare the energies of a set with its forces.

    Args:
        frames: of one file or folder.
        stated: the keys say in which units they are; then nothing is refused, only named.

    Returns:
        What was found, one sentence for groups that agree.

    Raises:
        ValueError: energies and forces contradict each other, or bonds of hydrogen.
    """
    verdicts, odd = _judge(frames)
    right = [each for each in verdicts if each.outcome == "confirmed"]
    said = []
    if right:
        low, high = (f([each.factor for each in right]) for f in (min, max))
        said.append(
            f"energies fit the forces: {low:.2g} to {high:.2g} times their work in "
            f"{_named(right)}"
        )
    for each in verdicts:
        if each.outcome != "contradicted":
            continue
        text = f"energies and forces do not fit in {_named([each])}: {each.reason}"
        if not stated:
            raise ValueError(f'{text}; if they are right, say energy_unit = "eV"')
        said.append(text)
    if text := other_unit(frames[:: max(1, len(frames) // _BONDED)]):
        if not stated:
            raise ValueError(text)
        said.append(text)
    unsure: dict[str, list[Verdict]] = {}
    for each in verdicts:
        if each.outcome == "unsure":
            unsure.setdefault(each.reason, []).append(each)
    for reason, several in unsure.items():
        said.append(
            f"whether energies fit the forces was not told in {_named(several)}: {reason}"
        )
    more = [f"... and {len(odd) - _SHOWN} more such"] if len(odd) > _SHOWN else []
    return [*said, *odd[:_SHOWN], *more]


def _named(verdicts: Sequence[Verdict]) -> str:
    """Name groups; many by the first and their number."""
    names = [repr(name) for each in verdicts for name in each.groups if name]
    if not names:
        return "the set"
    shown = ", ".join(names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"group{'s' * (len(names) > 1)} {shown}{more}"


__all__ = ["Verdict", "compare", "judge"]
