"""Collisions of the gas: transport against known values, DSMC against references, speed."""

import time
from dataclasses import replace

import torch

from scalebridge.engine.bench import Recorder
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Sides, Wall
from scalebridge.engine.gas.collisions import transport
from scalebridge.engine.gas.collisions.molecules import hard_spheres
from scalebridge.engine.gas.collisions.pairs import Table, inverse_power, lennard_jones
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.engine.gas.collisions.quantum import with_quantum
from scalebridge.engine.gas.collisions.scattering import Resolution, scatter
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.dsmc import DsmcState, DsmcWorld, Start

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
        grid, (Sides(low, high),), hard_spheres(0.02), Start(one / t / (1 / t).mean(), u, t),
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
    steps = 800 if quick else 40_000
    inner = slice(25, 75)
    x = _between(Wall(1.0), Wall(1.0), 1.0).grid.centers(0)[inner]

    def slope(values: torch.Tensor) -> float:
        at = x - x.mean()
        return float((at * values).sum() / at.square().sum())

    couette = _between(Wall(1.0, (0.0, -1.0)), Wall(1.0, (0.0, 1.0)), 10_000.0)
    fourier = _between(Wall(0.5), Wall(1.5), 10_000.0)
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


def measure(quick: bool, record: Recorder) -> None:
    """Measure all figures of this file."""
    if record.wants("lj_transport_error", "lj_hot_error", "inverse_power_error"):
        lj(record)
    for name in NOBLE:
        if record.wants(f"{name}_viscosity_error", f"{name}_conductivity_error"):
            noble(record, name)
    if record.wants("dsmc_viscosity_error", "dsmc_conductivity_error"):
        coefficients(record, quick)
    if record.wants("energy_drift", "momentum_drift", "dsmc_ns_small_f64"):
        speed(record, quick)
