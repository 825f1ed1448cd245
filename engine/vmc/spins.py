"""Lattice problems: flips, local energies and scores of a restricted Boltzmann machine.

Flipping the sites ``m`` changes the hidden angles by ``-2 sum_i W_ji s_i``, and

    cosh(theta - 2 s w) / cosh(theta) = cosh(2 w) - s tanh(theta) sinh(2 w),

so that a ratio of wavefunctions is a product over hidden units without any
transcendental function; after a flip ``tanh theta`` follows from the addition theorem.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ...models.wavefunctions.rbm import Rbm, SymmetricRbm
from .electrons import Swept, replace_bad
from .lattice import Lattice
from .parameters import Flat


@dataclass(frozen=True)
class _Moves:
    """Tables of all flips: hyperbolic functions of the change of every hidden angle."""

    sites: Tensor
    cosh: Tensor
    sinh: Tensor
    tanh: Tensor
    visible: Tensor


@dataclass(frozen=True)
class Spins:
    """A lattice Hamiltonian with a restricted Boltzmann machine.

    Attributes:
        lattice: the Hamiltonian.
        flat: the RBM with its parameters in one vector.
        moves: proposals per site and sweep.
        chunk: walkers in one pass of the local energy.
    """

    lattice: Lattice
    flat: Flat
    moves: int = 1
    chunk: int = 256

    @property
    def psi(self) -> Rbm | SymmetricRbm:
        """The wavefunction."""
        module = self.flat.module
        assert isinstance(module, Rbm | SymmetricRbm)
        return module

    @property
    def unit(self) -> str:
        """Of energies: none, they are in the units of the coupling and the field."""
        return ""

    @property
    def exact(self) -> float | None:
        """The exact energy, where one is known."""
        return self.lattice.exact

    def at(self, parameters: Tensor) -> Self:
        """Return the problem with other parameters; this one does not change."""
        return replace(self, flat=self.flat.at(parameters))

    def start(self, walkers: int, rng: torch.Generator) -> Tensor:
        """Return the first spins, ``[walkers, sites]``."""
        return self.lattice.start(walkers, rng).to(self.flat.vector)

    @torch.no_grad()
    def _tables(self) -> tuple[Tensor, Tensor, _Moves]:
        weight, bias, visible = self.psi.dense()
        flips = self.lattice.flips.to(weight.device)
        # Two sites of a flip are antiparallel: seen from the first spin the second has
        # the opposite sign.
        signs = weight.new_tensor([1.0, -1.0])[: flips.shape[1]]
        change = 2 * (weight[:, flips] * signs).sum(-1)
        shift = 2 * (visible[flips] * signs).sum(-1)
        return (
            weight,
            bias,
            _Moves(flips, change.cosh(), change.sinh(), change.tanh(), shift),
        )

    @torch.no_grad()
    def sweep(self, walkers: Tensor, width: Tensor, rng: torch.Generator) -> Swept:
        """Propose ``moves * sites`` flips, the same places for all walkers at a time.

        The order of places is random and does not depend on the state, so that the chain
        keeps ``|psi|^2``; ``width`` is passed on unused.
        """
        weight, bias, table = self._tables()
        slope = torch.tanh(walkers @ weight.T + bias)
        good = slope.isfinite().all(1)
        chosen = replace_bad(good, rng)
        walkers, slope = walkers[chosen].clone(), slope[chosen]
        count = self.moves * self.lattice.sites
        device = walkers.device
        order = torch.randint(len(table.sites), (count,), generator=rng, device=device)
        draws = torch.rand(
            count, len(walkers), generator=rng, dtype=walkers.dtype, device=device
        )
        accepted = torch.zeros((), dtype=torch.float64, device=device)
        for number, place in enumerate(order.tolist()):
            share, slope = self._try(walkers, slope, table, place, draws[number])
            accepted += share
        return Swept(walkers, width, accepted / count, (~good).sum())

    def _try(
        self, walkers: Tensor, slope: Tensor, table: _Moves, place: int, draw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Flip ``place`` where accepted (walkers in place); return share and new slope."""
        sites = table.sites[place]
        spin = walkers[:, sites[0], None]
        ratio = (table.cosh[:, place] - spin * slope * table.sinh[:, place]).prod(1)
        ratio = ratio * torch.exp(-table.visible[place] * spin[:, 0])
        taken = draw < ratio.square()
        if len(sites) == 2:
            taken = taken & (walkers[:, sites[0]] != walkers[:, sites[1]])
        step = spin * table.tanh[:, place]
        moved = (slope - step) / (1 - slope * step)
        factor = torch.where(taken, -1.0, 1.0).to(walkers.dtype)
        walkers[:, sites] = walkers[:, sites] * factor[:, None]
        return taken.double().mean(), torch.where(taken[:, None], moved, slope)

    @torch.no_grad()
    def local_energy(self, walkers: Tensor, rng: torch.Generator) -> Tensor:
        """Return ``sum over s' of H_ss' psi(s') / psi(s)``, float64 ``[walkers]``."""
        del rng
        weight, bias, table = self._tables()
        return torch.cat(
            [self._energy(part, weight, bias, table) for part in walkers.split(self.chunk)]
        )

    def _energy(self, spins: Tensor, weight: Tensor, bias: Tensor, table: _Moves) -> Tensor:
        slope = torch.tanh(spins @ weight.T + bias)
        spin = spins[:, table.sites[:, 0]]
        ratio = torch.exp(-table.visible * spin)
        for hidden in range(len(weight)):
            pull = spin * slope[:, hidden, None]
            ratio *= torch.addcmul(table.cosh[hidden], pull, table.sinh[hidden], value=-1)
        off = (self.lattice.amplitudes(spins) * ratio).double().sum(1)
        return self.lattice.diagonal(spins).double() + off

    def scores(self, walkers: Tensor) -> Tensor:
        """Return ``d log psi / d theta``, ``[walkers, parameters]``."""
        return torch.cat([self.psi.scores(part) for part in walkers.split(self.chunk)])


def lattice_bytes(
    sites: int,
    hidden: int,
    parameters: int,
    walkers: int,
    moves: int,
    chunk: int,
    bytes_per_number: int,
) -> int:
    """Estimate the largest memory of a step.

    Every hidden unit has its weights and six numbers for each flip, of which a site has up
    to four. A sweep draws a number for each of its proposals, the scores ``[walkers,
    parameters]`` are held twice, and once more with the translated spins of a chunk. The
    Gram matrix is float64 and held three times.
    """
    chunk = min(chunk, walkers)
    tables = hidden * sites * (1 + 6 * 4)
    sweep = walkers * (moves * sites + 2 * hidden)
    scores = (2 * walkers + 2 * chunk) * parameters + chunk * sites**2
    return bytes_per_number * (tables + sweep + scores) + 24 * walkers**2
