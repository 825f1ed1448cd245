"""Jobs of learned moment closures: the only place that matches on their kinds."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models import card
from ...models.closures.face import FaceClosure, FaceForm
from ...models.closures.recurrence import RecurrenceClosure
from .. import runtime
from ..errors import InputError
from ..gas.moment.learned import Learned
from ..learn import comparison, linear_response
from ..learn.explorers import flows, fronts
from ..learn.trainers import closure as training
from ..protocols import Figure, Job, Outcome, told
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
    FamilySection,
)

SAMPLES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.19, 0.25, 0.32, 0.4, 0.5, 0.65)
"""Times at which training flows are sampled; from 0.8 on every 0.2."""

SHOCK_TIMES = (0.0, 0.3, 0.7, 1.5, 3.0, 5.0, 8.0)
"""Times in units of tau at which a shock on its way to rest is sampled."""

RIEMANN_TIMES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)
"""The same for random Riemann problems."""

FAR = "a learned closure was used far outside what it was trained on"


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
        InputError: a model is missing, damaged, or no closure.
    """
    if scenario.device != "cpu":
        raise InputError("device: closures are trained and compared on cpu; allowed: cpu")
    match scenario:
        case ClosureTrainScenario():
            return Training(scenario)
        case ClosureScenario():
            return Comparison(scenario, load_all(scenario.models, base))
        case ClosureShockScenario():
            from .closure_shock import ShockComparison

            return ShockComparison(scenario, load_any(scenario.models, base))
        case ClosureShockTrainScenario():
            from .closure_shock_train import ShockTraining

            return ShockTraining(scenario)
        case ClosurePlaneScenario():
            from .closure_plane import PlaneComparison

            return PlaneComparison(scenario, load_all(scenario.models, base))


Loaded = dict[str, list[FaceClosure]]


def load_all(models: Sequence[ClosureModel], base: Path) -> Loaded:
    """Return the modules of a scenario in f64, by the names it gives them."""
    return {m.name: [load(locate(path, base)) for path in m.members] for m in models}


def load_any(
    models: Sequence[ClosureModel], base: Path
) -> dict[str, list[FaceClosure | RecurrenceClosure]]:
    """Return the modules of a scenario that knows closures of every kind."""
    return {m.name: [_read(locate(path, base)) for path in m.members] for m in models}


def load(path: Path) -> FaceClosure:
    """Return one closure at faces in f64.

    Raises:
        InputError: missing, damaged, or another kind of model.
    """
    module = _read(path)
    if not isinstance(module, FaceClosure):
        raise InputError(
            f"models: {path}: {type(module).__name__} is no closure at faces; it serves "
            "in scenarios of kind closure_shock"
        )
    return module


def load_realizable(path: Path) -> RecurrenceClosure:
    """Return one realizable closure in f64.

    Raises:
        InputError: missing, damaged, or another kind of model.
    """
    module = _read(path)
    if not isinstance(module, RecurrenceClosure):
        raise InputError(f"models: {path}: {type(module).__name__} gives no recurrence")
    return module


def _read(path: Path) -> FaceClosure | RecurrenceClosure:
    try:
        module, _ = card.load_module(path)
    except (FileNotFoundError, card.DamagedModelError, card.UnknownModelError) as error:
        raise InputError(f"models: {error}") from error
    if not isinstance(module, FaceClosure | RecurrenceClosure):
        raise InputError(f"models: {path}: {type(module).__name__} is no moment closure")
    return module.double()


# -- training ------------------------------------------------------------------------------


def sample_times(until: float) -> tuple[float, ...]:
    """Return the times at which a training flow is sampled."""
    late = [0.8 + 0.2 * i for i in range(max(0, math.ceil((until - 0.8) / 0.2) + 1))]
    return tuple(t for t in (*SAMPLES, *late) if t <= until + 1e-12)


