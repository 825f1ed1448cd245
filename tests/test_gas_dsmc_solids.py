"""Particles among solids, parts of faces and forces: exact loads, volumes, and refusals."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_gas_dsmc import Stopped, digest, outcome_of, run, uniform

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import (
    ALL_PERIODIC,
    Inflow,
    Mixed,
    Patch,
    Sides,
    Wall,
)
from scalebridge.engine.gas.collisions.molecules import (
    hard_spheres,
    rotating,
    variable_spheres,
)
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.dsmc import DsmcWorld, Start
from scalebridge.engine.gas.kinetic.obstacles import obstacles_of
from scalebridge.engine.gas.shapes import (
    Ball,
    Box,
    Cylinder,
    HalfSpace,
    Layer,
    Polygon,
)
from scalebridge.engine.gas.solids import Solid
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.schema.gas import GasScenario

PLANE = Grid((10, 10), (-1.0, -1.0), (1.0, 1.0))
SPACE = Grid((6, 6, 6), (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
RING = tuple(
    (0.5 * math.cos(2 * math.pi * k / 40), 0.5 * math.sin(2 * math.pi * k / 40))
    for k in range(40)
)
ARROW = ((-0.6, -0.5), (0.6, 0.0), (-0.6, 0.5), (-0.2, 0.0))
"""Not convex: molecules fly into the notch at its back."""
SHAPES = [
    (PLANE, Cylinder((0.1, 0.0), 0.5), math.pi / 4),
    (PLANE, Ball((0.1, 0.0), 0.5), math.pi / 4),
    (PLANE, Box((-0.43, -0.33), (0.4, 0.57)), 0.83 * 0.9),
    (PLANE, Polygon(RING), 20 * 0.25 * math.sin(2 * math.pi / 40)),
    (PLANE, Polygon(ARROW), 0.4),
    (PLANE, Polygon(ARROW[::-1]), 0.4),
    (SPACE, Ball((0.1, 0.0, 0.0), 0.6), 4 / 3 * math.pi * 0.216),
    (SPACE, Cylinder((0.1, 0.0), 0.5, "y", -0.4, 0.45), math.pi / 4 * 0.85),
    (SPACE, Box((-0.5, -0.4, -0.3), (0.5, 0.4, 0.45)), 0.6),
    (SPACE, Polygon(ARROW), 0.8),
]


PLAIN = Wall()


def around(grid: Grid, shape, wall: Wall = PLAIN, **changes) -> DsmcWorld:
    """Return a gas at rest in a periodic box with a solid, hardly a collision."""
    solids = obstacles_of([Solid("it", shape, wall)], grid)
    world = DsmcWorld(
        grid, (ALL_PERIODIC,) * grid.dim, hard_spheres(1e4), uniform(grid),
        20_000.0 / grid.volume / grid.cells, 0.05, obstacles=solids, capacity=1.1,
    )  # fmt: skip
    return replace(world, **changes)


def pushed(world: DsmcWorld, steps: int, warm: int = 0) -> torch.Tensor:
    """Return the mean force and heat of the first solid."""
    state = run(world, warm)
    before = state.impulse
    for _ in range(steps):
        state = world.step(state)
    return (state.impulse - before)[0, 0] / (steps * world.time_step)


IN_PLANE = [case for case in SHAPES if case[0] is PLANE]
IN_SPACE = [
    pytest.param(*case, marks=pytest.mark.slow) for case in SHAPES if case[0] is SPACE
]


@pytest.mark.parametrize(("grid", "shape", "volume"), [*IN_PLANE, *IN_SPACE])
def test_the_gas_keeps_out_of_every_shape_and_fills_the_rest(grid, shape, volume):
    world = around(grid, shape)
    solids = world.obstacles
    assert solids is not None
    box = grid.volume * grid.cells
    assert float((1 - solids.share).sum()) * grid.volume == pytest.approx(volume, rel=2e-3)
    assert world.expected == pytest.approx(20_000 * (1 - volume / box), rel=3e-3)
    first, last = run(world, 0), run(world, 15)
    n = int(last.starts[0, -2])
    assert n == int(first.starts[0, -2])
    assert abs(n - world.expected) < 200
    x = last.positions[0, :n].double()
    within = solids.inside(tuple(x.T))
    # f32 rounds onto the surface: nothing is deeper than that
    assert int(within.sum()) < 20
    for d in range(grid.dim):
        moved = x[within].clone()
        moved[:, d] += 2e-6
        back = x[within].clone()
        back[:, d] -= 2e-6
        out = ~solids.inside(tuple(moved.T)) | ~solids.inside(tuple(back.T))
        within = within.clone()
        within[within.nonzero()[:, 0][out]] = False
    assert int(within.sum()) == 0
    # the density of what is left is even, in cut cells too
    seen = world.observe(last)["density"][0]
    for part in (solids.share > 0.999, (solids.share > 0.2) & (solids.share < 0.9)):
        weight = solids.share[part]
        mean = float((seen[part] * weight).sum() / weight.sum())
        assert mean == pytest.approx(1.0, abs=6 / math.sqrt(20_000 * 0.03))


def test_a_box_at_rest_feels_the_pressure_on_each_side_and_no_heat():
    """A box in the corner feels p on the two sides that it shows: exactly p A."""
    grid, wall = PLANE, Wall(accommodation=0.4)
    world = around(grid, Box((-1.5, -1.5), (0.2, 0.1)), wall)
    world = replace(world, sides=(Sides(Wall(), Wall()), Sides(Wall(), Wall())))
    force = pushed(world, 150, 5)
    # p A on the right side (height 1.1) to the left, on the top (width 1.2) downwards
    assert float(force[0]) == pytest.approx(-1.1, rel=0.03)
    assert float(force[1]) == pytest.approx(-1.2, rel=0.03)
    assert abs(float(force[2])) < 0.03
    assert abs(float(force[3])) < 0.05


def test_an_oblique_half_space_is_pushed_along_its_normal():
    wall = Sides(Wall(), Wall())
    world = around(PLANE, HalfSpace((0.0, 0.0), (-1.0, -1.0)), sides=(wall, wall))
    force = pushed(world, 100, 5)
    assert force[:2].tolist() == pytest.approx([-2.0, -2.0], rel=0.03)


def test_reservoirs_that_meet_in_a_corner_feed_it():
    """A long step: half of what a corner gets comes from beyond both faces."""
    grid = Grid((4, 4), (0.0, 0.0), (1.0, 1.0))
    end = Inflow(1.0, (0.0, 0.0), 1.0)
    world = DsmcWorld(
        grid, (Sides(end, end),) * 2, hard_spheres(1e4), uniform(grid), 16_000.0, 0.2,
        sample_from=5, capacity=3.0,
    )  # fmt: skip
    density = world.observe(run(world, 65))["density"][0]
    assert float(density[0, 0]) == pytest.approx(1.0, abs=0.02)
    assert float(density.mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("rotates", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_hot_plate_gives_the_free_molecular_heat(rotates):
    """Between a plate at 2 and a wall at 1 the flux is exact, with rotation too."""
    molecules = hard_spheres(1e4)
    if rotates:
        molecules = rotating(variable_spheres(1e4, 0.75), 0.75, 5.0)
    grid = Grid((20,), (0.0,), (1.0,))
    solids = obstacles_of([Solid("plate", Layer("x", None, 0.33), Wall(2.0))], grid)
    world = DsmcWorld(
        grid, (Sides(Wall(), Wall()),), molecules, uniform(grid), 60_000.0, 0.05,
        obstacles=solids, capacity=1.1,
    )  # fmt: skip
    taken = pushed(world, 150, 60)
    # n_1 sqrt(T_1) = n_2 sqrt(T_2), (n_1 + n_2) / 2 = 1; each molecule carries 2 T, and T
    # more in rotation
    flux = 2 / (1 + math.sqrt(0.5)) / math.sqrt(2 * math.pi)
    assert float(taken[3]) == pytest.approx(-flux * (3.0 if rotates else 2.0), rel=0.03)


def test_a_turning_cylinder_warms_free_molecules():
    """Each that it sends off is faster by u^2 / 2; its wall is an expression of x, y."""
    grid, edge = Grid((16, 16), (-1.0, -1.0), (1.0, 1.0)), Sides(Wall(), Wall())
    world = around(
        grid, Cylinder((0.0, 0.0), 0.5), Wall(1.0, ("-2*y", "2*x")), sides=(edge, edge)
    )
    taken = pushed(world, 200, 40)
    exact = -0.5 / math.sqrt(2 * math.pi) * math.pi
    assert float(taken[3]) == pytest.approx(exact, rel=0.03)


def test_drag_of_a_cylinder_in_a_free_stream():
    """Schaaf and Chambre's drag, at Mach 2 in a small box; noise about 1 %."""
    speed = 2 * math.sqrt(5 / 3)
    grid = Grid((10, 10), (-1.0, -1.0), (1.0, 1.0))
    end = Inflow(1.0, (speed, 0.0, 0.0), 1.0)
    world = around(
        grid, Cylinder((0.0, 0.0), 0.5), sides=(Sides(end, end),) * 2, capacity=3.0,
        start=uniform(grid, velocity=(speed, 0.0, 0.0)), particles=1500.0,
    )  # fmt: skip
    taken = pushed(world, 250, 40)
    s = speed / math.sqrt(2)
    i0, i1 = (torch.special.i0e, torch.special.i1e)
    half = torch.tensor(s * s / 2, dtype=torch.float64)
    drag = math.sqrt(math.pi) / s * (
        (s * s + 1.5) * float(i0(half)) + (s * s + 0.5) * float(i1(half))
    ) + math.pi**1.5 / (4 * s)
    assert float(taken[0]) == pytest.approx(0.5 * speed**2 * drag, rel=0.03)
    assert abs(float(taken[1])) < 0.3


