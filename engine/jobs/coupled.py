"""From a scenario of a coupled shock to the job that runs it, and the models beside it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..coupling.collisions import (
    CONDITIONS,
    VISCOSITIES,
    Conditions,
    Molecules,
    PairCollisions,
    Viscosity,
    neufeld,
)
from ..coupling.coupled import (
    CoupledGas,
    CoupledState,
    RateCache,
    Rates,
    Scales,
    fewest,
    hosted,
    table,
)
from ..errors import EngineError
from ..gas.boundaries import Inflow, Sides
from ..gas.grid import Grid
from ..gas.kinetic.velocities import Velocities
from ..gas.kinetic.world import KineticState, KineticWorld, mean_free_path
from ..gas.material import Gas
from ..gas.moment.fluid import shock_jump
from ..gas.observe import positivity_guard
from ..learn import execution
from ..learn.label_store import LabelStore, identity
from ..protocols import Figure, Job, Outcome, told
from ..run import Reporter, Simulation, ZarrWriter, every
from ..rundir import RunFolder
from ..schema.coupled import CoupledShockScenario

UNITS = {
    "x": "mm", "density": "g/m³", "velocity": "m/s", "temperature": "K",
    "heat_flux": "kW/m²", "viscosity": "µPa s", "viscosity_error": "µPa s", "time": "µs",
}  # fmt: skip
REMEDY = "refine the grid, or widen the velocity range"


def assemble(scenario: CoupledShockScenario, base: Path) -> Job:
    """Return the job of a scenario."""
    return CoupledShock(scenario)


@dataclass(frozen=True)
class CoupledShock:
    """Runs the coupled gas, then the same gas with tables, a reference and a guess.

    The store holds ``fields`` (frames of the coupled gas), ``profiles`` (all models at the
    end), ``rates`` (the cache at the end, over temperature), ``labels`` (what was asked,
    when) and ``cost`` (calls and errors of all models).
    """

    scenario: CoupledShockScenario

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run to the end, from the newest checkpoint if there is one."""
        (folder.path / "labels").mkdir(exist_ok=True)
        s = self.scenario
        molecules = Molecules(s.molecules.epsilon, s.molecules.sigma, s.molecules.mass)
        labeler = PairCollisions(
            molecules, s.collisions.pairs, s.collisions.replicas, seed=s.seed
        )
        store = LabelStore(
            folder.path / "labels", identity(labeler), CONDITIONS, VISCOSITIES
        )
        pool = execution.Processes(s.workers) if s.workers else execution.Serial()
        with execution.opened(pool) as line:

            def ask(samples: Sequence[Conditions]) -> list[Viscosity]:
                execution.label_all(line, store, labeler, samples)
                return [_answer(store, sample) for sample in samples]

            world = self._world(molecules, ask)
            return self._simulation(folder, report, world, molecules).run(folder, report)

    def _world(
        self, molecules: Molecules, ask: Callable[[Sequence[Conditions]], list[Viscosity]]
    ) -> CoupledGas:
        s = self.scenario
        scales = scales_of(s, molecules)
        gas = Gas.power_law(3, s.exponent, 2.0 / 3.0)
        speed, density, slow, hot = shock_jump(s.upstream.mach, gas.gamma)
        ends = Sides(
            Inflow(1.0, (speed, 0.0, 0.0), 1.0), Inflow(density, (slow, 0.0, 0.0), hot)
        )
        grid = Grid((s.grid.cells,), (-s.grid.half_width,), (s.grid.half_width,))
        knudsen = torch.tensor([1.0 / mean_free_path(1.0)], dtype=torch.float64)
        kinetic = KineticWorld(
            grid,
            (ends,),
            Velocities((s.grid.nodes,), (s.grid.lower,), (s.grid.upper,)),
            gas,
            knudsen,
            "shakhov",
        )
        steps = self._steps(kinetic)
        kinetic = kinetic.with_time_step(s.time.end / steps)
        share = (grid.centers(0) > 0).double()[None]  # the gas finds the profile itself
        rho = 1 + (density - 1) * share
        start = kinetic.equilibrium(rho, (speed / rho)[..., None], 1 + (hot - 1) * share)
        cache = RateCache.empty(s.cache.amplitude, s.cache.length)
        return CoupledGas(
            kinetic, start, scales, ask, cache, s.cache.tolerance, s.collisions.noise
        )

    def _steps(self, kinetic: KineticWorld) -> int:
        frames = self.scenario.time.frames
        per = self.scenario.time.end / kinetic.time_step / frames
        return max(1, math.ceil(per - 1e-9)) * frames

    def _simulation(
        self,
        folder: RunFolder,
        report: Reporter,
        world: CoupledGas,
        molecules: Molecules,
    ) -> Simulation[CoupledState]:
        steps = round(self.scenario.time.end / world.time_step)
        interval = steps // self.scenario.time.frames
        show = Shown(world)
        writer = ZarrWriter(
            folder, "fields", lambda state, seen: {"x": show.x, **show(seen)}, UNITS, 8
        )

        def finish(folder: RunFolder, state: CoupledState, seen: Any) -> Outcome:
            folder.store.require_group("fields").attrs["title"] = "The shock, coupled"
            folder.store.attrs["time_unit"] = UNITS["time"]
            return Comparison(self.scenario, world, molecules, show, folder, report)(
                state, seen, steps
            )

        return Simulation(
            world,
            world.init,
            steps,
            world.time_step * world.scales.length / world.scales.speed * 1e6,
            [(every(interval), writer)],
            [positivity_guard(REMEDY)],
            interval,
            5 * interval,
            lambda seen: {
                "labels": str(int(seen["labels"])),
                "largest error bar": f"{_largest_bar(seen):.2%}",
            },
            finish,
        )


