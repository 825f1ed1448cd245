"""One reader of labelled configurations, which names what it read and what it left out."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import ase.io
import ase.io.formats
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from ..errors import EngineError, InputError
from ..inputs import check_file_size, files_below, loose_number, number_of, opened
from .claims import disowned, disowned_frames, weightless_stress
from .collections import Collection, read_fitsnap, read_json, read_mlearn, virial
from .consistency import compare
from .deepmd import read_deepmd
from .frames import LabelledFrame, check_frame, group_of, symmetric
from .keys import ENERGY_UNITS, FORCES_UNITS, VOIGT, LabelKeys, tensor
from .stress import settle
from .vasp import converged_steps
from .xyz import SUFFIXES, read_xyz

_NO_ENERGIES = ("lammps-dump-text", "lammps-dump-binary", "lammps-data", "vasp", "cif")
_UNCONVERGED = {
    "espresso-out": b"convergence NOT achieved",
    "aims-output": b"Self-consistency cycle not converged",
}
_WRITTEN = ("extxyz", "xyz", "db", "json", "mlearn", "fitsnap")
"""Formats whose stress is what the author of the file wrote; others define what it is."""

_UNNAMED = ("extxyz", "xyz", "deepmd")
"""Formats that anyone writes, with energies of which no unit is said."""

_ROUNDED = 1e-9
"""Part by which a virial is off a stress times a volume that it was divided by."""

_LARGEST_PRESSURE = 10.0
"""eV/angstrom^3, 1.6 TPa: a number above it is in another unit, unless a key says so."""


@dataclass(frozen=True)
class Reading:
    """What was read of one file or folder.

    Attributes:
        path: what was read.
        format: as which format.
        frames: the labelled configurations.
        energy: which energy it is.
        stress: name, unit, order and sign of the stress, or that there is none.
        left_out: what is there and was not read, and why; one sentence each.
        open_order: the format does not say in which order the shear is.
        keys: how it was read.
    """

    path: Path
    format: str
    frames: tuple[LabelledFrame, ...]
    energy: str = "energy"
    stress: str = "none"
    left_out: tuple[str, ...] = ()
    open_order: bool = False
    keys: LabelKeys = field(default_factory=LabelKeys)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was read, one line each."""
        stresses = sum(frame.virial is not None for frame in self.frames)
        first = (
            f"{self.path.name}: {len(self.frames)} frames ({self.format}); energy: "
            f"{self.energy}; stress: {self.stress}"
        )
        if 0 < stresses < len(self.frames):
            first += f", of {stresses} frames"
        return (first, *(f"{self.path.name}: left out: {text}" for text in self.left_out))


@dataclass(frozen=True)
class _Found:
    """Frames with the sentences of a :class:`Reading`."""

    frames: Sequence[LabelledFrame]
    energy: str = "energy"
    stress: str = "none"
    left_out: tuple[str, ...] = ()
    open_order: bool = False


def read(path: Path, keys: LabelKeys | None = None) -> Reading:
    """Read one file or folder of labelled frames.

    Raises:
        InputError: unreadable, no labels, wrong shapes, or numbers that cannot be meant;
            names the frame and the atom.
    """
    keys = keys or LabelKeys()
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder of labelled frames")
        if not path.is_dir():
            check_file_size(path)
        form = keys.format or format_of(path)
        _check_keys(path, keys, form)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _READERS.get(form, _read_other)(path, keys, form)
    except OSError as error:
        raise InputError(f"{path}: not readable: {error}") from error
    if not found.frames:
        raise InputError(f"{path}: holds no frames")
    frames, left = _without_missing(found.frames)
    frames = [_converted(frame, keys, form) for frame in frames]
    for frame in frames:
        _check_pressure(check_frame(frame), keys)
    unit = f", {keys.energy_unit}" if keys.energy_unit else ""
    if not keys.energy_unit and form in _UNNAMED:
        unit = " (eV assumed: nothing says its unit)"
    unit += f"; forces: {keys.forces_unit}" if keys.forces_unit else ""
    unit += f", {keys.forces_sign}" if keys.forces_sign else ""
    return Reading(
        path,
        form,
        tuple(frames),
        found.energy + unit,
        found.stress,
        found.left_out + left,
        open_order=found.open_order,
        keys=keys,
    )


