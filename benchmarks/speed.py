"""Races: the time that each program takes to a stated error, and what a step costs.

Both sides of a race run in turns on the same threads, each with the settings and the step
that serve it best among those that are named; the middle of several rounds counts. A race
on one thread is in CPU time, one on several in wall time. Peers: :mod:`peers`.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import md  # noqa: E402
from peers import PEERS  # noqa: E402

from scalebridge.engine import runtime  # noqa: E402
from scalebridge.engine.bench import Recorder  # noqa: E402
from scalebridge.engine.gas import exact  # noqa: E402
from scalebridge.engine.gas.boundaries import ALL_PERIODIC  # noqa: E402
from scalebridge.engine.gas.equations.fluid import FluidWorld  # noqa: E402
from scalebridge.engine.gas.equations.state_equation import IdealGas  # noqa: E402
from scalebridge.engine.gas.grid import Grid  # noqa: E402
from scalebridge.engine.gas.kinetic.velocities import Velocities  # noqa: E402
from scalebridge.engine.gas.kinetic.world import KineticWorld  # noqa: E402
from scalebridge.engine.gas.material import Gas  # noqa: E402

F64 = torch.float64
Point = tuple[float, float]
"""Seconds and error of one run."""


# -- time to an error ---------------------------------------------------------------------


def seconds_to(points: Sequence[Point], error: float) -> float:
    """Return the seconds at which a sequence of runs, coarse to fine, reaches an error.

    Between two runs by their power law; infinite where none is as good, and no better
    than the cheapest run where all are.
    """
    before = None
    for seconds, found in points:
        if found <= error:
            if before is None:
                return seconds
            share = math.log(error / before[1]) / math.log(found / before[1])
            return before[0] * (seconds / before[0]) ** share
        before = seconds, found
    return math.inf


def fastest(settings: Mapping[str, Sequence[Point]], error: float) -> tuple[str, float]:
    """Return the setting that reaches an error first, and when.

    Raises:
        RuntimeError: none does: the race has no answer.
    """
    times = {name: seconds_to(points, error) for name, points in settings.items()}
    best = min(times, key=lambda name: times[name])
    if not math.isfinite(times[best]):
        raise RuntimeError(f"error {error:g}: not reached by {', '.join(settings)}")
    return best, times[best]


def middle(rounds: Iterable[Sequence[Point]]) -> list[Point]:
    """Return the runs with the middle of their seconds over the rounds."""
    return [
        (statistics.median(seconds for seconds, _ in runs), runs[0][1])
        for runs in zip(*rounds, strict=True)
    ]


def race(
    ours: Mapping[str, Callable[[int], Point]],
    theirs: Mapping[str, Callable[[int], Point]],
    sizes: Mapping[str, Sequence[int]],
    rounds: int,
) -> tuple[dict[str, list[Point]], dict[str, list[Point]]]:
    """Run all settings of both sides at all their sizes, in turns; the middle of rounds."""
    runs: dict[str, list[list[Point]]] = {name: [] for name in (*ours, *theirs)}
    for _ in range(rounds):
        for name, run in (ours | theirs).items():  # type: ignore[operator]
            runs[name].append([run(n) for n in sizes[name]])
    found = {name: middle(some) for name, some in runs.items()}
    return {n: found[n] for n in ours}, {n: found[n] for n in theirs}


# -- the vortex ---------------------------------------------------------------------------


def vortex(scheme: Any, courant: float, cells: int) -> Point:
    """CPU seconds and mean error of the density of a vortex that crosses its box once.

    ``courant`` is of the sum over the axes. Start and end are means over the cells.
    """
    grid = Grid((cells, cells), (-5.0, -5.0), (5.0, 5.0))

    def averaged(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rho, u, v, p = exact.vortex(x, y, 1.4)
        u, v = u + 1.0, v + 1.0
        return torch.stack([rho, rho * u, rho * v, p / 0.4 + 0.5 * rho * (u * u + v * v)])

    mean = grid.average(averaged, 3)
    rho, velocity = mean[0], torch.stack([mean[1], mean[2]], -1) / mean[0][..., None]
    pressure = 0.4 * (mean[3] - 0.5 * rho * velocity.square().sum(-1))
    world = FluidWorld(
        grid, (ALL_PERIODIC,) * 2, Gas(3), 1, 1e-3, scheme, state_equation=IdealGas(1.4)
    )
    state = world.start(rho[None], velocity[None], pressure[None])
    steps = math.ceil(10.0 / world.stable_step(state, courant))
    world = world.with_time_step(10.0 / steps)
    state = world.start(rho[None], velocity[None], pressure[None])
    world.step(state)  # compiled
    begun = time.process_time()
    for _ in range(steps):
        state = world.step(state)
    seconds = time.process_time() - begun
    return seconds, float((world.inside(state.u)[0, 0] - rho).abs().mean())


def their_vortex(*setting: object) -> Callable[[int], Point]:
    """Return the same of clawpack with a setting of ``peer_scripts/gas.py``."""

    def run(cells: int) -> Point:
        peer = PEERS["gas"]
        script = HERE / "peer_scripts" / "gas.py"
        said = peer.call([peer.python, script, "vortex", cells, *setting])
        seconds, error = (float(word) for word in said.split()[-2:])
        return seconds, error

    return run


def _ours(scheme: str, courants: Sequence[float]) -> dict[str, Callable[[int], Point]]:
    def at(courant: float) -> Callable[[int], Point]:
        return lambda cells: vortex(scheme, courant, cells)

    return {f"{scheme}, Courant number {c:g}": at(c) for c in courants}


VORTEX = {
    "euler_time_to_error_vs_clawpack": (
        *("muscl", (0.6, 0.9), 1e-3, (48, 72, 108, 160)),
        {
            "classic, Courant number 0.9": ("clawpack", 0.9),
            "classic, Courant number 0.7": ("clawpack", 0.7),
        },
        (48, 72, 108, 160),
    ),
    "weno_time_to_error_vs_best_peer": (
        *("weno5", (0.6, 0.9), 2e-4, (32, 48, 64, 96)),
        {
            "SharpClaw, SSP33, 0.5": ("sharpclaw", 0.5, "SSP33"),
            "SharpClaw, SSP33, 0.8": ("sharpclaw", 0.8, "SSP33"),
            "SharpClaw, SSP33, waves, 0.5": ("sharpclaw", 0.5, "SSP33", "waves"),
            "SharpClaw, SSP104, 1": ("sharpclaw", 1.0, "SSP104"),
            "SharpClaw, SSP104, 1.6": ("sharpclaw", 1.6, "SSP104"),
            "classic, Courant number 0.9": ("clawpack", 0.9),
        },
        (32, 48, 64, 96),
    ),
}
"""Scheme, Courant numbers, error and cells of ours; settings and cells of the peer's."""


