"""What is checked of a set of labels before anything is trained on it."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner
from wrong_inputs import relabelled, silicon

from scalebridge.engine.cli import main
from scalebridge.engine.data.checks import check_training
from scalebridge.engine.data.claims import disowned
from scalebridge.engine.data.reading import read_frames
from scalebridge.engine.errors import InputError
from scalebridge.engine.inputs import check_file_size
from scalebridge.engine.jobs import assemble
from scalebridge.engine.scenario import load, parse


def labelled(atoms: Atoms, energy: float, forces=None, **info) -> Atoms:
    if forces is None:
        forces = np.random.default_rng(len(atoms)).normal(size=(len(atoms), 3))
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    atoms.info.update(info)
    return atoms


def crystals(count: int = 6, **labels) -> list[Atoms]:
    found = []
    for k in range(count):
        atoms = silicon(k)
        given = {"forces": atoms.get_forces(), **labels}
        found.append(labelled(atoms, atoms.get_potential_energy(), **given))
    return found


def job(images, place: Path, **changes):
    ase.io.write(place / "a.extxyz", images)
    model = {
        "kind": "higher_moments", "cutoff": 4.0, "channels": 4, "axis": 2, "products": 2,
        "basis": 4, "fitting": [4], "members": 1,
    }  # fmt: skip
    data = {
        "version": 1, "kind": "train", "data": "a.extxyz", "steps": 2, "batch": 2,
        "model": model, **changes,
    }  # fmt: skip
    return assemble(parse(data), place)


def pair(distance: float) -> Atoms:
    return Atoms("Si2", [[0, 0, 0], [0, 0, distance]], cell=[30] * 3, pbc=True)


def dimers() -> list[Atoms]:
    return [labelled(pair(6 + 0.1 * k), -1.0 - k) for k in range(4)]


def with_oxygen_in(last: int) -> list[Atoms]:
    images = crystals(6)
    images[last].symbols[0] = "O"
    return images


REFUSED = {
    "virial that no frame has": (
        crystals, {"loss": {"kind": "plain", "virial": 1.0}}, r"loss\.virial: no frame",
    ),
    "virial that grows": (
        crystals, {"loss": {"kind": "prefactors", "virial": [0.0, 1.0]}}, r"loss\.virial",
    ),
    "no neighbours": (dimers, {}, "no two atoms are within the cutoff of 4"),
    "isolated atoms": (
        lambda: [labelled(Atoms("Si", cell=[9] * 3), -1.0 - k) for k in range(3)], {},
        "no two atoms are within the cutoff",
    ),
    "one frame": (lambda: crystals(1), {}, "at least two labelled frames"),
    "validation takes all": (
        lambda: crystals(2), {"validation": 0.9}, "2 frames leave none to train on",
    ),
    "validation takes nearly all": (
        lambda: crystals(3), {"validation": 0.84}, "3 frames leave none to train on",
    ),
    "no weights": (
        crystals, {"loss": {"kind": "plain", "energy": 0.0, "force": 0.0}},
        "loss: every weight is 0",
    ),
    "no weight in any group": (
        lambda: crystals(group="hot"), {"group_weights": {"hot": 0.0}},
        "every frame to train on has the weight 0",
    ),
    "a group that is not there": (
        lambda: crystals(group="hot"), {"group_weights": {"cold": 1.0}},
        "no frame is of this group; allowed: hot",
    ),
    "energies are placeholders": (
        lambda: [labelled(a, 0.0, a.get_forces()) for a in crystals()], {},
        "every energy is exactly 0",
    ),
    "forces are placeholders": (
        lambda: crystals(forces=np.zeros((8, 3))), {}, "every force is exactly 0",
    ),
    "an absurd force": (
        lambda: [*crystals(2), *crystals(1, forces=np.full((8, 3), 1e25))], {},
        r"frame 2, atom 0: forces of 1e\+25 are absurd",
    ),
    "an absurd energy": (
        lambda: [*crystals(3), labelled(bulk("Si", cubic=True), 1e12)], {},
        r"frame 3: an energy of 1e\+12 eV is absurd",
    ),
    "periodic without a cell": (
        lambda: [labelled(Atoms("Si2", [[0] * 3, [2] * 3], pbc=True), -1.0)] * 2, {},
        r"frame 0: periodic, but the cell is",
    ),
    "a flat cell": (
        lambda: [
            labelled(
                Atoms("Si", cell=[[5, 0, 0], [0, 5, 0], [5, 5, 0]], pbc=True), -1.0
            )
        ] * 2, {}, "lattice vectors span no volume",
    ),
    "atoms on one spot": (
        lambda: [*crystals(2), labelled(pair(1e-5), -1.0)], {}, "frame 2: atoms 0 and 1",
    ),
    "a test set of another element": (
        crystals, {"test": "b.extxyz"}, "test: O does not occur in the training data",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_training(name, tmp_path):
    images, changes, said = REFUSED[name]
    ase.io.write(tmp_path / "b.extxyz", with_oxygen_in(0))
    with pytest.raises(InputError, match=said) as caught:
        job(images(), tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_an_element_of_held_out_frames_alone(tmp_path):
    refused = 0
    for k in range(6):
        try:
            job(with_oxygen_in(k), tmp_path)
        except InputError as error:
            assert "O occurs only in frames that are held out" in str(error)
            refused += 1
    assert refused == 1  # one of six frames is held out


def test_what_is_odd_is_said(tmp_path):
    images = crystals(8)
    twin = images[2].copy()
    images.append(labelled(twin, -40.0, images[2].get_forces()))
    notes = " ".join(job(images, tmp_path).notes)
    assert "equal structures have different labels" in notes
    assert "a.extxyz: 9 frames (extxyz); energy: energy (eV assumed" in notes
    images[-1] = labelled(
        twin.copy(), images[2].get_potential_energy(), images[2].get_forces()
    )
    notes = " ".join(job(images, tmp_path).notes)
    assert "repeat another" in notes or "held-out frames are also trained on" in notes


def test_files_of_different_keys(tmp_path):
    images = crystals(4)
    ase.io.write(tmp_path / "b.extxyz", images)
    text = (tmp_path / "b.extxyz").read_text()
    text = text.replace("energy=", "dft_energy=").replace("forces:", "dft_forces:")
    (tmp_path / "b.extxyz").write_text(text)
    other = {"path": "b.extxyz", "energy_key": "dft_energy", "forces_key": "dft_forces"}
    found = job(images, tmp_path, data=["a.extxyz", other])
    assert len(found.data.frames) == 8
    keys = {"energy_key": "dft_energy", "forces_key": "dft_forces"}
    assert len(job(images, tmp_path, data="b.extxyz", **keys).data.frames) == 4
    with pytest.raises(InputError, match="name it with energy_key"):
        job(images, tmp_path, data=["b.extxyz"])


def test_the_command_shows_groups_and_what_stands_out(tmp_path):
    images = crystals(30, group="hot")
    images[7] = labelled(images[7].copy(), -60.0, group="hot")
    images.append(labelled(pair(0.9), -3.0, group="dimer"))
    images.append(images[3])
    ase.io.write(tmp_path / "a.extxyz", images)
    result = CliRunner().invoke(main, ["data", str(tmp_path / "a.extxyz")])
    assert result.exit_code == 0, result.output
    assert "32 frames (extxyz)" in result.output
    assert "hot" in result.output and "dimer" in result.output
    assert "frame 7 (group hot): an energy of" in result.output
    assert "atoms 0 and 1 (Si, Si) are 0.9 angstrom apart" in result.output
    assert "frame 31 repeats a.extxyz, frame 3" in result.output
    unknown = ["data", str(tmp_path / "a.extxyz"), "--set", "enrgy_key=x"]
    result = CliRunner().invoke(main, unknown)
    assert result.exit_code == 2 and "the keys are format, energy_key" in result.output


SETS = {
    "good": (lambda k, a, r: None, ""),
    "energies of zero": (lambda k, a, r: r.update(energy=0.0), "every energy is exactly 0"),
    "energies relative to the first": (lambda k, a, r: r.update(
        energy=(r["energy"] - 0.5709) * (k > 0)), ""),
    "two energies of zero": (
        lambda k, a, r: r.update(energy=r["energy"] * (k > 1)), "energy of 2 frames",
    ),
    "forces of zero": (
        lambda k, a, r: r.update(forces=0 * r["forces"]), "every force is exactly 0",
    ),
    "energies in hartree": (
        lambda k, a, r: r.update(energy=r["energy"] / 27.2), "energies and forces do not",
    ),
    "a stress of the other sign": (
        lambda k, a, r: r.update(stress=-a.get_stress()), "the stress does not fit",
    ),
    "atoms on one spot": (
        lambda k, a, r: a.positions.__setitem__(0, a.positions[int(k == 3)]), "one spot",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_the_command_refuses_what_training_refuses(name, tmp_path):
    change, said = SETS[name]
    images = relabelled(change)
    loss = {"kind": "plain", "energy": 1.0, "force": 1.0, "virial": float("stress" in name)}
    path = tmp_path / "a.extxyz"
    if said:
        with pytest.raises(InputError, match=said):
            job(images, tmp_path, loss=loss)
    else:
        job(images, tmp_path, loss=loss)
    result = CliRunner().invoke(main, ["data", str(path)])
    assert result.exit_code == (2 if said else 0), result.output
    assert said in result.output and "rms eV" in result.output


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "structure.repeat=[3]",
            "structure.repeat: input should have more items (found [3])",
        ),
        ("run.temperature=[1, 'a']", "run.temperature.1: input should be a valid number"),
        ("output.rdf=[3]", "output.rdf.0: input should be a table"),
        ("structure.element=[3]", "structure.element: input should be a valid string"),
        ("run.steps=3\nrun.timestep=2", "more than one key"),
    ],
)
def test_a_list_and_a_union_are_refused_in_one_line(setting, said):
    with pytest.raises(InputError) as caught:
        load("silicon_sw", [setting])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_virials_that_are_labels_are_trained_on(tmp_path):
    stress = 1e-3 * np.arange(1.0, 7.0)
    frames = []
    for atoms in crystals():
        assert atoms.calc is not None
        atoms.calc.results["stress"] = stress
        ase.io.write(tmp_path / "a.extxyz", atoms)
        frames += read_frames(tmp_path / "a.extxyz")
    check_training(frames, range(4), [(1.0, 1.0, 1.0)], {})


def test_a_file_above_the_limit_is_refused_unread(tmp_path):
    (tmp_path / "a.extxyz").write_bytes(b"x" * 100)
    check_file_size(tmp_path / "a.extxyz", 100)
    with pytest.raises(InputError, match="more than 99 bytes"):
        check_file_size(tmp_path / "a.extxyz", 99)


@pytest.mark.parametrize(
    ("key", "value", "bad"),
    [("config_weight", "0.00", True), ("scf_converged", "F", True),
     ("exit_code", 137, True),
     ("ionic_converged", False, False), ("relaxation_converged", "F", False),
     ("force_converged", "F", False), ("config_weight", "0.5", False)],
)  # fmt: skip
def test_labels_are_disowned_by_what_speaks_of_them(key, value, bad):
    """An end that a relaxation has not reached says nothing against its frames."""
    assert (disowned({key: value}) is not None) == bad
