"""Verdicts of runs and audits: what is wrong is flagged, what is sound is not."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential

from scalebridge.engine import commands, runtime
from scalebridge.engine.audit import (
    conservation,
    invariance,
    labels,
    periodic,
    repeat,
    short_range,
    smoothness,
)
from scalebridge.engine.audit.closure_faults import closure_faults
from scalebridge.engine.audit.fault_injection import potential_faults
from scalebridge.engine.audit.findings import tried
from scalebridge.engine.audit.foreign_faults import Planted, foreign_faults, structure
from scalebridge.engine.audit.module import audit, audit_file
from scalebridge.engine.audit.samples import Subject
from scalebridge.engine.audit.wavefunction_faults import wavefunction_faults
from scalebridge.engine.bench import Recorder
from scalebridge.engine.errors import EngineError
from scalebridge.engine.interop.ase import AsePotential
from scalebridge.engine.md.classical import StillingerWeber

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

import trust_runs  # noqa: E402
from mutation import results  # noqa: E402

Case = tuple[str, tuple[str, ...]]

MUTANTS = 100
"""Mutations that are drawn."""

_ARGON = ("structure.cells=4", "output.rdf=[]", "output.thermo_every=5")
_SW = ("structure.repeat=[2,2,2]", "output.rdf=[]", "output.thermo_every=5")
_SOUND = ("time.frames=2", "knudsen=[0.032,0.16]")
_VMC = ("sampling.walkers=128", "evaluation.sweeps=100")

WRONG: Sequence[Case] = (
    # the time step is too long, or too little was seen, or nothing has settled
    *(("argon_nve", (*_ARGON, f"run.timestep={dt}", "run.steps=600",
                     "output.average_from=100")) for dt in (25.0, 40.0)),
    *(("silicon_sw", (*_SW, f"run.timestep={dt}", "run.steps=800",
                      "output.average_from=100")) for dt in (8.0, 10.0)),
    *(("silicon_sw", (*_SW, f"run.steps={n}", "output.average_from=0",
                      "run.temperature=30.0")) for n in (120, 200, 300)),
    *(("silicon_sw", (*_SW, "run.steps=800", "output.average_from=0", "run.temperature=1.0",
                      f"ensemble.relaxation={slow}")) for slow in (2e4, 1e5)),
    *(("silicon_npt", (*_SW, f"run.steps={n}", "output.average_from=0",
                       f"ensemble.pressure={p}")) for n, p in ((200, 5.0), (300, 8.0))),
    *(("silicon_npt", (*_SW, "run.steps=600", "output.average_from=0",
                       f"ensemble.pressure_relaxation={slow}", "ensemble.pressure=4.0"))
      for slow in (5e4, 2e5)),
    # a learned potential outside its data
    *(("silicon_melt", ("structure.repeat=[2,2,2]", "run.steps=100", "output.rdf=[]",
                        f"structure.lattice_constant={a}")) for a in (4.6, 7.4)),
    # too coarse in space, velocity or time
    *(("sound_wave", (*_SOUND, f"grid.cells=[{n}]")) for n in (8, 12)),
    *(("sound_wave", (*_SOUND, f"model.nodes=[{n}]")) for n in (6, 8)),
    *(("sod", (f"model.nodes=[{n}]", "grid.cells=[128]", "time.frames=2", "compare=[]"))
      for n in (8, 10, 12)),
    *(("isentropic_vortex", (f"grid.cells=[{n},{n}]", "time.frames=2")) for n in (12, 16)),
    *(("couette", (f"time.end={t}", "time.frames=2")) for t in (0.1, 0.3)),
    *(("fourier", (f"time.end={t}", "time.frames=2")) for t in (0.1, 0.3)),
    *(("normal_shock", (f"time.end={t}", "grid.cells=[120]", "time.frames=2"))
      for t in (0.5, 1.0, 2.0)),
    # wavefunctions that have not converged
    *(("vmc_helium", (*_VMC, f"iterations={n}", "pretraining.steps=0")) for n in (2, 5)),
    *(("vmc_hooke", (*_VMC, f"iterations={n}")) for n in (2, 5)),
    ("vmc_lih", (*_VMC, "iterations=3", "pretraining.steps=0")),
    *(("vmc_ising_chain", (*_VMC, f"iterations={n}")) for n in (1, 2)),
    # properties that are not what is known
    *(("silicon_elastic", ("potential={kind='stillinger_weber'}", f"expected={{{known}}}"))
      for known in ("C12=120.0", "C11=100.0", "lattice_constant=5.52")),
)  # fmt: skip
"""Runs of which something is wrong; each must end with a failed check or be stopped."""

GOOD: Sequence[Case] = (
    *(("argon_nve", (*_ARGON, f"run.timestep={dt}", "run.steps=2000", f"seed={seed}",
                     "output.average_from=500"))
      for dt, seed in ((5.0, 1), (10.0, 2), (10.0, 3), (5.0, 4))),
    *(("silicon_sw", (*_SW, f"ensemble.temperature={t}", f"run.temperature={2 * t}",
                      "run.steps=4000", "output.average_from=1000", f"seed={seed}"))
      for t, seed in ((300.0, 1), (300.0, 2), (600.0, 3), (600.0, 4), (150.0, 5))),
    *(("silicon_npt", (*_SW, "run.steps=5000", "output.average_from=1000", f"seed={seed}",
                       f"ensemble.pressure={p}"))
      for p, seed in ((0.0, 1), (1.0, 2), (2.0, 3), (1.0, 4))),
    *(("sound_wave", (*_SOUND, f"grid.cells=[{n}]")) for n in (80, 100, 160)),
    *(("sound_wave", (*_SOUND, f"model.nodes=[{n}]")) for n in (40, 64)),
    *(("sod", (f"grid.cells=[{n}]", "time.frames=2", "compare=[]")) for n in (128, 192)),
    *(("isentropic_vortex", (f"grid.cells=[{n},{n}]", "time.frames=2", "compare=[]"))
      for n in (64, 80)),
    *(("couette", ("time.frames=2", f"grid.cells=[{n}]")) for n in (24, 32)),
    *(("fourier", ("time.frames=2", f"grid.cells=[{n}]")) for n in (24, 32)),
    ("normal_shock", ("time.frames=2",)),
    *(("riemann_2d", (f"grid.cells=[{n},{n}]", "compare=[]", "time.frames=2"))
      for n in (40, 64)),
    *(("vmc_helium", (f"seed={seed}",)) for seed in (1, 2)),
    *(("vmc_hooke", (f"seed={seed}",)) for seed in (1, 2)),
    *(("vmc_ising_chain", (f"seed={seed}",)) for seed in (1, 2)),
    *(("silicon_elastic", ("potential={kind='stillinger_weber'}", f"expected={{{known}}}"))
      for known in ("C12=76.4", "C11=151.4", "lattice_constant=5.431", "C44=56.4")),
    *(("relaxation_bkw", (f"time.frames={n}",)) for n in (5, 8)),
    ("kelvin_helmholtz", ("grid.cells=[40,40]", "time.frames=2", "compare=[]")),
)  # fmt: skip
"""Runs that are as they should be; no check may fail."""


def flagged(case: Case) -> str:
    """Return why a run counts as wrong; empty if nothing failed."""
    name, settings = case
    with tempfile.TemporaryDirectory() as place:
        try:
            outcome = commands.run(name, settings, Path(place) / "run", strict=False)
        except EngineError as error:
            return f"{type(error).__name__}: {error}"
    return ", ".join(check.name for check in outcome.checks if not check.passed)


def verdicts(quick: bool, record: Recorder) -> None:
    """Record how many wrong runs are flagged, and how many good ones."""
    if not record.wants("verdict_cases", "verdict_false_alarms"):
        return
    step = 8 if quick else 1
    missed = [case for case in WRONG[::step] if not flagged(case)]
    note = f"missed: {missed}" if missed else f"of {len(WRONG[::step])}, none missed"
    caught = len(WRONG[::step]) - len(missed)
    record("verdict_cases", caught, goal=40, better="higher", note=note)
    alarms = {case: said for case in GOOD[::step] if (said := flagged(case))}
    note = f"of {len(GOOD[::step])}; {alarms}" if alarms else f"of {len(GOOD[::step])}"
    record("verdict_false_alarms", len(alarms), goal=0, note=note)


QUICKEST: Sequence[Callable[..., Any]] = (
    periodic.repetition, periodic.lattice_vectors, periodic.faces, repeat.repeatability,
    labels.equation_of_state, conservation.virial, invariance.balance,
    invariance.extensivity, short_range.holes, conservation.force_is_gradient,
    conservation.loop_work, invariance.permutation, invariance.translation,
    invariance.reflection, smoothness.on_lines, smoothness.at_swaps, smoothness.at_cutoff,
)  # fmt: skip
"""Audits of a potential, the cheapest first: the first that fails is enough."""


def alarm(calculator: Planted) -> str:
    """Return the first audit that a calculator fails; empty if it passes all."""
    subject = Subject.of(AsePotential(calculator, ("Si",)), structure())
    for each in QUICKEST:
        for finding in tried(each, subject):
            if finding.passed is False:
                return finding.name
    return ""


def defects(quick: bool, record: Recorder) -> None:
    """Record how many planted defects are caught: in foreign calculators and in ours."""
    if not record.wants("audit_defects_caught"):
        return
    runtime.start("cpu")
    foreign = dict(list(foreign_faults().items())[:: 6 if quick else 1])
    missed = [name for name, calculator in foreign.items() if not alarm(calculator)]
    ours = [*potential_faults(), *closure_faults(), *wavefunction_faults()]
    ours = ours[:: 8 if quick else 1]
    missed += [fault.name for fault in ours if fault.verdicts()[1].passed is not False]
    planted = len(foreign) + len(ours)
    note = f"{len(foreign)} in foreign calculators, {len(ours)} in ours; missed: {missed}"
    record(
        "audit_defects_caught", planted - len(missed), goal=planted, better="higher",
        note=note,
    )  # fmt: skip


def sound(quick: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield models that are what they should be, and their audits.

    Aluminium of EMT is none of them: its energy jumps by 1.1 meV where its list of
    neighbours ends (5.877 angstrom, seen on a pair of atoms); the audit says so.
    """
    for metal in ("Cu", "Ag", "Au", "Ni", "Pd", "Pt"):
        crystal = bulk(metal, cubic=True).repeat((2, 2, 2))
        yield f"EMT {metal}", lambda s=crystal: audit(EMT(), structure=s)
        if quick:
            return
    for name, sigma, epsilon, edge in (
        ("Ne", 2.75, 0.0031, 4.43), ("Ar", 3.405, 0.0104, 5.26), ("Kr", 3.65, 0.014, 5.72),
        ("Xe", 3.98, 0.02, 6.2),
    ):  # fmt: skip
        pair = LennardJones(
            sigma=sigma, epsilon=epsilon, rc=2.5 * sigma, ro=2 * sigma, smooth=True
        )
        crystal = bulk(name, "fcc", a=edge, cubic=True).repeat((2, 2, 2))
        yield f"LJ {name}", lambda c=pair, s=crystal: audit(c, structure=s)
    morse = MorsePotential(epsilon=0.343, r0=2.866, rho0=3.895, rcut1=1.7, rcut2=2.3)
    crystal = bulk("Cu", cubic=True, a=3.62).repeat((2, 2, 2))
    yield "Morse Cu", lambda s=crystal: audit(morse, structure=s)
    yield "Stillinger-Weber", lambda: audit(StillingerWeber())
    yield "Stillinger-Weber through ASE", lambda: audit(Planted(), structure=structure())
    for edge in (5.2, 5.431, 5.6):
        crystal = bulk("Si", cubic=True, a=edge).repeat((2, 2, 2))
        yield f"Si at {edge}", lambda s=crystal: audit(StillingerWeber(), structure=s)
    for metal, edge in (("Cu", 3.5), ("Ag", 4.2), ("Ni", 3.6)):
        crystal = bulk(metal, cubic=True, a=edge).repeat((2, 2, 2))
        yield f"EMT {metal} at {edge}", lambda s=crystal: audit(EMT(), structure=s)
    yield "silicon", lambda: audit_file(HERE.parent / "scenarios" / "models" / "silicon")


