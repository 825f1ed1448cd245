"""Sections that all gases in a box share: cells, boundaries, duration."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..errors import InputError
from ..gas.boundaries import BOUNDARIES, Mixed, Patch, Periodic, Sides, Wall
from ..gas.shapes import SHAPES
from ..gas.solids import Solid
from .base import Section, choice

Positive = Annotated[float, Field(gt=0, le=1e6)]
Place = Annotated[float, Field(ge=-1e6, le=1e6)]
Speed = Annotated[float, Field(ge=-1e3, le=1e3)]


class GridSection(Section):
    """Equal cells of a box."""

    cells: Annotated[
        tuple[Annotated[int, Field(ge=4, le=4096)], ...], Field(min_length=1, max_length=3)
    ]
    """Cells along x (, y, z)."""
    lower: tuple[Place, ...]
    """Lower corner, reference lengths."""
    upper: tuple[Place, ...]
    """Upper corner."""


Side = choice(BOUNDARIES)


def _condition(value: Any) -> Any:
    """Take a text as the condition that holds in a region."""
    return {"kind": "where", "condition": value} if isinstance(value, str) else value


class FacePart(Section):
    """Part of a face with a boundary of its own."""

    where: Annotated[choice(SHAPES), BeforeValidator(_condition)]  # type: ignore[valid-type]
    """Cells whose face has its middle inside: a shape, or a condition such as
    ``y > 0.2 and y < 0.4``."""
    boundary: Side  # type: ignore[valid-type]
    """What is there; not periodic."""


class AxisSection(Section):
    """Both ends of an axis."""

    low: Side = Periodic()  # type: ignore[valid-type]
    """At the lower end."""
    high: Side = Periodic()  # type: ignore[valid-type]
    """At the upper end."""
    low_parts: tuple[FacePart, ...] = ()
    """Painted over the lower face, one after the other; the last one is on top."""
    high_parts: tuple[FacePart, ...] = ()
    """Painted over the upper face."""

    @property
    def ends(self) -> Sides:
        """Both ends."""

        def end(rest: Any, parts: tuple[FacePart, ...]) -> Any:
            patches = tuple(Patch(p.where, p.boundary) for p in parts)
            return Mixed(rest, patches) if patches else rest

        return Sides(end(self.low, self.low_parts), end(self.high, self.high_parts))


class BoundarySection(Section):
    """Boundaries, periodic where nothing is said."""

    x: AxisSection = AxisSection()
    """Ends of x."""
    y: AxisSection = AxisSection()
    """Ends of y."""
    z: AxisSection = AxisSection()
    """Ends of z."""

    def sides(self, dim: int) -> tuple[Sides, ...]:
        """Return the boundaries of every axis of a grid.

        Raises:
            InputError: of an axis that the grid does not have.
        """
        for name in "xyz"[dim:]:
            if getattr(self, name) != AxisSection():  # a resolved file says every key
                raise InputError(
                    f"boundaries.{name}: the grid has {dim} axes; leave it out"
                )
        return tuple(axis.ends for axis in (self.x, self.y, self.z)[:dim])


class SolidSection(Section):
    """A body in the flow; it stands still, its surface may slide along itself."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    """In figures: ``solid_NAME_force_x``, ``solid_NAME_heat``."""
    shape: choice(SHAPES)  # type: ignore[valid-type]
    """Its region; a shape with a surface: not ``where``."""
    wall: Wall = Wall()
    """Its surface: temperature, sliding velocity (expressions of x, y and z),
    accommodation."""

    @property
    def solid(self) -> Solid:
        """The solid."""
        return Solid(self.name, self.shape, self.wall)


class TimeSection(Section):
    """How long, and how often a frame is kept."""

    end: Positive
    """Final time, unit L / sqrt(R T0)."""
    frames: int = Field(default=20, ge=1, le=2000)
    """Frames written, evenly in time, besides the first."""
