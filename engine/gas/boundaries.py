"""Boundaries of the box, for every model alike; a package from outside adds its own.

A boundary is a part with one of two things:

- ``ghost(at, edge)`` returns what the cells beyond the face hold, in the model's own
  variables, from those of the cells at the face. ``at`` offers the words for it, and knows
  the place and the time (:class:`.faces.AtFace`), so that one method serves all models::

      @part
      class FixedPressure:
          \"\"\"Gas beyond the face has a given pressure.\"\"\"

          pressure: Annotated[float, Gt(0)]
          \"\"\"Reference density times R T0.\"\"\"
          kind: Literal["fixed_pressure"] = "fixed_pressure"

          def ghost(self, at, edge):
              density, velocity, temperature = at.gas_at(edge)
              return at.reservoir(self.pressure / temperature, velocity, temperature)

  For a kinetic model ``edge`` is the distribution, and what is returned is what comes in.
- ``wall``, the :class:`Wall` that it is at this face.

In Python a function ``(at, edge) -> ghost cells`` is a boundary too. ``Sides`` names the
two ends of one axis; a model takes one ``Sides`` per axis. :class:`Mixed` paints other
boundaries over parts of a face. A package from outside adds ``boundary.KIND``
(:mod:`scalebridge.models.parts`).

Inlets and outlets for subsonic flow take from the gas inside what travels outwards, to
first order along the characteristics, with the sound speed a and the speed u towards the
inside: p - rho a u leaves through the face, and rho - p / a^2 where gas does. They need no
more than density, velocity and temperature, so every model has them; a kinetic one is fed
the equilibrium of that state. Reference: J. Hirsch, Numerical Computation of Internal and
External Flows 2, 1990, section 19.1.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from torch import Tensor

from ...models.parts import Family, part
from ..errors import InputError
from .faces import AtFace, Face, Model, Value, check_text, moves
from .grid import Grid

Positive = Annotated[float, Gt(0), Le(1e6)]
Speed = Annotated[float, Ge(-1e3), Le(1e3)]
PositiveField = Positive | str
"""A number, or an expression of x, y, z and t; in Python also a function of them."""
SpeedField = Speed | str
Velocity = Annotated[tuple[SpeedField, ...], MaxLen(3)]


@part
class Periodic:
    """The opposite face; both ends of an axis must have it."""

    kind: Literal["periodic"] = "periodic"


@part
class Open:
    """Zero gradient: waves leave."""

    kind: Literal["open"] = "open"

    def ghost(self, at: AtFace, edge: Tensor) -> Tensor:
        """Return the cells at the face."""
        return edge


@part
class Inflow:
    """A reservoir in equilibrium at the given state: all of it comes in."""

    density: PositiveField
    """Reference densities: a number or an expression of x, y, z and t."""
    velocity: Annotated[Velocity, MinLen(1)]
    """One component per space dimension or more, unit sqrt(R T0)."""
    temperature: PositiveField
    """Reference temperatures."""
    kind: Literal["inflow"] = "inflow"

    def __post_init__(self) -> None:
        _check(self, "density", "temperature")

    def ghost(self, at: AtFace, edge: Tensor) -> Tensor:
        """Return the reservoir."""
        density, _, _ = at.gas_at(edge)
        u = at.vector(self.velocity, density)
        rho, t = at.field(self.density, density), at.field(self.temperature, density)
        return at.reservoir(rho, u, t)


@part
class PressureInlet:
    """Gas comes from a reservoir at rest, at the speed that the flow takes.

    On the way in it expands without loss, to ``p = p0 (1 - (gamma - 1) u^2 / 2 a0^2)^(gamma
    / (gamma - 1))``. With the static pressure held instead, a face would feed sound.
    """

    pressure: PositiveField
    """Of the reservoir (total pressure), unit rho0 R T0."""
    temperature: PositiveField
    """Of the reservoir (total temperature), reference temperatures."""
    kind: Literal["pressure_inlet"] = "pressure_inlet"

    def __post_init__(self) -> None:
        _check(self, "pressure", "temperature")

    def ghost(self, at: AtFace, edge: Tensor) -> Tensor:
        """Return the gas beyond, where also ``p - Z u = p_i - Z u_i``; u inwards."""
        near = _Near.of(at, edge)
        p0 = at.field(self.pressure, near.density)
        t0 = at.field(self.temperature, near.density)
        square = at.sound_speed(p0 / t0, t0).square()
        gamma, z = square / t0, near.impedance
        power = gamma / (gamma - 1.0)
        most = 0.9 * (2.0 * square / (gamma - 1.0)).sqrt()
        speed = near.speed + (p0 - near.pressure) / z
        for _ in range(6):  # Newton's method; the function is convex, its slope over Z
            speed = torch.minimum(speed, most)
            inwards = speed.clamp(min=0.0)
            cool = 1.0 - 0.5 * (gamma - 1.0) * inwards.square() / square
            p = p0 * cool**power
            off = near.pressure + z * (speed - near.speed) - p
            speed = speed - off / (z + gamma * inwards * p / (square * cool))
        speed = torch.minimum(speed, most)
        cool = 1.0 - 0.5 * (gamma - 1.0) * speed.clamp(min=0.0).square() / square
        return near.beyond(p0 * cool**power / (t0 * cool), speed, t0 * cool)


@part
class PressureOutlet:
    """Gas leaves against a given pressure; where it is supersonic nothing comes back."""

    pressure: PositiveField
    """Static pressure, unit rho0 R T0."""
    kind: Literal["pressure_outlet"] = "pressure_outlet"

    def __post_init__(self) -> None:
        _check(self, "pressure")

    def ghost(self, at: AtFace, edge: Tensor) -> Tensor:
        """Return the gas beyond, of the entropy of that inside."""
        near = _Near.of(at, edge)
        p = at.field(self.pressure, near.density)
        p = torch.where(-near.speed >= near.sound, near.pressure, p)
        rho = near.isentropic(p)
        speed = near.speed + (p - near.pressure) / near.impedance
        return near.beyond(rho, speed, p / rho, slide=near.velocity)


@part
class MassFlowInlet:
    """Gas of given mass flow and temperature comes in, at the pressure that it takes."""

    mass_flow: PositiveField
    """Mass per area and time, unit rho0 sqrt(R T0)."""
    temperature: PositiveField
    """Reference temperatures."""
    kind: Literal["mass_flow_inlet"] = "mass_flow_inlet"

    def __post_init__(self) -> None:
        _check(self, "mass_flow", "temperature")

    def ghost(self, at: AtFace, edge: Tensor) -> Tensor:
        """Return the gas beyond, where ``p u = J T`` and ``p - Z u = p_i - Z u_i``."""
        near = _Near.of(at, edge)
        t = at.field(self.temperature, near.density)
        z, feed = near.impedance, at.field(self.mass_flow, near.density) * t
        base = near.pressure - z * near.speed
        # the positive root of Z u^2 + base u = J T, without cancellation
        root = (base.square() + 4.0 * z * feed).sqrt()
        speed = torch.where(base > 0, 2.0 * feed / (base + root), (root - base) / (2.0 * z))
        return near.beyond(feed / speed / t, speed, t)


@part
class MassFlowOutlet:
    """Gas leaves with a given mass flow, or as much as it can (Mach number 1)."""

    mass_flow: PositiveField
    """Mass per area and time, unit rho0 sqrt(R T0)."""
    kind: Literal["mass_flow_outlet"] = "mass_flow_outlet"

    def __post_init__(self) -> None:
        _check(self, "mass_flow")

    def ghost(self, at: AtFace, edge: Tensor) -> Tensor:
        """Return the gas beyond: ``rho_i u (1 + (u_i - u) / a) = J``, u outwards."""
        near = _Near.of(at, edge)
        wanted = at.field(self.mass_flow, near.density)
        a, most = near.sound, (1.0 - near.speed / near.sound).clamp(min=0.0)
        spare = most.square() - 4.0 * wanted / (near.density * a)
        speed = 0.5 * a * (most - spare.clamp(min=0.0).sqrt())
        p = near.pressure - near.impedance * (near.speed + speed)
        p = torch.maximum(p, 0.1 * near.pressure)
        rho = near.isentropic(p)
        return near.beyond(rho, -speed, p / rho, slide=near.velocity)


@dataclass(frozen=True)
class _Near:
    """The gas at a face, as inlets and outlets see it; all ``[batch, *cells]``.

    Attributes:
        at: where.
        density: rho.
        velocity: ``[batch, *cells, components]``.
        speed: normal to the face, positive inwards.
        pressure: p.
        sound: a.
        impedance: rho a.
    """

    at: AtFace
    density: Tensor
    velocity: Tensor
    speed: Tensor
    pressure: Tensor
    sound: Tensor
    impedance: Tensor

    @classmethod
    def of(cls, at: AtFace, edge: Tensor) -> "_Near":
        rho, u, t = at.gas_at(edge)
        a = at.sound_speed(rho, t)
        speed = at.face.inward * u[..., at.face.axis]
        return cls(at, rho, u, speed, rho * t, a, rho * a)

    def isentropic(self, pressure: Tensor) -> Tensor:
        """Return the density at another pressure, linear in it, at least a tenth."""
        rho = self.density + (pressure - self.pressure) / self.sound.square()
        return torch.maximum(rho, 0.1 * self.density)

    def beyond(
        self, density: Tensor, speed: Tensor, temperature: Tensor,
        slide: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the gas beyond the face; ``slide``: whose velocity along the face."""
        u = torch.zeros_like(self.velocity) if slide is None else slide.clone()
        u[..., self.at.face.axis] = self.at.face.inward * speed
        return self.at.reservoir(density, u, temperature)


