r"""Direct simulation Monte Carlo of the Boltzmann equation, in 1 to 3 dimensions.

The method is that of G. A. Bird (Molecular Gas Dynamics, 1994).

Particles fly freely for a step, meet walls or leave the box, and then collide in pairs that
are drawn in each cell at the rate of the kinetic theory (no time counter). Every particle
stands for the same mass, ``1 / particles``. Molecules may rotate (Larsen and Borgnakke,
J. Comput. Phys. 18, 405, 1975): a particle then carries its rotational energy. In a mixture
it carries its species; every particle stands for the same number of molecules, and masses
are over the mean one of the reference composition, so that density 1 is 1 / particles of
them too. A force is half a kick before the flight and half after it (second order), and
solids are met at their own surface (:mod:`.obstacles`).

The state is a pure function of the state before it, whatever the number of threads: random
numbers are drawn from counters, and the sort by cell is stable.

A shock at rest wanders, since nothing fixes its place; with ``hold`` the whole gas is
shifted a little in each step so that the number of particles, and with it the place of the
shock, stays where it was. What the number fluctuates by elsewhere still moves it, by
about ``sqrt(N) / (particles (rho_2 - rho_1))``, which smears the mean profile: many
particles and few steps resolve a shock better than few particles and many steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ... import runtime
from ...errors import GuardError, InputError
from ...kernels import flight
from ...kernels import particles as kernels
from ..boundaries import Inflow, Sides, check_sides, constant
from ..collisions.molecules import Molecules
from ..grid import Grid
from .obstacles import Obstacles
from .particle_faces import ONE_GAS, Reservoirs, faces_of, layers_of, moving

HOLD = 0.008
"""Part of the surplus of particles that a held shock gives back in a step."""
FEW = 8000
"""Particles that one thread moves and collides while a pool of them wakes up and waits for
all loops of a step, 30 us each."""
TRIES = 200
"""Places that are drawn for a particle in a cell that a solid cuts."""


@dataclass(frozen=True)
class DsmcState:
    """Particles of all systems, sorted by cell, and what has been summed up of them.

    Attributes:
        positions: ``[systems, capacity, dim]`` f32; from ``starts[:, cells]`` on there are
            none.
        velocities: ``[systems, capacity, 3]``; then, where there is one, the number of the
            species, and the rotational energy over the mass.
        starts: ``[systems, cells + 2]`` int32, first particle of each cell.
        fastest: ``[systems, cells]`` largest collision rate of a pair met so far.
        remainder: ``[systems, cells]`` part of a pair that is carried over.
        collisions: ``[systems, cells]`` int64, made so far.
        sums: ``[systems, cells, 14 or 18]`` of :func:`~engine.kernels.particles.k_sample`,
            in a mixture so many for each species.
        samples: scalar int64, steps that were summed.
        impulse: ``[systems, solids, 4]`` momentum and energy that solids got so far.
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
    impulse: Tensor
    step: Tensor


