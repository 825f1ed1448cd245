"""A run that ends at a steady state: where, what it says, resumed, and refused."""

import json

import pytest
import torch
import zarr

from scalebridge.engine import commands
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.residual import residual_of
from scalebridge.engine.jobs import assemble
from scalebridge.engine.scenario import parse

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


SHOCK = {
    "version": 1, "kind": "gas", "knudsen": [0.78],
    "grid": {"cells": [60], "lower": [-15.0], "upper": [15.0]},
    "gas": {"dimension": 3, "prandtl": 2 / 3},
    "model": {"kind": "kinetic", "collision": "shakhov", "nodes": [28], "lower": [-5.5],
              "upper": [7.5]},
    "initial": {"kind": "shock", "mach": 1.6},
    "time": {"end": 8.0, "frames": 2, "newton": True},
    "resolution": "trusted",
}  # fmt: skip
EVEN = {"kind": "fields", "density": "1", "velocity": ["1"], "pressure": "1"}


@pytest.mark.parametrize("model", [SHOCK["model"], {"kind": "dsmc", "particles": 20}])
def test_ends_that_a_shock_sets_are_not_said_otherwise(model, tmp_path):
    said = SHOCK | {"model": model, "time": {"end": 1.0}}
    if model["kind"] == "dsmc":
        said = {key: said[key] for key in said if key not in ("gas", "resolution")}
    periodic = {"x": {"low": {"kind": "periodic"}, "high": {"kind": "periodic"}}}
    assemble(parse(said | {"boundaries": periodic}), tmp_path)  # what a resolved file says
    walls = {"x": {"low": {"kind": "wall"}, "high": {"kind": "wall"}}}
    with pytest.raises(InputError, match=r"boundaries.x: initial.kind = shock sets both"):
        assemble(parse(said | {"boundaries": walls}), tmp_path)


def test_a_run_ends_with_newtons_method(tmp_path):
    job = assemble(parse(SHOCK), tmp_path)
    world, steps = job.main.world, job.main.steps
    early = world.advance(job.start(), steps)
    still, checks = job.newton.after(early)
    assert [c.passed for c in checks] == [True, True]
    assert checks[0].value < 1e-8

    def change(state):  # in as long again
        ahead = world.observe(world.advance(state, steps))["density"]
        return float((ahead - world.observe(state)["density"]).abs().max())

    assert change(still) < 0.1 * change(early)  # the rest: another limiter
    found = world.observe(still)["density"]
    assert found.mean() == pytest.approx(float(world.observe(early)["density"].mean()))


def test_ends_that_carry_other_fluxes_have_no_steady_state(tmp_path):
    gas = {"kind": "inflow", "velocity": [1.0], "temperature": 1.0}
    ends = {"low": gas | {"density": 1.0}, "high": gas | {"density": 2.0}}
    data = SHOCK | {"initial": EVEN, "boundaries": {"x": ends}}
    job = assemble(parse(data), tmp_path)
    _, checks = job.newton.after(job.start())
    assert not all(c.passed for c in checks)


def test_its_name_is_taken():
    other = {"kind": "nsf", "name": "newton"}
    with pytest.raises(InputError, match=r"newton is the steady state of time\.newton"):
        parse(SHOCK | {"compare": [other]})


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"knudsen": [0.7, 0.8]}, "one problem, not 2"),
     ({"model": SHOCK["model"] | {"collision": "es"}}, "bgk or shakhov"),
     ({"model": {"kind": "euler"}}, "needs a kinetic model"),
     ({"initial": EVEN}, "periodic")],
)  # fmt: skip
def test_what_newtons_method_cannot_do_is_refused_by_its_key(changes, said, tmp_path):
    with pytest.raises(InputError, match=f"^time.newton: .*{said}"):
        assemble(parse(SHOCK | changes), tmp_path)
