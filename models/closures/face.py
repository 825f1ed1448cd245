r"""A learned closure that looks at one face: the closing moment from what meets there.

A moment system of order M carries w = (rho, u, theta, f_3 .. f_M); its last equation asks
for ``df_{M+1}/dx``. Moments of one point determine only 40% of the variance of f_{M+1}:
in free flight ``g_6 = -(t/6) dg_5/dx``, so the knowledge sits in differences. This module
sees the moments at the face and differences of all fields over the distances ``reach``: one
short distance is the gradient; several make a quadrature of the Hilbert transform, the form
of the exact linear closure (Hammett and Perkins, Phys. Rev. Lett. 64, 1990, p. 3019)::

    f_{M+1} = rho theta^((M+1)/2) g_{M+1},
    g_{M+1} = K / (K + K_0)  S A tanh( N(z) / A ),       K = tau sqrt(theta) / L

* Inputs z are ratios: ``g_k = f_k / (rho theta^(k/2))``, differences of w over the same
  scales, log K. So the closure does not change with the frame, the unit of mass or the
  unit of temperature.
* N is the mean over both mirror images, minus its value at uniform equilibrium.
* On a grid finer than that of the training what is seen are means of cells as wide as
  there, and waves too short for the filter are damped (:meth:`FaceClosure.short_waves`).
* The answer is bounded (A, times the size S of the moments that are carried, so that
  strong shocks can be told: ``S^2 = 1 + stretch^2 sum k! g_k^2``) and vanishes with the
  local Knudsen number K.
* The flux is one number per face, smoothed over a fixed length, so that it is conserved and
  explicit steps stay stable however fine the grid.
* Where an input leaves the range of the training data, a gate closes and the flux goes to
  zero; where Grad's row would lose real eigenvalues, :func:`hyperbolic_share` says how much
  of it may be kept. What is left then is HME, with the damping of short waves.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, MinLen
from jaxtyping import Float
from torch import Tensor, nn

from ..parts import part
from .contract import ClosureOutput, FaceStencil, weights_from

Widths = Annotated[tuple[Annotated[int, Ge(1), Le(1024)], ...], MinLen(1)]
"""Widths of the hidden layers of a network."""

DAMPING = 0.03
"""Of waves shorter than the filter, on grids finer than that of the training."""


@dataclass(frozen=True)
class View:
    """What a closure makes of a row before its network.

    Attributes:
        z: ``[batch, faces, inputs]`` normalised inputs.
        unit: ``[batch, faces]`` unit of the network's answer, gates included.
        trust: 1 inside the training range, 0 far outside.
        share: of Grad's last row that keeps the speeds real.
    """

    z: Tensor
    unit: Tensor
    trust: Tensor
    share: Tensor


class MirrorNet(nn.Module):
    """A perceptron whose answer is even or odd under z -> p z with signs p.

    ``N(z) = (P(z) +- P(p z)) / 2``; the first layer, linear in the even and the odd part of
    z, is shared by both images.
    """

    def __init__(self, parity: Tensor, hidden: Sequence[int], sign: int) -> None:
        super().__init__()
        self.sign = sign
        for name, side in (("even_index", parity > 0), ("odd_index", parity < 0)):
            self.register_buffer(name, torch.nonzero(side)[:, 0], persistent=False)
        place = torch.cat([self.even_index, self.odd_index]).argsort()
        self.register_buffer("place", place, persistent=False)
        self.even = nn.Linear(len(self.even_index), hidden[0])
        self.odd = nn.Linear(len(self.odd_index), hidden[0], bias=False)
        inner: list[nn.Module] = [nn.SiLU()]
        for a, b in itertools.pairwise(hidden):
            inner += [nn.Linear(a, b), nn.SiLU()]
        # A constant would cancel: the closure subtracts its value at equilibrium.
        self.rest = nn.Sequential(*inner, nn.Linear(hidden[-1], 1, bias=False))

    even_index: Tensor
    odd_index: Tensor
    place: Tensor

    def forward(self, z: Float[Tensor, "... inputs"]) -> Float[Tensor, "..."]:
        """Return N(z)."""
        # One product for both images; the weights are put in the order of z.
        even, odd = self.even.weight, self.odd.weight
        both = [torch.cat([even, sign * odd], 1)[:, self.place] for sign in (1.0, -1.0)]
        first = nn.functional.linear(z, torch.cat(both), self.even.bias.repeat(2))
        return self._mean(first.unflatten(-1, (2, -1)))

    def at_rest(self, z: Float[Tensor, "... evens"]) -> Float[Tensor, "..."]:
        """Return N where only the first even inputs ``z`` are not zero (even N only)."""
        first = nn.functional.linear(z, self.even.weight[:, : z.shape[-1]], self.even.bias)
        return self.rest(first)[..., 0]

    def frozen(self) -> Callable[[Tensor], Tensor]:
        """Return N of rows ``[n, inputs]``, with the weights as they are now."""
        even, odd = self.even.weight.detach(), self.odd.weight.detach()
        both = [torch.cat([even, sign * odd], 1)[:, self.place] for sign in (1.0, -1.0)]
        layers = [(torch.cat(both), self.even.bias.detach().repeat(2))]
        layers += [
            (
                layer.weight.detach(),
                layer.bias if layer.bias is None else layer.bias.detach(),
            )
            for layer in self.rest
            if isinstance(layer, nn.Linear)
        ]
        sign, linear = 0.5 * self.sign, nn.functional.linear

        def answer(z: Tensor) -> Tensor:
            x = z
            for weight, bias in layers[:-1]:
                x = nn.functional.silu(linear(x, weight, bias), inplace=True)
                x = x.view(2 * len(z), -1)
            both = linear(x, layers[-1][0]).view(-1, 2)
            return 0.5 * both[:, 0] + sign * both[:, 1]

        return answer

    def _mean(self, first: Tensor) -> Tensor:
        both = self.rest(first)[..., 0]
        return 0.5 * (both[..., 0] + self.sign * both[..., 1])


def asinh(x: Tensor) -> Tensor:
    """Return asinh by vectorised functions; torch's own takes ten times as long."""
    square = x * x
    size = (square + 1e-30).sqrt()  # never 0, so that the slope at 0 is 1
    return x * (torch.log1p(size + square / (1.0 + (1.0 + square).sqrt())) / size)


