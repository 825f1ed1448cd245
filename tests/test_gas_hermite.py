"""Hermite moment equations: hyperbolicity, conservation, closures, the kinetic limit."""

import numpy as np
import pytest
import torch
from moment_matrices import apply

from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Open, Sides, Wall
from scalebridge.engine.gas.equations import hermite, line
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.models.closures.contract import ClosureOutput

F64 = torch.float64
GAS = Gas.constant_time(1)
WALLS = Sides(Wall(temperature=1.0), Wall(temperature=1.2))


def world(knudsen, order=5, cells=64, dt=1e-3, **changes):
    given = {"grid": Grid((cells,), (-0.5,), (0.5,)), "sides": (ALL_PERIODIC,), "gas": GAS}
    return hermite.hermite_world(
        knudsen=torch.as_tensor(knudsen, dtype=F64),
        order=order,
        time_step=dt,
        **{**given, **changes},
    )


def wave(batch, cells, order, shift=0.0):
    x = Grid((cells,), (-0.5,), (0.5,)).centers(0)
    w = torch.zeros(batch, cells, order + 1, dtype=F64)
    w[..., 0] = 1 + 0.5 * torch.sin(2 * torch.pi * x)
    w[..., 1] = shift
    w[..., 2] = 1 + 0.5 * torch.sin(2 * torch.pi * x + 0.2)
    return w.movedim(-1, 1)


def test_six_equations_come_close_to_the_kinetic_solution():
    kn = torch.tensor([1e-2, 0.1, 1.0, 10.0], dtype=F64)
    grid = Grid((100,), (-0.5,), (0.5,))
    kinetic = KineticWorld(grid, (ALL_PERIODIC,), Velocities.symmetric(1, 60, 8.0), GAS, kn)
    steps = int(0.1 / kinetic.time_step) + 1
    kinetic = kinetic.with_time_step(0.1 / steps)
    w = wave(4, 100, 5)
    truth = kinetic.advance(kinetic.equilibrium(w[:, 0], w[:, 1, :, None], w[:, 2]), steps)
    truth = line.conserved(kinetic.hermite_moments(truth, 5))[..., :3]
    moment = world(kn, cells=100, dt=0.1 / 125)
    state = moment.start(w)
    for _ in range(125):
        state = moment.step(state)
    gap = (state.moments[:, :3].movedim(1, -1) - truth).square().sum((1, 2)).sqrt()
    gap = gap / truth.square().sum((1, 2)).sqrt()
    assert (gap < torch.tensor([1e-3, 5e-3, 9e-3, 9e-3])).all(), gap


def full_matrix(w, order, share):
    """A(w) of w_t + A w_x = 0, with a share of Grad's last row."""
    b = hermite.basis(order, 1, F64, torch.device("cpu"))
    points = w[None, :, None].expand(1, -1, order + 1)
    eye = torch.eye(order + 1, dtype=F64)[None]
    matrix = apply(b, points, eye, 0)[0]
    some = hermite.edge(b, 0)
    left_out = hermite.dropped(b, some, hermite.coefficients(b, points), eye)[0, 0]
    matrix[-1] += share * left_out
    return matrix


def test_the_first_equations_are_those_of_cai_fan_and_li():
    """Rows for a = 3 and 4 of M = 5 (Commun. Math. Sci. 11, 2013, p. 547, eq. 2.13)."""
    rho, u, theta, f3, f4, f5 = 0.7, 0.4, 1.3, 0.2, -0.1, 0.05
    found = full_matrix(torch.tensor([rho, u, theta, f3, f4, f5], dtype=F64), 5, 0.0)
    rows = [
        [u, rho, 0, 0, 0, 0],
        [theta / rho, u, 1, 0, 0, 0],
        [0, 2 * theta, u, 6 / rho, 0, 0],
        [0, 4 * f3, 0.5 * theta * rho, u, 4, 0],
        [-f3 * theta / rho, 5 * f4, 1.5 * f3, theta, u, 5],
        [-f4 * theta / rho, 0, -f4, -3 * f3 / rho, theta, u],  # HME: 6 f5, 3 f4 left out
    ]
    assert torch.allclose(found, torch.tensor(rows, dtype=F64), atol=1e-14)


