"""Natural gradient by SPRING / MinSR, and Adam as the fallback."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Annotated, Literal, Protocol

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from ...models.parts import part
from ..errors import GuardError


def clipped(energy: Tensor, width: float) -> Tensor:
    """Return local energies clipped to ``median +- width * mean |E - median|``.

    Only the gradient sees them; reported energies are never clipped (Pfau et al., Phys.
    Rev. Research 2, 033429 (2020), section III.B).
    """
    if width <= 0:
        return energy
    median = energy.median()
    reach = width * (energy - median).abs().mean()
    return energy.clamp(median - reach, median + reach)


class Optimiser(Protocol):
    """Turns scores and local energies into an update of the parameters."""

    def start(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return the memory of a fresh run of parameters ``[p]``."""
        ...

    def update(
        self, scores: Tensor, energy: Tensor, memory: dict[str, Tensor], step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what is to be added to the parameters ``[p]``, and the new memory.

        Args:
            scores: ``d log|psi| / d theta``, ``[walkers, p]``; overwritten freely.
            energy: local energies ``[walkers]``, float64.
            memory: of the last step.
            step: number of steps made.
        """
        ...


REFINED = 0.1
"""Residual, relative to the right side, after which one more refinement ends the solution:
its direction is then as near as with a float32 Gram matrix."""
ROUNDS = 8
"""Refinements before the Gram matrix is made again with all digits."""


@contextmanager
def short_products() -> Iterator[None]:
    """Multiply float32 matrices as bfloat16, where the processor has such products.

    Sums stay float32. Processors without them, and other types, multiply as ever.
    """
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def gram(scores: Tensor, dtype: torch.dtype, blocks: int = 4) -> Tensor:
    """Return ``O O^T`` in ``dtype``, computing only one triangle of blocks."""
    count = len(scores)
    size = -(-count // blocks)
    result = torch.empty(count, count, dtype=dtype, device=scores.device)
    for begin in range(0, count, size):
        end = min(begin + size, count)
        part = (scores[begin:] @ scores[begin:end].T).to(dtype)
        result[begin:, begin:end] = part
        result[begin:end, end:] = part[end - begin :].T
    return result


def _solver(matrix: Tensor, step: int) -> Callable[[Tensor], Tensor]:
    """Return what solves equations with a symmetric matrix.

    Raises:
        GuardError: the matrix is not finite.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not int(failed):
        return lambda right: torch.cholesky_solve(right[:, None], factor)[:, 0]
    values, vectors = torch.linalg.eigh(matrix)
    keep = values > values[-1].abs() * 1e-12
    if not bool(values.isfinite().all()) or not bool(keep.any()):
        raise GuardError("optimiser: the Gram matrix is not finite", step)
    inverse = torch.where(keep, 1 / values.clamp(min=1e-300), torch.zeros_like(values))
    return lambda right: vectors @ (inverse * (vectors.T @ right))


@part
class Spring:
    """SPRING: natural gradient that remembers its last direction; MinSR at momentum 0.

    With centred scores ``O`` and energies ``e``, both over ``sqrt(walkers)``,

        phi_t = argmin |O phi + e|^2 + damping |phi - mu phi_(t-1)|^2
              = O^T (O O^T + damping)^-1 (-e - mu O phi_(t-1)) + mu phi_(t-1),

    solved on the smaller side (walkers or parameters), in float64 or, of float32 scores,
    with short products and refined; and the step is
    ``rate / (1 + t / decay) * phi``, shortened to length ``sqrt(max_norm)``. The momentum
    grows linearly from 0 over ``ramp`` steps: memory of the first, wild directions slows
    short runs.

    Reference: Goldshlager, Abrahamsen, Lin, J. Comput. Phys. 516, 113351 (2024), algorithm
    1; Chen and Heyl, Nature Physics 20, 1476 (2024) for MinSR.
    """

    rate: Annotated[float, Gt(0), Le(1)] = 0.05
    """Learning rate."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.95
    """Share mu of the last direction that is kept."""
    ramp: Annotated[int, Ge(0)] = 200
    """Steps over which the momentum grows from 0."""
    damping: Annotated[float, Gt(0)] = 1e-3
    """Tikhonov shift of the Gram matrix."""
    max_norm: Annotated[float, Gt(0)] = 1e-3
    """Bound on the squared length of a step."""
    decay: Annotated[float, Gt(0)] = 2000.0
    """Steps after which the rate is halved."""
    clip: Annotated[float, Ge(0)] = 5.0
    """Clipping of energies in the gradient, in mean absolute deviations; 0 for none."""
    kind: Literal["spring"] = field(default="spring", repr=False)

    def start(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return a zero direction."""
        return {"direction": torch.zeros_like(parameters)}

    def update(
        self, scores: Tensor, energy: Tensor, memory: dict[str, Tensor], step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Optimiser`.

        Raises:
            GuardError: the Gram matrix is not finite.
        """
        mu = self.momentum * min(1.0, step / max(self.ramp, 1))
        old = mu * memory["direction"]
        error = clipped(energy, self.clip)
        error = -(error - error.mean())
        solve = self._by_walkers if len(scores) <= scores.shape[1] else self._by_parameters
        direction = solve(scores, error, old, step)
        if not bool(direction.isfinite().all()):
            raise GuardError("optimiser: the direction is not finite", step)
        change = direction * (self.rate / (1 + step / self.decay))
        length = change.double().norm()
        shorter = (math.sqrt(self.max_norm) / length).clamp(max=1.0)
        return change * shorter.to(change), {"direction": direction}

    def _by_walkers(self, scores: Tensor, error: Tensor, old: Tensor, step: int) -> Tensor:
        # The Gram matrix and the projections are centred instead of the large matrix O.
        known = (scores @ old).double()
        right = error - (known - known.mean())
        weights = self._refined(scores, right) if scores.dtype is torch.float32 else None
        if weights is None:
            kernel = self._kernel(gram(scores, torch.float64))
            weights = _solver(kernel, step)(right)
        weights = weights / len(scores)
        weights = weights - weights.mean()
        return scores.T @ weights.to(scores.dtype) + old

    def _kernel(self, products: Tensor) -> Tensor:
        """Return the centred and damped kernel of the Gram matrix."""
        count = len(products)
        kernel = products / count
        kernel = kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()
        kernel.diagonal().add_(self.damping)
        kernel += 1.0 / count  # the constant vector, which centring has removed
        return kernel

    def _refined(self, scores: Tensor, right: Tensor) -> Tensor | None:
        """Solve by a kernel of few digits and refine; None where that fails.

        ``x <- x + K'^-1 (right - K x)`` with the factors of a short ``K'``, where ``K x``
        goes through the scores and no matrix of walkers is made (iterative refinement;
        Wilkinson, Rounding Errors in Algebraic Processes (1963), chapter 3).
        """
        with short_products():
            short = self._kernel(gram(scores, torch.float32, 2))
        factor, failed = torch.linalg.cholesky_ex(short)
        if int(failed):
            return None

        def solve(right: Tensor) -> Tensor:
            found = torch.cholesky_solve(right.float()[:, None], factor)
            return found[:, 0].double()

        bound = REFINED * right.norm()
        x = solve(right)
        for _ in range(ROUNDS):
            centred = (x - x.mean()).to(scores.dtype)
            image = (scores @ (scores.T @ centred)).double() / len(scores)
            image = image - image.mean() + self.damping * x + x.mean()
            residual = right - image
            x = x + solve(residual)
            if bool(residual.norm() <= bound):
                return x
        return None

    def _by_parameters(
        self, scores: Tensor, error: Tensor, old: Tensor, step: int
    ) -> Tensor:
        wide = scores.double()
        wide = (wide - wide.mean(0)) / math.sqrt(len(wide))
        metric = wide.T @ wide
        metric.diagonal().add_(self.damping)
        right = wide.T @ error / math.sqrt(len(wide)) + self.damping * old.double()
        return _solver(metric, step)(right).to(scores.dtype)


@part
class Adam:
    """Adam on the energy gradient ``2 <(E_L - <E_L>) d log psi>`` (Kingma and Ba, 2015)."""

    rate: Annotated[float, Gt(0), Le(1)] = 3e-3
    """Learning rate."""
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Memory of the gradient."""
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Memory of its square."""
    clip: Annotated[float, Ge(0)] = 5.0
    """Clipping of energies in the gradient, in mean absolute deviations; 0 for none."""
    kind: Literal["adam"] = field(default="adam", repr=False)

    def start(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return zero moments."""
        zero = torch.zeros_like(parameters)
        return {"first": zero, "second": zero.clone()}

    def update(
        self, scores: Tensor, energy: Tensor, memory: dict[str, Tensor], step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :class:`Optimiser`."""
        error = clipped(energy, self.clip)
        weights = 2 * (error - error.mean()) / len(error)
        gradient = scores.T @ weights.to(scores.dtype)
        if not bool(gradient.isfinite().all()):
            raise GuardError("optimiser: the gradient is not finite", step)
        first = self.beta1 * memory["first"] + (1 - self.beta1) * gradient
        second = self.beta2 * memory["second"] + (1 - self.beta2) * gradient.square()
        unbiased = first / (1 - self.beta1 ** (step + 1))
        scale = (second / (1 - self.beta2 ** (step + 1))).sqrt() + 1e-8
        return -self.rate * unbiased / scale, {"first": first, "second": second}
