"""The job that trains realizable closures on stationary kinetic shocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ....models import card
from ....models.closures.recurrence import RecurrenceClosure
from ... import runtime
from ...protocols import Check, Figure, Outcome
from ...run import Reporter
from ...rundir import RunFolder
from ...schema.closure import ClosureShockTrainScenario
from ..explorers.steady import Profile, stationary, transient
from . import recurrence as training
from .closure_job import recipe_of

TIMES = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 15.0)
"""Times in units of tau at which a shock on its way is sampled."""

WIDTHS = (0.3, 1.0, 3.0)
"""Widths of the tanh that they start from, in mean free paths ahead."""


@dataclass(frozen=True)
class RecurrenceTraining:
    """Solves the shocks, trains the members, writes weights and cards."""

    scenario: ClosureShockTrainScenario

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Train; resumes after the last member trained (the labels take seconds)."""
        s = self.scenario
        begun = folder.load_checkpoint()
        kept = dict(begun.tensors) if begun else {}
        done = len(s.mach) + len(s.held_out) + len(s.moving) + s.members
        shocks = self._solve(s.mach, 0, done, report)
        tests = self._solve(s.held_out, len(s.mach), done, report)
        worst = max(one.residual for one in (*shocks, *tests))
        figures = {
            "label_residual": Figure(worst, "relative", note="largest of the shocks")
        }
        lesson, held = self._lesson(shocks, done, report), training.examples(tests)
        for member in range(s.members):
            start = f"member{member}."
            if not any(key.startswith(start) for key in kept):
                module = self._member(member, lesson, folder)
                kept |= {start + k: v for k, v in module.state_dict().items()}
                folder.save_checkpoint(member + 1, kept)
            module = s.model.build().double()
            module.load_state_dict(
                {k[len(start) :]: v for k, v in kept.items() if k.startswith(start)}
            )
            found = {
                "log_b3_rms": training.miss(module, lesson.still),
                "log_b3_rms_held_out": training.miss(module, held),
                "complex_speeds": training.complex_share(module, lesson.still.some),
                "complex_speeds_held_out": training.complex_share(module, held.some),
            }
            card.save_module(
                folder.path / f"{s.name}_{member}", module, self.information(found)
            )
            figures |= {f"{name}_{member}": Figure(v) for name, v in found.items()}
            report.progress(done - s.members + member + 1, done, {"trained": str(member)})
        note = "largest residual of the stationary shocks, relative"
        return Outcome(figures, (Check("labels", "accuracy", worst, 0.01, note=note),))

    def _solve(
        self, numbers: Sequence[float], first: int, done: int, report: Reporter
    ) -> list[Profile]:
        s, found = self.scenario, []
        for number, mach in enumerate(numbers, start=first + 1):
            extent = s.extent if mach > 2.0 else s.extent * 2 / 3
            found.append(stationary(mach, extent, s.cells, s.velocities))
            report.progress(number, done, {"shock": f"Mach {mach:g}"})
        return found

    def _lesson(
        self, shocks: Sequence[Profile], done: int, report: Reporter
    ) -> training.Lesson:
        s, rng, parts = self.scenario, runtime.generator(self.scenario.seed, 7_400), []
        for number, mach in enumerate(s.moving, start=len(s.mach) + len(s.held_out) + 1):
            raw = [transient(mach, width, TIMES) for width in WIDTHS]
            parts.append(training.moving(torch.cat(raw), s.samples, rng))
            report.progress(number, done, {"on its way": f"Mach {mach:g}"})
        return training.Lesson(training.examples(shocks), training.joined(parts))

    def _member(
        self, member: int, lesson: training.Lesson, folder: RunFolder
    ) -> RecurrenceClosure:
        s = self.scenario
        module = s.model.build(s.seed * 1000 + member).double()

        def log(step: int, loss: float) -> None:
            if step % 100 == 0 or step == s.steps - 1:
                folder.log(event="fit", member=member, step=step, loss=loss)

        rng = runtime.generator(s.seed, 7_500 + member)
        rules = training.Rules(s.hyperbolic, s.plain)
        training.fit(module, lesson, s.steps, s.batch, s.rate, rules, rng, log)
        return module

    def information(self, figures: dict[str, float]) -> dict[str, Any]:
        """Return what a member's card says, besides the form."""
        return {
            "units": "none: b_3 over theta of scale-free inputs; 1V gas, BGK, any tau",
            "domain": {"shocks": "Mach " + ", ".join(f"{m:g}" for m in self.scenario.mach)},
            "data": recipe_of(self.scenario),
            "figures": figures,
        }
