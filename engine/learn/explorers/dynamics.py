"""Explore by molecular dynamics: one batch of walkers over structures and temperatures."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from ....models.parts import part
from ...errors import GuardError
from ...md.integrators import Integrator, Langevin, Schedule
from ...md.neighbours import Neighbours
from ...md.potential import Potential
from ...md.state import ParticleState
from ...md.units import METAL
from ...md.world import MolecularDynamics, per_system
from ...protocols import Committee
from ..atoms import Configuration, fast, stacked
from .bias import Bias


@dataclass(frozen=True)
class Start:
    """Where a walker begins.

    Attributes:
        configuration: the structure; its ``stratum`` names the walker.
        temperature: kelvin.
        masses: ``[atoms]`` amu.
    """

    configuration: Configuration
    temperature: float
    masses: Tensor


@part
class Dynamics:
    """Langevin dynamics of the committee's mean, all walkers in one batch.

    A walker terminates at its first frame above ``trusted``; that frame is yielded and
    says how many were not reached. A frame in which two atoms are
    closer than ``nearest`` or a force exceeds ``largest_force`` is yielded with deviation
    NaN: the models have failed there, and it is not labelled.
    """

    steps: Annotated[int, Ge(1)] = 300
    """Time steps of a walker that is not terminated."""
    stride: Annotated[int, Ge(1)] = 10
    """Steps between frames that enter the table; trust is checked at every step."""
    timestep: Annotated[float, Gt(0)] = 2.0
    """fs."""
    relaxation: Annotated[float, Gt(0)] = 50.0
    """Of the thermostat, fs."""
    rattle: Annotated[float, Ge(0), Le(1)] = 0.02
    """Standard deviation of displacements at the start, angstrom."""
    strain: Annotated[float, Ge(0), Le(0.3)] = 0.02
    """Standard deviation of the strain of periodic axes at the start, in place of a grid
    of pressures."""
    largest_force: Annotated[float, Gt(0)] = 30.0
    """A frame with a larger force has failed, eV/angstrom; such frames would dominate
    the training."""
    nearest: Annotated[float, Gt(0)] = 0.7
    """A frame in which two atoms are closer has failed, angstrom."""
    bias: Bias | None = None
    """Left out: walkers follow the committee's mean alone."""
    kind: Literal["dynamics"] = "dynamics"

    def explorer(self, starts: Sequence[Start], trusted: float = math.inf) -> "Walks":
        """Return the walks from ``starts`` that end above the deviation ``trusted``."""
        potential = fast if self.bias is None else self.bias.potential
        return Walks(self, starts, trusted, potential)

    def frames(self, starts: Sequence[Start]) -> int:
        """Return how many atoms all frames hold together, at most."""
        atoms = sum(len(start.masses) for start in starts)
        return atoms * (1 + self.steps // self.stride)


@dataclass(frozen=True)
class Walks:
    """:class:`Dynamics` from many starts.

    Attributes:
        settings: of the dynamics.
        starts: one walker each.
        trusted: deviation up to which a walker goes on, eV/angstrom.
        potential: makes a potential with a deviation from the committee.
    """

    settings: Dynamics
    starts: Sequence[Start]
    trusted: float = math.inf
    potential: Callable[[Committee], Potential] = fast

    def explore(
        self, committee: Committee, rng: torch.Generator
    ) -> Iterator[Configuration]:
        """Yield frames of all walkers, step after step."""
        potential = self.potential(committee)
        alive = list(range(len(self.starts)))
        world = self._world(potential, self._begin(potential, rng), alive)
        state = world.init()
        for step in range(self.settings.steps + 1):
            deviation, bad = self._judge(world, state)
            stop = bad | ~(deviation <= self.trusted)
            shown = stop | torch.tensor(step % self.settings.stride == 0)
            rest = 1 + (self.settings.steps - step) // self.settings.stride
            for place in shown.nonzero().squeeze(1).tolist():
                ends = bool(stop[place])
                yield replace(
                    _configuration(state, place, self.starts[alive[place]].configuration),
                    deviation=math.nan if bad[place] else float(deviation[place]),
                    unreached=float(rest - 1 if ends else 0),
                )
            if bool(stop.any()):
                alive = [
                    a for a, ended in zip(alive, stop.tolist(), strict=True) if not ended
                ]
                if not alive:
                    return
                state = keep_systems(state, ~stop)
                world = self._world(potential, state, alive)
            if step < self.settings.steps:
                state = _stepped(world, state)

    def _begin(self, potential: Potential, rng: torch.Generator) -> ParticleState:
        """Return the starts, rattled and strained, with seeds of their own."""
        state = stacked([start.configuration for start in self.starts], potential.species)
        noise = torch.randn(state.positions.shape, generator=rng, dtype=torch.float64)
        draws = torch.randn(state.cell.shape, generator=rng, dtype=torch.float64)
        periodic = state.periodic.double()
        strain = self.settings.strain * 0.5 * (draws + draws.mT)
        strain = strain * periodic[:, :, None] * periodic[:, None, :]
        stretch = torch.eye(3, dtype=torch.float64) + strain
        system = state.system.long()
        positions = (state.positions[:, None] @ stretch[system])[
            :, 0
        ] + self.settings.rattle * noise
        return replace(
            state,
            positions=positions,
            cell=state.cell @ stretch,
            masses=torch.cat([start.masses for start in self.starts]).double(),
            seed=torch.randint(2**62, (state.systems,), generator=rng),
        )

    def _world(
        self, potential: Potential, state: ParticleState, alive: Sequence[int]
    ) -> MolecularDynamics:
        temperatures = tuple(self.starts[number].temperature for number in alive)
        integrator: Integrator = Langevin(
            Schedule.constant(*temperatures), self.settings.relaxation / METAL.time
        )
        return MolecularDynamics(
            potential, integrator, state, self.settings.timestep, temperature=temperatures
        )

    def _judge(
        self, world: MolecularDynamics, state: ParticleState
    ) -> tuple[Tensor, Tensor]:
        """Return the deviation ``[systems]`` and which systems are unphysical."""
        deviation = per_system(state, state.deviation)
        force = per_system(state, state.forces.norm(dim=1))
        close = nearest_neighbour(state, world.neighbours(state))
        bad = (
            ~deviation.isfinite()
            | ~(force <= self.settings.largest_force)
            | ~(close >= self.settings.nearest)
        )
        return deviation, bad


def nearest_neighbour(state: ParticleState, neighbours: Neighbours) -> Tensor:
    """Return the smallest distance in each system, ``[systems]`` angstrom, inf if none."""
    index, system = neighbours.index.long(), state.system.long()
    if not index.shape[1]:
        return torch.full((state.systems,), math.inf, dtype=torch.float64)
    shift = neighbours.shift.to(state.cell.dtype) @ state.cell[system]
    square = (state.positions[index] + shift - state.positions[:, None]).square().sum(-1)
    empty = torch.arange(index.shape[1]) >= neighbours.count[:, None]
    square = torch.where(empty, math.inf, square.double())
    return -per_system(state, -square.amin(1).sqrt())


def _stepped(world: MolecularDynamics, state: ParticleState) -> ParticleState:
    """Advance; where a walker diverges within the step, mark it and keep the state."""
    try:
        return world.step(state)
    except GuardError as error:
        there = error.state if isinstance(error.state, ParticleState) else state
        diverged = ~there.positions.isfinite().all(1)
        diverged = per_system(state, diverged.double())[state.system.long()] > 0
        return replace(state, deviation=torch.where(diverged, math.nan, state.deviation))


def _configuration(
    state: ParticleState, system: int, start: Configuration
) -> Configuration:
    mine = state.system == system
    return replace(
        start, positions=state.positions[mine].double(), cell=state.cell[system].double()
    )


def keep_systems(state: ParticleState, keep: Tensor) -> ParticleState:
    """Return the batch without the systems that ``keep [systems]`` drops."""
    atoms = keep[state.system.long()]
    number = torch.cumsum(keep.int(), 0) - 1
    per_atom = (
        "positions",
        "momenta",
        "masses",
        "species",
        "forces",
        "anchor",
        "deviation",
    )
    per_batch = ("cell", "periodic", "energy", "virial", "anchor_cell", "step", "seed")
    kept = {name: getattr(state, name)[atoms] for name in per_atom}
    kept |= {name: getattr(state, name)[keep] for name in per_batch}
    kept["system"] = number[state.system.long()][atoms].to(torch.int32)
    kept["thermostat"] = {name: value[keep] for name, value in state.thermostat.items()}
    return replace(state, **kept)
