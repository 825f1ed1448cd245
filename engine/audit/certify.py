"""Certificates of gradients: whether automatic derivatives are those of the model.

Automatic and finite differences agree on many wrong gradients: both differentiate the
program, and a program whose quadrature ends at a moving node has values accurate to
0.5% and slopes wrong by 64%, because its result is a sawtooth and every small step stays
on one tooth. Each stage of a computation is therefore compared with four references:

- central differences over a *sweep* of steps, 0.1 down to 1e-7: where three neighbouring
  steps agree they form a plateau, the gradient must lie on it, and no second plateau may
  exist at larger steps;
- exact laws, where there are any (:class:`Law`);
- the plain-torch reference of the stage, where there is one;
- the horizon, for what evolves in time (:func:`certify_horizons`).

A verdict is always given: ``agrees``, or a sentence that begins with ``disagrees``,
``breaks the law`` or ``not differentiable here``.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]
Stage = Callable[[Parameters], Tensor]
"""From named parameters to a tensor, differentiable in them."""

STEPS = tuple(10.0 ** (-1 - 0.5 * k) for k in range(13))
"""Relative steps of the finite differences."""

AGREES = "agrees"


@dataclass(frozen=True)
class Law:
    """An exact relation of homogeneity: ``sum_k w_k df/d ln p_k = degree f``.

    Viscosity of a dilute gas: ``Law("viscosity ~ sigma^-2", "viscosity", {"sigma": 1},
    -2)``; a shock's inverse thickness in a fixed unit of length: degree 2.

    Attributes:
        name: in words.
        stage: which stage obeys it.
        weights: w of each scalar parameter that takes part.
        degree: see above; or any function of the parameters, for example the virial
            theorem's right-hand side, that gives the left-hand side divided by f.
        tolerance: of ``left - degree f``, relative to the terms.
    """

    name: str
    stage: str
    weights: Mapping[str, float]
    degree: float | Callable[[Parameters], float]
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        stage: which stage.
        parameter: which parameter, or the parameters of a law.
        judge: compared with "finite differences", "law", "reference".
        gradient: the derivative by the parameter's logarithm (along a fixed random
            direction for a tensor; by the parameter itself where it is zero).
        expected: the reference's value.
        verdict: "agrees", or what is wrong.
        steps: relative steps of the sweep.
        differences: the quotient at each of them.
    """

    stage: str
    parameter: str
    judge: str
    gradient: float
    expected: float
    verdict: str
    steps: tuple[float, ...] = ()
    differences: tuple[float, ...] = ()

    @property
    def error(self) -> float:
        """``|gradient - expected|`` relative to the larger of them."""
        scale = max(abs(self.gradient), abs(self.expected), 1e-300)
        return abs(self.gradient - self.expected) / scale


@dataclass(frozen=True)
class Certificate:
    """All checks of a computation.

    Attributes:
        checks: in the order of the stages.
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every comparison agrees."""
        return all(check.verdict == AGREES for check in self.checks)

    @property
    def verdict(self) -> str:
        """Return "agrees", or the first thing that is wrong: the earliest stage's fault."""
        for check in self.checks:
            if check.verdict != AGREES:
                return f"{check.stage}, {check.parameter}: {check.verdict}"
        return AGREES

    def table(self) -> str:
        """Return one line per check."""
        rows = [("stage", "parameter", "judge", "gradient", "expected", "verdict")]
        for c in self.checks:
            numbers = (f"{c.gradient:.8g}", f"{c.expected:.8g}")
            rows.append((c.stage, c.parameter, c.judge, *numbers, c.verdict))
        widths = [max(len(row[k]) for row in rows) for k in range(6)]
        lines = [[cell.ljust(w) for cell, w in zip(r, widths, strict=True)] for r in rows]
        return "\n".join("  ".join(line).rstrip() for line in lines)

    def json(self) -> list[dict]:
        """Return the checks as plain data."""
        return [asdict(check) | {"error": check.error} for check in self.checks]


