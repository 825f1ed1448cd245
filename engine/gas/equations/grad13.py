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
many conditions as waves leave the wall.

The flux is the local Lax-Friedrichs one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ..boundaries import WallAt
from ..material import Gas
from ..scheme.finite_volume import Rows, Transport
from . import hermite

SPEED = 2.8
"""Bound of the signal speed over ``sqrt(theta)``; at equilibrium it is 2.1305."""

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
T, HEAT, COUNT = 4, 10, 13

Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Density, velocity ``[batch, 3, ...]``, temperature, stress ``[batch, 3, 3, ...]``, heat
flux ``[batch, 3, ...]``."""


def _parts(w: Tensor) -> Parts:
    six = torch.cat([w[:, 5:HEAT], -(w[:, 5:6] + w[:, 8:9])], 1)
    return w[:, 0], w[:, 1:4], w[:, T], _full(six), w[:, HEAT:]


def _full(six: Tensor) -> Tensor:
    """A symmetric matrix, ``[batch, 3, 3, ...]``, from its :data:`PAIRS`."""
    m = six.unbind(1)
    nine = (m[0], m[1], m[2], m[1], m[3], m[4], m[2], m[4], m[5])
    return torch.stack(nine, 1).unflatten(1, (3, 3))


def _pairs(matrix: Tensor, count: int = 6) -> Tensor:
    """The first of the :data:`PAIRS` of a symmetric matrix; no index leaves the host."""
    return torch.stack([matrix[:, i, j] for i, j in PAIRS[:count]], 1)


def _eye(like: Tensor) -> Tensor:
    eye = torch.eye(3, dtype=like.dtype, device=like.device)
    return eye.view(1, 3, 3, *(1,) * (like.dim() - 1))


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :, None] * b[:, None]


def primitive(moments: Tensor) -> Tensor:
    """Return w = (rho, u, T, sigma_xx, xy, xz, yy, yz, q), ``[batch, 13, ...]``."""
    rho, flow = moments[:, 0], moments[:, 1:4]
    u = flow / rho[:, None]
    pressure = _full(moments[:, 4:10]) - _outer(flow, u)
    p = pressure.diagonal(dim1=1, dim2=2).sum(-1) / 3.0
    total = rho * (u * u).sum(1) + 3.0 * p
    heat = 0.5 * (moments[:, 10:] - total[:, None] * u) - (pressure * u[:, None]).sum(2)
    stress = _pairs(pressure - p[:, None, None] * _eye(p), 5)
    return torch.cat([rho[:, None], u, (p / rho)[:, None], stress, heat], 1)


def conserved(w: Tensor) -> Tensor:
    """Return the moments of w, ``[batch, 13, ...]``."""
    rho, u, t, stress, q = _parts(w)
    pressure = stress + (rho * t)[:, None, None] * _eye(rho)
    flow, total = rho[:, None] * u, rho * (u * u).sum(1) + 3.0 * rho * t
    second = _pairs(_outer(flow, u) + pressure)
    third = total[:, None] * u + 2.0 * ((pressure * u[:, None]).sum(2) + q)
    return torch.cat([rho[:, None], flow, second, third], 1)


def flux(w: Tensor, axis: int = 0) -> Tensor:
    """Return the flux along ``axis`` of :func:`conserved` for w, ``[batch, 13, ...]``."""
    rho, u, t, stress, q = _parts(w)
    eye, p = _eye(rho), rho * t
    pressure = stress + p[:, None, None] * eye
    work, u2 = (pressure * u[:, None]).sum(2), (u * u).sum(1)
    uk, qk, along, unit = u[:, axis], q[:, axis], pressure[:, axis], eye[:, axis]
    flow = rho * uk
    mixed = _outer(u, along) + 0.4 * _outer(q, unit.expand_as(q))
    second = _outer(flow[:, None] * u, u) + mixed + mixed.transpose(1, 2)
    second = second + uk[:, None, None] * pressure + 0.4 * qk[:, None, None] * eye
    third = u * (flow * u2 + 3.0 * p * uk + 2.0 * work[:, axis] + 2.8 * qk)[:, None]
    third = third + u2[:, None] * along + uk[:, None] * (2.0 * work + 2.8 * q)
    third = third + 7.0 * t[:, None] * stress[:, axis]
    third = third + unit * (5.0 * p * t + 0.8 * (q * u).sum(1))[:, None]
    first = flow[:, None] * u + along
    return torch.cat([flow[:, None], first, _pairs(second), third], 1)


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

    primitive = staticmethod(primitive)
    conserved = staticmethod(conserved)

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

    def at_wall(self, w: Tensor, wall: WallAt, axis: int, sign: float) -> dict[int, Tensor]:
        """Return the odd moments that Maxwell's wall gives the gas.

        Those of :func:`.hermite.at_wall` for Grad's distribution, which is an expansion of
        degree 3 whose moments of that degree are told by the heat flux. The mean of the two
        fluxes then has the wall's odd moments, exactly zero mass among them, and the
        dissipation acts as the impedance of the wall.
        """
        b = hermite.basis(3, 3, w.dtype, w.device)
        rho, u, t, stress, q = _parts(w)
        spread = (t + stress.diagonal(dim1=1, dim2=2).movedim(-1, 0) / rho).movedim(0, 1)
        second = [spread[:, i] if i == j else stress[:, i, j] for i, j in PAIRS]
        third = torch.einsum("nk,bk...->bn...", b.heated, 0.2 * q)
        lifted = torch.cat([rho[:, None], u, torch.stack(second, 1), third], 1)
        odd = hermite.at_wall(b, lifted, wall, axis, sign)
        heat = sum(b.flow[axis, i - b.third] * odd[i] for i in odd if i >= b.third)
        out = {1 + axis: odd[1 + axis], HEAT + axis: heat}
        for place, (i, j) in enumerate(PAIRS[:-1], start=5):
            if i != j and axis in (i, j):
                out[place] = odd[b.place(i, j)]
        return out  # type: ignore[return-value]

    def observe(self, w: Tensor, dim: int) -> dict[str, Tensor]:
        """Return velocity, stress, heat flux; the monitor of hyperbolicity.

        ``complex_fraction [batch]`` is the fraction of cells with complex characteristic
        speeds along an axis of the grid, ``complex_cell [batch]`` the flat number of the
        worst of them (-1 if none), ``complex_speed [batch]`` its largest imaginary part
        over ``sqrt(theta)``.
        """
        _, u, _, stress, q = _parts(w)
        along = [eigenvalues(w, axis).imag.abs().amax(-1) for axis in range(dim)]
        size = torch.stack(along).amax(0).flatten(1)
        bad, seen = size > 1e-6, max(2, dim)
        return {
            "velocity": u[:, :seen].movedim(1, -1),
            "stress": stress[:, :seen, :seen].movedim((1, 2), (-2, -1)),
            "heat_flux": q[:, :seen].movedim(1, -1),
            "complex_fraction": bad.to(w.dtype).mean(1),
            "complex_cell": torch.where(bad.any(1), size.argmax(1), -1),
            "complex_speed": size.amax(1),
        }
