"""Radial functions of Deep Potentials, and the switch that ends them."""

import functools
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def switch(distance: Tensor, start: float, cutoff: float) -> Tensor:
    """Quintic switch w(r): 1 below ``start``, 0 beyond ``cutoff``, twice differentiable."""
    u = ((distance - start) / (cutoff - start)).clamp(0, 1)
    return u * u * u * (-6 * u * u + 15 * u - 10) + 1


def switch_gradient(distance: Tensor, start: float, cutoff: float) -> Tensor:
    """Return dw/dr in 1 / angstrom."""
    u = ((distance - start) / (cutoff - start)).clamp(0, 1)
    return -30 * (u * (1 - u)) ** 2 / (cutoff - start)


def polar(displacements: Tensor, mask: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Return distances ``[...]`` and unit vectors ``[..., 3]``; empty slots lie outside.

    An empty slot is moved beyond the cutoff, where every function is zero with all its
    derivatives, instead of to the origin, where the unit vector has none.
    """
    outside = displacements.new_tensor([cutoff + 1.0, 0.0, 0.0])
    safe = torch.where(mask[..., None], displacements, outside)
    distance = torch.linalg.norm(safe, dim=-1)
    return distance, safe / distance[..., None]


def chebyshev_functions(
    distance: Tensor, basis: int, start: float, cutoff: float
) -> Tensor:
    """Return ``T_b(x) w(r)``, ``x = 2 (r / cutoff - 1)^2 - 1``, as ``[..., basis]``."""
    x = 2 * (distance / cutoff - 1).clamp(max=0) ** 2 - 1
    return _chebyshev(x, basis) * switch(distance, start, cutoff)[..., None]


def wave_functions(distance: Tensor, basis: int, start: float, cutoff: float) -> Tensor:
    """Return ``T_b(x) w(r)``, ``x = 1 - 2 u^2 (3 - 2 u)``, ``u = r / cutoff``.

    x is nearly ``cos(pi u)``, so these are nearly ``cos(b pi u) w``, as fine at all
    distances. Those of :func:`chebyshev_functions` are finest near the nucleus, where no
    neighbour comes.

    Returns:
        ``[..., basis]``.
    """
    u = (distance / cutoff).clamp(max=1)
    x = 1 - 2 * u * u * (3 - 2 * u)
    return _chebyshev(x, basis) * switch(distance, start, cutoff)[..., None]


def chebyshev_functions_gradient(
    distance: Tensor, basis: int, start: float, cutoff: float
) -> Tensor:
    """Return the derivative of :func:`chebyshev_functions` in closed form."""
    y = (distance / cutoff - 1).clamp(max=0)
    return _series_gradient(distance, 2 * y * y - 1, 4 * y / cutoff, basis, start, cutoff)


def wave_functions_gradient(
    distance: Tensor, basis: int, start: float, cutoff: float
) -> Tensor:
    """Return the derivative of :func:`wave_functions` in closed form."""
    u = (distance / cutoff).clamp(max=1)
    x, slope = 1 - 2 * u * u * (3 - 2 * u), -12 * u * (1 - u) / cutoff
    return _series_gradient(distance, x, slope, basis, start, cutoff)


def _series_gradient(
    distance: Tensor, x: Tensor, slope: Tensor, basis: int, start: float, cutoff: float
) -> Tensor:
    """Return the derivative of ``T_b(x(r)) w(r)`` where that of x is ``slope``."""
    value = _chebyshev(x, basis)
    derivative = _chebyshev_derivative(x, basis) * slope[..., None]
    w = switch(distance, start, cutoff)[..., None]
    return derivative * w + value * switch_gradient(distance, start, cutoff)[..., None]


class ChebyshevRadial(nn.Module):
    """Radial functions as linear mixes of Chebyshev polynomials times the switch.

    ``phi_m(r) = sum_b C_bm T_b(x) w(r)``, ``x = 2 (r / cutoff - 1)^2 - 1``, one matrix C
    per neighbour species. Parameters: ``mix [members, species, basis, channels]``.
    """

    def __init__(
        self,
        members: int,
        species: int,
        basis: int,
        channels: int,
        start: float,
        cutoff: float,
    ) -> None:
        super().__init__()
        self.basis, self.start, self.cutoff = basis, start, cutoff
        self.mix = nn.Parameter(torch.zeros(members, species, basis, channels))

    def reset(self, generator: torch.Generator) -> None:
        """Draw the mix from N(0, 1 / (species basis))."""
        spread = (self.mix.shape[1] * self.basis) ** -0.5
        with torch.no_grad():
            self.mix.copy_(torch.randn(self.mix.shape, generator=generator) * spread)

    def functions(self, distance: Tensor) -> Tensor:
        """Return ``T_b(x) w(r)``, ``[..., basis]``."""
        return chebyshev_functions(distance, self.basis, self.start, self.cutoff)

    def functions_gradient(self, distance: Tensor) -> Tensor:
        """Return the derivative of :meth:`functions` with respect to r in closed form."""
        return chebyshev_functions_gradient(distance, self.basis, self.start, self.cutoff)

    def forward(self, distance: Tensor, species: int) -> Tensor:
        """Return ``phi [members, ..., channels]`` at distances to one neighbour species."""
        flat = self.functions(distance.reshape(-1)) @ self.mix[:, species]
        return flat.reshape(-1, *distance.shape, self.mix.shape[-1])


class EmbeddingRadial(nn.Module):
    """Radial functions of the smooth edition: ``phi_m = s G_m(s)``, ``s = w(r) / (r std)``.

    G is a tanh network with DeePMD-kit's skips: where the width doubles ``[h, h]`` is
    added, where it stays ``h``. One network per neighbour species (``type_one_side``).
    """

    scale: Tensor

    def __init__(
        self,
        members: int,
        species: int,
        neurons: Sequence[int],
        start: float,
        cutoff: float,
    ) -> None:
        super().__init__()
        self.start, self.cutoff = start, cutoff
        widths = [1, *neurons]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(members, species, a, b))
            for a, b in itertools.pairwise(widths)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(members, species, 1, b)) for b in neurons
        )
        self.register_buffer("scale", torch.ones(()))

    def reset(self, generator: torch.Generator) -> None:
        """Draw weights from N(0, 1 / (n_in + n_out)) and biases from N(0, 1)."""
        with torch.no_grad():
            for weight in self.weights:
                spread = (weight.shape[-1] + weight.shape[-2]) ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            for bias in self.biases:
                bias.copy_(torch.randn(bias.shape, generator=generator))

    def argument(self, distance: Tensor) -> Tensor:
        """Return ``s(r) = w(r) / r`` in 1 / angstrom."""
        return switch(distance, self.start, self.cutoff) / distance

    def argument_gradient(self, distance: Tensor) -> Tensor:
        """Return ds/dr."""
        dw = switch_gradient(distance, self.start, self.cutoff)
        return (dw - switch(distance, self.start, self.cutoff) / distance) / distance

    def forward(self, distance: Tensor, species: int) -> Tensor:
        """Return ``phi [members, ..., channels]`` at distances to one neighbour species."""
        phi = self.value(self.argument(distance.reshape(-1)), species)
        return phi.reshape(phi.shape[0], *distance.shape, phi.shape[-1])

    def value(self, argument: Tensor, species: int) -> Tensor:
        """Return ``phi [members, n, channels]`` for ``s [n]``."""
        scaled = (argument * self.scale)[:, None]
        hidden = scaled
        for weight, bias in zip(self.weights, self.biases, strict=True):
            new = torch.tanh(_affine(hidden, weight[:, species], bias[:, species]))
            hidden = _skip(hidden, new)
        return hidden * scaled

    def series(self, count: int, largest: float) -> Tensor:
        """Coefficients of ``phi_m(s) = s sum_b c_bm T_b(2 s / largest - 1)``, b < count.

        From the values at the ``count`` Chebyshev points of ``(0, largest]``, so it costs
        no more than ``count`` pairs; differentiable in the parameters.

        Args:
            count: number of terms.
            largest: s up to which it holds, 1 / angstrom.

        Returns:
            ``[members, species, count, channels]``.
        """
        points, transform = (x.to(self.scale) for x in _chebyshev_points(count))
        s = points * largest
        kinds = range(self.weights[0].shape[1])
        values = torch.stack([self.value(s, kind) for kind in kinds], 1)
        return transform @ (values / s[:, None])

    def value_and_slope(self, argument: Tensor, species: int) -> tuple[Tensor, Tensor]:
        """Return phi and dphi/ds (forward mode), each ``[members, n, channels]``."""
        scaled = (argument * self.scale)[:, None]
        hidden, tangent = scaled, torch.ones_like(scaled)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            w = weight[:, species]
            new = torch.tanh(_affine(hidden, w, bias[:, species]))
            slope = (1 - new * new) * (tangent * w if w.shape[-2] == 1 else tangent @ w)
            hidden, tangent = _skip(hidden, new), _skip(tangent, slope)
        return hidden * scaled, (hidden + tangent * scaled) * self.scale


@functools.cache
def _chebyshev_points(count: int) -> tuple[Tensor, Tensor]:
    """Chebyshev points of (0, 1), and the matrix from values there to coefficients."""
    angles = (torch.arange(count).double() + 0.5) * (math.pi / count)
    transform = torch.outer(torch.arange(count).double(), angles).cos() * (2 / count)
    transform[0] /= 2
    return 0.5 * (angles.cos() + 1), transform


def series_functions(
    argument: Tensor, slope: Tensor, largest: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """``s T_b(2 s / largest - 1)`` and its derivative by r, each ``[atoms, count, slots]``.

    Args:
        argument: ``s [atoms, slots]``.
        slope: ds/dr, 0 where a slot is empty, like s.
        largest: ``[atoms]``.
        count: number of functions.
    """
    stretch = 2 / largest[:, None]
    twice = 2 * (argument * stretch - 1)
    value = argument.new_empty(len(argument), count, argument.shape[1])
    change = torch.empty_like(value)
    value[:, 0], change[:, 0] = argument, slope
    if count > 1:
        value[:, 1] = 0.5 * twice * argument
        change[:, 1] = (0.5 * twice + stretch * argument) * slope
    turn = 2 * stretch * slope
    for b in range(2, count):
        torch.mul(twice, value[:, b - 1], out=value[:, b]).sub_(value[:, b - 2])
        torch.mul(twice, change[:, b - 1], out=change[:, b]).sub_(change[:, b - 2])
        change[:, b].addcmul_(turn, value[:, b - 1])
    return value, change


def _chebyshev(x: Tensor, count: int) -> Tensor:
    values = [torch.ones_like(x), x]
    for _ in range(count - 2):
        values.append(2 * x * values[-1] - values[-2])
    return torch.stack(values[:count], -1)


def _chebyshev_derivative(x: Tensor, count: int) -> Tensor:
    """T_n' = n U_(n-1)."""
    second = [torch.zeros_like(x), torch.ones_like(x), 2 * x]
    for _ in range(count - 3):
        second.append(2 * x * second[-1] - second[-2])
    return torch.stack([n * second[n] for n in range(count)], -1)


def _affine(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.shape[-2] == 1:
        return hidden * weight + bias
    return hidden @ weight + bias


def _skip(old: Tensor, new: Tensor) -> Tensor:
    if new.shape[-1] == old.shape[-1]:
        return new + old
    if new.shape[-1] == 2 * old.shape[-1] and old.shape[-1] > 1:
        return new + torch.cat([old, old], -1)
    return new


__all__ = [
    "ChebyshevRadial",
    "EmbeddingRadial",
    "chebyshev_functions",
    "chebyshev_functions_gradient",
    "polar",
    "series_functions",
    "switch",
    "switch_gradient",
    "wave_functions",
    "wave_functions_gradient",
]
