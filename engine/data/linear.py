"""A linear many-body model of energy, forces and virial, against which labels are held.

Per atom i the model has

    E_i = sum_k c_k B_k,  B = (sum_j phi_n(r_ij), sum_m A_nlm A_n'lm),
    A_nlm = sum_j w_j phi_n(r_ij) Y_lm(r_ij)

(Drautz, Phys. Rev. B 99, 014104 (2019)), so forces and virial are linear in c as well.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .frames import LabelledFrame, pairs

REACH = 5.0
"""Angstrom; range of the model."""

LARGEST = 400
"""Atoms of the largest frame that the model is tried on."""

_PAIR, _RADIAL, _NEAREST = 12, 3, 0.7
"""Radial functions of pairs and of densities; angstrom of the innermost one."""

_SPOT = 0.05
"""Angstrom; atoms nearer than this have no direction between them."""

_WIDER = 10.0
"""By which the variances of coefficients are taken larger than independent residuals make
them: those of a model that is not exact are not independent."""

_ROUNDING = 1e-24
"""Part of the largest squares below which those of a feature are rounding, as of forces
between an atom and its own images."""

_CHUNK = 20_000
"""Pairs whose terms are held at a time."""


def _radial(r: Tensor, count: int) -> Tensor:
    """Smooth functions ``[pairs, count]`` that end at :data:`REACH`, dense at short r.

    Bonds differ by hundredths of an angstrom, second neighbours by tenths: the functions
    are equidistant in the root of r.
    """
    x = (r / REACH).clamp(max=1.0)
    centres = torch.linspace(math.sqrt(_NEAREST / REACH), 1.0, count, dtype=r.dtype)
    apart = (x.sqrt()[:, None] - centres) / (centres[1] - centres[0])
    return (1 - x)[:, None] ** 2 * torch.exp(-0.5 * apart**2)


def _harmonics(u: Tensor) -> list[Tensor]:
    """Cartesian harmonics of unit vectors for l = 0 to 3, each ``[pairs, m]``."""
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
    return [torch.ones_like(x)[:, None], first, second, third]


def _terms(d: Tensor) -> tuple[Tensor, ...]:
    """Of pairs ``[pairs, 3]``: phi_n ``[pairs, n]``, and phi_n Y_lm ``[pairs, n, m]``."""
    r = d.norm(dim=-1)
    phi = _radial(r, _RADIAL)[:, :, None]
    return _radial(r, _PAIR), *(phi * y[:, None] for y in _harmonics(d / r[:, None]))


def _slopes(d: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the terms, and their derivatives by the displacement in one more axis.

    Each displacement has terms of its own, so three directions give every derivative.
    """
    found = [
        torch.func.jvp(_terms, (d,), (axis.expand_as(d),))
        for axis in torch.eye(3, dtype=d.dtype)
    ]
    slopes = zip(*(each[1] for each in found), strict=True)
    return list(found[0][0]), [torch.stack(parts, -1) for parts in slopes]


@dataclass(frozen=True)
class Row:
    """Energy, forces ``[atoms, 3]`` and virial ``[3, 3]`` of every feature, last axis.

    The last features count the atoms of each species.
    """

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


def rows(frames: Sequence[LabelledFrame], species: Sequence[str]) -> list[Row]:
    """Return the features of frames."""
    found = []
    for chunk in _chunks([_Neighbours.of(frame, species) for frame in frames]):
        d = torch.cat([each.d for each in chunk])
        terms, slopes = _slopes(d) if len(d) else _slopes(torch.ones(1, 3).double())
        start = 0
        for each in chunk:
            part = slice(start, start + len(each.d))
            start = part.stop
            found.append(_row(each, [t[part] for t in terms], [s[part] for s in slopes]))
    return found


def of_pairs(row: Row, species: int) -> Row:
    """Return the features of pairs, and counts, alone: a tenth, which fewer labels tell."""
    pairs = _PAIR * species * (species + 1) // 2
    kept = [*range(pairs), *range(-species, 0)]
    return Row(row.energy[kept], row.forces[..., kept], row.virial[..., kept])


