"""Variational Monte Carlo: errors within a budget of time, speed of the forward Laplacian.

Budgets are seconds of one core counted from the start of the process: they include the
imports, Hartree-Fock, equilibration, and the frozen evaluation. They are read from the
process's CPU clock, which on a free core is the wall clock; the wall time on the machine
as it was stands in each note. An energy is the run of the median error among its seeds.
"""

import itertools
import json
import math
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
SCENARIOS = HERE.parent / "scenarios"
PEERS = Path(os.environ.get("SCALEBRIDGE_PEERS", HERE / "peers"))
"""Virtual environments ``ferminet`` and ``netket``, each with that package."""
BEFORE = os.environ.get("SCALEBRIDGE_BEFORE")
"""A checkout of an earlier commit with its ``.venv``, measured beside this one."""

GEOMETRIES: dict[str, tuple[list[str], list[list[float]]]] = {
    "H2": (["H", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]]),
    "LiH": (["Li", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 3.015]]),
    "H3+": (["H"] * 3, [[0.0, 0.0, 0.0], [1.65, 0.0, 0.0], [0.825, 1.428942, 0.0]]),
    "N2": (["N", "N"], [[0.0, 0.0, 0.0], [0.0, 0.0, 2.068]]),
    "H2O": (["O", "H", "H"], [[0.0, 0.0, 0.0], [0.0, 1.43, 1.107], [0.0, -1.43, 1.107]]),
    "H4": (["H"] * 4, [[0.0, 0.0, 1.8 * i] for i in range(4)]),
}
PUBLISHED = {"H2O": -76.438}
"""Energies that the engine has no reference for, hartree: H2O from experiment, without
relativity and with resting nuclei, good to 3 millihartree (Luechow, Anderson and Feller,
J. Chem. Phys. 106, 7706 (1997))."""
TRAPS = {"Hooke": 0.5, "Hooke, wide": 0.1, "Hooke, narrow": 10.0}
"""Frequencies of the trap of two electrons, hartree."""
ENERGIES: dict[str, tuple[str, list[tuple[str, float, float | None]]]] = {
    "H": ("H", [("h_error_10s", 10, 0.02)]),
    "He": ("He", [("he_error_30s", 30, 0.3)]),
    "H2": ("H2", [("h2_error_30s", 30, 0.3)]),
    "Hooke": ("Hooke", [("hooke_error_20s", 20, 0.1)]),
    "Hooke, wide": ("Hooke, wide", [("hooke_wide_error_30s", 30, 0.3)]),
    "Hooke, narrow": ("Hooke, narrow", [("hooke_narrow_error_30s", 30, 0.3)]),
    "Li": ("Li", [("li_error_90s", 90, 1.0)]),
    "LiH": ("LiH", [("lih_error_2min", 120, 1.5), ("lih_error_5min", 300, 1.0)]),
    "attention of LiH": ("attention of LiH", [("lih_attention_error_2min", 120, None)]),
    "Be": ("Be", [("be_error_8min", 480, 1.5)]),
    "H4": ("H4", [("h4_error_10min", 600, 2.0)]),
    "B": ("B", [("b_error_15min", 900, 1.5)]),
    "C": ("C", [("c_error_30min", 1800, 5.0)]),
    "N": ("N", [("n_error_30min", 1800, 5.0)]),
    "H2O": ("H2O", [("h2o_error_2h", 7200, None)]),
    "N2": ("N2", [("n2_error_2h", 7200, None)]),
    "ccecp-C": ("ccecp-C", [("ecp_carbon_error_mha", 240, 1.5)]),
    "ccecp-Si": ("ccecp-Si", [("ecp_silicon_error_mha", 240, 1.5)]),
}
"""Name of a system, before it its core potential and another network than that of
messages, and figures: seconds and goal."""
SEEDS = dict.fromkeys(("H", "He", "H2", "LiH", *TRAPS), 5)
"""Runs of which the median counts; one of the systems that take long."""
LATTICES: dict[str, tuple[str, Sequence[int], float, float, float | None]] = {
    "tfim40_relative": ("ising", (40,), 0.0, 60, 1e-4),
    "tfim80_relative": ("ising", (80,), 0.0, 160, 1e-4),
    "heisenberg40_relative": ("heisenberg", (40,), 0.0, 20, 1e-3),
    "j1j2_0.2_relative": ("heisenberg", (4, 4), 0.2, 40, 1e-3),
    "j1j2_0.5_relative": ("heisenberg", (4, 4), 0.5, 40, None),
}
"""Figure -> model, sites along each axis, coupling of second neighbours, seconds, goal."""

