"""Integrators and thermostats; each step is a pure function and reports what it conserves.

Time steps ``dt`` and relaxation times are in the internal unit of time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from ..kernels import noise, verlet
from ..runtime import room
from .classical import symmetric
from .neighbours import Layout
from .state import ParticleState

_VELOCITIES, _STOCHASTIC = 1, 2
"""Purposes of random numbers, so that no two draws share their key."""


@dataclass(frozen=True)
class Schedule:
    """A value that is linear in time between given points, and constant outside them.

    Attributes:
        times: increasing, internal unit of time.
        values: at each time one number for all systems, or one for each.
    """

    times: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    @staticmethod
    def constant(*values: float) -> "Schedule":
        """Return the schedule that never changes; one value, or one for each system."""
        return Schedule((0.0,), (tuple(values),))

    def __call__(self, time: Tensor) -> Tensor:
        """Return the values ``[systems]`` at ``time [systems]``, float64."""
        table = time.new_tensor(self.values, dtype=torch.float64)
        table = table.expand(-1, len(time))
        if len(self.times) == 1:
            return table[0].contiguous()
        times = time.new_tensor(self.times, dtype=torch.float64)
        right = torch.searchsorted(times, time.contiguous(), right=True)
        right = right.clamp(1, len(times) - 1)
        left = right - 1
        part = ((time - times[left]) / (times[right] - times[left])).clamp(0.0, 1.0)
        system = torch.arange(len(time), device=time.device)
        return table[left, system] * (1 - part) + table[right, system] * part


@dataclass(frozen=True)
class Setting:
    """What an integrator is told by the world.

    Attributes:
        dt: time step.
        boltzmann: energy per unit of temperature.
        layout: which atoms belong to which system.
        force: evaluates the potential at new positions; takes the largest squared
            displacement from the anchor per chunk, or None if not known.
        held: ``[systems]`` number of atoms that do not move; None if all do.
    """

    dt: float
    boltzmann: float
    layout: Layout
    force: Callable[[ParticleState, Tensor | None], ParticleState]
    held: Tensor | None = None

    def time(self, state: ParticleState) -> Tensor:
        """Time of every system, ``[systems]``."""
        return state.step.double() * self.dt


class Integrator(Protocol):
    """One way of moving particles, with or without a bath."""

    @property
    def momentum_conserved(self) -> bool:
        """Whether the total momentum stays what it is."""
        ...

    @property
    def uses_virial(self) -> bool:
        """Whether a step looks at the virial or the energy, and not at forces alone."""
        ...

    def init(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Add the integrator's own variables."""
        ...

    def step(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Advance positions and momenta by ``setting.dt``; the world counts the step."""
        ...

    def absorbed(self, state: ParticleState, setting: Setting) -> Tensor:
        """Return the energy ``[systems]`` that the particles got from the bath.

        Total energy minus this is the conserved quantity.
        """
        ...


# -- the pieces ---------------------------------------------------------------------------


def degrees_of_freedom(
    integrator: Integrator, layout: Layout, held: Tensor | None = None
) -> Tensor:
    """Return 3 N - 3 where the total momentum is conserved (and zero), else 3 N.

    With ``held [systems]`` atoms that do not move: 3 (N - held); these take up momentum.
    """
    lost = torch.full_like(layout.counts, 3 if integrator.momentum_conserved else 0)
    if held is not None:
        lost = torch.where(held > 0, 3 * held.to(lost), lost)
    return (3 * layout.counts - lost).clamp(min=1).double()


def kinetic_tensor(state: ParticleState, layout: Layout) -> Tensor:
    """Return sum p (x) p / m ``[systems, 3, 3]``, twice the kinetic energy's tensor."""
    return _tensor(_kicked(state, layout, 0.0)[1], layout)


def kinetic_energy(state: ParticleState, layout: Layout) -> Tensor:
    """Return the kinetic energy ``[systems]``, float64."""
    return _half_trace(kinetic_tensor(state, layout))


def _half_trace(tensor: Tensor) -> Tensor:
    return 0.5 * tensor.diagonal(dim1=1, dim2=2).sum(1)


def _tensor(partial: Tensor, layout: Layout) -> Tensor:
    return symmetric(layout.total(partial))


def _kicked(
    state: ParticleState, layout: Layout, half: float, own: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the momenta after half a step, and partial sums of :func:`kinetic_tensor`.

    ``own`` momenta of this step, which nobody else has, are changed in place.
    """
    momenta = state.momenta if own else room(state.momenta, *state.momenta.shape)
    partial = layout.partial(6)
    verlet.k_kick(
        state.momenta, state.forces, state.masses, layout.chunks, half, momenta, partial
    )
    return momenta, partial


def _verlet(
    state: ParticleState, setting: Setting, scale: Tensor
) -> tuple[ParticleState, Tensor]:
    """Velocity Verlet, momenta first scaled; and partial sums of the kinetic tensor.

    p' = scale p + dt/2 f, x' = x + dt p'/m, f' = f(x'), p'' = p' + dt/2 f'
    (Swope et al., J. Chem. Phys. 76, 637, 1982).
    """
    positions, momenta = (room(x, *x.shape) for x in (state.positions, state.momenta))
    moved = setting.layout.partial(1)[:, 0]
    verlet.k_kick_drift(
        state.positions, state.momenta, state.forces, state.masses, state.anchor, scale,
        setting.layout.chunks, 0.5 * setting.dt, setting.dt, positions, momenta, moved,
    )  # fmt: skip
    state = setting.force(replace(state, positions=positions, momenta=momenta), moved)
    momenta, partial = _kicked(state, setting.layout, 0.5 * setting.dt, own=True)
    return replace(state, momenta=momenta), partial


def _scaled(state: ParticleState, factor: Tensor) -> ParticleState:
    per_atom = factor.to(state.momenta)[state.system.long()]
    return replace(state, momenta=state.momenta * per_atom[:, None])


def _with(state: ParticleState, **variables: Tensor) -> ParticleState:
    return replace(state, thermostat={**state.thermostat, **variables})


def thermal_momenta(state: ParticleState, thermal: Tensor, layout: Layout) -> Tensor:
    """Draw momenta ``[atoms, 3]`` at ``thermal = k T [systems]``, total momentum zero.

    The kinetic energy is scaled to (3 N - 3) k T / 2 exactly.
    """
    draws = torch.empty_like(state.momenta, dtype=torch.float64)
    noise.k_normals(
        state.seed, torch.full_like(state.step, -1), layout.chunks, _VELOCITIES, draws
    )
    system, masses = state.system.long(), state.masses.double()
    momenta = draws * masses.sqrt()[:, None]
    total = state.sum_atoms(torch.cat([momenta, masses[:, None]], 1))
    momenta -= masses[:, None] * (total[:, :3] / total[:, 3:])[system]
    energy = state.sum_atoms((momenta**2).sum(1) / (2 * masses))
    wanted = 0.5 * (3 * layout.counts - 3).clamp(min=0) * thermal
    factor = torch.where(energy > 0, (wanted / energy.clamp(min=1e-300)).sqrt(), 0.0)
    momenta *= factor[system][:, None]
    return room(state.momenta, *momenta.shape).copy_(momenta)


# -- ensembles ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Verlet:
    """Constant energy (NVE): velocity Verlet, conserving E + O(dt^2)."""

    momentum_conserved: bool = field(default=True, init=False)
    uses_virial: bool = field(default=False, init=False)

    def init(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Nothing to add."""
        return state

    def step(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Advance by one step."""
        return _verlet(state, setting, torch.ones_like(state.energy))[0]

    def absorbed(self, state: ParticleState, setting: Setting) -> Tensor:
        """No bath: zero."""
        return torch.zeros_like(state.energy)


@dataclass(frozen=True)
class Langevin:
    """Langevin dynamics, split as BAOAB; momentum is not conserved: 3 N degrees.

    B: p += dt/2 f; A: x += dt/2 p/m; O: p <- c p + sqrt((1 - c^2) m k T) xi with
    c = exp(-dt / relaxation); then A and B. Conserved: E minus the heat that O put in.

    Attributes:
        temperature: of the bath.
        relaxation: inverse friction.

    Reference: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34, eq. 7.
    """

    temperature: Schedule
    relaxation: float
    momentum_conserved: bool = field(default=False, init=False)
    uses_virial: bool = field(default=False, init=False)

    def init(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Add ``heat``."""
        return _with(state, heat=torch.zeros_like(state.energy))

    def step(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Advance by one step."""
        layout, half = setting.layout, 0.5 * setting.dt
        thermal = setting.boltzmann * self.temperature(setting.time(state))
        keep = torch.full_like(thermal, math.exp(-setting.dt / self.relaxation))
        positions, momenta = (room(x, *x.shape) for x in (state.positions, state.momenta))
        moved, heat = layout.partial(1)[:, 0], layout.partial(1)
        verlet.k_langevin(
            state.positions, state.momenta, state.forces, state.masses, state.anchor,
            keep, thermal, state.seed, state.step, layout.chunks, half, positions, momenta,
            moved, heat,
        )  # fmt: skip
        state = _with(
            replace(state, positions=positions, momenta=momenta),
            heat=state.thermostat["heat"] + layout.total(heat)[:, 0],
        )
        state = setting.force(state, moved)
        return replace(state, momenta=_kicked(state, layout, half, own=True)[0])

    def absorbed(self, state: ParticleState, setting: Setting) -> Tensor:
        """Return the heat from the bath."""
        return state.thermostat["heat"]


@dataclass(frozen=True)
class Bussi:
    """Stochastic velocity rescaling: canonical, and the total momentum is conserved.

    After a Verlet step the kinetic energy K is replaced by alpha^2 K with

        alpha^2 = c + (1 - c)(S + R^2) Kbar / (Nf K) + 2 R sqrt(c (1 - c) Kbar / (Nf K)),

    c = exp(-dt / relaxation), Kbar = Nf k T / 2, R normal, S chi-squared with Nf - 1
    degrees. Conserved: E minus the sum of (alpha^2 - 1) K.

    Attributes:
        temperature: of the bath.
        relaxation: correlation time of the kinetic energy.

    Reference: G. Bussi, D. Donadio, M. Parrinello, J. Chem. Phys. 126, 014101 (2007),
    equation A7.
    """

    temperature: Schedule
    relaxation: float
    momentum_conserved: bool = field(default=True, init=False)
    uses_virial: bool = field(default=False, init=False)

    def init(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Add ``heat``."""
        return _with(state, heat=torch.zeros_like(state.energy))

    def step(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Advance by one step."""
        state, partial = _verlet(state, setting, torch.ones_like(state.energy))
        kinetic = _half_trace(_tensor(partial, setting.layout))
        return self.exchange(state, setting, kinetic)

    def exchange(
        self, state: ParticleState, setting: Setting, kinetic: Tensor | None = None
    ) -> ParticleState:
        """Rescale the momenta; ``kinetic`` energies are computed if not known."""
        if kinetic is None:
            kinetic = kinetic_energy(state, setting.layout)
        degrees = degrees_of_freedom(self, setting.layout, setting.held)
        thermal = setting.boltzmann * self.temperature(setting.time(state))
        alpha = self.factor(state, kinetic, degrees, thermal, setting.dt)
        heat = state.thermostat["heat"] + (alpha**2 - 1) * kinetic
        return _with(_scaled(state, alpha), heat=heat)

    def factor(
        self,
        state: ParticleState,
        kinetic: Tensor,
        degrees: Tensor,
        thermal: Tensor,
        dt: float,
    ) -> Tensor:
        """Return alpha ``[systems]``."""
        draws = kinetic.new_empty(len(kinetic), 2)
        noise.k_chi_squared(state.seed, state.step, degrees - 1, _STOCHASTIC, draws)
        normal, chi = draws.unbind(1)
        c = math.exp(-dt / self.relaxation)
        ratio = (1 - c) * thermal / (2 * kinetic.clamp(min=1e-300))
        square = c + ratio * (chi + normal**2) + 2 * normal * (c * ratio).sqrt()
        # the sign keeps the exact solution of the stochastic equation (their eq. A8)
        sign = torch.where(normal + (c / ratio.clamp(min=1e-300)).sqrt() < 0, -1.0, 1.0)
        return sign * square.clamp(min=0.0).sqrt()

    def absorbed(self, state: ParticleState, setting: Setting) -> Tensor:
        """Return the heat from the bath."""
        return state.thermostat["heat"]


@dataclass(frozen=True)
class NoseHoover:
    """Nose-Hoover chain: deterministic, canonical, time-reversible.

    A half step of the chain, a Verlet step, a half step of the chain. Chain masses
    Q1 = Nf k T tau^2, Qj = k T tau^2. Conserved:
    E + sum_j p_j^2 / (2 Q_j) + Nf k T eta_1 + k T sum_{j>1} eta_j, and, while T changes,
    minus the integral of (Nf eta_1 + sum eta_j) k dT.

    Attributes:
        temperature: of the bath.
        relaxation: period tau of the chain.
        length: members of the chain.

    Reference: G. J. Martyna, M. E. Tuckerman, D. J. Tobias, M. L. Klein, Mol. Phys. 87,
    1117 (1996), equations 24 to 29, with three Suzuki-Yoshida weights.
    """

    temperature: Schedule
    relaxation: float
    length: int = 3
    momentum_conserved: bool = field(default=True, init=False)
    uses_virial: bool = field(default=False, init=False)

    def init(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Add ``eta``, ``eta_momentum`` ``[systems, length]`` and ``ramp_work``."""
        chain = state.energy.new_zeros(state.systems, self.length)
        return _with(
            state, eta=chain, eta_momentum=chain, ramp_work=torch.zeros_like(state.energy)
        )

    def step(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Advance by one step."""
        time = setting.time(state)
        before = setting.boltzmann * self.temperature(time)
        after = setting.boltzmann * self.temperature(time + setting.dt)
        kinetic = kinetic_energy(state, setting.layout)
        state, scale = self._half(state, setting, kinetic, before)
        state, partial = _verlet(state, setting, scale)
        kinetic = _half_trace(_tensor(partial, setting.layout))
        weights = self._weights(setting)
        turned = (weights * state.thermostat["eta"]).sum(1) * (after - before)
        state = _with(state, ramp_work=state.thermostat["ramp_work"] + turned)
        state, scale = self._half(state, setting, kinetic, after)
        return _scaled(state, scale)

    def _weights(self, setting: Setting) -> Tensor:
        """Nf for the first member and 1 for the others, ``[systems, length]``."""
        degrees = degrees_of_freedom(self, setting.layout, setting.held)[:, None]
        return torch.cat([degrees, degrees.new_ones(len(degrees), self.length - 1)], 1)

    def _masses(self, setting: Setting, systems: int) -> Tensor:
        start = self.temperature(torch.zeros(systems, dtype=torch.float64))
        thermal = setting.boltzmann * start.to(setting.layout.counts.device)
        return self._weights(setting) * (thermal * self.relaxation**2)[:, None]

    def _half(
        self, state: ParticleState, setting: Setting, kinetic: Tensor, thermal: Tensor
    ) -> tuple[ParticleState, Tensor]:
        """Move the chain by dt/2; return the factor on the momenta."""
        mass = self._masses(setting, state.systems).unbind(1)
        number = self._weights(setting).unbind(1)
        p = list(state.thermostat["eta_momentum"].unbind(1))
        eta, scale = state.thermostat["eta"], torch.ones_like(kinetic)

        def push(j: int, dt: float) -> None:
            twice = 2 * kinetic * scale**2 if j == 0 else p[j - 1] ** 2 / mass[j - 1]
            drag = 1.0
            if j + 1 < self.length:
                drag = torch.exp(-0.125 * dt * p[j + 1] / mass[j + 1])
            p[j] = (p[j] * drag + 0.25 * dt * (twice - number[j] * thermal)) * drag

        for weight in _SUZUKI_YOSHIDA:
            # ``push`` moves by dt/4 of the whole step: half of this half step
            dt = weight * setting.dt
            for j in reversed(range(self.length)):
                push(j, dt)
            scale = scale * torch.exp(-0.5 * dt * p[0] / mass[0])
            speed = torch.stack([a / b for a, b in zip(p, mass, strict=True)], 1)
            eta = eta + 0.5 * dt * speed
            for j in range(self.length):
                push(j, dt)
        return _with(state, eta=eta, eta_momentum=torch.stack(p, 1)), scale

    def absorbed(self, state: ParticleState, setting: Setting) -> Tensor:
        """Return minus the energy of the chain."""
        thermal = setting.boltzmann * self.temperature(setting.time(state))
        own = state.thermostat["eta_momentum"] ** 2 / self._masses(setting, state.systems)
        heights = self._weights(setting) * state.thermostat["eta"]
        return state.thermostat["ramp_work"] - 0.5 * own.sum(1) - thermal * heights.sum(1)


_ROOT = 2.0 ** (1.0 / 3.0)
_SUZUKI_YOSHIDA = (1 / (2 - _ROOT), 1 - 2 / (2 - _ROOT), 1 / (2 - _ROOT))
