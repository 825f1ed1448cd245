"""Fields that were computed before: the frames of a run, or arrays in a file."""

import logging
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from ....models.parts import part
from ...errors import InputError
from ...inputs import check_file_size
from ...manifest import open_arrays, open_store
from ...schema.base import InputPath, locate
from ..grid import Grid
from ..material import Gas
from .base import Start
from .painted import Conserved

VTK = (".vti", ".vtr", ".vtk")

ROUNDED = 1e-3
"""Of a cell: by what places of a file may be off, in single precision or six digits."""

Departure = tuple[Tensor, Tensor]
"""Stress ``[*cells, V, V]`` and heat flux ``[*cells, V]``."""


@part
class FromRun:
    """The fields of a frame of another run, on this grid; by any model.

    A kinetic model starts with Grad's distribution of its stress and heat flux, where it
    has them; other models with density, velocity and temperature.
    """

    path: InputPath
    """Run folder, relative to the scenario file."""
    frame: int = -1
    """Frame; -1 is the last."""
    system: Annotated[int, Ge(0)] = 0
    """Which problem of the run's batch; all systems of this run start from it."""
    kind: Literal["run"] = "run"

    def located(self, base: Path) -> "FromRun":
        """Return the part with the folder found."""
        return replace(self, path=locate(self.path, base))

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the fields on the grid.

        Raises:
            InputError: no fields there, no such frame or system, a box that does not
                cover this one, another number of dimensions.
        """
        try:
            store = open_store(self.path)
            arrays = {
                n: store[f"fields/{n}"] for n in ("density", "velocity", "temperature")
            }
            axes = [np.asarray(store[f"profile/{n}"][:]) for n in self._axes(store)]
        except (InputError, KeyError, ValueError) as error:
            raise InputError(
                f"initial.path: {self.path}: holds no fields of a gas run ({error})"
            ) from error
        frames, systems = arrays["density"].shape[:2]
        if not -frames <= self.frame < frames:
            raise InputError(
                f"initial.frame: {self.frame}; {self.path} has {frames} frames"
            )
        if self.system >= systems:
            raise InputError(
                f"initial.system: {self.system}; the run has {systems} systems"
            )
        found = {n: np.asarray(a[self.frame, self.system]) for n, a in arrays.items()}
        return resampled(found, axes, grid, gamma, str(self.path))

    def departure(self, grid: Grid, axes: int, dimension: int) -> Departure | None:
        """Return stress and heat flux of the frame on the grid; None if it has none.

        Args:
            grid: where they are wanted.
            axes: V, components that are wanted. Of a run with fewer, the rest of the
                stress is isotropic.
            dimension: D, in which the stress has no trace.
        """
        store = open_store(self.path)
        if "fields/stress" not in store or "fields/heat_flux" not in store:
            return None
        centers = [np.asarray(store[f"profile/{n}"][:]) for n in self._axes(store)]
        stress, heat = (
            torch.as_tensor(np.asarray(store[f"fields/{n}"][self.frame, self.system]))
            for n in ("stress", "heat_flux")
        )
        have, dim = heat.shape[-1], grid.dim
        packed = torch.cat([stress.flatten(-2), heat], -1).double().movedim(-1, 0)
        packed = on_cells(packed, centers, grid).movedim(0, -1)
        full = packed.new_zeros(*grid.shape, axes, axes)
        both = min(have, axes)
        given = packed[..., : have * have].unflatten(-1, (have, have))
        full[..., :both, :both] = given[..., :both, :both]
        if have < axes:
            trace = given.diagonal(dim1=dim, dim2=dim + 1).sum(-1)
            for k in range(have, axes):
                full[..., k, k] = -trace / (dimension - have)
        flux = packed.new_zeros(*grid.shape, axes)
        flux[..., :both] = packed[..., have * have :][..., :both]
        return full, flux

    def _axes(self, store: Any) -> list[str]:
        return [name for name in "xyz" if f"profile/{name}" in store]


@part
class FromFile:
    """Arrays of an .npz file, a zarr group or a VTK file of a regular grid.

    ``density``, ``temperature`` or ``pressure``: one value per cell; ``velocity``: a
    trailing axis of components, or none for a velocity along x; without it the gas is at
    rest. Cell centres are ``x``, ``y``, ``z`` beside them; a VTK file (image data or a
    rectilinear grid, values in its cells or at its points) has them in its grid, of which
    axes with one cell are left out.
    """

    path: InputPath
    """The file or the zarr folder, relative to the scenario file."""
    kind: Literal["file"] = "file"

    def located(self, base: Path) -> "FromFile":
        """Return the part with the file found."""
        return replace(self, path=locate(self.path, base))

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return the fields on the grid.

        Raises:
            InputError: damaged, an array that is missing, unknown or of another shape, a
                box that does not cover this one.
        """
        arrays = load(self.path)
        axes = [arrays.pop(n) for n in "xyz"[: grid.dim] if n in arrays]
        if len(axes) != grid.dim:
            raise InputError(
                f"initial.path: {self.path}: a {grid.dim}D grid needs the arrays "
                f"{', '.join('xyz'[: grid.dim])}; it has {', '.join(sorted(arrays))}"
            )
        known = {"density", "velocity", "temperature", "pressure"}
        if unknown := sorted(set(arrays) - known):
            raise InputError(
                f"initial.path: {self.path}: arrays {', '.join(unknown)} are not used; "
                f"known are x, y, z, {', '.join(sorted(known))}"
            )
        return resampled(_primitive(arrays, self.path), axes, grid, gamma, str(self.path))


