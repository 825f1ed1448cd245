"""Boundaries: parts of faces, values that vary in place and time, inlets and outlets."""

import copy

import pytest
import torch

from scalebridge.engine import scenario
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import (
    ALL_PERIODIC,
    Inflow,
    MassFlowInlet,
    MassFlowOutlet,
    Mixed,
    Patch,
    PressureInlet,
    PressureOutlet,
    Sides,
    Symmetry,
    Wall,
)
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.grad13 import Grad13
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import MomentWorld
from scalebridge.engine.gas.shapes import Where
from scalebridge.engine.jobs import assemble

F64 = torch.float64
GAS = Gas.power_law(3)


def models(sides, cells, kn=0.05, box=1.0):
    """A kinetic, a moment, a viscous and an inviscid world of one problem."""
    dim = len(cells)
    grid = Grid(cells, (0.0,) * dim, (box,) * dim)
    knudsen = torch.tensor([kn], dtype=F64)
    v = Velocities.symmetric(dim, 16, 5.0)
    yield KineticWorld(grid, sides, v, GAS, knudsen, cfl=0.5)
    yield MomentWorld(grid, sides, Grad13(GAS), knudsen, 0.2 * box / cells[0] / dim)
    dt = 0.1 * box / cells[0] / dim
    yield FluidWorld(grid, sides, GAS, 1, dt, knudsen=knudsen, viscous_stages=5)


def euler(sides, cells):
    dim = len(cells)
    grid = Grid(cells, (0.0,) * dim, (1.0,) * dim)
    return FluidWorld(grid, sides, GAS, 1, 0.2 / cells[0] / dim)


