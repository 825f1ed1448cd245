"""Gases as variable soft spheres: a table of published numbers.

Mass, viscosity at 273 K and its exponent, and the exponent of the scattering angle: G. A.
Bird, Molecular Gas Dynamics and the Direct Simulation of Gas Flows (1994), appendix A
(tables A1 to A3). Diameters follow from viscosity, exponents and mass (equation 4.62
there; for ``alpha`` 1 equation 4.62 becomes 3.62), so none is stored.
"""

import math
from dataclasses import dataclass

from ...units import ATOMIC_MASS_KG, BOLTZMANN_EV, ELEMENTARY_CHARGE

REFERENCE_TEMPERATURE = 273.0
"""K."""


@dataclass(frozen=True)
class Species:
    """One gas.

    Attributes:
        mass: amu.
        viscosity: at :data:`REFERENCE_TEMPERATURE`, Pa s.
        omega: exponent, ``mu ~ T^omega``.
        alpha: exponent of the scattering angle of soft spheres.
        atoms: of a molecule.
    """

    mass: float
    viscosity: float
    omega: float
    alpha: float
    atoms: int = 1

    def diameter(self, alpha: float | None = None) -> float:
        """Return the diameter at the reference temperature, m.

        ``d^2 = 5 (alpha + 1)(alpha + 2) sqrt(m k T / pi) / (4 alpha (5 - 2 omega)
        (7 - 2 omega) mu)``; ``alpha`` 1 gives variable hard spheres.
        """
        a = self.alpha if alpha is None else alpha
        kt = BOLTZMANN_EV * ELEMENTARY_CHARGE * REFERENCE_TEMPERATURE
        momentum = math.sqrt(self.mass * ATOMIC_MASS_KG * kt / math.pi)
        powers = (5 - 2 * self.omega) * (7 - 2 * self.omega)
        square = 5 * (a + 1) * (a + 2) * momentum / (4 * a * powers * self.viscosity)
        return math.sqrt(square)


SPECIES = {
    "helium": Species(4.0026, 1.865e-5, 0.66, 1.26),
    "neon": Species(20.180, 2.975e-5, 0.66, 1.31),
    "argon": Species(39.948, 2.117e-5, 0.81, 1.40),
    "krypton": Species(83.80, 2.328e-5, 0.80, 1.32),
    "xenon": Species(131.29, 2.107e-5, 0.85, 1.44),
    "hydrogen": Species(2.0159, 0.845e-5, 0.67, 1.35, 2),
    "nitrogen": Species(28.013, 1.656e-5, 0.74, 1.36, 2),
    "oxygen": Species(31.999, 1.919e-5, 0.77, 1.40, 2),
}

__all__ = ["REFERENCE_TEMPERATURE", "SPECIES", "Species"]
