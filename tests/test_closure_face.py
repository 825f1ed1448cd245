"""The learned closure: its symmetries, bounds and gates, and its place in the solver."""

import math

import numpy as np
import pytest
import torch
from moment_matrices import absolute, apply

from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Sides, Wall
from scalebridge.engine.gas.closures.ensemble import ClosureEnsemble, agreement
from scalebridge.engine.gas.equations import hermite
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import MomentWorld
from scalebridge.engine.learn.trainers import closure as training
from scalebridge.models.closures.face import (
    DAMPING,
    FaceClosure,
    FaceForm,
    FaceStencil,
    asinh,
    hyperbolic_share,
    scaled_moments,
)

NEAR = (0.01,)
WIDE = (0.01, 0.05, 0.15)


def closure(order=5, reach=WIDE, seed=0, size=3.0) -> FaceClosure:
    torch.manual_seed(seed)
    module = FaceForm(order=order, reach=reach, hidden=(16, 16)).build().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(size)
    return module.requires_grad_(False)


def some_cells(order=5, batch=3, cells=24, seed=1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return low + (high - low) * torch.rand(batch, cells, generator=rng).double()

    high = [draw(-0.1, 0.1) / math.sqrt(math.factorial(k)) for k in range(3, order + 1)]
    return torch.stack([draw(0.7, 1.3), draw(-0.3, 0.3), draw(0.7, 1.3), *high], -1)


def row_of(w: torch.Tensor, tau: float = 0.3, periodic: bool = True) -> FaceStencil:
    ends = (w[:, -1:], w[:, :1]) if periodic else (w[:, :1], w[:, -1:])
    ring = torch.cat([ends[0], w, ends[1]], 1)
    flat = torch.full((len(w), w.shape[1] + 1), tau, dtype=w.dtype)
    return FaceStencil(ring[:, :-1], ring[:, 1:], w, flat, 1.0 / w.shape[1], periodic)


def scaled(w: torch.Tensor, mass: float, unit: float) -> torch.Tensor:
    """The same gas with density times ``mass`` and velocities times ``unit``."""
    powers = torch.tensor([0.0, 1.0, 2.0, *range(3, w.shape[-1])], dtype=w.dtype)
    factor = unit**powers
    factor[0] = factor[3:] = mass
    factor[3:] = mass * unit ** powers[3:]
    return w * factor


@pytest.mark.parametrize("order", [5, 8, 11])
@pytest.mark.parametrize("reach", [NEAR, WIDE])
def test_the_answer_does_not_see_the_frame(order, reach):
    module, w = closure(order, reach), some_cells(order)
    moved = w.clone()
    moved[..., 1] += 3.0
    a, b = module(row_of(w)), module(row_of(moved))
    assert float((a.flux - b.flux).abs().max()) < 1e-12 * float(a.flux.abs().max()) * 10
    assert float(a.flux.abs().max()) > 1e-8  # round-off in w is 1e-15


def test_a_closure_that_sees_velocity_is_caught():
    module, w = closure(), some_cells()
    moved = w.clone()
    moved[..., 1] += 3.0

    def planted(row):
        return module(row).flux * (1 + 1e-6 * row.low[..., 1])

    assert float((planted(row_of(w)) - planted(row_of(moved))).abs().max()) > 1e-10


def test_units_of_mass_and_temperature_do_not_matter():
    module, w = closure(), some_cells()
    a = module(row_of(w)).flux
    b = module(row_of(scaled(w, 5.0, 2.0), tau=0.3 / 2.0)).flux
    torch.testing.assert_close(b, 5.0 * 2.0**6 * a, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("order", [5, 6])
def test_mirror_image(order):
    module, w = closure(order), some_cells(order)
    signs = torch.tensor([1.0, -1.0, 1.0, *[(-1.0) ** k for k in range(3, order + 1)]])
    a = module(row_of(w)).flux
    b = module(row_of((w * signs).flip(1))).flux.flip(1)
    torch.testing.assert_close(b, (-1.0) ** (order + 1) * a, rtol=1e-11, atol=1e-15)


def test_uniform_equilibrium_has_no_flux_and_the_correction_is_bounded():
    module = closure()
    w = torch.zeros(2, 24, 6, dtype=torch.float64)
    w[..., 0], w[..., 1], w[..., 2] = 1.3, 0.4, 0.8
    assert float(module(row_of(w)).flux.abs().max()) < 1e-15
    wild = some_cells()
    wild[..., 3:] *= 1e3
    row = row_of(wild)
    limit = module.config.bound * module.unit(row).amax()
    assert float(module(row).flux.abs().max()) <= float(limit)


def test_the_correction_vanishes_with_the_knudsen_number():
    module, w = closure(), some_cells()
    sizes = [float(module(row_of(w, tau)).flux.abs().max()) for tau in (1e-7, 1e-6)]
    assert sizes[0] < 1e-3
    assert sizes[0] / sizes[1] == pytest.approx(0.1, rel=0.5)


def test_far_outside_the_training_range_only_hme_is_left():
    module, w = closure(), some_cells()
    raw = module.inputs(row_of(w))[1]
    module.scale.copy_(raw.square().flatten(0, 1).mean(0).sqrt())
    module.limit.copy_(raw.abs().flatten(0, 1).amax(0))
    inside = module(row_of(w))
    assert float(inside.trust.min()) == 1.0
    w[0, 5, 5] *= 4000.0
    outside = module(row_of(w))
    assert float(outside.trust.min()) == 0.0
    assert float(outside.blend[0, 5]) == 0.0


def on_finer_grid(
    resolution: float,
) -> tuple[FaceClosure, torch.Tensor, FaceStencil, FaceStencil]:
    torch.manual_seed(0)
    form = FaceForm(reach=(0.05, 0.15), resolution=resolution, hidden=(16,))
    w = some_cells(cells=20)
    fine = w.repeat_interleave(4, 1)
    return form.build().double().requires_grad_(False), w, row_of(w), row_of(fine)


@pytest.mark.parametrize("periodic", [True, False])
def test_what_is_seen_of_coarse_cells_does_not_depend_on_how_they_are_cut(periodic):
    module, w, *_ = on_finer_grid(0.05)
    coarse, fine = (
        row_of(w, 0.3, periodic),
        row_of(w.repeat_interleave(4, 1), 0.3, periodic),
    )
    mean, changes = module.seen(coarse)
    finer_mean, finer = module.seen(fine)
    torch.testing.assert_close(finer_mean[:, ::4], mean, rtol=1e-12, atol=1e-14)
    for a, b in zip(changes, finer, strict=True):
        torch.testing.assert_close(b[:, ::4], a, rtol=1e-12, atol=1e-14)
    planted = on_finer_grid(0.0125)[0]  # takes the fine cells for those of its training
    assert (planted.seen(fine)[1][1][:, ::4] - changes[1]).abs().max() > 0.01


def test_short_waves_are_damped_on_finer_grids_only_and_as_linear_theory_says():
    module, _, coarse, _ = on_finer_grid(0.05)
    view = module.view(coarse)
    smooth = module.smooth(module.scaled_moment(view.z) * view.unit, coarse)
    assert torch.equal(module.flux(view, coarse), smooth)
    cells, k = 640, 2 * math.pi * 6
    x = torch.arange(cells + 1, dtype=torch.float64) / cells
    w = torch.zeros(1, cells, 6, dtype=torch.float64)
    w[..., 0] = w[..., 2] = 1.0
    w[0, :, 5] = torch.sin(k * (x[:-1] + 0.5 / cells))
    flux = module.short_waves(row_of(w))[0]
    # f_5 = Im exp(ikx), so the flux is Im(-8 i D sin^4(ks/2) / (ks/2) exp(ikx)).
    half = 0.5 * k * 0.05
    wanted = -8 * DAMPING * math.sin(half) ** 4 / half * torch.cos(k * x)
    torch.testing.assert_close(flux, wanted, rtol=0, atol=2e-3 * float(wanted.abs().max()))
    loss = (w[0, :, 5] * (flux[1:] - flux[:-1])).sum()  # f_5 falls by (M + 1) df_6/dx
    assert float(loss) > 0
    at = torch.tensor([k], dtype=torch.float64), torch.tensor([4.0], dtype=torch.float64)
    change = training.fine_response(module, *at) - training.linear_response(module, *at)
    assert complex(change[0, -1]) == pytest.approx(
        -8j * DAMPING * math.sin(half) ** 4 / half
    )
    assert float(change[0, :-1].abs().max()) == 0.0


def companion_speeds(g: np.ndarray, order: int, share: float) -> np.ndarray:
    """Roots of ``He_{M+1} - s (M+1)! (g_M c + g_{M-1} (c^2 - 1)/2)`` by numpy."""
    he = np.polynomial.hermite_e.herme2poly([0.0] * (order + 1) + [1.0])
    more = np.zeros_like(he)
    factor = share * math.factorial(order + 1)
    more[1] += factor * g[-1]
    more[2] += 0.5 * factor * g[-2]
    more[0] -= 0.5 * factor * g[-2]
    return np.polynomial.polynomial.polyroots(he - more)


@pytest.mark.parametrize("order", [5, 8])
def test_the_share_of_grads_row_keeps_speeds_real(order):
    rng = np.random.default_rng(0)
    lost = 0
    for _ in range(200):
        size = np.array([math.factorial(k) ** -0.5 for k in range(3, order + 1)])
        g = rng.normal(size=order - 2) * size * rng.choice([0.05, 0.5, 3.0])
        share = float(hyperbolic_share(torch.tensor(g / size), order))
        speeds = companion_speeds(g, order, share)
        assert np.abs(speeds.imag).max() < 1e-6
        lost += np.abs(companion_speeds(g, order, 1.0).imag).max() > 1e-6
    assert lost > 20  # Grad's own row does lose them: the test sees the difference


def matrix_of(w: torch.Tensor, share: float = 0.0) -> torch.Tensor:
    """A(w) of one state, with a share of Grad's last row."""
    order, cpu = len(w) - 1, torch.device("cpu")
    b = hermite.basis(order, 1, w.dtype, cpu)
    points = w[None, :, None].expand(1, -1, order + 1)
    unit = torch.eye(order + 1, dtype=w.dtype)[None]
    found = apply(b, points, unit, 0)[0]
    some = hermite.edge(b, 0)
    left_out = hermite.dropped(b, some, hermite.coefficients(b, points), unit)
    found[-1] += share * left_out[0, 0]
    return found


def test_the_speeds_are_those_of_the_solvers_matrix():
    w = some_cells(batch=1, cells=1)[0, 0]
    for share in (0.0, 0.6, 1.0):
        matrix = matrix_of(w, share).numpy()
        speeds = (np.linalg.eigvals(matrix) - float(w[1])) / math.sqrt(float(w[2]))
        g = (w[3:] / w[0] / float(w[2]) ** np.array([1.5, 2.0, 2.5])).numpy()
        expected = companion_speeds(g, 5, share)
        # Two speeds that nearly meet are known to sqrt(eps) alone; the polynomial that has
        # them for roots is known to eps times its largest coefficient, some 100.
        np.testing.assert_allclose(np.poly(speeds), np.poly(expected), rtol=0, atol=1e-11)


@pytest.mark.parametrize("order", [3, 4, 5, 8, 11])
def test_upwind_dissipation_is_the_matrix_modulus(order):
    w = some_cells(order, 1, 5)[0]
    d = some_cells(order, 1, 5, seed=2)[0][..., None]
    every = torch.stack([matrix_of(each) for each in w])
    values, vectors = torch.linalg.eig(every)
    modulus = vectors @ torch.diag_embed(values.abs() + 0j) @ torch.linalg.inv(vectors)
    b = hermite.basis(order, 1, w.dtype, w.device)
    points = w[..., None]
    found = absolute(b, points, d, 0, 1e-9)
    torch.testing.assert_close(found, modulus.real @ d, rtol=1e-8, atol=1e-10)
    f = hermite.coefficients(b, points)
    frozen = hermite.to_frozen(b, points, f, d)
    torch.testing.assert_close(hermite.from_frozen(b, points, f, frozen), d)


def world(module, sides=ALL_PERIODIC, cells=24, step=2e-3, **changes) -> MomentWorld:
    kn = torch.tensor([0.01, 0.3, 5.0], dtype=torch.float64)
    grid, gas = Grid((cells,), (-0.5,), (0.5,)), Gas.constant_time(1)
    return hermite.hermite_world(grid, (sides,), gas, kn, 5, step, module, **changes)


def smooth_cells() -> torch.Tensor:
    x = torch.arange(24, dtype=torch.float64) / 24
    w = torch.zeros(3, 24, 6, dtype=torch.float64)
    w[..., 0] = w[..., 2] = 1 + 0.3 * torch.sin(2 * math.pi * x)
    w[..., 1] = 0.2 * torch.cos(2 * math.pi * x)
    return w.movedim(-1, 1)


def totals(state) -> torch.Tensor:
    return state.moments[:, :3].sum(-1)


@pytest.mark.parametrize("council", [False, True])
def test_mass_momentum_energy_are_conserved(council):
    members = [closure(seed=s, size=1.0) for s in range(2)]
    chosen = ClosureEnsemble(members) if council else members[0]
    one = world(chosen)
    state = first = one.start(smooth_cells())
    for _ in range(5):
        state = one.step(state)
    drift = (totals(state) - totals(first)).abs() / 24
    assert float(drift.max()) < 1e-14
    hme = world(lambda faces: type(chosen(faces))())
    other = hme.start(smooth_cells())
    for _ in range(5):
        other = hme.step(other)
    assert float((other.moments - state.moments).abs().max()) > 1e-6


def test_members_that_see_alike_share_that_work():
    members = [closure(seed=s, size=1.0) for s in range(3)]
    assert members[0].sees_like(members[1])
    one = world(members[0])
    faces = one.equations.stencil(one.rows(smooth_cells(), 0))
    together = ClosureEnsemble(members, 0.05)(faces)
    members[1].limit.fill_(1e9)
    assert not members[0].sees_like(members[1])
    apart = ClosureEnsemble(members, 0.05)(faces)
    torch.testing.assert_close(together.flux, apart.flux, rtol=1e-12, atol=1e-15)
    members[1].scale.fill_(3.0)  # a view that must not be shared
    assert (
        float((ClosureEnsemble(members, 0.05)(faces).flux - together.flux).abs().max())
        > 1e-7
    )


def test_members_that_disagree_by_more_than_the_tolerance_are_not_trusted():
    members = [closure(seed=s, size=1.0) for s in range(2)]
    one = world(members[0])
    faces = one.equations.stencil(one.rows(smooth_cells(), 0))
    fluxes = torch.stack([member(faces).flux for member in members])
    share = agreement(fluxes, faces, 1e-3)
    assert bool((share < 0.5).any()) and bool((share > 0.5).any())
    trust = ClosureEnsemble(members, 1e-3)(faces).trust
    alone = torch.stack([member(faces).trust for member in members]).amin(0)
    torch.testing.assert_close(trust, torch.where(share < 0.5, 0.0, alone))
    assert float(alone.amin()) > 0.0


def test_fast_asinh_is_asinh_with_slope_one_at_rest():
    x = torch.tensor([-1e4, -3.0, -1e-9, 0.0, 1e-5, 2.0, 5e3], dtype=torch.float64)
    torch.testing.assert_close(asinh(x), torch.asinh(x), rtol=1e-13, atol=1e-300)
    at = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(asinh(at).sum(), at)
    torch.testing.assert_close(slope, (1 + x * x).rsqrt(), rtol=1e-12, atol=0)


def test_walls_keep_the_mass():
    one = world(closure(size=1.0), Sides(Wall(1.0), Wall(1.2)))
    w = smooth_cells()
    state = first = one.start(w)
    for _ in range(5):
        state = one.step(state)
    assert float((totals(state) - totals(first))[:, 0].abs().max()) < 1e-13


def test_fallbacks_are_counted():
    module = closure()
    w = some_cells()
    raw = module.inputs(row_of(w))[1]
    module.limit.copy_(0.01 * raw.abs().flatten(0, 1).amax(0))
    one = world(module, step=1e-4)
    assert float(one.step(one.start(w.movedim(-1, 1))).fallbacks.min()) > 0


def test_gradients_go_through_a_step():
    module = closure().requires_grad_(True)
    one = world(module, check=False)
    state = one.step(one.start(smooth_cells()))
    state.moments.square().sum().backward()
    found = [float(p.grad.abs().max()) for p in module.parameters()]
    assert min(found) > 0


def test_scaled_moments_of_a_known_state():
    w = torch.tensor([2.0, 5.0, 4.0, 0.8, 0.0, 0.32], dtype=torch.float64)
    g = scaled_moments(w)
    expected = [0.8 * 6**0.5 / (2 * 8), 0.0, 0.32 * 120**0.5 / (2 * 32)]
    torch.testing.assert_close(g, torch.tensor(expected, dtype=torch.float64))


def test_too_few_moments_are_refused():
    with pytest.raises(ValueError, match="at least 4"):
        FaceForm(order=3)
