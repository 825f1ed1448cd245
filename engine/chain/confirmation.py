"""Molecular dynamics of colliding pairs, beside Chapman and Enskog's integrals."""

from dataclasses import dataclass

import torch

from ..coupling.collisions import Conditions, PairCollisions, colliding
from .properties import Collisions

REPLICAS = 8
"""Independent sets of pairs, from which the error bar follows."""


@dataclass(frozen=True)
class Confirmation:
    """At which temperatures trajectories confirm the viscosity, and by how many.

    Attributes:
        temperatures: K.
        pairs: of each replica.
        seed: of their energies and impact parameters.
    """

    temperatures: tuple[float, ...]
    pairs: int
    seed: int = 1

    def at(self, gas: Collisions, temperature: float) -> dict[str, float]:
        """Return the viscosity by trajectories, its error, and that by integrals.

        Both are classical and of first order, micropascal seconds: the same number by ways
        that have nothing in common but the potential.

        Args:
            gas: classical collisions.
            temperature: K.
        """
        molecules, potential = colliding(gas.table, gas.atoms.mass)
        labeler = PairCollisions(
            molecules, self.pairs, REPLICAS, seed=self.seed, potential=potential
        )
        found = labeler.label(Conditions(temperature))
        at = torch.tensor([temperature], dtype=torch.float64)
        integral = float(gas.coefficients(at, order=1).viscosity.detach())
        return {
            "temperature": temperature,
            "value": 1e6 * found.value,
            "error": 1e6 * found.error,
            "integral": integral,
        }


__all__ = ["REPLICAS", "Confirmation"]
