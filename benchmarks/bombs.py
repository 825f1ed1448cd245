"""Small inputs that ask for huge memory: each is refused, soon and at little cost.

Each bomb is a few kilobytes of text or file. A copy of this process, in which nothing has
been computed, is given it as a user would; measured are the seconds that it takes and the
memory that the copy needs above what it had when it began. Time in which it waits for a
processor that others use does not count.
"""

import gzip
import json
import os
import resource
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from click.testing import CliRunner

from scalebridge.engine.cli import main
from scalebridge.engine.errors import EngineError
from scalebridge.engine.jobs import assemble as assemble  # with it come torch and the rest

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

import fuzz  # noqa: E402

SECONDS = 5.0
MEGABYTES = 500.0

Words = list[str]


def _set(scenario: str, *settings: str) -> Callable[[Path], Words]:
    words = ["check", scenario, *(w for each in settings for w in ("--set", each))]
    return lambda place: words


def _written(name: str, content: bytes | str) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        path = place / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def _data(write: Callable[[Path], Path]) -> Callable[[Path], Words]:
    return lambda place: ["data", str(write(place))]


def _structure(write: Callable[[Path], Path]) -> Callable[[Path], Words]:
    """A structure for silicon's classical potential."""

    def words(place: Path) -> Words:
        scenario = place / "own.toml"
        scenario.write_text(
            f'version = 1\nkind = "md"\nstructure = {{kind = "file", path = '
            f'"{write(place).name}"}}\npotential = {{kind = "stillinger_weber"}}\n'
            'ensemble = {kind = "nve"}\nrun = {steps = 1, timestep = 1.0}\n'
        )
        return ["check", str(scenario)]

    return words


def _tensors(content: Callable[[], object]) -> Callable[[Path], Words]:
    def words(place: Path) -> Words:
        torch.serialization.save({"x": content()}, place / "a.pt")
        return ["import", str(place / "a.pt"), "--out", str(place / "out")]

    return words


def _gzip(place: Path) -> Path:
    with gzip.open(place / "a.extxyz.gz", "wb") as file:
        for _ in range(512):
            file.write(bytes(1 << 20))
    return place / "a.extxyz.gz"


def huge_header(place: Path) -> Path:
    """Write a DeePMD system whose arrays announce 10^12 frames; return its folder."""
    folder = place / "system"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0")
    (folder / "type_map.raw").write_text("Si")
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }"
    text = header.ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    for name in ("coord", "force", "energy"):
        (folder / "set.000" / f"{name}.npy").write_bytes(data)
    return folder


def _hdf5(place: Path) -> Path:
    """A terabyte of zeros that stands nowhere in the file."""
    with h5py.File(place / "mixed.hdf5", "w") as file:
        file["type_map.raw"], file["type.raw"] = [b"Si"], np.zeros(8, int)
        group = file.create_group("set.000")
        for name, width in (("coord", 24), ("force", 24), ("energy", 1)):
            group.create_dataset(
                name, shape=(5_000_000_000, width), dtype="f8", chunks=(1024, width)
            )
        group.create_dataset(
            "real_atom_types", shape=(5_000_000_000, 8), dtype="i4", chunks=(1024, 8)
        )
    return place / "mixed.hdf5"


