"""The same shock by direct simulation Monte Carlo, with the potential's own scattering."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..gas.boundaries import Inflow, Sides
from ..gas.collisions.molecules import Molecules, from_potential
from ..gas.collisions.pairs import Table
from ..gas.exact import shock_jump
from ..gas.grid import Grid
from ..gas.kinetic.dsmc import DsmcWorld, Start
from .shock import GAMMA, KNUDSEN, Profile


@dataclass(frozen=True)
class ParticleShock:
    """How a shock is simulated by particles; lengths in mean free paths ahead.

    Attributes:
        mach: of the gas ahead.
        particles: per mean free path ahead (density 1).
        cells: per mean free path ahead.
        extent: half width of the box.
        settling: steps before particles are counted.
        steps: that are counted.
        blocks: from which the statistical error follows.
        seed: of all random numbers.
    """

    mach: float
    particles: float = 1500.0
    cells: int = 4
    extent: float = 16.0
    settling: int = 2000
    steps: int = 8000
    blocks: int = 16
    seed: int = 1

    def molecules(self, table: Table, temperature: float) -> Molecules:
        """Return how atoms meet; the viscosity ahead makes the mean free path 1."""
        hottest = 1.5 * shock_jump(self.mach, GAMMA)[3]
        return from_potential(table, KNUDSEN, temperature, hottest)

    def world(self, molecules: Molecules) -> DsmcWorld:
        """Return the world between the two states of the shock, held in place."""
        speed, density, after, hot = shock_jump(self.mach, GAMMA)
        grid = Grid((round(2 * self.extent * self.cells),), (-self.extent,), (self.extent,))
        behind = 0.5 * (1 + torch.tanh(0.5 * grid.centers(0)))
        rho = 1 + (density - 1) * behind
        u = torch.zeros(*grid.shape, 3, dtype=torch.float64)
        u[..., 0] = speed / rho
        # a fifth of the time between collisions behind, and less than a cell a step
        step = min(0.2 / (density * hot**0.5), 0.7 * grid.spacing[0] / (speed + hot**0.5))
        return DsmcWorld(
            grid,
            (Sides(Inflow(1.0, (speed,), 1.0), Inflow(density, (after,), hot)),),
            molecules,
            Start(rho, u, 1 + (hot - 1) * behind),
            self.particles,
            step,
            seed=self.seed,
            hold=True,
            sample_from=self.settling,
            sample_every=2,
            capacity=1.3,
        )

    def run(self, table: Table, temperature: float) -> Profile:
        """Return the profile with its statistical error.

        The square of the slope of a noisy profile is too large by the variance of the
        noise; products of the slopes of different blocks are not.
        """
        world = self.world(self.molecules(table, temperature))
        state = world.init(torch.Generator().manual_seed(self.seed))
        for _ in range(self.settling):
            state = world.step(state)
        sums, counts = [state.sums[0]], [int(state.samples)]
        for _ in range(self.blocks):
            for _ in range(self.steps // self.blocks):
                state = world.step(state)
            sums.append(state.sums[0])
            counts.append(int(state.samples))
        low, high = 1.0, shock_jump(self.mach, GAMMA)[1]
        densities = torch.stack(
            [
                (b[:, 0] - a[:, 0]) / ((m - n) * self.particles * world.grid.volume)
                for a, b, n, m in zip(sums, sums[1:], counts, counts[1:], strict=False)
            ]
        )
        blocks = (densities - low) / (high - low)
        value, error = _unbiased(blocks, world.grid.spacing[0])
        seen = world.observe(state)
        hot = shock_jump(self.mach, GAMMA)[3]
        return Profile(
            world.grid.centers(0),
            blocks.mean(0),
            (seen["temperature"][0] - 1) / (hot - 1),
            value,
            error,
        )


def _unbiased(blocks: Tensor, spacing: float) -> tuple[Tensor, float]:
    """Return ``3/2 int (d rho/dx)^2`` from products of different blocks, and its error.

    Args:
        blocks: ``[blocks, cells]`` density from 0 to 1.
        spacing: of the cells.
    """
    slopes = blocks.diff(dim=1)
    n = len(slopes)

    def measure(s: Tensor) -> Tensor:
        k = len(s)
        square = s.sum(0).square().sum() - s.square().sum()
        return 1.5 * square / (k * (k - 1) * spacing)

    left_out = torch.stack(
        [measure(torch.cat([slopes[:i], slopes[i + 1 :]])) for i in range(n)]
    )
    spread = (n - 1) / n * (left_out - left_out.mean()).square().sum()
    return measure(slopes), float(spread.sqrt())
