"""The job that trains closures of faces: labels, committee, weights and cards."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....models import card
from ....models.closures.face import FaceClosure, FaceForm
from ....models.closures.local import LocalForm
from ... import runtime
from ...errors import InputError
from ...gas.flows import axial, fronts
from ...gas.flows import lines as flows
from ...gas.flows.lines import sample_times
from ...gas.initial.families import Flows
from ...protocols import Check, Figure, Outcome
from ...run import Reporter
from ...rundir import RunFolder
from ...schema.base import Common
from ...schema.closure import ClosureTrainScenario, FamilySection
from . import closure as training
from .refinement import refine

SHOCK_TIMES = (0.0, 0.3, 0.7, 1.5, 3.0, 5.0, 8.0)
"""Times in units of tau at which a shock on its way to rest is sampled."""

RIEMANN_TIMES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)
"""The same for random Riemann problems."""


def recipe_of(scenario: Common) -> dict[str, Any]:
    """Return how a closure was trained, with its hash, for its card."""
    recipe = scenario.model_dump(mode="json")
    text = repr(sorted(recipe.items())).encode()
    return {"recipe_sha256": hashlib.sha256(text).hexdigest(), "recipe": recipe}


@dataclass(frozen=True)
class ClosureTraining:
    """Makes labels, trains the committee, writes weights and cards.

    Attributes:
        scenario: what is asked for.
        base: folder from which it names files.

    Raises:
        InputError: weights to begin with that are missing, damaged or of another form.
    """

    scenario: ClosureTrainScenario
    base: Path = Path()

    def __post_init__(self) -> None:
        for number, path in enumerate(self.scenario.begin):
            self._begun(number, path)

    def _begun(self, number: int, path: Path) -> FaceClosure:
        try:
            module = card.load_module(self.base / path)[0]
        except (FileNotFoundError, card.DamagedModelError, card.UnknownModelError) as error:
            raise InputError(f"begin.{number}: {error}") from error
        if not isinstance(module, FaceClosure) or module.config != self._form():
            raise InputError(
                f"begin.{number}: {path} has another form than model; write model as in "
                "the scenario that trained it"
            )
        return module

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Train; resumes after the last family labelled or the last member trained."""
        s = self.scenario
        begun = folder.load_checkpoint()
        kept: dict[str, Tensor] = dict(begun.tensors) if begun else {}
        done = len(s.families) + s.members
        for number, family in enumerate(s.families):
            if f"raw{number}" not in kept:
                kept |= self._label(number, family)
                folder.log(event="labelled", family=family.name, flows=family.flows)
                folder.save_checkpoint(number + 1, kept)
            report.progress(number + 1, done, {"labelled": family.name})
        data = [self._data(number, kept) for number in range(len(s.families))]
        if s.fronts is not None:
            kept |= self._solve_fronts(kept, folder, report)
            data += self._fronts(kept)
        figures: dict[str, Figure] = {}
        for member in range(s.members):
            name = f"member{member}"
            if not any(key.startswith(name + ".") for key in kept):
                module, unexplained = self._member(member, data, folder, report)
                kept |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
                kept[f"{name}.unexplained"] = torch.tensor(unexplained)
                folder.save_checkpoint(len(s.families) + member + 1, kept)
            figures |= self._write(member, kept, folder)
            report.progress(len(s.families) + member + 1, done, {"trained": name})
        return Outcome(figures, self._checks(data))

    def _checks(self, data: Sequence[training.Labelled]) -> tuple[Check, ...]:
        bad = sum(int((~each.w.isfinite()).sum()) for each in data)
        return (Check("labels", "health", bad, 0, note="numbers that are not finite"),)

    def _label(self, number: int, family: FamilySection) -> dict[str, Tensor]:
        if self._form().dimension > 1:
            return self._label_axial(number, family)
        s, parts, times = self.scenario, [], sample_times(family.until)
        for first in range(0, family.flows, 8):
            count = min(8, family.flows - first)
            some = flows.flows(family.name, s.seed, count, family.first + first)
            fine, order = s.cells * s.refinement, s.model.order + 1
            parts.append(flows.solve(some, times, fine, s.velocities, s.cells, order, 7.2))
        every = flows.flows(family.name, s.seed, family.flows, family.first)
        kn = flows.knudsen_numbers(every, flows.box(s.cells))
        return {
            f"raw{number}": torch.cat(parts, 1),
            f"knudsen{number}": kn,
            f"times{number}": torch.tensor(times, dtype=torch.float64),
        }

    def _label_axial(self, number: int, family: FamilySection) -> dict[str, Tensor]:
        """Label the marginals of a gas with several velocity dimensions.

        Along a direction of cosine c to x all lengths are 1 / c as long; in free paths
        that is a Knudsen number of c Kn in the same box.
        """
        s, form, times = self.scenario, self._form(), sample_times(family.until)
        assert isinstance(form, LocalForm)
        raw, numbers = [], []
        for first in range(0, family.flows, 4):
            count, index = min(4, family.flows - first), family.first + first
            some = Flows(family.name, count, index, s.seed)
            raw.append(
                axial.solve(
                    some, times, form.dimension, form.prandtl, form.order + 1,
                    s.cells * s.refinement, s.velocities, s.cells,
                )
            )  # fmt: skip
            kn = some.knudsen_numbers(flows.box(s.cells))
            numbers.append(torch.stack([c * kn for c in axial.COSINES], 1).flatten(0, 1))
        return {
            f"raw{number}": torch.cat([r.movedim(2, 1).flatten(1, 2) for r in raw], 1),
            f"knudsen{number}": torch.cat(numbers),
            f"times{number}": torch.tensor(times, dtype=torch.float64),
        }

    def _data(self, number: int, kept: dict[str, Tensor]) -> training.Labelled:
        raw, kn, times = (kept[f"{name}{number}"] for name in ("raw", "knudsen", "times"))
        return training.labelled(raw, kn, times.tolist(), self.scenario.model.order)

    def _solve_fronts(
        self, kept: dict[str, Tensor], folder: RunFolder, report: Reporter
    ) -> dict[str, Tensor]:
        """Return the strong fronts in units of tau, those in ``kept`` as they are."""
        s, order = self.scenario, self.scenario.model.order + 1
        assert s.fronts is not None
        found: dict[str, Tensor] = {}
        for number, mach in enumerate(s.fronts.mach):
            if f"front{number}" not in kept:
                one = fronts.shock(mach, SHOCK_TIMES, order=order)
                found |= {f"front{number}": one.raw, f"edge{number}": one.edge}
                folder.log(event="labelled", mach=mach)
            report.progress(number + 1, len(s.fronts.mach), {"shock": f"Mach {mach:g}"})
        if s.fronts.riemann and "riemann" not in kept:
            one = fronts.riemann(s.seed, s.fronts.riemann, RIEMANN_TIMES, order=order)
            found |= {"riemann": one.raw, "riemann_edge": one.edge}
            folder.log(event="labelled", riemann=s.fronts.riemann)
        return found

    def _fronts(self, kept: dict[str, Tensor]) -> list[training.Labelled]:
        """Lay every front on the grid of the closure at every Knudsen number."""
        s = self.scenario
        assert s.fronts is not None
        every = [
            fronts.Fronts(kept[f"front{n}"], kept[f"edge{n}"], SHOCK_TIMES)
            for n in range(len(s.fronts.mach))
        ]
        if s.fronts.riemann:
            rest = kept["riemann"], kept["riemann_edge"]
            every.append(fronts.Fronts(*rest, RIEMANN_TIMES))
        cells, spacing = 2 * s.cells, 1.0 / s.cells
        rng = runtime.generator(s.seed, 8_000)
        found = []
        for one in every:
            for knudsen in s.fronts.knudsen:
                center = 0.4 * (2.0 * float(torch.rand((), generator=rng)) - 1.0)
                raw = fronts.laid_out(one, knudsen, cells, spacing, center)
                kn = torch.full((raw.shape[1],), knudsen, dtype=torch.float64)
                times = [knudsen * t for t in one.times]
                order = s.model.order
                found.append(training.labelled(raw, kn, times, order, spacing))
        return found

    def _form(self) -> FaceForm | LocalForm:
        form = self.scenario.model
        if isinstance(form, LocalForm):
            return form
        return replace(form, resolution=1.0 / self.scenario.cells)

    def _member(
        self,
        member: int,
        data: Sequence[training.Labelled],
        folder: RunFolder,
        report: Reporter,
    ) -> tuple[FaceClosure, float]:
        s = self.scenario
        rng = runtime.generator(s.seed, 7_000 + member)
        module = self._form().build(s.seed * 1000 + member)
        module = module.to(runtime.dtype_of(s.precision))
        split = [training.split(each, s.validation) for each in data]
        train, held = [pair[0] for pair in split], [pair[1] for pair in split]

        def log(stage: str, step: int, total: int, loss: float) -> None:
            if step % 100 == 0 or step == total - 1 or stage == "refined":
                folder.log(event=stage, member=member, step=step, loss=loss)
                report.progress(step, total, {stage: f"member {member} loss {loss:.3f}"})

        if s.begin:
            begun = self._begun(member, s.begin[member])
            module.load_state_dict(begun.state_dict())
        else:
            training.fit(
                module, train, s.steps, s.batch, s.rate, s.linear, rng, log, s.polish,
                s.rolled,
            )  # fmt: skip
        if s.unrolled:
            loss = training.unrolled_steps(module, train, 8, 0.6, rng)
            for step, value in training.descend(module, loss, s.unrolled, s.unrolled_rate):
                log("unrolled", step, s.unrolled, value)
        if s.refined:
            refine(module, [each for each in train if each.periodic], s.refined, log)
        return module, training.unexplained(module, [h for h in held if h is not None])

    def _write(
        self, member: int, kept: dict[str, Tensor], folder: RunFolder
    ) -> dict[str, Figure]:
        s, start = self.scenario, f"member{member}."
        state = {k[len(start) :]: v for k, v in kept.items() if k.startswith(start)}
        value = float(state.pop("unexplained"))
        module = self._form().build().to(runtime.dtype_of(s.precision))
        module.load_state_dict(state)
        card.save_module(
            folder.path / f"{s.name}_{member}", module, self.information(value)
        )
        note = "share of the closing moment's variance on held-out flows, by each network"
        return {f"unexplained_{member}": Figure(value, "", note=note)}

    def information(self, unexplained: float) -> dict[str, Any]:
        """Return what a member's card says, besides the form."""
        data = recipe_of(self.scenario)
        domain: dict[str, Any] = {"families": data["recipe"]["families"]}
        form, gas = self._form(), "1V gas, BGK"
        if form.dimension > 1:
            law = "BGK" if form.prandtl == 1.0 else f"Shakhov, Pr {form.prandtl:.3g}"
            gas = f"{form.dimension}V gas, {law}, flows along a line"
        if isinstance(form, FaceForm):  # else Kn alone has no meaning
            domain["knudsen"] = [1e-3, 10.0]
        return {
            "units": f"length L, velocity sqrt(R T0); {gas} with constant tau = Kn",
            "domain": domain,
            "data": data,
            "figures": {"unexplained_variance_held_out": unexplained},
        }
