"""Absolute values: where the energy has its minimum, and how far it is from labels."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from ..comparison import worst
from ..md.data import LabelledFrame
from ..md.elasticity import energy_minimum
from ..md.neighbours import build_neighbours
from .findings import Finding, at_most, not_measured
from .samples import SKIN, Sample, Subject

LENGTH = 0.05
"""Relative distance of the equilibrium length from the structure that was given. An
element's own crystal has the measured lattice constant, which functionals miss by 2 %."""

FORCES = 0.3
"""Root mean square error of forces over the root mean square force of the labels."""

ENERGY = 0.05
"""Error of the energy differences between frames, eV per atom."""


def equation_of_state(subject: Subject, points: int = 21) -> list[Finding]:
    """The equilibrium length, bulk modulus and cohesion of the structure.

    The cell is scaled by 0.9 to 1.1 in length and the energy fitted about its lowest point;
    the minimum must lie inside, near the length that was given.
    """
    bulk, name = subject.bulk, "equilibrium length"
    if not bulk.periodic:
        return [not_measured(name, "the structure is not periodic", LENGTH)]
    length = torch.linspace(0.9, 1.1, points, dtype=torch.float64)
    scaled = length[:, None, None]
    energy = subject.ask(bulk, scaled * bulk.positions, scaled * bulk.cell).energy
    if not bool(energy.isfinite().all()):
        return [at_most(name, math.nan, LENGTH, detail="an energy is not finite")]
    found = energy_minimum(length.numpy(), energy.numpy(), float(bulk.cell.det().abs()))
    if math.isnan(found.length):
        detail = f"no minimum between {float(length[0]):.2f} and {float(length[-1]):.2f}"
        return [at_most(name, math.inf, LENGTH, detail=detail)]
    best, stiff = found.length, found.bulk_modulus
    volume = float(bulk.cell.det().abs()) * best**3
    detail = (
        f"{best:.4f} of what was given; {volume / bulk.atoms:.4g} angstrom^3 and "
        f"{found.energy / bulk.atoms:.6g} eV per atom, bulk modulus {stiff:.4g} GPa"
    )
    return [
        at_most(name, abs(best - 1), LENGTH, detail=detail),
        at_most("softness", -stiff, 0.0, "GPa", "bulk modulus, with its sign changed"),
    ]


def against_labels(subject: Subject, frames: Sequence[LabelledFrame]) -> list[Finding]:
    """Forces and differences of energy on labelled frames."""
    if not frames:
        why = "no labelled frames were given"
        return [not_measured("forces of the labels", why, FORCES)]
    potential, wrong, size, energies = subject.potential, 0.0, 0.0, []
    for frame in frames:
        atoms = Atoms(
            frame.symbols, frame.positions, cell=frame.cell, pbc=frame.periodic.tolist()
        )
        state = Sample.of(atoms, potential.species, subject.dtype).state
        found = potential(state, build_neighbours(state, potential.cutoff, SKIN))
        labels = torch.as_tensor(frame.forces).double()
        wrong += float((found.forces.double() - labels).square().sum())
        size += float(labels.square().sum())
        energies.append((float(found.energy[0]) - frame.energy) / len(atoms))
    share = math.sqrt(wrong / size) if size > 0 else math.nan
    made = [at_most("forces of the labels", share, FORCES, detail=f"{len(frames)} frames")]
    if len(frames) > 1:
        off = worst(abs(e - float(np.median(energies))) for e in energies)
        detail = "differences between frames, the largest"
        made.append(at_most("energies of the labels", off, ENERGY, "eV/atom", detail))
    return made


__all__ = ["against_labels", "equation_of_state"]
