"""Configurations of atoms as samples, their labels, and what the loop needs of a committee.

A committee of potentials is one module with stacked ``members`` (``models.potentials``),
as the only element of the sequence that the loop passes around.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from ..md.compressed import TOLERANCE, CompressedPotential, compress
from ..md.data import LabelledFrame, as_state
from ..md.learned import LearnedPotential
from ..md.neighbours import build_neighbours
from ..md.state import Interaction, ParticleState
from ..protocols import Committee
from .label_store import Codec, fingerprint


@dataclass(frozen=True)
class Configuration:
    """Atoms to be labelled, and what the explorer knew about them.

    Attributes:
        numbers: ``[atoms]`` int32, atomic numbers.
        positions: ``[atoms, 3]`` angstrom, f64.
        cell: ``[3, 3]`` angstrom, lattice vectors in rows, f64.
        periodic: ``[3]`` bool.
        stratum: where it was met.
        deviation: largest force deviation of the committee, eV/angstrom; NaN if unknown.
        weight: how many screened samples it represents.
        unreached: how many its walker did not reach, because it ended here.
    """

    numbers: Tensor
    positions: Tensor
    cell: Tensor
    periodic: Tensor
    stratum: str = ""
    deviation: float = math.nan
    weight: float = 1.0
    unreached: float = 0.0

    @staticmethod
    def of(atoms: Atoms, stratum: str = "") -> "Configuration":
        """Take over a structure of ASE."""
        return Configuration(
            torch.tensor(atoms.get_atomic_numbers(), dtype=torch.int32),
            torch.tensor(atoms.get_positions(), dtype=torch.float64),
            torch.tensor(atoms.cell.array.copy(), dtype=torch.float64),
            torch.tensor(atoms.pbc.copy()),
            stratum,
        )

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols."""
        return tuple(chemical_symbols[number] for number in self.numbers.tolist())

    def atoms(self) -> Atoms:
        """Return ASE's structure."""
        return Atoms(
            self.numbers.tolist(),
            positions=self.positions.numpy(),
            cell=self.cell.numpy(),
            pbc=self.periodic.numpy(),
        )


@dataclass(frozen=True)
class AtomsLabel:
    """What the micro-scale model says about a configuration.

    Attributes:
        energy: eV.
        forces: ``[atoms, 3]`` eV/angstrom, f64.
        virial: ``[3, 3]`` eV, ``-dE/dstrain``; None where it is not known.
        energy_error: standard error of the energy, eV; 0 of a deterministic method.
        force_error: standard error of a force component, eV/angstrom.
    """

    energy: float
    forces: Tensor
    virial: Tensor | None = None
    energy_error: float = 0.0
    force_error: float = 0.0


def pack_configuration(sample: Configuration) -> dict[str, Tensor]:
    """Return what decides a label: elements, positions, cell."""
    names = ("numbers", "positions", "cell", "periodic")
    return {name: getattr(sample, name) for name in names}


def unpack_configuration(tensors: Mapping[str, Tensor]) -> Configuration:
    """Undo :func:`pack_configuration`."""
    numbers, positions = tensors["numbers"], tensors["positions"]
    return Configuration(numbers, positions, tensors["cell"], tensors["periodic"])


def structure_key(sample: Configuration) -> str:
    """Return what only equal structures share."""
    return fingerprint(pack_configuration(sample), "")


def pack_label(label: AtomsLabel) -> dict[str, Tensor]:
    """Return a label as tensors."""
    numbers = (label.energy, label.energy_error, label.force_error)
    packed = {
        "energy": torch.tensor(numbers, dtype=torch.float64),
        "forces": label.forces.double(),
    }
    return packed if label.virial is None else packed | {"virial": label.virial.double()}


def unpack_label(tensors: Mapping[str, Tensor]) -> AtomsLabel:
    """Undo :func:`pack_label`."""
    energy, energy_error, force_error = tensors["energy"].tolist()
    forces, virial = tensors["forces"], tensors.get("virial")
    return AtomsLabel(energy, forces, virial, energy_error, force_error)


def in_stratum(sample: Configuration, stratum: str) -> Configuration:
    """Return the configuration with the name of its stratum."""
    return replace(sample, stratum=stratum)


CONFIGURATIONS = Codec(pack_configuration, unpack_configuration, in_stratum)
LABELS = Codec(pack_label, unpack_label)


def as_frame(sample: Configuration, label: AtomsLabel | None = None) -> LabelledFrame:
    """Return the frame that training and readers of data sets know (zeros unlabelled)."""
    forces = torch.zeros_like(sample.positions) if label is None else label.forces
    known = None if label is None or label.virial is None else label.virial.numpy()
    return LabelledFrame(
        symbols=sample.symbols,
        positions=sample.positions.numpy(),
        cell=sample.cell.numpy(),
        periodic=sample.periodic.numpy(),
        energy=0.0 if label is None else label.energy,
        forces=forces.numpy(),
        virial=known,
        group=sample.stratum,
        origin=sample.stratum,
    )


def known(frame: LabelledFrame) -> tuple[Configuration, AtomsLabel]:
    """Return what :func:`as_frame` makes a frame of; its part of the set is the stratum."""
    numbers = [atomic_numbers[symbol] for symbol in frame.symbols]
    real = partial(torch.tensor, dtype=torch.float64)
    sample = Configuration(
        torch.tensor(numbers, dtype=torch.int32),
        real(frame.positions),
        real(frame.cell),
        torch.tensor(frame.periodic),
        frame.group,
    )
    virial = None if frame.virial is None else real(frame.virial)
    return sample, AtomsLabel(frame.energy, real(frame.forces), virial)


