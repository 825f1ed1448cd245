r"""Channel flows of the linear BGK model from Cercignani's integral equations.

Between plates at ``x = -1/2`` and ``1/2`` (units of the scenarios: the collision time is
Kn, ``delta = 1 / (sqrt(2) Kn)``), with diffuse walls, the flow along the plates is

    u(z) = 1/sqrt(pi) integral T_-1(|z - z'|) u(z') dz' + source(z),   z = delta x,
    T_n(s) = integral_0^inf t^n exp(-t^2 - s / t) dt,   T_n' = -T_n-1

(Cercignani & Daneri, J. Appl. Phys. 34, 3509, 1963). The unknown is a cubic spline through
its values on nodes that crowd at the walls, where its slope is infinite like a logarithm.
Integrals of a spline are exact, by parts; with u1, u2, u3 its derivatives and ends
``[F] = F(b - z) + F(z - a)``,

    integral T_n u dz' = 2 T_n+1(0) u - [T_n+1 u] - T_n+2(b - z) u1(b) + T_n+2(z - a) u1(a)
        + 2 T_n+3(0) u2 - [T_n+3 u2] + sum_i u3_i (T_n+4(|z - z_i|) - T_n+4(|z - z_i+1|)).

No velocity grid, no time step and nothing else of the engine is in it. With twice the
pieces the answer moves by less than 1e-4 for Kn from 0.01 to 10 (creep at 0.01 by 2e-4;
shear and heat to Kn 30); its limits are the slip coefficients 1.01619 (viscous), 0.7662
(thermal) and 1.3027 (jump) of the half-space problems.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

ROOT_PI = np.sqrt(np.pi)


def transport(n: int, s: np.ndarray) -> np.ndarray:
    """Return ``T_n(s)`` for n >= 0 by the trapezoidal rule in log t, to about 1e-14."""
    step = 0.1
    log_t = np.arange(-36.0, 2.05, step)
    t = np.exp(log_t)
    weight = step * np.exp((n + 1) * log_t - t**2)
    flat, out = s.ravel(), np.empty(s.size)
    for i in range(0, len(flat), 4096):
        out[i : i + 4096] = np.exp(-flat[i : i + 4096, None] / t) @ weight
    return out.reshape(s.shape)


@dataclass(frozen=True)
class Channel:
    """The integral operators of one Knudsen number.

    Attributes:
        knudsen: mu0 / (rho0 sqrt(R T0) L), the collision time.
        pieces: of the unknown.
    """

    knudsen: float
    pieces: int = 120
    _gaps: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def z(self) -> np.ndarray:
        """Nodes."""
        half = 0.5 / (np.sqrt(2.0) * self.knudsen)
        return -half * np.cos(np.pi * np.arange(self.pieces + 1) / self.pieces)

    def gap(self, n: int) -> np.ndarray:
        """Return ``T_n`` of the distance of every two nodes."""
        if n not in self._gaps:
            self._gaps[n] = transport(n, np.abs(self.z[:, None] - self.z))
        return self._gaps[n]

    @cached_property
    def spline(self) -> CubicSpline:
        """The splines that are one at a node and zero at the others."""
        return CubicSpline(self.z, np.eye(len(self.z)))

    def operator(self, n: int) -> np.ndarray:
        """Return the matrix of ``u -> 1/sqrt(pi) integral T_n(|z - z'|) u(z') dz'``."""
        t = {k: self.gap(n + k) for k in (1, 2, 3, 4)}
        u, slope, curve = (self.spline(self.z, k) for k in (0, 1, 2))
        out = np.zeros_like(u)
        for even, values in ((t[1], u), (t[3], curve)):
            out += 2.0 * even[0, 0] * values
            out -= np.outer(even[:, -1], values[-1]) + np.outer(even[:, 0], values[0])
        out += np.outer(t[2][:, 0], slope[0]) - np.outer(t[2][:, -1], slope[-1])
        third = 6.0 * self.spline.c[0]
        return (out + (t[4][:, :-1] - t[4][:, 1:]) @ third) / ROOT_PI

    @property
    def identity(self) -> np.ndarray:
        return np.eye(len(self.z))

    def mean(self, u: np.ndarray) -> float:
        """Return the mean over the channel."""
        a, b = self.z[0], self.z[-1]
        return float(CubicSpline(self.z, u).integrate(a, b)) / (b - a)

    def poiseuille(self) -> float:
        """Return the mean velocity under a unit force along the plates."""
        rest = self.identity - self.operator(-1)
        u = np.linalg.solve(rest, np.full(len(self.z), self.knudsen)) - self.knudsen
        return self.mean(u)

    def creep(self) -> float:
        """Return the mean velocity where the temperature rises by one per length."""
        ones = np.ones(len(self.z))
        source = (self.operator(1) - 0.5 * self.operator(-1)) @ ones
        u = np.linalg.solve(self.identity - self.operator(-1), -self.knudsen * source)
        return self.mean(u)

    def couette(self) -> float:
        """Return the shear stress for plates with a unit difference of velocity."""
        ends = (self.gap(0)[:, -1] - self.gap(0)[:, 0]) / (2.0 * ROOT_PI)
        u = np.linalg.solve(self.identity - self.operator(-1), ends)
        coming = 0.5 * (transport(1, np.zeros(1))[0] + self.gap(1)[0, -1])
        return float(np.sqrt(2.0) * (coming / ROOT_PI + self.operator(0)[0] @ u))

    def fourier(self) -> float:
        """Return the heat flux for plates with a unit difference of temperature.

        Density n and temperature t are unknown, and the density that each wall sends
        back: +- w for temperatures +- 1/2, by no flow through the wall.
        """
        k = {n: self.operator(n) for n in (-1, 0, 1, 2, 3)}
        ends = {
            n: (self.gap(n)[:, -1] - self.gap(n)[:, 0]) / ROOT_PI for n in (0, 1, 2, 3, 4)
        }
        mixed = k[1] - 0.5 * k[-1]
        hot = k[3] - k[1] + 1.25 * k[-1]
        size = len(self.z)
        a, b = np.zeros((2 * size + 1,) * 2), np.zeros(2 * size + 1)
        a[:size, :size] = self.identity - k[-1]
        a[:size, size:-1] = -mixed
        a[size:-1, :size] = -mixed
        a[size:-1, size:-1] = 1.5 * self.identity - hot
        a[:size, -1] = -ends[0]
        a[size:-1, -1] = -(ends[2] - 0.5 * ends[0])
        b[:size] = 0.5 * (ends[2] - 0.5 * ends[0])
        b[size:-1] = 0.5 * (ends[4] - ends[2] + 1.25 * ends[0])
        near = {n: float(transport(n, np.zeros(1))[0]) / ROOT_PI for n in (1, 3, 5)}
        far = {n: float(self.gap(n)[0, -1]) / ROOT_PI for n in (1, 3, 5)}
        both = {n: near[n] + far[n] for n in near}
        a[-1, :size] = k[0][0]
        a[-1, size:-1] = k[2][0] - 0.5 * k[0][0]
        a[-1, -1] = both[1]
        b[-1] = -0.5 * (both[3] - 0.5 * both[1])
        found = np.linalg.solve(a, b)
        n, t, w = found[:size], found[size:-1], found[-1]
        k4 = self.operator(4)[0]
        flux = w * (both[3] - 0.5 * both[1]) + 0.5 * (both[5] - both[3] + 1.25 * both[1])
        flux += (k[2][0] - 0.5 * k[0][0]) @ n + (k4 - k[2][0] + 1.25 * k[0][0]) @ t
        return float(np.sqrt(2.0) * flux)


