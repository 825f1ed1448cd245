"""Where atoms may begin in a scenario: parts that make the structure they describe."""

import math
from pathlib import Path
from typing import Annotated, Literal

import ase.io
import torch
from annotated_types import Interval
from ase import Atoms
from ase.build import bulk
from pydantic import BeforeValidator

from ...models.parts import Family, part
from ..errors import InputError
from ..inputs import check_file_size
from ..runtime import check_memory
from ..schema.base import InputPath, locate, thrice
from .interactions import Symbol

Count = Annotated[int, Interval(ge=1, le=1000)]
Copies = Annotated[tuple[Count, Count, Count], BeforeValidator(thrice)]
Length = Annotated[float, Interval(gt=0, le=1000)]
Mass = Annotated[float, Interval(gt=0, le=1000)]
Rattle = Annotated[float, Interval(ge=0, le=1)]

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
    """A structure from any file that ASE reads."""

    path: InputPath
    """Structure file: extxyz, cif, POSCAR, ..."""
    frame: int = -1
    """Which frame of the file; -1 is the last."""
    repeat: Copies = (1, 1, 1)
    """Copies along each lattice vector."""
    rattle: Rattle = 0.0
    """Standard deviation of random displacements, angstrom."""
    kind: Literal["file"] = "file"

    def atoms(self, base: Path, seed: int, replicas: int = 1) -> Atoms:
        """Read the file, repeat the cell, displace the atoms.

        Raises:
            InputError: the file is missing or cannot be read, or there are too many atoms.
        """
        path = locate(self.path, base)
        found = repeated(read_structure(path, self.frame), self.repeat, replicas)
        found.info["name"] = f"{path} frame {self.frame}"
        return rattled(found, self.rattle, seed)


@part
class CrystalStructure:
    """A perfect crystal in its cubic (conventional) cell."""

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
    rattle: Rattle = 0.0
    """Standard deviation of random displacements, angstrom."""
    kind: Literal["crystal"] = "crystal"

    def atoms(self, base: Path, seed: int, replicas: int = 1) -> Atoms:
        """Make the crystal, displace the atoms.

        Raises:
            InputError: there are too many atoms.
        """
        cell = bulk(self.element, self.lattice, a=self.lattice_constant, cubic=True)
        found = weighted(repeated(cell, self.repeat, replicas), self.mass)
        return rattled(found, self.rattle, seed)


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


def read_structure(path: Path, frame: int = -1) -> Atoms:
    """Read one frame of a file.

    Raises:
        InputError: it cannot be read, or has no such frame.
    """
    check_file_size(path)
    try:
        found = ase.io.read(path, index=frame)
    except (IndexError, StopIteration) as error:
        raise InputError(f"{path}: structure.frame: there is no frame {frame}") from error
    except Exception as error:
        # readers raise anything at all; whatever it is, the file is not readable
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} frame {frame}: cannot be read: {reason}") from error
    assert isinstance(found, Atoms)
    return found


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
    "read_structure",
]
