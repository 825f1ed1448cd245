"""What the result of a problem is compared with: exact solutions and limits.

``comparison(name, problem)`` returns a function of what was observed at the end, or says
why there is none; everything that can be refused is refused there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..comparison import worst
from ..errors import InputError
from ..protocols import Check, Figure
from . import exact
from .boundaries import Wall, component, wall_of
from .initial.pieces import Jump
from .initial.shocks import Shock
from .initial.smooth import Sound, Vortex
from .problem import Problem

Seen = Mapping[str, Tensor]


@dataclass(frozen=True)
class Compared:
    """What a reference says.

    Attributes:
        figures: results.
        profile: arrays drawn over x or the Knudsen number; a name that ends on ``_exact``
            or ``_reference`` is drawn dashed.
        maps: arrays of a group of their own.
        words: long names of some arrays.
        checks: of figures whose exact value, or whose limit, is known here.
    """

    figures: Mapping[str, Figure]
    profile: Mapping[str, Tensor] = field(default_factory=dict)
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    checks: Sequence[Check] = ()


Comparison = Callable[[Seen], Compared]

FREQUENCY = 0.005
"""Relative error of a complex frequency that was the point of a run."""

SMEARED = 3.0
"""Cells over which a scheme may smear the waves of a Riemann problem, together."""

VORTEX = 1e-3
"""Relative error of a smooth density; the vortex is 0.5 deep."""

MIRROR = 1e-3
"""Relative asymmetry of a flow that starts symmetric. Rounding doubles it at every turn of
an unstable contact: measured 1.2e-5 after 700 steps on 200 x 200 cells."""

STEADY = 0.01
"""Relative variation of what is constant in a steady flow."""

LIMIT = 0.05
"""Relative distance of a flow between walls from its limit."""


def _near_free(knudsen: float) -> float:
    """Return ``LIMIT`` and the first correction to free flight, of the order 1 / Kn."""
    return LIMIT + 1.0 / knudsen


def relative_error(found: Tensor, exactly: Tensor) -> Figure:
    """Return the relative L1 distance."""
    gap = (found - exactly).abs().mean() / exactly.abs().mean()
    return Figure(float(gap), note="relative L1 distance to the exact solution")


def riemann(problem: Problem, free: bool = False) -> Comparison:
    """Euler's Riemann problem; with ``free`` also free flight, at the last Knudsen number.

    Raises:
        InputError: the gas does not start from a jump, or its grid is no line.
    """
    start = problem.initial
    if not isinstance(start, Jump) or problem.grid.dim != 1:
        name = "free_flight" if free else "riemann"
        raise InputError(f"reference: {name} needs initial.kind = jump on a 1D grid")
    x, end = problem.grid.centers(0) - start.position, problem.end
    left, right = start.left.values, start.right.values
    a, b = (exact.Gas1(float(s[0]), float(s[1]), float(s[0] * s[4])) for s in (left, right))
    rho, u, pressure = exact.riemann(a, b, problem.gamma, x / end)
    names = ("density", "velocity", "temperature")
    known = (rho, u, pressure / rho)
    profile = {f"{n}_exact": v for n, v in zip(names, known, strict=True)}
    flight = None
    if free:
        ends = [(float(s[0]), float(s[4])) for s in (left, right)]
        flight = exact.free_flight_jump(ends[0], ends[1], x, end, problem.gas.dimension)
        profile |= {f"{n}_free_exact": v for n, v in zip(names, flight, strict=True)}

    smeared = SMEARED / problem.grid.shape[0]
    thin, thick = float(problem.knudsen[0]), float(problem.knudsen[-1])

    def compare(seen: Seen) -> Compared:
        figures = {"density_error": relative_error(seen["density"][0], rho)}
        off, checks = figures["density_error"].value, []
        if thin <= 1e-3:
            bound, note = smeared + 10 * thin, "density, of Euler's exact solution"
            checks.append(Check("riemann", "accuracy", off, bound, note=note))
        if flight is not None:
            figures["density_error_free"] = relative_error(seen["density"][-1], flight[0])
            off, met = figures["density_error_free"].value, end / thick
            if met <= 0.1:  # of the molecules have collided
                bound, note = smeared + met, "density, of free flight"
                checks.append(Check("free_flight", "accuracy", off, bound, note=note))
        return Compared(figures, profile, checks=checks)

    return compare


def vortex(problem: Problem) -> Comparison:
    """The isentropic vortex, carried along by its stream.

    Raises:
        InputError: the gas does not start from it.
    """
    start = problem.initial
    if not isinstance(start, Vortex):
        raise InputError("reference: vortex needs initial.kind = vortex")
    rho = start.fields(problem.grid, problem.gas, problem.gamma, problem.end).density

    def compare(seen: Seen) -> Compared:
        figures = {"density_error": relative_error(seen["density"][0], rho)}
        note = "density, of the exact vortex carried along"
        off = figures["density_error"].value
        checks = [Check("vortex", "accuracy", off, VORTEX, note=note)]
        maps = {"exact": rho[None], "departure": seen["density"][:1] - rho}
        words = {"exact": "density, exact", "departure": "density, computed - exact"}
        return Compared(figures, maps=maps, words=words, checks=checks)

    return compare


def spectrum(problem: Problem) -> Comparison:
    """Frequency and damping of a sound wave, against linear BGK at each Knudsen number.

    Raises:
        InputError: the gas does not start from it.
    """
    start, grid = problem.initial, problem.grid
    if not isinstance(start, Sound):
        raise InputError("reference: spectrum needs initial.kind = sound")
    k = 2 * math.pi / (grid.upper[0] - grid.lower[0])
    wave = torch.exp(-1j * k * (grid.centers(0) - grid.lower[0]))
    modes = [
        (tau, exact.acoustic_mode(k * tau, problem.gas.dimension) / tau)
        for tau in problem.knudsen.tolist()
    ]

    def compare(seen: Seen) -> Compared:
        figures = {}
        for i, (tau, growth) in enumerate(modes):
            change = growth * problem.end
            now = complex((seen["density"][i] * wave).mean()) / (0.5 * start.amplitude)
            ratio = now / complex(torch.exp(torch.tensor(change)))
            error = abs(complex(torch.log(torch.tensor(ratio)))) / abs(change)
            note = f"relative, k tau = {k * tau:.3g}, exact lambda {growth:.4g}"
            figures[f"frequency_error_kn{i}"] = Figure(error, note=note)
        off, note = worst(f.value for f in figures.values()), "of the exact linear mode"
        check = Check("frequency", "accuracy", off, FREQUENCY, note=note)
        return Compared(figures, checks=[check])

    return compare


def mirror(problem: Problem) -> Comparison:
    """A flow of the plane that starts symmetric about its diagonal."""

    def compare(seen: Seen) -> Compared:
        rho = seen["density"][0]
        note = "largest difference of density across the diagonal, relative"
        gap = float((rho - rho.mT).abs().amax() / rho.amax())
        check = Check("mirror_symmetry", "accuracy", gap, MIRROR, note=note)
        return Compared({"asymmetry": Figure(gap, note=note)}, checks=[check])

    return compare


def shock(problem: Problem) -> Comparison:
    """The structure of a shock by the Navier-Stokes-Fourier equations.

    Raises:
        InputError: the gas does not start from one, or has no power law of viscosity.
    """
    start, gas, grid = problem.initial, problem.gas, problem.grid
    if not isinstance(start, Shock):
        raise InputError("reference: shock needs initial.kind = shock")
    if gas.density_power != 1.0:
        raise InputError('reference: shock needs gas.viscosity = "power_law"')
    kn, omega = float(problem.knudsen[0]), 1.0 + gas.temperature_power
    x, rho, u, t = exact.shock_structure(start.mach, kn, omega, gas.prandtl, gas.dimension)
    known = {"x": x, "density": rho, "velocity": u, "temperature": t}
    profile = {f"{name}_nsf_reference": values for name, values in known.items()}
    path = 16 * kn / (5 * math.sqrt(2 * math.pi))
    slope = ((rho[2:] - rho[:-2]) / (x[2:] - x[:-2])).amax()
    steepest = float(slope / (rho.amax() - rho.amin()))
    jump = float(exact.shock_jump(start.mach, gas.gamma)[1] - 1)

    def compare(seen: Seen) -> Compared:
        d = seen["density"][0]
        own = float((d[2:] - d[:-2]).amax()) / (2 * grid.spacing[0]) / jump
        flow = d * seen["velocity"][0, :, 0]
        figures = {
            "inverse_thickness": Figure(own * path, note="mean free paths ahead"),
            "inverse_thickness_nsf": Figure(steepest * path),
            "mass_flux_residual": Figure(float((flow / flow[0] - 1).abs().amax())),
        }
        off, note = figures["mass_flux_residual"].value, "variation of the mass flux"
        check = Check("steady", "accuracy", off, STEADY, note=note)
        return Compared(figures, profile, checks=[check])

    return compare


def _walls(name: str, problem: Problem) -> tuple[Wall, Wall, float]:
    """Return the walls at the ends of x and their distance."""
    pair, grid = problem.sides[0], problem.grid
    low, high = wall_of(pair.low), wall_of(pair.high)
    if grid.dim != 1 or low is None or high is None:
        raise InputError(f"reference: {name} needs a 1D grid with walls at both ends of x")
    return low, high, grid.upper[0] - grid.lower[0]


def couette(problem: Problem) -> Comparison:
    """Shear between sliding walls: free molecules, and Navier-Stokes with slip.

    Raises:
        InputError: no walls, or they do not slide against each other along y.
    """
    low, high, width = _walls("couette", problem)
    kn, speed = problem.knudsen, component(high.velocity, 1) - component(low.velocity, 1)
    if not speed:
        raise InputError("reference: couette needs walls with different velocities along y")
    free = torch.tensor(exact.free_couette(low.temperature, speed)).abs()
    slip = kn * abs(speed) / (width + 2 * 1.01619 * kn * math.sqrt(2))
    return lambda seen: _limits(
        "shear", kn, seen, seen["stress"][..., 0, 1].mean(1).abs(), free, slip
    )


def fourier(problem: Problem) -> Comparison:
    """Heat between walls: free molecules, and Fourier's law with temperature jumps.

    Raises:
        InputError: no walls.
    """
    low, high, width = _walls("fourier", problem)
    cold, hot = sorted((low.temperature, high.temperature))
    kn, prandtl = problem.knudsen, problem.gas.prandtl
    free = torch.tensor(exact.free_fourier(cold, hot)[1])
    jump = 2 * 1.30272 * kn / prandtl * math.sqrt(2)
    slip = 2.5 * kn / prandtl * (hot - cold) / (width + jump)
    return lambda seen: _limits(
        "heat", kn, seen, seen["heat_flux"][..., 0].mean(1).abs(), free, slip
    )


def _limits(
    name: str, kn: Tensor, seen: Seen, found: Tensor, free: Tensor, slip: Tensor
) -> Compared:
    rho = seen["density"].mean(1)
    profile = {name: found, f"{name}_free_exact": free * rho, f"{name}_reference": slip}
    free_note = "relative to free molecules, at the largest Knudsen number"
    slip_note = "relative to Navier-Stokes-Fourier with slip, at the smallest"
    off = float((found[-1] / (free * rho[-1]) - 1).abs())
    figures = {
        f"{name}_error_free": Figure(off, note=free_note),
        f"{name}_error_slip": Figure(float((found[0] / slip[0] - 1).abs()), note=slip_note),
    }
    words = {name: {"shear": "shear stress", "heat": "heat flux"}[name]}
    thin, thick, checks = float(kn[0]), float(kn[-1]), []
    if thick >= 10:
        bound = _near_free(thick)
        checks.append(Check("free_limit", "accuracy", off, bound, note=free_note))
    if thin <= 0.1:
        off, bound = figures[f"{name}_error_slip"].value, LIMIT + thin
        checks.append(Check("slip_limit", "accuracy", off, bound, note=slip_note))
    return Compared(figures, profile, words=words, checks=checks)


COMPARISONS: Mapping[str, Callable[[Problem], Comparison]] = {
    "riemann": riemann,
    "free_flight": lambda problem: riemann(problem, free=True),
    "couette": couette,
    "fourier": fourier,
    "shock": shock,
    "vortex": vortex,
    "spectrum": spectrum,
    "mirror": mirror,
}
"""Every comparison, by the name that scenarios and initial conditions use."""


def comparison(name: str, problem: Problem) -> Comparison:
    """Return a comparison.

    Raises:
        InputError: it does not fit the problem.
    """
    return COMPARISONS[name](problem)
