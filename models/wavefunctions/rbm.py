"""Restricted Boltzmann machines on lattices, plain and shared over translations."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from ..parts import part


def log_cosh(x: Tensor) -> Tensor:
    """Return ``log cosh x`` without overflow."""
    size = x.abs()
    return size + torch.log1p(torch.exp(-2 * size)) - math.log(2)


def translations(shape: Sequence[int]) -> Tensor:
    """Return ``[sites, sites]``: entry ``[t, i]`` is the site of ``i`` after the shift -t.

    ``filter[translations[t]]`` is the filter moved by the lattice vector ``t``.
    """
    grids = torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij")
    place = torch.stack([g.flatten() for g in grids], -1)
    moved = (place[None, :] - place[:, None]) % torch.tensor(list(shape))
    index = moved[..., 0]
    for axis in range(1, len(shape)):
        index = index * shape[axis] + moved[..., axis]
    return index


@part
class RbmForm:
    """Restricted Boltzmann machine on a lattice (Carleo and Troyer 2017)."""

    alpha: Annotated[int, Ge(1), Le(32)] = 2
    """Hidden units per site (filters, where symmetric)."""
    symmetric: bool = True
    """Whether the weights are shared over all translations."""
    kind: Literal["rbm"] = "rbm"
    space: ClassVar[str] = "lattice"

    def build(self, system: Any, seed: int = 0) -> "Rbm | SymmetricRbm":
        """Return the machine for the ``shape`` of a lattice."""
        if self.symmetric:
            return SymmetricRbm(system.shape, self.alpha, seed)
        return Rbm(math.prod(system.shape), self.alpha, seed)

    def parameter_count(self, system: Any) -> int:
        """Return the number of parameters."""
        sites = math.prod(system.shape)
        hidden = self.alpha * sites
        return hidden if self.symmetric else hidden * sites + hidden + sites


class Rbm(nn.Module):
    """``log psi(s) = sum_i a_i s_i + sum_j log cosh(b_j + sum_i W_ji s_i)``, real weights.

    Reference: Carleo and Troyer, Science 355, 602 (2017), eq. 2 (the hidden spins summed
    out; an additive constant is left away).

    Args:
        sites: number of spins.
        alpha: hidden units per site.
        seed: of the initial weights.
        scale: their standard deviation.
    """

    def __init__(self, sites: int, alpha: int, seed: int = 0, scale: float = 0.05) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(
            scale * torch.randn(alpha * sites, sites, generator=generator)
        )
        self.bias = nn.Parameter(scale * torch.randn(alpha * sites, generator=generator))
        self.visible = nn.Parameter(torch.zeros(sites))

    def dense(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``W [hidden, sites]``, ``b [hidden]`` and ``a [sites]``."""
        return self.weight, self.bias, self.visible

    def forward(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sign (always 1) and ``log|psi|``, both ``[batch]``, of spins +-1."""
        weight, bias, visible = self.dense()
        log = spins @ visible + log_cosh(spins @ weight.T + bias).sum(-1)
        return torch.ones_like(log), log

    @torch.no_grad()
    def scores(self, spins: Tensor) -> Tensor:
        """Return ``d log psi / d parameters [batch, p]``, parameters in module order."""
        slope = torch.tanh(spins @ self.weight.T + self.bias)
        return torch.cat([(slope[:, :, None] * spins[:, None]).flatten(1), slope, spins], 1)


class SymmetricRbm(nn.Module):
    """RBM whose hidden units are all translations of ``alpha`` filters, even in the spins.

    ``log psi(s) = sum_f sum_t log cosh(sum_i w_f[i - t] s_i)``: without biases it is also
    unchanged when all spins flip, as the ground states of the Ising and Heisenberg models
    on rings and squares are.

    Args:
        shape: sites along each axis.
        alpha: number of filters.
        seed: of the initial weights.
        scale: their standard deviation.
    """

    index: Tensor

    def __init__(
        self, shape: Sequence[int], alpha: int, seed: int = 0, scale: float = 0.05
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sites = math.prod(shape)
        self.filters = nn.Parameter(scale * torch.randn(alpha, sites, generator=generator))
        self.register_buffer("index", translations(shape))

    def dense(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weights of the equivalent :class:`Rbm`."""
        sites = self.filters.shape[1]
        weight = self.filters[:, self.index].reshape(-1, sites)
        return weight, weight.new_zeros(len(weight)), weight.new_zeros(sites)

    def forward(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sign (always 1) and ``log|psi|``, both ``[batch]``, of spins +-1."""
        weight, _, _ = self.dense()
        log = log_cosh(spins @ weight.T).sum(-1)
        return torch.ones_like(log), log

    @torch.no_grad()
    def scores(self, spins: Tensor) -> Tensor:
        """Return ``d log psi / d filters [batch, alpha * sites]``.

        ``d / d w_f[k] = sum_t tanh(theta_ft) s[site with i - t = k]``.
        """
        weight, _, _ = self.dense()
        alpha, sites = self.filters.shape
        slope = torch.tanh(spins @ weight.T).view(len(spins), alpha, sites)
        moved = spins[:, self.index.argsort(1)]
        return torch.einsum("bft,btk->bfk", slope, moved).flatten(1)
