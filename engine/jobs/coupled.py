"""From a scenario of a coupled shock to the job that runs it and compares it."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from ..coupling.collisions import Conditions, Molecules, PairCollisions, Viscosity
from ..coupling.comparison import Table, reference
from ..coupling.coupled import CoupledGas, RateCache, Scales, wanted
from ..coupling.job import CoupledShock
from ..errors import EngineError
from ..gas.exact import shock_jump
from ..gas.fields import steps_of
from ..gas.grid import Grid
from ..gas.initial.shocks import Shock
from ..gas.kinetic.velocities import Velocities
from ..gas.kinetic.world import KineticState, KineticWorld, mean_free_path
from ..gas.material import Gas
from ..protocols import Job
from ..schema.coupled import CoupledShockScenario


def assemble(scenario: CoupledShockScenario, base: Path) -> Job:
    """Return the job of a scenario; it names no files, so ``base`` is not used.

    Raises:
        InputError: one simulation is too noisy for the tolerance of the cache.
    """
    s, up = scenario, scenario.upstream
    molecules = Molecules(s.molecules.epsilon, s.molecules.sigma, s.molecules.mass)
    labeler = PairCollisions(
        molecules, s.collisions.pairs, s.collisions.replicas, seed=s.seed
    )
    cache = RateCache.empty(s.cache.amplitude, s.cache.length)
    limits = s.cache.tolerance, s.collisions.noise
    wanted(cache, torch.tensor([up.temperature], dtype=torch.float64), *limits)
    gas = Gas.power_law(3, s.exponent, 2.0 / 3.0)
    *_, hot = shock_jump(up.mach, gas.gamma)
    ranges = {
        "wide table": (s.table.lowest, s.table.highest),
        "narrow table": (up.temperature, up.temperature * hot),
    }
    tables = [Table.of(name, ends, cache, *limits) for name, ends in ranges.items()]
    kinetic, start, steps = _shock(s, gas)
    scales = _scales(s, molecules)
    world = CoupledGas(kinetic, start, scales, _no_answers, cache, *limits)
    return CoupledShock(world, steps, s.time.frames, labeler, s.workers, tables, s.exponent)


def _no_answers(samples: Sequence[Conditions]) -> list[Viscosity]:
    raise EngineError("labels are asked for before the run has a folder")


def _shock(s: CoupledShockScenario, gas: Gas) -> tuple[KineticWorld, KineticState, int]:
    """Return the kinetic gas, its first state (a jump) and the number of steps."""
    speed, density, _, hot = shock_jump(s.upstream.mach, gas.gamma)
    grid = Grid((s.grid.cells,), (-s.grid.half_width,), (s.grid.half_width,))
    kinetic = KineticWorld(
        grid,
        (Shock(s.upstream.mach).ends(gas.gamma),),
        Velocities((s.grid.nodes,), (s.grid.lower,), (s.grid.upper,)),
        gas,
        torch.tensor([1.0 / mean_free_path(1.0)], dtype=torch.float64),
        "shakhov",
    )
    steps = steps_of(s.time.end, kinetic.time_step, s.time.frames)
    kinetic = kinetic.with_time_step(s.time.end / steps)
    share = (grid.centers(0) > 0).double()[None]  # the gas finds the profile itself
    rho = 1 + (density - 1) * share
    start = kinetic.equilibrium(rho, (speed / rho)[..., None], 1 + (hot - 1) * share)
    return kinetic, start, steps


def _scales(s: CoupledShockScenario, molecules: Molecules) -> Scales:
    """Return the units of the gas ahead; the length is a mean free path there."""
    up, constant = s.upstream, molecules.gas_constant
    density = up.pressure / (constant * up.temperature)
    temperature = torch.tensor(up.temperature, dtype=torch.float64)
    ahead = float(reference(molecules)(temperature))
    speed = math.sqrt(constant * up.temperature)
    length = mean_free_path(ahead / (density * speed))
    return Scales(up.temperature, density, length, constant)
