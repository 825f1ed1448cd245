"""Solve one geometry after another, each from the nearest one already solved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import runtime
from .differences import Difference, difference, warp
from .electrons import Electrons
from .evaluate import Evaluation, evaluate
from .hamiltonian import Molecule
from .optimiser import Optimiser
from .world import Vmc, VmcState

DIFFERENCE_STREAM = 1 << 42
"""Random stream of differences between geometries."""
EVALUATION_STREAM = 1 << 40
"""Random stream of the frozen evaluation, far from those of the steps."""
START_STREAM = 1 << 41
"""Random stream of what precedes the first step."""
WARM_SWEEPS = 10
"""Sweeps that equilibrate walkers moved along with the nuclei."""


@dataclass(frozen=True)
class Solution:
    """A solved geometry: enough to start a neighbouring one.

    Attributes:
        molecule: the Hamiltonian.
        parameters: averaged parameters ``[p]``.
        walkers: ``[walkers, n, 3]`` in bohr.
        width: proposal width.
    """

    molecule: Molecule
    parameters: Tensor
    walkers: Tensor
    width: Tensor


def nearest(molecule: Molecule, known: Sequence[Solution]) -> Solution | None:
    """Return the solved geometry of the same electrons and nuclei that lies nearest.

    The distance is that of all nuclei after the centres are laid on each other; rotations
    are not searched.
    """

    def fits(other: Molecule) -> bool:
        return (
            other.up == molecule.up
            and other.down == molecule.down
            and torch.equal(other.numbers, molecule.numbers)
            and torch.equal(other.nuclear_cusps, molecule.nuclear_cusps)
        )

    def distance(solution: Solution) -> float:
        a, b = solution.molecule.positions, molecule.positions
        return float(((a - a.mean(0)) - (b - b.mean(0))).norm())

    return min((s for s in known if fits(s.molecule)), key=distance, default=None)


@dataclass(frozen=True)
class Solver:
    """How geometries are solved.

    Attributes:
        make: from a molecule to a fresh problem (Hamiltonian and wavefunction).
        optimiser: how parameters change.
        walkers: their number.
        seed: of all random numbers.
        first_iterations: steps where nothing similar is known.
        iterations: steps from a neighbouring solution.
        sweeps: of the frozen evaluation.
        forces: whether forces are measured.
        burn_in: sweeps before the first step where nothing similar is known.
    """

    make: Callable[[Molecule], Electrons]
    optimiser: Optimiser
    walkers: int = 512
    seed: int = 1
    first_iterations: int = 400
    iterations: int = 100
    sweeps: int = 100
    forces: bool = True
    burn_in: int = 50

    def solve(
        self,
        molecule: Molecule,
        known: Sequence[Solution] = (),
        progress: Callable[[int, int, VmcState], None] = lambda step, steps, state: None,
    ) -> tuple[Solution, Evaluation]:
        """Optimise and measure one geometry, warm where a neighbour is known.

        Args:
            molecule: the geometry.
            known: solutions so far.
            progress: called after every step with the step, their number and the state.

        Raises:
            GuardError: walkers or optimiser became non-finite.
        """
        problem = self.make(molecule)
        world = Vmc(problem, self.optimiser, self.walkers, self.seed, self.burn_in)
        start = nearest(molecule, known)
        state = self._cold(world) if start is None else self._warm(world, start)
        steps = self.first_iterations if start is None else self.iterations
        for step in range(steps):
            state = world.step(state)
            progress(step + 1, steps, state)
        return self.measured(problem.at(state.average), state.walkers, state.width)

    def measured(
        self, problem: Electrons, walkers: Tensor, width: Tensor
    ) -> tuple[Solution, Evaluation]:
        """Return a frozen wavefunction as a solution, and what it says."""
        molecule = problem.hamiltonian
        assert isinstance(molecule, Molecule)
        rng = runtime.generator(self.seed, EVALUATION_STREAM, walkers.device)
        result = evaluate(problem, walkers, width, rng, self.sweeps, self.forces)
        parameters = problem.flat.vector
        return Solution(molecule, parameters, result.walkers, width), result

    def difference(self, one: Solution, other: Solution) -> Difference:
        """Return how far ``other`` lies above ``one``: :func:`~.differences.difference`."""
        here, there = (self.make(s.molecule).at(s.parameters) for s in (one, other))
        rng = runtime.generator(self.seed, DIFFERENCE_STREAM, one.walkers.device)
        return difference(here, there, one.walkers, one.width, rng, self.sweeps)

    def _cold(self, world: Vmc) -> VmcState:
        return world.init(runtime.generator(self.seed, START_STREAM))

    def _warm(self, world: Vmc, start: Solution) -> VmcState:
        problem = world.problem
        assert isinstance(problem, Electrons)
        world = replace(world, problem=problem.at(start.parameters))
        walkers, _ = warp(
            start.walkers, start.molecule.positions, problem.hamiltonian.positions
        )
        rng = runtime.generator(self.seed, START_STREAM)
        return world.begin(walkers, start.width, WARM_SWEEPS, rng)
