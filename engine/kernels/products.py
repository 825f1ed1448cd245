"""Programs of products of moments: values, adjoints, and derivatives by pair.

A program (``models.potentials.products``) is a list of sums of products of two earlier
nodes. Here it runs with several atoms, or several neighbours of one atom, side by side in a
vector register; the list itself is data, so nothing is compiled for a basis.
"""

from typing import Any

import torch
from torch import Tensor

from ..runtime import start
from .types import Array1, Array2, Array3, Int, Template, Vectors, kernel_type, simd, ti

LANES = 8
"""Pairs, or directions, side by side."""


@ti.kernel
def k_design(
    begin: Array1,
    left: Array1,
    right: Array1,
    factor: Array1,
    features: Array1,
    kind: Array1,
    function: Array1,
    column: Array1,
    species: Array1,
    kinds: Array1,
    moments: Array2,
    phi: Vectors,
    slope: Vectors,
    angular: Vectors,
    turn: Vectors,
    unit: Vectors,
    place: Vectors,
    neighbour: Array2,
    value: Array1,
    change: Vectors,
    energies: Array1,
    forces: Array3,
    virial: Array2,
    real: Template,
    lanes: Template,
    blocks: Int,
    functions: Int,
    columns: Int,
):
    """Energy, forces and virial of one frame as linear functions of a basis.

    Adds to ``energies [width]``, ``forces [atoms, 3, width]`` and ``virial [6, width]``
    (xx yy zz xy xz yz), width = species of the centre times features. ``phi``, ``slope
    [atoms, functions, slots]``; ``angular [atoms, columns, slots]``; ``turn [atoms, 3,
    columns, slots]``; ``unit``, ``place [atoms, 3, slots]``.
    """
    ti.loop_config(serialize=True)
    for r in range(moments.shape[0]):
        inputs = moments.shape[1]
        first = species[r] * features.shape[0]
        for m in range(inputs):
            value[m] = moments[r, m]
        for n in range(begin.shape[0] - 1):
            total = moments[r, 0] * 0
            for t in range(begin[n], begin[n + 1]):
                total += factor[t] * value[left[t]] * value[right[t]]
            value[inputs + n] = total
        for k in range(features.shape[0]):
            energies[first + k] = energies[first + k] + value[features[k]]
        for b in range(blocks):
            for axis in range(3):
                u = unit[(r * 3 + axis) * blocks + b]
                for m in range(inputs):
                    n = (r * functions + function[m]) * blocks + b
                    c = column[m]
                    y = angular[(r * columns + c) * blocks + b]
                    dy = turn[((r * 3 + axis) * columns + c) * blocks + b]
                    change[m] = slope[n] * u * y + phi[n] * dy
                    for q in ti.static(range(lanes)):
                        if kinds[b * lanes + q] != kind[m]:
                            change[m][q] = 0
                for n in range(begin.shape[0] - 1):
                    total = ti.Vector.zero(real, lanes)
                    for t in range(begin[n], begin[n + 1]):
                        x = left[t]
                        y = right[t]
                        f = factor[t]
                        total += (f * value[x]) * change[y] + (f * value[y]) * change[x]
                    change[inputs + n] = total
                dx = place[(r * 3) * blocks + b]
                dy = place[(r * 3 + 1) * blocks + b]
                dz = place[(r * 3 + 2) * blocks + b]
                for k in range(features.shape[0]):
                    g = change[features[k]]
                    at = first + k
                    forces[r, axis, at] = forces[r, axis, at] + g.sum()
                    wx = (g * dx).sum()
                    if axis == 0:
                        virial[0, at] = virial[0, at] - wx
                    elif axis == 1:
                        virial[1, at] = virial[1, at] - (g * dy).sum()
                        virial[3, at] = virial[3, at] - wx
                    else:
                        virial[2, at] = virial[2, at] - (g * dz).sum()
                        virial[4, at] = virial[4, at] - wx
                        virial[5, at] = virial[5, at] - (g * dy).sum()
                    for q in ti.static(range(lanes)):
                        j = neighbour[r, b * lanes + q]
                        if j >= 0:
                            forces[j, axis, at] = forces[j, axis, at] - g[q]


