"""Families of flows, exact linear modes, training, and the closure scenarios end to end."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.flows import lines as flows
from scalebridge.engine.jobs import assemble
from scalebridge.engine.jobs.gas import GasJob
from scalebridge.engine.learn import comparison
from scalebridge.engine.learn.flow_errors import observed
from scalebridge.engine.learn.trainers import closure as training
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.runtime import generator
from scalebridge.engine.scenario import parse
from scalebridge.models.card import load_module
from scalebridge.models.closures.face import FaceForm
from scalebridge.viz.gas import closure_errors, closure_panels
from scalebridge.viz.names import model
from scalebridge.viz.record import Record

EXACT = {  # k tau: sound, heat of 1V BGK, from plasma dispersion integrals
    0.1: (-0.0097046 + 0.1739809j, -0.0097823),
    0.5: (-0.1834687 + 0.9014958j, -0.1875928),
}


@pytest.mark.parametrize("ratio", list(EXACT))
def test_linear_modes_have_the_exact_rates(ratio):
    rates, changes = training.hydrodynamic_modes(ratio, 1.0, 6)
    sound, heat = EXACT[ratio]
    np.testing.assert_allclose(np.abs(changes[:, :3]).max(1), 1.0, rtol=1e-12)
    assert rates[0] == pytest.approx(sound, abs=1e-6)
    assert rates[2] == pytest.approx(heat, abs=1e-6)


def test_many_hermite_moments_have_the_exact_spectrum_and_three_do_not():
    k = 2 * math.pi
    ours, exact = training.linear_rates(None, 16, k, 0.5 / k)
    np.testing.assert_allclose(ours, exact, rtol=2e-3)
    few, exact = training.linear_rates(None, 4, k, 0.5 / k)
    assert np.abs(few.real / exact.real - 1).max() > 0.1


def test_a_flow_does_not_depend_on_how_many_are_drawn():
    x = torch.linspace(-0.5, 0.5, 50, dtype=torch.float64)
    alone = flows.flow("mix", 3, 5)
    among = flows.flows("mix", 3, 8)[5]
    for a, b in zip(alone.layers(x), among.layers(x), strict=True):
        for p, q in zip(a, b, strict=True):
            assert torch.equal(p, q)
    assert alone.value == among.value
    assert flows.flow("mix", 4, 5).value != alone.value


@pytest.mark.parametrize("family", ["wave", "mix", "jump", "transition"])
def test_families_are_physical_and_cover_the_decades(family):
    some = flows.flows(family, 11, 8)
    x = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    for number, one in enumerate(some):
        for rho, _, theta in one.layers(x):
            assert float(rho.min()) > 0
            assert float(theta.min()) > 0.15
        kn = one.knudsen(x)
        assert 1e-3 <= float(kn.min()) <= float(kn.max()) <= 10.0
        if family != "transition":
            assert math.floor(math.log10(one.value)) == number % 4 - 3
        else:
            assert float(kn.max() / kn.min()) > 1e3


def test_labels_are_cell_averages_of_the_same_start():
    some = flows.flows("mix", 1, 2)
    fine = flows.solve(some, [0.0], 80, 72, 20, 4, 7.2)
    direct = flows.solve(some, [0.0], 40, 72, 20, 4, 7.2)
    torch.testing.assert_close(
        fine[..., 0].mean(2), direct[..., 0].mean(2), rtol=1e-2, atol=0
    )


def small_data():
    rng = generator(5)
    w, kn = training.linear_modes(5, 40, 0.02, rng, 24)
    stacked = w.reshape(2, 12, 40, 7)
    moments = torch.stack([training.conserved(part[..., :-1]) for part in stacked])
    return training.Labelled(stacked, moments, kn[:12], (0.0, 0.1))


def test_regression_learns_and_is_reproducible():
    data = small_data()
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        module = FaceForm(hidden=(8,), smoothing=0.0).build()
        losses = []
        training.fit(
            module,
            [data],
            60,
            8,
            1e-2,
            0.5,
            generator(1),
            lambda stage, step, total, loss, kept=losses: kept.append(loss),
        )
        found.append(losses)
    assert found[0] == found[1]
    assert np.mean(found[0][-10:]) < 0.5 * np.mean(found[0][:5])


def test_the_loss_through_the_solver_is_that_of_its_own_answer():
    """None where the target is that answer, and the error of the moments elsewhere."""
    torch.manual_seed(0)
    module, knudsen = FaceForm(hidden=(8,)).build(), torch.tensor([0.1, 1.0]).double()
    x = torch.linspace(0, 2 * math.pi, 21)[:-1].double()
    start = torch.zeros(2, 20, module.config.order + 1).double()
    start[..., 0], start[..., 2] = 1 + 0.2 * x.sin(), 1 + 0.1 * x.cos()
    world = training.moment_world(module, knudsen, 20, 0.005, torch.float64)
    state = world.start(start.movedim(-1, 1))
    raw = state.moments.movedim(1, -1)
    target = world.step(world.step(state)).moments.movedim(1, -1)
    arguments = (knudsen, 0.005, torch.tensor([3.0, 3.0]).double())
    loss = training.unrolled_loss(module, raw, [target], [0.01], *arguments)
    assert loss.item() < 1e-12
    loss = training.unrolled_loss(module, raw, [1.1 * target], [0.01], *arguments)
    far = training.relative_error(target, 1.1 * target)
    high = training.moment_error(target, 1.1 * target, module.config.stretch)
    assert loss.item() == pytest.approx(float((3 * far + high).mean()), rel=1e-9)


def test_rolled_out_states_are_the_closures_own_with_the_kinetic_answer():
    data = small_data()
    torch.manual_seed(0)
    module = FaceForm(hidden=(8,)).build()
    own = training.rolled_out(module, data)
    assert torch.equal(own.w[0], data.w[0])
    assert torch.equal(own.w[..., -1], data.w[..., -1])
    drift = (own.w[1] - data.w[1])[..., :-1].abs().amax((1, 2))
    assert 1e-6 < float(drift.max()) < 0.1
    spoiled = data.w.clone()
    spoiled[0, 3, 0, 5] = math.inf
    beside = training.rolled_out(module, replace(data, w=spoiled))
    assert torch.equal(beside.w[1, 3], data.w[1, 3])
    torch.testing.assert_close(beside.w[1, 4], own.w[1, 4])
    stages = []
    log = lambda stage, step, total, loss: stages.append((stage, step))  # noqa: E731
    training.fit(module, [data], 3, 8, 1e-3, 0.5, generator(1), log, polish=2, rolled=4)
    assert [s for s, _ in stages] == ["regression"] * 3 + ["rolled"] * 4 + ["polish"] * 2


def test_the_worst_decade_counts_a_lost_run_as_infinite():
    errors = torch.full((2, 8), 0.01)
    errors[1, 3] = math.nan
    worst = comparison.worst_decade(errors)
    assert float(worst[0]) == pytest.approx(0.01)
    assert math.isinf(float(worst[1]))


TINY = {
    "version": 1,
    "kind": "train",
    "families": [{"name": "wave", "flows": 4, "until": 0.02}],
    "model": {"kind": "face_closure", "hidden": [8], "reach": [0.05]},
    "members": 1,
    "cells": 20,
    "velocities": 48,
    "validation": 0.25,
    "steps": 20,
    "batch": 4,
}


def run(scenario: dict, folder, base):
    checked = parse(scenario)
    with RunFolder.create(folder, json.dumps(scenario), {}) as opened:
        return assemble(checked, base).run(opened, Reporter(quiet=True)), opened.path


def test_train_then_compare(tmp_path):
    outcome, path = run(TINY, tmp_path / "train", tmp_path)
    assert math.isfinite(outcome.figures["unexplained_0"].value)
    module, card = load_module(path / "closure_0")
    assert card["form"] == "face_closure"
    assert module.config.order == 5
    closure = {"kind": "learned", "members": [str(path / "closure_0.safetensors")]}
    outcome, path = run(compared(closure), tmp_path / "compare", tmp_path)
    names = ["learned", "hme", "euler"]
    values = {n: outcome.figures[f"worst_decade_{n}_t002"].value for n in names}
    assert all(0 < v < 1 for v in values.values())  # nearer than the mean of the gas
    null = outcome.figures["worst_decade_uniform_gas_t002"].value
    assert null == pytest.approx(1.0, rel=1e-3)
    unmoved = outcome.figures["worst_decade_unmoved_gas_t002"].value
    assert values["learned"] < unmoved
    assert outcome.figures["worst_flow_learned_t002"].value >= values["learned"]
    assert outcome.figures["seconds_learned"].value > 0
    assert "transport_error_learned" in outcome.figures
    group = Record(path).groups()["errors"]
    panels = closure_panels(group, [0.02])
    assert [plot.title for plot in panels] == ["t = 0.02"]
    errors = closure_errors(group, [0.02])
    assert [plot.title for plot in errors] == ["t = 0.02"]
    shown = {model(name) for name in ("kinetic", *names)}
    assert {c.label for c in panels[0].curves} == shown


def compared(closure):
    """A wave by the kinetic equation on finer cells, and by other models."""
    return {
        "version": 1,
        "kind": "gas",
        "grid": {"cells": [20], "lower": [-0.5], "upper": [0.5]},
        "gas": {"dimension": 1, "viscosity": "constant_time"},
        "initial": {"kind": "flows", "family": "mix", "count": 4},
        "model": {
            "kind": "kinetic", "refine": 2, "nodes": [64], "lower": [-8.0], "upper": [8.0],
        },
        "compare": [
            {"kind": "euler", "name": "euler"},
            {"kind": "hermite", "name": "hme"},
            {"kind": "hermite", "name": "learned", "closure": closure},
        ],
        "time": {"end": 0.02, "frames": 2, "compared": [0.02]},
        "reference": "small_waves",
    }  # fmt: skip


def test_every_model_starts_from_the_same_distribution():
    """Mass, momentum, energy and heat flux of a mixture of streams, before any step."""
    job = assemble(parse(compared("hyperbolic")), Path())
    assert isinstance(job, GasJob)
    found = {}
    for each in (job.main, *job.others):
        seen = each.world.observe(each.start())
        refine = each.problem.grid.shape[0] // 20
        found[each.name] = {
            name: seen[name].unflatten(1, (20, refine)).mean(2)
            for name in ("density", "heat_flux")
        }
        totals = observed(seen, job.others[0].problem.grid, 1)
        torch.testing.assert_close(totals, observed(
            job.main.world.observe(job.main.start()), job.others[0].problem.grid, 1
        ), rtol=1e-9, atol=1e-9)  # fmt: skip
    # the mean of the fine cells' heat flux is that of the coarse one where u is smooth
    gap = (found["hme"]["heat_flux"] - found["kinetic"]["heat_flux"]).abs()
    assert float(gap.median()) < 1e-3 < float(found["hme"]["heat_flux"].abs().max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compare": [{"kind": "hermite", "closure": {"kind": "learned",
          "members": ["nowhere.safetensors"]}}]}, "nowhere"),
        ({"compare": [{"kind": "hermite", "closure": "learned"}]}, "which weights"),
        ({"time": {"end": 0.3, "frames": 3, "compared": [0.3, 0.1]}}, "must rise"),
        ({"time": {"end": 0.3, "frames": 3, "compared": [0.15]}}, "not the time of"),
        ({"knudsen": [0.1]}, "brings its own"),
        ({"compare": []}, "no model in compare"),
        ({"initial": {"kind": "flows", "family": "transition"},
          "compare": [{"kind": "nsf"}]}, "one Knudsen number"),
    ],
)  # fmt: skip
def test_bad_comparisons_are_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        assemble(parse({**compared("hyperbolic"), **change}), tmp_path)
    with pytest.raises(InputError, match=r"model.order"):
        parse({**TINY, "model": {"kind": "face_closure", "order": 3}})


def test_an_error_is_measured_by_what_there_is_to_predict():
    x = torch.arange(64, dtype=torch.float64) / 64
    wave = torch.sin(2 * math.pi * x)
    true = torch.stack([1 + 1e-3 * wave, 0 * x, 1 + 0 * x], -1)[None]
    near, far = true.clone(), true.clone()
    near[..., 0] += 1e-4 * wave
    far[..., 0] = 1.0
    assert float(comparison.signal_error(near, true)[0]) == pytest.approx(0.1)
    # by the norm with the mean this would be 6e-4, and "uniform gas" a good answer
    assert float(comparison.signal_error(far, true)[0]) == pytest.approx(1.0)


def test_null_models_predict_nothing():
    true = comparison.reference(flows.flows("wave", 5, 4), (0.0, 0.05), 40, 60, 20)
    uniform = comparison.run_null(true, "uniform_gas").errors(true)
    unmoved = comparison.run_null(true, "unmoved_gas").errors(true)
    torch.testing.assert_close(uniform[1], torch.ones(4).double(), rtol=1e-3, atol=0.0)
    assert float(unmoved[0].abs().max()) == 0.0
    assert float(unmoved[1].min()) > 0.0
