"""Hyperbolic moment equations in a plane: speeds, rotation, the kinetic limit, walls."""

import math

import numpy as np
import pytest
import torch
from moment_matrices import absolute, apply
from torch.autograd import forward_ad

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Open, Sides, Wall
from scalebridge.engine.gas.equations import hermite
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.observe import relative_drift

F64 = torch.float64
CPU = torch.device("cpu")
WAVE = 2 * math.pi


def random_state(basis, size, seed):
    rng = torch.Generator().manual_seed(seed)
    count = len(basis.indices)
    w = size * torch.randn(1, count, 1, generator=rng, dtype=F64)
    w[:, basis.low[0]] = 0.7
    w[:, basis.low[1 + basis.axes :]] = 1.3 * (1 + 0.3 * size)
    w[:, basis.low[-1]] = 1.3 * (1 - 0.3 * size)
    return w


def matrix(basis, w, direction):
    """A(w).n by columns."""
    count = w.shape[1]
    eye, points = torch.eye(count, dtype=F64)[None], w.expand(1, count, count)
    return sum(n * apply(basis, points, eye, axis)[0] for axis, n in enumerate(direction))


def grad_matrix(order, axes, w, direction):
    """The same without the regularisation: f_{M+1} = 0 in the exact equations."""
    larger = hermite.basis(order + 1, axes, F64, CPU)
    count = w.shape[1]
    padded = torch.zeros(1, len(larger.indices), 1, dtype=F64)
    padded[:, :count] = w
    return matrix(larger, padded, direction)[:count, :count]


@pytest.mark.parametrize(("order", "axes"), [(3, 2), (4, 2), (5, 2), (3, 3)])
def test_speeds_are_hermite_roots_in_every_direction_and_grad_s_are_complex(order, axes):
    basis = hermite.basis(order, axes, F64, CPU)
    lost = 0.0
    for seed in range(4):
        w = random_state(basis, 0.3, seed)
        rng = np.random.default_rng(seed)
        n = rng.standard_normal(axes)
        n /= np.linalg.norm(n)
        speeds = torch.linalg.eigvals(matrix(basis, w, n))
        assert float(speeds.imag.abs().max()) < 1e-6
        u = sum(n[d] * float(w[0, basis.low[1 + d]]) for d in range(axes))
        theta = float(w[0, basis.low[1 + axes :]].mean())
        every = [hermite.roots(j - 1) for j in range(1, order + 2)]
        allowed = u + math.sqrt(theta) * np.concatenate(every)
        gap = np.abs(speeds.real.numpy()[:, None] - allowed).min(1)
        assert gap.max() < 1e-5
        assert speeds.real.max() == pytest.approx(allowed.max(), abs=1e-6)
        planted = torch.linalg.eigvals(grad_matrix(order, axes, w, n))
        lost = max(lost, float(planted.imag.abs().max()))
    assert lost > 0.01


