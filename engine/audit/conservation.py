"""Whether forces are the gradient of the energy, and whether dynamics conserves it."""

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import GuardError
from ..md.integrators import Verlet
from ..md.structure import longest_time_step
from ..md.world import MolecularDynamics
from ..runtime import generator
from .findings import Finding, at_most, not_measured
from .samples import Sample, Subject, force_scale

LOOP = 1e-6
"""Work round a closed loop over the work along it."""

AT_ONCE = 4
"""Loops that are measured again together, with more points."""

DRIFT = 1e-5
"""eV per atom and picosecond."""

SLOPE = 0.2
"""Allowed distance of a measured order from 2."""


def force_is_gradient(subject: Subject, directions: int = 8) -> list[Finding]:
    """``F . v = -(E(x + h v) - E(x - h v)) / 2h + C h^2`` for random directions v.

    Two findings: the order at which the difference falls with h (2 where the force is the
    gradient), and what is left of it when the ``h^2`` term is removed by extrapolation.
    """
    piece, rng = subject.cluster(12), generator(7, 21)
    v = torch.randn(directions, piece.atoms, 3, generator=rng, dtype=torch.float64)
    # stiff bonds are short: on the scale of the bond all steps are in the h^2 regime
    steps = subject.nearest / 30 * 0.5 ** torch.arange(5, dtype=torch.float64)
    reach = steps[:, None, None, None] * v
    moves = torch.stack([piece.positions + reach, piece.positions - reach])
    energy = subject.ask(piece, moves.flatten(0, 2)).energy.view(2, len(steps), -1)
    here = subject.ask(piece, piece.positions[None])
    power = -(here.forces * v).sum((1, 2))
    slopes = (energy[0] - energy[1]) / (2 * steps[:, None])
    scale = force_scale(here) * math.sqrt(3 * piece.atoms)
    error = (slopes - power).abs().square().mean(1).sqrt() / scale
    limit = 1e-2 if subject.single else 1e-5
    left = _extrapolated(slopes, power, scale)
    for closer in (8.0, 64.0) if left > limit and not subject.single else ():
        # a kink of the force spoils differences across it, and none that are shorter
        near = steps[-2:] / closer
        moves = torch.stack([piece.positions + s * near[:, None, None, None] * v
                             for s in (1, -1)])  # fmt: skip
        energy = subject.ask(piece, moves.flatten(0, 2)).energy.view(2, 2, -1)
        slopes = (energy[0] - energy[1]) / (2 * near[:, None])
        left = min(left, _extrapolated(slopes, power, scale))
    shown = ", ".join(f"{float(e):.1e}" for e in error)
    shown = f"from h = {float(steps[0]):.3f} angstrom on: {shown}"
    single = subject.single
    floor = 1e-9 if not single else 1e-4
    if not bool(error.isfinite().all()):
        order = math.nan
    elif float(error[0]) < floor:  # a quadratic energy has no h^2 term
        order = 2.0
    else:
        used = error > 10 * floor
        if int(used.sum()) < 3:
            used[:3] = True
        x, y = steps[used].log().numpy(), error[used].log().numpy()
        order = float(np.polyfit(x, y, 1)[0])
    return [
        at_most(
            "force = -gradient: order",
            abs(order - 2.0),
            SLOPE,
            detail=f"order {order:.2f}; errors {shown}",
        ),
        at_most(
            "force = -gradient: error",
            left,
            limit,
            detail="central differences, extrapolated to h = 0",
        ),
    ]


def _extrapolated(slopes: Tensor, power: Tensor, scale: float) -> float:
    """Return the error of the slopes at h = 0, from those at h and h/2."""
    extrapolated = (4 * slopes[-1] - slopes[-2]) / 3
    return float((extrapolated - power).square().mean().sqrt()) / scale


def loop_work(subject: Subject, loops: int = 100, points: int = 24) -> Finding:
    """``integral F . dx`` round closed loops over ``integral |F . dx|``; 0 if conservative.

    The loops are ellipses in random planes of configuration space; on them the trapezoid
    rule converges faster than any power of the number of points, but for loops across a
    kink of the force: those that are wrong are measured again with more points, the worst
    first, until some stay wrong or all are found to be right.
    """
    piece, rng = subject.cluster(8), generator(8, 21)
    axes = torch.randn(loops, 2, 1, piece.atoms, 3, generator=rng, dtype=torch.float64)
    threshold = 1e-3 if subject.single else LOOP
    ratio = _loop_ratios(subject, piece, axes, points)
    wrong = int((~(ratio <= threshold)).sum())
    order = ratio.argsort(descending=True)[:wrong]
    for first in range(0, wrong, AT_ONCE):
        some = order[first : first + AT_ONCE]
        for more in (4, 16):
            ratio[some] = _loop_ratios(subject, piece, axes[some], more * points)
            if float(ratio[some].max()) <= threshold:
                break
        else:
            break
    detail = f"worst of {loops} loops; mean {float(ratio.mean()):.1e}"
    return at_most("work round closed loops", float(ratio.max()), threshold, detail=detail)


def _loop_ratios(subject: Subject, piece: Sample, axes: Tensor, points: int) -> Tensor:
    """Return the relative work round each loop, by the trapezoid rule."""
    angle = 2 * math.pi * torch.arange(points, dtype=torch.float64) / points
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    size = 0.03
    positions = piece.positions + size * (axes[:, 0] * c + axes[:, 1] * s)
    tangent = size * (axes[:, 1] * c - axes[:, 0] * s)
    forces = subject.ask(piece, positions.flatten(0, 1)).forces.view(positions.shape)
    power = (forces * tangent).sum((2, 3))
    return power.sum(1).abs() / power.abs().sum(1).clamp(min=1e-30)


