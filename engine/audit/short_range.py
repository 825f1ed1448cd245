"""Holes: distances below the data at which a potential attracts instead of repels."""

import math

import torch
from torch import Tensor

from .findings import Finding, at_most
from .samples import Sample, Subject

HOLE = 1e-3
"""eV by which the energy may fall when two atoms are pressed together."""


def holes(subject: Subject, points: int = 200) -> Finding:
    """Two atoms are pressed together below the shortest distance in the data.

    The energy of the pair, alone and inside a piece of the bulk, must rise all the way
    down to half of that distance. Found is the largest fall on the way, eV; a hot or badly
    started simulation falls into it and does not leave it.
    """
    shortest = subject.shortest
    if not math.isfinite(shortest):
        shortest = 0.8 * subject.nearest
    worst, where = 0.0, ""
    r = torch.linspace(shortest, 0.5 * shortest, points, dtype=torch.float64)
    for name, sample, positions in _approaches(subject, r):
        energy = subject.ask(sample, positions).energy
        if not bool(energy.isfinite().all()):
            detail = f"the energy is not finite: {name}"
            return at_most("holes at short distance", math.nan, HOLE, "eV", detail)
        fall = torch.cummax(energy, 0).values - energy
        place = int(fall.argmax())
        if float(fall[place]) > worst:
            worst, where = float(fall[place]), f"{name} at {float(r[place]):.2f} angstrom"
    reach = f"from {shortest:.2f} to {0.5 * shortest:.2f} angstrom"
    detail = f"{reach}; deepest: {where}" if where else f"{reach}; none"
    return at_most("holes at short distance", worst, HOLE, "eV", detail)


def _approaches(subject: Subject, r: Tensor) -> list[tuple[str, Sample, Tensor]]:
    """Return every pair of species alone, and a neighbour pressed in from the bulk."""
    made = []
    state, names = subject.bulk.state, subject.potential.species
    present = sorted(set(state.species.tolist()))
    first = {kind: int((state.species == kind).nonzero()[0, 0]) for kind in present}
    for a in present:
        for b in present[present.index(a) :]:
            which = torch.tensor([first[a], first[b]])
            positions = torch.zeros(len(r), 2, 3, dtype=torch.float64)
            positions[:, 1, 0] = r
            pair = subject.bulk.picked(which, positions[0])
            made.append((f"{names[a]}-{names[b]} alone", pair, positions))
    for kind in present:
        piece = subject.cluster(14, first[kind])
        unit = piece.positions[1] / piece.positions[1].norm()
        positions = piece.positions.expand(len(r), -1, -1).clone()
        positions[:, 1] = r[:, None] * unit
        other = names[int(piece.state.species[1])]
        made.append((f"{names[kind]}-{other} in bulk", piece, positions))
    return made


__all__ = ["holes"]
