"""The gradient certificate: right gradients pass, planted wrong ones are found."""

import math

import pytest
import torch

from scalebridge.engine.audit.certify import Law, certify, certify_horizons

POINT = {
    "a": torch.tensor(1.3, dtype=torch.float64),
    "b": torch.tensor([0.4, -2.0, 0.7], dtype=torch.float64),
}


class Twisted(torch.autograd.Function):
    """x^3 with a derivative that is 1% off."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 1.01 * 3 * x**2 * g


def smooth(p):
    return p["a"] ** 3 * p["b"].cos()


def saw(p):
    """Slope 1 along the teeth, but teeth of 0.4% that drop by 0.64 of their length."""
    x = p["a"]
    return x - 0.64 * 0.004 * torch.floor(x.detach() / 0.004) + 3.0


def test_a_right_gradient_agrees():
    found = certify(
        smooth,
        POINT,
        laws=[Law("cubic", "observable", {"a": 1.0}, 3.0, 1e-12)],
        references={"observable": smooth},
    )
    assert found.passed, found.table()
    assert {c.judge for c in found.checks} == {"finite differences", "law", "reference"}


def test_a_power_law_of_high_order_agrees():
    """Sigma^12: differences at steps of 0.1 are 25% off, and smoothly so."""
    assert certify(lambda p: p["a"] ** 12, {"a": POINT["a"]}).passed


def test_a_wrong_gradient_disagrees():
    found = certify(lambda p: Twisted.apply(p["a"]), {"a": POINT["a"]})
    assert found.verdict.startswith("observable, a: disagrees")


def test_the_first_wrong_stage_is_named():
    stages = {
        "first": lambda p: p["a"].sin(),
        "second": lambda p: Twisted.apply(p["a"].sin()),
        "third": lambda p: Twisted.apply(p["a"].sin()) ** 2,
    }
    assert certify(stages, {"a": POINT["a"]}).verdict.startswith("second")


def test_a_saw_is_found():
    """Automatic and finite differences at 1e-4 agree on 1; the slope is 0.36."""
    found = certify(saw, {"a": POINT["a"] + 0.0013})
    assert "a saw" in found.verdict, found.table()
    assert found.verdict.startswith("observable, a: not differentiable here")


def test_a_kink_and_noise_are_not_differentiable():
    def noise(p):
        draws = torch.Generator().manual_seed(int(1e12 * p["a"].item()) % 2**31)
        return p["a"] + torch.randn(1, generator=draws, dtype=torch.float64)

    assert "no plateau" in certify(noise, {"a": POINT["a"]}).verdict

    def root(p):
        return (p["a"] - POINT["a"]).abs().sqrt()

    assert "not finite" in certify(root, {"a": POINT["a"]}).verdict


def test_a_missing_graph_disagrees():
    found = certify(lambda p: p["a"].detach() ** 2, {"a": POINT["a"]})
    assert "disagrees" in found.verdict


def test_a_law_catches_what_differences_do_not():
    """A program that forgets a factor is consistent with itself."""
    law = Law("fourth power", "observable", {"a": 1.0}, 4.0)
    assert "breaks the law" in certify(smooth, POINT, laws=[law]).verdict


def test_a_reference_catches_what_differences_do_not():
    wrong = {"observable": lambda p: 1.001 * smooth(p)}
    assert "reference" in certify(smooth, POINT, references=wrong).verdict


@pytest.mark.parametrize("chaotic", [True, False])
def test_horizons(chaotic):
    """The logistic map at 4 doubles perturbations every step; a rotation never."""

    def at(horizon):
        def stage(p):
            x = p["x"]
            for _ in range(int(horizon)):
                x = 4 * x * (1 - x) if chaotic else x + 0.1
            return x

        return stage

    start = {"x": torch.tensor(0.3, dtype=torch.float64)}
    found = certify_horizons(at, [4, 8, 16, 32, 48, 64], start)
    if chaotic:
        assert found.usable == 16
        assert abs(found.rate - math.log(2)) < 0.1
        assert "not differentiable here" in found.certificate.verdict
    else:
        assert found.usable == 64
        assert abs(found.rate) < 1e-12
