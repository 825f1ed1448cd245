r"""The lid-driven cavity of a rarefied gas by the linearised S-model, solved independently.

With ``f = M (1 + h)`` for a lid of unit velocity (units of the scenarios, collision time
Kn), walls at rest and of the temperature of the gas, in a unit square

    v . grad h = (g - h) / Kn,
    g = rho + u . v + T (v^2 - 3) / 2 + (1 - Pr) q . v (v^2 - 5) / 5

(Shakhov 1968; BGK at Pr = 1). The velocity across the plane is integrated out: H and K
are the means of h and of ``v_z^2 h``. Velocities are polar: Gauss points of
``c exp(-c^2 / 2)`` and equal angles. Space: upwind differences of second order in finite
volumes, swept from the walls that the velocity comes from; the source is iterated to a
residual of 1e-7. None of the engine is in it: it has other velocities, other differences,
no time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SPEEDS, ANGLES = 12, 20
"""Gauss points of the speed, and angles in each quadrant."""


def speeds(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss points and weights of ``c exp(-c^2 / 2)`` on c > 0, of sum 1.

    Golub and Welsch; the recurrence by Stieltjes' procedure on a fine grid.
    """
    c = (np.arange(40000) + 0.5) * (12.0 / 40000)
    w = c * np.exp(-0.5 * c * c)
    w /= w.sum()
    a, b = np.zeros(count), np.zeros(count)
    before, now = np.zeros_like(c), np.ones_like(c)
    size = 1.0
    for n in range(count):
        norm = (w * now * now).sum()
        a[n] = (w * c * now * now).sum() / norm
        b[n] = norm / size
        size, before, now = norm, now, (c - a[n]) * now - (b[n] if n else 0.0) * before
    off = np.sqrt(b[1:])
    nodes, vectors = np.linalg.eigh(np.diag(a) + np.diag(off, 1) + np.diag(off, -1))
    return nodes, vectors[0] ** 2


@dataclass(frozen=True)
class Moments:
    """Fields ``[n, n]`` over (x, y) for a lid of unit velocity."""

    density: np.ndarray
    ux: np.ndarray
    uy: np.ndarray
    temperature: np.ndarray
    stress: np.ndarray
    lid: float

    @property
    def circulation(self) -> float:
        """Flow between the middle of the vortex and the lid."""
        return circulation(self.ux)


