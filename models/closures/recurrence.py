r"""A closure of six moments that stay realizable: it learns a recurrence coefficient.

Moments ``M_0 .. M_5`` of a distribution f(v) > 0 are as good as the recurrence
coefficients of the polynomials orthogonal under f,

    pi_{n+1}(v) = (v - a_n) pi_n(v) - b_n pi_{n-1}(v),

``M_0, a_0 = u, b_1 = theta, a_1, b_2, a_2``; a Maxwellian has ``a_n = u, b_n = n theta``.
The moments belong to some f > 0 exactly if all ``b_n > 0`` (Gautschi, Orthogonal
Polynomials: Computation and Approximation, 2004, section 1.3). To close the equations is
to say what M_6 is, and that is to say b_3: any positive b_3 is realizable. Here

    b_3 = 3 b_1^(1/3) (b_2 / 2)^(2/3) exp( A tanh( (N(z) - N(0)) / A ) ),

with a small network N, even under reflection, of scale-free inputs z: ``log(b_2 / 2
theta)``, and ``s = (a_1 - u) / sqrt(theta)`` and ``(a_2 - u) / sqrt(theta)`` as
``log(1 + s^2)``, ``asinh s`` and ``s / (sqrt(b_2 / theta) + |s|)``. So the closure does
not change with frame or units and is that of a Maxwellian at equilibrium. What N may add
is bounded (by a factor of 400 with A = 6), b_3 itself and the speeds are not.

They do so ahead of a strong shock. There f is cold gas and a trace of hot molecules that
fly far ahead: however small the trace, a_2 is *its* velocity and b_3 *its* spread, so one
of the signal speeds is that of the hot molecules. Closures whose speeds are bounded by the
temperature (3.3 sqrt(theta) for HME) must have a sub-shock once the gas comes faster
(Boillat and Ruggeri, Continuum Mech. Thermodyn. 10, 1998, p. 285). That closures which are
singular at equilibrium carry smooth shocks instead was shown for five moments by McDonald
and Torrilhon, J. Comput. Phys. 251, 2013, p. 500.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from ..parts import part
from .contract import ClosureOutput, FaceStencil, weights_from
from .face import MirrorNet, Widths

Coefficient = Callable[[Tensor], Tensor]
"""``[..., 6]`` of :func:`coefficients` to b_3 ``[...]``."""


@dataclass(frozen=True)
class CellClosure:
    """A closure (:mod:`.contract`) that knows the states at its points alone.

    Attributes:
        coefficient: b_3 of a state.
    """

    coefficient: Coefficient

    def __call__(self, at: FaceStencil) -> ClosureOutput:
        """Return b_3 at every point."""
        return ClosureOutput(self.coefficient(at.cells))

    def to(self, device: torch.device) -> "CellClosure":
        """Return the closure on a device; its module is moved."""
        moved: Any = self.coefficient
        return CellClosure(moved.to(device) if isinstance(moved, nn.Module) else moved)


def coefficients(raw: Float[Tensor, "... 6"]) -> Float[Tensor, "... 6"]:
    """Return ``(rho, u, b_1, a_1 - u, b_2, a_2 - u)`` of the raw moments M_0 .. M_5.

    Chebyshev's algorithm in the gas's frame. Where the moments belong to no f > 0, b_1 or
    b_2 is not positive.
    """
    rho = raw[..., 0]
    m = raw / rho[..., None]
    u = m[..., 1]
    c = [
        sum(math.comb(k, j) * m[..., j] * (-u) ** (k - j) for j in range(k + 1))
        for k in range(2, 6)
    ]
    theta = c[0]
    first = c[1] / theta
    b2 = c[2] / theta - theta - first**2
    # <c pi_2^2> with pi_2 = c^2 - a_1 c - theta
    turn = c[3] - 2 * first * c[2] + (first**2 - 2 * theta) * c[1]
    second = (turn + 2 * first * theta**2) / (theta * b2)  # type: ignore[operator]
    return torch.stack([rho, u, theta, first, b2, second], -1)  # type: ignore[list-item]


def raw_moments(some: Float[Tensor, "... 6"], b3: Tensor) -> Float[Tensor, "... 7"]:
    """Return M_0 .. M_6 by powers of the Jacobi matrix, ``rho (J^i e) . (J^j e)``.

    Golub and Welsch, Math. Comp. 23, 1969, p. 221.

    Args:
        some: :func:`coefficients`, b_1 and b_2 positive.
        b3: ``[...]``, positive.
    """
    rho, u, b1, first, b2, second = some.unbind(-1)
    s1, s2, s3 = b1.sqrt(), b2.sqrt(), b3.sqrt()
    a1, a2 = u + first, u + second
    p, q, r = u * u + b1, s1 * (u + a1), s1 * s2
    x = (u * p + s1 * q, s1 * p + a1 * q + s2 * r, s2 * q + a2 * r, s3 * r)
    fourth = p * p + q * q + r * r
    fifth = p * x[0] + q * x[1] + r * x[2]
    sixth = x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + x[3] ** 2
    every = [torch.ones_like(u), u, p, x[0], fourth, fifth, sixth]
    return rho[..., None] * torch.stack(every, -1)


def reach(some: Float[Tensor, "... 6"], b3: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest velocity of four beams with the moments M_0 .. M_6.

    The nodes of Gauss's quadrature with ``a_3 = a_2``; NaN where there is no such gas. A
    scheme of HLL's kind with these speeds keeps the moments realizable: its updates are
    sums of such beams.
    """
    _, u, b1, first, b2, second = some.unbind(-1)
    off = torch.stack([b1, b2, b3], -1).sqrt()
    zero = torch.zeros_like(u)
    diagonal = torch.stack([zero, first, second, second], -1)
    matrix = torch.diag_embed(diagonal)
    for side in (-1, 1):
        matrix = matrix + torch.diag_embed(off, offset=side)
    # LAPACK stops at the first NaN of a batch; the other systems must go on.
    known = matrix.isfinite().all(-1).all(-1, keepdim=True)
    beams = torch.linalg.eigvalsh(torch.where(known[..., None], matrix, 0.0))
    beams = torch.where(known, beams, torch.nan)
    return u + beams[..., 0], u + beams[..., -1]


