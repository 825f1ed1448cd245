"""Sets of labels of simple potentials, for tests of what labels say of each other."""

from functools import cache

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from scalebridge.engine.data.frames import LabelledFrame
from scalebridge.engine.interop.ase import PotentialCalculator
from scalebridge.engine.md.classical import StillingerWeber


def labelled(atoms: Atoms, calculator, group: str) -> LabelledFrame:
    atoms.calc = calculator
    periodic = atoms.pbc.any()
    stress = atoms.get_stress(voigt=False) if periodic else np.zeros((3, 3))
    return LabelledFrame(
        tuple(atoms.get_chemical_symbols()), atoms.positions, np.array(atoms.cell),
        np.array(atoms.pbc), float(atoms.get_potential_energy()), atoms.get_forces(),
        -stress * atoms.get_volume() if periodic else None, group, group,
    )  # fmt: skip


def strained(cell: Atoms, size: float, rattle: float, seed: int) -> Atoms:
    random = np.random.default_rng(seed)
    atoms = cell.copy()
    strain = random.uniform(-size, size, (3, 3))
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(rattle, seed=seed)
    return atoms


def alloy() -> Atoms:
    atoms = bulk("Cu", cubic=True, a=3.75) * (2, 2, 1)
    atoms.symbols[::3] = "Au"
    return atoms


def argon() -> Atoms:
    return bulk("Ar", cubic=True, a=5.3) * (2, 1, 1)


SETS = {
    "copper": (lambda: bulk("Cu", cubic=True) * (2, 1, 1), EMT),
    "alloy": (alloy, EMT),
    "argon": (argon, lambda: LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0)),
    "silicon": (
        lambda: bulk("Si", cubic=True),
        lambda: PotentialCalculator(StillingerWeber()),
    ),
    "aluminium": (lambda: fcc111("Al", (2, 2, 3), vacuum=4.0, periodic=True), EMT),
}


@cache
def frames_of(name: str) -> tuple[LabelledFrame, ...]:
    cell, calculator = SETS[name]
    kinds = {"hot": (0.0, 0.15), "strained": (0.05, 0.03)}
    return tuple(
        labelled(strained(cell(), size, rattle, 10 * k + 1), calculator(), group)
        for group, (size, rattle) in kinds.items()
        for k in range(16)
    )
