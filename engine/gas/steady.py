"""Derivatives of a steady state without the steps that led to it.

If ``R(f; p) = 0`` defines f, then for any function J of f

    dJ/dp = -lambda . dR/dp,        R_f^T lambda = dJ/df,

one linear system instead of thousands of steps to differentiate (the implicit function
theorem; A. Griewank and A. Walther, Evaluating Derivatives, 2008, section 15.1).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

AdjointSolver = Callable[[Tensor], Sequence[Tensor]]
"""From ``dJ/df`` to one lambda for each residual."""


class _Steady(torch.autograd.Function):
    """(f, residuals) -> f; backward solves the adjoint equation."""

    @staticmethod
    def forward(ctx: Any, solver: AdjointSolver, f: Tensor, *residuals: Tensor) -> Tensor:
        ctx.solver = solver
        return f.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_f: Tensor) -> tuple[Any, ...]:
        return None, None, *(-part for part in ctx.solver(by_f))


def attach(solver: AdjointSolver, f: Tensor, *residuals: Tensor) -> Tensor:
    """Return the steady state f with the graph of its residuals.

    Args:
        solver: of the adjoint equation at f.
        f: the solution, without graph.
        residuals: R(f; p), about zero, evaluated at the same f, with their graph to p.
    """
    found: Callable[..., Tensor] = _Steady.apply  # type: ignore[assignment]
    return found(solver, f.detach(), *residuals)