def test_a_step_among_solids_is_pure_and_the_same_on_two_threads():
    world = around(PLANE, Polygon(ARROW), molecules=hard_spheres(0.1))
    state = run(world, 3)
    again, other = world.step(state), world.step(state)
    assert digest(again) == digest(other)
    assert torch.equal(again.impulse, other.impulse)


def test_parts_of_a_face_are_what_they_are():
    """A hot half of a wall: the gas before it is heated, through the rest it cools."""
    lower = Patch(HalfSpace((0.0, 0.0), (0.0, -1.0)), Wall(2.0))
    grid = PLANE
    world = DsmcWorld(
        grid, (Sides(Wall(1.0), Mixed(Wall(1.0), (lower,))), Sides(Wall(), Wall())),
        hard_spheres(1e4), uniform(grid), 5000.0, 0.05, sample_from=60,
    )  # fmt: skip
    seen = world.observe(run(world, 160))
    assert float(seen["mass"]) == pytest.approx(4.0, rel=1e-12)
    t = seen["temperature"][0]
    assert float(t[8:, :4].mean()) > float(t[8:, 6:].mean()) + 0.1
    # walls that are an expression say the same
    text = replace(world, sides=(Sides(Wall(1.0), Wall("1 + 1*(y < 0)")), world.sides[1]))
    again = text.observe(run(text, 160))["temperature"]
    assert torch.equal(again, seen["temperature"])


