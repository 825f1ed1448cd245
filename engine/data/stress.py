"""Whether the stress labels of a set fit its energies and forces: order, sign and unit.

A linear many-body model is fitted to energies and forces alone; its virial then tells in
which order, with which sign and in which unit the labels are. Per atom i the model has

    E_i = sum_k c_k B_k,  B = (sum_j phi_n(r_ij), sum_m A_nlm A_n'lm),
    A_nlm = sum_j phi_n(r_ij) Y_lm(r_ij)

(Drautz, Phys. Rev. B 99, 014104 (2019)), so forces and virial are linear in c as well.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from torch import Tensor

from .frames import LabelledFrame, group_indices, species_of
from .keys import UNITS

REACH = 5.0
"""Angstrom; range of the model."""

_PAIR, _RADIAL, _FRAMES, _MOST_ATOMS = 8, 3, 12, 400
_TOO_LARGE = f"no periodic frame of at most {_MOST_ATOMS} atoms"
_SHEAR = ((1, 2), (0, 2), (0, 1))
"""Where yz, xz, xy stand in a tensor."""


def _radial(r: Tensor, count: int) -> Tensor:
    """Smooth radial functions ``[pairs, count]`` that end at :data:`REACH`."""
    x = (r / REACH).clamp(max=1.0)
    end = (1 - x) ** 2
    return torch.stack(
        [
            end * torch.exp(-(((x - 0.9 * n / count - 0.25) * count) ** 2))
            for n in range(count)
        ],
        -1,
    )


def _harmonics(u: Tensor) -> list[Tensor]:
    """Cartesian harmonics of unit vectors for l = 1, 2, 3, each ``[pairs, m]``."""
    x, y, z = u.unbind(-1)
    first = torch.stack([x, y, z], -1)
    second = torch.stack(
        [x * y, y * z, x * z, (x * x - y * y) / 2, (3 * z * z - 1) / math.sqrt(12)], -1
    )
    a = math.sqrt(15.0)
    third = torch.stack(
        [
            a * x * y * z, a * z * (x * x - y * y) / 2,
            z * (5 * z * z - 3) / 2,
            math.sqrt(3 / 8) * x * (5 * z * z - 1), math.sqrt(3 / 8) * y * (5 * z * z - 1),
            math.sqrt(5 / 8) * x * (x * x - 3 * y * y),
            math.sqrt(5 / 8) * y * (3 * x * x - y * y),
        ], -1,
    )  # fmt: skip
    return [first, second, third]


def _features(d: Tensor, i: Tensor, kinds: Tensor, pair: Tensor, species: int) -> Tensor:
    """Sum over atoms of the features ``[features]``, from displacements ``[pairs, 3]``."""
    atoms = len(kinds)
    r = d.norm(dim=-1)
    pairs = species * (species + 1) // 2
    # one block of radial functions for each unordered pair of species
    two = torch.zeros(pairs, _PAIR, dtype=d.dtype).index_add(0, pair, _radial(r, _PAIR))
    phi = _radial(r, _RADIAL)
    blocks = [two.reshape(-1)]
    upper = torch.triu_indices(_RADIAL, _RADIAL)
    for y in [torch.ones_like(r)[:, None], *_harmonics(d / r[:, None])]:
        terms = phi[:, :, None] * y[:, None]
        a = torch.zeros(atoms, _RADIAL, y.shape[1], dtype=d.dtype).index_add(0, i, terms)
        power = torch.einsum("anm,akm->ank", a, a)[:, upper[0], upper[1]]
        three = torch.zeros(species, power.shape[1], dtype=d.dtype)
        blocks.append(three.index_add(0, kinds, power).reshape(-1))
    return torch.cat(blocks)


@dataclass(frozen=True)
class _Row:
    """Energy, forces ``[atoms, 3]`` and virial ``[3, 3]`` of every feature, last axis."""

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


def _row(frame: LabelledFrame, species: Sequence[str]) -> _Row:
    atoms = Atoms(list(frame.symbols), frame.positions, cell=frame.cell, pbc=frame.periodic)
    first, second, vectors = neighbor_list("ijD", atoms, REACH)
    kinds = torch.tensor([species.index(s) for s in frame.symbols])
    i, j = torch.from_numpy(first).long(), torch.from_numpy(second).long()
    low, high = torch.minimum(kinds[i], kinds[j]), torch.maximum(kinds[i], kinds[j])
    pair = high * (high + 1) // 2 + low
    d = torch.from_numpy(vectors).double()

    def features(x: Tensor) -> Tensor:
        return _features(x, i, kinds, pair, len(species))

    values = features(d)
    slope = torch.func.jacrev(features)(d)  # [features, pairs, 3]
    forces = torch.zeros(len(values), len(kinds), 3, dtype=torch.float64)
    forces = forces.index_add(1, i, slope).index_add(1, j, -slope)
    virial = -torch.einsum("fpa,pb->fab", slope, d)
    counts = torch.bincount(kinds, minlength=len(species)).double()
    none = torch.zeros(len(species), dtype=torch.float64)
    return _Row(
        torch.cat([values, counts]).numpy(),
        torch.cat([forces, none[:, None, None].expand(-1, *forces.shape[1:])])
        .permute(1, 2, 0).numpy(),
        torch.cat([virial, none[:, None, None].expand(-1, 3, 3)]).permute(1, 2, 0).numpy(),
    )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What the energies and forces say of the stress labels of one group.

    Attributes:
        group: its name.
        outcome: ``confirmed``, ``contradicted``, or ``unsure``.
        order: where the labels' yz, xz, xy are found to stand among them.
        factor: labels over model; near 1 where sign and unit are right.
        reason: one sentence.
    """

    group: str
    outcome: str
    order: tuple[int, ...]
    factor: float
    reason: str


