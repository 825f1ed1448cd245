"""Labelled data in the formats of other programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineError, InputError
from ..md.data import LabelledFrame


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


__all__ = ["write_deepmd"]
