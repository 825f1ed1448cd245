"""Invariant products of moments: a basis that is complete up to a degree, as a program.

A moment ``A_nlm = sum_j phi_n(r_ij) Y_lm(u_ij)`` is of degree ``spacing n + angular l``.
The basis holds, of every body order, all rotation-invariant products of moments whose
degrees sum to no more than that order's limit:

    2: A_n00                                4: sum C^(l1 l2 l3)_mmm A_1 A_2 A_3
    3: sum_m A_n1lm A_n2lm                  5: sum_M B_12LM B_34LM,  B = sum C^(l1 l2 L) A A

with the invariants C of three degrees (:func:`.harmonics.coupling`); of higher orders those
with at most four moments of l > 0, times moments of l = 0, which are invariant by
themselves. It is the basis of the
atomic cluster expansion (R. Drautz, Phys. Rev. B 99, 014104 (2019)) and of moment tensor
potentials (A. V. Shapeev, Multiscale Model. Simul. 14, 1153 (2016)).

A :class:`Program` computes it: nodes are numbers, the first ones the moments; every other
is a sum of products of two earlier ones, so that value and derivative of all features cost
a few operations each.
"""

import functools
import itertools
from dataclasses import dataclass, replace

import numpy as np

from .harmonics import coupling

Factor = tuple[int, int, int]
"""Radial function n, degree l and neighbour species of a moment."""


@dataclass(frozen=True)
class Program:
    """Sums of products of two numbers, in order.

    Attributes:
        moments: (n, l, species) of the blocks of inputs; a block has ``2 l + 1`` nodes.
        begin: ``[computed + 1]`` first term of every computed node.
        left: ``[terms]`` node that is one factor.
        right: ``[terms]`` node that is the other.
        factor: ``[terms]`` constant of the term.
        features: ``[features]`` node of every feature.
        orders: ``[features]`` body order.
        degrees: ``[features]`` sum of the degrees of its moments.
    """

    moments: tuple[Factor, ...]
    begin: np.ndarray
    left: np.ndarray
    right: np.ndarray
    factor: np.ndarray
    features: np.ndarray
    orders: np.ndarray
    degrees: np.ndarray

    @property
    def inputs(self) -> int:
        """Number of moments, the first nodes."""
        return sum(2 * j + 1 for _, j, _ in self.moments)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return self.inputs + len(self.begin) - 1

    @property
    def lmax(self) -> int:
        """Highest degree of a moment."""
        return max(j for _, j, _ in self.moments)

    @property
    def radial(self) -> int:
        """Number of radial functions."""
        return 1 + max(n for n, _, _ in self.moments)

    def places(self) -> np.ndarray:
        """Return species, radial function and harmonic of every input, ``[inputs, 3]``."""
        rows = [(t, n, j * j + m) for n, j, t in self.moments for m in range(2 * j + 1)]
        return np.array(rows, dtype=np.int64)


@dataclass(frozen=True)
class Plan:
    """How an invariant is made: scalar product of two blocks of a degree, times scalars."""

    blocks: tuple[int, int, int] | None
    scalars: tuple[int, ...] = ()


class _Builder:
    """Nodes and terms as they are added."""

    def __init__(self, moments: list[Factor]) -> None:
        self.first: dict[Factor, int] = {}
        self.count = 0
        for each in moments:
            self.first[each] = self.count
            self.count += 2 * each[1] + 1
        self.begin, self.terms = [0], []
        self.pairs: dict[tuple[Factor, Factor, int], int] = {}
        self.known: dict[tuple[int, ...], int] = {}

    def node(self, terms: list[tuple[int, int, float]]) -> int:
        """Add a node."""
        self.terms += terms
        self.begin.append(len(self.terms))
        self.count += 1
        return self.count - 1

    def pair(self, one: Factor, two: Factor, degree: int) -> int:
        """Return the first of the nodes of two moments coupled to ``degree``."""
        key = (one, two, degree)
        if key not in self.pairs:
            a, b = self.first[one], self.first[two]
            tensor = coupling(one[1], two[1], degree) * np.sqrt(2 * degree + 1)
            made = [
                self.node(
                    [(a + i, b + j, float(tensor[i, j, k]))
                     for i, j in np.argwhere(tensor[:, :, k]).tolist()]
                )
                for k in range(2 * degree + 1)
            ]  # fmt: skip
            self.pairs[key] = made[0]
        return self.pairs[key]

    def dot(self, one: int, two: int, degree: int) -> int:
        """Return the scalar product of two blocks."""
        key = (one, two, degree)
        if key not in self.known:
            terms = [(one + k, two + k, 1.0) for k in range(2 * degree + 1)]
            self.known[key] = self.node(terms)
        return self.known[key]

    def feature(self, plan: Plan) -> int:
        """Return the node of an invariant."""
        nodes = [] if plan.blocks is None else [self.dot(*plan.blocks)]
        return functools.reduce(
            lambda one, two: self.dot(one, two, 0), [*nodes, *plan.scalars]
        )