@dataclass(frozen=True)
class WallAt:
    """A wall at one face and one time: numbers, or one for each cell of the face."""

    temperature: Value
    velocity: tuple[Value, ...]
    accommodation: float

    def flat(self) -> "WallAt":
        """Return the same with the cells of the face in one row."""
        t, *u = (
            q.flatten() if isinstance(q, Tensor) else q
            for q in (self.temperature, *self.velocity)
        )
        return WallAt(t, tuple(u), self.accommodation)


@part
class Wall:
    """A solid wall (Maxwell): a fraction is emitted in equilibrium, the rest mirrored.

    For the Euler equations it is a wall that gas slips along.
    """

    temperature: PositiveField = 1.0
    """Reference temperatures: a number or an expression of x, y, z and t."""
    velocity: Velocity = ()
    """Sliding velocity, unit sqrt(R T0); no component normal to the wall."""
    accommodation: Annotated[float, Ge(0), Le(1)] = 1.0
    """Fraction of molecules re-emitted in equilibrium; 0 is specular, 1 diffuse."""
    kind: Literal["wall"] = "wall"

    def __post_init__(self) -> None:
        _check(self, "temperature")
        if not 0.0 <= self.accommodation <= 1.0:
            raise ValueError(
                f"accommodation: {self.accommodation}; allowed is 0 (specular) to "
                "1 (diffuse)"
            )

    @property
    def wall(self) -> "Wall":
        """This wall."""
        return self

    @property
    def moves(self) -> bool:
        """Whether it may change with time."""
        return any(moves(q) for q in (self.temperature, *self.velocity))

    def at(self, face: Face, time: float, like: Tensor | None = None) -> WallAt:
        """Return the wall at a face and a time."""
        t = face.value(self.temperature, time, like)
        u = tuple(face.value(q, time, like) for q in self.velocity)
        return WallAt(t, u, self.accommodation)


