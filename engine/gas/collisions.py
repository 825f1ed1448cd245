r"""From a pair potential to the viscosity of a dilute gas, differentiable all the way.

Two atoms with energy E in their centre of mass and impact parameter b are deflected by

    chi = pi - 2 b int_{r0}^inf dr / (r^2 sqrt(1 - V(r)/E - b^2/r^2)),

with r0 the distance of closest approach, ``b^2 = r0^2 (1 - V(r0)/E)``. Cross section and
collision integrals (reduced by those of hard spheres of diameter s) are

    Q2(E) = 2 pi int (1 - cos^2 chi) b db,
    Omega(2, n)*(T) = int_0^inf E^(n+1) exp(-E/kT) Q2 dE / ((n+1)! (kT)^(n+2) 2 pi s^2 / 3)

(J. O. Hirschfelder, C. F. Curtiss, R. B. Bird, Molecular Theory of Gases and Liquids, 1954,
equations 8.2-2 to 8.2-8). The integral over b is taken over r0: its ends, the turning point
at b = 0 and the edges of the gap that orbiting leaves, move with the parameters of V, and
every node is placed relative to them. Each end is found without a graph and then improved
by one Newton step with the graph, which gives it the derivative of the implicit function;
without that step values stay right, and slopes at low temperatures are wrong by half.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Pair = Callable[[Tensor], Tensor]
"""Potential energy by distance, twice differentiable; one minimum, a repulsive wall."""


def lennard_jones(epsilon: Tensor, sigma: Tensor) -> Pair:
    """Return ``4 eps ((s/r)^12 - (s/r)^6)``."""

    def energy(r: Tensor) -> Tensor:
        s6 = (sigma / r) ** 6
        return 4.0 * epsilon * (s6 * s6 - s6)

    return energy


# -- nodes --------------------------------------------------------------------------------


@lru_cache
def _gauss(count: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre on (0, 1)."""
    x, w = np.polynomial.legendre.leggauss(count)
    return torch.tensor(0.5 * (x + 1)), torch.tensor(0.5 * w)