@functools.cache
def build_program(
    limits: tuple[float, ...],
    angular: float,
    radial: int,
    lmax: int,
    species: int = 1,
    spacing: float = 1.0,
) -> Program:
    """Return the program of a basis.

    Args:
        limits: highest degree of the body orders 2, 3, ...; shorter: fewer orders.
        angular: what one unit of l counts in the degree.
        radial: most radial functions.
        lmax: highest l of a moment.
        species: of neighbours; each has moments of its own.
        spacing: what one radial function more counts in the degree.
    """
    factors = [
        (n, j, t) for n in range(radial) for j in range(lmax + 1) for t in range(species)
    ]

    def degree(*chosen: Factor) -> float:
        return sum(spacing * n + angular * j for n, j, _ in chosen)

    chosen: list[tuple[Factor, ...]] = []
    for count, limit in enumerate(limits, 1):
        near = [f for f in factors if degree(f) <= limit]
        for each in itertools.combinations_with_replacement(near, count):
            if degree(*each) <= limit + 1e-9 and _couples(each):
                chosen.append(each)
    builder = _Builder(sorted({f for each in chosen for f in each}))
    # all couplings of two moments first, so that features need nothing of each other
    plans = [(each, plan) for each in chosen for plan in _plans(builder, each)]
    features = [builder.feature(plan) for _, plan in plans]
    orders = [len(each) + 1 for each, _ in plans]
    degrees = [degree(*each) for each, _ in plans]
    terms = np.array(builder.terms).reshape(-1, 3)
    left, right = (terms[:, k].astype(np.int32) for k in (0, 1))
    return Program(
        tuple(builder.first), np.array(builder.begin, np.int32), left, right,
        terms[:, 2].copy(),
        np.array(features, np.int32), np.array(orders), np.array(degrees),
    )  # fmt: skip


def _couples(each: tuple[Factor, ...]) -> bool:
    """Whether moments have an invariant product that is even under inversion."""
    degrees = [j for _, j, _ in each]
    if len(each) > 4:
        degrees = [j for j in degrees if j]
        if len(degrees) > 4 or not degrees:
            return not degrees
    if sum(degrees) % 2:
        return False
    if len(each) == 1:
        return degrees[0] == 0
    return 2 * max(degrees) <= sum(degrees)


def _plans(builder: _Builder, each: tuple[Factor, ...]) -> list[Plan]:
    """Return the invariants of some moments, the couplings of two of them made."""
    first, degree = builder.first, each[-1][1]
    if len(each) > 4:
        scalars = tuple(first[f] for f in each if f[1] == 0)
        core = tuple(f for f in each if f[1] > 0)
        made = _plans(builder, core) if core else [Plan(None)]
        return [replace(plan, scalars=scalars) for plan in made]
    if len(each) == 1:
        return [Plan(None, (first[each[0]],))]
    if len(each) == 2:
        return [Plan((first[each[0]], first[each[1]], degree))]
    if len(each) == 3:
        return [Plan((builder.pair(each[0], each[1], degree), first[each[2]], degree))]
    same = tuple(each.index(f) for f in each)
    return [
        Plan((builder.pair(each[a], each[b], between),
              builder.pair(each[c], each[d], between), between))
        for (a, b, c, d), between in _couplings(tuple(j for _, j, _ in each), same)
    ]  # fmt: skip


@functools.cache
def _couplings(
    degrees: tuple[int, ...], same: tuple[int, ...]
) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return independent ways to couple four moments, some of which are one.

    Each is an order of the four, the first two and the last two being coupled, and the
    degree between. Independent: judged by their values at random moments.
    """
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=(64, 2 * j + 1)) for j in degrees]
    values = [drawn[k] for k in same]
    kept, basis = [], np.zeros((0, 64))
    for order in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)):
        a, b, c, d = (degrees[k] for k in order)
        for degree in range(max(abs(a - b), abs(c - d)), min(a + b, c + d) + 1):
            if (a + b + degree) % 2:
                continue
            one = np.einsum("ni,nj,ijk->nk", values[order[0]], values[order[1]],
                            coupling(a, b, degree))  # fmt: skip
            two = np.einsum("ni,nj,ijk->nk", values[order[2]], values[order[3]],
                            coupling(c, d, degree))  # fmt: skip
            row = (one * two).sum(1)
            size = np.linalg.norm(row)
            for _ in range(2):
                row = row - basis.T @ (basis @ row)
            if size > 0 and np.linalg.norm(row) > 1e-6 * size:
                basis = np.vstack([basis, row / np.linalg.norm(row)])
                kept.append((order, degree))
    return tuple(kept)


__all__ = ["Factor", "Program", "build_program"]
