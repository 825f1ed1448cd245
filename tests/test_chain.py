"""From labels to a shock: learned pair potential, bars, controller, gradient, resume."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import scalebridge as sb
from scalebridge.engine import commands
from scalebridge.engine.chain import job as chain
from scalebridge.engine.chain.budget import Row, total
from scalebridge.engine.chain.closure import ClosedShock, Teaching
from scalebridge.engine.chain.goal import Window, sensitivities
from scalebridge.engine.chain.labelling import Plan, Request, decide, label_until_known
from scalebridge.engine.chain.particles import _unbiased
from scalebridge.engine.chain.properties import Atoms, Collisions, innermost
from scalebridge.engine.chain.shock import ShockTube, integral_measure, solve
from scalebridge.engine.errors import DamagedFileError, GuardError, InputError
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn.label_store import working_in
from scalebridge.engine.learn.labelers import vmc_dimer
from scalebridge.engine.learn.labelers.dimer import DimerLabeler, cardinal, midbond_basis
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.vmc.differences import Difference
from scalebridge.models.potentials.pair import (
    BOHR,
    LearnedPair,
    PairLabel,
    Prior,
    covariance,
    damping,
)
from scalebridge.viz import chain as pictures
from scalebridge.viz import style
from scalebridge.viz.record import Record

HELIUM = PUBLISHED["He"]
PRIOR = Prior(HELIUM.dispersion)
WINDOW = Window(Atoms("He", HELIUM.mass), 250.0, 900.0, quantum=False)


def _labels(bohr, shift=0.0, error=1e-4, common=0.0) -> tuple[PairLabel, ...]:
    found = []
    for b in bohr:
        v = float(HELIUM.pair(torch.tensor(b * BOHR, dtype=torch.float64)))
        own = {"basis": common * abs(v)} if common else {}
        found.append(PairLabel(b * BOHR, v * (1 + shift), error * abs(v), own))
    return tuple(found)


SIX = _labels((2.0, 3.0, 3.5, 4.0, 4.5, 5.6))


def _ln_viscosity(gas: Collisions) -> torch.Tensor:
    return gas.coefficients(torch.tensor([300.0], dtype=torch.float64)).viscosity[0].log()


# -- potential -----------------------------------------------------------------------------


def test_damping_is_the_sum_and_keeps_its_digits():
    x = torch.tensor([0.01, 0.5, 3.0, 20.0], dtype=torch.float64)
    exact = 1 - torch.exp(-x) * sum(x**k / math.factorial(k) for k in range(7))
    torch.testing.assert_close(damping(6, x)[1:], exact[1:], rtol=1e-6, atol=0)
    # the series: x^7 / 7! (1 - 7/8 x + ...)
    assert float(damping(6, x)[0]) == pytest.approx(1e-14 / 5040 * (1 - 0.00875), rel=1e-4)


def test_three_exact_labels_give_the_wall_and_six_the_viscosity():
    pair = LearnedPair.of(SIX, PRIOR)
    r = torch.linspace(2.2, 6.0, 40, dtype=torch.float64) * BOHR
    exact = HELIUM.pair(r)
    gap = (pair(r) - exact).abs() / pair.baseline.scale(r)
    assert float(gap.max()) < 2e-3
    found = WINDOW.of(pair)
    truth = WINDOW.collisions(HELIUM.pair, 0.5)
    assert abs(float(_ln_viscosity(found) - _ln_viscosity(truth))) < 1e-4


def test_the_posterior_goes_through_the_labels_and_has_their_derivative():
    pair = LearnedPair.of(SIX, PRIOR)
    r = pair.separations
    torch.testing.assert_close(pair(r), pair.energies, rtol=2e-4, atol=1e-3)
    away = torch.linspace(1.2, 3.5, 9, dtype=torch.float64)
    step, jacobian = 1e-4 * pair.energies.abs(), pair.jacobian(away)
    for k in range(len(r)):
        one = step * (torch.arange(len(r)) == k)
        up, down = (pair.with_energies(pair.energies + s * one)(away) for s in (1, -1))
        slope = (up - down) / (2 * step[k])
        # differences of order step^2, and rounding of the fit over the step
        torch.testing.assert_close(slope, jacobian[:, k], rtol=1e-4, atol=1e-5)


def test_bars_cover_between_labels_and_widen_away_from_them():
    pair = LearnedPair.of(_labels((2.5, 4.0, 5.6)), PRIOR)
    near, between = (
        float(pair.posterior(torch.tensor([b * BOHR], dtype=torch.float64)).sqrt())
        / float(pair.baseline.scale(torch.tensor(b * BOHR, dtype=torch.float64)))
        for b in (4.0, 3.2)
    )
    assert near < 2e-3 < between < PRIOR.amplitude
    with pytest.raises(ValueError, match="label a"):
        innermost(pair, 5000.0)


def test_a_common_error_moves_all_labels_together():
    spread = covariance(_labels((3.0, 4.0), error=0.0, common=0.01))
    correlation = spread[0, 1] / (spread[0, 0] * spread[1, 1]).sqrt()
    assert float(correlation) == pytest.approx(1.0)


def test_too_few_labels_or_no_wall_are_refused():
    with pytest.raises(ValueError, match="three parameters"):
        LearnedPair.of(SIX[:2], PRIOR)
    with pytest.raises(ValueError, match="repulsive wall"):
        LearnedPair.of(_labels((5.6, 6.0, 7.0)), PRIOR)
    with pytest.raises(ValueError, match="positive"):
        Prior((-1.0,))


# -- published potentials ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "r", "kelvin"),
    [  # tables of the papers, printed digits
        ("Ne", 1.6, 26879.940), ("Ne", 5.6, -1.631), ("Ar", 2.0, 51406.200),
        ("Kr", 2.4, 27872.324), ("Kr", 4.0, -200.741), ("Xe", 2.6, 37578.501),
        ("Xe", 9.0, -4.343),
    ],
)  # fmt: skip
def test_published_potentials_have_the_values_of_their_tables(symbol, r, kelvin):
    found = float(PUBLISHED[symbol].pair(torch.tensor(r, dtype=torch.float64)))
    assert found == pytest.approx(kelvin, rel=1e-3)


# -- gradients and the controller ----------------------------------------------------------


def test_the_gradient_by_labels_is_that_of_learning_again():
    pair = LearnedPair.of(SIX, PRIOR)
    found, gas = sensitivities(pair, SIX, WINDOW, {"mu": _ln_viscosity})
    for k in (1, 3):
        values = []
        for sign in (1, -1):
            moved = list(SIX)
            moved[k] = replace(moved[k], energy=moved[k].energy * (1 + 0.002 * sign))
            again = LearnedPair.of(moved, PRIOR)
            other = WINDOW.collisions(again, innermost(again, 900.0), gas)
            values.append(float(_ln_viscosity(other).detach()))
        difference = (values[0] - values[1]) / 0.004
        gradient = float(found["mu"].by_label[k]) * SIX[k].energy
        assert gradient == pytest.approx(difference, rel=2e-3, abs=1e-5)


def test_a_common_factor_is_propagated_whole():
    labels = _labels((2.0, 3.0, 3.5, 4.0, 4.5, 5.6), common=0.01)
    pair = LearnedPair.of(labels, PRIOR)
    found, _ = sensitivities(pair, labels, WINDOW, {"mu": _ln_viscosity})
    rows = found["mu"].rows
    # the wall by 1 %: viscosity by about 0.2 % (r_wall / 2 times d ln r / d ln V)
    assert 1e-3 < rows["labels, basis"] < 3e-3
    assert rows["labels, independent"] < 0.1 * rows["labels, basis"]
    assert found["mu"].bar >= rows["labels, basis"]


def test_the_controller_stops_at_the_bar_and_says_why():
    asked = []

    def ask(request):
        asked.append(request)
        return _labels((request.separation / BOHR,), error=1e-5)[0]

    plan = Plan(tuple(b * BOHR for b in (2.0, 4.0, 5.6)), 1.5 * BOHR, 9 * BOHR, 6e-5, 9)
    found = label_until_known(plan, ask, PRIOR, WINDOW, _ln_viscosity)
    assert found.reached
    assert found.rounds[-1].bar <= 6e-5
    assert 3 < len(found.labels) <= 7
    bars = [item.bar for item in found.rounds]
    assert all(b < 1.02 * a for a, b in itertools.pairwise(bars))
    # what it learns is true
    error = _ln_viscosity(WINDOW.of(LearnedPair.of(found.labels, PRIOR)))
    error = error - _ln_viscosity(WINDOW.collisions(HELIUM.pair, 0.5))
    assert abs(float(error)) < 3 * found.rounds[-1].bar


def test_a_common_error_asks_for_a_finer_level_and_no_more_separations():
    labels = _labels((2.0, 3.0, 4.0, 5.6), common=0.02)
    pair = LearnedPair.of(labels, PRIOR)
    found, _ = sensitivities(pair, labels, WINDOW, {"mu": _ln_viscosity})
    plan = Plan((), 1.5 * BOHR, 9 * BOHR, 1e-4, 9, finer=True)
    request = decide(found["mu"], plan, [False] * 4).request
    assert request is not None
    assert request.level == "fine"
    assert request.separation == pytest.approx(4.0 * BOHR)
    full = decide(found["mu"], replace(plan, most=4), [False] * 4)
    assert full.request is None
    assert "4 labels" in full.reason


def test_noise_does_not_make_a_shock_steeper():
    x = torch.linspace(-8, 8, 65, dtype=torch.float64)
    exact = 0.5 * (1 + torch.tanh(0.5 * x))
    noise = torch.randn(40, 65, generator=torch.Generator().manual_seed(3)).double()
    value, error = _unbiased(exact + 0.05 * noise, 0.25)
    plain = float(integral_measure((exact + 0.05 * noise)[0], 0.25))
    truth = float(integral_measure(exact, 0.25))
    assert abs(float(value) - truth) < 3 * error
    assert plain > truth + 0.3  # the noise of one block: 2 * 64 * .05^2 * 1.5 / .25


def test_the_budget_adds_squares_of_what_counts():
    rows = [Row("a", "measured", -3e-3), Row("b", "propagated", 4e-3)]
    assert total([*rows, Row("c", "measured", 1.0, counted=False)]) == pytest.approx(5e-3)


# -- quantum chemistry ---------------------------------------------------------------------


def test_basis_sets_and_midbond_functions_are_named_or_refused():
    assert [cardinal(b) for b in ("cc-pvdz", "aug-cc-pVTZ", "d-aug-cc-pvqz")] == [2, 3, 4]
    assert midbond_basis("2s1p") == [[0, [0.6, 1.0]], [0, [0.2, 1.0]], [1, [0.3, 1.0]]]
    assert midbond_basis("") == []
    for wrong in (
        lambda: cardinal("6-31g"),
        lambda: midbond_basis("4s"),
        lambda: midbond_basis("s"),
        lambda: DimerLabeler("Si"),
        lambda: DimerLabeler(basis=("aug-cc-pvdz", "aug-cc-pvqz")),
    ):
        with pytest.raises(ValueError, match=r"extrapolated|write|allowed|follow"):
            wrong()
    assert DimerLabeler("He").full
    assert not DimerLabeler("Ne").full


def test_helium_at_three_bohr_is_within_its_bar_of_the_exact_energy():
    pytest.importorskip("pyscf")
    coarse = DimerLabeler(basis=("aug-cc-pvdz", "aug-cc-pvtz"), midbond="2s1p")
    found = coarse.label(3.0 * BOHR)
    bar = math.hypot(found.independent, *found.common.values())
    assert found.energy == pytest.approx(3768.98, rel=0.015)  # Przybytek et al. 2010
    assert 0.1 < abs(found.energy - 3768.98) / bar < 2.5


# -- variational Monte Carlo ---------------------------------------------------------------

TINY = {"walkers": 64, "first_iterations": 40, "iterations": 10, "first_sweeps": 20,
        "sweeps": 10}  # fmt: skip
ATOMS_FAR_APART = 2 * -2.903724377
HOME = vmc_dimer._Energy(None, ATOMS_FAR_APART + 0.0124, 3e-4, 2e-3)


def _by_differences(monkeypatch, here, sampled):
    """Return a labeler whose energies are given."""
    labeler = vmc_dimer.VmcDimerLabeler()
    labeler.__dict__["_home"] = HOME
    labeler.__dict__["_solver"] = SimpleNamespace(difference=lambda *_: sampled)
    monkeypatch.setattr(type(labeler), "_solved", lambda *_: here)
    return labeler


@pytest.mark.parametrize(
    ("bohr", "sampled", "energy", "own", "reference", "variance"),
    [
        (3.0, math.nan, 0.0124, 0.0, 3e-4, 2e-3),  # home itself
        (2.5, 1e-4, 0.0394, 1e-4, 3e-4, 4e-3),  # by way of home
        (2.5, 3e-4, 0.0390, 4e-4, 0.0, 4e-3),  # drawn apart, where that is sharper
        (2.5, math.nan, 0.0390, 4e-4, 0.0, 4e-3),  # or too far for the walkers
    ],
)
def test_what_a_wavefunction_lacks_is_taken_off_and_errors_are_own_or_shared(
    monkeypatch, bohr, sampled, energy, own, reference, variance
):
    here = vmc_dimer._Energy(None, ATOMS_FAR_APART + 0.039, 4e-4, 4e-3)
    labeler = _by_differences(monkeypatch, here, Difference(0.027, sampled, 0.9))
    found, unit = labeler.label(bohr * BOHR), 3.1668115634556e-6
    excess = vmc_dimer.EXCESS * variance
    assert found.energy * unit == pytest.approx(energy - excess, abs=1e-9)
    assert found.independent * unit == pytest.approx(own)
    common = {name: error * unit for name, error in found.common.items()}
    assert common == pytest.approx({"reference": reference, "wavefunction": excess / 2})


@pytest.mark.slow
def test_a_label_by_monte_carlo_is_true_and_home_is_solved_once(tmp_path, monkeypatch):
    pytest.importorskip("pyscf")
    labeler = vmc_dimer.VmcDimerLabeler(**TINY)
    with working_in(tmp_path):
        found = labeler.label(2.0 * BOHR)
    bar = math.hypot(found.independent, *found.common.values())
    assert found.energy == pytest.approx(36152, abs=3 * bar)  # Przybytek et al. 2010
    assert bar < 0.5 * found.energy
    assert found.source == "variational Monte Carlo"
    again = vmc_dimer.VmcDimerLabeler(**TINY)
    monkeypatch.setattr(type(again), "_solved", lambda *_: pytest.fail("solved again"))
    with working_in(tmp_path):
        assert again._home.energy == labeler._home.energy
        (kept,) = tmp_path.glob("home_*.safetensors")
        kept.write_bytes(kept.read_bytes()[:-5])
        with pytest.raises(DamagedFileError, match="damaged; delete it"):
            _ = vmc_dimer.VmcDimerLabeler(**TINY)._home


# -- the whole -----------------------------------------------------------------------------

SMALL = """
version = 1
kind = "chain"
title = "small"
[labels]
labeler = { kind = "published" }
start = [2.0, 3.0, 4.0, 5.6]
[transport]
temperatures = [300.0, 600.0]
quantum = false
confirm = [600.0]
[shock]
mach = [1.6]
of = 1.6
cells = 48
nodes = 36
settling = 400
extent = 12.0
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    (folder / "a.toml").write_text(SMALL)
    return folder, sb.run(folder / "a.toml", out=folder / "run", strict=False)


