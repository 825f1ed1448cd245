"""Where atoms may begin in a scenario: parts that make the structure they describe."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Interval
from ase import Atoms
from ase.build import bulk
from pydantic import BeforeValidator

from ...models.parts import Family, part
from ..data.structures import (
    SPEEDS,
    VELOCITIES,
    StructureKeys,
    extras,
    read_structure,
    set_velocities,
)
from ..errors import InputError
from ..runtime import check_memory
from ..schema.base import InputPath, locate, thrice
from .interactions import Symbol

Count = Annotated[int, Interval(ge=1, le=1000)]
Copies = Annotated[tuple[Count, Count, Count], BeforeValidator(thrice)]
Length = Annotated[float, Interval(gt=0, le=1000)]
Mass = Annotated[float, Interval(gt=0, le=1000)]
Rattle = Annotated[float, Interval(ge=0, le=1)]
Vacancies = Annotated[int, Interval(ge=0, le=1_000_000)]
Vacuum = Annotated[float, Interval(ge=0, le=1000)]

MOST_ATOMS = 50_000_000
"""More atoms than this, all replicas together, are refused before they are made."""

_NUMBERS = 150
"""Numbers of an atom while a run is made: state, copies, neighbours of a liquid."""

STRUCTURES = Family(
    "structure",
    __name__.removesuffix(".initial"),
    {
        "file": "initial:FileStructure",
        "crystal": "initial:CrystalStructure",
        "fcc_density": "initial:LiquidLattice",
    },
)
"""Each has ``atoms(base, seed, replicas)``, which returns ASE's atoms."""


@part
class FileStructure:
    """A structure from a file; atoms that it fixes do not move."""

    path: InputPath
    """Structure file: extxyz, cif, POSCAR, LAMMPS data or dump, ..."""
    format: str | None = None
    """Format of the file (extxyz, vasp, cif, lammps-data, lammps-dump-text, or another of
    ASE's); by default what the content shows."""
    species: tuple[Symbol, ...] = ()
    """Chemical symbols of types 1, 2, ... of a LAMMPS file."""
    frame: int = -1
    """Which frame of the file; -1 is the last."""
    repeat: Copies = (1, 1, 1)
    """Copies along each lattice vector."""
    rattle: Rattle = 0.0
    """Standard deviation of random displacements, angstrom."""
    keep_velocities: bool | None = None
    """Whether the run begins with the velocities of the file; by default without a bath."""
    velocity_unit: Literal["angstrom/fs", "angstrom/ps", "nm/ps"] | None = None
    """Of a column vel or velocities, whose unit no file says."""
    constraints: Literal["keep", "ignore"] = "keep"
    """Whether atoms that the file fixes stay fixed."""
    kind: Literal["file"] = "file"

    def atoms(self, base: Path, seed: int, replicas: int = 1) -> Atoms:
        """Read the file, repeat the cell, displace the atoms.

        Raises:
            InputError: the file is missing or cannot be read, there are too many atoms, or
                the file holds constraints or velocities that cannot be honoured.
        """
        path = locate(self.path, base)
        name = f"{path} frame {self.frame}"
        keys = StructureKeys(self.format, self.species)
        one = read_structure(path, self.frame, keys)
        if self.constraints == "ignore":
            one.set_constraint()
        if partly := extras(one).partly:
            raise InputError(f"{name}: {partly}: structure.constraints = ignore frees them")
        one = _honoured(one, self.keep_velocities, self.velocity_unit, name)
        found = repeated(one, self.repeat, replicas)
        found.info["name"] = name
        return rattled(found, self.rattle, seed)


@part
class CrystalStructure:
    """A crystal in its cubic (conventional) cell, with vacancies or surfaces."""

    element: Symbol
    """Chemical symbol."""
    lattice: Literal["fcc", "bcc", "sc", "diamond"]
    """Crystal structure."""
    lattice_constant: Length
    """Edge of the cubic cell, angstrom (or sigma)."""
    repeat: Copies = (1, 1, 1)
    """Copies along each edge."""
    mass: Mass | None = None
    """Mass in amu if not the element's; reduced units need one."""
    vacancies: Vacancies = 0
    """Atoms taken out, spread over the cell."""
    vacuum: Vacuum = 0.0
    """Empty space added along the third edge, angstrom: a slab with two surfaces."""
    rattle: Rattle = 0.0
    """Standard deviation of random displacements, angstrom."""
    kind: Literal["crystal"] = "crystal"

    def atoms(self, base: Path, seed: int, replicas: int = 1) -> Atoms:
        """Make the crystal with its defects, displace the atoms.

        Raises:
            InputError: there are too many atoms, or no more than vacancies.
        """
        cell = bulk(self.element, self.lattice, a=self.lattice_constant, cubic=True)
        found = weighted(repeated(cell, self.repeat, replicas), self.mass)
        if self.vacancies >= len(found):
            raise InputError(
                f"structure.vacancies = {self.vacancies}: there are {len(found)} atoms"
            )
        return rattled(defective(found, self.vacancies, self.vacuum), self.rattle, seed)