def _without_missing(
    frames: Sequence[LabelledFrame],
) -> tuple[list[LabelledFrame], tuple[str, ...]]:
    """Return frames without a stress of nothing but NaN, and how many had one."""
    empty = [f.virial is not None and bool(np.isnan(f.virial).all()) for f in frames]
    if not any(empty):
        return list(frames), ()
    first = frames[empty.index(True)].origin
    said = f"the stress of {sum(empty)} frames (first: {first}), which is NaN: missing"
    pairs = zip(frames, empty, strict=True)
    return [replace(f, virial=None) if no else f for f, no in pairs], (said,)


def _converted(frame: LabelledFrame, keys: LabelKeys, form: str) -> LabelledFrame:
    """Return a frame in eV and angstrom; a stress has a unit of its own, but DeePMD's."""
    energy = ENERGY_UNITS[keys.energy_unit or "eV"]
    force = FORCES_UNITS[keys.forces_unit or "eV/angstrom"]
    if keys.forces_sign == "gradient":
        force = -force
    virial = frame.virial
    if virial is not None and form == "deepmd":
        virial = energy * virial
    return replace(
        frame, energy=energy * frame.energy, forces=force * frame.forces, virial=virial
    )


_FIXED = ("energy_key", "forces_key", "stress_key", "stress_order", "stress_unit",
          "stress_sign")  # fmt: skip


def _check_keys(path: Path, keys: LabelKeys, form: str) -> None:
    """Refuse keys that a format has no use for.

    Raises:
        InputError: names the first one.
    """
    unused = _FIXED if form == "deepmd" else ("species",)
    for name in unused:
        if getattr(keys, name):
            raise InputError(
                f"{path}: {name}: has no use for {form}; give it with the file that it is "
                "of"
            )


def compared(reading: Reading) -> list[str]:
    """Return what the forces say of the energies.

    Raises:
        InputError: they contradict each other, and no key says in which units they are.
    """
    keys = reading.keys
    stated = any((keys.energy_unit, keys.forces_unit, keys.forces_sign))
    try:
        said = compare(reading.frames, stated)
    except ValueError as error:
        raise InputError(f"{reading.path}: {error}") from error
    return [f"{reading.path.name}: {text}" for text in said]


def verified(reading: Reading) -> tuple[Reading, list[str]]:
    """Return a set whose stress fits its energies and forces, and what was found.

    Raises:
        InputError: it does not fit, or the order is open and cannot be told.
    """
    keys = reading.keys
    given = (keys.stress_order, keys.stress_unit, keys.stress_sign)
    defined = all(given) or reading.format not in _WRITTEN
    try:
        frames, said = settle(reading.frames, reading.open_order, any(given), defined)
    except ValueError as error:
        raise InputError(f"{reading.path}: {error}") from error
    said = [f"{reading.path.name}: {text}" for text in said]
    return replace(reading, frames=tuple(frames)), said


def read_frames(path: Path, keys: LabelKeys | None = None) -> list[LabelledFrame]:
    """Return the frames of :func:`read` alone."""
    return list(read(path, keys).frames)


def read_all(paths: Iterable[Path]) -> list[LabelledFrame]:
    """Read several files or folders and join their frames."""
    return [frame for path in paths for frame in read_frames(path)]


