"""Fuzzing of everything that reads a file: run it for ten minutes, expect no finding.

Each target writes a damaged file and reads it back. A finding is an answer that is neither
a result nor one of the engine's named errors, or one that takes longer than a minute.
Run: python benchmarks/fuzz.py [MINUTES]
"""

import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import torch
from hypothesis import strategies as st

from scalebridge.engine.errors import EngineError

SLOWEST = 60.0
"""Seconds after which an answer counts as none."""

_WORDS = (
    b"nan", b"inf", b"-1", b"0", b"1e308", b"-1e308", b"99999999999", b"9" * 400, b"true",
    b"[]", b"{}", b'""', b"null", b"\x00", b"\xff\xfe", b"../../etc/passwd", b"=", b"\n",
    b"[[[[[[[[", b"\xf0\x9f\x92\xa5", b"Xx", b"1:2", b"Lattice=\"", b"\r",
)  # fmt: skip

mutations = st.lists(
    st.tuples(
        st.sampled_from(("flip", "put", "cut", "double", "number")),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255) | st.sampled_from(range(len(_WORDS))),
    ),
    min_size=1,
    max_size=6,
)
"""Operations on bytes: what, where (as a share of the length), and with which argument."""


def mutate(data: bytes, operations: list[tuple[str, float, int]]) -> bytes:
    """Apply mutations to bytes."""
    for what, place, argument in operations:
        at = int(place * len(data))
        if what == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (argument or 1)]) + data[at + 1 :]
        elif what == "put":
            data = data[:at] + _WORDS[argument % len(_WORDS)] + data[at:]
        elif what == "cut":
            data = data[:at] + data[at + argument :]
        elif what == "double":
            data = data[: at + argument] + data[at:]
        elif what == "number":
            data = _replace_number(data, at, _WORDS[argument % len(_WORDS)])
    return data


