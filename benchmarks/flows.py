"""Flows from scenario files against exact, similarity and linear solutions.

Every problem is ``scenarios/NAME.toml``, run as a user would run it.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from scalebridge.engine import commands
from scalebridge.engine.gas.exact import Gas1, riemann
from scalebridge.engine.protocols import Outcome

sys.path.append(str(Path(__file__).resolve().parent))

import cavity
import channels
import muscl_hancock
import resolution
import setups
import solids

Arrays = Mapping[str, Any]
TORO = {1: 0.0070, 2: 0.0110, 3: 0.089, 4: 0.022, 5: 0.037}


@dataclass(frozen=True)
class Ran:
    """A finished run: its outcome, arrays, scenario, and the CPU seconds it took."""

    outcome: Outcome
    store: Any
    scenario: Mapping[str, Any]
    seconds: float

    @property
    def knudsen(self) -> tuple[float, ...]:
        """Knudsen numbers of the batch."""
        return tuple(self.scenario["knudsen"])


def run(name: str, *settings: str) -> Ran:
    """Run a shipped scenario in a folder of its own."""
    begun = time.process_time()
    path = Path(tempfile.mkdtemp(prefix=f"flows_{name}_")) / "run"
    outcome = commands.run(name, settings, path)
    store: Any = zarr.open_group(path / "data.zarr", mode="r")
    scenario = json.loads((path / "resolved.json").read_text())["scenario"]
    return Ran(outcome, store, scenario, time.process_time() - begun)


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
        other = float(np.abs(second(ran)[:, 0] - exact).mean())
        note += f"another code (MUSCL-Hancock, HLLC): {other:.4g}; "
        note += f"the true cell averages: {perfect(ran, exact):.4g}; "
        note += f"{ran.seconds:.2g} CPU s"
        record(f"toro{number}", off, "rho0", goal=goal, note=note)


def second(ran: Ran) -> np.ndarray:
    """Return the answer of a second code to a run's shock tube."""
    left, right = (np.array(side) for side in _sides(ran))
    time, cells = ran.scenario["time"]["end"], ran.scenario["grid"]["cells"][0]
    return muscl_hancock.solve(
        left, right, ran.scenario["initial"]["position"], time, cells
    )


def perfect(ran: Ran, exact: np.ndarray) -> float:
    """Return how far the averages of the exact density are from its values at centres."""
    within = 1000
    x = (np.arange(within * len(exact)) + 0.5) / (within * len(exact))
    xi = (x - ran.scenario["initial"]["position"]) / ran.scenario["time"]["end"]
    left, right = (Gas1(*side) for side in _sides(ran))
    density, _, _ = riemann(left, right, ran.scenario["model"]["gamma"], torch.tensor(xi))
    return float(np.abs(density.numpy().reshape(-1, within).mean(1) - exact).mean())


def _sides(ran: Ran) -> list[tuple[float, float, float]]:
    start = ran.scenario["initial"]
    both = (start["left"], start["right"])
    return [(s["density"], s["velocity"][0], s["pressure"]) for s in both]


def blast(record) -> None:
    if not record.wants("blast_l1"):
        return
    ran = run("blast")
    fine = np.asarray(ran.store["compare/euler_muscl_fine/density"])[0]
    own = last(ran, "density")
    gap = float(np.abs(own - fine.reshape(len(own), -1).mean(1)).mean())
    note = f"mean |rho - rho on {len(fine)} cells|; {ran.seconds:.2g} CPU s"
    record("blast_l1", gap, "rho0", goal=0.15, note=note)