def format_of(path: Path) -> str:
    """Return the format that a file or folder has, from its content.

    Raises:
        InputError: it shows none.
    """
    if path.is_dir():
        names = [file.name for file in files_below(path)]
        if "type.raw" in names:
            return "deepmd"
        if any(name.endswith(".json") for name in names):
            return "fitsnap"
        raise InputError(
            f"{path}: a folder with neither DeePMD's type.raw nor FitSNAP's JSON files"
        )
    if path.suffix in (".h5", ".hdf5"):
        return "deepmd"
    plain = path.with_suffix("") if path.suffix in (".gz", ".bz2", ".xz") else path
    if plain.suffix in SUFFIXES:
        return "extxyz"
    with opened(path) as file:
        head = file.read(4096)
    if b"Properties=" in head and head.split(maxsplit=1)[0].isdigit():
        return "extxyz"
    for form, marks in _MARKS.items():
        if all(mark in head for mark in marks):
            return form
    if path.suffix == ".json" or head.lstrip()[:1] in (b"[", b"{"):
        return _json_format(path, head)
    try:
        form = str(ase.io.formats.filetype(str(path)))
    except Exception:
        form = ""
    if form not in ase.io.formats.ioformats:
        form = _shape(head)
    if not form:
        raise InputError(
            f"{path}: its format is not recognised; name it with the key format (extxyz, "
            "vasp-xml, vasp-out, espresso-out, aims-output, cp2k/output, db, of structures "
            "vasp, cif, lammps-data, ...)"
        )
    return form


_MARKS = {
    "lammps-dump-text": (b"ITEM: TIMESTEP",),
    "lammps-data": (b"xlo xhi", b"atoms"),
    "vasp-out": (b" vasp.", b"executed on"),
    "vasp-xml": (b"<modeling>", b"<generator>"),
    "cp2k/output": (b" CP2K| version string",),
    "db": (b"SQLite format 3\0",),
}
"""What stands at the beginning of a file of a format, whatever its name."""


def _shape(head: bytes) -> str:
    """Return the format that the first lines have the shape of, or nothing."""
    lines = head.decode("latin-1").splitlines()
    numbers = [[number_of(word) for word in line.split()] for line in lines[:5]]
    sizes = [len(row) if row and not np.isnan(row).any() else 0 for row in numbers]
    if sizes[:1] == [1] and lines[0].strip().isdecimal():
        return "extxyz"
    if sizes[1:] in ([1, 3, 3, 3], [3, 3, 3, 3]):
        return "vasp"
    if any(line.startswith("data_") for line in lines) and b"_cell_" in head:
        return "cif"
    protein = ("CRYST1", "ATOM  ", "HETATM")
    return "proteindatabank" if any(line.startswith(protein) for line in lines) else ""


def _json_format(path: Path, head: bytes) -> str:
    content = read_json(path)
    if isinstance(content, dict):
        return "fitsnap" if "Dataset" in content else "json"
    return "mlearn"


def _deepmd(path: Path, keys: LabelKeys, form: str) -> _Found:
    frames, rest, left = read_deepmd(path, keys)
    said = _virials(frames, "virial.npy, eV")
    return _Found(frames, "energy.npy", said, (*left, *_left("arrays ", rest)))


def _left(what: str, rest: Iterable[str]) -> tuple[str, ...]:
    names = ", ".join(sorted(rest))
    return (f"{what}{names}: not labels of a potential",) if names else ()


def _virials(frames: Sequence[LabelledFrame], said: str) -> str:
    return said if any(frame.virial is not None for frame in frames) else "none"


def _convention(keys: LabelKeys, name: str, unit: str, order: str, sign: str) -> str:
    return (
        f"{keys.stress_key or name}, {keys.stress_unit or unit}, "
        f"{keys.stress_order or order}, positive in {keys.stress_sign or sign}"
    )


def _mlearn(path: Path, keys: LabelKeys, form: str) -> _Found:
    order = "an order that differs between groups of this benchmark"
    return _collected(read_mlearn(path, keys), keys, _MLEARN, order)


def _fitsnap(path: Path, keys: LabelKeys, form: str) -> _Found:
    return _collected(read_fitsnap(path, keys), keys, _FITSNAP, "an order nobody says")


