"""The entropy closure: convexity, positivity, invariance, training, runs."""

import math
from dataclasses import replace

import pytest
import torch

from scalebridge.engine import runtime
from scalebridge.engine.gas.flows import lines as flows
from scalebridge.engine.learn import comparison
from scalebridge.engine.learn.trainers import entropy as training
from scalebridge.engine.learn.trainers import recurrence
from scalebridge.engine.learn.trainers.closure import relative_error
from scalebridge.models.closures.entropy import (
    ConvexNet,
    EntropyForm,
)
from scalebridge.models.closures.recurrence import coefficients, geometric, speeds


@pytest.fixture(scope="module", autouse=True)
def cpu() -> None:
    runtime.start("cpu")


def closure(seed: int = 0):
    torch.manual_seed(seed)
    return EntropyForm(hidden=(8, 8)).build().requires_grad_(False)


def gas(drift: float = 0.0, unit: float = 1.0) -> torch.Tensor:
    """Raw moments of two Maxwellians that fly apart, ``[7]``."""
    v = torch.linspace(-9.0, 9.0, 600, dtype=torch.float64)
    f = 0.7 * (-0.5 * (v - 0.5) ** 2).exp() + 0.3 * (-0.7 * (v + 0.8) ** 2).exp()
    at = unit * v + drift
    return torch.stack([(f * at**k).sum() for k in range(7)])


def curvature(net: ConvexNet, g: torch.Tensor) -> torch.Tensor:
    hessian = torch.autograd.functional.hessian(lambda x: net(x), g)
    return torch.linalg.eigvalsh(hessian)


def test_the_entropy_is_convex_and_even_and_a_negative_weight_is_caught():
    net, rng = closure().entropy, torch.Generator().manual_seed(2)
    points = 2.0 * torch.randn(20, 3, generator=rng, dtype=torch.float64)
    assert all(float(curvature(net, g).min()) > 0 for g in points)
    assert torch.allclose(net(points), net(points * torch.tensor([-1.0, 1.0, -1.0])))

    class Planted(ConvexNet):
        def forward(self, g):
            return super().forward(g) - 3.0 * self.first(g).square().sum(-1)

    planted = Planted(torch.tensor([-1.0, 1.0, -1.0]), (8,)).double()
    assert any(float(curvature(planted, g).min()) < 0 for g in points)


def test_the_distribution_is_positive_with_mass_mean_and_variance():
    module, rng = closure(), torch.Generator().manual_seed(3)
    g = 0.5 * torch.randn(50, 3, generator=rng, dtype=torch.float64)
    f = module.distribution(module.multipliers(g))
    assert float(f.min()) > 0
    wanted = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(50, 3)
    torch.testing.assert_close(f @ module.basis[:, :3], wanted, rtol=0, atol=1e-8)


def test_recurrence_coefficients_of_nodes_are_those_of_their_moments():
    module = closure()
    f = module.distribution(torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64))
    raw = torch.stack([(f * module.nodes**k).sum(-1) for k in range(7)], -1)
    some = coefficients(raw[:, :6])
    b3 = recurrence.next_coefficient(raw, some)
    torch.testing.assert_close(module.recurrence(f)[:, :6], some, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(module.recurrence(f)[:, 6], b3, rtol=1e-8, atol=0)


def test_frame_and_units_do_not_matter_and_equilibrium_is_kept():
    module = closure()
    here = module(coefficients(gas()[:6]))
    assert float(here) > 0
    moved = module(coefficients(gas(drift=3.0, unit=2.0)[:6]))
    torch.testing.assert_close(moved, 4.0 * here, rtol=1e-7, atol=0)
    rest = torch.tensor([1.0, 0.4, 0.7, 0.0, 1.4, 0.0], dtype=torch.float64)
    torch.testing.assert_close(module(rest), geometric(rest), rtol=1e-10, atol=0)
    found = speeds(module, rest[None])
    assert float(found.imag.abs().max()) < 1e-6


@pytest.mark.slow
def test_training_finds_the_entropy_of_a_teacher():
    raw = flows.solve(flows.flows("mix", 5, 8), (0.0, 0.1), 40, 72, 20, 6, 7.2)
    rng = torch.Generator().manual_seed(1)
    data = recurrence.moving(raw, 200, rng)
    teacher = closure(7)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(2.0)
    data = replace(data, b3=teacher(data.some).detach())
    torch.manual_seed(0)
    module, losses = EntropyForm(hidden=(8,)).build(), []
    log = lambda step, loss: losses.append(loss)  # noqa: E731
    training.fit(module, data, 150, 100, 1e-2, rng, consistency=0.0, log=log)
    assert sum(losses[-20:]) < 0.1 * sum(losses[:20])
    before = float(training.disagreement(module, data.some).mean())
    training.fit(module, data, 100, 100, 1e-2, rng, consistency=1e3)
    assert float(training.disagreement(module, data.some).mean()) < 0.95 * before


def test_a_lost_flow_does_not_take_the_others_with_it():
    true = comparison.reference(flows.flows("wave", 5, 4), (0.0, 0.02), 40, 60, 20)
    run = comparison.run_realizable(true)
    assert bool((relative_error(run.moments[-1], true.moments(3)[-1]) < 0.02).all())
    raw = true.raw.clone()
    raw[0, 2, 5, 4] *= 0.2  # an unrealizable fourth moment
    spoiled = comparison.run_realizable(comparison.Reference(raw, true.knudsen, true.times))
    assert math.isnan(float(spoiled.moments[-1, 2].sum()))
    for flow in (0, 1, 3):
        torch.testing.assert_close(spoiled.moments[-1, flow], run.moments[-1, flow])
