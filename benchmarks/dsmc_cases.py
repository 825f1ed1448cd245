"""Simulated molecules beside exact results and other codes: solids and mixtures."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import solids
import sparta
import torch
from scipy.optimize import least_squares
from torch import Tensor

from scalebridge.engine.bench import Recorder
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Sides, Wall
from scalebridge.engine.gas.collisions.binary import Binary
from scalebridge.engine.gas.collisions.molecules import (
    SONINE,
    Molecules,
    Spheres,
    from_potentials,
    hard_spheres,
    mixture,
)
from scalebridge.engine.gas.collisions.pairs import Table, lennard_jones
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.engine.gas.collisions.scattering import scatter
from scalebridge.engine.gas.collisions.transport import transport
from scalebridge.engine.gas.exact import shock_jump
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.dsmc import DsmcState, DsmcWorld, Start
from scalebridge.engine.gas.kinetic.obstacles import obstacles_of
from scalebridge.engine.gas.kinetic.particle_faces import Reservoirs
from scalebridge.engine.gas.shapes import Cylinder
from scalebridge.engine.gas.solids import Solid

F64 = torch.float64


def even(grid: Grid, velocity: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Start:
    """Return a uniform gas of density and temperature 1."""
    one = torch.ones(grid.shape, dtype=F64)
    u = torch.tensor(velocity, dtype=F64).expand(*grid.shape, 3)
    return Start(one, u, one)


def advanced(world: DsmcWorld, state: DsmcState, steps: int) -> DsmcState:
    """Return the state after some steps."""
    for _ in range(steps):
        state = world.step(state)
    return state


# -- solids --------------------------------------------------------------------------------


def stream(knudsen: float, cells: int, per_cell: float, warm: int) -> DsmcWorld:
    """Return a Mach 5 stream past a whole cylinder, in the box ``[-1, 1]^2``."""
    speed = solids.SPEED
    grid = Grid((2 * cells, 2 * cells), (-1.0, -1.0), (1.0, 1.0))
    end = Inflow(1.0, (speed, 0.0, 0.0), 1.0)
    body = Solid("cylinder", Cylinder((0.0, 0.0), 0.5), Wall())
    return DsmcWorld(
        grid, (Sides(end, end), Sides(end, end)), hard_spheres(knudsen),
        even(grid, (speed, 0.0, 0.0)), per_cell / grid.volume, 0.4 / cells / speed,
        sample_from=warm, sample_every=0, capacity=4.0,
        obstacles=obstacles_of([body], grid), precision=torch.float32,
    )  # fmt: skip


def free_cylinder(record: Recorder, quick: bool) -> None:
    """Drag and heat of a cylinder in a nearly free stream, against exact values."""
    names = "dsmc_cylinder_drag_error", "dsmc_cylinder_heat_error"
    if not record.wants(*names):
        return
    blocks, steps = (4, 50) if quick else (20, 300)
    world = stream(1000.0, 10, 20.0 if quick else 100.0, 0)
    state = world.init(torch.Generator().manual_seed(1))
    state = advanced(world, state, 4 * math.ceil(2.0 / solids.SPEED / world.time_step))
    found = []
    for _ in range(blocks):
        before = state.impulse
        state = advanced(world, state, steps)
        found.append((state.impulse - before)[0, 0] / steps / world.time_step)
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / blocks**0.5
    coefficient, heat = solids.free_molecular(solids.SPEED)
    exact = 0.5 * solids.SPEED**2 * coefficient, heat
    for name, k, true in zip(names, (0, 3), exact, strict=True):
        off = float(mean[k]) / true - 1
        note = f"Mach 5, Kn 1000: {off:+.4f} +- {float(error[k]) / true:.4f}"
        record(name, abs(off), "", goal=0.01, note=note)


def rarefied_cylinder(run: Callable[..., Any], record: Recorder) -> None:
    """Drag and heat at Mach 5 and Kn 0.1 beside SPARTA, in the same box and cells."""
    names = "dsmc_cylinder_rarefied_drag_error", "dsmc_cylinder_rarefied_heat_error"
    if not (record.wants(*names) and sparta.there()):
        return
    ran = run("dsmc_cylinder")
    beside = sparta.cylinder(solids.SPEED, 0.1, 50, 20, 2.0, 2.0)
    for name, key, part in zip(names, ("force_x", "heat"), ("force", "heat"), strict=True):
        group = ran.store["average_loads"]
        value = 2 * float(np.asarray(group[f"solid_cylinder_{key}"])[0])
        error = 2 * float(np.asarray(group[f"solid_cylinder_{key}_error"])[0])
        true = getattr(beside, part)
        note = f"{value:.3f} +- {error:.3f} of a whole cylinder; SPARTA {true:.3f}; cells "
        note += f"of 1/50 both; ours {ran.seconds:.3g} CPU s, SPARTA {beside.seconds:.3g} s"
        record(name, abs(value / true - 1), "", goal=0.01, note=note)


# -- mixtures ------------------------------------------------------------------------------

KOSUGE = json.loads((Path(__file__).parent / "kosuge_2001.json").read_text())


def two(knudsen: float, ratio: float, share: float, size: float = 1.0) -> Molecules:
    """Return hard spheres a and b; masses ratio b over a, ``share`` of b in the number."""
    mean = 1 - share + share * ratio
    return mixture(knudsen, (1 / mean, ratio / mean), (Spheres(), Spheres(size)))


def shock_start(mach: float) -> tuple[Grid, Sides, Start]:
    """Return a box of 30 lengths about a shock at rest, its reservoirs, and the jump."""
    speed, dense, after, hot = shock_jump(mach, 5 / 3)
    grid = Grid((300,), (-15.0,), (15.0,))
    behind = (grid.centers(0) > 0).double()
    rho = 1 + (dense - 1) * behind
    u = torch.zeros(300, 3, dtype=F64)
    u[:, 0] = speed / rho
    ends = Sides(Inflow(1.0, (speed,), 1.0), Inflow(dense, (after,), hot))
    return grid, ends, Start(rho, u, 1 + (hot - 1) * behind)


def binary_shock(mach: float, quick: bool) -> DsmcWorld:
    """Return a shock in hard spheres of masses 2 : 1, half of the molecules each.

    The unit of length is the free path of molecules a alone, ``1 / (sqrt(2) pi d^2 n)``.
    """
    masses = (4 / 3, 2 / 3)
    molecules = two(SONINE * 5 / 16 * math.sqrt(2 * math.pi * masses[0]), 0.5, 0.5)
    grid, ends, start = shock_start(mach)
    return DsmcWorld(
        grid, (ends,), molecules, start,
        200.0 if quick else 4000.0, 0.1 if mach < 2 else 0.05, hold=True, sample_from=800,
        sample_every=2, capacity=1.3, precision=torch.float32,
        reservoirs=Reservoirs(masses, (0.5, 0.5)),
    )  # fmt: skip


def kosuge(record: Recorder, quick: bool) -> None:
    """Shocks in binary mixtures against Kosuge, Aoki and Takata's."""
    for mach, case in KOSUGE["cases"].items():
        name = f"kosuge_mach{mach}_error"
        if not record.wants(name):
            continue
        world = binary_shock(float(mach), quick)
        state = world.init(torch.Generator().manual_seed(1))
        state = advanced(world, state, 1600 if quick else 6000)
        seen = world.fields(state.sums, int(state.samples))
        x = world.grid.centers(0).numpy()
        own = _reduced(seen, float(mach))
        points = {key: np.array(rows).T for key, rows in case.items()}

        def off(shift: float, own: Any = own, points: Any = points, x: Any = x) -> Any:
            return {
                key: np.interp(at + shift, x, own[key]) - value
                for key, (at, value) in points.items()
            }

        def all_off(p: Any, off: Any = off) -> np.ndarray:
            return np.concatenate(list(off(p[0]).values()))

        best = least_squares(all_off, [0.0]).x[0]
        parts = {k: float(np.sqrt((v**2).mean())) for k, v in off(best).items()}
        told = ", ".join(f"{key} {value:.4f}" for key, value in parts.items())
        note = f"hard spheres, masses 2 : 1, half each; root mean square: {told}"
        record(name, max(parts.values()), "", goal=0.01, note=note)


