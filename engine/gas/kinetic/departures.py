r"""Models of a gas beside its particles, and how far they depart from them.

The particles are the truth, with a statistical error. Over the cells and the components of
a field, a model ``m`` departs from the mean ``f`` of B independent blocks ``f_b`` by::

    d^2 = < |f - m|^2 > - < sum_b |f_b - f|^2 > / (B (B - 1)),

where the second term is what noise alone puts into the first: a model that is right has
``d^2 = 0`` within its error, that of the jackknife over the blocks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...comparison import rank, worst
from ...errors import GuardError
from ...protocols import Check, Figure
from ...run import Reporter
from ...rundir import RunFolder
from ..fields import UNITS
from ..initial.shocks import Shock
from ..observe import Observed
from ..resolution import coarsened
from ..runs import Passed, Run
from .averages import Average

AVERAGED = ("density", "velocity", "temperature", "stress", "heat_flux")
IN_WINDOW = 100
"""Frames of which the average of a model is made."""
MOST = 2000
"""Frames of a run, where the average is that of its last moments."""


def carried(seen: Observed, dimension: int) -> tuple[Tensor, ...]:
    """Return what particles average: density, momentum, energy and the fluxes of both; f64.

    Args:
        seen: with :data:`AVERAGED`; vectors and tensors have V components.
        dimension: D.
    """
    rho, u, t, stress, heat = (seen[name].double() for name in AVERAGED)
    momentum, p = rho[..., None] * u, rho * t
    pressure = stress + p[..., None, None] * torch.eye(u.shape[-1], dtype=p.dtype)
    energy = 0.5 * (rho * u.square().sum(-1) + dimension * p)
    second = pressure + momentum[..., :, None] * u[..., None, :]
    flux = heat + (pressure @ u[..., None])[..., 0] + energy[..., None] * u
    return rho, momentum, energy, second, flux


def fields_of(means: Iterable[Tensor], dimension: int) -> dict[str, Tensor]:
    """Return the fields of a gas that carries ``means``: the inverse of :func:`carried`."""
    rho, momentum, energy, second, flux = means
    u = momentum / rho[..., None]
    p = (energy - 0.5 * rho * u.square().sum(-1)) * 2 / dimension
    pressure = second - momentum[..., :, None] * u[..., None, :]
    heat = flux - (pressure @ u[..., None])[..., 0] - energy[..., None] * u
    stress = pressure - p[..., None, None] * torch.eye(u.shape[-1], dtype=p.dtype)
    return dict(zip(AVERAGED, (rho, u, p / rho, stress, heat), strict=True))


def of_ensembles(seen: Observed, ensembles: int) -> Average:
    """Return the mean of what repetitions show at one moment, its errors their scatter."""
    each = {name: seen[name].unflatten(0, (-1, ensembles)) for name in AVERAGED}
    errors = {name: values.std(1) / ensembles**0.5 for name, values in each.items()}
    blocks = [
        {name: values[:, k] for name, values in each.items()} for k in range(ensembles)
    ]
    means = (x.unflatten(0, (-1, ensembles)).mean(1) for x in carried(seen, 3))
    return Average(fields_of(means, 3), errors, blocks)


def laid_on(
    fields: Mapping[str, Tensor], density: Tensor, jump: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Move a shock that drifted along x, until it holds the mass of another.

    Args:
        fields: ``[systems, nx, ...]``, the density among them.
        density: of the other, over the same length.
        jump: of the density, from low to high x.

    Returns:
        The moved fields, linear between cells and as at the ends beyond them, and by which
        part of the length each system was moved.
    """
    excess = fields["density"].flatten(1).mean(1) - density.flatten(1).mean(1)
    shift, n = excess / jump, fields["density"].shape[1]
    at = (torch.arange(n) - n * shift[:, None]).clamp(0, n - 1)
    cell = at.long().clamp(max=n - 2)

    def moved(x: Tensor) -> Tensor:
        shape = (*cell.shape, *(1,) * (x.dim() - 2))
        near, far = (torch.take_along_dim(x, k.reshape(shape), 1) for k in (cell, cell + 1))
        return near + (at - cell).reshape(shape) * (far - near)

    return {name: moved(x) for name, x in fields.items()}, shift


def departure(blocks: Tensor, mean: Tensor, model: Tensor) -> tuple[float, float]:
    """Return ``d`` of one field and its standard error, ``sqrt(d^2 + error) - d``.

    Args:
        blocks: ``[blocks, cells, components]``.
        mean: of all of them, ``[cells, components]``.
        model: same shape.
    """
    n, cells = len(blocks), mean.shape[0]
    off = (blocks - blocks.mean(0) + mean - model).flatten(1)
    total, own = off.sum(0), off.square().sum(1)
    squared = (total.square().sum() - own.sum()) / (n * (n - 1) * cells)
    # without block k: |total - off_k|^2 less the squares of the others
    without = total.square().sum() - 2 * off @ total + 2 * own - own.sum()
    without = without / ((n - 1) * (n - 2) * cells)
    error = float((without - without.mean()).square().sum() * (n - 1) / n) ** 0.5
    squared = max(float(squared), 0.0)
    return math.sqrt(squared), math.sqrt(squared + error) - math.sqrt(squared)