def test_a_part_of_a_face_feeds_the_gas_beside_a_wall_that_varies():
    """Through half of a face, between walls of text, a gas at rest stays what it is."""
    feed = Patch(HalfSpace((0.0, 0.0), (0.0, 1.0)), Inflow(1.0, (0.0, 0.0), 1.0))
    wall = Wall("1 + 0*y")
    world = DsmcWorld(
        PLANE, (Sides(wall, Mixed(wall, (feed,))), Sides(Wall(), Wall())),
        hard_spheres(1e4), uniform(PLANE), 5000.0, 0.05, capacity=2.0,
    )  # fmt: skip
    state = run(world, 120)
    # what comes and goes balances: 4 units of mass, of which half was exchanged
    assert float(world.observe(state)["mass"]) == pytest.approx(4.0, abs=0.1)
    first = run(world, 0)
    assert state.starts[0, -2] != first.starts[0, -2]


def test_a_wall_that_changes_with_time_heats_the_gas():
    grid = Grid((8,), (0.0,), (1.0,))
    walls = Sides(Wall("1 + 4*(t > 1)"), Wall("1 + 4*(t > 1)"))
    world = DsmcWorld(grid, (walls,), hard_spheres(1e4), uniform(grid), 8000.0, 0.05)
    before, after = run(world, 18), run(world, 100)
    assert float(world.observe(before)["energy"]) == pytest.approx(1.5, rel=0.05)
    assert float(world.observe(after)["energy"]) > 4.0


