"""A second code for shock tubes: MUSCL-Hancock with HLLC, in NumPy, nothing of the engine.

E. F. Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics, 3rd ed. 2009: scheme
of section 14.4 with van Leer's slopes of the primitive variables, HLLC of section 10.4
with the wave speeds of section 10.5.2.
"""

import numpy as np

Array = np.ndarray


def solve(
    left: Array, right: Array, place: float, end: float, cells: int = 200,
    gamma: float = 1.4, cfl: float = 0.4,
) -> Array:  # fmt: skip
    """Return (density, velocity, pressure) ``[cells, 3]`` on [0, 1] between open ends."""
    h, time = 1.0 / cells, 0.0
    x = h * (np.arange(cells) + 0.5)
    w = np.where((x < place)[:, None], left, right).astype(float)
    while time < end - 1e-14:
        sound = np.sqrt(gamma * w[:, 2] / w[:, 0])
        dt = min(cfl * h / float(np.max(np.abs(w[:, 1]) + sound)), end - time)
        padded = np.concatenate([w[:1], w[:1], w, w[-1:], w[-1:]])
        change = np.diff(padded, axis=0)
        a, b = change[:-1], change[1:]
        slope = np.where(a * b > 0, 2 * a * b / (a + b + 1e-300), 0.0)
        low, high = padded[1:-1] - 0.5 * slope, padded[1:-1] + 0.5 * slope
        half = 0.5 * dt / h * (_flux(low, gamma) - _flux(high, gamma))
        low = _primitive(_conserved(low, gamma) + half, gamma)
        high = _primitive(_conserved(high, gamma) + half, gamma)
        flat = (np.minimum(low[:, 2], high[:, 2]) <= 0)[:, None]
        low, high = (np.where(flat, padded[1:-1], side) for side in (low, high))
        passed = _hllc(high[:-1], low[1:], gamma)
        w = _primitive(_conserved(w, gamma) - dt / h * np.diff(passed, axis=0), gamma)
        time += dt
    return w


def _conserved(w: Array, gamma: float) -> Array:
    energy = w[:, 2] / (gamma - 1) + 0.5 * w[:, 0] * w[:, 1] ** 2
    return np.stack([w[:, 0], w[:, 0] * w[:, 1], energy], 1)


def _primitive(u: Array, gamma: float) -> Array:
    speed = u[:, 1] / u[:, 0]
    pressure = (gamma - 1) * (u[:, 2] - 0.5 * u[:, 0] * speed**2)
    return np.stack([u[:, 0], speed, pressure], 1)


def _flux(w: Array, gamma: float) -> Array:
    mass, energy = w[:, 0] * w[:, 1], _conserved(w, gamma)[:, 2]
    return np.stack([mass, mass * w[:, 1] + w[:, 2], w[:, 1] * (energy + w[:, 2])], 1)


def _hllc(a: Array, b: Array, gamma: float) -> Array:
    sound = [np.sqrt(gamma * w[:, 2] / w[:, 0]) for w in (a, b)]
    middle = 0.5 * (a[:, 2] + b[:, 2]) - 0.125 * (b[:, 1] - a[:, 1]) * (
        a[:, 0] + b[:, 0]
    ) * sum(sound)
    steep = [
        np.sqrt(1 + (gamma + 1) / (2 * gamma) * np.maximum(middle / w[:, 2] - 1, 0))
        for w in (a, b)
    ]
    left, right = a[:, 1] - sound[0] * steep[0], b[:, 1] + sound[1] * steep[1]
    ka, kb = a[:, 0] * (left - a[:, 1]), b[:, 0] * (right - b[:, 1])
    contact = (b[:, 2] - a[:, 2] + ka * a[:, 1] - kb * b[:, 1]) / (ka - kb)

    def beyond(w: Array, speed: Array, k: Array) -> Array:
        u = _conserved(w, gamma)
        rho = k / (speed - contact)
        work = (contact - w[:, 1]) * (contact + w[:, 2] / k)
        star = np.stack([rho, rho * contact, rho * (u[:, 2] / w[:, 0] + work)], 1)
        return _flux(w, gamma) + speed[:, None] * (star - u)

    found = np.where((contact >= 0)[:, None], beyond(a, left, ka), beyond(b, right, kb))
    found = np.where((left >= 0)[:, None], _flux(a, gamma), found)
    return np.where((right <= 0)[:, None], _flux(b, gamma), found)