def _reduced(seen: dict[str, Tensor], mach: float) -> dict[str, np.ndarray]:
    """Return density and temperature from 0 to 1 and velocity from 1 to 0."""
    speed, dense, after, hot = shock_jump(mach, 5 / 3)
    masses, found = (4 / 3, 2 / 3), {}
    for k, name in enumerate("ab"):
        number = seen[f"density_{k}"][0] / masses[k] / 0.5
        found[f"n_{name}"] = ((number - 1) / (dense - 1)).numpy()
        found[f"T_{name}"] = ((seen[f"temperature_{k}"][0] - 1) / (hot - 1)).numpy()
        u = seen[f"velocity_{k}"][0, :, 0]
        found[f"u_{name}"] = ((u - after) / (speed - after)).numpy()
    return found


def relaxation(record: Recorder, quick: bool) -> None:
    """Two temperatures approach each other; Maxwell molecules do at an exact rate.

    ``d(T_a - T_b)/dt = -2 m_a m_b / (m_a + m_b)^2 n K (T_a - T_b)``, K = sigma g, where
    scattering is isotropic.
    """
    if not record.wants("dsmc_equalisation_error"):
        return
    soft = Spheres(1.0, 1.0)
    masses = (1.6, 0.4)
    molecules = mixture(1.0, masses, (soft, soft))
    grid, systems = Grid((4,), (0.0,), (1.0,)), 16
    particles = 10_000.0 if quick else 400_000.0
    world = DsmcWorld(
        grid, (ALL_PERIODIC,), molecules, even(grid), particles, 0.05,
        sample_every=0, capacity=1.01, knudsen=(1.0,) * systems,
        reservoirs=Reservoirs(masses, (0.5, 0.5)),
    )  # fmt: skip
    state = world.init(torch.Generator().manual_seed(3))
    light = state.velocities[..., 3:] == 1
    v = state.velocities[..., :3] * torch.where(light, 1.2**0.5, 0.8**0.5)
    whole = torch.cat([v, state.velocities[..., 3:]], -1)
    state = DsmcState(**{**vars(state), "velocities": whole})

    def gap(state: DsmcState) -> Tensor:
        n = world.expected
        v, kind = state.velocities[:, :n, :3], state.velocities[:, :n, 3]
        square = v.square().sum(-1) / 3
        of = [
            masses[k] * (square * (kind == k)).sum(1) / (kind == k).sum(1) for k in (0, 1)
        ]
        return of[1] - of[0]

    begun = gap(state)
    steps = 30
    state = advanced(world, state, steps)
    rate = 2 * masses[0] * masses[1] / sum(masses) ** 2 * float(molecules.law[1, 0])
    found = -(gap(state).mean() / begun.mean()).log() / (steps * world.time_step)
    error = float((gap(state) / begun.mean()).std() / systems**0.5)
    error /= float(gap(state).mean() / begun.mean()) * steps * world.time_step * rate
    off = float(found) / rate - 1
    note = f"masses 4 : 1, Maxwell molecules, exact rate; {off:+.4f} +- {error:.4f}"
    record("dsmc_equalisation_error", abs(off), "", goal=0.01, note=note)


