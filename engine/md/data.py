"""Labelled configurations: readers, and the tables that training takes from them.

Three formats: extended XYZ (anything ASE reads with energies and forces), DeePMD-kit's
npy folders, and the JSON of the mlearn benchmark (Zuo et al., J. Phys. Chem. A 124, 731
(2020)).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from ..errors import InputError
from ..inputs import check_file_size
from ..units import EV_PER_A3_BAR
from .state import ParticleState

KBAR = EV_PER_A3_BAR / 1000
"""One eV / angstrom^3 in kbar."""

_VASP_ORDER = (0, 1, 2, 4, 5, 3)
_LAMMPS_LIKE_ORDER = (0, 1, 2, 5, 4, 3)
"""Where xx, yy, zz, yz, zx, xy stand in mlearn's `virial_stress`, which has two orders: XX
YY ZZ XY YZ ZX as VASP prints it, in the elastic part of silicon, and XX YY ZZ XY ZX YZ in
all other parts. Found by comparison with the stress of a model trained without it: 0.6 to 2
kbar apart in this order, 8 to 78 in the other."""


@dataclass(frozen=True)
class LabelledFrame:
    """One configuration with its labels.

    Attributes:
        symbols: chemical symbols, one per atom.
        positions: ``[atoms, 3]`` angstrom.
        cell: ``[3, 3]`` angstrom, lattice vectors in rows.
        periodic: ``[3]`` bool.
        energy: eV.
        forces: ``[atoms, 3]`` eV/angstrom.
        virial: ``[3, 3]`` eV, ``W = -dE/dstrain``, or None.
        group: name of the part of the set it belongs to.
        origin: file and frame, for messages.
    """

    symbols: tuple[str, ...]
    positions: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray
    energy: float
    forces: np.ndarray
    virial: np.ndarray | None = None
    group: str = ""
    origin: str = ""

    @property
    def volume(self) -> float:
        """Volume of the cell in angstrom^3."""
        return float(abs(np.linalg.det(self.cell)))


def read_frames(path: Path) -> list[LabelledFrame]:
    """Read one file or folder of labelled frames; the format follows from what it is.

    A folder with ``type.raw`` is a DeePMD-kit system; ``.json`` is mlearn; everything else
    goes to ASE.

    Raises:
        InputError: unreadable, no labels, wrong shapes or non-finite numbers; names the
            frame and the atom.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder of labelled frames")
    for file in [path] if path.is_file() else sorted(path.rglob("*.npy")):
        check_file_size(file)
    if path.is_dir():
        frames = _read_deepmd(path)
    elif path.suffix == ".json":
        frames = _read_mlearn(path)
    else:
        frames = _read_ase(path)
    if not frames:
        raise InputError(f"{path}: holds no frames")
    return [_checked(frame) for frame in frames]


def read_all(paths: Iterable[Path]) -> list[LabelledFrame]:
    """Read several files or folders and join their frames."""
    return [frame for path in paths for frame in read_frames(path)]


def species_of(frames: Iterable[LabelledFrame]) -> tuple[str, ...]:
    """Return the elements that occur, by atomic number."""
    found = {symbol for frame in frames for symbol in frame.symbols}
    return tuple(sorted(found, key=lambda symbol: atomic_numbers[symbol]))