def geometric(some: Float[Tensor, "... 6"]) -> Tensor:
    """Return ``b_3 = 3 b_1^(1/3) (b_2 / 2)^(2/3)``: the analytic baseline."""
    return 3.0 * some[..., 2] ** (1 / 3) * (0.5 * some[..., 4]) ** (2 / 3)


def speeds(
    closure: Coefficient, some: Float[Tensor, "... 6"], graph: bool = False
) -> Tensor:
    """Return the signal speeds in the gas's frame over ``sqrt(theta)``, ``[..., 6]``.

    Eigenvalues of the Jacobian of the fluxes ``(M_1 .. M_6)``, a companion matrix whose
    last row is the slope of M_6. Complex numbers; if all are real, it is hyperbolic.

    Args:
        closure: b_3.
        some: :func:`coefficients`.
        graph: keep the graph, to train with them.
    """
    _, _, b1, first, b2, second = some.detach().unbind(-1)
    root, one = b1.sqrt(), torch.ones_like(b1)
    frame = [one, 0.0 * one, one, first / root, b2 / b1, second / root]
    with torch.enable_grad():
        raw = raw_moments(torch.stack(frame, -1), one)[..., :6].requires_grad_(True)
        at = coefficients(raw)
        sixth = raw_moments(at, closure(at))[..., 6]
        slope = torch.autograd.grad(sixth.sum(), raw, create_graph=graph)[0]
    shift = torch.diag(torch.ones(5).to(slope), 1)[:5].expand(*slope.shape[:-1], 5, 6)
    matrix = torch.cat([shift, slope[..., None, :]], -2)
    # rows and columns in powers of the largest velocity: the entries differ by 1e8
    unit = (1.0 + frame[4] + frame[5] ** 2).sqrt()[..., None] ** torch.arange(6.0).to(slope)
    balanced = matrix * unit[..., None, :] / unit[..., :, None]
    return torch.linalg.eigvals(balanced)


@part
class RecurrenceForm:
    """How to make a :class:`RecurrenceClosure`."""

    hidden: Widths = (24, 24)
    """Widths of the network."""
    bound: Annotated[float, Gt(0)] = 6.0
    """A."""
    kind: Literal["recurrence_closure"] = "recurrence_closure"

    contract: ClassVar = "recurrence"
    order: ClassVar = 5

    def build(self, seed: int | None = None) -> "RecurrenceClosure":
        """Return the module with first weights from a seed, or torch's own generator."""
        with weights_from(seed):
            return RecurrenceClosure(self)


class RecurrenceClosure(nn.Module):
    """b_3 of a cell; see the module's text."""

    def __init__(self, config: RecurrenceForm) -> None:
        super().__init__()
        self.config = config
        parity = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
        self.net = MirrorNet(parity, config.hidden, 1)

    def inputs(self, some: Float[Tensor, "... 6"]) -> Float[Tensor, "... 7"]:
        """Return z, three even inputs before four odd ones."""
        _, _, b1, first, b2, second = some.unbind(-1)
        root, width = b1.sqrt(), (b2 / b1).sqrt()
        s, t = first / root, second / root
        even = [torch.log(0.5 * b2 / b1), torch.log1p(s * s), torch.log1p(t * t)]
        odd = [torch.asinh(s), torch.asinh(t), s / (width + s.abs()), t / (width + t.abs())]
        return torch.stack([*even, *odd], -1)

    def forward(self, some: Float[Tensor, "... 6"]) -> Float[Tensor, "..."]:
        """Return b_3 of :func:`coefficients`."""
        z, bound = self.inputs(some), self.config.bound
        found = self.net(z) - self.net.at_rest(z.new_zeros(3))
        return geometric(some) * torch.exp(bound * torch.tanh(found / bound))
