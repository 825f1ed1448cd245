r"""Hyperbolic moment equations with any number of velocity dimensions.

The distribution of a gas with D velocity dimensions is expanded in its own frame, ``f =
sum_a f_a H_a(theta, u)`` over all multi-indices of ``|a| <= M``, with ``f_0 = rho``,
``f_{e_d} = 0`` and ``sum_d f_{2 e_d} = 0``. In the change of f in a frozen frame::

    D^s_a = df_a/ds + sum_d f_{a - e_d} du_d/ds + 1/2 dtheta/ds sum_d f_{a - 2 e_d}

(s = t or a coordinate) the regularised system is ``D^t + sum_k M_k D^k = collisions`` with
the multiplication by v_k, ``(M_k D)_a = u_k D_a + theta D_{a - e_k} + (a_k + 1) D_{a +
e_k}``, cut off above M (Cai, Fan, Li, Comm. Pure Appl. Math. 67, 2014, p. 464; for D = 1
Commun. Math. Sci. 11, 2013, p. 547; in this form Fan, Koellermeier, Li, Li, Torrilhon, J.
Stat. Phys. 162, 2016, p. 457). Scaled by ``sqrt(a!) theta^(-|a| / 2)`` every M_k is u_k
plus ``sqrt(theta)`` times a constant symmetric matrix. So all speeds are real in every
direction, ``u.n + c sqrt(theta)`` with c a root of some He_j, j <= M + 1; ``|A|`` needs no
eigenproblem; and since total degree knows no direction, the equations turn with the axes.

What is unclosed is the change of the moments of degree M + 1 along an axis. HME leaves it
out of D; Grad's closure sets the moments themselves to zero and loses real speeds far from
equilibrium; a closure (:mod:`scalebridge.models.closures.contract`) supplies them, a place
between the two rows, or a source and a signal speed. The step is differentiable.

Density, momentum and the second moments along the axes have exact fluxes and are advanced
in conservative form, the other equations along straight paths, upwinded by the exact
``|A|`` (:func:`roe`) or by the fastest signal (:func:`rusanov`). Relaxation is BGK's, or
Shakhov's where the Prandtl number is not 1. Walls are Maxwell's for all moments odd in the
normal velocity, see :func:`at_wall`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.closures.contract import ClosureOutput, FaceStencil
from ...errors import InputError
from ..boundaries import WallAt, component
from ..material import Gas
from ..scheme.finite_volume import MomentWorld, Rows, Transport, entropy

SONIC = 0.1
"""Smallest ``|speed| / sqrt(theta)`` of the upwinding; rounds the sonic points."""

Closure = Callable[[FaceStencil], ClosureOutput]
"""See :mod:`scalebridge.models.closures.contract`; a module of that kind is one."""


def hyperbolic(faces: FaceStencil) -> ClosureOutput:
    """Return the closure of HME: nothing is added to its row."""
    return ClosureOutput()


def grad(faces: FaceStencil) -> ClosureOutput:
    """Return Grad's closure, ``f_{M+1} = 0``."""
    return ClosureOutput(blend=torch.ones_like(faces.tau))