_MLEARN, _FITSNAP = ("energy", "virial_stress"), ("Energy", "Stress")


def _collected(
    found: Collection, keys: LabelKeys, names: tuple[str, str], order: str
) -> _Found:
    energy, stress = names
    unit = " in some files, ".join(sorted(found.units))
    order = order if found.six else "nine components"
    said = _convention(keys, stress, unit, order, "compression")
    return _Found(
        found.frames,
        keys.energy_key or energy,
        _virials(found.frames, said),
        (*found.left_out, *_left("", found.unused)),
        open_order=found.six,
    )


def _xyz(path: Path, keys: LabelKeys, form: str) -> _Found:
    return _from_images(path, read_xyz(path), keys)


def _vasp(path: Path, keys: LabelKeys, form: str) -> _Found:
    """Read the steps whose electrons converged; TOTEN, whose derivative the forces are."""
    images = _images(path, form)
    fine = converged_steps(path, form)
    left: tuple[str, ...] = ()
    if len(fine) < len(images):
        images = images[: len(fine)]
    bad = [number for number, good in enumerate(fine[: len(images)]) if not good]
    if bad:
        images = [atoms for atoms, good in zip(images, fine, strict=False) if good]
        left += (
            f"{len(bad)} ionic steps (first: {bad[0]}) whose electrons did not converge",
        )
    if len(fine) > len(images) + len(bad):
        left += (f"{len(fine) - len(images) - len(bad)} steps at the end, not complete",)
    if not images:
        raise InputError(
            f"{path}: no ionic step with converged electrons; {''.join(left[:1])}"
        )
    found = _from_images(path, images, keys)
    return replace(found, left_out=left + found.left_out)


def _read_other(path: Path, keys: LabelKeys, form: str) -> _Found:
    if form in _NO_ENERGIES:
        raise InputError(f"{path}: the format {form} holds no energies, so no labels")
    if "/" in form:
        images, left = _dpdata(path, form)
        found = _from_images(path, images, keys)
        return replace(found, left_out=(*left, *found.left_out))
    if mark := _UNCONVERGED.get(form):
        with opened(path) as file:
            bad = sum(mark in line for line in file)
        if bad:
            raise InputError(
                f"{path}: {bad} self-consistency cycles did not converge; remove their "
                "steps from the file"
            )
    if form == "espresso-out":
        _check_numbered(path)
    return _from_images(path, _images(path, form), keys)


_NUMBERED = re.compile(rb"^ +atom +(\d+) +type +\d+ +force =|^ +\d+ +\S+ +tau\( *(\d+)\)")


def _check_numbered(path: Path) -> None:
    """Refuse an output of Quantum ESPRESSO whose atoms, or numbers, are not in order.

    Raises:
        InputError: names the line; ASE counts lines and reads no numbers.
    """
    last, most = 0, 0
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if found := _NUMBERED.match(line):
                if word := loose_number(line.decode("latin-1")):
                    raise InputError(f"{path}: line {number}: {word} is no number")
                atom = int(found.group(1) or found.group(2))
                if atom not in (1, last + 1) or (atom == 1 and 0 < last < most):
                    raise InputError(
                        f"{path}: line {number}: atom {atom} stands after {last}"
                    )
                last, most = atom, max(most, atom)


_READERS: dict[str, Callable[[Path, LabelKeys, str], _Found]] = {
    "deepmd": _deepmd,
    "mlearn": _mlearn,
    "fitsnap": _fitsnap,
    "extxyz": _xyz,
    "xyz": _xyz,
    "vasp-xml": _vasp,
    "vasp-out": _vasp,
}


