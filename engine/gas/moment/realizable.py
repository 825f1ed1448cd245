r"""Six moments of a gas with one velocity dimension that always belong to a gas.

The raw moments ``M_k = integral v^k f dv``, k = 0..5, obey

    dM_k/dt + dM_{k+1}/dx = (M_k[Maxwellian] - M_k) / tau,

all in conservation form; what is unclosed is M_6, and a closure gives it through the
recurrence coefficient ``b_3 > 0`` (:mod:`scalebridge.models.closures.recurrence`). Nothing
bounds the speeds by the temperature, so that strong shocks stay smooth.

Space: MUSCL on the recurrence coefficients with the limiter of Koren, which keeps every
``b_n > 0``; HLL's flux (Harten, Lax, van Leer, SIAM Rev. 25, 1983, p. 35) with the
velocities of the fastest beams. Time: IMEX ARS(2,2,2), the relaxation implicit.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ....models.closures.recurrence import (
    Coefficient,
    coefficients,
    geometric,
    raw_moments,
    reach,
)
from ...errors import GuardError, InputError
from ..boundaries import Inflow, Open, Sides, Wall, check_sides, component
from ..grid import Grid
from ..material import Gas
from ..observe import refuse_unphysical
from .hermite import DELTA, GAMMA, koren

REMEDY = "lower the time step"
MARGIN = 1.05
"""Speeds of the scheme over those of the fastest beams."""


@dataclass(frozen=True)
class RealizableState:
    """A batch of moment fields.

    Attributes:
        moments: ``[batch, cells, 6]`` raw moments.
        step: scalar int64.
        time: scalar f64.
    """

    moments: Tensor
    step: Tensor
    time: Tensor


def maxwellian(rho: Tensor, u: Tensor, theta: Tensor) -> Tensor:
    """Return M_0 .. M_5 of gas in equilibrium, ``[..., 6]``."""
    gauss = [torch.ones_like(u), u]
    for m in range(2, 6):
        gauss.append(u * gauss[-1] + (m - 1) * theta * gauss[-2])
    return rho[..., None] * torch.stack(gauss, -1)


@dataclass(frozen=True)
class RealizableWorld:
    """A moment problem in one space dimension; see the module's text. A ``Simulator``.

    Attributes:
        grid: one dimension.
        sides: one pair of boundaries; no walls.
        gas: D = 1.
        knudsen: ``[batch]``.
        time_step: fixed; the CFL is the caller's to keep (a step that is too long stops).
        closure: b_3 of the recurrence coefficients.
        check: refuse unphysical states and too long steps after every step.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    gas: Gas
    knudsen: Tensor
    time_step: float
    closure: Coefficient = geometric
    check: bool = True

    def __post_init__(self) -> None:
        check_sides(self.sides, self.grid.dim)
        if self.grid.dim != 1 or self.gas.dimension != 1:
            raise InputError(
                "realizable: one space and one velocity dimension (gas.dimension = 1)"
            )
        if isinstance(self.sides[0].low, Wall) or isinstance(self.sides[0].high, Wall):
            raise InputError("boundary: six realizable moments know no walls yet; use hme")
        if not bool((self.knudsen > 0).all()):
            raise InputError("knudsen: must be positive everywhere")

    def with_time_step(self, time_step: float) -> "RealizableWorld":
        """Return the same world with another step."""
        return replace(self, time_step=time_step)

    def start(self, rho: Tensor, u: Tensor, theta: Tensor) -> RealizableState:
        """Return gas in local equilibrium, fields ``[batch, cells]``.

        Raises:
            InputError: density or temperature not positive.
        """
        if not bool((rho > 0).all() and (theta > 0).all()):
            raise InputError("initial: density and temperature must be positive")
        return self.from_moments(maxwellian(rho, u, theta))

    def from_moments(self, raw: Tensor) -> RealizableState:
        """Return the state of the raw moments ``[batch, cells, >= 6]``."""
        zero, raw = torch.tensor(0.0, dtype=torch.float64), raw.to(self.knudsen.device)
        return RealizableState(raw[..., :6].contiguous(), torch.tensor(0), zero)

    def init(self, rng: torch.Generator) -> RealizableState:
        """Return the gas at rest with unit density and temperature."""
        one = torch.ones(len(self.knudsen), self.grid.cells, dtype=torch.float64)
        return self.start(one, torch.zeros_like(one), one)

    def step(self, state: RealizableState) -> RealizableState:
        """Advance by ``time_step``; differentiable.

        Raises:
            GuardError: the moments belong to no gas, or a signal crosses more than a cell
                (if ``check``).
        """
        dt, old = self.time_step, state.moments
        rate0, fastest = self._rates(old)
        first = self._relax(old + GAMMA * dt * rate0, GAMMA * dt)
        rate1, _ = self._rates(first)
        lag = (1.0 - GAMMA) * dt * self._production(first)
        moved = old + dt * (DELTA * rate0 + (1.0 - DELTA) * rate1) + lag
        new = self._relax(moved, GAMMA * dt)
        after = RealizableState(new, state.step + 1, state.time + dt)
        if self.check:
            some, step = coefficients(new.detach()), int(after.step)
            refuse_unphysical(step, some[..., 0], some[..., 2], REMEDY, after)
            if not bool((some[..., 4] > 0).all()):
                message = f"unrealizable moments at step {step}; {REMEDY}"
                raise GuardError(message, step, after)
            courant = float(fastest) * dt / self.grid.spacing[0]
            if courant > 1.0:
                raise GuardError(
                    f"a signal crosses {courant:.2g} cells in step {step}; {REMEDY}",
                    step,
                    after,
                )
        return after

    def rates(self, moments: Tensor) -> Tensor:
        """Return the transport part of ``dM/dt``, ``[batch, cells, 6]``."""
        return self._rates(moments)[0]

    def _rates(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        some = self._padded(coefficients(moments))
        d = some[:, 1:] - some[:, :-1]
        behind, ahead = d[:, :-1], d[:, 1:]
        left = some[:, 1:-2] + 0.5 * koren(behind, ahead)[:, :-1]
        right = some[:, 2:-1] - 0.5 * koren(ahead, behind)[:, 1:]
        both = torch.stack([left, right])
        b3 = self.closure(both)
        raw = raw_moments(both, b3)
        with torch.no_grad():
            low, high = reach(both, b3)
            wide = 0.5 * (MARGIN - 1.0) * (high - low)
            low = (low - wide).amin(0).clamp(max=0.0)[..., None]
            high = (high + wide).amax(0).clamp(min=0.0)[..., None]
        carried, kept = raw[..., 1:], raw[..., :-1]
        flux = high * carried[0] - low * carried[1] + high * low * (kept[1] - kept[0])
        flux = flux / (high - low)
        fastest = torch.maximum(-low, high).amax()
        return (flux[:, :-1] - flux[:, 1:]) / self.grid.spacing[0], fastest

    def _padded(self, some: Tensor) -> Tensor:
        pair = self.sides[0]
        if pair.periodic:
            return torch.cat([some[:, -2:], some, some[:, :2]], 1)
        low = self._ghost(pair.low, some[:, :1])
        high = self._ghost(pair.high, some[:, -1:])
        return torch.cat([low, low, some, high, high], 1)

    def _ghost(self, side: object, edge: Tensor) -> Tensor:
        match side:
            case Inflow():
                theta = side.temperature
                state = (side.density, component(side.velocity, 0), theta, 0, 2 * theta, 0)
                return edge.new_tensor(state).expand_as(edge)
            case Open():
                return edge
        raise AssertionError("a periodic axis has no ghost cells")

    def _equilibrium(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        rho = moments[..., 0]
        u = moments[..., 1] / rho
        theta = moments[..., 2] / rho - u * u
        tau = self.gas.relaxation_time(self.knudsen[:, None], rho, theta)
        return maxwellian(rho, u, theta), tau.expand_as(rho)[..., None]

    def _relax(self, moments: Tensor, dt: float) -> Tensor:
        rest, tau = self._equilibrium(moments)
        high = (moments + (dt / tau) * rest)[..., 3:] / (1.0 + dt / tau)
        return torch.cat([moments[..., :3], high], -1)

    def _production(self, moments: Tensor) -> Tensor:
        rest, tau = self._equilibrium(moments)
        high = ((rest - moments) / tau)[..., 3:]
        return torch.cat([torch.zeros_like(moments[..., :3]), high], -1)

    def observe(self, state: RealizableState) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`."""
        raw, dx = state.moments, self.grid.spacing[0]
        rho, u, theta, first = coefficients(raw)[..., :4].unbind(-1)
        constant = 0.5 * (1.0 + math.log(2 * math.pi))
        return {
            "density": rho,
            "velocity": u[..., None],
            "temperature": theta,
            "stress": torch.zeros_like(rho)[..., None, None],
            "heat_flux": (0.5 * rho * theta * first)[..., None],
            "entropy": rho * (0.5 * theta.log() - rho.log() + constant),
            "mass": dx * rho.sum(1),
            "momentum": dx * raw[..., 1:2].sum(1),
            "energy": 0.5 * dx * raw[..., 2].sum(1),
        }