def roots(order: int) -> np.ndarray:
    """Return the roots of He_{M+1}: signal speeds of HME over ``sqrt(theta)``."""
    return np.polynomial.hermite_e.hermegauss(order + 1)[0]


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
        below: ``[D, N]`` place of a - e_d, N where there is none.
        twice: ``[D, N]`` place of a - 2 e_d.
        above: ``[D, N]`` place of a + e_d.
        factor: ``[D, N, 1]`` a_d + 1.
        degree: ``[N, 1]`` |a|.
        scale: ``[N, 1]`` sqrt(a!).
        vectors: ``[D, N, N]`` orthonormal eigenvectors of the scaled M_d, columns.
        speeds: ``[D, N, 1]`` their eigenvalues over ``sqrt(theta)``, u_d left out.
        fastest: the largest of them.
        third: place of the first index of degree 3.
        flow: ``[D, N - third]`` heat flux of the moments of degree 3 and more.
        heated: ``[N - third, D]`` where a heat flux stands in Shakhov's equilibrium.
        lows: ``low`` as an index.
    """

    order: int
    axes: int
    indices: tuple[tuple[int, ...], ...]
    low: list[int]
    below: list[Tensor]
    twice: list[Tensor]
    above: list[Tensor]
    factor: Tensor
    degree: Tensor
    scale: Tensor
    vectors: Tensor
    speeds: Tensor
    fastest: float
    third: int
    flow: Tensor
    heated: Tensor
    lows: Tensor

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
    third = (axes + 1) * (axes + 2) // 2
    heated = np.zeros((count - third, axes))
    for k, d in product(range(axes), repeat=2):
        heated[places[_plus(twice[d], k, 1)] - third, k] = 1.0
    flow = heated.T * [3.0 if 3 in a else 1.0 for a in indices[third:]]
    return Basis(
        order,
        axes,
        indices,
        low,
        [shifted(d, -1) for d in range(axes)],
        [shifted(d, -2) for d in range(axes)],
        [shifted(d, 1) for d in range(axes)],
        real([[a[d] + 1 for a in indices] for d in range(axes)])[..., None],
        real([sum(a) for a in indices])[:, None],
        real([math.sqrt(math.prod(map(math.factorial, a))) for a in indices])[:, None],
        real(np.array(vectors)),
        real(np.array(speeds))[..., None],
        float(roots(order).max()),
        third,
        real(flow),
        real(heated),
        torch.tensor(low, device=device),
    )


# -- algebra at a point: w is [batch, N, points] ------------------------------------------
#
# w holds rho at 0, u_d at e_d, theta_d = P_dd / rho at 2 e_d, f_a elsewhere. The places of
# degree 1 are 1 .. D, those of degree 2 the D (D + 1) / 2 after them.


def temperature(b: Basis, w: Tensor) -> Tensor:
    """Return the temperature, ``[batch, 1, points]``."""
    return sum(w[:, i : i + 1] for i in b.low[1 + b.axes :]) / b.axes  # type: ignore[return-value]


def _by_degree(b: Basis, second: Callable[[int, bool], Tensor]) -> list[Tensor]:
    """``second(place, on an axis)`` for all places of degree 2."""
    first = 1 + b.axes
    axes = b.low[first:]
    return [second(i, i in axes) for i in range(first, b.third)]


def coefficients(b: Basis, w: Tensor) -> Tensor:
    """Return f_a of w and a zero behind them, ``[batch, N + 1, points]``."""
    rho, theta = w[:, :1], temperature(b, w)
    none = torch.zeros_like(rho)

    def second(i: int, axis: bool) -> Tensor:
        at = w[:, i : i + 1]
        return 0.5 * rho * (at - theta) if axis else at

    return torch.cat(
        [rho, *[none] * b.axes, *_by_degree(b, second), w[:, b.third :], none], 1
    )


def _carried(b: Basis, f: Tensor, du: Sequence[Tensor], dtheta: Tensor) -> Tensor:
    """``sum_d f_{a - e_d} du_d + 1/2 dtheta sum_d f_{a - 2 e_d}``."""
    total = 0.0
    for d in range(b.axes):
        total = total + f[:, b.below[d]] * du[d] + 0.5 * f[:, b.twice[d]] * dtheta
    return total  # type: ignore[return-value]


def to_frozen(b: Basis, w: Tensor, f: Tensor, d: Tensor) -> Tensor:
    """Return D of a change d of w; ``f`` is :func:`coefficients` of w."""
    rho, drho, dtheta = w[:, :1], d[:, :1], temperature(b, d)
    none, du = torch.zeros_like(drho), [d[:, 1 + k : 2 + k] for k in range(b.axes)]

    def second(i: int, axis: bool) -> Tensor:
        at = d[:, i : i + 1]
        return f[:, i : i + 1] / rho * drho + 0.5 * rho * (at - dtheta) if axis else at

    df = torch.cat([drho, *[none] * b.axes, *_by_degree(b, second), d[:, b.third :]], 1)
    return df + _carried(b, f, du, dtheta)


def from_frozen(b: Basis, w: Tensor, f: Tensor, frozen: Tensor) -> Tensor:
    """Invert :func:`to_frozen`."""
    rho, drho = w[:, :1], frozen[:, :1]
    du = [frozen[:, 1 + k : 2 + k] / rho for k in range(b.axes)]

    def second(i: int, axis: bool) -> Tensor:
        at = frozen[:, i : i + 1]
        return 2.0 * (at - f[:, i : i + 1] / rho * drho) / rho if axis else at

    low = torch.cat([drho, *du, *_by_degree(b, second)], 1)
    carried = _carried(b, f, du, temperature(b, low))
    return torch.cat([low, frozen[:, b.third :] - carried[:, b.third :]], 1)


def multiplied(b: Basis, w: Tensor, frozen: Tensor, axis: int) -> Tensor:
    """Return ``M_axis D``."""
    padded = torch.cat([frozen, torch.zeros_like(frozen[:, :1])], 1)
    moved = w[:, 1 + axis : 2 + axis] * frozen
    moved = moved + temperature(b, w) * padded[:, b.below[axis]]
    return moved + b.factor[axis] * padded[:, b.above[axis]]


def apply(b: Basis, w: Tensor, d: Tensor, axis: int) -> Tensor:
    """Return ``A_axis(w) d`` of the system ``w_t + sum_k A_k w_k = 0``."""
    f = coefficients(b, w)
    return from_frozen(b, w, f, multiplied(b, w, to_frozen(b, w, f, d), axis))


def _upwinded(b: Basis, w: Tensor, frozen: Tensor, axis: int, sonic: float) -> Tensor:
    """``|M_axis| D``."""
    root = temperature(b, w).clamp(min=1e-9).sqrt()
    size = b.scale * root ** (-b.degree)
    speed = (w[:, 1 + axis : 2 + axis] / root + b.speeds[axis]).abs()
    speed = torch.where(speed < sonic, 0.5 * (speed * speed / sonic + sonic), speed) * root
    waves = b.vectors[axis].T @ (frozen * size)
    return (b.vectors[axis] @ (waves * speed)) / size


def absolute(b: Basis, w: Tensor, d: Tensor, axis: int, sonic: float = SONIC) -> Tensor:
    """Return ``|A_axis(w)| d``."""
    f = coefficients(b, w)
    return from_frozen(b, w, f, _upwinded(b, w, to_frozen(b, w, f, d), axis, sonic))


@dataclass(frozen=True)
class Edge:
    """Where degree M + 1 meets degree M along one axis k.

    Attributes:
        at: places of the ``|a| = M``.
        tops: places of ``t = a + e_k`` among those of degree M + 1.
        factor: ``[rows, 1]`` a_k + 1.
        once: ``[D, rows]`` place of t - e_d, N where there is none.
        twice: ``[D, rows]`` place of t - 2 e_d.
    """

    at: Tensor
    tops: Tensor
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
        torch.tensor(rows, device=device),
        torch.tensor([tops.index(t) for t in above], device=device),
        torch.tensor([[float(t[axis])] for t in above], dtype=dtype, device=device),
        [below(d, 1) for d in range(axes)],
        [below(d, 2) for d in range(axes)],
    )


def dropped(b: Basis, some: Edge, f: Tensor, d: Tensor) -> Tensor:
    """Return what HME leaves out of the equations of degree M, ``[batch, rows, points]``.

    ``(a_k + 1) (D_t - df_t)`` with ``t = a + e_k``, for a change d of w; f are the
    coefficients of w.
    """
    dtheta, total = temperature(b, d), 0.0
    for k in range(b.axes):
        total = total + f[:, some.once[k]] * d[:, 1 + k : 2 + k]
        total = total + 0.5 * f[:, some.twice[k]] * dtheta
    return some.factor * total


def primitive(b: Basis, moments: Tensor) -> Tensor:
    """Return w of the state's moments, ``[batch, N, ...]``."""
    rho = moments[:, :1]
    u = moments[:, 1 : 1 + b.axes] / rho
    axes = b.low[1 + b.axes :]

    def second(i: int, axis: bool) -> Tensor:
        at = moments[:, i : i + 1]
        return at / rho - u[:, axes.index(i), None] ** 2 if axis else at

    return torch.cat([rho, u, *_by_degree(b, second), moments[:, b.third :]], 1)


