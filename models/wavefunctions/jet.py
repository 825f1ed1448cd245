"""Forward Laplacian: one set of functions for plain tensors and for jets.

A *jet* carries a value, its first derivatives and its Laplacian through the network, so
that one pass gives ``log|psi|``, ``grad log|psi|`` and ``laplacian log|psi|`` (Li et al.,
Nature Machine Intelligence 6, 209 (2024), "A computational framework for neural
network-based variational Monte Carlo with Forward Laplacian"). For ``y = f(x)`` applied to
each entry and slots ``(x, dx/dq_k, lap x)`` the rule is

    (f(x),  f'(x) dx/dq_k,  f'(x) lap x + f''(x) sum_k (dx/dq_k)^2),

and a product adds ``2 sum_k (da/dq_k)(db/dq_k)``. A linear map acts on every slot alike.

Two kinds of coordinates occur. A *local* jet of an electron knows only the derivatives by
that electron's own position (``dim`` of them), and a local jet of a pair those by the
difference ``r_i - r_j``: features, pair functions and envelopes cost ``dim + 2`` slots. A
*global* jet knows the derivatives by all ``n * dim`` coordinates, ordered as
``q[dim * i + x] = r[i, x]``; :func:`spread`, :func:`message`, :func:`scale` and the two
sums go from local to global, :func:`attend` joins global ones.

Every function takes tensors or jets; the trailing axes of a jet are those of the tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Jet:
    """Value, derivatives and Laplacian, stacked along the first axis.

    Attributes:
        slots: ``[k + 2, batch, ...]``: the value, the ``k`` first derivatives, the
            Laplacian.
    """

    slots: Tensor

    @property
    def value(self) -> Tensor:
        """The value, ``[batch, ...]``."""
        return self.slots[0]

    @property
    def jacobian(self) -> Tensor:
        """First derivatives, ``[k, batch, ...]``."""
        return self.slots[1:-1]

    @property
    def laplacian(self) -> Tensor:
        """Sum of the second derivatives, ``[batch, ...]``."""
        return self.slots[-1]


Field = Any
"""A tensor or a jet: every function returns the kind that it was given."""


def coordinates(positions: Tensor) -> Jet:
    """Return the local jet of every position ``[batch, n, dim]``: unit derivatives."""
    dim = positions.shape[-1]
    slots = positions.new_zeros(dim + 2, *positions.shape)
    slots[0] = positions
    slots[1:-1] = torch.eye(dim, dtype=positions.dtype, device=positions.device).view(
        dim, *(1,) * (positions.dim() - 1), dim
    )
    return Jet(slots)


CPU = torch.device("cpu")


@cache
def others(count: int, device: torch.device = CPU) -> Tensor:
    """Return ``[n - 1, n]``: the partners of each particle in cyclic order."""
    me = torch.arange(count, device=device)
    return (me + torch.arange(1, count, device=device)[:, None]) % count


def pairs(positions: Field) -> Field:
    """Differences ``r_i - r_j`` of all ordered pairs, ``[batch, n - 1, n, dim]``.

    The jet is local to the pair: its derivatives are those by the difference. Partners
    stand before particles, so that a loop over them runs over all particles at once.
    """
    value = positions.value if isinstance(positions, Jet) else positions
    count, ring = value.shape[-2], _ring(value)
    apart = [value - ring[..., p : p + count, :] for p in range(count - 1)]
    difference = torch.stack(apart, -3)
    return coordinates(difference) if isinstance(positions, Jet) else difference


def linear(function: Linear, x: Field) -> Field:
    """Apply a linear map that addresses axes from the end."""
    return Jet(function(x.slots)) if isinstance(x, Jet) else function(x)


def shift(x: Field, constant: Tensor | float) -> Field:
    """Add a constant (broadcast against the trailing axes without enlarging ``x``)."""
    if not isinstance(x, Jet):
        return x + constant
    slots = x.slots.clone()
    slots[0] += constant
    return Jet(slots)


def shift_(x: Field, constant: Tensor) -> Field:
    """Add a constant of no more axes; a jet is overwritten."""
    if not isinstance(x, Jet):
        return x + constant
    x.slots[0] += constant
    return x


def affine(x: Field, weight: Tensor, bias: Tensor) -> Field:
    """Return ``x @ weight + bias``."""
    if not isinstance(x, Jet):
        return x @ weight + bias
    slots = x.slots @ weight
    slots[0] += bias
    return Jet(slots)


def add(*terms: Field) -> Field:
    """Sum of fields of one kind and of broadcastable shapes."""
    first = terms[0]
    if not isinstance(first, Jet):
        return sum(terms[1:], start=first)
    return Jet(sum((term.slots for term in terms[1:]), start=first.slots))


def add_(x: Field, other: Field) -> Field:
    """Sum of two fields of one kind and shape; the first, if a jet, is overwritten."""
    if not isinstance(x, Jet):
        return x + other
    x.slots.add_(other.slots)
    return x


def concat(*terms: Field) -> Field:
    """Join along the last axis."""
    if not isinstance(terms[0], Jet):
        return torch.cat(terms, -1)
    return Jet(torch.cat([term.slots for term in terms], -1))


def compose(x: Jet, value: Tensor, first: Tensor, second: Tensor) -> Jet:
    """Chain rule of an elementwise function with its first two derivatives."""
    slots = x.slots * first
    slots[0] = value
    slots[-1].addcmul_(second, _squares(x.jacobian))
    return Jet(slots)


def _squares(jacobian: Tensor) -> Tensor:
    """Sum of squares over the first axis, slot by slot: no array of all squares."""
    first, *rest = jacobian.unbind()
    total = first.square()
    for slope in rest:
        total.addcmul_(slope, slope)
    return total


def _tanh(x: Tensor) -> Tensor:
    """``tanh x`` by the logistic function; torch's own takes thrice as long."""
    return 2 * torch.sigmoid(2 * x) - 1


