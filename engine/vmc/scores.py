"""Scores ``d log|psi| / d theta`` of every walker by one backward pass.

For ``y = x W`` the gradient of one walker is the outer product of its ``x`` and of the
gradient by its ``y``: two small arrays that one forward and one backward pass of the whole
batch leave behind, and no matrix is multiplied walker by walker. A wavefunction whose
parameters all enter this way is differentiated as it stands; in others each walker gets a
copy of the parameters that do not, and the walkers are mapped over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from .parameters import Flat

PRODUCTS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)
TRIED = 3
"""Walkers on which the two ways are compared: no size that a wavefunction has by chance
with all of them, and enough to see one walker in another's scores."""
EQUAL = 1e3
"""Difference of the two ways, in round-off of the largest score, that is none."""


@dataclass(frozen=True)
class Place:
    """Where a weight stands in the vector of all parameters.

    Attributes:
        columns: ``[inputs, outputs]``.
        run: its columns where they follow each other, else the columns in their order.
        inside: whether all of them are recorded.
    """

    columns: Tensor
    run: slice | Tensor
    inside: bool


class Places:
    """The places of weights, each found once.

    Args:
        outside: ``[p]`` columns of parameters that are not recorded.
    """

    def __init__(self, outside: Tensor) -> None:
        self.outside = outside
        self.known: dict[Any, Place] = {}

    def __call__(self, offset: int, shape: torch.Size, stride: tuple[int, ...]) -> Place:
        """Return the place of a view ``offset`` numbers after the vector's first."""
        key = (offset, shape, stride)
        if key not in self.known:
            columns = torch.arange(len(self.outside)).as_strided(shape, stride, offset)
            follow = slice(offset, offset + columns.numel())
            run = follow if columns.is_contiguous() else columns.flatten()
            inside = not bool(self.outside[columns].any())
            self.known[key] = Place(columns, run, inside)
        return self.known[key]


class Products(TorchFunctionMode):
    """Records the products with weights, and adds a probe to each.

    Args:
        vector: all parameters; a weight is a view of it.
        places: of its weights.
        probes: added to the products in their order; none in a first pass.
    """

    def __init__(
        self, vector: Tensor, places: Places, probes: list[Tensor] | None = None
    ) -> None:
        super().__init__()
        self.storage = vector.untyped_storage().data_ptr()
        self.first = vector.storage_offset()
        self.place, self.probes = places, probes
        self.places: list[Place] = []
        self.inputs: list[Tensor] = []
        self.shapes: list[torch.Size] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func not in PRODUCTS or not self._recorded(*args):
            return func(*args, **(kwargs or {}))
        x, weight = args
        offset = weight.storage_offset() - self.first
        place = self.place(offset, weight.shape, weight.stride())
        if not place.inside:
            return func(x, weight)
        y = x @ weight.detach()
        self.places.append(place)
        self.inputs.append(x.detach())
        self.shapes.append(y.shape)
        return self._probed(y, len(self.places) - 1)

    def _probed(self, y: Tensor, number: int) -> Tensor:
        return y if self.probes is None else y + self.probes[number]

    def _recorded(self, x: Any, weight: Any) -> bool:
        if not isinstance(weight, Tensor) or not isinstance(x, Tensor):
            return False
        if weight.dim() != 2 or x.dim() < 2 or _is_batched(weight):
            return False
        return weight.untyped_storage().data_ptr() == self.storage


class Taps(Products):
    """Records the products of a whole batch and keeps them for the backward pass.

    What does not depend on the walker is repeated for each of them.

    Args:
        vector: all parameters.
        places: of its weights, all of which are recorded.
        batched: which products depend on the walker.
        batch: number of walkers.
    """

    def __init__(
        self, vector: Tensor, places: Places, batched: Sequence[bool], batch: int
    ) -> None:
        super().__init__(vector, places)
        self.batched, self.batch = batched, batch
        self.kept: list[Tensor] = []

    def _probed(self, y: Tensor, number: int) -> Tensor:
        if not self.batched[number]:
            y = y.expand(self.batch, *y.shape)
        if not y.requires_grad:
            y.requires_grad_()
        self.kept.append(y)
        return y


def _is_batched(x: Tensor) -> bool:
    return torch._C._functorch.is_batchedtensor(x)


@dataclass(frozen=True)
class Layout:
    """How the parameters of a module enter.

    Attributes:
        copied: names of those that do not enter as weights of products alone.
        places: of the others.
        shapes: of the recorded products of one walker.
        batched: which products depend on the walker; None where walkers are mapped over.
    """

    copied: tuple[str, ...]
    places: Places
    shapes: list[torch.Size]
    batched: tuple[bool, ...] | None = None


def layout(flat: Flat, walkers: Tensor) -> Layout:
    """Find out which parameters enter as weights of products alone.

    A parameter that still has a derivative when all its products are cut off does not. The
    whole batch is differentiated at once where that is seen to give what walker by walker
    gives.

    Args:
        flat: the module.
        walkers: at least one ``[walkers, n, dim]``.
    """
    walkers = walkers[:1].expand(TRIED, *walkers.shape[1:]).clone()
    walkers *= 1 + 0.1 * torch.arange(TRIED).to(walkers)[:, None, None]
    named = dict(flat.module.named_parameters())
    products = Products(flat.vector, Places(torch.zeros(flat.size, dtype=torch.bool)))
    with products, torch.enable_grad():
        log = flat.module(walkers[:1])[1].sum()
    left: Any = [None] * len(named)
    if log.requires_grad:
        left = torch.autograd.grad(log, list(named.values()), allow_unused=True)
    used = torch.zeros(flat.size, dtype=torch.bool)
    for place in products.places:
        used[place.columns] = True
    copied = []
    for (name, (part, _)), gradient in zip(flat.slices.items(), left, strict=True):
        whole = bool(used[part].all())
        if gradient is not None or (bool(used[part].any()) and not whole):
            copied.append(name)
    outside = torch.zeros(flat.size, dtype=torch.bool)
    for name in copied:
        outside[flat.slices[name][0]] = True
    again = Products(flat.vector, places := Places(outside))
    with again, torch.no_grad():
        flat.module(walkers[:1])
    mapped = Layout(tuple(copied), places, again.shapes)
    return mapped if copied else _whole(flat, mapped, walkers)


