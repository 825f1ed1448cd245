"""Sets of labels in JSON: the mlearn benchmark's and FitSNAP's.

Sources: Zuo et al., J. Phys. Chem. A 124, 731 (2020); Rohskopf et al., JOSS 8, 5118 (2023).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..inputs import check_file_size, files_below, text_lines
from .claims import disowned, disowned_frames
from .frames import LabelledFrame
from .keys import LAMMPS, UNITS, LabelKeys, tensor

_STYLES = {
    "PositionsStyle": ("angstrom",),
    "LatticeStyle": ("angstrom",),
    "EnergyStyle": ("electronvolt",),
    "ForcesStyle": ("electronvoltperangstrom",),
    "AtomTypeStyle": ("chemicalsymbol",),
}
"""Units of FitSNAP that are read; a file in others is refused."""

_KILOBAR = ("kB", "kb")
"""FitSNAP's own names of the kilobar."""


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; lines that begin with # are remarks.

    Raises:
        InputError: not readable, or a key that stands twice in one place.
    """
    try:
        text = "".join(x for x in text_lines(path) if not x.startswith("#"))
        return json.loads(text, object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one place")
    return found


def _numbers(values: Any) -> np.ndarray:
    """Return nested lists of numbers as an array; true, words and null are none."""
    array = np.array(values, dtype=object)
    if wrong := set(map(type, array.ravel())) - {int, float}:
        raise ValueError(f"{sorted(kind.__name__ for kind in wrong)[0]} for a number")
    return array.astype(float)


_MLEARN = {"structure", "outputs", "group", "tag", "description", "num_atoms"}
_MLEARN_LABELS = ("energy", "forces", "virial_stress")
_FITSNAP_LABELS = ("Energy", "Forces", "Stress")
_FITSNAP = {"Positions", "AtomTypes", "Lattice", "NumAtoms"}
"""Keys of an entry besides its labels."""


@dataclass(frozen=True)
class Collection:
    """What was read of JSON.

    Attributes:
        frames: the labelled configurations.
        unused: names of what is there and not used.
        left_out: sentences about frames that are left out.
        units: of the stress.
        six: whether a stress has six numbers, which have an order.
    """

    frames: list[LabelledFrame]
    unused: set[str]
    left_out: list[str]
    units: set[str]
    six: bool = False


def read_mlearn(path: Path, keys: LabelKeys) -> Collection:
    """Read the configurations of mlearn; their stress is in kbar, positive if compressed.

    Raises:
        InputError: not such a file; names the frame.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a list of configurations")
    frames, rest, claims, six = [], set(), [], False
    for number, entry in enumerate(entries):
        origin = f"{path.name}, frame {number}"
        try:
            claims.append((number, disowned({**entry, **entry["outputs"]})))
            if claims[-1][1] is not None:
                continue
            frames.append(_mlearn(entry, keys, origin))
            labels = keys.energy_key, keys.forces_key, keys.stress_key
            known = {a or b for a, b in zip(labels, _MLEARN_LABELS, strict=True)}
            stress = entry["outputs"].get(keys.stress_key or "virial_stress")
            six = six or np.size(stress) == 6
            rest |= (entry.keys() - _MLEARN) | (entry["outputs"].keys() - known)
            sites = entry["structure"]["sites"]
            rest |= {name for site in sites for name in site.get("properties") or ()}
            rest |= {"charge"} if entry["structure"].get("charge") else set()
        except Exception as error:
            # anything may stand where a number or a list should
            raise InputError(f"{origin}: not an mlearn entry ({error!r})") from error
    return Collection(frames, rest, disowned_frames(path, claims), {"kbar"}, six)


def _mlearn(entry: Any, keys: LabelKeys, origin: str) -> LabelledFrame:
    structure, labels = entry["structure"], entry["outputs"]
    sites, lattice = structure["sites"], structure["lattice"]
    for site in sites:
        if len(site["species"]) != 1 or site["species"][0].get("occu", 1) != 1:
            raise ValueError("a site that is partly occupied")
    if entry.get("num_atoms", len(sites)) != len(sites):
        raise ValueError(f"num_atoms is {entry['num_atoms']}, {len(sites)} sites are there")
    cell = _numbers(lattice["matrix"])
    positions = _numbers([site["xyz"] for site in sites])
    for site, position in zip(sites, positions, strict=True):
        apart = position - _numbers(site["abc"]) @ cell if "abc" in site else np.zeros(3)
        if not np.abs(apart).max() < 1e-3:
            raise ValueError("abc and xyz are two positions of one site")
    return LabelledFrame(
        symbols=tuple(site["species"][0]["element"] for site in sites),
        positions=positions,
        cell=cell,
        periodic=_flags(lattice.get("pbc", [True] * 3)),
        energy=float(_numbers(_label(labels, keys.energy_key or "energy"))),
        forces=_numbers(_label(labels, keys.forces_key or "forces")),
        virial=_stress(labels, keys, "virial_stress", cell, "kbar"),
        group=str(entry.get("group") or ""),
        origin=origin,
    )


