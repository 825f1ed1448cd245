"""Hermite moments of a gas with one velocity dimension, the moments on the last axis.

This is how flows are kept as data: w = (rho, u, theta, f_3 .. f_M), or what the solver
advances, (rho, rho u, rho (u^2 + theta), f_3 ..), or raw moments. The solver itself has
moments on its second axis (:class:`..scheme.finite_volume.MomentState`).
"""

import math

import numpy as np
import torch
from torch import Tensor


def primitive(moments: Tensor) -> Tensor:
    """Return w = (rho, u, theta, f_3 ..) of the state's moments, ``[..., M + 1]``."""
    rho = moments[..., :1]
    u = moments[..., 1:2] / rho
    return torch.cat([rho, u, moments[..., 2:3] / rho - u * u, moments[..., 3:]], -1)


def conserved(w: Tensor) -> Tensor:
    """Return (rho, rho u, rho (u^2 + theta), f_3 ..) of w, ``[..., M + 1]``."""
    rho, u = w[..., :1], w[..., 1:2]
    return torch.cat([rho, rho * u, rho * (u * u + w[..., 2:3]), w[..., 3:]], -1)


def from_raw(raw: Tensor, order: int) -> Tensor:
    """Return w from raw moments ``integral v^k f dv``, ``[..., >= order + 1]``."""
    rho = raw[..., 0]
    u = raw[..., 1] / rho
    central = [
        sum(math.comb(k, j) * raw[..., j] * (-u) ** (k - j) for j in range(k + 1))
        for k in range(order + 1)
    ]
    theta = central[2] / rho  # type: ignore[operator]
    out = [rho, u, theta]
    for k in range(3, order + 1):
        coefficients = np.polynomial.hermite_e.herme2poly([0] * k + [1])
        terms = [
            float(coefficients[j]) * central[j] * theta ** ((k - j) / 2)
            for j in range(k + 1)
        ]
        out.append(torch.stack(terms).sum(0) / math.factorial(k))
    return torch.stack(out, -1)


def to_raw(w: Tensor, order: int) -> Tensor:
    """Return the raw moments 0 .. order of w, ``[..., order + 1]``.

    ``M_n = sum_k f_k n! / (n - k)! G_{n-k}`` with ``G_m = u G_{m-1} + (m - 1) theta
    G_{m-2}``, the raw moments of a Gaussian of unit mass. Orders above that of w take the
    missing f_k as zero, which is Grad's closure.
    """
    u, theta = w[..., 1], w[..., 2]
    gauss = [torch.ones_like(u), u]
    for m in range(2, order + 1):
        gauss.append(u * gauss[-1] + (m - 1) * theta * gauss[-2])
    kept = [0, *range(3, w.shape[-1])]
    raw = [
        sum(w[..., k] * math.perm(n, k) * gauss[n - k] for k in kept if k <= n)
        for n in range(order + 1)
    ]
    return torch.stack(raw, -1)  # type: ignore[arg-type]
