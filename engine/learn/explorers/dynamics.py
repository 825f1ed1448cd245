"""Explore by molecular dynamics: one batch of walkers over structures and temperatures."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from ....models.parts import part
from ...errors import GuardError
from ...md.barostats import CellRescaling
from ...md.ensembles import SHAPES
from ...md.integrators import Integrator, Langevin, Schedule
from ...md.neighbours import Neighbours
from ...md.potential import Potential
from ...md.state import ParticleState
from ...md.units import METAL
from ...md.world import MolecularDynamics, per_system
from ...protocols import Committee
from ..atoms import Configuration, fast, leader, stacked
from .bias import Bias


@dataclass(frozen=True)
class Start:
    """Where a walker begins, and the conditions of its walk.

    Attributes:
        configuration: the structure; its ``stratum`` names the walker.
        temperature: kelvin.
        masses: ``[atoms]`` amu.
        final: temperature at the end of the walk, reached linearly; None: the same.
        pressure: at the start and the end of the walk, GPa; None: constant volume.
    """

    configuration: Configuration
    temperature: float
    masses: Tensor
    final: float | None = None
    pressure: tuple[float, float] | None = None


_SKIN = 1.0
"""Of the neighbour lists of walkers, angstrom."""

SEGMENTS = 8
"""Parts of a walk; the frame of largest deviation of each is kept."""


@part
class Dynamics:
    """Langevin dynamics by the committee, all walkers in one batch.

    The first member moves the atoms (with a bias: the mean), all members judge.

    Every ``stride`` steps all walkers are screened. A walker goes on through frames whose
    deviation is too large, and terminates when ``endurance`` of them follow each other.
    What is yielded: of each stratum ``kept`` frames drawn uniformly from all that were
    screened, which stand for them (``weight``); of each eighth of a walk its frame of
    largest deviation, or, where deviations are too large, the first of these frames; and
    the first of the frames that ended a walk, with the number of frames not reached. A
    frame in which two atoms are closer than ``nearest`` or a force exceeds
    ``largest_force`` ends a walk at once and is yielded with deviation NaN: the models
    have failed there, and it is not labelled.
    """

    steps: Annotated[int, Ge(1)] = 5000
    """Time steps of a walker that is not terminated."""
    stride: Annotated[int, Ge(1)] = 5
    """Steps between screened frames."""
    endurance: Annotated[int, Ge(1)] = 10
    """Screened frames in a row with too large a deviation that end a walk."""
    timestep: Annotated[float, Gt(0)] = 2.0
    """fs."""
    relaxation: Annotated[float, Gt(0)] = 50.0
    """Of the thermostat, fs."""
    kept: Annotated[int, Ge(1)] = 64
    """Frames of each stratum that stand for all that were screened."""
    pressure_relaxation: Annotated[float, Gt(0)] = 500.0
    """Of the barostat, of walkers at constant pressure, fs."""
    compressibility: Annotated[float, Gt(0)] = 0.01
    """Rough value, 1/GPa."""
    cell: Literal["isotropic", "anisotropic", "triclinic"] = "isotropic"
    """What of the cell may change at constant pressure."""
    rattle: Annotated[float, Ge(0), Le(1)] = 0.02
    """Standard deviation of displacements at the start, angstrom."""
    strain: Annotated[float, Ge(0), Le(0.3)] = 0.02
    """Standard deviation of the strain of periodic axes at the start."""
    largest_force: Annotated[float, Gt(0)] = 30.0
    """A frame with a larger force has failed, eV/angstrom; such frames would dominate
    the training."""
    nearest: Annotated[float, Gt(0)] = 0.7
    """A frame in which two atoms are closer has failed, angstrom."""
    bias: Bias | None = None
    """Left out: nothing pushes walkers to where the members disagree."""
    kind: Literal["dynamics"] = "dynamics"

    def explorer(self, starts: Sequence[Start], trusted: float = math.inf) -> "Walks":
        """Return the walks from ``starts`` that end above the deviation ``trusted``."""
        if self.bias is None:
            return Walks(self, starts, trusted, fast, leader)
        return Walks(self, starts, trusted, self.bias.potential)

    def frames(self, starts: Sequence[Start]) -> int:
        """Return how many atoms all frames that are kept hold together, at most."""
        strata = {start.configuration.stratum: len(start.masses) for start in starts}
        atoms = sum(len(start.masses) for start in starts)
        return self.kept * sum(strata.values()) + (SEGMENTS + 1) * atoms


class _Reservoir:
    """A uniform sample of a stream (Vitter 1985, ACM Trans. Math. Softw. 11, 37)."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._random = size, random.Random(seed)
        self.kept: list[Configuration] = []
        self.seen = 0

    def offer(self, make: Callable[[], Configuration]) -> None:
        """Take the next element, or not."""
        self.seen += 1
        if len(self.kept) < self._size:
            self.kept.append(make())
            return
        place = self._random.randrange(self.seen)
        if place < self._size:
            self.kept[place] = make()

    def weighted(self) -> Iterator[Configuration]:
        """Yield what was kept, each standing for its share of what was seen."""
        for sample in self.kept:
            yield replace(sample, weight=self.seen / len(self.kept))