@part
class Symmetry:
    """A plane of symmetry: molecules are mirrored, nothing crosses."""

    kind: Literal["symmetry"] = "symmetry"

    @property
    def wall(self) -> Wall:
        """The specular wall."""
        return Wall(accommodation=0.0)


BOUNDARIES = Family(
    "boundary",
    __name__.rpartition(".")[0],
    {
        "periodic": "boundaries:Periodic",
        "open": "boundaries:Open",
        "inflow": "boundaries:Inflow",
        "pressure_inlet": "boundaries:PressureInlet",
        "pressure_outlet": "boundaries:PressureOutlet",
        "mass_flow_inlet": "boundaries:MassFlowInlet",
        "mass_flow_outlet": "boundaries:MassFlowOutlet",
        "wall": "boundaries:Wall",
        "symmetry": "boundaries:Symmetry",
    },
)

_SHIPPED = (
    Open, Inflow, PressureInlet, PressureOutlet, MassFlowInlet, MassFlowOutlet, Wall,
    Symmetry,
)  # fmt: skip

Boundary = Any
"""A part of :data:`BOUNDARIES`, a function of face and edge, or :class:`Mixed`."""


@dataclass(frozen=True)
class Patch:
    """Part of a face with a boundary of its own.

    Attributes:
        where: a part of :data:`.shapes.SHAPES`; cells whose face has its middle inside.
        boundary: what is there; not periodic.
    """

    where: Any
    boundary: Boundary


