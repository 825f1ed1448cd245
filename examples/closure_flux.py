"""Our closure as a flux in somebody else's solver: thirty lines of NumPy, raw moments.

dM_k/dt + dM_(k+1)/dx = (M_k of the Maxwellian - M_k) / tau for k = 0..N; the closure says
what M_(N+1) is at every face. Run: python examples/closure_flux.py [MODEL.safetensors]
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch

from scalebridge.engine.gas.moment.hermite import from_raw
from scalebridge.models.card import load_module
from scalebridge.models.closures.face import Row


def raw(w: np.ndarray, top: int) -> np.ndarray:
    """Raw moments 0..top of w = (rho, u, theta, f_3 ..); missing f_k are zero."""
    rho, u, theta, g = w[:, 0], w[:, 1], w[:, 2], [np.ones(len(w)), w[:, 1]]
    for m in range(2, top + 1):
        g.append(u * g[-1] + (m - 1) * theta * g[-2])
    f = {0: rho, **{k: w[:, k] for k in range(3, w.shape[1])}}
    return np.stack([sum(f[k] * math.perm(n, k) * g[n - k] for k in f if k <= n)
                     for n in range(top + 1)], -1)  # fmt: skip


def main(closure=None, order=5, cells=200, tau=0.1, end=0.1, amplitude=0.2) -> np.ndarray:  # noqa: ANN001
    """Return raw moments ``[cells, order + 1]`` of a density wave in a periodic box."""
    x, dx = (np.arange(cells) + 0.5) / cells, 1.0 / cells
    w = np.zeros((cells, order + 1))
    w[:, 0], w[:, 2] = 1 + amplitude * np.sin(2 * np.pi * x), 1.0
    moments, steps = raw(w, order), math.ceil(end * 4.5 / (0.45 * dx))
    for _ in range(steps):
        w = from_raw(torch.from_numpy(moments), order).numpy()
        flux, low, high = raw(w, order + 1)[:, 1:], np.roll(w, 1, 0), w
        face = 0.5 * (np.roll(flux, 1, 0) + flux - 4.5 * (moments - np.roll(moments, 1, 0)))
        if closure is not None:
            ends = [torch.from_numpy(np.concatenate([a, a[:1]]))[None] for a in (low, high)]
            times = torch.full((1, cells + 1), tau, dtype=torch.float64)
            answer = closure(Row(*ends, torch.from_numpy(w)[None], times, dx, True))
            face[:, -1] += math.factorial(order + 1) * answer.flux[0, :-1].detach().numpy()
        dt = end / steps
        moments = moments - dt / dx * (np.roll(face, -1, 0) - face)
        w = from_raw(torch.from_numpy(moments), order).numpy()
        moments = (moments + dt / tau * raw(w[:, :3], order)) / (1 + dt / tau)
    return moments


if __name__ == "__main__":
    model = load_module(Path(sys.argv[1]))[0].double() if len(sys.argv) > 1 else None
    print(main(model)[::20, :3])