def vortices(quick: bool, record: Recorder) -> None:
    """Euler's equations: CPU seconds to an error of the density, one thread each."""
    for figure, (scheme, courants, error, cells, settings, others) in VORTEX.items():
        if not record.wants(figure) or not PEERS["gas"].installed():
            continue
        ours = _ours(scheme, courants)
        theirs = {name: their_vortex(*setting) for name, setting in settings.items()}
        sizes = dict.fromkeys(ours, cells) | dict.fromkeys(theirs, others)
        mine, peers = race(ours, theirs, sizes, 1 if quick else 3)
        (my, my_time), (best, time_) = fastest(mine, error), fastest(peers, error)
        record(
            figure, time_ / my_time, "", goal=2.0, better="higher",
            peer={
                "name": f"clawpack, {best}",
                "version": PEERS["gas"].version("clawpack"),
                "value": time_,
            },
            note=f"isentropic vortex, once across its box, to a mean error of the density "
            f"of {error:g}; ours {my}: {my_time:.2f} CPU s, one thread each; "
            f"{_curves(mine | peers)}",
        )  # fmt: skip


def _curves(settings: Mapping[str, Sequence[Point]]) -> str:
    def shown(points: Sequence[Point]) -> str:
        return ", ".join(f"{seconds:.2g} s {error:.2g}" for seconds, error in points)

    return "; ".join(f"{name}: {shown(points)}" for name, points in settings.items())


# -- a rarefied wave ----------------------------------------------------------------------


