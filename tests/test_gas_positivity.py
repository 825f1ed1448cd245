"""Moment runs that become unphysical, and what the positivity fallback does to them."""

from dataclasses import replace

import pytest
import torch

from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Open, Sides
from scalebridge.engine.gas.equations.hermite import hermite_world
from scalebridge.engine.gas.flows import lines as flows
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import koren
from scalebridge.engine.gas.scheme.positivity import PositivityFallback

CELLS, STEP = 50, 0.001
KNUDSEN = torch.tensor([1e-3, 10.0], dtype=torch.float64)


def world(sides=ALL_PERIODIC):
    return hermite_world(
        flows.box(CELLS),
        (sides,),
        Gas.constant_time(1),
        KNUDSEN,
        5,
        STEP,
        limiter=koren,
        check=False,
    )


def colliding():
    """Two cold streams run into each other: far from what six moments can say."""
    x = torch.linspace(-0.5, 0.5, CELLS + 1, dtype=torch.float64)[1:] - 0.5 / CELLS
    w = torch.zeros(2, CELLS, 6, dtype=torch.float64)
    w[..., 0] = 1.0 + 0.8 * (x.abs() < 0.2)
    w[..., 1] = -2.0 * torch.sign(x)
    w[..., 2] = 0.3
    return w.movedim(-1, 1)


def run(solver, state, steps):
    with torch.no_grad():
        for _ in range(steps):
            state = solver.step(state)
    return state


def physical(state):
    w = world().equations.primitive(state.moments)
    good = (w[:, 0] > 0).all(1) & (w[:, 2] > 0).all(1) & w.isfinite().flatten(1).all(1)
    return good.tolist()


@pytest.mark.parametrize(
    "sides", [pytest.param(ALL_PERIODIC, marks=pytest.mark.slow), Sides(Open(), Open())]
)
def test_a_run_that_would_diverge_falls_back(sides):
    sharp = world(sides)
    start = sharp.start(colliding())
    assert not all(physical(run(sharp, start, 250)))
    end = run(PositivityFallback(sharp), start, 250)
    assert physical(end) == [True, True]
    assert float(end.fallbacks[1]) > CELLS
    if sides is ALL_PERIODIC:
        change = (end.moments - start.moments)[:, :3].sum(-1)
        assert float(change.abs().max()) < 1e-10


def test_good_runs_are_untouched_by_those_beside_them():
    sharp = world()
    gentle = colliding()[:1]
    gentle[:, 1] *= 0.03
    alone = replace(sharp, knudsen=KNUDSEN[:1])
    expected = run(alone, alone.start(gentle), 60)
    both = run(
        PositivityFallback(sharp), sharp.start(torch.cat([gentle, colliding()[1:]])), 60
    )
    # Arrays of another length may round differently: 1e-16 in each of 60 steps.
    torch.testing.assert_close(both.moments[0], expected.moments[0], rtol=0, atol=1e-13)
    assert float(both.fallbacks[0]) == 0.0
