"""Closures learned in one velocity dimension, on flows of the plane, beside HME."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models.closures.face import FaceClosure
from ..errors import GuardError
from ..gas.boundaries import ALL_PERIODIC
from ..gas.moment import hyperbolic
from ..gas.moment.directional import DirectionalClosure
from ..gas.moment.hermite import koren
from ..gas.moment.hyperbolic import HyperbolicClosure, HyperbolicWorld
from ..learn.comparison import MEDIAN, WORST
from ..learn.explorers import planes
from ..learn.explorers.flows import DECADES
from ..protocols import Figure, Outcome, told
from ..run import Reporter
from ..rundir import RunFolder
from ..schema.closure import ClosurePlaneScenario


@dataclass(frozen=True)
class PlaneRun:
    """What a model made of the flows.

    Attributes:
        fields: ``[times, flows, 4, nx, ny]`` density, momenta, energy; NaN once lost.
        steps: made in all.
        given_way: share of the cells where the closure gave way to HME, at the times.
    """

    fields: Tensor
    steps: int
    given_way: float = 0.0

    def errors(self, true: Tensor) -> Tensor:
        """Return relative errors ``[times, flows]``; ``true`` as ``fields``."""
        pairs = zip(self.fields, true, strict=True)
        return torch.stack([planes.relative_error(a, b) for a, b in pairs])


def run_plane(
    start: Tensor,
    knudsen: Tensor,
    times: Sequence[float],
    order: int,
    closure: HyperbolicClosure | None = None,
    courant: float = 0.8,
) -> PlaneRun:
    """Run the moment equations of the plane from w at the first of some times.

    Args:
        start: ``[flows, N, cells, cells]`` w.
        knudsen: ``[flows]``.
        times: rising.
        order: M.
        closure: None for HME.
        courant: of the fastest signal at the start.
    """
    grid = planes.box(start.shape[-1])
    longest = courant / hyperbolic.fastest_rate(start, grid, order, 2)
    world = HyperbolicWorld(
        grid=grid,
        sides=(ALL_PERIODIC, ALL_PERIODIC),
        gas=planes.GAS,
        knudsen=knudsen,
        order=order,
        time_step=longest,
        closure=closure,
        limiter=koren,
    )
    state, total, away = world.start(start), 0, []
    first = planes.conserved(state.moments)
    found = torch.full((len(times), *first.shape), math.nan, dtype=first.dtype)
    found[0] = first
    try:
        with torch.no_grad():
            for number, (a, b) in enumerate(itertools.pairwise(times), start=1):
                steps = max(1, math.ceil((b - a) / longest - 1e-9))
                world = replace(world, time_step=(b - a) / steps)
                for _ in range(steps):
                    state = world.step(state)
                total += steps
                found[number] = planes.conserved(state.moments)
                if closure is not None:
                    w = hyperbolic.primitive(world.basis, state.moments)
                    said = closure(world.basis, w, world.relaxation_time(w))
                    away.append(float(said.fallback.mean()))
    except GuardError:
        pass
    return PlaneRun(found, total, max(away, default=0.0))


def worst_decade(errors: Tensor) -> Tensor:
    """Return the mean error of the worst Knudsen decade, ``[times]``."""
    decades = torch.arange(errors.shape[1]) % DECADES
    present = [d for d in range(DECADES) if bool((decades == d).any())]
    safe = errors.nan_to_num(nan=math.inf)
    return torch.stack([safe[:, decades == d].mean(1) for d in present]).amax(0)


@dataclass(frozen=True)
class PlaneComparison:
    """HME and learned closures on flows of the plane, against the kinetic equation."""

    scenario: ClosurePlaneScenario
    modules: dict[str, list[FaceClosure]]

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Compare; the kinetic solutions are kept in the checkpoint, flow by flow."""
        s = self.scenario
        times = (0.0, *s.times)
        raw = self._reference(times, folder, report)
        some = planes.flows(s.held_out_seed, s.flows)
        kn = torch.tensor([each.knudsen for each in some], dtype=torch.float64)
        true = torch.stack([planes.conserved(each) for each in raw])
        self._put(folder, "x", planes.box(s.cells).centers(0), "L", "x")
        self._put(folder, "y", planes.box(s.cells).centers(1), "L", "y")
        self._put(folder, "knudsen", kn, "", "Knudsen number")
        self._put(folder, "map_kinetic", true[-1, :, 0], "rho0", "density, kinetic")
        closures: dict[str, tuple[int, HyperbolicClosure | None]] = {}
        for name, members in self.modules.items():
            order = members[0].config.order
            closures["hme"] = order, None
            closures[name] = order, DirectionalClosure(members[0].float(), 1.0 / s.cells)
        figures: dict[str, Figure] = {}
        verdicts: dict[str, str] = {}
        for number, (name, (order, closure)) in enumerate(closures.items()):
            done = run_plane(planes.from_raw(raw[0], order), kn, times, order, closure)
            figures |= self._judge(name, done, true, folder)
            lost = not bool(done.fields.isfinite().all())
            verdicts[f"stable_{name}"] = "a run was lost" if lost else "ok"
            report.progress(number + 1, len(closures), {"model": name})
        return Outcome(figures, told(verdicts))

    def _reference(
        self, times: Sequence[float], folder: RunFolder, report: Reporter
    ) -> Tensor:
        """Raw moments to order 6, ``[times, flows, N, cells, cells]``."""
        s = self.scenario
        kept = folder.load_checkpoint()
        parts = [kept.tensors["raw"]] if kept is not None else []
        order = max(m.config.order for group in self.modules.values() for m in group)
        for number in range(sum(p.shape[1] for p in parts), s.flows):
            some = planes.flows(s.held_out_seed, 1, number)
            parts.append(
                planes.solve(
                    some, times, s.cells * s.refinement, s.velocities, s.cells, order
                )
            )
            folder.save_checkpoint(number + 1, {"raw": torch.cat(parts, 1)})
            report.progress(number + 1, s.flows, {"kinetic": f"flow {number + 1}"})
        return torch.cat(parts, 1)

    def _judge(
        self, name: str, done: PlaneRun, true: Tensor, folder: RunFolder
    ) -> dict[str, Figure]:
        errors = done.errors(true)
        self._put(folder, f"map_{name}", done.fields[-1, :, 0], "rho0", f"density, {name}")
        late = errors[None, 1:]
        self._put(folder, f"errors_{name}", late, "", f"relative error of {name}")
        worst = worst_decade(errors)
        found = {}
        for i, time in enumerate(self.scenario.times, start=1):
            tag = f"{name}_t{time:g}".replace(".", "")
            found[f"worst_decade_{tag}"] = Figure(float(worst[i]), "relative", note=WORST)
            found[f"median_{tag}"] = Figure(
                float(errors[i].median()), "relative", note=MEDIAN
            )
        if name != "hme":
            note = "share of cells, to HME, at the times compared"
            found[f"fallback_{name}"] = Figure(done.given_way, "", note=note)
        return found

    def _put(
        self, folder: RunFolder, name: str, values: Tensor, unit: str, text: str
    ) -> None:
        array = folder.store.create_array(name, data=values.numpy(), overwrite=True)
        array.attrs["unit"], array.attrs["long_name"] = unit, text