def _images(path: Path, form: str) -> list[Atoms]:
    if form not in ase.io.formats.ioformats:
        raise InputError(
            f"format: {form} is unknown; allowed are {', '.join(_READERS)}, the formats of "
            "ASE (espresso-out, aims-output, ...) and dpdata's (cp2k/output, ...)"
        )
    try:
        if form in ("db", "json"):
            found: Any = read_database(path, form)
        else:
            found = ase.io.read(path, index=":", format=form)
    except Exception as error:
        # readers raise anything at all; whatever it is, the file is not readable
        kind, text = type(error).__name__, str(error).splitlines()
        reason = text[0] if text and " " in text[0] else ": ".join([kind, *text[:1]])
        if isinstance(error, AssertionError) and not text:
            reason = "its parts contradict each other"
        if missing := _missing(path, form):
            reason += f"; it has no {', '.join(missing)}"
        raise InputError(
            f"{path}: ASE cannot read it as {form}: {reason}; another format is named with "
            "the key format"
        ) from error
    return [_with_tensor(atoms) for atoms in found]


def read_database(path: Path, form: str) -> list[Atoms]:
    """Return the rows of a database of ASE (``db`` or ``json``), whatever its name."""
    from ase.db import connect

    opened_db: Any = connect(path, type=form)
    with opened_db as database:
        rows = database.select()
        return [row.toatoms(add_additional_information=True) for row in rows]


_NEEDED = {
    "vasp-out": {
        "elements (VRHFIN)": b"VRHFIN",
        "numbers of atoms (ions per type)": b"ions per type",
        "lattice vectors": b"direct lattice vectors",
        "forces (TOTAL-FORCE)": b"TOTAL-FORCE",
        "free energy (TOTEN)": b"free  energy   TOTEN",
    },
    "espresso-out": {
        "lattice parameter (alat)": b"lattice parameter (alat)",
        "crystal axes": b"crystal axes:",
        "positions (site n.)": b"site n.",
        "total energy (!)": b"!    total energy",
        "forces (Forces acting on atoms)": b"Forces acting on atoms",
    },
}
"""Name and mark of what ASE cannot do without."""


def _missing(path: Path, form: str) -> list[str]:
    """Return the names of what an output lacks, so that ASE cannot read it."""
    marks = _NEEDED.get(form, {})
    if not marks:
        return []
    with opened(path) as file:
        content = file.read()
    return [name for name, mark in marks.items() if mark not in content]


def _with_tensor(atoms: Atoms) -> Atoms:
    """Replace a stress in ASE's order by its tensor, which no key can take amiss."""
    results = atoms.calc.results if atoms.calc is not None else {}
    if np.size(results.get("stress", ())) == 6:
        results["stress"] = tensor(results["stress"], VOIGT)
    return atoms


def _dpdata(path: Path, form: str) -> tuple[list[Atoms], list[str]]:
    """Read a format of dpdata; kinds of atoms are elements, and named.

    Raises:
        InputError: it cannot, or takes another energy than the forces belong to (VASP,
            FHI-aims).
        EngineError: dpdata is not installed.
    """
    if form.startswith("vasp/"):
        raise InputError("format: vasp-xml or vasp-out, whose energies fit the forces")
    if form.startswith("fhi_aims/"):
        raise InputError("format: aims-output, whose energies fit the forces")
    try:
        import dpdata
    except ImportError as error:
        raise EngineError(
            "dpdata is not installed: pip install 'scalebridge[deepmd]'"
        ) from error
    try:
        system: Any = dpdata.LabeledSystem(str(path), fmt=form)
        if not len(system):
            raise ValueError("it finds no step that has labels and converged")
        kinds = list(system.data["atom_names"])
        system.data["atom_names"] = elements = [_element(kind) for kind in kinds]
        images = [_with_tensor(atoms) for atoms in system.to("ase/structure")]
    except Exception as error:
        raise InputError(f"{path}: dpdata cannot read it as {form}: {error}") from error
    named = [f"{k} as {e}" for k, e in zip(kinds, elements, strict=True) if k != e]
    return images, [f"kinds of atoms: {', '.join(named)}"] if named else []


