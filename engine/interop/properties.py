"""Properties of a crystal by a learned potential, and by its labeler on the same atoms.

The potential relaxes the structures and the labeler is asked about each as it stands: the
difference is the potential's, and costs the labeler no relaxation.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ..errors import GuardError
from ..learn.atoms import AtomsLabel, Configuration, evaluate, fast, structure_key
from ..md.elasticity import cubic_constants, energy_minimum, is_cubic
from ..md.potential import Potential
from ..protocols import Check, Committee, Figure, Outcome
from ..units import EV_PER_A3_GPA
from .elastic import deformation, relax

_LENGTHS = np.linspace(0.97, 1.03, 7)
_STRAIN = 0.005
_VACUUM = 12.0
_FORCE = 0.01
"""Left by relaxations, eV/angstrom."""

_RATTLE = 0.03
"""Standard deviation of displacements, angstrom."""

_J_PER_M2 = 16.02176634
"""1 eV/angstrom^2."""

ALLOWED = {"volume": 0.03}
"""Relative distance from the labeler's value; 0.1 of what is not named."""

UNITS = {
    "volume": "angstrom^3",
    "bulk_modulus": "GPa",
    "vacancy_energy": "eV",
    "surface_energy": "J/m^2",
}
"""Of each property; GPa of those that are not named."""

Values = dict[str, float]
Answers = Sequence[AtomsLabel]


@dataclass(frozen=True)
class Probe:
    """Structures, and what follows from their energies and virials.

    Attributes:
        structures: relaxed as far as they should be.
        values: from an answer for each to properties by name; none where one is missing.
    """

    structures: Sequence[Atoms]
    values: Callable[[Answers], Values]


def equation_of_state(crystal: Atoms, potential: Potential) -> Probe:
    """Volume per atom and bulk modulus: edges scaled by 0.97 to 1.03."""
    structures = [_scaled(crystal, float(length)) for length in _LENGTHS]

    def values(answers: Answers) -> Values:
        energy = np.array([answer.energy for answer in answers])
        found = energy_minimum(_LENGTHS, energy, crystal.get_volume())
        volume = crystal.get_volume() * found.length**3 / len(crystal)
        return {"volume": volume, "bulk_modulus": found.bulk_modulus}

    return Probe(structures, values)


def _scaled(crystal: Atoms, length: float) -> Atoms:
    atoms = crystal.copy()
    atoms.set_cell(length * atoms.cell.array, scale_atoms=True)
    return atoms


def elastic(crystal: Atoms, potential: Potential) -> Probe:
    """Elastic constants with the atoms held in place, from stresses at strains of 0.005.

    C11, C12 and C44 of a cubic crystal on its axes, else the diagonal.
    """
    strains = [(j, sign) for j in range(6) for sign in (1.0, -1.0)]
    structures = []
    for j, sign in strains:
        atoms = crystal.copy()
        cell = atoms.cell.array @ deformation(j, sign * _STRAIN)
        atoms.set_cell(cell, scale_atoms=True)
        structures.append(atoms)

    def values(answers: Answers) -> Values:
        matrix = np.zeros((6, 6))
        pairs = zip(strains, structures, answers, strict=True)
        for (j, sign), atoms, answer in pairs:
            if answer.virial is None:
                return {}
            stress = -answer.virial.numpy() / atoms.get_volume() * EV_PER_A3_GPA
            matrix[:, j] += sign * stress[_ROWS, _COLUMNS] / (2 * _STRAIN)
        matrix = 0.5 * (matrix + matrix.T)
        if is_cubic(matrix):
            found = cubic_constants(matrix)
            return {name: found[name] for name in ("C11", "C12", "C44")}
        return {f"C{k}{k}": float(matrix[k - 1, k - 1]) for k in range(1, 7)}

    return Probe(structures, values)


_ROWS, _COLUMNS = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]  # Voigt's order


def vacancy(crystal: Atoms, potential: Potential) -> Probe:
    """Energy of formation of a vacancy, ``E(N - 1) - (N - 1) / N E(N)``, atoms relaxed."""
    atoms = crystal.copy()
    del atoms[0]
    left = len(atoms) / len(crystal)
    structures = [crystal, _settled(atoms, potential)]
    return Probe(
        structures,
        lambda answers: {"vacancy_energy": answers[1].energy - left * answers[0].energy},
    )


