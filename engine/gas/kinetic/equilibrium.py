"""Discrete equilibria in plain torch: initial states, boundaries, the tests' reference."""

import math

import torch
from torch import Tensor

from .velocities import Velocities

CHUNK = 1 << 21
"""Most numbers of a distribution handled at once, to keep memory flat."""


def maxwellian(
    velocities: Velocities,
    density: Tensor,
    velocity: Tensor,
    temperature: Tensor,
    dimension: int,
    exact: bool = True,
) -> Tensor:
    """Return the Maxwellian on the nodes, with exactly the given moments on the grid.

    ``g = exp(a + b.v + c v^2)``; with reduced directions (``dimension > axes``) the second
    part is ``h = (D - V) T g`` (Chu, Phys. Fluids 8, 1965, p. 12).

    Args:
        velocities: the nodes, V axes.
        density: ``[...]``.
        velocity: ``[..., V]``.
        temperature: ``[...]``.
        dimension: D.
        exact: solve for a, b, c on the grid (Newton); False samples the formula.

    Returns:
        ``[..., parts, nodes]`` with parts = 1 if D = V, else 2.
    """
    shape = density.shape
    V = velocities.axes
    rows = [x.reshape(-1) for x in (density, temperature)]
    drift = velocity.reshape(-1, V)
    step = max(1, CHUNK // velocities.count)
    blocks = [
        _block(
            velocities,
            rows[0][i : i + step],
            drift[i : i + step],
            rows[1][i : i + step],
            exact,
        )
        for i in range(0, rows[0].numel(), step)
    ]
    g = torch.cat(blocks)
    parts = [g]
    if dimension > V:
        parts.append((dimension - V) * rows[1][:, None] * g)
    return torch.stack(parts, 1).reshape(*shape, len(parts), velocities.count)


def near_equilibrium(
    velocities: Velocities, density: Tensor, velocity: Tensor, temperature: Tensor,
    stress: Tensor, heat_flux: Tensor, dimension: int,
) -> Tensor:  # fmt: skip
    r"""Return Grad's distribution of thirteen moments on the nodes.

    ``f = M (1 + s_ij c_i c_j / (2 p T) + q.c / (p T) (c^2 / ((D + 2) T) - 1))`` (Grad,
    Commun. Pure Appl. Math. 2, 1949, p. 331, in D dimensions), integrated over reduced
    directions, in which the stress is isotropic and without a trace in all. Where it would
    be negative, in the tails, it is zero; a difference of Maxwellians then restores
    density, velocity and temperature.

    Args:
        velocities: the nodes, V axes.
        density: ``[...]``.
        velocity: ``[..., V]``.
        temperature: ``[...]``.
        stress: ``[..., V, V]``, deviatoric.
        heat_flux: ``[..., V]``.
        dimension: D.

    Returns:
        ``[..., parts, nodes]`` with parts = 1 if D = V, else 2.
    """
    n = dimension - velocities.axes
    rest = maxwellian(velocities, density, velocity, temperature, dimension)
    v = velocities.like(density)
    c = v - velocity[..., None, :]
    t = temperature[..., None]
    p = (density * temperature)[..., None]
    along = (torch.einsum("...ij,...vi,...vj->...v", stress, c, c)) / (2 * p * t)
    flow = torch.einsum("...i,...vi->...v", heat_flux, c) / (p * t)
    square = c.square().sum(-1) / t
    out = -stress.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None] / (2 * p)
    parts = []
    for part in range(rest.shape[-2]):
        # means over reduced directions of c_k^2, without and with c^2 of them as weight
        more = n + 2 * part
        isotropic = out * (more / n if n else 0.0)
        factor = 1 + along + isotropic + flow * ((square + more) / (dimension + 2) - 1)
        parts.append(rest[..., part, :] * factor.clamp(min=0.0))
    f = torch.stack(parts, -2)
    g, weight = f[..., 0, :], velocities.weight
    rho = weight * g.sum(-1)
    u = weight * (g @ v) / rho[..., None]
    total = weight * (g @ v.square().sum(-1) + (f.sum(-2) - g).sum(-1))
    found = (total / rho - u.square().sum(-1)) / dimension
    return f + rest - maxwellian(velocities, rho, u, found, dimension)


def _block(
    velocities: Velocities, density: Tensor, drift: Tensor, temperature: Tensor, exact: bool
) -> Tensor:
    V = velocities.axes
    nodes = velocities.like(density)
    xi = (nodes - drift[:, None, :]) / temperature.sqrt()[:, None, None]
    basis = torch.cat(
        [torch.ones_like(xi[..., :1]), xi, xi.square().sum(-1, keepdim=True)], -1
    )
    weight = velocities.weight / temperature.pow(V / 2)
    unknown = torch.zeros(len(density), V + 2, dtype=density.dtype, device=density.device)
    unknown[:, 0] = -0.5 * V * math.log(2 * math.pi)
    unknown[:, -1] = -0.5
    target = torch.zeros_like(unknown)
    target[:, 0], target[:, -1] = 1.0, V
    f = torch.einsum("rvm,rm->rv", basis, unknown).exp()
    for _ in range(30 if exact else 0):
        weighted = basis * (f * weight[:, None])[..., None]
        residual = target - weighted.sum(1)
        jacobian = torch.einsum("rvm,rvn->rmn", weighted, basis)
        # of a state that is none of a gas not solvable, then nan, which guards stop at
        change, _ = torch.linalg.solve_ex(jacobian, residual)
        limit = (0.5 * unknown[:, -1].abs() / (change[:, -1].abs() + 1e-300)).clamp(max=1.0)
        unknown = unknown + limit[:, None] * change
        f = torch.einsum("rvm,rm->rv", basis, unknown).exp()
        if float(residual.abs().amax()) < 100 * torch.finfo(f.dtype).eps:
            break
    return f * (density / temperature.pow(V / 2))[:, None]
