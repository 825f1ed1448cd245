r"""Hermite moment equations of a gas with one velocity dimension, with a closure to choose.

The distribution is expanded in the gas's own frame, ``f = sum_k f_k H_k(theta, u)`` with
``f_1 = f_2 = 0``; the state is ``w = (rho, u, theta, f_3 .. f_M)``. For ``a >= 3`` (Cai,
Fan, Li, Commun. Math. Sci. 11, 2013, p. 547, eq. 2.13)::

    df_a/dt + u df_a/dx + (a+1) f_a du/dx - (theta/rho) f_{a-1} drho/dx
      + (theta/2 f_{a-3} + (a-1)/2 f_{a-1}) dtheta/dx - 3/rho f_{a-2} df_3/dx
      + theta df_{a-1}/dx + (a+1) df_{a+1}/dx = - f_a / tau

(``f_0 = rho``); density, momentum and energy obey exact conservation laws with the heat
flux ``q = 3 f_3``. What is unclosed is ``df_{M+1}/dx`` in the last equation:

* Grad's closure sets ``f_{M+1} = 0`` and loses hyperbolicity far from equilibrium;
* HME sets ``df_{M+1}/dx = -f_M du/dx - f_{M-1}/2 dtheta/dx``: eigenvalues
  ``u + c_j sqrt(theta)`` with the roots c_j of He_{M+1}, always real (eq. 3.9 there);
* a :class:`Closure` supplies ``f_{M+1}`` at the faces, a place between the two rows, or a
  source and a signal speed. It is a plain callable, a torch module for instance, and the
  whole step is differentiable.

Space: MUSCL on w (van Leer, or the third-order limiter of :func:`koren`), local
Lax-Friedrichs (conservative part) and its path-conservative counterpart (others), or the
exact upwinding of :mod:`.upwind`. Time: IMEX ARS(2,2,2), the relaxation implicit.

Example::

    world = HermiteWorld(grid, (ALL_PERIODIC,), Gas.constant_time(1), knudsen, order=5)
    state = world.start(kinetic.hermite_moments(kinetic_state, 5))   # [batch, cells, 6]
    state = world.step(state)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ....models.closures.contract import ClosureOutput, FaceStencil
from ...errors import InputError
from ..boundaries import (
    Boundary,
    Inflow,
    Open,
    Periodic,
    Sides,
    Wall,
    check_sides,
    component,
)
from ..grid import Grid
from ..material import Gas
from ..observe import refuse_unphysical
from .upwind import Dissipation, rusanov

GAMMA = 1.0 - math.sqrt(0.5)
DELTA = 1.0 - 1.0 / (2.0 * GAMMA)

REMEDY = "lower the cfl, use fewer moments, or let the closure fall back to hme"


Closure = Callable[[FaceStencil], ClosureOutput]
"""See :mod:`scalebridge.models.closures.contract`; a module of that kind is one."""


def van_leer(behind: Tensor, ahead: Tensor) -> Tensor:
    """Return the harmonic mean of two differences, 0 where their signs differ."""
    p = behind * ahead
    positive = p > 0
    return torch.where(positive, 2 * p / torch.where(positive, behind + ahead, 1.0), 0.0)


def koren(behind: Tensor, ahead: Tensor) -> Tensor:
    """Return twice the step from a cell's mean to its face on the side of ``ahead``.

    ``(behind + 2 ahead) / 3``, exact for parabolas, but no more than twice either
    difference (Koren, Notes Numer. Fluid Mech. 45, 1993, p. 117).
    """
    most = 2.0 * torch.minimum(behind.abs(), ahead.abs())
    size = torch.minimum(most, (behind + 2.0 * ahead).abs() / 3.0)
    return torch.where(behind * ahead > 0, torch.sign(behind) * size, 0.0)


def hyperbolic(faces: FaceStencil) -> ClosureOutput:
    """Return the closure of HME: nothing is added to its row."""
    return ClosureOutput()


def grad(faces: FaceStencil) -> ClosureOutput:
    """Return Grad's closure, ``f_{M+1} = 0``."""
    return ClosureOutput(blend=torch.ones_like(faces.tau))


@dataclass(frozen=True)
class HermiteState:
    """A batch of moment fields.

    Attributes:
        moments: ``[batch, cells, M + 1]`` = (rho, rho u, rho (u^2 + theta), f_3 .. f_M).
        fallbacks: ``[batch]`` faces, summed over steps, where the closure fell back to HME.
        step: scalar int64.
        time: scalar f64.
    """

    moments: Tensor
    fallbacks: Tensor
    step: Tensor
    time: Tensor


