"""Steps of Hermite moments on a line by fused kernels, where no gradient is asked for.

The equations are those of :mod:`.hermite`, number for number up to round-off, at a tenth of
the cost: a step of a small line is otherwise a few hundred tensor operations. With two or
three velocity dimensions the flow must turn about the line; then f has one number for each
(k, j), ``f_(k, 2 i, 2 l) = f_(k, j) j! / (i! l!)`` with i + l = j, so that order 5 has 12
equations in place of 56, as Chu's reduction leaves two distributions of one velocity. A
local closure is asked by the same kernels, but for its network.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ....models.closures.contract import Closure
from ....models.closures.face import asinh, row_weights
from ....models.closures.local import CAUTION, LocalClosure
from ...kernels import moments as kernels
from ...kernels.mirror import Asked, Mirror, run_mirror
from ...kernels.moments import GRAD, HME, LEARNED, Line, line_of, serial
from ...kernels.types import LEAST, kernel_type
from ...runtime import start, threads, unfollowed
from ..material import Gas
from ..scheme.finite_volume import (
    DELTA,
    GAMMA,
    Extremes,
    Limiter,
    MomentState,
    MomentWorld,
    first_order,
    koren,
    van_leer,
)

LIMITERS: dict[Limiter, int] = {
    van_leer: kernels.VAN_LEER,
    koren: kernels.KOREN,
    first_order: kernels.FIRST_ORDER,
}
TURNING = 1e-12
"""Largest moment by which a flow may fail to turn about the line."""
MARGIN = 0.9
"""Of the share of Grad's row, as in ``hyperbolic_share``."""


def fused(
    world: MomentWorld, closure: Closure | None, grad: bool, robust: bool, sonic: float
) -> "FusedLine | None":
    """Return the steps of a world of Hermite moments, None where no kernel has them.

    Args:
        world: with its equations.
        closure: None for HME.
        grad: whether it is Grad's.
        robust: whether the dissipation is that of Lax and Friedrichs, else of each wave.
        sonic: smallest signal of the latter over ``sqrt(theta)``.
    """
    gas, view = world.equations.gas, _view(closure)
    powers = gas.density_power, gas.temperature_power, gas.prandtl
    code = HME if closure is None else GRAD if grad else LEARNED
    known = (
        (view is not None or code != LEARNED)
        and world.limiter in LIMITERS
        and type(gas) is Gas
        and gas.law is None
        and all(type(power) is float for power in powers)
    )
    fits = world.grid.dim == 1 and world.grid.cells >= 4 and world.device.type == "cpu"
    if not (known and fits):
        return None
    line = line_of(
        world.equations.order,
        gas.dimension,
        LIMITERS[world.limiter],
        robust,
        code,
        world.sides[0].periodic,
        world.walls,
        sonic,
    )
    return FusedLine(line, torch.tensor(powers, dtype=torch.float64), view)


def _view(closure: Any) -> "FusedView | None":
    """Return how a closure is asked: a local one, or one that knows turning flows."""
    if isinstance(closure, LocalClosure):
        one = torch.ones(1, dtype=torch.float64)
        asked, module = (one, one[None]), closure
    elif hasattr(closure, "turned"):
        asked, module = closure.turned(), closure.module
    else:
        return None
    return FusedView(module, *asked) if module.scale.is_cpu else None


