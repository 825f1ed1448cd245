"""Random one-dimensional gas flows: the families that closures are trained and tested on.

A flow is a sum of Maxwellians whose fields are functions of x, and a Knudsen number that
may be one too; it can be put on any grid as cell averages, so a coarse run and its fine
reference start from the same thing. Everything is drawn from a seed and an index: flow 7
of a family is the same however many are asked for. Box [-1/2, 1/2], periodic.

==============  ==========================================================================
``wave``        smooth waves in density and temperature, half of them in velocity too
``mix``         0.2 to 0.4 of a wave, the rest two random states with jumps between them;
                half of the wave parts are split into two streams, so that they do not
                start in equilibrium
``jump``        two states with density ratios to 6 and temperature ratios to 3
``transition``  a mix in which the Knudsen number sweeps 1e-3 to 10 along the box
``wide``        one or two streams between two states each, density ratios to 8, temperature
                ratios to 4, velocities to 1; fronts of any steepness or waves to k = 6
==============  ==========================================================================

The constants are ours; the form of the waves is that of the test cases of bte-pytorch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ...runtime import generator
from ..boundaries import ALL_PERIODIC, Sides
from ..grid import Grid
from ..kinetic.velocities import Velocities
from ..kinetic.world import KineticWorld
from ..material import Gas

Fields = tuple[Tensor, Tensor, Tensor]
"""Density, velocity and temperature at the points asked for."""

SUBCELLS = 8
"""Points over which a cell average is taken; jumps make higher rules pointless."""

DECADES = 4
"""Knudsen decades from 1e-3 to 10; flow i lies in decade i mod 4."""

SAMPLES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.19, 0.25, 0.32, 0.4, 0.5, 0.65)
"""Times at which training flows are sampled; from 0.8 on every 0.2."""


def sample_times(until: float) -> tuple[float, ...]:
    """Return the times at which a training flow is sampled."""
    late = [0.8 + 0.2 * i for i in range(max(0, math.ceil((until - 0.8) / 0.2) + 1))]
    return tuple(t for t in (*SAMPLES, *late) if t <= until + 1e-12)


@dataclass(frozen=True)
class Flow:
    """One initial condition.

    Attributes:
        layers: x ``[points]`` to the Maxwellians that are added up.
        knudsen: x to Kn ``[points]``.
        value: Kn where it is constant, else NaN.
    """

    layers: Callable[[Tensor], Sequence[Fields]]
    knudsen: Callable[[Tensor], Tensor]
    value: float


@dataclass(frozen=True)
class _Draw:
    """Uniform random numbers from one generator."""

    rng: torch.Generator

    def __call__(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.rng))

    def coin(self) -> bool:
        return self(0.0, 1.0) < 0.5


def _waves(draw: _Draw) -> Callable[[Tensor], Fields]:
    """``mean over k = 1..K of a sin(2 pi k x + c) + b``, K in 1..4, for rho and T."""
    count = min(int(draw(1.0, 5.0)), 4)

    def series(amplitude: tuple[float, float], offset: tuple[float, float]) -> list:
        return [
            (draw(*amplitude), draw(0.0, 2 * math.pi), draw(*offset)) for _ in range(count)
        ]

    rho, theta = series((0.2, 0.4), (0.8, 1.2)), series((0.2, 0.4), (0.8, 1.2))
    u = series((0.0, 0.3), (0.0, 0.0))
    if draw.coin():
        u = [(0.0, 0.0, 0.0)] * count

    def total(terms: list, x: Tensor) -> Tensor:
        parts = [
            a * torch.sin(2 * math.pi * (k + 1) * x + c) + b
            for k, (a, c, b) in enumerate(terms)
        ]
        return torch.stack(parts).mean(0)

    return lambda x: (total(rho, x), total(u, x), total(theta, x))


def _two_states(
    draw: _Draw,
    rho: tuple[float, float],
    u: tuple[float, float],
    theta: tuple[float, float],
) -> Callable[[Tensor], Fields]:
    start, width = draw(-0.5, 0.5), draw(0.2, 0.8)
    pairs = [(draw(*span), draw(*span)) for span in (rho, u, theta)]

    def fields(x: Tensor) -> Fields:
        inside = torch.remainder(x - start, 1.0) < width
        a, b, c = (torch.where(inside, p, q).to(x) for p, q in pairs)
        return a, b, c

    return fields


def _scaled(fields: Fields, weight: float) -> Fields:
    return weight * fields[0], fields[1], fields[2]


def _split(fields: Fields, drift: float) -> list[Fields]:
    rho, u, theta = fields
    return [(0.5 * rho, u + drift, 0.7 * theta), (0.5 * rho, u - drift, 0.7 * theta)]


def _wave(draw: _Draw) -> Callable[[Tensor], Sequence[Fields]]:
    fields = _waves(draw)
    return lambda x: [fields(x)]


def _mix(draw: _Draw) -> Callable[[Tensor], Sequence[Fields]]:
    share, fields = draw(0.2, 0.4), _waves(draw)
    states = _two_states(draw, (0.5, 1.5), (-0.4, 0.4), (0.6, 1.4))
    drift = 0.0 if draw.coin() else draw(0.5, 1.0)

    def layers(x: Tensor) -> list[Fields]:
        wave = fields(x)
        streams = _split(wave, drift) if drift else [wave]
        parts = [_scaled(part, share) for part in streams]
        return [*parts, _scaled(states(x), 1 - share)]

    return layers


def _jump(draw: _Draw) -> Callable[[Tensor], Sequence[Fields]]:
    high, low = draw(1.0, 2.0), draw(0.33, 1.0)
    hot, cold = draw(1.0, 1.6), draw(0.5, 1.0)
    swap = draw.coin()
    start, width = draw(-0.5, 0.5), draw(0.3, 0.7)
    speeds = (draw(-0.5, 0.5), draw(-0.5, 0.5))

    def layers(x: Tensor) -> list[Fields]:
        inside = torch.remainder(x - start, 1.0) < width
        warm = ~inside if swap else inside
        rho = torch.where(inside, high, low).to(x)
        u = torch.where(inside, *speeds).to(x)
        return [(rho, u, torch.where(warm, hot, cold).to(x))]

    return layers


def _wide(draw: _Draw) -> Callable[[Tensor], Sequence[Fields]]:
    one = _stretch(draw, 8.0, 4.0)
    other = _stretch(draw, 8.0, 4.0) if draw.coin() else None
    share = draw(0.3, 0.7)

    def layers(x: Tensor) -> list[Fields]:
        if other is None:
            return [one(x)]
        return [_scaled(one(x), share), _scaled(other(x), 1.0 - share)]

    return layers


def _stretch(draw: _Draw, density: float, warmth: float) -> Callable[[Tensor], Fields]:
    """Between two states and back, by two fronts or by a wave."""
    start, width, steep = draw(-0.5, 0.5), draw(0.2, 0.8), 10.0 ** draw(0.7, 2.5)
    number, wavy = int(draw(1.0, 7.0)), draw(0.0, 1.0) < 0.3
    rho = draw(0.5, 1.5) * density ** (draw(-0.5, 0.5) * torch.tensor([1.0, -1.0]))
    theta = draw(0.7, 1.3) * warmth ** (draw(-0.5, 0.5) * torch.tensor([1.0, -1.0]))
    u = draw(-1.0, 1.0), draw(-1.0, 1.0)

    def fields(x: Tensor) -> Fields:
        y = torch.remainder(x - start, 1.0)
        fronts = [torch.tanh(steep * (y - at)) for at in (0.0, width, 1.0)]
        front = fronts[0] - fronts[1] + fronts[2]
        s = torch.sin(2 * math.pi * number * y) if wavy else front
        s = 0.5 * (1.0 + s)
        a, b = ((1 - s) * p[0].log() + s * p[1].log() for p in (rho.to(x), theta.to(x)))
        return a.exp(), (1 - s) * u[0] + s * u[1], b.exp()

    return fields


_FAMILIES = {"wave": _wave, "mix": _mix, "jump": _jump, "transition": _mix, "wide": _wide}


def flow(family: str, seed: int, index: int, knudsen: float | None = None) -> Flow:
    """Return one flow of a family.

    Args:
        family: wave, mix, jump, transition or wide.
        seed: of the family; :data:`..HELD_OUT` is the frozen test set.
        index: which one; it also chooses the decade of the Knudsen number.
        knudsen: fixes the Knudsen number.

    Raises:
        InputError: unknown family.
    """
    if family not in _FAMILIES:
        raise InputError(f"family: {family}; allowed: {', '.join(_FAMILIES)}")
    number = sorted(_FAMILIES).index(family)
    draw = _Draw(generator(seed, 1_000_000 * (number + 1) + index))
    value = 10.0 ** (index % DECADES - 3 + draw(0.0, 1.0))
    value = knudsen if knudsen is not None else value
    layers = _FAMILIES[family](draw)
    if family != "transition":
        return Flow(layers, lambda x: torch.full_like(x, value), value)
    center, steep = draw(-0.15, 0.15), draw(4.0, 8.0)

    def bump(y: Tensor) -> Tensor:
        return torch.tanh(steep * (y + 0.25)) - torch.tanh(steep * (y - 0.25))

    low, high = (float(bump(torch.tensor(y))) for y in (0.5, 0.0))

    def varying(x: Tensor) -> Tensor:
        # Two opposite fronts, so that Kn is periodic: thin in the middle, dense outside.
        y = torch.remainder(x - center + 0.5, 1.0) - 0.5
        share = ((bump(y) - low) / (high - low)).clamp(0.0, 1.0)
        return 10.0 ** (-3.0 + 4.0 * share)

    return Flow(layers, varying, math.nan)


def flows(family: str, seed: int, count: int, first: int = 0) -> list[Flow]:
    """Return ``count`` flows of a family from index ``first`` on."""
    return [flow(family, seed, first + index) for index in range(count)]


def box(cells: int, size: float = 1.0) -> Grid:
    """Return the grid of the families."""
    return Grid((cells,), (-0.5 * size,), (0.5 * size,))


def knudsen_numbers(some: Sequence[Flow], grid: Grid) -> Tensor:
    """Return Kn, ``[flows]`` where all are constant, else ``[flows, cells]``."""
    if not any(math.isnan(each.value) for each in some):
        return torch.tensor([each.value for each in some], dtype=torch.float64)
    return torch.stack([each.knudsen(grid.centers(0)) for each in some])


def distribution(some: Sequence[Flow], grid: Grid, velocities: Velocities) -> Tensor:
    """Return cell averages of f at the start, ``[flows, 1, cells, nodes]``."""
    fine = Grid((grid.shape[0] * SUBCELLS,), grid.lower, grid.upper).centers(0)
    v = velocities.nodes[:, 0]

    def one(each: Flow) -> Tensor:
        total = torch.zeros(grid.shape[0], len(v), dtype=torch.float64)
        for rho, u, theta in each.layers(fine):
            scale = rho / (2 * math.pi * theta).sqrt()
            f = scale[:, None] * (-((v - u[:, None]) ** 2) / (2 * theta[:, None])).exp()
            total += f.view(grid.shape[0], SUBCELLS, -1).mean(1)
        return total[None]

    return torch.stack([one(each) for each in some])


def kinetic(
    some: Sequence[Flow],
    cells: int,
    nodes: int,
    limit: float = 8.0,
    sides: Sides = ALL_PERIODIC,
    size: float = 1.0,
) -> tuple[KineticWorld, Tensor]:
    """Return the kinetic world of some flows and their distribution at the start."""
    grid, velocities = box(cells, size), Velocities.symmetric(1, nodes, limit)
    world = KineticWorld(
        grid=grid,
        sides=(sides,),
        velocities=velocities,
        gas=Gas.constant_time(dimension=1),
        knudsen=knudsen_numbers(some, grid),
        in_place=True,
    )
    return world, distribution(some, grid, velocities)


def averaged(raw: Tensor, cells: int) -> Tensor:
    """Average raw moments ``[..., fine, k]`` over blocks, ``[..., cells, k]``."""
    return raw.unflatten(-2, (cells, raw.shape[-2] // cells)).mean(-2)


def solve(
    some: Sequence[Flow],
    times: Sequence[float],
    cells: int = 200,
    nodes: int = 100,
    coarse: int = 100,
    order: int = 12,
    limit: float = 8.0,
    sides: Sides = ALL_PERIODIC,
    size: float = 1.0,
) -> Tensor:
    """Solve the kinetic equation and return raw moments on a coarser grid.

    ``integral v^k f dv`` for k = 0..order, averaged over the coarse cells: exactly what a
    finite-volume moment scheme there should hold.

    Args:
        some: the flows.
        times: rising, from 0 on.
        cells: cells of the kinetic run, a multiple of ``coarse``.
        nodes: velocities.
        coarse: cells of the answer.
        order: highest moment.
        limit: velocities lie in [-limit, limit].
        sides: of the box.
        size: its length.

    Returns:
        ``[times, flows, coarse, order + 1]``.
    """
    world, f = kinetic(some, cells, nodes, limit, sides, size)
    states = world.sampled(world.start(f), times)
    return torch.stack([averaged(world.raw_moments(s, order), coarse) for s in states])