def test_the_chain_closes_with_one_gradient_and_a_budget(done):
    folder, outcome = done
    failed = [check.name for check in outcome.checks if not check.passed]
    assert failed in ([], ["similarity_law"])  # exact in the limit of fine cells alone
    assert outcome.figures["labels"].value <= 6
    assert outcome.figures["viscosity"].value == pytest.approx(19.88, rel=1e-3)  # classical
    rows = json.loads((folder / "run" / "budget.json").read_text())
    assert {row["source"] for row in rows} >= {"between labels", "labels, independent"}
    # trajectories of 4,096 pairs and the integrals, two ways to one number
    assert outcome.figures["pairs_departure"].value < 0.01
    # 16/5 mu / (rho sqrt(2 pi R T)) at 300 K and 6.67 Pa
    assert outcome.figures["free_path"].value == pytest.approx(3.002, rel=2e-3)


def test_the_report_says_whose_the_labels_are_and_why_no_more_were_asked(done):
    folder, _ = done
    groups = Record(folder / "run").groups()
    assert "tolerance" in pictures.chosen(groups)
    with style.styled():
        _, said = pictures.potential(groups).axes[0].get_legend_handles_labels()
        assert "labels by a published potential" in said
        sources = [
            "one",
            "two",
            *["one"] * (len(groups["labels"].columns["energy"].values) - 2),
        ]
        other = replace(groups["labels"], attributes={"sources": sources})
        made = pictures.potential({**groups, "labels": other})
        _, said = made.axes[0].get_legend_handles_labels()
    assert {"labels by one", "labels by two"} <= set(said)