def primitive(moments: Tensor) -> Tensor:
    """Return w = (rho, u, theta, f_3 ..) of the state's moments, ``[..., M + 1]``."""
    rho = moments[..., :1]
    u = moments[..., 1:2] / rho
    return torch.cat([rho, u, moments[..., 2:3] / rho - u * u, moments[..., 3:]], -1)


def conserved(w: Tensor) -> Tensor:
    """Return (rho, rho u, rho (u^2 + theta), f_3 ..) of w, ``[..., M + 1]``."""
    rho, u = w[..., :1], w[..., 1:2]
    return torch.cat([rho, rho * u, rho * (u * u + w[..., 2:3]), w[..., 3:]], -1)


def from_raw(raw: Tensor, order: int) -> Tensor:
    """Return w from raw moments ``integral v^k f dv``, ``[..., >= order + 1]``."""
    rho = raw[..., 0]
    u = raw[..., 1] / rho
    central = [
        sum(math.comb(k, j) * raw[..., j] * (-u) ** (k - j) for j in range(k + 1))
        for k in range(order + 1)
    ]
    theta = central[2] / rho  # type: ignore[operator]
    out = [rho, u, theta]
    for k in range(3, order + 1):
        coefficients = np.polynomial.hermite_e.herme2poly([0] * k + [1])
        terms = [
            float(coefficients[j]) * central[j] * theta ** ((k - j) / 2)
            for j in range(k + 1)
        ]
        out.append(torch.stack(terms).sum(0) / math.factorial(k))
    return torch.stack(out, -1)


def to_raw(w: Tensor, order: int) -> Tensor:
    """Return the raw moments 0 .. order of w, ``[..., order + 1]``.

    ``M_n = sum_k f_k n! / (n - k)! G_{n-k}`` with ``G_m = u G_{m-1} + (m - 1) theta
    G_{m-2}``, the raw moments of a Gaussian of unit mass. Orders above that of w take the
    missing f_k as zero, which is Grad's closure.
    """
    u, theta = w[..., 1], w[..., 2]
    gauss = [torch.ones_like(u), u]
    for m in range(2, order + 1):
        gauss.append(u * gauss[-1] + (m - 1) * theta * gauss[-2])
    kept = [0, *range(3, w.shape[-1])]
    raw = [
        sum(w[..., k] * math.perm(n, k) * gauss[n - k] for k in kept if k <= n)
        for n in range(order + 1)
    ]
    return torch.stack(raw, -1)  # type: ignore[arg-type]


def roots(order: int) -> np.ndarray:
    """Return the roots of He_{M+1}: signal speeds of HME over ``sqrt(theta)``."""
    return np.polynomial.hermite_e.hermegauss(order + 1)[0]


def rows(w: Tensor, d: Tensor, order: int, blend: Tensor | None) -> Tensor:
    """Return the non-conservative ``A(w) d`` of the equations of ``f_3 .. f_M``.

    Args:
        w: ``[..., M + 1]`` state.
        d: ``[..., M + 1]`` jump or slope of w.
        order: M.
        blend: ``[...]`` 1 for Grad's last row, None or 0 for HME's.
    """
    rho, u, theta = w[..., 0], w[..., 1], w[..., 2]
    out = []
    for a in range(3, order + 1):
        full = (a + 1) * w[..., a] * d[..., 1]
        if a > 3:
            full = full + 0.5 * (a - 1) * w[..., a - 1] * d[..., 2]
        if a == order:
            # HME replaces (a + 1) df_{a+1} by -(a + 1) (f_a du + f_{a-1} dtheta / 2)
            given = (a + 1) * w[..., a] * d[..., 1]
            if a > 3:
                given = given + 0.5 * (a + 1) * w[..., a - 1] * d[..., 2]
            full = full - given if blend is None else full - (1 - blend) * given
        else:
            full = full + (a + 1) * d[..., a + 1]
        full = full + u * d[..., a]
        if a == 3:
            full = full + 0.5 * theta * rho * d[..., 2]
        else:
            full = full - w[..., a - 1] * theta / rho * d[..., 0] + theta * d[..., a - 1]
            if a > 5:
                full = full + 0.5 * theta * w[..., a - 3] * d[..., 2]
            if a > 4:
                full = full - 3 * w[..., a - 2] / rho * d[..., 3]
        out.append(full)
    return torch.stack(out, -1)