@dataclass(frozen=True)
class Mixed:
    """A boundary with others painted over parts of the face; the last one is on top."""

    rest: Boundary
    patches: tuple[Patch, ...]


@dataclass(frozen=True)
class Sides:
    """The two ends of one axis."""

    low: Boundary
    high: Boundary

    @property
    def periodic(self) -> bool:
        """Whether the axis wraps around."""
        return isinstance(self.low, Periodic)


ALL_PERIODIC = Sides(Periodic(), Periodic())


@dataclass(frozen=True)
class Piece:
    """One boundary on the cells of a face that it has.

    Attributes:
        side: the boundary.
        key: as in the scenario file.
        mask: ``[*face]``, or None for the whole face.
    """

    side: Boundary
    key: str
    mask: Tensor | None = None

    @property
    def wall(self) -> Wall | None:
        """The wall that it is, or None."""
        return wall_of(self.side)

    @property
    def cells(self) -> Tensor | None:
        """Its cells in the face's row of cells; None for all."""
        return None if self.mask is None else self.mask.flatten().nonzero()[:, 0]

    @property
    def alike(self) -> bool:
        """Whether the same rule holds everywhere on the face: it need not know where."""
        return type(self.side) in _SHIPPED and uniform(self.side)

    def put(self, values: Tensor, to: Tensor) -> Tensor:
        """Return ``to`` with ``values`` on the cells of this piece, ``[..., *face]``."""
        if self.mask is None:
            return values
        return torch.where(self.mask.to(values.device), values, to)


@dataclass(frozen=True)
class End:
    """What is at one end of an axis that is not periodic.

    Attributes:
        face: where.
        pieces: of the face; together they cover it once.
    """

    face: Face
    pieces: tuple[Piece, ...]
    _still: dict = field(default_factory=dict, repr=False, compare=False)

    def wall_at(self, piece: Piece, time: float, like: Tensor) -> WallAt:
        """Return the wall of a piece; what does not change is made once."""
        wall = piece.wall
        assert wall is not None
        if wall.moves:
            return wall.at(self.face, time, like)
        key = piece.key, like.dtype, like.device
        if key not in self._still:
            self._still[key] = wall.at(self.face, time, like)
        return self._still[key]


def wall_of(side: Boundary) -> Wall | None:
    """Return the wall that a boundary is, or None."""
    return getattr(side, "wall", None)


def members(side: Boundary, key: str = "") -> Iterator[tuple[str, Boundary]]:
    """Yield the key and the boundary of all that is at one end of an axis."""
    if not isinstance(side, Mixed):
        yield key, side
        return
    yield key, side.rest
    for number, patch in enumerate(side.patches):
        yield f"{key}_parts.{number}.boundary", patch.boundary


def sealed(side: Boundary) -> bool:
    """Return whether no mass passes."""
    return all(wall_of(member) is not None for _, member in members(side))


def kept_totals(sides: Sequence[Sides], free: bool = True) -> tuple[str, ...]:
    """Return which of :func:`..observe.relative_drift` the boundaries leave alone.

    Args:
        sides: one pair for every axis.
        free: whether no force and no solid acts on the gas.
    """
    ends = [side for p in sides if not p.periodic for side in (p.low, p.high)]
    if not ends:
        return ("mass_drift", *(("momentum_drift", "energy_drift") if free else ()))
    return ("mass_drift",) if all(sealed(side) for side in ends) else ()