def test_a_chain_that_is_resumed_computes_nothing_again(done, monkeypatch):
    folder, outcome = done
    job = commands.scenarios.load(folder / "a.toml", ())

    def never(*_args, **_more):
        raise AssertionError("computed again")

    monkeypatch.setattr(chain, "solve", never)
    made = replace(assemble(*job), labeler=never)
    with RunFolder.open(folder / "run") as again:
        found = made.run(again, console_reporter(quiet=True))
    assert found.figures["thickness"] == outcome.figures["thickness"]


def test_labels_of_two_kinds_are_told_apart(tmp_path, done):
    (tmp_path / "a.toml").write_text(SMALL)
    far = "labels.far={beyond=3.5, labeler={kind='published', error=0.01}}"
    made = assemble(*commands.scenarios.load(tmp_path / "a.toml", (far.replace("'", '"'),)))
    near, out = (made.labeler.label(b * BOHR) for b in (3.4, 3.6))
    assert near.independent == pytest.approx(1e-4 * near.energy)
    assert out.independent == pytest.approx(1e-2 * out.energy)
    _, outcome = done
    assert outcome.figures["labels"].note.endswith("by a published potential")
    two = [replace(near, source="one"), replace(near, source="one"), out]
    assert chain._sources(two) == "2 by one; 1 by a published potential"


