"""Liquid water: the labelled trajectory in its order, and distributions beside it.

``python benchmarks/water.py`` writes the references of the scenario water_nvt anew.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from scalebridge.engine.md.outputs import departure
from scalebridge.engine.protocols import Figure

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
BLOCKS = 8
"""Parts of the labelled trajectory whose spread tells the errors of its means."""
BONDED = 1.25
"""No other hydrogen is as near to an oxygen, angstrom."""
SOURCE = "github.com/deepmodeling/deepmd-kit, examples/water/data"

Array = NDArray[np.float64]
Stored = Mapping[str, Mapping[str, Array]]
"""Curves of a run: group -> name -> values."""


def in_time() -> list[Any]:
    """Return all labelled frames of water, in time or against it.

    The frames are published in disorder. Atoms diffuse, so distances tell the order: it
    is that of the slowest vector of a walk between frames that are near each other.
    """
    from scalebridge.engine import scenario
    from scalebridge.engine.md.data import read_frames
    from scalebridge.engine.schema.base import locate

    chosen, base = scenario.load("water_train")
    paths = [*chosen.data, chosen.test]  # type: ignore[attr-defined]
    frames = [f for path in paths for f in read_frames(locate(path, base))]
    size = frames[0].cell.diagonal()
    places = np.array([f.positions for f in frames])
    near = np.zeros((len(frames), len(frames)))
    for k, here in enumerate(places):
        apart = places - here
        apart -= size * np.round(apart / size)
        near[k] = np.exp(-(apart**2).sum(2).mean(1))
    np.fill_diagonal(near, 0.0)
    root = near.sum(1) ** -0.5
    _, vectors = np.linalg.eigh(near * root[:, None] * root)
    return [frames[k] for k in np.argsort(vectors[:, -2] * root)]


@dataclass(frozen=True)
class Curve:
    """A distribution beside that of the labels.

    Attributes:
        name: such as ``rdf OO``.
        x: ``[points]``, angstrom or degrees.
        found: ``[runs, points]``.
        error: standard error of the mean of the runs, ``[points]``.
        known: of the labels, ``[points]``.
        known_error: its standard error.
    """

    name: str
    x: Array
    found: Array
    error: Array
    known: Array
    known_error: Array

    @property
    def area(self) -> float:
        """Area between the mean of the runs and the labels, over that of the labels."""
        return _area(self.found.mean(0) - self.known, self.known)

    @property
    def areas(self) -> Array:
        """The same of each run alone."""
        return np.array([_area(run - self.known, self.known) for run in self.found])

    @property
    def noise(self) -> float:
        """The area that two samples of one distribution with these errors would have."""
        both = np.hypot(self.error, self.known_error)
        return _area((2 / np.pi) ** 0.5 * both, self.known)

    def departure(self, run: int | None = None) -> Figure:
        """Return the largest difference beyond two standard errors, and its place.

        Args:
            run: of this run alone, with the error of the mean of all; of their mean if
                none is named.
        """
        mean = self.found.mean(0) if run is None else self.found[run]
        both = np.hypot(self.error, self.known_error)
        return departure(*map(torch.from_numpy, (mean, both, self.known, self.x)))

    def peak(self, below: float) -> str:
        """Say mean and standard deviation of what lies below a distance, angstrom.

        A bin counts at its centre, of the runs as of the labels.
        """
        inside = self.x < below
        (mean, width), (its_mean, its_width) = (
            _moments(self.x[inside], (curve * self.x**2)[inside])
            for curve in (self.found.mean(0), self.known)
        )
        return (
            f"mean {mean:.5f} for {its_mean:.5f} angstrom, standard deviation "
            f"{width:.5f} for {its_width:.5f}"
        )


def _moments(x: Array, weight: Array) -> tuple[float, float]:
    mean = np.average(x, weights=weight)
    return float(mean), float(np.average((x - mean) ** 2, weights=weight) ** 0.5)


def _area(values: Array, known: Array) -> float:
    return float(np.abs(values).sum() / np.abs(known).sum())


def stored(folder: Path) -> Stored:
    """Read the distributions that a run of ``water_nvt`` left in its folder."""
    store: Any = zarr.open_group(folder / "data.zarr", mode="r")
    return {
        kind: {name: np.asarray(array) for name, array in store[kind].arrays()}
        for kind in ("rdf", "adf")
    }


def curves(runs: Sequence[Stored]) -> list[Curve]:
    """Return the distributions of runs of ``water_nvt`` beside those of the labels.

    The error of their mean is from the spread of the runs; that of one run is its own.
    """
    made = []
    for kind, axis in (("rdf", "r"), ("adf", "theta")):
        path = SCENARIOS / "data" / f"water_reference_{kind}.csv"
        known = np.genfromtxt(path, delimiter=",", names=True, skip_header=1)
        first = runs[0][kind]
        for species in (n for n in known.dtype.names[1:] if not n.endswith("_error")):
            found = np.array([run[kind][f"liquid_{species}"] for run in runs])
            error = first[f"liquid_{species}_error"]
            if len(runs) > 1:
                error = found.std(0, ddof=1) / len(runs) ** 0.5
            its = known[species], known[f"{species}_error"]
            made.append(Curve(f"{kind} {species}", first[axis], found, error, *its))
    return made


def references(folder: Path) -> None:
    """Write the distributions of the labels, with the errors of their blocks in time."""
    from ase import Atoms

    from scalebridge.engine import runtime, scenario
    from scalebridge.engine.md.angles import AngleDistribution
    from scalebridge.engine.md.observables import RadialDistribution
    from scalebridge.engine.md.structure import from_atoms

    runtime.start("cpu")
    chosen: Any = scenario.load("water_nvt")[0]
    radial, angular = chosen.output.rdf[0], chosen.output.adf[0]
    species = ("H", "O")
    states = [
        from_atoms(Atoms(f.symbols, f.positions, cell=f.cell, pbc=True), species)
        for f in in_time()
    ]
    rdf = RadialDistribution(len(species), radial.r_max, radial.bins)
    pairs = {"".join(species[k] for k in pair): n for n, pair in enumerate(rdf.pairs)}
    remark = f"g(r) of the {len(states)} frames of water published at {SOURCE}"
    path = folder / "water_reference_rdf.csv"
    _write(path, "r", rdf.r.numpy(), pairs, _each(rdf, states), remark)
    adf = AngleDistribution(len(species), angular.reach, angular.bins)
    triples = {"OOO": adf.triples.index((1, 1, 1))}
    remark = (
        f"Angles between oxygen atoms within {angular.reach} angstrom of an oxygen atom, "
        f"per degree: mean of the {len(states)} frames of water published at {SOURCE}"
    )
    path = folder / "water_reference_adf.csv"
    _write(path, "theta", adf.theta.numpy(), triples, _each(adf, states), remark)


def _each(observable: Callable[..., torch.Tensor], states: Sequence[Any]) -> Array:
    """Return an observable of every frame, ``[frames, curves, points]``."""
    return torch.cat([observable(state, {}) for state in states]).numpy()


def _write(
    path: Path, axis: str, x: Array, which: dict[str, int], values: Array, remark: str
) -> None:
    parts = np.array([part.mean(0) for part in np.array_split(values, BLOCKS)])
    error = parts.std(0, ddof=1) / BLOCKS**0.5
    columns = [values.mean(0)[k] for k in which.values()]
    columns += [error[k] for k in which.values()]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {remark}; standard errors from {BLOCKS} blocks in time\n")
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([axis, *which, *(f"{name}_error" for name in which)])
        for place, *row in zip(x, *columns, strict=True):
            rows.writerow([f"{place:g}", *(f"{value:.6g}" for value in row)])


if __name__ == "__main__":
    references(SCENARIOS / "data")
