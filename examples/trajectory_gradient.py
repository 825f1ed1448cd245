"""The derivative of what silicon ends with by its start: trajectory_gradient.py MODEL."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from ase.build import bulk
from torch import Tensor

import scalebridge as sb
from scalebridge.engine.md.adjoint import trajectory
from scalebridge.engine.md.differentiable import TorchPotential
from scalebridge.engine.md.integrators import Verlet


def main(model: Path, steps: int) -> tuple[float, float]:
    """Return the derivative along a direction, and the same by a difference."""
    potential = TorchPotential.of_module(sb.load_model(model)[0])
    atoms = bulk("Si", a=5.43)
    atoms.rattle(0.1, seed=1)
    start = sb.from_atoms(atoms, potential.species)
    world = sb.MolecularDynamics(potential, Verlet(), start, 1.0, (300.0,))
    state = world.init()

    def kinetic(positions: Tensor) -> Tensor:
        end = trajectory(world, replace(state, positions=positions), steps).state
        return (end.momenta.square().sum(1) / (2 * end.masses)).sum()

    positions = state.positions.clone().requires_grad_()
    (slope,) = torch.autograd.grad(kinetic(positions), positions)
    small = 1e-4 * slope / slope.norm()
    change = kinetic(state.positions + small) - kinetic(state.positions - small)
    return float(slope.norm()), float(change) / 2e-4


if __name__ == "__main__":
    slope, difference = main(Path(sys.argv[1]), 40)
    print(f"{slope:.8f} by the adjoint, {difference:.8f} by a difference (eV/angstrom)")