def split_frames(count: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Return training and validation indices; whole frames go to one side."""
    held = round(count * fraction)
    if fraction > 0:
        held = max(held, 1)
    order = np.random.default_rng(seed).permutation(count)
    return sorted(order[held:].tolist()), sorted(order[:held].tolist())


def _read_mlearn(path: Path) -> list[LabelledFrame]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a list of configurations")
    frames = []
    for number, entry in enumerate(entries):
        origin = f"{path.name}, frame {number}"
        try:
            sites = entry["structure"]["sites"]
            symbols = tuple(site["species"][0]["element"] for site in sites)
            cell = np.array(entry["structure"]["lattice"]["matrix"], dtype=float)
            labels = entry["outputs"]
            frame = LabelledFrame(
                symbols=symbols,
                positions=np.array([site["xyz"] for site in sites], dtype=float),
                cell=cell,
                periodic=np.ones(3, dtype=bool),
                energy=float(labels["energy"]),
                forces=np.array(labels["forces"], dtype=float),
                group=str(entry.get("group", "")),
                origin=origin,
            )
            stress = labels.get("virial_stress")
            if stress is not None:
                vasp = (symbols[0], frame.group) == ("Si", "Elastic")
                order = _VASP_ORDER if vasp else _LAMMPS_LIKE_ORDER
                frame = replace(
                    frame, virial=_voigt(np.asarray(stress, float)[list(order)], frame)
                )
        except Exception as error:
            # anything may stand where a number or a list should
            raise InputError(f"{origin}: not an mlearn entry ({error!r})") from error
        frames.append(frame)
    return frames


def _voigt(stress: np.ndarray, frame: LabelledFrame) -> np.ndarray:
    """Turn Voigt (xx yy zz yz zx xy) in kbar, positive when compressed, into eV."""
    xx, yy, zz, yz, zx, xy = stress
    tensor = np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])
    return tensor * frame.volume / KBAR


def _read_deepmd(path: Path) -> list[LabelledFrame]:
    if not (path / "type.raw").exists():
        systems = sorted(child for child in path.iterdir() if (child / "type.raw").exists())
        if not systems:
            raise InputError(f"{path}: no type.raw here or one level below")
        return [frame for system in systems for frame in _read_deepmd(system)]
    names_file = path / "type_map.raw"
    if not names_file.exists():
        raise InputError(f"{path}: needs type_map.raw, the chemical symbols of the types")
    try:
        kinds = np.array((path / "type.raw").read_text(encoding="utf-8").split(), dtype=int)
        names = names_file.read_text(encoding="utf-8").split()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: type.raw or type_map.raw: {error}") from error
    wrong = kinds[(kinds < 0) | (kinds >= len(names))]
    if len(wrong):
        raise InputError(f"{path}: type {wrong[0]} has no symbol in type_map.raw")
    symbols = tuple(names[kind] for kind in kinds)
    periodic = np.full(3, not (path / "nopbc").exists())
    frames: list[LabelledFrame] = []
    for folder in sorted(path.glob("set.*")):
        try:
            arrays = {
                name: np.load(folder / f"{name}.npy", allow_pickle=False).astype(float)
                for name in ("coord", "force", "energy", "box", "virial")
                if (folder / f"{name}.npy").exists() or name in ("coord", "force", "energy")
            }
        except Exception as error:
            # a damaged header makes numpy's parser raise anything at all
            raise InputError(f"{folder}: not readable: {error}") from error
        for number in range(len(arrays["coord"])):
            origin = f"{path.name}/{folder.name}, frame {number}"
            try:
                frames.append(
                    LabelledFrame(
                        symbols=symbols,
                        positions=arrays["coord"][number].reshape(-1, 3),
                        cell=arrays["box"][number].reshape(3, 3)
                        if "box" in arrays
                        else np.zeros((3, 3)),
                        periodic=periodic,
                        energy=float(np.ravel(arrays["energy"])[number]),
                        forces=arrays["force"][number].reshape(-1, 3),
                        virial=arrays["virial"][number].reshape(3, 3)
                        if "virial" in arrays
                        else None,
                        group=path.name,
                        origin=origin,
                    )
                )
            except (IndexError, ValueError) as error:
                raise InputError(f"{origin}: {error}") from error
    return frames


def _read_ase(path: Path) -> list[LabelledFrame]:
    import ase.io

    try:
        images: Any = ase.io.read(path, index=":")
    except Exception as error:
        raise InputError(f"{path}: ASE cannot read it: {error}") from error
    frames = []
    for number, atoms in enumerate(images):
        origin = f"{path.name}, frame {number}"
        if atoms.calc is None or not {"energy", "forces"} <= set(atoms.calc.results):
            raise InputError(f"{origin}: has no energy and forces")
        try:
            frames.append(_from_ase(atoms, origin))
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{origin}: a label is no number ({error})") from error
    return frames


def _from_ase(atoms: Atoms, origin: str) -> LabelledFrame:
    virial, results = None, atoms.calc.results  # type: ignore[union-attr]
    if "virial" in atoms.info:
        virial = np.asarray(atoms.info["virial"], float).reshape(3, 3)
    elif "stress" in results and atoms.cell.rank == 3:
        # ASE's stress is dE/dstrain / V.
        virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    return LabelledFrame(
        symbols=tuple(atoms.get_chemical_symbols()),
        positions=atoms.get_positions(),
        cell=np.array(atoms.cell),
        periodic=np.array(atoms.pbc),
        energy=float(atoms.get_potential_energy()),
        forces=np.asarray(atoms.get_forces(apply_constraint=False), float),
        virial=virial,
        group=str(atoms.info.get("group", "")),
        origin=origin,
    )


def _checked(frame: LabelledFrame) -> LabelledFrame:
    count = len(frame.symbols)
    for name in ("positions", "forces"):
        array = getattr(frame, name)
        if array.shape != (count, 3):
            raise InputError(
                f"{frame.origin}: {name} have shape {array.shape}, expected ({count}, 3)"
            )
        bad = np.flatnonzero(~np.isfinite(array).all(1))
        if len(bad):
            raise InputError(f"{frame.origin}, atom {bad[0]}: {name} are not finite")
    if frame.cell.shape != (3, 3) or not np.isfinite(frame.cell).all():
        raise InputError(f"{frame.origin}: the cell is not three finite vectors")
    if not np.isfinite(frame.energy):
        raise InputError(f"{frame.origin}: energy is {frame.energy}")
    for number, symbol in enumerate(frame.symbols):
        if atomic_numbers.get(symbol, 0) == 0:
            raise InputError(f"{frame.origin}, atom {number}: unknown element {symbol!r}")
    return frame


def group_indices(frames: Sequence[LabelledFrame]) -> dict[str, list[int]]:
    """Return the frame numbers of every group."""
    groups: dict[str, list[int]] = {}
    for number, frame in enumerate(frames):
        groups.setdefault(frame.group, []).append(number)
    return groups


def as_state(frames: Sequence[LabelledFrame], species: Sequence[str]) -> ParticleState:
    """Put the configurations side by side, one system each, f64; labels are left out.

    Raises:
        InputError: an element that ``species`` lacks.
    """
    place = {symbol: index for index, symbol in enumerate(species)}
    for frame in frames:
        for number, symbol in enumerate(frame.symbols):
            if symbol not in place:
                raise InputError(
                    f"{frame.origin}, atom {number}: {symbol} is not among "
                    f"{', '.join(species)}"
                )
    sizes = torch.tensor([len(frame.symbols) for frame in frames])
    kinds = [place[symbol] for frame in frames for symbol in frame.symbols]
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    cell = torch.from_numpy(np.stack([frame.cell for frame in frames]))
    systems, atoms = len(frames), len(positions)
    return ParticleState(
        positions=positions,
        momenta=torch.zeros_like(positions),
        masses=positions.new_ones(atoms),
        species=torch.tensor(kinds, dtype=torch.int32),
        system=torch.repeat_interleave(torch.arange(systems), sizes).to(torch.int32),
        cell=cell,
        periodic=torch.from_numpy(np.stack([frame.periodic for frame in frames])),
        energy=positions.new_zeros(systems),
        forces=torch.zeros_like(positions),
        virial=torch.zeros_like(cell),
        anchor=positions,
        anchor_cell=cell,
        step=torch.zeros(systems, dtype=torch.int64),
        seed=torch.zeros(systems, dtype=torch.int64),
    )


__all__ = [
    "LabelledFrame",
    "as_state",
    "group_indices",
    "read_all",
    "read_frames",
    "species_of",
    "split_frames",
]
