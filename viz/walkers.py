"""Electrons: density around the nuclei, walkers, and the energy with its error band."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.units import BOHR_ANGSTROM
from . import fields, plots, render, style
from .record import Group, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 4.0
"""Bohr around the outermost nuclei that a density without a box of its own spans."""

SHOWN_WALKERS = 400

CHEMICAL_ACCURACY = 1.6
"""Millihartree: one kilocalorie per mole."""


@dataclass(frozen=True)
class Cloud:
    """Electrons in space, bohr.

    Attributes:
        density: ``[n] * dim`` in bohr^-dim, None where it was not counted.
        low: ``[dim]`` lower corner of its box.
        high: ``[dim]`` upper corner.
        nuclei: ``[nuclei, dim]``.
        symbols: chemical symbols of the nuclei.
        walkers: ``[walkers, electrons, dim]``, None where not kept.
    """

    density: np.ndarray | None
    low: np.ndarray
    high: np.ndarray
    nuclei: np.ndarray
    symbols: tuple[str, ...]
    walkers: np.ndarray | None

    @property
    def spans(self) -> list[np.ndarray]:
        """The centres of the density's cells along each axis."""
        assert self.density is not None
        made = []
        for low, high, count in zip(self.low, self.high, self.density.shape, strict=True):
            edge = (high - low) / count
            made.append(np.linspace(low + edge / 2, high - edge / 2, count))
        return made


def cloud_of(record: Record) -> Cloud | None:
    """Return the electrons that a run kept, None where it kept none."""
    for group in record.groups().values():
        density, walkers = group.columns.get("density"), group.columns.get("walkers")
        if walkers is None or len(walkers.shape) != 3:
            continue
        nuclei, symbols = _nuclei(record, group)
        positions = walkers.values.astype(float)
        if not len(nuclei):
            nuclei = np.zeros((0, positions.shape[-1]))
        attributes = dict((walkers if density is None else density).array.attrs)
        centres = nuclei if len(nuclei) else np.zeros((1, positions.shape[-1]))
        low = np.asarray(attributes.get("low", centres.min(0) - MARGIN), float)
        high = np.asarray(attributes.get("high", centres.max(0) + MARGIN), float)
        values = density.values if density is not None else None
        return Cloud(values, low, high, nuclei, symbols, positions)
    return None


def _nuclei(record: Record, group: Group) -> tuple[np.ndarray, tuple[str, ...]]:
    if "nuclei" in group.columns:
        symbols = group.columns["nuclei"].array.attrs.get("symbols") or ()
        return group.columns["nuclei"].values, tuple(str(s) for s in symbols)  # type: ignore[union-attr]
    system: Mapping[str, Any] = record.scenario.get("system", {})
    if not system.get("positions"):
        return np.zeros((0, 3)), ()
    scale = 1 / BOHR_ANGSTROM if system.get("unit") == "angstrom" else 1.0
    symbols = tuple(str(s) for s in system.get("symbols", ()))
    return np.asarray(system["positions"], float) * scale, symbols


def picture(cloud: Cloud) -> "Figure":
    """Return the density as surfaces and as a plane through the middle, with nuclei."""
    dim = len(cloud.low)
    solid = cloud.density is not None and dim == 3 and not render.missing()
    made = style.figure(9.6 if solid else 5.4, 4.2)
    if solid:
        axes = made.add_subplot(1, 2, 1)
        axes.imshow(surfaces(cloud), origin="upper")
        axes.set_axis_off()
        axes.set_title("surfaces of equal density, with nuclei", loc="left")
    axes = made.add_subplot(1, 2 if solid else 1, 2 if solid else 1)
    if cloud.density is not None:
        _plane(axes, cloud)
    else:
        _dots(axes, cloud)
    return made


def levels_of(density: np.ndarray) -> list[float]:
    """Return the densities whose surfaces enclose 90, 60 and 25 % of the electrons."""
    falling = np.sort(density.ravel())[::-1]
    share = np.cumsum(falling) / max(float(falling.sum()), 1e-300)
    return sorted({float(falling[np.searchsorted(share, s)]) for s in (0.9, 0.6, 0.25)})