def beyond(piece: Piece, at: AtFace, edge: Tensor) -> Tensor:
    """Return what the cells beyond a face that is no wall hold.

    Raises:
        InputError: a boundary from outside gives something else.
    """
    rule: Callable[[AtFace, Tensor], Tensor] = getattr(piece.side, "ghost", piece.side)
    if type(piece.side) in _SHIPPED:
        return rule(at, edge)
    out = rule(at, edge.clone())  # the cells themselves are not its to write
    if not isinstance(out, Tensor) or out.shape != edge.shape:
        what = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(
            f"{piece.key}: its ghost cells are {what}; they need the shape of the cells at "
            f"the face, {list(edge.shape)}"
        )
    if out.is_complex():
        raise InputError(f"{piece.key}: its ghost cells are complex; they must be real")
    return out.to(edge)


def end_of(side: Boundary, face: Face) -> End:
    """Return a boundary with its place.

    Raises:
        InputError: a value that is not positive, or a patch without a cell.
    """
    if not isinstance(side, Mixed):
        return End(face, (Piece(side, face.name),))
    owner = torch.zeros(face.shape, dtype=torch.int64)
    for number, patch in enumerate(side.patches):
        try:
            inside = patch.where.inside(face.points)
        except ValueError as error:
            raise InputError(f"{face.name}_parts.{number}.where: {error}") from None
        if not bool(inside.any()):
            raise InputError(
                f"{face.name}_parts.{number}.where: no cell of the face is inside"
            )
        owner = torch.where(inside, number + 1, owner)
    pieces = [Piece(side.rest, face.name, owner == 0)]
    for number, patch in enumerate(side.patches):
        key = f"{face.name}_parts.{number}.boundary"
        pieces.append(Piece(patch.boundary, key, owner == number + 1))
    shown = tuple(p for p in pieces if bool(p.mask.any()))  # type: ignore[union-attr]
    return End(face, shown)


def ends_of(sides: Sequence[Sides], grid: Grid) -> tuple[tuple[End, End] | None, ...]:
    """Return both ends of every axis, None where it is periodic.

    Raises:
        InputError: the boundaries contradict the grid, or let mass through a wall; names
            the key and the remedy.
    """
    check_sides(sides, grid.dim)
    found: list[tuple[End, End] | None] = []
    for axis, pair in enumerate(sides):
        if pair.periodic:
            found.append(None)
            continue
        both = [end_of(s, Face(grid, axis, e)) for e, s in enumerate((pair.low, pair.high))]
        for end in both:
            _check_values(end, 0.0)
        found.append((both[0], both[1]))
    return tuple(found)


def pieces_of(ends: Sequence[tuple[End, End] | None]) -> Iterator[tuple[End, Piece]]:
    """Yield every piece of every end."""
    for pair in filter(None, ends):
        for end in pair:
            yield from ((end, piece) for piece in end.pieces)


def check_components(ends: Sequence[tuple[End, End] | None], axes: int, model: str) -> None:
    """Refuse walls and reservoirs that move along an axis that a model does not resolve.

    Raises:
        InputError: names the key.
    """
    for end, piece in pieces_of(ends):
        velocity = getattr(piece.wall or piece.side, "velocity", ())
        for axis, quantity in enumerate(velocity[axes:], axes):
            if moves(quantity) or _any(end.face.value(quantity, 0.0)):
                raise InputError(
                    f"{piece.key}.velocity: {velocity} moves along {'xyz'[axis]}, which "
                    f"{model} does not resolve ({axes} component(s)); leave it out"
                )


def check_sides(sides: Sequence[Sides], dim: int) -> None:
    """Refuse boundaries that contradict the grid or let mass through a wall.

    Raises:
        InputError: naming the key and the remedy.
    """
    if len(sides) != dim:
        raise InputError(f"boundaries: {len(sides)} axes given, the grid has {dim}")
    for axis, pair in enumerate(sides):
        name = f"boundaries.{'xyz'[axis]}"
        if isinstance(pair.low, Periodic) != isinstance(pair.high, Periodic):
            raise InputError(f"{name}: both ends must be periodic, or none")
        for end, whole in (("low", pair.low), ("high", pair.high)):
            for key, side in members(whole, f"{name}.{end}"):
                _check_side(side, axis, dim, key, whole is side)


