"""Distribution functions beside their references: the largest departure."""

import math

import pytest
import torch

from scalebridge.engine.md.outputs import departure

R = torch.linspace(1.0, 4.0, 4).double()


def found(mean, error, target):
    curves = (torch.tensor(each, dtype=R.dtype) for each in (mean, error, target))
    return departure(*curves, R)


def test_it_is_the_largest_difference_beyond_two_errors():
    target = [0.0, 30.0, 1.0, 1.0]
    assert found([0.0, 30.3, 1.0, 0.8], [0.0] * 4, target).value == pytest.approx(0.3)
    noisy = found([0.0, 30.3, 1.0, 0.8], [0.0, 0.2, 0.0, 0.05], target)
    assert noisy.value == pytest.approx(0.2)
    assert noisy.note == "at 4: 0.8 for 1"
    assert found([0.0, 30.3, 1.0, 0.8], [0.0, 0.2, 0.0, 0.11], target).value == 0


def test_what_is_no_number_is_the_largest_and_an_unknown_error_is_none():
    assert math.isnan(
        found([0.0, math.nan, 5.0, 1.0], [0.0] * 4, [0.0, 1.0, 1.0, 1.0]).value
    )
    off = found([0.0, 1.3, 1.0, 1.0], [math.nan] * 4, [0.0, 1.0, 1.0, 1.0])
    assert off.value == pytest.approx(0.3)