def certify(
    observable: Stage | Mapping[str, Stage],
    parameters: Parameters,
    *,
    laws: Sequence[Law] = (),
    references: Mapping[str, Stage] | None = None,
    steps: Sequence[float] = STEPS,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Certificate:
    """Compare the gradient of an observable with everything that is known about it.

    Args:
        observable: a function of the parameters, or several by name: the stages of one
            computation in their order, each from the parameters to its own result, so
            that the first that fails names the place of the fault. A result with many
            numbers is summed with fixed random weights.
        parameters: float64, without graph.
        laws: exact laws of stages.
        references: the plain-torch reference of a stage, by its name; values and
            gradients must agree to 1e-8.
        steps: of the finite differences, falling.
        tolerance: relative, of plateau and gradient.
        seed: of directions and weights.
    """
    stages = observable if isinstance(observable, Mapping) else {"observable": observable}
    checks: list[Check] = []
    for name, stage in stages.items():
        taken = _Taken.of(stage, parameters, seed)
        for key in parameters:
            checks.append(_sweep(name, stage, parameters, key, taken, steps, tolerance))
        checks += [_lawful(law, parameters, taken) for law in laws if law.stage == name]
        if references and name in references:
            reference_run = _Taken.of(references[name], parameters, seed)
            checks += [_alike(name, key, taken, reference_run) for key in parameters]
    return Certificate(tuple(checks))


# -- comparisons --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Taken:
    """Value and directional derivatives of a stage, and what was warned meanwhile."""

    value: float
    slopes: dict[str, float]
    directions: dict[str, Tensor]
    weights: Tensor
    warned: str

    @staticmethod
    def of(stage: Stage, parameters: Parameters, seed: int) -> "_Taken":
        own = {k: p.detach().clone().requires_grad_() for k, p in parameters.items()}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = stage(own)
            draws = torch.Generator().manual_seed(seed)
            weights = torch.ones_like(result)
            if result.numel() > 1:
                weights = torch.randn(
                    result.shape, generator=draws, dtype=torch.float64
                ).to(result)
            total = (weights * result).sum()
            if total.requires_grad:
                found = torch.autograd.grad(total, list(own.values()), allow_unused=True)
            else:
                found = [None] * len(own)
        slopes, directions = {}, {}
        for (key, p), gradient in zip(parameters.items(), found, strict=True):
            direction = _direction(p, draws)
            by = torch.zeros_like(p) if gradient is None else gradient
            slopes[key] = float((by * direction).sum())
            directions[key] = direction
        warned = "; ".join(str(w.message) for w in caught if _relevant(w.category))
        return _Taken(float(total.detach()), slopes, directions, weights.detach(), warned)


def _relevant(category: type[Warning]) -> bool:
    return issubclass(category, UserWarning)


def _direction(p: Tensor, draws: torch.Generator) -> Tensor:
    size = p.detach().square().mean().sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    if p.numel() == 1:
        return torch.where(p.detach() == 0, torch.ones_like(p), p.detach())
    return size * torch.randn(p.shape, generator=draws, dtype=torch.float64).to(p)


def _sweep(
    name: str,
    stage: Stage,
    parameters: Parameters,
    key: str,
    taken: _Taken,
    steps: Sequence[float],
    tolerance: float,
) -> Check:
    quotients = []
    for step in steps:
        ends = [_value(stage, parameters, key, sign * step, taken) for sign in (1, -1)]
        quotients.append((ends[0] - ends[1]) / (2 * step))
    slope = taken.slopes[key]
    noise = 1e-13 * abs(taken.value)
    expected, verdict = judge(slope, steps, quotients, tolerance, noise)
    if verdict != AGREES and taken.warned:
        verdict = f"not differentiable here: {taken.warned}"
    return Check(
        name, key, "finite differences", slope, expected, verdict, tuple(steps),
        tuple(quotients),
    )  # fmt: skip


def _value(
    stage: Stage, parameters: Parameters, key: str, step: float, taken: _Taken
) -> float:
    moved = {k: p.detach() for k, p in parameters.items()}
    moved[key] = moved[key] + step * taken.directions[key]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float((taken.weights * stage(moved)).sum())


def judge(
    slope: float,
    steps: Sequence[float],
    quotients: Sequence[float],
    tolerance: float = 1e-3,
    noise: float = 0.0,
) -> tuple[float, str]:
    """Return the plateau's value and the verdict on ``slope``.

    The plateau is the window of three neighbouring steps whose quotients spread least,
    relative to their size or to the rounding error ``noise / step``. A window at larger
    steps that is coherent (its spread under a third of its size and of its distance from
    the plateau) is a second plateau: the curve is a sawtooth.
    """
    if not math.isfinite(slope):
        return math.nan, "not differentiable here: the gradient is not finite"
    windows = []
    for k in range(len(steps) - 2):
        three = quotients[k : k + 3]
        if all(math.isfinite(q) for q in three):
            windows.append((max(three) - min(three), k, sorted(three)[1]))
    if not windows:
        return math.nan, "not differentiable here: the differences are not finite"

    def allowed(k: int, size: float) -> float:
        return tolerance * abs(size) + 10.0 * noise / steps[k + 2]

    fit = [w for w in windows if w[0] <= allowed(w[1], w[2])]
    if not fit:
        _, _, middle = min(windows)
        return middle, "not differentiable here: the differences have no plateau"
    _, at, plateau = min(fit, key=lambda w: w[0] / allowed(w[1], w[2]))
    for spread, k, middle in windows:
        gap = abs(middle - plateau)
        coherent = spread < min(gap, abs(middle)) / 3.0
        if k < at and coherent and gap > 10.0 * allowed(k, plateau):
            return plateau, (
                f"not differentiable here: slope {plateau:.6g} at steps of "
                f"{steps[at + 1]:.0e}, but {middle:.6g} at {steps[k + 1]:.0e}: a saw"
            )
    if abs(slope - plateau) > allowed(at, max(abs(plateau), abs(slope))):
        return plateau, f"disagrees: the plateau is at {plateau:.6g}"
    return plateau, AGREES


def _lawful(law: Law, parameters: Parameters, taken: _Taken) -> Check:
    terms = [w * taken.slopes[key] for key, w in law.weights.items()]
    degree = law.degree(parameters) if callable(law.degree) else law.degree
    left, right = sum(terms), degree * taken.value
    scale = max(abs(right), *(abs(term) for term in terms), 1e-300)
    verdict = AGREES
    if not abs(left - right) <= law.tolerance * scale:
        verdict = f"breaks the law {law.name}: {left:.8g} instead of {right:.8g}"
    return Check(law.stage, " ".join(law.weights), "law", left, right, verdict)


def _alike(name: str, key: str, taken: _Taken, reference_run: _Taken) -> Check:
    verdict, own, other = AGREES, taken.slopes[key], reference_run.slopes[key]
    scale = max(abs(taken.value), abs(reference_run.value), 1e-300)
    if not abs(taken.value - reference_run.value) <= 1e-8 * scale:
        verdict = f"disagrees: the reference's value is {reference_run.value:.10g}"
    elif not abs(own - other) <= 1e-8 * max(abs(own), abs(other), scale):
        verdict = f"disagrees: the reference's gradient is {other:.10g}"
    return Check(name, key, "reference", own, other, verdict)


# -- horizons -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Horizons:
    """How far in time a gradient can be trusted.

    Attributes:
        certificate: a stage for each horizon.
        usable: the longest horizon up to which all agree; 0 if none.
        rate: growth of the gradient per unit of the horizon, fitted to its logarithm over
            the later half of the horizons; positive where it is exponential.
    """

    certificate: Certificate
    usable: float
    rate: float = field(default=math.nan)


def certify_horizons(
    at: Callable[[float], Stage],
    horizons: Sequence[float],
    parameters: Parameters,
    *,
    steps: Sequence[float] = STEPS,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Horizons:
    """Certify an observable at several times.

    Args:
        at: from a horizon to the observable.
        horizons: rising.
        parameters: as for :func:`certify`.
        steps: as there.
        tolerance: as there.
        seed: as there.
    """
    stages = {f"horizon {horizon:g}": at(horizon) for horizon in horizons}
    found = certify(stages, parameters, steps=steps, tolerance=tolerance, seed=seed)
    usable = 0.0
    for horizon, name in zip(horizons, stages, strict=True):
        if any(c.stage == name and c.verdict != AGREES for c in found.checks):
            break
        usable = horizon
    return Horizons(found, usable, _rate(found, horizons, list(stages)))


def _rate(found: Certificate, horizons: Sequence[float], names: Sequence[str]) -> float:
    times, logs = [], []
    for horizon, name in zip(horizons, names, strict=True):
        size = max(abs(c.gradient) for c in found.checks if c.stage == name)
        if math.isfinite(size) and size > 0:
            times.append(float(horizon))
            logs.append(math.log(size))
    half = len(times) // 2
    if len(times) - half < 2:
        return math.nan
    t = torch.tensor(times[half:], dtype=torch.float64)
    y = torch.tensor(logs[half:], dtype=torch.float64)
    return float(((t - t.mean()) * (y - y.mean())).sum() / (t - t.mean()).square().sum())
