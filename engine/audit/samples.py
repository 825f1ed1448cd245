"""Samples of the audits of a potential: a structure, and results for many variants."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ase.build
import ase.data
import torch
from ase import Atoms
from torch import Tensor, nn

from ..errors import InputError
from ..md.learned import LearnedPotential
from ..md.neighbours import build_neighbours
from ..md.potential import Potential
from ..md.state import ParticleState, concatenate
from ..md.structure import from_atoms
from ..runtime import generator

AT_ONCE = 1000
"""Atoms of one evaluation; bounds memory."""

SKIN = 0.1
"""Margin of neighbour lists, angstrom; the range of a calculator counts as 0."""


@dataclass(frozen=True)
class Evaluation:
    """Energies ``[n]``, forces ``[n, atoms, 3]``, virials ``[n, 3, 3]``: eV, angstrom."""

    energy: Tensor
    forces: Tensor
    virial: Tensor


@dataclass(frozen=True)
class Sample:
    """One structure.

    Attributes:
        state: as molecular dynamics sees it; one system, in the precision of the audit.
    """

    state: ParticleState

    @staticmethod
    def of(
        atoms: Atoms, species: Sequence[str], dtype: torch.dtype = torch.float64
    ) -> "Sample":
        """Return the sample of ASE's ``atoms``."""
        return Sample(from_atoms(atoms, species, dtype=dtype))

    @property
    def positions(self) -> Tensor:
        """``[atoms, 3]`` angstrom, float64."""
        return self.state.positions.double()

    @property
    def cell(self) -> Tensor:
        """``[3, 3]`` angstrom, float64."""
        return self.state.cell[0].double()

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return self.state.atoms

    @property
    def periodic(self) -> bool:
        """Whether all three axes are periodic."""
        return bool(self.state.periodic.all())

    def at(self, positions: Tensor, cell: Tensor | None = None) -> "Sample":
        """Return the sample with its atoms elsewhere."""
        to = self.state.positions.dtype
        positions = positions.to(to).contiguous()
        box = self.state.cell if cell is None else cell.to(to)[None].contiguous()
        state = replace(
            self.state, positions=positions, cell=box, anchor=positions, anchor_cell=box
        )
        return Sample(state)

    def shaken(self, width: float, seed: int = 0) -> "Sample":
        """Return the sample with normal displacements of ``width`` angstrom."""
        noise = torch.randn(
            self.atoms, 3, generator=generator(seed, 11), dtype=torch.float64
        )
        return self.at(self.positions + width * noise)

    def picked(self, which: Tensor, positions: Tensor) -> "Sample":
        """Return chosen atoms at open boundaries, at given places ``[chosen, 3]``."""
        old = self.state
        count, cell = len(which), torch.zeros_like(old.cell)
        place = positions.to(old.positions.dtype).contiguous()
        zero = torch.zeros_like(place)
        state = replace(
            old, positions=place, momenta=zero, masses=old.masses[which],
            species=old.species[which], system=torch.zeros(count, dtype=torch.int32),
            cell=cell, periodic=torch.zeros_like(old.periodic), forces=zero, anchor=place,
            anchor_cell=cell,
        )  # fmt: skip
        return Sample(state)

    def cluster(self, count: int, centre: int = 0) -> "Sample":
        """Return the ``count`` atoms nearest to one of them, at open boundaries."""
        difference = self.positions - self.positions[centre]
        if self.periodic:
            part = difference @ torch.linalg.inv(self.cell)
            difference = (part - part.round()) @ self.cell
        near = difference.norm(dim=1).argsort()[:count]
        return self.picked(near, difference[near])

    def repeated(self, times: tuple[int, int, int]) -> "Sample":
        """Return the periodic sample tiled along its axes."""
        grid = torch.cartesian_prod(*(torch.arange(n) for n in times)).double()
        positions = (self.positions[None] + (grid @ self.cell)[:, None]).flatten(0, 1)
        which = torch.arange(self.atoms).repeat(len(grid))
        open_ = self.picked(which, positions)
        state = replace(open_.state, periodic=self.state.periodic)
        return Sample(state).at(positions, self.cell * torch.tensor(times)[:, None])

    def distances(self) -> Tensor:
        """Return the matrix of distances ``[atoms, atoms]`` at open boundaries."""
        return torch.cdist(self.positions, self.positions)


