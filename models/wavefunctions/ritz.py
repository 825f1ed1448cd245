"""The residual network of the Deep Ritz method, for tensors and jets."""

import torch
from torch import nn

from . import jet
from .electrons import normal, zeros
from .jet import Field


class RitzNet(nn.Module):
    """``u(x)``: blocks ``y <- f(W2 f(W1 y + b1) + b2) + y`` between two linear maps.

    Reference: E and Yu, Commun. Math. Stat. 6, 1 (2018), eqs. 2.5-2.8. Their
    ``f(x) = max(x, 0)^3`` overflows after a few blocks of unit weights; here ``f = tanh``.

    Args:
        dim: space dimensions.
        width: of the blocks.
        blocks: their number.
        seed: of the initial weights.
    """

    def __init__(self, dim: int, width: int = 10, blocks: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.entry = normal(dim, width, fan_in=dim, generator=generator)
        self.entry_bias = zeros(width)
        self.weights = nn.ParameterList(
            normal(width, width, fan_in=width, generator=generator)
            for _ in range(2 * blocks)
        )
        self.biases = nn.ParameterList(zeros(width) for _ in range(2 * blocks))
        self.read = normal(width, fan_in=width, generator=generator)
        self.read_bias = zeros(1)

    def forward(self, x: Field) -> Field:
        """Return ``u [batch]`` at ``x [batch, dim]``, or its jet."""
        y = jet.affine(x, self.entry, self.entry_bias)
        for number in range(0, len(self.weights), 2):
            z = y
            for layer in (number, number + 1):
                z = jet.tanh(jet.affine(z, self.weights[layer], self.biases[layer]))
            y = jet.add(y, z)
        return jet.shift(jet.linear(lambda t: t @ self.read, y), self.read_bias[0])