@pytest.mark.parametrize("order", [3, 4, 5, 8, 11])
def test_hme_has_the_hermite_roots_as_speeds_and_grad_has_not(order):
    w = torch.zeros(order + 1, dtype=F64)
    w[:3] = torch.tensor([0.7, 0.4, 1.3])
    w[3:] = 0.1 * torch.randn(
        order - 2, generator=torch.Generator().manual_seed(3), dtype=F64
    )
    found = torch.linalg.eigvals(full_matrix(w, order, 0.0))
    exact = 0.4 + hermite.roots(order) * np.sqrt(1.3)
    assert found.imag.abs().max() < 1e-5
    assert np.allclose(np.sort(found.real.numpy()), exact, atol=1e-5)
    w[3:] *= 8
    planted = torch.linalg.eigvals(full_matrix(w, order, 1.0))
    assert planted.imag.abs().max() > 1e-3


def test_conservation_and_galilean_shift():
    moment = world([0.01, 1.0], cells=64, dt=5e-4)
    runs = []
    for shift in (0.0, 1.0):
        state = first = moment.start(wave(2, 64, 5, shift))
        for _ in range(200):
            state = moment.step(state)
        drift = (state.moments - first.moments)[:, :3].sum(-1) / 64
        assert float(drift.abs().max()) < 1e-13
        runs.append(moment.observe(state)["density"])
    shifted = torch.fft.irfft(
        torch.fft.rfft(runs[1]) * torch.exp(2j * torch.pi * 0.1 * torch.arange(33)), n=64
    )
    assert float((shifted - runs[0]).abs().max()) < 0.02


def test_a_closure_is_a_callable_and_gradients_flow_through_the_step():
    weight = torch.tensor(0.3, dtype=F64, requires_grad=True)

    def closure(faces):
        flux = (
            weight * faces.mean[..., 0] * faces.mean[..., 2] ** 3 * faces.gradient[..., 2]
        )
        return ClosureOutput(flux=1e-2 * flux, trust=(faces.mean[..., 0] <= 1.4).double())

    moment = world([0.5], closure=closure, check=False)
    start = moment.start(wave(1, 64, 5))
    state = moment.step(moment.step(start))
    loss = state.moments[:, 5].square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    with torch.no_grad():
        values = []
        for eps in (1e-6, -1e-6):
            weight += eps
            values.append(moment.step(moment.step(start)).moments[:, 5].square().sum())
            weight -= eps
    assert abs(float(gradient) - float(values[0] - values[1]) / 2e-6) < 1e-6 * abs(gradient)
    assert 0 < float(state.fallbacks) < 128


def test_walls_keep_the_mass_and_pass_the_heat():
    moment = world([0.1], cells=40, dt=2e-3, sides=(WALLS,))
    state = start = moment.init(torch.Generator())
    for _ in range(400):
        state = moment.step(state)
    assert abs(float((state.moments - start.moments)[:, 0].sum())) < 1e-11
    observed = moment.observe(state)
    assert float(observed["temperature"][0, -1] - observed["temperature"][0, 0]) > 0.02
    assert float(observed["heat_flux"].mean()) < -0.005


def test_bad_input_and_guard():
    with pytest.raises(InputError, match="order"):
        world([0.1], order=2)
    with pytest.raises(InputError, match="positive"):
        world([0.1]).start(-wave(1, 64, 5))
    with pytest.raises(InputError, match="dimension"):
        flat = Grid((4, 4), (0.0, 0.0), (1.0, 1.0))
        world([0.1], grid=flat, sides=(ALL_PERIODIC,) * 2)
    with pytest.raises(InputError, match="CFL"):
        world([1.0], dt=0.05).start(wave(1, 64, 5))
    moment = world([1.0], dt=1e-3, sides=(Sides(Open(), Open()),), closure=hermite.grad)
    state = moment.start(wave(1, 64, 5))
    moment = moment.with_time_step(0.05)

    def go(state):
        for _ in range(50):
            state = moment.step(state)

    with pytest.raises(GuardError, match="cell"):
        go(state)
