"""Fault injection: pairs of potentials, a sound one and one with a planted defect.

They test the audits: each has to pass the first and to fail the second.
All are cheap variations of Stillinger-Weber silicon, or small untrained networks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from ase.build import bulk
from torch import Tensor, nn

from ...models.potentials.local_frame import LocalFrame
from ...models.potentials.unconstrained import Unconstrained
from ..md.classical import LennardJones, StillingerWeber, Sum, plain
from ..md.learned import LearnedPotential
from ..md.neighbours import Neighbours, build_neighbours
from ..md.potential import Potential
from ..md.state import Interaction, ParticleState
from . import committee, conservation, invariance, short_range, smoothness
from .findings import Finding
from .samples import Sample, Subject

SPECIES = ("Si",)


@dataclass(frozen=True)
class PlantedFault:
    """One audit with its two fixtures.

    Attributes:
        name: the finding that must differ.
        defect: what is wrong with the bad one, in a few words.
        audit: returns one or several findings.
        good: must pass.
        bad: must fail.
    """

    name: str
    defect: str
    audit: Callable[[Any], Finding | list[Finding]]
    good: Any
    bad: Any

    def verdicts(self) -> tuple[Finding, Finding]:
        """Return the finding on the good and on the bad one."""
        return self._named(self.audit(self.good)), self._named(self.audit(self.bad))

    def _named(self, found: Finding | list[Finding]) -> Finding:
        findings = found if isinstance(found, list) else [found]
        return next(f for f in findings if f.name == self.name)


@dataclass(frozen=True)
class Changed:
    """A potential whose result is modified after the evaluation.

    Attributes:
        change: from state and answer to another answer.
        base: the sound potential.
    """

    change: Callable[[ParticleState, Interaction], Interaction]
    base: Potential = field(default_factory=StillingerWeber)

    @property
    def cutoff(self) -> float:
        """Of the base, angstrom."""
        return self.base.cutoff

    @property
    def species(self) -> tuple[str, ...]:
        """Of the base."""
        return self.base.species

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Evaluate and change."""
        return self.change(state, self.base(state, neighbours))


@dataclass(frozen=True)
class PairFunction:
    """``E = 1/2 sum_ij u(r_ij)`` of any torch function u of the distance, eV.

    Attributes:
        function: u, zero at the cutoff and beyond.
        cutoff: angstrom.
    """

    function: Callable[[Tensor], Tensor]
    cutoff: float = 6.0
    species: tuple[str, ...] = SPECIES

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces and virial by automatic differentiation."""
        return LearnedPotential(_PairModule(self.function, self.cutoff))(state, neighbours)


class _PairModule(nn.Module):
    """A pair function with the interface of a learned potential."""

    def __init__(self, function: Callable[[Tensor], Tensor], cutoff: float) -> None:
        super().__init__()
        self.function, self.cutoff = function, cutoff
        self.species, self.members = SPECIES, 1
        self.precision = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(
        self,
        displacements: Tensor,
        neighbour_species: Tensor,
        mask: Tensor,
        species: Tensor,
    ) -> Tensor:
        """Return ``[1, atoms]`` eV."""
        far = displacements.new_tensor([2 * self.cutoff, 0.0, 0.0])
        distance = torch.where(mask[..., None], displacements, far).norm(dim=-1)
        energy = torch.where(mask, self.function(distance), 0.0)
        return 0.5 * energy.sum(1)[None]


def buckingham(r: Tensor) -> Tensor:
    """``A exp(-r / rho) - C / r^6``, switched off at 6 angstrom: it collapses near zero."""
    inside = (1 - (r / 6.0) ** 2).clamp(min=0) ** 3
    return (1000 * torch.exp(-r / 0.33) - 60 / r**6) * inside


def repulsive(r: Tensor) -> Tensor:
    """The same without the collapse."""
    inside = (1 - (r / 6.0) ** 2).clamp(min=0) ** 3
    return (1000 * torch.exp(-r / 0.33) - 60 / (r**6 + 100.0)) * inside


def in_a_field(state: ParticleState, found: Interaction) -> Interaction:
    """Add ``1e-3 sin x`` eV for each atom: the origin is distinguished."""
    x = state.positions[:, 0]
    energy = found.energy + state.sum_atoms(1e-3 * x.sin().double())
    forces = found.forces.clone()
    forces[:, 0] -= 1e-3 * x.cos()
    return replace(found, energy=energy, forces=forces)


def by_number(state: ParticleState, found: Interaction) -> Interaction:
    """Weigh the forces by the atom's index, which breaks permutation symmetry."""
    number = torch.arange(state.atoms, dtype=found.forces.dtype)
    weight = 1 + 1e-3 * (number % 2)
    return replace(found, forces=found.forces * weight[:, None])