RACES: dict[str, tuple[str, str, Any, Sequence[float], str, float]] = {
    "seconds_to_3mha_vs_peer": ("ferminet", "", "LiH", (10, 3, 1), "mHa", 165),
    "he_seconds_to_3mha_vs_peer": ("ferminet", "", "He", (10, 3, 1), "mHa", 90),
    "be_seconds_to_3mha_vs_peer": ("ferminet", "", "Be", (10, 3, 1), "mHa", 165),
    "tfim40_seconds_vs_peer": (
        *("netket", "ising", 40), (1e-3, 3e-4, 1e-4), "relative", 120,
    ),
}  # fmt: skip
"""Figure -> peer, lattice or not, system, levels, their unit, CPU seconds of either."""


ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "SCALEBRIDGE_THREADS"), "1"
)


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a fresh process with one thread, so that the CPU clock starts at zero."""
    answer = subprocess.run(
        [sys.executable, __file__, function.__name__, json.dumps(arguments)],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def _problem(name: str, seed: int = 1) -> Any:
    from scalebridge.engine.jobs.vmc import electrons
    from scalebridge.engine.schema.vmc import SamplingSection
    from scalebridge.engine.vmc.hamiltonian import Trap, molecule
    from scalebridge.models.wavefunctions.attention import AttentionForm
    from scalebridge.models.wavefunctions.determinant import DeterminantForm

    network, _, name = name.rpartition(" of ")
    core, _, nuclei = name.rpartition("-")
    hamiltonian = (
        Trap(TRAPS[name], 1, 1)
        if name in TRAPS
        else molecule(
            *GEOMETRIES.get(nuclei, ([nuclei], [[0.0, 0.0, 0.0]])),
            charge=nuclei.count("+"),
            core=core or None,
        )
    )
    form = AttentionForm() if network == "attention" else DeterminantForm()
    return electrons(hamiltonian, form, SamplingSection(), "f32", seed)


def _prepared(world: Any) -> Any:
    """Return the first state, equilibrated at Hartree-Fock."""
    from scalebridge.engine import runtime
    from scalebridge.engine.vmc.solve import START_STREAM

    return world.init(runtime.generator(world.seed, START_STREAM))


STARTS = ("H2", "LiH", "Be", "H3+", "N2", "H2O")
"""Molecules whose energy before the first step is measured."""


def _measure_start(name: str, sigma: float = 1e-3, seconds: float = 40.0) -> dict[str, Any]:
    """Energy before the first step above Hartree-Fock, until its error is ``sigma``.

    At most ``seconds`` of CPU time are spent; the error reached is part of the answer.
    """
    from scalebridge.engine import runtime
    from scalebridge.engine.vmc.evaluate import evaluate
    from scalebridge.engine.vmc.hartree_fock import BASIS, hartree_fock
    from scalebridge.engine.vmc.optimiser import Spring
    from scalebridge.engine.vmc.world import Vmc

    problem = _problem(name)
    state = _prepared(Vmc(problem, Spring()))
    # the chain is as long as the error before the first step asks for, with a margin
    short = float(state.start[1]) / sigma
    sweeps = max(64, int(1.5 * 25 * short**2))
    rng = runtime.generator(3)
    begun = time.process_time()
    swept = problem.sweep(state.walkers, state.width, rng)
    problem.local_energy(swept.walkers, rng)
    sweeps = max(16, min(sweeps, int(seconds / (time.process_time() - begun))))
    result = evaluate(problem, state.walkers, state.width, rng, sweeps)
    above = result.energy - hartree_fock(problem.hamiltonian, BASIS).energy
    return {
        "above": 1e3 * above,
        "sigma": 1e3 * result.error,
        "basis": BASIS,
        "cpu": time.process_time(),
    }


def _starts(quick: bool, record: Any) -> None:
    if not record.wants("start_above_hf_mha"):
        return
    names = STARTS[:1] if quick else STARTS
    found = {name: _alone(_measure_start, name) for name in names}
    worst = max(found.values(), key=lambda each: each["above"])
    record(
        "start_above_hf_mha",
        worst["above"],
        "millihartree",
        goal=5.0,
        better="lower",
        spread=(worst["above"] - worst["sigma"], worst["above"] + worst["sigma"]),
        note=f"no step of optimisation, above Hartree-Fock in {worst['basis']}; negative: "
        "below it, by the pair factor; 40 s of one core each, so that errors above 1 mHa "
        "are those of larger molecules; "
        + "; ".join(f"{n} {f['above']:.1f}({f['sigma']:.1f})" for n, f in found.items()),
    )


def _measure_energy(name: str, stops: Sequence[float], seed: int) -> list[dict[str, Any]]:
    """Optimise one system and evaluate it at every stop (seconds of this process)."""
    from scalebridge.engine.vmc.optimiser import Spring
    from scalebridge.engine.vmc.world import Vmc

    wall = time.perf_counter()
    world = Vmc(_problem(name, seed), Spring(), seed=seed)
    state = _prepared(world)
    course: list[tuple[float, float]] = []
    results = []
    for stop in stops:
        reserve = 0.2 * stop
        before = time.process_time()
        spent, made = 0.0, 0
        while time.process_time() + spent / max(made, 1) < stop - reserve:
            state = world.step(state)
            course.append((time.process_time(), float(state.energy)))
            spent, made = time.process_time() - before, made + 1
        result = _evaluate_until(world.problem, state, stop)
        exact = _exact(name)
        results.append(
            result
            | {
                "error": 1e3 * (result["energy"] - exact),
                "iterations": len(course),
                "cpu": time.process_time(),
                "wall": time.perf_counter() - wall,
                "reached": _reached(course, exact),
                "curve": _curve(course, exact),
            }
        )
    return results


def _evaluate_until(problem: Any, state: Any, stop: float) -> dict[str, float]:
    from scalebridge.engine import runtime
    from scalebridge.engine.vmc.evaluate import evaluate

    problem = problem.at(state.average)
    begun = time.process_time()
    rng = runtime.generator(2)
    swept = problem.sweep(state.walkers, state.width, rng)
    problem.local_energy(swept.walkers, rng)
    each = time.process_time() - begun
    sweeps = int((stop - time.process_time()) / (1.2 * each))
    rng = runtime.generator(3)
    result = evaluate(problem, swept.walkers, state.width, rng, max(sweeps, 16))
    return {"energy": result.energy, "sigma": result.error, "variance": result.variance}


def _curve(
    course: Sequence[tuple[float, float]], exact: float
) -> list[tuple[float, float]]:
    """Seconds, and the mean error in millihartree of the tenth of the steps before them.

    The last is the end of the course, each before it half as many steps.
    """
    ends = [len(course) // 2**k for k in reversed(range(5))]
    parts = [course[end - max(end // 10, 1) : end] for end in ends if end]
    return [
        (part[-1][0], 1e3 * (sum(energy for _, energy in part) / len(part) - exact))
        for part in parts
    ]


def _reached(course: Sequence[tuple[float, float]], exact: float) -> dict[str, float]:
    """Seconds until the mean of 50 steps first lies within 10, 3 and 1 millihartree."""
    return {str(mha): _seconds_to(mha * 1e-3, course, exact) for mha in (10, 3, 1)}


def _seconds_to(level: float, course: Sequence[tuple[float, float]], exact: float) -> float:
    """Seconds until the mean of 50 steps first lies within ``level`` of ``exact``."""
    for end in range(50, len(course) + 1):
        mean = sum(energy for _, energy in course[end - 50 : end]) / 50
        if abs(mean - exact) < level:
            return course[end - 1][0]
    return math.nan


def _exact(name: str) -> float:
    key = {"H4": "h4_chain_1.8"}.get(name, name)
    if name in PUBLISHED:
        return PUBLISHED[name]
    if key != name or "-" in name:
        return _reference(key)
    return float(_problem(name).exact)


def _reference(key: str) -> float:
    path = SCENARIOS / "data" / "vmc_references.json"
    return float(json.loads(path.read_text())[key]["energy"])


def _energies(quick: bool, record: Any) -> None:
    for name, figures in ENERGIES.values():
        wanted = [f for f in figures if record.wants(f[0])]
        if not wanted or (quick and name not in ("H", "He")):
            continue
        stops = [seconds for _, seconds, _ in wanted]
        seeds = range(1, 1 + (1 if quick else SEEDS.get(name, 1)))
        runs = [_alone(_measure_energy, name, stops, seed) for seed in seeds]
        for (figure, seconds, goal), *results in zip(wanted, *runs, strict=True):
            ordered = sorted(results, key=lambda run: abs(run["error"]))
            result = ordered[len(ordered) // 2]
            error, sigma = result["error"], 1e3 * result["sigma"]
            every = ", ".join(f"{run['error']:.3g}" for run in ordered)
            record(
                figure,
                abs(error),
                "millihartree",
                goal=goal,
                better="lower",
                spread=(error - sigma, error + sigma),
                note=f"median of {len(ordered)} seeds ({every}), its sigma {sigma:.3g}; "
                f"{result['iterations']} "
                f"steps in a budget of {seconds:g} s of one core ({result['cpu']:.0f} s "
                f"used, {result['wall']:.0f} s of wall time on a shared machine); variance "
                f"{result['variance']:.2g}; seconds to 10, 3, 1 mHa: "
                + ", ".join(f"{result['reached'][k]:.0f}" for k in ("10", "3", "1"))
                + "; mean error by seconds: "
                + ", ".join(f"{error:.3g} ({at:.0f})" for at, error in result["curve"]),
            )


def _lattice_world(kind: str, shape: Sequence[int], second: float = 0.0) -> Any:
    from scalebridge.engine.vmc.lattice import Heisenberg, Ising
    from scalebridge.engine.vmc.optimiser import Spring
    from scalebridge.engine.vmc.parameters import Flat
    from scalebridge.engine.vmc.spins import Spins
    from scalebridge.engine.vmc.world import Vmc
    from scalebridge.models.wavefunctions.rbm import SymmetricRbm

    sides = tuple(shape)
    lattice = Ising(sides) if kind == "ising" else Heisenberg(sides, second)
    filters = 8 if second else 4 if kind == "ising" else 2
    problem = Spins(lattice, Flat(SymmetricRbm(sides, filters, 1)))
    reach = 0.01 if second else 0.1
    spring = Spring(momentum=0.9, ramp=50, max_norm=reach, decay=500.0, clip=0.0)
    return Vmc(problem, spring, 1024)


def _measure_lattice(
    kind: str, shape: Sequence[int], second: float, stop: float
) -> dict[str, float]:
    from scalebridge.engine import runtime

    wall = time.perf_counter()
    world = _lattice_world(kind, shape, second)
    problem = world.problem
    state = world.init(runtime.generator(1))
    while time.process_time() < 0.75 * stop:
        state = world.step(state)
    result = _evaluate_until(problem, state, stop)
    exact = problem.exact
    assert exact is not None
    return result | {
        "relative": (result["energy"] - exact) / abs(exact),
        "relative_sigma": result["sigma"] / abs(exact),
        "iterations": int(state.step),
        "cpu": time.process_time(),
        "wall": time.perf_counter() - wall,
    }


def _lattices(quick: bool, record: Any) -> None:
    for figure, (kind, shape, second, seconds, goal) in LATTICES.items():
        if not record.wants(figure):
            continue
        budget = seconds / 6 if quick else seconds
        result = _alone(_measure_lattice, kind, shape, second, budget)
        error, sigma = result["relative"], result["relative_sigma"]
        record(
            figure,
            abs(error),
            "relative",
            goal=goal,
            better="lower",
            spread=(error - sigma, error + sigma),
            note=f"{result['iterations']} steps in a budget of {budget:g} s of one core "
            f"({result['wall']:.0f} s of wall time on a shared machine)",
        )


def _best_seconds(function: Callable[[], object]) -> float:
    """CPU seconds of a call, the best of five."""
    best = math.inf
    for _ in range(5):
        begun = time.process_time()
        function()
        best = min(best, time.process_time() - begun)
    return best


def _measure_laplacian() -> dict[str, float]:
    from scalebridge.models.wavefunctions import jet

    problem = _problem("LiH")
    psi = problem.psi
    r = problem.start(512, torch.Generator().manual_seed(1))

    def log(flat: torch.Tensor) -> torch.Tensor:
        return psi(flat.view(1, 4, 3))[1][0]

    def hessian(flat: torch.Tensor) -> torch.Tensor:
        return torch.func.hessian(log)(flat).diagonal().sum()

    each = torch.func.vmap(hessian)
    with torch.no_grad():
        ours = _best_seconds(lambda: [psi(jet.coordinates(p)) for p in r.split(128)])
    full = _best_seconds(lambda: [each(part) for part in r.flatten(1).split(128)])
    return {"ours": ours, "hessian": full}


def _laplacian(record: Any) -> None:
    if not record.wants("laplacian_speedup"):
        return
    found = _alone(_measure_laplacian)
    record(
        "laplacian_speedup",
        found["hessian"] / found["ours"],
        "times",
        goal=3.0,
        better="higher",
        note=f"LiH, 512 walkers, f32, one core: {1e3 * found['ours']:.0f} ms, gradient "
        f"included, against {1e3 * found['hessian']:.0f} ms of torch.func.hessian",
    )


def _measure_iteration(name: str) -> dict[str, float]:
    """Milliseconds of the parts of one step, the best of five."""
    from scalebridge.engine import runtime
    from scalebridge.engine.vmc.optimiser import Spring
    from scalebridge.engine.vmc.world import Vmc

    problem = _problem(name)
    world = Vmc(problem, Spring())
    state = world.init(runtime.generator(1))
    rng = runtime.generator(2)
    energy = problem.local_energy(state.walkers, rng)
    scores = problem.scores(state.walkers)
    parts: dict[str, Callable[[], object]] = {
        "sampling": lambda: problem.sweep(state.walkers, state.width, rng),
        "energy": lambda: problem.local_energy(state.walkers, rng),
        "scores": lambda: problem.scores(state.walkers),
        "optimiser": lambda: world.optimiser.update(scores, energy, state.memory, 10),
        "step": lambda: world.step(state),
    }
    return {part: 1e3 * _best_seconds(function) for part, function in parts.items()}


def _iteration_before(name: str) -> dict[str, float]:
    """Return :func:`_measure_iteration` of the earlier checkout."""
    assert BEFORE is not None
    root = Path(BEFORE)
    script = str(root / "benchmarks" / "vmc.py")
    answer = subprocess.run(
        [root / ".venv/bin/python", script, "_measure_iteration", json.dumps([name])],
        cwd=root,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def _commit(root: str) -> str:
    words = ["git", "-C", root, "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def _iteration(record: Any) -> None:
    """Milliseconds of a step; with an earlier checkout in turns, the best of two each."""
    for name in ("He", "LiH", "Be"):
        figure = f"{name.lower()}_iteration_ms"
        if not record.wants(figure):
            continue
        ours, theirs = [], []
        for _ in range(2 if BEFORE else 1):
            ours.append(_alone(_measure_iteration, name))
            if BEFORE:
                theirs.append(_iteration_before(name))
        found = min(ours, key=lambda each: each["step"])
        beside, goal = "", None
        if BEFORE:
            old = min(each["step"] for each in theirs)
            goal = 0.5 * old
            beside = f"; in turns with commit {_commit(BEFORE)}: {old:.0f}"
        record(
            figure,
            found.pop("step"),
            "ms",
            goal=goal,
            better="lower",
            note="512 walkers, one core, CPU time; of it "
            + ", ".join(f"{part} {value:.0f}" for part, value in found.items())
            + beside,
        )


def _measure_forces(quick: bool) -> list[tuple[float, float, float, float]]:
    """Force along the bond of H2 and of LiH: distance, force, sigma, reference."""
    from scalebridge.engine.vmc.hamiltonian import molecule
    from scalebridge.engine.vmc.labeler import default_solver

    solver = default_solver()
    known: list[Any] = []
    rows = []
    for distance in (1.0, 1.4, 2.0)[: 1 if quick else 3]:
        where = [[0.0, 0.0, 0.0], [0.0, 0.0, distance]]
        solution, result = solver.solve(molecule(["H", "H"], where), known)
        known.append(solution)
        forces = result.forces
        assert forces is not None
        expected = _full_ci_force(distance)
        for nucleus, sign in ((0, -1.0), (1, 1.0)):
            for axis in range(3):
                rows.append(
                    (
                        distance,
                        float(forces.value[nucleus, axis]),
                        float(forces.error[nucleus, axis]),
                        sign * expected if axis == 2 else 0.0,
                    )
                )
    return rows


def _full_ci_force(distance: float, basis: str = "cc-pv5z", step: float = 0.02) -> float:
    """``- dE / dR`` of H2 by central differences of full CI energies (PySCF).

    For two electrons coupled cluster with doubles is full CI, and much cheaper.
    """
    from pyscf import cc, gto, scf

    def energy(apart: float) -> float:
        mole = gto.M(atom=f"H 0 0 0; H 0 0 {apart}", unit="bohr", basis=basis, verbose=0)
        field = scf.RHF(mole).run(conv_tol=1e-11)
        return float(cc.CCSD(field).run(conv_tol=1e-10, max_cycle=200).e_tot)

    return -(energy(distance + step) - energy(distance - step)) / (2 * step)


def _forces(quick: bool, record: Any) -> None:
    if not record.wants("force_z_max"):
        return
    rows = _alone(_measure_forces, quick)
    worst = max(rows, key=lambda row: abs(row[1] - row[3]) / row[2])
    record(
        "force_z_max",
        max(abs(force - wanted) / sigma for _, force, sigma, wanted in rows),
        "sigma",
        goal=3.0,
        better="lower",
        note=f"{len(rows)} components, H2 at 1.0, 1.4, 2.0 bohr, against full CI cc-pV5Z; "
        f"largest sigma {max(row[2] for row in rows):.2g} hartree/bohr, worst at "
        f"{worst[0]:g} bohr: {worst[1]:.5f} against {worst[3]:.5f}",
    )


def _measure_excited(stop: float) -> dict[str, float]:
    """Energy of the first excited state of H2, above a ground state of the same process."""
    from scalebridge.engine import runtime
    from scalebridge.engine.jobs.vmc import electrons
    from scalebridge.engine.schema.vmc import SamplingSection
    from scalebridge.engine.vmc.excited import Lifted, Lower
    from scalebridge.engine.vmc.optimiser import Spring
    from scalebridge.engine.vmc.world import Vmc
    from scalebridge.models.wavefunctions.determinant import DeterminantForm

    ground = Vmc(_problem("H2"), Spring(), 256)
    state = _prepared(ground)
    while time.process_time() < 0.2 * stop:
        state = ground.step(state)
    below, rng = ground.problem.at(state.average), runtime.generator(4)
    lower = Lower.sampled(below, state.walkers, state.width, rng)
    form, molecule = DeterminantForm(orbitals="none"), below.hamiltonian
    fresh = electrons(molecule, form, SamplingSection(), "f32", 2)
    problem = Lifted(molecule, fresh.flat, lower=(lower,), penalty=1.0)
    world = Vmc(problem, Spring(), 256)
    state = _prepared(world)
    while time.process_time() < 0.8 * stop:
        state = world.step(state)
    result = _evaluate_until(problem, state, stop)
    found = problem.at(state.average)
    return result | {
        "overlap": float(found.overlaps(state.walkers, rng)),
        "iterations": int(state.step),
        "cpu": time.process_time(),
    }


def _excited(quick: bool, record: Any) -> None:
    if quick or not record.wants("h2_excited_error_mha"):
        return
    seconds = 120.0
    result = _alone(_measure_excited, seconds)
    error = 1e3 * (result["energy"] - _reference("h2_triplet_1.4"))
    sigma = 1e3 * result["sigma"]
    record(
        "h2_excited_error_mha",
        abs(error),
        "millihartree",
        goal=3.0,
        better="lower",
        spread=(error - sigma, error + sigma),
        note="first excited state of H2 at 1.4 bohr (the triplet, found among states of no "
        f"magnetisation by a penalty of 1 hartree) against full CI at the basis limit; "
        f"{result['iterations']} steps in a budget of {seconds:g} s of one core, ground "
        f"state included ({result['cpu']:.0f} s used); squared overlap with the ground "
        f"state {result['overlap']:.2g}; variance {result['variance']:.2g}",
    )


GAS_CORRELATION = -0.5316
"""Hartree, of 14 electrons at rs = 1, +- 0.0004, by FCIQMC extrapolated in the basis
(Shepherd, Booth, Alavi, J. Chem. Phys. 136, 244101 (2012))."""


def _measure_gas(stop: float, form: str, walkers: int) -> dict[str, float]:
    """Energy of fourteen electrons in a periodic cell at rs = 1."""
    from scalebridge.engine.jobs.vmc import electrons
    from scalebridge.engine.schema.vmc import SamplingSection
    from scalebridge.engine.vmc.electron_gas import ElectronGas
    from scalebridge.engine.vmc.optimiser import Spring
    from scalebridge.engine.vmc.world import Vmc
    from scalebridge.models.wavefunctions import WAVEFUNCTIONS

    gas = ElectronGas(1.0)
    problem = electrons(gas, WAVEFUNCTIONS[form](), SamplingSection(), "f32", 1)
    world = Vmc(problem, Spring(), walkers)
    state = _prepared(world)
    while time.process_time() < 0.85 * stop:
        state = world.step(state)
    result = _evaluate_until(problem, state, stop)
    return result | {
        "mean_field": gas.mean_field, "electrons": gas.electrons,
        "iterations": int(state.step), "cpu": time.process_time(),
    }  # fmt: skip


def _gas(quick: bool, record: Any) -> None:
    for form, seconds, walkers, goal in (
        ("slater_jastrow", 300.0, 512, None), ("determinant", 1800.0, 256, 1.0),
    ):  # fmt: skip
        figure = f"electron_gas_{form}_error_mha"
        if quick or not record.wants(figure):
            continue
        result = _alone(_measure_gas, seconds, form, walkers)
        each = 1e3 / result["electrons"]
        known = result["mean_field"] + GAS_CORRELATION
        error, sigma = each * (result["energy"] - known), each * result["sigma"]
        found = (result["energy"] - result["mean_field"]) / GAS_CORRELATION
        record(
            figure, abs(error), "millihartree per electron", goal=goal, better="lower",
            spread=(error - sigma, error + sigma),
            note=f"14 electrons at rs = 1, {found:.1%} of the correlation energy; "
            f"{result['iterations']} steps of {walkers} walkers, {seconds:g} s of one core "
            f"({result['cpu']:.0f} s used); variance {result['variance']:.2g}",
        )  # fmt: skip


FROZEN = ("He", "LiH")
"""Systems whose first wavefunction is measured by many independent chains."""


def _measure_chains(name: str, chains: int, walkers: int, sweeps: int) -> list[list[float]]:
    """Energies and claimed errors of chains that share nothing but the wavefunction."""
    from scalebridge.engine import runtime
    from scalebridge.engine.vmc.evaluate import evaluate
    from scalebridge.engine.vmc.optimiser import Spring
    from scalebridge.engine.vmc.world import Vmc

    world, rows = Vmc(_problem(name), Spring(), walkers), []
    for chain in range(chains):
        state = world.init(runtime.generator(chain + 1))
        rng = runtime.generator(chain + 1, 1)
        result = evaluate(world.problem, state.walkers, state.width, rng, sweeps)
        rows.append([result.energy, result.error])
    return rows


def _error_bars(quick: bool, record: Any) -> None:
    if not record.wants("error_bar_ratio"):
        return
    chains, walkers, sweeps = (8 if quick else 32), 64, 32
    squares, told = [], []
    for name in FROZEN:
        rows = _alone(_measure_chains, name, chains, walkers, sweeps)
        mean = sum(energy for energy, _ in rows) / chains
        spread = sum((energy - mean) ** 2 for energy, _ in rows) / (chains - 1)
        claimed = sum(error**2 for _, error in rows) / chains
        squares.append(spread / claimed)
        told.append(f"{name} {1e3 * spread**0.5:.3g} over {1e3 * claimed**0.5:.3g} mHa")
    ratio = math.sqrt(sum(squares) / len(squares))
    sigma = ratio / math.sqrt(2 * len(FROZEN) * (chains - 1))
    record(
        "error_bar_ratio",
        max(ratio, 1 / ratio),
        "ratio",
        goal=1.25,
        better="lower",
        note=f"spread of {len(FROZEN) * chains} independent chains of a frozen "
        f"wavefunction over their claimed error, pooled: {ratio:.3f} +- {sigma:.3f} (or "
        f"its inverse, whichever is larger): {', '.join(told)}; {walkers} walkers, "
        f"{sweeps} sweeps each",
    )


def _measure_scan(name: str) -> dict[str, Any]:
    from scalebridge.engine.jobs.vmc import assemble
    from scalebridge.engine.schema.vmc import VmcScanScenario
    from scalebridge.engine.vmc.scan import Scan

    data = tomllib.loads((SCENARIOS / f"{name}.toml").read_text())
    scenario = VmcScanScenario(**data)
    scan = assemble(scenario, SCENARIOS)
    assert isinstance(scan, Scan)
    known: list[Any] = []
    rows = []
    columns = (scan.molecules, scan.coordinates, scan.references, scan.ccsd_t)
    for molecule, coordinate, reference, ccsd_t in zip(*columns, strict=True):
        solution, result = scan.solver.solve(molecule, known)
        known.append(solution)
        rows.append((coordinate, result.energy, result.error, reference, ccsd_t))
    return {"rows": rows, "cpu": time.process_time()}


def _curves(quick: bool, record: Any) -> None:
    if quick:
        return
    if record.wants("h2_curve_max_error"):
        found = _alone(_measure_scan, "vmc_h2_curve")
        errors = [(abs(e - ref), s, x) for x, e, s, ref, _ in found["rows"]]
        worst, sigma, where = max(errors)
        record(
            "h2_curve_max_error",
            1e3 * worst,
            "millihartree",
            goal=1.6,
            better="lower",
            note=f"{len(errors)} distances, worst at {where:g} bohr, sigma there "
            f"{1e3 * sigma:.2g}; {found['cpu']:.0f} s of one core in all",
        )
    if record.wants("h4_square_vs_ccsdt"):
        found = _alone(_measure_scan, "vmc_h4_square")
        ours = max(abs(e - ref) for _, e, _, ref, _ in found["rows"])
        theirs = max(abs(cc - ref) for _, _, _, ref, cc in found["rows"])
        record(
            "h4_square_vs_ccsdt",
            ours / theirs,
            "ratio",
            goal=1.0,
            better="lower",
            note=f"largest error of VMC {1e3 * ours:.2g} mHa, of CCSD(T) "
            f"{1e3 * theirs:.2g} mHa; {found['cpu']:.0f} s of one core in all",
        )


def _measure_course(kind: str, what: Any, seconds: float) -> list[tuple[float, float]]:
    """CPU time and energy of every step of ``seconds``."""
    from scalebridge.engine import runtime
    from scalebridge.engine.vmc.optimiser import Spring
    from scalebridge.engine.vmc.world import Vmc

    if kind == "ising":
        world = _lattice_world(kind, (what,))
        state = world.init(runtime.generator(1))
    else:
        world = Vmc(_problem(what), Spring())
        state = _prepared(world)
    course: list[tuple[float, float]] = []
    while not course or course[-1][0] < seconds:
        state = world.step(state)
        course.append((time.process_time(), float(state.energy)))
    return course


def _settled(level: float, course: Sequence[tuple[float, float]], exact: float) -> float:
    """Seconds after which means of 200 later steps all lie within ``level`` of exact."""
    sums = [0.0, *itertools.accumulate(energy for _, energy in course)]
    means = [(b - a) / 200 for a, b in zip(sums, sums[200:], strict=False)]
    near = [abs(mean - exact) < level for mean in means]
    count = next((k for k, good in enumerate(reversed(near)) if not good), len(near))
    return course[len(near) - count][0] if count else math.nan


def _start_peer(peer: str, what: Any, seconds: float) -> subprocess.Popen[str] | None:
    """Start the same for a peer, which pins itself to one core; None if not installed."""
    python = PEERS / peer / "bin" / "python"
    if not python.exists():
        return None
    script = str(HERE / "peer_scripts" / "vmc.py")
    words = [str(word) for word in (peer, what, seconds)]
    return subprocess.Popen(
        [str(python), script, *words], stdout=subprocess.PIPE, text=True
    )


def _peer_version(peer: str) -> str:
    code = f"import importlib.metadata as m; print(m.version('{peer}'))"
    python = str(PEERS / peer / "bin" / "python")
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return answer.stdout.strip() or "as checked out"


def _beside_peers(quick: bool, record: Any) -> None:
    """Seconds of one core until the energy is near the exact one, ours and a peer's."""
    for figure, (peer, kind, what, levels, unit, seconds) in RACES.items():
        if quick or not record.wants(figure):
            continue
        exact = float(
            (_lattice_world(kind, (what,)).problem if kind else _problem(what)).exact
        )
        scale = abs(exact) if kind else 1e-3
        running = _start_peer(peer, what, seconds)
        if running is None:
            continue
        ours = _alone(_measure_course, kind, what, seconds)
        said = running.communicate()[0]
        if running.returncode:
            print(f"{figure}: {peer} failed", file=sys.stderr)
            continue
        theirs = json.loads(said.splitlines()[-1])
        times = [
            [_settled(level * scale, course, exact) for level in levels]
            for course in (ours, theirs)
        ]
        middle = len(levels) // 2
        if all(math.isnan(row[middle]) for row in times):
            continue
        # Who did not arrive is counted with all its time: the ratio is then a bound.
        mine, other = (
            course[-1][0] if math.isnan(row[middle]) else row[middle]
            for row, course in zip(times, (ours, theirs), strict=True)
        )
        note = (
            f"{what}, both at the same time on a core each, {seconds:g} CPU seconds; "
            "seconds from the start of the process (imports, compilation and pretraining "
            "included) after which all means of 200 steps stay within "
            f"{', '.join(f'{x:g}' for x in levels)} {unit}: "
            + "; ".join(
                f"{name} {', '.join(f'{x:.0f}' for x in row)} (first step at "
                f"{course[0][0]:.0f}, {_per_step(course):.0f} ms per step)"
                for name, row, course in zip(
                    ("ours", peer), times, (ours, theirs), strict=True
                )
            )
            + f"; the figure is of {levels[middle]:g} {unit} (nan: not reached, counted "
            "with all its time); the settings of the peer are those of "
            "benchmarks/peer_scripts/vmc.py, not tuned"
        )
        begun = [course[0][0] - 1e-3 * _per_step(course) for course in (ours, theirs)]
        for name, my_time, its_time in (
            (figure, mine, other),
            (f"{figure}_started", mine - begun[0], other - begun[1]),
        ):
            record(
                name,
                its_time / my_time,
                "times faster",
                goal=1.0 if kind else 1.5,
                better="higher",
                peer={"name": peer, "version": _peer_version(peer), "value": its_time},
                note=note if name == figure else f"from before the first step on; {note}",
            )


