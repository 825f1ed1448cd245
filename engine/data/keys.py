"""How a file of labels is to be read: format, names, and the convention of the stress."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from ase import units
from pydantic import AfterValidator

from ..schema.base import InputPath, Section, locate

VOIGT = "xx yy zz yz xz xy"
VASP = "xx yy zz xy yz xz"
LAMMPS = "xx yy zz xy xz yz"

UNITS = {
    "eV/angstrom^3": 1.0,
    "GPa": units.GPa,
    "kbar": 0.1 * units.GPa,
    "bar": 1e-4 * units.GPa,
    "hartree/bohr^3": units.Hartree / units.Bohr**3,
    "rydberg/bohr^3": units.Rydberg / units.Bohr**3,
}
"""Size of each unit in eV/angstrom^3; ``eV`` is a virial, stress times volume."""

ENERGY_UNITS = {
    "eV": 1.0,
    "meV": 1e-3,
    "kJ/mol": units.kJ / units.mol,
    "kcal/mol": units.kcal / units.mol,
    "hartree": units.Hartree,
    "rydberg": units.Rydberg,
}
"""Size of each unit in eV."""

FORCES_UNITS = {
    "eV/angstrom": 1.0,
    "meV/angstrom": 1e-3,
    "kJ/mol/angstrom": units.kJ / units.mol,
    "kJ/mol/nm": 0.1 * units.kJ / units.mol,
    "kcal/mol/angstrom": units.kcal / units.mol,
    "hartree/bohr": units.Hartree / units.Bohr,
    "hartree/angstrom": units.Hartree,
    "rydberg/bohr": units.Rydberg / units.Bohr,
    "eV/bohr": 1 / units.Bohr,
}
"""Size of each unit in eV/angstrom."""

Unit = Literal[
    "eV/angstrom^3", "GPa", "kbar", "bar", "hartree/bohr^3", "rydberg/bohr^3", "eV"
]


def ordered(text: str) -> str:
    """Return six components of a symmetric tensor in one spelling (xz, not zx).

    Raises:
        ValueError: one is missing or unknown.
    """
    names = ["".join(sorted(name)) for name in text.split()]
    if sorted(names) != sorted(VOIGT.split()):
        raise ValueError(f"must name each of {VOIGT} once, such as {VASP!r} (VASP)")
    return " ".join(names)


class LabelKeys(Section):
    """How the labels of a set are to be read, where the file does not say it."""

    format: str | None = None
    """extxyz, deepmd, mlearn, fitsnap, vasp-xml, vasp-out, espresso-out, aims-output, db
    or another of ASE's; one with a slash (cp2k/output) is dpdata's. By default what the
    content shows."""
    energy_key: str | None = None
    """Name of the energy (eV); by default free_energy, whose derivative the forces are, or
    energy."""
    forces_key: str | None = None
    """Name of the forces (eV/angstrom); by default forces."""
    energy_unit: Literal["eV", "meV", "kJ/mol", "kcal/mol", "hartree", "rydberg"] | None = (
        None
    )
    """Unit of the energy; by default eV."""
    forces_unit: (
        Literal[
            "eV/angstrom",
            "meV/angstrom",
            "kJ/mol/angstrom",
            "kJ/mol/nm",
            "kcal/mol/angstrom",
            "hartree/bohr",
            "hartree/angstrom",
            "rydberg/bohr",
            "eV/bohr",
        ]
        | None
    ) = None
    """Unit of the forces; by default eV/angstrom."""
    forces_sign: Literal["force", "gradient"] | None = None
    """Whether the forces are -dE/dx, the default, or the gradient dE/dx."""
    stress_key: str | None = None
    """Name of the stress; by default stress, virial or virials. Where nothing else is said,
    a name with virial in it is eV, positive in compression; others are eV/angstrom^3,
    positive in tension."""
    stress_order: Annotated[str, AfterValidator(ordered)] | None = None
    """Order of six components, such as "xx yy zz xy yz xz" (VASP); a tensor of nine needs
    none."""
    stress_unit: Unit | None = None
    """Unit of the stress; eV is a virial: stress times volume."""
    stress_sign: Literal["tension", "compression"] | None = None
    """In which state the numbers are positive; ASE's stress: tension, a virial and VASP's
    stress: compression."""
    species: tuple[str, ...] = ()
    """Chemical symbols of types 1, 2, ... (DeePMD: 0, 1, ...) of a format that has numbers
    alone."""


class DataFile(LabelKeys):
    """A file of labels with keys of its own."""

    path: InputPath
    """File or folder."""


Source = InputPath | DataFile
"""A set of labels."""


def located_set(
    source: Path | DataFile, base: Path, keys: LabelKeys | None = None, hint: str = ""
) -> tuple[Path, LabelKeys]:
    """Return the path of a set and its keys: its own, or else those of the scenario.

    Raises:
        MissingFileError: nothing is there; ``hint`` tells where to get it.
    """
    path = source.path if isinstance(source, DataFile) else source
    own = source.model_dump(exclude_none=True) if isinstance(source, DataFile) else {}
    names = LabelKeys.model_fields
    both = {name: own.get(name, getattr(keys or LabelKeys(), name)) for name in names}
    return locate(path, base, hint), LabelKeys(**both)


def tensor(values: np.ndarray, order: str) -> np.ndarray:
    """Return ``[3, 3]`` from nine numbers, or from six in ``order``.

    Raises:
        ValueError: of another size.
    """
    flat = np.asarray(values, float).reshape(-1)
    if flat.size == 9:
        return flat.reshape(3, 3)
    if flat.size != 6:
        raise ValueError(f"a stress of {flat.size} numbers, not 6 or 9")
    found = np.empty((3, 3))
    for name, value in zip(order.split(), flat, strict=True):
        i, j = ("xyz".index(axis) for axis in name)
        found[i, j] = found[j, i] = value
    return found


__all__ = [
    "LAMMPS", "UNITS", "VASP", "VOIGT", "DataFile", "LabelKeys", "Source", "located_set",
    "tensor",
]  # fmt: skip
