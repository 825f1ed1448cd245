"""Names for the array arguments of kernels, readable by type checkers and by Taichi.

Arrays have no fixed dtype: a kernel is specialised for f32 and f64 on first use. Derive
constants in f32 kernels from arguments, since literals are f64.
"""

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from .. import runtime
from ..runtime import launching, ti

if TYPE_CHECKING:
    Array1 = Array2 = Array3 = Array4 = Array5 = Vectors = Any
    Template = Any
    Int = Key = int
    Real = float
else:
    Array1 = ti.types.ndarray(ndim=1)
    Array2 = ti.types.ndarray(ndim=2)
    Array3 = ti.types.ndarray(ndim=3)
    Array4 = ti.types.ndarray(ndim=4)
    Array5 = ti.types.ndarray(ndim=5)
    Vectors = ti.types.ndarray(dtype=ti.types.vector(), ndim=1)
    Template = ti.template()
    Int = ti.i32
    Key = ti.u64
    Real = ti.f64


LEAST = 512
"""Iterations of a loop that the language gives to a thread of a CPU at the least."""


def turns(tasks: int = 32) -> int:
    """Return the iterations of a loop for each of its items, of which the first works.

    So a thread of a CPU gets no more than ``LEAST / tasks`` items at once, where a few
    hundred, each of much work, would all go to one thread. On a device an iteration is a
    thread, and one will do::

        for item, spare in ti.ndrange(items, ti.static(turns())):
            if spare > 0:
                continue
    """
    return tasks if runtime.on_cpu() else 1


@contextmanager
def simd(as_written: bool = False) -> Iterator[None]:
    """Compile kernels that are launched inside for the first time with SIMD vectors.

    A ``Vectors`` argument, a tensor ``[n, lanes]``, is then read and written by whole
    vectors, and arithmetic on them becomes one instruction each. Without this the compiler
    takes vectors apart and does not find them again. Tensors must start at a multiple of
    the vector's size: see :func:`aligned`.

    Args:
        as_written: keep the order of sums, which the compiler otherwise takes for that of
            real numbers: ``(x + 1) - 1`` is x to it.
    """
    with launching:
        config = ti.lang.impl.current_cfg()
        before = config.real_matrix_scalarize, config.fast_math
        config.real_matrix_scalarize = False
        config.fast_math = before[1] and not as_written
        try:
            yield
        finally:
            config.real_matrix_scalarize, config.fast_math = before


def aligned(x: torch.Tensor) -> torch.Tensor:
    """Return x, or a copy if it does not start at a multiple of 64 bytes."""
    return x if x.data_ptr() % 64 == 0 else x.clone()


class Views:
    """Views of arrays that come again, such as scratch, made once; it keeps the arrays."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[tuple[torch.Tensor, ...], list[torch.Tensor]]] = {}

    def __call__(self, name: str, shape: tuple[int, ...], *arrays: torch.Tensor) -> Any:
        """Return ``arrays``, which usually are those that last had this ``name``."""
        known = self._made.get(name)
        if known is None or any(map(operator.is_not, known[0], arrays)):
            known = self._made[name] = arrays, [x.view(shape) for x in arrays]
        return known[1]


def kernel_type(dtype: torch.dtype) -> Any:
    """Return the kernels' real type of a torch dtype, for template arguments."""
    return ti.f64 if dtype == torch.float64 else ti.f32


__all__ = [
    "LEAST", "Array1", "Array2", "Array3", "Array4", "Array5", "Int", "Key", "Real",
    "Template", "Vectors", "Views", "aligned", "kernel_type", "simd", "ti", "turns",
]  # fmt: skip