def _graded(count: int, ends: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """Gauss nodes on (0, 1), crowded like a fourth power at the chosen ends."""
    x, w = _gauss(count)
    match ends:
        case (False, False):
            return x, w
        case (True, False):
            return x**4, 4 * x**3 * w
        case (False, True):
            return 1 - (1 - x) ** 4, 4 * (1 - x) ** 3 * w
        case _:
            # x^4 (35 - 84 x + 70 x^2 - 20 x^3), the smooth step of seventh degree
            y = x**4 * (35 - 84 * x + 70 * x**2 - 20 * x**3)
            return y, 140 * x**3 * (1 - x) ** 3 * w


# -- special distances --------------------------------------------------------------------


def _derivatives(potential: Pair, r: Tensor) -> tuple[Tensor, Tensor]:
    """V and V' at ``r``, with a graph to the parameters (and to r, if it has one)."""
    with torch.enable_grad():
        inside = r if r.requires_grad else r.detach().requires_grad_()
        v = potential(inside)
        (slope,) = torch.autograd.grad(v.sum(), inside, create_graph=True)
    return v, slope


def _barrier(potential: Pair, r: Tensor) -> Tensor:
    """G = V + r V'/2: a circular orbit at r has the energy G(r)."""
    v, slope = _derivatives(potential, r)
    return v + 0.5 * r * slope


def _root(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Root of a monotonic function by bisection; its derivative by one Newton step."""
    with torch.no_grad():
        low, high = low.detach().clone(), high.detach().clone()
        sign = torch.sign(function(low))
        for _ in range(80):
            middle = 0.5 * (low + high)
            same = torch.sign(function(middle)) == sign
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        root = 0.5 * (low + high)
    with torch.enable_grad():
        r = root.detach().requires_grad_()
        value = function(r)
        (slope,) = torch.autograd.grad(value.sum(), r, retain_graph=True)
    return root - function(root) / slope.detach()


@dataclass(frozen=True)
class Landmarks:
    """Distances and energies of a potential; all scale with it.

    Attributes:
        zero: V = 0.
        minimum: V' = 0.
        depth: -V there.
        summit: where G is largest.
        orbiting: G there, the largest energy at which atoms can orbit.
    """

    zero: Tensor
    minimum: Tensor
    depth: Tensor
    summit: Tensor
    orbiting: Tensor

    @staticmethod
    def of(potential: Pair, guess: float) -> "Landmarks":
        """Find them; ``guess`` is a distance near the potential's zero."""
        near = torch.tensor([0.5 * guess], dtype=torch.float64)
        far = torch.tensor([2.0 * guess], dtype=torch.float64)

        def slope(r: Tensor) -> Tensor:
            return _derivatives(potential, r)[1]

        def tilt(r: Tensor) -> Tensor:
            with torch.enable_grad():
                inside = r if r.requires_grad else r.detach().requires_grad_()
                g = _barrier(potential, inside)
                (found,) = torch.autograd.grad(g.sum(), inside, create_graph=True)
            return found

        minimum = _root(slope, near, far)
        zero = _root(potential, near, minimum)
        summit = _root(tilt, minimum, 3.0 * minimum)
        return Landmarks(
            zero, minimum, -potential(minimum), summit, _barrier(potential, summit)
        )


# -- cross section ------------------------------------------------------------------------


@dataclass(frozen=True)
class Resolution:
    """Numbers of quadrature nodes.

    Attributes:
        energies: per piece of the energy axis (four pieces).
        distances: per piece of the range of closest approach.
        angles: along a trajectory.
    """

    energies: int = 16
    distances: int = 32
    angles: int = 96


def deflection(potential: Pair, energy: Tensor, closest: Tensor, angles: int) -> Tensor:
    """Return ``chi`` of trajectories that come as near as ``closest``.

    Gauss-Mehler quadrature in u = r0/r (F. J. Smith, Physica 30, 497, 1964).

    Args:
        potential: V.
        energy: ``[...]``.
        closest: r0, ``[...]``, outside the gap of orbiting.
        angles: nodes.
    """
    node = (torch.arange(angles, dtype=torch.float64) + 0.5) * (math.pi / (2 * angles))
    u = torch.cos(node)
    at, v = closest[..., None], potential(closest) / energy
    inside = potential(at / u) / energy[..., None]
    square = 1 - inside - (1 - v)[..., None] * u**2
    # both vanish at u = 1; rounding must not make the root of a negative number
    ratio = ((1 - u**2) / square.clamp(min=1e-14)).sqrt()
    impact = (1 - v).clamp(min=0.0).sqrt()
    return math.pi - impact * (math.pi / angles) * ratio.sum(-1)


def cross_section(
    potential: Pair, energy: Tensor, marks: Landmarks, resolution: Resolution
) -> Tensor:
    """Return ``Q2 [energies]`` of energies that are all below or all above orbiting."""
    near = (0.05 * marks.zero).expand_as(energy)

    def wall(r: Tensor) -> Tensor:
        return potential(r) - energy

    first = _root(wall, near, marks.zero.expand_as(energy))
    if bool((energy.detach() < marks.orbiting.detach()).all()):
        far = (20.0 * marks.zero).expand_as(energy)

        def circle(r: Tensor) -> Tensor:
            return _barrier(potential, r) - energy

        outer = _root(circle, marks.summit.expand_as(energy), far)
        square = outer**2 * (1 - potential(outer) / energy)

        def same(r: Tensor) -> Tensor:
            return r**2 * (energy - potential(r)) - square * energy

        inner = _root(same, first, marks.summit.expand_as(energy))
        pieces = [_piece(first, inner, (False, True)), _tail(outer)]
    else:
        summit = marks.summit.expand_as(energy)
        pieces = [_piece(first, summit, (False, True)), _tail(summit)]
    return sum(
        (_part(potential, energy, p, resolution) for p in pieces), torch.zeros_like(energy)
    )


Piece = Callable[[int], tuple[Tensor, Tensor]]


def _piece(low: Tensor, high: Tensor, ends: tuple[bool, bool]) -> Piece:
    def nodes(count: int) -> tuple[Tensor, Tensor]:
        x, w = _graded(count, ends)
        width = (high - low)[:, None]
        return low[:, None] + width * x, width * w

    return nodes


def _tail(low: Tensor) -> Piece:
    """From ``low`` to infinity: r0 = low / (1 - y)."""

    def nodes(count: int) -> tuple[Tensor, Tensor]:
        x, w = _graded(count, (True, False))
        low_ = low[:, None]
        return low_ / (1 - x), low_ * w / (1 - x) ** 2

    return nodes


def _part(potential: Pair, energy: Tensor, piece: Piece, at: Resolution) -> Tensor:
    r, weight = piece(at.distances)
    e = energy[:, None].expand_as(r)
    chi = deflection(potential, e, r, at.angles)
    v, slope = _derivatives(potential, r)
    # b db = r (1 - G/E) dr
    measure = r * (1 - (v + 0.5 * r * slope) / e)
    return 2 * math.pi * (torch.sin(chi) ** 2 * measure * weight).sum(1)


# -- averages over energy -----------------------------------------------------------------

_EDGES = (0.0, 1.0, 3.0, 12.0, 60.0, 400.0)
"""Ends of the pieces of the energy axis, in units of the orbiting energy."""


def mean_cross_sections(
    potential: Pair,
    temperatures: Tensor,
    guess: float,
    orders: tuple[int, ...] = (2,),
    resolution: Resolution | None = None,
) -> Tensor:
    """Return ``int E^(n+1) exp(-E/kT) Q2 dE / ((n+1)! (kT)^(n+2))``.

    Args:
        potential: V; energies in the unit of ``temperatures``.
        temperatures: ``[temperatures]``, kT, below 13 times the orbiting energy (which is
            0.8 epsilon for Lennard-Jones).
        guess: a distance near the zero of V.
        orders: n of each result.
        resolution: of the quadratures.

    Returns:
        ``[orders, temperatures]``, the unit of the distance squared.
    """
    at = resolution or Resolution()
    marks = Landmarks.of(potential, guess)
    total = [torch.zeros_like(temperatures) for _ in orders]
    for k, (low, high) in enumerate(itertools.pairwise(_EDGES)):
        x, w = _graded(at.energies, ((k == 1), (k == 0)))
        energy = marks.orbiting * (low + (high - low) * x)
        weight = marks.orbiting * (high - low) * w
        q = cross_section(potential, energy, marks, at) * weight
        for m, n in enumerate(orders):
            y = energy / temperatures[:, None]
            total[m] = total[m] + (
                q * y ** (n + 1) * torch.exp(-y) / math.factorial(n + 1)
            ).sum(1)
    return torch.stack([t / temperatures for t in total])


def viscosity(
    potential: Pair,
    temperatures: Tensor,
    mass: float,
    guess: float,
    resolution: Resolution | None = None,
) -> Tensor:
    """Return the viscosity of the dilute gas in the second approximation.

    mu = f 5/16 sqrt(pi m kT) / (3/2 Q), Q the mean cross section of order 2, and
    f = 1 + b12^2 / (b11 b22 - b12^2) with b11 = 4 W2, b12 = 7 W2 - 8 W3,
    b22 = 301/12 W2 - 28 W3 + 20 W4 (S. U. Kim and C. W. Monroe, J. Comput. Phys. 273, 358,
    2014, equation 22; W_n of order n).

    Args:
        potential: V, in the unit of ``temperatures``.
        temperatures: ``[temperatures]``, kT.
        mass: in units in which ``sqrt(mass kT)`` is a momentum.
        guess: a distance near the zero of V.
        resolution: of the quadratures.
    """
    w2, w3, w4 = mean_cross_sections(
        potential, temperatures, guess, (2, 3, 4), resolution
    ).unbind(0)
    one, mixed = 4 * w2, 7 * w2 - 8 * w3
    two = 301 / 12 * w2 - 28 * w3 + 20 * w4
    second = 1 + mixed**2 / (one * two - mixed**2)
    return second * 5 / 16 * (math.pi * mass * temperatures).sqrt() / (1.5 * w2)
