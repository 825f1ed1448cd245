"""Periodic cells of several shapes: one crystal, many ways to write it.

The energy of a crystal does not depend on which lattice vectors describe it, on the image
at which an atom is written, or on how often the cell is repeated; and the force is the
gradient of the energy also where a pair lies across a face.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...models.potentials.unconstrained import random_rotations
from ..comparison import rank, worst
from ..runtime import generator
from .findings import Finding, at_most, not_measured
from .samples import Evaluation, Sample, Subject, force_scale

LARGEST = 512
"""Atoms of the largest cell."""

SHEAR = torch.tensor([[1, 0, 0], [1, 1, 0], [-1, 1, 1]], dtype=torch.float64)
"""A unimodular change of lattice vectors: the same lattice, far from right angles."""

GRADIENT = 1e-5
"""Relative error of a force that passes, where the arithmetic resolves it."""

COARSE = 3e-4
"""Rounding above which an error of a thousandth of a force cannot be seen."""


def rewritten(sample: Sample, basis: Tensor, seed: int) -> Sample:
    """Return the same crystal by other lattice vectors, atoms at random images.

    Args:
        sample: a periodic structure.
        basis: ``[3, 3]`` whole numbers of determinant one.
        seed: of the images.
    """
    rng = generator(seed, 22)
    images = torch.randint(-1, 2, (sample.atoms, 3), generator=rng).double()
    return sample.at(sample.positions + images @ sample.cell, basis @ sample.cell)


def turned(sample: Sample, seed: int) -> tuple[Sample, Tensor]:
    """Return the sample rotated at random with its cell, and the rotation ``[3, 3]``."""
    turn = random_rotations(1, generator(seed, 22))[0]
    return sample.at(sample.positions @ turn.mT, sample.cell @ turn.mT), turn


def _gap(found: Evaluation, energy: Tensor, forces: Tensor, scale: float) -> float:
    """Return the largest error of energy and forces over their typical changes."""
    size = scale * math.sqrt(forces.shape[0])
    return worst(
        [
            float((found.energy[0] - energy).abs()) / size,
            float((found.forces[0] - forces).abs().max()) / scale,
        ]
    )


def lattice_vectors(subject: Subject) -> Finding:
    """One crystal by oblique lattice vectors, at other images, and turned with its cell."""
    bulk, name = subject.bulk, "lattice vectors"
    if not bulk.periodic:
        return not_measured(name, "the structure is not periodic", subject.exact)
    values = []
    for sample in (bulk, subject.small):
        here = subject.ask(sample, sample.positions[None])
        scale = force_scale(here)
        for seed in range(3):
            basis = (torch.eye(3).double(), SHEAR, SHEAR.mT.contiguous())[seed]
            oblique, turn = turned(rewritten(sample, basis, seed), seed)
            found = subject.ask(oblique, oblique.positions[None])
            values.append(_gap(found, here.energy[0], here.forces[0] @ turn.mT, scale))
    detail = "oblique vectors, other images, a turned cell; the whole and its smallest cell"
    return at_most(name, worst(values), subject.exact, detail=detail)


def repetition(subject: Subject) -> Finding:
    """Forces stay and the energy multiplies when a cell is repeated, up to 512 atoms."""
    bulk, name = subject.bulk, "repeated cells"
    if not bulk.periodic:
        return not_measured(name, "the structure is not periodic", subject.exact)
    values, sizes = [], []
    for sample, times in _repeats(subject):
        here = subject.ask(sample, sample.positions[None])
        large = sample.repeated(times)
        found, count = subject.ask(large, large.positions[None]), math.prod(times)
        forces = here.forces[0].repeat(count, 1)
        values.append(_gap(found, count * here.energy[0], forces, force_scale(here)))
        sizes.append(str(large.atoms))
    detail = f"repeated to {', '.join(sizes)} atoms, also along one axis alone"
    return at_most(name, worst(values), subject.exact, detail=detail)


def _repeats(subject: Subject) -> Iterator[tuple[Sample, tuple[int, int, int]]]:
    small, bulk = subject.small, subject.bulk
    for sample, times in (
        (small, (2, 2, 2)), (small, (5, 1, 1)), (small, (1, 1, 4)), (bulk, (2, 1, 1)),
        (bulk, (2, 2, 2)), (bulk, (3, 2, 1)),
    ):  # fmt: skip
        if sample.atoms * math.prod(times) <= LARGEST:
            yield sample, times


def faces(subject: Subject, directions: int = 6) -> Finding:
    """``F . v = -dE/dv`` in cells of several shapes, for all atoms and for those at faces.

    Central differences at h, h/2 and h/4, extrapolated twice; what the last extrapolation
    changes and what rounding makes of the differences is allowed besides.
    """
    bulk, name = subject.bulk, "force = -gradient in periodic cells"
    if not bulk.periodic:
        return not_measured(name, "the structure is not periodic", GRADIENT)
    found = []
    for seed, (shape, sample) in enumerate(_shapes(subject)):
        error, allowed = _slopes(subject, sample, directions, seed)
        found.append((error / max(allowed, GRADIENT), error, allowed, shape))
    if all(allowed > COARSE for _, _, allowed, _ in found):
        least = min(allowed for _, _, allowed, _ in found)
        return not_measured(name, f"rounding alone makes {least:.0e}", GRADIENT)
    ratio = worst(ratio for ratio, *_ in found)
    most = max(found, key=lambda row: rank(row[0]))
    detail = f"worst in the {most[3]} cell; rounding and truncation {most[2]:.0e} allowed"
    value = most[1] if not math.isnan(ratio) else math.nan
    return at_most(name, value, max(most[2], GRADIENT), detail=detail)


def _shapes(subject: Subject) -> Iterator[tuple[str, Sample]]:
    bulk, small = subject.bulk, subject.small
    yield "given", bulk
    yield "oblique", turned(rewritten(bulk, SHEAR, 4), 4)[0]
    yield "smallest", small.shaken(0.02, 5) if small.atoms > 1 else small
    longer = small.repeated((4, 1, 1))
    if longer.atoms <= LARGEST:
        yield "elongated", rewritten(longer.shaken(0.02, 6), SHEAR, 6)


def _slopes(
    subject: Subject, sample: Sample, directions: int, seed: int
) -> tuple[float, float]:
    """Return the worst relative error of the force along directions, and what to allow."""
    rng = generator(100 + seed, 22)
    shape = (directions, sample.atoms, 3)
    v = torch.randn(shape, generator=rng, dtype=torch.float64)
    v[directions // 2 :] *= _at_faces(sample)[:, None]
    here = subject.ask(sample, sample.positions[None])
    scale = force_scale(here) * v.square().sum((1, 2)).sqrt()
    power = (here.forces * v).sum((1, 2))
    part = 40 if subject.single else 160
    error, truncation, rounding = _differences(subject, sample, v, power, scale, part)
    while error > max(truncation, rounding, GRADIENT) and 64 * rounding < GRADIENT:
        # a kink of the force between two points spoils them, and none that lie closer; what
        # is no gradient is none at any distance
        part *= 8
        error, truncation, rounding = _differences(subject, sample, v, power, scale, part)
    return error, worst([rounding, truncation])


def _differences(
    subject: Subject, sample: Sample, v: Tensor, power: Tensor, scale: Tensor, part: float
) -> tuple[float, float, float]:
    """Return error, truncation and rounding of central differences along ``v``.

    Args:
        subject: the potential.
        sample: where.
        v: directions ``[directions, atoms, 3]``.
        power: ``F . v``.
        scale: what the errors are divided by.
        part: of the nearest neighbours' distance that the largest step is.
    """
    h = subject.nearest / part * 0.5 ** torch.arange(3, dtype=torch.float64)
    reach = h[:, None, None, None] * v
    moves = torch.stack([sample.positions + reach, sample.positions - reach])
    energy = subject.ask(sample, moves.flatten(0, 2)).energy.view(2, 3, len(v))
    raw = (energy[0] - energy[1]) / (2 * h[:, None])
    first = (4 * raw[1:] - raw[:-1]) / 3
    slope = (16 * first[1] - first[0]) / 15
    error = (slope + power).abs() / scale
    truncation = float(((first[1] - slope).abs() / scale).max())
    rounding = 20 * subject.noise.energy(sample.atoms) / (float(h[-1]) * float(scale.min()))
    return float(error.max()), truncation, rounding


def _at_faces(sample: Sample) -> Tensor:
    """Return 1 for the half of the atoms that lie nearest to a face, else 0."""
    part = sample.positions @ torch.linalg.inv(sample.cell)
    heights = 1 / torch.linalg.inv(sample.cell).norm(dim=0)
    distance = ((part - part.round()).abs() * heights).amin(1)
    return (distance <= distance.median()).double()


__all__ = ["faces", "lattice_vectors", "repetition", "rewritten", "turned"]
