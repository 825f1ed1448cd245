"""Energy differences of near geometries by correlated sampling."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .electrons import Electrons

OVERLAP = 0.5
"""Smallest share of the walkers that must count after reweighting."""


@dataclass(frozen=True)
class Difference:
    """The energy of one geometry above that of another.

    Attributes:
        value: hartree; not a number where ``overlap`` is below :data:`OVERLAP`, as it then
            hangs on a few walkers.
        error: its standard error, of independent walkers.
        overlap: share ``<w>^2 / <w^2>`` of the walkers that count after reweighting.
    """

    value: float
    error: float
    overlap: float


def warp(walkers: Tensor, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Move electrons with the nuclei near them.

    ``r' = r + sum_A w_A(r) (R'_A - R_A)`` with ``w_A`` proportional to ``|r - R_A|^-4``
    (Umrigar, Int. J. Quantum Chem. Symp. 23, 217 (1989); Filippi and Umrigar, Phys. Rev. B
    61, R16291 (2000), eq. 7).

    Args:
        walkers: ``[walkers, n, 3]``.
        old: nuclei ``[nuclei, 3]``.
        new: nuclei after the move.

    Returns:
        The walkers moved, and ``log |dr'/dr| [walkers]``.
    """
    old, new = old.to(walkers), new.to(walkers)
    away = walkers[:, :, None] - old
    near = away.square().sum(-1) + 1e-6
    share = near.pow(-2)
    total = share.sum(-1, keepdim=True)
    weight = share / total
    slope = -4 * (share / near)[..., None] * away / total[..., None]
    slope = slope - weight[..., None] * slope.sum(-2, keepdim=True)
    stretch = torch.eye(3).to(walkers) + (new - old).T @ slope
    return walkers + weight @ (new - old), torch.linalg.det(stretch).abs().log().sum(-1)


@torch.no_grad()
def difference(
    one: Electrons,
    other: Electrons,
    walkers: Tensor,
    width: Tensor,
    rng: torch.Generator,
    sweeps: int = 100,
) -> Difference:
    """Return how far the energy of ``other`` lies above that of ``one``.

    Walkers of ``one`` are moved along with the nuclei (:func:`warp`) and weighted,

        w = |psi'(r')|^2 / |psi(r)|^2 |dr'/dr|,    E' - E = <w E'_L(r')> / <w> - <E_L(r)>,

    so that most of the noise of both energies cancels.

    Args:
        one: the molecule that is sampled, with its wavefunction.
        other: the same nuclei elsewhere, with theirs.
        walkers: of ``one``, in equilibrium.
        width: proposal width.
        rng: random numbers.
        sweeps: number of measurements of every walker.
    """
    nuclei = one.hamiltonian.positions, other.hamiltonian.positions
    weights, here, there = [], [], []
    for _ in range(sweeps):
        walkers = one.sweep(walkers, width, rng).walkers
        moved, stretch = warp(walkers, *nuclei)
        gain = 2 * (other.log_psi(moved) - one.log_psi(walkers)) + stretch
        weights.append(gain.double())
        here.append(one.local_energy(walkers, rng))
        there.append(other.local_energy(moved, rng))
    weight = torch.stack(weights)
    weight = (weight - weight.max()).exp()
    weight = weight / weight.mean()
    overlap = 1 / float(weight.square().mean())
    if not overlap >= OVERLAP:
        return Difference(math.nan, math.nan, overlap)
    first, second = torch.stack(here), torch.stack(there)
    energy, above = first.mean(), (weight * second).mean()
    # what every walker adds to the two means, to first order
    share = (weight * (second - above) - (first - energy)).mean(0)
    error = float(share.std()) / math.sqrt(len(share))
    return Difference(float(above - energy), error, overlap)
