r"""Classical scattering of two atoms: deflection, cross sections.

Two atoms with energy E in their centre of mass and impact parameter b are deflected by

    chi = pi - 2 b int_{r0}^inf dr / (r^2 sqrt(1 - V(r)/E - b^2/r^2)),

with r0 the distance of closest approach, ``b^2 = r0^2 (1 - V(r0)/E)``, and

    Q_l(E) = 2 pi int (1 - cos^l chi) b db

(J. O. Hirschfelder, C. F. Curtiss, R. B. Bird, Molecular Theory of Gases and Liquids,
1954, equations 8.2-2 and 8.2-3). The integral over b is taken over r0: its ends, the
turning point at b = 0 and the edges of the gap that orbiting leaves, move with the
potential, and every node is placed relative to them. Each end carries the derivative of its
implicit function.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from .pairs import Table, root

ORDERS = (1, 2, 4)
"""l of the cross sections that transport to third order asks for."""


@dataclass(frozen=True)
class Resolution:
    """Numbers of quadrature nodes.

    Attributes:
        energies: per panel of the energy axis, at most ``PANEL`` wide in ``ln E``.
        distances: of closest approach, inside and outside the gap of orbiting.
        angles: along a trajectory.
    """

    energies: int = 12
    distances: int = 48
    angles: int = 80

    def doubled(self) -> "Resolution":
        """Return twice as many nodes everywhere."""
        return Resolution(2 * self.energies, 2 * self.distances, 2 * self.angles)


PANEL = 1.0
"""Widest panel of the energy axis, in ``ln E``."""


@lru_cache
def gauss(count: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss and Legendre on (0, 1)."""
    x, w = np.polynomial.legendre.leggauss(count)
    return torch.tensor(0.5 * (x + 1)), torch.tensor(0.5 * w)


@lru_cache
def graded(count: int) -> tuple[Tensor, Tensor]:
    """Return Gauss nodes on (0, 1), crowded at 0 as a fourth power."""
    x, w = gauss(count)
    return x**4, 4 * x**3 * w


def deflection(table: Table, energy: Tensor, closest: Tensor, angles: int = 80) -> Tensor:
    """Return chi of trajectories that come as near as ``closest``.

    Gauss-Mehler quadrature in u = r0/r (F. J. Smith, Physica 30, 497, 1964).

    Args:
        table: the potential.
        energy: ``[...]``.
        closest: ``ln r0``, ``[...]``, outside the gap of orbiting.
        angles: nodes.
    """
    node = (torch.arange(angles, dtype=torch.float64) + 0.5) * (math.pi / (2 * angles))
    u = torch.cos(node)
    v = table.at(closest)[0] / energy
    inside = table.at(closest[..., None] - u.log())[0] / energy[..., None]
    square = 1 - inside - (1 - v)[..., None] * u**2
    # both vanish at u = 1; rounding must not make the root of a negative number
    ratio = ((1 - u**2) / square.clamp(min=1e-14)).sqrt()
    return math.pi - (1 - v).clamp(min=0).sqrt() * (math.pi / angles) * ratio.sum(-1)


def _measure(table: Table, energy: Tensor, t: Tensor) -> Tensor:
    """``b db / d ln r0 = r0^2 (1 - G/E)``."""
    return torch.exp(2 * t) * (1 - table.barrier(t)[0] / energy)


def _sections(
    table: Table, energy: Tensor, t: Tensor, weight: Tensor, angles: int
) -> Tensor:
    """Sum over closest approaches ``t [energies, nodes]``; ``[orders, energies]``."""
    e = energy[:, None]
    cos = torch.cos(deflection(table, e.expand_as(t), t, angles))
    weight = 2 * math.pi * _measure(table, e, t) * weight
    return torch.stack([((1 - cos**order) * weight).sum(1) for order in ORDERS])


def wall(table: Table, energy: Tensor) -> Tensor:
    """Return ``ln r`` where the repulsion equals ``energy``."""
    low = torch.full_like(energy, math.log(table.smallest))
    marks = table.marks
    end = (
        math.log(table.largest) if marks.minimum is None else float(marks.minimum.detach())
    )

    def above(t: Tensor) -> tuple[Tensor, Tensor]:
        v, d = table.at(t, 1)
        return v - energy, d

    return root(above, low, torch.full_like(energy, end))


def cross_sections(table: Table, energy: Tensor, at: Resolution) -> Tensor:
    """Return ``Q_1, Q_2, Q_4`` as ``[3, energies]``, the unit of the distance squared.

    Args:
        table: the potential.
        energy: ``[energies]``, all below or all above the orbiting energy.
        at: numbers of nodes.
    """
    first, orbiting = wall(table, energy), table.marks.orbiting
    if orbiting is None:
        # no well: b grows with r0 from the wall to infinity
        return _outward(table, energy, first, at)
    summit = table.marks.summit
    assert summit is not None
    summit = summit.expand_as(energy)
    if bool((energy.detach() >= orbiting.detach()).all()):
        inner = outer = summit
    else:
        inner, outer = _gap(table, energy, first, summit)
    x, w = graded(at.distances)
    width = (inner - first)[:, None]
    near = _sections(table, energy, inner[:, None] - width * x, width * w, at.angles)
    return near + _outward(table, energy, outer, at)


