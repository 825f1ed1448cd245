"""Orbitals that a wavefunction starts from, evaluated exactly with their derivatives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import jet
from .jet import Field, Jet

INTERVALS = 512
"""Intervals of a radial table."""
REACH = 1.0
"""Distance (bohr) that halves a table: knots stand at ``d = REACH t / (INTERVALS - t)``."""


@dataclass(frozen=True)
class Function:
    """A function ``x^a y^b z^c R(d)`` around one centre, part of every orbital.

    Attributes:
        centre: index of the centre.
        radial: index of its radial function at that centre.
        powers: ``(a, b, c)``.
        coefficients: ``[orbitals]``.
    """

    centre: int
    radial: int
    powers: tuple[int, int, int]
    coefficients: Tensor


def knots() -> Tensor:
    """Return the distances of the knots but the last, which lies at infinity."""
    t = torch.arange(INTERVALS, dtype=torch.float64)
    return REACH * t / (INTERVALS - t)


def tabulate(value: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return quintic pieces through values and two derivatives by the distance.

    Args:
        value: ``[..., INTERVALS]`` at :func:`knots`.
        first: first derivatives there.
        second: second derivatives.

    Returns:
        ``[INTERVALS, 6, ...]`` coefficients of ``u^0 ... u^5``, ``u`` from 0 to 1 in each
        interval of ``t``; the last piece is zero.
    """
    d = knots()
    slope = (REACH + d).square() / (INTERVALS * REACH)  # dd/dt
    bend = 2 * (REACH + d) / (INTERVALS * REACH) * slope
    f, g = value, first * slope
    h = second * slope.square() + first * bend
    f0, g0, h0 = f[..., :-1], g[..., :-1], 0.5 * h[..., :-1]
    df = f[..., 1:] - f0 - g0 - h0
    dg = g[..., 1:] - g0 - 2 * h0
    dh = 0.5 * h[..., 1:] - h0
    pieces = [f0, g0, h0, 10 * df - 4 * dg + dh, -15 * df + 7 * dg - 2 * dh]
    pieces.append(6 * df - 3 * dg + dh)
    table = torch.stack(pieces).movedim(-1, 0)
    return torch.cat([table, torch.zeros_like(table[:1])])


class TabulatedOrbitals(nn.Module):
    """``phi_k(r) = sum_A S_kA(d_A) + sum_f c_kf x^a y^b z^c R_f(d)``, a local field.

    Radial functions are quintic splines, so that the cost does not depend on the Gaussian
    basis they come from and their cusps are exact.

    Args:
        positions: centres ``[centres, 3]`` in bohr.
        tables: of every centre, ``[INTERVALS, 6, radials]`` (:func:`tabulate`); the first
            columns are the ``S_kA``, one for each orbital.
        functions: what is not spherical.
        orbitals: their number.
    """

    positions: Tensor
    table: Tensor
    coefficients: Tensor
    radials: Tensor
    powers: Tensor

    def __init__(
        self,
        positions: Tensor,
        tables: Sequence[Tensor],
        functions: Sequence[Function],
        orbitals: int,
    ) -> None:
        super().__init__()
        width = max(table.shape[-1] for table in tables)
        padded = [torch.nn.functional.pad(t, (0, width - t.shape[-1])) for t in tables]
        self.orbitals, self.width, count = orbitals, width, len(tables)
        self.highest = max((sum(f.powers) for f in functions), default=0)
        self.register_buffer("positions", positions)
        self.register_buffer("table", torch.cat(padded).flatten(1))
        self.register_buffer("first", INTERVALS * torch.arange(count))
        none = positions.new_zeros(0, orbitals)
        own = [f.coefficients[None] for f in functions]
        self.register_buffer("coefficients", torch.cat([none, *own]))
        place = [width * f.centre + f.radial for f in functions]
        self.register_buffer("radials", torch.tensor(place, dtype=torch.long))
        power = [[f.centre, *f.powers] for f in functions]
        self.register_buffer("powers", torch.tensor(power, dtype=torch.long).view(-1, 4))

    def forward(self, r: Field) -> Field:
        """Return all orbitals ``[batch, n, orbitals]`` at ``r [batch, n, 3]``."""
        plain = not isinstance(r, Jet)
        x = (r if plain else r.value)[:, :, None] - self.positions
        d = x.norm(dim=-1, keepdim=True)
        radial, *derivatives = self._radial(d, plain)
        if derivatives:
            unit = (x / d.clamp(min=1e-30)).movedim(-1, 0)[..., None]
            f, (g, h) = radial, derivatives
            radial = torch.cat([f[None], g * unit, (h + 2 * g / d.clamp(min=1e-30))[None]])
        found = self._spherical(radial)
        if len(self.radials):
            angular = self._angular(x, plain)
            chosen = radial.flatten(-2)[..., self.radials]
            product = jet.multiply(
                *((chosen, angular) if plain else (Jet(chosen), Jet(angular)))
            )
            found = found + (product if plain else product.slots) @ self.coefficients
        return found if plain else Jet(found)

    def _spherical(self, radial: Tensor) -> Tensor:
        return radial[..., : self.orbitals].sum(-2)

    def _radial(self, d: Tensor, plain: bool) -> list[Tensor]:
        """Return values ``[batch, n, centres, radials]``, unless plain also derivatives."""
        near = 1 / (d + REACH)
        t = INTERVALS * d * near
        cell = t.detach().floor().clamp(0, INTERVALS - 1)
        u = t - cell
        place = torch.where(cell.isfinite(), cell, 0).long()[..., 0] + self.get_buffer(
            "first"
        )
        rows = nn.functional.embedding(place, self.table)
        c = rows.unflatten(-1, (6, self.width)).unbind(-2)
        value = c[5]
        for k in (4, 3, 2, 1, 0):
            value = torch.addcmul(c[k], value, u)
        if plain:
            return [value]
        slope = torch.addcmul(c[4], c[5], u, value=1.25) * 4
        slope = torch.addcmul(3 * c[3], slope, u)
        slope = torch.addcmul(2 * c[2], slope, u)
        slope = torch.addcmul(c[1], slope, u)
        bend = torch.addcmul(12 * c[4], c[5], u, value=20)
        bend = torch.addcmul(6 * c[3], bend, u)
        bend = torch.addcmul(2 * c[2], bend, u)
        rate = INTERVALS * REACH * near.square()
        return [value, slope * rate, bend * rate.square() - 2 * slope * rate * near]

    def _angular(self, x: Tensor, plain: bool) -> Tensor:
        """Monomials of every function, or their local jets ``[5, batch, n, functions]``."""
        # Positions stand last here, so that choosing is copying whole rows.
        axes = torch.arange(3, device=x.device)
        rows = x.flatten(0, 1).flatten(1).T.contiguous()
        powers = [torch.ones_like(rows)]
        for _ in range(self.highest):
            powers.append(powers[-1] * rows)
        flat = torch.cat(powers)  # [power, centre, axis; batch * n]
        exponent = self.powers[:, 1:]
        column, stride = 3 * self.powers[:, :1] + axes, len(rows)

        def take(lower: Tensor) -> Tensor:
            place = column + stride * (exponent - lower).clamp(min=0)
            found = flat.index_select(0, place.flatten()).unflatten(0, place.shape)
            return found.movedim(-1, 0).unflatten(0, x.shape[:2])

        zero = torch.zeros_like(exponent)
        value = take(zero)
        product = value[..., 0] * value[..., 1] * value[..., 2]
        if plain:
            return product
        first = take(zero + 1) * exponent
        second = take(zero + 2) * (exponent * (exponent - 1))
        before = torch.stack([value[..., 1], value[..., 0], value[..., 0]], -1)
        after = torch.stack([value[..., 2], value[..., 2], value[..., 1]], -1)
        rest = before * after
        gradient = (first * rest).movedim(-1, 0)
        laplacian = (second * rest).sum(-1)
        return torch.cat([product[None], gradient, laplacian[None]])