def diffusion(record: Recorder, quick: bool) -> None:
    """A wave of composition decays by mutual diffusion.

    For Maxwell molecules the first approximation ``D = T / (m n K)``, m the reduced mass,
    is exact; for hard spheres it is ``3/8 sqrt(pi T / (2 m)) / (S n)``, S the section, and
    higher ones add up to some percent.
    """
    if not record.wants("dsmc_diffusion_error"):
        return
    masses, told = (4 / 3, 2 / 3), {}
    reduced = masses[0] * masses[1] / sum(masses)
    for kind, omega in (("maxwell", 1.0), ("spheres", 0.5)):
        ball = Spheres(1.0, omega)
        molecules = mixture(0.005, masses, (ball, ball))
        law = float(molecules.law[1, 0])
        d = 1 / reduced / law
        if omega == 0.5:
            d = 0.375 * math.sqrt(math.pi / 2 / reduced) / law
        world = _wave(molecules, masses, 60.0 if quick else 1500.0)
        state = world.init(torch.Generator().manual_seed(5))
        begun = _wave_height(world, state)
        steps = round(0.7 / (4 * math.pi**2 * d) / world.time_step)
        state = advanced(world, state, 40 if quick else steps)
        steps = int(state.step)
        decay = -math.log(_wave_height(world, state) / begun)
        known = 4 * math.pi**2 * d * steps * world.time_step
        told[kind] = decay / known - 1
        # each molecule adds cos / 2 or -cos / 2 to the wave, which is .2 at the start
        told[f"{kind}_error"] = (0.125 / world.expected) ** 0.5 / 0.2
        told[f"{kind}_error"] *= math.exp(known) / known
    note = "masses 2 : 1, Maxwell molecules (exact) {maxwell:+.4f} +- {maxwell_error:.4f}; "
    note += "hard spheres, over the first approximation, {spheres:+.4f} +- "
    note += "{spheres_error:.4f}"
    note = note.format(**told)
    record("dsmc_diffusion_error", abs(told["maxwell"]), "", goal=0.01, note=note)


