"""The kinetic solver: conservation, limits, batches, and refused input."""

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import (
    ALL_PERIODIC,
    Inflow,
    Open,
    Periodic,
    Sides,
    Wall,
)
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.observe import relative_drift

F64 = torch.float64


def wave_world(knudsen, cells=64, nodes=30, **changes):
    given = {
        "grid": Grid((cells,), (-0.5,), (0.5,)),
        "sides": (ALL_PERIODIC,),
        "velocities": Velocities.symmetric(1, nodes, 8.0),
        "gas": Gas.constant_time(1),
        "knudsen": torch.as_tensor(knudsen, dtype=F64),
    }
    return KineticWorld(**{**given, **changes})


def wave(world, amplitude=0.5):
    x = world.grid.points()[0]
    one = torch.ones(world.batch, *world.grid.shape, dtype=F64)
    rho = one * (1 + amplitude * torch.sin(2 * torch.pi * x))
    temperature = one * (1 + amplitude * torch.sin(2 * torch.pi * x + 0.2))
    u = torch.zeros(*rho.shape, world.velocities.axes, dtype=F64)
    return world.equilibrium(rho, u, temperature)


def drift(world, steps):
    state = wave(world)
    begun = world.observe(state)
    ended = world.observe(world.advance(state, steps))
    return max(float(v.max()) for v in relative_drift(ended, begun).values())


def test_nothing_is_lost_in_1000_steps_with_30_velocities():
    assert drift(wave_world([1e-8, 1e-2, 1.0, 10.0]), 1000) < 1e-12


@pytest.mark.parametrize("model", ["bgk", "es", "shakhov"])
def test_reduced_models_conserve(model):
    prandtl = 1.0 if model == "bgk" else 2 / 3
    gas = Gas.power_law(3, omega=0.81, prandtl=prandtl)
    assert drift(wave_world([1e-4, 0.1], gas=gas, model=model), 100) < 1e-13


def test_a_sampled_maxwellian_would_lose_energy():
    """The planted defect: without Newton's method the coarse grid drifts."""
    world = wave_world([1e-2], nodes=14)
    rho = torch.ones(1, 64, dtype=F64)
    from scalebridge.engine.gas.kinetic.equilibrium import maxwellian

    f = maxwellian(world.velocities, rho, torch.zeros(1, 64, 1), 0.3 * rho, 1, exact=False)
    lost = f.sum() * world.velocities.weight / 64 - 1
    assert abs(float(lost)) > 1e-9


def test_a_batch_is_its_members():
    together = wave_world([1e-3, 0.5, 10.0])
    states = together.advance(wave(together), 20)
    for i, kn in enumerate([1e-3, 0.5, 10.0]):
        alone = wave_world([kn])
        state = alone.advance(wave(alone), 20)
        # exp and sums of longer arrays may round differently: 1e-16 in each of 20 steps.
        torch.testing.assert_close(states.f[i], state.f[0], rtol=1e-12, atol=1e-14)
        assert float((states.f[i] - states.f[i - 1]).abs().max()) > 1e-6


@pytest.mark.parametrize("ends", [ALL_PERIODIC, Sides(Wall(1.0), Open())])
def test_step_and_advance_agree_and_leave_the_state_alone(ends):
    world = wave_world([0.1], sides=(ends,))
    start = wave(world)
    before = start.f.clone()
    one = world.step(start).f
    world.observe(start)
    assert torch.equal(start.f, before)
    assert torch.equal(one, world.step(start).f)
    assert torch.equal(one, world.advance(start, 1).f)


@pytest.mark.parametrize("in_place", [False, True])
def test_equal_runs_have_equal_states_with_their_ghost_rows(in_place):
    walls = Sides(Wall(1.0), Wall(1.3))
    states = []
    for _ in range(2):
        world = wave_world([0.1], 16, sides=(walls,), in_place=in_place)
        states.append(world.step(world.step(wave(world))))
        assert not states[-1].f[:, :, 16:].any()
    assert torch.equal(states[0].f, states[1].f)


def test_single_precision_agrees():
    double, single = wave_world([0.01, 1.0]), wave_world([0.01, 1.0], dtype=torch.float32)
    a = double.observe(double.advance(wave(double), 50))
    b = single.observe(single.advance(wave(single), 50))
    for name in ("density", "temperature"):
        assert float((a[name] - b[name]).abs().max()) < 2e-5


def test_free_flight_is_the_shifted_initial_state():
    world = wave_world([1e9], cells=200, nodes=60)
    steps = int(0.3 / world.time_step) + 1
    world = world.with_time_step(0.3 / steps)
    observed = world.observe(world.advance(wave(world), steps))
    x, v = world.grid.centers(0)[:, None], world.velocities.nodes[:, 0]
    at = 2 * torch.pi * (x - 0.3 * v)
    rho, t = 1 + 0.5 * torch.sin(at), 1 + 0.5 * torch.sin(at + 0.2)
    f = rho * torch.exp(-(v**2) / (2 * t)) / (2 * torch.pi * t).sqrt()
    exact = f.sum(1) * world.velocities.weight
    assert float((observed["density"][0] - exact).abs().mean()) < 3e-4


def test_the_order_is_two():
    errors = []
    fine = None
    for cells in (256, 128, 64, 32):
        world = wave_world([0.1], cells=cells, nodes=40)
        steps = 2 * cells
        world = world.with_time_step(0.1 / steps)
        rho = world.observe(world.advance(wave(world, 0.2), steps))["density"][0]
        if fine is None:
            fine = rho
        else:
            errors.append(float((rho - fine.reshape(cells, -1).mean(1)).abs().mean()))
    order = torch.log2(torch.tensor(errors[2] / errors[1]))
    assert order > 1.9


BAD = {
    "cfl": {"cfl": 0.8},
    "time_step": {"time_step": 0.1},
    "knudsen": {"knudsen": torch.tensor([-1.0])},
    "prandtl": {"gas": Gas.power_law(3, prandtl=0.7)},
    "periodic": {"sides": (Sides(Periodic(), Wall()),)},
    "let mass through": {"sides": (Sides(Wall(velocity=(0.1,)), Wall()),)},
    "too narrow": {"sides": (Sides(Inflow(1.0, (0.0,), 50.0), Wall()),)},
    "axes": {"velocities": Velocities.symmetric(2, 8, 6.0)},
    "symmetric": {
        "velocities": Velocities((30,), (-7.0,), (8.0,)),
        "sides": (Sides(Wall(), Wall()),),
    },
}


@pytest.mark.parametrize("word", BAD)
def test_bad_input_is_refused_with_the_reason(word):
    with pytest.raises(InputError, match=word) as caught:
        wave_world(**{"knudsen": [0.1], **BAD[word]})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("density", "temperature", "word"),
    [
        (-1.0, 1.0, "density"),
        (1.0, -1.0, "temperature"),
        (1.0, 30.0, "narrow"),
        (1.0, 1e-3, "too few"),
    ],
)
def test_unphysical_starts_are_refused(density, temperature, word):
    world = wave_world([0.1])
    one = torch.ones(1, 64, dtype=F64)
    with pytest.raises(InputError, match=word):
        world.equilibrium(density * one, torch.zeros(1, 64, 1), temperature * one)
