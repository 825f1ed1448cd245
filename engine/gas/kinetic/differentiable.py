"""The kinetic equation along one axis in plain torch: every number may carry a gradient.

The same scheme as the kernel behind :class:`.world.KineticWorld` (upwind with van Leer's
slopes, discrete equilibria, ARS(2,2,2)), equal to it to round-off, for one space and one
velocity axis: slower, but differentiable in the relaxation time, the Prandtl number and
the states of the reservoirs. The steady state it leads to solves

    R(f) = -A(f) + (G[f] - f) / tau = 0

whatever the time step (:mod:`.steady` differentiates it without any steps).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...errors import InputError
from ..boundaries import Inflow, Sides
from ..grid import Grid
from ..scheme.finite_volume import DELTA, GAMMA
from .velocities import Velocities
from .world import KineticWorld

RelaxationTime = Callable[[Tensor, Tensor], Tensor]
"""tau from density and temperature, any differentiable function."""

Slope = Callable[[Tensor, Tensor], Tensor]
"""Limited slope from the differences ``[parts, cells, nodes]`` on both sides."""

_TINY = 1e-100


def van_leer(a: Tensor, b: Tensor) -> Tensor:
    """Return ``(a|b| + |a|b) / (|a| + |b|)``, as in the kernel."""
    p, q = a.abs(), b.abs()
    return (a * q + p * b) / (p + q + _TINY)


@dataclass(frozen=True)
class VanAlbada:
    """``(a (b^2 + e^2) + b (a^2 + e^2)) / (a^2 + b^2 + 2 e^2)``, smooth everywhere.

    Differences far below e are not limited. Newton's method for a steady state needs it:
    at the kinks of other limiters, wherever the gas is uniform, it goes back and forth
    (V. Venkatakrishnan, J. Comput. Phys. 118, 120, 1995).

    Attributes:
        floor: e, that broadcasts to ``[parts, cells, nodes]``.
    """

    floor: Tensor

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the slope."""
        e = self.floor.square()
        p, q = a.square() + e, b.square() + e
        return (a * q + b * p) / (p + q)