def virial(subject: Subject) -> Finding:
    """``W = -dE/dstrain`` against central differences, all six strains."""
    bulk = subject.bulk
    if not bulk.periodic:
        return not_measured("virial", "the structure is not periodic", 1e-5)
    here = subject.ask(bulk, bulk.positions[None])
    if not bool(here.virial.isfinite().all()):
        return not_measured("virial", "the potential gives no virial", 1e-5)
    strains = [
        _strain(i, j, sign * h)
        for h in (2e-3, 1e-3)
        for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
        for sign in (1, -1)
    ]
    maps = torch.stack(strains)
    energy = subject.ask(bulk, bulk.positions @ maps, bulk.cell @ maps).energy
    energy = energy.view(2, 6, 2)
    slope = (energy[..., 0] - energy[..., 1]) / (2 * torch.tensor([[2e-3], [1e-3]]))
    found = -(4 * slope[1] - slope[0]) / 3
    w = here.virial[0]
    said = torch.stack([w[0, 0], w[1, 1], w[2, 2], w[1, 2], w[0, 2], w[0, 1]])
    scale = force_scale(here) * subject.nearest * math.sqrt(bulk.atoms)
    scale = max(scale, float(found.norm()))
    threshold = 1e-2 if subject.single else 1e-5
    value = float((found - said).abs().max()) / scale
    return at_most("virial", value, threshold, detail="against strains of 0.001, 0.002")


def _strain(i: int, j: int, size: float) -> Tensor:
    strain = torch.zeros(3, 3, dtype=torch.float64)
    strain[i, j] += 0.5 * size
    strain[j, i] += 0.5 * size
    return torch.eye(3, dtype=torch.float64) + strain


def energy_drift(
    subject: Subject,
    picoseconds: float = 1.0,
    temperature: float = 300.0,
    atom_steps: int = 250_000,
) -> list[Finding]:
    """Constant-energy dynamics at a time step dt and at dt/2.

    Two findings: the secular drift at dt/2, and the order of the fluctuations of the total
    energy about it, ``log2(rms(dt) / rms(dt/2))``, which velocity Verlet makes 2 where the
    forces are smooth. dt is a fifth of the stability limit of the lightest atom's bond.

    Args:
        subject: what is audited.
        picoseconds: length of each run.
        temperature: of the start, kelvin.
        atom_steps: the runs are shortened to what this many atoms times steps allow.
    """
    names = ("energy drift", "order of energy fluctuations")
    start = subject.bulk.state
    longest = round(longest_time_step(start.masses) / 5, 3)
    steps = min(round(1000 * picoseconds / longest), atom_steps // (3 * start.atoms))
    series = {}
    for dt, count in ((longest, steps), (longest / 2, 2 * steps)):
        world = MolecularDynamics(
            subject.mean, Verlet(), start, dt, (temperature,), skin=0.5
        )
        try:
            energy = total_energy(world, count)[count // 5 :, 0]
        except GuardError as error:
            return [Finding(n, math.inf, math.nan, "", False, str(error)) for n in names]
        series[dt] = energy / start.atoms
    (coarse, rough), (fine, smooth) = (
        drift_and_fluctuation(energy, dt) for dt, energy in series.items()
    )
    order = math.log2(max(rough, 1e-300) / max(smooth, 1e-300))
    what = f"{steps * longest / 1000:.2g} ps at {temperature:g} K, dt {longest / 2:.3g} fs"
    return [
        at_most(
            names[0],
            abs(fine),
            DRIFT,
            "eV/atom/ps",
            f"{what}; at twice the step {abs(coarse):.1e}",
        ),
        at_most(
            names[1],
            abs(order - 2.0),
            SLOPE,
            detail=f"order {order:.2f}: {rough:.1e} and {smooth:.1e} eV/atom",
        ),
    ]


def total_energy(world: MolecularDynamics, steps: int) -> Tensor:
    """Return the total energy of every system after each step, ``[steps, systems]`` eV.

    Raises:
        GuardError: a trajectory exploded.
    """
    state = world.init()
    values = []
    for number in range(steps):
        state = world.step(state)
        kinetic = state.momenta.double().square().sum(1) / (2 * state.masses)
        values.append(state.energy + state.sum_atoms(kinetic))
        if not bool(values[-1].isfinite().all()):
            raise GuardError(f"step {number + 1}: the energy is not finite", number + 1)
    return torch.stack(values)


def drift_and_fluctuation(energy: Tensor, dt: float) -> tuple[float, float]:
    """Return the drift of ``energy`` per picosecond and the rms about that line.

    The drift is the difference of the means of both halves under a Hann window, which
    vibrations leave alone far better than a fitted line.

    Args:
        energy: ``[steps]``.
        dt: time step, fs.
    """
    half = len(energy) // 2
    window = torch.hann_window(half, periodic=False, dtype=torch.float64)
    window = window / window.sum()
    early, late = energy[:half] @ window, energy[-half:] @ window
    apart = dt * (len(energy) - half) / 1000
    drift = float(late - early) / apart
    time = dt * torch.arange(len(energy), dtype=torch.float64) / 1000
    return drift, float((energy - drift * time).std())


__all__ = [
    "drift_and_fluctuation",
    "energy_drift",
    "force_is_gradient",
    "loop_work",
    "total_energy",
    "virial",
]
