"""When the host looks at a device to learn whether a neighbour list still holds.

A list holds while no atom has moved by half the skin. On a device the host would wait in
every step for that answer alone. Instead it looks, and learns the slack (what is left of
half the skin), the largest speed v and acceleration a; it then leaves out all looks during

    2 (v t + a t^2 / 2) < slack.

The device goes on measuring, and the next look also tells whether the slack was ever used
up in between: if so, the steps since are made again, with a look at each. Lists are so made
anew at the steps at which looks at every step would have it; only the waits are fewer.
"""

import torch
from torch import Tensor

from .state import ParticleState

MOST = 20
"""Evaluations of forces without a look, at most."""


class MissedError(Exception):
    """Forces were evaluated with a list that did not hold any more."""


class Looks:
    """The looks at one trajectory; forgetting them costs a look and changes nothing else.

    Attributes:
        trusted: the last state of which it is known that all forces were right.
        steps: made since.
        always: whether no look is left out.
    """

    def __init__(self) -> None:
        self.trusted: ParticleState | None = None
        self.steps = 0
        self.always = False
        self._last: Tensor | None = None
        self._free, self._least = 0, None

    def begin(self, state: ParticleState) -> None:
        """Begin a step; a state that is not the last one made is trusted."""
        if state.positions is not self._last:
            self.trusted, self.steps = state, 0
            self._free, self._least = 0, None

    def end(self, state: ParticleState) -> None:
        """Note what a step has made."""
        self._last, self.steps = state.positions, self.steps + 1
        if self._least is None:
            self.trusted, self.steps = state, 0

    def right(self, state: ParticleState) -> bool:
        """Look whether all forces up to a state were right, as far as it was not known."""
        if state.positions is not self._last or self._least is None:
            return True
        least, self._least = float(self._least), None
        self.trusted, self.steps = state, 0
        return least > 0

    def used_up(self, slack: Tensor, state: ParticleState, dt: float) -> bool:
        """Return whether the slack of some system is used up; False without a look.

        Args:
            slack: ``[systems]``, what is left of the way that atoms may move.
            state: where forces are evaluated, with the forces before.
            dt: between evaluations, at most.

        Raises:
            MissedError: it was used up at an evaluation without a look.
        """
        slack = slack.amin()
        if self._free and not self.always:
            self._free -= 1
            self._least = slack if self._least is None else slack.minimum(self._least)
            return False
        masses = state.masses.double()
        speed, pull = (
            (x.double().norm(dim=1) / masses).amax() for x in (state.momenta, state.forces)
        )
        least = slack if self._least is None else self._least
        left, lowest, v, a = torch.stack([slack, least, speed, pull]).tolist()
        missed, self._least = self._least is not None and not lowest > 0, None
        if missed:
            raise MissedError
        times = [k * dt for k in range(1, MOST + 1)]
        self._free = sum(2 * t * (v + 0.5 * a * t) < left for t in times)
        return not left > 0
