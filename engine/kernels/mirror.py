"""The network of a closure, many points at once, in vector registers of a CPU.

``N(z) = (P(x) + s P(p x)) / 2`` with ``x = asinh(z)``, signs p of the mirror image and s
the sign of the answer, see :class:`~scalebridge.models.closures.face.MirrorNet`. A vector
holds one number of as many points; the sums of ``TILE`` units of a layer stay in registers,
and a group of points runs through all layers while it is in the nearest cache. Functions
are made of arithmetic and of the bits of numbers, since no library has them for vectors
here: their relative errors are below 2e-7, in f64 below 4e-16.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ...models.closures.face import MirrorNet
from ..runtime import start
from .types import (
    LEAST,
    Array1,
    Array2,
    Int,
    Real,
    Template,
    Vectors,
    aligned,
    kernel_type,
    simd,
    ti,
    turns,
)

WIDTH = 64
"""Bytes of a vector."""
TILE = 8
"""Units of a layer that are summed together."""
LN2 = math.log(2.0)


@dataclass(frozen=True)
class Format:
    """How numbers of a type are written.

    Attributes:
        shift: bits of the mantissa.
        bias: of the exponent.
        tiny: far below the least that a number near 1 changes by.
        largest: whose exponential, and that of its negative, are finite.
        head: ln 2 in few bits, so that whole multiples of it are exact.
        terms: of ``exp f`` for ``|f| <= ln 2 / 2``, beside 1.
        odd: of ``artanh s`` for ``s <= 1 / 3``.
    """

    shift: int
    bias: int
    tiny: float
    largest: float
    head: float
    terms: int
    odd: int

    @property
    def powers(self) -> tuple[float, ...]:
        """Of exp, the highest first."""
        return tuple(1.0 / math.factorial(k) for k in range(self.terms, -1, -1))


SINGLE = Format(23, 127, 1e-15, 85.0, round(LN2 * 2**12) / 2**12, 8, 7)
DOUBLE = Format(52, 1023, 1e-25, 700.0, round(LN2 * 2**36) / 2**36, 14, 17)


@ti.func
def exponential(x, room: Template, bits: Template, at, form: Template, real: Template):
    """``2^n exp(f)``, n whole, with the bits of n made an exponent at ``room[at]``."""
    size = ti.cast(form.largest, real)
    y = ti.max(ti.min(x, x * 0 + size), x * 0 - size)
    whole = ti.cast(1.5 * 2.0**form.shift, real)
    turned = y * ti.cast(1.0 / LN2, real) + whole
    room[at] = turned
    n = turned - whole
    one = ti.cast(form.bias, ti.i64 if form.shift > 23 else ti.i32) << form.shift
    bits[at] = (bits[at] << form.shift) + one
    f = y - n * ti.cast(form.head, real) - n * ti.cast(LN2 - form.head, real)
    total = f * 0 + ti.cast(form.powers[0], real)
    for c in ti.static(form.powers[1:]):
        total = total * f + ti.cast(c, real)
    return total * room[at]


@ti.func
def asinh(x, room: Template, bits: Template, at, form: Template, real: Template):
    """``log(1 + u)`` with ``u = |x| + x^2 / (1 + sqrt(1 + x^2))``, and the sign of x."""
    one = ti.cast(1.0, real)
    size = ti.max(x, x * ti.cast(-1.0, real))
    square = x * x
    u = size + square / (ti.sqrt(square + one) + one)
    v = u + one
    # v = 2^e m: the bits of m stay, those of e become the last ones of 2^shift + e
    unit = ti.cast(1, ti.i64 if form.shift > 23 else ti.i32)
    room[at] = v
    written = bits[at]
    bits[at] = (written & ((unit << form.shift) - 1)) | ((unit * form.bias) << form.shift)
    bits[at + 1] = (written >> form.shift) | (
        (unit * (form.bias + form.shift)) << form.shift
    )
    m = room[at]
    e = room[at + 1] - ti.cast(2.0**form.shift + form.bias, real)
    s = (m - one) / (m + one)
    q = s * s
    total = q * 0 + ti.cast(2.0 / (2 * form.odd + 1), real)
    for k in ti.static(range(form.odd - 1, -1, -1)):
        total = total * q + ti.cast(2.0 / (2 * k + 1), real)
    log = e * ti.cast(LN2, real) + total * s
    # log(1 + u) = u log(v) / (v - 1) also where v = 1 + u is rounded
    tiny = ti.cast(form.tiny, real)
    return x * (u * (log + tiny)) / ((v - one + tiny) * (size + tiny))


@ti.func
def summed(
    room: Template, x, depth, weights: Template, w, bias, zero: Template, tile: Template
):
    """``b_j + sum_k x_k w_kj`` of the units j of a tile; ``w [depth, tile]``."""
    total = [zero[0] + weights[bias + j] for j in range(tile)]
    for k in range(depth):
        value = room[x + k]
        for j in ti.static(range(tile)):
            total[j] += value * weights[w + k * tile + j]
    return total


@ti.kernel
def k_mirror(
    z: Vectors, place: Array1, near: Array1, weights: Array1, plan: Array2, zero: Vectors,
    sign: Real, rest: Real, bound: Real, answer: Vectors, far: Vectors, room: Vectors,
    bits: Vectors, workers: Int, inputs: Int, tile: Template, form: Template,
    real: Template, alone: Template,
):  # fmt: skip
    """The answers of groups of points, and their largest input over ``1 / near``.

    ``z [groups inputs, lanes]``; input i stands at ``place[i]`` among the even and then the
    odd ones; ``plan [layers + 1, 4]`` = inputs (of the first those that are even, and in
    the next row those that are odd), tiles of units, begin of weights ``[tiles, inputs,
    TILE]`` and of biases, see :class:`Mirror`. ``answer = bound tanh((N - rest) /
    bound)``; ``room`` is scratch, ``bits`` the same memory as whole numbers.
    """
    ti.loop_config(serialize=alone)
    for worker, spare in ti.ndrange(workers, ti.static(1 if alone else turns(LEAST))):
        if spare > 0:
            continue
        one = ti.cast(1.0, real)
        nought = zero[0]
        size = room.shape[0] // workers
        spot = worker * size
        base = spot + 2
        half = (size - 2 - inputs) // 4
        groups = answer.shape[0]
        for turn in range((groups - worker + workers - 1) // workers):
            g = turn * workers + worker
            most = nought
            for i in range(inputs):
                x = asinh(z[g * inputs + i], room, bits, spot, form, real)
                room[base + place[i]] = x
                most = ti.max(most, ti.max(x, x * ti.cast(-1.0, real)) * near[i])
            far[g] = most
            evens = plan[0, 0]
            width = plan[0, 1] * tile
            into = base + inputs
            for t in range(plan[0, 1]):
                even = summed(
                    room, base, evens, weights, plan[0, 2] + t * evens * tile,
                    plan[0, 3] + t * tile, zero, tile,
                )  # fmt: skip
                odd = summed(
                    room, base + evens, plan[1, 0], weights,
                    plan[1, 2] + t * plan[1, 0] * tile, plan[1, 3] + t * tile, zero, tile,
                )  # fmt: skip
                for j in ti.static(range(tile)):
                    for image in ti.static((0, 1)):
                        x = even[j] + odd[j] if ti.static(image == 0) else even[j] - odd[j]
                        slow = exponential(
                            x * ti.cast(-1.0, real), room, bits, spot, form, real
                        )
                        room[into + image * width + t * tile + j] = x / (slow + one)
            now = into
            for layer in range(2, plan.shape[0] - 1):
                then = into if now != into else into + 2 * half
                deep = plan[layer, 0]
                width = plan[layer, 1] * tile
                for image in range(2):
                    for t in range(plan[layer, 1]):
                        found = summed(
                            room, now + image * deep, deep, weights,
                            plan[layer, 2] + t * deep * tile, plan[layer, 3] + t * tile,
                            zero, tile,
                        )  # fmt: skip
                        for j in ti.static(range(tile)):
                            slow = exponential(
                                found[j] * ti.cast(-1.0, real), room, bits, spot, form, real
                            )
                            room[then + image * width + t * tile + j] = found[j] / (
                                slow + one
                            )
                now = then
            last = plan.shape[0] - 1
            deep = plan[last, 0]
            total = nought
            for k in range(deep):
                both = room[now + k] + room[now + deep + k] * ti.cast(sign, real)
                total += both * weights[plan[last, 2] + k]
            total = (total * ti.cast(0.5, real) - ti.cast(rest, real)) / ti.cast(
                bound, real
            )
            # tanh x = 1 - 2 / (1 + exp 2 x)
            steep = exponential(total + total, room, bits, spot, form, real)
            answer[g] = (one - ti.cast(2.0, real) / (steep + one)) * ti.cast(bound, real)


@dataclass(frozen=True)
class Mirror:
    """A network packed for :func:`k_mirror`, with its weights as they are now.

    Attributes:
        place: of each input among the even and then the odd ones.
        near: ``[inputs]`` one over the largest ``|asinh z|`` of the training.
        weights: all of them, each layer in tiles of units.
        plan: see :func:`k_mirror`.
        sign: s.
        rest: N at rest.
        bound: of the answer.
    """

    place: Tensor
    near: Tensor
    weights: Tensor
    plan: Tensor
    sign: float
    rest: float
    bound: float

    @staticmethod
    def pack(net: MirrorNet, near: Tensor, bound: float) -> "Mirror":
        """Pack a network; ``near`` as above."""
        parts: list[Tensor] = []
        plan: list[list[int]] = []

        def put(weight: Tensor, bias: Tensor | None, depth: int) -> int:
            """Put a layer ``[out, in]`` there; return its padded units."""
            out = -(-len(weight) // TILE) * TILE
            full = weight.new_zeros(out, depth)
            full[: len(weight), : weight.shape[1]] = weight.detach()
            more = weight.new_zeros(out)
            if bias is not None:
                more[: len(bias)] = bias.detach()
            at = sum(len(part) for part in parts)
            parts.extend((full.unflatten(0, (-1, TILE)).mT.flatten(), more))
            plan.append([depth, out // TILE, at, at + out * depth])
            return out

        width = put(net.even.weight, net.even.bias, net.even.in_features)
        put(net.odd.weight, None, net.odd.in_features)
        *inner, last = (layer for layer in net.rest if isinstance(layer, nn.Linear))
        for layer in inner:
            width = put(layer.weight, layer.bias, width)
        plan.append([width, 0, sum(len(part) for part in parts), 0])
        last = last.weight.detach()[0]
        parts.append(nn.functional.pad(last, (0, width - len(last))))
        at_rest = net.at_rest(net.even.weight.new_empty(1, 0)).detach()
        return Mirror(
            place=torch.cat([net.even_index, net.odd_index]).argsort().int(),
            near=near.contiguous(),
            weights=torch.cat(parts).contiguous(),
            plan=torch.tensor(plan, dtype=torch.int32),
            sign=float(net.sign),
            rest=float(at_rest) if net.sign > 0 else 0.0,
            bound=bound,
        )

    @property
    def widest(self) -> int:
        """Units of the widest layer."""
        return int(self.plan[:-1, 1].max()) * TILE


@dataclass(frozen=True)
class Asked:
    """What some points show a network, and what it answers; used again by later calls.

    Attributes:
        z: ``[groups, inputs, lanes]`` scaled invariants; point p is lane ``p % lanes`` of
            group ``p // lanes``.
        answer: ``[groups lanes]``.
        far: the same, the largest input over its range.
        zero: a vector of zeros.
        room: scratch of ``workers``.
        workers: threads that share the groups.
    """

    z: Tensor
    answer: Tensor
    far: Tensor
    zero: Tensor
    room: Tensor
    workers: int

    @staticmethod
    def of(network: Mirror, points: int) -> "Asked":
        """Return arrays for some points."""
        like, inputs = network.weights, len(network.place)
        lanes = WIDTH // like.dtype.itemsize
        groups = -(-points // lanes)
        # parts that are worth a thread
        workers = max(1, min(torch.get_num_threads(), groups // 16))
        tall = workers * (2 + inputs + 4 * network.widest)
        z, answer, far, zero, room = (
            aligned(like.new_zeros(n, lanes))
            for n in (groups * inputs, groups, groups, 1, tall)
        )
        z = z.view(groups, inputs, lanes)
        return Asked(z, answer.view(-1), far.view(-1), zero, room, workers)

    @cached_property
    def vectors(self) -> tuple[Tensor, ...]:
        """All of them by vectors, and the scratch as whole numbers."""
        lanes, single = self.z.shape[2], self.z.dtype == torch.float32
        rows = (x.view(-1, lanes) for x in (self.z, self.answer, self.far, self.room))
        return *rows, self.room.view(torch.int32 if single else torch.int64)


def run_mirror(network: Mirror, asked: Asked) -> None:
    """Write the answers to ``asked.z``."""
    start("cpu")
    z, answer, far, room, bits = asked.vectors
    form = SINGLE if z.dtype == torch.float32 else DOUBLE
    with simd(as_written=True):
        k_mirror(
            z, network.place, network.near, network.weights, network.plan, asked.zero,
            network.sign, network.rest, network.bound, answer, far, room, bits,
            asked.workers, asked.z.shape[1], TILE, form, kernel_type(z.dtype),
            asked.workers == 1,
        )  # fmt: skip


__all__ = ["Asked", "Mirror", "run_mirror"]
