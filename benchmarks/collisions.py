"""Collisions of the gas: transport against known values, DSMC against references, speed."""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.interpolate import Akima1DInterpolator, CubicSpline, PchipInterpolator
from scipy.optimize import least_squares

from scalebridge.engine import runtime
from scalebridge.engine.bench import Recorder
from scalebridge.engine.chain.shock import ShockTube, integral_measure
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Sides, Wall
from scalebridge.engine.gas.collisions import tables, transport
from scalebridge.engine.gas.collisions.molecules import (
    SONINE,
    hard_spheres,
    variable_spheres,
)
from scalebridge.engine.gas.collisions.pairs import Table, inverse_power, lennard_jones
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.engine.gas.collisions.quantum import with_quantum
from scalebridge.engine.gas.collisions.scattering import Resolution, scatter
from scalebridge.engine.gas.exact import shock_jump
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic import thickness
from scalebridge.engine.gas.kinetic.dsmc import DsmcState, DsmcWorld, Start
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas, TransportLaw

sys.path.append(str(Path(__file__).resolve().parent))

import dsmc_cases
import flows
import sparta

F64 = torch.float64
UNIT = (1.66053906660e-27 * 1.380649e-23) ** 0.5 * 1e26
"""sqrt(amu K k) / angstrom^2 in uPa s."""

LENNARD_JONES = {
    0.5: 2.28517, 0.7: 1.92259, 1.0: 1.59316, 1.5: 1.31520, 2.0: 1.17579, 3.0: 1.03885,
    5.0: 0.92681, 10.0: 0.82437, 20.0: 0.74363, 50.0: 0.64979, 100.0: 0.58515,
}  # fmt: skip
"""T* -> Omega(2,2)*: an independent quadrature that agrees with the fits of S. U. Kim and
C. W. Monroe, J. Comput. Phys. 273, 358 (2014), to 2e-4."""

NOBLE = {
    "argon": ("Ar", {100.0: (8.126, 6.343), 300.0: (22.668, 17.708),
                     500.0: (33.916, 26.530), 1000.0: (55.443, 43.424),
                     2000.0: (88.592, 69.407)}),
    "helium": ("He", {100.0: (9.552, 74.72), 300.0: (19.907, 155.63),
                      500.0: (28.327, 221.38), 1000.0: (46.350, 362.05),
                      2000.0: (77.242, 603.04)}),
}  # fmt: skip
"""K -> viscosity in uPa s, conductivity in mW/(m K), by an independent quadrature of the
same potentials; argon is within 0.06 % of May et al., Metrologia 43 (2006)."""


def lj(record: Recorder) -> None:
    """Lennard-Jones collision integrals, and where they go."""
    one = torch.ones((), dtype=F64)
    t = torch.tensor(list(LENNARD_JONES), dtype=F64)
    found = scatter(Table.of(lennard_jones(one, one), 0.25, 60.0), 0.5, 100.0)
    known = torch.tensor(list(LENNARD_JONES.values()), dtype=F64)
    off = transport.reduced_integral(found, t, 2, 2) / known - 1
    record("lj_transport_error", float(off.abs().max()), "", goal=2e-4,
           note="Omega(2,2)* at T* 0.5 to 100 against the table")  # fmt: skip
    hot = torch.tensor([100.0, 300.0, 1000.0], dtype=F64)
    table = Table.of(lennard_jones(one, one), 0.2, 60.0)
    one_, two = (
        transport.integral(scatter(table, 100.0, 1000.0, r), hot, 2, 2)
        for r in (None, Resolution().doubled())
    )
    record("lj_hot_error", float((one_ / two - 1).abs().max()), "", goal=1e-5,
           note="T* 100 to 1000 against doubled quadrature")  # fmt: skip
    worst = 0.0
    for power in (12, 9, 6, 4):
        table = Table.of(inverse_power(one, power), 0.04, 300.0, 3000)
        ends = transport.integral(
            scatter(table, 1.0, 10.0), torch.tensor([1.0, 10.0], dtype=F64), 2, 2
        )
        worst = max(worst, abs(float(ends[1] / ends[0]) / 10 ** (-2 / power) - 1))
    record("inverse_power_error", worst, "", goal=1e-6, note="powers 4 to 12, T 1 to 10")