@dataclass(frozen=True)
class Training:
    """Makes labels, trains the committee, writes weights and cards."""

    scenario: ClosureTrainScenario

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Train; resumes after the last family labelled or the last member trained."""
        s = self.scenario
        begun = folder.load_checkpoint()
        kept: dict[str, Tensor] = dict(begun.tensors) if begun else {}
        done = len(s.families) + s.members
        for number, family in enumerate(s.families):
            if f"raw{number}" not in kept:
                kept |= self._label(number, family)
                folder.save_checkpoint(number + 1, kept)
                folder.log(event="labelled", family=family.name, flows=family.flows)
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
        return Outcome(figures, told({"labels": "ok"}))

    def _label(self, number: int, family: FamilySection) -> dict[str, Tensor]:
        s, parts, times = self.scenario, [], sample_times(family.until)
        for first in range(0, family.flows, 8):
            count = min(8, family.flows - first)
            some = flows.flows(family.name, s.seed, count, family.first + first)
            parts.append(
                flows.solve(
                    some,
                    times,
                    s.cells * s.refinement,
                    s.velocities,
                    s.cells,
                    s.network.extra + 3,
                    7.2,
                )
            )
        every = flows.flows(family.name, s.seed, family.flows, family.first)
        kn = flows.knudsen_numbers(every, flows.box(s.cells))
        return {
            f"raw{number}": torch.cat(parts, 1),
            f"knudsen{number}": kn,
            f"times{number}": torch.tensor(times, dtype=torch.float64),
        }

    def _data(self, number: int, kept: dict[str, Tensor]) -> training.Labelled:
        return training.labelled(
            kept[f"raw{number}"],
            kept[f"knudsen{number}"],
            kept[f"times{number}"].tolist(),
            self.scenario.network.extra + 2,
        )

    def _solve_fronts(
        self, kept: dict[str, Tensor], folder: RunFolder, report: Reporter
    ) -> dict[str, Tensor]:
        """Return the strong fronts in units of tau, those in ``kept`` as they are."""
        s, order = self.scenario, self.scenario.network.extra + 3
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
                order = s.network.extra + 2
                found.append(training.labelled(raw, kn, times, order, spacing))
        return found

    def _form(self) -> FaceForm:
        network = self.scenario.network
        return FaceForm(
            order=network.extra + 2,
            hidden=tuple(network.hidden),
            reach=tuple(network.reach),
            resolution=1.0 / self.scenario.cells,
            smoothing=network.smoothing,
            bound=network.bound,
            stretch=network.stretch,
        )

    def _member(
        self,
        member: int,
        data: Sequence[training.Labelled],
        folder: RunFolder,
        report: Reporter,
    ) -> tuple[FaceClosure, float]:
        s = self.scenario
        rng = runtime.generator(s.seed, 7_000 + member)
        with torch.random.fork_rng():
            torch.manual_seed(s.seed * 1000 + member)
            module = self._form().build().to(runtime.dtype_of(s.precision))
        split = [training.split(each, s.validation) for each in data]
        train, held = [pair[0] for pair in split], [pair[1] for pair in split]

        def log(stage: str, step: int, total: int, loss: float) -> None:
            if step % 100 == 0 or step == total - 1:
                folder.log(event=stage, member=member, step=step, loss=loss)
                report.progress(step, total, {stage: f"member {member} loss {loss:.3f}"})

        training.fit(
            module, train, s.steps, s.batch, s.rate, s.linear, rng, log, s.polish, s.rolled
        )
        if s.unrolled:
            loss = training.unrolled_steps(module, train, 8, 0.6, rng)
            for step, value in training.descend(module, loss, s.unrolled, s.unrolled_rate):
                log("unrolled", step, s.unrolled, value)
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
        """Return what stands on a member's card beside the form."""
        recipe = self.scenario.model_dump(mode="json")
        text = repr(sorted(recipe.items())).encode()
        return {
            "units": "length L, velocity sqrt(R T0); 1V gas, BGK with constant tau = Kn",
            "domain": {"knudsen": [1e-3, 10.0], "families": recipe["families"]},
            "data": {"recipe_sha256": hashlib.sha256(text).hexdigest(), "recipe": recipe},
            "figures": {"unexplained_variance_held_out": unexplained},
        }


