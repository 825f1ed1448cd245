"""A gas by tables of viscosity and Prandtl number, in every model."""

import copy
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scalebridge.engine.comparison import holds
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas import exact
from scalebridge.engine.gas.collisions import tables
from scalebridge.engine.gas.material import Gas, TransportLaw
from scalebridge.engine.jobs.gas import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.schema.gas import GasScenario

KINETIC = {"kind": "kinetic", "nodes": [32], "lower": [-7.0], "upper": [7.0]}
MODELS = {
    "nsf": {"kind": "nsf"},
    "shakhov": KINETIC | {"collision": "shakhov"},
    "es": KINETIC | {"collision": "es"},
    "bgk": KINETIC,
    "hermite": {"kind": "hermite", "order": 3},
    "grad13": {"kind": "grad13"},
}
FLOW = {
    "version": 1, "kind": "gas", "knudsen": [0.05],
    "grid": {"cells": [16], "lower": [0.0], "upper": [1.0]},
    "boundaries": {"x": {"low": {"kind": "wall", "temperature": 0.8},
                         "high": {"kind": "wall", "temperature": 1.4}}},
    "initial": {"kind": "uniform", "low": {"density": 1.0, "temperature": 0.8},
                "high": {"density": 1.0, "temperature": 1.4}},
    "time": {"end": 0.2, "frames": 1},
}  # fmt: skip


def flow(gas, model, **changes):
    data = copy.deepcopy(FLOW) | {"gas": gas, "model": model} | changes
    return GasScenario(**data)


def power_file(path, omega=0.81, prandtl="0.6666666666666667"):
    t = np.geomspace(60.0, 3000.0, 25)
    lines = [f"{x:.12g} {2e-5 * (x / 300) ** omega:.12g} {prandtl}" for x in t]
    path.write_text("# a gas\nT mu Pr\n" + "\n".join(lines) + "\n")
    return path


def outcome_of(scenario, folder):
    with RunFolder.create(folder, "", {}) as run:
        out = assemble(scenario, folder.parent).run(run, console_reporter(quiet=True))
        return out, {k: run.store[f"fields/{k}"][-1] for k in ("temperature", "heat_flux")}


@pytest.mark.parametrize("name", MODELS)
def test_a_table_of_a_power_law_does_what_the_law_does(name, tmp_path):
    """Every model reads the table: with another one the answer is another."""
    prandtl = 1.0 if name == "bgk" else 2 / 3
    file = power_file(tmp_path / "gas.txt", prandtl=repr(prandtl))
    bare = {"kind": "transport", "file": str(file), "temperature": 300.0}
    law = {"omega": 0.81, "prandtl": prandtl}
    model = MODELS[name]
    _, found = outcome_of(flow(bare, model), tmp_path / "table")
    _, known = outcome_of(flow(law, model), tmp_path / "law")
    _, other = outcome_of(flow(law | {"omega": 0.5}, model), tmp_path / "other")
    for key in found:
        scale = np.abs(known[key]).max()
        assert np.abs(found[key] - known[key]).max() < 1e-8 * scale
        assert np.abs(other[key] - known[key]).max() > 1e-4 * scale


def test_single_precision_reads_the_table(tmp_path):
    file = power_file(tmp_path / "gas.txt")
    gas = {"kind": "transport", "file": str(file), "temperature": 300.0}
    law = {"omega": 0.81, "prandtl": 2 / 3}
    model = MODELS["shakhov"]
    runs = [
        outcome_of(flow(g, model, precision="f32"), tmp_path / name)[1]["temperature"]
        for name, g in (("table", gas), ("law", law))
    ]
    assert np.abs(runs[0] - runs[1]).max() < 1e-5


