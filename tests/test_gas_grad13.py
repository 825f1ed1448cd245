"""Grad's thirteen moments: rotation, walls, conservation, the monitor of hyperbolicity."""

import math

import numpy as np
import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Open, Sides, Wall
from scalebridge.engine.gas.equations import grad13
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.observe import relative_drift
from scalebridge.engine.gas.scheme.finite_volume import MomentWorld

F64 = torch.float64
GAS = Gas.power_law(3)


def thirteen(grid, sides, gas, knudsen, step):
    return MomentWorld(grid, sides, grad13.Grad13(gas), knudsen, step)


AWAY = torch.tensor(
    [
        [1.2, 0.1, 0.3, -0.2, 0.9, 0.05, 0.04, -0.02, -0.01, 0.03, -0.03, 0.05, 0.02],
        [0.7, -0.2, 0.0, 0.1, 1.3, -0.1, 0.02, 0.01, 0.06, -0.05, 0.08, -0.04, 0.01],
    ],
    dtype=F64,
)


def distribution(w, v):
    """Grad's distribution of one state at the velocities ``v [..., 3]``."""
    rho, t, c = w[0], w[4], v - w[1:4]
    xx, xy, xz, yy, yz = w[5:10]
    stress = torch.stack(
        [xx, xy, xz, xy, yy, yz, xz, yz, -xx - yy],
    ).reshape(3, 3)
    square = c.square().sum(-1)
    bell = rho * torch.exp(-0.5 * square / t) / (2 * math.pi * t) ** 1.5
    shear = torch.einsum("...i,ij,...j->...", c, stress, c) / (2 * rho * t * t)
    heat = (c @ w[10:]) * (square / t - 5) / (5 * rho * t * t)
    return bell * (1 + shear + heat)


def nodes(half=None, count=56, reach=8.5):
    """Velocities and weights: Gauss-Legendre, of one half along x if wanted."""
    x, weight = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(count))
    whole = first = (reach * x, reach * weight)
    if half is not None:
        first = (0.5 * reach * half * (x + 1), 0.5 * reach * weight)
    grid = torch.meshgrid(first[0], whole[0], whole[0], indexing="ij")
    weights = torch.meshgrid(first[1], whole[1], whole[1], indexing="ij")
    return torch.stack(grid, -1), weights[0] * weights[1] * weights[2]


def moments_of(f, v, weight):
    """The thirteen moments, in the order of the state."""
    square = v.square().sum(-1)
    parts = [torch.ones_like(square), *v.unbind(-1)]
    parts += [v[..., i] * v[..., j] for i, j in grad13.PAIRS]
    parts += [v[..., i] * square for i in range(3)]
    return torch.stack([(weight * f * part).sum() for part in parts])


@pytest.mark.parametrize("axis", [0, 1])
def test_moments_and_fluxes_are_those_of_the_distribution(axis):
    v, weight = nodes()
    for w, moments, flux in zip(
        AWAY, grad13.conserved(AWAY), grad13.flux(AWAY, axis), strict=True
    ):
        f = distribution(w, v)
        assert torch.allclose(moments_of(f, v, weight), moments, atol=1e-9)
        assert torch.allclose(moments_of(f * v[..., axis], v, weight), flux, atol=1e-9)
    assert torch.allclose(grad13.primitive(grad13.conserved(AWAY)), AWAY, atol=1e-14)


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_the_wall_gives_back_what_its_distribution_says(alpha):
    """Mass, momentum along the wall and energy of both halves, by quadrature."""
    wall = Wall(1.1, (0.0, 0.05, -0.02), alpha)
    w = AWAY[:1].clone()
    for place, value in grad13.Grad13(GAS).at_wall(w[..., None], wall, 0, 1.0).items():
        w[:, place] = value[:, 0]
    v, weight = nodes(half=-1.0)
    out = moments_of(distribution(w[0], v) * v[..., 0], v, weight)
    ahead = v * torch.tensor([-1.0, 1.0, 1.0])
    mirrored = moments_of(distribution(w[0], v) * ahead[..., 0], ahead, weight)
    rest = [1.0, *wall.velocity, wall.temperature, *[0.0] * 8]
    given = distribution(torch.tensor(rest, dtype=F64), ahead) * ahead[..., 0]
    given = moments_of(given, ahead, weight)
    total = out + (1 - alpha) * mirrored - alpha * given * out[0] / given[0]
    flux = grad13.flux(w)[0]
    energy = [4, 7, 9]
    assert abs(float(total[0])) < 1e-12 and abs(float(flux[0])) < 1e-15
    assert torch.allclose(total[2:4], flux[2:4], atol=1e-9)
    assert float((total[energy] - flux[energy]).sum()) == pytest.approx(0, abs=1e-9)
    w[:, grad13.HEAT] += 1e-3  # the planted defect: another heat flux at the wall
    assert abs(float((total[energy] - grad13.flux(w)[0, energy]).sum())) > 1e-3


