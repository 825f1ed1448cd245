"""Small rules of gas flows that no other test would miss."""

import pytest
import torch

from scalebridge.engine.gas.boundaries import (
    ALL_PERIODIC,
    MassFlowOutlet,
    PressureOutlet,
    Sides,
    Wall,
)
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.grad13 import HEAT, Grad13
from scalebridge.engine.gas.equations.hermite import hermite_world
from scalebridge.engine.gas.faces import AtFace, Face
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.positivity import PositivityFallback

F64 = torch.float64
GRID = Grid((8,), (0.0,), (1.0,))


def beyond(boundary, speed):
    """Density, velocity and pressure beyond the high end of a gas of unit state."""
    world = FluidWorld(GRID, (ALL_PERIODIC,), Gas(3), 1, 1e-3)
    edge = torch.tensor([[1.0, speed, 1.0]], dtype=F64)
    return boundary.ghost(AtFace(world, Face(GRID, 0, 1), 0.0), edge)[0]


def test_nothing_comes_back_from_an_outlet_of_supersonic_flow():
    assert beyond(PressureOutlet(0.2), 2.0).tolist() == pytest.approx([1.0, 2.0, 1.0])
    assert beyond(PressureOutlet(0.2), 0.5)[2] == pytest.approx(0.2)


def test_what_is_beyond_an_outlet_stays_positive():
    for boundary in (PressureOutlet(1e-6), MassFlowOutlet(5.0)):
        found = beyond(boundary, -0.9)
        assert found[0] >= 0.1 - 1e-12 and found[2] > 0


def test_heat_flux_relaxes_by_the_prandtl_number():
    equations = Grad13(Gas.constant_time(3, 0.5))
    w = torch.zeros(1, 13, 1, dtype=F64)
    w[:, [0, 4]], w[:, 5], w[:, HEAT] = 1.0, 0.01, 0.01
    after = equations.primitive(
        equations.relaxed(equations.conserved(w), 0.3, torch.ones(1))
    )
    assert after[0, 5, 0] == pytest.approx(0.01 / 1.3)
    assert after[0, HEAT, 0] == pytest.approx(0.01 / 1.15)


def test_density_and_temperature_fall_towards_a_wall_to_a_fifth_at_most():
    walls = (Sides(Wall(1.0), Wall(1.0)),)
    world = hermite_world(GRID, walls, Gas(1), torch.ones(1), 5, 1e-3)
    inner = world.init(torch.Generator()).moments[..., :1]
    edge = inner.clone()
    edge[:, 0] = 0.5  # ahead, 2 * 0.5 - 1 = 0
    end = world._ends[0][0]
    ahead = world._ghost(end, edge, inner, 0.0)
    assert float(ahead[0, 0, 0]) == pytest.approx(0.1)
    assert torch.equal(ahead[0, 1:], 2 * edge[0, 1:] - inner[0, 1:])


@pytest.mark.parametrize(("place", "value"), [(0, 0.1), (3, float("nan"))])
def test_a_cell_that_empties_or_is_no_number_is_unphysical(place, value):
    world = hermite_world(GRID, (ALL_PERIODIC,), Gas(1), torch.ones(1), 5, 1e-3)
    old = world.init(torch.Generator()).moments
    new = old.clone()
    new[0, place, 4] = value
    bad = PositivityFallback(world).unphysical(old, new)
    assert bad[0].nonzero().flatten().tolist() == [4]