@pytest.mark.slow
def test_heat_between_walls_follows_the_ordinary_differential_equation(tmp_path):
    """Viscosity and a Prandtl number that halves: the flux of the two-point problem."""
    t = np.geomspace(100.0, 1500.0, 40)
    number = 1.0 - 0.5 * np.log(t / 100) / np.log(15)
    rows = zip(t, t**0.7 / (1 + 100 / t), number, strict=True)
    file = tmp_path / "gas.txt"
    file.write_text("\n".join(",".join(f"{x:.12g}" for x in row) for row in rows))
    gas = {"kind": "transport", "file": str(file), "temperature": 300.0}
    ends = {"low": {"kind": "wall", "temperature": 0.6},
            "high": {"kind": "wall", "temperature": 2.5}}  # fmt: skip
    start = {
        "kind": "uniform",
        "low": {"density": 1.0, "temperature": 1.0},
        "high": {"density": 1.0, "temperature": 1.8},
    }
    s = flow(
        gas, {"kind": "nsf"}, reference="fourier", boundaries={"x": ends}, initial=start,
        grid={"cells": [16], "lower": [0.0], "upper": [1.0]}, knudsen=[0.1],
        time={"end": 3.0, "frames": 1},
    )  # fmt: skip
    out, seen = outcome_of(s, tmp_path / "run")
    assert out.figures["heat_error_slip"].value < 0.004
    assert {c.name: c.passed for c in out.checks}["transport_range"]
    q = seen["heat_flux"][0, :, 0]
    assert np.abs(q[2:-2] / q.mean() - 1).max() < 0.004


def test_flow_between_walls_in_closed_form():
    """Constant coefficients: q = kappa dT / (L + 2 b), shear = mu du / (L + 2 a)."""
    mu, b = 0.02, 0.03
    _, shear, heat = exact.walled_flow(
        lambda t: mu + 0 * t, lambda t: 3 * mu + 0 * t, (0.0, 1e-4), (1.0, 1.5),
        (lambda t: b * t, lambda t: 2 * b * t), (1.0, 1.0), 1.0, 1.0,
    )  # fmt: skip
    p = 1 / math.log(1.5) * 0.5  # without the jump; enters through slip alone
    assert heat == pytest.approx(-3 * mu * 0.5 / (1 + 2 * b * 2.5 / p), rel=2e-3)
    assert shear == pytest.approx(-mu * 1e-4 / (1 + b * 2.5 / p), rel=2e-3)


def test_argon_and_helium_have_their_known_viscosity_and_prandtl_number():
    """Against the tables of the bench (an independent quadrature), 200 to 1000 K."""
    for symbol, mu, prandtl in (
        ("Ar", (22.668, 55.443), 2.5 * 8.31446 / 39.948 * 22.668 / 17.708),
        ("He", (19.907, 46.350), 2.5 * 8.31446 / 4.002602 * 19.907 / 155.63),
    ):
        law = TransportLaw.of(tables.of_published(symbol, 150.0, 1500.0), 300.0)
        t = torch.tensor([1000 / 300], dtype=torch.float64)
        assert float(law.viscosity(t)) == pytest.approx(mu[1] / mu[0], rel=3e-4)
        assert float(law.number(t / t)) == pytest.approx(prandtl, rel=3e-4)


def test_a_lennard_jones_gas_depends_on_the_well_alone():
    law = TransportLaw.of(tables.of_lennard_jones(120.0, 100.0, 1300.0), 120.0)
    t = torch.tensor([10.0], dtype=torch.float64)
    # Omega(2,2)* 1.59316 and 0.82437, third order over first at T* 1 and 10
    assert float(law.viscosity(t)) == pytest.approx(10**0.5 * 1.59316 / 0.82437, rel=0.01)


def test_beyond_the_table_its_ends_go_on_and_the_excess_is_told():
    gas = Gas(3).following(
        TransportLaw.of(tables.of_lennard_jones(120.0, 100.0, 1200.0), 300.0)
    )
    assert gas.law is not None
    t = torch.tensor([0.1, 1 / 3, 4.0, 9.0], dtype=torch.float64)
    mu = gas.law.viscosity(t)
    assert mu[0] == pytest.approx(float(mu[1])) and mu[3] == pytest.approx(float(mu[2]))
    assert gas.law.excess(t) == pytest.approx(10 / 3)
    assert gas.law.excess(t[1:3]) == pytest.approx(1.0)


