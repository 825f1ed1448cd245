"""Models beside particles: the same gas, the same averages, departures with their error."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.kinetic.departures import (
    carried,
    departure,
    fields_of,
    frames_of,
    laid_on,
)
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.schema.gas import FlowTime, GasScenario

WALLS = {"low": {"kind": "wall"}, "high": {"kind": "wall", "temperature": 1.2}}
SHAKHOV = {
    "kind": "kinetic", "collision": "shakhov", "nodes": [16], "lower": [-6.0],
    "upper": [6.0],
}  # fmt: skip
MODELS = (SHAKHOV, *({"kind": kind} for kind in ("nsf", "hermite", "grad13")))
FLOW = {
    "version": 1,
    "kind": "gas",
    "grid": {"cells": [8], "lower": [0.0], "upper": [1.0]},
    "boundaries": {"x": WALLS},
    "model": {"kind": "dsmc", "particles": 30.0},
    "initial": {"kind": "uniform", "low": {"density": 1.0, "temperature": 1.0}},
    "time": {"end": 0.4, "frames": 4, "average_from": 0.1, "blocks": 4, "sample_every": 1},
    "knudsen": [0.2],
    "compare": MODELS,
}
ALL = ("density", "velocity", "temperature", "stress", "heat_flux")


def assembled(**changes):
    data = {**FLOW, **changes}
    return assemble(GasScenario.variant(data)(**data), Path())


ARGON = torch.tensor([8.126, 22.668, 33.916], dtype=torch.float64) / 22.668
"""Its viscosity at 100, 300 and 500 K over that at 300 K, of an independent quadrature."""


@pytest.mark.parametrize(
    ("molecules", "viscosity"),
    [
        ({"kind": "hard_spheres"}, lambda t: t**0.5),
        ({"kind": "variable_spheres", "omega": 0.81}, lambda t: t**0.81),
        ({"kind": "variable_spheres", "of": "helium"}, lambda t: t**0.66),
        ({"kind": "potential", "of": "Ar", "temperature": 300.0}, lambda _: ARGON),
    ],
)
def test_models_beside_particles_have_the_gas_of_the_molecules(molecules, viscosity):
    t = torch.tensor([100.0, 300.0, 500.0], dtype=torch.float64) / 300.0
    kn = torch.tensor(0.2, dtype=torch.float64)
    ends = zip(("low", "high"), (0.3, 1.7), strict=True)
    walls = {end: {"kind": "wall", "temperature": t} for end, t in ends}
    job = assembled(gas=molecules, boundaries={"x": walls})
    assert len(job.others) == len(MODELS)
    for run in job.others:
        gas = getattr(run.solver, "gas", None) or run.solver.equations.gas
        for own in (gas, run.problem.gas):
            assert torch.allclose(own.viscosity(kn, t, t), 0.2 * viscosity(t), rtol=1e-3)
            assert torch.as_tensor(own.prandtl_at(t)).numpy() == pytest.approx(2 / 3, 0.01)


@pytest.mark.parametrize("since", [None, 0.0, 0.5, 0.9999])
def test_no_average_has_more_frames_than_a_run_may(since):
    assert FlowTime(end=1.0, frames=frames_of(1.0, since)).frames >= 1


def test_a_finer_model_has_the_same_gas():
    (run,) = assembled(
        gas={"kind": "potential", "of": "Ar", "temperature": 300.0},
        compare=[{"kind": "nsf", "refine": 2}],
    ).others
    assert run.problem.grid.shape == (16,)
    assert run.problem.gas.law.kelvin == 300.0


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"kind": "dsmc", "particles": 30.0, "ensembles": 2}},
        {
            "time": {"end": 0.4, "frames": 4},
            "model": {"kind": "dsmc", "particles": 30.0, "ensembles": 5},
        },
    ],
    ids=("average", "end"),
)
def test_a_scenario_tells_how_far_models_depart(tmp_path, changes):
    names = ("kinetic", "nsf", "hme56", "grad13")
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = assembled(knudsen=[0.2, 1.0], **changes).run(
            folder, console_reporter(quiet=True)
        )
        for name in names:
            group = folder.store[f"compare/{name}"]
            assert {"x", *ALL} <= set(group)
            assert group["density"].shape == (2, 8)
            for field in ALL:
                found = outcome.figures[f"departure_{field}_{name}"]
                assert 0 <= found.value < 1
                assert 0 < found.error < 1
    assert "velocities_moments_kinetic" in {check.name for check in outcome.checks}


def test_models_of_a_plane_flow_around_a_solid_depart_in_the_gas_alone(tmp_path):
    block = {"kind": "box", "lower": [0.25, 0.25], "upper": [0.75, 0.75]}
    job = assembled(
        grid={"cells": [8, 8], "lower": [0.0, 0.0], "upper": [1.0, 1.0]},
        boundaries={},
        solids=[{"name": "block", "shape": block}],
        force={"acceleration": [0.1, 0.0]},
        compare=[
            {**SHAKHOV, "nodes": [8, 8], "lower": [-5.0, -5.0], "upper": [5.0, 5.0]},
            {"kind": "nsf"},
        ],
    )
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, console_reporter(quiet=True))
        assert folder.store["compare/kinetic/stress"].shape == (1, 8, 8, 2, 2)
    for name in ("kinetic", "nsf"):
        found = outcome.figures[f"departure_density_{name}"]
        # the solid, which is empty, would count with a quarter of the cells
        assert found.value < 0.3


def test_what_stops_a_model_stops_not_the_particles(tmp_path, monkeypatch):
    job = assembled(compare=[SHAKHOV, {"kind": "nsf"}])
    run = job.others[0]
    empty = run.world.equilibrium(
        *(x.clone() for x in (torch.ones(1, 8), torch.zeros(1, 8, 1), torch.ones(1, 8)))
    )
    empty.f.fill_(math.nan)
    monkeypatch.setattr(type(run.world), "step", lambda *_: empty)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, console_reporter(quiet=True))
        assert set(folder.store["compare"]) == {"nsf"}
    assert "departure_density_nsf" in outcome.figures
    failed = {check.name for check in outcome.checks if not check.passed}
    assert "stable_kinetic" in failed


def test_the_average_of_moving_gases_is_that_of_their_particles():
    def gas(u, t, v):
        one = torch.ones(1, 1, dtype=torch.float64)
        velocity = torch.zeros(1, 1, v, dtype=torch.float64)
        velocity[..., 0] = u
        stress, heat = torch.zeros(1, 1, v, v).double(), torch.zeros(1, 1, v).double()
        return dict(zip(ALL, (one, velocity, t * one, stress, heat), strict=True))

    for v in (1, 3):
        both = (carried(gas(*each, v), 3) for each in ((1.0, 1.0), (-1.0, 2.0)))
        found = fields_of((0.5 * (a + b) for a, b in zip(*both, strict=True)), 3)
        # <v_x^2> = 3/2 + 1, <c^2> = 9/2 + 1; <v_x v^2> / 2 = (1 + 5 - 1 - 10) / 4
        assert float(found["temperature"]) == pytest.approx(5.5 / 3)
        assert float(found["stress"][0, 0, 0, 0]) == pytest.approx(2.5 - 5.5 / 3)
        assert float(found["heat_flux"][0, 0, 0]) == pytest.approx(-1.25)
        assert float(found["velocity"][0, 0, 0]) == 0.0


@pytest.mark.parametrize("cells", [100, 200])
def test_a_shock_that_drifted_is_laid_on_that_of_the_particles(cells):
    def shock(n, middles):
        x = torch.linspace(-1, 1, 2 * n + 1, dtype=torch.float64)[1::2]
        off = x - torch.tensor(middles, dtype=torch.float64)[:, None]
        rho = 1.5 + 0.5 * torch.tanh(off / 0.1)
        return {"density": rho, "velocity": (1 / rho)[..., None]}

    found, shift = laid_on(shock(cells, [-0.07, 0.2]), shock(100, [0.0, 0.0])["density"], 1)
    assert shift.tolist() == pytest.approx([0.035, -0.1], abs=1e-4)
    for name, values in shock(cells, [0.0, 0.0]).items():
        assert torch.allclose(found[name], values, atol=2e-3)


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_a_departure_is_freed_of_noise_and_its_error_is_its_scatter(off):
    maker = torch.Generator().manual_seed(3)
    truth = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None].expand(50, 2)
    found = []
    for _ in range(200):
        noise = torch.randn(12, 50, 2, generator=maker, dtype=torch.float64)
        blocks = truth + noise
        found.append(departure(blocks, blocks.mean(0), truth + off / 2**0.5))
    value, error = np.array(found).T
    # noise alone would give (2 / 12)^(1/2) = 0.41
    squares = (value + error) ** 2 - value**2
    if off == 0.0:
        assert np.mean(value < error) > 0.6
        assert np.mean(value) < 0.15
        return
    assert np.mean(value**2) == pytest.approx(off**2, abs=0.02)
    assert np.mean(squares) == pytest.approx(np.std(value**2), rel=0.4)


SPHERES = {"name": "a", "mass": 1.0, "diameter": 1.0, "fraction": 0.5}
LOW = {"density": 1.0, "temperature": 1.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"gas": {"kind": "mixture", "species": [SPHERES, {**SPHERES, "name": "b"}]}},
            "compare: models have one gas, gas.kind = mixture several",
        ),
        ({"gas": {"kind": "variable_spheres", "of": "nitrogen"}}, "do not rotate"),
        ({"time": {"end": 0.4, "frames": 4}}, "no error bar.*ensembles of at least 4"),
        ({"compare": [{"kind": "euler", "gamma": 1.4}]}, "compare.0.gamma: 1.4"),
        ({"compare": [{"kind": "dsmc"}]}, "kinetic"),
        (
            {"compare": [{"kind": "nsf"}, {**SHAKHOV, "upper": [-7.0]}]},
            "compare.1.lower: -6 must lie below",
        ),
        ({"compare": [{"kind": "euler"}]}, "compare.0: boundaries.x.high.temperature"),
        (
            {"initial": {"kind": "uniform", "low": {**LOW, "velocity": [0.0, 0.1]}}},
            "compare.0: initial.low.velocity: 0.1 beyond the 1 component",
        ),
        ({"initial": {"kind": "flows"}, "boundaries": {}}, "compare: not with initial"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_its_key(changes, words):
    with pytest.raises((ValidationError, InputError), match=words):
        assembled(**changes)
