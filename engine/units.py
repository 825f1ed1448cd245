"""Constants and conversions, used for input and output only (CODATA 2018).

Inside ``md``: eV, angstrom, amu, and the time unit angstrom * sqrt(amu / eV) that makes
Newton's law free of factors. Inside ``gas``: non-dimensional. Inside ``vmc``: hartree
atomic units.
"""

import math

BOLTZMANN_EV = 8.617333262e-5
"""Boltzmann constant in eV / K."""

HARTREE_EV = 27.211386245988
BOHR_ANGSTROM = 0.529177210903

ELEMENTARY_CHARGE = 1.602176634e-19
ATOMIC_MASS_KG = 1.66053906660e-27

MD_TIME_FS = 1e-10 * math.sqrt(ATOMIC_MASS_KG / ELEMENTARY_CHARGE) * 1e15
"""One internal unit of time, angstrom sqrt(amu / eV), in fs (10.1805)."""

EV_PER_A3_GPA = ELEMENTARY_CHARGE * 1e30 * 1e-9
"""One eV / angstrom^3 in GPa (160.2177)."""

EV_PER_A3_BAR = EV_PER_A3_GPA * 1e4


def time_from_fs(femtoseconds: float) -> float:
    """Convert fs to the internal time unit of ``md``."""
    return femtoseconds / MD_TIME_FS