def between_walls(knudsen, speed, warmth, sides, cells=8, time=5.0):
    """Observed at the end of a start with straight profiles of the given slopes."""
    grid = Grid((cells,), (-0.5,), (0.5,))
    step = 0.9 * grid.spacing[0] / (grad13.SPEED * 1.02)
    world = thirteen(grid, (sides,), GAS, knudsen, step)
    x = grid.centers(0).expand(len(knudsen), cells)
    u = torch.zeros(*x.shape, 3, dtype=F64)
    u[..., 1] = speed[:, None] * x
    t = 1.0 + warmth[:, None] * x
    state = world.equilibrium(1.0 / t, u, t)
    begun = world.observe(state)
    for _ in range(round(time / step)):
        state = world.step(state)
    ended = world.observe(state)
    assert float((ended["mass"] / begun["mass"] - 1).abs().max()) < 1e-13
    return ended


def test_heat_and_shear_between_walls_are_those_of_grad_s_linear_theory():
    """Between walls the linear equations have no Knudsen layer, only slip and jump.

    With ``q = -5/2 Kn T'``, ``sigma_xy = -Kn u'`` and the conditions at the walls,
    ``q = 4 sqrt(1 / 2 pi) (T_wall - T)``, ``sigma_xy = 2 sqrt(1 / 2 pi) (u_wall - u)``,
    both are flat: ``q = -5/2 Kn dT / (1 + 5/4 Kn sqrt(2 pi))`` and
    ``sigma_xy = -Kn dU / (1 + Kn sqrt(2 pi))``.
    """
    kn = torch.tensor([0.05, 0.2, 1.0], dtype=F64)
    root = math.sqrt(2 * math.pi)
    speed, warmth = 0.02 / (1 + kn * root), 0.02 / (1 + 1.25 * kn * root)
    sides = Sides(Wall(0.99, (0.0, -0.01)), Wall(1.01, (0.0, 0.01)))
    ended = between_walls(kn, 0.9 * speed, 0.9 * warmth, sides)
    expected = -2.5 * kn * warmth
    assert float((ended["heat_flux"][..., 0] / expected[:, None] - 1).abs().max()) < 5e-3
    found, expected = ended["stress"][..., 0, 1], -kn * speed
    assert float((found / expected[:, None] - 1).abs().max()) < 5e-3
    without = -kn * 0.02  # the planted defect: no slip
    assert float((found / without[:, None] - 1).abs().min()) > 0.1