def exact(flow: str, knudsen: float) -> tuple[float, float]:
    """Return a flow's figure, and how far it is from that of half as many pieces.

    In a thin channel the pieces are few: round-off grows as their length to the -3.
    """
    pieces = 48 if knudsen > 0.7 else 80
    rough, fine = (getattr(Channel(knudsen, n), flow)() for n in (pieces, 2 * pieces))
    return fine, abs(fine / rough - 1.0)


# -- figures -----------------------------------------------------------------------------

FORCE = 0.003
"""Of the scenarios of Poiseuille flow: small, so that the flow is linear."""
MIDDLE = (
    "knudsen=[0.03]",
    "initial.velocity=[0.0, '0.05 * (0.25 - x**2 + 0.0431)']",
)
"""Between the scenarios: the parabola with slip of another Knudsen number."""


def _worst(found: dict[float, float], flow: str) -> tuple[float, str, float]:
    """Return the largest relative error, all errors in words, and that of the truth."""
    truth = {kn: exact(flow, kn) for kn in found}
    off = {kn: found[kn] / truth[kn][0] - 1.0 for kn in found}
    words = ", ".join(f"Kn {kn:g}: {100 * e:+.2f} %" for kn, e in sorted(off.items()))
    return max(map(abs, off.values())), words, max(t[1] for t in truth.values())


