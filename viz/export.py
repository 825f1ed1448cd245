"""Files for other programs: OVITO and ASE, ParaView, chemiscope."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.errors import InputError
from . import fields
from .atoms import Snapshot, Trajectory, trajectory_name
from .record import Column, Group, Record, reading, refuse_targets

if TYPE_CHECKING:
    from ase import Atoms


def write(
    directory: Path,
    system: int = 0,
    extxyz: Path | None = None,
    vtkhdf: Path | None = None,
    chemiscope: Path | None = None,
) -> list[Path]:
    """Write the trajectory of a run in the formats that have a path; return these.

    A run without atoms can give its fields to ParaView.

    Raises:
        InputError: no run folder, nothing in it to write, or a package is missing.
    """
    if not (extxyz or vtkhdf or chemiscope):
        return []
    refuse_targets(extxyz, vtkhdf, chemiscope)
    record = Record(directory)
    with reading(directory):
        if vtkhdf and not (extxyz or chemiscope) and trajectory_name(record) is None:
            return [write_fields(record, vtkhdf, system)]
        trajectory = Trajectory(record, system)
        written = []
        if extxyz:
            written.append(write_extxyz(trajectory, extxyz))
        if vtkhdf:
            written.append(write_vtkhdf(trajectory, vtkhdf))
        if chemiscope:
            written.append(write_chemiscope(trajectory, chemiscope))
        return written


def to_ase(trajectory: Trajectory, frame: int) -> "Atoms":
    """Return a frame as ASE atoms, as ``output.extxyz`` writes it.

    Energy and forces go into a calculator, where ASE's readers and writers expect them.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms

    snapshot, columns = trajectory[frame], trajectory.group.columns
    atoms = Atoms(
        list(snapshot.symbols),
        positions=snapshot.positions,
        cell=snapshot.cell if snapshot.has_cell else None,
        pbc=snapshot.periodic if snapshot.has_cell else False,
        info={
            name: columns[name].array[frame].item()
            for name in ("step", "time")
            if name in columns
        },
    )
    vectors, results = trajectory.vectors(frame), {}
    if "masses" in columns:
        atoms.set_masses(trajectory.per_atom("masses", frame).tolist())
    if "fixed" in columns:
        atoms.set_constraint(FixAtoms(mask=trajectory.per_atom("fixed", frame)))
    if "momenta" in vectors:
        atoms.set_momenta(vectors.pop("momenta"))
    if "energy" in columns:
        results["energy"] = float(
            np.ravel(columns["energy"].array[frame])[trajectory.system]
        )
    if "forces" in vectors:
        results["forces"] = vectors.pop("forces")
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    for name, values in {**scalars(snapshot), **vectors}.items():
        atoms.set_array(name, values)
    return atoms


def scalars(snapshot: Snapshot) -> dict[str, np.ndarray]:
    """Return the numbers of each atom that are no length of a vector, and no flag."""
    others = ("force", "velocity", "momenta", "fixed")
    return {name: v for name, v in snapshot.values.items() if name not in others}


def write_extxyz(trajectory: Trajectory, path: Path) -> Path:
    """Write all frames as extended XYZ, frame by frame."""
    import ase.io

    with open(path, "w", encoding="utf-8") as file:
        for frame in range(len(trajectory)):
            ase.io.write(file, to_ase(trajectory, frame), format="extxyz")
    return path


def write_chemiscope(trajectory: Trajectory, path: Path) -> Path:
    """Write structures and per-atom numbers for chemiscope.

    Raises:
        InputError: chemiscope is not installed.
    """
    try:
        import chemiscope  # type: ignore[import-not-found]
    except ImportError as error:
        raise InputError("--chemiscope needs it: pip install chemiscope") from error
    frames = [to_ase(trajectory, frame) for frame in range(len(trajectory))]
    names = list(scalars(trajectory[0]))
    properties = {
        name: {
            "target": "atom",
            "values": np.concatenate([f.arrays[name] for f in frames]),
            "units": trajectory[0].units.get(name, ""),
        }
        for name in names
    }
    for frame in frames:
        frame.calc = None
    properties["frame"] = {"target": "structure", "values": np.arange(len(frames))}
    chemiscope.write_input(str(path), structures=frames, properties=properties)
    return path


# -- VTKHDF ------------------------------------------------------------------------------

_TOPOLOGIES = ("Vertices", "Lines", "Polygons", "Strips")


def write_vtkhdf(trajectory: Trajectory, path: Path) -> Path:
    """Write points that move in time, as PolyData of VTKHDF 2.0; ParaView reads it.

    Points, numbers and vectors of all steps are concatenated; one vertex per
    atom is stored once and shared by all steps.
    """
    import h5py

    frames = len(trajectory)
    first = trajectory[0]
    atoms = len(first.positions)
    with h5py.File(path, "w") as file:
        root = file.create_group("VTKHDF", track_order=True)
        root.attrs["Version"] = np.array([2, 0], dtype="i8")
        root.attrs.create("Type", b"PolyData", dtype="S8")
        root["NumberOfPoints"] = np.array([atoms], dtype="i8")
        points = root.create_dataset("Points", (frames * atoms, 3), dtype="f4")
        for topology in _TOPOLOGIES:
            _write_cells(root, topology, atoms if topology == "Vertices" else 0)
        data = root.create_group("PointData")
        sets = {
            name: data.create_dataset(name, (frames * atoms, *values.shape[1:]), dtype="f4")
            for name, values in _point_data(trajectory, 0).items()
        }
        for frame in range(frames):
            rows = slice(frame * atoms, (frame + 1) * atoms)
            points[rows] = trajectory[frame].wrapped().positions
            for name, values in _point_data(trajectory, frame).items():
                sets[name][rows] = values
        _write_steps(root, trajectory, atoms, list(sets))
    return path


