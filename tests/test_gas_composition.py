"""Any closure in any flow of a moment model, from a scenario file alone; hosts open all."""

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from norms import SHORT

from scalebridge.engine import runtime
from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.resolution import signal_gap
from scalebridge.engine.gas.runs import domain_checks
from scalebridge.engine.interop.host import Host
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import pack
from scalebridge.engine.scenario import parse
from scalebridge.viz import gas
from scalebridge.viz.record import Record

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "scenarios" / "models"
MEMBERS = [str(MODELS / f"closure_wide_{i}.safetensors") for i in range(2)]
LOCAL = [str(MODELS / "closure_local_0.safetensors")]
FLOW = {
    "version": 1,
    "kind": "gas",
    "knudsen": [0.02, 0.3],
    "grid": {"cells": [60], "lower": [-0.5], "upper": [0.5]},
    "gas": {"dimension": 1, "viscosity": "constant_time"},
    "model": {"kind": "hermite", "closure": {"kind": "learned", "members": MEMBERS[:1]}},
    "initial": {
        "kind": "jump",
        "left": {"density": 1.0, "pressure": 1.0},
        "right": {"density": 0.6, "pressure": 0.7},
    },
    "time": {"end": 0.06, "frames": 1},
}
KINETIC = {"kind": "kinetic", "nodes": [60], "lower": [-8.0], "upper": [8.0]}
HME = {"kind": "hermite"}
ENDS = {
    "periodic": ("periodic", "periodic"),
    "open": ("open", "open"),
    "walls": ({"kind": "wall", "temperature": 0.9}, {"kind": "wall", "temperature": 1.2}),
    "reservoir": (
        {"kind": "inflow", "density": 1.0, "velocity": [0.0], "temperature": 1.0},
        "wall",
    ),
}


def toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def run(scenario, tmp_path, code=0):
    path = tmp_path / "flow.toml"
    path.write_text("\n".join(f"{key} = {toml(each)}" for key, each in scenario.items()))
    command = ["run", str(path), "--out", str(tmp_path / "run"), "--no-report", "--quiet"]
    answer = CliRunner().invoke(main, command)
    assert answer.exit_code == code, answer.output
    return json.loads((tmp_path / "run" / "summary.json").read_text())


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("members", [MEMBERS[:1], LOCAL], ids=["face", "local"])
def test_a_learned_closure_between_any_ends_comes_closer_than_hme(ends, members, tmp_path):
    low, high = ENDS[ends]
    closure = {"kind": "learned", "members": members}
    # by the same scheme: HME's own default smears more, which hides some of its error
    sharp = {"upwind": "roe", "limiter": "koren"} if members == LOCAL else {}
    scenario = {
        **FLOW,
        "boundaries": {"x": {"low": low, "high": high}},
        "model": KINETIC,
        "compare": [{**HME, **sharp}, {"kind": "hermite", "closure": closure}],
    }
    summary = run(scenario, tmp_path)
    figures = {name: figure["value"] for name, figure in summary["figures"].items()}
    for field in ("density", "temperature"):
        learned, hme = (figures[f"{field}_gap_{n}"] for n in ("closure6", "hme6"))
        assert learned < 0.6 * hme, (field, learned, hme)
    checks = {check["name"]: check for check in summary["checks"]}
    assert checks["range_closure6"]["kind"] == "domain"
    if members == MEMBERS[:1]:  # the other has no length by which to judge Kn alone
        assert checks["knudsen_closure6"]["value"] == 0.0


def test_several_members_answer_together_and_leave_their_range_aloud(tmp_path):
    closure = {"kind": "learned", "members": MEMBERS}
    scenario = {**FLOW, "knudsen": [50.0], "model": {"kind": "hermite", "closure": closure}}
    checks = {c["name"]: c for c in run(scenario, tmp_path, 4)["checks"]}
    assert checks["knudsen_closure6"]["value"] == 1.0


