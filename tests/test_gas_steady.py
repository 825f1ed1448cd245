"""A run that ends at a steady state: where, what it says, resumed, and refused."""

import json

import pytest
import torch
import zarr

from scalebridge.engine import commands
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.residual import residual_of

FLOW = [
    "grid.cells=[16]", "model.nodes=[16, 8]", "knudsen=[1.0]", "time.end=8",
    "time.frames=16", "time.steady=1e-4",
]  # fmt: skip

WAVE = f"""
version = 1
kind = "gas"
title = "A standing wave"
grid = {{ cells = [16], lower = [0.0], upper = [1.0] }}
model = {{ kind = "euler" }}
[initial]
kind = "fields"
density = "1"
velocity = ["0.001*sin(2*pi*x)"]
pressure = "1"
[time]
end = {3 * 0.6**0.5}
frames = 3
cfl = 0.4
steady = 1.5e-3
"""
"""The frames are a period apart."""


def test_the_residual_is_relative_and_per_unit_of_time():
    one = torch.ones(2, 8, dtype=torch.float64)
    before = {"density": 2 * one, "velocity": 0 * one[..., None], "temperature": 4 * one}
    after = {**before, "velocity": 0.02 * one[..., None]}
    assert residual_of(before, before, 0.1) == 0.0
    assert residual_of(before, after, 0.1) == pytest.approx(0.1)
    bad = {**before, "density": torch.nan * one}
    assert residual_of(before, bad, 0.1) == torch.inf


def test_a_flow_ends_where_it_is_steady_and_resumes_to_the_same(tmp_path):
    whole = commands.run("couette", FLOW, tmp_path / "a")
    time = whole.figures["steady_time"].value
    assert 2.0 < time < 8.0 and 2 * time == pytest.approx(round(2 * time))
    found = {check.name: check for check in whole.checks}["steady"]
    assert found.passed and found.value < 1e-4
    density = zarr.open_group(tmp_path / "a" / "data.zarr", mode="r")["fields/density"]
    assert density.shape[0] == round(2 * time) + 1
    last = density[-1].tolist()
    assert len(list((tmp_path / "a" / "checkpoints").glob("*.json"))) == 2
    for previous in (False, True):
        again = commands.resume(tmp_path / "a", previous=previous)
        assert again.figures == whole.figures
        assert list(again.checks) == list(whole.checks)
        store = zarr.open_group(tmp_path / "a" / "data.zarr", mode="r")
        assert store["fields/density"].shape == density.shape
        assert store["fields/density"][-1].tolist() == last


def test_a_wave_whose_period_is_an_interval_is_not_steady(tmp_path):
    file = tmp_path / "wave.toml"
    file.write_text(WAVE)
    out = commands.run(file, [], tmp_path / "a")
    assert "steady_time" not in out.figures
    still = commands.run(file, ["initial.velocity=['0']"], tmp_path / "b")
    assert still.figures["steady_time"].value == 0.0


def test_an_end_that_comes_first_fails_the_check(tmp_path):
    out = commands.run("couette", [*FLOW, "time.end=1", "time.frames=4"], tmp_path / "a")
    assert "steady_time" not in out.figures
    assert not {check.name: check for check in out.checks}["steady"].passed
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["exit_status"] == 4


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("couette", ["time.steady=0"], "time.steady"),
        ("couette", ["time.steady=-1e-6"], "time.steady"),
        ("couette", ["time.steady=1"], "time.steady"),
        ("couette", ["time.steady=nan"], "time.steady"),
        ("couette", ["time.steady='soon'"], "time.steady"),
        ("couette", ["time.steady=1e-9", "precision='f32'"], "less than round-off"),
        ("toro1", ["time.steady=1e-6"], "exact solution riemann belongs to time.end"),
        ("isentropic_vortex", ["time.steady=1e-6"], "exact solution vortex belongs"),
        ("dsmc_couette", ["time.steady=1e-6"], "time.steady"),
        ("relaxation_bkw", ["time.steady=1e-6"], "time.steady"),
    ],
)
def test_wrong_values_are_refused_in_one_line(name, settings, words):
    with pytest.raises(InputError, match=words) as refused:
        commands.check(name, settings)
    assert "\n" not in str(refused.value)
