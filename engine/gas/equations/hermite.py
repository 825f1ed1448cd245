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
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....models.closures.contract import Closure, ClosureOutput, FaceStencil
from ...errors import InputError
from ...kernels.indices import multi_indices
from ...kernels.jumps import Expansion, Tables, jumps
from ...kernels.sweeps import Closing, sweep
from ...runtime import unfollowed
from ..boundaries import WallAt, component
from ..material import Gas
from ..mixture import expansion, totals
from ..scheme.finite_volume import Limiter, MomentWorld, Rows, Transport
from .fused import LIMITERS, FusedLine, fused

SONIC = 0.1
"""Smallest ``|speed| / sqrt(theta)`` of the upwinding; rounds the sonic points."""


def hyperbolic(faces: FaceStencil) -> ClosureOutput:
    """Return the closure of HME: nothing is added to its row."""
    return ClosureOutput()


def grad(faces: FaceStencil) -> ClosureOutput:
    """Return Grad's closure, ``f_{M+1} = 0``."""
    return ClosureOutput(blend=torch.ones_like(faces.tau))


def roots(order: int) -> np.ndarray:
    """Return the roots of He_{M+1}: signal speeds of HME over ``sqrt(theta)``."""
    return np.polynomial.hermite_e.hermegauss(order + 1)[0]


def _plus(a: tuple[int, ...], axis: int, step: int) -> tuple[int, ...]:
    return (*a[:axis], a[axis] + step, *a[axis + 1 :])


