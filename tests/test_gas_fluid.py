"""Euler and Navier-Stokes-Fourier against exact solutions; planted defects; refusals."""

import math
from dataclasses import replace

import pytest
import torch
from state_equations import StiffenedGas

from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.gas import exact
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Open, Sides, Wall
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.state_equation import IdealGas
from scalebridge.engine.gas.exact import shock_jump
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.observe import relative_drift

F64 = torch.float64
OPEN = Sides(Open(), Open())


def sod(gamma, scheme="muscl", cells=200, equation=None, steps=400, below=0.0):
    grid = Grid((cells,), (0.0,), (1.0,))
    world = FluidWorld(
        grid,
        (OPEN,),
        Gas(3),
        1,
        0.15 / steps,
        scheme,
        state_equation=equation or IdealGas(gamma),
    )
    x = grid.centers(0)[None]
    rho, p = torch.where(x < 0.5, 1.0, 0.125), torch.where(x < 0.5, 1.0, 0.1)
    state = world.start(rho, torch.zeros(1, cells, 1), p - below)
    for _ in range(steps):
        state = world.step(state)
    exactly = exact.riemann(
        exact.Gas1(1, 0, 1), exact.Gas1(0.125, 0, 0.1), gamma, (x[0] - 0.5) / 0.15
    )
    return world, state, exactly


@pytest.mark.parametrize(
    ("gamma", "star"),
    [
        (1.4, (0.303130, 0.927453)),
        (5 / 3, (0.293945, 0.841195)),
        (2.0, (0.285975, 0.760062)),
        (3.0, (0.272909, 0.608567)),
    ],
)
def test_exact_riemann_and_the_scheme_that_must_follow_it(gamma, star):
    world, state, (rho, u, p) = sod(gamma)
    middle = 0.7 * star[1] * 0.15 + 0.5
    at = int(middle * 200)
    assert abs(float(p[at]) - star[0]) < 2e-6
    assert abs(float(u[at]) - star[1]) < 2e-6
    found = world.observe(state)
    assert float((found["density"][0] - rho).abs().mean()) < 6e-3
    # planted defect: another gamma is not this solution
    wrong = exact.riemann(
        exact.Gas1(1, 0, 1),
        exact.Gas1(0.125, 0, 0.1),
        gamma + 0.4,
        (world.grid.centers(0) - 0.5) / 0.15,
    )
    assert float((found["density"][0] - wrong[0]).abs().mean()) > 7e-3


def test_weno_is_sharper_and_a_general_state_equation_gives_the_same():
    _, state, (rho, _, _) = sod(1.4, "weno5")
    world, muscl, _ = sod(1.4)
    sharp = (world.inside(state.u)[0, 0] - rho).abs().mean()
    assert sharp < (world.inside(muscl.u)[0, 0] - rho).abs().mean()
    # p + offset is the pressure of an ideal gas, so the motion is the same
    _, general, _ = sod(1.4, equation=StiffenedGas(1.4, 0.05), below=0.05)
    gap = (world.inside(general.u) - world.inside(muscl.u))[:, :2].abs().mean()
    assert float(gap) < 2e-3


def vortex(cells):
    """Mean density, velocity and pressure of a vortex at rest."""
    grid = Grid((cells, cells), (-5.0, -5.0), (5.0, 5.0))

    def averaged(x, y):
        rho, u, v, p = exact.vortex(x, y, 1.4)
        e = p / 0.4 + 0.5 * rho * (u * u + v * v)
        return torch.stack([rho, rho * u, rho * v, e])

    cells_ = grid.average(lambda x, y: averaged(x, y), 3)
    rho = cells_[0]
    velocity = torch.stack([cells_[1] / rho, cells_[2] / rho], -1)
    p = 0.4 * (cells_[3] - 0.5 * rho * velocity.square().sum(-1))
    return grid, rho, velocity, p


