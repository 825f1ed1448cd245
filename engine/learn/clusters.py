"""Sampling clusters of one molecule: short dynamics of a cheap method, and distortions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from ..protocols import Check, Figure, Labeler, Outcome
from ..rundir import RunFolder, write_atomically
from .atoms import AtomsLabel, Configuration
from .execution import Pool
from .labelling import label_structures, read_structures


@dataclass(frozen=True)
class ClusterWalks:
    """Walks of clusters of 1, 2, ... molecules by Langevin dynamics of a calculator.

    Every second frame is also distorted at random, for bond lengths that no short
    trajectory visits.

    Attributes:
        molecule: one molecule.
        frames: how many frames of clusters of 1, 2, ... molecules.
        walks: independent walks of each size; the last one is the test set.
        temperatures: K; walks take them in turn.
        spacing: angstrom, between the molecules of a start.
        warm: time steps before the first frame.
        stride: time steps between frames.
        time_step: fs.
        rattle: largest standard deviation of a distortion, angstrom.
        calculator: makes the calculator of ASE that moves the atoms.
        seed: of starts, noise and distortions.
    """

    molecule: Atoms
    frames: Sequence[int]
    walks: int
    temperatures: Sequence[float]
    spacing: float
    warm: int
    stride: int
    time_step: float
    rattle: float
    calculator: Callable[[], Any]
    seed: int

    def sample(self) -> list[Atoms]:
        """Return all frames, sizes in turn, so that any first part of them is balanced.

        ``info["group"]`` names size and walk, ``info["held"]`` the frames of the test set.
        """
        pools = []
        for size, wanted in enumerate(self.frames, 1):
            shares = _shares(wanted, self.walks)
            walks = [list(self._walk(size, w, n)) for w, n in enumerate(shares)]
            pools.append([frame for turn in _turns(walks) for frame in turn])
        keyed = [
            ((k + 0.5) / len(pool), size, frame)
            for size, pool in enumerate(pools)
            for k, frame in enumerate(pool)
        ]
        return [frame for _, _, frame in sorted(keyed, key=lambda row: row[:2])]

    def _walk(self, size: int, walk: int, frames: int) -> Iterator[Atoms]:
        rng = np.random.default_rng([self.seed, size, walk])
        atoms = _cluster(self.molecule, size, self.spacing, rng)
        atoms.calc = self.calculator()
        temperature = self.temperatures[walk % len(self.temperatures)]
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
        atoms.set_constraint(FixCom())
        motion = Langevin(
            atoms, self.time_step * units.fs, temperature_K=temperature,
            friction=0.02 / units.fs, rng=rng, fixcm=False,
        )  # fmt: skip
        motion.run(self.warm)
        for number in range(frames):
            motion.run(self.stride)
            frame = Atoms(atoms.symbols, atoms.get_positions())
            if number % 2:
                size_of_kick = self.rattle * rng.random()
                frame.positions += size_of_kick * rng.normal(size=(len(frame), 3))
            frame.info["group"] = f"{size} molecules, walk {walk}"
            frame.info["held"] = walk == self.walks - 1
            yield frame


def _cluster(molecule: Atoms, size: int, spacing: float, rng: np.random.Generator) -> Atoms:
    """Molecules turned at random on the corners of a cube that lie nearest together."""
    corners = np.array([*np.ndindex(2, 2, 2), (2, 0, 0), (0, 2, 0)])
    places = corners[np.argsort(corners.sum(1), kind="stable")[:size]]
    whole = Atoms()
    for place in places:
        one = molecule.copy()
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        one.positions = (one.positions - one.get_center_of_mass()) @ q + spacing * place
        whole += one
    return whole


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (k < total % parts) for k in range(parts)]


def _turns(walks: list[list[Atoms]]) -> list[list[Atoms]]:
    longest = max((len(walk) for walk in walks), default=0)
    return [[walk[k] for walk in walks if k < len(walk)] for k in range(longest)]


@dataclass(frozen=True)
class LabelJob:
    """Samples structures, labels them, and writes ``train.extxyz`` and ``test.extxyz``.

    Nothing is done twice: samples are kept in ``samples.extxyz``, labels in the store of
    the run folder.

    Attributes:
        walks: makes the structures.
        labeler: the micro-scale model.
        pool: where labels are computed.
        attempts: failures after which a structure is given up.
    """

    walks: ClusterWalks
    labeler: Labeler[Configuration, AtomsLabel]
    pool: Pool
    attempts: int = 3

    def run(self, folder: RunFolder, report: Any) -> Outcome:
        """Sample and label what is missing.

        Raises:
            Interrupted: asked to stop; finished labels are kept.
        """
        path = folder.path / "samples.extxyz"
        if folder.load_checkpoint() is None:
            report.say("sampling clusters")
            frames = self.walks.sample()
            write_atomically(path, lambda part: ase.io.write(part, frames, "extxyz"))
            folder.save_checkpoint(0, {})
        samples = read_structures(path)

        def tell(done: int, total: int) -> None:
            report.progress(done, total, {"labelled": str(done)})

        found = label_structures(
            samples, self.labeler, folder.path, self.pool, self.attempts, tell
        )
        sets = split_walks(found.path, self.walks.walks) if found.done else ([], [])
        for name, frames in zip(("train", "test"), sets, strict=True):
            ase.io.write(folder.path / f"{name}.extxyz", frames, "extxyz")
        forces = [frame.get_forces() for frame in sets[0] + sets[1]]
        rms = float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else 0.0
        failed = len(samples) - found.done
        return Outcome(
            {
                "frames": Figure(found.done),
                "training_frames": Figure(len(sets[0])),
                "test_frames": Figure(len(sets[1])),
                "without_label": Figure(failed),
                "force_rms": Figure(rms, "eV/angstrom"),
            },
            [Check("labels", "health", failed, 0, note="structures without a label")],
        )


def split_walks(path: Path, walks: int) -> tuple[list[Atoms], list[Atoms]]:
    """Return the frames of a labelled set for training and, the last walks', for tests."""
    frames: Any = ase.io.read(path, index=":")
    last = f"walk {walks - 1}"
    held = [str(frame.info.get("group", "")).endswith(last) for frame in frames]
    train = [frame for frame, out in zip(frames, held, strict=True) if not out]
    return train, [frame for frame, out in zip(frames, held, strict=True) if out]
