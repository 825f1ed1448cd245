"""Atoms: spheres, bonds, cell and periodic images, coloured by what is known of each.

Spheres are ray-cast from one point each (VTK's sphere mapper), so that ten thousand cost
no more than a few; where there is no GL, matplotlib draws discs in the order of depth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.errors import InputError
from ..engine.inputs import SMALL, check_expansion
from . import render, style
from .look import SPECIES, Look, cell_edges
from .page import embedded, spread
from .record import Group, Record

if TYPE_CHECKING:
    import pyvista
    from matplotlib.axes import Axes

    from ..engine.md.state import ParticleState

BOND_FACTOR = 1.4
"""Two atoms are bonded below this multiple of the sum of their covalent radii."""

SPHERE_FACTOR = 0.5
"""Radius of a sphere as a fraction of the covalent radius, where bonds are drawn."""

MAX_BONDED = 6000
"""With more atoms than this, bonds are not drawn: they could not be seen."""

ARGON_SIGMA = 3.405
"""Angstrom; atoms in reduced units are drawn as if they were argon (Rahman 1964)."""

UNITS = {"force": "eV/Å", "velocity": "Å/fs", "deviation": "eV/Å", "coordination": ""}
NAMES = {
    "force": "force",
    "velocity": "speed",
    "deviation": "committee deviation of the force",
    "coordination": "neighbours",
}


@dataclass(frozen=True)
class Snapshot:
    """The atoms of one system at one moment.

    Attributes:
        positions: ``[atoms, 3]`` angstrom.
        symbols: ``[atoms]`` chemical symbols.
        cell: ``[3, 3]`` lattice vectors in rows, angstrom; zeros without a cell.
        periodic: which lattice vectors repeat.
        values: named numbers ``[atoms]`` to colour by.
        units: their units.
        label: what the picture says of the moment, such as ``"3.2 ps"``.
    """

    positions: np.ndarray
    symbols: np.ndarray
    cell: np.ndarray
    periodic: tuple[bool, bool, bool] = (True, True, True)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=lambda: dict(UNITS))
    label: str = ""
    angstrom: float = 1.0
    """Length of one angstrom in the unit of the positions; radii are scaled by it."""

    @classmethod
    def from_state(
        cls,
        state: "ParticleState",
        symbols: Sequence[str],
        system: int = 0,
        label: str = "",
    ) -> "Snapshot":
        """Return one system of a live simulation's state.

        Args:
            state: the state.
            symbols: the world's chemical symbols, by species index.
            system: which system of the batch.
            label: shown in the picture.
        """
        mine = (state.system == system).cpu()

        def of(tensor: Any) -> np.ndarray:
            return tensor.detach().cpu()[mine].numpy()

        speed = np.linalg.norm(of(state.momenta) / of(state.masses)[:, None], axis=1)
        values = {"force": np.linalg.norm(of(state.forces), axis=1), "velocity": speed}
        if state.deviation.numel() == state.atoms:
            values["deviation"] = of(state.deviation)
        return cls(
            of(state.positions),
            np.asarray(symbols)[of(state.species)],
            state.cell[system].detach().cpu().numpy(),
            tuple(bool(p) for p in state.periodic[system]),  # type: ignore[arg-type]
            values,
            {**UNITS, "velocity": "√(eV/amu)"},
            label,
        )

    @property
    def has_cell(self) -> bool:
        """Whether there is a cell with a volume."""
        return bool(abs(np.linalg.det(self.cell)) > 1e-9)

    def wrapped(self) -> "Snapshot":
        """Return it with the atoms moved into the cell along the periodic directions."""
        if not self.has_cell:
            return self
        fractions = np.linalg.solve(self.cell.T, self.positions.T).T
        moved = fractions - np.floor(fractions + 1e-9)
        periodic = np.asarray(self.periodic)
        return replace(self, positions=np.where(periodic, moved, fractions) @ self.cell)

    def repeated(self, images: Sequence[int]) -> "Snapshot":
        """Return it with periodic images, ``images`` copies along the lattice vectors."""
        if not self.has_cell or max(images) == 1:
            return self
        counts = [n if p else 1 for n, p in zip(images, self.periodic, strict=True)]
        grid = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1)
        shifts = grid.reshape(-1, 3) @ self.cell
        copies = len(shifts)
        return replace(
            self,
            positions=(self.positions[None] + shifts[:, None]).reshape(-1, 3),
            symbols=np.tile(self.symbols, copies),
            values={name: np.tile(v, copies) for name, v in self.values.items()},
            cell=self.cell * np.asarray(counts)[:, None],
        )

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from ase import Atoms
        from ase.neighborlist import neighbor_list

        atoms = Atoms(
            numbers=np.ones(len(self.positions)),
            positions=self.positions,
            cell=self.cell,
            pbc=self.periodic if self.has_cell else False,
        )
        return neighbor_list("ijD", atoms, list(BOND_FACTOR * self.radii))

    @property
    def radii(self) -> np.ndarray:
        """Covalent radii ``[atoms]`` in the unit of the positions."""
        return style.element_radii(self.symbols) * self.angstrom

    def too_close(self, share: float = 0.7) -> tuple[int, float]:
        """Count pairs nearer than ``share`` of the sum of their radii, which no bond is.

        Returns:
            The number of such pairs, and the shortest distance among bonded atoms.
        """
        first, second, vectors = self._pairs
        if not len(first):
            return 0, float("nan")
        lengths = np.linalg.norm(vectors, axis=1)
        near = lengths < share * (self.radii[first] + self.radii[second])
        return int(near.sum()) // 2, float(lengths.min())

    def bonds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return atom index and vector (angstrom) of every bond, each from both ends."""
        first, _, vectors = self._pairs
        return first, vectors

    def colour_choices(self) -> list[str]:
        """Return what it can be coloured by."""
        more = ["coordination"] if len(self.positions) <= MAX_BONDED else []
        return ["species", *(n for n in self.values if len(self.values[n])), *more]

    def value_of(self, name: str) -> np.ndarray:
        """Return the values ``[atoms]`` that a colour shows.

        Raises:
            InputError: nothing of that name is known of these atoms.
        """
        if name == "coordination":
            return np.bincount(self.bonds()[0], minlength=len(self.positions)).astype(float)
        if name not in self.values:
            raise InputError(
                f"colour {name}: not known of these atoms; "
                f"allowed: {', '.join(self.colour_choices())}"
            )
        return np.asarray(self.values[name], float)

    def caption_of(self, name: str) -> str:
        """Return the title of the colour bar."""
        unit = self.units.get(name, "")
        text = NAMES.get(name, name.replace("_", " "))
        return f"{text} [{unit}]" if unit else text

    def _repr_html_(self) -> str:
        return embedded([self])