_STATED = (0, 1, 2)
_SURE, _CLOSE = 0.6, 2.5
"""Correlation that a verdict needs; factor within which model and labels agree."""

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
    rows = {k: _row(frames[k], species) for chosen in groups.values() for k in chosen}
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
        and len(frames[k].symbols) <= _MOST_ATOMS
        and frames[k].periodic.any()
    ]
    shear = {k: max(abs(_stress(frames[k])[at]) for at in _SHEAR) for k in fit}
    return sorted(fit, key=lambda k: -shear[k])[:_FRAMES]


def _fit(frames: Sequence[LabelledFrame], rows: Mapping[int, _Row]) -> np.ndarray | None:
    """Return the model's coefficients; None where the labels do not determine it."""
    left, right = [], []
    for k, row in rows.items():
        atoms = len(frames[k].symbols)
        weight = 3 * math.sqrt(3 * atoms) / atoms
        left += [row.forces.reshape(3 * atoms, -1), row.energy[None] * weight]
        right += [frames[k].forces.ravel(), np.array([frames[k].energy * weight])]
    a, b = np.concatenate(left), np.concatenate(right)
    if len(b) < 3 * a.shape[1]:
        return None
    scale = np.linalg.norm(a, axis=0)
    scale[scale == 0] = 1.0
    found = np.linalg.lstsq(a / scale, b, rcond=1e-9)[0] / scale
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
    wrong = order != _STATED or not 1 / _CLOSE < factor < _CLOSE
    if wrong:
        said += f": as if {_meant(order, factor)}"
    return Verdict(group, "contradicted" if wrong else "confirmed", order, factor, said)


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


def _meant(order: Sequence[int], factor: float) -> str:
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
    if not 1 / _CLOSE < size < _CLOSE:
        ratios = {(a, b): UNITS[b] / UNITS[a] for a in UNITS for b in UNITS if a != b}
        (a, b) = min(ratios, key=lambda ab: abs(math.log(size * ratios[ab])))
        parts.append(f"{b} had been taken for {a}")
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
        The frames, and a sentence for each group.

    Raises:
        ValueError: the labels contradict their convention, or an open order is not told.
    """
    verdicts = {verdict.group: verdict for verdict in judge(frames)}
    orders = {v.order for v in verdicts.values() if v.outcome != "unsure"}
    found, said = {}, []
    for name, verdict in verdicts.items():
        right_size = 1 / _CLOSE < verdict.factor < _CLOSE
        choice = ambiguous and not stated
        if choice and verdict.outcome == "unsure" and len(orders) == 1:
            verdict = replace(verdict, order=next(iter(orders)))
        elif choice and verdict.outcome == "unsure":
            raise ValueError(
                f"group {name!r}: the order of the stress is not told by energies and "
                f"forces ({verdict.reason}); say it with stress_order"
            )
        if verdict.outcome == "contradicted" and not stated and not (choice and right_size):
            raise ValueError(
                f"group {name!r}: the stress does not fit energies and forces "
                f"({verdict.reason}); say what it is with stress_order, stress_unit or "
                "stress_sign"
            )
        found[name] = verdict.order if choice else _STATED
        outcome = verdict.outcome
        if choice:
            by = "the other groups" if outcome == "unsure" else "energies and forces"
            outcome = f"chosen by {by}"
        said.append(f"stress of group {name!r}: {outcome} ({verdict.reason})")
    return [_reordered(f, found.get(f.group, _STATED)) for f in frames], said


def _reordered(frame: LabelledFrame, order: Sequence[int]) -> LabelledFrame:
    if frame.virial is None or tuple(order) == _STATED:
        return frame
    virial = frame.virial.copy()
    for (i, j), place in zip(_SHEAR, order, strict=True):
        a, b = _SHEAR[place]
        virial[i, j] = virial[j, i] = frame.virial[a, b]
    return replace(frame, virial=virial)


__all__ = ["Verdict", "judge", "settle"]
