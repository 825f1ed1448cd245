"""The closure without a length of its own: what it sees, its symmetries on whole runs."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Open, Sides, Wall
from scalebridge.engine.gas.equations.hermite import hermite_world
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import koren
from scalebridge.engine.gas.scheme.positivity import PositivityFallback
from scalebridge.engine.learn.trainers import closure as training
from scalebridge.models.closures.contract import FaceStencil
from scalebridge.models.closures.face import FaceForm
from scalebridge.models.closures.local import LocalClosure, LocalForm, averaged_gradients

RANGES = (0.05, 0.3, 2.0)
SIDES = {
    "periodic": ALL_PERIODIC,
    "open": Sides(Open(), Open()),
    "walls": Sides(Wall(1.0), Wall(1.2)),
}


@cache
def module(order: int = 5) -> LocalClosure:
    made = LocalForm(order=order, hidden=(12, 12)).build(0).double()
    with torch.no_grad():
        for weights in made.parameters():
            weights.mul_(2.0)
    return made.requires_grad_(False)


def row_of(w: torch.Tensor, tau: float, periodic: bool = True) -> FaceStencil:
    ends = (w[:, -1:], w[:, :1]) if periodic else (w[:, :1], w[:, -1:])
    ring = torch.cat([ends[0], w, ends[1]], 1)
    flat = torch.full((len(w), w.shape[1] + 1), tau, dtype=w.dtype)
    return FaceStencil(ring[:, :-1], ring[:, 1:], w, flat, 1.0 / w.shape[1], periodic)


# -- what it sees ------------------------------------------------------------------------


def by_hand(jumps, depth, a: float, periodic: bool) -> torch.Tensor:
    """The integral of ``D_a``, segment by segment, with images of a periodic row."""
    x = depth.cumsum(0) - 0.5 * depth
    whole = float(depth.sum())
    shifts = range(-60, 61) if periodic else (0,)
    out = torch.zeros_like(jumps)
    for i in range(len(jumps)):
        for j in range(len(jumps)):
            for m in shifts:
                far, half = abs(float(x[j] - x[i]) + m * whole), 0.5 * float(depth[j]) / a
                if i == j and m == 0:
                    out[i] += jumps[j] * (1.0 - math.exp(-half)) / (2.0 * half)
                else:
                    near = math.sinh(half) / half * math.exp(-far / a)
                    out[i] += 0.5 * near * jumps[j]
    return out


@pytest.mark.parametrize("periodic", [True, False])
def test_the_recursions_are_the_integral(periodic):
    rng = torch.Generator().manual_seed(0)
    faces = 9
    depth = 0.1 + torch.rand(1, faces, generator=rng).double()
    jumps = torch.randn(1, faces, 2, generator=rng).double()
    if periodic:
        jumps = torch.cat([jumps, jumps[:, :1]], 1)
        depth = torch.cat([depth, depth[:, :1]], 1)
    found = averaged_gradients(jumps, depth, RANGES, periodic)
    for number, a in enumerate(RANGES):
        wanted = by_hand(jumps[0, :faces], depth[0, :faces], a, periodic)
        torch.testing.assert_close(found[0, number, :faces], wanted, rtol=1e-12, atol=1e-13)


def test_a_smooth_field_gives_its_gradient_and_a_wave_its_lorentzian():
    cells, k, free_path = 400, 2 * math.pi, 0.2
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    faces = torch.arange(cells + 1, dtype=torch.float64) / cells
    w = torch.sin(k * x)[None, :, None]
    row = row_of(w, 1.0)
    depth = torch.full((1, cells + 1), 1.0 / cells / free_path, dtype=torch.float64)
    found = averaged_gradients(row.high - row.low, depth, RANGES, True)[0, ..., 0]
    for each, a in zip(found, RANGES, strict=True):
        size = k * a * free_path
        wanted = size / (1.0 + size**2) * torch.cos(k * faces)
        # straight lines between the middles: off by (k h)^2 / 24, relative
        assert float((each - wanted).abs().max()) < 2e-5


def test_a_range_far_below_a_cell_is_the_local_gradient():
    jumps = torch.tensor([[[0.1], [0.4], [-0.3], [0.1]]], dtype=torch.float64)
    depth = torch.full((1, 4), 1e6, dtype=torch.float64)
    found = averaged_gradients(jumps, depth, (1.0,), False)
    torch.testing.assert_close(found[0, 0], jumps[0] * 1e-6, rtol=1e-12, atol=0.0)


# -- symmetries of whole runs ------------------------------------------------------------


def start(cells: int = 40) -> torch.Tensor:
    """Return w of a gas with a front and a wave, ``[1, 6, cells]``."""
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    rho = 1.0 + 0.3 * torch.tanh(20 * (x - 0.4)) * torch.sin(2 * math.pi * x)
    u, theta = 0.2 * torch.sin(4 * math.pi * x), 1.0 + 0.2 * torch.cos(2 * math.pi * x)
    high = [0.02 * torch.sin(2 * math.pi * (x + 0.1 * k)) for k in range(3)]
    return torch.stack([rho, u, theta, *high])[None]


def run(
    w: torch.Tensor,
    knudsen: float,
    size: float = 1.0,
    pace: float = 1.0,
    sides: Sides = ALL_PERIODIC,
    closure=None,
    steps: int = 40,
) -> torch.Tensor:
    """Return w after steps of ``pace / 20`` of a cell, ``[1, 6, cells]``."""
    cells = w.shape[-1]
    grid = Grid((cells,), (-0.5 * size,), (0.5 * size,))
    kn = torch.tensor([knudsen], dtype=torch.float64)
    world = hermite_world(
        grid, (sides,), Gas.constant_time(1), kn, 5, pace * 0.05 / cells,
        closure or module(), limiter=koren, check=False,
    )  # fmt: skip
    sure = PositivityFallback(world)
    state = world.start(w)
    with torch.no_grad():
        for _ in range(steps):
            state = sure.step(state)
    return world.equations.primitive(state.moments)


def change(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().amax() / wanted.abs().amax())


def in_units(w: torch.Tensor, mass: float, speed: float) -> torch.Tensor:
    powers = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], dtype=w.dtype)
    factor = speed**powers
    factor[0] = factor[0] * mass
    factor[3:] = factor[3:] * mass
    return w * factor[:, None]


@pytest.mark.parametrize("ends", ["periodic", "open"])
@pytest.mark.parametrize("knudsen", [0.003, 0.3, 30.0])
def test_lengths_times_and_knudsen_numbers_scale_together(knudsen, ends):
    wanted = run(start(), knudsen, sides=SIDES[ends])
    assert change(run(start(), knudsen, sides=SIDES[ends], steps=1), wanted) > 1e-2
    for a in (0.1, 10.0):
        found = run(start(), a * knudsen, a, a, SIDES[ends])
        assert change(found, wanted) < 1e-10


def test_walls_scale_too():
    wanted = run(start(), 0.3, sides=SIDES["walls"])
    assert change(run(start(), 3.0, 10.0, 10.0, SIDES["walls"]), wanted) < 1e-10


def test_a_closure_with_a_length_of_its_own_is_caught():
    old = FaceForm(hidden=(8,), reach=(0.05,)).build(0).double().requires_grad_(False)
    wanted = run(start(), 0.3, closure=old)
    assert change(run(start(), 3.0, 10.0, 10.0, closure=old), wanted) > 1e-6


def test_units_of_mass_and_temperature_do_not_matter():
    wanted = run(start(), 0.3)
    found = run(in_units(start(), 7.0, 3.0), 0.1, pace=1.0 / 3.0)
    assert change(in_units(found, 1.0 / 7.0, 1.0 / 3.0), wanted) < 1e-10


def test_the_answer_does_not_see_the_frame():
    w = start().movedim(1, -1)
    moved = w + torch.tensor([0.0, 3.0, 0.0, 0.0, 0.0, 0.0])
    a, b = module()(row_of(w, 0.3)).flux, module()(row_of(moved, 0.3)).flux
    assert float((a - b).abs().max()) < 1e-12 * float(a.abs().max())


@pytest.mark.parametrize("ends", ["periodic", "walls"])
def test_mirror_image(ends):
    sides = SIDES[ends]
    wanted = run(start(), 0.3, sides=sides)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)[:, None]
    there = (start() * signs).flip(-1)
    other = sides if sides.periodic else Sides(sides.high, sides.low)
    assert change((run(there, 0.3, sides=other) * signs).flip(-1), wanted) < 1e-10


def test_density_momentum_and_energy_stay():
    before = start()
    after = run(before, 0.3)

    def totals(w):
        rho, u, theta = w[0, :3]
        return torch.stack([rho.sum(), (rho * u).sum(), (rho * (u * u + theta)).sum()])

    assert float((totals(after) - totals(before)).abs().max()) < 1e-12


# -- gate, linear response, training ------------------------------------------------------


def test_every_input_is_inside_the_gate():
    made, w = LocalForm(hidden=(8,)).build(0).double(), start().movedim(1, -1)
    row = row_of(w, 0.3)
    knudsen, raw = made.inputs(row)
    assert knudsen.shape[-1] == 0
    made.scale.copy_(raw.square().flatten(0, 1).mean(0).sqrt())
    made.limit.copy_(raw.abs().flatten(0, 1).amax(0))
    assert float(made(row).trust.min()) == 1.0
    thin = made(row_of(w, 3e4))  # a Knudsen number far from any of the training
    wide = made(row_of(50.0 * (w - w.mean(1, keepdim=True)).clamp(min=0) + w, 0.3))
    assert float(wide.trust.min()) == 0.0
    assert float(wide.blend.min()) == 0.0
    assert bool(thin.flux.isfinite().all())


def test_the_linear_response_is_the_derivative_of_the_closure():
    made, cells, k, tau = module(), 256, 4 * math.pi, 0.05
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    answer = training.linear_response(
        made, torch.tensor([k], dtype=torch.float64), torch.tensor([tau]).double()
    )[0]
    for field in range(6):
        w = torch.zeros(1, cells, 6, dtype=torch.float64)
        w[..., 0] = w[..., 2] = 1.0
        small = w.clone()
        small[..., field] += 1e-6 * torch.cos(k * x)
        sharp = replace(made.config, smoothing=0.0)
        bare = LocalClosure(sharp).double()
        bare.load_state_dict(made.state_dict())
        flux = bare(row_of(small, tau)).flux[0].detach() / 1e-6
        faces = torch.arange(cells + 1, dtype=torch.float64) / cells
        wave = torch.exp(1j * k * faces)
        wanted = (answer[field] * wave).real.detach()
        size = float(wanted.abs().max())
        assert float((flux - wanted).abs().max()) < 2e-3 * size + 1e-5
