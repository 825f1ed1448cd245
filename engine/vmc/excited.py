"""Excited states: the Hamiltonian lifts the states already found above the next one."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from . import references
from .electrons import Electrons
from .hamiltonian import Molecule

DRAWN = 2048
"""Samples of every lower state that an overlap is measured on."""
APART = 20
"""Sweeps after which copies of a walker are independent."""
KEPT = 4
"""Times that all walkers are kept, so that few samples are drawn again soon."""


@dataclass(frozen=True)
class Lower:
    """A state already found, with samples of it.

    Attributes:
        state: the Hamiltonian and the wavefunction.
        samples: positions ``[samples, n, dim]`` drawn from its square.
        sign: of the wavefunction there, ``[samples]``.
        log: logarithm of its size there.
    """

    state: Electrons
    samples: Tensor
    sign: Tensor
    log: Tensor

    @classmethod
    @torch.no_grad()
    def sampled(
        cls, state: Electrons, walkers: Tensor, width: Tensor, rng: torch.Generator
    ) -> Self:
        """Return a state with samples of its square.

        Args:
            state: the Hamiltonian and the wavefunction.
            walkers: in equilibrium ``[walkers, n, dim]``.
            width: of the proposals.
            rng: random numbers.
        """
        walkers = walkers.repeat(-(-DRAWN // len(walkers)), 1, 1)
        kept = []
        for _ in range(APART + KEPT):
            walkers = state.sweep(walkers, width, rng).walkers
            kept.append(walkers)
        samples = torch.cat(kept[-KEPT:])
        return cls(state, samples, *state.psi_of(samples))

    def share(self, other: Electrons, rng: torch.Generator) -> Tensor:
        """Return ``<psi / psi_k>`` over the square of this state, float64.

        Args:
            other: has ``psi``.
            rng: draws the samples.
        """
        count, device = len(self.samples), self.samples.device
        chosen = torch.randint(count, (min(count, DRAWN),), generator=rng, device=device)
        sign, log = other.psi_of(self.samples[chosen])
        ratio = torch.exp((log - self.log[chosen]).double())
        return (sign * self.sign[chosen] * ratio).mean()


@dataclass(frozen=True)
class Lifted(Electrons):
    """Electrons whose states already found are lifted by a penalty.

    The ground state of ``H' = H + c sum_k |k><k| / <k|k>`` is the lowest state of ``H``
    that is orthogonal to all ``k``, once ``c`` is larger than its excitation energy: any
    energy is an upper bound of that state's, as far as the ``k`` are exact. ``H'`` adds

        c sum_k psi_k(r) / psi(r) <psi / psi_k> over |psi_k|^2

    to the local energy, and sampling, natural gradient and evaluation go on as they are.
    The second factor is measured on samples of the lower states.

    Reference: Pathak, Busemeyer, Rodrigues, Wagner, J. Chem. Phys. 154, 034101 (2021).

    Attributes:
        lower: the states below.
        penalty: ``c``, hartree.
    """

    lower: tuple[Lower, ...] = ()
    penalty: float = 1.0

    @property
    def exact(self) -> float | None:
        """The exact energy of the state, where one is known."""
        molecule = self.hamiltonian
        if not isinstance(molecule, Molecule) or molecule.cores is not None:
            return None
        numbers = [round(float(z)) for z in molecule.numbers]
        spin = molecule.up - molecule.down
        return references.excited_energy(numbers, molecule.electrons, spin, len(self.lower))

    @torch.no_grad()
    def local_energies(
        self, walkers: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return local energies of ``H'`` and ``grad log|psi|``."""
        shares = [self.penalty * each.share(self, rng) for each in self.lower]
        energy, gradient = super().local_energies(walkers, rng)
        for each, share in zip(self.lower, shares, strict=True):
            energy = energy + share * self._ratio(each, walkers)
        return energy, gradient

    def _ratio(self, lower: Lower, walkers: Tensor) -> Tensor:
        """Return ``psi_k / psi`` at walkers, float64."""
        sign, log = self.psi_of(walkers)
        known, size = lower.state.psi_of(walkers)
        return sign * known * torch.exp((size - log).double())

    @torch.no_grad()
    def overlaps(self, walkers: Tensor, rng: torch.Generator) -> Tensor:
        """Return the squared overlap with every lower state, float64 ``[lower]``.

        ``<psi_k / psi> <psi / psi_k>``, each mean over the square of its denominator.
        """
        return torch.stack(
            [
                each.share(self, rng) * self._ratio(each, walkers).mean()
                for each in self.lower
            ]
        )
