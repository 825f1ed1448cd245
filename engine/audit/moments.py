"""Audits of a moment closure: what it must keep whatever it has learned.

A closure is what :class:`~..gas.equations.hermite.Hermite` takes: from the faces of a row
of cells to the closing flux, a share of Grad's row, a source, a signal speed. Everything is
measured through the solver that uses it, on periodic boxes of its own unit of length.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ...models.closures.contract import ClosureOutput, FaceStencil
from ..comparison import rank, worst
from ..errors import GuardError
from ..gas.boundaries import ALL_PERIODIC
from ..gas.equations import grad13
from ..gas.equations.hermite import (
    Closure,
    Dissipation,
    Faces,
    hermite_world,
    roe,
    roots,
    rusanov,
)
from ..gas.equations.line import conserved, primitive
from ..gas.grid import Grid
from ..gas.material import Gas
from ..gas.observe import relative_drift
from ..gas.scheme.finite_volume import MomentWorld
from ..runtime import generator, one_thread
from .findings import Finding, Report, at_most, tried

CONSERVED = 1e-12
INVARIANT = 1e-6
REAL = 1e-3
"""Imaginary part of a speed over the thermal speed that counts as none."""

TRANSPORT = 0.02
FREE = 0.05
TRANSFER = 0.05

GAS = Gas.constant_time(1)


def _no_dissipation(at: Faces) -> tuple[Tensor, Tensor]:
    none = torch.zeros_like(at.left)
    return none[:, :3], none


@dataclass(frozen=True)
class ClosureSubject:
    """A closure and the domain that it is declared for.

    Attributes:
        closure: from faces to what closes the system.
        order: M.
        knudsen: smallest and largest Knudsen number of the domain.
        length: unit of length L.
        reach: largest scaled moment ``sqrt(k!) f_k / (rho theta^(k/2))`` of the domain.
        cells: of the box in which it lives; those of its training.
    """

    closure: Closure
    order: int
    knudsen: tuple[float, float] = (1e-3, 10.0)
    length: float = 1.0
    reach: float = 0.5
    cells: int = 100

    def world(
        self,
        knudsen: Tensor,
        cells: int | None = None,
        dissipation: Dissipation = roe,
        time_step: float = 0.0,
        closure: Closure | None = None,
    ) -> MomentWorld:
        """Return the periodic box of one unit of length."""
        grid = Grid((cells or self.cells,), (0.0,), (self.length,))
        if not time_step:
            time_step = 0.35 * grid.spacing[0] / (1.5 * float(roots(self.order).max()))
        return hermite_world(
            grid, (ALL_PERIODIC,), GAS, knudsen, self.order, time_step,
            closure or self.closure, dissipation,
        )  # fmt: skip

    def spread(self, count: int) -> Tensor:
        """Return Knudsen numbers over the domain, ``[count]``."""
        low, high = (math.log10(k) for k in self.knudsen)
        return torch.logspace(low, high, count, dtype=torch.float64)


def waves(
    subject: ClosureSubject, count: int, cells: int, seed: int = 0, moments: float = 0.2
) -> Tensor:
    """Return smooth random fields w ``[count, cells, M + 1]``, two harmonics each.

    Density, temperature and velocity vary by up to a third.

    Args:
        subject: gives M.
        count: of fields.
        cells: of the box.
        seed: of the fields.
        moments: size of the scaled moments; 0 for local equilibrium.
    """
    rng, order = generator(seed, 41), subject.order
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    size = torch.rand(count, order + 1, 2, generator=rng, dtype=torch.float64) - 0.5
    phase = torch.rand(count, order + 1, 2, generator=rng, dtype=torch.float64)
    modes = torch.tensor([1.0, 2.0], dtype=torch.float64)
    angle = 2 * math.pi * (modes[:, None] * x + phase[..., None])
    shape = (size[..., None] * angle.sin()).sum(2).movedim(1, 2)
    rho = 1 + 0.6 * shape[..., 0]
    theta = 1 + 0.6 * shape[..., 2]
    k = torch.arange(3, order + 1, dtype=torch.float64)
    scale = rho[..., None] * theta[..., None] ** (0.5 * k) / _root_factorial(k)
    fields = [rho, 0.6 * shape[..., 1], theta]
    return torch.cat([torch.stack(fields, -1), moments * shape[..., 3:] * scale], -1)


def _root_factorial(k: Tensor) -> Tensor:
    return (0.5 * torch.lgamma(k + 1)).exp()


def faces_of(subject: ClosureSubject, w: Tensor, knudsen: Tensor) -> FaceStencil:
    """Return the faces that the solver would show the closure for fields w."""
    kept: list[FaceStencil] = []

    def look(faces: FaceStencil) -> ClosureOutput:
        kept.append(faces)
        return ClosureOutput()

    world = subject.world(knudsen, w.shape[1], closure=look)
    world.rates(conserved(w).movedim(-1, 1))
    return kept[0]


def answer(closure: Closure, faces: FaceStencil) -> Tensor:
    """Return what a closure says, ``[4, batch, faces]``: flux, blend, source, speed."""
    said = closure(faces)
    none = torch.zeros_like(faces.tau)
    parts = (said.flux, said.blend, said.source, said.speed)
    return torch.stack([none if part is None else part.detach() for part in parts])


def _relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference over the root mean square of each kind of answer."""
    scale = expected.square().mean((1, 2)).sqrt().clamp(min=1e-12)
    return float(((found - expected).abs().amax((1, 2)) / scale).max())


