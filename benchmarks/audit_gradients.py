"""Figures of differentiable worlds and gradient certificates, part of ``bench audit``."""

import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk

from scalebridge.engine import runtime
from scalebridge.engine.bench import Recorder
from scalebridge.engine.gas.collisions.pairs import lennard_jones
from scalebridge.engine.gas.collisions.transport import viscosity
from scalebridge.engine.gas.kinetic import steady
from scalebridge.engine.md.adjoint import trajectory
from scalebridge.engine.md.differentiable import SmoothLennardJones
from scalebridge.engine.md.integrators import Verlet
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.units import REDUCED
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.engine.schema.inverse import PairSection
from scalebridge.studies.schema import ShockSensitivityScenario
from scalebridge.studies.shock_sensitivity import Shock, inverse_thickness


def gradients(quick: bool, record: Recorder) -> None:
    """Record the figures of the gradients."""
    torch.set_num_threads(runtime.threads())
    if record.wants("viscosity_scaling_error"):
        record(
            "viscosity_scaling_error", scaling_error(), goal=1e-6,
            note="largest |d ln viscosity / d ln sigma + 2| over argon at 100 to 600 K",
        )  # fmt: skip
    if record.wants("md_gradient_mb", "md_gradient_time_ratio"):
        _record_md(quick, record)
    if record.wants("shock_gradient_speedup", "shock_gradient_error"):
        _record_shock(quick, record)


# -- viscosity ----------------------------------------------------------------------------


def scaling_error() -> float:
    """Return how far the slope of ln viscosity over ln sigma is from -2."""
    temperatures = torch.linspace(100.0, 600.0, 6, dtype=torch.float64)
    epsilon = torch.tensor(124.0, dtype=torch.float64)
    sigma = torch.tensor(3.418, dtype=torch.float64, requires_grad=True)
    values = viscosity(lennard_jones(epsilon, sigma), temperatures, 1.0, 3.4).log()
    slopes = [torch.autograd.grad(v, sigma, retain_graph=True)[0] * sigma for v in values]
    return max(abs(float(slope.detach()) + 2.0) for slope in slopes)


# -- molecular dynamics -------------------------------------------------------------------


def crystal_world(cells: tuple[int, int, int]) -> MolecularDynamics:
    """Return a cool Lennard-Jones crystal at constant energy."""
    atoms = bulk("Ar", "fcc", a=(4 / 1.0) ** (1 / 3), cubic=True).repeat(cells)
    atoms.set_masses(np.ones(len(atoms)))
    one = torch.ones(1, dtype=torch.float64)
    potential = SmoothLennardJones(one.clone(), one.clone(), 2.5)
    start = from_atoms(atoms, ("Ar",), seed=3)
    return MolecularDynamics(potential, Verlet(), start, 0.004, (0.2,), 0.3, REDUCED)


