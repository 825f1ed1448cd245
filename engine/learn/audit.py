"""Final evaluation of a learned potential: fresh labels of random frames of all strata."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from ...models.card import save_module
from ..comparison import rank
from ..protocols import Check, Committee, Explorer, Figure, Labeler, Outcome
from ..rundir import RunFolder, write_atomically
from ..runtime import generator
from .atoms import CONFIGURATIONS, LABELS, AtomsLabel, Configuration, force_error
from .indicators import spearman
from .label_store import LabelStore, compute, identity
from .round_plan import append

_STREAM = 900_002


@dataclass(frozen=True)
class Audit:
    """Measures the final committee on its own trajectories, and writes model and data.

    ``model.safetensors`` with its card, ``dataset.extxyz``, and the table ``audit`` with
    the error of every frame; no frame of the audit is trained on.

    Attributes:
        explorer: walkers that are not terminated.
        labeler: the micro-scale model.
        frames: of each stratum.
        target: force error asked for, eV/angstrom.
        seed: of the choice.
    """

    explorer: Explorer[Configuration]
    labeler: Labeler[Configuration, AtomsLabel]
    frames: int
    target: float
    seed: int

    def __call__(
        self,
        folder: RunFolder,
        committee: Committee,
        dataset: Sequence[tuple[Configuration, AtomsLabel]],
    ) -> Outcome:
        """Explore once more, label a few frames, compare."""
        write_dataset(folder.path / "dataset.extxyz", dataset)
        figures = self._measured(folder, committee) if self.frames else {}
        module: Any = committee[0]
        card = {
            "trained_on": {"frames": len(dataset), "labeler": identity(self.labeler)},
            "figures": {name: figure.value for name, figure in figures.items()},
        }
        save_module(folder.path / "model.safetensors", module, card)
        worst = figures.get("worst_force_error")
        if worst is None:
            return Outcome(figures)
        check = Check(
            "audit", "accuracy", worst.value, self.target, unit=worst.unit,
            note=f"force error in the worst stratum, {worst.note}",
        )  # fmt: skip
        return Outcome(figures, [check])

    def _measured(self, folder: RunFolder, committee: Committee) -> dict[str, Figure]:
        rng = generator(self.seed, _STREAM)
        seen: dict[str, list[Configuration]] = {}
        for sample in self.explorer.explore(committee, rng):
            if math.isfinite(sample.deviation):
                seen.setdefault(sample.stratum, []).append(sample)
        place = folder.path / "audit"
        place.mkdir(exist_ok=True)
        store = LabelStore(place, identity(self.labeler), CONFIGURATIONS, LABELS)
        rows: list[tuple[int, float, float]] = []
        for number, name in enumerate(seen):
            later = seen[name][len(seen[name]) // 3 :]  # past the first relaxation
            picks = torch.randperm(len(later), generator=rng)[: self.frames].tolist()
            for sample in (later[k] for k in picks):
                compute(store, self.labeler, sample)
                entry = store.get(store.key(sample))
                assert entry is not None
                error = force_error(committee, sample, entry.label)
                rows.append((number, sample.deviation, error))
        stratum, deviation, error = (
            torch.tensor(column) for column in zip(*rows, strict=True)
        )
        columns = {"stratum": stratum, "deviation": deviation, "error": error}
        append(folder.store, "audit", 0, columns, strata=list(seen), unit="eV/angstrom")
        return _figures(list(seen), stratum, deviation, error)


def _figures(
    names: Sequence[str],
    stratum: torch.Tensor,
    deviation: torch.Tensor,
    error: torch.Tensor,
) -> dict[str, Figure]:
    rms = {
        name: float(error[stratum == number].square().mean().sqrt())
        for number, name in enumerate(names)
    }
    worst = max(rms, key=lambda name: rank(rms[name]))
    unit = "eV/angstrom"
    return {
        "worst_force_error": Figure(rms[worst], unit, note=worst),
        "mean_force_error": Figure(float(error.square().mean().sqrt()), unit),
        "audit_spearman": Figure(spearman(deviation.double(), error.double())),
    }


def write_dataset(path: Path, dataset: Sequence[tuple[Configuration, AtomsLabel]]) -> None:
    """Write labelled configurations as extended XYZ, with their error bars."""
    frames = []
    for sample, label in dataset:
        atoms = sample.atoms()
        atoms.calc = SinglePointCalculator(
            atoms, energy=label.energy, forces=label.forces.numpy()
        )
        if label.virial is not None:
            atoms.info["virial"] = label.virial.numpy()
        atoms.info["energy_error"] = label.energy_error
        atoms.info["force_error"] = label.force_error
        if sample.stratum:  # an empty value would swallow the next one when it is read
            atoms.info["group"] = sample.stratum
        frames.append(atoms)
    write_atomically(path, lambda part: ase.io.write(part, frames, format="extxyz"))
