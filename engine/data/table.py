"""A set of labels as a table: what is in it, group by group, and what stands out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from .checks import duplicates, rare, unbalanced, without_energy, without_forces
from .frames import LabelledFrame, group_indices, pairs, species_of

_NEAR = 3.0
"""Angstrom; larger distances to the nearest neighbour are not looked for."""

_CLOSE = 0.55
"""Part of the sum of covalent radii below which a distance stands out."""

_FAR = 8.0
"""Standard deviations, as the inner nine tenths show them, from the median beyond which a
number stands out."""


_OFF = "eV/atom off the others"

_SHORTER, _LARGER = 0.15, 0.4
"""Logarithms of factors of a shortest distance, and of a volume, that are no strain."""

_FEWEST = 4
"""Frames of a group among which one can stand out."""


@dataclass(frozen=True)
class Row:
    """One group of frames.

    Attributes:
        group: its name.
        frames: how many.
        atoms: fewest and most in a frame.
        elements: that occur.
        energy: mean, eV/atom.
        spread: standard deviation of the energy, eV/atom.
        force: root mean square component, eV/angstrom.
        largest: largest force, eV/angstrom.
        nearest: shortest distance, angstrom; NaN where none is below 3.
        pressure: mean of the labelled stresses, GPa, positive in compression; NaN
            without.
    """

    group: str
    frames: int
    atoms: tuple[int, int]
    elements: tuple[str, ...]
    energy: float
    spread: float
    force: float
    largest: float
    nearest: float
    pressure: float


def rows(frames: Sequence[LabelledFrame]) -> list[Row]:
    """Return a row for every group."""
    return [
        _row(name, [frames[k] for k in numbers])
        for name, numbers in group_indices(frames).items()
    ]


def _row(name: str, frames: Sequence[LabelledFrame]) -> Row:
    sizes = [len(frame.symbols) for frame in frames]
    energies = np.array([f.energy / len(f.symbols) for f in frames])
    forces = np.concatenate([frame.forces for frame in frames])
    pressures = [
        160.21766 * np.trace(f.virial) / 3 / f.volume
        for f in frames
        if f.virial is not None and f.volume > 0
    ]
    shortest = [distance for f in frames if (distance := _nearest(f)[0]) < np.inf]
    return Row(
        name or "-",
        len(frames),
        (min(sizes), max(sizes)),
        species_of(frames),
        float(energies.mean()),
        float(energies.std()),
        float(np.sqrt(np.square(forces).mean())),
        float(np.linalg.norm(forces, axis=1).max()),
        min(shortest, default=np.nan),
        float(np.mean(pressures)) if pressures else np.nan,
    )


def _nearest(frame: LabelledFrame) -> tuple[float, int, int]:
    """Return the shortest distance and its atoms."""
    i, j, apart = pairs(frame, _NEAR)
    if not len(i):
        return np.inf, 0, 0
    d = np.linalg.norm(apart, axis=1)
    k = int(d.argmin())
    return float(d[k]), int(i[k]), int(j[k])


def outliers(frames: Sequence[LabelledFrame]) -> Iterator[str]:
    """Yield a sentence about everything that stands out."""
    for frame in frames:
        distance, i, j = _nearest(frame)
        radii = [covalent_radii[atomic_numbers[frame.symbols[k]]] for k in (i, j)]
        if distance < _CLOSE * sum(radii):
            yield (
                f"{frame.origin}: atoms {i} and {j} ({frame.symbols[i]}, "
                f"{frame.symbols[j]}) are {distance:.3g} angstrom apart"
            )
    yield from strange(frames)
    yield from unbalanced(frames)
    yield from without_forces(frames)
    yield from without_energy(frames)
    yield from rare(frames)
    for first, second in duplicates(frames):
        apart = abs(frames[first].energy - frames[second].energy)
        yield (
            f"{frames[second].origin} repeats {frames[first].origin}; their energies are "
            f"{apart:.3g} eV apart"
        )


def strange(frames: Sequence[LabelledFrame]) -> Iterator[str]:
    """Yield frames whose energy, forces, volume or distances stand out in their group."""
    for name, numbers in group_indices(frames).items():
        yield from _strange([frames[k] for k in numbers], name or "-")


def _strange(frames: Sequence[LabelledFrame], group: str) -> Iterator[str]:
    """Yield frames of which a number is far from the others' of the group."""
    if len(frames) < _FEWEST:
        return
    forces = np.array([np.linalg.norm(f.forces, axis=1).max() for f in frames])
    energies = _beyond_composition(frames)
    shortest = np.array([_nearest(f)[0] for f in frames])
    found: dict[str, tuple[np.ndarray, np.ndarray, float, str]] = {}
    if all(f.periodic.all() for f in frames):
        volumes = np.array([f.volume / len(f.symbols) for f in frames])
        found["a cell"] = volumes, np.log(volumes), _LARGER, "angstrom^3 an atom"
    if len({tuple(sorted(f.symbols)) for f in frames}) == 1 and np.isfinite(shortest).all():
        sizes = np.log(shortest + 1e-3)
        found["a shortest distance"] = shortest, sizes, _SHORTER, "angstrom"
    found["a largest force"] = forces, np.log(forces + 1e-3), 0.0, "eV/angstrom"
    found["an energy"] = energies - np.median(energies), energies, 0.0, _OFF
    for what, (shown, values, least, unit) in found.items():
        away = np.abs(values - np.median(values))
        inner = np.sort(away)[: max(int(0.9 * len(values)), 1)]
        spread = 2 * inner[-1] / 3.29 + 1e-3
        for k in np.flatnonzero(away > max(_FAR * spread, least)).tolist():
            yield f"{frames[k].origin} (group {group}): {what} of {shown[k]:.4g} {unit}"


def _beyond_composition(frames: Sequence[LabelledFrame]) -> np.ndarray:
    """Return energies per atom less a sum over the elements, fitted robustly."""
    names = species_of(frames)
    counts = np.array([[f.symbols.count(n) for n in names] for f in frames], float)
    sizes = counts.sum(1)
    shares, energies = counts / sizes[:, None], np.array([f.energy for f in frames]) / sizes
    weights = np.ones(len(frames))
    fit = np.zeros(len(names))
    for _ in range(20):  # reweighted towards the smallest sum of absolute deviations
        root = np.sqrt(weights)
        fit = np.linalg.lstsq(shares * root[:, None], energies * root, rcond=1e-8)[0]
        weights = 1 / np.maximum(np.abs(energies - shares @ fit), 1e-6)
    return energies - shares @ fit


__all__ = ["Row", "outliers", "rows", "strange"]
