"""A moment closure trained through the solver that uses it, and what that gains."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..engine import runtime
from ..engine.audit.certificate import write_certificate
from ..engine.audit.certify import Horizons, certify_horizons
from ..engine.gas.equations.line import primitive
from ..engine.gas.flows import lines as flows
from ..engine.learn import comparison
from ..engine.learn.trainers import closure as training
from ..engine.protocols import Check, Figure, Job, Outcome
from ..engine.run import Reporter
from ..engine.rundir import RunFolder, write_group
from ..models import card
from ..models.closures.face import FaceClosure, FaceForm, FaceStencil
from .schema import ClosureLoopScenario

HELD_OUT_SEED = 20190413
"""Of the flows that closures are tested on."""


@dataclass(frozen=True)
class ClosureLoop:
    """Regression first, then training through the solver; both are tested in the solver."""

    scenario: ClosureLoopScenario

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Label, fit, train in the loop, certify, compare."""
        s = self.scenario
        report.progress(0, 5, {"kinetic": f"{s.flows + s.held_out} flows"})
        data, true = self._labelled(), self._reference()
        module = self._module()
        rng = runtime.generator(s.seed, 9_000)
        first: list[tuple[int, float]] = []

        def log(stage: str, step: int, total: int, loss: float) -> None:
            first.append((step, loss))
            if step % 50 == 0:
                report.progress(1, 5, {stage: f"step {step} of {total}"})

        training.fit(module, [data], s.regression, 24, s.regression_rate, 0.0, rng, log)
        regressed = copy.deepcopy(module)
        loss, inside = training.unrolled_steps(module, [data], s.batch, 0.6, rng), []
        for step, value in training.descend(module, loss, s.steps, s.rate):
            inside.append(value)
            if step % 10 == 0:
                folder.log(step=step, loss=value)
                report.progress(2, 5, {"in the loop": f"step {step} of {s.steps}"})
        report.progress(3, 5, {"certificate": "horizons"})
        horizons = self._horizons(module, data)
        report.progress(4, 5, {"held out": "comparison"})
        return self._outcome(folder, module, regressed, true, inside, horizons)

    # -- data -----------------------------------------------------------------------------

    @property
    def times(self) -> tuple[float, ...]:
        """When flows are sampled."""
        count = max(3, round(self.scenario.until / 0.05))
        return tuple(self.scenario.until * i / count for i in range(count + 1))

    def _labelled(self) -> training.Labelled:
        s = self.scenario
        some = flows.flows(s.family, s.seed, s.flows)
        order = s.extra + 3
        fine = s.cells * s.refinement
        raw = flows.solve(some, self.times, fine, s.velocities, s.cells, order)
        kn = flows.knudsen_numbers(some, flows.box(s.cells))
        return training.labelled(raw, kn, self.times, s.extra + 2)

    def _reference(self) -> comparison.Reference:
        s = self.scenario
        some = flows.flows(s.family, HELD_OUT_SEED, s.held_out)
        fine = s.cells * s.refinement
        return comparison.reference(some, self.times, fine, s.velocities, s.cells)

    def _module(self) -> FaceClosure:
        s = self.scenario
        form = FaceForm(s.extra + 2, tuple(s.hidden), resolution=1.0 / s.cells)
        with torch.random.fork_rng():
            torch.manual_seed(s.seed * 1000)
            return form.build().double()

    # -- the certificate ------------------------------------------------------------------

    def _horizons(self, module: FaceClosure, data: training.Labelled) -> Horizons:
        """Mean square of the highest moment after n steps, by all weights together."""
        start, kn = data.moments[0, :2], data.knudsen[:2]
        cells = start.shape[1]
        world = training.moment_world(module, kn, cells, 1.0, torch.float64)
        begun = world.start(data.w[0, :2, ..., :-1].movedim(-1, 1))
        world = world.with_time_step(world.stable_step(begun, 0.5))
        still = {k: v.detach() for k, v in module.named_parameters()}
        chosen = {k: v for k, v in still.items() if v.numel() > 1}

        def after(count: float):  # noqa: ANN202 - a stage of the certificate
            def stage(p: Mapping[str, Tensor]) -> Tensor:
                def member(row: FaceStencil):  # noqa: ANN202 - the module's own answer
                    return torch.func.functional_call(module, {**still, **p}, (row,))

                equations = replace(world.equations, closure=member)
                one = replace(world, equations=equations)
                state = one.start(primitive(start).movedim(-1, 1))
                for _ in range(int(count)):
                    state = one.step(state)
                return state.moments[:, -1].square().mean()

            return stage

        largest = dict(sorted(chosen.items(), key=lambda item: -item[1].numel())[:2])
        return certify_horizons(
            after, self.scenario.horizons, largest, steps=[1e-2, 1e-3, 1e-4, 1e-5]
        )

    # -- results ---------------------------------------------------------------------

    def _outcome(
        self,
        folder: RunFolder,
        module: FaceClosure,
        regressed: FaceClosure,
        true: comparison.Reference,
        inside: list[float],
        horizons: Horizons,
    ) -> Outcome:
        s, order = self.scenario, self.scenario.extra + 2
        runs = {
            "hme": comparison.run_moments(true, order),
            "regressed": comparison.run_moments(true, order, regressed),
            "in_the_loop": comparison.run_moments(true, order, module),
        }
        errors = {name: run.errors(true) for name, run in runs.items()}
        figures, checks = {}, write_certificate(folder, horizons.certificate)
        for name, each in errors.items():
            figures[f"error_{name}"] = Figure(
                float(each[-1].mean()), "", note=f"mean over flows at t = {s.until:g}"
            )
        gain = figures["error_regressed"].value / figures["error_in_the_loop"].value
        figures["gain_of_the_loop"] = Figure(gain, "", note="over regression alone")
        figures["usable_horizon"] = Figure(
            horizons.usable, "steps", note="longest certified gradient"
        )
        figures["growth_of_the_gradient"] = Figure(
            horizons.rate, "1/step", note="fitted; positive where it is exponential"
        )
        lost = int((~runs["in_the_loop"].moments.isfinite()).sum())
        note = "moments of held-out runs that are not finite"
        checks.append(Check("stable", "health", lost, 0, note=note))
        self._write(folder, true, runs, errors, inside)
        information = {
            "units": "length L, velocity sqrt(R T0); 1V gas, BGK with constant tau = Kn",
            "figures": {k: f.value for k, f in figures.items()},
        }
        card.save_module(folder.path / s.name, module, information)
        return Outcome(figures, checks)

    def _write(
        self,
        folder: RunFolder,
        true: comparison.Reference,
        runs: Mapping[str, comparison.Run],
        errors: Mapping[str, Tensor],
        inside: list[float],
    ) -> None:
        times = torch.tensor(true.times, dtype=torch.float64)
        write_group(
            folder,
            "errors",
            {"t": (times, "L / speed")} | {k: (e.mean(1), "") for k, e in errors.items()},
            "Distance from the kinetic equation on held-out flows",
            "Relative error of density, momentum and energy. Hyperbolic moments: the "
            "classical closure; regressed: a network fitted to the closing moment; in the "
            "loop: the same network trained on through the solver.",
            axes=("t",),
            y_title="relative error",
        )
        worst = int(errors["hme"][-1].argmax())
        x = flows.box(self.scenario.cells).centers(0)
        curves = {k: (run.moments[-1, worst, :, 0], "") for k, run in runs.items()}
        kinetic = true.moments(3)[-1, worst, :, 0]
        write_group(
            folder,
            "flow",
            {"x": (x, "L"), "kinetic": (kinetic, "")} | curves,
            "Density of the hardest held-out flow",
            "The flow on which the classical closure errs most, at the last moment.",
            axes=("x",),
            y_title="density",
        )
        write_group(
            folder,
            "training",
            {"step": (torch.arange(len(inside)), ""), "loss": (torch.tensor(inside), "")},
            "Training through the solver",
            "Each step differentiates a run of the moment solver by the weights.",
            axes=("step",),
            plot="log",
        )


def assemble(scenario: ClosureLoopScenario, base: Path) -> Job:
    """Return the job of the study."""
    del base
    return ClosureLoop(scenario)


__all__ = ["ClosureLoop", "assemble"]
