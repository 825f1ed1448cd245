"""DeepWF: a wavefunction without determinants, for fermions and for bosons."""

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from ..parts import part
from . import jet
from .electrons import (
    ELECTRONS,
    Backbone,
    Centres,
    Cusps,
    Envelope,
    NuclearCusp,
    PairCusp,
    Particles,
    jastrow,
    normal,
    zeros,
)
from .jet import Field


@part
class DeepWfForm:
    """Determinant-free ansatz of Han, Zhang and E (2019)."""

    width: Annotated[int, Ge(1), Le(1024)] = 32
    """Features of an electron."""
    pair_width: Annotated[int, Ge(1), Le(256)] = 16
    """Features of a pair."""
    layers: Annotated[int, Ge(0), Le(12)] = 2
    """Message-passing layers."""
    kind: Literal["deepwf"] = "deepwf"
    space: ClassVar[str] = "continuum"

    def build(self, system: Particles, seed: int = 0) -> "DeepWf":
        """Return the network for a system.

        Raises:
            ValueError: the particles are in a cell that repeats itself.
        """
        if system.period is not None:
            raise ValueError("deepwf decays far from centres; a periodic cell has none")
        return DeepWf(
            system.positions, system.nuclear_cusps, system.up, system.down, self.width,
            self.pair_width, self.layers, system.envelope, system.cusps, system.bosons,
            seed,
        )  # fmt: skip

    def pair_numbers(self, electrons: int, dim: int) -> int:
        """Return how many numbers a layer keeps of each pair in a jet."""
        del electrons
        return (dim + 2) * self.pair_width


class DeepWf(nn.Module):
    """``psi = S(r) * product of a(r_i, r_j) over pairs of equal spin``.

    ``S = exp(sum_i q . h_i + cusps) * prod_i sum_A p_A exp(-sigma_A u_iA)`` is symmetric,
    with the backbone's features ``h``; the two-body function is antisymmetric,

        a(r_i, r_j) = w . [tanh(A f_i + B f_j) - tanh(A f_j + B f_i)],

    with the features ``f`` of a single electron. The cost grows with the square of the
    number of electrons. Without the product it describes bosons.

    Reference: Han, Zhang, E, J. Comput. Phys. 399, 108929 (2019), section 2 (the
    sub-networks here are those of this package, and the cusps are exact).

    Args:
        positions: centres ``[centres, dim]`` in bohr.
        charges: ``[centres]``; 0 where there is no cusp.
        up: particles with spin up.
        down: particles with spin down.
        width: features of an electron.
        pair_width: features of a pair.
        layers: message-passing layers.
        envelope: how the wavefunction decays.
        cusps: slopes at contact for opposite and for equal spins, or None.
        bosons: leave out the antisymmetric product.
        seed: of the initial weights.
    """

    def __init__(
        self,
        positions: Tensor,
        charges: Tensor,
        up: int,
        down: int,
        width: int = 32,
        pair_width: int = 16,
        layers: int = 2,
        envelope: Envelope = "exponential",
        cusps: Cusps | None = ELECTRONS,
        bosons: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        count = up + down
        self.gaussian = envelope == "gaussian"
        centres = Centres(positions)
        self.backbone = Backbone(centres, up, down, width, pair_width, layers, generator)
        self.nuclear = NuclearCusp(charges)
        self.pair = PairCusp(self.backbone.same, cusps) if cusps and count > 1 else None
        self.pool = zeros(width, 1)
        self.share = nn.Parameter(torch.zeros(len(charges)))
        self.decay = nn.Parameter(
            torch.full((len(charges),), 0.25 if self.gaussian else 1.0)
        )
        spins = [] if bosons else [list(range(up)), list(range(up, count))]
        pairs = [(i, j) for spin in spins for i in spin for j in spin if i < j]
        self.first = [i for i, _ in pairs]
        self.second = [j for _, j in pairs]
        if pairs:
            entry = len(charges) * (positions.shape[1] + 1)
            self.left = normal(entry, width, fan_in=entry, generator=generator)
            self.right = normal(entry, width, fan_in=entry, generator=generator)
            self.read = normal(width, fan_in=width, generator=generator)

    def forward(self, r: Field) -> tuple[Tensor, Field]:
        """Return sign and ``log|psi|``, both ``[batch]``, of positions or their jet."""
        h, distance, smooth, apart = self.backbone(r)
        pair = self.pair(apart) if self.pair is not None and apart is not None else None
        pooled = jet.linear(lambda t: (t @ self.pool)[..., 0].sum(-1), h)
        one = jet.add(self.nuclear(distance), self._envelope(distance, smooth))
        log = jastrow(one, pair, pooled)
        value = log.value if isinstance(log, jet.Jet) else log
        if not self.first:
            return torch.ones_like(value), log
        two_body = self._two_body(r)
        value = two_body.value if isinstance(two_body, jet.Jet) else two_body
        product = jet.linear(lambda t: t.sum(-1), jet.log_abs(two_body))
        return value.sign().prod(-1), jet.add(log, product)

    def _envelope(self, distance: Field, smooth: Field) -> Field:
        reach = jet.square(distance) if self.gaussian else smooth
        decay = jet.exp(jet.linear(lambda t: -t * self.decay.abs(), reach))
        total = jet.linear(lambda t: t @ torch.softmax(self.share, 0), decay)
        return jet.log_abs(total)

    def _two_body(self, r: Field) -> Field:
        features, _, _ = self.backbone.centres(r)
        left = jet.spread(jet.linear(lambda t: t @ self.left, features))
        right = jet.spread(jet.linear(lambda t: t @ self.right, features))

        def take(x: Field, which: list[int]) -> Field:
            return jet.linear(lambda t: t[..., which, :], x)

        forth = jet.tanh(jet.add(take(left, self.first), take(right, self.second)))
        back = jet.tanh(jet.add(take(left, self.second), take(right, self.first)))
        difference = jet.add(forth, jet.linear(lambda t: -t, back))
        return jet.linear(lambda t: t @ self.read, difference)
