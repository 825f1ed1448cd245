r"""Steady states of the kinetic equation along a line, and their derivatives.

In ``R(f) = -A(f) + C(f, P f)`` transport couples cells but not velocities, and collisions
couple velocities through a few moments P f only. With ``K = A' - dC/df`` (banded, one
matrix per velocity) and ``D = dC/d(P f)`` (local in space)

    R_f = -K + D P,

so a system with R_f, or with its transpose, reduces to one for the moments of all cells,
``I - P K^-1 D``, a few hundred unknowns that are solved directly: no iteration, and
shocks, for which marching needs thousands of steps, cost no more than anything else. The
same factors give Newton's method for the state itself. Where its step does not lower the
residual the step is made shorter as an implicit time step is, with ``K + shift``: the
shift falls with the residual, so that marching turns into Newton's method by itself (C. T.
Kelley, D. E. Keyes, SIAM J. Numer. Anal. 35, 508, 1998).

A shock may stand anywhere: the state is fixed by its mass, ``phi(f) = M(f) - M_0 = 0``, at
the price of a source ``alpha psi`` (alpha is zero up to round-off when the reservoirs obey
Rankine and Hugoniot).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import GuardError, InputError
from ...protocols import Check
from ...runtime import check_memory
from ..steady import attach
from .differentiable import LineKinetics
from .world import KineticState, KineticWorld


@dataclass(frozen=True)
class SteadyState:
    """A solution of R(f) + alpha psi = 0.

    Attributes:
        f: ``[parts, cells, nodes]``; carries the graph after :func:`solve`.
        residual: largest |R| tau / f that is left, relative to the largest f.
        source: alpha.
        mass: of the box, see :func:`solve`.
        iterations: of Newton's method.
    """

    f: Tensor
    residual: float
    source: float
    mass: float
    iterations: int


@dataclass(frozen=True)
class _Factors:
    """What linear systems at a state need; indices: q part, v node, i cell, m moment.

    Attributes:
        inverse: ``[q v, i, i]`` K^-1.
        coupling: ``[q v, i, m]`` D.
        weights: ``[q v, m]`` P.
        source: ``[q v, i]`` psi.
        moments: ``[m i, m i]`` P K^-1 D.
        mass: ``[m i]`` derivative of phi by the moments.
    """

    inverse: Tensor
    coupling: Tensor
    weights: Tensor
    source: Tensor
    moments: Tensor
    mass: Tensor


def _rows(f: Tensor) -> Tensor:
    """``[parts, cells, nodes]`` -> ``[parts * nodes, cells]``."""
    return f.movedim(1, 2).reshape(-1, f.shape[1])


def _unrows(rows: Tensor, like: Tensor) -> Tensor:
    parts, cells, nodes = like.shape
    return rows.reshape(parts, nodes, cells).movedim(1, 2)


def _mass(model: LineKinetics, f: Tensor) -> Tensor:
    """The mass over that of half a box ahead and half behind."""
    density = model.moments(f)[0].mean()
    if model.reservoirs is None:
        raise InputError("steady: a periodic line has no single steady state")
    ends = [model.moments(r[:, None])[0, 0] for r in model.reservoirs]
    return density / (0.5 * (ends[0] + ends[1]))


def _source(model: LineKinetics, f: Tensor) -> Tensor:
    """psi: gas like that ahead, spread over the middle of the box."""
    assert model.reservoirs is not None
    x = model.grid.centers(0)
    width = 0.1 * (model.grid.upper[0] - model.grid.lower[0])
    middle = 0.5 * (model.grid.upper[0] + model.grid.lower[0])
    bump = torch.exp(-(((x - middle) / width) ** 2)).to(f)
    return model.reservoirs[0][:, None] * bump[:, None]


def _transport_matrix(model: LineKinetics, f: Tensor) -> Tensor:
    """A' ``[q v, i, i]``: the scheme's four coefficients, put beside the diagonal."""
    with torch.enable_grad():
        stencil = model.stencil(f).detach().requires_grad_()
        (by,) = torch.autograd.grad(model.advection(stencil).sum(), stencil)
    far, near, here, down = (_rows(part) for part in by.unbind(0))
    right = (model.velocities.like(f)[:, 0] > 0).repeat(len(f))[:, None]
    zero = torch.zeros_like(here)
    n = f.shape[1]
    matrix = torch.diag_embed(here)
    shifts = {
        -2: torch.where(right, far, zero),
        -1: torch.where(right, near, down),
        1: torch.where(right, down, near),
        2: torch.where(right, zero, far),
    }
    for shift, values in shifts.items():
        kept = values[:, -shift:] if shift < 0 else values[:, : n - shift]
        matrix = matrix + torch.diag_embed(kept, offset=shift)
    return matrix


def _coupling(model: LineKinetics, f: Tensor) -> tuple[Tensor, Tensor]:
    """dC/df as 1/tau ``[i]``, and D ``[q v, i, m]``, by differentiating an adjoint."""
    f = f.detach()
    with torch.enable_grad():
        m = model.moments(f).detach().requires_grad_()
        rho, u, t, q = model.fields(m)
        rate = 1 / model.relaxation_time(rho, t)
        value = (model.target(rho, u, t, q) - f) * rate[:, None]
        probe = torch.zeros_like(value, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, m, probe, create_graph=True)
        columns = [
            torch.autograd.grad(pulled[k].sum(), probe, retain_graph=True)[0]
            for k in range(len(m))
        ]
    return rate.detach(), torch.stack([_rows(c) for c in columns], -1)


def _factors(model: LineKinetics, f: Tensor, shift: float = 0.0) -> _Factors:
    n = f.shape[1]
    rate, coupling = _coupling(model, f)
    k = _transport_matrix(model, f)
    k.diagonal(dim1=1, dim2=2).add_(rate + shift)
    inverse, weights = torch.linalg.inv(k), model.weights(f).flatten(0, 1)
    m = weights.shape[1]
    moments = inverse.new_empty(m, n, m, n)
    for row in range(m):
        for column in range(m):
            # sum over velocities of p_row(v) K_v^-1[i, j] D[v, j, column]
            left = (weights[:, row, None] * coupling[:, :, column])[:, None, :]
            moments[row, :, column, :] = (inverse * left).sum(0)
    with torch.enable_grad():
        inside = f.detach().requires_grad_()
        (by_f,) = torch.autograd.grad(_mass(model, inside), inside)
    # phi depends on the first moment only, with the same weight in every cell
    mass = inverse.new_zeros(m * n)
    mass[:n] = by_f[0, :, 0] / model.velocities.weight
    return _Factors(
        inverse, coupling, weights, _rows(_source(model, f)), moments.reshape(m * n, m * n),
        mass,
    )  # fmt: skip


def _bordered(a: _Factors) -> Tensor:
    """The system of (moments of the change, alpha), ``[m i + 1, m i + 1]``."""
    size = len(a.mass)
    pushed = (a.inverse @ a.source[..., None])[..., 0]
    system = a.mass.new_zeros(size + 1, size + 1)
    system[:size, :size] = (
        torch.eye(size, dtype=a.mass.dtype, device=a.mass.device) - a.moments
    )
    system[:size, size] = -(a.weights.T @ pushed).reshape(-1)
    system[size, :size] = a.mass
    return system


def _newton(
    model: LineKinetics, f: Tensor, alpha: float, mass: Tensor, shift: float
) -> tuple[Tensor, float]:
    """One step for R + alpha psi = 0, phi = 0: Newton's, or an implicit time step."""
    a = _factors(model, f, shift)
    with torch.no_grad():
        r = _rows(model.residual(f)) + alpha * a.source
        missing = mass - _mass(model, f)
        solved = (a.inverse @ r[..., None])[..., 0]
        right = torch.cat([(a.weights.T @ solved).reshape(-1), missing[None]])
        answer = torch.linalg.solve(_bordered(a), right)
        change = answer[:-1].reshape(a.weights.shape[1], -1)
        step = r + answer[-1] * a.source + torch.einsum("qim,mi->qi", a.coupling, change)
        moved = f + _unrows((a.inverse @ step[..., None])[..., 0], f)
    return moved, alpha + float(answer[-1])


