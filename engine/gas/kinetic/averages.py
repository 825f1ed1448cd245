"""Averages of a steady flow of particles, and what cells and time step do to them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...protocols import Figure
from ..boundaries import Inflow, members
from ..problem import Problem
from . import thickness
from .dsmc import DsmcState, DsmcWorld


class Blocks:
    """Keeps the sums at the ends of the blocks; a writer with memory."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._samples: list[Tensor] = []
        self._impulses: list[Tensor] = []
        self._times: list[Tensor] = []

    def write(self, step: int, time: float, state: DsmcState, observed: object) -> None:
        """Record the sums of all that was averaged so far."""
        self._sums.append(state.sums.clone())
        self._samples.append(state.samples.clone())
        self._impulses.append(state.impulse.clone())
        self._times.append(torch.tensor(time, dtype=torch.float64))

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what must be restored."""
        if not self._sums:
            return {}
        return {
            "sums": torch.stack(self._sums),
            "samples": torch.stack(self._samples),
            "impulses": torch.stack(self._impulses),
            "times": torch.stack(self._times),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`tensors` returned."""
        if "sums" in tensors:
            self._sums = list(tensors["sums"])
            self._samples = list(tensors["samples"])
            self._impulses = list(tensors["impulses"])
            self._times = list(tensors["times"])

    def parts(self) -> list[tuple[Tensor, int]]:
        """Return the sums ``[systems, cells, columns]`` and samples of every block."""
        sums = [torch.zeros_like(self._sums[0]), *self._sums]
        counts = [0, *(int(n) for n in self._samples)]
        return [
            (sums[k + 1] - sums[k], counts[k + 1] - counts[k])
            for k in range(len(self._sums))
            if counts[k + 1] > counts[k]
        ]

    def loads(self) -> Tensor:
        """Return force and heat of solids in every block, ``[blocks, systems, n, 4]``."""
        impulses = [torch.zeros_like(self._impulses[0]), *self._impulses]
        times = [torch.zeros_like(self._times[0]), *self._times]
        counts = [0, *(int(n) for n in self._samples)]
        return torch.stack([
            (impulses[k + 1] - impulses[k]) / (times[k + 1] - times[k])
            for k in range(len(self._times))
            if counts[k + 1] > counts[k]
        ])  # fmt: skip


@dataclass(frozen=True)
class Average:
    """A steady flow: means, their standard errors, and what they were made of.

    Attributes:
        fields: ``[knudsen, *grid, ...]``.
        errors: the same, from the scatter of the blocks.
        blocks: of every block, ensembles pooled.
    """

    fields: Mapping[str, Tensor]
    errors: Mapping[str, Tensor]
    blocks: Sequence[Mapping[str, Tensor]]


def averaged(world: DsmcWorld, blocks: Blocks, ensembles: int) -> Average:
    """Return the averages of all blocks, with the scatter between them as error."""
    parts = [
        (sums.unflatten(0, (-1, ensembles)).sum(1), samples * ensembles)
        for sums, samples in blocks.parts()
    ]
    pooled = [world.fields(*part) for part in parts]
    total, count = torch.zeros_like(parts[0][0]), 0
    for sums, samples in parts:
        total, count = total + sums, count + samples
    fields = world.fields(total, count)
    errors = {
        name: torch.stack([b[name] for b in pooled]).std(0) / len(pooled) ** 0.5
        for name in fields
    }
    return Average(fields, errors, pooled)


def components(fields: Mapping[str, Tensor], dim: int) -> dict[str, Tensor]:
    """Split vectors and the stress into the components that are drawn on ``dim`` axes."""
    found = {}
    for name, values in fields.items():
        if name.startswith("velocity") or name == "heat_flux":
            for d in range(max(dim, 2)):
                found[f"{name}_{'xyz'[d]}"] = values[..., d]
        elif name == "stress":
            found["stress_xx"], found["stress_xy"] = values[..., 0, 0], values[..., 0, 1]
        else:
            found[name] = values
    return found


