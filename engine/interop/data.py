"""Labelled data in other programs' formats; what a format cannot hold is said."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ..errors import EngineError, InputError
from ..md.data import LabelledFrame

_KEPT_BY_ASE_FORMATS = {
    "numbers", "positions", "momenta", "masses", "tags", "initial_charges",
    "initial_magmoms", "forces",
}  # fmt: skip
"""Arrays per atom that ASE's own formats (traj, db, json) store; all others vanish."""


class DroppedArrays(UserWarning):
    """A format cannot hold all arrays of the structures."""


def as_atoms(frame: LabelledFrame) -> Atoms:
    """Return ASE's ``Atoms`` with energy, forces and (where known) stress as results."""
    atoms = Atoms(
        frame.symbols, positions=frame.positions, cell=frame.cell, pbc=frame.periodic
    )
    results: dict[str, Any] = {"energy": frame.energy, "forces": frame.forces}
    if frame.virial is not None:
        stress = -frame.virial / frame.volume
        results["stress"] = stress.reshape(9)[[0, 4, 8, 5, 2, 1]]
    atoms.calc = SinglePointCalculator(atoms, **results)
    if frame.group:
        atoms.info["group"] = frame.group
    return atoms


def write_structures(images: Sequence[Atoms], target: Path) -> Path:
    """Write structures in the format that the suffix names (.extxyz, .traj, .db, .json).

    Warns:
        DroppedArrays: the format loses arrays; each is named once.

    Raises:
        InputError: ASE does not know the format, or the file exists.
    """
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    if target.exists():
        raise InputError(f"{target}: exists; nothing is overwritten")
    if target.suffix not in (".xyz", ".extxyz"):
        _tell_dropped(images, target)
    try:
        ase.io.write(target, list(images))
    except (UnknownFileTypeError, ValueError, KeyError) as error:
        raise InputError(f"{target}: ASE cannot write it: {error}") from error
    except OSError as error:
        raise EngineError(f"{target}: {error.strerror or error}") from error
    return target


def _tell_dropped(images: Sequence[Atoms], target: Path) -> None:
    dropped = {name for atoms in images for name in atoms.arrays} - _KEPT_BY_ASE_FORMATS
    if dropped:
        names = ", ".join(sorted(dropped))
        warnings.warn(
            f"{target.name}: this format drops the arrays {names}; extxyz keeps them",
            DroppedArrays,
            stacklevel=3,
        )


def write_deepmd(frames: Sequence[LabelledFrame], target: Path) -> Path:
    """Write DeePMD-kit data: npy folders, or one HDF5 file where the suffix is ``.hdf5``.

    Frames are gathered by composition, as the format wants: one system of dpdata for every
    sequence of elements.

    Raises:
        InputError: no frames, or the target exists.
        EngineError: the optional package is not installed.
    """
    try:
        import dpdata
    except ImportError as error:
        raise EngineError(
            "dpdata is not installed: pip install 'scalebridge[deepmd]'"
        ) from error
    if not frames:
        raise InputError("no frames to write")
    if target.exists():
        raise InputError(f"{target}: exists; nothing is overwritten")
    names = sorted({symbol for frame in frames for symbol in frame.symbols})
    groups: dict[tuple[Any, ...], list[LabelledFrame]] = {}
    for frame in frames:
        key = (frame.symbols, frame.virial is None, bool(np.all(frame.periodic)))
        groups.setdefault(key, []).append(frame)
    systems = dpdata.MultiSystems(type_map=names)
    for group in groups.values():
        systems.append(dpdata.LabeledSystem(data=_dpdata(group, names)))
    if target.suffix in (".hdf5", ".h5"):
        systems.to("deepmd/hdf5", str(target))
    else:
        systems.to("deepmd/npy", str(target))
    return target


def _dpdata(frames: Sequence[LabelledFrame], names: Sequence[str]) -> dict[str, Any]:
    symbols = frames[0].symbols
    data: dict[str, Any] = {
        "atom_names": list(names),
        "atom_numbs": [symbols.count(name) for name in names],
        "atom_types": np.array([names.index(symbol) for symbol in symbols]),
        "orig": np.zeros(3),
        "cells": np.stack([frame.cell for frame in frames]),
        "coords": np.stack([frame.positions for frame in frames]),
        "energies": np.array([frame.energy for frame in frames]),
        "forces": np.stack([frame.forces for frame in frames]),
    }
    virials = [frame.virial for frame in frames if frame.virial is not None]
    if virials:
        data["virials"] = np.stack(virials)
    if not np.all(frames[0].periodic):
        data["nopbc"] = True
    return data


__all__ = ["DroppedArrays", "as_atoms", "write_deepmd", "write_structures"]
