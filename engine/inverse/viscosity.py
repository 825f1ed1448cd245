"""The forces between atoms from the viscosity of their dilute gas, by Gauss and Newton."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..audit.certificate import write_certificate
from ..audit.certify import Certificate, Law, certify
from ..gas.collisions.pairs import lennard_jones
from ..gas.collisions.transport import viscosity
from ..protocols import Check, Figure, Outcome
from ..run import Reporter
from ..rundir import RunFolder, write_group
from ..schema.inverse import ViscosityScenario
from ..units import ATOMIC_MASS_KG, BOLTZMANN_EV, ELEMENTARY_CHARGE

SI_VISCOSITY = 1e26
"""micropascal seconds in sqrt(kg J) / angstrom^2."""

KILOGRAM_JOULE = ATOMIC_MASS_KG * BOLTZMANN_EV * ELEMENTARY_CHARGE
"""amu kelvin in kg J."""


@dataclass(frozen=True)
class ViscosityFit:
    """Gauss and Newton's method on the logarithms of viscosities and parameters."""

    scenario: ViscosityScenario

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
        """Compare the last gradient with differences and the exact laws."""
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
        write_group(
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
        write_group(
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
        write_group(
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
        note = "relative misfit of a viscosity"
        fit = Check("fit", "accuracy", worst, s.agreement, note=note)
        return Outcome(figures, [*write_certificate(folder, certificate), fit])


__all__ = ["ViscosityFit"]
