"""Averages over a stored trajectory are those that the run itself would have made."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from scalebridge.engine import analysis, commands
from scalebridge.engine.cli import main
from scalebridge.engine.errors import DamagedFileError, InputError

WINDOWS = ["start=20", "samples=8", "spacing=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run that averages while it steps, at the frames that it keeps."""
    folder = tmp_path_factory.mktemp("analysis") / "run"
    own = [f"output.{kind}.{key}" for kind in ("displacement", "velocity")
           for key in ("every=10", *WINDOWS)]  # fmt: skip
    commands.run(
        "argon_nve",
        [
            "run.steps=200", "output.trajectory_every=10",
            "output.velocities=true", "output.average_from=0", "replicas=2",
            'output.rdf=[{name="liquid", start=20, every=10, r_max=7.0, bins=50}]',
            "output.adf=[{reach=5.0, every=20}]", "precision=f64", *own,
        ],
        folder,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("kind", "settings", "curves"),
    [
        ("rdf", ["name=liquid", "start=20", "r_max=7.0", "bins=50"], ["rdf/liquid"]),
        ("adf", ["reach=5.0", "every=20"], ["adf/all", "adf/all_error"]),
        ("displacement", WINDOWS, ["displacement/msd_Ar", "displacement/msd_Ar_error"]),
        ("velocity", WINDOWS, ["velocity/vacf_Ar", "vibrations/density_Ar"]),
    ],
)
def test_the_averages_of_the_run_come_back(run, tmp_path, kind, settings, curves):
    found = analysis.analyse(run, kind, settings, tmp_path)
    store: Any = zarr.open_group(run / "data.zarr", mode="r")
    for curve in curves:
        group, name = curve.split("/")
        table = np.genfromtxt(
            tmp_path / f"{group}.csv", delimiter=",", names=True, skip_header=1
        )
        np.testing.assert_allclose(
            table[name], store[curve][:], rtol=1e-10, atol=1e-300
        )  # sums in the same order, of the same numbers
    summary = json.loads((run / "summary.json").read_text())["figures"]
    for name, figure in found.figures.items():
        assert figure.value == pytest.approx(summary[name]["value"], rel=1e-10), name


def test_what_a_trajectory_cannot_give_is_refused(run, tmp_path):
    for kind, settings, said in (
        ("stress", [], r"\[output.stress\]"),
        ("rfd", [], "not one of rdf"),
        ("rdf", ["every=15"], "10 steps apart"),
        ("rdf", ["r_mx=3"], "did you mean r_max"),
        ("rdf", ["start=500"], "begins at step 500"),
        ("rdf", ["start=201", "stop=100"], "before start"),
        ("displacement", ["samples=40"], "set samples below 21"),
        ("adf", [], "reach"),
    ):
        with pytest.raises(InputError, match=said):
            analysis.analyse(run, kind, settings, tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_runs_and_lost_frames_are_named(run, tmp_path):
    with pytest.raises(InputError, match="not the folder of a run"):
        analysis.analyse(tmp_path, "rdf")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "data.zarr" / "trajectory" / "momenta")
    with pytest.raises(DamagedFileError, match="missing"):  # zeros would be read
        analysis.analyse(copy, "rdf", ["r_max=5.0"])
    (copy / "manifest.json").unlink()  # as of a run that still writes
    with pytest.raises(InputError, match=r"output\.velocities = true"):
        analysis.analyse(copy, "velocity")
    group: Any = zarr.open_group(copy / "data.zarr", mode="a")["trajectory"]
    group["positions"][3] = np.nan
    with pytest.raises(InputError, match="frame 3"):
        analysis.analyse(copy, "rdf", ["r_max=5.0"])


def test_the_command_prints_results_and_tables(run, tmp_path):
    line = ["analyse", str(run), "rdf", "--set", "r_max=6.0", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    assert "21 frames" in result.output and "rdf.csv" in result.output