def test_a_gas_in_a_constant_field_takes_the_barometric_density():
    """Between walls at 1 under g = -2: rho ~ exp(-2 x), T stays 1, with collisions."""
    grid = Grid((16,), (0.0,), (1.0,))
    g = torch.full((1, 16), -2.0, dtype=torch.float64)
    x = grid.centers(0)
    exact = (
        2
        * 0.0625
        * torch.exp(-2 * x)
        * 16
        / (1 - math.exp(-2))
        * math.sinh(0.0625)
        / 0.0625
    )
    rho = exact / exact.mean()
    start = replace(uniform(grid), density=rho)
    world = DsmcWorld(
        grid, (Sides(Wall(), Wall(accommodation=0.0)),), hard_spheres(0.2), start,
        60_000.0, 0.02, acceleration=g, sample_from=50,
    )  # fmt: skip
    seen = world.observe(run(world, 250))
    assert float((seen["density"][0] / rho - 1).abs().max()) < 0.03
    assert float((seen["temperature"][0] - 1).abs().max()) < 0.03
    flat = replace(world, acceleration=None)
    assert float((flat.observe(run(flat, 250))["density"][0] / rho - 1).abs().max()) > 0.3


def test_a_force_moves_free_molecules_exactly():
    """In one flight by g t^2 / 2 and g t, to round-off of f32."""
    grid = Grid((8, 8), (0.0, 0.0), (1.0, 1.0))
    g = torch.zeros(3, 8, 8, dtype=torch.float64)
    g[1], g[2] = 0.3, -0.7
    world = DsmcWorld(
        grid, (ALL_PERIODIC,) * 2, hard_spheres(1e9), uniform(grid), 500.0, 0.1,
        acceleration=g, sample_every=0,
    )  # fmt: skip
    state = run(world, 0)
    n = world.expected
    still = replace(state, velocities=torch.zeros_like(state.velocities))
    moved = world.step(still)
    assert torch.allclose(moved.velocities[0, :n, 1], torch.tensor(0.03).double())
    assert torch.allclose(moved.velocities[0, :n, 2], torch.tensor(-0.07).double())
    fallen = torch.remainder(state.positions[0, :n, 1].double() + 0.0015, 1.0)
    assert torch.allclose(
        fallen.sort().values, moved.positions[0, :n, 1].double().sort().values, atol=1e-6
    )


BASE = {
    "grid": {"cells": [8, 8], "lower": [-1.0, -1.0], "upper": [1.0, 1.0]},
    "model": {"kind": "dsmc", "particles": 20.0},
    "initial": {"kind": "uniform", "low": {"density": 1.0, "temperature": 1.0}},
    "time": {"end": 0.6, "frames": 4, "average_from": 0.2, "blocks": 4, "sample_every": 1},
    "knudsen": [0.5],
    "solids": [
        {
            "name": "disc",
            "shape": {"kind": "ball", "center": [0.0, 0.0], "radius": 0.4},
            "wall": {"temperature": 2.0},
        }
    ],
}  # fmt: skip


def scenario(**changes):
    data = {"version": 1, "kind": "gas", **BASE, **changes}
    return GasScenario.variant(data)(**data)


