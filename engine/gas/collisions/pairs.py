"""Pair potentials for collisions: tabulated once, smooth, with the range they vouch for.

Scattering asks for the potential a million times, so it is evaluated once at knots in
``ln r`` (value and two derivatives, by automatic differentiation) and interpolated by
quintic Hermite polynomials: twice continuously differentiable, error of sixth order in the
spacing. The table keeps its graph to the parameters of the potential.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from ...columns import read_columns
from ...errors import InputError

Pair = Callable[[Tensor], Tensor]
"""Energy by distance, twice differentiable; a repulsive wall, at most one minimum."""
KNOTS = 1200
FEWEST = 8
"""Rows of a file."""
FARTHEST = 60.0
"""Angstrom to which the potential of a file is continued."""


def lennard_jones(epsilon: Tensor, sigma: Tensor) -> Pair:
    """Return ``4 eps ((s/r)^12 - (s/r)^6)``."""

    def energy(r: Tensor) -> Tensor:
        s6 = (sigma / r) ** 6
        return 4.0 * epsilon * (s6 * s6 - s6)

    return energy


def inverse_power(strength: Tensor, power: float) -> Pair:
    """Return ``strength / r^power``."""
    return lambda r: strength * r**-power


_HERMITE = torch.tensor(
    [  # v0, d0, c0, v1, d1, c1 -> coefficients of 1, x, .. x^5 on (0, 1)
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.5, 0.0, 0.0, 0.0],
        [-10.0, -6.0, -1.5, 10.0, -4.0, 0.5],
        [15.0, 8.0, 1.5, -15.0, 7.0, -1.0],
        [-6.0, -3.0, -0.5, 6.0, -3.0, 0.5],
    ],
    dtype=torch.float64,
)


@dataclass(frozen=True)
class Table:
    """A pair potential on knots that are equally spaced in ``ln r``.

    Attributes:
        coefficients: ``[knots - 1, 6]`` of the quintic polynomials.
        smallest: first knot; nothing is known below.
        largest: last knot; the energy is zero beyond.
    """

    coefficients: Tensor
    smallest: float
    largest: float

    @staticmethod
    def of(pair: Pair, smallest: float, largest: float, knots: int = KNOTS) -> "Table":
        """Tabulate ``pair`` between two distances."""
        t = torch.linspace(
            math.log(smallest), math.log(largest), knots, dtype=torch.float64
        ).requires_grad_()
        with torch.enable_grad():
            value = pair(t.exp())
            (slope,) = torch.autograd.grad(value.sum(), t, create_graph=True)
            (bend,) = torch.autograd.grad(slope.sum(), t, create_graph=True)
        if not pair(t.detach().exp()).requires_grad:  # no parameters to differentiate by
            value, slope, bend = value.detach(), slope.detach(), bend.detach()
        return Table._between(torch.stack([value, slope, bend], 1), smallest, largest)

    @staticmethod
    def read(path: Path) -> "Table":
        """Return the potential of a text file with the columns r (angstrom), energy (K).

        Blanks or commas part the columns, ``#`` begins a comment. Between the rows the
        energy is a cubic spline of ``ln r``, beyond the last it falls as ``r^-6``.

        Raises:
            InputError: names the line and what is wrong with it, or that the potential has
                no wall, or several minima.
        """
        r, energy = read_columns(path, ("r", "energy"), FEWEST, positive=("r",))
        ends = math.log(r[0]), math.log(max(FARTHEST, r[-1]))
        t = np.linspace(*ends, KNOTS)
        spline = CubicSpline(np.log(r), energy)
        inside = np.stack([spline(t, order) for order in range(3)], 1)
        tail = energy[-1] * np.exp(6 * (math.log(r[-1]) - t))
        beyond = np.stack([tail, -6 * tail, 36 * tail], 1)
        knots = np.where(t[:, None] <= math.log(r[-1]), inside, beyond)
        table = Table._between(torch.from_numpy(knots), *(math.exp(end) for end in ends))
        try:
            _ = table.marks
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return table

    @staticmethod
    def _between(knots: Tensor, smallest: float, largest: float) -> "Table":
        """Join knots ``[knots, 3]`` of energy and its derivatives by ``ln r``."""
        h = math.log(largest / smallest) / (len(knots) - 1)
        ends = knots * torch.tensor([1.0, h, h * h], dtype=torch.float64)
        both = torch.cat([ends[:-1], ends[1:]], 1)
        return Table(both @ _HERMITE.T, smallest, largest)

    @property
    def spacing(self) -> float:
        """Distance of two knots in ``ln r``."""
        return math.log(self.largest / self.smallest) / len(self.coefficients)

    def at(self, t: Tensor, derivatives: int = 0) -> tuple[Tensor, ...]:
        """Return the energy at ``ln r`` and its derivatives by ``ln r``."""
        x = (t - math.log(self.smallest)) / self.spacing
        i = x.detach().floor().clamp(0, len(self.coefficients) - 1)
        x, c = x - i, self.coefficients[i.long()]
        beyond = t.detach() > math.log(self.largest)
        found, rows, scale = [], [c[..., k] for k in range(6)], 1.0
        for _ in range(derivatives + 1):
            y = rows[-1]
            for row in reversed(rows[:-1]):
                y = y * x + row
            found.append(torch.where(beyond, 0.0, y * scale))
            rows = [k * row for k, row in enumerate(rows)][1:]
            scale /= self.spacing
        return tuple(found)

    def __call__(self, r: Tensor) -> Tensor:
        """Return the energy at distances ``r``."""
        return self.at(r.log())[0]

    def barrier(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``G = V + r V'/2``, the energy of a circular orbit, and ``dG/d ln r``."""
        v, d, c = self.at(t, 2)
        return v + 0.5 * d, d + 0.5 * c

    @cached_property
    def highest(self) -> float:
        """Energy at the first knot: collisions of more are not described."""
        at = torch.tensor(math.log(self.smallest), dtype=torch.float64)
        return float(self.at(at)[0].detach())

    @cached_property
    def marks(self) -> "Landmarks":
        """Distances where something happens."""
        return Landmarks.of(self)


