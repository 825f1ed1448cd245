"""Reports: what a run computed, whether it was right, in one file that says so."""

import re

import numpy as np
import pytest
import torch
from scalebridge.engine.errors import InputError
from scalebridge.engine.protocols import Figure, Outcome
from scalebridge.engine.run import ZarrWriter
from scalebridge.engine.rundir import RunFolder
from scalebridge.viz.report import write_report


@pytest.fixture
def folder(tmp_path):
    scenario = {
        "kind": "md",
        "version": 1,
        "title": "Silicon <melts>",
        "description": "A crystal is heated.",
        "run": {"steps": 100},
    }
    resolved = {"name": "melt", "scenario": scenario, "command": "engine run melt"}
    with RunFolder.create(tmp_path / "run", "version = 1\n", resolved) as made:
        yield made


def finish(folder, verdict="ok", status=0):
    figures = {
        "temperature": Figure(1687.25, "K", 12.0),
        "temperature_reference": Figure(1683.0, "K"),
    }
    outcome = Outcome(figures, {"energy_drift": verdict})
    folder.write_summary(outcome, exit_status=status, wall_seconds=3.25)


def write_atoms(folder, frames=3):
    from ase.build import bulk

    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    units = {"time": "ps"}
    writer = ZarrWriter(folder, "trajectory", lambda state, seen: state, units, 2)
    rng = np.random.default_rng(0)
    for frame in range(frames):
        moved = atoms.positions + rng.normal(0, 0.1 + 0.3 * frame, atoms.positions.shape)
        state = {
            "positions": torch.tensor(moved),
            "cell": torch.tensor(atoms.cell.array)[None],
            "species": torch.zeros(len(atoms), dtype=torch.int32),
            "deviation": torch.tensor(rng.random(len(atoms))),
        }
        writer.write(frame, 0.1 * frame, state, {})
        folder.log(step=frame, time=0.1 * frame, temperature=[300.0 + 100 * frame])
    writer.flush()
    folder.store["trajectory/species"].attrs["symbols"] = ["Si"]


def test_says_what_was_computed_and_how_to_repeat_it(folder):
    write_atoms(folder)
    finish(folder)
    page = write_report(folder.path).read_text()
    assert "Silicon &lt;melts&gt;" in page
    assert "A crystal is heated." in page
    assert "engine run melt" in page
    assert "its check passed" in page
    assert re.search(r"temperature.*1687 ± 12.*K.*1683", page, re.DOTALL)
    assert page.count("data:image/png;base64,") == 2
    assert "was not drawn" not in page
    assert (folder.path / "picture.png").stat().st_size > 10_000


def test_is_self_contained(folder):
    write_atoms(folder)
    finish(folder)
    page = write_report(folder.path).read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert len(page) < 10_000_000


@pytest.mark.parametrize(
    ("verdict", "status", "sentence"),
    [
        ("the energy drifts", 0, "1 check failed"),
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
    write_atoms(folder)
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
