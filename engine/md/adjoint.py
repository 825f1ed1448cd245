"""Gradients through trajectories, in memory that grows with the logarithm of their length.

A step of velocity Verlet (c = 1, no noise) or of BAOAB Langevin (c = exp(-dt/relaxation),
its noise frozen: a pure function of seed and step) reads

    p_h = p + dt/2 F(x),   q = c p_h + noise,   x' = x + dt/2 (p_h + q)/m,
    p' = q + dt/2 F(x'),

and its adjoint, with X, P the derivatives of the result by x and p,

    X' += F_x(x')^T dt/2 P',   P = c P' + (1 + c) dt/2 X'/m,   X = X' + F_x(x)^T dt/2 P,

while the parameters collect F_p^T of the same vectors: one product with the Hessian per
step. Forward steps are those of the world itself, bit for bit. The way back needs their
states: every segment is run again from its first state, segments of segments above it
(A. Griewank, Optim. Methods Softw. 1, 35, 1992), so with ``leaf`` states kept at a time
and ``branch`` segments per level, ``leaf * branch^k`` steps cost k + 1 runs forward.

Nearby trajectories part exponentially, and so does the adjoint grow: the gradient of a long
chaotic trajectory is exact and useless (D. J. Lea, M. R. Allen, T. W. N. Haine, Tellus A
52, 523, 2000). The growth is measured on the way back; beyond a limit it is reported in a
warning, and the gradient is NaN rather than noise.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .differentiable import Differentiable
from .integrators import Langevin, Verlet
from .state import ParticleState
from .world import MolecularDynamics

Observable = Callable[[MolecularDynamics, ParticleState], Tensor]
"""A differentiable function of positions, momenta and the potential's parameters, e.g.
``lambda world, state: world.potential.energy(state, world.neighbours(state))``."""


class ChaosWarning(UserWarning):
    """A gradient through a trajectory that is too long for it."""


@dataclass
class Growth:
    """How the adjoint grew on the way back; filled in by ``backward``.

    Attributes:
        rate: per internal unit of time, from the earlier half of the trajectory; an
            estimate of the largest Lyapunov exponent where it is positive.
        factor: ``exp(rate * time)`` over the whole trajectory.
    """

    rate: float = math.nan
    factor: float = math.nan


@dataclass(frozen=True)
class Path:
    """A trajectory that can be differentiated.

    Attributes:
        state: at the end; positions and momenta carry the graph.
        observed: ``[frames, ...]``, the observable every so many steps; carries the graph.
        growth: of the adjoint, once ``backward`` was called.
    """

    state: ParticleState
    observed: Tensor
    growth: Growth


@dataclass(frozen=True)
class _Plan:
    world: MolecularDynamics
    start: ParticleState
    steps: int
    observable: Observable | None
    every: int
    leaf: int
    branch: int
    largest_growth: float
    growth: Growth = field(default_factory=Growth)

    @property
    def potential(self) -> Differentiable:
        return self.world.potential  # type: ignore[return-value]

    @property
    def dt(self) -> float:
        return self.world.time_step / self.world.units.time

    @property
    def keep(self) -> float:
        """c: the part of the momentum that a step keeps."""
        bath = self.world.integrator
        return math.exp(-self.dt / bath.relaxation) if isinstance(bath, Langevin) else 1.0

    def with_parameters(self, parameters: tuple[Tensor, ...]) -> "_Plan":
        potential = self.potential.with_parameters(parameters)
        return replace(self, world=replace(self.world, potential=potential))

    def segment(self, steps: int) -> int:
        """Length of the segments that ``steps`` steps are cut into."""
        size = self.leaf
        while size * self.branch < steps:
            size *= self.branch
        return size

    def observed_at(self, step: int) -> bool:
        return self.observable is not None and step % self.every == 0 and step > 0


@dataclass
class _Adjoint:
    """Derivatives of the result by the state at some step, and by the parameters.

    ``kick`` is the vector that the force at this step is still to be pulled back with;
    ``pulled`` what forces have given for the parameters, ``direct`` what observables have.
    """

    x: Tensor
    p: Tensor
    kick: Tensor
    pulled: list[Tensor] = field(default_factory=list)
    direct: list[Tensor] = field(default_factory=list)
    sizes: list[Tensor] = field(default_factory=list)


class _Trajectory(torch.autograd.Function):
    """(positions, momenta, parameters) -> the same at the end, and what was observed."""

    @staticmethod
    def forward(
        ctx: Any, plan: _Plan, x: Tensor, p: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        plan = plan.with_parameters(tuple(q.detach() for q in parameters))
        state = _start(plan, x.detach(), p.detach())
        ctx.plan, ctx.count = plan, len(parameters)
        ctx.checkpoints, frames = [], []
        size = plan.segment(plan.steps)
        for step in range(plan.steps):
            if step % size == 0:
                ctx.checkpoints.append(state)
            state = plan.world.step(state)
            if plan.observed_at(step + 1) and plan.observable is not None:
                plan.world.check_lists(state)
                frames.append(plan.observable(plan.world, state).detach())
        plan.world.check_lists(state)
        observed = torch.stack(frames) if frames else x.new_empty(0)
        return state.positions, state.momenta, observed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, x: Tensor, p: Tensor, frames: Tensor) -> tuple[Any, ...]:
        plan: _Plan = ctx.plan
        adjoint = _Adjoint(x.clone(), p.clone(), 0.5 * plan.dt * p)
        adjoint.direct = [torch.zeros_like(q) for q in plan.potential.parameters]
        size = plan.segment(plan.steps)
        for number in reversed(range(len(ctx.checkpoints))):
            steps = min(size, plan.steps - number * size)
            _back(plan, ctx.checkpoints[number], number * size, steps, adjoint, frames)
        adjoint.kick = 0.5 * plan.dt * adjoint.p
        _pull(plan, ctx.checkpoints[0], adjoint)
        by = plan.potential.by_parameters(adjoint.pulled)
        parts = zip(adjoint.direct, by, strict=True)
        found = [adjoint.x, adjoint.p, *(a + b for a, b in parts)]
        if not _judged(plan, adjoint):
            found = [part * math.nan for part in found]
        return None, *found


def _start(plan: _Plan, x: Tensor, p: Tensor) -> ParticleState:
    """Return the plan's state at x, p with its forces and a fresh anchor."""
    start = plan.start
    state = replace(start, positions=x, momenta=p, anchor=x, anchor_cell=start.cell)
    found = plan.potential(state, plan.world.neighbours(state))
    return replace(
        state,
        energy=found.energy.double(),
        forces=found.forces,
        virial=found.virial.double(),
    )


