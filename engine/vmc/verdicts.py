"""What is checked of a variational energy: bounds from both sides, and convergence."""

import math
from collections.abc import Iterator, Sequence

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
    problem: Problem, result: Evaluation, course: Sequence[float]
) -> Iterator[Check]:
    """Yield how the energy lies to the exact one, to Hartree-Fock's, and to its own past.

    Args:
        problem: Hamiltonian and wavefunction.
        result: of the frozen evaluation.
        course: energies of the optimisation, in its order.
    """
    noise = SIGMAS * result.error
    count = getattr(getattr(problem, "hamiltonian", None), "electrons", 1)
    if problem.exact is not None:
        off = abs(result.energy - problem.exact)
        molecular = problem.unit == "hartree"
        allowed = CHEMICAL * count if molecular else RELATIVE * abs(problem.exact)
        note = "distance from the exact energy"
        yield Check(
            "exact_energy", "accuracy", off, allowed + noise, unit=problem.unit, note=note
        )
    found = mean_field(problem)
    if found is not None:
        bound, _ = found
        above = result.energy - bound
        note = f"energy above Hartree-Fock's ({bound:.5f}), which is an upper bound"
        yield Check("hartree_fock", "accuracy", above, noise, unit="hartree", note=note)
    if len(course) >= FEWEST:
        yield _converged(np.asarray(course, dtype=float), count, problem.unit)


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
    hamiltonian = getattr(problem, "hamiltonian", None)
    if isinstance(hamiltonian, ElectronGas):
        return hamiltonian.mean_field, "Hartree-Fock, plane waves"
    if not isinstance(hamiltonian, Molecule):
        return None
    try:
        return hartree_fock(hamiltonian, basis).energy, f"Hartree-Fock, {basis}"
    except InputError:
        return None


def _converged(course: np.ndarray, electrons: int, unit: str) -> Check:
    last = course[len(course) // 3 :]
    change = abs(line(last)[0]) * len(last) / 2
    # a slope that noise explains is none
    change = change if not trend(course) <= SIGMAS else 0.0
    scale = abs(float(last.mean())) / max(electrons, 1)
    note = "change of the energy over the last third of the optimisation"
    bound = SETTLED * max(scale, math.ulp(1.0))
    return Check("converged", "accuracy", change, bound, unit=unit, note=note)


__all__ = ["accuracy_checks", "mean_field"]
