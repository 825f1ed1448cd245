"""A gas that asks molecular dynamics for its collision rates while it flows.

The kinetic solver needs the viscosity ``mu(T)`` in every cell and at every step. A cache, a
Gaussian process in ``ln T``, answers with an error bar; where the bar is longer than the
tolerance, colliding pairs are simulated at that temperature (:mod:`.collisions`) and the
answer enters the cache. What was asked is kept in the store of labels, so a resumed run
asks for nothing twice. The sequential model fills the same cache from a list of
temperatures before the flow is known.

The idea of on-the-fly labels from the smaller scale: E, Engquist, Li, Ren, Vanden-Eijnden,
Commun. Comput. Phys. 2, 367 (2007), type-B problems.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..gas.kinetic.world import KineticState, KineticWorld
from ..interop.host import Host
from .collisions import Conditions, Viscosity

Ask = Callable[[Sequence[Conditions]], Sequence[Viscosity]]
"""Answers a list of conditions, each once in the life of a run."""

_CONSTANT, _SLOPE = 100.0, 1.0
"""Prior standard deviations of ln mu at 1 K and of the exponent d ln mu / d ln T."""


@dataclass(frozen=True)
class RateCache:
    """What is known of ``ln mu`` as a function of ``ln T``, with its uncertainty.

    A Gaussian process: a power law with unknown factor and exponent, and a departure from
    it of covariance ``amplitude^2 exp(-(x - x')^2 / (2 length^2))`` (Rasmussen and Williams
    2006, eq. 2.25 and 2.26). The exponent of Lennard-Jones gases falls from 1 to 0.65 over
    three units of ln T, which the defaults allow with room to spare.

    Attributes:
        temperature: ``[labels]`` K.
        viscosity: ``[labels]`` Pa s.
        error: ``[labels]`` standard error, Pa s.
        amplitude: of the departure, relative.
        length: in ln T over which it changes.
    """

    temperature: Tensor
    viscosity: Tensor
    error: Tensor
    amplitude: float = 0.1
    length: float = 1.0

    @staticmethod
    def empty(amplitude: float = 0.1, length: float = 1.0) -> "RateCache":
        """Return the cache that knows nothing."""
        none = torch.empty(0, dtype=torch.float64)
        return RateCache(none, none, none, amplitude, length)

    def with_labels(
        self, asked: Sequence[Conditions], answers: Sequence[Viscosity]
    ) -> "RateCache":
        """Return the cache that also knows the answers."""
        more = {
            "temperature": [a.temperature for a in asked],
            "viscosity": [v.value for v in answers],
            "error": [v.error for v in answers],
        }
        new = {name: torch.tensor(m, dtype=torch.float64) for name, m in more.items()}
        return replace(
            self, **{n: torch.cat([getattr(self, n), t]) for n, t in new.items()}
        )

    def predict(self, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """Return the viscosity (Pa s) and its relative standard deviation.

        Args:
            temperature: K, any shape.
        """
        x, here = self.temperature.log(), temperature.double().log().reshape(-1)
        prior = self._covariance(here[:, None], here[:, None])[:, 0]
        if not len(x):
            return torch.ones_like(temperature), prior.sqrt().reshape(temperature.shape)
        known = self._covariance(x[:, None], x)
        noise = (self.error / self.viscosity).square()
        factor = torch.linalg.cholesky(known + noise.diag())
        across = self._covariance(here[:, None], x)
        weights = torch.cholesky_solve(self.viscosity.log()[:, None], factor)
        explained = torch.linalg.solve_triangular(factor, across.T, upper=False)
        left = (prior - explained.square().sum(0)).clamp(min=0.0)
        value = (across @ weights)[:, 0].exp()
        return value.reshape(temperature.shape), left.sqrt().reshape(temperature.shape)

    def _covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariance of ``a [n, 1]`` with ``b [m]``, or with itself row by row."""
        bend = (-0.5 * ((a - b) / self.length).square()).exp()
        return _CONSTANT**2 + _SLOPE**2 * a * b + self.amplitude**2 * bend


def wanted(
    cache: RateCache, temperature: Tensor, tolerance: float, noise: float
) -> list[float]:
    """Return the temperatures (K) to ask for, so that the error bar meets the tolerance.

    Greedy: the place of the longest bar, then that of the longest bar left if it were
    known, and so on. The variance of a Gaussian process does not depend on the answers,
    so the whole list is known before the first of them.

    Args:
        cache: what is known.
        temperature: K, where rates are needed.
        tolerance: relative standard deviation that is allowed.
        noise: relative standard error that an answer is expected to have.

    Raises:
        InputError: labels are too noisy for the tolerance.
    """
    if noise > 0.8 * tolerance:
        raise InputError(
            f"cache.tolerance: {tolerance:g}, but one simulation has an error of "
            f"{noise:.2g}; ask for at least {1.25 * noise:.2g}, or for more pairs"
        )
    places, asked = temperature.flatten(), []
    while True:
        _, spread = cache.predict(places)
        worst = int(spread.argmax())
        if float(spread[worst]) <= tolerance:
            return asked
        asked.append(float(places[worst]))
        guess = Viscosity(1.0, noise)  # its value does not matter for the variance
        cache = cache.with_labels([Conditions(asked[-1])], [guess])


def table(
    ask: Ask, low: float, high: float, count: int, cache: RateCache, density: float
) -> RateCache:
    """Return the sequential model: ``count`` labels from ``low`` to ``high``, even in ln T.

    Args:
        ask: the micro-scale model.
        low: K.
        high: K.
        count: number of labels.
        cache: whose amplitude and length are used.
        density: kg / m^3.
    """
    return cache.with_labels(*_asked(ask, spaced(low, high, count), density))


def fewest(
    low: float, high: float, cache: RateCache, tolerance: float, noise: float
) -> int:
    """Return how many labels, even in ln T, hold the error bar in the whole range.

    Args:
        low: K.
        high: K.
        cache: whose amplitude and length are used.
        tolerance: relative standard deviation that is allowed.
        noise: relative standard error expected of a label.
    """
    everywhere = torch.tensor(spaced(low, high, 400), dtype=torch.float64)
    count = 2
    while True:
        places = spaced(low, high, count)
        guesses = [Viscosity(1.0, noise)] * count
        tried = cache.with_labels([Conditions(t) for t in places], guesses)
        if float(tried.predict(everywhere)[1].amax()) <= tolerance:
            return count
        count += 1


def spaced(low: float, high: float, count: int) -> list[float]:
    """Return ``count`` temperatures from ``low`` to ``high``, even in ln T."""
    ends = torch.linspace(math.log(low), math.log(high), count, dtype=torch.float64)
    return ends.exp().tolist()


def _asked(
    ask: Ask, temperatures: Sequence[float], density: float
) -> tuple[Sequence[Conditions], Sequence[Viscosity]]:
    samples = [Conditions(t, density) for t in temperatures]
    return samples, ask(samples)


@dataclass(frozen=True)
class Scales:
    """What one stands for in the kinetic solver.

    Attributes:
        temperature: K.
        density: kg / m^3.
        length: m.
        gas_constant: J / (kg K).
    """

    temperature: float
    density: float
    length: float
    gas_constant: float

    @property
    def speed(self) -> float:
        """``sqrt(R T)``, m / s."""
        return math.sqrt(self.gas_constant * self.temperature)

    def knudsen(self, viscosity: Tensor) -> Tensor:
        """Return ``mu / (rho sqrt(R T) L)``."""
        return viscosity / (self.density * self.speed * self.length)


Rates = Callable[[Tensor], Tensor]
"""From temperatures (K) to viscosities (Pa s), same shape."""


def hosted(
    kinetic: KineticWorld, scales: Scales, rates: Rates, state: KineticState, seen: Tensor
) -> Host:
    """Return the gas as an engine whose cells have the viscosity of their temperature.

    Within a step the relaxation time follows the gas's own power law from there.

    Args:
        kinetic: the gas.
        scales: its units.
        rates: viscosity of a temperature.
        state: of the gas.
        seen: ``[batch, cells]`` its temperature, reference units.
    """
    law = kinetic.gas.viscosity(torch.ones_like(seen), torch.ones_like(seen), seen)
    knudsen = scales.knudsen(rates(scales.temperature * seen)) / law
    return Host(replace(kinetic, knudsen=knudsen), state)


@dataclass(frozen=True)
class CoupledState:
    """A gas and what it has learned.

    Attributes:
        f: distribution, as in :class:`~..gas.kinetic.world.KineticState`.
        step: steps made.
        time: unit L / sqrt(R T).
        asked: ``[labels, 4]``: temperature (K), viscosity and its error (Pa s), and the
            step at which the flow asked.
    """

    f: Tensor
    step: Tensor
    time: Tensor
    asked: Tensor


@dataclass(frozen=True)
class CoupledGas:
    """A kinetic gas coupled to molecular dynamics; implements ``Simulator``.

    Attributes:
        kinetic: the gas; its Knudsen number is set in every step.
        start: its state at step 0.
        scales: its units.
        ask: molecular dynamics.
        cache: empty; its amplitude and length are used.
        tolerance: relative standard deviation allowed to a rate.
        noise: relative standard error expected of a label.
    """

    kinetic: KineticWorld
    start: KineticState
    scales: Scales
    ask: Ask
    cache: RateCache
    tolerance: float
    noise: float

    @property
    def time_step(self) -> float:
        """Of the kinetic solver."""
        return self.kinetic.time_step

    def init(self, rng: torch.Generator | None = None) -> CoupledState:
        """Return the state at step 0, with the labels that it needs."""
        s, nothing = self.start, torch.empty(0, 4, dtype=torch.float64)
        state = CoupledState(s.f, s.step, s.time, nothing)
        return self._informed(state, self.kinetic.observe(s))

    def known(self, state: CoupledState) -> RateCache:
        """Return what the state knows of the rates."""
        temperature, viscosity, error, _ = state.asked.T
        return replace(
            self.cache, temperature=temperature, viscosity=viscosity, error=error
        )

    def step(self, state: CoupledState) -> CoupledState:
        """Ask where an error bar is too long, then advance by ``time_step``."""
        gas = KineticState(state.f, state.step, state.time)
        seen = self.kinetic.observe(gas)
        state = self._informed(state, seen)
        rates = self.known(state)
        own, here = (self.kinetic, self.scales), seen["temperature"]
        engine = hosted(*own, lambda t: rates.predict(t)[0], gas, here)
        after = engine.step().state
        return replace(state, f=after.f, step=after.step, time=after.time)

    def _informed(self, state: CoupledState, seen: Mapping[str, Tensor]) -> CoupledState:
        here = self.scales.temperature * seen["temperature"]
        places = wanted(self.known(state), here, self.tolerance, self.noise)
        if not places:
            return state
        densest = float(self.scales.density * seen["density"].amax())
        samples, answers = _asked(self.ask, places, densest)
        rows = [
            [s.temperature, v.value, v.error, float(state.step)]
            for s, v in zip(samples, answers, strict=True)
        ]
        more = torch.tensor(rows, dtype=torch.float64)
        return replace(state, asked=torch.cat([state.asked, more]))

    def observe(self, state: CoupledState) -> Mapping[str, Tensor]:
        """Return what the gas observes, ``labels``, ``viscosity`` and ``viscosity_error``.

        ``viscosity`` and its standard deviation are in Pa s, ``[batch, cells]``.
        """
        seen = self.kinetic.observe(KineticState(state.f, state.step, state.time))
        here = self.scales.temperature * seen["temperature"]
        viscosity, spread = self.known(state).predict(here)
        return {
            **seen,
            "labels": torch.tensor([len(state.asked)]),
            "viscosity": viscosity,
            "viscosity_error": viscosity * spread,
        }
