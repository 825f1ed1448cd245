"""Reports: what a run computed, whether it was right, in one file that says so."""

import re

import numpy as np
import pytest
from scalebridge.engine.errors import InputError
from scalebridge.viz.report import write_report
from viz_runs import AtomsRun, create, finish, write_gas


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
    assert "its check passed" in page
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
    assert "dashed: what they should be" in page
    assert "Fields over time" in page
    assert "was not drawn" not in page