def alarms(quick: bool, record: Recorder) -> None:
    """Record how many sound models fail an audit."""
    if not record.wants("audit_false_alarms"):
        return
    torch.set_num_threads(runtime.threads())
    failed, count = {}, 0
    for name, examine in sound(quick):
        report, count = examine(), count + 1
        if not report.passed:
            failed[name] = report.failures
        print(name, report.failures or "passes", flush=True)
    note = f"of {count} sound models: {failed or 'none fails'}"
    record("audit_false_alarms", len(failed), goal=0, note=note)


def mutants(quick: bool, record: Recorder) -> None:
    """Record the part of random mutations of engine and models that the tests notice.

    It is recorded after each, in the order in which they were drawn, so that a run which is
    broken off has measured the first of them.
    """
    if quick or "mutants_caught" not in record.only:
        return
    caught, survived, undecided = 0, [], 0
    for mutation, noticed in results(MUTANTS, 1, 1e5):
        caught, undecided = caught + (noticed is True), undecided + (noticed is None)
        if noticed is False:
            survived.append(f"{mutation.file}:{mutation.line} {mutation.after[:40]}")
        decided = caught + len(survived)
        note = f"{caught} of {decided}, {undecided} out of time, of {MUTANTS} of seed 1"
        note += f"; survived: {'; '.join(survived) or 'none'}"
        goal = 0.9 if decided + undecided == MUTANTS else None  # of all of them
        share = caught / max(decided, 1)
        record("mutants_caught", share, goal=goal, better="higher", note=note)


