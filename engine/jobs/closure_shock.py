"""The job that compares all models on a stationary shock in a 1V gas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ...models.closures.recurrence import geometric
from ..gas.equations.hermite import hyperbolic
from ..learn.explorers.fronts import Shock
from ..learn.shock_models import (
    KNUDSEN,
    Profile,
    Runner,
    fluid,
    kinetic,
    moments,
    realizable,
    runner,
)
from ..protocols import Check, Figure, Outcome
from ..run import Reporter
from ..rundir import RunFolder
from ..schema.closure import ClosureShockScenario


@dataclass(frozen=True)
class ShockComparison:
    """All models on one shock; moment models with the cells halved several times."""

    scenario: ClosureShockScenario
    closures: Mapping[str, Runner]

    @staticmethod
    def of(
        scenario: ClosureShockScenario, modules: Mapping[str, Sequence[Any]]
    ) -> "ShockComparison":
        """Return the job with the analytic baselines and the first member of each model."""
        closures: dict[str, Runner] = {
            "hme": partial(moments, closure=hyperbolic),
            "realizable": partial(realizable, closure=geometric),
        }
        learned = {name: runner(group[0]) for name, group in modules.items()}
        return ShockComparison(scenario, closures | learned)

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Compare inverse thickness and temperature profile with the kinetic solution."""
        s = self.scenario
        shock = Shock(s.mach, s.extent, KNUDSEN)
        folder.load_checkpoint()
        figures: dict[str, Figure] = {}
        checks = []
        total = 2 + len(self.closures) * (1 + s.halvings)
        true = kinetic(shock, 4 * s.cells, s.velocities, s.time)
        self._keep(folder, "kinetic", true)
        figures["steepness_kinetic"] = Figure(true.steepness, "1/free path")
        report.progress(1, total, {"kinetic": f"{true.steepness:.4f}"})
        found = fluid(shock, 2 * s.cells, s.time)
        figures |= self._judge(folder, "nsf", found, true)
        report.progress(2, total, {"nsf": "done"})
        done = 2
        for name, run in self.closures.items():
            last = None
            for level in range(s.halvings + 1):
                cells = s.cells * 2**level
                found, share = run(shock, cells, s.time)
                label = f"{name}_{cells}"
                figures |= self._judge(folder, label, found, true)
                figures[f"fallback_{label}"] = Figure(
                    share, "", note="share of faces, or of cells with speeds not real"
                )
                if found is not None and last is not None:
                    change = abs(found.steepness / last.steepness - 1)
                    figures[f"grid_change_{label}"] = Figure(change, "relative")
                last = found
                done += 1
                report.progress(done, total, {"model": label})
            bad = float(last is None)
            checks.append(Check(f"stable_{name}", "health", bad, 0.0, note="diverged run"))
        return Outcome(figures, tuple(checks))

    def _judge(
        self, folder: RunFolder, name: str, found: Profile | None, true: Profile
    ) -> dict[str, Figure]:
        if found is None:
            return {}
        self._keep(folder, name, found)
        x = torch.linspace(-10.0, 10.0, 401, dtype=torch.float64)
        miss = found.at(x, "temperature") - true.at(x, "temperature")
        error = abs(found.steepness / true.steepness - 1)
        return {
            f"steepness_{name}": Figure(found.steepness, "1/free path"),
            f"thickness_error_{name}": Figure(error, "relative"),
            f"temperature_rms_{name}": Figure(float(miss.square().mean().sqrt())),
        }

    def _keep(self, folder: RunFolder, name: str, found: Profile) -> None:
        table = torch.stack([found.x, found.density, found.temperature])
        unit = "x in free paths; density and temperature from 0 to 1"
        folder.put(f"profile_{name}", table, unit, name)
