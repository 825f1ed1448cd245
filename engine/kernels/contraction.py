"""Rotation-invariant products of moments, and their adjoint, row by row.

``moments [members, channels, rows, components]`` -> ``features [members, rows, features]``
in the order of ``models.potentials``: with ``gram`` the products over all components
together, otherwise T^0, then T^l . T^l for l = 1..lmax, then the three-moment products
v.Qv, tr Q^3, |Qv|^2 of the last channels, v and Q being T^1 and T^2 as vector and matrix.
"""

import torch
from torch import Tensor

from ..runtime import start
from .types import Array3, Array4, Template, kernel_type, ti

Contraction = tuple[int, int, int, bool]
"""Short axis, lmax, channels of the three-moment products, and whether gram."""

ROOT_THIRD = (1 / 3) ** 0.5


@ti.func
def quadrupole(q0, q1, q2, q3, q4):
    """Symmetric traceless matrix of the five components of l = 2."""
    k = q0 * 0 + ROOT_THIRD
    return ti.Matrix(
        [
            [k * q4 - q2 / 3, k * q0, k * q3],
            [k * q0, -k * q4 - q2 / 3, k * q1],
            [k * q3, k * q1, 2 * q2 / 3],
        ]
    )


@ti.kernel
def k_contract(
    moments: Array4,
    features: Array3,
    real: Template,
    axis: Template,
    lmax: Template,
    products: Template,
    gram: Template,
):
    """Products of moments."""
    for m, r in ti.ndrange(moments.shape[0], moments.shape[2]):
        channels = moments.shape[1]
        short = ti.Matrix.zero(real, (lmax + 1) ** 2, axis)
        for a in ti.static(range(axis)):
            for k in ti.static(range((lmax + 1) ** 2)):
                short[k, a] = moments[m, a, r, k]
        for c in range(channels):
            if ti.static(gram):
                for a in ti.static(range(axis)):
                    total = short[0, a] * moments[m, c, r, 0]
                    for k in ti.static(range(1, (lmax + 1) ** 2)):
                        total += short[k, a] * moments[m, c, r, k]
                    features[m, r, c * axis + a] = total
            else:
                features[m, r, c] = moments[m, c, r, 0]
                for degree in ti.static(range(1, lmax + 1)):
                    first = channels * (1 + (degree - 1) * axis) + c * axis
                    for a in ti.static(range(axis)):
                        total = short[degree**2, a] * moments[m, c, r, degree**2]
                        for k in ti.static(range(degree**2 + 1, (degree + 1) ** 2)):
                            total += short[k, a] * moments[m, c, r, k]
                        features[m, r, first + a] = total
        if ti.static(products > 0):
            first = channels * (1 + lmax * axis)
            for p in range(products):
                c = channels - products + p
                v = ti.Vector([moments[m, c, r, 1 + k] for k in range(3)])
                q = quadrupole(
                    moments[m, c, r, 4], moments[m, c, r, 5], moments[m, c, r, 6],
                    moments[m, c, r, 7], moments[m, c, r, 8],
                )  # fmt: skip
                qv = q @ v
                features[m, r, first + p] = v.dot(qv)
                features[m, r, first + products + p] = (q @ q @ q).trace()
                features[m, r, first + 2 * products + p] = qv.dot(qv)


@ti.kernel
def k_contract_back(
    moments: Array4,
    slopes: Array3,
    back: Array4,
    real: Template,
    axis: Template,
    lmax: Template,
    products: Template,
    gram: Template,
):
    """``back`` = dE/d(moments) from ``slopes`` = dE/d(features)."""
    for m, r in ti.ndrange(moments.shape[0], moments.shape[2]):
        channels = moments.shape[1]
        short = ti.Matrix.zero(real, axis, (lmax + 1) ** 2)
        shared = ti.Matrix.zero(real, axis, (lmax + 1) ** 2)
        for a in ti.static(range(axis)):
            for k in ti.static(range((lmax + 1) ** 2)):
                short[a, k] = moments[m, a, r, k]
        for c in range(channels):
            total = ti.Vector.zero(real, (lmax + 1) ** 2)
            if ti.static(gram):
                for a in ti.static(range(axis)):
                    g = slopes[m, r, c * axis + a]
                    for k in ti.static(range((lmax + 1) ** 2)):
                        total[k] += g * short[a, k]
                        shared[a, k] += g * moments[m, c, r, k]
            else:
                total[0] = slopes[m, r, c]
                for degree in ti.static(range(1, lmax + 1)):
                    first = channels * (1 + (degree - 1) * axis) + c * axis
                    for a in ti.static(range(axis)):
                        g = slopes[m, r, first + a]
                        for k in ti.static(range(degree**2, (degree + 1) ** 2)):
                            total[k] += g * short[a, k]
                            shared[a, k] += g * moments[m, c, r, k]
            for k in ti.static(range((lmax + 1) ** 2)):
                back[m, c, r, k] = total[k]
        for a in ti.static(range(axis)):
            for k in ti.static(range((lmax + 1) ** 2)):
                back[m, a, r, k] += shared[a, k]
        if ti.static(products > 0):
            first = channels * (1 + lmax * axis)
            for p in range(products):
                c = channels - products + p
                v = ti.Vector([moments[m, c, r, 1 + k] for k in range(3)])
                q = quadrupole(
                    moments[m, c, r, 4], moments[m, c, r, 5], moments[m, c, r, 6],
                    moments[m, c, r, 7], moments[m, c, r, 8],
                )  # fmt: skip
                g0 = slopes[m, r, first + p]
                g1 = slopes[m, r, first + products + p]
                g2 = slopes[m, r, first + 2 * products + p]
                qv = q @ v
                by_v = 2 * g0 * qv + 2 * g2 * (q @ qv)
                cross = qv.outer_product(v)
                by_q = g0 * v.outer_product(v) + 3 * g1 * (q @ q)
                by_q += g2 * (cross + cross.transpose())
                root = g0 * 0 + ROOT_THIRD
                for k in ti.static(range(3)):
                    back[m, c, r, 1 + k] += by_v[k]
                back[m, c, r, 4] += 2 * root * by_q[0, 1]
                back[m, c, r, 5] += 2 * root * by_q[1, 2]
                back[m, c, r, 6] += (2 * by_q[2, 2] - by_q[0, 0] - by_q[1, 1]) / 3
                back[m, c, r, 7] += 2 * root * by_q[0, 2]
                back[m, c, r, 8] += root * (by_q[0, 0] - by_q[1, 1])


def contract(moments: Tensor, features: int, form: Contraction) -> Tensor:
    """Return ``features [members, rows, features]``."""
    start(moments.device)
    out = moments.new_empty(moments.shape[0], moments.shape[2], features)
    k_contract(moments, out, kernel_type(moments.dtype), *form)
    return out


def contract_back(moments: Tensor, slopes: Tensor, form: Contraction) -> Tensor:
    """Return the adjoint, shaped like ``moments``."""
    start(moments.device)
    back = torch.empty_like(moments)
    k_contract_back(
        moments, slopes.detach().contiguous(), back, kernel_type(moments.dtype), *form
    )
    return back
