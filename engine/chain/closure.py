"""The same shock by moment equations with a learned closure."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import runtime
from ..errors import GuardError, InputError
from ..gas.boundaries import Inflow, Sides
from ..gas.closures.parts import Learned
from ..gas.exact import shock_jump
from ..gas.material import Gas
from ..gas.scheme.finite_volume import MomentWorld, koren
from ..gas.scheme.positivity import PositivityFallback
from ..learn.trainers.closure_job import ClosureTraining
from ..resolved import begun
from ..run import Reporter
from ..rundir import RunFolder
from ..schema.closure import ClosureTrainScenario
from .shock import GAMMA, KNUDSEN, Profile, ShockTube, integral_measure

PRANDTL = 2.0 / 3.0
"""Of a monatomic gas; a closure is learned at one."""
CFL = 0.3


@dataclass(frozen=True)
class Teaching:
    """A closure that the chain trains before its shocks, in a run folder of its own.

    Attributes:
        file: of the scenario that trains it.
        scenario: what that says.
    """

    file: Path
    scenario: ClosureTrainScenario

    def __post_init__(self) -> None:
        form = self.scenario.model
        if form.dimension != 3 or abs(form.prandtl - PRANDTL) > 1e-3:
            raise InputError(
                f"{self.file.name} trains with model.dimension and model.prandtl "
                f"{form.dimension} and {form.prandtl:g}; here 3 and {PRANDTL:.4g}"
            )
        if self.scenario.members != 1:
            raise InputError(
                f"{self.file.name} trains members = {self.scenario.members}; one closure "
                "runs alone: members = 1"
            )

    def shock(self, folder: Path) -> "ClosedShock":
        """Return the shocks of the closure, once :meth:`run` is through."""
        return ClosedShock(folder / "closure" / f"{self.scenario.name}_0.safetensors")

    def run(self, folder: Path, report: Reporter) -> dict[str, float]:
        """Train, or go on from the newest checkpoint; return what is told of it."""
        place, job = folder / "closure", ClosureTraining(self.scenario)
        record = {
            "name": self.file.stem,
            "scenario": self.scenario.model_dump(mode="json"),
            "base": str(self.file.parent),
            "command": f"engine run {self.file.stem}",
            "inputs": {},
        }
        with (
            RunFolder.open(place)
            if begun(place)
            else RunFolder.create(place, self.file.read_text(encoding="utf-8"), record)
        ) as opened:
            start = time.monotonic()
            figures = job.run(opened, report).figures
        unexplained = figures["unexplained_0"].value
        return {"unexplained": unexplained, "seconds": time.monotonic() - start}


@dataclass(frozen=True)
class ClosedShock:
    """How a shock is computed by moments; lengths in mean free paths ahead.

    The gas streams from the shock of the kinetic equation to its own steady state; what the
    last quarter of the time still changes of the thickness stands as its error.

    Attributes:
        member: weights of the closure.
        until: end of the march, mean free paths over sqrt(R T) ahead.
    """

    member: Path
    until: float = 20.0

    def equations(self, omega: float) -> Any:
        """Return the moment equations in gas of a power law.

        Raises:
            InputError: the file is missing or damaged, or the closure was learned for
                another gas.
        """
        gas = Gas.power_law(3, omega, PRANDTL)
        return Learned((self.member,)).equations(gas, None, lambda path: path)

    def run(
        self, tube: ShockTube, omega: float, start: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[Profile, float]:
        """Return the profile, and the share of faces where the closure fell back to HME.

        Args:
            tube: box, cells and Mach number.
            omega: exponent of the viscosity between the ends of the shock.
            start: ``[cells]`` density and temperature of the kinetic equation, 0 ahead to 1
                behind.

        Raises:
            GuardError: the moments became unphysical.
        """
        speed, density, after, hot = shock_jump(tube.mach, GAMMA)
        world = MomentWorld(
            tube.grid,
            (Sides(Inflow(1.0, (speed,), 1.0), Inflow(density, (after,), hot)),),
            self.equations(omega),
            torch.tensor([KNUDSEN], dtype=torch.float64),
            1.0,
            limiter=koren,
            check=False,
            once=True,
        )
        rho, t = (
            1 + (end - 1) * x[None] for x, end in zip(start, (density, hot), strict=True)
        )
        u = torch.zeros(1, tube.cells, 3).double()
        u[..., 0] = speed / rho
        w = world.equations.equilibrium(rho, u, t)
        steps = 4 * math.ceil(0.25 * self.until * world.courant_rate(w) / CFL)
        world = world.with_time_step(self.until / steps)
        solver, state = PositivityFallback(world), world.start(w)
        found, last = [], None
        with runtime.one_thread():
            for step in range(steps):
                state = solver.step(state)
                if step + 1 in (3 * steps // 4, steps):
                    last = _profile(tube, world.observe(state), density, hot)
                    found.append(float(last.inverse_thickness))
        assert last is not None
        if not math.isfinite(found[-1]):
            raise GuardError(f"moments at Mach {tube.mach:g} are no numbers")
        share = float(state.fallbacks) / steps / (tube.cells + 1)
        return replace(last, error=abs(found[1] - found[0])), share


def _profile(
    tube: ShockTube, seen: dict[str, torch.Tensor], density: float, hot: float
) -> Profile:
    rho = (seen["density"][0] - 1) / (density - 1)
    return Profile(
        tube.grid.centers(0),
        rho,
        (seen["temperature"][0] - 1) / (hot - 1),
        integral_measure(rho, tube.grid.spacing[0]),
    )


__all__ = ["ClosedShock", "Teaching"]