# -- what must hold exactly ----------------------------------------------------------------


def conservation(world: MomentWorld, w: Tensor, steps: int = 50) -> Finding:
    """Mass, momentum and energy of a periodic box stay what they are."""
    state = world.start(w.movedim(-1, 1))
    before = world.observe(state)
    for _ in range(steps):
        state = world.step(state)
    drift = relative_drift(world.observe(state), before)
    value = worst(float(change.max()) for change in drift.values())
    detail = f"{steps} steps of {len(w)} flows"
    return at_most("conservation", value, CONSERVED, detail=detail)


def closure_conserves(subject: ClosureSubject) -> Finding:
    """As :func:`conservation`, with random flows over the domain."""
    knudsen = subject.spread(6)
    return conservation(subject.world(knudsen), waves(subject, 6, subject.cells))


def _moved(w: Tensor, by: float) -> Tensor:
    moved = w.clone()
    moved[..., 1] += by
    return moved


def galilean(subject: ClosureSubject) -> Finding:
    """A moving frame changes nothing: ``closure(u + u') = closure(u)``.

    The frame moves at 0.1, 1 and 10 times the thermal speed.
    """
    faces = faces_of(subject, waves(subject, 6, subject.cells), subject.spread(6))
    expected, values = answer(subject.closure, faces), {}
    for speed in (0.1, 1.0, 10.0):
        boosted = replace(
            faces,
            low=_moved(faces.low, speed),
            high=_moved(faces.high, speed),
            cells=_moved(faces.cells, speed),
        )
        values[speed] = _relative(answer(subject.closure, boosted), expected)
    where = max(values, key=lambda speed: rank(values[speed]))
    detail = f"frames at 0.1, 1, 10 thermal speeds; worst at {where:g}"
    return at_most("Galilean invariance", worst(values.values()), INVARIANT, detail=detail)


