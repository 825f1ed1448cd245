"""MACE's small potential, trained beside ours."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch

PEER = peers.PEERS["mace"]
SCRIPT = Path(__file__).parent / "peer_scripts" / "equivariant.py"
BATCH = 2
OPTIONS = (
    "--model=MACE", "--num_channels=64", "--max_L=0", "--r_max=5.0", "--E0s=average",
    "--valid_fraction=0.05", "--default_dtype=float32", "--ema", "--ema_decay=0.99",
    "--amsgrad", "--scheduler=ExponentialLR", f"--batch_size={BATCH}", "--seed=1",
)  # fmt: skip
"""The settings of its documentation, with scalar messages of 64 channels and few frames
in a batch: there is time for some epochs only. Two layers see as far as 10 angstrom."""
DECAY = 0.9993**2048
"""What the learning rate falls to in a published training: its default rate of decay, over
its default number of epochs."""
STAGE_TWO = 0.75
"""Part of the epochs before energies weigh more, as in its examples (1200 of 1500)."""
SAMPLE = 10
"""One of so many frames, and two epochs of them, tell what an epoch costs."""


@dataclass(frozen=True)
class Trained:
    """What a training by MACE came to.

    Attributes:
        errors: RMSE of force components, eV/angstrom, and of the energy, eV/atom.
        epochs: over all frames but those it validates with.
        steps: of training.
        cpu_seconds: of the epochs.
        parameters: of the network.
        version: of the program.
    """

    errors: tuple[float, float]
    epochs: int
    steps: int
    cpu_seconds: float
    parameters: int
    version: str


def trained(train: Sequence[Any], test: Sequence[Any], seconds: float) -> Trained:
    """Train on labelled frames for about so many CPU seconds on one thread, then test.

    The decay of the learning rate and the second stage are scaled to as many epochs as fit,
    the last one whole.
    """
    part = train[::SAMPLE]
    first, second = _run(part, part[:1], 2)["seconds"]
    each = (second - first) * len(train) / len(part)
    epochs = max(math.ceil(seconds / each), 2)
    said = _run(train, test, epochs)
    return Trained(
        _errors(test, said),
        epochs,
        epochs * int(0.95 * len(train) / BATCH),
        said["seconds"][-1],
        said["parameters"],
        PEER.version("mace-torch"),
    )


def _run(train: Sequence[Any], test: Sequence[Any], epochs: int) -> dict[str, Any]:
    """Train and predict in a folder of its own; return what the script says."""
    from scalebridge.engine.data.writing import write

    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{part}.extxyz" for part in ("train", "test")]
        for path, frames in zip(paths, (train, test), strict=True):
            write(frames, "extxyz", path)
        decay = f"--lr_scheduler_gamma={DECAY ** (1 / epochs)}"
        stage_two = int(STAGE_TWO * epochs)
        PEER.call([PEER.python, SCRIPT, *paths, epochs, stage_two, *OPTIONS, decay], name)
        return json.loads((Path(name) / "record.json").read_text())


def _errors(frames: Sequence[Any], said: dict[str, Any]) -> tuple[float, float]:
    """Return the errors of predictions, of forces and energy, as ours are measured."""
    from scalebridge.engine.learn.trainers.potential import Errors

    sizes = torch.tensor([len(frame.symbols) for frame in frames])
    energy = torch.tensor(said["energies"]).double()
    forces = torch.from_numpy(np.concatenate(said["forces"]))
    known = torch.from_numpy(np.concatenate([frame.forces for frame in frames]))
    labels = torch.tensor([frame.energy for frame in frames]).double()
    errors = Errors(
        energy=((energy - labels) / sizes)[None],
        forces=(forces - known)[None],
        virial=torch.full((1, len(frames), 3, 3), torch.nan),
        deviation=torch.zeros(len(forces)),
        predicted_energy=energy,
        predicted_forces=forces,
        frame=torch.repeat_interleave(torch.arange(len(sizes)), sizes),
    )
    return errors.force_rmse, errors.energy_rmse
