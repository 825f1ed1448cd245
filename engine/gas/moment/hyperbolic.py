r"""Hyperbolic moment equations with several velocity dimensions, on 1D and 2D grids.

The distribution of a gas with D velocity dimensions is expanded in its own frame, ``f =
sum_a f_a H_a(theta, u)`` over all multi-indices of ``|a| <= M``, with ``f_0 = rho``,
``f_{e_d} = 0`` and ``sum_d f_{2 e_d} = 0``. In the change of f in a frozen frame::

    D^s_a = df_a/ds + sum_d f_{a - e_d} du_d/ds + 1/2 dtheta/ds sum_d f_{a - 2 e_d}

(s = t or a coordinate) the regularised system is ``D^t + sum_k M_k D^k = collisions`` with
the multiplication by v_k, ``(M_k D)_a = u_k D_a + theta D_{a - e_k} + (a_k + 1) D_{a +
e_k}``, cut off above M (Cai, Fan, Li, Comm. Pure Appl. Math. 67, 2014, p. 464; in this
form Fan, Koellermeier, Li, Li, Torrilhon, J. Stat. Phys. 162, 2016, p. 457). Scaled by
``sqrt(a!) theta^(-|a| / 2)`` every M_k is u_k plus ``sqrt(theta)`` times a constant
symmetric matrix. So all speeds are real in every direction, ``u.n + c sqrt(theta)`` with c
a root of some He_j, j <= M + 1; and since total degree knows no direction, the equations
turn with the axes.

Density, momentum and the second moments along the axes have exact fluxes and are advanced
in conservative form, the other equations along straight paths. MUSCL on ``w``, the exact
``|A|`` for upwinding, IMEX ARS(2,2,2) with BGK, or with Shakhov's model where the Prandtl
number is not 1. For D = 1 this is HME of :mod:`.hermite`.
A :data:`HyperbolicClosure` may supply what was cut off (:mod:`.directional closure`).

Walls are Maxwell's for all moments odd in the normal velocity, see :func:`at_wall`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ....models.closures.contract import ClosureOutput
from ...errors import InputError
from ..boundaries import Inflow, Open, Sides, Wall, check_sides, component
from ..grid import Grid
from ..material import Gas
from ..observe import extrema, refuse_unphysical
from .hermite import DELTA, GAMMA, roots, van_leer

Limiter = Callable[[Tensor, Tensor], Tensor]

REMEDY = "lower the cfl, use fewer moments, or take the kinetic model"
SONIC = 0.1
"""Smallest ``|speed| / sqrt(theta)`` of the upwinding; rounds the sonic points."""


@lru_cache(maxsize=32)
def multi_indices(order: int, axes: int) -> tuple[tuple[int, ...], ...]:
    """Return all multi-indices of total degree up to ``order``, by degree."""
    every = product(range(order + 1), repeat=axes)
    kept = [a for a in every if sum(a) <= order]
    return tuple(sorted(kept, key=lambda a: (sum(a), tuple(-k for k in a))))


def _plus(a: tuple[int, ...], axis: int, step: int) -> tuple[int, ...]:
    return (*a[:axis], a[axis] + step, *a[axis + 1 :])


@dataclass(frozen=True)
class Basis:
    """Tables of one expansion; places are those in :func:`multi_indices`.

    Attributes:
        order: M.
        axes: D.
        indices: the multi-indices.
        low: places of 0, e_d and 2 e_d, ``1 + 2 D``: what has a flux.
        high: the other places.
        below: ``[D, N]`` place of a - e_d, N where there is none.
        twice: ``[D, N]`` place of a - 2 e_d.
        above: ``[D, N]`` place of a + e_d.
        factor: ``[D, N, 1]`` a_d + 1.
        degree: ``[N, 1]`` |a|.
        scale: ``[N, 1]`` sqrt(a!).
        vectors: ``[D, N, N]`` orthonormal eigenvectors of the scaled M_d, columns.
        speeds: ``[D, N, 1]`` their eigenvalues over ``sqrt(theta)``, u_d left out.
    """

    order: int
    axes: int
    indices: tuple[tuple[int, ...], ...]
    low: list[int]
    high: list[int]
    below: list[Tensor]
    twice: list[Tensor]
    above: list[Tensor]
    factor: Tensor
    degree: Tensor
    scale: Tensor
    vectors: Tensor
    speeds: Tensor

    def place(self, *axes: int) -> int:
        """Return the place of the sum of unit vectors along ``axes``."""
        a = (0,) * self.axes
        for axis in axes:
            a = _plus(a, axis, 1)
        return self.indices.index(a)


@lru_cache(maxsize=32)
def basis(order: int, axes: int, dtype: torch.dtype, device: torch.device) -> Basis:
    """Return the tables for all moments up to ``order``."""
    indices = multi_indices(order, axes)
    count, places = len(indices), {a: i for i, a in enumerate(indices)}

    def shifted(axis: int, step: int) -> Tensor:
        at = [places.get(_plus(a, axis, step), count) for a in indices]
        return torch.tensor(at, device=device)

    def real(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

    vectors, speeds = [], []
    for d in range(axes):
        matrix = np.zeros((count, count))
        for i, a in enumerate(indices):
            j = places.get(_plus(a, d, 1))
            if j is not None:
                matrix[i, j] = matrix[j, i] = math.sqrt(a[d] + 1)
        values, columns = np.linalg.eigh(matrix)
        vectors.append(columns)
        speeds.append(values)
    units = [_plus((0,) * axes, d, 1) for d in range(axes)]
    twice = [_plus((0,) * axes, d, 2) for d in range(axes)]
    low = [0, *(places[e] for e in (*units, *twice))]
    return Basis(
        order,
        axes,
        indices,
        low,
        [i for i in range(count) if i not in low],
        [shifted(d, -1) for d in range(axes)],
        [shifted(d, -2) for d in range(axes)],
        [shifted(d, 1) for d in range(axes)],
        real([[a[d] + 1 for a in indices] for d in range(axes)])[..., None],
        real([sum(a) for a in indices])[:, None],
        real([math.sqrt(math.prod(map(math.factorial, a))) for a in indices])[:, None],
        real(np.array(vectors)),
        real(np.array(speeds))[..., None],
    )


# -- algebra at a point: w is [batch, N, points] ------------------------------------------
#
# w holds rho at 0, u_d at e_d, theta_d = P_dd / rho at 2 e_d, f_a elsewhere.


def _theta(b: Basis, w: Tensor) -> Tensor:
    """The temperature, ``[batch, 1, points]``."""
    return sum(w[:, i : i + 1] for i in b.low[1 + b.axes :]) / b.axes  # type: ignore[return-value]


def coefficients(b: Basis, w: Tensor) -> Tensor:
    """Return f_a of w and a zero behind them, ``[batch, N + 1, points]``."""
    f = torch.cat([w, torch.zeros_like(w[:, :1])], 1)
    theta = _theta(b, w)
    for d in range(b.axes):
        i = b.low[1 + b.axes + d]
        f[:, i : i + 1] = 0.5 * w[:, :1] * (w[:, i : i + 1] - theta)
        f[:, b.low[1 + d]] = 0.0
    return f


def _carried(b: Basis, f: Tensor, du: list[Tensor], dtheta: Tensor) -> Tensor:
    """``sum_d f_{a - e_d} du_d + 1/2 dtheta sum_d f_{a - 2 e_d}``."""
    total = 0.0
    for d in range(b.axes):
        total = total + f[:, b.below[d]] * du[d] + 0.5 * f[:, b.twice[d]] * dtheta
    return total  # type: ignore[return-value]


def to_frozen(b: Basis, w: Tensor, f: Tensor, d: Tensor) -> Tensor:
    """Return D of a change d of w; ``f`` is :func:`coefficients` of w."""
    du = [d[:, i : i + 1] for i in b.low[1 : 1 + b.axes]]
    out = d + _carried(b, f, du, _theta(b, d))
    out[:, 0] = d[:, 0]
    for k in range(b.axes):
        i, j = b.low[1 + k], b.low[1 + b.axes + k]
        out[:, i] = w[:, 0] * d[:, i]
        out[:, j] = f[:, j] / w[:, 0] * d[:, 0] + 0.5 * w[:, 0] * d[:, j]
    return out


def from_frozen(b: Basis, w: Tensor, f: Tensor, frozen: Tensor) -> Tensor:
    """Invert :func:`to_frozen`."""
    out = frozen.clone()
    for k in range(b.axes):
        i, j = b.low[1 + k], b.low[1 + b.axes + k]
        out[:, i] = frozen[:, i] / w[:, 0]
        change = frozen[:, j] - f[:, j] / w[:, 0] * frozen[:, 0]
        out[:, j] = 2.0 * change / w[:, 0]
    du = [out[:, i : i + 1] for i in b.low[1 : 1 + b.axes]]
    carried = _carried(b, f, du, _theta(b, out))
    out[:, b.high] = frozen[:, b.high] - carried[:, b.high]
    return out


def apply(b: Basis, w: Tensor, d: Tensor, axis: int) -> Tensor:
    """Return ``A_axis(w) d`` of the system ``w_t + sum_k A_k w_k = 0``."""
    f = coefficients(b, w)
    frozen = to_frozen(b, w, f, d)
    padded = torch.cat([frozen, torch.zeros_like(frozen[:, :1])], 1)
    u = w[:, b.low[1 + axis]][:, None]
    moved = u * frozen + _theta(b, w) * padded[:, b.below[axis]]
    moved = moved + b.factor[axis] * padded[:, b.above[axis]]
    return from_frozen(b, w, f, moved)


@dataclass(frozen=True)
class Edge:
    """Where degree M + 1 meets degree M along one axis k.

    Attributes:
        rows: places of the ``|a| = M``.
        tops: places of ``t = a + e_k`` among those of degree M + 1.
        factor: ``[rows, 1]`` a_k + 1.
        once: ``[D, rows]`` place of t - e_d, N where there is none.
        twice: ``[D, rows]`` place of t - 2 e_d.
    """

    rows: list[int]
    tops: list[int]
    factor: Tensor
    once: list[Tensor]
    twice: list[Tensor]


@lru_cache(maxsize=32)
def edge(
    order: int, axes: int, axis: int, dtype: torch.dtype, device: torch.device
) -> Edge:
    """Return the places of what the equations of degree M need from degree M + 1."""
    indices = multi_indices(order, axes)
    tops = multi_indices(order + 1, axes)[len(indices) :]
    places = {a: i for i, a in enumerate(indices)}
    rows = [i for i, a in enumerate(indices) if sum(a) == order]
    above = [_plus(indices[i], axis, 1) for i in rows]

    def below(d: int, step: int) -> Tensor:
        at = [places.get(_plus(t, d, -step), len(indices)) for t in above]
        return torch.tensor(at, device=device)

    return Edge(
        rows,
        [tops.index(t) for t in above],
        torch.tensor([[float(t[axis])] for t in above], dtype=dtype, device=device),
        [below(d, 1) for d in range(axes)],
        [below(d, 2) for d in range(axes)],
    )


def dropped(b: Basis, w: Tensor, d: Tensor, axis: int) -> Tensor:
    """Return what HME leaves out of the equations of degree M, ``[batch, rows, points]``.

    ``(a_k + 1) (D_t - df_t)`` with ``t = a + e_k``, for a change d of w.
    """
    some, f = edge(b.order, b.axes, axis, w.dtype, w.device), coefficients(b, w)
    dtheta, total = _theta(b, d), 0.0
    for k in range(b.axes):
        i = b.low[1 + k]
        total = total + f[:, some.once[k]] * d[:, i : i + 1]
        total = total + 0.5 * f[:, some.twice[k]] * dtheta
    return some.factor * total


def absolute(b: Basis, w: Tensor, d: Tensor, axis: int) -> Tensor:
    """Return ``|A_axis(w)| d``."""
    f = coefficients(b, w)
    root = _theta(b, w).clamp(min=1e-9).sqrt()
    size = b.scale * root ** (-b.degree)
    speed = (w[:, b.low[1 + axis]][:, None] / root + b.speeds[axis]).abs()
    speed = torch.where(speed < SONIC, 0.5 * (speed * speed / SONIC + SONIC), speed) * root
    waves = b.vectors[axis].T @ (to_frozen(b, w, f, d) * size)
    return from_frozen(b, w, f, (b.vectors[axis] @ (waves * speed)) / size)


def primitive(b: Basis, moments: Tensor) -> Tensor:
    """Return w of the state's moments, ``[batch, N, ...]``."""
    w = moments.clone()
    for d in range(b.axes):
        i, j = b.low[1 + d], b.low[1 + b.axes + d]
        w[:, i] = moments[:, i] / moments[:, 0]
        w[:, j] = moments[:, j] / moments[:, 0] - w[:, i] ** 2
    return w