def evaluate(
    potential: Potential,
    sample: Sample,
    positions: Tensor,
    cells: Tensor | None = None,
) -> Evaluation:
    """Return energies, forces and virials of many variants of one sample, in f64.

    Args:
        potential: what is evaluated.
        sample: species, periodicity, precision.
        positions: ``[n, atoms, 3]`` angstrom.
        cells: ``[n, 3, 3]`` angstrom; the sample's own when None.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    step = max(1, AT_ONCE // sample.atoms)
    for start in range(0, len(positions), step):
        rows = range(start, min(start + step, len(positions)))
        states = [
            sample.at(positions[k], None if cells is None else cells[k]).state for k in rows
        ]
        state = concatenate(states)
        found = potential(state, build_neighbours(state, potential.cutoff, SKIN))
        forces = found.forces.detach().double().unflatten(0, (len(rows), sample.atoms))
        parts.append((found.energy.detach().double(), forces, found.virial.double()))
    energy, forces, virial = (torch.cat(part) for part in zip(*parts, strict=True))
    return Evaluation(energy, forces, virial.detach())


class _Mean(nn.Module):
    """The mean of a committee as one network: one backward pass instead of many."""

    def __init__(self, committee: Any) -> None:
        super().__init__()
        self.committee, self.members = committee, 1
        self.species, self.cutoff = committee.species, committee.cutoff

    def forward(self, *arguments: Tensor) -> Tensor:
        """Return ``[1, atoms]`` eV."""
        return self.committee(*arguments).mean(0, keepdim=True)


@dataclass(frozen=True)
class Noise:
    """What the arithmetic of a potential does to a smooth function.

    Attributes:
        per_atom: rounding error of the energy over the square root of the atoms, eV.
        force: rounding error of a force component, eV/angstrom.
    """

    per_atom: float
    force: float

    def energy(self, atoms: int) -> float:
        """Return the rounding error of the energy of so many atoms, eV."""
        return self.per_atom * math.sqrt(atoms)


def measured_noise(subject: "Subject", points: int = 12) -> Noise:
    """Measure the rounding of a potential: what a smooth curve leaves on a tiny path.

    On a path of 2e-5 angstrom energy and forces are parabolas to 1e-14; what is left of
    them is rounding, whatever precision the potential works in.
    """
    bulk = subject.bulk
    rng = generator(31, 21)
    v = torch.randn(bulk.atoms, 3, generator=rng, dtype=torch.float64)
    t = torch.linspace(-1, 1, points, dtype=torch.float64)
    found = subject.ask(bulk, bulk.positions + 1e-5 * t[:, None, None] * v)
    powers = torch.stack([t**k for k in range(3)], 1)
    project = torch.eye(points, dtype=torch.float64) - powers @ torch.linalg.pinv(powers)
    free = math.sqrt(points / (points - 3))
    energy = float((project @ found.energy).square().mean().sqrt()) * free
    force = float((project @ found.forces.flatten(1)).square().mean().sqrt()) * free
    epsilon = torch.finfo(subject.dtype).eps
    least = epsilon * float(found.energy.abs().max()) / bulk.atoms
    return Noise(
        max(least, energy / math.sqrt(bulk.atoms)),
        max(epsilon * force_scale(found), force),
    )


@dataclass(frozen=True)
class Subject:
    """A potential and the structures on which it is audited.

    Attributes:
        potential: energy, forces and virial.
        bulk: a slightly disordered structure in the domain of the potential.
        dtype: precision of the evaluation.
        shortest: distance down to which its data reach, angstrom; below, only
            repulsion is required. NaN: four fifths of the nearest neighbours' distance.
    """

    potential: Potential
    bulk: Sample
    dtype: torch.dtype = torch.float64
    shortest: float = math.nan
    rest: Sample | None = None
    """The same without its disorder, from which repetitions are seen."""

    @staticmethod
    def of(
        potential: Potential,
        atoms: Atoms,
        dtype: torch.dtype = torch.float64,
        shortest: float = math.nan,
        shake: float = 0.05,
    ) -> "Subject":
        """Return the subject on ``atoms``, displaced by ``shake`` angstrom."""
        rest = Sample.of(atoms, potential.species, dtype)
        return Subject(potential, rest.shaken(shake), dtype, shortest, rest)

    def ask(
        self, sample: Sample, positions: Tensor, cells: Tensor | None = None
    ) -> Evaluation:
        """Evaluate; see :func:`evaluate`."""
        return evaluate(self.mean, sample, positions, cells)

    @cached_property
    def mean(self) -> Potential:
        """The potential, without the deviation where it is a committee of networks."""
        found = self.potential
        if isinstance(found, LearnedPotential) and found.members > 1:
            return LearnedPotential(_Mean(found.module))
        return found

    def cluster(self, count: int, centre: int = 0) -> Sample:
        """Return a piece of the bulk at open boundaries."""
        return self.bulk.cluster(min(count, self.bulk.atoms), centre)

    @cached_property
    def exact(self) -> float:
        """Relative tolerance of an exact symmetry in the arithmetic of the potential.

        At most 1e-4: an error of a thousandth of a force must not hide in rounding.
        """
        least = 1e-10 if self.dtype == torch.float64 else 1e-4
        here = self.ask(self.bulk, self.bulk.positions[None])
        rounding = 100 * self.noise.force / force_scale(here)
        return min(max(least, rounding), 1e-4)

    @property
    def single(self) -> bool:
        """Whether energies are known to single precision only."""
        return self.exact > 1e-8

    @cached_property
    def noise(self) -> Noise:
        """What rounding does to energy and forces."""
        return measured_noise(self)

    @cached_property
    def small(self) -> Sample:
        """The smallest cell that the structure repeats; the whole where it repeats none."""
        return smallest_cell(self.bulk, self.rest)

    @property
    def nearest(self) -> float:
        """Smallest distance in the bulk, angstrom."""
        distances = self.cluster(self.bulk.atoms).distances()
        return float(distances.fill_diagonal_(math.inf).min())


def force_scale(answer: Evaluation) -> float:
    """Return the root mean square force component, eV/angstrom, never zero."""
    return max(float(answer.forces.square().mean().sqrt()), 1e-12)


def smallest_cell(bulk: Sample, rest: Sample | None) -> Sample:
    """Return a piece of ``bulk`` on the smallest cell that ``rest`` is a repetition of.

    Along each lattice vector the largest whole part of it is taken by which ``rest`` can be
    moved onto itself; the atoms keep the disorder of ``bulk``.
    """
    if rest is None or not rest.periodic:
        return bulk
    parts = torch.tensor([_repeats(rest, axis) for axis in range(3)], dtype=torch.float64)
    if float(parts.prod()) == 1:
        return bulk
    cell = bulk.cell / parts[:, None]
    # of all atoms that are images of each other in the small cell, the first
    inside = rest.positions @ torch.linalg.inv(cell)
    gap = inside[:, None] - inside
    same = ((gap - gap.round()) @ cell).norm(dim=-1) < 1e-3
    which = torch.nonzero(same.int().argmax(1) == torch.arange(bulk.atoms))[:, 0]
    open_ = bulk.picked(which, bulk.positions[which])
    state = replace(open_.state, periodic=bulk.state.periodic)
    return Sample(state).at(bulk.positions[which], cell)


def _repeats(rest: Sample, axis: int, most: int = 8) -> int:
    """Return into how many equal parts the structure falls along a lattice vector."""
    part = rest.positions @ torch.linalg.inv(rest.cell)
    kinds = rest.state.species
    for count in range(most, 1, -1):
        if rest.atoms % count:
            continue
        moved = part.clone()
        moved[:, axis] += 1.0 / count
        gap = moved[:, None] - part
        gap = ((gap - gap.round()) @ rest.cell).norm(dim=-1)
        gap = torch.where(kinds[:, None] == kinds, gap, torch.full_like(gap, math.inf))
        if float(gap.amin(1).max()) < 1e-3:
            return count
    return 1


def crystal(species: Sequence[str], atoms: int = 64) -> Atoms:
    """Return the element's own crystal with about ``atoms`` atoms.

    Raises:
        InputError: several elements, or one without a crystal in ASE's table: then a
            structure has to be given.
    """
    known: Any = None
    if len(species) == 1 and species[0] in ase.data.chemical_symbols:
        known = ase.data.reference_states[ase.data.atomic_numbers[species[0]]]
    symmetries = ("fcc", "bcc", "sc", "diamond", "hcp")
    if known is None or known.get("symmetry") not in symmetries:
        raise InputError(
            f"audit: no crystal is known of {', '.join(species)}; "
            "give a file with --structure"
        )
    name = species[0]
    if known["symmetry"] == "hcp":
        unit = ase.build.bulk(name, orthorhombic=True)
    else:
        unit = ase.build.bulk(name, cubic=True)
    times = max(2, round((atoms / len(unit)) ** (1 / 3)))
    return unit.repeat((times, times, times))


__all__ = [
    "SKIN",
    "Evaluation",
    "Noise",
    "Sample",
    "Subject",
    "crystal",
    "evaluate",
    "force_scale",
    "smallest_cell",
]
