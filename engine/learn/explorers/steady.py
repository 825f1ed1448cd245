r"""Kinetic shocks as labels at next to no cost: at rest, and on their way there.

With a constant relaxation time the steady equation ``v df/dx = (G - f) / tau`` is solved
exactly along x once the Maxwellian G(x) is known: for each v an exponential average of G
upstream of it, taken exactly for G linear between the points. Its density, velocity and
temperature give a new G; the fixed point is found by Anderson's mixing (J. ACM 12, 1965,
p. 547; as in Walker and Ni, SIAM J. Numer. Anal. 49, 2011, p. 1715). Forty rounds take a
tenth of a second; a run in time to the same profile takes a hundred times as long.

On their way (:func:`transient`) molecules fly freely for a time step, by a cubic between
four cells that stays between the nearest two, and then relax exactly; no Courant number
bounds the step.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...gas.flows.fronts import Shock, State

KEPT = 8
"""Rounds that Anderson's mixing looks back on."""


@dataclass(frozen=True)
class Profile:
    """A stationary shock in units of tau and of the thermal speed ahead.

    Attributes:
        x: ``[points]``.
        raw: ``[points, orders]`` raw moments.
        residual: largest change of density, momentum or energy in the last round, over
            their values ahead (momentum and energy in powers of the speed there).
    """

    x: Tensor
    raw: Tensor
    residual: float


def stationary(
    mach: float,
    extent: float = 60.0,
    cells: int = 400,
    nodes: int = 160,
    order: int = 8,
    rounds: int = 45,
) -> Profile:
    """Return a shock at rest, gamma = 3.

    Args:
        mach: ahead.
        extent: half width of the box in mean free paths ahead.
        cells: points less one.
        nodes: velocities, at least; more where the speeds spread wide.
        order: highest raw moment.
        rounds: of the fixed point.
    """
    shock = Shock(mach, extent)
    a, b = shock.ends
    v, dv = _velocities(a, b, nodes, 0.4)
    x = np.linspace(-extent, extent, cells + 1)
    scale = np.array([1.0, a[1], a[1] ** 2])[:, None]
    now = _between(a, b, 0.5 * (1.0 + np.tanh(x / 4.0))) / scale
    ends = _maxwellian(_between(a, b, np.array([0.0, 1.0])), v, dv)
    powers = v ** np.arange(order + 1)[:, None]
    states: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    f, change = np.zeros((0, 0)), np.zeros((0, 0))
    for _ in range(rounds):
        f = _swept(_maxwellian(now * scale, v, dv), ends, v, x[1] - x[0])
        change = (f @ powers[:3].T).T / scale - now
        states, changes = [*states, now][-KEPT:], [*changes, change][-KEPT:]
        now = _mixed(states, changes, scale)
    raw = torch.from_numpy(f @ powers.T)
    return Profile(torch.from_numpy(x), raw, float(np.abs(change).max()))


def transient(
    mach: float,
    width: float,
    times: Sequence[float],
    extent: float = 36.0,
    cells: int = 180,
    nodes: int = 100,
    order: int = 8,
    step: float = 0.1,
) -> Tensor:
    """Return raw moments of a shock on its way, ``[times, cells, order + 1]``.

    Args:
        mach: ahead.
        width: of the tanh that density and temperature start from, in mean free paths.
        times: rising multiples of ``step``.
        extent: half width of the box.
        cells: in the box.
        nodes: velocities, at least.
        order: highest raw moment.
        step: of time.
    """
    a, b = Shock(mach, extent).ends
    v, dv = _velocities(a, b, nodes, 0.45)
    x = (np.arange(cells) + 0.5) * 2 * extent / cells - extent
    rise = 0.5 * (1.0 + np.tanh(0.5 * x / width))
    f = _maxwellian(_between(a, b, rise), v, dv)
    far = v * step * cells / (2 * extent)
    whole = np.floor(far).astype(int)
    at = 1.0 - (far - whole)  # from the second of the four cells
    weights = (
        -at * (at - 1) * (at - 2) / 6,
        (at + 1) * (at - 1) * (at - 2) / 2,
        -(at + 1) * at * (at - 2) / 2,
        (at + 1) * at * (at - 1) / 6,
    )
    beyond = 2 + int(np.abs(whole).max())
    column = np.arange(len(v))
    first = np.arange(cells)[:, None] + beyond - whole - 2
    powers, keep = v[:, None] ** np.arange(order + 1), np.exp(-step)
    found, wanted = [], [round(time / step) for time in times]
    for number in range(1, wanted[-1] + 1):
        wide = f[np.clip(np.arange(-beyond, len(f) + beyond + 1), 0, len(f) - 1)]
        near = [wide[first + j, column] for j in range(4)]
        flown = sum(w * part for w, part in zip(weights, near, strict=True))
        flown = np.clip(flown, np.minimum(near[1], near[2]), np.maximum(near[1], near[2]))
        rest = _maxwellian((flown @ powers[:, :3]).T, v, dv)
        f = rest + (flown - rest) * keep
        if number in wanted:
            found.append(torch.from_numpy(f @ powers))
    return torch.stack(found)


