"""Errors of models by what there is to predict, at several times of a run.

The run's own model is the truth. An error is the L2 distance of density, momentum and
energy over the departure of the truth from its mean at that time: the answer "uniform gas"
is off by 1, and stands beside the models, as does the answer "nothing has moved".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..comparison import worst
from ..gas.closures.ensemble import ClosureEnsemble
from ..gas.flows import fronts
from ..gas.grid import Grid
from ..gas.resolution import coarsened
from ..protocols import Figure
from ..rundir import RunFolder
from . import linear_response, shock_models
from .comparison import NULL, WORST, WORST_GROUP, cost_figure, error_figures

Observed = Mapping[str, Tensor]
OnGrid = tuple[Grid, Observed]

GROUP = "errors"
"""Of the run's store: ``errors_MODEL [1, times, systems]``, ``profile_MODEL [1 + times, 1,
cells, 3]`` of one system along a line, ``map_MODEL [systems, nx, ny]`` at the last time."""
SHOCK = "shock"
"""Of shocks in a gas with one velocity dimension: ``profile_MODEL [3, cells]`` is x in free
paths ahead, density and temperature from 0 ahead to 1 behind."""
PICTURED = 2
"""System whose profiles are kept, or the last one."""


def observed(seen: Observed, grid: Grid, dimension: int) -> Tensor:
    """Return density, momentum and energy, ``[systems, *cells, 2 + V]``, f64.

    Args:
        seen: what a world observes, on the grid or on a finer one.
        grid: whose cells they are averaged over.
        dimension: D.
    """
    rho, u, theta = (seen[n].double() for n in ("density", "velocity", "temperature"))
    energy = 0.5 * rho * (u.square().sum(-1) + dimension * theta)
    x = torch.cat([rho[..., None], rho[..., None] * u, energy[..., None]], -1)
    for axis, n in enumerate(grid.shape, start=1):
        x = x.unflatten(axis, (n, x.shape[axis] // n)).mean(axis + 1)
    return x


@dataclass(frozen=True)
class Timeline:
    """What the run's own model found at the times of the comparison.

    Attributes:
        folder: of the run.
        grid: on which models are compared.
        times: of the comparison, rising.
        knudsen: ``[systems]``, or ``[systems, cells]``.
        truth: :func:`observed` at the start and at those times.
    """

    folder: RunFolder
    grid: Grid
    times: tuple[float, ...]
    knudsen: Tensor
    truth: list[Tensor]

    def begin(self) -> dict[str, Figure]:
        """Write the truth; return the figures of the models that predict nothing."""
        self._put("x", self.grid.centers(0), "position")
        if self.grid.dim > 1:
            self._put("y", self.grid.centers(1), "y")
        self._put("knudsen", self.knudsen, "Knudsen number")
        self._keep("kinetic", self.truth)
        cells = tuple(range(1, 1 + self.grid.dim))
        start, found = self.truth[0], {}
        for name in NULL:
            same = start.mean(cells, keepdim=True).expand_as(start)
            rest = same if name == "uniform_gas" else start
            found |= self.figures(name, [rest] * len(self.truth))
        return found

    def figures(
        self, name: str, found: Sequence[Tensor], seconds: float | None = None
    ) -> dict[str, Figure]:
        """Write what a model found, as :attr:`truth`; return its errors and its cost."""
        errors = torch.stack(
            [self._error(a, b) for a, b in zip(found[1:], self.truth[1:], strict=True)]
        )
        self._put(f"errors_{name}", errors[None], f"error of {name} by the signal")
        if seconds is not None:
            self._keep(name, found)
        note = WORST if self.knudsen.dim() == 1 else WORST_GROUP
        figures = error_figures(name, errors[None], self.times, note)
        return figures if seconds is None else figures | cost_figure(name, seconds)

    @staticmethod
    def _error(found: Tensor, true: Tensor) -> Tensor:
        """Compare; components of the velocity that one of them lacks are left out."""
        n = min(found.shape[-1], true.shape[-1]) - 2
        found, true = (torch.cat([x[..., : 1 + n], x[..., -1:]], -1) for x in (found, true))
        axes = tuple(range(1, true.dim()))
        signal = true - true.mean(axes[:-1], keepdim=True)
        return ((found - true).square().sum(axes) / signal.square().sum(axes)).sqrt()

    def _keep(self, name: str, found: Sequence[Tensor]) -> None:
        """Write what is drawn."""
        if self.grid.dim == 1:
            one = min(PICTURED, len(found[0]) - 1)
            self._put(f"profile_{name}", torch.stack(list(found))[:, one : one + 1], name)
        elif self.grid.dim == 2:
            self._put(f"map_{name}", found[-1][..., 0], f"density, {name}")

    def _put(self, name: str, values: Tensor, long_name: str) -> None:
        self.folder.put(f"{GROUP}/{name}", values, "", long_name)


@dataclass(frozen=True)
class ShockFront:
    """The shock of the run's own model, on which those of other models are laid.

    Attributes:
        folder: of the run.
        shock: its ends, in a gas with one velocity dimension.
        truth: its profile.
    """

    folder: RunFolder
    shock: fronts.Shock
    truth: shock_models.Profile

    @classmethod
    def of(cls, folder: RunFolder, mach: float, knudsen: float, *seen: Any) -> "ShockFront":
        """Make it of the first system; ``seen`` are its grid and what was observed."""
        shock = fronts.Shock(mach, 1.0, knudsen)
        return cls(folder, shock, _shock_profile(shock, *seen))

    def begin(self) -> dict[str, Figure]:
        """Write the truth; return its inverse thickness."""
        return {"steepness_kinetic": self._keep("kinetic", self.truth)}

    def figures(self, name: str, grid: Grid, seen: Observed) -> dict[str, Figure]:
        """Write a model's shock; return its thickness and its temperature's error."""
        found, true = _shock_profile(self.shock, grid, seen), self.truth
        x = torch.linspace(-10.0, 10.0, 401, dtype=torch.float64)
        miss = found.at(x, "temperature") - true.at(x, "temperature")
        error = abs(found.steepness / true.steepness - 1)
        return {
            f"steepness_{name}": self._keep(name, found),
            f"thickness_error_{name}": Figure(error, "relative"),
            f"temperature_rms_{name}": Figure(float(miss.square().mean().sqrt())),
        }

    def change(self, name: str, seen: OnGrid, coarser: OnGrid) -> dict[str, Figure]:
        """Return how far a model's thickness moved from that on fewer cells."""
        now, last = (
            _shock_profile(self.shock, *each).steepness for each in (seen, coarser)
        )
        note = f"of the inverse thickness, from {coarser[0].cells} cells"
        change = Figure(abs(now / last - 1), "relative", note=note)
        return {f"thickness_change_{name}": change}

    def _keep(self, name: str, found: shock_models.Profile) -> Figure:
        table = torch.stack([found.x, found.density, found.temperature])
        self.folder.put(f"{SHOCK}/profile_{name}", table, "", name)
        return Figure(found.steepness, "1/free path")


