"""Continuous problems: Metropolis walkers, local energies and scores of electrons."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ...models.wavefunctions import jet
from .hamiltonian import Continuous
from .parameters import Flat


@dataclass(frozen=True)
class Swept:
    """What sampling returns.

    Attributes:
        walkers: ``[walkers, ...]``.
        width: proposal width after adaptation, float64 scalar.
        acceptance: accepted share of the moves.
        reseeded: walkers that were replaced because ``psi`` was not finite there.
    """

    walkers: Tensor
    width: Tensor
    acceptance: Tensor
    reseeded: Tensor


def replace_bad(good: Tensor, rng: torch.Generator) -> Tensor:
    """Return for every walker the walker to copy: itself, or a random good one.

    Args:
        good: ``[walkers]`` bool.
        rng: source of the choice.
    """
    own = torch.arange(len(good), device=good.device)
    if bool(good.all()) or not bool(good.any()):
        return own
    donors = own[good]
    choice = torch.randint(len(donors), (len(good),), generator=rng)
    drawn = donors[choice.to(good.device)]
    return torch.where(good, own, drawn)


@dataclass(frozen=True)
class Electrons:
    """A continuous Hamiltonian with a wavefunction: all that the world asks of a problem.

    Attributes:
        hamiltonian: molecule or trap.
        flat: the wavefunction with its parameters in one vector; called with positions
            ``[batch, n, dim]`` or their jet it returns sign and ``log|psi|``.
        moves: Metropolis moves of all electrons in one sweep.
        exchange: whether a sweep ends with an exchange of an up and a down electron, which
            connects the basins of stretched bonds.
        target: acceptance that the width is adapted to.
        chunk: walkers in one jet pass and one Jacobian pass; plain passes take as many as
            fill the same memory.
    """

    hamiltonian: Continuous
    flat: Flat
    moves: int = 10
    exchange: bool = True
    target: float = 0.5
    chunk: int = 128

    @property
    def psi(self) -> nn.Module:
        """The wavefunction."""
        return self.flat.module

    @property
    def unit(self) -> str:
        """Of energies."""
        return "hartree"

    @property
    def exact(self) -> float | None:
        """The exact energy, where one is known."""
        return self.hamiltonian.exact

    def at(self, parameters: Tensor) -> Self:
        """Return the problem with other parameters; this one does not change."""
        return replace(self, flat=self.flat.at(parameters))

    def start(self, walkers: int, rng: torch.Generator) -> Tensor:
        """Return the first walkers in the precision and on the device of the parameters."""
        return self.hamiltonian.start(walkers, rng).to(self.flat.vector)

    @torch.no_grad()
    def log_psi(self, walkers: Tensor) -> Tensor:
        """Return ``log|psi| [walkers]``."""
        wide = self.chunk * (self.hamiltonian.electrons * self.hamiltonian.dim + 2)
        return torch.cat([self.psi(part)[1] for part in walkers.split(wide)])

    @torch.no_grad()
    def sweep(self, walkers: Tensor, width: Tensor, rng: torch.Generator) -> Swept:
        """Move every walker ``moves`` times with symmetric Gaussian proposals.

        A proposal is accepted with probability ``min(1, |psi'/psi|^2)``; where ``psi'`` is
        not a number it is refused. Walkers at which ``psi`` itself is not finite are
        replaced by copies of good ones and counted.
        """
        log = self.log_psi(walkers)
        good = log.isfinite()
        chosen = replace_bad(good, rng)
        walkers, log = walkers[chosen], log[chosen]
        accepted = torch.zeros((), dtype=torch.float64)
        for _ in range(self.moves):
            noise = torch.randn(walkers.shape, generator=rng, dtype=walkers.dtype)
            proposed = walkers + float(width) * noise.to(walkers.device)
            walkers, log, taken = self._accept(proposed, walkers, log, rng)
            accepted += taken
        if self.exchange and self.hamiltonian.up and self.hamiltonian.down:
            walkers, log, _ = self._accept(self._exchanged(walkers, rng), walkers, log, rng)
        share = accepted / self.moves
        width = width * torch.exp(0.2 * (share - self.target))
        return Swept(walkers, width, share, (~good).sum().cpu())

    def _accept(
        self, proposed: Tensor, walkers: Tensor, log: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        new = self.log_psi(proposed)
        draw = torch.rand(len(log), generator=rng, dtype=log.dtype).log()
        taken = draw.to(log.device) < 2 * (new - log)
        walkers = torch.where(taken.view(-1, 1, 1), proposed, walkers)
        return walkers, torch.where(taken, new, log), taken.double().mean().cpu()

    def _exchanged(self, walkers: Tensor, rng: torch.Generator) -> Tensor:
        up, down = self.hamiltonian.up, self.hamiltonian.down
        first = torch.randint(up, (len(walkers),), generator=rng)
        second = up + torch.randint(down, (len(walkers),), generator=rng)
        each = torch.arange(len(walkers))
        order = torch.arange(up + down).repeat(len(walkers), 1)
        order[each, first], order[each, second] = second, first
        return walkers.gather(1, order.to(walkers.device)[..., None].expand_as(walkers))

    @torch.no_grad()
    def local_energy(self, walkers: Tensor) -> Tensor:
        """Return ``V - (lap log|psi| + |grad log|psi||^2) / 2``, float64 ``[walkers]``."""
        return torch.cat([energy for energy, _ in self.passes(walkers)])

    def passes(self, walkers: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield local energies and ``grad log|psi| [part, n, dim]`` chunk by chunk."""
        for part in walkers.split(self.chunk):
            log = self.psi(jet.coordinates(part))[1]
            kinetic = -0.5 * (log.laplacian + log.jacobian.square().sum(0))
            gradient = log.jacobian.T.reshape(part.shape)
            yield (self.hamiltonian.potential(part) + kinetic).double(), gradient

    def scores(self, walkers: Tensor) -> Tensor:
        """Return ``d log|psi| / d theta``, ``[walkers, parameters]``."""
        result = walkers.new_empty(len(walkers), self.flat.size)
        parameters = self.flat.named()
        buffers = dict(self.psi.named_buffers())

        def log_one(named: dict[str, Tensor], one: Tensor) -> Tensor:
            return functional_call(self.psi, (named, buffers), (one[None],))[1][0]

        each = vmap(grad(log_one), (None, 0))
        for begin in range(0, len(walkers), self.chunk):
            part = walkers[begin : begin + self.chunk]
            found = each(parameters, part)
            self.flat.join(found, result[begin : begin + self.chunk])
        return result


def needed_bytes(
    electrons: int,
    dim: int,
    walkers: int,
    chunk: int,
    parameters: int,
    width: int,
    determinants: int,
    bytes_per_number: int,
) -> int:
    """Estimate the memory of a step: scores, Gram matrix and one jet pass.

    The jet pass holds about six arrays ``[slots, chunk, n, max(width, dets * n)]`` and two
    of pairs; the scores are ``[walkers, parameters]`` and the Gram matrix is float64.
    """
    slots = electrons * dim + 2
    layer = slots * chunk * electrons * max(width, determinants * electrons)
    messages = (dim + 2) * chunk * electrons**2 * width
    scores = walkers * parameters
    return bytes_per_number * (6 * layer + 4 * messages + scores) + 24 * walkers**2
