"""What the thickness of a shock depends on: implicit derivatives, down to the atoms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..engine.audit.certificate import write_certificate
from ..engine.audit.certify import Certificate, Law, certify
from ..engine.chain.shock import ShockTube, integral_measure, settled
from ..engine.gas.collisions.pairs import lennard_jones
from ..engine.gas.collisions.transport import viscosity
from ..engine.gas.kinetic import steady
from ..engine.gas.kinetic.differentiable import LineKinetics
from ..engine.protocols import Figure, Job, Outcome
from ..engine.run import Reporter
from ..engine.rundir import RunFolder, write_group
from .schema import ShockSensitivityScenario

NAMES = ("viscosity", "exponent", "prandtl", "mach", "sigma", "epsilon")


@dataclass(frozen=True)
class Shock:
    """A shock at rest in a gas of Lennard-Jones atoms; the unit of length stays fixed.

    Lengths are in mean free paths ahead at the scenario's own parameters, temperatures and
    densities in those ahead.

    Attributes:
        scenario: what is asked.
    """

    scenario: ShockSensitivityScenario

    @property
    def parameters(self) -> dict[str, Tensor]:
        """epsilon, sigma, prandtl, mach."""
        s = self.scenario
        values = {
            "epsilon": s.pair.epsilon,
            "sigma": s.pair.sigma,
            "prandtl": s.prandtl,
            "mach": s.mach,
        }
        return {k: torch.tensor(v, dtype=torch.float64) for k, v in values.items()}

    @property
    def tube(self) -> ShockTube:
        """The box, its nodes, and the way to the steady state."""
        s = self.scenario
        return ShockTube(s.mach, s.cells, s.extent, s.nodes, s.settling)

    def viscosities(self, epsilon: Tensor, sigma: Tensor, at: Tensor) -> Tensor:
        """Viscosity at temperatures ``at`` over that of the scenario's gas ahead."""
        s = self.scenario

        def raw(epsilon: Tensor, sigma: Tensor, at: Tensor) -> Tensor:
            potential, guess = lennard_jones(epsilon, sigma), float(sigma.detach())
            return viscosity(potential, at * s.temperature, 1.0, guess)

        one = torch.ones(1, dtype=torch.float64)
        p = self.parameters
        return raw(epsilon, sigma, at) / raw(p["epsilon"], p["sigma"], one)

    def law(self, epsilon: Tensor, sigma: Tensor) -> Tensor:
        """Coefficients of ln viscosity in powers of ln T; linear in ln viscosity."""
        return self.tube.law(self.viscosities(epsilon, sigma, self.tube.temperatures).log())


def profile(line: LineKinetics, f: Tensor) -> Tensor:
    """Return density from 0 ahead to 1 behind, ``[cells]``."""
    assert line.reservoirs is not None
    low, high = (line.moments(r[:, None])[0, 0] for r in line.reservoirs)
    return (line.moments(f)[0] - low) / (high - low)


def inverse_thickness(line: LineKinetics, f: Tensor) -> Tensor:
    """Return ``3/2 int (d rho/dx)^2 dx`` of :func:`profile`.

    For a hyperbolic tangent that is the largest slope, the usual inverse thickness; unlike
    it, the integral hardly depends on where between the cells the shock lies.
    """
    return integral_measure(profile(line, f), line.grid.spacing[0])