def shock_figures(problem: Problem, average: Average, mass: float) -> dict[str, Figure]:
    """Return the measures of a shock, lengths in mean free paths ahead.

    Args:
        problem: with the gas ahead and behind at its ends.
        average: of the shock at rest.
        mass: of the molecules whose free path it is, the first species alone in a mixture,
            over the mean.
    """
    low, high = problem.sides[0].low, problem.sides[0].high
    assert isinstance(low, Inflow)
    assert isinstance(high, Inflow)
    names = tuple(
        (name, float(getattr(low, name)), float(getattr(high, name)))
        for name in ("density", "temperature")
    )
    blocks = torch.stack(
        [
            torch.stack([(b[name][0] - a) / (z - a) for name, a, z in names])
            for b in average.blocks
        ]
    )
    path = 3.2 * float(problem.knudsen[0]) / math.sqrt(2 * math.pi * mass)
    found = thickness.measures(blocks, problem.grid.spacing[0] / path)
    return {
        name: Figure(value, error=error, note=thickness.NOTES[name])
        for name, (value, error) in found.items()
    }


def free_path(problem: Problem, density: Tensor, temperature: Tensor) -> Tensor:
    """Return ``16/5 mu / (rho sqrt(2 pi T))`` at the smallest Knudsen number."""
    mu = problem.gas.viscosity(problem.knudsen.amin(), density, temperature)
    return 3.2 * mu / (density * (2 * math.pi * temperature).sqrt())


def longest_step(problem: Problem, lightest: float) -> float:
    """Return the shortest time between collisions, and in which a cell is crossed.

    Of the start and of what flows in; a molecule that rests falls through a cell by the
    force in the square root of ``2 h / a``.

    Args:
        problem: what is computed.
        lightest: mass of the lightest molecules over the mean.
    """
    states = [(problem.start.density, problem.start.velocity, problem.start.temperature)]
    for pair in problem.sides:
        for end in (pair.low, pair.high):
            for _, side in members(end):
                if isinstance(side, Inflow):
                    given = (side.density, (*side.velocity, 0.0, 0.0)[:3], side.temperature)
                    rho, u, t = (torch.tensor(q, dtype=torch.float64) for q in given)
                    states.append((rho, u, t))
    cell, shortest = min(problem.grid.spacing), math.inf
    for rho, u, t in states:
        collision = free_path(problem, rho, t) / (8 * t / math.pi).sqrt()
        speed = u.norm(dim=-1) + (2 * t / lightest).sqrt()
        shortest = min(shortest, float(torch.minimum(collision, cell / speed).amin()))
    if problem.force is None:
        return shortest
    strongest = float(problem.force.on(problem.grid)[0].norm(dim=0).amax())
    return min(shortest, math.sqrt(2 * cell / max(strongest, 1e-300)))


def resolution(problem: Problem, average: Average, dt: float) -> tuple[float, float]:
    """Return what cells and time step add to the viscosity of hard spheres.

    ``16 / (45 pi) (h / lambda)^2`` (F. J. Alexander, A. L. Garcia, B. J. Alder, Phys.
    Fluids 10, 1540, 1998), ``32 / (150 pi) (c dt / lambda)^2`` with ``c^2 = 2 T`` (N. G.
    Hadjiconstantinou, Phys. Fluids 12, 2634, 2000); means over the box, so that dense
    corners that hardly matter do not decide.
    A cell that holds one particle or none has no temperature and does not count.
    """
    rho, t = average.fields["density"], average.fields["temperature"]
    full = t > 0
    rho, t = rho[full], t[full]
    path = free_path(problem, rho, t)
    cells = 16 / (45 * math.pi) * (max(problem.grid.spacing) / path).square()
    steps = 32 / (150 * math.pi) * 2 * t * (dt / path).square()
    return float(cells.mean()), float(steps.mean())
