"""Fused steps of moments on a line against the equations in tensors."""

from dataclasses import replace

import pytest
import torch

from scalebridge.engine import runtime
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Open, Sides, Wall
from scalebridge.engine.gas.closures.axial import AxialClosure
from scalebridge.engine.gas.equations.fused import TURNING
from scalebridge.engine.gas.equations.hermite import grad, hermite_world, roe, rusanov
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import (
    MomentState,
    MomentWorld,
    koren,
    van_leer,
)
from scalebridge.models.closures.local import LocalForm

CELLS = 12
LINE = Grid((CELLS,), (0.0,), (1.0,))
WALLS = Sides(Wall(0.8), Wall(1.3, accommodation=0.7))
ENDS = Sides(Inflow(1.2, (0.3,), 1.1), Open())


@pytest.fixture(autouse=True)
def _started() -> None:
    runtime.start("cpu")


def learned(dimension: int, kind: torch.dtype = torch.float64) -> LocalForm:
    form = LocalForm(order=5, hidden=(6, 5), reach=(0.01, 0.3), dimension=dimension)
    module = form.build(3).to(kind).requires_grad_(False)
    module.limit.fill_(0.05)  # many faces are beyond it
    module.scale.fill_(0.3)
    return module


def flow(world: MomentWorld, across: bool = False) -> MomentState:
    x = torch.linspace(0, 6.28, CELLS + 1, dtype=torch.float64)[:-1]
    rho = torch.stack([1 + 0.3 * x.sin(), 1 + 0.5 * (2 * x).cos()])
    u = torch.zeros(2, CELLS, world.gas.dimension, dtype=torch.float64)
    u[0, :, 0], shift = 0.3 * x.cos(), torch.zeros_like(u)
    shift[..., 0] = 0.7
    theta = torch.stack([1 + 0.2 * (x + 1).sin(), 1 - 0.4 * x.sin()])
    w = world.equations.mixed(
        torch.stack([0.5 * rho, 0.5 * rho]), torch.stack([u + shift, u - shift]),
        torch.stack([theta, 0.6 * theta]),
    )  # fmt: skip
    if across:
        w[:, 2] = 0.1 * x.sin()
    return world.start(w)


def pair(dimension: int, sides: Sides = ALL_PERIODIC, steps: int = 4, **other: object):
    """The moments and counts after some steps, fused and by tensors."""
    gas = other.pop("gas", Gas.constant_time(dimension))
    kn = torch.tensor([0.05, 2.0], dtype=torch.float64)
    world = hermite_world(LINE, (sides,), gas, kn, 5, 4e-3, check=False, **other)
    assert world._fused is not None
    plain = replace(world)
    object.__setattr__(plain, "_fused", None)
    found = []
    for each in (world, plain):
        state = flow(each)
        with torch.no_grad():
            for _ in range(steps):
                state = each.step(state)
        found.append(state)
    return found


CASES = [
    (1, {}),
    (1, {"limiter": koren, "dissipation": rusanov, "closure": grad}),
    (1, {"sides": WALLS}),
    (1, {"sides": ENDS, "limiter": koren}),
    (1, {"closure": learned(1)}),
    (1, {"closure": learned(1), "sides": WALLS, "once": True, "dissipation": rusanov}),
    (1, {"gas": Gas(1, 1.0, 1.0, 0.25), "closure": learned(1)}),
    (2, {"limiter": koren}),
    (2, {"sides": WALLS}),
    (3, {"gas": Gas(3, 2 / 3, 1.0, -0.19), "sides": ENDS}),
    (3, {"closure": AxialClosure(learned(3)), "gas": Gas.constant_time(3, 2 / 3)}),
    (2, {"closure": AxialClosure(learned(2)), "dissipation": rusanov, "sides": WALLS}),
]


@pytest.mark.parametrize(("dimension", "options"), CASES)
def test_the_steps_are_those_of_the_tensors(dimension: int, options: dict) -> None:
    fused, plain = pair(dimension, **options)
    torch.testing.assert_close(fused.moments, plain.moments, rtol=1e-12, atol=1e-13)
    assert torch.equal(fused.fallbacks, plain.fallbacks)
    assert torch.equal(fused.outside, plain.outside)
    if "closure" in options and options["closure"] is not grad:
        assert plain.outside.sum() > 0
    assert int(fused.step) == int(plain.step) and fused.time == plain.time


