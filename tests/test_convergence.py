"""`engine converge`: observed order, extrapolation, error bar, and what is refused."""

import math

import pytest
from click.testing import CliRunner

from scalebridge.engine import convergence
from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
from scalebridge.engine.protocols import Figure

WAVE = """
version = 1
kind = "gas"
title = "A density wave that drifts"
[grid]
cells = [128]
lower = [0.0]
upper = [1.0]
[model]
kind = "euler"
scheme = "SCHEME"
[initial]
kind = "fields"
density = "1 + 0.2*sin(2*pi*x)"
velocity = ["1"]
pressure = "1"
[time]
end = 0.1
frames = 1
"""


def figures(*values, error=None):
    return [Figure(value, error=error) for value in values]


def wave(tmp_path, scheme):
    file = tmp_path / "wave.toml"
    file.write_text(WAVE.replace("SCHEME", scheme))
    return str(file)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_order_and_the_limit_of_a_power_law_are_found(order):
    values = [3.0 + 0.1 * (0.1 * 2**level) ** order for level in range(3)]
    found = convergence.of_figure("drag", figures(*values))
    assert found.order == pytest.approx(order, abs=1e-6)
    assert found.value == pytest.approx(3.0, abs=1e-9)
    assert abs(values[0] - 3.0) <= found.error
    assert found.passed


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((1.0, 1.1, 1.05), "alternates"),
        ((1.0, 1.1, 1.15), "differences do not fall"),
        ((1.0, 1.1, 1.1), "differences do not fall"),
        ((1.0, math.nan, 1.1), "not finite"),
    ],
)
def test_what_does_not_converge_is_named_with_an_honest_bar(values, verdict):
    found = convergence.of_figure("drag", figures(*values))
    assert found.verdict == verdict and not found.passed
    spread = max(values) - min(values)
    assert math.isnan(spread) or found.error >= spread - 1e-12


def test_equal_values_and_noise_are_told_apart():
    same = convergence.of_figure("mass", figures(2.0, 2.0, 2.0))
    assert same.verdict == "exact" and same.value == 2.0
    noisy = convergence.of_figure("heat", figures(1.0, 1.1, 1.05, error=0.1))
    assert noisy.verdict == "within noise" and noisy.error >= 0.1


@pytest.mark.parametrize(
    ("scheme", "low", "high"), [("muscl", 1.8, 2.2), ("first", 0.8, 1.1)]
)
def test_a_smooth_wave_shows_the_order_of_its_scheme(tmp_path, scheme, low, high):
    found = convergence.run(wave(tmp_path, scheme), out=tmp_path / "runs")
    orders = {each.name: each.order for each in found}
    assert low < orders["L1 density"] < high
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"128", "64", "32"}


def test_the_command_ends_with_4_where_a_sequence_does_not_converge(tmp_path, monkeypatch):
    bad = convergence.of_figure("drag", figures(1.0, 1.1, 1.05))
    good = convergence.of_figure("lift", figures(1.0, 1.1, 1.5))
    for found, status in (([good], 0), ([good, bad], 4)):
        monkeypatch.setattr(convergence, "run", lambda *a, f=found, **k: f)
        answer = CliRunner().invoke(main, ["converge", "sod"])
        assert answer.exit_code == status
        assert "lift" in answer.output and "order" in answer.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["argon_nve"], "kind = md here has no grid.cells"),
        (["sod", "--grids", "2"], "--grids: 2; from 3 to 6"),
        (["sod", "--set", "grid.cells=[50]"], "multiples of 4, at least 16"),
        (["sod", "--set", "grid.cells=[8]"], "multiples of 4, at least 16"),
    ],
)
def test_what_cannot_be_refined_is_refused_in_one_line(arguments, words):
    answer = CliRunner().invoke(main, ["converge", *arguments])
    assert answer.exit_code == 2
    assert words in answer.output and answer.output.count("\n") == 1


def test_a_figure_that_no_run_has_is_refused(tmp_path):
    with pytest.raises(InputError, match="--figure drag: no figure of this scenario"):
        convergence.run(
            wave(tmp_path, "first"), ["grid.cells=[16]"], 3, "drag", tmp_path / "runs"
        )
