"""A gas far from equilibrium: several streams of molecules through each other."""

from typing import Annotated, Literal

import torch
from annotated_types import Len
from torch import Tensor

from ....models.parts import part
from ..grid import Grid
from ..material import Gas
from ..mixture import Mixture, totals
from .base import Start
from .painted import Fields, named


@part
class Beams:
    """A sum of Maxwellians, each with fields of its own.

    Kinetic models and Hermite moments start with the sum, Euler and Navier-Stokes-Fourier
    with its density, velocity and temperature.
    """

    beams: Annotated[tuple[Fields, ...], Len(1, 16)]
    """Their fields, written like those of ``initial.kind = "fields"``."""
    kind: Literal["beams"] = "beams"

    def check(self, gas: Gas) -> None:
        """Refuse a velocity with more components than the gas has.

        Raises:
            InputError: names them.
        """
        for number, beam in enumerate(self.beams):
            with named(f"initial.beams.{number}"):
                beam.check(gas)

    def mixture(self, grid: Grid) -> Mixture:
        """Return the Maxwellians, with the cell averages of density, momentum, pressure.

        Raises:
            InputError: as of :class:`.painted.Fields`.
        """
        found = []
        for number, beam in enumerate(self.beams):
            with named(f"initial.beams.{number}"):
                beam.check_regions(grid)
                found.append(_averaged(beam, grid))
        rho, u, theta = (torch.stack(each)[:, None] for each in zip(*found, strict=True))
        return rho, u, theta

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start:
        """Return density, velocity and temperature of the sum."""
        rho, u, theta = (x[:, 0] for x in self.mixture(grid))
        return totals((rho, u, theta), gas.dimension)


def _averaged(beam: Fields, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    def carried(*at: Tensor) -> Tensor:
        rho, u, t = beam.at(at)
        return torch.stack([rho, rho * t, *(rho[..., None] * u).unbind(-1)])

    rho, p, *momentum = grid.average(carried, beam.samples)
    return rho, torch.stack(momentum, -1) / rho[..., None], p / rho