def _element(kind: str) -> str:
    """Return the element of a kind of atoms, such as Fe of Fe1 and Fe2 with other spins.

    Raises:
        ValueError: its name is not that of an element and something after it.
    """
    found = re.fullmatch(r"([A-Z][a-z]?)([^A-Za-z].*)?", kind)
    if found is None or not atomic_numbers.get(found[1]):
        raise ValueError(f"the kind {kind!r} of atoms names no element")
    return found[1]


@dataclass(frozen=True)
class _Names:
    """Which entries of an image are its labels."""

    energy: str
    forces: str
    stress: str | None
    also: tuple[str, ...] = ()


def _entries(atoms: Atoms, origin: str) -> dict[str, Any]:
    """Return all that an image holds by name.

    Raises:
        InputError: a label stands in two places, with two values.
    """
    results = atoms.calc.results if atoms.calc is not None else {}
    names = ("data", "key_value_pairs")  # of a database of ASE
    rows = [row for name in names if isinstance(row := atoms.info.get(name), dict)]
    found: dict[str, Any] = {}
    for place in (*rows, atoms.info, atoms.arrays, results):
        for key in found.keys() & place.keys():
            label = any(part in str(key).lower() for part in _LABELS)
            if label and not np.array_equal(np.ravel(found[key]), np.ravel(place[key])):
                raise InputError(f"{origin}: {key} stands in two places, and differs")
        found.update(place)
    return found


_LABELS = ("energy", "force", "stress", "virial")


def _names(path: Path, number: int, entries: dict[str, Any], keys: LabelKeys) -> _Names:
    """Choose the labels of an image.

    Raises:
        InputError: energy or forces are missing; lists what is there.
    """
    energies = [keys.energy_key] if keys.energy_key else ["free_energy", "energy"]
    forces = [keys.forces_key] if keys.forces_key else ["forces"]
    stresses = [keys.stress_key] if keys.stress_key else ["stress", "virial", "virials"]
    chosen = []
    for what, wanted in (("energy", energies), ("forces", forces)):
        here = [name for name in wanted if name in entries]
        if not here:
            there = sorted(set(map(str, entries)) - {"numbers", "positions"})
            raise InputError(
                f"{path.name}, frame {number}: has no {' or '.join(wanted)}; it has "
                f"{', '.join(there) or 'no labels at all'}; name it with {what}_key"
            )
        chosen.append(here[0])
    here = [name for name in stresses if name in entries]
    also = tuple(n for n in ("free_energy", "energy") if n in entries and n != chosen[0])
    return _Names(chosen[0], chosen[1], here[0] if here else None, also)


def _settled(path: Path, images: Sequence[Atoms]) -> tuple[list[int], list[str]]:
    """Return the numbers of the images whose labels their file does not disown.

    Raises:
        InputError: it disowns all of them.
    """
    said = [
        (number, disowned(_entries(atoms, f"{path.name}, frame {number}")))
        for number, atoms in enumerate(images)
    ]
    return [k for k, why in said if why is None], disowned_frames(path, said)


_OURS = ("ev", "ev/angstrom", "ev/a", "ev/ang", "ev/angstrom^3", "angstrom", "ang", "a",
         "ev/a^3", "metal", "ase")  # fmt: skip
"""Units, or systems of units, in which energies, forces and lengths are read."""

_MEASURED = (*_LABELS, "length", "position", "cell", "lattice")
"""Parts of the names of what is read in them."""

_UNIT = re.compile(r"units?$|^units?_(?!cell)")
"""In the name of an entry that says in which unit another is."""


def check_units(entries: dict[str, Any], keys: LabelKeys, origin: str) -> None:
    """Refuse a frame that says that its numbers are in other units."""
    for key, value in entries.items():
        name, said = str(key).lower(), str(value).strip().lower()
        if not _UNIT.search(name) or said in _OURS:
            continue
        stated = (keys.energy_unit, keys.forces_unit, keys.stress_unit)
        if any(
            what in name and said == str(unit).lower()
            for what, unit in zip(("energy", "force", "stress"), stated, strict=True)
        ):
            continue
        if name in ("unit", "units") or any(part in name for part in _MEASURED):
            raise InputError(
                f"{origin}: {key} is {value}; numbers are read in eV and angstrom, or in "
                "what energy_unit, forces_unit and stress_unit say"
            )


