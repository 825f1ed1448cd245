"""A coupled shock as a job: run, compared with other collision rates, told."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import EngineError
from ..gas.observe import positivity_guard
from ..learn import execution
from ..learn.label_store import LabelStore, identity
from ..protocols import Check, Figure, Outcome
from ..run import Reporter, Simulation, ZarrWriter, every
from ..rundir import RunFolder, write_array
from .collisions import CONDITIONS, VISCOSITIES, Conditions, PairCollisions, Viscosity
from .comparison import (
    Alternative,
    Shown,
    Table,
    apart,
    power_law,
    rate_error,
    reference,
    run_all,
)
from .coupled import CoupledGas, CoupledState, RateCache, Rates

UNITS = {
    "x": "mm", "density": "g/m³", "velocity": "m/s", "temperature": "K",
    "heat_flux": "kW/m²", "viscosity": "µPa s", "viscosity_error": "µPa s", "time": "µs",
}  # fmt: skip
REMEDY = "refine the grid, or widen the velocity range"


@dataclass(frozen=True)
class CoupledShock:
    """Runs the coupled gas, then the same gas with tables, a reference and a guess.

    The store holds ``fields`` (frames of the coupled gas), ``profiles`` (all models at the
    end), ``rates`` (the cache at the end, over temperature), ``labels`` (what was asked,
    when) and ``cost`` (calls and errors of all models).

    Attributes:
        world: the coupled gas, not yet connected to molecular dynamics.
        steps: of the run.
        frames: written.
        labeler: molecular dynamics.
        workers: processes that simulate.
        tables: to compare with.
        exponent: of the power law to compare with.
    """

    world: CoupledGas
    steps: int
    frames: int
    labeler: PairCollisions
    workers: int
    tables: Sequence[Table]
    exponent: float

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run to the end, from the newest checkpoint if there is one."""
        place, labeler = folder.path / "labels", self.labeler
        place.mkdir(exist_ok=True)
        store = LabelStore(place, identity(labeler), CONDITIONS, VISCOSITIES)
        pool = execution.Processes(self.workers) if self.workers else execution.Serial()
        with execution.opened(pool) as line:

            def ask(samples: Sequence[Conditions]) -> list[Viscosity]:
                execution.label_all(line, store, labeler, samples)
                return [_answer(store, sample) for sample in samples]

            world = replace(self.world, ask=ask)
            return self._simulation(folder, report, world).run(folder, report)

    def _simulation(
        self, folder: RunFolder, report: Reporter, world: CoupledGas
    ) -> Simulation[CoupledState]:
        interval, show = self.steps // self.frames, Shown(world)
        writer = ZarrWriter(
            folder,
            "fields",
            lambda state, seen: {"x": show.x, **show(seen)},
            UNITS,
            8,
            axes=lambda name, shape: ("cell", "component")[: len(shape)],
        )

        def finish(folder: RunFolder, state: CoupledState, seen: Any) -> Outcome:
            folder.store.require_group("fields").attrs["title"] = "The shock, coupled"
            folder.store.attrs["time_unit"] = UNITS["time"]
            return Comparison(self, world, show, folder, report)(state, seen)

        def headline(seen: Mapping[str, Tensor]) -> dict[str, str]:
            bar = float((seen["viscosity_error"] / seen["viscosity"]).amax())
            return {"labels": str(int(seen["labels"])), "largest error bar": f"{bar:.2%}"}

        unit = world.scales.length / world.scales.speed * 1e6
        return Simulation(
            world, world.init, self.steps, world.time_step * unit,
            [(every(interval), writer)], [positivity_guard(REMEDY)], interval,
            5 * interval, headline, finish,
        )  # fmt: skip


def _answer(store: LabelStore[Conditions, Viscosity], sample: Conditions) -> Viscosity:
    key = store.key(sample)
    entry = store.get(key)
    if entry is None:
        reason = store.failures(key)[-1]
        raise EngineError(f"no collision rate at {sample.temperature:.4g} K: {reason}")
    return entry.label