def vortex_error(cells, scheme):
    grid, rho, velocity, p = vortex(cells)
    steps = 14 * (cells // 32) ** 2 if scheme == "weno5" else 12 * cells // 32
    world = FluidWorld(
        grid, (ALL_PERIODIC,) * 2, Gas(3), 1, 1.0 / steps, scheme,
        state_equation=IdealGas(1.4),
    )  # fmt: skip
    state = world.start(rho[None], velocity[None], p[None])
    for _ in range(steps):
        state = world.step(state)
    return float((world.inside(state.u)[0, 0] - rho).abs().mean())


@pytest.mark.parametrize(("scheme", "order"), [("muscl", 1.9), ("weno5", 4.5)])
def test_order_on_the_vortex(scheme, order):
    coarse, fine = vortex_error(32, scheme), vortex_error(64, scheme)
    assert math.log2(coarse / fine) > order


@pytest.mark.parametrize("across", [0, 1, 2])
def test_a_plane_flow_is_the_same_in_every_plane_of_space(across):
    plane, rho, velocity, p = vortex(32)
    step = {"time_step": 0.05, "scheme": "weno5", "state_equation": IdealGas(1.4)}
    flat = FluidWorld(plane, (ALL_PERIODIC,) * 2, Gas(3), 1, **step)
    wanted = flat.start(rho[None], velocity[None], p[None])
    edges, cells = [-5.0, -5.0], [32, 32]
    for values, more in ((edges, -1.0), (cells, 4)):
        values.insert(across, more)
    grid = Grid(tuple(cells), tuple(edges), tuple(-x for x in edges))
    world = FluidWorld(grid, (ALL_PERIODIC,) * 3, Gas(3), 1, **step)
    thick = [
        torch.stack([x] * 4, across)[None]
        for x in (rho, velocity[..., 0], velocity[..., 1], p)
    ]
    drift = torch.full_like(thick[0], 0.3)  # along the axis of the vortex: nothing changes
    u = thick[1:3]
    u.insert(across, drift)
    state = world.start(thick[0], torch.stack(u, -1), thick[3])
    for _ in range(20):
        wanted, state = flat.step(wanted), world.step(state)
    here = world.inside(state.u)[0, 0].select(across, 1)
    gap = (here - flat.inside(wanted.u)[0, 0]).abs().max()
    assert float(gap) < 1e-13


def test_the_first_order_scheme_is_not_of_second_order():
    assert math.log2(vortex_error(32, "first") / vortex_error(64, "first")) < 1.3


def test_three_dimensions_conserve_and_agree_with_one():
    grid = Grid((16, 8, 8), (0.0,) * 3, (1.0,) * 3)
    world = FluidWorld(grid, (ALL_PERIODIC,) * 3, Gas(3), 2, 2e-3)
    x = grid.points()[0]
    rho = 1 + 0.2 * torch.sin(2 * torch.pi * x).expand(2, -1, -1, -1)
    u = torch.zeros(2, *grid.shape, 3)
    u[..., 0] = 0.5
    state = world.start(rho, u, torch.ones_like(rho))
    begun = world.observe(state)
    for _ in range(50):
        state = world.step(state)
    ended = world.observe(state)
    assert max(float(v.max()) for v in relative_drift(ended, begun).values()) < 1e-13
    line = FluidWorld(Grid((16,), (0.0,), (1.0,)), (ALL_PERIODIC,), Gas(3), 1, 2e-3)
    alone = line.start(rho[:1, :, 0, 0], u[:1, :, 0, 0, :1], torch.ones(1, 16))
    for _ in range(50):
        alone = line.step(alone)
    gap = ended["density"][1, :, 3, 3] - line.observe(alone)["density"][0]
    assert float(gap.abs().max()) < 1e-12


@pytest.mark.parametrize("scheme", ["first", "muscl", "weno5"])
@pytest.mark.parametrize("pressures", [None, (0.5, 0.7), (100.0, 1e-2)])
def test_single_precision_agrees(scheme, pressures):
    """Also beside jumps, where smooth stencils get weights that overflow in f32."""
    worlds = []
    for dtype in (torch.float64, torch.float32):
        grid = Grid((64,), (0.0,), (1.0,))
        world = FluidWorld(grid, (OPEN,), Gas(3), 1, 2e-4, scheme, dtype=dtype)
        x = grid.centers(0)[None]
        rho = torch.ones_like(x) if pressures else 1 + 0.2 * torch.sin(2 * torch.pi * x)
        low, high = pressures or (1.0, 1.0)
        state = world.start(rho, torch.zeros(1, 64, 1), torch.where(x < 0.5, low, high))
        for _ in range(100):
            state = world.step(state)
        worlds.append(world.observe(state)["density"])
    assert float((worlds[0] - worlds[1]).abs().max()) < 2e-5


def shear_decay(kn, step, stages, steps):
    """Decay rate of ``u_y(x)`` over the exact ``mu k^2 / rho``."""
    grid = Grid((64, 4), (0.0, 0.0), (1.0, 0.0625))
    world = FluidWorld(
        grid,
        (ALL_PERIODIC,) * 2,
        Gas.power_law(3),
        1,
        step,
        knudsen=torch.tensor([kn], dtype=F64),
        viscous_stages=stages,
    )
    x = grid.points()[0][None]
    one = torch.ones_like(x)
    u = torch.stack([0 * x, 1e-3 * torch.sin(2 * torch.pi * x)], -1)
    state = world.start(one, u, one)
    before = world.observe(state)
    for _ in range(steps):
        state = world.step(state)
    left = world.fields(state)[1][0, :, 0, 1].abs().max() / u.abs().max()
    assert float((world.observe(state)["energy"] / before["energy"]).log().abs()) < 1e-12
    return -math.log(float(left)) / (steps * step) / (kn * 4 * math.pi**2)


def test_viscosity_damps_shear_as_it_should():
    """The transport coefficients are those of the gas."""
    assert abs(shear_decay(0.01, 2e-3, 0, 100) - 1) < 0.02


def test_super_time_stepping_reaches_large_knudsen_numbers():
    """A step 50 times the explicit limit; a planted lack of stages is refused."""
    assert abs(shear_decay(1.0, 2e-3, 15, 30) - 1) < 0.01
    with pytest.raises(InputError, match="viscous_stages"):
        shear_decay(1.0, 2e-3, 5, 1)
    with pytest.raises(InputError, match="too long for the viscosity"):
        shear_decay(1.0, 2e-3, 0, 1)


@pytest.mark.parametrize("stages", [0, 5])
def test_ghost_cells_are_zero_between_steps(stages):
    """Equal runs have equal states, whatever memory the allocator hands out."""
    walls = Sides(Wall(1.0), Wall(1.0))
    world = FluidWorld(
        Grid((8, 6), (0.0, 0.0), (1.0, 1.0)),
        (walls, ALL_PERIODIC),
        Gas.power_law(3),
        1,
        1e-3,
        knudsen=torch.tensor([1e-2], dtype=F64),
        viscous_stages=stages,
    )
    u = world.step(world.init(torch.Generator())).u
    inside = world.inside(u).clone()
    world.inside(u).zero_()
    assert bool((inside[:, 0] > 0).all())
    assert not u.any()


@pytest.mark.slow
def test_couette_with_slip():
    grid = Grid((32, 4), (0.0, 0.0), (1.0, 0.125))
    kn, speed = 0.02, 0.1
    walls = Sides(Wall(1.0, (0.0, -speed / 2)), Wall(1.0, (0.0, speed / 2)))
    world = FluidWorld(
        grid,
        (walls, ALL_PERIODIC),
        Gas.power_law(3),
        1,
        4e-3,
        knudsen=torch.tensor([kn], dtype=F64),
    )
    one = torch.ones(1, 32, 4, dtype=F64)
    u = torch.zeros(1, 32, 4, 2, dtype=F64)
    u[..., 1] = speed * (grid.points()[0] - 0.5) * 0.9
    state = world.start(one, u, one)
    before = world.observe(state)["mass"]
    for _ in range(4000):
        state = world.step(state)
    found = world.observe(state)
    slip = 1.01619 * kn * math.sqrt(2)
    slope = speed / (1 + 2 * slip)
    shear = found["stress"][0, 8:24, 1, 0, 1].mean()
    assert abs(float(shear) / (-kn * slope) - 1) < 0.01
    assert abs(float(found["mass"] / before) - 1) < 1e-12


def test_shock_jump_is_stationary():
    speed, rho, u, t = shock_jump(2.0, 5 / 3)
    assert rho * u == pytest.approx(speed)
    assert rho * (u * u + t) == pytest.approx(speed**2 + 1)
    _, density, *_ = exact.shock_structure(2.0, lambda t: 0.5 * t**0.5, lambda t: 1.0)
    assert density[0] == pytest.approx(1.0, abs=1e-3)
    assert density[-1] == pytest.approx(rho, abs=1e-3)


@pytest.mark.parametrize("mach", [1.002, 1.01, 1.1, 20.0])
def test_a_shock_of_any_strength_joins_its_ends(mach):
    _, ratio, *_ = shock_jump(mach, 5 / 3)
    x, density, *_ = exact.shock_structure(mach, lambda t: 0.5 * t**0.5, lambda t: 2 / 3)
    share = (density - 1) / (ratio - 1)
    assert float(share[0].abs()) < 2e-3 and float((share[-1] - 1).abs()) < 2e-3
    assert float(share[len(x) // 2]) == pytest.approx(0.5, abs=1e-6)


def test_bad_input_is_refused():
    grid = Grid((16,), (0.0,), (1.0,))
    kn = torch.tensor([0.1])
    with pytest.raises(InputError, match="gamma"):
        FluidWorld(grid, (OPEN,), Gas(3), 1, 1e-3, knudsen=kn, state_equation=IdealGas(1.4))
    world = FluidWorld(grid, (OPEN,), Gas(3), 1, 1e-1)
    one = torch.ones(1, 16, dtype=F64)
    still = torch.zeros(1, 16, 1, dtype=F64)
    with pytest.raises(InputError, match="CFL"):
        world.start(one, still, one)
    with pytest.raises(InputError, match="density"):
        world.start(-one, still, one)
    with pytest.raises(InputError, match="viscosity"):
        FluidWorld(grid, (OPEN,), Gas(3), 1, 1e-2, knudsen=kn).start(one, still, one)


def test_a_vacuum_stops_the_run_with_cell_and_step():
    grid = Grid((64,), (-0.5,), (0.5,))
    world = FluidWorld(grid, (OPEN,), Gas(3), 1, 4e-3, "weno5")
    one = torch.ones(1, 64, dtype=F64)
    u = torch.where(grid.centers(0) < 0, -1.0, 1.0)[None, :, None] * 2.0
    state = world.start(one, u, 1e-3 * one)

    def go(state):
        for _ in range(200):
            state = world.with_time_step(8e-3).step(state)

    with pytest.raises(GuardError, match=r"cell .* step \d+; lower") as caught:
        go(state)
    assert caught.value.step > 0


@pytest.mark.parametrize("shape", [(50,), (20, 17), (9, 10, 13)])
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_what_is_kept_of_a_step_is_what_the_next_would_find(shape, dtype):
    """To the last bit, as a resumed run finds it; nothing of a state that was changed."""
    dim = len(shape)
    grid = Grid(shape, (0.0,) * dim, (1.0,) * dim)
    world = FluidWorld(
        grid, (ALL_PERIODIC,) * dim, Gas(3), 1, 0.02 / max(shape), dtype=dtype
    )
    rho = (1 + 0.5 * torch.sin(2 * math.pi * sum(grid.points())))[None]
    kept = again = world.start(rho, torch.stack([rho] * dim, -1), rho)
    for _ in range(3):
        kept, again = world.step(kept), world.step(replace(again, u=again.u.clone()))
    assert torch.equal(kept.u, again.u)
    doubled = world.step(replace(kept, u=2 * kept.u)).u
    kept = world.step(again)
    kept.u.copy_(2 * again.u)
    assert torch.equal(world.step(kept).u, doubled)