def reflection(subject: ClosureSubject) -> Finding:
    """A mirrored flow has the mirrored answer: ``f_k -> (-1)^k f_k``, left <-> right."""
    faces = faces_of(subject, waves(subject, 6, subject.cells), subject.spread(6))
    order = subject.order
    sign = torch.tensor([(-1.0) ** k for k in range(order + 1)], dtype=torch.float64)

    def mirrored(w: Tensor) -> Tensor:
        return sign * w.flip(1)

    other = replace(
        faces,
        low=mirrored(faces.high),
        high=mirrored(faces.low),
        cells=mirrored(faces.cells),
        tau=faces.tau.flip(1),
    )
    odd = torch.tensor([(-1.0) ** (order + 1), 1.0, (-1.0) ** order, 1.0])
    expected = answer(subject.closure, faces).flip(2) * odd.double()[:, None, None]
    value = _relative(answer(subject.closure, other), expected)
    return at_most("reflection", value, INVARIANT, detail="6 flows and their mirror images")


# -- the linearised system -----------------------------------------------------------------


TOGETHER = 64
"""Problems that are linearised at once; more do not fit into the caches."""


def symbol(
    subject: ClosureSubject, w: Tensor, knudsen: Tensor, cells: int
) -> tuple[Tensor, Tensor]:
    """Return the linearised transport about uniform states, mode by mode.

    The response of the solver's rates, without its dissipation, to a change of one cell,
    by automatic differentiation, then transformed over the cells.

    Args:
        subject: whose closure.
        w: ``[n, M + 1]`` uniform states.
        knudsen: ``[n]``.
        cells: of the box; modes ``1 .. cells // 2``.

    Returns:
        ``L [n, modes, M + 1, M + 1]`` complex with ``dU/dt = L U``, U the conserved
        variables, and the effective wave numbers ``sin(k dx) / dx [modes]``.
    """
    dx, count, columns = subject.length / cells, len(w), []
    # a problem of its own for each variable that changes, few of them at a time
    for some in torch.eye(w.shape[-1], dtype=w.dtype).split(max(1, TOGETHER // count)):
        numbers = knudsen.repeat_interleave(len(some))
        world = subject.world(numbers, cells, _no_dissipation, time_step=1e-3)
        rates = replace(world, check=False).rates
        base = conserved(w).repeat_interleave(len(some), 0)[..., None]
        base = base.expand(-1, -1, cells).contiguous()
        tangent = torch.zeros_like(base)
        tangent[..., 0] = some.repeat(count, 1)
        change = torch.func.jvp(lambda u, rates=rates: rates(u)[0], (base,), (tangent,))[1]
        columns.append(change.unflatten(0, (count, -1)).permute(0, 3, 2, 1))
    response = torch.cat(columns, -1)
    # the cell at 0 acts on cell n: U_n ~ exp(i k n), so the symbol is the transform
    modes = torch.fft.fft(response.to(torch.complex128), dim=1)
    number = torch.arange(1, cells // 2, dtype=torch.float64)
    waves_ = torch.sin(2 * math.pi * number / cells) / dx
    return modes[:, 1 : cells // 2], waves_


def damping(subject: ClosureSubject, knudsen: Tensor) -> Tensor:
    """Return the relaxation as a matrix ``[n, 1, M + 1, M + 1]`` about rest at theta 1."""
    size = subject.order + 1
    diagonal = torch.zeros(len(knudsen), size, dtype=torch.float64)
    diagonal[:, 3:] = -1.0 / knudsen[:, None]
    return torch.diag_embed(diagonal)[:, None].to(torch.complex128)


class Characteristic(Protocol):
    """A system whose characteristic speeds can be asked for."""

    def states(self, count: int, seed: int) -> Tensor:
        """Return parameters of random states of its domain, ``[count, n]`` in [-1, 1]."""
        ...

    def imaginary(self, parameters: Tensor) -> Tensor:
        """Return the largest imaginary part of a speed over the thermal speed."""
        ...


@dataclass(frozen=True)
class MomentSpeeds:
    """Growth of short waves of transport, over wave number and thermal speed.

    For a local system this is the largest imaginary part of its characteristic speeds, at
    any wave number. A closure that is smoothed over a length adds a bounded growth, whose
    share falls with the wave number: so waves far shorter than the cells of its training
    are looked at.

    Attributes:
        subject: the closure.
        finer: how many times finer than its own the grid is.
    """

    subject: ClosureSubject
    finer: int = 4

    def states(self, count: int, seed: int) -> Tensor:
        """Scaled moments, then the logarithm of the Knudsen number."""
        rng = generator(seed, 43)
        shape = (count, self.subject.order - 1)
        return 2 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1

    def imaginary(self, parameters: Tensor) -> Tensor:
        """Return ``max Re lambda(k) / k`` between an eighth and a quarter of the modes."""
        order = self.subject.order
        k = torch.arange(3, order + 1, dtype=torch.float64)
        w = torch.zeros(len(parameters), order + 1, dtype=torch.float64)
        w[:, 0] = w[:, 2] = 1.0
        w[:, 3:] = self.subject.reach * parameters[:, :-1] / _root_factorial(k)
        low, high = (math.log10(kn) for kn in self.subject.knudsen)
        knudsen = 10 ** (low + 0.5 * (parameters[:, -1] + 1) * (high - low))
        cells = self.finer * self.subject.cells
        kept = slice(cells // 8, cells // 4, max(1, cells // 64))
        matrix, wave = symbol(self.subject, w, knudsen, cells)
        growth = torch.linalg.eigvals(matrix[:, kept]).real.amax(-1)
        return (growth / wave[kept]).amax(1)


@dataclass(frozen=True)
class GradSpeeds:
    """Grad's thirteen moments in one dimension.

    Attributes:
        reach: largest stress over pressure and heat flux over ``p sqrt(theta)``.
    """

    reach: float = 0.9

    def states(self, count: int, seed: int) -> Tensor:
        """Stress and heat flux."""
        rng = generator(seed, 43)
        return 2 * torch.rand(count, 2, generator=rng, dtype=torch.float64) - 1

    def imaginary(self, parameters: Tensor) -> Tensor:
        """Return the largest imaginary part of the characteristic speeds at theta = 1."""
        stress, heat = (self.reach * parameters).unbind(-1)
        w = torch.zeros(len(parameters), grad13.COUNT, dtype=torch.float64)
        w[:, 0] = w[:, grad13.T] = 1.0
        w[:, 5 + grad13.PAIRS.index((0, 0))], w[:, 5 + grad13.PAIRS.index((1, 1))] = (
            stress,
            -0.5 * stress,
        )
        w[:, grad13.HEAT] = heat
        return grad13.eigenvalues(w).imag.abs().amax(-1)


def search(system: Characteristic, samples: int, rounds: int) -> tuple[Tensor, float]:
    """Return the values at random states, and the worst that an adversary finds.

    It climbs from the worst of the random states by random steps that shrink.
    """
    parameters = system.states(samples, 0)
    found = system.imaginary(parameters)
    top = found.argsort(descending=True)[:8]
    best, value = parameters[top], found[top]
    rng, width = generator(1, 43), 0.3
    for _ in range(rounds):
        step = torch.randn(best.shape, generator=rng, dtype=torch.float64)
        tried = (best + width * step).clamp(-1, 1)
        new = system.imaginary(tried)
        better = new > value
        best = torch.where(better[:, None], tried, best)
        value = torch.where(better, new, value)
        width *= 0.8
    return found, float(torch.cat([found, value]).max())


def hyperbolicity(system: Characteristic, samples: int = 64, rounds: int = 10) -> Finding:
    """No complex characteristic speed in the domain, also where one looks for it."""
    found, worst = search(system, samples, rounds)
    share = 100 * float((found > REAL).double().mean())
    detail = (
        f"imaginary speed over thermal speed; complex in {share:.0f} % of {samples} "
        f"random states, then {rounds} rounds of search"
    )
    return at_most("hyperbolicity", worst, REAL, detail=detail)


def closure_hyperbolicity(subject: ClosureSubject) -> Finding:
    """As :func:`hyperbolicity`, for the linearised solver with the closure."""
    return hyperbolicity(MomentSpeeds(subject))


def _rest(subject: ClosureSubject, count: int) -> tuple[Tensor, Tensor]:
    knudsen = subject.spread(count)
    w = torch.zeros(count, subject.order + 1, dtype=torch.float64)
    w[:, 0] = w[:, 2] = 1.0
    return w, knudsen


def stability(subject: ClosureSubject) -> Finding:
    """A gas at rest stays at rest: no mode grows, at any wave number of the box."""
    w, knudsen = _rest(subject, 17)
    matrix, _ = symbol(subject, w, knudsen, 64)
    growth = torch.linalg.eigvals(matrix + damping(subject, knudsen)).real.amax(-1)
    most = int(growth.amax(1).argmax())
    detail = f"growth per unit of time; worst at Kn = {float(knudsen[most]):.2g}"
    return at_most("stability of rest", float(growth.max()), 1e-8, detail=detail)


def growth(subject: ClosureSubject, samples: int = 64) -> Finding:
    """Nothing in a uniform gas out of equilibrium grows faster than that gas relaxes.

    The states are those of cells of flows that the closure itself makes, each taken for a
    uniform gas. Found is the largest ``tau Re lambda(k)`` over all waves of the box,
    collisions included.
    """
    knudsen, cells = subject.spread(8), 50
    world = subject.world(knudsen, cells, rusanov)
    begun = waves(subject, 8, cells, seed=5, moments=0.0)
    state = world.start(begun.movedim(-1, 1))
    rng, met, kn = generator(12, 41), [], []
    try:
        for number in range(1, 41):
            state = world.step(state)
            if number % 10 == 0:
                pick = torch.randint(cells, (samples // 4,), generator=rng)
                flow = torch.arange(samples // 4) % 8
                now = primitive(state.moments.movedim(1, -1))
                met.append(now[flow, pick])
                kn.append(knudsen[flow])
    except GuardError as error:
        return Finding("growth out of equilibrium", math.inf, 1.0, "", False, str(error))
    w, knudsen = torch.cat(met), torch.cat(kn)
    scale = w[:, :1] * w[:, 2:3] ** (0.5 * torch.arange(3, subject.order + 1))
    rest = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).expand(len(w), 3)
    w = torch.cat([rest, w[:, 3:] / scale], 1)
    matrix, _ = symbol(subject, w, knudsen, 64)
    total = matrix + damping(subject, knudsen)
    rates = knudsen * torch.linalg.eigvals(total).real.amax((1, 2))
    share = 100 * float((rates > 1).double().mean())
    most = int(rates.argmax())
    detail = (
        f"growth rate times tau at {len(w)} states of its own flows; above 1 in "
        f"{share:.0f} %, worst at Kn = {float(knudsen[most]):.2g}"
    )
    return at_most("growth out of equilibrium", float(rates.max()), 1.0, detail=detail)


def conduction(subject: ClosureSubject) -> Finding:
    """``Kn -> 0``: heat diffuses at the rate of Chapman and Enskog, ``tau theta k^2``.

    With one velocity dimension ``kappa = 3/2 tau p`` and ``c_p = 3/2``, so the thermal mode
    decays at ``tau theta k^2``; there is no shear, hence no Prandtl number.
    """
    w, knudsen = _rest(subject, 1)
    matrix, wave = symbol(subject, w, knudsen, subject.cells)
    values = torch.linalg.eigvals((matrix + damping(subject, knudsen))[0, 0])
    # the thermal mode does not travel; sound does, and the moments decay at 1 / tau
    still = values[values.imag.abs() < 0.1 * float(wave[0])].real
    rate = -float(still.max()) if len(still) else math.nan
    ratio = rate / float(knudsen[0] * wave[0] ** 2)
    detail = (
        f"conductivity over Chapman-Enskog's at Kn = {float(knudsen[0]):g}: {ratio:.4f}"
    )
    return at_most("heat conduction as Kn -> 0", abs(ratio - 1), TRANSPORT, detail=detail)


def _density_history(matrix: Tensor, start: Tensor, times: Tensor) -> Tensor:
    """Return the density mode under ``exp(L t)`` from a unit density, ``[times]``."""
    values, vectors = torch.linalg.eig(matrix)
    weights = torch.linalg.solve(vectors, start)
    return (vectors[0] * weights * torch.exp(values * times[:, None])).sum(-1).real


def linear_bgk(wave: float, tau: float, order: int) -> Tensor:
    """Return the linearised BGK equation in Hermite modes, ``[order + 1, order + 1]``."""
    side = torch.arange(1, order + 1, dtype=torch.float64).sqrt()
    stream = torch.diag(side, 1) + torch.diag(side, -1)
    decay = torch.zeros(order + 1, dtype=torch.float64)
    decay[3:] = 1 / tau
    return torch.complex(-torch.diag(decay), -wave * stream)


def free_flight(subject: ClosureSubject, until: float = 0.5) -> Finding:
    """``Kn -> inf``: a density wave fades by free flight, as ``exp(-k^2 t^2 / 2)``.

    At the largest Knudsen number of the domain, the density of a wave of the length of the
    box is followed to ``t = 0.5`` and compared with the linearised kinetic equation in 200
    Hermite modes.
    """
    w, _ = _rest(subject, 1)
    knudsen = torch.tensor([subject.knudsen[1]], dtype=torch.float64)
    matrix, wave = symbol(subject, w, knudsen, subject.cells)
    times = torch.linspace(0, until, 51, dtype=torch.float64)

    def unit(size: int) -> Tensor:
        start = torch.zeros(size, dtype=torch.complex128)
        start[0] = 1.0
        return start

    # a change of density at constant temperature changes the energy density, too
    start = unit(subject.order + 1)
    start[2] = 1.0
    total = (matrix + damping(subject, knudsen))[0, 0]
    found = _density_history(total, start, times)
    truth = linear_bgk(float(wave[0]), float(knudsen[0]), 200)
    exact = _density_history(truth, unit(201), times)
    value = float((found - exact).abs().max())
    detail = f"density wave at Kn = {float(knudsen[0]):g} to t = {until:g}"
    return at_most("free flight as Kn -> inf", value, FREE, detail=detail)


# -- grids and long runs -------------------------------------------------------------------


def grid_transfer(subject: ClosureSubject) -> Finding:
    """On a grid twice as fine the same field has the same closing flux."""
    coarse, fine = subject.cells, 2 * subject.cells
    knudsen = subject.spread(6)
    some = waves(subject, 6, fine)
    u = conserved(some)
    half = primitive(0.5 * (u[:, 0::2] + u[:, 1::2]))
    a = answer(subject.closure, faces_of(subject, half, knudsen))[::2]
    b = answer(subject.closure, faces_of(subject, some, knudsen))[::2, :, ::2]
    scale = b.square().mean((1, 2)).sqrt().clamp(min=1e-12)
    value = float(((a - b).square().mean((1, 2)).sqrt() / scale).max())
    detail = f"rms difference of the answers on {coarse} and on {fine} cells"
    return at_most("grid transfer", value, TRANSFER, detail=detail)


def realizable(w: Tensor) -> Tensor:
    """Return where moments can belong to a non-negative distribution, ``[batch, cells]``.

    ``rho > 0``, ``theta > 0`` and the Hankel determinant of the central moments up to the
    fourth: ``m_0 m_2 m_4 > m_2^3 + m_0 m_3^2`` with ``m_3 = 6 f_3``,
    ``m_4 = 3 rho theta^2 + 24 f_4``.
    """
    rho, theta = w[..., 0], w[..., 2]
    fine = (rho > 0) & (theta > 0) & w.isfinite().all(-1)
    if w.shape[-1] < 5:
        return fine
    m2, m3, m4 = rho * theta, 6 * w[..., 3], 3 * rho * theta**2 + 24 * w[..., 4]
    return fine & (rho * m2 * m4 - m2**3 - rho * m3**2 > 0)


def realizability(
    subject: ClosureSubject, steps: int = 10_000, cells: int = 50, every: int = 20
) -> Finding:
    """Along many steps density, temperature and the Hankel determinant stay positive."""
    knudsen = subject.spread(4)
    world = replace(subject.world(knudsen, cells, rusanov), check=False)
    some = waves(subject, 4, cells, seed=3, moments=0.0)
    state, bad, looked = world.start(some.movedim(-1, 1)), 0, 0
    with torch.inference_mode():
        for number in range(1, steps + 1):
            state = world.step(state)
            if number % every and number < steps:
                continue
            w = primitive(state.moments.movedim(1, -1))
            bad, looked = bad + int((~realizable(w)).sum()), looked + w[..., 0].numel()
            if not bool(w.isfinite().all()):
                name = f"not finite at step {number} of {steps}"
                return Finding("realizability", math.inf, 0.0, "cells", False, name)
    detail = f"{steps} steps, 4 flows over the domain; {looked} cells looked at"
    return at_most("realizability", bad, 0.0, "cells", detail)


def entropy(subject: ClosureSubject, samples: int = 64) -> Finding:
    """Collisions produce entropy: in a uniform gas the distance from equilibrium falls.

    ``sum_k k! f_k^2 / (2 rho theta^k)``, the second-order part of the relative entropy,
    must not rise in one step from any random state. Found is its largest relative rise.
    """
    rng, order = generator(9, 41), subject.order
    k = torch.arange(3, order + 1, dtype=torch.float64)
    draws = torch.randn(samples, 1, order - 2, generator=rng, dtype=torch.float64)
    w = torch.zeros(samples, 1, order + 1, dtype=torch.float64)
    w[..., 0] = w[..., 2] = 1.0
    w[..., 3:] = 0.5 * subject.reach * draws / _root_factorial(k)
    w = w.expand(-1, 8, -1).contiguous()
    world = subject.world(subject.spread(samples), 8, time_step=1e-4)

    def distance(fields: Tensor) -> Tensor:
        scaled = fields[..., 3:] * _root_factorial(k)
        scaled = scaled / (fields[..., :1] * fields[..., 2:3] ** (0.5 * k))
        return 0.5 * scaled.square().sum(-1).mean(1)

    before = distance(w)
    moved = world.step(world.start(w.movedim(-1, 1)))
    after = distance(primitive(moved.moments.movedim(1, -1)))
    rise = float(((after - before) / before).max())
    detail = f"largest rise of the distance from equilibrium, {samples} states"
    return at_most("entropy production", worst([rise, 0.0]), 1e-10, detail=detail)


def audits(steps: int = 10_000) -> Sequence:
    """Return all audits of a closure, in order."""
    return (
        closure_conserves,
        galilean,
        reflection,
        closure_hyperbolicity,
        stability,
        growth,
        entropy,
        partial(realizability, steps=steps),
        conduction,
        free_flight,
        grid_transfer,
    )


def audit_closure(name: str, subject: ClosureSubject, steps: int = 10_000) -> Report:
    """Run all audits of a closure and report."""
    begun = time.monotonic()
    with one_thread():
        findings = [one for each in audits(steps) for one in tried(each, subject)]
    return Report(name, "closure", findings, time.monotonic() - begun)


__all__ = [
    "Characteristic",
    "ClosureSubject",
    "GradSpeeds",
    "MomentSpeeds",
    "audit_closure",
    "audits",
    "conduction",
    "conservation",
    "entropy",
    "free_flight",
    "galilean",
    "grid_transfer",
    "growth",
    "hyperbolicity",
    "realizability",
    "reflection",
    "stability",
]