@dataclass(frozen=True)
class _Neighbours:
    """Species of a frame's atoms, and its pairs with their displacements."""

    kinds: Tensor
    species: int
    i: Tensor
    j: Tensor
    d: Tensor

    @classmethod
    def of(cls, frame: LabelledFrame, species: Sequence[str]) -> "_Neighbours":
        i, j, d = pairs(frame, REACH)
        apart = np.linalg.norm(d, axis=1) > _SPOT
        i, j, d = i[apart], j[apart], d[apart]
        kinds = torch.tensor([species.index(symbol) for symbol in frame.symbols])
        first, second = torch.from_numpy(i), torch.from_numpy(j)
        return cls(kinds, len(species), first, second, torch.from_numpy(d).double())


def energies(frames: Sequence[LabelledFrame], species: Sequence[str]) -> np.ndarray:
    """Return the features of energies alone, ``[frames, features]``."""
    found = []
    for frame in frames:
        near = _Neighbours.of(frame, species)
        d = near.d if len(near.d) else torch.ones(1, 3).double()
        terms = [term[: len(near.d)] for term in _terms(d)]
        found.append(_energy(near, terms))
    return np.stack(found)


def _energy(near: _Neighbours, terms: Sequence[Tensor]) -> np.ndarray:
    pairs, kinds = _blocks(near)
    parts = [_summed(terms[0], pairs, kinds).flatten()]
    weights = _weights(near)
    for term in terms[1:]:
        each = (weights[:, :, None, None] * term[:, None]).flatten(1, 2)
        a = each.new_zeros(len(near.kinds), *each.shape[1:]).index_add(0, near.i, each)
        upper = torch.triu_indices(a.shape[1], a.shape[1])
        value = torch.einsum("inm,ikm->ink", a, a)[:, upper[0], upper[1]]
        parts.append(_summed(value, near.kinds, near.species).flatten())
    counts = torch.bincount(near.kinds, minlength=near.species).double()
    return torch.cat([*parts, counts]).numpy()


def _summed(value: Tensor, block: Tensor, blocks: int) -> Tensor:
    """Sum features ``[rows, n]`` block by block."""
    return value.new_zeros(blocks, value.shape[1]).index_add(0, block, value)


def _chunks(every: Sequence[_Neighbours]) -> Iterator[list[_Neighbours]]:
    chunk: list[_Neighbours] = []
    for each in every:
        if chunk and sum(len(x.d) for x in chunk) + len(each.d) > _CHUNK:
            yield chunk
            chunk = []
        chunk.append(each)
    if chunk:
        yield chunk


def _blocks(near: _Neighbours) -> tuple[Tensor, int]:
    """Return one block of radial functions for each unordered pair of species."""
    here, there = near.kinds[near.i], near.kinds[near.j]
    low, high = torch.minimum(here, there), torch.maximum(here, there)
    return high * (high + 1) // 2 + low, near.species * (near.species + 1) // 2


def _weights(near: _Neighbours) -> Tensor:
    """Return ``[pairs, 1 or 2]``: one density counts neighbours, one weighs species."""
    species = near.species
    every = [torch.ones(species).double(), torch.linspace(-1, 1, species).double()]
    return torch.stack(every)[: min(species, 2)].T[near.kinds[near.j]]


def _row(near: _Neighbours, terms: Sequence[Tensor], slopes: Sequence[Tensor]) -> Row:
    species, atoms, here = near.species, len(near.kinds), near.kinds[near.i]
    blocks = [_block(near, terms[0], slopes[0], *_blocks(near))]
    weights = _weights(near)
    count = _RADIAL * weights.shape[1]
    upper = torch.triu_indices(count, count)
    for term, slope in zip(terms[1:], slopes[1:], strict=True):
        each = (weights[:, :, None, None] * term[:, None]).flatten(1, 2)
        change = (weights[:, :, None, None, None] * slope[:, None]).flatten(1, 2)
        a = each.new_zeros(atoms, *each.shape[1:]).index_add(0, near.i, each)[near.i]
        value = torch.einsum("pnm,pkm->pnk", a, each)[:, upper[0], upper[1]]
        power = torch.einsum("pnm,pkmx->pnkx", a, change)
        power = (power + power.transpose(1, 2))[:, upper[0], upper[1]]
        blocks.append(_block(near, value, power, here, species))
    counts = torch.bincount(near.kinds, minlength=species).double()
    blocks.append(
        Row(counts.numpy(), np.zeros((atoms, 3, species)), np.zeros((3, 3, species)))
    )
    return Row(
        *(np.concatenate([getattr(block, name) for block in blocks], -1)
          for name in ("energy", "forces", "virial"))
    )  # fmt: skip