def _adjoint(a: _Factors, by_f: Tensor) -> tuple[Tensor, Tensor]:
    """Solve ``R_f^T lambda + phi_f^T beta = by_f``, ``psi . lambda = 0``."""
    g = _rows(by_f)
    solved = (a.inverse.mT @ g[..., None])[..., 0]
    coupled = torch.einsum("qim,qi->mi", a.coupling, solved).reshape(-1)
    size = len(a.mass)
    system = a.mass.new_zeros(size + 1, size + 1)
    system[:size, :size] = torch.eye(size, dtype=g.dtype, device=g.device) - a.moments.T
    system[:size, size] = -a.moments.T @ a.mass
    pushed = (a.inverse @ a.source[..., None])[..., 0]
    pushed = (a.weights.T @ pushed).reshape(-1)
    system[size, :size], system[size, size] = pushed, pushed @ a.mass
    right = torch.cat([-coupled, (a.source * solved).sum()[None]])
    answer = torch.linalg.solve(system, right)
    nu = (answer[:-1] + answer[-1] * a.mass).reshape(a.weights.shape[1], -1)
    inside = torch.einsum("qm,mi->qi", a.weights, nu) - g
    return _unrows((a.inverse.mT @ inside[..., None])[..., 0], by_f), answer[-1]


