"""Jobs that differentiate a whole computation; the match on their kinds, and viscosity."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..audit.certify import AGREES, Certificate, Law, certify
from ..errors import InputError
from ..gas.collisions import lennard_jones, viscosity
from ..protocols import Figure, Job, Outcome, told
from ..run import Reporter
from ..rundir import RunFolder, write_text
from ..schema.gradients import (
    ClosureLoopScenario,
    LearnRdfScenario,
    LearnViscosityScenario,
    ShockSensitivityScenario,
)
from ..units import ATOMIC_MASS_KG, BOLTZMANN_EV, ELEMENTARY_CHARGE

Kind = (
    LearnViscosityScenario
    | LearnRdfScenario
    | ShockSensitivityScenario
    | ClosureLoopScenario
)


def assemble(scenario: Kind, base: Path) -> Job:
    """Return the job of a scenario.

    Raises:
        InputError: not on the cpu in double precision.
    """
    if scenario.device != "cpu" or scenario.precision != "f64":
        raise InputError("device, precision: gradients are taken on the cpu in f64")
    match scenario:
        case LearnViscosityScenario():
            return ViscosityFit(scenario)
        case LearnRdfScenario():
            from .gradients_rdf import RdfFit

            return RdfFit(scenario)
        case ShockSensitivityScenario():
            from .gradients_shock import ShockSensitivity

            return ShockSensitivity(scenario)
        case ClosureLoopScenario():
            from .gradients_closure import ClosureLoop

            return ClosureLoop(scenario)


# -- what all of them write ---------------------------------------------------------------


def put(
    folder: RunFolder,
    group: str,
    values: Mapping[str, tuple[Tensor, str]],
    title: str = "",
    caption: str = "",
    axes: tuple[str, ...] = (),
    **attributes: Any,
) -> None:
    """Write a group of arrays with their units; ``axes`` belong to all but coordinates."""
    made = folder.store.require_group(group)
    made.attrs.update({"title": title, "caption": caption, **attributes})
    for name, (array, unit) in values.items():
        data = array.detach().double().numpy()
        stored = made.create_array(name, data=data, overwrite=True)
        stored.attrs["unit"], stored.attrs["long_name"] = unit, name.replace("_", " ")
        if axes and name not in axes:
            stored.attrs["axes"] = list(axes)


def put_certificate(
    folder: RunFolder, found: Certificate, caption: str = ""
) -> dict[str, str]:
    """Write a certificate as JSON and its sweeps as a picture; return its verdicts."""
    write_text(folder.path / "certificate.json", json.dumps(found.json(), indent=1) + "\n")
    sweeps = [c for c in found.checks if c.steps and (c.gradient or c.expected)]
    for check in sweeps[:8]:
        steps = torch.tensor(check.steps, dtype=torch.float64)
        scale = max(abs(check.gradient), 1e-300)
        off = (torch.tensor(check.differences, dtype=torch.float64) - check.gradient).abs()
        name = f"{check.stage}_by_{check.parameter}".replace(" ", "_")
        put(
            folder,
            "certificate",
            {"step": (steps, ""), name: ((off / scale).clamp(min=1e-16), "")},
            "Gradient certificate",
            caption
            or "Relative difference between automatic derivative and central differences "
            "over the step of the differences: it falls with the square of the step, "
            "until rounding takes over. Where it has no valley, the gradient is wrong.",
            axes=("step",),
            plot="loglog",
            y_title="relative difference",
        )
        step: Any = folder.store["certificate/step"]
        step.attrs["long_name"] = "relative step of the differences"
    worst: dict[str, str] = {}
    for check in found.checks:
        key = f"certificate_{check.stage}".replace(" ", "_")
        if worst.get(key, AGREES) == AGREES:
            ok = check.verdict == AGREES
            worst[key] = AGREES if ok else f"{check.parameter}: {check.verdict}"
    return {key: "ok" if value == AGREES else value for key, value in worst.items()}


# -- viscosity ----------------------------------------------------------------------------

SI_VISCOSITY = 1e26
"""micropascal seconds in sqrt(kg J) / angstrom^2."""

KILOGRAM_JOULE = ATOMIC_MASS_KG * BOLTZMANN_EV * ELEMENTARY_CHARGE
"""amu kelvin in kg J."""


@dataclass(frozen=True)
class ViscosityFit:
    """Gauss and Newton's method on the logarithms of viscosities and parameters."""

    scenario: LearnViscosityScenario

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Fit, certify the gradient, and write both."""
        s = self.scenario
        temperatures = torch.tensor(s.temperatures, dtype=torch.float64)
        measured = torch.tensor(s.viscosities, dtype=torch.float64).log()
        point = torch.tensor([s.start.epsilon, s.start.sigma], dtype=torch.float64).log()
        rows, jacobian, misfit = [], torch.empty(0), torch.empty(0)
        for step in range(s.iterations + 1):
            value, jacobian = self._linearised(point, temperatures)
            misfit = value - measured
            rms = float(misfit.square().mean().sqrt())
            rows.append([*point.exp().tolist(), rms])
            report.progress(step, s.iterations, {"misfit": f"{100 * rms:.3f}%"})
            folder.log(step=step, epsilon=rows[-1][0], sigma=rows[-1][1], misfit=rms)
            change = torch.linalg.lstsq(jacobian, -misfit[:, None]).solution[:, 0]
            if float(change.abs().max()) < 1e-7 or step == s.iterations:
                break
            point = point + change.clamp(-0.3, 0.3)
        spare = max(1, len(misfit) - 2)
        covariance = torch.linalg.inv(jacobian.T @ jacobian) * misfit.square().sum() / spare
        self._write(folder, point, temperatures, torch.tensor(rows))
        certificate = self._certificate(point)
        return self._outcome(folder, point, misfit, covariance, certificate)

    def viscosity(self, point: Tensor, temperatures: Tensor) -> Tensor:
        """Return micropascal seconds; ``point`` holds ln epsilon and ln sigma."""
        epsilon, sigma = point.exp()
        potential = lennard_jones(epsilon, sigma)
        mass = self.scenario.mass * KILOGRAM_JOULE
        guess = float(sigma.detach())
        return SI_VISCOSITY * viscosity(potential, temperatures, mass, guess)

    def _linearised(self, point: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        p = point.clone().requires_grad_()
        value = self.viscosity(p, temperatures).log()
        rows = [torch.autograd.grad(v, p, retain_graph=True)[0] for v in value]
        return value.detach(), torch.stack(rows)

    def _certificate(self, point: Tensor) -> Certificate:
        """Hold the last gradient against differences and the exact laws."""
        middle = self.scenario.temperatures[len(self.scenario.temperatures) // 2]
        mass = self.scenario.mass * KILOGRAM_JOULE

        def stage(p: Mapping[str, Tensor]) -> Tensor:
            potential = lennard_jones(p["epsilon"], p["sigma"])
            guess = float(p["sigma"].detach())
            at = p["temperature"][None]
            return SI_VISCOSITY * viscosity(potential, at, mass, guess)

        epsilon, sigma = point.exp()
        parameters = {
            "epsilon": epsilon,
            "sigma": sigma,
            "temperature": torch.tensor(middle, dtype=torch.float64),
        }
        both = {"epsilon": 1.0, "temperature": 1.0}
        laws = [
            Law("viscosity ~ sigma^-2", "viscosity", {"sigma": 1.0}, -2.0, 1e-6),
            Law("viscosity ~ sqrt(T) g(T/epsilon)", "viscosity", both, 0.5, 1e-6),
        ]
        steps = [10.0 ** (-1 - 0.5 * k) for k in range(9)]
        return certify({"viscosity": stage}, parameters, laws=laws, steps=steps)

    def _write(
        self, folder: RunFolder, point: Tensor, temperatures: Tensor, rows: Tensor
    ) -> None:
        s = self.scenario
        measured = torch.tensor(s.viscosities, dtype=torch.float64)
        guess = torch.tensor([s.start.epsilon, s.start.sigma], dtype=torch.float64).log()
        found, first = (self.viscosity(p, temperatures) for p in (point, guess))
        put(
            folder,
            "viscosity",
            {
                "temperature": (temperatures, "K"),
                "fitted": (found, "µPa s"),
                "first_guess": (first, "µPa s"),
                "measured": (measured, "µPa s"),
            },
            "Viscosity of the dilute gas",
            f"Measured: {s.source}.",
            axes=("temperature",),
        )
        put(
            folder,
            "misfit",
            {
                "temperature": (temperatures, "K"),
                "fitted_over_measured": (100 * (found / measured - 1), "%"),
                "fitted_over_measured_reference": (torch.zeros_like(found), "%"),
            },
            "What a Lennard-Jones pair cannot describe",
            "Deviation of the fit at each temperature; atoms are no Lennard-Jones pairs, "
            "so it does not vanish.",
            axes=("temperature",),
        )
        step = torch.arange(len(rows))
        put(
            folder,
            "descent",
            {
                "iteration": (step, ""),
                "epsilon": (rows[:, 0], "K"),
                "sigma": (rows[:, 1], "angstrom"),
            },
            "From the first guess to the fit",
            "Each step uses the exact derivatives of all viscosities by both parameters.",
            axes=("iteration",),
        )

    def _outcome(
        self,
        folder: RunFolder,
        point: Tensor,
        misfit: Tensor,
        covariance: Tensor,
        certificate: Certificate,
    ) -> Outcome:
        s = self.scenario
        epsilon, sigma = point.exp().tolist()
        error = covariance.diagonal().sqrt().tolist()
        law = next(c for c in certificate.checks if c.judge == "law")
        slope = -2.0 * law.gradient / law.expected
        figures = {
            "epsilon": Figure(
                epsilon, "K", epsilon * error[0], "over Boltzmann's constant"
            ),
            "sigma": Figure(sigma, "angstrom", sigma * error[1]),
            "largest_misfit": Figure(float(misfit.abs().max()), "", note="relative"),
            "scaling_error": Figure(
                abs(slope + 2.0), "", note="of d ln viscosity / d ln sigma, exactly -2"
            ),
        }
        for number, other in enumerate(s.published):
            for name, value in (("epsilon", epsilon), ("sigma", sigma)):
                published = getattr(other, name)
                figures[f"{name}_over_published_{number + 1}"] = Figure(
                    value / published, "", note=f"{published:g}, {other.source}"
                )
        worst = float(misfit.abs().max())
        verdicts = put_certificate(folder, certificate)
        verdicts["fit"] = (
            "ok"
            if worst <= s.agreement
            else f"a viscosity is {100 * worst:.1f}% off, allowed {100 * s.agreement:g}%"
        )
        return Outcome(figures, told(verdicts))
