"""Round trips of whole commands: what the engine writes, the engine reads."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from click.testing import CliRunner

from scalebridge.engine import commands
from scalebridge.engine.cli import main
from scalebridge.engine.data.reading import read_frames
from scalebridge.engine.data.structures import extras, read_structure
from scalebridge.viz.atoms import Trajectory
from scalebridge.viz.export import write_extxyz
from scalebridge.viz.record import Record


@pytest.mark.parametrize("group", [None, "", "hot"])
def test_a_labelled_set_reads_back(tmp_path, group):
    images = []
    for k in range(2):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=k)
        if group is not None:
            atoms.info["group"] = group
        images.append(atoms)
    ase.io.write(tmp_path / "a.traj", images)
    arguments = [str(tmp_path / "a.traj"), "--labeler", "emt", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(main, ["label", *arguments])
    assert result.exit_code == 0, result.output
    frames = read_frames(tmp_path / "o/dataset.extxyz")
    assert len(frames) == 2 and {f.group for f in frames} == {group or ""}
    from ase.calculators.emt import EMT

    for frame, atoms in zip(frames, images, strict=True):
        atoms.calc = EMT()
        assert abs(frame.energy - atoms.get_potential_energy()) < 1e-6
        assert np.allclose(frame.forces, atoms.get_forces(), atol=1e-6)
    again = CliRunner().invoke(main, ["data", str(tmp_path / "o/dataset.extxyz")])
    assert again.exit_code == 0 and "2 frames" in again.output


def test_what_is_left_out_is_said_by_every_command(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.info["charge"] = 1
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    arguments = [str(tmp_path / "a.xyz"), "--labeler", "emt", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(main, ["label", *arguments])
    assert result.exit_code == 0 and "not used: charge" in result.output
    labels = (tmp_path / "o/dataset.extxyz").read_text()
    path = tmp_path / "b.extxyz"
    path.write_text(labels + labels.replace("energy=", "converged=F energy="))
    words = ["export", str(path), "--to", "ase-db", "--out", str(tmp_path / "c.db")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0 and "disowns by" in result.output
    assert len(read_frames(tmp_path / "c.db")) == 1


def test_structures_after_a_blank_line_are_labelled_too(tmp_path):
    for name, atoms in (("a", bulk("Cu", cubic=True)), ("b", molecule("H2"))):
        ase.io.write(tmp_path / f"{name}.xyz", atoms)
    one = (tmp_path / "a.xyz").read_text()
    (tmp_path / "c.xyz").write_text(one + "\n\n" + one)
    arguments = [str(tmp_path / "c.xyz"), "--labeler", "emt", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(main, ["label", *arguments])
    assert result.exit_code == 0 and "2 of 2 labelled" in result.output


CHANGES = [
    "structure.repeat=[1,1,1]", "run.steps=20", "output.trajectory_every=10",
    "output.velocities=true", "output.forces=true", "output.extxyz=true",
    "output.average_from=0", "output.rdf=[]", "output.adf=[]",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "r"
    commands.run("silicon_sw", CHANGES, folder, strict=False)
    return folder


def test_atoms_that_stood_still_are_fixed_in_what_is_written(tmp_path):
    folder = tmp_path / "r"
    commands.run("silicon_sw", [*CHANGES, "run.fixed=[0,3]"], folder, strict=False)
    view = write_extxyz(Trajectory(Record(folder)), tmp_path / "a.extxyz")
    for path in (view, folder / "trajectory.extxyz"):
        found = extras(read_structure(path))
        assert found.fixed == (0, 3) and not found.unused


def test_view_writes_what_the_run_wrote(run, tmp_path):
    path = write_extxyz(Trajectory(Record(run)), tmp_path / "a.extxyz")
    ours, theirs = ase.io.read(path, ":"), ase.io.read(run / "trajectory.extxyz", ":")
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs, strict=True):
        assert sorted(a.arrays) == sorted(b.arrays) and sorted(a.info) == sorted(b.info)
        assert all(
            np.allclose(a.arrays[k], b.arrays[k]) for k in a.arrays if k != "numbers"
        )
        assert a.info == b.info and (a.pbc == b.pbc).all()
        assert a.get_potential_energy() == pytest.approx(b.get_potential_energy(), abs=1e-7)
        assert np.allclose(a.get_forces(), b.get_forces(), atol=1e-7)
        assert np.array_equal(a.get_masses(), b.get_masses())


def test_a_trajectory_is_a_set_of_labels(run):
    frames = read_frames(run / "trajectory.extxyz")
    assert len(frames) == 3 and len({f.energy for f in frames}) == 3


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("boundaries.x={low={kind='periodic'},high={kind='open'}}", "both ends must be"),
        ("boundaries.x={low={kind='open'},high={kind='periodic'}}", "both ends must be"),
        ("model={kind='kinetic',nodes=[40],lower=[-0.5],upper=[0.5]}", "too narrow"),
        (
            "boundaries.x={low={kind='wall',velocity=[0.5]},high={kind='open'}}",
            "velocity",
        ),
    ],
)
def test_check_of_a_gas_says_what_a_run_would(setting, said, tmp_path):
    """Commands agree to the letter, and a refusal leaves no folder."""
    words = ["sod", "--set", "compare=[]", "--set", setting]
    checked = CliRunner().invoke(main, ["check", *words])
    ran = CliRunner().invoke(main, ["run", *words, "--out", str(tmp_path / "run")])
    assert checked.exit_code == ran.exit_code == 2 and said in checked.output
    assert checked.output == ran.output and not (tmp_path / "run").exists()