def peak_mb() -> float:
    """Return the largest memory that this process had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def md_cost(cells: tuple[int, int, int], steps: int) -> tuple[float, float, float, float]:
    """Return seconds of the steps alone and with their gradient, MB, growth."""
    world = crystal_world(cells)
    state = world.init()
    for _ in range(50):
        state = world.step(state)
    small = trajectory(world, state, 5)  # compiles nothing that is timed
    del small

    def forward() -> None:
        moved = state
        for _ in range(steps):
            moved = world.step(moved)

    begun = time.perf_counter()
    forward()
    alone = time.perf_counter() - begun
    before = peak_mb()
    epsilon = torch.ones(1, dtype=torch.float64, requires_grad=True)
    sigma = torch.ones(1, dtype=torch.float64, requires_grad=True)
    own = replace(world, potential=SmoothLennardJones(epsilon, sigma, 2.5))
    warm = trajectory(own, state, 5, largest_growth=math.inf)
    warm.state.momenta.square().sum().backward()
    epsilon.grad = sigma.grad = None
    begun = time.perf_counter()
    path = trajectory(own, state, steps, largest_growth=math.inf)
    path.state.momenta.square().sum().backward()
    both = time.perf_counter() - begun
    assert sigma.grad is not None
    assert bool(torch.isfinite(sigma.grad).all())
    return alone, both, peak_mb() - before, path.growth.factor


def _record_md(quick: bool, record: Recorder) -> None:
    """In a process of its own, so that the memory is that of the gradient."""
    cells, steps = ("4,4,4", 200) if quick else ("5,5,10", 5000)
    answer = subprocess.run(
        [sys.executable, str(Path(__file__)), cells, str(steps)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    alone, both, memory, growth = (float(x) for x in answer.stdout.split()[-4:])
    atoms = 4 * math.prod(int(x) for x in cells.split(","))
    what = f"{steps} steps of {atoms} atoms"
    record(
        "md_gradient_mb", memory, "MB", goal=500,
        note=f"peak beyond that of the steps alone, {what}",
    )  # fmt: skip
    record(
        "md_gradient_time_ratio", both / alone, "", goal=4,
        note=f"steps and gradient over steps alone ({alone:.1f} s), {what} of a cool "
        f"crystal; perturbations grow {growth:.2g} times",
    )  # fmt: skip


# -- the shock ----------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _record_shock(quick: bool, record: Recorder) -> None:
    # sound that the start sets off runs to and fro between shock and outlet: unrolled, the
    # derivative by the Mach number settles only after hundreds of mean free times
    steps, cells, nodes = (400, 45, 40) if quick else (7000, 45, 40)
    scenario = ShockSensitivityScenario(
        version=1,
        kind="study",
        study="shock_sensitivity",
        temperature=300.0,
        pair=PairSection(epsilon=124.0, sigma=3.418),
        extent=18.0,
        cells=cells,
        nodes=nodes,
    )
    shock = Shock(scenario)
    p = shock.parameters
    law = shock.law(p["epsilon"], p["sigma"]).detach()

    def leaves() -> list[torch.Tensor]:
        values = (law, p["prandtl"], p["mach"])
        return [v.detach().clone().requires_grad_() for v in values]

    found: dict[str, list[torch.Tensor]] = {}

    def implicit() -> None:
        own = leaves()
        line = shock.line(*own)
        state = steady.solve(line, shock.march(law, 1500))
        found["implicit"] = list(torch.autograd.grad(inverse_thickness(line, state.f), own))

    def unrolled() -> None:
        own = leaves()
        line = shock.line(*own)
        start = shock.march(law, 1)
        f = line.advance(start, 0.45 * line.grid.spacing[0] / fastest(line), steps)
        found["unrolled"] = list(torch.autograd.grad(inverse_thickness(line, f), own))

    def fastest(line: object) -> float:
        return float(shock.velocities.nodes.abs().max())

    implicit()  # the kernel is compiled before anything is timed
    short = min(seconds(implicit) for _ in range(2))
    long = seconds(unrolled)
    pairs = zip(flat(found["implicit"]), flat(found["unrolled"]), strict=True)
    scale = max(abs(b) for b in flat(found["unrolled"]))
    worst = max(abs(a - b) / max(abs(b), 0.05 * scale) for a, b in pairs)
    record(
        "shock_gradient_speedup", long / short, "", goal=20, better="higher",
        note=f"{steps} steps unrolled with checkpoints ({long:.1f} s) over march by the "
        f"kernel, Newton's method and adjoint ({short:.2f} s); {cells} cells, {nodes} "
        "velocities, Mach 2, Shakhov",
    )  # fmt: skip
    record(
        "shock_gradient_error", worst, "", goal=0.01,
        note="largest difference from unrolling over the derivatives by viscosity, its "
        "exponent, Prandtl number and Mach number; unrolling for 80, 240 and 300 mean free "
        "times, in two boxes, came nearer each time",
    )  # fmt: skip


def flat(found: list[torch.Tensor]) -> list[float]:
    """Return derivatives by viscosity, exponent, Prandtl and Mach number."""
    law, prandtl, mach = found
    return [float(law[0]), float(law[1]), float(prandtl), float(mach)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sizes = [int(x) for x in sys.argv[1].split(",")]
    print(*md_cost((sizes[0], sizes[1], sizes[2]), int(sys.argv[2])))