def _outward(table: Table, energy: Tensor, start: Tensor, at: Resolution) -> Tensor:
    """Closest approaches from ``start`` to infinity, ``r0 = start / (1 - y)``."""
    x, w = graded(at.distances)
    return _sections(
        table, energy, start[:, None] - torch.log1p(-x), w / (1 - x) + 0 * start[:, None],
        at.angles,
    )  # fmt: skip


def _gap(
    table: Table, energy: Tensor, first: Tensor, summit: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the edges of the closest approaches that orbiting leaves out."""

    def circle(t: Tensor) -> tuple[Tensor, Tensor]:
        g, d = table.barrier(t)
        return g - energy, d

    outer = root(circle, summit.detach(), torch.full_like(energy, math.log(table.largest)))
    square = torch.exp(2 * outer) * (1 - table.at(outer)[0] / energy)

    def same(t: Tensor) -> tuple[Tensor, Tensor]:
        v, d = table.at(t, 1)
        r2 = torch.exp(2 * t)
        return r2 * (energy - v) - square * energy, r2 * (2 * (energy - v) - d)

    return root(same, first.detach(), summit.detach()), outer


@dataclass(frozen=True)
class CrossSections:
    """Cross sections on nodes of an energy axis.

    Attributes:
        energy: ``[n]`` nodes, in the unit of kT.
        weight: ``[n]`` of the integral over the energy.
        sections: ``[3, n]`` Q_1, Q_2, Q_4.
        coldest: lowest kT that the nodes serve.
        hottest: highest.
    """

    energy: Tensor
    weight: Tensor
    sections: Tensor
    coldest: float
    hottest: float


LOW, HIGH = 0.01, 45.0
"""Energies over kT that are integrated: what is left out is below 1e-8 of any integral."""


def scatter(
    table: Table, coldest: float, hottest: float, at: Resolution | None = None
) -> CrossSections:
    """Return the cross sections for gases between two temperatures.

    Args:
        table: the potential, energies in the unit of kT.
        coldest: lowest kT.
        hottest: highest kT.
        at: numbers of nodes.

    Raises:
        InputError: not 0 < coldest <= hottest, or collisions would come closer than the
            potential is known.
    """
    if not 0 < coldest <= hottest < math.inf:
        raise InputError(f"temperatures {coldest:g} to {hottest:g}: positive and ordered")
    orbiting = table.marks.orbiting
    if HIGH * hottest > table.highest:
        raise InputError(
            f"temperature {hottest:g}: its collisions reach {HIGH * hottest:.3g}, the "
            f"potential is known up to {table.highest:.3g} (at distance "
            f"{table.smallest:.3g}); at most {table.highest / HIGH:.4g}"
        )
    at = at or Resolution()
    low, high = math.log(LOW * coldest), math.log(HIGH * hottest)
    pieces: list[tuple[Tensor, Tensor]] = []
    if orbiting is not None and low < math.log(float(orbiting.detach())) < high:
        middle = orbiting.log()
        pieces = [(middle, torch.tensor(low)), (middle, torch.tensor(high))]
    else:
        pieces = [(torch.tensor(low), torch.tensor(high))]
    nodes, weights, found = [], [], []
    for begin, end in pieces:
        t, w = _panels(begin.double(), end.double(), at.energies, len(pieces) > 1)
        energy = t.exp()
        nodes.append(energy)
        weights.append(w.abs() * energy)
        found.append(cross_sections(table, energy, at))
    return CrossSections(
        torch.cat(nodes), torch.cat(weights), torch.cat(found, 1), coldest, hottest
    )


def _panels(begin: Tensor, end: Tensor, count: int, crowded: bool) -> tuple[Tensor, Tensor]:
    """Gauss panels from ``begin`` to ``end``; the first is graded towards ``begin``."""
    number = max(2, math.ceil(abs(float((end - begin).detach())) / PANEL))
    width = (end - begin) / number
    nodes, weights = [], []
    for panel in range(number):
        x, w = graded(2 * count) if crowded and panel == 0 else gauss(count)
        nodes.append(begin + width * (panel + x))
        weights.append(width * w)
    return torch.cat(nodes), torch.cat(weights)


__all__ = [
    "HIGH",
    "LOW",
    "ORDERS",
    "CrossSections",
    "Resolution",
    "cross_sections",
    "deflection",
    "gauss",
    "graded",
    "scatter",
    "wall",
]
