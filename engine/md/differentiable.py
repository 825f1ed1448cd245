"""Potentials that also know the adjoint of their force.

What a gradient through a trajectory asks of a potential is one number: ``v . F(x; p)`` for
a given vector v, differentiated by positions x and parameters p. Lennard-Jones has kernels
for it; any other energy in plain torch gets it from automatic differentiation.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from .. import runtime
from ..kernels import pair, smooth_pair
from .classical import gathered
from .neighbours import Neighbours
from .potential import Potential
from .state import Interaction, ParticleState


class Differentiable(Potential, Protocol):
    """A potential with parameters, differentiable in them and in the positions."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that gradients are wanted for."""
        ...

    def with_parameters(self, parameters: Sequence[Tensor]) -> Self:
        """Return the same potential with other parameters."""
        ...

    def energy(self, state: ParticleState, neighbours: Neighbours) -> Tensor:
        """Return ``[systems]``, differentiable in positions and parameters."""
        ...

    def pull_back(
        self, state: ParticleState, neighbours: Neighbours, vector: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the derivatives of ``sum vector . F`` by positions and by parameters.

        The latter by whatever stands between the parameters and the force, so that they can
        be added up along a trajectory before :meth:`by_parameters` is called once.

        Args:
            state: where; positions ``[atoms, 3]``.
            neighbours: a list valid there.
            vector: ``[atoms, 3]``, held constant.
        """
        ...

    def by_parameters(self, pulled: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return derivatives by the parameters from what :meth:`pull_back` returned."""
        ...


# -- Lennard-Jones ------------------------------------------------------------------------


class _Forces(torch.autograd.Function):
    """(x, table) -> F; its adjoint is the kernel of the Hessian's product."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, table: Tensor, state: ParticleState, neighbours: Neighbours
    ) -> Tensor:
        ctx.save_for_backward(x, table)
        ctx.rest = state, neighbours
        return _smooth(x, table, state, neighbours)[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, vector: Tensor) -> tuple[Tensor | None, ...]:
        (x, table), (state, neighbours) = ctx.saved_tensors, ctx.rest
        by_x, by_table = _smooth_adjoint(x, table, state, neighbours, vector)
        return by_x, by_table, None, None


class _Sums(torch.autograd.Function):
    """(x, table) -> sums over pairs of r^-12, r^-6, 1, r^2, ``[systems, S, S, 4]``.

    The energy is linear in the table, so the derivative of ``u . sums`` by x is minus the
    force of the potential with the table u: both derivatives are the same kernels again.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, table: Tensor, state: ParticleState, neighbours: Neighbours
    ) -> Tensor:
        ctx.save_for_backward(x, table)
        ctx.rest = state, neighbours
        places = neighbours.places(x, state.system, state.cell)
        partial = neighbours.layout.partial(4 * table.shape[1] ** 2)
        smooth_pair.k_pair_sums(
            places, neighbours.home, neighbours.atom, neighbours.slots, neighbours.rows,
            state.species, neighbours.parent, table.detach(), neighbours.layout.chunks,
            partial,
        )  # fmt: skip
        return neighbours.layout.total(partial).reshape(*table.shape[:3], 4)

    @staticmethod
    def backward(ctx: Any, by_sums: Tensor) -> tuple[Tensor | None, ...]:
        x, table = ctx.saved_tensors
        c12, c6, one, square = by_sums.unbind(-1)
        as_table = torch.stack([c12, -c6, table[..., 2].detach(), -one, square], -1)
        force: Callable[..., Tensor] = _Forces.apply  # type: ignore[assignment]
        return -force(x, as_table.contiguous(), *ctx.rest), None, None, None


def _smooth(
    x: Tensor, table: Tensor, state: ParticleState, neighbours: Neighbours
) -> tuple[Tensor, Tensor]:
    """Sums ``[systems, 7]`` of energy and virial, and forces ``[atoms, 3]``."""
    places = neighbours.places(x, state.system, state.cell)
    forces = torch.empty_like(places[: state.atoms])
    partial = neighbours.layout.partial(7)
    pair.k_lennard_jones(
        places, neighbours.home, neighbours.atom, neighbours.slots, neighbours.rows,
        state.species, neighbours.parent, table.detach().contiguous(),
        neighbours.layout.chunks, forces, partial, table.shape[1] == 1,
    )  # fmt: skip
    return neighbours.layout.total(partial), forces


