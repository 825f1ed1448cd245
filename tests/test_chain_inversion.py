"""Forces from the thickness of shocks: derivatives, the fit, and what is refused."""

import pytest
import torch

from scalebridge.engine import commands
from scalebridge.engine.chain.goal import Window
from scalebridge.engine.chain.inversion import Measurement, Shocks, ThicknessFit
from scalebridge.engine.chain.properties import Atoms
from scalebridge.engine.chain.shock import ShockTube
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.collisions.published import PUBLISHED

ARGON = PUBLISHED["Ar"]
SHOCKS = Shocks(
    ARGON,
    Window(Atoms("Ar", ARGON.mass), 200.0, 700.0, quantum=False),
    ShockTube(1.6, cells=48, extent=12.0, nodes=36, settling=400),
)


def ln_thickness(a, b):
    point = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    value = SHOCKS.ln_thickness(SHOCKS.gas(point), 1.6, 300.0, 6.67)
    return value, torch.autograd.grad(value, point)[0]


def test_the_derivatives_are_those_of_differences_and_of_an_exact_law():
    """Scaled lengths change all cross sections alike: ln thickness falls twice as fast."""
    value, slope = ln_thickness(0.0, 0.0)
    (up, _), (down, _) = ln_thickness(0.02, 0.0), ln_thickness(-0.02, 0.0)
    assert float(slope[0]) == pytest.approx(float((up - down).detach()) / 0.04, rel=0.01)
    assert float(slope[1]) == pytest.approx(-2.0, abs=2e-3)
    # of the order of five mean free paths of a millimetre
    assert 4.0 < float(value.detach().exp()) < 10.0


class Linear:
    """Thicknesses that are linear in the logarithms: the posterior is known."""

    rows = torch.tensor([[-0.2, -2.0], [-0.4, -1.9], [-0.6, -1.8]], dtype=torch.float64)


def test_the_posterior_of_a_linear_model_is_that_of_the_normal_equations(
    tmp_path, monkeypatch
):
    truth = torch.tensor([0.1, -0.03], dtype=torch.float64)
    data = Measurement(
        (1.5, 2.0, 3.0), tuple((Linear.rows @ truth).exp().tolist()), (0.01,) * 3, 300, 6.67
    )
    fit = ThicknessFit(SHOCKS, lambda: data, (10.0, 10.0), (0.0, 0.0), 9, (0.1, -0.03))
    monkeypatch.setattr(
        ThicknessFit, "_linearised", lambda self, p, data: (Linear.rows @ p, Linear.rows)
    )
    monkeypatch.setattr(ThicknessFit, "_write", lambda self, *arguments: None)

    class Quiet:
        steps = 0

        def log(self, **_more):
            self.steps += 1

        def progress(self, *_more): ...

    folder = Quiet()
    outcome = fit.run(folder, Quiet())
    assert 2 <= folder.steps <= 5  # of a linear model the steps end when they are short
    covariance = torch.linalg.inv(Linear.rows.T @ Linear.rows) * 1e-4
    energy = outcome.figures["energy"]
    assert energy.value == pytest.approx(float(truth[0].exp()), rel=1e-4)
    assert energy.error == pytest.approx(
        energy.value * float(covariance[0, 0].sqrt()), rel=1e-3
    )
    assert all(check.passed for check in outcome.checks)
    # the planted defect: other scales than those that made the data are noticed
    wrong = ThicknessFit(SHOCKS, lambda: data, (10.0, 10.0), (0.0, 0.0), 9, (0.3, 0.0))
    failed = [c.name for c in wrong.run(Quiet(), Quiet()).checks if not c.passed]
    assert failed == ["truth_within_posterior"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("thicknesses=[5.0, 4.0, 3.0, 3.0]", "give one of"),
        ("errors=[0.01]", "1 numbers for 4 Mach numbers"),
        ("errors=[0.0, 0.01, 0.01, 0.01]", "errors"),
        ("symbol='O'", "symbol"),
        ("mach=[0.9, 2.0, 3.0, 4.0]", "mach"),
        ("truth={energy=9}", "truth.energy"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, said):
    with pytest.raises(InputError) as caught:
        commands.check("learn_thickness", (change.replace("'", '"'),))
    assert said in str(caught.value)
