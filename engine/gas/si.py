"""Scenario files of gases with quantities in SI units, such as ``"20 um"`` or ``"2 bar"``.

A gas is non-dimensional inside: lengths by L, temperatures by T0, densities by rho0 =
p0 / (R T0), velocities by sqrt(R T0), with R of the molecules. The table ``si`` of a file
says what these are; every text of a number and a unit is then divided by the scale of its
key before the file is checked, and what a run writes stays non-dimensional.
"""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from ..protocols import Figure
from ..schema.base import Section
from ..units import ATOMIC_MASS_KG, BOLTZMANN_EV, ELEMENTARY_CHARGE

UNITS: dict[str, tuple[str, float]] = {
    **{u: ("m", s) for u, s in (
        ("m", 1.0), ("cm", 1e-2), ("mm", 1e-3), ("um", 1e-6), ("nm", 1e-9))},
    **{u: ("s", s) for u, s in (
        ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("ps", 1e-12))},
    **{u: ("Pa", s) for u, s in (
        ("Pa", 1.0), ("hPa", 1e2), ("kPa", 1e3), ("MPa", 1e6), ("mbar", 1e2), ("bar", 1e5),
        ("atm", 101325.0), ("Torr", 101325.0 / 760.0))},
    "K": ("K", 1.0), "m/s": ("m/s", 1.0), "km/s": ("m/s", 1e3), "m/s2": ("m/s2", 1.0),
    "kg/m3": ("kg/m3", 1.0), "g/cm3": ("kg/m3", 1e3), "kg/m2/s": ("kg/m2/s", 1.0),
}  # fmt: skip
"""Unit -> the SI unit of its kind, and how many of it."""

KEYS = {
    "temperature": "K", "pressure": "Pa", "density": "kg/m3", "velocity": "m/s",
    "acceleration": "m/s2", "mass_flow": "kg/m2/s",
    **dict.fromkeys(("center", "radius", "point", "low", "high", "position", "corners",
                     "start", "at", "lower", "upper", "width"), "m"),
}  # fmt: skip
"""Last key of a quantity -> unit, where the tables below do not say otherwise."""
WITHIN = {
    "model": {"lower": "m/s", "upper": "m/s"},
    "compare": {"lower": "m/s", "upper": "m/s"},
    "time": dict.fromkeys(("end", "shortest", "compared"), "s"),
    "probes": {"end": "m"},
}
"""First key -> the same for keys of that table."""
TEXTS = ("title", "description", "name", "kind", "path", "si")
QUANTITY = re.compile(
    r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s+([A-Za-z][\w/]*)\s*"
)

Scale = Annotated[float, Field(gt=0, lt=1e12)]


class SiSection(Section):
    """What the non-dimensional ones stand for, in SI units."""

    length: Scale
    """L, m."""
    temperature: Scale
    """T0, K."""
    pressure: Scale
    """p0, Pa."""
    mass: Scale
    """Of a molecule, atomic mass units."""
    viscosity: Scale | None = None
    """mu0 at T0, Pa s: the Knudsen number follows. Without it ``knudsen`` says it."""

    @cached_property
    def scales(self) -> Mapping[str, float]:
        """Return how many SI units are one."""
        r = BOLTZMANN_EV * ELEMENTARY_CHARGE / (self.mass * ATOMIC_MASS_KG)
        speed, density = (
            math.sqrt(r * self.temperature),
            self.pressure / r / self.temperature,
        )
        return {
            "m": self.length, "K": self.temperature, "Pa": self.pressure, "m/s": speed,
            "kg/m3": density, "s": self.length / speed, "m/s2": speed**2 / self.length,
            "kg/m2/s": density * speed,
        }  # fmt: skip

    @property
    def knudsen(self) -> float | None:
        """``mu0 / (rho0 sqrt(R T0) L)``, None without a viscosity."""
        if self.viscosity is None:
            return None
        return self.viscosity / (self.scales["kg/m2/s"] * self.length)

    def figures(self) -> dict[str, Figure]:
        """Return what one of each unit of the results is."""
        names = {
            "length": "m", "time": "s", "velocity": "m/s", "temperature": "K",
            "density": "kg/m3", "pressure": "Pa",
        }  # fmt: skip
        note = "one of it in the results"
        return {
            f"unit_{name}": Figure(self.scales[unit], unit, note=note)
            for name, unit in names.items()
        }


def converted(data: Mapping[str, Any], si: SiSection) -> dict[str, Any]:
    """Return the data of a file with its quantities made non-dimensional.

    Raises:
        ValueError: names a key whose unit is unknown or not of its kind, or a Knudsen
            number that contradicts the viscosity.
    """
    out = {key: _converted(value, (key,), si.scales) for key, value in data.items()}
    number = si.knudsen
    if number is None:
        return out
    given = out.setdefault("knudsen", [number])
    known = [x for x in given if isinstance(x, int | float)] if _listed(given) else []
    if not known or any(abs(x / number - 1.0) > 1e-6 for x in known):
        raise ValueError(
            f"knudsen: {given} contradicts si.viscosity, which gives {number:.7g}; leave "
            "one of them out"
        )
    return out


def _listed(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _converted(value: Any, keys: tuple[str, ...], scales: Mapping[str, float]) -> Any:
    if keys[-1] in TEXTS:
        return value
    if isinstance(value, Mapping):
        return {k: _converted(v, (*keys, str(k)), scales) for k, v in value.items()}
    if _listed(value):
        return [_converted(v, keys, scales) for v in value]
    found = QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    name, unit = ".".join(keys), found[2]
    wanted = WITHIN.get(keys[0], {}).get(keys[-1], KEYS.get(keys[-1]))
    if wanted is None:
        raise ValueError(f"{name}: {value!r}: no unit is known here; write a number")
    fitting = [u for u, (kind, _) in UNITS.items() if kind == wanted]
    if unit not in fitting:
        raise ValueError(f"{name}: {value!r}; allowed units: {', '.join(fitting)}")
    return float(found[1]) * UNITS[unit][1] / scales[wanted]


__all__ = ["SiSection", "converted"]