def tanh(x: Field) -> Field:
    """Hyperbolic tangent."""
    if not isinstance(x, Jet):
        return _tanh(x)
    y = _tanh(x.value)
    first = 1 - y * y
    return compose(x, y, first, -2 * y * first)


def tanh_(x: Field) -> Field:
    """Hyperbolic tangent; a jet that needs no gradients is overwritten."""
    if not isinstance(x, Jet) or x.slots.requires_grad:
        return tanh(x)
    y = _tanh(x.value)
    first = 1 - y * y
    bend = _squares(x.jacobian).mul_(y)
    x.slots[-1].sub_(bend, alpha=2)
    x.slots[1:].mul_(first)
    x.slots[0] = y
    return x


def exp(x: Field) -> Field:
    """Exponential."""
    if not isinstance(x, Jet):
        return torch.exp(x)
    y = torch.exp(x.value)
    return compose(x, y, y, y)


def sin(x: Field) -> Field:
    """Sine."""
    if not isinstance(x, Jet):
        return torch.sin(x)
    y = torch.sin(x.value)
    return compose(x, y, torch.cos(x.value), -y)


def cos(x: Field) -> Field:
    """Cosine."""
    if not isinstance(x, Jet):
        return torch.cos(x)
    y = torch.cos(x.value)
    return compose(x, y, -torch.sin(x.value), -y)


def decay(x: Field, rate: Tensor) -> Field:
    """``exp(-rate x)`` of a field ``[..., 1]`` for every rate ``[..., channels]``."""
    if not isinstance(x, Jet):
        return torch.exp(-x * rate)
    y = torch.exp(-x.value * rate)
    first = -rate * y
    slots = x.slots * first
    slots[0] = y
    slots[-1].addcmul_(-rate * first, _squares(x.jacobian))
    return Jet(slots)


def log1p(x: Field) -> Field:
    """``log(1 + x)``."""
    if not isinstance(x, Jet):
        return torch.log1p(x)
    inverse = 1 / (1 + x.value)
    return compose(x, torch.log1p(x.value), inverse, -inverse * inverse)


def log_abs(x: Field) -> Field:
    """``log|x|``."""
    if not isinstance(x, Jet):
        return x.abs().log()
    inverse = 1 / x.value
    return compose(x, x.value.abs().log(), inverse, -inverse * inverse)


def inverse1p(x: Field) -> Field:
    """``1 / (1 + x)``."""
    if not isinstance(x, Jet):
        return 1 / (1 + x)
    inverse = 1 / (1 + x.value)
    return compose(x, inverse, -inverse * inverse, 2 * inverse**3)


def square(x: Field) -> Field:
    """``x^2``."""
    if not isinstance(x, Jet):
        return x * x
    value = x.value
    return compose(x, value * value, 2 * value, torch.full_like(value, 2.0))


def multiply(a: Field, b: Field) -> Field:
    """Product of two fields with derivatives by the same coordinates."""
    if not isinstance(a, Jet):
        return a * b
    slots = a.slots * b.value
    slots[1:] += a.value * b.slots[1:]
    slots[-1] += 2 * (a.jacobian * b.jacobian).sum(0)
    return Jet(slots)


def norm(x: Field) -> Field:
    """Euclidean length over the last axis, which is kept with size 1.

    For a local jet of ``coordinates`` the derivatives are ``x / |x|`` and
    ``(dim - 1) / |x|``, here obtained for any jet from the chain rule.
    """
    if not isinstance(x, Jet):
        return x.square().sum(-1, keepdim=True).sqrt()
    length = x.value.square().sum(-1, keepdim=True).sqrt()
    slots = (x.slots * (x.value / length)).sum(-1, keepdim=True)
    slots[0] = length
    curvature = x.jacobian.square().sum(0).sum(-1, keepdim=True)
    slots[-1] += (curvature - slots[1:-1].square().sum(0)) / length
    return Jet(slots)