ENOUGH = 1e-4
"""Residual that must be reached where Newton's method stalls."""
BALANCED = 1e-3
"""Source, over what flows in, beyond which the ends allow no steady state of this mass."""

STALLED = 8
"""Steps of Newton's method without progress after which the best state is taken."""

_SHORT, _GROWTH = 0.5, 1.5
"""First implicit time step, and what the residual may grow by in one."""


def solve(
    model: LineKinetics,
    start: Tensor,
    mass: float | None = None,
    tolerance: float = 1e-8,
    enough: float = ENOUGH,
    most: int = 60,
) -> SteadyState:
    """Return the steady state near ``start``, differentiable in whatever the model holds.

    The limiter has kinks: where the profile is flat its slopes switch, and Newton's method
    may stall a little above round-off, which is far below what an observable feels.

    Args:
        model: between two reservoirs.
        start: ``[parts, cells, nodes]``, for instance after some hundred time steps.
        mass: of the box, over that of half a box ahead and half behind: it decides where a
            shock stands; default what ``start`` has.
        tolerance: of the residual over one relaxation time, relative to the largest f.
        enough: what must be reached where Newton's method stalls.
        most: steps, those that were too long included.

    Raises:
        GuardError: neither Newton's method nor implicit time steps converge.
    """
    still = _without_graph(model)
    f = start.detach()
    with torch.no_grad():
        share = _mass(still, f) if mass is None else f.new_tensor(mass)
    f, alpha, left, count = _descend(still, f, share, tolerance, enough, most)
    if not left < enough:
        raise GuardError(
            f"steady: the residual is {left:.2g} after {count} steps; start nearer, or "
            "take more cells or a longer box",
            count,
        )
    factors: list[_Factors] = []

    def solver(by_f: Tensor) -> Sequence[Tensor]:
        if not factors:
            factors.append(_factors(still, f))
        return _adjoint(factors[0], by_f)

    residual = model.residual(f) + alpha * _source(model, f)
    phi = _mass(model, f) - share
    if residual.requires_grad or phi.requires_grad:
        return SteadyState(
            attach(solver, f, residual, phi), left, alpha, float(share), count
        )
    return SteadyState(f, left, alpha, float(share), count)