class Basis:
    """Tables of one expansion, of N = ``len(indices)`` places: those of the indices."""

    def __init__(
        self, order: int, axes: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        indices, unit = multi_indices(order, axes), np.eye(axes, dtype=int)
        places = {a: i for i, a in enumerate(indices)}
        self.order, self.axes, self.indices, self._places = order, axes, indices, places

        def shifted(step: int) -> list[Tensor]:
            at = [[places.get(_plus(a, d, step), len(indices)) for a in indices]
                  for d in range(axes)]  # fmt: skip
            return list(torch.tensor(at, device=device))

        def real(values: Any) -> Tensor:
            return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

        # places of a - e_d, a - 2 e_d and a + e_d, ``[D, N]``; N where there is none
        self.below, self.twice, self.above = (shifted(step) for step in (-1, -2, 1))
        # ``[D, N, 1]`` a_d + 1; ``[N, 1]`` |a| and sqrt(a!)
        self.factor = real([[a[d] + 1 for a in indices] for d in range(axes)])[..., None]
        self.degree = real([sum(a) for a in indices])[:, None]
        factorials = [math.prod(map(math.factorial, a)) for a in indices]
        self.scale = real(np.sqrt(np.array(factorials, float)))[:, None]
        # of the scaled M_d: eigenvalues over sqrt(theta), without u_d, ``[D, N, 1]``, and
        # orthonormal eigenvectors, the columns of ``[D, N, N]``
        values, columns = np.linalg.eigh([self._scaled(d) for d in range(axes)])
        self.speeds, self.vectors = real(values)[..., None], real(columns)
        self.fastest = float(roots(order).max())
        # places of 0, e_d and 2 e_d, which have a flux; the first of degree 3
        twice = [tuple(2 * e) for e in unit]
        self.low = [0, *(places[tuple(e)] for e in unit), *(places[e] for e in twice)]
        self.lows = torch.tensor(self.low, device=device)
        self.third = (axes + 1) * (axes + 2) // 2
        # ``[N]`` whether a is some e_d, or some 2 e_d; the place of e_d for 2 e_d, else 0
        single = [a.index(2) + 1 if a in twice else 0 for a in indices]
        self.single = torch.tensor(single, device=device)
        self.diagonal, self.first = self.single > 0, self.degree[:, 0] == 1
        # ``[N - third, D]`` where a heat flux stands in Shakhov's equilibrium, and
        # ``[D, N - third]`` that of the moments of degree 3 and more
        heated = np.zeros((len(indices) - self.third, axes))
        for k, d in product(range(axes), repeat=2):
            heated[places[_plus(twice[d], k, 1)] - self.third, k] = 1.0
        self.heated = real(heated)
        self.flow = real(heated.T * [3.0 if 3 in a else 1.0 for a in indices[self.third :]])

    def _scaled(self, axis: int) -> np.ndarray:
        matrix = np.zeros((len(self.indices),) * 2)
        for i, a in enumerate(self.indices):
            j = self._places.get(_plus(a, axis, 1))
            if j is not None:
                matrix[i, j] = matrix[j, i] = math.sqrt(a[axis] + 1)
        return matrix

    def place(self, *axes: int) -> int:
        """Return the place of the sum of unit vectors along ``axes``."""
        return self._places[tuple(axes.count(d) for d in range(self.axes))]


basis = lru_cache(maxsize=32)(Basis)


# -- algebra at a point: w is [batch, N, points] ------------------------------------------
#
# w holds rho at 0, u_d at e_d, theta_d = P_dd / rho at 2 e_d, f_a elsewhere. The places of
# degree 1 are 1 .. D, those of degree 2 the D (D + 1) / 2 after them.


def temperature(b: Basis, w: Tensor) -> Tensor:
    """Return the temperature, ``[batch, 1, points]``."""
    return sum(w[:, i : i + 1] for i in b.low[1 + b.axes :]) / b.axes  # type: ignore[return-value]


def _chosen(b: Basis, first: Tensor | float, diagonal: Tensor, rest: Tensor) -> Tensor:
    """One at the places of degree 1, another at those of 2 e_d, the rest elsewhere."""
    shape = (-1, *(1,) * (rest.dim() - 2))
    kept = torch.where(b.first.view(shape), first, rest)
    return torch.where(b.diagonal.view(shape), diagonal, kept)


def coefficients(b: Basis, w: Tensor) -> Tensor:
    """Return f_a of w and a zero behind them, ``[batch, N + 1, points]``."""
    f = _chosen(b, 0.0, 0.5 * w[:, :1] * (w - temperature(b, w)), w)
    return torch.cat([f, torch.zeros_like(w[:, :1])], 1)


def carried(
    once: Sequence[Tensor], twice: Sequence[Tensor], f: Tensor, du: Tensor, dtheta: Tensor
) -> Tensor:
    """Return ``sum_d f_{a - e_d} du_d + 1/2 dtheta sum_d f_{a - 2 e_d}``."""
    total = 0.0
    for d, (one, two) in enumerate(zip(once, twice, strict=True)):
        total = total + f[:, one] * du[:, d : d + 1] + 0.5 * f[:, two] * dtheta
    return total  # type: ignore[return-value]


def to_frozen(b: Basis, w: Tensor, f: Tensor, d: Tensor) -> Tensor:
    """Return D of a change d of w; ``f`` is :func:`coefficients` of w."""
    rho, dtheta = w[:, :1], temperature(b, d)
    spread = f[:, :-1] / rho * d[:, :1] + 0.5 * rho * (d - dtheta)
    moved = carried(b.below, b.twice, f, d[:, 1 : 1 + b.axes], dtheta)
    return _chosen(b, 0.0, spread, d) + moved


def from_frozen(b: Basis, w: Tensor, f: Tensor, frozen: Tensor) -> Tensor:
    """Invert :func:`to_frozen`."""
    rho = w[:, :1]
    spread = 2.0 * (frozen - f[:, :-1] / rho * frozen[:, :1]) / rho
    low = _chosen(b, frozen / rho, spread, frozen)
    moved = carried(b.below, b.twice, f, low[:, 1 : 1 + b.axes], temperature(b, low))
    return torch.cat([low[:, : b.third], (frozen - moved)[:, b.third :]], 1)


def multiplied(b: Basis, w: Tensor, frozen: Tensor, axis: int) -> Tensor:
    """Return ``M_axis D``."""
    padded = torch.cat([frozen, torch.zeros_like(frozen[:, :1])], 1)
    moved = w[:, 1 + axis : 2 + axis] * frozen
    moved = moved + temperature(b, w) * padded[:, b.below[axis]]
    return moved + b.factor[axis] * padded[:, b.above[axis]]


def upwinded(
    b: Basis, w: Tensor, frozen: Tensor, axis: int, sonic: float = SONIC
) -> Tensor:
    """Return ``|M_axis| D``."""
    root = temperature(b, w).clamp(min=1e-9).sqrt()
    size = b.scale * root ** (-b.degree)
    speed = (w[:, 1 + axis : 2 + axis] / root + b.speeds[axis]).abs()
    speed = torch.where(speed < sonic, 0.5 * (speed * speed / sonic + sonic), speed) * root
    waves = b.vectors[axis].T @ (frozen * size)
    return (b.vectors[axis] @ (waves * speed)) / size


class Edge:
    """Where t = a + e_k of degree M + 1 meets the ``|a| = M``, along one axis k."""

    def __init__(self, b: Basis, axis: int) -> None:
        more = basis(b.order + 1, b.axes, b.scale.dtype, b.scale.device)
        count = len(b.indices)
        # places of a, and of t among those of degree M + 1; ``[rows, 1]`` a_k + 1
        self.at = torch.nonzero(b.degree[:, 0] == b.order)[:, 0]
        tops = more.above[axis][self.at]
        self.tops, self.factor = tops - count, b.factor[axis][self.at]
        # ``[D, rows]`` places of t - e_d and t - 2 e_d, N where there is none
        self.once, self.twice = (
            [places[tops].clamp(max=count) for places in shifted]
            for shifted in (more.below, more.twice)
        )


edge = lru_cache(maxsize=32)(Edge)


def dropped(b: Basis, some: Edge, f: Tensor, d: Tensor) -> Tensor:
    """Return what HME leaves out of the equations of degree M, ``[batch, rows, points]``.

    ``(a_k + 1) (D_t - df_t)`` with ``t = a + e_k``, for a change d of w; f are the
    coefficients of w.
    """
    du, dtheta = d[:, 1 : 1 + b.axes], temperature(b, d)
    return some.factor * carried(some.once, some.twice, f, du, dtheta)


def conserved(b: Basis, w: Tensor) -> Tensor:
    """Return (rho, rho u_d, <v_d^2>, f_a) of w, ``[batch, N, ...]``."""
    rho = w[:, :1]
    return _chosen(b, rho * w, rho * (w[:, b.single] ** 2 + w), w)


def resting(b: Basis, w: Tensor, frozen: Tensor) -> Tensor:
    """Return ``integral (1, v_d, v_d^2) g dv``, ``[batch, 1 + 2 D, points]``.

    Args:
        b: the expansion.
        w: whose frame and temperature it has.
        frozen: g in it, at the places ``b.low``.
    """
    none, one, two = frozen.split([1, b.axes, b.axes], 1)
    u = w[:, 1 : 1 + b.axes]
    spread = (u * u + temperature(b, w)) * none
    return torch.cat([none, one + u * none, 2.0 * (two + u * one) + spread], 1)


def flux(b: Basis, w: Tensor, axis: int) -> Tensor:
    """Return the fluxes of rho, rho u_d and <v_d^2>, ``[batch, 1 + 2 D, points]``."""
    f, low = coefficients(b, w), b.lows
    moved = w[:, 1 + axis : 2 + axis] * f[:, low]
    moved = moved + temperature(b, w) * f[:, b.below[axis][low]]
    return resting(b, w, moved + b.factor[axis][low] * f[:, b.above[axis][low]])


# -- the scheme at the faces --------------------------------------------------------------


class Faces:
    """Both sides of some faces, ``[batch, N, points]``, and the jump between them."""

    def __init__(
        self, b: Basis, axis: int, left: Tensor, right: Tensor, speed: Tensor | None = None
    ) -> None:
        self.basis, self.axis, self.left, self.right = b, axis, left, right
        # the largest signal over sqrt(theta), a number or ``[batch, points]``
        self.speed = b.fastest if speed is None else speed.flatten(1)
        self.mean = 0.5 * (left + right)

    @cached_property
    def f(self) -> Tensor:
        """Coefficients of the mean state."""
        return coefficients(self.basis, self.mean)

    @cached_property
    def frozen(self) -> Tensor:
        """D of the jump."""
        return to_frozen(self.basis, self.mean, self.f, self.right - self.left)

    def along(self) -> Tensor:
        """Return ``A d`` of the jump d."""
        moved = multiplied(self.basis, self.mean, self.frozen, self.axis)
        return from_frozen(self.basis, self.mean, self.f, moved)

    def upwinded(self) -> tuple[Tensor, Tensor]:
        """Return ``|M| D`` and ``|A| d`` of the jump d."""
        waves = upwinded(self.basis, self.mean, self.frozen, self.axis)
        return waves, from_frozen(self.basis, self.mean, self.f, waves)


class FusedFaces(Faces):
    """The same by one kernel, where nothing is differentiated, in f64 on a CPU."""

    _found: tuple[Tensor, ...] = ()

    @staticmethod
    def takes(left: Tensor, right: Tensor) -> bool:
        """Tell whether the kernel is for such sides."""
        return left.is_cpu and left.dtype == torch.float64 and unfollowed(left, right)

    @cached_property
    def f(self) -> Tensor:
        """Coefficients of the mean state."""
        return self._made(upwind=False)[0]

    def along(self) -> Tensor:
        """Return ``A d`` of the jump d."""
        return self._made(upwind=False)[1]

    def upwinded(self) -> tuple[Tensor, Tensor]:
        """Return ``|M| D`` and ``|A| d`` of the jump d."""
        _, _, waves, smear = self._made(upwind=True)
        return waves, smear

    def _made(self, upwind: bool) -> tuple[Tensor, ...]:
        if len(self._found) < (4 if upwind else 2):
            b = self.basis
            form = _expansion(b, upwind)
            self._found = jumps(self.left, self.right, _tables(b, self.axis), form)
        return self._found


@lru_cache(maxsize=32)
def _expansion(b: Basis, upwind: bool) -> Expansion:
    """What kernels are compiled for."""
    diagonal = tuple(b.low[1 + b.axes :])
    return Expansion(b.order, b.axes, len(b.indices), diagonal, SONIC, upwind)


@lru_cache(maxsize=32)
def _tables(b: Basis, axis: int) -> Tables:
    """What the kernel takes of a basis along an axis."""
    at = torch.stack([*b.below, *b.twice, b.below[axis], b.above[axis]], 1)
    heads = sorted((a for a in b.indices if a[axis] == 0), key=lambda a: -sum(a))
    chains = torch.zeros(len(heads), b.order + 1, dtype=torch.int32)
    for row, head in zip(chains, heads, strict=True):
        for k in range(b.order + 1 - sum(head)):
            row[k] = b.indices.index(_plus(head, axis, k))
    return Tables(axis, at.int().contiguous(), b.factor[axis][:, 0].contiguous(), chains)


@lru_cache(maxsize=32)
def _edge_tables(b: Basis, axis: int) -> tuple[Tensor, Tensor]:
    """What the kernel takes of an :class:`Edge`; see :class:`...kernels.sweeps.Closing`."""
    some = edge(b, axis)
    at = torch.stack([*some.once, *some.twice, some.at, some.tops], 1)
    return at.int().contiguous(), some.factor[:, 0].contiguous()


def _closing(b: Basis, axis: int, said: ClosureOutput) -> Closing | None:
    """What a closure said at the faces of an axis, for the kernel; None for nothing."""
    blend, top, inside = said.blend, said.flux, said.inside
    if blend is None or top is None:
        return None
    if inside is None:
        inside = 0.5 * (blend[..., 1:] + blend[..., :-1])
    if b.axes == 1:
        top = top[:, None]
    faces_first = (x.movedim(-1, 0) for x in (blend, inside))
    return Closing(*_edge_tables(b, axis), top.movedim((1, -1), (0, 1)), *faces_first)


def faces(
    b: Basis, axis: int, left: Tensor, right: Tensor, speed: Tensor | None = None
) -> Faces:
    """Return both sides of some faces, ``[batch, N, points]``, by the kernel if it can."""
    kind = FusedFaces if FusedFaces.takes(left, right) else Faces
    return kind(b, axis, left, right, speed)


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
    waves, smear = at.upwinded()
    return resting(at.basis, at.mean, waves[:, at.basis.lows]), smear


@dataclass(frozen=True)
class Hermite:
    """Hyperbolic moment equations of a gas; see the module's text. ``Equations``.

    Attributes:
        gas: D and the transport law.
        order: M, at least 3.
        closure: None for HME. With one velocity dimension it is asked at the faces, with
            more in the cells (:class:`..closures.directional.DirectionalClosure`).
        dissipation: :func:`roe`, or :func:`rusanov`, which is more robust.
    """

    gas: Gas
    order: int = 5
    closure: Closure | None = None
    dissipation: Dissipation = roe

    remedy = "lower the cfl, use fewer moments, or take the kinetic model"

    def __post_init__(self) -> None:
        if self.order < 3:
            raise InputError(f"hermite.order: {self.order}; at least 3 (for less: euler)")

    @property
    def dims(self) -> tuple[int, ...]:
        """Space dimensions: a closure that is asked at faces knows lines alone."""
        every = not self._at_faces or getattr(self.closure, "on_grid", None) is not None
        return (1, 2, 3) if every or self.gas.dimension == 1 else (1,)

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
    def conservative(self) -> Sequence[int]:
        """Density, momentum, second moments along the axes."""
        return basis(self.order, self.gas.dimension, torch.float64, CPU).low

    @property
    def positive(self) -> Sequence[int]:
        """Density, and the temperatures along the axes."""
        low = self.conservative
        return (low[0], *low[1 + self.gas.dimension :])

    def primitive(self, moments: Tensor) -> Tensor:
        """Return w of the state's moments, ``[batch, N, ...]``."""
        b, mean = self.basis(moments), moments / moments[:, :1]
        return _chosen(b, mean, mean - mean[:, b.single] ** 2, moments)

    def lowest(self, moments: Tensor) -> Tensor:
        """Return what must be positive in the state, ``[batch, 1 + D, ...]``."""
        b = self.basis(moments)
        rho, rest = moments[:, :1], moments.index_select(1, b.lows)[:, 1:]
        u, spread = (rest / rho).split(b.axes, 1)
        return torch.cat([rho, spread - u * u], 1)

    def conserved(self, w: Tensor) -> Tensor:
        """See :func:`conserved`."""
        return conserved(self.basis(w), w)

    def equilibrium(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return w, ``[batch, N, ...]``."""
        b, axes = self.basis(density), self.gas.dimension
        missing = max(0, axes - velocity.shape[-1])
        u = torch.nn.functional.pad(velocity[..., :axes], (0, missing)).movedim(-1, 1)
        first = torch.cat([density[:, None], u], 1)
        w = first.new_zeros(len(density), len(b.indices), *density.shape[1:])
        w[:, : 1 + axes], w[:, b.diagonal] = first, temperature[:, None]
        return w

    def mixed(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return w of Maxwellians that are added up along the first axis."""
        b = self.basis(density)
        whole = totals((density, velocity, temperature), b.axes)
        w = self.equilibrium(whole.density, whole.velocity, whole.temperature)
        shift, excess = velocity - whole.velocity, temperature - whole.temperature
        along = [expansion(self.order, shift[..., d], excess) for d in range(b.axes)]
        for i, a in enumerate(b.indices[1 + b.axes :], start=1 + b.axes):
            each = (line[n] for line, n in zip(along, a, strict=True))
            f = (density * math.prod(each, start=torch.ones(()).to(density))).sum(0)
            w[:, i] = f if i not in b.low else w[:, i] + 2.0 * f / w[:, 0]
        return w

    def thermal(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature of w."""
        b = self.basis(w)
        return w[:, 0], w[:, 1 : 1 + b.axes].movedim(1, -1), temperature(b, w)[:, 0]

    def fastest(self, w: Tensor, axis: int) -> Tensor:
        """Return ``|u| + c sqrt(theta)`` along an axis."""
        b = self.basis(w)
        return w[:, 1 + axis].abs() + b.fastest * temperature(b, w)[:, 0].sqrt()

    def fused(self, world: MomentWorld) -> FusedLine | None:
        """Return steps of a world by fused kernels (:mod:`.fused`); None: it has none."""
        if type(self) is not Hermite or self.dissipation not in (roe, rusanov):
            return None
        closure = None if self.closure is hyperbolic else self.closure
        robust = self.dissipation is rusanov
        return fused(world, closure, self.closure is grad, robust, SONIC)

    # -- relaxation -------------------------------------------------------------------

    def relaxed(self, moments: Tensor, time_step: float, knudsen: Tensor) -> Tensor:
        """Relax by BGK or Shakhov's model."""
        b, w = self.basis(moments), self.primitive(moments)
        theta, rho = temperature(b, w), w[:, :1]
        tau = self.gas.relaxation_time(knudsen, w[:, 0], theta[:, 0])[:, None]
        ratio = time_step / tau
        keep = 1.0 / (1.0 + ratio)
        spread = rho * (w[:, b.single] ** 2 + theta + (w - theta) * keep)
        low = _chosen(b, moments, spread, moments * keep)[:, 1 : b.third]
        high = w[:, b.third :] * keep
        prandtl = self.gas.prandtl_at(theta)
        if isinstance(prandtl, Tensor) or prandtl != 1.0:
            # Shakhov's equilibrium, at the heat flux of the end of the step
            share = (1.0 - prandtl) / (b.axes + 2)
            share = share * ratio * keep / (1.0 + prandtl * ratio)
            high = high + torch.einsum("nk,bk...->bn...", b.heated, share * heat_flux(b, w))
        return torch.cat([rho, low, high], 1)

    # -- transport --------------------------------------------------------------------

    def swept(
        self, w: Tensor, axis: int, limiter: Limiter, said: ClosureOutput | None
    ) -> Tensor | None:
        """Return what :meth:`transport` comes to along a periodic axis, by one kernel.

        Args:
            w: ``[batch, N, *cells]``.
            axis: of the grid.
            limiter: of the slopes.
            said: by a closure, at the faces and in the cells.

        Returns:
            the change over a cell, ``[batch, N, *cells]``; None where no kernel has it.
        """
        said = said or ClosureOutput()
        known = limiter in LIMITERS and self.dissipation is roe and said.source is None
        if not (known and FusedFaces.takes(w, w)):
            return None
        b = self.basis(w)
        closing = _closing(b, axis, said)
        if closing is None and self.closure not in (None, hyperbolic):
            return None
        of, code = _expansion(b, upwind=True), LIMITERS[limiter]
        return sweep(w, axis, _tables(b, axis), of, code, closing)

    def transport(self, rows: Rows) -> Transport:
        """Return fluxes of density, momentum and energy, and paths of the rest."""
        b, axis, lead = self.basis(rows.w), rows.axis, rows.left.shape[2:]
        said = self._said(rows)
        at = faces(b, axis, rows.left.flatten(2), rows.right.flatten(2), said.speed)
        taken, smear = self.dissipation(at)
        through = 0.5 * (flux(b, at.left, axis) + flux(b, at.right, axis) - taken)
        begin, end = rows.right[..., :-1], rows.left[..., 1:]
        inner = faces(b, axis, begin.flatten(2), end.flatten(2))
        jump, inside = at.along(), inner.along()
        if said.blend is not None:
            some, cells = edge(b, axis), said.inside
            if cells is None:
                cells = 0.5 * (said.blend[..., 1:] + said.blend[..., :-1])
            for share, one, to in ((said.blend, at, jump), (cells, inner, inside)):
                more = dropped(b, some, one.f, one.right - one.left)
                to.index_add_(1, some.at, share[:, None].flatten(2) * more)
        if said.flux is not None:
            some = edge(b, axis)
            top = said.flux if b.axes > 1 else said.flux[:, None]
            push = torch.diff(top, dim=-1)[:, some.tops].flatten(2)
            inside.index_add_(1, some.at, some.factor * push)
        if said.source is not None:
            add = 0.5 * (said.source[..., 1:] + said.source[..., :-1])
            inside[:, -1] -= rows.spacing * add
        smear, jump = smear.unflatten(2, lead), jump.unflatten(2, lead)
        rest = inside.view_as(begin) + 0.5 * (jump - smear)[..., 1:]
        rest = rest + 0.5 * (jump + smear)[..., :-1]
        away = None if said.away is None else said.away.to(rest).sum(-1)
        return Transport(through.unflatten(2, lead), rest, away, said)

    def _said(self, rows: Rows) -> ClosureOutput:
        """What the closure says at the faces of a row."""
        known = rows.said is not None or not self._at_faces
        if known or self.closure in (None, hyperbolic):
            return rows.said or ClosureOutput()
        said = self.closure(self.stencil(rows))  # type: ignore[misc]
        if not isinstance(said, ClosureOutput):
            raise InputError(f"closure: gives {type(said).__name__}, not a ClosureOutput")
        return said

    @property
    def _at_faces(self) -> bool:
        """Whether the closure is asked at the faces of a row."""
        return self.gas.dimension == 1 or getattr(self.closure, "at_faces", False)

    def stencil(self, rows: Rows) -> FaceStencil:
        """Return what a closure sees of a row."""
        rho, _, theta = self.thermal(0.5 * (rows.w[..., 1:-2] + rows.w[..., 2:-1]))
        rho, theta = rho.clamp(min=1e-9), theta.clamp(min=1e-9)
        tau = self.gas.relaxation_time(rows.knudsen, rho, theta)
        w = rows.w.movedim(1, -1).contiguous()
        low, high = w[:, 1:-2], w[:, 2:-1]
        return FaceStencil(low, high, w[:, 2:-2], tau, rows.spacing, rows.periodic)

    def in_cells(self, w: Tensor, world: MomentWorld) -> ClosureOutput | None:
        """Ask a closure of several velocity dimensions, in the cells."""
        if not self.learned or (self._at_faces and world.grid.dim == 1):
            return None
        closure = self.closure.on_grid if self._at_faces else self.closure  # type: ignore
        rho, _, theta = self.thermal(w)
        tau = self.gas.relaxation_time(world.cell_knudsen, rho, theta).expand_as(rho)
        periodic = (pair.periodic for pair in world.sides)
        axes = tuple(zip(world.grid.spacing, periodic, strict=True))
        return closure(FaceStencil.in_cells(w.movedim(1, -1), tau, axes))  # type: ignore[misc]

    # -- walls and observations -------------------------------------------------------

    def at_wall(self, w: Tensor, wall: WallAt, axis: int, sign: float) -> dict[int, Tensor]:
        """See :func:`at_wall`."""
        return at_wall(self.basis(w), w, wall, axis, sign)

    def observe(self, w: Tensor, dim: int) -> dict[str, Tensor]:
        """Return stress and heat flux."""
        b, axes = self.basis(w), range(self.gas.dimension)
        rho, _, theta = self.thermal(w)

        def stress(i: int, j: int) -> Tensor:
            at = w[:, b.place(i, j)]
            return rho * (at - theta) if i == j else at

        rows = [torch.stack([stress(i, j) for j in axes], -1) for i in axes]
        return {
            "stress": torch.stack(rows, -2),
            "heat_flux": heat_flux(b, w).movedim(1, -1),
        }


CPU = torch.device("cpu")


def heat_flux(b: Basis, w: Tensor) -> Tensor:
    """Return ``q_k = 3 f_{3 e_k} + sum_{d != k} f_{2 e_d + e_k}``, ``[batch, D, ...]``."""
    return torch.einsum("kn,bn...->bk...", b.flow, w[:, b.third :])


def hermite_world(
    grid: Any, sides: Any, gas: Gas, knudsen: Tensor, order: int, time_step: float,
    closure: Any = None, dissipation: Dissipation = roe, **options: Any,
) -> MomentWorld:  # fmt: skip
    """Return the equations on a grid; the options are those of :class:`MomentWorld`."""
    equations = Hermite(gas, order, closure, dissipation)
    return MomentWorld(grid, sides, equations, knudsen, time_step, **options)


# -- walls --------------------------------------------------------------------------------


class _Halves:
    """The indices odd along an axis n, and how they are made of the even ones.

    The weight of b for a is ``int_0^inf He_{a_n} He_{b_n} phi dy / a_n!`` where the other
    components agree: by Green's formula ``phi(0) a_n He_{a_n - 1}(0) He_{b_n}(0) / (a_n -
    b_n) / a_n!``.
    """

    def __init__(self, b: Basis, axis: int) -> None:
        # He_m at 0, m = 0 .. M
        he = self.at_zero = [1.0, 0.0]
        for m in range(2, b.order + 1):
            he.append(-(m - 1) * he[m - 2])
        self.odd = [i for i, a in enumerate(b.indices) if a[axis] % 2]
        some = [b.indices[i] for i in self.odd]
        weights = np.zeros((len(some), len(b.indices)))
        for (row, a), (j, c) in product(enumerate(some), enumerate(b.indices)):
            m, n = a[axis], c[axis]
            if n % 2 == 0 and _plus(a, axis, -m) == _plus(c, axis, -n):
                half = m * he[m - 1] * he[n] / (m - n) / math.sqrt(2 * math.pi)
                weights[row, j] = half / math.factorial(m)
        # ``[odd, N]`` weights, ``[odd, 1]`` a! and |a|, ``[D, odd]`` a
        self.weights = torch.as_tensor(weights).to(b.scale)
        self.factorials, self.degree = b.scale[self.odd] ** 2, b.degree[self.odd]
        self.powers = torch.tensor(some, device=b.scale.device).T


_halves = lru_cache(maxsize=32)(_Halves)


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
    root = temperature(b, w).clamp(min=1e-9).sqrt()
    some = _halves(b, axis)
    even = some.weights @ (coefficients(b, w)[:, :-1] * root ** (-b.degree))
    emitted = _emitted(b, some, w, wall, axis, root)
    # the first is e_n: no mass passes, which fixes what the wall emits
    given = even[:, :1] / emitted[:, :1]
    chi = sign * 2.0 * wall.accommodation / (2.0 - wall.accommodation)
    found = chi * (given * emitted - even) * root**some.degree
    values = torch.zeros_like(found[:, 0]), *found.unbind(1)[1:]
    return dict(zip(some.odd, values, strict=True))


def _emitted(
    b: Basis, some: _Halves, w: Tensor, wall: WallAt, axis: int, root: Tensor
) -> Tensor:
    """Half of the wall's Maxwellian of unit density on ``He_a / a!`` of the gas's frame."""
    warm = wall.temperature / root**2
    out = 1.0 / some.factorials
    for d in range(b.axes):
        if d == axis:
            line = [0.5 * torch.ones_like(root), (warm / (2 * math.pi)).sqrt()]
        else:
            shift = (component(wall.velocity, d) - w[:, 1 + d : 2 + d]) / root
            line = [torch.ones_like(root), shift]
        for m in range(1, b.order):
            next_ = some.at_zero[m] * line[1] if d == axis else line[1] * line[m]
            line.append(next_ + m * (warm - 1.0) * line[m - 1])
        out = out * torch.cat(line, 1)[:, some.powers[d]]
    return out
