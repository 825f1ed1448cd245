"""The same gas with other collision rates: tables, a published integral, a power law."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..gas.kinetic.world import KineticState
from .collisions import Molecules, neufeld
from .coupled import CoupledGas, RateCache, Rates, fewest, hosted, table


@dataclass(frozen=True)
class Shown:
    """Turns what a world observes into the units of the report."""

    world: CoupledGas

    @property
    def x(self) -> Tensor:
        """Centres of the cells, mm."""
        return self.world.kinetic.grid.centers(0) * self.world.scales.length * 1e3

    def __call__(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the fields of the one problem, ``[cells]`` each."""
        scales = self.world.scales
        heat = scales.density * scales.speed**3 * 1e-3
        factors = {
            "density": scales.density * 1e3,
            "velocity": scales.speed,
            "temperature": scales.temperature,
            "heat_flux": heat,
            "viscosity": 1e6,
            "viscosity_error": 1e6,
        }
        return {
            name: factor * seen[name][0].reshape(len(self.x), -1)[:, 0]
            for name, factor in factors.items()
            if name in seen
        }


@dataclass(frozen=True)
class Alternative:
    """A model of the rates, for comparison.

    Attributes:
        name: in words.
        calls: simulations of molecular dynamics that it takes.
        rates: its viscosity.
    """

    name: str
    calls: int
    rates: Rates


@dataclass(frozen=True)
class Table:
    """A table that is made before the flow is known.

    Attributes:
        name: in words.
        low: K.
        high: K.
        count: of labels, the fewest that hold the error bar in the whole range.
    """

    name: str
    low: float
    high: float
    count: int

    @staticmethod
    def of(
        name: str,
        ends: tuple[float, float],
        cache: RateCache,
        tolerance: float,
        noise: float,
    ) -> "Table":
        """Return the table of a range; nothing is simulated yet."""
        return Table(name, *ends, fewest(*ends, cache, tolerance, noise))

    def made(self, world: CoupledGas) -> Alternative:
        """Ask for its labels."""
        cache, density = world.cache, world.scales.density
        known = table(world.ask, self.low, self.high, self.count, cache, density)
        return Alternative(self.name, self.count, lambda t: known.predict(t)[0])


def reference(molecules: Molecules) -> Rates:
    """Return the viscosity by the published collision integral, without our dynamics."""
    return lambda t: molecules.viscosity(t, neufeld(t / molecules.epsilon))


def power_law(molecules: Molecules, ahead: float, exponent: float) -> Rates:
    """Return ``mu(T ahead) (T / T ahead)^exponent``."""
    at = torch.tensor(ahead, dtype=torch.float64)
    return lambda t: reference(molecules)(at) * (t / at) ** exponent


def run_all(world: CoupledGas, rates: Sequence[Rates], steps: int) -> dict[str, Tensor]:
    """Step one batch from the start of a world, a problem for every model of the rates."""
    base, scales = world.kinetic, world.scales
    many = replace(base, knudsen=base.knudsen.expand(len(rates)).contiguous())
    cells = base.cells_of(world.start)
    state: KineticState = many.start(cells.expand(len(rates), -1, -1, -1))

    def each(temperature: Tensor) -> Tensor:
        pairs = zip(rates, temperature, strict=True)
        return torch.stack([rate(row) for rate, row in pairs])

    for _ in range(steps):
        seen = many.observe(state)["temperature"]
        state = hosted(many, scales, each, state, seen).step().state
    return dict(many.observe(state))


def rate_error(rates: Rates, exact: Rates, visited: Tensor) -> float:
    """Largest relative error of the viscosity at the flow's temperatures."""
    return float((rates(visited) / exact(visited) - 1).abs().amax())


def apart(profile: Tensor, other: Tensor) -> Tensor:
    """Difference of two shocks over the jump, the middles laid on each other, ``[cells]``.

    NaN where one of them does not reach.
    """
    shift = _middle(profile) - _middle(other)
    places = torch.arange(len(profile), dtype=torch.float64) + shift
    outside = (places < 0) | (places > len(profile) - 1)
    difference = (_interpolate(profile, places) - other) / (other[-1] - other[0])
    return difference.masked_fill(outside, torch.nan)


def _middle(profile: Tensor) -> float:
    """Index, with a fraction, at which the profile passes half of its jump."""
    half = 0.5 * (profile[0] + profile[-1])
    k = int((profile > half).int().argmax())
    return k - 1 + float((half - profile[k - 1]) / (profile[k] - profile[k - 1]))


def _interpolate(values: Tensor, places: Tensor) -> Tensor:
    low = places.clamp(0, len(values) - 1.000001).floor().long()
    share = places - low
    return values[low] + share * (values[low + 1] - values[low])
