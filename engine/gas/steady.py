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


def krylov_solver(
    residual: Callable[[Tensor], Tensor],
    f: Tensor,
    tolerance: float = 1e-8,
    most: int = 400,
) -> AdjointSolver:
    """Return a solver for any residual: GMRES on products with the transposed Jacobian.

    Fit for steps that contract quickly (``residual = step(f) - f``). Reference: Y. Saad,
    M. H. Schultz, SIAM J. Sci. Stat. Comput. 7, 856 (1986), without restarts.

    Args:
        residual: R at fixed parameters.
        f: where.
        tolerance: of the residual relative to the right-hand side.
        most: largest dimension of the Krylov space.
    """
    with torch.enable_grad():
        x = f.detach().requires_grad_()
        r = residual(x)

    def product(vector: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(r, x, vector.reshape(r.shape), retain_graph=True)
        return found.reshape(-1)

    def solve(by_f: Tensor) -> Sequence[Tensor]:
        b = by_f.detach().reshape(-1)
        size = b.norm()
        if float(size) == 0.0:
            return (torch.zeros_like(r),)
        basis, columns = [b / size], []
        h = b.new_zeros(most + 1, most)
        y = b.new_zeros(1)
        for k in range(most):
            w = product(basis[k])
            known = torch.stack(basis)
            for _ in range(2):
                part = known @ w
                w = w - part @ known
                h[: k + 1, k] += part
            h[k + 1, k] = w.norm()
            right = b.new_zeros(k + 2)
            right[0] = size
            small = h[: k + 2, : k + 1]
            y = torch.linalg.lstsq(small, right[:, None]).solution[:, 0]
            columns.append(k)
            if float((small @ y - right).norm()) <= tolerance * float(size):
                break
            basis.append(w / h[k + 1, k])
        answer = y @ torch.stack(basis[: len(columns)])
        return (answer.reshape(r.shape),)

    return solve
