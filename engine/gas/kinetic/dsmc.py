r"""Direct simulation Monte Carlo of the Boltzmann equation, in 1 to 3 dimensions.

The method is that of G. A. Bird (Molecular Gas Dynamics, 1994).

Particles fly freely for a step, meet walls or leave the box, and then collide in pairs that
are drawn in each cell at the rate of the kinetic theory (no time counter). Every particle
stands for the same mass, ``1 / particles``. Molecules may rotate (Larsen and Borgnakke,
J. Comput. Phys. 18, 405, 1975): a particle then carries its rotational energy.

The state is a pure function of the state before it, whatever the number of threads: random
numbers are drawn from counters, and the sort by cell is stable.

A shock at rest wanders, since nothing fixes its place; with ``hold`` the whole gas is
shifted a little in each step so that the number of particles, and with it the place of the
shock, stays where it was. What the number fluctuates by elsewhere still moves it, by
about ``sqrt(N) / (particles (rho_2 - rho_1))``, which smears the mean profile: many
particles and few steps resolve a shock better than few particles and many steps.
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
from ..boundaries import (
    Inflow,
    Open,
    Periodic,
    Sides,
    Symmetry,
    Wall,
    check_sides,
    component,
    constant,
)
from ..collisions.molecules import Molecules
from ..grid import Grid

HOLD = 0.008
"""Part of the surplus of particles that a held shock gives back in a step."""


@dataclass(frozen=True)
class DsmcState:
    """Particles of all systems, sorted by cell, and what has been summed up of them.

    Attributes:
        positions: ``[systems, capacity, dim]`` f32; from ``starts[:, cells]`` on there are
            none.
        velocities: ``[systems, capacity, 3]``, and the rotational energy over the mass.
        starts: ``[systems, cells + 2]`` int32, first particle of each cell.
        fastest: ``[systems, cells]`` largest collision rate of a pair met so far.
        remainder: ``[systems, cells]`` part of a pair that is carried over.
        collisions: ``[systems, cells]`` int64, made so far.
        sums: ``[systems, cells, 14 or 18]`` of :func:`~engine.kernels.particles.k_sample`.
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
    """Systems of gases of particles. Implements ``Simulator``.

    The systems have the same start and boundaries; they differ in their random numbers
    and, with ``knudsen``, in how often molecules collide.

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
        knudsen: of each system, over that of ``molecules``.
        precision: of the velocities.

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
    knudsen: tuple[float, ...] = (1.0,)
    precision: torch.dtype = torch.float64
    _box: dict[str, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_sides(self.sides, self.grid.dim)
        if not self.particles * self.grid.volume > 0:
            raise InputError(f"particles: {self.particles}; must be positive")
        if not self.time_step > 0:
            raise InputError(f"time_step: {self.time_step}; must be positive")
        if self.hold and not all(
            isinstance(side, Inflow) for side in (self.sides[0].low, self.sides[0].high)
        ):
            raise InputError("hold: needs reservoirs (inflow) at both ends of x")
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
                [
                    (a, b, n / (b - a))
                    for a, b, n in zip(grid.lower, grid.upper, grid.shape, strict=True)
                ],
                dtype=torch.float64,
            ),
            "shape": torch.tensor(grid.shape, dtype=torch.int32),
            "kinds": torch.tensor(kinds, dtype=torch.int32),
            "sides": torch.tensor(sides, dtype=torch.float64),
            "layers": torch.tensor(layers, dtype=torch.float64).reshape(-1, 10),
            "scale": self.time_step
            / (grid.volume * self.particles * torch.tensor(self.knudsen).double()),
        }

    def _layer(self, axis: int, end: int, side: Inflow, begun: int) -> list[float]:
        """The layer before a face from which particles can reach the box in a step."""
        grid, thermal = self.grid, math.sqrt(constant(side.temperature))
        u = [component(side.velocity, d) for d in range(3)]
        deep = (abs(u[axis]) + 6 * thermal) * self.time_step + self._largest_shift
        face = (grid.lower, grid.upper)[end][axis]
        low, high = (face - deep, face) if end == 0 else (face, face + deep)
        area = grid.volume * grid.cells / (grid.upper[axis] - grid.lower[axis])
        number = self.particles * constant(side.density) * area * deep
        last = begun + math.floor(number)
        share = number - math.floor(number)
        return [axis, low, high, share, begun, last, constant(side.temperature), *u]

    @property
    def _largest_shift(self) -> float:
        return 0.1 * self.grid.spacing[0] if self.hold else 0.0

    @property
    def _extra(self) -> int:
        layers = self._box["layers"]
        return int(layers[-1, 5]) + 1 if len(layers) else 0

    # -- the simulator -----------------------------------------------------------------

    @property
    def systems(self) -> int:
        """Number of systems."""
        return len(self.knudsen)

    @property
    def columns(self) -> int:
        """Numbers that a particle carries besides its place."""
        return 4 if self.molecules.rotates else 3

    @property
    def expected(self) -> int:
        """Particles of a system at the start."""
        return round(float(self.start.density.sum()) * self.particles * self.grid.volume)

    @property
    def places(self) -> int:
        """Places for the particles of a system."""
        return int(self.expected * self.capacity) + self._extra + 64

    @property
    def needed_bytes(self) -> int:
        """Memory of two states, announced before anything is made."""
        grid, size = self.grid, self.precision.itemsize
        particle = 2 * (4 * grid.dim + size * self.columns) + 4
        cell = 4 * kernels.CHUNKS + 2 * 8 * (20 + 3)
        return self.systems * (self.places * particle + grid.cells * cell)

    def init(self, rng: torch.Generator) -> DsmcState:
        """Draw the particles of the start; ``rng`` is used for them alone."""
        parts = [self._drawn(rng) for _ in range(self.systems)]
        grid, n = self.grid, self.systems
        zero = torch.zeros((), dtype=torch.int64)
        cells = (n, grid.cells)
        warm = float(self.start.temperature.amax()) ** 0.5
        x, v, starts = (torch.stack(x) for x in zip(*parts, strict=True))
        return DsmcState(
            x,
            v,
            starts,
            torch.full(cells, self.molecules.largest * warm, dtype=torch.float64),
            torch.rand(cells, generator=rng, dtype=torch.float64),
            torch.zeros(cells, dtype=torch.int64),
            torch.zeros(*cells, 14 + 4 * (self.columns - 3), dtype=torch.float64),
            zero,
            zero.clone(),
        )

    def _drawn(self, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return places, velocities and first particles of one system."""
        grid = self.grid
        mean = (self.start.density * self.particles * grid.volume).flatten()
        number = (mean + torch.rand(mean.shape, generator=rng, dtype=mean.dtype)).long()
        cell = torch.repeat_interleave(torch.arange(grid.cells), number)[: self.places]
        total = len(cell)
        x = torch.zeros(self.places, grid.dim, dtype=torch.float32)
        index = torch.unravel_index(cell, grid.shape)
        for d in range(grid.dim):
            at = index[d] + torch.rand(total, generator=rng, dtype=torch.float64)
            x[:total, d] = grid.lower[d] + grid.spacing[d] * at
        v = torch.zeros(self.places, self.columns, dtype=self.precision)
        normal = torch.randn(total, 3, generator=rng, dtype=torch.float64)
        warm = self.start.temperature.flatten()[cell]
        flow = self.start.velocity.reshape(-1, 3)[cell]
        v[:total, :3] = flow + warm.sqrt()[:, None] * normal
        if self.molecules.rotates:
            free = torch.rand(total, generator=rng, dtype=torch.float64)
            v[:total, 3] = -warm * torch.log1p(-free)
        starts = torch.zeros(grid.cells + 2, dtype=torch.int32)
        starts[1:-1] = number.cumsum(0)
        starts[-1] = total
        return x, v, starts

    def step(self, state: DsmcState) -> DsmcState:
        """Move, collide, and sum up where it is time.

        Raises:
            GuardError: more particles than places.
        """
        runtime.start("cpu")
        grid, box, extra = self.grid, self._box, self._extra
        alive = state.starts[:, grid.cells]
        most, places = int(alive.amax()), state.positions.shape[1]
        if most + extra > places:
            raise GuardError(
                f"{most} particles at step {int(state.step)}, places for "
                f"{places - extra}; raise capacity",
                int(state.step),
                state,
            )
        clock = torch.stack([torch.tensor(self.seed), state.step])
        step = int(state.step) + 1
        sampled = (
            self.sample_every > 0
            and step >= self.sample_from
            and step % self.sample_every == 0
        )
        new = replace(
            state,
            positions=torch.empty_like(state.positions),
            velocities=torch.empty_like(state.velocities),
            starts=torch.empty_like(state.starts),
            fastest=state.fastest.clone(),
            remainder=state.remainder.clone(),
            collisions=state.collisions.clone(),
            sums=state.sums.clone() if sampled else state.sums,
            samples=state.samples + sampled,
            step=state.step + 1,
        )
        cells = torch.empty(self.systems, places, dtype=torch.int32)
        counts = (self.systems, kernels.CHUNKS, grid.cells + 1)
        m = self.molecules
        kernels.k_step(
            grid.dim, self.columns, m.kind, state.positions, state.velocities, cells,
            torch.empty(counts, dtype=torch.int32), state.starts, extra, self.time_step,
            box["box"], box["shape"], box["kinds"], box["sides"], box["layers"], clock,
            self._shift(alive), box["scale"], m.sections, m.angles, m.law, new.positions,
            new.velocities, new.starts, new.fastest, new.remainder, new.collisions,
            0.5 * sampled, new.sums,
        )  # fmt: skip
        # zero beyond the last particle: checkpoints hold no leftovers of the memory
        for system, alive in enumerate(new.starts[:, grid.cells].tolist()):
            new.positions[system, alive:] = 0.0
            new.velocities[system, alive:] = 0.0
        return new

    def _shift(self, alive: Tensor) -> Tensor:
        """How far the gas is moved so that a held shock keeps its place, ``[systems]``."""
        if not self.hold:
            return torch.zeros(self.systems, dtype=torch.float64)
        low, high = self.sides[0].low, self.sides[0].high
        assert isinstance(low, Inflow)
        assert isinstance(high, Inflow)
        area = self.grid.volume * self.grid.cells
        area /= self.grid.upper[0] - self.grid.lower[0]
        denser = self.particles * area * (constant(high.density) - constant(low.density))
        limit = self._largest_shift
        return (HOLD / denser * (alive.double() - self.expected)).clamp(-limit, limit)

    def fields(self, sums: Tensor, samples: int) -> dict[str, Tensor]:
        """Return the moments of summed particles, ``[systems, *grid.shape, ...]``.

        Args:
            sums: ``[systems, cells, 14 or 18]``.
            samples: steps that were summed.
        """
        weight = 1.0 / (self.particles * self.grid.volume * samples)
        seen = moments(sums.flatten(0, 1), weight)
        shape = (len(sums), *self.grid.shape)
        return {name: x.reshape(*shape, *x.shape[1:]) for name, x in seen.items()}

    def observe(self, state: DsmcState) -> Mapping[str, Tensor]:
        """Return the moments of the samples so far, or of this step where there are none.

        Names and shapes are those of all gas worlds, and ``particles`` in each cell,
        ``collisions`` of each so far.
        """
        runtime.start("cpu")
        sums, samples = state.sums, int(state.samples)
        if samples == 0:
            sums, samples = torch.zeros_like(sums), 1
            kernels.k_sample(self.columns, state.velocities, state.starts, sums)
        shape = (self.systems, *self.grid.shape)
        alive = state.starts[:, self.grid.cells].tolist()
        gases = [v[:n].double() for v, n in zip(state.velocities, alive, strict=True)]
        mass = 1.0 / self.particles
        energy = [0.5 * v[:, :3].square().sum() + v[:, 3:].sum() for v in gases]
        return {
            **self.fields(sums, samples),
            "particles": (state.starts[:, 1:-1] - state.starts[:, :-2]).reshape(shape),
            "collisions": state.collisions.reshape(shape),
            "mass": torch.tensor(alive, dtype=torch.float64) * mass,
            "momentum": torch.stack([v[:, :3].sum(0) for v in gases]) * mass,
            "energy": torch.stack(energy) * mass,
        }


