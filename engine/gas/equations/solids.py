r"""Slip, no-slip and isothermal walls of solids in a fluid; see :mod:`..solids`.

Inviscid part: at the face of a cut, the gas of the cell meets its image, whose velocity
normal to the surface is such that the gas at the surface does not cross it (HLLC between
the two; a flat wall on faces of the grid is the usual mirror). The two faces beside the
cell get one-sided slopes. Viscous part: at the face, derivatives along the axis from the
parabola through the surface and two cells of gas; at the surface first-order slip and jump
on the same parabola. A wall of accommodation 0 takes neither shear nor heat.

What crosses the faces of the cuts of a solid inside the gas is corrected by one mass flux
per area, zero to the order of the scheme, so that no mass passes; where no wall takes heat,
no energy passes either. Solids that open ends of the box cut off are left as they are.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..material import Gas
from ..scheme.finite_volume import van_leer
from ..solids import Body

FULLY_SPECULAR = 1e-12
"""Accommodation that stands for none, so that nothing is divided by 0."""


def hllc(left: Tensor, right: Tensor, axis: Tensor, equation: Any) -> Tensor:
    """Return HLLC fluxes of density, momentum and energy, as the kernel has them.

    Args:
        left: ``[batch, dim + 2, n]`` density, velocity, pressure below the faces.
        right: above them.
        axis: ``[n]`` across each face.
        equation: of state.
    """
    sides = []
    index = axis.view(1, 1, -1).expand(len(left), 1, -1)
    for w in (left, right):
        rho, u, p = w[:, 0], w[:, 1:-1], w[:, -1]
        e = equation.energy(rho, p)
        c = equation.sound_speed(rho, e)
        v = u.gather(1, index)[:, 0]
        total = e + 0.5 * rho * u.square().sum(1)
        sides.append((rho, u, p, v, c, total))
    (r_l, u_l, p_l, v_l, c_l, e_l), (r_r, u_r, p_r, v_r, c_r, e_r) = sides
    s_l, s_r = torch.minimum(v_l - c_l, v_r - c_r), torch.maximum(v_l + c_l, v_r + c_r)
    m_l, m_r = r_l * (s_l - v_l), r_r * (s_r - v_r)
    s_m = (p_r - p_l + m_l * v_l - m_r * v_r) / (m_l - m_r)

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(s_m >= 0, a, b)

    rho, v, p, e, m = (
        pick(a, b) for a, b in ((r_l, r_r), (v_l, v_r), (p_l, p_r), (e_l, e_r), (m_l, m_r))
    )
    u = torch.where((s_m >= 0)[:, None], u_l, u_r)
    wave, cut = pick(s_l, s_r), pick(s_l.clamp(max=0.0), s_r.clamp(min=0.0))
    star = m / (wave - s_m)
    mass = rho * v + cut * (star - rho)
    energy = v * (e + p) + cut * (star * (e / rho + (s_m - v) * (s_m + p / m)) - e)
    # along the axis the star's velocity is s_m, across it that of the gas
    momentum = mass[:, None] * u
    normal = rho * v.square() + p + cut * (star * s_m - rho * v)
    momentum = momentum.scatter(1, index, normal[:, None])
    return torch.cat([mass[:, None], momentum, energy[:, None]], 1)


@dataclass(frozen=True)
class Line:
    """Cells along the axis of each cut: at it, and one and two behind.

    Attributes:
        here: ``[batch, variables, n]``.
        one: behind.
        two: behind that.
    """

    here: Tensor
    one: Tensor
    two: Tensor


class FluidSolids:
    """Fluxes at the cuts of a padded fluid.

    Args:
        body: the solids.
        padded: shape of the arrays with their ghost cells.
        pads: ghost cells at the low ends.
        dtype: of the fields.
        device: of the fields.
    """

    def __init__(
        self, body: Body, padded: tuple[int, ...], pads: tuple[int, ...],
        dtype: torch.dtype, device: torch.device,
    ) -> None:  # fmt: skip
        self.body, cuts, grid = body, body.cuts, body.grid
        self._like = torch.empty(0, dtype=dtype, device=device)
        steps = [1]
        for n in reversed(padded[1:]):
            steps.insert(0, steps[0] * n)
        strides = torch.tensor(steps)

        def place(cells: Tensor) -> Tensor:
            at = torch.unravel_index(cells, grid.shape)
            moved = sum((x + p) * s for x, p, s in zip(at, pads, steps, strict=True))
            return torch.as_tensor(moved)

        along = strides[cuts.axis] * cuts.side.long()
        solid = place(body.mask.flatten().nonzero()[:, 0])
        self._solid = solid.to(device)
        at = place(cuts.cell)
        low = cuts.side < 0
        # the flux of a face is kept at the cell below it
        face, next_ = torch.where(low, at + along, at), torch.where(low, at, at - along)
        self._at, self._along = at.to(device), along.to(device)
        self._face, self._next = face.to(device), next_.to(device)
        self._strides, self._low = strides.to(device), low.to(device)
        self._axis, self._owner = cuts.axis.to(device), cuts.solid.to(device)
        self.on = [(cuts.axis == d).nonzero()[:, 0].to(device) for d in range(grid.dim)]
        self._spacing = torch.tensor(grid.spacing, dtype=dtype, device=device)[self._axis]
        self._side, self._area = cuts.side.to(self._like), cuts.area.to(self._like)
        self._distance, self._anchor = (
            x.to(self._like) for x in (cuts.distance, cuts.anchor)
        )
        self._share, self._normal = cuts.share.to(self._like), cuts.normal.T.to(self._like)
        self._towards = cuts.towards.clamp(min=1e-6).to(self._like)
        beside, corner, fluid = _row_beside(body)
        self._beside = place(beside).to(device)
        self._corner, self._has_row = place(corner).to(device), fluid.to(device)
        self._wall_t = cuts.temperature.to(self._like)
        self._wall_u = cuts.velocity[:, : grid.dim].T.to(self._like)
        share = cuts.accommodation.clamp(min=FULLY_SPECULAR).to(self._like)
        self._reach = (2.0 - share) / share
        total = body.sums(cuts.area[None])[0]
        warm = body.sums((cuts.accommodation > 0).double()[None])[0] > 0
        self._total, self._warm = total.to(self._like), warm.to(device)
        self._inside = body.inside.to(device)

    # -- states -----------------------------------------------------------------------

    def hold(self, u: Tensor, values: tuple[float, ...]) -> None:
        """Put given values of the variables in solid cells."""
        flat = u.flatten(2)
        for q, value in enumerate(values):
            flat[:, q, self._solid] = value

    def _line(self, flat: Tensor, at: Tensor | slice = slice(None)) -> Line:
        place, along = self._at[at], self._along[at]
        return Line(*(flat[:, :, place - k * along] for k in range(3)))

    # -- inviscid ---------------------------------------------------------------------

    def fluxes(self, w: Tensor, first_order: bool, equation: Any) -> list[Tensor]:
        """Return the fluxes at the faces of all cuts and at the faces behind the cells.

        Args:
            w: ``[batch, dim + 2, *padded]`` density, velocity, pressure.
            first_order: no slopes.
            equation: of state.

        Returns:
            two of ``[batch, dim + 2, n]``.
        """
        line = self._line(w.flatten(2))
        jump = line.here - line.one
        back = van_leer(line.one - line.two, jump)
        slope = van_leer(jump, self._ahead(w, back))
        if first_order:
            slope = torch.zeros_like(slope)
        near = line.here + 0.5 * slope
        good = (near[:, 0] > 0) & (near[:, -1] > 0)
        near = torch.where(good[:, None], near, line.here)
        image = self._image(near, line, slope, equation)
        cut = self._between(near, image, equation)
        # the face behind: the slope of the cell there sees no solid
        inner = line.one + 0.5 * back
        outer = line.here - 0.5 * slope
        good = (outer[:, 0] > 0) & (outer[:, -1] > 0) & (inner[:, 0] > 0)
        good = (good & (inner[:, -1] > 0) & (not first_order))[:, None]
        inner = torch.where(good, inner, line.one)
        outer = torch.where(good, outer, line.here)
        return [self._corrected(cut, near, equation), self._between(inner, outer, equation)]

    def _ahead(self, w: Tensor, back: Tensor) -> Tensor:
        """Return the difference ahead of each cell, into the solid.

        From the row of cells beside, farther from the solid, where there is gas: what comes
        in through the faces along an oblique surface is then known from there, not from
        the cell that it flows into, which would not be stable. Else as it is behind.
        """
        flat = w.flatten(2)
        row = flat[:, :, self._corner] - flat[:, :, self._beside]
        return torch.where(self._has_row, row, back)

    def _image(self, near: Tensor, line: Line, slope: Tensor, equation: Any) -> Tensor:
        """Return the gas beyond the face, so that none crosses the surface.

        Where the gas is about to, at a speed that is not small against that of sound, as in
        an impulsive start, it is mirrored at the face itself.
        """
        u = line.here[:, 1:-1] + self._distance * slope[:, 1:-1]
        through = ((u - self._wall_u) * self._normal).sum(1, keepdim=True)
        rho, p = line.here[:, 0], line.here[:, -1]
        sound = equation.sound_speed(rho, equation.energy(rho, p))[:, None]
        share = 1.0 + (self._share - 1.0) * (1.0 - through.abs() / sound).clamp(min=0.0)
        image = near.clone()
        image[:, 1:-1] -= 2.0 * share * through * self._normal
        return image

    def _between(self, inside: Tensor, outside: Tensor, equation: Any) -> Tensor:
        """Return fluxes in the direction of the axis."""
        low = self._low
        left = torch.where(low, outside, inside)
        right = torch.where(low, inside, outside)
        return hllc(left, right, self._axis, equation)

    def _corrected(self, flux: Tensor, near: Tensor, equation: Any) -> Tensor:
        """Take off a mass flux per area, one of each solid, with what it brings."""
        area = self._side * self._area
        leak = self.body.sums(flux[:, 0] * area) / self._total
        leak = torch.where(self._inside, leak, 0.0)
        mass = leak[:, self._owner] * self._side
        rho, u, p = near[:, 0], near[:, 1:-1], near[:, -1]
        e = equation.energy(rho, p)
        enthalpy = (e + p) / rho + 0.5 * u.square().sum(1)
        brought = torch.cat([torch.ones_like(u[:, :1]), u, enthalpy[:, None]], 1)
        flux = flux - mass[:, None] * brought
        heat = self.body.sums(flux[:, -1] * area) / self._total
        heat = (
            torch.where(self._warm | ~self._inside, 0.0, heat)[:, self._owner] * self._side
        )
        return torch.cat([flux[:, :-1], (flux[:, -1] - heat)[:, None]], 1)

    def put(self, flux: list[Tensor], made: list[Tensor]) -> None:
        """Write fluxes at the faces of the cuts and behind them into padded arrays."""
        for f, on in zip(flux, self.on, strict=True):
            f.flatten(2)[:, :, self._next[on]] = made[1][:, :, on]
        self.replace(flux, made[0])

    # -- viscous ----------------------------------------------------------------------

    def wall(self, fields: Tensor, w: Tensor, gas: Gas, kn: Tensor, slips: tuple) -> Tensor:
        """Return velocity and temperature of the gas at surfaces, ``[batch, dim+1, n]``.

        Args:
            fields: ``[batch, dim + 1, *padded]`` velocity and temperature.
            w: density, velocity, pressure.
            gas: transport law.
            kn: ``[batch]``.
            slips: coefficients of slip and jump.
        """
        flat = w.flatten(2)[:, :, self._at]
        t = (flat[:, -1] / flat[:, 0]).clamp(min=1e-12)
        tau = gas.relaxation_time(kn[:, None], flat[:, 0].clamp(min=1e-12), t)
        free = self._reach * tau * (2.0 * t).sqrt() / (self._spacing * self._towards)
        a, b = self._two(fields)
        d = self._distance - self._anchor
        at_wall, at_a, at_b = (2 * d + 1) / (d * (d + 1)), -(d + 1) / d, d / (d + 1)
        rest = at_a * a + at_b * b

        def robin(value: Tensor, far: Tensor, rest: Tensor) -> Tensor:
            return (value - far * rest) / (1.0 + far * at_wall)

        slip = robin(self._wall_u, (slips[0] * free)[:, None], rest[:, :-1])
        through = ((slip - self._wall_u) * self._normal).sum(1, keepdim=True)
        slip = slip - through * self._normal
        jump = robin(self._wall_t, slips[1] * free / gas.prandtl_at(t), rest[:, -1])
        return torch.cat([slip, jump[:, None]], 1)

    def _two(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fields at the anchor and at the cell behind it."""
        line = self._line(fields.flatten(2))
        back = self._anchor < 0
        return torch.where(back, line.one, line.here), torch.where(back, line.two, line.one)

    def at_face(self, fields: Tensor, wall: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and derivatives along the axis at the faces of the cuts."""
        a, b = self._two(fields)
        d, s = self._distance - self._anchor, 0.5 - self._anchor
        # the parabola through b at -1, a at 0 and the wall at d, at s
        values = (
            wall * s * (s + 1) / (d * (d + 1))
            + a * (s + 1) * (d - s) / d
            + b * s * (s - d) / (d + 1)
        )
        slope = (
            wall * (2 * s + 1) / (d * (d + 1))
            + a * (d - 2 * s - 1) / d
            + b * (2 * s - d) / (d + 1)
        )
        return values, slope * self._side / self._spacing

    def central(self, change: Tensor, fields: Tensor, wall: Tensor, along: int) -> None:
        """Replace central differences of cells beside a solid, in place.

        Args:
            change: ``[batch, variables, *padded]`` half of the difference of the next and
                the last cell along an axis.
            fields: of which.
            wall: :meth:`wall`.
            along: the axis.
        """
        on = self.on[along]
        line = self._line(fields.flatten(2), on)
        d = self._distance[on]
        near = d >= 0.5
        # the slope at the cell of the parabola through its two neighbours on the line
        safe = torch.where(near, d, 0.5)
        first = (wall[:, :, on] - line.here) / safe
        parabola = (first + safe * (line.here - line.one)) / (1.0 + safe)
        straight = (wall[:, :, on] - line.one) / (1.0 + d)
        flat = change.flatten(2)
        flat[:, :, self._at[on]] = torch.where(near, parabola, straight) * self._side[on]

    def of_cells(self, values: Tensor) -> Tensor:
        """Return what the cells of gas at the cuts hold, ``[batch, variables, n]``."""
        return values.flatten(2)[:, :, self._at]

    def take(self, flux: list[Tensor]) -> Tensor:
        """Return the fluxes at the faces of all cuts, ``[batch, variables, n]``."""
        out = torch.cat([
            f.flatten(2)[:, :, self._face[on]] for f, on in zip(flux, self.on, strict=True)
        ], -1)  # fmt: skip
        return out[:, :, torch.cat(self.on).argsort()]

    def replace(self, flux: list[Tensor], at_cuts: Tensor) -> None:
        """Write the fluxes at the faces of all cuts into padded arrays."""
        for f, on in zip(flux, self.on, strict=True):
            f.flatten(2)[:, :, self._face[on]] = at_cuts[:, :, on]

    # -- observation ------------------------------------------------------------------

    def loads(self, flux: Tensor) -> dict[str, Tensor]:
        """Return what is observed, from the fluxes ``[batch, dim + 2, n]`` at the cuts."""
        area = self._side * self._area
        force = torch.stack(
            [self.body.sums(flux[:, 1 + d] * area) for d in range(self.body.grid.dim)], -1
        )
        return self.body.observed(force, self.body.sums(flux[:, -1] * area))


def _row_beside(body: Body) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each cut the cell beside its cell, away from the solid, and the next one.

    Returns:
        cells ``[n]`` beside, those next to them along the cut's axis, and whether both are
        gas of the box. A grid of one axis has none.
    """
    cuts, grid = body.cuts, body.grid
    none = torch.zeros_like(cuts.cell)
    if grid.dim == 1:
        return none, none, none.bool()
    across = cuts.normal.abs().scatter(1, cuts.axis[:, None], -1.0)
    # along both axes where the normal is between them: a choice would be no symmetric one
    leading = across >= across.amax(1, keepdim=True) - 1e-6
    way = torch.where(leading, torch.sign(cuts.normal), 0.0).long()
    at = torch.stack(torch.unravel_index(cuts.cell, grid.shape), 1)
    beside = at + way
    corner = beside.scatter_add(1, cuts.axis[:, None], cuts.side.long()[:, None])
    shape = torch.tensor(grid.shape)
    there = ((beside >= 0) & (beside < shape) & (corner >= 0) & (corner < shape)).all(1)
    beside, corner = (torch.where(there[:, None], x, at) for x in (beside, corner))
    steps = torch.tensor([math.prod(grid.shape[d + 1 :]) for d in range(grid.dim)])
    beside, corner = ((x * steps).sum(1) for x in (beside, corner))
    solid = body.mask.flatten()
    return beside, corner, there & (way != 0).any(1) & ~solid[beside] & ~solid[corner]