def ripples(record) -> None:
    """Shu and Osher's waves behind a shock, against four times the cells."""
    if not record.wants("shu_osher_l1"):
        return
    ran = run("shu_osher")
    fine = np.asarray(ran.store["compare/euler_weno5_fine/density"])[0]
    own, muscl = last(ran, "density"), ran.store["compare/euler_muscl/density"]
    fine = fine.reshape(len(own), -1).mean(1)
    gap, other = (float(np.abs(x - fine).mean()) for x in (own, np.asarray(muscl)[0]))
    note = f"mean |rho - rho on 1600 cells|; MUSCL on the same 400: {other:.4g}; "
    note += f"{ran.seconds:.2g} CPU s"
    record("shu_osher_l1", gap, "rho0", note=note)


CHECKED = {
    "sedov2d_radius": ("sedov_2d", "radius_error", 0.01),
    "sedov3d_radius": ("sedov_3d", "radius_error", 0.01),
    "noh_density": ("noh", "noh_density_error", 0.05),
    "rayleigh_taylor_growth": ("rayleigh_taylor", "growth_error", 0.05),
    "taylor_green2d_viscosity": ("taylor_green_2d", "viscosity_error", 0.01),
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


def at_rest(record) -> None:
    """Largest drift of the atmosphere: of the run's own model and of those compared."""
    if not record.wants("rest_drift"):
        return
    ran = run("hydrostatic")
    worst, named = ran.outcome.figures["rest_drift"].value, "kinetic"
    for name, group in ran.store["compare"].groups():
        moved = float(np.abs(np.asarray(group["velocity"])).max())
        if moved > worst:
            worst, named = moved, name
    note = f"largest velocity or change of density, at {named}; {ran.seconds:.3g} CPU s"
    record("rest_drift", worst, "sqrt(R T0)", goal=1e-12, note=note)


PERIODS = 2.0 * np.pi
"""Wave number of the vortices."""


def lost(ran: Ran) -> tuple[np.ndarray, np.ndarray]:
    """Return times in turns ``U k t`` and the dissipation, in units ``U^3 k``."""
    energy = np.asarray(ran.store["probes/motion/kinetic_energy"])[:, 0]
    time = np.asarray(ran.store["probes/motion/time"])
    volume = 0.5**3
    speed = np.sqrt(8.0 * energy[0] / volume)
    turns = time * speed * PERIODS
    return turns, -np.gradient(energy / volume / speed**2, turns, edge_order=2)


def dissipation(record) -> None:
    """Taylor and Green's vortices in space, against twice the cells along each axis."""
    if not record.wants("taylor_green3d_dissipation"):
        return
    coarse = run("taylor_green_3d")
    cells = [2 * n for n in coarse.scenario["grid"]["cells"]]
    fine = run("taylor_green_3d", f"grid.cells={cells}", "resolution='trusted'")
    (t, own), (s, true) = lost(coarse), lost(fine)
    off = np.abs(own - np.interp(t, s, true)) / true.max()
    note = f"largest of all times, of the greatest dissipation {true.max():.4f} U^3 k at "
    note += f"{s[true.argmax()]:.2f} turns; Re 100; {cells[0]} cells a period against "
    note += f"{2 * cells[0]}; {coarse.seconds + fine.seconds:.3g} CPU s"
    record("taylor_green3d_dissipation", float(off.max()), goal=0.02, note=note)


GRIDS = {"muscl": (64, 128, 256), "weno5": (32, 64, 128)}


def orders(record) -> None:
    """A density wave, carried and accelerated, and a vortex: a nonlinear flow."""
    for scheme, goal in (("muscl", 1.9), ("weno5", 4.5)):
        if not record.wants(f"observed_order_{scheme}"):
            continue
        flows = {
            "density wave": lambda n, s=scheme: free_fall(s, n, 0.0),
            "density wave with a force": lambda n, s=scheme: free_fall(s, n, 1.0),
            "vortex in the plane": lambda n, s=scheme: carried_vortex(s, n),
        }
        found = {
            name: np.diff([-np.log2(error(n)) for n in GRIDS[scheme]])
            for name, error in flows.items()
        }
        least = min(float(x[-1]) for x in found.values())
        told = "; ".join(
            f"{name} {', '.join(f'{o:.2f}' for o in x)}" for name, x in found.items()
        )
        note = f"mean error of the density, cells {GRIDS[scheme]} a period: {told}"
        record(f"observed_order_{scheme}", least, goal=goal, better="higher", note=note)


def _courant(scheme: str, cells: int) -> float:
    """With WENO5 the error of its third-order steps stays behind that of the grid."""
    return 0.3 if scheme == "muscl" else 0.1 * 32 / cells


def carried_vortex(scheme: str, cells: int) -> float:
    """Return the mean error of the cell averages after a fifth of the vortex's round."""
    ran = run(
        "isentropic_vortex", f"grid.cells=[{cells}, {cells}]", "compare=[]", "time.end=2.0",
        f"model={{kind='euler', scheme='{scheme}', gamma=1.4, "
        f"cfl={_courant(scheme, cells)}}}", "time.frames=1",
    )  # fmt: skip
    return ran.outcome.figures["density_error"].value


def free_fall(scheme: str, cells: int, force: float) -> float:
    """Return the mean error of the cell averages after 0.4 of a period of a unit stream."""
    time, cfl = 0.4, _courant(scheme, cells)
    ran = run(
        "hydrostatic", f"grid.cells=[{cells}]", "boundaries={}", "reference='none'",
        f"model={{kind='euler', scheme='{scheme}', gamma=1.4, cfl={cfl}}}", "compare=[]",
        f"force={{acceleration=[{-force}]}}", f"time.end={time}", "time.frames=1",
        "initial={kind='fields', density='1 + 0.3*sin(2*pi*x)', velocity=[1.0], "
        "pressure=1.0}",
    )  # fmt: skip
    h = 1.0 / cells
    x = h * (np.arange(cells) + 0.5) - (time - 0.5 * force * time**2)
    exact = 1.0 + 0.3 * np.sinc(h) * np.sin(2 * np.pi * x)
    return float(np.abs(last(ran, "density") - exact).mean())


def taken_and_refused(record) -> None:
    """Set-ups that check takes and run does not, wrong ones taken, right ones refused."""
    if not record.wants("check_equals_run"):
        return
    trials = [trial for _, trial in setups.generate(500)]
    late = [t for t in trials if t.end in ("refused_late", "crashed")]
    wrong = [(n, setups.attempt(data), key) for n, data, key in setups.wrong()]
    missed = [n for n, t, key in wrong if t.end != "refused" or key not in t.said]
    right = [(n, setups.attempt(data)) for n, data in setups.adequate()]
    blamed = [n for n, trial in right if trial != setups.Trial("ran")]
    ends = Counter(t.end for t in trials)
    told = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    note = f"of {len(trials)} generated ({told}), {len(wrong)} wrong ones (not refused by "
    note += f"their key: {', '.join(missed) or 'none'}) and {len(right)} adequate ones "
    note += f"(refused or warned about: {', '.join(blamed) or 'none'})"
    kinds = Counter(setups.kind_of(t.said) for t in late)
    note += "".join(f"; {count} x {kind}" for kind, count in kinds.most_common(3))
    record("check_equals_run", len(late) + len(missed) + len(blamed), goal=0, note=note)


def measure(quick: bool, record) -> None:
    """Measure everything; ``quick`` leaves out what takes over ten CPU seconds."""
    shock_tubes(record)
    orders(record)
    if quick:
        return
    taken_and_refused(record)
    resolution.figure(record)
    at_rest(record)
    blast(record)
    ripples(record)
    checked(record)
    channels.poiseuille(run, record)
    channels.between(run, record, "couette", 0.1)
    channels.between(run, record, "fourier", 0.1)
    channels.creep(run, record)
    cavity.figure(run, record)
    dissipation(record)
    solids.order(run, record)
    solids.shocks(run, record)
    solids.cylinder(run, record)
    solids.rarefied(run, record)
