"""Runs the chain, one level after the other; each is kept in the run folder."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models.potentials.pair import LearnedPair, PairLabel, Prior
from ..errors import GuardError
from ..gas.collisions.pairs import Table
from ..gas.collisions.published import Published
from ..gas.exact import shock_structure
from ..learn.label_store import working_in
from ..protocols import Check, Figure, Outcome
from ..run import Reporter
from ..rundir import RunFolder, write_group, write_text
from .budget import Row, total
from .closure import ClosedShock, Teaching
from .confirmation import Confirmation
from .goal import Sensitivity, Window, sensitivities
from .labelling import Labelled, Plan, Request, label_until_known
from .particles import ParticleShock
from .properties import Collisions, innermost
from .shock import KNUDSEN, Profile, ShockTube, integral_measure, refined, solve

WALL = {
    "adjoint": "by_wall",
    "differences": "by_wall_difference",
    "particles": "by_wall_particles",
}
"""Ways to the derivative of the thickness by the whole wall."""

STEPS = 6
"""Levels that the progress bar counts."""


@dataclass(frozen=True)
class Upstream:
    """The gas ahead of the shocks.

    Attributes:
        temperature: K.
        pressure: Pa.
        mach: numbers that are computed by the kinetic equation.
        particles: settings of the particles by Mach number; empty: none.
        wall: relative change of the wall by which particles give a derivative; 0: none.
        closure: moment equations with a learned closure, or with one that the run trains,
            at the same Mach numbers.
        tube: the set-up of the kinetic equation, at any Mach number.
    """

    temperature: float
    pressure: float
    mach: tuple[float, ...]
    particles: tuple[ParticleShock, ...]
    tube: ShockTube
    wall: float = 0.0
    closure: ClosedShock | Teaching | None = None


@dataclass(frozen=True)
class Chain:
    """From labels to shocks; implements ``Job``.

    Attributes:
        labeler: of interaction energies.
        finer: of a higher level of theory, if there is one.
        plan: which labels.
        prior: of the potential.
        window: atoms and temperatures.
        published: the reference potential, if there is one.
        temperatures: K, at which the gas is compared with the reference.
        confirmation: of the viscosity by molecular dynamics.
        upstream: the shocks.
        of_mach: Mach number whose thickness labels are chosen for.
        difference: relative step of the finite difference that checks the gradient.
    """

    labeler: Any
    finer: Any
    plan: Plan
    prior: Prior
    window: Window
    published: Published | None
    temperatures: tuple[float, ...]
    confirmation: Confirmation
    upstream: Upstream
    of_mach: float
    difference: float
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run every level that the folder does not hold yet."""
        labelled = self._label(folder, report)
        pair = LearnedPair.of(labelled.labels, self.prior)
        report.progress(2, STEPS, {"gas": "transport"})
        found, gas = sensitivities(pair, labelled.labels, self.window, self._goals())
        figures, checks = self._compare(folder, pair, labelled, found, gas)
        more, passed = self._confirm(folder, report, pair)
        figures, checks = figures | more, checks + passed
        report.progress(3, STEPS, {"shock": "gradient"})
        more = self._gradient(folder, labelled, pair)
        report.progress(4, STEPS, {"shock": "kinetic equation"})
        shocks = self._shocks(folder, report, gas)
        if self.upstream.wall:
            more = more | self._by_particles(folder, report, labelled.labels, gas)
        rows = self._budget(folder, labelled, more, shocks)
        report.progress(STEPS, STEPS, {"done": ""})
        return self._outcome(folder, labelled, figures, checks, more, shocks, rows)

    # -- labels ----------------------------------------------------------------------------

    def _label(self, folder: RunFolder, report: Reporter) -> Labelled:
        def ask(request: Request) -> PairLabel:
            report.progress(0, STEPS, {"label": f"{request.separation:.3f} A"})
            labeler = self.finer if request.level == "fine" else self.labeler
            name = f"label_{request.level}_{request.separation:.6f}"
            with working_in(folder.path / "calculations"):
                return _label_of(_level(folder, name, lambda: _labelled(labeler, request)))

        first = LearnedPair.of(
            [ask(Request(r, "coarse", "")) for r in self.plan.start], self.prior
        )
        report.progress(1, STEPS, {"goal": f"shock at Mach {self.of_mach:g}"})
        weights = _level(folder, "goal", lambda: self._weights(first))
        goal = self._goal(torch.tensor(weights["law"]), weights["prandtl"])
        found = label_until_known(self.plan, ask, self.prior, self.window, goal)
        for number, item in enumerate(found.rounds):
            wanted = item.request
            folder.log(
                step=number, time=0.0, bar=item.bar, reason=item.reason, sources=item.rows,
                separation=wanted.separation if wanted else math.nan,
            )  # fmt: skip
        return found

    def _ahead(self, gas: Collisions) -> Tensor:
        one = torch.tensor([self.upstream.temperature], dtype=torch.float64)
        return gas.coefficients(one).viscosity[0]

    def _law(self, gas: Collisions, mach: float) -> tuple[Tensor, Tensor]:
        """Return ln mu at the shock's temperatures and the Prandtl number in its middle."""
        tube, ahead = replace(self.upstream.tube, mach=mach), self.upstream.temperature
        middle = torch.tensor([tube.middle * ahead], dtype=torch.float64)
        viscosity = gas.coefficients(tube.temperatures * ahead).viscosity
        return viscosity.log(), gas.coefficients(middle).prandtl[0]

    def _weights(self, pair: LearnedPair) -> dict[str, Any]:
        """Return d ln(1/thickness) by ln mu at the nodes and by the Prandtl number."""
        gas = self.window.of(pair)
        law, prandtl = (x.detach() for x in self._law(gas, self.of_mach))
        leaves = law.clone().requires_grad_(), prandtl.clone().requires_grad_()
        scale = self._ahead(gas).detach().log()
        tube = replace(self.upstream.tube, mach=self.of_mach)
        profile, _ = solve(tube, leaves[0] - scale, leaves[1])
        by = torch.autograd.grad(profile.inverse_thickness.log(), leaves)
        return {"law": by[0].tolist(), "prandtl": float(by[1])}

    def _goal(self, by_law: Tensor, by_prandtl: float) -> Callable[[Collisions], Tensor]:
        def goal(gas: Collisions) -> Tensor:
            law, prandtl = self._law(gas, self.of_mach)
            return law @ by_law.double() + by_prandtl * prandtl

        return goal

    # -- the gas ---------------------------------------------------------------------------

    @property
    def _t(self) -> Tensor:
        return torch.tensor(self.temperatures, dtype=torch.float64)

    def _goals(self) -> dict[str, Callable[[Collisions], Tensor]]:
        """Logarithms of viscosity and conductivity, and B2, at every temperature."""

        def made(name: str, k: int) -> Callable[[Collisions], Tensor]:
            def goal(gas: Collisions) -> Tensor:
                t = self._t[k : k + 1]
                if name == "viscosity":
                    return gas.coefficients(t).viscosity[0].log()
                if name == "conductivity":
                    return gas.conductivity(t)[0].log()
                return gas.virial(t)[0]

            return goal

        names = ("viscosity", "conductivity", "virial")
        return {f"{n}/{k}": made(n, k) for n in names for k in range(len(self._t))}

    def _reference(self) -> Collisions | None:
        if self.published is None:
            return None
        start = max(self.published.smallest, 0.3)
        return self.window.collisions(self.published.pair, start)

    def _compare(
        self,
        folder: RunFolder,
        pair: LearnedPair,
        labelled: Labelled,
        found: Mapping[str, Sensitivity],
        gas: Collisions,
    ) -> tuple[dict[str, Figure], list[Check]]:
        """Write potential and properties with their bars beside the reference."""
        checks: list[Check] = []
        figures: dict[str, Figure] = {}
        reference = self._reference()
        units = {"viscosity": "uPa s", "conductivity": "mW/(m K)", "virial": "cm3/mol"}
        columns: dict[str, tuple[Tensor, str]] = {"temperature": (self._t, "K")}
        for name, unit in units.items():
            mine = [found[f"{name}/{k}"] for k in range(len(self._t))]
            value = torch.tensor([s.value for s in mine], dtype=torch.float64)
            bar = torch.tensor([s.bar for s in mine], dtype=torch.float64)
            logs = name != "virial"
            value, spread = (value.exp(), value.exp() * bar) if logs else (value, bar)
            columns[name], columns[f"{name}_error"] = (value, unit), (spread, unit)
            at = self._at_ahead()
            figures[name] = Figure(
                float(value[at]), unit, float(spread[at]), f"at {self.temperatures[at]:g} K"
            )
            if reference is None:
                continue
            exact = _property(reference, name, self._t).detach()
            columns[f"{name}_reference"] = (exact, unit)
            gap = (value / exact - 1).abs() if logs else (value - exact).abs()
            ratio = ((value - exact).abs() / spread).amax()
            figures[f"{name}_departure"] = Figure(
                float(gap.amax()), "" if logs else unit, note="largest, from the reference"
            )
            checks.append(Check(
                f"{name}_within_two_bars", "accuracy", float(ratio), 2.0,
                note="departure from the published potential over the error bar",
            ))  # fmt: skip
        write_group(
            folder, "gas", columns, "The dilute gas",
            "From the learned potential, with one standard deviation, and from the "
            "published one.", axes=("temperature",),
        )  # fmt: skip
        figures |= self._potential(folder, pair, labelled)
        return figures, checks

    def _confirm(
        self, folder: RunFolder, report: Reporter, pair: LearnedPair
    ) -> tuple[dict[str, Figure], list[Check]]:
        """Compare the integrals with trajectories of colliding pairs."""
        wanted = self.confirmation
        if not wanted.temperatures:
            return {}, []
        classical = replace(self.window, quantum=False).of(pair)
        rows = []
        for t in wanted.temperatures:
            report.say(f"colliding pairs at {t:g} K")
            rows.append(_level(folder, f"pairs_{t:g}", lambda t=t: wanted.at(classical, t)))
        columns = {name: _tensor([row[name] for row in rows]) for name in rows[0]}
        unit = "uPa s"
        write_group(
            folder, "confirmation",
            {
                "temperature": (columns["temperature"], "K"),
                "viscosity": (columns["value"], unit),
                "viscosity_error": (columns["error"], unit),
                "viscosity_reference": (columns["integral"], unit),
            },
            "Viscosity by molecular dynamics of colliding pairs",
            "Classical, first approximation; the line is that of the collision integrals.",
            axes=("temperature",),
        )  # fmt: skip
        off = (columns["value"] - columns["integral"]).abs()
        return (
            {"pairs_departure": Figure(
                float((off / columns["integral"]).amax()),
                note="largest, viscosity by colliding pairs from that by integrals",
            )},
            [Check("colliding_pairs", "accuracy", float((off / columns["error"]).amax()),
                   4.0, note="viscosity by molecular dynamics, in its standard errors")],
        )  # fmt: skip

    def _at_ahead(self) -> int:
        return int((self._t - self.upstream.temperature).abs().argmin())

    def _potential(
        self, folder: RunFolder, pair: LearnedPair, labelled: Labelled
    ) -> dict[str, Figure]:
        r = torch.linspace(pair.smallest, 6.5, 240, dtype=torch.float64)
        v, spread = pair(r), pair.total(r).diagonal().clamp(min=0).sqrt()
        scale = pair.baseline.scale(r)
        columns = {
            "r": (r, "angstrom"),
            "energy": (v, "K"),
            "energy_error": (spread, "K"),
            "relative_error_bar": (100 * spread / scale, "%"),
        }
        figures = {
            "labels": Figure(len(labelled.labels), note=_sources(labelled.labels)),
            "well_depth": Figure(float(-v.amin()), "K"),
        }
        if self.published is not None:
            exact = self.published.pair(r)
            columns["energy_reference"] = (exact, "K")
            columns["departure"] = (100 * (v - exact) / scale, "%")
            first = min(lab.separation for lab in labelled.labels)
            wall = (r >= first) & (exact > 0.005 * float(exact[r >= first][0]))
            figures["wall_departure"] = Figure(
                float((v / exact - 1)[wall].abs().amax()),
                note="largest, from the first label to where V is 1/200 of that",
            )
            figures["well_departure"] = Figure(float(v.amin() / exact.amin() - 1))
        write_group(
            folder, "potential", columns, "The potential of two atoms",
            "Learned from the labels, with one standard deviation; bars and departure in "
            "percent of repulsion plus dispersion.", axes=("r",),
        )  # fmt: skip
        rows = labelled.labels
        told = {
            "symbol": self.window.atoms.symbol,
            "prior": asdict(self.prior),
            "labels": [asdict(lab) for lab in rows],
        }
        write_text(folder.path / "potential.json", json.dumps(told, indent=1))
        write_group(
            folder, "labels",
            {
                "separation": (_tensor([lab.separation for lab in rows]), "angstrom"),
                "energy": (_tensor([lab.energy for lab in rows]), "K"),
                "energy_error": (_tensor([_spread(lab) for lab in rows]), "K"),
            },
            "Labels", axes=("separation",), sources=[lab.source for lab in rows],
            reasons=[item.reason for item in labelled.rounds],
        )  # fmt: skip
        return figures

    # -- shocks ----------------------------------------------------------------------------

    def _gradient(
        self, folder: RunFolder, labelled: Labelled, pair: LearnedPair
    ) -> dict[str, Any]:
        return _level(folder, "gradient", lambda: self._differentiate(labelled, pair))

    def _differentiate(self, labelled: Labelled, pair: LearnedPair) -> dict[str, Any]:
        """Derivative of ln(1/thickness), and the same by differences of the whole chain."""
        labels, window = labelled.labels, self.window
        own = window.of(pair)
        scale = self._ahead(own).detach().log()
        tube = replace(self.upstream.tube, mach=self.of_mach)
        law, prandtl = (x.detach() for x in self._law(own, self.of_mach))
        _, state = solve(tube, law - scale, prandtl)
        near = state.f.detach(), state.mass

        def goal(gas: Collisions) -> Tensor:
            law, prandtl = self._law(gas, self.of_mach)
            profile, _ = solve(tube, law - scale, prandtl, near)
            return profile.inverse_thickness.log()

        found, _ = sensitivities(pair, labels, window, {"thickness": goal})
        own_value = found["thickness"]
        energies = torch.tensor([lab.energy for lab in labels], dtype=torch.float64)
        wall = energies > 0
        by_wall = float((own_value.by_label * energies)[wall].sum())
        moved = []
        for sign in (1, -1):
            gas = self._scaled(labels, 1 + sign * self.difference, own)
            moved.append(float(goal(gas).detach()))
        difference = (moved[0] - moved[1]) / (2 * self.difference)
        similar = self._similarity(tube, law - scale, prandtl, near)
        coarser = replace(tube, cells=round(tube.cells / 1.5))
        begun = refined(near[0], tube, coarser), near[1]
        coarse, _ = solve(coarser, law - scale, prandtl, begun)
        change = own_value.value - float(coarse.inverse_thickness.detach().log())
        return {
            "value": own_value.value,
            "rows": own_value.rows,
            "bar": own_value.bar,
            "separation": [lab.separation for lab in labels],
            "by_ln_label": (own_value.by_label * energies).tolist(),
            "by_wall": by_wall,
            "by_wall_difference": difference,
            "similarity": similar,
            # of second order: what is left is a known share of the last refinement
            "grid": change / (1.5**2 - 1),
            **self._levels(labels, goal, own, pair),
        }

    def _scaled(
        self, labels: Sequence[PairLabel], factor: float, like: Collisions
    ) -> Collisions:
        """Return the gas whose labels on the wall are ``factor`` times as high."""
        scaled = [
            replace(lab, energy=lab.energy * (factor if lab.energy > 0 else 1.0))
            for lab in labels
        ]
        other = LearnedPair.of(scaled, self.prior)
        return self.window.collisions(other, innermost(other, self.window.hottest), like)

    def _similarity(
        self, tube: ShockTube, law: Tensor, prandtl: Tensor, near: tuple[Tensor, float]
    ) -> float:
        """Return d ln(1/thickness) / d ln mu: -1 by the scaling of the kinetic equation."""
        shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
        profile, _ = solve(tube, law + shift, prandtl, near)
        return float(torch.autograd.grad(profile.inverse_thickness.log(), shift)[0])

    def _levels(
        self,
        labels: Sequence[PairLabel],
        goal: Callable[[Collisions], Tensor],
        own: Collisions,
        pair: LearnedPair,
    ) -> dict[str, float]:
        """What a lower level of the theory of the gas would have changed."""
        del labels
        value = float(goal(own).detach())
        classical = replace(self.window, quantum=False).of(pair)
        out = {"classical": float(goal(classical).detach()) - value}
        if self.published is not None:
            reference = self._reference()
            assert reference is not None
            out["true"] = value - float(goal(reference).detach())
        return out

    def _shocks(
        self, folder: RunFolder, report: Reporter, gas: Collisions
    ) -> dict[str, dict[str, Any]]:
        """Return the shocks of every model, ``MODEL_MACH`` each."""
        up, out = self.upstream, {}
        scale = self._ahead(gas).detach().log()
        table = _plain(gas)

        def kinetic(mach: float) -> dict[str, Any]:
            law, prandtl = (x.detach() for x in self._law(gas, mach))
            tube = replace(up.tube, mach=mach)
            return _packed(solve(tube, law - scale, prandtl)[0])

        def continuum(mach: float) -> dict[str, Any]:
            return _packed(self._navier_stokes(gas, mach))

        for mach in up.mach:
            report.say(f"shock at Mach {mach:g}: kinetic equation and Navier-Stokes")
            out[f"shakhov_{mach:g}"] = _level(
                folder, f"shakhov_{mach:g}", lambda m=mach: kinetic(m)
            )
            out[f"nsf_{mach:g}"] = _level(
                folder, f"nsf_{mach:g}", lambda m=mach: continuum(m)
            )
        out |= self._by_moments(folder, report, gas, out)
        for shock in up.particles:
            report.say(f"shock at Mach {shock.mach:g}: particles")
            name = f"dsmc_{shock.mach:g}"
            out[name] = _level(
                folder, name, lambda s=shock: _of_particles(s, table, up.temperature)
            )
        return out

    def _by_particles(
        self,
        folder: RunFolder,
        report: Reporter,
        labels: Sequence[PairLabel],
        gas: Collisions,
    ) -> dict[str, float]:
        """Return d ln(1/thickness) / d ln(wall) from two shocks of particles.

        Particles have no adjoint. Each run measures its thickness in its own mean free
        path ahead, which goes with the viscosity there: ``d ln(1/thickness) = d ln(inverse
        thickness in free paths) - d ln mu``.
        """
        up, ends = self.upstream, []
        shock = next(p for p in up.particles if p.mach == self.of_mach)
        for sign in (1, -1):
            name = f"wall_{'higher' if sign > 0 else 'lower'}"
            report.say(f"shock at Mach {shock.mach:g}: particles, {name.replace('_', ' ')}")

            def at(factor: float = 1 + 0.5 * sign * up.wall) -> dict[str, Any]:
                other = self._scaled(labels, factor, gas)
                packed = _of_particles(shock, _plain(other), up.temperature)
                return packed | {"ln_viscosity": float(self._ahead(other).detach().log())}

            ends.append(_level(folder, name, at))
        high, low = (math.log(e["inverse_thickness"]) - e["ln_viscosity"] for e in ends)
        noise = math.hypot(*(e["error"] / e["inverse_thickness"] for e in ends))
        return {
            "by_wall_particles": (high - low) / up.wall,
            "by_wall_particles_error": noise / up.wall,
        }

    def _exponent(self, gas: Collisions, mach: float) -> float:
        """Return omega of the power law that fits the viscosity at the shock's ends."""
        ends = torch.tensor([1.0, replace(self.upstream.tube, mach=mach).middle ** 2])
        kelvin = ends.double() * self.upstream.temperature
        mu = gas.coefficients(kelvin).viscosity.detach().log()
        return float((mu[1] - mu[0]) / ends.double().log()[1])

    def _by_moments(
        self,
        folder: RunFolder,
        report: Reporter,
        gas: Collisions,
        shocks: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, dict[str, Any]]:
        """Return the shocks of the learned closure that did not stop, if there is one."""
        closure, out = self._closure(folder, report), {}
        if closure is None:
            return out
        for mach in self.upstream.mach:
            report.say(f"shock at Mach {mach:g}: moments with a learned closure")
            name, near = f"closure_{mach:g}", shocks[f"shakhov_{mach:g}"]
            found = _level(
                folder, name, lambda m=mach, n=near: self._closed(closure, gas, m, n)
            )
            if "stopped" in found:
                report.say(f"the closure at Mach {mach:g} stopped: {found['stopped']}")
            else:
                out[name] = found
        return out

    def _closure(self, folder: RunFolder, report: Reporter) -> ClosedShock | None:
        """Return the moment equations, their closure trained if the run trains one."""
        closure = self.upstream.closure
        if not isinstance(closure, Teaching):
            return closure
        report.say(f"training a closure by {closure.file.name}")
        _level(folder, "closure", lambda: closure.run(folder.path, report))
        return closure.shock(folder.path)

    def _closed(
        self, closure: ClosedShock, gas: Collisions, mach: float, near: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The shock by moments, in gas of that power law; or why there is none."""
        tube = replace(self.upstream.tube, mach=mach)
        start = _tensor(near["density"]), _tensor(near["temperature"])
        try:
            profile, share = closure.run(tube, self._exponent(gas, mach), start)
        except GuardError as error:
            return {"stopped": str(error)}
        return _packed(profile) | {"fallback": share}

    def _navier_stokes(self, gas: Collisions, mach: float) -> Profile:
        """The continuum's shock with the power law that fits this gas between its ends."""
        omega = self._exponent(gas, mach)
        prandtl = float(self._law(gas, mach)[1].detach())
        x, rho, _, t = shock_structure(
            mach, lambda t: KNUDSEN * t**omega, lambda t: np.full_like(t, prandtl)
        )
        even = torch.linspace(-12, 12, 481, dtype=torch.float64)
        rho, t = (_interpolate(even, x, y) for y in (rho, t))
        density = (rho - 1) / (rho[-1] - 1)
        return Profile(
            even,
            density,
            (t - 1) / (t[-1] - 1),
            integral_measure(density, float(even[1] - even[0])),
        )

    # -- what is told ----------------------------------------------------------------------

    def _budget(
        self,
        folder: RunFolder,
        labelled: Labelled,
        gradient: Mapping[str, Any],
        shocks: Mapping[str, Mapping[str, Any]],
    ) -> list[Row]:
        rows = [Row(n, "propagated", float(v)) for n, v in gradient["rows"].items()]
        rows.append(
            Row("grid of the kinetic equation", "measured", float(gradient["grid"]))
        )
        rows.append(
            Row("classical instead of quantum scattering", "measured",
                float(gradient["classical"]), False)
        )  # fmt: skip
        if "by_wall_particles" in gradient:
            ratio = gradient["by_wall_particles"] / gradient["by_wall"]
            rows.append(
                Row("bar of the labels, by the gradient of particles", "measured",
                    gradient["bar"] * (ratio - 1), False)
            )  # fmt: skip
        name = f"dsmc_{self.of_mach:g}"
        own = shocks.get(f"shakhov_{self.of_mach:g}")
        if name in shocks and own is not None:
            truth = shocks[name]
            gap = math.log(own["inverse_thickness"] / truth["inverse_thickness"])
            noise = truth["error"] / truth["inverse_thickness"]
            rows.append(Row("relaxation model instead of Boltzmann", "measured", gap))
            closed = shocks.get(f"closure_{self.of_mach:g}")
            if closed is not None:
                gap = math.log(closed["inverse_thickness"] / truth["inverse_thickness"])
                row = "learned closure instead of Boltzmann"
                rows.append(Row(row, "measured", gap, False))
            rows.append(Row("statistics of the particles", "propagated", noise, False))
        write_group(
            folder, "budget",
            {
                "row": (torch.arange(len(rows), dtype=torch.float64), ""),
                "size": (_tensor([100 * abs(row.size) for row in rows]), "%"),
            },
            "Error budget of the thickness", "; ".join(row.source for row in rows),
            axes=("row",), labels=[row.source for row in rows],
        )  # fmt: skip
        write_text(
            folder.path / "budget.json", json.dumps([asdict(row) for row in rows], indent=1)
        )
        return rows

    def _free_path(self, viscosity: float) -> float:
        """Return the mean free path ahead in mm, ``16/5 mu / (rho sqrt(2 pi R T))``."""
        up, r = self.upstream, self.window.atoms.gas_constant
        rho = up.pressure / (r * up.temperature)
        speed = math.sqrt(2 * math.pi * r * up.temperature)
        return 3.2 * viscosity * 1e-6 / (rho * speed) * 1e3

    def _outcome(
        self,
        folder: RunFolder,
        labelled: Labelled,
        figures: dict[str, Figure],
        checks: list[Check],
        gradient: Mapping[str, Any],
        shocks: Mapping[str, Mapping[str, Any]],
        rows: Sequence[Row],
    ) -> Outcome:
        path = self._free_path(figures["viscosity"].value)
        best = shocks.get(f"dsmc_{self.of_mach:g}", shocks[f"shakhov_{self.of_mach:g}"])
        figures["free_path"] = Figure(path, "mm", note="ahead of the shock")
        thickness = path / best["inverse_thickness"]
        label_bar = gradient["bar"]
        figures["thickness"] = Figure(
            thickness, "mm", thickness * math.hypot(
                label_bar, best["error"] / best["inverse_thickness"]
            ), f"of the shock at Mach {self.of_mach:g}; labels and statistics",
        )  # fmt: skip
        figures["thickness_label_bar"] = Figure(label_bar, note="relative, of the labels")
        figures["thickness_budget"] = Figure(total(rows), note="relative, all rows")
        for name, shock in shocks.items():
            model, _, mach = name.rpartition("_")
            figures[f"inverse_thickness_at_mach_{mach}_{model}"] = Figure(
                shock["inverse_thickness"], "1/free path", shock["error"] or None
            )
            if "fallback" in shock:
                figures[f"closure_fallback_at_mach_{mach}"] = Figure(
                    shock["fallback"],
                    note="share of faces where the closure fell back",
                )
        off = abs(gradient["by_wall"] / gradient["by_wall_difference"] - 1)
        checks += [
            Check("labels_tolerance", "accuracy", labelled.rounds[-1].bar,
                  self.plan.tolerance, note=labelled.rounds[-1].reason),
            Check("gradient_difference", "accuracy", off, 5e-3,
                  note="adjoint of the whole chain against its finite difference"),
            Check("similarity_law", "accuracy", abs(gradient["similarity"] + 1), 0.01,
                  note="d ln(1/thickness) / d ln(viscosity) against -1"),
        ]  # fmt: skip
        figures["by_wall"] = Figure(
            gradient["by_wall"], note="d ln(1/thickness) / d ln(wall), adjoint"
        )
        if "by_wall_particles" in gradient:
            figures["by_wall_particles"] = Figure(
                gradient["by_wall_particles"], "", gradient["by_wall_particles_error"],
                "the same from two shocks of particles",
            )  # fmt: skip
        if "true" in gradient:
            ratio = abs(gradient["true"]) / label_bar
            figures["thickness_departure"] = Figure(
                gradient["true"], note="of ln(1/thickness), from the published potential"
            )
            checks.append(
                Check("thickness_within_two_bars", "accuracy", ratio, 2.0,
                      note="same kinetic equation with the published potential")
            )  # fmt: skip
        self._profiles(folder, shocks, gradient)
        return Outcome(figures, checks, {"domain": self._domain(shocks)})

    def _domain(self, shocks: Mapping[str, Mapping[str, Any]]) -> str:
        """Say what is known of the learned closure's domain; no result uses it."""
        if self.upstream.closure is None:
            return "the learned closure is not part of this run"
        shares = {
            m: shocks.get(f"closure_{m:g}", {}).get("fallback") for m in self.upstream.mach
        }
        told = ", ".join(
            f"{'stopped' if share is None else f'{share:.0%}'} at Mach {mach:g}"
            for mach, share in shares.items()
        )
        return f"faces on which the learned closure fell back: {told}; no result uses it"

    def _profiles(
        self,
        folder: RunFolder,
        shocks: Mapping[str, Mapping[str, Any]],
        gradient: Mapping[str, Any],
    ) -> None:
        for name, shock in shocks.items():
            model, _, mach = name.rpartition("_")
            write_group(
                folder, f"shock/{name}",
                {k: (_tensor(shock[k]), u) for k, u in
                 (("x", "free paths"), ("density", ""), ("temperature", ""))},
                f"Shock at Mach {mach}: {model}", "From 0 ahead to 1 behind.", axes=("x",),
            )  # fmt: skip
        machs = self.upstream.mach
        columns: dict[str, tuple[Tensor, str]] = {"mach": (_tensor(machs), "")}
        for model in ("dsmc", "shakhov", "closure", "nsf"):
            found = [
                shocks.get(f"{model}_{m:g}", {}).get("inverse_thickness") for m in machs
            ]
            if any(v is not None for v in found):
                columns[model] = (
                    _tensor([math.nan if v is None else v for v in found]), "1/free path",
                )  # fmt: skip
        write_group(
            folder, "thickness", columns, "Inverse thickness of the shock",
            "3/2 integral (d rho / dx)^2 dx over the mean free path ahead.", axes=("mach",),
        )  # fmt: skip
        order = sorted(
            range(len(gradient["separation"])), key=gradient["separation"].__getitem__
        )
        write_group(
            folder, "gradient",
            {
                "r": (_tensor([gradient["separation"][i] for i in order]), "angstrom"),
                "by_energy": (_tensor([gradient["by_ln_label"][i] for i in order]), ""),
            },
            "What the thickness depends on",
            "d ln(1/thickness) / d ln V at every label, through learning, scattering, "
            "transport and the kinetic equation.", axes=("r",),
            wall={k: gradient[name] for k, name in WALL.items() if name in gradient},
        )  # fmt: skip


# -- small things ------------------------------------------------------------------------


def _plain(gas: Collisions) -> Table:
    """Return the potential of a gas without its graph."""
    return replace(gas.table, coefficients=gas.table.coefficients.detach())


def _level(folder: RunFolder, name: str, compute: Callable[[], Any]) -> Any:
    """Return what a level found: from the folder, or computed and kept there."""
    path: Path = folder.path / "levels" / f"{name}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    path.parent.mkdir(exist_ok=True)
    found = compute()
    write_text(path, json.dumps(found))
    return json.loads(json.dumps(found))


def _labelled(labeler: Any, request: Request) -> dict[str, Any]:
    """Return a label that can be kept.

    Raises:
        GuardError: its energy or an error is no number, or negative.
    """
    label = labeler.label(request.separation)
    spread = _spread(label)
    if not (math.isfinite(label.energy + spread) and label.independent >= 0):
        source = label.source or "quantum chemistry"
        raise GuardError(
            f"label at {label.separation:.3f} angstrom by {source}: energy "
            f"{label.energy:.4g} K, error {spread:.2g} K"
        )
    return asdict(label)


def _label_of(data: Mapping[str, Any]) -> PairLabel:
    return PairLabel(**data)


def _spread(label: PairLabel) -> float:
    return math.hypot(label.independent, *label.common.values())


def _sources(labels: Sequence[PairLabel]) -> str:
    """Say how many labels are of which kind."""
    counted = Counter(lab.source or "quantum chemistry" for lab in labels)
    return "; ".join(f"{count} by {source}" for source, count in counted.items())


def _tensor(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _property(gas: Collisions, name: str, t: Tensor) -> Tensor:
    if name == "viscosity":
        return gas.coefficients(t).viscosity
    return gas.conductivity(t) if name == "conductivity" else gas.virial(t)


def _packed(profile: Profile) -> dict[str, Any]:
    return {
        "x": profile.x.tolist(),
        "density": profile.density.detach().tolist(),
        "temperature": profile.temperature.detach().tolist(),
        "inverse_thickness": float(profile.inverse_thickness.detach()),
        "error": profile.error,
    }


def _of_particles(shock: ParticleShock, table: Table, temperature: float) -> dict[str, Any]:
    """Return the shock of particles.

    Raises:
        GuardError: the noise is as large as the slope.
    """
    found = _packed(shock.run(table, temperature))
    if found["inverse_thickness"] > found["error"]:
        return found
    raise GuardError(
        f"particles at Mach {shock.mach:g}: inverse thickness "
        f"{found['inverse_thickness']:.3g} +- {found['error']:.3g}; raise "
        "shock.particles.per_free_path or shock.particles.steps"
    )


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.from_numpy(np.interp(at.numpy(), x.numpy(), y.numpy()))
