"""The world of variational Monte Carlo: one step is sweep, local energy, new parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from .. import runtime
from ..errors import GuardError
from .electrons import Swept, replace_bad
from .optimiser import Optimiser
from .parameters import Flat
from .statistics import walker_error

MEMORY = 50
"""Steps over which parameters are averaged, at most a tenth of those made."""


class Problem(Protocol):
    """A Hamiltonian with a wavefunction: electrons in space, or spins on a lattice."""

    @property
    def flat(self) -> Flat:
        """The wavefunction and its parameters."""
        ...

    @property
    def unit(self) -> str:
        """Of energies."""
        ...

    @property
    def exact(self) -> float | None:
        """The exact energy, where one is known."""
        ...

    def at(self, parameters: Tensor) -> Self:
        """Return the problem with other parameters; this one does not change."""
        ...

    def start(self, walkers: int, rng: torch.Generator) -> Tensor:
        """Return the first walkers."""
        ...

    def sweep(self, walkers: Tensor, width: Tensor, rng: torch.Generator) -> Swept:
        """Sample ``|psi|^2``."""
        ...

    def local_energy(self, walkers: Tensor, rng: torch.Generator) -> Tensor:
        """Return the local energies, float64; integrals in them are drawn from ``rng``."""
        ...

    def scores(self, walkers: Tensor) -> Tensor:
        """Return ``d log|psi| / d theta``."""
        ...


@dataclass(frozen=True)
class VmcState:
    """Everything that evolves.

    Of a batch of systems (:class:`~.batch.Batch`) all but parameters, average, memory,
    step, seed and reseeded have a leading axis ``[systems]``.

    Attributes:
        walkers: ``[walkers, ...]`` positions in bohr, or spins.
        width: proposal width.
        parameters: ``[p]``.
        average: ``[p]`` exponential average of the parameters, which is what a frozen
            evaluation uses: it removes the noise of the last steps.
        memory: of the optimiser.
        step: int64; with ``seed`` it keys all noise, so a restored state goes on bit for
            bit.
        seed: int64.
        energy: mean local energy of the last step, in the problem's unit, not clipped.
        variance: of the local energies of the last step.
        acceptance: share of accepted moves.
        reseeded: walkers replaced so far because ``psi`` or ``E_L`` was not finite.
        start: ``[2]`` mean energy before the first step and its standard error; NaN where
            it was not measured.
    """

    walkers: Tensor
    width: Tensor
    parameters: Tensor
    average: Tensor
    memory: dict[str, Tensor]
    step: Tensor
    seed: Tensor
    energy: Tensor = field(default_factory=lambda: torch.tensor(float("nan")).double())
    variance: Tensor = field(default_factory=lambda: torch.tensor(float("nan")).double())
    acceptance: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    reseeded: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    start: Tensor = field(default_factory=lambda: torch.full((2,), torch.nan).double())


def _on(walkers: Tensor, rng: torch.Generator) -> torch.Generator:
    """Return the generator, or one of its seed on the device of the walkers."""
    if walkers.device.type == rng.device.type:
        return rng
    return runtime.generator(rng.initial_seed(), 0, walkers.device)


@dataclass(frozen=True)
class Measured:
    """Walkers after a sweep, with what the optimiser needs of them.

    Attributes:
        walkers: ``[walkers, ...]``.
        width: proposal width after adaptation.
        energy: local energies ``[walkers]``, float64.
        scores: ``[walkers, p]``.
        acceptance: accepted share of the moves.
        reseeded: walkers replaced because ``psi`` or ``E_L`` was not finite.
    """

    walkers: Tensor
    width: Tensor
    energy: Tensor
    scores: Tensor
    acceptance: Tensor
    reseeded: Tensor


def measured(
    problem: Problem,
    walkers: Tensor,
    width: Tensor,
    rng: torch.Generator,
    state: VmcState,
) -> Measured:
    """Sweep walkers and measure them.

    Raises:
        GuardError: more than half of them are not finite; it carries ``state``.
    """
    swept = problem.sweep(walkers, width, rng)
    energy = problem.local_energy(swept.walkers, rng)
    good = energy.isfinite()
    if int(good.sum()) * 2 < len(good):
        raise GuardError(
            f"vmc: {len(good) - int(good.sum())} of {len(good)} local energies are not "
            "finite; a smaller rate or max_norm helps",
            int(state.step),
            state,
        )
    chosen = replace_bad(good, rng)
    walkers = swept.walkers[chosen]
    return Measured(
        walkers,
        swept.width,
        energy[chosen],
        problem.scores(walkers),
        swept.acceptance,
        swept.reseeded + (~good).sum(),
    )


def moved(state: VmcState, change: Tensor, memory: int = MEMORY) -> VmcState:
    """Return a state one step further: its parameters, and their average."""
    parameters = state.parameters + change
    keep = 1 - 1 / min(float(memory), max(int(state.step) / 10, 1.0))
    average = keep * state.average + (1 - keep) * parameters
    return replace(state, parameters=parameters, average=average, step=state.step + 1)


@dataclass(frozen=True)
class Vmc:
    """Variational Monte Carlo of one problem; implements ``Simulator``.

    Attributes:
        problem: Hamiltonian and wavefunction.
        optimiser: how parameters change.
        walkers: their number.
        seed: of all random numbers.
        burn_in: sweeps before the first step.
        memory: steps over which parameters are averaged, at most a tenth of those made.
    """

    problem: Problem
    optimiser: Optimiser
    walkers: int = 512
    seed: int = 1
    burn_in: int = 50
    memory: int = MEMORY

    def init(self, rng: torch.Generator) -> VmcState:
        """Return the first state: walkers from the Hamiltonian, equilibrated.

        The second half of ``burn_in`` is measured: where the optimisation starts.
        """
        walkers = self.problem.start(self.walkers, rng)
        rng = _on(walkers, rng)
        width = torch.tensor(0.3, dtype=torch.float64)
        walkers, width = self._equilibrated(walkers, width, self.burn_in // 2, rng)
        energies = []
        for _ in range(self.burn_in - self.burn_in // 2):
            walkers, width = self._equilibrated(walkers, width, 1, rng)
            energies.append(self.problem.local_energy(walkers, rng))
        state = self._first(walkers, width)
        if not energies:
            return state
        samples = torch.stack(energies).cpu()
        samples = torch.where(samples.isfinite(), samples, samples.nanmedian())
        start = torch.stack([samples.mean(), torch.tensor(walker_error(samples))])
        return replace(state, start=start.to(state.start))

    def begin(
        self, walkers: Tensor, width: Tensor, sweeps: int, rng: torch.Generator
    ) -> VmcState:
        """Return a state that starts from given walkers, after some sweeps."""
        rng = _on(walkers, rng)
        return self._first(*self._equilibrated(walkers, width, sweeps, rng))

    def _equilibrated(
        self, walkers: Tensor, width: Tensor, sweeps: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        for _ in range(sweeps):
            swept = self.problem.sweep(walkers, width, rng)
            walkers, width = swept.walkers, swept.width
        return walkers, width

    def _first(self, walkers: Tensor, width: Tensor) -> VmcState:
        vector = self.problem.flat.vector.clone()
        return VmcState(
            walkers,
            width,
            vector,
            vector.clone(),
            self.optimiser.start(vector),
            torch.tensor(0),
            torch.tensor(self.seed),
            start=walkers.new_full((2,), torch.nan, dtype=torch.float64),
        )

    def step(self, state: VmcState) -> VmcState:
        """Sweep, measure, and move the parameters once.

        Raises:
            GuardError: more than half of the walkers are not finite, or the optimiser's
                matrix is not.
        """
        number = int(state.step)
        rng = runtime.generator(int(state.seed), number + 1, state.walkers.device)
        problem = self.problem.at(state.parameters)
        found = measured(problem, state.walkers, state.width, rng, state)
        change, memory = self.optimiser.update(
            found.scores, found.energy, state.memory, number
        )
        return replace(
            moved(state, change, self.memory),
            memory=memory,
            walkers=found.walkers,
            width=found.width,
            energy=found.energy.mean(),
            variance=found.energy.var(),
            acceptance=found.acceptance,
            reseeded=state.reseeded + found.reseeded,
        )

    def observe(self, state: VmcState) -> Mapping[str, Tensor]:
        """Return energy and its variance (hartree), acceptance, width, reseeded walkers."""
        count = state.walkers.shape[state.variance.dim()]  # after the axis of systems
        error = (state.variance / count).sqrt()
        return {
            "energy": state.energy,
            "energy_error": error,
            "variance": state.variance,
            "acceptance": state.acceptance,
            "width": state.width,
            "reseeded": state.reseeded,
        }
