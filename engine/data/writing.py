"""Labelled frames in the formats of other programs; what a format cannot hold is said.

Whatever is written here, :mod:`.reading` reads back, number for number.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import InputError
from .frames import LabelledFrame
from .keys import UNITS

Tree = Mapping[str, np.ndarray | str]
"""File of a DeePMD system, such as ``set.000/coord.npy`` -> what it holds."""


def write(frames: Sequence[LabelledFrame], form: str, target: Path) -> list[str]:
    """Write labelled frames.

    Args:
        frames: what to write.
        form: a key of :data:`WRITERS`.
        target: file or folder, which must not exist.

    Returns:
        One sentence about everything that the format cannot hold.

    Raises:
        InputError: no frames, the target exists, or a frame that the format cannot hold
            at all.
    """
    if not frames:
        raise InputError("no frames to write")
    if target.exists():
        raise InputError(f"{target}: exists; nothing is overwritten")
    target.parent.mkdir(parents=True, exist_ok=True)
    return WRITERS[form](frames, target)


# -- extended XYZ ------------------------------------------------------------------------


def _write_xyz(frames: Sequence[LabelledFrame], target: Path) -> list[str]:
    with open(target, "w", encoding="utf-8") as file:
        for frame in frames:
            file.write(_xyz(frame))
    return []


def _xyz(frame: LabelledFrame) -> str:
    def row(values: np.ndarray) -> str:
        return " ".join(repr(float(value)) for value in np.ravel(values))

    header = [f'Lattice="{row(frame.cell)}"'] if frame.cell.any() else []
    header += [
        "Properties=species:S:1:pos:R:3:forces:R:3",
        f"energy={float(frame.energy)!r}",
        'pbc="{}"'.format(" ".join("FT"[int(flag)] for flag in frame.periodic)),
    ]
    if frame.virial is not None:
        header.append(f'virial="{row(frame.virial)}"')
        if frame.volume > 0:  # of which ASE reads what its calculators give
            header.append(f'stress="{row(-frame.virial / frame.volume)}"')
    if frame.group:
        header.append("group=" + json.dumps(frame.group))
    lines = [str(len(frame.symbols)), " ".join(header)]
    lines += [
        f"{symbol} {row(x)} {row(force)}"
        for symbol, x, force in zip(
            frame.symbols, frame.positions, frame.forces, strict=True
        )
    ]
    return "\n".join(lines) + "\n"


# -- DeePMD-kit --------------------------------------------------------------------------


def _write_deepmd(frames: Sequence[LabelledFrame], target: Path) -> list[str]:
    """Write one system for each group and sequence of elements."""
    said = [*_losses(frames)]
    frames = [_all_or_nothing_periodic(frame) for frame in frames]
    names = sorted({symbol for frame in frames for symbol in frame.symbols})
    trees, systems = {}, _systems(frames, by_symbols=True)
    for name, chosen in systems.items():
        types = np.array([names.index(symbol) for symbol in chosen[0].symbols])
        trees[name] = _tree(chosen, names, types, None)
    _write_trees(trees, target)
    return [*said, *_gathered(frames, systems)]


def _write_mixed(frames: Sequence[LabelledFrame], target: Path) -> list[str]:
    """Write one system for each group and number of atoms, with types frame by frame."""
    said = [*_losses(frames)]
    frames = [_all_or_nothing_periodic(frame) for frame in frames]
    names = sorted({symbol for frame in frames for symbol in frame.symbols})
    trees, systems = {}, _systems(frames, by_symbols=False)
    for name, chosen in systems.items():
        kinds = np.array([[names.index(s) for s in f.symbols] for f in chosen])
        trees[name] = _tree(chosen, names, np.zeros(kinds.shape[1], int), kinds)
    _write_trees(trees, target)
    return [*said, *_gathered(frames, systems)]


def _losses(frames: Sequence[LabelledFrame]) -> Iterator[str]:
    some = sum(f.periodic.any() and not f.periodic.all() for f in frames)
    if some:
        yield (
            f"{some} frames are periodic along some axes only; they are written as "
            "periodic along all, with the cell that they have"
        )


def _gathered(
    frames: Sequence[LabelledFrame], parts: Mapping[str, Sequence[LabelledFrame]]
) -> Iterator[str]:
    """Name what is lost where frames are gathered in folders, which are their groups."""
    numbers = {id(frame): number for number, frame in enumerate(frames)}
    order = [numbers[id(frame)] for name in sorted(parts) for frame in parts[name]]
    if order != sorted(order):
        yield "frames are gathered in folders; their order changes"
    renamed = {
        f"{frame.group or '(none)'} -> {name}": None
        for name, part in parts.items()
        for frame in part
        if frame.group != name
    }
    if renamed:
        yield f"groups are named as their folders: {', '.join(renamed)}"


def _all_or_nothing_periodic(frame: LabelledFrame) -> LabelledFrame:
    """Return a slab as periodic along all axes.

    Raises:
        InputError: its cell has no volume, so it cannot be.
    """
    if frame.periodic.all() or not frame.periodic.any():
        return frame
    if frame.volume < 1e-6:
        raise InputError(
            f"{frame.origin}: periodic along some axes only, and no cell along the others; "
            "this format needs one: give it vacuum"
        )
    return replace(frame, periodic=np.ones(3, bool))


def _systems(
    frames: Sequence[LabelledFrame], by_symbols: bool
) -> dict[str, list[LabelledFrame]]:
    """Gather frames that one system can hold, under names that are folders'."""
    found: dict[tuple[Any, ...], list[LabelledFrame]] = {}
    for frame in frames:
        kind = frame.symbols if by_symbols else len(frame.symbols)
        periodic = bool(frame.periodic.all())
        key = (frame.group, kind, frame.virial is None, periodic)
        found.setdefault(key, []).append(frame)
    named: dict[str, list[LabelledFrame]] = {}
    for key, chosen in found.items():
        stem = re.sub(r"[^\w.+-]", "_", key[0]).strip(".") or _formula(chosen[0].symbols)
        name, number = stem, 1
        while name in named:
            number += 1
            name = f"{stem}_{number}"
        named[name] = chosen
    return named


