"""Calibration of a committee: its deviation against its error."""

import math
from collections.abc import Sequence

import torch
from ase import Atoms
from torch import Tensor

from ..learn.indicators import spearman
from ..md.data import LabelledFrame
from ..md.neighbours import build_neighbours
from ..md.potential import Potential
from .findings import Finding, at_most, not_measured
from .samples import SKIN, Sample, Subject

COVERAGE = 0.03
"""Allowed distance of the 90 % coverage."""

RANKING = 0.3
"""Least rank correlation of deviation and error."""

_QUANTILES = {0.5: 2.366, 0.9: 6.251}
"""Of the chi-squared distribution with three degrees of freedom."""


def coverage(error: Tensor, expected: Tensor, share: float) -> float:
    """Return the part of atoms inside their own error bound.

    If the components of a force error are normal with ``<|dF|^2> = expected^2``, then
    ``share`` of the atoms have ``3 |dF|^2 / expected^2`` below that quantile of the
    chi-squared distribution with three degrees of freedom.

    Args:
        error: ``[atoms]`` ``|dF|``, eV/angstrom.
        expected: ``[atoms]`` expected error, eV/angstrom.
        share: 0.5 or 0.9.
    """
    inside = 3 * error.square() <= _QUANTILES[share] * expected.square()
    return float(inside.double().mean())


def calibration(subject: Subject, frames: Sequence[LabelledFrame] = ()) -> list[Finding]:
    """Coverage at 90 % and at 50 %, and the ranking, on labelled frames.

    The expected error of an atom is its deviation times the potential's
    ``deviation_factor``, or the deviation itself where none was measured.
    """
    names = ("committee coverage 90 %", "committee coverage 50 %", "committee ranking")
    potential = subject.potential
    members = getattr(potential, "members", 1)
    if members < 2:
        return [not_measured(names[0], "one network, no committee", COVERAGE)]
    if not frames:
        return [not_measured(names[0], "no labelled frames were given", COVERAGE)]
    factor = getattr(potential, "deviation_factor", math.nan)
    error, deviation = _measured(potential, frames, subject.dtype)
    expected = deviation * (factor if math.isfinite(factor) else 1.0)
    stated = f"factor {factor:.2f}" if math.isfinite(factor) else "no factor stated"
    what = f"{len(error)} atoms of {len(frames)} frames, {stated}"
    found = []
    for name, share in zip(names, (0.9, 0.5), strict=False):
        inside = coverage(error, expected, share)
        allowed = COVERAGE if share == 0.9 else 0.1
        detail = f"{100 * inside:.1f} % inside; {what}"
        found.append(at_most(name, abs(inside - share), allowed, detail=detail))
    rank = spearman(expected.double(), error.double())
    detail = f"Spearman {rank:.2f} of deviation and error, at least {RANKING}"
    return [*found, at_most(names[2], 1 - rank, 1 - RANKING, detail=detail)]


def _measured(
    potential: Potential, frames: Sequence[LabelledFrame], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    errors, deviations = [], []
    for frame in frames:
        atoms = Atoms(
            frame.symbols, frame.positions, cell=frame.cell, pbc=frame.periodic.tolist()
        )
        state = Sample.of(atoms, potential.species, dtype).state
        found = potential(state, build_neighbours(state, potential.cutoff, SKIN))
        errors.append((found.forces.double() - torch.as_tensor(frame.forces)).norm(dim=1))
        deviations.append(found.deviation.double())
    return torch.cat(errors), torch.cat(deviations)


__all__ = ["calibration", "coverage"]