def run(world, end, speed=0.0):
    shape = (1, *world.grid.shape)
    one = torch.ones(shape, dtype=F64)
    u = torch.zeros(*shape, world.grid.dim, dtype=F64)
    u[..., 0] = speed
    state = world.equilibrium(one, u, one)
    world = world.with_time_step(end / -(-end // world.time_step))
    while float(state.time) < end - 1e-9:
        state = world.step(state)
    return world.observe(state)


@pytest.mark.parametrize(
    ("flow", "end", "sides"),
    [
        (0.1, 3.0, Sides(MassFlowInlet("0.1 + 0*t", 1.0), PressureOutlet("1"))),
        # from p0 = 1.02 to p = 1: rho = (1 / 1.02)^0.6 1.02, u^2 = 5 (1 - T)
        pytest.param(
            0.2001,
            6.0,
            Sides(PressureInlet("1.02", "1 + 0*x"), PressureOutlet(1.0)),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_inlets_and_outlets_settle_on_what_they_ask_for(flow, end, sides):
    """From a start that is farther off than the bound."""
    for world in (*models((sides,), (8,)), euler((sides,), (8,))):
        seen = run(world, end, 0.95 * flow)
        found = seen["density"] * seen["velocity"][..., 0]
        assert float((found - flow).abs().amax()) < 4e-3, type(world)
        assert float((seen["density"] * seen["temperature"] - 1).abs().amax()) < 5e-3
    choked = run(euler((Sides(PressureInlet(1.0, 1.0), MassFlowOutlet(0.1)),), (8,)), 1.0)
    j = choked["density"] * choked["velocity"][..., 0]
    assert abs(float(j[0, -1]) - 0.1) < 5e-3  # the wave that starts the flow


def test_gas_leaves_against_a_pressure_and_chokes_when_too_much_is_asked_for():
    out = Sides(Wall(), PressureOutlet(0.5))
    masses = [float(run(w, 1.0)["mass"]) for w in models((out,), (16,))]
    assert max(masses) < 0.85 and max(masses) / min(masses) < 1.06
    greedy = run(euler((Sides(Wall(), MassFlowOutlet(50.0)),), (32,)), 0.2)
    assert float((greedy["velocity"][..., 0] / greedy["temperature"].sqrt()).amax()) < 1.6


def test_a_plane_of_symmetry_halves_the_box():
    for width in (0, 1):
        whole = (Sides(Wall(0.8), Wall(0.8)),)
        half = (Sides(Wall(0.8), Symmetry()),)
        if width:  # of the fluid, whose scheme is the same on both sides
            whole, half = (Sides(Wall(), Wall()),), (Sides(Wall(), Symmetry()),)
        make = [
            lambda s, n, b: next(models(s, (n,), box=b)),
            lambda s, n, b: FluidWorld(Grid((n,), (0.0,), (b,)), s, GAS, 1, 5e-3),
        ][width]
        fields = []
        for sides, n, b in ((whole, 32, 1.0), (half, 16, 0.5)):
            world = make(sides, n, b)
            x = world.grid.centers(0)[None]
            rho = 1 + 0.2 * torch.cos(2 * torch.pi * x)
            state = world.equilibrium(rho, torch.zeros(1, n, 1, dtype=F64), 1 / rho)
            for _ in range(20):
                state = world.step(state)
            fields.append(world.observe(state)["density"][0, :16])
        assert float((fields[0] - fields[1]).abs().amax()) < 1e-12


def test_half_of_a_wall_is_hot():
    hot = Mixed(Wall(1.0), (Patch(Where("y > 0.5"), Wall(1.2)),))
    same = Wall("where(y > 0.5, 1.2, 1.0)")
    for a, b in zip(
        models((Sides(hot, Wall()), ALL_PERIODIC), (8, 8)),
        models((Sides(same, Wall()), ALL_PERIODIC), (8, 8)),
        strict=True,
    ):
        one, two = run(a, 0.1), run(b, 0.1)
        t = one["temperature"][0, 0]
        assert float(t[4:].mean() - t[:4].mean()) > 0.02, type(a)
        assert float((one["temperature"] - two["temperature"]).abs().amax()) < 1e-12
        assert abs(float(one["mass"]) - 1) < 1e-12


@pytest.mark.slow
def test_walls_change_with_time():
    still = Sides(Wall(1.1), Wall())
    steady = Sides(Wall("1.1 + 0*t"), Wall())
    pulse = Sides(Wall("1 + 0.2*sin(pi*t)"), Wall())
    for a, b, c in zip(*(models((s,), (12,)) for s in (still, steady, pulse)), strict=True):
        first = run(a, 0.4)["temperature"]
        assert float((first - run(b, 0.4)["temperature"]).abs().amax()) < 1e-12
        warm = run(c, 0.5)["energy"], run(c, 1.9)["energy"]
        assert float(warm[0]) > 1.5 + 1e-3 and float(warm[1]) < float(warm[0])


def test_a_part_of_a_face_lets_gas_in():
    middle, gas = Where("y > 0.25 and y < 0.75"), Inflow(1.0, (0.3, 0.0), 1.0)
    jet = Mixed(Wall(), (Patch(middle, gas),))
    sides = (Sides(jet, PressureOutlet(1.0)), Sides(Symmetry(), Symmetry()))
    for world in (*models(sides, (8, 8)), euler(sides, (8, 8))):
        u = run(world, 0.5)["velocity"][0, 0, :, 0]
        assert float(u[2:6].mean()) > 4 * float(u[[0, -1]].abs().mean()), type(world)


BASE = {
    "version": 1, "kind": "gas",
    "grid": {"cells": [8, 8], "lower": [0.0, 0.0], "upper": [1.0, 1.0]},
    "boundaries": {"x": {"low": {"kind": "wall"}, "high": {"kind": "open"}}},
    "model": {"kind": "nsf"},
    "initial": {"kind": "uniform", "low": {"density": 1.0, "temperature": 1.0}},
    "time": {"end": 0.1, "frames": 1},
}  # fmt: skip
KINETIC = {"kind": "kinetic", "nodes": [16, 16], "lower": [-5.0] * 2, "upper": [5.0] * 2}

WRONG = [
    ("boundaries.x.low.velocity", {"x": {"low": {"velocity": [0.1, 0.0]}}}, None),
    ("boundaries.x.low.velocity", {"x": {"low": {"velocity": [0.0, 0.0, 0.1]}}}, None),
    ("boundaries.x.low.velocity", {"x": {"low": {"velocity": [0, 0, 0, 1]}}}, None),
    ("boundaries.x.low.velocity", {"x": {"low": {"velocity": [0, 0, 0.1]}}}, KINETIC),
    ("boundaries.x.low.velocity", {"x": {"low": {"velocity": [0, 0.1]}}},
     {"kind": "euler"}),
    ("boundaries.x.low.temperature", {"x": {"low": {"temperature": 2.0}}},
     {"kind": "euler"}),
    ("boundaries.x.low.temperature", {"x": {"low": {"temperature": -1.0}}}, None),
    ("boundaries.x.low.temperature", {"x": {"low": {"temperature": "y - 0.5"}}}, None),
    ("boundaries.x.low", {"x": {"low": {"temperature": "1 - 20*t"}}}, KINETIC),
    ("boundaries.x.low", {"x": {"low": {"temperature": "1 + z"}}}, None),
    ("boundaries.x.low", {"x": {"low": {"temperature": "import os"}}}, None),
    ("boundaries.x.low", {"x": {"low": {"temperature": 9.0}}}, KINETIC),
    ("boundaries.x.high.pressure", {"x": {"high": {"kind": "pressure_outlet"}}}, None),
    ("boundaries.x.high.pressure",
     {"x": {"high": {"kind": "pressure_outlet", "pressure": 0}}}, None),
    ("boundaries.z", {"z": {"low": {"kind": "open"}, "high": {"kind": "open"}}}, None),
    ("boundaries.x", {"x": {"low": {"kind": "periodic"}}}, None),
    ("boundaries.x.low_parts.0.where",
     {"x": {"low_parts": [{"where": "y > 2", "boundary": {"kind": "wall"}}]}}, None),
    ("boundaries.x.low_parts.0.boundary",
     {"x": {"low_parts": [{"where": "y > 0", "boundary": {"kind": "periodic"}}]}}, None),
    ("boundaries.x.low_parts.0.boundary.velocity",
     {"x": {"low_parts": [{"where": "y > 0", "boundary":
                           {"kind": "wall", "velocity": [1.0]}}]}}, None),
]  # fmt: skip


def merged(base, change):
    out = copy.deepcopy(base)
    for key, value in change.items():
        deeper = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if deeper else value
    return out


@pytest.mark.parametrize(("key", "change", "model"), WRONG)
def test_what_a_model_cannot_honour_is_refused_by_name(key, change, model, tmp_path):
    data = merged(BASE, {"boundaries": change})
    if model:
        data["model"] = model
    with pytest.raises(InputError) as error:
        assemble(scenario.parse(data), tmp_path)
    text = str(error.value)
    assert "\n" not in text and key in text, text


def test_the_right_ones_are_taken(tmp_path):
    for model in (None, KINETIC, {"kind": "euler"}, {"kind": "hermite", "order": 3}):
        data = merged(BASE, {"model": model} if model else {})
        data["boundaries"]["x"] = {
            "low": {"kind": "wall"},
            "low_parts": [
                {"where": "y > 0.5", "boundary":
                 {"kind": "inflow", "density": 1.0, "velocity": ["0.1*y", 0.0],
                  "temperature": 1.0}},
            ],
            "high": {"kind": "pressure_outlet", "pressure": 1.0},
        }  # fmt: skip
        data["boundaries"]["y"] = {
            "low": {"kind": "symmetry"},
            "high": {"kind": "mass_flow_outlet", "mass_flow": "0.01*(1 + x)"},
        }
        assert assemble(scenario.parse(data), tmp_path)