def test_walls_across_y_are_walls_across_x_turned_and_a_mirror_keeps_the_energy():
    ends = Sides(Wall(0.9, (0.1, 0.0, 0.05)), Wall(1.2, (-0.1,), 0.5))
    turned = Sides(Wall(0.9, (0.0, 0.1, 0.05)), Wall(1.2, (0.0, -0.1), 0.5))
    found = []
    for shape, sides in (((4, 8), (ALL_PERIODIC, ends)), ((8, 4), (turned, ALL_PERIODIC))):
        grid = Grid(shape, (0.0, 0.0), (1.0, 1.0))
        world = thirteen(grid, sides, GAS, torch.tensor([0.3], dtype=F64), 0.01)
        state = world.init(torch.Generator())
        for _ in range(20):
            state = world.step(state)
        found.append(world.observe(state))
    across, along = found
    assert torch.allclose(across["temperature"].mT, along["temperature"], atol=1e-13)
    shear = across["stress"][..., 0, 1].mT
    assert torch.allclose(shear, along["stress"][..., 0, 1], atol=1e-13)
    assert float(shear.abs().max()) > 0.01
    mirror = Sides(Wall(0.5, (), 0.0), Wall(2.0, (), 0.0))
    grid = Grid((8, 8), (0.0, 0.0), (1.0, 1.0))
    world = thirteen(grid, (mirror, mirror), GAS, torch.tensor([0.3], dtype=F64), 0.01)
    x, y = grid.points()
    state = world.equilibrium((1 + x * y)[None], torch.zeros(1, 8, 8, 3), (1 + x)[None])
    begun = world.observe(state)
    for _ in range(20):
        state = world.step(state)
    drift = relative_drift(world.observe(state), begun)
    assert float(drift["mass_drift"]) < 1e-13 and float(drift["energy_drift"]) < 1e-13


WAVE = 2 * math.pi


def oblique(shape, upper, normal):
    """A smooth flow of wave length 1 along ``normal``, with all moments at work."""
    grid = Grid(shape, (0.0,) * len(shape), upper)
    phase = WAVE * sum(n * x for n, x in zip(normal, grid.points(), strict=False))
    along = torch.tensor([*normal, 0.0], dtype=F64)
    across = torch.tensor([-normal[1], normal[0], 0.0], dtype=F64)
    u = 0.2 * phase.cos()[..., None] * along + 0.2 * phase.sin()[..., None] * across
    rho, t = 1 + 0.2 * phase.sin(), 1 + 0.1 * phase.cos()
    return grid, rho[None], u[None], t[None]


def run(grid, rho, u, t, steps, end):
    knudsen = torch.tensor([0.1], dtype=F64)
    world = thirteen(grid, (ALL_PERIODIC,) * grid.dim, GAS, knudsen, end / steps)
    state = world.equilibrium(rho, u, t)
    for _ in range(steps):
        state = world.step(state)
    return world.observe(state)


def test_a_flow_along_y_is_that_along_x_turned():
    line = run(*oblique((32,), (1.0,), (1.0, 0.0)), 20, 0.08)
    x = run(*oblique((32, 4), (1.0, 1.0), (1.0, 0.0)), 20, 0.08)
    y = run(*oblique((4, 32), (1.0, 1.0), (0.0, 1.0)), 20, 0.08)

    def same(a, b):
        return torch.allclose(a, b, atol=1e-13)

    for name in ("density", "temperature"):
        assert same(x[name][0], line[name][0][:, None].expand(-1, 4))
        assert same(y[name][0].mT, x[name][0])
    assert same(y["stress"][0, ..., 1, 1].mT, x["stress"][0, ..., 0, 0])
    assert same(y["stress"][0, ..., 0, 1].mT, -x["stress"][0, ..., 0, 1])
    assert same(y["heat_flux"][0, ..., 0].mT, -x["heat_flux"][0, ..., 1])


