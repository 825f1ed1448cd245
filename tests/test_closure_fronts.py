"""Strong fronts as training flows, and the sharper limiter of the moment scheme."""

import json
import math
from dataclasses import replace

import pytest
import torch

from scalebridge.engine import runtime
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.equations.hermite import hermite_world
from scalebridge.engine.gas.flows import fronts
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import koren, van_leer
from scalebridge.engine.jobs.closure import assemble
from scalebridge.engine.learn import linear_response
from scalebridge.engine.learn.trainers import closure as training
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.models.closures.face import FaceForm


@pytest.fixture(scope="module", autouse=True)
def cpu() -> None:
    runtime.start("cpu")


def parabola_faces(limiter) -> torch.Tensor:
    """Step from the mean of each cell to its right face, for means of x^2 on unit cells."""
    edge = torch.arange(1.0, 9.0, dtype=torch.float64)
    mean = (edge[1:] ** 3 - edge[:-1] ** 3) / 3
    d = mean.diff()
    face = mean[1:-1] + 0.5 * limiter(d[:-1], d[1:])
    return face - edge[2:-1] ** 2


def test_korens_limiter_is_exact_for_parabolas_and_stays_between_the_cells():
    assert parabola_faces(koren).abs().max() < 1e-12
    assert parabola_faces(van_leer).abs().max() > 0.01
    swapped = parabola_faces(lambda behind, ahead: koren(ahead, behind))
    assert swapped.abs().max() > 0.01
    rng = torch.Generator().manual_seed(0)
    behind, ahead = torch.randn(2, 1000, generator=rng, dtype=torch.float64)
    step = 0.5 * koren(behind, ahead)
    assert bool((step.abs() <= torch.minimum(behind.abs(), ahead.abs()) + 1e-15).all())
    assert bool((step[behind * ahead <= 0] == 0).all())


def sound(cells: int, limiter) -> torch.Tensor:
    """Density of a small smooth wave of HME after a while, on 16 blocks."""
    grid = Grid((cells,), (-0.5,), (0.5,))
    edge = torch.linspace(-0.5, 0.5, cells + 1, dtype=torch.float64)
    wave = -0.01 * torch.cos(2 * math.pi * edge).diff() * cells / (2 * math.pi)
    w = torch.zeros(1, cells, 6, dtype=torch.float64)
    w[..., 0], w[..., 2] = 1.0 + wave, 1.0 + wave
    world = hermite_world(
        grid,
        (ALL_PERIODIC,),
        Gas.constant_time(1),
        torch.tensor([1e-2], dtype=torch.float64),
        5,
        0.05 / cells,
        limiter=limiter,
    )
    state = world.start(w.movedim(-1, 1))
    for _ in range(round(0.1 / world.time_step)):
        state = world.step(state)
    return state.moments[0, 0].unflatten(0, (16, -1)).mean(1)


def test_korens_limiter_smears_a_smooth_wave_less():
    """The amplitude of the wave, over that on a fine grid."""
    x = (torch.arange(16, dtype=torch.float64) + 0.5) / 16
    turn = torch.exp(2j * math.pi * x)
    fine = (sound(128, koren) * turn).mean().abs()
    size = {name: (sound(32, name) * turn).mean().abs() for name in (koren, van_leer)}
    loss = {name: 1 - value / fine for name, value in size.items()}
    assert 0 < loss[koren] < 0.5 * loss[van_leer]


def test_a_shock_solution_is_laid_on_any_grid_without_loss():
    raw = torch.rand(2, 3, 40, 4, dtype=torch.float64)
    raw[:, :, :4], raw[:, :, -4:] = raw[:, :, :1], raw[:, :, -1:]
    edge = torch.linspace(-10.0, 10.0, 41, dtype=torch.float64)
    some = fronts.Fronts(raw, edge, (0.0, 1.0))
    out = fronts.laid_out(some, 0.05, 48, 0.05)
    assert out.shape == (2, 3, 48, 4)
    inside = raw.sum(2) * 0.5 * 0.05
    beyond = 0.5 * (48 * 0.05 - 20 * 0.05) * (raw[:, :, 0] + raw[:, :, -1])
    assert torch.allclose(out.sum(2) * 0.05, inside + beyond, rtol=1e-12)
    assert torch.allclose(out[:, :, 0], raw[:, :, 0])
    same = fronts.laid_out(some, 1.0, 40, 0.5)
    assert torch.allclose(same, raw, rtol=1e-12)
    assert not torch.allclose(fronts.laid_out(some, 1.0, 40, 0.5, center=0.5), raw)


@pytest.fixture(scope="module")
def weak_shock() -> fronts.Fronts:
    return fronts.shock(1.6, (0.0, 0.5, 1.0), cells=60, nodes=40, extent=12.0, order=7)


def test_a_shock_at_rest_keeps_its_fluxes(weak_shock):
    ahead, behind = fronts.Shock(1.6, 12.0).ends
    for one in (ahead, behind):
        rho, u, theta = one
        assert rho * u == pytest.approx(ahead[1])
        assert rho * (u * u + theta) == pytest.approx(ahead[1] ** 2 + 1.0)
    end = weak_shock.raw[-1, 0]
    assert end[0, 0] == pytest.approx(ahead[0], rel=1e-3)
    assert end[-1, 0] == pytest.approx(behind[0], rel=1e-2)
    assert weak_shock.times == (0.0, 0.5, 1.0)


def test_riemann_problems_are_drawn_from_seed_and_index():
    one = fronts.riemann_states(3, 5)
    assert one == fronts.riemann_states(3, 5) != fronts.riemann_states(3, 6)
    for index in range(20):
        left, right = fronts.riemann_states(3, index)
        assert max(left[2], right[2]) == 1.0 and min(left[2], right[2]) >= 0.05