@dataclass(frozen=True)
class Comparison:
    """Runs the same shock with other rates, and says who needed how many calls."""

    job: CoupledShock
    world: CoupledGas
    show: Shown
    folder: RunFolder
    report: Reporter

    def __call__(self, state: CoupledState, seen: Mapping[str, Tensor]) -> Outcome:
        """Return the figures of the run."""
        molecules = self.job.labeler.molecules
        exact = reference(molecules)
        law = power_law(molecules, self.world.scales.temperature, self.job.exponent)
        models = [
            Alternative("published integral", 0, exact),
            Alternative("power law", 0, law),
            *(each.made(self.world) for each in self.job.tables),
        ]
        self.report.say(f"compared with: {', '.join(m.name for m in models)}")
        fields = run_all(self.world, [m.rates for m in models], self.job.steps)
        known = self.world.known(state)
        coupled = Alternative("coupled", len(state.asked), lambda t: known.predict(t)[0])
        everyone = [coupled, *models]
        density = torch.cat([seen["density"], fields["density"]])
        temperature = torch.cat([seen["temperature"], fields["temperature"]])
        visited = self.world.scales.temperature * seen["temperature"][0]
        worst = [rate_error(m.rates, exact, visited) for m in everyone]
        off = torch.stack([apart(one, density[1]) for one in density])
        profile = off.nan_to_num().abs().amax(1).tolist()
        names = [m.name for m in everyone]
        self._write_profiles(names, density, temperature, off)
        self._write_rates(known, exact, visited)
        self._write_labels(state)
        calls = [float(m.calls) for m in everyone]
        self._write_cost(names, calls=calls, rate=worst, profile=profile)
        return self._outcome(everyone, worst, profile, state, density, visited, known)

    # -- what is written ------------------------------------------------------------------

    def _put(
        self, group: str, name: str, values: Tensor, unit: str = "", **attrs: Any
    ) -> None:
        write_array(self.folder.store.require_group(group), name, values, unit, **attrs)

    def _about(self, group: str, **attrs: Any) -> None:
        self.folder.store.require_group(group).attrs.update(attrs)

    def _write_profiles(
        self, names: list[str], density: Tensor, temperature: Tensor, off: Tensor
    ) -> None:
        self._about(
            "profiles",
            title="The same shock with other collision rates",
            caption="All models at the end. The published integral, which uses none of our "
            "molecular dynamics, is what the others should be; the density difference is "
            "to it, with the middles of the shocks laid on each other.",
        )
        axes, scales = {"labels": names, "axes": ["model", "x"]}, self.world.scales
        rows = (
            ("density", scales.density * 1e3 * density, UNITS["density"]),
            ("temperature", scales.temperature * temperature, UNITS["temperature"]),
            ("density_difference", 100 * off, "% of the jump"),
        )
        self._put("profiles", "x", self.show.x, UNITS["x"])
        for name, values, unit in rows:
            self._put("profiles", name, values, unit, **axes)

    def _write_rates(self, known: RateCache, exact: Rates, visited: Tensor) -> None:
        self._about(
            "rates",
            title="The viscosity that the flow learned",
            caption="Relative to the published collision integral (dashed), over the "
            "temperatures of the flow; the band is one standard deviation of the cache.",
        )
        low, high = math.log(float(visited.amin())), math.log(float(visited.amax()))
        temperature = torch.linspace(low, high, 120, dtype=torch.float64).exp()
        value, spread = known.predict(temperature)
        ratio = value / exact(temperature)
        self._put("rates", "temperature", temperature, "K")
        for name, values in (
            ("viscosity_ratio", ratio),
            ("viscosity_ratio_error", ratio * spread),
            ("viscosity_ratio_reference", torch.ones_like(ratio)),
        ):
            self._put("rates", name, values, axes=["temperature"])

    def _write_labels(self, state: CoupledState) -> None:
        self._about(
            "labels",
            title="When the flow asked, and at which temperature",
            caption="Every point is one simulation of molecular dynamics; time zero is the "
            "first guess of the shock.",
            plot="scatter",
        )
        scales = self.world.scales
        unit = self.world.time_step * scales.length / scales.speed * 1e6
        self._put("labels", "moment", state.asked[:, 3] * unit, "µs")
        self._put("labels", "temperature", state.asked[:, 0], "K", axes=["moment"])

    def _write_cost(self, names: list[str], **rows: Sequence[float]) -> None:
        self._about("cost", plot="hidden", labels=names)
        for name, row in rows.items():
            self._put("cost", name, torch.tensor(row, dtype=torch.float64))

    # -- what is said ---------------------------------------------------------------------

    def _outcome(
        self,
        models: Sequence[Alternative],
        worst: Sequence[float],
        profile: Sequence[float],
        state: CoupledState,
        density: Tensor,
        visited: Tensor,
        known: RateCache,
    ) -> Outcome:
        words = {m.name: m.name.replace(" ", "_") for m in models}
        figures = {}
        for m, rate, shape in zip(models, worst, profile, strict=True):
            if m.calls:
                figures[f"md_calls_{words[m.name]}"] = Figure(m.calls)
            if m.name != "published integral":
                figures[f"rate_error_{words[m.name]}"] = Figure(
                    100 * rate, "%", note="largest over the flow's temperatures"
                )
                figures[f"profile_error_{words[m.name]}"] = Figure(
                    100 * shape, "% of the jump", note="largest, density, shocks aligned"
                )
        calls = {m.name: m.calls for m in models}
        figures["calls_vs_wide_table"] = Figure(calls["coupled"] / calls["wide table"])
        figures["calls_vs_narrow_table"] = Figure(calls["coupled"] / calls["narrow table"])
        for k, m in enumerate(models):
            if m.name in ("coupled", "published integral"):
                figures[f"inverse_thickness_{words[m.name]}"] = Figure(
                    self._inverse_thickness(density[k]), note="mean free path / thickness"
                )
        late = float(state.asked[:, 3].amax() / self.job.steps)
        figures["last_call"] = Figure(100 * late, "% of the run")
        spread = float(known.predict(visited)[1].amax())
        allowed = self.world.tolerance
        checks = (
            Check("error bars", "accuracy", spread, allowed, note="longest of a rate"),
            Check(
                "error bars are true", "accuracy", worst[0], 3 * allowed,
                note="largest error of a rate; allowed are three error bars",
            ),
            # The guard has seen every state: one that is not positive ends the run.
            Check("positivity", "health", 0.0, 0.0, note="cells refused"),
        )  # fmt: skip
        return Outcome(figures, checks)

    def _inverse_thickness(self, density: Tensor) -> float:
        """Mean free path over ``(rho_2 - rho_1) / max drho/dx``."""
        h = self.world.kinetic.grid.spacing[0]
        steepest = float(density.diff().abs().amax()) / h
        return steepest / float(density[-1] - density[0])


__all__ = ["CoupledShock"]
