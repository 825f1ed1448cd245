"""How what a trajectory ends with depends on its start, with a learned potential.

The derivative of the kinetic energy of silicon after some steps by every position at the
start, with the forces of a network; compared with a difference of two runs.

Run: python examples/trajectory_gradient.py MODEL.safetensors
"""

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
    direction, small = slope / slope.norm(), 1e-4
    ahead, behind = (
        float(kinetic(state.positions + sign * small * direction)) for sign in (1, -1)
    )
    return float(slope.norm()), (ahead - behind) / (2 * small)


if __name__ == "__main__":
    slope, difference = main(Path(sys.argv[1]), 40)
    print(f"{slope:.8f} by the adjoint, {difference:.8f} by a difference (eV/angstrom)")
