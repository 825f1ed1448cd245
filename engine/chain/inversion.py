r"""The chain backwards: from thicknesses of shocks to the potential, with its posterior.

The unknowns scale a published pair potential in energy and in length,
``V(r) = e^a V_0(r e^-b)``; thicknesses at several Mach numbers decide both through the
viscosity, its growth with the temperature, and the kinetic equation of the shock. With the
Jacobian J of ``ln thickness`` by (a, b), the errors S of the measurement and a Gaussian
prior P, Gauss and Newton's step and the posterior covariance are

    (J^T S^-1 J + P^-1) dx = -J^T S^-1 (ln model - ln measured) - P^-1 (x - x_0),
    C = (J^T S^-1 J + P^-1)^-1.

J comes from the adjoint of the steady kinetic equation and of the scattering integrals.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..gas.collisions.pairs import Pair
from ..gas.collisions.published import Published
from ..protocols import Check, Figure, Outcome
from ..run import Reporter
from ..rundir import RunFolder, write_group
from .goal import Window
from .properties import Collisions
from .shock import ShockTube, solve

NAMES = ("energy", "length")
MOST = 0.2
"""Largest change of a logarithm in one step."""


@dataclass(frozen=True)
class Measurement:
    """Thicknesses of shocks in one gas ahead.

    Attributes:
        mach: numbers.
        thickness: mm, 1 over the integral measure of the density.
        error: relative standard errors.
        temperature: K, ahead.
        pressure: Pa, ahead.
        source: where they are from.
    """

    mach: tuple[float, ...]
    thickness: tuple[float, ...]
    error: tuple[float, ...]
    temperature: float
    pressure: float
    source: str = ""


@dataclass(frozen=True)
class Shocks:
    """Thickness by Shakhov's equation in gas of a scaled potential.

    Attributes:
        published: the potential that is scaled.
        window: atoms and temperatures.
        tube: the set-up of the kinetic equation, at any Mach number.
    """

    published: Published
    window: Window
    tube: ShockTube

    def scaled(self, point: Tensor) -> Pair:
        """Return ``e^a V_0(r e^-b)`` at ``point = (a, b)``."""
        a, b = point
        return lambda r: a.exp() * self.published.pair(r * (-b).exp())

    def gas(self, point: Tensor) -> Collisions:
        """Return its collisions."""
        smallest = self.published.smallest * math.exp(float(point[1].detach()))
        return self.window.collisions(self.scaled(point), max(smallest, 0.3))

    def ln_thickness(
        self, gas: Collisions, mach: float, temperature: float, pressure: float
    ) -> Tensor:
        """Return the logarithm of the thickness in mm."""
        tube = replace(self.tube, mach=mach)
        kelvin = torch.tensor([temperature, tube.middle * temperature]).double()
        ends = gas.coefficients(kelvin)
        ahead = ends.viscosity[0].log()
        law = gas.coefficients(tube.temperatures * temperature).viscosity.log() - ahead
        profile, _ = solve(tube, law, ends.prandtl[1])
        # the mean free path ahead, 16/5 mu / (rho sqrt(2 pi R T)), in mm
        r = gas.atoms.gas_constant
        rho = pressure / (r * temperature)
        path = 3.2e-3 / (rho * math.sqrt(2 * math.pi * r * temperature))
        return ahead + math.log(path) - profile.inverse_thickness.log()


@dataclass(frozen=True)
class ThicknessFit:
    """Finds the scales of a potential; implements ``Job``.

    Attributes:
        shocks: the model.
        measured: returns what is fitted; data of a known truth are made when it runs.
        prior: standard deviations of ln energy and ln length about 0.
        start: first guess of both logarithms.
        iterations: most steps.
        truth: scales that made the data, where they are known.
    """

    shocks: Shocks
    measured: Callable[[], Measurement]
    prior: tuple[float, float]
    start: tuple[float, float]
    iterations: int
    truth: tuple[float, float] | None

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Fit, and write fit, data and the way there."""
        data = self.measured()
        goal = torch.tensor(data.thickness, dtype=torch.float64).log()
        weight = torch.tensor(data.error, dtype=torch.float64) ** -2
        known = torch.diag(torch.tensor(self.prior, dtype=torch.float64) ** -2)
        point = torch.tensor(self.start, dtype=torch.float64)
        rows, moved = [], math.inf
        for step in range(self.iterations + 1):
            value, jacobian = self._linearised(point, data)
            off = value - goal
            curvature = jacobian.T @ (weight[:, None] * jacobian) + known
            change = -torch.linalg.solve(
                curvature, jacobian.T @ (weight * off) + known @ point
            )
            moved = float(change.abs().max())
            rms = float(off.square().mean().sqrt())
            rows.append([*point.exp().tolist(), rms])
            report.progress(step, self.iterations, {"misfit": f"{100 * rms:.3f}%"})
            folder.log(step=step, energy=rows[-1][0], length=rows[-1][1], misfit=rms)
            if moved < 1e-5 or step == self.iterations:
                break
            point = point + change.clamp(-MOST, MOST)
        posterior = torch.linalg.inv(curvature)
        self._write(folder, data, value, torch.tensor(rows, dtype=torch.float64))
        return self._outcome(point, posterior, off * weight.sqrt(), moved)

    def _linearised(self, point: Tensor, data: Measurement) -> tuple[Tensor, Tensor]:
        p = point.clone().requires_grad_()
        gas, values, rows = self.shocks.gas(p), [], []
        for mach in data.mach:
            one = self.shocks.ln_thickness(gas, mach, data.temperature, data.pressure)
            values.append(one.detach())
            rows.append(torch.autograd.grad(one, p, retain_graph=True)[0])
        return torch.stack(values), torch.stack(rows)

    def _write(
        self, folder: RunFolder, data: Measurement, value: Tensor, rows: Tensor
    ) -> None:
        measured = torch.tensor(data.thickness, dtype=torch.float64)
        error = measured * torch.tensor(data.error, dtype=torch.float64)
        write_group(
            folder, "thickness",
            {
                "mach": (torch.tensor(data.mach, dtype=torch.float64), ""),
                "measured": (measured, "mm"),
                "measured_error": (error, "mm"),
                "fitted": (value.exp(), "mm"),
            },
            "Thickness of the shock",
            f"1 over 3/2 int (d rho / dx)^2 dx. Measured: {data.source}.", axes=("mach",),
        )  # fmt: skip
        write_group(
            folder, "descent",
            {
                "iteration": (torch.arange(len(rows)), ""),
                "energy": (rows[:, 0], ""),
                "length": (rows[:, 1], ""),
            },
            "From the first guess to the fit",
            "Scales of the published potential; each step uses the derivatives of all "
            "thicknesses through kinetic equation, transport and scattering.",
            axes=("iteration",),
        )  # fmt: skip

    def _outcome(
        self, point: Tensor, posterior: Tensor, sigmas: Tensor, moved: float
    ) -> Outcome:
        error = posterior.diagonal().sqrt()
        figures = {
            name: Figure(float(value), "", float(value * spread), "over the published")
            for name, value, spread in zip(NAMES, point.exp(), error, strict=True)
        }
        figures["correlation"] = Figure(
            float(posterior[0, 1] / error.prod()), note="of the two, a posteriori"
        )
        checks = [
            Check("converged", "health", moved, 1e-3,
                  note="change of a logarithm by the next step"),
            Check("fit", "accuracy", float(sigmas.abs().amax()), 4.0,
                  note="largest misfit of a thickness, in its standard errors"),
        ]  # fmt: skip
        if self.truth is not None:
            off = point - torch.tensor(self.truth, dtype=torch.float64)
            square = float(off @ torch.linalg.solve(posterior, off))
            checks.append(
                # of two numbers: exceeded once in ten thousand draws
                Check("truth_within_posterior", "accuracy", square, 18.4,
                      note="squared distance of the scales that made the data")
            )  # fmt: skip
        return Outcome(figures, checks)


__all__ = ["Measurement", "Shocks", "ThicknessFit"]
