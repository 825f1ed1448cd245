"""The energy of an atom as a quadratic form, made of a program of products.

Most products of a program (``models.potentials.products``) are used by no other one. Their
sum, by weights, is a quadratic form of what they are made of, so that they need not be
computed one by one, neither for the energy nor for its slopes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

GROUP = 32
"""Products whose slopes are handed on together."""


@dataclass(frozen=True)
class QuadraticForm:
    """``E = sum_x x (w_x + sum_y W_xy y / 2)`` over moments and products that are used.

    The slope by x is ``w_x + sum_y W_xy y``, and ``f y dE/dn`` more for every term
    ``f x y`` of a product n.

    Attributes:
        made: begin, left, right, factor of the products that are used.
        rows: of W: begin, end, shift; others and ``[species, entries, solutions]`` values.
            Components of a tensor have one list, which the shift is added to.
        lone: ``[species, nodes, solutions]`` w.
        uses: begin, target x; y, n, f. No product comes after those that it is made of.
    """

    made: tuple[Tensor, ...]
    rows: tuple[Tensor, ...]
    lone: Tensor
    uses: tuple[Tensor, ...]

    @staticmethod
    def of(program: Any, weights: Tensor) -> "QuadraticForm":
        """Return the form for ``weights [solutions, species, features]``."""
        inputs = program.inputs
        used = np.zeros(program.nodes, bool)
        used[:inputs] = used[program.left] = used[program.right] = True
        place, nodes = np.cumsum(used) - 1, int(used.sum())
        weight = np.zeros((program.nodes, *weights.shape[:2]))
        np.add.at(weight, program.features, weights.permute(2, 0, 1).numpy())
        owner = np.repeat(np.arange(inputs, program.nodes), np.diff(program.begin))
        ends = np.sort(place[np.stack([program.left, program.right])], 0)
        inner = used[owner]
        low, high = ends[:, ~inner]
        term = program.factor[~inner, None, None] * weight[owner[~inner]]
        # x y stands in the rows of both, and x x twice in the row of x
        row, other, value = _summed(
            np.append(low, high), np.append(high, low), np.concatenate([term, term])
        )
        low, high = ends[:, inner]
        node, pair, factor = _summed(
            place[owner[inner]], low * nodes + high, program.factor[inner]
        )
        low, high = pair // nodes, pair % nodes
        first = np.searchsorted(node, np.arange(inputs, nodes + 1))
        return QuadraticForm(
            (_whole(first), _whole(low), _whole(high), _real(factor)),
            _shared(row, other, value, nodes),
            _real(weight[used].transpose(2, 0, 1)),
            _uses(inputs, node, low, high, factor),
        )


def _summed(
    row: np.ndarray, key: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort entries by row and key, and add up the values of the same."""
    order = np.lexsort((key, row))
    row, key = row[order], key[order]
    first = _changes(row, key)
    if len(first):
        value = np.add.reduceat(value[order], first)
    return row[first], key[first], value


def _changes(*keys: np.ndarray) -> np.ndarray:
    """Return where sorted keys differ from the ones before, the first place among them."""
    moved = np.any([np.diff(key, prepend=-1) != 0 for key in keys], axis=0)
    return np.flatnonzero(moved)


def _shared(
    row: np.ndarray, other: np.ndarray, value: np.ndarray, nodes: int
) -> tuple[Tensor, ...]:
    """Lists of rows; one that is that of the row before, moved by one, is shared."""
    edges = np.searchsorted(row, np.arange(nodes + 1))
    spans = np.stack([edges[:-1], edges[1:], np.zeros(nodes, int)], 1)
    kept = np.ones(len(row), bool)
    for n in range(1, nodes):
        here, (first, last, shift) = slice(edges[n], edges[n + 1]), spans[n - 1]
        before = slice(first, last)
        if (
            edges[n + 1] - edges[n] == last - first
            and np.array_equal(other[here], other[before] + shift + 1)
            and np.array_equal(value[here], value[before])
        ):
            spans[n] = first, last, shift + 1
            kept[here] = False
    moved = np.append(0, np.cumsum(kept))
    spans[:, :2] = moved[spans[:, :2]]
    return (
        *(_whole(column) for column in spans.T), _whole(other[kept]),
        _real(value[kept].transpose(2, 0, 1)),
    )  # fmt: skip


def _uses(
    inputs: int, node: np.ndarray, low: np.ndarray, high: np.ndarray, factor: np.ndarray
) -> tuple[Tensor, ...]:
    """Terms by group of products, last first, and target.

    Products of a group are few, so that their slopes are at hand, and use none of it.
    """
    count = int(node.max(initial=inputs)) + 1
    group, latest, first = np.zeros(count, int), np.full(count, -1), inputs
    np.maximum.at(latest, node, high)
    for n in range(inputs, count):
        if latest[n] >= first or n - first >= GROUP:
            first = n
        group[n] = first
    target, other = np.append(low, high), np.append(high, low)
    node, factor = np.append(node, node), np.append(factor, factor)
    order = np.lexsort((node, target, -group[node]))
    target, other, node = target[order], other[order], node[order]
    begin = _changes(group[node], target)
    return (
        _whole(np.append(begin, len(order))), _whole(target[begin]), _whole(other),
        _whole(node), _real(factor[order]),
    )  # fmt: skip


def _whole(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int32))


def _real(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=float))


__all__ = ["QuadraticForm"]