def test_a_flow_along_the_diagonal_is_that_along_x_to_second_order():
    side, end, half = math.sqrt(2), 0.06, math.sqrt(0.5)
    fine = run(*oblique((256,), (1.0,), (1.0, 0.0)), 80, end)
    gaps = {"density": [], "temperature": []}
    for cells in (24, 48):
        grid, *start = oblique((cells, cells), (side, side), (half, half))
        found = run(grid, *start, cells // 2, end)
        # the fine line at these points, by its Fourier series
        x, y = grid.points()
        place = half * (x + y)[..., None] - 0.5 / 256
        waves = torch.exp(1j * WAVE * torch.arange(40) * place)
        for name, kept in gaps.items():
            series = torch.fft.rfft(fine[name][0])[:40] / 256
            exact = 2 * (waves * series).real.sum(-1) - series[0].real
            kept.append(float((found[name][0] - exact).abs().mean()))
    for name, (coarse, finer) in gaps.items():
        assert finer < 0.27 * coarse and finer < 6e-4, name


def derivative(field, axis):
    """Spectral, on a periodic box of side 1; ``field [batch, n, n, ...]``."""
    n = field.shape[1 + axis]
    k = WAVE * torch.fft.fftfreq(n, 1 / n, dtype=F64)
    k = k.view(-1, *(1,) * (field.dim() - 2 - axis))
    return torch.fft.ifft(1j * k * torch.fft.fft(field, dim=1 + axis), dim=1 + axis).real


def test_small_knudsen_numbers_give_the_stress_of_navier_and_stokes():
    """In a plane: the gap is of the next order in Kn; and all is conserved."""
    n, end, steps = 32, 0.15, 80
    grid = Grid((n, n), (0.0, 0.0), (1.0, 1.0))
    x, y = (WAVE * c for c in grid.points())
    u = 0.3 * torch.stack([torch.sin(y), torch.cos(x), torch.zeros_like(x)], -1)
    rho = (1 + 0.1 * torch.sin(x + y)).expand(2, n, n)
    kn = torch.tensor([0.02, 0.01], dtype=F64)
    world = thirteen(grid, (ALL_PERIODIC,) * 2, GAS, kn, end / steps)
    state = world.equilibrium(rho, u.expand(2, n, n, 3), torch.ones_like(rho))
    begun = world.observe(state)
    for _ in range(steps):
        state = world.step(state)
    ended = world.observe(state)
    drift = relative_drift(ended, begun)
    assert max(float(d.max()) for d in drift.values()) < 1e-13
    slope = torch.stack([derivative(ended["velocity"], d) for d in (0, 1)], -1)
    trace = slope.diagonal(dim1=-2, dim2=-1).sum(-1)
    shear = slope + slope.mT - 2 / 3 * trace[..., None, None] * torch.eye(2, dtype=F64)
    newton = -kn.view(2, 1, 1, 1, 1) * ended["temperature"][..., None, None] * shear
    gap = (ended["stress"] - newton).abs().flatten(1).mean(1)
    gap = gap / newton.abs().flatten(1).mean(1)
    assert float(gap[1]) < 0.03 and float(gap[1]) < 0.6 * float(gap[0])


def test_periodic_flow_conserves_and_the_monitor_sees_complex_speeds():
    grid = Grid((32,), (0.0,), (1.0,))
    world = thirteen(grid, (ALL_PERIODIC,), Gas(3), torch.tensor([0.1], dtype=F64), 2e-3)
    x = 2 * math.pi * grid.centers(0)
    u = torch.zeros(1, 32, 3, dtype=F64)
    u[0, :, 0] = 0.1 * x.cos()
    w = grad13.Grad13(GAS).equilibrium(
        (1 + 0.2 * x.sin())[None], u, torch.ones(1, 32, dtype=F64)
    )
    state = world.start(w)
    begun = world.observe(state)
    for _ in range(50):
        state = world.step(state)
    ended = world.observe(state)
    drift = relative_drift(ended, begun)
    assert max(float(d.max()) for d in drift.values()) < 1e-13
    assert float(ended["complex_fraction"]) == 0.0
    w[0, grad13.HEAT, 7] = 2.0  # a heat flux far beyond the region of hyperbolicity
    seen = world.observe(world.start(w))
    assert float(seen["complex_fraction"]) == pytest.approx(1 / 32)
    assert int(seen["complex_cell"]) == 7
    w[0, grad13.HEAT, 7] = 0.0
    w[0, 5 + grad13.PAIRS.index((0, 1))] = 1e-2  # with shear it is lost next to equilibrium
    sheared = world.observe(world.start(w))
    assert float(sheared["complex_fraction"]) == 1.0
    assert 1e-4 < float(sheared["complex_speed"]) < 1e-2


def test_bad_input_is_refused():
    with pytest.raises(InputError, match=r"gas\.dimension = 3"):
        thirteen(Grid((8,), (0.0,), (1.0,)), (ALL_PERIODIC,), Gas(2), torch.ones(1), 1e-3)
    wall = Wall(1.0, (0.1,))
    with pytest.raises(InputError, match="mass"):
        thirteen(
            Grid((8,), (0.0,), (1.0,)), (Sides(wall, Open()),), Gas(3), torch.ones(1), 1e-3
        )
