"""Ten families of flows on which closures are judged and from which none may learn.

Each is one initial condition at four Knudsen numbers (two boxes for the last one), written
down before any closure was trained on what :mod:`.flows` draws. Lengths are those of the
box, times are short enough that there is something to predict.

===============  =======================================================================
``amplitude``    a wave of amplitude .5 in density, velocity and temperature
``density``      density 10 : 1 at rest
``temperature``  temperature 4 : 1 at one density
``contact``      density 4 : 1 at one pressure, moving
``beams``        two beams of velocity +-1.5 and temperature .3
``streams``      two streams that meet head-on, open ends
``short``        a wave of eight periods in the box
``sod``          Sod's shock tube with open ends
``walls``        a wave between a cold and a hot wall
``box``          a wave in a box a tenth, and ten times, as large
===============  =======================================================================
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..boundaries import ALL_PERIODIC, Open, Sides, Wall
from .lines import Fields, Flow

KNUDSEN = (0.003, 0.03, 0.3, 3.0)
"""Of the flows of every family, at a box of unit length."""


@dataclass(frozen=True)
class Case:
    """Flows that start alike, one at each Knudsen number.

    Attributes:
        layers: x in boxes to the Maxwellians that are added up.
        until: when models are compared.
        sides: of the box.
        size: its length.
    """

    layers: Callable[[Tensor], Sequence[Fields]]
    until: float = 0.3
    sides: Sides = ALL_PERIODIC
    size: float = 1.0

    def flows(self) -> list[Flow]:
        """Return one flow for each of :data:`KNUDSEN`."""

        def layers(x: Tensor) -> Sequence[Fields]:
            return self.layers(x / self.size)

        def constant(value: float) -> Callable[[Tensor], Tensor]:
            return lambda x: torch.full_like(x, value)

        return [Flow(layers, constant(kn), kn) for kn in KNUDSEN]


def _sine(x: Tensor, count: int = 1, phase: float = 0.0) -> Tensor:
    return torch.sin(2 * math.pi * count * x + phase)


def _inside(x: Tensor, inner: float, outer: float = 1.0) -> Tensor:
    return torch.where(x.abs() < 0.25, inner, outer).to(x)


def _left(x: Tensor, left: float, right: float) -> Tensor:
    return torch.where(x < 0, left, right).to(x)


def _amplitude(x: Tensor) -> list[Fields]:
    waves = [_sine(x, 1, phase) for phase in (0.0, 1.0, 2.0)]
    return [(1 + 0.5 * waves[0], 0.5 * waves[1], 1 + 0.5 * waves[2])]


def _density(x: Tensor) -> list[Fields]:
    return [(_inside(x, 10.0), 0 * x, 0 * x + 1)]


def _temperature(x: Tensor) -> list[Fields]:
    return [(0 * x + 1, 0 * x, _inside(x, 2.0, 0.5))]


def _contact(x: Tensor) -> list[Fields]:
    return [(_inside(x, 2.0, 0.5), 0 * x + 0.5, _inside(x, 0.5, 2.0))]


def _beams(x: Tensor) -> list[Fields]:
    return [
        (0.5 + 0.15 * sign * _sine(x, 1), 0 * x + 1.5 * sign, 0 * x + 0.3)
        for sign in (1.0, -1.0)
    ]


def _streams(x: Tensor) -> list[Fields]:
    return [(0 * x + 1, _left(x, 1.0, -1.0), 0 * x + 0.6)]


def _short(x: Tensor) -> list[Fields]:
    return [(1 + 0.3 * _sine(x, 8), 0 * x, 1 + 0.3 * _sine(x, 8, 1.0))]


def _sod(x: Tensor) -> list[Fields]:
    return [(_left(x, 1.0, 0.125), 0 * x, _left(x, 1.0, 0.8))]


def _walls(x: Tensor) -> list[Fields]:
    return [(1 + 0.3 * _sine(x, 1, 0.5 * math.pi), 0 * x, 0 * x + 1)]


def _wave(x: Tensor) -> list[Fields]:
    return [(1 + 0.3 * _sine(x, 1), 0.2 * _sine(x, 2), 1 + 0.3 * _sine(x, 1, 2.0))]


OPEN = Sides(Open(), Open())

_BOX = Case(_wave)

FAMILIES: dict[str, tuple[Case, ...]] = {
    "amplitude": (Case(_amplitude),),
    "density": (Case(_density),),
    "temperature": (Case(_temperature),),
    "contact": (Case(_contact),),
    "beams": (Case(_beams, 0.1),),
    "streams": (Case(_streams, 0.1, OPEN),),
    "short": (Case(_short, 0.03),),
    "sod": (Case(_sod, 0.15, OPEN),),
    "walls": (Case(_walls, 0.3, Sides(Wall(0.8), Wall(1.3))),),
    "box": tuple(replace(_BOX, until=0.3 * a, size=a) for a in (0.1, 10.0)),
}
"""The families by name."""
