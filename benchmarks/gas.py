"""Gas dynamics: errors against exact answers, rates, bandwidth, memory.

Beside other programs: ``speed.py``.
"""

import math
import time
from typing import Any

import torch

from scalebridge.engine.gas import exact
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Sides
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.state_equation import IdealGas
from scalebridge.engine.gas.exact import shock_jump
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.boltzmann import Boltzmann
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.observe import relative_drift

F64 = torch.float64
BYTES = 40
"""Per phase cell and step of the two-stage scheme, f64: read f, write f1; read f and f1,
write f."""


def best(step, repeat: int, inner: int) -> tuple[float, float]:
    """Return the best and the worst time of one step."""
    step(inner)
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        step(inner)
        times.append((time.perf_counter() - begun) / inner)
    return min(times), max(times)


# -- speed ------------------------------------------------------------------------------


def euler_world(n: int, scheme: Any, dtype: torch.dtype = F64):
    """Return a wave of density that drifts along the diagonal of a box, and its start."""
    world = FluidWorld(
        Grid((n, n), (0.0, 0.0), (1.0, 1.0)), (ALL_PERIODIC,) * 2, Gas(3), 1, 0.1 / n,
        scheme, state_equation=IdealGas(1.4), dtype=dtype,
    )  # fmt: skip
    x, y = world.grid.points()
    rho = (1 + 0.2 * torch.sin(2 * math.pi * (x + y)))[None]
    return world, world.start(rho, torch.ones(1, n, n, 2), torch.ones_like(rho))


def fluid_time(n: int, scheme: Any, repeat: int, dtype: torch.dtype = F64):
    world, start = euler_world(n, scheme, dtype)
    state = [start]

    def run(count: int) -> None:
        for _ in range(count):
            state[0] = world.step(state[0])

    return best(run, repeat, 5)


def wave_world(batch: int, nx: int, nv: int, dtype: torch.dtype = F64):
    world = KineticWorld(
        Grid((nx,), (-0.5,), (0.5,)),
        (ALL_PERIODIC,),
        Velocities.symmetric(1, nv, 8.0),
        Gas.constant_time(1),
        torch.logspace(-3, 1, batch, dtype=F64),
        dtype=dtype,
    )
    x, one = world.grid.centers(0), torch.ones(batch, 1, dtype=F64)
    rho = one * (1 + 0.5 * torch.sin(2 * math.pi * x))
    t = one * (1 + 0.5 * torch.sin(2 * math.pi * x + 0.2))
    return world, world.equilibrium(rho, torch.zeros(batch, nx, 1, dtype=F64), t)


def kinetic_time(world, state, repeat: int, inner: int):
    def run(count: int) -> None:
        world.advance(state, count)

    return best(run, repeat, inner)


def plane_world(n: int, nv: int, dtype: torch.dtype = F64):
    world = KineticWorld(
        Grid((n, n), (0.0, 0.0), (1.0, 1.0)),
        (ALL_PERIODIC,) * 2,
        Velocities.symmetric(2, nv, 7.0),
        Gas.constant_time(2),
        torch.tensor([0.1]),
        dtype=dtype,
        in_place=True,
    )
    x, y = world.grid.points()
    rho = (1 + 0.3 * torch.sin(2 * math.pi * (x + y)))[None]
    return world, world.equilibrium(rho, torch.zeros(1, n, n, 2), torch.ones_like(rho))


def bandwidth() -> float:
    """Return the bytes per second of a copy, read and write counted, arrays of 256 MiB."""
    a = torch.ones(1 << 25, dtype=F64)
    b = torch.zeros_like(a)

    def run(count: int) -> None:
        for _ in range(count):
            b.copy_(a)

    return 2 * a.numel() * 8 / best(run, 5, 1)[0]


def speed(quick: bool, record) -> None:
    repeat = 3 if quick else 9
    n = 128 if quick else 256
    for scheme in ("muscl", "weno5"):
        if record.wants(f"{scheme}_rate"):
            ours, slow = fluid_time(n, scheme, repeat)
            record(
                f"{scheme}_rate", n * n / ours / 1e6, "Mcell/s",
                note=f"2D Euler, {n}^2, f64, HLLC; slowest repeat {n * n / slow / 1e6:.2f}",
            )  # fmt: skip


