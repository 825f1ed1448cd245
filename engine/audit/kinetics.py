"""Audits of a kinetic model in three velocity dimensions: conservation, entropy, transport.

The gas is uniform in space and out of equilibrium; collisions alone act. In such a gas the
stress relaxes at the rate ``p / mu`` and the heat flux at ``Pr p / mu``, so both transport
coefficients of the limit ``Kn -> 0`` are seen without any gradient (Struchtrup, Macroscopic
Transport Equations for Rarefied Gas Flows, 2005, section 5.3).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..comparison import worst
from ..gas.boundaries import ALL_PERIODIC
from ..gas.grid import Grid
from ..gas.kinetic.velocities import Velocities
from ..gas.kinetic.world import KineticWorld, Model
from ..gas.material import Gas
from ..runtime import generator, start
from .findings import Finding, at_most
from .moments import CONSERVED, TRANSPORT

KNUDSEN = 0.1


@dataclass(frozen=True)
class KineticSubject:
    """A collision model and its declared properties.

    Attributes:
        model: ``bgk``, ``es`` or ``shakhov``.
        prandtl: as declared to the user.
        nodes: velocity nodes along each axis.
    """

    model: Model
    prandtl: float = 2.0 / 3.0
    nodes: int = 16

    def world(self, systems: int) -> KineticWorld:
        """Return a uniform gas of ``systems`` independent samples, four cells each."""
        start("cpu")
        axes = 1 if self.model == "es" else 3
        nodes = 48 if axes == 1 else self.nodes
        gas = Gas(3, 1.0 if self.model == "bgk" else self.prandtl, 1.0, 0.0)
        grid = Grid((4,), (0.0,), (1000.0,))
        return KineticWorld(
            grid, (ALL_PERIODIC,), Velocities.symmetric(axes, nodes, 6.0), gas,
            torch.full((systems,), KNUDSEN, dtype=torch.float64), self.model,
        ).with_time_step(0.01 * KNUDSEN)  # fmt: skip


def _disturbed(world: KineticWorld, sizes: Tensor) -> Tensor:
    """Return ``f`` with stress and heat flux of given sizes ``[systems, 2]``.

    ``f = M (1 + a (v_x^2 - 1) + b v_x (|v|^2 - 5))``, written for the full or for the
    reduced distributions g, h of one resolved axis.
    """
    state = world.init(torch.Generator())
    cells = world.grid.cells
    f = state.f[:, :, :cells].clone()
    v = world.velocities.nodes.double()
    v = v if v.dim() == 2 else v[:, None]
    a, b = sizes[:, 0, None, None], sizes[:, 1, None, None]
    vx, square = v[:, 0], v.square().sum(1)
    if f.shape[1] == 1:
        f[:, 0] *= 1 + a * (vx**2 - 1) + b * vx * (square - 5)
        return f
    # the other two directions integrated: <|v_perp|^2> = 2, <|v_perp|^4> = 8
    f[:, 0] *= 1 + a * (vx**2 - 1) + b * vx * (vx**2 - 3)
    f[:, 1] *= 1 + a * (vx**2 - 1) + b * vx * (vx**2 - 1)
    return f


def _relaxed(subject: KineticSubject, sizes: Tensor, steps: int) -> list[dict[str, Tensor]]:
    world = subject.world(len(sizes))
    state = world.start(_disturbed(world, sizes))
    seen = [dict(world.observe(state))]
    for _ in range(steps):
        state = world.step(state)
        seen.append(dict(world.observe(state)))
    return seen


def transport(subject: KineticSubject, steps: int = 50) -> list[Finding]:
    """``Kn -> 0``: viscosity ``tau p`` and the declared Prandtl number."""
    sizes = torch.tensor([[0.05, 0.02]], dtype=torch.float64)
    seen = _relaxed(subject, sizes, steps)
    time = steps * 0.01 * KNUDSEN

    def rate(name: str) -> float:
        first, last = (float(s[name].flatten()[0]) for s in (seen[0], seen[-1]))
        return -math.log(last / first) / time

    stress, heat = rate("stress"), rate("heat_flux")
    viscosity, prandtl = 1.0 / (KNUDSEN * stress), heat / stress
    return [
        at_most(
            "viscosity as Kn -> 0",
            abs(viscosity - 1),
            TRANSPORT,
            detail=f"{viscosity:.4f} of tau p",
        ),
        at_most(
            "Prandtl number as Kn -> 0",
            abs(prandtl / subject.prandtl - 1),
            TRANSPORT,
            detail=f"{prandtl:.4f}, declared {subject.prandtl:.4f}",
        ),
    ]


def _random(samples: int) -> Tensor:
    rng = generator(13, 41)
    size = 2 * torch.rand(samples, 2, generator=rng, dtype=torch.float64) - 1
    return size * torch.tensor([0.15, 0.02], dtype=torch.float64)


def entropy_rises(seen: list[dict[str, Tensor]]) -> Finding:
    """The entropy never falls while a uniform gas relaxes (H-theorem)."""
    values = torch.stack([s["entropy"].flatten(1).sum(1) for s in seen])
    fall = (values[:-1] - values[1:]) / values[:-1].abs()
    detail = f"largest relative fall in a step, {values.shape[1]} states"
    value = worst([float(fall.max()), 0.0])
    return at_most("entropy production", value, 1e-10, detail=detail)


def relaxation(subject: KineticSubject, samples: int = 8, steps: int = 50) -> list[Finding]:
    """Collisions conserve mass, momentum and energy, and produce entropy."""
    seen = _relaxed(subject, _random(samples), steps)
    last, first = seen[-1], seen[0]
    drift = worst(
        float(((last[n] - first[n]).abs() / first[n].abs()).max())
        for n in ("mass", "energy")
    )
    detail = f"{samples} states, {steps} steps; mass and energy"
    return [
        at_most("conservation", drift, 10 * CONSERVED, detail=detail),
        entropy_rises(seen),
    ]


__all__ = ["KineticSubject", "entropy_rises", "relaxation", "transport"]
