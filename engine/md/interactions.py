"""What may act between atoms in a scenario: parts that make the potential they describe."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import MinLen
from ase.data import atomic_numbers
from pydantic import AfterValidator, Field

from ...models.parts import Family, part
from ...models.potentials.fields import Positive
from ..schema.base import InputPath, locate
from .classical import LennardJones, StillingerWeber, plain, shifted
from .learned import load_potential
from .potential import Potential


def _known(symbol: str) -> str:
    if symbol not in atomic_numbers:
        raise ValueError(f"{symbol} is no chemical element")
    return symbol


Symbol = Annotated[str, Field(pattern="^[A-Z][a-z]?$"), AfterValidator(_known)]

INTERACTIONS = Family(
    "interaction",
    __name__.removesuffix(".md.interactions"),
    {
        "lennard_jones": "md.interactions:LennardJonesInteraction",
        "stillinger_weber": "md.interactions:StillingerWeberInteraction",
        "deep_potential": "md.interactions:DeepPotentialInteraction",
        "pair_table": "coupling.tabulated:PairTableInteraction",
        "ase": "interop.ase:AseInteraction",
    },
)
"""Each has ``potential(place)``; ``reduced`` tells whether it knows reduced units."""


@dataclass(frozen=True)
class Place:
    """Where a potential is evaluated, and what its paths are relative to."""

    precision: str = "f64"
    device: str = "cpu"
    base: Path = Path()


@part
class LennardJonesInteraction:
    """12-6 potential; unlike pairs by Lorentz and Berthelot."""

    reduced: ClassVar[bool] = True
    epsilon: Annotated[tuple[Positive, ...], MinLen(1)]
    """Well depth of each species, eV (or reduced)."""
    sigma: Annotated[tuple[Positive, ...], MinLen(1)]
    """Zero of the potential for each species, angstrom (or reduced)."""
    cutoff: Positive
    """Angstrom (or reduced)."""
    species: Annotated[tuple[Symbol, ...], MinLen(1)] = ("Ar",)
    """Chemical symbols."""
    at_cutoff: Literal["shifted", "plain"] = "shifted"
    """shifted: the energy is continuous; plain: it jumps."""
    kind: Literal["lennard_jones"] = "lennard_jones"

    def __post_init__(self) -> None:
        """Refuse numbers that do not belong to the species, and a useless cutoff.

        Raises:
            ValueError: one of the two.
        """
        if not len(self.species) == len(self.epsilon) == len(self.sigma):
            raise ValueError("species, epsilon and sigma need one entry for each species")
        if len(set(self.species)) < len(self.species):
            raise ValueError("species: each symbol once")
        if self.cutoff <= 0.9 * max(self.sigma):
            raise ValueError("cutoff: lies inside the repulsive core (0.9 sigma)")

    def potential(self, place: Place = Place()) -> LennardJones:
        """Return the potential; it follows the precision and device of the state."""
        offset = shifted if self.at_cutoff == "shifted" else plain
        return LennardJones(self.epsilon, self.sigma, self.cutoff, self.species, offset)


@part
class StillingerWeberInteraction:
    """Silicon after Stillinger and Weber (1985)."""

    kind: Literal["stillinger_weber"] = "stillinger_weber"

    def potential(self, place: Place = Place()) -> StillingerWeber:
        """Return the potential; it follows the precision and device of the state."""
        return StillingerWeber()


@part
class DeepPotentialInteraction:
    """A trained network, or a committee of them; any form that a card names."""

    model: InputPath
    """Weights (safetensors) with their card in the same folder."""
    kind: Literal["deep_potential"] = "deep_potential"

    def potential(self, place: Place) -> Potential:
        """Load the network.

        Raises:
            InputError: the model is missing, or no potential.
            DamagedFileError: it does not match its hash.
        """
        path = locate(self.model, place.base)
        return load_potential(path, place.precision, place.device)


__all__ = [
    "INTERACTIONS",
    "DeepPotentialInteraction",
    "LennardJonesInteraction",
    "Place",
    "StillingerWeberInteraction",
    "Symbol",
]