def _whole(flat: Flat, mapped: Layout, walkers: Tensor) -> Layout:
    """Return the layout for the whole batch, or ``mapped`` where that one differs."""
    several = Products(flat.vector, mapped.places)
    with several, torch.no_grad():
        flat.module(walkers)
    batched = []
    for one, all_of_them in zip(mapped.shapes, several.shapes, strict=True):
        if all_of_them not in (one, (TRIED, *one[1:])):
            return mapped
        batched.append(all_of_them != one)
    whole = replace(mapped, batched=tuple(batched))
    expected = walkers.new_empty(TRIED, flat.size)
    write_scores(flat, mapped, walkers, expected)
    found = torch.empty_like(expected)
    try:
        write_scores(flat, whole, walkers, found)
    except (IndexError, RuntimeError):  # shapes that fit one walker only
        return mapped
    bound = EQUAL * torch.finfo(found.dtype).eps * expected.abs().max()
    return whole if bool(((found - expected).abs() <= bound).all()) else mapped


def write_scores(flat: Flat, how: Layout, walkers: Tensor, out: Tensor) -> None:
    """Write the scores of walkers into ``out [walkers, p]``.

    Args:
        flat: the module with its parameters.
        how: of the same module (:func:`layout`).
        walkers: ``[walkers, n, dim]``.
        out: overwritten.
    """
    written = torch.zeros(flat.size, dtype=torch.bool)
    write = _write_mapped if how.batched is None else _write_whole
    write(flat, how, walkers, written, out)
    if not bool(written.all()):
        _clear(out, ~written)


def _write_whole(
    flat: Flat, how: Layout, walkers: Tensor, written: Tensor, out: Tensor
) -> None:
    assert how.batched is not None
    taps = Taps(flat.vector, how.places, how.batched, len(walkers))
    with taps, torch.enable_grad():
        log = flat.module(walkers)[1].sum()
    found = torch.autograd.grad(log, taps.kept, allow_unused=True)
    for x, gradient, place, own in zip(
        taps.inputs, found, taps.places, how.batched, strict=True
    ):
        if gradient is not None:
            rows = x.reshape(*((len(walkers), -1) if own else (-1,)), x.shape[-1])
            slopes = gradient.reshape(len(walkers), -1, gradient.shape[-1])
            _add_outer(rows, slopes, place, written, out)


def _write_mapped(
    flat: Flat, how: Layout, walkers: Tensor, written: Tensor, out: Tensor
) -> None:
    batch, places = len(walkers), []
    named = flat.named()
    copies = {
        name: named[name].expand(batch, *named[name].shape).clone().requires_grad_()
        for name in how.copied
    }
    probes = [out.new_zeros(batch, *shape).requires_grad_() for shape in how.shapes]

    def log_one(
        own: dict[str, Tensor], probe: list[Tensor], one: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        products = Products(flat.vector, how.places, probe)
        with products:
            log = _call(flat.module, own, one[None])[0]
        places[:] = products.places
        return log, products.inputs

    with torch.enable_grad():
        logs, inputs = vmap(log_one)(copies, probes, walkers)
        leaves = [*probes, *copies.values()]
        found = torch.autograd.grad(logs.sum(), leaves, allow_unused=True)
    for x, gradient, place in zip(inputs, found, places, strict=False):
        if gradient is not None:
            _add_outer(x.flatten(1, -2), gradient.flatten(1, -2), place, written, out)
    for name, gradient in zip(how.copied, found[len(probes) :], strict=True):
        if gradient is not None:
            out[:, flat.slices[name][0]] = gradient.reshape(batch, -1)
            written[flat.slices[name][0]] = True


def _add_outer(
    rows: Tensor, slopes: Tensor, place: Place, written: Tensor, out: Tensor
) -> None:
    """Add ``rows^T slopes`` of every walker to its columns.

    What stands in a column counts from its second product on.

    Args:
        rows: ``[walkers, n, inputs]``, or ``[n, inputs]`` where they are all alike.
        slopes: ``[walkers, n, outputs]``.
        place: of their weight.
        written: ``[p]`` which columns hold something; set for these.
        out: ``[walkers, p]``.
    """
    seen, run = written[place.run], place.run
    again = bool(seen.any())
    # Into a new array first: a product that writes rows of ``out`` goes one by one.
    outer = (rows.mT @ slopes).flatten(1)
    if again:
        fresh = torch.zeros_like(written)
        fresh[place.columns.flatten()[~seen]] = True
        _clear(out, fresh)
    written[run] = True
    where = run if isinstance(run, slice) else run.to(out.device)
    if again:
        out[:, where] += outer
    else:
        out[:, where] = outer


def _clear(out: Tensor, columns: Tensor) -> None:
    """Set columns ``[p]`` to zero, run by run: an index would be copied to the device."""
    values, lengths = torch.unique_consecutive(columns, return_counts=True)
    start = 0
    for value, length in zip(values.tolist(), lengths.tolist(), strict=True):
        if value:
            out[:, start : start + length] = 0
        start += length


def _call(module: nn.Module, own: dict[str, Tensor], walker: Tensor) -> Tensor:
    return functional_call(module, own, (walker,))[1]
