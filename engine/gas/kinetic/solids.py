r"""Maxwell walls of solids in the flow, for discrete velocities; see :mod:`..solids`.

Every cut has a ghost row of the distribution, which both cells beside it read. For a
velocity v along the cut's axis and the normal n into the gas:

- leaving the gas: the cell's own values, extrapolated, so that its slope is one-sided;
- coming in, from the wall (v.n > 0): at the surface ``alpha rho_w M_w + (1 - alpha)`` of
  what arrives there, mirrored; from there to the face by interpolation;
- coming in along a surface that it flies towards (v.n <= 0): extrapolated from the cell.

``rho_w`` makes the mass flux at the surface zero in the grid's own quadrature. On oblique
and curved surfaces the faces of the cuts are not the surface, and what comes in from the
wall is multiplied by one number a solid, 1 to the order of the scheme, so that no mass
passes: a closed box keeps its mass to round-off. A solid that an open end of the box cuts
off is left as it is (:attr:`..solids.Body.inside`).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..scheme.finite_volume import van_leer
from ..solids import Body
from .equilibrium import maxwellian
from .velocities import Velocities

TOGETHER = 1 << 22
"""Numbers of a distribution at the cuts that are handled at once."""
MOST_CHANGE = 0.5
"""Of the incoming part, to balance the mass: a bound for the first steps of a start that
is far from what the wall allows."""


@dataclass(frozen=True)
class _Some:
    """Some of the cuts: everything that is asked of them, ``k`` in number.

    Attributes:
        at: their numbers.
        cell: ``[k]`` row of the gas cell.
        behind: ``[k]`` row of the cell behind.
        solid: ``[k]``.
        distance: ``[k, 1]``.
        anchor: ``[k, 1]``.
        share: ``[k, 1]``.
        alpha: ``[k, 1]``.
        across: ``[k, nodes]`` speed along the axis into the solid.
        off: ``[k, nodes]`` ``v . n``.
        emitted: ``[parts, k, nodes]`` of unit mass flux.
        normal: ``[k, axes]`` f64.
        mirrors: whether a wall of them is not diffuse.
    """

    at: slice
    cell: Tensor
    behind: Tensor
    solid: Tensor
    distance: Tensor
    anchor: Tensor
    share: Tensor
    alpha: Tensor
    across: Tensor
    off: Tensor
    emitted: Tensor
    normal: Tensor
    mirrors: bool

    @cached_property
    def from_wall(self) -> Tensor:
        """What comes in from the wall."""
        return (self.across < 0) & (self.off > 0)


class SolidWalls:
    """Fills the ghost rows of cuts and sums what passes them.

    Args:
        body: the solids.
        velocities: nodes.
        dimension: D.
        parts: 1 or 2.
        dtype: of the distribution.
        device: of the distribution.

    Raises:
        InputError: a wall that the nodes cannot hold.
    """

    def __init__(
        self, body: Body, velocities: Velocities, dimension: int, parts: int,
        dtype: torch.dtype, device: torch.device,
    ) -> None:  # fmt: skip
        self.body, self.velocities, self._dimension = body, velocities, dimension
        self._parts, self._like = parts, torch.empty(0, dtype=dtype, device=device)
        V, cuts = velocities.axes, body.cuts
        for number in range(body.count):
            own = cuts.solid == number
            if bool(own.any()):
                velocities.check_range(
                    cuts.velocity[own, :V], cuts.temperature[own], f"solids.{number}.wall"
                )
        rest = torch.zeros(1, V, dtype=torch.float64)
        still = torch.full((1,), body.temperature, dtype=torch.float64)
        velocities.check_range(rest, still, "solids")
        self.mask = body.mask.flatten().nonzero()[:, 0].to(device)
        self._inside = body.inside.to(device)
        self._chunks: dict[int, list[_Some]] = {}
        wall = torch.cat([cuts.temperature[:, None], cuts.velocity[:, :V]], 1)
        kinds, self._kind = wall.unique(dim=0, return_inverse=True)
        one = torch.ones(len(kinds), dtype=torch.float64)
        emitted = maxwellian(velocities, one, kinds[:, 1:], kinds[:, 0], dimension)
        self._emitted = emitted.movedim(-2, 0)
        still = maxwellian(velocities, body.density + 0 * still, rest, still, dimension)
        self.still = still[0].to(device, dtype)[:, None]

    def _some(self, batch: int) -> list[_Some]:
        """Return all cuts, as many together as memory allows; few ones are kept."""
        if batch in self._chunks:
            return self._chunks[batch]
        each = batch * self._parts * self.velocities.count
        step, n = max(1, TOGETHER // each), len(self.body.cuts.cell)
        made = [self._make(slice(i, min(i + step, n))) for i in range(0, n, step)]
        if len(made) <= 4:
            self._chunks[batch] = made
        return made

    def _make(self, at: slice) -> _Some:
        cuts, v = self.body.cuts, self.velocities.nodes
        axis, normal, dim = cuts.axis[at], cuts.normal[at], self.body.grid.dim
        off = normal @ v[:, :dim].T
        emitted = self._emitted[:, self._kind[at]]
        flux = (off.clamp(min=0.0) * emitted[0]).sum(-1)
        like = self._like
        flat = torch.nn.functional.pad(normal, (0, self.velocities.axes - dim))

        def column(values: Tensor) -> Tensor:
            return values[at, None].to(like)

        return _Some(
            at,
            cuts.cell[at].to(like.device),
            cuts.behind[at].to(like.device),
            cuts.solid[at].to(like.device),
            column(cuts.distance),
            column(cuts.anchor),
            column(cuts.share),
            column(cuts.accommodation),
            (cuts.side[at, None] * v.T[axis]).to(like),
            off.to(like),
            (emitted / flux[None, :, None]).to(like),
            flat.to(like.device),
            bool((cuts.accommodation[at] < 1.0).any()),
        )

    def fill(self, f: Tensor, ghosts: Tensor) -> None:
        """Write the cuts' rows ``ghosts [batch, parts, n, nodes]`` from the cells of f."""
        parts, balance = [], []
        for some in self._some(len(f)):
            ghost, rates = self._ghost(f, some)
            rows = ghosts[:, :, some.at]
            rows[...] = ghost
            parts.append((some, rows))
            balance.append(rates)
        leaving, entering = torch.cat(balance, -1).unbind(1)
        # [batch, solids]: what must come in over what would
        change = self.body.sums(leaving) / self.body.sums(entering).clamp(min=1e-300)
        change = change.clamp(1.0 - MOST_CHANGE, 1.0 + MOST_CHANGE)
        change = torch.where(self._inside, change, 1.0)
        for some, rows in parts:
            factor = change[:, some.solid][:, None, :, None]
            rows *= torch.where(some.from_wall, factor, 1.0)

    def _ghost(self, f: Tensor, some: _Some) -> tuple[Tensor, Tensor]:
        """Return the ghost rows, and what mass leaves and comes from the wall."""
        f0, f1 = f[:, :, some.cell], f[:, :, some.behind]
        jump = f0 - f1
        arrived = (f0 + some.distance * jump).clamp(min=0.0)
        rate = (arrived[:, :1] * (-some.off).clamp(min=0.0)).sum(-1, keepdim=True)
        wall = rate * some.emitted
        if some.mirrors:
            mirrored = self._balanced(self._mirrored(arrived, some), arrived, some)
            wall = some.alpha * wall + (1.0 - some.alpha) * mirrored
        anchor = torch.where(some.anchor < 0, f1, f0)
        entering = (anchor + some.share * (wall - anchor)).clamp(min=0.0)
        beyond = (f0 + jump).clamp(min=0.0)
        along = (f0 + 0.5 * jump).clamp(min=0.0)
        inwards = torch.where(some.off > 0, entering, along)
        ghost = torch.where(some.across < 0, inwards, beyond)
        passing = self._passing(f0, jump, ghost, some)[:, 0] * some.across
        from_wall = some.from_wall
        into = torch.where(from_wall, -passing, 0.0).sum(-1)
        out = torch.where(from_wall, 0.0, passing).sum(-1)
        return ghost, torch.stack([out, into], 1)

    def _passing(self, f0: Tensor, jump: Tensor, ghost: Tensor, some: _Some) -> Tensor:
        """Return the distribution at the face, as the transport has it."""
        leaving = f0 + 0.5 * van_leer(jump, ghost - f0)
        return torch.where(some.across > 0, leaving, ghost)

    def _balanced(self, mirrored: Tensor, arrived: Tensor, some: _Some) -> Tensor:
        """Return the mirrored part times ``a + b v^2``, that no mass and energy is lost.

        Mirrored nodes lie between nodes; a is 1 and b is 0 to the order of the cubics.
        """
        square = self.velocities.like(arrived).square().sum(-1)

        def flux(f: Tensor, speed: Tensor, weight: Tensor | float = 1.0) -> Tensor:
            return (f * (speed.clamp(min=0.0) * weight)).sum(-1, keepdim=True)

        def energy(f: Tensor, speed: Tensor, weight: Tensor | float = 1.0) -> Tensor:
            along = flux(f[:, :1], speed, weight * square)
            return along + flux(f[:, 1:], speed, weight).sum(1, keepdim=True)

        mass, heat = flux(arrived[:, :1], -some.off), energy(arrived, -some.off)
        g = mirrored[:, :1]
        m, e = flux(g, some.off), energy(mirrored, some.off)
        m2, e2 = flux(g, some.off, square), energy(mirrored, some.off, square)
        whole = (m * e2 - m2 * e).clamp(min=1e-300)
        a, b = (mass * e2 - heat * m2) / whole, (heat * m - mass * e) / whole
        return mirrored * (a + b * square).clamp(min=0.0)

    def _mirrored(self, f: Tensor, some: _Some) -> Tensor:
        """Return f at the velocities before a mirror, by Lagrange's cubics along axes.

        Args:
            f: ``[batch, parts, k, nodes]``.
            some: the cuts.
        """
        v = self.velocities
        nodes = v.like(some.normal)
        before = nodes - 2.0 * some.off.double()[..., None] * some.normal[:, None]
        index = torch.zeros_like(before[None, ..., 0], dtype=torch.int64)
        weight = torch.ones_like(before[None, ..., 0])
        for d in range(v.axes):
            first = v.lower[d] + 0.5 * v.spacing[d]
            place = (before[..., d] - first) / v.spacing[d]
            at, shares = _cubic(place, v.shape[d])
            index = (index[:, None] * v.shape[d] + at[None]).flatten(0, 1)
            weight = (weight[:, None] * shares[None]).flatten(0, 1)
        out = torch.zeros_like(f)
        for at, share in zip(index, weight.to(f), strict=True):
            out += share * f.gather(-1, at.expand_as(f))
        return out.clamp(min=0.0)

    def loads(self, f: Tensor) -> dict[str, Tensor]:
        """Return what is observed: the force on each solid and the heat that it takes."""
        ghosts = f.new_empty(*f.shape[:2], len(self.body.cuts.cell), f.shape[-1])
        self.fill(f, ghosts)
        v, weight = self.velocities.like(f), self.velocities.weight
        momentum, energy = [], []
        area = self.body.cuts.area.to(f)
        for some in self._some(len(f)):
            f0 = f[:, :, some.cell]
            jump = f0 - f[:, :, some.behind]
            ghost = ghosts[:, :, some.at]
            flux = self._passing(f0, jump, ghost, some) * some.across
            flux = weight * area[some.at, None] * flux
            momentum.append(flux[:, 0] @ v)
            e = flux[:, 0] @ v.square().sum(-1)
            energy.append(0.5 * (e + flux[:, 1:].sum((1, -1))))
        force = self.body.sums(torch.cat(momentum, 1).movedim(-1, 1)).movedim(1, -1)
        return self.body.observed(force, self.body.sums(torch.cat(energy, 1)))


