"""What the result of a problem is compared with: exact solutions and limits.

``comparison(name, problem)`` returns a function of what was observed at the end, or says
why there is none; everything that can be refused is refused there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..comparison import worst
from ..errors import InputError
from ..protocols import Check, Figure
from . import exact
from .boundaries import Wall, component, constant, wall_of
from .equations.fluid import TEMPERATURE_JUMP, VELOCITY_SLIP
from .initial.pieces import Jump
from .initial.shocks import Shock
from .initial.smooth import Sound, Vortex
from .material import Gas
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

VARIED = 1.75
"""Cells over which a scheme may smear each jump of a Riemann problem: what the mean error
of the density may be of its total variation over the number of cells."""

VORTEX = 1e-3
"""Relative error of a smooth density; the vortex is 0.5 deep."""

MIRROR = 1e-3
"""Relative asymmetry of a flow that starts symmetric. Rounding doubles it at every turn of
an unstable contact: measured 1.2e-5 after 700 steps on 200 x 200 cells."""

RESTING = 1e-10
"""Drift of a gas that is held at rest: round-off of some thousand steps."""

GROWTH = 0.05
"""Relative error of the growth rate of a small disturbance."""

VISCOUS = 0.01
"""Relative error of the viscosity by which vortices decay."""

RADIUS = 0.01
"""Relative error of the radius of a blast."""

BEHIND = 0.05
"""Relative error of the density behind a shock that a cold gas runs into."""

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
    variation = float(torch.diff(rho).abs().sum() / rho.mean())
    sharp = VARIED * variation / problem.grid.shape[0]
    thin, thick = float(problem.knudsen[0]), float(problem.knudsen[-1])

    def compare(seen: Seen) -> Compared:
        figures = {"density_error": relative_error(seen["density"][0], rho)}
        off, checks = figures["density_error"].value, []
        if thin <= 1e-3:
            bound, note = sharp + 10 * thin, "density, of Euler's exact solution"
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


def _laws(gas: Gas, kn: float) -> tuple[exact.Law, exact.Law]:
    """Return viscosity and Prandtl number over the temperature, at density 1."""
    one = torch.ones((), dtype=torch.float64)

    def viscosity(t: np.ndarray) -> np.ndarray:
        return gas.viscosity(kn * one, one, torch.as_tensor(t)).numpy()

    def prandtl(t: np.ndarray) -> np.ndarray:
        return np.asarray(gas.prandtl_at(torch.as_tensor(t)))

    return viscosity, prandtl


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
    kn = float(problem.knudsen[0])
    x, rho, u, t = exact.shock_structure(start.mach, *_laws(gas, kn), gas.dimension)
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
    free = torch.tensor(exact.free_couette(constant(low.temperature), speed)).abs()
    _refuse_mirrors("couette", low, high)
    return lambda seen: _limits(
        "shear", kn, seen, seen["stress"][..., 0, 1].mean(1).abs(), free,
        _continuum(problem, low, high, width)[0],
    )  # fmt: skip


def _refuse_mirrors(name: str, *walls: Wall) -> None:
    if any(wall.accommodation == 0.0 for wall in walls):
        raise InputError(f"reference: {name} needs walls with accommodation over 0")


def _continuum(
    problem: Problem, low: Wall, high: Wall, width: float
) -> tuple[Tensor, Tensor]:
    """Return the magnitudes of shear stress and heat flux, slip and jump at the walls.

    Per Knudsen number; the coefficients of slip and jump are those of the fluid's walls.
    """
    share = 0.5 * (problem.gas.dimension + 2)
    shares = tuple((2 - w.accommodation) / w.accommodation for w in (low, high))
    mass = float(problem.start.density.mean()) * width
    found = []
    for kn in problem.knudsen.tolist():
        mu, prandtl = _laws(problem.gas, kn)

        def kappa(t: np.ndarray, mu: exact.Law = mu, pr: exact.Law = prandtl) -> np.ndarray:
            return share * mu(t) / pr(t)

        def slip(t: np.ndarray, mu: exact.Law = mu) -> np.ndarray:
            return VELOCITY_SLIP * mu(t) * np.sqrt(2 * t)

        def jump(t: np.ndarray, mu: exact.Law = mu, pr: exact.Law = prandtl) -> np.ndarray:
            return TEMPERATURE_JUMP * mu(t) * np.sqrt(2 * t) / pr(t)

        speeds = component(low.velocity, 1), component(high.velocity, 1)
        ends = constant(low.temperature), constant(high.temperature)
        try:
            _, shear, heat = exact.walled_flow(
                mu, kappa, speeds, ends, (slip, jump), (shares[0], shares[1]), mass, width
            )
        except ArithmeticError:  # where the gas is so thin that this limit says nothing
            shear = heat = math.nan
        found.append((abs(shear), abs(heat)))
    shears, heats = torch.tensor(found, dtype=torch.float64).T
    return shears, heats


def fourier(problem: Problem) -> Comparison:
    """Heat between walls: free molecules, and Fourier's law with temperature jumps.

    Raises:
        InputError: no walls.
    """
    low, high, width = _walls("fourier", problem)
    cold, hot = sorted((constant(low.temperature), constant(high.temperature)))
    free = torch.tensor(exact.free_fourier(cold, hot)[1])
    _refuse_mirrors("fourier", low, high)
    return lambda seen: _limits(
        "heat", problem.knudsen, seen, seen["heat_flux"][..., 0].mean(1).abs(), free,
        _continuum(problem, low, high, width)[1],
    )  # fmt: skip


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


def _from(problem: Problem, center: Sequence[float]) -> Tensor:
    """Return the distance of the cells from a place."""
    at = zip(problem.grid.points(), center, strict=True)
    return sum((x - c) ** 2 for x, c in at).sqrt()  # type: ignore[union-attr]


def _mirrored_ends(problem: Problem) -> list[int]:
    """Return the axes whose low end is a plane of symmetry: a half stands for the whole."""
    from .boundaries import Symmetry

    ends = enumerate(problem.sides)
    return [axis for axis, pair in ends if isinstance(pair.low, Symmetry)]


def sedov(problem: Problem) -> Comparison:
    """The radius of the blast of a point explosion in a gas at rest, by similarity.

    The energy is what the start holds beyond the coldest cell's pressure, its place the
    mean of where it is; a low end that is a plane of symmetry holds the place.

    Raises:
        InputError: the gas moves at the start, is not of one density, or of one pressure.
    """
    grid, start = problem.grid, problem.start
    rho = float(start.density.flatten()[0])
    if bool(start.velocity.any()) or bool((start.density / rho - 1).abs().amax() > 1e-9):
        raise InputError("reference: sedov needs a gas at rest of one density at the start")
    pressure = start.density * start.temperature
    extra = pressure - pressure.amin()
    if not float(extra.amax()) > 1e-9 * float(pressure.amax()):
        raise InputError("reference: sedov needs a place of higher pressure at the start")
    mirrored = _mirrored_ends(problem)
    center = [
        grid.lower[k] if k in mirrored else float((extra * x).sum() / extra.sum())
        for k, x in enumerate(grid.points())
    ]
    energy = float(extra.sum()) * grid.volume * 2 ** len(mirrored) / (problem.gamma - 1)
    alpha, moved = exact.sedov(problem.gamma, grid.dim)
    radius = (energy * problem.end**2 / (alpha * rho)) ** (1.0 / (grid.dim + 2))
    r, whole = _from(problem, center), grid.volume * 2 ** len(mirrored)

    def compare(seen: Seen) -> Compared:
        moment = float(((seen["density"][0] / rho - 1) * r).sum()) * whole
        found = max(moment / moved, 0.0) ** (1.0 / (grid.dim + 1))
        off = abs(found / radius - 1.0)
        note = f"radius {found:.5g}, of similarity {radius:.5g}; by the first moment of "
        note += "what the blast has moved, which a smeared front leaves as it is"
        figures = {"radius_error": Figure(off, note=note)}
        check = Check("blast_radius", "accuracy", off, RADIUS, note=note)
        return Compared(figures, checks=[check])

    return compare


def noh(problem: Problem) -> Comparison:
    """The density behind the shock of a cold gas that runs into its own middle.

    Exact is ``((gamma + 1)/(gamma - 1))^d`` within ``(gamma - 1)|u| t / 2`` (Noh, J.
    Comput. Phys. 72, 1987, p. 78). The innermost third, where every scheme heats the gas,
    and the outermost tenth, where the shock is smeared, are left out.

    Raises:
        InputError: the gas does not move at one speed to the corner of low ends that are
            planes of symmetry.
    """
    grid, start = problem.grid, problem.start
    r = _from(problem, grid.lower)
    speed = start.velocity.square().sum(-1).sqrt()
    points = zip(grid.points(), grid.lower, strict=True)
    inwards = -sum((x - a) * start.velocity[..., k] for k, (x, a) in enumerate(points))
    whole = len(_mirrored_ends(problem)) == grid.dim
    far = r > 4 * max(grid.spacing)
    straight = (inwards / (r * speed) - 1).abs()[far].amax()
    even = float(speed.std() / speed.mean())  # NaN for a gas at rest
    if not (whole and float(straight) <= 0.01 and even <= 0.01):
        raise InputError(
            "reference: noh needs a gas that moves at one speed to the lower corner, with "
            'boundaries of kind = "symmetry" at the low ends'
        )
    g = problem.gamma
    shock = 0.5 * (g - 1) * float(speed.mean()) * problem.end
    behind = ((g + 1) / (g - 1)) ** grid.dim * float(start.density.flatten()[-1])
    inside = (r > shock / 3) & (r < 0.9 * shock)
    if not bool(inside.any()):
        raise InputError("reference: noh needs cells behind the shock; refine the grid")

    def compare(seen: Seen) -> Compared:
        off = float((seen["density"][0][inside] / behind - 1).abs().mean())
        note = f"density behind the shock, of the exact {behind:.4g}"
        figures = {"noh_density_error": Figure(off, note=note)}
        check = Check("noh_density", "accuracy", off, BEHIND, note=note)
        return Compared(figures, checks=[check])

    return compare


def rest(problem: Problem) -> Comparison:
    """A gas at rest in the field of a force: whatever moves is the error.

    Raises:
        InputError: the gas moves at the start, or no state is held at rest.
    """
    start, force = problem.start, problem.force
    if bool(start.velocity.any()) or force is None or force.rest is None:
        raise InputError("reference: rest needs a gas at rest at the start, and force.rest")

    def compare(seen: Seen) -> Compared:
        moved = float(seen["velocity"].abs().amax())
        changed = float((seen["density"] / start.density - 1.0).abs().amax())
        note = "largest of velocity and relative change of density"
        figures = {"rest_drift": Figure(max(moved, changed), note=note)}
        check = Check("at_rest", "accuracy", max(moved, changed), RESTING, note=note)
        return Compared(figures, checks=[check])

    return compare


def rayleigh_taylor(problem: Problem) -> Comparison:
    r"""The growth of the flow at the start on a heavy gas above a light one.

    Without compression, viscosity and width, of one wave of wave number k along x between
    walls that are H above and below, ``s^2 = A g k tanh(k H)`` with Atwood's number A
    (Chandrasekhar, Hydrodynamic and Hydromagnetic Stability, 1961, sect. 92). The flow
    along y grows as ``cosh(s t)`` from rest of the interface; its part of the start's
    shape is measured.

    Raises:
        InputError: the start is not of that kind.
    """
    grid, start, force = problem.grid, problem.start, problem.force
    flow = start.velocity[..., 1]
    if grid.dim != 2 or force is None or not bool(flow.any()):
        raise InputError(
            "reference: rayleigh_taylor needs a 2D grid, a force along y and a start that "
            "moves along y"
        )
    acceleration = force.on(grid)[0]
    g = -float(acceleration[1].mean()) if len(acceleration) > 1 else 0.0
    below, above = (float(x.mean()) for x in start.density.chunk(2, 1))
    atwood = (above - below) / (above + below)
    if atwood * g <= 0.0:
        raise InputError("reference: rayleigh_taylor needs the denser gas where it falls")
    width, height = (b - a for a, b in zip(grid.lower, grid.upper, strict=True))
    waves = int(torch.fft.rfft(flow.sum(1)).abs()[1:].argmax()) + 1
    k = 2 * math.pi * waves / width
    rate = math.sqrt(atwood * g * k * math.tanh(0.5 * k * height))
    weight = start.density * flow

    def compare(seen: Seen) -> Compared:
        now = seen["velocity"][0, ..., 1].double()
        ratio = float((weight * now).sum() / (weight * flow).sum())
        grown = math.acosh(ratio) / problem.end if ratio >= 1.0 else math.nan
        off, note = abs(grown / rate - 1.0), f"{grown:.4g}, linear theory {rate:.4g}"
        figures = {"growth_error": Figure(off, note=note)}
        check = Check("growth_rate", "accuracy", off, GROWTH, note=note)
        return Compared(figures, checks=[check])

    return compare


def taylor_green(problem: Problem) -> Comparison:
    r"""The decay of periodic vortices: they keep their shape, as ``exp(-nu k^2 t)``.

    Taylor & Green, Proc. R. Soc. A 158, 499 (1937), in the plane, where the flow is an
    exact solution without compression; ``k^2`` is that of the start, of one size in it.
    The part of the start's flow that is left is measured.

    Raises:
        InputError: the start is not of that kind, or is not slow.
    """
    grid, u = problem.grid, problem.start.velocity[..., :2].double()
    said = "reference: taylor_green needs a periodic 2D grid"
    if grid.dim != 2 or not all(pair.periodic for pair in problem.sides):
        raise InputError(said)
    waves = (
        2 * math.pi * torch.fft.fftfreq(n, h, dtype=torch.float64)
        for n, h in zip(grid.shape, grid.spacing, strict=True)
    )
    kx, ky = torch.meshgrid(*waves, indexing="ij")
    power = torch.fft.fft2(u, dim=(0, 1)).abs().square().sum(-1)
    here = power > 1e-6 * power.amax()
    sizes = (kx.square() + ky.square())[here]
    density, t = problem.start.density.double(), problem.start.temperature.double()
    fast = float((u.square().sum(-1) / (problem.gamma * t)).amax()) ** 0.5
    one = sizes.numel() and 0 < float(sizes.amax()) < 1.001 * float(sizes.amin())
    if not one or fast > 0.2:
        raise InputError(
            f"{said} and a start of vortices of one size at a Mach number up to 0.2 "
            f"(found: {fast:.3g})"
        )
    k2, rho, t = float(sizes.mean()), density.mean(), t.mean()
    rates = problem.gas.viscosity(problem.knudsen.double(), rho, t) / rho * k2

    def compare(seen: Seen) -> Compared:
        now = seen["velocity"][..., :2].double()
        left = (now * u).flatten(1).sum(1) / u.square().sum()
        found = -left.log() / problem.end
        off = worst((found / rates - 1.0).abs().tolist())
        note = f"{float(found[0]):.5g}, nu k^2 = {float(rates[0]):.5g}"
        figures = {"viscosity_error": Figure(off, note=note)}
        check = Check("viscosity", "accuracy", off, VISCOUS, note=note)
        return Compared(figures, checks=[check])

    return compare


COMPARISONS: Mapping[str, Callable[[Problem], Comparison]] = {
    "riemann": riemann,
    "free_flight": lambda problem: riemann(problem, free=True),
    "couette": couette,
    "fourier": fourier,
    "shock": shock,
    "vortex": vortex,
    "spectrum": spectrum,
    "sedov": sedov,
    "noh": noh,
    "rest": rest,
    "rayleigh_taylor": rayleigh_taylor,
    "taylor_green": taylor_green,
    "mirror": mirror,
}
"""Every comparison, by the name that scenarios and initial conditions use."""


def comparison(name: str, problem: Problem) -> Comparison:
    """Return a comparison.

    Raises:
        InputError: it does not fit the problem.
    """
    return COMPARISONS[name](problem)
