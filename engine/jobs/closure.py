"""Jobs that compare learned moment closures on flows, and that train them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...models import card
from ...models.closures.contract import takes_faces
from ...models.closures.face import FaceClosure
from ..errors import InputError
from ..learn import comparison, linear_response
from ..learn.explorers import flows
from ..learn.explorers.flows import sample_times
from ..learn.trainers.closure_job import ClosureTraining
from ..learn.trainers.recurrence_job import RecurrenceTraining
from ..protocols import Check, Figure, Job, Outcome
from ..run import Reporter
from ..rundir import RunFolder
from ..schema.base import locate
from ..schema.closure import (
    ClosureModel,
    ClosurePlaneScenario,
    ClosureScenario,
    ClosureShockScenario,
    ClosureShockTrainScenario,
    ClosureTrainScenario,
)

FAR = "share of the faces where the closure was outside its training range"


def assemble(
    scenario: ClosureTrainScenario
    | ClosureScenario
    | ClosureShockScenario
    | ClosureShockTrainScenario
    | ClosurePlaneScenario,
    base: Path,
) -> Job:
    """Return the job of a closure scenario.

    Raises:
        InputError: a model is missing, damaged, or no closure that fits.
    """
    if scenario.device != "cpu":
        raise InputError("device: closures are trained and compared on cpu; allowed: cpu")
    match scenario:
        case ClosureTrainScenario():
            return ClosureTraining(scenario)
        case ClosureShockTrainScenario():
            return RecurrenceTraining(scenario)
        case ClosureScenario():
            return Comparison(scenario, load_all(scenario.models, base))
        case ClosureShockScenario():
            from .closure_shock import ShockComparison

            return ShockComparison.of(scenario, load_any(scenario.models, base))
        case ClosurePlaneScenario():
            from .closure_plane import PlaneComparison

            return PlaneComparison.of(scenario, load_all(scenario.models, base))


Loaded = dict[str, list[Any]]


def load_all(models: Sequence[ClosureModel], base: Path) -> Loaded:
    """Return the closures of faces of a scenario in f64, by the names it gives them."""
    return {m.name: [load(locate(path, base)) for path in m.members] for m in models}


def load_any(models: Sequence[ClosureModel], base: Path) -> Loaded:
    """Return the closures of a scenario that takes every contract."""
    return {m.name: [_read(locate(path, base)) for path in m.members] for m in models}


def load(path: Path) -> Any:
    """Return one closure of faces in f64.

    Raises:
        InputError: missing, damaged, or another kind of model.
    """
    module = _read(path)
    if not takes_faces(module):
        raise InputError(
            f"models: {path}: {type(module).__name__} is no closure of faces; it serves "
            'in scenarios of kind closure with flow = "shock"'
        )
    return module


def load_realizable(path: Path) -> Any:
    """Return one realizable closure in f64.

    Raises:
        InputError: missing, damaged, or another kind of model.
    """
    module = _read(path)
    if module.config.contract != "recurrence":
        raise InputError(f"models: {path}: {type(module).__name__} gives no recurrence")
    return module


def _read(path: Path) -> Any:
    try:
        module, _ = card.load_module(path)
    except (FileNotFoundError, card.DamagedModelError, card.UnknownModelError) as error:
        raise InputError(f"models: {error}") from error
    if getattr(module.config, "contract", None) not in ("faces", "recurrence"):
        raise InputError(f"models: {path}: {type(module).__name__} is no moment closure")
    return module.double()


@dataclass(frozen=True)
class Comparison:
    """Runs every model on the same held-out flows."""

    scenario: ClosureScenario
    modules: Loaded

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Compare; the kinetic reference is computed once and kept in the checkpoint."""
        s = self.scenario
        true = self._reference(folder, report)
        figures: dict[str, Figure] = {}
        checks: list[Check] = []
        total = (
            len(comparison.NULL)
            + len(s.baselines)
            + sum(len(each) for each in self.modules.values())
        )
        count = 0
        x = flows.box(s.cells).centers(0)
        folder.put("x", x, "L", "position")
        folder.put("knudsen", true.knudsen, "", "Knudsen number")
        shown = slice(s.pictured, s.pictured + 1)
        folder.put("profile_kinetic", true.moments(3)[:, shown, :, :3], "", "kinetic")
        figures |= self._linear(folder)
        for name in (*comparison.NULL, *s.baselines):
            run = self._baseline(name, true)
            figures |= self._figures(name, [run], true, folder)
            count += 1
            report.progress(count, total, {"model": name})
        for name, members in self.modules.items():
            runs = []
            for module in members:
                order = module.config.order
                runs.append(comparison.run_moments(true, order, module))
                count += 1
                report.progress(count, total, {"model": name})
            figures |= self._figures(name, runs, true, folder)
            away = max(float(run.fallback.mean()) for run in runs)
            figures[f"fallback_{name}"] = Figure(away, "", note="share of faces, to HME")
            far = max(float(run.outside.mean()) for run in runs)
            last = [run.moments[-1].isfinite().flatten(1).all(1) for run in runs]
            bad = sum(int((~well).sum()) for well in last)
            checks += [
                Check(f"range_{name}", "domain", far, 0.05, note=FAR),
                Check(f"stable_{name}", "health", bad, 0, note="diverged runs"),
            ]
        return Outcome(figures, tuple(checks))

    def _reference(self, folder: RunFolder, report: Reporter) -> comparison.Reference:
        s = self.scenario
        times, parts = (0.0, *s.times), []
        kept = folder.load_checkpoint()
        if kept is not None:
            parts = [kept.tensors["raw"]]
        begun = sum(part.shape[1] for part in parts)
        for first in range(begun, s.flows, 4):
            some = flows.flows(s.family, s.held_out_seed, min(4, s.flows - first), first)
            raw = flows.solve(some, times, s.cells * s.refinement, s.velocities, s.cells)
            parts.append(raw)
            folder.save_checkpoint(first + raw.shape[1], {"raw": torch.cat(parts, 1)})
            report.progress(first + raw.shape[1], s.flows, {"kinetic": s.family})
        every = flows.flows(s.family, s.held_out_seed, s.flows)
        kn = flows.knudsen_numbers(every, flows.box(s.cells))
        return comparison.Reference(torch.cat(parts, 1), kn, times)

    def _linear(self, folder: RunFolder) -> dict[str, Figure]:
        """Write what the models do to small waves; return how far transport is off."""
        exact = linear_response.exact_table()
        order = max(m.config.order for group in self.modules.values() for m in group)
        tables = {"hme": linear_response.table(None, order)}
        for name, members in self.modules.items():
            if isinstance(members[0], FaceClosure):  # others have no known response
                tables[name] = linear_response.table(members[0], members[0].config.order)
        text = ", ".join(linear_response.COLUMNS)
        folder.put("linear_kinetic", exact, "", text)
        found = {}
        for name, each in tables.items():
            folder.put(f"linear_{name}", each, "", text)
            miss = linear_response.transport_error(each, exact)
            note = "heat conduction and sound attenuation, k tau to 0.1"
            found[f"transport_error_{name}"] = Figure(miss, "relative", note=note)
        return found

    def _baseline(self, name: str, true: comparison.Reference) -> comparison.Run:
        match name:
            case "hme":
                order = max(m.config.order for g in self.modules.values() for m in g)
                return comparison.run_moments(true, order)
            case "uniform_gas" | "unmoved_gas":
                return comparison.run_null(true, name)
            case _:
                return comparison.run_fluid(true, name == "nsf")

    def _figures(
        self,
        name: str,
        runs: Sequence[comparison.Run],
        true: comparison.Reference,
        folder: RunFolder,
    ) -> dict[str, Figure]:
        """Worst decade and flow (medians over members), median flow, CPU seconds."""
        errors = torch.stack([run.errors(true) for run in runs])
        folder.put(f"errors_{name}", errors, "", f"error of {name} by the signal")
        decades = true.knudsen.dim() == 1  # elsewhere it varies within every flow
        note = comparison.WORST if decades else comparison.WORST_GROUP
        found = comparison.error_figures(name, errors, true.times, note)
        if name in comparison.NULL:
            return found
        shown = slice(self.scenario.pictured, self.scenario.pictured + 1)
        folder.put(f"profile_{name}", runs[0].moments[:, shown, :, :3], "", name)
        return found | comparison.cost_figure(name, max(run.seconds for run in runs))


__all__ = ["assemble", "load", "load_all", "sample_times"]
