"""Data in and out: formats are round trips, or say what they lose."""

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scalebridge.engine.cli import main
from scalebridge.engine.data.frames import LabelledFrame
from scalebridge.engine.data.reading import read, read_frames
from scalebridge.engine.data.writing import SUFFIXES, WRITERS, write
from scalebridge.engine.errors import InputError
from scalebridge.engine.learn import labelling

SYMBOLS = ("H", "O", "Si", "Mo", "Og")


def frame(symbols=("Si", "O", "Si"), seed=0, **changes) -> LabelledFrame:
    random = np.random.default_rng(seed)
    virial = random.normal(size=(3, 3))
    return replace(
        LabelledFrame(
            symbols=symbols,
            positions=random.random((len(symbols), 3)) * 5,
            cell=np.diag([5.0, 6.0, 7.0]) + random.normal(size=(3, 3)) * 0.1,
            periodic=np.ones(3, dtype=bool),
            energy=float(random.normal()),
            forces=random.normal(size=(len(symbols), 3)),
            virial=virial + virial.T,
        ),
        **changes,
    )


def equal(a: LabelledFrame, b: LabelledFrame, virial: float = 0.0) -> bool:
    """Tell whether two frames are the same; the virial may pass through a unit."""
    return (
        a.symbols == b.symbols
        and np.array_equal(a.positions, b.positions)
        and np.array_equal(a.forces, b.forces)
        and np.array_equal(a.cell, b.cell)
        and np.array_equal(a.periodic, b.periodic)
        and a.energy == b.energy
        and (a.virial is None) == (b.virial is None)
        and (a.virial is None or np.allclose(a.virial, b.virial, rtol=virial, atol=1e-300))
    )


def same_set(ours, theirs, virial: float = 0.0) -> bool:
    """A format may gather frames by composition, so their order is free."""
    rest = list(theirs)
    for one in ours:
        found = next((k for k, b in enumerate(rest) if equal(one, b, virial)), None)
        if found is None:
            return False
        del rest[found]
    return not rest


numbers = st.floats(-100, 100).map(lambda x: x if abs(x) > 1e-200 else 0.0)
"""None so small that it underflows where a virial is written by volume."""


