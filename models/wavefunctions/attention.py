"""Self-attention over electrons: the Psiformer's backbone for a sum of determinants."""

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from ..parts import part
from . import jet
from .determinant import Determinants
from .electrons import Features, Particles, Surroundings, normal, surroundings, zeros
from .jet import Field


@part
class AttentionForm(Determinants):
    """Determinant network whose electrons meet by self-attention (Psiformer)."""

    width: Annotated[int, Ge(1), Le(1024)] = 32
    """Features of an electron; a multiple of ``heads``."""
    heads: Annotated[int, Ge(1), Le(64)] = 4
    """Attention heads of a layer."""
    layers: Annotated[int, Ge(0), Le(12)] = 2
    """Layers of self-attention."""
    determinants: Annotated[int, Ge(1), Le(64)] = 8
    """Terms in the sum of determinants."""
    orbitals: Literal["hartree_fock", "none"] = "hartree_fock"
    """What the network corrects: the orbitals of Hartree-Fock (of the empty trap), so that
    it starts at their energy or below; or nothing, and it starts from random orbitals."""
    basis: str = "cc-pvtz"
    """Gaussian basis of Hartree-Fock (PySCF name)."""
    kind: Literal["attention"] = "attention"
    space: ClassVar[str] = "continuum"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")

    def backbone(self, system: Particles, generator: torch.Generator) -> "SelfAttention":
        """Return the layers that electrons pass before they enter orbitals."""
        return SelfAttention(
            surroundings(system), system.up, system.down, self.width, self.heads,
            self.layers, generator,
        )  # fmt: skip

    def pair_numbers(self, electrons: int, dim: int) -> int:
        """Return how many numbers a layer keeps of each pair in a jet."""
        return (electrons * dim + 2) * self.heads


class SelfAttention(Features):
    """Self-attention over electrons, equivariant under exchange of equal spins.

    ``h_i = W f_i + b_spin(i)`` of the smooth features of the centres, and layer ``l`` is

        f_i = h_i + O_l concat over heads of sum_j softmax_j(q_i . k_j / sqrt(size)) v_j,
        h_i <- f_i + tanh(W_l f_i + c_l),

    with ``q``, ``k`` and ``v`` linear in ``h``. There are no features of pairs: what two
    electrons know of each other is their attention, and the cusp in the Jastrow factor.

    Reference: von Glehn, Spencer, Pfau, "A self-attention ansatz for ab-initio quantum
    chemistry", ICLR (2023), eqs. 6-9.

    Args:
        centres: the features of the particles.
        up: number of particles of the first kind.
        down: number of particles of the second kind.
        width: features of a particle.
        heads: attention heads of a layer.
        layers: number of layers.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        centres: Surroundings,
        up: int,
        down: int,
        width: int,
        heads: int,
        layers: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(centres, up, down, width, generator)
        self.layers = nn.ModuleList(
            AttentionLayer(width, heads, generator) for _ in range(layers)
        )

    def forward(self, r: Field) -> tuple[Field, Field, Field, Field | None]:
        """Return global features ``[b, n, width]``, ``d``, ``u`` and pair distances."""
        entry, distance, smooth = self.entry(r)
        h = jet.spread(entry)
        for layer in self.layers:
            h = layer(h)
        if self.count == 1:
            return h, distance, smooth, None
        apart = self.centres.apart(jet.pairs(r))
        return h, distance, smooth, jet.linear(lambda t: t[..., 0], apart)


class AttentionLayer(nn.Module):
    """One layer of :class:`SelfAttention`."""

    one: Tensor

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        # The product of two of these is over the size of a head, which scales the logits.
        gain = (width / heads) ** -0.25
        self.query = normal(width, width, fan_in=width, generator=generator, gain=gain)
        self.key = normal(width, width, fan_in=width, generator=generator, gain=gain)
        self.value = normal(width, width, fan_in=width, generator=generator)
        self.take = normal(width, width, fan_in=width, generator=generator)
        self.own = normal(width, width, fan_in=width, generator=generator)
        self.bias = zeros(1, width)
        self.register_buffer("one", torch.ones(1, 1))

    def forward(self, h: Field) -> Field:
        """Return the next features of a global jet."""

        def by_heads(weight: Tensor) -> Field:
            return jet.linear(
                lambda t: (t @ weight).unflatten(-1, (self.heads, -1)).transpose(-2, -3), h
            )

        heard = jet.attend(by_heads(self.query), by_heads(self.key), by_heads(self.value))
        f = jet.linear(lambda t: t.transpose(-2, -3).flatten(-2) @ self.take, heard)
        f = jet.add_(f, h)
        return jet.add_(jet.tanh_(jet.affine(f, self.own, self.one @ self.bias)), f)