def noble(record: Recorder, name: str) -> None:
    """Viscosity and conductivity of a noble gas from its published potential."""
    symbol, known = NOBLE[name]
    gas, t = PUBLISHED[symbol], torch.tensor(list(known), dtype=F64)
    table, begun = gas.table(), time.process_time()
    found = scatter(table, float(t[0]), float(t[-1]))
    if symbol == "He":
        found = with_quantum(found, table, gas.mass, gas.bosons)
    ours = transport.transport(found, t, 1.0)
    spent = time.process_time() - begun
    mu, heat = (torch.tensor(c, dtype=F64) for c in zip(*known.values(), strict=True))
    own = ours.viscosity * UNIT * gas.mass**0.5
    goal = 3e-4 if symbol == "He" else 5e-4
    record(f"{name}_viscosity_error", float((own / mu - 1).abs().max()), "", goal=goal,
           note="100 to 2000 K, third order")  # fmt: skip
    own = ours.conductivity * UNIT * gas.mass**0.5 * 8.31446261815324 / gas.mass
    record(f"{name}_conductivity_error", float((own / heat - 1).abs().max()), "", goal=goal,
           note="100 to 2000 K, third order")  # fmt: skip
    record(f"{name}_seconds", spent, "s", note="CPU time, all temperatures, from the pair")


def _between(low: Wall, high: Wall, particles: float, seed: int = 1) -> DsmcWorld:
    """Hard spheres at Kn 0.02 between two walls."""
    grid = Grid((100,), (0.0,), (1.0,))
    one = torch.ones(grid.shape, dtype=F64)
    u = torch.zeros(*grid.shape, 3, dtype=F64)
    share = grid.centers(0)
    speeds = [side.velocity[1] if len(side.velocity) > 1 else 0.0 for side in (low, high)]
    u[:, 1] = 0.96 * (speeds[0] + share * (speeds[1] - speeds[0]))
    t = low.temperature + share * (high.temperature - low.temperature)
    return DsmcWorld(
        grid, (Sides(low, high),), hard_spheres(0.02),
        Start(one / t / (1 / t).mean(), u, t),
        particles, 0.003, seed, sample_from=6000, sample_every=4, capacity=1.1,
    )  # fmt: skip


