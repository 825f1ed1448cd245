"""Labelled frames as the arrays that training needs: neighbour slots, batches, assembly."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...md.data import LabelledFrame, as_state
from ...md.neighbours import build_neighbours

COINCIDENT = 1e-3
"""Angstrom; atoms closer than this are a mistake in the file."""

SERIES = {torch.float64: 1e-10, torch.float32: 1e-6}
"""Largest term of a radial series that training leaves out, relative to the largest."""


@dataclass(frozen=True)
class Geometry:
    """Neighbour slots of one frame, grouped by the neighbour's species.

    Attributes:
        displacements: ``[atoms, slots, 3]`` angstrom, f64.
        mask: ``[atoms, slots]``.
        neighbour: ``[atoms, slots]`` int64, atom of the frame; empty slots hold the centre.
        reverse: ``[atoms, slots]`` int64, flat slot that holds the pair seen from the other
            atom; empty slots hold themselves.
        species: ``[atoms]`` int64.
    """

    displacements: Tensor
    mask: Tensor
    neighbour: Tensor
    reverse: Tensor
    species: Tensor


@dataclass(frozen=True)
class Batch:
    """Some frames side by side; shapes as in :class:`Geometry`, one atom axis for all.

    Attributes:
        tables: what the model precomputed, leading axis atoms.
        frame: ``[atoms]`` int64, position in the batch.
        energy: labels ``[frames]``, f64.
        forces: labels ``[atoms, 3]``.
        virial: labels ``[frames, 3, 3]``; one that is not known is NaN.
        counts: ``[frames]`` atoms.
        weight: ``[frames]`` in the loss.
    """

    tables: Mapping[str, Tensor]
    displacements: Tensor
    mask: Tensor
    neighbour: Tensor
    reverse: Tensor
    species: Tensor
    frame: Tensor
    energy: Tensor
    forces: Tensor
    virial: Tensor
    counts: Tensor
    weight: Tensor


@dataclass
class TrainingSet:
    """Labelled frames, their neighbour slots, and what the model precomputes from them."""

    frames: list[LabelledFrame]
    species: tuple[str, ...]
    cutoff: float
    blocks: tuple[int, ...]
    geometry: list[Geometry]
    tables: list[dict[str, Tensor]] = field(default_factory=list)
    dtype: torch.dtype = torch.float32
    weights: list[float] = field(default_factory=list)

    @staticmethod
    def of(
        frames: Sequence[LabelledFrame],
        species: tuple[str, ...],
        cutoff: float,
        dtype: torch.dtype = torch.float32,
    ) -> "TrainingSet":
        """Find the neighbours of all frames.

        Raises:
            InputError: an element that ``species`` lacks, two atoms on one spot, or no
                two atoms within the cutoff.
        """
        blocks, geometry = _geometry(frames, species, cutoff)
        return TrainingSet(list(frames), species, cutoff, blocks, geometry, dtype=dtype)

    def prepare(self, model: torch.nn.Module) -> None:
        """Let the model precompute its tables, frame by frame, in f64."""
        if hasattr(model, "expand"):
            near = [g.displacements[g.mask].norm(dim=1) for g in self.geometry]
            nearest = min((float(d.min()) for d in near if len(d)), default=1.0)
            model.expand(nearest, SERIES[self.dtype])  # type: ignore[operator]
        if hasattr(model, "tables"):
            self.tables = [
                {
                    name: table.to(self.dtype).contiguous()
                    for name, table in model.tables(  # type: ignore[operator]
                        g.displacements, g.mask, self.blocks
                    ).items()
                }
                for g in self.geometry
            ]

    def follow(self, model: torch.nn.Module) -> None:
        """Prepare anew if a radial series has become too short for the model's weights."""
        if hasattr(model, "expansion_error"):
            error = model.expansion_error()  # type: ignore[operator]
            if error > 10 * SERIES[self.dtype]:
                self.prepare(model)

    def counts(self, indices: Sequence[int]) -> Tensor:
        """Return how many atoms of each species the frames hold, ``[frames, species]``."""
        return torch.stack(
            [
                torch.bincount(self.geometry[k].species, minlength=len(self.species))
                for k in indices
            ]
        )

    def energies(self, indices: Sequence[int]) -> Tensor:
        """Return the energies of the frames in eV, f64."""
        return torch.tensor([self.frames[k].energy for k in indices], dtype=torch.float64)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Put frames side by side."""
        chosen = [self.geometry[k] for k in indices]
        frames = [self.frames[k] for k in indices]
        sizes = [len(g.species) for g in chosen]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
        slots = sum(self.blocks)
        names = self.tables[indices[0]] if self.tables else {}
        unknown = np.full((3, 3), np.nan)
        return Batch(
            tables={n: torch.cat([self.tables[k][n] for k in indices]) for n in names},
            displacements=torch.cat([g.displacements for g in chosen]).to(self.dtype),
            mask=torch.cat([g.mask for g in chosen]),
            neighbour=torch.cat(
                [g.neighbour + s for g, s in zip(chosen, starts, strict=True)]
            ),
            reverse=torch.cat(
                [g.reverse + s * slots for g, s in zip(chosen, starts, strict=True)]
            ),
            species=torch.cat([g.species for g in chosen]),
            frame=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
            energy=self.energies(indices),
            forces=torch.cat([torch.from_numpy(f.forces) for f in frames]).to(self.dtype),
            virial=torch.from_numpy(
                np.stack([unknown if f.virial is None else f.virial for f in frames])
            ).to(self.dtype),
            counts=torch.tensor(sizes),
            weight=torch.tensor(
                [self.weights[k] if self.weights else 1.0 for k in indices],
                dtype=self.dtype,
            ),
        )


def block_species(blocks: Sequence[int]) -> Tensor:
    """Return the neighbour species that each slot is reserved for, ``[slots]``."""
    return torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor(list(blocks)))


class _AssembleForces(torch.autograd.Function):
    """``F_i = sum_k (g_ik - g_reverse(ik))``; both ways gather, nothing scatters."""

    @staticmethod
    def forward(ctx, gradients, reverse, neighbour, mask):  # noqa: ANN001, ANN205
        ctx.neighbour, ctx.mask = neighbour, mask
        mirrored = gradients.flatten(1, 2)[:, reverse.reshape(-1)].view_as(gradients)
        return (gradients - mirrored).sum(2)

    @staticmethod
    def backward(ctx, cotangent):  # noqa: ANN001, ANN205
        other = cotangent[:, ctx.neighbour.reshape(-1)].unflatten(1, ctx.neighbour.shape)
        return (cotangent[:, :, None] - other) * ctx.mask[..., None], None, None, None


def assemble_forces(gradients: Tensor, batch: Batch | Geometry) -> Tensor:
    """Turn ``dE_i/dd_ij [members, atoms, slots, 3]`` into forces ``[members, atoms, 3]``.

    ``F_i = sum_j (dE_i/dd_ij - dE_j/dd_ji)``.
    """
    return _AssembleForces.apply(gradients, batch.reverse, batch.neighbour, batch.mask)


def _geometry(
    frames: Sequence[LabelledFrame], species: tuple[str, ...], cutoff: float
) -> tuple[tuple[int, ...], list[Geometry]]:
    """Search all frames at once and sort the neighbours of every atom by species."""
    _refuse_many(frames, cutoff)
    state = as_state(frames, species)
    found = build_neighbours(state, cutoff, 0.0)
    column = torch.arange(found.index.shape[1])
    i, k = (column < found.count[:, None]).nonzero(as_tuple=True)
    j, shift = found.index[i, k].long(), found.shift[i, k].long()
    system = state.system.long()
    d = state.positions[j] - state.positions[i]
    d = d + torch.einsum("pa,pab->pb", shift.double(), state.cell[system[i]])
    near = d.norm(dim=1)
    _refuse_coincidence(frames, system, i, j, near)
    keep = near < cutoff
    i, j, shift, d = i[keep], j[keep], shift[keep], d[keep]
    if not len(i):
        raise InputError(f"data: no two atoms are within the cutoff of {cutoff:g} angstrom")
    kinds, count = state.species.long(), len(species)
    key = i * count + kinds[j]
    order = torch.argsort(key, stable=True)
    i, j, shift, d, key = i[order], j[order], shift[order], d[order], key[order]
    each = torch.bincount(key, minlength=state.atoms * count)
    most = each.reshape(-1, count).amax(0)
    slots = int(most.sum())
    starts = torch.cumsum(most, 0) - most
    rank = torch.arange(len(key)) - (torch.cumsum(each, 0) - each)[key]
    slot = i * slots + starts[kinds[j]] + rank
    size = state.atoms * slots
    displacements = torch.zeros(size, 3, dtype=torch.float64)
    mask = torch.zeros(size, dtype=torch.bool)
    neighbour = torch.arange(state.atoms).repeat_interleave(slots)
    reverse = torch.arange(size)
    displacements[slot], mask[slot], neighbour[slot] = d, True, j
    s = shift.numpy()
    there = np.lexsort((s[:, 2], s[:, 1], s[:, 0], j.numpy(), i.numpy()))
    back = np.lexsort((-s[:, 2], -s[:, 1], -s[:, 0], i.numpy(), j.numpy()))
    reverse[slot[torch.from_numpy(there)]] = slot[torch.from_numpy(back)]
    sizes = state.counts.tolist()
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
    rows = zip(
        displacements.reshape(-1, slots, 3).split(sizes),
        mask.reshape(-1, slots).split(sizes),
        neighbour.reshape(-1, slots).split(sizes),
        reverse.reshape(-1, slots).split(sizes),
        kinds.split(sizes),
        begins,
        strict=True,
    )
    geometry = [Geometry(d, m, n - b, r - b * slots, t) for d, m, n, r, t, b in rows]
    return tuple(most.tolist()), geometry


_MOST_NEIGHBOURS = 5_000
"""Of one atom; a cutoff of 10 angstrom in a dense metal has 400."""


def _refuse_many(frames: Sequence[LabelledFrame], cutoff: float) -> None:
    """Refuse a cutoff within which an atom has more neighbours than are meant.

    Raises:
        InputError: names the frame and the number of neighbours.
    """
    sphere = 4 / 3 * math.pi * cutoff**3
    for frame in frames:
        many = sphere * len(frame.symbols) / frame.volume if frame.periodic.all() else 0
        if many > _MOST_NEIGHBOURS:
            raise InputError(
                f"model.cutoff: within {cutoff:g} angstrom of an atom of {frame.origin} "
                f"are {many:.2g} others; at most {_MOST_NEIGHBOURS} are taken"
            )


def _refuse_coincidence(
    frames: Sequence[LabelledFrame], system: Tensor, i: Tensor, j: Tensor, near: Tensor
) -> None:
    close = (near < COINCIDENT).nonzero()[:, 0]
    if len(close):
        a, b = int(i[close[0]]), int(j[close[0]])
        frame = int(system[a])
        first = int((system < frame).sum())
        raise InputError(
            f"{frames[frame].origin}: atoms {a - first} and {b - first} are on one spot"
        )
