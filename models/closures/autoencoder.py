r"""Moments learned by an autoencoder whose decoder returns a distribution, not below zero.

Many Hermite moments of one point, ``h_k = sqrt(k!) f_k / (rho theta^(k/2))`` for k = 3..M,
are pressed into a few numbers W and given back:

* the encoder is linear, ``W = E h``, with odd moments of odd ones and even of even ones;
  its rows are the learned moments, polynomials of ``xi = (v - u) / sqrt(theta)``, so that
  nothing depends on the frame or on units;
* the decoder answers a distribution ``f = M(xi) phi(sum_k l_k(W) He_k(xi) / sqrt(k!))``,
  M the Maxwellian, ``phi(x) = x/2 + sqrt(1 + x^2/4)``, which is positive and ``1 + x/2``
  to first order, on the nodes of a Gauss-Hermite rule; its h_k are those of the nodes,
  shifted and stretched to zero mean and unit variance. At W = 0 it is the Maxwellian.

The equations of motion of W are those of the M - 2 Hermite moments, projected: after each
step of the moment solver h becomes ``decode(encode(h))``. Between steps a cell holds
density, velocity, temperature and W, no more. The form follows the idea of Han, Ma, Ma, E
(PNAS 116, 2019, p. 21983: moments found by an autoencoder); every detail is ours.
"""

import itertools
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from ..parts import part
from .contract import weights_from
from .face import Widths


@part
class AutoencoderForm:
    """How to make a :class:`MomentAutoencoder`."""

    latent: Annotated[int, Ge(1), Le(20)] = 3
    """Numbers kept, besides density, velocity and temperature."""
    order: Annotated[int, Ge(4), Le(20)] = 11
    """M, the highest Hermite moment that is decoded."""
    hidden: Widths = (32, 32)
    """Widths of the decoder's network."""
    nodes: Annotated[int, Ge(8), Le(64)] = 28
    """Of the Gauss-Hermite rule."""
    kind: Literal["moment_autoencoder"] = "moment_autoencoder"

    contract: ClassVar = "moments"

    def __post_init__(self) -> None:
        if not 1 <= self.latent <= self.order - 2:
            raise ValueError(f"latent {self.latent}: there are {self.order - 2} moments")

    def build(self, seed: int | None = None) -> "MomentAutoencoder":
        """Return the module with first weights from a seed, or torch's own generator."""
        with weights_from(seed):
            return MomentAutoencoder(self)


def hermite_functions(xi: Tensor, order: int) -> Tensor:
    """Return ``He_k(xi) / sqrt(k!)`` for k = 0..order, last axis."""
    found = [torch.ones_like(xi), xi]
    for k in range(1, order):
        found.append((xi * found[k] - k**0.5 * found[k - 1]) / (k + 1) ** 0.5)
    return torch.stack(found, -1)


def positive(x: Tensor) -> Tensor:
    """Return ``phi(x) = x/2 + sqrt(1 + x^2/4)``: positive, rising, 1 + x/2 near 0."""
    return 0.5 * x + (1.0 + 0.25 * x * x).sqrt()


def slope(x: Tensor) -> Tensor:
    """Return the derivative of :func:`positive`, in (0, 1)."""
    return 0.5 + 0.25 * x / (1.0 + 0.25 * x * x).sqrt()