@dataclass(frozen=True)
class Newton:
    """Newton's method from where a run of the kinetic equation ended.

    Slopes are limited smoothly (:meth:`.LineKinetics.smooth`), so that the steady state
    departs from that of the run's own scheme by an error of second order.

    Attributes:
        world: of the run.
        line: its equation between two reservoirs.
    """

    world: KineticWorld
    line: LineKinetics

    @staticmethod
    def of(world: KineticWorld) -> "Newton":
        """Return the solver for a world.

        Raises:
            InputError: more than one problem or axis, ES-BGK, other ends than reservoirs,
                or not enough memory.
        """
        line = LineKinetics.of(world)
        if line.reservoirs is None:
            raise InputError("a periodic line has no single steady state")
        numbers = 3 * len(line.reservoirs[0]) * world.velocities.count
        check_memory(numbers * world.grid.cells**2, torch.float64, "grid.cells:")
        return Newton(world, line.smooth())

    def after(self, state: KineticState) -> tuple[KineticState | None, list[Check]]:
        """Return the steady state of the mass of ``state``; None where there is none."""
        f = self.world.cells_of(state)[0].double()
        try:
            found = solve(self.line, f)
        except GuardError as error:
            return None, [Check("newton", "health", 1.0, 0.0, note=str(error))]
        note = f"residual over the largest f after {found.iterations} steps"
        checks = [Check("newton", "accuracy", found.residual, ENOUGH, note=note)]
        note = "gas that a steady state of this mass gains, over what flows in; the ends "
        note += "must carry the same fluxes"
        checks.append(
            Check("newton_balance", "domain", self._gain(found), BALANCED, note=note)
        )
        return self.world.start(found.f[None]), checks

    def _gain(self, found: SteadyState) -> float:
        """Return the mass that the source makes, over the flux from both ends."""
        line, spacing = self.line, self.world.grid.spacing[0]
        assert line.reservoirs is not None
        v = line.velocities.like(found.f)[:, 0].abs()
        flux = sum(float((r[0] * v).sum()) for r in line.reservoirs)
        made = float(_source(line, found.f)[0].sum()) * spacing
        return abs(found.source) * made / flux


def _descend(
    model: LineKinetics, f: Tensor, mass: Tensor, tolerance: float, enough: float, most: int
) -> tuple[Tensor, float, float, int]:
    """Return f, alpha, residual and steps of Newton's method with implicit time steps."""
    alpha, shift, since, count = 0.0, 0.0, 0, 0
    left = _left(model, f, alpha, mass)
    best = f, alpha, left
    while count < most and best[2] >= tolerance and since < STALLED:
        count += 1
        moved, source = _newton(model, f, alpha, mass, shift)
        found = _left(model, moved, source, mass)
        settled = best[2] < enough
        if found < (_GROWTH if shift else 1.0) * left or (settled and found < enough):
            f, alpha = moved, source
            # the shift falls as the residual does, and is soon none
            shift *= min(max(found / left, 0.1), 1.0) * 0.7
            shift = shift if shift > 1e-3 else 0.0
            left = found
        else:
            shift = max(10 * shift, 1 / _SHORT)
        since = since + 1 if settled else 0
        if found < best[2]:
            best, since = (moved, source, found), 0
    return *best, count


def _left(model: LineKinetics, f: Tensor, alpha: float, mass: Tensor) -> float:
    with torch.no_grad():
        rho, _, t, _ = model.fields(model.moments(f))
        if not bool(((rho > 0) & (t > 0)).all()):  # no gas: a step that was too long
            return math.inf
        r = model.residual(f) + alpha * _source(model, f)
        scaled = r * model.relaxation_time(rho, t)[:, None]
        off = abs(float(_mass(model, f) - mass))
        return max(float(scaled.abs().max() / f.abs().max()), off)


def _without_graph(model: LineKinetics) -> LineKinetics:
    def relaxation_time(rho: Tensor, t: Tensor) -> Tensor:
        return model.relaxation_time(rho, t)

    prandtl = model.prandtl
    if isinstance(prandtl, Tensor):
        prandtl = prandtl.detach()
    ends = model.reservoirs
    if ends is not None:
        ends = ends[0].detach(), ends[1].detach()
    return replace(model, prandtl=prandtl, reservoirs=ends, relaxation_time=relaxation_time)