def _flags(values: Any) -> np.ndarray:
    if not isinstance(values, list) or [type(flag) for flag in values] != [bool] * 3:
        raise ValueError(f"pbc must be three of true and false, not {values}")
    return np.array(values)


def _label(labels: Any, name: str) -> Any:
    """Return a label.

    Raises:
        ValueError: there is none of the name; says which are there.
    """
    if name not in labels:
        raise ValueError(f"has no {name}; it has {', '.join(sorted(labels))}")
    return labels[name]


def _stress(
    labels: Any, keys: LabelKeys, name: str, cell: np.ndarray, unit: str
) -> np.ndarray | None:
    """Return the virial of a stress, or None where there is none and no key asks for it."""
    if keys.stress_key is None and labels.get(name) is None:
        return None
    return virial(_label(labels, keys.stress_key or name), keys, cell, unit, LAMMPS)


def virial(
    stress: Any, keys: LabelKeys, cell: np.ndarray, unit: str, order: str
) -> np.ndarray:
    """Return the virial, eV, of a stress; keys take precedence over the format's habits.

    Args:
        stress: six or nine numbers, positive in compression unless the keys differ.
        keys: of the scenario.
        cell: ``[3, 3]`` angstrom.
        unit: of the format.
        order: of the format.
    """
    size = abs(np.linalg.det(cell)) * UNITS.get(keys.stress_unit or unit, 1.0)
    if (keys.stress_unit or unit) == "eV":
        size = 1.0
    sign = -1.0 if keys.stress_sign == "tension" else 1.0
    return sign * size * tensor(_numbers(stress), keys.stress_order or order)


def read_fitsnap(path: Path, keys: LabelKeys) -> Collection:
    """Read FitSNAP's JSON; its stress is positive if compressed, in bar if not said.

    Raises:
        InputError: not such a file, or in other units; names the frame.
    """
    frames: list[LabelledFrame] = []
    rest: set[str] = set()
    claims: list[tuple[str, str | None]] = []
    files = [path]
    if path.is_dir():
        every = files_below(path)
        files = [file for file in every if file.name.endswith(".json")]
        if others := [file.name for file in every if file not in files]:
            rest.add(f"{len(others)} files that are no .json (first: {others[0]})")
    units: set[str] = set()
    for file in files:
        check_file_size(file)
        content = read_json(file)
        data = content.get("Dataset") if isinstance(content, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("Data"), list):
            raise InputError(f"{file}: no Dataset with Data, as FitSNAP has it")
        for style, allowed in _STYLES.items():
            if (found := data.get(style)) not in (None, *allowed):
                raise InputError(f"{file}: {style} {found}: only {allowed[0]} is read")
        rest |= content.keys() - {"Dataset"}
        unit = str(data.get("StressStyle", "bar"))
        unit = "kbar" if unit in _KILOBAR else unit
        if keys.stress_unit is None and unit not in UNITS:
            raise InputError(f"{file}: StressStyle {unit}: allowed are {', '.join(UNITS)}")
        units.add(unit)
        for number, entry in enumerate(data["Data"]):
            origin = f"{file.name}, frame {number}"
            try:
                claims.append((origin, disowned(entry)))
                if claims[-1][1] is not None:
                    continue
                frames.append(_fitsnap(entry, keys, unit, file.parent.name, origin))
                labels = keys.energy_key, keys.forces_key, keys.stress_key
                known = {a or b for a, b in zip(labels, _FITSNAP_LABELS, strict=True)}
                rest |= entry.keys() - _FITSNAP - known
            except Exception as error:
                raise InputError(f"{origin}: not a FitSNAP entry ({error!r})") from error
    return Collection(frames, rest, disowned_frames(path, claims), units)


def _fitsnap(
    entry: Any, keys: LabelKeys, unit: str, group: str, origin: str
) -> LabelledFrame:
    cell = _numbers(entry["Lattice"])
    symbols = tuple(entry["AtomTypes"])
    if isinstance(entry["AtomTypes"], str):
        raise ValueError(f"AtomTypes {entry['AtomTypes']!r} is no list")
    if entry.get("NumAtoms", len(symbols)) != len(symbols):
        raise ValueError(f"NumAtoms is {entry['NumAtoms']}, {len(symbols)} types are there")
    return LabelledFrame(
        symbols=symbols,
        positions=_numbers(entry["Positions"]),
        cell=cell,
        periodic=np.ones(3, dtype=bool),
        energy=float(_numbers(_label(entry, keys.energy_key or "Energy"))),
        forces=_numbers(_label(entry, keys.forces_key or "Forces")),
        virial=_stress(entry, keys, "Stress", cell, unit),
        group=group,
        origin=origin,
    )


__all__ = ["Collection", "read_fitsnap", "read_json", "read_mlearn", "virial"]