class MomentAutoencoder(nn.Module):
    """A few learned moments and a positive distribution of them; see the module's text."""

    nodes: Tensor
    weights: Tensor
    basis: Tensor
    mask: Tensor
    parity: Tensor
    sides: Tensor

    def __init__(self, config: AutoencoderForm) -> None:
        super().__init__()
        self.config = config
        order, count = config.order, config.latent
        xi, weight = np.polynomial.hermite_e.hermegauss(config.nodes)
        nodes = torch.as_tensor(xi)
        self.register_buffer("nodes", nodes)
        self.register_buffer("weights", torch.as_tensor(weight / weight.sum()))
        self.register_buffer("basis", hermite_functions(nodes, order)[:, 3:])
        odd = torch.arange(3, order + 1) % 2 == 1
        # As many odd ones as even ones, and the first is odd, like f_3, f_4, f_5 ..
        side = torch.arange(count) % 2 == 0
        self.register_buffer("mask", (side[:, None] == odd).double())
        self.register_buffer("parity", torch.where(odd, -1.0, 1.0).double())
        self.register_buffer("sides", torch.where(side, -1.0, 1.0).double())
        self.encoder = nn.Parameter(torch.zeros(count, order - 2, dtype=torch.float64))
        self.linear = nn.Parameter(torch.zeros(order - 2, count, dtype=torch.float64))
        widths, layers = [count, *config.hidden], []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.Tanh()]
        last = nn.Linear(widths[-1], order - 2, bias=False)
        nn.init.zeros_(last.weight)
        self.net = nn.Sequential(*layers, last).double()

    @torch.no_grad()
    def begin(self, h: Float[Tensor, "samples moments"], size: Tensor) -> None:
        """Start from the principal components of h / size, odd and even by themselves."""
        self.encoder.zero_()
        self.linear.zero_()
        for sign in (-1.0, 1.0):
            rows = torch.nonzero(self.sides == sign)[:, 0]
            columns = torch.nonzero(self.parity == sign)[:, 0]
            vectors = torch.linalg.svd((h / size)[:, columns], full_matrices=False)[2]
            for place, row in enumerate(rows.tolist()):
                if place < len(columns):
                    self.encoder[row, columns] = vectors[place] / size[columns]
                    self.linear[columns, row] = vectors[place] * size[columns]

    def encode(self, h: Float[Tensor, "*batch moments"]) -> Float[Tensor, "*batch latent"]:
        """Return W."""
        return h @ (self.encoder * self.mask).T

    def bent(self, latent: Float[Tensor, "*batch latent"]) -> Tensor:
        """Return l_3 .. l_M of the decoder, ``[..., moments]``."""
        straight = latent @ (self.linear * self.mask.T).T
        mirrored = self.net(latent * self.sides) * self.parity
        rest = self.net(torch.zeros_like(latent[..., :1]).expand_as(latent))
        own = self.net(latent)
        return straight + 0.5 * (own + mirrored - rest - rest * self.parity)

    def distribution(self, latent: Float[Tensor, "*batch latent"]) -> Tensor:
        """Return the positive weights of the nodes, not yet normalised."""
        return self.weights * positive(self.bent(latent) @ self.basis.T)

    def density(self, latent: Float[Tensor, " latent"], xi: Tensor) -> Tensor:
        """Return the decoded distribution of one W over xi, of unit mass and variance."""
        f = self.distribution(latent)
        f = f / f.sum()
        mean = (f * self.nodes).sum()
        spread = (f * (self.nodes - mean).square()).sum().sqrt()
        at = mean + spread * xi
        he = hermite_functions(at, self.config.order)[:, 3:]
        total = self.distribution(latent).sum()
        maxwellian = (-0.5 * at * at).exp() / (2.0 * torch.pi) ** 0.5
        return spread * maxwellian * positive(he @ self.bent(latent)) / total

    def decode(self, latent: Float[Tensor, "*batch latent"]) -> Tensor:
        """Return h of the decoded distribution, ``[..., moments]``."""
        f = self.distribution(latent)
        f = f / f.sum(-1, keepdim=True)
        mean = (f * self.nodes).sum(-1, keepdim=True)
        off = self.nodes - mean
        spread = (f * off * off).sum(-1, keepdim=True).sqrt()
        he = hermite_functions(off / spread, self.config.order)[..., 3:]
        return (f[..., None] * he).sum(-2)

    def forward(self, h: Float[Tensor, "*batch moments"]) -> Tensor:
        """Return what is left of h, ``decode(encode(h))``."""
        return self.decode(self.encode(h))

    def learned_moments(self, xi: Sequence[float]) -> Tensor:
        """Return the learned moments as functions of xi, ``[latent, points]``."""
        at = torch.as_tensor(np.asarray(xi, dtype=float))
        he = hermite_functions(at, self.config.order)[:, 3:]
        return (self.encoder * self.mask) @ he.T
