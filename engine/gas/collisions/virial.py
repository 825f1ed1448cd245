r"""Second virial coefficient of a pair potential, with two quantum corrections.

    B = -2 pi int (e^{-V/kT} - 1) r^2 dr
        + 2 pi (hbar^2/m) / (12 (kT)^3) int V'^2 e^{-V/kT} r^2 dr
        - 2 pi (hbar^2/m)^2 / (120 (kT)^4) int (V''^2 + 2 V'^2/r^2 + 10/9 V'^3/(kT r)
          - 5/36 V'^4/(kT)^2) e^{-V/kT} r^2 dr

(E. Wigner, J. G. Kirkwood; J. O. Hirschfelder, C. F. Curtiss, R. B. Bird, Molecular Theory
of Gases and Liquids, 1954, section 6.5; m is the mass of one atom).
"""

import math

import torch
from torch import Tensor

from ...units import ATOMIC_MASS_KG, BOLTZMANN_EV, ELEMENTARY_CHARGE
from .pairs import Table
from .scattering import gauss

_HBAR = 1.054571817e-34
_AVOGADRO = 6.02214076e23


def second_virial(
    table: Table, temperatures: Tensor, mass: float, corrections: int = 2
) -> Tensor:
    """Return B ``[temperatures]`` in cm^3/mol.

    Args:
        table: energies in K, distances in angstrom.
        temperatures: K.
        mass: amu.
        corrections: quantum ones, 0 to 2.
    """
    low, high = math.log(table.smallest), math.log(table.largest)
    x, w = gauss(24)
    edges = torch.linspace(low, high, 41, dtype=torch.float64)
    t = (edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * x).flatten()
    weight = ((edges[1:] - edges[:-1])[:, None] * w).flatten()
    r = t.exp()
    v, first, second = table.at(t, 2)
    slope, bend = first / r, (second - first) / r**2
    boltzmann = BOLTZMANN_EV * ELEMENTARY_CHARGE
    length = _HBAR**2 / (mass * ATOMIC_MASS_KG * boltzmann) * 1e20  # K angstrom^2
    weight = weight * r**3
    inside = 2 * math.pi / 3 * table.smallest**3
    found = []
    for kT in temperatures:
        e = torch.exp(-v / kT)
        b = inside - 2 * math.pi * (torch.expm1(-v / kT) * weight).sum()
        if corrections > 0:
            b = b + math.pi / 6 * length / kT**3 * (slope**2 * e * weight).sum()
        if corrections > 1:
            square = bend**2 + 2 * slope**2 / r**2 + 10 / 9 * slope**3 / (kT * r)
            square = square - 5 / 36 * slope**4 / kT**2
            b = b - math.pi / 60 * length**2 / kT**4 * (square * e * weight).sum()
        found.append(b)
    return torch.stack(found) * _AVOGADRO * 1e-24


__all__ = ["second_virial"]