def conserved(b: Basis, w: Tensor) -> Tensor:
    """Return (rho, rho u_d, <v_d^2>, f_a) of w, ``[batch, N, ...]``."""
    out = w.clone()
    for d in range(b.axes):
        i, j = b.low[1 + d], b.low[1 + b.axes + d]
        out[:, i] = w[:, 0] * w[:, i]
        out[:, j] = w[:, 0] * (w[:, i] ** 2 + w[:, j])
    return out


def flux(b: Basis, w: Tensor, axis: int) -> Tensor:
    """Return the fluxes of rho, rho u_d and <v_d^2>, ``[batch, 1 + 2 D, points]``."""
    rho, u = w[:, 0], [w[:, i] for i in b.low[1 : 1 + b.axes]]
    flow = rho * u[axis]
    momentum, second = [], []
    for d in range(b.axes):
        own = rho * w[:, b.low[1 + b.axes + d]]
        shear = own if d == axis else w[:, b.place(d, axis)]
        cube = (6.0 if d == axis else 2.0) * w[:, b.place(d, d, axis)]
        momentum.append(flow * u[d] + shear)
        second.append(flow * u[d] ** 2 + 2.0 * u[d] * shear + u[axis] * own + cube)
    return torch.stack([flow, *momentum, *second], 1)


