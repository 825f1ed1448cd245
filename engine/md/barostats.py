"""Constant pressure: the cell takes part in the dynamics.

Stresses and pressures are in the internal unit (eV / angstrom^3); times in the internal
unit of time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..kernels import noise
from .integrators import (
    Bussi,
    Integrator,
    Schedule,
    Setting,
    degrees_of_freedom,
    kinetic_tensor,
)
from .state import ParticleState

_CELL_NOISE = 3
"""Purpose of the random numbers of the cell."""

Shape = Callable[[Tensor], Tensor]
"""Projects a symmetric rate of strain ``[systems, 3, 3]`` on what the cell may do."""


def isotropic(rate: Tensor) -> Tensor:
    """The shape of the cell is kept; the volume changes."""
    trace = rate.diagonal(dim1=1, dim2=2).mean(1)
    return trace[:, None, None] * torch.eye(3, dtype=rate.dtype, device=rate.device)


def anisotropic(rate: Tensor) -> Tensor:
    """The three axes change independently; angles of an orthogonal cell are kept."""
    return torch.diag_embed(rate.diagonal(dim1=1, dim2=2))


def triclinic(rate: Tensor) -> Tensor:
    """All six components of the strain are free."""
    return rate


def stress_excess(state: ParticleState, setting: Setting, pressure: Tensor) -> Tensor:
    """Return V (P_internal - P) ``[systems, 3, 3]``: (sum p p/m + W) - V P."""
    tensor = kinetic_tensor(state, setting.layout) + state.virial
    tensor = 0.5 * (tensor + tensor.mT)
    eye = torch.eye(3, dtype=tensor.dtype, device=tensor.device)
    return tensor - (volume(state) * pressure)[:, None, None] * eye


def volume(state: ParticleState) -> Tensor:
    """Return the volume of every system, angstrom^3."""
    return state.cell.double().det().abs()


@dataclass(frozen=True)
class CellRescaling:
    """Stochastic cell rescaling around any thermostat: constant pressure, canonical.

    After each step the cell is strained by the first-order (Ito) equation

        d eps = (beta / 3 tau) (P_int - P) dt + sqrt(2 k T beta / (3 V tau)) dW

    per component; the isotropic cell takes the mean of the three diagonal ones. Positions
    go with exp(d eps), momenta with exp(-d eps). The term k T / V of the volume's measure
    and the derivative of the noise's strength cancel. Conserved: total energy + P V minus
    the work of the cell moves and the heat of the thermostat.

    Attributes:
        thermostat: any thermostat; its temperature is that of the cell.
        pressure: internal unit of pressure.
        relaxation: tau, of the pressure.
        compressibility: beta, a rough value; only tau / beta matters.
        shape: :func:`isotropic`, :func:`anisotropic` or :func:`triclinic`.

    Reference: M. Bernetti, G. Bussi, J. Chem. Phys. 153, 114107 (2020), equations 5 to 9;
    anisotropic: V. Del Tatto et al., Appl. Sci. 12, 1139 (2022).
    """

    thermostat: Integrator
    temperature: Schedule
    pressure: Schedule
    relaxation: float
    compressibility: float
    shape: Shape = isotropic
    momentum_conserved: bool = field(default=True, init=False)
    uses_virial: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        """Take over whether the thermostat conserves momentum."""
        object.__setattr__(self, "momentum_conserved", self.thermostat.momentum_conserved)

    def init(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Add the thermostat's variables and ``cell_work``."""
        state = self.thermostat.init(state, setting)
        zero = torch.zeros_like(state.energy)
        return replace(state, thermostat={**state.thermostat, "cell_work": zero})

    def step(self, state: ParticleState, setting: Setting) -> ParticleState:
        """A step of the thermostat, then a move of the cell."""
        work = state.thermostat["cell_work"]
        state = self.thermostat.step(state, setting)
        before = self._enthalpy(state, setting)
        state = self._move(state, setting)
        work = work + self._enthalpy(state, setting) - before
        return replace(state, thermostat={**state.thermostat, "cell_work": work})

    def _move(self, state: ParticleState, setting: Setting) -> ParticleState:
        time = setting.time(state)
        thermal = setting.boltzmann * self.temperature(time)
        size = volume(state)
        excess = stress_excess(state, setting, self.pressure(time))
        drive = excess / size[:, None, None]
        rate = self.compressibility * setting.dt / (3 * self.relaxation)
        spread = (2 * rate * thermal / size).sqrt()
        strain = rate * drive + spread[:, None, None] * self._noise(state)
        strain = self.shape(strain)
        return setting.force(strained(state, strain), None)

    def _noise(self, state: ParticleState) -> Tensor:
        """Symmetric matrices of normals, of unit variance on the diagonal."""
        three = state.energy.new_empty(state.systems, 2, 3)
        for half in range(2):
            rows = torch.tensor(
                [[s, s, s + 1, s] for s in range(state.systems)],
                dtype=torch.int32, device=state.energy.device,
            )  # fmt: skip
            draws = state.energy.new_empty(state.systems, 3)
            noise.k_normals(state.seed, state.step, rows, _CELL_NOISE + half, draws)
            three[:, half] = draws
        diagonal, off = three.unbind(1)
        xy, xz, yz = (off / math.sqrt(2.0)).unbind(1)
        x, y, z = diagonal.unbind(1)
        rows = [x, xy, xz, xy, y, yz, xz, yz, z]
        return torch.stack(rows, 1).reshape(-1, 3, 3)

    def _enthalpy(self, state: ParticleState, setting: Setting) -> Tensor:
        tensor = kinetic_tensor(state, setting.layout)
        kinetic = 0.5 * tensor.diagonal(dim1=1, dim2=2).sum(1)
        return kinetic + state.energy + self.pressure(setting.time(state)) * volume(state)

    def absorbed(self, state: ParticleState, setting: Setting) -> Tensor:
        """Return heat and work, so that total energy minus this is conserved."""
        heat = self.thermostat.absorbed(state, setting)
        compressed = self.pressure(setting.time(state)) * volume(state)
        return heat + state.thermostat["cell_work"] - compressed


