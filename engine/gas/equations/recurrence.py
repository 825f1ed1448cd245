r"""Six moments of a gas with one velocity dimension that always belong to a gas.

The raw moments ``M_k = integral v^k f dv``, k = 0..5, obey

    dM_k/dt + dM_{k+1}/dx = (M_k[Maxwellian] - M_k) / tau,

all in conservation form; what is unclosed is M_6, and a closure gives it through the
recurrence coefficient ``b_3 > 0`` (:mod:`scalebridge.models.closures.recurrence`). Nothing
bounds the speeds by the temperature, so that strong shocks stay smooth.

Reconstructed are the recurrence coefficients, by a limiter that keeps every ``b_n > 0``;
HLL's flux (Harten, Lax, van Leer, SIAM Rev. 25, 1983, p. 35) takes the velocities of the
fastest beams.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....models.closures.contract import Closure, FaceStencil
from ....models.closures.recurrence import (
    CellClosure,
    Coefficient,
    coefficients,
    geometric,
    raw_moments,
    reach,
)
from ...errors import InputError
from ..material import Gas
from ..scheme.finite_volume import MomentWorld, Rows, Transport, koren

MARGIN = 1.05
"""Speeds of the scheme over those of the fastest beams."""

BASELINE = CellClosure(geometric)


@dataclass(frozen=True)
class Recurrence:
    """Six realizable moments; see the module's text. ``Equations``.

    Attributes:
        gas: D = 1.
        closure: b_3 of the recurrence coefficients at a point.
    """

    gas: Gas
    closure: Closure = BASELINE

    name = "realizable6"
    dims = (1,)
    positive = (0, 2, 4)
    remedy = "lower the time step"
    learned = False
    at_wall = None  # no walls yet

    def __post_init__(self) -> None:
        if self.gas.dimension != 1:
            raise InputError("realizable: one velocity dimension (gas.dimension = 1)")

    def primitive(self, moments: Tensor) -> Tensor:
        """Return the recurrence coefficients, ``[batch, 6, ...]``."""
        return coefficients(moments.movedim(1, -1)).movedim(-1, 1)

    def conserved(self, w: Tensor) -> Tensor:
        """Return the raw moments 0 .. 5."""
        some = w.movedim(1, -1)
        return raw_moments(some, torch.ones_like(some[..., 0]))[..., :6].movedim(-1, 1)

    def equilibrium(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return w: ``b_n = n theta``, ``a_n = u``."""
        none = torch.zeros_like(density)
        w = [density, velocity[..., 0], temperature, none, 2.0 * temperature, none]
        return torch.stack(w, 1)

    def mixed(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return w of Maxwellians that are added up along the first axis."""
        parts = self.conserved(self.equilibrium(density, velocity, temperature))
        return self.primitive(parts.sum(0).movedim(0, 1))

    def thermal(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature."""
        return w[:, 0], w[:, 1, ..., None], w[:, 2]

    def fastest(self, w: Tensor, axis: int) -> Tensor:
        """Return the speed of the fastest beam."""
        some = w.movedim(1, -1)
        low, high = reach(some, self._b3(some))
        return MARGIN * torch.maximum(-low, high)

    def transport(self, rows: Rows) -> Transport:
        """Return HLL's flux."""
        both = torch.stack([rows.left, rows.right]).movedim(2, -1)
        b3 = self._b3(both)
        raw = raw_moments(both, b3)
        with torch.no_grad():
            low, high = reach(both, b3)
            wide = 0.5 * (MARGIN - 1.0) * (high - low)
            low = (low - wide).amin(0).clamp(max=0.0)[..., None]
            high = (high + wide).amax(0).clamp(min=0.0)[..., None]
        carried, kept = raw[..., 1:], raw[..., :-1]
        flux = high * carried[0] - low * carried[1] + high * low * (kept[1] - kept[0])
        return Transport((flux / (high - low)).movedim(-1, 1))

    def _b3(self, some: Tensor) -> Tensor:
        b3 = self.closure(FaceStencil.at_points(some)).flux
        assert b3 is not None
        return b3

    def relaxed(self, moments: Tensor, time_step: float, knudsen: Tensor) -> Tensor:
        """Relax by BGK."""
        gas = self.thermal(self.primitive(moments))
        ratio = (time_step / self.gas.relaxation_time(knudsen, gas[0], gas[2]))[:, None]
        rest = self.conserved(self.equilibrium(*gas))
        high = (moments + ratio * rest)[:, 3:] / (1.0 + ratio)
        return torch.cat([moments[:, :3], high], 1)

    def observe(self, w: Tensor, dim: int) -> dict[str, Tensor]:
        """Return stress (none) and heat flux."""
        rho, theta = w[:, 0], w[:, 2]
        return {
            "stress": torch.zeros_like(rho)[..., None, None],
            "heat_flux": (0.5 * rho * theta * w[:, 3])[..., None],
        }


def recurrence_world(
    grid: Any, sides: Any, gas: Gas, knudsen: Tensor, time_step: float,
    closure: Coefficient = geometric, **options: Any,
) -> MomentWorld:  # fmt: skip
    """Return the equations on a grid; the options are those of :class:`MomentWorld`."""
    given, equations = {"limiter": koren, **options}, Recurrence(gas, CellClosure(closure))
    return MomentWorld(grid, sides, equations, knudsen, time_step, **given)
