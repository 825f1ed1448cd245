"""Wrong but well-formed inputs: each must be refused, or what is odd about it be said.

Every file here parses; what it means cannot be what its author meant. An input that is
taken without a word is a silent acceptance.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixScaled
from ase.db import connect

from scalebridge.engine.errors import InputError


@dataclass(frozen=True)
class Wrong:
    """One wrong input.

    Attributes:
        name: what is wrong with it.
        tell: writes the file into a folder, reads it, returns what is said.
        said: a text that the refusal or the remark must hold.
    """

    name: str
    tell: Callable[[Path], str]
    said: str

    def answer(self, place: Path) -> str:
        """Return the refusal, or what was said of an input that was taken."""
        try:
            return self.tell(place)
        except InputError as error:
            return str(error)

    def noticed(self, place: Path) -> bool:
        """Tell whether the input is refused or named, in a line that says why."""
        return self.said in self.answer(place)


def silicon(seed: int = 0, **labels: Any) -> Atoms:
    """Eight labelled atoms of a rattled crystal, the first of -32 eV."""
    atoms = _pairwise(seed)
    energy = atoms.get_potential_energy() - _pairwise(0).get_potential_energy() - 32.0
    results = {"energy": energy, "forces": atoms.get_forces(), **labels}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _pairwise(seed: int) -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.calc = LennardJones(sigma=2.1, epsilon=0.5, rc=5.0)
    return atoms


def read_labels(path: Path, **keys: Any) -> str:
    """Read labels; return what is said of them."""
    from scalebridge.engine.data.keys import LabelKeys
    from scalebridge.engine.data.reading import read

    return " ".join(read(path, LabelKeys(**keys)).sentences)


def dynamics(path: Path, **changes: Any) -> str:
    """Assemble a run of a structure; return what is said of it."""
    from scalebridge.engine.jobs import assemble
    from scalebridge.engine.scenario import parse

    structure = {"kind": "file", "path": str(path), **changes.pop("structure", {})}
    data = {
        "version": 1, "kind": "md", "structure": structure,
        "potential": {"kind": "stillinger_weber"}, "ensemble": {"kind": "nve"},
        "run": {"steps": 1, "timestep": 1.0}, **changes,
    }  # fmt: skip
    return " ".join(assemble(parse(data), path.parent).notes)  # type: ignore[attr-defined]


def training(place: Path, images: list[Atoms], **changes: Any) -> str:
    """Assemble a training on images; return what is said of it."""
    from scalebridge.engine.jobs import assemble
    from scalebridge.engine.scenario import parse

    ase.io.write(place / "train.extxyz", images)
    model = {
        "kind": "higher_moments", "cutoff": 4.0, "channels": 4, "axis": 2, "products": 2,
        "basis": 4, "fitting": [4], "members": 1,
    }  # fmt: skip
    data = {
        "version": 1, "kind": "train", "data": "train.extxyz", "steps": 2, "model": model,
        **changes,
    }  # fmt: skip
    return " ".join(assemble(parse(data), place).notes)  # type: ignore[attr-defined]


# -- extended XYZ ------------------------------------------------------------------------

_XYZ = (
    ("energy nan", "energy=-32.0", "energy=nan", "energy is nan"),
    ("energy inf", "energy=-32.0", "energy=inf", "energy is inf"),
    ("energy a word", "energy=-32.0", "energy=low", "is no number"),
    ("energy without a value", "energy=-32.0", "energy=", "energy"),
    ("energy absurd", "energy=-32.0", "energy=-1e12", "absurd"),
    ("energy twice", "energy=-32.0", "energy=-32.0 energy=-31.0", "given twice"),
    ("energy of another name", "energy=-32.0", "E0=-32.0", "it has E0"),
    ("energy as a list", "energy=-32.0", 'energy="-32.0 -31.0"', "no number"),
    ("an empty group", "energy=-32.0", "group= energy=-32.0", "group has no value"),
    ("forces of another name", "forces:R:3", "dft_forces:R:3", "it has"),
    ("forces of two components", "forces:R:3", "forces:R:2", "columns"),
    ("one atom too few announced", "8\nLat", "7\nLat", "the number of atoms"),
    ("one atom too many announced", "8\nLat", "9\nLat", "line"),
    ("no atoms", "8\nLat", "0\nLat", "announces 0 atoms"),
    ("a negative number of atoms", "8\nLat", "-8\nLat", "announces -8 atoms"),
    ("atoms as a real number", "8\nLat", "8.5\nLat", "the number of atoms"),
    ("an unknown element", "Si  ", "Xx  ", "line 1"),
    ("the placeholder X", "Si  ", "X   ", "unknown element 'X'"),
    ("a cell twice", "Lattice=", 'Lattice="9 0 0 0 9 0 0 0 9" Lattice=', "given twice"),
    ("a cell of zeros", "5.43 0.0 0.0 0.0 5.43 0.0 0.0 0.0 5.43",
     "0 0 0 0 0 0 0 0 0", "periodic, but the cell is"),
    ("a flat cell", "5.43 0.0 0.0 0.0 5.43 0.0 0.0 0.0 5.43",
     "5.43 0 0 0 5.43 0 5.43 5.43 0", "span no volume"),
    ("a cell with nan", "5.43 0.0 0.0 0.0 5.43", "nan 0.0 0.0 0.0 5.43", "cell"),
    ("free and bound energy differ", "energy=-32.0", "energy=-32.0 free_energy=-32.4",
     "energy and some free_energy"),
    ("a stress in bar", "energy=-32.0",
     'energy=-32.0 stress="4e4 0 0 0 4e4 0 0 0 4e4"', "stress_unit"),
    ("six virials without an order", "energy=-32.0",
     'energy=-32.0 virial="1 2 3 4 5 6"', "9-long"),
    ("a stress that is not symmetric", "energy=-32.0",
     'energy=-32.0 stress=".01 .02 0 0 .01 0 0 0 .01"', "not symmetric"),
    ("virial and stress of one sign", "energy=-32.0",
     'energy=-32.0 stress=".01 0 0 0 .01 0 0 0 .01" virial="1.6 0 0 0 1.6 0 0 0 1.6"',
     "is not -volume times stress"),
    ("a stress of five numbers", "energy=-32.0", 'energy=-32.0 virial="1 2 3 4 5"',
     "9-long"),
    ("charges nobody reads", "forces:R:3", "forces:R:2:initial_charges:R:1", "forces"),
    ("pbc in words", 'pbc="T T T"', 'pbc="yes yes yes"', "three of T and F"),
    ("pbc of other numbers", 'pbc="T T T"', 'pbc="2 0 1"', "three of T and F"),
    ("pbc of two axes", 'pbc="T T T"', 'pbc="T T"', "three of T and F"),
    ("energy true", "energy=-32.0", "energy=T", "true and false are no numbers"),
    ("energy in hartree", "energy=-32.0", "energy=-32.0 energy_unit=hartree",
     "energy_unit is hartree"),
    ("lengths in bohr", "energy=-32.0", "energy=-32.0 units=bohr", "units is bohr"),
    ("a frame that did not converge", "energy=-32.0", "energy=-32.0 scf_converged=F",
     "1 frames (first: 0) whose labels the file disowns by scf_converged = False"),
    ("a total charge nobody reads", "energy=-32.0", "energy=-32.0 charge=2",
     "charge: not labels"),
    ("a weight nobody reads", "energy=-32.0", "energy=-32.0 config_weight=0",
     "disowns by config_weight = 0"),
    ("deuterium", "Si  ", "D   ", "is no element"),
    ("a virial twice", "energy=-32.0", 'energy=-32.0 virial="1 0 0 0 1 0 0 0 1" '
     'virial="2 0 0 0 2 0 0 0 2"', "virial is given twice"),
    ("a group twice", "energy=-32.0", "energy=-32.0 group=a group=b", "group is given"),
    ("forces as key and column", "energy=-32.0", 'energy=-32.0 forces="1 2 3"',
     "forces is given twice"),
    ("a cell in small letters", "Lattice=", "lattice=", "lattice is spelt Lattice"),
    ("pbc in capitals", "pbc=", "PBC=", "PBC is spelt pbc"),
    ("forces that are true or false", "forces:R:3", "forces:L:3", "no keys and values"),
    ("columns without a number", "forces:R:3", "forces:R:x", "no keys and values"),
    ("no positions", "pos:R:3", "xyz:R:3", "no pos"),
    ("a unit before its name", "energy=-32.0", "energy=-32.0 unit_energy=hartree",
     "unit_energy is hartree"),
    ("scf failed", "energy=-32.0", "energy=-32.0 scf=failed", "disowns by scf = failed"),
    ("scf in words", "energy=-32.0", 'energy=-32.0 SCF_status="did not converge"',
     "disowns by SCF_status"),
    ("an error", "energy=-32.0", 'energy=-32.0 error="walltime exceeded"', "by error"),
    ("a calculation aborted", "energy=-32.0", "energy=-32.0 Status=ABORTED", "by Status"),
    ("a program that failed", "energy=-32.0", "energy=-32.0 exit_code=137", "by exit_code"),
    ("no success", "energy=-32.0", "energy=-32.0 success=False", "by success = False"),
    ("electrons by name", "energy=-32.0", "energy=-32.0 electronicConverged=no",
     "by electronicConverged"),
    ("a flag alone", "energy=-32.0", "energy=-32.0 unconverged", "by unconverged = True"),
    ("an energy without weight", "energy=-32.0", "energy=-32.0 config_energy_weight=0.0",
     "by config_energy_weight"),
    ("a number of Python", "energy=-32.0", "energy=-3_2.0", "line 2: energy is -3_2.0"),
    ("an exponent of Python", "energy=-32.0", "energy=-3.2e0_1", "energy is -3.2e0_1"),
    ("digits of Arabic", "energy=-32.0", "energy=-٣٢", "line 2: energy is -٣٢"),
    ("a comma", "energy=-32.0", "energy=-32,5", "energy is [-32   5]"),
    ("hexadecimals", "energy=-32.0", "energy=0x10", "energy is '0x10', which is no number"),
    ("an energy of nothing", "energy=-32.0", 'energy=""', "line 2: energy is empty"),
    ("a cell of Python", "5.43 0.0 0.0 0.0 5.43", "5.43 0.0 0.0 0.0 5_4.3",
     "Lattice is 5_4.3"),
    ("atoms of Python", "8\nLat", "0_8\nLat", "the number of atoms of a frame is expected"),
    ("a stress in part nan", "energy=-32.0",
     'energy=-32.0 stress=".1 0 0 0 nan 0 0 0 .1"', "in part not finite; mend it"),
    ("a stress of nan", "energy=-32.0", f'energy=-32.0 stress="{"nan " * 9}"',
     "the stress of 1 frames (first: a.extxyz, frame 0), which is NaN"),
    ("a frame converged 0 times", "energy=-32.0", "energy=-32.0 converged=0",
     "1 frames (first: 0) whose labels the file disowns by converged = 0"),
    ("a group of two names", "energy=-32.0", "energy=-32.0 group=a config_type=b",
     "config_type: not labels"),
)  # fmt: skip


def _xyz(place: Path, old: str, new: str) -> str:
    path = place / "a.extxyz"
    ase.io.write(path, [silicon(k) for k in range(3)])
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return read_labels(path)


def _rows(place: Path, change: Callable[[list[str]], list[str]]) -> str:
    path = place / "a.extxyz"
    ase.io.write(path, [silicon(k) for k in range(3)])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")
    return read_labels(path)


def _contradicted(lines: list[str]) -> list[str]:
    """The atomic number of oxygen at every atom of silicon, but the first."""
    header = lines[1].replace("forces:R:3", "forces:R:3:Z:I:1")
    return [lines[0], header, f"{lines[2]} 14", *(f"{row} 8" for row in lines[3:10])]


def _numbered(lines: list[str]) -> list[str]:
    return [row.replace(":Z:", ":numbers:") for row in _contradicted(lines)]


def _no_cell(lines: list[str]) -> list[str]:
    header = f'{lines[1][lines[1].index("Properties") :]} stress="1 0 0 0 1 0 0 0 1"'
    return [lines[0], header.replace("T T T", "F F F"), *lines[2:10]]


def _long(lines: list[str]) -> list[str]:
    return [*lines[:4], lines[4] + " 1.0", *lines[5:]]


def _absurd(lines: list[str]) -> list[str]:
    return [*lines[:4], " ".join([*lines[4].split()[:-1], "1e25"]), *lines[5:]]


def _cut_file(place: Path) -> str:
    ase.io.write(place / "a.extxyz", [silicon(k) for k in range(3)])
    text = (place / "a.extxyz").read_text()
    (place / "a.extxyz").write_text(text.rstrip()[:-3])
    return read_labels(place / "a.extxyz")


def _masked(lines: list[str]) -> list[str]:
    """A mask by which the force on the third atom is none."""
    header = lines[1].replace("forces:R:3", "forces:R:3:forces_mask:I:1")
    flags = (int(k != 2) for k in range(8))
    rows = [f"{row} {flag}" for row, flag in zip(lines[2:10], flags, strict=True)]
    return [lines[0], header, *rows, *lines[10:]]


def _of_python(lines: list[str]) -> list[str]:
    words = lines[3].split()
    return [*lines[:3], " ".join([words[0], "1_0.5", *words[2:]]), *lines[4:]]


def _swallowed(lines: list[str]) -> list[str]:
    return lines[:-1]


def _two_energies(lines: list[str]) -> list[str]:
    return [lines[0], lines[1].replace("energy=", "free_energy="), *lines[2:]]


# -- DeePMD, JSON ------------------------------------------------------------------------


def system(place: Path, **arrays: Any) -> Path:
    """Write a DeePMD system of one oxygen and two hydrogens; None leaves an array out."""
    part = place / "system" / "set.000"
    part.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    texts = {"type.raw": "0 1 1", "type_map.raw": "O H", "nopbc": None}
    content = {
        "coord": random.random((2, 9)) * 5, "force": random.random((2, 9)),
        "energy": [-10.0, -11.0], "box": np.tile(8 * np.eye(3).ravel(), (2, 1)),
    }  # fmt: skip
    for name, value in {**texts, **content, **arrays}.items():
        if value is None:
            continue
        if isinstance(value, str):
            (part.parent / name.replace("_raw", ".raw")).write_text(value)
        else:
            np.save(part / f"{name}.npy", np.array(value))
    return part.parent


_DEEPMD: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("fewer energies than frames", {"energy": [-1.0]}, "energy has 1"),
    ("more forces than frames", {"force": np.ones((3, 9))}, "force has 3"),
    ("forces of two atoms", {"force": np.ones((2, 6))}, "expected 9"),
    ("coordinates of four atoms", {"coord": np.ones((2, 12))}, "expected 9"),
    ("no box and no word of it", {"box": None}, "no box.npy, and no nopbc"),
    ("a box of zeros", {"box": np.zeros((2, 9))}, "periodic, but the cell is"),
    ("boxes of three lengths", {"box": np.ones((2, 3))}, "expected 9"),
    ("no energies", {"energy": None}, "no energy.npy"),
    ("no forces", {"force": None}, "no force.npy"),
    ("words for numbers", {"energy": ["a", "b"]}, "no numbers"),
    ("an energy that is no number", {"energy": [np.nan, 1.0]}, "energy is nan"),
    ("a type without a name", {"type_raw": "0 1 2"}, "type 2 has no symbol"),
    ("a mixed type without a name", {"real_atom_types": [[0, 1, 5]] * 2}, "type 5"),
    ("mixed types of two atoms", {"real_atom_types": [[0, 1]] * 2}, "expected 3"),
    ("a mixed frame of padding alone", {"real_atom_types": [[-1, -1, -1], [0, 1, 1]]},
     "holds no atoms"),
    ("a type map of no elements", {"type_map_raw": "TYPE_0 TYPE_1"}, "unknown element"),
    ("half a virial", {"virial": np.ones((2, 6))}, "expected 9"),
    ("one element twice", {"type_map_raw": "O O"}, "names an element twice"),
    ("half a type", {"real_atom_types": [[0, 1, 1.5]] * 2}, "not whole"),
    ("a virial of one side", {"virial": np.tile(np.arange(9.0), (2, 1))}, "not symmetric"),
    ("steps of 32 eV", {"energy": np.full(2, -34567.8, np.float16)}, "too coarse"),
    ("a type below padding", {"real_atom_types": [[0, 1, -2]] * 2}, "type -2 has no"),
    ("a type beyond integers", {"real_atom_types": [[0, 1, 1e20]] * 2}, "has no symbol"),
    ("types in two places", {"real_atom_types": [[0, 1, 1], [1, 0, 1]]},
     "frame 1: atom 0 is of type 1 in real_atom_types, of 0 in type.raw"),
    ("a force on padding", {"real_atom_types": [[0, 1, -1]] * 2}, "a force on padding"),
    ("atoms along the last axis", {"force": np.ones((2, 9, 1))}, "has shape (9, 1)"),
    ("arrays nobody reads", {"dipole": np.ones((2, 3))}, "dipole"),
    ("a frame that failed", {"converged": [True, False]}, "frame 1) whose labels the file"),
    ("a type of Python", {"type_raw": "0 1 0_1"}, "type.raw: '0_1' is no whole number"),
)  # fmt: skip


def _mlearn(place: Path, **changes: Any) -> str:
    sites = [
        {"species": [{"element": "Si", "occu": 1}], "xyz": [0.0, 0, 0]},
        {"species": [{"element": "Si", "occu": 1}], "xyz": [2.0, 2, 2]},
    ]
    entry: dict[str, Any] = {
        "structure": {"lattice": {"matrix": (4 * np.eye(3)).tolist()}, "sites": sites},
        "outputs": {"energy": -5.0, "forces": [[0, 0, 0.0]] * 2},
    }
    for key, value in changes.items():
        if key in entry["outputs"]:
            entry["outputs"][key] = value
        elif key == "sites":
            entry["structure"]["sites"] = value
        else:
            entry["structure"]["lattice"]["matrix"] = value
    path = place / "a.json"
    path.write_text(json.dumps([entry]))
    return read_labels(path)


_HALF = [{"species": [{"element": "Si", "occu": 0.5}], "xyz": [0.0, 0, 0]}] * 2
_MLEARN: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("a site occupied by half", {"sites": _HALF}, "partly occupied"),
    ("forces of one atom", {"forces": [[0, 0, 0]]}, "forces have shape"),
    ("an energy in words", {"energy": "low"}, "not an mlearn entry"),
    ("an energy of null", {"energy": None}, "NoneType for a number"),
    ("no sites", {"sites": []}, "holds no atoms"),
    ("an energy of true", {"energy": True}, "bool for a number"),
    ("true among the forces", {"forces": [[0, 0, True]] * 2}, "bool for a number"),
    ("forces in quotes", {"forces": [["0", 0, 0]] * 2}, "str for a number"),
    ("a lattice of zeros", {"matrix": [[0, 0, 0]] * 3}, "periodic, but the cell is"),
    ("forces in two columns", {"forces": [[0, 0], [0, 0], [0, 0]]}, "forces have shape"),
)
_EDITED = (
    ("a key twice", '"energy": -5.0', '"energy": -5.0, "energy": -7.0',
     "'energy' stands twice"),
    ("a label nobody reads", '"energy": -5.0', '"energy": -5.0, "dipole": [0, 0, 1]',
     "dipole: not labels"),
    ("other atoms than announced", '"outputs"', '"num_atoms": 3, "outputs"',
     "num_atoms is 3, 2 sites"),
    ("a site in two places", '"xyz": [2', '"abc": [0, 0, 0], "xyz": [2',
     "two positions of one site"),
    ("moments of a site", '"xyz": [2', '"properties": {"magmom": 3}, "xyz": [2',
     "magmom: not labels"),
    ("a charge", '"sites"', '"charge": 1, "sites"', "charge: not labels"),
    ("a frame that failed", '"energy": -5.0', '"energy": -5.0, "scf_converged": false',
     "nothing but 1 frames (first: 0) whose labels the file disowns by scf_converged"),
)  # fmt: skip


def _edited(place: Path, old: str, new: str) -> str:
    _mlearn(place)
    path = place / "a.json"
    path.write_text(path.read_text().replace(old, new, 1))
    return read_labels(path)


def _fitsnap(place: Path, styles: dict[str, str], **changes: Any) -> str:
    entry = {
        "Positions": [[0, 0, 0], [2, 2, 2]], "AtomTypes": ["Ta", "Ta"], "NumAtoms": 2,
        "Lattice": (4 * np.eye(3)).tolist(), "Energy": -5.0, "Forces": [[0, 0, 0]] * 2,
        **changes,
    }  # fmt: skip
    path = place / "a.json"
    path.write_text(json.dumps({"Dataset": {"Data": [entry], **styles}}))
    return read_labels(path)


_FITSNAP: tuple[tuple[str, dict[str, str], dict[str, Any], str], ...] = (
    ("energies in hartree", {"EnergyStyle": "hartree"}, {}, "EnergyStyle hartree"),
    ("lengths in bohr", {"PositionsStyle": "bohr"}, {}, "PositionsStyle bohr"),
    ("a pressure in stones", {"StressStyle": "stone"}, {}, "StressStyle stone"),
    ("another number of atoms", {}, {"NumAtoms": 3}, "NumAtoms is 3"),
    ("one position too few", {}, {"Positions": [[0, 0, 0]]}, "positions have shape"),
    ("charges nobody reads", {}, {"Charges": [0, 1]}, "Charges: not labels"),
    ("an element in a list", {}, {"AtomTypes": [["Ta"], "Ta"]}, "unknown element ['Ta']"),
    ("elements in one word", {}, {"AtomTypes": "CO"}, "is no list"),
    ("a stress of three", {}, {"Stress": [1, 2, 3]}, "a stress of 3 numbers"),
    ("a frame that failed", {}, {"Status": "failed"}, "disowns by Status = failed"),
    ("a lattice of true", {}, {"Lattice": [[True, 0, 0]] * 3}, "bool for a number"),
)


# -- keys and paths ----------------------------------------------------------------------


def _set(place: Path, **info: Any) -> Path:
    atoms = silicon()
    atoms.info.update(info)
    ase.io.write(place / "a.extxyz", atoms)
    return place / "a.extxyz"


def _json(place: Path) -> Path:
    _mlearn(place)
    return place / "a.json"


def _pipe(place: Path) -> Path:
    os.mkfifo(place / "a.extxyz")
    return place / "a.extxyz"


def _elsewhere(place: Path) -> Path:
    """A system and a link to another."""
    system(place / "here"), system(place / "there")
    (place / "here" / "link").symlink_to(place / "there")
    return place / "here"


def _table(place: Path) -> Path:
    """A database whose rows say another energy than their calculator."""
    with connect(place / "a.db") as database:
        database.write(silicon(), data={"energy": -99.0})
    return place / "a.db"


def _row(number: int) -> Callable[[Path], Path]:
    """A database with an atomic number that no element has."""

    def write(place: Path) -> Path:
        atoms = silicon()
        with connect(place / "a.db") as database:
            database.write(atoms)
        with sqlite3.connect(place / "a.db") as table:
            numbers = np.array([number] * 8, np.int32).tobytes()
            table.execute("update systems set numbers = ?", (numbers,))
        return place / "a.db"

    return write


def _beside(place: Path) -> Path:
    """A folder for FitSNAP with a packed file that is not read."""
    _fitsnap(place, {})
    (place / "b.json.gz").touch()
    return place


_SIGMA = {"sigma": np.eye(3)}
_KEYS: tuple[tuple[str, Callable[[Path], Path], dict[str, Any], str], ...] = (
    ("an energy that DeePMD has not", system, {"energy_key": "ccsd"}, "energy_key: has no"),
    ("a sign that DeePMD has not", system, {"stress_sign": "tension"}, "stress_sign: has"),
    ("species of named elements", _set, {"species": ("Ge",)}, "species: has no use"),
    ("species that contradict", system, {"species": ("H", "O")}, "type_map.raw has O, H"),
    ("an energy that JSON has not", _json, {"energy_key": "E"}, "it has energy, forces"),
    ("a stress that JSON has not", _json, {"stress_key": "S"}, "has no S; it has"),
    ("a stress of no name", lambda p: _set(p, **_SIGMA), {"stress_key": "sigma"},
     "say what it is with stress_unit and stress_sign"),
    ("units that contradict", lambda p: _set(p, stress_units="kbar"),
     {"stress_unit": "GPa"}, "stress_units is kbar"),
    ("a pipe", _pipe, {}, "a folder, pipe or device"),
    ("a name that is too long", lambda p: p / ("x" * 300), {}, "not readable"),
    ("a link to a system", _elsewhere, {}, "4 frames"),
    ("two energies of one row", _table, {}, "energy stands in two places"),
    ("an element beyond the last", _row(151), {}, "the atomic number 151"),
    ("an element below none", _row(-1), {}, "the atomic number -1"),
    ("packed files in a folder", _beside, {}, "1 files that are no .json"),
)  # fmt: skip


# -- LAMMPS ------------------------------------------------------------------------------


def _dump(place: Path, columns: str, **keys: Any) -> Path:
    values = {"id": "{k}", "type": "1", "element": "Si"}
    rows = "\n".join(
        " ".join(values.get(c, "{k}").format(k=k) for c in columns.split())
        for k in range(1, 4)
    )
    path = place / "a.dump"
    path.write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n"
        f"0 9\n0 9\n0 9\nITEM: ATOMS {columns}\n{rows}\n"
    )
    return path


_FRAME = (
    "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n"
    "0 9\n0 9\n0 9\nITEM: ATOMS id element x y z\n1 Si 0 0 0\n2 Si 2.3 0 0\n"
)
_POSCAR = "Si\n1.0\n5.43 0 0\n0 5.43 0\n0 0 5.43\nSi\n2\nDirect\n0 0 0\n0.25 0.25 0.25\n"
_PDB = (
    "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 1\n"
    "ATOM      1 SI   MOL     1       0.000   0.000   0.000  1.00  0.00          SI\n"
    "ATOM      2 SI   MOL     1       2.300   0.000   0.000  1.00  0.00          SI\nEND\n"
)
_CIF = (
    "data_x\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n"
    "_atom_site_fract_z\nSi 0 0 0\n"
)
_CIF_CELL = "data_x\n" + "".join(
    f"_cell_{name} {size}\n"
    for names, size in ((("length_a", "length_b", "length_c"), 5.43),
                        (("angle_alpha", "angle_beta", "angle_gamma"), 90))
    for name in names
) + _CIF.removeprefix("data_x\n") + "Si .25 .25 .25\n"  # fmt: skip
_PARTS = _FRAME.replace("\n2\nITEM", "\n4\nITEM").replace("2.3 0 0", ".25 .25 .25") + (
    "3 Si .5 .5 .5\n4 Si .75 .75 .75\n"
)
_DATA = (
    "remark\n\n2 atoms\n1 atom types\n0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\n"
    "Masses\n\n1 28.0855\n\nAtoms # atomic\n\n1 1 0 0 0\n2 1 2.3 0 0\n\n"
    "Velocities\n\n1 1 0 0\n2 0 0 0\n"
)
_TEXTS: tuple[tuple[str, str, str, str, str, str], ...] = (
    ("a row too many", "a.data", _DATA, "2.3 0 0\n", "2.3 0 0\n3 1 4 0 0\n",
     "3 rows of Atoms"),
    ("a velocity too few", "a.data", _DATA, "2 0 0 0\n", "", "1 rows of Velocities"),
    ("a box inside out", "a.data", _DATA, "0 9 ylo", "9 0 ylo", "ends before it begins"),
    ("the mass of no element", "a.data", _DATA, "28.0855", "2.014", "a mass of 2.014 amu"),
    ("the mass of two elements", "a.data", _DATA, "28.0855", "40.0", "a mass of 40 amu"),
    ("velocities of no unit", "a.data", _DATA, "28.0855", "28.09", "velocities not used"),
    ("the mass of no element", "a.dump", _FRAME.replace("element", "mass"), "Si", "27.6",
     "a mass of 27.6 amu"),
    ("charges in a fifth column", "a.xyz", "2\n\nSi 0 0 0\nSi 0 0 2.3 -1\n", "Si 0 0 0",
     "Si 0 0 0 1", "not used: columns after the fourth"),
    ("an id twice", "a.dump", _FRAME, "2 Si", "1 Si", "the id 1 stands 2 times"),
    ("a row too few", "a.dump", _FRAME, "\n2\nITEM", "\n3\nITEM", "announced 3"),
    ("a row too many", "a.dump", _FRAME, "\n2\nITEM", "\n1\nITEM", "announced 1"),
    ("a box of four lines", "a.dump", _FRAME, "pp\n", "pp\n0 9\n", "4 lines of BOX BOUNDS"),
    ("two numbers of atoms", "a.dump", _FRAME, "2\nITEM", "2\n2\nITEM", "a second number"),
    ("a box inside out", "a.dump", _FRAME, "pp\n0 9", "pp\n9 0", "ends before it begins"),
    ("positions of more atoms", "POSCAR", _POSCAR, "\n2\nD", "\n1\nD", "more positions"),
    ("elements without counts", "POSCAR", _POSCAR, "Si\n2", "Si Ge\n2", "2 elements, 1"),
    ("elements of the first line", "POSCAR", _POSCAR, "Si\n2", "2", "of the first line"),
    ("a position of another element", "POSCAR", _POSCAR, "0.25\n", "0.25 Ge\n",
     "a position of Ge among Si"),
    ("flags that are not asked for", "POSCAR", _POSCAR, "0.25\n", "0.25 F F F\n",
     "columns after the positions"),
    ("flags in words", "POSCAR", _POSCAR.replace("Direct", "Selective\nDirect"), "0 0 0\n",
     "0 0 0 .FALSE. .FALSE. .FALSE.\n", "only three of T and F"),
    ("velocities in lattice vectors", "POSCAR", _POSCAR, "0.25\n",
     "0.25\nDirect\n.1 0 0\n0 0 0\n", "in lattice vectors a time step"),
    ("sites of a protein by half", "a.pdb", _PDB, "2.300   0.000   0.000  1.00",
     "2.300   0.000   0.000  0.50", "occupied in part"),
    ("lengths for parts of the box", "a.dump", _FRAME.replace("x y z", "xs ys zs"), "2.3",
     "4.5", "xs of 4.5 is no part of the box"),
    ("parts of the box for lengths", "a.dump", _PARTS, "", "", "fractions of it?"),
    ("two blocks", "a.cif", _CIF_CELL + _CIF_CELL.replace("data_x", "data_y"), "", "",
     "the last of 2 blocks (structure.frame = 0 x, 1 y) is taken"),
    ("two frames", "a.dump", _FRAME + _FRAME, "", "", "the last of 2 frames is taken"),
    ("no cell", "a.cif", _CIF, "Si 0", "Si 0", "has no cell"),
    ("a position of Python", "a.data", _DATA, "2.3 0 0", "2_3 0 0", "16: 2_3 is no number"),
    ("a box of Python", "a.dump", _FRAME, "0 9", "0 9_0", "6: 9_0 is no number"),
    ("counts of Arabic", "POSCAR", _POSCAR, "Si\n2", "Si\n٢", "7: ٢ is no number"),
    ("a scale of 0", "POSCAR", _POSCAR, "1.0", "0", "line 2: a scale of 0"),
    ("no coordinates named", "POSCAR", _POSCAR, "Direct", "0 0 0", "not Direct or Cart"),
    ("a position too few", "POSCAR", _POSCAR, "0 0 0\n", "", "1 positions, 2 are"),
    ("flags that are missing", "POSCAR", _POSCAR.replace("Direct", "Selective\nDirect"),
     "0 0 0\n", "0 0 0 T T\n", "flags T T; only three"),
    ("a position of nan", "POSCAR", _POSCAR, "0.25", "nan", "not finite"),
    ("a lattice vector of 0", "POSCAR", _POSCAR, "5.43 0 0", "0 0 0", "but the cell is"),
    ("an angle of 190", "a.cif", _CIF_CELL, "alpha 90", "alpha 190", "angle_alpha is 190"),
    ("a negative length", "a.cif", _CIF_CELL, "_a 5.43", "_a -5.43", "length_a is -5.43"),
    ("a cell of 1 angstrom", "a.pdb", _PDB, "9.000    9.000    9.000",
     "1.000    1.000    1.000", "stands where there is none"),
    ("elements by names alone", "a.pdb", _PDB, "SI\nATOM", "  \nATOM", "are guessed from"),
    ("a position of nan", "a.dump", _FRAME, "2.3 0 0", "nan 0 0", "not finite"),
)  # fmt: skip


def _text(place: Path, name: str, text: str, old: str, new: str) -> str:
    assert old in text
    (place / name).write_text(text.replace(old, new, 1))
    return dynamics(place / name)


def _frames(place: Path) -> str:
    ase.io.write(place / "a.extxyz", [bulk("Si", cubic=True)] * 2)
    return dynamics(place / "a.extxyz")


def _data(place: Path, atoms: int = 2) -> Path:
    path = place / "si.data"
    path.write_text(
        f"remark\n\n{atoms} atoms\n1 atom types\n0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\n"
        "Atoms # atomic\n\n1 1 0 0 0\n2 1 2 2 2\n"
    )
    return path


# -- structures --------------------------------------------------------------------------


def _structure(place: Path, edit: Callable[[Atoms], None], name: str = "a.extxyz",
               **changes: Any) -> str:  # fmt: skip
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    edit(atoms)
    ase.io.write(place / name, atoms)
    return dynamics(place / name, **changes)


_BATH = {"kind": "langevin", "temperature": 300.0, "relaxation": 50.0}


def _partial(atoms: Atoms) -> None:
    atoms.set_constraint(FixScaled(1, mask=(True, False, False)))


def _all_fixed(atoms: Atoms) -> None:
    atoms.set_constraint(FixAtoms(range(8)))


def _some_fixed(atoms: Atoms) -> None:
    atoms.set_constraint(FixAtoms([0]))


def _column(name: str, width: int = 3) -> Callable[[Atoms], None]:
    return lambda atoms: atoms.set_array(name, np.ones((8, width)))


def _hot(atoms: Atoms) -> None:
    atoms.set_momenta(np.random.default_rng(0).normal(size=(8, 3)) * 1e4)


def _momenta(atoms: Atoms) -> None:
    atoms.set_momenta(np.ones((8, 3)))


def _occupied(share: Any) -> Callable[[Atoms], None]:
    return lambda atoms: atoms.info.update(occupancy={"0": share})


def _germanium(atoms: Atoms) -> None:
    atoms.symbols[3] = "Ge"


def _same_spot(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0]


def _flat(atoms: Atoms) -> None:
    atoms.set_cell([5.43, 5.43, 0.001])


_STRUCTURES: tuple[tuple[str, Callable[[Atoms], None], dict[str, Any], str], ...] = (
    ("fixed along one axis", _partial, {"name": "POSCAR"}, "some axes only"),
    ("all atoms fixed", _all_fixed, {}, "at least one must move"),
    ("atoms fixed by the file", _some_fixed, {}, "1 atoms are fixed"),
    ("velocities of no unit", _column("vel"), {}, "vel not used"),
    ("velocities asked for, of no unit", _column("velocities"),
     {"structure": {"keep_velocities": True}}, "velocity_unit"),
    ("velocities asked for, none there", lambda a: None,
     {"structure": {"keep_velocities": True}}, "no velocities"),
    ("velocities of a star", _hot, {}, "K; at most 1e+06 K is taken"),
    ("momenta under a bath", _momenta, {"ensemble": _BATH}, "its velocities are replaced"),
    ("momenta and a temperature", _momenta,
     {"structure": {"keep_velocities": True},
      "run": {"steps": 1, "timestep": 1.0, "temperature": 3.0}}, "not with structure"),
    ("tags nobody reads", lambda a: a.set_tags(np.arange(8)), {}, "not used: tags"),
    ("charges nobody reads", lambda a: a.set_initial_charges(np.ones(8)), {},
     "initial_charges"),
    ("a negative mass", lambda a: a.set_masses([28.0] * 7 + [-28.0]), {}, "a mass of -28"),
    ("a mass of nothing", lambda a: a.set_masses([28.0] * 7 + [0.0]), {}, "a mass of 0"),
    ("a mass in those of electrons", lambda a: a.set_masses([51196.0] * 8), {},
     "a mass of 51196"),
    ("a charge in the header", lambda a: a.info.update(charge=1), {}, "not used: charge"),
    ("velocities of two kinds", lambda a: (_momenta(a), _column("vel")(a))[0], {},
     "holds momenta and vel"),
    ("velocities of two axes", _column("vel", 2), {"structure":
     {"keep_velocities": True, "velocity_unit": "nm/ps"}}, "three numbers"),
    ("a unit of no velocities", lambda a: None, {"structure": {"velocity_unit": "nm/ps"}},
     "velocity_unit"),
    ("species where elements stand", lambda a: None, {"structure": {"species": ["Ge"]}},
     "species has no use"),
    ("units of another program", lambda a: a.info.update(units="nm"), {}, "units is nm"),
    ("lengths in nm", lambda a: a.set_cell(0.1 * a.cell, scale_atoms=True), {},
     "lengths are in angstrom"),
    ("lengths in bohr", lambda a: a.set_cell(1.89 * a.cell, scale_atoms=True), {},
     "no two atoms are within"),
    ("an element the potential lacks", _germanium, {}, "does not know Ge"),
    ("two atoms on one spot", _same_spot, {}, "one spot"),
    ("a cell as thin as a hair", _flat, {}, "stand on one spot"),
    ("a frame that is not there", lambda a: None, {"structure": {"frame": 3}},
     "no frame 3"),
    ("an occupancy in words", _occupied({"Si": "1"}), {}, "occupied in part"),
    ("an occupancy of nan", _occupied({"Si": np.nan}), {}, "occupied in part"),
    ("an occupancy of nothing", _occupied({}), {}, "occupied in part"),
    ("an occupancy that is a list", _occupied([1.0]), {}, "occupied in part"),
    ("another format than it is", lambda a: None, {"structure": {"format": "cif"}}, "cif"),
    ("a format nobody knows", lambda a: None, {"structure": {"format": "xyzz"}}, "xyzz"),
)  # fmt: skip


def _partial_cif(place: Path) -> str:
    atoms = bulk("Si", cubic=True)
    ase.io.write(place / "a.cif", atoms)
    text = (place / "a.cif").read_text()
    (place / "a.cif").write_text(text.replace("1.0000", "0.5000", 1))
    return dynamics(place / "a.cif")


# -- training ----------------------------------------------------------------------------


def _crystals(count: int = 6, **info: Any) -> list[Atoms]:
    images = [silicon(k) for k in range(count)]
    for atoms in images:
        atoms.info.update(info)
    return images


def _pair(distance: float, k: int = 0) -> Atoms:
    atoms = Atoms("Si2", [[0, 0, 0], [0, 0, distance]], cell=[30] * 3, pbc=True)
    forces = np.array([[0, 0, 0.1], [0, 0, -0.1]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - k, forces=forces)
    return atoms


def _relabelled(images: list[Atoms], **labels: Any) -> list[Atoms]:
    for atoms in images:
        assert atoms.calc is not None
        atoms.calc.results.update(labels)
    return images


def _contrary() -> list[Atoms]:
    return _crystals() + _relabelled([silicon(2)], energy=-99.0)


_LOSS = {"kind": "plain"}
_VIRIAL = {"kind": "plain", "virial": 1.0}
_TRAINING: tuple[tuple[str, Callable[[], list[Atoms]], dict[str, Any], str], ...] = (
    ("a virial no frame has", _crystals, {"loss": _VIRIAL}, "loss.virial"),
    ("no weights", _crystals, {"loss": {**_LOSS, "energy": 0.0, "force": 0.0}},
     "every weight is 0"),
    ("no neighbours", lambda: [_pair(6 + k / 9, k) for k in range(4)], {}, "cutoff"),
    ("one frame", lambda: _crystals(1), {}, "two labelled frames"),
    ("validation takes all", lambda: _crystals(2), {"validation": 0.9}, "none to train"),
    ("groups without weight", lambda: _crystals(group="a"), {"group_weights": {"a": 0.0}},
     "has the weight 0"),
    ("a group of another name", lambda: _crystals(group="a"), {"group_weights": {"b": 1.0}},
     "allowed: a"),
    ("energies of zero", lambda: _relabelled(_crystals(), energy=0.0), {},
     "every energy is exactly 0"),
    ("one energy for all", lambda: _relabelled(_crystals(), energy=-32.0), {},
     "every energy is exactly -32"),
    ("forces of zero", lambda: _relabelled(_crystals(), forces=np.zeros((8, 3))), {},
     "every force is exactly 0"),
    ("virials of zero", lambda: _relabelled(_crystals(), stress=np.zeros(6)),
     {"loss": _VIRIAL}, "every virial is exactly 0"),
    ("some forces of zero", lambda: _crystals() + _relabelled(
        [silicon(9)], forces=np.zeros((8, 3))), {}, "every force of 1 frames"),
    ("a net force", lambda: _relabelled(_crystals(), forces=np.ones((8, 3))), {},
     "the forces of 6 frames do not sum to zero (largest: 13.9"),
    ("two labels for one structure", _contrary, {}, "different labels"),
    ("a frame twice", lambda: _crystals() + _crystals(1), {}, "frame"),
    ("an energy per atom among totals", lambda: [*_crystals(8), *_relabelled(
        [silicon(9)], energy=-4.1)], {}, "an energy of 3."),
    ("a test of frames in the data", _crystals, {"test": "train.extxyz"},
     "6 frames of the test are also in the data"),
    ("an unknown key of a file", _crystals, {"data": {"path": "train.extxyz", "energy": 1}},
     "data.energy: unknown key; did you mean energy_key"),
    ("atoms on one spot", lambda: [*_crystals(2), _pair(1e-5)], {}, "one spot"),
    ("a model of other elements", _crystals,
     {"model": {"kind": "higher_moments", "species": ["Ge"], "cutoff": 4.0}}, "Si"),
    ("a cutoff of 60", _crystals,
     {"model": {"kind": "higher_moments", "cutoff": 60.0}}, "4.5e+04 others; at most 5000"),
    ("a stress of which nothing is told", lambda: stressed(1.0)[:3], {"loss": _VIRIAL},
     "loss.virial: no frame to train on"),
    ("a stress with one sign changed", lambda: stressed(np.array([1, 1, 1, 1, 1, -1.0])),
     {"loss": _VIRIAL}, "xy alone does not fit: it is -1 times"),
    ("a stress without shear", lambda: stressed(np.array([1, 1, 1, 0, 0, 0.0])),
     {"loss": _VIRIAL}, "the shear alone does not fit: it is 0 times"),
    ("a stress with a pressure", lambda: stressed(1.0, np.array([0.2] * 3 + [0] * 3)),
     {"loss": _VIRIAL}, "a pressure that was added"),
    ("some stresses of zero", lambda: stressed(1.0)[:12] + stressed(0.0)[12:],
     {"loss": _VIRIAL}, "stress of 4 frames (first: train.extxyz, frame 12): left out"),
    ("a stress of the other sign", lambda: stressed(-1.0), {"loss": _VIRIAL},
     "the sign were the other one"),
    ("a stress in another unit", lambda: stressed(40.0), {"loss": _VIRIAL},
     "does not fit energies and forces"),
)  # fmt: skip


def stressed(factor: Any, added: Any = 0.0) -> list[Atoms]:
    """Strained copper of EMT, its stress times a factor, and more."""
    from ase.calculators.emt import EMT

    images = []
    for k in range(16):
        random = np.random.default_rng(k)
        atoms = bulk("Cu", cubic=True)
        strain = np.eye(3) + random.uniform(-0.05, 0.05, (3, 3))
        atoms.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
        atoms.rattle(0.05, seed=k)
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(), "forces": atoms.get_forces(),
            "stress": factor * atoms.get_stress() + added,
        }  # fmt: skip
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    return images


def relabelled(change: Callable[[int, Atoms, dict[str, Any]], None]) -> list[Atoms]:
    """Rattled copper of EMT, its labels changed frame by frame."""
    from ase.calculators.emt import EMT

    images = []
    for k in range(16):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=k)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        change(k, atoms, results)
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    return images


def _test_in_hartree(place: Path) -> str:
    wrong = relabelled(_times("energy", 1 / 27.2114))
    ase.io.write(place / "test.extxyz", wrong)
    return training(place, relabelled(lambda _k, _a, _r: None), test="test.extxyz")


def _test_of_other_stress(place: Path) -> str:
    ase.io.write(place / "test.extxyz", stressed(-1.0))
    return training(place, stressed(1.0), test="test.extxyz", loss=_VIRIAL)


def _molecules_in_kcal(place: Path) -> str:
    from ase.build import molecule
    from ase.calculators.emt import EMT

    images = []
    for k in range(16):
        atoms = molecule("H2O")
        atoms.rattle(0.1, seed=k)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        results = {"energy": 23.06 * energy, "forces": 23.06 * forces}
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    return training(place, images)


def _times(name: str, factor: float) -> Callable[[int, Atoms, dict[str, Any]], None]:
    return lambda _k, _a, r: r.update({name: factor * r[name]})


def _longer(factor: float) -> Callable[[int, Atoms, dict[str, Any]], None]:
    return lambda _k, a, _r: a.set_cell(np.array(a.cell) * factor, scale_atoms=True)


def _shifted(k: int, atoms: Atoms, results: dict[str, Any]) -> None:
    results["energy"] += 500.0 * (k % 2)


def _of_groups(k: int, atoms: Atoms, results: dict[str, Any]) -> None:
    _shifted(k, atoms, results)
    atoms.info["group"] = "ab"[k % 2]


_LABELS: tuple[tuple[str, Callable[[int, Atoms, dict[str, Any]], None], str], ...] = (
    ("energies in hartree", _times("energy", 1 / 27.2114), 'energy_unit = "hartree"'),
    ("energies in rydberg", _times("energy", 1 / 13.6057), 'energy_unit = "rydberg"'),
    ("energies in kcal/mol", _times("energy", 23.0605), 'energy_unit = "kcal/mol"'),
    ("energies in kJ/mol", _times("energy", 96.485), 'energy_unit = "kJ/mol"'),
    ("energies in meV", _times("energy", 1e3), 'energy_unit = "meV"'),
    ("energies of one atom", _times("energy", 0.25), "those of one atom"),
    ("binding energies", _times("energy", -1.0), "the other sign"),
    ("forces in hartree/bohr", _times("forces", 0.0194469), '"hartree/bohr"'),
    ("forces in rydberg/bohr", _times("forces", 0.0388938), '"rydberg/bohr"'),
    ("forces in eV/bohr", _times("forces", 0.529177), 'forces_unit = "eV/bohr"'),
    ("forces in kcal/mol", _times("forces", 23.0605), '"kcal/mol/angstrom"'),
    ("forces in meV", _times("forces", 1e3), 'forces_unit = "meV/angstrom"'),
    ("gradients", _times("forces", -1.0), 'forces_sign = "gradient"'),
    ("forces in other axes", lambda _k, _a, r: r.update(forces=r["forces"][:, [1, 2, 0]]),
     "axes were turned"),
    ("forces of other atoms", lambda _k, _a, r: r.update(forces=r["forces"][[1, 0, 3, 2]]),
     "another order"),
    ("sizes of forces", lambda _k, _a, r: r.update(forces=np.abs(r["forces"])),
     "explains 0% of the forces"),
    ("positions in bohr", _longer(1 / 0.529177), "lengths were in bohr"),
    ("positions in nm", _longer(0.1), "lengths are in angstrom"),
    ("positions in lattice vectors", lambda _k, a, _r: a.set_positions(
        a.get_scaled_positions()), "do not fit"),
    ("energies with kinetic ones", lambda k, _a, r: r.update(
        energy=r["energy"] + 2 * np.random.default_rng(k).normal()), "nothing to do"),
    ("energies of two settings", _shifted, "do not fit"),
    ("energies of two settings in groups", _of_groups, "500 eV apart"),
    ("one energy of another frame", lambda k, _a, r: r.update(
        energy=r["energy"] + (k == 3)), "frame 3 is 1 eV off"),
    ("some energies of zero", lambda k, _a, r: r.update(energy=(k % 4 > 0) * r["energy"]),
     "the energy of 4 frames (first: train.extxyz, frame 0) is exactly 0"),
    ("one energy for several", lambda k, _a, r: r.update(
        energy=r["energy"] if k % 2 else -0.5), "the energy of 8 frames"),
    ("forces by chance", lambda k, _a, r: r.update(
        forces=np.random.default_rng(k).normal(size=(4, 3))), "not those of these"),
    ("energies and forces in kcal/mol", lambda _k, _a, r: r.update(
        energy=23.06 * r["energy"], forces=23.06 * r["forces"]), "eV assumed"),
    ("one frame of forces in hartree/bohr", lambda k, _a, r: r.update(
        forces=(1 / 51.42 if k == 5 else 1.0) * r["forces"]), "frame 5 are 0.0194 times"),
    ("one frame of forces in kcal/mol", lambda k, _a, r: r.update(
        forces=(23.06 if k == 5 else 1.0) * r["forces"]), "frame 5 are 23 times what"),
    ("one cell that is too large", lambda k, a, _r: a.set_cell(
        np.array(a.cell) * (1.3 if k == 5 else 1.0)), "frame 5 (group -): a cell of"),
    ("one cell doubled", lambda k, a, _r: a.set_cell(
        np.array(a.cell) * [[1], [1], [2.0 if k == 5 else 1.0]]), "a cell of 23.5"),
    ("one frame of another element", lambda k, a, _r: a.symbols.__setitem__(
        0, "Ag" if k == 5 else "Cu"), "Ag stands in train.extxyz, frame 5 alone"),
    ("one frame of gradients", lambda k, _a, r: r.update(
        forces=(-1.0) ** (k == 3) * r["forces"]), "frame 3 are -1 times what those of"),
)  # fmt: skip


def _command(place: Path, *words: str) -> str:
    """Give a command line; return what is said of it."""
    from click.testing import CliRunner

    from scalebridge.engine.cli import main

    answer = CliRunner().invoke(main, [*words])
    return answer.output.strip() if answer.exit_code == 2 else ""


def _precise(place: Path) -> str:
    words = ("--to", "mlearn", "--precision", "f32")
    return _command(place, "export", str(_set(place)), *words)


_COMMANDS = (
    ("a key twice", "check silicon_sw --set run.steps=3 --set run.steps=4"),
    ("a key and its table", "check silicon_sw --set run.steps=3 --set run={steps=4}"),
    ("a key set and swept", "run silicon_sw --set run.steps=3 --sweep run.steps=1,2"),
    ("a key swept twice", "run silicon_sw --sweep run.steps=1,2 --sweep run.steps=3,4"),
    ("two folders", "run silicon_sw --out a --out b"),
    ("two devices", "run silicon_sw --device cpu --device cuda"),
    ("two energy keys", "data x --set energy_key=a --set energy_key=b"),
    ("two formats to write", "export x --to mlearn --to fitsnap"),
)


# -- writing -----------------------------------------------------------------------------


def _written(place: Path, form: str, **changes: Any) -> str:
    from dataclasses import replace

    from scalebridge.engine.data.reading import read_frames
    from scalebridge.engine.data.writing import write

    ase.io.write(place / "a.extxyz", silicon())
    frames = [replace(f, **changes) for f in read_frames(place / "a.extxyz")]
    return " ".join(write(frames, form, place / "out"))


def _lost_steps(place: Path) -> str:
    atoms = silicon()
    ase.io.write(place / "a.extxyz", [atoms] * 3)
    data = (place / "a.extxyz").read_text().splitlines()
    (place / "a.extxyz").write_text("\n".join([*data[:10], "a remark", *data[10:]]))
    return read_labels(place / "a.extxyz")


_SLAB = {"periodic": np.array([True, True, False])}
_CLUSTER = {"periodic": np.zeros(3, bool)}


def every() -> Iterator[Wrong]:
    """Yield all wrong inputs."""
    for name, old, new, said in _XYZ:
        yield Wrong(f"xyz: {name}", lambda p, a=old, b=new: _xyz(p, a, b), said)
    changes = (
        (_long, "columns"), (_absurd, "absurd"), (_swallowed, "ends before"),
        (_two_energies, "energy_key"), (_contradicted, "line 4: Si has Z = 8"),
        (_no_cell, "the stress of 1 frames, which have no cell"),
        (_numbered, "line 4: Si has Z = 8"), (_of_python, "line 4: pos is 1_0.5"),
        (_masked, "disowns by forces_mask"),
    )  # fmt: skip
    for change, said in changes:
        yield Wrong(f"xyz: {change.__name__}", lambda p, c=change: _rows(p, c), said)
    yield Wrong("xyz: cut within its last number", _cut_file, "fewer digits than the")
    yield Wrong("training: molecules in kcal/mol", _molecules_in_kcal, "both in kcal/mol")
    yield Wrong("training: a test in hartree", _test_in_hartree, '"hartree"')
    yield Wrong("training: a test of the other stress", _test_of_other_stress, "the sign")
    yield Wrong(
        "command: a precision of labels", _precise, "--precision: is for a potential"
    )
    yield Wrong("xyz: a remark between frames", _lost_steps, "the number of atoms")
    for name, arrays, said in _DEEPMD:
        yield Wrong(
            f"deepmd: {name}", lambda p, a=arrays: read_labels(system(p, **a)), said
        )
    for name, values, said in _MLEARN:
        yield Wrong(f"mlearn: {name}", lambda p, c=values: _mlearn(p, **c), said)
    for name, styles, values, said in _FITSNAP:
        yield Wrong(
            f"fitsnap: {name}", lambda p, s=styles, c=values: _fitsnap(p, s, **c), said
        )
    for name, file, text, old, new, said in _TEXTS:
        yield Wrong(
            f"{file}: {name}",
            lambda p, f=file, t=text, a=old, b=new: _text(p, f, t, a, b), said,
        )  # fmt: skip
    yield Wrong("structure: two frames, none chosen", _frames, "the last of 2 frames")
    for name, old, new, said in _EDITED:
        yield Wrong(f"mlearn: {name}", lambda p, a=old, b=new: _edited(p, a, b), said)
    for name, write, keys, said in _KEYS:
        yield Wrong(
            f"keys: {name}", lambda p, w=write, k=keys: read_labels(w(p), **k), said
        )
    forces = "id element x y z fx fy fz"
    yield Wrong(
        "lammps: a dump as labels", lambda p: read_labels(_dump(p, forces)), "no energies"
    )
    yield Wrong("lammps: data as labels", lambda p: read_labels(_data(p)), "no energies")
    yield Wrong(
        "lammps: types without elements",
        lambda p: dynamics(_dump(p, "id type x y z")), "say which elements",
    )  # fmt: skip
    yield Wrong("lammps: data without masses", lambda p: dynamics(_data(p)), "species")
    yield Wrong("cif: sites occupied by half", _partial_cif, "occupied in part")
    for name, edit, changes_, said in _STRUCTURES:
        yield Wrong(
            f"structure: {name}", lambda p, e=edit, c=changes_: _structure(p, e, **c), said
        )
    for name, images, changes_, said in _TRAINING:
        yield Wrong(
            f"training: {name}",
            lambda p, i=images, c=changes_: training(p, i(), **c), said,
        )  # fmt: skip
    for name, change_, said in _LABELS:
        yield Wrong(
            f"labels: {name}", lambda p, c=change_: training(p, relabelled(c)), said
        )
    for name, words in _COMMANDS:
        yield Wrong(
            f"command: {name}", lambda p, w=words: _command(p, *w.split()),
            "is given more than once",
        )  # fmt: skip
    for form in ("deepmd-data", "deepmd-mixed", "fitsnap"):
        yield Wrong(
            f"export: a slab as {form}", lambda p, f=form: _written(p, f, **_SLAB),
            "along some axes only",
        )  # fmt: skip
    yield Wrong(
        "export: a cluster as mlearn", lambda p: _written(p, "mlearn", **_CLUSTER), "cell"
    )
