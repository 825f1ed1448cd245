r"""A pair potential learned from a few labels: known physics times a Gaussian process.

    V(r) = w(r) - d(r) + s(r) g(r),    s = w + d > 0,
    w = exp(p_0 - p_1 r - p_2 r^2),    d = sum_n f_n(b r) C_n / r^n,  n = 6, 8, 10

with the dispersion coefficients of perturbation theory, damped (K. T. Tang, J. P. Toennies,
J. Chem. Phys. 80, 3726, 1984), a wall fitted to the labels, and a Gaussian process g with
mean zero and kernel ``a^2 exp(-(r - r')^2 / 2 l^2)``: a *relative* correction, which
therefore serves over the seven decades of V and dies out beyond the last label. The
posterior mean is linear in the labels; value, slopes and covariance are exact.

Energies in kelvin, distances in angstrom.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

BOHR = 0.529177210544
"""Angstrom (CODATA 2022)."""
HARTREE = 315775.024804
"""Kelvin (CODATA 2018)."""


@dataclass(frozen=True)
class PairLabel:
    """An interaction energy and what is known of its error.

    Attributes:
        separation: angstrom.
        energy: kelvin.
        independent: standard error of this label alone, kelvin.
        common: by source, the shift that one standard deviation of that source causes
            here; all labels move together.
        source: what computed it, in words.
    """

    separation: float
    energy: float
    independent: float
    common: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


def covariance(labels: Sequence[PairLabel]) -> Tensor:
    """Return the covariance of the labels' errors, ``[labels, labels]``, K^2."""
    found = torch.diag(_column([lab.independent**2 for lab in labels]))
    for source in dict.fromkeys(name for lab in labels for name in lab.common):
        shift = _column([lab.common.get(source, 0.0) for lab in labels])
        found = found + torch.outer(shift, shift)
    return found


def damping(order: int, x: Tensor) -> Tensor:
    """Return ``1 - e^-x sum_{k<=n} x^k / k!`` without loss of digits at small x."""
    return torch.special.gammainc(torch.full_like(x, float(order + 1)), x)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Prior:
    """What is assumed before any label.

    Attributes:
        dispersion: C_6, C_8, C_10 in hartree bohr^n.
        length: of the kernel, angstrom.
        amplitude: of the relative correction.
    """

    dispersion: tuple[float, ...]
    length: float = 0.53
    amplitude: float = 0.02

    def __post_init__(self) -> None:
        if not self.dispersion or min(self.dispersion) <= 0:
            raise ValueError(f"dispersion: {self.dispersion}; C6 (, C8, C10) are positive")
        if not (self.length > 0 and self.amplitude > 0):
            raise ValueError("length and amplitude must be positive")


@dataclass(frozen=True)
class Baseline:
    """Wall and dispersion; parameters in bohr."""

    prior: Prior
    wall: Tensor
    """``[3]``; carries the graph to the energies that it was fitted to."""

    def repulsion(self, r: Tensor) -> Tensor:
        """Return w in kelvin."""
        x, (a, b, c) = r / BOHR, self.wall.unbind()
        return torch.exp(a - b * x - c * x * x)

    def attraction(self, r: Tensor) -> Tensor:
        """Return d in kelvin, positive."""
        return _dispersion(r / BOHR, self.prior, self.wall[1], self.wall[2])

    def __call__(self, r: Tensor) -> Tensor:
        """Return w - d."""
        return self.repulsion(r) - self.attraction(r)

    def scale(self, r: Tensor) -> Tensor:
        """Return w + d."""
        return self.repulsion(r) + self.attraction(r)


def _dispersion(x: Tensor, prior: Prior, b: Tensor, c: Tensor) -> Tensor:
    # Tang and Toennies damp with the slope of the wall, here where the well is
    slope = b + 2 * c * WELL
    terms = [
        damping(n, slope * x) * strength / x**n
        for n, strength in zip((6, 8, 10), prior.dispersion, strict=False)
    ]
    return HARTREE * sum(terms[1:], terms[0])


WELL = 5.6
"""Bohr: where the slope of the wall that damps the dispersion is taken."""


def _misfit(wall: Tensor, r: Tensor, v: Tensor, prior: Prior) -> Tensor:
    """Departure of the labels from the baseline, in parts of its scale."""
    base = Baseline(prior, wall)
    return (base(r) - v) / base.scale(r) / prior.amplitude


