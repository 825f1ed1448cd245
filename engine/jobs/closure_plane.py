"""The job that compares closures learned in one dimension on flows of the plane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...models.closures.contract import Closure
from ...models.closures.face import FaceClosure
from ..errors import InputError
from ..gas.closures.directional import DirectionalClosure
from ..learn.comparison import cost_figure, error_figures
from ..learn.explorers import planes
from ..learn.plane_models import PlaneRun, run_plane
from ..protocols import Check, Figure, Outcome
from ..run import Reporter
from ..rundir import RunFolder
from ..schema.closure import ClosurePlaneScenario

MOST = 6
"""Highest order that the directions of :mod:`..gas.closures.directional` determine."""


@dataclass(frozen=True)
class PlaneComparison:
    """HME and learned closures on flows of the plane, against the kinetic equation."""

    scenario: ClosurePlaneScenario
    order: int
    closures: Mapping[str, Closure | None]

    @staticmethod
    def of(
        scenario: ClosurePlaneScenario, modules: Mapping[str, Sequence[Any]]
    ) -> "PlaneComparison":
        """Return the job with HME and the first member of each model.

        Raises:
            InputError: a model is no :class:`FaceClosure`, or of another order.
        """
        closures: dict[str, Closure | None] = {"hme": None}
        orders = {members[0].config.order for members in modules.values()}
        if len(orders) > 1 or max(orders) > MOST:
            raise InputError(
                f"models: orders {sorted(orders)}; on the plane all have one order, at "
                f"most {MOST}"
            )
        for name, members in modules.items():
            if not isinstance(members[0], FaceClosure):
                found = type(members[0]).__name__
                raise InputError(f"models: {name}: {found} cannot be used on the plane")
            closures[name] = DirectionalClosure(members[0].float())
        return PlaneComparison(scenario, orders.pop(), closures)

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Compare; the kinetic solutions are kept in the checkpoint, flow by flow."""
        s = self.scenario
        times = (0.0, *s.times)
        raw = self._reference(times, folder, report)
        some = planes.flows(s.held_out_seed, s.flows)
        kn = torch.tensor([each.knudsen for each in some], dtype=torch.float64)
        true = torch.stack([planes.conserved(each) for each in raw])
        folder.put("x", planes.box(s.cells).centers(0), "L", "x")
        folder.put("y", planes.box(s.cells).centers(1), "L", "y")
        folder.put("knudsen", kn, "", "Knudsen number")
        folder.put("map_kinetic", true[-1, :, 0], "rho0", "density, kinetic")
        figures: dict[str, Figure] = {}
        checks, start = [], planes.from_raw(raw[0], self.order)
        for number, (name, closure) in enumerate(self.closures.items(), start=1):
            done = run_plane(start, kn, times, self.order, closure)
            figures |= self._judge(name, done, true, folder)
            bad = float(not bool(done.fields.isfinite().all()))
            checks.append(Check(f"stable_{name}", "health", bad, 0.0, note="diverged runs"))
            report.progress(number, len(self.closures), {"model": name})
        return Outcome(figures, tuple(checks))

    def _reference(
        self, times: Sequence[float], folder: RunFolder, report: Reporter
    ) -> Tensor:
        """Raw moments to order 6, ``[times, flows, N, cells, cells]``."""
        s = self.scenario
        kept = folder.load_checkpoint()
        parts = [kept.tensors["raw"]] if kept is not None else []
        for number in range(sum(p.shape[1] for p in parts), s.flows):
            some = planes.flows(s.held_out_seed, 1, number)
            fine = s.cells * s.refinement
            raw = planes.solve(some, times, fine, s.velocities, s.cells, self.order)
            parts.append(raw)
            folder.save_checkpoint(number + 1, {"raw": torch.cat(parts, 1)})
            report.progress(number + 1, s.flows, {"kinetic": f"flow {number + 1}"})
        return torch.cat(parts, 1)

    def _judge(
        self, name: str, done: PlaneRun, true: Tensor, folder: RunFolder
    ) -> dict[str, Figure]:
        errors = done.errors(true)
        folder.put(f"map_{name}", done.fields[-1, :, 0], "rho0", f"density, {name}")
        late = errors[None, 1:]
        folder.put(f"errors_{name}", late, "", f"error of {name} by the signal")
        found = error_figures(name, errors[None], (0.0, *self.scenario.times))
        found |= cost_figure(name, done.seconds)
        if name != "hme":
            note = "share of cells, to HME, at the times compared"
            found[f"fallback_{name}"] = Figure(done.fallback, "", note=note)
        return found
