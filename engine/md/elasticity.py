"""Elastic constants that labelled frames hold: stress over strain of strained crystals.

Frames with one arrangement of fractional coordinates and different cells are one crystal
under strain, its atoms held in place. With cells ``A = A_0 F`` the strain is
``eps = (F F^T)^(1/2) - 1`` in the crystal's frame (the rotation of the cell removed), and

    sigma_i = s_i + sum_j C_ij eps_j + O(eps^2)

is solved for C by least squares over strains of a few per cent, the second order with it
where the frames suffice. The same with a model's stresses of the same frames tells whether
the model bends as its labels do, whatever their strains were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ..units import EV_PER_A3_GPA
from .data import LabelledFrame

LARGEST = 0.025
"""Strains up to this are used: beyond, the second order is no longer all."""

SAME = 0.03
"""Atoms that differ by less from those of another frame, in root mean square and parts of
the distance between neighbours, are in the same place: some sets shake their crystals."""

FEWEST = 9
"""Frames of one crystal: six components of strain, and something to compare with."""

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class StrainedCrystal:
    """Frames of one crystal under strains.

    Attributes:
        indices: of the frames in their set.
        strains: ``[frames, 6]`` in Voigt's order, shears ``gamma = 2 eps``.
        rotations: ``[frames, 3, 3]``, turn a frame's stress into the crystal's axes.
        volumes: ``[frames]`` angstrom^3.
    """

    indices: tuple[int, ...]
    strains: np.ndarray
    rotations: np.ndarray
    volumes: np.ndarray

    def constants(self, virials: np.ndarray) -> np.ndarray:
        """Return C ``[6, 6]`` in GPa from virials ``[frames, 3, 3]``, eV.

        ``sigma = -W / V``; NaN where the strains leave C open.
        """
        stress = -virials / self.volumes[:, None, None] * EV_PER_A3_GPA
        turned = self.rotations.mT @ stress @ self.rotations
        rows = np.stack([turned[:, a, b] for a, b in _VOIGT], 1)
        columns = [np.ones(len(rows)), *self.strains.T]
        if len(rows) >= 2 * 7:
            columns += [e**2 for e in self.strains.T]
        matrix = np.stack(columns, 1)
        matrix[:, 1:] /= LARGEST
        if np.linalg.matrix_rank(matrix[:, :7], tol=1e-3) < 7:
            return np.full((6, 6), np.nan)
        found = np.linalg.lstsq(matrix, rows, rcond=None)[0][1:7] / LARGEST
        return 0.5 * (found + found.T)


def strained_crystals(frames: Sequence[LabelledFrame]) -> list[StrainedCrystal]:
    """Return the crystals of a set that were strained with their atoms in place."""
    groups: list[tuple[LabelledFrame, np.ndarray, list[int]]] = []
    for index, frame in enumerate(frames):
        if frame.virial is None or not frame.periodic.all() or frame.volume < 1e-6:
            continue
        fractional = frame.positions @ np.linalg.inv(frame.cell)
        for first, known, members in groups:
            if frame.symbols == first.symbols and _same(first, known, fractional):
                members.append(index)
                break
        else:
            groups.append((frame, fractional, [index]))
    found = [_crystal(frames, members) for _, _, members in groups if len(members) > 1]
    return [crystal for crystal in found if len(crystal.indices) >= FEWEST]


def _same(frame: LabelledFrame, one: np.ndarray, two: np.ndarray) -> bool:
    """Whether fractional coordinates agree but for a common shift and whole cells."""
    apart = (two - two[0]) - (one - one[0])
    apart -= np.round(apart)
    apart -= apart.mean(0)
    size = (frame.volume / len(one)) ** (1 / 3)
    return bool(np.sqrt(((apart @ frame.cell) ** 2).sum(1).mean()) < SAME * size)


def _crystal(frames: Sequence[LabelledFrame], members: list[int]) -> StrainedCrystal:
    """Measure strains from the frame of the least stress."""
    pressure = [
        np.abs(frames[k].virial).max() / frames[k].volume for k in members  # type: ignore[arg-type]
    ]  # fmt: skip
    inverse = np.linalg.inv(frames[members[int(np.argmin(pressure))]].cell)
    kept, strains, rotations = [], [], []
    for index in members:
        rotation, stretch = scipy.linalg.polar(inverse @ frames[index].cell, side="left")
        strain = stretch - np.eye(3)
        if np.abs(strain).max() <= LARGEST:
            kept.append(index)
            strains.append([strain[a, b] * (1 if a == b else 2) for a, b in _VOIGT])
            # cells are rows: the frame is the crystal, stretched, then turned
            rotations.append(rotation.T)
    volumes = np.array([frames[k].volume for k in kept])
    return StrainedCrystal(
        tuple(kept), np.array(strains), np.array(rotations), volumes
    )  # fmt: skip


@dataclass(frozen=True)
class Minimum:
    """Where energy over length has its minimum, and how it bends there.

    Attributes:
        length: relative, NaN where no minimum is inside.
        energy: eV.
        bulk_modulus: GPa.
    """

    length: float
    energy: float
    bulk_modulus: float


def energy_minimum(length: np.ndarray, energy: np.ndarray, volume: float) -> Minimum:
    """Return the minimum of a cubic fitted about the lowest of some energies.

    ``B = V d2E/dV2``; at the minimum ``dE/dV = 0``, so ``d2E/dV2 = (d2E/dl2) (dl/dV)^2``
    with ``V = V_0 l^3``.

    Args:
        length: ``[points]`` by which all edges are scaled.
        energy: ``[points]`` eV.
        volume: ``V_0`` angstrom^3, of the cell at length 1.
    """
    low = int(energy.argmin())
    if low in (0, len(energy) - 1) or not np.isfinite(energy).all():
        return Minimum(np.nan, np.nan, np.nan)
    near = slice(max(low - 3, 0), low + 4)
    fit = np.polynomial.Polynomial.fit(length[near], energy[near], 3)
    roots = fit.deriv().roots()
    best = float(min((abs(r.real - length[low]), r.real) for r in roots)[1])
    stiff = float(fit.deriv(2)(best)) / (9 * volume * best) * EV_PER_A3_GPA
    return Minimum(best, float(fit(best)), stiff)


def cubic_constants(constants: np.ndarray) -> dict[str, float]:
    """Return C11, C12, C44, C' = (C11 - C12) / 2 and B of a cubic crystal on its axes."""
    c11 = float(np.diag(constants)[:3].mean())
    c12 = float(constants[[0, 0, 1], [1, 2, 2]].mean())
    c44 = float(np.diag(constants)[3:].mean())
    return {
        "C11": c11,
        "C12": c12,
        "C44": c44,
        "C_prime": (c11 - c12) / 2,
        "bulk_modulus": (c11 + 2 * c12) / 3,
    }


def is_cubic(constants: np.ndarray, tolerance: float = 0.05) -> bool:
    """Whether C has the form of a cubic crystal on its axes."""
    c = cubic_constants(constants)
    ideal = np.zeros((6, 6))
    ideal[:3, :3] = c["C12"]
    ideal[range(3), range(3)] = c["C11"]
    ideal[range(3, 6), range(3, 6)] = c["C44"]
    return bool(np.abs(constants - ideal).max() <= tolerance * np.abs(constants).max())


def elastic_error(model: np.ndarray, labels: np.ndarray) -> float:
    """Return the worst relative error of a model's elastic constants.

    Of a cubic crystal: of C11, C12, C44 and C'. Else: of the matrix, in its norm.
    """
    if not is_cubic(labels):
        return float(np.linalg.norm(model - labels) / np.linalg.norm(labels))
    one, two = cubic_constants(model), cubic_constants(labels)
    names = ("C11", "C12", "C44", "C_prime")
    return max(abs(one[name] / two[name] - 1) for name in names)


__all__ = [
    "Minimum",
    "StrainedCrystal",
    "cubic_constants",
    "elastic_error",
    "energy_minimum",
    "is_cubic",
    "strained_crystals",
]
