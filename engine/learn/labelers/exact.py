"""A potential of our own as the truth: exact and fast, for benchmarks."""

from dataclasses import dataclass

from ...md.neighbours import build_neighbours
from ...md.potential import Potential
from ..atoms import AtomsLabel, Configuration, stacked
from ..label_store import LabelError


@dataclass(frozen=True)
class PotentialLabeler:
    """Energy, forces and virial of a classical potential.

    Attributes:
        potential: Stillinger-Weber, Lennard-Jones, or any potential of ``engine.md``.
    """

    potential: Potential

    def label(self, sample: Configuration) -> AtomsLabel:
        """Evaluate.

        Raises:
            LabelError: an element that the potential does not know.
        """
        strange = sorted(set(sample.symbols) - set(self.potential.species))
        if strange:
            raise LabelError(
                f"{type(self.potential).__name__} knows "
                f"{', '.join(self.potential.species)}, not {', '.join(strange)}"
            )
        state = stacked([sample], self.potential.species)
        neighbours = build_neighbours(state, self.potential.cutoff, 0.0)
        found = self.potential(state, neighbours)
        virial = found.virial[0].double() if bool(sample.periodic.all()) else None
        return AtomsLabel(float(found.energy[0]), found.forces.double(), virial)