class _Walker:
    """What a walker remembers: its frame worth a label, and how long it was untrusted."""

    def __init__(self, trusted: float, endurance: int) -> None:
        self._trusted, self._endurance = trusted, endurance
        self._beyond = 0
        self._largest = math.nan
        self._frame: Configuration | None = None
        self._edge: Configuration | None = None

    def look(self, deviation: float, make: Callable[[], Configuration]) -> bool:
        """Take a screened frame into account; return whether the walk ends with it."""
        self._beyond = 0 if deviation <= self._trusted else self._beyond + 1
        if self._beyond == 1:
            self._edge = make()
        if self._beyond >= self._endurance:
            return True
        settled = self._largest > self._trusted
        if self._beyond == 1 and not settled:
            self._largest, self._frame = deviation, self._edge
        elif not self._beyond and not settled and not deviation <= self._largest:
            self._largest, self._frame = deviation, make()
        return False

    def end(self) -> Configuration | None:
        """Return the first of the frames that ended the walk, nearest to what is known."""
        if self._frame is self._edge:
            self._frame = None  # it is yielded once
        return self._edge

    def take(self) -> Configuration | None:
        """Return the frame and begin another part."""
        frame, self._frame, self._largest = self._frame, None, math.nan
        return frame


def _taken(walkers: Sequence[_Walker]) -> Iterator[Configuration]:
    for walker in walkers:
        frame = walker.take()
        if frame is not None:
            yield frame


