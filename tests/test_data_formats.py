"""Labels of other programs: what is read is named, what cannot be meant is refused."""

import gzip
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from scalebridge.engine.data.keys import LabelKeys
from scalebridge.engine.data.reading import _element, format_of, read, read_frames
from scalebridge.engine.data.structures import read_structure
from scalebridge.engine.data.vasp import converged_steps
from scalebridge.engine.errors import InputError


def silicon(seed: int = 0, **labels) -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=seed)
    forces = np.random.default_rng(seed).normal(size=(8, 3))
    atoms.calc = SinglePointCalculator(
        atoms, **{"energy": -32.0 - seed, "forces": forces, **labels}
    )
    return atoms


def xyz(path: Path, frames: int = 3) -> Path:
    ase.io.write(path, [silicon(k) for k in range(frames)])
    return path


def system(place: Path, kinds, types=None, frames=2, **arrays) -> Path:
    """Write a DeePMD system; an array given as None is left out."""
    part = place / "set.000"
    part.mkdir(parents=True)
    (place / "type.raw").write_text("\n".join(map(str, kinds)))
    (place / "type_map.raw").write_text("O\nH\n")
    atoms = len(kinds)
    random = np.random.default_rng(1)
    content = {
        "coord": random.random((frames, 3 * atoms)) * 5,
        "force": random.random((frames, 3 * atoms)),
        "energy": -10.0 - np.arange(frames),
        "box": np.tile(8 * np.eye(3).ravel(), (frames, 1)),
        "real_atom_types": types,
        **arrays,
    }
    for name, array in content.items():
        if array is not None:
            np.save(part / f"{name}.npy", np.array(array))
    return place


# -- DeePMD ----------------------------------------------------------------------------


def test_mixed_type_is_read_frame_by_frame(tmp_path):
    types = [[0, 1, 1], [1, 0, 1]]
    frames = read_frames(system(tmp_path / "s", [0, 0, 0], types))
    assert [f.symbols for f in frames] == [("O", "H", "H"), ("H", "O", "H")]


def test_vectors_may_have_an_axis_of_atoms(tmp_path):
    flat = system(tmp_path / "flat", [0, 1, 1])
    named = {
        name: np.load(flat / "set.000" / f"{name}.npy").reshape(2, 3, 3)
        for name in ("coord", "force", "box")
    }
    shaped = system(tmp_path / "shaped", [0, 1, 1], **named)
    for one, other in zip(read_frames(shaped), read_frames(flat), strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.forces, other.forces)
        assert np.array_equal(one.cell, other.cell)
    with pytest.raises(InputError, match=r"force has shape \(9, 1\), not \(3, 3\)"):
        read_frames(system(tmp_path / "odd", [0, 1, 1], force=np.zeros((2, 9, 1))))


def test_padding_of_mixed_type_is_no_atom(tmp_path):
    types = [[0, 1, 1, -1], [1, -1, -1, 0]]
    path = system(tmp_path / "s", [0, 0, 0, 0], types, force=np.zeros((2, 12)))
    frames = read_frames(path)
    assert [f.symbols for f in frames] == [("O", "H", "H"), ("H", "O")]
    coordinates = np.load(path / "set.000" / "coord.npy")[1].reshape(4, 3)
    assert np.array_equal(frames[1].positions, coordinates[[0, 3]])
    assert frames[1].forces.shape == (2, 3)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"energy": [-1.0]}, r"coord has 2 frames, energy has 1"),
        ({"force": np.ones((3, 9))}, r"coord has 2 frames, force has 3"),
        ({"force": np.ones((2, 6))}, r"force has 6 numbers in a frame, expected 9"),
        ({"box": None}, r"no box\.npy, and no nopbc"),
        ({"energy": None}, r"no energy\.npy; there are box, coord, force"),
        ({"box": np.zeros((2, 9))}, r"periodic, but the cell is"),
        ({"real_atom_types": [[0, 1, 2], [0, 1, 1]]}, r"type 2 has no symbol"),
        ({"coord": np.array([["x"] * 9] * 2)}, r"no numbers"),
        ({"energy": [-1.0, np.nan]}, r"energy is nan"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, said):
    path = system(tmp_path / "s", [0, 1, 1], **arrays)
    with pytest.raises(InputError, match=said):
        read(path)


