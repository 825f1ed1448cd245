"""Scenario files with quantities in SI units."""

from copy import deepcopy
from typing import Any

import pytest

from scalebridge.engine.errors import InputError
from scalebridge.engine.scenario import parse

BASE: dict[str, Any] = {
    "version": 1, "kind": "gas",
    "si": {"length": 1e-5, "temperature": 300.0, "pressure": 1e4, "mass": 39.948,
           "viscosity": 2.27e-5},
    "grid": {"cells": [16], "lower": ["0 um"], "upper": ["0.02 mm"]},
    "boundaries": {"x": {"low": {"kind": "wall", "temperature": "330 K"},
                         "high": {"kind": "wall", "velocity": ["0 m/s", "25 m/s"]}}},
    "model": {"kind": "kinetic", "nodes": [24, 12], "lower": ["-1500 m/s", -6.0],
              "upper": ["1500 m/s", 6.0]},
    "initial": {"kind": "fields", "density": "1 + 0.1*sin(x)", "pressure": "0.05 bar"},
    "time": {"end": "0.2 us"},
}  # fmt: skip
SPEED = (1.380649e-23 * 300.0 / (39.948 * 1.66053906660e-27)) ** 0.5


def changed(path: str, value: object) -> dict[str, Any]:
    data = deepcopy(BASE)
    *tables, key = path.split(".")
    place = data
    for table in tables:
        place = place[table]
    place[key] = value
    return data


def test_quantities_become_what_they_are_without_units() -> None:
    s: Any = parse(BASE)
    assert s.grid.lower == (0.0,) and s.grid.upper == pytest.approx((2.0,))
    assert s.boundaries.x.low.temperature == pytest.approx(1.1)
    assert s.boundaries.x.high.velocity[1] == pytest.approx(25.0 / SPEED, rel=1e-8)
    assert s.model.upper == pytest.approx((1500.0 / SPEED, 6.0))
    assert s.initial.pressure == pytest.approx(0.5)
    assert s.initial.density == "1 + 0.1*sin(x)"
    assert s.time.end == pytest.approx(0.2e-6 * SPEED / 1e-5)
    density = 1e4 / SPEED**2
    assert s.knudsen == pytest.approx((2.27e-5 / (density * SPEED * 1e-5),), rel=1e-8)


def test_what_a_run_writes_is_read_again() -> None:
    first: Any = parse(BASE)
    again: Any = parse(first.model_dump(mode="json"))
    assert again == first


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("boundaries.x.low.temperature", "3 bar", "boundaries.x.low.temperature: '3 bar'"),
        ("grid.lower", ["0 K"], "grid.lower: '0 K'; allowed units: m, cm"),
        ("grid.lower", ["0 furlong"], "grid.lower: '0 furlong'; allowed"),
        ("time.frames", "3 s", "time.frames: '3 s': no unit is known here"),
        ("si.mass", -1.0, "si.mass"),
        ("si.mass", "heavy", "si.mass"),
        ("si.lenght", 1.0, "si.lenght"),
        ("knudsen", [0.3], "contradicts si.viscosity"),
        ("si", "air", "si"),
        ("initial.density", "nan kg/m3", "initial"),
    ],
)
def test_what_cannot_be_is_refused(path: str, value: object, said: str) -> None:
    with pytest.raises(InputError) as found:
        parse(changed(path, value))
    assert said in str(found.value)


def test_units_need_the_table_that_says_what_they_are() -> None:
    data = deepcopy(BASE)
    del data["si"]
    with pytest.raises(InputError, match="grid"):
        parse(data)