def scales(w: Tensor) -> Tensor:
    """Return one over the scales of w, ``[..., M + 1]``.

    ``1 / rho, theta^(-1/2), 1 / theta`` and ``sqrt(k!) / (rho theta^(k/2))``.
    """
    slow, thin = w[..., 2].rsqrt(), 1.0 / w[..., 0]
    found, power = [thin, slow, slow * slow], thin * slow * slow
    for k in range(3, w.shape[-1]):
        power = power * (slow * math.sqrt(k) if k > 3 else slow * math.sqrt(6.0))
        found.append(power)
    return torch.stack(found, -1)


def scaled_moments(w: Tensor) -> Tensor:
    """Return ``sqrt(k!) f_k / (rho theta^(k/2))`` for k = 3..M, ``[..., M - 2]``."""
    return w[..., 3:] * scales(w)[..., 3:]


def hyperbolic_share(
    scaled: Float[Tensor, "*shape moments"], order: int, margin: float = 0.9
) -> Float[Tensor, "*shape"]:
    r"""Return the largest share of Grad's last row that keeps all speeds real.

    With a share s of Grad's row the speeds are ``u + c sqrt(theta)`` with the roots c of
    ``He_{M+1}(c) - s (M+1)! (g_M c + g_{M-1} (c^2 - 1) / 2)``. They are real and distinct
    if at the roots of He_M, where He_{M+1} has its extrema, and at +-1.25 times the
    largest root, the sign stays that of He_{M+1}. That is one inequality in s at each.

    Args:
        scaled: :func:`scaled_moments`.
        order: M, at least 4.
        margin: share of the limit that is used, below 1.
    """
    use = torch.as_tensor(row_weights(order), dtype=scaled.dtype, device=scaled.device)
    worst = (scaled[..., -2:] @ use).amax(-1)
    return (margin / worst.clamp(min=margin)).clamp(max=1.0)


def _positive(w: Tensor) -> Tensor:
    """Keep density and temperature of a state above nothing."""
    rho, theta = w[..., :1].clamp(min=1e-6), w[..., 2:3].clamp(min=1e-6)
    return torch.cat([rho, w[..., 1:2], theta, w[..., 3:]], -1)