def test_arrays_that_are_not_read_are_named(tmp_path):
    path = system(tmp_path / "s", [0, 1, 1], atom_ener=np.ones((2, 3)))
    assert any("atom_ener" in text for text in read(path).sentences)


# -- VASP ------------------------------------------------------------------------------


def vasprun(steps, most: int = 5) -> str:
    """A vasprun.xml of two titanium atoms; a step is a list of TOTEN per electronic step.

    The energy for sigma -> 0 is 0.2 eV above.
    """

    def energy(total: float) -> str:
        values = {
            "e_fr_energy": total,
            "e_wo_entrp": total + 0.1,
            "e_0_energy": total + 0.2,
        }
        items = "".join(f'<i name="{k}">{v}</i>' for k, v in values.items())
        return f"<energy>{items}</energy>"

    cell = (
        '<crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray>'
        '<i name="volume">64</i></crystal>'
    )
    place = '<varray name="positions"><v>0 0 0</v><v>.5 .5 .4{}</v></varray>'
    body = ""
    for number, totals in enumerate(steps):
        electronic = "".join(f"<scstep>{energy(total)}</scstep>" for total in totals)
        body += (
            f"<calculation>{electronic}<structure>{cell}{place.format(number)}</structure>"
            '<varray name="forces"><v>0 0 .5</v><v>0 0 -.5</v></varray>'
            '<varray name="stress"><v>10 0 0</v><v>0 10 0</v><v>0 0 10</v></varray>'
            f"{energy(totals[-1])}</calculation>"
        )
    rows = "<rc><c>Ti</c><c>1</c></rc>" * 2
    return (
        '<?xml version="1.0"?><modeling><generator><i name="program">vasp</i></generator>'
        f'<incar><i name="NELM" type="int">{most}</i></incar>'
        '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray>'
        '<varray name="weights"><v>1</v></varray></kpoints>'
        '<parameters><separator name="electronic"><i name="NELM" type="int">'
        f"{most}</i></separator></parameters>"
        "<atominfo><atoms>2</atoms><types>1</types>"
        '<array name="atoms"><dimension dim="1">ion</dimension>'
        '<field type="string">element</field><field type="int">atomtype</field>'
        f'<set>{rows}</set></array><array name="atomtypes"><set><rc><c>2</c><c>Ti</c>'
        "<c>47.9</c><c>4.0</c><c>PAW</c></rc></set></array></atominfo>"
        f'<structure name="initialpos">{cell}{place.format(0)}</structure>{body}'
        f'<structure name="finalpos">{cell}{place.format(9)}</structure></modeling>'
    )


def test_vasp_energies_are_those_whose_derivative_the_forces_are(tmp_path):
    (tmp_path / "vasprun.xml").write_text(vasprun([[-15.0, -15.2], [-15.3, -15.4]]))
    found = read(tmp_path / "vasprun.xml")
    assert [f.energy for f in found.frames] == [-15.2, -15.4]
    assert found.energy == "free_energy" and "differs" in " ".join(found.left_out)
    # VASP prints kbar, positive in compression: W = V p
    assert np.allclose(found.frames[0].virial, np.eye(3) * 64 / 160.21766, rtol=1e-5)


def test_steps_with_unconverged_electrons_are_left_out_and_named(tmp_path):
    steps = [[-15.0, -15.2], [-15.0, -14.0, -16.0, -13.0, -15.1], [-15.3, -15.4]]
    (tmp_path / "vasprun.xml").write_text(vasprun(steps))
    found = read(tmp_path / "vasprun.xml")
    assert [f.energy for f in found.frames] == [-15.2, -15.4]
    assert any("1 ionic steps (first: 1)" in text for text in found.left_out)
    # the last change is below EDIFF: converged with the last step that was allowed
    steps[1][-1] = steps[1][-2] - 1e-6
    (tmp_path / "vasprun.xml").write_text(vasprun(steps))
    assert len(read(tmp_path / "vasprun.xml").frames) == 3
    (tmp_path / "vasprun.xml").write_text(vasprun([steps[0]], most=2))
    with pytest.raises(InputError, match="no ionic step with converged electrons"):
        read(tmp_path / "vasprun.xml")


