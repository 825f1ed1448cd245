"""A moment solver with a positivity fallback: unphysical steps are taken again.

No closure of finitely many moments keeps density and temperature positive in every flow:
heat flows without a limit, and a cell runs cold. What has gone wrong shows after a step,
and the step can then be done again at lower order (Clain, Diot, Loubere, J. Comput. Phys.
230, 2011, p. 4028). Here it is done from a gas whose moments beyond Euler's are set to zero
around the cell: molecules have collided there at once, which keeps mass, momentum and
energy, makes entropy, and leaves Euler's equations, whose first-order local Lax-Friedrichs
step keeps density and temperature positive (Perthame and Shu, Numer. Math. 73, 1996,
p. 119). Runs of a batch whose step was good are untouched, bit for bit.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .hermite import HermiteState, HermiteWorld, hyperbolic, primitive
from .upwind import rusanov


def first_order(behind: Tensor, ahead: Tensor) -> Tensor:
    """Return no slope: cells are constant."""
    return torch.zeros_like(behind)


def robust(world: HermiteWorld, runs: Tensor) -> HermiteWorld:
    """Return the problem of some ``runs`` by HME, first order, local Lax-Friedrichs."""
    return replace(
        world,
        knudsen=world.knudsen[runs],
        closure=hyperbolic,
        dissipation=rusanov,
        limiter=first_order,
        check=False,
    )


@dataclass(frozen=True)
class PositivityFallback:
    """Steps with ``world``; runs that become unphysical step again from equilibrium.

    A run is unphysical where a number is not finite, or where density or temperature
    falls in one step below ``share`` of the least among a cell and its neighbours. Every
    face of a step that was done again counts as a fallback.

    Attributes:
        world: the sharp solver; its ``check`` should be off.
        share: see above; no wave can empty a cell that fast at a Courant number below 1.
        reach: cells set to equilibrium on both sides of a bad one; all, where that is not
            enough.
    """

    world: HermiteWorld
    share: float = 0.2
    reach: int = 2

    def step(self, state: HermiteState) -> HermiteState:
        """Advance by ``time_step``."""
        new = self.world.step(state)
        bad = self.unphysical(state.moments, new.moments)
        runs = bad.any(1)
        if not bool(runs.any()):
            return new
        old, world = state.moments[runs], robust(self.world, runs)
        again = self._equilibrium_step(world, old, self._around(bad[runs]))
        still = self.unphysical(old, again).any(1)
        if bool(still.any()):
            every = torch.ones_like(bad[runs])
            whole = self._equilibrium_step(world, old, every)
            again = torch.where(still[:, None, None], whole, again)
        moments, fallbacks = new.moments.clone(), new.fallbacks.clone()
        moments[runs] = again
        fallbacks[runs] = state.fallbacks[runs] + moments.shape[1] + 1
        return replace(new, moments=moments, fallbacks=fallbacks)

    def unphysical(self, old: Tensor, new: Tensor) -> Tensor:
        """Return the cells of ``new`` that are unphysical, ``[batch, cells]``."""
        before, after = primitive(old)[..., 0:3:2], primitive(new)[..., 0:3:2]
        least = self._ring(before, 1).unfold(1, 3, 1).amin(-1)
        good = (after > self.share * least).all(-1) & new.isfinite().all(-1)
        return ~good

    def _around(self, bad: Tensor) -> Tensor:
        ring = self._ring(bad[..., None], self.reach)
        return ring.unfold(1, 2 * self.reach + 1, 1).any(-1)[..., 0]

    def _ring(self, values: Tensor, wide: int) -> Tensor:
        """``[batch, cells, n]`` with ``wide`` cells more on both sides."""
        if self.world.sides[0].periodic:
            ends = values[:, -wide:], values[:, :wide]
        else:
            first, last = values[:, :1], values[:, -1:]
            ends = first.expand(-1, wide, -1), last.expand(-1, wide, -1)
        return torch.cat([ends[0], values, ends[1]], 1)

    @staticmethod
    def _equilibrium_step(world: HermiteWorld, old: Tensor, where: Tensor) -> Tensor:
        high = torch.where(where[..., None], 0.0, old[..., 3:])
        start = torch.cat([old[..., :3], high], -1)
        return start + world.time_step * world.rates(start)[0]