def _wave(molecules: Molecules, masses: tuple[float, float], per_cell: float) -> DsmcWorld:
    """Return a gas of even pressure and temperature whose composition is a wave."""
    grid = Grid((500,), (0.0,), (1.0,))
    share = 0.5 + 0.4 * torch.cos(2 * math.pi * grid.centers(0))
    parts = torch.stack([share, 1 - share])
    density = (parts * torch.tensor(masses, dtype=F64)[:, None]).sum(0)
    one = torch.ones(500, dtype=F64)
    start = Start(density, torch.zeros(500, 3, dtype=F64), one, parts)
    return DsmcWorld(
        grid, (ALL_PERIODIC,), molecules, start, per_cell * 500, 0.001, sample_every=0,
        capacity=1.01, precision=torch.float32, reservoirs=Reservoirs(masses, (0.5, 0.5)),
    )  # fmt: skip


def _wave_height(world: DsmcWorld, state: DsmcState) -> float:
    """Return the first Fourier coefficient of the fraction of a."""
    n = int(state.starts[0, -2])
    wave = torch.cos(2 * math.pi * state.positions[0, :n, 0].double())
    first = (state.velocities[0, :n, 3] == 0).double()
    return float((wave * (first - 0.5)).mean())


DRIFT = 0.1
"""Velocity of one gas through the other that is aimed at, in thermal ones."""


def argon_and_helium() -> tuple[dict[tuple[int, int], Table], tuple[float, float]]:
    """Return the potentials of all pairs of argon and helium, and masses over the mean."""
    argon, helium = PUBLISHED["Ar"], PUBLISHED["He"]
    pair = lennard_jones(*(torch.tensor(x, dtype=F64) for x in (30.0, 3.1)))
    unlike = Table.of(pair, 0.77, 120.0)
    both = argon.mass + helium.mass
    tables = {(0, 0): argon.table(), (0, 1): unlike, (1, 1): helium.table()}
    return tables, (2 * argon.mass / both, 2 * helium.mass / both)


