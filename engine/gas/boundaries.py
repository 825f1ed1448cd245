"""Boundaries of the box, for every model alike; a package from outside adds its own.

A boundary is a part with one of two things:

- ``ghost(model, edge)`` returns what the cells beyond the face hold, in the model's own
  variables, from those of the cells at the face. The model offers the words for it
  (:class:`Ghosts`), so that one method serves them all::

      @part
      class PressureOutlet:
          \"\"\"Gas leaves against a given pressure.\"\"\"

          pressure: Annotated[float, Gt(0)]
          \"\"\"Reference density times R T0.\"\"\"
          kind: Literal["pressure_outlet"] = "pressure_outlet"

          def ghost(self, model, edge):
              density, velocity, temperature = model.gas_at(edge)
              return model.reservoir(self.pressure / temperature, velocity, temperature)

  For a kinetic model ``edge`` is the distribution, and what is returned is what comes in.
- ``wall``, the :class:`Wall` that it is at this face.

In Python a function ``(model, edge) -> ghost cells`` is a boundary too. ``Sides`` names the
two ends of one axis; a model takes one ``Sides`` per axis. A package from outside adds
``boundary.KIND`` (:mod:`scalebridge.models.parts`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from ...models.parts import Family, part
from ..errors import InputError

Positive = Annotated[float, Gt(0), Le(1e6)]
Speed = Annotated[float, Ge(-1e3), Le(1e3)]


class Ghosts(Protocol):
    """What every model offers a boundary.

    Cells are in the model's own variables; density and temperature are ``[batch, *cells]``
    of the face, velocities ``[batch, *cells, components]``.
    """

    def gas_at(self, edge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature of the cells at a face."""
        ...

    def reservoir(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return cells of a gas in equilibrium; missing components of u are 0."""
        ...


@part
class Periodic:
    """The opposite face; both ends of an axis must have it."""

    kind: Literal["periodic"] = "periodic"


@part
class Open:
    """Zero gradient: waves leave."""

    kind: Literal["open"] = "open"

    def ghost(self, model: Ghosts, edge: Tensor) -> Tensor:
        """Return the cells at the face."""
        return edge


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

    def ghost(self, model: Ghosts, edge: Tensor) -> Tensor:
        """Return the reservoir."""
        density, _, temperature = model.gas_at(edge)
        u = density.new_empty(*density.shape, len(self.velocity))
        for axis, value in enumerate(self.velocity):
            u[..., axis] = value
        rho = torch.full_like(density, self.density)
        return model.reservoir(rho, u, torch.full_like(temperature, self.temperature))


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

    @property
    def wall(self) -> "Wall":
        """This wall."""
        return self


BOUNDARIES = Family(
    "boundary",
    __name__.rpartition(".")[0],
    {
        "periodic": "boundaries:Periodic",
        "open": "boundaries:Open",
        "inflow": "boundaries:Inflow",
        "wall": "boundaries:Wall",
    },
)

Boundary = Any
"""A part of :data:`BOUNDARIES`, or a function of model and edge."""


def wall_of(side: Boundary) -> Wall | None:
    """Return the wall that a boundary is, or None."""
    return getattr(side, "wall", None)


def beyond(side: Boundary, model: Ghosts, edge: Tensor) -> Tensor:
    """Return what the cells beyond a face that is no wall hold."""
    rule: Callable[[Ghosts, Tensor], Tensor] = getattr(side, "ghost", side)
    return rule(model, edge)


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
            if not (hasattr(side, "ghost") or hasattr(side, "wall") or callable(side)):
                if isinstance(side, Periodic):
                    continue
                raise InputError(f"boundaries.{name}: {side!r} has no ghost and no wall")
            wall = wall_of(side)
            if wall and len(wall.velocity) > axis and wall.velocity[axis]:
                raise InputError(
                    f"boundaries.{name}: wall velocity {wall.velocity} has a component "
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