def strained(state: ParticleState, strain: Tensor) -> ParticleState:
    """Return cell and positions times exp(strain), momenta times exp(-strain).

    ``strain [systems, 3, 3]`` must be symmetric.
    """
    system = state.system.long()
    grow = torch.matrix_exp(strain).to(state.positions.dtype)
    shrink = torch.matrix_exp(-strain).to(state.positions.dtype)
    return replace(
        state,
        positions=(state.positions[:, None] @ grow[system])[:, 0].contiguous(),
        momenta=(state.momenta[:, None] @ shrink[system])[:, 0].contiguous(),
        cell=(state.cell @ grow).contiguous(),
    )


@dataclass(frozen=True)
class MTK:
    """Martyna, Tobias and Klein's barostat inside a thermostat: deterministic cell motion.

    The momentum of the cell p_g (a symmetric matrix, mass W) follows

        dp_g/dt = V (P_int - P) + (1/Nf) sum p^2/m,   dh/dt = h p_g / W,
        dp/dt = f - (p_g + Tr(p_g)/Nf) p / W,         dx/dt = p/m + p_g x / W,

    split symmetrically around a velocity Verlet step, without a bath of its own. As
    ``dynamics`` it samples constant enthalpy (NPH); inside :class:`Heated` it is NPT.

    Attributes:
        temperature: sets the mass W = (Nf + 3) k T tau^2 (a third of it per component).
        pressure: internal unit of pressure.
        relaxation: tau, period of the cell.
        shape: as in :class:`CellRescaling`.

    Reference: G. J. Martyna, D. J. Tobias, M. L. Klein, J. Chem. Phys. 101, 4177 (1994),
    equations 2.9 and 2.17; split as in Tuckerman et al., J. Phys. A 39, 5629 (2006).
    """

    temperature: Schedule
    pressure: Schedule
    relaxation: float
    shape: Shape = isotropic
    momentum_conserved: bool = field(default=True, init=False)
    uses_virial: bool = field(default=True, init=False)

    def init(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Add ``cell_momentum`` ``[systems, 3, 3]``."""
        still = state.energy.new_zeros(state.systems, 3, 3)
        return replace(state, thermostat={**state.thermostat, "cell_momentum": still})

    def step(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Advance by one step."""
        state = self._push(state, setting)
        rate = self._rate(state, setting)
        state = _kicked_in_cell(state, setting, rate, self._trace(rate, setting))
        state = _drifted_in_cell(state, setting, rate)
        state = setting.force(state, None)
        state = _kicked_in_cell(state, setting, rate, self._trace(rate, setting))
        return self._push(state, setting)

    def mass(self, state: ParticleState, setting: Setting) -> Tensor:
        """Return W ``[systems]``, the mass of one component."""
        thermal = setting.boltzmann * self.temperature(torch.zeros_like(state.energy))
        degrees = degrees_of_freedom(self, setting.layout)
        return (degrees + 3) * thermal * self.relaxation**2 / 3

    def _rate(self, state: ParticleState, setting: Setting) -> Tensor:
        return state.thermostat["cell_momentum"] / self.mass(state, setting)[:, None, None]

    def _trace(self, rate: Tensor, setting: Setting) -> Tensor:
        degrees = degrees_of_freedom(self, setting.layout)
        return rate.diagonal(dim1=1, dim2=2).sum(1) / degrees

    def _push(self, state: ParticleState, setting: Setting) -> ParticleState:
        excess = stress_excess(state, setting, self.pressure(setting.time(state)))
        twice = kinetic_tensor(state, setting.layout).diagonal(dim1=1, dim2=2).sum(1)
        share = twice / degrees_of_freedom(self, setting.layout)
        eye = torch.eye(3, dtype=torch.float64, device=excess.device)
        force = self.shape(excess + share[:, None, None] * eye)
        momentum = state.thermostat["cell_momentum"] + 0.5 * setting.dt * force
        return replace(state, thermostat={**state.thermostat, "cell_momentum": momentum})

    def absorbed(self, state: ParticleState, setting: Setting) -> Tensor:
        """Return minus the energy of the cell: p_g:p_g / 2W + P V."""
        momentum = state.thermostat["cell_momentum"]
        own = momentum.square().sum((1, 2)) / (2 * self.mass(state, setting))
        return -own - self.pressure(setting.time(state)) * volume(state)


def _kicked_in_cell(
    state: ParticleState, setting: Setting, rate: Tensor, trace: Tensor
) -> ParticleState:
    """Half step of ``dp/dt = f - (rate + trace) p``, exact for constant f and rate."""
    eye = torch.eye(3, dtype=rate.dtype, device=rate.device)
    drag = torch.matrix_exp(-0.25 * setting.dt * (rate + trace[:, None, None] * eye))
    drag = drag.to(state.momenta.dtype)[state.system.long()]
    half = (state.momenta[:, None] @ drag)[:, 0] + 0.5 * setting.dt * state.forces
    return replace(state, momenta=(half[:, None] @ drag)[:, 0].contiguous())


def _drifted_in_cell(state: ParticleState, setting: Setting, rate: Tensor) -> ParticleState:
    """Step of ``dx/dt = p/m + rate x`` and ``dh/dt = h rate``, split symmetrically."""
    grow = torch.matrix_exp(0.5 * setting.dt * rate).to(state.positions.dtype)
    mine = grow[state.system.long()]
    x = (state.positions[:, None] @ mine)[:, 0]
    x = x + setting.dt * state.momenta / state.masses[:, None]
    x = (x[:, None] @ mine)[:, 0].contiguous()
    return replace(state, positions=x, cell=(state.cell @ grow @ grow).contiguous())


@dataclass(frozen=True)
class Heated:
    """Any dynamics, followed by exact velocity rescaling (Bussi) as the heat bath.

    Attributes:
        dynamics: what moves particles (and cell).
        bath: :class:`~.integrators.Bussi`.
    """

    dynamics: MTK
    bath: Bussi
    momentum_conserved: bool = field(default=True, init=False)
    uses_virial: bool = field(default=True, init=False)

    def init(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Add the variables of both."""
        return self.bath.init(self.dynamics.init(state, setting), setting)

    def step(self, state: ParticleState, setting: Setting) -> ParticleState:
        """Advance by one step, then exchange heat."""
        return self.bath.exchange(self.dynamics.step(state, setting), setting)

    def absorbed(self, state: ParticleState, setting: Setting) -> Tensor:
        """Return what both took in."""
        heat = self.bath.absorbed(state, setting)
        return heat + self.dynamics.absorbed(state, setting)