def check_elements(atoms: Atoms, origin: str) -> None:
    """Refuse atomic numbers that no element has."""
    numbers = np.asarray(atoms.numbers)
    wrong = numbers[(numbers < 0) | (numbers >= len(chemical_symbols))]
    if len(wrong):
        raise InputError(f"{origin}: no element has the atomic number {wrong[0]}")


def _real(entries: Mapping[str, Any], name: str) -> np.ndarray:
    """Return the numbers of an entry in f64.

    Raises:
        ValueError: flags or words.
    """
    value = entries[name]
    if np.asarray(value).dtype.kind == "b":
        raise ValueError(f"{name} is {value}; true and false are no numbers")
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} is {str(value)[:60]!r}, which is no number; leave the frame out, or "
            "name another with the keys"
        ) from None


def _single(entries: Mapping[str, Any], name: str) -> float:
    """Return the one number of an entry.

    Raises:
        ValueError: it has several.
    """
    value = _real(entries, name)
    if value.size != 1:
        raise ValueError(f"{name} is {entries[name]}, which is no number but {value.size}")
    return float(value.ravel()[0])


_STRUCTURE = {"numbers", "positions", "group", "data", "key_value_pairs",
              "unique_id"}  # fmt: skip
"""Entries of a frame that are read and are no labels."""


