"""DeePMD-kit's default potential of water, trained beside ours."""

import json
import re
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peers

PEER = peers.PEERS["deepmd"]
PUBLISHED = 1_000_000
"""Steps of the published schedule; the learning rate falls every 5,000 of them."""
STOPS = 3.51e-8, 1e-5
"""Last learning rates that are tried: the published one, and a gentler one, for a schedule
squeezed together wastes its end. The first is 1e-3."""
SHORT, LONG = 20, 220
"""Steps of two runs whose difference is what a step costs, without the program's start."""


@dataclass(frozen=True)
class Trained:
    """What a training by DeePMD-kit came to.

    Attributes:
        errors: RMSE of force components, eV/angstrom, and of the energy, eV/atom.
        steps: of training.
        cpu_seconds: of these steps.
        stop: the last learning rate.
        version: of the program.
    """

    errors: tuple[float, float]
    steps: int
    cpu_seconds: float
    stop: float
    version: str


def trained(train: Sequence[Any], test: Sequence[Any], seconds: float) -> Trained:
    """Train on labelled frames for about so many CPU seconds on one thread, then test.

    The learning rate falls, and the weights of energy and force with it, over as many steps
    as fit; of the values that it ends at the one with the lower error of forces is taken.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, frames in (("train", train), ("test", test)):
            _write(folder / part, frames)
        system = str(folder / "train")
        short, long = (_train(name, system, steps) for steps in (SHORT, LONG))
        each = (long - short) / (LONG - SHORT)
        steps = round(seconds / each)
        start, found = short - SHORT * each, []
        for stop in STOPS:
            spent = _train(name, system, steps, stop) - start
            errors = _tested(folder, len(test))
            version = PEER.version("deepmd-kit")
            found.append(Trained(errors, steps, spent, stop, version))
    return min(found, key=lambda each: each.errors)


def _tested(folder: Path, frames: int) -> tuple[float, float]:
    """Return the errors of what was trained last in a folder, of forces and energy."""
    dp = [PEER.folder / "bin" / "dp", "--tf"]
    PEER.call([*dp, "freeze", "-o", "frozen.pb"], str(folder))
    test = ["test", "-m", "frozen.pb", "-s", folder / "test", "-n", frames]
    said = PEER.call([*dp, *test], str(folder))
    force, energy = (
        float(re.findall(rf"{kind}\s*:\s*([0-9.e+-]+)", said)[0])
        for kind in ("Force  RMSE", "Energy RMSE/Natoms")
    )
    return force, energy


def step_seconds(threads: int = 2) -> tuple[float, str] | None:
    """Wall time of a training step on the training set of water, and the version.

    Returns:
        None where the peer is not installed.
    """
    if not PEER.installed():
        return None
    from scalebridge.engine import scenario
    from scalebridge.engine.schema.base import locate

    chosen, base = scenario.load("water_train")
    system = str(locate(chosen.data[0], base))  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        said = _run(folder, system, 200, threads)
    walls = [float(each) for each in re.findall(r"total wall time = ([0-9.]+) s", said)]
    return min(walls[1:]) / 25, PEER.version("deepmd-kit")


def _train(folder: str, system: str, steps: int, stop: float = STOPS[0]) -> float:
    """Train, and return the CPU seconds of the whole program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(folder, system, steps, 1, stop)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(folder: str, system: str, steps: int, threads: int, stop: float = STOPS[0]) -> str:
    """Train the default network of water (``examples/water`` of the program)."""
    descriptor = {
        "type": "se_e2_a", "sel": [46, 92], "rcut": 6.0, "rcut_smth": 0.5,
        "neuron": [25, 50, 100], "axis_neuron": 16, "type_one_side": True, "seed": 1,
    }  # fmt: skip
    record = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": descriptor,
            "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True, "seed": 1},
        },
        "learning_rate": {
            "type": "exp", "decay_steps": max(5000 * steps // PUBLISHED, 1),
            "start_lr": 1e-3, "stop_lr": stop,
        },
        "loss": {
            "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000,
            "limit_pref_f": 1, "start_pref_v": 0, "limit_pref_v": 0,
        },
        "training": {
            "training_data": {"systems": [system], "batch_size": 1},
            "numb_steps": steps, "seed": 1, "disp_freq": 25, "save_freq": 100000,
        },
    }  # fmt: skip
    (Path(folder) / "input.json").write_text(json.dumps(record))
    program = PEER.folder / "bin" / "dp"
    command = [program, "--tf", "train", "--skip-neighbor-stat", "input.json"]
    return PEER.call(command, folder, threads)


def _write(folder: Path, frames: Sequence[Any]) -> None:
    """Write frames of one composition as a system of the program."""
    order = np.argsort([s != "O" for s in frames[0].symbols], kind="stable")
    kinds = [int(frames[0].symbols[k] != "O") for k in order]
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("\n".join(map(str, kinds)))
    (folder / "type_map.raw").write_text("O\nH\n")
    rows = {
        "coord": [f.positions[order].ravel() for f in frames],
        "box": [f.cell.ravel() for f in frames],
        "energy": [f.energy for f in frames],
        "force": [f.forces[order].ravel() for f in frames],
    }
    for name, values in rows.items():
        np.save(folder / "set.000" / f"{name}.npy", np.array(values))