@dataclass(frozen=True)
class Beside:
    """Models that are run beside particles.

    Attributes:
        runs: the models.
        since: time from which on fields are averaged; None: those at the end count.
        counted: ``[*grid]``, cells that are gas.
    """

    runs: Sequence[Run]
    since: float | None
    counted: Tensor

    def compare(
        self, folder: RunFolder, report: Reporter, truth: Average
    ) -> tuple[dict[str, Figure], list[Check]]:
        """Run the models, write their fields, and return how far they depart."""
        figures: dict[str, Figure] = {}
        checks: list[Check] = []
        for run in self.runs:
            report.say(f"compared with {run.name}, {run.steps} steps")
            try:
                fields, last, excess = self._found(run)
            except GuardError as error:
                checks.append(run.stopped(report, error))
                continue
            if isinstance(run.problem.initial, Shock):
                fields, moved = self._laid(run, fields, truth)
                figures[f"shift_{run.name}"] = moved
            run.write_beside(folder, fields)
            if self.since is not None:
                group = folder.store[f"compare/{run.name}"]
                group.attrs["caption"] = f"Averaged from time {self.since:g} on."
            figures |= self._departures(run, fields, truth)
            figures[f"seconds_{run.name}"] = Figure(
                last.seconds, "s", note="CPU time of its steps"
            )
            checks += run.checks_beside(last, excess)
        return figures, checks

    def _found(self, run: Run) -> tuple[dict[str, Tensor], Passed, float]:
        """Return its fields, its end, and how far it left the tables of the gas."""
        gas, count = run.problem.gas, frames_of(run.problem.end, self.since)
        excess, samples = 1.0, 0
        sums: Sequence[Tensor] = ()
        for frame, last in enumerate(run.frames(count)):
            excess = worst((excess, run.excess(last.seen)))
            now = run.problem.end * frame / count
            if frame == count or (self.since is not None and now > self.since):
                more, samples = carried(last.seen, gas.dimension), samples + 1
                sums = [a + b for a, b in zip(sums, more, strict=True)] if sums else more
        means = (total / samples for total in sums)
        return fields_of(means, gas.dimension), last, excess

    @staticmethod
    def _laid(
        run: Run, found: Mapping[str, Tensor], truth: Average
    ) -> tuple[dict[str, Tensor], Figure]:
        """Return the fields of a shock on that of the particles, and how far it was."""
        grid, side = run.problem.grid, run.problem.sides[0]
        jump = float(side.high.density) - float(side.low.density)
        fields, shift = laid_on(found, truth.fields["density"], jump)
        length = float(shift[shift.abs().argmax()]) * (grid.upper[0] - grid.lower[0])
        note = "by which its shock was moved onto that of the particles"
        return fields, Figure(length, UNITS["x"], note=note)

    def _departures(
        self, run: Run, found: Mapping[str, Tensor], truth: Average
    ) -> dict[str, Figure]:
        inside, dim = self.counted, self.counted.dim()
        finer = run.problem.grid.shape[0] // inside.shape[0]
        if run.problem.body is not None:
            solid = coarsened(run.problem.body.mask.cpu().double()[None], finer, dim)[0]
            inside = inside & (solid == 0)
        note = "root mean square over the cells, noise of the particles taken off"
        if len(run.problem.knudsen) > 1:
            note += "; largest of the batch"
        figures = {}
        for name in (each for each in run.fields if each in found):
            model = coarsened(found[name], finer, dim)
            mean, own, *blocks = (
                _columns(x, model, inside)
                for x in (truth.fields[name], model, *(b[name] for b in truth.blocks))
            )
            each = zip(torch.stack(blocks, 1), mean, own, strict=True)
            found_in = [departure(*system) for system in each]
            value, error = max(found_in, key=lambda pair: rank(pair[0]))
            told = f"departure_{name}_{run.name}"
            figures[told] = Figure(value, UNITS[name], error=error, note=note)
        return figures


def _columns(values: Tensor, model: Tensor, inside: Tensor) -> Tensor:
    """Return the components that a model has, ``[systems, cells, components]``."""
    for axis in range(1 + inside.dim(), model.dim()):
        values = values.narrow(axis, 0, model.shape[axis])
    cells = values[:, inside]
    return cells.reshape(*cells.shape[:2], -1)


def frames_of(end: float, since: float | None) -> int:
    """Return the frames at which a model is looked at, evenly in time."""
    if since is None:
        return 1
    return min(MOST, math.ceil(IN_WINDOW * end / (end - since) - 1e-9))
