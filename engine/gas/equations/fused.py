"""Steps of Hermite moments on a line by fused kernels, where no gradient is asked for.

The equations are those of :mod:`.hermite`, number for number up to round-off, at a tenth of
the cost: a step of a small line is otherwise a few hundred tensor operations. With two or
three velocity dimensions the flow must turn about the line; then f has one number for each
(k, j), ``f_(k, 2 i, 2 l) = f_(k, j) j! / (i! l!)`` with i + l = j, so that order 5 has 12
equations in place of 56, as Chu's reduction leaves two distributions of one velocity. A
local closure is asked by the same kernels, but for its network.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from ....models.closures.contract import Closure
from ....models.closures.face import asinh, row_weights
from ....models.closures.local import CAUTION, LocalClosure
from ...kernels import moments as kernels
from ...kernels.moments import GRAD, HME, LEARNED, Line
from ...kernels.types import kernel_type
from ...runtime import start, unfollowed
from ..material import Gas
from ..scheme.finite_volume import (
    DELTA,
    GAMMA,
    Limiter,
    MomentState,
    MomentWorld,
    first_order,
    koren,
    van_leer,
)
from .indices import multi_indices

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
    line = Line(
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

    def takes(self, state: MomentState, world: MomentWorld) -> bool:
        """Tell whether nothing differentiates the step, and the flow turns."""
        m = state.moments
        if not unfollowed(
            m, world.knudsen, *(self.view.module.parameters() if self.view else ())
        ):
            return False
        if self.line.axes == 1:
            return True
        to, back = _turning(self.line)
        off = m - torch.einsum("nk,bkc->bnc", back.to(m), m[:, to])
        return bool(off.abs().amax() < TURNING)

    def step(self, world: MomentWorld, state: MomentState) -> MomentState | None:
        """Advance by the time step; None where an end asks for a gradient."""
        start("cpu")
        if self.line.axes == 1:
            m, full = state.moments.contiguous(), None
        else:
            to, full = _turning(self.line)
            m = state.moments[:, to].contiguous()
        dt, now = world.time_step, float(state.time)
        fields = _Fields.of(m, world, self.line)
        if not self._stage_ends(fields, world, m, now):
            return None
        count = self._ask(fields, world)
        first, kept = torch.empty_like(m), torch.empty_like(m)
        lag, step = (1.0 - GAMMA) / GAMMA, GAMMA * dt
        self._move(fields, world, m, (step, dt * DELTA, lag, step), first, kept)
        self._stage_ends(fields, world, first, now + step)
        if not world.once:
            self._ask(fields, world)
        new, h = torch.empty_like(m), dt * (1.0 - DELTA)
        self._move(fields, world, kept, (h, 0.0, 0.0, step), new, None)
        if full is not None:
            new = torch.einsum("nk,bkc->bnc", full.to(new), new)
        return MomentState(
            new,
            state.fallbacks + count[0],
            state.outside + count[1],
            state.step + 1,
            state.time + dt,
        )

    def _stage_ends(
        self, fields: "_Fields", world: MomentWorld, m: Tensor, now: float
    ) -> bool:
        """Write w with its ghost cells, and what is beyond the ends of the line."""
        kernels.k_primitive(m, fields.w, self.line)
        if self.line.periodic:
            return True
        edge = m[..., [0, 1, -2, -1]]
        if self.line.axes > 1:
            to, full = _turning(self.line)
            edge = torch.einsum("nk,bkc->bnc", full.to(m), edge)
        rows = world.rows(world.equations.primitive(edge), 0, now)
        if rows.w.requires_grad or rows.left.requires_grad or rows.right.requires_grad:
            return False
        ghost, left, right = rows.w, rows.left[..., 0], rows.right[..., -1]
        if self.line.axes > 1:
            ghost, left, right = ghost[:, to], left[:, to], right[:, to]
        fields.w[:, :2] = ghost[..., :2].mT
        fields.w[:, -2:] = ghost[..., -2:].mT
        fields.ends[:, 0], fields.ends[:, 1] = left, right
        return True

    def _ask(self, fields: "_Fields", world: MomentWorld) -> Tensor:
        """Ask the closure at all faces; return the faces fallen back, ``[2, batch]``."""
        if self.view is None:
            return fields.count
        return self.view.ask(fields, world.grid.spacing[0], self.law, self.line)

    def _move(
        self,
        fields: "_Fields",
        world: MomentWorld,
        base: Tensor,
        numbers: tuple[float, float, float, float],
        new: Tensor,
        kept: Tensor | None,
    ) -> None:
        """One stage: fluxes at the faces, then all cells."""
        f, h = fields, world.grid.spacing[0]
        kernels.k_move(
            f.w, f.ends, f.blend, f.top, f.given, base, f.knudsen, self.law, h, *numbers,
            new, new if kept is None else kept, kept is not None, self.line,
        )  # fmt: skip


@dataclass(frozen=True)
class _Fields:
    """Arrays of a step; shapes in :mod:`scalebridge.engine.kernels.moments`."""

    w: Tensor
    ends: Tensor
    blend: Tensor
    top: Tensor
    given: Tensor
    count: Tensor
    knudsen: Tensor
    knudsen_at_faces: Tensor

    @staticmethod
    def of(m: Tensor, world: MomentWorld, line: Line) -> "_Fields":
        batch, n, cells = m.shape
        faces = cells + 1
        kn = world.cell_knudsen.to(m)
        at_faces = kn
        if world.knudsen.dim() > 1:
            at_faces = world._at_faces(kn[:, None], 0)[:, 0]
        f64 = torch.float64
        return _Fields(
            m.new_empty(batch, cells + 4, n, dtype=f64),
            m.new_empty(batch, 2, n, dtype=f64),
            m.new_ones(batch, faces, dtype=f64),
            m.new_empty(batch, faces, line.tops, dtype=f64),
            m.new_empty(batch, faces, 2 * n, dtype=f64),
            m.new_zeros(2, batch, dtype=f64),
            kn.expand(batch, cells).double().contiguous(),
            at_faces.expand(batch, faces).double().contiguous(),
        )


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

    def ask(self, fields: _Fields, spacing: float, law: Tensor, line: Line) -> Tensor:
        """Write shares and closing moments; return the faces fallen back."""
        config, given = self.module.config, self.given
        w, (batch, faces) = fields.w, fields.blend.shape
        cosines, back = self.cosines, self.back
        rows, M1 = len(cosines) * batch, line.order + 1
        along = w
        if line.axes > 1:
            along = w.new_empty(rows, w.shape[1], M1)
            kernels.k_marginals(w, cosines, along, line)
        parts = w.new_empty(rows, faces, len(config.reach), 3)
        seen = w.new_empty(rows, len(config.reach), faces, M1)
        kind = self.module.scale.dtype
        z = w.new_empty(rows, faces, len(given.slow), dtype=kind)
        gates = w.new_empty(rows, faces, 3)
        kernels.k_see(
            w, along, fields.knudsen_at_faces, law, cosines, given.reach, spacing, parts,
            seen, given.slow, given.weights, MARGIN, CAUTION, config.stretch, z, gates,
            kernel_type(kind), line,
        )  # fmt: skip
        answer, far = given.answers(z)
        raw, count = torch.empty_like(fields.top), torch.zeros_like(fields.count)
        kernels.k_answer(
            answer, far, gates, back, raw, given.taps, fields.top, fields.blend, count, line
        )
        return count

    @cached_property
    def given(self) -> "Given":
        """What the kernels take of the module."""
        return Given.of(self.module)


@dataclass(frozen=True)
class Given:
    """What the kernels take of a module.

    Ranges, one over the scales and over the asinh of the limits, the weights of the row,
    the filter, the network, its value at rest, and its bound.
    """

    reach: Tensor
    slow: Tensor
    near: Tensor
    weights: Tensor
    taps: Tensor
    net: Callable[[Tensor], Tensor]
    rest: Tensor
    bound: float

    @staticmethod
    def of(module: LocalClosure) -> "Given":
        """Take it of a module on a device."""
        config, net = module.config, module.net
        half = math.ceil(3 * config.smoothing)
        at = torch.arange(-half, half + 1, dtype=torch.float64)
        taps = torch.exp(-0.5 * (at / (config.smoothing or 1.0)) ** 2)
        weights = torch.as_tensor(row_weights(config.order)).double().contiguous()
        reach, device = torch.tensor(config.reach, dtype=torch.float64), module.scale.device
        return Given(
            reach=reach.to(device),
            slow=1.0 / module.scale.double(),
            near=1.0 / torch.asinh(module.limit / module.scale),
            weights=weights.to(device),
            taps=(taps / taps.sum()).to(device),
            net=net.frozen(),
            rest=net.at_rest(net.even.weight.new_empty(1, 0)).detach() * (net.sign > 0),
            bound=config.bound,
        )

    def answers(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network says, and the largest input over its training range.

        Args:
            z: ``[rows, points, inputs]`` scaled invariants; the others are f64 ``[rows,
                points]``.
        """
        with torch.no_grad():
            z = asinh(z)
            far = (z.abs() * self.near).amax(-1)
            value = self.net(z.flatten(0, 1)) - self.rest
            answer = self.bound * torch.tanh(value / self.bound)
        return answer.double().view_as(far), far.double()


@lru_cache(maxsize=16)
def _turning(line: Line) -> tuple[Tensor, Tensor]:
    """Places of ``f_(k, 2 j, 0)``, and what each adds to all moments, ``[all, N]``."""
    every = multi_indices(line.order, line.axes)
    rest = (0,) * (line.axes - 2)
    at = [every.index((k, 2 * j, *rest)) for k, j in line.indices]
    back = torch.zeros(len(every), line.count, dtype=torch.float64)
    for i, (k, *across) in enumerate(every):
        if all(n % 2 == 0 for n in across):
            halves = [n // 2 for n in across]
            weight = math.factorial(sum(halves)) / math.prod(map(math.factorial, halves))
            back[i, line.places[k, sum(halves)]] = weight
    return torch.tensor(at), back


__all__ = ["FusedLine", "FusedView", "Given", "fused"]
