"""DeePMD-kit systems: folders of npy, standard and mixed type, or one HDF5 file."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..inputs import check_expansion, check_file_size, files_below, number_of
from .claims import disowned, disowned_frames
from .frames import LabelledFrame
from .keys import LabelKeys

_READ = ("coord", "force", "energy", "box", "virial", "real_atom_types")


@dataclass(frozen=True)
class _Place:
    """A system: a folder, or a group of an HDF5 file; both hold texts and arrays."""

    name: str
    node: Any

    def holds(self, name: str) -> bool:
        """Tell whether there is such an entry."""
        return name in self.node if not self.folder else (self.node / name).exists()

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return isinstance(self.node, Path)

    def words(self, name: str) -> list[str]:
        """Return the words of a text."""
        if self.folder:
            return (self.node / name).read_text(encoding="utf-8-sig").split()
        return [
            v.decode() if isinstance(v, bytes) else str(v)
            for v in np.ravel(self.node[name][()])
        ]

    def sets(self) -> list[str]:
        """Return the names of the parts."""
        names = [p.name for p in self.node.iterdir()] if self.folder else list(self.node)
        return sorted(name for name in names if name.startswith("set."))

    def arrays(self, part: str) -> dict[str, np.ndarray]:
        """Return the arrays of a part that are read."""
        if self.folder:
            files = {p.stem: p for p in (self.node / part).glob("*.npy")}
            return {k: np.load(p, allow_pickle=False) for k, p in files.items()}
        for name, array in self.node[part].items():
            held = array.id.get_storage_size()
            check_expansion(f"{self.name}/{part}/{name}", array.nbytes, held)
        return {k.removesuffix(".npy"): v[()] for k, v in self.node[part].items()}


def read_deepmd(
    path: Path, keys: LabelKeys
) -> tuple[list[LabelledFrame], set[str], list[str]]:
    """Read all systems below ``path``.

    Returns:
        The frames, names of arrays that are there and not read, and what is said of frames
        left out.

    Raises:
        InputError: missing or damaged arrays, or some of another length.
    """
    frames: list[LabelledFrame] = []
    rest: set[str] = set()
    claims: list[tuple[str, str | None]] = []
    try:
        for place in _systems(path):
            found, other, said = _read_system(place, keys)
            frames += [f for f, (_, why) in zip(found, said, strict=True) if why is None]
            rest |= other
            claims += said
    except InputError:
        raise
    except Exception as error:
        # a damaged header makes the parsers of npy and HDF5 raise anything at all
        raise InputError(f"{path}: not readable: {error}") from error
    return frames, rest, disowned_frames(path, claims)


def _systems(path: Path) -> Iterator[_Place]:
    if path.is_dir():
        found = [file.parent for file in files_below(path) if file.name == "type.raw"]
        if not found:
            raise InputError(f"{path}: no DeePMD system (type.raw) here or below")
        yield from (_Place(folder.name, folder) for folder in found)
        return
    import h5py

    with h5py.File(path) as file:
        groups: list[str] = []
        file.visit(lambda name: groups.append(name) if name.endswith("type.raw") else None)
        if not groups:
            raise InputError(f"{path}: holds no DeePMD system (type.raw)")
        for name in sorted(groups):
            stem = name.removesuffix("type.raw").strip("/")
            yield _Place(stem or path.stem, file[stem] if stem else file)


def _read_system(
    place: _Place, keys: LabelKeys
) -> tuple[list[LabelledFrame], set[str], list[tuple[str, str | None]]]:
    if place.folder:
        for file in files_below(place.node):
            if file.suffix == ".npy":
                check_file_size(file)
    names = _names(place, keys)
    kinds = np.array([_whole(word, place.name) for word in place.words("type.raw")], int)
    parts = place.sets()
    if not parts:
        raise InputError(f"{place.name}: type.raw, but no set.000")
    frames: list[LabelledFrame] = []
    rest: set[str] = set()
    claims: list[tuple[str, str | None]] = []
    for part in parts:
        arrays = place.arrays(part)
        origin = f"{place.name}/{part}"
        others = {k: np.atleast_1d(v) for k, v in arrays.items() if k not in _READ}
        rest |= set(others)
        _check_lengths(origin, arrays, len(kinds))
        if "box" not in arrays and not place.holds("nopbc"):
            raise InputError(f"{origin}: no box.npy, and no nopbc that says there is none")
        types = arrays.get("real_atom_types")
        if types is not None and not np.array_equal(types, np.round(types)):
            raise InputError(f"{origin}: real_atom_types holds numbers that are not whole")
        if types is not None and kinds.any():
            _check_types(origin, kinds, types.reshape(-1, len(kinds)), len(names))
        for number in range(len(arrays["coord"])):
            mine = kinds if types is None else types[number].astype(int)
            name = f"{origin}, frame {number}"
            frames.append(_frame(place, names, arrays, mine, number, name))
            said = {k: v[number] for k, v in others.items() if len(v) > number}
            claims.append((name, disowned(said)))
    return frames, rest, claims


def _whole(word: str, name: str) -> int:
    number = number_of(word)
    if number != np.round(number):
        raise InputError(f"{name}: type.raw: {word!r} is no whole number")
    return int(number)


def _check_types(origin: str, kinds: np.ndarray, types: np.ndarray, names: int) -> None:
    """Refuse a type.raw that is neither all 0, a placeholder, nor that of every frame."""
    other = (types != kinds) & (types >= 0) & (types < names)
    wrong = np.flatnonzero(other.any(1))
    if len(wrong):
        atom = int(np.flatnonzero(other[wrong[0]])[0])
        raise InputError(
            f"{origin}, frame {wrong[0]}: atom {atom} is of type "
            f"{types[wrong[0], atom]} in real_atom_types, of {kinds[atom]} in type.raw; "
            "one of them is wrong (a type.raw of zeros says nothing)"
        )


def _names(place: _Place, keys: LabelKeys) -> list[str]:
    if place.holds("type_map.raw"):
        names = place.words("type_map.raw")
        if len(set(names)) < len(names):
            raise InputError(f"{place.name}: type_map.raw names an element twice: {names}")
        if keys.species and list(keys.species) != names:
            raise InputError(
                f"{place.name}: species are {', '.join(keys.species)}, type_map.raw has "
                f"{', '.join(names)}"
            )
        return names
    if keys.species:
        return list(keys.species)
    raise InputError(
        f"{place.name}: needs type_map.raw, the chemical symbols of the types, or the key "
        "species"
    )


def _check_lengths(origin: str, arrays: dict[str, np.ndarray], atoms: int) -> None:
    for name in ("coord", "energy", "force"):
        if name not in arrays:
            raise InputError(
                f"{origin}: no {name}.npy; there are {', '.join(sorted(arrays))}"
            )
    frames = len(np.atleast_1d(arrays["coord"]))
    shapes = {
        "coord": (atoms, 3), "force": (atoms, 3), "energy": (1,), "box": (3, 3),
        "virial": (3, 3), "real_atom_types": (atoms,),
    }  # fmt: skip
    for name, shape in shapes.items():
        width = math.prod(shape)
        if name not in arrays:
            continue
        array = arrays[name]
        if array.dtype.kind not in "fiu":
            raise InputError(f"{origin}: {name}.npy holds {array.dtype}, no numbers")
        if array.ndim == 0 or len(array) != frames:
            raise InputError(
                f"{origin}: coord has {frames} frames, {name} has "
                f"{len(np.atleast_1d(array))}"
            )
        if array.size != frames * width:
            raise InputError(
                f"{origin}: {name} has {array.size // max(frames, 1)} numbers in a frame, "
                f"expected {width}"
            )
        if array.shape[1:] not in ((), (width,), shape):
            raise InputError(f"{origin}: {name} has shape {array.shape[1:]}, not {shape}")
        _check_digits(origin, name, array, atoms)


def _check_digits(origin: str, name: str, array: np.ndarray, atoms: int) -> None:
    """Refuse energies and positions in a precision that cannot hold them."""
    finest = {"energy": 1e-3 * atoms, "coord": 1e-3}.get(name, math.inf)
    if array.dtype.kind == "f" and array.size:
        step = float(np.spacing(np.abs(array).max()))
        if step > finest:
            raise InputError(
                f"{origin}: {name}.npy holds {array.dtype}, whose steps are {step:.2g} "
                "here; too coarse"
            )


def _frame(
    place: _Place,
    names: list[str],
    arrays: dict[str, np.ndarray],
    kinds: np.ndarray,
    number: int,
    origin: str,
) -> LabelledFrame:
    """Make one frame; type -1 of a mixed system is padding, no atom."""
    real = kinds != -1 if "real_atom_types" in arrays else np.ones(len(kinds), bool)
    wrong = kinds[real & ((kinds < 0) | (kinds >= len(names)))]
    if len(wrong):
        raise InputError(f"{origin}: type {wrong[0]} has no symbol among {names}")

    def at(name: str, *shape: int) -> np.ndarray:
        return arrays[name][number].astype(float).reshape(shape)

    forces = at("force", -1, 3)
    if real.any() and np.nan_to_num(forces[~real]).any():
        raise InputError(f"{origin}: a force on padding (type -1), which is no atom")
    return LabelledFrame(
        symbols=tuple(names[kind] for kind in kinds[real]),
        positions=at("coord", -1, 3)[real],
        cell=at("box", 3, 3) if "box" in arrays else np.zeros((3, 3)),
        periodic=np.full(3, not place.holds("nopbc")),
        energy=float(np.ravel(arrays["energy"][number])[0]),
        forces=forces[real],
        virial=at("virial", 3, 3) if "virial" in arrays else None,
        group=place.name,
        origin=origin,
    )


__all__ = ["read_deepmd"]
