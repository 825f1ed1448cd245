"""Verdicts: one comparison for all, equilibrium found, set-points met, limits named."""

import math

import numpy as np
import pytest

from scalebridge.engine.comparison import holds, worst
from scalebridge.engine.md.integrators import Schedule
from scalebridge.engine.md.verdicts import (
    Domain,
    Series,
    SetPoints,
    domain_checks,
    equilibrium_checks,
    time_step_check,
)
from scalebridge.engine.protocols import Check, Outcome, headline
from scalebridge.engine.statistics import equilibrium, inefficiency, trend

NAN, INF = math.nan, math.inf


def correlated(count, memory, seed=0, systems=None):
    """Return an autoregressive series of mean 0 and variance 1."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, systems) if systems else count)
    series = np.zeros_like(noise)
    series[0] = noise[0]
    for i in range(1, count):
        series[i] = memory * series[i - 1] + math.sqrt(1 - memory**2) * noise[i]
    return series


@pytest.mark.parametrize(
    ("value", "bound", "at_least", "kept"),
    [
        (1.0, 1.0, False, True), (1.1, 1.0, False, False), (1.0, 1.0, True, True),
        (0.9, 1.0, True, False), (NAN, 1.0, False, False), (NAN, 1.0, True, False),
        (INF, 1.0, True, False), (-INF, 1.0, False, False), (0.0, NAN, False, False),
        (0.0, INF, False, True),
    ],
)  # fmt: skip
def test_what_is_not_finite_never_passes(value, bound, at_least, kept):
    assert holds(value, bound, at_least) is kept


def test_the_worst_value_keeps_a_nan_wherever_it_stands():
    for values in ([NAN, 1.0], [1.0, NAN], [0.0, NAN, 2.0]):
        assert math.isnan(worst(values))
    assert worst([1.0, 3.0, 2.0]) == 3.0
    assert worst([]) == 0.0


def test_the_inefficiency_is_that_of_the_autoregressive_process():
    for memory in (0.0, 0.5, 0.9):
        exact = (1 + memory) / (1 - memory)
        found = [inefficiency(correlated(20_000, memory, seed)) for seed in range(5)]
        assert np.mean(found) == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("length", [30, 60, 100])
def test_a_transient_is_cut_and_no_longer_biases_the_mean(length):
    series = correlated(600, 0.5, 3)
    series += 12 * np.exp(-np.arange(600) / length)
    found = equilibrium(series)
    assert length < found.start < 5 * length
    assert abs(found.mean) < 5 * found.error + 0.1
    assert abs(series.mean()) > 0.5


def test_a_stationary_series_is_not_cut_and_has_no_trend():
    found = [equilibrium(correlated(1000, 0.5, seed)) for seed in range(20)]
    assert np.mean([f.start for f in found]) < 50
    assert max(trend(correlated(1000, 0.8, seed)) for seed in range(50)) < 5.0


@pytest.mark.parametrize("drift", [6.0, 20.0])
def test_a_drift_that_does_not_end_is_noticed(drift):
    series = correlated(500, 0.8, 1) + np.linspace(0, drift, 500)
    assert trend(series) > 5.0


def _series(**values):
    return Series({k: v[:, None] if v.ndim == 1 else v for k, v in values.items()})


def verdicts(checks):
    return {check.name: check.passed for check in checks}


def test_a_drifting_pressure_fails_equilibrium_and_too_few_samples_fail_sampling():
    good = correlated(500, 0.5)
    drifting = correlated(500, 0.5, 1) + np.linspace(0, 10, 500)
    said = verdicts(equilibrium_checks(_series(temperature=good, pressure=drifting)))
    assert not said["equilibrium"]
    slow = correlated(400, 0.99, 2)
    said = verdicts(equilibrium_checks(_series(temperature=good, potential_energy=slow)))
    assert not said["sampling"]
    said = verdicts(equilibrium_checks(_series(temperature=good, volume=0 * good + 17.3)))
    assert said == {"equilibrium": True, "sampling": True}


def test_a_nan_in_a_series_fails_every_check_of_it():
    bad = correlated(100, 0.5)
    bad[70] = NAN
    whole = _series(temperature=bad, kinetic_energy=bad, conserved=bad)
    assert not any(verdicts(equilibrium_checks(whole)).values())
    assert not any(verdicts(time_step_check(whole)).values())


def test_a_time_step_too_long_shows_in_the_conserved_quantity():
    kinetic, noise = correlated(300, 0.5), correlated(300, 0.2, 5)
    line = np.linspace(0, 3, 300)
    for size, passed in ((0.02, True), (0.4, False)):
        series = _series(kinetic_energy=kinetic, conserved=line + size * noise)
        assert verdicts(time_step_check(series)) == {"time_step": passed}


def test_set_points_end_where_their_ramps_do():
    ramp = Schedule((0.0, 50.0), ((300.0,), (600.0,)))
    assert SetPoints(Schedule.constant(300.0)).settled == 0.0
    assert SetPoints(ramp, Schedule.constant(1.0)).settled == 50.0


@pytest.mark.parametrize(
    ("energy", "nearest", "failed"),
    [
        ((-5.0, -4.7), 2.2, set()),
        ((-5.0, -4.3), 2.2, {"domain_potential_energy"}),
        ((-5.6, -5.0), 2.2, {"domain_potential_energy"}),
        ((-5.0, -4.7), 1.5, {"domain_distance"}),
        ((-5.0, NAN), 2.2, {"domain_potential_energy"}),
    ],
)
def test_a_run_that_leaves_the_data_of_its_potential_is_told(energy, nearest, failed):
    card = {
        "domain": {
            "shortest_distance_angstrom": 1.83, "energy_ev_per_atom": [-5.4, -4.5],
        }
    }  # fmt: skip
    series = _series(potential_energy=8 * np.array(energy))
    checks = list(domain_checks(Domain.of(card), series, np.array([8.0]), nearest))
    assert {check.name for check in checks if not check.passed} == failed
    assert len(checks) == 2


@pytest.mark.parametrize("card", [{}, {"domain": {"energy_ev_per_atom": [1]}}])
def test_a_card_without_a_domain_gives_none(card):
    assert Domain.of(card) == Domain()


def _check(name, kind, value):
    return Check(name, kind, value, 1.0)


def test_the_headline_counts_checks_and_names_what_was_not_checked():
    both = [_check("a", "health", 0.0), _check("b", "accuracy", 0.5)]
    assert headline(both, {}) == "2 checks, none failed"
    assert headline(both[:1], {"accuracy": "no reference"}) == (
        "1 check, none failed; accuracy not checked: no reference"
    )
    bad = [*both, _check("c", "domain", NAN)]
    assert headline(bad, {}) == "3 checks, 1 failed (c)"
    assert headline([], {}).startswith("nothing was checked; health not checked")


def test_what_was_not_checked_is_a_warning():
    assert Outcome(checks=[_check("a", "health", 0.0)]).warnings
    both = [_check("a", "health", 0.0), _check("b", "accuracy", 0.5)]
    assert not Outcome(checks=both).warnings
    assert Outcome(checks=both, unchecked={"domain": "one network"}).warnings
