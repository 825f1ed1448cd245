"""The integral equations of the channels, and the verdicts of their scenarios."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from scalebridge.engine import commands

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from channels import Channel, exact, transport


def test_transport_integrals_at_zero_and_their_recurrence():
    s = np.array([0.0, 0.3, 2.0, 9.0])
    t = [transport(n, s) for n in range(4)]
    assert t[0][0] == pytest.approx(math.sqrt(math.pi) / 2, rel=1e-13)
    assert t[1][0] == pytest.approx(0.5, rel=1e-13)
    # 2 T_n = (n - 1) T_n-2 + x T_n-3
    assert 2 * t[3] == pytest.approx(2 * t[1] + s * t[0], rel=1e-12)


def test_operator_integrates_a_line_exactly():
    channel = Channel(0.1, 12)
    z, (a, b) = channel.z, channel.z[[0, -1]]
    fine = np.linspace(a, b, 20_001)
    fine = 0.5 * (fine[1:] + fine[:-1])
    direct = [
        float((transport(1, np.abs(fine - x)) * fine).mean()) * (b - a) for x in z[:4]
    ]
    found = math.sqrt(math.pi) * (channel.operator(1) @ z)[:4]
    assert found == pytest.approx(direct, rel=1e-5)


@pytest.mark.parametrize("flow", ["couette", "fourier"])
def test_slip_and_jump(flow):
    factor, slip = {"couette": (1.0, 1.01619), "fourier": (2.5, 1.30272)}[flow]
    kn = 0.02
    found, doubt = exact(flow, kn)
    own = (factor * kn / found - 1.0) / (2.0 * math.sqrt(2.0) * kn)
    assert doubt < 1e-4
    assert own == pytest.approx(slip, rel=doubt / (2.0 * kn) + 1e-3)


def test_free_molecules():
    for flow, free in (("couette", 1.0), ("fourier", 2.0)):
        found, _ = exact(flow, 30.0)
        assert found * math.sqrt(2.0 * math.pi) == pytest.approx(free, rel=0.03)


def test_flow_over_the_knudsen_number():
    """Slip to second order in the dense gas; a minimum; truth to 1e-4."""
    kn = 0.01
    found, doubt = exact("poiseuille", kn)
    assert doubt < 1e-4
    slip = 1 / (12 * kn) + 1.01619 / math.sqrt(2.0)
    assert found == pytest.approx(slip, rel=2 * kn)
    low, least, high = (exact("poiseuille", k)[0] for k in (0.3, 0.66, 2.0))
    assert least < low and least < high


def test_creep_of_the_dense_gas_is_the_thermal_slip():
    near, far = (exact("creep", kn)[0] / kn for kn in (0.01, 0.02))
    assert 2 * near - far == pytest.approx(0.7662, rel=3e-3)


def test_velocities_are_judged_with_a_force(tmp_path):
    few = ("model.nodes=[8,10]", "grid.cells=[8]", "knudsen=[10.0]")
    outcome = commands.run(
        "poiseuille", (*few, "time.end=2.0", "time.frames=1"), tmp_path / "run"
    )
    checks = {check.name: check for check in outcome.checks}
    assert not checks["velocities_moments"].passed