def circulation(ux: np.ndarray) -> float:
    """Return the flow along x above the middle of the vortex, through x = 1/2."""
    n = len(ux)
    column = 0.5 * (ux[n // 2 - 1] + ux[n // 2])
    return float(np.cumsum(column[::-1]).max()) / n


def solve(knudsen: float, prandtl: float, n: int, residual: float = 1e-7) -> Moments:
    """Return the steady flow on n x n cells (n even)."""
    c, weight = speeds(SPEEDS)
    angle = (np.arange(ANGLES) + 0.5) * (0.5 * np.pi / ANGLES)
    vx = np.outer(np.cos(angle), c).ravel()  # of the first quadrant
    vy = np.outer(np.sin(angle), c).ravel()
    w = np.tile(weight, ANGLES) / (4 * ANGLES)
    square = vx**2 + vy**2
    # what walls send back for what arrives: density of a unit flux
    inflow = 2.0 * (w * vx).sum()
    quadrants = [(1, 1), (-1, 1), (1, -1), (-1, -1)]
    fields = np.zeros((6, n, n))  # rho, ux, uy, T, qx, qy
    walls = np.zeros((4, n))  # densities sent by x low, x high, y low, y high
    change, lid = 1.0, 0.0
    while change > residual:
        new, stress = np.zeros_like(fields), np.zeros((n, n))
        flux, lid = np.zeros((4, n)), 0.0
        for sx, sy in quadrants:
            cx, cy = sx * vx, sy * vy
            h, ends = _sweep(fields, walls, knudsen, prandtl, cx, cy, square, n)
            first, second = h * w  # [n, n, velocities]
            energy = first * square + second
            new[0] += first.sum(-1)
            new[1] += first @ cx
            new[2] += first @ cy
            new[3] += energy.sum(-1) / 3.0
            new[4] += 0.5 * energy @ cx
            new[5] += 0.5 * energy @ cy
            stress += first @ (cx * cy)
            flux[0 if sx < 0 else 1] += ends[0] @ (w * vx)
            flux[2 if sy < 0 else 3] += ends[1] @ (w * vy)
            if sy > 0:
                lid += (ends[1] @ (w * cx * cy)).mean()
            else:
                lid += (w * (walls[3].mean() + cx) * cx * cy).sum()
        new[3] -= new[0]
        new[4] -= 2.5 * new[1]
        new[5] -= 2.5 * new[2]
        new[0] -= new[0].mean()
        change = float(np.abs(new - fields).max() + np.abs(flux / inflow - walls).max())
        fields, walls = new, flux / inflow
        walls = walls - walls.mean()
    return Moments(fields[0], fields[1], fields[2], fields[3], stress, float(lid))


def _sweep(
    fields: np.ndarray, walls: np.ndarray, knudsen: float, prandtl: float,
    cx: np.ndarray, cy: np.ndarray, square: np.ndarray, n: int,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Return H and K ``[2, n, n, velocities]`` of a quadrant, and H where it ends."""
    turned = fields[:, :: 1 if cx[0] > 0 else -1, :: 1 if cy[0] > 0 else -1]
    rho, ux, uy, t, qx, qy = turned[..., None]
    push = ux * cx + uy * cy
    heat = (1.0 - prandtl) / 5.0 * (qx * cx + qy * cy)
    g = np.stack([
        rho + push + t * (0.5 * square - 1.0) + heat * (square - 4.0),
        rho + push + t * 0.5 * square + heat * (square - 2.0),
    ])  # fmt: skip
    left = walls[0 if cx[0] > 0 else 1][:: 1 if cy[0] > 0 else -1]
    below = walls[2 if cy[0] > 0 else 3][:: 1 if cx[0] > 0 else -1]
    at_left = np.broadcast_to(left[None, :, None], (2, n, len(cx)))
    at_below = np.broadcast_to(below[None, :, None], (2, n, len(cx)))
    if cy[0] < 0:  # from the lid
        at_below = at_below + cx
    a, b = np.abs(cx) * n * knudsen, np.abs(cy) * n * knudsen
    # faces behind and before a cell: value = own factor * h + what is known
    h = np.zeros((2, n, n, len(cx)))
    in_x, in_y = np.zeros_like(h), np.zeros_like(h)  # at the face that it comes through
    for k in range(2 * n - 1):
        i = np.arange(max(0, k - n + 1), min(k, n - 1) + 1)
        j = k - i
        edge_x, edge_y = i == 0, j == 0
        old_x = np.where(edge_x[None, :, None], at_left[:, j], h[:, i - 1, j])
        old_y = np.where(edge_y[None, :, None], at_below[:, i], h[:, i, j - 1])
        fx = np.where(edge_x[None, :, None], at_left[:, j], in_x[:, i, j])
        fy = np.where(edge_y[None, :, None], at_below[:, i], in_y[:, i, j])
        mx = np.where(edge_x, 2.0, 1.5)[None, :, None]
        my = np.where(edge_y, 2.0, 1.5)[None, :, None]
        known = g[:, i, j] + a * ((mx - 1) * old_x + fx) + b * ((my - 1) * old_y + fy)
        now = known / (1.0 + a * mx + b * my)
        h[:, i, j] = now
        out_x, out_y = mx * now - (mx - 1) * old_x, my * now - (my - 1) * old_y
        ahead = i + 1 < n
        in_x[:, i[ahead] + 1, j[ahead]] = out_x[:, ahead]
        ahead = j + 1 < n
        in_y[:, i[ahead], j[ahead] + 1] = out_y[:, ahead]
    end_x = 1.5 * h[0, -1] - 0.5 * h[0, -2]
    end_y = 1.5 * h[0, :, -1] - 0.5 * h[0, :, -2]
    if cx[0] < 0:
        h, end_y = h[:, ::-1], end_y[::-1]
    if cy[0] < 0:
        h, end_x = h[:, :, ::-1], end_x[::-1]
    return h, (end_x, end_y)


def figure(run: Callable[..., Any], record: Any) -> None:
    """Circulation and mean drag of the lid against the independent solution."""
    if not record.wants("cavity_error"):
        return
    lid = "probes=[{kind='flux', name='lid', axis='y', at=1.0}]"
    ran = run("lid_cavity", "compare=[]", lid)
    speed = ran.scenario["boundaries"]["y"]["high"]["velocity"][0]
    number, prandtl = ran.knudsen[0], ran.scenario["gas"]["prandtl"]
    rough, fine = (solve(number, prandtl, n) for n in (32, 64))
    u = np.asarray(ran.store["fields/velocity"][-1])[0]
    passed = np.asarray(ran.store["probes/lid/momentum_flux"])[-1]
    found = {
        "circulation": circulation(u[..., 0]) / speed,
        "drag": float(passed.reshape(-1)[0]) / speed,
    }
    truth = {"circulation": fine.circulation, "drag": fine.lid}
    doubt = max(
        abs(rough.circulation / fine.circulation - 1), abs(rough.lid / fine.lid - 1)
    )
    off = {name: found[name] / truth[name] - 1.0 for name in found}
    words = ", ".join(f"{name} {100 * e:+.2f} %" for name, e in off.items())
    note = f"against the linear S-model by another code (moved by {doubt:.1e} from half as "
    note += f"many cells): {words}; {ran.seconds:.3g} CPU s"
    record("cavity_error", max(map(abs, off.values())), "relative", goal=0.02, note=note)
