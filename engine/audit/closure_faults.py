"""Pairs of closures and gas models that the audits must tell apart."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from ...models.closures.contract import ClosureOutput, FaceStencil
from ..gas.equations.hermite import grad, hyperbolic
from ..gas.scheme.finite_volume import MomentState, MomentWorld
from . import kinetics, moments
from .fault_injection import PlantedFault
from .findings import Finding
from .kinetics import KineticSubject
from .moments import ClosureSubject, GradSpeeds


def diffusive(faces: FaceStencil) -> ClosureOutput:
    """A sound closure: ``f_{M+1} = -tau theta / (M + 1) df_M/dx / (1 + tau)``.

    Its answer depends on differences over a fixed length alone, in the moving frame.
    """
    return ClosureOutput(flux=_gradient_flux(faces, 1.0))


def _gradient_flux(faces: FaceStencil, sign: float) -> Tensor:
    tau, theta = faces.tau, faces.mean[..., 2]
    order = faces.cells.shape[-1] - 1
    return (
        -sign * 0.1 * tau / (1 + 20 * tau) * theta * faces.gradient[..., -1] / (order + 1)
    )


def antidiffusive(faces: FaceStencil) -> ClosureOutput:
    """The same with the wrong sign, and ten times: short waves grow without bound."""
    return ClosureOutput(flux=_gradient_flux(faces, -10.0))


def laboratory(faces: FaceStencil) -> ClosureOutput:
    """A closure without the moving frame: the answer holds the velocity itself."""
    return ClosureOutput(flux=0.01 * faces.mean[..., 1] * faces.mean[..., -1])


def one_handed(faces: FaceStencil) -> ClosureOutput:
    """A closure that prefers one direction: even where a mirror asks for an odd answer."""
    return ClosureOutput(flux=_gradient_flux(faces, 1.0).abs())


def cell_difference(faces: FaceStencil) -> ClosureOutput:
    """A closure of the difference of two cells, whatever lies between them."""
    return ClosureOutput(flux=-0.01 * (faces.high - faces.low)[..., -1])


def unrelaxed(faces: FaceStencil) -> ClosureOutput:
    """A source that undoes more than the relaxation of the last moment."""
    return ClosureOutput(source=1.5 * faces.mean[..., -1] / faces.tau)


def half_relaxed(faces: FaceStencil) -> ClosureOutput:
    """A source that undoes half of the relaxation: heat conducts twice as well."""
    return ClosureOutput(source=0.5 * faces.mean[..., -1] / faces.tau)


@dataclass(frozen=True)
class Leaking(MomentWorld):
    """A solver that loses a billionth of everything in each step."""

    def step(self, state: MomentState) -> MomentState:
        """Advance, and lose."""
        after = MomentWorld.step(self, state)
        return replace(after, moments=after.moments * (1 - 1e-9))


def _leak(closure: ClosureSubject, leaking: bool) -> Finding:
    knudsen = closure.spread(3)
    world = closure.world(knudsen)
    if leaking:
        given = world.grid, world.sides, world.equations, knudsen, world.time_step
        world = Leaking(*given)
    some = moments.waves(closure, 3, closure.cells)
    return moments.conservation(world, some, 10)


def _falling(honest: bool) -> Finding:
    """Entropy of a relaxing gas, or of the same film shown backwards."""
    seen = kinetics._relaxed(KineticSubject("bgk", 1.0), kinetics._random(4), 10)
    return kinetics.entropy_rises(seen if honest else seen[::-1])


def closure_faults() -> list[PlantedFault]:
    """Return the fixtures of all audits of closures and kinetic models."""
    sound, hme = ClosureSubject(diffusive, 5), ClosureSubject(hyperbolic, 5)

    def bad(closure: Any, order: int = 5) -> ClosureSubject:
        return ClosureSubject(closure, order)

    steps = partial(moments.realizability, steps=150)
    wide = ClosureSubject(hyperbolic, 24)
    leak, anti, m = partial(_leak, hme), bad(antidiffusive), moments
    shakhov, bgk = KineticSubject("shakhov"), KineticSubject("bgk")
    rows: list[tuple[str, str, Any, Any, Any]] = [
        ("conservation", "a solver that leaks", leak, False, True),
        ("Galilean invariance", "no moving frame", m.galilean, sound, bad(laboratory)),
        ("reflection", "prefers one direction", m.reflection, sound, bad(one_handed, 4)),
        ("hyperbolicity", "Grad's five moments", m.closure_hyperbolicity, hme, bad(grad)),
        ("hyperbolicity", "Grad-13", m.hyperbolicity, GradSpeeds(0.02), GradSpeeds(0.9)),
        ("stability of rest", "antidiffusion", m.stability, sound, anti),
        ("growth out of equilibrium", "antidiffusion", m.growth, sound, anti),
        ("entropy production", "a source against relaxation", m.entropy, hme,
         bad(unrelaxed)),
        ("realizability", "antidiffusion", steps, hme, anti),
        ("heat conduction as Kn -> 0", "half of the relaxation undone", m.conduction, hme,
         bad(half_relaxed, 3)),
        ("free flight as Kn -> inf", "four moments", m.free_flight, wide,
         bad(hyperbolic, 3)),
        ("grid transfer", "differences of cells, not of places", m.grid_transfer, sound,
         bad(cell_difference)),
        ("Prandtl number as Kn -> 0", "BGK sold for a gas of Prandtl number 2/3",
         kinetics.transport, shakhov, bgk),
        ("entropy production", "a film shown backwards", _falling, True, False),
    ]  # fmt: skip
    return [PlantedFault(*row) for row in rows]


__all__ = ["closure_faults"]
