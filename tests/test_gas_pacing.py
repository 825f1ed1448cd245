"""Steps that follow the state: Courant number, even frames, resume, the named stop."""

import math

import pytest
import torch

from scalebridge.engine import commands
from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.gas import exact
from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.hermite import Hermite
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.pacing import Paced
from scalebridge.engine.gas.scheme.finite_volume import MomentWorld

SHORT = ["grid.cells=[64]", "time.end=0.02", "time.frames=4"]


def fluid(speed: float, knudsen: float | None = None):
    grid = Grid((32,), (0.0,), (1.0,))
    kn = None if knudsen is None else torch.tensor([knudsen], dtype=torch.float64)
    world = FluidWorld(
        grid, (ALL_PERIODIC,), Gas.power_law(3, 1.0, 1.0), 1, 1e-4, knudsen=kn
    )
    x = grid.points()[0][None]
    u = speed * torch.sin(2 * math.pi * x)[..., None]
    return world, world.start(torch.ones_like(x), u, torch.ones_like(x))


def test_frames_are_met_exactly_and_every_step_keeps_the_courant_number():
    world, state = fluid(1.0)
    paced = Paced(world, 0.5, 0.01, 1e-9)
    for frame in range(1, 4):
        longest = world.stable_step(state, 0.5)
        steps = int(state.step)
        state = paced.step(state)
        assert float(state.time) == frame * 0.01
        made = int(state.step) - steps
        assert math.ceil(0.01 / longest - 1e-9) <= made <= math.ceil(0.01 / longest) + 1


def test_the_step_shortens_where_the_flow_quickens():
    slow, quick = (Paced(*_at(u)) for u in (0.1, 0.7))
    one, two = (p.step(fluid(u)[1]) for p, u in ((slow, 0.1), (quick, 0.7)))
    assert int(two.step) > int(one.step)


def _at(speed: float):
    return fluid(speed)[0], 0.4, 0.2, 1e-9


def test_viscosity_asks_for_stages_as_the_step_does():
    world, state = fluid(0.1, knudsen=1.0)
    assert world.viscous_stages == 0
    assert world.paced(state, 0.01).viscous_stages > 3
    assert world.paced(state, 1e-6).viscous_stages == 0


def test_moment_equations_follow_too():
    grid, kn = Grid((32,), (0.0,), (1.0,)), torch.tensor([0.1], dtype=torch.float64)
    world = MomentWorld(
        grid, (ALL_PERIODIC,), Hermite(Gas.constant_time(1), order=4), kn, 1e-3
    )
    one = torch.ones(1, 32, dtype=torch.float64)
    state = world.equilibrium(one, 0.3 * one[..., None], one)
    after = Paced(world, 0.4, 0.05, 1e-9).step(state)
    assert float(after.time) == 0.05
    assert int(after.step) == math.ceil(0.05 / world.stable_step(state, 0.4))


def test_a_step_below_the_bound_stops_by_name(tmp_path):
    with pytest.raises(GuardError, match=r"fell below time.shortest = 0.001"):
        commands.run(
            "toro1", [*SHORT, "time.shortest=0.001", "time.cfl=0.1"], tmp_path / "a"
        )
    assert (tmp_path / "a" / "last_good.safetensors").exists()


def test_a_run_resumes_bit_for_bit(tmp_path):
    whole = commands.run("toro3", SHORT[:1], tmp_path / "whole")
    again = commands.resume(tmp_path / "whole", previous=True)
    assert again.figures["density_error"].value == whole.figures["density_error"].value


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("toro1", ["time.cfl=1.5"], "less than or equal to 1"),
        ("toro1", ["time.shortest=1.0"], "must lie below end"),
        ("couette", ["time.cfl=0.4"], "follows from its velocities"),
        ("sod", ["time.shortest=1e-9"], "shortest: needs cfl"),
        ("toro1", ["reference=sedov"], "sedov needs a gas at rest"),
        ("sedov_2d", ["reference=noh"], "noh needs a gas that moves"),
    ],
)
def test_wrong_steps_are_refused(name, settings, words):
    with pytest.raises(InputError, match=words):
        commands.check(name, settings)


def test_energies_of_explosions_are_the_published_ones():
    # Kamm, Timmes, LA-UR-07-2849, 2007: energies of the blast at their radii
    published = {2: 0.984041, 3: 0.851072}
    for dimension, value in published.items():
        assert exact.sedov(1.4, dimension)[0] == pytest.approx(value, rel=5e-5)