def _formula(symbols: Sequence[str]) -> str:
    return "".join(f"{s}{symbols.count(s)}" for s in sorted(set(symbols)))


def _tree(
    frames: Sequence[LabelledFrame],
    names: Sequence[str],
    types: np.ndarray,
    kinds: np.ndarray | None,
) -> Tree:
    tree: dict[str, np.ndarray | str] = {
        "type.raw": "\n".join(map(str, types.tolist())) + "\n",
        "type_map.raw": "\n".join(names) + "\n",
        "set.000/coord.npy": np.stack([f.positions.ravel() for f in frames]),
        "set.000/force.npy": np.stack([f.forces.ravel() for f in frames]),
        "set.000/energy.npy": np.array([f.energy for f in frames]),
        "set.000/box.npy": np.stack([f.cell.ravel() for f in frames]),
    }
    virials = [f.virial.ravel() for f in frames if f.virial is not None]
    if virials:
        tree["set.000/virial.npy"] = np.stack(virials)
    if kinds is not None:
        tree["set.000/real_atom_types.npy"] = kinds
    if not frames[0].periodic.all():
        tree["nopbc"] = ""
    return tree


def _write_trees(trees: Mapping[str, Tree], target: Path) -> None:
    """Write systems as folders, or as one HDF5 file where the suffix is of one."""
    if target.suffix not in (".hdf5", ".h5"):
        for name, tree in trees.items():
            for file, content in tree.items():
                path = target / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, str):
                    path.write_text(content)
                else:
                    np.save(path, content)
        return
    import h5py

    with h5py.File(target, "w") as file:
        for name, tree in trees.items():
            for entry, content in tree.items():
                if entry == "type_map.raw":
                    content = np.array(str(content).split(), dtype="S8")
                elif entry == "type.raw":
                    content = np.array(str(content).split(), dtype=int)
                elif entry == "nopbc":
                    content = np.array(True)
                file[f"{name}/{entry}"] = content


# -- JSON and databases ------------------------------------------------------------------


