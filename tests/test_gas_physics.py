"""The kinetic models against exact physics: spectra, Prandtl number, flight, walls."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import wofz

from scalebridge.engine.gas import exact
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Open, Sides, Wall
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas

F64 = torch.float64


def standing_wave(k, dimension, kind, cells=128, nodes=60, limit=7.0, end=1.5):
    """Decay of one linear mode over time, in units of tau; returns times and amplitudes."""
    grid = Grid((cells,), (0.0,), (2 * math.pi / k,))
    axes = 2 if kind == "shear" else 1
    shape = (nodes, 24)[:axes]
    velocities = Velocities(shape, (-limit,) * axes, (limit,) * axes)
    world = KineticWorld(
        grid,
        (ALL_PERIODIC,),
        velocities,
        Gas.constant_time(dimension),
        torch.ones(1, dtype=F64),
    )
    steps = int(end / world.time_step / 20 + 1) * 20
    world = world.with_time_step(end / steps)
    return world, steps


PUBLISHED = {  # lambda tau, computed by an independent discretised eigenproblem
    (0.5, 3): -0.2062236 + 0.6634806j,
    (1.0, 3): -0.6551058 + 1.3575598j,
    (0.5, 1): -0.1834687 + 0.9014958j,
    (1.0, 1): -0.5588182 + 1.8430957j,
}


@pytest.mark.parametrize(("k", "dimension"), PUBLISHED)
def test_exact_acoustic_modes(k, dimension):
    assert abs(exact.acoustic_mode(k, dimension) - PUBLISHED[k, dimension]) < 2e-7


def thermal_mode(k, dimension, nodes=200):
    """Return ``lambda tau`` of the thermal mode, from the eigenvalues on Gauss nodes."""
    v, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w / w.sum()
    d, rest = dimension, dimension - 1
    project = np.zeros((3, 2 * nodes))
    project[0, :nodes], project[1, :nodes] = w, w * v
    project[2, :nodes], project[2, nodes:] = w * (v * v - 1) / d, w / d
    lift = np.zeros((2 * nodes, 3))
    lift[:nodes, 0], lift[:nodes, 1], lift[:nodes, 2] = 1, v, (v * v - 1) / 2
    lift[nodes:, 2] = rest
    modes = np.linalg.eigvals(
        lift @ project - np.eye(2 * nodes) - 1j * k * np.diag([*v, *v])
    )
    real = modes[np.abs(modes.imag) < 1e-7]
    return float(real.real.max())


def shear_mode(k):
    """Return ``lambda tau`` of the shear mode; exists below ``k = sqrt(pi / 2)``."""

    def mismatch(growth):
        z = 1j * (growth + 1) / k
        return float((math.sqrt(math.pi / 2) * wofz(z / math.sqrt(2)) / k).real) - 1.0

    return brentq(mismatch, -1 + 1e-9, -1e-12, xtol=1e-15)


def test_exact_thermal_and_shear_modes():
    assert thermal_mode(0.5, 3) == pytest.approx(-0.1994748, abs=1e-6)
    assert thermal_mode(0.5, 1) == pytest.approx(-0.1875928, abs=1e-6)
    assert shear_mode(0.5) == pytest.approx(-0.2140712, abs=1e-6)
    assert shear_mode(1.0) == pytest.approx(-0.6973692, abs=1e-6)


def eigenfunction(world, growth, k, dimension):
    """The exact mode as a distribution: f = M (1 + eps phi e^{ikx}), from its moments."""
    v = world.velocities.nodes[:, 0].numpy()
    M = np.exp(-v * v / 2) / math.sqrt(2 * math.pi)
    rest = dimension - 1
    resolvent = 1 / (growth + 1 + 1j * k * v)
    w = world.velocities.spacing[0]
    # moments (r, u, t) of the mode: null vector of 1 - P resolvent L
    lift_g = np.stack([np.ones_like(v), v, (v * v - 1) / 2])
    lift_h = np.stack([rest + 0 * v, rest * v, rest * ((v * v - 1) / 2 + 1)])
    rows = np.zeros((3, 3), complex)
    for j in range(3):
        g, h = M * resolvent * lift_g[j], M * resolvent * lift_h[j]
        rows[0, j] = w * g.sum()
        rows[1, j] = w * (v * g).sum()
        rows[2, j] = w * ((v * v * g).sum() + h.sum() - dimension * g.sum()) / dimension
    values, vectors = np.linalg.eig(rows)
    c = vectors[:, np.argmin(abs(values - 1))]
    assert abs(values - 1).min() < 1e-3
    return M * resolvent * (c @ lift_g), M * resolvent * (c @ lift_h), M


def measured(k, dimension, growth, scale=1e-5, cells=128, end=1.0):
    world, steps = standing_wave(k, dimension, "acoustic", cells=cells, end=end)
    g1, h1, M = eigenfunction(world, growth, k, dimension)
    x = world.grid.centers(0).numpy()
    wave = np.exp(1j * k * x)[:, None]
    g = M + scale * (g1[None] * wave).real
    parts = [g]
    if dimension > 1:
        parts.append((dimension - 1) * M + scale * (h1[None] * wave).real)
    state = world.start(torch.tensor(np.stack(parts))[None])
    amplitude = []
    for state_ in (state, world.advance(state, steps)):
        rho = world.observe(state_)["density"][0].numpy()
        amplitude.append((rho * np.exp(-1j * k * x)).mean())
    return np.log(amplitude[1] / amplitude[0]) / end


@pytest.mark.parametrize(("k", "dimension"), [(0.5, 1), (1.0, 1), (0.5, 3), (1.0, 3)])
def test_acoustic_mode_of_the_solver(k, dimension):
    growth = exact.acoustic_mode(k, dimension)
    found = measured(k, dimension, growth)
    assert abs(found - growth) < 1e-3 * abs(growth)


def test_thermal_mode_of_the_solver_and_a_planted_wrong_mode():
    growth = thermal_mode(0.5, 3)
    found = measured(0.5, 3, growth)
    assert abs(found - growth) < 1e-3 * abs(growth)
    assert abs(found + 0.25 * 5 / 3) > 0.05  # the Navier-Stokes-Fourier rate is not it


def test_shear_mode_of_the_solver():
    k = 0.5
    world, steps = standing_wave(k, 3, "shear", cells=96, nodes=48, end=8.0)
    x = world.grid.centers(0)
    u = torch.stack([0 * x, 1e-4 * torch.sin(k * x)], -1)[None]
    one = torch.ones(1, len(x), dtype=F64)
    state = world.equilibrium(one, u, one)
    sizes = []
    for _ in range(2):
        state = world.advance(state, steps // 2)
        v = world.observe(state)["velocity"][0, :, 1]
        sizes.append(float((v * torch.sin(k * x)).mean()))
    found = math.log(sizes[1] / sizes[0]) / 4.0
    assert abs(found / shear_mode(k) - 1) < 1e-3


@pytest.mark.parametrize(
    ("model", "prandtl"),
    [("bgk", 1.0), ("shakhov", 2 / 3), ("shakhov", 1.4), ("es", 2 / 3)],
)
def test_prandtl_number_from_decay_rates(model, prandtl):
    """Homogeneous: stress decays at p/mu, heat flux at Pr p/mu."""
    grid = Grid((4,), (0.0,), (1.0,))
    world = KineticWorld(
        grid,
        (ALL_PERIODIC,),
        Velocities.symmetric(1, 60, 8.0),
        Gas.power_law(3, prandtl=prandtl),
        torch.ones(1, dtype=F64),
        model,
    )
    world = world.with_time_step(world.time_step / 4)
    v = world.velocities.nodes[:, 0]
    M = torch.exp(-v * v / 2) / math.sqrt(2 * math.pi)
    g = M * (1 + 0.02 * (v * v - 1) + 0.01 * (v**3 - 3 * v))
    h = 2 * M * (1 - 0.01 + 0.01 * (v**3 - 3 * v))
    state = world.start(torch.stack([g, h])[None, :, None, :].expand(1, 2, 4, -1))
    begun = world.observe(state)
    steps = 60
    ended = world.observe(world.advance(state, steps))
    time = steps * world.time_step
    rates = {
        name: -math.log(float(ended[name].flatten()[0] / begun[name].flatten()[0])) / time
        for name in ("stress", "heat_flux")
    }
    assert rates["stress"] == pytest.approx(1.0, abs=2e-3)
    assert rates["heat_flux"] == pytest.approx(prandtl, abs=2e-3)


def test_free_molecular_sod():
    grid = Grid((200,), (-1.0,), (1.0,))
    open_ = Sides(Open(), Open())
    world = KineticWorld(
        grid,
        (open_,),
        Velocities.symmetric(1, 120, 6.0),
        Gas(3),
        torch.tensor([1e6], dtype=F64),
    )
    steps = int(0.2 / world.time_step) + 1
    world = world.with_time_step(0.2 / steps)
    x = grid.centers(0)
    rho = torch.where(x < 0, 1.0, 0.125)[None].double()
    t = torch.where(x < 0, 1.0, 0.8)[None].double()
    start = world.equilibrium(rho, torch.zeros(1, 200, 1), t)
    found = world.observe(world.advance(start, steps))
    rho_x, u_x, t_x = exact.free_flight_jump((1.0, 1.0), (0.125, 0.8), x, 0.2, 3)
    assert float((found["density"][0] - rho_x).abs().mean()) < 2e-3
    assert float((found["velocity"][0, :, 0] - u_x).abs().mean()) < 5e-3
    assert float((found["temperature"][0] - t_x).abs().mean()) < 3e-3


def between_walls(low, high, kn, axes, steps_time, cells=8, nodes=(48, 16), **state):
    grid = Grid((cells,), (-0.5,), (0.5,))
    limit = 6.0
    velocities = Velocities(nodes[:axes], (-limit,) * axes, (limit,) * axes)
    world = KineticWorld(
        grid,
        (Sides(low, high),),
        velocities,
        Gas.power_law(3),
        torch.tensor([kn], dtype=F64),
    )
    one = torch.ones(1, cells, dtype=F64)
    t = one * state.get("temperature", 1.0)
    start = world.equilibrium(one, torch.zeros(1, cells, axes, dtype=F64), t)
    end = world.advance(start, int(steps_time / world.time_step))
    return world, world.observe(start), world.observe(end)


@pytest.mark.slow
def test_free_molecular_fourier_and_walls_keep_mass():
    _, begun, found = between_walls(
        Wall(0.8), Wall(1.2), 1e6, 1, 25.0, temperature=math.sqrt(0.96)
    )
    t, q = exact.free_fourier(0.8, 1.2)
    assert abs(float(found["mass"] / begun["mass"]) - 1) < 1e-12
    assert float((found["temperature"] - t).abs().max()) < 3e-3
    rho = float(found["density"].mean())
    assert float(found["heat_flux"].mean()) == pytest.approx(-q * rho, rel=5e-3)
    # planted defect: a specular wall would let no heat through
    _, _, mirror = between_walls(Wall(0.8, (), 0.0), Wall(1.2), 1e6, 1, 25.0)
    assert abs(float(mirror["heat_flux"].mean())) < 0.1 * q


def test_free_molecular_couette():
    low, high = Wall(1.0, (0.0, -0.1)), Wall(1.0, (0.0, 0.1))
    _, begun, found = between_walls(low, high, 1e6, 2, 20.0)
    shear = -float(found["stress"][0, :, 0, 1].mean())
    assert shear == pytest.approx(exact.free_couette(1.0, 0.2), rel=5e-3)
    assert abs(float(found["mass"] / begun["mass"]) - 1) < 1e-12


def test_small_knudsen_is_euler_and_the_gap_falls_like_kn():
    kn = torch.tensor([1e-8, 2e-3, 8e-3, 1.6e-2], dtype=F64)
    grid = Grid((200,), (-0.5,), (0.5,))
    gas = Gas.constant_time(1)
    world = KineticWorld(grid, (ALL_PERIODIC,), Velocities.symmetric(1, 40, 8.0), gas, kn)
    assert world.time_step > 1e3 * float(kn[0])
    steps = int(0.1 / world.time_step) + 1
    world = world.with_time_step(0.1 / steps)
    x = grid.centers(0)
    one = torch.ones(4, 1, dtype=F64)
    rho = one * (1 + 0.5 * torch.sin(2 * torch.pi * x))
    t = one * (1 + 0.5 * torch.sin(2 * torch.pi * x + 0.2))
    u = torch.zeros(4, 200, 1, dtype=F64)
    kinetic = world.observe(world.advance(world.equilibrium(rho, u, t), steps))[
        "temperature"
    ]
    results = {}
    for name, knudsen in (("euler", None), ("nsf", kn)):
        fluid = FluidWorld(grid, (ALL_PERIODIC,), gas, 4, 0.1 / 600, knudsen=knudsen)
        state = fluid.start(rho, u, rho * t)
        for _ in range(600):
            state = fluid.step(state)
        results[name] = fluid.observe(state)["temperature"]
    euler = (kinetic - results["euler"]).abs().mean(1)
    nsf = (kinetic - results["nsf"]).abs().mean(1)
    assert float(euler[0]) < 2e-4
    assert 0.8 < math.log2(float(euler[3] / euler[2])) < 1.2
    assert 1.6 < math.log2(float(nsf[3] / nsf[2])) < 2.4
    assert (nsf[1:] < 0.2 * euler[1:]).all()