@lru_cache(maxsize=16)
def row_weights(order: int) -> np.ndarray:
    """Return what g_{M-1} and g_M add to the row, over He_{M+1}, at each of the points."""
    inner = np.polynomial.hermite_e.hermegauss(order)[0]
    outer = 1.25 * np.polynomial.hermite_e.hermegauss(order + 1)[0].max()
    at = np.concatenate([inner, [-outer, outer]])
    he = np.polynomial.hermite_e.hermeval(at, [0.0] * (order + 1) + [1.0])
    factor = math.factorial(order + 1)
    top = factor / math.sqrt(math.factorial(order)) * at / he
    below = factor / math.sqrt(math.factorial(order - 1)) * 0.5 * (at**2 - 1) / he
    return np.stack([below, top])


@part
class FaceForm:
    """How to make a :class:`FaceClosure`."""

    order: Annotated[int, Ge(4), Le(14)] = 5
    """M; there are M - 2 moments beyond density, momentum and energy."""
    hidden: Widths = (32, 32)
    """Widths of the network."""
    reach: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (0.01,)
    """Distances over which differences of the fields are seen, unit L; one short one is a
    purely local closure. On a grid too coarse the nearest cells are taken, so what is seen
    does not depend on the grid."""
    resolution: Annotated[float, Gt(0)] = 0.01
    """Width of the cells it was trained on, unit L; training sets it."""
    length: Annotated[float, Gt(0)] = 1.0
    """L, the unit of length in which the closure was trained."""
    smoothing: Annotated[float, Ge(0)] = 0.02
    """Standard deviation of the filter over the faces, unit L."""
    bound: Annotated[float, Gt(0)] = 4.0
    """A, the largest ``sqrt((M + 1)!)`` g_{M+1}, over the size of the moments where they
    stretch it."""
    onset: Annotated[float, Gt(0)] = 3e-3
    """K_0."""
    stretch: Annotated[float, Ge(0)] = 0.0
    """How the bound grows with the moments; 1 for strong shocks, 0 for weak flows."""
    kind: Literal["face_closure"] = "face_closure"

    contract: ClassVar = "faces"
    dimension: ClassVar = 1
    prandtl: ClassVar = 1.0

    def __post_init__(self) -> None:
        if self.order < 4:
            raise ValueError(f"order {self.order}: a learned closure needs at least 4")

    def build(self, seed: int | None = None) -> "FaceClosure":
        """Return the module with first weights from a seed, or torch's own generator."""
        with weights_from(seed):
            return FaceClosure(self)


