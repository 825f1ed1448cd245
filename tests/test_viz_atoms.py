"""Pictures of atoms: real frames against stored ones, and what they are drawn from."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from viz_runs import AtomsRun, create

from scalebridge.engine.errors import InputError
from scalebridge.engine.md.state import ParticleState
from scalebridge.engine.run import ZarrWriter
from scalebridge.viz import page, render
from scalebridge.viz.atoms import Look, Snapshot, Trajectory, image
from scalebridge.viz.export import (
    to_ase,
    write,
    write_chemiscope,
    write_extxyz,
    write_vtkhdf,
)
from scalebridge.viz.record import Record

PICTURES = Path(__file__).parent / "pictures"
SIZE = (480, 360)
TOLERANCE = 4.0
"""Mean difference of blurred pictures, of 255: drivers differ in single pixels."""

needs_gl = pytest.mark.skipif(bool(render.missing()), reason=render.missing() or "")


def difference(drawn, stored):
    def soft(picture):
        return np.asarray(Image.fromarray(picture).resize((64, 48), 4), float)

    return float(np.abs(soft(drawn) - soft(stored)).mean())


def compare(drawn, name):
    path = PICTURES / f"{name}.png"
    if not path.exists():
        Image.fromarray(drawn).save(path, optimize=True)
        pytest.fail(f"{path} was missing and has been drawn: look at it, then commit it")
    stored = np.asarray(Image.open(path).convert("RGB"))
    assert drawn.shape == stored.shape
    return difference(drawn, stored)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("viz") / "run"
    with create(path) as folder:
        AtomsRun(folder).write(3)
    return Record(path)


@pytest.fixture(scope="module")
def trajectory(record):
    return Trajectory(record)


@needs_gl
@pytest.mark.parametrize("colour", ["species", "deviation", "coordination"])
def test_frame_looks_as_stored(trajectory, colour):
    drawn = image(trajectory[0], Look(colour), SIZE)
    assert compare(drawn, f"atoms_{colour}") < TOLERANCE


@needs_gl
def test_comparison_sees_planted_defects(trajectory):
    stored = np.asarray(Image.open(PICTURES / "atoms_deviation.png").convert("RGB"))
    reversed_map = {"deviation": trajectory[0].values["deviation"][::-1]}
    wrong_colour = Snapshot(
        trajectory[0].positions, trajectory[0].symbols, trajectory[0].cell,
        values=reversed_map,
    )  # fmt: skip
    assert difference(image(wrong_colour, Look("deviation"), SIZE), stored) > TOLERANCE
    no_bonds = image(trajectory[0], Look("deviation", bonds=False), SIZE)
    assert difference(no_bonds, stored) > TOLERANCE


def test_flat_frame_looks_as_stored(trajectory, monkeypatch):
    monkeypatch.setattr(render, "missing", lambda: "no GL")
    assert compare(image(trajectory[0], Look("deviation"), SIZE), "flat") < TOLERANCE


def test_diamond_has_four_neighbours_also_across_the_border(trajectory):
    assert set(trajectory[0].value_of("coordination")) == {4.0}
    lone = Snapshot(
        trajectory[0].positions, trajectory[0].symbols, trajectory[0].cell, (False,) * 3
    )
    assert lone.value_of("coordination").min() < 4


def test_wrapping_and_periodic_images(trajectory):
    moved = Snapshot(
        trajectory[0].positions + 100 * trajectory[0].cell[0],
        trajectory[0].symbols,
        trajectory[0].cell,
    )
    wrapped = moved.wrapped()
    fractions = wrapped.positions @ np.linalg.inv(wrapped.cell)
    assert fractions.min() >= -1e-9
    assert fractions.max() < 1 + 1e-9
    copies = wrapped.repeated((2, 1, 3))
    assert len(copies.positions) == 6 * len(wrapped.positions)
    assert np.allclose(copies.cell, wrapped.cell * np.array([[2], [1], [3]]))


def test_a_page_without_all_positions_is_refused(trajectory):
    first = trajectory[0]
    positions = first.positions.copy()
    positions[3, 1] = np.nan
    with pytest.raises(InputError, match="1 atoms have no finite position"):
        page.scene([first, replace(first, positions=positions)])


def test_unknown_colour_is_refused_with_what_is_known(trajectory):
    with pytest.raises(InputError, match="allowed: species, deviation, force"):
        image(trajectory[0], Look("colour of money"), SIZE)
    with pytest.raises(InputError, match="frame 9: there are 3"):
        trajectory[9]


def test_live_state_gives_the_same_snapshot(trajectory):
    stored = trajectory[1]
    count = len(stored.positions)
    zeros = torch.zeros(count, 3, dtype=torch.float64)
    cell = torch.tensor(stored.cell)[None]
    state = ParticleState(
        positions=torch.tensor(stored.positions),
        momenta=zeros,
        masses=torch.full((count,), 28.0, dtype=torch.float64),
        species=torch.zeros(count, dtype=torch.int32),
        system=torch.zeros(count, dtype=torch.int32),
        cell=cell,
        periodic=torch.ones(1, 3, dtype=torch.bool),
        energy=torch.zeros(1),
        forces=torch.tensor(trajectory.vectors(1)["forces"]),
        virial=cell,
        anchor=zeros,
        anchor_cell=cell,
        step=torch.zeros(1),
        seed=torch.zeros(1),
    )
    live = Snapshot.from_state(state, ["Si"])
    assert np.allclose(live.positions, stored.positions)
    assert np.allclose(live.value_of("force"), stored.value_of("force"))
    assert list(live.symbols) == list(stored.symbols)
    assert "<iframe" in live._repr_html_()


def test_growing_run_shows_only_whole_frames(tmp_path):
    with create(tmp_path / "run") as folder:
        run = AtomsRun(folder)
        run.write(2)
        trajectory = Trajectory(Record(folder.path))
        assert len(trajectory) == 2
        run.write(3)
        assert len(trajectory) == 2
        assert trajectory.refresh() == 5
        # A writer appends array by array: the positions of a frame may come first.
        positions = folder.store["trajectory/positions"]
        positions.append(np.zeros((1, *positions.shape[1:])))
        assert trajectory.refresh() == 5


# -- other programs ----------------------------------------------------------------------


def test_extxyz_is_read_back_by_ase(trajectory, tmp_path):
    import ase.io

    frames = ase.io.read(write_extxyz(trajectory, tmp_path / "run.xyz"), ":")
    assert len(frames) == 3
    assert np.allclose(frames[2].positions, trajectory[2].positions, atol=1e-6)
    assert np.allclose(frames[2].cell.array, trajectory[2].cell)
    forces = trajectory.vectors(2)["forces"]
    assert np.allclose(frames[2].get_forces(), forces, atol=1e-6)
    assert np.allclose(frames[2].arrays["deviation"], trajectory[2].values["deviation"])
    assert set(frames[2].symbols) == {"Si"}


def test_vtkhdf_is_read_back_by_vtk(trajectory, tmp_path):
    hdf = pytest.importorskip("vtkmodules.vtkIOHDF")
    reader = hdf.vtkHDFReader()
    reader.SetFileName(str(write_vtkhdf(trajectory, tmp_path / "run.vtkhdf")))
    reader.UpdateInformation()
    assert reader.GetNumberOfSteps() == 3
    for frame in (2, 0, 1):
        reader.SetStep(frame)
        reader.Update()
        points = reader.GetOutput()
        expected = trajectory[frame].wrapped()
        assert points.GetNumberOfCells() == len(expected.positions)
        seen = np.array([points.GetPoint(i) for i in range(points.GetNumberOfPoints())])
        assert np.allclose(seen, expected.positions, atol=1e-5)
        deviation = points.GetPointData().GetArray("deviation")
        assert deviation.GetValue(7) == pytest.approx(expected.values["deviation"][7])


@pytest.mark.parametrize("space", ["x", "xy"])
def test_fields_in_vtkhdf_are_read_back_by_vtk(tmp_path, space):
    hdf = pytest.importorskip("vtkmodules.vtkIOHDF")
    cells, low, high = {"x": [5], "xy": [5, 3]}[space], [0.0, -1.0], [2.0, 1.0]
    grid = {"cells": cells, "lower": low[: len(cells)], "upper": high[: len(cells)]}
    scenario = {"kind": "gas", "grid": grid, "knudsen": [0.1, 1.0]}
    rng = torch.Generator().manual_seed(1)
    with create(tmp_path / "run", scenario) as folder:
        writer = ZarrWriter(folder, "fields", lambda state, seen: state)
        frames = [
            {
                "density": torch.rand(2, *cells, generator=rng),
                "velocity": torch.rand(2, *cells, 3, generator=rng),
            }
            for _ in range(4)
        ]
        for number, frame in enumerate(frames):
            writer.write(number, 0.5 * number, frame, {})
        writer.flush()
    file = tmp_path / "run.vtkhdf"
    assert write(tmp_path / "run", system=1, vtkhdf=file) == [file]
    reader = hdf.vtkHDFReader()
    reader.SetFileName(str(file))
    reader.UpdateInformation()
    assert reader.GetNumberOfSteps() == 4
    for number in (3, 1):
        reader.SetStep(number)
        reader.Update()
        image = reader.GetOutput()
        assert image.GetNumberOfCells() == np.prod(cells)
        assert image.GetBounds()[:2] == pytest.approx((0.0, 2.0))
        density = image.GetCellData().GetArray("density")
        velocity = image.GetCellData().GetArray("velocity")
        last = [n - 2 for n in cells]  # x fastest
        place = last[0] + (5 * last[1] if space == "xy" else 0)
        expected = frames[number]["density"][(1, *last)]
        assert density.GetValue(place) == pytest.approx(float(expected))
        vector = frames[number]["velocity"][(1, *last)].tolist()
        assert velocity.GetTuple3(place) == pytest.approx(vector)


def test_chemiscope_or_how_to_get_it(trajectory, tmp_path):
    try:
        import chemiscope  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="pip install chemiscope"):
            write_chemiscope(trajectory, tmp_path / "run.json")
    else:
        assert write_chemiscope(trajectory, tmp_path / "run.json").stat().st_size > 1000


def test_units_and_arrays_survive_in_ase_atoms(trajectory):
    atoms = to_ase(trajectory, 1)
    assert atoms.info["time"] == 0.1
    assert atoms.pbc.all()


# -- without GL --------------------------------------------------------------------------


def test_without_gl_the_picture_is_flat_and_the_package_is_named(record, tmp_path):
    code = (
        "from scalebridge.viz import render\n"
        "from scalebridge.engine.cli import main\n"
        "render._PROBE = 'import os; os.abort()'\n"  # as VTK does without GL
        f"main(['view', {str(record.path)!r}, '--png', {str(tmp_path / 'f.png')!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "apt-get install libosmesa6" in done.stderr
    assert Image.open(tmp_path / "f.png").size == (800, 600)


def test_a_picture_does_not_wait_for_pytorch():
    """What `engine view --png` imports; PyTorch alone would take a second of its time."""
    code = "import sys; from scalebridge.viz import view; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
