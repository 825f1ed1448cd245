"""Flows from scenario files against exact, similarity and linear solutions.

Every problem is ``scenarios/NAME.toml``, run as a user would run it.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from scalebridge.engine import commands
from scalebridge.engine.protocols import Outcome

Arrays = Mapping[str, Any]
TORO = {1: 0.0070, 2: 0.0110, 3: 0.089, 4: 0.022, 5: 0.037}


@dataclass(frozen=True)
class Ran:
    """A finished run: its outcome, its arrays, and the CPU seconds that it took."""

    outcome: Outcome
    store: Any
    seconds: float


def run(name: str, *settings: str) -> Ran:
    """Run a shipped scenario in a folder of its own."""
    begun = time.process_time()
    path = Path(tempfile.mkdtemp(prefix=f"flows_{name}_")) / "run"
    outcome = commands.run(name, settings, path)
    store: Any = zarr.open_group(path / "data.zarr", mode="r")
    return Ran(outcome, store, time.process_time() - begun)


def last(ran: Ran, name: str) -> np.ndarray:
    """Return the last frame of a field of the first system."""
    return np.asarray(ran.store[f"fields/{name}"][-1])[0]


def shock_tubes(record) -> None:
    for number, goal in TORO.items():
        if not record.wants(f"toro{number}"):
            continue
        ran = run(f"toro{number}")
        exact = np.asarray(ran.store["profile/density_exact"])
        off = float(np.abs(last(ran, "density") - exact).mean())
        relative = ran.outcome.figures["density_error"].value
        note = f"mean |rho - exact|; relative to the mean of rho: {relative:.4g}; "
        note += f"{ran.seconds:.2g} CPU s"
        record(f"toro{number}", off, "rho0", goal=goal, note=note)


def blast(record) -> None:
    if not record.wants("blast_l1"):
        return
    ran = run("blast")
    fine = np.asarray(ran.store["compare/euler_muscl_fine/density"])[0]
    own = last(ran, "density")
    gap = float(np.abs(own - fine.reshape(len(own), -1).mean(1)).mean())
    note = f"mean |rho - rho on {len(fine)} cells|; {ran.seconds:.2g} CPU s"
    record("blast_l1", gap, "rho0", goal=0.15, note=note)


CHECKED = {
    "sedov2d_radius": ("sedov_2d", "radius_error", 0.01),
    "sedov3d_radius": ("sedov_3d", "radius_error", 0.01),
    "noh_density": ("noh", "noh_density_error", 0.05),
}
"""Figure -> scenario, its figure, goal."""


def checked(record) -> None:
    for figure, (name, source, goal) in CHECKED.items():
        if not record.wants(figure):
            continue
        ran = run(name)
        found = ran.outcome.figures[source]
        note = f"{found.note}; {ran.seconds:.3g} CPU s"
        record(figure, found.value, "relative", goal=goal, note=note)


def measure(quick: bool, record) -> None:
    """Measure everything; ``quick`` leaves out what takes over ten CPU seconds."""
    shock_tubes(record)
    if quick:
        return
    blast(record)
    checked(record)