def discrete_maxwellian(
    velocities: Velocities, density: Tensor, velocity: Tensor, temperature: Tensor
) -> Tensor:
    """Return ``[..., nodes]`` with exactly these moments on the grid.

    Newton's method without a graph, then one step with it: the derivative of the implicit
    function. Shapes ``[...]``; see :func:`.equilibrium.maxwellian` for the equation.
    """
    nodes = velocities.like(density)[:, 0]
    shape = density.shape
    rho, u, t = (x.reshape(-1) for x in (density, velocity, temperature))
    target = torch.tensor([1.0, 0.0, 1.0], dtype=rho.dtype, device=rho.device)

    def fit(unknown: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        xi = (nodes - u[:, None]) / t.sqrt()[:, None]
        basis = torch.stack([torch.ones_like(xi), xi, xi.square()], -1)
        g = (basis @ unknown[..., None])[..., 0].exp()
        weighted = basis * (g * velocities.weight / t.sqrt()[:, None])[..., None]
        return g, target - weighted.sum(1), weighted.mT @ basis

    with torch.no_grad():
        unknown = rho.new_zeros(len(rho), 3)
        unknown[:, 0], unknown[:, 2] = -0.5 * math.log(2 * math.pi), -0.5
        for _ in range(30):
            _, residual, jacobian = fit(unknown, u, t)
            change = torch.linalg.solve(jacobian, residual)
            limit = 0.5 * unknown[:, 2].abs() / (change[:, 2].abs() + 1e-300)
            unknown = unknown + limit.clamp(max=1.0)[:, None] * change
            if float(residual.abs().amax()) < 1e-13:
                break
        _, _, jacobian = fit(unknown, u, t)
    _, residual, _ = fit(unknown, u, t)
    unknown = unknown + torch.linalg.solve(jacobian, residual)
    g, _, _ = fit(unknown, u, t)
    return (g * (rho / t.sqrt())[:, None]).reshape(*shape, -1)


@dataclass(frozen=True)
class LineKinetics:
    """One space axis, one velocity axis; tensors in it may require gradients.

    Distributions are ``[parts, cells, nodes]``: g, and Chu's h where ``dimension > 1``.

    Attributes:
        grid: one axis.
        velocities: one axis.
        dimension: D of the gas.
        relaxation_time: tau(rho, T).
        prandtl: Shakhov's model; 1 is BGK.
        reservoirs: distributions ``[parts, nodes]`` at the low and the high end; None for a
            periodic axis.
        slope: limits slopes; van Leer's is that of the kernel.
    """

    grid: Grid
    velocities: Velocities
    dimension: int
    relaxation_time: RelaxationTime
    prandtl: float | Tensor = 1.0
    reservoirs: tuple[Tensor, Tensor] | None = None
    slope: Slope = van_leer

    @staticmethod
    def of(world: KineticWorld) -> "LineKinetics":
        """Return the compact of a world with one problem.

        Raises:
            InputError: more axes, ES-BGK, or walls.
        """
        if world.grid.dim != 1 or world.velocities.axes != 1 or world.model == "es":
            raise InputError(
                "line kinetics: one axis of space and velocity, bgk or shakhov"
            )
        if world.batch != 1:
            raise InputError(f"line kinetics: one problem, not {world.batch}")
        if world.gas.prandtl_ends[0] != world.gas.prandtl_ends[1]:
            raise InputError("line kinetics: a Prandtl number that is the same everywhere")
        knudsen = world.knudsen[0]
        bare = LineKinetics(
            world.grid,
            world.velocities,
            world.gas.dimension,
            lambda rho, t: world.gas.relaxation_time(knudsen, rho, t),
            world.gas.prandtl if world.model == "shakhov" else 1.0,
        )
        return bare._with_sides(world.sides[0], knudsen.device)

    def _with_sides(self, sides: Sides, device: torch.device) -> "LineKinetics":
        if sides.periodic:
            return self
        ends = []
        for side in (sides.low, sides.high):
            if not isinstance(side, Inflow):
                raise InputError("line kinetics: the ends are periodic or reservoirs")
            state = (side.density, side.velocity[0], side.temperature)
            state = torch.tensor(state, dtype=torch.float64, device=device)
            ends.append(self.equilibrium(*state))
        return self.between(ends[0], ends[1])

    def between(self, low: Tensor, high: Tensor) -> "LineKinetics":
        """Return the same between two reservoirs ``[parts, nodes]``."""
        return replace(self, reservoirs=(low, high))

    def smooth(self, share: float = 1e-2) -> "LineKinetics":
        """Return the same with a slope that has no kinks, for :func:`.steady.solve`.

        Args:
            share: differences below this share of the larger reservoir are not limited.
        """
        assert self.reservoirs is not None
        floor = share * torch.maximum(*(r.detach() for r in self.reservoirs))
        return replace(self, slope=VanAlbada(floor[:, None] + _TINY))

    def equilibrium(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return ``[parts, ..., nodes]`` of fields ``[...]``."""
        g = discrete_maxwellian(self.velocities, density, velocity, temperature)
        rest = self.dimension - 1
        return torch.stack([g, rest * temperature[..., None] * g] if rest else [g])

    # -- moments ----------------------------------------------------------------------

    def weights(self, f: Tensor) -> Tensor:
        """Return P ``[parts, nodes, moments]``, from f to its :meth:`moments`."""
        v, w = self.velocities.like(f)[:, 0], self.velocities.weight
        g = torch.stack([v**k for k in range(4)], -1)
        if len(f) == 1:
            return w * g[None]
        zero, one = torch.zeros_like(v), torch.ones_like(v)
        g = torch.cat([g, g[:, 2:3]], -1)
        return w * torch.stack([g, torch.stack([zero, zero, one, v, zero], -1)])

    def moments(self, f: Tensor) -> Tensor:
        """Return all that collisions know of f, ``[moments, cells]``.

        Sums of g, v g, v^2 g + h, v^3 g + v h; with h also that of v^2 g alone.
        """
        return torch.einsum("qiv,qvm->mi", f, self.weights(f))

    def fields(self, moments: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return density, velocity, temperature, heat flux ``1/2 sum c (c^2 g + h)``."""
        m0, m1, m2, m3 = moments[:4]
        along = moments[-1] if len(moments) == 5 else m2
        u = m1 / m0
        t = (m2 / m0 - u * u) / self.dimension
        return m0, u, t, 0.5 * (m3 - u * m2 - 2 * u * along + 2 * m0 * u**3)

    # -- collisions -------------------------------------------------------------------

    def target(self, rho: Tensor, u: Tensor, t: Tensor, q: Tensor) -> Tensor:
        """Return G ``[parts, cells, nodes]``: Maxwellian, times Shakhov's polynomial.

        Corrected so that G has exactly the mass, momentum and energy of the Maxwellian.
        """
        g = self.equilibrium(rho, u, t)
        if not isinstance(self.prandtl, Tensor) and self.prandtl == 1.0:
            return g
        rest, top = self.dimension - 1, self.dimension + 2
        c = self.velocities.like(g)[:, 0] - u[:, None]
        square = c * c / t[:, None]
        slope = ((1 - self.prandtl) * q / (top * rho * t * t))[:, None] * c
        low, high = slope * (square + rest - top), slope * (square + rest + 2 - top)
        basis = torch.stack([torch.ones_like(c), c / t.sqrt()[:, None], square], -1)
        w = (self.velocities.weight * g[0] / rho[:, None])[..., None]
        right = (w * low[..., None] * basis).sum(1)
        matrix = (w * basis).mT @ basis
        last = torch.tensor([0.0, 0.0, 1.0], dtype=g.dtype, device=g.device)
        right = right + last * rest * (w[..., 0] * high).sum(1, keepdim=True)
        matrix = matrix + last[:, None] * rest * (w * basis).sum(1)[:, None, :]
        fix = torch.linalg.solve(matrix, right)
        more = 1 - (basis @ fix[..., None])[..., 0]
        factors = [more + low] if len(g) == 1 else [more + low, more + high]
        return g * torch.stack(factors)

    def collision(self, f: Tensor) -> Tensor:
        """Return ``(G[f] - f) / tau``."""
        rho, u, t, q = self.fields(self.moments(f))
        return (self.target(rho, u, t, q) - f) / self.relaxation_time(rho, t)[:, None]

    # -- transport --------------------------------------------------------------------

    def stencil(self, f: Tensor) -> Tensor:
        """Return ``[4, parts, cells, nodes]``: two upwind, the cell itself, downwind."""
        if self.reservoirs is None:
            padded = torch.cat([f[:, -2:], f, f[:, :2]], 1)
        else:
            low, high = (r[:, None].expand(-1, 2, -1) for r in self.reservoirs)
            padded = torch.cat([low, f, high], 1)
        n = f.shape[1]
        at = [padded[:, k : k + n] for k in range(5)]
        right = self.velocities.like(f)[:, 0] > 0
        far, near, ahead = (torch.where(right, at[i], at[4 - i]) for i in (0, 1, 3))
        return torch.stack([far, near, f, ahead])

    def advection(self, stencil: Tensor) -> Tensor:
        """Return A, ``v df/dx`` by limited slopes, from :meth:`stencil`."""
        f2, f1, f0, f3 = stencil.unbind(0)
        jump = f0 - f1
        change = self.slope(jump, f3 - f0) - self.slope(f1 - f2, jump)
        rate = self.velocities.like(f0)[:, 0].abs() / self.grid.spacing[0]
        return rate * (jump + 0.5 * change)

    def transport(self, f: Tensor) -> Tensor:
        """Return A(f)."""
        return self.advection(self.stencil(f))

    def residual(self, f: Tensor) -> Tensor:
        """Return R(f), the right-hand side of df/dt."""
        return self.collision(f) - self.transport(f)

    # -- time -------------------------------------------------------------------------

    def step(self, f: Tensor, dt: float) -> Tensor:
        """Advance by one step of ARS(2,2,2)."""
        first, k_in, target_in = self._relaxed(f - GAMMA * dt * self.transport(f), dt)
        ratio = DELTA / GAMMA
        moved = (1 - ratio) * f + ratio * first
        moved = moved - (1 - DELTA) * dt * self.transport(first)
        out, k, _ = self._relaxed(moved, dt)
        lag = (DELTA - (1 - GAMMA)) / GAMMA * k_in / (1 + k)
        return out + lag * (first - target_in)

    def _relaxed(self, f: Tensor, dt: float) -> tuple[Tensor, Tensor, Tensor]:
        rho, u, t, q = self.fields(self.moments(f))
        k = GAMMA * dt / self.relaxation_time(rho, t)
        # the heat flux at the end of the implicit stage
        target = self.target(rho, u, t, q / (1 + k * self.prandtl))
        k = k[:, None]
        return (f + k * target) / (1 + k), k, target

    def advance(self, f: Tensor, dt: float, steps: int, segment: int = 16) -> Tensor:
        """Make many steps; on the way back each segment is run again from its start.

        LoopState: a state per segment, and the graph of one segment.
        """

        def run(f: Tensor, count: int) -> Tensor:
            for _ in range(count):
                f = self.step(f, dt)
            return f

        for first in range(0, steps, segment):
            count = min(segment, steps - first)
            f = checkpoint(run, f, count, use_reentrant=False)  # type: ignore[assignment]
        return f
