"""Solutions known in closed form or by one quadrature, in f64, plain torch and scipy."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_bvp, solve_ivp
from scipy.optimize import brentq, fsolve
from scipy.special import wofz
from torch import Tensor


@dataclass(frozen=True)
class Gas1:
    """One side of a Riemann problem: density, velocity, pressure."""

    density: float
    velocity: float
    pressure: float


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-15))  # type: ignore[arg-type]


def riemann(
    left: Gas1, right: Gas1, gamma: float, xi: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return density, velocity and pressure at ``xi = x / t`` (Toro 2009, ch. 4).

    Two ideal gases with the same gamma meet at x = 0, t = 0; no vacuum may open.
    """
    g = gamma
    sides = (left, right)
    sound = [math.sqrt(g * s.pressure / s.density) for s in sides]

    def curve(p: float, s: Gas1, c: float) -> float:
        if p > s.pressure:
            a = 2 / ((g + 1) * s.density)
            b = (g - 1) / (g + 1) * s.pressure
            return (p - s.pressure) * math.sqrt(a / (p + b))
        return 2 * c / (g - 1) * ((p / s.pressure) ** ((g - 1) / (2 * g)) - 1)

    def mismatch(p: float) -> float:
        both = curve(p, left, sound[0]) + curve(p, right, sound[1])
        return both + right.velocity - left.velocity

    top = 10 * max(left.pressure, right.pressure)
    while mismatch(top) < 0:
        top *= 10
    p = _root(mismatch, 1e-14, top)
    total = left.velocity + right.velocity
    u = 0.5 * (total + curve(p, right, sound[1]) - curve(p, left, sound[0]))
    out = [torch.empty_like(xi) for _ in range(3)]
    halves = ((left, sound[0], -1.0, xi < u), (right, sound[1], 1.0, xi >= u))
    for s, c, sign, here in halves:
        ratio = p / s.pressure
        state = (s.density, s.velocity, s.pressure)
        far = torch.stack([torch.full_like(xi, v) for v in state])
        if ratio > 1:
            k = (g - 1) / (g + 1)
            star = s.density * (ratio + k) / (k * ratio + 1)
            fast = math.sqrt((g + 1) / (2 * g) * ratio + (g - 1) / (2 * g))
            speed = s.velocity + sign * c * fast
            near = torch.tensor([star, u, p], dtype=xi.dtype)[:, None]
            side = torch.where(sign * (xi - speed) < 0, near, far)
        else:
            star = s.density * ratio ** (1 / g)
            c_star = c * ratio ** ((g - 1) / (2 * g))
            head, tail = s.velocity + sign * c, u + sign * c_star
            v = 2 / (g + 1) * (-sign * c + 0.5 * (g - 1) * s.velocity + xi)
            local = 2 / (g + 1) - sign * (g - 1) / ((g + 1) * c) * (s.velocity - xi)
            local = local.clamp(min=0)
            pressure = s.pressure * local ** (2 * g / (g - 1))
            fan = torch.stack([s.density * local ** (2 / (g - 1)), v, pressure])
            near = torch.tensor([star, u, p], dtype=xi.dtype)[:, None]
            side = torch.where(sign * (xi - tail) < 0, near, fan)
            side = torch.where(sign * (xi - head) > 0, far, side)
        for whole, part in zip(out, side, strict=True):
            whole[here] = part[here]
    return out[0], out[1], out[2]


def shock_jump(mach: float, gamma: float) -> tuple[float, float, float, float]:
    """Return speed ahead, then density, speed, temperature behind a shock at rest.

    Ahead: density 1, temperature 1 (Rankine-Hugoniot).
    """
    ratio = (gamma + 1) * mach**2 / ((gamma - 1) * mach**2 + 2)
    pressure = 1 + 2 * gamma / (gamma + 1) * (mach**2 - 1)
    speed = mach * math.sqrt(gamma)
    return speed, ratio, speed / ratio, pressure / ratio


