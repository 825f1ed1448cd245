"""Molecular dynamics beside its peers: LAMMPS, vesin, and DeePMD-kit inside LAMMPS.

Peers are installed by ``peers.py``. Both sides run on the same threads, whole steps
including neighbour lists, best of several blocks.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from scalebridge.engine import runtime
from scalebridge.engine.bench import Recorder, load
from scalebridge.engine.jobs import assemble
from scalebridge.engine.md.classical import LennardJones, plain
from scalebridge.engine.md.compressed import CompressedPotential, agreeing
from scalebridge.engine.md.integrators import Verlet
from scalebridge.engine.md.learned import LearnedPotential
from scalebridge.engine.md.neighbours import Layout, build_neighbours
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.units import REDUCED
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.engine.protocols import Figure
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.models.potentials.deep_potential import HigherMoments, SmoothEdition

sys.path.append(str(Path(__file__).resolve().parent))

import peers

DEEPMD = peers.PEERS["deepmd"]

MELT = """
lattice fcc 0.8442
region box block 0 20 0 20 0 20
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
neighbor 0.3 bin
neigh_modify delay 0 every 20 check no
fix 1 all nve
thermo 1000
run 60
"""

WATER = """
units metal
boundary p p p
atom_style atomic
neighbor 2.0 bin
neigh_modify every 10 delay 0 check no
read_data water.data
mass 1 15.999
mass 2 1.008
pair_style deepmd model.pb
pair_coeff * *
velocity all create 330.0 23456789
fix 1 all nve
timestep 0.0005
thermo 1000
run 5
"""


# -- peers --------------------------------------------------------------------------------


def loop_seconds(log: str) -> list[float]:
    """Return seconds per step of every run in a LAMMPS log but the first."""
    found = re.findall(r"Loop time of ([0-9.e+-]+) on .* for (\d+) steps", log)
    return [float(seconds) / int(steps) for seconds, steps in found][1:]


# -- ours ---------------------------------------------------------------------------------


def melt(cells: int, dtype: torch.dtype, skin: float = 0.5) -> MolecularDynamics:
    """Return the Lennard-Jones melt of LAMMPS's benchmark; totals at reports, as there."""
    atoms = bulk("Ar", "fcc", a=(4 / 0.8442) ** (1 / 3), cubic=True).repeat(cells)
    atoms.set_masses(np.ones(len(atoms)))
    start = from_atoms(atoms, ("Ar",), seed=1, dtype=dtype)
    potential = LennardJones((1.0,), (1.0,), 2.5, ("Ar",), plain)
    return MolecularDynamics(
        potential, Verlet(), start, 0.005, (1.44,), skin, REDUCED, totals_every=1000
    )