def cost(record) -> None:
    """Record what a step costs against grid, velocities, batch and precision."""
    copy = bandwidth() if record.wants("cost_1d1v", "cost_2d2v") else 0.0
    if record.wants("cost_1d1v"):
        rows = []
        for batch, nx, nv, dtype in (
            (1, 200, 60, F64),
            (16, 200, 60, F64),
            (64, 200, 60, F64),
            (16, 800, 60, F64),
            (16, 200, 120, F64),
            (16, 200, 64, F64),
            (16, 200, 64, torch.float32),
        ):
            ours, _ = kinetic_time(*wave_world(batch, nx, nv, dtype), 3, 10)
            rows.append((f"{batch} x {nx} x {nv}", dtype, batch * nx * nv, ours))
        table(record, "cost_1d1v", "batch x cells x velocities", rows, copy)
    if record.wants("cost_2d2v"):
        rows = []
        for n, nv, dtype in (
            (32, 32, F64),
            (48, 32, F64),
            (32, 48, F64),
            (32, 32, torch.float32),
        ):
            ours, _ = kinetic_time(*plane_world(n, nv, dtype), 3, 2)
            rows.append((f"{n}^2 x {nv}^2", dtype, n * n * nv * nv, ours))
        table(record, "cost_2d2v", "cells x velocities", rows, copy)
    if record.wants("cost_euler"):
        rows = []
        for n, scheme, dtype in (
            (64, "muscl", F64),
            (256, "muscl", F64),
            (512, "muscl", F64),
            (256, "muscl", torch.float32),
            (256, "weno5", F64),
            (256, "weno5", torch.float32),
        ):
            ours, _ = fluid_time(n, scheme, 3, dtype)
            rows.append((f"{scheme} {n}^2", dtype, n * n, ours))
        table(record, "cost_euler", "scheme and cells", rows, 0.0)


def table(record, figure: str, what: str, rows, copy: float) -> None:
    """Record the best rate of (name, dtype, cells, seconds); all of them in the note."""
    parts = []
    for name, dtype, cells, seconds in rows:
        rate = cells / seconds
        part = f"{name} {'f64' if dtype == F64 else 'f32'} {seconds * 1e3:.2f} ms, "
        part += f"{rate / 1e6:.1f} M/s"
        if copy:
            share = rate * BYTES * (1.0 if dtype == F64 else 0.5) / copy
            part += f" ({100 * share:.0f} % of a copy's bandwidth)"
        parts.append(part)
    record(
        figure,
        max(cells / seconds for _, _, cells, seconds in rows) / 1e6,
        "M cells/s",
        better="higher",
        note=f"best; a step by {what}: " + "; ".join(parts) + "; " + BOUNDS[figure],
    )


BOUNDS = {
    "cost_1d1v": "one small problem is bound by two launches and Python, many by Newton's "
    "method, which is paid per cell: doubling the velocities adds little",
    "cost_2d2v": "the cost is that of moving f, see bgk2d_bandwidth_fraction of speed",
    "cost_euler": "small grids are bound by launches and Python: see the first and the "
    "third",
}
"""What the rows show about what a step is bound by."""


def memory(record) -> None:
    """Count the tensors that a run of 2D2V holds, in copies of f."""
    world, state = plane_world(32, 32)
    state = world.step(world.step(state))
    held = {state.f.data_ptr(): state.f.numel()}
    stack = list(world._scratch.values())
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            held[item.data_ptr()] = item.numel()
        elif isinstance(item, tuple):
            stack.extend(item)
    copies = sum(held.values()) / state.f.numel()
    record(
        "copies_of_f",
        copies,
        "",
        goal=2.5,
        note="2D2V, 32^2 nodes: state, first stage, tables of the equilibrium, records; "
        "with in_place = true, as scenarios run it when f is large",
    )


# -- errors -----------------------------------------------------------------------------


def bkw(quick: bool, record) -> None:
    worst = []
    for dimension, nodes, angles, end, steps in ((2, 40, 8, 4.0, 20), (3, 32, 4, 2.0, 5)):
        if quick and dimension == 3:
            continue
        q = Boltzmann(dimension, nodes, 8.0, angles)
        f = exact.bkw(dimension, 0.0, q.velocities.square().sum(-1))
        for step in range(steps):
            f = q.step(f, end / steps)
            m = q.moments(f)
            truth = exact.bkw_moments(dimension, (step + 1) * end / steps)
            worst += [
                abs(float(m["fourth"]) / truth[0] - 1),
                abs(float(m["sixth"]) / truth[1] - 1),
            ]
    record(
        "bkw_error",
        max(worst),
        "",
        goal=1e-3,
        note="relative error of <v^4> and <v^6>, largest over time, 2V 40^2 to t = 4"
        + ("" if quick else ", 3V 32^3 to t = 2"),
    )


