"""The kinetic solver in two and three space dimensions, and with several velocity axes."""

import math

import pytest
import torch

from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.observe import relative_drift

F64 = torch.float64
PRANDTL = {"bgk": 1.0, "es": 2 / 3, "shakhov": 2 / 3}


def world_of(shape, nodes, model="bgk", knudsen=0.05, **changes):
    return KineticWorld(
        Grid(shape, (0.0,) * len(shape), (1.0,) * len(shape)),
        (ALL_PERIODIC,) * len(shape),
        Velocities.symmetric(len(nodes), nodes[0], 6.0),
        Gas.power_law(3, prandtl=PRANDTL[model]),
        torch.tensor([knudsen], dtype=F64),
        model,
        **changes,
    )


def wave_along(world, axis):
    """A density wave that varies, and a velocity that points, along one axis only."""
    x = world.grid.points()[axis]
    rho = (1 + 0.3 * torch.sin(2 * math.pi * x))[None]
    u = torch.zeros(*rho.shape, world.velocities.axes, dtype=F64)
    u[..., axis] = 0.2 * torch.cos(2 * math.pi * x)
    return world.equilibrium(rho, u, 1 + 0.1 * rho)


def run(world, state, steps, time_step):
    return world.observe(world.with_time_step(time_step).advance(state, steps))


@pytest.mark.parametrize("model", ["bgk", "es", "shakhov"])
def test_a_plane_conserves_and_treats_its_axes_alike(model):
    """Also: turning the problem by 90 degrees turns the answer."""
    world = world_of((8, 8), (18, 18), model)
    x, y = world.grid.points()
    rho = (1 + 0.3 * torch.sin(2 * math.pi * (x + 2 * y)))[None]
    u = 0.2 * torch.stack([torch.cos(2 * math.pi * y), torch.sin(2 * math.pi * x)], -1)
    u = u[None]
    ended = {}
    for turned in (False, True):
        r, v = (rho.mT, u.transpose(1, 2).flip(-1)) if turned else (rho, u)
        state = world.equilibrium(r.contiguous(), v.contiguous(), torch.ones_like(rho))
        begun = world.observe(state)
        ended[turned] = world.observe(world.advance(state, 20))
        drift = relative_drift(ended[turned], begun)
        assert max(float(d.max()) for d in drift.values()) < 1e-13
    gap = (ended[False]["density"] - ended[True]["density"].mT).abs().max()
    assert float(gap) < 1e-12
    assert float((ended[False]["density"] - rho).abs().max()) > 0.01


@pytest.mark.parametrize(("shape", "axis"), [((12, 4), 0), ((4, 12), 1)])
def test_a_plane_wave_is_the_line_s(shape, axis):
    plane = world_of(shape, (16, 16))
    found = run(plane, wave_along(plane, axis), 10, 2e-3)["density"][0]
    line = world_of((12,), (16, 16))
    expected = run(line, wave_along(line, 0), 10, 2e-3)["density"][0]
    assert float((found.movedim(axis, 0) - expected[:, None]).abs().max()) < 1e-13


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_three_dimensions_agree_with_one(axis):
    shape = [4, 4, 4]
    shape[axis] = 8
    box = world_of(tuple(shape), (12, 12, 12))
    found = run(box, wave_along(box, axis), 4, 4e-3)["density"][0]
    line = world_of((8,), (12, 12, 12))
    expected = run(line, wave_along(line, 0), 4, 4e-3)["density"][0]
    gap = found.movedim(axis, 0) - expected[:, None, None]
    assert float(gap.abs().max()) < 1e-13


def decay(model, axes, nodes):
    """Rates of sigma_xy and q_x of a homogeneous gas, in units of p/mu."""
    world = world_of((4,), (nodes,) * axes, model, 1.0)
    world = world.with_time_step(world.time_step / 4)
    c = world.velocities.nodes
    cube = c[:, 0] ** 3 - 3 * c[:, 0]
    bell = torch.exp(-0.5 * c.square().sum(1)) / (2 * math.pi) ** (axes / 2)
    g = bell * (1 + 0.02 * c[:, 0] * c[:, 1] + 0.01 * cube)
    parts = [g] if axes == 3 else [g, g]
    state = world.start(torch.stack(parts)[None, :, None, :].expand(1, -1, 4, -1))
    begun, steps = world.observe(state), 40
    ended = world.observe(world.advance(state, steps))
    drift = relative_drift(ended, begun)
    assert max(float(d.max()) for d in drift.values()) < 1e-13

    def rate(name, *at):
        ratio = float(ended[name][(0, 0, *at)] / begun[name][(0, 0, *at)])
        return -math.log(ratio) / (steps * world.time_step)

    return rate("stress", 0, 1), rate("heat_flux", 0)


@pytest.mark.parametrize(
    ("model", "axes", "nodes"),
    [
        ("bgk", 2, 24),
        ("es", 2, 24),
        ("shakhov", 2, 24),
        ("es", 3, 10),
        pytest.param("shakhov", 3, 16, marks=pytest.mark.slow),
    ],
)
def test_prandtl_number_with_several_resolved_axes(model, axes, nodes):
    stress, heat = decay(model, axes, nodes)
    assert stress == pytest.approx(1.0, abs=3e-3)
    assert heat == pytest.approx(PRANDTL[model], abs=3e-3)
    if model == "bgk":
        assert abs(heat - 2 / 3) > 0.1