def _conserved_jump(b: Basis, w: Tensor, d: Tensor) -> Tensor:
    """Change of rho, rho u_d, <v_d^2> that goes with a small change d of w."""
    rho, step = w[:, 0], d[:, 0]
    momentum, second = [], []
    for k in range(b.axes):
        i, j = b.low[1 + k], b.low[1 + b.axes + k]
        u, du = w[:, i], d[:, i]
        momentum.append(u * step + rho * du)
        second.append((u * u + w[:, j]) * step + 2.0 * rho * u * du + rho * d[:, j])
    return torch.stack([step, *momentum, *second], 1)


# -- the solver ---------------------------------------------------------------------------


HyperbolicClosure = Callable[[Basis, Tensor, Tensor], ClosureOutput]
"""w ``[batch, N, *grid.shape]`` and tau ``[batch, *grid.shape]`` to what was cut off."""


@dataclass(frozen=True)
class HyperbolicState:
    """A batch of moment fields.

    Attributes:
        moments: ``[batch, N, *grid.shape]``, see :func:`conserved`.
        step: scalar int64.
        time: scalar f64.
    """

    moments: Tensor
    step: Tensor
    time: Tensor


@dataclass(frozen=True)
class HyperbolicWorld:
    """Hyperbolic moment equations; see the module's text. Implements ``Simulator``.

    Attributes:
        grid: one or two dimensions.
        sides: one pair of boundaries per axis.
        gas: D at least ``grid.dim``.
        knudsen: ``[batch]``.
        order: M, at least 3.
        time_step: fixed.
        closure: None for HME.
        limiter: :func:`~.hermite.van_leer`, or :func:`~.hermite.koren` for smooth flows.
        dtype: f64 or f32.
        device: cpu or cuda.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    gas: Gas
    knudsen: Tensor
    order: int
    time_step: float
    closure: HyperbolicClosure | None = None
    limiter: Limiter = van_leer
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        check_sides(self.sides, self.grid.dim)
        if not self.grid.dim <= min(2, self.gas.dimension):
            raise InputError(
                f"hermite: {self.grid.dim} space dimensions; at most 2, and no more than "
                f"gas.dimension = {self.gas.dimension}"
            )
        if self.order < 3:
            raise InputError(f"hermite.order: {self.order}; at least 3 (for less: euler)")
        if not bool((self.knudsen > 0).all()):
            raise InputError("knudsen: must be positive everywhere")
        object.__setattr__(self, "knudsen", self.knudsen.to(self.device, self.dtype))

    @cached_property
    def basis(self) -> Basis:
        """Tables of the expansion."""
        return basis(self.order, self.gas.dimension, self.dtype, self.device)

    def with_time_step(self, time_step: float) -> "HyperbolicWorld":
        """Return the same world with another step."""
        return replace(self, time_step=time_step)

    def start(self, w: Tensor) -> HyperbolicState:
        """Return the state of w ``[batch, N, *grid.shape]``: rho, u_d, theta_d, f_a.

        Raises:
            InputError: density or temperature not positive, or a step that is too long.
        """
        b = self.basis
        if not all(bool((w[:, i] > 0).all()) for i in (0, *b.low[1 + b.axes :])):
            raise InputError("initial: density and temperature must be positive")
        rate = fastest_rate(w, self.grid, self.order, b.axes)
        if rate * self.time_step > 1.0:
            raise InputError(
                f"time_step: {self.time_step} means a CFL over 1; at most {1.0 / rate:.3g}"
            )
        return HyperbolicState(
            conserved(b, w.to(self.device, self.dtype)),
            torch.tensor(0),
            torch.tensor(0.0, dtype=torch.float64),
        )

    def equilibrium(
        self, density: Tensor, velocity: Tensor, temperature: Tensor
    ) -> HyperbolicState:
        """Return the local equilibrium of ``[batch, *grid.shape]`` fields (velocity: D)."""
        return self.start(equilibrium(density, velocity, temperature, self.order))

    def init(self, rng: torch.Generator) -> HyperbolicState:
        """Return the gas at rest with unit density and temperature."""
        one = torch.ones(len(self.knudsen), *self.grid.shape, dtype=torch.float64)
        return self.equilibrium(one, torch.zeros(*one.shape, self.gas.dimension), one)

    # -- time -------------------------------------------------------------------------

    def step(self, state: HyperbolicState) -> HyperbolicState:
        """Advance by ``time_step``.

        Raises:
            GuardError: density or temperature not positive.
        """
        dt, old = self.time_step, state.moments
        rate0 = self.rates(old)
        first = self._relax(old + GAMMA * dt * rate0, GAMMA * dt)
        # what relaxed, over its time: the production at the first stage
        lag = (1.0 - GAMMA) / GAMMA * (first - old - GAMMA * dt * rate0)
        moved = old + dt * (DELTA * rate0 + (1.0 - DELTA) * self.rates(first)) + lag
        new = self._relax(moved, GAMMA * dt)
        after = HyperbolicState(new, state.step + 1, state.time + dt)
        rho, theta = self._thermal(primitive(self.basis, new))
        refuse_unphysical(int(after.step), rho, theta, REMEDY, after)
        return after

    def _thermal(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Density, and the least of the temperatures along the axes."""
        b = self.basis
        return w[:, 0], w[:, b.low[1 + b.axes :]].amin(1)

    def _relax(self, moments: Tensor, dt: float) -> Tensor:
        b, w = self.basis, primitive(self.basis, moments)
        theta = _theta(b, w)
        ratio = dt / self.relaxation_time(w)
        keep = 1.0 / (1.0 + ratio)
        heat = self._heat(w) if self.gas.prandtl != 1.0 else []
        w[:, b.high] *= keep[:, None]
        for k, q in enumerate(heat):
            # Shakhov's equilibrium, at the heat flux of the end of the step
            target = (1.0 - self.gas.prandtl) / (b.axes + 2) * q
            target = target / (1.0 + self.gas.prandtl * ratio)
            for d in range(b.axes):
                w[:, b.place(d, d, k)] += ratio * keep * target
        diagonal = b.low[1 + b.axes :]
        w[:, diagonal] = theta + (w[:, diagonal] - theta) * keep[:, None]
        return conserved(b, w)

    def _heat(self, w: Tensor) -> list[Tensor]:
        """The heat flux of w, ``q_k = 3 f_{3 e_k} + sum_{d != k} f_{2 e_d + e_k}``."""
        b, axes = self.basis, range(self.basis.axes)
        return [
            torch.stack(
                [(3.0 if d == k else 1.0) * w[:, b.place(d, d, k)] for d in axes]
            ).sum(0)
            for k in axes
        ]

    def relaxation_time(self, w: Tensor) -> Tensor:
        """Return tau of w, ``[batch, *grid.shape]``."""
        kn = self.knudsen.view(-1, *(1,) * self.grid.dim)
        tau = self.gas.relaxation_time(kn, w[:, 0], _theta(self.basis, w)[:, 0])
        return tau.expand(w[:, 0].shape)

    def rates(self, moments: Tensor) -> Tensor:
        """Return the transport part of the moments' time derivative."""
        w = primitive(self.basis, moments)
        given = None
        if self.closure is not None:
            said = self.closure(self.basis, w, self.relaxation_time(w))
            assert said.flux is not None
            assert said.blend is not None
            given = said.flux, said.blend[:, None]
        total = torch.zeros_like(moments)
        for axis in range(self.grid.dim):
            rows = w.movedim(2 + axis, -1)
            turned = given and tuple(part.movedim(2 + axis, -1) for part in given)
            total -= self._sweep(rows, axis, turned).movedim(-1, 2 + axis)
        return total

    def _sweep(self, w: Tensor, axis: int, given: tuple[Tensor, ...] | None) -> Tensor:
        """Transport along the last axis of ``w [batch, N, ..., cells]``."""
        b, h = self.basis, self.grid.spacing[axis]
        left, right = self._faces(w, axis)
        lead, faces = left.shape[:-1], left.shape[-1]
        flat = (left.flatten(2), right.flatten(2))
        mean, d = 0.5 * (flat[0] + flat[1]), flat[1] - flat[0]
        smear, jump = absolute(b, mean, d, axis), apply(b, mean, d, axis)
        through = 0.5 * (flux(b, flat[0], axis) + flux(b, flat[1], axis))
        through = through - 0.5 * _conserved_jump(b, mean, smear)
        through = self._sealed(through.view(*lead[:1], -1, *lead[2:], faces), axis)
        smear, jump = smear.view(*lead, faces), jump.view(*lead, faces)
        begin, end = right[..., :-1], left[..., 1:]
        middle, slope = (0.5 * (begin + end)).flatten(2), (end - begin).flatten(2)
        inside = apply(b, middle, slope, axis).view_as(begin)
        if given is not None:
            some = edge(b.order, b.axes, axis, w.dtype, w.device)
            top, share = (self._beyond(part, axis) for part in given)
            more = dropped(b, mean, d, axis).unflatten(2, (*lead[2:], faces))
            jump[:, some.rows] += 0.5 * (share[..., 1:] + share[..., :-1]) * more
            more = dropped(b, middle, slope, axis).unflatten(2, begin.shape[2:])
            push = 0.5 * (top[..., 2:] - top[..., :-2])[:, some.tops].flatten(2)
            push = (some.factor * push).view_as(more)
            inside[:, some.rows] += share[..., 1:-1] * more + push
        out = inside + 0.5 * (jump - smear)[..., 1:] + 0.5 * (jump + smear)[..., :-1]
        out[:, b.low] = torch.diff(through, dim=-1)
        return out / h

    def _beyond(self, values: Tensor, axis: int) -> Tensor:
        """One cell more at both ends of the last axis: round the box, or the last one."""
        ends = values[..., :1], values[..., -1:]
        low, high = ends[::-1] if self.sides[axis].periodic else ends
        return torch.cat([low, values, high], -1)

    def _faces(self, w: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        pair = self.sides[axis]
        if pair.periodic:
            w = torch.cat([w[..., -2:], w, w[..., :2]], -1)
        else:
            low = self._ghost(pair.low, w[..., :1], w[..., 1:2])
            high = self._ghost(pair.high, w[..., -1:], w[..., -2:-1])
            w = torch.cat([low, low, w, high, high], -1)
        d = torch.diff(w, dim=-1)
        behind, ahead = d[..., :-1], d[..., 1:]
        left = w[..., 1:-2] + 0.5 * self.limiter(behind, ahead)[..., :-1]
        right = w[..., 2:-1] - 0.5 * self.limiter(ahead, behind)[..., 1:]
        if isinstance(pair.low, Wall):
            left[..., 0] = mirrored(self.basis, right[..., 0], pair.low, axis, 1.0)
        if isinstance(pair.high, Wall):
            right[..., -1] = mirrored(self.basis, left[..., -1], pair.high, axis, -1.0)
        return left, right

    def _ghost(self, side: object, edge: Tensor, inner: Tensor) -> Tensor:
        b = self.basis
        match side:
            case Inflow():
                speeds = [component(side.velocity, d) for d in range(b.axes)]
                values = [side.density, *speeds, *[side.temperature] * b.axes]
                state = torch.zeros_like(edge)
                for i, value in zip(b.low, values, strict=True):
                    state[:, i] = value
                return state
            case Open():
                return edge
            case Wall():
                ahead = 2.0 * edge - inner
                for i in (0, *b.low[1 + b.axes :]):
                    # half-way to a value that is not below a fifth stays positive
                    ahead[:, i] = torch.maximum(ahead[:, i], 0.2 * edge[:, i])
                return ahead
        raise AssertionError("a periodic axis has no ghost cells")

    def _sealed(self, through: Tensor, axis: int) -> Tensor:
        """Let no mass through a wall; products of odd moments would, at second order."""
        pair = self.sides[axis]
        for side, face in ((pair.low, 0), (pair.high, -1)):
            if isinstance(side, Wall):
                through[:, 0, ..., face] = 0.0
        return through

    # -- observations -----------------------------------------------------------------

    def observe(self, state: HyperbolicState) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`."""
        b, dim = self.basis, self.grid.dim
        w = primitive(b, state.moments)
        rho, theta, axes = w[:, 0], _theta(b, w)[:, 0], range(b.axes)

        def stress(i: int, j: int) -> Tensor:
            if i == j:
                return rho * (w[:, b.low[1 + b.axes + i]] - theta)
            return w[:, b.place(i, j)]

        rows = [torch.stack([stress(i, j) for j in axes], -1) for i in axes]
        turned = torch.stack([extrema(rho, 1 + k) for k in range(dim)])
        totals = self.grid.volume * state.moments.flatten(2).sum(2)
        constant = 0.5 * b.axes * (1.0 + math.log(2 * math.pi))
        return {
            "density": rho,
            "velocity": torch.stack([w[:, i] for i in b.low[1 : 1 + b.axes]], -1),
            "temperature": theta,
            "stress": torch.stack(rows, -2),
            "heat_flux": torch.stack(self._heat(w), -1),
            "entropy": rho * (0.5 * b.axes * theta.log() - rho.log() + constant),
            "mass": totals[:, 0],
            "momentum": totals[:, b.low[1 : 1 + b.axes]],
            "energy": 0.5 * totals[:, b.low[1 + b.axes :]].sum(1),
            "limiter_activity": turned.mean(0),
        }


def equilibrium(
    density: Tensor, velocity: Tensor, temperature: Tensor, order: int
) -> Tensor:
    """Return w of a gas in local equilibrium, ``[batch, N, *cells]``.

    Args:
        density: ``[batch, *cells]``.
        velocity: ``[batch, *cells, D]``.
        temperature: ``[batch, *cells]``.
        order: M.
    """
    axes = velocity.shape[-1]
    indices = multi_indices(order, axes)
    w = torch.zeros(density.shape[0], len(indices), *density.shape[1:], dtype=density.dtype)
    w[:, 0] = density
    for i, a in enumerate(indices):
        if sum(a) == 1:
            w[:, i] = velocity[..., a.index(1)]
        elif sum(a) == 2 and 2 in a:
            w[:, i] = temperature
    return w


def fastest_rate(w: Tensor, grid: Grid, order: int, axes: int) -> float:
    """Return ``max sum (|u_d| + c sqrt(theta)) / dx_d`` of w ``[batch, N, *cells]``."""
    indices, c = multi_indices(order, axes), float(roots(order).max())
    diagonal = [i for i, a in enumerate(indices) if sum(a) == 2 and 2 in a]
    thermal = c * w[:, diagonal].mean(1).sqrt()
    units = [
        next(i for i, a in enumerate(indices) if sum(a) == a[d] == 1)
        for d in range(grid.dim)
    ]
    rate = [(w[:, i].abs() + thermal) / h for i, h in zip(units, grid.spacing, strict=True)]
    return float(torch.stack(rate).sum(0).amax())


# -- walls --------------------------------------------------------------------------------


def _at_zero(count: int) -> list[float]:
    """He_m(0), m = 0 .. count."""
    he = [1.0, 0.0]
    for m in range(2, count + 1):
        he.append(-(m - 1) * he[m - 2])
    return he


@lru_cache(maxsize=32)
def _halves(
    order: int, axes: int, axis: int
) -> tuple[tuple[int, tuple[tuple[int, float], ...]], ...]:
    """For every index odd along ``axis``: its place, places of even ones and weights.

    The weight of b for a is ``int_0^inf He_{a_n} He_{b_n} phi dy / a_n!`` where the other
    components agree: by Green's formula ``phi(0) a_n He_{a_n - 1}(0) He_{b_n}(0) / (a_n -
    b_n) / a_n!``.
    """
    indices, he = multi_indices(order, axes), _at_zero(order)
    out = []
    for i, a in enumerate(indices):
        m = a[axis]
        if m % 2 == 0:
            continue
        terms = []
        for j, c in enumerate(indices):
            n = c[axis]
            if n % 2 == 0 and _plus(a, axis, -m) == _plus(c, axis, -n):
                half = m * he[m - 1] * he[n] / (m - n) / math.sqrt(2 * math.pi)
                terms.append((j, half / math.factorial(m)))
        out.append((i, tuple(terms)))
    return tuple(out)


def at_wall(b: Basis, w: Tensor, wall: Wall, axis: int, sign: float) -> dict[int, Tensor]:
    r"""Return the moments odd in the normal velocity that Maxwell's wall gives the gas.

    The odd part of the distribution at a wall of accommodation s is ``s / (2 - s)`` times
    the wall's Maxwellian less the gas's even part, on the half of velocities that enter
    (Grad, Comm. Pure Appl. Math. 2, 1949, section 6). Both are projected on He_a in closed
    form.

    Args:
        b: the expansion.
        w: ``[batch, N, points]`` the gas at the wall.
        wall: temperature, velocity and accommodation.
        axis: the normal axis.
        sign: 1 for a wall at the low end, -1 at the high end.

    Returns:
        values by their places in w.
    """
    theta = _theta(b, w)[:, 0].clamp(min=1e-9)
    root = theta.sqrt()
    f = coefficients(b, w)
    size = [root**-k for k in range(b.order + 1)]
    chi = sign * 2.0 * wall.accommodation / (2.0 - wall.accommodation)
    emitted = _emitted(b, w, wall, axis, theta)
    out, given = {}, None
    for i, terms in _halves(b.order, b.axes, axis):
        even = sum(weight * f[:, j] * size[sum(b.indices[j])] for j, weight in terms)
        if given is None:
            # the first is e_n: no mass passes, which fixes what the wall emits
            given = even / emitted(b.indices[i])
            out[i] = torch.zeros_like(root)
            continue
        out[i] = chi * (given * emitted(b.indices[i]) - even) / size[sum(b.indices[i])]
    return out


def _emitted(
    b: Basis, w: Tensor, wall: Wall, axis: int, theta: Tensor
) -> Callable[[tuple[int, ...]], Tensor]:
    """Half of the wall's Maxwellian of unit density on ``He_a / a!`` of the gas's frame."""
    warm = wall.temperature / theta
    he = _at_zero(b.order)
    normal = [0.5 * torch.ones_like(theta), (warm / (2 * math.pi)).sqrt()]
    for m in range(1, b.order):
        normal.append(he[m] * normal[1] + m * (warm - 1.0) * normal[m - 1])
    along = {}
    for d in range(b.axes):
        if d != axis:
            shift = (component(wall.velocity, d) - w[:, b.low[1 + d]]) / theta.sqrt()
            line = [torch.ones_like(theta), shift]
            for m in range(1, b.order):
                line.append(shift * line[m] + m * (warm - 1.0) * line[m - 1])
            along[d] = line

    def moment(a: tuple[int, ...]) -> Tensor:
        value = normal[a[axis]] / math.prod(map(math.factorial, a))
        for d, line in along.items():
            value = value * line[a[d]]
        return value

    return moment


def mirrored(b: Basis, w: Tensor, wall: Wall, axis: int, sign: float) -> Tensor:
    """Return the state beyond a wall: even moments alike, odd ones with the wall's mean."""
    out = w.clone()
    flat = w.flatten(2) if w.dim() > 2 else w[..., None]
    for place, value in at_wall(b, flat, wall, axis, sign).items():
        out[:, place] = 2.0 * value.view_as(w[:, place]) - w[:, place]
    return out
