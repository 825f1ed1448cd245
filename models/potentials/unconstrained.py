"""A potential without rotational symmetry: moments in the laboratory frame, as they are.

Translation and permutation are exact, rotation is only learned, from rotated copies of
the data (``augment`` in training), as in unconstrained architectures such as PET
(Pozdnyakov and Ceriotti, NeurIPS 2023, arXiv:2305.19302).
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from ..parts import part
from .deep_potential import DeepPotential, HigherMoments
from .fields import Channels, Degree, Members, Positive, Widths
from .fitting import Fitting


class _LaboratoryMoments(nn.Module):
    """All components of all moments, side by side."""

    def __init__(self, channels: int, lmax: int) -> None:
        super().__init__()
        self.channels, self.lmax = channels, lmax
        self.blocks = tuple(channels * (2 * degree + 1) for degree in range(lmax + 1))

    def forward(self, moments: Tensor) -> Tensor:
        """``[members, atoms, channels, (lmax + 1)^2] -> [members, atoms, features]``."""
        degrees = [2 * degree + 1 for degree in range(self.lmax + 1)]
        return torch.cat([part.flatten(-2) for part in moments.split(degrees, -1)], -1)


@part
class Unconstrained:
    """A network without rotational symmetry; it is trained on rotated frames."""

    invariant: ClassVar[bool] = False
    """Whether the energy is invariant under rotations; otherwise training rotates."""
    species: tuple[str, ...] = ()
    """Chemical symbols; those of the data by default."""
    cutoff: Positive = 5.0
    """Interaction range in angstrom."""
    switch_start: Positive = 0.5
    """Distance at which the switch begins to fall, angstrom."""
    basis: Annotated[int, Interval(ge=2, le=64)] = 10
    """Chebyshev polynomials."""
    channels: Channels = 8
    """Radial functions."""
    lmax: Degree = 3
    """Highest angular degree."""
    fitting: Widths = (128, 128)
    """Widths of the hidden layers."""
    members: Members = 1
    """Size of the committee."""
    kind: Literal["unconstrained"] = "unconstrained"

    def build(self, seed: int = 0) -> "UnconstrainedPotential":
        """Return an untrained potential."""
        return UnconstrainedPotential(self).reset(seed)


class UnconstrainedPotential(nn.Module):
    """A network on the moments themselves instead of on their invariants."""

    def __init__(self, config: Unconstrained) -> None:
        super().__init__()
        self.config, self.members = config, config.members
        self.species, self.cutoff = tuple(config.species), config.cutoff
        form = HigherMoments(
            species=config.species,
            cutoff=config.cutoff,
            switch_start=config.switch_start,
            basis=config.basis,
            channels=config.channels,
            axis=1,
            lmax=config.lmax,
            products=0,
            fitting=config.fitting,
            members=config.members,
        )
        self.core = DeepPotential(form, form.lmax)
        self.core.contraction = _LaboratoryMoments(config.channels, config.lmax)
        self.core.fitting = Fitting(
            config.members,
            len(self.species),
            self.core.contraction.blocks,
            config.fitting,
            skip=0.7,
            timestep=0.7,
        )

    @property
    def fitting(self) -> Fitting:
        """The network."""
        return self.core.fitting

    def reset(self, seed: int) -> "UnconstrainedPotential":
        """Draw all parameters."""
        self.core.reset(seed)
        return self

    def forward(
        self,
        displacements: Tensor,
        neighbour_species: Tensor,
        mask: Tensor,
        species: Tensor,
    ) -> Tensor:
        """Return ``[members, atoms]`` eV; arguments as in ``DeepPotential.forward``."""
        return self.core(displacements, neighbour_species, mask, species)

    def set_statistics(
        self, displacements: Tensor, mask: Tensor, blocks: Sequence[int], species: Tensor
    ) -> None:
        """Set the scales from a sample of environments."""
        self.core.set_statistics(displacements, mask, blocks, species)


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """Return rotations ``[count, 3, 3]``, uniform over SO(3), from unit quaternions."""
    q = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    w, x, y, z = torch.nn.functional.normalize(q, dim=1).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


__all__ = [
    "Unconstrained",
    "UnconstrainedPotential",
    "random_rotations",
]
