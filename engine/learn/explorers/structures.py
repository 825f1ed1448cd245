"""Starting structures, and exploring without dynamics: random distortions of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from scipy.optimize import minimize

from ...protocols import Committee
from ..atoms import Configuration, evaluate


def beta_tin(element: str, a: float, ratio: float = 0.5516) -> Atoms:
    """Return the four atoms of the body-centred tetragonal cell of white tin.

    Args:
        element: chemical symbol.
        a: edge of the square, angstrom.
        ratio: height over edge.
    """
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0, 0.5, 0.25), (0.5, 0, 0.75)]
    return Atoms(f"{element}4", scaled_positions=places, cell=[a, a, a * ratio], pbc=True)


def liquid(element: str, atoms: int, density: float, nearest: float, seed: int) -> Atoms:
    """Return atoms at random in a cube, pushed apart until none is too close.

    Args:
        element: chemical symbol.
        atoms: how many.
        density: g/cm^3.
        nearest: angstrom, distance below which a soft repulsion acts.
        seed: of the places.
    """
    mass = atomic_masses[atomic_numbers[element]] * 1.66053906660
    edge = (atoms * mass / density) ** (1 / 3)
    start = np.random.default_rng(seed).random((atoms, 3)) * edge
    above = np.triu_indices(atoms, 1)

    def overlap(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = flat.reshape(-1, 3)
        d = x[above[0]] - x[above[1]]
        d -= edge * np.round(d / edge)
        r = np.maximum(np.linalg.norm(d, axis=1), 1e-9)
        depth = np.maximum(nearest - r, 0.0)
        slope = (-2 * depth / r)[:, None] * d
        gradient = np.zeros_like(x)
        np.add.at(gradient, above[0], slope)
        np.add.at(gradient, above[1], -slope)
        return float((depth**2).sum()), gradient.ravel()

    found = minimize(overlap, start.ravel(), jac=True, method="L-BFGS-B")
    return Atoms(
        f"{element}{atoms}", positions=found.x.reshape(-1, 3), cell=[edge] * 3, pbc=True
    )


def distorted(
    sample: Configuration, rattle: float, strain: float, rng: torch.Generator
) -> Configuration:
    """Return a copy with random displacements and a random strain of its periodic axes.

    Args:
        sample: what is distorted.
        rattle: standard deviation of a displacement component, angstrom.
        strain: standard deviation of a strain component.
        rng: source of random numbers.
    """
    draws = torch.randn(3, 3, generator=rng, dtype=torch.float64)
    periodic = sample.periodic.double()
    inside = periodic[:, None] * periodic[None, :]
    stretch = torch.eye(3, dtype=torch.float64) + 0.5 * strain * (draws + draws.mT) * inside
    noise = torch.randn(sample.positions.shape, generator=rng, dtype=torch.float64)
    return replace(
        sample,
        positions=sample.positions @ stretch + rattle * noise,
        cell=sample.cell @ stretch,
    )


@dataclass(frozen=True)
class RandomStructures:
    """Random distortions of given structures: the data set that no process asked for.

    Attributes:
        starts: structures; each is distorted ``copies`` times.
        copies: of each.
        rattle: largest standard deviation of a displacement, angstrom; each copy draws its
            own, uniform from 0.
        strain: largest standard deviation of a strain component, likewise.
    """

    starts: Sequence[Configuration]
    copies: int = 20
    rattle: float = 0.3
    strain: float = 0.04

    def explore(
        self, committee: Committee, rng: torch.Generator
    ) -> Iterator[Configuration]:
        """Yield the distorted structures, with the committee's deviation."""
        for start in self.starts:
            size = torch.rand(self.copies, 2, generator=rng).tolist()
            made = [
                distorted(start, self.rattle * a, self.strain * b, rng) for a, b in size
            ]
            found, state = evaluate(committee, made)
            ends = torch.cumsum(state.counts, 0).tolist()
            for sample, begin, end in zip(made, [0, *ends], ends, strict=False):
                deviation = float(found.deviation[begin:end].max())
                yield replace(
                    sample, deviation=deviation if math.isfinite(deviation) else math.nan
                )