def _replace_number(data: bytes, at: int, word: bytes) -> bytes:
    digits = b"0123456789.-+e"
    while at < len(data) and data[at] not in b"0123456789":
        at += 1
    end = at
    while end < len(data) and data[end] in digits:
        end += 1
    return data[:at] + word + data[end:]


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: what is read.
        seeds: intact files, relative to the folder given.
        read: reads the damaged copy.
    """

    name: str
    seeds: tuple[Path, ...]
    read: Callable[[Path], object]


def _shipped() -> tuple[Path, ...]:
    from scalebridge.engine.scenario import shipped

    return tuple(shipped().values())


def _scenario(path: Path) -> None:
    from scalebridge.engine import scenario

    scenario.load(path)


def _structures(place: Path) -> tuple[Path, ...]:
    """Write one small file of every format that frames are read from."""
    import ase.io
    from ase.build import bulk
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.calc = SinglePointCalculator(
        atoms, energy=-1.0, forces=np.zeros((2, 3)), stress=np.zeros(6)
    )
    names = ("a.extxyz", "a.cif", "a.vasp", "a.json", "a.db", "a.traj", "a.extxyz.gz")
    for name in names:
        form = {"a.extxyz.gz": "extxyz", "a.vasp": "vasp"}.get(name)
        ase.io.write(place / name, atoms, format=form)
    return tuple(place / name for name in names)


def _frames(path: Path) -> None:
    from scalebridge.engine.md.data import read_frames

    read_frames(path)


def _mlearn(place: Path) -> tuple[Path, ...]:
    site = {"species": [{"element": "Si", "occu": 1}], "xyz": [0.0, 0.0, 0.0]}
    entry = {
        "structure": {"lattice": {"matrix": np.eye(3).tolist()}, "sites": [site]},
        "outputs": {"energy": -5.0, "forces": [[0, 0, 0]], "virial_stress": [0] * 6},
        "group": "Elastic",
    }
    path = place / "mlearn.json"
    path.write_text(json.dumps([entry, entry]))
    return (path,)


def _fitsnap(place: Path) -> tuple[Path, ...]:
    entry = {
        "Positions": [[0, 0, 0], [2, 2, 2]], "AtomTypes": ["Ta", "Ta"], "NumAtoms": 2,
        "Lattice": (4 * np.eye(3)).tolist(), "Energy": -5.0, "Forces": [[0, 0, 0]] * 2,
        "Stress": np.eye(3).tolist(),
    }  # fmt: skip
    path = place / "fitsnap.json"
    path.write_text(json.dumps({"Dataset": {"Data": [entry], "StressStyle": "bar"}}))
    return (path,)


def _hdf5(place: Path) -> tuple[Path, ...]:
    from scalebridge.engine.data.reading import read_frames
    from scalebridge.engine.data.writing import write

    frames = read_frames(place / "a.extxyz")
    write(frames, "deepmd-mixed", place / "mixed.hdf5")
    return (place / "mixed.hdf5",)


def _lammps(place: Path) -> tuple[Path, ...]:
    dump = (
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 9\n"
        "0 9\n0 9\nITEM: ATOMS id element x y z\n1 Cu 0 0 0\n2 Cu 3 3 3\n"
    )
    data = (
        "remark\n\n2 atoms\n1 atom types\n0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\n"
        "Masses\n\n1 63.546\n\nAtoms # atomic\n\n1 1 0 0 0\n2 1 3 3 3\n"
    )
    (place / "cu.dump").write_text(dump)
    (place / "cu.data").write_text(data)
    return place / "cu.dump", place / "cu.data"


def _structure(path: Path) -> None:
    """Read a structure as a scenario of molecular dynamics does."""
    from scalebridge.engine.jobs import assemble
    from scalebridge.engine.scenario import parse

    assemble(
        parse(
            {
                "version": 1,
                "kind": "md",
                "structure": {"kind": "file", "path": str(path)},
                "potential": {"kind": "ase", "calculator": "emt"},
                "ensemble": {"kind": "nve"},
                "run": {"steps": 1, "timestep": 0.5},
            }
        ),
        path.parent,
    )


def _copper(place: Path) -> tuple[Path, ...]:
    import ase.io
    from ase.build import bulk

    names = ("cu.extxyz", "cu.cif", "cu.vasp")
    for name in names:
        ase.io.write(place / name, bulk("Cu", cubic=True))
    return tuple(place / name for name in names)


def _deepmd(place: Path) -> tuple[Path, ...]:
    folder = place / "system"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n0\n")
    (folder / "type_map.raw").write_text("Si\n")
    sizes = {"coord": 6, "force": 6, "energy": 1, "box": 9, "virial": 9}
    for name, size in sizes.items():
        np.save(folder / "set.000" / f"{name}.npy", np.ones((2, size)))
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def _system(path: Path) -> None:
    """Put the damaged file back into its DeePMD folder."""
    seed = path.parent / "seeds" / "system"
    copy = path.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(seed, copy)
    inner = next(p for p in copy.rglob("*") if p.name == path.name)
    shutil.copy(path, inner)
    _frames(copy)


def _model(place: Path) -> tuple[Path, ...]:
    from scalebridge.models.card import save_module
    from scalebridge.models.potentials.deep_potential import HigherMoments

    small = HigherMoments(
        ("Si",), members=1, basis=3, channels=4, axis=2, products=2, fitting=(4,)
    )
    save_module(place / "model", small.build(1), {})
    return place / "model.safetensors", place / "model.json"


def _load_model(path: Path) -> None:
    from scalebridge.engine.md.learned import load_potential

    for name in ("model.safetensors", "model.json"):
        if name != path.name:
            shutil.copy(path.parent / "seeds" / name, path.parent / name)
    load_potential(path.parent / "model")


def _card_with_its_hash(path: Path) -> None:
    """A card that was edited by somebody who also mended its hash."""
    from scalebridge.models import card

    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return
    if isinstance(content, dict):
        content.pop("card_sha256", None)
        content["card_sha256"] = card._card_hash(content)
        path.write_text(json.dumps(content))
    _load_model(path)


def _checkpoints(place: Path) -> tuple[Path, ...]:
    from scalebridge.engine.rundir import RunFolder

    run = place / "run"
    resolved = {"name": "fuzz", "scenario": {}, "base": "."}
    with RunFolder.create(run, "version = 1\n", resolved) as folder:
        for step in (1, 2):
            folder.log(step=step)
            folder.save_checkpoint(step, {"x": torch.ones(3)}, {"n": step})
        folder.write_manifest()
    return tuple(sorted(p for p in run.rglob("*") if p.is_file() and p.name != "lock"))


def _open_run(path: Path) -> None:
    from scalebridge.engine.manifest import verify
    from scalebridge.engine.rundir import RunFolder

    seed, copy = path.parent / "seeds" / "run", path.parent / "run"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(seed, copy)
    inner = next(p for p in copy.rglob("*") if p.name == path.name)
    shutil.copy(path, inner)
    with RunFolder.open(copy) as folder:
        folder.resolved  # noqa: B018 - read it
        folder.load_checkpoint()
    verify(copy)


def _state(place: Path) -> tuple[Path, ...]:
    host = _host()
    host.checkpoint(place / "state.safetensors")
    return (place / "state.safetensors",)


def _host():
    from ase.build import bulk

    from scalebridge.engine.interop.host import Host
    from scalebridge.engine.md.classical import StillingerWeber
    from scalebridge.engine.md.integrators import Verlet
    from scalebridge.engine.md.structure import from_atoms
    from scalebridge.engine.md.world import MolecularDynamics

    potential = StillingerWeber()
    start = from_atoms(bulk("Si", cubic=True), potential.species)
    return Host(MolecularDynamics(potential, Verlet(), start, 1.0, (300.0,)))


def _foreign(place: Path) -> tuple[Path, ...]:
    """Write torch and PySCF checkpoints, as other programs would."""
    import h5py

    torch.serialization.save({"a": torch.ones(3), "b": [1, "x"]}, place / "a.pt")
    with h5py.File(place / "a.chk", "w") as file:
        file["scf/mo_coeff"], file["scf/e_tot"] = np.eye(3), -1.0
        file["mol"] = json.dumps({"atom": "H"})
    return place / "a.pt", place / "a.chk"


def _import(path: Path) -> None:
    from scalebridge.engine.interop.foreign import import_file

    for old in path.parent.glob("out.*"):
        old.unlink()
    import_file(path, path.parent / "out", largest=1 << 24)


def targets(place: Path) -> list[Target]:
    """Make the intact files below ``place/seeds`` and return all readers."""
    seeds = place / "seeds"
    seeds.mkdir()
    host = _host()
    model = _model(seeds)
    return [
        Target("scenario", _shipped(), _scenario),
        Target("labelled frames", _structures(seeds), _frames),
        Target("mlearn frames", _mlearn(seeds), _frames),
        Target("structure", _copper(seeds), _structure),
        Target("FitSNAP frames", _fitsnap(seeds), _frames),
        Target("DeePMD mixed type in HDF5", _hdf5(seeds), _frames),
        Target("LAMMPS structure", _lammps(seeds), _structure),
        Target("DeePMD folder", _deepmd(seeds), _system),
        Target("model", model, _load_model),
        Target("model card", model[1:], _card_with_its_hash),
        Target("run folder", _checkpoints(seeds), _open_run),
        Target("checkpoint of a host", _state(seeds), host.restore),
        Target("foreign checkpoint", _foreign(seeds), _import),
    ]


@dataclass
class Findings:
    """What was tried and what came out wrong."""

    tried: dict[str, int]
    found: dict[str, str]

    @property
    def total(self) -> int:
        """Number of files read."""
        return sum(self.tried.values())


def clock() -> float:
    """Return a clock that stands still while another program has this one's processor.

    On a busy machine a command waits for the processor; that says nothing about it. What it
    computes, sleeps or waits for counts.
    """
    try:
        waited = int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):  # a kernel that does not tell
        waited = 0.0
    return time.monotonic() - waited


def attempt(target: Target, seed: Path, operations: list, place: Path) -> str | None:
    """Read one damaged file; return what is wrong with the answer, or None."""
    path = place / seed.name
    path.write_bytes(mutate(seed.read_bytes(), operations))
    begun = clock()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except EngineError as error:
        if not str(error).strip():
            return f"{type(error).__name__} without a sentence"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = [
            f for f in traceback.extract_tb(error.__traceback__) if "engine" in f.filename
        ]
        at = ours[-1] if ours else frame
        return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}"[
            :300
        ]
    seconds = clock() - begun
    return f"took {seconds:.0f} s" if seconds > SLOWEST else None


def batch(
    target: Target, place: Path, examples: int, seed: int, findings: Findings
) -> None:
    """Try ``examples`` damaged files that hypothesis makes."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(hypothesis.Phase.generate,),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.sampled_from(target.seeds), mutations)
    def tries(file: Path, operations: list) -> None:
        findings.tried[target.name] = findings.tried.get(target.name, 0) + 1
        wrong = attempt(target, file, operations, place)
        if wrong is not None:
            key = f"{target.name}: {wrong}"
            findings.found.setdefault(key, f"{file.name} {operations}")

    tries()


def fuzz(minutes: float, seed: int = 1, files: float = float("inf")) -> Findings:
    """Go round all readers until the time is over, or so many files are read."""
    findings, end = Findings({}, {}), time.monotonic() + 60 * minutes
    place = Path(tempfile.mkdtemp())
    try:
        everything = targets(place)
        number = random.Random(seed)
        while time.monotonic() < end and findings.total < files:
            for target in everything:
                if time.monotonic() < end and findings.total < files:
                    batch(target, place, 100, number.randrange(1 << 30), findings)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return findings


if __name__ == "__main__":
    result = fuzz(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
    print(json.dumps(result.tried, indent=1))
    for wrong, example in result.found.items():
        print(wrong, "\n    ", example)
    sys.exit(bool(result.found))
