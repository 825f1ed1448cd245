r"""Direct simulation Monte Carlo of the Boltzmann equation, in 1 to 3 dimensions.

The method is that of G. A. Bird (Molecular Gas Dynamics, 1994).

Particles fly freely for a step, meet walls or leave the box, and then collide in pairs that
are drawn in each cell at the rate of the kinetic theory (no time counter). Every particle
stands for the same mass, ``1 / particles``.

The state is a pure function of the state before it, whatever the number of threads: random
numbers are drawn from counters, and the sort by cell is stable.

A shock at rest wanders, since nothing fixes its place; with ``hold`` the whole gas is
shifted a little in each step so that the number of particles, and with it the place of the
shock, stays where it was.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ... import runtime
from ...errors import GuardError, InputError
from ...kernels import particles as kernels
from ..boundaries import Inflow, Open, Periodic, Sides, Wall, check_sides, component
from ..collisions.molecules import Molecules
from ..grid import Grid

HOLD = 0.008
"""Part of the surplus of particles that a held shock gives back in a step."""


@dataclass(frozen=True)
class DsmcState:
    """Particles, sorted by cell, and what has been summed up of them.

    Attributes:
        positions: ``[capacity, dim]``; those from ``starts[cells]`` on are not there.
        velocities: ``[capacity, 3]``.
        starts: ``[cells + 2]`` int32, first particle of each cell.
        fastest: ``[cells]`` largest collision rate of a pair met so far.
        remainder: ``[cells]`` part of a pair that is carried over.
        collisions: ``[cells]`` int64, made so far.
        sums: ``[cells, 14]`` of :func:`~engine.kernels.particles.k_sample`.
        samples: scalar int64, steps that were summed.
        step: scalar int64.
    """

    positions: Tensor
    velocities: Tensor
    starts: Tensor
    fastest: Tensor
    remainder: Tensor
    collisions: Tensor
    sums: Tensor
    samples: Tensor
    step: Tensor


@dataclass(frozen=True)
class Start:
    """The gas at the start, ``[*grid.shape]`` each; velocity ``[*grid.shape, 3]``."""

    density: Tensor
    velocity: Tensor
    temperature: Tensor


@dataclass(frozen=True)
class DsmcWorld:
    """A gas of particles. Implements ``Simulator``.

    Attributes:
        grid: cells.
        sides: boundaries, a pair for each axis.
        molecules: how they collide.
        start: the gas at the start.
        particles: in a unit of volume at density 1.
        time_step: a fraction of the mean collision time.
        seed: of all random numbers.
        hold: keep the number of particles, and so a shock, in place.
        sample_from: first step whose particles are summed.
        sample_every: steps between two sums; 0: never.
        capacity: places for particles over those at the start.

    Raises:
        InputError: a contradiction, before anything is computed.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    molecules: Molecules
    start: Start
    particles: float
    time_step: float
    seed: int = 1
    hold: bool = False
    sample_from: int = 0
    sample_every: int = 1
    capacity: float = 1.5
    _box: dict[str, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_sides(self.sides, self.grid.dim)
        if not self.particles * self.grid.volume > 0:
            raise InputError(f"particles: {self.particles}; must be positive")
        if not self.time_step > 0:
            raise InputError(f"time_step: {self.time_step}; must be positive")
        object.__setattr__(self, "_box", self._boundaries())

    # -- what the kernels read ---------------------------------------------------------

    def _boundaries(self) -> dict[str, Tensor]:
        grid, kinds, sides, layers = self.grid, [], [], []
        begun = 0
        for axis, pair in enumerate(self.sides):
            for end, side in enumerate((pair.low, pair.high)):
                kind, row = _side(side)
                kinds.append(kind)
                sides.append(row)
                if isinstance(side, Inflow):
                    layer = self._layer(axis, end, side, begun)
                    begun = int(layer[5]) + 1
                    layers.append(layer)
        return {
            "box": torch.tensor(
                list(zip(grid.lower, grid.upper, strict=True)), dtype=torch.float64
            ),
            "shape": torch.tensor(grid.shape, dtype=torch.int32),
            "kinds": torch.tensor(kinds, dtype=torch.int32),
            "sides": torch.tensor(sides, dtype=torch.float64),
            "layers": torch.tensor(layers, dtype=torch.float64).reshape(-1, 12),
        }

    def _layer(self, axis: int, end: int, side: Inflow, begun: int) -> list[float]:
        """The layer before a face from which particles can reach the box in a step."""
        grid, thermal = self.grid, math.sqrt(side.temperature)
        u = [component(side.velocity, d) for d in range(3)]
        deep = (abs(u[axis]) + 6 * thermal) * self.time_step + self._largest_shift
        face = (grid.lower, grid.upper)[end][axis]
        low, high = (face - deep, face) if end == 0 else (face, face + deep)
        area = grid.volume * grid.cells / (grid.upper[axis] - grid.lower[axis])
        number = self.particles * side.density * area * deep
        last = begun + math.floor(number)
        share = number - math.floor(number)
        return [axis, low, high, share, begun, last, side.temperature, *u, 0.0, 0.0]

    @property
    def _largest_shift(self) -> float:
        return 0.1 * self.grid.spacing[0] if self.hold else 0.0

    @property
    def _extra(self) -> int:
        layers = self._box["layers"]
        return int(layers[-1, 5]) + 1 if len(layers) else 0

    # -- the simulator -----------------------------------------------------------------

    @property
    def expected(self) -> int:
        """Particles at the start."""
        return round(float(self.start.density.sum()) * self.particles * self.grid.volume)

    @property
    def needed_bytes(self) -> int:
        """Memory of two states, announced before anything is made."""
        places = int(self.expected * self.capacity) + self._extra
        return 2 * places * 8 * (self.grid.dim + 3) + places * 4

    def init(self, rng: torch.Generator) -> DsmcState:
        """Draw the particles of the start; ``rng`` is used for them alone."""
        grid = self.grid
        mean = (self.start.density * self.particles * grid.volume).flatten()
        number = (mean + torch.rand(mean.shape, generator=rng, dtype=mean.dtype)).long()
        cell = torch.repeat_interleave(torch.arange(grid.cells), number)
        total, places = len(cell), int(self.expected * self.capacity) + self._extra + 64
        x = torch.zeros(places, grid.dim, dtype=torch.float64)
        index = torch.unravel_index(cell, grid.shape)
        for d in range(grid.dim):
            at = index[d] + torch.rand(total, generator=rng, dtype=torch.float64)
            x[:total, d] = grid.lower[d] + grid.spacing[d] * at
        v = torch.zeros(places, 3, dtype=torch.float64)
        normal = torch.randn(total, 3, generator=rng, dtype=torch.float64)
        thermal = self.start.temperature.flatten().sqrt()[cell]
        v[:total] = self.start.velocity.reshape(-1, 3)[cell] + thermal[:, None] * normal
        starts = torch.zeros(grid.cells + 2, dtype=torch.int32)
        starts[1:-1] = number.cumsum(0)
        starts[-1] = total
        zero = torch.zeros((), dtype=torch.int64)
        warm = float(self.start.temperature.amax()) ** 0.5
        return DsmcState(
            x,
            v,
            starts,
            torch.full((grid.cells,), self.molecules.largest * warm, dtype=torch.float64),
            torch.rand(grid.cells, generator=rng, dtype=torch.float64),
            torch.zeros(grid.cells, dtype=torch.int64),
            torch.zeros(grid.cells, 14, dtype=torch.float64),
            zero,
            zero.clone(),
        )

    def step(self, state: DsmcState) -> DsmcState:
        """Move, collide, and sum up where it is time.

        Raises:
            GuardError: more particles than places.
        """
        runtime.start("cpu")
        grid, box, extra = self.grid, self._box, self._extra
        alive = int(state.starts[grid.cells])
        if alive + extra > len(state.positions):
            raise GuardError(
                f"{alive} particles at step {int(state.step)}, places for "
                f"{len(state.positions) - extra}; raise capacity",
                int(state.step),
                state,
            )
        clock = torch.stack([torch.tensor(self.seed), state.step])
        shift = torch.zeros(1, dtype=torch.float64)
        if self.hold:
            shift[0] = self._give_back(alive)
        x, v = torch.empty_like(state.positions), torch.empty_like(state.velocities)
        cells = torch.empty(len(x), dtype=torch.int32)
        histogram = torch.empty(kernels.CHUNKS, grid.cells + 1, dtype=torch.int32)
        kernels.k_move(
            grid.dim, state.positions, state.velocities, cells, histogram, state.starts,
            extra, self.time_step, box["box"], box["shape"], box["kinds"], box["sides"],
            box["layers"], clock, shift, x, v,
        )  # fmt: skip
        starts = torch.empty_like(state.starts)
        kernels.k_places(histogram, state.starts, extra, starts)
        positions = torch.zeros_like(state.positions)
        velocities = torch.zeros_like(state.velocities)
        kernels.k_sort(
            grid.dim, cells, histogram, state.starts, extra, x, v, positions, velocities
        )
        new = replace(
            state,
            positions=positions,
            velocities=velocities,
            starts=starts,
            fastest=state.fastest.clone(),
            remainder=state.remainder.clone(),
            collisions=state.collisions.clone(),
            step=state.step + 1,
        )
        m = self.molecules
        kernels.k_collide(
            m.kind, new.velocities, new.starts, new.fastest, new.remainder,
            self.time_step / (grid.volume * self.particles), m.sections, m.angles, m.law,
            clock, new.collisions,
        )  # fmt: skip
        return self._sampled(new)

    def _give_back(self, alive: int) -> float:
        """How far the gas is moved so that a held shock keeps its place."""
        low, high = self.sides[0].low, self.sides[0].high
        assert isinstance(low, Inflow)
        assert isinstance(high, Inflow)
        area = self.grid.volume * self.grid.cells
        area /= self.grid.upper[0] - self.grid.lower[0]
        surplus = (alive - self.expected) / (
            self.particles * area * (high.density - low.density)
        )
        limit = self._largest_shift
        return min(max(HOLD * surplus, -limit), limit)

    def _sampled(self, state: DsmcState) -> DsmcState:
        step = int(state.step)
        if self.sample_every == 0 or step < self.sample_from or step % self.sample_every:
            return state
        sums = state.sums.clone()
        kernels.k_sample(state.velocities, state.starts, sums)
        return replace(state, sums=sums, samples=state.samples + 1)

    def observe(self, state: DsmcState) -> Mapping[str, Tensor]:
        """Return the moments of the samples so far, or of this step where there are none.

        Names and shapes are those of all gas worlds (batch of one), and ``particles`` in
        each cell, ``collisions`` of each so far.
        """
        runtime.start("cpu")
        sums, samples = state.sums, int(state.samples)
        if samples == 0:
            sums, samples = torch.zeros_like(sums), 1
            kernels.k_sample(state.velocities, state.starts, sums)
        weight = 1.0 / (self.particles * self.grid.volume * samples)
        seen = moments(sums, weight)
        shape = (1, *self.grid.shape)
        fields = {name: x.reshape(*shape, *x.shape[1:]) for name, x in seen.items()}
        n = int(state.starts[self.grid.cells])
        v, mass = state.velocities[:n], 1.0 / self.particles
        return {
            **fields,
            "particles": (state.starts[1:-1] - state.starts[:-2]).reshape(shape),
            "collisions": state.collisions.reshape(shape),
            "mass": torch.tensor([n * mass], dtype=torch.float64),
            "momentum": (v.sum(0) * mass)[None],
            "energy": 0.5 * v.square().sum()[None] * mass,
        }


def moments(sums: Tensor, weight: float) -> dict[str, Tensor]:
    """Return density, velocity, temperature, stress and heat flux of summed particles.

    Args:
        sums: ``[cells, 14]`` of :func:`~engine.kernels.particles.k_sample`.
        weight: density of one particle in one sample.
    """
    n = sums[:, 0].clamp(min=1)
    u = sums[:, 1:4] / n[:, None]
    xx, yy, zz, xy, xz, yz = (sums[:, 4:10] / n[:, None]).unbind(1)
    second = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], 1).reshape(-1, 3, 3)
    central = second - u[:, :, None] * u[:, None, :]
    temperature = central.diagonal(dim1=1, dim2=2).mean(1)
    density = sums[:, 0] * weight
    pressure = density[:, None, None] * central
    eye = torch.eye(3, dtype=sums.dtype)
    stress = pressure - (density * temperature)[:, None, None] * eye
    # q = rho/2 <c^2 c>, c = v - u
    third, square = sums[:, 10:13] / n[:, None], sums[:, 13] / n
    heat = third - square[:, None] * u - 2 * torch.einsum("nij,nj->ni", second, u)
    heat = heat + 2 * u.square().sum(1)[:, None] * u
    return {
        "density": density,
        "velocity": u,
        "temperature": temperature,
        "stress": stress,
        "heat_flux": 0.5 * density[:, None] * heat,
    }


def _side(side: Any) -> tuple[int, list[float]]:
    match side:
        case Periodic():
            return kernels.PERIODIC, [1.0, 0.0, 0.0, 0.0, 1.0]
        case Inflow():
            return kernels.RESERVOIR, [side.temperature, 0.0, 0.0, 0.0, 1.0]
        case Wall():
            kind = kernels.SPECULAR if side.accommodation == 0 else kernels.DIFFUSE
            u = [component(side.velocity, d) for d in range(3)]
            return kind, [side.temperature, *u, side.accommodation]
        case Open():
            return kernels.RESERVOIR, [1.0, 0.0, 0.0, 0.0, 1.0]
    raise InputError(f"boundaries: {type(side).__name__} is not known to particles")


__all__ = ["DsmcState", "DsmcWorld", "Start", "moments"]
