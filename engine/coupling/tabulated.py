"""Atoms of one kind that act in pairs: a published potential, a learned one, a table."""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.interpolate import CubicSpline
from torch import Tensor

from ...models.parts import part
from ...models.potentials.fields import Positive
from ...models.potentials.pair import LearnedPair, PairLabel, Prior
from .. import runtime
from ..columns import LARGEST, read_columns
from ..errors import InputError
from ..gas.collisions.pairs import Pair, Table
from ..gas.collisions.published import PUBLISHED
from ..inputs import check_file_size
from ..kernels import pair as kernels
from ..md.barostats import volume
from ..md.classical import gathered
from ..md.interactions import Place, Symbol
from ..md.neighbours import Neighbours
from ..md.state import Interaction, ParticleState
from ..schema.base import InputPath, locate
from ..units import BOLTZMANN_EV

SWITCHED = 0.85
"""Share of the cutoff from which on the energy is switched off."""
FEWEST = 20
"""Rows of a table: a wall of many decades needs them."""


@dataclass(frozen=True, eq=False)
class TabulatedPotential:
    """U(r) of a table in ln r, smooth up to its end; no number where the table has none.

    Attributes:
        table: energy in the state's unit of energy.
        species: the chemical symbol.
        tail: ``2 pi int (V - U) r^2 dr`` of what the table leaves out, energy angstrom^3:
            N^2 / volume of it is the energy of the far pairs of a uniform fluid. It counts
            in systems that are periodic along all axes.
    """

    table: Table
    species: tuple[str, ...]
    tail: float = 0.0

    @staticmethod
    def of(
        pair: Pair,
        smallest: float,
        cutoff: float,
        symbol: str,
        unit: float = BOLTZMANN_EV,
        farthest: float = math.inf,
    ) -> "TabulatedPotential":
        """Return the potential of ``pair``, switched off over the last of the cutoff.

        The switch is ``1 - 10 t^3 + 15 t^4 - 6 t^5``, twice continuously differentiable.

        Args:
            pair: K of angstrom.
            smallest: angstrom; nothing is known below.
            cutoff: angstrom.
            symbol: chemical symbol.
            unit: of the state's energy, per K.
            farthest: angstrom, up to which ``pair`` is known; without it there is no tail
                to be counted.
        """
        inner = SWITCHED * cutoff

        def switched(r: Tensor) -> Tensor:
            t = ((r - inner) / (cutoff - inner)).clamp(0, 1)
            return unit * pair(r) * (1 - t**3 * (10 - 15 * t + 6 * t * t))

        tail = 0.0
        if farthest >= cutoff:
            r = torch.linspace(math.log(inner), math.log(farthest), 20_001).double().exp()
            left = unit * pair(r).detach() - switched(r.clamp(max=cutoff)).detach()
            tail = 2 * math.pi * float(torch.trapezoid(left * r**2, r))
        with torch.no_grad():
            table = Table.of(switched, smallest, cutoff)
        return TabulatedPotential(table, (symbol,), tail)

    @property
    def cutoff(self) -> float:
        """Range, angstrom."""
        return self.table.largest

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces and virial of every system."""
        runtime.start(state.positions.device)
        places = neighbours.places(state.positions, state.system, state.cell)
        forces = torch.empty_like(places[: state.atoms])
        partial = neighbours.layout.partial(7)
        kernels.k_pair_table(
            places, neighbours.home, neighbours.atom, neighbours.slots, neighbours.rows,
            *_on(self, places.dtype, places.device), neighbours.layout.chunks, forces,
            partial,
        )  # fmt: skip
        sums = neighbours.layout.total(partial)
        if self.tail:
            count = torch.bincount(state.system, minlength=state.systems).to(sums)
            far = self.tail * count**2 / volume(state).to(sums)
            far = torch.where(state.periodic.all(1), far, 0.0)
            # of the energy c / volume the virial is c / volume along each axis
            sums[:, :4] += far[:, None]
        return gathered(sums, forces)


@lru_cache(maxsize=64)
def _on(
    potential: TabulatedPotential, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return coefficients and form of the table where they are used, copied once."""
    table = potential.table
    form = [math.log(table.smallest), 1 / table.spacing, table.largest**2, math.nan]
    there = {"dtype": dtype, "device": device}
    return table.coefficients.to(**there).contiguous(), torch.tensor(form, **there)


