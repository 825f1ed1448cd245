"""The scenarios that differentiate a whole computation, shortened."""

import pytest

from scalebridge.engine import scenario as scenario_files
from scalebridge.engine.errors import InputError
from scalebridge.engine.inverse.rdf import RdfFit
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.studies.closure_in_loop import ClosureLoop
from scalebridge.studies.shock_sensitivity import ShockSensitivity

SHORT = {
    "learn_viscosity": (
        "temperatures=[300.0,400.0,600.0] viscosities=[22.7,28.6,38.8] iterations=5"
    ),
    "shock_sensitivity": "cells=40 nodes=28 extent=14.0 settling=300",
    "learn_lj_from_rdf": (
        "cells=2 replicas=2 melting=10 settling=5 frames=3 interval=3 rounds=1 r_max=5.8 "
        "cutoff=5.5"
    ),
    "closure_in_the_loop": (
        "flows=4 held_out=4 cells=20 refinement=2 velocities=48 regression=10 steps=2 "
        "batch=2 horizons=[1,2]"
    ),
}


def run(name, folder, more=()):
    checked, base = scenario_files.load(name, [*SHORT[name].split(), *more])
    assert len(checked.description) > 100
    with RunFolder.create(folder, "", {}) as opened:
        outcome = assemble(checked, base).run(opened, console_reporter(quiet=True))
        groups = set(opened.store.group_keys())
    return outcome, groups


@pytest.mark.slow
def test_viscosity_is_inverted(tmp_path):
    outcome, groups = run("learn_viscosity", tmp_path / "run")
    assert set(outcome.verdicts.values()) == {"ok"}
    assert outcome.figures["scaling_error"].value < 1e-6
    assert outcome.figures["largest_misfit"].value < 0.01
    assert abs(outcome.figures["sigma"].value / 3.4 - 1) < 0.03
    assert {"viscosity", "misfit", "descent", "certificate"} <= groups


@pytest.mark.slow
def test_a_shock_knows_what_it_depends_on(tmp_path):
    outcome, groups = run("shock_sensitivity", tmp_path / "run")
    figures = outcome.figures
    # a larger viscosity makes it thicker, larger atoms thinner
    assert figures["by_viscosity"].value < -0.7
    assert figures["by_sigma"].value > 1.4
    assert abs(figures["by_sigma"].value + 2 * figures["by_viscosity"].value) < 1e-6
    assert {"shock", "sensitivity", "certificate"} <= groups


def test_a_distribution_is_inverted(tmp_path):
    """Far too short to recover anything: the parts work together."""
    outcome, groups = run("learn_lj_from_rdf", tmp_path / "run")
    assert {"epsilon", "sigma", "effective_share"} <= set(outcome.figures)
    assert {"distribution", "parameters", "trust", "certificate"} <= groups
    assert outcome.verdicts["certificate_energy"] == "ok"


def test_a_closure_is_trained_in_the_loop(tmp_path):
    outcome, groups = run("closure_in_the_loop", tmp_path / "run")
    assert outcome.figures["usable_horizon"].value >= 1
    assert {"errors", "flow", "training", "certificate"} <= groups
    assert (tmp_path / "run" / "closure.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("learn_viscosity", "viscosities=[1.0, 2.0, 3.0, 4.0]", "differ in number"),
        ("learn_viscosity", "temperatures=[300.0, 200.0, 600.0]", "must rise"),
        ("closure_in_the_loop", "horizons=[4, 2]", "must rise"),
        ("shock_sensitivity", "mach=0.5", "greater than"),
        ("learn_lj_from_rdf", "device='cuda'", "should be 'cpu'"),
    ],
)
def test_refusals(name, change, words):
    with pytest.raises(InputError, match=words):
        checked, base = scenario_files.load(name, [*SHORT[name].split(), change])
        assemble(checked, base)


def test_each_kind_has_its_job():
    jobs = {
        "shock_sensitivity": ShockSensitivity,
        "learn_lj_from_rdf": RdfFit,
        "closure_in_the_loop": ClosureLoop,
    }
    for name, job in jobs.items():
        checked, base = scenario_files.load(name, SHORT[name].split())
        assert isinstance(assemble(checked, base), job)
