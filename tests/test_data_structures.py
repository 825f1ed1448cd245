"""Structures of other programs: what they hold is honoured, or named as unused."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLength, FixScaled

from scalebridge.engine.data.structures import (
    StructureKeys,
    extras,
    read_structure,
    read_structures,
)
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.scenario import parse


def silicon() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def job(path: Path, ensemble=None, run=None, **structure):
    """Assemble a run of the structure, as `engine check` does."""
    data = {
        "version": 1,
        "kind": "md",
        "structure": {"kind": "file", "path": str(path), **structure},
        "potential": {"kind": "stillinger_weber"},
        "ensemble": ensemble or {"kind": "nve"},
        "run": {"steps": 5, "timestep": 1.0, **(run or {})},
    }
    return assemble(parse(data), path.parent)


BATH = {"kind": "langevin", "temperature": 600.0, "relaxation": 50.0}


def moved(found) -> np.ndarray:
    """Return how far each atom moves in five steps."""
    world = found.world
    state = world.init(torch.Generator().manual_seed(1))
    start = state.positions.clone()
    for _ in range(5):
        state = world.step(state)
    return (state.positions - start).norm(dim=1).numpy()


# -- constraints -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["POSCAR", "a.extxyz", "a.traj"])
def test_atoms_that_a_file_fixes_do_not_move(tmp_path, name):
    atoms = silicon()
    atoms.set_constraint(FixAtoms([1, 4, 6]))
    ase.io.write(tmp_path / name, atoms, sort=False) if name == "POSCAR" else ase.io.write(
        tmp_path / name, atoms
    )
    found = job(tmp_path / name, BATH)
    distance = moved(found)
    assert np.flatnonzero(distance == 0).tolist() == [1, 4, 6]
    assert any("3 atoms are fixed, as the file says" in note for note in found.notes)
    assert (moved(job(tmp_path / name, BATH, constraints="ignore")) > 0).all()
    repeated = moved(job(tmp_path / name, BATH, repeat=[2, 1, 1]))
    assert np.flatnonzero(repeated == 0).tolist() == [1, 4, 6, 9, 12, 14]


def test_fixed_atoms_of_file_and_scenario_add_up(tmp_path):
    atoms = silicon()
    atoms.set_constraint(FixAtoms([1]))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    distance = moved(job(tmp_path / "a.extxyz", BATH, {"fixed": [0]}))
    assert np.flatnonzero(distance == 0).tolist() == [0, 1]
    npt = {
        "kind": "npt", "temperature": 300.0, "pressure": 0.0, "relaxation": 100.0,
        "pressure_relaxation": 1000.0,
    }  # fmt: skip
    with pytest.raises(InputError, match="npt"):
        job(tmp_path / "a.extxyz", npt)


def test_a_constraint_along_one_axis_is_refused(tmp_path):
    atoms = silicon()
    atoms.set_constraint([FixScaled(2, mask=(True, False, False))])
    ase.io.write(tmp_path / "POSCAR", atoms)
    with pytest.raises(InputError, match=r"fixed along some axes only.*ignore frees them"):
        job(tmp_path / "POSCAR")
    job(tmp_path / "POSCAR", constraints="ignore")


# -- velocities --------------------------------------------------------------------------


def with_column(path: Path, name: str, speed: float = 0.001) -> Path:
    atoms = silicon()
    atoms.set_array(name, np.full((8, 3), speed))
    ase.io.write(path, atoms)
    return path


@pytest.mark.parametrize("name", ["vel", "velocities", "velo"])
def test_velocities_need_a_unit_and_are_named_if_unused(tmp_path, name):
    path = with_column(tmp_path / "a.extxyz", name)
    assert any(f"{name} not used" in note for note in job(path).notes)
    with pytest.raises(InputError, match=rf"velocity_unit.*{name}.*angstrom/fs"):
        job(path, keep_velocities=True)
    found = job(path, keep_velocities=True, velocity_unit="angstrom/fs")
    momenta = found.world.start.momenta / found.world.start.masses[:, None]
    assert np.allclose(momenta, 0.001 / units.fs)
    slower = job(path, keep_velocities=True, velocity_unit="angstrom/ps").world.start
    assert np.allclose(slower.momenta, found.world.start.momenta / 1000)


def test_momenta_under_a_bath(tmp_path):
    atoms = silicon()
    atoms.set_momenta(np.random.default_rng(1).normal(size=(8, 3)))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    drawn = job(tmp_path / "a.extxyz", BATH)
    assert any("its velocities are replaced" in note for note in drawn.notes)
    assert drawn.world.temperature == (600.0,)
    kept = job(tmp_path / "a.extxyz", BATH, keep_velocities=True)
    assert kept.world.temperature is None
    assert np.allclose(kept.world.start.momenta, atoms.get_momenta(), atol=1e-7)
    with pytest.raises(InputError, match=r"not with structure\.keep_velocities"):
        job(tmp_path / "a.extxyz", BATH, {"temperature": 300.0}, keep_velocities=True)
    without = job(tmp_path / "a.extxyz", keep_velocities=False)
    assert not without.world.start.momenta.any()


def test_velocities_that_are_not_there(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", silicon())
    with pytest.raises(InputError, match="the file has no velocities"):
        job(tmp_path / "a.extxyz", keep_velocities=True)


def test_what_a_run_has_no_use_for_is_named(tmp_path):
    atoms = silicon()
    atoms.set_initial_charges(np.ones(8))
    atoms.set_tags(np.arange(8))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    notes = " ".join(job(tmp_path / "a.extxyz").notes)
    assert "not used: initial_charges, tags" in notes


def test_what_a_reader_makes_for_itself_is_not_named(tmp_path):
    ase.io.write(tmp_path / "a.cif", silicon())
    assert not any("not used" in note for note in job(tmp_path / "a.cif").notes)


# -- LAMMPS ------------------------------------------------------------------------------

DATA = """a remark

