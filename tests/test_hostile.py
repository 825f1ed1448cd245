"""Hostile and damaged input is answered by a named error, and nothing in it is run."""

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scalebridge.engine.errors import DamagedFileError, InputError
from scalebridge.engine.inputs import check_file_size
from scalebridge.engine.interop.foreign import import_file
from scalebridge.engine.md.data import read_frames
from scalebridge.engine.md.learned import load_potential
from scalebridge.models.card import save_module
from scalebridge.models.potentials.deep_potential import HigherMoments

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import bombs
import fuzz
import fuzz_commands


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz")
    return path, {target.name: target for target in fuzz.targets(path)}


@pytest.mark.parametrize(
    "name",
    [
        "scenario", "labelled frames", "mlearn frames", "structure", "DeePMD folder",
        "model", "model card", "run folder", "checkpoint of a host", "foreign checkpoint",
    ],
)  # fmt: skip
def test_damaged_files_give_named_errors(place, name):
    folder, targets = place
    findings = fuzz.Findings({}, {})
    fuzz.batch(targets[name], folder, 40, 7, findings)
    assert findings.found == {} and findings.tried[name] >= 30


def test_the_fuzzer_finds_a_planted_crash(place):
    """The planted defect: a reader that lets a ValueError out is found."""
    folder, _ = place
    (folder / "numbers").write_text("1 2 3")
    target = fuzz.Target(
        "numbers",
        (folder / "numbers",),
        lambda path: [int(word) for word in path.read_bytes().split()],
    )
    findings = fuzz.Findings({}, {})
    fuzz.batch(target, folder, 40, 7, findings)
    assert any("ValueError" in wrong for wrong in findings.found)


def test_a_pickle_with_a_program_in_it_is_not_run(tmp_path):
    evil, trap = tmp_path / "model.pt", tmp_path / "run"
    torch.serialization.save({"w": torch.ones(2), "x": Payload(trap)}, evil)
    with pytest.raises(InputError, match="refused"):
        import_file(evil, tmp_path / "out")
    assert not trap.exists() and not (tmp_path / "out.safetensors").exists()


def test_a_pickle_under_the_name_of_weights_is_damage(tmp_path):
    form = HigherMoments(
        ("Si",), members=1, basis=3, channels=4, axis=2, products=2, fitting=(4,)
    )
    path = save_module(tmp_path / "model", form.build(1), {})
    torch.serialization.save({"x": Payload(tmp_path / "run")}, path)
    with pytest.raises(DamagedFileError, match="sha256"):
        load_potential(path)
    assert not (tmp_path / "run").exists()


def test_plain_checkpoints_come_in(tmp_path):
    tensors = {"model": {"w": torch.arange(3.0), "steps": 7}, "list": [torch.ones(1)]}
    torch.serialization.save(tensors, tmp_path / "a.pt")
    weights = import_file(tmp_path / "a.pt", tmp_path / "out")
    found = load_file(weights)
    assert torch.equal(found["model.w"], torch.arange(3.0)) and "list.0" in found
    card = json.loads((tmp_path / "out.json").read_text())
    assert card["values"]["model"]["steps"] == 7
    with pytest.raises(InputError, match="exists"):
        import_file(tmp_path / "a.pt", tmp_path / "out")


def test_a_pyscf_checkpoint_becomes_a_wavefunction(tmp_path):
    gto = pytest.importorskip("pyscf.gto", reason="extra `label`")
    scf = pytest.importorskip("pyscf.scf")
    mean = scf.RHF(gto.M(atom="H 0 0 0; H 0 0 0.74", basis="sto-3g", verbose=0))
    mean.chkfile = str(tmp_path / "h2.chk")
    energy = mean.kernel()
    weights = import_file(tmp_path / "h2.chk", tmp_path / "h2")
    found = load_file(weights)
    assert np.allclose(found["mo_coeff"], mean.mo_coeff) and float(found["e_tot"]) == energy
    assert json.loads((tmp_path / "h2.json").read_text())["molecule"]


