"""Continuous problems: Metropolis walkers, local energies and scores of electrons."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from ...models.wavefunctions import jet
from .. import runtime
from .cores import Hops
from .hamiltonian import Continuous
from .parameters import Flat
from .scores import layout, write_scores

MOVES = 5
"""Moves of a sweep: of lithium hydride five leave an autocorrelation time of 1.7 sweeps of
the local energy where ten leave 1.2, for half the cost."""

SHARE = 10000
"""Electrons, times the slots of their jets, in a pass from which on it is worth a thread:
with fewer the threads wait for the interpreter."""


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

    The host does not wait for the device.

    Args:
        good: ``[walkers]`` bool.
        rng: source of the choice, on the same device.
    """
    own = torch.arange(len(good), device=good.device)
    count = good.sum()
    draw = torch.rand(len(good), generator=rng, device=good.device)
    first = torch.argsort(good.to(torch.uint8), descending=True, stable=True)
    donor = first[(draw * count).long().clamp(max=len(good) - 1)]
    return torch.where(good | (count == 0), own, donor)


@dataclass(frozen=True)
class Electrons:
    """A continuous Hamiltonian with a wavefunction: all that the world asks of a problem.

    Attributes:
        hamiltonian: molecule or trap.
        flat: the wavefunction with its parameters in one vector; called with positions
            ``[batch, n, dim]`` or their jet it returns sign and ``log|psi|``.
        moves: Metropolis moves of all electrons in one sweep.
        exchange: whether half of the walkers, drawn by lot, take an exchange of an up and a
            down electron as their last move of a sweep: it connects the basins of stretched
            bonds.
        target: acceptance that the width is adapted to.
        chunk: walkers in one jet pass and, four times as many, in one pass of scores; plain
            passes take as many as fill the same memory. Threads share what is more than a
            few thousand electrons.
    """

    hamiltonian: Continuous
    flat: Flat
    moves: int = MOVES
    exchange: bool = True
    target: float = 0.4
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
        return self.psi_of(walkers)[1]

    def _shares(self, x: Tensor, most: int, slots: int = 1) -> tuple[Tensor, ...]:
        """Split walkers for threads; a pass holds ``slots`` numbers for each it would."""
        return runtime.shares(x, most, -(-SHARE // (self.hamiltonian.electrons * slots)))

    def psi_of(self, walkers: Tensor) -> tuple[Tensor, Tensor]:
        """Return sign and ``log|psi|``, both ``[walkers]``, in wide passes."""
        wide = self.chunk * (self.hamiltonian.electrons * self.hamiltonian.dim + 2)
        parts = runtime.spread(self.psi, self._shares(walkers, wide))
        signs, logs = zip(*parts, strict=True)
        return torch.cat(signs), torch.cat(logs)

    @torch.no_grad()
    def sweep(self, walkers: Tensor, width: Tensor, rng: torch.Generator) -> Swept:
        """Move every walker ``moves`` times, all electrons at a time.

        An electron moves by ``width * s(r)`` times a normal vector, with the length ``s``
        of its surroundings (``scale`` of the Hamiltonian): short steps in the core, long
        ones outside. With the density ``q`` of the proposal a move is accepted with
        probability ``min(1, |psi'/psi|^2 q(r | r') / q(r' | r))``; where ``psi'`` is not a
        number it is refused. Walkers at which ``psi`` itself is not finite are replaced by
        copies of good ones and counted. The host waits for nothing.
        """
        log = self.log_psi(walkers)
        good = log.isfinite()
        chosen = replace_bad(good, rng)
        walkers, log = walkers[chosen], log[chosen]
        accepted = torch.zeros((), dtype=torch.float64, device=walkers.device)
        step = width.to(walkers)
        scale = self.hamiltonian.scale(walkers)
        kinds = self.exchange and self.hamiltonian.up and self.hamiltonian.down
        for number in range(self.moves):
            noise = torch.randn(
                walkers.shape, generator=rng, dtype=walkers.dtype, device=walkers.device
            )
            proposed = walkers + step * scale * noise
            other = self.hamiltonian.scale(proposed)
            ratio = scale / other
            bias = 0.5 * noise.square() * (1 - ratio.square()) + ratio.log()
            bias, made = bias.sum((1, 2)), torch.ones_like(log)
            if kinds and number == self.moves - 1:
                made = torch.rand(log.shape, generator=rng, device=log.device).round()
                moved = made[:, None, None] > 0
                proposed = torch.where(moved, proposed, self._exchanged(walkers, rng))
                bias = bias * made
            taken, log = self._accept(proposed, log, bias, rng)
            walkers = torch.where(taken, proposed, walkers)
            scale = torch.where(taken, other, scale)
            accepted += (taken[:, 0, 0] * made).double().sum() / made.sum().clamp(min=1)
        share = accepted / self.moves
        width = width.to(share) * torch.exp(0.2 * (share - self.target))
        return Swept(walkers, width, share, (~good).sum())

    def _accept(
        self, proposed: Tensor, log: Tensor, bias: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return which proposals are taken, ``[walkers, 1, 1]``, and their logarithms."""
        new = self.log_psi(proposed)
        draw = torch.rand(len(log), generator=rng, dtype=log.dtype, device=log.device)
        taken = draw.log() < 2 * (new - log) + bias
        return taken[:, None, None], torch.where(taken, new, log)

    def _exchanged(self, walkers: Tensor, rng: torch.Generator) -> Tensor:
        up, down, device = self.hamiltonian.up, self.hamiltonian.down, walkers.device
        count = (len(walkers), 1)
        first = torch.randint(up, count, generator=rng, device=device)
        second = up + torch.randint(down, count, generator=rng, device=device)
        order = torch.arange(up + down, device=device).repeat(len(walkers), 1)
        order.scatter_(1, first, second)
        order.scatter_(1, second, first)
        return walkers.gather(1, order[..., None].expand_as(walkers))

    @torch.no_grad()
    def local_energy(self, walkers: Tensor, rng: torch.Generator) -> Tensor:
        """Return ``H psi / psi``, float64 ``[walkers]``.

        ``V - (lap log|psi| + |grad log|psi||^2) / 2``, and the integrals of a non-local
        potential over directions that are drawn from ``rng``.
        """
        return self.local_energies(walkers, rng)[0]

    @torch.no_grad()
    def local_energies(
        self, walkers: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return local energies and ``grad log|psi| [walkers, n, dim]``."""
        slots = walkers[0].numel() + 2
        parts = runtime.spread(self._measured, self._shares(walkers, self.chunk, slots))
        energy, gradient, sign, log = map(torch.cat, zip(*parts, strict=True))
        hopped = []
        for some, *psi in zip(
            *(each.split(self.chunk) for each in (walkers, sign, log)), strict=True
        ):
            hops = self.hamiltonian.hops(some, rng)
            if hops is None:
                return energy, gradient
            hopped.append(self._hopped(hops, *psi))
        return energy + torch.cat(hopped), gradient

    def _measured(self, walkers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return local energies without hops, gradients, sign and logarithm."""
        sign, log = self.psi(jet.coordinates(walkers))
        kinetic = -0.5 * (log.laplacian + log.jacobian.square().sum(0))
        energy = (self.hamiltonian.potential(walkers) + kinetic).double()
        return energy, log.jacobian.T.reshape(walkers.shape), sign, log.value

    def _hopped(self, hops: Hops, sign: Tensor, log: Tensor) -> Tensor:
        """Return ``sum over hops of w psi(r') / psi(r)``, float64 ``[walkers]``."""
        signs, logs = self.psi_of(hops.positions)
        ratio = sign[hops.walkers] * signs * torch.exp(logs - log[hops.walkers])
        terms = (hops.weights * ratio).double()
        return torch.zeros_like(log, dtype=terms.dtype).index_add_(0, hops.walkers, terms)

    def scores(self, walkers: Tensor) -> Tensor:
        """Return ``d log|psi| / d theta``, ``[walkers, parameters]``."""
        result = walkers.new_empty(len(walkers), self.flat.size)
        known = self.flat.known
        if "layout" not in known:
            known["layout"] = layout(self.flat, walkers[:1])
        parts = [self._shares(each, 4 * self.chunk) for each in (walkers, result)]
        write = partial(write_scores, self.flat, known["layout"])
        if known["layout"].batched is None:  # puts other parameters into the one module
            for some, out in zip(*parts, strict=True):
                write(some, out)
        else:
            runtime.spread(write, *parts)
        return result


def needed_bytes(
    electrons: int,
    dim: int,
    walkers: int,
    chunk: int,
    parameters: int,
    width: int,
    pair_numbers: int,
    layers: int,
    determinants: int,
    bytes_per_number: int,
) -> int:
    """Estimate the largest memory of a step.

    It is that of one jet pass or of the scores. A jet pass holds about six arrays ``[slots,
    chunk, n, channels]``, channels the larger of the width and of all orbitals, and four of
    pairs ``[chunk, n, n, pair_numbers]``. The scores are ``[walkers, parameters]``
    with outer products beside them, and every layer keeps four chunks of activations; the
    Gram matrix is float64 and held three times. Parameters are held six times (average,
    direction, copies).
    """
    slots = electrons * dim + 2
    layer = slots * chunk * electrons * max(width, determinants * electrons)
    messages = chunk * electrons**2 * pair_numbers
    pairs = electrons * pair_numbers // (dim + 2)
    kept = 4 * chunk * electrons * (layers + 2) * (4 * width + 4 * pairs)
    scores = (2 * walkers + 6) * parameters + kept
    numbers = max(6 * layer + 4 * messages, scores)
    return bytes_per_number * numbers + 24 * walkers**2
