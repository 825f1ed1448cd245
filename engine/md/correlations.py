"""Correlations in time, on the fly: mean curves over many origins with error bars.

Windows of a fixed number of samples begin at regular intervals; each compares all later
samples with its first. A finished window is one sample of the mean curve, and of what is
computed from it, so that blocking gives both their errors. LoopState is that of the windows
under way, whatever the length of the run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .observables import Blocking
from .state import ParticleState

Quantity = Callable[[ParticleState, Mapping[str, Tensor]], Tensor]
"""What is followed: from a state and its observations to a tensor of fixed shape."""
Comparison = Callable[[Tensor, Tensor], Tensor]
"""From the quantity at an origin and later to ``[systems, curves]``."""
Summary = Callable[[Tensor], Tensor]
"""From a whole curve ``[lags, systems, curves]`` to what is wanted of it."""


class Correlation:
    """A writer that averages ``compare(origin, now)`` over all origins.

    Args:
        quantity: what is followed.
        compare: how two of its values are compared.
        lags: samples of a window, the origin's own included.
        spacing: samples between origins; windows that overlap less are more independent.
        summary: computed from the curve of every window (it should be linear).
    """

    def __init__(
        self,
        quantity: Quantity,
        compare: Comparison,
        lags: int,
        spacing: int,
        summary: Summary = lambda curve: curve[-1],
    ) -> None:
        self._quantity, self._compare, self._summary = quantity, compare, summary
        self._lags, self._spacing = lags, spacing
        self.curve, self.result = Blocking(fewest=4), Blocking(fewest=4)
        self._samples = 0
        self._open: list[tuple[Tensor, list[Tensor]]] = []

    def write(
        self, step: int, time: float, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> None:
        """Add one sample."""
        now = self._quantity(state, observed).detach().double()
        if self._samples % self._spacing == 0:
            self._open.append((now, []))
        self._samples += 1
        for origin, curve in self._open:
            curve.append(self._compare(origin, now))
        while self._open and len(self._open[0][1]) == self._lags:
            whole = torch.stack(self._open.pop(0)[1])
            self.curve.add(whole)
            self.result.add(self._summary(whole))

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what must be restored on resume."""
        kept = {"samples": torch.tensor(self._samples)}
        for number, (origin, curve) in enumerate(self._open):
            kept[f"open{number}.origin"] = origin
            kept[f"open{number}.curve"] = torch.stack(curve)
        for name, blocks in (("curve", self.curve), ("result", self.result)):
            if blocks.count:
                kept |= {f"{name}.{key}": t for key, t in blocks.tensors().items()}
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`tensors` returned."""
        self._samples = int(tensors["samples"])
        self._open = []
        while (name := f"open{len(self._open)}") + ".origin" in tensors:
            curve = list(tensors[f"{name}.curve"])
            self._open.append((tensors[f"{name}.origin"], curve))
        for name, blocks in (("curve", self.curve), ("result", self.result)):
            start = name + "."
            mine = {k[len(start) :]: t for k, t in tensors.items() if k.startswith(start)}
            if mine:
                blocks.restore(mine)


# -- quantities ----------------------------------------------------------------------------


def unwrapped(state: ParticleState, observed: Mapping[str, Tensor]) -> Tensor:
    """Positions ``[atoms, 3]`` relative to each system's centre of mass."""
    return _without_drift(state.positions.double(), state)


def velocities(state: ParticleState, observed: Mapping[str, Tensor]) -> Tensor:
    """Velocities ``[atoms, 3]`` relative to each system's centre of mass, internal unit."""
    return _without_drift(state.momenta.double() / state.masses.double()[:, None], state)


def _without_drift(values: Tensor, state: ParticleState) -> Tensor:
    masses = state.masses.double()[:, None]
    total = state.sum_atoms(torch.cat([masses * values, masses], 1))
    return values - (total[:, :3] / total[:, 3:])[state.system.long()]


def shear_stress(state: ParticleState, observed: Mapping[str, Tensor]) -> Tensor:
    """The five independent components of the traceless pressure tensor, ``[systems, 5]``.

    xy, xz, yz, (xx - yy) / 2 and (2 zz - xx - yy) / (2 sqrt 3): by isotropy the time
    correlation of each is that of xy.

    Reference: P. J. Daivis and D. J. Evans, J. Chem. Phys. 100, 541 (1994), equation 5.
    """
    p = observed["pressure_tensor"].double()
    x, y, z = p[:, 0, 0], p[:, 1, 1], p[:, 2, 2]
    last = (2 * z - x - y) / (2 * math.sqrt(3))
    return torch.stack([p[:, 0, 1], p[:, 0, 2], p[:, 1, 2], (x - y) / 2, last], 1)


# -- comparisons ---------------------------------------------------------------------------


