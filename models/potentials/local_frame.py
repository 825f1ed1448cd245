"""The Deep Potential of 2018: coordinates in a local frame, neighbours sorted by distance.

L. Zhang, J. Han, H. Wang, R. Car and W. E, Phys. Rev. Lett. 120, 143001 (2018). Around
every atom the frame is

    e1 = d_a / |d_a|,   e2 = (d_b - (d_b . e1) e1) / |...|,   e3 = e1 x e2

with a and b the two nearest neighbours (b moves on while it is collinear with a). The
nearest ``angular`` neighbours of each species give ``(1/r, x/r^2, y/r^2, z/r^2)`` in that
frame, the next ``radial`` ones ``1/r``. The gradient of the frame is part of the force, so
the energy is the exact integral of its forces *between* the places where it jumps: where
neighbours change order, where a or b changes, and at the cutoff, for there is no switch.

It is kept as a negative control: its energy is not conserved, and the audits must see it.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..parts import part
from .fields import Counts, Members, Positive, Widths
from .fitting import Fitting

COLLINEAR = 0.05
"""A second axis whose sine with the first is below this is skipped."""


@part
class LocalFrame:
    """The Deep Potential of 2018: discontinuous, kept as a negative control."""

    species: tuple[str, ...] = ()
    """Chemical symbols; those of the data by default."""
    cutoff: Positive = 6.0
    """Interaction range in angstrom."""
    angular: Counts = (16,)
    """Sorted neighbours with coordinates: one number, or one for each species."""
    radial: Counts = (30,)
    """Further neighbours with their distance alone: one number, or one for each species."""
    fitting: Widths = (120, 60, 30)
    """Widths of the hidden layers."""
    members: Members = 1
    """Size of the committee."""
    kind: Literal["local_frame"] = "local_frame"

    def __post_init__(self) -> None:
        """Refuse counts that do not belong to the species.

        Raises:
            ValueError: neither one count nor one for each species.
        """
        for key, counts in (("angular", self.angular), ("radial", self.radial)):
            if self.species and len(counts) not in (1, len(self.species)):
                raise ValueError(
                    f"{key}: {len(counts)} numbers for {len(self.species)} species "
                    f"({', '.join(self.species)}); allowed: one, or one for each"
                )

    @property
    def counts(self) -> list[tuple[int, int]]:
        """``angular`` and ``radial`` of each species."""
        each = (
            v * len(self.species) if len(v) == 1 else v for v in (self.angular, self.radial)
        )
        return list(zip(*each, strict=True))

    def build(self, seed: int = 0) -> "LocalFramePotential":
        """Return an untrained potential."""
        return LocalFramePotential(self).reset(seed)


class LocalFramePotential(nn.Module):
    """Energy of every atom from its sorted neighbours in its local frame."""

    def __init__(self, config: LocalFrame) -> None:
        super().__init__()
        self.config, self.members = config, config.members
        self.species, self.cutoff = tuple(config.species), config.cutoff
        blocks: list[int] = []
        for angular, radial in config.counts:
            blocks += [angular, 3 * angular, radial]
        self.fitting = Fitting(
            config.members,
            len(self.species),
            [size for size in blocks if size],
            config.fitting,
            skip=1.0,
            timestep=0.1,
        )

    def reset(self, seed: int) -> "LocalFramePotential":
        """Draw all parameters."""
        self.fitting.reset(torch.Generator().manual_seed(seed))
        return self

    def forward(
        self,
        displacements: Tensor,
        neighbour_species: Tensor,
        mask: Tensor,
        species: Tensor,
    ) -> Tensor:
        """Return ``[members, atoms]`` eV; arguments as in ``DeepPotential.forward``."""
        features = self.features(displacements, neighbour_species, mask)
        return self.fitting(features.expand(self.members, *features.shape), species)

    def features(
        self, displacements: Tensor, neighbour_species: Tensor, mask: Tensor
    ) -> Tensor:
        """Return ``[atoms, features]``."""
        outside = displacements.new_tensor([self.cutoff + 1.0, 0.0, 0.0])
        # One more, empty slot, so that an atom without neighbours has a nearest one too.
        displacements = torch.nn.functional.pad(displacements, (0, 0, 0, 1))
        neighbour_species = torch.nn.functional.pad(neighbour_species, (0, 1))
        mask = torch.nn.functional.pad(mask, (0, 1))
        safe = torch.where(mask[..., None], displacements, outside)
        distance = safe.norm(dim=-1)
        inside = mask & (distance < self.cutoff)
        frame = local_frames(safe, distance, inside)
        local = (safe @ frame.mT) / distance[..., None].square()
        parts = []
        for index, (angular, radial) in enumerate(self.config.counts):
            near = _nearest(
                distance, inside & (neighbour_species == index), angular + radial
            )
            present = (near >= 0).to(distance)
            slot = near.clamp(min=0)
            inverse = present / distance.gather(1, slot)
            vectors = local.gather(1, slot[:, :angular, None].expand(-1, -1, 3))
            vectors = vectors * present[:, :angular, None]
            parts += [inverse[:, :angular], vectors.flatten(1), inverse[:, angular:]]
        return torch.cat(parts, 1)

    @torch.no_grad()
    def set_statistics(
        self, displacements: Tensor, mask: Tensor, blocks: Sequence[int], species: Tensor
    ) -> None:
        """Set mean and width of the features from a sample of environments."""
        kinds = torch.repeat_interleave(
            torch.arange(len(blocks)), torch.tensor(list(blocks))
        )
        features = self.features(displacements, kinds.expand(mask.shape), mask)
        self.fitting.set_statistics(features.expand(self.members, *features.shape), species)


def local_frames(displacements: Tensor, distance: Tensor, inside: Tensor) -> Tensor:
    """Return the frames ``[atoms, 3, 3]``, axes in rows; the identity without neighbours.

    Args:
        displacements: ``[atoms, slots, 3]``, none of them zero.
        distance: ``[atoms, slots]``.
        inside: ``[atoms, slots]``, which slots count.
    """
    far = torch.where(inside, distance, torch.inf)
    first = far.argmin(1)
    one = _unit(_pick(displacements, first))
    along = (displacements * one[:, None]).sum(-1)
    across = displacements - along[..., None] * one[:, None]
    sine = across.detach().square().sum(-1).sqrt() / distance.detach()
    usable = inside & (sine > COLLINEAR)
    second = torch.where(usable, distance, torch.inf).argmin(1)
    # Without a usable second neighbour any fixed direction across the first axis serves.
    spare = torch.eye(3, dtype=one.dtype, device=one.device)[one.detach().abs().argmin(1)]
    spare = spare - (spare * one).sum(-1, keepdim=True) * one
    found = usable.any(1, keepdim=True)
    two = _unit(torch.where(found, _pick(across, second), spare))
    frame = torch.stack([one, two, torch.linalg.cross(one, two)], 1)
    lonely = ~inside.any(1)[:, None, None]
    return torch.where(lonely, torch.eye(3, dtype=one.dtype, device=one.device), frame)


def _pick(vectors: Tensor, slot: Tensor) -> Tensor:
    return vectors.gather(1, slot[:, None, None].expand(-1, 1, 3))[:, 0]


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _nearest(distance: Tensor, chosen: Tensor, count: int) -> Tensor:
    """Return the slots of the nearest chosen neighbours ``[atoms, count]``, else -1."""
    far = torch.where(chosen, distance.detach(), torch.inf)
    if far.shape[1] < count:
        extra = far.new_full((far.shape[0], count - far.shape[1]), torch.inf)
        far = torch.cat([far, extra], 1)
    values, slots = far.sort(dim=1, stable=True)
    return torch.where(torch.isfinite(values[:, :count]), slots[:, :count], -1)


__all__ = ["LocalFrame", "LocalFramePotential", "local_frames"]