def _block(
    near: _Neighbours, value: Tensor, slope: Tensor, block: Tensor, blocks: int
) -> Row:
    """Sum features ``[pairs, n]`` and slopes ``[pairs, n, 3]`` of pairs, block by block."""
    n, atoms = value.shape[1], len(near.kinds)
    energy = _summed(value, block, blocks)
    forces = value.new_zeros(atoms * blocks, n, 3)
    forces.index_add_(0, near.i * blocks + block, slope)
    forces.index_add_(0, near.j * blocks + block, -slope)
    virial = value.new_zeros(blocks, n, 3, 3)
    virial.index_add_(0, block, -torch.einsum("pna,pb->pnab", slope, near.d))
    return Row(
        energy.flatten().numpy(),
        forces.reshape(atoms, blocks * n, 3).permute(0, 2, 1).numpy(),
        virial.reshape(-1, 3, 3).permute(1, 2, 0).numpy(),
    )


@dataclass(frozen=True)
class Fit:
    """A ridge regression.

    Attributes:
        coefficients: of the features.
        covariance: of the coefficients.
        missed: of every part, the squares that a fit to the other half of the parts misses.
        size: the squares of every part.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    missed: Mapping[int, float]
    size: Mapping[int, float]

    def explained(self, parts: Sequence[int]) -> float:
        """Return which part of the squares of some parts is told by the others."""
        missed, size = (sum(x[k] for k in parts) for x in (self.missed, self.size))
        return 1 - missed / max(size, 1e-30)


def fit(data: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> Fit:
    """Fit parts ``(a [rows, features], b [rows])``; two halves choose the ridge."""
    squares = np.sum([np.square(a).sum(0) for a, _ in data.values()], 0)
    told = squares > _ROUNDING * squares.max()
    scale = 1 / np.sqrt(
        np.where(told, squares, np.median(squares[told]) if told.any() else 1)
    )
    parts = {k: (a * (scale * told), b) for k, (a, b) in data.items()}
    halves = [list(parts)[::2], list(parts)[1::2]]
    none = np.zeros((len(scale), len(scale))), np.zeros(len(scale))
    sums = [
        [sum((parts[k][0].T @ parts[k][n] for k in half), none[n]) for n in (0, 1)]
        for half in halves
    ]
    tried = []
    for ridge in (1e-8, 1e-6, 1e-4, 1e-3, 1e-2):
        missed = {}
        for (gram, side), half in zip(sums, halves[::-1], strict=True):
            c = np.linalg.solve(gram + ridge * np.eye(len(scale)), side)
            missed |= {
                k: float(np.square(parts[k][0] @ c - parts[k][1]).sum()) for k in half
            }
        tried.append((sum(missed.values()), ridge, missed))
    total, ridge, missed = min(tried, key=lambda each: each[0])
    values, vectors = np.linalg.eigh(sums[0][0] + sums[1][0])
    values = np.maximum(values, 0.0)
    c = vectors @ (vectors.T @ (sums[0][1] + sums[1][1]) / (values + ridge))
    variance = max(_WIDER * total / sum(len(b) for _, b in parts.values()), 1e-300)
    # where the data say nothing, coefficients may be as large as the largest
    prior = max(variance / ridge, 10 * np.square(c).max())
    covariance = (vectors / (values / variance + 1 / prior)) @ vectors.T
    size = {k: float(b @ b) for k, (_, b) in parts.items()}
    return Fit(c * scale, covariance * scale[:, None] * scale, missed, size)


__all__ = ["LARGEST", "REACH", "Fit", "Row", "energies", "fit", "of_pairs", "rows"]
