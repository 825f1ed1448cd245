r"""Forces on a gas and heat given to it, for every model alike.

    d rho u / dt + ... = rho g(x),   dE / dt + ... = rho u . g(x) + q(x),
    df / dt + ... + g(x) . df/dv = q(x) / (D rho) laplace_v f

A step is half a kick, a step of the model, half a kick (Strang, second order; exact for a
uniform force). A kick changes the velocity and adds heat, and leaves density and every
central moment beyond the temperature alone: that is what the Fokker-Planck operators of
the last line do to a distribution, so one :class:`Force` means the same to all models.

A gas at rest in a force field stays there to the order of the scheme only. Where its state
is known (``rest``), what one step would do to it is taken off every step,

    new = S(U) - (S(rest) - rest),

which keeps the order of the scheme, since the difference is its error for an exact steady
state, and holds the rest to round-off (Berberich, Chandrashekar, Klingenberg, Computers &
Fluids 219, 2021, 104858, in the form for a whole step).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from annotated_types import Len
from torch import Tensor

from ...models.parts import part
from ..errors import InputError
from .equations.fluid import FluidState
from .grid import Grid
from .initial.painted import Fields, Quantity, check_texts, evaluate
from .kinetic.world import KineticState, KineticWorld
from .scheme.finite_volume import MomentState
from .scheme.positivity import PositivityFallback

BALANCED = 0.1
"""What the pressure's slope may miss of the force on a state that is said to be at rest,
of the largest force of the box: the error of slopes on a coarse grid, not another state."""


@part
class Rest:
    """A state that the force holds at rest."""

    density: Quantity
    """Reference densities: a number or an expression of x, y and z."""
    temperature: Quantity | None = None
    """Reference temperatures; this or the pressure."""
    pressure: Quantity | None = None
    """Unit density times temperature."""

    def __post_init__(self) -> None:
        check_texts(density=self.density, temperature=self.temperature)
        check_texts(pressure=self.pressure)
        if (self.temperature is None) == (self.pressure is None):
            raise ValueError("give temperature or pressure, one of the two")

    @property
    def start(self) -> Fields:
        """The same as an initial condition."""
        return Fields(self.density, (0.0,), self.temperature, self.pressure)


@part
class Force:
    """A body force and a heat source, constant in time."""

    acceleration: Annotated[tuple[Quantity, ...], Len(1, 3)] = (0.0,)
    """Force per mass, unit R T0 / L: numbers or expressions of x, y and z."""
    heat: Quantity = 0.0
    """Energy per volume and time, unit rho0 (R T0)^1.5 / L."""
    rest: Rest | None = None
    """State that is held at rest to round-off; without it, to the order of the scheme."""

    def __post_init__(self) -> None:
        check_texts(heat=self.heat)
        for number, value in enumerate(self.acceleration):
            check_texts(**{f"acceleration.{number}": value})

    def on(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return acceleration ``[components, *grid.shape]`` and heat ``[*grid.shape]``.

        Raises:
            InputError: not finite somewhere, or a coordinate that the grid has not.
        """

        def values(*at: Tensor) -> Tensor:
            keys = [f"acceleration.{k}" for k in range(len(self.acceleration))]
            given = zip([*keys, "heat"], [*self.acceleration, self.heat], strict=True)
            return torch.stack([evaluate(k, v, at, "force") for k, v in given])

        found = grid.average(values, 2)
        for number, component in enumerate(found):
            if not bool(component.isfinite().all()):
                key = "heat" if number == len(self.acceleration) else "acceleration"
                raise InputError(f"force.{key}: not finite everywhere on the grid")
        return found[:-1], found[-1]