def test_other_hdf5_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.chk", "w") as file:
        file["x"] = 1.0
    with pytest.raises(InputError, match="not a checkpoint of PySCF"):
        import_file(tmp_path / "a.chk", tmp_path / "out")


def test_bombs_are_refused_unread(tmp_path):
    """A few kilobytes that unpack to many megabytes."""
    bomb = tmp_path / "a.extxyz.gz"
    with gzip.open(bomb, "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(InputError, match="refused unread"):
        check_file_size(bomb, largest=1 << 24)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(1 << 25))
    with pytest.raises(InputError, match="refused unread"):
        check_file_size(tmp_path / "a.npz", largest=1 << 24)


def test_more_atoms_than_the_file_holds(tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_text("299999999999\n\nNa 0 0 0\n")
    with pytest.raises(InputError, match="line 1 announces 299999999999 atoms"):
        read_frames(path)
    path.write_text("3\n\nNa 0 0 0\n")
    with pytest.raises(InputError, match="ends before the 3 atoms"):
        read_frames(path)


def test_a_gigantic_array_in_a_header(tmp_path):
    with pytest.raises(InputError, match="not readable"):
        read_frames(bombs.huge_header(tmp_path))


def test_a_card_that_asks_for_more_than_its_weights(tmp_path):
    with pytest.raises(InputError, match="more than the weights hold"):
        load_potential(bombs.huge_card(tmp_path))


@pytest.mark.parametrize(("scenario", "setting"), fuzz_commands.WRONG)
def test_what_cannot_be_right_is_not_accepted(scenario, setting):
    status, said, wrong = fuzz_commands.answer(["check", scenario, "--set", setting])
    assert status == 2 and wrong == "" and said.startswith("engine: ")


@pytest.mark.parametrize(
    "content",
    [
        {"a": torch.zeros(1).expand(3_000_000_000)},
        {"a": torch.empty(10**12, device="meta")},
        [torch.ones(100_000)] * 5000,
        torch.sparse_coo_tensor([[0], [0]], [1.0], (200_000, 100_000)),
    ],
    ids=["stretched", "no numbers", "named often", "sparse"],
)
def test_a_small_checkpoint_of_huge_tensors_is_refused(tmp_path, content):
    torch.serialization.save({"x": content}, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 500_000
    with pytest.raises(InputError, match="expands to"):
        import_file(tmp_path / "a.pt", tmp_path / "out")


@pytest.mark.parametrize("key", ["a." * 100_000 + "b", "'a'." * 100_000 + "b"])
def test_a_key_without_end_is_refused_unparsed(tmp_path, key):
    from scalebridge.engine import scenario

    (tmp_path / "a.toml").write_text(f"version = 1\n{key} = 1\n")
    with pytest.raises(InputError, match="more than 64 parts"):
        scenario.read(tmp_path / "a.toml")


@pytest.mark.parametrize(
    "name",
    [
        "a key of 100,000 parts", "a terabyte of zeros in HDF5",
        *(pytest.param(n, marks=pytest.mark.slow) for n in bombs.BOMBS),
    ],
)  # fmt: skip
def test_small_inputs_that_ask_for_much_are_refused_soon(name):
    command = [sys.executable, bombs.__file__, name]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert said.startswith("ok"), said


def test_an_array_of_frames_that_are_not_there_is_refused(tmp_path):
    from scalebridge.engine.inputs import check_expansion

    check_expansion("a", 1 << 40, 1 << 34)
    with pytest.raises(InputError, match="unpack to more than 200 times"):
        check_expansion("a", 1 << 40, 1 << 30)


def test_a_line_without_end_is_not_read(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"1" * (2 << 20))
    with pytest.raises(InputError, match="line 1 has 1048576 bytes or more"):
        read_frames(tmp_path / "a.xyz")