def fit_baseline(r: Tensor, v: Tensor, prior: Prior) -> Baseline:
    """Return the wall that is nearest to the labels, in parts of its scale.

    Its parameters carry the derivative of the implicit function by the energies: one step
    of Newton's method with the graph.

    Args:
        r: ``[labels]`` angstrom.
        v: ``[labels]`` K; may require gradients.
        prior: dispersion and amplitude.

    Raises:
        ValueError: fewer than three labels, or none on the wall.
    """
    from scipy.optimize import least_squares

    if len(r) < 3:
        raise ValueError(f"{len(r)} labels; the wall alone has three parameters")
    known = v.detach()
    if not bool((known > 0).any()):
        raise ValueError("no label lies on the repulsive wall")
    top, slope = int(known.argmax()), 2.2
    first = math.log(float(known[top])) + slope * float(r[top]) / BOHR
    found = least_squares(
        lambda p: _misfit(torch.as_tensor(p), r, known, prior).numpy(),
        [first, slope, 0.0],
        x_scale=[1.0, 0.1, 0.01],
        xtol=1e-14, ftol=1e-14, gtol=1e-14,
    )  # fmt: skip
    best = torch.tensor(found.x, dtype=torch.float64)
    if not v.requires_grad:
        return Baseline(prior, best)

    def cost(wall: Tensor) -> Tensor:
        return 0.5 * _misfit(wall, r, known, prior).square().sum()

    hessian = torch.autograd.functional.hessian(cost, best)
    with torch.enable_grad():
        wall = best.clone().requires_grad_()
        value = 0.5 * _misfit(wall, r, v, prior).square().sum()
        (gradient,) = torch.autograd.grad(value, wall, create_graph=True)
    step = torch.linalg.solve(hessian, gradient)  # type: ignore[arg-type]
    return Baseline(prior, best - (step - step.detach()))


@dataclass(frozen=True)
class LearnedPair:
    """The posterior; callable like any pair potential.

    Attributes:
        baseline: wall and dispersion.
        separations: ``[labels]`` angstrom.
        energies: ``[labels]`` K; may require gradients.
        errors: ``[labels, labels]`` covariance of the labels, K^2.
    """

    baseline: Baseline
    separations: Tensor
    energies: Tensor
    errors: Tensor

    @staticmethod
    def of(labels: Sequence[PairLabel], prior: Prior) -> "LearnedPair":
        """Learn from labels."""
        r = _column([lab.separation for lab in labels])
        v = _column([lab.energy for lab in labels])
        return LearnedPair(fit_baseline(r, v, prior), r, v, covariance(labels))

    def with_energies(self, energies: Tensor) -> "LearnedPair":
        """Learn again from other energies, which may require gradients."""
        base = fit_baseline(self.separations, energies, self.baseline.prior)
        return LearnedPair(base, self.separations, energies, self.errors)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        prior = self.baseline.prior
        square = ((a[..., :, None] - b) / prior.length) ** 2
        return prior.amplitude**2 * torch.exp(-0.5 * square)

    @property
    def _factor(self) -> Tensor:
        """Cholesky factor of the kernel at the labels, with their independent errors.

        Common errors move all labels together: no fit could tell them from the potential,
        so they are propagated (:meth:`jacobian`), not smoothed.
        """
        scale = self.baseline.scale(self.separations)
        noise = self.errors.diagonal() / scale**2
        own = noise.clamp(max=(0.05 * self.baseline.prior.amplitude) ** 2)
        matrix = self._kernel(self.separations, self.separations) + torch.diag(own)
        return torch.linalg.cholesky(matrix)

    @property
    def weights(self) -> Tensor:
        """Coefficients of the kernels, linear in the energies."""
        scale = self.baseline.scale(self.separations)
        y = (self.energies - self.baseline(self.separations)) / scale
        return torch.cholesky_solve(y[:, None], self._factor)[:, 0]

    def __call__(self, r: Tensor) -> Tensor:
        """Return V(r), K; any shape."""
        flat = r.reshape(-1)
        g = self._kernel(flat, self.separations) @ self.weights
        return (self.baseline(flat) + self.baseline.scale(flat) * g).reshape(r.shape)

    def jacobian(self, r: Tensor) -> Tensor:
        """Return dV(r)/dV(labels), ``[r, labels]``, with the wall fitted again."""
        energies = self.energies.detach()

        def value(v: Tensor) -> Tensor:
            return self.with_energies(v)(r)

        return torch.autograd.functional.jacobian(value, energies)  # type: ignore[return-value]

    def posterior(self, r: Tensor) -> Tensor:
        """Return the covariance of V(r) that the labels leave open, ``[r, r]``, K^2."""
        k = self._kernel(self.separations, r)
        half = torch.linalg.solve_triangular(self._factor, k, upper=False)
        open_ = self._kernel(r, r) - half.T @ half
        scale = self.baseline.scale(r)
        return scale[:, None] * open_ * scale

    def total(self, r: Tensor) -> Tensor:
        """Return posterior plus propagated errors of the labels, ``[r, r]``, K^2."""
        j = self.jacobian(r)
        return self.posterior(r) + j @ self.errors @ j.T

    @property
    def smallest(self) -> float:
        """Angstrom: nothing is vouched for below, half a kernel inside the first label."""
        return float(self.separations.min()) - 0.5 * self.baseline.prior.length


__all__ = [
    "Baseline",
    "LearnedPair",
    "PairLabel",
    "Prior",
    "covariance",
    "damping",
    "fit_baseline",
]
