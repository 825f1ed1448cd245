"""Small run folders, made by the run folder's own writers, for the tests of pictures."""

import numpy as np
import torch
from ase.build import bulk

from scalebridge.engine.protocols import Figure, Outcome, told
from scalebridge.engine.run import ZarrWriter
from scalebridge.engine.rundir import RunFolder

SCENARIO = {
    "kind": "md",
    "version": 1,
    "title": "Silicon <melts>",
    "description": "A crystal is heated.",
    "run": {"steps": 100},
}


def create(path, scenario=SCENARIO):
    resolved = {"name": "melt", "scenario": scenario, "command": "engine run melt"}
    return RunFolder.create(path, "version = 1\n", resolved)


class AtomsRun:
    """Writes frames of silicon that is shaken ever more."""

    def __init__(self, folder, repeat=2, chunk=2):
        self.folder = folder
        self.atoms = bulk("Si", cubic=True) * (repeat, repeat, repeat)
        self.rng = np.random.default_rng(0)
        units = {"time": "ps", "positions": "Å", "forces": "eV/Å", "deviation": "eV/Å"}
        self.writer = ZarrWriter(folder, "trajectory", lambda s, seen: s, units, chunk)
        group = folder.store.require_group("trajectory")
        group.attrs["symbols"] = ["Si"]
        self.frames = 0

    def write(self, frames):
        for _ in range(frames):
            frame, count = self.frames, len(self.atoms)
            noise = self.rng.normal(0, 0.02 + 0.1 * frame, (count, 3))
            state = {
                "positions": torch.tensor(self.atoms.positions + noise),
                "forces": torch.tensor(self.rng.normal(0, 1, (count, 3))),
                "cell": torch.tensor(self.atoms.cell.array)[None],
                "species": torch.zeros(count, dtype=torch.int32),
                "deviation": torch.linspace(0, 1, count, dtype=torch.float64),
            }
            self.writer.write(10 * frame, 0.1 * frame, state, {})
            temperature = [300.0 + 100 * frame]
            self.folder.log(step=10 * frame, time=0.1 * frame, temperature=temperature)
            self.frames += 1
        self.writer.flush()


def finish(folder, verdict="ok", status=0):
    figures = {
        "temperature": Figure(1687.25, "K", 12.0),
        "temperature_reference": Figure(1683.0, "K"),
    }
    outcome = Outcome(figures, told({"energy_drift": verdict}))
    folder.write_summary(outcome, exit_status=status, wall_seconds=3.25)


def write_gas(folder, frames=10):
    x = np.linspace(0.005, 0.995, 100)
    writer = ZarrWriter(folder, "fields", lambda s, seen: s, {"time": ""}, 4)
    for frame in range(frames):
        t = 0.02 * frame
        density = np.stack(
            [0.55 - 0.45 * np.tanh((x - 0.5 - k * t) / 0.05) for k in (0, 1)]
        )
        state = {"density": torch.tensor(density), "density_exact": torch.tensor(density)}
        writer.write(frame, t, state, {})
    writer.flush()
    group = folder.store["fields"]
    group.create_array("x", data=x)
    for name in ("density", "density_exact"):
        group[name].attrs["labels"] = ["Euler", "learned"]