def _largest_bar(seen: Mapping[str, Tensor]) -> float:
    return float((seen["viscosity_error"] / seen["viscosity"]).amax())


def scales_of(scenario: CoupledShockScenario, molecules: Molecules) -> Scales:
    """Return the units of the gas ahead; the length is a mean free path there."""
    up, constant = scenario.upstream, molecules.gas_constant
    density = up.pressure / (constant * up.temperature)
    temperature = torch.tensor(up.temperature, dtype=torch.float64)
    ahead = float(reference(molecules)(temperature))
    speed = math.sqrt(constant * up.temperature)
    length = mean_free_path(ahead / (density * speed))
    return Scales(up.temperature, density, length, constant)


def reference(molecules: Molecules) -> Rates:
    """Return the viscosity by the published collision integral, without our dynamics."""
    return lambda t: molecules.viscosity(t, neufeld(t / molecules.epsilon))


def _answer(store: LabelStore[Conditions, Viscosity], sample: Conditions) -> Viscosity:
    key = store.key(sample)
    entry = store.get(key)
    if entry is None:
        reason = store.failures(key)[-1]
        raise EngineError(f"no collision rate at {sample.temperature:.4g} K: {reason}")
    return entry.label


@dataclass(frozen=True)
class Shown:
    """Turns what a world observes into the units of the report."""

    world: CoupledGas

    @property
    def x(self) -> Tensor:
        """Centres of the cells, mm."""
        return self.world.kinetic.grid.centers(0) * self.world.scales.length * 1e3

    def __call__(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the fields of the one problem, ``[cells]`` each."""
        scales = self.world.scales
        heat = scales.density * scales.speed**3 * 1e-3
        factors = {
            "density": scales.density * 1e3,
            "velocity": scales.speed,
            "temperature": scales.temperature,
            "heat_flux": heat,
            "viscosity": 1e6,
            "viscosity_error": 1e6,
        }
        return {
            name: factor * seen[name][0].reshape(len(self.x), -1)[:, 0]
            for name, factor in factors.items()
            if name in seen
        }


@dataclass(frozen=True)
class Beside:
    """One model that was run beside the coupled one.

    Attributes:
        name: in words.
        calls: simulations of molecular dynamics that it took.
        rates: its viscosity.
    """

    name: str
    calls: int
    rates: Rates


@dataclass(frozen=True)
class Comparison:
    """Runs the same shock with other rates, and says who needed how many calls."""

    scenario: CoupledShockScenario
    world: CoupledGas
    molecules: Molecules
    show: Shown
    folder: RunFolder
    report: Reporter

    def __call__(
        self, state: CoupledState, seen: Mapping[str, Tensor], steps: int
    ) -> Outcome:
        """Return the figures of the run."""
        models, exact = self._models(), reference(self.molecules)
        self.report.say(f"beside it: {', '.join(m.name for m in models)}")
        fields = self._run([m.rates for m in models], steps)
        known = self.world.known(state)
        coupled = Beside("coupled", len(state.asked), lambda t: known.predict(t)[0])
        everyone = [coupled, *models]
        density = torch.cat([seen["density"], fields["density"]])
        temperature = torch.cat([seen["temperature"], fields["temperature"]])
        visited = self.world.scales.temperature * seen["temperature"][0]
        worst = [_worst(m.rates, exact, visited) for m in everyone]
        apart = torch.stack([_apart(one, density[1]) for one in density])
        profile = apart.nan_to_num().abs().amax(1).tolist()
        self._write_profiles(everyone, density, temperature, apart)
        self._write_rates(known, exact, visited)
        self._write_labels(state)
        self._write_cost(everyone, worst, profile)
        return self._outcome(everyone, worst, profile, state, density, visited, known)

    def _models(self) -> list[Beside]:
        s, world = self.scenario, self.world
        guess = reference(self.molecules)
        ahead = torch.tensor(s.upstream.temperature, dtype=torch.float64)
        exact = Beside("published integral", 0, guess)
        law = Beside("power law", 0, lambda t: guess(ahead) * (t / ahead) ** s.exponent)
        *_, hot = shock_jump(s.upstream.mach, 5.0 / 3.0)
        ranges = {
            "wide table": (s.table.lowest, s.table.highest),
            "narrow table": (float(ahead), float(ahead) * hot),
        }
        found = [exact, law]
        for name, (low, high) in ranges.items():
            count = fewest(low, high, world.cache, world.tolerance, world.noise)
            made = table(world.ask, low, high, count, world.cache, world.scales.density)
            found.append(Beside(name, count, _rates_of(made)))
        return found

    def _run(self, rates: Sequence[Rates], steps: int) -> dict[str, Tensor]:
        """Step one batch, a problem for every model."""
        base, scales, start = self.world.kinetic, self.world.scales, self.world.start
        world = replace(base, knudsen=base.knudsen.expand(len(rates)).contiguous())
        state: KineticState = world.start(
            base.cells_of(start).expand(len(rates), -1, -1, -1)
        )

        def each(temperature: Tensor) -> Tensor:
            pairs = zip(rates, temperature, strict=True)
            return torch.stack([rate(row) for rate, row in pairs])

        for _ in range(steps):
            seen = world.observe(state)["temperature"]
            state = hosted(world, scales, each, state, seen).step().state
        return dict(world.observe(state))

    # -- what is written ------------------------------------------------------------------

    def _write_profiles(
        self, models: Sequence[Beside], density: Tensor, temperature: Tensor, apart: Tensor
    ) -> None:
        group = self.folder.store.require_group("profiles")
        group.attrs["title"] = "The same shock with other collision rates"
        group.attrs["caption"] = (
            "All models at the end. The published integral, which uses none of our "
            "molecular dynamics, is what the others should be; the density difference is "
            "to it, with the middles of the shocks laid on each other."
        )
        names = [m.name for m in models]
        scales = self.world.scales
        _put(self.folder, "profiles", "x", self.show.x, UNITS["x"])
        for name, values, factor in (
            ("density", density, scales.density * 1e3),
            ("temperature", temperature, scales.temperature),
        ):
            axes = {"labels": names, "axes": ["model", "x"]}
            _put(self.folder, "profiles", name, factor * values, UNITS[name], **axes)
        axes = {"labels": names, "axes": ["model", "x"]}
        unit = "% of the jump"
        _put(self.folder, "profiles", "density_difference", 100 * apart, unit, **axes)

    def _write_rates(self, known: RateCache, exact: Rates, visited: Tensor) -> None:
        group = self.folder.store.require_group("rates")
        group.attrs["title"] = "The viscosity that the flow learned"
        group.attrs["caption"] = (
            "Relative to the published collision integral (dashed), over the temperatures "
            "of the flow; the band is one standard deviation of the cache."
        )
        low, high = math.log(float(visited.amin())), math.log(float(visited.amax()))
        temperature = torch.linspace(low, high, 120, dtype=torch.float64).exp()
        value, spread = known.predict(temperature)
        ratio = value / exact(temperature)
        axes = {"axes": ["temperature"]}
        _put(self.folder, "rates", "temperature", temperature, "K")
        for name, values in (
            ("viscosity_ratio", ratio),
            ("viscosity_ratio_error", ratio * spread),
            ("viscosity_ratio_reference", torch.ones_like(ratio)),
        ):
            _put(self.folder, "rates", name, values, "", **axes)

    def _write_labels(self, state: CoupledState) -> None:
        group = self.folder.store.require_group("labels")
        group.attrs["title"] = "When the flow asked, and at which temperature"
        group.attrs["caption"] = (
            "Every point is one simulation of molecular dynamics; time zero is the first "
            "guess of the shock."
        )
        group.attrs["plot"] = "scatter"
        scales = self.world.scales
        unit = self.world.time_step * scales.length / scales.speed * 1e6
        _put(self.folder, "labels", "moment", state.asked[:, 3] * unit, "µs")
        axes = {"axes": ["moment"]}
        _put(self.folder, "labels", "temperature", state.asked[:, 0], "K", **axes)

    def _write_cost(
        self, models: Sequence[Beside], worst: Sequence[float], profile: Sequence[float]
    ) -> None:
        group = self.folder.store.require_group("cost")
        group.attrs["plot"] = "hidden"
        group.attrs["labels"] = [m.name for m in models]
        calls = [float(m.calls) for m in models]
        for name, row in (("calls", calls), ("rate", worst), ("profile", profile)):
            _put(self.folder, "cost", name, torch.tensor(row, dtype=torch.float64))

    # -- what is said ---------------------------------------------------------------------

    def _outcome(
        self,
        models: Sequence[Beside],
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
        late = state.asked[:, 3].amax() * self.world.time_step / self.scenario.time.end
        figures["last_call"] = Figure(100 * float(late), "% of the run")
        spread = float(known.predict(visited)[1].amax())
        bound = 3 * self.world.tolerance
        verdicts = {
            "error bars": "ok"
            if spread <= self.world.tolerance
            else f"a rate is known to {spread:.2%} only",
            "error bars are true": "ok"
            if worst[0] <= bound
            else f"a rate is off by {worst[0]:.2%}, three error bars are {bound:.2%}",
            "positivity": "ok",
        }
        return Outcome(figures, told(verdicts))

    def _inverse_thickness(self, density: Tensor) -> float:
        """Mean free path over ``(rho_2 - rho_1) / max drho/dx``."""
        h = self.world.kinetic.grid.spacing[0]
        steepest = float(density.diff().abs().amax()) / h
        return steepest / float(density[-1] - density[0])


def _rates_of(cache: RateCache) -> Rates:
    return lambda t: cache.predict(t)[0]


def _worst(rates: Rates, exact: Rates, visited: Tensor) -> float:
    """Largest relative error of the viscosity at the flow's temperatures."""
    return float((rates(visited) / exact(visited) - 1).abs().amax())


def _apart(profile: Tensor, other: Tensor) -> Tensor:
    """Difference of two shocks over the jump, the middles laid on each other, ``[cells]``.

    NaN where one of them does not reach.
    """
    shift = _middle(profile) - _middle(other)
    places = torch.arange(len(profile), dtype=torch.float64) + shift
    outside = (places < 0) | (places > len(profile) - 1)
    difference = (_interpolate(profile, places) - other) / (other[-1] - other[0])
    return difference.masked_fill(outside, torch.nan)


def _middle(profile: Tensor) -> float:
    """Index, with a fraction, at which the profile passes half of its jump."""
    half = 0.5 * (profile[0] + profile[-1])
    k = int((profile > half).int().argmax())
    return k - 1 + float((half - profile[k - 1]) / (profile[k] - profile[k - 1]))


def _interpolate(values: Tensor, places: Tensor) -> Tensor:
    low = places.clamp(0, len(values) - 1.000001).floor().long()
    share = places - low
    return values[low] + share * (values[low + 1] - values[low])


def _put(
    folder: RunFolder, group: str, name: str, values: Tensor, unit: str = "", **attrs: Any
) -> None:
    array = folder.store.require_group(group)
    if name in array:
        del array[name]
    made = array.create_array(name, data=values.detach().cpu().numpy())
    made.attrs.update({"unit": unit, **attrs})
