"""Quantities derived from density, velocity and temperature, against exact values."""

import math

import numpy as np
import pytest
import torch

from scalebridge.engine.gas.derived import DERIVED, Medium, derive
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.viz.derived import with_derived
from scalebridge.viz.record import Column, Group


def _medium(dim: int, periodic: bool = False, n: int = 12) -> Medium:
    grid = Grid((n,) * dim, (-1.0,) * dim, (1.0,) * dim)
    gas = Gas.power_law(omega=0.5)
    return Medium(
        grid, (periodic,) * dim, gas, 1.4, torch.tensor([0.1], dtype=torch.float64)
    )


def _fields(medium: Medium, rho, u, t) -> dict[str, torch.Tensor]:
    one = torch.ones(medium.grid.shape, dtype=torch.float64)
    parts = torch.stack([one * c for c in u], -1)
    return {
        "density": (one * rho)[None],
        "velocity": parts[None],
        "temperature": (one * t)[None],
    }


EXACT = {
    "pressure": 6.0,
    "speed": 5.0,
    "mach": 5 / math.sqrt(1.4 * 3),
    "momentum_density": 10.0,
    "kinetic_energy": 25.0,
    "total_energy": 25 + 6 / 0.4,
    "entropy_function": math.log(6 / 2**1.4),
    "schlieren": 0.0,
    "dilatation": 0.0,
    "vorticity": 0.0,
    "mean_free_path": 0.1 * 3**0.5 / 6 * math.sqrt(math.pi * 3 / 2),
}


@pytest.mark.parametrize("name", list(DERIVED))
def test_a_uniform_stream_has_the_values_of_the_formulas(name):
    medium = _medium(2)
    found = derive(name, _fields(medium, 2.0, (3.0, 4.0), 3.0), medium)
    torch.testing.assert_close(
        found, torch.full_like(found, EXACT[name]), rtol=1e-14, atol=1e-14
    )


@pytest.mark.parametrize("dim", [2, 3])
def test_gradients_of_linear_fields_are_exact_to_the_edges(dim):
    medium = _medium(dim)
    x, y = medium.grid.points()[:2]
    zero = 0 * x
    fields = _fields(medium, 2 + 0.3 * x + 0.4 * y, (-2 * y + x, 2 * x + 3 * y, zero), 1.0)
    for name, value in (("vorticity", 4.0), ("dilatation", 4.0), ("schlieren", 0.5)):
        found = derive(name, fields, medium)
        torch.testing.assert_close(found, torch.full_like(found, value), rtol=0, atol=1e-13)


def test_gradients_beside_a_solid_take_the_gas_alone():
    grid = Grid((8, 8), (0.0, 0.0), (1.0, 1.0))
    solid = torch.zeros(8, 8, dtype=torch.bool)
    solid[3:5, 3:5] = True
    solid[5, 0] = solid[5, 2] = True  # a cell of gas between two solid ones
    known = torch.tensor([0.1], dtype=torch.float64)
    medium = Medium(grid, (False, True), Gas.power_law(omega=0.5), 1.4, known, solid)
    field = torch.where(solid, 100.0, 2.0 * grid.centers(0)[:, None].expand(8, 8))[None]
    along, across = (medium.gradient(field, axis)[0] for axis in (0, 1))
    assert torch.allclose(along[~solid], torch.full_like(along, 2.0)[~solid])
    assert torch.allclose(across[~solid], torch.zeros_like(along)[~solid])
    assert not along[solid].any() and not across[solid].any()


def test_periodic_gradients_wrap_around_at_second_order():
    gaps = []
    for n in (16, 32):
        medium = _medium(1, True, n)
        x = medium.grid.points()[0]
        found = derive(
            "dilatation", _fields(medium, 1.0, (torch.sin(math.pi * x),), 1.0), medium
        )
        gaps.append(float((found - math.pi * torch.cos(math.pi * x)).abs().max()))
    assert gaps[0] > 3.8 * gaps[1] > 0


def test_the_viewer_computes_only_the_moment_that_it_reads():
    medium = _medium(2, n=4)
    fields = _fields(medium, 2.0, (3.0, 4.0), 3.0)
    frames = {k: np.stack([v.numpy(), 2 * v.numpy()]) for k, v in fields.items()}
    axes = ("frame", "batch", "x", "y")
    columns = {
        k: Column(k, v, axes=axes + ("component",) * (v.ndim - 4))
        for k, v in frames.items()
    }
    columns["step"] = Column("step", np.arange(2), axes=("frame",))
    scenario = {
        "kind": "gas", "knudsen": [0.1],
        "grid": {"cells": [4, 4], "lower": [-1, -1], "upper": [1, 1]},
    }  # fmt: skip
    group = with_derived(Group("fields", columns), scenario)
    pressure = group.columns["pressure"].array
    assert pressure.shape == (2, 1, 4, 4)
    assert pressure[0, 0, 1, 2] == pytest.approx(6.0)
    assert pressure[-1][0, 0, 0] == pytest.approx(24.0)
    assert np.allclose(pressure[...][:, 0, 0, 0], [6.0, 24.0])
    assert np.allclose(pressure[0:2, 0][:, 0, 0], [6.0, 24.0])
    assert with_derived(group, {"kind": "md"}) is not None
