"""Every gas scenario, shortened: it runs, leaves its reference, and keeps what it must."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from scalebridge import scenarios
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs.gas import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.schema.gas import GasScenario

FOLDER = Path(scenarios.__file__).parent
SHORT = {
    "sod": {"grid.cells": [64], "time.frames": 2, "knudsen": [1e-3, 10.0]},
    "normal_shock": {"grid.cells": [60], "time.end": 1.0, "time.frames": 2},
    "couette": {"grid.cells": [8], "time.end": 0.5, "time.frames": 2},
    "fourier": {"grid.cells": [8], "time.end": 0.5, "time.frames": 2},
    "lid_cavity": {"grid.cells": [8, 8], "time.end": 0.1, "time.frames": 1},
    "sound_wave": {"grid.cells": [64], "time.frames": 2},
    "riemann_2d": {"grid.cells": [32, 32], "time.end": 0.1, "time.frames": 1},
    "shu_osher": {"grid.cells": [100], "time.end": 0.5, "time.frames": 1},
    "isentropic_vortex": {"grid.cells": [32, 32], "time.end": 0.5, "time.frames": 1},
    "kelvin_helmholtz": {"grid.cells": [32, 32], "time.end": 0.2, "time.frames": 1},
    "relaxation_bkw": {"time.end": 0.2, "time.frames": 1},
}
EXPECTED = {
    "sod": {"density_error": 0.05, "density_error_free": 0.02},
    "sound_wave": {"frequency_error_kn0": 2e-3, "frequency_error_kn3": 2e-3},
    "isentropic_vortex": {"density_error": 2e-3, "energy_drift": 1e-12},
    "kelvin_helmholtz": {"mass_drift": 1e-12, "momentum_drift": 1e-12},
    "couette": {"mass_drift": 1e-12},
    "lid_cavity": {"mass_drift": 1e-12},
    "riemann_2d": {"asymmetry": 1e-6},
    "relaxation_bkw": {"fourth_moment_error": 1e-3, "conservation_drift": 1e-12},
}


def load(name, changes):
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    for path, value in changes.items():
        *tables, key = path.split(".")
        place = data
        for table in tables:
            place = place[table]
        place[key] = value
    return GasScenario.variant(data)(**data)


@pytest.mark.parametrize("name", SHORT)
def test_scenario(name, tmp_path):
    scenario = load(name, SHORT[name])
    assert len(scenario.description) > 100
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = assemble(scenario, FOLDER).run(folder, console_reporter(quiet=True))
        assert name == "relaxation_bkw" or folder.store.attrs["time_unit"]
        stored = set(folder.store["profile"]) | set(folder.store.group_keys())
    health = [check for check in outcome.checks if check.kind == "health"]
    assert [check.name for check in health if not check.passed] == []  # shortened: no more
    for key, limit in EXPECTED.get(name, {}).items():
        assert outcome.figures[key].value < limit, key
    assert any("exact" in s or "reference" in s or s == "compare" for s in stored) or (
        name == "sound_wave"
    )


def test_moment_models_in_a_plane_are_reached_from_a_scenario(tmp_path):
    changes = {
        "grid.cells": [12, 12],
        "time.end": 0.05,
        "initial.width": 0.15,
        "time.frames": 1,
        "gas": {"dimension": 3, "prandtl": 2 / 3},
        "knudsen": [0.01],
        "model": {"kind": "hermite", "order": 3},
        "compare": [{"kind": "grad13"}, {"kind": "nsf"}],
    }
    scenario = load("kelvin_helmholtz", changes)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = assemble(scenario, FOLDER).run(folder, console_reporter(quiet=True))
        assert set(folder.store["compare"].group_keys()) == {"grad13", "nsf"}
        assert folder.store["fields/stress"].shape == (2, 1, 12, 12, 3, 3)
    health = [check for check in outcome.checks if check.kind == "health"]
    assert [check.name for check in health if not check.passed] == []  # shortened: no more
    assert outcome.figures["energy_drift"].value < 1e-12
    assert outcome.figures["density_gap_nsf"].value < 5e-3
    assert outcome.figures["density_gap_grad13"].value < 1e-2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gas.dimension": 1, "compare": [{"kind": "grad13"}]}, "grad13 needs"),
        (
            {"model.nodes": [20, 20], "model.lower": [-5, -5], "gas.dimension": 1},
            "same length",
        ),
        ({"compare": [{"kind": "euler", "gamma": 1.4}]}, "contradicts gas.dimension"),
        ({"model.cfl": 0.9}, "cfl"),
        (
            {"compare": [{"kind": "hermite", "closure": "grad"}]},
            'closure = "grad" needs gas',
        ),
        ({"knudsen": [-1.0]}, "knudsen"),
        ({"initial.left": {"density": 1.0}}, "temperature or pressure"),
    ],
)
def test_contradictions_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        load("sod", changes)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("sod", {"reference": "couette"}, "needs a 1D grid with walls"),
        ("sod", {"reference": "shock"}, "needs initial.kind = shock"),
        ("normal_shock", {"reference": "riemann"}, "needs initial.kind = jump"),
        ("sound_wave", {"gas.viscosity": "power_law"}, "constant_time"),
        ("sound_wave", {"compare": [{"kind": "euler"}]}, "needs model.kind = kinetic"),
        (
            "lid_cavity",
            {"grid.cells": [512, 512], "model.nodes": [512, 512]},
            "GiB of memory",
        ),
    ],
)
def test_what_cannot_run_is_refused_in_assembly(name, changes, words):
    with pytest.raises(InputError, match=words):
        assemble(load(name, changes), FOLDER)