def _cubic(place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return four nodes and their weights ``[4, ...]``; beyond the ends the weight is 0."""
    low = place.floor()
    t = place - low
    shares = torch.stack([
        -t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2, (t + 1) * t * (t - 1) / 6,
    ])  # fmt: skip
    steps = torch.arange(-1, 3, device=place.device).view(-1, *(1,) * place.dim())
    nodes = low.long() + steps
    within = (nodes >= 0) & (nodes < count)
    return nodes.clamp(0, count - 1), torch.where(within, shares, 0.0)


def neighbours_with_cuts(table: Tensor, body: Body, first: int) -> Tensor:
    """Return ``neighbours`` in which cuts lead to ghost rows and solids stand alone.

    Args:
        table: ``[cells, 4 * space]`` rows at -2, -1, +1, +2 along each axis.
        body: the solids.
        first: row of the first cut's ghost.
    """
    device = table.device
    table = table.cpu().clone()
    solid = body.mask.flatten().nonzero()[:, 0]
    table[solid] = solid[:, None].to(table.dtype)
    cuts = body.cuts
    ghost = (first + torch.arange(len(cuts.cell))).to(table.dtype)
    high = (cuts.side > 0).long()
    near, far = 4 * cuts.axis + 1 + high, 4 * cuts.axis + 3 * high
    table[cuts.cell, near] = ghost
    table[cuts.cell, far] = ghost
    table[cuts.behind, far] = ghost
    return table.to(device)
