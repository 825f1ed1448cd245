"""Good sets of labels of which nothing may be said."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from label_sets import labelled, strained

from scalebridge.engine.data.checks import Labels, check_placeholders
from scalebridge.engine.data.consistency import compare
from scalebridge.engine.data.stress import settle
from scalebridge.engine.data.table import outliers
from scalebridge.engine.errors import InputError


def equation_of_state():
    return [labelled(bulk("Al", cubic=True, a=a), EMT(), "") for a in (3.8, 4.0, 4.2)]


def displacements():
    """One atom at a time, so that all energies are equal by symmetry."""
    for k in range(12):
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.positions[k // 6, k % 3] += 0.01 * (-1) ** k
        yield labelled(atoms, EMT(), "")


def collisions():
    for k in range(14):
        atoms = bulk("Pd", cubic=True)
        atoms.rattle(0.08, seed=k)
        if k % 4 == 0:
            atoms.positions[1] = atoms.positions[0] + [0, 0.9, 0.9]
        yield labelled(atoms, EMT(), "")


def alloys():
    """Gold meets only its own images: what it feels of them is 0."""
    cell = bulk("Cu", cubic=True)
    cell.symbols[0] = "Au"
    return [labelled(strained(cell, 0.06, 0.08, k), EMT(), "") for k in range(8)]


def supercells():
    """Strained, so that the forces hardly tell the work."""
    cell = bulk("Cu", cubic=True).repeat(2)
    return [labelled(strained(cell, 0.02, 0.02, k), EMT(), "") for k in range(14)]


@pytest.mark.parametrize("frames", [displacements, collisions, alloys, supercells])
def test_energies_of_good_sets_are_not_refused(frames):
    assert compare(list(frames()), stated=False)


def test_forces_that_symmetry_forbids_are_no_placeholders():
    frames = equation_of_state()
    check_placeholders(frames, Labels())
    moved = [labelled(strained(bulk("Al", cubic=True), 0, 0.1, 1), EMT(), "")]
    moved[0].forces[:] = 0.0
    with pytest.raises(InputError, match="every force is exactly 0"):
        check_placeholders(moved, Labels())


def test_cells_of_one_volume_have_no_wrong_pressure():
    cell = bulk("Cu", cubic=True).repeat(2)
    hot = [labelled(strained(cell, 0.0, 0.1, k), EMT(), "") for k in range(10)]
    _, said = settle(hot, ambiguous=False, stated=False)
    assert "a pressure)" in said[0]


def test_compressed_cells_and_long_ranges_are_no_wrong_stress():
    cell = bulk("Cu", a=2.9, cubic=True)
    hot = [labelled(strained(cell, 0.0, 0.05, k), EMT(), "") for k in range(12)]
    settle(hot, ambiguous=False, stated=False)
    cell = bulk("Ar", a=5.5, cubic=True).repeat(2)
    lj = LennardJones(sigma=3.4, epsilon=0.0104, rc=5.4, smooth=True)
    liquid = [labelled(strained(cell, 0.0, 0.2, k), lj, "") for k in range(6)]
    settle(liquid, ambiguous=False, stated=False)


def test_a_stress_without_its_pressure_is_named():
    cell = bulk("Cu", cubic=True)
    frames = [labelled(strained(cell, 0.03, 0.1, k), EMT(), "") for k in range(12)]
    for frame in frames:
        assert frame.virial is not None
        frame.virial[:] -= np.eye(3) * np.trace(frame.virial) / 3
    with pytest.raises(ValueError, match="the pressure is missing"):
        settle(frames, ambiguous=False, stated=False)


def test_the_end_of_a_scan_has_no_forces():
    morse = MorsePotential(r0=1.1, epsilon=9.9, rho0=3.0)
    scan = [
        labelled(Atoms("N2", [[0, 0, 0], [0, 0, z]]), morse, "")
        for z in np.linspace(0.9, 3.0, 16)
    ]
    assert not scan[-1].forces.any() and not list(outliers(scan))
    scan[4].forces[:] = 0.0
    assert any("every force of 1 frames" in text for text in outliers(scan))
