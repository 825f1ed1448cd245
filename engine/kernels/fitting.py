"""The fitting network of a potential, energies and their gradient, in vector registers.

Rows of one species run through all layers while they are in cache. Products are done in
tiles of ``tile`` rows by ``panel`` vectors, whose sums stay in registers; weights are
packed so that a tile reads them in sequence. A library of linear algebra that does not know
the processor's widest registers is twice as slow.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..runtime import start
from .types import (
    LEAST,
    Array1,
    Array2,
    Int,
    Real,
    Template,
    Vectors,
    kernel_type,
    simd,
    ti,
    turns,
)

CHUNK = 96
"""Most rows that run through the layers together."""

EXPONENTIAL = tuple(1.0 / f for f in (39916800, 3628800, 362880, 40320, 5040, 720, 120))
EXPONENTIAL = (1.0 / 479001600, *EXPONENTIAL, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)


@ti.func
def tanh(x, real: Template):
    """(1 - e) / (1 + e) with e = exp(-2x) by squaring, to 1e-14 (f32: 1e-6)."""
    halvings = ti.static(6 if real == ti.f64 else 4)
    limit = ti.cast(20.0 if real == ti.f64 else 9.0, real)
    y = ti.max(ti.min(x, x * 0 + limit), x * 0 - limit)
    y = y * ti.cast(-2.0 / 2**halvings, real)
    e = y * 0 + ti.cast(EXPONENTIAL[0], real)
    for c in ti.static(EXPONENTIAL[1:]):
        e = e * y + ti.cast(c, real)
    for _ in ti.static(range(halvings)):
        e = e * e
    return (1 - e) / (1 + e)


@ti.func
def product(
    a: Template, a0, pitch, depth, w: Template, w0, panels,
    out: Template, out0, rows, tile: Template, panel: Template, zero,
):  # fmt: skip
    """``out = a w``; ``a`` is read number by number, ``w [panels, depth, panel]``."""
    for p in range(panels):
        for block in range(rows // tile):
            total = [[zero for _ in range(panel)] for _ in range(tile)]
            first = a0 + block * tile * pitch
            for k in range(depth):
                at = w0 + (p * depth + k) * panel
                for j in ti.static(range(panel)):
                    weight = w[at + j]
                    for i in ti.static(range(tile)):
                        total[i][j] += a[first + i * pitch + k] * weight
            for i in ti.static(range(tile)):
                to = out0 + ((block * tile + i) * panels + p) * panel
                for j in ti.static(range(panel)):
                    out[to + j] = total[i][j]


@ti.kernel
def k_fitting(
    features: Array1,
    slopes: Vectors,
    energies: Array2,
    weights: Vectors,
    room: Vectors,
    room_flat: Array1,
    chunks: Array2,
    plan: Array2,
    real: Template,
    lanes: Template,
    tile: Template,
    panel: Template,
    workers: Int,
    pitch: Int,
    skip: Real,
):
    """``energies [members, rows]`` and dE/d(features) of every row, not scaled or biased.

    ``chunks`` = (member, network, first row, rows); ``plan[layer]`` = (input, output in
    panels; begin of forward, backward, bias, step, whether it skips), the last row = (-, -;
    output weights, output bias, vectors of one network), in vectors within a network.
    """
    for worker, spare in ti.ndrange(workers, ti.static(turns(LEAST))):
        if spare > 0:
            continue
        layers = plan.shape[0] - 1
        size = room.shape[0] // workers
        half = size // (layers + 2)
        base = worker * size
        keep = ti.cast(skip, real)
        for turn in range((chunks.shape[0] - worker + workers - 1) // workers):
            c = turn * workers + worker
            network = chunks[c, 1] * plan[layers, 4]
            begin = chunks[c, 2]
            rows = chunks[c, 3]
            member = chunks[c, 0]
            zero = weights[0] * 0
            source = (member * energies.shape[1] + begin) * pitch
            # -- forward; the activations of layer l are kept at part 2 + l of the room
            for layer in range(layers):
                panels = plan[layer, 1]
                into = base + (2 + layer) * half
                old = base + (layer % 2) * half
                new = base + ((layer + 1) % 2) * half
                w0 = network + plan[layer, 2]
                if layer == 0:
                    product(
                        features, source, pitch, plan[layer, 0], weights, w0, panels,
                        room, into, rows, tile, panel, zero,
                    )  # fmt: skip
                else:
                    product(
                        room_flat, old * lanes, plan[layer, 0], plan[layer, 0], weights,
                        w0, panels, room, into, rows, tile, panel, zero,
                    )  # fmt: skip
                width = panels * panel
                for row in range(rows):
                    for j in range(width):
                        at = row * width + j
                        u = tanh(
                            room[into + at] + weights[network + plan[layer, 4] + j], real
                        )
                        room[into + at] = u
                        h = u
                        if plan[layer, 6] != 0:
                            h = keep * room[old + at]
                            h += weights[network + plan[layer, 5] + j] * u
                        room[new + at] = h
            # -- the output, and its gradient
            width = plan[layers - 1, 1] * panel
            last = base + (layers % 2) * half
            other = base + ((layers + 1) % 2) * half
            for row in range(rows):
                total = weights[network + plan[layers, 3]]
                for j in range(width):
                    weight = weights[network + plan[layers, 2] + j]
                    total += room[last + row * width + j] * weight
                    room[last + row * width + j] = weight
                energies[member, begin + row] = total.sum()
            # -- backward: g in ``now``, g (1 - u^2) over u, its product in ``other``
            now = last
            for back in range(layers):
                layer = layers - 1 - back
                into = base + (2 + layer) * half
                width = plan[layer, 1] * panel
                for row in range(rows):
                    for j in range(width):
                        at = row * width + j
                        u = room[into + at]
                        g = room[now + at]
                        if plan[layer, 6] != 0:
                            g = g * weights[network + plan[layer, 5] + j]
                        room[into + at] = g * (1 - u * u)
                w0 = network + plan[layer, 3]
                inputs = plan[layer, 0] // lanes // panel
                if layer == 0:
                    product(
                        room_flat, into * lanes, width * lanes, width * lanes, weights,
                        w0, inputs, slopes, source // lanes, rows, tile, panel, zero,
                    )  # fmt: skip
                else:
                    product(
                        room_flat, into * lanes, width * lanes, width * lanes, weights,
                        w0, inputs, room, other, rows, tile, panel, zero,
                    )  # fmt: skip
                    if plan[layer, 6] != 0:
                        for j in range(rows * width):
                            room[other + j] = room[other + j] + keep * room[now + j]
                old = now
                now = other
                other = old


@dataclass(frozen=True)
class Network:
    """Weights of ``members x species`` networks, packed for :func:`k_fitting`.

    Attributes:
        weights: ``[vectors, lanes]``.
        plan: see :func:`k_fitting`.
        species: networks of a member.
        features: numbers of one row, with padding.
        skip: factor of what goes past a layer.
        panel: vectors side by side in a tile.
        tile: rows of a tile; with the panel it fills 32 wide or 16 narrow registers.
    """

    weights: Tensor
    plan: Tensor
    species: int
    features: int
    skip: float
    panel: int
    tile: int

    @staticmethod
    def pack(
        weights: list[Tensor],
        biases: list[Tensor],
        steps: list[Tensor | None],
        skip: float,
        lanes: int,
        dtype: torch.dtype,
    ) -> "Network":
        """Pack layers ``[members, species, in, out]``; the last has one output.

        Args:
            weights: weights of the hidden layers and the output.
            biases: ``[members, species, 1, out]`` of the same.
            steps: factors ``[members, species, 1, out]`` of the hidden layers that skip.
            skip: factor of what goes past them.
            lanes: numbers of a vector.
            dtype: type of the packed weights.
        """
        sizes = [w.shape[-2] for w in weights]
        wide = lanes * dtype.itemsize == 64
        widths = (3, 4) if wide else (3,)
        panel = min(widths, key=lambda p: sum(_up(n, p * lanes) - n for n in sizes))
        unit = panel * lanes
        members, species = weights[0].shape[:2]
        parts, plan, at = [], [], 0

        def put(block: Tensor) -> int:
            nonlocal at
            parts.append(block.reshape(members, species, -1))
            at += parts[-1].shape[-1] // lanes
            return at - parts[-1].shape[-1] // lanes

        for weight, bias, step in zip(weights[:-1], biases[:-1], steps, strict=True):
            inputs, outputs = (_up(n, unit) for n in weight.shape[-2:])
            full = _padded(weight, inputs, outputs)
            plan.append([
                inputs, outputs // unit, put(_panels(full, unit)),
                put(_panels(full.mT, unit)), put(_padded(bias, 1, outputs)),
                put(_padded(bias if step is None else step, 1, outputs)), step is not None,
            ])  # fmt: skip
        output = put(_padded(weights[-1].mT, 1, _up(sizes[-1], unit)))
        constant = put(_padded(biases[-1], 1, lanes))
        plan.append([0, 0, output, constant, at, 0, 0])
        packed = torch.cat(parts, -1).reshape(-1, lanes).to(dtype).contiguous()
        table = torch.tensor(plan, dtype=torch.int32)
        features, tile = _up(sizes[0], unit), 6 if wide else 4
        return Network(packed, table, species, features, skip, panel, tile)

    @property
    def widest(self) -> int:
        """Numbers of the widest hidden layer, with padding."""
        return int(self.plan[:-1, 1].max()) * self.panel * self.weights.shape[1]


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def _padded(block: Tensor, rows: int, columns: int) -> Tensor:
    full = block.new_zeros(*block.shape[:2], rows, columns)
    full[..., : block.shape[-2], : block.shape[-1]] = block.detach()
    return full


def _panels(weight: Tensor, unit: int) -> Tensor:
    """``[..., in, out] -> [..., out / unit, in, unit]``."""
    return weight.unflatten(-1, (-1, unit)).movedim(-2, -3)


@dataclass(frozen=True)
class Places:
    """Where each atom's row goes, so that rows of one species lie together.

    Attributes:
        place: ``[atoms]`` int32.
        rows: number of places, some of them empty.
        chunks: see :func:`k_fitting`.
        workers: how many share the chunks.
    """

    place: Tensor
    rows: int
    chunks: Tensor
    workers: int

    @staticmethod
    def of(
        central: Tensor, species: int, members: int, workers: int, tile: int
    ) -> "Places":
        """Sort rows of ``central [atoms]`` species; chunks are whole tiles."""
        order, parts, begin = torch.empty_like(central, dtype=torch.int32), [], 0
        for s in range(species):
            mine = (central == s).nonzero()[:, 0]
            if not len(mine):
                continue
            order[mine] = begin + torch.arange(len(mine), dtype=torch.int32)
            pieces = workers * -(-len(mine) // (workers * CHUNK))
            tall = _up(-(-len(mine) // pieces), tile)
            end = begin + _up(len(mine), tile)
            parts += [(s, a, min(tall, end - a)) for a in range(begin, end, tall)]
            begin = end
        rows = [
            (m, m * species + s, begin, rows)
            for m in range(members)
            for s, begin, rows in parts
        ]
        chunks = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
        return Places(order, begin, chunks, workers)


def run_fitting(
    network: Network, places: Places, features: Tensor, slopes: Tensor,
    energies: Tensor, room: Tensor,
) -> None:  # fmt: skip
    """Fill ``slopes [members, rows, features]`` and ``energies [members, rows]``."""
    start(features.device)
    lanes = network.weights.shape[1]
    with simd():
        k_fitting(
            features.view(-1), slopes.view(-1, lanes), energies, network.weights,
            room.view(-1, lanes), room.view(-1), places.chunks, network.plan,
            kernel_type(features.dtype), lanes, network.tile, network.panel, places.workers,
            network.features, network.skip,
        )  # fmt: skip


def fitting_room(network: Network, places: Places) -> Tensor:
    """Return the workers' scratch memory."""
    layers = len(network.plan) - 1
    tall = int(places.chunks[:, 3].max()) if len(places.chunks) else 0
    like = network.weights
    return like.new_empty(places.workers * (layers + 2) * tall * network.widest)
