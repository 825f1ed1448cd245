"""Every audit of a potential passes a sound one and fails a planted defect."""

import json
import math

import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner

from scalebridge.engine import runtime
from scalebridge.engine.audit import committee, findings, invariance
from scalebridge.engine.audit.fault_injection import (
    SPECIES,
    Changed,
    Guessing,
    on_silicon,
    potential_faults,
    scaled_forces,
)
from scalebridge.engine.audit.findings import tried
from scalebridge.engine.audit.module import audit
from scalebridge.engine.audit.potentials import PotentialAudit
from scalebridge.engine.audit.samples import Sample, Subject, crystal
from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.models import card
from scalebridge.models.potentials.deep_potential import HigherMoments
from scalebridge.models.potentials.unconstrained import random_rotations


@pytest.fixture(autouse=True)
def one_thread():
    runtime.start("cpu")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def faults():
    return {each.name: each for each in potential_faults()}


NAMES = [
    "translation",
    "rotation",
    "reflection",
    "rotation by angular order",
    "permutation",
    "extensivity",
    "net force and torque",
    "smoothness at the cutoff",
    "smoothness at neighbour swaps",
    "smoothness on random lines",
    "force = -gradient: order",
    "force = -gradient: error",
    "work round closed loops",
    "virial",
    "holes at short distance",
    "energy drift",
    "order of energy fluctuations",
    "committee coverage 90 %",
    "committee coverage 50 %",
    "committee ranking",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_defect_is_caught_and_the_sound_twin_passes(faults, name):
    good, bad = faults[name].verdicts()
    assert good.passed is True, good
    assert bad.passed is False, bad
    assert math.isfinite(good.value)


def test_a_planted_defect_has_the_size_that_it_says():
    atoms = bulk("Si", cubic=True).repeat((8, 8, 8))
    state = Sample.of(atoms, SPECIES).shaken(0.05, 1).state
    table = build_neighbours(state, StillingerWeber().cutoff, 0.0)
    sound = StillingerWeber()(state, table)
    more = Changed(scaled_forces)(state, table).forces / sound.forces
    torch.testing.assert_close(more, torch.full_like(more, 1.01))
    # widths are lognormal around 0.02 eV/angstrom: of 4,096 the mean logarithm to 0.016
    guessed = Guessing()(state, table)
    assert guessed.deviation is not None
    assert float(guessed.deviation.log().mean()) == pytest.approx(math.log(0.02), abs=0.06)
    off = (guessed.forces - sound.forces).norm(dim=1) / guessed.deviation
    assert float(off.square().mean()) == pytest.approx(1.0, abs=0.06)


def test_every_twin_is_in_the_list(faults):
    assert set(faults) == set(NAMES)


def test_angular_orders_of_known_functions():
    """A Wigner function D^l_00 has its whole power in order l: rms 1 / sqrt(2l + 1)."""
    turns, weights = invariance.rotation_grid()
    z = turns[:, 2, 2]
    assert float(weights.sum()) == pytest.approx(1.0)
    for order, values in (
        (0, torch.ones_like(z)),
        (1, z),
        (2, 1.5 * z**2 - 0.5),
        (3, 2.5 * z**3 - 1.5 * z),
        (4, (35 * z**4 - 30 * z**2 + 3) / 8),
    ):
        found = invariance.order_amplitudes(values, turns, weights)
        expected = torch.zeros(5, dtype=torch.float64)
        expected[order] = 1 / math.sqrt(2 * order + 1)
        # the square root turns rounding of 1e-16 into 1e-8
        assert torch.allclose(found, expected, atol=2e-7)


def test_the_grid_averages_like_random_rotations():
    turns, weights = invariance.rotation_grid()
    some = random_rotations(20000, torch.Generator().manual_seed(0))
    vector = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)

    def f(r):
        return (r @ vector)[..., 0] ** 2 + (r @ vector)[..., 1]

    assert float((weights * f(turns)).sum()) == pytest.approx(
        float(f(some).mean()), abs=0.02
    )


