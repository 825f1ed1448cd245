"""The world of molecular dynamics: a potential, an integrator and a list of neighbours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .. import runtime
from ..errors import GuardError
from .integrators import (
    Integrator,
    Langevin,
    Schedule,
    Setting,
    degrees_of_freedom,
    kinetic_tensor,
    thermal_momenta,
)
from .looks import Looks, MissedError
from .neighbours import Layout, Neighbours, build_neighbours
from .potential import ForcesAlone, Potential
from .state import ParticleState
from .units import METAL, Units


class _Memo:
    """The last list and layout, kept while the tensors that they follow from are the same.

    Only a memory of pure functions: forgetting it changes nothing but time.
    """

    def __init__(self) -> None:
        self._layout: tuple[Tensor, Layout] | None = None
        self._list: tuple[Tensor, Tensor, Neighbours] | None = None
        self._rooms: dict[str, int] = {}
        self._number: tuple[Tensor, int] | None = None
        self._held: tuple[Tensor, Tensor] | None = None
        self.looks = Looks()

    def number(self, state: ParticleState) -> int:
        """Steps made, for which the host need not wait if it has counted them."""
        if self._number is None or self._number[0] is not state.step:
            self._number = (state.step, int(state.step[0]))
        return self._number[1]

    def counted(self, before: ParticleState, after: ParticleState) -> None:
        """Note that ``after`` is one step after ``before``."""
        if self._number is not None and self._number[0] is before.step:
            self._number = (after.step, self._number[1] + 1)

    def held(self, state: ParticleState, fixed: Tensor) -> Tensor:
        """Number of fixed atoms of each system."""
        if self._held is None or self._held[0] is not state.system:
            self._held = state.system, state.sum_atoms(fixed[:, None].double())[:, 0]
        return self._held[1]

    def layout(self, state: ParticleState) -> Layout:
        if self._layout is None or self._layout[0] is not state.system:
            self._layout = (state.system, Layout.of(state.system, state.systems))
        return self._layout[1]

    def neighbours(self, state: ParticleState, cutoff: float, skin: float) -> Neighbours:
        known = self._list
        if (
            known is None
            or known[0] is not state.anchor
            or known[1] is not state.anchor_cell
            or (known[2].cutoff, known[2].skin) != (cutoff, skin)
            or known[2].layout is not self.layout(state)
        ):
            known = self._list = None  # its memory is needed for the new one
            layout = self.layout(state)
            found = build_neighbours(state, cutoff, skin, layout, self._rooms)
            known = self._list = (state.anchor, state.anchor_cell, found)
        return known[2]


@dataclass(frozen=True)
class MolecularDynamics:
    """Classical dynamics of one batch of independent systems.

    dx/dt = p/m, dp/dt = -dE/dx, and what the integrator's bath adds.

    Attributes:
        potential: energy, forces, virial.
        integrator: how particles move.
        start: the structures; momenta are drawn at ``temperature`` unless it is None.
        time_step: in the reported unit of time (fs, or reduced).
        temperature: of the initial momenta, one value or one for each system.
        skin: neighbours are listed up to cutoff + skin and again when an atom has moved by
            half of it.
        units: internal to reported.
        totals_every: energy, virial and deviation are evaluated at multiples of this step,
            where the integrator does not need them; between, they are NaN in the state, and
            ``observe`` evaluates them.
        settle: steps of Langevin dynamics before step 0, with the cell as it is. Where
            velocities are drawn at the ideal places of a crystal, all phonons start in
            phase, and a bath that scales all velocities alike cannot change that.
        fixed: ``[atoms]`` bool, atoms that stand still under any integrator of constant
            volume; None if all move.

    ``observe`` gives, one number for each system, in reported units: ``temperature``,
    ``potential_energy``, ``kinetic_energy``, ``total_energy``, ``conserved`` (total energy
    minus what the bath put in), ``pressure``, ``pressure_tensor [systems, 3, 3]``,
    ``volume``, ``max_force``, and ``deviation`` (largest
    of the atoms) where the potential is a committee.
    """

    potential: Potential
    integrator: Integrator
    start: ParticleState
    time_step: float
    temperature: tuple[float, ...] | None = None
    skin: float = 0.5
    units: Units = METAL
    totals_every: int = 1
    fixed: Tensor | None = None
    settle: int = 0
    _memo: _Memo = field(default_factory=_Memo, repr=False, compare=False)

    @property
    def species(self) -> Sequence[str]:
        """Chemical symbols, by the index that the state holds."""
        return self.potential.species

    @runtime.own_defaults()
    def init(self, rng: torch.Generator | None = None) -> ParticleState:
        """Return the state at step 0 with its forces; noise is keyed by ``start.seed``."""
        runtime.start(self.start.positions.device)
        state, layout = self.start, self._memo.layout(self.start)
        if self.temperature is not None:
            values = torch.tensor(self.temperature, dtype=torch.float64)
            thermal = self.units.boltzmann * values.to(state.energy.device)
            thermal = thermal.expand(state.systems)
            state = replace(state, momenta=thermal_momenta(state, thermal, layout))
        state = replace(state, anchor=state.positions, anchor_cell=state.cell)
        if self.fixed is not None:
            still = self.fixed[:, None]
            state = replace(state, momenta=state.momenta.masked_fill(still, 0.0))
        if self.settle:
            state = self._settled(state)
        setting = self._setting(state)
        return self.integrator.init(setting.force(state, None), setting)

    def _settled(self, state: ParticleState) -> ParticleState:
        """Return the state after ``settle`` steps that sample the canonical ensemble.

        Friction acts for ten times its own relaxation time. Steps are counted from below
        zero, so that no noise is drawn twice.
        """
        assert self.temperature is not None
        kelvin = Schedule.constant(*self.temperature)
        bath = Langevin(kelvin, self.settle * self.time_step / self.units.time / 10.0)
        state = replace(state, step=torch.full_like(state.step, -1 - self.settle))
        setting = self._setting(state)
        state = bath.init(setting.force(state, None), setting)
        for _ in range(self.settle):
            moved = bath.step(state, setting)
            if self.fixed is not None:
                moved = _held(self.fixed, state, moved)
            state = replace(moved, step=moved.step + 1)
        if self.integrator.momentum_conserved and self.fixed is None:
            state = replace(state, momenta=_at_rest(state))
        return replace(state, step=torch.zeros_like(state.step), thermostat={})

    @runtime.own_defaults()
    def step(self, state: ParticleState) -> ParticleState:
        """Advance every system by one time step; a pure function of ``state``."""
        runtime.start(state.positions.device)
        looks = self._memo.looks
        looks.begin(state)
        try:
            return self._advanced(state)
        except MissedError:
            again, steps = looks.trusted, looks.steps + 1
        assert again is not None
        looks.always = True
        try:
            for _ in range(steps):
                again = self._advanced(again)
        finally:
            looks.always = False
        return again

    def _advanced(self, state: ParticleState) -> ParticleState:
        moved = self.integrator.step(state, self._setting(state))
        if self.fixed is not None:
            moved = _held(self.fixed, state, moved)
        moved = replace(moved, step=moved.step + 1)
        self._memo.counted(state, moved)
        self._memo.looks.end(moved)
        return moved

    @runtime.own_defaults()
    def observe(self, state: ParticleState) -> Mapping[str, Tensor]:
        """Return the scalars named in the class.

        Raises:
            GuardError: on a device, atoms became faster than the host had foreseen.
        """
        runtime.start(state.positions.device)
        self.check_lists(state)
        state, setting = self.complete(state), self._setting(state)
        tensor = kinetic_tensor(state, setting.layout)
        kinetic = 0.5 * tensor.diagonal(dim1=1, dim2=2).sum(1)
        degrees = degrees_of_freedom(self.integrator, setting.layout, setting.held)
        total = kinetic + state.energy
        observed = {
            "temperature": 2 * kinetic / (degrees * self.units.boltzmann),
            "potential_energy": state.energy,
            "kinetic_energy": kinetic,
            "total_energy": total,
            "conserved": total - self.integrator.absorbed(state, setting),
            "max_force": per_system(state, state.forces.double().norm(dim=1)),
        }
        if bool(state.periodic.all()):
            volume = state.cell.double().det().abs()
            trace = (tensor + state.virial).diagonal(dim1=1, dim2=2).sum(1)
            observed["pressure"] = self.units.pressure * trace / (3 * volume)
            observed["pressure_tensor"] = (
                self.units.pressure * (tensor + state.virial) / volume[:, None, None]
            )
            observed["volume"] = volume
        if state.deviation.numel():
            observed["deviation"] = per_system(state, state.deviation)
        return observed

    def check_lists(self, state: ParticleState) -> None:
        """Refuse a state that a device made with a neighbour list that did not hold.

        Raises:
            GuardError: says what helps.
        """
        if not self._memo.looks.right(state):
            raise GuardError(
                f"step {int(state.step.max())}: an atom moved by half the skin before the "
                "host looked, its speed more than doubled; use a shorter time step",
                int(state.step.max()),
                state,
            )

    def degrees(self, state: ParticleState) -> np.ndarray:
        """Return the degrees of freedom ``[systems]`` that the temperature counts."""
        setting = self._setting(state)
        found = degrees_of_freedom(self.integrator, setting.layout, setting.held)
        return found.cpu().numpy()

    def complete(self, state: ParticleState) -> ParticleState:
        """Return the state with energy, virial, deviation, evaluated if not known."""
        if self.totals_every == 1 or not bool(state.energy.isnan().any()):
            return state
        full = self._evaluated(state)
        return replace(
            state, energy=full.energy, virial=full.virial, deviation=full.deviation
        )

    def neighbours(self, state: ParticleState) -> Neighbours:
        """Return the list that belongs to ``state.anchor``."""
        return self._memo.neighbours(state, self.potential.cutoff, self.skin)

    def _setting(self, state: ParticleState) -> Setting:
        layout = self._memo.layout(state)
        dt = self.time_step / self.units.time
        held = None
        if self.fixed is not None:
            held = self._memo.held(state, self.fixed)
        return Setting(dt, self.units.boltzmann, layout, self._force, held)

    def _force(self, state: ParticleState, moved: Tensor | None) -> ParticleState:
        """Evaluate the potential, with new anchors for the systems that need them."""
        state = self._anchored(state, moved)
        state = self._forced(state)
        if self.fixed is None:
            return state
        return replace(state, forces=state.forces.masked_fill(self.fixed[:, None], 0.0))

    def _forced(self, state: ParticleState) -> ParticleState:
        alone = self._alone
        if alone is not None and (self._memo.number(state) + 1) % self.totals_every:
            return replace(
                state,
                energy=torch.full_like(state.energy, math.nan),
                forces=alone.forces(state, self.neighbours(state)),
                virial=torch.full_like(state.virial, math.nan, dtype=torch.float64),
                deviation=torch.full_like(state.deviation, math.nan),
            )
        return self._evaluated(state)

    @cached_property
    def _alone(self) -> ForcesAlone | None:
        """The potential, where most steps need its forces alone."""
        seldom = self.totals_every > 1 and not self.integrator.uses_virial
        some = self.potential
        return some if seldom and isinstance(some, ForcesAlone) else None

    def _evaluated(self, state: ParticleState) -> ParticleState:
        found = self.potential(state, self.neighbours(state))
        return replace(
            state,
            energy=found.energy.double(),
            forces=found.forces,
            virial=found.virial.double(),
            deviation=found.deviation,
        )

    def _anchored(self, state: ParticleState, moved: Tensor | None) -> ParticleState:
        layout, still = self._memo.layout(state), True
        anchor = state.anchor
        # the same tensor needs no comparison, for which the host would wait
        moving, device = state.cell is not state.anchor_cell, state.cell.is_cuda
        if moving and (device or not torch.equal(state.cell, state.anchor_cell)):
            still, moved = False, None
            anchor = _carried(state)
        if moved is None:
            square = (state.positions - anchor).double().square().sum(1)
            far = per_system(state, square)
        else:
            far = layout.most(moved)
        allowed = torch.full_like(far, 0.5 * self.skin)
        if not still:
            # a pair beyond cutoff + skin is at least the smallest stretch times that apart
            shrink = torch.linalg.svdvals(_stretch(state)).amin(1)
            reach = self.potential.cutoff + self.skin
            allowed = 0.5 * (reach * shrink - self.potential.cutoff).clamp(min=0.0)
        stale = ~(far < allowed**2)
        if device:
            slack, dt = allowed - far.sqrt(), self.time_step / self.units.time
            renewed = self._memo.looks.used_up(slack, state, dt)
        else:
            renewed = bool(stale.any())
        if not renewed:
            return state
        if not bool(torch.isfinite(far).all()):
            raise GuardError(_lost(state), int(state.step.max()) + 1, state)
        cell = state.cell
        if bool(stale.all()):
            return replace(state, anchor=state.positions, anchor_cell=cell)
        mine = stale[state.system.long()][:, None]
        if not still:
            cell = torch.where(stale[:, None, None], cell, state.anchor_cell)
        return replace(
            state,
            anchor=torch.where(mine, state.positions, state.anchor),
            anchor_cell=cell,
        )


def _at_rest(state: ParticleState) -> Tensor:
    """Return momenta ``[atoms, 3]`` without the motion of each system as a whole."""
    masses = state.masses.double()[:, None]
    total = state.sum_atoms(torch.cat([state.momenta.double(), masses], 1))
    drift = total[:, :3] / total[:, 3:]
    return (state.momenta - masses * drift[state.system.long()]).to(state.momenta.dtype)


def _held(fixed: Tensor, before: ParticleState, after: ParticleState) -> ParticleState:
    """Put fixed atoms back; what heat a bath gave to them is not in the system."""
    still = fixed[:, None]
    lost = torch.where(still, after.momenta, 0.0).double().square().sum(1)
    kinetic = after.sum_atoms(0.5 * lost / after.masses.double())
    thermostat = after.thermostat
    if "heat" in thermostat:
        thermostat = {**thermostat, "heat": thermostat["heat"] - kinetic}
    return replace(
        after,
        positions=torch.where(still, before.positions, after.positions),
        momenta=after.momenta.masked_fill(still, 0.0),
        thermostat=thermostat,
    )


def per_system(state: ParticleState, values: Tensor) -> Tensor:
    """Return the largest of ``values [atoms]`` in each system, ``[systems]`` float64."""
    return torch.segment_reduce(values.double(), "max", lengths=state.counts, axis=0)


def _stretch(state: ParticleState) -> Tensor:
    """Deformation ``[systems, 3, 3]`` of the cell since the anchor."""
    # a cell without volume was refused at the start; to look costs a wait on a device
    return torch.linalg.solve_ex(state.anchor_cell.double(), state.cell.double())[0]


def _carried(state: ParticleState) -> Tensor:
    """Anchors moved with the cell."""
    stretch = _stretch(state).to(state.anchor)[state.system.long()]
    return (state.anchor[:, None] @ stretch)[:, 0]


def _lost(state: ParticleState) -> str:
    bad = ~torch.isfinite(state.positions).all(1)
    atom = int(bad.int().argmax())
    return (
        f"step {int(state.step[state.system[atom]]) + 1}: the trajectory exploded, "
        f"atom {atom} has no finite position"
    )


@dataclass(frozen=True)
class ExplosionGuard:
    """Stops a run whose forces leave the physical range.

    Attributes:
        largest: force, eV/angstrom (or reduced).
    """

    largest: float = 1e3

    def __call__(
        self, step: int, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> None:
        """Raise :class:`~..errors.GuardError` with step, atom and force."""
        size = state.forces.double().norm(dim=1)
        size = torch.where(torch.isfinite(size), size, math.inf)
        energy = bool(torch.isfinite(observed["total_energy"]).all())
        if size.numel() and (float(size.max()) > self.largest or not energy):
            atom = int(size.argmax())
            raise GuardError(
                f"step {step}: the trajectory exploded, force {float(size[atom]):.4g} on "
                f"atom {atom} (allowed {self.largest:g})",
                step,
                state,
            )
