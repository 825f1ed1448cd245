"""Every audit of a closure or kinetic model passes a sound one and fails a defect."""

import math

import pytest
import torch

from scalebridge.engine.audit import moments
from scalebridge.engine.audit.closure_faults import closure_faults
from scalebridge.engine.audit.module import audit
from scalebridge.engine.audit.moments import ClosureSubject
from scalebridge.engine.gas.equations.hermite import grad, hyperbolic, roots
from scalebridge.models.closures.face import FaceForm

pytestmark = pytest.mark.usefixtures("one_thread")


TWINS = closure_faults()


@pytest.mark.parametrize("number", range(len(TWINS)), ids=[t.defect for t in TWINS])
def test_the_defect_is_caught_and_the_sound_twin_passes(number):
    good, bad = TWINS[number].verdicts()
    assert good.passed is True, good
    assert bad.passed is False, bad


def test_the_symbol_of_hme_has_the_known_speeds():
    """At rest the eigenvalues are ``-i k c_j`` with the roots c_j of He_{M+1}."""
    subject = ClosureSubject(hyperbolic, 4)
    w = torch.zeros(1, 5, dtype=torch.float64)
    w[:, 0] = w[:, 2] = 1.0
    matrix, wave = moments.symbol(subject, w, torch.ones(1, dtype=torch.float64), 16)
    found = torch.linalg.eigvals(matrix[0, 2])
    assert float(found.real.abs().max()) < 1e-9
    speeds = (-found.imag / wave[2]).sort().values
    expected = torch.as_tensor(roots(4)).sort().values
    assert torch.allclose(speeds, expected, atol=1e-9)


def test_linear_bgk_without_collisions_is_free_flight():
    """The density of a wave fades as ``exp(-k^2 t^2 / 2)``."""
    times = torch.linspace(0, 0.5, 6, dtype=torch.float64)
    start = torch.zeros(121, dtype=torch.complex128)
    start[0] = 1.0
    found = moments._density_history(moments.linear_bgk(6.0, 1e12, 120), start, times)
    assert torch.allclose(found, torch.exp(-18 * times**2), atol=1e-6)


def test_realizable_is_the_hankel_determinant():
    rho, theta = 1.3, 0.7
    w = torch.zeros(3, 1, 6, dtype=torch.float64)
    w[..., 0], w[..., 2] = rho, theta
    w[1, 0, 3] = 0.4 * rho * theta**1.5  # skew with the kurtosis of a Gaussian: too much
    w[2, 0, 2] = -0.1
    assert moments.realizable(w)[:, 0].tolist() == [True, False, False]
    skew = 6 * 0.4
    assert skew**2 + 1 > 3


@pytest.mark.slow
def test_an_untrained_closure_is_audited():
    """The form itself keeps conservation, frames and mirrors, whatever its weights are."""
    torch.manual_seed(0)
    module = FaceForm(order=5, reach=(0.02, 0.1)).build().double()
    subject = ClosureSubject(module, 5)
    for check in (moments.closure_conserves, moments.galilean, moments.reflection):
        assert check(subject).passed, check
    report = audit(ClosureSubject(grad, 5), "grad", steps=5)
    assert "hyperbolicity" in report.failures
    assert report.kind == "closure"
    assert all(math.isfinite(f.threshold) for f in report.findings)