# -- trajectories ------------------------------------------------------------------------


class Trajectory:
    """The frames of a run folder, also of one that is still growing.

    Args:
        record: the run.
        system: which system of a batch.

    Raises:
        InputError: the run has recorded no atoms, or announces frames that are not there.
    """

    def __init__(self, record: Record, system: int = 0) -> None:
        self.record, self.system = record, system
        name = trajectory_name(record)
        if name is None:
            raise InputError(f"{record.path}: holds no trajectory of atoms")
        self.name = name
        self._group: Group | None = None
        self.refresh()
        place = self.group.columns["positions"].array
        if place.nbytes > SMALL:  # the folder is walked through only where it matters
            check_expansion(f"{record.path}: {name}", place.nbytes, place.nbytes_stored())

    @property
    def group(self) -> Group:
        """The group of the store as it was at the last :meth:`refresh`."""
        assert self._group is not None
        return self._group

    def _repr_html_(self) -> str:
        return embedded([self[frame] for frame in spread(len(self))])

    def refresh(self) -> int:
        """Look for new frames; return how many there are now."""
        found = self.record.group(self.name)
        if found is not None:
            self._group = found
        return len(self)

    def __len__(self) -> int:
        # The writer appends array by array: a frame counts when all arrays have it.
        columns = self.group.columns
        frames = columns["positions"].shape[0]
        return min(
            [frames, *(columns[n].shape[0] for n in ("step", "time") if n in columns)]
        )

    def __getitem__(self, frame: int) -> Snapshot:
        """Return one frame; negative numbers count from the end."""
        count = len(self)
        if not -count <= frame < count:
            raise InputError(f"frame {frame}: there are {count}")
        frame %= count
        columns = self.group.columns
        mine = self._mine()
        positions = np.asarray(columns["positions"].array[frame], float)
        values, units = {}, dict(UNITS)
        for name, column in columns.items():
            if column.shape[:2] != (columns["positions"].shape[0], len(positions)):
                continue
            data = self._per_atom(column.array[frame], name)
            if data is not None:
                singular = {"forces": "force", "velocities": "velocity"}.get(name, name)
                values[singular] = data[mine]
                units[singular] = column.unit or UNITS.get(singular, "")
        return Snapshot(
            positions[mine],
            self._symbols(frame, len(positions))[mine],
            self._cell(frame),
            self._periodic(frame),
            values,
            units,
            self._moment(frame),
            self.angstrom,
        )

    @property
    def length_unit(self) -> str:
        """Unit of the positions."""
        return self.group.columns["positions"].unit or "Å"

    @property
    def angstrom(self) -> float:
        """One angstrom in the unit of the positions; in reduced units, of argon."""
        return 1.0 if self.length_unit == "Å" else 1 / ARGON_SIGMA

    def _per_atom(self, data: Any, name: str) -> np.ndarray | None:
        if name in ("positions", "species", "system", "masses"):
            return None
        array = np.asarray(data, float)
        if array.ndim == 2 and array.shape[1] == 3:
            return np.linalg.norm(array, axis=1)
        return array if array.ndim == 1 else None

    def vectors(self, frame: int) -> dict[str, np.ndarray]:
        """Return the vectors ``[atoms, 3]`` of a frame as they were written."""
        columns = self.group.columns
        shape = columns["positions"].shape
        return {
            name: np.asarray(column.array[frame], float)[self._mine()]
            for name, column in columns.items()
            if name != "positions" and column.shape == shape
        }

    def per_atom(self, name: str, frame: int) -> np.ndarray:
        """Return numbers ``[atoms]`` of a frame as they were written."""
        return np.asarray(self.group.columns[name].array[frame])[self._mine()]

    def _mine(self) -> Any:
        system = self.group.columns.get("system")
        if system is None:
            return slice(None)
        index = system.array[-1] if len(system.shape) == 2 else system.values
        return np.asarray(index) == self.system

    def _symbols(self, frame: int, atoms: int) -> np.ndarray:
        species = self.group.columns.get("species")
        if species is None:
            return np.full(atoms, "X")
        index = np.asarray(
            species.array[min(frame, species.shape[0] - 1)]
            if len(species.shape) == 2
            else species.values,
            int,
        )
        names = _symbols_of(self.record, self.group, species.array)
        if names and index.max(initial=0) < len(names):
            return np.asarray(names)[index]
        return np.full(atoms, "X")

    def _cell(self, frame: int) -> np.ndarray:
        column = self.group.columns.get("cell")
        if column is None:
            return np.zeros((3, 3))
        return np.asarray(_at(column, frame, 2, self.system), float)

    def _periodic(self, frame: int) -> tuple[bool, bool, bool]:
        column = self.group.columns.get("periodic")
        if column is None:
            return (True, True, True)
        flags = np.asarray(_at(column, frame, 1, self.system), bool)
        return (bool(flags[0]), bool(flags[1]), bool(flags[2]))

    def _moment(self, frame: int) -> str:
        columns = self.group.columns
        if "time" in columns:
            unit = columns["time"].unit
            value = float(columns["time"].array[frame])
            unit = unit or str(self.record.attributes().get("time_unit", ""))
            if unit == "fs" and value >= 1000:
                value, unit = value / 1000, "ps"
            if unit:
                return f"{value:.4g} {unit}"
        if "step" in columns:
            return f"step {int(columns['step'].array[frame])}"
        return f"frame {frame}"


