"""Shocks of a monatomic gas by moments, against the kinetic equation that taught them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scalebridge.engine.bench import Recorder
from scalebridge.engine.chain.closure import PRANDTL, ClosedShock
from scalebridge.engine.chain.shock import Profile, ShockTube, solve
from scalebridge.engine.errors import GuardError
from scalebridge.engine.gas.equations.hermite import Hermite
from scalebridge.engine.gas.material import Gas

FIGURES = ("shock_3v_thickness", "shock_3v_temperature")
MACH = (1.55, 2.0, 3.0, 5.5, 9.0)
"""Between those of the training, which ends at 8."""
OMEGA = 0.81
"""Exponent of argon's viscosity; the training has another."""


@dataclass(frozen=True)
class PlainShock(ClosedShock):
    """The same by HME."""

    def equations(self, omega: float) -> Any:
        """Return the equations without a closure."""
        return Hermite(Gas.power_law(3, omega, PRANDTL), 5)


def measure(record: Recorder, weights: list[Path], quick: bool) -> None:
    """Record thickness and temperature, the worst Mach number, median of the seeds.

    Inverse thickness by the integral measure; temperature over its jump, root mean square
    over 20 free paths around the middle of the density.
    """
    far: dict[str, list[tuple[float, float]]] = {}
    notes = []
    for mach in MACH[:1] if quick else MACH:
        tube = ShockTube(mach, cells=50 if quick else 100, nodes=64 if quick else 128)
        law = OMEGA * tube.temperatures.log()
        with torch.no_grad():
            true, _ = solve(tube, law, torch.tensor(PRANDTL, dtype=torch.float64))
        start = true.density, true.temperature
        said = []
        for name, one in (
            *((path.stem, ClosedShock(path)) for path in weights),
            ("hme", PlainShock(weights[0])),
        ):
            try:
                found, share = one.run(tube, OMEGA, start)
            except GuardError:
                far.setdefault(name, []).append((math.inf, math.inf))
                continue
            off = float(found.inverse_thickness / true.inverse_thickness) - 1.0
            far.setdefault(name, []).append((abs(off), _rms(found, true)))
            unsteady = found.error / float(true.inverse_thickness)
            said.append(f"{name} {off:+.3f} (+- {unsteady:.1g}, fell back {share:.2g})")
        notes.append(f"Mach {mach:g}: " + ", ".join(said))
    members = [far[path.stem] for path in weights]
    for i, (name, goal) in enumerate(zip(FIGURES, (0.03, 0.01), strict=True)):
        each = [sorted(m[k][i] for m in members) for k in range(len(members[0]))]
        middle = [values[len(values) // 2] for values in each]
        at = max(range(len(each)), key=middle.__getitem__)
        hme = max(pair[i] for pair in far["hme"])
        record(
            name, middle[at], "relative" if i == 0 else "", goal=goal,
            spread=(each[at][0], each[at][-1]),
            note=f"worst of {len(each)} Mach numbers, median of {len(weights)} seeds; by "
            f"Mach number {', '.join(f'{v:.2g}' for v in middle)}; HME {hme:.2g}; "
            f"viscosity as T^{OMEGA:g}; inverse thickness: " + "; ".join(notes),
        )  # fmt: skip


def _rms(one: Profile, true: Profile) -> float:
    """Return the distance of the temperatures, where the densities meet in the middle."""

    def middle(p: Profile) -> float:
        k = int((p.density > 0.5).nonzero()[0])
        low, high = float(p.density[k - 1]), float(p.density[k])
        share = (0.5 - low) / (high - low)
        return float(p.x[k - 1]) + share * float(p.x[k] - p.x[k - 1])

    at = torch.linspace(-10.0, 10.0, 401, dtype=torch.float64)
    ours, theirs = (_at(p, at + middle(p)) for p in (one, true))
    return float((ours - theirs).square().mean().sqrt())


def _at(p: Profile, x: torch.Tensor) -> torch.Tensor:
    place = ((x - p.x[0]) / (p.x[1] - p.x[0])).clamp(0, len(p.x) - 1.001)
    k = place.long()
    share = place - k
    return (1 - share) * p.temperature[k] + share * p.temperature[k + 1]