# -- comparison ----------------------------------------------------------------------------


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
        verdicts: dict[str, str] = {}
        total = len(s.baselines) + sum(len(each) for each in self.modules.values())
        count = 0
        x = flows.box(s.cells).centers(0)
        write(folder, "x", x, "L", "position")
        write(folder, "knudsen", true.knudsen, "", "Knudsen number")
        shown = slice(s.pictured, s.pictured + 1)
        write(folder, "profile_kinetic", true.moments(3)[:, shown, :, :3], "", "kinetic")
        figures |= self._linear(folder)
        for name in s.baselines:
            run = self._baseline(name, true)
            figures |= self._figures(name, [run], true, folder)
            count += 1
            report.progress(count, total, {"model": name})
        for name, members in self.modules.items():
            runs = []
            for module in members:
                order = module.config.order
                runs.append(comparison.run_moments(true, order, Learned(module)))
                count += 1
                report.progress(count, total, {"model": name})
            figures |= self._figures(name, runs, true, folder)
            away = max(float(run.fallback.mean()) for run in runs)
            figures[f"fallback_{name}"] = Figure(away, "", note="share of faces, to HME")
            verdicts[f"range_{name}"] = "ok" if away < 0.05 else FAR
            bad = sum(
                int((~run.moments[-1].isfinite()).flatten(1).any(1).sum()) for run in runs
            )
            verdicts[f"stable_{name}"] = "ok" if not bad else f"{bad} runs blew up"
        return Outcome(figures, told(verdicts))

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
            tables[name] = linear_response.table(members[0], members[0].config.order)
        text = ", ".join(linear_response.COLUMNS)
        write(folder, "linear_kinetic", exact, "", text)
        found = {}
        for name, each in tables.items():
            write(folder, f"linear_{name}", each, "", text)
            miss = linear_response.transport_error(each, exact)
            note = "heat conduction and sound attenuation, k tau to 0.1"
            found[f"transport_error_{name}"] = Figure(miss, "relative", note=note)
        return found

    def _baseline(self, name: str, true: comparison.Reference) -> comparison.Run:
        match name:
            case "hme":
                order = max(m.config.order for g in self.modules.values() for m in g)
                return comparison.run_moments(true, order)
            case _:
                return comparison.run_fluid(true, name == "nsf")

    def _figures(
        self,
        name: str,
        runs: Sequence[comparison.Run],
        true: comparison.Reference,
        folder: RunFolder,
    ) -> dict[str, Figure]:
        """Worst decade (median over members) and median flow at each time."""
        errors = torch.stack([run.errors(true) for run in runs])
        worst = torch.stack([comparison.worst_decade(each) for each in errors])
        write(folder, f"errors_{name}", errors, "", f"relative L2 error of {name}")
        shown = slice(self.scenario.pictured, self.scenario.pictured + 1)
        write(folder, f"profile_{name}", runs[0].moments[:, shown, :, :3], "", name)
        decades = true.knudsen.dim() == 1  # elsewhere it varies within every flow
        note = comparison.WORST if decades else comparison.WORST_GROUP
        found = {}
        for i, time in enumerate(true.times):
            if time > 0:
                tag = f"{name}_t{time:g}".replace(".", "")
                middle = float(worst[:, i].median())
                spread = float(worst[:, i].amax() - worst[:, i].amin())
                found[f"worst_decade_{tag}"] = Figure(
                    middle, "relative", spread if len(runs) > 1 else None, note
                )
                found[f"median_{tag}"] = Figure(
                    float(errors[:, i].median()), "relative", note=comparison.MEDIAN
                )
        return found


def write(folder: RunFolder, name: str, values: Tensor, unit: str, text: str) -> None:
    """Put one array into the run's store with its unit and a name for people."""
    array = folder.store.create_array(name, data=values.numpy(), overwrite=True)
    array.attrs["unit"], array.attrs["long_name"] = unit, text


__all__ = ["assemble", "load", "load_all"]
