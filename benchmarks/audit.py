"""The audits held against planted defects, and certificates of gradients."""

import json
import sys
import time
from pathlib import Path

import torch

from scalebridge.engine import runtime
from scalebridge.engine.audit.closure_faults import closure_faults
from scalebridge.engine.audit.fault_injection import PlantedFault, potential_faults
from scalebridge.engine.audit.module import audit_file
from scalebridge.engine.audit.wavefunction_faults import wavefunction_faults
from scalebridge.engine.bench import Recorder

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from audit_gradients import gradients  # noqa: E402

SCENARIOS = HERE.parent / "scenarios"
SHIPPED = (
    ("silicon", None),
    ("molybdenum", None),
    ("water", SCENARIOS / "data" / "water64.xyz"),
    ("closure_wide_0", None),
)


def defects(quick: bool, record: Recorder) -> None:
    """Record how many planted defects the audits catch, and alarms on their good faults."""
    if not record.wants("defects_caught", "defects_planted", "false_alarms"):
        return
    runtime.start("cpu")
    faults: list[PlantedFault] = [
        *potential_faults(),
        *closure_faults(),
        *wavefunction_faults(),
    ]
    faults = faults[::4] if quick else faults
    caught, alarms, missed, alarmed = 0, 0, [], []
    for each in faults:
        good, bad = each.verdicts()
        caught += bad.passed is False
        alarms += good.passed is not True
        missed += [each.name] if bad.passed is not False else []
        alarmed += [each.name] if good.passed is not True else []
    part = "a quarter of the pairs" if quick else "every audit"
    record(
        "defects_planted", len(faults), note=f"{part}: potentials, closures, wavefunctions"
    )
    note = f"missed: {', '.join(missed)}" if missed else "none missed"
    record("defects_caught", caught, goal=len(faults), better="higher", note=note)
    note = f"on: {', '.join(alarmed)}" if alarmed else "on the good faults: none"
    record("false_alarms", alarms, goal=0, note=note)


def shipped(quick: bool, record: Recorder) -> None:
    """Record the time of the longest audit of a shipped model, and what fails."""
    if not record.wants("audit_seconds"):
        return
    torch.set_num_threads(runtime.threads())
    times, said = {}, []
    for name, structure in SHIPPED[:1] if quick else SHIPPED:
        begun = time.monotonic()
        report = audit_file(SCENARIOS / "models" / name, structure)
        times[name] = time.monotonic() - begun
        verdict = "passes" if report.passed else f"fails {', '.join(report.failures)}"
        said.append(f"{name} {times[name]:.0f} s: {verdict}")
    record("audit_seconds", max(times.values()), "s", goal=60.0, note="; ".join(said))


def drift(record: Recorder) -> None:
    """Record the drift of the local frame over that of the smooth form, from `symmetry`.

    The scenario is run at full size; its own figures hold the rest.
    """
    if not record.wants("drift_local_frame_over_smooth"):
        return
    import tempfile

    from click.testing import CliRunner

    from scalebridge.engine.cli import main

    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "symmetry"
        done = CliRunner().invoke(
            main, ["run", "symmetry", "--out", str(out), "--no-report", "--quiet"]
        )
        if done.exit_code:
            raise RuntimeError(done.output)
        found = json.loads((out / "summary.json").read_text())["figures"]
    rough = found["drift_local_frame_0.5fs"]["value"]
    smooth = found["drift_smooth_deep_potential_0.5fs"]["value"]
    note = f"{rough:.2e} and {smooth:.2e} eV/atom/ps at 0.5 fs, scenario symmetry"
    record("drift_local_frame_over_smooth", rough / smooth, better="higher", note=note)


def measure(quick: bool, record: Recorder) -> None:
    """Record everything."""
    defects(quick, record)
    shipped(quick, record)
    if not quick:
        drift(record)
    gradients(quick, record)
