"""A bound of a variational energy from above."""

from ..errors import InputError
from .hamiltonian import Molecule
from .hartree_fock import hartree_fock
from .world import Problem

BASIS = "aug-cc-pvdz"
"""Of Hartree-Fock: a bound in any basis."""


def upper_bound(problem: Problem) -> float | None:
    """Return the energy of one determinant, above which no useful wavefunction lies.

    None where there is no molecule, or PySCF or its basis is missing.
    """
    molecule = getattr(problem, "hamiltonian", None)
    if not isinstance(molecule, Molecule):
        return None
    try:
        return hartree_fock(molecule, BASIS).energy
    except InputError:
        return None


__all__ = ["upper_bound"]