@dataclass(frozen=True)
class FusedLine:
    """The steps; see the module's text.

    Attributes:
        line: what the kernels are compiled for.
        law: powers of density and temperature in the relaxation time, Prandtl number.
        view: of a learned closure.
    """

    line: Line
    law: Tensor
    view: "FusedView | None"
    _rooms: "_Rooms" = field(default_factory=lambda: _Rooms(), repr=False, compare=False)

    def takes(self, state: MomentState, world: MomentWorld) -> bool:
        """Tell whether nothing differentiates the step."""
        weights = self.view.weights if self.view else ()
        return unfollowed(state.moments, world.knudsen, *weights)

    def step(
        self, world: MomentWorld, state: MomentState
    ) -> tuple[MomentState, Extremes] | None:
        """Advance by the time step; see :meth:`..scheme.finite_volume.MomentWorld.attempt`.

        Returns:
            None where an end asks for a gradient, or the flow does not turn.
        """
        start("cpu")
        m = state.moments.contiguous()
        dt, now = world.time_step, float(state.time)
        arrays = self._rooms.arrays(m, world, self)
        if not self._stage_ends(arrays, world, m, now):
            return None
        self._ask(arrays, world, m)
        if self.line.axes > 1 and not float(arrays.off.amax()) < TURNING:
            return None
        lag, step = (1.0 - GAMMA) / GAMMA, GAMMA * dt
        asked, first, kept = self.view is not None, arrays.first, arrays.kept
        numbers = step, dt * DELTA, lag, step
        self._move(arrays, world, m, numbers, first, kept, asked, True)
        fallen = arrays.count.clone()
        again = asked and not world.once
        if not self.line.periodic:
            self._stage_ends(arrays, world, first, now + step)
        if again:
            self._ask(arrays, world, first)
        new, h = torch.zeros_like(m), dt * (1.0 - DELTA)
        self._move(arrays, world, kept, (h, 0.0, 0.0, step), new, new, again, False)
        away = state.fallbacks + fallen[0], state.outside + fallen[1]
        after = MomentState(new, *away, state.step + 1, state.time + dt)
        most, least = arrays.extremes.clone()
        return after, (most, least)

    def _stage_ends(
        self, arrays: "_Arrays", world: MomentWorld, m: Tensor, now: float
    ) -> bool:
        """Write w, with its ghost cells and what is beyond the ends of the line.

        Of a periodic line with a closure w is written where that is asked.
        """
        if self.line.periodic:
            if self.view is None:
                kernels.k_primitive(m, arrays.w, arrays.off, arrays.line)
            return True
        kernels.k_primitive(m, arrays.w, arrays.off, arrays.line)
        edge = world.equations.primitive(m[..., [0, 1, -2, -1]])
        rows, spots = world.rows(edge, 0, now), list(self.line.spots)
        if rows.w.requires_grad or rows.left.requires_grad or rows.right.requires_grad:
            return False
        ghost = rows.w[:, spots]
        arrays.w[:, :2] = ghost[..., :2].mT
        arrays.w[:, -2:] = ghost[..., -2:].mT
        arrays.ends[:, 0] = rows.left[:, spots, ..., 0]
        arrays.ends[:, 1] = rows.right[:, spots, ..., -1]
        return True

    def _ask(self, arrays: "_Arrays", world: MomentWorld, m: Tensor) -> None:
        """Ask the closure at all faces."""
        arrays.count.zero_()
        if self.view is not None:
            self.view.ask(arrays, m, world.grid.spacing[0], self.law)

    def _move(
        self,
        arrays: "_Arrays",
        world: MomentWorld,
        base: Tensor,
        numbers: tuple[float, float, float, float],
        new: Tensor,
        kept: Tensor,
        asked: bool,
        first: bool,
    ) -> None:
        """One stage: what the closure said, fluxes at the faces, then all cells."""
        a, h = arrays, world.grid.spacing[0]
        kernels.k_move(
            a.asked.answer, a.asked.far, a.gates, a.back, a.raw, a.taps, a.count, a.w,
            a.ends, a.blend, a.top, a.given, base, a.knudsen, self.law, h, *numbers, new,
            kept, a.off, a.extremes, asked, first, a.line,
        )  # fmt: skip


class _Rooms(threading.local):
    """The arrays of the last step of a thread, which the next one uses again."""

    key: Any = None
    held: "_Arrays | None" = None

    def arrays(self, m: Tensor, world: MomentWorld, line: FusedLine) -> "_Arrays":
        given = line.view.given if line.view else None
        key = m.shape, m.dtype, world.knudsen._version, given
        if self.held is None or key != self.key:
            self.key, self.held = key, _Arrays.of(m, world, line)
        return self.held


