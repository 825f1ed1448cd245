"""Natural gradient by SPRING / MinSR, and Adam as the fallback."""

import math
from collections.abc import Callable
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


COLUMNS = 2
"""Columns of a sketch for each walker: with half as many twice the iterations are made."""
PRECISE = 0.1
"""Residual, relative to the right side, at which iterations end: the direction of a step
is then off by two hundredths, far below what the samples leave open."""
ITERATIONS = 20
"""Iterations before the equations are solved by the whole Gram matrix."""


def sketch(scores: Tensor, columns: int) -> Tensor:
    """Return ``O S [walkers, columns]``: every column of ``O`` joins one of few, by a sign.

    The signs are random and always the same, so that ``O S S^T O^T`` is ``O O^T`` in the
    mean (Clarkson and Woodruff, J. ACM 63, 54 (2017), section 2).
    """
    rng = torch.Generator().manual_seed(0)
    signs = torch.randint(2, scores.shape[1:], generator=rng).to(scores) * 2 - 1
    result = scores.new_zeros(len(scores), columns)
    parts = scores.split(columns, 1), signs.split(columns)
    for some, sign in zip(*parts, strict=True):
        result[:, : len(sign)].addcmul_(some, sign)
    return result


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

    solved on the smaller side (walkers or parameters) by factors, or of many float32 scores
    by iteration, whose cost is that of a few products with ``O``; and the step is
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
        weights = self._iterated(scores, right)
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

    def _iterated(self, scores: Tensor, right: Tensor) -> Tensor | None:
        """Solve by conjugate gradients; None where that does not pay, or fails.

        They are preconditioned by the kernel of a sketch, and ``K x`` goes through the
        scores: no matrix of walkers is made of all parameters (Hestenes and Stiefel, J.
        Res. Natl. Bur. Stand. 49, 409 (1952); Avron, Clarkson and Woodruff, SIAM J. Matrix
        Anal. Appl. 38, 1116 (2017) for sketches of kernels).
        """
        count, columns = len(scores), COLUMNS * len(scores)
        if scores.dtype is not torch.float32 or scores.shape[1] < 3 * columns:
            return None
        rough = self._kernel(gram(sketch(scores, columns), torch.float32))
        factor, failed = torch.linalg.cholesky_ex(rough)
        if int(failed):
            return None

        def near(x: Tensor) -> Tensor:
            return torch.cholesky_solve(x.float()[:, None], factor)[:, 0].double()

        def image(x: Tensor) -> Tensor:
            centred = (x - x.mean()).to(scores.dtype)
            y = (scores @ (scores.T @ centred)).double() / count
            return y - y.mean() + self.damping * x + x.mean()

        x, residual = torch.zeros_like(right), right
        along = ahead = near(residual)
        bound = PRECISE * right.norm()
        for _ in range(ITERATIONS):
            seen, size = image(along), residual @ ahead
            length = size / (along @ seen)
            x, residual = x + length * along, residual - length * seen
            if bool(residual.norm() <= bound):
                return x
            ahead = near(residual)
            along = ahead + (residual @ ahead) / size * along
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