def load(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file, by name, f64.

    Raises:
        InputError: not readable, or an array that holds no real numbers.
    """
    try:
        if path.is_dir():
            arrays = _of_zarr(path)
        else:
            check_file_size(path)
            arrays = _of_npz(path) if zipfile.is_zipfile(path) else _of_vtk(path)
    except InputError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise InputError(f"initial.path: {path}: {said}") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"initial.path: {path}: not readable: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise InputError(
                f"initial.path: {path}: {name} holds {array.dtype}; real numbers are needed"
            )
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _of_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as found:
        return {name: np.asarray(found[name]) for name in found.files}


def _of_zarr(path: Path) -> dict[str, np.ndarray]:
    group = open_arrays(path)
    return {name: np.asarray(array[...]) for name, array in group.arrays()}


def _of_vtk(path: Path) -> dict[str, np.ndarray]:
    """Return cell centres and what is in the cells of a regular grid."""
    if path.suffix not in VTK:
        raise InputError(f"neither .npz nor a zarr group nor VTK ({', '.join(VTK)})")
    try:
        import pyvista
    except ImportError as error:
        raise InputError("VTK files need pip install scalebridge[viz]") from error
    logging.disable()  # what is damaged is said below, in one line
    try:
        with pyvista.vtk_verbosity("off"), warnings.catch_warnings(action="ignore"):
            grid = pyvista.read(path)
    finally:
        logging.disable(logging.NOTSET)
    if not isinstance(grid, pyvista.ImageData | pyvista.RectilinearGrid):
        raise InputError(
            f"a {type(grid).__name__}; image data or a rectilinear grid is read"
        )
    if not grid.n_points:
        raise InputError("damaged, or a grid without points")
    if len(grid.cell_data) and len(grid.point_data):
        raise InputError("values in its cells and at its points; leave one of them out")
    along = [np.unique(points) for points in np.asarray(grid.points).T]
    cells = len(grid.cell_data) > 0
    if cells:
        along = [0.5 * (a[1:] + a[:-1]) if len(a) > 1 else a for a in along]
    held = grid.cell_data if cells else grid.point_data
    used = [axis for axis, places in enumerate(along) if len(places) > 1]
    shape = tuple(len(along[axis]) for axis in used)
    arrays = {"xyz"[axis]: along[axis] for axis in used}
    for name, values in held.items():
        values = np.asarray(values)
        arrays[name] = values.reshape(*shape[::-1], *values.shape[1:]).transpose(
            *range(len(shape))[::-1], *range(len(shape), len(shape) + values.ndim - 1)
        )
    return arrays


def _primitive(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Return density, velocity and temperature."""
    if "density" not in arrays or ("temperature" in arrays) == ("pressure" in arrays):
        raise InputError(
            f"initial.path: {path}: needs density and one of temperature and pressure; it "
            f"has {', '.join(sorted(arrays))}"
        )
    rho = arrays["density"]
    u = arrays.get("velocity", np.zeros(rho.shape))
    if "temperature" in arrays:
        t = arrays["temperature"]
    else:
        _check_values("pressure", arrays["pressure"], f"initial.path: {path}:")
        _check_values("density", rho, f"initial.path: {path}:")
        t = arrays["pressure"] / rho
    return {
        "density": rho,
        "velocity": u[..., None] if u.ndim == rho.ndim else u,
        "temperature": t,
    }


def resampled(
    values: Mapping[str, np.ndarray],
    axes: list[np.ndarray],
    grid: Grid,
    gamma: float,
    source: str,
) -> Start:
    """Return fields given at cell centres on the cells of another grid.

    Density, momentum and energy are conserved (:func:`averages`, one axis after the
    other); on the same cells all fields are copied.

    Args:
        values: ``density`` and ``temperature`` ``[*cells]``, ``velocity`` ``[*cells, V]``.
        axes: increasing cell centres along each axis.
        grid: where they are wanted.
        gamma: ratio of specific heats.
        source: named in errors.

    Raises:
        InputError: shapes that differ, values that are not positive or not finite, centres
            that do not increase, a box that is not covered.
    """
    _check_stored(values, axes, grid, source)
    tensors = {n: torch.as_tensor(v, dtype=torch.float64) for n, v in values.items()}
    rho, u, t = tensors["density"], tensors["velocity"], tensors["temperature"]
    u = torch.cat([u, u.new_zeros(*rho.shape, 3 - u.shape[-1])], -1)
    same = all(
        len(a) == n and np.allclose(a, grid.centers(d).numpy(), rtol=0, atol=ROUNDED * h)
        for d, (a, n, h) in enumerate(zip(axes, grid.shape, grid.spacing, strict=True))
    )
    if same:
        return Start(rho, u, t)
    energy = Conserved(gamma)
    return energy.unpack(on_cells(energy.pack(rho, u, t), axes, grid))


def on_cells(packed: Tensor, axes: list[np.ndarray], grid: Grid) -> Tensor:
    """Return averages ``[n, *cells]`` at given centres on the cells of another grid."""
    for axis, (centers, low, high, n) in enumerate(
        zip(axes, grid.lower, grid.upper, grid.shape, strict=True)
    ):
        wanted, faces = np.linspace(low, high, n + 1), _faces(centers)
        faces[0], faces[-1] = min(faces[0], low), max(faces[-1], high)  # rounded places
        moved = packed.movedim(axis + 1, -1)
        packed = averages(moved, faces, wanted).movedim(-1, axis + 1)
    return packed


def _faces(centers: np.ndarray) -> np.ndarray:
    """Return the faces of cells with given centres: half way, the outer ones mirrored."""
    inner = 0.5 * (centers[1:] + centers[:-1])
    return np.concatenate(
        [2 * centers[:1] - inner[:1], inner, 2 * centers[-1:] - inner[-1:]]
    )


def averages(values: Tensor, faces: np.ndarray, wanted: np.ndarray) -> Tensor:
    """Return cell averages on other cells, exactly conservative on the same interval.

    Linear in each cell with van Leer's slope (one-sided in the outer cells, never through
    zero), integrated exactly over the wanted cells: second order, no new extrema inside.

    Args:
        values: ``[..., n]`` averages over the cells between ``faces``.
        faces: ``[n + 1]``, increasing.
        wanted: ``[m + 1]``, increasing, within ``faces`` to round-off.
    """
    h = torch.as_tensor(np.diff(faces))
    centers = torch.as_tensor(0.5 * (faces[1:] + faces[:-1]))
    step = values.diff(dim=-1) / centers.diff()
    a, b = step[..., :-1], step[..., 1:]
    product = (a * b).clamp(min=0.0)
    inner = 2 * product / torch.where(product > 0, a + b, 1.0)
    slope = torch.cat([step[..., :1], inner, step[..., -1:]], -1)
    steepest = 2 * values.abs() / h
    slope = torch.minimum(torch.maximum(slope, -steepest), steepest)
    cell = torch.as_tensor(
        np.clip(np.searchsorted(faces, wanted, "right") - 1, 0, len(faces) - 2)
    )
    ends = torch.as_tensor(np.clip(wanted, faces[0], faces[-1]))
    left = torch.as_tensor(faces[:-1])[cell]
    before = torch.cat([torch.zeros_like(values[..., :1]), (values * h).cumsum(-1)], -1)
    x, middle = ends - left, 0.5 * h[cell]
    within = values[..., cell] * x + slope[..., cell] * (0.5 * x * x - middle * x)
    primitive = before[..., cell] + within
    return primitive.diff(dim=-1) / torch.as_tensor(np.diff(wanted))


def _check_values(name: str, value: np.ndarray, place: str) -> None:
    if not np.isfinite(value).all():
        raise InputError(f"{place} {name} holds values that are not finite")
    if name != "velocity" and not (value > 0).all():
        raise InputError(f"{place} {name} {value.min():.6g}; must be positive")


def _check_stored(
    values: Mapping[str, np.ndarray], axes: list[np.ndarray], grid: Grid, source: str
) -> None:
    check_axes(axes, grid, source)
    place = f"initial.path: {source}:"
    cells = tuple(len(a) for a in axes)
    for name, value in values.items():
        shape = value.shape[:-1] if name == "velocity" else value.shape
        if shape != cells:
            raise InputError(f"{place} {name} has shape {value.shape}; the axes {cells}")
        _check_values(name, value, place)
    if values["velocity"].shape[-1] > 3:
        raise InputError(f"{place} velocity has {values['velocity'].shape[-1]} components")


def check_axes(axes: list[np.ndarray], grid: Grid, source: str) -> None:
    """Refuse cell centres that do not cover a grid.

    Raises:
        InputError: another number of axes, no rising order, a box that is too small.
    """
    place = f"initial.path: {source}:"
    if len(axes) != grid.dim:
        raise InputError(
            f"{place} fields of {len(axes)} dimensions, the grid has {grid.dim}"
        )
    for name, axis, low, high in zip("xyz", axes, grid.lower, grid.upper, strict=False):
        if axis.ndim != 1 or len(axis) < 2 or not bool((np.diff(axis) > 0).all()):
            raise InputError(f"{place} {name} must be a list of increasing cell centres")
        first, last = 0.5 * (axis[1] - axis[0]), 0.5 * (axis[-1] - axis[-2])
        slack = ROUNDED * first
        if axis[0] - first > low + slack or axis[-1] + last < high - slack:
            raise InputError(
                f"{place} covers {name} from {axis[0] - first:.6g} to "
                f"{axis[-1] + last:.6g}; the grid reaches from {low:.6g} to {high:.6g}"
            )