def wave(cells: int, nodes: int) -> tuple[float, torch.Tensor]:
    """CPU seconds of a wave at Kn 0.1 to t = 0.1, and its density in 50 parts."""
    grid = Grid((cells,), (-0.5,), (0.5,))
    world = KineticWorld(
        grid, (ALL_PERIODIC,), Velocities.symmetric(1, nodes, 8.0), Gas.constant_time(1),
        torch.tensor([0.1]),
    )  # fmt: skip
    x = grid.centers(0)[None]
    rho, t = (1 + 0.5 * torch.sin(2 * math.pi * x + shift) for shift in (0.0, 0.2))
    state = world.equilibrium(rho, torch.zeros(1, cells, 1, dtype=F64), t)
    steps = math.ceil(0.1 / world.time_step)
    world = world.with_time_step(0.1 / steps)
    world.step(state)
    begun = time.process_time()
    density = world.observe(world.advance(state, steps))["density"]
    seconds = time.process_time() - begun
    return seconds, density.reshape(50, -1).mean(1)


def waves(quick: bool, record: Recorder) -> None:
    """A rarefied wave beside bte-pytorch: CPU seconds to an error of the density.

    Each is compared with itself on many cells, since their collision frequencies differ.
    """
    if not record.wants("bgk_time_to_error") or not PEERS["gas"].installed():
        return
    peer, nodes = PEERS["gas"], 40

    def of_peer(cells: int) -> tuple[float, torch.Tensor]:
        script = HERE / "peer_scripts" / "gas.py"
        said = peer.call([peer.python, script, "wave", cells, nodes])
        seconds, density = json.loads(said.splitlines()[-1])
        return seconds, torch.tensor(density, dtype=F64)

    def against_itself(
        run: Callable[[int], tuple[float, torch.Tensor]],
    ) -> Callable[[int], Point]:
        truth = run(1600)[1]

        def error(cells: int) -> Point:
            seconds, density = run(cells)
            return seconds, float((density - truth).abs().mean())

        return error

    theirs = against_itself(of_peer)
    ours = against_itself(lambda cells: wave(cells, nodes))
    cells, error = (50, 100, 200, 400), 1e-4
    sizes = {"ours": cells, "bte-pytorch": cells}
    mine, other = race({"ours": ours}, {"bte-pytorch": theirs}, sizes, 1 if quick else 3)
    (_, my_time), (_, time_) = fastest(mine, error), fastest(other, error)
    record(
        "bgk_time_to_error", time_ / my_time, "", better="higher",
        peer={
            "name": "bte-pytorch",
            "version": peer.version("bte-pytorch"),
            "value": time_,
        },
        note=f"BGK, Kn 0.1, a wave to t = 0.1, {nodes} velocities, to a mean error of the "
        f"density of {error:g} against its own answer on 1,600 cells (the two differ by "
        f".0045: the peer's collision frequency is another one); ours "
        f"{my_time:.3f} CPU s, one thread each; {_curves(mine | other)}",
    )  # fmt: skip


# -- molecular dynamics -------------------------------------------------------------------


def _lammps(style: str, threads: int, steps: int) -> float:
    """Seconds per step of the melt by LAMMPS, ``threads`` MPI ranks or OpenMP threads."""
    command = ["lmp", "-sf", style, "-in", "in.lj"]
    if threads > 1:
        ranks, more = ["mpirun", "-np", str(threads)], ["-pk", "omp", str(threads)]
        command = [*ranks, *command] if style == "opt" else [*command, *more]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in.lj").write_text(md.MELT + f"run {steps}\n")
        log = PEERS["lammps"].call(command, folder, 1 if style == "opt" else threads)
    return min(md.loop_seconds(log))