def _shock_profile(shock: fronts.Shock, grid: Grid, seen: Observed) -> shock_models.Profile:
    return shock_models.profile(shock, grid, seen["density"][0], seen["temperature"][0])


def grid_change(name: str, seen: OnGrid, coarser: OnGrid) -> dict[str, Figure]:
    """Return how far a model moved from what it found on fewer cells."""
    (grid, found), (fewer, before) = seen, coarser
    ratio = grid.shape[0] // fewer.shape[0]
    moved = []
    for key in ("density", "temperature"):
        now, old = coarsened(found[key], ratio, grid.dim), before[key]
        gap = (now - old).abs().flatten(1).mean(1) / now.abs().flatten(1).mean(1)
        moved.append(float(gap.amax()))
    note = f"density and temperature, relative L1, from {fewer.shape[0]} cells along x"
    change = worst(moved)
    return {f"grid_change_{name}": Figure(change, "relative", note=note)}


@dataclass(frozen=True)
class Beside:
    """What compared models are held against.

    Attributes:
        timeline: the run's own model in time; None where the end alone counts.
        front: its shock; None where there is none.
        ran: all models so far with ``name`` and ``scheme``, the run's own first, their
            grids and what they found.
    """

    timeline: Timeline | None
    front: ShockFront | None
    ran: list[tuple[Any, Grid, Observed]] = field(default_factory=list)

    def changes(self) -> dict[str, Figure]:
        """Return how far models moved from one grid to the next finer one."""
        figures: dict[str, Figure] = {}
        for run, own, seen in self.ran:
            cells = own.cells
            fewer = [
                (grid.cells, (grid, found))
                for other, grid, found in self.ran
                if other.scheme == run.scheme
                and grid.cells < cells
                and own.shape[0] % grid.shape[0] == 0
            ]
            if not fewer:
                continue
            last = max(fewer, key=lambda item: item[0])[1]
            figures |= grid_change(run.name, (own, seen), last)
            if self.front is not None:
                figures |= self.front.change(run.name, (own, seen), last)
        return figures


def small_waves(folder: RunFolder, closures: Mapping[str, Any]) -> dict[str, Figure]:
    """Write what moment equations do to small waves; return how far transport is off.

    Args:
        folder: of the run.
        closures: name to learned closure; those whose response is not known are left out.
    """
    exact, orders, known = linear_response.exact_table(), [5], {}
    for name, closure in closures.items():
        module = closure.members[0] if isinstance(closure, ClosureEnsemble) else closure
        if hasattr(module, "wave_inputs"):
            known[name] = module
            orders.append(module.config.order)
    tables = {"hme": linear_response.table(None, max(orders))}
    for name, module in known.items():
        tables[name] = linear_response.table(module, module.config.order)
    text, found = ", ".join(linear_response.COLUMNS), {}
    folder.put("small_waves/linear_kinetic", exact, "", text)
    for name, each in tables.items():
        folder.put(f"small_waves/linear_{name}", each, "", text)
        miss = linear_response.transport_error(each, exact)
        note = "heat conduction and sound attenuation, k tau to 0.1"
        found[f"transport_error_{name}"] = Figure(miss, "relative", note=note)
    return found
