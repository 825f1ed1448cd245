"""Whether forces are of the size that chemistry has: the stiffness of bonds of hydrogen.

Energies and forces that are both in another unit fit each other. What they cannot hide is
``k = -d(F u)/dr`` of hydrogen at carbon, nitrogen or oxygen, with the force F on it along
the bond u of length r: 30 to 55 eV/angstrom^2 in all their compounds (5 to 9 mdyn/angstrom;
Wilson, Decius, Cross, Molecular Vibrations, 1955), and units differ by 14 and more.
"""

import math
from collections.abc import Sequence

import numpy as np

from .frames import LabelledFrame, pairs
from .keys import ENERGY_UNITS

_USUAL, _ODD = 40.0, 5.0
"""eV/angstrom^2, and times as much or as little as no bond has."""

_FEWEST, _SPREAD, _SURE = 20, 0.01, 0.8
"""Bonds, angstrom of their lengths' deviation, and correlation that tell a stiffness."""

_LONGEST = 1.4
"""Angstrom; hydrogen bonds begin above it."""


def stiffness(frames: Sequence[LabelledFrame]) -> float | None:
    """Return that of the bonds of hydrogen, eV/angstrom^2; None where none can be told."""
    lengths: dict[str, list[float]] = {}
    pulls: dict[str, list[float]] = {}
    for frame in frames:
        if "H" not in frame.symbols:
            continue
        i, j, d = pairs(frame, _LONGEST)
        bonds = np.bincount(i, minlength=len(frame.symbols))
        for a, b, length, away in zip(i, j, np.linalg.norm(d, axis=1), d, strict=True):
            other = frame.symbols[b]
            if frame.symbols[a] == "H" and bonds[a] == 1 and other in ("C", "N", "O"):
                lengths.setdefault(other, []).append(length)
                pulls.setdefault(other, []).append(-frame.forces[a] @ away / length)
    told = []
    for other, found in lengths.items():
        x, y = np.array(found), np.array(pulls[other])
        if len(x) >= _FEWEST and x.std() > _SPREAD and y.std() > 0:
            alike = float(np.corrcoef(x, y)[0, 1])
            if alike < -_SURE:
                told.append(-alike * float(y.std() / x.std()))
    return float(np.median(told)) if told else None


def other_unit(frames: Sequence[LabelledFrame]) -> str | None:
    """Return a sentence where the bonds of hydrogen are as stiff as in another unit."""
    found = stiffness(frames)
    if found is None or _USUAL / _ODD < found < _USUAL * _ODD:
        return None
    off = {
        unit: abs(math.log(found * size / _USUAL)) for unit, size in ENERGY_UNITS.items()
    }
    unit = min(off, key=lambda name: off[name])
    return (
        f"bonds of hydrogen have a stiffness of {found:.3g} eV/angstrom^2, where 30 to 55 "
        f"are usual: as if energies and forces were both in {unit} (energy_unit, "
        "forces_unit)"
    )


__all__ = ["other_unit", "stiffness"]
