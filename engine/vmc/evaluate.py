"""Frozen evaluation: what a wavefunction says, with error bars."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .electron_gas import ElectronGas
from .electrons import Electrons
from .forces import force_samples
from .hamiltonian import Molecule
from .statistics import autocorrelation_time, blocked_error, walker_error
from .world import Problem


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error (tensors of one shape)."""

    value: Tensor
    error: Tensor

    def __float__(self) -> float:
        return float(self.value)


@dataclass(frozen=True)
class Evaluation:
    """Results of a frozen wavefunction.

    Attributes:
        energy: hartree; nothing is clipped.
        error: standard error: the larger of blocking over time and of independent walkers.
        variance: of the local energy, hartree^2 (median over sweeps, which a rare walker
            near a node does not spoil).
        correlation: integrated autocorrelation time in sweeps.
        forces: ``[nuclei, 3]`` hartree / bohr with errors, if asked for.
        spin: ``<S^2>``, if asked for.
        samples: local energies ``[sweeps, walkers]``.
        walkers: last walkers, for whatever is measured next.
        reseeded: walkers replaced because ``psi`` or ``E_L`` was not finite.
    """

    energy: float
    error: float
    variance: float
    correlation: float
    samples: Tensor
    walkers: Tensor
    forces: Estimate | None = None
    spin: Estimate | None = None
    reseeded: int = 0

    @property
    def series(self) -> Tensor:
        """Mean local energy of every sweep ``[sweeps]``."""
        return self.samples.mean(1)


