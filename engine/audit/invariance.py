"""Exact symmetries of a potential: frame, reflection, permutation, size."""

import math

import numpy as np
import torch
from torch import Tensor

from ...models.potentials.unconstrained import random_rotations
from ..comparison import rank, worst
from ..runtime import generator
from .findings import Finding, at_most
from .samples import Evaluation, Subject, force_scale

ORDERS = 4
"""Highest angular order that :func:`angular_orders` resolves."""


def _violation(
    reference: Evaluation, found: Evaluation, expected: Evaluation | None = None
) -> float:
    """Return the largest error of energy and force over their typical changes.

    Forces are measured against their root mean square F, energies against the change
    ``sqrt(N) F * 1 angstrom`` that random displacements of an angstrom make.
    """
    expected = expected or reference
    scale = force_scale(reference)
    energy = scale * math.sqrt(reference.forces.shape[1])
    return worst(
        [
            float((found.energy - expected.energy).abs().max()) / energy,
            float((found.forces - expected.forces).abs().max()) / scale,
        ]
    )


def _turned(answer: Evaluation, turns: Tensor) -> Evaluation:
    """Return an equivariant potential's result after each rotation ``[n, 3, 3]``."""
    count = len(turns)
    return Evaluation(
        answer.energy.expand(count),
        answer.forces @ turns.mT,
        turns @ answer.virial @ turns.mT,
    )


def translation(subject: Subject, samples: int = 32) -> Finding:
    """Energy and forces do not change when everything is moved: ``E(x + t) = E(x)``."""
    bulk, rng = subject.bulk, generator(1, 21)
    shifts = 20 * torch.rand(samples, 1, 3, generator=rng, dtype=torch.float64) - 10
    reference = subject.ask(bulk, bulk.positions[None])
    found = subject.ask(bulk, bulk.positions + shifts)
    value = _violation(reference, found)
    return at_most("translation", value, subject.exact, detail=f"{samples} shifts")


def _turn_error(subject: Subject, turns: Tensor) -> tuple[float, str]:
    values = {}
    for name, sample in (("bulk", subject.bulk), ("cluster", subject.cluster(12))):
        reference = subject.ask(sample, sample.positions[None])
        positions = sample.positions @ turns.mT
        found = subject.ask(sample, positions, sample.cell @ turns.mT)
        expected = _turned(reference, turns)
        value = _violation(reference, found, expected)
        scale = force_scale(reference) * math.sqrt(sample.atoms) * subject.nearest
        virial = (found.virial - expected.virial).abs()
        if bool(reference.virial.isfinite().all()):
            value = worst([value, float(virial.max()) / scale])
        values[name] = value
    where = max(values, key=lambda name: rank(values[name]))
    return worst(values.values()), where


def rotation(subject: Subject, samples: int = 32) -> Finding:
    """``E(R x) = E(x)``, ``F(R x) = R F(x)``, ``W(R x) = R W(x) R^T``."""
    turns = random_rotations(samples, generator(2, 21))
    value, where = _turn_error(subject, turns)
    detail = f"{samples} rotations of bulk and cluster; worst: {where}"
    return at_most("rotation", value, subject.exact, detail=detail)


def reflection(subject: Subject, samples: int = 32) -> Finding:
    """As :func:`rotation`, for improper elements ``-R`` of O(3)."""
    turns = -random_rotations(samples, generator(3, 21))
    value, where = _turn_error(subject, turns)
    detail = f"{samples} improper elements; worst: {where}"
    return at_most("reflection", value, subject.exact, detail=detail)


def rotation_grid(orders: int = ORDERS) -> tuple[Tensor, Tensor]:
    """Return rotations ``[n, 3, 3]`` and weights ``[n]`` (sum 1), exact to ``2 orders``.

    Uniform angles alpha and gamma and Gauss points in cos beta: the product of any two
    Wigner functions of order up to ``orders`` is integrated exactly over SO(3).
    """
    count = 2 * orders + 1
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    nodes, weights = np.polynomial.legendre.leggauss(orders + 1)
    beta = torch.from_numpy(np.arccos(nodes))
    a, b, c = (t.flatten() for t in torch.meshgrid(angle, beta, angle, indexing="ij"))
    weight = torch.from_numpy(weights).expand(count, -1)[..., None].expand(-1, -1, count)
    return _about_z(a) @ _about_y(b) @ _about_z(c), weight.flatten() / (2 * count**2)


def _about_z(angle: Tensor) -> Tensor:
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    s, c = angle.sin(), angle.cos()
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).unflatten(-1, (3, 3))


def _about_y(angle: Tensor) -> Tensor:
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    s, c = angle.sin(), angle.cos()
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).unflatten(-1, (3, 3))