@pytest.mark.parametrize("cells", [[24], [12, 10]])
def test_a_gas_with_two_velocity_dimensions_sees_it_along_directions(cells, tmp_path):
    dim = len(cells)
    wall = {"low": "wall", "high": {"kind": "wall", "velocity": [0.0, 0.2][:dim]}}
    scenario = {
        **FLOW,
        "grid": {"cells": cells, "lower": [-0.5] * dim, "upper": [0.5] * dim},
        "boundaries": {"x": {"low": "wall", "high": "wall"} if dim == 2 else wall},
        "gas": {"dimension": 2, "viscosity": "constant_time"},
        "initial": {"kind": "uniform", "low": {"density": 1.0, "temperature": 1.0}},
        "compare": [HME],
    }
    if dim == 2:
        scenario["boundaries"]["y"] = {"low": "open", "high": "open"}
    summary = run(scenario, tmp_path)
    assert "range_closure21" in {c["name"] for c in summary["checks"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gas": {"dimension": 3}}, "takes 2 at most"),
        ({"gas": {"dimension": 2}, "model": {"kind": "hermite", "closure":
          {"kind": "learned", "members": LOCAL}}}, "one velocity dimension"),
        ({"model": {**FLOW["model"], "order": 6}}, "has order 5"),
        ({"model": {"kind": "hermite", "closure": {"kind": "learned",
          "members": [str(MODELS / "silicon.safetensors")]}}}, "no moment closure"),
        ({"model": {"kind": "hermite", "closure": {"kind": "learned",
          "members": ["nothing.safetensors"]}}}, "no such file"),
        ({"model": {"kind": "hermite", "closure": {"kind": "learned",
          "members": [MEMBERS[0], str(MODELS / "closure_shock_0.safetensors")]}}},
         "different kinds"),
        ({"model": {"kind": "hermite", "closure": {"kind": "learned",
          "members": [str(MODELS / "closure_shock_0.safetensors")]}},
          "boundaries": {"x": {"low": "wall", "high": "wall"}}}, "knows no walls"),
        ({"model": {"kind": "hermite", "closure": {"kind": "learned", "members":
          [MEMBERS[0], MEMBERS[0].replace(".safetensors", ".json")]}}},
         "^model.closure.members.1: .* stands twice"),
        ({"model": {"kind": "hermite", "closure": {"kind": "learned",
          "members": MEMBERS[:1], "tolerance": 0.01}}}, "spread over several members"),
        ({"model": {"kind": "hermite", "closure": {"kind": "learned", "asked": "step",
          "members": [str(MODELS / "closure_shock_0.safetensors")]}}},
         "asked: step; a realizable closure"),
        ({"model": {"kind": "hermite", "upwind": "roe", "closure": "realizable"}},
         "^model.upwind: roe; realizable6 brings its own flux"),
        ({"compare": [HME, {**HME, "upwind": "roe", "closure": "realizable"}]},
         "^compare.1.upwind: roe;"),
        ({"compare": [{**KINETIC, "upper": [2.0]}]}, "^compare.0: initial: velocities"),
        ({"compare": [HME, {**KINETIC, "nodes": [8, 8]}]}, "compare.1: nodes, lower"),
        ({"compare": [{"kind": "hermite", "closure": {"kind": "learned",
          "members": ["nothing.safetensors"]}}]}, "^compare.0.closure.members.0: nothing"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_the_run(change, words):
    with pytest.raises(InputError, match=words):
        assemble(parse({**FLOW, **change}), ROOT)


def test_moments_that_do_not_fit_into_memory_are_refused(monkeypatch):
    monkeypatch.setattr(runtime, "available_memory", lambda: 2.0**28)
    grid = {**FLOW["grid"], "cells": [4096]}
    scenario = FLOW | {"grid": grid, "gas": {"dimension": 3}, "resolution": "trusted"}
    for order, refused in ((3, False), (16, True)):
        model = {"kind": "hermite", "order": order}
        job = partial(assemble, parse({**scenario, "model": model}), ROOT)
        if not refused:
            job()
            continue
        with pytest.raises(InputError, match=r"^grid\.cells, knudsen, model\.order: need"):
            job()


def test_every_model_has_figures_and_checks_of_its_own():
    called = [{**HME, "name": name} for name in ("a", "a", "a_2")]
    local = {"kind": "hermite", "closure": {"kind": "learned", "members": LOCAL}}
    job = assemble(parse({**FLOW, "compare": [*called, local]}), ROOT)
    assert job.main.name == "closure6"
    assert [run.name for run in job.others] == ["a", "a_2", "a_2_2", "closure6_2"]


def test_a_realizable_closure_runs_too(tmp_path):
    closure = {"kind": "learned", "members": [str(MODELS / "closure_shock_0.safetensors")]}
    ends = {"x": {"low": "open", "high": "open"}}
    model = {"kind": "hermite", "closure": closure, "cfl": 0.6}
    scenario = {**FLOW, "boundaries": ends, "model": model, "compare": [HME, HME]}
    figures = run(scenario, tmp_path)["figures"]
    assert figures["density_gap_hme6"]["value"] < 0.05
    assert figures["density_gap_hme6_2"] == figures["density_gap_hme6"]


def gas_scenarios():
    paths = sorted((ROOT / "scenarios").glob("*.toml"))
    return [path.stem for path in paths if '\nkind = "gas"' in path.read_text()]


LARGE = (
    "argon_dsmc_shock", "argon_table_shock", "dsmc_thermal_diffusion", "taylor_green_3d"
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else [])
        for n in gas_scenarios()
    ],
)
def test_a_host_opens_every_gas_scenario(name):
    settings = SHORT[name].settings if name in SHORT else ("model.particles=10",)
    host = Host.open(name, settings)
    begun = {name: x.clone() for name, x in host.observe().items()}
    density = begun["density"]
    kept = {name: x.clone() for name, x in pack(host.state).items()}
    first, again = (pack(host.world.step(host.state)) for _ in range(2))
    assert all(torch.equal(x, kept[name]) for name, x in pack(host.state).items())
    assert all(torch.equal(x, again[name]) for name, x in first.items())
    host.step(2)
    assert host.time > 0 and host.steps == 2
    after = host.observe()["density"]
    assert bool(after.isfinite().all()) and after.shape == density.shape
    assert not torch.equal(after, density) or name in (
        "couette",
        "fourier",
        "relaxation_bkw",
        "hydrostatic",
    )


def test_a_gap_is_measured_by_what_there_is_to_predict():
    x = torch.arange(64, dtype=torch.float64) / 64
    wave = 1e-3 * torch.sin(2 * math.pi * x)[None]
    own = {"density": 1.0 + wave, "temperature": torch.ones_like(wave)}
    near = {"density": 1.0 + 0.9 * wave, "temperature": torch.ones_like(wave)}
    flat = {name: torch.ones_like(wave) for name in own}
    assert signal_gap(own, near) == pytest.approx(0.1)
    assert signal_gap(own, flat) == pytest.approx(1.0)
    assert signal_gap(flat, own) is None


def test_a_shock_is_laid_on_that_of_the_kinetic_equation_grid_by_grid(tmp_path):
    """Thickness and profile by model and grid; a plain jump would steepen in proportion."""
    moments = [{**HME, "name": f"hme_{30 * n}", "refine": n} for n in (2, 1)]
    scenario = FLOW | {
        "knudsen": [0.1],
        "grid": {"cells": [30], "lower": [-2.0], "upper": [2.0]},
        "initial": {"kind": "shock", "mach": 1.5, "width": 0.1},
        "model": {**KINETIC, "nodes": [40], "lower": [-8.0], "upper": [10.0], "refine": 2},
        "compare": [*moments, {**HME, "order": 4, "name": "four"}],
        "time": {"end": 0.4, "frames": 1},
    }
    figures = run(scenario, tmp_path)["figures"]  # the finer grid stands first in the file
    changes = {name for name in figures if "_change_" in name}
    assert changes == {"grid_change_hme_60", "thickness_change_hme_60"}
    before, after = (figures[f"steepness_hme_{n}"]["value"] for n in (30, 60))
    change = figures["thickness_change_hme_60"]["value"]
    assert change == pytest.approx(abs(after / before - 1)) and change < 0.3
    assert 0 < figures["grid_change_hme_60"]["value"] < 0.02
    groups = Record(tmp_path / "run").groups()
    panels = gas.shock_panels(groups["shock"])
    assert [len(panel.curves) for panel in panels] == [3, 3, 3]
    cells = [curve.label for curve in panels[2].curves]
    assert cells == ["30 cells", "60 cells", "kinetic equation"]
    assert all(curve.y.max() > 0.9 for curve in panels[0].curves)


@pytest.mark.parametrize("fallbacks", [4.9, 5.1])
@pytest.mark.parametrize("outside", [4.9, 5.1])
def test_a_closure_that_often_fell_back_is_named(fallbacks, outside):
    """Of 10 steps of 9 cells it was asked about 100 faces; it may fall back at five."""
    run = SimpleNamespace(
        name="learned", trained=None, steps=10,
        problem=SimpleNamespace(grid=Grid((9,), (0.0,), (1.0,))),
    )  # fmt: skip
    seen = {"fallbacks": torch.tensor([fallbacks]), "outside": torch.tensor([outside])}
    found = {check.name: check.passed for check in domain_checks(run, seen)}
    assert found == {"range_learned": outside < 5, "fallback_learned": fallbacks < 5}