def _write_mlearn(frames: Sequence[LabelledFrame], target: Path) -> list[str]:
    entries = []
    for frame in frames:
        _need_cell(frame)
        outputs: dict[str, Any] = {
            "energy": float(frame.energy),
            "forces": frame.forces.tolist(),
        }
        if frame.virial is not None:
            stress = frame.virial / frame.volume / UNITS["kbar"]
            outputs["virial_stress"] = stress.ravel().tolist()
        sites = [
            {"species": [{"element": s, "occu": 1}], "xyz": x.tolist()}
            for s, x in zip(frame.symbols, frame.positions, strict=True)
        ]
        structure = {"lattice": {"matrix": frame.cell.tolist()}, "sites": sites}
        entries.append({"structure": structure, "outputs": outputs, "group": frame.group})
    target.write_text(json.dumps(entries))
    return [
        "stresses are written as nine numbers, not six",
        *_losses(frames),
    ]


def _need_cell(frame: LabelledFrame) -> None:
    if not frame.periodic.any() or frame.volume < 1e-6:
        raise InputError(f"{frame.origin}: is not periodic; this format needs a cell")


def _write_fitsnap(frames: Sequence[LabelledFrame], target: Path) -> list[str]:
    """Write a folder for each group, in it one file of all its frames."""
    for frame in frames:
        _need_cell(frame)
    groups = _grouped(frames)
    for name, chosen in groups.items():
        data = []
        for frame in chosen:
            entry: dict[str, Any] = {
                "Positions": frame.positions.tolist(),
                "AtomTypes": list(frame.symbols),
                "Lattice": frame.cell.tolist(),
                "NumAtoms": len(frame.symbols),
                "Energy": float(frame.energy),
                "Forces": frame.forces.tolist(),
            }
            if frame.virial is not None:
                stress = frame.virial / frame.volume / UNITS["bar"]
                entry["Stress"] = stress.tolist()
            data.append(entry)
        content = {
            "Data": data, "PositionsStyle": "angstrom", "LatticeStyle": "angstrom",
            "AtomTypeStyle": "chemicalsymbol", "EnergyStyle": "electronvolt",
            "ForcesStyle": "electronvoltperangstrom", "StressStyle": "bar",
            "Label": name,
        }  # fmt: skip
        (target / name).mkdir(parents=True)
        (target / name / "frames.json").write_text(json.dumps({"Dataset": content}))
    return [*_losses(frames), *_gathered(frames, groups)]


def _grouped(frames: Sequence[LabelledFrame]) -> dict[str, list[LabelledFrame]]:
    found: dict[str, list[LabelledFrame]] = {}
    for frame in frames:
        name = re.sub(r"[^\w.+-]", "_", frame.group).strip(".") or "all"
        found.setdefault(name, []).append(frame)
    return found


def _write_db(frames: Sequence[LabelledFrame], target: Path) -> list[str]:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.db import connect
    from ase.stress import full_3x3_to_voigt_6_stress

    opened: Any = connect(target, type="db")
    with opened as database:
        for frame in frames:
            atoms = Atoms(
                list(frame.symbols), frame.positions, cell=frame.cell, pbc=frame.periodic
            )
            labels: dict[str, Any] = {"energy": frame.energy, "forces": frame.forces}
            data: dict[str, Any] = {"group": frame.group} if frame.group else {}
            if frame.virial is not None:
                data["virial"] = frame.virial
                labels["stress"] = full_3x3_to_voigt_6_stress(-frame.virial / frame.volume)
            atoms.calc = SinglePointCalculator(atoms, **labels)
            database.write(atoms, data=data)
    return []


WRITERS: Mapping[str, Callable[[Sequence[LabelledFrame], Path], list[str]]] = (
    MappingProxyType(
        {
            "extxyz": _write_xyz,
            "deepmd-data": _write_deepmd,
            "deepmd-mixed": _write_mixed,
            "mlearn": _write_mlearn,
            "fitsnap": _write_fitsnap,
            "ase-db": _write_db,
        }
    )
)
"""Formats that labelled frames are written in."""

SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        "extxyz": ".extxyz", "deepmd-data": ".deepmd", "deepmd-mixed": ".deepmd",
        "mlearn": ".json", "fitsnap": ".fitsnap", "ase-db": ".db",
    }
)  # fmt: skip
"""Suffix of each format."""

__all__ = ["SUFFIXES", "WRITERS", "write"]