COUNTED = {
    "damage_noticed": ("test_trust_runs.py", "damage_is_noticed", 40),
    "injections": ("test_trust_pages.py", "nothing_of_a_run_is_run", 30),
    "links_followed": ("test_trust_runs.py", "written_through_a_link", 5),
}
"""Figure -> file of tests, which of them, how many there must be."""


def counted(record: Recorder) -> None:
    """Record what tests count: damage noticed, texts executed, links followed."""
    import data  # type: ignore[import-not-found]

    for figure, (file, chosen, least) in COUNTED.items():
        if not record.wants(figure):
            continue
        passed, failed = data._passed(file, chosen)
        if passed + failed < least:
            raise RuntimeError(f"{figure}: {passed + failed} tests; {least} are asked for")
        note = f"of {passed + failed}"
        if figure == "damage_noticed":
            record(figure, passed, goal=least, better="higher", note=note)
        else:
            record(figure, failed, goal=0, note=note)


def bombed(record: Recorder) -> None:
    """Record how many small inputs that ask for much are refused soon and cheaply."""
    if not record.wants("bombs_refused"):
        return
    command = [sys.executable, str(HERE / "bombs.py")]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rows = said.splitlines()
    refused = [row for row in rows if row.startswith("ok")]
    wrong = [row[4:].split(" Answer(")[0] for row in rows if row.startswith("BAD")]
    note = f"of {len(refused) + len(wrong)}; not in time: {', '.join(wrong) or 'none'}"
    record("bombs_refused", len(refused), goal=20, better="higher", note=note)


def measure(quick: bool, record: Recorder) -> None:
    """Record everything; mutations only where they are asked for, for they take hours."""
    defects(quick, record)
    alarms(quick, record)
    counted(record)
    bombed(record)
    verdicts(quick, record)
    trust_runs.measure(quick, record)
    mutants(quick, record)