@pytest.mark.parametrize("axis", [0, 1])
def test_upwinding_is_the_absolute_value_of_the_matrix(axis):
    basis = hermite.basis(4, 2, F64, CPU)
    w = random_state(basis, 0.1, 5)
    w[:, basis.low[1 + axis]] = 9.0  # all waves go one way: |A| = A
    d = torch.randn(w.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    found, along = (f(basis, w, d, axis) for f in (absolute, apply))
    assert torch.allclose(found, along, atol=1e-12)
    w[:, basis.low[1 + axis]] = -9.0
    found, along = (f(basis, w, d, axis) for f in (absolute, apply))
    assert torch.allclose(found, -along, atol=1e-12)


def oblique(shape, upper, normal, axes=2):
    """A smooth flow of wave length 1 along ``normal``."""
    grid = Grid(shape, (0.0,) * len(shape), upper)
    phase = WAVE * sum(n * x for n, x in zip(normal, grid.points(), strict=False))
    along = torch.tensor([*normal, 0.0][:axes], dtype=F64)
    across = torch.tensor([-normal[1], normal[0], 0.0][:axes], dtype=F64)
    u = 0.2 * phase.cos()[..., None] * along + 0.2 * phase.sin()[..., None] * across
    rho, t = 1 + 0.2 * phase.sin(), 1 + 0.1 * phase.cos()
    return grid, rho[None], u[None], t[None]


def run(grid, rho, u, t, steps, end, order=4, knudsen=0.1):
    kn = torch.tensor([knudsen], dtype=F64)
    gas = Gas.constant_time(u.shape[-1])
    sides = (ALL_PERIODIC,) * grid.dim
    world = hermite.hermite_world(grid, sides, gas, kn, order, end / steps)
    state = world.equilibrium(rho, u, t)
    begun = world.observe(state)
    for _ in range(steps):
        state = world.step(state)
    ended = world.observe(state)
    drift = relative_drift(ended, begun)
    assert max(float(d.max()) for d in drift.values()) < 1e-13
    return ended


@pytest.mark.parametrize("axes", [2, 3])
def test_a_flow_along_y_is_that_along_x_turned(axes):
    order = 5 - (axes == 3)
    line = run(*oblique((16,), (1.0,), (1.0, 0.0), axes), 10, 0.06, order)
    x = run(*oblique((16, 4), (1.0, 1.0), (1.0, 0.0), axes), 10, 0.06, order)
    y = run(*oblique((4, 16), (1.0, 1.0), (0.0, 1.0), axes), 10, 0.06, order)

    def same(a, b):
        return torch.allclose(a, b, atol=1e-13)

    for name in ("density", "temperature", "entropy"):
        assert same(x[name][0], line[name][0][:, None].expand(-1, 4))
        assert same(y[name][0].mT, x[name][0])
    assert same(y["stress"][0, ..., 1, 1].mT, x["stress"][0, ..., 0, 0])
    assert same(y["stress"][0, ..., 0, 1].mT, -x["stress"][0, ..., 0, 1])
    assert same(y["heat_flux"][0, ..., 0].mT, -x["heat_flux"][0, ..., 1])


def test_a_flow_along_the_diagonal_is_that_along_x_to_second_order():
    side, end, half = math.sqrt(2), 0.06, math.sqrt(0.5)
    fine = run(*oblique((192,), (1.0,), (1.0, 0.0)), 60, end)
    gaps = {"density": [], "temperature": []}
    for cells in (20, 40):
        grid, *start = oblique((cells, cells), (side, side), (half, half))
        found = run(grid, *start, cells // 2, end)
        x, y = grid.points()
        place = half * (x + y)[..., None] - 0.5 / 192
        waves = torch.exp(1j * WAVE * torch.arange(40) * place)
        for name, kept in gaps.items():
            series = torch.fft.rfft(fine[name][0])[:40] / 192
            exact = 2 * (waves * series).real.sum(-1) - series[0].real
            kept.append(float((found[name][0] - exact).abs().mean()))
    for name, (coarse, finer) in gaps.items():
        assert finer < 0.35 * coarse and finer < 1e-3, name


@pytest.mark.slow
def test_more_moments_come_closer_to_the_kinetic_solution_in_a_plane():
    n, end, kn = 24, 0.12, 1.0
    grid = Grid((n, n), (0.0, 0.0), (1.0, 1.0))
    x, y = (WAVE * c for c in grid.points())
    rho, t = 1 + 0.2 * torch.sin(x + y)[None], 1 + 0.1 * torch.cos(x - y)[None]
    u = torch.stack([0.3 * torch.sin(y), 0.2 * torch.cos(x)], -1)[None]
    kinetic = KineticWorld(
        grid,
        (ALL_PERIODIC,) * 2,
        Velocities.symmetric(2, 20, 6.0),
        Gas.constant_time(2),
        torch.tensor([kn], dtype=F64),
    )
    steps = math.ceil(end / kinetic.time_step)
    kinetic = kinetic.with_time_step(end / steps)
    truth = kinetic.observe(kinetic.advance(kinetic.equilibrium(rho, u, t), steps))
    gaps = []
    for order in (3, 5, 7):
        found = run(grid, rho, u, t, 50, end, order, kn)
        gap = [
            float((found[name] - truth[name]).abs().mean() / truth[name].abs().mean())
            for name in ("stress", "heat_flux")
        ]
        gaps.append(max(gap))
    assert gaps[1] < 0.3 * gaps[0] and gaps[2] < 0.5 * gaps[1] and gaps[2] < 0.04, gaps


@pytest.mark.parametrize(("axes", "prandtl"), [(2, 0.5), (3, 2 / 3), (3, 1.0)])
def test_stress_and_heat_flux_decay_at_the_rates_of_the_prandtl_number(axes, prandtl):
    grid = Grid((4,), (0.0,), (1.0,))
    basis = hermite.basis(4, axes, F64, CPU)
    one = torch.ones(1, 4, dtype=F64)
    w = hermite.Hermite(Gas(axes), 4).equilibrium(
        one, torch.zeros(1, 4, axes, dtype=F64), one
    )
    w[:, basis.place(0, 1)], w[:, basis.place(0, 0, 0)] = 0.02, 0.01
    gas = Gas.constant_time(axes, prandtl)
    kn = torch.tensor([1.0], dtype=F64)
    world = hermite.hermite_world(grid, (ALL_PERIODIC,), gas, kn, 4, 0.02)
    state = world.start(w)
    begun = world.observe(state)
    for _ in range(25):
        state = world.step(state)
    ended = world.observe(state)
    shear = ended["stress"][0, 0, 0, 1] / begun["stress"][0, 0, 0, 1]
    heat = ended["heat_flux"][0, 0, 0] / begun["heat_flux"][0, 0, 0]
    assert -2 * math.log(float(shear)) == pytest.approx(1.0, abs=1e-3)
    assert -2 * math.log(float(heat)) == pytest.approx(prandtl, abs=1e-3)


def between_walls(order, cells=12, knudsen=0.2, end=2.0):
    """Shear stress and heat flux between walls that slide and differ in temperature."""
    grid = Grid((cells,), (-0.5,), (0.5,))
    sides = (Sides(Wall(0.95, (0.0, -0.05)), Wall(1.05, (0.0, 0.05))),)
    kn, x = torch.tensor([knudsen], dtype=F64), grid.centers(0)[None]
    t, u = 1 + 0.07 * x, torch.stack([0 * x, 0.07 * x], -1)
    gas = Gas.power_law(2)
    if order is None:
        world = KineticWorld(grid, sides, Velocities.symmetric(2, 32, 6.0), gas, kn)
        steps = math.ceil(end / world.time_step)
        state = world.advance(world.equilibrium(1 / t, u, t), steps)
    else:
        world = hermite.hermite_world(grid, sides, gas, kn, order, 1.0)
        w = world.equations.equilibrium(1 / t, u, t)
        steps = math.ceil(end * world.courant_rate(w) / 0.9)
        world = world.with_time_step(end / steps)
        state = world.start(w)
        for _ in range(steps):
            state = world.step(state)
        assert abs(float(world.observe(state)["mass"] / (1 / t).mean() - 1)) < 1e-13
    seen = world.observe(state)
    return float(seen["stress"][..., 0, 1].mean()), float(seen["heat_flux"][..., 0].mean())


def test_walls_give_the_shear_and_the_heat_of_the_kinetic_solution():
    shear, heat = between_walls(None)
    for order, bound in ((3, 0.06), (5, 0.02)):
        found = between_walls(order)
        assert abs(found[0] / shear - 1) < bound, order
        assert abs(found[1] / heat - 1) < bound, order
    # the planted defect: no slip and no jump
    assert abs(0.2 * 0.1 / -shear - 1) > 0.3
    assert abs(2 * 0.2 * 0.1 / -heat - 1) > 0.3


def test_walls_across_y_are_walls_across_x_turned_and_a_mirror_keeps_the_energy():
    ends = Sides(Wall(0.9, (0.1, 0.0)), Wall(1.2, (-0.1,), 0.5))
    turned = Sides(Wall(0.9, (0.0, 0.1)), Wall(1.2, (0.0, -0.1), 0.5))
    kn, gas, found = torch.tensor([0.3], dtype=F64), Gas.power_law(2), []
    for shape, sides in (((4, 8), (ALL_PERIODIC, ends)), ((8, 4), (turned, ALL_PERIODIC))):
        world = hermite.hermite_world(
            Grid(shape, (0.0, 0.0), (1.0, 1.0)), sides, gas, kn, 4, 0.01
        )
        state = world.init(torch.Generator())
        for _ in range(15):
            state = world.step(state)
        found.append(world.observe(state))
    across, along = found
    assert torch.allclose(across["temperature"].mT, along["temperature"], atol=1e-13)
    shear = across["stress"][..., 0, 1].mT
    assert torch.allclose(shear, along["stress"][..., 0, 1], atol=1e-13)
    assert float(shear.abs().max()) > 0.01
    mirror = Sides(Wall(0.5, (), 0.0), Wall(2.0, (), 0.0))
    grid = Grid((8, 8), (0.0, 0.0), (1.0, 1.0))
    world = hermite.hermite_world(grid, (mirror, mirror), gas, kn, 4, 0.01)
    x, y = grid.points()
    state = world.equilibrium((1 + x * y)[None], torch.zeros(1, 8, 8, 2), (1 + x)[None])
    begun = world.observe(state)
    for _ in range(15):
        state = world.step(state)
    drift = relative_drift(world.observe(state), begun)
    assert float(drift["mass_drift"]) < 1e-13 and float(drift["energy_drift"]) < 1e-13


def test_bad_input_is_refused():
    grid, kn = Grid((8, 8), (0.0, 0.0), (1.0, 1.0)), torch.tensor([0.1])
    sides = (ALL_PERIODIC, Sides(Open(), Open()))
    with pytest.raises(InputError, match=r"gas\.dimension"):
        hermite.hermite_world(grid, sides, Gas.constant_time(1), kn, 4, 1e-3)
    with pytest.raises(InputError, match="order"):
        hermite.hermite_world(grid, sides, Gas.constant_time(2), kn, 2, 1e-3)
    with pytest.raises(InputError, match="CFL"):
        hermite.hermite_world(grid, sides, Gas.constant_time(2), kn, 3, 0.1).init(
            torch.Generator()
        )


@pytest.mark.parametrize(("axes", "order"), [(1, 4), (2, 3), (3, 5)])
def test_the_kernel_of_jumps_is_the_algebra_of_tensors(axes: int, order: int) -> None:
    b = hermite.basis(order, axes, F64, torch.device("cpu"))
    rng = torch.Generator().manual_seed(3)
    w = 0.1 * torch.randn(2, len(b.indices), 13, dtype=F64, generator=rng)
    w[:, [0, *b.low[1 + axes :]]] += 1.0
    other = w + 0.05 * torch.randn(w.shape, dtype=F64, generator=rng)
    for axis in range(axes):
        plain, fused = (
            kind(b, axis, w, other) for kind in (hermite.Faces, hermite.FusedFaces)
        )
        torch.testing.assert_close(fused.along(), plain.along())
        for ours, theirs in zip(fused.upwinded(), plain.upwinded(), strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(fused.f, plain.f)


def test_what_is_differentiated_is_left_to_tensors() -> None:
    some = torch.ones(1, 4, 3, dtype=F64)
    taught = some.clone().requires_grad_()
    assert hermite.FusedFaces.takes(some, some)
    assert not hermite.FusedFaces.takes(some, taught)
    assert not hermite.FusedFaces.takes(some.float(), some.float())
    with torch.no_grad():
        assert hermite.FusedFaces.takes(some, taught)
    seen: list[bool] = []

    def noted(x: torch.Tensor) -> torch.Tensor:
        seen.append(hermite.FusedFaces.takes(some, x))
        return x

    torch.func.jvp(noted, (some,), (some,))
    torch.func.vmap(noted)(some)
    with forward_ad.dual_level():
        noted(forward_ad.make_dual(some, some))
    assert seen == [False] * 3