def _smooth_adjoint(
    x: Tensor, table: Tensor, state: ParticleState, neighbours: Neighbours, vector: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivatives of ``vector . F`` by x and by the table."""
    places = neighbours.places(x, state.system, state.cell)
    by_position = torch.empty_like(places[: state.atoms])
    partial = neighbours.layout.partial(3 * table.shape[1] ** 2)
    smooth_pair.k_smooth_pair_adjoint(
        places, vector.detach()[neighbours.parent.long()], neighbours.home,
        neighbours.atom, neighbours.slots, neighbours.rows, state.species,
        neighbours.parent, table.detach().contiguous(), neighbours.layout.chunks,
        by_position, partial, table.shape[1] == 1,
    )  # fmt: skip
    by = neighbours.layout.total(partial).reshape(*table.shape[:3], 3)
    none = torch.zeros_like(by[..., 0])
    by_table = torch.stack([by[..., 0], by[..., 1], none, none, by[..., 2]], -1)
    return by_position, by_table.to(table)


@dataclass(frozen=True)
class SmoothLennardJones:
    """Lennard-Jones whose energy and force are continuous at the cutoff; differentiable.

    U(r) = 4 eps [(s/r)^12 - (s/r)^6 + (6 (s/rc)^12 - 3 (s/rc)^6) (r/rc)^2
    - 7 (s/rc)^12 + 4 (s/rc)^6] below the cutoff rc, else 0. A force that jumps at the
    cutoff makes trajectories discontinuous in their parameters, and no derivative sees it.

    Unlike pairs by Lorentz and Berthelot.

    Attributes:
        epsilon: ``[species]`` or ``[systems, species]``, eV (or reduced), may require a
            gradient.
        sigma: the same shape, angstrom.
        cutoff: angstrom.
        species: chemical symbols.

    Reference: S. D. Stoddard and J. Ford, Phys. Rev. A 8, 1504 (1973), equation 2.
    """

    epsilon: Tensor
    sigma: Tensor
    cutoff: float
    species: tuple[str, ...] = ("Ar",)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Epsilon and sigma."""
        return self.epsilon, self.sigma

    def with_parameters(self, parameters: Sequence[Tensor]) -> "SmoothLennardJones":
        """Return the same potential with another epsilon and sigma."""
        epsilon, sigma = parameters
        return replace(self, epsilon=epsilon, sigma=sigma)

    def table(self, systems: int) -> Tensor:
        """``[systems, S, S, 5]`` of the kernels, differentiable in the parameters."""
        eps, sig = (p.double().expand(systems, -1) for p in self.parameters)
        e = (eps[:, :, None] * eps[:, None, :]).sqrt()
        s = 0.5 * (sig[:, :, None] + sig[:, None, :])
        c12, c6 = 4 * e * s**12, 4 * e * s**6
        limit = torch.full_like(e, self.cutoff**2)
        slope = 6 * c12 / limit**7 - 3 * c6 / limit**4
        floor = c12 / limit**6 - c6 / limit**3 + slope * limit
        return torch.stack([c12, c6, limit, floor, slope], -1)

    @cached_property
    def _tables(self) -> dict[int, Tensor]:
        """Tables without a graph by the number of systems, made once."""
        return {}

    def _still(self, state: ParticleState) -> Tensor:
        if state.systems not in self._tables:
            with torch.no_grad():
                table = self.table(state.systems).to(state.positions).contiguous()
            self._tables[state.systems] = table
        return self._tables[state.systems]

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces and virial of every system, without a graph."""
        runtime.start(state.positions.device)
        table = self._still(state)
        return gathered(*_smooth(state.positions, table, state, neighbours))

    def energy(self, state: ParticleState, neighbours: Neighbours) -> Tensor:
        """Return ``[systems]``; twice differentiable in positions and parameters."""
        runtime.start(state.positions.device)
        table = self.table(state.systems)
        sums: Callable[..., Tensor] = _Sums.apply  # type: ignore[assignment]
        found = sums(state.positions, table.detach(), state, neighbours)
        c12, c6, _, floor, slope = table.unbind(-1)
        weights = torch.stack([c12, -c6, -floor, slope], -1)
        return (found * weights).flatten(1).sum(1)

    def pull_back(
        self, state: ParticleState, neighbours: Neighbours, vector: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Derivatives of ``vector . F`` by positions and by the table; one kernel."""
        by_x, by_table = _smooth_adjoint(
            state.positions, self._still(state), state, neighbours, vector
        )
        return by_x, (by_table,)

    def by_parameters(self, pulled: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Derivatives by epsilon and sigma from those by the table."""
        with torch.enable_grad():
            own = [p.detach().requires_grad_() for p in self.parameters]
            table = self.with_parameters(own).table(len(pulled[0]))
        return torch.autograd.grad(table, own, pulled[0].to(table))


# -- any energy in plain torch ------------------------------------------------------------

AtomicEnergy = Callable[[Sequence[Tensor], Tensor, Tensor, Tensor, Tensor], Tensor]
"""(parameters, displacements ``[atoms, K, 3]``, neighbour species ``[atoms, K]``, mask
``[atoms, K]``, species ``[atoms]``) -> energies ``[atoms]``, twice differentiable."""


@dataclass(frozen=True)
class TorchPotential:
    """A potential from an energy in plain torch: a formula, or a network.

    Slower and hungrier than kernels: reference and fallback.

    Attributes:
        function: energy of every atom.
        parameters: its tensors.
        cutoff: angstrom.
        species: chemical symbols.
    """

    function: AtomicEnergy
    parameters: tuple[Tensor, ...]
    cutoff: float
    species: tuple[str, ...]

    @staticmethod
    def of_module(module: Any) -> "TorchPotential":
        """Return a module of ``models.potentials``; of a committee its mean.

        Its parameters are copies of the module's, in double precision.
        """
        module = copy.deepcopy(module).double()
        names = [name for name, _ in module.named_parameters()]

        def function(parameters: Sequence[Tensor], *arguments: Tensor) -> Tensor:
            own = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(module, own, arguments).mean(0)

        weights = tuple(module.parameters())
        return TorchPotential(function, weights, module.cutoff, tuple(module.species))

    def with_parameters(self, parameters: Sequence[Tensor]) -> "TorchPotential":
        """Return the same potential with other parameters."""
        return replace(self, parameters=tuple(parameters))

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces and virial of every system, without a graph."""
        with torch.enable_grad():
            there = replace(state, positions=state.positions.detach())
            d, rest = _surroundings(there, neighbours, self.cutoff)
            d = d.detach().requires_grad_()
            local = self.function([p.detach() for p in self.parameters], d, *rest)
            (g,) = torch.autograd.grad(local.sum(), d)
        system = state.system.long()
        energy = local.new_zeros(state.systems).index_add(0, system, local.detach())
        outer = -torch.einsum("aki,akj->aij", d.detach(), g)
        virial = g.new_zeros(state.systems, 3, 3).index_add(0, system, outer)
        index = neighbours.index.long().reshape(-1)
        forces = g.sum(1).index_add(0, index, -g.reshape(-1, 3))
        return Interaction(energy, forces, virial)

    def energy(self, state: ParticleState, neighbours: Neighbours) -> Tensor:
        """Return ``[systems]``, twice differentiable in positions and parameters."""
        d, rest = _surroundings(state, neighbours, self.cutoff)
        local = self.function(self.parameters, d, *rest)
        return local.new_zeros(state.systems).index_add(0, state.system.long(), local)

    def pull_back(
        self, state: ParticleState, neighbours: Neighbours, vector: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Derivatives of ``vector . F`` by two passes of automatic differentiation."""
        with torch.enable_grad():
            x = state.positions.detach().requires_grad_()
            own = [p.detach().requires_grad_() for p in self.parameters]
            moving = self.with_parameters(own)
            total = moving.energy(replace(state, positions=x), neighbours).sum()
            (g,) = torch.autograd.grad(total, x, create_graph=True)
            product = -(g * vector.detach()).sum()
            by = torch.autograd.grad(product, [x, *own], allow_unused=True)
        zeros = (torch.zeros_like(p) for p in (x, *own))
        found = [z if b is None else b for b, z in zip(by, zeros, strict=True)]
        return found[0], tuple(found[1:])

    def by_parameters(self, pulled: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return them as they are."""
        return tuple(pulled)


def _surroundings(
    state: ParticleState, neighbours: Neighbours, cutoff: float
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Displacements, then neighbour species, mask and species; padded slots are masked."""
    index, system = neighbours.index.long(), state.system.long()
    moved = neighbours.shift.to(state.cell) @ state.cell[system]
    d = state.positions[index] + moved - state.positions[:, None]
    column = torch.arange(index.shape[1], device=index.device)
    mask = (column < neighbours.count[:, None]) & (d.detach().square().sum(-1) < cutoff**2)
    return d, (state.species[index].long(), mask, state.species.long())
