"""A gas that asks molecular dynamics for its collision rates."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scalebridge import scenarios
from scalebridge.engine import scenario as scenario_files
from scalebridge.engine.coupling import collisions, coupled
from scalebridge.engine.coupling.collisions import Conditions, PairCollisions, Viscosity
from scalebridge.engine.coupling.comparison import reference
from scalebridge.engine.coupling.coupled import RateCache
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn.label_store import LabelError, fingerprint
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder

ARGON = collisions.Molecules(124.0, 3.418, 39.948)
FOLDER = Path(scenarios.__file__).parent
SHORT = [
    "grid.cells=40",
    "time.end=0.5",
    "time.frames=2",
    "collisions.pairs=64",
    "collisions.noise=0.03",
    "cache.tolerance=0.05",
]


def exact(temperature: float) -> float:
    return float(reference(ARGON)(torch.tensor(temperature, dtype=torch.float64)))


# -- collisions ---------------------------------------------------------------------------


def test_simulated_collisions_give_the_published_viscosity():
    """Within three of its own error bars, at two temperatures."""
    labeler = PairCollisions(ARGON, pairs=256)
    for temperature in (200.0, 1000.0):
        found = labeler.label(Conditions(temperature))
        assert 0 < found.error < 0.01 * found.value
        assert abs(found.value - exact(temperature)) < 3 * found.error


def test_a_wrong_well_is_seen():
    """The planted defect: a well deeper by a fifth is another gas."""
    wrong = replace(ARGON, epsilon=1.2 * ARGON.epsilon)
    found = PairCollisions(wrong, pairs=256).label(Conditions(200.0))
    assert abs(found.value - exact(200.0)) > 5 * found.error


def test_argon_at_room_temperature():
    """22.7 uPa s at 300 K (CRC Handbook of Chemistry and Physics)."""
    assert abs(exact(300.0) * 1e6 - 22.7) < 0.1


def test_head_on_and_far_collisions():
    energy = torch.tensor([5.0, 5.0], dtype=torch.float64)
    cosine = collisions.deflection(energy, torch.tensor([0.0, 4.0], dtype=torch.float64))
    assert cosine[0] == pytest.approx(-1.0, abs=1e-9)  # straight back
    assert cosine[1] == pytest.approx(1.0, abs=1e-5)  # not deflected


def test_the_deflection_angle_is_that_of_the_classical_integral():
    """chi = pi - 2 b int_rm^inf dr / (r^2 sqrt(1 - b^2/r^2 - U/E)), by quadrature."""
    from scipy.integrate import quad
    from scipy.optimize import brentq

    def angle(e, b):
        def radial(u):  # u = 1 / r
            return 1 - (b * u) ** 2 - 4 * (u**12 - u**6) / e

        top = brentq(radial, 0.3, 2.0) if radial(2.0) < 0 else 2.0
        whole = quad(lambda t: t / radial(top * (1 - t * t)) ** 0.5, 0, 1, limit=200)[0]
        return torch.pi - 4 * b * top * whole

    pairs = [(3.0, 0.5), (3.0, 1.1), (20.0, 0.8)]
    columns = torch.tensor(pairs, dtype=torch.float64).T
    found = collisions.deflection(columns[0], columns[1], stride=0.005)
    expected = torch.tensor([angle(e, b) for e, b in pairs], dtype=torch.float64).cos()
    assert (found - expected).abs().max() < 2e-3


def test_a_dense_gas_is_refused():
    with pytest.raises(LabelError, match="not dilute"):
        PairCollisions(ARGON).label(Conditions(300.0, density=100.0))


def test_the_key_of_a_label_does_not_hold_the_density():
    keys = {
        fingerprint(collisions.CONDITIONS.pack(Conditions(300.0, density)), "method")
        for density in (0.0, 1e-4)
    }
    assert len(keys) == 1


# -- the cache ----------------------------------------------------------------------------


def perfect(samples, noise=0.0, seed=1):
    rng = torch.Generator().manual_seed(seed)
    values = [exact(s.temperature) for s in samples]
    errors = torch.randn(len(values), generator=rng).tolist()
    pairs = zip(values, errors, strict=True)
    return [Viscosity(v * (1 + noise * e), v * noise) for v, e in pairs]


def test_the_error_bar_of_the_cache_is_true():
    """Of many caches with noisy labels, the errors are as large as their bars say."""
    here = torch.tensor(coupled.spaced(250.0, 1500.0, 40), dtype=torch.float64)
    ratios = []
    for seed in range(20):
        found = coupled.table(
            lambda s, seed=seed: perfect(s, 0.004, seed), 250.0, 1500.0, 5,
            RateCache.empty(), 0.0,
        )  # fmt: skip
        value, spread = found.predict(here)
        ratios.append((value / reference(ARGON)(here) - 1) / spread)
    rms = float(torch.stack(ratios).square().mean().sqrt())
    assert 0.4 < rms < 1.3


def test_asking_meets_the_tolerance_with_few_labels():
    cache, places = RateCache.empty(), torch.linspace(300.0, 1100.0, 200).double()
    asked = coupled.wanted(cache, places, 0.006, 0.004)
    assert 2 <= len(asked) <= 6
    samples = [Conditions(t) for t in asked]
    known = cache.with_labels(samples, perfect(samples, 0.004))
    assert known.predict(places)[1].max() <= 0.006
    assert coupled.wanted(known, places, 0.006, 0.004) == []
    hotter = torch.tensor([1500.0], dtype=torch.float64)
    assert coupled.wanted(known, hotter, 0.006, 0.004) == [1500.0]


def test_labels_too_noisy_for_the_tolerance_are_bad_input():
    with pytest.raises(InputError, match=r"cache\.tolerance"):
        coupled.wanted(RateCache.empty(), torch.tensor([300.0]).double(), 0.005, 0.005)


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [("collisions.pairs", 16, 65536), ("collisions.replicas", 4, 64)],
)
def test_the_size_of_a_label_has_its_bounds(key, least, most):
    for fine in (least, most):
        scenario_files.load("argon_coupled_shock", [f"{key}={fine}"])
    for wrong in (least - 1, most + 1):
        with pytest.raises(InputError, match=key):
            scenario_files.load("argon_coupled_shock", [f"{key}={wrong}"])


def test_a_wide_table_needs_more_labels_than_a_narrow_one():
    counts = [
        coupled.fewest(low, high, RateCache.empty(), 0.006, 0.004)
        for low, high in ((300.0, 1100.0), (100.0, 5000.0))
    ]
    assert counts[0] < counts[1]


# -- the coupled shock --------------------------------------------------------------------


def job_of(*changes):
    checked, base = scenario_files.load("argon_coupled_shock", [*SHORT, *changes])
    return assemble(checked, base)


@pytest.mark.slow
def test_the_coupled_shock_and_its_resumption(tmp_path):
    """Shortened; a run broken off and resumed ends with the same bits and no label more."""

    def run(path, stop_after=None):
        job = job_of()
        make = RunFolder.open if path.exists() else None
        with make(path) if make else RunFolder.create(path, "", {}) as folder:
            if stop_after is None:
                return job.run(folder, console_reporter(quiet=True))
            count = iter(range(1000))
            original = coupled.CoupledGas.step

            def step(self, state):
                if next(count) == stop_after:
                    raise KeyboardInterrupt
                return original(self, state)

            with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(coupled.CoupledGas, "step", step)
                job.run(folder, console_reporter(quiet=True))
            return None

    whole = run(tmp_path / "whole")
    run(tmp_path / "broken", stop_after=9)
    resumed = run(tmp_path / "broken")
    assert set(whole.verdicts.values()) == {"ok"}
    for name, figure in whole.figures.items():
        assert resumed.figures[name].value == figure.value, name
    assert whole.figures["md_calls_coupled"].value >= 2
    log = (tmp_path / "broken" / "labels" / "log.txt").read_text().split()
    done = [log[k + 1] for k, word in enumerate(log) if word == "done"]
    assert len(done) == len(set(done))
    assert whole.figures["rate_error_coupled"].value < 15