def free_flight_jump(
    left: tuple[float, float],
    right: tuple[float, float],
    x: Tensor,
    time: float,
    dimension: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return density, velocity, temperature of two gases that mix without colliding.

    ``left`` and ``right`` are (density, temperature), at rest, the jump at x = 0. Each half
    is ``f(x - v t)``, so moments are half-range integrals of Maxwellians at ``v = x / t``.
    """
    a = x / time
    rho, flow, energy = (torch.zeros_like(x) for _ in range(3))
    for (n, t), sign in ((left, 1.0), (right, -1.0)):
        # sign +1: velocities above a; -1: below
        tail = 0.5 * torch.erfc(sign * a / math.sqrt(2 * t))
        bell = torch.exp(-a * a / (2 * t)) * math.sqrt(t / (2 * math.pi))
        rho = rho + n * tail
        flow = flow + sign * n * bell
        energy = energy + n * (t * tail + sign * a * bell) + n * (dimension - 1) * t * tail
    u = flow / rho
    return rho, u, (energy / rho - u * u) / dimension


def free_couette(temperature: float, speed: float, density: float = 1.0) -> float:
    """Return the shear stress between diffuse walls without collisions.

    The walls have one temperature and move at ``+- speed / 2``; half of the gas comes from
    each: ``|P_xy| = rho U sqrt(T / (2 pi))``.
    """
    return density * speed * math.sqrt(temperature / (2 * math.pi))


def free_fourier(cold: float, hot: float, density: float = 1.0) -> tuple[float, float]:
    """Return temperature and heat flux of a 3D gas between diffuse walls.

    Without collisions ``T = sqrt(T1 T2)``, ``q = 2 J (T2 - T1)`` with the flux J of a half.
    """
    a, b = math.sqrt(cold), math.sqrt(hot)
    # each half-range Maxwellian carries half of what its full one would
    n1 = density * b / (a + b)
    flux = 2 * n1 * a / math.sqrt(2 * math.pi)
    return a * b, 2 * flux * (hot - cold)


Law = Callable[[np.ndarray], np.ndarray]
"""A coefficient as a function of the temperature."""


def walled_flow(
    viscosity: Law,
    conductivity: Law,
    speeds: tuple[float, float],
    temperatures: tuple[float, float],
    slip: tuple[Law, Law],
    shares: tuple[float, float],
    mass: float,
    width: float,
) -> tuple[np.ndarray, float, float]:
    """Return the steady Navier-Stokes-Fourier flow between two walls.

    Shear stress ``S = -mu u'`` and ``Q = -kappa T' + u S`` are the same everywhere, the
    pressure p too, and ``integral p / T`` is the mass. At the walls the gas slips by ``a u'
    / p`` and its temperature jumps by ``b T' / p``, away from them.

    Args:
        viscosity: mu(T).
        conductivity: kappa(T).
        speeds: of the walls, along them.
        temperatures: of the walls.
        slip: a(T) and b(T) of diffuse walls.
        shares: by which both are larger at each of the walls.
        mass: of the gas over an area of 1.
        width: distance of the walls.

    Returns:
        x from 0 to ``width``, u and T ``[3, points]``; S; the mean heat flux ``-kappa T'``.

    Raises:
        ArithmeticError: the solver of the two-point problem did not converge.
    """

    def slopes(t: np.ndarray, u: np.ndarray, shear: float, total: float) -> tuple:
        t = np.maximum(t, 1e-6)
        return -shear / viscosity(t), -(total - u * shear) / conductivity(t)

    def rate(_x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
        u, t, _ = y
        return np.array([*slopes(t, u, p[0], p[1]), p[2] / np.maximum(t, 1e-6)])

    def ends(low: np.ndarray, high: np.ndarray, p: np.ndarray) -> np.ndarray:
        out = [low[2], high[2] - mass]
        near = zip((low, high), (shares[0], -shares[1]), speeds, temperatures, strict=True)
        for y, sign, u, t in near:
            at = np.maximum(y[1:2], 1e-6)
            du, dt = slopes(at, y[:1], p[0], p[1])
            out.append(y[0] - u - sign * float((slip[0](at) * du)[0]) / p[2])
            out.append(y[1] - t - sign * float((slip[1](at) * dt)[0]) / p[2])
        return np.array(out)

    # to begin with: coefficients as in the middle, where slip takes part of the difference
    x = np.linspace(0, width, 65)
    middle = np.array([np.mean(temperatures)])
    pressure = mass * float(middle[0]) / width

    def line(ends: tuple[float, float], law: Law) -> tuple[np.ndarray, float]:
        reach = sum(shares) * float(law(middle)[0]) / pressure
        slope = (ends[1] - ends[0]) / (width + reach)
        return np.mean(ends) + slope * (x - 0.5 * width), slope

    u, du = line(speeds, slip[0])
    t, dt = line(temperatures, slip[1])
    guess = np.array(
        [-float(viscosity(middle)[0]) * du, -float(conductivity(middle)[0]) * dt, pressure]
    )
    begin = np.array([u, t, mass * x / width])
    found = solve_bvp(rate, ends, x, begin, guess, tol=1e-6, bc_tol=1e-8, max_nodes=20_000)
    if found.status != 0:
        raise ArithmeticError(f"steady flow between walls: {found.message}")
    shear, total, _ = found.p
    u = found.sol(np.linspace(0, width, 513))[0]
    mean = float(np.trapezoid(u, dx=1 / 512))
    return np.array([found.x, *found.y[:2]]), float(shear), float(total - mean * shear)


def bkw(dimension: int, time: float, square: Tensor) -> Tensor:
    """Return the distribution of Bobylev, Krook and Wu for Maxwell molecules.

    Collision kernel ``B = 1/(2 pi)`` (2V) or ``1/(4 pi)`` (3V), density and temperature 1.

    Args:
        dimension: 2 or 3.
        time: from 0 on.
        square: ``v^2`` at the nodes.
    """
    if dimension == 2:
        k = 1 - 0.5 * math.exp(-time / 8)
        shape = (2 * k - 1) / k + (1 - k) * square / (2 * k * k)
        return torch.exp(-square / (2 * k)) / (2 * math.pi * k) * shape
    k = 1 - 0.4 * math.exp(-time / 6)
    shape = (5 * k - 3) / k + (1 - k) * square / (k * k)
    return torch.exp(-square / (2 * k)) / (2 * (2 * math.pi * k) ** 1.5) * shape


def bkw_moments(dimension: int, time: float) -> tuple[float, float]:
    """Return ``<v^4>`` and ``<v^6>`` of :func:`bkw`.

    ``<v^(2n)> = K^(n-1) (n - (n-1) K) <v^(2n)>_Maxwell``.
    """
    k = 1 - (0.5 * math.exp(-time / 8) if dimension == 2 else 0.4 * math.exp(-time / 6))
    m4, m6 = (8.0, 48.0) if dimension == 2 else (15.0, 105.0)
    return k * (2 - k) * m4, k * k * (3 - 2 * k) * m6


def _dispersion(growth: complex, k: float, dimension: int) -> complex:
    """Determinant whose zeros are the modes of linearised BGK with tau = 1."""
    z = 1j * (growth + 1) / k
    moments = [1j * math.sqrt(math.pi / 2) * wofz(z / math.sqrt(2))]
    gauss = (1, 0, 1, 0, 3, 0)
    for n in range(1, 5):
        moments.append(z * moments[-1] + gauss[n - 1])
    i0, i1, i2, i3, i4 = moments
    c, rest, d = 1 / (1j * k), dimension - 1, dimension
    heat = (i4 - 2 * i2 + i0) / 2 + rest * i0
    matrix = np.array(
        [
            [c * i0, c * i1, c * (i2 - i0) / 2],
            [c * i1, c * i2, c * (i3 - i1) / 2],
            [c * (i2 - i0) / d, c * (i3 - i1) / d, c * heat / d],
        ]
    )
    return complex(np.linalg.det(np.eye(3) - matrix))


def acoustic_mode(k: float, dimension: int) -> complex:
    """Return ``lambda tau`` of the acoustic mode ``exp(i k x + lambda t)`` of BGK.

    ``k`` in units of ``1 / (tau sqrt(T))``, tau constant. The zero of the 3 x 3 determinant
    of plasma-dispersion integrals, followed from small k. Exists up to k = 1.31 (3V), 1.47
    (1V).
    """
    found: list[complex] = []
    line = np.linspace(min(0.1, k), k, max(2, int(k / 0.02)))
    sound = math.sqrt((dimension + 2) / dimension)
    for q in line:
        guess = 2 * found[-1] - found[-2] if len(found) > 1 else 1j * q * sound - q * q

        def parts(y: np.ndarray, q: float = float(q)) -> list[float]:
            value = _dispersion(complex(y[0], y[1]), q, dimension)
            return [value.real, value.imag]

        root, *_ = fsolve(parts, [guess.real, guess.imag], xtol=1e-13, full_output=True)
        found.append(complex(root[0], root[1]))
    return found[-1]


def vortex(
    x: Tensor, y: Tensor, gamma: float, strength: float = 5.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return density, u, v, pressure of Shu's isentropic vortex at the origin, at rest.

    It moves with any uniform velocity without changing (Shu 1998, sec. 5.2).
    """
    r2 = x * x + y * y
    swirl = strength / (2 * math.pi) * torch.exp(0.5 * (1 - r2))
    t = 1 - (gamma - 1) / (2 * gamma) * swirl**2
    rho = t ** (1 / (gamma - 1))
    return rho, -y * swirl, x * swirl, rho * t


def shock_structure(
    mach: float,
    viscosity: Law,
    prandtl: Law,
    dimension: int = 3,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, density, speed, temperature of the Navier-Stokes-Fourier shock.

    Ahead (x -> -inf): density 1, temperature 1; viscosity and Prandtl number are functions
    of the temperature. The two-point problem of the steady equations, integrated from the
    state behind, which is a saddle: one direction leads out of it. x = 0 where the density
    is half-way.
    """
    d = dimension
    gamma, heat = (d + 2) / d, 0.5 * (d + 2)
    speed, ratio, u2, t2 = shock_jump(mach, gamma)
    flow, push = speed, speed * speed + 1
    total = speed * (heat + 0.5 * speed**2)
    bulk = 2 - 2 / d

    def slope(_x: float, y: np.ndarray) -> np.ndarray:
        u, t = y
        mu, number = (law(np.maximum(t, 1e-6)) for law in (viscosity, prandtl))
        stress = flow * u + flow * t / u - push
        du = stress / (bulk * mu)
        dt = (flow * (heat * t + 0.5 * u * u) - u * stress - total) / (heat * mu / number)
        return np.array([du, dt])

    behind, eps = np.array([u2, t2]), 1e-6
    columns = [
        (slope(0, behind + eps * e) - slope(0, behind - eps * e)) / (2 * eps)
        for e in np.eye(2)
    ]
    values, vectors = np.linalg.eig(np.array(columns).T)
    out = vectors[:, int(np.argmin(values.real))].real
    begin = behind + 1e-6 * out * np.sign(out[0])
    # a weak shock is as wide as its departure from the state behind grows slowly
    far = max(400.0, -60 / float(values.real.min()))
    path = solve_ivp(
        lambda x, y: -slope(x, y), (0, far), begin, "LSODA", rtol=1e-12, atol=1e-14,
        max_step=far / 4000, dense_output=True,
    )  # fmt: skip
    middle = 2 * flow / (1 + ratio)  # the speed there
    i = int(np.nonzero(path.y[0] > middle)[0][0])
    sol = path.sol
    assert sol is not None
    centre = brentq(lambda x: sol(x)[0] - middle, *path.t[i - 1 : i + 1], xtol=1e-13)
    steepest = flow / middle**2 * abs(slope(0, sol(centre))[0])
    # points that do not turn on the steps that the integrator chose
    x = (ratio - 1) / steepest * np.linspace(-20, 20, 2001)
    u, t = (torch.tensor(a) for a in sol(np.clip(centre - x, 0, far)))
    return torch.tensor(x), flow / u, u, t


def acoustic_eigenfunction(
    k: float, growth: complex, v: Tensor, dimension: int
) -> tuple[Tensor, Tensor]:
    """Return the distribution of the acoustic mode, per unit of its density.

    With ``f = M + eps Re(g1 exp(i k x))``, ``M`` the Maxwellian along v, and
    ``h = (D - 1) M + eps Re(h1 exp(i k x))`` where directions are reduced (tau = 1).

    Args:
        k: wave number, unit ``1 / (tau sqrt(T))``.
        growth: ``lambda tau`` of :func:`acoustic_mode`.
        v: ``[nodes]``, uniform.
        dimension: D.

    Returns:
        g1, h1, ``[nodes]`` complex.
    """
    x = v.numpy()
    spacing, rest = x[1] - x[0], dimension - 1
    bell = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    answer = bell / (growth + 1 + 1j * k * x)
    lift_g = np.stack([np.ones_like(x), x, (x * x - 1) / 2])
    lift_h = rest * (lift_g + np.array([0, 0, 1])[:, None])
    rows = np.zeros((3, 3), complex)
    for j in range(3):
        g, h = answer * lift_g[j], answer * lift_h[j]
        second = (x * x * g).sum() + h.sum() - dimension * g.sum()
        rows[:, j] = spacing * np.array([g.sum(), (x * g).sum(), second / dimension])
    values, vectors = np.linalg.eig(rows)
    c = vectors[:, np.argmin(abs(values - 1))]
    c = c / c[0]
    return torch.tensor(answer * (c @ lift_g)), torch.tensor(answer * (c @ lift_h))


def sedov(gamma: float, dimension: int) -> tuple[float, float]:
    """Return alpha and m of a point explosion (Sedov, Taylor).

    Its energy is ``E = alpha rho0 R^(d+2) / t^2``, and what it has moved of the gas is
    ``integral (rho / rho0 - 1) r dV = m R^(d+1)``.

    With ``u = 2 r V / ((d + 2) t)``, ``c^2 = (2 r / ((d + 2) t))^2 Z`` and ``rho = rho0 G``
    of ``r / R``, energy gives ``Z = gamma (gamma - 1)(1 - V) V^2 / (2 (gamma V - 1))``
    (Landau, Lifshitz, Fluid Mechanics, sect. 106); mass and entropy are integrated from the
    shock, ``V = 2 / (gamma + 1)``, to the centre, ``V = 1 / gamma``.

    Args:
        gamma: ratio of specific heats.
        dimension: d, 1 for a plane, 2 for a line, 3 for a point; 1 counts both sides.
    """
    d, g, V_shock = dimension, gamma, 2.0 / (gamma + 1.0)
    y = torch.linspace(math.log(V_shock - 1.0 / g), -400.0, 400_001, dtype=torch.float64)
    excess = y.exp()  # V - 1 / gamma
    V = 1.0 / g + excess
    bend = 2.0 / V - 1.0 / (1.0 - V) - 1.0 / excess  # d ln Z / dV
    rise = (g - 1) * d * V - (d + 2) + 2.0 * V
    along = (bend - (g - 1) / (1.0 - V)) * (1.0 - V) / rise * excess  # d ln(r / R) / dy
    ln_r = _running(along, y)
    # mass: d ln G / dL = (dV / dL + d V) / (1 - V)
    ln_g = _running((excess + d * V * along) / (1.0 - V), y)
    density = (g + 1.0) / (g - 1.0) * ln_g.exp()
    z = g * (g - 1) * (1.0 - V) * V * V / (2.0 * g * excess)
    energy = density * (0.5 * V * V + z / (g * (g - 1))) * ((d + 2) * ln_r).exp()
    total = float(-torch.trapezoid(energy * along, y))
    moved = float(-torch.trapezoid(density * ((d + 1) * ln_r).exp() * along, y))
    surface = {1: 2.0, 2: 2.0 * math.pi, 3: 4.0 * math.pi}[d]
    alpha = surface * (2.0 / (d + 2)) ** 2 * abs(total)
    return alpha, surface * (abs(moved) - 1.0 / (d + 1))


def _running(rate: Tensor, at: Tensor) -> Tensor:
    """Return the integral of ``rate`` from the first place on, by trapezia."""
    return torch.cat([rate.new_zeros(1), torch.cumulative_trapezoid(rate, at)])
