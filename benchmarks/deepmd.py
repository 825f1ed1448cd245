"""DeePMD-kit's default potential of water, trained beside ours.

:func:`trained` scales its schedule to a given time. :func:`published` follows the schedule
as published, for ``SCALEBRIDGE_DEEPMD_HOURS`` CPU hours in all: a later call with more of
them goes on from the last checkpoint, in ``SCALEBRIDGE_PEERS/deepmd_long``.
"""

import json
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peers

from scalebridge.engine.rundir import write_text

PEER = peers.PEERS["deepmd"]
HOURS = float(os.environ.get("SCALEBRIDGE_DEEPMD_HOURS", 0))
"""CPU hours that the published schedule may have in all; its whole length takes 60 and
more."""
LONG_RUN = peers.FOLDER / "deepmd_long"
CURVE = Path(__file__).resolve().parent / "results" / "curves" / "deepmd_water.json"
"""Errors at the checkpoints of the published schedule, one a line."""
PUBLISHED, FALL = 1_000_000, 5_000
"""Steps of the published schedule; the learning rate falls every so many of them."""
PART = 2_000
"""Steps between checkpoints of the published schedule, at which it can be stopped."""
FIRST = 1e-3
"""First learning rate."""
STOPS = 3.51e-8, 1e-5
"""Last learning rates that are tried: the published one, and a gentler one, for a schedule
squeezed together wastes its end."""
SHORT, LONG = 20, 220
"""Steps of two runs whose difference is what a step costs, without the program's start."""


@dataclass(frozen=True)
class Trained:
    """What a training by DeePMD-kit came to.

    Attributes:
        errors: RMSE of force components, eV/angstrom, and of the energy, eV/atom.
        steps: of training.
        cpu_seconds: of these steps.
        stop: the learning rate at their end.
        version: of the program.
    """

    errors: Sequence[float]
    steps: int
    cpu_seconds: float
    stop: float
    version: str


def trained(
    train: Sequence[Any],
    test: Sequence[Any],
    seconds: float,
    stops: Sequence[float] = STOPS,
) -> Trained:
    """Train on labelled frames for about so many CPU seconds on one thread, then test.

    The learning rate falls, and the weights of energy and force with it, over as many steps
    as fit; of the values that it ends at the one with the lower error of forces is taken.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_parts(folder, train, test)
        short, long = (_train(folder, n, _squeezed(n)) for n in (SHORT, LONG))
        each = (long - short) / (LONG - SHORT)
        steps = round(seconds / each)
        start, found = short - SHORT * each, []
        for stop in stops:
            spent = _train(folder, steps, _squeezed(steps, stop)) - start
            errors = _tested(folder, len(test))
            version = PEER.version("deepmd-kit")
            found.append(Trained(errors, steps, spent, stop, version))
    return min(found, key=lambda each: each.errors)


def published(train: Sequence[Any], test: Sequence[Any]) -> Iterator[Trained]:
    """Follow the published schedule for ``HOURS`` on one thread, from its last checkpoint.

    Yields:
        The last checkpoint of earlier calls, if there is one, then each new one. CPU
        seconds are those of the whole programs, their starts among them.
    """
    known = (LONG_RUN / "checkpoint").exists() and CURVE.exists()
    rows = [Trained(**row) for row in json.loads(CURVE.read_text())] if known else []
    if not rows:
        shutil.rmtree(LONG_RUN, ignore_errors=True)
        _write_parts(LONG_RUN, train, test)
    yield from rows[-1:]
    while (spent := rows[-1].cpu_seconds if rows else 0.0) < 3600 * HOURS:
        steps = PART * (len(rows) + 1)
        more = ("--restart", "model.ckpt") if rows else ()
        spent += _train(LONG_RUN, steps, _PUBLISHED_RATE, more)
        rate = FIRST * _PUBLISHED_RATE["decay_rate"] ** (steps // FALL)
        version = PEER.version("deepmd-kit")
        rows.append(Trained(_tested(LONG_RUN, len(test)), steps, spent, rate, version))
        lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
        write_text(CURVE, f"[\n{lines}\n]\n")
        yield rows[-1]


_PUBLISHED_RATE = {
    "type": "exp", "decay_steps": FALL, "start_lr": FIRST, "stop_lr": STOPS[0],
    "decay_rate": (STOPS[0] / FIRST) ** (FALL / PUBLISHED),
}  # fmt: skip
"""The published learning rate, whatever step a part of its training ends at."""


def _squeezed(steps: int, stop: float = STOPS[0]) -> dict[str, Any]:
    """Return a learning rate that falls as often as the published one in fewer steps."""
    often = max(FALL * steps // PUBLISHED, 1)
    return {"type": "exp", "decay_steps": often, "start_lr": FIRST, "stop_lr": stop}


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
        said = _run(Path(folder), system, 200, _squeezed(200), threads=threads)
    walls = [float(each) for each in re.findall(r"total wall time = ([0-9.]+) s", said)]
    return min(walls[1:]) / 25, PEER.version("deepmd-kit")


def _train(
    folder: Path, steps: int, rate: dict[str, Any], more: Sequence[str] = ()
) -> float:
    """Train on a folder's own frames; return the CPU seconds of the whole program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(folder, str(folder / "train"), steps, rate, more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(
    folder: Path,
    system: str,
    steps: int,
    rate: dict[str, Any],
    more: Sequence[str] = (),
    threads: int = 1,
) -> str:
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
        "learning_rate": rate,
        "loss": {
            "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000,
            "limit_pref_f": 1, "start_pref_v": 0, "limit_pref_v": 0,
        },
        "training": {
            "training_data": {"systems": [system], "batch_size": 1},
            "numb_steps": steps, "seed": 1, "disp_freq": 25, "save_freq": 100000,
        },
    }  # fmt: skip
    (folder / "input.json").write_text(json.dumps(record))
    program = PEER.folder / "bin" / "dp"
    command = [program, "--tf", "train", "--skip-neighbor-stat", *more, "input.json"]
    return PEER.call(command, str(folder), threads)


def _write_parts(folder: Path, train: Sequence[Any], test: Sequence[Any]) -> None:
    """Write frames for training and for the test as two systems."""
    for part, frames in (("train", train), ("test", test)):
        _write(folder / part, frames)


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