def _check_side(side: Boundary, axis: int, dim: int, key: str, whole: bool) -> None:
    if isinstance(side, Periodic):
        if not whole:
            raise InputError(f"{key}: periodic is for whole faces")
        return
    if not (hasattr(side, "ghost") or hasattr(side, "wall") or callable(side)):
        raise InputError(f"{key}: {side!r} has no ghost and no wall")
    wall = wall_of(side)
    if wall and len(wall.velocity) > axis and wall.velocity[axis] not in (0, "0"):
        raise InputError(
            f"{key}.velocity: {wall.velocity} has a component along {'xyz'[axis]}, so the "
            "wall would let mass through; set it to 0"
        )
    if isinstance(side, Inflow) and len(side.velocity) < dim:
        raise InputError(f"{key}.velocity: {side.velocity}; {dim} components needed")


def check_until(sides: Sequence[Sides], grid: Grid, end: float) -> None:
    """Refuse values that will not be physical at 33 times up to the end of a run.

    Raises:
        InputError: names the key, the value and the time.
    """
    for pair in filter(None, ends_of(sides, grid)):
        for face in pair:
            for share in range(1, 33):
                _check_values(face, end * share / 32)


def _check_values(end: End, time: float) -> None:
    """Refuse values that are not positive, speeds that are not finite."""
    for piece in end.pieces:
        side = piece.wall or piece.side
        if type(side) not in _SHIPPED:
            continue  # a boundary from outside checks its own
        names = ("density", "pressure", "temperature", "mass_flow")
        given = [(n, getattr(side, n, 1.0), 0.0) for n in names]
        speeds = enumerate(getattr(side, "velocity", ()))
        given += [(f"velocity.{k}", u, -math.inf) for k, u in speeds]
        for name, quantity, least in given:
            if isinstance(quantity, int | float):
                continue
            key = f"{piece.key}.{name}"
            value = torch.as_tensor(end.face.value(quantity, time, key=key))
            value = value if piece.mask is None or not value.dim() else value[piece.mask]
            if not bool(((value > least) & value.isfinite()).all()):
                must = "finite" if least < 0 else "positive"
                raise InputError(
                    f"{key}: {float(value.amin()):.4g} at time {time:.4g}; must be {must}"
                )


def _any(value: Value) -> bool:
    return bool(value.any()) if isinstance(value, Tensor) else value != 0.0


def component(velocity: Sequence[Any], axis: int) -> Any:
    """Return one component of a boundary's velocity; missing ones are 0."""
    return velocity[axis] if axis < len(velocity) else 0.0


def uniform(side: Boundary) -> bool:
    """Return whether all that a boundary says are numbers."""
    names = ("density", "pressure", "temperature", "mass_flow")
    values = [getattr(side, name, 0.0) for name in names]
    values += getattr(side, "velocity", ())
    return all(isinstance(v, int | float) for v in values)


def constant(value: PositiveField) -> float:
    """Return a value of a boundary that must not vary.

    Raises:
        InputError: it is an expression.
    """
    if isinstance(value, str):
        raise InputError(f"boundary: {value!r} varies; a number is needed here")
    return value


def _check(side: Any, *names: str) -> None:
    """Refuse numbers that are not positive and text that is no expression."""
    values = {name: getattr(side, name) for name in names}
    for key, value in values.items():
        if isinstance(value, int | float) and not value > 0.0:
            raise ValueError(f"{key}: {value}; must be positive")
    speeds = {f"velocity.{i}": v for i, v in enumerate(getattr(side, "velocity", ()))}
    check_text({**values, **speeds})


__all__ = [
    "ALL_PERIODIC", "BOUNDARIES", "Boundary", "End", "Inflow", "MassFlowInlet",
    "MassFlowOutlet", "Mixed", "Model", "Open", "Patch", "Periodic", "Piece", "Positive",
    "PressureInlet", "PressureOutlet", "Sides", "Speed", "Symmetry", "Wall", "WallAt",
    "beyond", "check_components", "check_sides", "check_until", "component", "constant",
    "end_of", "ends_of", "members", "pieces_of", "sealed", "uniform", "wall_of",
]  # fmt: skip
