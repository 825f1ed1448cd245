"""Distribution functions beside their references: the largest departure."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scalebridge.engine.md.outputs import departure

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import water

R = torch.linspace(1.0, 4.0, 4).double()


def found(mean, error, target):
    curves = (torch.tensor(each, dtype=R.dtype) for each in (mean, error, target))
    return departure(*curves, R)


def test_it_is_the_largest_difference_beyond_two_errors():
    target = [0.0, 30.0, 1.0, 1.0]
    assert found([0.0, 30.3, 1.0, 0.8], [0.0] * 4, target).value == pytest.approx(0.3)
    noisy = found([0.0, 30.3, 1.0, 0.8], [0.0, 0.2, 0.0, 0.05], target)
    assert noisy.value == pytest.approx(0.2)
    assert noisy.note == "at 4: 0.8 for 1, 4.0 standard errors"
    assert found([0.0, 30.3, 1.0, 0.8], [0.0, 0.2, 0.0, 0.11], target).value == 0


def test_what_is_no_number_is_the_largest_and_an_unknown_error_is_none():
    assert math.isnan(
        found([0.0, math.nan, 5.0, 1.0], [0.0] * 4, [0.0, 1.0, 1.0, 1.0]).value
    )
    off = found([0.0, 1.3, 1.0, 1.0], [math.nan] * 4, [0.0, 1.0, 1.0, 1.0])
    assert off.value == pytest.approx(0.3)


LABELS = Path(__file__).resolve().parents[2] / "shared/data/deepmd_water"


@pytest.mark.skipif(not LABELS.exists(), reason="needs the labelled frames of water")
def test_references_of_water_are_counted_as_runs_count(tmp_path):
    water.references(tmp_path)
    for name in ("water_reference_rdf.csv", "water_reference_adf.csv"):
        shipped, made = (
            np.genfromtxt(folder / name, delimiter=",", skip_header=2)
            for folder in (water.SCENARIOS / "data", tmp_path)
        )
        np.testing.assert_allclose(shipped, made, rtol=1e-4, atol=1e-6)


def known(kind, axis):
    path = water.SCENARIOS / "data" / f"water_reference_{kind}.csv"
    table = np.genfromtxt(path, delimiter=",", names=True, skip_header=1)
    curves = {f"liquid_{name}": table[name] for name in table.dtype.names[1:]}
    return curves | {axis: table[axis]}


def test_runs_of_water_are_taken_together_with_the_error_of_their_spread():
    rdf, adf = known("rdf", "r"), known("adf", "theta")
    shifted = [
        {"rdf": rdf | {"liquid_OO": rdf["liquid_OO"] + off}, "adf": adf}
        for off in (-0.5, 0.5, 0.9)
    ]
    curves = {curve.name: curve for curve in water.curves(shifted)}
    oxygen, angles = curves["rdf OO"], curves["adf OOO"]
    np.testing.assert_allclose(oxygen.error, np.std([-0.5, 0.5, 0.9], ddof=1) / 3**0.5)
    assert oxygen.departure().value == 0.0  # 0.3 is less than two of these errors
    assert oxygen.departure(2).value == pytest.approx(0.9)
    assert angles.area == pytest.approx(0.0, abs=1e-12)
    assert 0.01 < angles.noise < 0.03
    bond = curves["rdf HO"].peak(water.BONDED)
    assert bond.startswith("mean 0.98048 for 0.98048 angstrom, standard deviation 0.03053")