def _failed(ran: Any) -> str:
    bad = sorted({c.name for c in ran.outcome.checks if not c.passed})
    return f"; failed checks: {', '.join(bad)}" if bad else ""


def poiseuille(run: Callable[..., Any], record: Any) -> None:
    """Mean velocity per force at every Knudsen number, and where it is least."""
    if not record.wants("poiseuille_error", "poiseuille_minimum"):
        return
    found, seconds, failed = {}, 0.0, ""
    runs = ("poiseuille_slip",), ("poiseuille_slip", *MIDDLE)
    for arguments in (*runs, ("poiseuille",), ("poiseuille_free",)):
        ran = run(*arguments)
        seconds, failed = seconds + ran.seconds, failed + _failed(ran)
        rho, u = (np.asarray(ran.store[f"fields/{n}"][-1]) for n in ("density", "velocity"))
        found |= dict(zip(ran.knudsen, (rho * u[..., 1]).mean(-1) / FORCE, strict=True))
    worst, words, doubt = _worst(found, "poiseuille")
    note = f"mass flow; truth to {doubt:.1e}; {words}{failed}; {seconds:.3g} CPU s"
    record("poiseuille_error", worst, "relative", goal=0.01, note=note)
    least = min(found, key=lambda kn: found[kn])
    lowest = min(exact("poiseuille", kn)[0] for kn in np.geomspace(0.5, 0.8, 9))
    note = f"least mean velocity per force {found[least]:.4f} at Kn {least:g}; "
    note += f"least of the integral equation {lowest:.4f} near 0.66"
    off = abs(found[least] / lowest - 1.0)
    record("poiseuille_minimum", off, "relative", goal=0.01, note=note)


def creep(run: Callable[..., Any], record: Any) -> None:
    """Flow along walls whose temperature rises, in the middle of a channel.

    Where the ends do not reach, the flow is ``G_T T' - G_P p'`` with both coefficients of
    the integral equations; the small slope of the pressure that the ends leave is
    measured, and what it drives is taken off.
    """
    if not record.wants("creep_error"):
        return
    ran = run("thermal_creep")
    rho, u, t = (
        np.asarray(ran.store[f"fields/{n}"][-1])
        for n in ("density", "velocity", "temperature")
    )
    grid = ran.scenario["grid"]
    n, length = grid["cells"][1], grid["upper"][1] - grid["lower"][1]
    y = (np.arange(n) + 0.5) * length / n
    middle = slice(n // 3, n - n // 3)
    flow = (rho * u[..., 1]).mean(1)
    found, driven = {}, []
    for k, kn in enumerate(ran.knudsen):
        p, heat = ((q[k].mean(0)[middle]) for q in (rho * t, t))
        push, rise = (np.polyfit(y[middle], q, 1)[0] for q in (p, heat))
        by_pressure = -exact("poiseuille", kn)[0] * push
        found[kn] = (flow[k][middle].mean() - by_pressure) / rise
        driven.append(by_pressure / (found[kn] * rise))
    worst, words, doubt = _worst(found, "creep")
    note = f"mass flow; truth to {doubt:.1e}; {words}; taken off for the slope of the "
    note += f"pressure: {', '.join(f'{100 * d:.1f}' for d in driven)} %"
    note += f"{_failed(ran)}; {ran.seconds:.3g} CPU s"
    record("creep_error", worst, "relative", goal=0.02, note=note)


def between(run: Callable[..., Any], record: Any, flow: str, over: float) -> None:
    """Shear or heat between the plates for their difference ``over``."""
    if not record.wants(f"{flow}_error"):
        return
    ran = run(flow)
    name = {"couette": "shear", "fourier": "heat"}[flow]
    values = np.asarray(ran.store[f"profile/{name}"]) / over
    worst, words, doubt = _worst(dict(zip(ran.knudsen, values, strict=True)), flow)
    note = f"{name}; truth to {doubt:.1e}; {words}{_failed(ran)}; {ran.seconds:.3g} CPU s"
    record(f"{flow}_error", worst, "relative", goal=0.005, note=note)