@dataclass(frozen=True)
class HermiteWorld:
    """A moment problem in one space dimension; see the module's text. A ``Simulator``.

    Attributes:
        grid: one dimension.
        sides: one pair of boundaries.
        gas: D = 1.
        knudsen: ``[batch]`` or ``[batch, cells]``.
        order: M, at least 3; there are M + 1 equations, M - 2 beyond Euler.
        closure: see :class:`Closure`; default HME.
        dissipation: :func:`~.upwind.rusanov`, or :func:`~.upwind.roe`, which smears less.
        limiter: :func:`van_leer`, or :func:`koren`, which smears smooth flows less.
        cfl: Courant number of the largest signal speed.
        time_step: fixed step; the CFL is then the caller's to keep.
        dtype: f64 or f32.
        device: cpu or cuda.
        check: refuse unphysical states after every step (needs a look at the values; set
            False inside a training loop).
    """

    grid: Grid
    sides: tuple[Sides, ...]
    gas: Gas
    knudsen: Tensor
    order: int
    time_step: float
    closure: Closure = hyperbolic
    dissipation: Dissipation = rusanov
    limiter: Callable[[Tensor, Tensor], Tensor] = van_leer
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    check: bool = True

    def __post_init__(self) -> None:
        check_sides(self.sides, self.grid.dim)
        if self.grid.dim != 1 or self.gas.dimension != 1:
            raise InputError(
                "hermite: one space and one velocity dimension (gas.dimension = 1)"
            )
        if self.order < 3:
            raise InputError(f"hermite.order: {self.order}; at least 3 (for less: euler)")
        if not bool((self.knudsen > 0).all()):
            raise InputError("knudsen: must be positive everywhere")
        for wall in (self.sides[0].low, self.sides[0].high):
            if isinstance(wall, Wall) and wall.velocity and any(wall.velocity):
                raise InputError("boundary.velocity: a 1D gas has no tangential direction")
        object.__setattr__(self, "knudsen", self.knudsen.to(self.device, self.dtype))

    @cached_property
    def speed(self) -> float:
        """Largest signal speed over ``sqrt(theta)`` of HME."""
        return float(roots(self.order).max())

    @staticmethod
    def stable_step(grid: Grid, w: Tensor, order: int, cfl: float = 0.45) -> float:
        """Return the step of the given Courant number for a start w."""
        fastest = (w[..., 1].abs() + float(roots(order).max()) * w[..., 2].sqrt()).amax()
        return cfl * grid.spacing[0] / float(fastest)

    def with_time_step(self, time_step: float) -> "HermiteWorld":
        """Return the same world with another step."""
        return replace(self, time_step=time_step)

    def start(self, w: Tensor) -> HermiteState:
        """Return the state of w ``[batch, cells, M + 1]`` (see :func:`from_raw`).

        Raises:
            InputError: density or temperature not positive.
        """
        if not bool((w[..., 0] > 0).all() and (w[..., 2] > 0).all()):
            raise InputError("initial: density and temperature must be positive")
        moments = conserved(w[..., : self.order + 1].to(self.device, self.dtype))
        return HermiteState(
            moments,
            torch.zeros(len(w), dtype=self.dtype, device=self.device),
            torch.tensor(0),
            torch.tensor(0.0, dtype=torch.float64),
        )

    def init(self, rng: torch.Generator) -> HermiteState:
        """Return the gas at rest with unit density and temperature."""
        w = torch.zeros(len(self.knudsen), self.grid.cells, self.order + 1)
        w[..., 0] = w[..., 2] = 1.0
        return self.start(w)

    def step(self, state: HermiteState) -> HermiteState:
        """Advance by ``time_step``; differentiable.

        Raises:
            GuardError: density or temperature not positive (if ``check``).
        """
        dt, old = self.time_step, state.moments
        rate0, count = self.rates(old)
        first = self._relax(old + GAMMA * dt * rate0, GAMMA * dt)
        rate1, _ = self.rates(first)
        lag = (1.0 - GAMMA) * dt * self._production(first)
        moved = old + dt * (DELTA * rate0 + (1.0 - DELTA) * rate1) + lag
        new = self._relax(moved, GAMMA * dt)
        after = HermiteState(new, state.fallbacks + count, state.step + 1, state.time + dt)
        if self.check:
            w = primitive(new.detach())
            refuse_unphysical(int(after.step), w[..., 0], w[..., 2], REMEDY, after)
        return after

    def _tau(self, moments: Tensor) -> Tensor:
        w = primitive(moments)
        kn = self.knudsen if self.knudsen.dim() == 2 else self.knudsen[:, None]
        return self.gas.relaxation_time(kn, w[..., 0], w[..., 2])[..., None]

    def _relax(self, moments: Tensor, dt: float) -> Tensor:
        keep = 1.0 / (1.0 + dt / self._tau(moments))
        return torch.cat([moments[..., :3], moments[..., 3:] * keep], -1)

    def _production(self, moments: Tensor) -> Tensor:
        decay = -moments[..., 3:] / self._tau(moments)
        return torch.cat([torch.zeros_like(moments[..., :3]), decay], -1)

    def rates(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transport part of ``dU/dt`` ``[batch, cells, M + 1]``; fallbacks."""
        w = self._padded(primitive(moments))
        left, right = self._reconstructed(w)
        closing = self.closure(self.stencil(w))
        dx, order = self.grid.spacing[0], self.order
        c = self.speed if closing.speed is None else closing.speed[..., None]
        limit = torch.maximum(
            left[..., 1:2].abs() + c * left[..., 2:3].clamp(min=1e-9).sqrt(),
            right[..., 1:2].abs() + c * right[..., 2:3].clamp(min=1e-9).sqrt(),
        )
        flux = 0.5 * (_flux(left) + _flux(right))
        taken, smear = self.dissipation(left, right, limit)
        flux = flux - 0.5 * taken
        flux = self._seal(flux)
        blend, inside = closing.blend, None
        if blend is not None:
            inside = 0.5 * (blend[:, 1:] + blend[:, :-1])
        jump = rows(0.5 * (left + right), right - left, order, blend)
        begin, end = right[:, :-1], left[:, 1:]
        volume = rows(0.5 * (begin + end), end - begin, order, inside)
        high = -(volume + 0.5 * (jump - smear)[:, 1:] + 0.5 * (jump + smear)[:, :-1]) / dx
        if closing.flux is not None:
            push = (order + 1) * (closing.flux[:, 1:] - closing.flux[:, :-1]) / dx
            high = torch.cat([high[..., :-1], high[..., -1:] - push[..., None]], -1)
        if closing.source is not None:
            add = 0.5 * (closing.source[:, 1:] + closing.source[:, :-1])
            high = torch.cat([high[..., :-1], high[..., -1:] + add[..., None]], -1)
        low = -(flux[:, 1:] - flux[:, :-1]) / dx
        count = torch.zeros(len(moments), dtype=moments.dtype, device=moments.device)
        away = closing.fallback
        if away is not None:
            count = away.to(moments.dtype).sum(1)
        return torch.cat([low, high], -1), count

    def _reconstructed(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return w at the left and the right of each face, from padded cells."""
        d = w[:, 1:] - w[:, :-1]
        behind, ahead = d[:, :-1], d[:, 1:]
        left = w[:, 1:-2] + 0.5 * self.limiter(behind[:, :-1], ahead[:, :-1])
        right = w[:, 2:-1] - 0.5 * self.limiter(ahead[:, 1:], behind[:, 1:])
        return left, right

    def stencil(self, w: Tensor) -> FaceStencil:
        """Return what a closure sees of cells padded by two at either end."""
        low, high = w[:, 1:-2], w[:, 2:-1]
        cells = w[:, 2:-2]
        kn = self.knudsen if self.knudsen.dim() == 2 else self.knudsen[:, None]
        kn = kn.expand(len(w), self.grid.cells)
        periodic = self.sides[0].periodic
        ends = (kn[:, -1:], kn[:, :1]) if periodic else (kn[:, :1], kn[:, -1:])
        kn = torch.cat([ends[0], kn, ends[1]], 1)
        kn = 0.5 * (kn[:, 1:] + kn[:, :-1])
        mean = 0.5 * (low + high)
        tau = self.gas.relaxation_time(
            kn, mean[..., 0].clamp(min=1e-9), mean[..., 2].clamp(min=1e-9)
        )
        return FaceStencil(low, high, cells, tau, self.grid.spacing[0], periodic)

    # -- boundaries -------------------------------------------------------------------

    def _padded(self, w: Tensor) -> Tensor:
        if self.sides[0].periodic:
            return torch.cat([w[:, -2:], w, w[:, :2]], 1)
        low = self._ghost(self.sides[0].low, w[:, :1], w[:, 1:2], 1.0)
        high = self._ghost(self.sides[0].high, w[:, -1:], w[:, -2:-1], -1.0)
        return torch.cat([low[1], low[0], w, high[0], high[1]], 1)

    def _ghost(
        self, side: Boundary, edge: Tensor, next_: Tensor, normal: float
    ) -> tuple[Tensor, Tensor]:
        match side:
            case Open():
                return edge, edge
            case Inflow():
                state = torch.zeros_like(edge)
                values = (side.density, component(side.velocity, 0), side.temperature)
                state[..., :3] = edge.new_tensor(values)
                return state, state
            case Wall():
                near = wall_moments(edge, side, normal)
                far = wall_moments(next_, side, normal)
                return near, far
            case Periodic():
                raise AssertionError("a periodic axis has no ghost cells")

    def _seal(self, flux: Tensor) -> Tensor:
        """Let no mass through a wall: the ghost state does it up to truncation only."""
        if not any(isinstance(s, Wall) for s in (self.sides[0].low, self.sides[0].high)):
            return flux
        gate = torch.ones_like(flux)
        if isinstance(self.sides[0].low, Wall):
            gate[:, 0, 0] = 0.0
        if isinstance(self.sides[0].high, Wall):
            gate[:, -1, 0] = 0.0
        return flux * gate

    # -- observations -----------------------------------------------------------------

    def observe(self, state: HermiteState) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`; ``fallbacks`` counts faces."""
        w = primitive(state.moments)
        rho, u, theta = w[..., 0], w[..., 1], w[..., 2]
        dx = self.grid.spacing[0]
        d = w[:, 1:] - w[:, :-1]
        clipped = (d[:, 1:] * d[:, :-1] < 0).to(w.dtype).mean((1, 2))
        logarithm = 0.5 * theta.clamp(min=1e-30).log() - rho.clamp(min=1e-30).log()
        return {
            "density": rho,
            "velocity": u[..., None],
            "temperature": theta,
            "stress": torch.zeros_like(rho)[..., None, None],
            "heat_flux": 3.0 * w[..., 3:4],
            "entropy": rho * (logarithm + 0.5 * math.log(2 * math.pi) + 0.5),
            "mass": dx * rho.sum(1),
            "momentum": dx * (rho * u).sum(1, keepdim=True),
            "energy": 0.5 * dx * state.moments[..., 2].sum(1),
            "limiter_activity": clipped,
            "fallbacks": state.fallbacks,
        }


def wall_moments(w: Tensor, wall: Wall, normal: float, nodes: int = 96) -> Tensor:
    """Return w of the distribution at a wall: the leaving half is the gas's own expansion.

    The entering half is ``alpha`` times the wall's Maxwellian (density from zero mass flux)
    plus ``1 - alpha`` of the mirrored leaving half; both are put on a velocity grid and
    projected back (Maxwell's conditions for moments of any order).

    Args:
        w: ``[batch, 1, M + 1]`` of the cell at the wall.
        wall: the wall.
        normal: +1 at the low end of the axis, -1 at the high end.
        nodes: nodes of the velocity grid.
    """
    order = w.shape[-1] - 1
    rho, u, theta = w[..., :1], w[..., 1:2], w[..., 2:3].clamp(min=1e-9)
    reach = 6.0 * torch.maximum(theta, theta.new_tensor(wall.temperature)).sqrt() + u.abs()
    line = torch.linspace(-1.0, 1.0, 2 * nodes + 1, dtype=w.dtype, device=w.device)
    v = reach * (0.5 * (line[1:] + line[:-1]))
    weight = reach / nodes
    xi = (v - u) / theta.sqrt()
    series, before, he = rho * torch.ones_like(xi), torch.ones_like(xi), xi
    for k in range(2, order + 1):
        before, he = he, xi * he - (k - 1) * before
        if k > 2:
            series = series + w[..., k : k + 1] * he / theta ** (k / 2)
    gas = series.clamp(min=0.0) * (-0.5 * xi * xi).exp() / (2 * math.pi * theta).sqrt()
    leaving = torch.where(normal * v < 0, gas, 0.0)
    emitted = torch.where(normal * v > 0, (-0.5 * v * v / wall.temperature).exp(), 0.0)
    rate = (leaving * v.abs()).sum(-1, keepdim=True)
    emitted = emitted * rate / (emitted * v.abs()).sum(-1, keepdim=True)
    f = leaving + wall.accommodation * emitted
    f = f + (1.0 - wall.accommodation) * leaving.flip(-1)
    raw = torch.stack([(weight * f * v**k).sum(-1) for k in range(order + 1)], -1)
    return from_raw(raw, order)


def _flux(w: Tensor) -> Tensor:
    rho, u, theta = w[..., 0], w[..., 1], w[..., 2]
    third = rho * u**3 + 3 * rho * u * theta + 6 * w[..., 3]
    return torch.stack([rho * u, rho * (u * u + theta), third], -1)
