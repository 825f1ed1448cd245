"""Sets of labels in JSON: the mlearn benchmark's and FitSNAP's.

Sources: Zuo et al., J. Phys. Chem. A 124, 731 (2020); Rohskopf et al., JOSS 8, 5118 (2023).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..inputs import check_file_size, text_lines
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


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; lines that begin with # are remarks.

    Raises:
        InputError: not readable.
    """
    try:
        return json.loads("".join(x for x in text_lines(path) if not x.startswith("#")))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from error


def read_mlearn(path: Path, keys: LabelKeys) -> list[LabelledFrame]:
    """Read the configurations of mlearn; their stress is in kbar, positive if compressed.

    Raises:
        InputError: not such a file; names the frame.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a list of configurations")
    frames = []
    for number, entry in enumerate(entries):
        origin = f"{path.name}, frame {number}"
        try:
            frames.append(_mlearn(entry, keys, origin))
        except Exception as error:
            # anything may stand where a number or a list should
            raise InputError(f"{origin}: not an mlearn entry ({error!r})") from error
    return frames


def _mlearn(entry: Any, keys: LabelKeys, origin: str) -> LabelledFrame:
    structure, labels = entry["structure"], entry["outputs"]
    sites = structure["sites"]
    for site in sites:
        if len(site["species"]) != 1 or site["species"][0].get("occu", 1) != 1:
            raise ValueError("a site that is partly occupied")
    cell = np.array(structure["lattice"]["matrix"], dtype=float)
    stress = labels.get(keys.stress_key or "virial_stress")
    return LabelledFrame(
        symbols=tuple(site["species"][0]["element"] for site in sites),
        positions=np.array([site["xyz"] for site in sites], dtype=float).reshape(-1, 3),
        cell=cell,
        periodic=np.ones(3, dtype=bool),
        energy=float(labels[keys.energy_key or "energy"]),
        forces=np.array(labels[keys.forces_key or "forces"], dtype=float).reshape(-1, 3),
        virial=None if stress is None else virial(stress, keys, cell, "kbar", LAMMPS),
        group=str(entry.get("group", "")),
        origin=origin,
    )


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
    return sign * size * tensor(np.asarray(stress, float), keys.stress_order or order)


def read_fitsnap(path: Path, keys: LabelKeys) -> list[LabelledFrame]:
    """Read FitSNAP's JSON; its stress is in bar, positive if compressed.

    Raises:
        InputError: not such a file, or in other units; names the frame.
    """
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    frames: list[LabelledFrame] = []
    for file in files:
        check_file_size(file)
        content = read_json(file)
        data = content.get("Dataset") if isinstance(content, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("Data"), list):
            raise InputError(f"{file}: no Dataset with Data, as FitSNAP has it")
        for style, allowed in _STYLES.items():
            if (found := data.get(style)) not in (None, *allowed):
                raise InputError(f"{file}: {style} {found}: only {allowed[0]} is read")
        unit = str(data.get("StressStyle", "bar"))
        if keys.stress_unit is None and unit not in UNITS:
            raise InputError(f"{file}: StressStyle {unit}: allowed are {', '.join(UNITS)}")
        for number, entry in enumerate(data["Data"]):
            origin = f"{file.name}, frame {number}"
            try:
                frames.append(_fitsnap(entry, keys, unit, file.parent.name, origin))
            except Exception as error:
                raise InputError(f"{origin}: not a FitSNAP entry ({error!r})") from error
    return frames


def _fitsnap(
    entry: Any, keys: LabelKeys, unit: str, group: str, origin: str
) -> LabelledFrame:
    cell = np.array(entry["Lattice"], dtype=float)
    stress = entry.get(keys.stress_key or "Stress")
    symbols = tuple(entry["AtomTypes"])
    if entry.get("NumAtoms", len(symbols)) != len(symbols):
        raise ValueError(f"NumAtoms is {entry['NumAtoms']}, {len(symbols)} types are there")
    return LabelledFrame(
        symbols=symbols,
        positions=np.array(entry["Positions"], dtype=float).reshape(-1, 3),
        cell=cell,
        periodic=np.ones(3, dtype=bool),
        energy=float(entry[keys.energy_key or "Energy"]),
        forces=np.array(entry[keys.forces_key or "Forces"], dtype=float).reshape(-1, 3),
        virial=None if stress is None else virial(stress, keys, cell, unit, LAMMPS),
        group=group,
        origin=origin,
    )


__all__ = ["read_fitsnap", "read_json", "read_mlearn", "virial"]