@pytest.mark.parametrize(
    ("word", "step", "change", "fine"),
    [
        ("because EDIFF is reached", 7, "-0.1E-07", True),
        ("because EDIFF is reached", 15, "-0.2356191E-02", False),  # as VASP 5 says it
        ("because EDIFF is reached", 15, "-0.6032322E-06", True),
        ("because EDIFF is reached", 15, "*************", False),
        ("EDIFF was not reached (unconverged)", 15, "-0.1E-07", False),
    ],
)
def test_what_an_outcar_says_of_its_electrons(tmp_path, word, step, change, fine):
    (tmp_path / "OUTCAR").write_text(
        "   NELM   =     15;   NELMIN=  2; NELMDL= -5     # of ELM steps\n"
        "   EDIFF  = 0.1E-05   stopping-criterion for ELM\n"
        f"------------------------ Iteration      1({step:4d})  ---------------------\n"
        f" total energy-change (2. order) :{change}  (-0.4892725E-04)\n"
        f"------------------------ aborting loop {word} ----------------\n"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n"
    )
    # a step without electrons of its own, such as a machine-learned one, is no label
    assert converged_steps(tmp_path / "OUTCAR", "vasp-out") == [fine, False]


def test_outputs_are_told_by_what_stands_in_them(tmp_path):
    heads = {
        "vasp-out": " vasp.6.3.0 20Jan22 complex\n \n executed on   LinuxIFC date 2022\n",
        "cp2k/output": " DBCSR| CPU Multiplication driver\n CP2K| version string: 2024.1\n",
    }
    for form, head in heads.items():
        (tmp_path / "run.log").write_text(head)
        assert format_of(tmp_path / "run.log") == form


@pytest.mark.parametrize(
    ("kind", "symbol"), [("Fe1", "Fe"), ("O", "O"), ("H_w", "H"), ("CA", ""), ("X1", "")]
)
def test_kinds_of_atoms_are_elements_or_refused(kind, symbol):
    if symbol:
        assert _element(kind) == symbol
        return
    with pytest.raises(ValueError, match="names no element"):
        _element(kind)


def test_energies_that_forces_do_not_belong_to_are_not_read(tmp_path):
    (tmp_path / "aims.out").write_text("Invoking FHI-aims")
    with pytest.raises(InputError, match="aims-output, whose energies fit the forces"):
        read(tmp_path / "aims.out", LabelKeys(format="fhi_aims/md"))


# -- extended XYZ ------------------------------------------------------------------------


def test_blank_lines_between_frames_lose_nothing(tmp_path):
    text = xyz(tmp_path / "a.extxyz", 4).read_text()
    lines = text.splitlines(keepends=True)
    parted = "\n".join("".join(lines[k : k + 10]) for k in range(0, 40, 10)) + "\n\n"
    (tmp_path / "b.extxyz").write_text("\ufeff" + parted)
    frames = read_frames(tmp_path / "b.extxyz")
    assert [f.energy for f in frames] == [-32.0, -33.0, -34.0, -35.0]
    with gzip.open(tmp_path / "c.extxyz.gz", "wt") as file:
        file.write(parted)
    assert len(read_frames(tmp_path / "c.extxyz.gz")) == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("8\nL", "7\nL", r"line 10: the number of atoms of a frame is expected"),
        ("8\nL", "9\nL", r"frame at line 1|line 11|columns"),
        ("energy=-32.0", "group= energy=-32.0", r"group has no value, so energy is lost"),
        ("energy=-32.0", "energy=-32.0 energy=-31.0", r"energy is given twice"),
        ("Si ", "Xx ", r"unknown element 'X'|frame at line 1"),
        ("energy=-32.0", "energy=nan", r"energy is nan"),
        ("energy=-32.0", "energy=three", r"energy is .three., which is no number"),
        ("energy=-32.0", "energy=-1e30", r"absurd"),
    ],
)
def test_damaged_frames_are_refused_with_the_line(tmp_path, old, new, said):
    path = xyz(tmp_path / "a.extxyz")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        read(path)


def test_a_row_without_its_columns_is_refused(tmp_path):
    path = xyz(tmp_path / "a.extxyz")
    lines = path.read_text().splitlines()
    for row in (lines[3] + " 1.0", " ".join(lines[3].split()[:-1])):
        path.write_text("\n".join([*lines[:3], row, *lines[4:]]))
        with pytest.raises(InputError, match=r"line 4|frame at line 1"):
            read(path)