def _per_step(course: Sequence[tuple[float, float]]) -> float:
    return 1e3 * (course[-1][0] - course[0][0]) / max(len(course) - 1, 1)


def _below_exact(record: Any) -> None:
    """How far, in sigma, any energy measured so far lies below the exact one."""
    if not record.wants("below_exact_sigma"):
        return
    figures = json.loads(record.path.read_text())["figures"] if record.path.exists() else {}
    known = [f[0] for _, group in ENERGIES.values() for f in group] + list(LATTICES)
    worst, count = -math.inf, 0
    for name in known:
        low, high = figures.get(name, {}).get("spread", (0.0, 0.0))
        if high > low:
            worst, count = max(worst, -(low + high) / (high - low)), count + 1
    if count:
        record(
            "below_exact_sigma",
            worst,
            "sigma",
            goal=3.0,
            better="lower",
            note=f"the lowest of {count} energies; negative: all lie above the exact ones",
        )


def measure(quick: bool, record: Any) -> None:
    """Measure all figures, the short ones first."""
    _laplacian(record)
    _starts(quick, record)
    _lattices(quick, record)
    _energies(quick, record)
    _error_bars(quick, record)
    _excited(quick, record)
    _gas(quick, record)
    _forces(quick, record)
    _curves(quick, record)
    _iteration(record)
    _beside_peers(quick, record)
    _below_exact(record)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*json.loads(sys.argv[2]))))
