"""BGK on several processes: every process holds a share of the velocities, in all cells.

Transport of one velocity needs no other velocity, and the collision term needs only the
conserved moments, so a step costs two sums over the processes of ``[batch, cells, V + 2]``
numbers and nothing else: no ghost cells, no exchange of distributions. Cells go in two
halves: while the sums of one are on their way, the other is moved or relaxed. The scheme is
that of :class:`~.world.KineticWorld` (ARS(2,2,2) in time, MUSCL in space, discrete
equilibria that conserve exactly), in plain torch, for periodic boxes.

    torch.distributed.init_process_group("gloo")        # started by torchrun
    world = DistributedBgk(grid, velocities, gas, knudsen, time_step)
    state = world.equilibrium(density, velocity, temperature)
    state = world.step(state)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ...errors import GuardError, InputError
from ..grid import Grid
from ..material import Gas
from ..scheme.finite_volume import DELTA, GAMMA, van_leer
from .velocities import Velocities


@dataclass(frozen=True)
class ShareState:
    """The velocities of this process.

    Attributes:
        f: ``[batch, *grid.shape, nodes of this process]``.
        step: scalar int64, steps made.
        time: scalar f64.
    """

    f: Tensor
    step: Tensor
    time: Tensor


@dataclass(frozen=True)
class DistributedBgk:
    """A gas in a periodic box, its velocities shared among the processes of a group.

    Without a process group it is the whole gas in one process. Implements ``Simulator``;
    all processes must call it in the same order.

    Attributes:
        grid: cells in space.
        velocities: all nodes; as many axes as the gas has dimensions.
        gas: transport law; Prandtl number 1.
        knudsen: ``[batch]``.
        time_step: explicit limit: CFL 0.5.

    Raises:
        InputError: reduced velocities, another Prandtl number, or more processes than
            nodes.
    """

    grid: Grid
    velocities: Velocities
    gas: Gas
    knudsen: Tensor
    time_step: float

    def __post_init__(self) -> None:
        if self.gas.dimension != self.velocities.axes or self.gas.prandtl_ends != (1, 1):
            raise InputError(
                "velocities: several processes need one axis per dimension of the gas, and "
                f"Prandtl number 1; found {self.velocities.axes} axes of "
                f"{self.gas.dimension}, Prandtl number {self.gas.prandtl}"
            )
        if processes() > self.velocities.count:
            raise InputError(
                f"{processes()} processes for {self.velocities.count} velocities: too many"
            )

    @property
    def mine(self) -> slice:
        """The nodes of this process."""
        rank = dist.get_rank() if dist.is_initialized() else 0
        ends = [self.velocities.count * k // processes() for k in (rank, rank + 1)]
        return slice(*ends)

    def equilibrium(
        self, density: Tensor, velocity: Tensor, temperature: Tensor
    ) -> ShareState:
        """Return the local discrete Maxwellian.

        Args:
            density: ``[batch, *grid.shape]``.
            velocity: ``[batch, *grid.shape, V]``.
            temperature: ``[batch, *grid.shape]``.
        """
        self.velocities.check_range(velocity, temperature, "initial")
        fields = (density, velocity, temperature)
        f = self._maxwellian(*(x.to(self.knudsen.device).double() for x in fields))
        return ShareState(f, torch.tensor(0), torch.tensor(0.0, dtype=torch.float64))

    def init(self, rng: torch.Generator) -> ShareState:
        """Return the uniform gas at rest with unit density and temperature."""
        one = torch.ones(len(self.knudsen), *self.grid.shape, dtype=torch.float64)
        return self.equilibrium(one, torch.zeros(*one.shape, self.velocities.axes), one)

    def step(self, state: ShareState) -> ShareState:
        """Advance by ``time_step``.

        Raises:
            GuardError: density or temperature not positive, on every process alike.
        """
        dt, f = self.time_step, state.f
        rates: list[Tensor] = []
        moved: list[_Moved] = []
        for half in self._halves:
            rates.append(self._transport(f, half))
            moved.append(self._summed(f[:, half] + GAMMA * dt * rates[-1]))
        first = [self._relaxed(*part, GAMMA * dt, state) for part in moved]
        f1 = torch.cat([f1 for f1, _ in first], 1)
        moved = []
        for half, rate, (_, q1) in zip(self._halves, rates, first, strict=True):
            rate = DELTA * rate + (1.0 - DELTA) * self._transport(f1, half)
            change = rate.add_(q1, alpha=1.0 - GAMMA)
            moved.append(self._summed(f[:, half] + dt * change))
        second = [self._relaxed(*part, GAMMA * dt, state) for part in moved]
        f2 = torch.cat([f2 for f2, _ in second], 1)
        return ShareState(f2, state.step + 1, state.time + dt)

    def observe(self, state: ShareState) -> Mapping[str, Tensor]:
        """Return ``density``, ``velocity``, ``temperature`` of every cell."""
        _, sums, sent = self._summed(state.f)
        density, velocity, temperature = self._fields(sums, sent)
        return {"density": density, "velocity": velocity, "temperature": temperature}

    # -- parts --------------------------------------------------------------------------

    @property
    def _halves(self) -> tuple[slice, slice]:
        """Cells along the first axis in two parts."""
        n = self.grid.shape[0]
        return slice(0, n // 2), slice(n // 2, n)

    def _transport(self, f: Tensor, part: slice) -> Tensor:
        """Return ``-v . grad f`` in a part of the cells, second-order upwind."""
        nodes, rate = self.velocities.like(f)[self.mine], torch.zeros_like(f[:, part])
        for d, (n, spacing) in enumerate(
            zip(self.grid.shape, self.grid.spacing, strict=True)
        ):
            v, right = nodes[:, d].contiguous(), nodes[:, d] > 0
            first, last = (part.start, part.stop) if d == 0 else (0, n)
            places = torch.arange(first - 2, last + 2, device=f.device) % n
            near = (f if d == 0 else f[:, part]).index_select(d + 1, places)
            near = near.movedim(d + 1, 0)
            rise = near.diff(dim=0)
            half = van_leer(rise[:-1], rise[1:]).mul_(0.5)
            low, high = near[1:-2] + half[:-1], near[2:-1] - half[1:]
            flux = torch.where(right, low, high).mul_(v)
            rate.sub_(flux.diff(dim=0).movedim(0, d + 1).div_(spacing))
        return rate

    def _summed(self, f: Tensor) -> "_Moved":
        """Return f, and its sums that are on their way from all processes."""
        nodes = self.velocities.like(f)[self.mine]
        ones, square = torch.ones_like(nodes[:, :1]), nodes.square().sum(1, True)
        sums = f @ torch.cat([ones, nodes, square], 1) * self.velocities.weight
        sent = dist.all_reduce(sums, async_op=True) if dist.is_initialized() else None
        return f, sums, sent

    def _relaxed(
        self, explicit: Tensor, sums: Tensor, sent: Any, weight: float,
        state: ShareState,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Solve ``f = explicit + weight Q(f)``; return f and Q(f)."""
        density, velocity, temperature = self._fields(sums, sent)
        if not bool(
            (torch.isfinite(temperature) & (density > 0) & (temperature > 0)).all()
        ):
            raise GuardError(
                f"step {int(state.step) + 1}: density or temperature is not positive",
                int(state.step) + 1,
                state,
            )
        target = self._maxwellian(density, velocity, temperature)
        shape = (-1, *[1] * self.grid.dim)
        tau = self.gas.relaxation_time(self.knudsen.reshape(shape), density, temperature)
        share = (weight / tau)[..., None]
        f = (explicit + share * target) / (1.0 + share)
        return f, (target - f) / tau[..., None]

    def _fields(self, sums: Tensor, sent: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature of sums, once these have come."""
        if sent is not None:
            sent.wait()
        density = sums[..., 0]
        velocity = sums[..., 1:-1] / density[..., None]
        energy = sums[..., -1] / density - velocity.square().sum(-1)
        return density, velocity, energy / self.velocities.axes

    def _maxwellian(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return this process's part of ``exp(a + b.xi + c xi^2)``, exact on all nodes.

        The sums over all nodes are products of sums over axes, so every process solves for
        a, b, c by itself, without another sum over processes.
        """
        V, width = self.velocities.axes, temperature.sqrt()
        axes = [
            (self.velocities.axis(d, density.device) - velocity[..., d, None])
            / width[..., None]
            for d in range(V)
        ]
        scale = self.velocities.weight / temperature.pow(V / 2)
        unknown = density.new_zeros(*density.shape, V + 2)
        unknown[..., 0] = -0.5 * V * math.log(2 * math.pi)
        unknown[..., -1] = -0.5
        target = torch.zeros_like(unknown)
        target[..., 0], target[..., -1] = 1.0, V
        for _ in range(30):
            values, jacobian = _product_moments(axes, unknown, scale)
            residual = target - values
            unknown = unknown + torch.linalg.solve_ex(jacobian, residual)[0]
            if float(residual.abs().amax()) < 1e-13:
                break
        c = unknown[..., -1, None]
        factors = [
            (unknown[..., d + 1, None] * xi + c * xi * xi).exp()
            for d, xi in enumerate(axes)
        ]
        level = unknown[..., 0].exp() * density / temperature.pow(V / 2)
        return self._product([factors[0] * level[..., None], *factors[1:]])

    def _product(self, factors: list[Tensor]) -> Tensor:
        """Return products of one factor per axis, ``[..., nodes of this process]``."""
        row = self.velocities.count // self.velocities.shape[0]
        first, last = self.mine.start // row, -(-self.mine.stop // row)
        product = factors[0][..., first:last]
        for factor in factors[1:]:
            product = (product[..., None] * factor[..., None, :]).flatten(-2)
        begin = self.mine.start - first * row
        return product[..., begin : begin + self.mine.stop - self.mine.start]


_Moved = tuple[Tensor, Tensor, Any]
"""A distribution, and its sums that are on their way."""


def processes() -> int:
    """Number of processes that share the velocities."""
    return dist.get_world_size() if dist.is_initialized() else 1


def _product_moments(
    axes: list[Tensor], unknown: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Moments of (1, xi_1 .. xi_V, xi^2) and their matrix, from sums over single axes."""
    V, c = len(axes), unknown[..., -1, None]
    means, total = [], scale * unknown[..., 0].exp()
    for d, xi in enumerate(axes):
        weight = (unknown[..., d + 1, None] * xi + c * xi * xi).exp()
        sums = torch.stack([(weight * xi**k).sum(-1) for k in range(5)], -1)
        total = total * sums[..., 0]
        means.append(sums / sums[..., :1])
    matrix = unknown.new_zeros(*unknown.shape, V + 2)
    squares = [m[..., 2] for m in means]
    matrix[..., 0, 0] = 1.0
    matrix[..., 0, -1] = torch.stack(squares).sum(0)
    for d, m in enumerate(means):
        others = matrix[..., 0, -1] - squares[d]
        matrix[..., 0, d + 1] = m[..., 1]
        matrix[..., d + 1, -1] = m[..., 3] + m[..., 1] * others
        matrix[..., -1, -1] += m[..., 4] + squares[d] * others
        for e, n in enumerate(means):
            product = m[..., 2] if d == e else m[..., 1] * n[..., 1]
            matrix[..., d + 1, e + 1] = product
    for k in range(1, V + 2):
        matrix[..., k, 0] = matrix[..., 0, k]
        matrix[..., -1, k] = matrix[..., k, -1]
    matrix = matrix * total[..., None, None]
    return matrix[..., 0, :], matrix


__all__ = ["DistributedBgk", "ShareState", "processes"]
