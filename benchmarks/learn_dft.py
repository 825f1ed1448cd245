"""Ammonia labelled by density functional theory: the loop beside DP-GEN's protocol.

``loop`` is ``ammonia_dft.toml`` to its own end; ``levels`` is the same exploration, where
labels are drawn at random between trust levels set by hand (Zhang et al. 2020, Comput.
Phys. Commun. 253, 107206), to as many labels as the loop took, or more. The judge is one
set of frames that neither saw: tight-binding dynamics at both temperatures, labelled by
the same method. Curves stand in ``results/curves/learn_dft.json``; ``python
benchmarks/learn_dft.py ARM SEED`` makes one.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase.units
import numpy as np
import torch
from ase.build import molecule
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from scalebridge.engine import scenario
from scalebridge.engine.bench import Recorder
from scalebridge.engine.learn.atoms import Configuration, force_errors
from scalebridge.engine.learn.labelers.quantum import TbliteLabeler
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder

sys.path.append(str(Path(__file__).resolve().parent))
from learn_curves import Curves, record_ratio

HERE = Path(__file__).resolve().parent
SCENARIO = HERE / "ammonia_dft.toml"
CURVES = Curves(HERE / "results" / "curves" / "learn_dft.json")
ARMS = ("learned", "levels")
SEEDS = 1
TARGET = 0.05
MOST_LABELS = 200
LEVELS = [
    "threshold={kind='levels',low=0.05,high=0.25}",
    "batch={size=16,random=0.0,selection='uniform'}",
    f"stop.labels={MOST_LABELS}",
    "rounds=14",
]


@dataclass
class Judged:
    """A trainer that measures what it made on frames that no arm saw.

    Attributes:
        trainer: does the work.
        test: frames with labels.
    """

    trainer: Any
    test: Sequence[tuple[Any, Any]]
    worst: list[float] = field(default_factory=list)

    def train(self, committee: Any, dataset: Sequence[Any], rng: torch.Generator) -> Any:
        """Train and measure."""
        made = self.trainer.train(committee, dataset, rng)
        error = force_errors(made, self.test).square()
        names = [sample.stratum for sample, _ in self.test]
        by_name = [
            error[[n == name for n in names]].mean() for name in dict.fromkeys(names)
        ]
        self.worst.append(float(torch.stack(by_name).max().sqrt()))
        print(f"{len(dataset)} labels learnt: {self.worst[-1]:.4f}", flush=True)
        return made


@lru_cache(maxsize=1)
def held_out(labeler: Any, frames: int) -> list[tuple[Any, Any]]:
    """Return frames of tight-binding dynamics, 50 fs apart, with their labels."""
    found = []
    for kelvin in (300, 1000):
        rng = np.random.default_rng(kelvin)
        atoms = molecule("NH3")
        atoms.calc = TbliteLabeler().calculator()
        MaxwellBoltzmannDistribution(atoms, temperature_K=kelvin, rng=rng)
        atoms.set_constraint(FixCom())
        walk = Langevin(
            atoms, 0.5 * ase.units.fs, temperature_K=kelvin, rng=rng,
            friction=0.02 / ase.units.fs, fixcm=False,
        )  # fmt: skip
        for _ in range(frames):
            walk.run(100)
            found.append(Configuration.of(atoms, f"{kelvin} K"))
    return [(sample, labeler.label(sample)) for sample in found]


def ammonia(arm: str, seed: int, quick: bool = False) -> dict[str, Any]:
    """Run one arm to its end and return its curve and how it ended."""
    from scalebridge.engine.jobs import assemble

    settings = [f"seed={seed}", *(LEVELS if arm == "levels" else ())]
    if quick:
        settings += ["rounds=1", "explorer.steps=20", "training.steps=5", "audit.frames=0"]
    begun = time.process_time()
    loop: Any = assemble(*scenario.load(str(SCENARIO), settings))
    judged = Judged(loop.trainer, held_out(loop.labeler, 2 if quick else 24))
    with (
        tempfile.TemporaryDirectory() as place,
        RunFolder.create(Path(place) / "run", "", {}) as folder,
    ):
        outcome = replace(loop, trainer=judged).run(folder, Reporter(quiet=True))
        rounds: Any = folder.store["rounds"]
        paid = rounds["labels"][:].astype(int).tolist()  # also those not yet learnt
    (stopped,) = [check for check in outcome.checks if check.name == "stopped"]
    return {
        "arm": arm,
        "seed": seed,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "labels": paid[: len(judged.worst)],
        "worst": judged.worst,
        "reason": stopped.note,
        "figures": {name: figure.value for name, figure in outcome.figures.items()},
        "cpu_seconds": round(time.process_time() - begun),
    }


def measure(record: Recorder, quick: bool) -> None:
    """Make the runs that are missing, then the figures that follow from all."""
    if not CURVES.complete(ammonia, ARMS, SEEDS, quick):
        return
    runs = CURVES.known()
    if record.wants("dft_labels_vs_dpgen"):
        record_ratio(record, "dft_labels_vs_dpgen", runs, "levels", TARGET, "eV/angstrom")
    mine = [run for run in runs if run["arm"] == "learned"]
    worst = [run["figures"]["worst_force_error"] for run in mine]
    ends = "; ".join(
        f"seed {run['seed']}: {run['reason']}, {run['figures']['labels']:.0f} labels, "
        f"{run['cpu_seconds'] / 60:.1f} CPU-minutes"
        for run in mine
    )
    record("dft_audit_error", max(worst), "eV/angstrom", goal=TARGET, better="lower",
           spread=(min(worst), max(worst)), note="ammonia, PBE/6-31G*; error of the final "
           f"evaluation in the worst stratum; {ends}")  # fmt: skip


if __name__ == "__main__":
    CURVES.make_one(ammonia)