def test_coverage_of_normal_errors():
    rng = torch.Generator().manual_seed(0)
    error = torch.randn(20000, 3, generator=rng, dtype=torch.float64).norm(dim=1)
    expected = torch.full_like(error, math.sqrt(3))
    assert committee.coverage(error, expected, 0.9) == pytest.approx(0.9, abs=0.01)
    assert committee.coverage(error, expected, 0.5) == pytest.approx(0.5, abs=0.015)


def test_invariances_of_a_calculator_of_ase():
    copper = bulk("Cu", cubic=True).repeat((2, 2, 2))
    subject = Subject.of(_ase(EMT()), copper)
    for each in (invariance.translation, invariance.rotation, invariance.permutation):
        assert all(finding.passed for finding in tried(each, subject))


@pytest.mark.slow
def test_a_calculator_of_ase_is_audited():
    """EMT has a smooth cutoff and exact gradients; it says so itself."""
    copper = bulk("Cu", cubic=True).repeat((2, 2, 2))
    report = PotentialAudit(picoseconds=0.05)("emt", Subject.of(_ase(EMT()), copper))
    for name in ("translation", "rotation", "permutation", "work round closed loops"):
        assert report[name].passed, report[name]


def _ase(calculator):
    from scalebridge.engine.interop.ase import AsePotential

    return AsePotential(calculator, ("Cu",))


def test_a_calculator_without_a_structure_is_refused():
    with pytest.raises(InputError, match="structure"):
        audit(EMT())
    with pytest.raises(InputError, match="there is no audit for object"):
        audit(object())
    with pytest.raises(InputError, match="--structure"):
        crystal(("H", "O"))


def test_a_report_says_what_failed():
    fine = findings.at_most("rotation", 1e-12, 1e-10)
    wrong = findings.at_most("<b>drift</b>", float("nan"), 1e-5, "eV/atom/ps")
    open_ = findings.not_measured("calibration", "no frames")
    report = findings.Report("m", "potential", [fine, wrong, open_])
    assert not report.passed
    assert report.failures == ["<b>drift</b>"]
    page = findings.page(report)
    assert "<b>drift" not in page
    assert "not measured" in page
    assert json.loads(json.dumps(report.as_dict()))["findings"][1]["value"] is None
    assert findings.Report("m", "potential", [fine, open_]).passed
    assert not findings.Report("m", "potential", [open_]).passed


def test_the_command_writes_card_and_page_and_fails_for_a_bad_model(tmp_path, monkeypatch):
    from scalebridge.engine.audit import module

    form = HigherMoments(
        ("Si",), cutoff=4.0, channels=3, axis=2, products=2, fitting=(8,), members=1
    )
    path = card.save_module(tmp_path / "net", form.build(seed=1).double(), {"units": "eV"})
    short = PotentialAudit.__call__

    def quick(self, name, subject):
        return short(PotentialAudit(picoseconds=0.01), name, subject)

    monkeypatch.setattr(module.PotentialAudit, "__call__", quick)
    result = CliRunner().invoke(main, ["audit", str(path)])
    written = json.loads((tmp_path / "net.audit.json").read_text())
    on_card = card.read_card(path)
    assert on_card["audit"] == written
    assert on_card["units"] == "eV"
    assert result.exit_code == (0 if written["passed"] else 1)
    assert (tmp_path / "net.audit.html").read_text().startswith("<!doctype html>")
    names = {row["name"]: row for row in written["findings"]}
    assert names["rotation"]["passed"]
    card.load_module(path)
    missing = CliRunner().invoke(main, ["audit", "nosuch"])
    assert missing.exit_code == 2
    assert "silicon" in missing.output


def test_single_precision_has_its_own_tolerance():
    subject = Subject.of(StillingerWeber(), crystal(("Si",)), torch.float32)
    assert invariance.rotation(subject).passed
    assert invariance.rotation(on_silicon(StillingerWeber())).threshold == 1e-10
