r"""Whether the discrete velocities could hold what a run put on them, measured on its f.

Four things can be wrong with a grid of velocities, and each is a number that is an error:

``outside``
    The share of the energy flux beyond the ends, from what the outermost nodes hold: a
    Gaussian tail of the cell's own temperature is continued from each of them.
``equilibrium``
    The error of third moments of a discrete Maxwellian at the coldest state: the spacing h
    samples it with ``2 (2 pi s / h)^3 exp(-2 (pi s / h)^2)``, s = sqrt(T) (Poisson's sum).
``moments``
    The error of stress and heat flux by the spacing, from the departure of f from its own
    Maxwellian, by other sums over it. Those over every second and every fourth node are
    off by e2 and e4; where f is smooth the error falls as ``A exp(-a / h)``, and of all
    nodes it is ``e2^3 / e4^2``. This sees free flight and resonances that the nodes no
    longer follow. Between walls f has a jump at v = 0, across which the slow molecules
    change fast; there all nodes have the error ``h^2 f'(0+-) / 24`` of the midpoint rule
    (Euler, Maclaurin), with the slopes from the next three nodes.
``recurrence``
    Of a wave of length l in free flight the nodes bring everything back after ``l / h``;
    collisions leave ``exp(-l / (h tau))`` of it. Where the run is longer than that, this is
    the part of the first wave of the box that came back.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...protocols import Check
from .equilibrium import maxwellian
from .velocities import Velocities

BOUNDS = {
    "outside": (1e-2, "energy flux beyond the ends; widen model.lower and model.upper"),
    "equilibrium": (1e-2, "too few model.nodes for the coldest gas"),
    "moments": (4e-2, "stress and heat flux, worst component; take more model.nodes"),
    "recurrence": (1e-2, "free flight came back; take more model.nodes"),
}
"""What is allowed, and what to do. The bound of ``moments`` is that of the worst component
(heat along a wall); the shear stress is ten times nearer: between walls at Knudsen number
3, 16 nodes across give 0.045 and a shear stress 1.2 % off, 24 give 0.025 and 0.4 %."""

MOST = 1024
"""Cells of a problem that are looked at, evenly spread."""
STILL = 1e-9
"""A stress and a heat flux below this part of the pressure are round-off."""


@dataclass(frozen=True)
class Adequacy:
    """Estimated relative errors by the discrete velocities, the worst of the batch.

    Attributes:
        outside: beyond the ends.
        equilibrium: of third moments of the coldest Maxwellian.
        moments: of stress and heat flux.
        recurrence: part of a wave that came back.
    """

    outside: float
    equilibrium: float
    moments: float
    recurrence: float


def _negative(velocities: Velocities, axis: int) -> int | None:
    """Return the number of negative nodes where v = 0 is between two nodes, else None."""
    line = velocities.axis(axis)
    below = float(-line[0] / velocities.spacing[axis])
    inside = 0 < below < len(line) - 1
    return math.ceil(below) if inside and abs(below - round(below)) > 0.25 else None


def thinned(velocities: Velocities, axis: int, every: int) -> list[Tensor]:
    """Return weights ``[nodes along axis]`` of the sums over every so many nodes."""
    place = torch.arange(velocities.shape[axis]) % every
    return [every * (place == first).double() for first in range(every)]


def corrected(velocities: Velocities, axis: int) -> Tensor:
    """Return weights of the midpoint rule with the slopes at v = 0 on either side."""
    weights = torch.ones(velocities.shape[axis], dtype=torch.float64)
    middle = _negative(velocities, axis)
    if middle is not None and 3 <= middle <= len(weights) - 3:
        change = torch.tensor([2.0, -3.0, 1.0], dtype=torch.float64) / 24.0
        weights[middle : middle + 3] += change
        weights[middle - 3 : middle] += change.flip(0)
    return weights


def checks(
    world: Any, state: Any, end: float, name: str = "", largest: Sequence[float] = ()
) -> Iterator[Check]:
    """Yield whether the nodes were adequate, see the text of the module.

    Args:
        world: a :class:`.world.KineticWorld`.
        state: of it, at the end of a run.
        end: how long the run was.
        name: of a model that is compared; empty for the run's own.
        largest: root mean square of stress or heat flux in the course of the run, for each
            problem. Without walls what has died out by the end counts by what it was.
    """
    found = measure(world, state, end, [pair.periodic for pair in world.sides], largest)
    suffix = f"_{name}" if name else ""
    for key, (bound, note) in BOUNDS.items():
        value = getattr(found, key)
        yield Check(f"velocities_{key}{suffix}", "accuracy", value, bound, note=note)


def measure(
    world: Any, state: Any, end: float, periodic: Sequence[bool],
    largest: Sequence[float] = (),
) -> Adequacy:  # fmt: skip
    """Return what the distribution of a state says about its nodes.

    Args:
        world: a :class:`.world.KineticWorld`.
        state: of it, at the end of a run.
        end: how long the run was.
        periodic: which axes of the grid wrap around.
        largest: as of :func:`checks`.
    """
    found = [
        _of_problem(world, state.f[b], b, end, periodic, largest[b] if largest else 0.0)
        for b in range(world.batch)
    ]
    columns = zip(*found, strict=True)
    return Adequacy(*(max(column) for column in columns))


def _of_problem(
    world: Any, f: Tensor, number: int, end: float, periodic: Sequence[bool],
    largest: float,
) -> tuple[float, float, float, float]:  # fmt: skip
    v: Velocities = world.velocities
    D = world.gas.dimension
    cells = world.grid.cells
    step = -(-cells // MOST)
    # in memory of its own: how terms lie there decides how their sums are rounded, and a
    # resumed run says the same as one that was never broken off
    kept = f[:, :cells:step].transpose(0, 1).to("cpu", torch.float64, copy=True)
    kept = kept.contiguous()  # [cells, parts, nodes]
    rho, u, t = _gas(v, kept, D)
    coldest = float(t.amin())
    equilibrium = max(_sampling(h / math.sqrt(coldest)) for h in v.spacing)
    return (
        _outside(v, kept, rho, u, t),
        equilibrium,
        _moments(
            v, kept, rho, u, t, D, [d for d, p in enumerate(periodic) if not p], largest
        ),
        _recurrence(world, rho, t, number, end, periodic),
    )


def _gas(v: Velocities, f: Tensor, dimension: int) -> tuple[Tensor, Tensor, Tensor]:
    g, w = f[:, 0], v.weight
    rho = w * g.sum(-1)
    u = w * (g @ v.nodes) / rho[:, None]
    total = w * (g @ v.nodes.square().sum(-1)) + w * (f.sum(1) - g).sum(-1)
    return rho, u, (total / rho - u.square().sum(-1)) / dimension


def _sampling(ratio: float) -> float:
    """Error of a third moment of a Maxwellian whose nodes are ``ratio`` widths apart."""
    wave = 2.0 * math.pi / ratio
    return min(1.0, 2.0 * wave**3 * math.exp(-0.5 * wave * wave))


def _outside(v: Velocities, f: Tensor, rho: Tensor, u: Tensor, t: Tensor) -> float:
    grid = f[:, 0].reshape(len(f), *v.shape)
    scale, worst = rho * t**1.5, 0.0
    for axis in range(v.axes):
        others = tuple(d + 1 for d in range(v.axes) if d != axis)
        line = (grid.sum(others) if others else grid) * (v.weight / v.spacing[axis])
        for node, place in ((v.lower[axis], 0), (v.upper[axis], -1)):
            away = (node - u[:, axis]).abs()
            # integral of |c|^3 f beyond, f falling as exp(-c^2 / 2 T) from the last node
            tail = line[:, place].abs() * t * (away.square() + 2.0 * t)
            middle = 0.5 * v.spacing[axis]
            tail = tail * torch.exp(-away * middle / t)
            worst = max(worst, float((tail / scale).amax()))
    return worst


def _moments(
    v: Velocities, f: Tensor, rho: Tensor, u: Tensor, t: Tensor, dimension: int,
    walled: Sequence[int], largest: float,
) -> float:  # fmt: skip
    equilibrium = maxwellian(v, rho, u, t, dimension)
    g = (f - equilibrium).reshape(*f.shape[:2], *v.shape)
    c = v.nodes[None] - u[:, None]
    square = c.square().sum(-1)
    pairs = [(i, j) for i in range(v.axes) for j in range(i, v.axes)]
    stress = torch.stack([c[..., i] * c[..., j] for i, j in pairs], 1)
    heat = 0.5 * torch.stack([c[..., i] * square for i in range(v.axes)], 1)

    def sums(weights: Tensor) -> tuple[Tensor, Tensor]:
        part = (g * weights).flatten(2) * v.weight
        sigma = torch.einsum("cv,ckv->ck", part[:, 0], stress)
        q = torch.einsum("cv,ckv->ck", part[:, 0], heat)
        if part.shape[1] > 1:
            q = q + 0.5 * torch.einsum("cv,cvk->ck", part[:, 1], c)
        return sigma, q

    full = sums(torch.ones(v.shape, dtype=torch.float64))
    size = max(float(m.square().mean().sqrt()) for m in full)
    if not walled:
        size = max(size, largest)
    if size <= STILL * float((rho * t).mean()):
        return 0.0
    worst = 0.0
    for axis in range(v.axes):
        shape = [1] * v.axes
        shape[axis] = -1

        def off(weights: Tensor, place: int, shape: list[int] = shape) -> Tensor:
            part = sums(weights.reshape(shape).expand(v.shape))[place]
            return (part - full[place]).square().mean() / size**2

        for place in (0, 1):
            e2, e4 = (
                float(torch.stack([off(w, place) for w in thinned(v, axis, every)]).mean())
                ** 0.5
                for every in (2, 4)
            )
            smooth = e2 * min(1.0, e2 / e4) ** 2 if e4 > 0 else 0.0
            worst = max(worst, smooth)
            if axis in walled:
                worst = max(worst, float(off(corrected(v, axis), place)) ** 0.5)
    return worst


def _recurrence(
    world: Any, rho: Tensor, t: Tensor, number: int, end: float, periodic: Sequence[bool]
) -> float:
    kn = world.knudsen[number].double().cpu()
    kn = kn if kn.dim() == 0 else kn.amax()
    tau = float(world.gas.relaxation_time(kn, rho, t).amax())
    worst = 0.0
    for axis, wraps in enumerate(periodic):
        length = world.grid.upper[axis] - world.grid.lower[axis]
        back = length / world.velocities.spacing[axis]
        if wraps and end >= back and world.grid.shape[axis] > 1:
            worst = max(worst, math.exp(-back / tau))
    return worst