def evaluate(
    problem: Problem,
    walkers: Tensor,
    width: Tensor,
    rng: torch.Generator,
    sweeps: int = 100,
    forces: bool = False,
    spin: bool = False,
    visit: Callable[[Tensor], None] = lambda walkers: None,
) -> Evaluation:
    """Sample a wavefunction that does not change and average over all sweeps.

    The proposal width stays at its value, so that the chain is stationary; a tenth of the
    sweeps equilibrate first.

    Args:
        problem: Hamiltonian and wavefunction (its parameters are used as they are).
        walkers: start of the chain.
        width: proposal width.
        rng: random numbers.
        sweeps: number of measurements of every walker.
        forces: also measure forces on nuclei (molecules only).
        spin: also measure ``S^2`` (continuous problems only).
        visit: called with the walkers after each sweep: densities and the like.
    """
    for _ in range(max(sweeps // 10, 3)):
        walkers = problem.sweep(walkers, width, rng).walkers
    energies, pulls, spins, lost = [], [], [], 0
    for _ in range(sweeps):
        swept = problem.sweep(walkers, width, rng)
        walkers, lost = swept.walkers, lost + swept.reseeded
        visit(walkers)
        if forces and isinstance(problem, Electrons):
            energy, pull = force_samples(problem, walkers, rng)
            pulls.append(pull.cpu())
        else:
            energy = problem.local_energy(walkers, rng)
        energies.append(energy.cpu())
        if spin and isinstance(problem, Electrons):
            spins.append(spin_samples(problem, walkers).cpu())
    samples = torch.stack(energies)
    good = samples.isfinite()
    samples = torch.where(good, samples, samples[good].median())
    mean = float(samples.mean())
    return Evaluation(
        mean,
        max(blocked_error(samples.mean(1)), walker_error(samples)),
        float(samples.var(1).median()),
        autocorrelation_time(samples),
        samples,
        walkers,
        _force_estimate(problem, torch.stack(pulls), samples) if pulls else None,
        _estimate(torch.stack(spins)) if spins else None,
        int(lost) + int((~good).sum()),
    )


def _estimate(samples: Tensor) -> Estimate:
    """Mean over ``[sweeps, walkers, ...]`` with the error of independent walkers."""
    means = samples.double().mean(0)
    return Estimate(means.mean(0), means.std(0) / len(means) ** 0.5)


def _force_estimate(problem: Problem, pulls: Tensor, energies: Tensor) -> Estimate:
    """Join the two parts of :func:`~.forces.force_samples` once the mean is known."""
    bare, weight = pulls.unbind(2)
    centred = (energies - energies.mean())[..., None, None]
    return _estimate(bare - 2 * centred * weight)


@torch.no_grad()
def spin_samples(problem: Electrons, walkers: Tensor) -> Tensor:
    """Return the estimator of ``S^2``, ``[walkers]``.

    ``S^2 = M (M + 1) + n_down - sum over i up, j down of psi(r_i <-> r_j) / psi`` with
    ``M = (n_up - n_down) / 2`` (Huang, Filippi, Umrigar, J. Chem. Phys. 108, 8838 (1998)).
    """
    up, down = problem.hamiltonian.up, problem.hamiltonian.down
    projection = (up - down) / 2
    total = walkers.new_full((len(walkers),), projection * (projection + 1) + down).double()
    sign, log = problem.psi(walkers)
    for i in range(up):
        for j in range(up, up + down):
            order = list(range(up + down))
            order[i], order[j] = j, i
            other, new = problem.psi(walkers[:, order])
            total -= (other * sign * torch.exp(new - log)).double()
    return total


class Density:
    """Counts particles on a grid: ``n(r)`` in bohr^-dim, normalised to their number.

    Args:
        problem: gives the box: nuclei with a margin.
        cells: along each axis.
        margin: bohr around the outermost nuclei.
    """

    def __init__(self, problem: Electrons, cells: int = 48, margin: float = 4.0) -> None:
        centres = problem.hamiltonian.positions
        self.low = centres.min(0).values - margin
        self.high = centres.max(0).values + margin
        self.cells = cells
        dim = problem.hamiltonian.dim
        self.counts = torch.zeros(cells**dim, dtype=torch.float64)
        self.samples = 0

    def __call__(self, walkers: Tensor) -> None:
        """Count all particles of all walkers; those outside the box are left out."""
        dim = walkers.shape[-1]
        flat = walkers.double().cpu().reshape(-1, dim)
        place = ((flat - self.low) / (self.high - self.low) * self.cells).floor().long()
        inside = ((place >= 0) & (place < self.cells)).all(-1)
        index = torch.zeros(int(inside.sum()), dtype=torch.int64)
        for axis in range(dim):
            index = index * self.cells + place[inside, axis]
        self.counts += torch.bincount(index, minlength=len(self.counts))
        self.samples += len(walkers)

    def field(self) -> Tensor:
        """Return the density ``[cells] * dim``."""
        dim = len(self.low)
        cell = float(((self.high - self.low) / self.cells).prod())
        return (self.counts / max(self.samples, 1) / cell).view(*[self.cells] * dim)


class PairCorrelation:
    """Counts distances: ``g(r)`` of equal and of opposite spins, 1 where they are chance.

    Args:
        gas: gives the edge of the cell; distances up to its half are counted.
        bins: of distances.
    """

    def __init__(self, gas: ElectronGas, bins: int = 40) -> None:
        self.gas, self.samples = gas, 0
        self.edges = torch.linspace(0, gas.period / 2, bins + 1, dtype=torch.float64)
        self.counts = torch.zeros(2, bins, dtype=torch.float64)

    def __call__(self, walkers: Tensor) -> None:
        """Count the pairs of all walkers."""
        r, period = walkers.double().cpu(), self.gas.period
        i, j = torch.triu_indices(r.shape[1], r.shape[1], 1)
        apart = r[:, i] - r[:, j]
        apart = apart - period * (apart / period).round()
        distance = apart.norm(dim=-1)
        for number, chosen in enumerate(self._kinds(i, j)):
            found = torch.histogram(distance[:, chosen].flatten(), self.edges)
            self.counts[number] += found.hist
        self.samples += len(r)

    def _kinds(self, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        opposite = (i < self.gas.up) & (j >= self.gas.up)
        return ~opposite, opposite

    def columns(self) -> dict[str, Tensor]:
        """Return distances and, of the spins that there are, ``g``."""
        i, j = torch.triu_indices(self.gas.electrons, self.gas.electrons, 1)
        shell = 4 / 3 * math.pi * self.edges.pow(3).diff() / self.gas.period**3
        columns = {"r": 0.5 * (self.edges[1:] + self.edges[:-1])}
        names = ("equal", "opposite")
        for name, count, chosen in zip(names, self.counts, self._kinds(i, j), strict=True):
            pairs = int(chosen.sum())
            if pairs:
                columns[name] = count / (max(self.samples, 1) * pairs * shell)
        return columns


def can_have_forces(problem: Problem) -> bool:
    """Tell whether there are nuclei that feel a force."""
    return isinstance(problem, Electrons) and isinstance(problem.hamiltonian, Molecule)
