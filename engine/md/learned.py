"""A learned potential, or a committee of them, as a potential of molecular dynamics."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models import card as cards
from ..errors import DamagedFileError, InputError
from ..runtime import dtype_of, own_defaults
from .neighbours import Neighbours
from .state import Interaction, ParticleState

PAIRS_AT_ONCE = 200_000
"""Neighbour slots that are evaluated in one piece; bounds the memory of big systems."""


@dataclass(frozen=True)
class LearnedPotential:
    """Energy, forces and virial of a module of ``models.potentials``.

    ``F_i = sum_j (g_ij - g_ji)`` and ``W = -sum_ij d_ij (x) g_ij`` with the pair
    derivative ``g_ij = dE_i / dd_ij`` from automatic differentiation. Of a committee,
    energy, forces and virial are means over the members, and
    ``deviation_i = sqrt(<|F_i - <F_i>|^2>)``.

    Attributes:
        module: ``(displacements, neighbour species, mask, species) -> [members, atoms]``.
        deviation_factor: ``rms |dF| / rms deviation`` on frames that were held out; members
            that saw the same data agree more with each other than with the truth, so the
            expected error of a force is this times its deviation. NaN if never measured.
    """

    module: Any
    deviation_factor: float = math.nan

    @property
    def cutoff(self) -> float:
        """Interaction range in angstrom."""
        return self.module.cutoff

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that the module knows."""
        return tuple(self.module.species)

    @property
    def members(self) -> int:
        """Size of the committee."""
        return self.module.members

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Evaluate; differentiable in the positions if they require a gradient."""
        energy, forces, virial = self.by_member(state, neighbours)
        mean = forces.mean(0)
        deviation = torch.empty(0, dtype=mean.dtype, device=mean.device)
        if self.members > 1:
            deviation = (forces - mean).square().sum(-1).mean(0).sqrt()
        to = state.positions.dtype
        return Interaction(
            energy.mean(0).to(to), mean.to(to), virial.mean(0).to(to), deviation.to(to)
        )

    def by_member(
        self, state: ParticleState, neighbours: Neighbours
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return energies ``[members, systems]``, forces and virials of every member."""
        keep = state.positions.requires_grad
        index, shift = neighbours.index.long(), neighbours.shift
        rows = max(1, PAIRS_AT_ONCE // max(index.shape[1], 1))
        system = state.system.long()
        precision = next(self.module.parameters()).dtype
        energies, forces, virials = None, None, None
        for start in range(0, state.atoms, rows):
            part = slice(start, start + rows)
            there = state.positions[index[part]]
            moved = (shift[part].to(there.dtype) @ state.cell[system[part]]) + there
            d = (moved - state.positions[part, None]).to(precision)
            column = torch.arange(index.shape[1], device=index.device)
            mask = column < neighbours.count[part, None]
            mask = mask & (d.detach().square().sum(-1) < self.cutoff**2)
            local, g = pair_gradients(
                self.module,
                d,
                state.species[index[part]].long(),
                mask,
                state.species[part].long(),
                keep,
            )
            pair_virial = -torch.einsum("aki,makj->maij", d, g)
            if energies is None or forces is None or virials is None:
                members = local.shape[0]
                energies = local.new_zeros(members, state.systems)
                forces = g.new_zeros(members, state.atoms, 3)
                virials = g.new_zeros(members, state.systems, 3, 3)
            atoms = torch.arange(start, start + len(d), device=d.device)
            energies = energies.index_add(1, system[part], local)
            virials = virials.index_add(1, system[part], pair_virial)
            forces = forces.index_add(1, atoms, g.sum(2))
            forces = forces.index_add(1, index[part].reshape(-1), -g.flatten(1, 2))
        assert energies is not None
        assert forces is not None
        assert virials is not None
        return energies, forces, virials


def pair_gradients(
    module: nn.Module,
    displacements: Tensor,
    neighbour_species: Tensor,
    mask: Tensor,
    species: Tensor,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return atomic energies ``[members, atoms]`` and ``dE_i/dd_ij [members, ...]``.

    All members in one batched backward pass.
    """
    with torch.enable_grad():
        if not displacements.requires_grad:
            displacements = displacements.detach().requires_grad_()
        energies = module(displacements, neighbour_species, mask, species)
        members = energies.shape[0]
        if members == 1:
            (gradient,) = torch.autograd.grad(
                energies.sum(), displacements, create_graph=create_graph
            )
            gradient = gradient[None]
        else:
            each = torch.eye(members, dtype=energies.dtype, device=energies.device)
            (gradient,) = torch.autograd.grad(
                energies.sum(1), displacements, each, is_grads_batched=True,
                create_graph=create_graph,
            )  # fmt: skip
    return (energies if create_graph else energies.detach()), gradient


@own_defaults()
def load_module(path: Path, precision: str = "f64", device: str = "cpu") -> Any:
    """Load a module and check it; errors are those of the command line.

    Raises:
        InputError: missing files, or not a model of this project.
        DamagedFileError: the content does not match its hash.
    """
    try:
        module, _ = cards.load_module(path)
    except (FileNotFoundError, cards.UnknownModelError) as error:
        raise InputError(str(error)) from error
    except cards.DamagedModelError as error:
        raise DamagedFileError(str(error)) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    return module.to(dtype=dtype_of(precision), device=device)


class FastForm:
    """A network in another form, which knows the same atoms within the same range."""

    network: LearnedPotential

    @property
    def cutoff(self) -> float:
        """Interaction range in angstrom."""
        return self.network.cutoff

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that the network knows."""
        return self.network.species

    @property
    def members(self) -> int:
        """Size of the committee."""
        return self.network.members


def finite(module: torch.nn.Module) -> bool:
    """Whether all weights of a network are finite; training may have diverged."""
    return all(bool(weight.isfinite().all()) for weight in module.parameters())


def load_potential(
    path: Path, precision: str = "f64", device: str = "cpu"
) -> LearnedPotential:
    """Load a potential by the path of its weights.

    Raises:
        InputError: as :func:`load_module`; no potential, or weights that are not finite.
    """
    module = load_module(path, precision, device)
    if not hasattr(module, "species"):
        raise InputError(f"{path}: is no potential")
    if not finite(module):
        raise InputError(f"{path}: holds weights that are not finite; train it again")
    factor = cards.read_card(path).get("deviation_factor")
    return LearnedPotential(module, math.nan if factor is None else factor)


__all__ = [
    "FastForm",
    "LearnedPotential",
    "finite",
    "load_module",
    "load_potential",
    "pair_gradients",
]