def renamed(path: Path, energy: str, forces: str) -> Path:
    text = (
        path.read_text().replace("energy=", f"{energy}=").replace("forces:", f"{forces}:")
    )
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("energy", "forces"), [("REF_energy", "REF_forces"), ("dft_energy", "dft_force")]
)
def test_labels_of_other_names(tmp_path, energy, forces):
    path = renamed(xyz(tmp_path / "a.extxyz"), energy, forces)
    with pytest.raises(InputError, match=rf"has no free_energy or energy.*{energy}"):
        read(path)
    keys = LabelKeys(energy_key=energy)
    with pytest.raises(InputError, match=rf"has no forces; it has.*{forces}.*forces_key"):
        read(path, keys)
    frames = read_frames(path, LabelKeys(energy_key=energy, forces_key=forces))
    assert [f.energy for f in frames] == [-32.0, -33.0, -34.0]


def test_the_free_energy_goes_with_the_forces(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", [silicon(free_energy=-32.5)])
    found = read(tmp_path / "a.extxyz")
    assert found.frames[0].energy == -32.5 and found.energy.startswith(
        "free_energy (eV assumed"
    )
    assert "energy, which differs" in found.left_out[0]
    atoms = silicon(free_energy=-32.5)
    del atoms.calc.results["energy"]
    ase.io.write(tmp_path / "b.extxyz", [atoms])
    assert read_frames(tmp_path / "b.extxyz")[0].energy == -32.5
    ase.io.write(tmp_path / "c.extxyz", [silicon(), atoms])
    with pytest.raises(InputError, match="some frames have energy and some free_energy"):
        read(tmp_path / "c.extxyz")


# -- LAMMPS, ASE, JSON -------------------------------------------------------------------


def test_a_dump_holds_no_energies(tmp_path):
    rows = "\n".join(f"{k} Si {k} 0 0 0.1 0 0" for k in range(1, 4))
    (tmp_path / "si.dump").write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n"
        f"0 9\n0 9\n0 9\nITEM: ATOMS id element x y z fx fy fz\n{rows}\n"
    )
    with pytest.raises(InputError, match="lammps-dump-text holds no energies"):
        read(tmp_path / "si.dump")
    with pytest.raises(InputError, match="lammps-dump-text holds no energies"):
        read(tmp_path / "si.dump", LabelKeys(format="lammps-dump-text"))


@pytest.mark.parametrize("name", ["a.db", "a.traj", "a.json"])
def test_databases_of_ase(tmp_path, name):
    images = [silicon(k) for k in range(2)]
    ase.io.write(tmp_path / name, images)
    frames = read_frames(tmp_path / name)
    assert [f.energy for f in frames] == [-32.0, -33.0]
    assert np.allclose(frames[1].forces, images[1].get_forces())


def test_a_format_that_nobody_can_guess_is_named(tmp_path):
    for name, said in (("labels.dat", "another format is named"), ("lab", "not recogni")):
        (tmp_path / name).write_text("1 2 3\n")
        with pytest.raises(InputError, match=rf"{said}.* with the key format"):
            read(tmp_path / name)
    with pytest.raises(InputError, match="format: lamps is unknown; allowed are"):
        read(tmp_path / "labels.dat", LabelKeys(format="lamps"))
    path = xyz(tmp_path / "a.extxyz").rename(tmp_path / "a.dat")
    assert len(read_frames(path, LabelKeys(format="extxyz"))) == 3


def fitsnap(**changes) -> dict:
    entry = {
        "Positions": [[0, 0, 0], [1.5, 1.5, 1.5]],
        "AtomTypes": ["Ta", "Ta"],
        "Lattice": (3.3 * np.eye(3)).tolist(),
        "NumAtoms": 2,
        "Energy": -23.6,
        "Forces": [[0.1, 0, 0], [-0.1, 0, 0]],
        "Stress": [[1000, 20, 30], [20, 1000, 40], [30, 40, 1000]],
    }
    styles = {"EnergyStyle": "electronvolt", "StressStyle": "bar"}
    return {"Dataset": {"Data": [{**entry, **changes}], **styles}}