@part
class PairTableInteraction:
    """Atoms of one kind: a published potential, one that a chain learned, or a table."""

    of: Literal["He", "Ne", "Ar", "Kr", "Xe"] | None = None
    """Noble gas whose published potential it is."""
    file: InputPath | None = None
    """``potential.json`` of a run of the chain, or a text file with the columns r
    (angstrom) and V (K), rising in r."""
    symbol: Symbol | None = None
    """Chemical element of a text file."""
    cutoff: Annotated[Positive, Field(le=60)] = 12.0
    """Angstrom; the energy is switched off over its last 15 %."""
    long_range: bool = True
    """Whether far pairs count as those of a uniform fluid, in periodic boxes."""
    kind: Literal["pair_table"] = "pair_table"

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ValueError: not one source, or a symbol that is not asked for.
        """
        if (self.of is None) == (self.file is None):
            raise ValueError("give one of: of (a noble gas), file")
        text = self.file is not None and self.file.suffix != ".json"
        if text != (self.symbol is not None):
            raise ValueError("symbol: the element of a text file, and only of a text file")

    def potential(self, place: Place) -> TabulatedPotential:
        """Return the potential.

        Raises:
            InputError: the file is missing or no potential, or the cutoff lies beyond it.
        """
        pair, smallest, farthest, symbol = self._source(place.base)
        if self.cutoff > farthest or SWITCHED * self.cutoff <= smallest:
            raise InputError(
                f"potential.cutoff: {self.cutoff:g} angstrom; the potential is known from "
                f"{smallest:.3g} to {farthest:.3g} angstrom"
            )
        end = farthest if self.long_range else 0.0
        return TabulatedPotential.of(pair, smallest, self.cutoff, symbol, farthest=end)

    def _source(self, base: Path) -> tuple[Pair, float, float, str]:
        """Return the energy (K), the range that is known (angstrom) and the element."""
        if self.of is not None:
            known = PUBLISHED[self.of]
            return known.pair, known.smallest, 200.0, self.of
        assert self.file is not None
        path = locate(self.file, base)
        if self.symbol is not None:
            pair, smallest, farthest = _of_text(path)
            return pair, smallest, farthest, self.symbol
        symbol, learned = _of_json(path)
        return learned, learned.smallest, 200.0, symbol


def _of_json(path: Path) -> tuple[str, LearnedPair]:
    """Return the element and the potential that a chain learned."""
    try:
        check_file_size(path, LARGEST)
        found = json.loads(path.read_text(encoding="utf-8"))
        labels = [PairLabel(**label) for label in found["labels"]]
        dispersion = tuple(found["prior"].pop("dispersion"))
        prior = Prior(dispersion, **found["prior"])
        return str(found["symbol"]), LearnedPair.of(labels, prior)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{path}: no learned pair potential ({error})") from None


def _of_text(path: Path) -> tuple[Pair, float, float]:
    """Return a cubic spline of V through the rows of a table, and its range."""
    r, v = read_columns(path, ("r", "V"), FEWEST, positive=("r",))
    spline = CubicSpline(r, v)
    knots = torch.from_numpy(spline.x)
    coefficients = torch.from_numpy(np.ascontiguousarray(spline.c.T))

    def energy(at: Tensor) -> Tensor:
        i = (torch.searchsorted(knots, at.detach()) - 1).clamp(0, len(coefficients) - 1)
        x, (a, b, c, d) = at - knots[i], coefficients[i].unbind(-1)
        return ((a * x + b) * x + c) * x + d

    return energy, float(r[0]), float(r[-1])


__all__ = ["PairTableInteraction", "TabulatedPotential"]
