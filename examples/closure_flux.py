"""Our closure as a flux in somebody else's finite volumes: NumPy, raw moments M_0 .. M_5.

dM_k/dt + dM_(k+1)/dx = (M_k of the Maxwellian - M_k) / tau; the closure adds to Grad's M_6.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from scalebridge.engine.gas.equations.line import from_raw, to_raw
from scalebridge.models.card import load_module
from scalebridge.models.closures import FaceStencil

MODEL = Path(__file__).parents[1] / "scenarios/models/closure_wide_0.safetensors"


def main(closure=None, cells=200, tau=0.1, end=0.1) -> np.ndarray:  # noqa: ANN001
    """Return raw moments ``[cells, 6]`` of a density wave in a periodic box of length 1."""
    w, dt = torch.tensor([[1.0, 0, 1, 0, 0, 0]] * cells).double(), 0.1 / cells
    w[:, 0] += 0.2 * torch.sin(2 * torch.pi * (torch.arange(cells).double() + 0.5) / cells)
    moments, times = to_raw(w, 5).numpy(), torch.full((1, cells + 1), tau).double()
    for _ in range(round(end / dt)):
        w = from_raw(torch.from_numpy(moments), 5)
        flux, jump = to_raw(w, 6).numpy()[:, 1:], moments - np.roll(moments, 1, 0)
        face = 0.5 * (np.roll(flux, 1, 0) + flux - 4.5 * jump)
        if closure is not None:
            ends = torch.cat([w[-1:], w])[None], torch.cat([w, w[:1]])[None]
            added = closure(FaceStencil(*ends, w[None], times, 1 / cells, True)).flux
            face[:, -1] += 720 * added[0, :-1].detach().numpy()  # M_6 = .. + 6! f_6
        moments = moments - dt * cells * (np.roll(face, -1, 0) - face)
        rest = to_raw(from_raw(torch.from_numpy(moments), 2), 5).numpy()
        moments = (tau * moments + dt * rest) / (tau + dt)
    return moments


if __name__ == "__main__":
    print(main(load_module(Path([MODEL, *sys.argv[1:]][-1]))[0].double())[::20, :3])