TEACH = """
version = 1
kind = "train"
title = "tiny"
steps = 2
linear = 0.0
batch = 8
members = 1
velocities = 24
refinement = 1
validation = 0.5
cells = 24
name = "tiny"
[[families]]
name = "wave"
flows = 2
until = 0.02
[model]
kind = "local_closure"
order = 5
hidden = [8]
dimension = 3
prandtl = 0.6666666666666666
"""


def test_a_chain_trains_its_closure_once(tmp_path, monkeypatch):
    (tmp_path / "teach.toml").write_text(TEACH)
    (tmp_path / "a.toml").write_text(SMALL)
    setting = ('shock.closure="teach.toml"',)
    made = assemble(*commands.scenarios.load(tmp_path / "a.toml", setting))
    report = console_reporter(quiet=True)
    with RunFolder.create(tmp_path / "run", SMALL, {}) as folder:
        closure = made._closure(folder, report)
        assert closure.equations(0.8).order == 5
        monkeypatch.setattr(Teaching, "run", lambda *_: pytest.fail("trained again"))
        assert made._closure(folder, report) == closure
    (tmp_path / "teach.toml").write_text(TEACH.replace("members = 1", "members = 2"))
    with pytest.raises(InputError, match="members = 2; one closure"):
        commands.check(tmp_path / "a.toml", setting)