def smoothed(density: np.ndarray) -> np.ndarray:
    """Return counts averaged over neighbouring cells: surfaces of raw counts are rough."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(density.astype(float), 1.0, mode="constant")


def surfaces(cloud: Cloud, size: tuple[int, int] = (760, 640)) -> np.ndarray:
    """Return a picture of density surfaces, nuclei and walkers; GL is needed."""
    plotter = render.plotter(size)
    try:
        add(plotter, cloud)
        plotter.camera_position = [(1.0, 0.6, 0.45), (0, 0, 0), (0, 0, 1)]
        plotter.renderer.ResetCamera()
        plotter.camera.zoom(1.2)
        return np.asarray(plotter.screenshot(return_img=True))[..., :3]
    finally:
        plotter.close()


def add(plotter: Any, cloud: Cloud) -> None:
    """Add density surfaces, nuclei and some walkers to a plotter."""
    import pyvista as pv

    if cloud.density is not None and cloud.density.ndim == 3:
        soft = smoothed(cloud.density)
        fields.add_isosurfaces(plotter, soft, cloud.spans, levels_of(soft), outline=False)
    if len(cloud.nuclei):
        colours = style.element_colours(
            np.asarray(cloud.symbols or ["X"] * len(cloud.nuclei))
        )
        for place, colour in zip(cloud.nuclei, colours, strict=True):
            ball = pv.Sphere(
                radius=0.16, center=place, theta_resolution=24, phi_resolution=24
            )
            plotter.add_mesh(ball, color=tuple(colour), smooth_shading=True, render=False)
    if cloud.walkers is not None and cloud.walkers.shape[-1] == 3:
        points = cloud.walkers.reshape(-1, 3)[:SHOWN_WALKERS].astype(np.float32)
        plotter.add_mesh(
            pv.PolyData(points), color="#333333", point_size=3.0, opacity=0.6, render=False
        )


def _spread_axes(cloud: Cloud, dim: int) -> list[int]:
    """Return the two axes along which the nuclei are spread most, in order."""
    spread = np.ptp(cloud.nuclei, axis=0) if len(cloud.nuclei) else np.zeros(dim)
    return sorted(np.argsort(-spread, kind="stable")[: min(2, dim)].tolist())


def _plane(axes: Any, cloud: Cloud) -> None:
    """Draw the density in the plane of the first two spread-out axes, the rest summed."""
    assert cloud.density is not None
    density, names = cloud.density, "xyz"
    shown = _spread_axes(cloud, density.ndim)
    if density.ndim == 1:
        plots.draw(axes, plots.Plot([plots.Curve(cloud.spans[0], density)], "x [bohr]",
                                    "density [1/bohr]"))  # fmt: skip
        return
    hidden = tuple(a for a in range(density.ndim) if a not in shown)
    edges = [
        (h - lo) / n for lo, h, n in zip(cloud.low, cloud.high, density.shape, strict=True)
    ]
    plane = density.sum(hidden) * float(np.prod([edges[a] for a in hidden]))
    a, b = shown
    from matplotlib.colors import PowerNorm

    # Inner shells are a hundred times as dense as the bonds that one wants to see.
    norm = PowerNorm(0.4, 0.0, float(plane.max()) or 1.0)
    drawn = axes.pcolormesh(
        cloud.spans[a], cloud.spans[b], plane.T, shading="auto", rasterized=True, norm=norm
    )
    if len(cloud.nuclei):
        axes.plot(*cloud.nuclei[:, [a, b]].T, "+", color="white", ms=9, mew=1.6)
    axes.set_xlabel(f"{names[a]} [bohr]")
    axes.set_ylabel(f"{names[b]} [bohr]")
    axes.set_aspect("equal")
    axes.grid(False)
    seen = f", summed along {names[hidden[0]]}" if hidden else ""
    axes.figure.colorbar(
        drawn, ax=axes, label=f"electron density{seen} [1/bohr²]", shrink=0.85
    )


def _dots(axes: Any, cloud: Cloud) -> None:
    assert cloud.walkers is not None
    points = cloud.walkers.reshape(-1, cloud.walkers.shape[-1])[:4000]
    shown = _spread_axes(cloud, points.shape[1])
    flat = np.zeros((len(points), 2))
    flat[:, : len(shown)] = points[:, shown]
    axes.plot(*flat.T, ".", ms=2, alpha=0.4, color=style.BLUE, rasterized=True)
    if len(cloud.nuclei) and len(shown) == 2:
        axes.plot(*cloud.nuclei[:, shown].T, "+", color=style.BLACK, ms=9, mew=1.6)
    for put, axis in zip((axes.set_xlabel, axes.set_ylabel), shown, strict=False):
        put(f"{'xyz'[axis]} [bohr]")
    axes.set_aspect("equal")


def caption(cloud: Cloud) -> str:
    """Return what the picture shows."""
    electrons = cloud.walkers.shape[1] if cloud.walkers is not None else 0
    words = f"Where the {electrons} electrons are" if electrons else "Where electrons are"
    if cloud.density is not None and cloud.density.ndim == 3:
        return f"{words}: surfaces that enclose 90, 60 and 25 % of them; dots are walkers."
    return f"{words}: samples of |ψ|²."


# -- energy ------------------------------------------------------------------------------


def _marks(
    figures: Mapping[str, Mapping[str, Any]], exact: float | None
) -> dict[str, float]:
    """Return the energies that one is compared with: the exact one, or Hartree-Fock's."""
    if exact is not None:
        return {"exact": exact}
    bound = figures.get("hartree_fock_energy")
    return {} if bound is None else {"Hartree-Fock": float(bound["value"])}


