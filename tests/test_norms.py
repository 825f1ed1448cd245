"""What the shipped scenarios compute has not moved since it was recorded."""

import norms
import numpy as np
import pytest
import torch

from scalebridge.engine import scenario
from scalebridge.engine.kernels import fluxes

NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if short.slow else [])
    for name, short in norms.SHORT.items()
]


@pytest.mark.parametrize("name", NAMES)
def test_norms_stand(name):
    if reason := norms.missing(name):
        pytest.skip(reason)
    old, new = norms.recorded()[name], norms.measure(name)
    assert old.keys() == new.keys()
    moved = {k: v for k, v in norms.changes(old, new).items() if v > norms.bound(name, k)}
    assert not moved


def test_every_shipped_scenario_has_its_norms():
    assert set(norms.SHORT) == set(scenario.shipped()) == set(norms.recorded())


def test_the_record_is_small_and_says_where_it_was_made():
    assert norms.RECORD.stat().st_size < 400_000
    about = norms.header()
    assert about["commit"]
    assert about["threads"] == "1"
    assert "torch=" in about["versions"]


@pytest.mark.parametrize("scale", [1.0, 1.0 + 1e-6])
def test_a_flux_that_is_off_by_a_millionth_is_noticed(scale, monkeypatch):
    true = fluxes.FluxShape.flux

    def scaled(self, scheme, w, extra, fluxes, *rest):
        true(self, scheme, w, extra, fluxes, *rest)
        for flux in fluxes:
            flux.mul_(scale)

    monkeypatch.setattr(fluxes.FluxShape, "flux", scaled)
    moved = norms.changes(norms.recorded()["shu_osher"], norms.measure("shu_osher"))
    noticed = max(moved.values()) > norms.SHORT["shu_osher"].portable
    assert noticed == (scale != 1.0)


def test_swapped_entries_and_lost_numbers_are_noticed():
    x = np.linspace(1.0, 2.0, 50)
    swapped = x.copy()
    swapped[[3, 17]] = x[[17, 3]]
    moved = norms.changes(norms.array_norms("x", x), norms.array_norms("x", swapped))
    assert moved["x/rms"] < 1e-15
    assert moved["x/sum"] > 1e-3
    lost = norms.array_norms("x", np.where(x > 1.9, np.nan, x))
    assert lost["x/nan"] == 5.0
    assert lost.keys() - norms.array_norms("x", x).keys() == {"x/nan"}


def test_round_off_around_zero_is_no_change_but_a_number_is():
    small = norms.changes({"figures/drift": 1e-16}, {"figures/drift": -1e-16})
    assert small["figures/drift"] < norms.EXACT
    large = norms.changes({"figures/drift": 1e-3}, {"figures/drift": 1.0001e-3})
    assert large["figures/drift"] == pytest.approx(1e-4, rel=1e-3)
    lost = norms.changes({"figures/drift": 1.0}, {"figures/drift": float("nan")})
    assert lost["figures/drift"] == float("inf")


def test_the_random_numbers_of_others_do_not_matter():
    torch.rand(7)
    first = norms.measure("vmc_ising_chain")
    torch.rand(7)
    assert norms.measure("vmc_ising_chain") == first
