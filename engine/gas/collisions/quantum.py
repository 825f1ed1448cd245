r"""Quantum scattering: phase shifts, the viscosity cross section of identical atoms.

The radial equation ``u'' = (l(l+1)/r^2 + 2 mu (V - E)/hbar^2) u`` is integrated outwards
by the renormalised Numerov method (B. R. Johnson, J. Chem. Phys. 67, 4086, 1977), all l of
many energies at once, and matched to free waves. For identical atoms without spin

    Q_2 = 8 pi/k^2 sum_{l even} (l+1)(l+2)/(2l+3) sin^2(delta_{l+2} - delta_l)

(J. O. Hirschfelder, C. F. Curtiss, R. B. Bird, Molecular Theory of Gases and Liquids, 1954,
equation 10.3-16); atoms that can be told apart sum over all l with half the weight.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import spherical_jn, spherical_yn

from ...units import ATOMIC_MASS_KG, BOLTZMANN_EV, ELEMENTARY_CHARGE
from .pairs import Table
from .scattering import CrossSections, scatter
from .transport import integral

_HBAR = 1.054571817e-34
_KINETIC = _HBAR**2 / (ATOMIC_MASS_KG * BOLTZMANN_EV * ELEMENTARY_CHARGE) * 1e20
"""hbar^2 / (amu k), K angstrom^2."""

_TOGETHER = 24
"""Energies that are integrated at once."""


@dataclass(frozen=True)
class Quantum:
    """How fine the radial equation is integrated.

    Attributes:
        steps: per wavelength.
        tail: the potential is left out where it is below this part of the energy.
        reach: partial waves up to ``k reach + 24``, angstrom.
        classical: energies whose waves are shorter than the wall's distance over this
            number are left to classical mechanics.
    """

    steps: int = 60
    tail: float = 3e-6
    reach: float = 11.0
    classical: float = 70.0


def phase_shifts(
    table: Table, energy: np.ndarray, mass: float, waves: int, how: Quantum
) -> np.ndarray:
    """Return the phase shifts ``[energies, waves]``.

    Args:
        table: energies in K, distances in angstrom.
        energy: K, ``[energies]``.
        mass: of one atom, amu (the reduced mass is half of it).
        waves: l from 0 to ``waves - 1``.
        how: steps and ends.
    """
    scale = mass / _KINETIC  # 2 mu / hbar^2 with mu = mass / 2
    k = np.sqrt(scale * energy)
    grid = np.exp(np.linspace(math.log(table.smallest), math.log(table.largest), 4000))
    v = table(torch.from_numpy(grid)).detach().numpy()
    start = np.array(
        [grid[np.nonzero(v > 60 * max(e, 60.0))[0][-1:]].sum() for e in energy]
    )
    start = np.maximum(start, table.smallest)
    end = np.array(
        [grid[min(np.nonzero(np.abs(v) > how.tail * e)[0][-1] + 1, 3999)] for e in energy]
    )
    end = np.maximum(end, start + 4 * math.pi / k)
    # the waves under the wall are shorter than those at infinity by the root of the well
    count = np.ceil((end - start) * k * how.steps / (2 * math.pi)).astype(int)
    count = np.maximum(count, ((end - start) / 0.02).astype(int)) + 2
    h = (end - start) / count
    wave = np.arange(waves)
    spin = (wave * (wave + 1.0))[None, :]
    ratio = np.full((len(energy), waves), 1e30)
    total, weight = int(count.max()), (h * h / 12)[:, None]
    radius = start[:, None] + h[:, None] * np.arange(total + 1)
    field = table(torch.from_numpy(radius)).detach().numpy()
    for n in range(1, total + 1):
        r = radius[:, n, None]
        t = weight * (spin / r**2 + scale * (field[:, n, None] - energy[:, None]))
        # below the turning point of high l the exact ratio is large; the cut keeps it so
        t = np.minimum(t, 0.9)
        new = (2 + 10 * t) / (1 - t) - 1 / ratio
        live = (n <= count)[:, None]
        ratio = np.where(live, new, ratio)
    return _matched(k, start, h, count, ratio, spin, scale, field, energy, waves)


def _matched(
    k: np.ndarray,
    start: np.ndarray,
    h: np.ndarray,
    count: np.ndarray,
    ratio: np.ndarray,
    spin: np.ndarray,
    scale: float,
    field: np.ndarray,
    energy: np.ndarray,
    waves: int,
) -> np.ndarray:
    """Match the last two points to ``j_l`` and ``n_l``."""
    wave, shifts = np.arange(waves), np.zeros_like(ratio)
    for i in range(len(k)):
        # ratio at n is F_{n+1} / F_n, F = (1 - t) u
        places = start[i] + h[i] * (count[i] + np.arange(2))
        inner, outer = places
        t = [h[i] ** 2 / 12 * (spin[0] / r**2 - scale * energy[i]) for r in (inner, outer)]
        quotient = ratio[i] * (1 - t[0]) / (1 - t[1])  # u(outer) / u(inner)
        with np.errstate(all="ignore"):
            j = [k[i] * r * spherical_jn(wave, k[i] * r) for r in (inner, outer)]
            n = [k[i] * r * spherical_yn(wave, k[i] * r) for r in (inner, outer)]
            tangent = (j[1] - quotient * j[0]) / (n[1] - quotient * n[0])
        shift = np.arctan(tangent)
        outside = spin[0] > (k[i] * inner) ** 2  # never comes as near as the potential
        shifts[i] = np.where(outside | ~np.isfinite(shift), 0.0, shift)
    return shifts


def viscosity_section(
    table: Table, energy: np.ndarray, mass: float, bosons: bool, how: Quantum
) -> np.ndarray:
    """Return ``Q_2 [energies]``, angstrom^2; see :func:`phase_shifts`."""
    found = np.zeros_like(energy)
    order = np.argsort(energy)
    for some in np.array_split(order, math.ceil(len(order) / _TOGETHER)):
        k = np.sqrt(mass / _KINETIC * energy[some])
        waves = int(k.max() * how.reach) + 27
        delta = phase_shifts(table, energy[some], mass, waves, how)
        n = np.arange(waves - 2)
        terms = (n + 1) * (n + 2) / (2 * n + 3) * np.sin(delta[:, 2:] - delta[:, :-2]) ** 2
        summed = 2 * terms[:, ::2].sum(1) if bosons else terms.sum(1)
        found[some] = 4 * math.pi / k**2 * summed
    return found


def with_quantum(
    found: CrossSections,
    table: Table,
    mass: float,
    bosons: bool,
    how: Quantum | None = None,
) -> CrossSections:
    """Return the cross sections with the quantum ``Q_2`` where waves are long.

    ``Q_1`` and ``Q_4`` keep their classical values times the same ratio: they enter the
    third approximation only. The derivative by the potential is the classical one times
    the ratio.

    Args:
        found: classical cross sections of ``table``, K and angstrom.
        table: the potential.
        mass: of one atom, amu.
        bosons: identical atoms without spin; otherwise atoms that can be told apart.
        how: resolution of the radial equation.
    """
    how = how or Quantum()
    energy = found.energy.detach()
    reach = (
        math.exp(float(table.marks.minimum.detach()))
        if table.marks.minimum is not None
        else 1.0
    )
    slow = (mass / _KINETIC * energy).sqrt() * reach < how.classical
    if not bool(slow.any()):
        return found
    ratio = torch.ones_like(energy)
    section = viscosity_section(table, energy[slow].numpy(), mass, bosons, how)
    ratio[slow] = torch.from_numpy(section) / found.sections[1, slow].detach()
    return CrossSections(
        found.energy, found.weight, found.sections * ratio, found.coldest, found.hottest
    )


def viscosity_change(table: Table, temperature: float, mass: float, bosons: bool) -> float:
    """Return what quantum scattering adds to the viscosity of a gas, relative.

    Args:
        table: the potential, K and angstrom.
        temperature: K.
        mass: of one atom, amu.
        bosons: see :func:`with_quantum`.
    """
    with torch.no_grad():
        found = scatter(table, temperature, temperature)
        waves = with_quantum(found, table, mass, bosons)
        one = torch.tensor([temperature], dtype=torch.float64)
        return float(integral(found, one, 2, 2) / integral(waves, one, 2, 2)) - 1


__all__ = [
    "Quantum",
    "phase_shifts",
    "viscosity_change",
    "viscosity_section",
    "with_quantum",
]