def design(program: Any, tables: dict[str, Tensor], width: int) -> tuple[Tensor, ...]:
    """Return energies ``[width]``, forces ``[atoms, 3, width]``, virial ``[6, width]``.

    Args:
        program: tensors of the program: begin, left, right, factor, features, and of
            every input kind (species of the neighbour), function, column.
        tables: of one frame: moments, phi, slope, angular, turn, unit, place (slots last,
            padded to whole vectors of eight with zeros), neighbour (-1: none), kinds of the
            slots, species.
        width: columns.
    """
    start("cpu")
    lanes, moments = LANES, tables["moments"]
    atoms, slots = tables["neighbour"].shape
    like = moments
    energies, forces = like.new_zeros(width), like.new_zeros(atoms, 3, width)
    virial = like.new_zeros(6, width)
    nodes = moments.shape[1] + len(program["begin"]) - 1
    vectors = [
        tables[n].contiguous().view(-1, lanes)
        for n in ("phi", "slope", "angular", "turn", "unit", "place")
    ]
    with simd():
        k_design(
            program["begin"], program["left"], program["right"], program["factor"],
            program["features"], program["kind"], program["function"],
            program["column"], tables["species"], tables["kinds"], moments,
            *vectors, tables["neighbour"],
            like.new_empty(nodes), like.new_empty(nodes, lanes), energies, forces, virial,
            kernel_type(like.dtype), lanes, slots // lanes, tables["phi"].shape[1],
            tables["angular"].shape[1],
        )  # fmt: skip
    return energies, forces, virial


@ti.kernel
def k_tangents(
    begin: Array1,
    left: Array1,
    right: Array1,
    factor: Array1,
    features: Array1,
    species: Array1,
    weights: Array2,
    moments: Array2,
    given: Vectors,
    value: Array1,
    adjoint: Array1,
    change: Vectors,
    turned: Vectors,
    slopes: Array2,
    found: Vectors,
    real: Template,
    lanes: Template,
    blocks: Int,
):
    """Slopes of energies by moments, and their derivatives along directions.

    ``given``, ``found [atoms, inputs, directions]``; ``slopes [atoms, inputs]``.
    """
    ti.loop_config(serialize=True)
    for r in range(moments.shape[0]):
        inputs = moments.shape[1]
        computed = begin.shape[0] - 1
        for m in range(inputs):
            value[m] = moments[r, m]
        for n in range(computed):
            total = moments[r, 0] * 0
            for t in range(begin[n], begin[n + 1]):
                total += factor[t] * value[left[t]] * value[right[t]]
            value[inputs + n] = total
        for n in range(inputs + computed):
            adjoint[n] = 0
        for k in range(features.shape[0]):
            adjoint[features[k]] = adjoint[features[k]] + weights[species[r], k]
        for back in range(computed):
            n = computed - 1 - back
            g = adjoint[inputs + n]
            for t in range(begin[n], begin[n + 1]):
                f = factor[t] * g
                adjoint[left[t]] = adjoint[left[t]] + f * value[right[t]]
                adjoint[right[t]] = adjoint[right[t]] + f * value[left[t]]
        for m in range(inputs):
            slopes[r, m] = adjoint[m]
        for b in range(blocks):
            for m in range(inputs):
                change[m] = given[(r * inputs + m) * blocks + b]
            for n in range(computed):
                total = ti.Vector.zero(real, lanes)
                for t in range(begin[n], begin[n + 1]):
                    x = left[t]
                    y = right[t]
                    f = factor[t]
                    total += (f * value[x]) * change[y] + (f * value[y]) * change[x]
                change[inputs + n] = total
            for n in range(inputs + computed):
                turned[n] = ti.Vector.zero(real, lanes)
            for back in range(computed):
                n = computed - 1 - back
                g = adjoint[inputs + n]
                h = turned[inputs + n]
                for t in range(begin[n], begin[n + 1]):
                    x = left[t]
                    y = right[t]
                    f = factor[t]
                    turned[x] = turned[x] + (f * value[y]) * h + (f * g) * change[y]
                    turned[y] = turned[y] + (f * value[x]) * h + (f * g) * change[x]
            for m in range(inputs):
                found[(r * inputs + m) * blocks + b] = turned[m]


def tangents(
    program: Any, species: Tensor, weights: Tensor, moments: Tensor, given: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``dE_i/dA [atoms, inputs]`` and its derivative along directions of A.

    Args:
        program: as in :func:`design`.
        species: ``[atoms]`` of the centres.
        weights: ``[species, features]``.
        moments: A, ``[atoms, inputs]``.
        given: directions ``[atoms, inputs, directions]``, a multiple of eight of them.
    """
    start("cpu")
    lanes, like = LANES, moments
    nodes = moments.shape[1] + len(program["begin"]) - 1
    slopes, found = torch.empty_like(moments), torch.empty_like(given)
    with simd():
        k_tangents(
            program["begin"], program["left"], program["right"], program["factor"],
            program["features"], species, weights, moments, given.view(-1, lanes),
            like.new_empty(nodes), like.new_empty(nodes), like.new_empty(nodes, lanes),
            like.new_empty(nodes, lanes), slopes, found.view(-1, lanes),
            kernel_type(like.dtype), lanes, given.shape[2] // lanes,
        )  # fmt: skip
    return slopes, found


__all__ = ["LANES", "design", "tangents"]