def conserved(b: Basis, w: Tensor) -> Tensor:
    """Return (rho, rho u_d, <v_d^2>, f_a) of w, ``[batch, N, ...]``."""
    rho, u, axes = w[:, :1], w[:, 1 : 1 + b.axes], b.low[1 + b.axes :]

    def second(i: int, axis: bool) -> Tensor:
        at = w[:, i : i + 1]
        return rho * (u[:, axes.index(i), None] ** 2 + at) if axis else at

    return torch.cat([rho, rho * u, *_by_degree(b, second), w[:, b.third :]], 1)


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


# -- the scheme at the faces --------------------------------------------------------------


@dataclass(frozen=True)
class Faces:
    """Both sides of some faces, ``[batch, N, points]``, and the jump between them.

    Attributes:
        basis: of the expansion.
        axis: normal to the faces.
        left: w.
        right: w.
        mean: of both.
        f: :func:`coefficients` of the mean.
        frozen: D of the jump.
        speed: largest signal over ``sqrt(theta)``, a number or ``[batch, points]``.
    """

    basis: Basis
    axis: int
    left: Tensor
    right: Tensor
    mean: Tensor
    f: Tensor
    frozen: Tensor
    speed: float | Tensor


@dataclass(frozen=True)
class GridStencil:
    """What a closure of several velocity dimensions sees: all cells.

    Attributes:
        cells: ``[batch, N, *grid.shape]`` w.
        tau: ``[batch, *grid.shape]`` relaxation time.
        spacing: widths of a cell.
        periodic: along each axis.
    """

    cells: Tensor
    tau: Tensor
    spacing: tuple[float, ...]
    periodic: tuple[bool, ...]