def _velocities(a: State, b: State, nodes: int, widest: float) -> tuple[np.ndarray, float]:
    """Velocities for the gas ahead and behind, and the distance between them.

    An even number, and none at rest.
    """
    reach = 5.5 * b[2] ** 0.5
    low, high = b[1] - reach, max(b[1] + reach, a[1] + 6.0)
    count = 2 * max(nodes // 2, int((high - low) / (2 * widest)))
    dv = (high - low) / count
    v = low + (np.arange(count) + 0.5) * dv
    return np.where(np.abs(v) < 1e-3, 1e-3, v), dv


def _between(a: State, b: State, rise: np.ndarray) -> np.ndarray:
    """(density, momentum, twice the energy) of a tanh with the flux of mass right."""
    rho = a[0] + (b[0] - a[0]) * rise
    u, theta = a[0] * a[1] / rho, a[2] + (b[2] - a[2]) * rise
    return np.stack([rho, rho * u, rho * (u * u + theta)])


def _maxwellian(fields: np.ndarray, v: np.ndarray, dv: float) -> np.ndarray:
    """Weights ``[points, nodes]`` of (density, momentum, twice the energy)."""
    rho, u = fields[0][:, None], (fields[1] / fields[0])[:, None]
    theta = fields[2][:, None] / rho - u * u
    gauss = np.exp(-((v - u) ** 2) / (2.0 * theta)) / np.sqrt(2.0 * np.pi * theta)
    return rho * gauss * dv


def _swept(source: np.ndarray, ends: np.ndarray, v: np.ndarray, dx: float) -> np.ndarray:
    """Solve ``v df/dx = source - f``; ``ends [2, nodes]`` is what flies in."""
    f = np.empty_like(source)
    for side, end, turn in ((v > 0, 0, slice(None)), (v < 0, 1, slice(None, None, -1))):
        depth = dx / np.abs(v[side])
        keep = np.exp(-depth)
        mean = (1.0 - keep) / depth
        along = source[turn, side]
        gain = (mean - keep) * along[:-1] + (1.0 - mean) * along[1:]
        part = [ends[end, side]]
        for more in gain:
            part.append(keep * part[-1] + more)
        f[:, side] = np.stack(part)[turn]
    return f


def _mixed(
    states: list[np.ndarray], changes: list[np.ndarray], scale: np.ndarray
) -> np.ndarray:
    """Anderson's next state; a plain step where that would be no gas."""
    plain = states[-1] + changes[-1]
    if len(states) < 4:
        return plain
    dx = np.stack([np.ravel(b - a) for a, b in itertools.pairwise(states)])
    df = np.stack([np.ravel(b - a) for a, b in itertools.pairwise(changes)])
    share = np.linalg.lstsq(df.T, changes[-1].ravel(), rcond=1e-8)[0]
    new = plain - (share @ (dx + df)).reshape(plain.shape)
    rho, momentum, energy = new * scale
    good = (rho > 0).all() and (energy / rho - (momentum / rho) ** 2 > 0.5).all()
    return new if good else plain