def mean_field(state: ParticleState, found: Interaction) -> Interaction:
    """Add ``1e-6 E^2``, with exact forces: which breaks extensivity."""
    factor = 1 + 2e-6 * found.energy
    per_atom = factor[state.system.long()][:, None].to(found.forces)
    return replace(
        found,
        energy=found.energy + 1e-6 * found.energy**2,
        forces=found.forces * per_atom,
        virial=found.virial * factor[:, None, None],
    )


def pulled(state: ParticleState, found: Interaction) -> Interaction:
    """Leave the forces unbalanced, as a network that predicts them atom by atom does."""
    return replace(found, forces=found.forces + 1e-3 * found.forces.square())


def scaled_forces(state: ParticleState, found: Interaction) -> Interaction:
    """Make the forces one per cent too large."""
    return replace(found, forces=1.01 * found.forces)


def half_virial(state: ParticleState, found: Interaction) -> Interaction:
    """Return half of the virial, as if pairs were counted wrongly."""
    return replace(found, virial=0.5 * found.virial)


class DirectForce:
    """A network that predicts forces themselves: ``F_i = sum_j phi(r_ij, rho_i) u_ij``.

    phi is a small random perceptron of the distance and of the density
    ``rho_i = sum_k exp(-r_ik)`` at the *central* atom, so ``F`` is equivariant and smooth
    and yet no gradient. The energy that it comes with belongs to another network.
    """

    species = SPECIES
    cutoff = 4.0

    def __init__(self, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        self._first = torch.randn(2, 16, generator=rng, dtype=torch.float64)
        self._second = torch.randn(16, generator=rng, dtype=torch.float64) / 4
        self._energy = StillingerWeber()

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Return the network's forces, and the energy of something else."""
        table = build_neighbours(state, self.cutoff, neighbours.skin)
        index, cell = table.index.long(), state.cell[state.system.long()]
        there = state.positions[index] + table.shift.to(cell.dtype) @ cell
        d = there - state.positions[:, None]
        column = torch.arange(index.shape[1])
        mask = (column < table.count[:, None]) & (d.norm(dim=-1) < self.cutoff)
        r = torch.where(mask, d.norm(dim=-1), 2 * self.cutoff)
        fade = ((1 - (r / self.cutoff) ** 2).clamp(min=0) ** 3) * mask
        density = ((-r).exp() * fade).sum(1, keepdim=True).expand_as(r)
        hidden = torch.tanh(torch.stack([r, 10 * density], -1) @ self._first)
        size = (hidden @ self._second) * fade
        forces = (size[..., None] * d / r[..., None]).sum(1)
        return replace(self._energy(state, neighbours), forces=forces)


@dataclass(frozen=True)
class Guessing:
    """A committee whose stated errors are true, or not.

    Its forces are those of Stillinger-Weber plus normal errors whose width varies from
    atom to atom; it states that width (honest) or the typical one in random order.

    Attributes:
        honest: whether the stated deviation belongs to the error.
        understates: factor by which it is too small.
    """

    honest: bool = True
    understates: float = 1.0
    base: StillingerWeber = field(default_factory=StillingerWeber)
    members: int = 4
    deviation_factor: float = 1.0
    cutoff: float = 3.77118
    species: tuple[str, ...] = SPECIES

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Return wrong forces and their stated error."""
        found = self.base(state, neighbours)
        key = int(1e6 * float(state.positions.double().abs().sum())) % 2**31
        rng = torch.Generator().manual_seed(key)
        width = 0.02 * torch.exp(
            torch.randn(state.atoms, generator=rng, dtype=torch.float64)
        )
        noise = torch.randn(state.atoms, 3, generator=rng, dtype=torch.float64)
        said = width if self.honest else width[torch.randperm(state.atoms, generator=rng)]
        return replace(
            found,
            forces=found.forces + width[:, None] * noise / math.sqrt(3),
            deviation=said / self.understates,
        )


def untrained(form: LocalFrame | Unconstrained) -> LearnedPotential:
    """Return a random network whose features are scaled to silicon's."""
    module: Any = form.build(seed=5).double()
    atoms = bulk("Si", cubic=True).repeat((2, 2, 2))
    state = Sample.of(atoms, SPECIES).shaken(0.1).state
    table = build_neighbours(state, form.cutoff, 0.0)
    index = table.index.long()
    d = state.positions[index] + table.shift.double() @ state.cell[0]
    d = d - state.positions[:, None]
    mask = torch.arange(index.shape[1]) < table.count[:, None]
    module.set_statistics(d, mask, (index.shape[1],), state.species.long())
    return LearnedPotential(module.eval().requires_grad_(False))


def faint(state: ParticleState, found: Interaction) -> Interaction:
    """Return a fiftieth of the answer."""
    return Interaction(found.energy / 50, found.forces / 50, found.virial / 50)


def local_frame() -> Potential:
    """Return Stillinger-Weber plus a faint, random Deep Potential of 2018."""
    form = LocalFrame(SPECIES, cutoff=4.0, angular=(6,), radial=(4,), fitting=(12,))
    network = Changed(faint, untrained(form))
    return Sum((StillingerWeber(), network), form.cutoff, SPECIES)


def unconstrained() -> Potential:
    """Return a random network on coordinates as they are: not invariant under rotation."""
    return untrained(Unconstrained(SPECIES, cutoff=4.0, channels=3, fitting=(12,)))


def on_silicon(potential: Potential) -> Subject:
    """Return the subject on 64 atoms of silicon."""
    return Subject.of(potential, bulk("Si", cubic=True).repeat((2, 2, 2)))


def labelled(potential: Potential, count: int = 12) -> list:
    """Return frames of shaken silicon with Stillinger-Weber's forces."""
    from ..md.data import LabelledFrame

    truth, frames = StillingerWeber(), []
    atoms = bulk("Si", cubic=True).repeat((2, 2, 2))
    for seed in range(count):
        sample = Sample.of(atoms, SPECIES).shaken(0.1, seed)
        state = sample.state
        found = truth(state, build_neighbours(state, truth.cutoff, 0.0))
        frames.append(
            LabelledFrame(
                ("Si",) * state.atoms, state.positions.numpy(), state.cell[0].numpy(),
                state.periodic[0].numpy(), float(found.energy[0]), found.forces.numpy(),
            )
        )  # fmt: skip
    return frames


def _calibrated(subject: Subject) -> list[Finding]:
    return committee.calibration(subject, labelled(subject.potential))


def potential_faults() -> list[PlantedFault]:
    """Return the fixtures of all audits of potentials."""
    good = on_silicon(StillingerWeber())
    frame, free = on_silicon(local_frame()), on_silicon(unconstrained())
    cut = LennardJones((0.4,), (2.1,), 4.0, SPECIES, plain)
    still = "local-frame Deep Potential"

    def changed(change: Callable[[ParticleState, Interaction], Interaction]) -> Subject:
        return on_silicon(Changed(change))

    force, bad_force = conservation.force_is_gradient, changed(scaled_forces)
    drift = partial(conservation.energy_drift, picoseconds=0.5)
    honest, vague = on_silicon(Guessing()), on_silicon(Guessing(understates=2.0))
    percent, understated = "forces one per cent too large", "errors said too small"
    direct, blank = "direct-force network", "unconstrained network"
    hole, wall = on_silicon(PairFunction(buckingham)), on_silicon(PairFunction(repulsive))
    inv, smooth = invariance, smoothness
    rows: list[tuple[str, str, Any, Any, Any]] = [
        ("translation", "external field", inv.translation, good, changed(in_a_field)),
        ("rotation", blank, inv.rotation, good, free),
        ("reflection", still, inv.reflection, good, frame),
        ("rotation by angular order", blank, inv.angular_orders, good, free),
        ("permutation", "weights by number", inv.permutation, good, changed(by_number)),
        ("extensivity", "mean field", inv.extensivity, good, changed(mean_field)),
        ("net force and torque", "unbalanced forces", inv.balance, good, changed(pulled)),
        ("smoothness at the cutoff", "truncated", smooth.at_cutoff, good, on_silicon(cut)),
        ("smoothness at neighbour swaps", still, smooth.at_swaps, good, frame),
        ("smoothness on random lines", still, smooth.on_lines, good, frame),
        ("force = -gradient: order", percent, force, good, bad_force),
        ("force = -gradient: error", percent, force, good, bad_force),
        ("work round closed loops", direct, conservation.loop_work, good,
         on_silicon(DirectForce())),
        ("virial", "half of the virial", conservation.virial, good, changed(half_virial)),
        ("holes at short distance", "Buckingham's collapse", short_range.holes, wall, hole),
        ("energy drift", still, drift, good, frame),
        ("order of energy fluctuations", still, drift, good, frame),
        ("committee coverage 90 %", understated, _calibrated, honest, vague),
        ("committee coverage 50 %", understated, _calibrated, honest, vague),
        ("committee ranking", "deviation without meaning", _calibrated, honest,
         on_silicon(Guessing(honest=False))),
    ]  # fmt: skip
    return [PlantedFault(*row) for row in rows]


__all__ = ["PlantedFault", "potential_faults"]