GridClosure = Callable[[GridStencil], ClosureOutput]
"""Its ``flux`` is the tensor of degree M + 1, ``[batch, components, *grid.shape]``."""


@dataclass(frozen=True)
class GridOutput:
    """What such a closure said: fields of the cells, and :attr:`ClosureOutput.away`."""

    fields: tuple[Tensor, ...]
    fallback: Tensor


Dissipation = Callable[[Faces], tuple[Tensor, Tensor]]
"""To what is taken off: ``[batch, 1 + 2 D, points]`` of the fluxes, ``[batch, N, points]``
of the rest."""


def rusanov(at: Faces) -> tuple[Tensor, Tensor]:
    """Return the local Lax-Friedrichs dissipation: robust, and smears slow waves."""
    b, k, c = at.basis, 1 + at.axis, at.speed
    sides = [
        w[:, k].abs() + c * temperature(b, w)[:, 0].clamp(min=1e-9).sqrt()
        for w in (at.left, at.right)
    ]
    speed = torch.maximum(*sides)[:, None]
    jump = conserved(b, at.right) - conserved(b, at.left)
    return speed * jump[:, b.lows], speed * (at.right - at.left)


def roe(at: Faces) -> tuple[Tensor, Tensor]:
    """Return each characteristic wave's own dissipation at the mean state."""
    b, w = at.basis, at.mean
    waves = from_frozen(b, w, at.f, _upwinded(b, w, at.frozen, at.axis, SONIC))
    return _conserved_jump(b, w, waves), waves


