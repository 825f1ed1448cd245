"""Data in and out: formats are round trips, or say what they lose."""

import warnings
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from click.testing import CliRunner

from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
from scalebridge.engine.interop.data import (
    DroppedArrays,
    as_atoms,
    write_deepmd,
    write_structures,
)
from scalebridge.engine.md.data import LabelledFrame, read_frames


def frame(symbols=("Si", "O", "Si"), seed=0) -> LabelledFrame:
    random = np.random.default_rng(seed)
    virial = random.normal(size=(3, 3))
    return LabelledFrame(
        symbols=symbols,
        positions=random.random((len(symbols), 3)) * 5,
        cell=np.diag([5.0, 6.0, 7.0]) + random.normal(size=(3, 3)) * 0.1,
        periodic=np.ones(3, dtype=bool),
        energy=float(random.normal()),
        forces=random.normal(size=(len(symbols), 3)),
        virial=virial + virial.T,
    )


def same(a: LabelledFrame, b: LabelledFrame, within=1e-12) -> bool:
    """Equal as sets of atoms: a format may sort them."""

    def rows(f):
        columns = f.symbols, f.positions, f.forces
        table = [(s, *x, *g) for s, x, g in zip(*columns, strict=True)]
        return sorted(table)

    pairs = zip(rows(a), rows(b), strict=True)
    return (
        all(x[0] == y[0] and np.allclose(x[1:], y[1:], atol=within) for x, y in pairs)
        and abs(a.energy - b.energy) < within
        and np.allclose(a.cell, b.cell, atol=within)
        and np.allclose(a.virial, b.virial, atol=within * 1e3)
    )


def test_deepmd_npy_round_trip(tmp_path):
    pytest.importorskip("dpdata", reason="extra `deepmd`")
    frames = [frame(seed=1), frame(("Si", "O"), 2), frame(seed=3)]
    back = read_frames(write_deepmd(frames, tmp_path / "data"))
    assert len(back) == 3
    assert all(any(same(a, b) for b in back) for a in frames)
    wrong = replace(frames[0], forces=-frames[0].forces)  # the planted defect
    assert not any(same(wrong, b) for b in back)


def test_deepmd_hdf5_as_dpdata_reads_it(tmp_path):
    dpdata = pytest.importorskip("dpdata", reason="extra `deepmd`")
    path = write_deepmd([frame(seed=1), frame(seed=2)], tmp_path / "data.hdf5")
    systems = dpdata.MultiSystems()
    systems.from_deepmd_hdf5(str(path))
    energies = [float(e) for s in systems.systems.values() for e in s.data["energies"]]
    assert sorted(energies) == sorted(frame(seed=k).energy for k in (1, 2))


def test_extxyz_keeps_everything(tmp_path):
    original = frame()
    atoms = as_atoms(original)
    atoms.arrays["uncertainty"] = np.arange(3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DroppedArrays)
        path = write_structures([atoms], tmp_path / "a.extxyz")
    assert same(read_frames(path)[0], original, 1e-7)
    assert np.array_equal(ase.io.read(path).arrays["uncertainty"], np.arange(3.0))


@pytest.mark.parametrize("suffix", [".db", ".traj"])
def test_formats_that_drop_arrays_say_so(tmp_path, suffix):
    atoms = as_atoms(frame())
    atoms.arrays["uncertainty"] = np.arange(3.0)
    with pytest.warns(DroppedArrays, match="drops the arrays uncertainty"):
        path = write_structures([atoms], tmp_path / f"a{suffix}")
    assert "uncertainty" not in ase.io.read(path).arrays
    assert same(read_frames(path)[0], frame(), 1e-9)


def test_nothing_is_overwritten_and_unknown_formats_are_refused(tmp_path):
    (tmp_path / "a.extxyz").write_text("precious")
    with pytest.raises(InputError, match="nothing is overwritten"):
        write_structures([Atoms("H")], tmp_path / "a.extxyz")
    with pytest.raises(InputError, match="cannot write"):
        write_structures([Atoms("H")], tmp_path / "a.nosuch")


def test_the_command_writes_deepmd_data(tmp_path):
    pytest.importorskip("dpdata", reason="extra `deepmd`")
    write_structures([as_atoms(frame())], tmp_path / "a.extxyz")
    arguments = ["export", str(tmp_path / "a.extxyz"), "--to", "deepmd-data"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert same(read_frames(tmp_path / "out")[0], frame(), 1e-7)