@dataclass(frozen=True)
class Start:
    """The gas at the start, ``[*grid.shape]`` each; velocity ``[*grid.shape, 3]``.

    In a mixture ``fractions [species, *grid.shape]`` of the molecules; without them those
    of the reservoirs.
    """

    density: Tensor
    velocity: Tensor
    temperature: Tensor
    fractions: Tensor | None = None


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
        reservoirs: of a mixture, what comes in.
        obstacles: solids in the flow.
        acceleration: ``[1 to 3, *grid.shape]`` of a force on all molecules, or None.
        partners: drawn for a collision, of which the nearest is taken.

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
    reservoirs: Reservoirs = ONE_GAS
    obstacles: Obstacles | None = None
    acceleration: Tensor | None = None
    partners: int = 1
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
        if self.hold and self.obstacles is not None:
            raise InputError("hold: the gas is shifted, which solids do not allow")
        if len(self.reservoirs.masses) != len(self.molecules.masses):
            raise InputError("reservoirs: as many species as the molecules have")
        object.__setattr__(self, "_box", self._tables())

    # -- what the kernels read ---------------------------------------------------------

    def _tables(self) -> dict[str, Tensor]:
        grid, solids = self.grid, self.obstacles
        faces, first = faces_of(self.sides, grid, 0.0)
        empty = torch.zeros(0, flight.BODY_COLUMNS, dtype=torch.float64)
        bodies, nodes = (empty, faces[:0]) if solids is None else solids.placed(first)
        none = torch.zeros(0, flight.SURFACE_COLUMNS, dtype=torch.float64)
        return {
            "box": torch.tensor(
                [
                    (a, b, n / (b - a), n)
                    for a, b, n in zip(grid.lower, grid.upper, grid.shape, strict=True)
                ],
                dtype=torch.float64,
            ),
            "sides": torch.cat([faces, nodes]),
            "nodes": nodes,
            "bodies": bodies,
            "surfaces": none if solids is None else solids.surfaces,
            "local": self._local(),
            "species": self.molecules.species,
            "layers": layers_of(
                self.sides, grid, self.reservoirs, self.particles, self.time_step,
                self._largest_shift,
            ),
            "scale": self.time_step
            / (grid.volume * self.particles * torch.tensor(self.knudsen).double()),
        }  # fmt: skip

    def _local(self) -> Tensor:
        """Return ``local`` of the kernel, one row where nothing reads it."""
        if not (self._events or self.acceleration is not None):
            return torch.ones(1, kernels.LOCAL_COLUMNS, dtype=torch.float64)
        out = torch.zeros(self.grid.cells, kernels.LOCAL_COLUMNS, dtype=torch.float64)
        out[:, kernels.LOCAL_ROOM] = self._room
        if self.acceleration is not None:
            g = self.acceleration.flatten(1).T
            out[:, kernels.LOCAL_FORCE : kernels.LOCAL_FORCE + g.shape[1]] = g
        return out

    @property
    def _room(self) -> Tensor:
        """Volume of every cell over that of its gas, ``[cells]``."""
        if self.obstacles is None:
            return torch.ones(self.grid.cells, dtype=torch.float64)
        return self.obstacles.room.flatten()

    @cached_property
    def _events(self) -> bool:
        """Whether particles fly from event to event."""
        faces, _ = faces_of(self.sides, self.grid, 0.0)
        return self.obstacles is not None or bool((faces[:, flight.SIDE_CELLS] >= 0).any())

    @cached_property
    def _moving(self) -> bool:
        return moving(self.sides)

    def _sides_at(self, step: int) -> Tensor:
        """Return the walls in the middle of a step."""
        faces, _ = faces_of(self.sides, self.grid, (step + 0.5) * self.time_step)
        return torch.cat([faces, self._box["nodes"]])

    @cached_property
    def _largest_shift(self) -> float:
        return 0.1 * self.grid.spacing[0] if self.hold else 0.0

    @cached_property
    def _extra(self) -> int:
        layers = self._box["layers"]
        return int(layers[-1, kernels.LAYER_LAST]) + 1 if len(layers) else 0

    # -- the simulator -----------------------------------------------------------------

    @property
    def systems(self) -> int:
        """Number of systems."""
        return len(self.knudsen)

    @property
    def species(self) -> int:
        """Number of species."""
        return len(self.molecules.masses)

    @cached_property
    def _inner(self) -> int:
        """What the velocities hold besides."""
        mixed = flight.SPECIES if self.molecules.mixed else flight.NOTHING
        return mixed | (flight.ROTATION if self.molecules.rotates else flight.NOTHING)

    @property
    def columns(self) -> int:
        """Numbers that a particle carries besides its place."""
        return flight.COLUMNS[self._inner]

    @property
    def summed(self) -> int:
        """Columns of the sums."""
        return kernels.SUMMED[self._inner] * self.species

    @property
    def _serial(self) -> bool:
        """Whether other threads would cost more than they save."""
        return runtime.threads() == 1 or self.systems * self.expected < FEW

    @property
    def _numbers(self) -> Tensor:
        """Number density of every species at the start, over whole cells."""
        density, masses = self.start.density.flatten(), self.molecules.masses
        parts = self.start.fractions
        if parts is None:
            parts = torch.tensor(self.reservoirs.fractions, dtype=torch.float64)
            parts = parts[:, None].expand(-1, len(density))
        parts = parts.flatten(1)
        number = parts * (density / (parts * masses[:, None]).sum(0))
        if self.obstacles is not None:
            number = number * self.obstacles.share.flatten()
        return number

    @cached_property
    def expected(self) -> int:
        """Particles of a system at the start."""
        return round(float(self._numbers.sum()) * self.particles * self.grid.volume)

    @property
    def places(self) -> int:
        """Places for the particles of a system."""
        return int(self.expected * self.capacity) + self._extra + 64

    @property
    def needed_bytes(self) -> int:
        """Memory of two states, announced before anything is made."""
        grid, size = self.grid, self.precision.itemsize
        particle = 2 * (4 * grid.dim + size * self.columns) + 4
        cell = 4 * kernels.CHUNKS + 2 * 8 * (self.summed + 6 + 3)
        tables = 8 * sum(self._box[name].numel() for name in ("local", "sides"))
        return self.systems * (self.places * particle + grid.cells * cell) + tables

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
            torch.zeros(*cells, self.summed, dtype=torch.float64),
            zero,
            torch.zeros(n, len(self._box["bodies"]), 4, dtype=torch.float64),
            zero.clone(),
        )

    def _drawn(self, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return places, velocities and first particles of one system."""
        grid = self.grid
        mean = (self._numbers * self.particles * grid.volume).flatten()
        number = (mean + torch.rand(mean.shape, generator=rng, dtype=mean.dtype)).long()
        kind = torch.repeat_interleave(torch.arange(len(mean)), number)
        # sorted by cell, and there by species
        kind = kind[(kind % grid.cells).argsort(stable=True)][: self.places]
        cell, species = kind % grid.cells, kind // grid.cells
        at = self._scattered(cell, rng)
        if self.obstacles is not None:
            kept = ~self.obstacles.inside(tuple(at.T))
            at, cell, species = at[kept], cell[kept], species[kept]
        total = len(cell)
        x = torch.zeros(self.places, grid.dim, dtype=torch.float32)
        x[:total] = at.float()
        v = torch.zeros(self.places, self.columns, dtype=self.precision)
        normal = torch.randn(total, 3, generator=rng, dtype=torch.float64)
        warm = self.start.temperature.flatten()[cell]
        flow = self.start.velocity.reshape(-1, 3)[cell]
        thermal = (warm / self.molecules.masses[species]).sqrt()
        v[:total, :3] = flow + thermal[:, None] * normal
        if self.molecules.mixed:
            v[:total, 3] = species.to(v)
        if self.molecules.rotates:
            free = torch.rand(total, generator=rng, dtype=torch.float64)
            inner = -warm * torch.log1p(-free) / self.molecules.masses[species]
            v[:total, -1] = inner * self.molecules.rotating[species]
        starts = torch.zeros(grid.cells + 2, dtype=torch.int32)
        starts[1:-1] = torch.bincount(cell, minlength=grid.cells).cumsum(0)
        starts[-1] = total
        return x, v, starts

    def _scattered(self, cell: Tensor, rng: torch.Generator) -> Tensor:
        """Return a place in each of the cells, outside of solids where one is found."""
        grid = self.grid
        index = torch.unravel_index(cell, grid.shape)
        at = torch.zeros(len(cell), grid.dim, dtype=torch.float64)

        def draw(some: Tensor) -> None:
            for d in range(grid.dim):
                share = torch.rand(len(some), generator=rng, dtype=torch.float64)
                at[some, d] = grid.lower[d] + grid.spacing[d] * (index[d][some] + share)

        again = torch.arange(len(cell))
        draw(again)
        for _ in range(TRIES if self.obstacles is not None else 0):
            assert self.obstacles is not None
            again = again[self.obstacles.inside(tuple(at[again].T))]
            if not len(again):
                break
            draw(again)
        return at

    def step(self, state: DsmcState) -> DsmcState:
        """Move, collide, and sum up where it is time.

        Raises:
            GuardError: more particles than places.
        """
        runtime.start("cpu")
        grid, box, extra = self.grid, self._box, self._extra
        alive = state.starts[:, grid.cells].tolist()
        most, places, before = max(alive), state.positions.shape[1], int(state.step)
        if most + extra > places:
            raise GuardError(
                f"{most} particles at step {before}, places for {places - extra}; raise "
                "capacity",
                before,
                state,
            )
        step = before + 1
        sampled = (
            self.sample_every > 0
            and step >= self.sample_from
            and step % self.sample_every == 0
        )
        loads = torch.empty(
            self.systems, kernels.CHUNKS, state.impulse.shape[1], 4, dtype=torch.float64
        )
        new = DsmcState(
            torch.empty_like(state.positions),
            torch.empty_like(state.velocities),
            torch.empty_like(state.starts),
            state.fastest.clone(),
            state.remainder.clone(),
            state.collisions.clone(),
            state.sums.clone() if sampled else state.sums,
            state.samples + 1 if sampled else state.samples,
            state.impulse,
            state.step + 1,
        )
        counts = self.systems * kernels.CHUNKS * (grid.cells + 1)
        m = self.molecules
        kernels.k_step(
            self._serial, self.systems == 1, grid.dim, self._inner, m.kind,
            self._events, self.acceleration is not None, self.partners,
            state.positions.flatten(), state.velocities.flatten(),
            torch.empty(self.systems * places, dtype=torch.int32),
            torch.empty(counts, dtype=torch.int32), state.starts, extra, self.time_step,
            box["box"], self._sides_at(before) if self._moving else box["sides"],
            box["layers"], flight.key_of(self.seed, before), self._shift(alive),
            box["scale"], m.sections, m.angles, m.law, box["species"], box["local"],
            box["surfaces"], box["bodies"], loads,
            new.positions.view(-1), new.velocities.view(-1), new.starts, new.fastest,
            new.remainder, new.collisions, 0.5 * sampled, new.sums,
        )  # fmt: skip
        if loads.shape[2]:
            given = loads.sum(1) / self.particles
            new = replace(new, impulse=state.impulse + given)
        return new

    def _shift(self, alive: Sequence[int]) -> Tensor:
        """How far the gas is moved so that a held shock keeps its place, ``[systems]``."""
        if not self.hold:
            return torch.zeros(self.systems, dtype=torch.float64)
        limit = self._largest_shift
        back = (HOLD / self._denser * (n - self.expected) for n in alive)
        return torch.tensor([min(max(x, -limit), limit) for x in back], dtype=torch.float64)

    @cached_property
    def _denser(self) -> float:
        """Particles that a held shock lacks where it is moved by a length to the right."""
        low, high = self.sides[0].low, self.sides[0].high
        assert isinstance(low, Inflow)
        assert isinstance(high, Inflow)
        area = self.grid.volume * self.grid.cells
        area /= self.grid.upper[0] - self.grid.lower[0]
        numbers = [
            sum(self.reservoirs.numbers(constant(side.density), 0, end))
            for end, side in enumerate((low, high))
        ]
        return self.particles * area * (numbers[1] - numbers[0])

    def fields(self, sums: Tensor, samples: int) -> dict[str, Tensor]:
        """Return the moments of summed particles, ``[systems, *grid.shape, ...]``.

        In a mixture those of the whole gas, and density, share of the molecules, velocity
        and temperature of every species with its number at the end of the name.

        Args:
            sums: ``[systems, cells, columns]``.
            samples: steps that were summed.
        """
        weight = self._room.repeat(len(sums)) / (
            self.particles * self.grid.volume * samples
        )
        flat = sums.flatten(0, 1)
        if self.molecules.mixed:
            seen = mixed_moments(
                flat.unflatten(1, (self.species, -1)), self.molecules, weight
            )
        else:
            seen = moments(flat, weight)
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
            kernels.k_sample(self._inner, state.velocities.flatten(), state.starts, sums)
        shape = (self.systems, *self.grid.shape)
        alive = state.starts[:, self.grid.cells].tolist()
        gases = [v[:n].double() for v, n in zip(state.velocities, alive, strict=True)]
        mass = 1.0 / self.particles
        if self.molecules.mixed:
            of = [self.molecules.masses[v[:, 3].long()] for v in gases]
            pairs = list(zip(of, gases, strict=True))
            heavy = torch.stack([m.sum() for m in of])
            momentum = [m @ v[:, :3] for m, v in pairs]
            energy = [0.5 * (m @ v[:, :3].square().sum(1)) for m, v in pairs]
            if self.molecules.rotates:
                inner = [m @ v[:, 4] for m, v in pairs]
                energy = [a + b for a, b in zip(energy, inner, strict=True)]
        else:
            heavy = torch.tensor(alive, dtype=torch.float64)
            momentum = [v[:, :3].sum(0) for v in gases]
            energy = [0.5 * v[:, :3].square().sum() + v[:, 3:].sum() for v in gases]
        return {
            **self.fields(sums, samples),
            "particles": (state.starts[:, 1:-1] - state.starts[:, :-2]).reshape(shape),
            "collisions": state.collisions.reshape(shape),
            "mass": heavy * mass,
            "momentum": torch.stack(momentum) * mass,
            "energy": torch.stack(energy) * mass,
            **({} if self.obstacles is None else {"solid_impulse": state.impulse}),
        }


def mixed_moments(sums: Tensor, molecules: Molecules, weight: Tensor) -> dict[str, Tensor]:
    """Return the moments of a mixture, and of its species.

    The temperature of the mixture is ``p / n``, about its mean velocity; that of a species
    is about its own. The pressure is not density times temperature where the composition is
    not that of reference, so it stands beside them.

    Args:
        sums: ``[cells, species, 14 or 18]``.
        molecules: the species.
        weight: density of one particle of mass 1 in one sample, ``[cells]``.
    """
    masses = molecules.masses
    seen = moments((sums * masses[:, None]).sum(1), weight)
    number = (sums[..., 0].sum(1) * weight).clamp(min=1e-300)
    if molecules.rotates:
        turning = (sums[..., 0] @ molecules.rotating.double()).clamp(min=1e-300)
        seen["rotational_temperature"] = (sums[..., 14] @ masses) / turning
    seen["pressure"] = seen["temperature"] * seen["density"]
    seen["temperature"] = seen["pressure"] / number
    for k, mass in enumerate(masses.tolist()):
        own = moments(sums[:, k], weight)
        seen[f"density_{k}"] = mass * own["density"]
        seen[f"fraction_{k}"] = own["density"] / number
        seen[f"velocity_{k}"] = own["velocity"]
        seen[f"temperature_{k}"] = mass * own["temperature"]
        if bool(molecules.rotating[k]):
            name = "rotational_temperature"
            seen[f"{name}_{k}"] = mass * own[name]
    return seen


def moments(sums: Tensor, weight: float | Tensor) -> dict[str, Tensor]:
    """Return density, velocity, temperature, stress and heat flux of summed particles.

    The temperature is that of the translation, ``p / rho``; that of the rotation stands
    beside it, and the heat flux carries its energy.

    Args:
        sums: ``[cells, 14 or 18]`` of :func:`~engine.kernels.particles.k_sample`.
        weight: density of one particle in one sample, ``[cells]`` where cells differ.
    """
    n = torch.where(sums[:, 0] > 0, sums[:, 0], 1.0)
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


__all__ = ["DsmcState", "DsmcWorld", "Start", "mixed_moments", "moments"]