def drift(record: Recorder, quick: bool) -> None:
    """Two gases drift through each other under forces that add up to nothing.

    ``u_1 - u_2 = n D_12 m_1 m_2 (a_1 - a_2) / (rho kT)`` (S. Chapman, T. G. Cowling, The
    Mathematical Theory of Non-Uniform Gases, 3rd ed., equation 8.4,7). Argon and helium,
    300 K, half of the molecules each, by their published potentials; the unlike pair is a
    Lennard-Jones one.
    """
    if not record.wants("dsmc_table_diffusion_error"):
        return
    hot, parts = 300.0, (0.5, 0.5)
    tables, masses = argon_and_helium()
    one = torch.tensor([hot], dtype=F64)
    found = {pair: scatter(table, hot, hot) for pair, table in tables.items()}
    gas = Binary((found[0, 0], found[1, 1]), found[0, 1], masses, parts)
    known = float(gas.diffusion(one))
    # at the Knudsen number 1 the viscosity of argon alone is 1
    known /= float(transport(found[0, 0], one, masses[0]).viscosity)
    apart = DRIFT / (known * masses[0] * masses[1])
    fields = torch.tensor([0.5 * masses[1], -0.5 * masses[0]], dtype=F64) * apart
    grid = Grid((10,), (0.0,), (1.0,))
    world = DsmcWorld(
        grid, (ALL_PERIODIC,), from_potentials(tables, masses, 1.0, hot, 1.0), even(grid),
        100_000.0, 0.05, sample_every=0, capacity=1.01,
        reservoirs=Reservoirs(masses, parts),
    )  # fmt: skip
    state, seen = world.init(torch.Generator().manual_seed(1)), []
    n, begun = world.expected, None
    for step in range(200 if quick else 12_000):
        state = world.step(state)
        kind = state.velocities[0, :n, 3].long()
        v = state.velocities[0, :n, :3]
        u = [v[kind == k, 0].mean() for k in (0, 1)]
        v[:, 0] += world.time_step * fields[kind]
        energy = (world.molecules.masses[kind] * v.square().sum(1)).sum()
        begun = energy if begun is None else begun
        v *= (begun / energy).sqrt()
        if step >= 100:
            # half of a kick later
            seen.append(u[0] - u[1] + 0.5 * world.time_step * apart)
    blocks = torch.stack(seen[: len(seen) // 20 * 20]).reshape(20, -1).mean(1) / DRIFT - 1
    off, error = float(blocks.mean()), float(blocks.std()) / 20**0.5
    more = float(gas.diffusion(one) / gas.diffusion(one, 1)) - 1
    note = f"argon and helium, scattering tables of three potentials; {off:+.4f} +- "
    note += (
        f"{error:.4f} over the second approximation, which is {more:+.4f} over the first"
    )
    record("dsmc_table_diffusion_error", abs(off), "", goal=0.02, note=note)


def parting(run: Callable[..., Any], record: Recorder) -> None:
    """Heat and separation of helium and argon between two walls, in the middle half.

    Nothing flows through a wall, so the heat flux is ``-lambda dT/dx`` of a gas whose
    composition has settled, and the fraction x of argon follows ``dx = -k_T d ln T``.
    """
    names = "dsmc_mixture_conductivity_error", "dsmc_thermal_diffusion_error"
    if not record.wants(*names):
        return
    ran = run("dsmc_thermal_diffusion")
    tables, masses = argon_and_helium()
    cross = {pair: scatter(table, 150.0, 450.0) for pair, table in tables.items()}
    seen = {name: np.asarray(values) for name, values in ran.store["average"].arrays()}
    quarter = len(seen["x"]) // 4
    seen = {name: values[quarter:-quarter] for name, values in seen.items()}
    x = seen["x"]
    t = np.poly1d(np.polyfit(x, seen["temperature"], 2))
    argon = np.poly1d(np.polyfit(x, seen["fraction_argon"], 1))
    ends = np.linspace(x[0], x[-1], 9)
    heat, apart = 0.0, 0.0
    for low, high in pairwise(ends):
        at = 0.5 * (low + high)
        parts = (float(argon(at)), 1 - float(argon(at)))
        gas = Binary((cross[0, 0], cross[1, 1]), cross[0, 1], masses, parts)
        here = torch.tensor([300.0 * t(at)], dtype=F64)
        heat += float(gas.conductivity(here)) * (t(high) - t(low))
        apart -= float(gas.thermal_diffusion(here)) * math.log(t(high) / t(low))
    # helium alone has the viscosity Kn
    one = torch.tensor([300.0], dtype=F64)
    unit = ran.knudsen[0] / float(transport(cross[1, 1], one, masses[1]).viscosity)
    # one flux through all cells; what they miss it by is independent over a few paths
    parts = [part.mean() for part in np.array_split(seen["heat_flux_x"], 15)]
    flux, error = np.mean(parts), np.std(parts, ddof=1) / 15**0.5
    off = -flux * (x[-1] - x[0]) / (heat * unit) - 1
    note = "helium and argon, scattering tables of three potentials, between walls of .6 "
    note += f"and 1.4; {off:+.4f} +- {error / abs(flux):.4f} over the first approximation"
    record(names[0], abs(off), "", goal=0.02, note=note)
    share = (x - x.mean()) / np.square(x - x.mean()).sum() * (x[-1] - x[0])
    # long waves of the composition live longest: as if all cells erred by one of them
    error = float(np.abs(share * seen["fraction_argon_error"]).sum())
    found = float(argon(x[-1]) - argon(x[0]))
    note = f"fraction of argon {found:+.4f} +- {error:.4f} (at most) from the cold to "
    note += f"the warm end of the middle half, {apart:+.4f} by the first approximation"
    record(names[1], abs(found / apart - 1), "", goal=0.1, note=note)


def measure(run: Callable[..., Any], quick: bool, record: Recorder) -> None:
    """Measure all figures of this file."""
    free_cylinder(record, quick)
    rarefied_cylinder(run, record)
    kosuge(record, quick)
    relaxation(record, quick)
    diffusion(record, quick)
    drift(record, quick)
    parting(run, record)