def test_a_network_in_single_precision_leaves_what_is_conserved_alone() -> None:
    fused, plain = pair(1, closure=learned(1, torch.float32))
    torch.testing.assert_close(fused.moments, plain.moments, rtol=1e-5, atol=1e-6)
    sums = fused.moments[:, :3].sum(-1)
    torch.testing.assert_close(sums, plain.moments[:, :3].sum(-1), rtol=1e-13, atol=1e-13)


def test_a_knudsen_number_that_is_written_over_is_seen() -> None:
    kn = torch.tensor([0.05, 2.0], dtype=torch.float64)
    gas = Gas.constant_time(1)
    world = hermite_world(LINE, (ALL_PERIODIC,), gas, kn.clone(), 5, 4e-3, check=False)
    other = hermite_world(LINE, (ALL_PERIODIC,), gas, 3 * kn, 5, 4e-3, check=False)
    state = flow(world)
    first = world.step(state).moments
    world.knudsen.mul_(3)
    again = world.step(state).moments
    assert torch.equal(again, other.step(state).moments)
    assert not torch.equal(again, first)


def test_weights_that_are_written_over_are_seen() -> None:
    kn = torch.tensor([0.3, 2.0], dtype=torch.float64)
    gas, module = Gas.constant_time(1), learned(1)
    module.limit.fill_(30.0)
    world = hermite_world(LINE, (ALL_PERIODIC,), gas, kn, 5, 4e-3, module, check=False)
    state = flow(world)
    first = world.step(state).moments
    for weight in module.net.parameters():
        weight.mul_(2.0)
    again = world.step(state).moments
    fresh = hermite_world(LINE, (ALL_PERIODIC,), gas, kn, 5, 4e-3, module, check=False)
    assert torch.equal(again, fresh.step(state).moments)
    torch.testing.assert_close(again, world._plain_step(state).moments, rtol=0, atol=1e-13)
    assert not torch.equal(again, first)


@pytest.mark.parametrize("dimension", [1, 3])
def test_what_must_be_positive_is_found_on_the_way(dimension: int) -> None:
    kn = torch.tensor([0.05, 2.0], dtype=torch.float64)
    gas = Gas.constant_time(dimension)
    world = hermite_world(LINE, (ALL_PERIODIC,), gas, kn, 5, 4e-3, check=False)
    state = flow(world)
    new, extremes = world.attempt(state)
    assert extremes is not None
    before, after = (world.equations.lowest(s.moments) for s in (state, new))
    count = extremes[0].shape[1]
    torch.testing.assert_close(extremes[0], before.amax(2)[:, :count])
    torch.testing.assert_close(extremes[1], after.amin(2)[:, :count])


def test_gradients_and_flows_across_the_line_go_by_tensors() -> None:
    gas = Gas.constant_time(2)
    kn = torch.tensor([0.05, 2.0], dtype=torch.float64)
    world = hermite_world(LINE, (ALL_PERIODIC,), gas, kn, 5, 4e-3, check=False)
    straight, across = flow(world), flow(world, across=True)
    assert world._fused.takes(straight, world)
    assert world._fused.step(world, straight) is not None
    assert world._fused.step(world, across) is None
    tilted = replace(straight, moments=straight.moments.clone())
    tilted.moments[0, 4, 3] += 10 * TURNING
    assert world._fused.step(world, tilted) is None
    asked = replace(straight, moments=straight.moments.clone().requires_grad_())
    assert not world._fused.takes(asked, world)
    world.step(asked).moments.sum().backward()
    assert asked.moments.grad is not None


def test_the_temperature_of_a_wall_has_a_gradient() -> None:
    warm = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    kn = torch.tensor([0.05, 2.0], dtype=torch.float64)
    sides = Sides(Wall(0.8), Wall(lambda x, t: warm))
    world = hermite_world(LINE, (sides,), Gas.constant_time(1), kn, 5, 4e-3, check=False)
    state = world.step(flow(world))
    (slope,) = torch.autograd.grad(state.moments[:, 2].sum(), warm)
    assert float(slope) != 0.0


def test_other_limiters_and_tables_go_by_tensors() -> None:
    kn = torch.tensor([0.05], dtype=torch.float64)

    def mine(behind: torch.Tensor, ahead: torch.Tensor) -> torch.Tensor:
        return 0.5 * van_leer(behind, ahead)

    gas = Gas.constant_time(1)
    world = hermite_world(LINE, (ALL_PERIODIC,), gas, kn, 5, 1e-3, limiter=mine)
    assert world._fused is None
    assert hermite_world(LINE, (ALL_PERIODIC,), gas, kn, 5, 1e-3, None, roe)._fused
