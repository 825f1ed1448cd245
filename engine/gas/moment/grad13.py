r"""Grad's thirteen moments in one space dimension, with a monitor of hyperbolicity.

State (density, momentum, ``P = <v_x^2>``, ``<v^2>``, ``<v_x v^2>``), all conservative but
for collisions; with ``theta = T``, ``sigma = sigma_xx``, ``q = q_x`` the fluxes are::

    rho u,   P,   rho u^3 + 3 u (p + sigma) + 6 q / 5,   <v_x v^2>,
    rho u^4 + 8 u^2 p + 5 u^2 sigma + 32/5 u q + 5 p theta + 7 sigma theta

which are the moments of Grad's distribution (Grad, Comm. Pure Appl. Math. 2, 1949, p. 331).
The stress relaxes at ``1/tau``, the heat flux at ``Pr/tau``. Away from equilibrium two
eigenvalues turn complex (Mueller, Ruggeri 1998, ch. 8; Cai, Fan, Li 2014): the system is
then ill-posed, and ``complex_fraction`` and ``complex_cell`` report how much and where.

Walls are Maxwell's: Grad's distribution of the cell leaves, the wall's Maxwellian and the
mirrored rest enter, and the flux through the wall is the half-range integrals of both.

MUSCL, local Lax-Friedrichs, IMEX ARS(2,2,2).
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..boundaries import Inflow, Open, Sides, Wall, check_sides, component
from ..grid import Grid
from ..material import Gas
from ..observe import refuse_unphysical

GAMMA = 1.0 - math.sqrt(0.5)
DELTA = 1.0 - 1.0 / (2.0 * GAMMA)
SPEED = 2.8
"""Bound of the signal speed over ``sqrt(theta)``; at equilibrium it is 2.1301."""

REMEDY = "Grad-13 is ill-posed where complex_fraction > 0; use hermite, nsf or kinetic"


@dataclass(frozen=True)
class Grad13State:
    """A batch of flows.

    Attributes:
        moments: ``[batch, cells, 5]`` = rho, rho u, <v_x^2>, <v^2>, <v_x v^2>.
        step: scalar int64.
        time: scalar f64.
    """

    moments: Tensor
    step: Tensor
    time: Tensor


def primitive(moments: Tensor) -> Tensor:
    """Return (rho, u, T, sigma, q), ``[..., 5]``."""
    rho, flow, along, total, third = moments.unbind(-1)
    u = flow / rho
    p = (total - flow * u) / 3.0
    sigma = along - flow * u - p
    q = 0.5 * (third - flow * u * u - 5.0 * p * u - 2.0 * sigma * u)
    return torch.stack([rho, u, p / rho, sigma, q], -1)


def conserved(w: Tensor) -> Tensor:
    """Return the moments of (rho, u, T, sigma, q)."""
    rho, u, t, sigma, q = w.unbind(-1)
    p = rho * t
    third = rho * u**3 + 5.0 * p * u + 2.0 * sigma * u + 2.0 * q
    return torch.stack(
        [rho, rho * u, rho * u * u + p + sigma, rho * u * u + 3.0 * p, third], -1
    )


def flux(w: Tensor) -> Tensor:
    """Return the flux of :func:`conserved` for (rho, u, T, sigma, q)."""
    rho, u, t, sigma, q = w.unbind(-1)
    p = rho * t
    along = rho * u * u + p + sigma
    cube = rho * u**3 + 3.0 * u * (p + sigma) + 1.2 * q
    third = rho * u**3 + 5.0 * p * u + 2.0 * sigma * u + 2.0 * q
    fourth = rho * u**4 + u * u * (8.0 * p + 5.0 * sigma) + 6.4 * u * q
    fourth = fourth + t * (5.0 * p + 7.0 * sigma)
    return torch.stack([rho * u, along, cube, third, fourth], -1)


def eigenvalues(w: Tensor) -> Tensor:
    """Return the characteristic speeds ``[..., 5]`` complex, of (rho, u, T, sigma, q)."""
    jacobian = torch.func.vmap(torch.func.jacrev(lambda m: flux(primitive(m))))
    flat = conserved(w).reshape(-1, 5)
    return torch.linalg.eigvals(jacobian(flat)).reshape(w.shape)


@dataclass(frozen=True)
class Grad13World:
    """A Grad-13 problem on a line. Implements ``Simulator``.

    Attributes:
        grid: one dimension.
        sides: any; walls without tangential motion.
        gas: D = 3.
        knudsen: ``[batch]``.
        time_step: fixed.
        dtype: f64 or f32.
        device: cpu or cuda.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    gas: Gas
    knudsen: Tensor
    time_step: float
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        check_sides(self.sides, self.grid.dim)
        if self.grid.dim != 1 or self.gas.dimension != 3:
            raise InputError("grad13: one space dimension and gas.dimension = 3")
        for side in (self.sides[0].low, self.sides[0].high):
            if isinstance(side, Wall) and any(side.velocity):
                raise InputError(
                    "boundaries.x: grad13 in one dimension has no tangential velocity"
                )
        object.__setattr__(self, "knudsen", self.knudsen.to(self.device, self.dtype))

    def with_time_step(self, time_step: float) -> "Grad13World":
        """Return the same world with another step."""
        return replace(self, time_step=time_step)

    def start(self, w: Tensor) -> Grad13State:
        """Return the state of (rho, u, T, sigma, q) ``[batch, cells, 5]``.

        Raises:
            InputError: density or temperature not positive, or a step that is too long.
        """
        if not bool((w[..., 0] > 0).all() and (w[..., 2] > 0).all()):
            raise InputError("initial: density and temperature must be positive")
        fastest = float((w[..., 1].abs() + SPEED * w[..., 2].sqrt()).amax())
        if fastest * self.time_step > self.grid.spacing[0]:
            raise InputError(
                f"time_step: {self.time_step} means a CFL over 1; at most "
                f"{self.grid.spacing[0] / fastest:.3g}"
            )
        return Grad13State(
            conserved(w.to(self.device, self.dtype)),
            torch.tensor(0),
            torch.tensor(0.0, dtype=torch.float64),
        )

    def init(self, rng: torch.Generator) -> Grad13State:
        """Return the gas at rest with unit density and temperature."""
        w = torch.zeros(len(self.knudsen), self.grid.cells, 5, dtype=torch.float64)
        w[..., 0] = w[..., 2] = 1.0
        return self.start(w)

    def step(self, state: Grad13State) -> Grad13State:
        """Advance by ``time_step``.

        Raises:
            GuardError: density or temperature not positive.
        """
        dt, old = self.time_step, state.moments
        rate0 = self._rates(old)
        first = self._relax(old + GAMMA * dt * rate0, GAMMA * dt)
        lag = (1.0 - GAMMA) * dt * self._production(first)
        moved = old + dt * (DELTA * rate0 + (1.0 - DELTA) * self._rates(first)) + lag
        after = Grad13State(self._relax(moved, GAMMA * dt), state.step + 1, state.time + dt)
        w = primitive(after.moments)
        refuse_unphysical(int(after.step), w[..., 0], w[..., 2], REMEDY, after)
        return after

    def _tau(self, w: Tensor) -> Tensor:
        return self.gas.relaxation_time(self.knudsen[:, None], w[..., 0], w[..., 2])

    def _relax(self, moments: Tensor, dt: float) -> Tensor:
        w = primitive(moments)
        k = dt / self._tau(w)
        decay = torch.stack([1.0 / (1.0 + k), 1.0 / (1.0 + self.gas.prandtl * k)], -1)
        return conserved(torch.cat([w[..., :3], w[..., 3:] * decay], -1))

    def _production(self, moments: Tensor) -> Tensor:
        w = primitive(moments)
        rate = 1.0 / self._tau(w)
        stress, heat = -rate * w[..., 3], -self.gas.prandtl * rate * w[..., 4]
        zero = torch.zeros_like(stress)
        return torch.stack(
            [zero, zero, stress, zero, 2 * w[..., 1] * stress + 2 * heat], -1
        )

    def _rates(self, moments: Tensor) -> Tensor:
        w = self._padded(primitive(moments))
        d = w[:, 1:] - w[:, :-1]
        p = d[:, :-1] * d[:, 1:]
        total = d[:, :-1] + d[:, 1:]
        slopes = torch.where(p > 0, 2 * p / torch.where(p > 0, total, 1.0), 0.0)
        left, right = w[:, 1:-2] + 0.5 * slopes[:, :-1], w[:, 2:-1] - 0.5 * slopes[:, 1:]
        speed = torch.maximum(_fastest(left), _fastest(right))
        face = 0.5 * (flux(left) + flux(right)) - 0.5 * speed * (
            conserved(right) - conserved(left)
        )
        for side, at, sign in (
            (self.sides[0].low, 0, 1.0),
            (self.sides[0].high, face.shape[1] - 1, -1.0),
        ):
            if isinstance(side, Wall):
                edge = right[:, 0] if sign > 0 else left[:, -1]
                wall = wall_flux(edge, side, sign)[:, None]
                face = torch.cat([face[:, :at], wall, face[:, at + 1 :]], 1)
        return -(face[:, 1:] - face[:, :-1]) / self.grid.spacing[0]

    def _padded(self, w: Tensor) -> Tensor:
        if self.sides[0].periodic:
            return torch.cat([w[:, -2:], w, w[:, :2]], 1)
        low, high = (
            _ghost(s, w[:, i])
            for s, i in ((self.sides[0].low, 0), (self.sides[0].high, -1))
        )
        return torch.cat([low, low, w, high, high], 1)

    def observe(self, state: Grad13State) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`, and the monitor.

        ``complex_fraction [batch]`` is the fraction of cells with complex characteristic
        speeds, ``complex_cell [batch]`` the worst of them (-1 if none).
        """
        w = primitive(state.moments)
        rho, u, t, sigma, q = w.unbind(-1)
        dx = self.grid.spacing[0]
        size = eigenvalues(w).imag.abs().amax(-1) / t.sqrt()
        bad = size > 1e-6
        worst = torch.where(bad.any(1), size.argmax(1), -1)
        return {
            "density": rho,
            "velocity": u[..., None],
            "temperature": t,
            "stress": sigma[..., None, None],
            "heat_flux": q[..., None],
            "entropy": rho
            * (1.5 * t.log() - rho.log() + 1.5 * (1 + math.log(2 * math.pi))),
            "mass": dx * rho.sum(1),
            "momentum": dx * (rho * u).sum(1, keepdim=True),
            "energy": 0.5 * dx * state.moments[..., 3].sum(1),
            "complex_fraction": bad.to(w.dtype).mean(1),
            "complex_cell": worst,
        }


def _fastest(w: Tensor) -> Tensor:
    return (w[..., 1].abs() + SPEED * w[..., 2].clamp(min=1e-9).sqrt())[..., None]


def _ghost(side: object, edge: Tensor) -> Tensor:
    match side:
        case Inflow():
            values = [side.density, component(side.velocity, 0), side.temperature, 0.0, 0.0]
            return edge.new_tensor(values).expand_as(edge)[:, None]
        case Open() | Wall():
            return edge[:, None]
    raise AssertionError("a periodic axis has no ghost cells")


def half_flux(w: Tensor, sign: float, nodes: int = 64) -> Tensor:
    """Return the flux carried by the half of Grad's distribution that moves to ``-sign``.

    Args:
        w: ``[batch, 5]`` (rho, u, T, sigma, q).
        sign: 1 or -1.
        nodes: of the Gauss rule, up to nine thermal speeds.

    Returns:
        ``[batch, 5]``; both halves together are :func:`flux`.
    """
    rho, u, t, sigma, q = (x[:, None] for x in w.unbind(-1))
    points, weights = np.polynomial.legendre.leggauss(nodes)
    v = -sign * w.new_tensor(4.5 * (points + 1)) * t.sqrt()
    c, p = v - u, rho * t
    bell = rho * torch.exp(-0.5 * c * c / t) / (2 * math.pi * t).sqrt()
    # integrals over the two other directions of f, and of f times their squares
    g = bell * (
        1 + sigma * (c * c - t) / (2 * p * t) + q * c * (c * c - 3 * t) / (5 * p * t * t)
    )
    h = bell * (2 * t + sigma * (c * c - 2 * t) / p + 0.4 * q * c * (c * c - t) / (p * t))
    flows = torch.stack([v * g, v**2 * g, v**3 * g, v**3 * g + v * h, v**4 * g + v**2 * h])
    return (flows * w.new_tensor(4.5 * weights) * t.sqrt()).sum(-1).T


def wall_flux(w: Tensor, wall: Wall, sign: float) -> Tensor:
    """Return the flux of the five moments through a wall.

    Args:
        w: ``[batch, 5]`` the gas at the wall.
        wall: temperature and accommodation.
        sign: 1 for the low end, -1 for the high end: direction of what enters.

    Returns:
        ``[batch, 5]``; the first, the mass flux, is zero to round-off.
    """
    out = half_flux(w, sign)
    mirror = w.new_tensor([-1.0, 1.0, -1.0, -1.0, 1.0])
    t, alpha = wall.temperature, wall.accommodation
    rate = math.sqrt(t / (2 * math.pi))
    enters = [sign * rate, t / 2, sign * 2 * t * rate, sign * 4 * t * rate, 2.5 * t**2]
    density = -sign * out[:, :1] / rate
    return out + (1 - alpha) * mirror * out + alpha * density * w.new_tensor(enters)