@dataclass(frozen=True)
class Hermite:
    """Hyperbolic moment equations of a gas; see the module's text. ``Equations``.

    Attributes:
        gas: D and the transport law.
        order: M, at least 3.
        closure: None for HME; for D = 1 a :data:`Closure`, else a function of a
            :class:`GridStencil` (:class:`..closures.directional.DirectionalClosure`).
        dissipation: :func:`roe`, or :func:`rusanov`, which is more robust.
    """

    gas: Gas
    order: int = 5
    closure: Any = None
    dissipation: Dissipation = roe

    dims = (1, 2, 3)
    remedy = "lower the cfl, use fewer moments, or take the kinetic model"

    def __post_init__(self) -> None:
        if self.order < 3:
            raise InputError(f"hermite.order: {self.order}; at least 3 (for less: euler)")

    @property
    def name(self) -> str:
        """With the number of equations."""
        count = len(multi_indices(self.order, self.gas.dimension))
        kind = "closure" if self.learned else "grad" if self.closure is grad else "hme"
        return f"{kind}{count}"

    @property
    def learned(self) -> bool:
        """Whether a closure may fall back."""
        return self.closure not in (None, grad, hyperbolic)

    def basis(self, w: Tensor) -> Basis:
        """Return the tables for fields like w."""
        return basis(self.order, self.gas.dimension, w.dtype, w.device)

    @property
    def _places(self) -> list[int]:
        return basis(self.order, self.gas.dimension, torch.float64, CPU).low

    @property
    def conservative(self) -> Sequence[int]:
        """Density, momentum, second moments along the axes."""
        return self._places

    @property
    def positive(self) -> Sequence[int]:
        """Density, and the temperatures along the axes."""
        low = self._places
        return (low[0], *low[1 + self.gas.dimension :])

    def primitive(self, moments: Tensor) -> Tensor:
        """See :func:`primitive`."""
        return primitive(self.basis(moments), moments)

    def conserved(self, w: Tensor) -> Tensor:
        """See :func:`conserved`."""
        return conserved(self.basis(w), w)

    def equilibrium(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return w, ``[batch, N, ...]``."""
        axes, given = self.gas.dimension, velocity.shape[-1]
        indices, none = multi_indices(self.order, axes), torch.zeros_like(density)
        w = [none] * len(indices)
        w[0] = density
        for i, a in enumerate(indices):
            if sum(a) == 1 and a.index(1) < given:
                w[i] = velocity[..., a.index(1)]
            elif sum(a) == 2 and 2 in a:
                w[i] = temperature
        return torch.stack(w, 1)

    def thermal(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature of w."""
        b = self.basis(w)
        return w[:, 0], w[:, 1 : 1 + b.axes].movedim(1, -1), temperature(b, w)[:, 0]

    def fastest(self, w: Tensor, axis: int) -> Tensor:
        """Return ``|u| + c sqrt(theta)`` along an axis."""
        b = self.basis(w)
        return w[:, 1 + axis].abs() + b.fastest * temperature(b, w)[:, 0].sqrt()

    # -- relaxation -------------------------------------------------------------------

    def relaxed(self, moments: Tensor, time_step: float, knudsen: Tensor) -> Tensor:
        """Relax by BGK or Shakhov's model."""
        b, w = self.basis(moments), self.primitive(moments)
        theta, rho = temperature(b, w), w[:, :1]
        tau = self.gas.relaxation_time(knudsen, w[:, 0], theta[:, 0])[:, None]
        ratio = time_step / tau
        keep = 1.0 / (1.0 + ratio)

        def second(i: int, axis: bool) -> Tensor:
            at = w[:, i : i + 1]
            if not axis:
                return at * keep
            u = w[:, 1 + b.low[1 + b.axes :].index(i), None]
            return rho * (u * u + theta + (at - theta) * keep)

        high = w[:, b.third :] * keep
        prandtl = self.gas.prandtl_at(theta)
        if isinstance(prandtl, Tensor) or prandtl != 1.0:
            # Shakhov's equilibrium, at the heat flux of the end of the step
            share = (1.0 - prandtl) / (b.axes + 2)
            share = share * ratio * keep / (1.0 + prandtl * ratio)
            high = high + torch.einsum("nk,bk...->bn...", b.heated, share * heat_flux(b, w))
        return torch.cat([rho, moments[:, 1 : 1 + b.axes], *_by_degree(b, second), high], 1)

    # -- transport --------------------------------------------------------------------

    def transport(self, rows: Rows) -> Transport:
        """Return fluxes of density, momentum and energy, and paths of the rest."""
        b, axis, lead = self.basis(rows.w), rows.axis, rows.left.shape[2:]
        said, closing = self._closing(rows), ClosureOutput()
        if isinstance(said, ClosureOutput):
            closing = said
        at = _faces(b, axis, rows.left.flatten(2), rows.right.flatten(2), closing.speed)
        taken, smear = self.dissipation(at)
        through = 0.5 * (flux(b, at.left, axis) + flux(b, at.right, axis) - taken)
        through = through.unflatten(2, lead)
        jump = _along(at, at.frozen)
        begin, end = rows.right[..., :-1], rows.left[..., 1:]
        inner = _faces(b, axis, begin.flatten(2), end.flatten(2))
        inside = _along(inner, inner.frozen)
        top = _beyond(closing, said, rows)
        if top is not None:
            some = edge(b.order, b.axes, axis, rows.w.dtype, rows.w.device)
            face_share, cell_share, push = top
            more = dropped(b, some, at.f, at.right - at.left)
            jump = jump.index_add(1, some.at, face_share * more)
            more = cell_share * dropped(b, some, inner.f, inner.right - inner.left)
            if push is not None:
                more = more + some.factor * push[:, some.tops].flatten(2)
            inside = inside.index_add(1, some.at, more)
        if closing.source is not None:
            add = 0.5 * (closing.source[..., 1:] + closing.source[..., :-1])
            inside[:, -1] -= rows.spacing * add
        smear, jump = smear.unflatten(2, lead), jump.unflatten(2, lead)
        rest = inside.view_as(begin) + 0.5 * (jump - smear)[..., 1:]
        rest = rest + 0.5 * (jump + smear)[..., :-1]
        away = closing.away
        return Transport(through, rest, None if away is None else away.to(rest).sum(-1))

    def _closing(self, rows: Rows) -> Any:
        """What the closure says of a row, or has said of the whole grid."""
        if rows.given is not None or self.closure is None or self.gas.dimension > 1:
            return rows.given
        return self.closure(self.stencil(rows))

    def stencil(self, rows: Rows) -> FaceStencil:
        """Return what a closure sees of a row, with one velocity dimension."""
        w = rows.w.movedim(1, -1).contiguous()
        low, high = w[:, 1:-2], w[:, 2:-1]
        mean = (0.5 * (low + high)).clamp(min=1e-9)
        tau = self.gas.relaxation_time(rows.knudsen, mean[..., 0], mean[..., 2])
        return FaceStencil(low, high, w[:, 2:-2], tau, rows.spacing, rows.periodic)

    def on_grid(self, w: Tensor, world: MomentWorld) -> GridOutput | None:
        """Ask a closure of several axes: its tensor and share, faces that fell back."""
        if not self.learned or self.gas.dimension == 1:
            return None
        knudsen = world.knudsen.view(-1, *(1,) * world.grid.dim)
        rho, _, theta = self.thermal(w)
        tau = self.gas.relaxation_time(knudsen, rho, theta).expand_as(rho)
        periodic = tuple(pair.periodic for pair in world.sides)
        said = self.closure(GridStencil(w, tau, world.grid.spacing, periodic))
        return GridOutput((said.flux, said.blend[:, None]), said.away)

    # -- walls and observations -------------------------------------------------------

    def mirrored(self, w: Tensor, wall: WallAt, axis: int, sign: float) -> Tensor:
        """Even moments alike, odd ones with the wall's mean."""
        flat = w.flatten(2) if w.dim() > 2 else w[..., None]
        odd = at_wall(self.basis(w), flat, wall.flat(), axis, sign)
        pairs = enumerate(flat.unbind(1))
        beyond = [2.0 * odd[i] - x if i in odd else x for i, x in pairs]
        return torch.stack(beyond, 1).view_as(w)

    def observe(self, w: Tensor, dim: int) -> dict[str, Tensor]:
        """Return stress, heat flux and the entropy of the gas's Maxwellian."""
        b, axes = self.basis(w), range(self.gas.dimension)
        rho, _, theta = self.thermal(w)

        def stress(i: int, j: int) -> Tensor:
            at = w[:, b.place(i, j)]
            return rho * (at - theta) if i == j else at

        rows = [torch.stack([stress(i, j) for j in axes], -1) for i in axes]
        return {
            "stress": torch.stack(rows, -2),
            "heat_flux": heat_flux(b, w).movedim(1, -1),
            "entropy": entropy(rho, theta, b.axes),
        }


CPU = torch.device("cpu")


def heat_flux(b: Basis, w: Tensor) -> Tensor:
    """Return ``q_k = 3 f_{3 e_k} + sum_{d != k} f_{2 e_d + e_k}``, ``[batch, D, ...]``."""
    return torch.einsum("kn,bn...->bk...", b.flow, w[:, b.third :])


def _faces(
    b: Basis, axis: int, left: Tensor, right: Tensor, speed: Tensor | None = None
) -> Faces:
    mean, c = 0.5 * (left + right), b.fastest if speed is None else speed.flatten(1)
    f = coefficients(b, mean)
    frozen = to_frozen(b, mean, f, right - left)
    return Faces(b, axis, left, right, mean, f, frozen, c)


def _along(at: Faces, frozen: Tensor) -> Tensor:
    """``A d`` of a jump d that is ``frozen``."""
    moved = multiplied(at.basis, at.mean, frozen, at.axis)
    return from_frozen(at.basis, at.mean, at.f, moved)


def _beyond(
    closing: ClosureOutput, said: Any, rows: Rows
) -> tuple[Tensor | float, Tensor | float, Tensor | None] | None:
    """Shares of Grad's row at faces and in cells; the change of the tensor over a cell."""
    if isinstance(said, tuple):  # in cells, with one more at either end
        top, share = said
        faces = 0.5 * (share[..., 1:] + share[..., :-1])
        push = 0.5 * (top[..., 2:] - top[..., :-2])
        return faces.flatten(2), share[..., 1:-1].flatten(2), push
    if closing.blend is None and closing.flux is None:
        return None
    faces = cells = 0.0
    if closing.blend is not None:
        faces = closing.blend[:, None]
        cells = 0.5 * (faces[..., 1:] + faces[..., :-1])
    push = None if closing.flux is None else torch.diff(closing.flux, dim=-1)[:, None]
    return faces, cells, push


def hermite_world(
    grid: Any, sides: Any, gas: Gas, knudsen: Tensor, order: int, time_step: float,
    closure: Any = None, dissipation: Dissipation = roe, **options: Any,
) -> MomentWorld:  # fmt: skip
    """Return the equations on a grid; the options are those of :class:`MomentWorld`."""
    equations = Hermite(gas, order, closure, dissipation)
    return MomentWorld(grid, sides, equations, knudsen, time_step, **options)


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


def at_wall(b: Basis, w: Tensor, wall: WallAt, axis: int, sign: float) -> dict[int, Tensor]:
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
    theta = temperature(b, w)[:, 0].clamp(min=1e-9)
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
    b: Basis, w: Tensor, wall: WallAt, axis: int, theta: Tensor
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