def surface(crystal: Atoms, potential: Potential) -> Probe:
    """Energy of the two surfaces across the third edge over their area, atoms relaxed."""
    crystal = crystal.copy()
    crystal.wrap(pretty_translation=True)  # the cut goes through the widest gap
    atoms = crystal.copy()
    atoms.center(vacuum=0.5 * _VACUUM, axis=2)
    area = float(np.linalg.norm(np.cross(*crystal.cell.array[:2])))
    structures = [crystal, _settled(atoms, potential)]

    def values(answers: Answers) -> Values:
        energy = answers[1].energy - answers[0].energy
        return {"surface_energy": energy / (2 * area) * _J_PER_M2}

    return Probe(structures, values)


def _settled(atoms: Atoms, potential: Potential) -> Atoms:
    """Return the atoms relaxed from a little beside their places, which may be saddles."""
    atoms.rattle(_RATTLE, seed=0)
    return relax(atoms, potential, force=_FORCE)


PROBES: Mapping[str, Callable[[Atoms, Potential], Probe]] = {
    "equation_of_state": equation_of_state,
    "elastic": elastic,
    "vacancy": vacancy,
    "surface": surface,
}
"""Every property that a scenario can name."""


def properties(
    name: str,
    crystal: Atoms,
    asked: Sequence[str],
    committee: Committee,
    ask: Callable[[Sequence[Configuration]], Sequence[AtomsLabel | None]],
) -> Outcome:
    """Measure properties of a crystal that the committee relaxes.

    Args:
        name: of the crystal, which figures and checks begin with.
        crystal: near its equilibrium.
        asked: names of :data:`PROBES`.
        committee: of potentials.
        ask: has structures labelled; None where a label failed.

    Returns:
        Figures of the committee with the labeler's values in their notes, and a check of
        each that has one.
    """
    potential = fast(committee)
    try:
        crystal = relax(crystal, potential, cell=True, force=_FORCE)
    except GuardError as error:
        return Outcome(checks=[_failed(name, "relaxes", error)])
    figures, checks, labelled = {}, [], set()
    for each in asked:
        try:
            probe = PROBES[each](crystal, potential)
        except GuardError as error:
            checks.append(_failed(name, each, error))
            continue
        samples = [Configuration.of(atoms, name) for atoms in probe.structures]
        mine = probe.values(_answers(committee, samples))
        labels = [label for label in ask(samples) if label is not None]
        labelled |= set(map(structure_key, samples))
        theirs = probe.values(labels) if len(labels) == len(samples) else {}
        for key, value in mine.items():
            known = theirs.get(key)
            said = "no value of the labeler" if known is None else f"labeler: {known:.4g}"
            figures[f"{name}_{key}"] = Figure(value, UNITS.get(key, "GPa"), note=said)
            checks += _compared(f"{name} {key}", value, known, ALLOWED.get(key, 0.1))
    count = Figure(len(labelled), note="labels of these properties")
    return Outcome(figures | {f"{name}_labels": count}, checks)


def _failed(name: str, what: str, error: GuardError) -> Check:
    return Check(f"{name} {what}", "health", math.nan, 0.0, note=str(error))


def _answers(committee: Committee, samples: Sequence[Configuration]) -> Answers:
    found, state = evaluate(committee, samples)
    forces = found.forces.double().split(state.counts.tolist())
    return [
        AtomsLabel(float(energy), force, virial.double())
        for energy, force, virial in zip(found.energy, forces, found.virial, strict=True)
    ]


def _compared(
    title: str, value: float, known: float | None, allowed: float
) -> Iterator[Check]:
    if known is not None:
        off = abs(value / known - 1) if known else math.inf
        note = f"{value:.4g}, the labeler has {known:.4g}"
        yield Check(title, "accuracy", off, allowed, note=note)


__all__ = ["ALLOWED", "PROBES", "Probe", "properties"]
