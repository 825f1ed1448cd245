"""Sections that all gases in a box share: cells, boundaries, duration."""

from typing import Annotated

from pydantic import Field

from ..gas.boundaries import BOUNDARIES, Periodic
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


class AxisSection(Section):
    """Both ends of an axis."""

    low: Side = Periodic()  # type: ignore[valid-type]
    """At the lower end."""
    high: Side = Periodic()  # type: ignore[valid-type]
    """At the upper end."""


class BoundarySection(Section):
    """Boundaries, periodic where nothing is said."""

    x: AxisSection = AxisSection()
    """Ends of x."""
    y: AxisSection = AxisSection()
    """Ends of y."""
    z: AxisSection = AxisSection()
    """Ends of z."""


class TimeSection(Section):
    """How long, and how often a frame is kept."""

    end: Positive
    """Final time, unit L / sqrt(R T0)."""
    frames: int = Field(default=20, ge=1, le=2000)
    """Frames written, evenly in time, besides the first."""
