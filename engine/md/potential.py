"""What molecular dynamics asks of a potential."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from .neighbours import Neighbours
from .state import Interaction, ParticleState


class Potential(Protocol):
    """Energy, forces and virial of all systems at once.

    Attributes:
        cutoff: interaction range in angstrom.
        species: chemical symbols that it knows; ``ParticleState.species`` indexes them.
    """

    @property
    def cutoff(self) -> float:
        """Range of the interaction, angstrom."""
        ...

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols, in the order of their indices."""
        ...

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Evaluate at ``state.positions`` with a list valid for them."""
        ...


@runtime_checkable
class ForcesAlone(Protocol):
    """A potential that is faster when nobody asks for energy, virial and deviation."""

    def forces(self, state: ParticleState, neighbours: Neighbours) -> Tensor:
        """Return the forces ``[atoms, 3]`` of the full evaluation, to rounding."""
        ...