def _melt(precision: str, threads: int, steps: int) -> float:
    """Seconds per step of the same by ours, in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import md, torch\n"
        "world = md.melt(20, getattr(torch, sys.argv[2]))\n"
        "print(md.step_seconds(world, 60, 1, int(sys.argv[3])))"
    )
    command = [sys.executable, "-c", code, HERE, precision, steps]
    return float(_threaded(command, threads).split()[-1])


def _environment(threads: int) -> dict[str, str]:
    """Variables for ours on so many threads; OpenMP waits as ``engine`` tells it to."""
    names = ("SCALEBRIDGE_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    more = {"OMP_WAIT_POLICY": "PASSIVE"}
    return os.environ | dict.fromkeys(names, str(threads)) | more


def _threaded(command: Sequence[object], threads: int) -> str:
    answer = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=True,
        env=_environment(threads),
    )  # fmt: skip
    return answer.stdout


def _missing() -> str:
    """What the build of LAMMPS lacks, by its own list of packages."""
    said = PEERS["lammps"].call(["lmp", "-h"])
    packages = said.partition("Installed packages:")[2].partition("List of")[0].split()
    names = [name for name in ("INTEL", "KOKKOS", "PYTHON") if name not in packages]
    said = f"the build has no {', '.join(names)}; " if names else ""
    return (
        f"{said}ML-IAP calls an exported potential by PYTHON alone; opt and omp compute in "
        "double precision alone"
    )


def lennard_jones(quick: bool, record: Recorder) -> None:
    """The melt of LAMMPS's benchmark, 32,000 atoms, on one thread and on two."""
    rounds, steps = (1, 40) if quick else (5, 200)
    for threads in (2, 1):
        for name, precision in (("f64", "float64"), ("f32", "float32")):
            figure = f"lj_vs_lammps_{name}" + ("_one_thread" if threads == 1 else "")
            if not record.wants(figure) or not PEERS["lammps"].installed():
                continue
            runs: dict[str, list[float]] = {"ours": [], "opt": [], "omp": []}
            for _ in range(rounds):
                runs["ours"].append(_melt(precision, threads, steps))
                for style in ("opt", "omp"):
                    runs[style].append(_lammps(style, threads, steps))
            middles = {key: statistics.median(some) for key, some in runs.items()}
            best = min(("opt", "omp"), key=lambda style: middles[style])
            record(
                figure, middles[best] / middles["ours"], "", goal=1.0, better="higher",
                peer={
                    "name": f"LAMMPS -sf {best}",
                    "version": PEERS["lammps"].version("lammps"),
                    "value": 1e3 * middles[best],
                },
                note=f"32,000 atoms, {threads} thread{'s'[: threads - 1]} each, wall time "
                f"of whole steps, middle of {rounds} rounds in turns: ours "
                f"{1e3 * middles['ours']:.2f} ms, opt {1e3 * middles['opt']:.2f}, omp "
                f"{1e3 * middles['omp']:.2f}; {_missing()}",
            )  # fmt: skip


def overhead(quick: bool, record: Recorder) -> None:
    """What a step costs apart from its atoms: that of 32 atoms."""
    if record.wants("lj_overhead_ms"):
        code = (
            "import sys, time; sys.path.insert(0, sys.argv[1]); import md, torch\n"
            "world = md.melt(2, torch.float64)\n"
            "print(md.step_seconds(world, 100, 5, 400))\n"
            "print(md.step_seconds(world, 100, 5, 400, time.process_time))"
        )
        said = _threaded([sys.executable, "-c", code, HERE], 1).split()
        wall, processor = (1e3 * float(word) for word in said[-2:])
        record(
            "lj_overhead_ms", processor, "ms", goal=0.5,
            note="CPU time of a whole step of 32 atoms, f64, one thread, lists among it, "
            f"best of five blocks; wall time {wall:.2f}: every loop wakes a thread",
        )  # fmt: skip


def deep_potentials(quick: bool, record: Recorder) -> None:
    """The same form as DeePMD-kit's default, and our default, compressed on both sides."""
    names = {
        "dp_same_form_vs_deepmd_192": ("smooth", 1, 6.0),
        "dp_same_form_vs_deepmd_1536": ("smooth", 2, 8.0),
        "default_vs_deepmd_at_accuracy": ("default", 2, 4.0),
    }
    if not record.wants(*names) or not PEERS["deepmd"].installed():
        return
    peer = PEERS["deepmd"]
    said = {
        "smooth": "of the same form and sizes; time per step of the same form, so the same "
        f"error; {md.floor(F64)}; no gain from sums in blocks that keep their weights in "
        "the first cache, or from tiles of 8 or 9 rows",
        "default": "of our default form, whose error on water is the lower one "
        "(water_force_rmse, water_blocked_vs_deepmd_force_ratio)",
    }
    with tempfile.TemporaryDirectory() as folder:
        md.shared_model(folder)
        for figure, (form, repeat, goal) in names.items():
            if not record.wants(figure):
                continue
            ours, theirs = [], []
            for _ in range(1 if quick else 3):
                ours.append(md.deep_potential(form, F64, repeat, quick))
                theirs.append(md.deepmd_seconds(folder, repeat, quick))
            mine, other = statistics.median(ours), statistics.median(theirs)
            record(
                figure, other / mine, "", goal=goal, better="higher",
                peer={
                    "name": "DeePMD-kit, compressed, in LAMMPS",
                    "version": peer.version("deepmd-kit"),
                    "value": 1e6 * other,
                },
                note=f"water, {192 * repeat**3} atoms, {runtime.threads()} threads each, "
                f"wall time; ours {1e6 * mine:.0f} us per atom and step, an untrained "
                f"network {said[form]}",
            )  # fmt: skip


