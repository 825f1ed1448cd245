"""What is checked of a variational energy: bounds from both sides, and convergence."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..protocols import Check
from ..statistics import FEWEST, line, trend
from .electron_gas import ElectronGas
from .evaluate import Evaluation
from .excited import Lifted
from .hamiltonian import Molecule
from .hartree_fock import BASIS, hartree_fock
from .world import Problem

SIGMAS = 4.0
"""Standard errors that chance may add."""

CHEMICAL = 1.6e-3
"""Hartree for each electron by which an energy may miss the exact one (1 kcal/mol)."""

RELATIVE = 0.01
"""The same for spins and traps, relative to the exact energy."""

SETTLED = 1e-3
"""Change of the energy over the last third of the optimisation, relative to the energy of
one electron (or to the whole one of spins), that still counts as converged."""


def accuracy_checks(
    problem: Problem, result: Evaluation, course: Sequence[float], basis: str = BASIS
) -> Iterator[Check]:
    """Yield how the energy lies to the exact one, to Hartree-Fock's, and to its own past.

    Args:
        problem: Hamiltonian and wavefunction.
        result: of the frozen evaluation.
        course: energies of the optimisation, in its order.
        basis: in which the wavefunction begins at Hartree-Fock.
    """
    hamiltonian = getattr(problem, "hamiltonian", None)
    count = getattr(hamiltonian, "electrons", 1)
    if problem.exact is not None:
        molecular = problem.unit == "hartree"
        allowed = CHEMICAL * count if molecular else RELATIVE * abs(problem.exact)
        yield near_exact(result.energy, result.error, problem.exact, allowed, problem.unit)
    excited = isinstance(problem, Lifted)
    bound = None if excited else lowest_mean_field(hamiltonian, basis)
    if bound is not None:
        yield below_mean_field(result.energy, result.error, bound)
    if len(course) >= FEWEST:
        yield _converged(np.asarray(course, dtype=float), count, problem.unit)


def near_exact(
    energy: float, error: float, exact: float, allowed: float, unit: str, at: str = ""
) -> Check:
    """Check the distance of an energy from the exact one; ``at`` says where it is."""
    off, bound = abs(energy - exact), allowed + SIGMAS * error
    note = f"distance from the exact energy{at}"
    return Check("exact_energy", "accuracy", off, bound, unit=unit, note=note)


def below_mean_field(energy: float, error: float, bound: float, at: str = "") -> Check:
    """Check that an energy (hartree) lies below that of one determinant."""
    note = f"energy above Hartree-Fock's ({bound:.5f}), which is an upper bound{at}"
    allowed = SIGMAS * error
    return Check(
        "hartree_fock", "accuracy", energy - bound, allowed, unit="hartree", note=note
    )


def mean_field(problem: Problem, basis: str = BASIS) -> tuple[float, str] | None:
    """Return the energy of one determinant, above which no useful wavefunction lies.

    With it goes what it is of. None in a trap or on a lattice, where the state is excited,
    which need not lie below it, and where PySCF or its basis is missing.

    Args:
        problem: Hamiltonian and wavefunction.
        basis: of a molecule's orbitals (PySCF name).
    """
    if isinstance(problem, Lifted):
        return None
    return _of_one_determinant(getattr(problem, "hamiltonian", None), basis)


def _of_one_determinant(hamiltonian: Any, basis: str) -> tuple[float, str] | None:
    if isinstance(hamiltonian, ElectronGas):
        return hamiltonian.mean_field, "Hartree-Fock, plane waves"
    if not isinstance(hamiltonian, Molecule):
        return None
    try:
        return hartree_fock(hamiltonian, basis).energy, f"Hartree-Fock, {basis}"
    except InputError:
        return None


def lowest_mean_field(hamiltonian: Any, basis: str) -> float | None:
    """Return the lower energy of :func:`mean_field` in a basis and in the usual one."""
    found = [_of_one_determinant(hamiltonian, each) for each in {basis, BASIS}]
    return min((each[0] for each in found if each is not None), default=None)


def _converged(course: np.ndarray, electrons: int, unit: str) -> Check:
    last = course[len(course) // 3 :]
    change = abs(line(last)[0]) * len(last) / 2
    # a slope that noise explains is none
    change = change if not trend(course) <= SIGMAS else 0.0
    scale = abs(float(last.mean())) / max(electrons, 1)
    note = "change of the energy over the last third of the optimisation"
    bound = SETTLED * max(scale, math.ulp(1.0))
    return Check("converged", "accuracy", change, bound, unit=unit, note=note)


__all__ = [
    "CHEMICAL",
    "accuracy_checks",
    "below_mean_field",
    "lowest_mean_field",
    "mean_field",
    "near_exact",
]