class OscillatorOrbitals(nn.Module):
    """Orbitals of a harmonic trap, ``prod over axes of H_m(sqrt(w) x) exp(-w x^2 / 2)``.

    Each Hermite polynomial is scaled by ``1 / sqrt(2^m m!)``; the levels are filled from
    below.

    Args:
        omega: frequency in hartree.
        dim: space dimensions.
        orbitals: their number.
    """

    levels: Tensor

    def __init__(self, omega: float, dim: int, orbitals: int) -> None:
        super().__init__()
        self.omega, self.orbitals = omega, orbitals
        every = torch.cartesian_prod(*[torch.arange(orbitals + 1)] * dim).view(-1, dim)
        order = torch.argsort(every.sum(1), stable=True)
        self.register_buffer("levels", every[order[:orbitals]])
        self.register_buffer("positions", torch.zeros(1, dim))

    def forward(self, r: Field) -> Field:
        """Return all orbitals ``[batch, n, orbitals]`` at ``r [batch, n, dim]``."""
        root = math.sqrt(self.omega)
        x = jet.linear(lambda t: root * t, r)
        half = jet.linear(lambda t: -0.5 * t.sum(-1, keepdim=True), jet.square(x))
        total = jet.exp(half)
        dim = self.levels.shape[1]
        for axis in range(dim):
            own = jet.linear(lambda t, a=axis: t[..., a : a + 1], x)
            known = self._hermite(own)
            chosen = jet.linear(lambda t, a=axis: t[..., self.levels[:, a]], known)
            total = jet.multiply(chosen, total)
        return total

    def _hermite(self, x: Field) -> Field:
        """Scaled Hermite polynomials up to the highest level, along the last axis."""
        one = jet.shift(jet.linear(lambda t: 0 * t, x), 1.0)
        found = [one, jet.linear(lambda t: math.sqrt(2) * t, x)]
        for m in range(1, int(self.levels.max())):
            up, down = math.sqrt(2 / (m + 1)), math.sqrt(m / (m + 1))
            risen = jet.linear(lambda t, c=up: c * t, jet.multiply(x, found[-1]))
            fallen = jet.linear(lambda t, c=down: -c * t, found[-2])
            found.append(jet.add(risen, fallen))
        return jet.concat(*found)
