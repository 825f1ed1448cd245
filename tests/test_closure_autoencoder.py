"""Moments learned by an autoencoder: positive, symmetric, and better than few of many."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.equations.line import conserved, from_raw
from scalebridge.engine.gas.flows import lines as flows
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn import comparison
from scalebridge.engine.learn.trainers import autoencoder as training
from scalebridge.engine.learn.trainers.closure import relative_error
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.models.closures.autoencoder import (
    AutoencoderForm,
    MomentAutoencoder,
    hermite_functions,
)
from scalebridge.viz.gas import learned_moments
from scalebridge.viz.record import Record

ORDER = 9


def wild(latent: int = 3) -> MomentAutoencoder:
    torch.manual_seed(0)
    module = AutoencoderForm(latent, ORDER, (12,)).build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module.requires_grad_(False)


@pytest.fixture(scope="module")
def raw() -> torch.Tensor:
    return flows.solve(flows.flows("mix", 5, 8), (0.0, 0.05, 0.1), 40, 72, 20, ORDER, 7.2)


def test_the_functions_are_orthonormal():
    xi, weight = np.polynomial.hermite_e.hermegauss(20)
    he = hermite_functions(torch.as_tensor(xi), ORDER)
    gram = (he * torch.as_tensor(weight / weight.sum())[:, None]).T @ he
    torch.testing.assert_close(gram, torch.eye(ORDER + 1, dtype=torch.float64))


def test_what_is_decoded_is_positive_and_nothing_is_a_maxwellian():
    module = wild()
    w = 30.0 * torch.randn(200, 3, dtype=torch.float64)
    assert float(module.distribution(w).min()) > 0
    assert float(module.decode(torch.zeros(3, dtype=torch.float64)).abs().max()) < 1e-12
    h = module.decode(w)
    # of any distribution with unit variance: kurtosis >= 1 + skewness^2
    skew, kurtosis = h[:, 0] * 6**0.5, h[:, 1] * 24**0.5 + 3
    assert bool((kurtosis >= 1 + skew**2 - 1e-9).all())


def test_a_mirror_image_has_the_mirrored_moments():
    module = wild()
    h = torch.randn(50, ORDER - 2, dtype=torch.float64)
    torch.testing.assert_close(module(h * module.parity), module(h) * module.parity)
    module.mask.fill_(1.0)  # planted: odd moments of even ones
    there = module(h * module.parity) - module(h) * module.parity
    assert float(there.abs().max()) > 1e-3


def test_training_beats_principal_components(raw):
    rng = torch.Generator().manual_seed(0)
    h = training.samples([raw], ORDER, 2000, rng)
    torch.manual_seed(0)
    module = AutoencoderForm(3, ORDER, (16,)).build()
    size = training.fit(module, h, 0, 100, 1e-3, rng)
    before = float(training.unexplained(module, h, size).detach())
    training.fit(module, h, 150, 300, 5e-3, rng)
    after = float(training.unexplained(module, h, size).detach())
    assert after < 0.7 * before < 0.35
    lines = module.learned_moments([-1.0, 0.0, 1.0]).detach()
    torch.testing.assert_close(lines[0], -lines[0].flip(0))
    torch.testing.assert_close(lines[1], lines[1].flip(0))


def test_a_gas_runs_with_learned_moments_and_loses_nothing(raw):
    rng = torch.Generator().manual_seed(0)
    module = AutoencoderForm(3, ORDER, (8,)).build()
    training.fit(module, training.samples([raw], ORDER, 2000, rng), 60, 200, 5e-3, rng)
    module.requires_grad_(False)
    through = training.pressed(module)
    moments = conserved(from_raw(raw[1], ORDER))
    kept = through(moments)
    torch.testing.assert_close(kept[..., :3], moments[..., :3])
    assert float((kept - moments)[..., 3:].abs().max()) > 1e-8
    kn = flows.knudsen_numbers(flows.flows("mix", 5, 8), flows.box(20))
    true = comparison.Reference(raw, kn, (0.0, 0.05, 0.1))
    run = comparison.run_moments(true, ORDER, after=through)
    drift = (run.moments[-1] - run.moments[0])[..., :3].mean(1).abs().max()
    assert float(drift) < 1e-13
    assert float(relative_error(run.moments[-1], true.moments(3)[-1]).max()) < 0.1


def test_more_learned_moments_than_moments_are_refused():
    with pytest.raises(ValueError, match="there are 9"):
        AutoencoderForm(latent=10)


def test_the_shipped_scenario_runs_and_is_drawn(tmp_path):
    text = (Path(__file__).parent.parent / "scenarios" / "closure_moments.toml").read_text()
    few = [{"name": "mix", "flows": 8, "until": 0.05}]
    small = {"families": few, "cells": 20, "latents": [2, 3], "steps": 40, "batch": 200}
    with RunFolder.create(tmp_path / "run", text, {}) as folder:
        scenario = parse({**tomllib.loads(text), **small})
        outcome = assemble(scenario, tmp_path).run(folder, Reporter(quiet=True))
    left = {n: outcome.figures[f"unexplained_{n}"].value for n in (2, 3)}
    assert left[3] < left[2] < 0.6
    assert left[3] < outcome.figures["untrained_3"].value
    panels = learned_moments(Record(tmp_path / "run").groups()[""])
    assert [len(p.curves) for p in panels] == [2, 2, 2, 2, 3]
    decoded = panels[-1].curves[-1]
    assert decoded.y.min() > 0
    assert np.trapezoid(decoded.y, decoded.x) == pytest.approx(1.0, abs=0.02)
    with pytest.raises(InputError, match="none of latents"):
        parse({**tomllib.loads(text), "pictured": 5})