# -- threads ------------------------------------------------------------------------------


KINDS = "lj", "deep potential", "bgk", "euler"


def work(kind: str) -> Callable[[], None]:
    """Return what one step of a kind of run does."""
    import gas

    world: Any
    if kind in ("lj", "deep potential"):
        world = md.melt(20, F64) if kind == "lj" else md.water_world("smooth", F64, 2)
        start: Any = world.init()
    elif kind == "bgk":
        world, start = gas.plane_world(32, 32)
    else:
        world, start = gas.euler_world(256, "muscl")
    held = [start]

    def step() -> None:
        held[0] = world.step(held[0])

    return step


def pace(kind: str) -> None:
    """Step for as many seconds as each line of the input says; print steps of a second."""
    step = work(kind)
    for _ in range(5):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < float(line):
            step()
            count += 1
        print(count / (time.perf_counter() - begun), flush=True)


Process = subprocess.Popen[str]


def _pacer(kind: str, threads: int) -> Process:
    """Start a process that waits for the first line of :func:`pace`."""
    return subprocess.Popen(
        [sys.executable, __file__, kind], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env=_environment(threads),
    )  # fmt: skip


def _rate(processes: Sequence[Process], seconds: float) -> float:
    """Steps of a second of some processes together, side by side."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{seconds}\n")
        process.stdin.flush()
    return sum(float(_said(process)) for process in processes)


def _said(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def scaling(quick: bool, record: Recorder) -> None:
    """Two threads of one run over two runs of one thread, side by side."""
    if not record.wants("thread_scaling_2"):
        return
    rounds, seconds = (1, 1.0) if quick else (5, 2.0)
    ratios = {}
    for kind in KINDS:
        one, *two = (_pacer(kind, threads) for threads in (2, 1, 1))
        for process in (one, *two):
            _said(process)
        pairs = [(_rate([one], seconds), _rate(two, seconds)) for _ in range(rounds)]
        ratios[kind] = statistics.median(a / b for a, b in pairs)
        for process in (one, *two):
            process.communicate()
    record(
        "thread_scaling_2", min(ratios.values()), "", goal=0.9, better="higher",
        note="two threads over two independent copies of one thread, steps of a second, "
        "middle of rounds in turns; least of "
        + ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in ratios.items()),
    )  # fmt: skip


LANGUAGES = "taichi", "quadrants"


def step_seconds(kind: str, language: str) -> float | None:
    """CPU seconds of a step with the kernels in a language; None where it refuses them."""
    code = (
        "import sys, time; sys.path += sys.argv[1:3]; import speed\n"
        "step = speed.work(sys.argv[3]); begun = time.process_time()\n"
        "while time.process_time() - begun < 2: step()\n"
        "count, begun = 0, time.process_time()\n"
        "while (spent := time.process_time() - begun) < 2: step(); count += 1\n"
        "print(spent / count)"
    )
    packages = next(PEERS["quadrants"].folder.glob("lib/python*/site-packages"))
    answer = subprocess.run(
        [sys.executable, "-c", code, HERE, packages, kind], capture_output=True, text=True,
        env=_environment(1) | {"SCALEBRIDGE_KERNELS": language}, check=False,
    )  # fmt: skip
    return None if answer.returncode else float(answer.stdout.split()[-1])


def languages(quick: bool, record: Recorder) -> None:
    """Whole steps with the kernels in Taichi over those in its fork."""
    if not record.wants("taichi_vs_quadrants") or not PEERS["quadrants"].installed():
        return
    rounds, said, ratios = 1 if quick else 3, [], []
    for kind in KINDS:
        runs: dict[str, list[float]] = {name: [] for name in LANGUAGES}
        for _ in range(rounds):
            for name in LANGUAGES:
                seconds = step_seconds(kind, name)
                runs[name].append(math.inf if seconds is None else seconds)
        ours, other = (statistics.median(runs[name]) for name in LANGUAGES)
        if math.isfinite(other):
            ratios.append(other / ours)
            said.append(f"{kind} {1e3 * ours:.3g} and {1e3 * other:.3g} ms")
        else:
            said.append(f"{kind} {1e3 * ours:.3g} ms and does not compile")
    record(
        "taichi_vs_quadrants", min(ratios), "", better="higher",
        peer={
            "name": "quadrants",
            "version": PEERS["quadrants"].version("quadrants"),
            "value": min(ratios),
        },
        note="CPU time of whole steps, one thread, kernels in the fork over those in "
        f"Taichi, middle of {rounds} rounds in turns; least of " + "; ".join(said),
    )  # fmt: skip


def ranks(quick: bool, record: Recorder) -> None:
    """A gas on two processes over two independent ones."""
    if not record.wants("ranks2_efficiency"):
        return
    import ranks as processes

    found = [processes.beside_copies() for _ in range(1 if quick else 3)]
    values = [alone / together for alone, together in found]
    record(
        "ranks2_efficiency", statistics.median(values), "", goal=0.9, better="higher",
        note="seconds per step of two independent one-process gases side by side over "
        "those of one gas of twice the velocities on two processes (gloo, one thread each)",
    )  # fmt: skip


def plane(quick: bool, record: Recorder) -> None:
    """Bytes that a kinetic step must move, over those of a copy in the same time."""
    if not record.wants("bgk2d_bandwidth_fraction"):
        return
    import gas

    world, state = gas.plane_world(32 if quick else 64, 32)
    cells, repeat = world.grid.cells * world.velocities.count, 3 if quick else 9
    seconds, _ = gas.kinetic_time(world, state, repeat, 6)
    copy = gas.bandwidth()
    record(
        "bgk2d_bandwidth_fraction", cells / seconds * gas.BYTES / copy, "", goal=0.4,
        better="higher",
        note=f"{cells / seconds / 1e6:.0f} M phase cells/s and step (two stages), "
        f"{gas.BYTES} bytes per phase cell must move, copy {copy / 1e9:.1f} GB/s; bound by "
        "instructions: seven tenths of a step move f, at 21 instructions for a phase cell "
        "and stage, in vectors of four numbers, as the compiler of the kernels knows no "
        "wider ones of this processor; no gain from vectors of 4, from one loop for "
        "each sign of the velocity, from strips of cells that fit the cache, from blocks "
        "of 2 or 4 cells along x that load what they share once, from reading the next "
        "cell's rows ahead, from huge pages, or from rows off powers of two",
    )  # fmt: skip


# -- ready for a device -------------------------------------------------------------------


def devices(quick: bool, record: Recorder) -> None:
    """What the fake device sees of every world."""
    if not record.wants("host_syncs_per_step", "fake_device_worlds"):
        return
    import test_devices as fake  # type: ignore[import-not-found]

    waits = {name: float(row.waits) for name, row in fake.EXCEPTIONS.items()}
    gradient, waits["md adjoint"] = waits["md adjoint"], fake.adjoint_waits()
    worst = max(waits, key=lambda name: waits[name])
    inner = {
        n: w for n, w in waits.items() if n.startswith(("md", "euler", "nsf", "kinetic"))
    }
    record(
        "host_syncs_per_step", max(inner.values(), default=0), "", goal=0,
        note="md and gas, between reports and looks at a neighbour list, which are as far "
        "apart as the fastest atom allows"
        + "".join(f"; {name} {count:g}" for name, count in inner.items() if count)
        + f"; a gradient through a trajectory of any length waits {gradient:g} times, for "
        f"its list most of all; of all worlds {waits[worst]:g} ({worst})",
    )  # fmt: skip
    refused = [name for name, row in fake.EXCEPTIONS.items() if row.stage]
    record(
        "fake_device_worlds", len(refused), "worlds that do not pass", goal=0,
        note=", ".join(refused) or "all pass",
    )  # fmt: skip


def memory(quick: bool, record: Recorder) -> None:
    """Resident memory per atom of a running melt."""
    if record.wants("bytes_per_atom"):
        value, note = md.bytes_per_atom()
        record("bytes_per_atom", value, "bytes", goal=500, note=note)


def measure(quick: bool, record: Recorder) -> None:
    """Measure all figures of this file."""
    runtime.start("cpu")
    for part in (
        *(overhead, lennard_jones, deep_potentials, vortices, waves),
        *(scaling, ranks, languages, plane, devices, memory),
    ):
        part(quick, record)


if __name__ == "__main__":
    pace(sys.argv[1])
