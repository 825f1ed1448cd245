"""Jobs of inverse problems."""

import math
from functools import partial
from pathlib import Path

import torch

from ..gas.collisions.published import PUBLISHED
from ..protocols import Job
from ..schema.inverse import (
    RdfScenario,
    ScalesSection,
    ThicknessScenario,
    ViscosityScenario,
)

Scenario = RdfScenario | ThicknessScenario | ViscosityScenario


def assemble(scenario: Scenario, base: Path) -> Job:
    """Return the job of a scenario."""
    del base
    if isinstance(scenario, ThicknessScenario):
        return _thickness(scenario)
    if isinstance(scenario, ViscosityScenario):
        from ..inverse.viscosity import ViscosityFit

        return ViscosityFit(scenario)
    from ..inverse.rdf import RdfFit

    return RdfFit(scenario)


def _thickness(s: ThicknessScenario) -> Job:
    from ..chain.goal import Window
    from ..chain.inversion import Measurement, Shocks, ThicknessFit
    from ..chain.properties import Atoms
    from ..chain.shock import ShockTube

    known = PUBLISHED[s.symbol]
    tube = ShockTube(s.mach[0], s.cells, s.extent, s.nodes, s.settling)
    ends = [ShockTube(m).temperatures * s.temperature for m in s.mach]
    window = Window(
        Atoms(known.symbol, known.mass, known.bosons),
        min(float(t.min()) for t in ends),
        max(float(t.max()) for t in ends),
        quantum=False,
    )
    shocks = Shocks(known, window, tube)

    def made() -> Measurement:
        """Return thicknesses of the truth, with noise."""
        assert s.truth is not None
        with torch.no_grad():
            gas = shocks.gas(_logs(s.truth))
            logs = [shocks.ln_thickness(gas, m, s.temperature, s.pressure) for m in s.mach]
        noise = torch.randn(
            len(s.mach),
            generator=torch.Generator().manual_seed(s.seed),
            dtype=torch.float64,
        )
        values = (torch.stack(logs) + torch.tensor(s.errors) * noise).exp()
        return measurement(tuple(values.tolist()))

    def measurement(values: tuple[float, ...]) -> Measurement:
        return Measurement(s.mach, values, s.errors, s.temperature, s.pressure, s.source)

    truth = None if s.truth is None else tuple(_logs(s.truth).tolist())
    measured = made if s.truth is not None else partial(measurement, s.thicknesses)
    return ThicknessFit(
        shocks, measured, (s.prior.energy, s.prior.length),
        (math.log(s.start.energy), math.log(s.start.length)), s.iterations, truth,
    )  # fmt: skip


def _logs(scales: ScalesSection) -> torch.Tensor:
    return torch.tensor([scales.energy, scales.length], dtype=torch.float64).log()


__all__ = ["assemble"]
