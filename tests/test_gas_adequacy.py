"""Verdicts on the grid of velocities: wrong answers are warned about, right ones not."""

import math
from dataclasses import replace

import pytest
import torch

from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Sides, Wall
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic import adequacy
from scalebridge.engine.gas.kinetic.adequacy import BOUNDS, checks
from scalebridge.engine.gas.kinetic.equilibrium import maxwellian
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.jobs import assemble
from scalebridge.engine.scenario import find, override, parse, read

F64 = torch.float64


def failed(world, state, end):
    found = list(checks(world, state, end))
    assert len(found) == len(BOUNDS)
    return {c.name.removeprefix("velocities_") for c in found if not c.passed}


@pytest.mark.parametrize(
    ("knudsen", "nodes", "wrong"),
    [(0.191, 64, True), (0.191, 128, False), (0.16, 64, False),
     (0.08, 64, False), (0.16, 32, True)],
)  # fmt: skip
def test_a_sound_wave_that_the_nodes_cannot_hold_is_noticed(
    knudsen, nodes, wrong, tmp_path
):
    settings = [f"knudsen=[{knudsen}]", f"model.nodes=[{nodes}]", "grid.cells=[32]"]
    job = assemble(parse(override(read(find("sound_wave")), settings)), tmp_path)
    world, state = job.main.world, job.main.start()
    state = world.step(state)
    said = failed(world, state, world.time_step)
    assert said == ({"moments"} if wrong else set())


def between_walls(nodes, knudsen):
    low, high = Wall(1.0, (0.0, -0.05)), Wall(1.0, (0.0, 0.05))
    world = KineticWorld(
        Grid((12,), (-0.5,), (0.5,)), (Sides(low, high),),
        Velocities((nodes, 16), (-5.5, -5.5), (5.5, 5.5)), Gas.power_law(3),
        torch.tensor([knudsen], dtype=F64), cfl=0.5,
    )  # fmt: skip
    return world, world.advance(world.init(torch.Generator()), round(4 / world.time_step))


@pytest.mark.parametrize(
    ("nodes", "knudsen", "wrong"),
    [(16, 10.0, True), (16, 3.0, True), (40, 10.0, False), (24, 1.0, False)],
)
def test_slow_molecules_between_walls_need_nodes(nodes, knudsen, wrong):
    assert failed(*between_walls(nodes, knudsen), 4.0) == ({"moments"} if wrong else set())


def flight(nodes, limit, temperature, knudsen, steps, end):
    grid = Grid((16,), (0.0,), (1.0,))
    v = Velocities.symmetric(1, nodes, limit)
    kn = torch.tensor([knudsen], dtype=F64)
    world = KineticWorld(grid, (ALL_PERIODIC,), v, Gas.constant_time(1), kn)
    rho = 1 + 0.1 * torch.sin(2 * torch.pi * grid.centers(0))[None]
    one = torch.ones_like(rho)
    state = world.equilibrium(rho, 0 * one[..., None], temperature * one)
    return world, world.advance(state, steps), end


def test_free_flight_that_comes_back_too_narrow_and_too_coarse():
    assert "recurrence" in failed(*flight(40, 6.0, 1.0, 10.0, 2, 4.0))  # back after 3.3
    assert not failed(*flight(40, 6.0, 1.0, 0.1, 2, 4.0))  # collisions have ended it
    assert not failed(*flight(40, 6.0, 1.0, 10.0, 2, 0.1))
    assert "equilibrium" in failed(*flight(12, 12.0, 1.3, 0.1, 2, 0.1))
    world, _, end = flight(32, 4.4, 1.0, 10.0, 0, 0.1)
    hot = torch.full((1, 16), 1.9, dtype=F64)  # as a run may make it; a start is refused
    f = maxwellian(world.velocities, hot / hot, 0 * hot[..., None], hot, 1)
    assert "outside" in failed(world, world.start(f.movedim(-2, 1)), end)


def test_what_has_died_out_counts_by_what_it_was():
    """Free flight has mixed a wave away: an error of what is left is none of the flow."""

    def moments(world, state, end, largest):
        found = checks(world, state, end, largest=[largest])
        return {c.name: c.value for c in found}["velocities_moments"]

    late = flight(24, 6.0, 1.0, 10.0, 60, 0.1)
    assert moments(*late, 0.0) == moments(*late, 1e-9) > 10.0 * moments(*late, 1.0)
    world, state = between_walls(16, 10.0)  # a steady flow is what it is
    assert moments(world, state, 4.0, 0.0) == moments(world, state, 4.0, 1.0)


def test_the_same_cells_lying_elsewhere_say_the_same():
    world, state = between_walls(16, 3.0)
    f = state.f
    apart = torch.empty(*f.shape[:-1], f.shape[-1] + 3, dtype=f.dtype)[..., 2:-1]
    turned = torch.empty(f.shape[::-1], dtype=f.dtype).permute(*range(f.dim())[::-1])
    said = list(checks(world, state, 4.0))
    for other in (apart, turned):
        other.copy_(f)
        assert list(checks(world, replace(state, f=other), 4.0)) == said


def test_what_lies_beyond_the_ends_is_that_of_the_tail():
    """Of a Maxwellian: T (L^2 + 2 T) f(L), the integral of c^3 f beyond the end L."""
    v, one = Velocities((16,), (-4.0,), (4.0,)), torch.ones(1, dtype=torch.float64)
    f = torch.exp(-0.5 * v.axis(0) ** 2) / math.sqrt(2 * math.pi)
    found = adequacy._outside(v, f[None, None], one, 0.0 * one[:, None], one)
    beyond = (16.0 + 2.0) * math.exp(-8.0) / math.sqrt(2 * math.pi)
    assert found == pytest.approx(beyond, rel=0.1)


def test_the_slopes_beside_a_jump_at_zero_are_taken_off_the_midpoint_rule():
    v = Velocities((64,), (-16.0,), (16.0,))
    h, line = v.spacing[0], v.axis(0)
    f = torch.where(line > 0, torch.exp(-line), 0.0)
    plain = h * float(f.sum()) - 1.0
    assert plain == pytest.approx(-(h**2) / 24, rel=0.1)
    assert abs(h * float((adequacy.corrected(v, 0) * f).sum()) - 1.0) < 0.5 * abs(plain)


@pytest.mark.parametrize(("speed", "temperature"), [(100.0, 1.0), (0.0, 1e-6), (0.0, -1.0)])
def test_a_state_beyond_the_nodes_is_nan_which_guards_stop_at(speed, temperature):
    v, one = Velocities((16,), (-5.0,), (5.0,)), torch.ones(2, dtype=F64)
    found = maxwellian(v, one, speed * one[:, None], temperature * one, 3)
    assert not bool(found.isfinite().all())
