"""Grad's thirteen moments: walls, conservation, and the monitor of hyperbolicity."""

import math

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Sides, Wall
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.moment import grad13
from scalebridge.engine.gas.moment.grad13 import Grad13World
from scalebridge.engine.gas.observe import relative_drift

F64 = torch.float64
AWAY = torch.tensor([[1.2, 0.1, 0.9, 0.05, -0.03], [0.7, -0.2, 1.3, -0.1, 0.08]], dtype=F64)


def test_two_halves_are_the_flux():
    both = grad13.half_flux(AWAY, 1.0) + grad13.half_flux(AWAY, -1.0)
    assert torch.allclose(both, grad13.flux(AWAY), atol=1e-12)


def test_a_wall_at_the_gas_temperature_feels_the_pressure_alone():
    rest = torch.tensor([[1.3, 0.0, 0.8, 0.0, 0.0]], dtype=F64)
    for alpha in (0.0, 0.4, 1.0):
        found = grad13.wall_flux(rest, Wall(0.8, (), alpha), -1.0)
        assert torch.allclose(found, grad13.flux(rest), atol=1e-12)
    warm = grad13.wall_flux(rest, Wall(1.2), 1.0)
    assert abs(float(warm[0, 0])) < 1e-15
    assert float(warm[0, 3]) > 0.05  # energy enters from a warmer wall on the left


def heat_between_walls(knudsen, cells=16, time=8.0):
    grid = Grid((cells,), (-0.5,), (0.5,))
    step = 0.4 * grid.spacing[0] / grad13.SPEED
    world = Grad13World(
        grid,
        (Sides(Wall(0.95), Wall(1.05)),),
        Gas.power_law(3),
        torch.tensor(knudsen, dtype=F64),
        step,
    )
    w = torch.zeros(len(knudsen), cells, 5, dtype=F64)
    w[..., 0] = 1.0
    w[..., 2] = 1.0 + 0.06 * grid.centers(0)
    state = world.start(w)
    begun = world.observe(state)
    for _ in range(round(time / step)):
        state = world.step(state)
    ended = world.observe(state)
    assert float((ended["mass"] / begun["mass"] - 1).abs().max()) < 1e-13
    return ended["heat_flux"][..., 0]


def test_heat_between_walls_has_the_jump_of_its_distribution():
    """Fourier's law with the jump from the energy balance of half of Grad's distribution.

    ``q = 4 rho sqrt(T / 2 pi) (T_wall - T)``, a jump of 5 sqrt(pi) / 8 = 1.108 units of
    ``mu sqrt(2 T) / p``; the kinetic equation, with its Knudsen layer, has 1.303.
    """
    kn = torch.tensor([0.05, 0.1], dtype=F64)
    found = heat_between_walls(kn.tolist())
    jump = 5 * math.sqrt(math.pi) / 8
    expected = -2.5 * kn * 0.1 / (1 + 2 * jump * math.sqrt(2) * kn)
    without = -2.5 * kn * 0.1
    # The mean over the cells comes out 2 to 4 % below on 16, 32 and 64 cells alike, the
    # cells at the walls up to a third; why is open, so the bound is wide.
    assert float((found.mean(1) / expected - 1).abs().max()) < 0.05
    assert float((found.mean(1) / without - 1).abs().min()) > 0.1  # the planted defect


def test_periodic_flow_conserves_and_the_monitor_sees_complex_speeds():
    grid = Grid((32,), (0.0,), (1.0,))
    world = Grad13World(grid, (ALL_PERIODIC,), Gas(3), torch.tensor([0.1], dtype=F64), 2e-3)
    x = 2 * math.pi * grid.centers(0)
    zero = torch.zeros_like(x)
    w = torch.stack([1 + 0.2 * x.sin(), 0.1 * x.cos(), 1 + zero, zero, zero], -1)[None]
    state = world.start(w)
    begun = world.observe(state)
    for _ in range(50):
        state = world.step(state)
    ended = world.observe(state)
    drift = relative_drift(ended, begun)
    assert max(float(d.max()) for d in drift.values()) < 1e-13
    assert float(ended["complex_fraction"]) == 0.0
    w[0, 7, 4] = 2.0  # a heat flux far beyond the region of hyperbolicity
    seen = world.observe(world.start(w))
    assert float(seen["complex_fraction"]) == pytest.approx(1 / 32)
    assert int(seen["complex_cell"]) == 7


def test_bad_input_is_refused():
    wall = Wall(1.0, (0.0, 0.1))
    with pytest.raises(InputError, match="tangential"):
        Grad13World(
            Grid((8,), (0.0,), (1.0,)), (Sides(wall, wall),), Gas(3), torch.ones(1), 1e-3
        )