# -- kicks ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kick:
    """What a time of force and heat alone does to a state of each model.

    Attributes:
        acceleration: ``[components, *grid.shape]``.
        heat: ``[*grid.shape]``, or None where there is none.
    """

    acceleration: Tensor
    heat: Tensor | None

    def __call__(self, world: Any, state: Any, time: float) -> Any:
        """Return the state after ``time``; density does not change."""
        if isinstance(state, KineticState):
            return self._kinetic(world, state, time)
        if isinstance(state, MomentState):
            return self._moments(world, state, time)
        return self._fluid(world, state, time)

    def _fluid(self, world: Any, state: FluidState, time: float) -> FluidState:
        u = state.u.clone()
        cells = world.inside(u)
        rho = cells[:, 0]
        for k, g in enumerate(self.acceleration.to(u)):
            before = cells[:, 1 + k].clone()
            cells[:, 1 + k] += time * rho * g
            cells[:, -1] += 0.5 * time * g * (before + cells[:, 1 + k])
        if self.heat is not None:
            cells[:, -1] += time * self.heat.to(u)
        return replace(state, u=u)

    def _moments(self, world: Any, state: MomentState, time: float) -> MomentState:
        solver = world.world if isinstance(world, PositivityFallback) else world
        eq = solver.equations
        w = eq.primitive(state.moments).clone()
        for k, g in enumerate(self.acceleration.to(w)):
            w[:, 1 + k] += time * g
        if self.heat is not None:
            warmer = 2.0 * time * self.heat.to(w) / (eq.gas.dimension * w[:, 0])
            for place in eq.positive[1:]:
                w[:, place] += warmer
        return replace(state, moments=eq.conserved(w))

    def _kinetic(self, world: Any, state: KineticState, time: float) -> KineticState:
        v, D, cells = world.velocities, world.gas.dimension, world.grid.cells
        f = state.f[:, :, :cells].unflatten(-1, v.shape)
        for axis, g in enumerate(self.acceleration.to(f)):
            if bool(g.any()):
                f = shifted(f, (time / v.spacing[axis]) * g.flatten(), 3 + axis)
        if self.heat is not None:
            rho = f[:, 0].flatten(2).sum(-1) * v.weight
            spread = (time * self.heat.to(f).flatten() / (D * rho))[:, None]
            wide = spread.view(*spread.shape, *(1,) * v.axes)
            hotter = f
            for axis, h in enumerate(v.spacing):
                hotter = hotter + wide / h**2 * _second_difference(f, 3 + axis)
            if v.axes < D:
                more = 2.0 * (D - v.axes) * wide * f[:, :1]
                hotter = torch.cat([hotter[:, :1], hotter[:, 1:] + more], 1)
            f = hotter
        out = state.f.clone()
        out[:, :, :cells] = f.flatten(3)
        return replace(state, f=out)


def shifted(f: Tensor, steps: Tensor, axis: int) -> Tensor:
    """Return f moved by a part of the node spacing per cell, at sixth order.

    Lagrange's weights of six nodes reproduce polynomials to degree five: sums of 1, v and
    v^2 move exactly as those of a rigid distribution. What would leave the axis stays in
    its last node, so no mass is lost.

    Args:
        f: ``[batch, parts, cells, *nodes]``.
        steps: ``[cells]`` node spacings, at most 1 either way.
        axis: of the nodes.
    """
    n, reach = f.shape[axis], 3
    ends = [0, 0] * (f.dim() - 1 - axis) + [2 * reach, 2 * reach]
    padded = torch.nn.functional.pad(f, ends)
    places = torch.arange(-2, 4, dtype=torch.float64, device=f.device)
    moved: Tensor | float = 0.0
    forwards = steps <= 0
    at = -steps.abs().double()  # six nodes around the one that the gas comes from
    for m in range(6):
        others = [k for k in range(6) if k != m]
        top = math.prod(float(places[m] - places[k]) for k in others)
        weight = torch.ones_like(at)
        for k in others:
            weight = weight * (-at - places[k])
        weight = (weight / top).to(f).view(-1, *(1,) * (f.dim() - 3))
        up = padded.narrow(axis, reach + int(places[m]), n + 2 * reach)
        down = padded.narrow(axis, reach - int(places[m]), n + 2 * reach)
        side = forwards.view(-1, *(1,) * (f.dim() - 3))
        moved = moved + weight * torch.where(side, up, down)
    assert isinstance(moved, Tensor)
    inside = moved.narrow(axis, reach, n).clone()
    inside.select(axis, 0).add_(moved.narrow(axis, 0, reach).sum(axis))
    inside.select(axis, n - 1).add_(moved.narrow(axis, reach + n, reach).sum(axis))
    return inside


