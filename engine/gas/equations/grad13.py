r"""Grad's thirteen moments with a monitor of hyperbolicity.

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

The flux is the local Lax-Friedrichs one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ..boundaries import WallAt, component
from ..material import Gas
from ..scheme.finite_volume import Rows, Transport, entropy

SPEED = 2.8
"""Bound of the signal speed over ``sqrt(theta)``; at equilibrium it is 2.1305."""

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
STRESS = {(0, 0): 5, (0, 1): 6, (0, 2): 7, (1, 1): 8, (1, 2): 9}
"""Places of the stress in w; ``sigma_zz`` is what makes the trace vanish."""
T, HEAT, COUNT = 4, 10, 13

Three = list[Tensor]


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
class Grad13:
    """Grad's thirteen moments; see the module's text. ``Equations``.

    Attributes:
        gas: D = 3.
    """

    gas: Gas

    name = "grad13"
    dims = (1, 2, 3)
    positive = (0, T)
    remedy = "Grad-13 is ill-posed where complex_fraction > 0; use hermite, nsf or kinetic"
    learned = False

    def __post_init__(self) -> None:
        if self.gas.dimension != 3:
            raise InputError("grad13: three velocity dimensions (gas.dimension = 3)")

    def primitive(self, moments: Tensor) -> Tensor:
        """See :func:`primitive`."""
        return primitive(moments)

    def conserved(self, w: Tensor) -> Tensor:
        """See :func:`conserved`."""
        return conserved(w)

    def equilibrium(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return w of a gas without stress and heat flux."""
        none = torch.zeros_like(density)
        u = [velocity[..., d] if d < velocity.shape[-1] else none for d in range(3)]
        return torch.stack([density, *u, temperature, *[none] * 8], 1)

    def thermal(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature."""
        return w[:, 0], w[:, 1:4].movedim(1, -1), w[:, T]

    def fastest(self, w: Tensor, axis: int) -> Tensor:
        """Return ``|u| + SPEED sqrt(T)`` along an axis."""
        return w[:, 1 + axis].abs() + SPEED * w[:, T].clamp(min=1e-9).sqrt()

    def transport(self, rows: Rows) -> Transport:
        """Return the local Lax-Friedrichs flux."""
        left, right, axis = rows.left, rows.right, rows.axis
        speed = torch.maximum(self.fastest(left, axis), self.fastest(right, axis))[:, None]
        smear = speed * (conserved(right) - conserved(left))
        return Transport(0.5 * (flux(left, axis) + flux(right, axis) - smear))

    def relaxed(self, moments: Tensor, time_step: float, knudsen: Tensor) -> Tensor:
        """Relax the stress at ``1/tau``, the heat flux at ``Pr/tau``."""
        w = primitive(moments)
        k = (time_step / self.gas.relaxation_time(knudsen, w[:, 0], w[:, T]))[:, None]
        prandtl = self.gas.prandtl_at(w[:, T : T + 1])
        stress, heat = w[:, 5:HEAT] / (1.0 + k), w[:, HEAT:] / (1.0 + prandtl * k)
        return conserved(torch.cat([w[:, :5], stress, heat], 1))

    def mirrored(self, w: Tensor, wall: WallAt, axis: int, sign: float) -> Tensor:
        """Even moments alike, odd ones with the wall's mean.

        The mean of the two fluxes then has the wall's odd moments, exactly zero mass among
        them, and the dissipation acts as the impedance of the wall.
        """
        odd = at_wall(w, wall, axis, sign)
        pairs = enumerate(w.unbind(1))
        return torch.stack([2.0 * odd[i] - x if i in odd else x for i, x in pairs], 1)

    def observe(self, w: Tensor, dim: int) -> dict[str, Tensor]:
        """Return stress, heat flux, entropy; the monitor of hyperbolicity.

        ``complex_fraction [batch]`` is the fraction of cells with complex characteristic
        speeds along an axis of the grid, ``complex_cell [batch]`` the flat number of the
        worst of them (-1 if none), ``complex_speed [batch]`` its largest imaginary part
        over ``sqrt(theta)``.
        """
        rho, u, t, stress, q = _split(w)
        along = [eigenvalues(w, axis).imag.abs().amax(-1) for axis in range(dim)]
        size = torch.stack(along).amax(0).flatten(1)
        bad = size > 1e-6
        seen = max(2, dim)
        rows = [torch.stack(row[:seen], -1) for row in stress[:seen]]
        return {
            "velocity": torch.stack(u[:seen], -1),
            "stress": torch.stack(rows, -2),
            "heat_flux": torch.stack(q[:seen], -1),
            "entropy": entropy(rho, t, 3),
            "complex_fraction": bad.to(w.dtype).mean(1),
            "complex_cell": torch.where(bad.any(1), size.argmax(1), -1),
            "complex_speed": size.amax(1),
        }


def at_wall(w: Tensor, wall: WallAt, axis: int, sign: float) -> dict[int, Tensor]:
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
