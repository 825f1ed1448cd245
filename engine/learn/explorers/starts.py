"""Starting structures: crystals, liquids, molecules, files."""

from pathlib import Path
from typing import Annotated, Literal

import ase.io
import numpy as np
from annotated_types import Ge, Gt, Le, MinLen
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_masses, atomic_numbers
from pydantic import BeforeValidator, Field
from scipy.optimize import minimize

from ....models.parts import part
from ...errors import InputError
from ...md.initial import Vacancies, Vacuum, defective
from ...schema.base import InputPath, locate, thrice

Symbol = Annotated[str, Field(pattern="^[A-Z][a-z]?$")]
Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1), Le(1000)]
Copies = Annotated[tuple[Count, Count, Count], BeforeValidator(thrice)]
Length = Annotated[float, Gt(0), Le(1000)]


def _known(*symbols: str) -> None:
    for symbol in symbols:
        if symbol not in atomic_numbers:
            raise ValueError(f"{symbol} is no chemical element")


def _bounded(atoms: int, repeat: tuple[int, int, int]) -> None:
    total = atoms * repeat[0] * repeat[1] * repeat[2]
    if total > MOST_ATOMS:
        raise ValueError(f"repeat: {total} atoms are too many; at most {MOST_ATOMS}")


MOST_ATOMS = 100_000
"""Of one start: labels are asked of whole structures, and none can be had beyond."""


@part
class Crystal:
    """A crystal, with vacancies or a surface if asked for."""

    element: Symbol
    """Chemical symbol."""
    lattice: Literal["fcc", "bcc", "sc", "diamond", "beta_tin"]
    """Crystal structure."""
    lattice_constant: Length
    """Edge of the conventional cell, angstrom (the square's for beta_tin)."""
    repeat: Copies = (1, 1, 1)
    """Copies along each edge."""
    vacancies: Vacancies = 0
    """Atoms taken out, spread over the cell."""
    vacuum: Vacuum = 0.0
    """Empty space added along the third edge, angstrom: a slab with two surfaces."""
    kind: Literal["crystal"] = "crystal"

    def __post_init__(self) -> None:
        _known(self.element)
        atoms = {"fcc": 4, "bcc": 2, "sc": 1, "diamond": 8, "beta_tin": 4}[self.lattice]
        _bounded(atoms, self.repeat)
        atoms *= self.repeat[0] * self.repeat[1] * self.repeat[2]
        if self.vacancies >= atoms:
            raise ValueError(f"{self.vacancies} vacancies in {atoms} atoms")

    def structure(self, base: Path, seed: int) -> Atoms:
        """Return the structure."""
        if self.lattice == "beta_tin":
            atoms = beta_tin(self.element, self.lattice_constant)
        else:
            a = self.lattice_constant
            atoms = bulk(self.element, self.lattice, a=a, cubic=True)
        atoms = atoms.repeat(self.repeat)
        return defective(atoms, self.vacancies, self.vacuum)


@part
class Liquid:
    """Atoms at random, pushed apart."""

    element: Symbol
    """Chemical symbol."""
    atoms: Annotated[int, Ge(2), Le(10000)]
    """How many."""
    density: Positive
    """g/cm^3."""
    nearest: Positive = 2.1
    """Distance below which they are pushed apart, angstrom."""
    kind: Literal["liquid"] = "liquid"

    def __post_init__(self) -> None:
        _known(self.element)

    def structure(self, base: Path, seed: int) -> Atoms:
        """Return the structure; ``seed`` decides the places."""
        return liquid(self.element, self.atoms, self.density, self.nearest, seed)


@part
class Molecule:
    """A molecule or cluster, atom by atom."""

    symbols: Annotated[tuple[Symbol, ...], MinLen(1)]
    """Chemical symbols."""
    positions: Annotated[tuple[tuple[float, float, float], ...], MinLen(1)]
    """Angstrom."""
    kind: Literal["molecule"] = "molecule"

    def __post_init__(self) -> None:
        _known(*self.symbols)
        if len(self.symbols) != len(self.positions):
            raise ValueError(
                f"{len(self.symbols)} symbols but {len(self.positions)} positions"
            )

    def structure(self, base: Path, seed: int) -> Atoms:
        """Return the structure."""
        return Atoms(list(self.symbols), positions=self.positions)


@part
class File:
    """A structure from any file that ASE reads."""

    path: InputPath
    """Structure file: extxyz, cif, POSCAR, ..."""
    frame: int = -1
    """Which frame of the file; -1 is the last."""
    repeat: Copies = (1, 1, 1)
    """Copies along each lattice vector."""
    kind: Literal["file"] = "file"

    def structure(self, base: Path, seed: int) -> Atoms:
        """Return the structure.

        Raises:
            InputError: the file is not there, cannot be read, or is too large.
        """
        path = locate(self.path, base)
        try:
            atoms = ase.io.read(path, index=self.frame)
            assert isinstance(atoms, Atoms)
            _bounded(len(atoms), self.repeat)
        except Exception as error:
            # readers raise anything at all; whatever it is, the file is not readable
            said = f"{path} frame {self.frame}: cannot be read: {error}"
            raise InputError(said) from error
        return atoms.repeat(self.repeat)


def beta_tin(element: str, a: float, ratio: float = 0.5516) -> Atoms:
    """Return the four atoms of the body-centred tetragonal cell of white tin.

    Args:
        element: chemical symbol.
        a: edge of the square, angstrom.
        ratio: height over edge.
    """
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0, 0.5, 0.25), (0.5, 0, 0.75)]
    return Atoms(f"{element}4", scaled_positions=places, cell=[a, a, a * ratio], pbc=True)


def liquid(element: str, atoms: int, density: float, nearest: float, seed: int) -> Atoms:
    """Return atoms at random in a cube, pushed apart until none is too close.

    Args:
        element: chemical symbol.
        atoms: how many.
        density: g/cm^3.
        nearest: angstrom, distance below which a soft repulsion acts.
        seed: of the places.
    """
    mass = atomic_masses[atomic_numbers[element]] * 1.66053906660
    edge = (atoms * mass / density) ** (1 / 3)
    start = np.random.default_rng(seed).random((atoms, 3)) * edge
    above = np.triu_indices(atoms, 1)

    def overlap(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = flat.reshape(-1, 3)
        d = x[above[0]] - x[above[1]]
        d -= edge * np.round(d / edge)
        r = np.maximum(np.linalg.norm(d, axis=1), 1e-9)
        depth = np.maximum(nearest - r, 0.0)
        slope = (-2 * depth / r)[:, None] * d
        gradient = np.zeros_like(x)
        np.add.at(gradient, above[0], slope)
        np.add.at(gradient, above[1], -slope)
        return float((depth**2).sum()), gradient.ravel()

    found = minimize(overlap, start.ravel(), jac=True, method="L-BFGS-B")
    places = found.x.reshape(-1, 3)
    return Atoms(f"{element}{atoms}", positions=places, cell=[edge] * 3, pbc=True)