@st.composite
def frames(draw, cells):
    """Any labelled frames: bulk, slab or cluster, with or without virial and group."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        symbols = tuple(draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=4)))
        three = arrays.arrays(float, (len(symbols), 3), elements=numbers)
        kind = draw(cells)
        skew = draw(arrays.arrays(float, (3, 3), elements=st.floats(-0.5, 0.5)))
        half = draw(arrays.arrays(float, (3, 3), elements=numbers))
        periodic = {"bulk": [1, 1, 1], "slab": [1, 1, 0], "cluster": [0, 0, 0]}[kind]
        found.append(
            LabelledFrame(
                symbols,
                draw(three),
                np.zeros((3, 3)) if kind == "cluster" else 8 * np.eye(3) + skew,
                np.array(periodic, bool),
                draw(numbers),
                draw(three),
                (half + half.T)
                if kind != "cluster" and draw(st.booleans())
                else None,
                draw(st.sampled_from(["", "hot", "elastic strain", "a=b"])),
            )
        )  # fmt: skip
    return found


PERIODIC_ONLY = ("mlearn", "fitsnap")
IN_UNITS = {"mlearn": 1e-12, "fitsnap": 1e-12}
"""Formats whose stress is in a unit of its own: equal but for rounding."""


@pytest.mark.parametrize("form", WRITERS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_written_is_read_and_written_again(form, data, tmp_path_factory):
    place = tmp_path_factory.mktemp(form)
    kinds = ["bulk"] if form in PERIODIC_ONLY else ["bulk", "cluster"]
    if form in ("extxyz", "ase-db"):
        kinds.append("slab")
    ours = data.draw(frames(st.sampled_from(kinds)))
    first, second = place / f"first{SUFFIXES[form]}", place / f"second{SUFFIXES[form]}"
    write(ours, form, first)
    back = read_frames(first)
    assert same_set(ours, back, IN_UNITS.get(form, 0.0))
    write(back, form, second)
    again = read_frames(second)
    assert len(again) == len(back)
    assert all(
        equal(a, b, IN_UNITS.get(form, 0.0)) for a, b in zip(back, again, strict=True)
    )
    if form in ("extxyz", "mlearn") and not IN_UNITS.get(form):
        assert first.read_bytes() == second.read_bytes()
    spoilt = replace(back[0], energy=back[0].energy + 1e-9)  # the planted defect
    assert not same_set([spoilt, *back[1:]], again)


FORMS = (*((form, SUFFIXES[form]) for form in WRITERS), ("deepmd-data", ".hdf5"),
         ("deepmd-mixed", ".hdf5"))  # fmt: skip

MIXED = (
    frame(group="hot"),
    frame(("Si",), 1, group="a=b"),
    frame(seed=2, virial=None, group="hot"),
    frame(("O", "Og"), 3),
    frame(seed=4, group="cold"),
)
"""Frames that differ in elements, groups and labels."""
SLABS = (
    frame(seed=5, virial=None, periodic=np.array([True, True, False]), group="a"),
    frame(seed=6, group="a"),
)
CLUSTERS = (
    frame(
        seed=7, virial=None, periodic=np.zeros(3, bool), cell=np.zeros((3, 3)), group="a"
    ),
)


def passed_on(ours, forms, place):
    """Write and read frames in one format after another; return them and what was said."""
    said = []
    for number, (form, suffix) in enumerate(forms):
        path = place / f"{number}{suffix}"
        said += write(ours, form, path)
        ours = read_frames(path)
    return ours, " ".join(said)


def unnamed(ours, theirs, said):
    """Return what differs between frames and is not said."""
    differ = []
    if len(ours) != len(theirs):
        return ["frames"]
    paired = [min(theirs, key=lambda b, a=a: abs(a.energy - b.energy)) for a in ours]
    if any(a is not b for a, b in zip(paired, theirs, strict=True)):
        differ.append("order")
    for a, b in zip(ours, paired, strict=True):
        if a.group != b.group:
            differ.append("groups are named")
        if not np.array_equal(a.periodic, b.periodic):
            differ.append("periodic along some axes")
        b = replace(b, periodic=a.periodic)
        if not equal(a, b, 1e-12):
            differ.append("labels")
    return sorted({each for each in differ if each not in said})


@pytest.mark.parametrize("second", FORMS, ids="".join)
@pytest.mark.parametrize("first", FORMS, ids="".join)
def test_every_pair_of_formats_is_identical_or_names_the_loss(first, second, tmp_path):
    for name, ours in {"mixed": MIXED, "slabs": SLABS, "clusters": CLUSTERS}.items():
        try:
            back, said = passed_on(ours, (first, second), tmp_path / name)
        except InputError as error:
            assert name == "clusters" and "this format needs a cell" in str(error)
            continue
        assert unnamed(ours, back, said) == [], said
        spoilt = [replace(back[0], forces=back[0].forces + 1e-12), *back[1:]]
        assert "labels" in unnamed(ours, spoilt, said)  # the planted defect


@pytest.mark.parametrize("form", ["extxyz", "ase-db", "mlearn", "fitsnap"])
def test_groups_are_kept(form, tmp_path):
    path = tmp_path / f"a{SUFFIXES[form]}"
    write([frame(group="hot"), frame(seed=1, group="cold")], form, path)
    assert {f.group for f in read_frames(path)} == {"hot", "cold"}


def test_deepmd_systems_are_named_by_group(tmp_path):
    write([frame(group="hot"), frame(("Si",), 1)], "deepmd-data", tmp_path / "d")
    assert {f.group for f in read_frames(tmp_path / "d")} == {"hot", "Si1"}


@pytest.mark.parametrize("suffix", ["", ".hdf5"])
@pytest.mark.parametrize("form", ["deepmd-data", "deepmd-mixed"])
def test_a_slab_stays_periodic_and_it_is_said(tmp_path, form, suffix):
    slab = frame(periodic=np.array([True, True, False]))
    said = write([slab, frame(seed=1)], form, tmp_path / f"d{suffix}")
    assert "1 frames are periodic along some axes only" in said[0]
    assert all(f.periodic.all() for f in read_frames(tmp_path / f"d{suffix}"))
    flat = replace(slab, cell=np.diag([5.0, 6.0, 0.0]))
    with pytest.raises(InputError, match="give it vacuum"):
        write([flat], form, tmp_path / "e")


@pytest.mark.parametrize("name", ["data", "data.hdf5"])
@pytest.mark.parametrize("form", ["deepmd-data", "deepmd-mixed"])
def test_dpdata_reads_what_we_write(tmp_path, name, form):
    dpdata = pytest.importorskip("dpdata", reason="extra `deepmd`")
    ours = [frame(seed=1), frame(("Si", "O"), 2), frame(seed=3)]
    write(ours, form, tmp_path / name)
    systems = dpdata.MultiSystems()
    if name == "data.hdf5" and form == "deepmd-data":
        systems.from_deepmd_hdf5(str(tmp_path / name))
    elif name == "data.hdf5":
        pytest.skip("dpdata reads the mixed type from folders")
    elif form == "deepmd-data":
        systems.load_systems_from_file(str(tmp_path / name), fmt="deepmd/npy")
    else:
        systems.load_systems_from_file(str(tmp_path / name), fmt="deepmd/npy/mixed")
    found = sorted(float(e) for s in systems.systems.values() for e in s.data["energies"])
    assert found == sorted(f.energy for f in ours)


@pytest.mark.parametrize("form", ["extxyz", "ase-db"])
def test_ase_reads_the_stress_that_its_calculators_give(tmp_path, form):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    stress = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, stress=stress, **results)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    target = tmp_path / f"b{SUFFIXES[form]}"
    write(read(tmp_path / "a.extxyz").frames, form, target)
    found = ase.io.read(target)
    assert isinstance(found, Atoms)
    assert np.allclose(found.get_stress(), stress, rtol=0, atol=1e-8)
    assert read(target).left_out == ()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "a.extxyz").write_text("mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        write([frame()], "extxyz", tmp_path / "a.extxyz")
    cluster = frame(periodic=np.zeros(3, bool))
    with pytest.raises(InputError, match="this format needs a cell"):
        write([cluster], "mlearn", tmp_path / "a.json")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", _labelled())
    (tmp_path / "file").write_text("")
    for place in ("file/inside", "/proc/none/there"):
        command = ["export", str(tmp_path / "a.extxyz"), "--to", "deepmd-data"]
        result = CliRunner().invoke(main, [*command, "--out", str(tmp_path / place)])
        assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
        assert len(result.output.splitlines()) == 1 and place[:4] in result.output


def _labelled():
    one = frame()
    atoms = Atoms(one.symbols, one.positions, cell=one.cell, pbc=one.periodic)
    atoms.calc = SinglePointCalculator(atoms, energy=one.energy, forces=one.forces)
    return atoms


def test_the_command_writes_deepmd_data(tmp_path):
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
    found = read_frames(tmp_path / "out")[0]
    assert found.symbols == one.symbols and abs(found.energy - one.energy) < 1e-7
    assert np.allclose(found.virial, one.virial, atol=1e-4)


def test_the_command_says_what_it_leaves_out_and_takes_names(tmp_path):
    atoms = _labelled()
    atoms.info["REF_energy"] = -7.0
    atoms.set_tags([1] * len(atoms))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    command = ["export", str(tmp_path / "a.extxyz"), "--to", "extxyz"]
    plain = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "b.extxyz")])
    assert "left out: REF_energy, tags: not labels" in plain.output
    command += ["--set", "energy_key=REF_energy", "--out", str(tmp_path / "c.extxyz")]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert read_frames(tmp_path / "c.extxyz")[0].energy == -7.0
    command[1:4] = [str(tmp_path / "model.safetensors")]
    assert "is for labelled frames" in CliRunner().invoke(main, command).output


def test_a_set_that_a_format_cannot_hold_leaves_no_folder(tmp_path):
    cluster = frame(seed=1, periodic=np.zeros(3, bool), group="clusters")
    with pytest.raises(InputError, match="this format needs a cell"):
        write([frame(group="bulk"), cluster], "fitsnap", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_structures_to_label_keep_their_group_and_name_what_is_unused(tmp_path):
    atoms = _labelled()
    atoms.info.update(config_type="hot", charge=1)
    atoms.set_initial_magnetic_moments([1.0] * len(atoms))
    atoms.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    said: list[str] = []
    samples = labelling.read_structures(tmp_path / "a.extxyz", said.append)
    assert [sample.stratum for sample in samples] == ["hot"]
    assert said[0].endswith("not used: charge, constraints, initial_magmoms")
