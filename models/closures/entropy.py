r"""A closure of six moments that comes from a learned entropy, convex in the moments.

In the gas's frame, ``xi = (v - u) / sqrt(theta)``, a distribution is sought of the form

    f = M(xi) phi( sum_k alpha_k He_k(xi) / sqrt(k!) ),   k = 0..5,

M the Maxwellian and ``phi(x) = x/2 + sqrt(1 + x^2/4)``, positive and rising. It is what has
the least entropy among all f with the same moments, for an entropy whose dual has the slope
phi (a divergence from M: Abdelmalik and van Brummelen, J. Stat. Phys. 164, 2016, p. 77; the
exponential is Levermore's, J. Stat. Phys. 83, 1996, p. 1021). phi grows like x, so that all
moments exist, also where an exponential would not be integrable.

The multipliers are the slopes of the entropy over the moments. So a network ``eta(g)`` that
is convex in ``g_k = <He_k> / sqrt(k!)``, k = 3..5, represents the entropy, and

    alpha_k = d eta / d g_k,  k = 3..5,

while alpha_0..alpha_2 follow from mass 1, mean 0 and variance 1 by Newton's method, a
convex problem again. (Input-convex networks: Amos, Xu and Kolter, arXiv:1609.07152; for
entropy closures: Porteous, Laiu and Hauck, arXiv:2106.08973; Schotthoefer, Xiao, Frank and
Hauck, arXiv:2201.10364.) With slopes ``H = d alpha / d g > 0`` the system is symmetric
hyperbolic as long as M is held fixed; M moves with the gas here, for the sake of Galilean
invariance, so this is no proof.

f has a recurrence coefficient ``b_3 > 0``: the answer, in the form that
:mod:`~scalebridge.models.closures.recurrence` explains.
"""

import itertools
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..parts import part
from .autoencoder import hermite_functions, positive, slope
from .contract import weights_from
from .face import Widths
from .recurrence import geometric, raw_moments

ORDER = 5
"""Highest moment that is carried."""