def _archive(place: Path) -> Words:
    with (
        zipfile.ZipFile(place / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("density.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(2048):
            file.write(bytes(1 << 20))
    more = f'initial={{kind="file",path="{place / "a.npz"}"}}'
    return ["check", "sod", "--set", more]


def huge_card(place: Path) -> Path:
    """Write a small model whose card asks for 4 10^9 neurons; return its path."""
    from scalebridge.models import card

    fuzz._model(place)
    content = json.loads((place / "model.json").read_text())
    content["config"]["fitting"] = [4_000_000_000]
    del content["card_sha256"]
    content["card_sha256"] = card._card_hash(content)
    (place / "model.json").write_text(json.dumps(content))
    return place / "model"


def _card(place: Path) -> Words:
    model = str(huge_card(place))
    return ["audit", model, "--out", str(place / "out"), "--quiet"]


def _store(place: Path) -> Words:
    """A finished run whose array says that it has 10^12 frames."""
    run = place / "run"
    small = ["--set", "run.steps=2", "--set", "structure.repeat=1", "--no-report"]
    done = CliRunner().invoke(
        main, ["run", "silicon_sw", *small, "--quiet", "--out", str(run)]
    )
    if done.exit_code not in (0, 4):
        raise RuntimeError(done.output)
    for meta in (run / "data.zarr").rglob("zarr.json"):
        content = json.loads(meta.read_text())
        if content.get("shape"):
            content["shape"][0] = 10**12
            meta.write_text(json.dumps(content))
    return ["view", str(run), "--extxyz", str(place / "out.extxyz")]


_FRAME = '1\nLattice="{0} 0 0 0 {0} 0 0 0 {0}" pbc="T T T"\nSi 0 0 0\n'
_DUMP = (
    "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2000000000\nITEM: BOX BOUNDS pp pp pp\n"
    "0 9\n0 9\n0 9\nITEM: ATOMS id element x y z\n1 Si 0 0 0\n"
)
_BOX = (
    "remark\n\n2000000000 atoms\n1 atom types\n0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\n"
    "Masses\n\n1 28.085\n\nAtoms # atomic\n\n1 1 0 0 0\n"
)

BOMBS: Mapping[str, Callable[[Path], Words]] = {
    "a crystal of 10^9 cells": _set("silicon_sw", "structure.repeat=[1000,1000,1000]"),
    "a hundred thousand replicas": _set("silicon_sw", "replicas=100000"),
    "a liquid of 500^3 cells": _set("argon_nve", "structure.cells=500"),
    "a lattice of .01 angstrom": _set("silicon_sw", "structure.lattice_constant=0.01"),
    "10^9 velocities": _set("couette", "model.nodes=[100000,10000]"),
    "10^10 numbers of a distribution": _set(
        "couette", "grid.cells=[4096]", "model.nodes=[512,512]"
    ),
    "a grid of 60,000^2 cells": _set(
        "kelvin_helmholtz", "grid.cells=[60000,60000]", "compare=[]"
    ),
    "10^12 particles": _set("dsmc_couette", "model.particles=1000000000000"),
    "10^9 points": _set("deep_ritz", "points=1000000000"),
    "10^10 walkers": _set("vmc_hooke", "sampling.walkers=10000000000"),
    "a cell of .01 angstrom": _structure(_written("a.extxyz", _FRAME.format(0.01))),
    "a frame of 3 10^11 atoms": _data(_written("a.extxyz", "299999999999\n\nSi 0 0 0\n")),
    "a dump of 2 10^9 atoms": _structure(_written("a.dump", _DUMP)),
    "a box of 2 10^9 atoms": _structure(_written("a.data", _BOX)),
    "half a gigabyte in a gzip": _data(_gzip),
    "two gigabytes in an archive": _archive,
    "10^12 frames in a header": _data(huge_header),
    "a terabyte of zeros in HDF5": _data(_hdf5),
    "a key of 100,000 parts": lambda place: [
        "check",
        str(_written("a.toml", f"version = 1\n{'a.' * 100_000}b = 1\n")(place)),
    ],
    "brackets without end": lambda place: [
        "check", str(_written("a.toml", f"version = 1\na = {'[' * 200_000}\n")(place)),
    ],
    "nested labels": _data(_written("a.json", "[" * 500_000)),
    "a stretched tensor": _tensors(lambda: torch.zeros(1).expand(3_000_000_000)),
    "a tensor without numbers": _tensors(lambda: torch.empty(10**12, device="meta")),
    "a tensor named often": _tensors(lambda: [torch.ones(100_000)] * 5000),
    "a card of 4 10^9 neurons": _card,
    "an array of 10^12 frames": _store,
}  # fmt: skip
"""What is too large -> writes the bomb into a folder and returns the command line."""


@dataclass(frozen=True)
class Answer:
    """What a bomb did.

    Attributes:
        status: exit status of the command, 99 for a traceback.
        said: what it printed.
        seconds: until it was answered.
        megabytes: largest memory above that of the process before.
    """

    status: int
    said: str
    seconds: float
    megabytes: float

    @property
    def refused(self) -> bool:
        """Tell whether it was refused by a sentence, in time, at little cost."""
        named = self.status in (1, 2) and bool(self.said) and "Traceback" not in self.said
        return named and self.seconds <= SECONDS and self.megabytes <= MEGABYTES


def _here(words: Words) -> tuple[int, str]:
    found = CliRunner().invoke(main, words)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        if isinstance(found.exception, EngineError):
            return found.exception.status, str(found.exception)
        return 99, "".join(traceback.format_exception(found.exception))[-600:]
    return found.exit_code, found.output.strip()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _copied(work: Callable[[], list]) -> list:
    """Do something in a copy of this process, and return the list that it returns."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            answer = work()
        except BaseException as error:
            answer = [99, repr(error), 0.0, 0.0]
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(told) if told else [98, "killed", 0.0, 0.0]


def answer(name: str) -> Answer:
    """Throw a bomb: made in one copy of this process, read in another."""
    with tempfile.TemporaryDirectory() as place:
        words = _copied(lambda: BOMBS[name](Path(place)))

        def read() -> list:
            begun, before = fuzz.clock(), _peak()
            status, said = _here(words)
            return [status, said, fuzz.clock() - begun, _peak() - before]

        return Answer(*_copied(read))


if __name__ == "__main__":
    for each in sys.argv[1:] or BOMBS:
        found = answer(each)
        print("ok " if found.refused else "BAD", each, found, flush=True)
