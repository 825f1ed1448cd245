"""A classical potential as the truth: exact and fast, for benchmarks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, MinLen

from ....models.parts import part
from ...md.classical import LennardJones, StillingerWeber, plain, shifted
from ...md.neighbours import build_neighbours
from ...md.potential import Potential
from ..atoms import AtomsLabel, Configuration, stacked
from ..label_store import LabelError

Positive = Annotated[float, Gt(0)]


class _Classical:
    """Energy, forces and virial of ``self.potential``."""

    potential: Potential

    def label(self, sample: Configuration) -> AtomsLabel:
        """Evaluate.

        Raises:
            LabelError: an element that the potential does not know.
        """
        refusal = self.refusal(sample)
        if refusal:
            raise LabelError(f"{type(self.potential).__name__} {refusal}")
        state = stacked([sample], self.potential.species)
        neighbours = build_neighbours(state, self.potential.cutoff, 0.0)
        found = self.potential(state, neighbours)
        virial = found.virial[0].double() if bool(sample.periodic.all()) else None
        return AtomsLabel(float(found.energy[0]), found.forces.double(), virial)

    def refusal(self, sample: Configuration) -> str:
        """Return which elements the potential does not know; empty if it knows all."""
        known = self.potential.species
        strange = sorted(set(sample.symbols) - set(known))
        return f"knows {', '.join(known)}, not {', '.join(strange)}" if strange else ""


@dataclass(frozen=True)
class PotentialLabeler(_Classical):
    """Energy, forces and virial of a potential.

    Attributes:
        potential: any potential of ``engine.md``.
    """

    potential: Potential


@part
class StillingerWeberLabeler(_Classical):
    """Silicon after Stillinger and Weber (1985)."""

    kind: Literal["stillinger_weber"] = "stillinger_weber"

    @property
    def potential(self) -> Potential:  # type: ignore[override]
        """The potential, with the numbers of silicon."""
        return StillingerWeber()


@part
class LennardJonesLabeler(_Classical):
    """12-6 potential; unlike pairs by Lorentz and Berthelot."""

    epsilon: Annotated[tuple[Positive, ...], MinLen(1)]
    """Well depth of each species, eV."""
    sigma: Annotated[tuple[Positive, ...], MinLen(1)]
    """Zero of the potential for each species, angstrom."""
    cutoff: Positive
    """Angstrom."""
    species: Annotated[tuple[str, ...], MinLen(1)] = ("Ar",)
    """Chemical symbols."""
    at_cutoff: Literal["shifted", "plain"] = "shifted"
    """shifted: the energy is continuous; plain: it jumps."""
    kind: Literal["lennard_jones"] = "lennard_jones"

    def __post_init__(self) -> None:
        if not len(self.species) == len(self.epsilon) == len(self.sigma):
            raise ValueError("species, epsilon and sigma need one entry for each species")
        if len(set(self.species)) < len(self.species):
            raise ValueError("species: each symbol once")
        if self.cutoff <= 0.9 * max(self.sigma):
            raise ValueError("cutoff: lies inside the repulsive core (0.9 sigma)")

    @property
    def potential(self) -> Potential:  # type: ignore[override]
        """The potential."""
        offset = shifted if self.at_cutoff == "shifted" else plain
        return LennardJones(self.epsilon, self.sigma, self.cutoff, self.species, offset)