def hermite_moments(some: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3"]:
    """Return ``g_k = <He_k(xi)> / sqrt(k!)``, k = 3..5, of the recurrence coefficients."""
    _, _, b1, first, b2, second = some.unbind(-1)
    root, one = b1.sqrt(), torch.ones_like(b1)
    frame = torch.stack([one, 0 * one, one, first / root, b2 / b1, second / root], -1)
    m = raw_moments(frame, one)
    g5 = m[..., 5] - 10.0 * m[..., 3]
    return torch.stack(
        [m[..., 3] / 6.0**0.5, (m[..., 4] - 3.0) / 24.0**0.5, g5 / 120.0**0.5], -1
    )


class ConvexNet(nn.Module):
    """A convex function of a few numbers, even under a change of sign of some of them.

    ``|g|^2 + P(g) / 2 + P(mirror g) / 2`` with ``z_{i+1} = softplus(A_i z_i + B_i g +
    c_i)`` in P; the entries of A_i are not negative, so every layer is convex in g.
    """

    mirror: Tensor

    def __init__(self, mirror: Tensor, hidden: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mirror", mirror, persistent=False)
        self.first = nn.Linear(len(mirror), hidden[0])
        self.straight, self.convex = nn.ModuleList(), nn.ParameterList()
        for before, width in itertools.pairwise((*hidden, 1)):
            self.straight.append(nn.Linear(len(mirror), width))
            self.convex.append(torch.randn(width, before) - 3.0)

    def forward(self, g: Float[Tensor, "... moments"]) -> Float[Tensor, "..."]:
        """Return the value."""
        own = self._plain(g) + self._plain(g * self.mirror)
        return (g * g).sum(-1) + 0.5 * own

    def _plain(self, g: Tensor) -> Tensor:
        z = softplus(self.first(g))
        for straight, convex in zip(self.straight, self.convex, strict=True):
            z = softplus(straight(g) + z @ softplus(convex).T)
        return z[..., 0]


@part
class EntropyForm:
    """How to make an :class:`EntropyClosure`."""

    hidden: Widths = (24, 24)
    """Widths of the convex network."""
    nodes: Annotated[int, Ge(8), Le(64)] = 28
    """Of the Gauss-Hermite rule."""
    newton: Annotated[int, Ge(1), Le(50)] = 6
    """Steps for the first three multipliers."""
    kind: Literal["entropy_closure"] = "entropy_closure"

    contract: ClassVar = "recurrence"
    order: ClassVar = ORDER

    def build(self, seed: int | None = None) -> "EntropyClosure":
        """Return the module with first weights from a seed, or torch's own generator."""
        with weights_from(seed):
            return EntropyClosure(self)


class EntropyClosure(nn.Module):
    """b_3 of a cell; see the module's text."""

    nodes: Tensor
    weights: Tensor
    basis: Tensor

    def __init__(self, config: EntropyForm) -> None:
        super().__init__()
        self.config = config
        xi, weight = np.polynomial.hermite_e.hermegauss(config.nodes)
        nodes = torch.as_tensor(xi)
        self.register_buffer("nodes", nodes)
        self.register_buffer("weights", torch.as_tensor(weight / weight.sum()))
        self.register_buffer("basis", hermite_functions(nodes, ORDER))
        self.entropy = ConvexNet(torch.tensor([-1.0, 1.0, -1.0]), config.hidden).double()

    def multipliers(self, g: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
        """Return alpha_3 .. alpha_5, zero at equilibrium; differentiable twice."""
        with torch.enable_grad():
            free = g if g.requires_grad else g.detach().requires_grad_(True)
            slopes = self._slopes(free) - self._slopes(g.new_zeros(3, requires_grad=True))
        return slopes if torch.is_grad_enabled() else slopes.detach()

    def _slopes(self, g: Tensor) -> Tensor:
        return torch.autograd.grad(self.entropy(g).sum(), g, create_graph=True)[0]

    def distribution(self, high: Float[Tensor, "... 3"]) -> Float[Tensor, "... nodes"]:
        """Return f of alpha_3 .. alpha_5 on the nodes, of mass 1, mean 0 and variance 1."""
        low, curved = self.basis[:, :3], high @ self.basis[:, 3:].T
        wanted = low.new_tensor([1.0, 0.0, 0.0])
        alpha = torch.zeros_like(high)
        for _ in range(self.config.newton):
            x = curved + alpha @ low.T
            miss = (self.weights * positive(x)) @ low - wanted
            hessian = torch.einsum("...n,ni,nj->...ij", self.weights * slope(x), low, low)
            alpha = alpha - torch.linalg.solve(hessian, miss)
        return self.weights * positive(curved + alpha @ low.T)

    def forward(self, some: Float[Tensor, "... 6"]) -> Float[Tensor, "..."]:
        """Return b_3 of :func:`.recurrence.coefficients`."""
        own = self.recurrence(self.distribution(self.multipliers(hermite_moments(some))))
        # f has the six moments up to what the network misses; the scale is theirs.
        least = own[..., 2] ** (1 / 3) * (0.5 * own[..., 4]) ** (2 / 3)
        return geometric(some) * own[..., 6] / (3.0 * least)

    def recurrence(self, f: Float[Tensor, "... nodes"]) -> Float[Tensor, "... 7"]:
        """Return the coefficients of f up to b_3 by the procedure of Stieltjes.

        ``a_n = <v pi_n^2> / <pi_n^2>, b_n = <pi_n^2> / <pi_{n-1}^2>`` (Gautschi 2004,
        section 2.2.3.1), in the order of :func:`.recurrence.coefficients`.
        """
        v = self.nodes
        before, now = torch.zeros_like(f), torch.ones_like(f)
        size, found, b = f.sum(-1), [f.sum(-1)], torch.zeros_like(f[..., 0])
        for n in range(4):
            if n:
                new = (f * now * now).sum(-1)
                b, size = new / size, new
                found.append(b)
            if n < 3:
                a = (f * v * now * now).sum(-1) / size
                found.append(a if n == 0 else a - found[1])
                before, now = now, (v - a[..., None]) * now - b[..., None] * before
        return torch.stack(found, -1)
