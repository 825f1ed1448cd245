"""The Boltzmann equation of Maxwell molecules in space."""

import math

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Sides, Wall
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.boltzmann import Boltzmann
from scalebridge.engine.gas.kinetic.maxwell import MaxwellWorld, largest_step
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.observe import relative_drift

F64 = torch.float64


def world_of(cells, knudsen, end=None, **changes):
    grid, q = Grid((cells,), (0.0,), (1.0,)), Boltzmann(2, 32, 8.0, 4)
    step = largest_step(grid, q)
    if end is not None:
        step = end / math.ceil(end / step)
    kn = torch.tensor([knudsen], dtype=F64)
    return MaxwellWorld(
        **{
            "grid": grid,
            "sides": (ALL_PERIODIC,),
            "collision": q,
            "knudsen": kn,
            "time_step": step,
            **changes,
        }
    )


def wave(world):
    x = world.grid.centers(0)[None]
    rho = 1 + 0.3 * torch.sin(2 * math.pi * x)
    u = torch.zeros(1, world.grid.cells, 2, dtype=F64)
    return world.equilibrium(rho, u, torch.ones_like(rho))


def run(world, state, end):
    for _ in range(round(end / world.time_step)):
        state = world.step(state)
    return world.observe(state)


def test_homogeneous_rates_conservation_and_the_gas_it_is():
    """Stress decays at p/mu, heat flux at Pr p/mu with Pr = 1/2 in two dimensions."""
    world = world_of(4, 0.5, 0.2)
    v = world.velocities.nodes
    bell = torch.exp(-0.5 * v.square().sum(1)) / (2 * math.pi)
    f = bell * (1 + 0.02 * v[:, 0] * v[:, 1] + 0.01 * (v[:, 0] ** 3 - 3 * v[:, 0]))
    state = world.start(f.expand(1, 4, -1))
    begun = world.observe(state)
    ended = run(world, state, 0.2)
    for name, at, rate in (("stress", (0, 1), 2.0), ("heat_flux", (0,), 1.0)):
        ratio = float(ended[name][(0, 0, *at)] / begun[name][(0, 0, *at)])
        assert -math.log(ratio) / 0.2 == pytest.approx(rate, rel=5e-3)
    drift = relative_drift(ended, begun)
    assert max(float(d.max()) for d in drift.values()) < 1e-12


def test_small_knudsen_is_euler_with_a_step_far_over_the_collision_time():
    """Kn = 1e-6, against BGK there, which is tested against Euler."""
    world = world_of(32, 1e-6, 0.05)
    found = run(world, wave(world), 0.05)["density"]
    bgk = KineticWorld(
        world.grid,
        world.sides,
        Velocities.symmetric(2, 32, 8.0),
        Gas.power_law(2),
        world.knudsen,
    )
    bgk = bgk.with_time_step(world.time_step)
    x = world.grid.centers(0)[None]
    start = bgk.equilibrium(
        1 + 0.3 * torch.sin(2 * math.pi * x), torch.zeros(1, 32, 2), torch.ones(1, 32)
    )
    expected = bgk.observe(bgk.advance(start, round(0.05 / world.time_step)))["density"]
    assert float((found - expected).abs().max()) < 2e-4
    assert (
        float((found - wave(world).f.sum(-1) * world.velocities.weight).abs().max()) > 0.01
    )


def test_free_flight_is_free():
    world = world_of(32, 1e6, 0.05)
    found = run(world, wave(world), 0.05)["density"][0]
    x = world.grid.centers(0)
    damped = math.exp(-0.5 * (2 * math.pi * 0.05) ** 2)
    exact = 1 + 0.3 * damped * torch.sin(2 * math.pi * x)
    assert float((found - exact).abs().max()) < 3e-3


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"time_step": 1.0}, "time_step"),
        ({"sides": (Sides(Wall(1.0), Wall(1.0)),)}, "boundaries"),
        ({"collision": Boltzmann(2, 32, 8.0, 4, exponent=1.0)}, "collision"),
    ],
)
def test_bad_input_is_refused(changes, word):
    with pytest.raises(InputError, match=word):
        world_of(8, 0.1, **changes)
    with pytest.raises(InputError, match="knudsen"):
        world_of(8, 0.0)