def step_seconds(
    world: MolecularDynamics,
    warm: int,
    blocks: int,
    steps: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the best seconds per whole step over several blocks."""
    state, best = world.init(), float("inf")
    for _ in range(warm):
        state = world.step(state)
    for _ in range(blocks):
        begun = clock()
        for _ in range(steps):
            state = world.step(state)
        best = min(best, (clock() - begun) / steps)
    return best


def best_of(call: Callable[[], object], repeats: int) -> float:
    """Return the best wall time of a call."""
    call()
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begun)
    return best


def lennard_jones(record: Recorder, quick: bool) -> None:
    """Throughput of the melt of 32,000 atoms; beside LAMMPS: ``speed.py``."""
    blocks, steps = (2, 20) if quick else (5, 100)
    for name, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        ours = step_seconds(melt(20, dtype), 60, blocks, steps)
        record(f"lj_ms_per_step_{name}", 1e3 * ours, "ms", note="32,000 atoms")


def neighbours(record: Recorder, quick: bool) -> None:
    """Full lists of 32,000 disordered atoms within 2.8: vesin's time over ours."""
    from vesin import NeighborList

    world, generator = melt(20, torch.float64), torch.Generator().manual_seed(0)
    runtime.start("cpu")
    noise = torch.randn(world.start.positions.shape, generator=generator).double()
    x = world.start.positions + 0.1 * noise
    state = replace(world.start, positions=x, anchor=x)
    layout, repeats = Layout.of(state.system, 1), 3 if quick else 12
    ours = best_of(lambda: build_neighbours(state, 2.5, 0.3, layout).rows, repeats)
    points, box = x.numpy(), state.cell[0].numpy()
    search = NeighborList(cutoff=2.8, full_list=True)
    theirs = best_of(
        lambda: search.compute(points=points, box=box, periodic=True, quantities="ijS"),
        repeats,
    )
    record(
        "neighbours_vs_vesin", theirs / ours, "", goal=1.0, better="higher",
        peer={"name": "vesin", "value": 1e3 * theirs, "version": _version("vesin")},
        note=f"ours {1e3 * ours:.1f} ms, full lists with all shifts",
    )  # fmt: skip


def _version(package: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(package)


def sizes(record: Recorder, quick: bool) -> None:
    """Time of a step per atom and memory, from a thousand atoms to a million."""
    for cells in (6, 14, 30) if quick else (6, 14, 30, 63):
        atoms = 4 * cells**3
        code = (
            "import sys, resource; sys.path.insert(0, sys.argv[1]); import md, torch\n"
            "world = md.melt(int(sys.argv[2]), torch.float64)\n"
            "steps = max(4, 200_000 // world.start.atoms)\n"
            "print(md.step_seconds(world, 20, 3, steps),\n"
            "    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(cells)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, kilobytes = (float(word) for word in answer.stdout.split()[-2:])
        record(
            f"lj_us_per_atom_{atoms}", 1e6 * seconds / atoms, "us",
            note=f"Lennard-Jones, f64, whole steps; {kilobytes / 1024:.0f} MB resident",
        )  # fmt: skip


def transport(record: Recorder) -> None:
    """Diffusion and viscosity of the Lennard-Jones liquid near its triple point.

    864 atoms at density 0.8442 and temperature 0.722, potential cut at 2.5 and shifted.
    """
    scenario = {
        "version": 1, "kind": "md", "units": "lj",
        "structure": {"kind": "fcc_density", "density": 0.8442, "cells": 6, "mass": 1.0},
        "potential": {
            "kind": "lennard_jones", "epsilon": [1.0], "sigma": [1.0], "cutoff": 2.5,
        },
        "ensemble": {"kind": "bussi", "temperature": 0.722, "relaxation": 2.0},
        "run": {"steps": 160_000, "timestep": 0.005, "temperature": 1.5,
                "report_every": 10_000},
        "output": {
            "trajectory_every": 0, "thermo_every": 100, "average_from": 8000,
            "displacement": {"start": 8000, "every": 100, "samples": 40, "spacing": 20},
            "stress": {"start": 8000, "every": 4, "samples": 400, "spacing": 100},
        },
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        job = assemble(parse(scenario), Path(folder))
        with RunFolder.create(Path(folder) / "run", "", {}) as run:
            figures = job.run(run, Reporter(quiet=True)).figures
    heat, viscosity = figures["temperature"].value, figures["viscosity"]
    note = f"864 atoms, 760 tau, T = {heat:.4f}"
    record(
        "lj_viscosity", viscosity.value, "reduced", note=note, spread=_band(viscosity),
        peer={
            "name": "Ferrario et al., Phys. Rev. A 44, 6936 (1991), 3.24 +- 0.04",
            "value": 3.24,
        },
    )  # fmt: skip
    diffusion, edge = figures["diffusion_Ar"], (864 / 0.8442) ** (1 / 3)
    missing = 2.837297 * heat / (6 * np.pi * viscosity.value * edge)
    record(
        "lj_diffusion", diffusion.value, "reduced", spread=_band(diffusion),
        note=f"{note}; {diffusion.value + missing:.4f} with the correction for the size of "
        "the cell (Yeh and Hummer, 2004)",
    )  # fmt: skip


def _band(figure: Figure) -> tuple[float, float] | None:
    if figure.error is None:
        return None
    return figure.value - figure.error, figure.value + figure.error


def bytes_per_atom() -> tuple[float, str]:
    """Resident memory per atom of a running melt, from two sizes in fresh processes."""
    # not ru_maxrss, which a process takes over from the one that started it
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import md, torch\n"
        "world = md.melt(int(sys.argv[2]), torch.float64); state = world.init()\n"
        "for _ in range(12): state = world.step(state)\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(state.atoms, status.partition('VmHWM:')[2].split()[0])"
    )
    found = []
    for cells in (12, 40):
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(cells)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append([int(word) for word in answer.stdout.split()[-2:]])
    (small, low), (large, high) = found
    note = f"Lennard-Jones, f64, peak of a run, {large} against {small} atoms"
    return 1024 * (high - low) / (large - small), note


# -- Deep Potential -----------------------------------------------------------------------


def water(repeat: int) -> Atoms:
    """Return liquid water at 1 g/cm^3: molecules on a lattice, 64 times repeat^3."""
    rng, edge = np.random.default_rng(0), (192 / 0.1) ** (1 / 3)
    symbols, positions = [], []
    for corner in np.ndindex(4, 4, 4):
        a = rng.normal(size=3)
        a /= np.linalg.norm(a)
        b = np.cross(a, rng.normal(size=3))
        b /= np.linalg.norm(b)
        o = np.array(corner) * edge / 4
        symbols += ["O", "H", "H"]
        positions += [o, o + 0.96 * a, o + 0.96 * (0.97 * b - 0.25 * a)]
    atoms = Atoms(symbols, positions, cell=[edge] * 3, pbc=True)
    return atoms.repeat(repeat)


def twin(kind: str, dtype: torch.dtype) -> CompressedPotential:
    """Return a compressed, untrained network of usual sizes for water."""
    config = {
        "smooth": SmoothEdition(("O", "H")),
        "default": HigherMoments(("O", "H"), cutoff=6.0, members=1),
    }[kind]
    module = config.build(0).to(dtype)
    if kind == "smooth":
        module.radial.scale.fill_(6.0)
    # the molecules must survive some steps of a network that knows no chemistry
    module.fitting.energy_scale.fill_(1e-3)
    sample = from_atoms(water(2), ("O", "H"), seed=1, dtype=dtype)
    potential = agreeing(LearnedPotential(module), sample)
    assert potential is not None
    return potential


def floor(dtype: torch.dtype) -> str:
    """Operations of the fitting network, and what torch's products need for them."""
    vectors = twin("smooth", dtype).vectorised
    assert vectors is not None
    network, lanes = vectors.fitting, vectors.lanes
    inputs, panels = network.plan[:-1, 0].long(), network.plan[:-1, 1].long()
    operations = 4 * float((inputs * panels).sum()) * network.panel * lanes
    a, b = torch.randn(512, 480, dtype=dtype), torch.randn(480, 240, dtype=dtype)
    out = torch.empty(512, 240, dtype=dtype)
    rate = 2 * a.numel() * 240 / best_of(lambda: torch.mm(a, b, out=out), 30)
    return (
        f"floor: {1e-6 * operations:.2f} Mflop of the fitting network and its adjoint per "
        f"atom ({network.features} inputs in the short basis of the moments, 1,600 in the "
        f"network's own), {1e6 * operations / rate:.0f} us by torch.mm at "
        f"{1e-9 * rate:.0f} Gflop/s"
    )


def water_world(kind: str, dtype: torch.dtype, repeat: int) -> MolecularDynamics:
    """Return water that a network of usual sizes moves."""
    start = from_atoms(water(repeat), ("O", "H"), seed=1, dtype=dtype)
    return MolecularDynamics(twin(kind, dtype), Verlet(), start, 0.5, (330.0,), 1.0)


def deep_potential(kind: str, dtype: torch.dtype, repeat: int, quick: bool) -> float:
    """Seconds per atom and whole step of water."""
    world = water_world(kind, dtype, repeat)
    blocks, steps = (2, 5) if quick else (5, 40 // repeat**2)
    return step_seconds(world, 5, blocks, steps) / world.start.atoms


def deepmd_model(folder: str) -> None:
    """Make DeePMD-kit's default water model, frozen and compressed, in ``folder``."""
    peer, path = DEEPMD, Path(folder)
    data = path / "data" / "set.000"
    data.mkdir(parents=True)
    atoms = water(1)
    (path / "data" / "type.raw").write_text(
        "\n".join("0" if s == "O" else "1" for s in atoms.get_chemical_symbols())
    )
    rng, frames = np.random.default_rng(0), 4
    x = atoms.positions.reshape(1, -1) + 0.05 * rng.normal(size=(frames, 576))
    np.save(data / "coord.npy", x)
    np.save(data / "box.npy", np.tile(atoms.cell.array.reshape(1, 9), (frames, 1)))
    np.save(data / "energy.npy", rng.normal(size=frames))
    np.save(data / "force.npy", 0.1 * rng.normal(size=(frames, 576)))
    descriptor = {
        "type": "se_e2_a", "sel": [46, 92], "rcut": 6.0, "rcut_smth": 0.5,
        "neuron": [25, 50, 100], "axis_neuron": 16, "type_one_side": True, "seed": 1,
    }  # fmt: skip
    rate = {"type": "exp", "decay_steps": 5000, "start_lr": 1e-6, "stop_lr": 1e-8}
    record = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": descriptor,
            "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True, "seed": 1},
        },
        "learning_rate": rate,
        "loss": {"start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 1,
                 "limit_pref_f": 1, "start_pref_v": 0, "limit_pref_v": 0},
        "training": {
            "training_data": {"systems": ["data"], "batch_size": 1},
            "numb_steps": 2, "seed": 1, "disp_freq": 1, "save_freq": 2,
        },
    }  # fmt: skip
    (path / "input.json").write_text(json.dumps(record))
    dp = [str(peer.folder / "bin" / "dp"), "--tf"]
    peer.call([*dp, "train", "--skip-neighbor-stat", "input.json"], folder)
    peer.call([*dp, "freeze", "-o", "frozen.pb"], folder)
    peer.call(
        [*dp, "compress", "-t", "input.json", "-i", "frozen.pb", "-o", "model.pb"], folder
    )


def shared_model(folder: str) -> None:
    """Put DeePMD-kit's model into ``folder``; it is made once and kept beside the peers."""
    kept = peers.FOLDER / "deepmd_water" / "model.pb"
    if not kept.exists():
        deepmd_model(folder)
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(Path(folder) / "model.pb", kept)
    else:
        shutil.copy(kept, Path(folder) / "model.pb")


def deepmd_seconds(folder: str, repeat: int, quick: bool) -> float:
    """Seconds per atom and step of DeePMD-kit's compressed model in LAMMPS."""
    atoms, steps = water(repeat), 5 if quick else 40 // repeat**2
    ase.io.write(
        Path(folder) / "water.data", atoms, format="lammps-data", specorder=["O", "H"]
    )
    script = WATER + f"run {steps}\n" * (2 if quick else 5)
    (Path(folder) / "in.water").write_text(script)
    program = DEEPMD.folder / "bin" / "lmp"
    log = DEEPMD.call([program, "-in", "in.water"], folder, runtime.threads())
    return min(loop_seconds(log)) / len(atoms)


def deep_potentials(record: Recorder, quick: bool) -> None:
    """Cost of water per atom and step; beside DeePMD-kit: ``speed.py``."""
    sizes, ours = {192: 1, 1536: 2}, {}
    for name, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        if not record.wants(f"dp_us_per_atom_{name}"):
            continue
        for atoms, repeat in sizes.items():
            seconds = deep_potential("smooth", dtype, repeat, quick)
            ours[name, atoms] = seconds
        record(
            f"dp_us_per_atom_{name}", 1e6 * ours[name, 1536], "us",
            note="se_e2_a, default sizes, water, 1,536 atoms; with 192 atoms: "
            f"{1e6 * ours[name, 192]:.0f}; {floor(dtype)}",
        )  # fmt: skip
    for name, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        if not record.wants(f"default_us_per_atom_{name}"):
            continue
        other = deep_potential("default", dtype, 2, quick)
        record(
            f"default_us_per_atom_{name}", 1e6 * other, "us",
            note="higher moments, default sizes, 6 angstrom, water, 1,536 atoms",
        )  # fmt: skip


def measure(quick: bool, record: Recorder) -> None:
    """Measure all figures of this file."""
    runtime.start("cpu")
    if record.wants("lj_ms_per_step_f64", "lj_ms_per_step_f32"):
        lennard_jones(record, quick)
    if record.wants("neighbours_vs_vesin"):
        neighbours(record, quick)
    if record.wants(*(f"lj_us_per_atom_{n}" for n in (864, 10976, 108000, 1000188))):
        sizes(record, quick)
    names = [
        f"{form}_us_per_atom_{p}" for p in ("f64", "f32") for form in ("dp", "default")
    ]
    if record.wants(*names):
        deep_potentials(record, quick)
    potentials = load("potentials")
    potentials.record_shipped(record)
    potentials.record_training(record)
    if not quick and record.wants("lj_diffusion", "lj_viscosity"):
        transport(record)