def test_fitsnap(tmp_path):
    folder = tmp_path / "Displaced_BCC"
    folder.mkdir()
    (folder / "A15_1.json").write_text("# a remark\n" + json.dumps(fitsnap()))
    for path in (folder, folder / "A15_1.json"):
        frame = read_frames(path)[0]
        assert (frame.energy, frame.group) == (-23.6, "Displaced_BCC")
        assert frame.virial[0, 0] == pytest.approx(1000 * 3.3**3 * 6.241509e-7)
        assert frame.virial[1, 2] == pytest.approx(40 * 3.3**3 * 6.241509e-7)
    other = fitsnap()
    other["Dataset"]["StressStyle"] = "kB"  # FitSNAP's name of the kilobar
    (folder / "A15_1.json").write_text(json.dumps(other))
    found = read(folder)
    assert found.frames[0].virial[0, 0] == pytest.approx(1e6 * 3.3**3 * 6.241509e-7)
    assert "Stress, kbar" in found.stress
    (folder / "A15_1.json").write_text(json.dumps(fitsnap(NumAtoms=3)))
    with pytest.raises(InputError, match="NumAtoms is 3, 2 types are there"):
        read(folder)
    other = fitsnap()
    other["Dataset"]["EnergyStyle"] = "hartree"
    (folder / "A15_1.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="EnergyStyle hartree: only electronvolt"):
        read(folder)


# -- stress ------------------------------------------------------------------------------


def stressed(path: Path, **labels) -> Path:
    ase.io.write(path, [silicon(**labels)])
    return path


def test_a_named_stress_is_one_and_molecules_have_none(tmp_path):
    """The names of MACE: REF_stress is eV/angstrom^3, positive in tension."""
    lone = molecule("H2")
    frames = [silicon(), lone]
    for atoms in frames:
        atoms.info["REF_energy"], atoms.calc = -1.0, None
        atoms.arrays["REF_forces"] = np.zeros((len(atoms), 3))
    frames[0].info["REF_stress"] = 0.01 * np.eye(3)
    ase.io.write(tmp_path / "a.extxyz", frames)
    names = {"energy_key": "REF_energy", "forces_key": "REF_forces"}
    for more in ({}, {"stress_unit": "eV/angstrom^3"}):
        keys = LabelKeys(**names, stress_key="REF_stress", **more)
        found = read(tmp_path / "a.extxyz", keys)
        one, other = found.frames
        assert np.allclose(one.virial, -0.01 * one.volume * np.eye(3))
        assert other.virial is None and "of 1 frames" in found.sentences[0]
        assert "REF_stress, eV/angstrom^3" in found.stress and "tension" in found.stress
    with pytest.raises(InputError, match="no frame has REF_virial; there are REF_stress"):
        read(tmp_path / "a.extxyz", LabelKeys(**names, stress_key="REF_virial"))


def test_stress_keys(tmp_path):
    values = np.array([1.0, 2, 3, 4, 5, 6]) * 1e-2
    path = stressed(tmp_path / "a.extxyz", stress=values)
    volume = 5.43**3
    plain = read(path)
    assert "eV/angstrom^3, xx yy zz yz xz xy, positive in tension" in plain.stress
    assert plain.frames[0].virial[0, 2] == pytest.approx(-volume * 0.05)
    assert plain.frames[0].virial[0, 1] == pytest.approx(-volume * 0.06)
    keys = LabelKeys(
        stress_order="xx yy zz xy yz zx", stress_unit="GPa", stress_sign="compression"
    )
    # ASE writes nine numbers, so the order does not matter; unit and sign do
    other = read_frames(path, keys)[0].virial
    assert np.allclose(other, -plain.frames[0].virial / 160.21766, rtol=1e-6)


def test_a_stress_in_another_unit_is_noticed_by_its_size(tmp_path):
    path = stressed(tmp_path / "a.extxyz", stress=np.full(6, 40_000.0))
    with pytest.raises(InputError, match="say in which unit it is with stress_unit"):
        read(path)
    keys = LabelKeys(stress_unit="bar")
    assert read_frames(path, keys)[0].virial[0, 0] == pytest.approx(
        -(5.43**3) * 4 / 160.21766, rel=1e-5
    )


def test_no_stress_and_no_virial_agree(tmp_path):
    atoms = silicon(stress=np.zeros(6))
    atoms.info["virial"] = np.zeros((3, 3))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    assert np.array_equal(read_frames(tmp_path / "a.extxyz")[0].virial, np.zeros((3, 3)))


def test_virial_and_stress_must_agree(tmp_path):
    atoms = silicon(stress=np.full(6, 0.01))
    volume = atoms.get_volume()
    atoms.info["virial"] = -volume * 0.01 * np.ones((3, 3))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    assert np.allclose(read_frames(tmp_path / "a.extxyz")[0].virial, -volume * 0.01)
    atoms.info["virial"] *= -1
    ase.io.write(tmp_path / "b.extxyz", atoms)
    with pytest.raises(InputError, match="virial is not -volume times stress"):
        read(tmp_path / "b.extxyz")
    keys = LabelKeys(stress_key="virial")
    assert np.allclose(read_frames(tmp_path / "b.extxyz", keys)[0].virial, volume * 0.01)


@pytest.mark.parametrize(
    ("name", "sign", "unit"),
    [("REF_stress", -1.0, "eV/angstrom^3, "), ("REF_virials", 1.0, "eV, ")],
)
def test_a_stress_is_what_its_name_says(tmp_path, name, sign, unit):
    """What is said of it is what is done: a stress in tension, a virial in compression."""
    atoms = silicon()
    atoms.info[name] = 0.01 * np.eye(3)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    reading = read(tmp_path / "a.extxyz", LabelKeys(stress_key=name))
    size = atoms.get_volume() if sign < 0 else 1.0
    assert np.allclose(reading.frames[0].virial, sign * size * 0.01 * np.eye(3))
    assert unit in reading.stress
    assert ("tension" if sign < 0 else "compression") in reading.stress


def test_a_lattice_of_mlearn_says_where_it_is_periodic(tmp_path):
    lattice = {"matrix": (4 * np.eye(3)).tolist(), "pbc": [True, True, False]}
    site = {"species": [{"element": "Si", "occu": 1}], "xyz": [0.0, 0, 0]}
    outputs = {"energy": -5.0, "forces": [[0, 0, 0.0]]}
    entry = {"structure": {"lattice": lattice, "sites": [site]}, "outputs": outputs}
    (tmp_path / "a.json").write_text(json.dumps([entry]))
    (frame,) = read_frames(tmp_path / "a.json")
    assert frame.periodic.tolist() == [True, True, False] and frame.group == ""


def test_virials_in_the_plural_and_six_numbers(tmp_path):
    atoms = silicon()
    atoms.info["virials"] = np.eye(3)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    assert np.allclose(read_frames(tmp_path / "a.extxyz")[0].virial, np.eye(3))
    atoms.info["virials"] = np.arange(6.0)
    ase.io.write(tmp_path / "b.extxyz", atoms)
    with pytest.raises(InputError, match="say in which order with stress_order"):
        read(tmp_path / "b.extxyz")
    keys = LabelKeys(stress_order="xx yy zz xy yz zx")
    virial = read_frames(tmp_path / "b.extxyz", keys)[0].virial
    assert (virial[0, 1], virial[1, 2], virial[0, 2]) == (3.0, 4.0, 5.0)


@pytest.mark.parametrize("order", ["xx yy zz", "xx yy zz xy xy yz", "a b c d e f"])
def test_an_order_of_other_components_is_refused(order):
    with pytest.raises(ValueError, match="must name each of"):
        LabelKeys(stress_order=order)


def test_a_molecule_has_no_stress(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(
        atoms, energy=-1.0, forces=np.ones((3, 3)), stress=np.ones(6)
    )
    ase.io.write(tmp_path / "a.extxyz", atoms)
    assert read_frames(tmp_path / "a.extxyz")[0].virial is None


LOOP = "--- Iteration      1(   2) ---\n--- aborting loop because EDIFF is reached ---\n"
STEP = (
    " POSITION        TOTAL-FORCE (eV/Angst)\n -----\n 0 0 0 0 0 0\n -----\n"
    "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n"
)


def test_a_step_of_an_outcar_is_judged_by_its_own_loop(tmp_path):
    """Of a loop that did not converge releases before 6 say nothing."""
    path = tmp_path / "OUTCAR"
    head, bare = " NIONS = 1\n", "--- Iteration      2(  60) ---\n"
    path.write_text(head + LOOP + STEP + bare + STEP + LOOP + STEP)
    assert converged_steps(path, "vasp-out") == [True, False, True]
    path.write_text(head + LOOP + STEP + LOOP)  # its second step is not complete
    assert converged_steps(path, "vasp-out") == [True, False]
    path.write_text(head + LOOP + STEP.replace(" 0 0 0 0 0 0\n", " 0 0 0 0 0 0\n" * 2))
    with pytest.raises(InputError, match="step 0: 2 rows of forces, expected 1"):
        converged_steps(path, "vasp-out")
    path.write_text(" NIONS = x\n")
    with pytest.raises(InputError, match="damaged"):
        converged_steps(path, "vasp-out")


@pytest.mark.parametrize("name", ["forces", "positions", "basis"])
def test_a_step_of_a_vasprun_has_all_its_rows(tmp_path, name):
    """Of a row that is missing ASE makes zeros."""
    text = vasprun([[-15.0, -15.2]])
    at = text.index(f'name="{name}"', text.index("<calculation>"))
    first = text.index("<v>", at)
    last = text.index("</v>", first) + len("</v>")
    (tmp_path / "vasprun.xml").write_text(text[:first] + text[last:])
    with pytest.raises(InputError, match=f"step 0: [12] rows of {name}, expected [23]"):
        read(tmp_path / "vasprun.xml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<v>0 0 .5</v>", "<v>0 0 1_0</v>", "step 0: v: 1_0 is no number"),
        ("-15.2</i>", "-1_5.2</i>", "e_fr_energy: -1_5.2 is no number"),
        ("<v>10 0 0</v>", "<v>10 5 0</v>", "step 0: the stress is not symmetric"),
        ("<v>10 0 0</v>", "<v>nan 0 0</v>", "in part not finite"),
    ],
)
def test_numbers_of_a_vasprun(tmp_path, old, new, said):
    text = vasprun([[-15.0, -15.2]])
    assert old in text
    (tmp_path / "vasprun.xml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        read(tmp_path / "vasprun.xml")


@pytest.mark.parametrize("order", [(1, 3), (2,), (1, 2, 4), (1, 2, 3, 1, 1), (1, 2, 2)])
def test_atoms_of_quantum_espresso_stand_in_order(tmp_path, order):
    row = "     atom    {k} type  1   force =     0.0    0.0    0.0\n"
    (tmp_path / "a.out").write_text("".join(row.format(k=k) for k in order))
    with pytest.raises(InputError, match=f"atom {order[-1]} stands after"):
        read(tmp_path / "a.out", LabelKeys(format="espresso-out"))


def test_numbers_of_quantum_espresso(tmp_path):
    row = "     atom    1 type  1   force =     0.0    0.0    0.1_0\n"
    (tmp_path / "a.out").write_text(row)
    with pytest.raises(InputError, match=r"line 1: 0\.1_0 is no number"):
        read(tmp_path / "a.out", LabelKeys(format="espresso-out"))


@pytest.mark.parametrize("name", ["labels", "labels.txt", "labels.out"])
def test_formats_are_told_by_content_whatever_the_name(name, tmp_path):
    path = tmp_path / name
    ase.io.write(path, [silicon()], format="extxyz")
    assert format_of(path) == "extxyz" and len(read(path).frames) == 1
    if path.suffix == ".out":
        return  # of many programs, by its name
    for form in ("cif", "vasp", "proteindatabank"):
        ase.io.write(path, bulk("Si", cubic=True), format=form)
        assert format_of(path) == form and len(read_structure(path)) == 8
    path.unlink()
    with connect(path, type="db") as database:
        database.write(silicon())
    assert format_of(path) == "db" and len(read(path).frames) == 1
    assert len(read_structure(path)) == 8
    path.write_text("a remark\n")
    with pytest.raises(
        InputError, match=r"not recognised; name it .* format \(extxyz, vasp"
    ):
        format_of(path)


def test_a_last_number_without_an_end_that_is_whole_is_taken(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", [silicon()])
    text = (tmp_path / "a.extxyz").read_text()
    (tmp_path / "a.extxyz").write_text(text.rstrip("\n"))
    assert len(read(tmp_path / "a.extxyz").frames) == 1