def mode_error(k: float, dimension: int, cells: int) -> float:
    """Relative error of the complex frequency of the acoustic mode."""
    grid = Grid((cells,), (0.0,), (2 * math.pi / k,))
    world = KineticWorld(
        grid,
        (ALL_PERIODIC,),
        Velocities.symmetric(1, 64, 7.0),
        Gas.constant_time(dimension),
        torch.ones(1, dtype=F64),
    )
    steps = max(1, math.ceil(1.0 / world.time_step))
    world = world.with_time_step(1.0 / steps)
    growth = exact.acoustic_mode(k, dimension)
    v, x = world.velocities.axis(0), grid.centers(0)
    g1, h1 = exact.acoustic_eigenfunction(k, growth, v, dimension)
    wave = torch.exp(1j * k * x)[:, None]
    bell = torch.exp(-0.5 * v * v) / math.sqrt(2 * math.pi)
    parts = [bell + 1e-5 * (g1 * wave).real]
    if dimension > 1:
        parts.append((dimension - 1) * bell + 1e-5 * (h1 * wave).real)
    state = world.start(torch.stack(parts)[None])
    sizes = []
    for s in (state, world.advance(state, steps)):
        rho = world.observe(s)["density"][0]
        sizes.append(complex((rho * torch.exp(-1j * k * x)).mean()))
    found = complex(torch.log(torch.tensor(sizes[1] / sizes[0])))
    return abs(found - growth) / abs(growth)


def spectrum(quick: bool, record) -> None:
    errors = {
        (k, d): mode_error(k, d, 128 if quick else 192)
        for d in (1, 3)
        for k in (0.1, 0.2, 0.5, 1.0)
    }
    (k, d), worst = max(errors.items(), key=lambda item: item[1])
    record(
        "spectrum_error",
        worst,
        "",
        goal=1e-3,
        note=f"acoustic modes of 1V and 3V BGK, k tau = 0.1 to 1; worst at {k}, {d}V; "
        "thermal and shear modes are in the tests",
    )


def conservation(quick: bool, record) -> None:
    world, state = wave_world(4, 100, 30)
    begun = world.observe(state)
    ended = world.observe(world.advance(state, 200 if quick else 1000))
    drift = max(float(v.max()) for v in relative_drift(ended, begun).values())
    record(
        "conservation_drift",
        drift,
        "",
        goal=1e-12,
        note="relative, mass, momentum, energy, 30 velocities, Kn 1e-3 to 10, "
        + ("200 steps" if quick else "1,000 steps"),
    )


