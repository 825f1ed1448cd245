r"""One finite-volume scheme for every set of moment equations.

Moments ``[batch, N, *cells]`` obey, axis after axis, with primitive variables w of them,

    dU/dt + sum_k (dF_k(w)/dx_k + B_k(w) dw/dx_k) = relaxation.

Space: MUSCL on w, ghost cells from the boundaries (:mod:`..boundaries`), a numerical flux
and paths for what is no flux, both given by the equations (:class:`Equations`). Time: IMEX
ARS(2,2,2) (Ascher, Ruuth, Spiteri, Appl. Numer. Math. 25, 1997, p. 151), the relaxation
implicit, so that the step is bound by transport alone at any Knudsen number.

At a wall the state beyond the face has even moments like the gas and odd ones whose mean is
what Maxwell's wall gives; no mass passes.

Example::

    gas = Gas.constant_time(1)
    world = MomentWorld(grid, (ALL_PERIODIC,), Hermite(gas, order=5), knudsen, 1e-3)
    state = world.step(world.equilibrium(rho, u[..., None], temperature))
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from ....models.closures.contract import ClosureOutput
from ...errors import InputError
from ..boundaries import (
    End,
    Sides,
    WallAt,
    beyond,
    check_components,
    ends_of,
    pieces_of,
    uniform,
)
from ..faces import AtFace
from ..grid import Grid
from ..material import Gas
from ..observe import check_initial, entropy, extrema, totals, watch

GAMMA = 1.0 - math.sqrt(0.5)
DELTA = 1.0 - 1.0 / (2.0 * GAMMA)

Limiter = Callable[[Tensor, Tensor], Tensor]
"""Differences behind and ahead to twice the step from a cell's mean to its face ahead."""


def van_leer(behind: Tensor, ahead: Tensor) -> Tensor:
    """Return the harmonic mean of two differences, 0 where their signs differ."""
    p = behind * ahead
    positive = p > 0
    return torch.where(positive, 2 * p / torch.where(positive, behind + ahead, 1.0), 0.0)


def koren(behind: Tensor, ahead: Tensor) -> Tensor:
    """Return ``(behind + 2 ahead) / 3``, at most twice either difference.

    Exact for parabolas (Koren, Notes Numer. Fluid Mech. 45, 1993, p. 117).
    """
    most = 2.0 * torch.minimum(behind.abs(), ahead.abs())
    size = torch.minimum(most, (behind + 2.0 * ahead).abs() / 3.0)
    return torch.where(behind * ahead > 0, torch.sign(behind) * size, 0.0)


def first_order(behind: Tensor, ahead: Tensor) -> Tensor:
    """Return no slope: cells are constant."""
    return torch.zeros_like(behind)


Extremes = tuple[Tensor, Tensor]
"""``[batch, positives]``: of what must be positive the largest before a step, and the least
after it, over the cells."""


@dataclass(frozen=True)
class MomentState:
    """A batch of moment fields.

    Attributes:
        moments: ``[batch, N, *grid.shape]``, the ``conserved`` of the equations.
        fallbacks: ``[batch]`` faces, summed over steps, where a closure fell back.
        outside: those of them where it was outside its training range.
        step: scalar int64.
        time: scalar f64.
    """

    moments: Tensor
    fallbacks: Tensor
    outside: Tensor
    step: Tensor
    time: Tensor


@dataclass(frozen=True)
class Rows:
    """Cells and faces along one axis, which is the last; ``faces = cells + 1``.

    Attributes:
        w: ``[batch, N, ..., cells + 4]`` with two ghost cells at either end.
        left: ``[batch, N, ..., faces]`` w on the left of each face.
        right: the same on the right.
        knudsen: broadcasts to ``[batch, ..., faces]``.
        axis: of the grid.
        spacing: width of a cell.
        periodic: whether the last face is the first one.
        said: what a closure has said before, at the faces: in the cells of the whole grid
            (``inside`` is its own value there), or at an earlier stage.
    """

    w: Tensor
    left: Tensor
    right: Tensor
    knudsen: Tensor
    axis: int
    spacing: float
    periodic: bool
    said: ClosureOutput | None = None