def energy_trace(
    events: Mapping[str, np.ndarray],
    figures: Mapping[str, Mapping[str, Any]],
) -> list[plots.Plot]:
    """Return the energy over the iterations, and its distance from the exact one.

    Args:
        events: columns of the run's events.
        figures: of its summary; the exact energy and the unit are taken from there.
    """
    known = "energy" in figures
    unit = str(figures["energy"].get("unit", "")) if known else "hartree"
    energy, error = events.get("energy"), events.get("energy_error")
    if energy is None or error is None or energy.ndim != 1 or len(energy) < 3:
        return []
    step = events["step"]
    exact = _exact(figures)
    band = np.nan_to_num(error)
    trace = plots.Plot(
        [plots.Curve(step, energy, "wavefunction, ± 1 standard error", band)],
        "iteration",
        f"energy [{unit}]" if unit else "energy",
        marks=_marks(figures, exact),
    )
    if exact is None:
        return [trace]
    molecular = unit == "hartree"
    scale = 1e3 if molecular else 1 / abs(exact)
    return [
        trace,
        plots.Plot(
            [
                plots.Curve(step, scale * np.abs(energy - exact), "|energy - exact|"),
                plots.Curve(step, scale * band, "standard error", colour=style.ORANGE),
            ],
            "iteration",
            f"error of the energy [{'millihartree' if molecular else 'relative'}]",
            "log",
            marks={"chemical accuracy": CHEMICAL_ACCURACY} if molecular else {},
        ),
    ]


def scan(group: Group) -> list[plots.Plot]:
    """Return the energy over the coordinate of a scan, and every method's error.

    Arrays: ``energy`` with ``energy_error``, perhaps ``energy_reference`` and ``ccsd_t``.
    """
    energy = group.columns.get("energy")
    if energy is None:
        return []
    x, title = plots.abscissa_of(group, energy)
    order = np.argsort(x)
    x, band = x[order], group.error("energy")
    methods = {"wavefunction": energy, "CCSD(T)": group.columns.get("ccsd_t")}
    curves = [
        plots.Curve(
            x,
            column.values[order],
            label,
            band.values[order] if band is not None and column is energy else None,
        )
        for label, column in methods.items()
        if column is not None and np.isfinite(column.values).any()
    ]
    y_title = f"energy [{energy.unit}]" if energy.unit else "energy"
    reference = group.columns.get("energy_reference")
    if reference is None or not np.isfinite(reference.values).any():
        return [plots.Plot(curves, title, y_title)]
    exact = reference.values[order]
    dashed = plots.Curve(x, exact, "reference", reference=True, colour=style.REFERENCE)
    errors = [
        replace(
            curve,
            y=1e3 * (curve.y - exact),
            error=1e3 * curve.error if curve.error is not None else None,
        )
        for curve in curves
    ]
    limits = {"chemical accuracy": CHEMICAL_ACCURACY, "": -CHEMICAL_ACCURACY}
    return [
        plots.Plot([*curves, dashed], title, y_title),
        plots.Plot(errors, title, "energy - reference [millihartree]", marks=limits),
    ]


def _exact(figures: Mapping[str, Mapping[str, Any]]) -> float | None:
    for name in ("exact_energy", "energy_exact", "energy_reference"):
        if name in figures:
            return float(figures[name]["value"])
    return None