def _from_images(path: Path, images: Sequence[Atoms], keys: LabelKeys) -> _Found:
    frames, names, others, differ = [], [], set(), 0
    fine, left = _settled(path, images)
    for number in fine:
        atoms = images[number]
        origin = f"{path.name}, frame {number}"
        entries = _entries(atoms, origin)
        name = _names(path, number, entries, keys)
        check_units(entries, keys, origin)
        try:
            frames.append(_frame(atoms, entries, name, keys, origin))
            differ += any(
                abs(_single(entries, n) - frames[-1].energy) > 1e-8 for n in name.also
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{origin}: {error}") from error
        names.append(name)
        used = {name.energy, name.forces, name.stress, *name.also}
        if "group" not in entries:
            used.add("config_type")
        if name.stress == "stress" and keys.stress_key is None:
            both = ("virial", "virials")  # compared with it
            used |= {other for other in both if np.size(entries.get(other, ())) == 9}
        others |= set(map(str, entries)) - _STRUCTURE - used
    if keys.stress_key and all(n.stress is None for n in names):
        raise InputError(
            f"{path}: no frame has {keys.stress_key}; there are "
            f"{', '.join(sorted(others)) or 'no others'}"
        )
    if differ:
        left.append(f"{names[0].also[0]}, which differs from {names[0].energy}")
    mixed = {n.energy for n in names}
    if len(mixed) > 1:
        raise InputError(
            f"{path}: some frames have {' and some '.join(sorted(mixed))}; choose with "
            "energy_key"
        )
    if others:
        left.append(f"{', '.join(sorted(others))}: not labels of a potential")
    pairs = list(zip(frames, names, strict=True))
    stresses = {n.stress for f, n in pairs if f.virial is not None}
    flat = sum(f.virial is None and n.stress is not None for f, n in pairs)
    if flat:
        left.append(
            f"the stress of {flat} frames, which have no cell with a volume, or weigh 0"
        )
    said = "none"
    if stresses:
        said = "; ".join(_said(str(name), keys) for name in sorted(map(str, stresses)))
    return _Found(frames, names[0].energy if names else "", said, tuple(left))


def _said(name: str, keys: LabelKeys) -> str:
    unit = _unit(name, keys)
    return _convention(keys, name, unit, VOIGT, _sign(unit))


def _unit(name: str, keys: LabelKeys) -> str:
    """Return the unit of a label: eV of a virial, which its name or the keys call so."""
    return keys.stress_unit or ("eV" if "virial" in name.lower() else "eV/angstrom^3")


def _sign(unit: str) -> Literal["tension", "compression"]:
    """Return in which state labels are positive: a virial is -volume times the stress."""
    return "compression" if unit == "eV" else "tension"


def _frame(
    atoms: Atoms, entries: dict[str, Any], names: _Names, keys: LabelKeys, origin: str
) -> LabelledFrame:
    forces = _real(entries, names.forces)
    check_elements(atoms, origin)
    frame = LabelledFrame(
        symbols=tuple(atoms.get_chemical_symbols()),
        positions=atoms.get_positions(),
        cell=np.array(atoms.cell),
        periodic=np.array(atoms.pbc),
        energy=_single(entries, names.energy),
        forces=forces,
        group=group_of(entries),
        origin=origin,
    )
    if names.stress is None:
        return frame
    return replace(frame, virial=_virial(frame, entries, names.stress, keys))


def _virial(
    frame: LabelledFrame, entries: dict[str, Any], name: str, keys: LabelKeys
) -> np.ndarray | None:
    """Return the virial of a labelled stress or virial; both must agree where both are.

    Raises:
        InputError: of another shape, not symmetric, or the two disagree.
    """
    values = _real(entries, name)
    if values.size not in (6, 9):
        raise InputError(f"{frame.origin}: {name} has {values.size} numbers, not 6 or 9")
    plain, told = name == "stress", keys.stress_unit and keys.stress_sign
    if not told and not re.search("stress|virial", name.lower()):
        raise InputError(
            f"{frame.origin}: {name}: say what it is with stress_unit and stress_sign"
        )
    if values.size == 6 and not plain and keys.stress_order is None:
        raise InputError(
            f"{frame.origin}: {name} has six numbers; say in which order with stress_order"
        )
    if abs(np.linalg.det(frame.cell)) < 1e-9 or weightless_stress(entries):
        return None
    if np.isnan(values).all():
        return np.full((3, 3), np.nan)
    if not np.isfinite(values).all():
        raise InputError(
            f"{frame.origin}: {name} is {values.ravel().tolist()}, in part not finite; "
            "mend it, or leave the key out of the frame"
        )
    unit = _unit(name, keys)
    signed = keys.model_copy(update={"stress_sign": keys.stress_sign or _sign(unit)})
    full = virial(values, signed, frame.cell, unit, VOIGT)
    size = np.abs(full).max()
    if not symmetric(full):
        raise InputError(f"{frame.origin}: {name} is not symmetric")
    for other in ("virial", "virials"):
        if plain and keys.stress_key is None and np.size(entries.get(other, ())) == 9:
            whole = np.asarray(entries[other], float).reshape(3, 3)
            apart = np.abs(whole - full).max()
            if apart < _ROUNDED * size:
                return whole  # one of them was made of the other: the volume drops out
            if apart > 0.02 * size + 1e-4:
                raise InputError(
                    f"{frame.origin}: {other} is not -volume times stress (by {apart:.3g} "
                    "eV); choose one with stress_key"
                )
    return 0.5 * (full + full.T)


def _check_pressure(frame: LabelledFrame, keys: LabelKeys) -> None:
    if frame.virial is None or keys.stress_unit is not None or frame.volume < 1e-9:
        return
    largest = float(np.abs(frame.virial).max()) / frame.volume
    if largest > _LARGEST_PRESSURE:
        raise InputError(
            f"{frame.origin}: a stress of {largest:.3g} eV/angstrom^3 is "
            f"{160 * largest:.3g} GPa; say in which unit it is with stress_unit"
        )


__all__ = [
    "Reading",
    "check_elements",
    "check_units",
    "compared",
    "format_of",
    "read",
    "read_all",
    "read_database",
    "read_frames",
    "verified",
]