@dataclass(frozen=True)
class Transport:
    """What equations make of a row.

    Attributes:
        flux: ``[batch, C, ..., faces]`` of the moments at ``Equations.conservative``.
        rest: ``[batch, N, ..., cells]`` change over a cell of the others (what stands at
            the conservative ones is not used); None where there are no others.
        fallbacks: ``[2, batch]`` faces where a closure fell back, and those of them outside
            its training range; None for none.
        said: what a closure said at the faces, if there is one.
    """

    flux: Tensor
    rest: Tensor | None = None
    fallbacks: Tensor | None = None
    said: ClosureOutput | None = None


class Equations(Protocol):
    """What is advanced; frozen, and free of grid, boundaries and time.

    Attributes:
        gas: D and the transport law.
        name: in results.
        dims: space dimensions that they know.
        positive: places of w that are positive: density first.
        remedy: what helps where they break down.
        learned: whether a closure may fall back.
    """

    gas: Gas
    name: str
    dims: tuple[int, ...]
    positive: Sequence[int]
    remedy: str
    learned: bool

    def primitive(self, moments: Tensor) -> Tensor:
        """Return w of the moments, ``[batch, N, ...]``."""
        ...

    def conserved(self, w: Tensor) -> Tensor:
        """Invert :meth:`primitive`."""
        ...

    def equilibrium(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return w in equilibrium; velocities ``[batch, ..., components]``."""
        ...

    def thermal(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity ``[batch, ..., components]`` and temperature of w."""
        ...

    def fastest(self, w: Tensor, axis: int) -> Tensor:
        """Return a bound of the signal speeds along an axis, ``[batch, ...]``."""
        ...

    def transport(self, rows: Rows) -> Transport:
        """Return numerical fluxes and the change by what is no flux."""
        ...

    def relaxed(self, moments: Tensor, time_step: float, knudsen: Tensor) -> Tensor:
        """Return the moments after an implicit Euler step of the relaxation."""
        ...

    def at_wall(self, w: Tensor, wall: WallAt, axis: int, sign: float) -> dict[int, Tensor]:
        """Return the odd moments at a wall at the low (1) or the high end (-1), by place.

        None in place of the method: these equations know no walls.
        """
        ...

    def observe(self, w: Tensor, dim: int) -> dict[str, Tensor]:
        """Return stress, heat flux and what is particular to the equations."""
        ...


_PARTS = [*Equations.__annotations__, *(n for n in vars(Equations) if n[0] != "_")]


@dataclass(frozen=True)
class MomentWorld:
    """Moment equations on a grid; see the module's text. Implements ``Simulator``.

    Attributes:
        grid: cells in space.
        sides: one pair of boundaries per axis.
        equations: what is advanced, with its gas and its closure.
        knudsen: ``[batch]`` or ``[batch, *grid.shape]``.
        time_step: fixed; the CFL at the start is checked, later it is the caller's to keep.
        limiter: :func:`van_leer`, or :func:`koren`, which smears smooth flows less.
        dtype: f64 or f32.
        device: cpu or cuda.
        check: refuse unphysical states after every step, and too long steps at the start
            (needs a look at the values; set False inside a training loop).
        once: ask a closure at the first stage of a step alone; what it says is then off by
            a change over 0.29 of a step.

    Raises:
        InputError: a contradiction, before anything is computed.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    equations: Any
    knudsen: Tensor
    time_step: float
    limiter: Limiter = van_leer
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    check: bool = True
    once: bool = False
    _ends: tuple[tuple[End, End] | None, ...] = field(init=False, repr=False, compare=False)
    _fused: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", ends_of(self.sides, self.grid))
        eq, dim = self.equations, self.grid.dim
        lacking = [n for n in _PARTS if not hasattr(eq, n)]
        if lacking:
            raise InputError(f"{type(eq).__name__}: equations lack {', '.join(lacking)}")
        if dim not in eq.dims or dim > eq.gas.dimension:
            allowed = ", ".join(str(d) for d in eq.dims if d <= eq.gas.dimension)
            raise InputError(
                f"grid: {dim} space dimensions; {eq.name} with gas.dimension = "
                f"{eq.gas.dimension} takes {allowed}"
            )
        if not bool((self.knudsen > 0).all()):
            raise InputError("knudsen: must be positive everywhere")
        for _, piece in pieces_of(self._ends):
            if piece.wall is not None and eq.at_wall is None:
                raise InputError(
                    f"{piece.key}: {eq.name} knows no walls; model.kind = hermite with "
                    "closure.kind = hyperbolic does"
                )
        check_components(self._ends, eq.gas.dimension, eq.name)
        object.__setattr__(self, "knudsen", self.knudsen.to(self.device, self.dtype))
        if hasattr(eq, "fused"):
            object.__setattr__(self, "_fused", eq.fused(self))

    @property
    def gas(self) -> Gas:
        """The gas of the equations."""
        return self.equations.gas

    def with_time_step(self, time_step: float) -> "MomentWorld":
        """Return the same world with another step."""
        other = copy(self)
        object.__setattr__(other, "time_step", time_step)
        return other

    def paced(self, state: MomentState, time_step: float) -> "MomentWorld":
        """Return the world of a step from ``state``."""
        return self.with_time_step(time_step)

    def courant_rate(self, w: Tensor) -> float:
        """Return the largest ``sum_k speed_k / dx_k`` of w."""
        at = (self.equations.fastest(w, k) / h for k, h in enumerate(self.grid.spacing))
        return float(sum(at).amax())  # type: ignore[union-attr]

    def stable_step(self, state: MomentState, cfl: float = 0.45) -> float:
        """Return the step of a Courant number for a state."""
        return cfl / self.courant_rate(self.equations.primitive(state.moments))

    # -- initial states ---------------------------------------------------------------

    def start(self, w: Tensor) -> MomentState:
        """Return the state of primitive variables ``[batch, N, *grid.shape]``.

        Raises:
            InputError: not positive, or a step that is too long (if ``check``).
        """
        w = w.to(self.device, self.dtype)
        if self.check:
            density, temperature = self._lowest(w)
            check_initial(density=density, temperature=temperature)
        if self.check and (rate := self.courant_rate(w)) * self.time_step > 1.0:
            raise InputError(
                f"time_step: {self.time_step} means a CFL over 1; at most {1.0 / rate:.3g}"
            )
        moments = self.equations.conserved(w)
        zero = torch.zeros(len(w), dtype=self.dtype, device=self.device)
        time = torch.tensor(0.0, dtype=torch.float64)
        return MomentState(moments, zero, zero, torch.tensor(0), time)

    def equilibrium(
        self, density: Tensor, velocity: Tensor, temperature: Tensor
    ) -> MomentState:
        """Return the local equilibrium of fields ``[batch, *grid.shape]``.

        ``velocity [batch, *grid.shape, components]``; what is missing is 0.
        """
        return self.start(self.equations.equilibrium(density, velocity, temperature))

    def init(self, rng: torch.Generator) -> MomentState:
        """Return the gas at rest with unit density and temperature."""
        one = torch.ones(len(self.knudsen), *self.grid.shape, dtype=torch.float64)
        return self.equilibrium(one, torch.zeros(*one.shape, 1).to(one), one)

    # -- time -------------------------------------------------------------------------

    def step(self, state: MomentState) -> MomentState:
        """Advance by ``time_step``; differentiable.

        Raises:
            GuardError: density or temperature not positive (if ``check``).
        """
        after, _ = self.attempt(state)
        if self.check:
            new = after.moments
            lowest = self._lowest(self.equations.primitive(new.detach()))
            watch(new, *lowest, self.equations.remedy, after)
        return after

    def attempt(self, state: MomentState) -> tuple[MomentState, Extremes | None]:
        """Advance without a look at what comes out.

        Returns:
            the state; and what must be positive, where the step has found it.
        """
        if self._fused is not None and self._fused.takes(state, self):
            found = self._fused.step(self, state)
            if found is not None:
                return found
        return self._plain_step(state), None

    def _plain_step(self, state: MomentState) -> MomentState:
        dt, old, relaxed = self.time_step, state.moments, self.equations.relaxed
        now = float(state.time) if self._moving else 0.0
        rate0, fallbacks, said = self.rates(old, now)
        moved = old + GAMMA * dt * rate0
        first = relaxed(moved, GAMMA * dt, self.cell_knudsen)
        # what relaxed, over its time: the production at the first stage
        lag = (1.0 - GAMMA) / GAMMA * (first - moved)
        rate1, *_ = self.rates(first, now + GAMMA * dt, said if self.once else None)
        moved = old + dt * (DELTA * rate0 + (1.0 - DELTA) * rate1) + lag
        new = relaxed(moved, GAMMA * dt, self.cell_knudsen)
        away = state.fallbacks + fallbacks[0], state.outside + fallbacks[1]
        return MomentState(new, *away, state.step + 1, state.time + dt)

    def _lowest(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """What must be positive: the density, and the lowest of the temperatures."""
        density, *rest = (w[:, i] for i in self.equations.positive)
        return density, torch.stack(rest).amin(0)

    @cached_property
    def cell_knudsen(self) -> Tensor:
        """The Knudsen number, to broadcast with ``[batch, *grid.shape]``."""
        kn = self.knudsen
        return kn if kn.dim() > 1 else kn.view(-1, *(1,) * self.grid.dim)

    def rates(
        self,
        moments: Tensor,
        time: float = 0.0,
        before: Sequence[ClosureOutput | None] | None = None,
    ) -> tuple[Tensor, Tensor, list[ClosureOutput | None]]:
        """Return the transport part of ``dU/dt``, fallbacks, and what the closure said.

        Args:
            moments: of the state.
            time: where boundaries change.
            before: what the closure said, axis by axis; it is not asked then.
        """
        eq, w = self.equations, self.equations.primitive(moments)
        ask = before is None and hasattr(eq, "in_cells")
        said = eq.in_cells(w, self) if ask else None
        told: list[ClosureOutput | None] = []
        total, count = torch.zeros_like(moments), moments.new_zeros(2, len(moments))
        if said is not None and said.away is not None:
            count = said.away.to(count).flatten(2).sum(2)
        for axis, pair in enumerate(self._ends):
            facing = before[axis] if before is not None else None
            if said is not None:
                facing = self._facing(said, axis)
            swept = None
            if pair is None and hasattr(eq, "swept"):
                swept = eq.swept(w, axis, self.limiter, facing)
            if swept is not None:
                total -= swept / self.grid.spacing[axis]
                told.append(facing)
                continue
            rows = self.rows(w.movedim(2 + axis, -1), axis, time)
            if facing is not None:
                rows = replace(rows, said=facing)
            found = eq.transport(rows)
            told.append(found.said)
            change = torch.diff(self._sealed(found.flux, pair), dim=-1)
            if found.rest is not None:
                at = places(tuple(eq.conservative), w.device)
                change = found.rest.index_copy(1, at, change)
            total = total - (change / rows.spacing).movedim(-1, 2 + axis)
            if found.fallbacks is not None:
                count = count + found.fallbacks
        return total, count, told

    def _facing(self, said: ClosureOutput, axis: int) -> ClosureOutput:
        """What was said in the cells, at the faces along an axis."""
        flux, blend, inside = said.flux, said.blend, None
        if flux is not None:
            flux = self._at_faces(flux, axis)
        if blend is not None:
            inside = blend.movedim(1 + axis, -1)
            blend = self._at_faces(blend[:, None], axis)[:, 0]
        return ClosureOutput(flux, blend, inside=inside)

    def rows(self, w: Tensor, axis: int, time: float = 0.0) -> Rows:
        """Return cells and faces of ``w [batch, N, ..., cells]`` along an axis."""
        pair = self._ends[axis]
        if pair is None:
            w = torch.cat([w[..., -2:], w, w[..., :2]], -1)
        else:
            low = self._ghost(pair[0], w[..., :1], w[..., 1:2], time)
            high = self._ghost(pair[1], w[..., -1:], w[..., -2:-1], time)
            w = torch.cat([low, low, w, high, high], -1)
        d = torch.diff(w, dim=-1)
        behind, ahead = d[..., :-1], d[..., 1:]
        left = w[..., 1:-2] + 0.5 * self.limiter(behind[..., :-1], ahead[..., :-1])
        right = w[..., 2:-1] - 0.5 * self.limiter(ahead[..., 1:], behind[..., 1:])
        if pair is not None:
            far = self._at_walls(pair[0], right[..., 0], left[..., 0], time)
            left = torch.cat([far[..., None], left[..., 1:]], -1)
            far = self._at_walls(pair[1], left[..., -1], right[..., -1], time)
            right = torch.cat([right[..., :-1], far[..., None]], -1)
        kn = self.cell_knudsen
        if self.knudsen.dim() > 1:
            kn = self._at_faces(kn[:, None], axis)[:, 0]
        return Rows(w, left, right, kn, axis, self.grid.spacing[axis], pair is None)

    def _at_faces(self, values: Tensor, axis: int) -> Tensor:
        """``[batch, n, *cells]`` with ``axis`` last, as means at the faces."""
        x = values.movedim(2 + axis, -1)
        ends = x[..., :1], x[..., -1:]
        low, high = ends[::-1] if self.sides[axis].periodic else ends
        x = torch.cat([low, x, high], -1)
        return 0.5 * (x[..., 1:] + x[..., :-1])

    @cached_property
    def _moving(self) -> bool:
        """Whether a boundary may change with time; else no step looks at the clock."""
        sides = (piece.side for _, piece in pieces_of(self._ends))
        return any(not uniform(side) for side in sides)

    def _ghost(self, end: End, edge: Tensor, inner: Tensor, time: float) -> Tensor:
        """The cell beyond the end: what it is, or what gives the last cell its slope."""
        out = edge
        for piece in end.pieces:
            if piece.wall is None:
                at = AtFace(self, end.face, time)
                out = piece.put(beyond(piece, at, edge[..., 0]), out[..., 0])[..., None]
                continue
            # half-way to a value that is not below a fifth stays positive
            at = places(tuple(self.equations.positive), edge.device)
            ahead = 2.0 * edge - inner
            floor = torch.maximum(ahead[:, at], 0.2 * edge[:, at])
            ahead = ahead.index_copy(1, at, floor)
            out = piece.put(ahead[..., 0], out[..., 0])[..., None]
        return out

    def _at_walls(self, end: End, inside: Tensor, beyond: Tensor, time: float) -> Tensor:
        """Return the state beyond the face: at walls the mirrored one."""
        for piece in end.pieces:
            if piece.wall is not None:
                wall, face = end.wall_at(piece, time, inside), end.face
                flat = inside.flatten(2) if inside.dim() > 2 else inside[..., None]
                odd = self.equations.at_wall(flat, wall.flat(), face.axis, face.inward)
                pairs = enumerate(flat.unbind(1))
                far = [2.0 * odd[i] - x if i in odd else x for i, x in pairs]
                beyond = piece.put(torch.stack(far, 1).view_as(inside), beyond)
        return beyond

    @property
    def walls(self) -> tuple[bool, bool]:
        """Whether the low and the high end of a line are walls."""
        low, high = self._ends[0] or ((), ())
        return tuple(  # type: ignore[return-value]
            any(piece.wall is not None for piece in end.pieces) if end else False
            for end in (low, high)
        )

    def _sealed(self, flux: Tensor, pair: tuple[End, End] | None) -> Tensor:
        """Let no mass through a wall; products of odd moments would, at second order."""
        for end, face in zip(pair or (), (0, -1), strict=False):
            for piece in end.pieces:
                if piece.wall is not None:
                    mass = flux[:, 0, ..., face]
                    flux[:, 0, ..., face] = piece.put(torch.zeros_like(mass), mass)
        return flux

    # -- what boundaries ask for ------------------------------------------------------

    def gas_at(self, edge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature of the cells at a face."""
        return self.equations.thermal(edge)

    def sound_speed(self, density: Tensor, temperature: Tensor) -> Tensor:
        """Return the speed of sound."""
        return (self.gas.gamma * temperature).sqrt()

    def reservoir(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return what cells beyond a face hold in equilibrium."""
        return self.equations.equilibrium(density, velocity, temperature)

    # -- observations -----------------------------------------------------------------

    def observe(self, state: MomentState) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`; fallbacks are counted in faces."""
        eq, dim = self.equations, self.grid.dim
        w = eq.primitive(state.moments)
        rho, u, theta = eq.thermal(w)
        turned = torch.stack([extrema(rho, 1 + k) for k in range(dim)])
        seen = {
            "density": rho,
            "velocity": u,
            "temperature": theta,
            **totals(rho, u, theta, eq.gas.dimension, self.grid.volume),
            "entropy": entropy(rho, theta, eq.gas.dimension),
            "limiter_activity": turned.mean(0),
            **eq.observe(w, dim),
        }
        away = {"fallbacks": state.fallbacks, "outside": state.outside}
        return seen | (away if eq.learned else {})


@lru_cache(maxsize=64)
def places(at: tuple[int, ...], device: torch.device) -> Tensor:
    """Return some places of w as an index, made once."""
    return torch.tensor(at, device=device)