@dataclass(frozen=True)
class BySpecies:
    """Means over the atoms of each species, ``[systems, species]``.

    Attributes:
        species: ``[atoms]``, as in the state.
        system: ``[atoms]``.
        shape: number of systems and of species.
    """

    species: Tensor
    system: Tensor
    shape: tuple[int, int]

    @staticmethod
    def of(state: ParticleState, species: int) -> "BySpecies":
        """Take over the species and systems of a state."""
        return BySpecies(state.species, state.system, (state.systems, species))

    def mean(self, values: Tensor) -> Tensor:
        """Average ``values [atoms]``; NaN for a species that a system lacks."""
        place = self.system.long() * self.shape[1] + self.species.long()
        room = self.shape[0] * self.shape[1]
        total = torch.bincount(place, values, minlength=room)
        return (total / torch.bincount(place, minlength=room)).reshape(self.shape)

    def displacement(self, origin: Tensor, now: Tensor) -> Tensor:
        """Mean squared displacement, ``<|x(t) - x(0)|^2>``."""
        return self.mean((now - origin).square().sum(1))

    def product(self, origin: Tensor, now: Tensor) -> Tensor:
        """Mean scalar product, ``<v(t) . v(0)>``."""
        return self.mean((now * origin).sum(1))


def mean_product(origin: Tensor, now: Tensor) -> Tensor:
    """Mean over components of the product, ``[systems, 1]``."""
    return (origin * now).mean(1, keepdim=True)


# -- summaries -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Slope:
    """Diffusion coefficient of a mean squared displacement: its slope over 2 d = 6.

    A straight line is fitted to the part of the window behind ``skip`` of its length.

    Attributes:
        spacing: time between samples.
        skip: part of the window that is left out.

    Reference: M. P. Allen and D. J. Tildesley, Computer Simulation of Liquids, 2nd
    edition (2017), equation 2.116.
    """

    spacing: float
    skip: float = 0.4

    def __call__(self, curve: Tensor) -> Tensor:
        """Return D ``[systems, curves]``."""
        time = torch.arange(len(curve)).to(curve) * self.spacing
        first = int(self.skip * len(curve))
        time, curve = time[first:], curve[first:]
        time = time - time.mean()
        return torch.einsum("t,tsc->sc", time, curve) / (6 * time.square().sum())


@dataclass(frozen=True)
class Integral:
    """Integral of a correlation over the window by the trapezoidal rule, times a factor.

    With velocities and factor 1/3: the diffusion coefficient. With the shear stress and
    factor V / k T: the viscosity (Green and Kubo).

    Attributes:
        spacing: time between samples.
        factor: multiplies the integral.

    Reference: Allen and Tildesley (2017), equations 2.117 and 2.120.
    """

    spacing: float
    factor: float = 1.0

    def __call__(self, curve: Tensor) -> Tensor:
        """Return the integral ``[systems, curves]``."""
        return self.factor * torch.trapezoid(curve, dx=self.spacing, dim=0)


def running_integral(curve: Tensor, spacing: float) -> Tensor:
    """Integral of a curve ``[lags, ...]`` from 0 to each lag (trapezoidal rule)."""
    steps = torch.cumulative_trapezoid(curve, dx=spacing, dim=0)
    return torch.cat([torch.zeros_like(curve[:1]), steps])


def vibrational_density(
    correlation: Tensor, spacing: float, points: int = 400
) -> tuple[Tensor, Tensor]:
    """Spectrum of a velocity autocorrelation, normalised to integral 1.

    D(f) = 4 int_0^T w(t) C(t) / C(0) cos(2 pi f t) dt with the window w(t) =
    cos^2(pi t / 2 T), so that a solid's sharp lines have the width 1 / T.

    Args:
        correlation: ``[lags]`` of one species.
        spacing: time between samples.
        points: frequencies, from 0 to half the sampling rate.

    Returns:
        Frequencies in the inverse unit of time, and D(f).

    Reference: J. M. Dickey and A. Paskin, Phys. Rev. 188, 1407 (1969), equation 9.
    """
    lags = len(correlation)
    time = torch.arange(lags).to(correlation) * spacing
    window = torch.cos(0.5 * math.pi * time / (lags * spacing)).square()
    frequency = torch.linspace(0, 0.5 / spacing, points, dtype=correlation.dtype)
    waves = torch.cos(2 * math.pi * frequency[:, None] * time)
    weights = torch.full_like(time, spacing)
    weights[0] *= 0.5
    return frequency, 4 * waves @ (weights * window * correlation / correlation[0])


__all__: Sequence[str] = [
    "BySpecies", "Correlation", "Integral", "Slope", "mean_product", "running_integral",
    "shear_stress", "unwrapped", "velocities", "vibrational_density",
]  # fmt: skip
