"""Realizable six-moment closures: the algebra, the solver, strong shocks, training."""

import json
import math

import numpy as np
import pytest
import torch

from scalebridge.engine import runtime
from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Sides, Wall
from scalebridge.engine.gas.closures.parts import read
from scalebridge.engine.gas.equations.recurrence import recurrence_world
from scalebridge.engine.gas.flows.fronts import Shock
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import MomentWorld
from scalebridge.engine.jobs.closure import assemble
from scalebridge.engine.learn.explorers.steady import stationary
from scalebridge.engine.learn.shock_models import realizable
from scalebridge.engine.learn.trainers import recurrence as training
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.models.closures.recurrence import (
    RecurrenceForm,
    coefficients,
    geometric,
    raw_moments,
    reach,
    speeds,
)


@pytest.fixture(scope="module", autouse=True)
def cpu() -> None:
    runtime.start("cpu")


def maxwellian(rho, u, theta):
    """Raw moments of a gas in equilibrium."""
    gauss = [torch.ones_like(u), u]
    for m in range(2, 6):
        gauss.append(u * gauss[-1] + (m - 1) * theta * gauss[-2])
    return rho[..., None] * torch.stack(gauss, -1)


def beams(seed: int = 0, count: int = 5, rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Random velocities and weights of a gas of a few beams."""
    rng = np.random.default_rng(seed)
    return rng.normal(1.0, 2.0, (rows, count)), rng.uniform(0.2, 1.0, (rows, count))


def moments(v: np.ndarray, weight: np.ndarray) -> torch.Tensor:
    powers = v[..., None] ** np.arange(7)
    return torch.from_numpy((weight[..., None] * powers).sum(1))


def closure(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    module = RecurrenceForm(hidden=(8,)).build().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(4.0)
    return module.requires_grad_(False)


def test_recurrence_coefficients_give_the_moments_back_and_are_those_of_a_gaussian():
    raw = moments(*beams())
    some = coefficients(raw[:, :6])
    b3 = training.next_coefficient(raw, some)
    assert bool((some[:, [2, 4]] > 0).all() and (b3 > 0).all())
    torch.testing.assert_close(raw_moments(some, b3), raw, rtol=1e-9, atol=1e-9)
    off = raw_moments(some, 1.01 * b3)  # planted: another b_3 is another M_6, and only that
    assert (off[:, 6] / raw[:, 6] - 1).abs().median() > 1e-6
    torch.testing.assert_close(off[:, :6], raw[:, :6], rtol=1e-9, atol=1e-9)
    one = torch.tensor([2.0], dtype=torch.float64)
    rest = coefficients(maxwellian(one, 1.5 * one, 0.7 * one))
    wanted = torch.tensor([[2.0, 3.0, 1.4, 0.0, 2.8, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(rest, wanted, rtol=1e-11, atol=1e-11)


def share_of_the_fourth(raw: torch.Tensor) -> torch.Tensor:
    """What b_3 adds to M_6, as a part of the terms of that sum; b_3 itself is over b_2."""
    some = coefficients(raw[:, :6])
    added = training.next_coefficient(raw, some) * some[:, [0, 2, 4]].prod(1)
    u = some[:, 1].abs()
    return added / sum(math.comb(6, j) * u ** (6 - j) * raw[:, j].abs() for j in range(7))


def test_three_beams_have_nothing_left_and_a_gas_of_no_beams_is_told():
    eps = torch.finfo(torch.float64).eps
    for seed in range(8):  # some forty products and sums in a row
        assert float(share_of_the_fourth(moments(*beams(seed, 3))).abs().max()) < 40 * eps
        assert float(share_of_the_fourth(moments(*beams(seed, 4))).max()) > 1e-3
    v, weight = beams(2)
    weight[:, 0] = -8.0
    assert bool((coefficients(moments(v, weight)[:, :6])[:, [2, 4]] < 0).any())


@pytest.mark.parametrize("b3_of", [geometric, closure()], ids=["geometric", "learned"])
def test_the_closure_knows_no_frame_no_units_and_no_left_or_right(b3_of):
    v, weight = beams(3)
    some = coefficients(moments(v, weight)[:, :6])
    b3 = b3_of(some)
    assert bool((b3 > 0).all())
    moved = b3_of(coefficients(moments(v + 3.0, weight)[:, :6]))
    scaled = b3_of(coefficients(moments(10.0 * v, 5.0 * weight)[:, :6]))
    turned = b3_of(coefficients(moments(-v, weight)[:, :6]))
    torch.testing.assert_close(moved, b3, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scaled, 100.0 * b3, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(turned, b3, rtol=1e-9, atol=1e-9)
    one = torch.ones(1, dtype=torch.float64)
    rest = coefficients(maxwellian(one, one, 2.0 * one))
    torch.testing.assert_close(b3_of(rest), 6.0 * one, rtol=1e-9, atol=1e-9)
    low, high = reach(some, b3)
    inside = raw_moments(some, b3)
    mean = inside[:, 1] / inside[:, 0]
    assert bool((low < mean).all() and (mean < high).all())


def test_speeds_are_eigenvalues_and_real_at_equilibrium():
    one = torch.ones(1, dtype=torch.float64)
    rest = coefficients(maxwellian(one, 0.0 * one, one))
    found = speeds(geometric, rest)[0]
    assert found.imag.abs().max() < 1e-6
    # each is a root of lambda^6 less the slope of M_6 times powers of lambda
    raw = maxwellian(one, 0.0 * one, one).requires_grad_(True)
    some = coefficients(raw)
    slope = torch.autograd.grad(raw_moments(some, geometric(some))[..., 6].sum(), raw)[0][0]
    for value in found.real:
        powers = value ** torch.arange(6.0).double()
        assert abs(float(value**6 - slope @ powers)) < 1e-6
    assert abs(float(2.0**6 - slope @ 2.0 ** torch.arange(6.0).double())) > 0.1


def world(cells: int, kn: float, step: float, b3_of=geometric) -> MomentWorld:
    return recurrence_world(
        Grid((cells,), (-0.5,), (0.5,)),
        (ALL_PERIODIC,),
        Gas.constant_time(1),
        torch.tensor([kn], dtype=torch.float64),
        step,
        b3_of,
    )


def jump(cells: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = torch.linspace(-0.5, 0.5, cells + 1, dtype=torch.float64)[:-1][None]
    hot = (x.abs() < 0.2).double()
    return 1.0 + 3.0 * hot, (1.0 - 2.0 * hot)[..., None], 1.0 + 20.0 * hot


@pytest.mark.parametrize("kn", [1e-3, 10.0])
def test_jumps_conserve_and_stay_a_gas_whatever_the_weights_are(kn):
    for b3_of in (geometric, closure(1)):
        one = world(40, kn, 1e-4, b3_of)
        state = one.equilibrium(*jump(40))
        begun = one.observe(state)
        for _ in range(20):
            state = one.step(state)
        seen = one.observe(state)
        for name in ("mass", "momentum", "energy"):
            assert float((seen[name] - begun[name]).abs().max()) < 1e-12
        some = one.equations.primitive(state.moments)
        assert bool((some[:, [0, 2, 4]] > 0).all())


def test_a_step_that_is_too_long_stops():
    one = world(40, 1.0, 5e-3)
    with pytest.raises(InputError, match="CFL"):
        one.equilibrium(*jump(40))
    state = one.with_time_step(1e-4).equilibrium(*jump(40))
    with pytest.raises(GuardError, match="lower the time step"):
        for _ in range(50):
            state = one.step(state)
    with pytest.raises(InputError, match="walls"):
        recurrence_world(
            one.grid, (Sides(Wall(), Wall()),), one.gas, one.knudsen, one.time_step
        )


def test_small_waves_of_a_dense_gas_go_with_the_speed_of_sound():
    cells, kn = 64, 1e-4
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells - 0.5
    wave = 1e-4 * torch.cos(2 * math.pi * x)[None]
    root = math.sqrt(3.0)
    one = world(cells, kn, 1.0 / (root * 256))
    state = one.equilibrium(1.0 + wave, (root * wave)[..., None], 1.0 + 2.0 * wave)
    for _ in range(256):  # once around the box
        state = one.step(state)
    rho = one.observe(state)["density"] - 1.0
    assert float((rho - wave).abs().max()) < 0.04 * 1e-4
    assert float((rho + wave).abs().max()) > 1e-4  # planted: half a period off


def test_the_stationary_profile_keeps_the_fluxes_and_the_ends():
    one = stationary(3.4, 40.0, 200, 80)
    assert one.residual < 3e-3
    flux = one.raw[:, 1:4]
    assert float((flux.amax(0) / flux.amin(0) - 1).abs().max()) < 5e-3
    (_, u, _), behind = Shock(3.4, 40.0).ends
    assert abs(float(one.raw[-1, 0]) / behind[0] - 1) < 0.01
    assert abs(float(one.raw[0, 1]) / u - 1) < 2e-3


def test_a_strong_shock_is_smooth_on_every_grid():
    shock = Shock(5.5, 25.0, 0.05)
    steep = [realizable(shock, cells, 5.0, geometric)[0] for cells in (25, 50)]
    assert steep[0] is not None and steep[1] is not None
    # HME doubles its slope with the cells halved: it has a jump
    assert abs(steep[1].steepness / steep[0].steepness - 1) < 0.1


SMALL = {
    "version": 1,
    "kind": "train",
    "mach": [1.5, 3.0],
    "moving": [2.0],
    "held_out": [2.2],
    "extent": 30.0,
    "cells": 80,
    "velocities": 48,
    "model": {"kind": "recurrence_closure", "hidden": [8]},
    "samples": 300,
    "steps": 60,
    "batch": 90,
    "members": 1,
    "hyperbolic": 0.5,
}


def test_training_learns_writes_what_loads_and_is_reproducible(tmp_path):
    found = []
    for name in ("a", "b"):
        job = assemble(parse(SMALL), tmp_path)
        with RunFolder.create(tmp_path / name, json.dumps(SMALL), {}) as folder:
            outcome = job.run(folder, Reporter(quiet=True))
        found.append(outcome.figures["log_b3_rms_held_out_0"].value)
    assert found[0] == found[1] < 0.5
    path = tmp_path / "a" / "closure_shock_0.safetensors"
    module = read(path)
    assert module.config.hidden == (8,)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["data"]["recipe"]["held_out"] == [2.2]
    with pytest.raises(InputError, match="learned from as well"):
        parse({**SMALL, "held_out": [3.0]})
