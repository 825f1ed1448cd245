"""Several geometries of one molecule in one run, with one wavefunction for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import runtime
from ..protocols import Outcome
from ..run import Observed
from ..rundir import RunFolder
from .electrons import Electrons
from .optimiser import Optimiser
from .scan import Scan
from .solve import Solution
from .world import Vmc, VmcState, measured, moved


@dataclass(frozen=True)
class Batch:
    """Geometries that share the weights of their wavefunction; implements ``Simulator``.

    Each has its own nuclei, orbitals of Hartree-Fock and walkers: in a :class:`VmcState`
    all that concerns walkers has a leading axis ``[systems]``. A step lowers the mean of
    their energies by one natural gradient: scores and energies count from their means in
    each system. What one geometry learns of correlation the others need not learn again, so
    that few walkers of each are enough.

    Reference: Scherbela, Reisenhofer, Gerard, Marquetand, Grohs, Nature Computational
    Science 2, 331 (2022), for weights shared between geometries.

    Attributes:
        problems: the geometries, with wavefunctions of the same parameters.
        optimiser: how parameters change.
        walkers: their number in each system.
        seed: of all random numbers.
        burn_in: sweeps before the first step.
    """

    problems: Sequence[Electrons]
    optimiser: Optimiser
    walkers: int = 64
    seed: int = 1
    burn_in: int = 50

    def init(self, rng: torch.Generator) -> VmcState:
        """Return the first state: walkers of every system, equilibrated."""
        states = [
            Vmc(problem, self.optimiser, self.walkers, self.seed, self.burn_in).init(rng)
            for problem in self.problems
        ]
        each = ("walkers", "width", "energy", "variance", "acceptance", "start")
        device = states[0].walkers.device
        together = {
            name: torch.stack([getattr(s, name).to(device) for s in states])
            for name in each
        }
        return replace(states[0], **together)

    def step(self, state: VmcState) -> VmcState:
        """Sweep and measure every system, and move the parameters once.

        Raises:
            GuardError: see :meth:`.world.Vmc.step`.
        """
        number = int(state.step)
        rng = runtime.generator(int(state.seed), number + 1, state.walkers.device)
        found = [
            measured(problem.at(state.parameters), walkers, width, rng, state)
            for problem, walkers, width in zip(
                self.problems, state.walkers, state.width, strict=True
            )
        ]
        scores = torch.cat([each.scores - each.scores.mean(0) for each in found])
        energy = torch.cat([each.energy - each.energy.mean() for each in found])
        change, memory = self.optimiser.update(scores, energy, state.memory, number)
        return replace(
            moved(state, change),
            memory=memory,
            walkers=torch.stack([each.walkers for each in found]),
            width=torch.stack([each.width for each in found]),
            energy=torch.stack([each.energy.mean() for each in found]),
            variance=torch.stack([each.energy.var() for each in found]),
            acceptance=torch.stack([each.acceptance for each in found]),
            reseeded=state.reseeded + sum(each.reseeded for each in found),
        )

    def observe(self, state: VmcState) -> Mapping[str, Tensor]:
        """Return what :meth:`.world.Vmc.observe` does, one number for every system."""
        return Vmc(self.problems[0], self.optimiser).observe(state)


@dataclass(frozen=True)
class Curve:
    """What a batch leaves: the figures of a scan, each geometry measured on its own.

    Attributes:
        scan: the geometries and how one is measured.
        batch: the same geometries together.
    """

    scan: Scan
    batch: Batch

    def __call__(self, folder: RunFolder, state: VmcState, observed: Observed) -> Outcome:
        """Measure every geometry with the averaged parameters."""
        known: list[Solution] = []
        rows, steps = [], []
        for problem, walkers, width in zip(
            self.batch.problems, state.walkers, state.width, strict=True
        ):
            fixed = problem.at(state.average)
            solution, result = self.scan.solver.measured(fixed, walkers, width)
            steps += self.scan.steps(solution, known)
            known.append(solution)
            rows.append([result.energy, result.error, result.variance])
        return self.scan.outcome(folder, torch.tensor(rows).double(), steps)


def headline(observed: Observed) -> Mapping[str, str]:
    """Return the progress text: the mean energy of all geometries."""
    energy, error = observed["energy"], observed["energy_error"]
    spread = float(error.square().sum().sqrt()) / len(energy)
    return {"mean E": f"{float(energy.mean()):.5f} +- {spread:.5f}"}


__all__ = ["Batch", "Curve", "headline"]
