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

from ..equations.hermite import rusanov
from .finite_volume import Extremes, MomentState, MomentWorld, first_order

LONG = 1e30
"""A time after which a gas is in equilibrium."""


def robust(world: MomentWorld, runs: Tensor) -> MomentWorld:
    """Return the problem of some ``runs`` by HME, first order, local Lax-Friedrichs."""
    plain = replace(world.equations, closure=None, dissipation=rusanov)
    return replace(
        world,
        knudsen=world.knudsen[runs],
        equations=plain,
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
        world: the sharp solver of Hermite moments; its ``check`` is not asked for.
        share: see above; no wave can empty a cell that fast at a Courant number below 1.
        reach: cells set to equilibrium on both sides of a bad one; all, where that is not
            enough.
    """

    world: MomentWorld
    share: float = 0.2
    reach: int = 2

    def step(self, state: MomentState) -> MomentState:
        """Advance by ``time_step``."""
        new, extremes = self.world.attempt(state)
        if self._plainly_good(state.moments, new.moments, extremes):
            return new
        bad = self.unphysical(state.moments, new.moments)
        runs = bad.flatten(1).any(1)
        if not bool(runs.any()):
            return new
        old, world = state.moments[runs], robust(self.world, runs)
        now = float(state.time)
        again = self._equilibrium_step(world, old, self._around(bad[runs]), now)
        still = self.unphysical(old, again).flatten(1).any(1)
        if bool(still.any()):
            every = torch.ones_like(bad[runs])
            whole = self._equilibrium_step(world, old, every, now)
            again = torch.where(still.view(-1, *(1,) * (again.dim() - 1)), whole, again)
        moments, fallbacks = new.moments.clone(), new.fallbacks.clone()
        moments[runs] = again
        fallbacks[runs] = state.fallbacks[runs] + self.world.grid.cells + 1
        return replace(new, moments=moments, fallbacks=fallbacks)

    def init(self, rng: torch.Generator) -> MomentState:
        """Return the gas at rest with unit density and temperature."""
        return self.world.init(rng)

    def stable_step(self, state: MomentState, cfl: float = 0.45) -> float:
        """Return that of the world."""
        return self.world.stable_step(state, cfl)

    def paced(self, state: MomentState, time_step: float) -> "PositivityFallback":
        """Return the world of a step from ``state``."""
        return replace(self, world=self.world.paced(state, time_step))

    @property
    def time_step(self) -> float:
        """Of the world."""
        return self.world.time_step

    def observe(self, state: MomentState) -> dict[str, Tensor]:
        """Return what the world observes."""
        return self.world.observe(state)

    def _plainly_good(self, old: Tensor, new: Tensor, extremes: Extremes | None) -> bool:
        """Whether no cell can be unphysical, at a glance: nearly all steps."""
        lowest = self.world.equations.lowest
        before, after = extremes or (
            lowest(old).flatten(2).amax(2),
            lowest(new).flatten(2).amin(2),
        )
        enough = (after > self.share * before).all()
        return bool(enough & new.isfinite().all())

    def unphysical(self, old: Tensor, new: Tensor) -> Tensor:
        """Return the cells of ``new`` that are unphysical, ``[batch, *cells]``."""
        eq = self.world.equations
        before, after = eq.lowest(old), eq.lowest(new)
        least = before
        for axis in range(self.world.grid.dim):
            least = self._ring(least, 2 + axis, 1).unfold(2 + axis, 3, 1).amin(-1)
        good = (after > self.share * least).all(1) & new.isfinite().all(1)
        return ~good

    def _around(self, bad: Tensor) -> Tensor:
        near, wide = bad[:, None], 2 * self.reach + 1
        for axis in range(self.world.grid.dim):
            ring = self._ring(near, 2 + axis, self.reach)
            near = ring.unfold(2 + axis, wide, 1).any(-1)
        return near[:, 0]

    def _ring(self, values: Tensor, dim: int, wide: int) -> Tensor:
        """``values`` with ``wide`` cells more on both sides along ``dim``."""
        n = values.shape[dim]
        at = torch.arange(-wide, n + wide, device=values.device)
        periodic = self.world.sides[dim - 2].periodic
        return values.index_select(dim, at % n if periodic else at.clamp(0, n - 1))

    @staticmethod
    def _equilibrium_step(
        world: MomentWorld, old: Tensor, where: Tensor, time: float
    ) -> Tensor:
        start = world.equations.relaxed(old, LONG, world.cell_knudsen)
        start = torch.where(where[:, None], start, old)
        return start + world.time_step * world.rates(start, time)[0]