def _at(column: Any, frame: int, rank: int, system: int) -> Any:
    """Return one frame and system of an array that may or may not have these axes."""
    array, extra = column.array, len(column.shape) - rank
    if extra == 0:
        return array[...]
    block = array[min(frame, column.shape[0] - 1)]
    if extra == 1:
        return block
    return block[min(system, block.shape[0] - 1)]


def _symbols_of(record: Record, group: Group, species: Any) -> list[str]:
    """Find the chemical symbols: from attributes of the data, or from the scenario."""
    for attributes in (dict(species.attrs), group.attributes, record.attributes()):
        if attributes.get("symbols"):
            return [str(symbol) for symbol in attributes["symbols"]]
    return _search(record.scenario, ("symbols", "species", "elements", "element"))


def _search(node: Any, keys: Sequence[str]) -> list[str]:
    if not isinstance(node, Mapping):
        return []
    for key in keys:
        value = node.get(key)
        if isinstance(value, str):
            return [value]
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            return value
    found = (_search(inner, keys) for inner in node.values())
    return next((symbols for symbols in found if symbols), [])


def trajectory_name(record: Record) -> str | None:
    """Return the name of the group that holds atoms over time, if there is one."""
    for name, group in record.groups().items():
        positions = group.columns.get("positions")
        if positions is None or len(positions.shape) != 3 or "nuclei" in group.columns:
            continue
        if positions.shape[0] > 0:
            return name
    return None