def _second_difference(f: Tensor, axis: int) -> Tensor:
    """``f[j+1] - 2 f[j] + f[j-1]``, nothing passing the ends."""
    slope = torch.diff(f, dim=axis)
    none = torch.zeros_like(f.narrow(axis, 0, 1))
    return torch.diff(torch.cat([none, slope, none], axis), dim=axis)


# -- the world -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Forced:
    """A world whose gas feels a force. Implements ``Simulator``.

    Attributes:
        world: the model without it.
        kick: force and heat on its grid.
        rest: its state at rest, or None.
    """

    world: Any
    kick: Kick
    rest: Any = None
    _kept: dict = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.world, KineticWorld):
            self._check_kinetic(self.world)

    def _check_kinetic(self, world: KineticWorld) -> None:
        half, heat = 0.5 * world.time_step, self.kick.heat
        steps = zip(self.kick.acceleration, world.velocities.spacing, strict=False)
        most = max(half * float(g.abs().amax()) / h for g, h in steps)
        if most > 1.0:
            raise InputError(
                f"force.acceleration: moves the gas by {most:.3g} velocity nodes in half a "
                "step; at most 1; take fewer nodes, a finer grid or a smaller model.cfl"
            )
        if heat is not None and float(heat.amin()) < 0.0:
            raise InputError(
                f"force.heat: {float(heat.amin()):.4g}; a kinetic model can be heated, not "
                "cooled, by a source; use model.kind = nsf or hermite"
            )

    @property
    def time_step(self) -> float:
        """Of the world."""
        return self.world.time_step

    def init(self, rng: torch.Generator) -> Any:
        """Return what the world begins with."""
        return self.world.init(rng)

    def stable_step(self, state: Any, cfl: float = 0.3) -> float:
        """Return that of the world."""
        return self.world.stable_step(state, cfl)

    def paced(self, state: Any, time_step: float) -> "Forced":
        """Return the world of a step from ``state``."""
        return replace(self, world=self.world.paced(state, time_step))

    def observe(self, state: Any) -> Mapping[str, Tensor]:
        """Return what the world observes."""
        return self.world.observe(state)

    def step(self, state: Any) -> Any:
        """Advance by ``time_step``; guards as of the world."""
        new = self._moved(state)
        if self.rest is None:
            return new
        if "error" not in self._kept:
            name = _field(state)
            self._kept["error"] = getattr(self._moved(self.rest), name) - getattr(
                self.rest, name
            )
        name = _field(state)
        return replace(new, **{name: getattr(new, name) - self._kept["error"]})

    def _moved(self, state: Any) -> Any:
        half = 0.5 * self.world.time_step
        return self.kick(
            self.world, self.world.step(self.kick(self.world, state, half)), half
        )


def _field(state: Any) -> str:
    kinds = {KineticState: "f", MomentState: "moments", FluidState: "u"}
    return kinds[type(state)]


def check_rest(force: Force, grid: Grid, density: Tensor, pressure: Tensor) -> None:
    """Refuse a rest whose pressure does not carry the force.

    Raises:
        InputError: the slope of the pressure is not that of ``rho g``.
    """
    acceleration, _ = force.on(grid)
    wanted = [density * g for g in acceleration]
    largest = max(float(w.abs().amax()) for w in wanted)
    for axis in range(grid.dim):
        p, n = pressure.movedim(axis, 0), grid.shape[axis]
        slope = (p[1:] - p[:-1]) / grid.spacing[axis]
        w = wanted[axis].movedim(axis, 0) if axis < len(wanted) else torch.zeros_like(p)
        off = float((slope - 0.5 * (w[1:] + w[:-1])).abs().amax())
        if n > 1 and off > BALANCED * largest:
            raise InputError(
                f"force.rest: along {'xyz'[axis]} its pressure's slope misses the force by "
                f"{off:.3g} (the largest force is {largest:.3g}); it is not at rest"
            )