def _point_data(trajectory: Trajectory, frame: int) -> dict[str, np.ndarray]:
    from ase.data import atomic_numbers

    snapshot = trajectory[frame]
    numbers = np.array([atomic_numbers.get(str(s), 0) for s in snapshot.symbols], float)
    return {"atomic_number": numbers, **scalars(snapshot), **trajectory.vectors(frame)}


def _write_cells(root: Any, topology: str, count: int) -> None:
    group = root.create_group(topology)
    group["NumberOfCells"] = np.array([count], dtype="i8")
    group["NumberOfConnectivityIds"] = np.array([count], dtype="i8")
    group["Connectivity"] = np.arange(count, dtype="i8")
    group["Offsets"] = np.arange(count + 1, dtype="i8")


def _write_steps(root: Any, trajectory: Trajectory, atoms: int, names: list[str]) -> None:
    frames = len(trajectory)
    steps = root.create_group("Steps")
    steps.attrs["NSteps"] = np.int64(frames)
    time = trajectory.group.columns.get("time")
    values = time.values[:frames] if time is not None else np.arange(frames)
    steps["Values"] = np.asarray(values, float)
    steps["NumberOfParts"] = np.ones(frames, dtype="i8")
    steps["PartOffsets"] = np.zeros(frames, dtype="i8")
    offsets = np.arange(frames, dtype="i8") * atoms
    steps["PointOffsets"] = offsets
    steps["CellOffsets"] = np.zeros((frames, len(_TOPOLOGIES)), dtype="i8")
    steps["ConnectivityIdOffsets"] = np.zeros((frames, len(_TOPOLOGIES)), dtype="i8")
    group = steps.create_group("PointDataOffsets")
    for name in names:
        group[name] = offsets


def write_fields(record: Record, path: Path, system: int = 0) -> Path:
    """Write the fields of a gas over time, as ImageData of VTKHDF 2.0; ParaView reads it.

    Values are cell data; the components of a vector or tensor are contiguous.

    Args:
        record: the run.
        path: the file.
        system: which problem of a batch.

    Raises:
        InputError: the run holds no fields over time, or not on equal cells.
    """
    import h5py

    found = _fields_over_time(record)
    if found is None:
        raise InputError(f"{record.path}: holds neither atoms nor fields over time")
    group, columns = found
    name, layout = next(iter(columns.items()))
    axes = [group.columns[name].axes[axis] for axis in layout.space]
    origin, spacing, cells = _image(group, axes, record)
    frames = group.frames
    with h5py.File(path, "w") as file:
        root = file.create_group("VTKHDF", track_order=True)
        root.attrs["Version"] = np.array([2, 0], dtype="i8")
        root.attrs.create("Type", b"ImageData", dtype="S9")
        root.attrs["WholeExtent"] = np.array([k for n in cells for k in (0, n)], dtype="i8")
        root.attrs["Origin"] = np.array(origin, float)
        root.attrs["Spacing"] = np.array(spacing, float)
        root.attrs["Direction"] = np.eye(3).reshape(-1)
        data = root.create_group("CellData")
        for field, arrangement in columns.items():
            values = _image_values(group.columns[field], arrangement, system)
            data[field] = values.reshape(frames, *cells[::-1], *values.shape[2:])
        steps = root.create_group("Steps")
        steps.attrs["NSteps"] = np.int64(frames)
        time = group.time()
        steps["Values"] = np.asarray(
            time.values[:frames] if time is not None else np.arange(frames), float
        )
        offsets = steps.create_group("CellDataOffsets")
        for field in columns:
            offsets[field] = np.arange(frames, dtype="i8")
    return path


def _fields_over_time(
    record: Record,
) -> tuple[Group, dict[str, fields.Layout]] | None:
    for group in record.groups().values():
        columns: dict[str, fields.Layout] = {}
        for column in group.quantities():
            layout = fields.Layout.of(group, column)
            if layout is None or layout.frame is None or layout.velocity:
                continue
            same = [column.shape[axis] for axis in layout.space]
            first = next(iter(columns.items()), None)
            if first is not None:
                other = group.columns[first[0]]
                if same != [other.shape[axis] for axis in first[1].space]:
                    continue
            if layout.space and 0 not in column.shape:
                columns[column.name] = layout
        if columns:
            return group, columns
    return None


def _image(
    group: Group, axes: list[str], record: Record
) -> tuple[list[float], list[float], list[int]]:
    """Return origin, spacing and cells along x, y, z of the grid."""
    origin, spacing, cells = [0.0] * 3, [1.0] * 3, [1] * 3
    for place, axis in enumerate(axes):
        centres = fields.coordinate(group, axis).astype(float)
        width = float(centres[-1] - centres[0]) / max(len(centres) - 1, 1) or 1.0
        if len(centres) > 2 and np.ptp(np.diff(centres)) > 1e-6 * abs(width):
            raise InputError(f"{record.path}: the cells along {axis} are not equal")
        origin[place] = float(centres[0]) - 0.5 * width
        spacing[place], cells[place] = width, len(centres)
    return origin, spacing, cells


def _image_values(column: Column, layout: fields.Layout, system: int) -> np.ndarray:
    """Return ``[frames, cells (x fastest), components]``, or without components."""
    values = column.values.astype("f4")
    order = [0, *layout.space[::-1], *layout.components]
    if layout.batch is not None:
        values = values.take(min(system, values.shape[layout.batch] - 1), layout.batch)
        order = [k - (k > layout.batch) for k in order]
    values = values.transpose(order)
    parts = int(np.prod(values.shape[1 + len(layout.space) :], dtype=int))
    flat = values.reshape(len(values), -1, parts)
    return flat if layout.components else flat[..., 0]
