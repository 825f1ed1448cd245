"""Which picture shows what a group of a run's store holds."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from . import plots, style
from .atoms import MAX_BONDED, Look, Snapshot, Trajectory, image, trajectory_name
from .record import Column, Group, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import Picture

Attempt = tuple[str, Callable[[], "Picture | None"]]


def group_pictures(record: Record, name: str, group: Group) -> Iterator[Attempt]:
    """Yield the pictures of one group, each with its title."""
    if name == "rdf" and trajectory_name(record) is not None:
        return  # stands beside the atoms
    yield group.title, lambda: _lines(group)
    for column in group.quantities():
        if len(column.shape) > 2:
            yield f"{name}/{column.name}", lambda column=column: _refuse(column)


def _refuse(column: Column) -> "Picture":
    raise ValueError(f"nothing here draws an array of shape {column.shape}")


def _picture(group: Group, made: "Figure") -> "Picture":
    from .report import Picture, to_png

    caption = str(group.attributes.get("caption", ""))
    return Picture(group.title[:1].upper() + group.title[1:], to_png(made), caption)


def _lines(group: Group) -> "Picture | None":
    found = plots.lines(group)
    return _picture(group, plots.page(found[:12])) if found else None


# -- atoms -------------------------------------------------------------------------------


def atoms_picture(record: Record) -> "Picture":
    """Return first and last frame side by side, and what happened to their structure."""
    from .report import Picture, to_png

    trajectory = Trajectory(record)
    ends = [trajectory[0]] if len(trajectory) == 1 else [trajectory[0], trajectory[-1]]
    curves, source = _structure(record, ends)
    one_kind = len(np.unique(ends[0].symbols)) == 1
    colour = (
        "coordination" if one_kind and len(ends[0].positions) <= MAX_BONDED else "species"
    )
    made = _before_and_after(ends, colour, curves)
    counted = ", coloured by the number of neighbours" if colour == "coordination" else ""
    first, last = ends[0], ends[-1]
    when = first.label if len(ends) == 1 else f"{first.label} and {last.label}"
    caption = f"{len(first.positions)} atoms at {when}{counted}. {source}"
    return Picture("Atoms before and after", to_png(made), caption.strip())


def _before_and_after(
    ends: list[Snapshot], colour: str, curves: list[plots.Curve]
) -> "Figure":
    panels = len(ends) + bool(curves)
    ratios = [1.0] * len(ends) + [0.95] * bool(curves)
    made = style.figure(3.9 * panels, 4.0)
    grid = made.add_gridspec(1, panels, width_ratios=ratios)
    look = Look(colour, bounds=(2.0, 8.0) if colour == "coordination" else None, bar=False)
    shown = []
    for number, snapshot in enumerate(ends):
        axes = made.add_subplot(grid[number])
        axes.imshow(_trimmed(image(snapshot, look, (1000, 960))), origin="upper")
        axes.set_axis_off()
        word = "" if len(ends) == 1 else ("before, " if number == 0 else "after, ")
        axes.set_title(word + snapshot.label)
        shown.append(axes)
    if colour == "coordination":
        _neighbour_bar(made, shown)
    if curves:
        plot = plots.Plot(curves, "distance r [Å]", "radial distribution g(r)")
        plots.draw(made.add_subplot(grid[-1]), plot)
    return made


def _trimmed(picture: np.ndarray, margin: int = 8) -> np.ndarray:
    """Return a picture without its white surroundings."""
    rows, columns = (np.flatnonzero((picture < 250).any((2, axis))) for axis in (1, 0))
    if not len(rows):
        return picture
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    return picture[top : rows[-1] + margin, left : columns[-1] + margin]


def _neighbour_bar(made: "Figure", shown: list) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(Normalize(2, 8), style.SEQUENTIAL)
    made.colorbar(
        mappable,
        ax=shown,
        location="bottom",
        label="neighbours of an atom",
        ticks=range(2, 9),
        shrink=0.5,
        aspect=30,
        pad=0.03,
    )


def _structure(record: Record, ends: list[Snapshot]) -> tuple[list[plots.Curve], str]:
    """Return g(r) before and after: what the run averaged, or of the two frames."""
    group = record.group("rdf")
    if group is not None:
        found = plots.lines(group)
        if found and found[0].curves:
            return list(found[0].curves), "g(r) is averaged over the run's own samples."
    if not ends[0].has_cell or len(ends[0].positions) > MAX_BONDED:
        return [], ""
    words = ("before", "after") if len(ends) == 2 else ("",)
    return [
        plots.Curve(*radial_distribution(snapshot), label=word)
        for word, snapshot in zip(words, ends, strict=True)
    ], "g(r) is that of the frames shown."


def radial_distribution(
    snapshot: Snapshot, reach: float = 8.0, bins: int = 120
) -> tuple[np.ndarray, np.ndarray]:
    """Return r in angstrom and g(r) of one frame, all species together.

    ``g(r) = V / N^2 * sum over pairs of delta(r - r_ij) / (4 pi r^2)``.
    """
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    atoms = Atoms(
        numbers=np.ones(len(snapshot.positions)),
        positions=snapshot.positions,
        cell=snapshot.cell,
        pbc=snapshot.periodic,
    )
    counts, edges = np.histogram(neighbor_list("d", atoms, reach), bins, (0.0, reach))
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    density = len(atoms) / atoms.get_volume()
    return 0.5 * (edges[1:] + edges[:-1]), counts / (len(atoms) * density * shells)