@part
class LiquidLattice:
    """An fcc lattice at a given density, to be melted (reduced units, argon, ...)."""

    density: Length
    """Atoms per cubic angstrom (or reduced density)."""
    cells: Annotated[int, Interval(ge=1, le=200)]
    """Cubic cells along each edge; there are four atoms in each."""
    element: Symbol = "Ar"
    """Chemical symbol."""
    mass: Mass | None = None
    """Mass in amu if not the element's; reduced units need one."""
    kind: Literal["fcc_density"] = "fcc_density"

    def atoms(self, base: Path, seed: int, replicas: int = 1) -> Atoms:
        """Make the lattice.

        Raises:
            InputError: there are too many atoms.
        """
        cell = bulk(self.element, "fcc", a=(4.0 / self.density) ** (1 / 3), cubic=True)
        return weighted(
            repeated(cell, (self.cells, self.cells, self.cells), replicas), self.mass
        )


def _honoured(atoms: Atoms, keep: bool | None, unit: str | None, name: str) -> Atoms:
    """Put velocities where they belong, and note in ``info`` what is not used.

    Raises:
        InputError: velocities are to be kept and there are none, or none with a unit.
    """
    held = extras(atoms)
    notes = [f"{name}: {text}" for text in atoms.info.pop("left", ())]
    if held.velocities and held.momenta and keep is not False:
        raise InputError(
            f"{name}: holds momenta and {held.velocities}; take one of them out, or set "
            "structure.keep_velocities = false"
        )
    if unit is not None and not (held.velocities and keep):
        raise InputError(
            f"{name}: structure.velocity_unit: of a column {', '.join(VELOCITIES)} that "
            "keep_velocities = true keeps; there is none"
        )
    if held.velocities and keep:
        if unit is None:
            raise InputError(
                f"{name}: structure.velocity_unit: the file does not say the unit of "
                f"{held.velocities}; allowed are {', '.join(SPEEDS)}"
            )
        set_velocities(atoms, held.velocities, unit, name)
    elif held.velocities:
        notes.append(
            f"{name}: {held.velocities} not used; keep_velocities = true keeps them"
        )
    elif keep and not held.momenta:
        raise InputError(f"{name}: structure.keep_velocities: the file has no velocities")
    if keep is False and held.momenta:
        atoms.set_momenta(np.zeros((len(atoms), 3)))
        del atoms.arrays["momenta"]
    if held.unused:
        notes.append(f"{name}: not used: {', '.join(held.unused)}")
    atoms.info.update({"notes": tuple(notes), "keep_velocities": keep})
    return atoms


def repeated(cell: Atoms, copies: tuple[int, int, int], replicas: int) -> Atoms:
    """Return a supercell.

    Raises:
        InputError: with its replicas it has more than :data:`MOST_ATOMS`, or more than
            the memory holds.
    """
    atoms = len(cell) * math.prod(copies) * replicas
    check_memory(_NUMBERS * atoms, torch.float64, f"structure: {atoms} atoms")
    if atoms > MOST_ATOMS:
        raise InputError(f"structure: {atoms} atoms in all; at most {MOST_ATOMS}")
    return cell.repeat(copies)


def defective(crystal: Atoms, vacancies: int, vacuum: float) -> Atoms:
    """Take atoms out, spread over the list; add empty space along the third edge."""
    for k in range(vacancies):
        del crystal[(k * len(crystal)) // vacancies]
    if vacuum:
        crystal.center(vacuum=0.5 * vacuum, axis=2)
    return crystal


def fills_its_cell(section: Any, atoms: Atoms) -> bool:
    """Whether the cell, and so its stress, is the material's: periodic, no vacuum."""
    return bool(atoms.pbc.all()) and getattr(section, "vacuum", 0.0) == 0


def weighted(atoms: Atoms, mass: float | None) -> Atoms:
    """Give all atoms a mass (amu), if there is one to give."""
    if mass is not None:
        atoms.set_masses([mass] * len(atoms))  # type: ignore[arg-type]
    return atoms


def rattled(atoms: Atoms, size: float, seed: int) -> Atoms:
    """Displace all atoms at random, by ``size`` angstrom of standard deviation."""
    if size > 0:
        atoms.rattle(size, seed=seed)
    return atoms


__all__ = [
    "STRUCTURES",
    "CrystalStructure",
    "FileStructure",
    "LiquidLattice",
]
