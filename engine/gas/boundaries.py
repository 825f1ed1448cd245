"""Boundaries of the box, for every model alike.

A boundary is data; each model knows how to fill its ghost cells from it. ``Sides`` names
the two ends of one axis; a model takes one ``Sides`` per axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from ...models.parts import part
from ..errors import InputError

Positive = Annotated[float, Gt(0), Le(1e6)]
Speed = Annotated[float, Ge(-1e3), Le(1e3)]


@part
class Periodic:
    """The opposite face; both ends of an axis must have it."""

    kind: Literal["periodic"] = "periodic"


@part
class Open:
    """Zero gradient: waves leave."""

    kind: Literal["open"] = "open"


@part
class Inflow:
    """A reservoir in equilibrium at the given state."""

    density: Positive
    """Reference densities."""
    velocity: tuple[Speed, ...]
    """One component per space dimension or more, unit sqrt(R T0)."""
    temperature: Positive
    """Reference temperatures."""
    kind: Literal["inflow"] = "inflow"

    def __post_init__(self) -> None:
        _positive("boundary.density", self.density)
        _positive("boundary.temperature", self.temperature)


@part
class Wall:
    """A solid wall (Maxwell): a fraction is emitted in equilibrium, the rest mirrored."""

    temperature: Positive = 1.0
    """Reference temperatures."""
    velocity: tuple[Speed, ...] = ()
    """Sliding velocity, unit sqrt(R T0); no component normal to the wall."""
    accommodation: Annotated[float, Ge(0), Le(1)] = 1.0
    """Fraction of molecules re-emitted in equilibrium; 0 is specular, 1 diffuse."""
    kind: Literal["wall"] = "wall"

    def __post_init__(self) -> None:
        _positive("boundary.temperature", self.temperature)
        if not 0.0 <= self.accommodation <= 1.0:
            raise InputError(
                f"boundary.accommodation: {self.accommodation}; allowed is 0 (specular) to "
                "1 (diffuse)"
            )


Boundary = Periodic | Open | Inflow | Wall


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


def check_sides(sides: Sequence[Sides], dim: int) -> None:
    """Refuse boundaries that contradict the grid or let mass through a wall.

    Raises:
        InputError: naming the key and the remedy.
    """
    if len(sides) != dim:
        raise InputError(f"boundaries: {len(sides)} axes given, the grid has {dim}")
    for axis, pair in enumerate(sides):
        name = "xyz"[axis]
        if isinstance(pair.low, Periodic) != isinstance(pair.high, Periodic):
            raise InputError(f"boundaries.{name}: both ends must be periodic, or none")
        for side in (pair.low, pair.high):
            if isinstance(side, Wall) and len(side.velocity) > axis and side.velocity[axis]:
                raise InputError(
                    f"boundaries.{name}: wall velocity {side.velocity} has a component "
                    f"along {name}, so the wall would let mass through; set it to 0"
                )
            if isinstance(side, Inflow) and len(side.velocity) < dim:
                raise InputError(
                    f"boundaries.{name}.velocity: {side.velocity}; {dim} components needed"
                )


def component(velocity: Sequence[float], axis: int) -> float:
    """Return one component of a boundary's velocity; missing ones are 0."""
    return float(velocity[axis]) if axis < len(velocity) else 0.0


def _positive(key: str, value: float) -> None:
    if not value > 0.0:
        raise InputError(f"{key}: {value}; must be positive")