2 atoms
2 atom types
0 5 xlo xhi
0 6 ylo yhi
0 7 zlo zhi
{masses}
Atoms # atomic

1 1 0 0 0
2 2 1.5 1.5 1.5

Velocities

1 1.0 0 0
2 0 2.0 0
"""
MASSES = "\nMasses\n\n1 28.0855\n2 15.999\n"


@pytest.mark.parametrize("name", ["a.data", "data.a", "a.lmp", "anything"])
def test_lammps_data(tmp_path, name):
    path = tmp_path / name
    path.write_text(DATA.format(masses=MASSES))
    assert read_structure(path).get_chemical_symbols() == ["Si", "O"]
    path.write_text(DATA.format(masses=""))
    with pytest.raises(InputError, match=r"numbers of types alone; say.*species"):
        read_structure(path)
    found = read_structure(path, keys=StructureKeys(species=("Mo", "S")))
    assert found.get_chemical_symbols() == ["Mo", "S"]
    assert np.allclose(found.cell.lengths(), [5, 6, 7])
    # of which unit the velocities are, nothing says
    assert not found.has("momenta")
    assert np.allclose(found.arrays["velocities"][1], [0, 2.0, 0])
    assert "velocities" not in extras(found).unused
    path.write_text(DATA.format(masses=MASSES).replace("remark", "units = metal"))
    assert np.allclose(read_structure(path).get_velocities()[1], [0, 2e-3 / units.fs, 0])
    with pytest.raises(InputError, match="unknown element 'Xx'"):
        read_structure(path, keys=StructureKeys(species=("Xx", "S")))


def dump(columns: str, rows: list[str], frames: int = 2) -> str:
    return "".join(
        f"ITEM: TIMESTEP\n{k}\nITEM: NUMBER OF ATOMS\n{len(rows)}\n"
        f"ITEM: BOX BOUNDS pp pp ff\n0 9\n0 9\n0 9\nITEM: ATOMS {columns}\n"
        + "\n".join(row.format(k=k) for row in rows)
        + "\n"
        for k in range(frames)
    )


def test_lammps_dump(tmp_path):
    path = tmp_path / "a.dump"
    path.write_text(dump("id type x y z", ["2 2 3 0 {k}", "1 1 0 0 0"]))
    with pytest.raises(InputError, match="numbers of types alone"):
        read_structure(path)
    keys = StructureKeys(species=("Si", "C"))
    found = read_structures(path, keys)
    assert [a.get_chemical_symbols() for a in found] == [["Si", "C"]] * 2
    assert found[1].positions[1].tolist() == [3, 0, 1]
    assert found[0].pbc.tolist() == [True, True, False]
    path.write_text(dump("id element x y z", ["1 Si 0 0 0", "2 O 3 0 0"]))
    assert read_structure(path, 0).get_chemical_symbols() == ["Si", "O"]
    moving = dump("id type mass x y z vx vy vz", ["1 1 1.0 0 0 0 3 0 0"], 1)
    path.write_text(moving)
    assert read_structure(path, keys=keys).arrays["velocities"].tolist() == [[3, 0, 0]]
    path.write_text(f"ITEM: UNITS\nreal\n{moving}")
    found = read_structure(path, keys=keys)
    assert found.get_chemical_symbols() == ["Si"]  # not what the mass tells
    assert np.allclose(found.get_velocities(), [[3 / units.fs, 0, 0]])


# -- refusals ----------------------------------------------------------------------------


def test_frames(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", [bulk("Si"), bulk("Ge"), bulk("C")])
    symbols = [read_structure(tmp_path / "a.extxyz", k)[0].symbol for k in (0, 1, -1, -3)]
    assert symbols == ["Si", "Ge", "C", "Si"]
    for frame in (3, -4):
        with pytest.raises(InputError, match=f"there is no frame {frame}"):
            read_structure(tmp_path / "a.extxyz", frame)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.xyz", "1\n\nXx 0 0 0\n", "unknown element 'X'|cannot be read|Xx"),
        ("a.xyz", "1\n\nX 0 0 0\n", "unknown element 'X'"),
        ("a.xyz", "2\n\nSi 0 0 0\n", "ends before the 2 atoms"),
        ("a.xyz", "", "no frame"),
        ("a", "once upon a time\n", "format is not recognised; name it with"),
        ("POSCAR", "Si\n1.0\n5 0 0\n0 5 0\n", "cannot be read as vasp"),
    ],
)
def test_refusals_are_one_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_structure(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_sites_that_are_occupied_in_part_are_refused(tmp_path):
    (tmp_path / "a.cif").write_text(
        "data_a\n_cell_length_a 5\n_cell_length_b 5\n_cell_length_c 5\n"
        "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
        "_space_group_name_H-M_alt 'P 1'\nloop_\n_atom_site_label\n"
        "_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n"
        "_atom_site_fract_z\n_atom_site_occupancy\nSi1 Si 0 0 0 1.0\nGe1 Ge .5 .5 .5 0.5\n"
    )
    with pytest.raises(InputError, match="is occupied in part"):
        read_structure(tmp_path / "a.cif")


@pytest.mark.parametrize(
    ("head", "kept"), [("", True), ("Cartesian", True), ("Direct", False)]
)
def test_velocities_of_a_poscar(tmp_path, head, kept):
    atoms = bulk("Al", cubic=True)
    ase.io.write(tmp_path / "POSCAR", atoms, format="vasp")
    with open(tmp_path / "POSCAR", "a") as file:
        file.write(f"{head}\n" + "0.01 0.02 0.03\n" * 4)
    found = read_structure(tmp_path / "POSCAR")
    assert found.has("momenta") is kept
    left = " ".join(found.info["left"])
    assert left == "" if kept else "lattice vectors a time step" in left
    if kept:
        assert np.allclose(found.get_velocities() * units.fs, [[0.01, 0.02, 0.03]] * 4)


def test_a_constraint_that_fixes_no_atoms_is_named(tmp_path):
    atoms = bulk("Al", cubic=True)
    atoms.set_constraint(FixBondLength(0, 1))
    assert extras(atoms).partly == "FixBondLengths: a constraint that is not honoured"


def test_more_types_than_species_are_said(tmp_path):
    rows = "0 5\n" * 3 + "ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 2 1 1 1\n"
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n"
    (tmp_path / "a.dump").write_text(head + rows)
    with pytest.raises(InputError, match="types are not 1 to 1"):
        read_structure(tmp_path / "a.dump", keys=StructureKeys(species=("Si",)))