def moments(sums: Tensor, weight: float) -> dict[str, Tensor]:
    """Return density, velocity, temperature, stress and heat flux of summed particles.

    The temperature is that of the translation, ``p / rho``; that of the rotation stands
    beside it, and the heat flux carries its energy.

    Args:
        sums: ``[cells, 14 or 18]`` of :func:`~engine.kernels.particles.k_sample`.
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
    heat = 0.5 * density[:, None] * heat
    rotation: dict[str, Tensor] = {}
    if sums.shape[1] > 14:
        inner = sums[:, 14] / n
        rotation["rotational_temperature"] = inner
        carried = sums[:, 15:18] / n[:, None] - inner[:, None] * u
        heat = heat + density[:, None] * carried
    return {
        "density": density,
        "velocity": u,
        "temperature": temperature,
        "stress": stress,
        "heat_flux": heat,
        **rotation,
    }


def _side(side: Any) -> tuple[int, list[float]]:
    match side:
        case Periodic():
            return kernels.PERIODIC, [1.0, 0.0, 0.0, 0.0, 1.0]
        case Inflow():
            return kernels.RESERVOIR, [constant(side.temperature), 0.0, 0.0, 0.0, 1.0]
        case Wall():
            kind = kernels.SPECULAR if side.accommodation == 0 else kernels.DIFFUSE
            u = [component(side.velocity, d) for d in range(3)]
            return kind, [constant(side.temperature), *u, side.accommodation]
        case Symmetry():
            return kernels.SPECULAR, [1.0, 0.0, 0.0, 0.0, 0.0]
        case Open():
            return kernels.RESERVOIR, [1.0, 0.0, 0.0, 0.0, 1.0]
    raise InputError(f"boundaries: {type(side).__name__} is not known to particles")


__all__ = ["DsmcState", "DsmcWorld", "Start", "moments"]