@dataclass(frozen=True)
class _Arrays:
    """Arrays of a step; shapes in :mod:`scalebridge.engine.kernels.moments`.

    Those of the closure are empty where there is none.
    """

    line: Line
    w: Tensor
    off: Tensor
    extremes: Tensor
    ends: Tensor
    blend: Tensor
    top: Tensor
    given: Tensor
    count: Tensor
    knudsen: Tensor
    knudsen_at_faces: Tensor
    first: Tensor
    kept: Tensor
    along: Tensor
    parts: Tensor
    seen: Tensor
    gates: Tensor
    raw: Tensor
    back: Tensor
    taps: Tensor
    asked: Any

    @staticmethod
    def of(m: Tensor, world: MomentWorld, fused: FusedLine) -> "_Arrays":
        batch, _, cells = m.shape
        line, view, faces, n = fused.line, fused.view, cells + 1, fused.line.count
        kn = at_faces = world.cell_knudsen.to(m)
        if world.knudsen.dim() > 1:
            at_faces = world._at_faces(kn[:, None], 0)[:, 0]

        def made(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.zeros(shape, dtype=dtype)

        w = made(batch, cells + 4, n)
        rows = batch * len(view.cosines) if view else 0
        ranges = len(view.module.config.reach) if view else 0
        along = w if line.axes == 1 else made(rows, cells + 4, line.order + 1)
        none = made(1)
        short = max(rows, batch) * (cells + 4) <= LEAST
        return _Arrays(
            line=serial(line) if short or threads() == 1 else line,
            w=w,
            off=made(batch, cells),
            extremes=made(2, batch, line.low - 1),
            ends=made(batch, 2, n),
            blend=made(batch, faces) + 1.0,
            top=made(batch, faces, line.tops),
            given=made(batch, faces, 2 * n),
            count=made(2, batch),
            knudsen=kn.expand(batch, cells).double().contiguous(),
            knudsen_at_faces=at_faces.expand(batch, faces).double().contiguous(),
            first=torch.zeros_like(m),
            kept=torch.zeros_like(m),
            along=along,
            parts=made(rows, faces, ranges, 3),
            seen=made(rows, ranges, faces, line.order + 1),
            gates=made(rows, faces, 3),
            raw=made(batch, faces, line.tops),
            back=view.back if view else none[None],
            taps=view.given.taps if view else none,
            asked=view.given.points(rows * faces) if view else _Nothing(none, none),
        )


@dataclass(frozen=True)
class _Nothing:
    """In place of what a network answers."""

    answer: Tensor
    far: Tensor


@dataclass(frozen=True)
class FusedView:
    """What a local closure sees, by kernels; its network stays as it is.

    Attributes:
        module: the closure.
        cosines: ``[directions]`` of the angles to the line along which it is asked.
        back: ``[tops, directions]`` its answers to the moments of degree M + 1.
    """

    module: LocalClosure
    cosines: Tensor
    back: Tensor

    @cached_property
    def weights(self) -> tuple[Tensor, ...]:
        """Of the module."""
        return tuple(self.module.parameters())

    @property
    def given(self) -> "Given":
        """What the kernels take of the module."""
        return given_of(self.module)

    def ask(self, arrays: _Arrays, m: Tensor, spacing: float, law: Tensor) -> None:
        """Write what the network answers, and the gates."""
        config, given, a = self.module.config, self.given, arrays
        kernels.k_see(
            m, a.off, a.w, a.along, a.knudsen_at_faces, law, self.cosines, given.reach,
            spacing, a.parts, a.seen, given.slow, given.weights, MARGIN, CAUTION,
            config.stretch, a.asked.z, a.gates, kernel_type(a.asked.z.dtype), a.line,
        )  # fmt: skip
        given.answer(a.asked)


@dataclass(frozen=True, eq=False)
class Given:
    """What the kernels take of a module.

    Ranges, one over the scales, the weights of the row, the filter, and the network, for
    CPUs and as torch has it.
    """

    reach: Tensor
    slow: Tensor
    weights: Tensor
    taps: Tensor
    net: Mirror
    plain: Callable[[Tensor], Tensor]

    @staticmethod
    def of(module: LocalClosure) -> "Given":
        """Take it of a module on a device."""
        config = module.config
        half = math.ceil(3 * config.smoothing)
        at = torch.arange(-half, half + 1, dtype=torch.float64)
        taps = torch.exp(-0.5 * (at / (config.smoothing or 1.0)) ** 2)
        weights = torch.as_tensor(row_weights(config.order)).double().contiguous()
        reach, device = torch.tensor(config.reach, dtype=torch.float64), module.scale.device
        near = 1.0 / torch.asinh(module.limit / module.scale)
        return Given(
            reach=reach.to(device),
            slow=1.0 / module.scale.double(),
            weights=weights.to(device),
            taps=(taps / taps.sum()).to(device),
            net=Mirror.pack(module.net, near, config.bound),
            plain=module.net.frozen(),
        )

    def points(self, count: int) -> Asked:
        """Return arrays for what some points show the network."""
        return Asked.of(self.net, count)

    def answer(self, asked: Asked) -> None:
        """Write what the network answers, and how far its inputs are out of range."""
        if asked.z.is_cpu:
            return run_mirror(self.net, asked)
        with torch.no_grad():
            z, net = asinh(asked.z.mT), self.net
            asked.far.copy_((z.abs() * net.near).amax(-1).flatten())
            value = (self.plain(z.flatten(0, 1)) - net.rest) / net.bound
            asked.answer.copy_(net.bound * torch.tanh(value))
        return None


_GIVEN: WeakKeyDictionary[LocalClosure, tuple[tuple[Tensor, ...], Any, Given]] = (
    WeakKeyDictionary()
)


def given_of(module: LocalClosure) -> Given:
    """Return what the kernels take of a module, anew where it was written over."""
    known = _GIVEN.get(module)
    if known is None or _written(known[0]) != known[1]:
        tensors = *module.parameters(), *module.buffers()
        known = _GIVEN[module] = tensors, _written(tensors), Given.of(module)
    return known[2]


def _written(tensors: tuple[Tensor, ...]) -> list[tuple[int, int]]:
    """What changes when tensors are written to, or moved."""
    return [(x._version, x.data_ptr()) for x in tensors]


__all__ = ["FusedLine", "FusedView", "Given", "fused", "given_of"]
