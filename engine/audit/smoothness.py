"""Smoothness of a potential: no jump of energy or force along any path of the atoms."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..comparison import worst
from ..runtime import generator
from .findings import Finding, at_most
from .samples import Evaluation, Sample, Subject, force_scale

JUMP = 1e-3
"""Largest jump of a force that passes, over the typical force."""

STEP = 2e-5
"""Largest jump of the energy that passes, over the typical force times an angstrom."""

Path = Callable[[Tensor], Tensor]
"""From ``t [n]`` in [0, 1] to positions ``[n, atoms, 3]``."""

_LANES = 8


def misfit(answer: Evaluation, positions: Tensor) -> Tensor:
    """Return ``|E_b - E_a + (F_a + F_b)/2 . (x_b - x_a)|`` along a path, ``[n - 1]``.

    It falls as the third power of the step where the energy is smooth, as the first where
    the force jumps, and not at all where the energy jumps.
    """
    work = 0.5 * (answer.forces[1:] + answer.forces[:-1]) * (positions[1:] - positions[:-1])
    return (answer.energy[1:] - answer.energy[:-1] + work.sum((1, 2))).abs()


def largest_jump(
    subject: Subject, sample: Sample, path: Path, points: int
) -> tuple[float, float]:
    """Return the largest jump on a path, over its typical force, and where it is.

    The path is scanned; the intervals of largest :func:`misfit`, and those where it stands
    out from its neighbours, are halved again and again towards the larger misfit, until the
    atoms move by a millionth of an angstrom. What is left there of misfit or of force
    difference is a jump; a jump of the energy counts :data:`JUMP` over :data:`STEP` times.
    """
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    positions = path(t)
    answer = subject.ask(sample, positions)
    if not bool(answer.energy.isfinite().all() and answer.forces.isfinite().all()):
        return math.nan, 0.0
    scale = float(answer.forces.square().sum(-1).amax(1).median().sqrt())
    scale = max(scale, force_scale(answer))
    raw = misfit(answer, positions)
    order = torch.cat([_largest(raw), _largest(_standing_out(raw))]).unique()
    low, high = t[order], t[order + 1]
    longest = float((positions[1:] - positions[:-1]).norm(dim=2).max())
    target = 1e-2 if subject.single else 1e-6
    while longest > target:
        middle = 0.5 * (low + high)
        three = path(torch.stack([low, middle, high], 1).flatten())
        found = subject.ask(sample, three)
        both = misfit(found, three).view(-1)
        left, right = both[0::3], both[1::3]
        go_left = left > right
        low, high = torch.where(go_left, low, middle), torch.where(go_left, middle, high)
        longest *= 0.5
    ends = path(torch.stack([low, high], 1).flatten())
    found = subject.ask(sample, ends)
    rounding = 10 * subject.noise.energy(sample.atoms)
    energy = (misfit(found, ends)[0::2] - rounding).clamp(min=0.0) * (JUMP / STEP)
    force = (found.forces[1::2] - found.forces[0::2]).abs().amax((1, 2))
    jumps = torch.maximum(energy, force) / scale
    worst = int(jumps.argmax())
    return float(jumps[worst]), float(low[worst])


def _largest(values: Tensor) -> Tensor:
    return values.argsort(descending=True)[:_LANES]


def _standing_out(values: Tensor) -> Tensor:
    """Return each value over the larger one of its neighbours two places away."""
    padded = torch.nn.functional.pad(values[None, None], (2, 2), mode="replicate")[0, 0]
    around = torch.maximum(padded[:-4], padded[4:])
    return values / around.clamp(min=1e-300)


def _straight(start: Tensor, moved: Tensor) -> Path:
    def path(t: Tensor) -> Tensor:
        return start + t[:, None, None] * moved

    return path


def _worst(subject: Subject, paths: list[tuple[Sample, Path]], points: int) -> float:
    return worst(largest_jump(subject, *each, points)[0] for each in paths)


def at_cutoff(subject: Subject) -> Finding:
    """An atom comes from out of reach to a neighbour's place; nothing may jump.

    Where the range of the potential is not known, it starts from 12 angstrom.
    """
    piece = subject.cluster(10)
    reach = subject.potential.cutoff or 12.0
    rng, paths = generator(5, 21), []
    for number in range(3):
        away = torch.randn(3, generator=rng, dtype=torch.float64)
        away = away / away.norm()
        along = piece.positions @ away
        outer = int(along.argmax())
        start = piece.positions[outer] + (reach + 0.3) * away
        end = piece.positions[outer] + subject.nearest * away
        which = torch.cat([torch.arange(piece.atoms), torch.tensor([number])])
        which[-1] = number % piece.atoms
        sample = piece.picked(which, torch.cat([piece.positions, start[None]]))
        moved = torch.zeros_like(sample.positions)
        moved[-1] = end - start
        paths.append((sample, _straight(sample.positions, moved)))
    value = _worst(subject, paths, 160)
    detail = f"an atom comes from {reach + 0.3:.1f} angstrom, 3 directions"
    return at_most("smoothness at the cutoff", value, JUMP, detail=detail)


def at_swaps(subject: Subject) -> Finding:
    """A neighbour moves outwards past the others, so that the order by distance changes."""
    paths = []
    for centre in range(4):
        piece = subject.cluster(14, centre % subject.bulk.atoms)
        distance = piece.positions.norm(dim=1)
        moved = torch.zeros_like(piece.positions)
        beyond = float(distance.sort().values[-1]) - float(distance[1]) + 0.2
        moved[1] = piece.positions[1] / distance[1] * min(beyond, 1.6)
        shaken = piece.shaken(0.08, seed=centre)
        paths.append((shaken, _straight(shaken.positions, moved)))
    value = _worst(subject, paths, 128)
    detail = "a neighbour moves out past the others, 4 centres"
    return at_most("smoothness at neighbour swaps", value, JUMP, detail=detail)


def on_lines(subject: Subject) -> Finding:
    """All atoms move along random straight lines."""
    rng, paths = generator(6, 21), []
    for number in range(4):
        piece = subject.cluster(12, number % subject.bulk.atoms)
        moved = torch.randn(piece.positions.shape, generator=rng, dtype=torch.float64)
        paths.append((piece, _straight(piece.positions - 0.3 * moved, 0.6 * moved)))
    value = _worst(subject, paths, 96)
    detail = "4 random lines through configuration space"
    return at_most("smoothness on random lines", value, JUMP, detail=detail)


__all__ = ["at_cutoff", "at_swaps", "largest_jump", "misfit", "on_lines"]