def test_a_scenario_with_a_solid_tells_its_loads_with_errors(tmp_path):
    outcome, names, _ = outcome_of(scenario(), tmp_path / "run")
    figures = outcome.figures
    heat = figures["solid_disc_heat"]
    assert heat.value < -0.5
    assert heat.error is not None
    assert 0 < heat.error < 0.5
    assert {"solid_disc_force_x", "solid_disc_force_y"} <= set(figures)
    assert "density_error" in names
    with RunFolder.open(tmp_path / "run") as folder:
        assert np.asarray(folder.store["solids/solid_disc_heat"]).shape == (5, 1)
        mean = np.asarray(folder.store["average_loads/solid_disc_heat"])
    assert mean[0] == heat.value
    instants, _, _ = figures_of(scenario(time={"end": 0.4, "frames": 2}), tmp_path / "b")
    assert instants["solid_disc_heat"].value < -0.3


def figures_of(checked, path):
    job = assemble(checked, Path())
    with RunFolder.create(path, "", {}) as folder:
        return job.run(folder, console_reporter(quiet=True)).figures, job, path


def test_a_run_with_solids_goes_on_bit_for_bit(tmp_path, monkeypatch):
    checked = scenario(time={**BASE["time"], "frames": 8})
    whole, job, _ = figures_of(checked, tmp_path / "whole")
    plain, count = DsmcWorld.step, [0]

    def dies(world, state):
        count[0] += 1
        if count[0] > job.steps * 0.7:
            raise Stopped
        return plain(world, state)

    with RunFolder.create(tmp_path / "cut", "", {}) as folder:
        monkeypatch.setattr(DsmcWorld, "step", dies)
        with pytest.raises(Stopped):
            job.run(folder, console_reporter(quiet=True))
        monkeypatch.setattr(DsmcWorld, "step", plain)
        assert folder.load_checkpoint() is not None
        again = job.run(folder, console_reporter(quiet=True)).figures
        frames = np.asarray(folder.store["solids/solid_disc_force_x"]).tobytes()
    assert again == whole
    with RunFolder.open(tmp_path / "whole") as folder:
        assert frames == np.asarray(folder.store["solids/solid_disc_force_x"]).tobytes()


DISC = BASE["solids"][0]
STREAM = {"kind": "inflow", "density": 1.0, "velocity": [1.0, 0.0], "temperature": 1.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"force": {"heat": 1.0}}, "force.heat"),
        (
            {"force": {"acceleration": [1.0], "rest": {"density": 1, "temperature": 1}}},
            "force.rest",
        ),
        (
            {"solids": [{**DISC, "shape": {"kind": "where", "condition": "x"}}]},
            "does not know its surface",
        ),
        (
            {"solids": [{**DISC, "wall": {"temperature": "x"}}]},
            "temperature",
        ),
        ({"reference": "couette"}, "solids"),
        (
            {"initial": {"kind": "shock", "mach": 2.0},
             "grid": {"cells": [40], "lower": [-1.0], "upper": [1.0]}},
            "not with initial.kind = shock",
        ),
        (
            {"boundaries": {"x": {"low": {**STREAM, "density": "1 + y"}, "high": STREAM}}},
            "numbers for a reservoir",
        ),
        (
            {"boundaries": {"x": {"low": {"kind": "wall", "temperature": "1 - 2*t"},
                                  "high": {"kind": "wall"}}}},
            "must be positive",
        ),
        (
            {"boundaries": {"x": {"low": STREAM, "high": STREAM,
                                  "high_parts": [{"where": "y > 0",
                                                  "boundary": {"kind": "open"}}]}}},
            "high_parts.0.boundary: open",
        ),
    ],
)  # fmt: skip
def test_what_particles_cannot_do_is_refused_by_its_key(changes, words):
    with pytest.raises((ValidationError, InputError), match=words):
        assemble(scenario(**changes), Path())


def test_a_start_without_solids_needs_no_new_memory():
    with_ = around(PLANE, Ball((0.0, 0.0), 0.5))
    assert with_.needed_bytes < replace(with_, obstacles=None).needed_bytes
    assert isinstance(with_.start, Start)