def _steady(world: DsmcWorld, steps: int) -> list[dict[str, torch.Tensor]]:
    """Run; return the fields of eight blocks."""
    state = world.init(torch.Generator().manual_seed(world.seed))
    for _ in range(world.sample_from - 1):
        state = world.step(state)
    blocks, sums, samples = [], state.sums, 0
    for _ in range(8):
        for _ in range(steps // 8):
            state = world.step(state)
        blocks.append(world.fields(state.sums - sums, int(state.samples) - samples))
        sums, samples = state.sums, int(state.samples)
    return blocks


def coefficients(record: Recorder, quick: bool) -> None:
    """Viscosity and conductivity in the middle of Couette's and Fourier's flow."""
    steps = 800 if quick else 24_000
    inner = slice(25, 75)
    x = _between(Wall(1.0), Wall(1.0), 1.0).grid.centers(0)[inner]

    def slope(values: torch.Tensor) -> float:
        at = x - x.mean()
        return float((at * values).sum() / at.square().sum())

    couette = _between(Wall(1.0, (0.0, -1.0)), Wall(1.0, (0.0, 1.0)), 100_000.0)
    fourier = _between(Wall(0.5), Wall(1.5), 100_000.0)
    for name, world in (("viscosity", couette), ("conductivity", fourier)):
        found = []
        for block in _steady(world, steps):
            t = block["temperature"][0, inner]
            if name == "viscosity":
                flux = block["stress"][0, inner, 0, 1].mean()
                gradient = slope(block["velocity"][0, inner, 1])
                known = 0.02 * float(t.sqrt().mean())
            else:
                # kappa = 15/4 mu f_k / f_mu, sqrt(T) dT = 2/3 d(T^1.5)
                flux = block["heat_flux"][0, inner, 0].mean()
                gradient = slope(t**1.5) * 2 / 3
                known = 3.75 * 0.02 * 1.025218 / 1.016034
            found.append(-float(flux) / gradient / known - 1)
        values = torch.tensor(found)
        record(
            f"dsmc_{name}_error", abs(float(values.mean())), "", goal=0.01,
            note=f"hard spheres at Kn 0.02, middle half; {float(values.mean()):+.4f} +- "
            f"{float(values.std()) / 8**0.5:.4f}",
        )  # fmt: skip


OHWADA = (
    (-5.127, 0.0215, 0.0547), (-3.562, 0.0681, 0.1603), (-2.605, 0.1302, 0.2826),
    (-1.993, 0.1910, 0.3848), (-1.545, 0.2460, 0.4652), (-1.161, 0.3009, 0.5373),
    (-0.799, 0.3582, 0.6027), (-0.442, 0.4179, 0.6630), (-0.087, 0.4800, 0.7166),
    (0.268, 0.5409, 0.7652), (0.622, 0.6006, 0.8071), (0.976, 0.6579, 0.8440),
    (1.333, 0.7092, 0.8724), (1.695, 0.7558, 0.8975), (2.079, 0.8000, 0.9177),
    (2.528, 0.8417, 0.9378), (3.140, 0.8871, 0.9545), (4.097, 0.9325, 0.9730),
    (5.662, 0.9695, 0.9847),
)  # fmt: skip
"""x in free paths of hard spheres, density and temperature from 0 ahead to 1 behind, Mach
1.59: T. Ohwada, Phys. Fluids A 5, 217 (1993), read off figure 14 of S. Jaiswal, A. A.
Alexeenko, J. Hu, J. Comput. Phys. 378, 178 (2019) to 0.01 and 0.002."""

OHWADA_THICKNESS = 0.1755
"""3/2 integral (d rho/dx)^2 dx of these points, paths ``16/5 mu / (rho sqrt(2 pi T))``."""


def _between_points(curve: Any, x: np.ndarray) -> float:
    """Return ``3/2 int (d rho/dx)^2 dx`` of a curve through points."""
    at = np.linspace(x[0], x[-1], 4001)
    return 1.5 * float(np.trapezoid(curve(at, 1) ** 2, at))


def _ohwada_itself(profiles: Sequence[np.ndarray], at: np.ndarray) -> str:
    """Say what the points are worth: other curves through them, and where they end.

    Density and temperature are those of the particles but for a factor that is nearly the
    same for both, fitted to each with a shift of its own, as if the axis of the figure had
    been read too high. The points say so themselves: ``1 - rho`` falls by .53, .56, .55 and
    .52 per path between the last of them, where the tail of a shock steepens to one rate.
    """
    x, *columns = np.array(OHWADA).T
    x, (rho, _) = x / SONINE, columns
    curves = CubicSpline(x, rho), PchipInterpolator(x, rho), Akima1DInterpolator(x, rho)
    found = [_between_points(curve, x) for curve in curves]
    tops, left = [], []
    for own, points in zip(profiles, columns, strict=True):
        inside = CubicSpline(at, own)
        fit = least_squares(lambda p, f=inside, y=points: f(x + p[0]) - y / p[1], [0, 1])
        tops.append(fit.x[1])
        left.append(float(np.sqrt((fit.fun**2).mean())))
    return (
        f"the points: {min(found):.4f} to {max(found):.4f} by cubic, monotone and Akima "
        f"curves; they end at {tops[0]:.4f} (density) and {tops[1]:.4f} (temperature) of "
        f"the jump by a fit to the particles, which leaves {left[0]:.4f} and "
        f"{left[1]:.4f}; over that they measure {found[0] / tops[0] ** 2:.4f}"
    )


def ohwada(record: Recorder, quick: bool) -> None:
    """The shock of hard spheres at Mach 1.59."""
    dense = shock_jump(1.59, 5 / 3)[1]
    grid, ends, start = dsmc_cases.shock_start(1.59)
    world = DsmcWorld(
        grid, (ends,), hard_spheres(5 * math.sqrt(2 * math.pi) / 16),
        start, 200.0 if quick else 10_000.0, 0.1,
        hold=True, sample_from=1000, sample_every=4, capacity=1.2,
        precision=torch.float32,
    )  # fmt: skip
    blocks = _steady(world, 400 if quick else 8000)
    hot = shock_jump(1.59, 5 / 3)[3]
    profiles = torch.stack([(b["density"][0] - 1) / (dense - 1) for b in blocks])
    warm = torch.stack([(b["temperature"][0] - 1) / (hot - 1) for b in blocks]).mean(0)
    # .4 free paths: the integral of a hyperbolic tangent as thick changes by 2e-5, and
    # slopes over .1 are four times as noisy
    profiles = profiles.unflatten(1, (-1, 4)).mean(2)
    grid = Grid((75,), (-15.0,), (15.0,))
    found, error = thickness.integral(profiles, grid.spacing[0])
    own, at = profiles.mean(0).numpy(), grid.centers(0).numpy()
    worth = _ohwada_itself([own, warm.unflatten(0, (-1, 4)).mean(1).numpy()], at)
    off = found / OHWADA_THICKNESS - 1
    note = f"hard spheres, Mach 1.59, integral measure {found:.4f} +- {error:.4f}, "
    note += f"{off:+.4f} +- {error / OHWADA_THICKNESS:.4f} over the points as they were "
    note += f"read off; {worth}"
    record("ohwada_thickness_error", abs(off), "", goal=0.01, note=note)
    x, density, _ = torch.tensor(OHWADA, dtype=F64).T
    x = x.numpy() / SONINE

    def apart(shift: float) -> np.ndarray:
        return np.interp(x + shift, at, own) - density.numpy()

    best = least_squares(lambda p: apart(p[0]), [0.0]).x[0]
    rms = float(np.sqrt((apart(best) ** 2).mean()))
    record("ohwada_density_error", rms, "", goal=0.004,
           note="root mean square at 19 points, of the jump")  # fmt: skip


def relaxation(record: Recorder, quick: bool) -> None:
    """Maxwell molecules relax along the solution of Bobylev, Krook and Wu.

    ``<v^4> = 15 K (2 - K)``, ``<v^6> = 105 K^2 (3 - 2 K)`` with ``K = 1 - 2/5 exp(-nu t /
    6)``; at the start ``|v|^2 / K`` has the chi-squared distribution of 5 degrees.
    """
    cell = Grid((4,), (0.0,), (1.0,))
    one = torch.ones(4, dtype=F64)
    molecules, systems = variable_spheres(1.0, 1.0), 32
    rate, dt = float(molecules.law[0, 0]), 0.05
    world = DsmcWorld(
        cell, (ALL_PERIODIC,), molecules, Start(one, torch.zeros(4, 3, dtype=F64), one),
        2000.0 if quick else 50_000.0, dt, sample_every=0, capacity=1.01,
        knudsen=(1.0,) * systems,
    )  # fmt: skip
    rng = torch.Generator().manual_seed(7)
    state = world.init(rng)
    shape = state.velocities[..., 0].shape
    square = 0.6 * torch.randn(*shape, 5, generator=rng, dtype=F64).square().sum(-1)
    way = torch.randn(*shape, 3, generator=rng, dtype=F64)
    v = square.sqrt()[..., None] * way / way.norm(dim=-1, keepdim=True)
    state, worst = replace(state, velocities=v), 0.0
    for step in range(1, 81):
        state = world.step(state)
        if step % 20:
            continue
        k = 1 - 0.4 * math.exp(-rate * dt * step / 6)
        square = state.velocities[:, : world.expected].square().sum(-1)
        energy = square.mean(1) / 3
        for power, known in ((2, 15 * k * (2 - k)), (3, 105 * k * k * (3 - 2 * k))):
            found = (square**power).mean(1) / energy**power
            error = float(found.std()) / systems**0.5
            worst = max(worst, abs(float(found.mean()) - known) / error)
    record(
        "dsmc_bkw_sigmas", worst, "", goal=3.0, better="lower",
        note="largest departure of <v^4>, <v^6> at four times, in standard errors",
    )  # fmt: skip


def models(record: Recorder, quick: bool) -> None:
    """Shakhov's and the ellipsoidal model in argon's shocks, beside particles."""
    argon = tables.of_published("Ar", 150.0, 15_000.0)
    gas = Gas(3, 2 / 3).following(TransportLaw.of(argon, 300.0, 2 / 3))
    chain = json.loads((Path(__file__).parent / "results" / "chain.json").read_text())
    for mach in (1.55, 2.0, 3.0, 5.5, 9.0):
        truth = chain["figures"][f"argon_inverse_thickness_at_mach_{mach:g}_dsmc"]["value"]
        for model in ("shakhov", "es"):
            found = _marched(gas, mach, model, 500 if quick else 4000)
            name = f"argon_{model}_over_dsmc_mach{mach:g}"
            note = f"inverse thickness, integral measure, {found:.4f}; marched"
            record(name, found / truth - 1, "", note=note)


def _marched(gas: Gas, mach: float, model: str, steps: int) -> float:
    """Return the inverse thickness of a kinetic model's shock at rest."""
    tube = ShockTube(mach, cells=160, extent=20.0, nodes=96)
    speed, dense, after, hot = shock_jump(mach, 5 / 3)
    world = KineticWorld(
        tube.grid, (Sides(Inflow(1.0, (speed,), 1.0), Inflow(dense, (after,), hot)),),
        tube.velocities, gas, torch.tensor([5 * math.sqrt(2 * math.pi) / 16], dtype=F64),
        model,
    )  # fmt: skip
    part = 0.5 * (1 + torch.tanh(0.5 * tube.grid.centers(0)))[None]
    rho = 1 + (dense - 1) * part
    state = world.equilibrium(rho, (speed / rho)[..., None], 1 + (hot - 1) * part)
    seen = world.observe(world.advance(state, steps))["density"][0]
    return float(integral_measure((seen - 1) / (dense - 1), tube.grid.spacing[0]))


def _box(per_cell: float, cells: int = 100) -> DsmcWorld:
    grid = Grid((cells,), (0.0,), (float(cells),))
    one = torch.ones(cells, dtype=F64)
    start = Start(one, torch.zeros(cells, 3, dtype=F64), one)
    return DsmcWorld(
        grid, (ALL_PERIODIC,), hard_spheres(1.0), start, per_cell, 0.1, sample_every=0,
        capacity=1.01,
    )  # fmt: skip


def _pace(world: DsmcWorld, state: DsmcState, steps: int) -> float:
    begun = time.process_time()
    for _ in range(steps):
        state = world.step(state)
    return 1e9 * (time.process_time() - begun) / steps / world.expected


def speed(record: Recorder, quick: bool) -> None:
    """Conservation, and CPU time per particle and step of a periodic box."""
    world = _box(100.0)
    first = world.init(torch.Generator().manual_seed(1))
    state = first
    for _ in range(50 if quick else 2000):
        state = world.step(state)
    n = world.expected
    old, new = first.velocities[0, :n], state.velocities[0, :n]
    drift = float((new.square().sum() / old.square().sum() - 1).abs())
    record("energy_drift", drift, "", goal=1e-12, note="periodic box, f64 velocities")
    drift = float(((new.sum(0) - old.sum(0)).abs() / old.abs().sum(0)).max())
    record("momentum_drift", drift, "", goal=1e-12, note="over the sum of magnitudes")
    for name, per_cell, steps in (("small", 100.0, 400), ("large", 10_000.0, 20)):
        for precision, label in ((torch.float64, "f64"), (torch.float32, "f32")):
            world = replace(_box(per_cell), precision=precision)
            state = world.init(torch.Generator().manual_seed(1))
            _pace(world, state, 2)
            pace = min(_pace(world, state, steps) for _ in range(3))
            record(
                f"dsmc_ns_{name}_{label}", pace, "ns", better="lower",
                note=f"CPU time per particle and step, {world.expected} hard spheres",
            )  # fmt: skip


def beside_sparta(record: Recorder) -> None:
    """CPU time of SPARTA over ours, in turns: 10^6 hard spheres, 100 a cell, one core."""
    world = _box(100.0, 10_000)
    mine = {}
    for precision in (torch.float64, torch.float32):
        own = replace(world, precision=precision)
        mine[precision] = own, own.init(torch.Generator().manual_seed(1))
    theirs, ours = [], {precision: [] for precision in mine}
    for _ in range(3):
        theirs.append(sparta.box(10_000, 100, 0.1, 60))
        for precision, (own, state) in mine.items():
            _pace(own, state, 2)
            ours[precision].append(_pace(own, state, 60))
    single, double = (min(ours[p]) for p in (torch.float32, torch.float64))
    note = (
        f"SPARTA {min(theirs):.0f} ns a particle and step (f64, -O3 -march=native), ours "
    )
    note += (
        f"{double:.0f} in f64, {single:.0f} in f32; least of three, in turns; a tenth of "
    )
    note += "a cell's width in a step, cells one collision time wide"
    least = min(theirs)
    for label, pace in (("f64", double), ("f32", single)):
        record(
            f"dsmc_vs_sparta_{label}",
            least / pace,
            "",
            goal=2.0,
            better="higher",
            note=note,
        )


PROTOTYPE = os.environ.get("SCALEBRIDGE_PROTOTYPE", "")
"""Command that runs the first sketch of this method, particles in numba on one thread: hard
spheres in the shock of :func:`ohwada`, its arguments those of :func:`_sketched`."""


def _sketched(particles: float, steps: int) -> float:
    """Return nanoseconds of CPU time per particle and step of the sketch."""
    case = f"HS 300 1.59 {steps} {particles:g} 15 0.2 0.1"
    with tempfile.TemporaryDirectory() as folder:
        said = subprocess.run(
            [*PROTOTYPE.split(), *case.split()], cwd=folder, capture_output=True, text=True,
            check=True, env=os.environ | {"NUMBA_CACHE_DIR": folder},
        ).stdout  # fmt: skip
    number, seconds = re.search(r"particles (\d+).* cpu ([\d.]+)", said).groups()  # type: ignore[union-attr]
    return 1e9 * float(seconds) / int(number) / steps


def _own_shock(particles: float, steps: int, precision: torch.dtype) -> float:
    """Return nanoseconds per particle and step of the same: CPU time, of threads theirs."""
    _, ends, start = dsmc_cases.shock_start(1.59)
    grid = Grid((150,), (-15.0,), (15.0,))
    start = Start(start.density[::2], start.velocity[::2], start.temperature[::2])
    world = DsmcWorld(
        grid, (ends,), hard_spheres(5 * math.sqrt(2 * math.pi) / 16), start, particles, 0.1,
        hold=True, sample_from=steps // 4, sample_every=4, capacity=1.2,
        precision=precision,
    )  # fmt: skip
    state = world.step(world.init(torch.Generator().manual_seed(1)))
    clock = time.process_time if runtime.threads() == 1 else time.perf_counter
    begun = clock()
    for _ in range(steps):
        state = world.step(state)
    return 1e9 * (clock() - begun) / steps / world.expected


def beside_prototype(record: Recorder) -> None:
    """Time of the sketch over ours, in turns: the shock of hard spheres, two sizes."""
    threads = runtime.threads()
    goal = {1: 1.0, 2: 1.8}.get(threads)
    for size, particles, steps in (("large", 24_000.0, 60), ("small", 300.0, 4000)):
        name = f"dsmc_vs_prototype_{size}_threads{threads}"
        if not record.wants(name):
            continue
        theirs, double, single = zip(
            *(
                (
                    _sketched(particles, steps),
                    _own_shock(particles, steps, torch.float64),
                    _own_shock(particles, steps, torch.float32),
                )
                for _ in range(3)
            ),
            strict=True,
        )
        note = (
            f"{42 * particles:.2g} hard spheres in a shock, least of three, in turns: the "
        )
        note += f"sketch {min(theirs):.1f} ns a particle and step (f64, one thread), ours "
        note += f"{min(double):.1f} in f64, {min(single):.1f} in f32; flight and sort read "
        note += f"and write {3 * 28 + 8} bytes in f64, {3 * 16 + 8} in f32"
        pace = min(theirs) / min(double)
        record(name, pace, "", goal=goal, better="higher", note=note)


def measure(quick: bool, record: Recorder) -> None:
    """Measure all figures of this file."""
    if record.wants("lj_transport_error", "lj_hot_error", "inverse_power_error"):
        lj(record)
    for name in NOBLE:
        if record.wants(f"{name}_viscosity_error", f"{name}_conductivity_error"):
            noble(record, name)
    if record.wants("dsmc_viscosity_error", "dsmc_conductivity_error"):
        coefficients(record, quick)
    if record.wants("ohwada_thickness_error", "ohwada_density_error"):
        ohwada(record, quick)
    if record.wants("dsmc_bkw_sigmas"):
        relaxation(record, quick)
    if record.wants("argon_es_over_dsmc_mach2"):
        models(record, quick)
    if record.wants("energy_drift", "momentum_drift", "dsmc_ns_small_f64"):
        speed(record, quick)
    if record.wants("dsmc_vs_sparta_f64") and sparta.there():
        beside_sparta(record)
    if PROTOTYPE:
        beside_prototype(record)
    dsmc_cases.measure(flows.run, quick, record)