def vortex_error(cells: int, scheme: Any) -> float:
    grid = Grid((cells, cells), (-5.0, -5.0), (5.0, 5.0))
    steps = 12 * cells // 32 if scheme == "muscl" else 14 * (cells // 32) ** 2
    world = FluidWorld(
        grid,
        (ALL_PERIODIC,) * 2,
        Gas(3),
        1,
        1.0 / steps,
        scheme,
        state_equation=IdealGas(1.4),
    )

    def averaged(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rho, u, v, p = exact.vortex(x, y, 1.4)
        return torch.stack([rho, rho * u, rho * v, p / 0.4 + 0.5 * rho * (u * u + v * v)])

    mean = grid.average(averaged, 3)
    rho = mean[0]
    velocity = torch.stack([mean[1] / rho, mean[2] / rho], -1)
    p = 0.4 * (mean[3] - 0.5 * rho * velocity.square().sum(-1))
    state = world.start(rho[None], velocity[None], p[None])
    for _ in range(steps):
        state = world.step(state)
    return float((world.inside(state.u)[0, 0] - rho).abs().mean())


def kinetic_order() -> float:
    """Order in L1 of the density of a wave at Kn = 0.1 against four times as many cells."""
    found = []
    for cells in (256, 64, 32):
        world, state = wave_world(1, cells, 40)
        world = KineticWorld(
            world.grid,
            world.sides,
            world.velocities,
            world.gas,
            torch.tensor([0.1], dtype=F64),
        )
        steps = 3 * cells
        world = world.with_time_step(0.1 / steps)
        found.append(world.observe(world.advance(state, steps))["density"][0])
    errors = [
        float((f - found[0].reshape(len(f), -1).mean(1)).abs().mean()) for f in found[1:]
    ]
    return math.log2(errors[1] / errors[0])


def order(quick: bool, record) -> None:
    orders = {}
    for scheme in ("muscl", "weno5"):
        coarse, fine = (32, 64) if quick else (64, 128)
        orders[scheme] = math.log2(
            vortex_error(coarse, scheme) / vortex_error(fine, scheme)
        )
    orders["kinetic"] = kinetic_order()
    text = ", ".join(f"{name} {value:.2f}" for name, value in orders.items())
    record(
        "order_smooth",
        min(orders.values()),
        "",
        goal=1.9,
        better="higher",
        note=f"least of: {text} (vortex for the fluids, periodic wave at Kn 0.1)",
    )


def inverse_thickness(
    mach: float, cells: int, nodes: int, half: float, end: float
) -> float:
    """Return max(drho/dx) / (rho2 - rho1) in mean free paths ahead; hard spheres, BGK."""
    speed_, rho2, u2, t2 = shock_jump(mach, 5 / 3)
    wide = 5.5 * math.sqrt(t2)
    velocities = Velocities(
        (nodes,), (min(u2 - wide, speed_ - 5.5),), (max(u2 + wide, speed_ + 5.5),)
    )
    ends = Sides(Inflow(1.0, (speed_,), 1.0), Inflow(rho2, (u2,), t2))
    world = KineticWorld(
        Grid((cells,), (-half,), (half,)),
        (ends,),
        velocities,
        Gas.power_law(3, 0.5),
        torch.tensor([5 * math.sqrt(2 * math.pi) / 16], dtype=F64),
    )
    x = world.grid.centers(0)[None]
    share = 0.5 * (1 + torch.tanh(x / (1.5 if mach > 1.5 else 6.0)))
    rho = 1 + (rho2 - 1) * share
    state = world.equilibrium(rho, (speed_ / rho)[..., None], 1 + (t2 - 1) * share)
    state = world.advance(state, math.ceil(end / world.time_step))
    d = world.observe(state)["density"][0]
    slope = (27 * (d[2:-1] - d[1:-2]) - (d[3:] - d[:-3])) / (24 * world.grid.spacing[0])
    i = int(slope.argmax())
    a, b, c = (float(v) for v in slope[i - 1 : i + 2])
    return (b + (c - a) ** 2 / (8 * (2 * b - a - c))) / (rho2 - 1)


SHOCKS = (
    (1.2, 160, 40, 32.0, 120.0),
    (2.0, 240, 48, 14.0, 30.0),
    (5.5, 320, 72, 12.0, 16.0),
    (10.0, 320, 96, 12.0, 10.0),
)
"""Mach number, cells, nodes, half width of the box in mean free paths, time."""


def shock(quick: bool, record) -> None:
    changes, text = [], []
    for mach, cells, nodes, half, end in SHOCKS[1:2] if quick else SHOCKS:
        coarse = inverse_thickness(mach, cells, nodes, half, end)
        fine = inverse_thickness(mach, 2 * cells, 2 * nodes, half, end)
        changes.append(abs(fine / coarse - 1))
        text.append(
            f"Mach {mach}: {coarse:.4f} -> {fine:.4f} ({cells} x {nodes}, box +-{half:g})"
        )
    record(
        "shock_convergence",
        max(changes),
        "",
        goal=0.01,
        note="relative change of the inverse thickness when dx and dv are halved; BGK, "
        "hard spheres (omega 1/2); " + "; ".join(text),
    )


def measure(quick: bool, record) -> None:
    """Measure all figures of the gas benchmark."""
    if record.wants("copies_of_f"):
        memory(record)
    for name, job in (
        ("conservation_drift", conservation),
        ("spectrum_error", spectrum),
        ("order_smooth", order),
        ("bkw_error", bkw),
    ):
        if record.wants(name):
            job(quick, record)
    speed(quick, record)
    cost(record)
    if record.wants("shock_convergence"):
        shock(quick, record)