def root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], low: Tensor, high: Tensor
) -> Tensor:
    """Return the root of a monotonic function by bisection, and its derivative.

    The derivative of the implicit function comes from one Newton step with the graph;
    without it values are right and slopes are not.

    Args:
        function: value and derivative at ``ln r``.
        low: on one side of the root.
        high: on the other.
    """
    with torch.no_grad():
        low, high = low.clone(), high.clone()
        sign = torch.sign(function(low)[0])
        for _ in range(60):
            middle = 0.5 * (low + high)
            same = torch.sign(function(middle)[0]) == sign
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        found = 0.5 * (low + high)
    value, slope = function(found)
    return found - value / slope.detach()


@dataclass(frozen=True)
class Landmarks:
    """Distances (``ln r``) and energies of a potential.

    Attributes:
        minimum: V' = 0; None where the potential is repulsive everywhere.
        summit: G is largest there, beyond the minimum.
        orbiting: G there, the largest energy at which two atoms can orbit.
    """

    minimum: Tensor | None
    summit: Tensor | None
    orbiting: Tensor | None

    @staticmethod
    def of(table: Table) -> "Landmarks":
        """Find them.

        Raises:
            InputError: the potential has no wall at its smallest distance, or more than
                one minimum.
        """
        a, b = math.log(table.smallest), math.log(table.largest)
        t = torch.linspace(a, b, 8 * len(table.coefficients), dtype=torch.float64)[:-1]
        with torch.no_grad():
            v, d = table.at(t, 1)
        deep = d > 1e-9 * v.abs().clamp(min=1e-12 * float(v.abs().amax()) ** 0.5)
        if float(d[0]) >= 0 or not math.isfinite(float(v[0])):
            raise InputError(
                f"pair potential: no repulsive wall at its smallest distance "
                f"{table.smallest:g}"
            )
        turns = torch.nonzero(deep[1:] & ~deep[:-1])[:, 0]
        if len(turns) == 0:
            return Landmarks(None, None, None)
        if len(turns) > 1:
            places = ", ".join(f"{float(t[i].exp()):.3g}" for i in turns)
            raise InputError(f"pair potential: minima at {places}; one at most is treated")
        i = int(turns[0])

        def slope(at: Tensor) -> tuple[Tensor, Tensor]:
            _, first, second = table.at(at, 2)
            return first, second

        minimum = root(slope, t[i], t[i + 2])
        with torch.no_grad():
            g, _ = table.barrier(t)
        j = i + int(g[i:].argmax())

        def tilt(at: Tensor) -> tuple[Tensor, Tensor]:
            _, first, second, third = table.at(at, 3)
            return first + 0.5 * second, second + 0.5 * third

        summit = root(tilt, t[j - 1], t[j + 1])
        return Landmarks(minimum, summit, table.barrier(summit)[0])


__all__ = ["Landmarks", "Pair", "Table", "inverse_power", "lennard_jones", "root"]
