"""The two systems of units that molecular dynamics speaks."""

from dataclasses import dataclass

from ..units import BOLTZMANN_EV, EV_PER_A3_GPA, MD_TIME_FS


@dataclass(frozen=True)
class Units:
    """What turns internal numbers into those of scenario files and reports.

    Attributes:
        boltzmann: energy per unit of temperature.
        time: reported units in one internal unit of time.
        pressure: reported units in one internal unit of pressure.
        names: symbol of each quantity's reported unit.
    """

    boltzmann: float
    time: float
    pressure: float
    names: dict[str, str]


METAL = Units(
    BOLTZMANN_EV,
    MD_TIME_FS,
    EV_PER_A3_GPA,
    {
        "energy": "eV", "length": "angstrom", "time": "fs", "temperature": "K",
        "pressure": "GPa", "force": "eV/angstrom", "velocity": "angstrom/fs",
    },
)  # fmt: skip
"""eV, angstrom, amu, K; time in fs and pressure in GPa at the border."""

REDUCED = Units(
    1.0,
    1.0,
    1.0,
    {
        "energy": "eps", "length": "sigma", "time": "tau", "temperature": "eps/k",
        "pressure": "eps/sigma^3", "force": "eps/sigma", "velocity": "sigma/tau",
    },
)  # fmt: skip
"""Lennard-Jones units: mass, sigma, epsilon and the Boltzmann constant are one."""
