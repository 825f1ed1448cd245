"""A bias towards large uncertainty: walkers reach unknown structures sooner."""

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt

from ....models.parts import part
from ...md.learned import LearnedPotential
from ...md.neighbours import Neighbours
from ...md.state import Interaction, ParticleState
from ...protocols import Committee


@dataclass(frozen=True)
class Biased:
    """The committee's mean, and a potential that falls with the variance of its energies.

    ``U = A (exp(-v / (N B^2)) - 1)`` with ``v = <(E_m - <E>)^2>`` over the members and N
    atoms, the form of Kulichenko et al. 2023, Nat. Comput. Sci. 3, 230, eq. 1 and 2 (there
    v is a sum over members, which only rescales B). Its force is exact:
    ``-grad U = -2 A / (N B^2) exp(-v / (N B^2)) <(E_m - <E>) F_m>``; for the virial alike.
    The deviation stays that of the members' forces.

    Attributes:
        committee: at least two members.
        height: A, eV.
        width: B, eV.
    """

    committee: LearnedPotential
    height: float
    width: float

    @property
    def cutoff(self) -> float:
        """Interaction range in angstrom."""
        return self.committee.cutoff

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that the committee knows."""
        return self.committee.species

    @torch.no_grad()
    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Evaluate all systems."""
        energy, forces, virial = self.committee.by_member(state, neighbours)
        off = energy - energy.mean(0)
        scale = state.counts * self.width**2
        fall = torch.exp(-off.square().mean(0) / scale)
        slope = -2.0 * self.height / scale * fall * off / len(off)
        mean = forces.mean(0)
        deviation = (forces - mean).square().sum(-1).mean(0).sqrt()
        of_atom = slope[:, state.system.long(), None]
        return Interaction(
            energy.mean(0) + self.height * (fall - 1.0),
            mean + (of_atom * forces).sum(0),
            virial.mean(0) + (slope[..., None, None] * virial).sum(0),
            deviation,
        )


@part
class Bias:
    """A potential that pushes walkers to where the committee's energies disagree."""

    height: Annotated[float, Gt(0)]
    """Of the bias, eV."""
    width: Annotated[float, Gt(0)] = 0.1
    """Standard deviation of the energy at which the bias levels off, eV for one atom; it
    grows with the square root of the number of atoms."""

    def potential(self, committee: Committee) -> Biased:
        """Return the biased potential of a committee, in f64."""
        module = copy.deepcopy(committee[0]).double()
        return Biased(LearnedPotential(module), self.height, self.width)