class FaceClosure(nn.Module):
    """The closing moment at each face; see the module's text.

    Attributes:
        scale: typical size of each invariant, from the training data.
        limit: largest size met in training.
    """

    scale: Tensor
    limit: Tensor
    known = 3
    """Inputs that come from the Knudsen number; they lead and are even."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        order = config.order
        moments = [(-1.0) ** k for k in range(3, order + 1)]
        fields = torch.tensor([1.0, -1.0, 1.0, *moments])
        changes = [-fields] * len(config.reach)
        parity = torch.cat([torch.ones(self.known), torch.tensor(moments), *changes])
        self.net = MirrorNet(parity, config.hidden, (-1) ** (order + 1))
        size = len(parity) - self.known
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("limit", torch.full((size,), math.inf))

    def inputs(self, row: FaceStencil) -> tuple[Tensor, Tensor]:
        """Return log-Knudsen inputs ``[..., 3]`` and unscaled invariants ``[..., n]``."""
        return self.invariants(*self.seen(row), row.tau)

    def invariants(
        self, mean: Tensor, changes: Sequence[Tensor], tau: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the same from a state ``[..., M + 1]`` and its change over each reach."""
        mean = _positive(mean)
        scale = scales(mean)
        raw = torch.cat([(mean * scale)[..., 3:], *(d * scale for d in changes)], -1)
        ratio = tau * mean[..., 2].sqrt() / self.config.length
        return self.knudsen_inputs(ratio), raw

    def knudsen_inputs(self, ratio: Tensor) -> Tensor:
        """Return the three inputs from ``K = tau sqrt(theta) / L``, ``[..., 3]``."""
        k = torch.log10(ratio)
        return torch.stack(
            [0.5 * (k + 1), torch.sigmoid(2 * (k + 2)), torch.sigmoid(2 * (k + 0.5))], -1
        )

    def seen(self, row: FaceStencil) -> tuple[Tensor, list[Tensor]]:
        """Return the state at each face, and its change over each distance of ``reach``.

        Differences are centred at the face, over the nearest odd number of cells of the
        width of :meth:`pairs`, scaled to the distance asked for.
        """
        together = self.together(row)
        n, width = row.cells.shape[1], together * row.spacing
        wanted = [reach * self.config.length / width for reach in self.config.reach]
        halves = [min(max(1, round(0.5 * (r + 1))), max(1, n // together)) for r in wanted]
        pairs = self.pairs(row, halves)
        found = [
            (ahead - behind) * (cell / (2 * half - 1))
            for cell, half, (behind, ahead) in zip(wanted, halves, pairs, strict=True)
        ]
        own = row.mean
        if together == 1:
            return own, found
        behind, ahead = self.pairs(row, [1])[0]
        mean = 0.5 * (behind + ahead)
        if not row.periodic:  # only the outermost faces know a wall
            mean = torch.cat([own[:, :1], mean[:, 1:-1], own[:, -1:]], 1)
        return mean, found

    def together(self, row: FaceStencil) -> int:
        """Return how many cells of the row are as wide as one of the training."""
        wanted = round(self.config.resolution * self.config.length / row.spacing)
        return max(1, min(wanted, row.cells.shape[1] // 2))

    def pairs(self, row: FaceStencil, halves: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the cells ``half`` behind and ``half`` ahead of each face.

        They are as wide as in training: on a finer grid means of neighbours, so that a
        jump is not seen sharper than it was learned.
        """
        together, n = self.together(row), row.cells.shape[1]
        most = max(halves) * together
        boxes = self._surrounded(row, most)
        if together > 1:
            boxes = boxes.unfold(1, together, 1).mean(-1)
        starts = [(most - h * together, most + (h - 1) * together) for h in halves]
        return [(boxes[:, a : a + n + 1], boxes[:, b : b + n + 1]) for a, b in starts]

    def _surrounded(self, row: FaceStencil, most: int) -> Tensor:
        """The cells, and ``most`` more at both ends."""
        cells = row.cells
        if row.periodic:
            return torch.cat([cells[:, -most:], cells, cells[:, :most]], 1)
        first, last = cells[:, :1], cells[:, -1:]
        ends = first.expand(-1, most, -1), last.expand(-1, most, -1)
        return torch.cat([ends[0], cells, ends[1]], 1)

    def trust(self, z: Tensor) -> Tensor:
        """Return 1 within the training range, 0 from its double on (in asinh), smoothly.

        Args:
            z: :meth:`normalised`.
        """
        size = z[..., self.known :].abs() / torch.asinh(self.limit / self.scale)
        t = (size.amax(-1) - 1.0).clamp(0.0, 1.0)
        return 1.0 - t * t * (3.0 - 2.0 * t)

    def normalised(self, knudsen: Tensor, raw: Tensor) -> Tensor:
        """Return the network's inputs z, ``[..., known + n]``."""
        return torch.cat([knudsen, asinh(raw / self.scale)], -1)

    def scaled_moment(self, z: Tensor) -> Tensor:
        """Return ``sqrt((M + 1)!) g_{M+1} / S``, bounded, without gates of range."""
        value = self.net(z)
        if self.net.sign > 0:
            value = value - self.net.at_rest(z[..., : self.known])
        return self.config.bound * torch.tanh(value / self.config.bound)

    def onset_gate(self, row: FaceStencil) -> Tensor:
        """Return ``K / (K + K_0)``."""
        return self._gate(row.mean, row.tau)

    def _gate(self, mean: Tensor, tau: Tensor) -> Tensor:
        k = tau * mean[..., 2].clamp(min=1e-6).sqrt() / self.config.length
        return k / (k + self.config.onset)

    def forward(self, row: FaceStencil) -> ClosureOutput:
        """Return the closing moment and the gates at every face."""
        view, kind = self.view(row), row.low.dtype
        blend = (view.share * view.trust).to(kind)
        return ClosureOutput(self.flux(view, row).to(kind), blend, view.trust.to(kind))

    def view(self, row: FaceStencil) -> View:
        """Return all that does not depend on the weights: closures alike share it.

        In the precision of the module; a row in f64 is only looked at in f32 then.
        """
        mean, changes = self.seen(row)
        kind = self.scale.dtype
        return self.view_at(mean.to(kind), [d.to(kind) for d in changes], row.tau.to(kind))

    def view_at(self, mean: Tensor, changes: Sequence[Tensor], tau: Tensor) -> View:
        """Return the same from a state ``[..., M + 1]`` and its change over each reach."""
        knudsen, raw = self.invariants(mean, changes, tau)
        z = self.normalised(knudsen, raw)
        trust = self.trust(z.detach())
        moments = raw[..., : self.config.order - 2].detach()
        share = hyperbolic_share(moments, self.config.order)
        unit = self._gate(mean, tau) * self.unit_at(mean) * trust
        return View(z, unit, trust, share)

    def sees_like(self, other: "FaceClosure") -> bool:
        """Return whether both have the same :meth:`view` of any row."""
        if replace(self.config, hidden=other.config.hidden) != other.config:
            return False
        pairs = ((self.scale, other.scale), (self.limit, other.limit))
        return self is other or all(torch.equal(a, b) for a, b in pairs)

    def flux(self, view: View, row: FaceStencil) -> Tensor:
        """Return f_{M+1} at the faces."""
        flux = self.smooth(self.scaled_moment(view.z) * view.unit, row)
        return flux + self.short_waves(row) if self.together(row) > 1 else flux

    def short_waves(self, row: FaceStencil) -> Tensor:
        """Return what damps waves that the filter hides from the network, ``[.., faces]``.

        ``DAMPING sqrt(theta)`` times the third difference of f_M over cells of the width of
        the training. In a gas free flight damps them (k = 200 within 0.05 L / sqrt(theta));
        Grad's equations do not, and where the network learned the scheme did.
        """
        (near, far) = self.pairs(row, [1, 2])
        third = [ahead[..., -1] - behind[..., -1] for behind, ahead in (near, far)]
        theta = row.mean[..., 2]
        speed = DAMPING * theta.clamp(min=1e-6).sqrt()
        return speed * (third[1] - 3.0 * third[0])

    def unit(self, row: FaceStencil) -> Tensor:
        """Return ``S rho theta^((M + 1)/2) / sqrt((M + 1)!)`` at the faces."""
        return self.unit_at(row.mean)

    def unit_at(self, mean: Tensor) -> Tensor:
        """Return the same of a state ``[..., M + 1]``."""
        mean = _positive(mean)
        root = mean[..., 2].sqrt()
        unit = math.exp(-0.5 * math.lgamma(self.config.order + 2)) * mean[..., 0]
        for _ in range(self.config.order + 1):
            unit = unit * root
        if self.config.stretch == 0.0:
            return unit
        size = scaled_moments(mean).square().sum(-1)
        return unit * (1.0 + self.config.stretch**2 * size).sqrt()

    def filter_width(self, row: FaceStencil) -> float:
        """Return the standard deviation of :meth:`smooth` in cells."""
        return self.config.smoothing * self.config.length / row.spacing

    # -- waves exp(ikx) on a gas at rest, rho = theta = 1 ------------------------------

    def wave_inputs(self, k: Tensor, tau: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the Knudsen inputs, and each reach's change of a wave over ``i w``."""
        seen = [
            2.0 * torch.sin(0.5 * k * r * self.config.length) for r in self.config.reach
        ]
        return self.knudsen_inputs(tau / self.config.length), seen

    def wave_filter(self, k: Tensor, tau: Tensor) -> Tensor:
        """Return what gate and filter leave of the network's answer."""
        ratio = tau / self.config.length
        gate = ratio / (ratio + self.config.onset)
        return gate * torch.exp(
            -0.5 * (k * self.config.smoothing * self.config.length) ** 2
        )

    def wave_damping(self, k: Tensor) -> Tensor:
        """Return :meth:`short_waves` of a wave of f_M, over ``-i``, on a fine grid.

        The third difference over cells of width s has ``-8 i sin^4(k s / 2) / (k s / 2)``.
        """
        half = 0.5 * k * self.config.resolution * self.config.length
        return 8.0 * DAMPING * torch.sin(half) ** 4 / half

    def smooth(self, flux: Tensor, row: FaceStencil) -> Tensor:
        """Filter over the faces with a Gaussian (mirrored at ends)."""
        width = self.filter_width(row)
        half = math.ceil(3 * width)
        if half == 0:
            return flux
        if row.periodic:
            ring = flux[:, :-1]
            padded = torch.cat([ring[:, -half:], ring, ring[:, : half + 1]], 1)
        else:
            padded = torch.cat(
                [flux[:, 1 : half + 1].flip(1), flux, flux[:, -half - 1 : -1].flip(1)], 1
            )
        at = torch.arange(-half, half + 1, dtype=flux.dtype, device=flux.device)
        weights = torch.exp(-0.5 * (at / width) ** 2)
        weights = weights / weights.sum()
        return padded.unfold(1, 2 * half + 1, 1) @ weights