def _back(
    plan: _Plan,
    state: ParticleState,
    first: int,
    steps: int,
    adjoint: _Adjoint,
    frames: Tensor,
) -> None:
    """Take the adjoint from step ``first + steps`` back to ``first``, that of ``state``."""
    if steps > plan.leaf:
        size = plan.segment(steps)
        starts = [state]
        for step in range(1, (steps - 1) // size * size + 1):
            state = plan.world.step(state)
            if step % size == 0:
                starts.append(state)
        for number in reversed(range(len(starts))):
            length = min(size, steps - number * size)
            _back(plan, starts.pop(), first + number * size, length, adjoint, frames)
        return
    kept = [state]
    for _ in range(steps):
        kept.append(plan.world.step(kept[-1]))
    for step in reversed(range(1, steps + 1)):
        if plan.observed_at(first + step):
            _observe(plan, kept[step], frames[(first + step) // plan.every - 1], adjoint)
        _step_back(plan, kept[step], adjoint)
        kept.pop()


def _observe(plan: _Plan, state: ParticleState, by: Tensor, adjoint: _Adjoint) -> None:
    """Add what one observation depends on."""
    assert plan.observable is not None
    with torch.enable_grad():
        x, p = (t.detach().requires_grad_() for t in (state.positions, state.momenta))
        own = [q.detach().requires_grad_() for q in plan.potential.parameters]
        world = plan.with_parameters(tuple(own)).world
        value = plan.observable(world, replace(state, positions=x, momenta=p))
        found = torch.autograd.grad(value, [x, p, *own], by, allow_unused=True)
    if found[0] is not None:
        adjoint.x = adjoint.x + found[0]
    if found[1] is not None:
        adjoint.p = adjoint.p + found[1]
        adjoint.kick = adjoint.kick + 0.5 * plan.dt * found[1]
    for q, part in enumerate(found[2:]):
        if part is not None:
            adjoint.direct[q] = adjoint.direct[q] + part


def _step_back(plan: _Plan, state: ParticleState, adjoint: _Adjoint) -> None:
    """From ``state``, the end of a step, to its beginning; see the module's equations."""
    _pull(plan, state, adjoint)
    half, keep = 0.5 * plan.dt, plan.keep
    drift = (1.0 + keep) * half / state.masses
    adjoint.p = torch.addcmul(keep * adjoint.p, adjoint.x, drift[:, None])
    # with the last half kick of the step before, which has the same force
    adjoint.kick = plan.dt * adjoint.p
    adjoint.sizes.append(torch.stack([adjoint.x.norm(), adjoint.p.norm()]))


def _pull(plan: _Plan, state: ParticleState, adjoint: _Adjoint) -> None:
    """Pull the waiting kick back through the force at ``state``."""
    neighbours = plan.world.neighbours(state)
    by_x, pulled = plan.potential.pull_back(state, neighbours, adjoint.kick)
    adjoint.x = adjoint.x + by_x
    known = adjoint.pulled or [torch.zeros_like(part) for part in pulled]
    adjoint.pulled = [a + b for a, b in zip(known, pulled, strict=True)]


def _judged(plan: _Plan, adjoint: _Adjoint) -> bool:
    """Measure the growth over the earlier half; tell whether the gradient is no noise."""
    time, sizes = plan.dt * plan.steps, adjoint.sizes
    early, half = torch.stack([sizes[-1], sizes[len(sizes) // 2]]).prod(1).tolist()
    if plan.steps == 1 or 0.0 in (early, half):
        return True
    plan.growth.rate = math.log(early / half) / time
    plan.growth.factor = math.exp(min(plan.growth.rate * time, 700.0))
    if plan.growth.factor <= plan.largest_growth:
        return True
    warnings.warn(
        f"the gradient through {plan.steps} steps is noise: perturbations grow by "
        f"exp({plan.growth.rate:.3g} t), {plan.growth.factor:.3g} times over "
        f"{time:.4g} units of time; use fewer steps, or average by reweighting",
        ChaosWarning,
        stacklevel=2,
    )
    return False


def trajectory(
    world: MolecularDynamics,
    state: ParticleState,
    steps: int,
    observable: Observable | None = None,
    every: int = 1,
    *,
    leaf: int = 128,
    branch: int = 64,
    largest_growth: float = 1e6,
) -> Path:
    """Make ``steps`` steps that can be differentiated.

    Gradients flow to ``state.positions``, ``state.momenta`` and to the parameters of
    ``world.potential``, from the positions and momenta at the end and from what was
    observed. Energy, forces and virial of the final state carry no graph.

    Args:
        world: with a :class:`~.differentiable.Differentiable` potential, and Verlet or
            Langevin; noise is frozen: the same in every run from ``state``.
        state: where to begin; its neighbour list is made anew.
        steps: how many.
        observable: evaluated every ``every`` steps.
        every: see ``observable``.
        leaf: states kept at a time on the way back.
        branch: checkpoints kept per level; see the module.
        largest_growth: of the adjoint, beyond which the gradient is NaN, with a
            :class:`ChaosWarning`; infinite to have it whatever it is worth.

    Raises:
        InputError: another integrator, or a potential that has no adjoint.
        GuardError: the trajectory exploded.
    """
    if not isinstance(world.integrator, Verlet | Langevin):
        raise InputError(
            f"integrator: {type(world.integrator).__name__} has no adjoint; "
            "allowed: Verlet, Langevin"
        )
    if not hasattr(world.potential, "pull_back"):
        raise InputError(
            f"potential: {type(world.potential).__name__} has no adjoint; use "
            "SmoothLennardJones or TorchPotential"
        )
    if min(steps, every, leaf) < 1 or branch < 2:
        raise InputError(f"steps: {steps}, every: {every}; at least one is needed")
    plan = _Plan(
        world, state, steps, observable, every, leaf, branch, largest_growth
    )  # fmt: skip
    run: Callable[..., tuple[Tensor, Tensor, Tensor]] = _Trajectory.apply  # type: ignore[assignment]
    parameters = plan.potential.parameters
    x, p, observed = run(plan, state.positions, state.momenta, *parameters)
    end = replace(state, positions=x, momenta=p, anchor=x.detach(), step=state.step + steps)
    return Path(end, observed, plan.growth)
