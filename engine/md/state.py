"""The state of molecular dynamics: particles of many independent systems in one array."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ParticleState:
    """Everything that evolves; a batch of systems, atoms of one system contiguous.

    Units: eV, angstrom, amu, kelvin; time in angstrom sqrt(amu / eV) (or reduced units
    where a scenario says ``lj``). Real tensors share one dtype; indices are int32.

    Attributes:
        positions: ``[atoms, 3]`` not wrapped into the cell.
        momenta: ``[atoms, 3]``.
        masses: ``[atoms]``.
        species: ``[atoms]`` int32, index into the world's list of chemical symbols.
        system: ``[atoms]`` int32, sorted; the system that an atom belongs to.
        cell: ``[systems, 3, 3]``, lattice vectors in rows.
        periodic: ``[systems, 3]`` bool.
        energy: ``[systems]`` potential energy.
        forces: ``[atoms, 3]``.
        virial: ``[systems, 3, 3]``, ``W = -dE/dstrain = sum over pairs of r (x) f``;
            a positive trace pushes outwards.
        anchor: ``[atoms, 3]`` positions at which the neighbour list was built. The list is
            a pure function of the anchor, so a restored state continues bit for bit.
        anchor_cell: ``[systems, 3, 3]`` cell at which it was built.
        step: ``[systems]`` int64, number of steps made; with ``seed`` it keys all noise.
        seed: ``[systems]`` int64; a replica has the same noise alone and in a batch.
        thermostat: named extra variables of the integrator (chain positions and momenta,
            work done by the bath ...), leading axis ``systems``.
        deviation: ``[atoms]`` committee deviation of the force in eV/angstrom; empty
            without a committee.
    """

    positions: Tensor
    momenta: Tensor
    masses: Tensor
    species: Tensor
    system: Tensor
    cell: Tensor
    periodic: Tensor
    energy: Tensor
    forces: Tensor
    virial: Tensor
    anchor: Tensor
    anchor_cell: Tensor
    step: Tensor
    seed: Tensor
    thermostat: dict[str, Tensor] = field(default_factory=dict)
    deviation: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def atoms(self) -> int:
        """Number of atoms of all systems."""
        return self.positions.shape[0]

    @property
    def systems(self) -> int:
        """Number of independent systems."""
        return self.cell.shape[0]

    @property
    def counts(self) -> Tensor:
        """Number of atoms of each system, ``[systems]`` int64."""
        systems = torch.arange(self.systems + 1, dtype=torch.int32, device=self.cell.device)
        return torch.searchsorted(self.system, systems).diff()

    def sum_atoms(self, values: Tensor) -> Tensor:
        """Sum ``values [atoms, ...]`` over each system -> ``[systems, ...]``.

        Each system is summed by itself, so a replica in a batch equals the replica alone.
        """
        if values.is_cuda:  # the host would wait for the counts
            return torch.segment_reduce(values, "sum", lengths=self.counts, axis=0)
        ends = torch.cumsum(self.counts, 0).tolist()
        starts = [0, *ends[:-1]]
        return torch.stack([values[a:b].sum(0) for a, b in zip(starts, ends, strict=True)])


@dataclass(frozen=True)
class Interaction:
    """What a potential returns; shapes and units as in :class:`ParticleState`."""

    energy: Tensor
    forces: Tensor
    virial: Tensor
    deviation: Tensor = field(default_factory=lambda: torch.empty(0))


def concatenate(states: Sequence[ParticleState]) -> ParticleState:
    """Join systems into one batch."""
    offset, systems = 0, []
    for state in states:
        systems.append(state.system + offset)
        offset += state.systems
    names = [
        name
        for name in ParticleState.__dataclass_fields__
        if name not in ("system", "thermostat")
    ]
    joined = {name: torch.cat([getattr(s, name) for s in states]) for name in names}
    thermostat = {
        key: torch.cat([s.thermostat[key] for s in states]) for key in states[0].thermostat
    }
    return ParticleState(**joined, system=torch.cat(systems), thermostat=thermostat)


__all__ = ["Interaction", "ParticleState", "concatenate", "replace"]