# -- scenes ------------------------------------------------------------------------------


class Scene:
    """Atoms in a PyVista plotter; :meth:`show` replaces the frame, cheaply.

    Args:
        plotter: where to draw; :data:`render.missing` must be empty.
        look: how.
    """

    def __init__(self, plotter: "pyvista.Plotter", look: Look = SPECIES) -> None:
        self.plotter, self.look = plotter, look
        self._placed = False

    def show(self, snapshot: Snapshot) -> None:
        """Draw a frame in place of the one before; the camera stays where it is."""
        whole = snapshot.wrapped().repeated(self.look.images)
        few = self.look.bonds and len(whole.positions) <= MAX_BONDED
        bonded = few and len(whole.bonds()[0]) > 0
        colours = colours_of(whole, self.look)
        radii = whole.radii * (SPHERE_FACTOR if bonded else 1.0)
        self._spheres(whole, colours, radii)
        self.plotter.remove_actor("bonds", render=False)  # type: ignore[arg-type]
        if bonded:
            self._bonds(whole, colours)
        self._cell(whole)
        if self.look.bar:
            self._words(whole)
        if not self._placed:
            self._place(whole)

    def _spheres(self, whole: Snapshot, colours: np.ndarray, radii: np.ndarray) -> None:
        import pyvista as pv
        from vtkmodules.vtkRenderingCore import vtkActor
        from vtkmodules.vtkRenderingOpenGL2 import vtkOpenGLSphereMapper

        points = pv.PolyData(whole.positions.astype(np.float32))
        points["radius"] = radii.astype(np.float32)
        points["colour"] = np.round(255 * colours).astype(np.uint8)
        mapper = vtkOpenGLSphereMapper()
        mapper.SetInputData(points)
        mapper.SetScaleArray("radius")
        mapper.SetScalarModeToUsePointFieldData()
        mapper.SelectColorArray("colour")
        mapper.SetColorModeToDirectScalars()
        actor = vtkActor()
        actor.SetMapper(mapper)
        actor.GetProperty().SetSpecular(0.25)
        actor.GetProperty().SetSpecularPower(30)
        actor.GetProperty().SetAmbient(0.25)
        self.plotter.add_actor(  # type: ignore[call-arg]
            actor,  # type: ignore[arg-type]
            name="atoms",
            reset_camera=False,
            render=False,
        )

    def _bonds(self, whole: Snapshot, colours: np.ndarray) -> None:
        first, vectors = whole.bonds()
        if not len(first):
            return
        mesh = sticks(whole.positions[first], 0.5 * vectors, radius=0.13 * whole.angstrom)
        mesh["colour"] = np.repeat(
            np.round(255 * colours[first]).astype(np.uint8), 16, axis=0
        )
        self.plotter.add_mesh(
            mesh,
            scalars="colour",
            rgb=True,
            smooth_shading=True,
            name="bonds",
            reset_camera=False,
            render=False,
        )

    def _cell(self, whole: Snapshot) -> None:
        self.plotter.remove_actor("cell", render=False)  # type: ignore[arg-type]
        if whole.has_cell:
            self.plotter.add_mesh(
                cell_lines(whole.cell),
                color="#222222",
                line_width=1.5,
                name="cell",
                reset_camera=False,
                render=False,
            )

    def _words(self, whole: Snapshot) -> None:
        self.plotter.add_text(
            whole.label,
            position="upper_left",
            font_size=max(6, round(self.plotter.window_size[0] / 75)),
            color="black",
            name="label",
            render=False,
        )
        for title in list(self.plotter.scalar_bars.keys()):
            self.plotter.remove_scalar_bar(title, render=False)
        self.plotter.remove_actor("legend", render=False)  # type: ignore[arg-type]
        if self.look.colour == "species":
            self._legend(whole)
            return
        values = whole.value_of(self.look.colour)
        self._bar(whole.caption_of(self.look.colour), self.look.bounds_for(values))

    def _legend(self, whole: Snapshot) -> None:
        names = np.unique(whole.symbols)
        entries = [
            [str(name), tuple(style.element_colours(np.array([name]))[0])] for name in names
        ]
        self.plotter.add_legend(  # type: ignore[arg-type]
            entries,  # type: ignore[arg-type]
            bcolor=None,
            size=(0.11, 0.055 * len(names) + 0.02),
            loc="lower right",
            face="circle",
            name="legend",
        )

    def _bar(self, title: str, bounds: tuple[float, float]) -> None:
        import pyvista as pv

        table = pv.LookupTable(style.SEQUENTIAL, n_values=256)
        table.scalar_range = bounds
        mapper = pv.DataSetMapper()
        mapper.lookup_table = table
        letters = max(9, round(self.plotter.window_size[0] / 48))
        whole = self.look.colour == "coordination"
        self.plotter.add_scalar_bar(  # type: ignore[call-arg]
            title=title,
            mapper=mapper,
            color="black",
            n_labels=round(bounds[1] - bounds[0]) + 1 if whole else 5,
            fmt="%.0f" if whole else "%.2g",
            title_font_size=letters,
            label_font_size=letters - 2,
            width=0.5,
            position_x=0.25,
            position_y=0.02,
            render=False,
        )

    def _place(self, whole: Snapshot) -> None:
        """Look along a direction from which rows of a crystal do not hide each other."""
        self.plotter.camera_position = [(1.0, 0.42, 0.36), (0, 0, 0), (0, 0, 1)]
        self.plotter.renderer.ResetCamera()
        if self.look.bar:  # room for the colour bar below
            self.plotter.camera.SetWindowCenter(0.0, -0.09)
        self.plotter.camera.zoom(0.95 if self.look.bar else 1.05)
        self._placed = True


