"""A run on half the cells says whether a run is resolved."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.halved import Halved
from scalebridge.engine.gas.resolution import Change, coarsened
from scalebridge.engine.gas.runs import Run
from scalebridge.engine.jobs import assemble
from scalebridge.engine.protocols import Outcome
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse

WAVE = {
    "version": 1, "kind": "gas", "knudsen": [0.05],
    "grid": {"cells": [32], "lower": [0.0], "upper": [1.0]},
    "model": {"kind": "euler"},
    "initial": {"kind": "fields", "density": "1 + 0.1*sin(2*pi*x)", "temperature": 1.0},
    "time": {"end": 0.5, "frames": 2},
}  # fmt: skip


def checks(path: Path, **changes: object) -> dict[str, float]:
    data = deepcopy(WAVE)
    for key, value in changes.items():
        table, _, name = key.partition("__")
        if name:
            data[table][name] = value  # type: ignore[index]
        else:
            data[table] = value  # type: ignore[index]
    job = assemble(parse(data, "case.toml"), path)
    with RunFolder.create(path / "run", "", {}) as folder:
        outcome: Outcome = job.run(folder, console_reporter(quiet=True))
    return {
        c.name: c.value / c.bound for c in outcome.checks if c.name in ("cells", "order")
    }


def test_few_cells_are_warned_about(tmp_path: Path) -> None:
    few = checks(tmp_path / "few", grid__cells=[8])
    many = checks(tmp_path / "many", grid__cells=[64])
    assert few["cells"] > 1.0 > 4.0 * many["cells"] > 0.0


def test_few_moments_are_warned_about(tmp_path: Path) -> None:
    model, line = {"kind": "hermite", "order": 3}, {"dimension": 1}
    thick = checks(tmp_path / "thick", model=model, gas=line, knudsen=[3.0])
    thin = checks(tmp_path / "thin", model=model, gas=line, knudsen=[0.005])
    assert thick["order"] > 1.0 > 2.0 * thin["order"] > 0.0


def test_where_something_exact_is_known_it_is_asked_for(tmp_path: Path) -> None:
    jump = {
        "kind": "jump", "left": {"density": 1.0, "pressure": 1.0},
        "right": {"density": 0.9, "pressure": 0.9},
    }  # fmt: skip
    open_ends = {"x": {"low": "open", "high": "open"}}
    tube = {"boundaries": open_ends, "initial": jump, "reference": "riemann",
            "time__end": 0.05, "grid__lower": [-0.5], "grid__upper": [0.5],
            "knudsen": [1e-4]}  # fmt: skip
    assert checks(tmp_path / "auto", **tube) == {}
    assert "cells" in checks(tmp_path / "asked", **tube, resolution="checked")
    assert checks(tmp_path / "trusted", resolution="trusted") == {}


def test_odd_cells_cannot_be_halved(tmp_path: Path) -> None:
    assert checks(tmp_path, grid__cells=[9], time__end=0.01) == {}
    with pytest.raises(InputError, match="resolution: checked halves the cells"):
        checks(tmp_path, grid__cells=[9], resolution="checked")


def test_a_change_counts_the_largest_frame_by_the_largest_signal() -> None:
    x = torch.linspace(0, 1, 8, dtype=torch.float64).expand(1, 8)
    still = {"velocity": torch.zeros(1, 8, 1), "temperature": torch.ones(1, 8)}
    change = Change(torch.ones(8, dtype=torch.bool), bound=False)
    rho = 1.0 + 0.2 * (x - 0.5)
    change.add({"density": rho, **still}, {"density": rho + 0.01, **still})
    flat = torch.ones(1, 8, dtype=torch.float64)
    change.add({"density": flat, **still}, {"density": flat + 0.004, **still})
    assert change.value == pytest.approx(0.01 / float((rho - 1.0).abs().mean()), rel=1e-6)


def test_a_velocity_counts_from_its_mean_unless_walls_say_what_rest_is() -> None:
    u = 1.0 + 0.1 * torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(1, 8, 1)
    even = {"density": torch.ones(1, 8), "temperature": torch.ones(1, 8)}
    found = []
    for bound in (False, True):
        change = Change(torch.ones(8, dtype=torch.bool), bound)
        change.add({"velocity": u, **even}, {"velocity": 1.01 * u, **even})
        found.append(change.value)
    assert found[1] == pytest.approx(0.01) and found[0] > 10 * found[1]


def test_not_a_number_fails() -> None:
    change = Change(torch.ones(4, dtype=torch.bool), bound=False)
    even = {"density": torch.ones(1, 4), "temperature": torch.ones(1, 4)}
    u = torch.zeros(1, 4, 1)
    change.add({"velocity": u, **even}, {"velocity": u * torch.nan, **even})
    assert not change.value <= 0.1


def test_cells_are_merged_along_every_axis() -> None:
    x = torch.arange(16.0).reshape(1, 4, 4, 1)
    assert coarsened(x, 2, 2)[0, :, :, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_cells_that_a_solid_shares_are_not_compared():
    """What fills solid cells is no gas; a cell of the half grid may hold some of them."""
    half, solid = Grid((4, 4), (0.0, 0.0), (1.0, 1.0)), torch.zeros(8, 8, dtype=torch.bool)
    solid[3, 3] = True
    rho = 1.0 + 0.1 * torch.arange(16, dtype=torch.float64).reshape(1, 4, 4)
    seen = {
        "density": rho,
        "velocity": torch.zeros(1, 4, 4, 2, dtype=torch.float64),
        "temperature": torch.ones_like(rho),
    }
    fine = {
        n: x.repeat_interleave(2, 1).repeat_interleave(2, 2)[None] for n, x in seen.items()
    }
    fine["density"][..., 3, 3] = 99.0
    problem = SimpleNamespace(
        grid=half, sides=(ALL_PERIODIC,) * 2, body=SimpleNamespace(mask=solid[4:, 4:])
    )
    world = SimpleNamespace(observe=lambda state: seen)
    coarse = Run("coarse", problem, world, lambda: None, 1, 1.0)
    (check,) = Halved(coarse, solid).checks(1, fine)
    assert check.value < 1e-12