@dataclass(frozen=True)
class Walks:
    """:class:`Dynamics` from many starts.

    Attributes:
        settings: of the dynamics.
        starts: one walker each.
        trusted: deviation up to which a walker goes on, eV/angstrom.
        potential: makes a potential with a deviation from the committee.
        mover: makes what moves the atoms between screened frames; None: ``potential``.
    """

    settings: Dynamics
    starts: Sequence[Start]
    trusted: float = math.inf
    potential: Callable[[Committee], Potential] = fast
    mover: Callable[[Committee], Potential] | None = None

    def explore(
        self, committee: Committee, rng: torch.Generator
    ) -> Iterator[Configuration]:
        """Yield frames of all walkers; those at constant pressure after the others."""
        judge = self.potential(committee)
        potential = judge if self.mover is None else self.mover(committee)
        for constant in (False, True):
            some = [s for s in self.starts if (s.pressure is not None) == constant]
            if some:
                yield from replace(self, starts=some)._walk(potential, judge, rng)

    def _walk(
        self, potential: Potential, judge: Potential, rng: torch.Generator
    ) -> Iterator[Configuration]:
        own = self.settings
        names = dict.fromkeys(start.configuration.stratum for start in self.starts)
        seeds = torch.randint(2**31, (len(names),), generator=rng).tolist()
        pools = {n: _Reservoir(own.kept, s) for n, s in zip(names, seeds, strict=True)}
        walkers = [_Walker(self.trusted, own.endurance) for _ in self.starts]
        alive = list(range(len(self.starts)))
        world = self._world(potential, self._begin(potential, rng), alive)
        state = world.init()
        segment = max(1, math.ceil((own.steps + 1) / SEGMENTS / own.stride)) * own.stride
        for step in range(own.steps + 1):
            due = step % own.stride == 0
            if not due and bool(state.forces.isfinite().all()):
                state = self._stepped(world, state, step)  # nothing to look at
                continue
            if step % segment == 0:
                yield from _taken(walkers)
            state = _seen(judge, world, state)
            deviation, bad = self._judge(world, state)
            stop, size = bad.tolist(), deviation.tolist()
            for place, number in enumerate(alive):
                start, walker = self.starts[number].configuration, walkers[number]
                frame = partial(_configuration, state, place, start, size[place])
                failed = stop[place]
                if due and not failed:
                    stop[place] = walker.look(size[place], frame)
                if stop[place]:
                    edge = None if failed else walker.end()
                    last = edge or replace(frame(), deviation=math.nan)
                    rest = float((own.steps - step) // own.stride)
                    yield replace(last, weight=1.0, unreached=rest)
                elif due:
                    pools[start.stratum].offer(frame)
            if any(stop):
                alive = [a for a, ended in zip(alive, stop, strict=True) if not ended]
                if not alive:
                    break
                state = keep_systems(state, ~torch.tensor(stop))
                world = self._world(potential, state, alive)
            if step < own.steps:
                state = self._stepped(world, state, step)
        yield from _taken(walkers)
        for pool in pools.values():
            yield from pool.weighted()

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
        walkers = [self.starts[number] for number in alive]
        own, length = self.settings, self.settings.steps * self.settings.timestep
        begin = tuple(start.temperature for start in walkers)
        end = tuple(s.temperature if s.final is None else s.final for s in walkers)
        times = (0.0, length / METAL.time)
        schedule = Schedule(times, (begin, end))
        bath: Integrator = Langevin(schedule, own.relaxation / METAL.time)
        if walkers[0].pressure is not None:
            ends = zip(
                *(s.pressure for s in walkers if s.pressure is not None), strict=True
            )
            values = tuple(tuple(p / METAL.pressure for p in each) for each in ends)
            bath = CellRescaling(
                bath,
                schedule,
                Schedule(times, values),
                own.pressure_relaxation / METAL.time,
                own.compressibility * METAL.pressure,
                SHAPES[own.cell],
            )
        return MolecularDynamics(
            potential, bath, state, own.timestep, temperature=begin, skin=_SKIN
        )

    @cached_property
    def _listed(self) -> int:
        """Steps after which the neighbours of all walkers are listed anew together.

        Four thermal standard deviations of the fastest atom's velocity reach half the
        skin in that time. A walker by itself asks for a list when an atom has moved so
        far; a list of many walkers would be made in nearly every step.
        """
        fastest = max(
            math.sqrt(METAL.boltzmann * max(s.temperature, s.final or 0.0))
            / math.sqrt(float(s.masses.min()))
            for s in self.starts
        )
        step = self.settings.timestep / METAL.time
        return max(1, int(0.5 * _SKIN / (4.0 * fastest * step)))

    def _stepped(
        self, world: MolecularDynamics, state: ParticleState, step: int
    ) -> ParticleState:
        """Advance; where a walker diverges within the step, mark it and keep the state."""
        if step % self._listed == 0:
            state = replace(state, anchor=state.positions, anchor_cell=state.cell)
        try:
            return world.step(state)
        except GuardError as error:
            there = error.state if isinstance(error.state, ParticleState) else state
            diverged = ~there.positions.isfinite().all(1)
            diverged = per_system(state, diverged.double())[state.system.long()] > 0
            lost = torch.where(diverged[:, None], math.nan, state.forces)
            return replace(state, forces=lost)

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


def _seen(
    judge: Potential, world: MolecularDynamics, state: ParticleState
) -> ParticleState:
    """Return the state with the deviation of the committee; unchanged if it moved it."""
    if judge is world.potential:
        return state
    found = judge(state, world.neighbours(state))
    return replace(state, deviation=found.deviation)


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


def _configuration(
    state: ParticleState, system: int, start: Configuration, deviation: float
) -> Configuration:
    """Return a frame that stands for no other."""
    mine = state.system == system
    return replace(
        start,
        positions=state.positions[mine].double(),
        cell=state.cell[system].double(),
        deviation=deviation,
        weight=0.0,
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