def colours_of(snapshot: Snapshot, look: Look) -> np.ndarray:
    """Return the colour ``[atoms, 3]`` in 0..1 of each atom."""
    if look.colour == "species":
        return style.element_colours(snapshot.symbols)
    import matplotlib

    values = snapshot.value_of(look.colour)
    low, high = look.bounds_for(values)
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0.0, 1.0)
    return matplotlib.colormaps[style.SEQUENTIAL](scaled)[:, :3]


def sticks(starts: np.ndarray, vectors: np.ndarray, radius: float) -> "pyvista.PolyData":
    """Return eight-sided cylinders ``[bonds]`` as one mesh of 16 points each."""
    import pyvista as pv

    count, angles = len(starts), np.arange(8) * np.pi / 4
    along = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    helper = np.where(np.abs(along[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    across = np.cross(along, helper)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    normal = np.cross(along, across)
    ring = (
        np.cos(angles)[None, :, None] * across[:, None]
        + np.sin(angles)[None, :, None] * normal[:, None]
    )
    ends = np.stack([starts, starts + vectors], 1)
    points = (ends[:, :, None] + radius * ring[:, None]).reshape(-1, 3)
    side = np.arange(8)
    quad = np.stack([side, (side + 1) % 8, (side + 1) % 8 + 8, side + 8], 1)
    cells = (quad[None] + 16 * np.arange(count)[:, None, None]).reshape(-1, 4)
    faces = np.concatenate([np.full((len(cells), 1), 4), cells], 1).ravel()
    return pv.PolyData(points.astype(np.float32), faces=faces)


def cell_lines(cell: np.ndarray) -> "pyvista.PolyData":
    """Return the twelve edges of a cell."""
    import pyvista as pv

    corners, edges = cell_edges(cell)
    lines = np.concatenate([np.full((len(edges), 1), 2), edges], 1).ravel()
    return pv.PolyData(corners.astype(np.float32), lines=lines)


# -- pictures ----------------------------------------------------------------------------


def image(
    snapshot: Snapshot,
    look: Look = SPECIES,
    size: tuple[int, int] = (800, 600),
) -> np.ndarray:
    """Return a picture ``[height, width, 3]`` uint8, by PyVista or else by matplotlib."""
    if render.missing():
        return _flat_image(snapshot, look, size)
    plotter = render.plotter(size)
    try:
        Scene(plotter, look).show(snapshot)
        return np.asarray(plotter.screenshot(return_img=True))[..., :3]
    finally:
        plotter.close()


def _flat_image(snapshot: Snapshot, look: Look, size: tuple[int, int]) -> np.ndarray:
    with style.styled():
        made = style.figure(size[0] / 100, size[1] / 100)
        axes = made.add_subplot()
        draw_flat(axes, snapshot, look)
        made.canvas.draw()
        return np.asarray(made.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]


def draw_flat(axes: "Axes", snapshot: Snapshot, look: Look = SPECIES) -> None:
    """Draw atoms with matplotlib: discs, nearer ones drawn over farther ones."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import EllipseCollection, LineCollection
    from matplotlib.colors import Normalize

    whole = snapshot.wrapped().repeated(look.images)
    view = np.array([1.0, 0.42, 0.36]) / np.linalg.norm([1.0, 0.42, 0.36])
    right = np.cross([0, 0, 1.0], view)
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(view, right), view], 1)
    seen = whole.positions @ frame
    order = np.argsort(seen[:, 2])
    colours, radii = colours_of(whole, look), 0.8 * whole.radii
    depth = seen[order, 2]
    fade = 0.35 * (depth.max(initial=0) - depth) / max(float(np.ptp(depth)), 1e-9)
    shown = colours[order] * (1 - fade[:, None]) + fade[:, None]
    discs = EllipseCollection(
        2 * radii[order],
        2 * radii[order],
        np.zeros(len(order)),
        units="xy",
        offsets=seen[order, :2],
        offset_transform=axes.transData,
        facecolors=shown,
        edgecolors="#333333",
        linewidths=0.3,
    )
    axes.add_collection(discs)
    if whole.has_cell:
        corners, edges = cell_edges(whole.cell)
        axes.add_collection(
            LineCollection(
                list((corners @ frame)[edges][:, :, :2]), colors="#222222", lw=0.8
            )
        )
        seen = np.concatenate([seen, corners @ frame])
    axes.set_xlim(seen[:, 0].min() - 2, seen[:, 0].max() + 2)
    axes.set_ylim(seen[:, 1].min() - 2, seen[:, 1].max() + 2)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(whole.label, loc="left")
    if look.colour != "species":
        low, high = look.bounds_for(whole.value_of(look.colour))
        mappable = ScalarMappable(Normalize(low, high), style.SEQUENTIAL)
        axes.figure.colorbar(
            mappable, ax=axes, label=whole.caption_of(look.colour), shrink=0.7
        )
