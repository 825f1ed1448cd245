r"""The Boltzmann equation of Maxwell molecules in space, on a full velocity grid.

    df/dt + v . grad f = 2/Kn Q(f, f)

with the spectral operator of :mod:`.boltzmann`. With unit collision strength the stress
decays at rate ``rho / 2`` and the heat flux at ``(D - 1) / D`` of that, so this is the gas
``Gas.power_law(D, omega=1, prandtl=(D - 1) / D)`` of the other models: ``mu = Kn T``.

Time: ARS(2,2,2) (Ascher, Ruuth, Spiteri 1997) with the penalty ``P = 2 rho/Kn (M - f)``
implicit and ``-v . grad f + 2/Kn Q - P`` explicit (Filbet, Jin, J. Comput. Phys. 229, 2010,
p. 7625), so that the step is bound by advection alone. Space: MUSCL with van Leer's
limiter, as in :mod:`.world`. Plain torch; two evaluations of Q per step are its cost.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...errors import InputError
from ..boundaries import Open, Sides, check_sides
from ..grid import Grid
from ..observe import refuse_unphysical, totals, unphysical
from .boltzmann import Boltzmann
from .equilibrium import maxwellian
from .scheme import harmonic
from .velocities import Velocities
from .world import DELTA, GAMMA

REMEDY = "lower the time step, or widen the velocity box"


@dataclass(frozen=True)
class MaxwellState:
    """A batch of distributions.

    Attributes:
        f: ``[batch, *grid.shape, nodes]``, nodes in the order of ``Boltzmann.velocities``.
        step: scalar int64.
        time: scalar f64.
    """

    f: Tensor
    step: Tensor
    time: Tensor


@dataclass(frozen=True)
class MaxwellWorld:
    """A Boltzmann problem on a grid. Implements ``Simulator``.

    Attributes:
        grid: cells in space, at most as many dimensions as ``collision``.
        sides: periodic or open, one pair per axis.
        collision: the operator; its exponent is 0 and its strength None.
        knudsen: ``[batch]``.
        time_step: fixed; at most CFL 0.5.

    Raises:
        InputError: a contradiction, before anything is computed.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    collision: Boltzmann
    knudsen: Tensor
    time_step: float

    def __post_init__(self) -> None:
        check_sides(self.sides, self.grid.dim)
        if self.grid.dim > self.collision.dimension:
            raise InputError("collision.dimension: fewer velocity than space dimensions")
        if self.collision.exponent != 0.0 or self.collision.strength is not None:
            raise InputError("collision: Maxwell molecules of unit strength (exponent 0)")
        if not bool((self.knudsen > 0).all()):
            raise InputError("knudsen: must be positive everywhere")
        ends = [side for pair in self.sides for side in (pair.low, pair.high)]
        if not all(p.periodic for p in self.sides) and not all(
            isinstance(s, Open) for s in ends
        ):
            raise InputError("boundaries: the Boltzmann world has periodic or open sides")
        limit = 0.5 / sum(self.collision.limit / h for h in self.grid.spacing)
        if not 0 < self.time_step <= limit * (1 + 1e-12):
            raise InputError(f"time_step: {self.time_step}; allowed is 0 to {limit:.4g}")

    @cached_property
    def velocities(self) -> Velocities:
        """The operator's nodes."""
        q = self.collision
        half = q.limit / q.nodes
        axes = (q.nodes,) * q.dimension, (-q.limit - half,) * q.dimension
        return Velocities(*axes, (q.limit - half,) * q.dimension)

    def with_time_step(self, time_step: float) -> "MaxwellWorld":
        """Return the same world with another step."""
        return replace(self, time_step=time_step)

    def start(self, f: Tensor) -> MaxwellState:
        """Return the state of ``f [batch, *grid.shape, nodes]``."""
        f = f.to(self.knudsen.device)
        return MaxwellState(f, torch.tensor(0), torch.tensor(0.0, dtype=torch.float64))

    def equilibrium(
        self, density: Tensor, velocity: Tensor, temperature: Tensor
    ) -> MaxwellState:
        """Return the local discrete Maxwellian of fields ``[batch, *grid.shape]``."""
        self.velocities.check_range(velocity, temperature, "initial")
        return self.start(self._maxwellian(density, velocity, temperature))

    def init(self, rng: torch.Generator) -> MaxwellState:
        """Return the uniform gas at rest with unit density and temperature."""
        one = torch.ones(len(self.knudsen), *self.grid.shape, dtype=torch.float64)
        u = torch.zeros(*one.shape, self.collision.dimension, dtype=torch.float64)
        return self.equilibrium(one, u, one)

    def step(self, state: MaxwellState) -> MaxwellState:
        """Advance by ``time_step``.

        Raises:
            GuardError: density or temperature not positive.
        """
        dt, old = self.time_step, state.f
        explicit = self._explicit(old)
        first = self._relax(old + GAMMA * dt * explicit, GAMMA * dt)
        lag = (1.0 - GAMMA) * dt * self._penalty(first)
        moved = old + dt * (DELTA * explicit + (1.0 - DELTA) * self._explicit(first)) + lag
        after = MaxwellState(
            self._relax(moved, GAMMA * dt), state.step + 1, state.time + dt
        )
        rho, _, t = self._moments(after.f)
        if after.f.is_cuda:
            after.f.masked_fill_(unphysical(rho, t)[..., None], math.nan)
        else:
            refuse_unphysical(int(after.step), rho, t, REMEDY, after)
        return after

    def _rate(self, rho: Tensor) -> Tensor:
        kn = self.knudsen.view(-1, *(1,) * self.grid.dim)
        return (2.0 * rho / kn)[..., None]

    def _moments(self, f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v, weight = self.velocities.like(f), self.velocities.weight
        rho = weight * f.sum(-1)
        u = weight * (f @ v) / rho[..., None]
        square = weight * (f @ v.square().sum(-1)) / rho
        return rho, u, (square - u.square().sum(-1)) / self.collision.dimension

    def _maxwellian(self, rho: Tensor, u: Tensor, t: Tensor) -> Tensor:
        return maxwellian(self.velocities, rho, u, t, self.collision.dimension)[..., 0, :]

    def _relax(self, f: Tensor, dt: float) -> Tensor:
        rho, u, t = self._moments(f)
        k = dt * self._rate(rho)
        return (f + k * self._maxwellian(rho, u, t)) / (1 + k)

    def _penalty(self, f: Tensor) -> Tensor:
        rho, u, t = self._moments(f)
        return self._rate(rho) * (self._maxwellian(rho, u, t) - f)

    def _explicit(self, f: Tensor) -> Tensor:
        q, kn = self.collision, self.knudsen.view(-1, *(1,) * (self.grid.dim + 1))
        cube = f.unflatten(-1, (q.nodes,) * q.dimension)
        out = 2.0 / kn * q(cube).flatten(-q.dimension) - self._penalty(f)
        for axis in range(self.grid.dim):
            out = out - self._transport(f, axis)
        return out

    def _transport(self, f: Tensor, axis: int) -> Tensor:
        at, n = 1 + axis, self.grid.shape[axis]
        if self.sides[axis].periodic:
            parts = [f.narrow(at, n - 2, 2), f, f.narrow(at, 0, 2)]
        else:
            low, high = f.narrow(at, 0, 1), f.narrow(at, n - 1, 1)
            parts = [low, low, f, high, high]
        w = torch.cat(parts, at)
        d = w.narrow(at, 1, n + 3) - w.narrow(at, 0, n + 3)
        slope = harmonic(d.narrow(at, 0, n + 2), d.narrow(at, 1, n + 2))
        cells = w.narrow(at, 1, n + 2)
        v = self.velocities.like(f)[:, axis]
        left = (cells + 0.5 * slope).narrow(at, 0, n + 1)
        right = (cells - 0.5 * slope).narrow(at, 1, n + 1)
        face = torch.where(v > 0, left, right) * v
        return (face.narrow(at, 1, n) - face.narrow(at, 0, n)) / self.grid.spacing[axis]

    def observe(self, state: MaxwellState) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`."""
        f, weight, dim = state.f, self.velocities.weight, self.collision.dimension
        rho, u, t = self._moments(f)
        c = self.velocities.like(f) - u[..., None, :]
        eye = torch.eye(dim, dtype=f.dtype, device=f.device)
        pressure = weight * torch.einsum("...v,...vi,...vj->...ij", f, c, c)
        heat = (
            0.5 * weight * torch.einsum("...v,...v,...vi->...i", f, c.square().sum(-1), c)
        )
        safe = f.clamp(min=1e-300)
        return {
            "density": rho,
            "velocity": u,
            "temperature": t,
            "stress": pressure - (rho * t)[..., None, None] * eye,
            "heat_flux": heat,
            "entropy": -weight * (safe * safe.log()).sum(-1),
            **totals(rho, u, t, dim, self.grid.volume),
            "negative_fraction": (f < 0).flatten(1).double().mean(1),
        }


def largest_step(grid: Grid, collision: Boltzmann, cfl: float = 0.45) -> float:
    """Return the step of a Courant number, at most 0.5."""
    return cfl / math.fsum(collision.limit / h for h in grid.spacing)
