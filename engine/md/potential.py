"""What molecular dynamics asks of a potential."""

from typing import Protocol

from .state import Interaction, Neighbours, ParticleState


class Potential(Protocol):
    """Energy, forces and virial of all systems at once.

    Attributes:
        cutoff: interaction range in angstrom.
        species: chemical symbols that it knows; ``ParticleState.species`` indexes them.
    """

    cutoff: float
    species: tuple[str, ...]

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Evaluate at ``state.positions`` with a list valid for them."""
        ...
