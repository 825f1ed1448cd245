"""Scores ``d log|psi| / d theta`` of every walker by one backward pass.

For ``y = x W`` the gradient of one walker is the outer product of its ``x`` and of the
gradient by its ``y``: two small arrays that one forward and one backward pass of the whole
batch leave behind, and no matrix is multiplied walker by walker. Parameters that enter in
another way are few; each walker gets a copy of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from .parameters import Flat

PRODUCTS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)


class Products(TorchFunctionMode):
    """Records the products with weights, and adds a probe to each.

    Args:
        vector: all parameters; a weight is a view of it.
        outside: columns of parameters that are not to be recorded.
        probes: added to the products in their order; none in a first pass.
    """

    def __init__(
        self, vector: Tensor, outside: Tensor, probes: list[Tensor] | None
    ) -> None:
        super().__init__()
        self.storage = vector.untyped_storage().data_ptr()
        self.first = vector.storage_offset()
        self.outside, self.probes = outside, probes
        self.columns: list[Tensor] = []
        self.shapes: list[torch.Size] = []
        self.inputs: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func not in PRODUCTS or not self._recorded(*args):
            return func(*args, **(kwargs or {}))
        x, weight = args
        columns = torch.arange(len(self.outside)).as_strided(
            weight.shape, weight.stride(), weight.storage_offset() - self.first
        )
        if bool(self.outside[columns].any()):
            return func(x, weight)
        y = x @ weight.detach()
        number = len(self.columns)
        self.columns.append(columns)
        self.shapes.append(y.shape)
        self.inputs.append(x.detach())
        return y if self.probes is None else y + self.probes[number]

    def _recorded(self, x: Any, weight: Any) -> bool:
        if not isinstance(weight, Tensor) or not isinstance(x, Tensor):
            return False
        if weight.dim() != 2 or x.dim() < 2 or _is_batched(weight):
            return False
        return weight.untyped_storage().data_ptr() == self.storage


def _is_batched(x: Tensor) -> bool:
    return torch._C._functorch.is_batchedtensor(x)


@dataclass(frozen=True)
class Layout:
    """How the parameters of a module enter.

    Attributes:
        copied: names of those that do not enter as weights of products alone.
        outside: ``[p]`` True in their columns.
        shapes: of the recorded products of one walker.
    """

    copied: tuple[str, ...]
    outside: Tensor
    shapes: list[torch.Size]


def layout(flat: Flat, walker: Tensor) -> Layout:
    """Find out which parameters enter as weights of products alone.

    A parameter that still has a derivative when all its products are cut off does not.

    Args:
        flat: the module.
        walker: one walker ``[1, n, dim]``.
    """
    named = dict(flat.module.named_parameters())
    products = Products(flat.vector, torch.zeros(flat.size, dtype=torch.bool), None)
    with products, torch.enable_grad():
        log = flat.module(walker)[1].sum()
    left: Any = [None] * len(named)
    if log.requires_grad:
        left = torch.autograd.grad(log, list(named.values()), allow_unused=True)
    used = torch.zeros(flat.size, dtype=torch.bool)
    for columns in products.columns:
        used[columns] = True
    copied = []
    for (name, (part, _)), gradient in zip(flat.slices.items(), left, strict=True):
        whole = bool(used[part].all())
        if gradient is not None or (bool(used[part].any()) and not whole):
            copied.append(name)
    outside = torch.zeros(flat.size, dtype=torch.bool)
    for name in copied:
        outside[flat.slices[name][0]] = True
    again = Products(flat.vector, outside, None)
    with again, torch.no_grad():
        flat.module(walker)
    return Layout(tuple(copied), outside, again.shapes)


def write_scores(flat: Flat, how: Layout, walkers: Tensor, out: Tensor) -> None:
    """Write the scores of walkers into ``out [walkers, p]``.

    Args:
        flat: the module with its parameters.
        how: of the same module (:func:`layout`).
        walkers: ``[walkers, n, dim]``.
        out: overwritten.
    """
    batch, columns = len(walkers), []
    named = flat.named()
    copies = {
        name: named[name].expand(batch, *named[name].shape).clone().requires_grad_()
        for name in how.copied
    }
    probes = [out.new_zeros(batch, *shape).requires_grad_() for shape in how.shapes]

    def log_one(
        own: dict[str, Tensor], probe: list[Tensor], one: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        products = Products(flat.vector, how.outside, probe)
        with products:
            log = _call(flat.module, own, one[None])[0]
        columns[:] = products.columns
        return log, products.inputs

    with torch.enable_grad():
        logs, inputs = vmap(log_one)(copies, probes, walkers)
        leaves = [*probes, *copies.values()]
        found = torch.autograd.grad(logs.sum(), leaves, allow_unused=True)
    written = torch.zeros(flat.size, dtype=torch.bool)
    for x, gradient, place in zip(inputs, found, columns, strict=False):
        if gradient is not None:
            _add_outer(x.flatten(1, -2), gradient.flatten(1, -2), place, written, out)
    for name, gradient in zip(how.copied, found[len(probes) :], strict=True):
        if gradient is not None:
            out[:, flat.slices[name][0]] = gradient.reshape(batch, -1)
            written[flat.slices[name][0]] = True
    if not bool(written.all()):
        _clear(out, ~written)


def _add_outer(
    rows: Tensor, slopes: Tensor, place: Tensor, written: Tensor, out: Tensor
) -> None:
    """Add ``rows^T slopes`` of every walker to its columns.

    What stands in a column counts from its second product on: most columns have one, and
    the first one goes into them without a copy.

    Args:
        rows: ``[walkers, n, inputs]``.
        slopes: ``[walkers, n, outputs]``.
        place: columns ``[inputs, outputs]``.
        written: ``[p]`` which columns hold something; set for these.
        out: ``[walkers, p]``.
    """
    first, size = int(place[0, 0]), place.numel()
    seen = written[place]
    written[place] = True
    if place.is_contiguous() and not bool(seen.any()):
        target = out[:, first : first + size].unflatten(1, tuple(place.shape))
        torch.bmm(rows.mT, slopes, out=target)
        return
    fresh = torch.zeros_like(written)
    fresh[place[~seen]] = True
    _clear(out, fresh)
    outer = torch.bmm(rows.mT, slopes).flatten(1)
    if place.is_contiguous():
        out[:, first : first + size] += outer
    else:
        out[:, place.flatten().to(out.device)] += outer


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