def spread(x: Field) -> Field:
    """Turn a local jet of electrons ``[batch, n, ...]`` into a global one.

    Slot ``dim * i + x`` of electron ``i`` is filled, all others are zero.
    """
    if not isinstance(x, Jet):
        return x
    dim, batch, count = x.slots.shape[0] - 2, x.slots.shape[1], x.slots.shape[2]
    slots = x.slots.new_zeros(count * dim + 2, *x.slots.shape[1:])
    slots[0] = x.value
    slots[-1] = x.laplacian
    blocks = slots[1:-1].view(count, dim, batch, count, *x.slots.shape[3:])
    for i in range(count):
        blocks[i, :, :, i] = x.slots[1:-1, :, i]
    return Jet(slots)


def add_local(x: Field, local: Field) -> Field:
    """Add a local jet of electrons to a global one, both ``[batch, n, channels]``.

    The same as adding its :func:`spread`, without the zeros. The global one is overwritten.
    """
    if not isinstance(x, Jet):
        return x + local
    dim, count = local.slots.shape[0] - 2, x.slots.shape[2]
    x.slots[0] += local.value
    x.slots[-1] += local.laplacian
    own = x.slots[1:-1].unflatten(0, (count, dim)).diagonal(dim1=0, dim2=3)
    own += local.jacobian.movedim(2, -1)
    return x


def sum_electrons(x: Field) -> Field:
    """Sum a local jet ``[batch, n]`` over electrons -> global jet ``[batch]``."""
    if not isinstance(x, Jet):
        return x.sum(-1)
    gradient = x.jacobian.permute(2, 0, 1).flatten(0, 1)
    return Jet(torch.cat([x.value.sum(-1)[None], gradient, x.laplacian.sum(-1)[None]]))


def sum_pairs(x: Field) -> Field:
    """Sum an *even* function of the difference over unordered pairs.

    ``x`` holds all ordered pairs ``[batch, n - 1, n]`` (local jet of the pair); the result
    is a global jet ``[batch]``.
    """
    if not isinstance(x, Jet):
        return 0.5 * x.sum((-1, -2))
    gradient = x.jacobian.sum(-2).permute(2, 0, 1).flatten(0, 1)
    return Jet(
        torch.cat(
            [0.5 * x.value.sum((-1, -2))[None], gradient, x.laplacian.sum((-1, -2))[None]]
        )
    )


def message(weight: Field, source: Field) -> Field:
    """Return ``m_i = sum over j != i of weight_ij * source_j`` channel by channel.

    Args:
        weight: local jet of pairs ``[batch, n - 1, n, channels]``.
        source: global jet of electrons ``[batch, n, channels]``.

    Returns:
        Global jet ``[batch, n, channels]``.
    """
    if not isinstance(weight, Jet):
        return _gather(weight, _ring(source))
    dim, count = weight.slots.shape[0] - 2, source.slots.shape[2]
    ring = _ring(source.slots)
    slots = _gather(weight.value, ring)
    blocks = slots[1:-1].unflatten(0, (count, dim))
    given = ring[1:-1].unflatten(0, (count, dim))
    by_them = source.jacobian.unflatten(0, (count, dim)).diagonal(dim1=0, dim2=3)
    by_them = _ring(by_them.movedim(-1, 2).contiguous())
    taken = _partners(ring[0], count)
    own = weight.jacobian * taken
    for p in range(count - 1):  # by the position of partner i + 1 + p, or that less n
        part, before = own[:, :, p].movedim(2, -1), count - 1 - p
        blocks.diagonal(p + 1, 3, 0).sub_(part[..., :before])
        blocks.diagonal(-before, 3, 0).sub_(part[..., before:])
    blocks.diagonal(0, 3, 0).add_(own.sum(2).movedim(2, -1))
    # 2 J_ij . (d_i - d_j) s_j, d_i the derivatives by the position of particle i
    by_me = _partners(given, count).diagonal(dim1=0, dim2=4).movedim(-1, 3)
    bend = (by_me - _partners(by_them, count)).mul_(weight.jacobian).sum(0)
    bend.addcmul_(weight.laplacian, taken)
    slots[-1].add_(bend.sum(1), alpha=2)
    return Jet(slots)