def test_closures_learn_from_boxes_and_fronts_together(weak_shock):
    form = FaceForm(hidden=(12, 12), reach=(0.01, 0.05, 0.15), stretch=1.0)
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    module = form.build()
    rows = fronts.laid_out(weak_shock, 0.05, 60, 0.02)[1:]
    kn = torch.tensor([0.05], dtype=torch.float64)
    line = training.labelled(rows, kn, (0.025, 0.05), 5, 0.02)
    w = training.linear_modes(5, 60, 0.2, rng, 4)
    raw = w[0][None]
    box = training.Labelled(raw, raw[..., :6], w[1], (0.0,))
    assert box.periodic and not line.periodic
    training.fit(module, [box, line], 80, 4, 2e-2, 0.0, rng)
    assert training.unexplained(module, [line]) < 0.4
    with torch.no_grad():
        wrong = replace(line, w=torch.cat([line.w[..., :-1], -line.w[..., -1:]], -1))
    assert training.unexplained(module, [wrong]) > 1.5


def test_training_through_the_solver_takes_open_lines(weak_shock):
    torch.manual_seed(0)
    module = FaceForm(hidden=(8,), reach=(0.02, 0.1), stretch=1.0).build()
    rows = fronts.laid_out(weak_shock, 0.05, 30, 0.04)
    kn = torch.tensor([0.05], dtype=torch.float64)
    times = tuple(0.05 * t for t in weak_shock.times)
    line = training.labelled(rows, kn, times, 5, 0.04)
    with torch.no_grad():
        training.calibrate(module, [training.rows_of(module, line)])
    rng = torch.Generator().manual_seed(1)
    loss = training.unrolled_steps(module, [line], 1, 0.6, rng)(0)
    loss.backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert math.isfinite(float(loss.detach())) and float(loss.detach()) > 0
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert any(float(g.abs().max()) > 0 for g in gradients)


TRAIN = {
    "version": 1,
    "kind": "train",
    "families": [{"name": "wave", "flows": 4, "until": 0.02}],
    "fronts": {"mach": [1.3], "riemann": 1, "knudsen": [0.05]},
    "model": {
        "kind": "face_closure",
        "hidden": [6],
        "reach": [0.05],
        "stretch": 1.0,
        "bound": 6.0,
    },
    "members": 1,
    "cells": 20,
    "velocities": 48,
    "validation": 0.25,
    "steps": 6,
    "polish": 4,
    "batch": 4,
}


def test_a_scenario_trains_on_fronts_too(tmp_path, monkeypatch):
    small = {"cells": 40, "nodes": 32, "extent": 8.0}

    def shock(mach, times, order):
        return fronts_shock(mach, times, order=order, **small)

    def riemann(seed, count, times, order):
        return fronts_riemann(seed, count, times, order=order, **small)

    fronts_shock, fronts_riemann = fronts.shock, fronts.riemann
    monkeypatch.setattr(fronts, "shock", shock)
    monkeypatch.setattr(fronts, "riemann", riemann)
    with RunFolder.create(tmp_path / "run", json.dumps(TRAIN), {}) as folder:
        outcome = assemble(parse(TRAIN), tmp_path).run(folder, Reporter(quiet=True))
        text = (folder.path / "events.jsonl").read_text()
    events = [json.loads(line) for line in text.splitlines()]
    assert math.isfinite(outcome.figures["unexplained_0"].value)
    assert any(event.get("mach") == 1.3 for event in events)
    assert any(event.get("event") == "polish" for event in events)
    with pytest.raises(InputError, match="at least one front"):
        parse({**TRAIN, "fronts": {"mach": [], "riemann": 0}})


def test_small_waves_show_the_transport_of_a_closure():
    ratios = (0.02, 0.1, 0.2, 0.5)
    exact = linear_response.exact_table(ratios=ratios)
    # The 1V spectrum of BGK by a discretised eigenproblem: heat at k tau 0.1, 0.2, 0.5.
    known = torch.tensor([0.0097823, 0.0370533, 0.1875928])
    found = exact[1:, 3] * exact[1:, 0] ** 2
    assert torch.allclose(found.float(), known, rtol=1e-5)
    hme = linear_response.table(None, 5, ratios=ratios)
    assert linear_response.transport_error(hme, exact) < 1e-3
    assert linear_response.transport_error(hme, exact, 0.5) > 0.1
    assert float(hme[:, 4].max()) < 0
    euler_like = hme.clone()
    euler_like[:, 3] *= 0.9
    assert linear_response.transport_error(euler_like, exact) > 0.09


def test_beyond_grads_cone_hme_takes_over_and_is_counted():
    torch.manual_seed(0)
    module = FaceForm(hidden=(6,), reach=(0.1,), smoothing=0.05).build().double()
    x = (torch.arange(40, dtype=torch.float64) + 0.5) / 40
    w = torch.zeros(2, 40, 6, dtype=torch.float64)
    w[..., 0] = 1.0
    w[..., 2] = 1.0 + 0.2 * torch.sin(2 * math.pi * x)
    w[1, :, 4] = 0.3  # far outside the cone in which Grad's speeds are real
    world = hermite_world(
        Grid((40,), (-0.5,), (0.5,)),
        (ALL_PERIODIC,),
        Gas.constant_time(1),
        torch.tensor([0.1, 0.1], dtype=torch.float64),
        5,
        1e-3,
    )
    faces = world.equations.stencil(world.rows(w.movedim(-1, 1), 0))
    plain = module(faces)
    assert plain.source is None and plain.fallback is not None
    assert float(plain.fallback[0].max()) == 0.0 < float(plain.fallback[1].min())
    assert (
        float(plain.blend[0].detach().min()) == 1.0 > float(plain.blend[1].detach().max())
    )
