"""Vibrations that start in phase: seen by the check of fluctuations, mended by settling."""

import numpy as np
import pytest
import torch

from scalebridge.engine import scenario
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs.md import assemble
from scalebridge.engine.md.verdicts import Series, SetPoints, fluctuation_check

SMALL = ["structure.repeat=[2,2,2]", "run.timestep=2.0", "ensemble.relaxation=50.0"]


def job(*settings: str):
    return assemble(*scenario.load("silicon_sw", [*SMALL, *settings]))


def canonical(settle: int, steps: int = 800):
    """Return the check of a crystal of 64 atoms that begins at its ideal places."""
    world = job(f"run.settle={settle}").world
    state, found = world.init(), []
    for _ in range(steps // 5):
        for _ in range(5):
            state = world.step(state)
        found.append(world.observe(state)["temperature"].numpy())
    series = Series({"temperature": np.array(found)})
    points = SetPoints.of(world.integrator, world.units)
    (check,) = fluctuation_check(series, points, world.degrees(state))
    return check


def test_vibrations_in_phase_fail_and_settled_ones_do_not():
    torch.set_num_threads(1)
    assert not canonical(0).passed
    assert canonical(250).passed


def test_fluctuations_of_a_gamma_distribution_are_canonical():
    rng, degrees = np.random.default_rng(0), np.array([189.0])
    points = SetPoints.of(job().world.integrator, job().world.units)

    def check(values):
        return next(fluctuation_check(Series({"temperature": values}), points, degrees))

    drawn = 300 * rng.gamma(94.5, 1 / 94.5, (4000, 1))
    assert check(drawn).value < 0.05
    for factor in (0.7, 1.4):
        assert not check(300 + factor * (drawn - 300)).passed
    assert not check(np.full((100, 1), np.nan)).passed


def test_settling_leaves_a_system_at_rest_at_step_zero():
    world = job("run.settle=20").world
    state = world.init()
    assert int(state.step[0]) == 0 and float(state.thermostat["heat"][0]) == 0
    speed = state.momenta.double().sum(0).abs().max() / state.masses.sum()
    assert float(speed) < 1e-12
    assert float((state.positions - world.start.positions).abs().max()) > 0.02
    assert torch.equal(world.init().positions, state.positions)


def test_how_long_it_settles_by_default():
    assert job().world.settle == 250
    assert job("run.steps=40").world.settle == 10
    bath = "ensemble={kind='langevin', temperature=300.0, relaxation=50.0}"
    assert job(bath).world.settle == 0
    with pytest.raises(InputError, match="settle"):
        job("run.settle=5", "run.temperature=0.0")
    with pytest.raises(InputError, match="settle"):
        job("ensemble={kind='nve'}", "run.temperature=300.0", "run.settle=5")