def attend(query: Field, key: Field, value: Field) -> Field:
    """Return ``sum over j of softmax_j(q_i . k_j) v_j``, head by head.

    With the logits ``l_ij = q_i . k_j``, their weights ``p`` and the means ``<.>`` that
    these give, the derivatives of a weight are

        dp = p c,  c = dl - <dl>;    lap p = p (g - <g>),  g = lap l + sum over k of c_k^2.

    Args:
        query: global jet ``[batch, heads, n, size]``.
        key: the same.
        value: the same.

    Returns:
        Global jet ``[batch, heads, n, size]``.
    """
    if not isinstance(query, Jet):
        return torch.softmax(query @ key.mT, -1) @ value
    transposed = key.slots.mT
    logits = query.slots @ transposed[0]
    logits[1:] += query.value @ transposed[1:]
    logits[-1] += 2 * (query.jacobian @ transposed[1:-1]).sum(0)
    share = torch.softmax(logits[0], -1)
    bent = logits[1:-1]
    bent -= (share * bent).sum(-1, keepdim=True)
    logits[-1] += _squares(bent)
    logits[-1] -= (share * logits[-1]).sum(-1, keepdim=True)
    logits[1:] *= share
    logits[0] = share
    slots = logits @ value.value
    slots[1:] += share @ value.slots[1:]
    slots[-1] += 2 * (logits[1:-1] @ value.jacobian).sum(0)
    return Jet(slots)


def _partners(ring: Tensor, count: int) -> Tensor:
    """View the partners of all particles in a ring, ``[..., n - 1, n, channels]``."""
    return ring.unfold(-2, count, 1).transpose(-1, -2)


def _ring(x: Tensor) -> Tensor:
    """Particles 1 to n - 1, then 0 to n - 2: partner ``p`` of ``i`` stands at ``i + p``."""
    return torch.cat([x[..., 1:, :], x[..., :-1, :]], -2)


def _gather(weight: Tensor, ring: Tensor) -> Tensor:
    """Sum ``weight[p, i] * source[i + 1 + p]`` over ``p``, of the ring of the source."""
    count = weight.shape[-2]
    total = weight[..., 0, :, :] * ring[..., :count, :]
    for p in range(1, count - 1):
        total = torch.addcmul(total, weight[..., p, :, :], ring[..., p : p + count, :])
    return total


def scale_(x: Field, factor: Field) -> Field:
    """Multiply a global jet by a local one, both ``[batch, n, channels]``.

    The global one is overwritten.
    """
    if not isinstance(x, Jet):
        return x * factor
    count = x.slots.shape[2]
    dim = factor.slots.shape[0] - 2
    own = x.jacobian.unflatten(0, (count, dim)).diagonal(dim1=0, dim2=3).movedim(-1, 2)
    more = x.value * factor.jacobian
    bend = x.value * factor.laplacian
    bend.add_((own * factor.jacobian).sum(0), alpha=2)
    x.slots.mul_(factor.value)
    own += more
    x.slots[-1] += bend
    return x


def log_determinants(matrix: Field) -> tuple[Tensor, Field]:
    """Return sign and logarithm of ``|sum over d of det M_d|``.

    With ``X_k = M^-1 dM/dq_k`` the rules are ``d log det = tr X_k`` and
    ``lap log det = tr(M^-1 lap M) - sum_k tr(X_k X_k)``; the sum over determinants is taken
    in the logarithm, so that no determinant under- or overflows.

    Args:
        matrix: ``[batch, determinants, n, n]`` (or its jet).

    Returns:
        ``[batch]`` sign (0 where the sum vanishes) and ``[batch]`` logarithm.
    """
    value = matrix.value if isinstance(matrix, Jet) else matrix
    sign, logarithm = torch.linalg.slogdet(value)
    top = logarithm.max(-1, keepdim=True).values.detach()
    top = torch.where(top.isfinite(), top, torch.zeros_like(top))
    terms = sign * torch.exp(logarithm - top)
    total = terms.sum(-1)
    result = total.abs().log() + top[..., 0]
    if not isinstance(matrix, Jet):
        return total.sign(), result
    slots, size = matrix.slots.shape[0] - 1, value.shape[-1]
    stacked = matrix.slots[1:].permute(1, 2, 3, 0, 4).flatten(-2)
    inverse, singular = torch.linalg.inv_ex(value)
    # One walker on a node must not end the run: its energy becomes NaN and it is replaced.
    inverse = torch.where(singular[..., None, None] == 0, inverse, torch.nan)
    solved = (inverse @ stacked).unflatten(-1, (slots, size))
    traces = solved.diagonal(dim1=-3, dim2=-1).sum(-1)
    first = solved[..., :-1, :]
    products = (first * first.transpose(-3, -1)).sum((-1, -2, -3))
    gradient, curvature = traces[..., :-1], traces[..., -1] - products
    share = (terms / total[..., None])[..., None]
    jacobian = (share * gradient).sum(-2)
    laplacian = (share[..., 0] * (curvature + gradient.square().sum(-1))).sum(-1)
    laplacian = laplacian - jacobian.square().sum(-1)
    return total.sign(), Jet(torch.cat([result[None], jacobian.T, laplacian[None]]))
