"""Reports: what a run computed, whether it was right, in one file that says so."""

import re

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from viz_runs import AtomsRun, create, finish, write_gas

from scalebridge.engine.errors import InputError
from scalebridge.viz.learning import labelled_frames
from scalebridge.viz.report import write_report
from scalebridge.viz.walkers import energy_trace


@pytest.fixture
def folder(tmp_path):
    with create(tmp_path / "run") as made:
        yield made


def test_says_what_was_computed_and_how_to_repeat_it(folder):
    AtomsRun(folder).write(3)
    finish(folder)
    page = write_report(folder.path).read_text()
    assert "Silicon &lt;melts&gt;" in page
    assert "A crystal is heated." in page
    assert "engine run melt" in page
    assert "1 check, none failed; accuracy not checked: no exact answer" in page
    assert re.search(r"temperature.*1687 ± 12.*K.*1683", page, re.DOTALL)
    assert page.count("data:image/png;base64,") == 2
    assert "was not drawn" not in page
    assert (folder.path / "picture.png").stat().st_size > 10_000


def test_is_self_contained(folder):
    AtomsRun(folder).write(3)
    finish(folder)
    page = write_report(folder.path).read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert len(page) < 10_000_000


@pytest.mark.parametrize(
    ("verdict", "status", "sentence"),
    [
        ("the energy drifts", 0, "1 check, 1 failed (energy_drift)"),
        ("temperature exploded", 3, "A guard stopped the run"),
        ("stopped at step 5", 130, "it can be resumed"),
    ],
)
def test_does_not_call_a_wrong_run_right(folder, verdict, status, sentence):
    finish(folder, verdict, status)
    page = write_report(folder.path).read_text()
    assert sentence in page
    assert verdict in page
    assert "✓" not in page


def test_tells_a_running_job_from_a_finished_one(folder):
    AtomsRun(folder).write(3)
    assert "has not ended" in write_report(folder.path).read_text()


def test_names_what_it_could_not_draw(folder):
    finish(folder)
    folder.store.create_array("broken/r", data=np.zeros(3))
    folder.store.create_array("broken/g", data=np.zeros((2, 3, 4, 5, 6)))
    page = write_report(folder.path).read_text()
    assert "broken/g was not drawn" in page


def test_refuses_what_is_no_run_folder(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        write_report(tmp_path)


def test_draws_fields_with_their_reference(folder):
    write_gas(folder)
    finish(folder)
    page = write_report(folder.path).read_text()
    assert "dashed: exact" in page
    assert "Fields over time" in page
    assert "was not drawn" not in page


def test_electrons_energy_and_what_was_expected(tmp_path):
    from scalebridge.engine.protocols import Figure, Outcome, told

    system = {"kind": "molecule", "symbols": ["He"], "positions": [[0.0, 0.0, 0.0]]}
    scenario = {"kind": "vmc", "title": "Helium", "system": system}
    rng = np.random.default_rng(0)
    with create(tmp_path / "vmc", scenario) as folder:
        walkers = rng.normal(0, 0.7, (500, 2, 3))
        counts, _ = np.histogramdd(walkers.reshape(-1, 3), 16, [(-4, 4)] * 3)
        folder.store.create_array("walkers", data=walkers)
        folder.store.create_array("density", data=counts / 500 / 0.125)
        for step in range(20):
            folder.log(step=step, energy=-2.9 + 0.1 / (step + 1), energy_error=0.01)
        figures = {
            "energy": Figure(-2.9035, "hartree", 0.0004),
            "exact_energy": Figure(-2.9037, "hartree"),
        }
        folder.write_summary(Outcome(figures, told({"finite": "ok"})), exit_status=0)
    page = write_report(folder.path).read_text()
    assert re.search(r"-2.90350 ± 0.00040.*hartree.*-2.90370", page, re.DOTALL)
    assert "enclose 90, 60 and 25 %" in page
    assert "was not drawn" not in page


def test_an_energy_without_an_exact_one_is_compared_with_hartree_fock():
    steps = np.arange(4.0)
    events = {
        "step": steps,
        "energy": -2.8 - 0.02 * steps,
        "energy_error": 0.01 + 0 * steps,
    }
    found = {"energy": {"unit": "hartree"}, "hartree_fock_energy": {"value": -2.86}}
    (plot,) = energy_trace(events, found)
    assert plot.marks == {"Hartree-Fock": -2.86}


def test_says_when_atoms_are_impossibly_close(folder):
    run = AtomsRun(folder)
    run.write(1)
    finish(folder)
    assert "closer than 70 %" not in write_report(folder.path).read_text()
    run.atoms.positions[1] = run.atoms.positions[0] + 0.8
    run.write(1)
    page = write_report(folder.path).read_text()
    assert "closer than 70 % of the sum of the covalent radii" in page
    assert "The pictures show a problem" in page


def test_draws_what_was_labelled(tmp_path):
    with create(tmp_path / "run", {"version": 1, "kind": "label"}) as folder:
        for name, energies in (("train", (-3.0, -2.9)), ("test", (-2.8,))):
            frames = []
            for energy in energies:
                atoms = molecule("H2O")
                atoms.calc = SinglePointCalculator(
                    atoms, energy=energy, forces=np.full((3, 3), energy)
                )
                frames.append(atoms)
            write(folder.path / f"{name}.extxyz", frames)
        finish(folder)
        energy, force = labelled_frames(folder.path)
        np.testing.assert_allclose(energy.curves[0].y, [0.0, 0.1 / 3])
        np.testing.assert_allclose(energy.curves[1].y, [0.2 / 3])
        np.testing.assert_allclose(force.curves[1].y, [2.8])
        assert "What was labelled" in write_report(folder.path).read_text()
