"""Names for the array arguments of kernels, readable by type checkers and by Taichi.

Arrays have no fixed dtype: a kernel is specialised for f32 and f64 on first use. Derive
constants in f32 kernels from arguments, since literals are f64.
"""

from typing import TYPE_CHECKING, Any

import torch

from ..runtime import ti

if TYPE_CHECKING:
    Array1 = Array2 = Array3 = Array4 = Array5 = Any
    Template = Any
    Int = int
    Real = float
else:
    Array1 = ti.types.ndarray(ndim=1)
    Array2 = ti.types.ndarray(ndim=2)
    Array3 = ti.types.ndarray(ndim=3)
    Array4 = ti.types.ndarray(ndim=4)
    Array5 = ti.types.ndarray(ndim=5)
    Template = ti.template()
    Int = ti.i32
    Real = ti.f64


def kernel_type(dtype: torch.dtype) -> Any:
    """Return the kernels' real type of a torch dtype, for template arguments."""
    return ti.f64 if dtype == torch.float64 else ti.f32


__all__ = [
    "Array1", "Array2", "Array3", "Array4", "Array5", "Int", "Real", "Template",
    "kernel_type", "ti",
]  # fmt: skip
