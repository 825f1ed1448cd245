"""Data in and out: formats are round trips, or say what they lose."""

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner

from scalebridge.engine.cli import main
from scalebridge.engine.interop.data import write_deepmd
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


def test_the_command_writes_deepmd_data(tmp_path):
    pytest.importorskip("dpdata", reason="extra `deepmd`")
    one = frame()
    atoms = Atoms(one.symbols, one.positions, cell=one.cell, pbc=one.periodic)
    stress = (-one.virial / one.volume).reshape(9)[[0, 4, 8, 5, 2, 1]]
    atoms.calc = SinglePointCalculator(
        atoms, energy=one.energy, forces=one.forces, stress=stress
    )
    ase.io.write(tmp_path / "a.extxyz", atoms)
    arguments = ["export", str(tmp_path / "a.extxyz"), "--to", "deepmd-data"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert same(read_frames(tmp_path / "out")[0], frame(), 1e-7)