def test_one_temperature_that_is_no_number_is_an_excess():
    law = TransportLaw.of(tables.of_lennard_jones(120.0, 100.0, 1200.0), 300.0)
    for bad in (math.nan, math.inf, 0.0, -1.0):
        found = law.excess(torch.tensor([[1.0, bad]], dtype=torch.float64))
        assert not holds(found, 1.0), bad
    assert law.excess(torch.ones(1, 3)) == 1.0


def test_a_run_that_leaves_its_table_fails_a_check(tmp_path):
    gas = {"kind": "transport", "of": "Ar", "temperature": 300.0, "range": [230.0, 330.0]}
    start = {
        "kind": "uniform",
        "low": {"density": 1.0, "temperature": 1.0, "velocity": [1.5]},
        "high": {"density": 1.0, "temperature": 1.0, "velocity": [-1.5]},
    }
    walls = {"low": {"kind": "wall"}, "high": {"kind": "wall"}}
    s = flow(gas, {"kind": "nsf"}, initial=start, boundaries={"x": walls},
             compare=[{"kind": "grad13"}])  # fmt: skip
    out, _ = outcome_of(s, tmp_path / "run")
    checks = {c.name: c for c in out.checks}
    assert not checks["transport_range"].passed
    assert checks["transport_range"].value > 1.1
    assert not checks["transport_grad13"].passed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("100 1 .67\n200 2 .67\n150 3 .67\n400 4 .67\n", "line 3: T 150 after 200"),
        ("100 1 .67\n200 nan .67\n300 3 .67\n400 4 .67\n", "line 2: mu nan"),
        ("100 1 .67\n200 -2 .67\n300 3 .67\n400 4 .67\n", "line 2: mu -2"),
        ("100 1 .67\n200 2\n", "line 2: 2 columns"),
        ("100 1 .67\n200 2 x\n", "line 2: '200 2 x'"),
        ("100 1 .67\n200 2 .67\n", "2 rows"),
        ("# nothing\n", "0 rows"),
    ],
)
def test_a_bad_file_is_refused_by_its_line(text, words, tmp_path):
    file = tmp_path / "gas.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        tables.read(file)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("x.bin", "."):
        with pytest.raises(InputError, match="text file"):
            tables.read(tmp_path / name)


def test_a_start_outside_the_range_is_refused_by_number(tmp_path):
    gas = {"kind": "transport", "of": "Ar", "temperature": 300.0, "range": [250.0, 400.0]}
    with pytest.raises(InputError, match="240 to 420 K, its tables serve 250 to 400 K"):
        assemble(flow(gas, {"kind": "nsf"}), tmp_path)


def test_bgk_needs_prandtl_one_everywhere(tmp_path):
    t = (100.0, 200.0, 300.0, 400.0, 500.0)
    rows = [f"{x} {x} {1.0 if x == 300 else 0.9}" for x in t]
    (tmp_path / "gas.txt").write_text("\n".join(rows))
    gas = {"kind": "transport", "file": "gas.txt", "temperature": 300.0}
    with pytest.raises(InputError, match="BGK"):
        assemble(flow(gas, KINETIC), tmp_path)
    assemble(flow(gas | {"prandtl": 1.0}, KINETIC), tmp_path)


@pytest.mark.parametrize(
    "gas",
    [
        {"of": "Ar", "epsilon": 100.0},
        {},
        {"of": "Ar", "range": [400.0, 300.0]},
        {"file": "x", "range": [100.0, 300.0]},
        {"of": "U"},
        {"of": "Ar", "prandtl": 0.0},
    ],
)
def test_a_gas_is_described_once(gas):
    with pytest.raises(ValidationError):
        flow({"kind": "transport", "temperature": 300.0} | gas, {"kind": "nsf"})