@pytest.mark.slow
def test_a_learned_closure_gives_the_shock_of_the_kinetic_equation():
    """At Mach 1.4, where it needs no help: thickness within 2 % of Shakhov's equation, of
    which it learned from weak flows; the continuum is 8 % off."""
    tube = ShockTube(1.4, cells=64, extent=14.0, nodes=40, settling=600)
    member = Path(__file__).parents[1] / "scenarios/models/closure_3v_0.safetensors"
    law = 0.75 * tube.temperatures.log()
    exact, _ = solve(tube, law, torch.tensor(2 / 3, dtype=torch.float64))
    found, share = ClosedShock(member).run(tube, 0.75, (exact.density, exact.temperature))
    assert share == 0.0
    assert float(found.inverse_thickness) == pytest.approx(
        float(exact.inverse_thickness), rel=0.02
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("atoms.mass=5.0", "mass: 5.0 contradicts"),
        ("atoms.dispersion=[3.0]", "dispersion: 3.0 contradicts"),
        ("atoms.symbol='Si'", "atoms.symbol"),
        ("shock.of=2.5", "none of mach"),
        ("shock.mach=[2.0, 2.0]", "shock.mach: 2 stands twice"),
        ("shock.particles.mach=[2.0, 3.0, 2.0]", "shock.particles.mach: 2 stands twice"),
        ("shock.mach=[1.6, 9.0]", "start with a smaller separation"),
        ("labels.start=[4.0, 5.0]", "labels.start"),
        ("labels.start=[2.0, 2.01, 5.6]", "at least 0.1"),
        ("labels.start=[2.0, 4.0, 9.5]", "farthest = 9"),
        ("labels.nearest=3.0", "allowed is nearest = 3"),
        ("labels.nearest=0.2", "published from"),
        ("potential.length=50", "potential.length"),
        ("transport.temperatures=[0.001]", "transport.temperatures"),
        ("shock.temperature=5.0", "shock.temperature"),
        ("labels.labeler={kind='dimer', symbol='Ar'}", "contradicts atoms.symbol"),
        ("labels.labeler={kind='dimer', basis=['6-31g', 'cc-pvtz']}", "extrapolated"),
        (
            "shock.closure='scenarios/models/closure_wide_0.safetensors'",
            "shock.closure: learned in",
        ),
        ("shock.closure='models/none.safetensors'", "no such file"),
        ("shock.closure='scenarios/closure_shock_train.toml'", "trains no local_closure"),
        ("shock.closure='scenarios/closure_local_train.toml'", "prandtl 1 and 1; here 3"),
        ("labels.labeler={kind='vmc_dimer', symbol='Ne'}", "contradicts atoms.symbol"),
        ("labels.labeler={kind='vmc_dimer', walkers=1}", "labels.labeler.walkers"),
        ("labels.far={beyond=9.5, labeler={kind='dimer'}}", "nothing to do"),
        ("labels.far={beyond=1.0, labeler={kind='dimer'}}", "nothing to do"),
        (
            "labels.far={beyond=3.5, labeler={kind='dimer', symbol='Ar'}}",
            "labels.far.labeler.symbol: 'Ar' contradicts",
        ),
        ("transport={pairs=512}", "nothing collides"),
        ("transport.confirm=[450.0]", "none of temperatures"),
        ("shock.particles={mach=[2.0], wall=0.2}", "none of particles.mach"),
        ("labels.labler={kind='dimer'}", "did you mean labeler"),
    ],
)
def test_chains_that_cannot_be_right_are_refused_by_check(tmp_path, change, said):
    (tmp_path / "a.toml").write_text(SMALL)
    with pytest.raises(InputError) as caught:
        commands.check(tmp_path / "a.toml", (change.replace("'", '"'),))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("energy", "error", "common"),
    [(math.nan, 1.0, 0.0), (1.0, math.nan, 0.0), (1.0, 1.0, math.inf), (1.0, -1.0, 0.0)],
)
def test_a_label_that_is_no_number_is_not_kept(energy, error, common):
    class Broken:
        def label(self, separation):
            return PairLabel(separation, energy, error, {"basis": common})

    with pytest.raises(GuardError, match=r"^label at 2\.500 angstrom"):
        chain._labelled(Broken(), Request(2.5, "coarse", ""))