def order_amplitudes(values: Tensor, turns: Tensor, weights: Tensor) -> Tensor:
    """Return the root mean square of each angular order of a function on SO(3).

    The part of order l is ``h_l(g) = (2l + 1) integral chi_l(g^-1 g') h(g') dg'`` with the
    character ``chi_l = 1 + 2 sum_k cos(k theta)``, and its power is
    ``(2l + 1) double integral h(g) chi_l(g^-1 g') h(g')``.

    Args:
        values: ``[n]`` the function at the turns.
        turns: ``[n, 3, 3]`` of :func:`rotation_grid`.
        weights: ``[n]``.

    Returns:
        ``[ORDERS + 1]``; entry 0 is the modulus of the mean.
    """
    flat = turns.flatten(1)
    theta = (0.5 * (flat @ flat.T - 1)).clamp(-1, 1).arccos()
    weighted, chi, powers = weights * values, torch.ones_like(theta), []
    for order in range(ORDERS + 1):
        if order:
            chi = chi + 2 * torch.cos(order * theta)
        powers.append((2 * order + 1) * (weighted @ chi @ weighted))
    return torch.stack(powers).clamp(min=0).sqrt()


def angular_orders(subject: Subject) -> Finding:
    """Share of each angular order in the energy's change with orientation.

    An invariant energy has order 0 alone; what a network has only learned
    shows up at the orders that its data did not fix.
    """
    sample = subject.cluster(8)
    turns, weights = rotation_grid()
    found = subject.ask(sample, sample.positions @ turns.mT)
    energy = found.energy - (weights * found.energy).sum()
    scale = force_scale(found) * math.sqrt(sample.atoms)
    amplitudes = order_amplitudes(energy, turns, weights)[1:] / scale
    named = ", ".join(f"l={k}: {float(a):.1e}" for k, a in enumerate(amplitudes, 1))
    value = float(((weights * energy**2).sum()).sqrt()) / scale
    return at_most("rotation by angular order", value, subject.exact, detail=named)


def permutation(subject: Subject, samples: int = 16) -> Finding:
    """Permuting equal atoms permutes their forces and keeps the energy."""
    bulk, rng = subject.bulk, generator(4, 21)
    reference = subject.ask(bulk, bulk.positions[None])
    orders = []
    for _ in range(samples):
        order = torch.arange(bulk.atoms)
        for kind in bulk.state.species.unique():
            mine = torch.nonzero(bulk.state.species == kind)[:, 0]
            order[mine] = mine[torch.randperm(len(mine), generator=rng)]
        orders.append(order)
    index = torch.stack(orders)
    found = subject.ask(bulk, bulk.positions[index])
    expected = Evaluation(
        reference.energy.expand(samples), reference.forces[0][index], reference.virial
    )
    value = _violation(reference, found, expected)
    detail = f"{samples} orders of equal species"
    return at_most("permutation", value, max(1e-6, subject.exact), detail=detail)


def extensivity(subject: Subject) -> Finding:
    """``E(2 x 2 x 2 cells) = 8 E``, and two clusters far apart add up."""
    threshold = 1e-4 if subject.single else 1e-6
    piece = subject.cluster(8)
    both = torch.cat([piece.positions, piece.positions + 100.0])
    double = piece.picked(torch.arange(piece.atoms).repeat(2), both)
    one = subject.ask(piece, piece.positions[None])
    two = subject.ask(double, double.positions[None])
    apart = float((two.energy - 2 * one.energy).abs()) / double.atoms
    values, parts = [apart], [f"two clusters: {apart:.1e}"]
    if subject.bulk.periodic:
        base = subject.bulk
        large = base.repeated((2, 2, 2))
        single = subject.ask(base, base.positions[None]).energy
        many = subject.ask(large, large.positions[None]).energy
        tiled = float((many - 8 * single).abs()) / large.atoms
        values, parts = [*values, tiled], [*parts, f"supercell: {tiled:.1e}"]
    return at_most("extensivity", worst(values), threshold, "eV/atom", ", ".join(parts))


def balance(subject: Subject) -> Finding:
    """An isolated piece exerts no net force and no net torque on itself."""
    piece = subject.cluster(16)
    found = subject.ask(piece, piece.positions[None])
    force, scale = found.forces[0], force_scale(found)
    centre = piece.positions - piece.positions.mean(0)
    torque = torch.linalg.cross(centre, force).sum(0)
    radius = float(centre.norm(dim=1).mean())
    value = worst(
        [
            float(force.sum(0).abs().max()) / scale,
            float(torque.abs().max()) / (scale * radius),
        ]
    )
    detail = "sum of forces and of torques over the typical force"
    return at_most("net force and torque", value, 10 * subject.exact, detail=detail)


__all__ = [
    "angular_orders",
    "balance",
    "extensivity",
    "order_amplitudes",
    "permutation",
    "reflection",
    "rotation",
    "rotation_grid",
    "translation",
]
