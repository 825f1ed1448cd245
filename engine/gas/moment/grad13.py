r"""Grad's thirteen moments in one or two space dimensions, with a monitor of hyperbolicity.

The gas has three velocity dimensions and all thirteen moments: density, velocity (3),
temperature, stress (5) and heat flux (3). What is advanced is ``<1>, <v_i>, <v_i v_j>,
<v_i v^2>``, conservative but for collisions, with the fluxes along k of Grad's distribution
(Comm. Pure Appl. Math. 2, 1949, p. 331), c = v - u::

    <c_i c_j c_k>   = 2/5 (q_i d_jk + q_j d_ik + q_k d_ij)
    <c_i c_k c^2>   = 5 p theta d_ik + 7 theta sigma_ik

The stress relaxes at ``1/tau``, the heat flux at ``Pr/tau``. Away from equilibrium
eigenvalues turn complex (Mueller, Ruggeri 1998, ch. 8). Where stress and heat flux lie
along the axis that happens far away only; with shear it happens as near to equilibrium as
one likes (Cai, Fan, Li, SIAM J. Math. Anal. 46, 2014, p. 3343), with imaginary parts that
are proportional to the distance. Waves shorter than about ``tau`` times that speed then
grow: ``complex_fraction``, ``complex_cell`` and ``complex_speed`` report how often, where
and how much.

Walls are Maxwell's, for the moments odd in the normal velocity (Grad 1949, section 6): as
many conditions as waves leave the wall, see :func:`at_wall`.

MUSCL, local Lax-Friedrichs, IMEX ARS(2,2,2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...errors import InputError
from ..boundaries import Inflow, Open, Sides, Wall, check_sides, component
from ..grid import Grid
from ..material import Gas
from ..observe import refuse_unphysical
from .hermite import DELTA, GAMMA, van_leer

SPEED = 2.8
"""Bound of the signal speed over ``sqrt(theta)``; at equilibrium it is 2.1305."""

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
STRESS = {(0, 0): 5, (0, 1): 6, (0, 2): 7, (1, 1): 8, (1, 2): 9}
"""Places of the stress in w; ``sigma_zz`` is what makes the trace vanish."""
T, HEAT, COUNT = 4, 10, 13

REMEDY = "Grad-13 is ill-posed where complex_fraction > 0; use hermite, nsf or kinetic"

Three = list[Tensor]


@dataclass(frozen=True)
class Grad13State:
    """A batch of flows.

    Attributes:
        moments: ``[batch, 13, *grid.shape]`` = <1>, <v_i>, <v_i v_j> in the order of
            :data:`PAIRS`, <v_i v^2>.
        step: scalar int64.
        time: scalar f64.
    """

    moments: Tensor
    step: Tensor
    time: Tensor


def _split(w: Tensor) -> tuple[Tensor, Three, Tensor, list[Three], Three]:
    """Density, velocity, temperature, stress as rows, heat flux of w."""
    rho, u0, u1, u2, t, xx, xy, xz, yy, yz, *q = w.unbind(1)
    stress = [[xx, xy, xz], [xy, yy, yz], [xz, yz, -(xx + yy)]]
    return rho, [u0, u1, u2], t, stress, q


def _pressure(rho: Tensor, t: Tensor, stress: list[Three]) -> list[Three]:
    p = rho * t
    return [[s + p if i == j else s for j, s in enumerate(r)] for i, r in enumerate(stress)]


def _dot(a: Three, b: Three) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def primitive(moments: Tensor) -> Tensor:
    """Return w = (rho, u, T, sigma_xx, xy, xz, yy, yz, q), ``[batch, 13, ...]``."""
    rho, flow = moments[:, 0], moments[:, 1:4]
    u = [f / rho for f in flow.unbind(1)]
    full = {
        (i, j): m - flow[:, i] * u[j]
        for (i, j), m in zip(PAIRS, moments[:, 4:10].unbind(1), strict=True)
    }
    p = (full[0, 0] + full[1, 1] + full[2, 2]) / 3.0
    u2, heat = _dot(u, u), []
    for i, third in enumerate(moments[:, 10:].unbind(1)):
        row = [full[min(i, j), max(i, j)] for j in range(3)]
        heat.append(0.5 * (third - (rho * u2 + 3.0 * p) * u[i]) - _dot(row, u))
    stress = [full[pair] - p if pair in ((0, 0), (1, 1)) else full[pair] for pair in STRESS]
    return torch.stack([rho, *u, p / rho, *stress, *heat], 1)


def conserved(w: Tensor) -> Tensor:
    """Return the moments of w, ``[batch, 13, ...]``."""
    rho, u, t, stress, q = _split(w)
    full = _pressure(rho, t, stress)
    total = rho * _dot(u, u) + 3.0 * rho * t
    second = [rho * u[i] * u[j] + full[i][j] for i, j in PAIRS]
    third = [total * u[i] + 2.0 * (_dot(full[i], u) + q[i]) for i in range(3)]
    return torch.stack([rho, *(rho * x for x in u), *second, *third], 1)


def flux(w: Tensor, axis: int = 0) -> Tensor:
    """Return the flux along ``axis`` of :func:`conserved` for w, ``[batch, 13, ...]``."""
    rho, u, t, stress, q = _split(w)
    k, p = axis, rho * t
    full = _pressure(rho, t, stress)
    flow, u2, qu = rho * u[k], _dot(u, u), _dot(q, u)
    work = [_dot(row, u) for row in full]
    out = [flow, *(flow * u[i] + full[i][k] for i in range(3))]
    for i, j in PAIRS:
        cube = (
            flow * u[i] * u[j] + u[i] * full[j][k] + u[j] * full[i][k] + u[k] * full[i][j]
        )
        if i == j:
            cube = cube + 0.4 * q[k]
        if j == k:
            cube = cube + 0.4 * q[i]
        if i == k:
            cube = cube + 0.4 * q[j]
        out.append(cube)
    for i in range(3):
        fourth = u[i] * (flow * u2 + 3.0 * p * u[k] + 2.0 * work[k] + 2.8 * q[k])
        fourth = fourth + u2 * full[i][k] + u[k] * (2.0 * work[i] + 2.8 * q[i])
        fourth = fourth + 7.0 * t * stress[i][k]
        out.append(fourth + 5.0 * p * t + 0.8 * qu if i == k else fourth)
    return torch.stack(out, 1)


def eigenvalues(w: Tensor, axis: int = 0) -> Tensor:
    """Return the characteristic speeds along ``axis`` over ``sqrt(theta)``, complex.

    They are those of the gas at rest with unit density and temperature and the same
    ``sigma / p`` and ``q / (p sqrt(theta))``: the system is Galilean and scale invariant.

    Args:
        w: ``[batch, 13, ...]``.
        axis: direction.

    Returns:
        ``[batch, ..., 13]``, relative to the gas.
    """
    cells = w.movedim(1, -1)
    p, t = cells[..., :1] * cells[..., T : T + 1], cells[..., T : T + 1]
    one, zero = torch.ones_like(p), torch.zeros_like(cells[..., 1:4])
    scaled = torch.cat(
        [one, zero, one, cells[..., 5:10] / p, cells[..., 10:] / (p * t.sqrt())], -1
    ).reshape(-1, COUNT)

    def jacobian(function: Callable[[Tensor], Tensor]) -> Tensor:
        single = torch.func.jacfwd(lambda x: function(x[None])[0])
        return torch.func.vmap(single)(scaled)

    forward, back = jacobian(lambda x: flux(x, axis)), jacobian(conserved)
    matrix = torch.linalg.solve(back, forward, left=False)
    return torch.linalg.eigvals(matrix).reshape(*cells.shape[:-1], COUNT)


@dataclass(frozen=True)
class Grad13World:
    """A Grad-13 problem in one or two dimensions. Implements ``Simulator``.

    Attributes:
        grid: one or two dimensions.
        sides: any, one pair per axis.
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
        if self.grid.dim > 2 or self.gas.dimension != 3:
            raise InputError("grad13: one or two space dimensions and gas.dimension = 3")
        if not bool((self.knudsen > 0).all()):
            raise InputError("knudsen: must be positive everywhere")
        object.__setattr__(self, "knudsen", self.knudsen.to(self.device, self.dtype))

    def with_time_step(self, time_step: float) -> "Grad13World":
        """Return the same world with another step."""
        return replace(self, time_step=time_step)

    # -- initial states ---------------------------------------------------------------

    def start(self, w: Tensor) -> Grad13State:
        """Return the state of w ``[batch, 13, *grid.shape]``, see :func:`primitive`.

        Raises:
            InputError: density or temperature not positive, or a step that is too long.
        """
        if not bool((w[:, 0] > 0).all() and (w[:, T] > 0).all()):
            raise InputError("initial: density and temperature must be positive")
        rate = fastest_rate(w, self.grid)
        if rate * self.time_step > 1.0:
            raise InputError(
                f"time_step: {self.time_step} means a CFL over 1; at most {1.0 / rate:.3g}"
            )
        return Grad13State(
            conserved(w.to(self.device, self.dtype)),
            torch.tensor(0),
            torch.tensor(0.0, dtype=torch.float64),
        )

    def equilibrium(
        self, density: Tensor, velocity: Tensor, temperature: Tensor
    ) -> Grad13State:
        """Return the local equilibrium.

        Args:
            density: ``[batch, *grid.shape]``.
            velocity: ``[batch, *grid.shape, 3]``.
            temperature: ``[batch, *grid.shape]``.
        """
        return self.start(equilibrium(density, velocity, temperature))

    def init(self, rng: torch.Generator) -> Grad13State:
        """Return the gas at rest with unit density and temperature."""
        one = torch.ones(len(self.knudsen), *self.grid.shape, dtype=torch.float64)
        return self.equilibrium(one, torch.zeros(*one.shape, 3), one)

    # -- time -------------------------------------------------------------------------

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
        refuse_unphysical(int(after.step), w[:, 0], w[:, T], REMEDY, after)
        return after

    def _tau(self, w: Tensor) -> Tensor:
        kn = self.knudsen.view(-1, *(1,) * self.grid.dim)
        return self.gas.relaxation_time(kn, w[:, 0], w[:, T])[:, None]

    def _relax(self, moments: Tensor, dt: float) -> Tensor:
        w = primitive(moments)
        k = dt / self._tau(w)
        stress, heat = w[:, 5:HEAT] / (1.0 + k), w[:, HEAT:] / (1.0 + self.gas.prandtl * k)
        return conserved(torch.cat([w[:, :5], stress, heat], 1))

    def _production(self, moments: Tensor) -> Tensor:
        w = primitive(moments)
        rate = 1.0 / self._tau(w)[:, 0]
        _, u, _, stress, q = _split(w)
        zero = torch.zeros_like(rate)
        second = [-rate * stress[i][j] for i, j in PAIRS]
        third = [
            -2.0 * rate * (_dot(stress[i], u) + self.gas.prandtl * q[i]) for i in range(3)
        ]
        return torch.stack([zero, zero, zero, zero, *second, *third], 1)

    def _rates(self, moments: Tensor) -> Tensor:
        w = primitive(moments)
        total = torch.zeros_like(moments)
        for axis in range(self.grid.dim):
            face = self._faces(w.movedim(2 + axis, 2), axis).movedim(2, 2 + axis)
            total -= torch.diff(face, dim=2 + axis) / self.grid.spacing[axis]
        return total

    def _faces(self, w: Tensor, axis: int) -> Tensor:
        """Fluxes at the faces of rows along the third place of ``w``."""
        pair, w = self.sides[axis], self._padded(w, axis)
        slope = van_leer(
            *(torch.diff(w, dim=2)[:, :, s] for s in (slice(-1), slice(1, None)))
        )
        left = w[:, :, 1:-2] + 0.5 * slope[:, :, :-1]
        right = w[:, :, 2:-1] - 0.5 * slope[:, :, 1:]
        if isinstance(pair.low, Wall):
            left[:, :, 0] = mirrored(right[:, :, 0], pair.low, axis, 1.0)
        if isinstance(pair.high, Wall):
            right[:, :, -1] = mirrored(left[:, :, -1], pair.high, axis, -1.0)
        speed = torch.maximum(_fastest(left, axis), _fastest(right, axis))[:, None]
        smear = speed * (conserved(right) - conserved(left))
        return 0.5 * (flux(left, axis) + flux(right, axis) - smear)

    def _padded(self, w: Tensor, axis: int) -> Tensor:
        if self.sides[axis].periodic:
            return torch.cat([w[:, :, -2:], w, w[:, :, :2]], 2)
        low = _ghost(self.sides[axis].low, w[:, :, :1], w[:, :, 1:2])
        high = _ghost(self.sides[axis].high, w[:, :, -1:], w[:, :, -2:-1])
        return torch.cat([low, low, w, high, high], 2)

    # -- observations -----------------------------------------------------------------

    def observe(self, state: Grad13State) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`, with components along x and y; the monitor.

        ``complex_fraction [batch]`` is the fraction of cells with complex characteristic
        speeds along an axis of the grid, ``complex_cell [batch]`` the flat number of the
        worst of them (-1 if none), ``complex_speed [batch]`` its largest imaginary part
        over ``sqrt(theta)``.
        """
        w = primitive(state.moments)
        rho, u, t, stress, q = _split(w)
        dim, volume = self.grid.dim, self.grid.volume
        size = torch.stack(
            [eigenvalues(w, axis).imag.abs().amax(-1) for axis in range(dim)]
        ).amax(0)
        size = size.flatten(1)
        bad = size > 1e-6
        worst = torch.where(bad.any(1), size.argmax(1), -1)
        rows = [torch.stack(row[:2], -1) for row in stress[:2]]
        totals = volume * state.moments.flatten(2).sum(2)
        return {
            "density": rho,
            "velocity": torch.stack(u[:2], -1),
            "temperature": t,
            "stress": torch.stack(rows, -2),
            "heat_flux": torch.stack(q[:2], -1),
            "entropy": rho
            * (1.5 * t.log() - rho.log() + 1.5 * (1 + math.log(2 * math.pi))),
            "mass": totals[:, 0],
            "momentum": totals[:, 1:4],
            "energy": 0.5 * (totals[:, 4] + totals[:, 7] + totals[:, 9]),
            "complex_fraction": bad.to(w.dtype).mean(1),
            "complex_cell": worst,
            "complex_speed": size.amax(1),
        }


def equilibrium(density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
    """Return w of a gas without stress and heat flux, ``[batch, 13, *cells]``."""
    zero = torch.zeros_like(density)
    return torch.stack([density, *velocity.unbind(-1), temperature, *[zero] * 8], 1)


def fastest_rate(w: Tensor, grid: Grid) -> float:
    """Return ``max sum (|u_d| + SPEED sqrt(T)) / dx_d`` of w ``[batch, 13, *cells]``."""
    rate = [_fastest(w, axis) / h for axis, h in enumerate(grid.spacing)]
    return float(torch.stack(rate).sum(0).amax())


def _fastest(w: Tensor, axis: int) -> Tensor:
    return w[:, 1 + axis].abs() + SPEED * w[:, T].clamp(min=1e-9).sqrt()


def _ghost(side: object, edge: Tensor, inner: Tensor) -> Tensor:
    """The cell beyond the end: what it is, or what gives the last cell its slope."""
    match side:
        case Inflow():
            speeds = [component(side.velocity, d) for d in range(3)]
            values = [side.density, *speeds, side.temperature, *[0.0] * 8]
            shape = (1, COUNT, *(1,) * (edge.dim() - 2))
            return edge.new_tensor(values).view(shape).expand_as(edge)
        case Open():
            return edge
        case Wall():
            ahead = 2.0 * edge - inner
            for place in (0, T):
                # half-way to a value that is not below a fifth stays positive
                ahead[:, place] = torch.maximum(ahead[:, place], 0.2 * edge[:, place])
            return ahead
    raise AssertionError("a periodic axis has no ghost cells")


def at_wall(w: Tensor, wall: Wall, axis: int, sign: float) -> dict[int, Tensor]:
    r"""Return the moments odd in the normal velocity that Maxwell's wall gives the gas.

    Let the gas at the wall have the distribution f. What leaves the wall is
    ``(1 - a) f(mirrored) + a f_wall``; so the odd part of f is ``a / (2 - a)`` times the
    difference between ``f_wall`` and the even part of f. With the latter from Grad's
    thirteen moments, ``chi = 2 a / (2 - a)``, V the velocity of the wall along itself
    relative to the gas, n into the gas, and ``m = rho sqrt(T / 2 pi) (1 + sigma_nn / 2 p)``
    molecules that hit the wall::

        u_n = 0
        sigma_nt = chi (m V_t - q_t / 5 sqrt(2 pi T))
        q_n = chi (2 m (T_wall - T) + m V^2 / 2 - sigma_nn / 2 sqrt(T / 2 pi))

    (Grad 1949, section 6; signs turn with n along the axis).

    Args:
        w: ``[batch, 13, ...]`` the gas at the wall.
        wall: temperature, velocity and accommodation.
        axis: the normal axis.
        sign: 1 for a wall at the low end, -1 at the high end.

    Returns:
        values by their places in w.
    """
    rho, u, t, stress, q = _split(w)
    chi = sign * 2.0 * wall.accommodation / (2.0 - wall.accommodation)
    thermal = (t.clamp(min=1e-9) / (2.0 * math.pi)).sqrt()
    normal = stress[axis][axis]
    hits = thermal * (rho + 0.5 * normal / t)
    out = {1 + axis: torch.zeros_like(rho)}
    slip2 = torch.zeros_like(rho)
    for d in range(3):
        if d != axis:
            slip = component(wall.velocity, d) - u[d]
            slip2 = slip2 + slip * slip
            place = STRESS[min(d, axis), max(d, axis)]
            out[place] = chi * (hits * slip - 0.2 * thermal / t * q[d])
    warm = 2.0 * (wall.temperature - t) + 0.5 * slip2
    out[HEAT + axis] = chi * (hits * warm - 0.5 * thermal * normal)
    return out


def mirrored(w: Tensor, wall: Wall, axis: int, sign: float) -> Tensor:
    """Return the state beyond a wall: even moments alike, odd ones with the wall's mean.

    The mean of the two fluxes then has the wall's odd moments, exactly zero mass among
    them, and the dissipation acts as the impedance of the wall.
    """
    out = w.clone()
    for place, value in at_wall(w, wall, axis, sign).items():
        out[:, place] = 2.0 * value - w[:, place]
    return out
