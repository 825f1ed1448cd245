"""Gradients of kinetic solutions: steps, and steady states without any steps."""

import math

import pytest
import torch

from scalebridge.engine.audit.certify import certify
from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Open, Sides
from scalebridge.engine.gas.exact import shock_jump
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic import steady
from scalebridge.engine.gas.kinetic.differentiable import LineKinetics
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.steady import attach

CELLS = 40
GRID = Grid((CELLS,), (-16.0,), (16.0,))
VELOCITIES = Velocities((32,), (-6.5,), (8.5,))


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def start_of(mach, gamma, equilibrium):
    speed, density, _, temperature = shock_jump(mach, gamma)
    s = 0.5 * (1 + torch.tanh(GRID.centers(0) / 2))
    rho = 1 + (density - 1) * s
    return equilibrium(rho, speed / rho, 1 + (temperature - 1) * s)


def world(dimension, prandtl, periodic=False):
    gas = Gas.power_law(dimension, 0.81, prandtl)
    speed, density, after, temperature = shock_jump(1.6, gas.gamma)
    sides = Sides(Inflow(1.0, (speed,), 1.0), Inflow(density, (after,), temperature))
    return KineticWorld(
        GRID,
        (ALL_PERIODIC if periodic else sides,),
        Velocities((36,), (-9.0,), (11.0,)) if dimension == 1 else VELOCITIES,
        gas,
        tensor(0.8),
        "bgk" if prandtl == 1.0 else "shakhov",
    )


@pytest.mark.parametrize(
    ("dimension", "prandtl", "periodic"),
    [(3, 2 / 3, False), (3, 1.0, True), (1, 1.0, False), (2, 0.8, True)],
)
def test_steps_equal_the_kernel(dimension, prandtl, periodic):
    one = world(dimension, prandtl, periodic)
    line = LineKinetics.of(one)

    def state(rho, u, t):
        return one.equilibrium(rho[None], u[None, :, None], t[None])

    state = start_of(1.6, one.gas.gamma, state)
    f = one.cells_of(state)[0].clone()
    for _ in range(10):
        state, f = one.step(state), line.step(f, one.time_step)
    torch.testing.assert_close(f, one.cells_of(state)[0], rtol=1e-12, atol=1e-13)


def test_refusals():
    one = world(3, 1.0)
    sides = Sides(Open(), Open())
    from dataclasses import replace

    with pytest.raises(InputError, match="periodic or reservoirs"):
        LineKinetics.of(replace(one, sides=(sides,)))


# -- a shock that depends on its parameters -----------------------------------------------

PARAMETERS = {
    "omega": tensor(0.81)[0],
    "knudsen": tensor(0.8)[0],
    "prandtl": tensor(2 / 3)[0],
    "mach": tensor(1.6)[0],
}


def shock(p):
    """The line between the two ends of a shock at rest."""
    gamma, mach = 5 / 3, p["mach"]
    ratio = (gamma + 1) * mach**2 / ((gamma - 1) * mach**2 + 2)
    pressure = 1 + 2 * gamma / (gamma + 1) * (mach**2 - 1)
    line = LineKinetics(
        GRID,
        VELOCITIES,
        3,
        lambda rho, t: p["knudsen"] * t ** (p["omega"] - 1) / rho,
        p["prandtl"],
    )
    one, speed = torch.ones_like(mach), mach * math.sqrt(gamma)
    return line.between(
        line.equilibrium(one, speed, one),
        line.equilibrium(ratio, speed / ratio, pressure / ratio),
    ).smooth()


def profile(line, f):
    """Density from 0 to 1, and the inverse thickness."""
    low, high = (line.moments(r[:, None])[0, 0] for r in line.reservoirs)
    rho = (line.moments(f)[0] - low) / (high - low)
    d = rho.diff() / GRID.spacing[0]
    k = int(d.argmax())
    a, b, c = d[k - 1 : k + 2]
    return rho, b - (c - a) ** 2 / (8 * (a - 2 * b + c))


@pytest.fixture(scope="module")
def settled():
    """The steady shock at the parameters above, from a rough march."""
    with torch.no_grad():
        line = shock(PARAMETERS)
        f = start_of(1.6, 5 / 3, line.equilibrium)
        for _ in range(250):
            f = line.step(f, 0.04)
    return steady.solve(line, f)


def thickness(p, settled):
    line = shock(p)
    return profile(line, steady.solve(line, settled.f, settled.mass).f)[1]


def test_a_steady_shock_is_at_rest(settled):
    line = shock(PARAMETERS)
    assert settled.residual < 1e-8
    assert abs(settled.source) < 1e-3
    moved = line.step(settled.f, 0.04) - settled.f
    # the box cuts the shock's tails off: that is what the source makes up for
    assert float(moved.abs().max()) < 1e-4


STEPS = [1e-3, 10**-3.5, 1e-4, 10**-4.5]


def test_a_steady_shock_is_certified(settled):
    found = certify(lambda p: thickness(p, settled), PARAMETERS, steps=STEPS)
    assert found.passed, found.table()


def test_a_wrong_adjoint_is_found_out(settled, monkeypatch):
    right = steady._adjoint

    def wrong(a, by_f):
        by_residual, by_mass = right(a, by_f)
        return 1.02 * by_residual, by_mass

    monkeypatch.setattr(steady, "_adjoint", wrong)
    only = {"knudsen": PARAMETERS["knudsen"]}
    found = certify(lambda p: thickness(PARAMETERS | dict(p), settled), only, steps=STEPS)
    assert "disagrees" in found.verdict


def test_an_attached_solver_equals_unrolling():
    """The steady state of x <- tanh(W x + b), by one linear system and by 200 steps."""
    draws = torch.Generator().manual_seed(5)
    w = 0.12 * torch.randn(30, 30, generator=draws, dtype=torch.float64)
    b = torch.randn(30, generator=draws, dtype=torch.float64).requires_grad_()

    def step(x, b):
        return torch.tanh(w @ x + b)

    x = torch.zeros(30, dtype=torch.float64)
    for _ in range(200):
        x = step(x, b)
    still = x.detach()
    slopes = torch.autograd.functional.jacobian(lambda f: step(f, b) - f, still)
    found = attach(
        lambda by: [torch.linalg.solve(slopes.mT, by)], still, step(still, b) - still
    )
    long, short = (torch.autograd.grad((y**3).sum(), b)[0] for y in (x, found))
    torch.testing.assert_close(short, long, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_steady_gradient_equals_unrolling(settled):
    def unrolled(p):
        line = shock(p)
        f = line.advance(settled.f, 0.04, 600)
        return profile(line, f)[1]

    own = {k: v.clone().requires_grad_() for k, v in PARAMETERS.items()}
    direct = torch.autograd.grad(thickness(own, settled), list(own.values()))
    long = torch.autograd.grad(unrolled(own), list(own.values()))
    for a, b in zip(direct, long, strict=True):
        assert abs(float(a / b) - 1) < 0.01


def test_a_start_far_from_steady_is_refused():
    line = shock(PARAMETERS)
    with torch.no_grad():
        f = start_of(1.6, 5 / 3, line.equilibrium).flip(1)
    with pytest.raises(GuardError, match="start nearer"):
        steady.solve(line, f, most=3)