def stacked(samples: Sequence[Configuration], species: Sequence[str]) -> ParticleState:
    """Put configurations side by side, one system each, with nothing in motion."""
    return as_state([as_frame(sample) for sample in samples], species)


def fast(committee: Committee) -> LearnedPotential | CompressedPotential:
    """Return the committee's mean with its deviation, compressed where its form allows."""
    network = LearnedPotential(copy.deepcopy(committee[0]).double())
    return compress(network, TOLERANCE[torch.float64]) or network


def leader(committee: Committee) -> LearnedPotential | CompressedPotential:
    """Return the first member alone, which moves walkers several times faster."""
    return fast([committee[0].member(0)])  # type: ignore[operator]


_ATOMS = 50_000
"""Evaluated at once; their neighbours fill some hundred megabytes."""


def pieces(samples: Sequence[Configuration]) -> Iterator[slice]:
    """Yield slices of samples, one after the other, of about :data:`_ATOMS` atoms."""
    begin = held = 0
    for end, sample in enumerate(samples):
        if held and held + len(sample.numbers) > _ATOMS:
            yield slice(begin, end)
            begin = end
            held = 0
        held += len(sample.numbers)
    if held:
        yield slice(begin, len(samples))


def evaluate(
    committee: Committee, samples: Sequence[Configuration]
) -> tuple[Interaction, ParticleState]:
    """Return the committee's mean and deviation on configurations."""
    return _evaluated(fast(committee), samples)


def _evaluated(
    potential: LearnedPotential | CompressedPotential, samples: Sequence[Configuration]
) -> tuple[Interaction, ParticleState]:
    state = stacked(samples, potential.species)
    return potential(state, build_neighbours(state, potential.cutoff, 0.0)), state


def carried_deviation(committee: Committee, samples: Sequence[Configuration]) -> Tensor:
    """Return the deviation that the explorer measured, ``[samples]`` eV/angstrom."""
    return torch.tensor([sample.deviation for sample in samples], dtype=torch.float64)


def deviations(committee: Committee, samples: Sequence[Configuration]) -> Tensor:
    """Return the committee's deviation at configurations, ``[samples]`` eV/angstrom."""
    potential, found = fast(committee), [torch.empty(0, dtype=torch.float64)]
    for piece in pieces(samples):
        made, state = _evaluated(potential, samples[piece])
        deviation = made.deviation.double()
        found.append(torch.segment_reduce(deviation, "max", lengths=state.counts))
    return torch.cat(found)


def force_errors(
    committee: Committee, data: Sequence[tuple[Configuration, AtomsLabel]]
) -> Tensor:
    """Return the root mean square error of the force components, ``[samples]`` eV/A."""
    samples = [sample for sample, _ in data]
    potential, found = fast(committee), [torch.empty(0, dtype=torch.float64)]
    for piece in pieces(samples):
        made, state = _evaluated(potential, samples[piece])
        exact = torch.cat([label.forces for _, label in data[piece]])
        square = (made.forces - exact).double().square().mean(1)
        mean = torch.segment_reduce(square, "mean", lengths=state.counts)
        found.append(mean.sqrt())
    return torch.cat(found)


def aligned(
    committee: Committee, data: Sequence[tuple[Configuration, AtomsLabel]]
) -> Committee:
    """Return the committee with its energies shifted to those of the labels.

    Methods count energy from different zeros, one for each element. The shifts follow by
    least squares from what the labels differ by; what their compositions hardly tell is
    left as it is.
    """
    module: Any = copy.deepcopy(committee[0])
    samples = [sample for sample, _ in data]
    index = {symbol: k for k, symbol in enumerate(module.species)}
    counts = torch.zeros(len(data), len(index), dtype=torch.float64)
    for row, sample in enumerate(samples):
        for symbol in sample.symbols:
            counts[row, index[symbol]] += 1
    energy = torch.cat(
        [evaluate(committee, samples[piece])[0].energy for piece in pieces(samples)]
    )
    exact = torch.tensor([label.energy for _, label in data], dtype=torch.float64)
    off = exact - energy.double()
    module.fitting.energy_bias += torch.linalg.pinv(counts, rtol=_TOLD) @ off
    return [module]


_TOLD = 0.03
"""Singular value of the compositions, over the largest, from which shifts are told."""


def last_layer(committee: Committee, samples: Sequence[Configuration]) -> Tensor:
    """Return last-layer features of the first member, ``[samples, width]``.

    The mean over atoms of the hidden state before the output, which is the gradient of
    the energy per atom with respect to the output weights (the gradient features of
    Zaverkin et al. 2024, npj Comput. Mater. 10, 83, restricted to the last layer).
    """
    module = committee[0]
    weight = module.fitting.weights[-1]  # type: ignore[union-attr,index]
    precision = weight.dtype  # type: ignore[union-attr]
    rows = []
    for start in range(0, len(samples), 64):
        part = samples[start : start + 64]
        state = stacked(part, module.species)  # type: ignore[arg-type]
        neighbours = build_neighbours(state, module.cutoff, 0.0)  # type: ignore[arg-type]
        index, system = neighbours.index.long(), state.system.long()
        shift = neighbours.shift.to(state.positions.dtype) @ state.cell[system]
        d = (state.positions[index] + shift - state.positions[:, None]).to(precision)
        mask = torch.arange(index.shape[1]) < neighbours.count[:, None]
        species = state.species.long()
        energies = module(d, species[index], mask, species)[0]
        for number, count in enumerate(state.counts.tolist()):
            energy = energies[system == number].sum() / count
            (slope,) = torch.autograd.grad(energy, weight, retain_graph=True)
            rows.append(slope[0].flatten().double())
    empty = torch.empty(0, weight[0].numel(), dtype=torch.float64)  # type: ignore[index]
    return torch.stack(rows) if rows else empty