@dataclass(frozen=True)
class ShockSensitivity:
    """The steady shock, its derivatives, and their certificate."""

    scenario: ShockSensitivityScenario

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Solve, differentiate, certify, write."""
        shock = Shock(self.scenario)
        p = {k: v.requires_grad_() for k, v in shock.parameters.items()}
        law = shock.law(p["epsilon"], p["sigma"])
        report.progress(0, 3, {"steady state": "marched, then Newton's method"})
        own = law.detach().clone().requires_grad_()
        line = shock.tube.line(own, p["prandtl"], p["mach"])
        state = settled(shock.tube, line, own.detach(), p["prandtl"].detach())
        rho, thin = profile(line, state.f), inverse_thickness(line, state.f)
        report.progress(1, 3, {"adjoint": "profile and thickness"})
        leaves = (own, p["prandtl"], p["mach"])
        atoms = self._atoms(law, p["epsilon"], p["sigma"])
        slopes = self._slopes(thin, leaves, atoms)
        fields = torch.stack([self._slopes(value, leaves, atoms) for value in rho])
        self._write(folder, shock, rho, fields)
        folder.log(step=2, time=0.0, inverse_thickness=float(thin.detach()))
        report.progress(2, 3, {"certificate": "finite differences"})
        certificate = self._certificate(shock, state)
        checks = write_certificate(folder, certificate)
        report.progress(3, 3, {"done": ""})
        figures = {
            "inverse_thickness": Figure(
                float(thin.detach()),
                "",
                note="in mean free paths ahead, 3/2 integral (d rho/dx)^2 dx",
            ),
            "residual": Figure(state.residual, "", note="of the steady equation"),
        }
        for name, slope in zip(NAMES, slopes.tolist(), strict=True):
            share = slope / float(thin.detach())
            note = f"d ln (inverse thickness) / d ln ({name})"
            if name == "exponent":
                note = "d ln (inverse thickness) / d (exponent of the viscosity law)"
            figures[f"by_{name}"] = Figure(share, "", note=note)
        return Outcome(figures, checks)

    def _atoms(self, law: Tensor, epsilon: Tensor, sigma: Tensor) -> Tensor:
        """Derivatives of the law by ln sigma and ln epsilon, ``[coefficients, 2]``."""
        rows = [torch.autograd.grad(c, (sigma, epsilon), retain_graph=True) for c in law]
        return torch.tensor(
            [[float(a * sigma.detach()), float(b * epsilon.detach())] for a, b in rows],
            dtype=torch.float64,
        )

    def _slopes(self, value: Tensor, leaves: Sequence[Tensor], atoms: Tensor) -> Tensor:
        """Derivatives of a number by what :data:`NAMES` say, logarithmic ones."""
        _, prandtl, mach = leaves
        found = torch.autograd.grad(value, leaves, retain_graph=True)
        by_law, by_prandtl, by_mach = found
        return torch.stack(
            [
                by_law[0],
                by_law[1],
                by_prandtl * prandtl.detach(),
                by_mach * mach.detach(),
                *(by_law @ atoms),
            ]
        )

    def _certificate(self, shock: Shock, state: steady.SteadyState) -> Certificate:
        """Viscosity ahead, then the thickness: each against differences and its law."""
        f, mass = state.f.detach(), state.mass
        one = torch.ones(1, dtype=torch.float64)

        def ahead(p: Mapping[str, Tensor]) -> Tensor:
            # the others do not matter here, and say so by zero derivatives
            rest = 0.0 * (p["prandtl"] + p["mach"])
            return shock.viscosities(p["epsilon"], p["sigma"], one)[0] + rest

        def thin(p: Mapping[str, Tensor]) -> Tensor:
            law = shock.law(p["epsilon"], p["sigma"])
            line = shock.tube.line(law, p["prandtl"], p["mach"])
            settled = steady.solve(line, f, mass)
            return inverse_thickness(line, settled.f)

        laws = [
            Law("viscosity ~ sigma^-2", "viscosity", {"sigma": 1.0}, -2.0, 1e-6),
            Law("inverse thickness ~ sigma^2", "thickness", {"sigma": 1.0}, 2.0, 0.05),
        ]
        return certify(
            {"viscosity": ahead, "thickness": thin},
            shock.parameters,
            laws=laws,
            steps=[1e-2, 10**-2.5, 1e-3],
            # the limiter's floor follows the ends, which the adjoint holds
            tolerance=5e-3,
        )

    def _write(self, folder: RunFolder, shock: Shock, rho: Tensor, fields: Tensor) -> None:
        x = shock.tube.grid.centers(0)
        write_group(
            folder,
            "shock",
            {"x": (x, "free paths"), "density": (rho, "")},
            "The shock",
            "Density from 0 ahead to 1 behind, over mean free paths of the gas ahead.",
            axes=("x",),
            y_title="density, 0 ahead to 1 behind",
        )
        columns = {
            f"by_{name}": (fields[:, k], "")
            for k, name in enumerate(NAMES)
            if name != "viscosity"
        }
        write_group(
            folder,
            "sensitivity",
            {"x": (x, "free paths"), **columns},
            "What moves the profile",
            "Derivative of the density by the logarithm of each parameter (by the exponent "
            "of the viscosity law itself), at fixed mass in the box: one adjoint solution "
            "per cell, no time step.",
            axes=("x",),
            y_title="derivative of the density",
        )


def assemble(scenario: ShockSensitivityScenario, base: Path) -> Job:
    """Return the job of the study."""
    del base
    return ShockSensitivity(scenario)


__all__ = ["Shock", "ShockSensitivity", "assemble", "inverse_thickness", "profile"]
